"""
Robot, drives and tapes in model time, with everything that can go wrong with them, and what one process sees of them.

``Floor`` is what survives the process. Commands that a killed process has started go on: the robot finishes its move, ``mkltfs`` its
format, ``ltfs`` serves its mount; only the mover ends with its parent. Whoever comes next waits for the device's lock.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from coldstore.interfaces.drive import DriveFailed, DriveStatusUnreadable, DriveUnreachable, IDrive
from coldstore.interfaces.filesystem import (
    CheckFailed,
    FormatFailed,
    IMountedVolume,
    ITapeFilesystem,
    MountFailed,
    OutcomeUnknown,
    SyncFailed,
)
from coldstore.interfaces.library import (
    ILibrary,
    InventoryUnreadable,
    LibraryUnreachable,
    MoveFailed,
    MoveOutcomeUnknown,
)
from coldstore.interfaces.mover import IMover, MediumFault, MoverDied, MoverTimeout
from coldstore.interfaces.process import IDeviceLock, LockHeld, LockHolder, LockNotHeld
from coldstore.interfaces.tenure import ITenure
from coldstore.model.hosts import Host
from coldstore.model.library import DriveElement, Inventory
from coldstore.testing.filesystem import (
    QUIET,
    CutShort,
    SimulatedTapeFilesystem,
    SimulatedTapes,
    SimulatedVolume,
)
from coldstore.testing.library import SimulatedDrive, SimulatedLibrary
from coldstore.util.asynchronous import returns_deferred
from tests.simulation.chance import Chance
from tests.simulation.disk import Disk
from tests.simulation.history import Act, History
from tests.simulation.life import Life, LifeIsOver, LifeReactor
from tests.simulation.reactor import Owner, VirtualReactor
from tests.simulation.times import Times
from tests.simulation.wraps import LOAD_POINT, Head, Span, Wraps

_T = TypeVar("_T")

EIO = 5
COMMANDED = "an appliance that was taken over has the library do something"
"""Words of a complaint."""
LOCK_POLL_SECONDS = 5.0
MOVER_WORK = frozenset({"write", "verify", "read", "list", "unlink", "attributes", "space"})
"""What ends with the process; all else is done by programs that outlive it."""
PROGRAMS = frozenset({"format", "check", "mount"})
HANG_SECONDS = 4 * 3600.0
"""How long what hangs hangs: longer than every limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Deadlines of the process, in seconds, as its configuration has them."""

    move_seconds: float
    format_seconds: float
    check_seconds: float
    mount_seconds: float
    unmount_seconds: float
    stall_seconds: float


class PowerDomain(Owner):
    """A machine's programs that outlive the appliance: over at a power cut."""


@implementer(IReactorTime)
class Computer:
    """
    A machine that an appliance can run on, with the reactor of its programs that outlive the appliance: their calls end with the power.

    :ivar at_work: commands that touch a device now, by its name
    """

    def __init__(self, reactor: VirtualReactor, name: str) -> None:
        self._reactor = reactor
        self.seconds = reactor.seconds
        self.host = Host(name=name, machine_id=f"m-{name}")
        self.power = PowerDomain()
        self.at_work: Counter[str] = Counter()

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object) -> Any:
        """See ``IReactorTime``."""
        return self._reactor.later(self.power, delay, callable, args, kwargs)

    def getDelayedCalls(self) -> list[Any]:
        """See ``IReactorTime``."""
        return list(self._reactor.owned_by(self.power))

    def cut_power(self) -> None:
        """Its programs end where they are."""
        self.power.is_over = True
        self.power = PowerDomain()
        self.at_work.clear()


