"""
Moving bytes between the disk and a mounted volume.

Paths of the volume are relative to its root, with forward slashes and without a leading one (``coldstore/bundles/x.tar``). A mover
does one operation at a time; further calls wait in the order in which they were made. Every operation makes sure that it really works on
the volume: an empty mountpoint silently takes what was meant for the tape, and so does a tape that somebody has moved.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from twisted.internet.defer import Deferred
from zope.interface import Interface

SHA256_ATTRIBUTE = "ltfs.hash.sha256sum"
"""
The attribute of a file that holds its SHA-256, as lower-case hexadecimal digits. The name is LTFS's (LTFS Format Specification, hashes in
extended attributes); it is the only one that begins with ``ltfs.`` and that a file of ours may have.
"""

BLOCK_BYTES = 4 * 1024 * 1024
"""The block whose CRC64NVME the disk keeps beside every object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Literal:
    """Bytes that go to tape as they are: tar headers, padding, manifests."""

    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRange:
    """Bytes of a file on disk, with the checksum they must have while they are copied."""

    path: str
    offset_bytes: int
    length_bytes: int
    crc64nvme: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Woven:
    """
    Bytes of a file of our own, with ranges of other files between them: many small pieces in few words.

    First come ``own_lengths[0]`` bytes of our own, then range 0, and so on; behind the last range the rest of our own. The arrays have
    one unsigned 64-bit number (type code ``Q``) for each range: its file in ``sources``, where it lies there, and its CRC64NVME. Our own
    bytes are checked too, as a whole.
    """

    path: str
    size_bytes: int
    crc64nvme: int
    sources: tuple[str, ...]
    own_lengths: "array[int]"
    source_numbers: "array[int]"
    offsets: "array[int]"
    lengths: "array[int]"
    checksums: "array[int]"

    @property
    def total_bytes(self) -> int:
        """All bytes."""
        return self.size_bytes + sum(self.lengths)

    @property
    def columns(self) -> tuple["array[int]", ...]:
        """What there is for each range, in the order of the fields."""
        return self.own_lengths, self.source_numbers, self.offsets, self.lengths, self.checksums

    def ranges(self) -> Iterator[FileRange]:
        """Yield the ranges of others' files."""
        for number, offset_bytes, length_bytes, checksum in zip(
            self.source_numbers, self.offsets, self.lengths, self.checksums, strict=True
        ):
            yield FileRange(
                path=self.sources[number],
                offset_bytes=offset_bytes,
                length_bytes=length_bytes,
                crc64nvme=checksum,
            )


Piece = Literal | FileRange | Woven


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A file that the drive has taken whole, and that was found in its full size. It is durable only after the next sync of the volume."""

    size_bytes: int
    sha256: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What reading a file back from tape showed."""

    is_identical: bool
    size_bytes: int
    sha256: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRange:
    """Bytes of a file on tape that are wanted at a place of a file on disk."""

    offset_bytes: int
    length_bytes: int
    crc64nvme: int
    destination: str
    destination_offset_bytes: int


class RangeState(Enum):
    """How the reading of one range ended."""

    DELIVERED = "delivered"
    """The bytes have the expected checksum and are fsynced at their destination."""
    DAMAGED = "damaged"
    """The bytes could be read and have another checksum, or the file ends too early."""
    UNREADABLE = "unreadable"
    """The drive gave an error for these bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeRead:
    """
    The outcome of one range.

    ``ordinal`` is its place in the sequence that was asked for; ``block_crcs`` are the CRC64NVME of each block, counted from the start of
    the range, the last one perhaps short (empty unless delivered); ``detail`` says what was wrong (empty when delivered).
    """

    ordinal: int
    state: RangeState
    block_crcs: tuple[int, ...]
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One entry of a directory on the volume. A directory that has become empty need not be there any more."""

    name: str
    is_directory: bool
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSpace:
    """Space for files, without what the file system keeps for itself. An estimate where the drive is not asked."""

    total_bytes: int
    free_bytes: int


class MoverFault(Exception):
    """Moving bytes to or from a volume failed."""


class EndOfTape(MoverFault):
    """The volume has no room for the file (ENOSPC anywhere, fsync included, or the file ended up smaller than what was written)."""

    def __init__(self, path: str, written_bytes: int) -> None:
        super().__init__(f"the volume is full: {path} ended after {written_bytes} bytes")
        self.path = path
        self.written_bytes = written_bytes


class MediumFault(MoverFault):
    """The drive or the cartridge failed (EIO, EROFS, ESPIPE and their like)."""

    def __init__(self, path: str, operation: str, error_number: int, message: str) -> None:
        super().__init__(f"{operation} of {path!r} failed: {message} (errno {error_number})")
        self.path = path
        self.operation = operation
        self.error_number = error_number


class VolumeGone(MoverFault):
    """There is no volume behind the path any more: nothing is mounted, the file system has died, or somebody moved or changed the tape."""


class StagedBytesDamaged(MoverFault):
    """A range on disk is missing, too short or has another checksum. What was written of the file so far is a stump on the volume."""

    def __init__(self, ordinal: int, path: str, reason: str) -> None:
        super().__init__(f"piece {ordinal}: {path}: {reason}")
        self.ordinal = ordinal
        self.path = path
        self.reason = reason


