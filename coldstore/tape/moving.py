"""
What all movers share: the language between the appliance and its child process, copying a plan to a file, and delivering ranges of a file.

A mover is a stand-alone program, since I/O on a tape can hang for minutes: it can be killed, and its loss takes nothing with it. It starts
without Twisted. Commands come as JSON lines on standard input, one at a time; answers, progress and outcomes of ranges go as JSON
lines to standard output (``coldstore.tape.mover`` is the other end). Long lists come in plan files. It ends when its standard input is
closed, also in the middle of a copy, and it works in a session of its own, so that an interrupt from a terminal does not hit it.
"""

import errno
import hashlib
import json
import os
import queue
import signal
import sys
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, suppress
from typing import Any, BinaryIO, Protocol

PROGRESS_SECONDS = 0.5
FLUSH_RANGES = 256
FSYNC_THREADS = 8
"""Destinations of one group are fsynced side by side: the disk's journal then commits many at once."""
FLUSH_BYTES = 64 * 1024 * 1024
WINDOW_BYTES = 1024 * 1024
"""What is read at once of a staged file of which several ranges are wanted."""
NEAR_BYTES = 64 * 1024
"""A gap of this size between ranges costs less to read than another read."""
ENTRIES_PER_LINE = 500
SWITCH_SECONDS = 0.0001
"""How long a thread that has written or hashed a block waits for the one that makes the next one: much less than Python has it wait."""

LTFS_HAS_ENDED = "the file system is gone, its ltfs has ended"
NO_TAPE = "there is no tape in the drive any more"
VOLUME_GONE: Mapping[int, str] = {
    errno.ENOTCONN: LTFS_HAS_ENDED,
    errno.ECONNABORTED: LTFS_HAS_ENDED,
    errno.ENODEV: LTFS_HAS_ENDED,
    errno.ENOMEDIUM: NO_TAPE,
    errno.ENXIO: NO_TAPE,
}
"""What a dead file system in user space answers, and a drive without a tape."""

Line = dict[str, Any]
Emit = Callable[[Line], None]


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
            gone = f"{operation} of {path!r}: {VOLUME_GONE[number]} ({error.strerror})"
            raise Fault("VolumeGone", message=gone) from error
        if number == errno.EEXIST:
            raise Fault("FileExistsOnVolume", path=path) from error
        if number in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR):
            raise Fault("NoSuchFileOnVolume", path=path) from error
        raise Fault(
            "MediumFault", path=path, operation=operation, errno=number, message=error.strerror or str(error)
        ) from error


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


class Sha256:
    """The SHA-256 of a stream, computed beside the I/O on it: a drive that streams must not wait for a processor."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._thread = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None

    def update(self, chunk: memoryview) -> None:
        """Begin to take more bytes, which must stay where they are until ``settle``."""
        self.settle()
        self._pending = self._thread.submit(self._digest.update, chunk)

    def settle(self) -> None:
        """Wait until everything was taken."""
        if self._pending is not None:
            self._pending.result()
            self._pending = None

    def hexdigest(self) -> str:
        """Return the digest of everything."""
        self.settle()
        return self._digest.hexdigest()

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()


class Outgoing:
    """
    A file being written to the volume, through two buffers: one is filled while the other is written and hashed beside that.

    :param put: writes as much as it can of what it is given and returns how much, in a thread of its own; its errors are told to be
        those of ``path``.
    """

    def __init__(
        self,
        put: Callable[[memoryview], int],
        path: str,
        buffers: tuple[memoryview, memoryview],
        pace: "Pace",
    ) -> None:
        self._put = put
        self._path = path
        self._buffer, self._spare = buffers
        self._filled = 0
        self._pace = pace
        self._hash = Sha256()
        self._thread = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None
        self.written_bytes = 0

    def room(self) -> memoryview:
        """The part of the buffer that is to be filled next."""
        if self._filled == len(self._buffer):
            self._flush()
        return self._buffer[self._filled :]

    def filled(self, count: int) -> None:
        """Say how much of the room was used."""
        self._filled += count

    def take(self, content: memoryview) -> None:
        """Fill in what is in memory already."""
        end = self._filled + len(content)
        if end <= len(self._buffer):
            self._buffer[self._filled : end] = content
            self._filled = end
            return
        while content:
            room = self.room()[: len(content)]
            room[:] = content[: len(room)]
            self._filled += len(room)
            content = content[len(room) :]

    def finish(self) -> None:
        """Write the rest, and wait for all of it."""
        self._flush()
        self._settle()

    def rest(self) -> None:
        """Wait until nothing is being written, however that ends: somebody else is about to work on the file."""
        if self._pending is not None:
            wait([self._pending])

    def _flush(self) -> None:
        """Begin to write what is in the buffer."""
        self._settle()
        self._pending = self._thread.submit(self._write, self._buffer[: self._filled])
        self._buffer, self._spare = self._spare, self._buffer
        self._filled = 0

    def _settle(self) -> None:
        """Wait until what was begun is written; what went wrong with it is raised here."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()
            self._pace.reached(self.written_bytes)

    def _write(self, rest: memoryview) -> None:
        """Write, however short the single writes are."""
        self._hash.update(rest)
        with naming_faults(self._path, "write"):
            while rest:
                count = self._put(rest)
                if count == 0:
                    raise OSError(errno.ENOSPC, "nothing more was accepted")
                self.written_bytes += count
                rest = rest[count:]
        self._hash.settle()

    def close(self) -> None:
        """Let go of what the writing needed."""
        self._thread.shutdown()
        self._hash.close()

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