class Floor:
    """
    What stands in the machine room.

    :ivar dead: drives that answer nothing until somebody repairs them
    :ivar computers: machines that see the library
    """

    def __init__(
        self,
        reactor: VirtualReactor,
        chance: Chance,
        *,
        drives: int,
        cartridges: dict[int, str],
        slots: int,
        capacity_bytes: int,
    ) -> None:
        self.reactor = reactor
        self.chance = chance
        self.times = Times(chance.stream("hidden times"), chance.stream("times"))
        uuids = chance.stream("volume uuids")
        self.tapes = SimulatedTapes(
            new_uuid=lambda: f"{uuids.getrandbits(128):032x}",
            capacity_bytes=self.times.capacity(capacity_bytes),
        )
        self.library = SimulatedLibrary(
            reactor, drives=drives, slots=slots, mail_slots=2, cartridges=cartridges
        )
        self.heads = [Head() for _ in range(drives)]
        """Where each drive's head is over the tape in it."""
        self._wraps: dict[str, Wraps] = {}
        self.computers = [Computer(reactor, name) for name in ("one", "two")]
        self.mounted_by: dict[int, Computer] = {}
        """On which machine a drive's volume was mounted last."""
        self.dead: set[int] = set()
        self._worked_by: dict[str, Life] = {}
        self.unreadable: set[str] = set()
        """Barcodes that the scanner does not read now."""
        self.seen_before: set[str] = set()
        """Cartridges that a drive has measured through."""
        self.violations: list[str] = []
        """Devices that two processes worked at a time, or one that had no business there any more."""
        self.double: dict[str, str] = {}
        """Cartridges whose labels are read as those of other ones now."""
        self.vanished: set[str] = set()
        """Cartridges that the library does not see now, though they are there."""
        self.worn: set[str] = set()
        """Cartridges that take nothing more without an error."""
        self.flipped: set[tuple[str, str]] = set()
        """Files on cartridges that are not what was written, or cannot be read: barcode and path."""
        self.bad: set[tuple[str, str]] = set()
        """Those of them that cannot be read."""
        self.hanging: set[str] = set()
        """What is at something that will not end before it is given up: ``robot``, ``drive-0`` and so on."""
        self.is_library_away = False
        self.counts: dict[str, int] = {}
        """How often drives have begun each kind of work."""
        self.history: History | None = None
        """For story and picture; None: nobody watches."""

    def wraps(self, barcode: str) -> Wraps:
        """The true wraps of a cartridge."""
        if barcode not in self._wraps:
            hidden = self.chance.stream(f"wraps of {barcode}")
            self._wraps[barcode] = Wraps(self.tapes.medium(barcode).capacity_bytes, hidden)
        return self._wraps[barcode]

    def rewound(self, drive: int) -> Head:
        """A drive's head is at the load point, and has no past; return what it was."""
        before, self.heads[drive] = self.heads[drive], Head()
        return before

    def cut_power(self) -> None:
        """Programs end where they are, mounts without an index; robot and drives keep what they have."""
        for computer in self.computers:
            self.switch_off(computer)
        self.hanging.clear()
        for drive in range(len(self.heads)):
            self.rewound(drive)
        if self.history is not None:
            self.history.cut_power(self.reactor.seconds())

    def switch_off(self, computer: Computer) -> None:
        """A machine loses its power: its programs end where they are, its mounts without an index."""
        for device in computer.at_work:
            self.hanging.discard(device)
        computer.cut_power()
        for drive in sorted(self.tapes.mounts):
            if self.mounted_by[drive] is computer:
                self.hanging.discard(f"drive-{drive}")
                self.tapes.kill(drive)

    def at_work(self, device: str) -> int:
        """How many commands touch a device now: its lock is free when there are none."""
        return sum(computer.at_work[device] for computer in self.computers)

    def commanded(self, life: Life, what: str) -> None:
        """A process has robot, drive or tape do something."""
        if life.is_superseded:
            self.violations.append(f"{COMMANDED}: {what}")

    def note(self, drive: int, what: str, *, barcode: str = "", size_bytes: int = 0) -> Callable[[str], None]:
        """Write down that a drive begins something; call what is returned when it ends, with why it failed or with nothing."""
        self.counts[what] = self.counts.get(what, 0) + 1
        history = self.history
        if history is None:
            return _unwatched
        act = Act(
            drive=drive,
            what=what,
            barcode=barcode or self.library.drives[drive].barcode or "",
            size_bytes=size_bytes,
            began_at=self.reactor.seconds(),
        )
        history.begin(act)
        return lambda failed: history.end(act, self.reactor.seconds(), failed)

    def noted(
        self, drive: int, what: str, work: "Callable[[], Deferred[_T]]", *, barcode: str = ""
    ) -> "Deferred[_T]":
        """Have a drive do something, and write it down from its beginning to its end."""
        ended = self.note(drive, what, barcode=barcode)

        def end(outcome: Any) -> Any:
            ended(_why(outcome.value) if isinstance(outcome, Failure) else "")
            return outcome

        return work().addBoth(end)

    def begin(self, device: str, life: Life) -> Callable[[Any], Any]:
        """A command of a process begins to touch a device; call what is returned when it ends."""
        computer: Computer = life.computer
        power = computer.power
        if self.at_work(device) and self._worked_by.get(device) is not life and device != "changer":
            self.violations.append(f"{device} is worked by two processes at a time")
        self._worked_by[device] = life
        computer.at_work[device] += 1

        def end(outcome: Any) -> Any:
            if power is computer.power:
                computer.at_work[device] -= 1
            return outcome

        return end


