"""Object versions: publishing, finding, listing what is current."""

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from coldstore.interfaces.metadata import Conflict, WriteCondition
from coldstore.metadata.sql import buckets, layouts, protection, shares, standing
from coldstore.metadata.sql.database import Database, Dialect
from coldstore.metadata.sql.rows import (
    LISTED_COLUMNS,
    LOCK_COLUMNS,
    PIECE_COLUMNS_OF_P,
    VERSION_COLUMNS,
    VERSION_WIDTH,
    checksum_row,
    encryption_text,
    lock_row,
    marks,
    pairs_text,
    piece_of,
    signed,
    version_of,
)
from coldstore.metadata.sql.standing import CLAIMED, Under
from coldstore.metadata.sql.tally import Share, Tally
from coldstore.metadata.sql.telling import write_messages
from coldstore.model.errors import (
    NoSuchBucket,
    NoSuchKey,
    NoSuchVersion,
    PreconditionFailed,
    ShowsDeleteMarker,
)
from coldstore.model.events import NewMessage
from coldstore.model.locks import UNLOCKED, Lock
from coldstore.model.objects import (
    NULL_VERSION_ID,
    ArchiveState,
    ListedObject,
    ListedPage,
    ObjectVersion,
    Piece,
    VersionFacts,
    Versioning,
)
from coldstore.plan.listing import BEHIND_ALL, ListingPlan

_TO_PUBLISH = (
    f"SELECT {layouts.KNOWN}, (SELECT share_uid FROM shares AS s"
    f" WHERE s.owner_id = ? AND s.bucket_uid = b.bucket_uid AND s.storage_class = ?), {standing.UNDER}"
)
"""All that has to be known before a piece is published, in one question: the database may be far away."""
# Equal in length and checksum, so it is all of the bytes.
_ONLY_PIECE = (
    " LEFT JOIN pieces AS p ON p.layout_id = v.layout_id AND p.ordinal = 1 AND p.length_bytes = v.size_bytes"
    " AND p.crc64nvme = v.crc64nvme AND v.part_sizes = ''"
)
_FOUND = f"SELECT {standing.MARKER.format('version_id')}, {VERSION_COLUMNS}{standing.SHOWN}{standing.NAMED}"
_CONTENT = (
    f"SELECT {standing.MARKER.format('version_id')}, {VERSION_COLUMNS}, {PIECE_COLUMNS_OF_P}"
    f"{standing.SHOWN}{_ONLY_PIECE}{standing.NAMED}"
)
_CONTENT_OF_ID = (
    f"SELECT {VERSION_COLUMNS}, {PIECE_COLUMNS_OF_P}{standing.OF_ID}{_ONLY_PIECE}{standing.NAMED}"
)
_NEW_COLUMNS = """
    version_uid, sequence, bucket_uid, key, version_id, size_bytes, etag, storage_class, headers, user_metadata,
    checksum_algorithm, checksum_value, checksum_kind, crc64nvme, part_sizes, created_at, owner_id, upload_id, layout_id,
    archive_state, encryption, content_bytes, master_key"""
_NEW_LOCKED_COLUMNS = f"{_NEW_COLUMNS}, {LOCK_COLUMNS}"
_BY_KEY = {
    2: f"WHERE v.bucket_uid = ? AND {standing.IS_SHOWN} AND v.key >= ? ORDER BY v.key LIMIT ?",
    3: f"WHERE v.bucket_uid = ? AND {standing.IS_SHOWN} AND v.key >= ? AND v.key < ? ORDER BY v.key LIMIT ?",
}
"""By the number of bounds."""
JOINED = "versions AS v JOIN buckets AS b ON b.bucket_uid = v.bucket_uid"


async def selected(db: Database, rest: str, arguments: Sequence[object]) -> list[ObjectVersion]:
    """Return the versions that ``rest`` (WHERE and what follows, of ``v``) selects."""
    found = await db.rows(f"SELECT {VERSION_COLUMNS} FROM {JOINED} {rest}", tuple(arguments))
    return [version_of(row) for row in found]


async def by_uid(db: Database, version_uid: int) -> ObjectVersion | None:
    """Return a version by its uid."""
    found = await selected(db, "WHERE v.version_uid = ?", (version_uid,))
    return next(iter(found), None)


