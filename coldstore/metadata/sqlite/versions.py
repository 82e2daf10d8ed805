"""Object versions: publishing, finding, listing, deleting."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from coldstore.interfaces.metadata import WriteCondition
from coldstore.metadata.sqlite import buckets, layouts, shares
from coldstore.metadata.sqlite.backlog import Tally
from coldstore.metadata.sqlite.rows import (
    LISTED_COLUMNS,
    PIECE_COLUMNS_OF_P,
    VERSION_COLUMNS,
    VERSION_WIDTH,
    checksum_row,
    marks,
    pairs_text,
    piece_of,
    signed,
    version_of,
)
from coldstore.metadata.sqlite.telling import write_messages
from coldstore.model.errors import NoSuchBucket, NoSuchKey, PreconditionFailed
from coldstore.model.events import NewMessage
from coldstore.model.objects import ArchiveState, ListedObject, ObjectVersion, Piece, VersionFacts

_UNDER = (
    f"SELECT b.bucket_uid, {VERSION_COLUMNS} FROM buckets AS b LEFT JOIN versions AS v"
    " ON v.bucket_uid = b.bucket_uid AND v.key = ? AND v.deleted_at IS NULL"
    " WHERE b.name = ? AND b.is_gone = 0"
)
_CONTENT = (
    f"SELECT {VERSION_COLUMNS}, {PIECE_COLUMNS_OF_P} FROM buckets AS b LEFT JOIN versions AS v"
    " ON v.bucket_uid = b.bucket_uid AND v.key = ? AND v.deleted_at IS NULL"
    # Equal in length and checksum, so it is all of the bytes.
    " LEFT JOIN pieces AS p ON p.layout_id = v.layout_id AND p.ordinal = 1 AND p.length_bytes = v.size_bytes"
    " AND p.crc64nvme = v.crc64nvme AND v.part_sizes = '' WHERE b.name = ? AND b.is_gone = 0"
)
_NEW_COLUMNS = """
    version_uid, sequence, bucket_uid, key, version_id, size_bytes, etag, storage_class, headers, user_metadata,
    checksum_algorithm, checksum_value, checksum_kind, crc64nvme, part_sizes, created_at, owner_id, upload_id, layout_id,
    archive_state"""
_INSERT = f"INSERT INTO versions ({_NEW_COLUMNS}) VALUES ({marks(_NEW_COLUMNS.split(','))})"
_BY_KEY = {
    2: "WHERE v.bucket_uid = ? AND v.deleted_at IS NULL AND v.key >= ? ORDER BY v.key LIMIT ?",
    3: "WHERE v.bucket_uid = ? AND v.deleted_at IS NULL AND v.key >= ? AND v.key < ? ORDER BY v.key LIMIT ?",
}
"""By the number of bounds."""
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


def found_under(connection: sqlite3.Connection, bucket: str, key: bytes) -> tuple[int, ObjectVersion | None]:
    """Return the uid of a bucket and what is under a key of it, or raise ``NoSuchBucket``."""
    row = connection.execute(_UNDER, (key, bucket)).fetchone()
    if row is None:
        raise NoSuchBucket(bucket)
    bucket_uid, *columns = row
    return int(bucket_uid), None if columns[0] is None else version_of(columns)


def current(connection: sqlite3.Connection, bucket: str, key: bytes) -> ObjectVersion:
    """Return what is under a key."""
    _, found = found_under(connection, bucket, key)
    if found is None:
        raise NoSuchKey(bucket)
    return found


def current_content(
    connection: sqlite3.Connection, bucket: str, key: bytes
) -> tuple[ObjectVersion, Piece | None]:
    """Return what is under a key, with the one piece that is all of it."""
    row = connection.execute(_CONTENT, (key, bucket)).fetchone()
    if row is None:
        raise NoSuchBucket(bucket)
    if row[0] is None:
        raise NoSuchKey(bucket)
    piece = row[VERSION_WIDTH:]
    return version_of(row[:VERSION_WIDTH]), None if piece[0] is None else piece_of(piece)


def listed(
    connection: sqlite3.Connection, bucket: str, *, from_key: bytes, before_key: bytes | None, limit: int
) -> list[ObjectVersion]:
    """Return current versions by key."""
    bounds = _bounds(connection, bucket, from_key, before_key)
    return selected(connection, _BY_KEY[len(bounds)], (*bounds, limit))


def listed_objects(
    connection: sqlite3.Connection, bucket: str, *, from_key: bytes, before_key: bytes | None, limit: int
) -> list[ListedObject]:
    """Return current versions by key, as a listing shows them."""
    bounds = _bounds(connection, bucket, from_key, before_key)
    found = connection.execute(
        f"SELECT {LISTED_COLUMNS} FROM versions AS v {_BY_KEY[len(bounds)]}", (*bounds, limit)
    )
    return found.fetchall()


def _bounds(
    connection: sqlite3.Connection, bucket: str, from_key: bytes, before_key: bytes | None
) -> tuple[object, ...]:
    bounds = (buckets.uid(connection, bucket), from_key)
    return bounds if before_key is None else (*bounds, before_key)


def publish(
    connection: sqlite3.Connection,
    facts: VersionFacts,
    *,
    layout_id: str,
    pieces: Sequence[Piece],
    wants_tape: bool,
    condition: WriteCondition | None,
    messages: Sequence[NewMessage],
    wanted_bucket_uid: int | None,
) -> ObjectVersion:
    """Make a version of new pieces current."""
    bucket_uid, replaced = found_under(connection, facts.bucket, facts.key)
    if wanted_bucket_uid not in (None, bucket_uid):
        raise NoSuchBucket(facts.bucket)
    check_condition(condition, replaced)
    share_uid = shares.grow(
        connection,
        owner_id=facts.owner_id,
        bucket_uid=bucket_uid,
        storage_class=facts.storage_class.value,
        change_bytes=sum(piece.length_bytes for piece in pieces),
    )
    layouts.begin(connection, layout_id, state="live", share_uid=share_uid)
    layouts.insert_pieces(connection, layout_id, pieces)
    return make_current(
        connection,
        facts,
        bucket_uid=bucket_uid,
        replaced=replaced,
        layout_id=layout_id,
        upload_id=None,
        wants_tape=wants_tape,
        messages=messages,
    )


def make_current(
    connection: sqlite3.Connection,
    facts: VersionFacts,
    *,
    bucket_uid: int,
    replaced: ObjectVersion | None,
    layout_id: str,
    upload_id: str | None,
    wants_tape: bool,
    messages: Sequence[NewMessage],
) -> ObjectVersion:
    """Put a version with an existing layout under its key, in place of what is there."""
    tally = Tally()
    if replaced is not None:
        _retire(connection, replaced, at=facts.created_at)
        tally.leaves(replaced)
    number = _next_number(connection)
    published = ObjectVersion(
        version_uid=number,
        sequence=number,
        facts=facts,
        layout_id=layout_id,
        on_disk=True,
        archive_state=ArchiveState.PENDING if wants_tape else ArchiveState.NOT_WANTED,
        archived_at=None,
        restore=None,
        last_read_at=0.0,
        read_count=0,
        deleted_at=None,
        revision=0,
    )
    connection.execute(_INSERT, _new_row(published, bucket_uid=bucket_uid, upload_id=upload_id))
    tally.enters(published)
    tally.write(connection)
    write_messages(connection, messages)
    return published


def _new_row(version: ObjectVersion, *, bucket_uid: int, upload_id: str | None) -> tuple[object, ...]:
    """Return ``_NEW_COLUMNS``; the others have defaults, which ``make_current`` knows."""
    facts = version.facts
    return (
        version.version_uid,
        version.sequence,
        bucket_uid,
        facts.key,
        facts.version_id,
        facts.size_bytes,
        facts.etag,
        facts.storage_class.value,
        pairs_text(facts.headers),
        pairs_text(facts.user_metadata),
        *checksum_row(facts.checksum),
        signed(facts.crc64nvme),
        facts.part_sizes,
        facts.created_at,
        facts.owner_id,
        upload_id,
        version.layout_id,
        version.archive_state.value,
    )


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
    shares.promise(connection, version, None)
    disposal = "pinned" if is_claimed(connection, version.version_uid) else "due"
    connection.execute(
        "UPDATE versions SET deleted_at = ?, disposal = ?, restore_phase = NULL, restore_tier = NULL,"
        " restore_days = NULL, restore_requested_at = NULL, restore_expires_at = NULL, restore_requested_by = NULL,"
        " revision = revision + 1 WHERE version_uid = ?",
        (at, disposal, version.version_uid),
    )


def check_condition(condition: WriteCondition | None, found: ObjectVersion | None) -> None:
    """Refuse a write whose condition what is under its key does not keep."""
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
