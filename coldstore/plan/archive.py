"""When to make bundles, and of what."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

BLOCK_BYTES = 4 * 1024 * 1024
"""Objects are split at multiples of the checksum block, so that every extent's checksum follows from recorded ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivePolicy:
    """
    Thresholds of the archive (sizes in bytes, ages in seconds).

    A bundle is begun when the waiting objects of a set of pools reach ``trigger_bytes`` or ``trigger_objects``, or when
    the oldest has waited for ``trigger_age`` (``idle_age`` while a drive has nothing to do). A bundle takes at most
    ``cartridge_share`` of the smallest cartridge that can be written.
    """

    bundle_bytes: int
    cartridge_share: float
    bundle_members_max: int
    trigger_bytes: int
    trigger_objects: int
    trigger_age: float
    idle_age: float


def fitted(policy: ArchivePolicy, cartridge_bytes: Iterable[int]) -> ArchivePolicy:
    """Return the policy with bundles that fit cartridges of these capacities."""
    smallest = min((size for size in cartridge_bytes if size > 0), default=None)
    if smallest is None:
        return policy
    most = max(BLOCK_BYTES, int(smallest * policy.cartridge_share))
    return replace(policy, bundle_bytes=min(policy.bundle_bytes, most))


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What waits for one set of pools."""

    object_count: int
    size_bytes: int
    oldest_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """Bundles are to be made now; ``reason`` is for people."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotYet:
    """Nothing is due before ``at`` (unix seconds), unless more arrives."""

    at: float


def plan_start(
    now: float, waiting: Waiting, policy: ArchivePolicy, *, is_drive_idle: bool, is_urgent: bool
) -> Due | NotYet:
    """Decide whether the waiting objects are worth bundles now. ``is_urgent``: an operator or a full disk asks."""
    if is_urgent:
        return Due(reason="asked for")
    if waiting.size_bytes >= policy.trigger_bytes:
        return Due(reason=f"{waiting.size_bytes} bytes wait")
    if waiting.object_count >= policy.trigger_objects:
        return Due(reason=f"{waiting.object_count} objects wait")
    age = min(policy.idle_age, policy.trigger_age) if is_drive_idle else policy.trigger_age
    if now - waiting.oldest_at >= age:
        return Due(reason=f"the oldest object has waited for {now - waiting.oldest_at:.0f} s")
    return NotYet(at=waiting.oldest_at + age)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A version that may become a member. ``extent_lengths`` (bytes) add up to its size; one entry for an empty one."""

    version_uid: int
    extent_lengths: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedExtent:
    """One run of a version's bytes, to become a member. ``extent`` counts from 0."""

    version_uid: int
    extent: int
    extent_count: int
    object_offset_bytes: int
    length_bytes: int


def extent_lengths(piece_lengths: Sequence[int], *, extent_bytes: int) -> tuple[int, ...]:
    """
    Cut a version into extents of at most ``extent_bytes``.

    Cuts fall between pieces or on a checksum block inside one, so that the checksum of every extent follows from
    recorded ones. A cut inside a piece needs ``extent_bytes`` of at least one block.
    """
    assert extent_bytes >= BLOCK_BYTES, extent_bytes
    lengths: list[int] = []
    current = 0
    for piece_length in piece_lengths:
        left = piece_length
        while current + left > extent_bytes:
            taken = min(left, (extent_bytes - current) // BLOCK_BYTES * BLOCK_BYTES)
            if current + taken:
                lengths.append(current + taken)
            left -= taken
            current = 0
        current += left
    if current or not lengths:
        lengths.append(current)
    return tuple(lengths)


def plan_bundles(candidates: Iterable[Candidate], policy: ArchivePolicy) -> list[list[PlannedExtent]]:
    """
    Pack versions into bundles in their order, so that what arrived together lies together.

    A bundle closes when the next extent would make it larger than ``bundle_bytes`` or it has ``bundle_members_max``
    members. Equal inputs give equal plans.
    """
    bundles: list[list[PlannedExtent]] = []
    current: list[PlannedExtent] = []
    current_bytes = 0
    for candidate in candidates:
        for extent in _extents(candidate):
            is_full = current_bytes + extent.length_bytes > policy.bundle_bytes
            if current and (is_full or len(current) >= policy.bundle_members_max):
                bundles.append(current)
                current, current_bytes = [], 0
            current.append(extent)
            current_bytes += extent.length_bytes
    if current:
        bundles.append(current)
    return bundles


def _extents(candidate: Candidate) -> Iterable[PlannedExtent]:
    offset_bytes = 0
    for number, length_bytes in enumerate(candidate.extent_lengths):
        yield PlannedExtent(
            version_uid=candidate.version_uid,
            extent=number,
            extent_count=len(candidate.extent_lengths),
            object_offset_bytes=offset_bytes,
            length_bytes=length_bytes,
        )
        offset_bytes += length_bytes


def last_extents(extents: Sequence[PlannedExtent]) -> frozenset[int]:
    """The versions whose last extent is among these: with it they are claimed whole."""
    return frozenset(extent.version_uid for extent in extents if extent.extent == extent.extent_count - 1)
