"""Multipart uploads and their parts."""

from collections.abc import Sequence

from coldstore.interfaces.metadata import Conflict, WriteCondition
from coldstore.metadata.sql import buckets, digests, layouts, ranges, shares, standing, versions
from coldstore.metadata.sql.database import Database
from coldstore.metadata.sql.rows import (
    LOCK_COLUMNS,
    UPLOAD_COLUMNS,
    encryption_text,
    lock_of,
    lock_row,
    pairs_text,
    upload_of,
)
from coldstore.metadata.sql.runs import Runs
from coldstore.metadata.sql.tally import Share, Tally
from coldstore.model.errors import NoSuchBucket, NoSuchUpload
from coldstore.model.events import NewMessage
from coldstore.model.objects import ObjectVersion, Piece, Upload, VersionFacts

_NEW_COLUMNS = f"""
    upload_id, bucket_uid, key, owner_id, storage_class, headers, user_metadata, checksum_algorithm, checksum_kind,
    created_at, encryption, {LOCK_COLUMNS}, initiator_id"""
_JOINED = "uploads AS u JOIN buckets AS b ON b.bucket_uid = u.bucket_uid"

_NEWEST_MAX = 100
"""Superseded versions of a key among which an upload that is complete is looked for."""
_TO_PUT = (
    f"SELECT {layouts.KNOWN}, p.address, p.length_bytes FROM {_JOINED} LEFT JOIN pieces AS p"
    " ON p.layout_id = u.upload_id AND p.ordinal = ? WHERE u.upload_id = ? AND b.is_gone = 0"
)
"""All that has to be known before a part is put, in one question."""


async def create(db: Database, upload: Upload) -> None:
    """Begin an upload with an empty layout of its own."""
    bucket_uid = await buckets.uid(db, upload.bucket)
    row = (
        upload.upload_id,
        bucket_uid,
        upload.key,
        upload.owner_id,
        upload.storage_class.value,
        pairs_text(upload.headers),
        pairs_text(upload.user_metadata),
        upload.checksum_algorithm,
        None if upload.checksum_kind is None else upload.checksum_kind.value,
        upload.created_at,
        encryption_text(upload.encryption),
        *lock_row(upload.lock),
        upload.initiator_id,
    )
    share_uid = await shares.uid(db, Share(upload.owner_id, bucket_uid, upload.storage_class))
    await layouts.begin(db, upload.upload_id, state="open", share_uid=share_uid)
    await db.insert("uploads", _NEW_COLUMNS, row)
    await ranges.pull_back(db, bucket_uid, begun_at=upload.created_at)


async def one(db: Database, bucket: str, key: bytes, upload_id: str) -> Upload:
    """Return an upload of this key."""
    row = await db.row(
        f"SELECT {UPLOAD_COLUMNS} FROM {_JOINED} WHERE u.upload_id = ? AND u.bucket_uid = ? AND u.key = ?",
        (upload_id, await buckets.uid(db, bucket), key),
    )
    if row is None:
        raise NoSuchUpload(upload_id)
    return upload_of(row)


async def listed(
    db: Database,
    bucket: str,
    *,
    prefix: bytes,
    after_key: bytes,
    after_upload_id: str,
    limit: int,
) -> list[Upload]:
    """Return uploads by key and upload id."""
    clauses = ["u.bucket_uid = ?", "u.key >= ?"]
    arguments: list[object] = [await buckets.uid(db, bucket), max(prefix, after_key)]
    end = ranges.after_prefix(prefix)
    if end is not None:
        clauses.append("u.key < ?")
        arguments.append(end)
    if after_upload_id:
        clauses.append("(u.key > ? OR u.upload_id > ?)")
        arguments += [after_key, after_upload_id]
    elif after_key:
        clauses.append("u.key > ?")
        arguments.append(after_key)
    found = await db.rows(
        f"SELECT {UPLOAD_COLUMNS} FROM {_JOINED} WHERE {' AND '.join(clauses)} ORDER BY u.key, u.upload_id LIMIT ?",
        (*arguments, limit),
    )
    return [upload_of(row) for row in found]


async def put_part(db: Database, upload_id: str, piece: Piece) -> None:
    """Record a part in place of an earlier one of its number."""
    row = await db.row(_TO_PUT, (piece.address, piece.address, piece.ordinal, upload_id))
    if row is None:
        raise NoSuchUpload(upload_id)
    is_used, is_freed, earlier, earlier_bytes = row
    change_bytes = piece.length_bytes - (earlier_bytes or 0)
    # The same step again after an unknown outcome: discarding "the earlier one" would discard this one.
    is_again = earlier == piece.address
    layouts.check_address(piece.address, is_used=is_used and not is_again, is_freed=is_freed)
    if earlier is not None:
        await db.do("DELETE FROM pieces WHERE layout_id = ? AND ordinal = ?", (upload_id, piece.ordinal))
    if earlier is not None and not is_again:
        await db.insert("discards", "address, length_bytes", (earlier, earlier_bytes))
    await layouts.insert_pieces(db, upload_id, [piece])
    await shares.use(db, upload_id, change_bytes)
    await db.do("UPDATE uploads SET revision = revision + 1 WHERE upload_id = ?", (upload_id,))


