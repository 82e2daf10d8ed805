"""How locks change: of versions, and of what a bucket gives to new ones. A change that would break a lock is refused here, whoever asks."""

from coldstore.interfaces.metadata import Conflict
from coldstore.metadata.sql import buckets, protection, reviews, telling, versions
from coldstore.metadata.sql.database import Database
from coldstore.metadata.sql.rows import BUCKET_COLUMNS, bucket_lock_text, bucket_of
from coldstore.model.errors import BucketTakesNoLocks, InvalidBucketState, ObjectLocked
from coldstore.model.locks import BucketLock, Lock, Retention
from coldstore.model.objects import Bucket, ObjectVersion, Versioning
from coldstore.plan import lock as plan


async def set_retention(
    db: Database, version_uid: int, *, retention: Retention | None, at: float, bypass: bool, who: str
) -> ObjectVersion:
    """Give a version a retention in place of the one that it has."""
    version = await _lockable(db, version_uid)
    before = version.lock.retention
    time = plan.lock_time(at, await protection.reached_at(db))
    if plan.is_loosened(before, retention, time, bypass=bypass):
        raise ObjectLocked({protection.place(version): plan.why(Lock(before))})
    if before == retention:
        return version
    is_bypassed = plan.is_loosened(before, retention, time, bypass=False)
    what = f"from {plan.retention_text(before)} to {plan.retention_text(retention)}"
    await telling.audit(
        db,
        at=at,
        who=who,
        what="bypass retention" if is_bypassed else "retain",
        subject=f"object {version.name}",
        detail=what,
    )
    mode, until = (None, None) if retention is None else (retention.mode.value, retention.until)
    return await _changed(db, version_uid, {"lock_mode": mode, "retain_until": until})


async def set_legal_hold(
    db: Database, version_uid: int, *, is_on: bool, at: float, who: str
) -> ObjectVersion:
    """Put a version under legal hold, or end that."""
    version = await _lockable(db, version_uid)
    if version.lock.legal_hold is is_on:
        return version
    await telling.audit(
        db,
        at=at,
        who=who,
        what="legal hold" if is_on else "end legal hold",
        subject=f"object {version.name}",
        detail="",
    )
    return await _changed(db, version_uid, {"legal_hold": int(is_on)})


async def set_of_bucket(db: Database, *, name: str, object_lock: BucketLock, at: float, who: str) -> Bucket:
    """Have a bucket take locks, or change what it gives to new versions."""
    found = await buckets.named(db, name)
    if found.versioning is not Versioning.ENABLED:
        raise InvalidBucketState(
            "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration"
        )
    text = bucket_lock_text(object_lock)
    await protection.start_clock(db, at=at)
    await telling.audit(db, at=at, who=who, what="object lock", subject=f"bucket {name}", detail=text)
    row = await db.row(
        f"UPDATE buckets SET object_lock = ? WHERE bucket_uid = ? RETURNING {BUCKET_COLUMNS}",
        (text, found.bucket_uid),
    )
    return bucket_of(row)


async def _lockable(db: Database, version_uid: int) -> ObjectVersion:
    found = await versions.by_uid(db, version_uid)
    if found is None or found.deleted_at is not None or found.is_marker:
        raise Conflict(f"version {version_uid} is gone, or a delete marker")
    row = await db.row(
        "SELECT b.object_lock FROM versions AS v JOIN buckets AS b ON b.bucket_uid = v.bucket_uid WHERE v.version_uid = ?",
        (version_uid,),
    )
    if not row[0]:
        raise BucketTakesNoLocks(found.facts.bucket)
    return found


async def _changed(db: Database, version_uid: int, changes: dict[str, object]) -> ObjectVersion:
    await versions.move(db, version_uid, changes)
    await reviews.note_changed(db, version_uid)
    changed = await versions.by_uid(db, version_uid)
    assert changed is not None
    return changed
