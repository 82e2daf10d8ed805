"""``tests.ports``."""

import socket
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.ports import candidates, free_port

CHECKOUT = Path(__file__).parents[2]


class PortsTests(SynchronousTestCase):
    """Ports for servers of tests."""

    def test_candidates(self) -> None:
        """Those that outgoing connections get are left out, unless nearly all are such."""
        self.assertEqual(list(candidates("12000\t65535")), list(range(10000, 12000)))
        self.assertEqual(list(candidates("10000 60000")), list(range(60001, 65536)))
        self.assertEqual(list(candidates("1024 65535")), list(range(10000, 65536)))

    def test_free(self) -> None:
        """One can be listened on at once, and is told once."""
        ports = {free_port() for _ in range(20)}
        self.assertEqual(len(ports), 20)
        with socket.create_server(("127.0.0.1", ports.pop())):
            pass

    def test_others(self) -> None:
        """Another process is told others as long as this one lives."""
        mine = free_port()
        program = (
            "import tests.ports as ports\n"
            "theirs = ports.free_port()\n"
            f"ports.candidates = lambda text: [theirs, {mine}]\n"
            "for turn in range(20):\n"
            "    ports._claims.pop(theirs).close()\n"
            "    assert ports.free_port() == theirs\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, text=True, timeout=60
        )
        self.assertEqual(done.returncode, 0, done.stderr)
