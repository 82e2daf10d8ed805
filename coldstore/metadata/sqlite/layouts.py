"""Layouts, their pieces, and the duty to free pieces that nothing needs any more."""

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from coldstore.interfaces.metadata import Conflict, DiscardedPiece
from coldstore.metadata.sqlite import shares
from coldstore.metadata.sqlite.rows import PIECE_COLUMNS, discarded_of, marks, piece_of, piece_row
from coldstore.metadata.sqlite.runs import Runs
from coldstore.model.objects import Piece

_INSERT_PIECE = (
    f"INSERT INTO pieces (layout_id, {PIECE_COLUMNS}) SELECT ?, {marks(PIECE_COLUMNS.split(','))}"
    " WHERE NOT EXISTS (SELECT 1 FROM discards WHERE address = ?)"
)
_ROWS_MAX = 90
"""Rows that one tidying step may change."""
_ROWS_LEAST = 4
"""With fewer rows left a tidying step cannot go on."""
_SCAN_MAX = 2_000
"""Pieces that one tidying step looks at in search of unlisted ones."""


def begin(connection: sqlite3.Connection, layout_id: str, *, state: str, share_uid: int | None) -> None:
    """
    Begin a layout without pieces; ``Conflict`` when the id is in use.

    :param share_uid: whose share of the disk its pieces count in; None: nobody's yet
    """
    try:
        connection.execute(
            "INSERT INTO layouts (layout_id, state, share_uid) VALUES (?, ?, ?)",
            (layout_id, state, share_uid),
        )
    except sqlite3.IntegrityError:
        raise Conflict(f"layout {layout_id} exists") from None


def set_state(connection: sqlite3.Connection, layout_id: str, state: str) -> None:
    """Give a layout to another owner, or (``doomed``) to nobody."""
    connection.execute("UPDATE layouts SET state = ? WHERE layout_id = ?", (state, layout_id))


def add_pieces(connection: sqlite3.Connection, layout_id: str, pieces: Sequence[Piece]) -> None:
    """Refer to new pieces, and count them in the share of the layout; ``Conflict`` as ``insert_pieces``."""
    insert_pieces(connection, layout_id, pieces)
    shares.use(connection, layout_id, sum(piece.length_bytes for piece in pieces))


def insert_pieces(connection: sqlite3.Connection, layout_id: str, pieces: Iterable[Piece]) -> None:
    """
    Refer to new pieces, which somebody else counts.

    ``Conflict`` when an address is in use, or is to be freed: its bytes may be gone the next moment.
    """
    for piece in pieces:
        try:
            added = connection.execute(_INSERT_PIECE, (layout_id, *piece_row(piece), piece.address))
        except sqlite3.IntegrityError:
            raise Conflict(
                f"piece {piece.address} or ordinal {piece.ordinal} of {layout_id} is in use"
            ) from None
        if added.rowcount == 0:
            raise _about_to_be_freed(piece.address)


def piece_at(connection: sqlite3.Connection, layout_id: str, ordinal: int) -> Piece | None:
    """Return one piece of a layout, listed or not."""
    row = connection.execute(
        f"SELECT {PIECE_COLUMNS} FROM pieces WHERE layout_id = ? AND ordinal = ?", (layout_id, ordinal)
    ).fetchone()
    return None if row is None else piece_of(row)


def pieces(connection: sqlite3.Connection, layout_id: str, *, after_ordinal: int, limit: int) -> list[Piece]:
    """Return listed pieces by ordinal."""
    found: list[Piece] = []
    listed: Runs | None = None
    rows = connection.execute(
        f"SELECT listed, {PIECE_COLUMNS} FROM pieces JOIN layouts USING (layout_id)"
        " WHERE layout_id = ? AND ordinal > ? ORDER BY ordinal",
        (layout_id, after_ordinal),
    )
    for listed_text, *row in rows:
        if len(found) >= limit:
            break
        if listed is None:
            listed = Runs(listed_text)
        if row[0] in listed:
            found.append(piece_of(row))
    return found


