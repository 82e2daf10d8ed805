"""
The tape in a drive as a sequence of tape files: what lies between file marks.

Places are told twice, as people and as drives count: by the number of file marks before, and by the number of blocks and file marks before.
"""

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from coldstore.ontape.tape import TAPE_BLOCK_BYTES, is_index
from coldstore.tape.raw.device import TapeDevice

_T = TypeVar("_T")

SMALL_FILE_LIMIT_BYTES = 1 << 30
"""What is read into memory as a whole at most: an index of some millions of files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A place on tape, in file marks and in blocks."""

    tape_file: int
    block: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TapeFile:
    """
    One tape file: where it begins, and the number of the file mark (or of the end of data) that ends it.

    ``head`` is its first block, empty when it has none; None when it cannot be read.
    """

    start: Place
    end_block: int
    is_closed: bool
    head: bytes | None

    @property
    def is_index(self) -> bool:
        """Whether it begins as an index does."""
        return self.head is not None and is_index(self.head)


class NotWhole(Exception):
    """A tape file is too large to be read as a whole."""


def _tried_twice(look: Callable[[], _T]) -> _T:
    """Look at the tape, from the beginning: a drive that was reset tells that by one error, whatever it is asked."""
    try:
        return look()
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return look()


class Reel:
    """
    A tape in a drive.

    :param buffer: room for one block.
    """

    def __init__(self, device: TapeDevice, buffer: memoryview) -> None:
        self.device = device
        self._buffer = buffer[:TAPE_BLOCK_BYTES]

    def end(self) -> Place:
        """
        Go to the end of data, from the beginning, so that the driver counts file marks.

        :raise OSError: it cannot be found.
        """
        return _tried_twice(self._end)

    def _end(self) -> Place:
        self.device.rewind()
        self.device.to_end()
        tape_file = self.device.status().file_number
        if tape_file is None:
            raise OSError(errno.EIO, "the driver lost count of the file marks")
        return Place(tape_file=tape_file, block=self.device.position())

    def is_closed(self, end: Place) -> bool:
        """Whether a file mark is the last thing before the end of data, where the tape stands; it stands there again afterwards."""
        if not end.tape_file:
            return False
        self.device.space_files(-1)
        is_last = self.device.position() == end.block - 1
        self.device.to_end()
        return is_last

    def is_blank(self) -> bool:
        """
        Whether no block was ever written, by looking at the beginning and at the end. File marks alone are none.

        :raise OSError: neither can be told from the other.
        """
        self.device.rewind()
        try:
            if self.device.read(self._buffer):
                return False
        except OSError as error:
            if error.errno == errno.ENOMEM:
                return False
            if error.errno != errno.EIO:
                raise
        try:
            end = self.end()
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return self._begins_with_end_of_data()
        return end.block == end.tape_file

    def _begins_with_end_of_data(self) -> bool:
        """What a drive says that does not find the end of data on a tape that was never written."""
        self.device.rewind()
        try:
            self.device.space_blocks(1)
        except OSError:
            if self.device.status().is_at_end_of_data:
                return True
            raise
        return False

    def first_block(self) -> bytes:
        """
        The first block of the tape; empty when a file mark is there.

        :raise OSError: it cannot be read.
        """
        return _tried_twice(self._first_block)

    def _first_block(self) -> bytes:
        self.device.rewind()
        return bytes(self._buffer[: self.device.read(self._buffer)])

    def whole(self, start_block: int) -> bytes:
        """
        Read a tape file that begins there, to its file mark.

        :raise OSError: it cannot be read.
        :raise NotWhole: it is no small file.
        """
        self.device.locate(start_block)
        content = bytearray()
        while count := self.device.read(self._buffer):
            content += self._buffer[:count]
            if len(content) > SMALL_FILE_LIMIT_BYTES:
                raise NotWhole(f"a tape file has more than {SMALL_FILE_LIMIT_BYTES} bytes")
        return bytes(content)

    def last_bytes(self, found: TapeFile, wanted: int) -> tuple[int, bytes]:
        """
        The size of a tape file whose blocks are ours, and up to so many bytes of its end.

        :raise OSError: it cannot be read.
        """
        count = found.end_block - found.start.block
        if not count:
            return 0, b""
        self.device.locate(found.end_block - min(count, 2))
        tail, size = bytearray(), 0
        for _ in range(min(count, 2)):
            size = self.device.read(self._buffer)
            tail += self._buffer[:size]
        return (count - 1) * TAPE_BLOCK_BYTES + size, bytes(tail[-wanted:])

    def backwards(self, end: Place) -> Iterator[TapeFile]:
        """
        Every tape file from the last to the first. What the caller does with the tape between two of them is left to it.

        :param end: the end of data.
        """
        self.device.to_end()
        upper = end.block
        for number in range(end.tape_file, -1, -1):
            self.device.locate(upper)
            start = 0
            if number:
                self.device.space_files(-1)
                start = self.device.position() + 1
            is_closed = number < end.tape_file
            if is_closed or start < upper:
                yield self._found(Place(tape_file=number, block=start), upper, is_closed)
            upper = start - 1

    def forwards(self) -> Iterator[TapeFile]:
        """Every tape file from the first on that is closed by a file mark, as far as the tape can be read: for a tape whose end is lost."""
        start = Place(tape_file=0, block=0)
        while True:
            try:
                self.device.locate(start.block)
                self.device.space_files(1)
                after = self.device.position()
            except OSError:
                return
            yield self._found(start, after - 1, True)
            start = Place(tape_file=start.tape_file + 1, block=after)

    def _found(self, start: Place, end_block: int, is_closed: bool) -> TapeFile:
        head: bytes | None = b""
        if start.block < end_block:
            try:
                self.device.locate(start.block)
                head = bytes(self._buffer[: self.device.read(self._buffer)])
            except OSError:
                head = None
        return TapeFile(start=start, end_block=end_block, is_closed=is_closed, head=head)
