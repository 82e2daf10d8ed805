"""Bundles and the claims of their members, from FILLING to settled."""

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TypeVar

from coldstore.interfaces.metadata import BATCH_MAX, Conflict, MemberVersion
from coldstore.metadata.sqlite import versions
from coldstore.metadata.sqlite.backlog import Tally
from coldstore.metadata.sqlite.rows import (
    BUNDLE_COLUMNS,
    MEMBER_COLUMNS,
    MEMBER_WIDTH,
    VERSION_COLUMNS,
    bundle_of,
    member_of,
    member_row,
    version_of,
)
from coldstore.model.bundles import Bundle, BundleState, CopyState, Member
from coldstore.model.objects import ArchiveState, ObjectVersion, StorageClass

_T = TypeVar("_T")


def pending(
    connection: sqlite3.Connection, *, classes: Collection[StorageClass], after_sequence: int, limit: int
) -> list[ObjectVersion]:
    """Return PENDING versions by sequence; each class is one range of an index."""
    found: list[ObjectVersion] = []
    for storage_class in sorted(set(classes)):
        found += versions.selected(
            connection,
            "WHERE v.archive_state = 'pending' AND v.deleted_at IS NULL AND v.storage_class = ? AND v.sequence > ?"
            " ORDER BY v.sequence LIMIT ?",
            (storage_class.value, after_sequence, limit),
        )
    return _first(found, lambda version: version.sequence, limit)


def open_bundle(
    connection: sqlite3.Connection, *, bundle_id: str, pools: tuple[str, ...], created_at: float, epoch: int
) -> None:
    """Begin a bundle."""
    try:
        connection.execute(
            "INSERT INTO bundles (bundle_id, state, pools, created_at, epoch) VALUES (?, ?, ?, ?, ?)",
            (bundle_id, BundleState.FILLING.value, json.dumps(pools), created_at, epoch),
        )
    except sqlite3.IntegrityError:
        raise Conflict(f"bundle {bundle_id} exists") from None


def claim_members(
    connection: sqlite3.Connection,
    bundle_id: str,
    members: Sequence[Member],
    *,
    last_extents: Collection[int],
) -> list[Member]:
    """Add those members that can be claimed."""
    _require(connection, bundle_id, BundleState.FILLING)
    last_position = _last_position(connection, bundle_id)
    taken = []
    for member in members:
        held = _holder(connection, member)
        if held is not None:
            if held.bundle_id == bundle_id:
                taken.append(held)
            continue
        if not _is_claimable(connection, member.version_uid):
            continue
        if member.bundle_id != bundle_id or member.position <= last_position:
            raise Conflict(f"position {member.position} of {member.bundle_id} does not continue {bundle_id}")
        claimed = replace(member, bundle_offset_bytes=-1)
        connection.execute(f"INSERT INTO members VALUES ({'?,' * (MEMBER_WIDTH - 1)}?)", member_row(claimed))
        last_position = member.position
        taken.append(claimed)
    added = sorted({member.version_uid for member in taken} & set(last_extents))
    for version_uid in added:
        _claim_wholly(connection, version_uid)
    return taken


def fix_offsets(connection: sqlite3.Connection, bundle_id: str, offsets: Mapping[int, int]) -> None:
    """Record where members begin in the tar."""
    _require(connection, bundle_id, BundleState.FILLING)
    for position, offset in offsets.items():
        changed = connection.execute(
            "UPDATE members SET bundle_offset_bytes = ? WHERE bundle_id = ? AND position = ?",
            (offset, bundle_id, position),
        )
        if changed.rowcount == 0:
            raise Conflict(f"bundle {bundle_id} has no position {position}")


