"""The contract of ``TapeDevice``: blocks, file marks, movements and the end of the tape, as the kernel's driver has them."""

import errno
import mmap
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from twisted.trial.unittest import SynchronousTestCase

from coldstore.tape.raw.device import TapeDevice

if TYPE_CHECKING:
    _Base = SynchronousTestCase
else:
    _Base = object

BLOCK_BYTES = 256 * 1024


class DeviceRig(Protocol):
    """A drive with a blank tape in it, and what a test may do to them."""

    capacity_bytes: int

    def open(self) -> TapeDevice:
        """Open the drive."""

    def protect(self) -> None:
        """Move the tab of the cartridge, which goes out of the drive and in again."""

    def empty(self) -> None:
        """Take the cartridge out."""


class TapeDeviceContract(_Base):
    """What a drive does. ``rig`` is set up by the subclass."""

    rig: DeviceRig

    def opened(self) -> TapeDevice:
        """Open the drive for the rest of the test."""
        tape = self.rig.open()
        self.addCleanup(self.let_go, tape)
        self.buffer = memoryview(mmap.mmap(-1, BLOCK_BYTES))
        return tape

    def let_go(self, tape: TapeDevice) -> None:
        """Close it, unless the test did."""
        if tape not in self.closed:
            self.closed.append(tape)
            tape.close()

    @property
    def closed(self) -> list[TapeDevice]:
        """What is closed already."""
        return self.__dict__.setdefault("_closed", [])

    def fails(self, number: int, action: Callable[..., object], *arguments: object) -> None:
        """See that something fails with this error."""
        error = self.assertRaises(OSError, action, *arguments)
        self.assertEqual(error.errno, number, error)

    def block(self, content: bytes) -> memoryview:
        """Content in a buffer that the driver can take as it is."""
        self.buffer[: len(content)] = content
        return self.buffer[: len(content)]

    def write(self, tape: TapeDevice, *contents: bytes) -> None:
        """Write blocks, each alone, or a file mark for an empty one."""
        for content in contents:
            if content:
                tape.write(self.block(content))
            else:
                tape.write_filemarks(1)

    def read(self, tape: TapeDevice) -> bytes:
        """Read one block."""
        return bytes(self.buffer[: tape.read(self.buffer)])

    def where(self, tape: TapeDevice) -> tuple[int, int | None]:
        """The position in blocks and in file marks."""
        return tape.position(), tape.status().file_number

    def test_blank(self) -> None:
        """A blank tape has neither blocks nor an error: the end of data is at its beginning."""
        tape = self.opened()
        status = tape.status()
        self.assertTrue(status.is_online)
        self.assertFalse(status.is_write_protected)
        self.assertEqual(tape.unfitness(), "")
        self.fails(errno.EIO, tape.read, self.buffer)
        tape.rewind()
        self.assertFalse(tape.status().is_at_end_of_data)
        self.fails(errno.EIO, tape.space_blocks, 1)
        self.assertTrue(tape.status().is_at_end_of_data)
        tape.rewind()
        tape.to_end()
        self.assertTrue(tape.status().is_at_end_of_data)
        self.assertEqual(self.where(tape), (0, 0))

    def test_blocks_and_filemarks(self) -> None:
        """Blocks keep their sizes, the last short one too; file marks count as blocks do, and read as nothing."""
        tape = self.opened()
        large = bytes(range(256)) * (BLOCK_BYTES // 256)
        contents = [b"x" * 512, b"", large, large, b"y" * 1536, b"", b"", b"z" * 10, b""]
        self.write(tape, *contents)
        self.assertEqual(self.where(tape), (9, 4))
        tape.write_filemarks(0)
        self.assertEqual(self.where(tape), (9, 4))
        tape.rewind()
        self.assertEqual(self.where(tape), (0, 0))
        for number, content in enumerate(contents):
            self.assertEqual(tape.position(), number)
            self.assertEqual(self.read(tape), content)
        # At the end of data behind a file mark: once as an empty file, then as an error.
        self.assertEqual(self.read(tape), b"")
        self.assertTrue(tape.status().is_at_end_of_data)
        self.fails(errno.EIO, tape.read, self.buffer)
        self.assertEqual(self.where(tape), (9, 4))

    def test_room(self) -> None:
        """The drive tells what the tape holds, and how much of that is left."""
        tape = self.opened()
        before = tape.room()
        assert before is not None
        self.assertGreaterEqual(self.rig.capacity_bytes, before[0])
        self.assertGreaterEqual(before[0], before[1])
        self.write(tape, *[b"x" * BLOCK_BYTES] * 40, b"")
        after = tape.room()
        assert after is not None
        self.assertEqual(after[0], before[0])
        self.assertLessEqual(after[1], before[1] - 9 * 1024 * 1024)

    def test_buffer_too_small(self) -> None:
        """A block that is larger than the buffer is told as such, and passed."""
        tape = self.opened()
        self.write(tape, b"x" * 4096, b"next", b"")
        tape.rewind()
        self.fails(errno.ENOMEM, tape.read, self.buffer[:512])
        self.assertEqual(self.read(tape), b"next")

    def test_movements(self) -> None:
        """Locates lose count of file marks, a rewind finds it again; movements beyond what is there fail at its edge."""
        tape = self.opened()
        self.write(tape, b"0", b"", b"2", b"3", b"", b"5", b"")
        tape.locate(3)
        self.assertEqual(self.where(tape), (3, None))
        self.assertEqual(self.read(tape), b"3")
        self.fails(errno.EIO, tape.locate, 99)
        self.assertEqual(tape.position(), 7)
        tape.rewind()
        tape.space_files(1)
        self.assertEqual(self.where(tape), (2, 1))
        tape.space_files(1)
        self.assertEqual(self.where(tape), (5, 2))
        tape.space_files(-1)
        self.assertEqual(tape.position(), 4)
        tape.space_files(-1)
        self.assertEqual(tape.position(), 1)
        self.fails(errno.EIO, tape.space_files, -1)
        self.assertEqual(self.where(tape), (0, 0))
        tape.to_end()
        self.assertEqual(self.where(tape), (7, 3))
        tape.space_files(-1)
        self.assertEqual(tape.position(), 6)
        tape.to_end()
        self.assertEqual(self.where(tape), (7, 3))
        self.fails(errno.EIO, tape.space_files, 1)

    def test_space_blocks(self) -> None:
        """Blocks are spaced over until a file mark, which is passed with an error."""
        tape = self.opened()
        self.write(tape, b"0", b"1", b"", b"3", b"")
        tape.rewind()
        tape.space_blocks(1)
        self.assertEqual(self.read(tape), b"1")
        tape.space_blocks(-1)
        self.assertEqual(self.read(tape), b"1")
        self.fails(errno.EIO, tape.space_blocks, 1)
        self.assertEqual(self.where(tape), (3, 1))
        self.assertFalse(tape.status().is_at_end_of_data)
        self.fails(errno.EIO, tape.space_blocks, -1)
        self.assertEqual(tape.position(), 2)

    def test_open_end(self) -> None:
        """Without a file mark at its end, the last one is not next to the end of data."""
        tape = self.opened()
        self.write(tape, b"0", b"", b"2", b"3")
        tape.write_filemarks(0)
        tape.locate(0)
        tape.to_end()
        end = tape.position()
        tape.space_files(-1)
        # A driver that moves the tape after writing puts a file mark there first.
        self.assertIn((end, tape.position()), {(4, 1), (5, 4)})

    def test_writing_cuts(self) -> None:
        """What lies behind the place of a write is gone."""
        tape = self.opened()
        self.write(tape, b"0", b"", b"2", b"", b"4", b"")
        tape.locate(2)
        self.write(tape, b"new", b"")
        tape.rewind()
        tape.to_end()
        self.assertEqual(self.where(tape), (4, 2))
        tape.locate(2)
        self.assertEqual(self.read(tape), b"new")

    def test_position_outlives_the_opener(self) -> None:
        """The tape stays where it is when the drive is closed, and there is one opener at a time."""
        tape = self.opened()
        self.write(tape, b"0", b"", b"2", b"")
        tape.rewind()
        tape.space_files(1)
        self.fails(errno.EBUSY, self.rig.open)
        self.let_go(tape)
        again = self.opened()
        self.assertEqual(self.where(again), (2, 1))
        self.assertEqual(self.read(again), b"2")

    def test_end_of_tape(self) -> None:
        """Near the end a write is refused once to tell of it, goes through when repeated, and closes with a file mark; then there is no room."""
        tape = self.opened()
        written = 0
        content = self.block(bytes(range(256)) * (BLOCK_BYTES // 256))
        with self.assertRaises(OSError) as refused:
            while True:
                tape.write(content)
                written += 1
        self.assertEqual(refused.exception.errno, errno.ENOSPC)
        self.assertLess(written * BLOCK_BYTES, self.rig.capacity_bytes)
        self.assertGreater(written * BLOCK_BYTES, self.rig.capacity_bytes * 9 // 10)
        self.assertEqual(tape.position(), written)
        tape.write(content)
        self.fails(errno.ENOSPC, tape.write, content)
        tape.write_filemarks(1)
        self.assertEqual(tape.position(), written + 2)
        # Behind a file mark it is told anew, behind the next write.
        tape.write(content)
        refusals = 0
        while refusals < 2:
            try:
                tape.write(content)
                refusals = 0
            except OSError as error:
                self.assertEqual(error.errno, errno.ENOSPC)
                refusals += 1
        self.assertLessEqual(tape.position() * BLOCK_BYTES, self.rig.capacity_bytes + 2 * BLOCK_BYTES)
        tape.rewind()
        self.assertEqual(self.read(tape), bytes(content))
        tape.locate(written + 1)
        self.assertEqual(self.read(tape), b"")

    def test_write_protected(self) -> None:
        """A protected tape is told, and takes neither blocks nor file marks."""
        tape = self.opened()
        self.write(tape, b"0", b"")
        self.let_go(tape)
        self.rig.protect()
        tape = self.opened()
        self.assertTrue(tape.status().is_write_protected)
        self.fails(errno.EACCES, tape.write, self.block(b"x"))
        self.fails(errno.EACCES, tape.write_filemarks, 1)
        self.assertEqual(self.read(tape), b"0")

    def test_empty(self) -> None:
        """A drive without a tape can be opened, says so, and does nothing."""
        self.rig.empty()
        tape = self.opened()
        self.assertFalse(tape.status().is_online)
        self.fails(errno.ENOMEDIUM, tape.read, self.buffer)
