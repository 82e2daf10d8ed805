"""What the loops do when tapes, drives, the robot or the disk fail them."""

from collections import deque
from functools import partial

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.drive import DriveFailed
from coldstore.interfaces.filesystem import CutOff
from coldstore.interfaces.library import MoveFailed
from coldstore.interfaces.mover import MediumFault, MoverDied
from coldstore.interfaces.staging import DiskFault
from coldstore.model.bundles import CopyState
from coldstore.model.cartridges import CartridgeState, DriveState
from coldstore.model.errors import MetadataUnavailable, StagingFull
from coldstore.model.objects import ObjectVersion, Versioning
from coldstore.work import janitor
from tests.incidents import survives
from tests.unit.work_rig import BUCKET, MIB, FailingStore, MortalStore, Run, World, now_of


def medium_fault() -> MediumFault:
    """Return what a worn tape or head gives."""
    return MediumFault("x", "write", 5, "Input/output error")


class WritingTests(SynchronousTestCase):
    """Failures of an archive."""

    def test_end_of_tape(self) -> None:
        """A cartridge that is full earlier than it said is closed, and the bundle is written whole on the next."""
        world = World(cartridges=4, capacity_bytes=256 * MIB)
        for barcode in ("A00001L8", "A00002L8"):
            world.tapes.medium(barcode).capacity_bytes = 20 * MIB
        versions = [world.put(f"k{number}", 9 * MIB) for number in range(4)]
        run = Run(world, bundle_bytes=10 * MIB).start()
        run.until(lambda: world.is_cold(*versions))
        world.check()
        self.assertEqual(
            sorted(state.value for state in world.states().values()), ["filling", "filling", "full", "full"]
        )
        self.assertEqual(world.alerts(), {})
        world.check_disk()

    def test_foreign_data(self) -> None:
        """A cartridge with data of somebody else is set aside and not touched; neither it nor the drive is blamed for a failure."""
        world = World(cartridges=3)
        medium = world.tapes.medium("A00001L8")
        medium.is_foreign = True
        versions = [world.put("k", MIB)]
        run = Run(world).start()
        run.until(lambda: world.is_cold(*versions))
        world.check()
        self.assertEqual(world.states()["A00001L8"], CartridgeState.FOREIGN)
        self.assertIsNone(medium.volume_uuid)
        self.assertEqual(world.drive_states(), [DriveState.UP, DriveState.UP])
        self.assertNotIn("A00001L8", world.where(versions[0]))

    def test_other_drive(self) -> None:
        """A pair that fails is parted: the cartridge is written in the other drive, and the alert about it ends then."""
        world = World(cartridges=2)
        versions = [world.put("k", MIB)]
        run = Run(world)
        run.filesystems[0].faults["write"] = deque([None, None, medium_fault()])
        run.start()
        run.until(lambda: world.is_cold(*versions))
        world.check()
        self.assertEqual(world.drive_states(), [DriveState.UP, DriveState.UP])
        self.assertEqual(set(world.states().values()), {CartridgeState.FILLING})
        world.ask_back(versions[0])
        run.until(lambda: world.is_restored(*versions))
        self.assertEqual(world.read(versions[0]), world.contents[versions[0].version_uid])

    def test_suspect_cartridge(self) -> None:
        """A cartridge that fails in two drives is only read from then on, an operator is told, and another takes its place."""
        world = World(cartridges=3)
        third = world.library.take_away(3)
        versions = [world.put("k", MIB)]
        run = Run(world)
        worn = "A00001L8"
        run.wear_out(worn, medium_fault())
        run.start()
        run.until(lambda: "no-cartridge" in world.alerts(), seconds=20_000)
        self.assertEqual(world.states()[worn], CartridgeState.SUSPECT)
        self.assertEqual(world.alerts()["cartridge-suspect"], f"cartridge {worn}")
        world.library.put(3, third)
        now_of(Deferred.fromCoroutine(run.dispatcher.look_at_library()))
        run.until(lambda: world.is_cold(*versions))
        world.check()
        self.assertNotIn(worn, world.where(versions[0]))
        self.assertEqual(world.drive_states(), [DriveState.UP, DriveState.UP])

    def test_drive_down(self) -> None:
        """
        A drive that fails with two cartridges takes no more work, an operator is told, the archive goes on in the other; put up
        again it is looked at, works, and the alert ends.
        """
        world = World(cartridges=4)
        versions = [world.put("k", MIB)]
        run = Run(world)
        run.filesystems[0].faults["sync"] = deque([medium_fault() for _ in range(50)])
        run.start()
        run.until(lambda: world.is_cold(*versions), seconds=20_000)
        for number in range(3):
            versions.append(world.put(f"more{number}", MIB))
            run.until(lambda: world.is_cold(*versions), seconds=20_000)
        self.assertEqual(world.drive_states(), [DriveState.DOWN, DriveState.UP])
        self.assertEqual(world.alerts()["drive-down"], "drive 0")
        self.assertEqual(set(world.states().values()), {CartridgeState.FILLING})
        run.filesystems[0].faults.clear()
        now_of(
            world.store.set_drive_state(
                index=0, state=DriveState.UP, reason="repaired", at=world.clock.seconds(), by="operator"
            )
        )
        run.let_pass(120)
        self.assertNotIn("drive-down", world.alerts())
        more = world.put("k2", MIB), world.put("k3", MIB)
        run.until(lambda: world.is_cold(*more), seconds=20_000)
        world.check()

    def test_killed_ltfs_blames_nobody(self) -> None:
        """An ltfs or mover that is killed, again and again, costs neither a drive nor a cartridge."""
        world = World(cartridges=2)
        versions = [world.put(f"k{number}", 8 * MIB) for number in range(6)]
        run = Run(world, bundle_bytes=9 * MIB, sync_bytes=8 * MIB).start()
        for number in range(5):
            run.let_pass(11)
            for drive in list(world.tapes.mounts):
                if number % 2:
                    world.tapes.kill(drive)
                else:
                    run.filesystems[drive].faults["write"] = deque([MoverDied("killed")])
        run.until(lambda: world.is_cold(*versions))
        world.check()
        self.assertEqual(world.drive_states(), [DriveState.UP, DriveState.UP])
        self.assertEqual(set(world.states().values()), {CartridgeState.FILLING})

    def test_killed_while_mounting(self) -> None:
        """An ltfs that is killed while it mounts costs neither a drive nor a cartridge either."""
        world = World(cartridges=2)
        versions = [world.put("k", MIB)]
        run = Run(world, idle_unload_seconds=5).start()
        run.until(lambda: world.is_cold(*versions))
        run.let_pass(30)
        kills: list[int] = []

        def die(drive: int) -> None:
            if len(kills) < 5:
                kills.append(drive)
                raise CutOff("ltfs did not mount")

        run.before("mount", die)
        world.ask_back(versions[0])
        more = world.put("k2", MIB)
        run.until(lambda: world.is_restored(*versions) and world.is_cold(more))
        self.assertEqual(len(kills), 5)
        self.assertEqual(world.drive_states(), [DriveState.UP, DriveState.UP])
        self.assertEqual(set(world.states().values()), {CartridgeState.FILLING})

    @survives("killed-drive-locked")
    def test_locked_after_kill(self) -> None:
        """A drive that does not let go of its cartridge after ltfs was killed is freed by a check of the volume."""
        world = World(cartridges=2)
        versions = [world.put("k", MIB)]
        run = Run(world, idle_unload_seconds=5).start()
        run.until(lambda: world.is_cold(*versions))
        for drive in list(world.tapes.mounts):
            world.tapes.kill(drive)
            world.library.drives[drive].fault = DriveFailed(
                device="nst", attempted="offline", reason="locked"
            )
        run.let_pass(60)
        self.assertEqual([drive.barcode for drive in world.library.drives], [None, None])
        self.assertEqual(world.drive_states(), [DriveState.UP, DriveState.UP])

    def test_damaged_staged_bytes(self) -> None:
        """A bundle whose bytes are damaged on disk is named in an alert and put off; the others are archived meanwhile."""
        world = World()
        bad, *good = [world.put(f"k{number}", 8 * MIB) for number in range(3)]
        address = now_of(world.store.pieces(bad.layout_id, after_ordinal=0, limit=1))[0].address
        run = Run(world, bundle_bytes=9 * MIB).start()
        world.staging.damage(address, 5)
        run.until(lambda: world.is_cold(*good))
        self.assertIn("staged-bytes-damaged", world.alerts())
        self.assertEqual(world.drive_states(), [DriveState.UP, DriveState.UP])
        self.assertLess(run.let_pass(600), 600)
        world.staging.damage(address, 5)
        run.let_pass(3700)
        self.assertTrue(world.is_archived(bad))
        self.assertEqual(world.alerts(), {})

    def test_lost_staged_bytes(self) -> None:
        """A large object whose file is gone stops no other object, and an alert names it until it is deleted."""
        world = World()
        bad, good = world.put("bad", 20 * MIB), world.put("good", 5000)
        world.staging.lose(now_of(world.store.pieces(bad.layout_id, after_ordinal=0, limit=1))[0].address)
        run = Run(world, bundle_bytes=8 * MIB).start()
        run.until(lambda: world.is_cold(good))
        self.assertEqual(world.alerts()["staged-bytes-gone"], "object bucket/bad")
        world.delete("bad")
        run.until(lambda: not world.alerts())

    def test_too_large(self) -> None:
        """A bundle that no cartridge takes is named in an alert, and the others are archived."""
        world = World(capacity_bytes=32 * MIB)
        huge, small = world.put("huge", 40 * MIB), world.put("small", 100)
        run = Run(world, bundle_bytes=64 * MIB, cartridge_share=10.0, members_max=1)
        run.start()
        run.until(lambda: world.is_cold(small))
        self.assertIn("bundle-too-large", world.alerts())
        self.assertFalse(world.is_archived(huge))

    def test_session_that_ends_badly(self) -> None:
        """A mistake of ours in a session leaves no copy WRITING: it is written again in the same run, and an operator is told."""
        world = World(cartridges=2)
        versions = [world.put("k", MIB)]
        run = Run(world)
        run.filesystems[0].faults["write"] = deque([None, None, ZeroDivisionError("a mistake")])
        run.start()
        run.until(lambda: world.is_cold(*versions))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        world.check()
        run.let_pass(200)
        self.assertEqual(now_of(world.store.unfinished_copies(10)), [])

    def test_stopped_in_the_middle(self) -> None:
        """A run that is stopped in good order while it writes leaves what the next run finishes."""
        for seconds in range(1, 14, 3):
            world = World(cartridges=2)
            versions = [world.put("k", 12 * MIB)]
            run = Run(world).start()
            run.packer.hurry()
            run.bells["packer"].ring()
            run.let_pass(float(seconds))
            run.stop()
            world.crash(run)
            later = Run(world).start()
            later.until(partial(world.is_cold, *versions))
            world.check()
            later.let_pass(100)
            world.check_disk()

    def test_unlisted_copy(self) -> None:
        """A copy that the cartridge does not list any more does not count: it is written anew while its bytes are on disk."""
        world = World(cartridges=2)
        second = world.library.take_away(2)
        versions = [world.put("k", MIB)]
        run = Run(world).start()
        run.until(lambda: bool(world.where(versions[0])))
        (barcode,) = world.where(versions[0])
        medium = world.tapes.medium(barcode)
        for mount in world.tapes.mounts.values():
            if mount.barcode == barcode:
                mount.tree = type(mount.tree)()
        medium.tree = type(medium.tree)()
        more = world.put("k2", MIB)
        run.until(lambda: "copy-damaged" in world.alerts() and bool(world.where(versions[0])))
        world.library.put(2, second)
        now_of(Deferred.fromCoroutine(run.dispatcher.look_at_library()))
        run.until(lambda: world.is_cold(*versions, more))
        world.check()
        self.assertEqual(len(world.where(versions[0])), 2)
        self.assertIn("copy-damaged", world.alerts())

    def test_verification_fails(self) -> None:
        """A copy that does not read back as it was written is not counted: it is written again, and an alert lasts until it is good."""
        world = World(cartridges=4)
        versions = [world.put("k", MIB)]
        run = Run(world)
        marker = world.contents[versions[0].version_uid][1000:1100]
        damaged: list[str] = []

        def damage_once(drive: int) -> None:
            if not damaged:
                mount = world.tapes.mounts[drive]
                damaged.append(mount.barcode)
                mount.medium.damage(marker)
                mount.tree = mount.medium.tree
                self.assertFalse(world.is_archived(*versions))

        run.before("verify", damage_once)
        run.start()
        run.until(lambda: "verification-failed" in world.alerts())
        self.assertEqual(world.where(versions[0]) & set(damaged), set())
        run.until(lambda: world.is_cold(*versions), seconds=20_000)
        world.check()
        run.let_pass(100)
        self.assertNotIn("verification-failed", world.alerts())
        world.ask_back(versions[0])
        run.until(lambda: world.is_restored(*versions))
        self.assertEqual(world.read(versions[0]), world.contents[versions[0].version_uid])

    def test_cartridge_away_before_verification(self) -> None:
        """A cartridge whose copies wait to be verified is asked for while it is away, and noticed when somebody puts it back."""
        world = World(cartridges=2)
        versions = [world.put("k", MIB)]
        run = Run(world)
        for filesystem in run.filesystems.values():
            filesystem.faults["verify"] = deque([MoverDied("killed")])

        def on_a_shelf() -> list[int]:
            """Slots of cartridges with a copy that is on tape and not verified."""
            synced = {copy.barcode for copy in world.copies(versions[0]) if copy.state.value == "synced"}
            return [slot for slot, barcode in world.library.stored().items() if barcode in synced]

        run.start()
        run.until(lambda: bool(on_a_shelf()))
        slot = on_a_shelf()[0]
        taken = world.library.take_away(slot)
        now_of(Deferred.fromCoroutine(run.dispatcher.look_at_library()))
        run.until(lambda: bool(world.where(versions[0])))
        run.let_pass(1000)
        self.assertIn("verification-waits", world.alerts())
        self.assertFalse(world.is_archived(*versions))
        world.library.put(slot, taken)
        run.until(lambda: world.is_cold(*versions))
        run.let_pass(100)
        self.assertNotIn("verification-waits", world.alerts())

    def test_robot_refuses(self) -> None:
        """A robot that refuses some moves is asked again after rests that grow, and is the only one to blame."""
        world = World(cartridges=2)
        versions = [world.put("k", MIB)]
        run = Run(world)
        world.library.fail_next(
            *[MoveFailed(attempted="a move", reason="refused", advice="Look.") for _ in range(4)]
        )
        run.start()
        run.until(lambda: world.is_cold(*versions), steps=2000)
        self.assertEqual(world.drive_states(), [DriveState.UP, DriveState.UP])
        self.assertEqual(set(world.states().values()), {CartridgeState.FILLING})

    def test_deleted_meanwhile(self) -> None:
        """Objects deleted or overwritten at any moment of an archive leave nothing on disk, and the rest is archived."""
        for seconds in range(0, 16, 3):
            world = World()
            versions = [world.put(f"k{number}", 3 * MIB) for number in range(4)]
            run = Run(world, bundle_bytes=7 * MIB).start()
            run.packer.hurry()
            run.bells["packer"].ring()
            run.let_pass(seconds)
            world.delete("k0")
            new = world.put("k1", 2 * MIB)
            run.until(partial(world.is_cold, *versions[2:], new))
            run.let_pass(100)
            world.check()
            world.check_disk()
            self.assertEqual(world.staging.usage().used_bytes, 0)

    def test_bounded_looks(self) -> None:
        """A round asks the store a number of times that does not grow with what it saw before."""
        world = World(cartridges=2)
        for number in range(60):
            world.put(f"k{number}", 100)
        store = MortalStore(world.store, dies_at=None)
        run = Run(world, store=store, bundle_bytes=100)
        for number in range(2):
            world.library.take_away(number + 1)
        run.start()
        run.packer.hurry()
        run.bells["packer"].ring()
        run.let_pass(1)
        self.assertEqual(list(world.alerts()), ["no-cartridge"])
        before = store.steps
        run.bells["dispatcher"].ring()
        run.let_pass(1)
        self.assertLess(store.steps - before, 12)

    def test_gives_way(self) -> None:
        """An archive that has had the only drive for its time lets a restore pass, and goes on behind it."""
        world = World(drives=1, cartridges=2)
        first = world.put("first", MIB)
        run = Run(world, bundle_bytes=9 * MIB, hold_seconds=5).start()
        run.until(lambda: world.is_cold(first))
        many = [world.put(f"k{number}", 8 * MIB) for number in range(12)]
        run.packer.hurry()
        run.bells["packer"].ring()
        run.let_pass(3)
        world.ask_back(first)
        run.bells["dispatcher"].ring()
        run.until(lambda: world.is_restored(first), hurry=False)
        self.assertFalse(world.is_archived(*many))
        run.until(lambda: world.is_cold(*many))
        world.check()


