"""The directory fallback of the virtual library's ``ltfs``."""

import os
import shutil
import signal
import tempfile
from unittest import SkipTest

from coldstore.vtl.plain import MARKER
from tests.contract.vtl_harness import VtlCase, wait_for


class PlainTests(VtlCase):
    """Without FUSE a plain directory is served, which says so."""

    def setUp(self) -> None:
        """Make a library whose programs are told that there is no FUSE."""
        super().setUp()
        self.environment["COLDSTORE_VTL_DIRECTORY"] = "1"

    def test_life(self) -> None:
        """Format, mount, write, sync, unmount, mount again: the same messages, statuses and attributes, and one line that announces it."""
        self.load()
        self.format()
        process = self.mount()
        self.assertIn(
            "LTFS00001W coldstore-vtl: no FUSE here (COLDSTORE_VTL_DIRECTORY is set)", self.messages()
        )
        self.assertEqual(self.attribute("volumeSerial"), "A00001")
        before = int(self.attribute("indexGeneration"))
        self.write("x", b"x" * 1000)
        self.sync()
        wait_for(lambda: int(self.attribute("indexGeneration")) == before + 1)
        self.assertEqual(self.attribute("partition", "x"), "b")
        first = int(self.attribute("startblock", "x"))
        self.write("y", b"y")
        os.setxattr(self.path("y"), "user.ltfs.hash.sha256sum", b"00")
        status, said = self.unmount(process)
        self.assertEqual(status, 0)
        self.assertIn("LTFS11034I Volume unmounted successfully.", said)
        self.assertEqual(os.listdir(self.mountpoint), [])
        process = self.mount()
        self.assertEqual(self.read("x"), b"x" * 1000)
        self.assertGreater(int(self.attribute("startblock", "y")), first)
        self.assertEqual(os.getxattr(self.path("y"), "user.ltfs.hash.sha256sum"), b"00")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(20), 0)
        self.assertEqual(self.mt("offline")[0], 0)
        self.assertEqual(self.mtx("unload", "1", "0")[0], 0)

    def test_umount_returns_early(self) -> None:
        """``umount`` gives the mountpoint back before the process has ended; with open files it exits 32."""
        self.load()
        self.format()
        process = self.mount()
        with open(self.path("x"), "wb"):
            status, _, err = self.run_program("umount", self.mountpoint)
            self.assertEqual((status, err), (32, f"umount: {self.mountpoint}: target is busy.\n"))
        self.assertEqual(self.run_program("umount", self.mountpoint)[0], 0)
        self.assertEqual(os.listdir(self.mountpoint), [])
        self.assertEqual(process.wait(20), 0)

    def test_another_file_system(self) -> None:
        """A mountpoint to which no directory can be moved is refused, with a way out, and the volume stays as it was."""
        elsewhere = "/dev/shm"
        if not os.path.isdir(elsewhere) or os.stat(elsewhere).st_dev == os.stat(self.folder).st_dev:
            raise SkipTest("there is no second file system here")
        here, self.mountpoint = self.mountpoint, tempfile.mkdtemp(dir=elsewhere, prefix="coldstore-vtl-")
        self.addCleanup(shutil.rmtree, self.mountpoint, ignore_errors=True)
        self.load()
        self.format()
        process = self.mount_process()
        self.assertEqual(process.wait(20), 1)
        said = self.messages()
        self.assertIn("LTFS00002E coldstore-vtl: ", said)
        self.assertIn(self.mountpoint, said)
        self.assertIn("on one file system", said)
        self.assertIn("LTFS14013E Cannot mount the volume.", said)
        self.assertNotIn("Traceback", said)
        self.assertEqual(os.listdir(self.mountpoint), [])
        self.mountpoint = here
        process = self.mount()
        self.write("x", b"x")
        self.assertEqual(self.unmount(process)[0], 0)

    def test_killed(self) -> None:
        """A killed ltfs leaves a volume that must be checked; nothing is lost, which is what makes the fallback weaker."""
        self.load()
        self.format()
        process = self.mount()
        self.write("x", b"x")
        process.kill()
        process.wait()
        other = os.path.join(self.folder, "other")
        os.mkdir(other)
        status, _, err = self.run_program("ltfs", "-f", "-o", f"devname={self.sg()}", other)
        self.assertEqual(status, 1)
        self.assertIn("LTFS11220E", err)
        self.assertEqual(self.run_program("ltfsck", self.sg())[0], 1)
        self.mount()
        self.assertEqual(self.read("x"), b"x")

    def test_exclusion(self) -> None:
        """Drive and cartridge are locked as with a real mount."""
        self.load()
        self.format()
        self.mount()
        self.assertEqual(os.getxattr(self.mountpoint, MARKER).decode().isdigit(), True)
        self.assertEqual(self.mtx("unload", "1", "0")[0], 1)
        self.assertEqual(self.run_program("mkltfs", "-f", "-d", self.sg())[0], 8)

    def test_other_form(self) -> None:
        """A volume formatted with FUSE is refused without it, and one formatted without is served as a directory also with it."""
        self.load()
        self.format()
        self.environment.pop("COLDSTORE_VTL_DIRECTORY")
        process = self.mount()
        self.assertIn("the volume was formatted for it", self.messages())
        self.unmount(process)
