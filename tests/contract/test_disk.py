"""``FileSystem``: Linux as it is."""

import os
import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from coldstore.disk.filesystem import FileSystem
from tests.contract.disk_contract import SMALL_BYTES, DiskContract


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
