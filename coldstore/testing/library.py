"""A library and its drives in memory: the same rules as the real ones, on a clock that the test moves, with faults on request."""

from collections import deque
from collections.abc import Mapping

from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from zope.interface import implementer

from coldstore.interfaces.drive import (
    DriveBusy,
    DriveCondition,
    DriveFault,
    DriveNotReady,
    DriveStatus,
    IDrive,
)
from coldstore.interfaces.library import (
    CartridgeNotThere,
    DriveNeedsOffline,
    ElementOccupied,
    ILibrary,
    LibraryFault,
    MoveOutcomeUnknown,
    NoSuchElement,
)
from coldstore.interfaces.tenure import ITenure
from coldstore.model.library import DriveElement, Inventory, MailSlot, Slot
from coldstore.testing.tenure import SimulatedTenure
from coldstore.util.asynchronous import returns_deferred

_LTO_8_DENSITY = 0x5E


@implementer(IDrive)
class SimulatedDrive:
    """
    A drive of a ``SimulatedLibrary``.

    :ivar is_busy: whether another process has the device open.
    :ivar fault: what ``offline`` fails with, once; the tape stays threaded.
    :ivar load_seconds, offline_seconds: how long the next of these takes.
    """

    def __init__(
        self,
        number: int,
        clock: IReactorTime,
        *,
        load_seconds: float,
        offline_seconds: float,
        tenure: "ITenure | None" = None,
    ) -> None:
        """:param tenure: whose drive it is; None: nobody takes over"""
        self._tenure = tenure or SimulatedTenure()
        self.number = number
        self.device = f"/dev/simulated/nst{number}"
        self.is_busy = False
        self.is_write_protected = False
        self.fault: DriveFault | None = None
        self.barcode: str | None = None
        self.source_slot: int | None = None
        self._clock = clock
        self.load_seconds = load_seconds
        self.offline_seconds = offline_seconds
        self._ready_at: float | None = None

    def take(self, barcode: str, source_slot: int) -> None:
        """Receive a cartridge from the robot and begin to thread it."""
        self.barcode, self.source_slot = barcode, source_slot
        self._ready_at = self._clock.seconds() + self.load_seconds

    def give(self) -> str:
        """Hand the cartridge to the robot."""
        assert self.barcode is not None and not self.is_threaded
        barcode, self.barcode, self.source_slot = self.barcode, None, None
        return barcode

    @property
    def is_threaded(self) -> bool:
        """Whether the drive holds on to its tape."""
        return self._ready_at is not None

    def _now(self) -> DriveStatus:
        flags = {"IM_REP_EN"}
        if self.is_busy:
            condition, flags = DriveCondition.BUSY, set()
        elif self._ready_at is None:
            condition, flags = DriveCondition.EMPTY, flags | {"DR_OPEN"}
        elif self._clock.seconds() < self._ready_at:
            condition = DriveCondition.LOADING
        else:
            condition, flags = DriveCondition.READY, flags | {"ONLINE", "BOT"}
            if self.is_write_protected:
                flags.add("WR_PROT")
        is_ready = condition is DriveCondition.READY
        return DriveStatus(
            condition=condition,
            flags=frozenset(flags),
            density_code=_LTO_8_DENSITY if is_ready else None,
            file_number=0 if is_ready else None,
            block_number=0 if is_ready else None,
        )

    @returns_deferred
    async def status(self) -> DriveStatus:
        """Tell what the drive is doing; see ``IDrive.status``."""
        return self._now()

    @returns_deferred
    async def wait_until_ready(self, *, timeout_seconds: float) -> DriveStatus:
        """Wait until the tape can be read; see ``IDrive.wait_until_ready``."""
        attempted = "waiting for the tape"
        give_up_at = self._clock.seconds() + timeout_seconds
        while True:
            status = self._now()
            if status.is_ready:
                return status
            if status.condition is DriveCondition.BUSY:
                raise DriveBusy(device=self.device, attempted=attempted, reason="another process has it open")
            if self._clock.seconds() >= give_up_at:
                raise DriveNotReady(device=self.device, attempted=attempted, reason=status.condition.value)
            # A cartridge that is being threaded is ready when it is, not at the next look.
            ready_in = 0.0 if self._ready_at is None else self._ready_at - self._clock.seconds()
            await deferLater(self._clock, max(1.0, min(ready_in, give_up_at - self._clock.seconds())))

    @returns_deferred
    async def offline(self) -> None:
        """Let go of the tape; see ``IDrive.offline``."""
        if self.is_busy:
            raise DriveBusy(
                device=self.device, attempted="taking offline", reason="another process has it open"
            )
        await self._tenure.confirm()
        if self.offline_seconds and self.is_threaded:
            await deferLater(self._clock, self.offline_seconds)
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault
        self._ready_at = None


