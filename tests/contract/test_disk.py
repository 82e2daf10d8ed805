"""``FileSystem``: Linux as it is, and the disk of the simulated world."""

import os
import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from coldstore.disk.filesystem import FileSystem
from tests.contract.disk_contract import SMALL_BYTES, DiskContract
from tests.simulation.disk import Disk, SimulatedFileSystem
from tests.simulation.life import Life
from tests.simulation.reactor import VirtualReactor


class LinuxTests(DiskContract, SynchronousTestCase):
    """On the file system of the temporary directory."""

    def make_disk(self) -> tuple[FileSystem, Path]:
        """A new directory."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        return FileSystem(), folder

    def make_small_disk(self) -> tuple[FileSystem, Path]:
        """A file system in memory."""
        mount = Path(tempfile.mkdtemp(prefix="coldstore-small-"))
        words = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_BYTES}", "coldstore-test", str(mount)]
        if os.geteuid() != 0 or subprocess.run(words, capture_output=True).returncode:
            mount.rmdir()
            raise SkipTest("mounting a small file system needs root")
        self.addCleanup(mount.rmdir)
        self.addCleanup(subprocess.run, ["umount", "-l", str(mount)], check=True)
        return FileSystem(), mount


class SimulatedDiskTests(DiskContract, SynchronousTestCase):
    """In memory."""

    def make_disk(self) -> tuple[FileSystem, Path]:
        """A disk of its own."""
        return self.made_disk(1 << 30)

    def make_small_disk(self) -> tuple[FileSystem, Path]:
        """The same with less room."""
        return self.made_disk(SMALL_BYTES)

    @staticmethod
    def made_disk(capacity_bytes: int) -> tuple[FileSystem, Path]:
        """A disk with one folder."""
        system = SimulatedFileSystem(Disk(capacity_bytes), Life(VirtualReactor(0.0)))
        folder = Path("/disk")
        system.make_directory(folder)
        return system, folder