def crc64nvme(chunk: memoryview, previous: int) -> int:
    """The CRC-64/NVME of a chunk behind others."""
    # Loaded when it is needed: it takes half of the time in which a mover starts.
    from coldstore.util import checksums

    return checksums.crc64nvme(chunk, previous)


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


class OwnBytes:
    """The file of our own bytes that go between ranges of others; read forward, and checked as a whole."""

    def __init__(self, path: str, size_bytes: int, expected: int) -> None:
        self._path = path
        self._left = size_bytes
        self._expected = expected
        self._checksum = 0
        self._buffer = memoryview(bytearray(WINDOW_BYTES))
        try:
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by ``close``
        except OSError as error:
            raise self._fault(error.errno, str(error.strerror)) from error

    def read(self, length: int) -> memoryview:
        """Read exactly so much, at most ``WINDOW_BYTES``; it is good until the next call."""
        content = self._buffer[:length]
        try:
            count = self._file.readinto(content) if length else 0
        except OSError as error:
            raise self._fault(error.errno, str(error.strerror)) from error
        if count != length:
            raise self._fault(errno.EIO, "what was made ready for the transfer is cut off")
        self._checksum = crc64nvme(content, self._checksum)
        self._left -= length
        return content

    def copy_to(self, outgoing: Outgoing, length: int) -> None:
        """Copy so much."""
        while length:
            step = min(length, WINDOW_BYTES)
            outgoing.take(self.read(step))
            length -= step

    def copy_rest(self, outgoing: Outgoing) -> None:
        """
        Copy what is left.

        :raise Fault: all in all it was not what it should be
        """
        self.copy_to(outgoing, self._left)
        if self._checksum != self._expected:
            raise self._fault(errno.EIO, "what was made ready for the transfer has changed")

    def close(self) -> None:
        """Close it."""
        self._file.close()

    def _fault(self, number: int | None, message: str) -> Fault:
        return Fault("DestinationFault", path=self._path, errno=number or errno.EIO, message=message)