class ReadingTests(SynchronousTestCase):
    """Failures of a recall."""

    def cold(self, world: World, run: Run, count: int = 1, size_bytes: int = MIB) -> list[ObjectVersion]:
        """Return objects that are on tape only, with every cartridge put away."""
        versions = [world.put(f"k{number}", size_bytes) for number in range(count)]
        run.until(lambda: world.is_cold(*versions))
        run.let_pass(100)
        return versions

    def test_damaged_copy(self) -> None:
        """When a copy gives wrong bytes the other one is read, as often as it is asked for; none of them reaches the disk."""
        world = World(cartridges=2)
        run = Run(world).start()
        (version,) = self.cold(world, run)
        marker = world.contents[version.version_uid][1000:1100]
        world.tapes.medium("A00001L8").damage(marker)
        for _ in range(2):
            world.ask_back(version)
            run.until(lambda: world.is_restored(version))
            self.assertEqual(world.read(version), world.contents[version.version_uid])
            now_of(
                world.store.change_restore(
                    version.version_uid,
                    revision=world.version(version).revision,
                    restore=None,
                    messages=[],
                )
            )
            run.until(lambda: world.is_cold(version))
        run.let_pass(100)
        world.check_disk()

    def test_drive_that_garbles(self) -> None:
        """A drive that gives wrong bytes of good copies is down when it has done so with two cartridges; no copy is lost by it."""
        world = World(cartridges=2)
        run = Run(world, bundle_bytes=MIB, idle_unload_seconds=5).start()
        versions = self.cold(world, run, count=4)
        media = [world.tapes.medium(barcode) for barcode in ("A00001L8", "A00002L8")]
        good = [medium.tree for medium in media]

        def garble(drive: int) -> None:
            for medium, tree in zip(media, good, strict=True):
                medium.tree = tree
                for version in versions if drive == 0 else ():
                    medium.damage(world.contents[version.version_uid][1000:1100])

        run.before("mount", garble)
        for version in versions:
            world.ask_back(version)
            run.until(lambda version=version: world.is_restored(version), seconds=20_000)
            run.let_pass(100)
            if version is versions[0]:
                # One cartridge is known not to do in that drive: next it has the other one.
                world.library.take_away(1)
                now_of(Deferred.fromCoroutine(run.dispatcher.look_at_library()))
        self.assertEqual(world.drive_states(), [DriveState.DOWN, DriveState.UP])
        self.assertEqual(
            {copy.state for each in versions for copy in world.copies(each)}, {CopyState.VERIFIED}
        )
        self.assertEqual(set(world.states().values()), {CartridgeState.FILLING})

    def test_disk_full_at_every_step(self) -> None:
        """
        A disk that runs full when room is reserved, or when what arrived is published, puts the recall off, tells the operator,
        has room made, and blames nobody; it goes on by itself, and nothing is left behind.
        """
        for step in ("reserve", "adopt"):
            for fault in (StagingFull("no room"), DiskFault("no space left on device")):
                world = World(cartridges=2)
                run = Run(world).start()
                (version,) = self.cold(world, run)
                world.staging.fail_next(step, fault)
                world.ask_back(version)
                run.until(lambda world=world: "waiting-for-space" in world.alerts())
                run.until(lambda world=world, version=version: world.is_restored(version))
                self.assertEqual(world.read(version), world.contents[version.version_uid])
                run.let_pass(100)
                self.assertEqual(world.alerts(), {}, (step, fault))
                self.assertEqual(set(world.states().values()), {CartridgeState.FILLING})
                world.check_disk()
                world.bury(run)

    def test_record_that_is_away_between_bundles(self) -> None:
        """When the record is away for a moment, what was read from tape until then is kept, and not read again."""
        world = World(cartridges=2)
        run = Run(world, bundle_bytes=MIB).start()
        versions = self.cold(world, run, count=2)
        for filesystem in run.filesystems.values():
            filesystem.faults["read"] = deque([None, MetadataUnavailable("away for a moment")])
        read: list[int] = []
        run.before("read", read.append)
        for version in versions:
            world.ask_back(version)
        run.until(lambda: world.is_restored(*versions))
        self.assertEqual(len(read), len(versions))
        for version in versions:
            self.assertEqual(world.read(version), world.contents[version.version_uid])
        run.let_pass(200)
        world.check_disk()

    def test_record_that_is_full(self) -> None:
        """Extents that came back and could not be recorded leave nothing on the disk, and come back once more."""
        for took_effect in (False, True):
            world = World(cartridges=2)
            store = FailingStore(world.store, fails_at=None, takes_effect=took_effect)
            run = Run(world, store=store).start()
            (version,) = self.cold(world, run)
            world.ask_back(version)
            store.fail_first("add_recalled")
            run.until(lambda world=world, version=version: world.is_restored(version))
            self.assertEqual(store.failed, "add_recalled")
            run.let_pass(200)
            self.assertEqual(world.read(version), world.contents[version.version_uid])
            world.check_disk()
            world.bury(run)

    def test_no_good_copy(self) -> None:
        """When every copy gives wrong bytes the restore fails: message, alert, and the copies count as lost."""
        world = World(cartridges=2)
        run = Run(world).start()
        (version,) = self.cold(world, run)
        marker = world.contents[version.version_uid][1000:1100]
        for barcode in ("A00001L8", "A00002L8"):
            world.tapes.medium(barcode).damage(marker)
        world.ask_back(version)
        run.until(lambda: world.version(version).restore is None)
        self.assertEqual(world.alerts()["restore-failed"], "object bucket/k0")
        self.assertIn("copy-damaged", world.alerts())
        self.assertEqual({copy.state for copy in world.copies(version)}, {CopyState.LOST})
        (message,) = now_of(world.store.due_messages(now=world.clock.seconds(), limit=10))
        self.assertEqual(message.event, "coldstore:Restore:Failed")
        run.let_pass(100)
        world.check_disk()
        world.delete("k0")
        run.let_pass(100)
        self.assertNotIn("restore-failed", world.alerts())

    def test_no_good_copy_of_a_version(self) -> None:
        """The failed restore of a superseded version is told by its id, until that version is gone, whatever is current."""
        world = World(cartridges=2)
        run = Run(world).start()
        (version,) = self.cold(world, run)
        now_of(world.store.set_versioning(name=BUCKET, versioning=Versioning.ENABLED))
        world.put("k0", MIB)
        for barcode in ("A00001L8", "A00002L8"):
            world.tapes.medium(barcode).damage(world.contents[version.version_uid][1000:1100])
        world.ask_back(version)
        run.until(lambda: world.version(version).restore is None)
        self.assertEqual(world.alerts()["restore-failed"], "object bucket/k0?versionId=null")
        run.let_pass(100)
        self.assertIn("restore-failed", world.alerts())
        now_of(world.store.delete_versions(BUCKET, [(b"k0", "null")], at=world.clock.seconds()))
        run.let_pass(100)
        self.assertNotIn("restore-failed", world.alerts())

    def test_unreadable_copy(self) -> None:
        """A cartridge that cannot be read in one drive is read in the other, or the other copy is."""
        world = World(cartridges=2)
        run = Run(world).start()
        (version,) = self.cold(world, run)
        run.filesystems[0].faults["read"] = deque([medium_fault() for _ in range(20)])
        world.ask_back(version)
        run.until(lambda: world.is_restored(version), seconds=20_000)
        self.assertEqual(world.read(version), world.contents[version.version_uid])

    def test_attempts_are_bounded(self) -> None:
        """A restore that fails in whichever drive from whichever cartridge fails loudly after its attempts."""
        world = World(cartridges=2)
        run = Run(world, attempts_max=2).start()
        (version,) = self.cold(world, run)
        for filesystem in run.filesystems.values():
            filesystem.faults["read"] = deque([medium_fault() for _ in range(50)])
        world.ask_back(version)
        run.until(lambda: world.version(version).restore is None, seconds=20_000)
        self.assertEqual(world.alerts()["restore-failed"], "object bucket/k0")
        run.let_pass(100)
        world.check_disk()

    def test_only_drive_down(self) -> None:
        """With the only drive down a restore waits and an operator is told; it goes on when the drive is up."""
        world = World(drives=1, cartridges=2)
        run = Run(world).start()
        (version,) = self.cold(world, run)

        def set_drive(state: DriveState) -> None:
            now_of(
                world.store.set_drive_state(
                    index=0, state=state, reason="cleaning", at=world.clock.seconds(), by="operator"
                )
            )
            run.bells["dispatcher"].ring()

        set_drive(DriveState.DOWN)
        world.ask_back(version)
        run.bells["dispatcher"].ring()
        run.let_pass(200)
        self.assertFalse(world.is_restored(version))
        self.assertIn("no-drive", world.alerts())
        set_drive(DriveState.UP)
        run.until(lambda: world.is_restored(version))
        run.let_pass(100)
        self.assertEqual(world.alerts(), {})

    def test_cartridge_away(self) -> None:
        """Restores of which every cartridge is out of the library wait, name them, and go on when one is put in."""
        world = World(cartridges=2)
        run = Run(world).start()
        (version,) = self.cold(world, run)
        taken = {slot: world.library.take_away(slot) for slot in (1, 2)}
        world.ask_back(version)
        self._look(run)
        run.let_pass(100)
        self.assertIn("cartridge-offline", world.alerts())
        world.library.put(1, taken[1])
        self._look(run)
        run.until(lambda: world.is_restored(version))
        run.let_pass(100)
        self.assertEqual(world.alerts(), {})

    def _look(self, run: Run) -> None:
        now_of(Deferred.fromCoroutine(run.dispatcher.look_at_library()))

    def test_little_space(self) -> None:
        """A batch that is larger than the disk's room comes back piece by piece, and waits with an alert for the rest."""
        world = World(cartridges=2, disk_bytes=10 * MIB)
        run = Run(world).start()
        versions = []
        for number in range(6):
            versions.append(world.put(f"k{number}", 3 * MIB))
            run.until(lambda: world.is_cold(*versions))
        run.let_pass(100)
        for version in versions:
            world.ask_back(version)
        run.until(lambda: sum(world.is_restored(version) for version in versions) == 3)
        run.let_pass(100)
        self.assertIn("waiting-for-space", world.alerts())
        for version in versions:
            if world.is_restored(version):
                world.delete(version.facts.key.decode())
        left = [version for version in versions if world.version(version).deleted_at is None]
        run.until(lambda: world.is_restored(*left))
        run.let_pass(100)
        self.assertEqual(world.alerts(), {})

    def test_room_is_made(self) -> None:
        """Archived bytes that may linger leave the disk when a restore needs their room."""
        world = World(cartridges=2, disk_bytes=10 * MIB)
        run = Run(world, linger_seconds=50_000).start()
        first = world.put("first", 6 * MIB)
        run.until(lambda: world.is_archived(first))
        now_of(world.store.evict_version(first.version_uid, revision=world.version(first).revision))
        run.let_pass(60)
        second = world.put("second", 6 * MIB)
        run.until(lambda: world.is_archived(second))
        self.assertTrue(world.version(second).on_disk)
        world.ask_back(first)
        run.until(lambda: world.is_restored(first))
        self.assertFalse(world.version(second).on_disk)
        run.let_pass(100)
        self.assertEqual(world.alerts(), {})

    def test_deleted_meanwhile(self) -> None:
        """A version that is deleted while it is recalled leaves nothing on disk."""
        for seconds in range(6):
            world = World(cartridges=2)
            run = Run(world).start()
            keep, drop = self.cold(world, run, 2, 8 * MIB)
            world.ask_back(keep)
            world.ask_back(drop)
            run.bells["dispatcher"].ring()
            run.let_pass(seconds)
            world.delete(drop.facts.key.decode())
            run.until(partial(world.is_restored, keep))
            run.let_pass(100)
            world.check_disk()
            self.assertEqual(world.staging.usage().used_bytes, 8 * MIB)

    def test_erased_cartridge(self) -> None:
        """
        A cartridge that cannot be mounted any more keeps no restore from its other copy, and is not loaded again and again; without
        another copy the restore fails after some attempts.
        """
        world = World(cartridges=2)
        run = Run(world).start()
        first, second, third = self.cold(world, run, 3)
        erased, other = sorted(world.where(first))
        world.tapes.medium(erased).volume_uuid = None
        for version in (first, second):
            world.ask_back(version)
            run.until(lambda version=version: world.is_restored(version))
            run.let_pass(100)
        self.assertLess(now_of(world.store.cartridge(erased)).loads, 3)
        world.tapes.medium(other).volume_uuid = None
        world.ask_back(third)
        run.until(lambda: "restore-failed" in world.alerts(), seconds=20_000)
        self.assertEqual(world.drive_states(), [DriveState.UP, DriveState.UP])


