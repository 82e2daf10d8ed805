"""The state directory: made for us alone, and held by one process at a time."""

import fcntl
import os
from pathlib import Path


class StateDirectoryInUse(Exception):
    """Another process holds the state directory; says which."""


class StateDirectory:
    """Holds ``lock`` in the directory for as long as this object lives; children do not inherit it."""

    def __init__(self, path: Path) -> None:
        """
        Make the directory if it is missing, and take it.

        :raise StateDirectoryInUse: another process has it
        :raise OSError: it cannot be made or written
        """
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = path
        self._descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise StateDirectoryInUse(
                f"{path} is in use by another appliance (process {_named_in(path) or 'unknown'}); one library has one appliance"
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go."""
        os.close(self._descriptor)


def holder_of(path: Path) -> str:
    """Return the process that holds a state directory now, without taking it; empty when none does, or none that may be seen."""
    try:
        descriptor = os.open(path / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _named_in(path)
    finally:
        os.close(descriptor)
    return ""


def _named_in(path: Path) -> str:
    return (path / "lock").read_bytes()[:32].decode("ascii", "replace").strip()
