"""
Who has a device: what the kernel's ``st`` and ``sg`` drivers decide, over plain files.

``/dev/nstN`` has a single opener. A holder needs no library of ours: it just keeps the file open. Whether anybody else has it open is asked
with a write lease (fcntl(2), F_SETLEASE), which the kernel grants to the sole opener only. The lease is kept as long as the node is,
so that a second opener with O_NONBLOCK is refused (EWOULDBLOCK; a real drive says EBUSY).
``/dev/sgN`` is opened exclusively by LTFS: a lock file per node, freed by the kernel when the owner dies.
"""

import errno
import fcntl
import os
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from coldstore.vtl.library import Drive, Library


@contextmanager
def tape_node(library: Library, drive: Drive, path: str) -> Iterator[None]:
    """
    Open a drive's non-rewinding node as its single opener.

    :raise OSError: EBUSY when anybody has it open; ENOENT and EACCES as the file system says.
    """
    descriptor = -1
    lock = os.open(library.path("locks", drive.nst), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            signal.signal(
                signal.SIGIO, signal.SIG_IGN
            )  # sent when somebody else tries to open; the default action kills
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except BlockingIOError:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path) from None
        yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)
        os.close(lock)


def take_generic_node(library: Library, drive: Drive) -> int:
    """
    Open a drive's ``sg`` node exclusively; keep the descriptor as long as it is used.

    :raise OSError: EBUSY when ltfs, mkltfs or ltfsck has it.
    """
    path = library.node(drive.sg)
    os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    lock = os.open(library.path("locks", drive.sg), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.fcntl(lock, fcntl.F_OFD_SETLK, _whole_file(fcntl.F_WRLCK))
    except BlockingIOError:
        os.close(lock)
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path) from None
    return lock


def is_generic_node_taken(library: Library, drive: Drive) -> bool:
    """Tell whether ltfs, mkltfs or ltfsck has a drive's ``sg`` node, without getting in anybody's way."""
    lock = os.open(library.path("locks", drive.sg), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        answer = fcntl.fcntl(lock, fcntl.F_OFD_GETLK, _whole_file(fcntl.F_WRLCK))
        return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)
    finally:
        os.close(lock)


_FLOCK = "@hhqqi4x"
"""``struct flock`` of 64-bit Linux. Open file description locks end with the owner, survive fork, and can be asked for."""


def _whole_file(kind: int) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, 0, 0, 0)


def displaced_marker(library: Library, drive: Drive) -> str:
    """Return the file that says: somebody moved the tape under the process that owns the ``sg`` node."""
    return library.path("locks", f"{drive.sg}.displaced")
