"""
The mover of a mounted LTFS volume: moves bytes between the disk and the files of one mountpoint.

Every operation opens the mountpoint first, proves that it is the root of another file system than its parent folder, and reaches files
only through that descriptor: what is meant for the tape cannot land in an empty mountpoint.

Reading goes past the page cache (O_DIRECT, else after POSIX_FADV_DONTNEED): a buffered read-back verifies memory, not the tape.
"""

import base64
import errno
import mmap
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from coldstore.ontape.paths import SHA256_ATTRIBUTE
from coldstore.tape.moving import (
    Emit,
    Fault,
    Line,
    Outgoing,
    Pace,
    copy_out,
    copy_plan,
    digest_of,
    emit_entries,
    naming_faults,
    read_ranges,
    serve,
)

BUFFER_BYTES = 2 * 1024 * 1024
"""Twice one write; ltfs cuts requests into its own blocks of 512 KiB."""

ALIGNMENT_BYTES = 4096
"""O_DIRECT on common disk file systems wants offsets, lengths and memory aligned to the page."""


@contextmanager
def volume_root(mountpoint: str, is_plain: bool) -> Iterator[int]:
    """
    Open the root of the volume.

    :param is_plain: the volume is announced to be a plain folder, so that it cannot be told from its parent.
    """
    with naming_faults("", "open"):
        try:
            root = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise Fault("VolumeGone", message=f"{mountpoint} does not exist") from error
        try:
            if not is_plain and os.fstat(root).st_dev == os.stat(os.path.dirname(mountpoint)).st_dev:
                raise Fault("VolumeGone", message=f"nothing is mounted on {mountpoint}")
            yield root
        finally:
            os.close(root)


def halves(buffer: memoryview) -> tuple[memoryview, memoryview]:
    """Two buffers out of one: while one is moved, the other is filled or hashed."""
    half = len(buffer) // 2
    return buffer[:half], buffer[half:]


def make_parents(root: int, path: str) -> None:
    """Make the folders above ``path``."""
    parts = path.split("/")[:-1]
    for depth in range(len(parts)):
        with suppress(FileExistsError):
            os.mkdir("/".join(parts[: depth + 1]), dir_fd=root)


def write_file(command: Line, root: int, buffer: memoryview, emit: Emit) -> Line:
    """Write one file with its attributes and its hash."""
    attributes = {f"user.{name}": base64.b64decode(value) for name, value in command["attributes"].items()}
    return _write(command, attributes, True, command["replace"], root, buffer, emit)


def put_file(command: Line, root: int, buffer: memoryview, emit: Emit) -> Line:
    """Write a small file in place of an earlier one."""
    return _write(command, {}, False, True, root, buffer, emit)


def _write(
    command: Line,
    attributes: dict[str, bytes],
    is_hashed: bool,
    replaces: bool,
    root: int,
    buffer: memoryview,
    emit: Emit,
) -> Line:
    """Write one file from a plan: write, fsync, attributes, close, and compare its size."""
    path = command["path"]
    started = time.monotonic()
    outgoing: Outgoing | None = None
    try:
        with naming_faults(path, "create"):
            make_parents(root, path)
            if replaces:
                with suppress(FileNotFoundError):
                    os.unlink(path, dir_fd=root)
            descriptor = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=root
            )
        outgoing = Outgoing(lambda rest: os.write(descriptor, rest), path, halves(buffer), Pace(emit))
        try:
            copy_plan(command["plan"], outgoing)
            with naming_faults(path, "fsync"):
                os.fsync(descriptor)
            if is_hashed:
                attributes[f"user.{SHA256_ATTRIBUTE}"] = outgoing.sha256().encode()
            with naming_faults(path, "set attributes"):
                for name, value in attributes.items():
                    os.setxattr(descriptor, name, value)
        except BaseException:
            with suppress(OSError):
                os.close(descriptor)
            raise
        with naming_faults(path, "close"):
            os.close(descriptor)
        with naming_faults(path, "stat"):
            size = os.stat(path, dir_fd=root).st_size
    except Fault as fault:
        if fault.fields.get("errno") in (errno.ENOSPC, errno.EDQUOT):
            done = outgoing.written_bytes if outgoing else 0
            raise Fault("EndOfTape", path=path, written=done) from fault
        raise
    finally:
        if outgoing is not None:
            outgoing.close()
    if size != outgoing.written_bytes:
        raise Fault("EndOfTape", path=path, written=size)
    return {"size": size, "sha256": outgoing.sha256(), "seconds": time.monotonic() - started}


