"""What leaves the disk and what comes back: eviction, restores, recalls."""

import sqlite3
from collections.abc import Collection, Mapping, Sequence

from coldstore.interfaces.metadata import Conflict, WantedExtent
from coldstore.metadata.sqlite import bundles, copies, layouts, shares, versions
from coldstore.metadata.sqlite.rows import (
    MEMBER_COLUMNS,
    MEMBER_WIDTH,
    VERSION_COLUMNS,
    member_of,
    restore_row,
    version_of,
)
from coldstore.metadata.sqlite.telling import write_messages
from coldstore.model.bundles import Bundle, Copy
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


def evictable(
    connection: sqlite3.Connection, *, classes: Collection[StorageClass], archived_before: float, limit: int
) -> list[ObjectVersion]:
    """Return what may leave the disk, least recently archived or read first; each class is one range of an index."""
    found: list[ObjectVersion] = []
    for storage_class in sorted(set(classes)):
        found += versions.selected(
            connection,
            "WHERE v.archive_state = 'archived' AND v.on_disk = 1 AND v.restore_phase IS NULL AND v.deleted_at IS NULL"
            " AND v.size_bytes > 0 AND v.storage_class = ? AND v.archived_at < ?"
            " ORDER BY max(v.archived_at, v.last_read_at), v.version_uid LIMIT ?",
            (storage_class.value, archived_before, limit),
        )
    return sorted(
        found,
        key=lambda version: (max(version.archived_at or 0.0, version.last_read_at), version.version_uid),
    )[:limit]


def evict(connection: sqlite3.Connection, version_uid: int, *, revision: int) -> None:
    """Take a version off the disk."""
    version = _unmoved(connection, version_uid, revision)
    if (
        version.archive_state is not ArchiveState.ARCHIVED
        or version.restore is not None
        or not version.on_disk
    ):
        raise Conflict(f"version {version_uid} may not leave the disk")
    layouts.set_state(connection, version.layout_id, "doomed")
    versions.move(connection, version_uid, {"on_disk": 0, "layout_id": ""})


def change(
    connection: sqlite3.Connection,
    version_uid: int,
    *,
    revision: int,
    restore: Restore | None,
    messages: Sequence[NewMessage],
) -> ObjectVersion:
    """Begin, extend, upgrade or end a restore."""
    version = _unmoved(connection, version_uid, revision)
    if restore is not None and restore.phase is RestorePhase.RESTORED and not version.on_disk:
        raise Conflict(f"version {version_uid} is not on disk: only complete_recall makes it restored")
    changes: dict[str, object] = dict(zip(_RESTORE, restore_row(restore), strict=True))
    if restore is None:
        _drop_recall(connection, version_uid)
        changes["recall_layout_id"] = None
    return _changed(connection, version, changes, messages)


def wanted_extents(
    connection: sqlite3.Connection, *, after: tuple[int, int], limit: int
) -> list[WantedExtent]:
    """Return extents that ongoing restores lack."""
    found = connection.execute(
        f"SELECT {MEMBER_COLUMNS}, {VERSION_COLUMNS} FROM versions AS v INDEXED BY recalled_versions"
        " CROSS JOIN members AS m ON m.version_uid = v.version_uid CROSS JOIN buckets AS b ON b.bucket_uid = v.bucket_uid"
        " WHERE v.restore_phase = 'ongoing' AND v.on_disk = 0 AND v.version_uid >= ?"
        " AND (v.version_uid > ? OR m.extent > ?) AND NOT EXISTS (SELECT 1 FROM pieces AS p"
        " WHERE p.layout_id = v.recall_layout_id AND p.ordinal = m.extent + 1)"
        " ORDER BY v.version_uid, m.extent LIMIT ?",
        (after[0], after[0], after[1], limit),
    ).fetchall()
    sources: dict[str, tuple[Bundle, tuple[Copy, ...]]] = {}
    wanted = []
    for row in found:
        member = member_of(row[:MEMBER_WIDTH])
        if member.bundle_id not in sources:
            bundle = bundles.one(connection, member.bundle_id)
            assert bundle is not None, member
            sources[member.bundle_id] = bundle, copies.readable(connection, member.bundle_id)
        bundle, readable = sources[member.bundle_id]
        wanted.append(
            WantedExtent(
                version=version_of(row[MEMBER_WIDTH:]),
                member=member,
                copies=readable,
                bundle_size_bytes=bundle.size_bytes,
                bundle_sha256=bundle.sha256,
            )
        )
    return wanted


def ongoing(connection: sqlite3.Connection, *, on_disk: bool, limit: int) -> list[ObjectVersion]:
    """Return versions with an ongoing restore, oldest request first."""
    # A literal: as a parameter SQLite would prepare it anew for each value, because a partial index might fit one of them.
    return versions.selected(
        connection,
        f"WHERE v.restore_phase = 'ongoing' AND v.on_disk = {int(on_disk)}"
        " ORDER BY v.restore_requested_at, v.version_uid LIMIT ?",
        (limit,),
    )


