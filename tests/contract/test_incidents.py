"""
Incidents of the virtual library as the drivers of library, drive and file system meet them: the right verdict, and words for an operator.

What follows from a verdict (who is blamed, what is told) is in ``tests.unit.test_work_blame``, and the whole way in ``tests.endtoend.test_incidents``.
"""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from coldstore.interfaces.drive import (
    DriveBusy,
    DriveFailed,
    DriveNotReady,
    DriveStatusUnreadable,
    DriveUnreachable,
)
from coldstore.interfaces.filesystem import (
    CannotStart,
    CheckFailed,
    CutOff,
    IMountedVolume,
    MountFailed,
    NeedsCheck,
    NotFormatted,
    OutcomeUnknown,
    ReadOnly,
    SyncFailed,
    UnsupportedMedium,
)
from coldstore.interfaces.filesystem import DriveBusy as FilesystemBusy
from coldstore.interfaces.library import (
    CartridgeNotThere,
    CleaningCartridgeEjected,
    DriveNeedsOffline,
    ElementOccupied,
    InventoryUnreadable,
    LibraryFault,
    LibraryNotReady,
    LibraryUnreachable,
    MoveFailed,
    MoveOutcomeUnknown,
    RemovalPrevented,
)
from coldstore.interfaces.mover import EndOfTape, MediumFault, MoverFault, MoverTimeout
from coldstore.tape.drive import MtDrive
from coldstore.tape.library import LibraryTimes, MtxLibrary
from coldstore.tape.ltfs import LtfsOptions
from coldstore.tape.ltfs_mover import LtfsMover
from coldstore.tape.mover import MoverLimits
from coldstore.util.asynchronous import returns_deferred
from coldstore.vtl.faults import Faults
from coldstore.vtl.incidents import INCIDENTS
from coldstore.vtl.latency import Latency
from coldstore.vtl.library import Library
from coldstore.vtl.medium import BLOCK_BYTES, Cartridge
from tests.contract.filesystem_contract import MEBIBYTE, sample
from tests.contract.filesystem_rigs import BARCODE, HURRIED, living_processes
from tests.contract.test_filesystem_crash import Case, reactor
from tests.contract.test_library import VirtualLibraryCase
from tests.incidents import survives

FIRST = "A00001L8"


def stage(directory: str | Path, name: str, **narrowed: Any) -> None:
    """Arm the faults of an incident."""
    for fault in INCIDENTS[name].armed(name, **narrowed):
        Faults(str(directory)).add(fault)


