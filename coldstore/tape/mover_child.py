"""
The mover: a small program that moves bytes between the disk and one mounted volume.

A stand-alone child process, since file I/O on a tape file system can hang for minutes: it can be killed, and its loss takes nothing with
it. It starts without Twisted. Commands come as JSON lines on standard input, one at a time; answers, progress and outcomes of ranges go
as JSON lines to standard output (``coldstore.tape.mover`` is the other end). Long lists come in plan files. It ends when its standard
input is closed, also in the middle of a copy, and it works in a session of its own, so that an interrupt from a terminal does not hit it.

Every operation opens the mountpoint first, proves that it is the root of another file system than its parent folder, and reaches files
only through that descriptor: what is meant for the tape cannot land in an empty mountpoint.

Reading goes past the page cache (O_DIRECT, else after POSIX_FADV_DONTNEED): a buffered read-back verifies memory, not the tape.
"""

import base64
import errno
import hashlib
import json
import mmap
import os
import queue
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

from coldstore.util.checksums import crc64nvme

BUFFER_BYTES = 1024 * 1024
"""One write or read; ltfs cuts requests into its own blocks of 512 KiB."""

ALIGNMENT_BYTES = 4096
"""O_DIRECT on common disk file systems wants offsets, lengths and memory aligned to the page."""

PROGRESS_SECONDS = 0.5
FLUSH_RANGES = 256
FSYNC_THREADS = 8
"""Destinations of one group are fsynced side by side: the disk's journal then commits many at once."""
FLUSH_BYTES = 64 * 1024 * 1024
ENTRIES_PER_LINE = 500

VOLUME_GONE = frozenset({errno.ENOTCONN, errno.ECONNABORTED, errno.ENODEV})
"""What a dead file system in user space answers."""

Emit = Callable[[dict[str, Any]], None]


class Fault(Exception):
    """An operation failed; the fields name the kind and what the other end needs to tell it."""

    def __init__(self, kind: str, **fields: object) -> None:
        super().__init__(kind)
        self.fields: dict[str, object] = {"kind": kind, **fields}


@contextmanager
def naming_faults(path: str, operation: str) -> Iterator[None]:
    """Sort the errors of the volume by what they mean."""
    try:
        yield
    except OSError as error:
        number = error.errno or errno.EIO
        if number in VOLUME_GONE:
            raise Fault("VolumeGone", message=f"{operation} of {path!r}: {error.strerror}") from error
        if number == errno.EEXIST:
            raise Fault("FileExistsOnVolume", path=path) from error
        if number in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR):
            raise Fault("NoSuchFileOnVolume", path=path) from error
        raise Fault(
            "MediumFault", path=path, operation=operation, errno=number, message=error.strerror or str(error)
        ) from error


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


def make_parents(root: int, path: str) -> None:
    """Make the folders above ``path``."""
    parts = path.split("/")[:-1]
    for depth in range(len(parts)):
        with suppress(FileExistsError):
            os.mkdir("/".join(parts[: depth + 1]), dir_fd=root)


class Pace:
    """Says when the next progress line is due."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._next = time.monotonic() + PROGRESS_SECONDS

    def reached(self, done_bytes: int) -> None:
        """Tell the other end, not too often."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + PROGRESS_SECONDS
            self._emit({"progress": done_bytes})


class Outgoing:
    """A file being written to the volume, through the one buffer."""

    def __init__(self, descriptor: int, path: str, buffer: memoryview, pace: Pace) -> None:
        self._descriptor = descriptor
        self._path = path
        self._buffer = buffer
        self._filled = 0
        self._pace = pace
        self._hash = hashlib.sha256()
        self.written_bytes = 0

    def room(self) -> memoryview:
        """The part of the buffer that is to be filled next."""
        if self._filled == len(self._buffer):
            self.flush()
        return self._buffer[self._filled :]

    def filled(self, count: int) -> None:
        """Say how much of the room was used."""
        self._filled += count

    def flush(self) -> None:
        """Write what is in the buffer, however short the single writes are."""
        rest = self._buffer[: self._filled]
        self._hash.update(rest)
        with naming_faults(self._path, "write"):
            while rest:
                count = os.write(self._descriptor, rest)
                if count == 0:
                    raise OSError(errno.ENOSPC, "nothing more was accepted")
                self.written_bytes += count
                rest = rest[count:]
        self._filled = 0
        self._pace.reached(self.written_bytes)

    def sha256(self) -> str:
        """The digest of what was written."""
        return self._hash.hexdigest()


