"""What each drive that has nothing to do should do next."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from coldstore.model.cartridges import READABLE, Cartridge, CartridgeState
from coldstore.model.objects import Tier
from coldstore.plan.recall import TIER_RANK, Batch

TAKES_BUNDLES = frozenset({CartridgeState.SCRATCH, CartridgeState.FORMATTING, CartridgeState.FILLING})
"""States in which a cartridge can be written; one that was cut off while it was formatted is formatted to the end."""


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
    """
    Ages in seconds, sizes in bytes. ``reserve_bytes`` of every cartridge stay free for LTFS's indexes. A session that has
    had its drive for ``max_hold_seconds`` gives it back when others wait.
    """

    tiers: Mapping[Tier, TierPolicy]
    idle_unload_seconds: float
    max_hold_seconds: float
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
    """
    Jobs for idle drives; ``look_again_at`` is when waiting alone can change the plan (None: never).

    ``starved_pools`` have copies to write for which no cartridge has room, busy ones included; ``too_large`` are copies
    that not even an empty cartridge of those we know would take. ``others_wait``: there is more work than drives.
    """

    jobs: tuple[Job, ...]
    look_again_at: float | None
    starved_pools: tuple[str, ...]
    too_large: tuple[CopyToWrite, ...]
    others_wait: bool


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
        state.assign_archives(to_write, to_verify, limit=1)
        state.assign_recalls(ready)
    else:
        state.assign_recalls(ready)
        waiting = len(ready) - sum(isinstance(job, DoRecall) for job in state.jobs)
        usable = sum(drive.is_up for drive in drives)
        busy_archives = sum(drive.works_on_archive for drive in drives)
        limit = usable if not waiting else max(1 if usable == 1 else 0, usable - 1)
        state.assign_archives(to_write, to_verify, limit=limit - busy_archives)
    served = {job.batch.barcode for job in state.jobs if isinstance(job, DoRecall)}
    others_wait = state.has_archives_waiting or any(batch.barcode not in served for batch in ready)
    unload_at = state.assign_unloads()
    times = [at for at in (held_until, unload_at) if at is not None]
    return DrivePlan(
        jobs=tuple(state.jobs),
        look_again_at=min(times, default=None),
        starved_pools=tuple(sorted(state.starved)),
        too_large=tuple(state.too_large),
        others_wait=others_wait,
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
        self.starved: set[str] = set()
        self.too_large: list[CopyToWrite] = []
        self.has_archives_waiting = False
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
    ) -> None:
        remaining = limit
        by_barcode: dict[str, list[CopyToVerify]] = {}
        for copy in to_verify:
            by_barcode.setdefault(copy.barcode, []).append(copy)
        for pool in sorted({copy.pool for copy in to_write}):
            housed = self._housed(pool, [copy for copy in to_write if copy.pool == pool])
            choice = self._writer(housed) if housed and remaining > 0 else None
            if choice is None:
                self.has_archives_waiting |= bool(housed)
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
        for barcode, copies in sorted(by_barcode.items()):
            record = self._cartridges.get(barcode)
            if record is None or not record.is_present or record.state not in READABLE:
                continue
            found = self._drive_for(barcode) if remaining > 0 else None
            if found is None:
                self.has_archives_waiting = True
                continue
            self._take(found, barcode)
            self.jobs.append(
                DoArchive(
                    drive=found.index,
                    barcode=barcode,
                    pool=copies[0].pool,
                    copies=(),
                    verify=tuple(copies),
                )
            )
            remaining -= 1

    def _housed(self, pool: str, copies: Sequence[CopyToWrite]) -> list[CopyToWrite]:
        """Return those copies for which some cartridge has room, now or when its drive is free; note the others."""
        own = [record for record in self._cartridges.values() if _may_take(record, pool)]
        rooms = sorted(((_room(record, self._policy), record.barcode) for record in own), reverse=True)
        largest = max((_largest_room(record, self._policy) for record in own), default=None)
        housed: list[CopyToWrite] = []
        for copy in copies:
            if _has_home(copy, rooms):
                housed.append(copy)
            elif largest is not None and copy.size_bytes > largest:
                self.too_large.append(copy)
            else:
                self.starved.add(pool)
        return housed

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
            cartridge.state is CartridgeState.SCRATCH,
            not cartridge.pool,
            cartridge.barcode,
        )

    def _load_up(self, cartridge: Cartridge, copies: Sequence[CopyToWrite]) -> tuple[CopyToWrite, ...]:
        """Take what fits, in order; a bundle that is too large for what is left does not keep smaller ones out."""
        if not _may_take(cartridge, copies[0].pool):
            return ()
        chosen: list[CopyToWrite] = []
        chosen_bytes = 0
        room = _room(cartridge, self._policy)
        for copy in copies:
            if chosen and chosen_bytes + copy.size_bytes > self._policy.session_bytes_max:
                break
            if copy.size_bytes <= room - chosen_bytes and cartridge.barcode not in copy.other_barcodes:
                chosen.append(copy)
                chosen_bytes += copy.size_bytes
        return tuple(chosen)

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


def _may_take(cartridge: Cartridge, pool: str) -> bool:
    """Whether a cartridge is one for bundles of this pool. Only a scratch one may be of no pool yet."""
    return (
        cartridge.is_present
        and cartridge.state in TAKES_BUNDLES
        and (cartridge.pool == pool or (not cartridge.pool and cartridge.state is CartridgeState.SCRATCH))
    )


def _has_home(copy: CopyToWrite, rooms: Iterable[tuple[int, str]]) -> bool:
    """Whether a cartridge takes the copy. ``rooms`` are sizes and barcodes, the largest first, so few are looked at."""
    for room, barcode in rooms:
        if room < copy.size_bytes:
            return False
        if barcode not in copy.other_barcodes:
            return True
    return False


def _room(cartridge: Cartridge, policy: MountPolicy) -> int:
    return cartridge.free_bytes - reserve_bytes(cartridge, policy)


def _largest_room(cartridge: Cartridge, policy: MountPolicy) -> int:
    return cartridge.capacity_bytes - reserve_bytes(cartridge, policy)


def reserve_bytes(cartridge: Cartridge, policy: MountPolicy) -> int:
    """
    What must stay free on a cartridge: LTFS needs room for its indexes, and end-of-tape warnings can come late.
    """
    return min(policy.reserve_bytes, int(cartridge.capacity_bytes * policy.reserve_fraction))
