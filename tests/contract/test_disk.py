"""``FileSystem``: Linux as it is, and the disk of the simulated world."""

import errno
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from coldstore.disk.filesystem import FileSystem
from tests.contract.disk_contract import SMALL_BYTES, DiskContract, bytes_of
from tests.simulation.disk import CHANGES_MOST, PAGE, Disk, SimulatedFileSystem, no_fault
from tests.simulation.life import Life
from tests.simulation.reactor import VirtualReactor


class LinuxTests(DiskContract, SynchronousTestCase):
    """On the file system of the temporary directory."""

    def make_disk(self) -> tuple[FileSystem, Path]:
        """A new directory."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        return FileSystem(), folder

    def make_small_disk(self) -> tuple[FileSystem, Path]:
        """A file system in memory."""
        mount = Path(tempfile.mkdtemp(prefix="coldstore-small-"))
        words = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_BYTES}", "coldstore-test", str(mount)]
        if os.geteuid() != 0 or subprocess.run(words, capture_output=True).returncode:
            mount.rmdir()
            raise SkipTest("mounting a small file system needs root")
        self.addCleanup(mount.rmdir)
        self.addCleanup(subprocess.run, ["umount", "-l", str(mount)], check=True)
        return FileSystem(), mount


class SimulatedDiskTests(DiskContract, SynchronousTestCase):
    """In memory."""

    def make_disk(self) -> tuple[FileSystem, Path]:
        """A disk of its own."""
        return self.made_disk(1 << 30)

    def make_small_disk(self) -> tuple[FileSystem, Path]:
        """The same with less room."""
        return self.made_disk(SMALL_BYTES)

    @staticmethod
    def made_disk(capacity_bytes: int) -> tuple[FileSystem, Path]:
        """A disk with one folder."""
        system = SimulatedFileSystem(Disk(capacity_bytes), Life(VirtualReactor(0.0)))
        folder = Path("/disk")
        system.make_directory(folder)
        return system, folder


class SimulatedDiskHarness(SynchronousTestCase):
    """A disk of the simulated world, and what a power cut makes of it."""

    SEEDS = range(60)

    def setUp(self) -> None:
        """Have a disk with three folders."""
        self.begin()

    def begin(self) -> None:
        """Take a new disk."""
        self.disk, self.life = Disk(1 << 24), Life(VirtualReactor(0.0))
        self.restart()
        for folder in ("/a", "/b", "/c"):
            self.system.make_directory(Path(folder))

    def restart(self) -> None:
        """The process dies, and another one looks at the disk."""
        self.life.end()
        self.life = Life(VirtualReactor(0.0))
        self.system = SimulatedFileSystem(self.disk, self.life)

    def outcomes(self, prepare: Callable[[], None]) -> set[tuple[tuple[str, bytes], ...]]:
        """Return what is there after a power cut, by name, as chance has it; ``prepare`` begins on an empty disk."""
        found: set[tuple[tuple[str, bytes], ...]] = set()
        for seed in self.SEEDS:
            self.begin()
            prepare()
            self.cut_power(seed)
            found.add(tuple(sorted((name, bytes(file.content)) for name, file in self.disk.names.items())))
        return found

    def cut_power(self, seed: int) -> None:
        """The power goes; what is left agrees with itself."""
        self.life.end()
        self.disk.cut_power(Random(seed))
        self.restart()
        listed = [
            f"{folder}/{name}" for folder in ("/a", "/b", "/c") for name in self.system.names(Path(folder))
        ]
        self.assertEqual(listed, sorted(self.disk.names))
        files = list(self.disk.names.values())
        self.assertEqual(len({id(file) for file in files}), len(files), "a file has two names")
        self.assertEqual([file.path for file in files], list(self.disk.names))
        occupied = sum(self.system.occupied(Path(name)) for name in listed)
        self.assertEqual(self.disk.capacity_bytes - self.system.free_bytes(Path("/a")), occupied)
        for file in files:
            written = {at // PAGE for at, byte in enumerate(file.content) if byte}
            self.assertLessEqual(written, file.pages)
            self.assertLessEqual(max(file.pages, default=-1), (len(file.content) - 1) // PAGE)

    def make(self, path: str, content: bytes) -> int:
        """Make a file and make its content durable; return its descriptor."""
        descriptor = self.system.create(Path(path))
        self.system.write(descriptor, [content], 0)
        self.system.sync(descriptor)
        return descriptor

    def kept(self, path: str, content: bytes) -> int:
        """Make a file and all of it durable."""
        descriptor = self.make(path, content)
        self.system.sync_directory(Path(path).parent)
        return descriptor


class PowerCutTests(SimulatedDiskHarness):
    """What a disk keeps and what it may lose when the power goes."""

    def test_durable(self) -> None:
        """What was synced, under a name whose folder was synced, is there."""

        def prepare() -> None:
            self.kept("/a/file", b"content")

        self.assertEqual(self.outcomes(prepare), {(("/a/file", b"content"),)})

    def test_name_that_was_not_synced(self) -> None:
        """A file whose folder was not synced is there or not; when it is there, so is what was synced of it."""

        def prepare() -> None:
            self.make("/a/file", b"content")

        self.assertEqual(self.outcomes(prepare), {(("/a/file", b"content"),), ()})

    def test_content_that_was_not_synced(self) -> None:
        """Each page is what was written or what was there, in any mixture; what was synced stays."""
        old, new = bytes_of(3 * PAGE, 1), bytes_of(2 * PAGE, 2)

        def prepare() -> None:
            descriptor = self.kept("/a/file", old)
            self.system.write(descriptor, [new], PAGE)

        pages = [old[:PAGE]]
        found = self.outcomes(prepare)
        self.assertEqual(
            found,
            {
                (("/a/file", pages[0] + second + third),)
                for second in (old[PAGE : 2 * PAGE], new[:PAGE])
                for third in (old[2 * PAGE :], new[PAGE:])
            },
        )

    def test_growth_that_was_not_synced(self) -> None:
        """A file that grew has its old length, or the new one with what was written or zeros."""

        def prepare() -> None:
            descriptor = self.kept("/a/file", b"old")
            self.system.write(descriptor, [b"new"], 3)

        self.assertEqual(
            self.outcomes(prepare),
            {(("/a/file", content),) for content in (b"old", b"oldnew", b"old\0\0\0")},
        )

    def test_unlink_that_was_not_synced(self) -> None:
        """An unlinked file may come back, with its content and the room it takes up."""

        def prepare() -> None:
            self.system.close(self.kept("/a/file", b"content"))
            self.system.unlink(Path("/a/file"))
            self.assertEqual(self.system.free_bytes(Path("/a")), self.disk.capacity_bytes)

        self.assertEqual(self.outcomes(prepare), {(("/a/file", b"content"),), ()})

    def test_unlink(self) -> None:
        """Once the folder was synced it stays away, also when somebody had the file open."""

        def prepare() -> None:
            self.kept("/a/file", b"content")
            self.system.unlink(Path("/a/file"))
            self.system.sync_directory(Path("/a"))

        self.assertEqual(self.outcomes(prepare), {()})

    def test_rename_that_was_not_synced(self) -> None:
        """A file has one of its two names."""

        def prepare() -> None:
            self.kept("/a/file", b"content")
            self.system.rename(Path("/a/file"), Path("/b/file"))

        self.assertEqual(self.outcomes(prepare), {(("/a/file", b"content"),), (("/b/file", b"content"),)})

    def test_rename(self) -> None:
        """It has the new one alone once that one's folder was synced, or the old one's, whatever else was."""

        def prepare() -> None:
            self.make("/a/file", b"content")
            self.system.rename(Path("/a/file"), Path("/b/file"))
            for folder in folders:
                self.system.sync_directory(Path(folder))

        for folders in (["/b"], ["/a"], ["/b", "/a"]):
            self.assertEqual(self.outcomes(prepare), {(("/b/file", b"content"),)}, folders)

    def test_rename_twice(self) -> None:
        """A file that got its name by two renames has one name, whatever was synced of it."""

        def prepare() -> None:
            self.kept("/a/file", b"content")
            self.system.rename(Path("/a/file"), Path("/b/file"))
            self.system.rename(Path("/b/file"), Path("/c/file"))
            if synced:
                self.system.sync_directory(Path(synced))

        for synced, folders in (("", "abc"), ("/a", "bc"), ("/b", "c"), ("/c", "c")):
            expected = {((f"/{folder}/file", b"content"),) for folder in folders}
            self.assertEqual(self.outcomes(prepare), expected, synced)

    def test_rename_in_place_of_another(self) -> None:
        """Under the name is the old file or the new one, never none; the new one for good once it was synced."""

        def prepare() -> None:
            self.kept("/a/file", b"old")
            self.kept("/a/file.new", b"new")
            self.system.rename(Path("/a/file.new"), Path("/a/file"))
            if is_synced:
                self.system.sync_directory(Path("/a"))

        for is_synced in (False, True):
            before = set() if is_synced else {(("/a/file", b"old"), ("/a/file.new", b"new"))}
            self.assertEqual(self.outcomes(prepare), {(("/a/file", b"new"),), *before})

    def test_name_that_was_taken_over(self) -> None:
        """A name that is durable is not that of the file which had it before, when the folder is synced afterwards."""

        def prepare() -> None:
            self.make("/b/file", b"old")
            self.make("/a/file", b"new")
            self.system.rename(Path("/a/file"), Path("/b/file"))
            self.system.sync_directory(Path("/a"))
            self.system.sync_directory(Path("/b"))

        self.assertEqual(self.outcomes(prepare), {(("/b/file", b"new"),)})

    def test_truncation_that_was_not_synced(self) -> None:
        """A file that was cut has its old length and content, or the new ones."""
        content = bytes_of(5 * PAGE)

        def prepare() -> None:
            descriptor = self.kept("/a/file", content)
            self.system.truncate(descriptor, PAGE)

        self.assertEqual(self.outcomes(prepare), {(("/a/file", content),), (("/a/file", content[:PAGE]),)})

    def test_truncation_of_what_was_written_since(self) -> None:
        """Pages that were written before a file was cut come back to their places."""
        content, last = bytes_of(5 * PAGE, 1), bytes_of(PAGE, 2)

        def prepare() -> None:
            descriptor = self.kept("/a/file", content)
            self.system.write(descriptor, [last], 4 * PAGE)
            self.system.write(descriptor, [last], 2 * PAGE)
            self.system.truncate(descriptor, PAGE + 7)

        for ((name, left),) in self.outcomes(prepare):
            self.assertEqual(name, "/a/file")
            self.assertIn(len(left), (PAGE + 7, 5 * PAGE))
            self.assertEqual(left[: PAGE + 7], content[: PAGE + 7])
            self.assertIn(left[2 * PAGE :], (b"", content[2 * PAGE :]))

    def test_hole_that_was_not_synced(self) -> None:
        """What was punched out is zeros or still there, page by page, and then takes up its room."""
        content = bytes_of(2 * PAGE)

        def prepare() -> None:
            descriptor = self.kept("/a/file", content)
            self.system.punch(descriptor, 0, 2 * PAGE)

        zeros = bytes(PAGE)
        self.assertEqual(
            self.outcomes(prepare),
            {
                (("/a/file", first + second),)
                for first in (content[:PAGE], zeros)
                for second in (content[PAGE:], zeros)
            },
        )

    def test_allocation_that_was_not_synced(self) -> None:
        """A file that was given room has its old length, or the new one."""

        def prepare() -> None:
            descriptor = self.kept("/a/file", b"content")
            self.system.allocate(descriptor, 0, 3 * PAGE)

        self.assertEqual(
            self.outcomes(prepare),
            {(("/a/file", b"content"),), (("/a/file", b"content".ljust(3 * PAGE, b"\0")),)},
        )

    def test_twice(self) -> None:
        """What came to the disk at a power cut is durable: the next one changes nothing."""
        for seed in self.SEEDS:
            self.begin()
            descriptor = self.kept("/a/file", bytes_of(3 * PAGE, 1))
            self.system.write(descriptor, [bytes_of(3 * PAGE, 2)], 0)
            self.make("/a/other", b"other")
            self.system.rename(Path("/a/file"), Path("/b/file"))
            self.cut_power(seed)
            left = {name: bytes(file.content) for name, file in self.disk.names.items()}
            self.cut_power(seed + 1000)
            self.assertEqual({name: bytes(file.content) for name, file in self.disk.names.items()}, left)

    def test_many_changes(self) -> None:
        """Of many changes to names the older ones come to the disk by themselves."""

        def prepare() -> None:
            for number in range(CHANGES_MOST // 2 + 10):
                self.make("/a/new", b"%d" % number)
                self.system.rename(Path("/a/new"), Path("/a/file"))

        self.SEEDS = range(4)
        for found in self.outcomes(prepare):
            (number,) = [int(content) for name, content in found if name == "/a/file"]
            self.assertGreaterEqual(number, CHANGES_MOST // 4)


class DeathTests(SimulatedDiskHarness):
    """What becomes of the disk of a process that is killed."""

    def test_killed(self) -> None:
        """Nothing is lost that was written, and what it had open and unlinked is room again."""
        content = bytes_of(3 * PAGE)
        self.system.write(self.system.create(Path("/a/file")), [content], 0)
        for is_durable, name in ((False, "/a/passing"), (True, "/a/durable")):
            self.make(name, content)
            if is_durable:
                self.system.sync_directory(Path("/a"))
            self.system.unlink(Path(name))
        self.assertEqual(self.system.free_bytes(Path("/a")), self.disk.capacity_bytes - 9 * PAGE)
        self.life.end()
        self.disk.release_unnamed()
        self.restart()
        self.assertEqual(self.system.free_bytes(Path("/a")), self.disk.capacity_bytes - 3 * PAGE)
        self.assertEqual(self.system.names(Path("/a")), ["file"])
        self.assertEqual(self.system.content(Path("/a/file")), content)


class FaultTests(SimulatedDiskHarness):
    """Calls that fail when they are told to."""

    def test_calls(self) -> None:
        """A call that fails has changed nothing."""
        content = bytes_of(PAGE)
        path, other = Path("/a/file"), Path("/b/file")
        descriptor = self.kept("/a/file", content)
        calls: list[tuple[str, Callable[[], object]]] = [
            ("create", lambda: self.system.create(other)),
            ("create", lambda: self.system.put(other, b"x")),
            ("create", lambda: self.system.append(other, b"x", lambda length: length)),
            ("open", lambda: self.system.open(path)),
            ("write", lambda: self.system.write(descriptor, [b"x"], 0)),
            ("read", lambda: self.system.read(descriptor, 1, 0)),
            ("read", lambda: self.system.content(path)),
            ("allocate", lambda: self.system.allocate(descriptor, 0, 2 * PAGE)),
            ("punch", lambda: self.system.punch(descriptor, 0, PAGE)),
            ("truncate", lambda: self.system.truncate(descriptor, 0)),
            ("rename", lambda: self.system.rename(path, other)),
            ("unlink", lambda: self.system.unlink(path)),
            ("list", lambda: self.system.names(Path("/a"))),
            ("sync folder", lambda: self.system.sync_directory(Path("/a"))),
        ]
        for operation, call in calls:
            self.disk.fault = lambda asked, _path, failing=operation: errno.EIO if asked == failing else None
            self.assertEqual(self.assertRaises(OSError, call).errno, errno.EIO, operation)
            self.disk.fault = no_fault
            self.assertEqual(self.system.content(path), content)
            self.assertEqual((self.system.names(Path("/a")), self.system.names(Path("/b"))), (["file"], []))
            self.assertEqual(self.system.free_bytes(Path("/a")), self.disk.capacity_bytes - PAGE)

    def test_sync(self) -> None:
        """A sync that fails has dropped what was not synced, whether it was there before or is new, and says so once."""
        old, new = bytes_of(3 * PAGE, 1), bytes_of(PAGE, 2)
        descriptor = self.kept("/a/file", old + b"end")
        self.system.write(descriptor, [new], PAGE)
        self.system.write(descriptor, [b"behind"], 3 * PAGE + 3)
        self.system.write(descriptor, [new], 4 * PAGE)
        self.disk.fault = lambda operation, _path: errno.EIO if operation == "sync" else None
        self.assertEqual(self.assertRaises(OSError, self.system.sync, descriptor).errno, errno.EIO)
        self.disk.fault = no_fault
        self.system.sync(descriptor)
        left = (old + b"end").ljust(5 * PAGE, b"\0")
        self.assertEqual(self.system.content(Path("/a/file")), left)
        self.cut_power(1)
        self.assertEqual(self.system.content(Path("/a/file")), left)

    def test_sync_of_a_hole(self) -> None:
        """What was punched out before a sync that failed is there again, and its room is taken."""
        content = bytes_of(3 * PAGE)
        descriptor = self.kept("/a/file", content)
        self.system.punch(descriptor, PAGE, PAGE)
        self.disk.fault = lambda operation, _path: errno.EIO if operation == "sync" else None
        self.assertRaises(OSError, self.system.sync, descriptor)
        self.disk.fault = no_fault
        self.assertEqual(self.system.content(Path("/a/file")), content)
        self.assertEqual(self.system.occupied(Path("/a/file")), 3 * PAGE)
        self.assertEqual(self.system.free_bytes(Path("/a")), self.disk.capacity_bytes - 3 * PAGE)

    def test_sync_of_what_was_cut(self) -> None:
        """What was written before a file was cut does not come back at another place."""
        content = bytes_of(5 * PAGE, 1)
        descriptor = self.kept("/a/file", content)
        self.system.write(descriptor, [bytes_of(PAGE, 2)], 3 * PAGE)
        self.system.truncate(descriptor, 7)
        self.disk.fault = lambda operation, _path: errno.EIO if operation == "sync" else None
        self.assertRaises(OSError, self.system.sync, descriptor)
        self.disk.fault = no_fault
        self.assertEqual(self.system.content(Path("/a/file")), content[:7])
