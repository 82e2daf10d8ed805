"""
What lies in a container: where its pieces begin, how long they are, which of them are dead. Pure, with its two encodings.

The list of a sealed container (``.records``): a header (magic, version, number of pieces, length of the container, number of block
checksums), per piece its offset and length, then the block checksums of all pieces that have more than one block, in
their order, then the CRC64NVME of all that. The dead (``.dead``): per piece its offset, its length and a CRC32 of both; an
entry that a crash cut or garbled has a wrong one and counts as not written. Little-endian.
"""

import struct
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from coldstore.disk.blocks import ChecksumsDamaged, number_of_blocks
from coldstore.util.checksums import crc64nvme

_MAGIC = b"CSRC"
_VERSION = 1
_HEADER = struct.Struct("<4sIQQQ")
_TAIL = struct.Struct("<Q")
_DEAD = struct.Struct("<QQI")


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes from ``begin`` up to and without ``end``."""

    begin: int
    end: int


class ContainerIndex:
    """The pieces of one container, in order of their offsets."""

    def __init__(self) -> None:
        self._offsets = array("Q")
        self._lengths = array("Q")
        self._first_block = array("Q")
        self._blocks = array("Q")
        self._dead = bytearray()
        self.alive = 0
        self.end_bytes = 0
        """Where the space of the last piece ends."""

    def __len__(self) -> int:
        return len(self._offsets)

    def add(self, offset_bytes: int, length_bytes: int, end_bytes: int, blocks: Sequence[int] = ()) -> None:
        """Add a piece behind all others; its space ends at ``end_bytes``. ``blocks`` when it has more than one."""
        if offset_bytes < self.end_bytes or offset_bytes + length_bytes > end_bytes:
            raise ValueError(
                f"a piece at {offset_bytes} of {length_bytes} bytes does not fit behind {self.end_bytes}"
            )
        if len(blocks) != (number_of_blocks(length_bytes) if number_of_blocks(length_bytes) > 1 else 0):
            raise ValueError(f"{len(blocks)} block checksums for {length_bytes} bytes")
        self._offsets.append(offset_bytes)
        self._lengths.append(length_bytes)
        self._first_block.append(len(self._blocks))
        self._blocks.extend(blocks)
        self._dead.append(0)
        self.alive += 1
        self.end_bytes = end_bytes

    def place(self, offset_bytes: int, length_bytes: int) -> int | None:
        """Return the ordinal of the piece with this offset and length, dead or alive, or None."""
        at = bisect_left(self._offsets, offset_bytes)
        if (
            at < len(self._offsets)
            and self._offsets[at] == offset_bytes
            and self._lengths[at] == length_bytes
        ):
            return at
        return None

    def is_dead(self, ordinal: int) -> bool:
        """Tell whether a piece was discarded."""
        return bool(self._dead[ordinal])

    def mark_dead(self, ordinal: int) -> None:
        """Discard a piece. Repeatable."""
        if not self._dead[ordinal]:
            self._dead[ordinal] = 1
            self.alive -= 1

    def blocks(self, ordinal: int) -> "array[int]":
        """The block checksums of a piece; empty when it has one block only."""
        count = number_of_blocks(self._lengths[ordinal])
        first = self._first_block[ordinal]
        return self._blocks[first : first + count] if count > 1 else array("Q")

    def living(self, after: tuple[int, int], limit: int) -> list[tuple[int, int]]:
        """(offset, length) of up to ``limit`` living pieces behind ``after``, another such pair, in order."""
        found: list[tuple[int, int]] = []
        for at in range(bisect_left(self._offsets, max(0, after[0])), len(self._offsets)):
            piece = (self._offsets[at], self._lengths[at])
            if not self._dead[at] and piece > after:
                found.append(piece)
                if len(found) == limit:
                    break
        return found

    def holes(self, ordinals: Iterable[int], allocation_bytes: int) -> list[Span]:
        """
        Whole blocks of the file system in which nothing lives around these dead pieces.

        A block that a dead piece shares with its neighbours is free when these are dead too. Neighbours further away
        need no look: their own blocks were given back when they died.
        """
        found: list[Span] = []
        for at in sorted(set(ordinals)):
            hole = self._hole(at, allocation_bytes)
            if hole.begin >= hole.end:
                continue
            if found and hole.begin <= found[-1].end:
                found[-1] = Span(found[-1].begin, max(found[-1].end, hole.end))
            else:
                found.append(hole)
        return found

    def _hole(self, at: int, unit: int) -> Span:
        begin, end = self._offsets[at], self._space_end(at)
        lowest, highest = begin // unit * unit, -(-end // unit) * unit
        before, behind = at - 1, at + 1
        while begin > lowest and (before < 0 or self._dead[before]):
            begin = self._offsets[before] if before >= 0 else 0
            before -= 1
        while end < highest and behind < len(self._offsets) and self._dead[behind]:
            end = self._space_end(behind)
            behind += 1
        first = lowest if begin <= lowest else -(-begin // unit) * unit
        last = highest if end >= highest else end // unit * unit
        return Span(first, last)

    def _space_end(self, at: int) -> int:
        return self._offsets[at + 1] if at + 1 < len(self._offsets) else self.end_bytes

    def piece(self, ordinal: int) -> tuple[int, int]:
        """Offset and length of a piece."""
        return self._offsets[ordinal], self._lengths[ordinal]

    def dead_ordinals(self) -> list[int]:
        """All dead pieces."""
        return [at for at, dead in enumerate(self._dead) if dead]

    def encoded(self) -> bytes:
        """The list of pieces as it is kept beside a sealed container."""
        count = len(self._offsets)
        pairs = [number for pair in zip(self._offsets, self._lengths, strict=True) for number in pair]
        body = b"".join(
            (
                _HEADER.pack(_MAGIC, _VERSION, count, self.end_bytes, len(self._blocks)),
                struct.pack(f"<{2 * count}Q", *pairs),
                struct.pack(f"<{len(self._blocks)}Q", *self._blocks),
            )
        )
        return body + _TAIL.pack(crc64nvme(body))

    @classmethod
    def decoded(cls, content: bytes, dead: bytes = b"") -> "ContainerIndex":
        """
        Read a list of pieces and the dead among them.

        :raise ChecksumsDamaged: the list was cut, changed or is of another kind.
        """
        if len(content) < _HEADER.size + _TAIL.size:
            raise ChecksumsDamaged(f"only {len(content)} bytes long")
        body, (expected,) = content[: -_TAIL.size], _TAIL.unpack(content[-_TAIL.size :])
        if crc64nvme(body) != expected:
            raise ChecksumsDamaged("does not match its own checksum")
        magic, version, count, end_bytes, block_count = _HEADER.unpack_from(body)
        if magic != _MAGIC or version != _VERSION or len(body) != _HEADER.size + 16 * count + 8 * block_count:
            raise ChecksumsDamaged("is not a list of pieces of version 1")
        self = cls()
        pairs = array("Q", struct.unpack_from(f"<{2 * count}Q", body, _HEADER.size))
        self._offsets, self._lengths = pairs[::2], pairs[1::2]
        self._blocks = array("Q", struct.unpack_from(f"<{block_count}Q", body, _HEADER.size + 16 * count))
        first = 0
        for length_bytes in self._lengths:
            self._first_block.append(first)
            blocks = number_of_blocks(length_bytes)
            first += blocks if blocks > 1 else 0
        self._dead = bytearray(count)
        self.alive = count
        self.end_bytes = end_bytes
        self.take_dead(dead)
        return self

    def take_dead(self, entries: bytes) -> None:
        """Mark the pieces that a file of the dead names."""
        for offset_bytes, length_bytes in dead_pieces(entries):
            at = self.place(offset_bytes, length_bytes)
            if at is not None:
                self.mark_dead(at)


def _check(offset_bytes: int, length_bytes: int) -> int:
    return zlib.crc32(struct.pack("<4sQQ", b"dead", offset_bytes, length_bytes))


def dead_entries(pieces: Iterable[tuple[int, int]]) -> bytes:
    """Return what to append to a file of the dead for these (offset, length)."""
    return b"".join(_DEAD.pack(offset, length, _check(offset, length)) for offset, length in pieces)


def dead_pieces(entries: bytes) -> list[tuple[int, int]]:
    """Return (offset, length) of the pieces that a file of the dead names; garbled entries are passed over."""
    whole = entries[: whole_entries(len(entries))]
    return [
        (offset, length)
        for offset, length, check in _DEAD.iter_unpack(whole)
        if check == _check(offset, length)
    ]


def whole_entries(length_bytes: int) -> int:
    """Return how much of a file of the dead is whole entries; a crash can leave part of one at its end."""
    return length_bytes // _DEAD.size * _DEAD.size
