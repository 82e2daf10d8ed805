"""
What owners have, by bucket and class: sums kept in the steps that change them, most of them by a ``Tally``.

Here are those that follow layouts (a layout knows its share, and may have thousands of pieces), and the questions.
"""

from collections.abc import Sequence

from coldstore.interfaces.metadata import StagingUse
from coldstore.metadata.sql import buckets, users
from coldstore.metadata.sql.database import Database
from coldstore.metadata.sql.rows import marks, total
from coldstore.metadata.sql.tally import Share, Tally
from coldstore.model.objects import Bucket, ObjectVersion, StorageClass, User
from coldstore.model.quotas import Use


async def uid(db: Database, share: Share) -> int:
    """Return the number of a share, made if missing."""
    found = await db.row(
        "SELECT share_uid FROM shares WHERE owner_id = ? AND bucket_uid = ? AND storage_class = ?",
        _key(share),
    )
    return await made(db, share) if found is None else int(found[0])


async def made(db: Database, share: Share) -> int:
    """Make a share that was missing, and return its number."""
    # Another step beside this one may have found it missing, too.
    (share_uid,) = await db.row(
        "INSERT INTO shares (owner_id, bucket_uid, storage_class) VALUES (?, ?, ?)"
        " ON CONFLICT (owner_id, bucket_uid, storage_class) DO UPDATE SET owner_id = excluded.owner_id"
        " RETURNING share_uid",
        _key(share),
    )
    return int(share_uid)


async def bucket_uid_of(db: Database, version_uid: int) -> int:
    """Return the bucket that a version is in."""
    (bucket_uid,) = await db.row("SELECT bucket_uid FROM versions WHERE version_uid = ?", (version_uid,))
    return int(bucket_uid)


async def use(db: Database, layout_id: str, change_bytes: int) -> None:
    """The pieces of a layout became more, or (negative) fewer; a layout that nobody's share counts changes nothing."""
    if change_bytes:
        await db.do(
            "UPDATE shares SET used_bytes = used_bytes + ?"
            " WHERE share_uid = (SELECT share_uid FROM layouts WHERE layout_id = ?)",
            (change_bytes, layout_id),
        )


async def count_in(db: Database, tally: Tally, layout_id: str, share: Share) -> int:
    """Count a layout, with all its pieces, in a share that did not count it before; return how many bytes these have."""
    share_uid = await uid(db, share)
    await db.do("UPDATE layouts SET share_uid = ? WHERE layout_id = ?", (share_uid, layout_id))
    (length_bytes,) = await db.row(
        f"SELECT {total('length_bytes')} FROM pieces WHERE layout_id = ?", (layout_id,)
    )
    tally.stages(share, length_bytes)
    return int(length_bytes)


async def move(
    db: Database, tally: Tally, before: ObjectVersion, after: ObjectVersion, *, bucket_uid: int
) -> None:
    """
    The class or the owner of a living version changed: all that is counted of it, pieces and backlog included, goes along.

    To be called by the step that changes the row, which writes the ``tally``. It changes one row of ``layouts`` besides.

    :param after: what the version is now
    """
    tally.changes(before, after, bucket_uid)
    if before.layout_id:
        new = Share.of(after, bucket_uid)
        tally.stages(Share.of(before, bucket_uid), -await count_in(db, tally, before.layout_id, new))


async def in_use(db: Database, *, owner_id: str | None, bucket: str | None) -> list[StagingUse]:
    """Return what an owner, or a bucket, has on the disk, by class."""
    whose, key = await _whose(db, owner_id, bucket)
    rows = await db.rows(
        f"SELECT storage_class, {total('used_bytes')}, {total('promised_bytes')} FROM shares"
        f" WHERE {whose} GROUP BY storage_class HAVING sum(used_bytes) + sum(promised_bytes) > 0",
        (key,),
    )
    return [
        StagingUse(storage_class=StorageClass(name), used_bytes=used_bytes, promised_bytes=promised_bytes)
        for name, used_bytes, promised_bytes in sorted(rows)
    ]


async def use_of(db: Database, *, owner_id: str | None, bucket: str | None) -> Use:
    """Return all that quotas of an owner, or of a bucket, count."""
    whose, key = await _whose(db, owner_id, bucket)
    return Use(*await db.row(f"SELECT {_USE} FROM shares WHERE {whose}", (key,)))


async def of_users(db: Database) -> list[tuple[User, Use]]:
    """Return all users by name, with what each has."""
    rows = await db.rows(f"SELECT owner_id, {_USE} FROM shares GROUP BY owner_id")
    uses = {owner_id: Use(*use) for owner_id, *use in rows}
    return [(user, uses.get(user.user_id, Use())) for user in await users.everybody(db)]


async def of_buckets(db: Database, *, after: str, limit: int) -> list[tuple[Bucket, Use]]:
    """Return buckets by name, with what is in each."""
    found = await buckets.listed(db, owner_id=None, after=after, limit=limit)
    if not found:
        return []
    uids = [bucket.bucket_uid for bucket in found]
    rows = await db.rows(
        f"SELECT bucket_uid, {_USE} FROM shares WHERE bucket_uid IN ({marks(uids)}) GROUP BY bucket_uid", uids
    )
    uses = {bucket_uid: Use(*use) for bucket_uid, *use in rows}
    return [(bucket, uses.get(bucket.bucket_uid, Use())) for bucket in found]


_USE = ", ".join(
    total(column) for column in ("used_bytes + promised_bytes", "kept_bytes", "restore_bytes", "object_count")
)


async def _whose(db: Database, owner_id: str | None, bucket: str | None) -> tuple[str, object]:
    assert (owner_id is None) != (bucket is None), "of an owner or of a bucket"
    if bucket is not None:
        return "bucket_uid = ?", await buckets.uid(db, bucket)
    return "owner_id = ?", owner_id


def _key(share: Share) -> Sequence[object]:
    return (share.owner_id, share.bucket_uid, share.storage_class.value)