class JanitorTests(SynchronousTestCase):
    """Freeing the disk."""

    def test_failing_disk(self) -> None:
        """When freeing fails the rest of the tidying goes on, and what failed is tried again later."""
        world = World()
        run = Run(world).start()
        world.staging.fail_next("discard", DiskFault("no"))
        version = world.put("k", MIB)
        run.until(lambda: world.is_cold(version))
        run.let_pass(1)
        self.assertEqual(world.staging.usage().used_bytes, MIB)
        run.let_pass(60)
        self.assertEqual(world.staging.usage().used_bytes, 0)
        world.check_disk()

    def test_slow_reader(self) -> None:
        """A piece that a slow client still reads holds up nothing but itself."""
        world = World()
        slow, other = world.put("slow", MIB), world.put("other", MIB)
        (piece,) = now_of(world.store.pieces(slow.layout_id, after_ordinal=0, limit=1))
        reader = now_of(world.staging.open(piece))
        run = Run(world).start()
        run.until(lambda: world.is_cold(slow, other))
        run.let_pass(10)
        self.assertEqual(world.staging.usage().used_bytes, MIB)
        third = world.put("third", MIB)
        run.until(lambda: world.is_cold(third))
        run.let_pass(10)
        self.assertEqual(world.staging.usage().used_bytes, MIB)
        reader.close()
        run.let_pass(60)
        self.assertEqual(world.staging.usage().used_bytes, 0)
        world.check_disk()

    def test_many_slow_readers(self) -> None:
        """However many pieces slow clients still read, all the others are freed."""
        self.patch(janitor, "DISCARDS_PAGE", 4)
        world = World()
        slow = [world.put(f"slow {number}", MIB) for number in range(5)]
        readers = []
        for version in slow:
            (piece,) = now_of(world.store.pieces(version.layout_id, after_ordinal=0, limit=1))
            readers.append(now_of(world.staging.open(piece)))
        other = world.put("other", MIB)
        run = Run(world).start()
        run.until(lambda: world.is_cold(*slow, other))
        run.let_pass(60)
        self.assertEqual(world.staging.usage().used_bytes, 5 * MIB)
        for reader in readers:
            reader.close()
        run.let_pass(60)
        self.assertEqual(world.staging.usage().used_bytes, 0)
        world.check_disk()
