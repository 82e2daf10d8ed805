"""Gives drives their work: looks at what waits, asks the mount planner, and starts a session per drive."""

from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure as WhatFailed

from coldstore.interfaces.bell import IBell
from coldstore.interfaces.filesystem import UnmountVerdict
from coldstore.interfaces.library import LibraryFault
from coldstore.interfaces.metadata import Conflict, IMetadataStore, WantedExtent
from coldstore.interfaces.process import CommandFault, LockHeld
from coldstore.interfaces.reservation import (
    IReservation,
    ReservationFault,
    ReservationsUnsupported,
    ReservedByAnother,
)
from coldstore.model.cartridges import READABLE, Cartridge, CartridgeEvent, CartridgeState, Drive, DriveState
from coldstore.model.errors import MetadataUnavailable
from coldstore.model.hosts import Host
from coldstore.model.library import Inventory
from coldstore.model.objects import RestorePhase
from coldstore.plan.blame import ApartPolicy, Failure, judge, pairs_to_avoid
from coldstore.plan.homes import next_copy
from coldstore.plan.jobs import CopyToWrite, DoArchive, DoRecall, DoUnload, DriveView, Job, MountPolicy
from coldstore.plan.messages import restore_failed
from coldstore.plan.mount import DrivePlan, plan_drain, plan_drives, stuck_in
from coldstore.plan.recall import RecallPlan, Wanted, WantedBundle, plan_batches
from coldstore.plan.takeover import ForeignDrive, divide, other_host, others_of
from coldstore.plan.turns import engaged
from coldstore.work.bay import APPLIANCE, Bay
from coldstore.work.contents import Contents
from coldstore.work.inventory import InventoryKeeper
from coldstore.work.notices import Notices
from coldstore.work.queues import ArchiveQueue, CopyName, RecallQueue
from coldstore.work.reading import RecallSession, RecallWaitsForSpace
from coldstore.work.records import change_cartridge
from coldstore.work.renewing import Renewals, RenewalWork
from coldstore.work.stations import Station
from coldstore.work.trouble import CartridgeFull, JobLost, TapeTrouble
from coldstore.work.writing import ArchiveSession

