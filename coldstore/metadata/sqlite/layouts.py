"""Layouts, their pieces, and the duty to free pieces that nothing needs any more."""

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence

from coldstore.interfaces.metadata import Conflict, DiscardedPiece
from coldstore.metadata.sqlite.rows import PIECE_COLUMNS, discarded_of, marks, piece_of, piece_row
from coldstore.metadata.sqlite.runs import Runs
from coldstore.model.objects import Piece

_ROWS_MAX = 90
"""Rows that one tidying step may change."""
_SCAN_MAX = 2_000
"""Pieces that one tidying step looks at in search of unlisted ones."""


def begin(connection: sqlite3.Connection, layout_id: str, *, state: str) -> None:
    """Begin a layout without pieces; ``Conflict`` when the id is in use."""
    try:
        connection.execute("INSERT INTO layouts (layout_id, state) VALUES (?, ?)", (layout_id, state))
    except sqlite3.IntegrityError:
        raise Conflict(f"layout {layout_id} exists") from None


def set_state(connection: sqlite3.Connection, layout_id: str, state: str) -> None:
    """Give a layout to another owner, or (``doomed``) to nobody."""
    connection.execute("UPDATE layouts SET state = ? WHERE layout_id = ?", (state, layout_id))


def add_pieces(connection: sqlite3.Connection, layout_id: str, pieces: Iterable[Piece]) -> None:
    """
    Refer to new pieces.

    ``Conflict`` when an address is in use, or is to be freed: its bytes may be gone the next moment.
    """
    for piece in pieces:
        if (
            connection.execute("SELECT 1 FROM discards WHERE address = ?", (piece.address,)).fetchone()
            is not None
        ):
            raise Conflict(f"piece {piece.address} is about to be freed")
        row = (layout_id, *piece_row(piece))
        try:
            connection.execute(f"INSERT INTO pieces (layout_id, {PIECE_COLUMNS}) VALUES ({marks(row)})", row)
        except sqlite3.IntegrityError:
            raise Conflict(
                f"piece {piece.address} or ordinal {piece.ordinal} of {layout_id} is in use"
            ) from None


def piece_at(connection: sqlite3.Connection, layout_id: str, ordinal: int) -> Piece | None:
    """Return one piece of a layout, listed or not."""
    row = connection.execute(
        f"SELECT {PIECE_COLUMNS} FROM pieces WHERE layout_id = ? AND ordinal = ?", (layout_id, ordinal)
    ).fetchone()
    return None if row is None else piece_of(row)


def pieces(connection: sqlite3.Connection, layout_id: str, *, after_ordinal: int, limit: int) -> list[Piece]:
    """Return listed pieces by ordinal."""
    found: list[Piece] = []
    listed = Runs(_listed_text(connection, layout_id))
    rows = connection.execute(
        f"SELECT {PIECE_COLUMNS} FROM pieces WHERE layout_id = ? AND ordinal > ? ORDER BY ordinal",
        (layout_id, after_ordinal),
    )
    for row in rows:
        if len(found) >= limit:
            break
        if row[0] in listed:
            found.append(piece_of(row))
    return found


def discard_piece(connection: sqlite3.Connection, layout_id: str, ordinal: int) -> None:
    """Turn a piece into a duty to free it."""
    address, length_bytes = connection.execute(
        "DELETE FROM pieces WHERE layout_id = ? AND ordinal = ? RETURNING address, length_bytes",
        (layout_id, ordinal),
    ).fetchone()
    connection.execute("INSERT INTO discards (address, length_bytes) VALUES (?, ?)", (address, length_bytes))


def discards(connection: sqlite3.Connection, limit: int) -> list[DiscardedPiece]:
    """Return duties, oldest first."""
    found = connection.execute(
        "SELECT discard_id, address, length_bytes FROM discards ORDER BY discard_id LIMIT ?", (limit,)
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


def tidy(connection: sqlite3.Connection) -> bool:
    """
    Take a bounded step towards freeing what nobody needs; tell whether there was anything to do.

    Deleted versions that are due give their layouts up, doomed layouts are taken apart, unlisted parts are discarded.
    """
    return _bury_versions(connection) or _take_apart(connection) or _drop_unlisted(connection)


def _bury_versions(connection: sqlite3.Connection) -> bool:
    due = connection.execute(
        "SELECT version_uid, layout_id, recall_layout_id FROM versions WHERE disposal = 'due'"
        " ORDER BY version_uid LIMIT ?",
        (_ROWS_MAX // 3,),
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
    return bool(due)


def _take_apart(connection: sqlite3.Connection) -> bool:
    rows_left = _ROWS_MAX
    doomed = connection.execute(
        "SELECT layout_id FROM layouts WHERE state = 'doomed' ORDER BY layout_id LIMIT ?", (_ROWS_MAX // 3,)
    ).fetchall()
    for (layout_id,) in doomed:
        for ordinal in _ordinals(connection, layout_id, after=-1, limit=rows_left // 2):
            discard_piece(connection, layout_id, ordinal)
            rows_left -= 2
        if rows_left < 1:
            break
        if not _ordinals(connection, layout_id, after=-1, limit=1):
            connection.execute("DELETE FROM layouts WHERE layout_id = ?", (layout_id,))
            rows_left -= 1
    return bool(doomed)


def _drop_unlisted(connection: sqlite3.Connection) -> bool:
    row = connection.execute(
        "SELECT layout_id, listed, leftovers_after FROM layouts WHERE leftovers_after IS NOT NULL"
        " ORDER BY layout_id LIMIT 1"
    ).fetchone()
    if row is None:
        return False
    layout_id, listed_text, after = row
    listed = Runs(listed_text)
    cursor: int | None = after
    dropped = 0
    seen = _ordinals(connection, layout_id, after=after, limit=_SCAN_MAX)
    for ordinal in seen:
        if ordinal not in listed:
            discard_piece(connection, layout_id, ordinal)
            dropped += 1
        cursor = ordinal
        if 2 * dropped + 3 > _ROWS_MAX:
            break
    else:
        if len(seen) < _SCAN_MAX:
            cursor = None
    connection.execute("UPDATE layouts SET leftovers_after = ? WHERE layout_id = ?", (cursor, layout_id))
    return True


def _ordinals(connection: sqlite3.Connection, layout_id: str, *, after: int, limit: int) -> list[int]:
    found: Iterator[tuple[int]] = connection.execute(
        "SELECT ordinal FROM pieces WHERE layout_id = ? AND ordinal > ? ORDER BY ordinal LIMIT ?",
        (layout_id, after, limit),
    )
    return [ordinal for (ordinal,) in found]


def _listed_text(connection: sqlite3.Connection, layout_id: str) -> str:
    row = connection.execute("SELECT listed FROM layouts WHERE layout_id = ?", (layout_id,)).fetchone()
    return "" if row is None else str(row[0])
