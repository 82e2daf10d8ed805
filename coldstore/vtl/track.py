"""
What lies on a cartridge that is no LTFS volume: blocks of any size and file marks, one behind the other.

``tape.records`` holds one number of four bytes for each of them, the size of a block or ``FILEMARK``; ``tape.data`` the bytes of all blocks. A block's
bytes are written before its record: what a kill cuts off is not there.
"""

import os
from array import array
from itertools import accumulate

FILEMARK = 0xFFFFFFFF
_RECORD_BYTES = 4


class Track:
    """
    The records of one cartridge's directory. Made when absent.

    :param source: a file that is read instead of ``tape.data``, of which ``sizes`` tell the records (an LTFS volume seen from outside); each
        of them, file marks too, takes ``source_block_bytes`` there.
    """

    def __init__(
        self,
        directory: str,
        *,
        sizes: "array[int] | None" = None,
        source: str | None = None,
        source_block_bytes: int = 0,
    ) -> None:
        self._directory = directory
        self.sizes = self._recorded() if sizes is None else sizes
        taken = (
            source_block_bytes if source is not None else 0 if size == FILEMARK else size
            for size in self.sizes
        )
        self._starts = [0, *accumulate(taken)]
        path = os.path.join(directory, "tape.data") if source is None else source
        self._data = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._records = os.open(
            os.path.join(directory, "tape.records"),
            os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC,
            0o666,
        )

    def _recorded(self) -> "array[int]":
        sizes = array("I")
        try:
            with open(os.path.join(self._directory, "tape.records"), "rb") as stream:
                content = stream.read()
        except FileNotFoundError:
            return sizes
        sizes.frombytes(content[: len(content) // _RECORD_BYTES * _RECORD_BYTES])
        return sizes

    @property
    def end(self) -> int:
        """The end of data, in records."""
        return len(self.sizes)

    def filemarks(self) -> tuple[int, ...]:
        """Where the file marks are."""
        return tuple(number for number, size in enumerate(self.sizes) if size == FILEMARK)

    def used_bytes(self, position: int) -> int:
        """The bytes of all blocks before a position."""
        return self._starts[position]

    def read(self, position: int) -> bytes:
        """The bytes of a block."""
        return os.pread(self._data, self.sizes[position], self._starts[position])

    def cut(self, position: int) -> None:
        """Forget what lies from a position on."""
        if position < self.end:
            del self.sizes[position:]
            del self._starts[position + 1 :]
            os.ftruncate(self._records, position * _RECORD_BYTES)
            os.ftruncate(self._data, self._starts[position])

    def append(self, block: bytes | memoryview) -> None:
        """Write a block at the end of data."""
        written = 0
        while written < len(block):
            written += os.pwrite(self._data, memoryview(block)[written:], self._starts[-1] + written)
        self._note(len(block), len(block))

    def append_filemark(self) -> None:
        """Write a file mark at the end of data."""
        self._note(FILEMARK, 0)

    def _note(self, record: int, size: int) -> None:
        os.write(self._records, record.to_bytes(_RECORD_BYTES, "little"))
        self.sizes.append(record)
        self._starts.append(self._starts[-1] + size)

    def flush(self) -> None:
        """Put everything on the disk."""
        os.fdatasync(self._data)
        os.fdatasync(self._records)

    def close(self) -> None:
        """Close the files."""
        os.close(self._data)
        os.close(self._records)
