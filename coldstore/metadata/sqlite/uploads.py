"""Multipart uploads and their parts."""

import sqlite3
from collections.abc import Sequence

from coldstore.interfaces.metadata import Conflict, WriteCondition
from coldstore.metadata.sqlite import buckets, layouts, versions
from coldstore.metadata.sqlite.rows import UPLOAD_COLUMNS, marks, pairs_text, upload_of
from coldstore.metadata.sqlite.runs import Runs
from coldstore.model.errors import NoSuchBucket, NoSuchUpload
from coldstore.model.events import NewMessage
from coldstore.model.objects import ObjectVersion, Piece, Upload, VersionFacts

_JOINED = "uploads AS u JOIN buckets AS b ON b.bucket_uid = u.bucket_uid"


def create(connection: sqlite3.Connection, upload: Upload) -> None:
    """Begin an upload with an empty layout of its own."""
    row = (
        upload.upload_id,
        buckets.uid(connection, upload.bucket),
        upload.key,
        upload.owner_id,
        upload.storage_class.value,
        pairs_text(upload.headers),
        pairs_text(upload.user_metadata),
        upload.checksum_algorithm,
        None if upload.checksum_kind is None else upload.checksum_kind.value,
        upload.created_at,
    )
    layouts.begin(connection, upload.upload_id, state="open")
    connection.execute(
        "INSERT INTO uploads (upload_id, bucket_uid, key, owner_id, storage_class, headers, user_metadata,"
        f" checksum_algorithm, checksum_kind, created_at) VALUES ({marks(row)})",
        row,
    )


def one(connection: sqlite3.Connection, bucket: str, key: bytes, upload_id: str) -> Upload:
    """Return an upload of this key."""
    row = connection.execute(
        f"SELECT {UPLOAD_COLUMNS} FROM {_JOINED} WHERE u.upload_id = ? AND u.bucket_uid = ? AND u.key = ?",
        (upload_id, buckets.uid(connection, bucket), key),
    ).fetchone()
    if row is None:
        raise NoSuchUpload(upload_id)
    return upload_of(row)


def listed(
    connection: sqlite3.Connection,
    bucket: str,
    *,
    prefix: bytes,
    after_key: bytes,
    after_upload_id: str,
    limit: int,
) -> list[Upload]:
    """Return uploads by key and upload id."""
    clauses = ["u.bucket_uid = ?", "u.key >= ?"]
    arguments: list[object] = [buckets.uid(connection, bucket), max(prefix, after_key)]
    end = _after_prefix(prefix)
    if end is not None:
        clauses.append("u.key < ?")
        arguments.append(end)
    if after_upload_id:
        clauses.append("(u.key > ? OR u.upload_id > ?)")
        arguments += [after_key, after_upload_id]
    elif after_key:
        clauses.append("u.key > ?")
        arguments.append(after_key)
    found = connection.execute(
        f"SELECT {UPLOAD_COLUMNS} FROM {_JOINED} WHERE {' AND '.join(clauses)} ORDER BY u.key, u.upload_id LIMIT ?",
        (*arguments, limit),
    )
    return [upload_of(row) for row in found]


def put_part(connection: sqlite3.Connection, upload_id: str, piece: Piece) -> None:
    """Record a part in place of an earlier one of its number."""
    _check_open(connection, upload_id)
    earlier = layouts.piece_at(connection, upload_id, piece.ordinal)
    if earlier is not None and earlier.address == piece.address:
        # The same step again after an unknown outcome: discarding "the earlier one" would discard this one.
        connection.execute(
            "DELETE FROM pieces WHERE layout_id = ? AND ordinal = ?", (upload_id, piece.ordinal)
        )
    elif earlier is not None:
        layouts.discard_piece(connection, upload_id, piece.ordinal)
    layouts.add_pieces(connection, upload_id, [piece])
    connection.execute("UPDATE uploads SET revision = revision + 1 WHERE upload_id = ?", (upload_id,))


