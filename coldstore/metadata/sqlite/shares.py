"""What lies on the disk for whom: sums per owner, bucket and class, kept in the steps that change them."""

import sqlite3

from coldstore.interfaces.metadata import StagingUse
from coldstore.metadata.sqlite import buckets
from coldstore.model.objects import ObjectVersion, RestorePhase, StorageClass


def uid(connection: sqlite3.Connection, *, owner_id: str, bucket_uid: int, storage_class: str) -> int:
    """Return the share of an owner's objects of a class in a bucket, made if missing."""
    key = (owner_id, bucket_uid, storage_class)
    found = connection.execute(
        "SELECT share_uid FROM shares WHERE owner_id = ? AND bucket_uid = ? AND storage_class = ?", key
    ).fetchone()
    if found is None:
        found = connection.execute(
            "INSERT INTO shares (owner_id, bucket_uid, storage_class) VALUES (?, ?, ?) RETURNING share_uid",
            key,
        ).fetchone()
    return int(found[0])


def of_version(connection: sqlite3.Connection, version: ObjectVersion) -> int:
    """Return the share that a version belongs to."""
    (bucket_uid,) = connection.execute(
        "SELECT bucket_uid FROM versions WHERE version_uid = ?", (version.version_uid,)
    ).fetchone()
    return uid(
        connection,
        owner_id=version.facts.owner_id,
        bucket_uid=bucket_uid,
        storage_class=version.facts.storage_class.value,
    )


def use(connection: sqlite3.Connection, layout_id: str, change_bytes: int) -> None:
    """The pieces of a layout became more, or (negative) fewer; a layout that nobody's share counts changes nothing."""
    if change_bytes:
        connection.execute(
            "UPDATE shares SET used_bytes = used_bytes + ?"
            " WHERE share_uid = (SELECT share_uid FROM layouts WHERE layout_id = ?)",
            (change_bytes, layout_id),
        )


def count_in(connection: sqlite3.Connection, layout_id: str, share_uid: int) -> None:
    """Count a layout, with all its pieces, that no share counted before."""
    connection.execute("UPDATE layouts SET share_uid = ? WHERE layout_id = ?", (share_uid, layout_id))
    (length_bytes,) = connection.execute(
        "SELECT coalesce(sum(length_bytes), 0) FROM pieces WHERE layout_id = ?", (layout_id,)
    ).fetchone()
    use(connection, layout_id, length_bytes)


def promised(version: ObjectVersion | None) -> int:
    """Return how many bytes a version's restore will bring to the disk."""
    if version is None or version.deleted_at is not None or version.on_disk or version.restore is None:
        return 0
    return version.facts.size_bytes if version.restore.phase is RestorePhase.ONGOING else 0


def promise(connection: sqlite3.Connection, before: ObjectVersion, after: ObjectVersion | None) -> None:
    """A version changed; ``after`` is what it is now (None: gone)."""
    change_bytes = promised(after) - promised(before)
    if change_bytes:
        connection.execute(
            "UPDATE shares SET promised_bytes = promised_bytes + ? WHERE share_uid = ?",
            (change_bytes, of_version(connection, before)),
        )


def in_use(connection: sqlite3.Connection, *, owner_id: str | None, bucket: str | None) -> list[StagingUse]:
    """Return what an owner, or a bucket, has on the disk, by class."""
    assert (owner_id is None) != (bucket is None), "of an owner or of a bucket"
    clause: str = "owner_id = ?"
    key: object = owner_id
    if bucket is not None:
        clause, key = "bucket_uid = ?", buckets.uid(connection, bucket)
    rows = connection.execute(
        "SELECT storage_class, sum(used_bytes), sum(promised_bytes) FROM shares"
        f" WHERE {clause} GROUP BY storage_class HAVING sum(used_bytes) + sum(promised_bytes) > 0",
        (key,),
    )
    return [
        StagingUse(storage_class=StorageClass(name), used_bytes=used_bytes, promised_bytes=promised_bytes)
        for name, used_bytes, promised_bytes in sorted(rows)
    ]
