"""
A library in model time for tests of the planner alone: drives whose sessions take as long as real ones, one robot, work that arrives.

A ``Floor`` asks ``plan_drives`` at every event, does what it says, and checks each plan against what must always hold.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import count
from random import Random

from coldstore.model.cartridges import Cartridge, CartridgeState
from coldstore.model.objects import Tier
from coldstore.plan.homes import may_take, next_copy, room, worth_a_drive
from coldstore.plan.jobs import (
    CopyToVerify,
    CopyToWrite,
    DoArchive,
    DoRecall,
    DoUnload,
    DriveView,
    Job,
    MountPolicy,
    TierPolicy,
)
from coldstore.plan.mount import DrivePlan, plan_drives
from coldstore.plan.recall import Batch, Source, Wanted, plan_batches
from coldstore.plan.turns import engaged

GB = 10**9
HOUR = 3600.0
MOVE_SECONDS = 15.0
UNLOAD_SECONDS = 120.0
LOAD_SECONDS = 60.0
LOCATE_SECONDS = 50.0
BYTES_PER_SECOND = 400_000_000.0
POLICY = MountPolicy(
    tiers={
        Tier.EXPEDITED: TierPolicy(hold_seconds=0, enough_bytes=1, enough_items=1, limit_seconds=300),
        Tier.STANDARD: TierPolicy(
            hold_seconds=600, enough_bytes=100 * GB, enough_items=100, limit_seconds=18_000
        ),
        Tier.BULK: TierPolicy(
            hold_seconds=7200, enough_bytes=100 * GB, enough_items=100, limit_seconds=43_200
        ),
    },
    archive_share=0.5,
    idle_unload_seconds=300,
    max_hold_seconds=HOUR,
    another_drive_bytes=500 * GB,
    another_drive_fraction=0.03,
    reserve_fraction=0.05,
    reserve_bytes=10 * GB,
    session_bytes_max=2000 * GB,
)
MOVE = -1.0
"""What a session yields when it needs the robot."""
Steps = Generator[float, None, None]


def new_cartridge(barcode: str, *, state: CartridgeState, pool: str = "") -> Cartridge:
    """Return a cartridge of 12 TB."""
    return Cartridge(
        barcode=barcode, state=state, pool=pool, volume_uuid="", home_slot=1, is_present=True,
        capacity_bytes=12_000 * GB, free_bytes=12_000 * GB, written_bytes=0, loads=0, failures=0, needs_check=False,
        format_nonce="", admitted_at=0.0, admitted_by="test", reason="", changed_at=0.0, changed_by="test",
    )  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Unit:
    """A drive."""

    index: int
    barcode: str | None = None
    job: Job | None = None
    is_up: bool = True
    is_leaving: bool = False
    gives_way: bool = False
    idle_since: float = 0.0
    held_since: float = 0.0
    last_was_archive: bool = False
    in_hand: set[tuple[str, str]] = field(default_factory=set)

    def is_over(self, has_worked: bool) -> bool:
        """As ``work.stations``."""
        return self.is_leaving or (self.gives_way and has_worked)


class Floor:
    """Drives, cartridges, what waits, and model time."""

    def __init__(
        self, *, drives: int, scratch: int = 40, seed: int = 0, policy: MountPolicy = POLICY
    ) -> None:
        self.random = Random(seed)
        self.policy = policy
        self.now = 0.0
        self.units = [Unit(index=index) for index in range(drives)]
        self.cartridges = {
            barcode: new_cartridge(barcode, state=CartridgeState.SCRATCH)
            for barcode in (f"S{number:03}" for number in range(scratch))
        }
        self.avoid: dict[tuple[int, str], float] = {}
        self.to_write: list[CopyToWrite] = []
        self.to_verify: list[CopyToVerify] = []
        self.sizes: dict[str, int] = {}
        self.written: dict[str, dict[str, str]] = {}
        """For each bundle the cartridge that has its copy, by pool."""
        self.done: dict[tuple[str, str], float] = {}
        """When each copy was verified."""
        self.wanted: dict[int, Wanted] = {}
        self.read_at: dict[int, float] = {}
        self.mounts: list[tuple[float, int, str]] = []
        self.moves: list[tuple[float, float]] = []
        self.archives_waited = 0.0
        """The longest time for which archives could begin and no drive worked on any."""
        self.recalls_waited = 0.0
        """The same of recalls that are not held for company."""
        self.fault: Callable[[Unit, str], bool] = lambda unit, step: False
        """Whether a step of a drive goes wrong."""
        self._waiting_since: dict[str, float | None] = {"archives": None, "recalls": None}
        self._robot_free_at = 0.0
        self._wake: float | None = None
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    # What happens from outside.

    def at(self, seconds: float, act: Callable[[], None]) -> None:
        """Have something happen at a time."""
        heappush(self._events, (seconds, next(self._numbers), act))

    def bundle(self, size_bytes: int = 32 * GB, pools: tuple[str, ...] = ("main", "vault")) -> str:
        """Have a bundle frozen."""
        bundle_id = f"{len(self.sizes):06}"
        self.sizes[bundle_id] = size_bytes
        self.written[bundle_id] = {}
        for pool in pools:
            self._wait_again(bundle_id, pool)
        return bundle_id

    def ask(self, *barcodes: str, tier: Tier = Tier.STANDARD, length_bytes: int = GB) -> int:
        """Have something asked back that is on these cartridges."""
        uid = len(self.wanted) + len(self.read_at) + 1
        for barcode in barcodes:
            self.cartridges.setdefault(barcode, new_cartridge(barcode, state=CartridgeState.FULL))
        self.wanted[uid] = Wanted(
            version_uid=uid,
            extent=0,
            bundle_id=f"b{uid}",
            bundle_offset_bytes=0,
            length_bytes=length_bytes,
            tier=tier,
            asked_at=self.now,
            sources=tuple(Source(barcode=each, partition="b", start_block=uid) for each in barcodes),
        )
        return uid

    def put_down(self, index: int, *, seconds: float) -> None:
        """Have an operator put a drive down for a while."""
        unit = self.units[index]
        if unit.is_up:
            unit.is_up, unit.is_leaving = False, True
            self.at(self.now + seconds, lambda: self._put_up(unit))

    def _put_up(self, unit: Unit) -> None:
        unit.is_up, unit.is_leaving = True, False

    # Time.

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Let time go by, for so long or until something is true."""
        end = self.now + seconds
        self._round()
        while not until():
            times = [self._events[0][0]] if self._events else []
            times += [] if self._wake is None else [self._wake]
            at = min(times, default=end + 1)
            if at > end:
                break
            self.now = at
            while self._events and self._events[0][0] <= at:
                heappop(self._events)[2]()
            self._round()
        if not until():
            self.now = end

    def is_done(self) -> bool:
        """Whether nothing waits and nothing is under way."""
        return (
            not self.to_write
            and not self.to_verify
            and not self.wanted
            and all(unit.job is None for unit in self.units)
        )

    def _round(self) -> None:
        views = [self._view(unit) for unit in self.units]
        busy = {uid for unit in self.units if isinstance(unit.job, DoRecall) for uid in _uids(unit.job.batch)}
        batches = plan_batches(
            [item for uid, item in self.wanted.items() if uid not in busy],
            readable=self.cartridges,
            loaded={unit.barcode for unit in self.units if unit.barcode is not None},
            engaged=engaged(views, self.now, self.policy),
        ).batches
        in_hand = set().union(*(unit.in_hand for unit in self.units))
        to_verify = [copy for copy in self.to_verify if (copy.bundle_id, copy.pool) not in in_hand]
        self.to_write.sort(key=lambda copy: copy.bundle_id)
        avoid = {pair for pair, until in self.avoid.items() if until > self.now}
        plan = plan_drives(
            self.now,
            drives=views,
            batches=batches,
            to_write=self.to_write,
            to_verify=to_verify,
            cartridges=self.cartridges,
            avoid=avoid,
            policy=self.policy,
            archives_wait_since=self._waiting_since["archives"],
        )
        _Check(self, views, batches, to_verify, avoid, plan).all()
        self._note_waiting("archives", plan.do_archives_wait)
        recalling = any(
            isinstance(job, DoRecall) for job in [unit.job for unit in self.units] + list(plan.jobs)
        )
        ready = [batch for batch in batches if self.is_ready(batch) and not self._is_taken(batch.barcode)]
        self._note_waiting("recalls", bool(ready) and not recalling)
        for unit in self.units:
            if unit.job is not None:
                unit.gives_way = unit.index in plan.give_way
        for job in plan.jobs:
            self._start(job)
        times = [until for until in self.avoid.values() if until > self.now]
        if plan.look_again_at is not None:
            times.append(max(self.now + 0.1, plan.look_again_at))
        self._wake = min(times, default=None)

    def is_ready(self, batch: Batch) -> bool:
        """Whether a batch need not wait for company any more."""
        return self.now >= batch.oldest_at + self.policy.tiers[batch.tier].hold_seconds

    def _is_taken(self, barcode: str) -> bool:
        return any(
            barcode in (unit.barcode, unit.job and unit.job.barcode) for unit in self.units if unit.job
        )

    def _note_waiting(self, what: str, is_waiting: bool) -> None:
        since = self._waiting_since[what]
        if since is not None:
            waited = self.now - since
            if what == "archives":
                self.archives_waited = max(self.archives_waited, waited)
            else:
                self.recalls_waited = max(self.recalls_waited, waited)
        if not is_waiting:
            self._waiting_since[what] = None
        elif since is None:
            self._waiting_since[what] = self.now

    def _view(self, unit: Unit) -> DriveView:
        return DriveView(
            index=unit.index,
            is_up=unit.is_up,
            is_busy=unit.job is not None,
            barcode=unit.barcode,
            job=unit.job,
            idle_since=unit.idle_since,
            held_since=unit.held_since,
            last_was_archive=unit.last_was_archive,
            is_leaving=unit.is_leaving,
        )

    # Sessions.

    def _start(self, job: Job) -> None:
        unit = self.units[job.drive]
        assert unit.job is None, (unit, job)
        if job.barcode != unit.barcode or unit.gives_way:
            unit.held_since = self.now
        unit.job, unit.gives_way = job, False
        if isinstance(job, DoArchive):
            unit.in_hand = {(copy.bundle_id, copy.pool) for copy in job.verify}
        self._step(unit, self._session(unit, job))

    def _step(self, unit: Unit, steps: Steps) -> None:
        for seconds in steps:
            if seconds == MOVE:
                begin = max(self.now, self._robot_free_at)
                self._robot_free_at = begin + MOVE_SECONDS
                self.moves.append((begin, self._robot_free_at))
                seconds = self._robot_free_at - self.now
            self.at(self.now + seconds, lambda: self._step(unit, steps))
            return
        unit.last_was_archive = isinstance(unit.job, DoArchive)
        unit.job = None
        unit.in_hand.clear()
        unit.idle_since = self.now

    def _session(self, unit: Unit, job: Job) -> Steps:
        if isinstance(job, DoUnload):
            yield from self._empty(unit)
            return
        if unit.barcode != job.barcode:
            yield from self._empty(unit)
            yield MOVE
            unit.barcode = job.barcode
            self.mounts.append((self.now, unit.index, job.barcode))
            yield LOAD_SECONDS
        yield from self._write(unit, job) if isinstance(job, DoArchive) else self._read(unit, job)

    def _empty(self, unit: Unit) -> Steps:
        if unit.barcode is not None:
            yield UNLOAD_SECONDS
            yield MOVE
            unit.barcode = None

    def _read(self, unit: Unit, job: DoRecall) -> Steps:
        for number, item in enumerate(job.batch.items):
            if unit.is_over(number > 0):
                return
            yield LOCATE_SECONDS + item.length_bytes / BYTES_PER_SECOND
            if self.fault(unit, "read"):
                yield from self._fail(unit, job.barcode)
                return
            del self.wanted[item.version_uid]
            self.read_at[item.version_uid] = self.now - item.asked_at

    def _write(self, unit: Unit, job: DoArchive) -> Steps:
        has_worked = False
        for pending in job.verify:
            if unit.is_over(has_worked):
                break
            has_worked = True
            yield LOCATE_SECONDS + self.sizes[pending.bundle_id] / BYTES_PER_SECOND
            self._verified(pending)
        left, written = job.size_bytes, list[CopyToVerify]()
        if left and self.cartridges[job.barcode].state is CartridgeState.SCRATCH:
            self._change(job.barcode, state=CartridgeState.FILLING, pool=job.pool)
        room_bytes = job.room_bytes
        while left > 0 and not unit.is_over(has_worked):
            own = [copy for copy in self.to_write if copy.pool == job.pool]
            copy = next_copy(
                own, barcode=job.barcode, room_bytes=min(left, room_bytes) if written else room_bytes
            )
            if copy is None:
                break
            self.to_write.remove(copy)
            unit.in_hand.add((copy.bundle_id, copy.pool))
            yield copy.size_bytes / BYTES_PER_SECOND
            if self.fault(unit, "write"):
                self._wait_again(copy.bundle_id, copy.pool)
                self.to_verify += written
                yield from self._fail(unit, job.barcode)
                return
            has_worked = True
            self.written[copy.bundle_id][copy.pool] = job.barcode
            record = self.cartridges[job.barcode]
            self._change(job.barcode, free_bytes=record.free_bytes - copy.size_bytes)
            left, room_bytes = left - copy.size_bytes, room_bytes - copy.size_bytes
            written.append(CopyToVerify(bundle_id=copy.bundle_id, pool=copy.pool, barcode=job.barcode))
        self.to_verify += written
        for pending in written:
            if unit.is_over(True):
                return
            yield LOCATE_SECONDS + self.sizes[pending.bundle_id] / BYTES_PER_SECOND
            self._verified(pending)

    def _fail(self, unit: Unit, barcode: str) -> Steps:
        unit.job = DoUnload(drive=unit.index, barcode=barcode)
        unit.in_hand.clear()
        yield from self._empty(unit)
        self.avoid[unit.index, barcode] = self.now + HOUR / 6

    def _verified(self, pending: CopyToVerify) -> None:
        self.to_verify.remove(pending)
        self.done[pending.bundle_id, pending.pool] = self.now

    def _wait_again(self, bundle_id: str, pool: str) -> None:
        others = frozenset(self.written[bundle_id].values())
        self.to_write.append(
            CopyToWrite(
                bundle_id=bundle_id, pool=pool, size_bytes=self.sizes[bundle_id], other_barcodes=others
            )
        )

    def _change(self, barcode: str, **changes: object) -> None:
        self.cartridges[barcode] = replace(self.cartridges[barcode], **changes)  # type: ignore[arg-type]