class Weave:
    """Ranges of staged files with bytes of our own between them, copied in stretches of neighbours."""

    def __init__(self, ordinal: int, head: Line, plan: BinaryIO, sources: Sources) -> None:
        self._ordinal = ordinal
        self._own: tuple[str, int, int] = head["own"]
        self._paths: list[str] = head["sources"]
        self._count: int = head["ranges"]
        columns = tuple(array("Q") for _ in range(5))
        for column in columns:
            try:
                column.fromfile(plan, self._count)
            except EOFError:
                raise Fault("BadPlan", message="the plan ends within its ranges") from None
        self._own_lengths, self._numbers, self._offsets, self._lengths, self._checksums = columns
        self._sources = sources
        self._window = memoryview(bytearray(WINDOW_BYTES))

    def copy(self, outgoing: Outgoing) -> None:
        """Copy everything, and compare every checksum."""
        with closing(OwnBytes(*self._own)) as own:
            first = 0
            while first < self._count:
                last, begin, end = self._stretch(first)
                if last == first + 1 and (
                    end - begin > WINDOW_BYTES or self._own_lengths[first] > WINDOW_BYTES
                ):
                    own.copy_to(outgoing, self._own_lengths[first])
                    piece = [
                        self._paths[self._numbers[first]],
                        begin,
                        self._lengths[first],
                        self._checksums[first],
                    ]
                    copy_range(self._ordinal, piece, self._sources, outgoing)
                else:
                    between = own.read(sum(self._own_lengths[first:last]))
                    self._copy_stretch(outgoing, first, last, begin, end, between)
                first = last
            own.copy_rest(outgoing)

    def _stretch(self, first: int) -> tuple[int, int, int]:
        """
        Return the end of the ranges from ``first`` on that are read in one go, and from where to where in their file.

        They lie together closely enough that at least a third of what is read is wanted. One that is larger than the window is alone.
        """
        number = self._numbers[first]
        begin = self._offsets[first]
        wanted = self._lengths[first]
        end = begin + wanted
        own = self._own_lengths[first]
        last = first + 1
        while last < self._count and self._numbers[last] == number:
            offset, length = self._offsets[last], self._lengths[last]
            own += self._own_lengths[last]
            wanted += length
            low, high = min(begin, offset), max(end, offset + length)
            span = high - low
            if span > WINDOW_BYTES or span > 3 * wanted + NEAR_BYTES or own > WINDOW_BYTES:
                break
            begin, end = low, high
            last += 1
        return last, begin, end

    def _copy_stretch(
        self, outgoing: Outgoing, first: int, last: int, begin: int, end: int, between: memoryview
    ) -> None:
        # Loaded when it is needed, see ``crc64nvme``; and looked up once, for there are many.
        from coldstore.util.checksums import crc64nvme

        path = self._paths[self._numbers[first]]
        window = self._window[: end - begin]
        filled = self._read(path, window, begin)
        at = 0
        for own, offset, length, expected in zip(
            self._own_lengths[first:last],
            self._offsets[first:last],
            self._lengths[first:last],
            self._checksums[first:last],
            strict=True,
        ):
            place = offset - begin
            chunk = window[place : place + length]
            if place + length > filled:
                raise self._damaged(path, f"ends before byte {offset + length}")
            checksum = crc64nvme(chunk)
            if checksum != expected:
                raise self._damaged(
                    path, f"at byte {offset}: checksum {checksum:016x} instead of {expected:016x}"
                )
            outgoing.take(between[at : at + own])
            outgoing.take(chunk)
            at += own

    def _read(self, path: str, window: memoryview, begin: int) -> int:
        """Fill the window; return how much came, less only at the end of the file."""
        filled = 0
        try:
            descriptor = self._sources.descriptor(path)
            while filled < len(window) and (
                count := os.preadv(descriptor, [window[filled:]], begin + filled)
            ):
                filled += count
        except OSError as error:
            raise self._damaged(path, str(error.strerror)) from error
        return filled

    def _damaged(self, path: str, reason: str) -> Fault:
        return Fault("StagedBytesDamaged", ordinal=self._ordinal, path=path, reason=reason)


def copy_plan(plan_path: str, outgoing: Outgoing) -> None:
    """
    Copy all pieces of a plan.

    The plan is a sequence of JSON lines: ``[length]`` followed by so many raw bytes; ``[path, offset, length, crc64nvme]``; or an object of
    ``own`` (path, size and CRC64NVME of a file), ``sources`` (paths) and ``ranges`` (how many), followed by so many numbers of 64 bits for
    each column of a ``Woven``.
    """
    sources = Sources()
    try:
        with open(plan_path, "rb") as plan:
            for ordinal, line in enumerate(iter(plan.readline, b"")):
                piece = json.loads(line)
                if isinstance(piece, dict):
                    Weave(ordinal, piece, plan, sources).copy(outgoing)
                elif len(piece) == 1:
                    copy_literal(plan, piece[0], outgoing)
                else:
                    copy_range(ordinal, piece, sources, outgoing)
        outgoing.finish()
    finally:
        outgoing.rest()
        sources.close()