async def current(db: Database, bucket: str, key: bytes) -> ObjectVersion:
    """Return what is under a key."""
    row = await db.row(_FOUND, (key, key, bucket))
    return version_of(_shown(row, bucket))


async def current_content(db: Database, bucket: str, key: bytes) -> tuple[ObjectVersion, Piece | None]:
    """Return what is under a key, with the one piece that is all of it."""
    row = await db.row(_CONTENT, (key, key, bucket))
    return _content(_shown(row, bucket))


async def content_of(
    db: Database, bucket: str, key: bytes, version_id: str
) -> tuple[ObjectVersion, Piece | None]:
    """Return the version of an id, with the one piece that is all of it."""
    row = await db.row(_CONTENT_OF_ID, (key, version_id, key, version_id, bucket))
    if row is None:
        raise NoSuchBucket(bucket)
    if row[0] is None:
        raise NoSuchVersion(bucket)
    return _content(row)


def _shown(row: Sequence[Any] | None, bucket: str) -> Sequence[Any]:
    """Return a row without the column for a delete marker, if something is under its key."""
    if row is None:
        raise NoSuchBucket(bucket)
    marker_id, *columns = row
    if columns[0] is None:
        raise NoSuchKey(bucket) if marker_id is None else ShowsDeleteMarker(bucket, marker_id)
    return columns


def _content(row: Sequence[Any]) -> tuple[ObjectVersion, Piece | None]:
    """Of ``VERSION_COLUMNS`` and ``PIECE_COLUMNS``."""
    piece = row[VERSION_WIDTH:]
    return version_of(row[:VERSION_WIDTH]), None if piece[0] is None else piece_of(piece)


async def listed(
    db: Database, bucket: str, *, from_key: bytes, before_key: bytes | None, limit: int
) -> list[ObjectVersion]:
    """Return current versions by key."""
    bounds = bounds_of(await buckets.uid(db, bucket), from_key, before_key)
    return await selected(db, _BY_KEY[len(bounds)], (*bounds, limit))


async def page(
    db: Database, bucket: str, *, prefix: bytes, delimiter: bytes, after: bytes, max_entries: int
) -> ListedPage:
    """Return a page of a listing."""
    bucket_uid = await buckets.uid(db, bucket)
    plan: ListingPlan[ListedObject] = ListingPlan(
        prefix=prefix,
        delimiter=delimiter,
        after=after,
        max_entries=max_entries,
        key_of=itemgetter(0),
        can_ask_by_entry=True,
    )
    while (fetch := plan.next_fetch()) is not None:
        from_key = max(fetch.after_key + b"\x00" if fetch.after_key else b"", fetch.from_key)
        bounds = bounds_of(bucket_uid, from_key, fetch.before_key)
        if fetch.is_by_entry:
            found = await entries(
                db, bounds, prefix_length=len(prefix), delimiter=delimiter, limit=fetch.limit
            )
        else:
            found = await db.rows(
                f"SELECT {LISTED_COLUMNS} FROM versions AS v {_BY_KEY[len(bounds)]}", (*bounds, fetch.limit)
            )
        plan.take(fetch, found)
    return ListedPage(rows=plan.rows, prefixes=plan.prefixes, last=plan.last, is_truncated=plan.is_truncated)


async def entries(
    db: Database, bounds: tuple[object, ...], *, prefix_length: int, delimiter: bytes, limit: int
) -> list[ListedObject]:
    """
    Return listed versions by key, of those that share what is before the delimiter only the first: one look into an index for each.

    :param bounds: bucket, first key, and maybe the one behind the last
    """
    bucket_uid, _, *before_key = bounds
    below = "AND v.key < ? " if before_key else ""
    found = await db.rows(
        f"""
        {
            entry_keys(
                db.dialect,
                f"SELECT v.key FROM versions AS v WHERE v.bucket_uid = ? AND {standing.IS_SHOWN} AND v.key >= {{}} {below}",
            )
        }
        SELECT {LISTED_COLUMNS} FROM (SELECT key FROM entry WHERE key IS NOT NULL LIMIT ?) AS shown
            {db.dialect.nested_join} versions AS v ON v.bucket_uid = ? AND v.key = shown.key AND {
            standing.IS_SHOWN
        }
        """,
        (
            *(prefix_length, delimiter, len(delimiter)),
            *bounds,
            *(bucket_uid, b"\x00", BEHIND_ALL, *before_key),
            *(limit, bucket_uid),
        ),
    )
    return sorted(found, key=itemgetter(0))


