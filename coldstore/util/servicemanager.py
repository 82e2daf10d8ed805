"""Telling the service manager how the service is (sd_notify(3), in the few lines that it takes)."""

import socket
from collections.abc import Mapping

SEND_SECONDS = 5.0
"""How long the service manager may be too busy to listen."""


def tell(environment: Mapping[str, str], fact: str) -> None:
    """
    Send a fact, such as ``READY=1``, to the socket that ``NOTIFY_SOCKET`` names. Without one nobody wants to know.

    :raise OSError: nobody listens there
    """
    path = environment.get("NOTIFY_SOCKET", "")
    if not path:
        return
    # An abstract socket is written with "@" in place of the NUL byte that its address begins with.
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.settimeout(SEND_SECONDS)
        sender.sendto(fact.encode(), address)
