"""``MtxLibrary`` over a simulated runner: what is tried, what is looked at, and which fault tells the outcome."""

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.library import (
    CartridgeNotThere,
    CleaningCartridgeEjected,
    DriveNeedsOffline,
    ElementOccupied,
    InventoryUnreadable,
    LibraryNotReady,
    LibraryUnreachable,
    MoveFailed,
    MoveOutcomeUnknown,
    NoSuchElement,
    RemovalPrevented,
)
from coldstore.interfaces.process import CommandTimeout, LockHolder, OutputTooLarge
from coldstore.model.errors import TakenOver
from coldstore.tape.library import MtxLibrary
from coldstore.testing.process import Script, SimulatedCommandRunner, SimulatedDeviceLocks
from coldstore.testing.tenure import SimulatedTenure
from tests.unit.golden import script

STATUS = ("mtx", "-f", "/dev/sg0", "status")
LOAD = ("mtx", "-f", "/dev/sg0", "load", "1", "0")
UNLOAD = ("mtx", "-f", "/dev/sg0", "unload", "1", "0")

# Recorded inventories: A00001L8 in slot 1 with both drives empty, and the same cartridge in drive 0.
BEFORE = script("mtx", "status-drives-empty")
LOADED = script("mtx", "status-drive0-full")
GONE = Script(stdout=BEFORE.stdout.replace(b"1:Full :VolumeTag=A00001L8", b"1:Empty:VolumeTag=        "))
UNLABELLED = script("mtx", "status-unit-attention-on-element-status")
ATTENTION = script("mtx", "load-unit-attention-ie-accessed-6-28-01")
BECOMING_READY = script("mtx", "load-not-ready-becoming-ready-2-04-01")
DONE = script("mtx", "load-1-drive0")


class LibraryTestCase(SynchronousTestCase):
    """A library whose every command is scripted."""

    def setUp(self) -> None:
        """Make the library, its clock and its lock."""
        self.clock = Clock()
        self.runner = SimulatedCommandRunner(self.clock)
        self.lock = SimulatedDeviceLocks(self.clock).changer()
        self.tenure = SimulatedTenure()
        self.library = MtxLibrary(
            self.runner, "/dev/sg0", lock=self.lock, tenure=self.tenure, clock=self.clock
        )

    def script(self, *scripts: Script | CommandTimeout | OutputTooLarge) -> None:
        """Queue what mtx does, command after command."""
        self.runner.expect(["mtx"], *scripts)

    def commands(self) -> list[str]:
        """The verbs that were run."""
        self.assertEqual(self.runner.unused(), ())
        return [ran.argv[3] for ran in self.runner.ran]

    def step(self, seconds: float) -> None:
        """Go from event to event until so many seconds have passed."""
        end = self.clock.seconds() + seconds
        while self.clock.calls and self.clock.calls[0].getTime() <= end:
            self.clock.advance(max(0.0, self.clock.calls[0].getTime() - self.clock.seconds()))
        self.clock.advance(end - self.clock.seconds())


