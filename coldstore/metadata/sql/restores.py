"""What leaves the disk and what comes back: eviction, restores, recalls."""

from collections.abc import Collection, Mapping, Sequence

from coldstore.interfaces.metadata import Conflict, WantedExtent
from coldstore.metadata.sql import bundles, copies, layouts, reviews, shares, versions
from coldstore.metadata.sql.database import Database
from coldstore.metadata.sql.rows import (
    MEMBER_COLUMNS_OF_M,
    MEMBER_WIDTH,
    VERSION_COLUMNS,
    member_of,
    restore_row,
    version_of,
)
from coldstore.metadata.sql.tally import Share, Tally, counted
from coldstore.metadata.sql.telling import write_messages
from coldstore.model.due import Reason
from coldstore.model.events import NewMessage
from coldstore.model.objects import (
    ArchiveState,
    ObjectVersion,
    Piece,
    Restore,
    RestorePhase,
    StorageClass,
)

_RESTORE = (
    "restore_phase",
    "restore_tier",
    "restore_days",
    "restore_requested_at",
    "restore_expires_at",
    "restore_requested_by",
)

_LACKS_A_COPY = (
    "EXISTS (SELECT 1 FROM members AS m WHERE m.version_uid = {} AND NOT EXISTS"
    " (SELECT 1 FROM copies AS c WHERE c.bundle_id = m.bundle_id AND c.state = 'verified'))"
)
"""Whether an extent of a version can be read from no tape any more: what is on the disk is the last of it."""


async def evictable(
    db: Database, *, classes: Collection[StorageClass], archived_before: float, limit: int
) -> list[ObjectVersion]:
    """Return what may leave the disk, least recently archived or read first; each class is one range of an index."""
    found: list[ObjectVersion] = []
    for storage_class in sorted(set(classes)):
        found += await versions.selected(
            db,
            "WHERE v.archive_state = 'archived' AND v.on_disk = 1 AND v.restore_phase IS NULL AND v.deleted_at IS NULL"
            " AND v.size_bytes > 0 AND v.storage_class = ? AND v.archived_at < ?"
            f" AND NOT {_LACKS_A_COPY.format('v.version_uid')}"
            f" ORDER BY {db.dialect.greatest}(v.archived_at, v.last_read_at), v.version_uid LIMIT ?",
            (storage_class.value, archived_before, limit),
        )
    return sorted(
        found,
        key=lambda version: (max(version.archived_at or 0.0, version.last_read_at), version.version_uid),
    )[:limit]


async def evict(db: Database, version_uid: int, *, revision: int) -> None:
    """Take a version off the disk."""
    version = await _unmoved(db, version_uid, revision)
    if (
        version.archive_state is not ArchiveState.ARCHIVED
        or version.restore is not None
        or not version.on_disk
        or await db.row(f"SELECT 1 WHERE {_LACKS_A_COPY.format('?')}", (version_uid,)) is not None
    ):
        raise Conflict(f"version {version_uid} may not leave the disk")
    await layouts.set_state(db, version.layout_id, "doomed")
    await versions.move(db, version_uid, {"on_disk": 0, "layout_id": ""})


async def change(
    db: Database,
    version_uid: int,
    *,
    revision: int,
    restore: Restore | None,
    messages: Sequence[NewMessage],
) -> ObjectVersion:
    """Begin, extend, upgrade or end a restore."""
    version = await _unmoved(db, version_uid, revision)
    if restore is not None and restore.phase is RestorePhase.RESTORED and not version.on_disk:
        raise Conflict(f"version {version_uid} is not on disk: only complete_recall makes it restored")
    changes: dict[str, object] = dict(zip(_RESTORE, restore_row(restore), strict=True))
    if restore is None:
        await _drop_recall(db, version_uid)
        await reviews.wake(db, [version_uid], reason=Reason.RESTORE, at=0.0)
        changes["recall_layout_id"] = None
    return await _changed(db, version, changes, messages, Tally())


async def wanted_extents(db: Database, *, after: tuple[int, int], limit: int) -> list[WantedExtent]:
    """Return extents that ongoing restores lack."""
    join = db.dialect.nested_join
    found = await db.rows(
        f"SELECT {MEMBER_COLUMNS_OF_M}, {VERSION_COLUMNS} FROM versions AS v {db.dialect.by_index('recalled_versions')}"
        f" {join} members AS m ON m.version_uid = v.version_uid {join} buckets AS b ON b.bucket_uid = v.bucket_uid"
        " WHERE v.restore_phase = 'ongoing' AND v.on_disk = 0 AND v.version_uid >= ?"
        " AND (v.version_uid > ? OR m.extent > ?) AND NOT EXISTS (SELECT 1 FROM pieces AS p"
        " WHERE p.layout_id = v.recall_layout_id AND p.ordinal = m.extent + 1)"
        " ORDER BY v.version_uid, m.extent LIMIT ?",
        (after[0], after[0], after[1], limit),
    )
    members = [member_of(row[:MEMBER_WIDTH]) for row in found]
    bundle_ids = list(dict.fromkeys(member.bundle_id for member in members))
    their_bundles = await bundles.several(db, bundle_ids)
    their_copies = await copies.readable(db, bundle_ids)
    return [
        WantedExtent(
            version=version_of(row[MEMBER_WIDTH:]),
            member=member,
            copies=their_copies[member.bundle_id],
            bundle_size_bytes=their_bundles[member.bundle_id].size_bytes,
            bundle_sha256=their_bundles[member.bundle_id].sha256,
        )
        for row, member in zip(found, members, strict=True)
    ]


