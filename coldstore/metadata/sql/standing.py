"""
What stands under a key, and how versions of it give way to each other.

Of the living versions of a key one is *current*, the one with the greatest sequence. It is *shown*, unless it is a delete marker. Those
that are not shown are in indexes of their own, which are empty where nothing is versioned.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from coldstore.metadata.sql import protection, reviews
from coldstore.metadata.sql.database import Database
from coldstore.metadata.sql.rows import VERSION_COLUMNS, bucket_lock_of, version_of
from coldstore.metadata.sql.tally import Tally
from coldstore.model.errors import NoSuchBucket
from coldstore.model.locks import BucketLock
from coldstore.model.objects import NULL_VERSION_ID, ObjectVersion, Versioning

IS_SHOWN = "v.deleted_at IS NULL AND v.is_shown = 1"
IS_OTHER = "v.deleted_at IS NULL AND v.is_shown = 0"
"""Each as the index of those versions has it."""
NAMED = " WHERE b.name = ? AND b.is_gone = 0"
SHOWN = (
    f" FROM buckets AS b LEFT JOIN versions AS v ON v.bucket_uid = b.bucket_uid AND v.key = ? AND {IS_SHOWN}"
)
"""What is under a key (first argument) of the bucket that ``NAMED`` names."""
_WITH_ID = (
    "(SELECT a.version_uid FROM versions AS a WHERE a.bucket_uid = b.bucket_uid AND a.key = ? AND a.deleted_at IS NULL"
    " AND a.is_shown = {} AND a.version_id = ?)"
)
OF_ID = (
    " FROM buckets AS b LEFT JOIN versions AS v"
    f" ON v.version_uid = coalesce({_WITH_ID.format(1)}, {_WITH_ID.format(0)})"
)
"""The version that has an id: of a key and an id, and once more of both."""
MARKER = (
    "CASE WHEN v.version_uid IS NULL AND b.versioning <> '' THEN (SELECT m.{} FROM versions AS m"
    " WHERE m.bucket_uid = b.bucket_uid AND m.key = ? AND m.deleted_at IS NULL AND m.is_shown = 0"
    " ORDER BY m.sequence DESC LIMIT 1) END"
)
"""A column of the delete marker that is current under a key; NULL where something else is, or nothing."""
CLAIMED = (
    "SELECT 1 FROM members JOIN bundles USING (bundle_id)"
    " WHERE version_uid = {} AND bundles.state IN ('filling', 'frozen') LIMIT 1"
)
_IS_CLAIMED = f"EXISTS ({CLAIMED.format('v.version_uid')})"
UNDER = (
    f"b.bucket_uid, b.versioning, b.object_lock, b.current_through, b.noncurrent_through, {MARKER.format('version_uid')},"
    f" {_IS_CLAIMED}, {VERSION_COLUMNS}{SHOWN}{NAMED}"
)
"""An ``Under``: of a key, the key once more, and the name of its bucket."""
_NULL = (
    f"SELECT {_IS_CLAIMED}, {VERSION_COLUMNS} FROM versions AS v JOIN buckets AS b ON b.bucket_uid = v.bucket_uid"
    f" WHERE v.bucket_uid = ? AND v.key = ? AND {IS_OTHER} AND v.version_id = '{NULL_VERSION_ID}'"
)
_THIS = f"SELECT b.bucket_uid, {_IS_CLAIMED}, {VERSION_COLUMNS}{OF_ID}{NAMED}"


class Leaving(NamedTuple):
    """
    A version that may have to go.

    :ivar is_claimed: a bundle that is not archived holds an extent of it
    """

    version: ObjectVersion
    is_claimed: bool


class Under(NamedTuple):
    """
    What stands under a key of a bucket that is about to get something else.

    :ivar object_lock: of the bucket; None when versions in it cannot be locked
    :ivar current_through, noncurrent_through: up to which times the ranges of its bucket's lifecycle were gone through; None without any
    :ivar shown: what is under it
    :ivar marker_uid: the delete marker that is current instead
    """

    bucket_uid: int
    versioning: Versioning
    object_lock: BucketLock | None
    current_through: float | None
    noncurrent_through: float | None
    marker_uid: int | None
    shown: Leaving | None

    @classmethod
    def of(cls, row: Sequence[Any]) -> "Under":
        """Of ``UNDER``."""
        bucket_uid, versioning, object_lock, current_through, noncurrent_through, marker_uid, *shown = row
        return cls(
            int(bucket_uid),
            _VERSIONINGS[versioning],
            bucket_lock_of(object_lock) if object_lock else None,
            current_through,
            noncurrent_through,
            marker_uid,
            _leaving(shown),
        )

    @property
    def version(self) -> ObjectVersion | None:
        """What is under the key."""
        return None if self.shown is None else self.shown.version


_VERSIONINGS = {each.value: each for each in Versioning}


async def under_each(db: Database, bucket: str, keys: Sequence[bytes]) -> list[Under]:
    """Return what stands under each key, or raise ``NoSuchBucket``."""
    found = await db.rows_of_each(f"SELECT {UNDER}", [(key, key, bucket) for key in keys])
    if not all(found):
        raise NoSuchBucket(bucket)
    return [Under.of(rows[0]) for rows in found]


async def nulls_of(db: Database, of: Sequence[tuple[Under, bytes]]) -> list[Leaving | None]:
    """Return the null version of each key that is not shown, where the next publication would replace it."""
    asked = [(under.bucket_uid, key) for under, key in of if under.versioning is Versioning.SUSPENDED]
    found = iter(await db.rows_of_each(_NULL, asked) if asked else ())
    return [
        next(map(_leaving, next(found)), None) if under.versioning is Versioning.SUSPENDED else None
        for under, _ in of
    ]


async def these(
    db: Database, bucket: str, wanted: Sequence[tuple[bytes, str]]
) -> list[tuple[int, Leaving | None]]:
    """Return the uid of a bucket, and the version of each key and id; or raise ``NoSuchBucket``."""
    found = await db.rows_of_each(
        _THIS, [(key, version_id, key, version_id, bucket) for key, version_id in wanted]
    )
    if not all(found):
        raise NoSuchBucket(bucket)
    return [(rows[0][0], _leaving(rows[0][1:])) for rows in found]


async def give_way(db: Database, under: Under, null: Leaving | None, *, at: float, tally: Tally) -> None:
    """
    Have what stands under a key give way to something newer: what is replaced is retired, any other version superseded.

    :param null: what ``nulls_of`` says
    :raise ObjectLocked: what would be replaced is under lock
    """
    replaced = null
    if under.versioning is Versioning.UNSET or (
        under.versioning is Versioning.SUSPENDED
        and under.version is not None
        and under.version.facts.version_id == NULL_VERSION_ID
    ):
        replaced = under.shown
    if replaced is not None:
        await retire(db, [replaced], bucket_uid=under.bucket_uid, at=at, tally=tally)
    current_uid = under.marker_uid if under.version is None else under.version.version_uid
    if current_uid is not None and (replaced is None or current_uid != replaced.version.version_uid):
        await db.do(
            "UPDATE versions SET is_shown = 0, superseded_at = ?, revision = revision + 1 WHERE version_uid = ?",
            (at, current_uid),
        )
        if under.noncurrent_through is not None and at <= under.noncurrent_through:
            await reviews.note(db, under.bucket_uid, current_uid, at=at)


async def note_new(db: Database, under: Under, version: ObjectVersion) -> None:
    """Something has become current whose time the lifecycle may have gone through already: then it is to be looked at by itself."""
    at = version.facts.created_at
    if under.current_through is not None and at <= under.current_through:
        await reviews.note(db, under.bucket_uid, version.version_uid, at=at)


async def retire(
    db: Database,
    leaving: Sequence[Leaving],
    *,
    bucket_uid: int,
    at: float,
    tally: Tally,
    bypass: bool = False,
) -> list[ObjectVersion]:
    """
    Mark versions deleted. Their layouts are taken apart later, so that a batch of deletions changes one row each.

    :param bypass: whether whoever asks may, and wants to, bypass retentions of mode GOVERNANCE
    :return: those of which the retention was bypassed
    :raise ObjectLocked: one of them is under lock
    """
    bypassed = await protection.demand_free(db, [version for version, _ in leaving], at=at, bypass=bypass)
    for version, is_claimed in leaving:
        await db.do(
            "UPDATE versions SET deleted_at = ?, disposal = ?, restore_phase = NULL, restore_tier = NULL,"
            " restore_days = NULL, restore_requested_at = NULL, restore_expires_at = NULL, restore_requested_by = NULL,"
            " revision = revision + 1 WHERE version_uid = ?",
            (at, disposal(is_claimed=is_claimed), version.version_uid),
        )
        tally.leaves(version, bucket_uid)
    return bypassed


async def bring_back(db: Database, bucket_uid: int, key: bytes) -> None:
    """Have the newest version of a key be current again, because the one that was has gone."""
    await db.do(
        "UPDATE versions SET is_shown = 1 - is_marker, superseded_at = NULL, revision = revision + 1"
        " WHERE version_uid = (SELECT version_uid FROM versions WHERE bucket_uid = ? AND key = ? AND deleted_at IS NULL"
        " AND is_shown = 0 ORDER BY sequence DESC LIMIT 1)",
        (bucket_uid, key),
    )


def disposal(*, is_claimed: bool) -> str:
    """Return what is to become of the bytes of a version that is deleted."""
    return "pinned" if is_claimed else "due"


def _leaving(row: Sequence[Any]) -> Leaving | None:
    is_claimed, *columns = row
    return None if columns[0] is None else Leaving(version_of(columns), bool(is_claimed))
