"""
A bay: one drive with whatever cartridge is in it, from an empty drive to a mounted volume and back.

The order is fixed by what was measured of the tools: load, wait until ready, format or mount; unmount and wait for the
end of the mount, offline, unload. Every step is recorded before the next begins where a crash would otherwise leave
something that nobody can explain.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from random import Random

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from coldstore.interfaces.drive import DriveCondition, DriveFailed, IDrive
from coldstore.interfaces.filesystem import (
    AlreadyFormatted,
    EndedMount,
    IMountedVolume,
    ITapeFilesystem,
    MountBusy,
    NeedsCheck,
    NotFormatted,
    OutcomeUnknown,
    ReadOnly,
    UnmountVerdict,
    WriteProtected,
    WrongVolume,
)
from coldstore.interfaces.library import ElementOccupied, ILibrary
from coldstore.interfaces.metadata import IMetadataStore
from coldstore.interfaces.process import IDeviceLock
from coldstore.interfaces.reservation import IReservation, ReservationFault, ReservationsUnsupported
from coldstore.model.activity import DriveActivity
from coldstore.model.barcodes import is_cleaning_label
from coldstore.model.cartridges import READABLE, Cartridge, CartridgeEvent, CartridgeState
from coldstore.model.errors import MetadataUnavailable
from coldstore.model.hosts import Host
from coldstore.model.library import DriveElement, Inventory
from coldstore.ontape import paths
from coldstore.ontape.volume import VolumeLabel, readme_text, volume_json
from coldstore.work.activity import ActivityBoard
from coldstore.work.records import change_cartridge
from coldstore.work.trouble import WORLD_FAULTS, CartridgeFull, JobLost, TapeTrouble, as_trouble

APPLIANCE = "coldstore"
"""Who changes records when no person does."""

HOLDS_VOLUME = frozenset({CartridgeState.FORMATTING, *READABLE})
"""States of cartridges that a tape file system may have had in its hands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BayLimits:
    """Deadlines in seconds, longer than what the drive's own commands may take."""

    ready_seconds: float
    first_ready_seconds: float


