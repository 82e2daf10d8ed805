"""Copies of bundles on cartridges, and the session manifests that name them."""

from collections.abc import Sequence
from typing import Any

from coldstore.interfaces.metadata import Conflict, CopyCount
from coldstore.metadata.sql import bundles
from coldstore.metadata.sql.database import Database
from coldstore.metadata.sql.rows import BUNDLE_COLUMNS, COPY_COLUMNS, bundle_of, copy_of, marks
from coldstore.model.bundles import COPY_TRANSITIONS, Bundle, BundleState, Copy, CopyEvent, CopyState
from coldstore.model.states import ImpossibleTransition, after


async def listed(
    db: Database, *, bundle_id: str | None, barcode: str | None, version_uid: int | None
) -> list[Copy]:
    """Return copies of a bundle, on a cartridge or of a version's bundles."""
    if [bundle_id, barcode, version_uid].count(None) != 2:
        raise ValueError("exactly one of bundle_id, barcode and version_uid says which copies")
    if bundle_id is not None:
        which = "c.bundle_id = ?"
    elif barcode is not None:
        which = "c.barcode = ?"
    else:
        which = "c.bundle_id IN (SELECT bundle_id FROM members WHERE version_uid = ?)"
    argument = next(named for named in (bundle_id, barcode, version_uid) if named is not None)
    return await _selected(db, f"WHERE {which} ORDER BY c.bundle_id, c.pool", (argument,))


async def unfinished(db: Database, limit: int) -> list[Copy]:
    """Return copies that are not verified yet."""
    return await _selected(
        db,
        f"{db.dialect.by_index('unfinished_copies')} WHERE c.state IN ('planned', 'writing', 'synced')"
        " ORDER BY c.bundle_id, c.pool LIMIT ?",
        (limit,),
    )


async def lost_ones(db: Database, limit: int) -> list[Copy]:
    """Return copies that are to be made anew."""
    return await _selected(
        db,
        f"{db.dialect.by_index('lost_copies')} WHERE c.state = 'lost' ORDER BY c.bundle_id, c.pool LIMIT ?",
        (limit,),
    )


async def readable(db: Database, bundle_ids: Sequence[str]) -> dict[str, tuple[Copy, ...]]:
    """
    Return the copies of bundles that can be read from tape, by the bundles' ids.

    Lost ones come last: they may still hold other members.
    """
    found = await db.rows_of_each(
        f"SELECT {COPY_COLUMNS} FROM copies AS c WHERE c.bundle_id = ? AND c.state IN ('synced', 'verified', 'lost')"
        " ORDER BY c.state = 'lost', c.pool",
        [(bundle_id,) for bundle_id in bundle_ids],
    )
    return {bundle_id: tuple(map(copy_of, rows)) for bundle_id, rows in zip(bundle_ids, found, strict=True)}


async def start(db: Database, *, bundle_id: str, pool: str, barcode: str, epoch: int) -> Copy:
    """Begin to write a copy."""
    copy = await _one(db, bundle_id, pool)
    state = _after(copy, CopyEvent.START)
    other = await db.row(
        "SELECT pool FROM copies WHERE bundle_id = ? AND barcode = ? AND pool <> ? AND state <> 'planned'",
        (bundle_id, barcode, pool),
    )
    if other is not None:
        raise Conflict(f"cartridge {barcode} holds the copy of bundle {bundle_id} for {other[0]}")
    return await _changed(
        db,
        copy,
        state=state.value,
        barcode=barcode,
        epoch=epoch,
        partition="",
        start_block=0,
        session_id="",
        synced_at=None,
        verified_at=None,
        reason="",
    )


async def synced(
    db: Database,
    *,
    bundle_id: str,
    pool: str,
    epoch: int,
    partition: str,
    start_block: int,
    size_bytes: int,
    sha256: str,
    at: float,
) -> Copy:
    """Record that a copy is on tape, the same bytes as every other copy of its bundle."""
    copy = await _of_epoch(db, bundle_id, pool, epoch)
    state = _after(copy, CopyEvent.SYNC)
    bundle = await _bundle(db, bundle_id)
    if size_bytes != bundle.size_bytes:
        raise Conflict(f"a copy of bundle {bundle_id} has {size_bytes} bytes, the plan {bundle.size_bytes}")
    if bundle.sha256 == "":
        await db.do("UPDATE bundles SET sha256 = ? WHERE bundle_id = ?", (sha256, bundle_id))
    elif bundle.sha256 != sha256:
        raise Conflict(f"a copy of bundle {bundle_id} hashes to {sha256}, the first one to {bundle.sha256}")
    return await _changed(
        db,
        copy,
        state=state.value,
        partition=partition,
        start_block=start_block,
        synced_at=at,
        session_id="",
    )


async def verified(db: Database, *, bundle_id: str, pool: str, epoch: int, at: float) -> Bundle:
    """Record that a copy was read back; the last one archives its bundle."""
    copy = await _of_epoch(db, bundle_id, pool, epoch)
    await _changed(db, copy, state=_after(copy, CopyEvent.VERIFY).value, verified_at=at)
    missing = await db.row(
        "SELECT 1 FROM copies WHERE bundle_id = ? AND state <> 'verified' LIMIT 1", (bundle_id,)
    )
    if missing is None:
        await db.do(
            "UPDATE bundles SET state = ? WHERE bundle_id = ? AND state = ?",
            (BundleState.ARCHIVED.value, bundle_id, BundleState.FROZEN.value),
        )
    return await _bundle(db, bundle_id)