class Incoming(Protocol):
    """A file of the volume being read past the page cache, forward, through the one buffer."""

    def at(self, offset: int, wanted: int) -> memoryview:
        """
        Return up to ``wanted`` bytes from ``offset`` on; empty at the end of the file.

        :raise OSError: the drive cannot read the wanted bytes, even when nothing else is asked of it.
        """

    def read_into(self, buffer: memoryview) -> None:
        """Go on with another buffer: somebody still needs the bytes in this one."""


def digest_of(
    incoming: Incoming, path: str, buffers: tuple[memoryview, memoryview], emit: Emit
) -> tuple[int, str]:
    """
    Read a file whole; return its size and digest.

    :param buffers: one is hashed while the other is filled; the first is the one that ``incoming`` has.
    """
    pace = Pace(emit)
    free, hashed = buffers
    offset = 0
    with closing(Sha256()) as digest:
        while True:
            with naming_faults(path, "read"):
                chunk = incoming.at(offset, len(free))
            if not chunk:
                return offset, digest.hexdigest()
            digest.update(chunk)
            offset += len(chunk)
            free, hashed = hashed, free
            incoming.read_into(free)
            pace.reached(offset)


def copy_out(incoming: Incoming, path: str, destination: str, chunk_bytes: int) -> int:
    """Copy a small file to a scratch file on disk; return its size."""
    offset = 0
    with open(destination, "wb") as scratch:
        while True:
            with naming_faults(path, "read"):
                chunk = incoming.at(offset, chunk_bytes)
            if not chunk:
                return offset
            scratch.write(chunk)
            offset += len(chunk)


class Destinations:
    """Files on disk that receive ranges; what was delivered is reported after its fsync, in groups."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._descriptors: dict[str, int] = {}
        self._waiting: list[Line] = []
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

    def delivered(self, outcome: Line) -> None:
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
) -> Line:
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


def read_ranges(plan_path: str, block_bytes: int, incoming: Incoming, emit: Emit) -> None:
    """
    Bring ranges of a file to their destinations, in the order of their offsets.

    The plan has one JSON line per range: ``[ordinal, offset, length, crc64nvme, destination, destination_offset]``.
    """
    pace = Pace(emit)
    destinations = Destinations(emit)
    with open(plan_path, "rb") as plan:
        pieces = sorted((json.loads(line) for line in plan), key=lambda piece: (piece[1], piece[0]))
    done = 0
    try:
        for piece in pieces:
            destinations.delivered(read_range(piece, block_bytes, incoming, destinations))
            done += piece[2]
            pace.reached(done)
        destinations.flush()
    finally:
        destinations.close()


def emit_entries(entries: Sequence[Sequence[Any]], emit: Emit) -> None:
    """Report the entries of a directory, in groups."""
    for start in range(0, len(entries), ENTRIES_PER_LINE):
        emit({"entries": entries[start : start + ENTRIES_PER_LINE]})


def listen(commands: "queue.SimpleQueue[Line]") -> None:
    """Take commands from standard input; its end is the end of this process, whatever it is doing."""
    for line in sys.stdin.buffer:
        commands.put(json.loads(line))
    os._exit(0)


def serve(obey: Callable[[Line, Emit], Line]) -> None:
    """
    Obey commands until standard input is closed.

    :param obey: carries out one command, reporting on the way, and returns the last line of its answer.
    """
    with suppress(PermissionError):
        os.setsid()
    sys.setswitchinterval(SWITCH_SECONDS)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    commands: queue.SimpleQueue[Line] = queue.SimpleQueue()
    threading.Thread(target=listen, args=(commands,), daemon=True).start()
    while True:
        command = commands.get()
        number = command["id"]

        def emit(line: Line, number: int = number) -> None:
            sys.stdout.write(json.dumps({"id": number, **line}) + "\n")
            sys.stdout.flush()

        emit(obey(command, emit))
