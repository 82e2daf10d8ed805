"""Who is blamed for what goes wrong with tapes, and the one sentence that an operator reads about it."""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.drive import DriveFailed, DriveUnreachable
from coldstore.interfaces.filesystem import CannotStart, DriveBusy, ReadOnly, UnsupportedMedium
from coldstore.interfaces.library import LibraryUnreachable
from coldstore.interfaces.mover import MediumFault
from coldstore.model.cartridges import CartridgeState, DriveState
from coldstore.model.library import DriveElement, Inventory
from tests.unit.work_rig import MIB, Run, World, now_of

UP, DOWN = DriveState.UP, DriveState.DOWN
FIRST, SECOND, THIRD = "A00001L8", "A00002L8", "A00003L8"


def medium_fault() -> MediumFault:
    """Return what a worn tape or head gives."""
    return MediumFault("x", "write", 5, "Input/output error")


def unreachable(attempted: str) -> DriveUnreachable:
    """Return what a node that may not be opened gives."""
    return DriveUnreachable(device="nst0", attempted=attempted, reason="Permission denied")


def failing(fault: Callable[[], Exception]) -> Callable[..., "Deferred[Any]"]:
    """Return a method that fails for ever."""
    return lambda **_: fail(fault())


class BlameTests(SynchronousTestCase):
    """The drive, the cartridge, both or none."""

    def sentences(self, world: World) -> dict[str, str]:
        """Return what the open alerts say, by kind."""
        return {
            alert.kind: alert.sentence
            for alert in now_of(world.store.alerts(include_cleared=False, limit=100))
        }

    def put_and_wait(self, world: World, run: Run, key: str) -> None:
        """Have an object archived."""
        version = world.put(key, MIB)
        run.until(lambda: world.is_cold(version), seconds=20_000)

    def put_until_suspect(self, world: World, run: Run, barcode: str) -> None:
        """Have objects archived until a cartridge is suspected: a drive goes on with another one before this one is tried in a second drive."""
        for number in range(6):
            self.put_and_wait(world, run, f"{barcode}-{number}")
            run.let_pass(600)
            if world.states()[barcode] is CartridgeState.SUSPECT:
                return
        self.fail(f"{barcode} is {world.states()[barcode].value}")

    def test_stuck_cartridge(self) -> None:
        """
        Drives that do not let go of their cartridges are down, each for the cartridge that is in it; those that were to come in their
        place have failed nowhere.
        """
        world = World(cartridges=4)
        run = Run(world).start()
        self.put_and_wait(world, run, "k")
        self.assertEqual({drive.barcode for drive in world.library.drives}, {FIRST, SECOND})
        for barcode in (FIRST, SECOND):
            world.tapes.medium(barcode).read_only = ReadOnly.FULL
            for mount in world.tapes.mounts.values():
                mount.read_only = ReadOnly.FULL
        for drive in world.library.drives:
            drive.offline = failing(  # type: ignore[method-assign]
                lambda: DriveFailed(device="nst", attempted="taking offline", reason="Input/output error")
            )
        for filesystem in run.filesystems.values():
            filesystem.faults["write"] = deque([medium_fault()])
        world.put("k2", MIB)
        run.packer.hurry()
        run.bells["packer"].ring()
        run.let_pass(600)
        self.assertEqual(world.drive_states(), [DOWN, DOWN])
        self.assertEqual(set(world.states().values()), {CartridgeState.FILLING})
        self.assertEqual(set(world.alerts()), {"drive-down", "no-drive"})

    def test_wanted_cartridge_is_innocent(self) -> None:
        """A cartridge for which another one could not be taken out of any drive is not suspected."""
        world = World(cartridges=4, capacity_bytes=64 * MIB)
        run = Run(world, bundle_bytes=40 * MIB).start()
        first = world.put("k", 38 * MIB)
        run.until(lambda: world.is_cold(first))
        for drive in world.library.drives:
            drive.offline = failing(  # type: ignore[method-assign]
                lambda: DriveFailed(device="nst", attempted="taking offline", reason="Input/output error")
            )
        second = world.put("k2", 38 * MIB)
        run.packer.hurry()
        run.bells["packer"].ring()
        run.let_pass(600)
        self.assertEqual(world.drive_states(), [DOWN, DOWN])
        self.assertEqual(world.states(), {FIRST: CartridgeState.FILLING, SECOND: CartridgeState.FILLING})
        reasons = [drive.reason for drive in now_of(world.store.drives())]
        self.assertEqual([FIRST in reason or SECOND in reason for reason in reasons], [True, True])
        told = now_of(world.store.alerts(include_cleared=True, limit=100))
        self.assertEqual([alert.subject for alert in told if THIRD in alert.subject + alert.sentence], [])
        self.assertFalse(world.is_archived(second))

    def test_guilt_explains(self) -> None:
        """What failed with a guilty cartridge is not held against the drives, nor what failed in a guilty drive against cartridges."""
        world = World(cartridges=6)
        run = Run(world, idle_unload_seconds=5)
        run.wear_out(FIRST, medium_fault())
        run.start()
        self.put_until_suspect(world, run, FIRST)
        for number, filesystem in enumerate(run.filesystems.values()):
            filesystem.faults["write"] = deque([medium_fault()])
            self.put_and_wait(world, run, f"more{number}")
        self.assertEqual(world.drive_states(), [UP, UP])

    def test_repaired_drive(self) -> None:
        """A drive that an operator puts up again begins anew: a failure of before does not bring it down with the next one."""
        world = World(cartridges=6)
        run = Run(world).start()
        self.put_and_wait(world, run, "k")
        run.filesystems[0].faults["write"] = deque([medium_fault()])
        self.put_and_wait(world, run, "k1")
        self.assertFalse(run.filesystems[0].faults["write"], "it did not fail")
        # At once, so that no round sees it down.
        for state in (DOWN, UP):
            now_of(
                world.store.set_drive_state(
                    index=0, state=state, reason="cleaned", at=world.clock.seconds(), by="operator"
                )
            )
        run.let_pass(120)
        run.filesystems[0].faults["write"] = deque([medium_fault()])
        self.put_and_wait(world, run, "k2")
        self.assertFalse(run.filesystems[0].faults["write"], "it did not fail")
        self.assertEqual(world.drive_states(), [UP, UP])

    def test_unreachable_drive(self) -> None:
        """A drive that cannot even be asked is down at once, whatever cartridge it was to have; no cartridge is suspected."""
        world = World(cartridges=4)
        run = Run(world)
        drive = world.library.drives[0]
        for name, attempted in (
            ("status", "reading the status"),
            ("wait_until_ready", "waiting for the tape"),
            ("offline", "taking offline"),
        ):
            setattr(drive, name, failing(partial(unreachable, attempted)))
        run.start()
        self.put_and_wait(world, run, "k")
        self.assertEqual(world.drive_states(), [DOWN, UP])
        self.assertEqual(set(world.states().values()), {CartridgeState.FILLING})
        sentence = self.sentences(world)["drive-down"]
        self.assertEqual(sentence.count("Permission denied"), 1)
        self.assertIn("coldstore drives up 0", sentence)
        self.assertEqual(list(world.alerts()), ["drive-down"])

    def test_cannot_start(self) -> None:
        """Programs that cannot work as they are set up bring their drive down, not the cartridges, which are put away."""
        world = World(cartridges=4)
        run = Run(world)
        run.filesystems[0].faults["mount"] = deque(CannotStart("mountpoint is not empty") for _ in range(9))
        run.start()
        self.put_and_wait(world, run, "k")
        self.assertEqual(world.drive_states(), [DOWN, UP])
        self.assertIsNone(world.library.drives[0].barcode)
        self.assertEqual(set(world.states().values()), {CartridgeState.FILLING})
        self.assertIn("mountpoint is not empty", self.sentences(world)["drive-down"])
        self.assertEqual(list(world.alerts()), ["drive-down"])

    def test_busy_for_a_while(self) -> None:
        """A drive that somebody else uses for a moment is tried again and again before it is given up; no cartridge is suspected."""
        for times, expected in ((3, UP), (9, DOWN)):
            world = World(drives=1, cartridges=4)
            run = Run(world)
            run.filesystems[0].faults["format"] = deque(DriveBusy("in use") for _ in range(times))
            run.start()
            version = world.put("k", MIB)
            run.packer.hurry()
            run.bells["packer"].ring()
            run.let_pass(600)
            self.assertEqual(world.drive_states(), [expected])
            self.assertEqual(world.is_archived(version), expected is UP)
            self.assertNotIn(CartridgeState.SUSPECT, world.states().values())
            self.assertEqual("drive-down" in world.alerts(), expected is DOWN)

    def test_unsupported_medium(self) -> None:
        """A medium that LTFS does not use is set aside at its first failure; the drive is innocent."""
        world = World(cartridges=4)
        run = Run(world)
        run.filesystems[0].faults["format"] = deque([UnsupportedMedium("write once")])
        run.start()
        self.put_and_wait(world, run, "k")
        self.assertEqual(world.drive_states(), [UP, UP])
        self.assertEqual(list(world.states().values()).count(CartridgeState.SUSPECT), 1)
        self.assertEqual(list(world.alerts()), ["cartridge-suspect"])
        self.assertIn("write once", self.sentences(world)["cartridge-suspect"])

    def test_read_only(self) -> None:
        """A cartridge that can only be read is known at its first mount, whatever drive; the sentence says why."""
        world = World(cartridges=4)
        run = Run(world, idle_unload_seconds=5).start()
        self.put_and_wait(world, run, "k")
        run.let_pass(60)
        world.tapes.medium(FIRST).read_only = ReadOnly.WRITE_ERROR
        self.put_and_wait(world, run, "k2")
        self.assertEqual(world.states()[FIRST], CartridgeState.SUSPECT)
        self.assertEqual(world.drive_states(), [UP, UP])
        self.assertEqual(list(world.alerts()), ["cartridge-suspect"])
        self.assertIn("it had a write error", self.sentences(world)["cartridge-suspect"])

    def test_write_error_and_read_only(self) -> None:
        """What a drive failed with before the cartridge was found to be read-only for good is not held against the drive."""
        world = World(cartridges=6)
        run = Run(world, idle_unload_seconds=5).start()
        self.put_and_wait(world, run, "k")
        failed: list[int] = []

        def fail_first(drive: int) -> None:
            if world.library.drives[drive].barcode == FIRST and not failed:
                failed.append(drive)
                world.tapes.medium(FIRST).read_only = ReadOnly.WRITE_ERROR
                raise medium_fault()

        run.before("write", fail_first)
        self.put_until_suspect(world, run, FIRST)
        run.filesystems[failed[0]].faults["write"] = deque([medium_fault()])
        self.put_and_wait(world, run, "k2")
        self.assertFalse(run.filesystems[failed[0]].faults["write"], "it did not fail")
        self.assertEqual(world.drive_states(), [UP, UP])

    def test_index_partition_full(self) -> None:
        """A cartridge without room for another index is full, which is no trouble: another one is taken without a word."""
        world = World(cartridges=4)
        run = Run(world, idle_unload_seconds=5).start()
        self.put_and_wait(world, run, "k")
        run.let_pass(60)
        world.tapes.medium(FIRST).read_only = ReadOnly.FULL
        self.put_and_wait(world, run, "k2")
        self.assertEqual(world.states()[FIRST], CartridgeState.FULL)
        record = now_of(world.store.cartridge(FIRST))
        self.assertEqual(record.reason, "its index partition is full")
        self.assertEqual(world.alerts(), {})
        self.assertEqual(world.drive_states(), [UP, UP])

    def test_index_partition_filled(self) -> None:
        """A cartridge whose unmount found no room on the index partition takes no more bundles: its next index may not fit."""
        world = World(cartridges=4)
        run = Run(world, idle_unload_seconds=5)
        world.tapes.medium(FIRST).is_index_partition_full = True
        run.start()
        self.put_and_wait(world, run, "k")
        run.let_pass(60)
        record = now_of(world.store.cartridge(FIRST))
        self.assertEqual((record.state, record.reason), (CartridgeState.FULL, "its index partition is full"))
        self.put_and_wait(world, run, "k2")
        self.assertEqual(world.alerts(), {})
        world.check()

    def test_lost_index(self) -> None:
        """
        A mount that ends without its index on tape is told, and counts as a failure: a cartridge that does so in two drives is
        suspected. Nothing that counted as on tape is lost.
        """
        world = World(cartridges=2)
        run = Run(world, idle_unload_seconds=5).start()
        version = world.put("k", MIB)
        run.until(lambda: world.is_archived(version))
        world.tapes.medium(FIRST).loses_index = True
        run.let_pass(60)
        (subject,) = world.alerts().values()
        self.assertIn(FIRST, subject)
        sentence = self.sentences(world)["tape-failure"]
        self.assertIn("was not closed cleanly", sentence)
        self.assertIn("the index was not written", sentence)
        self.assertIn("nothing needs to be done", sentence)
        self.assertTrue(now_of(world.store.cartridge(FIRST)).needs_check)
        world.ask_back(version)
        run.until(lambda: world.is_restored(version))
        for number in range(4):
            more = world.put(f"more{number}", MIB)
            run.until(
                lambda more=more: (
                    world.is_archived(more) or FIRST in world.alerts().get("cartridge-suspect", "")
                ),
                seconds=20_000,
            )
            run.let_pass(60)
            if "cartridge-suspect" in world.alerts():
                break
        self.assertEqual(world.states()[FIRST], CartridgeState.SUSPECT)
        self.assertEqual(world.drive_states(), [UP, UP])
        world.check()

    def test_old_end_is_not_told_again(self) -> None:
        """A drive that is looked at again does not tell once more how its last mount ended, while the cartridge was long repaired."""
        world = World(cartridges=2)
        run = Run(world, idle_unload_seconds=5).start()
        version = world.put("k", MIB)
        run.until(lambda: world.is_archived(version))
        world.tapes.medium(FIRST).loses_index = True
        run.let_pass(60)
        world.tapes.medium(FIRST).loses_index = False
        (drive,) = (int(subject.split()[1]) for subject in world.alerts().values())
        now_of(
            world.store.set_drive_state(
                index=drive, state=DOWN, reason="cleaning", at=world.clock.seconds(), by="operator"
            )
        )
        more = world.put("k2", MIB)
        run.until(lambda: world.is_cold(more))
        run.let_pass(100)
        self.assertFalse(now_of(world.store.cartridge(FIRST)).needs_check)
        before = now_of(world.store.alerts(include_cleared=True, limit=100))
        now_of(
            world.store.set_drive_state(
                index=drive, state=UP, reason="cleaned", at=world.clock.seconds(), by="operator"
            )
        )
        run.let_pass(100)
        self.assertFalse(now_of(world.store.cartridge(FIRST)).needs_check)
        after = now_of(world.store.alerts(include_cleared=True, limit=100))
        self.assertEqual([alert.count for alert in after], [alert.count for alert in before])

    def test_killed_while_idle(self) -> None:
        """An ltfs that was killed while nothing was written is told once, blames nobody, and the alert ends by itself."""
        world = World(cartridges=2)
        run = Run(world, idle_unload_seconds=60).start()
        self.put_and_wait(world, run, "k")
        for drive in list(world.tapes.mounts):
            world.tapes.kill(drive)
        run.let_pass(100)
        self.assertEqual(list(world.alerts()), ["tape-failure"])
        self.assertIn("ltfs was ended by signal 9", self.sentences(world)["tape-failure"])
        for number in range(3):
            self.put_and_wait(world, run, f"k{number}")
            run.let_pass(100)
        self.assertEqual(world.alerts(), {})
        self.assertEqual(world.drive_states(), [UP, UP])

    def test_given_back(self) -> None:
        """
        A cartridge that turned out to hold what is not ours, or to be write protected, stays named in an alert until an operator has
        dealt with it; it was not touched.
        """
        world = World(cartridges=4)
        strange = world.tapes.medium(FIRST)
        strange.volume_uuid, strange.volume_name, strange.generation = "f" * 8, "somebody's", 7
        world.tapes.medium(SECOND).is_protected = True
        run = Run(world).start()
        self.put_and_wait(world, run, "k")
        run.let_pass(200)
        self.assertEqual(world.states()[FIRST], CartridgeState.FOREIGN)
        self.assertEqual((strange.volume_name, strange.generation), ("somebody's", 7))
        self.assertEqual(world.states()[SECOND], CartridgeState.UNADMITTED)
        found = {
            alert.subject: alert for alert in now_of(world.store.alerts(include_cleared=False, limit=100))
        }
        self.assertEqual(set(found), {f"cartridge {FIRST}", f"cartridge {SECOND}"})
        self.assertIn("somebody's", found[f"cartridge {FIRST}"].sentence)
        self.assertIn("write protected", found[f"cartridge {SECOND}"].sentence)
        self.assertIn(f"coldstore cartridges admit {SECOND}", found[f"cartridge {SECOND}"].sentence)
        world.library.take_away(1)
        now_of(Deferred.fromCoroutine(run.dispatcher.look_at_library()))
        run.let_pass(100)
        self.assertEqual(list(world.alerts().values()), [f"cartridge {SECOND}"])
        self.assertEqual(world.drive_states(), [UP, UP])

    def test_library_away(self) -> None:
        """A library that cannot be used is told once, by one alert, which ends when the library is back, work or no work."""
        world = World(cartridges=2)
        run = Run(world).start()
        run.until(lambda: run.dispatcher.is_reconciled)
        library: Any = world.library
        inventory = library.inventory
        library.inventory = failing(
            lambda: LibraryUnreachable(attempted="reading", reason="Hardware Error", advice="Look.")
        )
        version = world.put("k", MIB)
        run.packer.hurry()
        run.bells["packer"].ring()
        run.let_pass(20)
        self.assertEqual(list(world.alerts()), ["library"])
        self.assertIn("Hardware Error", self.sentences(world)["library"])
        library.inventory = inventory
        run.until(lambda: world.is_cold(version))
        run.let_pass(100)
        self.assertEqual(world.alerts(), {})
        self.assertEqual(world.drive_states(), [UP, UP])

    def test_unread_label_of_the_wrong_cartridge(self) -> None:
        """
        A robot that brings another cartridge, whose label cannot be read, does not have it formatted: the slot of the right one is
        still full.
        """
        world = World(cartridges=3)
        run = Run(world)
        strange = world.tapes.medium(THIRD)
        strange.volume_uuid = None
        library: Any = world.library
        load, inventory = library.load, library.inventory
        is_wrong = True

        def load_wrong(*, slot: int, drive: int, barcode: str) -> "Deferred[None]":
            return (
                load(slot=3, drive=drive, barcode=THIRD)
                if is_wrong and drive == 0
                else load(slot=slot, drive=drive, barcode=barcode)
            )

        def unread(found: Inventory) -> Inventory:
            """No label can be read."""
            drives = tuple(
                DriveElement(
                    number=one.number, is_full=one.is_full, barcode=None, source_slot=one.source_slot
                )
                for one in found.drives
            )
            slots = tuple(
                type(one)(number=one.number, is_full=one.is_full, barcode=None) for one in found.slots
            )
            return Inventory(drives=drives, slots=slots, mail_slots=found.mail_slots)

        def look() -> "Deferred[Inventory]":
            is_after_wrong_load = is_wrong and library.drives[0].barcode == THIRD
            return inventory().addCallback(unread if is_after_wrong_load else lambda found: found)

        library.load, library.inventory = load_wrong, look
        run.start()
        world.put("k", MIB)
        run.packer.hurry()
        run.bells["packer"].ring()
        run.let_pass(30)
        self.assertIsNone(strange.volume_uuid)
        self.assertNotIn(THIRD, world.states())
