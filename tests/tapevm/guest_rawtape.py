"""
Plain tapes on kernel devices: the contract of tape devices, that of tape file systems, and what raw tapes keep, with the real driver ``st``,
``mt`` and ``tar``; and what only a real driver can show.
"""

import errno
import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
from typing import ClassVar

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase, TestCase

from coldstore.interfaces.filesystem import CannotStart, EndedMount, ITapeFilesystem
from coldstore.model.library import Inventory
from coldstore.ontape.tape import parse_label_file
from coldstore.tape.mtx import parse_status
from coldstore.tape.raw.device import MTIOCTOP, KernelTape, RewindingNode
from coldstore.tape.raw.filesystem import RawLimits
from coldstore.tape.raw.mover import KERNEL_PROGRAM
from coldstore.util.asynchronous import returns_deferred
from tests.contract.filesystem_contract import TapeFilesystemContract, sample
from tests.contract.filesystem_rigs import BARCODE, RawTapes
from tests.contract.raw_tape_rules import BLOCK, RawTapeRules, golden_bundle
from tests.contract.tape_device_contract import TapeDeviceContract
from tests.tapevm.guest import CHANGER, SKIP, ask_rig, device_of, inject, unit_of

TAPE_MIB = 48
"""Small, for tests that fill it."""
MTSETDRVBUFFER = 24
SET_NO_WAIT_EOF, CLEAR_NO_WAIT_EOF = 0x30008000, 0x40008000
"""linux/mtio.h: MT_ST_SETBOOLEANS and MT_ST_CLEARBOOLEANS with MT_ST_NOWAIT_EOF; mt-st 1.7 has no name for it."""
SPACE, WRITE_FILEMARKS, READ = "11", "10", "08"