def _nothing(_: Any) -> None:
    return


def _unwatched(_failed: str) -> None:
    return


def _why(failure: BaseException | None) -> str:
    return f"{type(failure).__name__}: {failure}"


@implementer(IDeviceLock)
class LifeLock:
    """A device's lock as one process sees it: held by commands of dead ones until they end."""

    def __init__(self, name: str, floor: Floor, life: Life) -> None:
        self.name = name
        self.is_held = False
        self._floor = floor
        self._life = life
        self._clock = LifeReactor(life)

    @returns_deferred
    async def acquire(self, *, timeout_seconds: float) -> None:
        """See ``IDeviceLock``."""
        give_up_at = self._clock.seconds() + timeout_seconds
        while not self.is_held and self._floor.at_work(self.name):
            if self._clock.seconds() >= give_up_at:
                raise LockHeld(
                    self.name,
                    timeout_seconds=timeout_seconds,
                    holders=(LockHolder(process_id=1, command="an orphan"),),
                )
            await deferLater(self._clock, LOCK_POLL_SECONDS)  # type: ignore[arg-type]
        self.is_held = True

    def descriptor(self) -> int:
        """See ``IDeviceLock``."""
        if not self.is_held:
            raise LockNotHeld(self.name)
        return 1000

    def release(self) -> None:
        """See ``IDeviceLock``."""
        self.is_held = False


