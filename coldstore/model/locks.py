"""Object lock: what keeps a version from being deleted, and what a bucket gives to the versions that come into being in it."""

from enum import StrEnum
from typing import NamedTuple


class LockMode(StrEnum):
    """How strict a retention is (API enum ``ObjectLockRetentionMode``)."""

    GOVERNANCE = "GOVERNANCE"
    """Whoever may bypass it shortens and removes it, and deletes the version all the same."""
    COMPLIANCE = "COMPLIANCE"
    """Nobody does."""


class Retention(NamedTuple):
    """A version is not deleted before ``until`` (unix seconds)."""

    mode: LockMode
    until: float


class Lock(NamedTuple):
    """
    What keeps a version: a retention, which ends by itself, and a legal hold, which somebody ends.

    ``legal_hold`` is None as long as nobody has set or ended one: S3 tells that from one that was ended.
    """

    retention: Retention | None = None
    legal_hold: bool | None = None


UNLOCKED = Lock()
"""That of most versions."""


class DefaultRetention(NamedTuple):
    """What a version gets whose writer names no retention: so many days, or so many years, from its creation. One of the two is 0."""

    mode: LockMode
    days: int = 0
    years: int = 0


class BucketLock(NamedTuple):
    """Of a bucket that takes locks; it never ceases to. ``default`` is for versions whose writer names no retention."""

    default: DefaultRetention | None = None
