"""
What lifecycle rules come to for the store: ranges of times, how far each was gone through, and what is done to a version that is due.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from coldstore.model.objects import ObjectVersion, Pairs, StorageClass

ACTS_MAX = 10
"""Acts that one step may carry out: each may change seven rows, with those that tell of it."""
NO_UID = 0
LAST_UID = 2**63 - 1
"""Below and above the uids of all versions."""


ABORT = "abort"
"""What is done to uploads, where acts are counted by ``ActKind``."""


class Subject(StrEnum):
    """Among what a range is."""

    CURRENT = "current"
    """Versions that are under their keys, by when they came into being."""
    NONCURRENT = "noncurrent"
    """Versions and delete markers that something newer has replaced, by when that came into being."""
    MARKERS = "markers"
    """Delete markers that are current, by when they came into being."""
    UPLOADS = "uploads"
    """Multipart uploads in progress, by when they were begun."""


class Position(NamedTuple):
    """A place in the order of a range: what is at a time up to a version. ``LAST_UID``: all that is at this time or before it."""

    at: float
    version_uid: int


BEGINNING = Position(-1e18, NO_UID)
"""Before everything, as a time that every store can hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """
    The conditions of a range that the store looks at; all must hold. ``classes`` empty: any.

    Sizes are of objects as S3 shows them, the bounds not among them.
    """

    prefix: bytes = b""
    larger_than_bytes: int | None = None
    smaller_than_bytes: int | None = None
    classes: tuple[StorageClass, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DueRange:
    """
    One action of a rule: what its subject is due for ``days`` (from ``date`` on, unix seconds, if that is set).

    :ivar range_id: says all that the range means; of equal ranges it is equal, whatever their rules are called
    :ivar action: what is to happen, for people
    :ivar tags: which the store does not look at
    :ivar newer: how many noncurrent versions of the key must be newer
    """

    range_id: str
    rule_id: str
    action: str
    subject: Subject
    days: int
    date: int | None
    scope: Scope
    tags: Pairs
    newer: int


class RangeProgress(NamedTuple):
    """How far a range was gone through: everything up to ``through`` was looked at when it was due."""

    bucket_uid: int
    range_id: str
    subject: Subject
    through: Position


class Candidate(NamedTuple):
    """
    A version that may be due.

    :ivar newer: noncurrent versions of its key that are newer, delete markers not counted; only up to a bound that whoever asked knows
    :ivar is_alone: nothing else of its key lives
    """

    version: ObjectVersion
    newer: int
    is_alone: bool


class DuePage(NamedTuple):
    """
    A page of a range.

    :ivar through: up to where it goes
    :ivar is_last: nothing more is due
    """

    candidates: list[Candidate]
    through: Position
    is_last: bool


class Reason(StrEnum):
    """Why a version is to be looked at again, beside the ranges."""

    EVENT = ""
    """Something happened to it, or to others of its key, that may have made it due."""
    MORE = "more is due"
    ARCHIVE = "not yet on every tape that the class promises"
    RESTORE = "has a restored copy"
    LOCK = "locked"
    DISK = "not on disk, where the class promises it"


class Review(NamedTuple):
    """
    The duty to look at a version at a time.

    :ivar candidate: None when there is no such version any more
    """

    review_id: int
    bucket_uid: int
    reason: Reason
    candidate: Candidate | None


class Waiting(NamedTuple):
    """That a version is to be looked at again at a time (unix seconds)."""

    bucket_uid: int
    version_uid: int
    look_at: float
    reason: Reason


class WaitingCount(NamedTuple):
    """How many versions of a bucket are to be looked at again for a reason, and when the first."""

    bucket_uid: int
    reason: Reason
    versions: int
    first_at: float


class ActKind(StrEnum):
    """What is done to a version."""

    EXPIRE = "expire"
    """What is current goes; where the bucket keeps versions, a delete marker takes its place."""
    DELETE = "delete"
    """A noncurrent version, or a delete marker that is all that is left of its key, is deleted for good."""
    MOVE = "move"
    """The class changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """
    One act on a version, as it was read.

    :ivar newer: of a DELETE: how many noncurrent versions of the key must be newer
    :ivar marker_id: of an EXPIRE: the id of the delete marker, where one is put
    :ivar storage_class: of a MOVE: where to
    :ivar pools: of a MOVE: where a verified copy of it must be
    :ivar needs_disk: of a MOVE: whether its bytes must be on disk
    """

    kind: ActKind
    version: ObjectVersion
    rule_id: str
    newer: int = 0
    marker_id: str = ""
    storage_class: StorageClass | None = None
    pools: tuple[str, ...] = ()
    needs_disk: bool = False


class Outcome(StrEnum):
    """What became of an act."""

    DONE = "done"
    MOVED = "moved"
    """The version is not as it was read, or gone: look again."""
    NOT_ARCHIVED = "not archived"
    """Its class stays until it has the copies on tape that the new one asks for; what was missing of them is asked for now."""
    NOT_ON_DISK = "not on disk"
    LOCKED = "locked"
