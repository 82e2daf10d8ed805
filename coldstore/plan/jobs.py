"""What drives can be given to do, and what planners know of them."""

from collections.abc import Mapping
from dataclasses import dataclass

from coldstore.model.objects import Tier
from coldstore.plan.recall import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class TierPolicy:
    """
    How long a batch of this tier may wait for company, unless it is large enough: a bulk one in any case, the others while no
    drive is idle.
    """

    hold_seconds: float
    enough_bytes: int
    enough_items: int
    limit_seconds: float
    """For each time that a request has waited so long it is ranked as one of the next faster tier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MountPolicy:
    """
    Ages in seconds, sizes in bytes. ``reserve_bytes`` of every cartridge stay free for LTFS's indexes.

    ``archive_share`` is the part of the drives that archives have when restores want them all. A cartridge that has had its drive
    for ``max_hold_seconds`` leaves it at the next boundary of its work when others wait for it.

    One more cartridge of a pool is mounted for every ``another_drive_bytes`` that wait for it, at most ``another_drive_fraction``
    of a cartridge: what makes another mount worth its time (CTA divides its thresholds among the drives of a pool in the same way).
    """

    tiers: Mapping[Tier, TierPolicy]
    archive_share: float
    idle_unload_seconds: float
    max_hold_seconds: float
    another_drive_bytes: int
    another_drive_fraction: float
    reserve_fraction: float
    reserve_bytes: int
    session_bytes_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyToWrite:
    """A copy that waits for a cartridge. ``other_barcodes`` hold copies of the same bundle; ids of bundles sort by time."""

    bundle_id: str
    pool: str
    size_bytes: int
    other_barcodes: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyToVerify:
    """A copy that is on a cartridge and was not verified before its session ended."""

    bundle_id: str
    pool: str
    barcode: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DoArchive:
    """
    Verify what earlier sessions left on this cartridge, then write and verify copies of the pool, one after the other as long as
    some wait that fit: ``size_bytes`` at most (0: nothing is written), of which the cartridge takes ``room_bytes``.

    ``is_owed``: archives had waited too long; not even an urgent recall interrupts this one before its time is over.
    """

    drive: int
    barcode: str
    pool: str
    size_bytes: int
    room_bytes: int
    verify: tuple[CopyToVerify, ...]
    is_owed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DoRecall:
    """Read a batch."""

    drive: int
    batch: Batch

    @property
    def barcode(self) -> str:
        """The cartridge that it is read from."""
        return self.batch.barcode


@dataclass(frozen=True, slots=True, kw_only=True)
class DoUnload:
    """Put the cartridge back into its slot."""

    drive: int
    barcode: str


Job = DoArchive | DoRecall | DoUnload


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveView:
    """
    A drive as the dispatcher knows it.

    ``barcode`` is the cartridge in it, with which it has been since ``held_since``; that of its present ``job`` may still be on
    its way. A busy drive without a job rests or is being looked at. One that is not up and ``is_leaving`` was put down by an
    operator, and can still put its cartridge away.
    """

    index: int
    is_up: bool
    is_busy: bool
    barcode: str | None
    job: Job | None
    idle_since: float
    held_since: float
    last_was_archive: bool
    is_leaving: bool = False