class RobotTests(VirtualLibraryCase):
    """The library and its moves."""

    times = LibraryTimes(pause=0.1, becoming_ready=5.0)

    def load(self) -> "Deferred[None]":
        """Load the first cartridge into the first drive."""
        return self.library.load(slot=1, drive=0, barcode=FIRST)

    async def unload(self) -> None:
        """Put it back."""
        await self.library.unload(drive=0, slot=1, barcode=FIRST)

    async def meets(self, call: "Deferred[Any]", kind: type[LibraryFault], *words: str) -> None:
        """Check that a call fails so, knows the outcome, and says it in words with an advice."""
        fault = await self.refused(call, kind)
        self.assertIs(type(fault), kind)
        self.assertTrue(fault.is_outcome_known)
        self.assertTrue(fault.advice)
        for word in words:
            self.assertIn(word, str(fault))

    @survives("source-empty", "cleaning-ejected", "move-fails", "move-fails-for-good")
    @returns_deferred
    async def test_loads_that_fail(self) -> None:
        """A load that fails is told by its reason, has moved nothing, and may be tried again."""
        before = await self.library.inventory()
        for name, kind, words in (
            ("source-empty", CartridgeNotThere, "source is empty"),
            ("cleaning-ejected", CleaningCartridgeEjected, "put back"),
            ("move-fails", MoveFailed, "Hardware Error 15/01"),
        ):
            stage(self.folder, name)
            await self.meets(self.load(), kind, words, f"moving {FIRST} from slot 1 to drive 0")
        self.assertEqual(await self.library.inventory(), before)
        stage(self.folder, "move-fails-for-good")
        for _ in range(2):
            await self.meets(self.load(), MoveFailed)
        Faults(str(self.folder)).clear()
        await self.load()

    @survives("destination-full", "needs-offline", "removal-prevented")
    @returns_deferred
    async def test_unloads_that_fail(self) -> None:
        """So is an unload."""
        await self.load()
        await self.drives[0].offline()
        for name, kind, words in (
            ("destination-full", ElementOccupied, "destination is full"),
            ("needs-offline", DriveNeedsOffline, "not let go of its tape"),
            ("removal-prevented", RemovalPrevented, "prevented"),
        ):
            stage(self.folder, name)
            await self.meets(Deferred.fromCoroutine(self.unload()), kind, words)
        await self.unload()
        self.assertEqual((await self.library.inventory()).storage(1).barcode, FIRST)

    @survives(
        "attention-on-move", "reset-on-unload", "library-becoming-ready", "moved-though-failed", "killed-mtx"
    )
    @returns_deferred
    async def test_moves_that_come_true(self) -> None:
        """What a second try or look puts right is no failure, a killed mtx among it: the robot goes on."""
        for name in ("attention-on-move", "library-becoming-ready", "moved-though-failed"):
            stage(self.folder, name)
            await self.load()
            self.assertEqual((await self.library.inventory()).drive(0).barcode, FIRST, name)
            await self.drives[0].offline()
            await self.unload()
        library = Library(str(self.folder))
        library.set_latency(Latency(move=2.0))
        loading = self.load()
        while library.elements().move is None:
            await deferLater(reactor, 0.05)
        for process in living_processes(f"{self.folder}/bin/mtx"):
            os.kill(process, signal.SIGKILL)
        await loading
        library.set_latency(Latency())
        self.assertEqual((await self.library.inventory()).drive(0).barcode, FIRST)
        await self.drives[0].offline()
        stage(self.folder, "reset-on-unload")
        await self.unload()

    @survives("in-the-gripper", "mtx-invents-a-slot")
    @returns_deferred
    async def test_in_the_gripper(self) -> None:
        """A cartridge in no element is an unknown outcome that names it; a drive whose source nobody knows is unloaded where we say."""
        stage(self.folder, "in-the-gripper")
        fault = await self.refused(self.load(), MoveOutcomeUnknown)
        self.assertFalse(fault.is_outcome_known)
        self.assertIn(f"Look for cartridge {FIRST}: in the gripper", fault.advice)
        with Library(str(self.folder)).changing() as elements:
            elements.slots[1] = FIRST
        await self.load()
        with Library(str(self.folder)).changing() as elements:
            elements.drives[0].source = None
        self.assertIsNone((await self.library.inventory()).drive(0).source_slot)
        await self.drives[0].offline()
        await self.library.unload(drive=0, slot=12, barcode=FIRST)
        self.assertEqual((await self.library.inventory()).storage(12).barcode, FIRST)

    @survives("barcodes-vanish", "wrong-slot", "wrong-cartridge", "label-unreadable")
    @returns_deferred
    async def test_inventories(self) -> None:
        """Labels that vanish once are read again; one that stays away is told by its element; the inventory shows what a robot did."""
        before = await self.library.inventory()
        stage(self.folder, "barcodes-vanish")
        self.assertEqual(await self.library.inventory(), before)
        stage(self.folder, "label-unreadable", barcode="A00003L8")
        self.assertEqual([slot.number for slot in (await self.library.inventory()).unlabelled()], [3])
        Faults(str(self.folder)).clear()
        stage(self.folder, "wrong-cartridge")
        await self.load()
        inventory = await self.library.inventory()
        self.assertEqual((inventory.drive(0).barcode, inventory.storage(1).barcode), ("A00002L8", FIRST))
        await self.drives[0].offline()
        stage(self.folder, "wrong-slot")
        await self.library.unload(drive=0, slot=2, barcode="A00002L8")
        inventory = await self.library.inventory()
        self.assertFalse(inventory.storage(2).is_full)
        self.assertEqual(len(inventory.find("A00002L8")), 1)

    @survives(
        "status-fails",
        "library-not-ready",
        "mtx-garbage",
        "changer-forbidden",
        "changer-missing",
        "changer-is-none",
    )
    @returns_deferred
    async def test_no_inventory(self) -> None:
        """A library that cannot be asked is told by what it is; asked again it answers when it is back."""
        for name, kind, words in (
            ("status-fails", LibraryUnreachable, "Hardware Error 44/00"),
            ("library-not-ready", LibraryNotReady, "door open"),
            ("mtx-garbage", InventoryUnreadable, "unknown"),
            ("changer-forbidden", LibraryUnreachable, "Permission denied"),
        ):
            stage(self.folder, name)
            await self.meets(self.library.inventory(), kind, words)
            await self.meets(self.load(), kind, words)
            Faults(str(self.folder)).clear()
            self.assertTrue((await self.library.inventory()).slots)
        for changer, words in (
            (str(self.folder / "dev" / "none"), "No such file"),
            ("/dev/null", "not an sg device"),
        ):
            other = MtxLibrary(
                self.runner,
                changer,
                lock=self.locks.changer(),
                tenure=self.tenure,
                clock=reactor,
                mtx=str(self.folder / "bin" / "mtx"),
            )
            await self.meets(other.inventory(), LibraryUnreachable, words)


