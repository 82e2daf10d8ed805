"""What leaves the disk: only bytes that are on tape as often as their class asks and that nothing promised to keep."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from coldstore.model.objects import ObjectVersion


class Preference(StrEnum):
    """Which of two copies is the better victim."""

    LRU = "lru"
    LFU = "lfu"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvictPolicy:
    """
    ``linger_seconds`` after it was archived a copy may go at any time; before that only a full disk takes it: above
    ``high_fraction`` of the capacity until ``low_fraction`` is reached.
    """

    linger_seconds: float
    high_fraction: float
    low_fraction: float
    preference: Preference


def pressure_bytes(policy: EvictPolicy, *, used_bytes: int, capacity_bytes: int) -> int:
    """Return how many bytes must go because the disk is too full; zero below the high water mark."""
    if used_bytes <= capacity_bytes * policy.high_fraction:
        return 0
    return max(0, used_bytes - int(capacity_bytes * policy.low_fraction))


def victims(
    now: float, candidates: Iterable[ObjectVersion], policy: EvictPolicy, *, pressure_bytes: int
) -> list[ObjectVersion]:
    """
    Choose among versions that may be evicted: all whose lingering is over, then the least worth keeping until the
    pressure is gone.
    """
    over: list[ObjectVersion] = []
    lingering: list[ObjectVersion] = []
    for version in candidates:
        since = max(version.archived_at or 0.0, version.last_read_at)
        (over if now - since >= policy.linger_seconds else lingering).append(version)
    freed = sum(version.facts.size_bytes for version in over)
    chosen = list(over)
    for version in sorted(lingering, key=lambda version: _worth(version, policy)):
        if freed >= pressure_bytes:
            break
        chosen.append(version)
        freed += version.facts.size_bytes
    return chosen


def _worth(version: ObjectVersion, policy: EvictPolicy) -> tuple[float, float, int]:
    since = max(version.archived_at or 0.0, version.last_read_at)
    if policy.preference is Preference.LFU:
        return float(version.read_count), since, version.version_uid
    return since, float(version.read_count), version.version_uid
