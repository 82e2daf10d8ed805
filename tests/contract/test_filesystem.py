"""
The contract of tape file systems: LTFS on the programs of the virtual library with and without FUSE, tar files on its raw tapes, and the
simulated file system.
"""

import os

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from tests.contract.filesystem_contract import TapeFilesystemContract
from tests.contract.filesystem_rigs import SimulatedRig, VirtualLibraryRig, VirtualTapeRig


class VirtualLibraryFilesystemTests(TapeFilesystemContract, TestCase):
    """``LtfsFilesystem`` over the virtual library's programs and FUSE."""

    timeout = 480
    if not os.path.exists("/dev/fuse"):
        skip = "no /dev/fuse: the virtual library cannot mount"

    def setUp(self) -> None:
        """Make a library."""
        self.rig = VirtualLibraryRig()

    def tearDown(self) -> Deferred[None]:
        """Remove it."""
        return self.rig.close()


class PlainDirectoryFilesystemTests(TapeFilesystemContract, TestCase):
    """``LtfsFilesystem`` over the virtual library's fallback without FUSE."""

    timeout = 480

    def setUp(self) -> None:
        """Make a library."""
        self.rig = VirtualLibraryRig(directory_only=True)

    def tearDown(self) -> Deferred[None]:
        """Remove it."""
        return self.rig.close()


class VirtualTapeFilesystemTests(TapeFilesystemContract, TestCase):
    """``RawFilesystem`` over the virtual library's tapes."""

    timeout = 480

    def setUp(self) -> None:
        """Make a library."""
        self.rig = VirtualTapeRig()

    def tearDown(self) -> Deferred[None]:
        """Remove it."""
        return self.rig.close()


class SimulatedFilesystemTests(TapeFilesystemContract, TestCase):
    """``SimulatedTapeFilesystem``."""

    timeout = 480

    def setUp(self) -> None:
        """Make two cartridges."""
        self.rig = SimulatedRig()

    def tearDown(self) -> Deferred[None]:
        """Remove them."""
        return self.rig.close()
