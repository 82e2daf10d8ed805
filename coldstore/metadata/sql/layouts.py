"""Layouts, their pieces, and the duty to free pieces that nothing needs any more."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from coldstore.interfaces.metadata import Conflict, DiscardedPiece
from coldstore.metadata.sql import digests, shares
from coldstore.metadata.sql.database import Database, Duplicate
from coldstore.metadata.sql.rows import PIECE_COLUMNS, discarded_of, marks, piece_of, piece_row
from coldstore.metadata.sql.runs import Runs
from coldstore.model.objects import Piece

KNOWN = "EXISTS (SELECT 1 FROM pieces WHERE address = ?), EXISTS (SELECT 1 FROM discards WHERE address = ?)"
"""Columns for ``check_address``."""
_NEW_PIECE = f"layout_id, {PIECE_COLUMNS}"
_ROWS_MAX = 90
"""Rows that one tidying step may change."""
_ROWS_LEAST = 4
"""With fewer rows left a tidying step cannot go on."""
_SCAN_MAX = 2_000
"""Pieces that are looked at together in search of unlisted ones, or of those that are not."""


async def begin(db: Database, layout_id: str, *, state: str, share_uid: int | None) -> None:
    """
    Begin a layout without pieces; ``Conflict`` when the id is in use.

    :param share_uid: whose share of the disk its pieces count in; None: nobody's yet
    """
    try:
        await db.insert("layouts", "layout_id, state, share_uid", (layout_id, state, share_uid))
    except Duplicate:
        raise Conflict(f"layout {layout_id} exists") from None


async def set_state(db: Database, layout_id: str, state: str) -> None:
    """Give a layout to another owner, or (``doomed``) to nobody."""
    await db.do("UPDATE layouts SET state = ? WHERE layout_id = ?", (state, layout_id))


async def add_pieces(db: Database, layout_id: str, pieces: Sequence[Piece]) -> None:
    """Refer to new pieces, and count them in the share of the layout; ``Conflict`` as ``check_addresses`` and ``insert_pieces``."""
    await check_addresses(db, [piece.address for piece in pieces])
    await insert_pieces(db, layout_id, pieces)
    await shares.use(db, layout_id, sum(piece.length_bytes for piece in pieces))


async def check_addresses(db: Database, addresses: Sequence[str]) -> None:
    """Refuse addresses that may not be named by a new piece, as ``check_address``."""
    known = await db.rows_of_each(f"SELECT {KNOWN}", [(address, address) for address in addresses])
    for address, ((is_used, is_freed),) in zip(addresses, known, strict=True):
        check_address(address, is_used=is_used, is_freed=is_freed)


def check_address(address: str, *, is_used: object, is_freed: object) -> None:
    """
    Refuse an address that may not be named by a new piece.

    ``Conflict`` when it is in use, or is to be freed: its bytes may be gone the next moment.
    """
    if is_used:
        raise Conflict(f"piece {address} is in use")
    if is_freed:
        raise _about_to_be_freed(address)


async def insert_pieces(db: Database, layout_id: str, pieces: Iterable[Piece]) -> None:
    """Refer to new pieces, whose addresses were checked and which somebody else counts; ``Conflict`` when an ordinal is in use."""
    for piece in pieces:
        try:
            await db.insert("pieces", _NEW_PIECE, (layout_id, *piece_row(piece)))
        except Duplicate:
            raise Conflict(
                f"piece {piece.address} or ordinal {piece.ordinal} of {layout_id} is in use"
            ) from None


async def piece_at(db: Database, layout_id: str, ordinal: int) -> Piece | None:
    """Return one piece of a layout, listed or not."""
    row = await db.row(
        f"SELECT {PIECE_COLUMNS} FROM pieces WHERE layout_id = ? AND ordinal = ?", (layout_id, ordinal)
    )
    return None if row is None else piece_of(row)


async def pieces(db: Database, layout_id: str, *, after_ordinal: int, limit: int) -> list[Piece]:
    """Return listed pieces by ordinal."""
    found: list[Piece] = []
    count_max = limit
    while True:
        rows = await db.rows(
            f"SELECT listed, {PIECE_COLUMNS} FROM pieces JOIN layouts USING (layout_id)"
            " WHERE layout_id = ? AND ordinal > ? ORDER BY ordinal LIMIT ?",
            (layout_id, after_ordinal, count_max),
        )
        if not rows:
            return found
        listed = Runs(rows[0][0])
        found += [piece_of(row) for _, *row in rows if row[0] in listed]
        if len(rows) < count_max or len(found) >= limit:
            return found[:limit]
        # Unlisted ones are in between, perhaps thousands, until they are dropped.
        after_ordinal, count_max = rows[-1][1], max(limit, min(2 * count_max, _SCAN_MAX))


async def first_pieces(db: Database, layout_ids: Collection[str]) -> dict[str, Piece]:
    """Return the first piece of each layout whose pieces all count."""
    asked = tuple(layout_ids)
    if not asked:
        return {}
    found = await db.rows(
        f"SELECT layout_id, {PIECE_COLUMNS} FROM layouts {db.dialect.nested_join} pieces USING (layout_id)"
        f" WHERE layout_id IN ({marks(asked)}) AND listed = ''"
        " AND ordinal = (SELECT min(ordinal) FROM pieces AS p WHERE p.layout_id = layouts.layout_id)",
        asked,
    )
    return {row[0]: piece_of(row[1:]) for row in found}


async def discard_pieces(db: Database, layout_id: str, ordinals: Iterable[int]) -> None:
    """Turn pieces into duties to free them."""
    freed_bytes = 0
    for ordinal in ordinals:
        address, length_bytes = await db.row(
            "DELETE FROM pieces WHERE layout_id = ? AND ordinal = ? RETURNING address, length_bytes",
            (layout_id, ordinal),
        )
        await db.insert("discards", "address, length_bytes", (address, length_bytes))
        freed_bytes += length_bytes
    await shares.use(db, layout_id, -freed_bytes)


async def discards(db: Database, limit: int, *, after: int) -> list[DiscardedPiece]:
    """Return duties behind one, oldest first."""
    found = await db.rows(
        "SELECT discard_id, address, length_bytes FROM discards WHERE discard_id > ? ORDER BY discard_id LIMIT ?",
        (after, limit),
    )
    return [discarded_of(row) for row in found]


async def forget_discards(db: Database, discard_ids: Sequence[int]) -> None:
    """Forget duties that are done."""
    if discard_ids:
        await db.do(f"DELETE FROM discards WHERE discard_id IN ({marks(discard_ids)})", tuple(discard_ids))


async def add_discards(db: Database, addresses: Iterable[str], *, length_bytes: int = 0) -> None:
    """Record the duty to free pieces that no row names."""
    for address in addresses:
        await db.do(
            "INSERT INTO discards (address, length_bytes) SELECT ?, ?"
            " WHERE NOT EXISTS (SELECT 1 FROM pieces WHERE address = ?) ON CONFLICT (address) DO NOTHING",
            (address, length_bytes, address),
        )


async def referenced(db: Database, addresses: Collection[str]) -> frozenset[str]:
    """Return those addresses that a piece or a duty names."""
    asked = tuple(addresses)
    if not asked:
        return frozenset()
    found = await db.rows(
        f"SELECT address FROM pieces WHERE address IN ({marks(asked)})"
        f" UNION SELECT address FROM discards WHERE address IN ({marks(asked)})",
        (*asked, *asked),
    )
    return frozenset(address for (address,) in found)


async def pieces_at(db: Database, addresses: Collection[str]) -> list[Piece]:
    """Return the pieces at these addresses."""
    asked = tuple(addresses)
    if not asked:
        return []
    found = await db.rows(f"SELECT {PIECE_COLUMNS} FROM pieces WHERE address IN ({marks(asked)})", asked)
    return [piece_of(row) for row in found]


async def move(db: Database, moves: Mapping[str, str]) -> frozenset[str]:
    """Give pieces new addresses; return the old ones of those that were there."""
    moved = set()
    for old, new in moves.items():
        await _check_not_freed(db, new)
        try:
            changed = await db.change("UPDATE pieces SET address = ? WHERE address = ?", (new, old))
        except Duplicate:
            raise Conflict(f"piece {new} is in use") from None
        if changed:
            moved.add(old)
    return frozenset(moved)


async def tidy(db: Database) -> bool:
    """
    Take a bounded step towards freeing what nobody needs; tell whether there may be more to do.

    Deleted versions that are due give their layouts up, doomed layouts are taken apart, unlisted parts are discarded.
    """
    rows_left = _ROWS_MAX
    for stage in (_bury_versions, _take_apart, _drop_unlisted):
        rows_left = await stage(db, rows_left)
        if rows_left < _ROWS_LEAST:
            return True
    return False


async def _check_not_freed(db: Database, address: str) -> None:
    """Refuse an address whose bytes may be gone the next moment."""
    held = await db.row("SELECT 1 FROM discards WHERE address = ?", (address,))
    if held is not None:
        raise _about_to_be_freed(address)


def _about_to_be_freed(address: str) -> Conflict:
    return Conflict(f"piece {address} is about to be freed")


async def _bury_versions(db: Database, rows_left: int) -> int:
    """Change so many rows at most; return how many more may be changed, none when there is more to bury. So the following."""
    # Of each version two layouts and its own row; of one that came in parts, what is known of those as well.
    count_max = rows_left // 3
    due = await db.rows(
        "SELECT version_uid, layout_id, recall_layout_id, part_sizes <> '' FROM versions WHERE disposal = 'due'"
        " AND deleted_at IS NOT NULL ORDER BY version_uid LIMIT ?",
        (count_max,),
    )
    for version_uid, layout_id, recall_layout_id, has_parts in due:
        if rows_left < 3 + bool(has_parts):
            return 0
        rows_left -= 3 + bool(has_parts)
        if has_parts:
            await digests.forget(db, version_uid)
        for doomed in (layout_id, recall_layout_id):
            if doomed:
                await set_state(db, doomed, "doomed")
        # Of a delete marker neither layout is there.
        member = await db.row("SELECT 1 FROM members WHERE version_uid = ? LIMIT 1", (version_uid,))
        if member is None:
            await db.do("DELETE FROM versions WHERE version_uid = ?", (version_uid,))
        else:
            await db.do(
                "UPDATE versions SET disposal = NULL, layout_id = '', recall_layout_id = NULL, on_disk = 0,"
                " revision = revision + 1 WHERE version_uid = ?",
                (version_uid,),
            )
    return 0 if len(due) == count_max else rows_left


async def _take_apart(db: Database, rows_left: int) -> int:
    count_max = rows_left // 3
    doomed = await db.rows(
        "SELECT layout_id FROM layouts WHERE state = 'doomed' ORDER BY layout_id LIMIT ?", (count_max,)
    )
    for (layout_id,) in doomed:
        # Two rows for each piece, one for the share that it counted in, one for the layout itself.
        ordinals = await _ordinals(db, layout_id, after=-1, limit=(rows_left - 1) // 2)
        await discard_pieces(db, layout_id, ordinals)
        rows_left -= 2 * len(ordinals) + 1
        if await _ordinals(db, layout_id, after=-1, limit=1):
            return 0
        await db.do("DELETE FROM layouts WHERE layout_id = ?", (layout_id,))
        rows_left -= 1
        if rows_left < _ROWS_LEAST:
            return 0
    return 0 if len(doomed) == count_max else rows_left


async def _drop_unlisted(db: Database, rows_left: int) -> int:
    row = await db.row(
        "SELECT layout_id, listed, leftovers_after FROM layouts WHERE leftovers_after IS NOT NULL"
        " ORDER BY layout_id LIMIT 1"
    )
    if row is None:
        return rows_left
    layout_id, listed_text, after = row
    listed = Runs(listed_text)
    cursor: int | None = after
    dropped: list[int] = []
    seen = await _ordinals(db, layout_id, after=after, limit=_SCAN_MAX)
    for ordinal in seen:
        if ordinal not in listed:
            dropped.append(ordinal)
        cursor = ordinal
        if 2 * len(dropped) + 4 > rows_left:
            break
    else:
        if len(seen) < _SCAN_MAX:
            cursor = None
    await discard_pieces(db, layout_id, dropped)
    await db.do("UPDATE layouts SET leftovers_after = ? WHERE layout_id = ?", (cursor, layout_id))
    # One layout at a time: there may be others.
    return 0


async def _ordinals(db: Database, layout_id: str, *, after: int, limit: int) -> list[int]:
    found = await db.rows(
        "SELECT ordinal FROM pieces WHERE layout_id = ? AND ordinal > ? ORDER BY ordinal LIMIT ?",
        (layout_id, after, limit),
    )
    return [ordinal for (ordinal,) in found]
