"""Configurations of buckets: the documents themselves, and on the bucket's row which there are."""

import json
from collections.abc import Mapping

from coldstore.interfaces.metadata import StepTooLarge
from coldstore.metadata.sql import buckets
from coldstore.metadata.sql.database import Database
from coldstore.metadata.sql.rows import BUCKET_COLUMNS, bucket_of
from coldstore.model.configurations import DOCUMENT_MAX_BYTES, ConfigurationKind
from coldstore.model.errors import NoSuchBucket
from coldstore.model.locks import BucketLock
from coldstore.model.objects import Bucket, StorageClass


async def set_one(db: Database, *, name: str, kind: ConfigurationKind, document: str | None) -> Bucket:
    """Set, replace or (None) remove a document."""
    if document is not None and len(document.encode()) > DOCUMENT_MAX_BYTES:
        raise StepTooLarge(f"a document of {len(document.encode())} bytes, at most {DOCUMENT_MAX_BYTES}")
    bucket = await buckets.named(db, name)
    revisions = dict(bucket.configurations)
    if document is None and revisions.pop(kind, None) is None:
        return bucket
    await db.do(
        "DELETE FROM bucket_configurations WHERE bucket_uid = ? AND kind = ?", (bucket.bucket_uid, kind.value)
    )
    if document is not None:
        revisions[kind] = await db.number()
        await db.insert(
            "bucket_configurations",
            "bucket_uid, kind, revision, document",
            (bucket.bucket_uid, kind.value, revisions[kind], document),
        )
    row = await db.row(
        f"UPDATE buckets SET configurations = ? WHERE bucket_uid = ? RETURNING {BUCKET_COLUMNS}",
        (_text(revisions), bucket.bucket_uid),
    )
    if row is None:
        raise NoSuchBucket(name)
    return bucket_of(row)


async def create_bucket(
    db: Database,
    *,
    name: str,
    owner_id: str,
    region: str,
    created_at: float,
    default_class: StorageClass | None,
    object_lock: BucketLock | None,
    documents: Mapping[ConfigurationKind, str],
) -> Bucket:
    """Create a bucket that is configured from its beginning."""
    bucket = await buckets.create(
        db,
        name=name,
        owner_id=owner_id,
        region=region,
        created_at=created_at,
        default_class=default_class,
        object_lock=object_lock,
    )
    for kind, document in documents.items():
        bucket = await set_one(db, name=name, kind=kind, document=document)
    return bucket


async def document_of(db: Database, *, bucket_uid: int, kind: ConfigurationKind) -> str | None:
    """Return a document."""
    row = await db.row(
        "SELECT document FROM bucket_configurations WHERE bucket_uid = ? AND kind = ?",
        (bucket_uid, kind.value),
    )
    return None if row is None else str(row[0])


async def having(db: Database, *, kind: ConfigurationKind, after_uid: int, limit: int) -> list[Bucket]:
    """Return the buckets that have a document of a kind, by uid."""
    found = await db.rows(
        f"SELECT {BUCKET_COLUMNS} FROM buckets WHERE is_gone = 0 AND bucket_uid IN (SELECT bucket_uid"
        " FROM bucket_configurations WHERE kind = ? AND bucket_uid > ? ORDER BY bucket_uid LIMIT ?) ORDER BY bucket_uid",
        (kind.value, after_uid, limit),
    )
    return [bucket_of(row) for row in found]


def _text(revisions: Mapping[ConfigurationKind, int]) -> str:
    if not revisions:
        return ""
    return json.dumps({kind.value: revision for kind, revision in sorted(revisions.items())})