def run(*argv: str) -> str:
    """Run a program of the guest; its failure fails the test with its words."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise AssertionError(f"{argv}: {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


class KernelDrive:
    """
    Drive 0 of the virtual machine, and one cartridge at a time; each is blank when a test loads it for the first time.

    The cartridge stays in the drive from one test to the next: these suites are the last ones of a run.
    """

    loaded: ClassVar[str | None] = None
    is_quick: ClassVar[bool] = False

    def __init__(self) -> None:
        self.nst = os.environ["TAPEVM_DRIVE0"]
        self.blanked: set[str] = set()
        self.protected: set[str] = set()
        if not KernelDrive.is_quick:
            # The suites before these need a slow library.
            KernelDrive.is_quick = True
            for step in ("load", "move", "unload", "rewind", "locate"):
                ask_rig("latency", step, "0")

    def insert(self, barcode: str) -> None:
        """Have a cartridge in the drive, at its beginning."""
        is_new = barcode not in self.blanked
        self.blanked.add(barcode)
        if is_new:
            ask_rig("blank", barcode, str(TAPE_MIB))
        if barcode != self.loaded:
            self.eject()
            KernelDrive.loaded = barcode
            load_by_hand(barcode)
        run("mt", "-f", self.nst, "rewind")

    def eject(self) -> None:
        """Take it out."""
        if self.loaded is not None:
            unload_by_hand()
            KernelDrive.loaded = None

    def protect(self, barcode: str) -> None:
        """Move the tab of a cartridge that is not loaded."""
        self.protected.add(barcode)
        ask_rig("protect", barcode, "on")

    def restore(self) -> None:
        """Leave the cartridges as they were."""
        if self.protected:
            self.eject()
        for barcode in self.protected:
            ask_rig("protect", barcode, "off")


def load_by_hand(barcode: str) -> None:
    """Have the robot put a cartridge into drive 0, from wherever other tests have left it."""
    (slot,) = [slot.number for slot in inventory().slots if slot.barcode == barcode]
    run("mtx", "-f", CHANGER, "load", str(slot), "0")


def unload_by_hand() -> None:
    """Have the robot put what is in drive 0 into an empty slot."""
    run("mt", "-f", device_of(0), "offline")
    run("mtx", "-f", CHANGER, "unload", str(inventory().empty_slots()[0].number), "0")


def inventory() -> Inventory:
    """Ask the changer what is where."""
    return parse_status(run("mtx", "-f", CHANGER, "status").encode())


class KernelDeviceRig:
    """A drive with a blank tape, for the contract of devices."""

    capacity_bytes = TAPE_MIB * 1024**2

    def __init__(self) -> None:
        self.drive = KernelDrive()
        self.drive.insert(BARCODE)

    def open(self) -> KernelTape:
        """See ``DeviceRig``."""
        return KernelTape(self.drive.nst)

    def protect(self) -> None:
        """See ``DeviceRig``."""
        self.drive.eject()
        self.drive.protect(BARCODE)
        self.drive.insert(BARCODE)

    def empty(self) -> None:
        """See ``DeviceRig``."""
        self.drive.eject()


class KernelDeviceTests(TapeDeviceContract, SynchronousTestCase):
    """``KernelTape``."""

    timeout = 240
    skip = SKIP

    def setUp(self) -> None:
        """Load a blank tape."""
        self.rig = KernelDeviceRig()
        self.addCleanup(self.rig.drive.restore)

    def test_rewinding_node(self) -> None:
        """The node that rewinds the tape is refused, by each of its names, before it is opened."""
        tape = self.opened()
        self.write(tape, b"0", b"", b"2", b"")
        self.let_go(tape)
        rewinding = self.rig.drive.nst.replace("nst", "st")
        for path in (rewinding, f"{rewinding}a", "/dev/null", os.environ["TAPEVM_DRIVE0_SG"]):
            self.assertRaises(RewindingNode, KernelTape, path)
        self.assertEqual(self.where(self.opened()), (4, 2))

    def test_no_wait(self) -> None:
        """A driver that was told not to wait at file marks is not fit to keep anything."""
        tape = self.opened()
        self.set_option(tape, SET_NO_WAIT_EOF)
        try:
            self.assertIn("no-wait-eof", tape.unfitness())
        finally:
            self.set_option(tape, CLEAR_NO_WAIT_EOF)
        self.assertEqual(tape.unfitness(), "")

    @staticmethod
    def set_option(tape: KernelTape, option: int) -> None:
        """Set an option of the driver."""
        fcntl.ioctl(tape._descriptor, MTIOCTOP, struct.pack("@hI", MTSETDRVBUFFER, option))

    def test_closed_in_the_middle(self) -> None:
        """What a killed opener had begun is closed by the driver with a file mark."""
        tape = self.opened()
        self.write(tape, b"0", b"", b"2", b"3")
        self.let_go(tape)
        again = self.opened()
        self.assertEqual(self.where(again), (5, 2))
        again.locate(4)
        self.assertEqual(self.read(again), b"")


class KernelRawRig(RawTapes):
    """Drive 0 of the virtual machine with plain tapes."""

    lacks: frozenset[str] = frozenset()
    program = KERNEL_PROGRAM
    silence_seconds = 300.0
    raw_limits = RawLimits(format_seconds=300, check_seconds=300, mount_seconds=300, unmount_seconds=300)

    def __init__(self) -> None:
        super().__init__()
        self.drive = KernelDrive()
        self.filesystem: ITapeFilesystem = self.restart()

    def environment(self) -> dict[str, str]:
        """See ``ProgramRig``."""
        # Without this every child compiles all of its modules.
        return {**super().environment(), "PYTHONPYCACHEPREFIX": "/tmp/pycache"}

    def raw_device(self) -> str:
        """See ``RawTapes``."""
        return self.drive.nst

    def open_tape(self) -> KernelTape:
        """See ``RawTapes``."""
        return KernelTape(self.drive.nst)

    async def _load(self, barcode: str) -> None:
        await self.close_movers()
        self.drive.insert(barcode)

    def load(self, barcode: str) -> "Deferred[None]":
        """See ``Rig``."""
        return Deferred.fromCoroutine(self._load(barcode))

    async def _unload(self) -> None:
        await self.close_movers()
        self.drive.eject()

    def unload(self) -> "Deferred[None]":
        """See ``Rig``."""
        return Deferred.fromCoroutine(self._unload())

    async def _protect(self, barcode: str) -> None:
        self.drive.protect(barcode)

    def protect(self, barcode: str) -> "Deferred[None]":
        """See ``Rig``."""
        return Deferred.fromCoroutine(self._protect(barcode))

    def damage(self, barcode: str, marker: bytes) -> "Deferred[None]":
        """See ``Rig``."""
        ask_rig("flip", barcode, marker.hex())
        return succeed(None)

    async def _close(self) -> None:
        await self.close_movers()
        self.drive.restore()
        await super()._close()


class KernelRawCase(TestCase):
    """A drive with plain tapes."""

    timeout = 300
    skip = SKIP

    def setUp(self) -> None:
        """Take the drive."""
        self.rig = KernelRawRig()

    def tearDown(self) -> Deferred[None]:
        """Give it back, empty."""
        return self.rig.close()


class KernelFilesystemTests(TapeFilesystemContract, KernelRawCase):
    """``RawFilesystem`` on kernel devices."""

    def test_no_medium(self) -> "Deferred[None]":
        """See the contract; here a cartridge stays in the drive between tests."""
        self.rig.drive.eject()
        return super().test_no_medium()


class KernelRulesTests(RawTapeRules, KernelRawCase):
    """What raw tapes keep, on kernel devices."""

    @returns_deferred
    async def test_rewound_behind_the_driver(self) -> None:
        """A tape that was rewound past the driver, as a reset of the drive does it, is not written at its beginning."""
        volume = await self.mounted()
        await self.write(volume, "before", b"before" * 1000)
        run("sg_raw", os.environ["TAPEVM_DRIVE0_SG"], *("01", "00", "00", "00", "00", "00"))
        await self.write(volume, "after", b"after" * 1000)
        await volume.sync("both", new_files=["before", "after"])
        run("sg_raw", os.environ["TAPEVM_DRIVE0_SG"], *("01", "00", "00", "00", "00", "00"))
        self.assertTrue((await volume.unmount()).is_clean)
        files = self.tape_files()
        self.assertEqual(parse_label_file(files[0]).barcode, BARCODE)
        self.assertEqual([entry.path for entry in self.newest(files).entries], ["before", "after"])

    @returns_deferred
    async def test_unit_attention(self) -> None:
        """A reset that the drive tells of does not end the mount: the tape is where it was left."""
        volume = await self.mounted()
        await self.write(volume, "before", b"before" * 1000)
        ask_rig("ua", str(unit_of(0)), "29", "0")
        await self.write(volume, "after", b"after" * 1000)
        self.assertTrue((await volume.unmount()).is_clean)
        files = self.tape_files()
        self.assertEqual([entry.path for entry in self.newest(files).entries], ["before", "after"])

    @returns_deferred
    async def test_lost_end_of_data(self) -> None:
        """A tape whose end the drive does not find is mounted to be read, by all of its file marks."""
        volume = await self.mounted()
        await self.write(volume, "synced", b"content")
        await volume.sync("synced", new_files=["synced"])
        await volume.unmount()
        # Looked for twice; the driver does it by two commands, over all file marks and then to the end itself.
        inject(unit_of(0), SPACE, "3 14 3", 4)
        again = await self.rig.filesystem.mount(barcode=BARCODE, volume_uuid=volume.volume_uuid)
        self.assertTrue(again.is_read_only)
        self.assertEqual(await again.mover.get_file(path="synced", limit_bytes=10), b"content")
        await again.unmount()

    @returns_deferred
    async def test_deferred_write_error(self) -> None:
        """An error that the drive tells only at the file mark fails the file; what follows goes behind it."""
        volume = await self.mounted()
        await self.write(volume, "before", b"before" * 1000)
        inject(unit_of(0), WRITE_FILEMARKS, "3 c 0")
        with self.assertRaises(Exception) as failed:
            await self.write(volume, "failed", sample(3 * BLOCK))
        self.assertEqual(getattr(failed.exception, "error_number", None), errno.EIO, failed.exception)
        await self.write(volume, "after", b"after" * 1000)
        self.assertTrue((await volume.unmount()).is_clean)
        index = self.newest(self.tape_files())
        self.assertEqual([entry.path for entry in index.entries], ["before", "after"])

    @returns_deferred
    async def test_no_wait(self) -> None:
        """With a driver that does not wait at file marks nothing is formatted or mounted to be written."""
        await self.rig.load(BARCODE)
        tape = self.rig.open_tape()
        KernelDeviceTests.set_option(tape, SET_NO_WAIT_EOF)
        tape.close()
        try:
            fault = await self.assertFailure(
                self.rig.filesystem.format(barcode=BARCODE, volume_name="volume"), CannotStart
            )
            self.assertIn("no-wait-eof", str(fault))
        finally:
            tape = self.rig.open_tape()
            KernelDeviceTests.set_option(tape, CLEAR_NO_WAIT_EOF)
            tape.close()

    @returns_deferred
    async def test_taken_away(self) -> None:
        """Another cartridge in the drive is not taken for ours by the next service."""
        volume = await self.mounted()
        await self.write(volume, "file", b"content")
        await self.rig.load("A00002L8")
        found = await self.rig.restart().adopt()
        assert isinstance(found, EndedMount)
        self.assertEqual((found.barcode, found.volume_uuid), (BARCODE, volume.volume_uuid))
        self.assertFalse(found.verdict.is_clean)

    @returns_deferred
    async def test_by_hand(self) -> None:
        """What README.txt on the tape says works with mt, tar and dd alone: by its single commands and by its script."""
        path, content = golden_bundle()
        volume = await self.mounted()
        await self.write(volume, path, content)
        await self.write(volume, "coldstore/bundles/long.tar", sample(3 * BLOCK + 512))
        await volume.mover.put_file(path="coldstore/volume.json", content=b"{}\n")
        await volume.mover.put_file(path="README.txt", content=b"read me\n")
        await volume.sync("by hand", new_files=[path])
        await volume.unmount()
        nst = self.rig.drive.nst
        folder = tempfile.mkdtemp(prefix="by-hand-")
        self.addCleanup(shutil.rmtree, folder)

        def shell(command: str) -> str:
            return run("sh", "-e", "-c", f"cd {folder}; {command}".replace("/dev/nst0", nst))

        text = shell("mt -f /dev/nst0 rewind; tar -b 512 -xOf /dev/nst0 README.txt")
        self.assertIn(BARCODE, text)
        commands = [line.strip() for line in text.splitlines() if line.startswith("  ")]
        index = shell(
            "; ".join(
                line
                for line in commands
                if line in ("mt -f /dev/nst0 eod", "mt -f /dev/nst0 bsfm 2", "tar -b 512 -xOf /dev/nst0")
            )
        )
        self.assertIn(f'"path":"{path}"', index)
        self.assertIn('"message":"by hand"', index)
        listing = shell("mt -f /dev/nst0 asf 2; tar -b 512 -tf /dev/nst0")
        self.assertIn("objects/photos/", listing)
        shell("mt -f /dev/nst0 asf 2; dd if=/dev/nst0 bs=256k of=2.tar")
        with open(f"{folder}/2.tar", "rb") as file:
            self.assertEqual(file.read(), content)
        cut = [
            line
            for line in commands
            if line.startswith(("mt -f /dev/nst0 rewind", "tar -b 512 -xOf /dev/nst0 README.txt >", "sed"))
        ]
        shell("; ".join(dict.fromkeys(cut)))
        shell("sh read-tape.sh /dev/nst0 all")
        for name, expected in (
            (path, content),
            ("coldstore/bundles/long.tar", sample(3 * BLOCK + 512)),
            ("coldstore/volume.json", b"{}\n"),
            ("README.txt", b"read me\n"),
        ):
            with open(f"{folder}/all/{name}", "rb") as file:
                self.assertEqual(file.read(), expected, name)
        shell(
            "sh read-tape.sh /dev/nst0 some .json; test -f some/coldstore/volume.json; test ! -e some/README.txt"
        )