class DestinationFault(MoverFault):
    """
    A file on disk that was to receive bytes, or the plan of a transfer, cannot be written: mostly the disk is full. Or what was
    made ready for the transfer (our own bytes of a ``Woven``) is not what it was: it can be made again.
    """

    def __init__(self, path: str, error_number: int, message: str) -> None:
        super().__init__(f"{path}: {message} (errno {error_number})")
        self.path = path
        self.error_number = error_number


class FileExistsOnVolume(MoverFault):
    """A file of this name exists on the volume."""


class NoSuchFileOnVolume(MoverFault):
    """No file or directory of this name exists on the volume."""


class FileTooLarge(MoverFault):
    """The file is larger than the caller's limit."""


class MoverDied(MoverFault):
    """The mover ended before it answered. The outcome of the operation is unknown: look before repeating it."""


class MoverTimeout(MoverFault):
    """The mover made no progress for too long and was killed. The outcome is unknown, and the drive is suspect."""


class IMover(Interface):
    """
    Moves bytes to and from one mounted volume.

    Every method can also fail with ``MoverDied``, ``MoverTimeout`` (no sign of life within the operation's time limit), ``VolumeGone``
    and ``MediumFault``. After each of them the mover can be used again. Cancelling the Deferred of an operation ends the operation,
    wherever it stands; what it had written so far is a stump: it uses space on tape, and may be listed or not.
    """

    def write(
        *,
        path: str,
        pieces: Iterable[Piece],
        attributes: Mapping[str, bytes],
        on_progress: Callable[[int], None],
        replace_stump: bool = False,
    ) -> Deferred[Written]:
        """
        Write one file from its pieces, in order; parent folders are made.

        When the Deferred fires, every range had its checksum, the drive has taken the file whole, it has the full size, and carries its SHA-256
        in ``SHA256_ATTRIBUTE`` beside ``attributes``. It is on tape for good only after the next sync of the volume.

        :param pieces: is consumed once, in another thread than the reactor's.
        :param attributes: names such as ``coldstore.bundle``, none that begins with ``ltfs.``; values up to 4096 bytes.
        :param on_progress: is called in the reactor thread with the bytes written so far, a few times a second.
        :param replace_stump: remove what has this name before. Without it an existing file is an error, so calling twice is harmless.
        :raise FileExistsOnVolume: and nothing was changed.
        :raise EndOfTape: a stump may be listed; its removal frees no space, but tidies the folder.
        :raise StagedBytesDamaged: the source is not what it should be; a stump is left.
        """

    def verify(
        *, path: str, size_bytes: int, sha256: str, on_progress: Callable[[int], None]
    ) -> Deferred[Compared]:
        """
        Read a whole file back from tape, past every cache of this machine, and compare it with what it should be. Repeatable.

        :return: fires with the comparison, whichever way it went.
        :raise NoSuchFileOnVolume: there is no such file.
        """

    def read(
        *,
        path: str,
        ranges: Sequence[ReadRange],
        on_range_done: Callable[[RangeRead], None],
        block_bytes: int = BLOCK_BYTES,
    ) -> Deferred[Sequence[RangeRead]]:
        """
        Read ranges of a file from tape, in the order of their offsets, to files on disk. Repeatable.

        Destinations are opened for writing, made if missing, never truncated, and fsynced before their ranges are reported. A
        damaged or unreadable range does not stop the others; what it left at its destination is worthless.

        :param on_range_done: is called in the reactor thread once for each range when its bytes are durable on disk, or when it failed.
        :return: fires with all outcomes, in the order of ``ranges``.
        :raise DestinationFault: a destination cannot be written.
        :raise NoSuchFileOnVolume: there is no such file.
        """

    def put_file(*, path: str, content: bytes) -> Deferred[None]:
        """
        Write a small file, in place of an earlier one of this name; parent folders are made. Taken by the drive in its full size when
        the Deferred fires; on tape for good after the next sync. Repeatable.

        :raise EndOfTape: the volume has no room.
        """

    def get_file(*, path: str, limit_bytes: int) -> Deferred[bytes]:
        """
        Read a small file whole, from tape.

        :raise NoSuchFileOnVolume: there is no such file.
        :raise FileTooLarge: it has more than ``limit_bytes``.
        """

    def list(*, path: str) -> Deferred[Sequence[Listed]]:
        """
        Read one directory ("" is the root), sorted by name.

        :raise NoSuchFileOnVolume: there is no such directory.
        """

    def unlink(*, path: str) -> Deferred[None]:
        """Remove a file. Its space on tape stays used. Harmless when there is none."""

    def get_attributes(*, path: str, names: Sequence[str]) -> Deferred[Mapping[str, bytes]]:
        """
        Read attributes of a file by the names that ``write`` was given, ``SHA256_ATTRIBUTE`` among them; names without a value are left out.

        :raise NoSuchFileOnVolume: there is no such file.
        :raise ValueError: for a name that no file of ours can have.
        """

    def space() -> Deferred[VolumeSpace]:
        """Ask for the space of the volume."""

    def close() -> Deferred[None]:
        """End the mover; fires when its process has been reaped, so that no file of the volume is open any more. Repeatable."""
