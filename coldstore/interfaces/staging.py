"""
Staging and cache: the disk that holds bytes not yet safe on tape, and bytes that could be read from tape again.

Bytes are written once and known by an opaque address. They carry CRC64NVME per 4 MiB block, taken while they arrived; a
block is read from disk and checked before its first byte goes out, once per run of the process. All blocking work
happens in threads that the implementation owns; what is in memory (``at_hand``) needs none.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from coldstore.model.objects import Piece
from coldstore.model.precedence import Precedence

_T = TypeVar("_T")

BLOCK_BYTES = 4 * 1024 * 1024
"""One checksum covers this many bytes, counted from the start of the piece; the last block may be shorter."""


class DiskFault(Exception):
    """The disk failed (I/O error, gone, read-only); says what was tried."""


class BytesDamaged(Exception):
    """Bytes on disk do not match the checksum recorded when they were written."""

    def __init__(self, address: str, block: int) -> None:
        super().__init__(f"block {block} of {address} does not match its recorded checksum")
        self.address = address
        self.block = block


class WrongLength(Exception):
    """More or fewer bytes were written than were announced; nothing was kept."""

    def __init__(self, announced_bytes: int, written_bytes: int) -> None:
        super().__init__(f"{announced_bytes} bytes were announced and {written_bytes} written")
        self.announced_bytes = announced_bytes
        self.written_bytes = written_bytes


class Received(NamedTuple):
    """Bytes that are on stable storage. ``digests`` has one entry per algorithm that was asked for."""

    address: str
    length_bytes: int
    crc64nvme: int
    digests: Mapping[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class StagingUsage:
    """
    The account of the disk, in bytes.

    ``used`` is what published pieces occupy, ``reserved`` what was promised and has not arrived or is allocated ahead for
    small pieces, ``capacity`` what may be used in all (the smaller of the configured limit and what the file system has
    left beside us).
    """

    capacity_bytes: int
    used_bytes: int
    reserved_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskRange:
    """Where a reader outside this process (the mover) finds bytes of a pinned piece."""

    path: str
    offset_bytes: int
    length_bytes: int
    crc64nvme: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallSlot:
    """Where the mover puts the bytes of one recalled extent."""

    path: str
    offset_bytes: int
    length_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallSpace:
    """
    Space made for a batch of recalled extents, all reserved; ``slots`` in the order in which lengths were given.

    What was put into a slot can be read from it until the space is adopted or released. No space outlives a run.
    """

    recall_id: str
    slots: tuple[RecallSlot, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecalledBytes:
    """
    What the mover wrote to one slot and fsynced: the checksum of all, and of each block of BLOCK_BYTES.

    ``slot`` is its place in ``RecallSpace.slots``.
    """

    slot: int
    crc64nvme: int
    block_checksums: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scratch:
    """A file of our own beside the pieces, for a reader outside this process (the mover)."""

    path: str
    size_bytes: int
    crc64nvme: int


class IIncoming(Interface):
    """Bytes that are arriving. Ends with exactly one of ``finish`` and ``abandon``."""

    def write(block: bytes) -> None:
        """
        Take bytes; hashing and writing happen elsewhere. Never blocks; heed ``on_pressure``.

        Never fails: what goes wrong, and bytes beyond what was announced, make ``finish`` fail. Ignored after ``abandon``.
        """

    def on_pressure(pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """Have ``pause`` called when too many blocks are outstanding, and ``resume`` when there is room again."""

    def shorten() -> None:
        """
        Say that no more bytes come although more were announced: what was written is all.

        For senders who know no more than how many bytes it can be at most; called before ``finish``. Where nothing was written
        nothing changes, and ``finish`` fails: an empty object has no piece.
        """

    def finish() -> Deferred[Received]:
        """
        Everything was written: fires once all bytes and their directory entry are on stable storage.

        The piece is published on disk; until a metadata row refers to it, it is an orphan that a sweep may take: so
        commit the row, or call ``IStaging.discard``. Fails with ``WrongLength`` when more or fewer bytes came than were
        announced, with ``DiskFault``, or ``StagingFull`` when the disk ran full after all; nothing is left then. When it is
        cancelled, nothing is left either, a moment later.
        """

    def abandon() -> Deferred[None]:
        """Drop everything that arrived; harmless after ``finish`` (what was published stays), and repeatable."""


class IPieceReader(Interface):
    """Verified bytes of one piece; keeps it pinned (its bytes stay, even if discarded meanwhile) until ``close``."""

    length_bytes = Attribute("Size of the piece in bytes.")

    def read(offset_bytes: int, length_bytes: int) -> Deferred[bytes]:
        """Return verified bytes (at most BLOCK_BYTES at once); fails with ``BytesDamaged`` or ``DiskFault``."""

    def verified_range(offset_bytes: int, length_bytes: int) -> Deferred[tuple[int, int]]:
        """
        Have every block of the range checked; return (file descriptor, offset in that file) for ``sendfile``.

        The descriptor belongs to the reader and is valid until ``close``. Fails as ``read``.
        """

    def close() -> None:
        """Unpin. Repeatable."""


class IStaging(Interface):
    """The disk."""

    def start() -> Deferred[None]:
        """
        Recover: drop what was still arriving, check the tails of open segments. Bounded by what was in flight.

        Fails with ``DiskFault`` naming the directory when it cannot be used.
        """

    def stop() -> Deferred[None]:
        """Finish what is under way and end the threads. Repeatable."""

    def receive(
        *,
        size_bytes: int,
        algorithms: frozenset[str],
        precedence: Precedence = Precedence.NEW_UPLOAD,
        is_kept: bool = False,
    ) -> IIncoming:
        """
        Reserve space and begin to take ``size_bytes`` bytes; raises ``StagingFull`` at once when they cannot be promised.

        ``algorithms`` are of md5, sha1, sha256, crc32, crc32c, crc64nvme; CRC64NVME is always computed. An empty object
        has no piece: a size below 1 and an unknown algorithm raise ``ValueError``. ``is_kept`` tells that these bytes
        are meant to stay when they are on tape: they are kept apart from those that will go together.
        """

    def at_hand(piece: Piece) -> bytes | None:
        """
        Return all bytes of a small piece, checked now, when they can be had without waiting for the disk.

        None says nothing: ``open`` finds out. A piece that is being freed may still be at hand.
        """

    def open(piece: Piece) -> Deferred[IPieceReader]:
        """Pin a piece and open it for reading. Fails with ``DiskFault`` when it is not there."""

    def pin(piece: Piece) -> None:
        """Keep a piece's bytes in place for a reader outside this process; counted. Raises ``DiskFault`` while they are freed."""

    def unpin(piece: Piece) -> None:
        """End one ``pin``."""

    def ranges(piece: Piece, *, offset_bytes: int, length_bytes: int) -> Deferred[list[DiskRange]]:
        """
        Return where these bytes of a piece lie, each range with its CRC64NVME (from the recorded block checksums).

        ``offset_bytes`` is a multiple of BLOCK_BYTES, and the end is one too or the end of the piece; other bounds
        raise ``ValueError``. The ranges are few (adjacent blocks are combined into one).
        """

    def places(pieces: Sequence[Piece]) -> Deferred[list[DiskRange]]:
        """Return where each of these pieces lies, whole, in their order: ``ranges`` of many small ones in one go."""

    def scratch(write: Callable[[Callable[[bytes], object]], _T]) -> Deferred[tuple[Scratch, _T]]:
        """
        Have ``write`` called in a thread with a function that takes bytes, and make a file of them; return it with what ``write`` returned.

        It may go any time after a crash, and is not there in the next run. It counts as used, and nobody reserves for it: what empties the
        disk must not wait for room on it. Fails with ``StagingFull`` or ``DiskFault`` when the file system does not take it, and with
        what ``write`` raises; nothing is left then.
        """

    def drop_scratch(scratch: Scratch) -> Deferred[None]:
        """Remove such a file. Repeatable; never fails: what cannot be removed goes at the next start."""

    def discard(addresses: Sequence[str]) -> Deferred[None]:
        """
        Free the bytes; fires when they are freed and stay so after a crash. Unknown addresses are ignored: repeatable.

        Pinned pieces are freed once they are unpinned; the Deferred waits for that.
        """

    def reserve_recall(
        lengths: Sequence[int], *, precedence: Precedence = Precedence.RECALL
    ) -> Deferred[RecallSpace]:
        """Make space for recalled extents; fails with ``StagingFull`` when it cannot be promised (nothing is kept)."""

    def adopt_recalled(space: RecallSpace, arrived: Sequence[RecalledBytes]) -> Deferred[list[str]]:
        """
        Publish what arrived and give the rest back; return one address per entry of ``arrived``.

        Durable (directory entry included) when it fires; the reservation is used up. Call once per space.
        """

    def release_recall(space: RecallSpace) -> Deferred[None]:
        """Drop the space and whatever was put there. Repeatable, harmless after ``adopt_recalled``."""

    def usage() -> StagingUsage:
        """Return the account as it stands."""

    trouble = Attribute(
        "Why nothing new can be written since the start, in words; empty when it can. What is there is read all the same."
    )

    def room_bytes(precedence: Precedence) -> int:
        """Return how many bytes could be promised now to who comes with this precedence."""

    def stored(*, after: str, limit: int) -> Deferred[list[str]]:
        """
        Return addresses of published pieces that were published before this run of the process, in order, beginning
        after ``after``: for the sweep that finds orphans.
        """

    def scattered(*, after: str, limit: int) -> Deferred[list[str]]:
        """
        Return addresses of living pieces, in order and beginning after ``after``, that keep much more of the disk than
        their own size, because what lay around them was discarded. Received anew elsewhere and discarded here they
        give that back. Pieces are not named as long as others around them are still being discarded, and those of
        earlier runs not before ``stored`` has come by them.

        Some may be unknown to the metadata: still on their way there, or orphans.
        """
