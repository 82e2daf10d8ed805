"""What the service manager is told."""

import os
import socket
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from coldstore.util.servicemanager import tell


class TellTests(SynchronousTestCase):
    """``tell``, against the protocol of sd_notify(3)."""

    def listener(self, address: str) -> socket.socket:
        """Return a socket that plays the service manager."""
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(manager.close)
        manager.bind(address)
        manager.settimeout(5)
        return manager

    def test_path(self) -> None:
        """A socket with a path gets the fact."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = str(Path(folder.name) / "notify")
        manager = self.listener(path)
        tell({"NOTIFY_SOCKET": path}, "READY=1")
        self.assertEqual(manager.recv(100), b"READY=1")

    def test_abstract(self) -> None:
        """So does an abstract one, which is written with an at-sign."""
        name = f"coldstore-test-{os.getpid()}"
        manager = self.listener(f"\0{name}")
        tell({"NOTIFY_SOCKET": f"@{name}"}, "STOPPING=1")
        self.assertEqual(manager.recv(100), b"STOPPING=1")

    def test_none(self) -> None:
        """Without a service manager nothing happens."""
        tell({}, "READY=1")
        tell({"NOTIFY_SOCKET": ""}, "READY=1")

    def test_deaf(self) -> None:
        """A socket that nobody listens at is an error."""
        self.assertRaises(OSError, tell, {"NOTIFY_SOCKET": "/nonexistent/notify"}, "READY=1")
