"""What this machine says of itself."""

import socket
from pathlib import Path

MACHINE_ID = Path("/etc/machine-id")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def host_name() -> str:
    """Return the host name, without a domain."""
    return socket.gethostname().partition(".")[0] or "localhost"


def machine_id(path: Path = MACHINE_ID) -> str:
    """Return what machine-id(5) says; empty where there is none, as in many containers."""
    return _line(path)


def boot_id(path: Path = BOOT_ID) -> str:
    """Return which boot of which kernel this is (random(4)); empty when it cannot be read."""
    return _line(path)


def _line(path: Path) -> str:
    try:
        word = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    # While it is first set up, systemd writes "uninitialized".
    return word if word.replace("-", "").isalnum() and word != "uninitialized" else ""
