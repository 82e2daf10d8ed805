"""What each drive that has nothing to do should do next, and which drives should come to an end."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from coldstore.model.cartridges import READABLE, Cartridge, CartridgeState
from coldstore.model.objects import Tier
from coldstore.plan.homes import Housing, housing, may_take, next_copy, room, worth_a_drive
from coldstore.plan.jobs import (
    CopyToVerify,
    CopyToWrite,
    DoArchive,
    DoRecall,
    DoUnload,
    DriveView,
    Job,
    MountPolicy,
)
from coldstore.plan.recall import Batch
from coldstore.plan.turns import (
    Unserved,
    is_expedited,
    is_turn_of_archives,
    plan_give_way,
    rises_at,
    shares,
    urgency,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DrivePlan:
    """
    Jobs for idle drives; ``give_way`` are drives whose session is to end at its next boundary.

    ``look_again_at`` is when waiting alone can change the plan (None: never). ``do_archives_wait``: one could begin, and no
    drive works on any. ``starved_pools`` have copies to write for which no cartridge has room, busy ones included, ``stuck_pools``
    some for which only cartridges in drives that are down have; ``too_large`` are copies that not even an empty cartridge of
    those we know would take.
    """

    jobs: tuple[Job, ...]
    give_way: frozenset[int]
    look_again_at: float | None
    do_archives_wait: bool
    starved_pools: tuple[str, ...]
    stuck_pools: tuple[str, ...]
    too_large: tuple[CopyToWrite, ...]


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
    archives_wait_since: float | None = None,
) -> DrivePlan:
    """
    Assign work to idle drives as ``turns`` divides them; unloading comes last.

    No drive is left idle that could do something, except that a bulk batch waits for company, and that a pool has no more drives
    than its waiting bytes are worth. A cartridge that lies in a drive is used there. A drive and a cartridge that failed together
    (``avoid``) are not brought together again.

    :param batches: of extents that no session reads already
    :param to_write: copies that no session has in hand, in the order of their bundles
    :param archives_wait_since: since when archives wait while no drive works on any
    """
    desk = _Desk(drives=drives, avoid=avoid)
    recalls = _Recalls(now, batches, desk, policy)
    archives = _Archives(desk, to_write, to_verify, cartridges, policy)
    is_owed = archives_wait_since is not None and now - archives_wait_since >= policy.max_hold_seconds
    desk.wanted = recalls.barcodes | archives.barcodes
    while desk.free and (job := _next_job(desk, recalls, archives, policy, is_owed=is_owed)) is not None:
        desk.start(job)
    recalls.use_idle_drives()
    unserved = Unserved(
        recalls=recalls.unserved(), archives=archives.unserved(), helpers=len(archives.helpers())
    )
    give_way, turn_at = plan_give_way(now, drives, desk.jobs, unserved, policy)
    unload_at = _unload(now, desk, policy)
    rises = (rises_at(batch, now, policy.tiers) for batch in unserved.recalls)
    times = [at for at in (recalls.held_until, unload_at, turn_at, *rises) if at is not None]
    return DrivePlan(
        jobs=tuple(desk.jobs),
        give_way=give_way,
        look_again_at=min(times, default=None),
        do_archives_wait=bool(unserved.archives) and not desk.count(DoArchive),
        starved_pools=archives.pools_with("homeless"),
        stuck_pools=archives.pools_with("stuck"),
        too_large=tuple(copy for each in archives.housing.values() for copy in each.too_large),
    )


def stuck_in(drives: Sequence[DriveView]) -> dict[str, int]:
    """Return the cartridges that cannot be had, for they are in drives that are down, with the drives."""
    return {
        drive.barcode: drive.index
        for drive in drives
        if drive.barcode is not None and not drive.is_up and not drive.is_leaving
    }


def plan_drain(drives: Sequence[DriveView]) -> list[DoUnload]:
    """Return what empties the drives that have nothing to do."""
    return [
        DoUnload(drive=drive.index, barcode=drive.barcode)
        for drive in drives
        if (drive.is_up or drive.is_leaving) and not drive.is_busy and drive.barcode is not None
    ]


def _next_job(
    desk: "_Desk", recalls: "_Recalls", archives: "_Archives", policy: MountPolicy, *, is_owed: bool
) -> Job | None:
    """Return what the next drive is for: an archive or a recall, by what goes before all, by what lies in drives, by the shares."""
    recall, archive = recalls.next(), archives.next()
    if archive is None:
        return recall
    if is_owed and not desk.count(DoArchive):
        return replace(archive, is_owed=True)
    if recall is None:
        return archive
    if recalls.has_expedited():
        return recall
    holder = desk.holder(recall.barcode)
    if holder is not None and recall.barcode == archive.barcode:
        return recall if holder.last_was_archive else archive
    if holder is not None and holder.last_was_archive:
        # It was written just now: what is wanted from it costs no move.
        return recall
    is_archives = is_turn_of_archives(
        archives=desk.count(DoArchive),
        recalls=desk.count(DoRecall),
        share=shares(desk.usable, policy.archive_share),
    )
    return archive if is_archives else recall


def _unload(now: float, desk: "_Desk", policy: MountPolicy) -> float | None:
    """Have cartridges put away that nobody used for a while; return when the next one is due."""
    next_at: float | None = None
    for drive in list(desk.free):
        if drive.barcode is None:
            continue
        at = drive.idle_since + policy.idle_unload_seconds
        if now >= at:
            desk.start(DoUnload(drive=drive.index, barcode=drive.barcode))
        else:
            next_at = at if next_at is None else min(next_at, at)
    for drive in desk.leaving:
        assert drive.barcode is not None, drive
        desk.jobs.append(DoUnload(drive=drive.index, barcode=drive.barcode))
    return next_at


class _Desk:
    """Drives and cartridges that are still free while a plan is made, and the jobs that it has so far."""

    def __init__(self, *, drives: Sequence[DriveView], avoid: Collection[tuple[int, str]]) -> None:
        self.jobs: list[Job] = []
        self.usable = sum(drive.is_up for drive in drives)
        self.free = [drive for drive in drives if drive.is_up and not drive.is_busy]
        self.leaving = [
            drive for drive in drives if drive.is_leaving and not drive.is_busy and drive.barcode is not None
        ]
        self.stuck = stuck_in(drives)
        self.running = [drive.job for drive in drives if drive.job is not None and drive.is_up]
        self.wanted: frozenset[str] = frozenset()
        """Cartridges that some work waits for: they are the last to be sent away for another."""
        self._avoid = avoid
        self._in_drive = {drive.barcode: drive for drive in drives if drive.barcode is not None}
        self.working = {job.barcode for job in self.running if not isinstance(job, DoUnload)}
        """Cartridges of sessions under way, which can give way."""
        self.taken = {
            drive.barcode
            for drive in drives
            if drive.barcode is not None and (drive.is_busy or not drive.is_up)
        } | {drive.job.barcode for drive in drives if drive.job is not None}

    def count(self, kind: type[DoArchive] | type[DoRecall]) -> int:
        """How many drives work or begin to work on this."""
        return sum(isinstance(job, kind) for job in (*self.running, *self.jobs))

    def holder(self, barcode: str) -> DriveView | None:
        """Return the free drive in which a cartridge lies."""
        drive = self._in_drive.get(barcode)
        return drive if drive in self.free else None

    def drive_for(self, barcode: str) -> DriveView | None:
        """The drive that holds the cartridge; else an empty one; else the one whose cartridge is least likely to be used again."""
        if barcode in self.taken:
            return None
        if barcode in self._in_drive:
            holder = self.holder(barcode)
            return holder if holder is not None and (holder.index, barcode) not in self._avoid else None
        fits = [drive for drive in self.free if (drive.index, barcode) not in self._avoid]
        return min(
            fits,
            key=lambda drive: (
                drive.barcode is not None,
                drive.barcode in self.wanted,
                drive.idle_since,
                drive.index,
            ),
            default=None,
        )

    def start(self, job: Job) -> None:
        """Give a free drive a job."""
        self.free = [drive for drive in self.free if drive.index != job.drive]
        self.taken.add(job.barcode)
        self.jobs.append(job)


class _Recalls:
    """Batches, in the order in which they get drives."""

    def __init__(self, now: float, batches: Sequence[Batch], desk: _Desk, policy: MountPolicy) -> None:
        """Sort out which are worth a mount now; ``held_until`` is when the next of the others will be."""
        self._now = now
        self._desk = desk
        self._policy = policy
        self.held_until: float | None = None
        ready: list[Batch] = []
        held: list[Batch] = []
        for batch in batches:
            tier = policy.tiers[batch.tier]
            at = batch.oldest_at + tier.hold_seconds
            is_worth_it = batch.size_bytes >= tier.enough_bytes or len(batch.items) >= tier.enough_items
            if now >= at or is_worth_it or desk.holder(batch.barcode) is not None:
                ready.append(batch)
            else:
                held.append(batch)
                self.held_until = at if self.held_until is None else min(self.held_until, at)
        keys = {batch.barcode: urgency(batch, now, policy.tiers) for batch in batches}
        self._ready = sorted(ready, key=lambda batch: keys[batch.barcode])
        self._held = sorted(held, key=lambda batch: keys[batch.barcode])
        self._pressing = [batch for batch in self._ready if keys[batch.barcode][0] == 0]
        self._by_barcode = {batch.barcode: batch for batch in self._ready}
        self.barcodes = frozenset(self._by_barcode)

    def next(self) -> DoRecall | None:
        """
        Return the recall that is to begin next: the first of those that press; else what lies in a drive, as long as it has not
        had its time there; else the most urgent.
        """
        return self._first(self._pressing) or self._lying() or self._first(self._ready)

    def has_expedited(self) -> bool:
        """Whether one could begin that goes before everything else."""
        return any(
            is_expedited(batch) and self._desk.drive_for(batch.barcode) is not None
            for batch in self._pressing
        )

    def use_idle_drives(self) -> None:
        """Begin those that need not wait for company while drives have nothing to do."""
        while self._desk.free:
            job = self._first([batch for batch in self._held if batch.tier is not Tier.BULK])
            if job is None:
                return
            self._desk.start(job)

    def unserved(self) -> tuple[Batch, ...]:
        """Return those that are worth a mount and that only wait for a drive."""
        desk = self._desk
        return tuple(
            batch for batch in self._ready if batch.barcode not in desk.taken or batch.barcode in desk.working
        )

    def _first(self, batches: Sequence[Batch]) -> DoRecall | None:
        for batch in batches:
            drive = self._desk.drive_for(batch.barcode)
            if drive is not None:
                return DoRecall(drive=drive.index, batch=batch)
        return None

    def _lying(self) -> DoRecall | None:
        drives = sorted(self._desk.free, key=lambda drive: (not drive.last_was_archive, drive.index))
        return self._first(
            [
                self._by_barcode[drive.barcode]
                for drive in drives
                if drive.barcode in self._by_barcode
                and (drive.last_was_archive or self._now - drive.held_since < self._policy.max_hold_seconds)
            ]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Need:
    """A pool that has copies to write and no drive (``pool``), or a cartridge with copies to verify (``barcode``)."""

    oldest: str
    pool: str
    barcode: str | None


class _Archives:
    """Copies to write and to verify, and which pools have drives for them."""

    def __init__(
        self,
        desk: _Desk,
        to_write: Sequence[CopyToWrite],
        to_verify: Sequence[CopyToVerify],
        cartridges: Mapping[str, Cartridge],
        policy: MountPolicy,
    ) -> None:
        self._desk = desk
        self._cartridges = cartridges
        self._policy = policy
        by_pool: dict[str, list[CopyToWrite]] = {}
        for copy in to_write:
            by_pool.setdefault(copy.pool, []).append(copy)
        self.housing: dict[str, Housing] = {
            pool: housing(copies, pool, cartridges, stuck=desk.stuck, policy=policy)
            for pool, copies in sorted(by_pool.items())
        }
        self._waiting = {pool: found.housed for pool, found in self.housing.items() if found.housed}
        self._bytes = {
            pool: sum(copy.size_bytes for copy in copies) for pool, copies in self._waiting.items()
        }
        self._to_verify: dict[str, list[CopyToVerify]] = {}
        for pending in to_verify:
            record = cartridges.get(pending.barcode)
            if record is not None and record.is_present and record.state in READABLE:
                self._to_verify.setdefault(pending.barcode, []).append(pending)
        self._own = {
            pool: sorted(
                (record for record in cartridges.values() if may_take(record, pool)), key=self._preference
            )
            for pool in self._waiting
        }
        self.barcodes = frozenset(self._to_verify) | {
            record.barcode
            for own in self._own.values()
            for record in own
            if desk.holder(record.barcode) is not None
        }

    def pools_with(self, lot: str) -> tuple[str, ...]:
        """Return the pools with copies that are ``homeless`` or ``stuck``."""
        return tuple(pool for pool, found in self.housing.items() if getattr(found, lot))

    def next(self) -> DoArchive | None:
        """Return the archive that is to begin next: what has waited longest and has no drive; else one more drive for a pool."""
        for need in self._needs():
            job = self._write(need.pool) if need.barcode is None else self._verify(need.barcode)
            if job is not None:
                return job
        for pool in self.helpers():
            job = self._write(pool)
            if job is not None:
                return job
        return None

    def unserved(self) -> tuple[str | None, ...]:
        """For each archive that only waits for a drive, the cartridge that it needs, None for any."""
        found: list[str | None] = []
        for need in self._needs():
            if need.barcode is not None:
                if need.barcode not in self._desk.taken or need.barcode in self._desk.working:
                    found.append(need.barcode)
            elif self._candidates(need.pool):
                found.append(None)
            else:
                held = (
                    record.barcode for record in self._own[need.pool] if record.barcode in self._desk.working
                )
                found += islice(held, 1)
        return tuple(found)

    def helpers(self) -> list[str]:
        """
        Return a pool for each drive more that it could use, besides the one that it has, the neediest first.

        A cartridge that lies in a drive may help with anything, another is mounted only for what is worth it.
        """
        wishes: list[tuple[float, str]] = []
        for pool, copies in self._waiting.items():
            writers = self._writers(pool)
            for cartridge in self._candidates(pool) if writers else ():
                share = self._bytes[pool] / (writers + 1)
                is_mounted = self._desk.holder(cartridge.barcode) is not None
                is_worth_it = is_mounted or share >= worth_a_drive(cartridge, self._policy)
                if len(copies) <= writers or not is_worth_it or writers > self._desk.usable:
                    break
                wishes.append((-share, pool))
                writers += 1
        return [pool for _, pool in sorted(wishes)]

    def _needs(self) -> list[_Need]:
        needs = [
            _Need(oldest=copies[0].bundle_id, pool=pool, barcode=None)
            for pool, copies in self._waiting.items()
            if not self._writers(pool)
        ]
        needs += [
            _Need(oldest=min(copy.bundle_id for copy in copies), pool=copies[0].pool, barcode=barcode)
            for barcode, copies in self._to_verify.items()
            if not self._is_archiving(barcode)
        ]
        return sorted(needs, key=lambda need: (need.oldest, need.pool, need.barcode or ""))

    def _writers(self, pool: str) -> int:
        return sum(
            isinstance(job, DoArchive) and job.pool == pool and job.size_bytes > 0
            for job in (*self._desk.running, *self._desk.jobs)
        )

    def _is_archiving(self, barcode: str) -> bool:
        return any(
            isinstance(job, DoArchive) and job.barcode == barcode
            for job in (*self._desk.running, *self._desk.jobs)
        )

    def _candidates(self, pool: str) -> list[Cartridge]:
        """Cartridges of a pool that nobody uses, in the order in which they are written."""
        return [record for record in self._own[pool] if record.barcode not in self._desk.taken]

    def _preference(self, cartridge: Cartridge) -> tuple[bool, bool, bool, bool, str]:
        """Those in drives first, then those with copies to verify, begun ones, scratch of the pool's own, any scratch."""
        return (
            self._desk.holder(cartridge.barcode) is None,
            cartridge.barcode not in self._to_verify,
            cartridge.state is CartridgeState.SCRATCH,
            not cartridge.pool,
            cartridge.barcode,
        )

    def _write(self, pool: str) -> DoArchive | None:
        """Find a cartridge and a drive for the oldest copy that can have both; others follow it."""
        rooms = {record.barcode: room(record, self._policy) for record in self._candidates(pool)}
        most = max(rooms.values(), default=-1)
        for copy in self._waiting[pool]:
            if copy.size_bytes > most:
                continue
            for barcode, room_bytes in list(rooms.items()):
                if next_copy([copy], barcode=barcode, room_bytes=room_bytes) is None:
                    continue
                drive = self._desk.drive_for(barcode)
                if drive is None:
                    del rooms[barcode]
                    most = max(rooms.values(), default=-1)
                    continue
                return DoArchive(
                    drive=drive.index,
                    barcode=barcode,
                    pool=pool,
                    size_bytes=self._session_bytes(pool, barcode),
                    room_bytes=room_bytes,
                    verify=tuple(self._to_verify.get(barcode, ())),
                )
        return None

    def _verify(self, barcode: str) -> DoArchive | None:
        drive = self._desk.drive_for(barcode)
        if drive is None:
            return None
        copies = self._to_verify[barcode]
        pool = copies[0].pool
        own = {record.barcode: record for record in self._own.get(pool, ())}
        room_bytes = room(own[barcode], self._policy) if barcode in own and not self._writers(pool) else 0
        can_write = next_copy(self._waiting.get(pool, ()), barcode=barcode, room_bytes=room_bytes) is not None
        return DoArchive(
            drive=drive.index,
            barcode=barcode,
            pool=pool,
            size_bytes=self._session_bytes(pool, barcode) if can_write else 0,
            room_bytes=room_bytes,
            verify=tuple(copies),
        )

    def _session_bytes(self, pool: str, barcode: str) -> int:
        """
        How much to write before it is verified: what waits, or with other drives that could help as much as each would have.

        Only the drive that wrote can verify without another mount: who writes too much at once is late in the end.
        """
        waiting = self._bytes[pool]
        fair = max(waiting // self._desk.usable, worth_a_drive(self._cartridges[barcode], self._policy))
        return max(1, min(waiting, fair, self._policy.session_bytes_max))