@implementer(ILibrary)
class SimulatedLibrary:
    """
    A robot over dictionaries.

    ``drives`` are its drives, ``move_seconds`` is how long the next move takes, ``moves`` counts the moves made, ``gripper`` is what it holds after a jam. Faults on
    request: ``fail_next`` and ``jam_next``; a hand from outside: ``put`` and ``take_away``.
    """

    def __init__(
        self,
        clock: IReactorTime,
        *,
        drives: int = 2,
        slots: int = 16,
        mail_slots: int = 1,
        cartridges: Mapping[int, str] | None = None,
        move_seconds: float = 0.0,
        load_seconds: float = 0.0,
        offline_seconds: float = 0.0,
        tenure: "ITenure | None" = None,
    ) -> None:
        """
        :param cartridges: barcodes by slot number; by default none.
        :param tenure: whose library it is; None: nobody takes over
        """
        self._tenure = tenure or SimulatedTenure()
        self._clock = clock
        self.move_seconds = move_seconds
        self._slots = slots
        self._mail_slots = mail_slots
        self._storage: dict[int, str] = dict(cartridges or {})
        self.drives = tuple(
            SimulatedDrive(
                number,
                clock,
                load_seconds=load_seconds,
                offline_seconds=offline_seconds,
                tenure=self._tenure,
            )
            for number in range(drives)
        )
        self.moves = 0
        self.gripper: str | None = None
        self._faults: deque[LibraryFault] = deque()
        self._jams = 0
        self._robot = DeferredLock()

    def fail_next(self, *faults: LibraryFault) -> None:
        """Let the next moves fail with these, without moving anything."""
        self._faults.extend(faults)

    def jam_next(self) -> None:
        """Let the robot keep the next cartridge in its gripper: the move fails with ``MoveOutcomeUnknown``."""
        self._jams += 1

    def put(self, slot: int, barcode: str) -> None:
        """Put a cartridge into an empty slot or mail slot by hand."""
        assert slot not in self._storage and 1 <= slot <= self._slots + self._mail_slots
        self._storage[slot] = barcode

    def take_away(self, slot: int) -> str:
        """Take a cartridge out of a slot or mail slot by hand."""
        return self._storage.pop(slot)

    def stored(self) -> dict[int, str]:
        """What is in slots and mail slots, by number."""
        return dict(self._storage)

    def free_slots(self) -> list[int]:
        """Slots without a cartridge."""
        return [slot for slot in range(1, self._slots + 1) if slot not in self._storage]

    @returns_deferred
    async def inventory(self) -> Inventory:
        """Tell what is in which element; see ``ILibrary.inventory``."""
        await self._robot.acquire()
        try:
            return self._now()
        finally:
            self._robot.release()

    def _now(self) -> Inventory:
        last = self._slots + self._mail_slots
        return Inventory(
            drives=tuple(
                DriveElement(
                    number=drive.number,
                    is_full=drive.barcode is not None,
                    barcode=drive.barcode,
                    source_slot=drive.source_slot,
                )
                for drive in self.drives
            ),
            slots=tuple(
                Slot(number=number, is_full=number in self._storage, barcode=self._storage.get(number))
                for number in range(1, self._slots + 1)
            ),
            mail_slots=tuple(
                MailSlot(number=number, is_full=number in self._storage, barcode=self._storage.get(number))
                for number in range(self._slots + 1, last + 1)
            ),
        )

    @returns_deferred
    async def load(self, *, slot: int, drive: int, barcode: str) -> Inventory:
        """Put the cartridge into the drive; see ``ILibrary.load``."""
        attempted = f"moving {barcode} from slot {slot} to drive {drive}"
        await self._robot.acquire()
        try:
            self._check_slot(attempted, slot)
            goal = self._drive(attempted, drive)
            if goal.barcode == barcode and self._storage.get(slot) != barcode:
                return self._now()
            self._check(attempted, barcode, self._storage.get(slot), goal.barcode)
            await self._move(attempted, barcode)
            del self._storage[slot]
            self._grip(attempted, barcode)
            goal.take(barcode, slot)
            return self._now()
        finally:
            self._robot.release()

    @returns_deferred
    async def unload(self, *, drive: int, slot: int, barcode: str) -> None:
        """Take the cartridge out of the drive; see ``ILibrary.unload``."""
        attempted = f"moving {barcode} from drive {drive} to slot {slot}"
        await self._robot.acquire()
        try:
            self._check_slot(attempted, slot)
            origin = self._drive(attempted, drive)
            if self._storage.get(slot) == barcode and origin.barcode != barcode:
                return
            self._check(attempted, barcode, origin.barcode, self._storage.get(slot))
            if origin.is_threaded:
                raise DriveNeedsOffline(
                    attempted=attempted, reason="the tape is threaded", advice="Take it offline."
                )
            await self._move(attempted, barcode)
            origin.give()
            self._grip(attempted, barcode)
            self._storage[slot] = barcode
        finally:
            self._robot.release()

    @returns_deferred
    async def transfer(self, *, source: int, destination: int, barcode: str) -> None:
        """Move the cartridge between two slots; see ``ILibrary.transfer``."""
        attempted = f"moving {barcode} from slot {source} to slot {destination}"
        await self._robot.acquire()
        try:
            self._check_slot(attempted, source)
            self._check_slot(attempted, destination)
            if self._storage.get(destination) == barcode and self._storage.get(source) != barcode:
                return
            self._check(attempted, barcode, self._storage.get(source), self._storage.get(destination))
            await self._move(attempted, barcode)
            del self._storage[source]
            self._grip(attempted, barcode)
            self._storage[destination] = barcode
        finally:
            self._robot.release()

    async def _move(self, attempted: str, barcode: str) -> None:
        await self._tenure.confirm()
        if self.move_seconds:
            await deferLater(self._clock, self.move_seconds)
        if self._faults:
            raise self._faults.popleft()
        self.moves += 1

    def _grip(self, attempted: str, barcode: str) -> None:
        """Between source and destination: where a jam leaves the cartridge."""
        if self._jams:
            self._jams -= 1
            self.gripper = barcode
            raise MoveOutcomeUnknown(
                attempted=attempted, reason="the robot jammed", advice=f"Look for {barcode} in the gripper."
            )

    def _drive(self, attempted: str, number: int) -> SimulatedDrive:
        if 0 <= number < len(self.drives):
            return self.drives[number]
        raise NoSuchElement(
            attempted=attempted, reason=f"no drive {number}", advice="Compare the configuration."
        )

    def _check_slot(self, attempted: str, number: int) -> None:
        if not 1 <= number <= self._slots + self._mail_slots:
            raise NoSuchElement(
                attempted=attempted, reason=f"no slot {number}", advice="Compare the configuration."
            )

    @staticmethod
    def _check(attempted: str, barcode: str, at_source: str | None, at_destination: str | None) -> None:
        if at_source != barcode:
            raise CartridgeNotThere(
                attempted=attempted, reason=f"the source holds {at_source or 'nothing'}", advice="Look again."
            )
        if at_destination is not None:
            raise ElementOccupied(
                attempted=attempted,
                reason=f"the destination holds {at_destination}",
                advice="Choose an empty one.",
            )