class Sources:
    """Staged files; the last one stays open, since neighbours in a plan lie in the same file."""

    def __init__(self) -> None:
        self._path: str | None = None
        self._descriptor = -1

    def descriptor(self, path: str) -> int:
        """Open ``path``, or go on with it."""
        if path != self._path:
            self.close()
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._path = path
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        return self._descriptor

    def close(self) -> None:
        """Close what is open."""
        if self._path is not None:
            os.close(self._descriptor)
            self._path = None


def copy_literal(plan: BinaryIO, length: int, outgoing: Outgoing) -> None:
    """Copy bytes that lie in the plan itself."""
    while length:
        room = outgoing.room()[:length]
        count = plan.readinto(room)  # type: ignore[attr-defined]
        if not count:
            raise Fault("BadPlan", message="the plan ends within a literal")
        outgoing.filled(count)
        length -= count


def copy_range(ordinal: int, piece: Sequence[Any], sources: Sources, outgoing: Outgoing) -> None:
    """Copy bytes of a staged file and compare their checksum."""
    path, offset, length, expected = piece
    checksum = 0
    try:
        descriptor = sources.descriptor(path)
    except OSError as error:
        raise Fault("StagedBytesDamaged", ordinal=ordinal, path=path, reason=str(error.strerror)) from error
    while length:
        room = outgoing.room()[:length]
        try:
            count = os.preadv(descriptor, [room], offset)
        except OSError as error:
            raise Fault(
                "StagedBytesDamaged", ordinal=ordinal, path=path, reason=str(error.strerror)
            ) from error
        if count == 0:
            raise Fault(
                "StagedBytesDamaged", ordinal=ordinal, path=path, reason=f"ends before byte {offset + length}"
            )
        checksum = crc64nvme(room[:count], checksum)
        outgoing.filled(count)
        offset += count
        length -= count
    if checksum != expected:
        raise Fault(
            "StagedBytesDamaged",
            ordinal=ordinal,
            path=path,
            reason=f"checksum {checksum:016x} instead of {expected:016x}",
        )


def copy_plan(plan_path: str, outgoing: Outgoing) -> None:
    """
    Copy all pieces of a plan.

    The plan is a sequence of JSON lines: ``[length]`` followed by so many raw bytes, or ``[path, offset, length, crc64nvme]``.
    """
    sources = Sources()
    try:
        with open(plan_path, "rb") as plan:
            for ordinal, line in enumerate(iter(plan.readline, b"")):
                piece = json.loads(line)
                if len(piece) == 1:
                    copy_literal(plan, piece[0], outgoing)
                else:
                    copy_range(ordinal, piece, sources, outgoing)
        outgoing.flush()
    finally:
        sources.close()


def write_file(command: dict[str, Any], root: int, buffer: memoryview, emit: Emit) -> dict[str, Any]:
    """Write one file from a plan: write, fsync, attributes, close, and compare its size."""
    path = command["path"]
    started = time.monotonic()
    outgoing: Outgoing | None = None
    try:
        with naming_faults(path, "create"):
            make_parents(root, path)
            if command["replace"]:
                with suppress(FileNotFoundError):
                    os.unlink(path, dir_fd=root)
            descriptor = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=root
            )
        outgoing = Outgoing(descriptor, path, buffer, Pace(emit))
        try:
            copy_plan(command["plan"], outgoing)
            with naming_faults(path, "fsync"):
                os.fsync(descriptor)
            attributes = {name: base64.b64decode(value) for name, value in command["attributes"].items()}
            if command["hash_attribute"]:
                attributes[command["hash_attribute"]] = outgoing.sha256().encode()
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
    if size != outgoing.written_bytes:
        raise Fault("EndOfTape", path=path, written=size)
    return {"size": size, "sha256": outgoing.sha256(), "seconds": time.monotonic() - started}


