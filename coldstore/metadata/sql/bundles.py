"""Bundles and the claims of their members, from FILLING to settled."""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TypeVar

from coldstore.interfaces.metadata import BATCH_MAX, Conflict, MemberVersion
from coldstore.metadata.sql import reviews, versions
from coldstore.metadata.sql.database import Database, Duplicate
from coldstore.metadata.sql.rows import (
    BUNDLE_COLUMNS,
    MEMBER_COLUMNS,
    MEMBER_COLUMNS_OF_M,
    MEMBER_WIDTH,
    VERSION_COLUMNS,
    bundle_of,
    lock_of_text,
    lock_text,
    member_of,
    member_row,
    version_of,
)
from coldstore.metadata.sql.tally import Tally
from coldstore.model.bundles import Bundle, BundleState, CopyState, Member
from coldstore.model.due import Reason
from coldstore.model.locks import UNLOCKED, Lock
from coldstore.model.objects import ArchiveState, ObjectVersion, StorageClass

_T = TypeVar("_T")
_ONE = f"SELECT {BUNDLE_COLUMNS} FROM bundles WHERE bundle_id = ?"


async def pending(
    db: Database, *, classes: Collection[StorageClass], after_sequence: int, limit: int
) -> list[ObjectVersion]:
    """Return PENDING versions by sequence; each class is one range of an index."""
    found: list[ObjectVersion] = []
    for storage_class in sorted(set(classes)):
        found += await versions.selected(
            db,
            "WHERE v.archive_state = 'pending' AND v.deleted_at IS NULL"
            " AND coalesce(v.transition_class, v.storage_class) = ? AND v.sequence > ?"
            " ORDER BY v.sequence LIMIT ?",
            (storage_class.value, after_sequence, limit),
        )
    return _first(found, lambda version: version.sequence, limit)


async def open_bundle(
    db: Database, *, bundle_id: str, pools: tuple[str, ...], created_at: float, epoch: int
) -> None:
    """Begin a bundle."""
    row = (bundle_id, BundleState.FILLING.value, json.dumps(pools), created_at, epoch)
    try:
        await db.insert("bundles", "bundle_id, state, pools, created_at, epoch", row)
    except Duplicate:
        raise Conflict(f"bundle {bundle_id} exists") from None


async def claim_members(
    db: Database,
    bundle_id: str,
    members: Sequence[Member],
    *,
    last_extents: Collection[int],
    locks: Mapping[int, Lock],
) -> list[Member]:
    """Add those members that can be claimed."""
    await _require(db, bundle_id, BundleState.FILLING)
    last_position = await _last_position(db, bundle_id)
    holders = await _holders(db, members)
    claimable = await _claimable(db, {member.version_uid for member in members})
    taken = []
    tape_locks: dict[int, str] = {}
    for member in members:
        extent = member.version_uid, member.extent
        if extent in holders:
            if holders[extent].bundle_id == bundle_id:
                taken.append(holders[extent])
            continue
        if member.version_uid not in claimable:
            continue
        if member.bundle_id != bundle_id or member.position <= last_position:
            raise Conflict(f"position {member.position} of {member.bundle_id} does not continue {bundle_id}")
        claimed = replace(member, bundle_offset_bytes=-1)
        await db.insert("members", MEMBER_COLUMNS, member_row(claimed))
        if claimed.extent == 0 and claimed.version_uid in locks:
            tape_locks[claimed.version_uid] = lock_text(locks[claimed.version_uid])
        last_position = member.position
        holders[extent] = claimed
        taken.append(claimed)
    # Those that are not claimable were claimed before this repetition, or deleted between two calls.
    whole = sorted({member.version_uid for member in taken} & claimable & set(last_extents))
    await _claim_wholly(db, whole, tape_locks)
    for version_uid in tape_locks.keys() - set(whole):
        # The revision stays: nothing that a version shows has changed.
        await db.do(
            "UPDATE versions SET tape_lock = ? WHERE version_uid = ?", (tape_locks[version_uid], version_uid)
        )
    return taken


async def fix_offsets(db: Database, bundle_id: str, offsets: Mapping[int, int]) -> None:
    """Record where members begin in the tar."""
    await _require(db, bundle_id, BundleState.FILLING)
    if not offsets:
        return
    found = await db.rows(
        "SELECT position FROM members WHERE bundle_id = ? AND position BETWEEN ? AND ?",
        (bundle_id, min(offsets), max(offsets)),
    )
    missing = offsets.keys() - {position for (position,) in found}
    if missing:
        raise Conflict(f"bundle {bundle_id} has no position {min(missing)}")
    for position, offset in offsets.items():
        await db.do(
            "UPDATE members SET bundle_offset_bytes = ? WHERE bundle_id = ? AND position = ?",
            (offset, bundle_id, position),
        )


