"""What staging relies on of the system calls behind ``FileSystem``, on Linux and on a disk in memory."""

import errno
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from twisted.trial.unittest import SynchronousTestCase

from coldstore.disk.filesystem import ALLOCATION_BYTES, MOST_BUFFERS, FileSystem

if TYPE_CHECKING:
    _Base = SynchronousTestCase
else:
    _Base = object

UNIT = ALLOCATION_BYTES
SMALL_BYTES = 256 * UNIT
SLACK_BYTES = 64 * UNIT
"""What a file system may allocate beyond what was written to a file, for more to come."""


def bytes_of(length_bytes: int, seed: int = 1) -> bytes:
    """Bytes of which none is zero, equal for equal seeds."""
    return bytes(byte or 1 for byte in Random(seed).randbytes(length_bytes))


class DiskContract(_Base):
    """Mixed into a test case that says which disk. ``folder`` is there and empty when a test begins."""

    system: FileSystem
    folder: Path

    def make_disk(self) -> tuple[FileSystem, Path]:
        """Return the calls of a disk, and a folder on it that is there and empty."""
        raise NotImplementedError

    def make_small_disk(self) -> tuple[FileSystem, Path]:
        """The same of a disk with room for SMALL_BYTES, what the file system itself takes included."""
        raise NotImplementedError

    def setUp(self) -> None:
        """Have an empty folder."""
        self.system, self.folder = self.make_disk()

    def fails(self, number: int, call: Callable[..., object], *arguments: object, **named: object) -> None:
        """Check that a call fails, and how."""
        error = self.assertRaises(OSError, call, *arguments, **named)
        self.assertEqual(
            errno.errorcode.get(error.errno or 0), errno.errorcode[number], f"{call} {arguments}"
        )

    def made(self, name: str, content: bytes = b"") -> Path:
        """Make a file; return its path."""
        path = self.folder / name
        descriptor = self.system.create(path)
        self.system.write(descriptor, [content], 0)
        self.system.close(descriptor)
        return path

    def opened(self, name: str, content: bytes = b"") -> int:
        """Make a file and open it to write; the test's end closes it."""
        descriptor = self.system.open(self.made(name, content), for_writing=True)
        self.addCleanup(self.system.close, descriptor)
        return descriptor

    def whole(self, descriptor: int) -> bytes:
        """Everything that an open file holds."""
        return self.system.read(descriptor, self.system.size(descriptor) + 1, 0)

    # Making and opening.

    def test_create(self) -> None:
        """A new file is empty, and can be written and read; a name that is taken, or has no place, makes none."""
        path = self.folder / "file"
        descriptor = self.system.create(path)
        self.assertEqual(self.system.size(descriptor), 0)
        self.assertEqual(self.system.occupied(path), 0)
        self.system.write(descriptor, [b"content"], 0)
        self.assertEqual(self.whole(descriptor), b"content")
        self.system.close(descriptor)
        self.fails(errno.EEXIST, self.system.create, path)
        self.fails(errno.EEXIST, self.system.create, self.folder)
        self.fails(errno.ENOENT, self.system.create, self.folder / "missing" / "file")
        self.fails(errno.ENOTDIR, self.system.create, path / "file")
        self.assertEqual(self.system.content(path), b"content")
        self.assertEqual(self.system.names(self.folder), ["file"])

    def test_open(self) -> None:
        """Everybody who opened a file sees what others write to it; who did not open it to write cannot change it."""
        path = self.made("file", b"content")
        reading, writing = self.system.open(path), self.system.open(path, for_writing=True)
        self.assertNotEqual(reading, writing)
        self.system.write(writing, [b"C"], 0)
        self.assertEqual(self.whole(reading), b"Content")
        self.assertEqual(self.whole(writing), b"Content")
        self.fails(errno.EBADF, self.system.write, reading, [b"x"], 0)
        self.fails(errno.EBADF, self.system.allocate, reading, 0, UNIT)
        self.fails(errno.EBADF, self.system.punch, reading, 0, UNIT)
        self.fails(errno.EINVAL, self.system.truncate, reading, 0)
        self.system.sync(reading)
        self.system.close(writing)
        self.assertEqual(self.whole(reading), b"Content")
        self.system.close(reading)
        for for_writing in (False, True):
            self.fails(errno.ENOENT, self.system.open, self.folder / "other", for_writing=for_writing)
            self.fails(errno.ENOENT, self.system.open, self.folder / "no" / "file", for_writing=for_writing)
            self.fails(errno.ENOTDIR, self.system.open, path / "file", for_writing=for_writing)
        self.fails(errno.EISDIR, self.system.open, self.folder, for_writing=True)

    def test_closed(self) -> None:
        """A descriptor that was closed is none any more."""
        descriptor = self.system.open(self.made("file", b"content"), for_writing=True)
        self.system.close(descriptor)
        for call in (self.system.close, self.system.sync, self.system.size, self.system.occupied_open):
            self.fails(errno.EBADF, call, descriptor)
        self.fails(errno.EBADF, self.system.write, descriptor, [b"x"], 0)
        self.fails(errno.EBADF, self.system.read, descriptor, 1, 0)
        self.fails(errno.EBADF, self.system.read_into, descriptor, bytearray(1), 0)
        self.fails(errno.EBADF, self.system.read_cached, descriptor, 1, 0)
        self.fails(errno.EBADF, self.system.allocate, descriptor, 0, 1)
        self.fails(errno.EBADF, self.system.punch, descriptor, 0, 1)
        self.fails(errno.EBADF, self.system.truncate, descriptor, 0)

    # Content.

    def test_write(self) -> None:
        """Buffers land one behind the other at the offset, however many; what lay there before gives way, what is between is zero."""
        descriptor = self.opened("file")
        parts = [bytes_of(1 + at % 7, at) for at in range(MOST_BUFFERS * 2 + 3)]
        joined = b"".join(parts)
        views = [memoryview(part) if at % 2 else part for at, part in enumerate(parts)]
        self.system.write(descriptor, [b"", *views, b""], 100)
        self.assertEqual(self.whole(descriptor), bytes(100) + joined)
        self.system.write(descriptor, [b"abc", memoryview(b"defg")[1:3]], 98)
        expected = bytes(98) + b"abcef" + joined[3:]
        self.assertEqual(self.whole(descriptor), expected)
        self.system.write(descriptor, [b"end"], 5 * UNIT)
        self.assertEqual(self.whole(descriptor), expected.ljust(5 * UNIT, b"\0") + b"end")

    def test_write_nothing(self) -> None:
        """Writing no bytes changes nothing, wherever."""
        descriptor = self.opened("file", b"content")
        for buffers in ([], [b""], [b"", memoryview(b"")]):
            self.system.write(descriptor, buffers, 1000)
        self.assertEqual(self.whole(descriptor), b"content")

    def test_written_bytes_are_a_copy(self) -> None:
        """What becomes of a buffer after it was written is its owner's business."""
        buffer = bytearray(b"content")
        descriptor = self.opened("file")
        self.system.write(descriptor, [memoryview(buffer)], 0)
        buffer[:] = b"another"
        self.assertEqual(self.whole(descriptor), b"content")

    def test_read(self) -> None:
        """Reading stops at the end of the file; behind it there is nothing."""
        content = bytes_of(3 * UNIT + 5)
        descriptor = self.opened("file", content)
        for offset, length in (
            (0, 3 * UNIT + 5),
            (UNIT - 1, 2),
            (7, 0),
            (3 * UNIT, 6),
            (3 * UNIT + 5, 1),
            (9 * UNIT, 1),
        ):
            expected = content[offset : offset + length]
            self.assertEqual(self.system.read(descriptor, length, offset), expected)
            buffer = bytearray(b"\xee" * length)
            for into in (buffer, memoryview(buffer)):
                self.assertEqual(self.system.read_into(descriptor, into, offset), len(expected))
                self.assertEqual(buffer, expected.ljust(length, b"\xee"))
            cached = self.system.read_cached(descriptor, length, offset)
            self.assertIn(cached, (expected, None) if len(expected) == length else (None,))
        self.fails(errno.EINVAL, self.system.read, descriptor, 1, -1)

    def test_sync(self) -> None:
        """Having content and names made durable changes nothing that can be seen."""
        descriptor = self.opened("file", b"content")
        self.system.begin_writing(descriptor, 0, 7)
        self.system.sync(descriptor)
        self.system.sync_directory(self.folder)
        self.assertEqual(self.whole(descriptor), b"content")
        self.fails(errno.ENOENT, self.system.sync_directory, self.folder / "missing")
        self.fails(errno.ENOTDIR, self.system.sync_directory, self.folder / "file")

    # Length and room.

    def test_allocate(self) -> None:
        """Allocating grows the file with zeros, never shrinks it, changes no byte, and takes up room where the disk can."""
        descriptor = self.opened("file", b"content")
        is_allocated = self.system.allocate(descriptor, 0, 10 * UNIT + 1)
        self.assertEqual(self.whole(descriptor), b"content".ljust(10 * UNIT + 1, b"\0"))
        self.assertEqual(self.system.allocate(descriptor, 0, UNIT), is_allocated)
        self.assertEqual(self.system.size(descriptor), 10 * UNIT + 1)
        self.assertEqual(self.system.allocate(descriptor, 20 * UNIT, 3), is_allocated)
        self.assertEqual(self.whole(descriptor), b"content".ljust(20 * UNIT + 3, b"\0"))
        if is_allocated:
            self.assertEqual(self.system.occupied_open(descriptor), 12 * UNIT)
            self.assertEqual(self.system.occupied(self.folder / "file"), 12 * UNIT)

    def test_writing_what_is_allocated(self) -> None:
        """Bytes that go where there is room already take no more of it."""
        descriptor = self.opened("file")
        if self.system.allocate(descriptor, 0, 8 * UNIT):
            self.system.write(descriptor, [bytes_of(8 * UNIT)], 0)
            self.system.sync(descriptor)
            self.assertEqual(self.system.occupied_open(descriptor), 8 * UNIT)
        self.assertEqual(self.system.size(descriptor), 8 * UNIT)

    def test_occupied(self) -> None:
        """A file takes up the blocks that were written to, not those between, and one that is not there takes none."""
        descriptor = self.opened("file", b"x")
        self.system.write(descriptor, [b"y"], 1024 * UNIT)
        self.system.sync(descriptor)
        self.assertGreaterEqual(self.system.occupied_open(descriptor), 2 * UNIT)
        self.assertLess(self.system.occupied_open(descriptor), 2 * UNIT + SLACK_BYTES)
        self.assertEqual(self.system.occupied_open(descriptor), self.system.occupied(self.folder / "file"))
        self.assertEqual(self.system.occupied(self.folder / "missing"), 0)
        self.assertEqual(self.system.occupied(self.folder / "missing" / "file"), 0)
        self.fails(errno.ENOTDIR, self.system.occupied, self.folder / "file" / "file")

    def test_punch(self) -> None:
        """What is punched out reads as zeros, the rest stays, and whole blocks of it are free again, until they are written to."""
        content = bytes_of(16 * UNIT)
        descriptor = self.opened("file")
        self.system.allocate(descriptor, 0, len(content))
        self.system.write(descriptor, [content], 0)
        self.system.sync(descriptor)
        before = self.system.occupied_open(descriptor)
        begin, end = 2 * UNIT - 10, 9 * UNIT + 10
        if not self.system.punch(descriptor, begin, end - begin):
            self.assertEqual(self.whole(descriptor), content)
            return
        expected = content[:begin] + bytes(end - begin) + content[end:]
        self.assertEqual(self.whole(descriptor), expected)
        self.assertEqual(before - self.system.occupied_open(descriptor), 7 * UNIT)
        self.assertTrue(self.system.punch(descriptor, begin, end - begin))
        self.assertEqual(before - self.system.occupied_open(descriptor), 7 * UNIT)
        self.assertTrue(self.system.punch(descriptor, 12 * UNIT, 100 * UNIT))
        self.assertTrue(self.system.punch(descriptor, 40 * UNIT, UNIT))
        self.assertEqual(self.whole(descriptor), expected[: 12 * UNIT] + bytes(4 * UNIT))
        self.assertEqual(before - self.system.occupied_open(descriptor), 11 * UNIT)
        self.system.write(descriptor, [b"x"], 4 * UNIT + 5)
        self.system.sync(descriptor)
        self.assertEqual(self.system.read(descriptor, 7, 4 * UNIT + 4), b"\0x\0\0\0\0\0")
        self.assertEqual(before - self.system.occupied_open(descriptor), 10 * UNIT)

    def test_truncate(self) -> None:
        """What is cut off is gone and its blocks are free; a file that grows again has zeros there, and takes up nothing for them."""
        content = bytes_of(8 * UNIT)
        descriptor = self.opened("file")
        is_allocated = self.system.allocate(descriptor, 0, 20 * UNIT)
        self.system.write(descriptor, [content], 0)
        self.system.truncate(descriptor, 3 * UNIT + 7)
        self.assertEqual(self.whole(descriptor), content[: 3 * UNIT + 7])
        self.system.sync(descriptor)
        if is_allocated:
            self.assertEqual(self.system.occupied_open(descriptor), 4 * UNIT)
        self.system.truncate(descriptor, 10 * UNIT)
        self.assertEqual(self.whole(descriptor), content[: 3 * UNIT + 7].ljust(10 * UNIT, b"\0"))
        if is_allocated:
            self.assertEqual(self.system.occupied_open(descriptor), 4 * UNIT)
        self.system.truncate(descriptor, 0)
        self.assertEqual(self.whole(descriptor), b"")
        self.system.sync(descriptor)
        self.assertEqual(self.system.occupied_open(descriptor), 0)

    # Names.

    def test_rename(self) -> None:
        """A file has its new name alone, in the same folder or another, and who has it open keeps it."""
        path = self.made("file", b"content")
        descriptor = self.system.open(path, for_writing=True)
        other = self.folder / "folder"
        self.system.make_directory(other)
        for source, target in ((path, self.folder / "new"), (self.folder / "new", other / "newer")):
            self.system.rename(source, target)
            self.assertFalse(self.system.exists(source))
            self.assertEqual(self.system.content(target), b"content")
        self.system.write(descriptor, [b"C"], 0)
        self.system.close(descriptor)
        self.assertEqual(self.system.content(other / "newer"), b"Content")
        self.assertEqual(self.system.names(self.folder), ["folder"])
        self.assertEqual(self.system.names(other), ["newer"])

    def test_rename_in_place_of_another(self) -> None:
        """A file takes the place of the one that had the name; who has that open reads it on."""
        old, new = self.made("old", b"of old"), self.made("new", b"anew")
        descriptor = self.system.open(old, for_writing=True)
        self.system.rename(new, old)
        self.assertEqual(self.system.names(self.folder), ["old"])
        self.assertEqual(self.system.content(old), b"anew")
        self.assertEqual(self.whole(descriptor), b"of old")
        self.system.write(descriptor, [b"!"], 6)
        self.system.sync(descriptor)
        self.assertEqual(self.whole(descriptor), b"of old!")
        self.system.close(descriptor)
        self.assertEqual(self.system.content(old), b"anew")

    def test_rename_to_itself(self) -> None:
        """Nothing changes."""
        path = self.made("file", b"content")
        self.system.sync_directory(self.folder)
        before = self.system.occupied(path)
        self.system.rename(path, path)
        self.assertEqual(self.system.content(path), b"content")
        self.assertEqual(self.system.names(self.folder), ["file"])
        self.assertEqual(self.system.occupied(path), before)

    def test_rename_in_vain(self) -> None:
        """A rename that fails leaves both names as they were."""
        path = self.made("file", b"content")
        self.system.make_directory(self.folder / "folder")
        for number, source, target in (
            (errno.ENOENT, self.folder / "missing", path),
            (errno.ENOENT, path, self.folder / "missing" / "file"),
            (errno.ENOTDIR, path, path / "file"),
            (errno.EISDIR, path, self.folder / "folder"),
        ):
            self.fails(number, self.system.rename, source, target)
            self.assertEqual(self.system.names(self.folder), ["file", "folder"])
            self.assertEqual(self.system.content(path), b"content")

    def test_unlink(self) -> None:
        """A name is removed once; then it is free for another file."""
        path = self.made("file", b"content")
        self.assertIs(self.system.unlink(path), True)
        self.assertIs(self.system.unlink(path), False)
        self.assertIs(self.system.unlink(self.folder / "missing" / "file"), False)
        self.assertFalse(self.system.exists(path))
        self.assertEqual(self.system.occupied(path), 0)
        self.assertEqual(self.system.names(self.folder), [])
        self.made("file", b"another")
        self.assertEqual(self.system.content(path), b"another")
        self.fails(errno.ENOTDIR, self.system.unlink, path / "file")
        self.fails(errno.EISDIR, self.system.unlink, self.folder)

    def test_unlinked_and_open(self) -> None:
        """Who has an unlinked file open reads and writes it as before; a new file of its name is another one."""
        descriptor = self.opened("file", b"content")
        second = self.system.open(self.folder / "file")
        self.system.unlink(self.folder / "file")
        self.made("file", b"another")
        self.system.write(descriptor, [b"C", b"O"], 0)
        self.system.sync(descriptor)
        self.assertEqual(self.whole(descriptor), b"COntent")
        self.assertEqual(self.whole(second), b"COntent")
        self.system.close(second)
        self.system.allocate(descriptor, 0, 3 * UNIT)
        self.assertEqual(self.system.size(descriptor), 3 * UNIT)
        self.system.truncate(descriptor, 2)
        self.assertEqual(self.whole(descriptor), b"CO")
        self.assertEqual(self.system.content(self.folder / "file"), b"another")

    def test_names(self) -> None:
        """Files and folders in one folder are listed in order, and nothing from below."""
        for name in ("b", "a.x", "a", "c-"):
            self.made(name)
        self.system.make_directory(self.folder / "ab" / "below")
        self.assertEqual(self.system.names(self.folder), ["a", "a.x", "ab", "b", "c-"])
        self.assertEqual(self.system.names(self.folder / "ab"), ["below"])
        self.assertEqual(self.system.names(self.folder / "ab" / "below"), [])
        self.fails(errno.ENOENT, self.system.names, self.folder / "missing")
        self.fails(errno.ENOTDIR, self.system.names, self.folder / "a")

    def test_make_directory(self) -> None:
        """A folder is made with those above it, once; what is in it stays when it is asked for again."""
        deep = self.folder / "one" / "two"
        self.system.make_directory(deep)
        self.made("one/two/file", b"content")
        for path in (deep, self.folder / "one", self.folder):
            self.system.make_directory(path)
        self.assertEqual(self.system.content(deep / "file"), b"content")
        self.fails(errno.EEXIST, self.system.make_directory, deep / "file")
        self.fails(errno.ENOTDIR, self.system.make_directory, deep / "file" / "folder")
        self.assertEqual(self.system.names(deep), ["file"])

    def test_exists(self) -> None:
        """Files and folders are there, everything else is not."""
        path = self.made("file")
        for there in (path, self.folder):
            self.assertIs(self.system.exists(there), True)
        for missing in (self.folder / "missing", self.folder / "missing" / "file", path / "file"):
            self.assertIs(self.system.exists(missing), False)

    # Small files.

    def test_put(self) -> None:
        """A small file is what was put last, shorter or longer, and takes up no more than that."""
        path = self.folder / "file"
        for length in (10, 9 * UNIT, 3, 0, 5):
            content = bytes_of(length, length)
            self.system.put(path, content)
            self.assertEqual(self.system.content(path), content)
            self.assertGreaterEqual(self.system.occupied(path), -(-length // UNIT) * UNIT)
            if length < UNIT:
                self.assertLessEqual(self.system.occupied(path), UNIT)
        self.fails(errno.ENOENT, self.system.content, self.folder / "missing")
        self.fails(errno.ENOTDIR, self.system.content, path / "file")
        self.fails(errno.EISDIR, self.system.content, self.folder)
        self.fails(errno.ENOENT, self.system.put, self.folder / "missing" / "file", b"x")
        self.fails(errno.ENOTDIR, self.system.put, path / "file", b"x")
        self.fails(errno.EISDIR, self.system.put, self.folder, b"x")

    def test_append(self) -> None:
        """Bytes come behind the whole entries of what is there, over a stump, and longer stumps are not cut."""
        path = self.folder / "file"
        lengths: list[int] = []

        def whole(length: int) -> int:
            lengths.append(length)
            return length // 4 * 4

        for part in (b"aaaa", b"bbbbb", b"cccc", b"d"):
            self.system.append(path, part, whole)
        self.assertEqual(self.system.content(path), b"aaaabbbbccccd")
        self.assertEqual(lengths, [0, 4, 9, 12])
        self.system.append(path, b"EE", lambda length: 4)
        self.assertEqual(self.system.content(path), b"aaaaEEbbccccd")
        self.fails(errno.ENOENT, self.system.append, self.folder / "missing" / "file", b"x", whole)
        self.fails(errno.ENOTDIR, self.system.append, path / "file", b"x", whole)
        self.fails(errno.EISDIR, self.system.append, self.folder, b"x", whole)
        self.assertEqual(len(lengths), 4)

    # A disk that is full.

    def test_free(self) -> None:
        """What is left of the disk is told of any folder or file on it."""
        self.assertGreater(self.system.free_bytes(self.folder), SMALL_BYTES)
        self.assertGreater(self.system.free_bytes(self.made("file")), SMALL_BYTES)
        self.fails(errno.ENOENT, self.system.free_bytes, self.folder / "missing")

    def test_full(self) -> None:
        """What does not fit is refused, what was written before is there, and what was given up is room for others."""
        self.system, self.folder = self.make_small_disk()
        free = self.system.free_bytes(self.folder)
        self.assertLessEqual(free, SMALL_BYTES)
        path = self.made("first", content := bytes_of(free // 2, 1))
        self.assertEqual(self.system.free_bytes(self.folder), free - self.system.occupied(path))
        too_much = bytes_of(free, 2)
        descriptor = self.opened("second")
        self.fails(errno.ENOSPC, self.system.write, descriptor, [too_much], 0)
        self.assertLess(self.system.free_bytes(self.folder), UNIT)
        # As much of it as there was room for: whoever counts must ask.
        written = self.whole(descriptor)
        self.assertGreater(len(written), free // 2 - 2 * UNIT)
        self.assertEqual(written, too_much[: len(written)])
        self.fails(errno.ENOSPC, self.system.allocate, descriptor, 0, free)
        self.fails(errno.ENOSPC, self.system.put, self.folder / "third", b"x")
        self.assertEqual(self.system.content(self.folder / "third"), b"")
        self.assertEqual(self.system.content(path), content)
        self.system.write(descriptor, [b"over"], 0)
        self.assertEqual(self.whole(descriptor), b"over" + written[4:])
        self.system.truncate(descriptor, 0)
        self.assertEqual(self.system.free_bytes(self.folder), free - self.system.occupied(path))

    def test_full_while_open(self) -> None:
        """An unlinked or replaced file takes up its room until the last who has it open closes it."""
        self.system, self.folder = self.make_small_disk()
        free = self.system.free_bytes(self.folder)
        for is_replaced in (False, True):
            path = self.made("file", bytes_of(100 * UNIT))
            descriptors = [self.system.open(path) for _ in range(2)]
            if is_replaced:
                self.system.rename(self.made("empty"), path)
            else:
                self.system.unlink(path)
            for descriptor in descriptors:
                self.assertEqual(self.system.free_bytes(self.folder), free - 100 * UNIT)
                self.system.close(descriptor)
            self.assertEqual(self.system.free_bytes(self.folder), free)
        self.system.rename(self.made("again", bytes_of(100 * UNIT)), path)
        self.system.rename(self.made("empty"), path)
        self.assertEqual(self.system.free_bytes(self.folder), free)

    def test_full_and_punched(self) -> None:
        """What was punched out is room again, and may be lacking when it is written to anew."""
        self.system, self.folder = self.make_small_disk()
        descriptor = self.opened("file")
        free = self.system.free_bytes(self.folder)
        if not (self.system.allocate(descriptor, 0, free) and self.system.punch(descriptor, 0, 8 * UNIT)):
            return
        self.assertEqual(self.system.free_bytes(self.folder), 8 * UNIT)
        self.made("other", bytes_of(8 * UNIT))
        self.fails(errno.ENOSPC, self.system.write, descriptor, [b"x"], UNIT)
        self.assertEqual(self.system.read(descriptor, 2 * UNIT, 0), bytes(2 * UNIT))