@implementer(ILibrary)
class LifeLibrary:
    """The robot as one process commands it."""

    def __init__(self, floor: Floor, life: Life, limits: Limits, tenure: ITenure) -> None:
        self._floor = floor
        self._life = life
        self._limits = limits
        self._tenure = tenure

    def inventory(self) -> "Deferred[Inventory]":
        """See ``ILibrary``."""
        self._life.look()
        if self._floor.is_library_away or self._floor.chance.happens("library away"):
            return self._life.heard(fail(_unreachable("taking inventory")))
        if self._floor.chance.happens("inventory garbled"):
            return self._life.heard(
                fail(
                    InventoryUnreadable(
                        attempted="taking inventory", reason="mtx said gibberish", advice="Try it by hand."
                    )
                )
            )
        return self._life.heard(self._floor.library.inventory().addCallback(self._as_seen))

    def _as_seen(self, inventory: Inventory) -> Inventory:
        return as_seen(inventory, self._floor)

    @returns_deferred
    async def load(self, *, slot: int, drive: int, barcode: str) -> Inventory:
        """See ``ILibrary``."""
        await self._tenure.confirm()
        return await self._load(slot, drive, barcode)

    def _load(self, slot: int, drive: int, barcode: str) -> "Deferred[Inventory]":
        floor = self._floor
        if 0 <= drive < len(floor.library.drives):
            taken = floor.library.drives[drive]
            taken.load_seconds = floor.times.load(is_first=barcode not in floor.seen_before)
            if floor.chance.happens("drive slow"):
                taken.load_seconds *= 10
        floor.seen_before.add(barcode)
        if floor.chance.happens("cartridge worn"):
            floor.worn.add(barcode)
        brought = (slot, barcode)
        if floor.chance.happens("wrong cartridge"):
            brought = floor.chance.stream("wrong").choice(sorted(floor.library.stored().items()))
        return self._move(
            f"moving {barcode} from slot {slot} to drive {drive}",
            lambda: floor.noted(
                drive,
                "load",
                lambda: floor.library.load(slot=brought[0], drive=drive, barcode=brought[1]),
                barcode=brought[1],
            ).addCallback(self._as_seen),
        )

    @returns_deferred
    async def unload(self, *, drive: int, slot: int, barcode: str) -> None:
        """See ``ILibrary``."""
        await self._tenure.confirm()
        floor = self._floor
        await self._move(
            f"moving {barcode} from drive {drive} to slot {slot}",
            lambda: floor.noted(
                drive,
                "unload",
                lambda: floor.library.unload(drive=drive, slot=slot, barcode=barcode),
                barcode=barcode,
            ),
        )

    @returns_deferred
    async def transfer(self, *, source: int, destination: int, barcode: str) -> None:
        """See ``ILibrary``."""
        await self._tenure.confirm()
        await self._move(
            f"moving {barcode} from slot {source} to slot {destination}",
            lambda: self._floor.library.transfer(source=source, destination=destination, barcode=barcode),
        )

    def _move(self, attempted: str, move: "Callable[[], Deferred[Any]]") -> "Deferred[Any]":
        floor, library = self._floor, self._floor.library
        self._life.effect(attempted)
        floor.commanded(self._life, attempted)
        if floor.is_library_away:
            return self._life.heard(fail(_unreachable(attempted)))
        library.move_seconds = floor.times.move()
        does_hang = floor.chance.happens("robot hangs")
        if does_hang:
            library.move_seconds = self._limits.move_seconds * 3
            floor.hanging.add("robot")
        if floor.chance.happens("robot refuses"):
            library.fail_next(
                MoveFailed(
                    attempted=attempted, reason="the robot refused", advice="Look at the library's panel."
                )
            )
        if floor.chance.happens("robot jams"):
            library.jam_next()
        told: Deferred[Any] = Deferred()
        late = self._life.reactor.callLater(self._limits.move_seconds, _late, told, attempted)

        def moved(outcome: Any) -> None:
            if does_hang:
                floor.hanging.discard("robot")
            if not told.called:
                late.cancel()
                told.callback(outcome)

        move().addBoth(floor.begin("changer", self._life)).addBoth(moved)
        return self._life.heard(told)


def _late(told: "Deferred[Any]", attempted: str) -> None:
    told.errback(
        MoveOutcomeUnknown(
            attempted=attempted, reason="the deadline passed", advice="Look at the library's panel."
        )
    )


def _unreachable(attempted: str) -> LibraryUnreachable:
    return LibraryUnreachable(
        attempted=attempted, reason="the changer does not answer", advice="Look at its cable."
    )


