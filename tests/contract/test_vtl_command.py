"""The command ``coldstore-vtl`` and what its operator can do."""

import os
import subprocess
import sys
from pathlib import Path

from coldstore.vtl.library import Library, LibrarySpec, create_library
from coldstore.vtl.medium import Cartridge
from tests.contract.vtl_harness import VtlCase

ROOT = Path(__file__).resolve().parent.parent.parent


class CommandTests(VtlCase):
    """Each subcommand as a process."""

    def vtl(self, *words: str) -> tuple[int, str, str]:
        """Run ``coldstore-vtl``."""
        done = subprocess.run(
            [sys.executable, "-m", "coldstore.vtl", *words],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def vtl_ok(self, *words: str) -> str:
        """Run ``coldstore-vtl``, which must work; returns stdout."""
        status, out, err = self.vtl(*words)
        self.assertEqual(status, 0, err)
        return out

    def test_create(self) -> None:
        """``create`` makes what was asked, and leaves a library that is there alone."""
        directory = os.path.join(self.folder, "made here", "library")
        words = (
            "create",
            directory,
            "--drives",
            "3",
            "--slots",
            "5",
            "--mail-slots",
            "2",
            "--cartridges",
            "4",
            "--generation",
            "L9",
        )
        self.vtl_ok(*words, "--prefix", "TST", "--cleaning", "1", "--capacity", "100MiB", "--seed", "7")
        library = Library(directory)
        elements = library.elements()
        self.assertEqual(
            elements.slots,
            {1: "TST001L9", 2: "TST002L9", 3: "TST003L9", 4: "TST004L9", 5: "CLNU01L1", 6: None, 7: None},
        )
        self.assertEqual(
            sorted(os.listdir(library.path("bin"))), ["ltfs", "ltfsck", "mkltfs", "mt", "mtx", "umount"]
        )
        self.assertEqual(
            sorted(os.listdir(library.path("dev"))), ["changer", "nst0", "nst1", "nst2", "sg0", "sg1", "sg2"]
        )
        self.assertEqual(
            Cartridge(library.cartridge_directory("TST001L9")).memory.capacity_bytes, 100 * 1024**2
        )
        serials = [drive.serial for drive in elements.drives]
        self.assertEqual(len(set(serials)), 3)
        done = subprocess.run(
            [library.path("bin", "mtx"), "-f", library.node("changer"), "load", "1", "0"],
            capture_output=True,
            check=True,
        )
        self.assertIn(b"done", done.stdout)
        self.vtl_ok("create", directory, "--drives", "1")
        self.assertEqual([drive.serial for drive in library.elements().drives], serials)
        self.assertEqual(library.elements().drives[0].barcode, "TST001L9")

    def test_create_refuses(self) -> None:
        """What does not fit is refused and makes nothing."""
        directory = os.path.join(self.folder, "none")
        status, _, err = self.vtl("create", directory, "--slots", "2", "--cartridges", "3")
        self.assertEqual(status, 1)
        self.assertIn("do not fit", err)
        self.assertFalse(Library(directory).exists)

    def test_operator(self) -> None:
        """Cartridges are inserted and taken by the mail slot only."""
        self.assertIn("slot 11", self.vtl_ok("insert", self.directory, "B00001L8"))
        self.assertIn("IMPORT/EXPORT:Full :VolumeTag=B00001L8", self.mtx("status")[1])
        status, _, err = self.vtl("insert", self.directory, "B00002L8")
        self.assertEqual((status, err), (1, "coldstore-vtl: every mail slot is full\n"))
        self.assertEqual(self.mtx("transfer", "11", "7")[0], 0)
        self.assertEqual(self.vtl("take", self.directory, "B00001L8")[0], 1)
        self.assertEqual(self.mtx("transfer", "7", "11")[0], 0)
        self.vtl_ok("take", self.directory, "B00001L8")
        self.assertIn("B00001L8  outside", self.vtl_ok("status", self.directory))
        self.vtl_ok("insert", self.directory, "B00001L8")

    def test_latency_and_faults(self) -> None:
        """Model times and faults are set, shown and cleared."""
        self.assertIn(
            "load 15",
            self.vtl_ok("latency", self.directory, "--load", "15", "--unload", "24", "--scale", "0.01"),
        )
        self.assertAlmostEqual(self.library.latency().seconds("load"), 0.15)
        self.vtl_ok("latency", self.directory, "--none")
        self.assertEqual(self.library.latency().load, 0)
        words = (
            "--program",
            "mtx",
            "--at",
            "load",
            "--kind",
            "sense:4/15/01",
            "--count",
            "2",
            "--after",
            "1",
        )
        self.assertEqual(self.vtl_ok("fault", "add", self.directory, *words), "f0001\n")
        self.assertIn("kind=sense:4/15/01", self.vtl_ok("fault", "list", self.directory))
        self.assertEqual([self.mtx("load", str(slot), "0")[0] for slot in (99, 7, 1, 1, 1)], [1, 1, 1, 1, 0])
        self.assertEqual(self.vtl_ok("fault", "list", self.directory), "")
        status, _, err = self.vtl(
            "fault", "add", self.directory, "--program", "mt", "--at", "load", "--kind", "erofs"
        )
        self.assertEqual(status, 1)
        self.assertIn("happens at", err)
        self.assertIn("vanish-barcodes", self.vtl_ok("fault", "kinds"))

    def test_media(self) -> None:
        """``blank``, ``foreign``, ``protect`` and ``fsck`` say what they did."""
        self.vtl_ok("foreign", self.directory, "A00002L8")
        self.vtl_ok("protect", self.directory, "A00002L8", "on")
        self.assertIn(
            "A00002L8  slot 2  foreign  generation 0, write protected", self.vtl_ok("status", self.directory)
        )
        self.vtl_ok("blank", self.directory, "A00002L8")
        self.assertEqual(self.vtl_ok("fsck", self.directory), "consistent\n")
        self.assertEqual(self.vtl("protect", self.directory, "NOSUCH", "on")[0], 1)
        self.assertEqual(self.vtl("status", self.folder)[0], 1)

    def test_any_path(self) -> None:
        """Launchers work from any folder, also under a path with blanks and quotes, and without the caller's Python settings."""
        library = create_library(
            os.path.join(self.folder, 'it\'s a "library"'), LibrarySpec(cartridges=1, slots=2)
        )
        done = subprocess.run(
            [library.path("bin", "mtx"), "-f", library.node("changer"), "status"],
            capture_output=True, check=False, cwd="/", env={"PATH": "/usr/bin:/bin", "PYTHONPATH": "/nowhere", "PYTHONHOME": "/nowhere"},
        )  # fmt: skip
        self.assertEqual((done.returncode, done.stderr), (0, b""))
