"""
Block checksums: taken while bytes pass, kept beside a piece, combined to the checksum of a range. Pure.

A record of checksums is a header (magic, version, number of blocks, length of the piece), one unsigned 64-bit number per
block, and the CRC64NVME of all that; little-endian.
"""

import struct
from array import array
from collections.abc import Sequence

from coldstore.interfaces.staging import BLOCK_BYTES
from coldstore.util.checksums import combine_crc64nvme, crc64nvme

_MAGIC = b"CSBK"
_VERSION = 1
_HEADER = struct.Struct("<4sIQQ")
_TAIL = struct.Struct("<Q")


class ChecksumsDamaged(Exception):
    """A record of checksums is not what was written; says what is wrong with it."""


def number_of_blocks(length_bytes: int) -> int:
    """Return how many blocks a piece of this length has."""
    return -(-length_bytes // BLOCK_BYTES)


def block_length(length_bytes: int, block: int) -> int:
    """Return the length of one block of a piece of ``length_bytes``."""
    return min(BLOCK_BYTES, length_bytes - block * BLOCK_BYTES)


def combined(checksums: Sequence[int], length_bytes: int) -> int:
    """Return the CRC64NVME of consecutive blocks that are ``length_bytes`` in all, the last one perhaps short."""
    value = 0
    for block, checksum in enumerate(checksums):
        value = combine_crc64nvme(value, checksum, block_length(length_bytes, block))
    return value


class BlockChecksums:
    """Takes bytes in order and keeps one checksum per block."""

    def __init__(self) -> None:
        self._complete = array("Q")
        self._current = 0
        self._filled = 0
        self.length_bytes = 0

    def update(self, content: bytes) -> None:
        """Take more bytes."""
        left = memoryview(content)
        self.length_bytes += len(left)
        while left:
            part = left[: BLOCK_BYTES - self._filled]
            self._current = crc64nvme(part, self._current)
            self._filled += len(part)
            left = left[len(part) :]
            if self._filled == BLOCK_BYTES:
                self._complete.append(self._current)
                self._current = self._filled = 0

    def blocks(self) -> "array[int]":
        """The checksum of each block so far, the last one perhaps short."""
        result = self._complete[:]
        if self._filled:
            result.append(self._current)
        return result

    def whole(self) -> int:
        """The checksum of everything so far."""
        return combined(self.blocks(), self.length_bytes)


def encoded(checksums: Sequence[int], length_bytes: int) -> bytes:
    """Return the record of these checksums."""
    body = _HEADER.pack(_MAGIC, _VERSION, len(checksums), length_bytes) + struct.pack(
        f"<{len(checksums)}Q", *checksums
    )
    return body + _TAIL.pack(crc64nvme(body))


def decoded(record: bytes) -> "tuple[array[int], int]":
    """
    Return the checksums of a record and the length of the piece.

    :raise ChecksumsDamaged: the record was cut, changed, or is of another kind.
    """
    if len(record) < _HEADER.size + _TAIL.size:
        raise ChecksumsDamaged(f"only {len(record)} bytes long")
    body, (expected,) = record[: -_TAIL.size], _TAIL.unpack(record[-_TAIL.size :])
    if crc64nvme(body) != expected:
        raise ChecksumsDamaged("does not match its own checksum")
    magic, version, count, length_bytes = _HEADER.unpack_from(body)
    if magic != _MAGIC or version != _VERSION or len(body) != _HEADER.size + 8 * count:
        raise ChecksumsDamaged("is not a record of block checksums of version 1")
    if number_of_blocks(length_bytes) != count:
        raise ChecksumsDamaged(f"has {count} checksums for {length_bytes} bytes")
    return array("Q", struct.unpack_from(f"<{count}Q", body, _HEADER.size)), length_bytes
