"""A library driven by ``mtx``: one move at a time, and a look at the inventory after everything that is not a success."""

from dataclasses import dataclass
from typing import Literal

from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from coldstore.interfaces.library import (
    CartridgeNotThere,
    CleaningCartridgeEjected,
    DriveNeedsOffline,
    ElementOccupied,
    ILibrary,
    InventoryUnreadable,
    LibraryFault,
    LibraryNotReady,
    LibraryUnreachable,
    MoveFailed,
    MoveOutcomeUnknown,
    NoSuchElement,
    RemovalPrevented,
)
from coldstore.interfaces.process import (
    CommandNotFound,
    CommandTimeout,
    Completed,
    ICommandRunner,
    IDeviceLock,
    LockHeld,
    OutputTooLarge,
)
from coldstore.interfaces.tenure import ITenure
from coldstore.model.library import Element, Inventory, name_of
from coldstore.tape.mtx import (
    Complaint,
    Trouble,
    explain,
    load_command,
    parse_status,
    status_command,
    transfer_command,
    unload_command,
)
from coldstore.tape.output import UnknownOutput
from coldstore.util.asynchronous import returns_deferred

_ATTEMPTS = 2
_LOOKS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryTimes:
    """
    How long the library may take, in seconds.

    ``move`` and ``status`` lie above mtx's own limit of 300 s for a SCSI command (scsi_linux.c), so that mtx speaks
    first. ``becoming_ready`` bounds the waiting for a library that is starting, asked again every ``pause``.
    ``orphan`` bounds the waiting for a command that was left behind, or killed without the kernel letting go of it.
    """

    move: float = 330.0
    status: float = 330.0
    becoming_ready: float = 600.0
    pause: float = 5.0
    orphan: float = 330.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    kind: Literal["drive", "slot"]
    number: int

    def __str__(self) -> str:
        return f"{self.kind} {self.number}"

    def element(self, inventory: Inventory) -> Element:
        """Return the element, or raise ``KeyError``."""
        return inventory.drive(self.number) if self.kind == "drive" else inventory.storage(self.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Move:
    argv: tuple[str, ...]
    barcode: str
    source: _Place
    destination: _Place

    def __str__(self) -> str:
        return f"moving {self.barcode} from {self.source} to {self.destination}"

    def is_done(self, inventory: Inventory) -> bool:
        """Whether the cartridge is in its destination, and nothing of its name in the source."""
        there = self.destination.element(inventory).barcode == self.barcode
        return there and self.source.element(inventory).barcode != self.barcode

    def is_untouched(self, inventory: Inventory) -> bool:
        """Whether the cartridge is still in the source and the destination is empty."""
        here = self.source.element(inventory).barcode == self.barcode
        return here and not self.destination.element(inventory).is_full

    def check(self, inventory: Inventory) -> None:
        """Raise the fault that tells why this move cannot be made."""
        for place in (self.source, self.destination):
            try:
                place.element(inventory)
            except KeyError:
                raise NoSuchElement(
                    attempted=str(self),
                    reason=f"the library has no {place}",
                    advice="Compare the configuration with the output of `mtx status`.",
                ) from None

    def check_contents(self, inventory: Inventory) -> None:
        """Raise the fault that tells why this move must not be made now."""
        source, destination = self.source.element(inventory), self.destination.element(inventory)
        if source.barcode != self.barcode:
            elsewhere = ", ".join(name_of(element) for element in inventory.find(self.barcode))
            raise CartridgeNotThere(
                attempted=str(self),
                reason=f"{name_of(source)} {_contents(source)}",
                advice=f"The cartridge is in {elsewhere}."
                if elsewhere
                else "No element reports this barcode.",
            )
        if destination.is_full:
            raise ElementOccupied(
                attempted=str(self),
                reason=f"{name_of(destination)} {_contents(destination)}",
                advice="Choose an empty element.",
            )


def _contents(element: Element) -> str:
    if not element.is_full:
        return "is empty"
    return f"holds {element.barcode}" if element.barcode else "holds a cartridge without a readable barcode"


_FAULTS: dict[Trouble, tuple[type[LibraryFault], str]] = {
    Trouble.UNIT_ATTENTION: (MoveFailed, "Close the door and the mail slot, then try again."),
    Trouble.BECOMING_READY: (LibraryNotReady, "Wait until the library has started, then try again."),
    Trouble.NOT_READY: (LibraryNotReady, "Look at the library's panel: it may be offline or its door open."),
    Trouble.NEEDS_OFFLINE: (DriveNeedsOffline, "Take the drive offline first."),
    Trouble.REMOVAL_PREVENTED: (
        RemovalPrevented,
        "Unmount what uses the cartridge, then take the drive offline.",
    ),
    Trouble.CLEANING_EJECTED: (CleaningCartridgeEjected, "Replace the cleaning cartridge if it is used up."),
    Trouble.SOURCE_EMPTY: (
        CartridgeNotThere,
        "The library's inventory disagrees with its elements: rescan it.",
    ),
    Trouble.DESTINATION_FULL: (
        ElementOccupied,
        "The library's inventory disagrees with its elements: rescan it.",
    ),
    Trouble.NO_SUCH_ELEMENT: (NoSuchElement, "Compare the configuration with the output of `mtx status`."),
    Trouble.NO_DEVICE: (LibraryUnreachable, "Check the configured changer device and its permissions."),
    Trouble.REFUSED: (MoveFailed, "Look at the library's panel and its event log."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unfinished:
    """A command that gave no status: too late, or too much output. What it did is unknown."""

    reason: str


@implementer(ILibrary)
class MtxLibrary:
    """
    The library behind one changer device.

    Every command inherits the changer's lock, which is taken at the first call and kept: thereby the first look after a
    start waits for commands that a killed appliance left behind.
    """

    log = Logger()

    def __init__(
        self,
        runner: ICommandRunner,
        changer: str,
        *,
        lock: IDeviceLock,
        tenure: ITenure,
        clock: IReactorTime,
        mtx: str = "mtx",
        times: LibraryTimes = LibraryTimes(),
    ) -> None:
        """
        :param changer: the changer's sg node, best by a name of ``/dev/tape/by-id``.
        :param mtx: the program, absolute or found in the runner's PATH.
        """
        self._runner = runner
        self._changer = changer
        self._lock = lock
        self._tenure = tenure
        self._clock = clock
        self._mtx = mtx
        self._times = times
        self._robot = DeferredLock()

    @returns_deferred
    async def inventory(self) -> Inventory:
        """Tell what is in which element; see ``ILibrary.inventory``."""
        await self._robot.acquire()
        try:
            return await self._look("reading the inventory")
        finally:
            self._robot.release()

    @returns_deferred
    async def load(self, *, slot: int, drive: int, barcode: str) -> Inventory:
        """Put the cartridge into the drive; see ``ILibrary.load``."""
        move = _Move(
            argv=load_command(self._mtx, self._changer, slot=slot, drive=drive),
            barcode=barcode,
            source=_Place(kind="slot", number=slot),
            destination=_Place(kind="drive", number=drive),
        )
        await self._robot.acquire()
        try:
            return await self._carry_out(move) or await self._look(f"looking where {barcode} is")
        finally:
            self._robot.release()

    @returns_deferred
    async def unload(self, *, drive: int, slot: int, barcode: str) -> None:
        """Take the cartridge out of the drive; see ``ILibrary.unload``."""
        await self._in_turn(
            _Move(
                argv=unload_command(self._mtx, self._changer, slot=slot, drive=drive),
                barcode=barcode,
                source=_Place(kind="drive", number=drive),
                destination=_Place(kind="slot", number=slot),
            )
        )

    @returns_deferred
    async def transfer(self, *, source: int, destination: int, barcode: str) -> None:
        """Move the cartridge between two slots; see ``ILibrary.transfer``."""
        await self._in_turn(
            _Move(
                argv=transfer_command(self._mtx, self._changer, source=source, destination=destination),
                barcode=barcode,
                source=_Place(kind="slot", number=source),
                destination=_Place(kind="slot", number=destination),
            )
        )

    async def _in_turn(self, move: _Move) -> None:
        await self._robot.acquire()
        try:
            await self._carry_out(move)
        finally:
            self._robot.release()

    async def _carry_out(self, move: _Move) -> Inventory | None:
        """
        Look, move, and look again unless the move was a success; once more when it only came at a bad moment.

        :return: the inventory that shows the cartridge in its destination, None when that was not looked at
        """
        for attempt in range(1, _ATTEMPTS + 1):
            inventory = await self._look(str(move))
            move.check(inventory)
            if move.is_done(inventory):
                return inventory
            move.check_contents(inventory)
            ended = await self._run(move.argv, self._times.move, is_move=True)
            if isinstance(ended, Completed) and ended.is_success:
                self.log.info(
                    "{barcode} moved from {source} to {destination} in {seconds:.1f} s",
                    barcode=move.barcode,
                    source=str(move.source),
                    destination=str(move.destination),
                    seconds=ended.seconds,
                )
                return None
            there = await self._look_after_failure(move, ended, is_last=attempt == _ATTEMPTS)
            if there is not None:
                return there
        raise AssertionError("the last attempt ends with a result or a fault")

    async def _look_after_failure(
        self, move: _Move, ended: Completed | _Unfinished, *, is_last: bool
    ) -> Inventory | None:
        """Return the inventory that shows the cartridge in its destination all the same, None to try once more."""
        complaint = explain(ended) if isinstance(ended, Completed) else None
        reason = ended.reason if isinstance(ended, _Unfinished) else str(complaint)
        self.log.warn("{move} failed, looking where it is: {reason}", move=str(move), reason=reason)
        there = await self._where_it_is(move, reason)
        if there is not None:
            return there
        if complaint is None:
            raise MoveFailed(
                attempted=str(move),
                reason=f"{reason}; the cartridge is still in {move.source}",
                advice="Look at the library's panel: the robot may be stuck or slow.",
            )
        if complaint.trouble in (Trouble.UNIT_ATTENTION, Trouble.BECOMING_READY) and not is_last:
            if complaint.trouble is Trouble.BECOMING_READY:
                await deferLater(self._clock, self._times.pause)
            return None
        raise _fault(str(move), complaint)

    async def _where_it_is(self, move: _Move, reason: str) -> Inventory | None:
        """
        Look where the cartridge is after a failure.

        :return: the inventory when it is in its destination, None when nothing has moved.
        :raise MoveOutcomeUnknown: when it is in neither place, or the library does not tell.
        """
        try:
            inventory = await self._look(str(move))
            if move.is_done(inventory):
                return inventory
            if move.is_untouched(inventory):
                return None
        except LibraryFault as fault:
            raise MoveOutcomeUnknown(
                attempted=str(move),
                reason=f"{reason}; then the inventory could not be read ({fault.reason})",
                advice=f"Find out where cartridge {move.barcode} is, and bring the library back.",
            ) from fault
        found = ", ".join(name_of(element) for element in inventory.find(move.barcode)) or "no element"
        raise MoveOutcomeUnknown(
            attempted=str(move),
            reason=f"{reason}; now {found} reports it",
            advice=f"Look for cartridge {move.barcode}: in the gripper, in {move.source} or in {move.destination}.",
        )

    async def _look(self, attempted: str) -> Inventory:
        """
        Read the inventory; full elements without a label are believed after two equal answers only.

        mtx repeats READ ELEMENT STATUS *without* asking for labels when a unit attention answers it, and exits with 0.
        """
        inventory = await self._status(attempted)
        for _ in range(_LOOKS):
            if not inventory.unlabelled():
                return inventory
            again = await self._status(attempted)
            if again == inventory:
                return again
            inventory = again
        raise LibraryNotReady(
            attempted=attempted,
            reason=f"{_LOOKS + 1} inventories differed from each other",
            advice="Somebody may be moving cartridges by hand: close the door and wait.",
        )

    async def _status(self, attempted: str) -> Inventory:
        """Ask mtx once, and again while the library announces changes or becomes ready."""
        give_up_at = self._clock.seconds() + self._times.becoming_ready
        argv = status_command(self._mtx, self._changer)
        while True:
            ended = await self._run(argv, self._times.status)
            if isinstance(ended, _Unfinished):
                raise LibraryUnreachable(
                    attempted=attempted,
                    reason=ended.reason,
                    advice="Check the library's power and cables; the kernel log may tell more.",
                )
            if ended.is_success:
                try:
                    return parse_status(ended.stdout)
                except UnknownOutput as unknown:
                    raise InventoryUnreadable(
                        attempted=attempted, reason=str(unknown), advice="Compare the version of mtx."
                    ) from unknown
            complaint = explain(ended)
            can_pass = complaint.trouble in (Trouble.UNIT_ATTENTION, Trouble.BECOMING_READY)
            if not can_pass or self._clock.seconds() >= give_up_at:
                raise _status_fault(attempted, complaint)
            await deferLater(self._clock, self._times.pause)

    async def _run(
        self, argv: tuple[str, ...], timeout_seconds: float, *, is_move: bool = False
    ) -> Completed | _Unfinished:
        """Run mtx with the changer's lock. After a kill, wait until the kernel let go of it."""
        await self._hold_lock(argv)
        if is_move:
            await self._tenure.confirm()
        try:
            return await self._runner.run(
                argv, timeout_seconds=timeout_seconds, descriptors=(self._lock.descriptor(),)
            )
        except CommandNotFound as fault:
            raise LibraryUnreachable(
                attempted=" ".join(argv), reason=fault.reason, advice="Install mtx, or configure where it is."
            ) from fault
        except (CommandTimeout, OutputTooLarge) as fault:
            if not fault.is_reaped:
                self._lock.release()
                await self._hold_lock(argv)
            return _Unfinished(reason=fault.reason)

    async def _hold_lock(self, argv: tuple[str, ...]) -> None:
        """Take the lock unless we have it: this waits for orphaned commands, of a killed appliance or of our own."""
        try:
            await self._lock.acquire(timeout_seconds=self._times.orphan)
        except LockHeld as fault:
            raise LibraryUnreachable(
                attempted=" ".join(argv),
                reason=str(fault),
                advice="Another program drives the changer, or its driver hangs: see the kernel log.",
            ) from fault


def _fault(attempted: str, complaint: Complaint) -> LibraryFault:
    kind, advice = _FAULTS[complaint.trouble]
    return kind(attempted=attempted, reason=str(complaint), advice=advice)


def _status_fault(attempted: str, complaint: Complaint) -> LibraryFault:
    """Whatever a ``status`` answers but "not ready" means that this is no library we can talk to."""
    kind, advice = _FAULTS[complaint.trouble]
    if kind is not LibraryNotReady:
        kind = LibraryUnreachable
    return kind(attempted=attempted, reason=str(complaint), advice=advice)