def as_seen(inventory: Inventory, floor: Floor) -> Inventory:
    """What an inventory looks like when some labels are not read, or wrongly, and some cartridges not seen."""
    if not (floor.unreadable or floor.double or floor.vanished):
        return inventory

    def seen(element: Any) -> Any:
        if element.barcode in floor.vanished and not isinstance(element, DriveElement):
            return replace(element, is_full=False, barcode=None)
        if element.barcode in floor.unreadable:
            return replace(element, barcode=None)
        return replace(element, barcode=floor.double.get(element.barcode, element.barcode))

    return Inventory(
        drives=tuple(map(seen, inventory.drives)),
        slots=tuple(map(seen, inventory.slots)),
        mail_slots=tuple(map(seen, inventory.mail_slots)),
    )


@implementer(IDrive)
class LifeDrive:
    """A drive as one process sees it."""

    def __init__(self, number: int, floor: Floor, life: Life, tenure: ITenure) -> None:
        self.number = number
        self._tenure = tenure
        self._floor = floor
        self._life = life
        self._drive: SimulatedDrive = floor.library.drives[number]
        self.device = self._drive.device

    def _ask(self, attempted: str, what: "Callable[[], Deferred[Any]]") -> "Deferred[Any]":
        self._drive.is_busy = self.number in self._floor.tapes.mounts
        if self.number in self._floor.dead:
            return self._life.heard(
                fail(DriveUnreachable(device=self.device, attempted=attempted, reason="no answer"))
            )
        return self._life.heard(what().addBoth(self._floor.begin(f"drive-{self.number}", self._life)))

    def status(self) -> "Deferred[Any]":
        """See ``IDrive``."""
        self._life.look()
        if self._floor.chance.happens("status garbled"):
            return self._life.heard(
                fail(
                    DriveStatusUnreadable(
                        device=self.device, attempted="looking at the status", reason="mt said gibberish"
                    )
                )
            )
        return self._ask("looking at the status", self._drive.status)

    def wait_until_ready(self, *, timeout_seconds: float) -> "Deferred[Any]":
        """See ``IDrive``."""
        self._life.look()
        return self._ask(
            "waiting for the tape",
            lambda: self._floor.noted(
                self.number,
                "thread",
                lambda: self._drive.wait_until_ready(timeout_seconds=timeout_seconds),
            ),
        )

    @returns_deferred
    async def offline(self) -> None:
        """See ``IDrive``."""
        await self._tenure.confirm()
        self._life.effect(f"offline of drive {self.number}")
        self._floor.commanded(self._life, f"offline of drive {self.number}")
        self._drive.offline_seconds = self._floor.times.offline(self._floor.rewound(self.number))
        if self._floor.chance.happens("drive keeps its tape"):
            self._drive.fault = DriveFailed(
                device=self.device, attempted="taking offline", reason="the drive keeps its tape"
            )
        await self._ask(
            "taking offline", lambda: self._floor.noted(self.number, "rewind", self._drive.offline)
        )


