"""
A disk in memory that forgets what was not synced, under the seam of ``FileSystem``.

``Disk`` is what survives the process. Content and names are kept apart, as POSIX does: a write is durable once its file was synced, a name
once its directory was. At a power cut each page that was not synced is what it was or what was written to it, by chance, and of what
happened to names since the last sync any part has happened, often a beginning. A disk whose sync fails has dropped what it could not
write, and says so once (Linux, fsync(2): the pages are marked clean).
"""

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from random import Random

from coldstore.disk.filesystem import FileSystem
from tests.simulation.life import Life

PAGE = 4096
Fault = Callable[[str, str], int | None]
"""Given an operation and a path, the errno that it fails with."""


def failure(number: int, path: str) -> OSError:
    """Return the error that a system call gives."""
    return OSError(number, os.strerror(number), path)


def no_fault(_operation: str, _path: str) -> None:
    """A disk that works."""
    return


class File:
    """An inode. ``before`` are the pages that a power cut may bring back."""

    __slots__ = ("before", "content", "is_gone", "pages", "path", "size_before")

    def __init__(self, path: str) -> None:
        self.path = path
        self.is_gone = False
        """Nobody who counts has it any more: its pages are free."""
        self.content = bytearray()
        self.pages: set[int] = set()
        """Those that the file system has allocated."""
        self.before: dict[int, bytes] = {}
        self.size_before = 0

    def touch(self, begin: int, end: int) -> None:
        """Remember the pages of a range as they are, before they are changed."""
        for page in range(begin // PAGE, -(-end // PAGE)):
            if page not in self.before:
                self.before[page] = bytes(self.content[page * PAGE : (page + 1) * PAGE])

    def settle(self) -> None:
        """What is there now is durable."""
        self.before.clear()
        self.size_before = len(self.content)

    def forget(self, random: Random, share: float) -> None:
        """
        A power cut: each page that was not synced came to the disk or did not; ``share`` is the part that did not. What was cut off is
        there as long as the file has its old length.
        """
        size = len(self.content)
        if not self.before and self.size_before == size:
            return
        left = self.size_before if random.random() < share else size
        self.content.extend(bytes(max(0, left - size)))
        for page, old in sorted(self.before.items()):
            if random.random() < share or page * PAGE >= size:
                self._bring_back(page, old)
        del self.content[left:]
        self.pages = {page for page in self.pages if page * PAGE < left}
        self.settle()

    def drop(self) -> None:
        """A sync failed: what was not synced is lost, and nobody will try again."""
        for page, old in self.before.items():
            self._bring_back(page, old)
        self.settle()

    def _bring_back(self, page: int, old: bytes) -> None:
        begin = page * PAGE
        length = min(PAGE, max(0, len(self.content) - begin))
        self.content[begin : begin + length] = old[:length].ljust(length, b"\0")
        if old.strip(b"\0"):
            self.pages.add(page)


class Change:
    """
    Something that happened to names.

    :param earlier: what happened to the same names before, and cannot come to the disk after this
    """

    __slots__ = ("apply", "earlier", "is_durable", "names", "number")

    def __init__(
        self,
        number: int,
        names: tuple[str, ...],
        apply: Callable[[dict[str, File]], None],
        earlier: tuple["Change", ...],
    ) -> None:
        self.number = number
        self.names = names
        self.apply = apply
        self.earlier = earlier
        self.is_durable = False


CHANGES_MOST = 2000
"""So many changes to names may be open; then the older half comes to the disk by itself, as a journal does in time."""


class Disk:
    """What survives the process: files and names. ``fault`` decides which calls fail."""

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.processes: list[SimulatedFileSystem] = []
        """Those that work on it."""
        self.names: dict[str, File] = {}
        self.folders: dict[str, dict[str, None]] = {}
        """Files by folder. Folders are made once, at the first start, and are durable."""
        self.below: dict[str, list[str]] = {}
        """Folders by folder."""
        self._durable: dict[str, File] = {}
        self._changes: list[Change] = []
        """What happened to names and is not durable, oldest first."""
        self._changes_of: dict[str, list[Change]] = {}
        """The same by folder."""
        self._last_change_of: dict[str, Change] = {}
        """The last of them by name."""
        self._change_count = 0
        self.allocated_pages = 0
        self.fault: Fault = no_fault

    @property
    def free_bytes(self) -> int:
        """What is left."""
        return self.capacity_bytes - self.allocated_pages * PAGE

    def take(self, file: File, begin: int, end: int, *, all_or_none: bool = False) -> int:
        """
        Allocate the pages of a range; return up to where there was room.

        :raise OSError: ENOSPC, if it has to be all of it
        """
        wanted = [page for page in range(begin // PAGE, -(-end // PAGE)) if page not in file.pages]
        room = self.free_bytes // PAGE
        if len(wanted) > room:
            if all_or_none:
                raise failure(errno.ENOSPC, file.path)
            end = max(begin, wanted[room] * PAGE)
            del wanted[room:]
        file.pages.update(wanted)
        self.allocated_pages += 0 if file.is_gone else len(wanted)
        return end

    def give_back(self, file: File, begin: int, end: int) -> None:
        """Free the whole pages of a range."""
        freed = [page for page in range(-(-begin // PAGE), end // PAGE) if page in file.pages]
        file.pages.difference_update(freed)
        self.allocated_pages -= 0 if file.is_gone else len(freed)

    def note(self, names: tuple[str, ...], change: Callable[[dict[str, File]], None]) -> None:
        """Names change; durable when the folder of one of them is synced."""
        change(self.names)
        self._change_count += 1
        last = self._last_change_of
        noted = Change(self._change_count, names, change, tuple(last[name] for name in names if name in last))
        self._changes.append(noted)
        for name in names:
            last[name] = noted
        for folder in dict.fromkeys(name.rpartition("/")[0] for name in names):
            self._changes_of.setdefault(folder, []).append(noted)
        if len(self._changes) > CHANGES_MOST:
            self._settle(self._changes[: CHANGES_MOST // 2])
            self._changes = [each for each in self._changes if not each.is_durable]
            for folder, changes in self._changes_of.items():
                self._changes_of[folder] = [each for each in changes if not each.is_durable]

    def _settle(self, changes: Sequence[Change]) -> None:
        settled: list[Change] = []
        waiting = list(changes)
        while waiting:
            each = waiting.pop()
            if not each.is_durable:
                each.is_durable = True
                settled.append(each)
                waiting += each.earlier
                each.earlier = ()
                for name in each.names:
                    if self._last_change_of.get(name) is each:
                        del self._last_change_of[name]
        for each in sorted(settled, key=lambda change: change.number):
            each.apply(self._durable)

    def sync_folder(self, folder: str) -> None:
        """Make durable what happened to names in a folder."""
        self._settle(self._changes_of.pop(folder, []))

    def cut_power(self, random: Random) -> None:
        """Everything that was not synced is there or not: often some of it, often none, often all."""
        open_changes = [each for each in self._changes if not each.is_durable]
        beginning = open_changes[: random.randint(0, len(open_changes))]
        some = [each for each in open_changes if random.random() < 0.5]
        self._settle(random.choice(([], beginning, some, open_changes)))
        share = random.choice((0.0, 0.5, 1.0))
        self._changes.clear()
        self._changes_of.clear()
        self._last_change_of.clear()
        self.names = dict(self._durable)
        for path, file in self.names.items():
            file.path = path
            file.is_gone = False
            file.forget(random, share)
        self.folders = {folder: {} for folder in self.folders}
        for path in self.names:
            folder, _, name = path.rpartition("/")
            self.folders[folder][name] = None
        self.release_unnamed()

    def release_unnamed(self) -> None:
        """Files without a name and without a process that has them open are gone."""
        there = {id(file): file for file in self.names.values()}
        there.update((id(file), file) for process in self.processes for file in process.opened())
        self.allocated_pages = sum(len(file.pages) for file in there.values())

    def is_open(self, file: File) -> bool:
        """Whether some process has a file open."""
        return any(process.holds(file) for process in self.processes)

    def absence(self, path: str) -> OSError:
        """Return what is wrong with a path that names no file."""
        if path in self.folders:
            return failure(errno.EISDIR, path)
        above = path
        while above and above not in self.folders:
            above = above.rpartition("/")[0]
            if above in self.names:
                return failure(errno.ENOTDIR, path)
        return failure(errno.ENOENT, path)

    def read(self, path: str, offset_bytes: int, length_bytes: int) -> bytes:
        """
        Read as the mover does, from another process.

        :raise OSError: it is not there, or cannot be read
        """
        self.demand("read", path)
        if path not in self.names:
            raise self.absence(path)
        return bytes(self.names[path].content[offset_bytes : offset_bytes + length_bytes])

    def demand(self, operation: str, path: str) -> None:
        """
        See that an operation works.

        :raise OSError: it does not
        """
        number = self.fault(operation, path)
        if number is not None:
            raise failure(number, path)

    def write(self, path: str, offset_bytes: int, content: bytes) -> None:
        """
        Write and sync as the mover does.

        :raise OSError: it cannot
        """
        self.demand("write", path)
        if path not in self.names:
            raise self.absence(path)
        file = self.names[path]
        put(self, file, offset_bytes, [content])
        self.demand("sync", path)
        file.settle()


def put(disk: Disk, file: File, offset_bytes: int, buffers: Sequence[bytes | memoryview]) -> None:
    """
    Write to the page cache, as much as there is room for.

    :raise OSError: ENOSPC
    """
    for buffer in buffers:
        if not len(buffer):
            continue
        wanted = offset_bytes + len(buffer)
        end = disk.take(file, offset_bytes, wanted)
        if end > offset_bytes:
            file.touch(offset_bytes, end)
            if len(file.content) < offset_bytes:
                file.content.extend(bytes(offset_bytes - len(file.content)))
            file.content[offset_bytes:end] = buffer[: end - offset_bytes]
        if end < wanted:
            raise failure(errno.ENOSPC, file.path)
        offset_bytes = end


class SimulatedFileSystem(FileSystem):
    """What one process sees of a ``Disk``; see ``FileSystem`` for what each call means."""

    def __init__(self, disk: Disk, life: Life) -> None:
        self._disk = disk
        self._life = life
        self._open: dict[int, File] = {}
        disk.processes = [each for each in disk.processes if not each.is_over] + [self]
        self._writable: set[int] = set()
        self._next = 3

    @property
    def is_over(self) -> bool:
        """Whether the process has died."""
        return self._life.is_over

    def holds(self, file: File) -> bool:
        """Whether the process has a file open."""
        return file in self.opened()

    def opened(self) -> Iterable[File]:
        """The files that the process has open. What one machine removes is gone for the other one, whoever had it open there (nfs(5))."""
        is_elsewhere = self._life.is_frozen or self._life.taken_over_at is not None
        return () if self.is_over or is_elsewhere else self._open.values()

    def _descriptor(self, file: File, *, for_writing: bool = True) -> int:
        self._next += 1
        self._open[self._next] = file
        if for_writing:
            self._writable.add(self._next)
        return self._next

    def _opened(self, descriptor: int, unless_writable: int = 0) -> File:
        """Return an open file; ``unless_writable`` is how a call fails on one that was not opened to write."""
        try:
            file = self._open[descriptor]
        except KeyError:
            raise failure(errno.EBADF, f"descriptor {descriptor}") from None
        if unless_writable and descriptor not in self._writable:
            raise failure(unless_writable, file.path)
        return file

    def _file(self, path: Path) -> File:
        try:
            return self._disk.names[str(path)]
        except KeyError:
            raise self._disk.absence(str(path)) from None

    def _change(self, operation: str, path: str) -> None:
        self._life.effect(f"{operation} {path}")
        self._disk.demand(operation, path)

    def create(self, path: Path) -> int:
        self._change("create", str(path))
        if self.exists(path):
            raise failure(errno.EEXIST, str(path))
        return self._descriptor(self._made(path))

    def _made(self, path: Path) -> File:
        name, folder = str(path), str(path.parent)
        if folder not in self._disk.folders or name in self._disk.folders:
            raise self._disk.absence(name)
        file = File(name)

        def make(names: dict[str, File]) -> None:
            names[name] = file

        self._disk.folders[folder][path.name] = None
        self._disk.note((name,), make)
        return file

    def open(self, path: Path, *, for_writing: bool = False) -> int:
        self._life.look()
        self._disk.demand("open", str(path))
        return self._descriptor(self._file(path), for_writing=for_writing)

    def close(self, descriptor: int) -> None:
        file = self._opened(descriptor)
        del self._open[descriptor]
        self._writable.discard(descriptor)
        if (
            file.path not in self._disk.names or self._disk.names[file.path] is not file
        ) and not self._disk.is_open(file):
            self._gone(file)

    def _gone(self, file: File) -> None:
        """A file lost its only name, and nobody has it open. (A power cut may bring back both.)"""
        if not file.is_gone:
            file.is_gone = True
            self._disk.allocated_pages -= len(file.pages)

    def write(self, descriptor: int, buffers: Sequence[bytes | memoryview], offset_bytes: int) -> None:
        file = self._opened(descriptor, errno.EBADF)
        self._change("write", file.path)
        put(self._disk, file, offset_bytes, buffers)

    def read(self, descriptor: int, length_bytes: int, offset_bytes: int) -> bytes:
        self._life.look()
        file = self._opened(descriptor)
        self._disk.demand("read", file.path)
        if offset_bytes < 0:
            raise failure(errno.EINVAL, file.path)
        return bytes(file.content[offset_bytes : offset_bytes + length_bytes])

    def read_into(self, descriptor: int, buffer: bytearray | memoryview, offset_bytes: int) -> int:
        content = self.read(descriptor, len(buffer), offset_bytes)
        buffer[: len(content)] = content
        return len(content)

    def read_cached(self, descriptor: int, length_bytes: int, offset_bytes: int) -> bytes | None:
        content = self.read(descriptor, length_bytes, offset_bytes)
        return content if len(content) == length_bytes else None

    def begin_writing(self, descriptor: int, offset_bytes: int, length_bytes: int) -> None:
        pass

    def sync(self, descriptor: int) -> None:
        file = self._opened(descriptor)
        self._life.effect(f"sync {file.path}")
        number = self._disk.fault("sync", file.path)
        if number is not None:
            taken = len(file.pages)
            file.drop()
            self._disk.allocated_pages += 0 if file.is_gone else len(file.pages) - taken
            raise failure(number, file.path)
        file.settle()

    def sync_directory(self, path: Path) -> None:
        self._change("sync folder", str(path))
        self._demand_folder(str(path))
        self._disk.sync_folder(str(path))

    def allocate(self, descriptor: int, offset_bytes: int, length_bytes: int) -> bool:
        file = self._opened(descriptor, errno.EBADF)
        self._change("allocate", file.path)
        end = offset_bytes + length_bytes
        self._disk.take(file, offset_bytes, end, all_or_none=True)
        if len(file.content) < end:
            file.content.extend(bytes(end - len(file.content)))
        return True

    def punch(self, descriptor: int, offset_bytes: int, length_bytes: int) -> bool:
        file = self._opened(descriptor, errno.EBADF)
        self._change("punch", file.path)
        end = min(offset_bytes + length_bytes, len(file.content))
        if end > offset_bytes:
            file.touch(offset_bytes, end)
            file.content[offset_bytes:end] = bytes(end - offset_bytes)
        self._disk.give_back(file, offset_bytes, offset_bytes + length_bytes)
        return True

    def truncate(self, descriptor: int, length_bytes: int) -> None:
        file = self._opened(descriptor, errno.EINVAL)
        self._change("truncate", file.path)
        self._cut(file, length_bytes)

    def _cut(self, file: File, length_bytes: int) -> None:
        if length_bytes < len(file.content):
            file.touch(length_bytes, len(file.content))
            del file.content[length_bytes:]
            last = max(file.pages, default=-1)
            self._disk.give_back(file, length_bytes, (last + 1) * PAGE)
        else:
            file.content.extend(bytes(length_bytes - len(file.content)))

    def rename(self, source: Path, target: Path) -> None:
        self._change("rename", f"{source} to {target.name}")
        file = self._file(source)
        old, new = str(source), str(target)
        if str(target.parent) not in self._disk.folders or new in self._disk.folders:
            raise self._disk.absence(new)
        replaced = self._disk.names.get(new)
        if replaced is file:
            return

        def rename(names: dict[str, File]) -> None:
            names.pop(old, None)
            names[new] = file

        file.path = new
        del self._disk.folders[str(source.parent)][source.name]
        self._disk.folders[str(target.parent)][target.name] = None
        self._disk.note((old, new), rename)
        if replaced is not None and not self._disk.is_open(replaced):
            self._gone(replaced)

    def unlink(self, path: Path) -> bool:
        self._change("unlink", str(path))
        name, folder = str(path), str(path.parent)
        file = self._disk.names.get(name)
        if file is None:
            absence = self._disk.absence(name)
            if isinstance(absence, FileNotFoundError):
                return False
            raise absence

        def unlink(names: dict[str, File]) -> None:
            names.pop(name, None)

        del self._disk.folders[folder][path.name]
        self._disk.note((name,), unlink)
        if not self._disk.is_open(file):
            self._gone(file)
        return True

    def size(self, descriptor: int) -> int:
        self._life.look()
        return len(self._opened(descriptor).content)

    def occupied(self, path: Path) -> int:
        self._life.look()
        file = self._disk.names.get(str(path))
        if file is None and isinstance(absence := self._disk.absence(str(path)), NotADirectoryError):
            raise absence
        return 0 if file is None else len(file.pages) * PAGE

    def occupied_open(self, descriptor: int) -> int:
        self._life.look()
        return len(self._opened(descriptor).pages) * PAGE

    def free_bytes(self, path: Path) -> int:
        self._life.look()
        if not self.exists(path):
            raise self._disk.absence(str(path))
        return self._disk.free_bytes

    def names(self, path: Path) -> list[str]:
        self._life.look()
        self._disk.demand("list", str(path))
        folder = str(path)
        self._demand_folder(folder)
        return sorted((*self._disk.folders[folder], *self._disk.below.get(folder, ())))

    def _demand_folder(self, path: str) -> None:
        if path not in self._disk.folders:
            raise failure(errno.ENOTDIR, path) if path in self._disk.names else self._disk.absence(path)

    def make_directory(self, path: Path) -> None:
        self._life.look()
        if str(path) in self._disk.names:
            raise failure(errno.EEXIST, str(path))
        if any(str(folder) in self._disk.names for folder in path.parents):
            raise failure(errno.ENOTDIR, str(path))
        for folder in (path, *path.parents):
            if str(folder) in self._disk.folders:
                return
            self._disk.folders[str(folder)] = {}
            self._disk.below.setdefault(str(folder.parent), []).append(folder.name)

    def content(self, path: Path) -> bytes:
        self._life.look()
        self._disk.demand("read", str(path))
        return bytes(self._file(path).content)

    def put(self, path: Path, content: bytes) -> None:
        self._change("create", str(path))
        file = self._disk.names.get(str(path)) or self._made(path)
        self._cut(file, 0)
        descriptor = self._descriptor(file)
        try:
            self.write(descriptor, [content], 0)
            self.sync(descriptor)
        finally:
            self.close(descriptor)

    def append(self, path: Path, content: bytes, whole: Callable[[int], int]) -> None:
        self._change("create", str(path))
        file = self._disk.names.get(str(path)) or self._made(path)
        descriptor = self._descriptor(file)
        try:
            self.write(descriptor, [content], whole(len(file.content)))
            self.sync(descriptor)
        finally:
            self.close(descriptor)

    def exists(self, path: Path) -> bool:
        self._life.look()
        return str(path) in self._disk.names or str(path) in self._disk.folders
