"""The contract of tape devices, on those of the virtual library; the kernel's are in the tape VM. And what only the virtual ones have."""

import errno
import os

from coldstore.tape.raw.device import KernelTape, RewindingNode
from coldstore.vtl.library import LibrarySpec
from coldstore.vtl.main import main
from coldstore.vtl.tape import VirtualTape
from tests.contract.tape_device_contract import TapeDeviceContract
from tests.contract.vtl_harness import MIB, VtlCase


class VirtualDeviceRig:
    """Drive 0 of a virtual library."""

    def __init__(self, case: "VtlCase") -> None:
        self._case = case
        self.capacity_bytes = case.spec.capacity_bytes
        case.load()

    def open(self) -> VirtualTape:
        """See ``DeviceRig``."""
        return VirtualTape(self._case.library.node("nst0"))

    def protect(self) -> None:
        """See ``DeviceRig``."""
        self.empty()
        main(["protect", self._case.directory, "A00001L8", "on"])
        self._case.load()

    def empty(self) -> None:
        """See ``DeviceRig``."""
        self._case.assertEqual(self._case.mt("offline")[0], 0)
        self._case.assertEqual(self._case.mtx("unload", "1", "0")[0], 0)


class VirtualDeviceTests(TapeDeviceContract, VtlCase):
    """``VirtualTape``."""

    spec = LibrarySpec(drives=2, slots=4, cartridges=2, capacity_bytes=64 * MIB)

    def setUp(self) -> None:
        """Make a library and load a tape."""
        super().setUp()
        self.rig = VirtualDeviceRig(self)

    def test_mt_agrees(self) -> None:
        """``mt`` stands where the tape stands, and moves it for whoever opens it next."""
        tape = self.opened()
        self.write(tape, b"0", b"", b"2", b"3", b"")
        self.let_go(tape)
        self.assertIn("At block 5.", self.mt("tell")[1])
        self.assertEqual(self.mt("rewind"), (0, "", ""))
        self.assertEqual(self.mt("fsf", "1"), (0, "", ""))
        self.assertIn("File number=1, block number=0", self.mt("status")[1])
        tape = self.opened()
        self.assertEqual(self.where(tape), (2, 1))
        self.assertEqual(self.read(tape), b"2")
        self.let_go(tape)
        self.assertIn("File number=1, block number=1", self.mt("status")[1])
        self.assertEqual(self.mt("weof", "1")[0], 0)
        self.assertEqual(self.mt("eod")[0], 0)
        self.assertIn("At block 4.", self.mt("tell")[1])

    def test_busy_with_mt(self) -> None:
        """While the tape is open, ``mt`` is kept out."""
        tape = self.opened()
        self.assertEqual(self.mt("status")[0], 1)
        self.let_go(tape)
        self.assertEqual(self.mt("status")[0], 0)

    def test_ltfs_volume(self) -> None:
        """An LTFS volume begins with its label, and is one no more when something else was written on it."""
        self.format()
        tape = self.opened()
        label = self.read(tape)
        self.assertEqual((label[:4], len(label)), (b"VOL1", 80))
        self.assertEqual(self.read(tape), b"")
        tape.rewind()
        self.write(tape, b"other", b"")
        self.let_go(tape)
        again = self.opened()
        again.to_end()
        self.assertEqual(again.position(), 2)
        self.let_go(again)
        self.format()

    def test_foreign(self) -> None:
        """A cartridge with foreign data has blocks."""
        main(["foreign", self.directory, "A00001L8"])
        tape = self.opened()
        self.assertTrue(self.read(tape).startswith(b"FOREIGN"))

    def test_faults(self) -> None:
        """Errors can be ordered for each kind of work."""
        tape = self.opened()
        self.write(tape, b"0", b"")
        tape.rewind()
        for at, action, arguments in (
            ("read", tape.read, (self.buffer,)),
            ("write", tape.write, (self.block(b"x"),)),
            ("sync", tape.write_filemarks, (1,)),
            ("locate", tape.rewind, ()),
        ):
            self.arm(program="st", at=at, kind="eio")
            self.fails(errno.EIO, action, *arguments)
        self.arm(program="st", at="write", kind="enospc")
        self.fails(errno.ENOSPC, tape.write, self.block(b"x"))
        self.assertEqual(self.read(tape), b"0")

    def test_not_a_drive(self) -> None:
        """Other files are no drives; neither is a generic node, nor a tape device to the kernel's driver."""
        for path in (self.library.node("sg0"), self.library.node("changer"), "/dev/null"):
            self.fails(errno.ENODEV, VirtualTape, path)
        for path in (self.library.node("nst0"), "/dev/null"):
            self.assertRaises(RewindingNode, KernelTape, path)
        self.assertTrue(os.path.exists(self.library.node("nst0")))
