"""Reading a file that lies on a tape."""

from contextlib import suppress

from coldstore.ontape.tape import TAPE_BLOCK_BYTES, TapeEntry
from coldstore.tape.raw.device import TapeDevice

READ_THROUGH_BLOCKS = 512 * 1024 * 1024 // TAPE_BLOCK_BYTES
"""A gap up to this size is read and thrown away: a locate costs more (IBM TS2290: seconds to stop and start, 120 to 400 MB/s)."""


class TapeContent:
    """
    The content of a file on tape, read forward (an ``Incoming``).

    The buffer holds one block; wanted bytes that are in it cost nothing, so many small ranges are as quick as a large one.
    """

    def __init__(self, device: TapeDevice, entry: TapeEntry, buffer: memoryview) -> None:
        self._device = device
        self._entry = entry
        self._buffer = buffer
        self._held: int | None = None
        self._held_bytes = 0
        self._next: int | None = None
        self._blocks_most = -(-(entry.offset_bytes + entry.size_bytes) // TAPE_BLOCK_BYTES)

    def at(self, offset: int, wanted: int) -> memoryview:
        """See ``Incoming``."""
        wanted = min(wanted, self._entry.size_bytes - offset)
        number, inside = divmod(self._entry.offset_bytes + offset, TAPE_BLOCK_BYTES)
        if wanted <= 0 or number >= self._blocks_most:
            return self._buffer[:0]
        if number != self._held:
            self._fetch(number)
        return self._buffer[inside : min(inside + wanted, self._held_bytes)]

    def read_into(self, buffer: memoryview) -> None:
        """See ``Incoming``."""
        self._buffer = buffer
        self._held, self._held_bytes = None, 0

    def surplus_bytes(self) -> int:
        """How many bytes follow where the file ends, after it was read whole: the tape file of a bundle has no others."""
        return 0 if self._entry.offset_bytes or self._next is None else self._device.read(self._buffer)

    def _fetch(self, number: int) -> None:
        first = self._next
        if first is not None and 0 <= number - first <= READ_THROUGH_BLOCKS:
            with suppress(OSError):
                for each in range(first, number + 1):
                    if not self._read(each):
                        return
        if self._held != number:
            # The first time, after a jump, and as one second chance for a block that could not be read.
            assert self._entry.block is not None
            self._device.locate(self._entry.block + number)
            self._read(number)

    def _read(self, number: int) -> int:
        self._held, self._held_bytes, self._next = None, 0, None
        count = self._device.read(self._buffer)
        if count:
            self._held, self._held_bytes, self._next = number, count, number + 1
        else:
            # A file mark: what is behind it belongs to another file.
            self._blocks_most = number
        return count