LOOK_SECONDS = 60.0
"""A round at least this often while a drive is emptied, something is searched for or an operator is told of something."""
IDLE_LOOK_SECONDS = 300.0
"""And so often otherwise: what happens rings, and a plan tells when it would be another one."""
SHORTEST_REST_SECONDS = 0.05
RETRY_SECONDS = 30.0
PUT_OFF_SECONDS = 3600.0
"""A bundle whose bytes are damaged on disk is tried again after so long: an operator may have repaired the disk."""
LOOKS_MAX = 3
"""Failures in a row after which a drive that cannot be looked at, or is in use by somebody else, is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlamePolicy:
    """
    How long failures are remembered (seconds), how long a drive and a cartridge that failed together are kept apart, and how
    often the recall of a bundle may fail, all copies together, before its restores fail.
    """

    window_seconds: float
    apart: ApartPolicy
    attempts_max: int


class Dispatcher:
    """Owns the sessions of all drives."""

    log = Logger()

    def __init__(
        self,
        *,
        bays: Mapping[int, Bay],
        store: IMetadataStore,
        clock: IReactorTime,
        keeper: InventoryKeeper,
        policy: MountPolicy,
        blame: BlamePolicy,
        region: str,
        bell: IBell,
        messages_bell: IBell,
        archive_session: Callable[[Bay], ArchiveSession],
        recall_session: Callable[[Bay, Callable[[str, str], int]], RecallSession],
        renewals: Renewals,
        contents: Contents,
        make_room: Callable[[], None],
        on_idle: Callable[[], None],
        host: Host,
        changer: "IReservation | None" = None,
    ) -> None:
        """
        :param make_room: is called when the disk is too full for a recall
        :param on_idle: is called when some drive has nothing to do, and before none had
        :param host: this machine
        :param changer: keeps other machines from moving cartridges; None: nothing does
        """
        self._store = store
        self._clock = clock
        self._keeper = keeper
        self._policy = policy
        self._blame = blame
        self._region = region
        self._bell = bell
        self._messages_bell = messages_bell
        self._host = host
        self._changer = changer
        self._notices = Notices(store=store, clock=clock, host=host)
        self._archive_session = archive_session
        self._recall_session = recall_session
        self._contents = contents
        self._make_room = make_room
        self._on_idle = on_idle
        self._was_any_idle = False
        self._stations = {
            index: Station(bay=bay, idle_since=clock.seconds(), held_since=clock.seconds())
            for index, bay in sorted(bays.items())
        }
        self._to_write: list[CopyToWrite] = []
        self._archives_wait_since: float | None = None
        self._failures: list[Failure] = []
        self._archive_queue = ArchiveQueue(store=store)
        self._renewals = renewals
        self._recall_queue = RecallQueue(store=store, attempts_max=blame.attempts_max)
        self._space_wait_until = 0.0
        self._is_space_short = False
        self._search_again_at = 0.0
        self._searching: Deferred[None] = succeed(None)
        self._is_reconciled = False
        self._is_draining = False
        self._extents: dict[tuple[int, int], WantedExtent] = {}

    @property
    def is_reconciled(self) -> bool:
        """Whether library and record have been brought together since the start."""
        return self._is_reconciled

    @property
    def is_draining(self) -> bool:
        """Whether drives take no new work."""
        return self._is_draining

    def drain(self, is_draining: bool) -> None:
        """Take no more work, end what is under way at its next boundary and put cartridges away, or take up work again."""
        self._is_draining = is_draining
        self._bell.ring()

    def is_any_drive_idle(self) -> bool:
        """Whether some drive has nothing to do."""
        return self._is_reconciled and any(
            station.is_up and station.session is None for station in self._stations.values()
        )

    def _tell_of_idle_drives(self) -> None:
        was_any_idle, self._was_any_idle = self._was_any_idle, self.is_any_drive_idle()
        if self._was_any_idle and not was_any_idle:
            self._on_idle()

    # ── one round ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def one_round(self) -> float:
        """Look, plan, start sessions; return how long to rest."""
        if not self._is_reconciled and not await self._reconcile():
            return RETRY_SECONDS
        now = self._clock.seconds()
        # Somebody may have set the clock back: nothing waits longer than it would have.
        self._space_wait_until = min(self._space_wait_until, now + RETRY_SECONDS)
        self._search_again_at = min(self._search_again_at, now + LOOK_SECONDS)
        for station in self._stations.values():
            station.bound_waits(now)
        await self._notices.look()
        for station in self._stations.values():
            if station.stop_reason is not None:
                await self._drive_down(station, station.stop_reason)
        records = {drive.index: drive for drive in await self._store.drives()}
        cartridges = {record.barcode: record for record in await self._store.cartridges()}
        self._forget_failures(records)
        for station in self._stations.values():
            self._mind(station, records.get(station.bay.index))
            self._mind_exchange(station, now)
        drives = self._views(records)
        await self._notices.records(records, cartridges)
        if self._notices.does_library_fail():
            self._search()
        stations = self._stations.values()
        rests_until = [at for station in stations for at in (station.rests_until, station.exchange_until)]
        if self._is_draining:
            for station in self._stations.values():
                station.gives_way = station.session is not None
            for unload in plan_drain(drives):
                self._start(unload)
            return self._rest_seconds(now, rests_until)
        usable = [drive.index for drive in drives if drive.is_up]
        avoid = pairs_to_avoid(self._failures, now=now, usable_drives=usable, policy=self._blame.apart)
        renewal = await self._renewals.look(cartridges, stuck=stuck_in(drives), in_hand=self._in_hand)
        recall = await self._recall_plan(now, cartridges, drives, avoid, renewal)
        archive = await self._archive_queue.look(now, in_hand=self._in_hand, cartridges=cartridges)
        # Sessions went on while this looked: what they took or ended meanwhile counts.
        drives = self._views(records)
        taken = self._in_hand()
        self._to_write = sorted(
            (
                copy
                for copy in (*archive.to_write, *renewal.to_write)
                if (copy.bundle_id, copy.pool) not in taken
            ),
            key=lambda copy: copy.bundle_id,
        )
        self._contents.expect(copy.bundle_id for copy in self._to_write)
        plan = plan_drives(
            now,
            drives=drives,
            batches=recall.batches if now >= self._space_wait_until else (),
            to_write=self._to_write,
            to_verify=[copy for copy in archive.to_verify if (copy.bundle_id, copy.pool) not in taken],
            cartridges=cartridges,
            avoid=avoid,
            policy=self._policy,
            archives_wait_since=self._archives_wait_since,
        )
        if not recall.batches:
            self._is_space_short = False
        self._note_turns(plan, now)
        if await self._notices.renewal(renewal):
            self._search()
        await self._notices.archive(plan, archive, drives)
        if archive.offline:
            self._search()
        if not self._is_space_short:
            await self._notices.recalls_have_space()
        await self._notices.recall(
            recall, usable, do_archives_wait=bool(archive.to_write or archive.to_verify)
        )
        if self._is_draining:
            # The order came while this was being planned.
            return SHORTEST_REST_SECONDS
        for job in plan.jobs:
            self._start(job)
        self._tell_of_idle_drives()
        times = [self._space_wait_until, *rests_until, *avoid.values()]
        if plan.look_again_at is not None:
            times.append(max(plan.look_again_at, now + SHORTEST_REST_SECONDS))
        return self._rest_seconds(now, times)

    def _rest_seconds(self, now: float, times: Iterable[float]) -> float:
        """Return how long to rest until the first of these times that is still to come, at most until the next look."""
        goes_on = (
            self._search_again_at > now
            or self._notices.is_anything_open
            or any(station.is_leaving for station in self._stations.values())
        )
        longest = LOOK_SECONDS if goes_on else IDLE_LOOK_SECONDS
        waits = (max(SHORTEST_REST_SECONDS, at - now) for at in times if at > now)
        return min(longest, min(waits, default=longest))

    async def stop(self) -> None:
        """Cancel every session; fires when all have let go. Mounted cartridges stay mounted and are taken over next time."""
        sessions = [station.session for station in self._stations.values() if station.session is not None]
        self._searching.cancel()
        for session in sessions:
            session.cancel()
        await DeferredList(sessions, consumeErrors=True)

    def _views(self, records: Mapping[int, Drive]) -> list[DriveView]:
        now = self._clock.seconds()
        return [station.view(now, records.get(index)) for index, station in self._stations.items()]

    def _in_hand(self) -> frozenset[CopyName]:
        """The copies that sessions take care of."""
        return frozenset().union(*(station.in_hand for station in self._stations.values()))

    def _note_turns(self, plan: DrivePlan, now: float) -> None:
        for index, station in self._stations.items():
            if station.session is not None:
                station.gives_way = index in plan.give_way
        if not plan.do_archives_wait:
            self._archives_wait_since = None
        elif self._archives_wait_since is None:
            self._archives_wait_since = now

    # ── bringing library and record together ────────────────────────────────────────────────────────────────────────

    async def _reconcile(self) -> bool:
        if not await self._take_inventory():
            return False
        assert self._keeper.latest is not None
        await self._divide_drives(self._keeper.latest)
        self._is_reconciled = True
        return True

    async def _reserve_changer(self) -> None:
        """
        Keep other machines from moving cartridges; at the start also that one which had the drives before.

        :raise ReservationFault: another machine has the changer, or it does not answer
        """
        if self._changer is None:
            return
        try:
            if self._is_reconciled:
                await self._changer.hold()
            else:
                await self._take_changer(self._changer)
        except ReservationsUnsupported as fault:
            self.log.warn("nothing keeps other machines from moving cartridges: {fault}", fault=fault)
            self._changer = None

    async def _take_changer(self, changer: IReservation) -> None:
        """
        Have the changer, whichever machine began an earlier run: not only those that had a drive have had it.

        :raise ReservationFault: somebody else has it, or it does not answer
        """
        others = others_of(await self._store.hosts(), self._host)
        for other in others:
            try:
                await changer.take_from(other)
            except ReservedByAnother:
                if other is others[-1]:
                    raise
            else:
                return
        await changer.hold()

    async def _divide_drives(self, inventory: Inventory) -> None:
        """Find out whose the drives are, before any is looked at; one that another machine may still use is put down."""
        records = [drive for drive in await self._store.drives() if drive.index in self._stations]
        ownership = divide(records, inventory, self._host)
        by_index = {drive.index: drive for drive in records}
        for index in ownership.ours:
            record = by_index[index]
            if record.host == self._host.text:
                continue
            other = other_host(record, self._host)
            if other is not None and (refusal := await self._stations[index].bay.take_from(other)):
                self.log.warn(
                    "{other} may still use drive {drive}: {refusal}",
                    other=other.name,
                    drive=index,
                    refusal=refusal,
                )
            await self._store.take_drive(index=index, host=self._host.text)
        for foreign in ownership.foreign:
            await self._take_foreign(foreign)

    async def _take_foreign(self, foreign: ForeignDrive) -> None:
        """Have a drive refuse the other machine if it can, else put it down until an operator says that the machine is off."""
        record = foreign.record
        now = self._clock.seconds()
        refusal: str | None = "what is in it is no cartridge of ours"
        if await self._is_admitted(foreign.barcode):
            refusal = await self._stations[record.index].bay.take_from(foreign.host)
        if refusal is None:
            sentence = (
                f"taken from {foreign.host.name}, which can no longer use it (SCSI persistent reservation)"
            )
            self.log.warn("drive {drive}: {sentence}", drive=record.index, sentence=sentence)
            reason = sentence if record.state is DriveState.UP else f"{record.reason}; {sentence}"
            await self._store.set_drive_state(
                index=record.index,
                state=record.state,
                reason=reason,
                at=now,
                by=APPLIANCE,
                host=self._host.text,
            )
            return
        self._stations[record.index].bay.tell("left untouched")
        self.log.warn("drive {drive} is left untouched: {reason}", drive=record.index, reason=foreign.reason)
        if refusal:
            self.log.warn("it cannot be taken: {refusal}", refusal=refusal)
        if record.state is DriveState.DOWN and record.reason.startswith(foreign.reason):
            # An earlier run of ours found it so.
            return
        await self._store.set_drive_state(
            index=record.index, state=DriveState.DOWN, reason=foreign.down_reason, at=now, by=APPLIANCE
        )

    async def _is_admitted(self, barcode: str | None) -> bool:
        record = None if barcode is None else await self._store.cartridge(barcode)
        return record is not None and record.state is not CartridgeState.UNADMITTED

    async def _take_inventory(self) -> bool:
        """Take inventory, and keep the alert about a library that cannot be used; return whether it can."""
        try:
            await self._reserve_changer()
            self._note_contents(await self._keeper.take())
        except (LibraryFault, CommandFault, LockHeld, ReservationFault) as fault:
            await self._notices.library_fails(fault)
            self.log.warn("the library cannot be used: {fault}", fault=fault)
            return False
        await self._notices.library_works()
        return True

    def _note_contents(self, inventory: Inventory) -> None:
        """Take over what the library says of drives of which we do not know it ourselves."""
        for element in inventory.drives:
            station = self._stations.get(element.number)
            if station is not None and station.is_to_be_looked_at and station.session is None:
                station.bay.barcode = element.barcode

    def _forget_failures(self, records: Mapping[int, Drive]) -> None:
        """Begin anew with drives that an operator has put up since they failed: whoever does that has looked at them."""
        cleared_at = {
            drive.index: drive.changed_at
            for drive in records.values()
            if drive.state is DriveState.UP and drive.changed_by != APPLIANCE
        }
        self._failures = [
            failure for failure in self._failures if failure.at > cleared_at.get(failure.drive, float("-inf"))
        ]

    def _mind(self, station: Station, record: Drive | None) -> None:
        """
        Follow the record of a drive.

        What is in it must be found out after the start, and when an operator puts it up again; beside the others: one that keeps us
        waiting keeps no other from its work. One that an operator puts down ends its session and puts its cartridge away.
        """
        now = self._clock.seconds()
        station.is_up = record is None or record.state is DriveState.UP
        if station.is_up:
            station.is_leaving = False
            if station.is_to_be_looked_at and station.session is None and now >= station.rests_until:
                self._run(station, self._look_at(station))
            return
        if not station.is_to_be_looked_at and not station.is_leaving:
            station.leave(now)
        if not station.is_leaving:
            return
        if station.session is None and station.bay.barcode is None:
            station.is_leaving, station.is_to_be_looked_at = False, True
        elif station.session is not None and station.stands_still(now):
            self.log.warn(
                "drive {drive} is down and stands still: its transfer is broken off", drive=station.bay.index
            )
            station.session.cancel()

    def _mind_exchange(self, station: Station, now: float) -> None:
        """
        Leave to others what a drive was to do that does not get to it: an unmount, a load or a mount can hang for hours, and other
        drives and other copies are there.
        """
        if station.job is None or not station.has_overrun_exchange(now):
            return
        self.log.warn(
            "drive {drive} (with {held}) takes long to get ready for {wanted}: what it was to do with it is left to others",
            drive=station.bay.index,
            held=station.bay.barcode,
            wanted=station.job.barcode,
        )
        station.lose_job()

    async def _look_at(self, station: Station) -> None:
        try:
            await station.bay.adopt()
        except TapeTrouble as trouble:
            if trouble.must_stop_drive or (station.rests >= LOOKS_MAX and not trouble.is_robot):
                await self._drive_down(station, trouble.sentence)
            else:
                # What we looked at may have ended in that moment: the next look tells.
                self.log.warn("{sentence}", sentence=trouble.sentence)
                station.rest(self._clock.seconds())
        except MetadataUnavailable:
            station.rest(self._clock.seconds())
            raise
        else:
            station.rests = 0
            station.is_to_be_looked_at = False
            station.held_since = self._clock.seconds()
            await self._note_unclean_ends(station, tells_of_killed=False)
        finally:
            station.session = None
            self._bell.ring()

    async def look_at_library(self) -> None:
        """
        Take inventory now: an operator changed something, or a robot error has to be explained.

        :raise LibraryFault: the library cannot be used; says why
        """
        self._note_contents(await self._keeper.take())
        await self._notices.library_works()
        self._bell.ring()

    # ── what waits ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _recall_plan(
        self,
        now: float,
        cartridges: Mapping[str, Cartridge],
        drives: list[DriveView],
        avoid: Collection[tuple[int, str]],
        renewal: RenewalWork,
    ) -> RecallPlan:
        stuck = stuck_in(drives)
        readable = {
            record.barcode
            for record in cartridges.values()
            if record.is_present and record.state in READABLE and record.barcode not in stuck
        }
        doubtful = {
            record.barcode for record in cartridges.values() if record.state is CartridgeState.SUSPECT
        }
        work = await self._recall_queue.look(readable=readable, doubtful=doubtful)
        self._extents = dict(work.extents)
        for entry in work.hopeless:
            await self._give_up(entry, now)
        usable = [drive.index for drive in drives if drive.is_up]
        welcome = {barcode for barcode in readable if any((index, barcode) not in avoid for index in usable)}
        recalls = [drive.job for drive in drives if isinstance(drive.job, DoRecall)]
        reading = {item.name for job in recalls for item in job.batch.items}
        items: list[Wanted | WantedBundle] = [*work.wanted, *renewal.wanted]
        plan = plan_batches(
            [item for item in items if item.name not in reading],
            readable=welcome or readable,
            loaded={drive.barcode for drive in drives if drive.barcode is not None},
            engaged=engaged(drives, now, self._policy),
        )
        if await self._notices.unreachable(plan, cartridges, stuck):
            self._search()
        return plan

    async def _give_up(self, entry: WantedExtent, now: float) -> None:
        """End a restore of which no copy is left that is worth another attempt."""
        version = await self._store.version(entry.version.version_uid)
        if version is None or version.restore is None or version.restore.phase is not RestorePhase.ONGOING:
            return
        where = ", ".join(sorted(copy.barcode for copy in entry.copies if copy.barcode)) or "no cartridge"
        name = version.name
        sentence = (
            f"no copy of {name} could be read (bundle {entry.member.bundle_id} on {where}). Restore it again when another "
            "drive is at hand, or upload it again if you have it elsewhere; then close this alert"
        )
        try:
            await self._store.change_restore(
                version.version_uid,
                revision=version.revision,
                restore=None,
                messages=[restore_failed(version, at=now, region=self._region, reason=sentence)],
            )
        except Conflict:
            return
        self._messages_bell.ring()
        self._recall_queue.forget(entry.member.bundle_id)
        await self._notices.restore_failed(name, sentence)
        self.log.error("restore failed: {sentence}", sentence=sentence)

    # ── sessions ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _start(self, job: Job) -> None:
        station = self._stations[job.drive]
        station.begin(job, self._clock.seconds())
        self._run(station, self._session(station, job))

    def _run(self, station: Station, work: Coroutine[Deferred[Any], Any, None]) -> None:
        session = Deferred.fromCoroutine(work)
        station.session = None if session.called else session
        session.addErrback(self._ended_badly, station.bay.index)

    def _next_copy(self, station: Station, job: DoArchive, room_bytes: int) -> CopyToWrite | None:
        """Put the next copy that the job's cartridge takes into the hand of its session."""
        if self._is_draining:
            return None
        copies = [copy for copy in self._to_write if copy.pool == job.pool]
        copy = next_copy(copies, barcode=job.barcode, room_bytes=room_bytes)
        if copy is not None:
            self._to_write.remove(copy)
            station.in_hand.add((copy.bundle_id, copy.pool))
        return copy

    def _ended_badly(self, failure: WhatFailed, index: int) -> None:
        if failure.check(MetadataUnavailable, Conflict):
            self.log.warn(
                "what became of the work of drive {drive} could not be recorded: {reason}",
                drive=index,
                reason=failure.value,
            )
        elif not failure.check(CancelledError):
            self.log.failure("the work of drive {drive} ended badly", failure, drive=index)

    async def _session(self, station: Station, job: Job) -> None:
        bay, barcode = station.bay, job.barcode
        try:
            match job:
                case DoArchive():
                    await self._archive_session(bay).run(
                        job,
                        next_copy=partial(self._next_copy, station, job),
                        is_over=station.is_over,
                        put_off=self._put_off,
                    )
                case DoRecall():
                    session = self._recall_session(bay, self._recall_queue.failed)
                    await session.run(job, self._extents, is_over=station.is_over)
                    self._is_space_short = False
                case DoUnload():
                    await bay.empty()
            await self._worked(station, barcode, job)
            await self._note_unclean_ends(station)
        except CartridgeFull as full:
            self.log.info("{reason}", reason=full)
        except JobLost:
            self.log.info("drive {drive} has got that over at last", drive=bay.index)
            await self._note_unclean_ends(station)
        except RecallWaitsForSpace as full:
            self._space_wait_until = self._clock.seconds() + RETRY_SECONDS
            self._is_space_short = True
            self._make_room()
            await self._notices.recalls_wait_for_space(full)
        except TapeTrouble as trouble:
            await self._failed(station, barcode, trouble)
        except CancelledError:
            raise
        except (MetadataUnavailable, Conflict) as away:
            self.log.warn(
                "the work of drive {drive} with {barcode} is begun again later: {reason}",
                drive=bay.index,
                barcode=barcode,
                reason=away,
            )
            station.rest(self._clock.seconds())
        except Exception:  # noqa: BLE001 - a bug must not take the drive with it silently
            self.log.failure(
                "the session of drive {drive} with {barcode} failed", drive=bay.index, barcode=barcode
            )
            station.rest(self._clock.seconds())
            await self._notices.session_is_a_mistake(bay.index, barcode)
        finally:
            station.end(self._clock.seconds())
            bay.job = "idle"
            bay.tell("idle")
            self._bell.ring()

    async def _worked(self, station: Station, barcode: str, job: Job) -> None:
        index = station.bay.index
        self._failures = [
            failure for failure in self._failures if failure.drive != index or failure.barcode != barcode
        ]
        station.rests = 0
        if not isinstance(job, DoUnload):
            await self._notices.session_worked(index, barcode)

    async def _failed(self, station: Station, wanted: str, trouble: TapeTrouble) -> None:
        bay, now = station.bay, self._clock.seconds()
        barcode = trouble.barcode or wanted
        self.log.error("{sentence}", sentence=trouble.sentence)
        # Putting the cartridge away can take long: other drives need not wait for that.
        station.fail(wanted)
        self._bell.ring()
        if trouble.must_stop_drive:
            await self._drive_down(station, trouble.sentence)
            await self._take_inventory()
            return
        await self._notices.session_failed(bay.index, barcode, trouble)
        # The robot may have done what it did not tell of.
        station.is_to_be_looked_at |= trouble.is_robot
        needs_rest = trouble.is_robot or trouble.is_innocent
        is_down = False
        try:
            await bay.empty()
        except TapeTrouble as worse:
            station.is_to_be_looked_at |= worse.is_robot
            is_forgiven = worse.is_robot or worse.is_innocent or self._can_wait(station, worse)
            if is_forgiven and not worse.must_stop_drive:
                # It is not the drive's fault: the cartridge stays in it, and is put away later.
                needs_rest = True
            else:
                is_down = True
                is_same = _cause(worse) == _cause(trouble)
                reason = trouble.sentence if is_same else f"{worse.sentence} (after: {trouble.sentence})"
                await self._drive_down(station, reason)
        if trouble.is_cartridge_wrong:
            self._explain(lambda failure: failure.barcode == barcode)
            await self._suspect(barcode, trouble.sentence)
        elif trouble.is_drive_wrong and not is_down:
            if self._can_wait(station, trouble):
                needs_rest = True
            else:
                await self._drive_down(station, trouble.sentence)
        elif not needs_rest and _was_killed(bay.last_end):
            needs_rest = True
        elif not needs_rest and not is_down:
            await self._judge(station, barcode, trouble.sentence, now)
        if needs_rest:
            station.rest(self._clock.seconds())
        await self._note_unclean_ends(station, told=barcode)
        if not await self._take_inventory() and trouble.is_robot:
            # The alert about the library says it.
            await self._notices.session_is_explained(bay.index, barcode)

    def _can_wait(self, station: Station, trouble: TapeTrouble) -> bool:
        """Whether trouble with a drive may pass by itself, and has not lasted too long for that."""
        return trouble.may_pass and station.rests < LOOKS_MAX

    async def _note_unclean_ends(
        self, station: Station, *, told: str | None = None, tells_of_killed: bool = True
    ) -> None:
        """
        Tell of mounts that ended without their index on tape, and judge who may be guilty of it.

        :param told: a cartridge whose failure was told and judged already
        :param tells_of_killed: False: an ``ltfs`` that was killed, or whose end nobody saw, is nothing to tell
        """
        bay = station.bay
        ends, bay.unclean_ends = bay.unclean_ends, []
        for barcode, end in ends:
            is_killed = _was_killed(end)
            if barcode == told or (is_killed and not tells_of_killed):
                continue
            trouble = TapeTrouble(
                f"{barcode} was not closed cleanly in drive {bay.index}: {'; '.join(end.findings)}. What counts as on tape "
                "is there, and it is checked before its next use"
            )
            await self._notices.session_failed(bay.index, barcode, trouble)
            if not is_killed:
                await self._judge(station, barcode, trouble.sentence, self._clock.seconds())

    async def _judge(self, station: Station, barcode: str, sentence: str, now: float) -> None:
        drive = station.bay.index
        latest = Failure(at=now, drive=drive, barcode=barcode)
        verdict = judge(self._failures, latest, window_seconds=self._blame.window_seconds)
        self._failures = [
            *(f for f in self._failures if now - f.at <= self._blame.window_seconds),
            latest,
        ]
        if verdict.cartridge_is_guilty:
            self._explain(lambda failure: failure.barcode == barcode)
            await self._suspect(barcode, f"failed in two drives; the last time: {sentence}")
        elif verdict.drive_is_guilty:
            self._explain(lambda failure: failure.drive == drive)
            await self._drive_down(station, f"failed with two cartridges; the last time: {sentence}")

    def _explain(self, is_explained: Callable[[Failure], bool]) -> None:
        """Note that the guilty one was found: what it failed with is innocent."""
        self._failures = [
            replace(failure, is_explained=True) if is_explained(failure) else failure
            for failure in self._failures
        ]

    def _put_off(self, bundle_id: str) -> None:
        self._archive_queue.put_off(bundle_id, self._clock.seconds() + PUT_OFF_SECONDS)

    async def _suspect(self, barcode: str, reason: str) -> None:
        record = await self._store.cartridge(barcode)
        if record is None or record.state not in (
            CartridgeState.SCRATCH,
            CartridgeState.FORMATTING,
            CartridgeState.FILLING,
            CartridgeState.FULL,
            CartridgeState.SUSPECT,
        ):
            return
        await change_cartridge(
            self._store,
            barcode,
            at=self._clock.seconds(),
            by=APPLIANCE,
            reason=reason,
            event=CartridgeEvent.FAIL,
            change=lambda known: replace(known, failures=known.failures + 1),
        )
        await self._notices.cartridge_is_suspect(barcode, reason)

    async def _drive_down(self, station: Station, reason: str) -> None:
        index = station.bay.index
        # Until the record says so, we know it ourselves: the store may be away.
        station.stop_reason = reason
        station.is_to_be_looked_at, station.is_leaving = True, False
        self.log.error("drive {drive} is down: {reason}", drive=index, reason=reason)
        await self._store.set_drive_state(
            index=index, state=DriveState.DOWN, reason=reason, at=self._clock.seconds(), by=APPLIANCE
        )
        station.stop_reason = None
        await self._notices.drive_is_down(index, reason)

    # ── searching ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _search(self) -> None:
        """Take inventory once a minute, beside the rounds, while a cartridge or the library itself is waited for."""
        now = self._clock.seconds()
        if now < self._search_again_at:
            return
        self._search_again_at = now + LOOK_SECONDS
        self._searching = Deferred.fromCoroutine(self._take_inventory()).addCallbacks(
            lambda _: self._bell.ring(), self._search_failed
        )

    def _search_failed(self, failure: WhatFailed) -> None:
        if not failure.check(CancelledError, MetadataUnavailable, Conflict):
            self.log.failure("looking for missing cartridges failed", failure)


def _cause(trouble: TapeTrouble) -> str:
    """What is behind a trouble, whatever was being done."""
    return str(getattr(trouble.__cause__, "reason", trouble.__cause__ or trouble))


def _was_killed(end: UnmountVerdict | None) -> bool:
    """Whether what served a mount was killed, or nobody saw its end: that says nothing of drive and cartridge."""
    return end is not None and end.was_cut_off
