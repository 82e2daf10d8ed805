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
from collections.abc import Callable, Iterable, Sequence
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

    def __init__(self, taken_bytes: Callable[[int], int]) -> None:
        """:param taken_bytes: what a piece of some length takes up in this container, header and rounding included."""
        self._taken_bytes = taken_bytes
        self._offsets = array("Q")
        self._lengths = array("Q")
        self._first_block = array("Q")
        self._blocks = array("Q")
        self._dead = bytearray()
        self.alive = 0
        self.alive_bytes = 0
        """What the living take up."""
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
        self.alive_bytes += self._taken_bytes(length_bytes)

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
            self.alive_bytes -= self._taken_bytes(self._lengths[ordinal])

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

    def holes(self, ordinals: Iterable[int], *, unit_bytes: int, least_bytes: int) -> list[Span]:
        """
        Stretches around these dead pieces in which nothing lives, of at least ``least_bytes``, in whole ``unit_bytes``.

        A stretch is followed to either side until something lives or it is long enough: what lies further away was
        given back when it died.
        """
        found: list[Span] = []
        for at in sorted(set(ordinals)):
            if found and self._space_end(at) <= found[-1].end:
                continue
            hole = self._hole(at, unit_bytes, least_bytes)
            if hole.end - hole.begin < least_bytes:
                continue
            if found and hole.begin <= found[-1].end:
                found[-1] = Span(found[-1].begin, max(found[-1].end, hole.end))
            else:
                found.append(hole)
        return found

    def _hole(self, at: int, unit: int, least: int) -> Span:
        begin, end = self._offsets[at], self._space_end(at)
        enough = end - begin + least + unit
        before, behind = at - 1, at + 1
        while end - begin < enough and before >= 0 and self._dead[before]:
            begin = self._offsets[before]
            before -= 1
        if before < 0:
            begin = 0
        enough = end - begin + least + unit
        while end - begin < enough and behind < len(self._offsets) and self._dead[behind]:
            end = self._space_end(behind)
            behind += 1
        return Span(-(-begin // unit) * unit, end // unit * unit)

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
    def decoded(
        cls, content: bytes, dead: bytes = b"", *, taken_bytes: Callable[[int], int]
    ) -> "ContainerIndex":
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
        self = cls(taken_bytes)
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
        self.alive_bytes = sum(map(self._taken_bytes, self._lengths))
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
