"""Buckets."""

import sqlite3

from coldstore.metadata.sqlite.rows import BUCKET_COLUMNS, bucket_of
from coldstore.model.errors import BucketAlreadyOwned, BucketExists, BucketNotEmpty, NoSuchBucket
from coldstore.model.objects import Bucket, StorageClass

_REAPED_MAX = 10
"""Gone buckets without a reference that are removed along with a deletion."""


def create(
    connection: sqlite3.Connection,
    *,
    name: str,
    owner_id: str,
    region: str,
    created_at: float,
    default_class: StorageClass | None,
) -> Bucket:
    """Create a bucket."""
    held = connection.execute(
        "SELECT owner_id FROM buckets WHERE name = ? AND is_gone = 0", (name,)
    ).fetchone()
    if held is not None:
        raise BucketAlreadyOwned(name) if held[0] == owner_id else BucketExists(name)
    row = connection.execute(
        "INSERT INTO buckets (name, owner_id, region, created_at, default_class) VALUES (?, ?, ?, ?, ?)"
        f" RETURNING {BUCKET_COLUMNS}",
        (name, owner_id, region, created_at, None if default_class is None else default_class.value),
    ).fetchone()
    return bucket_of(row)


def named(connection: sqlite3.Connection, name: str) -> Bucket:
    """Return a bucket."""
    row = connection.execute(
        f"SELECT {BUCKET_COLUMNS} FROM buckets WHERE name = ? AND is_gone = 0", (name,)
    ).fetchone()
    if row is None:
        raise NoSuchBucket(name)
    return bucket_of(row)


def uid(connection: sqlite3.Connection, name: str) -> int:
    """Return the uid of a bucket, or raise ``NoSuchBucket``."""
    row = connection.execute(
        "SELECT bucket_uid FROM buckets WHERE name = ? AND is_gone = 0", (name,)
    ).fetchone()
    if row is None:
        raise NoSuchBucket(name)
    return int(row[0])


def listed(connection: sqlite3.Connection, *, owner_id: str | None, after: str, limit: int) -> list[Bucket]:
    """Return buckets by name."""
    found = connection.execute(
        f"SELECT {BUCKET_COLUMNS} FROM buckets WHERE is_gone = 0 AND name > ? AND (? IS NULL OR owner_id = ?)"
        " ORDER BY name LIMIT ?",
        (after, owner_id, owner_id, limit),
    )
    return [bucket_of(row) for row in found]


def set_default_class(
    connection: sqlite3.Connection, *, name: str, default_class: StorageClass | None
) -> None:
    """Set or clear the default class."""
    changed = connection.execute(
        "UPDATE buckets SET default_class = ? WHERE name = ? AND is_gone = 0",
        (None if default_class is None else default_class.value, name),
    )
    if changed.rowcount == 0:
        raise NoSuchBucket(name)


def delete(connection: sqlite3.Connection, name: str) -> None:
    """Mark an empty bucket as gone, and remove gone ones that nothing refers to any more."""
    bucket_uid = uid(connection, name)
    holds_one = connection.execute(
        "SELECT 1 FROM versions WHERE bucket_uid = ? AND deleted_at IS NULL LIMIT 1", (bucket_uid,)
    ).fetchone()
    if holds_one is not None:
        raise BucketNotEmpty(name)
    connection.execute("UPDATE buckets SET is_gone = 1 WHERE bucket_uid = ?", (bucket_uid,))
    connection.execute(
        """
        DELETE FROM buckets WHERE bucket_uid IN (
            SELECT bucket_uid FROM buckets AS gone WHERE is_gone = 1
                AND NOT EXISTS (SELECT 1 FROM uploads WHERE uploads.bucket_uid = gone.bucket_uid)
                AND NOT EXISTS (
                    SELECT 1 FROM versions WHERE versions.bucket_uid = gone.bucket_uid AND deleted_at IS NOT NULL)
            LIMIT ?)
        """,
        (_REAPED_MAX,),
    )