class ModelFilesystem(SimulatedTapeFilesystem):
    """The programs that work a drive's tape, in model time and with faults; those of the mover end with the process."""

    def __init__(
        self, floor: Floor, life: Life, disk: Disk, drive: int, limits: Limits, tenure: ITenure
    ) -> None:
        super().__init__(
            tapes=floor.tapes,
            drive=drive,
            clock=life.computer,
            loaded=lambda: floor.library.drives[drive].barcode,
            read_disk=disk.read,
            write_disk=disk.write,
            tenure=tenure,
        )
        self._floor = floor
        self._life = life
        self._number = drive
        self._limits = limits
        self._begun: list[tuple[Deferred[None], float, float, int]] = []
        self._spans: Sequence[Span] = ()

    def passes_over(self, spans: Sequence[Span]) -> None:
        """See ``SimulatedTapeFilesystem``."""
        self._spans = spans

    def seconds_of(self, operation: str, size_bytes: int) -> float:
        """See ``SimulatedTapeFilesystem``."""
        return self._floor.times.operation(operation, size_bytes)

    def cut(self) -> None:
        """The mover's parent has died, and the mover dies."""
        now = self._floor.reactor.seconds()
        begun, self._begun = self._begun, []
        for ending, since, seconds, size_bytes in begun:
            if not ending.called:
                part = (now - since) / seconds if seconds else 1.0
                ending.errback(CutShort(int(size_bytes * min(1.0, part))))

    async def take_time(self, operation: str, size_bytes: int) -> None:
        """See ``SimulatedTapeFilesystem``."""
        chance, number = self._floor.chance, self._number
        if operation not in QUIET:
            self._floor.commanded(self._life, f"{operation} in drive {number}")
        seconds = self.seconds_of(operation, size_bytes) + self._positioning_seconds(operation)
        fault: Exception | None = None
        does_hang = False
        if number in self._floor.dead and operation not in ("adopt",):
            fault = MediumFault("", operation, EIO, "the drive does not answer")
            if operation in ("format", "check", "mount"):
                fault = {"format": FormatFailed, "check": CheckFailed, "mount": MountFailed}[operation](
                    "the drive does not answer"
                )
        elif operation == "format" and chance.happens("format fails"):
            fault = FormatFailed("mkltfs: the medium could not be partitioned")
        elif operation == "check" and chance.happens("check fails"):
            fault = CheckFailed("ltfsck: the volume could not be read")
        elif operation == "mount" and chance.happens("mount fails"):
            fault = MountFailed("ltfs: the index could not be read")
        elif operation == "mount" and chance.happens("mount hangs"):
            seconds, fault = self._limits.mount_seconds, OutcomeUnknown("ltfs did not get ready in time")
            does_hang = True
        elif operation == "sync" and chance.happens("sync fails"):
            fault = SyncFailed("the index could not be written")
        elif operation == "unmount" and chance.happens("unmount hangs"):
            seconds, fault = self._limits.unmount_seconds, OutcomeUnknown("ltfs has not ended in time")
            does_hang = True
        elif operation in ("write", "verify", "read"):
            fault, seconds = self._transfer_fault(operation, size_bytes, seconds)
            does_hang = isinstance(fault, MoverTimeout)
        if does_hang:
            self._floor.hanging.add(f"drive-{number}")
        ended = self._floor.note(number, operation, size_bytes=size_bytes)
        let_go = _nothing
        if operation in PROGRAMS:
            # Programs on the tape hold the drive's lock until they end, whoever started them.
            let_go = self._floor.begin(f"drive-{number}", self._life)
        if operation == "mount":
            self._floor.mounted_by[number] = self._life.computer
        try:
            if operation in MOVER_WORK:
                await self._as_mover(seconds, size_bytes)
            elif seconds:
                await deferLater(self._clock, seconds)
            if fault is not None:
                raise fault
        except Exception as failure:
            ended(_why(failure))
            raise
        finally:
            let_go(None)
            self._floor.hanging.discard(f"drive-{number}")
        ended("")

    def _positioning_seconds(self, operation: str) -> float:
        """Move the drive's head to where the operation leaves it; return how long it takes apart from the operation itself."""
        floor, spans, self._spans = self._floor, self._spans, ()
        barcode = self.loaded()
        if barcode is None:
            return 0.0
        head, wraps = floor.heads[self._number], floor.wraps(barcode)
        end_bytes = floor.tapes.medium(barcode).written_bytes
        if operation in ("write", "verify", "read"):
            head.has_written |= operation == "write"
            return floor.times.locate(head, wraps, spans)
        if operation == "sync":
            return floor.times.locate(head, wraps, [(end_bytes, 0)])
        if operation == "unmount":
            return floor.times.close(head, wraps, end_bytes)
        if operation in ("format", "check", "mount"):
            head.place, head.has_written = LOAD_POINT, False
        return 0.0

    def _transfer_fault(
        self, operation: str, size_bytes: int, seconds: float
    ) -> tuple[Exception | None, float]:
        chance = self._floor.chance
        if chance.happens("mover dies"):
            return MoverDied("the mover was killed"), seconds / 2
        if chance.happens("mover hangs"):
            return MoverTimeout("nothing moved for too long"), self._limits.stall_seconds + seconds / 2
        worn = self.loaded() in self._floor.worn
        if operation == "write" and (worn or chance.happens("tape write error")):
            return MediumFault("", "write", EIO, "Input/output error"), seconds / 2
        if operation != "write" and chance.happens("tape read error"):
            return MediumFault("", "read", EIO, "Input/output error"), seconds / 2
        return None, seconds

    def file_fault(self, path: str, operation: str) -> None:
        """See ``SimulatedTapeFilesystem``."""
        if (self.loaded(), path) in self._floor.bad:
            raise MediumFault(path, operation, EIO, "Input/output error")

    def on_tape(self, path: str, content: bytes) -> bytes:
        """See ``SimulatedTapeFilesystem``."""
        if content and path.startswith("coldstore/bundles/") and self._floor.chance.happens("tape bit flip"):
            changed = bytearray(content)
            random = self._floor.chance.stream("flips")
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
            return bytes(changed)
        return content

    async def _as_mover(self, seconds: float, size_bytes: int) -> None:
        ending: Deferred[None] = Deferred()
        entry = (ending, self._floor.reactor.seconds(), seconds, size_bytes)
        self._begun.append(entry)
        self._clock.callLater(seconds, lambda: None if ending.called else ending.callback(None))
        try:
            await ending
        finally:
            if entry in self._begun:
                self._begun.remove(entry)