class MountedFile:
    """
    A file of the volume being read past the page cache, forward, through the one buffer (an ``Incoming``).

    The buffer is a window of the file: wanted bytes that are in it cost nothing, so many small ranges are as quick as a large one.
    """

    def __init__(self, root: int, path: str, buffer: memoryview) -> None:
        self._path = path
        self._buffer = buffer
        self._start = 0
        self._end = 0
        with naming_faults(path, "open"):
            try:
                flags = os.O_RDONLY | os.O_CLOEXEC
                self._descriptor = os.open(path, flags | os.O_DIRECT, dir_fd=root)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._descriptor = os.open(path, flags, dir_fd=root)
        with naming_faults(path, "stat"):
            status = os.fstat(self._descriptor)
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        self.size_bytes = status.st_size
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise Fault("NoSuchFileOnVolume", path=path)

    def at(self, offset: int, wanted: int) -> memoryview:
        """See ``Incoming``."""
        if not self._start <= offset < self._end:
            try:
                self._fill(offset, len(self._buffer))
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                # One second chance, for the wanted bytes alone: a bad block behind them must not spoil them.
                self._fill(offset, wanted)
        head = offset - self._start
        return self._buffer[head : min(head + wanted, self._end - self._start)]

    def read_into(self, buffer: memoryview) -> None:
        """See ``Incoming``."""
        self._buffer = buffer
        self._start = self._end = 0

    def _fill(self, offset: int, wanted: int) -> None:
        start = offset - offset % ALIGNMENT_BYTES
        length = min(-(-(offset + wanted - start) // ALIGNMENT_BYTES) * ALIGNMENT_BYTES, len(self._buffer))
        self._start = self._end = start
        self._end += os.preadv(self._descriptor, [self._buffer[:length]], start)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


@contextmanager
def incoming_file(root: int, path: str, buffer: memoryview) -> Iterator[MountedFile]:
    """Open a file of the volume for reading."""
    incoming = MountedFile(root, path, buffer)
    try:
        yield incoming
    finally:
        incoming.close()


def verify_file(command: Line, root: int, buffer: memoryview, emit: Emit) -> Line:
    """Read a file back and return its size and digest."""
    path = command["path"]
    started = time.monotonic()
    buffers = halves(buffer)
    with incoming_file(root, path, buffers[0]) as incoming:
        size, digest = digest_of(incoming, path, buffers, emit)
    return {"size": size, "sha256": digest, "seconds": time.monotonic() - started}


def read_file(command: Line, root: int, buffer: memoryview, emit: Emit) -> Line:
    """Bring ranges of a file to their destinations."""
    with incoming_file(root, command["path"], halves(buffer)[0]) as incoming:
        read_ranges(command["plan"], command["block_bytes"], incoming, emit)
    return {}


def get_file(command: Line, root: int, buffer: memoryview, emit: Emit) -> Line:
    """Copy a small file to a scratch file on disk."""
    path = command["path"]
    with incoming_file(root, path, halves(buffer)[0]) as incoming:
        if incoming.size_bytes > command["limit"]:
            raise Fault("FileTooLarge", message=f"{path} has {incoming.size_bytes} bytes")
        return {"size": copy_out(incoming, path, command["destination"], BUFFER_BYTES // 2)}


def list_directory(command: Line, root: int, buffer: memoryview, emit: Emit) -> Line:
    """Report the entries of a directory, sorted by name, in groups."""
    path = command["path"] or "."
    with naming_faults(path, "list"):
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
        try:
            entries = []
            for name in sorted(os.listdir(directory)):
                status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                entries.append([name, stat.S_ISDIR(status.st_mode), status.st_size])
        finally:
            os.close(directory)
    emit_entries(entries, emit)
    return {}


def unlink_file(command: Line, root: int, buffer: memoryview, emit: Emit) -> Line:
    """Remove a file; harmless when there is none."""
    with naming_faults(command["path"], "unlink"), suppress(FileNotFoundError):
        os.unlink(command["path"], dir_fd=root)
    return {}


@contextmanager
def attribute_carrier(root: int, path: str) -> Iterator[int]:
    """Open what carries attributes: the root itself, a folder or a file."""
    if not path:
        yield root
        return
    with naming_faults(path, "open"):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=root)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def get_attributes(command: Line, root: int, buffer: memoryview, emit: Emit) -> Line:
    """Read extended attributes of the user's name space; those without a value are left out."""
    values = {}
    with (
        attribute_carrier(root, command["path"]) as descriptor,
        naming_faults(command["path"], "get attributes"),
    ):
        for name in command["names"]:
            try:
                values[name] = base64.b64encode(os.getxattr(descriptor, f"user.{name}")).decode()
            except OSError as error:
                if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
                    raise
    return {"values": values}


def set_attribute(command: Line, root: int, buffer: memoryview, emit: Emit) -> Line:
    """Set one extended attribute of the user's name space."""
    with (
        attribute_carrier(root, command["path"]) as descriptor,
        naming_faults(command["path"], f"set attribute {command['name']}"),
    ):
        os.setxattr(descriptor, f"user.{command['name']}", base64.b64decode(command["value"]))
    return {}


def volume_space(command: Line, root: int, buffer: memoryview, emit: Emit) -> Line:
    """Ask for the space of the volume."""
    with naming_faults("", "statfs"):
        status = os.fstatvfs(root)
    return {"total": status.f_blocks * status.f_frsize, "free": status.f_bavail * status.f_frsize}


OPERATIONS: dict[str, Callable[[Line, int, memoryview, Emit], Line]] = {
    "write": write_file,
    "put_file": put_file,
    "verify": verify_file,
    "read": read_file,
    "get_file": get_file,
    "list": list_directory,
    "unlink": unlink_file,
    "get_attributes": get_attributes,
    "set_attribute": set_attribute,
    "space": volume_space,
}


def obey(command: Line, mountpoint: str, is_plain: bool, buffer: memoryview, emit: Emit) -> Line:
    """Carry out one command and return the last line of its answer."""
    try:
        with volume_root(mountpoint, is_plain) as root:
            return {"done": OPERATIONS[command["op"]](command, root, buffer, emit)}
    except Fault as fault:
        return {"fault": fault.fields}


def main(arguments: Sequence[str]) -> None:
    """
    Serve one mountpoint until standard input is closed.

    :param arguments: the mountpoint, and ``plain`` when it is announced to be a plain folder.
    """
    mountpoint, is_plain = arguments[0], "plain" in arguments[1:]
    buffer = memoryview(mmap.mmap(-1, BUFFER_BYTES))
    serve(lambda command, emit: obey(command, mountpoint, is_plain, buffer, emit))


if __name__ == "__main__":
    main(sys.argv[1:])