def entry_keys(dialect: Dialect, *selects: str) -> str:
    """
    Return the beginning of a question: ``entry`` has, in order, the keys that are first of all that share what is before a delimiter.

    Its arguments are the length of the prefix, the delimiter and its length; those of each of the ``selects``, the first key in it; and
    once more those, with ``0x00`` and ``BEHIND_ALL`` in place of that key.

    :param selects: of keys of ``v`` from ``{}`` on; one or two
    """

    def first(from_key: str) -> str:
        each = [f"({select.format(from_key)}ORDER BY v.key LIMIT 1)" for select in selects]
        if len(each) == 1:
            return each[0]
        one, two = each
        # Nothing is less than what is not there.
        return (
            f"(SELECT coalesce({dialect.least}(one.key, two.key), one.key, two.key)"
            f" FROM (SELECT {one} AS key) AS one, (SELECT {two} AS key) AS two)"
        )

    position = dialect.bytes_position.format(
        whole="substr(entry.key, asked.prefix_length + 1)", part="asked.delimiter"
    )
    behind = (
        f"CASE {position} WHEN 0 THEN CAST(entry.key || ? AS {dialect.bytes_type})"
        f" ELSE CAST(substr(entry.key, 1, asked.prefix_length + {position} + asked.delimiter_length - 1) || ?"
        f" AS {dialect.bytes_type}) END"
    )
    return (
        "WITH RECURSIVE asked (prefix_length, delimiter, delimiter_length) AS (VALUES (?, ?, ?)), entry (key) AS ("
        f"SELECT {first('?')} UNION ALL SELECT {first(behind)} FROM entry, asked WHERE entry.key IS NOT NULL)"
    )


def bounds_of(bucket_uid: int, from_key: bytes, before_key: bytes | None) -> tuple[object, ...]:
    """Return the bucket, the first key, and maybe the one behind the last."""
    bounds = (bucket_uid, from_key)
    return bounds if before_key is None else (*bounds, before_key)


async def publish(
    db: Database,
    facts: VersionFacts,
    *,
    layout_id: str,
    pieces: Sequence[Piece],
    wants_tape: bool,
    condition: WriteCondition | None,
    messages: Sequence[NewMessage],
    wanted_bucket_uid: int | None,
    lock: Lock,
) -> ObjectVersion:
    """Make a version of new pieces current."""
    storage_class = facts.storage_class.value
    first = pieces[0].address if pieces else ""
    row = await db.row(
        _TO_PUBLISH, (first, first, facts.owner_id, storage_class, facts.key, facts.key, facts.bucket)
    )
    if row is None:
        raise NoSuchBucket(facts.bucket)
    is_used, is_freed, share_uid, *columns = row
    under = Under.of(columns)
    if wanted_bucket_uid not in (None, under.bucket_uid):
        raise NoSuchBucket(facts.bucket)
    check_condition(condition, under.version)
    layouts.check_address(first, is_used=is_used, is_freed=is_freed)
    await layouts.check_addresses(db, [piece.address for piece in pieces[1:]])
    share = Share(facts.owner_id, under.bucket_uid, facts.storage_class)
    if share_uid is None:
        share_uid = await shares.made(db, share)
    tally = Tally()
    tally.stages(share, sum(piece.length_bytes for piece in pieces))
    await layouts.begin(db, layout_id, state="live", share_uid=share_uid)
    await layouts.insert_pieces(db, layout_id, pieces)
    return await make_current(
        db,
        facts,
        under=under,
        layout_id=layout_id,
        upload_id=None,
        wants_tape=wants_tape,
        messages=messages,
        lock=lock,
        tally=tally,
    )


