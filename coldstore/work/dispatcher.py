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
from coldstore.model.cartridges import READABLE, Cartridge, CartridgeEvent, CartridgeState, Drive, DriveState
from coldstore.model.errors import MetadataUnavailable, NoSuchBucket, NoSuchKey
from coldstore.model.events import Severity
from coldstore.model.library import Inventory
from coldstore.model.objects import RestorePhase
from coldstore.plan.blame import ApartPolicy, Failure, judge, pairs_to_avoid
from coldstore.plan.messages import restore_failed
from coldstore.plan.mount import (
    TAKES_BUNDLES,
    DoArchive,
    DoRecall,
    DoUnload,
    DrivePlan,
    DriveView,
    Job,
    MountPolicy,
    plan_drain,
    plan_drives,
)
from coldstore.plan.recall import RecallPlan, plan_batches
from coldstore.work.alerts import Alerts
from coldstore.work.bay import APPLIANCE, Bay
from coldstore.work.inventory import InventoryKeeper
from coldstore.work.queues import ArchiveQueue, ArchiveWork, RecallQueue
from coldstore.work.reading import RecallSession, RecallWaitsForSpace
from coldstore.work.records import change_cartridge
from coldstore.work.trouble import TapeTrouble
from coldstore.work.writing import ArchiveSession

