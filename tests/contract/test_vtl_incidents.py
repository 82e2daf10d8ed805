"""Incidents that the virtual library's programs play, as the table says: what the other modules do not show."""

import errno
import io
import os
import signal
import subprocess
import time
from contextlib import redirect_stdout

from coldstore.vtl.faults import Faults
from coldstore.vtl.latency import Latency
from coldstore.vtl.library import LibrarySpec, create_library
from coldstore.vtl.main import main
from coldstore.vtl.medium import BLOCK_BYTES, Cartridge
from tests.contract.vtl_harness import MIB, FuseCase, VtlCase, golden, wait_for
from tests.incidents import shows


class RobotTests(VtlCase):
    """``mtx`` and ``mt``."""

    @shows("changer-forbidden", "drive-forbidden", "drive-removed")
    def test_nodes(self) -> None:
        """Nodes that may not be opened, or whose drive is gone, are told as recorded."""
        self.stage("changer-forbidden")
        status, out, err = golden("mtx/permission-denied.txt")
        self.assertEqual(self.mtx("status"), (status, out, err.replace("/dev/sg0", self.changer)))
        nst = self.library.node("nst0")
        self.stage("drive-forbidden")
        status, out, err = golden("mt/permission-denied.txt")
        self.assertEqual(self.mt("status"), (status, out, err.replace("/dev/nst0", nst)))
        Faults(self.directory).clear()
        self.stage("drive-removed")
        self.assertEqual(self.mt("status"), (1, "", f"{nst}: No such device or address\n"))

    @shows("robot-hangs-moved", "robot-hangs-gripper")
    def test_hangs_in_the_middle(self) -> None:
        """A robot that hangs may have moved the cartridge, or hold it: then it is in no element."""
        for name, slot, found in (
            ("robot-hangs-moved", 1, "VolumeTag = A00001L8"),
            ("robot-hangs-gripper", 2, None),
        ):
            self.stage(name)
            process = self.start("mtx", "-f", self.changer, "load", str(slot), str(slot - 1))
            wait_for(lambda slot=slot: self.library.elements().slots[slot] is None)
            wait_for(lambda: self.library.elements().move is None)
            self.assertIsNone(process.poll())
            process.kill()
            process.wait()
            Faults(self.directory).clear()
            shown = self.mtx("status")[1]
            self.assertEqual(f"A0000{slot}L8" in shown, found is not None)
            self.assertTrue(found is None or found in shown)

    @shows("mtx-invents-a-slot")
    def test_unknown_source(self) -> None:
        """A drive whose cartridge came from another drive has no source slot."""
        self.load()
        with self.library.changing() as elements:
            elements.drives[0].source = None
        self.assertIn("Full (Unknown Storage Element Loaded):VolumeTag = A00001L8", self.mtx("status")[1])

    @shows("mt-illegal-count", "mt-unknown-property", "mt-lacks-command", "mt-garbage")
    def test_mt_refusals(self) -> None:
        """Illegal count 3, unknown property 1, a command that the drive lacks 2, noise 0."""
        self.load()
        self.assertEqual(self.mt("fsf", "x")[0], 3)
        status, _, err = self.mt("stsetoptions", "nonsense")
        self.assertEqual((status, err.splitlines()[0]), (1, "Illegal property name 'nonsense'."))
        self.stage("mt-lacks-command")
        self.assertEqual(self.mt("tell"), (2, "", f"{self.library.node('nst0')}: Input/output error\n"))
        self.stage("mt-garbage")
        status, out, _ = self.mt("status")
        self.assertEqual((status, "SCSI" in out), (0, False))

    @shows("unloaded-while-open")
    def test_auto_unload(self) -> None:
        """A library that unloads drives itself pulls the tape from an open device, and calls it done."""
        library = create_library(
            os.path.join(self.folder, "other"), LibrarySpec(cartridges=1, slots=2, auto_unload=True)
        )
        changer = library.node("changer")
        self.assertEqual(self.run_program("mtx", "-f", changer, "load", "1", "0")[0], 0)
        holder = os.open(library.node("nst0"), os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, holder)
        status, out, _ = self.run_program("mtx", "-f", changer, "unload", "1", "0")
        self.assertEqual((status, out.endswith("done\n")), (0, True))


