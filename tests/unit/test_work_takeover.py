"""Another machine begins where one was killed, which may still be at work: what it loaded stays untouched until that is certain."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from coldstore.interfaces.reservation import (
    IReservation,
    ReservationFault,
    ReservationsUnsupported,
    ReservedByAnother,
)
from coldstore.model.cartridges import Drive, DriveState
from coldstore.model.hosts import Host
from coldstore.model.objects import ObjectVersion
from tests.unit.work_rig import MIB, Run, World, now_of

ONE = Host(name="one", machine_id="m1", boot_id="b1")
TWO = Host(name="two", machine_id="m2", boot_id="b2")
UNTOUCHED = "not looked at yet"


@implementer(IReservation)
class NotingReservation:
    """Notes what it is asked for, and fails as it is told to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked: list[str] = []
        self.fault: ReservationFault | None = None

    def _answer(self) -> "Deferred[None]":
        return succeed(None) if self.fault is None else fail(self.fault)

    def hold(self) -> "Deferred[None]":
        """See ``IReservation``."""
        self.asked.append("hold")
        return self._answer()

    def take_from(self, host: Host) -> "Deferred[None]":
        """See ``IReservation``."""
        self.asked.append(f"take from {host.name}")
        return self._answer()


class HeldBy(NotingReservation):
    """One that a machine has until it is taken from it."""

    def __init__(self, name: str, holder: Host) -> None:
        super().__init__(name)
        self._holder: Host | None = holder

    def _answer(self) -> "Deferred[None]":
        if self._holder is not None and self.asked[-1] != f"take from {self._holder.name}":
            return fail(ReservedByAnother(self.name, self._holder.name))
        self._holder = None
        return succeed(None)


