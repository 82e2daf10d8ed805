"""
A world with one appliance in it: what survives, who lives, what befalls them.

``World`` owns time, chance and everything durable; ``Run`` of the appliance comes and goes. The story of a world is a list of lines in the
words of the domain, with virtual times.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, formatEvent
from twisted.python.failure import Failure

from coldstore.appliance.core import Core
from coldstore.appliance.standby import LOOK_SECONDS, Watch
from coldstore.config.schema import Configuration
from coldstore.disk.addresses import FileAddress, parsed
from coldstore.disk.framing import HEADER_BYTES
from coldstore.disk.layout import Layout
from tests.simulation.chance import HOUR, STORM_HOURS, STORMS_PER_HOUR, TAKEOVER, Chance, Rates
from tests.simulation.clients import BUCKETS, Client
from tests.simulation.database import Database, Loss
from tests.simulation.disk import Disk
from tests.simulation.governing import Governed
from tests.simulation.history import Mark
from tests.simulation.keyfile import KeptKeys
from tests.simulation.library import Floor
from tests.simulation.life import Life, LifeIsOver, LifeReactor
from tests.simulation.machine import SimulatedMachine, Target
from tests.simulation.operator import Operator
from tests.simulation.reactor import Call, VirtualReactor
from tests.simulation.settings import CARTRIDGES, DRIVES, SLOTS, configuration
from tests.simulation.times import TAPE_BYTES
from tests.simulation.wire import Connection

BEGINNING = 1_767_225_600.0
"""2026-01-01T00:00:00Z."""
EIO, ENOSPC, EROFS = 5, 28, 30
DISK_BYTES = 40 * 1024 * 1024
STANDBY_SECONDS = (1.0, 120.0)
"""A standby looks every few seconds; a lock is lost when its time is over."""
FROZEN_SECONDS = (10.0, 200.0, 2 * HOUR)
RESTART_SECONDS = (1.0, 30.0)
"""A service manager starts a dead process again; a machine without power takes longer."""
POWER_SECONDS = (60.0, 1800.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """
    How large a world is: small ones for crashes at every effect, large ones for days of storms.

    :ivar is_governed: whether one more client has a bucket with lifecycle rules
    """

    drives: int = DRIVES
    cartridges: int = CARTRIDGES
    slots: int = SLOTS
    clients: int = 8
    operations_per_hour: float = 200.0
    is_governed: bool = False
    settings: str = ""


class Run:
    """One life of the appliance."""

    def __init__(self, world: "World", number: int) -> None:
        self.life = Life(world.reactor, time_of_day=world.time_of_day, trace=world.trace)
        machine = SimulatedMachine(
            world.settings,
            self.life,
            chance=world.chance,
            database=world.database,
            disk=world.disk,
            floor=world.floor,
            target=world.target,
            number=number,
            computer=world.computer,
            keys=world.keys,
        )
        self.core = Core(world.settings, machine)
        self._begins = world.has_begun
        self._watch: Watch | None = None
        self.is_serving = False
        self.failure: Failure | None = None

    def start(self) -> None:
        """Begin, as ``twistd`` would."""
        try:
            self.core.startService()
            beginning = Deferred.fromCoroutine(self.core.begin(on_begun=self._begun))
            beginning.addCallbacks(self._serve, self._failed)
        except LifeIsOver:
            pass

    def _begun(self) -> None:
        self.watch()
        self._begins(self)

    def watch(self) -> None:
        """Have the appliance notice when it is taken over."""
        self._watch = Watch(
            store=self.core.store,
            tenure=self.core.tenure,
            clock=LifeReactor(self.life),  # type: ignore[arg-type]
            on_taken_over=lambda _: self.life.end(),
        )
        self._watch.start()

    def look_away(self, seconds: float) -> None:
        """Have it notice that so much later."""
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
            self.life.reactor.later(self.life, seconds, self.watch, (), {})

    def _serve(self, _: None) -> None:
        if not self.life.is_over:
            self.core.control.is_serving = True
            self.is_serving = True

    def _failed(self, failure: Failure) -> None:
        if not self.life.is_over:
            self.failure = failure
            self.life.end()


class World:
    """Everything. Equal seeds, rates and shapes give equal stories."""

    def __init__(self, seed: int, *, rates: Rates | None = None, shape: Shape | None = None) -> None:
        self.seed = seed
        self.shape = shape or Shape()
        self.chance = Chance(seed, rates)
        self.reactor = VirtualReactor(BEGINNING)
        self.settings: Configuration = configuration(self.shape.settings)
        self.database = Database()
        self.disk = Disk(DISK_BYTES)
        self.keys = KeptKeys()
        self.floor = Floor(
            self.reactor,
            self.chance,
            drives=self.shape.drives,
            cartridges={slot: f"A{slot:05}L9" for slot in range(1, self.shape.cartridges + 1)},
            slots=self.shape.slots,
            capacity_bytes=TAPE_BYTES,
        )
        self.target = Target()
        self.clock_error = 0.0
        """Seconds by which the machine's clock is wrong."""
        self.story: list[str] = []
        self.keeps_story = False
        self.trace: Callable[[str], None] | None = None
        """Is told every effect of the appliance."""
        self.on_birth: Callable[[Life], None] = self._perhaps_dies_young
        """Called with each life before it begins."""
        self._restart: Call | None = None
        self.graves: list[Run] = []
        """Dead runs: their coroutines stay suspended for ever, as a killed process never runs on."""
        self.lives = 0
        self.run: Run | None = None
        self.computer = self.floor.computers[0]
        """Where the appliance runs, or runs next."""
        self.others: list[Run] = []
        """Runs that live, frozen or awake, though another machine takes over from them."""
        self.user: tuple[str, str] | None = None
        """The keys that clients sign with, once the operator has made them."""
        self.has_buckets = False
        """Whether the operator knows that what clients put into is there."""
        self.clients = [self._client(number) for number in range(self.shape.clients)]
        self.governed = [self._governed()] if self.shape.is_governed else []
        self.operator = Operator(self)
        self.database.loss = self._loss
        self.disk.fault = self._disk_fault
        self.is_disk_full = self.is_disk_read_only = False
        self.spoiled_keys: set[str] = set()
        """Keys of which bytes were changed on the disk: they need not be served any more, and never as they are."""
        self.are_faults_on = True
        self.failures: list[str] = []
        """Failures that the appliance logged because it did not expect them."""

    def _client(self, number: int) -> Client:
        return Client(f"c{number}", **self._outside())

    def _governed(self) -> Governed:
        return Governed(**self._outside())

    def _outside(self) -> dict[str, Any]:
        """What every client has to do with."""
        return {
            "reactor": self.reactor,
            "chance": self.chance,
            "connect": self.connect,
            "wall": self.reactor.seconds,
            "keys": lambda: self.user,
            "region": self.settings.server.region,
            "operations_per_hour": self.shape.operations_per_hour / max(1, self.shape.clients),
            "tell": self.tell,
            "is_open": lambda: self.has_buckets,
        }

    def time_of_day(self) -> float:
        """What the machine's clock says."""
        return self.reactor.seconds() + self.clock_error

    # ── telling ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def tell(self, line: str) -> None:
        """Add a line to the story."""
        if self.keeps_story:
            passed = self.reactor.seconds() - BEGINNING
            days, rest = divmod(passed, 86_400)
            hours, rest = divmod(rest, 3600)
            minutes, seconds = divmod(rest, 60)
            self.story.append(f"day {int(days)} {int(hours):02}:{int(minutes):02}:{seconds:06.3f}  {line}")

    def befalls(self, kind: str, what: str) -> None:
        """Something happens to the appliance: tell it, and mark it in the history of the drives; see ``Mark``."""
        self.tell(what)
        if self.floor.history is not None:
            self.floor.history.marks.append(Mark(at=self.reactor.seconds(), kind=kind, what=what))

    def heard(self, event: Mapping[str, Any]) -> None:
        """Take a log event of the appliance: what comes with a traceback nobody has expected."""
        if self.keeps_story and event["log_level"] >= LogLevel.warn:
            self.tell(f"log: {formatEvent(dict(event))}")
        failure = event.get("log_failure")
        if failure is not None and not failure.check(LifeIsOver):
            self.failures.append(f"{event.get('log_format')}: {failure.getTraceback()}")

    # ── living ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def begin(self) -> None:
        """Start the appliance for the first time, and let everybody else begin."""
        self.start()
        for client in (*self.clients, *self.governed):
            client.begin()
        self.operator.begin()
        self.reactor.callLater(HOUR, self._hour)

    def _perhaps_dies_young(self, life: Life) -> None:
        if self.chance.happens("kill while starting"):
            life.ends_at = self.chance.stream("effects of a start").randint(1, 60)

    def start(self) -> Run:
        """Start a life."""
        self.lives += 1
        self.befalls("start", f"the appliance starts, life {self.lives}")
        run = Run(self, self.lives)
        self.on_birth(run.life)
        self.run = run
        before = run.life.on_end

        def ended() -> None:
            before()
            self._buried(run)

        run.life.on_end = ended
        run.start()
        if run.life.is_over:
            self._buried(run)
        return run

    def _buried(self, run: Run) -> None:
        """A life has ended, however: the service manager starts the next one."""
        if run in self.graves:
            return
        self.graves.append(run)
        if run in self.others:
            self.others.remove(run)
        why = f" ({run.failure.value})" if run.failure is not None else f" at {run.life.last_effect!r}"
        self.befalls("death", f"the appliance is dead{why}")
        self.disk.release_unnamed()
        if self.run is run:
            self.run = None
            self._starts_within(RESTART_SECONDS)

    def _starts_within(self, seconds: tuple[float, float]) -> None:
        if self._restart is not None and self._restart.active():
            self._restart.cancel()
        pause = self.chance.stream("restart").uniform(*seconds)
        self._restart = self.reactor.callLater(pause, self._start_again)

    def has_begun(self, run: Run) -> None:
        """A run has its epoch: those before have lost theirs."""
        now = self.reactor.seconds()
        for other in self.others:
            if other is not run and other.life.taken_over_at is None:
                other.life.taken_over_at = now

    # ── another machine ─────────────────────────────────────────────────────────────────────────────────────────────

    def take_over(self) -> None:
        """
        The appliance stops in the middle of what it does, at a random moment or just when it has asked something; the other machine takes
        over, and some time before or after that the first one goes on.
        """
        run, random = self.run, self.chance.stream("other machine")
        if run is None or self.others:
            return
        if random.random() < 0.5:
            run.life.on_asking = lambda: self.freeze(run)
        else:
            self.freeze(run)

    def freeze(self, run: Run) -> None:
        """A run stops in the middle of what it does, and is taken over; it goes on some time before or after that."""
        run.life.on_asking = _nothing
        if self.run is not run or run.life.is_over:
            return
        random = self.chance.stream("other machine")
        self.befalls("death", f"the appliance on {self.computer.host.name} stands still")
        run.life.is_frozen = True
        self.run = None
        self.others.append(run)
        one, two = self.floor.computers
        self.computer = two if self.computer is one else one
        for connection in list(run.life.watchers.values()):
            if random.random() < 0.5:
                self.reactor.callLater(random.uniform(1.0, 60.0), connection.hang_up)
        self._starts_within(STANDBY_SECONDS)
        self.reactor.callLater(random.choice(FROZEN_SECONDS) * random.random(), self._thaw, run)

    def _thaw(self, run: Run) -> None:
        if not run.life.is_over:
            self.befalls("thaw", "the appliance that stood still goes on")
            # What it was about to do comes before its next look at whether it still is the one.
            run.look_away(self.chance.stream("other machine").uniform(0.0, LOOK_SECONDS))
            self.reactor.thaw(run.life)

    def switch_off_others(self) -> None:
        """Somebody sees to it that every machine is off but the one that the appliance runs on."""
        for run in list(self.others):
            run.life.end()
        for computer in self.floor.computers:
            if computer is not self.computer:
                self.floor.switch_off(computer)

    def _start_again(self) -> None:
        if self.run is None:
            self.start()

    def kill(self) -> None:
        """kill -9."""
        if self.run is not None:
            self.tell("kill -9")
            self.run.life.end()

    def cut_power(self) -> None:
        """The power goes, and comes back after a while."""
        self.befalls("death", "the power goes")
        run, self.run = self.run, None
        for each in (run, *self.others):
            if each is not None:
                each.life.end()
        self.floor.cut_power()
        self.disk.cut_power(self.chance.stream("power"))
        if self.chance.happens("disk bit flip"):
            self._flip_on_disk()
        self._starts_within(POWER_SECONDS)

    def connect(self, is_head: bool) -> Connection | None:
        """Open a connection for a client, None while nobody listens."""
        run = self.run
        awake = [other for other in self.others if not other.life.is_frozen and other.is_serving]
        if awake and self.chance.stream("which machine").random() < 0.5:
            run = awake[0]
        if run is None or not run.is_serving or run.life.is_over:
            return None
        return Connection(self.reactor, run.life, run.core.site, is_head)

    # ── faults that come with time ──────────────────────────────────────────────────────────────────────────────────

    def _hour(self) -> None:
        if not self.are_faults_on:
            return
        self.reactor.callLater(HOUR, self._hour)
        chance = self.chance
        for fault, strikes in self._hourly():
            if chance.happens(fault):
                within = chance.stream(f"moment of {fault}")
                self.reactor.callLater(within.uniform(0, HOUR), self._strike, fault, strikes)
        if chance.stream("storms").random() < STORMS_PER_HOUR:
            names = chance.storm()
            if names:
                self.tell(f"a storm of {', '.join(names)}")
                self.reactor.callLater(STORM_HOURS * HOUR, chance.calm)

    def _strike(self, fault: str, strikes: Callable[[], None]) -> None:
        if self.are_faults_on:
            self.befalls("fault", f"fault: {fault}")
            strikes()

    def _hourly(self) -> Sequence[tuple[str, Callable[[], None]]]:
        floor = self.floor
        return (
            ("kill", self.kill),
            ("clock step", self._step_clock),
            ("power cut", self.cut_power),
            ("database away", lambda: self._for_a_while(self.database, "is_away")),
            ("webhook away", lambda: self._for_a_while(self.target, "is_away")),
            ("disk full", lambda: self._for_a_while(self, "is_disk_full")),
            ("disk read-only", lambda: self._for_a_while(self, "is_disk_read_only")),
            ("tape rot", lambda: self._spoil_on_tape(self._rot)),
            ("bad block", lambda: self._spoil_on_tape(self.floor.bad.add)),
            ("barcode unreadable", lambda: self._mislabel(floor.unreadable)),
            ("barcode vanishes", lambda: self._mislabel(floor.vanished)),
            ("barcode double", self._double_label),
            ("cartridge pulled", self.operator.pull_cartridge),
            ("drive dead", lambda: floor.dead.add(self._any_drive())),
            ("ltfs dies", self._kill_ltfs),
            (TAKEOVER, self.take_over),
        )

    def _step_clock(self) -> None:
        """Somebody sets the clock wrong, by seconds or a day; it is set right some time later."""
        random = self.chance.stream("clock")
        self.clock_error = (
            random.choice((-1, 1)) * random.choice((1.0, 60.0, HOUR, 24 * HOUR)) * random.random()
        )
        self.tell(f"the clock is {self.clock_error:+.0f} s wrong")
        self._later(lambda: setattr(self, "clock_error", 0.0))

    def _any_drive(self) -> int:
        return self.chance.stream("drives").randrange(self.shape.drives)

    def _for_a_while(self, thing: Any, attribute: str) -> None:
        setattr(thing, attribute, True)
        seconds = self.chance.stream(f"while {attribute}").uniform(1.0, 2 * HOUR)
        self.reactor.callLater(seconds, setattr, thing, attribute, False)

    def _flip_on_disk(self) -> None:
        """
        A bit on the disk has changed while the power was away, in bytes that are on tape as well. (Only then: what the page cache holds
        was checked, and what is nowhere else would be lost.)
        """
        random = self.chance.stream("flips")
        rows = self.database.connection.execute(
            "SELECT p.address, p.length_bytes, CAST(v.key AS TEXT) FROM versions v JOIN pieces p ON p.layout_id = v.layout_id"
            " WHERE v.on_disk = 1 AND v.archive_state = 'archived' AND v.deleted_at IS NULL AND p.length_bytes > 0"
            " ORDER BY p.address"
        ).fetchall()
        if not rows:
            return
        text, length_bytes, key = random.choice(rows)
        address = parsed(text)
        assert address is not None
        layout = Layout(Path(self.settings.staging_directory))
        if isinstance(address, FileAddress):
            path, begin = layout.file(address), 0
        else:
            path = layout.container(address.container)
            begin = address.offset_bytes + (HEADER_BYTES if address.is_record else 0)
        file = self.disk.names.get(str(path))
        if file is not None and len(file.content) >= begin + length_bytes:
            file.content[begin + random.randrange(length_bytes)] ^= 1 << random.randrange(8)
            self.spoiled_keys.add(key)
            self.tell(f"a bit of {key} flips on the disk")

    def _spoil_on_tape(self, spoil: Callable[[tuple[str, str]], None]) -> None:
        """Something happens to a bundle on a cartridge of which there is another verified copy that is as it was written."""
        rows = self.database.connection.execute(
            "SELECT bundle_id, barcode FROM copies WHERE state = 'verified' ORDER BY bundle_id, barcode"
        ).fetchall()
        places = [(barcode, f"coldstore/bundles/{bundle_id}.tar") for bundle_id, barcode in rows]
        good = [place for place in places if place not in self.floor.flipped]
        counts: dict[str, int] = {}
        for barcode, path in good:
            counts[path] = counts.get(path, 0) + (barcode not in self.operator.given_up)
        safe = [place for place in good if counts[place[1]] > 1 and place[0] not in self.operator.given_up]
        if safe:
            place = self.chance.stream("flips").choice(safe)
            self.floor.flipped.add(place)
            spoil(place)
            self.tell(f"{place[1]} on {place[0]} is spoiled")

    def _rot(self, place: tuple[str, str]) -> None:
        barcode, path = place
        medium = self.floor.tapes.medium(barcode)
        trees = [medium, *(mount for mount in self.floor.tapes.mounts.values() if mount.medium is medium)]
        for each in trees:
            each.tree = each.tree.rotten(path, self.chance.stream("flips"))

    def _mislabel(self, those: set[str]) -> None:
        barcode = self._any_barcode()
        those.add(barcode)
        self._later(lambda: those.discard(barcode))

    def _double_label(self) -> None:
        barcode, other = self._any_barcode(), self._any_barcode()
        if barcode != other:
            self.floor.double[barcode] = other
            self._later(lambda: self.floor.double.pop(barcode, None))

    def _any_barcode(self) -> str:
        return f"A{self.chance.stream('labels').randint(1, self.shape.cartridges):05}L9"

    def _later(self, undo: Callable[[], object]) -> None:
        self.reactor.callLater(self.chance.stream("whiles").uniform(60.0, 6 * HOUR), undo)

    def _kill_ltfs(self) -> None:
        mounts = sorted(self.floor.tapes.mounts)
        if mounts:
            self.floor.tapes.kill(self.chance.stream("drives").choice(mounts))

    def _loss(self) -> Loss | None:
        if self.chance.happens("database lost before commit"):
            return Loss.BEFORE
        if self.chance.happens("database lost after commit"):
            return Loss.AFTER
        return None

    def _disk_fault(self, operation: str, _path: str) -> int | None:
        if self.is_disk_read_only and operation not in ("read", "open", "list"):
            return EROFS
        if operation in ("write", "allocate", "create"):
            if self.is_disk_full:
                return ENOSPC
            return EIO if self.chance.happens("disk write error") else None
        if operation in ("sync", "sync folder"):
            return EIO if self.chance.happens("disk sync error") else None
        if operation in ("read", "open"):
            return EIO if self.chance.happens("disk read error") else None
        return None

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def pass_hours(self, hours: float) -> None:
        """Let so many hours go by."""
        self.reactor.run_until(self.reactor.seconds() + hours * HOUR)

    def until(self, condition: Callable[[], bool], *, hours: float, every_seconds: float = 600.0) -> bool:
        """Let time go by until a condition holds, so many hours at most; return whether it does. Looked at now and then."""
        end = self.reactor.seconds() + hours * HOUR
        while not condition():
            if self.reactor.seconds() >= end:
                return False
            self.reactor.run_until(min(end, self.reactor.seconds() + every_seconds))
        return True

    def quieten(self) -> None:
        """No more faults, everything is repaired, clients begin nothing new."""
        self.tell("the faults are off")
        self.are_faults_on = False
        self.chance.off()
        self.database.is_away = self.target.is_away = self.is_disk_full = self.is_disk_read_only = False
        self.floor.dead.clear()
        self.clock_error = 0.0
        for those in (self.floor.unreadable, self.floor.vanished, self.floor.double):
            those.clear()
        self.floor.is_library_away = False
        for run in self.others:
            self._thaw(run)
        for client in (*self.clients, *self.governed):
            client.is_over = True

    @property
    def complaints(self) -> list[str]:
        """What clients and operator saw that must not be."""
        return (
            [line for client in (*self.clients, *self.governed) for line in client.complaints]
            + self.operator.complaints
            + self.failures
            + [line for run in (*self.graves, *self.others) for line in run.life.misdeeds]
        )


def _nothing() -> None:
    return


__all__ = ["BUCKETS", "Run", "Shape", "World"]