class Incoming:
    """
    A file of the volume being read past the page cache, forward, through the one buffer.

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
        """
        Return up to ``wanted`` bytes from ``offset`` on; empty at the end of the file.

        :raise OSError: the drive cannot read the wanted bytes, even when nothing else is asked of it.
        """
        if not self._start <= offset < self._end:
            try:
                self._fill(offset, BUFFER_BYTES)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                # One second chance, for the wanted bytes alone: a bad block behind them must not spoil them.
                self._fill(offset, wanted)
        head = offset - self._start
        return self._buffer[head : min(head + wanted, self._end - self._start)]

    def _fill(self, offset: int, wanted: int) -> None:
        start = offset - offset % ALIGNMENT_BYTES
        length = min(-(-(offset + wanted - start) // ALIGNMENT_BYTES) * ALIGNMENT_BYTES, BUFFER_BYTES)
        self._start = self._end = start
        self._end += os.preadv(self._descriptor, [self._buffer[:length]], start)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


@contextmanager
def incoming_file(root: int, path: str, buffer: memoryview) -> Iterator[Incoming]:
    """Open a file of the volume for reading."""
    incoming = Incoming(root, path, buffer)
    try:
        yield incoming
    finally:
        incoming.close()


def verify_file(command: dict[str, Any], root: int, buffer: memoryview, emit: Emit) -> dict[str, Any]:
    """Read a file back and return its size and digest."""
    path = command["path"]
    started = time.monotonic()
    pace = Pace(emit)
    digest = hashlib.sha256()
    offset = 0
    with incoming_file(root, path, buffer) as incoming:
        while True:
            with naming_faults(path, "read"):
                chunk = incoming.at(offset, BUFFER_BYTES)
            if not chunk:
                break
            digest.update(chunk)
            offset += len(chunk)
            pace.reached(offset)
    return {"size": offset, "sha256": digest.hexdigest(), "seconds": time.monotonic() - started}


class Destinations:
    """Files on disk that receive ranges; what was delivered is reported after its fsync, in groups."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._descriptors: dict[str, int] = {}
        self._waiting: list[dict[str, Any]] = []
        self._waiting_bytes = 0
        self._fsyncs = ThreadPoolExecutor(FSYNC_THREADS)

    def write(self, path: str, chunk: memoryview, offset: int) -> None:
        """Write a chunk, however short the single writes are."""
        try:
            if path not in self._descriptors:
                self._descriptors[path] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            while chunk:
                count = os.pwrite(self._descriptors[path], chunk, offset)
                offset += count
                self._waiting_bytes += count
                chunk = chunk[count:]
        except OSError as error:
            raise self._fault(path, error) from error

    def delivered(self, outcome: dict[str, Any]) -> None:
        """A range is complete; report it with the next group."""
        self._waiting.append(outcome)
        if len(self._waiting) >= FLUSH_RANGES or self._waiting_bytes >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Make all delivered ranges durable and report them."""
        pending = {path: self._fsyncs.submit(os.fsync, each) for path, each in self._descriptors.items()}
        for path, fsync in pending.items():
            try:
                fsync.result()
            except OSError as error:
                raise self._fault(path, error) from error
        self._close_all()
        for outcome in self._waiting:
            self._emit({"range": outcome})
        self._waiting.clear()
        self._waiting_bytes = 0

    def close(self) -> None:
        """Close what an error left open."""
        self._fsyncs.shutdown()
        self._close_all()

    def _close_all(self) -> None:
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()

    @staticmethod
    def _fault(path: str, error: OSError) -> Fault:
        return Fault("DestinationFault", path=path, errno=error.errno, message=error.strerror)


def read_range(
    piece: Sequence[Any], block_bytes: int, incoming: Incoming, destinations: Destinations
) -> dict[str, Any]:
    """
    Bring one range to its destination.

    :return: the outcome as the other end wants it.
    """
    ordinal, offset, length, expected, destination, place = piece
    done = checksum = block = 0
    blocks: list[int] = []
    if not length:
        destinations.write(destination, memoryview(b""), place)
    while done < length:
        wanted = min(length - done, block_bytes - done % block_bytes)
        try:
            chunk = incoming.at(offset + done, wanted)
        except OSError as error:
            if error.errno in VOLUME_GONE:
                raise Fault("VolumeGone", message=str(error)) from error
            return {"ordinal": ordinal, "state": "unreadable", "blocks": [], "detail": str(error.strerror)}
        if not chunk:
            detail = f"the file ends at byte {offset + done}"
            return {"ordinal": ordinal, "state": "damaged", "blocks": [], "detail": detail}
        checksum = crc64nvme(chunk, checksum)
        block = crc64nvme(chunk, block)
        destinations.write(destination, chunk, place + done)
        done += len(chunk)
        if done % block_bytes == 0 or done == length:
            blocks.append(block)
            block = 0
    if checksum != expected:
        detail = f"checksum {checksum:016x} instead of {expected:016x}"
        return {"ordinal": ordinal, "state": "damaged", "blocks": [], "detail": detail}
    return {"ordinal": ordinal, "state": "delivered", "blocks": blocks, "detail": ""}


def read_file(command: dict[str, Any], root: int, buffer: memoryview, emit: Emit) -> dict[str, Any]:
    """
    Bring ranges of a file to their destinations, in the order of their offsets.

    The plan has one JSON line per range: ``[ordinal, offset, length, crc64nvme, destination, destination_offset]``.
    """
    pace = Pace(emit)
    destinations = Destinations(emit)
    with open(command["plan"], "rb") as plan:
        pieces = sorted((json.loads(line) for line in plan), key=lambda piece: (piece[1], piece[0]))
    done = 0
    try:
        with incoming_file(root, command["path"], buffer) as incoming:
            for piece in pieces:
                destinations.delivered(read_range(piece, command["block_bytes"], incoming, destinations))
                done += piece[2]
                pace.reached(done)
        destinations.flush()
    finally:
        destinations.close()
    return {}


def get_file(command: dict[str, Any], root: int, buffer: memoryview, emit: Emit) -> dict[str, Any]:
    """Copy a small file to a scratch file on disk."""
    path = command["path"]
    offset = 0
    with incoming_file(root, path, buffer) as incoming, open(command["destination"], "wb") as destination:
        if incoming.size_bytes > command["limit"]:
            raise Fault("FileTooLarge", message=f"{path} has {incoming.size_bytes} bytes")
        while True:
            with naming_faults(path, "read"):
                chunk = incoming.at(offset, BUFFER_BYTES)
            if not chunk:
                return {"size": offset}
            destination.write(chunk)
            offset += len(chunk)


def list_directory(command: dict[str, Any], root: int, buffer: memoryview, emit: Emit) -> dict[str, Any]:
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
    for start in range(0, len(entries), ENTRIES_PER_LINE):
        emit({"entries": entries[start : start + ENTRIES_PER_LINE]})
    return {}


def unlink_file(command: dict[str, Any], root: int, buffer: memoryview, emit: Emit) -> dict[str, Any]:
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


def get_attributes(command: dict[str, Any], root: int, buffer: memoryview, emit: Emit) -> dict[str, Any]:
    """Read extended attributes; those without a value are left out."""
    values = {}
    with (
        attribute_carrier(root, command["path"]) as descriptor,
        naming_faults(command["path"], "get attributes"),
    ):
        for name in command["names"]:
            try:
                values[name] = base64.b64encode(os.getxattr(descriptor, name)).decode()
            except OSError as error:
                if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
                    raise
    return {"values": values}


def set_attribute(command: dict[str, Any], root: int, buffer: memoryview, emit: Emit) -> dict[str, Any]:
    """Set one extended attribute."""
    with (
        attribute_carrier(root, command["path"]) as descriptor,
        naming_faults(command["path"], f"set attribute {command['name']}"),
    ):
        os.setxattr(descriptor, command["name"], base64.b64decode(command["value"]))
    return {}


def volume_space(command: dict[str, Any], root: int, buffer: memoryview, emit: Emit) -> dict[str, Any]:
    """Ask for the space of the volume."""
    with naming_faults("", "statfs"):
        status = os.fstatvfs(root)
    return {"total": status.f_blocks * status.f_frsize, "free": status.f_bavail * status.f_frsize}


OPERATIONS: dict[str, Callable[[dict[str, Any], int, memoryview, Emit], dict[str, Any]]] = {
    "write": write_file,
    "verify": verify_file,
    "read": read_file,
    "get_file": get_file,
    "list": list_directory,
    "unlink": unlink_file,
    "get_attributes": get_attributes,
    "set_attribute": set_attribute,
    "space": volume_space,
}


def obey(
    command: dict[str, Any], mountpoint: str, is_plain: bool, buffer: memoryview, emit: Emit
) -> dict[str, Any]:
    """Carry out one command and return the last line of its answer."""
    try:
        with volume_root(mountpoint, is_plain) as root:
            return {"done": OPERATIONS[command["op"]](command, root, buffer, emit)}
    except Fault as fault:
        return {"fault": fault.fields}


def listen(commands: "queue.SimpleQueue[dict[str, Any]]") -> None:
    """Take commands from standard input; its end is the end of this process, whatever it is doing."""
    for line in sys.stdin.buffer:
        commands.put(json.loads(line))
    os._exit(0)


def main(arguments: Sequence[str]) -> None:
    """
    Serve one mountpoint until standard input is closed.

    :param arguments: the mountpoint, and ``plain`` when it is announced to be a plain folder.
    """
    with suppress(PermissionError):
        os.setsid()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    mountpoint, is_plain = arguments[0], "plain" in arguments[1:]
    buffer = memoryview(mmap.mmap(-1, BUFFER_BYTES))
    commands: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=listen, args=(commands,), daemon=True).start()
    while True:
        command = commands.get()
        number = command["id"]

        def emit(line: dict[str, Any], number: int = number) -> None:
            sys.stdout.write(json.dumps({"id": number, **line}) + "\n")
            sys.stdout.flush()

        emit(obey(command, mountpoint, is_plain, buffer, emit))


if __name__ == "__main__":
    main(sys.argv[1:])