class DriveTests(VirtualLibraryCase):
    """A drive through its tape node."""

    @survives(
        "drive-reserved", "drive-forbidden", "drive-removed", "mt-garbage", "drive-missing", "mt-not-a-tape"
    )
    @returns_deferred
    async def test_no_status(self) -> None:
        """A drive that does not tell its status is not reachable, whatever is in it; the reason is said once."""
        drive = self.drives[0]
        for name, kind, words in (
            ("drive-reserved", DriveUnreachable, "Input/output error"),
            ("drive-forbidden", DriveUnreachable, "Permission denied"),
            ("drive-removed", DriveUnreachable, "No such device or address"),
            ("mt-garbage", DriveStatusUnreadable, "unknown"),
        ):
            stage(self.folder, name)
            for call in (drive.status, drive.offline):
                fault = await self.refused(call(), kind)
                self.assertIn(words, str(fault))
                self.assertEqual(str(fault).count(drive.device), 1)
            Faults(str(self.folder)).clear()
        for device, words in (
            (f"{self.folder}/dev/nst9", "No such file"),
            ("/dev/null", "Inappropriate ioctl"),
        ):
            other = MtDrive(
                self.runner,
                device,
                number=0,
                lock=self.locks.drive(0),
                tenure=self.tenure,
                clock=reactor,
                mt=str(self.folder / "bin" / "mt"),
            )
            self.assertIn(words, str(await self.refused(other.status(), DriveUnreachable)))

    @survives("late-ready", "never-ready", "offline-fails", "offline-fails-for-good")
    @returns_deferred
    async def test_slow_and_stubborn(self) -> None:
        """A tape that gets ready late is waited for, one that never does is told; so is a drive that does not let go."""
        drive = self.drives[0]
        await self.library.load(slot=1, drive=0, barcode=FIRST)
        stage(self.folder, "late-ready")
        self.assertTrue((await drive.wait_until_ready(timeout_seconds=60)).is_ready)
        stage(self.folder, "never-ready")
        fault = await self.refused(drive.wait_until_ready(timeout_seconds=2), DriveNotReady)
        self.assertIn("still loading after 2 s", str(fault))
        Faults(str(self.folder)).clear()
        stage(self.folder, "offline-fails")
        self.assertIn("Input/output error", str(await self.refused(drive.offline(), DriveFailed)))
        await drive.offline()
        await self.library.unload(drive=0, slot=1, barcode=FIRST)
        await self.library.load(slot=1, drive=0, barcode=FIRST)
        stage(self.folder, "offline-fails-for-good")
        for _ in range(2):
            await self.refused(drive.offline(), DriveFailed)

    @survives("drive-held-open", "unloaded-while-open")
    @returns_deferred
    async def test_held_open(self) -> None:
        """A drive whose node another program has open is busy: nothing waits for its tape, sets it offline or unloads it."""
        drive = self.drives[0]
        await self.library.load(slot=1, drive=0, barcode=FIRST)
        holder = os.open(drive.device, os.O_RDONLY | os.O_NONBLOCK)
        try:
            for call in (drive.wait_until_ready(timeout_seconds=60), drive.offline()):
                self.assertIn("another process", str(await self.refused(call, DriveBusy)))
            await self.refused(self.library.unload(drive=0, slot=1, barcode=FIRST), DriveNeedsOffline)
        finally:
            os.close(holder)
        await drive.offline()


