"""
What is under lock, and how a lock may change. Sources: S3 User Guide, "Locking objects with Object Lock".

Every step of the metadata that deletes or overwrites versions asks this module, whoever called it.

**Which time it is.** A retention ends by the time of day, and a clock of a machine can be set to any: by mistake, or to have every
retention end at once. So the metadata keep a time of their own, ``reached_at``, that is moved on while the appliance runs, and never by more than twice
what a clock measured that nobody sets (``paced``). A retention counts as ended when the time of day says so and that time is not further
behind than ``LEEWAY_SECONDS`` (``lock_time``). After the appliance was off for long it lags, retentions end later, and it catches up at
twice the pace: the error is always to keep for longer.
"""

import math
from datetime import UTC, datetime, timedelta

from coldstore.model.locks import BucketLock, DefaultRetention, Lock, LockMode, Retention
from coldstore.plan.messages import iso_time

LEEWAY_SECONDS = 3600.0
"""How far the time of day may be ahead of the time that was measured, before it is no longer believed."""
PACE = 2.0
"""How much faster than time itself the time of locks goes at most."""


def lock_time(now: float, reached_at: float | None) -> float:
    """
    Return the time by which retentions end.

    :param now: the time of day
    :param reached_at: the time that the metadata keep; None: nothing was ever locked there
    """
    return now if reached_at is None else min(now, reached_at + LEEWAY_SECONDS)


def paced(reached_at: float, *, now: float, elapsed_seconds: float) -> float:
    """
    Return what the time that the metadata keep becomes; it never goes back.

    :param now: the time of day
    :param elapsed_seconds: what a clock that nobody sets measured since it was ``reached_at``
    """
    return max(reached_at, min(now, reached_at + PACE * max(0.0, elapsed_seconds)))


def is_protected(lock: Lock, at: float, *, bypass: bool = False) -> bool:
    """
    Whether a version may not be deleted.

    :param at: ``lock_time``
    :param bypass: whether whoever asks may, and wants to, bypass retentions of mode GOVERNANCE
    """
    return bool(lock.legal_hold) or _is_retained(lock.retention, at, bypass=bypass)


def kept_until(lock: Lock, at: float) -> float | None:
    """
    Return until when a version may not be deleted, infinite as long as nobody can say; None when it may.

    :param at: the time of day: by ``lock_time`` it may be kept for longer
    """
    if lock.legal_hold:
        return math.inf
    return lock.retention.until if lock.retention is not None and lock.retention.until > at else None


def bypassed(lock: Lock, at: float) -> bool:
    """Whether a version may be deleted by whoever bypasses GOVERNANCE, and by nobody else."""
    return is_protected(lock, at) and not is_protected(lock, at, bypass=True)


def is_loosened(retention: Retention | None, wanted: Retention | None, at: float, *, bypass: bool) -> bool:
    """
    Whether to put ``wanted`` in the place of a retention would be to break it.

    A retention that has ended binds nobody. Any may be extended. One of mode COMPLIANCE is never shortened, removed or made GOVERNANCE;
    of one of mode GOVERNANCE all of that needs the bypass, and so does making it COMPLIANCE, as at AWS.

    :param wanted: None to remove it
    :param at: ``lock_time``
    """
    if retention is None or not _is_retained(retention, at, bypass=bypass):
        return False
    return wanted is None or wanted.mode is not retention.mode or wanted.until < retention.until


def why(lock: Lock) -> str:
    """Say what keeps a version, for whoever was refused."""
    reasons = []
    if lock.legal_hold:
        reasons.append("it is under legal hold")
    if lock.retention is not None:
        reasons.append(f"it is retained in {retention_text(lock.retention)}")
    return " and ".join(reasons)


def retention_text(retention: Retention | None) -> str:
    """Say what a retention is: ``COMPLIANCE mode until ...``."""
    return "no mode" if retention is None else f"{retention.mode} mode until {iso_time(retention.until)}"


def new_lock(lock: Lock, bucket_lock: BucketLock, at: float) -> Lock:
    """
    Return the lock of a version that comes into being.

    :param lock: what its writer says
    :param at: when it comes into being
    """
    if lock.retention is not None or bucket_lock.default is None:
        return lock
    default = bucket_lock.default
    return lock._replace(retention=Retention(default.mode, _end(default, at)))


def in_milliseconds(at: float) -> float:
    """
    Return a time that S3 can show to the full: not before this one.

    Who sets a retention again as it was shown to him must not shorten it.
    """
    return math.ceil(round(at * 1000, 3)) / 1000


def _end(default: DefaultRetention, at: float) -> float:
    """Return when a retention ends that begins at a time; a year that has no such day ends it a day later."""
    begins = datetime.fromtimestamp(at, UTC)
    if not default.years:
        return in_milliseconds((begins + timedelta(days=default.days)).timestamp())
    year = begins.year + default.years
    try:
        ends = begins.replace(year=year)
    except ValueError:
        ends = begins.replace(year=year, month=3, day=1)
    return in_milliseconds(ends.timestamp())


def _is_retained(retention: Retention | None, at: float, *, bypass: bool) -> bool:
    if retention is None or retention.until <= at:
        return False
    return retention.mode is LockMode.COMPLIANCE or not bypass