class LtfsTests(FuseCase):
    """``ltfs``, ``mkltfs`` and ``ltfsck``."""

    spec = LibrarySpec(drives=2, slots=10, mail_slots=1, cartridges=6, cleaning=1, capacity_bytes=64 * MIB)

    def failing(self, step, *words) -> int:
        """Return the errno of a step that must fail."""
        with self.assertRaises(OSError) as caught:
            step(*words)
        return caught.exception.errno

    def assert_says(self, *codes: str) -> None:
        """Check that the last ``ltfs`` said all this."""
        for code in codes:
            self.assertIn(f"LTFS{code} ", self.messages())

    @shows("drive-reserved")
    def test_reserved(self) -> None:
        """Another host's reservation: three tries, then each program's own exit; by serial number the changer is to blame."""
        self.load()
        self.stage("drive-reserved", seconds=0.3)
        self.assertEqual(self.mount_process().wait(10), 1)
        self.assertEqual(self.messages().count("LTFS30266W"), 3)
        self.assert_says("30267W", "30268I", "12014E", "12012E", "10004E")
        status, _, err = self.run_program("mkltfs", "-d", self.sg())
        self.assertEqual(status, 8)
        self.assertIn(f"LTFS15009E Cannot open device '{self.sg()}' (-21719).", err)
        self.assertEqual(self.run_program("ltfsck", self.sg())[0], 8)
        node = self.library.node("nst0")
        self.assertEqual(self.mt("status"), (1, "", f"{node}: Input/output error\n"))
        serial = self.library.elements().drives[0].serial
        status, _, err = self.run_program("mkltfs", "-d", serial)
        self.assertEqual(status, 8)
        self.assertIn("LTFS30293I Changer ", err)

    @shows("end-of-data-missing")
    def test_power_failure(self) -> None:
        """After a power failure the mount and a plain check ask for the deep one, which brings the last index back."""
        process = self.mounted()
        self.write("good.tar", b"g" * MIB)
        self.sync()
        self.stage("end-of-data-missing")
        with self.assertRaises(OSError):
            self.write("lost.tar", b"l" * MIB)
        self.assertEqual(process.wait(10), -signal.SIGKILL)
        self.assertEqual(self.run_program("umount", self.mountpoint)[0], 0)
        self.assertEqual(self.mount_process().wait(10), 1)
        self.assert_says("17146E", "17148E", "14013E")
        status, _, err = self.run_program("ltfsck", self.sg())
        self.assertEqual(status, 4)
        self.assertIn("LTFS17146E", err)
        status, _, err = self.run_program("ltfsck", "-z", self.sg())
        self.assertEqual(status, 1)
        self.assertIn("LTFS16022I", err)
        self.mount()
        self.assertEqual(os.listdir(self.mountpoint), ["good.tar"])

    @shows("worm")
    def test_worm(self) -> None:
        """A write-once medium is neither formatted nor mounted."""
        self.load()
        self.stage("worm")
        status, _, err = self.run_program("mkltfs", "-d", self.sg(), "-s", "A00001")
        self.assertEqual(status, 8)
        self.assertIn("LTFS14116E", err)
        self.format()
        self.assertEqual(self.mount_process().wait(10), 1)
        self.assert_says("14116E", "14013E")

    @shows("mount-no-such-generation", "mount-ended-silently")
    def test_odd_ends(self) -> None:
        """A generation that is not there: exit 1; an ltfs that just ends: exit 0."""
        self.load()
        self.format()
        self.assertEqual(self.mount_process("rollback_mount=999").wait(10), 1)
        self.assert_says("17079E", "14013E")
        self.stage("mount-ended-silently")
        self.assertEqual(self.mount_process().wait(10), 0)
        self.assertNotIn("14029I", self.messages())

    @shows("read-only-index-full", "read-only-data-full", "read-only-older")
    def test_read_only(self) -> None:
        """Volumes that mount read-only say why, the mount table shows it, and writes are refused."""
        self.load()
        self.format()
        for name, code in (
            ("read-only-index-full", "14073I"),
            ("read-only-data-full", "14074I"),
            ("read-only-older", "14078I"),
        ):
            self.stage(name)
            process = self.mount()
            self.assert_says(code)
            self.assertTrue(os.statvfs(self.mountpoint).f_flag & os.ST_RDONLY)
            self.assertEqual(self.failing(self.write, "x", b""), errno.EROFS)
            self.assertEqual(self.failing(self.sync), errno.EROFS)
            self.assertEqual(self.unmount(process)[0], 0)

    @shows("log-flood", "tool-flood")
    def test_floods(self) -> None:
        """Programs may say the same line for ever, and do nothing else until the fault is cleared."""
        self.load()
        self.stage("tool-flood")
        process = self.start("mkltfs", "-d", self.sg(), "-s", "A00001")
        said = b""
        while said.count(b"\n") < 100_000:
            said += os.read(process.stderr.fileno(), MIB)
        process.kill()
        self.assertIn(b"LTFS30046I", said)
        Faults(self.directory).clear()
        self.format()
        self.stage("log-flood")
        process = self.mount_process()
        wait_for(lambda: os.path.getsize(self.log) > MIB)
        self.assertIsNone(process.poll())
        Faults(self.directory).clear()
        wait_for(lambda: os.path.ismount(self.mountpoint))

    @shows("check-fails", "check-after-write-error")
    def test_checks(self) -> None:
        """A check may fail with 8; of a medium with a write error it repairs nothing, and says consistent, 1."""
        process = self.mounted()
        self.stage("check-fails")
        self.write("x.tar", b"x")
        self.sync()
        self.stage("permanent-write-error")
        with self.assertRaises(OSError):
            self.write("y.tar", b"y" * MIB)
        self.unmount(process)
        status, _, err = self.run_program("ltfsck", self.sg())
        self.assertEqual(status, 8)
        self.assertIn("LTFS16080E", err)
        status, _, err = self.run_program("ltfsck", self.sg())
        self.assertEqual(status, 1)
        for code in ("16111I", "11333I", "17287I", "16022I"):
            self.assertIn(f"LTFS{code}", err)

    @shows("check-status-leaks")
    def test_leaking_status(self) -> None:
        """Listing a damaged chain of indexes ends with 120."""
        process = self.mounted()
        self.write("x", b"x")
        self.sync()
        self.write("y", b"y")
        self.unmount(process)
        partition = Cartridge(self.library.cartridge_directory("A00001L8")).partition("b")
        second = partition.marks()[1]
        partition.close()
        offset = str(second.block * BLOCK_BYTES + 9)
        main(["flip", self.directory, "A00001L8", "--partition", "b", "--offset", offset])
        status, _, err = self.run_program("ltfsck", "-l", self.sg())
        self.assertEqual(status, 120)
        self.assertIn("LTFS16076E", err)

    @shows("silently-short")
    def test_silently_short(self) -> None:
        """At the end of the tape every call may succeed, and the file be shorter than what was written."""
        process = self.mounted()
        self.stage("silently-short", after=1)
        with open(self.path("x.tar"), "wb", buffering=0) as stream:
            for _ in range(4):
                self.assertEqual(stream.write(b"x" * MIB), MIB)
            os.fsync(stream.fileno())
        self.assertEqual(os.stat(self.path("x.tar")).st_size, MIB)
        self.assertEqual(os.statvfs(self.mountpoint).f_bavail, 0)
        self.unmount(process)
        self.assert_says("30223W", "11034I")

    @shows("attention-after-load", "attention-while-mounted")
    def test_unit_attention(self) -> None:
        """A reset is reported at the mount or a write, and does no harm."""
        self.load()
        self.format()
        self.stage("attention-after-load")
        self.stage("attention-while-mounted")
        process = self.mount()
        self.write("x.tar", b"x" * MIB)
        self.sync()
        self.unmount(process)
        self.assert_says("30205I", "30263I", "39802W", "12029E", "11312I", "11340I", "11034I")
        self.mount()
        self.assertEqual(self.read("x.tar"), b"x" * MIB)

    @shows("unmount-lazy")
    def test_lazy_unmount(self) -> None:
        """A mount that somebody took away lives until its last file is closed, and is then ended with its index."""
        if os.geteuid():
            self.skipTest("umount -l needs root")
        process = self.mounted()
        with open(self.path("x"), "wb", buffering=0) as stream:
            subprocess.run(["umount", "-l", self.mountpoint], check=True)
            self.assertFalse(os.path.ismount(self.mountpoint))
            time.sleep(0.2)
            self.assertIsNone(process.poll())
            stream.write(b"still there")
        self.assertEqual(process.wait(20), 0)
        self.assert_says("11034I")
        self.mount()
        self.assertEqual(self.read("x"), b"still there")

    @shows("index-lost-and-unmounted")
    def test_unmounted_is_no_proof(self) -> None:
        """11034I and exit 0 although no partition took the index."""
        process = self.mounted()
        self.write("x", b"x")
        self.stage("index-lost-and-unmounted")
        status, said = self.unmount(process)
        self.assertEqual(status, 0)
        self.assertIn("LTFS17265I Skip writing the index because of mam lock field", said)
        self.assert_says("11034I")
        self.mount()
        self.assertEqual(os.listdir(self.mountpoint), [])

    @shows("index-does-not-fit")
    def test_late_warning(self) -> None:
        """An index that finds no room at the unmount is lost, and ltfsck brings the last synced state back."""
        process = self.mounted()
        self.write("synced", b"s" * MIB)
        self.sync()
        self.write("later", b"l" * MIB)
        self.stage("index-does-not-fit")
        self.assertEqual(self.unmount(process)[0], 0)
        self.assert_says("11072E", "12045E", "11083E", "11033E")
        self.assertEqual(self.mount_process().wait(10), 1)
        self.assert_says("11220E")
        self.assertEqual(self.run_program("ltfsck", self.sg())[0], 1)
        self.mount()
        self.assertEqual(self.read("synced"), b"s" * MIB)
        self.assertEqual(os.listdir(self.mountpoint), ["synced"])

    @shows("terminated-and-continued")
    def test_deadlock(self) -> None:
        """SIGTERM and SIGCONT: the mount is gone, the last line has no end, and only SIGKILL helps."""
        process = self.mounted()
        self.write("x", b"x")
        process.send_signal(signal.SIGCONT)
        wait_for(lambda: "LTFS17294I" in self.messages())
        self.stage("terminated-and-continued")
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
        wait_for(lambda: self.messages().endswith("Continue signal (18) received"))
        wait_for(lambda: not os.path.ismount(self.mountpoint))
        time.sleep(1.5)
        self.assertIsNone(process.poll())
        process.kill()
        self.assertEqual(process.wait(10), -signal.SIGKILL)
        self.assertEqual(self.mount_process().wait(10), 1)
        self.assert_says("11220E")

    @shows("terminated")
    def test_terminated_with_open_files(self) -> None:
        """SIGTERM with a file open: what it holds is written, its owner gets ENOTCONN."""
        process = self.mounted()
        descriptor = os.open(self.path("x"), os.O_CREAT | os.O_WRONLY)
        os.write(descriptor, b"so far")
        process.terminate()
        self.assertEqual(process.wait(20), 0)
        self.assertEqual(self.failing(os.write, descriptor, b"more"), errno.ENOTCONN)
        self.assertEqual(self.failing(os.close, descriptor), errno.ENOTCONN)
        self.assert_says("11998W", "11034I")
        self.mount()
        self.assertEqual(self.read("x"), b"so far")

    @shows("still-loading")
    def test_waits_for_the_load(self) -> None:
        """ltfs waits for a drive that is loading."""
        self.load()
        self.format()
        self.assertEqual(self.mt("offline")[0], 0)
        self.assertEqual(self.mtx("unload", "1", "0")[0], 0)
        self.library.set_latency(Latency(load=1.5))
        self.load()
        self.mount()
        self.assert_says("17189I")

    def test_stage(self) -> None:
        """``coldstore-vtl fault stage`` arms an incident, narrowed; what needs no fault, and what there is not, are refused."""
        self.assertEqual(main(["fault", "stage", self.directory, "tool-flood", "--drive", "1"]), 0)
        armed = Faults(self.directory).armed()
        self.assertEqual([(fault.program, fault.drive) for fault in armed], [("mkltfs", 1), ("ltfsck", 1)])
        self.assertEqual(main(["fault", "stage", self.directory, "terminated"]), 1)
        self.assertEqual(main(["fault", "stage", self.directory, "no-such-thing"]), 1)
        said = io.StringIO()
        with redirect_stdout(said):
            self.assertEqual(main(["fault", "incidents"]), 0)
        self.assertIn("tool-flood", said.getvalue())
