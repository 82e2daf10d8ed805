"""TCP ports of the loopback address that nobody else takes before whoever asked for one listens there, or listens there again."""

import errno
import os
import random
import socket
from collections.abc import Sequence
from pathlib import Path

LOWEST = 10000
FEWEST = 1000
"""With fewer that the kernel keeps back, all are candidates."""
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_claims: dict[int, socket.socket] = {}


def candidates(ephemeral: str) -> Sequence[int]:
    """
    Return the ports to choose from: those that the kernel gives no outgoing connection, however short.

    :param ephemeral: the lowest and the highest that it does give, ip(7), ip_local_port_range
    """
    lowest, highest = map(int, ephemeral.split())
    every = range(LOWEST, 65536)
    kept_back = [port for port in every if not lowest <= port <= highest]
    return kept_back if len(kept_back) >= FEWEST else every


def _is_claimed(port: int) -> bool:
    # A name of the abstract name space, unix(7): one process has it, and it goes with that process.
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(f"\0coldstore-tests-port-{port}")
    except OSError as error:
        claim.close()
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    _claims[port] = claim
    return True


def free_port() -> int:
    """Return a port that nobody listens on, and that no other process of tests on this machine is told as long as this one lives."""
    chance = random.Random(os.urandom(16))
    ports = candidates(EPHEMERAL.read_text())
    while True:
        port = chance.choice(ports)
        if not _is_claimed(port):
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                # Whoever has it may have it for long: it stays claimed, and is not tried again.
                continue
        return port