def parts(connection: sqlite3.Connection, upload_id: str, *, after_ordinal: int, limit: int) -> list[Piece]:
    """Return parts by number."""
    _check_open(connection, upload_id)
    return layouts.pieces(connection, upload_id, after_ordinal=after_ordinal, limit=limit)


def complete(
    connection: sqlite3.Connection,
    upload_id: str,
    facts: VersionFacts,
    *,
    listed: str,
    wants_tape: bool,
    condition: WriteCondition | None,
    messages: Sequence[NewMessage],
    revision: int | None,
) -> ObjectVersion:
    """Publish the parts whose numbers ``listed`` names as runs."""
    bucket_uid = buckets.uid(connection, facts.bucket)
    row = connection.execute(
        "SELECT revision FROM uploads WHERE upload_id = ? AND bucket_uid = ? AND key = ?",
        (upload_id, bucket_uid, facts.key),
    ).fetchone()
    if row is None:
        raise NoSuchUpload(upload_id)
    if revision is not None and row[0] != revision:
        raise Conflict(f"parts of upload {upload_id} came in meanwhile")
    has_leftovers = _check_parts(connection, upload_id, listed, size_bytes=facts.size_bytes)
    connection.execute("DELETE FROM uploads WHERE upload_id = ?", (upload_id,))
    connection.execute(
        "UPDATE layouts SET state = 'live', listed = ?, leftovers_after = ? WHERE layout_id = ?",
        (listed, 0 if has_leftovers else None, upload_id),
    )
    return versions.make_current(
        connection,
        facts,
        bucket_uid=bucket_uid,
        layout_id=upload_id,
        upload_id=upload_id,
        wants_tape=wants_tape,
        condition=condition,
        messages=messages,
    )


def completed(
    connection: sqlite3.Connection, bucket: str, key: bytes, upload_id: str
) -> ObjectVersion | None:
    """Return the current version that this upload became."""
    try:
        bucket_uid = buckets.uid(connection, bucket)
    except NoSuchBucket:
        return None
    found = versions.selected(
        connection,
        "WHERE v.bucket_uid = ? AND v.key = ? AND v.deleted_at IS NULL AND v.upload_id = ?",
        (bucket_uid, key, upload_id),
    )
    return next(iter(found), None)


def abort(connection: sqlite3.Connection, bucket: str, key: bytes, upload_id: str) -> None:
    """End an upload of this key."""
    one(connection, bucket, key, upload_id)
    abandon(connection, upload_id)


def abandoned(connection: sqlite3.Connection, limit: int) -> list[Upload]:
    """Return uploads of gone buckets."""
    found = connection.execute(
        f"SELECT {UPLOAD_COLUMNS} FROM buckets AS b CROSS JOIN uploads AS u ON u.bucket_uid = b.bucket_uid"
        " WHERE b.is_gone = 1 ORDER BY b.bucket_uid, u.key, u.upload_id LIMIT ?",
        (limit,),
    )
    return [upload_of(row) for row in found]


def abandon(connection: sqlite3.Connection, upload_id: str) -> None:
    """End an upload whatever its bucket."""
    ended = connection.execute("DELETE FROM uploads WHERE upload_id = ?", (upload_id,))
    if ended.rowcount:
        layouts.set_state(connection, upload_id, "doomed")


def _check_open(connection: sqlite3.Connection, upload_id: str) -> None:
    found = connection.execute(
        f"SELECT 1 FROM {_JOINED} WHERE u.upload_id = ? AND b.is_gone = 0", (upload_id,)
    ).fetchone()
    if found is None:
        raise NoSuchUpload(upload_id)


def _check_parts(connection: sqlite3.Connection, upload_id: str, listed: str, *, size_bytes: int) -> bool:
    """Check that the listed parts are there and make up the object; return whether there are others."""
    runs = Runs(listed)
    wanted = runs.count()
    found = length_bytes = others = 0
    rows = connection.execute("SELECT ordinal, length_bytes FROM pieces WHERE layout_id = ?", (upload_id,))
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


def _after_prefix(prefix: bytes) -> bytes | None:
    """Return the least key that is greater than every key with this prefix, None when there is none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None