class MountTests(Case):
    """Formats, checks and mounts."""

    def stage(self, name: str, **narrowed: Any) -> None:
        """Arm the faults of an incident."""
        stage(self.rig.library, name, **narrowed)

    def clear(self) -> None:
        """Disarm everything."""
        Faults(self.rig.library).clear()

    async def formatted(self) -> None:
        """Load and format."""
        await self.rig.load(BARCODE)
        await self.rig.filesystem.format(barcode=BARCODE, volume_name="volume")

    async def meets(self, call: "Deferred[Any]", kind: type[Exception], *words: str) -> Any:
        """Check that a call fails so, in these words."""
        fault = await self.assertFailure(call, kind)
        self.assertIs(type(fault), kind)
        for word in words:
            self.assertIn(word, str(fault))
        return fault

    def mount(self) -> "Deferred[IMountedVolume]":
        """Mount what is loaded."""
        return self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=None)

    @survives(
        "drive-busy", "drive-reserved", "mount-fails", "worm", "terminated-while-mounting", "mount-hangs"
    )
    @returns_deferred
    async def test_refused_mounts(self) -> None:
        """Each way in which a mount fails is told by what it is, leaves nothing mounted, and the next one works."""
        await self.formatted()
        for name, kind, words in (
            ("drive-busy", FilesystemBusy, "the drive is in use"),
            ("drive-reserved", FilesystemBusy, "already reserved: IPv4: 192.0.2.7"),
            ("mount-fails", MountFailed, "LTFS12045E"),
            ("worm", UnsupportedMedium, "LTFS14116E This medium is not supported"),
        ):
            self.stage(name, seconds=0.3)
            await self.meets(self.mount(), kind, words)
            self.clear()
        self.stage("mount-hangs")
        mounting = self.mount()
        while not Faults(self.rig.library).armed() or not self._is_struck():
            await deferLater(reactor, 0.05)
        _, ltfs = self.rig.newest_processes()
        os.kill(ltfs, signal.SIGTERM)
        await self.meets(mounting, CutOff, "told it to end")
        self.clear()
        self.assertTrue((await (await self.mount()).unmount()).is_clean)

    def _is_struck(self) -> bool:
        return (
            os.path.exists(os.path.join(self.rig.library, "faults", "taken.log"))
            and "mount-hangs" in Path(self.rig.library, "faults", "taken.log").read_text()
        )

    @survives(
        "mount-device-missing",
        "format-device-missing",
        "check-device-missing",
        "mountpoint-missing",
        "mountpoint-not-empty",
        "mount-unknown-option",
        "mount-bad-sync-type",
        "format-usage",
        "format-unknown-backend",
        "format-bad-block-size",
        "drive-busy",
        "drive-reserved",
        "worm",
    )
    @returns_deferred
    async def test_set_up_wrong(self) -> None:
        """Mistakes of the set-up are told as such, in the program's own words, and change nothing."""
        await self.rig.load(BARCODE)
        cartridge = Cartridge(Library(self.rig.library).cartridge_directory(BARCODE))
        for options, words in (
            (("-e", "none"), "LTFS15008E"),
            (("-b", "1000"), "LTFS15028E"),
            (("--nonsense",), "nonsense"),
        ):
            filesystem = self.rig.restart(options=LtfsOptions(mkltfs=options))
            await self.meets(filesystem.format(barcode=BARCODE, volume_name="v"), CannotStart, words)
        self.rig.restart()
        for name, kind, words in (
            ("drive-busy", FilesystemBusy, "in use"),
            ("drive-reserved", FilesystemBusy, "192.0.2.7"),
            ("worm", UnsupportedMedium, "LTFS14116E"),
        ):
            self.stage(name, seconds=0.3)
            await self.meets(self.rig.filesystem.format(barcode=BARCODE, volume_name="v"), kind, words)
            self.clear()
        self.assertEqual(cartridge.memory.content, "blank")
        await self.rig.restart().format(barcode=BARCODE, volume_name="v")
        for options, words in (
            (("-o", "nonsense"), "fuse: unknown option `nonsense'"),
            (("-o", "sync_type=foo"), "LTFS14061E"),
        ):
            filesystem = self.rig.restart(options=LtfsOptions(ltfs=options))
            await self.meets(filesystem.mount(barcode=BARCODE, volume_uuid=None), CannotStart, words)
        self.rig.restart()
        inside = Path(self.rig.mountpoint, "left-behind")
        inside.touch()
        await self.meets(self.mount(), CannotStart, "fuse: mountpoint is not empty")
        inside.unlink()
        # A missing mountpoint is made.
        inside.parent.rmdir()
        await (await self.mount()).unmount()
        self.rig.generic = "sg9"
        filesystem = self.rig.restart()
        await self.meets(self.mount(), CannotStart, "LTFS10004E Cannot open device")
        await self.meets(filesystem.format(barcode=BARCODE, volume_name="v"), CannotStart, "LTFS15009E")
        await self.meets(filesystem.check(), CannotStart, "LTFS16011E")

    @survives("tool-flood", "check-fails")
    @returns_deferred
    async def test_tools(self) -> None:
        """Programs that flood are ended, and nobody can say what they did; a check that fails says nothing of the volume."""
        await self.formatted()
        self.stage("check-fails")
        await self.meets(self.rig.filesystem.check(), CheckFailed, "LTFS16080E")
        self.stage("tool-flood")
        await self.meets(self.rig.filesystem.check(), OutcomeUnknown, "ltfsck")
        self.clear()
        self.assertTrue((await self.rig.filesystem.check()).is_consistent)

    @survives("mount-hangs", "log-flood")
    @returns_deferred
    async def test_never_ready(self) -> None:
        """An ltfs that does not get ready is left alone, with its process named; when it does get ready it is taken over."""
        await self.formatted()
        self.stage("log-flood")
        self.rig.limits = replace(HURRIED, mount_seconds=4)
        filesystem = self.rig.restart()
        fault = await self.meets(
            filesystem.mount(barcode=BARCODE, volume_uuid=None),
            OutcomeUnknown,
            "not ready after 4 s",
            "kill -9",
        )
        _, ltfs = self.rig.newest_processes()
        self.assertIn(f"process {ltfs}", str(fault))
        self.clear()
        self.rig.limits = HURRIED
        volume = await self.rig.restart().adopt()
        assert volume is not None and hasattr(volume, "unmount")
        self.assertTrue((await volume.unmount()).is_clean)

    @survives("read-only-index-full", "read-only-data-full", "read-only-older", "read-only-protected")
    @returns_deferred
    async def test_read_only(self) -> None:
        """A volume that is mounted read-only tells why."""
        await self.formatted()
        for name, why in (
            ("read-only-index-full", ReadOnly.FULL),
            ("read-only-data-full", ReadOnly.FULL),
            ("read-only-older", ReadOnly.OLDER),
        ):
            self.stage(name)
            volume = await self.mount()
            self.assertIs(volume.read_only, why)
            await volume.unmount()
        await self.rig.unload()
        await self.rig.protect(BARCODE)
        await self.rig.load(BARCODE)
        volume = await self.mount()
        self.assertIs(volume.read_only, ReadOnly.PROTECTED)
        await volume.unmount()

    @survives("mount-foreign", "mount-index-unreadable", "check-both-indexes-damaged")
    @returns_deferred
    async def test_media(self) -> None:
        """Damaged indexes ask for a check, which brings back what it can; other data are no volume, and are not touched."""
        await self.formatted()
        volume = await self.mount()
        for name in ("early", "late"):
            await self.write(volume, name, b"x" * 1000)
            await volume.sync(name, new_files=[name])
        await volume.unmount()
        memory = Cartridge(Library(self.rig.library).cartridge_directory(BARCODE)).memory
        offsets = {letter: str(memory.coherency[letter][1] * BLOCK_BYTES + 9) for letter in "ab"}
        await self.rig.unload()
        await self.rig.operate(
            "flip", self.rig.library, BARCODE, "--partition", "a", "--offset", offsets["a"]
        )
        await self.rig.load(BARCODE)
        await self.meets(self.mount(), NeedsCheck, "LTFS11024E")
        verdict = await self.rig.filesystem.check()
        self.assertTrue(verdict.is_consistent and verdict.was_repaired)
        volume = await self.mount()
        self.assertEqual(await volume.mover.get_file(path="late", limit_bytes=1000), b"x" * 1000)
        await volume.unmount()
        await self.rig.unload()
        memory = Cartridge(Library(self.rig.library).cartridge_directory(BARCODE)).memory
        for letter in "ab":
            offset = str(memory.coherency[letter][1] * BLOCK_BYTES + 9)
            await self.rig.operate(
                "flip", self.rig.library, BARCODE, "--partition", letter, "--offset", offset
            )
        await self.rig.load(BARCODE)
        await self.assertFailure(self.mount(), NeedsCheck)
        self.assertTrue((await self.rig.filesystem.check()).is_consistent)
        volume = await self.mount()
        self.assertEqual(await volume.mover.get_file(path="early", limit_bytes=1000), b"x" * 1000)
        await volume.unmount()
        await self.rig.unload()
        await self.rig.operate("foreign", self.rig.library, BARCODE, "--partitioned")
        await self.rig.load(BARCODE)
        before = Path(self.rig.library, "cartridges", BARCODE, "b.data").read_bytes()
        await self.meets(self.mount(), NotFormatted, "LTFS11009E")
        self.assertFalse((await self.rig.filesystem.check()).is_consistent)
        self.assertEqual(Path(self.rig.library, "cartridges", BARCODE, "b.data").read_bytes(), before)

    @survives("still-loading", "offline-is-loaded-again", "attention-after-load")
    @returns_deferred
    async def test_not_ready_yet(self) -> None:
        """A drive that is still loading, whose cartridge was set offline, or that was reset: ltfs waits, and the mount works."""
        await self.formatted()
        library = Library(self.rig.library)
        library.set_latency(Latency(load=1.5))
        with library.changing() as elements:
            elements.drives[0].state = "unloaded"
        self.stage("attention-after-load")
        volume = await self.mount()
        self.assertTrue((await volume.unmount()).is_clean)