class InventoryTests(LibraryTestCase):
    """Looking."""

    def test_locked(self) -> None:
        """Every command inherits the changer's lock."""
        self.script(BEFORE)
        self.successResultOf(self.library.inventory())
        self.assertEqual(
            [(ran.argv, ran.descriptors) for ran in self.runner.ran], [(STATUS, (self.lock.descriptor(),))]
        )
        self.assertGreater(self.runner.ran[0].timeout_seconds, 300)

    def test_asked_last(self) -> None:
        """Whether another appliance has taken over is asked behind everything that is waited for, right before the move."""
        self.lock.orphan = LockHolder(process_id=7, command="mtx load 1 0")
        self.script(BEFORE)
        loading = self.library.load(slot=1, drive=0, barcode="A00001L8")
        self.step(60)
        self.assertEqual((self.runner.ran, self.tenure.asked), ([], 0))
        self.tenure.fault = TakenOver("by machine two")
        self.lock.orphan = None
        self.step(1)
        self.failureResultOf(loading, TakenOver)
        self.assertEqual((self.commands(), self.tenure.asked), (["status"], 1))

    def test_waits_for_orphans(self) -> None:
        """A command that a killed appliance left behind is waited for before the first look."""
        self.lock.orphan = LockHolder(process_id=7, command="mtx load 1 0")
        self.script(BEFORE)
        looking = self.library.inventory()
        self.step(60)
        self.assertEqual(self.runner.ran, [])
        self.lock.orphan = None
        self.step(1)
        self.successResultOf(looking)

    def test_orphan_without_end(self) -> None:
        """An orphan that does not end makes the library unreachable; its name is told."""
        self.lock.orphan = LockHolder(process_id=7, command="mtx load 1 0")
        looking = self.library.inventory()
        self.step(400)
        fault = self.failureResultOf(looking, LibraryUnreachable).value
        self.assertIn("7 (mtx load 1 0)", str(fault))

    def test_vanished_labels(self) -> None:
        """Labels that vanished from one answer are there in the next."""
        self.script(UNLABELLED, BEFORE)
        inventory = self.successResultOf(self.library.inventory())
        self.assertEqual(inventory.unlabelled(), ())
        self.assertEqual(self.commands(), ["status"] * 2)

    def test_unlabelled_twice(self) -> None:
        """Two equal answers are believed: the cartridges have no readable label."""
        self.script(UNLABELLED, UNLABELLED)
        inventory = self.successResultOf(self.library.inventory())
        self.assertEqual(len(inventory.unlabelled()), 7)

    def test_restless(self) -> None:
        """Answers that never agree are no inventory."""
        other = Script(stdout=UNLABELLED.stdout.replace(b"1:Full \n", b"1:Empty\n", 1))
        self.script(*[UNLABELLED, other] * 3)
        self.failureResultOf(self.library.inventory(), LibraryNotReady)
        self.assertEqual(self.commands(), ["status"] * 6)

    def test_becoming_ready(self) -> None:
        """A library that is starting is asked again until it answers."""
        self.script(*[script("mtx", "status-not-ready-2-04-01")] * 4, BEFORE)
        looking = self.library.inventory()
        self.step(19)
        self.assertNoResult(looking)
        self.step(1)
        self.successResultOf(looking)

    def test_never_ready(self) -> None:
        """Waiting for a library that is starting ends."""
        self.runner.install("mtx", lambda argv: script("mtx", "status-not-ready-2-04-01"))
        looking = self.library.inventory()
        self.step(610)
        self.failureResultOf(looking, LibraryNotReady)

    def test_unreachable(self) -> None:
        """A missing, forbidden or wrong device, a program that is not installed, and silence are told apart by reason."""
        for case, words in {
            "status-device-missing": "No such file or directory",
            "permission-denied": "Permission denied",
            "status-not-a-scsi-device": "not an sg device",
            "status-on-drive": "READ ELEMENT STATUS Command Failed",
        }.items():
            self.script(script("mtx", case))
            fault = self.failureResultOf(self.library.inventory(), LibraryUnreachable).value
            self.assertIn(words, fault.reason)
        fault = self.failureResultOf(self.library.inventory(), LibraryUnreachable).value
        self.assertIn("no such program", fault.reason)
        self.script(Script(seconds=None))
        looking = self.library.inventory()
        self.step(330)
        self.failureResultOf(looking, LibraryUnreachable)

    def test_unknown_output(self) -> None:
        """An answer that is not known is refused."""
        self.script(Script(stdout=b"mtx from the future\n"))
        self.failureResultOf(self.library.inventory(), InventoryUnreadable)