async def failed(db: Database, *, bundle_id: str, pool: str, reason: str) -> Copy:
    """Give an attempt up."""
    copy = await _one(db, bundle_id, pool)
    if copy.state is CopyState.PLANNED:
        return copy
    bundle = await _bundle(db, bundle_id)
    is_lost = bundle.state is BundleState.ARCHIVED and copy.state is not CopyState.VERIFIED
    state = _after(copy, CopyEvent.LOSE if is_lost else CopyEvent.FAIL)
    return await _given_up(db, copy, state, reason)


async def resume(db: Database, *, bundle_id: str, pool: str, epoch: int) -> Copy:
    """Take over a SYNCED copy."""
    copy = await _one(db, bundle_id, pool)
    if copy.state is not CopyState.SYNCED:
        raise Conflict(f"the copy of bundle {bundle_id} for {pool} is {copy.state.value}, not synced")
    return await _changed(db, copy, epoch=epoch)


async def lost(db: Database, *, bundle_id: str, pool: str, reason: str) -> Copy:
    """Record that a good copy is no longer readable."""
    copy = await _one(db, bundle_id, pool)
    if copy.state is CopyState.LOST:
        return copy
    state = _after(copy, CopyEvent.LOSE)
    bundle = await _bundle(db, bundle_id)
    if bundle.state is BundleState.FROZEN:
        # Its members are still on disk: the copy is simply made again, and the bundle cannot be archived without it.
        return await _given_up(db, copy, after(COPY_TRANSITIONS, state, CopyEvent.RENEW), reason)
    return await _changed(db, copy, state=state.value, failures=copy.failures + 1, reason=reason)


async def count(db: Database, version_uid: int, *, wanted: int) -> CopyCount:
    """Count the verified copies of the least copied extent."""
    extents, extent_count, verified_copies = await db.row(
        "SELECT count(*), max(extent_count), min((SELECT count(*) FROM copies AS c"
        " WHERE c.bundle_id = m.bundle_id AND c.state = 'verified')) FROM members AS m WHERE version_uid = ?",
        (version_uid,),
    )
    is_whole = extents > 0 and extents == extent_count
    return CopyCount(verified=verified_copies if is_whole else 0, wanted=wanted)


async def unmanifested(db: Database, barcode: str) -> list[Bundle]:
    """Return bundles of copies on the cartridge that no proven manifest names."""
    found = await db.rows(
        f"SELECT {BUNDLE_COLUMNS} FROM bundles WHERE bundle_id IN (SELECT c.bundle_id FROM copies AS c"
        f" {db.dialect.by_index('unmanifested_copies')} WHERE c.barcode = ? AND c.session_id = ''"
        " AND c.state IN ('synced', 'verified')) ORDER BY bundle_id",
        (barcode,),
    )
    return [bundle_of(row) for row in found]


async def mark_manifested(db: Database, *, barcode: str, session_id: str, bundle_ids: Sequence[str]) -> None:
    """Record which session's manifest names the copies of these bundles on the cartridge."""
    if not bundle_ids:
        return
    await db.do(
        f"UPDATE copies SET session_id = ? WHERE barcode = ? AND bundle_id IN ({marks(bundle_ids)})"
        " AND state IN ('synced', 'verified')",
        (session_id, barcode, *bundle_ids),
    )


async def _given_up(db: Database, copy: Copy, state: CopyState, reason: str) -> Copy:
    """Plan a copy anew. Without any other that was good, the hash of the bundle is no longer known for certain."""
    changed = await _changed(
        db,
        copy,
        state=state.value,
        barcode=None,
        partition="",
        start_block=0,
        session_id="",
        synced_at=None,
        verified_at=None,
        failures=copy.failures + 1,
        reason=reason,
    )
    await db.do(
        "UPDATE bundles SET sha256 = '' WHERE bundle_id = ? AND sha256 <> '' AND NOT EXISTS"
        " (SELECT 1 FROM copies WHERE bundle_id = ? AND state IN ('synced', 'verified', 'lost'))",
        (copy.bundle_id, copy.bundle_id),
    )
    return changed


async def _selected(db: Database, rest: str, arguments: Sequence[object]) -> list[Copy]:
    found = await db.rows(f"SELECT {COPY_COLUMNS} FROM copies AS c {rest}", tuple(arguments))
    return [copy_of(row) for row in found]


async def _one(db: Database, bundle_id: str, pool: str) -> Copy:
    found = await _selected(db, "WHERE c.bundle_id = ? AND c.pool = ?", (bundle_id, pool))
    if not found:
        raise Conflict(f"bundle {bundle_id} has no copy for {pool}")
    return found[0]


async def _of_epoch(db: Database, bundle_id: str, pool: str, epoch: int) -> Copy:
    copy = await _one(db, bundle_id, pool)
    if copy.epoch != epoch:
        raise Conflict(f"the copy of bundle {bundle_id} for {pool} is of epoch {copy.epoch}, not {epoch}")
    return copy


async def _bundle(db: Database, bundle_id: str) -> Bundle:
    bundle = await bundles.one(db, bundle_id)
    assert bundle is not None, bundle_id
    return bundle


def _after(copy: Copy, event: CopyEvent) -> CopyState:
    try:
        return after(COPY_TRANSITIONS, copy.state, event)
    except ImpossibleTransition as impossible:
        raise Conflict(f"the copy of bundle {copy.bundle_id} for {copy.pool}: {impossible}") from None


async def _changed(db: Database, copy: Copy, **columns: Any) -> Copy:
    assignments = ", ".join(f"{column} = ?" for column in columns)
    await db.do(
        f"UPDATE copies SET {assignments} WHERE bundle_id = ? AND pool = ?",
        (*columns.values(), copy.bundle_id, copy.pool),
    )
    return await _one(db, copy.bundle_id, copy.pool)
