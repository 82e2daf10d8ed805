"""The contract of tape file systems on a real ``ltfs`` with its ``file`` back end."""

import os

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from tests.contract.filesystem_contract import TapeFilesystemContract
from tests.contract.filesystem_rigs import ReferenceRig, installed_tools


class ReferenceFilesystemTests(TapeFilesystemContract, TestCase):
    """``LtfsFilesystem`` over the installed LTFS programs."""

    timeout = 120
    if installed_tools() is None:
        skip = "level ltfs: no ltfs, mkltfs and ltfsck on PATH"
    elif not os.path.exists("/dev/fuse"):
        skip = "level ltfs: no /dev/fuse, ltfs cannot mount"

    def setUp(self) -> None:
        """Make a drive and two cartridges."""
        tools = installed_tools()
        assert tools is not None
        self.rig = ReferenceRig(tools)

    def tearDown(self) -> Deferred[None]:
        """Remove them."""
        return self.rig.close()