class MoveTests(LibraryTestCase):
    """Moving."""

    def test_success(self) -> None:
        """A load looks before and after, and tells what it saw; nobody else's move comes between."""
        self.script(BEFORE, DONE, LOADED)
        loading = self.library.load(slot=1, drive=0, barcode="A00001L8")
        self.assertEqual(self.successResultOf(loading).drive(0).barcode, "A00001L8")
        self.assertEqual([ran.argv for ran in self.runner.ran], [STATUS, LOAD, STATUS])
        self.assertEqual(self.runner.ran[1].timeout_seconds, 330)

    def test_repeating(self) -> None:
        """A cartridge that is in its destination is not moved."""
        self.script(LOADED)
        self.successResultOf(self.library.load(slot=1, drive=0, barcode="A00001L8"))
        self.assertEqual(self.commands(), ["status"])

    def test_unit_attention(self) -> None:
        """A move that only met a unit attention is repeated once, after a look."""
        self.script(BEFORE, ATTENTION, BEFORE, BEFORE, DONE, LOADED)
        self.successResultOf(self.library.load(slot=1, drive=0, barcode="A00001L8"))
        self.assertEqual(self.commands(), ["status", "load", "status", "status", "load", "status"])

    def test_unit_attention_twice(self) -> None:
        """A second one ends the move: the cartridge is where it was."""
        self.script(BEFORE, ATTENTION, BEFORE, BEFORE, ATTENTION, BEFORE)
        fault = self.failureResultOf(self.library.load(slot=1, drive=0, barcode="A00001L8"), MoveFailed).value
        self.assertTrue(fault.is_outcome_known)

    def test_becoming_ready(self) -> None:
        """A library that is becoming ready gets a pause before the second try."""
        self.script(BEFORE, BECOMING_READY, BEFORE, BEFORE, DONE, LOADED)
        moving = self.library.load(slot=1, drive=0, barcode="A00001L8")
        self.assertNoResult(moving)
        self.step(5)
        self.successResultOf(moving)

    def test_failed_but_done(self) -> None:
        """A failed move whose cartridge is in its destination is done."""
        self.script(BEFORE, script("mtx", "load-mechanical-error-4-15-01"), LOADED)
        self.successResultOf(self.library.load(slot=1, drive=0, barcode="A00001L8"))

    def test_timeout_but_done(self) -> None:
        """A move that outlived its deadline is looked at: it may be done."""
        self.script(BEFORE, Script(seconds=None), LOADED)
        moving = self.library.load(slot=1, drive=0, barcode="A00001L8")
        self.step(330)
        self.successResultOf(moving)
        self.assertEqual(self.runner.killed, [LOAD])

    def test_timeout_in_place(self) -> None:
        """A late move whose cartridge is in place is not repeated: the robot may be stuck."""
        self.script(BEFORE, Script(seconds=None), BEFORE)
        moving = self.library.load(slot=1, drive=0, barcode="A00001L8")
        self.step(330)
        self.failureResultOf(moving, MoveFailed)
        self.assertEqual(self.commands(), ["status", "load", "status"])

    def test_gone(self) -> None:
        """A cartridge in neither place is an unknown outcome; the operator is told where to look."""
        self.script(BEFORE, script("mtx", "load-mechanical-error-4-15-01"), GONE)
        fault = self.failureResultOf(
            self.library.load(slot=1, drive=0, barcode="A00001L8"), MoveOutcomeUnknown
        ).value
        self.assertFalse(fault.is_outcome_known)
        self.assertIn("Look for cartridge A00001L8: in the gripper, in slot 1 or in drive 0.", str(fault))

    def test_elsewhere(self) -> None:
        """A cartridge that turned up in a third place is an unknown outcome that names the place."""
        moved = Script(stdout=GONE.stdout.replace(b" 7:Empty:VolumeTag=", b" 7:Full :VolumeTag=A00001L8"))
        self.script(BEFORE, script("mtx", "load-mechanical-error-4-15-01"), moved)
        fault = self.failureResultOf(
            self.library.load(slot=1, drive=0, barcode="A00001L8"), MoveOutcomeUnknown
        ).value
        self.assertIn("now slot 7 reports it", fault.reason)

    def test_no_look_after(self) -> None:
        """A library that does not answer after a failure leaves the outcome unknown."""
        self.script(
            BEFORE, script("mtx", "load-mechanical-error-4-15-01"), script("mtx", "status-device-missing")
        )
        self.failureResultOf(self.library.load(slot=1, drive=0, barcode="A00001L8"), MoveOutcomeUnknown)

    def test_not_reaped(self) -> None:
        """A killed command that still holds the device is waited for before the look."""
        late = CommandTimeout(LOAD, timeout_seconds=330, is_reaped=False)
        self.script(BEFORE, late, LOADED)
        moving = self.successResultOf(self.lock.acquire(timeout_seconds=1))
        self.lock.orphan = LockHolder(process_id=9, command="mtx load 1 0")
        moving = self.library.load(slot=1, drive=0, barcode="A00001L8")
        self.step(100)
        self.assertNoResult(moving)
        self.assertEqual([ran.argv[3] for ran in self.runner.ran], ["status", "load"])
        self.lock.orphan = None
        self.step(1)
        self.successResultOf(moving)

    def test_flood(self) -> None:
        """A command that was killed for saying too much is looked at like a late one."""
        self.script(BEFORE, OutputTooLarge(LOAD, stream="stderr", limit_bytes=9), LOADED)
        self.successResultOf(self.library.load(slot=1, drive=0, barcode="A00001L8"))

    def test_typed_faults(self) -> None:
        """What mtx reports becomes a fault of its own kind, and nothing is repeated."""
        for case, kind in {
            "unload-needs-offline": DriveNeedsOffline,
            "unload-while-locked-5-53-02": RemovalPrevented,
            "unload-destination-full": ElementOccupied,
            "unload-drive-empty": CartridgeNotThere,
        }.items():
            self.script(LOADED, script("mtx", case), LOADED)
            fault = self.failureResultOf(self.library.unload(drive=0, slot=1, barcode="A00001L8"), kind).value
            self.assertTrue(fault.is_outcome_known and fault.advice.endswith("."), case)
        for case, kind in {
            "load-cleaning-ejected-5-30-03": CleaningCartridgeEjected,
            "load-hardware-error-4-44-00": MoveFailed,
            "load-aborted-b-47-00": MoveFailed,
            "load-not-ready-manual-2-04-03": LibraryNotReady,
            "load-invalid-element-5-21-01": NoSuchElement,
        }.items():
            self.script(BEFORE, script("mtx", case), BEFORE)
            self.failureResultOf(self.library.load(slot=1, drive=0, barcode="A00001L8"), kind)

    def test_checked_before(self) -> None:
        """A move that cannot be right is not tried: wrong cartridge, empty source, full destination, no such element."""
        tries = (
            (
                self.library.load,
                {"slot": 1, "drive": 0, "barcode": "A00002L8"},
                CartridgeNotThere,
                "is in slot 2",
            ),
            (
                self.library.load,
                {"slot": 7, "drive": 0, "barcode": "X00001L8"},
                CartridgeNotThere,
                "No element",
            ),
            (self.library.load, {"slot": 99, "drive": 0, "barcode": "A00001L8"}, NoSuchElement, "slot 99"),
            (self.library.load, {"slot": 1, "drive": 2, "barcode": "A00001L8"}, NoSuchElement, "drive 2"),
            (
                self.library.unload,
                {"slot": 7, "drive": 0, "barcode": "A00001L8"},
                CartridgeNotThere,
                "drive 0 is empty",
            ),
            (
                self.library.transfer,
                {"source": 1, "destination": 2, "barcode": "A00001L8"},
                ElementOccupied,
                "slot 2 holds A00002L8",
            ),
        )
        for method, arguments, kind, words in tries:
            self.script(script("mtx", "status-drives-empty"))
            fault = self.failureResultOf(method(**arguments), kind).value
            self.assertIn(words, str(fault))
        self.assertEqual(set(self.commands()), {"status"})

    def test_same_label_twice(self) -> None:
        """When source and destination report the same barcode nothing is moved and nothing is claimed to be done."""
        twice = Script(stdout=BEFORE.stdout.replace(b"A00002L8", b"A00001L8"))
        self.script(twice)
        self.failureResultOf(
            self.library.transfer(source=1, destination=2, barcode="A00001L8"), ElementOccupied
        )

    def test_one_at_a_time(self) -> None:
        """A second call waits until the first one is over."""
        slow = Script(stdout=DONE.stdout, seconds=20)
        self.script(BEFORE, slow, LOADED, LOADED)
        moving = self.library.load(slot=1, drive=0, barcode="A00001L8")
        looking = self.library.inventory()
        self.step(19)
        self.assertNoResult(looking)
        self.assertEqual(len(self.runner.ran), 2)
        self.step(1)
        self.successResultOf(moving)
        self.successResultOf(looking)

    def test_cancelling(self) -> None:
        """A cancelled move frees the robot for the next call."""
        self.script(BEFORE, Script(seconds=None), BEFORE)
        moving = self.library.load(slot=1, drive=0, barcode="A00001L8")
        moving.cancel()
        self.failureResultOf(moving, CancelledError)
        self.assertEqual(self.runner.killed, [LOAD])
        self.successResultOf(self.library.inventory())

    def test_unload(self) -> None:
        """Unloading names slot and drive."""
        self.script(LOADED, script("mtx", "unload-drive0"))
        self.successResultOf(self.library.unload(drive=0, slot=1, barcode="A00001L8"))
        self.assertEqual(self.runner.ran[1].argv, UNLOAD)