class TakeoverCase(SynchronousTestCase):
    """Machine one has archived an object, keeps both cartridges in its drives 0 and 1 of three, and is gone."""

    def setUp(self) -> None:
        """Let it come to that."""
        self.world = World(drives=3, cartridges=6)
        self.version = self.world.put("k", MIB // 4)
        run = self.start(ONE)
        run.until(lambda: self.world.is_cold(self.version))
        self.held = {drive.number: drive.barcode for drive in self.world.library.drives if drive.barcode}
        self.assertEqual(len(self.held), 2)
        (self.free,) = {0, 1, 2} - set(self.held)
        self.world.crash(run)

    def start(self, host: Host, **options: Any) -> Run:
        """Begin a run on a machine."""
        return Run(self.world, host=host, idle_unload_seconds=1e6, bundle_bytes=MIB // 2, **options).start()

    def reservations(self) -> dict[int, NotingReservation]:
        """One for each drive."""
        return {number: NotingReservation(f"drive {number}") for number in range(3)}

    def records(self) -> dict[int, Drive]:
        """The drives as recorded."""
        return {drive.index: drive for drive in now_of(self.world.store.drives())}

    def steps(self, run: Run) -> dict[int, str]:
        """What the drives do."""
        return {entry.drive: entry.step for entry in run.board.entries()}

    def drive_up(self, run: Run, number: int, host: Host) -> None:
        """Do what ``coldstore drives up`` does on a machine."""
        now_of(
            self.world.store.set_drive_state(
                index=number, state=DriveState.UP, reason="it is off", at=run.clock.seconds(), by="joe", host=host.text
            )
        )  # fmt: skip
        run.bells["dispatcher"].ring()

    def assert_untouched(self, run: Run) -> None:
        """Check that nobody did anything with what machine one had loaded."""
        for number, barcode in self.held.items():
            self.assertEqual(self.steps(run)[number], "left untouched")
            self.assertEqual(self.world.library.drives[number].barcode, barcode)
            record = self.records()[number]
            self.assertEqual((record.state, record.host), (DriveState.DOWN, ONE.text))
            self.assertIn(f"{barcode}, which one loaded", record.reason)
        alerts = [
            alert
            for alert in now_of(self.world.store.alerts(include_cleared=False, limit=100))
            if alert.kind == "drive-down"
        ]
        self.assertEqual(
            sorted(alert.subject for alert in alerts), sorted(f"drive {number}" for number in self.held)
        )
        for alert in alerts:
            number = int(alert.subject.split()[1])
            for words in (
                "left untouched",
                self.held[number],
                "When one is off",
                f"`coldstore drives up {number}`",
            ):
                self.assertIn(words, alert.sentence)

    def archive_more(self, run: Run) -> ObjectVersion:
        """Have another object archived."""
        more = self.world.put("more", MIB // 4)
        run.until(lambda: self.world.is_archived(more))
        return more


class TakeoverTests(TakeoverCase):
    """Without reservations."""

    def test_same_machine(self) -> None:
        """After a boot, the machine goes on with what it had loaded."""
        run = self.start(Host(name="one", machine_id="m1", boot_id="b9"))
        self.world.ask_back(self.version)
        run.until(lambda: self.world.is_restored(self.version))
        self.assertEqual(self.world.alerts(), {})
        self.assertEqual({drive.host for drive in self.records().values()}, {"m1 b9 one"})
        run.stop()

    def test_left_untouched(self) -> None:
        """Another machine works with the drive that was empty, and leaves the others and their cartridges alone."""
        run = self.start(TWO)
        self.world.ask_back(self.version)
        more = self.archive_more(run)
        self.assert_untouched(run)
        self.assertEqual(set(self.held.values()) & self.world.where(more), set())
        self.assertFalse(self.world.is_restored(self.version))
        self.assertEqual(self.records()[self.free].host, TWO.text)
        run.stop()

    def test_word_of_an_operator(self) -> None:
        """Once an operator has said that the machine is off, the drive is looked at, its cartridge used, and the alert closed."""
        run = self.start(TWO)
        run.until(lambda: run.dispatcher.is_reconciled)
        self.world.ask_back(self.version)
        run.let_pass(600)
        self.assert_untouched(run)
        number = min(self.held)
        self.drive_up(run, number, TWO)
        run.until(lambda: self.world.is_restored(self.version))
        self.assertEqual(self.world.read(self.version), self.world.contents[self.version.version_uid])
        self.assertEqual(self.records()[number].host, TWO.text)
        run.let_pass(120)
        self.assertNotEqual(self.world.alerts().get("drive-down"), f"drive {number}")
        run.stop()

    def test_killed_while_taking_over(self) -> None:
        """Whatever comes of the machine that takes over, at whatever step, what the first one loaded stays untouched."""
        for step in range(12):
            run = self.start(TWO, store=Mortal(self.world, step))
            run.let_pass(1)
            for number in self.held:
                self.assertIn(self.steps(run)[number], (UNTOUCHED, "left untouched"))
            self.world.crash(run)
        run = self.start(TWO)
        run.let_pass(600)
        self.assert_untouched(run)
        self.world.crash(run)
        events = now_of(self.world.store.audit_trail(before_id=None, limit=100))
        self.assertEqual(len([event for event in events if event.what == "drive down"]), 2)
        run = self.start(TWO)
        run.let_pass(600)
        self.assert_untouched(run)
        run.stop()

    def test_down_already(self) -> None:
        """A drive that an operator had put down says both reasons."""
        number = min(self.held)
        now_of(
            self.world.store.set_drive_state(
                index=number, state=DriveState.DOWN, reason="noise", at=1.0, by="joe"
            )
        )
        run = self.start(TWO)
        run.let_pass(60)
        self.assert_untouched(run)
        self.assertIn("noise", self.records()[number].reason)
        run.stop()

    def test_back_again(self) -> None:
        """If the first machine comes back before anybody else has had its drives, it goes on with them once they are put up."""
        run = self.start(TWO)
        run.let_pass(60)
        self.world.crash(run)
        run = self.start(Host(name="one", machine_id="m1", boot_id="b9"))
        for number in self.held:
            self.drive_up(run, number, ONE)
        self.world.ask_back(self.version)
        run.until(lambda: self.world.is_restored(self.version))
        run.stop()


class ReservationTests(TakeoverCase):
    """With persistent reservations."""

    def test_taken(self) -> None:
        """Drives that refuse the other machine from now on are used at once; who has taken them is in the audit trail."""
        reservations, changer = self.reservations(), NotingReservation("the changer")
        run = self.start(TWO, reservations=reservations, changer=changer)
        self.world.ask_back(self.version)
        run.until(lambda: self.world.is_restored(self.version))
        self.assertEqual(changer.asked[0], "take from one")
        for reservation in reservations.values():
            self.assertEqual(reservation.asked[0], "take from one")
        self.assertEqual({drive.host for drive in self.records().values()}, {TWO.text})
        self.assertEqual(self.world.drive_states(), [DriveState.UP] * 3)
        events = now_of(self.world.store.audit_trail(before_id=None, limit=100))
        told = [event.subject for event in events if "taken from one" in event.detail]
        self.assertEqual(sorted(told), sorted(f"drive {number}" for number in self.held))
        run.stop()

    def test_cannot_be_taken(self) -> None:
        """A drive that cannot be taken, or does not know how, waits for an operator as without reservations."""
        for fault in (ReservedByAnother("drive", "somebody"), ReservationsUnsupported("drive: not known")):
            reservations = self.reservations()
            for number in self.held:
                reservations[number].fault = fault
            run = self.start(TWO, reservations=reservations)
            self.archive_more(run)
            self.assert_untouched(run)
            self.world.crash(run)

    def test_not_ours(self) -> None:
        """A cartridge that nobody admitted is not taken from whoever has loaded it."""
        number = min(self.held)
        drive = self.world.library.drives[number]
        now_of(drive.offline())
        self.world.library.put(self.world.library.free_slots()[0], drive.give())
        drive.take("X00001L8", 1)
        reservations = self.reservations()
        run = Run(self.world, host=TWO, reservations=reservations)
        run.keeper._admitted_by = lambda _: ""
        run.start()
        run.let_pass(60)
        self.assertEqual(reservations[number].asked, [])
        self.assertEqual(self.records()[number].state, DriveState.DOWN)
        run.stop()

    def test_held(self) -> None:
        """The drive is kept for us before a cartridge comes into it, and again after LTFS has left it to everybody."""
        reservations = self.reservations()
        run = self.start(ONE, reservations=reservations)
        run.let_pass(60)
        asked = reservations[self.free].asked
        self.assertEqual(asked, ["hold"])
        self.drive_down_others(run)
        more = self.world.put("more", MIB // 4)
        run.until(lambda: bool(self.world.where(more)))
        count = len(asked)
        self.assertGreater(count, 1)
        run.dispatcher.drain(True)
        run.until(lambda: self.world.library.drives[self.free].barcode is None)
        self.assertGreater(len(asked), count)
        self.assertEqual(set(asked), {"hold"})
        run.stop()

    def drive_down_others(self, run: Run) -> None:
        """Leave the run one drive."""
        for number in self.held:
            now_of(
                self.world.store.set_drive_state(
                    index=number, state=DriveState.DOWN, reason="", at=run.clock.seconds(), by="joe"
                )
            )
        run.bells["dispatcher"].ring()
        run.until(lambda: not any(self.world.library.drives[number].barcode for number in self.held))

    def test_reserved_by_another(self) -> None:
        """A drive that another machine has reserved is put down, with a reason that says who has it; no cartridge comes to it."""
        reservations = self.reservations()
        reservations[self.free].fault = ReservedByAnother(f"drive {self.free}", "the LTFS of 192.0.2.7")
        run = self.start(ONE, reservations=reservations)
        run.until(lambda: self.records()[self.free].state is DriveState.DOWN)
        self.assertIn("the LTFS of 192.0.2.7", self.records()[self.free].reason)
        self.assertIsNone(self.world.library.drives[self.free].barcode)
        run.stop()

    def test_unsupported(self) -> None:
        """Drives and a changer that know no reservations work without."""
        reservations, changer = self.reservations(), NotingReservation("the changer")
        for reservation in (*reservations.values(), changer):
            reservation.fault = ReservationsUnsupported(f"{reservation.name}: not known")
        run = self.start(ONE, reservations=reservations, changer=changer)
        self.archive_more(run)
        # What is still mounted is LTFS's own to reserve.
        self.assertEqual([len(reservations[number].asked) for number in self.held], [0, 0])
        self.assertEqual((len(reservations[self.free].asked), len(changer.asked)), (1, 1))
        run.stop()

    def test_changer_of_an_earlier_run(self) -> None:
        """The changer is taken from whichever machine began an earlier run, also one that never had a drive."""
        for host in (TWO, Host(name="three", machine_id="m3", boot_id="b3")):
            now_of(self.world.store.take_epoch(at=self.world.clock.seconds(), host=host.text))
        changer = HeldBy("the changer", TWO)
        run = self.start(ONE, changer=changer)
        run.until(lambda: run.dispatcher.is_reconciled)
        self.assertEqual(changer.asked[:2], ["take from three", "take from two"])
        self.assertNotIn("library", self.world.alerts())
        run.stop()

    def test_changer_of_another(self) -> None:
        """A changer that another machine has reserved is a library that cannot be used: nothing moves, until it can."""
        changer = NotingReservation("the changer")
        changer.fault = ReservedByAnother("the changer", "somebody else")
        run = self.start(ONE, changer=changer)
        more = self.world.put("more", MIB // 4)
        run.until(lambda: "library" in self.world.alerts())
        run.let_pass(600)
        moves = self.world.library.moves
        self.assertEqual(set(self.steps(run).values()), {UNTOUCHED})
        changer.fault = None
        run.until(lambda: self.world.is_archived(more))
        self.assertNotIn("library", self.world.alerts())
        self.assertGreaterEqual(self.world.library.moves, moves)
        run.stop()


class Mortal:
    """A store that answers so many steps, and never again."""

    def __init__(self, world: World, steps: int) -> None:
        self._store = world.store
        self._left = steps

    def __getattr__(self, name: str) -> Any:
        value: Callable[..., Any] = getattr(self._store, name)
        if not callable(value):
            return value

        def step(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            return value(*args, **kwargs) if self._left >= 0 else Deferred()

        return step