LOOK_SECONDS = 60.0
"""A round at least this often, whatever the bells do."""
SHORTEST_REST_SECONDS = 0.05
RETRY_SECONDS = 30.0
PUT_OFF_SECONDS = 3600.0
"""A bundle whose bytes are damaged on disk is tried again after so long: an operator may have repaired the disk."""
REST_FIRST_SECONDS = 2.0
REST_MOST_SECONDS = 300.0
"""A drive that failed by nobody's fault rests before it is tried again; the rest doubles with every failure in a row."""
LOOKS_MAX = 3
"""Failures in a row after which a drive that cannot be looked at is given up."""
FORGIVEN_PER_ROUND = 100
ALERTS_OF_BUNDLES = ("staged-bytes-damaged", "copies-differ", "verification-failed")
"""They are about bundles, and over when the bundle has all its copies."""


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
        archive_session: Callable[[Bay], ArchiveSession],
        recall_session: Callable[[Bay, Callable[[str, str], int]], RecallSession],
        make_room: Callable[[], None],
    ) -> None:
        """:param make_room: is called when the disk is too full for a recall"""
        self._bays = bays
        self._store = store
        self._clock = clock
        self._keeper = keeper
        self._policy = policy
        self._blame = blame
        self._region = region
        self._bell = bell
        self._alerts = Alerts(store=store, clock=clock)
        self._archive_session = archive_session
        self._recall_session = recall_session
        self._make_room = make_room
        self._sessions: dict[int, Deferred[None]] = {}
        self._jobs: dict[int, Job] = {}
        self._idle_since = dict.fromkeys(bays, clock.seconds())
        self._last_was_archive = dict.fromkeys(bays, False)
        self._failures: list[Failure] = []
        self._archive_queue = ArchiveQueue(store=store)
        self._recall_queue = RecallQueue(store=store, attempts_max=blame.attempts_max)
        self._space_wait_until = 0.0
        self._is_space_short = False
        self._rests_until = dict.fromkeys(bays, 0.0)
        self._rests = dict.fromkeys(bays, 0)
        self._started_at = dict.fromkeys(bays, 0.0)
        self._do_others_wait = False
        self._to_look_at = set(bays)
        self._to_stop: dict[int, str] = {}
        self._works_since: dict[str, set[str]] = {}
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
        """Take no more work and put cartridges away, or take up work again."""
        self._is_draining = is_draining
        self._bell.ring()

    def is_any_drive_idle(self) -> bool:
        """Whether some drive has nothing to do."""
        return self._is_reconciled and len(self._sessions) < len(self._bays)

    # ── one round ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def one_round(self) -> float:
        """Look, plan, start sessions; return how long to rest."""
        if not self._is_reconciled and not await self._reconcile():
            return RETRY_SECONDS
        now = self._clock.seconds()
        await self._alerts.look()
        for index, reason in list(self._to_stop.items()):
            await self._drive_down(index, reason)
        records = {drive.index: drive for drive in await self._store.drives()}
        cartridges = {record.barcode: record for record in await self._store.cartridges()}
        self._look_at_drives(records)
        drives = [self._view(bay, records) for _, bay in sorted(self._bays.items())]
        await self._tell_states(records, cartridges)
        if self._is_draining:
            for unload in plan_drain(drives):
                self._start(unload)
            return self._rest_seconds(now, self._rests_until.values())
        usable = [drive.index for drive in drives if drive.is_up]
        avoid = pairs_to_avoid(self._failures, now=now, usable_drives=usable, policy=self._blame.apart)
        recall = await self._recall_plan(now, cartridges, drives, avoid)
        archiving = [job for job in self._jobs.values() if isinstance(job, DoArchive)]
        archive = await self._archive_queue.look(now, jobs=archiving, cartridges=cartridges)
        plan = plan_drives(
            now,
            drives=drives,
            batches=recall.batches if now >= self._space_wait_until else (),
            to_write=archive.to_write,
            to_verify=archive.to_verify,
            cartridges=cartridges,
            avoid=avoid,
            policy=self._policy,
        )
        self._do_others_wait = plan.others_wait
        if not recall.batches:
            self._is_space_short = False
        await self._tell_archive(plan, archive)
        await self._tell_recall(recall, usable)
        if self._is_draining:
            # The order came while this was being planned.
            return SHORTEST_REST_SECONDS
        for job in plan.jobs:
            self._start(job)
        times = [self._space_wait_until, *self._rests_until.values(), *avoid.values()]
        if plan.look_again_at is not None:
            times.append(max(plan.look_again_at, now + SHORTEST_REST_SECONDS))
        return self._rest_seconds(now, times)

    @staticmethod
    def _rest_seconds(now: float, times: Iterable[float]) -> float:
        """Return how long to rest until the first of these times that is still to come, at most until the next look."""
        waits = (max(SHORTEST_REST_SECONDS, at - now) for at in times if at > now)
        return min(LOOK_SECONDS, min(waits, default=LOOK_SECONDS))

    async def stop(self) -> None:
        """Cancel every session; fires when all have let go. Mounted cartridges stay mounted and are taken over next time."""
        sessions = list(self._sessions.values())
        self._searching.cancel()
        for session in sessions:
            session.cancel()
        await DeferredList(sessions, consumeErrors=True)

    def _view(self, bay: Bay, records: Mapping[int, Drive]) -> DriveView:
        record = records.get(bay.index)
        return DriveView(
            index=bay.index,
            is_up=(record is None or record.state is DriveState.UP) and bay.index not in self._to_stop,
            is_busy=bay.index in self._sessions or self._clock.seconds() < self._rests_until[bay.index],
            barcode=bay.barcode,
            idle_since=self._idle_since[bay.index],
            last_was_archive=self._last_was_archive[bay.index],
            works_on_archive=bay.job == "archive",
            works_with=_barcode_of(self._jobs[bay.index]) if bay.index in self._jobs else None,
        )

    # ── bringing library and record together ────────────────────────────────────────────────────────────────────────

    async def _reconcile(self) -> bool:
        self._is_reconciled = await self._take_inventory()
        return self._is_reconciled

    async def _take_inventory(self) -> bool:
        """Take inventory, and keep the alert about a library that cannot be used; return whether it can."""
        try:
            self._note_contents(await self._keeper.take())
        except (LibraryFault, CommandFault, LockHeld) as fault:
            await self._alerts.open(
                "library", "library", Severity.CRITICAL, f"the library cannot be used: {fault}"
            )
            self.log.warn("the library cannot be used: {fault}", fault=fault)
            return False
        await self._alerts.close("library", "library")
        return True

    def _note_contents(self, inventory: Inventory) -> None:
        """Take over what the library says of drives of which we do not know it ourselves."""
        for element in inventory.drives:
            if element.number in self._to_look_at and element.number not in self._sessions:
                self._bays[element.number].barcode = element.barcode

    def _look_at_drives(self, records: Mapping[int, Drive]) -> None:
        """
        Find out what is in drives of which we cannot know it: after the start, and when an operator puts one up again.

        Beside each other: one that keeps us waiting keeps no other from its work.
        """
        for index, bay in self._bays.items():
            record = records.get(index)
            if record is not None and record.state is DriveState.DOWN:
                self._to_look_at.add(index)
            elif (
                index in self._to_look_at
                and index not in self._sessions
                and self._clock.seconds() >= self._rests_until[index]
            ):
                self._run(bay, self._look_at(bay))

    async def _look_at(self, bay: Bay) -> None:
        try:
            await bay.adopt()
        except TapeTrouble as trouble:
            if trouble.must_stop_drive or self._rests[bay.index] >= LOOKS_MAX:
                await self._drive_down(bay.index, trouble.sentence)
            else:
                # What we looked at may have ended in that moment: the next look tells.
                self.log.warn("{sentence}", sentence=trouble.sentence)
                self._rest(bay.index)
        else:
            self._rests[bay.index] = 0
            self._to_look_at.discard(bay.index)
        finally:
            self._sessions.pop(bay.index, None)
            self._bell.ring()

    async def look_at_library(self) -> None:
        """
        Take inventory now: an operator changed something, or a robot error has to be explained.

        :raise LibraryFault: the library cannot be used; says why
        """
        self._note_contents(await self._keeper.take())
        await self._alerts.close("library", "library")
        self._bell.ring()

    # ── what waits ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _recall_plan(
        self,
        now: float,
        cartridges: Mapping[str, Cartridge],
        drives: list[DriveView],
        avoid: Collection[tuple[int, str]],
    ) -> RecallPlan:
        busy_recalls = {job.batch.barcode for job in self._jobs.values() if isinstance(job, DoRecall)}
        stuck = {drive.barcode: drive.index for drive in drives if drive.barcode and not drive.is_up}
        readable = {
            record.barcode
            for record in cartridges.values()
            if record.is_present and record.state in READABLE and record.barcode not in stuck
        }
        work = await self._recall_queue.look(readable=readable)
        self._extents = dict(work.extents)
        for entry in work.hopeless:
            await self._give_up(entry, now)
        usable = [drive.index for drive in drives if drive.is_up]
        welcome = {barcode for barcode in readable if any((index, barcode) not in avoid for index in usable)}
        loaded = {drive.barcode for drive in drives if drive.barcode is not None}
        plan = plan_batches(work.wanted, readable=welcome or readable, loaded=loaded)
        await self._tell_unreachable(plan, cartridges, stuck)
        return replace(
            plan, batches=tuple(batch for batch in plan.batches if batch.barcode not in busy_recalls)
        )

    async def _give_up(self, entry: WantedExtent, now: float) -> None:
        """End a restore of which no copy is left that is worth another attempt."""
        version = await self._store.version(entry.version.version_uid)
        if version is None or version.restore is None or version.restore.phase is not RestorePhase.ONGOING:
            return
        where = ", ".join(sorted(copy.barcode for copy in entry.copies if copy.barcode)) or "no cartridge"
        name = f"{version.facts.bucket}/{version.facts.key.decode()}"
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
        self._recall_queue.forget(entry.member.bundle_id)
        await self._alerts.open("restore-failed", f"object {name}", Severity.CRITICAL, sentence)
        self.log.error("restore failed: {sentence}", sentence=sentence)

    # ── sessions ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _start(self, job: Job) -> None:
        bay = self._bays[job.drive]
        bay.job = {DoArchive: "archive", DoRecall: "recall", DoUnload: "unload"}[type(job)]
        self._jobs[job.drive] = job
        self._started_at[job.drive] = self._clock.seconds()
        bay.last_end = None
        self._run(bay, self._session(bay, job))

    def _run(self, bay: Bay, work: Coroutine[Deferred[Any], Any, None]) -> None:
        self._sessions[bay.index] = session = Deferred.fromCoroutine(work)
        if session.called:
            self._sessions.pop(bay.index, None)
        session.addErrback(self._ended_badly, bay.index)

    def _ended_badly(self, failure: WhatFailed, index: int) -> None:
        if failure.check(MetadataUnavailable, Conflict):
            self.log.warn(
                "what became of the work of drive {drive} could not be recorded: {reason}",
                drive=index,
                reason=failure.value,
            )
        elif not failure.check(CancelledError):
            self.log.failure("the work of drive {drive} ended badly", failure, drive=index)

    async def _session(self, bay: Bay, job: Job) -> None:
        barcode = _barcode_of(job)
        try:
            match job:
                case DoArchive():
                    await self._archive_session(bay).run(
                        job, should_yield=partial(self._should_yield, bay.index), put_off=self._put_off
                    )
                case DoRecall():
                    session = self._recall_session(bay, self._recall_queue.failed)
                    await session.run(job, self._extents, should_yield=partial(self._should_yield, bay.index))
                    self._is_space_short = False
                case DoUnload():
                    await bay.empty()
            await self._worked(bay, barcode, job)
        except RecallWaitsForSpace as full:
            self._space_wait_until = self._clock.seconds() + RETRY_SECONDS
            self._is_space_short = True
            self._make_room()
            await self._alerts.open(
                "waiting-for-space",
                "staging",
                Severity.WARNING,
                f"recalls wait until the disk has room: {full}",
            )
        except TapeTrouble as trouble:
            await self._failed(bay, barcode, trouble)
        except CancelledError:
            raise
        except (MetadataUnavailable, Conflict) as away:
            self.log.warn(
                "the work of drive {drive} with {barcode} is begun again later: {reason}",
                drive=bay.index,
                barcode=barcode,
                reason=away,
            )
            self._rest(bay.index)
        except Exception:  # noqa: BLE001 - a bug must not take the drive with it silently
            self.log.failure(
                "the session of drive {drive} with {barcode} failed", drive=bay.index, barcode=barcode
            )
            self._rest(bay.index)
            await self._alerts.open(
                "tape-failure",
                f"drive {bay.index} with {barcode}",
                Severity.CRITICAL,
                f"a mistake of ours ended the work of drive {bay.index} with {barcode}; it is tried again. The log says more",
            )
        finally:
            self._last_was_archive[bay.index] = isinstance(job, DoArchive)
            self._idle_since[bay.index] = self._clock.seconds()
            self._sessions.pop(bay.index, None)
            self._jobs.pop(bay.index, None)
            bay.job = "idle"
            bay.tell("idle")
            self._bell.ring()

    async def _worked(self, bay: Bay, barcode: str, job: Job) -> None:
        self._failures = [
            failure for failure in self._failures if failure.drive != bay.index or failure.barcode != barcode
        ]
        self._rests[bay.index] = 0
        if not isinstance(job, DoUnload):
            await self._forgive(f"drive {bay.index}", barcode)

    async def _forgive(self, drive: str, barcode: str) -> None:
        """Close the alerts about failures of which drive and cartridge have both worked since, together or apart."""
        for subject in self._alerts.subjects("tape-failure"):
            pair = set(subject.split(" with "))
            works = self._works_since.setdefault(subject, set())
            works |= pair & {drive, barcode}
            if works == pair:
                await self._alerts.close("tape-failure", subject)
                del self._works_since[subject]

    async def _failed(self, bay: Bay, barcode: str, trouble: TapeTrouble) -> None:
        now = self._clock.seconds()
        self.log.error("{sentence}", sentence=trouble.sentence)
        subject = f"drive {bay.index} with {barcode}"
        self._works_since.pop(subject, None)
        if trouble.must_stop_drive:
            await self._drive_down(bay.index, trouble.sentence)
            await self._take_inventory()
            return
        await self._alerts.open(
            "tape-failure", subject, Severity.WARNING, _failure_sentence(trouble.sentence)
        )
        try:
            await bay.empty()
        except TapeTrouble as worse:
            if (worse.is_robot or worse.is_innocent) and not worse.must_stop_drive:
                # It is not the drive's fault: the cartridge stays in it, and is put away later.
                self._rest(bay.index)
            else:
                before = "" if worse.sentence == trouble.sentence else f" (after: {trouble.sentence})"
                await self._drive_down(bay.index, f"{worse.sentence}{before}")
        if trouble.is_cartridge_wrong:
            await self._suspect(barcode, trouble.sentence)
        elif trouble.is_robot or trouble.is_innocent or _was_killed(bay.last_end):
            self._rest(bay.index)
        else:
            await self._judge(bay, barcode, trouble, now)
        await self._take_inventory()

    async def _judge(self, bay: Bay, barcode: str, trouble: TapeTrouble, now: float) -> None:
        latest = Failure(at=now, drive=bay.index, barcode=barcode)
        verdict = judge(self._failures, latest, window_seconds=self._blame.window_seconds)
        self._failures = [
            *(f for f in self._failures if now - f.at <= self._blame.window_seconds),
            latest,
        ]
        if verdict.cartridge_is_guilty:
            await self._suspect(barcode, f"failed in two drives; the last time: {trouble.sentence}")
        elif verdict.drive_is_guilty:
            await self._drive_down(
                bay.index, f"failed with two cartridges; the last time: {trouble.sentence}"
            )

    def _rest(self, index: int) -> None:
        self._rests[index] += 1
        pause = REST_FIRST_SECONDS * 2.0 ** min(20, self._rests[index] - 1)
        self._rests_until[index] = self._clock.seconds() + min(REST_MOST_SECONDS, pause)

    def _should_yield(self, index: int) -> bool:
        """Whether the session of a drive has had it for long enough, while others wait."""
        held_seconds = self._clock.seconds() - self._started_at[index]
        return self._do_others_wait and held_seconds >= self._policy.max_hold_seconds

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
        await self._alerts.open(
            "cartridge-suspect", f"cartridge {barcode}", Severity.WARNING, _suspect_sentence(barcode, reason)
        )

    async def _drive_down(self, index: int, reason: str) -> None:
        # Until the record says so, we know it ourselves: the store may be away.
        self._to_stop[index] = reason
        self._to_look_at.add(index)
        self.log.error("drive {drive} is down: {reason}", drive=index, reason=reason)
        await self._store.set_drive_state(
            index=index, state=DriveState.DOWN, reason=reason, at=self._clock.seconds(), by=APPLIANCE
        )
        del self._to_stop[index]
        await self._alerts.open(
            "drive-down", f"drive {index}", Severity.CRITICAL, _down_sentence(index, reason)
        )

    # ── telling ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _tell_states(self, records: Mapping[int, Drive], cartridges: Mapping[str, Cartridge]) -> None:
        """Tell what the records of drives and cartridges say, however they came to say so."""
        told = {f"drive {drive.index}" for drive in records.values() if drive.state is DriveState.DOWN}
        told |= {
            record.barcode
            for record in cartridges.values()
            if not record.is_present or record.state not in TAKES_BUNDLES | {CartridgeState.FULL}
        }
        for subject in self._alerts.subjects("tape-failure"):
            if not told.isdisjoint(subject.split(" with ")):
                # Another alert says it, or there is nothing left that could fail again.
                await self._alerts.close("tape-failure", subject)
        await self._alerts.keep_only(
            "drive-down",
            {
                f"drive {drive.index}": _down_sentence(drive.index, drive.reason)
                for drive in records.values()
                if drive.state is DriveState.DOWN and drive.changed_by == APPLIANCE
            },
            Severity.CRITICAL,
        )
        await self._alerts.keep_only(
            "cartridge-suspect",
            {
                f"cartridge {record.barcode}": _suspect_sentence(record.barcode, record.reason)
                for record in cartridges.values()
                if record.state is CartridgeState.SUSPECT
            },
            Severity.WARNING,
        )
        for subject in self._alerts.subjects("restore-failed")[:FORGIVEN_PER_ROUND]:
            if await self._is_restore_forgotten(subject):
                await self._alerts.close("restore-failed", subject)

    async def _is_restore_forgotten(self, subject: str) -> bool:
        """Whether the object of a failed restore was restored since, or is gone."""
        bucket, _, key = subject.removeprefix("object ").partition("/")
        try:
            version = await self._store.current_version(bucket, key.encode())
        except (NoSuchBucket, NoSuchKey):
            return True
        return version.on_disk

    async def _tell_archive(self, plan: DrivePlan, archive: ArchiveWork) -> None:
        await self._alerts.keep_only(
            "no-cartridge",
            {
                f"pool {pool}": f"pool {pool} has no cartridge with room: "
                "admit one with `coldstore cartridges admit BARCODE`"
                for pool in plan.starved_pools
            },
            Severity.CRITICAL,
        )
        await self._alerts.keep_only(
            "bundle-too-large",
            {
                f"bundle {copy.bundle_id}": f"bundle {copy.bundle_id} of {copy.size_bytes} bytes is larger than any cartridge "
                f"that pool {copy.pool} can have: admit a larger one with `coldstore cartridges admit BARCODE`"
                for copy in plan.too_large
            },
            Severity.CRITICAL,
        )
        await self._alerts.keep_only(
            "verification-waits",
            {
                f"cartridge {barcode}": f"copies wait to be verified on a cartridge that is not in the library: insert {barcode}"
                for barcode in archive.offline
            },
            Severity.WARNING,
        )
        if not archive.is_complete:
            return
        for kind in ALERTS_OF_BUNDLES:
            for subject in self._alerts.subjects(kind):
                if subject.removeprefix("bundle ") not in archive.unfinished:
                    await self._alerts.close(kind, subject)

    async def _tell_recall(self, recall: RecallPlan, usable: Collection[int]) -> None:
        if not self._is_space_short:
            await self._alerts.close("waiting-for-space", "staging")
        waits = bool(recall.batches) and not usable
        await self._alerts.keep_only(
            "no-drive",
            {"restores": "restores wait, for every drive is down: `coldstore drives` says why"}
            if waits
            else {},
            Severity.CRITICAL,
        )

    async def _tell_unreachable(
        self, plan: RecallPlan, cartridges: Mapping[str, Cartridge], stuck: Mapping[str, int]
    ) -> None:
        awaited = {source.barcode for item in plan.unreachable for source in item.sources}
        missing = {
            barcode for barcode in awaited if barcode not in cartridges or not cartridges[barcode].is_present
        }
        await self._alerts.keep_only(
            "cartridge-stuck",
            {
                f"cartridge {barcode}": f"restores wait for {barcode}, which is in drive {stuck[barcode]}, which is down: "
                f"take it out and put it into a slot, or repair the drive and `coldstore drives up {stuck[barcode]}`"
                for barcode in awaited & set(stuck)
            },
            Severity.CRITICAL,
        )
        await self._alerts.keep_only(
            "cartridge-offline",
            {
                f"cartridge {barcode}": f"restores wait for a cartridge that is not in the library: insert {barcode} "
                "(it is noticed within minutes, or at once by `coldstore inventory`)"
                for barcode in missing
            },
            Severity.WARNING,
        )
        if missing:
            self._search()

    def _search(self) -> None:
        """Take inventory once a minute, beside the rounds, while restores wait for a cartridge to come back."""
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


def _down_sentence(index: int, reason: str) -> str:
    return f"drive {index} is down: {reason.rstrip('.')}. When it is in order again: `coldstore drives up {index}`"


def _suspect_sentence(barcode: str, reason: str) -> str:
    return (
        f"{barcode} is only read from now on: {reason.rstrip('.')}. If that was not its fault: "
        f"`coldstore cartridges trust {barcode}`; if it is not even to be read: `coldstore cartridges condemn {barcode}`"
    )


def _failure_sentence(reason: str) -> str:
    return (
        f"{reason.rstrip('.')}. The work goes on with another drive or cartridge; "
        "nothing needs to be done unless this repeats"
    )


def _was_killed(end: UnmountVerdict | None) -> bool:
    """Whether what served a mount was killed, or nobody saw its end: that says nothing of drive and cartridge."""
    return end is not None and end.was_cut_off


def _barcode_of(job: Job) -> str:
    return job.batch.barcode if isinstance(job, DoRecall) else job.barcode
