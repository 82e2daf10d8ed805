"""When the metadata are dumped, which dumps are kept, and what an operator should know about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from coldstore.model.dumps import Dump

SETTLE_SECONDS = 600.0
"""After a start there is other work first: a tenth of the period, so long at most."""
RETRY_SECONDS = 900.0
ROOM_FACTOR = 1.25
"""Of the last dump: what has to be free for the next one."""
ROOM_LEAST_BYTES = 64 * 2**20
LATE_FACTOR = 2
"""After so many times the period there should have been a dump, whatever was in the way."""
_PREFIX, _SUFFIX = "metadata-", ".dump.gz"
_STAMP = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class DumpPolicy:
    """How often a dump is made (None: never), and how long one is kept."""

    every_seconds: float | None
    keep_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DumpFacts:
    """
    What there is to decide upon.

    :ivar kept: the dumps that were made on schedule, in any order
    :ivar free_bytes: on their file system
    :ivar started_at: when this run began
    :ivar failed_at: when the latest attempt of this run failed, and ``failure`` why; None when it did not
    """

    now: float
    kept: Sequence[Dump]
    free_bytes: int
    started_at: float
    failed_at: float | None
    failure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DumpPlan:
    """
    What to do.

    :ivar remove: dumps that are to go
    :ivar is_due: whether one is to be made now
    :ivar look_seconds: when to look again, if not
    :ivar trouble: what an operator should know, in a sentence; empty when there is nothing
    """

    remove: tuple[Dump, ...]
    is_due: bool
    look_seconds: float
    trouble: str


def plan_dumps(facts: DumpFacts, policy: DumpPolicy) -> DumpPlan:
    """
    Decide.

    The newest dump is never removed, however old it is; one that cannot be followed by another is the last there is. One of a time
    to come, from before the clock was set back, tells nothing of when the next is due.
    """
    past = (dump for dump in facts.kept if dump.at <= facts.now)
    newest = max(past, key=lambda dump: (dump.at, dump.name), default=None)
    if policy.every_seconds is None:
        return DumpPlan(remove=(), is_due=False, look_seconds=3600.0, trouble="")
    remove = tuple(
        sorted(
            (dump for dump in facts.kept if dump is not newest and facts.now - dump.at > policy.keep_seconds),
            key=lambda dump: (dump.at, dump.name),
        )
    )
    last_at = None if newest is None else newest.at
    settled_at = facts.started_at + min(SETTLE_SECONDS, policy.every_seconds / 10)
    due_at = settled_at
    if last_at is not None:
        due_at = max(due_at, last_at + policy.every_seconds)
    if facts.failed_at is not None:
        due_at = max(due_at, facts.failed_at + RETRY_SECONDS)
    wanted_bytes = room_for(newest)
    is_time = facts.now >= due_at
    lacks_room = is_time and facts.free_bytes + sum(dump.size_bytes for dump in remove) < wanted_bytes
    return DumpPlan(
        remove=remove,
        is_due=is_time and not lacks_room,
        look_seconds=60.0 if is_time else max(1.0, min(3600.0, due_at - facts.now)),
        trouble=_trouble(facts, policy.every_seconds, last_at, settled_at, wanted_bytes if lacks_room else 0),
    )


def room_for(newest: Dump | None) -> int:
    """Return how many bytes should be free for the next dump."""
    return ROOM_LEAST_BYTES if newest is None else max(ROOM_LEAST_BYTES, int(newest.size_bytes * ROOM_FACTOR))


def _trouble(
    facts: DumpFacts, every_seconds: float, last_at: float | None, settled_at: float, wanted_bytes: int
) -> str:
    last = "there is none" if last_at is None else f"the last good one is of {_moment(last_at)}"
    if wanted_bytes:
        return (
            f"there is no room for a dump of the metadata: {facts.free_bytes >> 20} MiB are free and {wanted_bytes >> 20} MiB wanted; "
            f"{last}. Make room there, or name another directory (metadata.dumps)"
        )
    if facts.failure:
        return f"the metadata could not be dumped: {facts.failure}; {last}. It is tried again by itself"
    # A machine that was off for long is given time first.
    if facts.now - max(settled_at, last_at or 0.0) > LATE_FACTOR * every_seconds:
        return f"the metadata were not dumped for too long: {last}"
    return ""


def name_of(at: float) -> str:
    """Return the name of the file of a dump that is begun at a time; names sort as times do."""
    return f"{_PREFIX}{datetime.fromtimestamp(int(at), UTC).strftime(_STAMP)}{_SUFFIX}"


def time_of(name: str) -> float | None:
    """Return when the dump with this name was begun; None when it is no name of a dump made on schedule."""
    try:
        at = datetime.strptime(name, f"{_PREFIX}{_STAMP}{_SUFFIX}").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
    return at if name_of(at) == name else None


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