def freeze(
    connection: sqlite3.Connection, bundle_id: str, *, member_count: int, size_bytes: int, content_bytes: int
) -> Bundle:
    """Fix the plan and plan its copies."""
    bundle = _require(connection, bundle_id, BundleState.FILLING)
    count, misplaced = connection.execute(
        "SELECT count(*), count(*) FILTER (WHERE bundle_offset_bytes < 0) FROM members WHERE bundle_id = ?",
        (bundle_id,),
    ).fetchone()
    if count != member_count or misplaced:
        raise Conflict(
            f"bundle {bundle_id} has {count} members, {misplaced} without offset, not {member_count}"
        )
    connection.execute(
        "UPDATE bundles SET state = ?, member_count = ?, size_bytes = ?, content_bytes = ? WHERE bundle_id = ?",
        (BundleState.FROZEN.value, member_count, size_bytes, content_bytes, bundle_id),
    )
    connection.executemany(
        "INSERT INTO copies (bundle_id, pool, state, epoch) VALUES (?, ?, ?, ?)",
        [(bundle_id, pool, CopyState.PLANNED.value, bundle.epoch) for pool in bundle.pools],
    )
    return _require(connection, bundle_id, BundleState.FROZEN)


def release(connection: sqlite3.Connection, bundle_id: str) -> bool:
    """Give back a batch of claims."""
    bundle = one(connection, bundle_id)
    if bundle is not None and bundle.state is BundleState.VOID:
        return True
    _require(connection, bundle_id, BundleState.FILLING)
    released = connection.execute(
        "DELETE FROM members WHERE bundle_id = ? AND position IN"
        " (SELECT position FROM members WHERE bundle_id = ? ORDER BY position LIMIT ?) RETURNING version_uid",
        (bundle_id, bundle_id, BATCH_MAX),
    ).fetchall()
    for version in versions.some(connection, {version_uid for (version_uid,) in released}):
        if version.archive_state is ArchiveState.CLAIMED:
            versions.move(
                connection,
                version.version_uid,
                {"archive_state": ArchiveState.PENDING.value, "disposal": _disposal(connection, version)},
            )
        elif version.deleted_at is not None:
            versions.move(connection, version.version_uid, {"disposal": _disposal(connection, version)})
    if _last_position(connection, bundle_id) >= 0:
        return False
    connection.execute(
        "UPDATE bundles SET state = ? WHERE bundle_id = ?", (BundleState.VOID.value, bundle_id)
    )
    return True


def settle(connection: sqlite3.Connection, bundle_id: str, *, after_position: int, at: float) -> int | None:
    """Derive from archived bundles what became of a batch of members."""
    _require(connection, bundle_id, BundleState.ARCHIVED)
    batch = connection.execute(
        "SELECT position, version_uid FROM members WHERE bundle_id = ? AND position > ? ORDER BY position LIMIT ?",
        (bundle_id, after_position, BATCH_MAX),
    ).fetchall()
    tally = Tally()
    for version in versions.some(connection, {version_uid for _, version_uid in batch}):
        changes: dict[str, object] = {}
        if version.archive_state is ArchiveState.CLAIMED and _is_on_tape(connection, version.version_uid):
            changes = {"archive_state": ArchiveState.ARCHIVED.value, "archived_at": at}
            if version.deleted_at is None:
                tally.leaves(version)
        if version.deleted_at is not None and _is_pinned_in_vain(connection, version):
            changes["disposal"] = "due"
        if changes:
            versions.move(connection, version.version_uid, changes)
    tally.write(connection)
    if len(batch) == BATCH_MAX:
        return int(batch[-1][0])
    connection.execute(
        "UPDATE bundles SET is_settled = 1 WHERE bundle_id = ? AND is_settled = 0", (bundle_id,)
    )
    return None