async def freeze(
    db: Database, bundle_id: str, *, member_count: int, size_bytes: int, content_bytes: int
) -> Bundle:
    """Fix the plan and plan its copies."""
    bundle = await _require(db, bundle_id, BundleState.FILLING)
    count, misplaced = await db.row(
        "SELECT count(*), count(*) FILTER (WHERE bundle_offset_bytes < 0) FROM members WHERE bundle_id = ?",
        (bundle_id,),
    )
    if count != member_count or misplaced:
        raise Conflict(
            f"bundle {bundle_id} has {count} members, {misplaced} without offset, not {member_count}"
        )
    await db.do(
        "UPDATE bundles SET state = ?, member_count = ?, size_bytes = ?, content_bytes = ? WHERE bundle_id = ?",
        (BundleState.FROZEN.value, member_count, size_bytes, content_bytes, bundle_id),
    )
    for pool in bundle.pools:
        row = (bundle_id, pool, CopyState.PLANNED.value, bundle.epoch)
        await db.insert("copies", "bundle_id, pool, state, epoch", row)
    return await _require(db, bundle_id, BundleState.FROZEN)


async def release(db: Database, bundle_id: str) -> bool:
    """Give back a batch of claims."""
    bundle = await one(db, bundle_id)
    if bundle is not None and bundle.state is BundleState.VOID:
        return True
    await _require(db, bundle_id, BundleState.FILLING)
    released = await db.rows(
        "DELETE FROM members WHERE bundle_id = ? AND position IN"
        " (SELECT position FROM members WHERE bundle_id = ? ORDER BY position LIMIT ?) RETURNING version_uid",
        (bundle_id, bundle_id, BATCH_MAX),
    )
    freed = await versions.some(db, {version_uid for (version_uid,) in released})
    held = await versions.claimed(db, _deleted(freed))
    for version in freed:
        changes: dict[str, object] = {}
        if version.archive_state is ArchiveState.CLAIMED:
            changes = {"archive_state": ArchiveState.PENDING.value, "tape_lock": ""}
        if changes or version.deleted_at is not None:
            changes["disposal"] = _disposal(version, is_held=version.version_uid in held)
            await versions.move(db, version.version_uid, changes)
    if await _last_position(db, bundle_id) >= 0:
        return False
    await db.do("UPDATE bundles SET state = ? WHERE bundle_id = ?", (BundleState.VOID.value, bundle_id))
    return True


async def settle(db: Database, bundle_id: str, *, after_position: int, at: float) -> int | None:
    """Derive from archived bundles what became of a batch of members."""
    await _require(db, bundle_id, BundleState.ARCHIVED)
    batch = await db.rows(
        "SELECT position, version_uid FROM members WHERE bundle_id = ? AND position > ? ORDER BY position LIMIT ?",
        (bundle_id, after_position, BATCH_MAX),
    )
    settling = await versions.some(db, {version_uid for _, version_uid in batch})
    claimed = [v.version_uid for v in settling if v.archive_state is ArchiveState.CLAIMED]
    on_tape = await _on_tape(db, claimed)
    pinned_in_vain = await _pinned_in_vain(db, _deleted(settling))
    tally = Tally()
    for version in settling:
        changes: dict[str, object] = {}
        if version.version_uid in on_tape:
            changes = {"archive_state": ArchiveState.ARCHIVED.value, "archived_at": at}
            if version.deleted_at is None:
                tally.is_archived(version)
        if version.version_uid in pinned_in_vain:
            changes["disposal"] = "due"
        if changes:
            await versions.move(db, version.version_uid, changes)
    await reviews.wake(db, sorted(on_tape), reason=Reason.ARCHIVE, at=at)
    await tally.write(db)
    if len(batch) == BATCH_MAX:
        return int(batch[-1][0])
    await db.do("UPDATE bundles SET is_settled = 1 WHERE bundle_id = ? AND is_settled = 0", (bundle_id,))
    return None


async def listed(
    db: Database,
    *,
    states: Collection[BundleState],
    settled: bool | None,
    after: str,
    limit: int,
) -> list[Bundle]:
    """Return bundles by id; each state is one or two ranges of an index."""
    found: list[Bundle] = []
    for state in sorted(set(states)):
        for is_settled in (False, True) if settled is None else (settled,):
            rows = await db.rows(
                f"SELECT {BUNDLE_COLUMNS} FROM bundles WHERE state = ? AND is_settled = ? AND bundle_id > ?"
                " ORDER BY bundle_id LIMIT ?",
                (state.value, int(is_settled), after, limit),
            )
            found += map(bundle_of, rows)
    return _first(found, lambda bundle: bundle.bundle_id, limit)


async def one(db: Database, bundle_id: str) -> Bundle | None:
    """Return a bundle."""
    row = await db.row(_ONE, (bundle_id,))
    return None if row is None else bundle_of(row)


async def several(db: Database, bundle_ids: Sequence[str]) -> dict[str, Bundle]:
    """Return bundles, all of which exist, by their ids."""
    found = await db.rows_of_each(_ONE, [(bundle_id,) for bundle_id in bundle_ids])
    return {bundle_id: bundle_of(row) for bundle_id, (row,) in zip(bundle_ids, found, strict=True)}


