"""A disk whose files have their full size and hardly any bytes: everything that reads them reads zeros."""

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from coldstore.disk.addresses import FileAddress
from coldstore.disk.blocks import combined, encoded, number_of_blocks
from coldstore.disk.filesystem import ALLOCATION_BYTES, FileSystem
from coldstore.disk.layout import BLOCKS, Layout
from coldstore.interfaces.staging import BLOCK_BYTES
from coldstore.util.checksums import crc64nvme


def zeros_checksums(length_bytes: int) -> list[int]:
    """The block checksums of so many zeros."""
    checksums = [crc64nvme(bytes(BLOCK_BYTES))] * (length_bytes // BLOCK_BYTES)
    if length_bytes % BLOCK_BYTES:
        checksums.append(crc64nvme(bytes(length_bytes % BLOCK_BYTES)))
    return checksums


def zeros_crc(length_bytes: int) -> int:
    """The CRC64NVME of so many zeros."""
    return combined(zeros_checksums(length_bytes), length_bytes)


class SparseFileSystem(FileSystem):
    """
    Zeros are not written, allocated space is not taken, and a file is said to occupy its whole size, less what was punched.

    So sizes and account are real, and the machine needs no such disk. Small files are written as always.
    """

    def __init__(self, free_bytes: int = 1 << 50) -> None:
        self._free_bytes = free_bytes
        self._punched: dict[int, int] = {}

    def write(self, descriptor: int, buffers: Sequence[bytes | memoryview], offset_bytes: int) -> None:
        """Write what is not zeros."""
        for each in buffers:
            if len(each) < ALLOCATION_BYTES or each != _zeros(len(each)):
                super().write(descriptor, [each], offset_bytes)
            offset_bytes += len(each)
        if os.fstat(descriptor).st_size < offset_bytes:
            os.ftruncate(descriptor, offset_bytes)

    def allocate(self, descriptor: int, offset_bytes: int, length_bytes: int) -> bool:
        """Make the file as long."""
        if os.fstat(descriptor).st_size < offset_bytes + length_bytes:
            os.ftruncate(descriptor, offset_bytes + length_bytes)
        return True

    def punch(self, descriptor: int, offset_bytes: int, length_bytes: int) -> bool:
        """Note it."""
        inode = os.fstat(descriptor).st_ino
        self._punched[inode] = self._punched.get(inode, 0) + length_bytes
        return True

    def occupied(self, path: Path) -> int:
        """The size in whole blocks, less what was punched."""
        try:
            return self._occupied(os.stat(path))
        except FileNotFoundError:
            return 0

    def occupied_open(self, descriptor: int) -> int:
        """The same of an open file."""
        return self._occupied(os.fstat(descriptor))

    def _occupied(self, state: os.stat_result) -> int:
        rounded = -(-state.st_size // ALLOCATION_BYTES) * ALLOCATION_BYTES
        return rounded - self._punched.get(state.st_ino, 0)

    def free_bytes(self, path: Path) -> int:
        """As much as was said."""
        return self._free_bytes


@lru_cache(maxsize=8)
def _zeros(size_bytes: int) -> bytes:
    return bytes(size_bytes)


def lay_out(layout: Layout, address: FileAddress, length_bytes: int) -> None:
    """Put a piece of zeros where an earlier run would have published it."""
    path = layout.file(address)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(length_bytes)
    if number_of_blocks(length_bytes) > 1:
        beside = path.with_name(path.name + BLOCKS)
        beside.write_bytes(encoded(zeros_checksums(length_bytes), length_bytes))
