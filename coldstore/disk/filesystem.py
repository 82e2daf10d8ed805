"""
The system calls of the disk behind one seam, so that tests can make a disk that is full or failing.

Every call blocks and belongs in a thread. Errors are ``OSError``; ``sorted_error`` says what they mean to a caller.
"""

import ctypes
import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from coldstore.interfaces.staging import DiskFault
from coldstore.model.errors import StagingFull
from coldstore.util.fallocate import KEEP_SIZE, NOT_OFFERED, PUNCH_HOLE, fallocate

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})

ALLOCATION_BYTES = 4096
"""Holes are punched, and slots laid out, in multiples of this: the page size, and the block size of common file systems."""

MOST_BUFFERS = 512
"""Buffers given to one ``pwritev`` (IOV_MAX is 1024 on Linux)."""

_libc = ctypes.CDLL(None, use_errno=True)
_sync_file_range = _libc.sync_file_range
_sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
_sync_file_range.restype = ctypes.c_int
# sync_file_range(2)
_WRITE = 2


def takes_nothing(error: OSError) -> bool:
    """Whether an error says that nothing can be written now, and nothing of what is there."""
    return error.errno in _NO_ROOM or error.errno == errno.EROFS


def sorted_error(error: OSError, what: str) -> StagingFull | DiskFault:
    """Return the refusal or the fault that ``error`` means; ``what`` says what was tried."""
    if error.errno in _NO_ROOM:
        return StagingFull(f"{what}: {error.strerror}")
    return DiskFault(f"{what}: {error.strerror or error}")