class _Check:
    """What holds of every plan."""

    def __init__(
        self,
        floor: Floor,
        views: list[DriveView],
        batches: tuple[Batch, ...],
        to_verify: list[CopyToVerify],
        avoid: set[tuple[int, str]],
        plan: DrivePlan,
    ) -> None:
        self._floor = floor
        self._views = views
        self._batches = batches
        self._to_verify = to_verify
        self._avoid = avoid
        self._plan = plan
        self._taken = {view.barcode for view in views if view.barcode and (view.is_busy or not view.is_up)}
        self._taken |= {job.barcode for job in [*plan.jobs, *(view.job for view in views)] if job is not None}
        begun = {job.drive for job in plan.jobs if not isinstance(job, DoUnload)}
        self._idle = [view for view in views if view.is_up and not view.is_busy and view.index not in begun]

    def all(self) -> None:
        """Check everything."""
        self._jobs_are_possible()
        self._nothing_is_left_idle()
        self._helpers_are_worth_it()
        self._giving_way_has_a_reason()

    def _jobs_are_possible(self) -> None:
        places = {view.barcode: view for view in self._views if view.barcode is not None}
        used = [job.barcode for view in self._views if (job := view.job) is not None]
        for job in self._plan.jobs:
            view = self._views[job.drive]
            assert not view.is_busy and (view.is_up or isinstance(job, DoUnload)), f"{job} in a busy drive"
            assert (job.drive, job.barcode) not in self._avoid or isinstance(job, DoUnload), f"{job}: parted"
            holder = places.get(job.barcode)
            assert holder is None or holder is view, f"{job}: the cartridge is in drive {holder}"
            used.append(job.barcode)
        assert len(used) == len(set(used)), f"a cartridge for two drives: {used}"
        numbers = [job.drive for job in self._plan.jobs]
        assert len(numbers) == len(set(numbers)), f"a drive with two jobs: {numbers}"

    def _could_have(self, view: DriveView, barcode: str) -> bool:
        lies = [each for each in self._views if each.barcode == barcode]
        return (
            barcode not in self._taken
            and (view.index, barcode) not in self._avoid
            and all(each is view for each in lies)
        )

    def _nothing_is_left_idle(self) -> None:
        floor = self._floor
        archiving = [job for job in self._running() if isinstance(job, DoArchive)]
        for view in self._idle:
            for batch in self._batches:
                if batch.tier is not Tier.BULK or floor.is_ready(batch):
                    assert not self._could_have(view, batch.barcode), f"{view} could read {batch}"
            for copy in self._to_verify:
                assert not self._could_have(view, copy.barcode), f"{view} could verify {copy}"
            for copy in floor.to_write:
                if any(job.pool == copy.pool and job.size_bytes for job in archiving):
                    continue
                for record in floor.cartridges.values():
                    fits = may_take(record, copy.pool) and copy.size_bytes <= room(record, floor.policy)
                    if fits and record.barcode not in copy.other_barcodes:
                        assert not self._could_have(view, record.barcode), f"{view} could write {copy}"

    def _running(self) -> list[Job]:
        return [view.job for view in self._views if view.job is not None and view.is_up] + list(
            self._plan.jobs
        )

    def _helpers_are_worth_it(self) -> None:
        floor = self._floor
        for job in self._plan.jobs:
            if isinstance(job, DoArchive) and job.size_bytes:
                writers = [
                    each
                    for each in self._running()
                    if isinstance(each, DoArchive) and each.pool == job.pool and each.size_bytes
                ]
                waiting = [copy for copy in floor.to_write if copy.pool == job.pool]
                worth = worth_a_drive(floor.cartridges[job.barcode], floor.policy)
                is_mounted = self._views[job.drive].barcode == job.barcode
                if len(writers) > 1 and not is_mounted:
                    assert len(waiting) >= len(writers), "more drives than bundles"
                    waiting_bytes = sum(copy.size_bytes for copy in waiting)
                    assert waiting_bytes >= len(writers) * worth, "a mount that is not worth its time"

    def _giving_way_has_a_reason(self) -> None:
        working = {view.index for view in self._views if isinstance(view.job, DoArchive | DoRecall)}
        assert self._plan.give_way <= working
        leaving = {view.index for view in self._views if not view.is_up}
        waits = bool(self._batches or self._floor.to_write or self._to_verify)
        assert self._plan.give_way <= leaving or waits, "a drive gives way to nobody"


def _uids(batch: Batch) -> list[int]:
    return [item.version_uid for item in batch.items]