async def make_current(
    db: Database,
    facts: VersionFacts,
    *,
    under: Under,
    layout_id: str,
    upload_id: str | None,
    wants_tape: bool,
    messages: Sequence[NewMessage],
    lock: Lock,
    tally: Tally,
) -> ObjectVersion:
    """Put a version with an existing layout under its key; what is there gives way. Writes the ``tally`` of the step."""
    lock = await protection.of_new(db, lock, under.object_lock, bucket=facts.bucket, at=facts.created_at)
    if under.versioning is not Versioning.ENABLED and facts.version_id != NULL_VERSION_ID:
        facts = facts._replace(version_id=NULL_VERSION_ID)
    elif under.versioning is Versioning.ENABLED and facts.version_id == NULL_VERSION_ID:
        raise ValueError("a version of a bucket that keeps versions needs an id of its own")
    null = None
    if under.versioning is Versioning.SUSPENDED:
        (null,) = await standing.nulls_of(db, [(under, facts.key)])
    await standing.give_way(db, under, null, at=facts.created_at, tally=tally)
    number = await db.number()
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
        lock=lock,
    )
    row = _new_row(published, bucket_uid=under.bucket_uid, upload_id=upload_id)
    if lock is UNLOCKED:
        await db.insert("versions", _NEW_COLUMNS, row)
    else:
        await db.insert("versions", _NEW_LOCKED_COLUMNS, (*row, *lock_row(lock)))
    await standing.note_new(db, under, published)
    tally.enters(published, under.bucket_uid)
    await tally.write(db)
    await write_messages(db, messages)
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
        encryption_text(facts.encryption),
        None if facts.encryption is None else facts.content_bytes,
        "" if facts.encryption is None else facts.encryption.master_key,
    )


async def those(db: Database, version_uids: Iterable[int], question: str) -> set[int]:
    """Return those versions with which a question finds a row."""
    asked = list(version_uids)
    found = await db.rows_of_each(question, [(version_uid,) for version_uid in asked])
    return {version_uid for version_uid, rows in zip(asked, found, strict=True) if rows}


async def claimed(db: Database, version_uids: Iterable[int]) -> set[int]:
    """Return those versions of which a bundle that is not archived holds an extent: their bytes are still needed."""
    return await those(db, version_uids, CLAIMED.format("?"))


async def note_reads(db: Database, reads: Mapping[int, int], *, at: float) -> None:
    """Count reads."""
    statement = (
        f"UPDATE versions SET read_count = read_count + ?, last_read_at = {db.dialect.greatest}(last_read_at, ?),"
        " revision = revision + 1 WHERE version_uid = ?"
    )
    for version_uid, count in reads.items():
        await db.do(statement, (count, at, version_uid))


async def move(db: Database, version_uid: int, changes: Mapping[str, object]) -> None:
    """Set columns of a version, and with them its next revision."""
    assignments = ", ".join(f"{column} = ?" for column in changes)
    await db.do(
        f"UPDATE versions SET {assignments}, revision = revision + 1 WHERE version_uid = ?",
        (*changes.values(), version_uid),
    )


async def change_living(db: Database, version_uid: int, changes: Mapping[str, object]) -> ObjectVersion:
    """Set columns of a version that is not deleted and no delete marker."""
    found = await by_uid(db, version_uid)
    if found is None or found.deleted_at is not None or found.is_marker:
        raise Conflict(f"version {version_uid} is gone, or a delete marker")
    await move(db, version_uid, changes)
    changed = await by_uid(db, version_uid)
    assert changed is not None
    return changed


async def set_acl(db: Database, version_uid: int, *, acl: str) -> ObjectVersion:
    """Give a version grants, as a text, in place of those it has."""
    return await change_living(db, version_uid, {"acl": acl})


async def some(db: Database, uids: Iterable[int]) -> list[ObjectVersion]:
    """Return the versions of these uids by uid."""
    wanted = tuple(uids)
    if not wanted:
        return []
    return await selected(db, f"WHERE v.version_uid IN ({marks(wanted)}) ORDER BY v.version_uid", wanted)


def check_condition(condition: WriteCondition | None, found: ObjectVersion | None) -> None:
    """Refuse a write whose condition what is under its key does not keep."""
    if condition is None:
        return
    if found is not None and condition.if_none_match in ("*", found.facts.etag):
        raise PreconditionFailed("If-None-Match")
    if condition.if_match is not None:
        if found is None:
            raise NoSuchKey("there is nothing to match")
        if condition.if_match not in ("*", found.facts.etag):
            raise PreconditionFailed("If-Match")