async def parts(db: Database, upload_id: str, *, after_ordinal: int, limit: int) -> list[Piece]:
    """Return parts by number."""
    await _check_open(db, upload_id)
    return await layouts.pieces(db, upload_id, after_ordinal=after_ordinal, limit=limit)


async def complete(
    db: Database,
    upload_id: str,
    facts: VersionFacts,
    *,
    listed: str,
    wants_tape: bool,
    condition: WriteCondition | None,
    messages: Sequence[NewMessage],
    revision: int | None,
    part_digests: bytes,
) -> ObjectVersion:
    """Publish the parts whose numbers ``listed`` names as runs."""
    (under,) = await standing.under_each(db, facts.bucket, [facts.key])
    row = await db.row(
        f"SELECT revision, {LOCK_COLUMNS} FROM uploads WHERE upload_id = ? AND bucket_uid = ? AND key = ?",
        (upload_id, under.bucket_uid, facts.key),
    )
    if row is None:
        raise NoSuchUpload(upload_id)
    found_revision, *lock = row
    if revision is not None and found_revision != revision:
        raise Conflict(f"parts of upload {upload_id} came in meanwhile")
    has_leftovers = await _check_parts(db, upload_id, listed, size_bytes=facts.size_bytes)
    versions.check_condition(condition, under.version)
    await db.do("DELETE FROM uploads WHERE upload_id = ?", (upload_id,))
    await db.do(
        "UPDATE layouts SET state = 'live', listed = ?, leftovers_after = ? WHERE layout_id = ?",
        (listed, 0 if has_leftovers else None, upload_id),
    )
    version = await versions.make_current(
        db,
        facts,
        under=under,
        layout_id=upload_id,
        upload_id=upload_id,
        wants_tape=wants_tape,
        messages=messages,
        lock=lock_of(*lock),
        tally=Tally(),
    )
    await digests.keep(db, version.version_uid, part_digests)
    return version


async def completed(db: Database, bucket: str, key: bytes, upload_id: str) -> ObjectVersion | None:
    """Return the version that this upload became, if it is among the newest of its key."""
    try:
        bucket_uid = await buckets.uid(db, bucket)
    except NoSuchBucket:
        return None
    for newest in (
        f"WHERE v.bucket_uid = ? AND v.key = ? AND {standing.IS_SHOWN} LIMIT ?",
        f"WHERE v.bucket_uid = ? AND v.key = ? AND {standing.IS_OTHER} ORDER BY v.sequence DESC LIMIT ?",
    ):
        of_key = f"SELECT v.version_uid FROM versions AS v {newest}"
        found = await versions.selected(
            db,
            f"WHERE v.version_uid IN ({of_key}) AND v.upload_id = ?",
            (bucket_uid, key, _NEWEST_MAX, upload_id),
        )
        if found:
            return found[0]
    return None


async def abort(db: Database, bucket: str, key: bytes, upload_id: str) -> None:
    """End an upload of this key."""
    await one(db, bucket, key, upload_id)
    await abandon(db, upload_id)


async def abandoned(db: Database, limit: int) -> list[Upload]:
    """Return uploads of gone buckets."""
    found = await db.rows(
        f"SELECT {UPLOAD_COLUMNS} FROM buckets AS b"
        f" {db.dialect.nested_join} uploads AS u ON u.bucket_uid = b.bucket_uid"
        " WHERE b.is_gone = 1 ORDER BY b.bucket_uid, u.key, u.upload_id LIMIT ?",
        (limit,),
    )
    return [upload_of(row) for row in found]


async def abandon(db: Database, upload_id: str) -> None:
    """End an upload whatever its bucket."""
    ended = await db.change("DELETE FROM uploads WHERE upload_id = ?", (upload_id,))
    if ended:
        await layouts.set_state(db, upload_id, "doomed")


async def _check_open(db: Database, upload_id: str) -> None:
    found = await db.row(f"SELECT 1 FROM {_JOINED} WHERE u.upload_id = ? AND b.is_gone = 0", (upload_id,))
    if found is None:
        raise NoSuchUpload(upload_id)


async def _check_parts(db: Database, upload_id: str, listed: str, *, size_bytes: int) -> bool:
    """Check that the listed parts are there and make up the object; return whether there are others."""
    runs = Runs(listed)
    wanted = runs.count()
    found = length_bytes = others = 0
    rows = await db.rows("SELECT ordinal, length_bytes FROM pieces WHERE layout_id = ?", (upload_id,))
    for ordinal, part_bytes in rows:
        if ordinal in runs:
            found += 1
            length_bytes += part_bytes
        else:
            others += 1
    if found != wanted or length_bytes != size_bytes:
        raise Conflict(
            f"upload {upload_id} has {found} of {wanted} listed parts, {length_bytes} of {size_bytes} bytes"
        )
    return others > 0