def add_recalled(
    connection: sqlite3.Connection, version_uid: int, *, extent: int, layout_id: str, piece: Piece
) -> bool:
    """Record an extent that came back, as part of the recall if that still wants it."""
    if piece.ordinal != extent + 1:
        raise ValueError(f"extent {extent} comes back as ordinal {extent + 1}, not {piece.ordinal}")
    version = versions.by_uid(connection, version_uid)
    is_wanted = (
        version is not None
        and version.deleted_at is None
        and not version.on_disk
        and version.restore is not None
        and version.restore.phase is RestorePhase.ONGOING
    )
    if is_wanted:
        _check_extent(connection, version_uid, extent, piece)
        recall = recall_layout(connection, version_uid)
        if recall is None:
            recall = layout_id
            # Until the recall is complete its bytes count as promised.
            layouts.begin(connection, layout_id, state="recalling", share_uid=None)
            # The revision stays: nothing that a version shows has changed.
            connection.execute(
                "UPDATE versions SET recall_layout_id = ? WHERE version_uid = ?", (layout_id, version_uid)
            )
        there = layouts.piece_at(connection, recall, piece.ordinal)
        if there is None:
            layouts.add_pieces(connection, recall, [piece])
            return True
        if there.address == piece.address:
            return True
    layouts.add_discards(connection, [piece.address], length_bytes=piece.length_bytes)
    return False


def recall_layout(connection: sqlite3.Connection, version_uid: int) -> str | None:
    """Return the layout of the recall under way."""
    row = connection.execute(
        "SELECT recall_layout_id FROM versions WHERE version_uid = ? AND deleted_at IS NULL", (version_uid,)
    ).fetchone()
    return None if row is None else row[0]


def complete(
    connection: sqlite3.Connection,
    version_uid: int,
    *,
    revision: int,
    expires_at: float,
    messages: Sequence[NewMessage],
) -> ObjectVersion:
    """Make an ongoing restore restored."""
    version = _unmoved(connection, version_uid, revision)
    if version.restore is None or version.restore.phase is not RestorePhase.ONGOING:
        raise Conflict(f"version {version_uid} has no ongoing restore")
    changes: dict[str, object] = {
        "restore_phase": RestorePhase.RESTORED.value,
        "restore_expires_at": expires_at,
        "recall_layout_id": None,
    }
    if version.on_disk:
        _drop_recall(connection, version_uid)
    else:
        recall = _whole_recall(connection, version_uid)
        layouts.set_state(connection, recall, "live")
        shares.count_in(connection, recall, shares.of_version(connection, version))
        changes |= {"on_disk": 1, "layout_id": recall}
    return _changed(connection, version, changes, messages)


def expired(connection: sqlite3.Connection, *, now: float, limit: int) -> list[ObjectVersion]:
    """Return promises that have ended, earliest first."""
    return versions.selected(
        connection,
        "WHERE v.restore_phase = 'restored' AND v.restore_expires_at <= ?"
        " ORDER BY v.restore_expires_at, v.version_uid LIMIT ?",
        (now, limit),
    )


def _existing(connection: sqlite3.Connection, version_uid: int) -> ObjectVersion:
    version = versions.by_uid(connection, version_uid)
    if version is None or version.deleted_at is not None:
        raise Conflict(f"version {version_uid} is deleted")
    return version


def _changed(
    connection: sqlite3.Connection,
    version: ObjectVersion,
    changes: Mapping[str, object],
    messages: Sequence[NewMessage],
) -> ObjectVersion:
    versions.move(connection, version.version_uid, changes)
    changed = _existing(connection, version.version_uid)
    shares.promise(connection, version, changed)
    write_messages(connection, messages)
    return changed


def _unmoved(connection: sqlite3.Connection, version_uid: int, revision: int) -> ObjectVersion:
    version = _existing(connection, version_uid)
    if version.revision != revision:
        raise Conflict(f"version {version_uid} has revision {version.revision}, not {revision}")
    return version


def _check_extent(connection: sqlite3.Connection, version_uid: int, extent: int, piece: Piece) -> None:
    """Check that what came back is what the archive holds: nothing else may ever be shown as the object."""
    held = [member for member in bundles.extents(connection, version_uid) if member.extent == extent]
    if not held or (held[0].length_bytes, held[0].crc64nvme) != (piece.length_bytes, piece.crc64nvme):
        raise ValueError(f"piece {piece.address} is not extent {extent} of version {version_uid}")


def _whole_recall(connection: sqlite3.Connection, version_uid: int) -> str:
    """Return the layout of a recall that has brought every extent."""
    recall = recall_layout(connection, version_uid)
    (there,) = connection.execute("SELECT count(*) FROM pieces WHERE layout_id = ?", (recall,)).fetchone()
    extents = bundles.extents(connection, version_uid)
    if recall is None or not extents or not there == len(extents) == extents[0].extent_count:
        raise Conflict(f"version {version_uid} has {there} of {len(extents)} extents back")
    return recall


def _drop_recall(connection: sqlite3.Connection, version_uid: int) -> None:
    recall = recall_layout(connection, version_uid)
    if recall is not None:
        layouts.set_state(connection, recall, "doomed")
