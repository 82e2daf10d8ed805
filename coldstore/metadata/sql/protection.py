"""
What is under lock may not go: the one place that every step asks which deletes versions, or publishes over them.

It is asked in the same step and there is no way around: so what is under lock stays, whoever calls. What becomes of the bytes follows
the row.
"""

from collections.abc import Iterable

from coldstore.metadata.sql import telling
from coldstore.metadata.sql.database import Database
from coldstore.model.errors import BucketTakesNoLocks, ObjectLocked
from coldstore.model.locks import UNLOCKED, BucketLock, Lock
from coldstore.model.objects import ObjectVersion
from coldstore.plan import lock as plan

_NAMES_MAX = 5
"""Versions that an audit event names."""


async def reached_at(db: Database) -> float | None:
    """Return the time by which retentions end, see ``plan.lock``; None when nothing was ever locked."""
    row = await db.row("SELECT reached_at FROM lock_clock WHERE singleton = 1")
    return None if row is None else float(row[0])


async def start_clock(db: Database, *, at: float) -> None:
    """Have the time of locks begin, unless it has."""
    await db.do(
        "INSERT INTO lock_clock (singleton, reached_at) VALUES (1, ?) ON CONFLICT (singleton) DO NOTHING",
        (at,),
    )


async def advance(db: Database, *, now: float, elapsed_seconds: float) -> float | None:
    """Move the time of locks on; return it, None when it has not begun."""
    before = await reached_at(db)
    if before is None:
        return None
    after = plan.paced(before, now=now, elapsed_seconds=elapsed_seconds)
    if after != before:
        await db.do("UPDATE lock_clock SET reached_at = ? WHERE singleton = 1", (after,))
    return after


async def demand_free(
    db: Database, leaving: Iterable[ObjectVersion], *, at: float, bypass: bool
) -> list[ObjectVersion]:
    """
    See that versions may be deleted; return those of them for which that takes the bypass of their retention.

    :param bypass: whether whoever wants it may, and wants to, bypass retentions of mode GOVERNANCE
    :raise ObjectLocked: some may not, which it names
    """
    locked = [version for version in leaving if version.lock is not UNLOCKED]
    if not locked:
        return []
    time = plan.lock_time(at, await reached_at(db))
    kept = [version for version in locked if plan.is_protected(version.lock, time, bypass=bypass)]
    if kept:
        raise ObjectLocked({place(version): plan.why(version.lock) for version in kept})
    return [version for version in locked if plan.bypassed(version.lock, time)]


async def of_new(db: Database, lock: Lock, bucket_lock: BucketLock | None, *, bucket: str, at: float) -> Lock:
    """
    Return the lock of a version that comes into being.

    :param lock: what its writer says
    :param at: when it does; by a clock that was set back a retention does not end earlier
    :raise BucketTakesNoLocks: its writer says something, and the bucket cannot keep it
    """
    if bucket_lock is None:
        if lock != UNLOCKED:
            raise BucketTakesNoLocks(bucket)
        return UNLOCKED
    if lock.retention is not None or bucket_lock.default is None:
        return lock
    return plan.new_lock(lock, bucket_lock, max(at, await reached_at(db) or at))


async def note_bypass(db: Database, found: list[ObjectVersion], *, bucket: str, at: float, who: str) -> None:
    """Write down that versions were deleted although they were retained."""
    if not found:
        return
    names = [version.name for version in found[:_NAMES_MAX]]
    more = f" and {len(found) - _NAMES_MAX} more" if len(found) > _NAMES_MAX else ""
    detail = ", ".join(names) + more
    await telling.audit(
        db, at=at, who=who, what="bypass retention, delete", subject=f"bucket {bucket}", detail=detail
    )


def place(version: ObjectVersion) -> tuple[bytes, str]:
    """Return key and version id."""
    return version.facts.key, version.facts.version_id