async def ongoing(db: Database, *, on_disk: bool, limit: int) -> list[ObjectVersion]:
    """Return versions with an ongoing restore, oldest request first."""
    # A literal: as a parameter SQLite would prepare it anew for each value, because a partial index might fit one of them.
    return await versions.selected(
        db,
        f"WHERE v.restore_phase = 'ongoing' AND v.on_disk = {int(on_disk)}"
        " ORDER BY v.restore_requested_at, v.version_uid LIMIT ?",
        (limit,),
    )


async def add_recalled(db: Database, version_uid: int, *, extent: int, layout_id: str, piece: Piece) -> bool:
    """Record an extent that came back, as part of the recall if that still wants it."""
    if piece.ordinal != extent + 1:
        raise ValueError(f"extent {extent} comes back as ordinal {extent + 1}, not {piece.ordinal}")
    version = await versions.by_uid(db, version_uid)
    is_wanted = (
        version is not None
        and version.deleted_at is None
        and not version.on_disk
        and version.restore is not None
        and version.restore.phase is RestorePhase.ONGOING
    )
    if is_wanted:
        await _check_extent(db, version_uid, extent, piece)
        recall = await recall_layout(db, version_uid)
        if recall is None:
            recall = layout_id
            # Until the recall is complete its bytes count as promised.
            await layouts.begin(db, layout_id, state="recalling", share_uid=None)
            # The revision stays: nothing that a version shows has changed.
            await db.do(
                "UPDATE versions SET recall_layout_id = ? WHERE version_uid = ?", (layout_id, version_uid)
            )
        there = await layouts.piece_at(db, recall, piece.ordinal)
        if there is None:
            await layouts.add_pieces(db, recall, [piece])
            return True
        if there.address == piece.address:
            return True
    await layouts.add_discards(db, [piece.address], length_bytes=piece.length_bytes)
    return False


async def recall_layout(db: Database, version_uid: int) -> str | None:
    """Return the layout of the recall under way."""
    row = await db.row(
        "SELECT recall_layout_id FROM versions WHERE version_uid = ? AND deleted_at IS NULL", (version_uid,)
    )
    return None if row is None else row[0]


async def complete(
    db: Database,
    version_uid: int,
    *,
    revision: int,
    expires_at: float,
    messages: Sequence[NewMessage],
) -> ObjectVersion:
    """Make an ongoing restore restored."""
    version = await _unmoved(db, version_uid, revision)
    if version.restore is None or version.restore.phase is not RestorePhase.ONGOING:
        raise Conflict(f"version {version_uid} has no ongoing restore")
    tally = Tally()
    changes: dict[str, object] = {
        "restore_phase": RestorePhase.RESTORED.value,
        "restore_expires_at": expires_at,
        "recall_layout_id": None,
    }
    if version.on_disk:
        await _drop_recall(db, version_uid)
    else:
        recall = await _whole_recall(db, version_uid)
        await layouts.set_state(db, recall, "live")
        share = Share.of(version, await shares.bucket_uid_of(db, version_uid))
        await shares.count_in(db, tally, recall, share)
        changes |= {"on_disk": 1, "layout_id": recall}
    return await _changed(db, version, changes, messages, tally)


async def expired(db: Database, *, now: float, limit: int) -> list[ObjectVersion]:
    """Return promises that have ended, earliest first."""
    return await versions.selected(
        db,
        "WHERE v.restore_phase = 'restored' AND v.restore_expires_at <= ?"
        " ORDER BY v.restore_expires_at, v.version_uid LIMIT ?",
        (now, limit),
    )


async def _existing(db: Database, version_uid: int) -> ObjectVersion:
    version = await versions.by_uid(db, version_uid)
    if version is None or version.deleted_at is not None:
        raise Conflict(f"version {version_uid} is deleted")
    return version


async def _changed(
    db: Database,
    version: ObjectVersion,
    changes: Mapping[str, object],
    messages: Sequence[NewMessage],
    tally: Tally,
) -> ObjectVersion:
    await versions.move(db, version.version_uid, changes)
    changed = await _existing(db, version.version_uid)
    if counted(changed) != counted(version):
        tally.changes(version, changed, await shares.bucket_uid_of(db, version.version_uid))
    await tally.write(db)
    await write_messages(db, messages)
    return changed


async def _unmoved(db: Database, version_uid: int, revision: int) -> ObjectVersion:
    version = await _existing(db, version_uid)
    if version.revision != revision:
        raise Conflict(f"version {version_uid} has revision {version.revision}, not {revision}")
    return version


async def _check_extent(db: Database, version_uid: int, extent: int, piece: Piece) -> None:
    """Check that what came back is what the archive holds: nothing else may ever be shown as the object."""
    held = [member for member in await bundles.extents(db, version_uid) if member.extent == extent]
    if not held or (held[0].length_bytes, held[0].crc64nvme) != (piece.length_bytes, piece.crc64nvme):
        raise ValueError(f"piece {piece.address} is not extent {extent} of version {version_uid}")


async def _whole_recall(db: Database, version_uid: int) -> str:
    """Return the layout of a recall that has brought every extent."""
    recall = await recall_layout(db, version_uid)
    (there,) = await db.row("SELECT count(*) FROM pieces WHERE layout_id = ?", (recall,))
    extents = await bundles.extents(db, version_uid)
    if recall is None or not extents or not there == len(extents) == extents[0].extent_count:
        raise Conflict(f"version {version_uid} has {there} of {len(extents)} extents back")
    return recall


async def _drop_recall(db: Database, version_uid: int) -> None:
    recall = await recall_layout(db, version_uid)
    if recall is not None:
        await layouts.set_state(db, recall, "doomed")
