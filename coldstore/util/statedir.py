"""The state directory: made for us alone, and held by one process at a time, of whatever machine."""

import fcntl
import os
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from coldstore.util.thishost import host_name

_LOCK = "lock"
_FILE_BYTES = 512
_UNKNOWN = "an unknown process"


class StateDirectoryInUse(Exception):
    """
    Another process holds the state directory.

    :ivar holder: which: ``process 1234 on archive1 since 2026-11-29T11:32:35Z``
    """

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(f"{path} is in use by another appliance ({holder}); one library has one appliance")
        self.holder = holder


class StateDirectory:
    """
    Holds ``lock`` in the directory until it is released or the process ends; children do not inherit it.

    An flock also holds against other machines where the directory is on a file system that they share and that passes locks on
    (NFS does, nfs(5)). Such a lock can be lost while the file server is out of reach: ``other_holder`` tells.
    """

    def __init__(self, path: Path, *, host: str | None = None) -> None:
        """
        Make the directory if it is missing, and take it.

        :param host: this machine's name in what others are told; None: the host name
        :raise StateDirectoryInUse: another process has it
        :raise OSError: it cannot be made or written
        """
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = path
        self._descriptor = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder_of(self._descriptor)
            os.close(self._descriptor)
            raise StateDirectoryInUse(path, holder) from None
        line = f"process {os.getpid()} on {host or host_name()}"
        # Two containers may have one name, and give all their first processes the same number.
        self._written = f"{line}\n{uuid4().hex}\n".encode()
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, self._written, 0)

    def other_holder(self) -> str | None:
        """
        Return who has taken the directory although we hold it, None when nobody has. Blocks on its file system.

        :raise OSError: it cannot be read
        """
        try:
            descriptor = os.open(self.path / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            # Whoever takes it writes it anew; before that it is cut off for a moment.
            is_ours = os.pread(descriptor, _FILE_BYTES, 0) in (self._written, b"")
            return None if is_ours else _holder_of(descriptor)
        finally:
            os.close(descriptor)

    def release(self) -> None:
        """Let go."""
        os.close(self._descriptor)


def holder_of(path: Path) -> str:
    """Return who holds a state directory now, without taking it; empty when nobody does, or nobody that may be seen."""
    try:
        descriptor = os.open(path / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _line_of(descriptor)
    finally:
        os.close(descriptor)
    return ""


def _line_of(descriptor: int) -> str:
    """Return what the lock says of its holder, in its first line; what earlier versions wrote is a process id alone."""
    words = os.pread(descriptor, _FILE_BYTES, 0).decode("utf-8", "replace").partition("\n")[0].strip()
    return f"process {words}" if words.isdecimal() else words or _UNKNOWN


def _holder_of(descriptor: int) -> str:
    """Return who has the lock, and since when: it was written when it was taken, and never after."""
    since = datetime.fromtimestamp(os.fstat(descriptor).st_mtime, UTC)
    return f"{_line_of(descriptor)} since {since.isoformat(timespec='seconds').replace('+00:00', 'Z')}"