def listed(
    connection: sqlite3.Connection,
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
            rows = connection.execute(
                f"SELECT {BUNDLE_COLUMNS} FROM bundles WHERE state = ? AND is_settled = ? AND bundle_id > ?"
                " ORDER BY bundle_id LIMIT ?",
                (state.value, int(is_settled), after, limit),
            )
            found += map(bundle_of, rows)
    return _first(found, lambda bundle: bundle.bundle_id, limit)


def one(connection: sqlite3.Connection, bundle_id: str) -> Bundle | None:
    """Return a bundle."""
    row = connection.execute(
        f"SELECT {BUNDLE_COLUMNS} FROM bundles WHERE bundle_id = ?", (bundle_id,)
    ).fetchone()
    return None if row is None else bundle_of(row)


def members(
    connection: sqlite3.Connection, bundle_id: str, *, after_position: int, limit: int
) -> list[MemberVersion]:
    """Return members with their versions."""
    found = connection.execute(
        f"SELECT {MEMBER_COLUMNS}, {VERSION_COLUMNS} FROM members AS m"
        " CROSS JOIN versions AS v ON v.version_uid = m.version_uid CROSS JOIN buckets AS b ON b.bucket_uid = v.bucket_uid"
        " WHERE m.bundle_id = ? AND m.position > ? ORDER BY m.position LIMIT ?",
        (bundle_id, after_position, limit),
    )
    return [
        MemberVersion(member=member_of(row[:MEMBER_WIDTH]), version=version_of(row[MEMBER_WIDTH:]))
        for row in found
    ]


def extents(connection: sqlite3.Connection, version_uid: int) -> list[Member]:
    """Return the extents of a version. Members of void bundles do not exist: releasing removed them."""
    found = connection.execute(
        f"SELECT {MEMBER_COLUMNS} FROM members AS m WHERE m.version_uid = ? ORDER BY m.extent", (version_uid,)
    )
    return [member_of(row) for row in found]


def _require(connection: sqlite3.Connection, bundle_id: str, state: BundleState) -> Bundle:
    bundle = one(connection, bundle_id)
    if bundle is None or bundle.state is not state:
        raise Conflict(
            f"bundle {bundle_id} is {'unknown' if bundle is None else bundle.state.value}, not {state.value}"
        )
    return bundle


def _last_position(connection: sqlite3.Connection, bundle_id: str) -> int:
    (last,) = connection.execute(
        "SELECT max(position) FROM members WHERE bundle_id = ?", (bundle_id,)
    ).fetchone()
    return -1 if last is None else int(last)


def _holder(connection: sqlite3.Connection, member: Member) -> Member | None:
    """Return the member that this extent is already, in whichever bundle."""
    row = connection.execute(
        f"SELECT {MEMBER_COLUMNS} FROM members AS m WHERE m.version_uid = ? AND m.extent = ?",
        (member.version_uid, member.extent),
    ).fetchone()
    return None if row is None else member_of(row)


def _is_claimable(connection: sqlite3.Connection, version_uid: int) -> bool:
    found = connection.execute(
        "SELECT 1 FROM versions WHERE version_uid = ? AND archive_state = 'pending' AND deleted_at IS NULL",
        (version_uid,),
    )
    return found.fetchone() is not None


def _claim_wholly(connection: sqlite3.Connection, version_uid: int) -> None:
    if not _is_claimable(connection, version_uid):
        return  # claimed before this repetition, or deleted between two calls
    count, wanted = connection.execute(
        "SELECT count(*), max(extent_count) FROM members WHERE version_uid = ?", (version_uid,)
    ).fetchone()
    if count != wanted:
        raise Conflict(
            f"version {version_uid} has {count} of {wanted} extents in bundles, and this was to be the last"
        )
    versions.move(connection, version_uid, {"archive_state": ArchiveState.CLAIMED.value})


def _is_on_tape(connection: sqlite3.Connection, version_uid: int) -> bool:
    """Tell whether every extent is in an archived bundle."""
    count, wanted = connection.execute(
        "SELECT count(*), max(extent_count) FROM members JOIN bundles USING (bundle_id)"
        " WHERE version_uid = ? AND bundles.state = 'archived'",
        (version_uid,),
    ).fetchone()
    return wanted is not None and count == wanted


def _is_pinned_in_vain(connection: sqlite3.Connection, version: ObjectVersion) -> bool:
    (disposal,) = connection.execute(
        "SELECT disposal FROM versions WHERE version_uid = ?", (version.version_uid,)
    ).fetchone()
    return disposal == "pinned" and not versions.is_claimed(connection, version.version_uid)


def _disposal(connection: sqlite3.Connection, version: ObjectVersion) -> str | None:
    if version.deleted_at is None:
        return None
    return "pinned" if versions.is_claimed(connection, version.version_uid) else "due"


def _first(found: Iterable[_T], order: Callable[[_T], int | str], limit: int) -> list[_T]:
    return list(islice(sorted(found, key=order), limit))
