"""
Versions that are to be looked at by the lifecycle beside its ranges: because of what happened to them, or because something keeps them for now.

A row is a duty, and a version may have several. Whoever has done one removes it by its number, so none that came in meanwhile is lost.
"""

from collections.abc import Sequence

from coldstore.metadata.sql.database import Database
from coldstore.metadata.sql.ranges import candidate_columns, candidate_of
from coldstore.metadata.sql.rows import marks
from coldstore.model.due import Candidate, Reason, Review, Waiting, WaitingCount

NEWER_MAX = 100
"""As many newer versions may a rule demand (S3 API: NewerNoncurrentVersions)."""
_NEW = "INSERT INTO lifecycle_reviews (bucket_uid, version_uid, look_at, reason) "
_NOTED = f"{_NEW}SELECT v.bucket_uid, v.version_uid, ?, '' FROM versions AS v JOIN buckets AS b ON b.bucket_uid = v.bucket_uid"
_IS_GOVERNED = "(b.current_through IS NOT NULL OR b.noncurrent_through IS NOT NULL)"


async def note(db: Database, bucket_uid: int, version_uid: int, *, at: float) -> None:
    """Something happened to a version of a bucket that has rules."""
    await db.insert(
        "lifecycle_reviews", "bucket_uid, version_uid, look_at, reason", (bucket_uid, version_uid, at, "")
    )


async def note_changed(db: Database, version_uid: int) -> None:
    """What rules look at has changed of a version, which is of interest only where there are any: it is looked at at once."""
    await db.do(f"{_NOTED} WHERE v.version_uid = ? AND {_IS_GOVERNED}", (0.0, version_uid))


async def note_shown(db: Database, bucket_uid: int, key: bytes, *, at: float) -> None:
    """What is under a key may have become so just now."""
    await db.do(
        f"{_NOTED} WHERE v.bucket_uid = ? AND v.key = ? AND v.deleted_at IS NULL AND v.is_shown = 1"
        " AND b.current_through IS NOT NULL",
        (at, bucket_uid, key),
    )


async def note_marker(db: Database, bucket_uid: int, key: bytes, *, at: float) -> None:
    """The delete marker that is current of a key may be all that is left of it, or have become current just now."""
    await db.do(
        f"{_NOTED} WHERE v.bucket_uid = ? AND v.key = ? AND v.deleted_at IS NULL AND v.is_shown = 0"
        " AND v.superseded_at IS NULL AND b.current_through IS NOT NULL",
        (at, bucket_uid, key),
    )


async def wake(db: Database, version_uids: Sequence[int], *, reason: Reason, at: float) -> None:
    """What versions may wait for is over: those that do are looked at again."""
    if version_uids:
        await db.do(
            f"UPDATE lifecycle_reviews SET look_at = ? WHERE version_uid IN ({marks(version_uids)}) AND look_at > ?"
            " AND reason = ?",
            (at, *version_uids, at, reason.value),
        )


async def due(db: Database, *, now: float, limit: int) -> list[Review]:
    """Return duties whose time has come, the oldest first."""
    found = await db.rows(
        f"SELECT r.review_id, r.bucket_uid, r.reason, {candidate_columns(NEWER_MAX)} FROM lifecycle_reviews AS r"
        " LEFT JOIN versions AS v ON v.version_uid = r.version_uid AND v.deleted_at IS NULL"
        " LEFT JOIN buckets AS b ON b.bucket_uid = v.bucket_uid"
        " WHERE r.look_at <= ? ORDER BY r.look_at, r.review_id LIMIT ?",
        (now, limit),
    )
    return [
        Review(review_id, bucket_uid, Reason(reason), None if columns[0] is None else candidate_of(columns))
        for review_id, bucket_uid, reason, *columns in found
    ]


async def keep(db: Database, *, done: Sequence[int], waiting: Sequence[Waiting]) -> None:
    """Remove duties that are done, and have versions looked at again; of each that waits there is one duty."""
    if done:
        await db.do(f"DELETE FROM lifecycle_reviews WHERE review_id IN ({marks(done)})", tuple(done))
    for each in waiting:
        await db.do(
            "DELETE FROM lifecycle_reviews WHERE version_uid = ? AND reason <> ''", (each.version_uid,)
        )
        await db.insert(
            "lifecycle_reviews",
            "bucket_uid, version_uid, look_at, reason",
            (each.bucket_uid, each.version_uid, each.look_at, each.reason.value),
        )


async def noncurrent_of_key(db: Database, version_uid: int, *, limit: int) -> list[Candidate]:
    """Return what is not current of the key of a version, newest first."""
    found = await db.rows(
        f"SELECT {candidate_columns(NEWER_MAX)} FROM versions AS of_key"
        " JOIN versions AS v ON v.bucket_uid = of_key.bucket_uid AND v.key = of_key.key"
        " AND v.deleted_at IS NULL AND v.is_shown = 0 AND v.superseded_at IS NOT NULL"
        " JOIN buckets AS b ON b.bucket_uid = v.bucket_uid"
        " WHERE of_key.version_uid = ? ORDER BY v.sequence DESC LIMIT ?",
        (version_uid, limit),
    )
    return [candidate_of(row) for row in found]


async def counts(db: Database) -> list[WaitingCount]:
    """Count what waits, by bucket and reason."""
    found = await db.rows(
        "SELECT bucket_uid, reason, count(*), min(look_at) FROM lifecycle_reviews"
        " GROUP BY bucket_uid, reason ORDER BY bucket_uid, reason"
    )
    return [
        WaitingCount(bucket_uid, Reason(reason), count, first) for bucket_uid, reason, count, first in found
    ]