async def members(db: Database, bundle_id: str, *, after_position: int, limit: int) -> list[MemberVersion]:
    """Return members with their versions."""
    join = db.dialect.nested_join
    found = await db.rows(
        f"SELECT v.tape_lock, {MEMBER_COLUMNS_OF_M}, {VERSION_COLUMNS} FROM members AS m"
        f" {join} versions AS v ON v.version_uid = m.version_uid {join} buckets AS b ON b.bucket_uid = v.bucket_uid"
        " WHERE m.bundle_id = ? AND m.position > ? ORDER BY m.position LIMIT ?",
        (bundle_id, after_position, limit),
    )
    return [
        MemberVersion(
            member=member_of(row[:MEMBER_WIDTH]),
            version=version_of(row[MEMBER_WIDTH:]),
            tape_lock=lock_of_text(tape_lock) if tape_lock else UNLOCKED,
        )
        for tape_lock, *row in found
    ]


async def extents(db: Database, version_uid: int) -> list[Member]:
    """Return the extents of a version. Members of void bundles do not exist: releasing removed them."""
    found = await db.rows(
        f"SELECT {MEMBER_COLUMNS} FROM members WHERE version_uid = ? ORDER BY extent", (version_uid,)
    )
    return [member_of(row) for row in found]


async def _require(db: Database, bundle_id: str, state: BundleState) -> Bundle:
    bundle = await one(db, bundle_id)
    if bundle is None or bundle.state is not state:
        raise Conflict(
            f"bundle {bundle_id} is {'unknown' if bundle is None else bundle.state.value}, not {state.value}"
        )
    return bundle


async def _last_position(db: Database, bundle_id: str) -> int:
    (last,) = await db.row("SELECT max(position) FROM members WHERE bundle_id = ?", (bundle_id,))
    return -1 if last is None else int(last)


async def _holders(db: Database, members: Sequence[Member]) -> dict[tuple[int, int], Member]:
    """Return what these extents are already, in whichever bundle, by version and extent."""
    found = await db.rows_of_each(
        f"SELECT {MEMBER_COLUMNS} FROM members WHERE version_uid = ? AND extent = ?",
        [(member.version_uid, member.extent) for member in members],
    )
    held = [member_of(row) for rows in found for row in rows]
    return {(member.version_uid, member.extent): member for member in held}


async def _claimable(db: Database, version_uids: Iterable[int]) -> set[int]:
    """Return those versions that no bundle has wholly, and nobody deleted."""
    return await versions.those(
        db,
        version_uids,
        "SELECT 1 FROM versions WHERE version_uid = ? AND archive_state = 'pending' AND deleted_at IS NULL",
    )


async def _claim_wholly(db: Database, version_uids: Sequence[int], tape_locks: Mapping[int, str]) -> None:
    """The last extent of these versions is in a bundle. A row is changed once: many are claimed in one step."""
    counted = await db.rows_of_each(
        "SELECT count(*), max(extent_count) FROM members WHERE version_uid = ?",
        [(version_uid,) for version_uid in version_uids],
    )
    for version_uid, ((count, wanted),) in zip(version_uids, counted, strict=True):
        if count != wanted:
            raise Conflict(
                f"version {version_uid} has {count} of {wanted} extents in bundles, and this was to be the last"
            )
    for version_uid in version_uids:
        changes = {"archive_state": ArchiveState.CLAIMED.value}
        if version_uid in tape_locks:
            changes["tape_lock"] = tape_locks[version_uid]
        await versions.move(db, version_uid, changes)


async def _on_tape(db: Database, version_uids: Iterable[int]) -> set[int]:
    """Return those versions of which every extent is in an archived bundle."""
    return await versions.those(
        db,
        version_uids,
        "SELECT 1 FROM members JOIN bundles USING (bundle_id) WHERE version_uid = ? AND bundles.state = 'archived'"
        " GROUP BY version_uid HAVING count(*) = max(extent_count)",
    )


async def _pinned_in_vain(db: Database, version_uids: Iterable[int]) -> set[int]:
    """Return those versions whose bytes are kept for a bundle, and there is none that still needs them."""
    pinned = await versions.those(
        db, version_uids, "SELECT 1 FROM versions WHERE version_uid = ? AND disposal = 'pinned'"
    )
    return pinned - await versions.claimed(db, pinned)


def _deleted(found: Iterable[ObjectVersion]) -> list[int]:
    return [version.version_uid for version in found if version.deleted_at is not None]


def _disposal(version: ObjectVersion, *, is_held: bool) -> str | None:
    if version.deleted_at is None:
        return None
    return "pinned" if is_held else "due"


def _first(found: Iterable[_T], order: Callable[[_T], int | str], limit: int) -> list[_T]:
    return list(islice(sorted(found, key=order), limit))