def first_pieces(connection: sqlite3.Connection, layout_ids: Collection[str]) -> dict[str, Piece]:
    """Return the first piece of each layout whose pieces all count."""
    asked = tuple(layout_ids)
    found = connection.execute(
        f"SELECT layout_id, {PIECE_COLUMNS} FROM layouts CROSS JOIN pieces USING (layout_id)"
        f" WHERE layout_id IN ({marks(asked)}) AND listed = ''"
        " AND ordinal = (SELECT min(ordinal) FROM pieces AS p WHERE p.layout_id = layouts.layout_id)",
        asked,
    )
    return {row[0]: piece_of(row[1:]) for row in found}


def discard_pieces(connection: sqlite3.Connection, layout_id: str, ordinals: Iterable[int]) -> None:
    """Turn pieces into duties to free them."""
    freed_bytes = 0
    for ordinal in ordinals:
        address, length_bytes = connection.execute(
            "DELETE FROM pieces WHERE layout_id = ? AND ordinal = ? RETURNING address, length_bytes",
            (layout_id, ordinal),
        ).fetchone()
        connection.execute(
            "INSERT INTO discards (address, length_bytes) VALUES (?, ?)", (address, length_bytes)
        )
        freed_bytes += length_bytes
    shares.use(connection, layout_id, -freed_bytes)


def remove_piece(connection: sqlite3.Connection, layout_id: str, ordinal: int) -> None:
    """Take a piece off a layout whose bytes another row is about to name."""
    (length_bytes,) = connection.execute(
        "DELETE FROM pieces WHERE layout_id = ? AND ordinal = ? RETURNING length_bytes", (layout_id, ordinal)
    ).fetchone()
    shares.use(connection, layout_id, -length_bytes)


def discards(connection: sqlite3.Connection, limit: int, *, after: int) -> list[DiscardedPiece]:
    """Return duties behind one, oldest first."""
    found = connection.execute(
        "SELECT discard_id, address, length_bytes FROM discards WHERE discard_id > ? ORDER BY discard_id LIMIT ?",
        (after, limit),
    )
    return [discarded_of(row) for row in found]


def forget_discards(connection: sqlite3.Connection, discard_ids: Sequence[int]) -> None:
    """Forget duties that are done."""
    connection.execute(f"DELETE FROM discards WHERE discard_id IN ({marks(discard_ids)})", tuple(discard_ids))


def add_discards(connection: sqlite3.Connection, addresses: Iterable[str], *, length_bytes: int = 0) -> None:
    """Record the duty to free pieces that no row names."""
    for address in addresses:
        connection.execute(
            "INSERT INTO discards (address, length_bytes) SELECT ?, ?"
            " WHERE NOT EXISTS (SELECT 1 FROM pieces WHERE address = ?) ON CONFLICT (address) DO NOTHING",
            (address, length_bytes, address),
        )


def referenced(connection: sqlite3.Connection, addresses: Collection[str]) -> frozenset[str]:
    """Return those addresses that a piece or a duty names."""
    asked = tuple(addresses)
    found = connection.execute(
        f"SELECT address FROM pieces WHERE address IN ({marks(asked)})"
        f" UNION SELECT address FROM discards WHERE address IN ({marks(asked)})",
        (*asked, *asked),
    )
    return frozenset(address for (address,) in found)


def pieces_at(connection: sqlite3.Connection, addresses: Collection[str]) -> list[Piece]:
    """Return the pieces at these addresses."""
    asked = tuple(addresses)
    found = connection.execute(f"SELECT {PIECE_COLUMNS} FROM pieces WHERE address IN ({marks(asked)})", asked)
    return [piece_of(row) for row in found]


def move(connection: sqlite3.Connection, moves: Mapping[str, str]) -> frozenset[str]:
    """Give pieces new addresses; return the old ones of those that were there."""
    moved = set()
    for old, new in moves.items():
        _check_not_freed(connection, new)
        try:
            changed = connection.execute("UPDATE pieces SET address = ? WHERE address = ?", (new, old))
        except sqlite3.IntegrityError:
            raise Conflict(f"piece {new} is in use") from None
        if changed.rowcount:
            moved.add(old)
    return frozenset(moved)


def tidy(connection: sqlite3.Connection) -> bool:
    """
    Take a bounded step towards freeing what nobody needs; tell whether there may be more to do.

    Deleted versions that are due give their layouts up, doomed layouts are taken apart, unlisted parts are discarded.
    """
    rows_left = _ROWS_MAX
    for stage in (_bury_versions, _take_apart, _drop_unlisted):
        rows_left = stage(connection, rows_left)
        if rows_left < _ROWS_LEAST:
            return True
    return False