class FileSystem:
    """Linux, as it is."""

    def create(self, path: Path) -> int:
        """Make a new file and return its descriptor."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)

    def open(self, path: Path, *, for_writing: bool = False) -> int:
        """Open an existing file and return its descriptor."""
        return os.open(path, (os.O_RDWR if for_writing else os.O_RDONLY) | os.O_CLOEXEC)

    def close(self, descriptor: int) -> None:
        """Close a descriptor."""
        os.close(descriptor)

    def write(self, descriptor: int, buffers: Sequence[bytes | memoryview], offset_bytes: int) -> None:
        """Write all of ``buffers`` at an offset, however many calls it takes."""
        left = [memoryview(each) for each in buffers if len(each)]
        while left:
            written = os.pwritev(descriptor, left[:MOST_BUFFERS], offset_bytes)
            offset_bytes += written
            begun = 0
            while written:
                if written < len(left[begun]):
                    left[begun] = left[begun][written:]
                    break
                written -= len(left[begun])
                begun += 1
            del left[:begun]

    def read(self, descriptor: int, length_bytes: int, offset_bytes: int) -> bytes:
        """Read up to ``length_bytes``; fewer only at the end of the file."""
        first = os.pread(descriptor, length_bytes, offset_bytes)
        if len(first) == length_bytes or not first:
            return first
        parts = [first]
        got = len(first)
        while got < length_bytes and (more := os.pread(descriptor, length_bytes - got, offset_bytes + got)):
            parts.append(more)
            got += len(more)
        return b"".join(parts)

    def read_into(self, descriptor: int, buffer: bytearray | memoryview, offset_bytes: int) -> int:
        """Read into memory that is there; return how much came, less than its size only at the end of the file."""
        view = memoryview(buffer)
        got = 0
        while got < len(view) and (more := os.preadv(descriptor, [view[got:]], offset_bytes + got)):
            got += more
        return got

    def read_cached(self, descriptor: int, length_bytes: int, offset_bytes: int) -> bytes | None:
        """Read without waiting for the disk; None when not all of it is in the page cache, or the file system cannot tell."""
        content = bytearray(length_bytes)
        try:
            got = os.preadv(descriptor, [content], offset_bytes, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, *NOT_OFFERED):
                raise
            return None
        return bytes(content) if got == length_bytes else None

    def begin_writing(self, descriptor: int, offset_bytes: int, length_bytes: int) -> None:
        """
        Have the disk begin with what was written, so that ``sync`` has less to wait for. Promises nothing and fails for nothing:
        what is wrong ``sync`` tells.
        """
        _sync_file_range(descriptor, offset_bytes, length_bytes, _WRITE)

    def sync(self, descriptor: int) -> None:
        """Make content, size and allocation durable (``fdatasync`` includes what is needed to read the bytes back)."""
        os.fdatasync(descriptor)

    def sync_directory(self, path: Path) -> None:
        """Make names in a directory durable."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def allocate(self, descriptor: int, offset_bytes: int, length_bytes: int) -> bool:
        """Allocate space and grow the file over it; False where the file system cannot (then it is only grown)."""
        try:
            self._fallocate(descriptor, 0, offset_bytes, length_bytes)
        except OSError as error:
            if error.errno not in NOT_OFFERED:
                raise
            if os.fstat(descriptor).st_size < offset_bytes + length_bytes:
                os.ftruncate(descriptor, offset_bytes + length_bytes)
            return False
        return True

    def punch(self, descriptor: int, offset_bytes: int, length_bytes: int) -> bool:
        """Give whole blocks back to the file system; False where it cannot."""
        try:
            self._fallocate(descriptor, PUNCH_HOLE | KEEP_SIZE, offset_bytes, length_bytes)
        except OSError as error:
            if error.errno not in NOT_OFFERED:
                raise
            return False
        return True

    def _fallocate(self, descriptor: int, mode: int, offset_bytes: int, length_bytes: int) -> None:
        fallocate(descriptor, mode, offset_bytes, length_bytes)

    def truncate(self, descriptor: int, length_bytes: int) -> None:
        """Cut a file."""
        os.ftruncate(descriptor, length_bytes)

    def rename(self, source: Path, target: Path) -> None:
        """Give a file its name, in place of what had it."""
        os.rename(source, target)

    def unlink(self, path: Path) -> bool:
        """Remove a name; False when there was none."""
        try:
            os.unlink(path)
        except FileNotFoundError:
            return False
        return True

    def size(self, descriptor: int) -> int:
        """Length of an open file."""
        return os.fstat(descriptor).st_size

    def occupied(self, path: Path) -> int:
        """Bytes that the file system has allocated to a file; 0 when there is none."""
        try:
            return os.stat(path).st_blocks * 512
        except FileNotFoundError:
            return 0

    def occupied_open(self, descriptor: int) -> int:
        """The same of an open file."""
        return os.fstat(descriptor).st_blocks * 512

    def free_bytes(self, path: Path) -> int:
        """What the file system has left for a process that is not root."""
        state = os.statvfs(path)
        return state.f_bavail * state.f_frsize

    def names(self, path: Path) -> list[str]:
        """Entries of a directory, sorted."""
        return sorted(os.listdir(path))

    def make_directory(self, path: Path) -> None:
        """Make a directory with its parents, unless it is there."""
        path.mkdir(mode=0o750, parents=True, exist_ok=True)

    def content(self, path: Path) -> bytes:
        """Read a small file whole."""
        return path.read_bytes()

    def put(self, path: Path, content: bytes) -> None:
        """Write a small file whole and make its content durable (its name is not yet)."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        try:
            self.write(descriptor, [content], 0)
            self.sync(descriptor)
        finally:
            os.close(descriptor)

    def append(self, path: Path, content: bytes, whole: Callable[[int], int]) -> None:
        """
        Append to a small file, made if missing, and make that durable (its name is not yet).

        :param whole: how much of a file of some length is whole entries; a stump behind them is overwritten.
        """
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            self.write(descriptor, [content], whole(self.size(descriptor)))
            self.sync(descriptor)
        finally:
            os.close(descriptor)

    def exists(self, path: Path) -> bool:
        """Tell whether a name is there."""
        return os.path.lexists(path)
