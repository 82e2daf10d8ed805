"""Object versions: publishing, finding, listing, deleting."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from coldstore.interfaces.metadata import WriteCondition
from coldstore.metadata.sqlite import buckets, layouts
from coldstore.metadata.sqlite.backlog import Tally
from coldstore.metadata.sqlite.rows import (
    VERSION_COLUMNS,
    checksum_row,
    marks,
    pairs_text,
    signed,
    version_of,
)
from coldstore.metadata.sqlite.telling import write_messages
from coldstore.model.errors import NoSuchKey, PreconditionFailed
from coldstore.model.events import NewMessage
from coldstore.model.objects import ArchiveState, ObjectVersion, Piece, VersionFacts

JOINED = "versions AS v JOIN buckets AS b ON b.bucket_uid = v.bucket_uid"


def selected(connection: sqlite3.Connection, rest: str, arguments: Sequence[object]) -> list[ObjectVersion]:
    """Return the versions that ``rest`` (WHERE and what follows, of ``v``) selects."""
    found = connection.execute(f"SELECT {VERSION_COLUMNS} FROM {JOINED} {rest}", tuple(arguments))
    return [version_of(row) for row in found]


def by_uid(connection: sqlite3.Connection, version_uid: int) -> ObjectVersion | None:
    """Return a version by its uid."""
    return next(iter(selected(connection, "WHERE v.version_uid = ?", (version_uid,))), None)


def current_in(connection: sqlite3.Connection, bucket_uid: int, key: bytes) -> ObjectVersion | None:
    """Return what is under a key of a bucket, None when nothing is."""
    found = selected(
        connection, "WHERE v.bucket_uid = ? AND v.key = ? AND v.deleted_at IS NULL", (bucket_uid, key)
    )
    return next(iter(found), None)


def current(connection: sqlite3.Connection, bucket: str, key: bytes) -> ObjectVersion:
    """Return what is under a key."""
    found = current_in(connection, buckets.uid(connection, bucket), key)
    if found is None:
        raise NoSuchKey(bucket)
    return found


def listed(
    connection: sqlite3.Connection, bucket: str, *, from_key: bytes, before_key: bytes | None, limit: int
) -> list[ObjectVersion]:
    """Return current versions by key."""
    arguments: list[Any] = [buckets.uid(connection, bucket), from_key]
    bounded = ""
    if before_key is not None:
        bounded = "AND v.key < ?"
        arguments.append(before_key)
    return selected(
        connection,
        f"WHERE v.bucket_uid = ? AND v.deleted_at IS NULL AND v.key >= ? {bounded} ORDER BY v.key LIMIT ?",
        (*arguments, limit),
    )


def publish(
    connection: sqlite3.Connection,
    facts: VersionFacts,
    *,
    layout_id: str,
    pieces: Sequence[Piece],
    wants_tape: bool,
    condition: WriteCondition | None,
    messages: Sequence[NewMessage],
) -> ObjectVersion:
    """Make a version of new pieces current."""
    bucket_uid = buckets.uid(connection, facts.bucket)
    layouts.begin(connection, layout_id, state="live")
    layouts.add_pieces(connection, layout_id, pieces)
    return make_current(
        connection,
        facts,
        bucket_uid=bucket_uid,
        layout_id=layout_id,
        upload_id=None,
        wants_tape=wants_tape,
        condition=condition,
        messages=messages,
    )


def make_current(
    connection: sqlite3.Connection,
    facts: VersionFacts,
    *,
    bucket_uid: int,
    layout_id: str,
    upload_id: str | None,
    wants_tape: bool,
    condition: WriteCondition | None,
    messages: Sequence[NewMessage],
) -> ObjectVersion:
    """Put a version with an existing layout under its key, in place of what is there, if the condition holds."""
    replaced = current_in(connection, bucket_uid, facts.key)
    _check_condition(condition, replaced)
    tally = Tally()
    if replaced is not None:
        _retire(connection, replaced, at=facts.created_at)
        tally.leaves(replaced)
    row: dict[str, Any] = {
        "version_uid": _next_number(connection),
        "bucket_uid": bucket_uid,
        "key": facts.key,
        "version_id": facts.version_id,
        "size_bytes": facts.size_bytes,
        "etag": facts.etag,
        "storage_class": facts.storage_class.value,
        "headers": pairs_text(facts.headers),
        "user_metadata": pairs_text(facts.user_metadata),
        "crc64nvme": signed(facts.crc64nvme),
        "part_sizes": facts.part_sizes,
        "created_at": facts.created_at,
        "owner_id": facts.owner_id,
        "upload_id": upload_id,
        "layout_id": layout_id,
        "archive_state": (ArchiveState.PENDING if wants_tape else ArchiveState.NOT_WANTED).value,
    }
    row["sequence"] = row["version_uid"]
    row["checksum_algorithm"], row["checksum_value"], row["checksum_kind"] = checksum_row(facts.checksum)
    connection.execute(
        f"INSERT INTO versions ({', '.join(row)}) VALUES ({marks(tuple(row))})", tuple(row.values())
    )
    published = by_uid(connection, row["version_uid"])
    assert published is not None
    tally.enters(published)
    tally.write(connection)
    write_messages(connection, messages)
    return published


def delete_current(
    connection: sqlite3.Connection,
    bucket: str,
    keys: Sequence[bytes],
    *,
    at: float,
    messages: Mapping[bytes, NewMessage],
    if_match: str | None,
) -> list[ObjectVersion]:
    """Delete what is under the keys."""
    if if_match is not None and len(keys) != 1:
        raise ValueError("if_match is for one key")
    bucket_uid = buckets.uid(connection, bucket)
    gone = []
    tally = Tally()
    for key in dict.fromkeys(keys):
        version = current_in(connection, bucket_uid, key)
        if version is None:
            continue
        if if_match is not None and if_match not in ("*", version.facts.etag):
            raise PreconditionFailed(bucket)
        _retire(connection, version, at=at)
        tally.leaves(version)
        gone.append(version)
    tally.write(connection)
    write_messages(
        connection, [messages[version.facts.key] for version in gone if version.facts.key in messages]
    )
    return gone


def is_claimed(connection: sqlite3.Connection, version_uid: int) -> bool:
    """Tell whether a bundle that is not archived holds an extent of the version: its bytes are still needed then."""
    found = connection.execute(
        "SELECT 1 FROM members JOIN bundles USING (bundle_id)"
        " WHERE version_uid = ? AND bundles.state IN ('filling', 'frozen') LIMIT 1",
        (version_uid,),
    )
    return found.fetchone() is not None


def note_reads(connection: sqlite3.Connection, reads: Mapping[int, int], *, at: float) -> None:
    """Count reads."""
    connection.executemany(
        "UPDATE versions SET read_count = read_count + ?, last_read_at = max(last_read_at, ?), revision = revision + 1"
        " WHERE version_uid = ?",
        [(count, at, version_uid) for version_uid, count in reads.items()],
    )


def move(connection: sqlite3.Connection, version_uid: int, changes: Mapping[str, object]) -> None:
    """Set columns of a version, and with them its next revision."""
    assignments = ", ".join(f"{column} = ?" for column in changes)
    connection.execute(
        f"UPDATE versions SET {assignments}, revision = revision + 1 WHERE version_uid = ?",
        (*changes.values(), version_uid),
    )


def some(connection: sqlite3.Connection, uids: Iterable[int]) -> list[ObjectVersion]:
    """Return the versions of these uids by uid."""
    wanted = tuple(uids)
    return selected(connection, f"WHERE v.version_uid IN ({marks(wanted)}) ORDER BY v.version_uid", wanted)


def _retire(connection: sqlite3.Connection, version: ObjectVersion, *, at: float) -> None:
    """
    Mark a version deleted. Its layouts are taken apart later, so that a batch of deletions changes one row each.
    """
    disposal = "pinned" if is_claimed(connection, version.version_uid) else "due"
    connection.execute(
        "UPDATE versions SET deleted_at = ?, disposal = ?, restore_phase = NULL, restore_tier = NULL,"
        " restore_days = NULL, restore_requested_at = NULL, restore_expires_at = NULL, restore_requested_by = NULL,"
        " revision = revision + 1 WHERE version_uid = ?",
        (at, disposal, version.version_uid),
    )


def _check_condition(condition: WriteCondition | None, found: ObjectVersion | None) -> None:
    if condition is None:
        return
    if condition.if_none_match and found is not None:
        raise PreconditionFailed("the key exists")
    if condition.if_match is not None:
        if found is None:
            raise NoSuchKey("there is nothing to match")
        if condition.if_match not in ("*", found.facts.etag):
            raise PreconditionFailed("the ETag is another one")


def _next_number(connection: sqlite3.Connection) -> int:
    (number,) = connection.execute(
        "UPDATE store SET last_version = last_version + 1 RETURNING last_version"
    ).fetchone()
    return int(number)
