"""Buckets."""

from collections.abc import Mapping

from coldstore.metadata.sql import protection
from coldstore.metadata.sql.database import Database
from coldstore.metadata.sql.rows import BUCKET_COLUMNS, bucket_lock_text, bucket_of, quota_assignments
from coldstore.model.errors import (
    BucketAlreadyOwned,
    BucketExists,
    BucketNotEmpty,
    InvalidBucketState,
    NoSuchBucket,
)
from coldstore.model.locks import BucketLock
from coldstore.model.objects import Bucket, StorageClass, Versioning
from coldstore.model.quotas import QuotaKind

_REAPED_MAX = 10
"""Gone buckets without a reference that are removed along with a deletion."""
_SHARES_MAX = 8
"""Shares of each that are removed with it: its owner's, of every class."""


async def create(
    db: Database,
    *,
    name: str,
    owner_id: str,
    region: str,
    created_at: float,
    default_class: StorageClass | None,
    object_lock: BucketLock | None,
) -> Bucket:
    """Create a bucket."""
    held = await db.row("SELECT owner_id FROM buckets WHERE name = ? AND is_gone = 0", (name,))
    if held is not None:
        raise BucketAlreadyOwned(name) if held[0] == owner_id else BucketExists(name)
    versioning = Versioning.UNSET
    if object_lock is not None:
        versioning = Versioning.ENABLED
        await protection.start_clock(db, at=created_at)
    row = await db.row(
        "INSERT INTO buckets (name, owner_id, region, created_at, default_class, versioning, object_lock)"
        f" VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING {BUCKET_COLUMNS}",
        (
            *(name, owner_id, region, created_at, None if default_class is None else default_class.value),
            *(versioning.value, bucket_lock_text(object_lock)),
        ),
    )
    return bucket_of(row)


async def named(db: Database, name: str) -> Bucket:
    """Return a bucket."""
    row = await db.row(f"SELECT {BUCKET_COLUMNS} FROM buckets WHERE name = ? AND is_gone = 0", (name,))
    if row is None:
        raise NoSuchBucket(name)
    return bucket_of(row)


async def uid(db: Database, name: str) -> int:
    """Return the uid of a bucket, or raise ``NoSuchBucket``."""
    row = await db.row("SELECT bucket_uid FROM buckets WHERE name = ? AND is_gone = 0", (name,))
    if row is None:
        raise NoSuchBucket(name)
    return int(row[0])


async def listed(db: Database, *, owner_id: str | None, after: str, limit: int) -> list[Bucket]:
    """Return buckets by name."""
    found = await db.rows(
        f"SELECT {BUCKET_COLUMNS} FROM buckets WHERE is_gone = 0 AND name > ? AND (? IS NULL OR owner_id = ?)"
        " ORDER BY name LIMIT ?",
        (after, owner_id, owner_id, limit),
    )
    return [bucket_of(row) for row in found]


async def set_default_class(db: Database, *, name: str, default_class: StorageClass | None) -> None:
    """Set or clear the default class."""
    changed = await db.change(
        "UPDATE buckets SET default_class = ? WHERE name = ? AND is_gone = 0",
        (None if default_class is None else default_class.value, name),
    )
    if changed == 0:
        raise NoSuchBucket(name)


async def set_quotas(db: Database, *, name: str, quotas: Mapping[QuotaKind, int | None]) -> Bucket:
    """Set quotas of a bucket."""
    assignments, values = quota_assignments(quotas)
    row = await db.row(
        f"UPDATE buckets SET {assignments} WHERE name = ? AND is_gone = 0 RETURNING {BUCKET_COLUMNS}",
        (*values, name),
    )
    if row is None:
        raise NoSuchBucket(name)
    return bucket_of(row)


async def set_versioning(db: Database, *, name: str, versioning: Versioning) -> Bucket:
    """Enable or suspend versioning."""
    if versioning is Versioning.UNSET:
        raise ValueError("versioning that was set is never unset")
    found = await named(db, name)
    if found.object_lock is not None and versioning is not Versioning.ENABLED:
        raise InvalidBucketState(
            "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed."
        )
    row = await db.row(
        f"UPDATE buckets SET versioning = ? WHERE bucket_uid = ? RETURNING {BUCKET_COLUMNS}",
        (versioning.value, found.bucket_uid),
    )
    return bucket_of(row)


async def set_restore_days_max(db: Database, *, name: str, days_max: int | None) -> Bucket:
    """Set the most days that a restore in a bucket may be asked for."""
    row = await db.row(
        f"UPDATE buckets SET restore_days_max = ? WHERE name = ? AND is_gone = 0 RETURNING {BUCKET_COLUMNS}",
        (days_max, name),
    )
    if row is None:
        raise NoSuchBucket(name)
    return bucket_of(row)


async def delete(db: Database, name: str) -> None:
    """Mark an empty bucket as gone, and remove gone ones that nothing refers to any more."""
    bucket_uid = await uid(db, name)
    # Each from an index of its own.
    holds_one = await db.row(
        " UNION ALL ".join(
            f"SELECT 1 WHERE EXISTS (SELECT 1 FROM versions WHERE bucket_uid = ? AND deleted_at IS NULL AND is_shown = {shown})"
            for shown in (1, 0)
        ),
        (bucket_uid, bucket_uid),
    )
    if holds_one is not None:
        raise BucketNotEmpty(name)
    await db.do("UPDATE buckets SET is_gone = 1, configurations = '' WHERE bucket_uid = ?", (bucket_uid,))
    await db.do("DELETE FROM bucket_configurations WHERE bucket_uid = ?", (bucket_uid,))
    reaped = await db.rows(
        """
        DELETE FROM buckets WHERE bucket_uid IN (
            SELECT bucket_uid FROM buckets AS gone WHERE is_gone = 1
                AND NOT EXISTS (SELECT 1 FROM uploads WHERE uploads.bucket_uid = gone.bucket_uid)
                AND NOT EXISTS (
                    SELECT 1 FROM versions WHERE versions.bucket_uid = gone.bucket_uid AND deleted_at IS NOT NULL)
                AND NOT EXISTS (
                    SELECT 1 FROM shares WHERE shares.bucket_uid = gone.bucket_uid AND used_bytes > 0)
            LIMIT ?)
        RETURNING bucket_uid
        """,
        (_REAPED_MAX,),
    )
    for (reaped_uid,) in reaped:
        await db.do(
            "DELETE FROM shares WHERE share_uid IN (SELECT share_uid FROM shares WHERE bucket_uid = ? LIMIT ?)",
            (reaped_uid, _SHARES_MAX),
        )
