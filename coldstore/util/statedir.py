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
            holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._descriptor)
            raise StateDirectoryInUse(
                f"{path} is in use by another appliance (process {holder}); one library has one appliance"
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go."""
        os.close(self._descriptor)