class MountedTests(Case):
    """What happens to a mounted volume."""

    def stage(self, name: str, **narrowed: Any) -> None:
        """Arm the faults of an incident."""
        stage(self.rig.library, name, **narrowed)

    async def with_one_file(self) -> IMountedVolume:
        """Mount, write a file and sync it."""
        volume = await self.mounted()
        await self.write(volume, "good.tar", sample(MEBIBYTE))
        await volume.sync("good", new_files=["good.tar"])
        return volume

    async def assert_good_is_there(self, *, read_only: ReadOnly | None) -> None:
        """Check the volume, mount it, and find what was synced."""
        self.assertTrue((await self.rig.filesystem.check()).is_consistent)
        volume = await self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=None)
        self.assertIs(volume.read_only, read_only)
        self.assertEqual(await volume.mover.get_file(path="good.tar", limit_bytes=MEBIBYTE), sample(MEBIBYTE))
        await volume.unmount()

    async def fail_to_write(self, volume: IMountedVolume, kind: type[MoverFault]) -> None:
        """Write what does not get onto the tape."""
        await self.assertFailure(
            Deferred.fromCoroutine(self.write(volume, "bad.tar", sample(8 * MEBIBYTE))), kind
        )

    @survives("permanent-write-error", "read-only-after-error", "check-after-write-error")
    @returns_deferred
    async def test_permanent_write_error(self) -> None:
        """The write fails, so does every sync, and the volume is read-only for good."""
        volume = await self.with_one_file()
        self.stage("permanent-write-error")
        await self.fail_to_write(volume, MediumFault)
        with self.assertRaises((SyncFailed, MediumFault)):
            await volume.sync("bad")
        self.assertFalse((await volume.unmount()).is_clean)
        await self.assert_good_is_there(read_only=ReadOnly.WRITE_ERROR)

    @survives("hardware-write-error")
    @returns_deferred
    async def test_hardware_write_error(self) -> None:
        """The write fails, the unmount loses its index, and a check brings the volume back, writable."""
        volume = await self.with_one_file()
        self.stage("hardware-write-error")
        await self.fail_to_write(volume, MediumFault)
        verdict = await volume.unmount()
        self.assertEqual((verdict.is_clean, verdict.exit_status), (False, 0))
        await self.assert_good_is_there(read_only=None)

    @survives("double-write-error", "sync-fails-saved", "sync-fails-lost")
    @returns_deferred
    async def test_failed_syncs(self) -> None:
        """A sync that fails proves nothing, whether the index was saved or not; the end is not clean, and the next mount read-only."""
        for name in ("sync-fails-saved", "sync-fails-lost", "double-write-error"):
            volume = await self.with_one_file()
            if name == "double-write-error":
                self.stage(name)
                await self.fail_to_write(volume, MediumFault)
            else:
                await self.write(volume, "bad.tar", sample(MEBIBYTE, 1))
                self.stage(name)
            fault = await self.assertFailure(volume.sync("bad", new_files=["bad.tar"]), SyncFailed)
            self.assertIn(f"the index of {BARCODE} could not be written", str(fault))
            self.assertFalse((await volume.unmount()).is_clean)
            await self.assert_good_is_there(read_only=ReadOnly.WRITE_ERROR)
            await self.rig.unload()
            await self.rig.operate("blank", self.rig.library, BARCODE)

    @survives("silently-short", "full-mounts-writable")
    @returns_deferred
    async def test_end_of_tape(self) -> None:
        """A file that is shorter than what was written is the end of the tape although no call failed; so it stays after a remount."""
        volume = await self.with_one_file()
        self.stage("silently-short")
        await self.fail_to_write(volume, EndOfTape)
        await volume.mover.unlink(path="bad.tar")
        self.assertTrue((await volume.unmount()).is_clean)
        volume = await self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=None)
        self.assertIsNone(volume.read_only)
        with self.assertRaises(EndOfTape):
            for number in range(40):
                await self.write(volume, f"filler-{number}.tar", sample(16 * MEBIBYTE))
        await volume.mover.unlink(path=f"filler-{number}.tar")
        await volume.unmount()
        volume = await self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=None)
        self.assertIsNone(volume.read_only)
        self.assertEqual((await volume.space()).free_bytes, 0)
        await self.fail_to_write(volume, EndOfTape)
        await volume.unmount()

    @survives("moved-under-ltfs")
    @returns_deferred
    async def test_moved(self) -> None:
        """Only the sync tells that the tape was moved; nothing is taken for synced, and the volume is told as lost."""
        volume = await self.with_one_file()
        self.stage("moved-under-ltfs")
        await self.write(volume, "bad.tar", sample(MEBIBYTE))
        await self.assertFailure(volume.sync("bad", new_files=["bad.tar"]), SyncFailed)
        self.assertFalse((await volume.unmount()).is_clean)
        verdict = await self.rig.filesystem.check()
        self.assertFalse(verdict.is_consistent)
        self.assertIn("labels", verdict.finding)
        await self.assertFailure(self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=None), NotFormatted)

    @survives("end-of-data-missing")
    @returns_deferred
    async def test_power_failure(self) -> None:
        """After a power failure the volume asks for a check, which goes deep by itself."""
        volume = await self.with_one_file()
        self.stage("end-of-data-missing")
        await self.assertFailure(Deferred.fromCoroutine(self.write(volume, "bad.tar", b"x")), MoverFault)
        self.assertFalse((await volume.unmount()).is_clean)
        await self.assertFailure(self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=None), NeedsCheck)
        await self.assert_good_is_there(read_only=None)

    @survives(
        "index-lost-at-unmount",
        "index-on-a-at-unmount",
        "index-lost-and-unmounted",
        "index-does-not-fit",
        "read-error-once",
    )
    @returns_deferred
    async def test_lost_indexes(self) -> None:
        """An unmount that did not write its index is not clean, whatever it says and exits with; what was synced is there."""
        for name, why in (
            ("index-does-not-fit", None),
            ("index-on-a-at-unmount", ReadOnly.WRITE_ERROR),
            ("index-lost-at-unmount", ReadOnly.WRITE_ERROR),
            ("index-lost-and-unmounted", ReadOnly.WRITE_ERROR),
        ):
            volume = await self.with_one_file()
            await self.write(volume, "later.tar", b"x")
            self.stage(name)
            verdict = await volume.unmount()
            self.assertEqual((verdict.is_clean, verdict.exit_status), (False, 0), name)
            self.stage("read-error-once")
            await self.assert_good_is_there(read_only=why)
            await self.rig.unload()
            await self.rig.operate("blank", self.rig.library, BARCODE)

    @survives("index-partition-full")
    @returns_deferred
    async def test_index_partition_full(self) -> None:
        """Files that find no room on the index partition are a finding, no failure."""
        volume = await self.with_one_file()
        for number in range(6):
            await self.write(volume, f"{number}.manifest", sample(3 * MEBIBYTE))
        verdict = await volume.unmount()
        self.assertTrue(verdict.is_clean)
        self.assertTrue(verdict.full_because)
        await self.assert_good_is_there(read_only=None)

    @survives("umount-returns-early", "unmount-unchanged", "terminated", "unmount-lazy")
    @returns_deferred
    async def test_ends(self) -> None:
        """An unmount is over when ltfs has ended, however long its index takes; ended by a signal it is as clean."""
        Library(self.rig.library).set_latency(Latency(index=1.5))
        volume = await self.with_one_file()
        await self.write(volume, "more.tar", b"x")
        _, ltfs = self.rig.newest_processes()
        self.assertTrue((await volume.unmount()).is_clean)
        await self.until_ended(ltfs)
        Library(self.rig.library).set_latency(Latency())
        volume = await self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=None)
        self.assertTrue((await volume.unmount()).is_clean)
        volume = await self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=None)
        _, ltfs = self.rig.newest_processes()
        os.kill(ltfs, signal.SIGTERM)
        await self.until_ended(ltfs)
        self.assertFalse(volume.is_alive())
        self.assertTrue((await volume.unmount()).is_clean)

    def indexes_at_unmount(self) -> int:
        """How many indexes the logs of all mounts say were begun at an unmount."""
        logs = Path(self.rig.state, "mounts").rglob("ltfs.log")
        return sum(log.read_text().count("Reason: Unmount") for log in logs)

    @survives("terminated-twice")
    @returns_deferred
    async def test_terminated_twice(self) -> None:
        """Signals that cost the index are seen in the verdict; what was synced is there."""
        await (await self.with_one_file()).unmount()
        Library(self.rig.library).set_latency(Latency(index=60))
        volume = await self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=None)
        await self.write(volume, "lost.tar", b"x")
        await volume.mover.close()
        _, ltfs = self.rig.newest_processes()
        already = self.indexes_at_unmount()
        os.kill(ltfs, signal.SIGTERM)
        while self.indexes_at_unmount() == already:
            await deferLater(reactor, 0.05)
        os.kill(ltfs, signal.SIGTERM)
        await self.until_ended(ltfs)
        Library(self.rig.library).set_latency(Latency())
        verdict = await volume.unmount()
        self.assertEqual((verdict.is_clean, verdict.signal), (False, signal.SIGTERM))
        await self.assert_good_is_there(read_only=None)

    @survives("unmount-hangs", "terminated-and-continued")
    @returns_deferred
    async def test_hanging_unmount(self) -> None:
        """An ltfs that does not end is left alone, with its process named; the verdict is there when it has ended after all."""
        volume = await self.with_one_file()
        self.stage("unmount-hangs")
        self.rig.limits = replace(HURRIED, unmount_seconds=3)
        await volume.mover.close()
        adopted = await self.rig.restart().adopt()
        assert adopted is not None and hasattr(adopted, "unmount")
        fault = await self.assertFailure(adopted.unmount(), OutcomeUnknown)
        _, ltfs = self.rig.newest_processes()
        self.assertIn(f"process {ltfs}", str(fault))
        Faults(self.rig.library).clear()
        await self.until_ended(ltfs)
        self.assertTrue((await adopted.unmount()).is_clean)

    @survives("sync-hangs")
    @returns_deferred
    async def test_hanging_sync(self) -> None:
        """A sync that hangs ends after the limit with nothing proven."""
        volume = await self.with_one_file()
        mover = LtfsMover(
            reactor=reactor,
            threads=self.rig.threads,
            mountpoint=self.rig.mountpoint,
            is_plain=False,
            run_directory=self.rig.run,
            tenure=self.rig.tenure,
            limits=MoverLimits(silence_seconds=1.5, reap_seconds=10, farewell_seconds=1),
            environment=self.rig.environment(),
        )
        self.rig.movers.append(mover)
        self.stage("sync-hangs", seconds=4)
        await self.assertFailure(mover.set_virtual_attribute("sync", b"1"), MoverTimeout)
        await mover.close()
        await deferLater(reactor, 3)
        self.assertTrue((await volume.unmount()).is_clean)
