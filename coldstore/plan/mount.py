"""What each drive that has nothing to do should do next."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from coldstore.model.cartridges import Cartridge, CartridgeState
from coldstore.model.objects import Tier
from coldstore.plan.recall import TIER_RANK, Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class TierPolicy:
    """How long a batch of this tier may wait for company while no drive is idle or none of it is urgent."""

    hold_seconds: float
    enough_bytes: int
    enough_items: int
    limit_seconds: float
    """Requests older than this outrank later ones of the next faster tier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MountPolicy:
    """Ages in seconds, sizes in bytes. ``reserve_bytes`` of every cartridge stay free for LTFS's indexes."""

    tiers: Mapping[Tier, TierPolicy]
    idle_unload_seconds: float
    reserve_fraction: float
    reserve_bytes: int
    session_bytes_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveView:
    """
    A drive as the dispatcher knows it.

    ``barcode`` is the cartridge in it; ``works_with`` the one that its present job is for, which may still be on its way.
    """

    index: int
    is_up: bool
    is_busy: bool
    barcode: str | None
    idle_since: float
    last_was_archive: bool
    works_on_archive: bool
    works_with: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyToWrite:
    """A copy that waits for a cartridge. ``other_barcodes`` hold copies of the same bundle."""

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
    """Write and verify copies on this cartridge, in this order; copies of earlier sessions are verified first."""

    drive: int
    barcode: str
    pool: str
    copies: tuple[CopyToWrite, ...]
    verify: tuple[CopyToVerify, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DoRecall:
    """Read a batch."""

    drive: int
    batch: Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class DoUnload:
    """Put the cartridge back into its slot."""

    drive: int
    barcode: str


Job = DoArchive | DoRecall | DoUnload


@dataclass(frozen=True, slots=True, kw_only=True)
class DrivePlan:
    """Jobs for idle drives; ``look_again_at`` is when waiting alone can change the plan (None: never)."""

    jobs: tuple[Job, ...]
    look_again_at: float | None
    starved_pools: tuple[str, ...]
    """Pools with copies to write for which no cartridge can be had at all, busy ones included."""


def plan_drives(
    now: float,
    *,
    drives: Sequence[DriveView],
    batches: Sequence[Batch],
    to_write: Sequence[CopyToWrite],
    to_verify: Sequence[CopyToVerify],
    cartridges: Mapping[str, Cartridge],
    avoid: Collection[tuple[int, str]],
    policy: MountPolicy,
) -> DrivePlan:
    """
    Assign work to idle drives: recalls by tier and age, archives beside them, unloading last.

    With recalls waiting, one drive at least is left to them when there are two or more; a single drive alternates.
    A drive and a cartridge that failed together (``avoid``) are not brought together again.
    """
    state = _Assignment(now=now, drives=drives, cartridges=cartridges, avoid=avoid, policy=policy)
    ready, held_until = _ready_batches(now, batches, drives, policy)
    archive_first = _single_drive_owes_archive(drives, ready) and bool(to_write or to_verify)
    if archive_first:
        starved = state.assign_archives(to_write, to_verify, limit=1)
        state.assign_recalls(ready)
    else:
        state.assign_recalls(ready)
        waiting = len(ready) - sum(isinstance(job, DoRecall) for job in state.jobs)
        usable = sum(drive.is_up for drive in drives)
        busy_archives = sum(drive.works_on_archive for drive in drives)
        limit = usable if not waiting else max(1 if usable == 1 else 0, usable - 1)
        starved = state.assign_archives(to_write, to_verify, limit=limit - busy_archives)
    unload_at = state.assign_unloads()
    times = [at for at in (held_until, unload_at) if at is not None]
    return DrivePlan(
        jobs=tuple(state.jobs), look_again_at=min(times, default=None), starved_pools=tuple(sorted(starved))
    )


def plan_drain(drives: Sequence[DriveView]) -> list[DoUnload]:
    """Return what empties the drives that have nothing to do."""
    return [
        DoUnload(drive=drive.index, barcode=drive.barcode)
        for drive in drives
        if drive.is_up and not drive.is_busy and drive.barcode is not None
    ]


def _single_drive_owes_archive(drives: Sequence[DriveView], ready: Sequence[Batch]) -> bool:
    usable = [drive for drive in drives if drive.is_up]
    return (
        len(usable) == 1
        and bool(ready)
        and not usable[0].last_was_archive
        and all(batch.tier is not Tier.EXPEDITED for batch in ready)
    )


def _ready_batches(
    now: float, batches: Sequence[Batch], drives: Sequence[DriveView], policy: MountPolicy
) -> tuple[list[Batch], float | None]:
    """Return batches worth a mount now, most urgent first, and when the next held one will be."""
    loaded = {drive.barcode for drive in drives if drive.barcode and not drive.is_busy}
    ready: list[Batch] = []
    held_until: float | None = None
    for batch in batches:
        tier = policy.tiers[batch.tier]
        at = batch.oldest_at + tier.hold_seconds
        if (
            now >= at
            or batch.barcode in loaded
            or batch.size_bytes >= tier.enough_bytes
            or len(batch.items) >= tier.enough_items
        ):
            ready.append(batch)
        else:
            held_until = at if held_until is None else min(held_until, at)

    def urgency(batch: Batch) -> tuple[int, float, int, str]:
        deadline = batch.oldest_at + policy.tiers[batch.tier].limit_seconds
        rank = TIER_RANK[batch.tier] - (1 if now >= deadline else 0)
        return rank, deadline, -len(batch.items), batch.barcode

    ready.sort(key=urgency)
    return ready, held_until


class _Assignment:
    """Drives and cartridges that are still free while a plan is made."""

    def __init__(
        self,
        *,
        now: float,
        drives: Sequence[DriveView],
        cartridges: Mapping[str, Cartridge],
        avoid: Collection[tuple[int, str]],
        policy: MountPolicy,
    ) -> None:
        self.jobs: list[Job] = []
        self._now = now
        self._policy = policy
        self._cartridges = cartridges
        self._avoid = avoid
        self._in_drive = {drive.barcode: drive for drive in drives if drive.barcode is not None}
        self._free = [drive for drive in drives if drive.is_up and not drive.is_busy]
        self._taken = {
            drive.barcode
            for drive in drives
            if drive.barcode is not None and (drive.is_busy or not drive.is_up)
        } | {drive.works_with for drive in drives if drive.works_with is not None}

    def assign_recalls(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            drive = self._drive_for(batch.barcode)
            if drive is not None:
                self._take(drive, batch.barcode)
                self.jobs.append(DoRecall(drive=drive.index, batch=batch))

    def assign_archives(
        self, to_write: Sequence[CopyToWrite], to_verify: Sequence[CopyToVerify], *, limit: int
    ) -> set[str]:
        starved: set[str] = set()
        remaining = limit
        by_barcode: dict[str, list[CopyToVerify]] = {}
        for copy in to_verify:
            by_barcode.setdefault(copy.barcode, []).append(copy)
        pools = sorted({copy.pool for copy in to_write})
        for pool in pools:
            copies = [copy for copy in to_write if copy.pool == pool]
            if not any(self._fits(cartridge, copies[0]) for cartridge in self._cartridges.values()):
                starved.add(pool)
                continue
            if remaining <= 0:
                continue
            choice = self._writer(copies)
            if choice is None:
                continue
            drive, cartridge, chosen = choice
            self._take(drive, cartridge.barcode)
            self.jobs.append(
                DoArchive(
                    drive=drive.index,
                    barcode=cartridge.barcode,
                    pool=pool,
                    copies=chosen,
                    verify=tuple(by_barcode.pop(cartridge.barcode, ())),
                )
            )
            remaining -= 1
        for barcode, copies_to_verify in sorted(by_barcode.items()):
            cartridge_record = self._cartridges.get(barcode)
            if remaining <= 0 or cartridge_record is None or not cartridge_record.is_present:
                continue
            found = self._drive_for(barcode)
            if found is None:
                continue
            self._take(found, barcode)
            self.jobs.append(
                DoArchive(
                    drive=found.index,
                    barcode=barcode,
                    pool=copies_to_verify[0].pool,
                    copies=(),
                    verify=tuple(copies_to_verify),
                )
            )
            remaining -= 1
        return starved

    def assign_unloads(self) -> float | None:
        next_at: float | None = None
        for drive in list(self._free):
            if drive.barcode is None:
                continue
            at = drive.idle_since + self._policy.idle_unload_seconds
            if self._now >= at:
                self._free.remove(drive)
                self.jobs.append(DoUnload(drive=drive.index, barcode=drive.barcode))
            else:
                next_at = at if next_at is None else min(next_at, at)
        return next_at

    def _writer(
        self, copies: Sequence[CopyToWrite]
    ) -> tuple[DriveView, Cartridge, tuple[CopyToWrite, ...]] | None:
        for cartridge in sorted(self._cartridges.values(), key=self._writing_preference):
            if cartridge.barcode in self._taken:
                continue
            chosen = self._load_up(cartridge, copies)
            if not chosen:
                continue
            drive = self._drive_for(cartridge.barcode)
            if drive is not None:
                return drive, cartridge, chosen
        return None

    def _writing_preference(self, cartridge: Cartridge) -> tuple[bool, bool, bool, str]:
        """Loaded ones first, then begun ones, then scratch of the pool's own, then any scratch."""
        return (
            cartridge.barcode not in self._in_drive,
            cartridge.state is not CartridgeState.FILLING,
            not cartridge.pool,
            cartridge.barcode,
        )

    def _load_up(self, cartridge: Cartridge, copies: Sequence[CopyToWrite]) -> tuple[CopyToWrite, ...]:
        chosen: list[CopyToWrite] = []
        left = cartridge
        for copy in copies:
            total = sum(other.size_bytes for other in chosen)
            if chosen and total + copy.size_bytes > self._policy.session_bytes_max:
                break
            if not self._fits(left, copy):
                break
            chosen.append(copy)
            left = replace(left, free_bytes=left.free_bytes - copy.size_bytes)
        return tuple(chosen)

    def _fits(self, cartridge: Cartridge, copy: CopyToWrite) -> bool:
        return (
            cartridge.is_present
            and cartridge.state in (CartridgeState.SCRATCH, CartridgeState.FILLING)
            and cartridge.pool in ("", copy.pool)
            and (cartridge.pool == copy.pool or cartridge.state is CartridgeState.SCRATCH)
            and cartridge.barcode not in copy.other_barcodes
            and cartridge.free_bytes - copy.size_bytes >= reserve_bytes(cartridge, self._policy)
        )

    def _drive_for(self, barcode: str) -> DriveView | None:
        """The drive that holds the cartridge; else an empty one; else the one that has been idle longest."""
        if barcode in self._taken:
            return None
        holder = self._in_drive.get(barcode)
        if holder is not None:
            return holder if holder in self._free and (holder.index, barcode) not in self._avoid else None
        fits = [drive for drive in self._free if (drive.index, barcode) not in self._avoid]
        return min(
            fits, key=lambda drive: (drive.barcode is not None, drive.idle_since, drive.index), default=None
        )

    def _take(self, drive: DriveView, barcode: str) -> None:
        self._free.remove(drive)
        self._taken.add(barcode)


def reserve_bytes(cartridge: Cartridge, policy: MountPolicy) -> int:
    """
    What must stay free on a cartridge: LTFS needs room for its indexes, and end-of-tape warnings can come late.
    """
    return min(policy.reserve_bytes, int(cartridge.capacity_bytes * policy.reserve_fraction))