def _check_not_freed(connection: sqlite3.Connection, address: str) -> None:
    """Refuse an address whose bytes may be gone the next moment."""
    held = connection.execute("SELECT 1 FROM discards WHERE address = ?", (address,)).fetchone()
    if held is not None:
        raise _about_to_be_freed(address)


def _about_to_be_freed(address: str) -> Conflict:
    return Conflict(f"piece {address} is about to be freed")


def _bury_versions(connection: sqlite3.Connection, rows_left: int) -> int:
    """Change so many rows at most; return how many more may be changed, none when there is more to bury. So the following."""
    # Of each version two layouts and its own row.
    count_max = rows_left // 3
    due = connection.execute(
        "SELECT version_uid, layout_id, recall_layout_id FROM versions WHERE disposal = 'due'"
        " ORDER BY version_uid LIMIT ?",
        (count_max,),
    ).fetchall()
    for version_uid, layout_id, recall_layout_id in due:
        for doomed in (layout_id, recall_layout_id):
            if doomed:
                set_state(connection, doomed, "doomed")
        if (
            connection.execute(
                "SELECT 1 FROM members WHERE version_uid = ? LIMIT 1", (version_uid,)
            ).fetchone()
            is None
        ):
            connection.execute("DELETE FROM versions WHERE version_uid = ?", (version_uid,))
        else:
            connection.execute(
                "UPDATE versions SET disposal = NULL, layout_id = '', recall_layout_id = NULL, on_disk = 0,"
                " revision = revision + 1 WHERE version_uid = ?",
                (version_uid,),
            )
    return 0 if len(due) == count_max else rows_left - 3 * len(due)


def _take_apart(connection: sqlite3.Connection, rows_left: int) -> int:
    count_max = rows_left // 3
    doomed = connection.execute(
        "SELECT layout_id FROM layouts WHERE state = 'doomed' ORDER BY layout_id LIMIT ?", (count_max,)
    ).fetchall()
    for (layout_id,) in doomed:
        # Two rows for each piece, one for the share that it counted in, one for the layout itself.
        ordinals = _ordinals(connection, layout_id, after=-1, limit=(rows_left - 1) // 2)
        discard_pieces(connection, layout_id, ordinals)
        rows_left -= 2 * len(ordinals) + 1
        if _ordinals(connection, layout_id, after=-1, limit=1):
            return 0
        connection.execute("DELETE FROM layouts WHERE layout_id = ?", (layout_id,))
        rows_left -= 1
        if rows_left < _ROWS_LEAST:
            return 0
    return 0 if len(doomed) == count_max else rows_left


def _drop_unlisted(connection: sqlite3.Connection, rows_left: int) -> int:
    row = connection.execute(
        "SELECT layout_id, listed, leftovers_after FROM layouts WHERE leftovers_after IS NOT NULL"
        " ORDER BY layout_id LIMIT 1"
    ).fetchone()
    if row is None:
        return rows_left
    layout_id, listed_text, after = row
    listed = Runs(listed_text)
    cursor: int | None = after
    dropped: list[int] = []
    seen = _ordinals(connection, layout_id, after=after, limit=_SCAN_MAX)
    for ordinal in seen:
        if ordinal not in listed:
            dropped.append(ordinal)
        cursor = ordinal
        if 2 * len(dropped) + 4 > rows_left:
            break
    else:
        if len(seen) < _SCAN_MAX:
            cursor = None
    discard_pieces(connection, layout_id, dropped)
    connection.execute("UPDATE layouts SET leftovers_after = ? WHERE layout_id = ?", (cursor, layout_id))
    # One layout at a time: there may be others.
    return 0


def _ordinals(connection: sqlite3.Connection, layout_id: str, *, after: int, limit: int) -> list[int]:
    found: Iterator[tuple[int]] = connection.execute(
        "SELECT ordinal FROM pieces WHERE layout_id = ? AND ordinal > ? ORDER BY ordinal LIMIT ?",
        (layout_id, after, limit),
    )
    return [ordinal for (ordinal,) in found]