class Bay:
    """One drive. Exactly one job uses it at a time; the dispatcher sees to that."""

    log = Logger()

    def __init__(
        self,
        *,
        index: int,
        lock: IDeviceLock,
        library: ILibrary,
        drive: IDrive,
        filesystem: ITapeFilesystem,
        store: IMetadataStore,
        clock: IReactorTime,
        random: Random,
        board: ActivityBoard,
        limits: BayLimits,
        before_unmount: Callable[[IMountedVolume], Awaitable[str]],
        after_unmount: Callable[[str, str], Awaitable[None]],
        reservation: "IReservation | None" = None,
    ) -> None:
        """
        :param before_unmount: writes what belongs on the volume last; returns the session's id, or "".
        :param after_unmount: is told barcode and session id of a clean end.
        :param reservation: keeps other machines out of the drive; None: nothing does
        """
        self.index = index
        self.barcode: str | None = None
        self.volume: IMountedVolume | None = None
        self.job = "look"
        self.has_lost_job = False
        self.last_end: UnmountVerdict | None = None
        """How the last mount of this drive ended."""
        self.unclean_ends: list[tuple[str, UnmountVerdict]] = []
        """Mounts of this drive that did not end cleanly, barcode and verdict, until somebody has dealt with them."""
        self._lock = lock
        self._library = library
        self._drive = drive
        self._filesystem = filesystem
        self._store = store
        self._clock = clock
        self._random = random
        self._board = board
        self._limits = limits
        self._before_unmount = before_unmount
        self._after_unmount = after_unmount
        self._reservation = reservation
        self.tell("not looked at yet")

    # ── telling ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def tell(self, step: str, *, detail: str = "", total_bytes: int = 0) -> None:
        """Put the step that begins now on the board."""
        self._board.set(
            DriveActivity(
                drive=self.index,
                barcode=self.barcode,
                is_mounted=self.volume is not None,
                job=self.job,
                step=step,
                detail=detail,
                done_bytes=0,
                total_bytes=total_bytes,
                since=self._clock.seconds(),
            )
        )

    @property
    def activity(self) -> DriveActivity:
        """What the board says of this drive."""
        return self._board.entry(self.index)

    def progress(self, done_bytes: int) -> None:
        """Note how far the present step is."""
        self._board.progress(self.index, done_bytes)

    # ── taking over ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def adopt(self) -> None:
        """
        Take over what an earlier run left in this drive: a running mount, an ended one, or a loaded cartridge.

        :raise TapeTrouble: nobody can say what state the drive is in
        """
        self.job = "look"
        self.tell("looking")
        with as_trouble(f"looking at drive {self.index}"):
            # A command of an earlier run may still be at work in the drive: it holds this lock until it ends.
            await self._lock.acquire(timeout_seconds=self._limits.first_ready_seconds)
            element = self._element(await self._library.inventory())
            self.barcode = element.barcode
            self.volume = None
            found = await self._filesystem.adopt()
        if isinstance(found, EndedMount):
            await self._note_end(found.barcode, found.verdict)
        elif found is not None:
            if found.barcode != self.barcode:
                raise TapeTrouble(
                    f"drive {self.index} has {found.barcode} mounted, but the library sees {self.barcode} in it",
                    must_stop_drive=True,
                )
            self.volume = found
        else:
            self.volume = None
        if self.volume is None:
            await self._reserve()
        else:
            self.log.info(
                "{barcode} is still mounted in drive {drive}: taken over",
                barcode=self.barcode,
                drive=self.index,
            )
        if element.is_full and element.barcode is None:
            raise TapeTrouble(
                f"drive {self.index} holds a cartridge without a readable barcode: unload it by hand",
                must_stop_drive=True,
            )
        self.job = "idle"
        self.tell("idle")

    async def take_from(self, host: Host) -> str | None:
        """
        Have the drive refuse another machine, whatever of it is still running. Nothing else touches the drive.

        :return: None when it does; else why it cannot, in a sentence, empty where nothing was to be tried
        """
        if self._reservation is None:
            return ""
        try:
            await self._reservation.take_from(host)
        except ReservationsUnsupported as fault:
            self._do_without_reservation(fault)
            return str(fault)
        except ReservationFault as fault:
            return str(fault)
        return None

    async def _reserve(self) -> None:
        """
        Keep other machines out of the drive. What works on LTFS volumes does that itself, and leaves the drive to all when it ends.

        :raise TapeTrouble: another machine has it, or the drive does not answer
        """
        if self._reservation is None:
            return
        try:
            with as_trouble(f"keeping other machines out of drive {self.index}"):
                await self._reservation.hold()
        except TapeTrouble as trouble:
            if not isinstance(trouble.__cause__, ReservationsUnsupported):
                raise
            self._do_without_reservation(trouble.__cause__)

    def _do_without_reservation(self, fault: ReservationsUnsupported) -> None:
        self.log.warn(
            "nothing keeps other machines out of drive {drive}: {fault}", drive=self.index, fault=fault
        )
        self._reservation = None

    # ── mounting ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def mount(self, barcode: str, *, pool: str | None) -> IMountedVolume:
        """
        Have a cartridge mounted, whatever was in the drive before.

        :param pool: the pool that it is to be written for (an admitted blank one is formatted then), None to read.
        :raise TapeTrouble: it cannot be had
        :raise CartridgeFull: it takes no more bundles, as is recorded by now
        :raise JobLost: ``has_lost_job`` was set while another cartridge was put away, or this one was mounted
        """
        if self.volume is not None and (self.volume.barcode != barcode or not self.volume.is_alive()):
            await self._unmount()
        record = await self._store.cartridge(barcode)
        if record is None:
            raise TapeTrouble(f"{barcode} is not a known cartridge", is_cartridge_wrong=True)
        is_new = record.state in (CartridgeState.SCRATCH, CartridgeState.FORMATTING)
        if is_new and pool is None:
            raise TapeTrouble(f"{barcode} was never formatted and cannot be read", is_cartridge_wrong=True)
        if self.volume is None:
            await self._load(record)
            if is_new:
                return await self._format(record, pool or "")
            volume = await self._mount(record, is_for_writing=pool is not None)
            if self.has_lost_job:
                raise JobLost
            return volume
        if is_new:
            # Mounted by an earlier run that was cut off before it had labelled the volume.
            return await self._take_into_use(self.volume, record)
        if pool is not None:
            await self._demand_writable(record, self.volume)
        return self.volume

    async def empty(self) -> None:
        """
        Unmount, and put the cartridge back into its slot.

        :raise TapeTrouble: it stays where it is
        """
        if self.volume is not None:
            await self._unmount()
        if self.barcode is None:
            return
        barcode = self.barcode
        record = await self._store.cartridge(barcode)
        with as_trouble(f"unloading {barcode} from drive {self.index}", barcode=barcode):
            self.tell("unloading", detail=barcode)
            await self._let_go(barcode, record)
            slot = await self._put_away(barcode, None if record is None else record.home_slot)
        if slot is None:
            self.log.warn(
                "{barcode} is not in drive {drive} any more: somebody took it out",
                barcode=barcode,
                drive=self.index,
            )
        else:
            self.log.info(
                "{barcode} unloaded from drive {drive} into slot {slot}",
                barcode=barcode,
                drive=self.index,
                slot=slot,
            )
        self.barcode = None
        if record is not None and slot is not None:
            await self._change(barcode, change=lambda known: replace(known, home_slot=slot))
        self.tell("idle")

    async def _let_go(self, barcode: str, record: Cartridge | None) -> None:
        if is_cleaning_label(barcode):
            # It is never ready, and nothing holds on to it: the robot can take it.
            return
        try:
            await self._drive.offline()
        except DriveFailed:
            if record is None or record.state not in HOLDS_VOLUME:
                raise
            await self._unlock(barcode)
            await self._drive.offline()

    async def _put_away(self, barcode: str, home: int | None) -> int | None:
        """
        Have the robot put a cartridge into its home slot or another empty one; return which, None when the drive is empty.

        :raise TapeTrouble: there is no empty slot
        """
        for is_last in (False, False, True):
            inventory = await self._library.inventory()
            if not inventory.drive(self.index).is_full:
                return None
            free = [slot.number for slot in inventory.empty_slots()]
            if not free:
                raise TapeTrouble(
                    f"no empty slot for {barcode} of drive {self.index}", is_robot=True, barcode=barcode
                )
            slot = home if home in free else free[0]
            try:
                await self._library.unload(drive=self.index, slot=slot, barcode=barcode)
            except ElementOccupied:
                # Another drive was emptied into it meanwhile.
                if is_last:
                    raise
                continue
            return slot
        raise AssertionError("the last attempt ends with a slot or a fault")

    async def _unlock(self, barcode: str) -> None:
        """A file system that was killed can leave the cartridge locked in the drive until a check of the volume has ended."""
        self.tell("checking, for the drive does not let go", detail=barcode)
        verdict = await self._filesystem.check()
        await self._change(
            barcode, change=lambda known: replace(known, needs_check=not verdict.is_consistent)
        )

    async def _load(self, record: Cartridge) -> None:
        barcode = record.barcode
        was_here = self.barcode == barcode
        if self.barcode is not None and not was_here:
            await self.empty()
            if self.has_lost_job:
                raise JobLost
        await self._reserve()
        if not was_here:
            self.tell("loading", detail=barcode)
            with as_trouble(f"loading {barcode} into drive {self.index}"):
                inventory = await self._library.inventory()
                slots = [slot.number for slot in inventory.slots if slot.barcode == barcode]
                slots += [slot.number for slot in inventory.mail_slots if slot.barcode == barcode]
                if len(slots) != 1:
                    where = "is in no slot" if not slots else f"is in several slots: {slots}"
                    raise TapeTrouble(f"{barcode} {where}", is_robot=True)
                arrived = await self._library.load(slot=slots[0], drive=self.index, barcode=barcode)
                self._compare(barcode, arrived, slot=slots[0])
            self.barcode = barcode
            self.log.info("{barcode} loaded into drive {drive}", barcode=barcode, drive=self.index)
            await self._change(
                barcode, change=lambda known: replace(known, home_slot=slots[0], loads=known.loads + 1)
            )
        self.tell("waiting until the drive is ready", detail=barcode)
        limit = self._limits.first_ready_seconds if not record.volume_uuid else self._limits.ready_seconds
        with as_trouble(f"waiting for drive {self.index} with {barcode}"):
            status = await self._drive.status()
            if was_here and status.condition is DriveCondition.EMPTY:
                # After `offline` the cartridge still sits in the drive; only the robot can thread it again.
                await self._reload(barcode)
            await self._drive.wait_until_ready(timeout_seconds=limit)

    def _compare(self, barcode: str, inventory: Inventory, *, slot: int) -> None:
        """
        See that the robot brought what was asked for: nothing is formatted or written on its word alone.

        :raise TapeTrouble: another cartridge is in the drive
        """
        element = self._element(inventory)
        others = [found for found in inventory.find(barcode) if found != element]
        came_unread = element.is_full and element.barcode is None and not others
        if element.barcode == barcode or (came_unread and not inventory.storage(slot).is_full):
            return
        self.barcode = element.barcode
        raise TapeTrouble(
            f"the robot was to bring {barcode} from slot {slot} into drive {self.index}, and brought "
            f"{element.barcode or 'nothing that it can name'}: look at the library's panel, its slots may be misaligned",
            is_robot=True,
        )

    def _element(self, inventory: Inventory) -> DriveElement:
        try:
            return inventory.drive(self.index)
        except KeyError as missing:
            raise TapeTrouble(
                f"the library reports no drive {self.index}: compare tape.drives with `mtx status`",
                must_stop_drive=True,
            ) from missing

    async def _reload(self, barcode: str) -> None:
        slot = await self._put_away(barcode, None)
        if slot is None:
            raise TapeTrouble(f"{barcode} is not in drive {self.index} any more", is_robot=True)
        self.barcode = None
        arrived = await self._library.load(slot=slot, drive=self.index, barcode=barcode)
        self._compare(barcode, arrived, slot=slot)
        self.barcode = barcode

    async def _format(self, record: Cartridge, pool: str) -> IMountedVolume:
        """
        Make a cartridge ours: format, mount, label, and only then record it as one that takes bundles.

        Cut off anywhere, it is begun again with the same nonce: the volume's name then tells that the format was ours.
        """
        barcode = record.barcode
        if record.state is CartridgeState.SCRATCH:
            nonce = f"{self._random.getrandbits(64):016x}"
            record = await self._change(
                barcode,
                event=CartridgeEvent.FORMAT,
                reason=f"first use in pool {pool}",
                change=lambda known: replace(known, format_nonce=nonce, pool=pool),
            )
        self.tell("formatting", detail=barcode)
        was_blank = True
        try:
            with as_trouble(f"formatting {barcode}"):
                try:
                    await self._filesystem.format(barcode=barcode, volume_name=_name_of(record))
                except AlreadyFormatted as found:
                    self.log.info("{barcode} is not blank, is it ours? {found}", barcode=barcode, found=found)
                    was_blank = False
        except TapeTrouble as trouble:
            if isinstance(trouble.__cause__, WriteProtected):
                await self._withdraw(barcode, "it is write protected: slide its tab")
                raise TapeTrouble(f"{barcode} is write protected", is_cartridge_wrong=True) from trouble
            raise
        try:
            volume = await self._mounted(barcode, None)
        except TapeTrouble as trouble:
            if trouble.is_cartridge_wrong and not was_blank:
                await self._change(
                    barcode,
                    event=CartridgeEvent.FOUND_FOREIGN,
                    reason=f"holds data that are not ours: {trouble.sentence}",
                )
            raise
        return await self._take_into_use(volume, record)

    async def _take_into_use(self, volume: IMountedVolume, record: Cartridge) -> IMountedVolume:
        """
        Label a volume that our format has made, and record the cartridge as one that takes bundles.

        :raise TapeTrouble: somebody else made it, or it cannot be written
        """
        barcode = record.barcode
        if volume.volume_name != _name_of(record):
            await self._leave_alone(volume)
        if volume.read_only is not None:
            await self._unmount(writes_session=False)
            await self._withdraw(barcode, f"it can only be read: {volume.read_only.value}")
            raise TapeTrouble(
                f"{barcode} can only be read: {volume.read_only.value}", is_cartridge_wrong=True
            )
        await self._label(volume, replace(record, volume_uuid=volume.volume_uuid))
        await self._change(
            barcode,
            event=CartridgeEvent.FORMATTED,
            reason=f"formatted for pool {record.pool}",
            change=lambda known: replace(known, volume_uuid=volume.volume_uuid),
        )
        await self.note_space()
        return volume

    async def _withdraw(self, barcode: str, reason: str) -> None:
        await self._change(barcode, event=CartridgeEvent.FORMAT_FAILED, reason=reason)
        await self._change(
            barcode,
            event=CartridgeEvent.WITHDRAW,
            reason=reason,
            change=lambda known: replace(known, pool=""),
        )

    async def _leave_alone(self, volume: IMountedVolume) -> None:
        """
        The cartridge has a volume that we did not make.

        :raise TapeTrouble: an operator must decide
        """
        barcode, found = volume.barcode, volume.volume_name
        await self._unmount(writes_session=False)
        await self._change(
            barcode,
            event=CartridgeEvent.FOUND_FOREIGN,
            reason=f"holds a volume named {found!r} that is not ours",
        )
        raise TapeTrouble(
            f"{barcode} holds a volume that is not ours; it was not touched", is_cartridge_wrong=True
        )

    async def _mount(self, record: Cartridge, *, is_for_writing: bool) -> IMountedVolume:
        if record.needs_check:
            await self._check(record.barcode)
        volume = await self._mounted(record.barcode, record.volume_uuid or None)
        if is_for_writing:
            await self._demand_writable(record, volume)
        await self.note_space()
        return volume

    async def _demand_writable(self, record: Cartridge, volume: IMountedVolume) -> None:
        """
        See that bundles can be written. A cartridge that cannot is to blame whatever the drive; one that is full is not.

        :raise TapeTrouble: it can only be read
        :raise CartridgeFull: there is no room for another index
        """
        barcode, why = volume.barcode, volume.read_only
        if why is None:
            return
        if why is not ReadOnly.FULL:
            raise TapeTrouble(f"{barcode} can only be read: {why.value}", is_cartridge_wrong=True)
        if record.state is CartridgeState.FILLING:
            await self._change(barcode, event=CartridgeEvent.FILL_UP, reason=why.value)
        raise CartridgeFull(f"{barcode} is full: {why.value}")

    async def _mounted(self, barcode: str, volume_uuid: str | None) -> IMountedVolume:
        """
        Mount what is in the drive, checking it first when it asks for that.

        :raise TapeTrouble: it cannot be mounted
        """
        self.tell("mounting", detail=barcode)
        try:
            with as_trouble(f"mounting {barcode} in drive {self.index}"):
                try:
                    self.volume = await self._filesystem.mount(barcode=barcode, volume_uuid=volume_uuid)
                except NeedsCheck:
                    await self._check(barcode)
                    self.volume = await self._filesystem.mount(barcode=barcode, volume_uuid=volume_uuid)
        except TapeTrouble as trouble:
            if isinstance(trouble.__cause__, WrongVolume | NotFormatted):
                raise TapeTrouble(trouble.sentence, is_cartridge_wrong=True) from trouble
            if isinstance(trouble.__cause__, OutcomeUnknown):
                raise TapeTrouble(trouble.sentence, must_stop_drive=True) from trouble
            raise
        self.log.info("{barcode} mounted in drive {drive}", barcode=barcode, drive=self.index)
        return self.volume

    async def note_space(self) -> None:
        """Record how much the mounted cartridge still takes."""
        assert self.volume is not None
        with as_trouble(f"asking {self.volume.barcode} for its space"):
            space = await self.volume.space()
        await self._change(
            self.volume.barcode,
            change=lambda known: replace(
                known, capacity_bytes=space.total_bytes, free_bytes=space.free_bytes
            ),
        )

    async def _label(self, volume: IMountedVolume, record: Cartridge) -> None:
        label = VolumeLabel(
            appliance_id=self._store.appliance_id,
            pool=record.pool,
            barcode=record.barcode,
            volume_uuid=record.volume_uuid,
            admitted_at=record.admitted_at or 0.0,
            admitted_by=record.admitted_by,
        )
        self.tell("labelling", detail=record.barcode)
        with as_trouble(f"writing the label of {record.barcode}"):
            await volume.mover.put_file(path=paths.VOLUME_PATH, content=volume_json(label))
            await volume.mover.put_file(
                path=paths.README_PATH, content=readme_text(label, volume.form).encode()
            )
            await volume.sync(f"label of {record.barcode}", new_files=(paths.VOLUME_PATH, paths.README_PATH))

    async def _check(self, barcode: str) -> None:
        self.tell("checking", detail=barcode)
        self.log.warn(
            "{barcode} was not closed cleanly: checking it in drive {drive}",
            barcode=barcode,
            drive=self.index,
        )
        with as_trouble(f"checking {barcode} in drive {self.index}"):
            verdict = await self._filesystem.check()
        if not verdict.is_consistent:
            raise TapeTrouble(
                f"{barcode} could not be made consistent, and cannot be read: {verdict.finding}",
                is_cartridge_wrong=True,
            )
        await self._change(barcode, change=lambda known: replace(known, needs_check=False))

    # ── unmounting ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _unmount(self, *, writes_session: bool = True) -> None:
        volume = self.volume
        assert volume is not None
        session_id = ""
        if writes_session and volume.is_alive() and not volume.is_read_only:
            self.tell("writing the session's manifest", detail=volume.barcode)
            try:
                session_id = await self._before_unmount(volume)
            except (*WORLD_FAULTS, MetadataUnavailable) as fault:
                # The bundles carry their own manifests; the next session on this cartridge writes these again.
                self.log.warn(
                    "the session manifest of {barcode} could not be written: {fault}",
                    barcode=volume.barcode,
                    fault=fault,
                )
        self.tell("unmounting: writing the index", detail=volume.barcode)
        try:
            with as_trouble(f"unmounting {volume.barcode} from drive {self.index}", barcode=volume.barcode):
                verdict = await volume.unmount()
        except TapeTrouble as trouble:
            if isinstance(trouble.__cause__, MountBusy):
                raise TapeTrouble(trouble.sentence, must_stop_drive=True, barcode=volume.barcode) from trouble
            raise
        self.volume = None
        self.last_end = verdict
        await self._note_end(volume.barcode, verdict)
        if verdict.is_clean and session_id:
            await self._after_unmount(volume.barcode, session_id)
        await self._reserve()

    async def _note_end(self, barcode: str, verdict: UnmountVerdict) -> None:
        """Record how a mount ended, once: a drive tells no more of it afterwards, wherever the cartridge goes."""
        if verdict.is_clean:
            self.log.info("{barcode} unmounted cleanly from drive {drive}", barcode=barcode, drive=self.index)
            if verdict.full_because:
                await self._note_full(barcode, verdict.full_because)
        else:
            self.unclean_ends.append((barcode, verdict))
            self.log.warn(
                "{barcode} was not closed cleanly in drive {drive}: {findings}",
                barcode=barcode,
                drive=self.index,
                findings="; ".join(verdict.findings),
            )
            if await self._store.cartridge(barcode) is not None:
                await self._change(barcode, change=lambda known: replace(known, needs_check=True))
        with as_trouble(f"closing the books on {barcode} in drive {self.index}", barcode=barcode):
            await self._filesystem.settle()

    async def _note_full(self, barcode: str, reason: str) -> None:
        """The next index may not fit any more."""
        record = await self._store.cartridge(barcode)
        if record is not None and record.state is CartridgeState.FILLING:
            await self._change(barcode, event=CartridgeEvent.FILL_UP, reason=reason)

    async def _change(
        self,
        barcode: str,
        *,
        event: CartridgeEvent | None = None,
        reason: str = "",
        change: Callable[[Cartridge], Cartridge] = lambda known: known,
    ) -> Cartridge:
        return await change_cartridge(
            self._store,
            barcode,
            at=self._clock.seconds(),
            by=APPLIANCE,
            reason=reason,
            event=event,
            change=change,
        )


def lists_all(volume: IMountedVolume) -> bool:
    """Whether a file that a volume does not list is not on tape."""
    return volume.read_only is None or not volume.read_only.may_list_less


def _name_of(record: Cartridge) -> str:
    """The name of the volume that the format under way makes: after a crash it tells that the volume is ours."""
    return f"coldstore-{record.format_nonce}"
