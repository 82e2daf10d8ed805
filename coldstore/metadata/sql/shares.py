"""What lies on the disk for whom: sums per owner, bucket and class, kept in the steps that change them."""

from coldstore.interfaces.metadata import StagingUse
from coldstore.metadata.sql import buckets
from coldstore.metadata.sql.database import Database
from coldstore.metadata.sql.rows import total
from coldstore.model.objects import ObjectVersion, RestorePhase, StorageClass


async def uid(db: Database, *, owner_id: str, bucket_uid: int, storage_class: str) -> int:
    """Return the share of an owner's objects of a class in a bucket, made if missing."""
    key = (owner_id, bucket_uid, storage_class)
    found = await db.row(
        "SELECT share_uid FROM shares WHERE owner_id = ? AND bucket_uid = ? AND storage_class = ?", key
    )
    if found is None:
        return await _made(db, *key)
    return int(found[0])


async def grow(
    db: Database,
    share_uid: int | None,
    *,
    owner_id: str,
    bucket_uid: int,
    storage_class: str,
    change_bytes: int,
) -> int:
    """
    Count bytes in the share of an owner's objects of a class in a bucket, and return it.

    :param share_uid: of that share; None when it is missing, and made
    """
    if share_uid is None:
        share_uid = await _made(db, owner_id, bucket_uid, storage_class)
    row = (owner_id, bucket_uid, storage_class, change_bytes)
    await db.add("shares", "owner_id, bucket_uid, storage_class", "used_bytes", row)
    return share_uid


async def _made(db: Database, owner_id: str, bucket_uid: int, storage_class: str) -> int:
    # Another step beside this one may have found it missing, too.
    (share_uid,) = await db.row(
        "INSERT INTO shares (owner_id, bucket_uid, storage_class) VALUES (?, ?, ?)"
        " ON CONFLICT (owner_id, bucket_uid, storage_class) DO UPDATE SET owner_id = excluded.owner_id"
        " RETURNING share_uid",
        (owner_id, bucket_uid, storage_class),
    )
    return int(share_uid)


async def of_version(db: Database, version: ObjectVersion) -> int:
    """Return the share that a version belongs to."""
    (bucket_uid,) = await db.row(
        "SELECT bucket_uid FROM versions WHERE version_uid = ?", (version.version_uid,)
    )
    return await uid(
        db,
        owner_id=version.facts.owner_id,
        bucket_uid=bucket_uid,
        storage_class=version.facts.storage_class.value,
    )


async def use(db: Database, layout_id: str, change_bytes: int) -> None:
    """The pieces of a layout became more, or (negative) fewer; a layout that nobody's share counts changes nothing."""
    if change_bytes:
        await db.do(
            "UPDATE shares SET used_bytes = used_bytes + ?"
            " WHERE share_uid = (SELECT share_uid FROM layouts WHERE layout_id = ?)",
            (change_bytes, layout_id),
        )


async def count_in(db: Database, layout_id: str, share_uid: int) -> None:
    """Count a layout, with all its pieces, that no share counted before."""
    await db.do("UPDATE layouts SET share_uid = ? WHERE layout_id = ?", (share_uid, layout_id))
    (length_bytes,) = await db.row(
        f"SELECT {total('length_bytes')} FROM pieces WHERE layout_id = ?", (layout_id,)
    )
    await use(db, layout_id, length_bytes)


def promised(version: ObjectVersion | None) -> int:
    """Return how many bytes a version's restore will bring to the disk."""
    if version is None or version.deleted_at is not None or version.on_disk or version.restore is None:
        return 0
    return version.facts.size_bytes if version.restore.phase is RestorePhase.ONGOING else 0


async def promise(db: Database, before: ObjectVersion, after: ObjectVersion | None) -> None:
    """A version changed; ``after`` is what it is now (None: gone)."""
    change_bytes = promised(after) - promised(before)
    if change_bytes:
        await db.do(
            "UPDATE shares SET promised_bytes = promised_bytes + ? WHERE share_uid = ?",
            (change_bytes, await of_version(db, before)),
        )


async def in_use(db: Database, *, owner_id: str | None, bucket: str | None) -> list[StagingUse]:
    """Return what an owner, or a bucket, has on the disk, by class."""
    assert (owner_id is None) != (bucket is None), "of an owner or of a bucket"
    clause: str = "owner_id = ?"
    key: object = owner_id
    if bucket is not None:
        clause, key = "bucket_uid = ?", await buckets.uid(db, bucket)
    rows = await db.rows(
        f"SELECT storage_class, {total('used_bytes')}, {total('promised_bytes')} FROM shares"
        f" WHERE {clause} GROUP BY storage_class HAVING sum(used_bytes) + sum(promised_bytes) > 0",
        (key,),
    )
    return [
        StagingUse(storage_class=StorageClass(name), used_bytes=used_bytes, promised_bytes=promised_bytes)
        for name, used_bytes, promised_bytes in sorted(rows)
    ]