class Heard:
    """
    What one process sees of an object of the world that works by Deferreds: every call is an effect, every answer is heard only
    by the living, and no callback reaches the dead.
    """

    def __init__(
        self, thing: Any, life: Life, name: str, wrap: Callable[[Any], Any] = lambda found: found
    ) -> None:
        self._thing = thing
        self._life = life
        self._name = name
        self._wrap = wrap

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._thing, name)
        if not callable(value):
            return self._wrap(value)

        def call(*args: Any, **kwargs: Any) -> Any:
            self._life.effect(f"{self._name} {name}")
            for key, given in kwargs.items():
                if key.startswith("on_"):
                    kwargs[key] = self._while_alive(given)
            answer = value(*args, **kwargs)
            return (
                self._life.heard(answer.addCallback(self._wrap)) if isinstance(answer, Deferred) else answer
            )

        return call

    def _while_alive(self, callback: Callable[..., Any]) -> Callable[..., None]:
        def called(*args: Any) -> None:
            if not self._life.is_over:
                with contextlib.suppress(LifeIsOver):
                    callback(*args)

        return called


@implementer(IMover)
class HeardMover(Heard):
    """A volume's mover as one process sees it."""


@implementer(IMountedVolume)
class HeardVolume(Heard):
    """A mounted volume as one process sees it."""


@implementer(ITapeFilesystem)
class HeardFilesystem(Heard):
    """A drive's tape file system as one process sees it."""


def life_filesystem(floor: Floor, life: Life, disk: Disk, drive: int, limits: Limits, tenure: ITenure) -> Any:
    """Return what a process sees of a drive's tape file system; its mover dies with it."""
    model = ModelFilesystem(floor, life, disk, drive, limits, tenure)
    before = life.on_end

    def ended() -> None:
        before()
        model.cut()

    life.on_end = ended

    def wrap_mover(found: Any) -> Any:
        return (
            HeardMover(found, life, f"mover {drive}")
            if found is not None and hasattr(found, "put_file")
            else found
        )

    def wrap(found: Any) -> Any:
        return (
            HeardVolume(found, life, f"volume {drive}", wrap_mover)
            if isinstance(found, SimulatedVolume)
            else found
        )

    return HeardFilesystem(model, life, f"filesystem {drive}", wrap)


__all__ = ["Floor", "LifeDrive", "LifeLibrary", "LifeLock", "Limits", "life_filesystem", "succeed"]
