"""
Containers: files with many pieces in them, what lives in them, and giving back the space of what does not.

Everything here blocks and runs in threads. A container's state is its list of pieces and the dead among them; it is
loaded when first asked for and forgotten when too many pieces are remembered, except that of an open segment.

The space of the dead comes back in three ways. A container in which nothing lives is unlinked. A long stretch of dead
pieces is punched out. What lies scattered between the living stays, so that neither the free space nor the living are
broken into pieces; when a container takes up more than twice what lives in it, it is named as ``sparse``, for somebody
to have the living written elsewhere and discarded here. So no container stays larger than twice what lives in it, its
lists included. (Measured with 4 KiB and 100-byte pieces of which nine in ten died at random, giving back every block at once:
what lived took 1.9 and 9 times its size, was read at a tenth of the speed, and a file of 3 GiB made afterwards had 900 extents
on ext4 and 16,600 on XFS.)
"""

import threading
from array import array
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from coldstore.disk.blocks import ChecksumsDamaged
from coldstore.disk.filesystem import ALLOCATION_BYTES, FileSystem
from coldstore.disk.framing import taken_bytes
from coldstore.disk.index import ContainerIndex, Span, dead_entries, whole_entries
from coldstore.disk.layout import Layout
from coldstore.interfaces.staging import DiskFault

MOST_PIECES_REMEMBERED = 2_000_000
"""About 25 bytes each."""
PUNCHED_BYTES = 1024 * 1024
"""Dead stretches of this length are given back at once: a disk reads pieces of this size as fast as larger ones."""


class Counts(Protocol):
    """Who keeps the account; told of every change from whatever thread made it."""

    def used(self, name: str, change_bytes: int, *, prepared_bytes: int = 0) -> None:
        """
        The container or file ``name`` occupies so many bytes more (or fewer).

        :param prepared_bytes: so many more (or fewer) are allocated ahead in it
        """


@dataclass(slots=True)
class OpenEnd:
    """The end of the open segment: where records go next, and how far space is allocated."""

    descriptor: int
    committed_bytes: int
    allocated_bytes: int
    is_preallocated: bool
    counted_used: int
    counted_prepared: int


class Container:
    """One container. Whoever reads or changes ``index`` holds ``lock``."""

    def __init__(self, name: str, index: ContainerIndex) -> None:
        self.name = name
        self.index = index
        self.lock = threading.Lock()
        self.open_end: OpenEnd | None = None
        self.is_swept = False
        """Whether this process has looked for long stretches of dead pieces. An open segment is looked at when it is sealed."""
        self.has_dead_list = False
        """Whether this process has made the name of the list of the dead durable."""
        self.died_at = 0.0
        """When something in it died last in this run, by the clock of who discards."""
        self.has_list = True
        """Whether its list is on the disk, so that it can be forgotten."""
        self.is_gone = False


def publish_list(system: FileSystem, path: Path, index: ContainerIndex) -> None:
    """Write a list under its name; that name is not durable yet. A list cut off by a crash never gets it."""
    temporary = path.with_name(path.name + ".new")
    try:
        system.put(temporary, index.encoded())
        system.rename(temporary, path)
    except OSError:
        system.unlink(temporary)
        raise


class NotThere(Exception):
    """No such container, or no such living piece in it."""


class Containers:
    """All containers of the directory."""

    def __init__(
        self, system: FileSystem, layout: Layout, counts: Counts, *, on_gone: Callable[[str], None]
    ) -> None:
        """:param on_gone: is told the name of every container that was unlinked, from whatever thread did it."""
        self._on_gone = on_gone
        self._system = system
        self._layout = layout
        self._counts = counts
        self._lock = threading.Lock()
        self._remembered: OrderedDict[str, Container] = OrderedDict()
        self._sparse: dict[str, float] = {}
        """Sealed containers that take up more than twice what lives in them, and when something in each died last."""

    def remember(self, container: Container) -> None:
        """Take in a container that was just made."""
        with self._lock:
            self._remembered[container.name] = container
            self._forget_some()

    def _forget_some(self) -> None:
        pieces = sum(len(each.index) for each in self._remembered.values())
        for name, each in list(self._remembered.items())[:-1]:
            if pieces <= MOST_PIECES_REMEMBERED:
                break
            if each.has_list and not each.lock.locked():
                pieces -= len(each.index)
                del self._remembered[name]

    def known(self, name: str) -> Container:
        """
        Return a container, loaded if need be.

        :raise NotThere: there is none of this name.
        :raise DiskFault: its list cannot be read or is damaged.
        """
        with self._lock:
            found = self._remembered.get(name)
            if found is not None:
                self._remembered.move_to_end(name)
                return found
            found = Container(name, self._loaded(name))
            self._remembered[name] = found
            self._forget_some()
            return found

    def _loaded(self, name: str) -> ContainerIndex:
        path = self._layout.records(name)
        try:
            content = self._system.content(path)
        except FileNotFoundError:
            if self._system.exists(self._layout.container(name)):
                raise DiskFault(f"the list of pieces {path} is missing") from None
            raise NotThere(name) from None
        except OSError as error:
            raise DiskFault(f"reading {path}: {error}") from error
        try:
            dead = self._system.content(self._layout.dead(name))
        except FileNotFoundError:
            dead = b""
        except OSError as error:
            raise DiskFault(f"reading {self._layout.dead(name)}: {error}") from error
        try:
            return ContainerIndex.decoded(content, dead, taken_bytes=partial(taken_bytes, name))
        except ChecksumsDamaged as error:
            raise DiskFault(f"the list of pieces {path} {error}") from error

    def blocks(self, name: str, offset_bytes: int, length_bytes: int) -> "array[int]":
        """
        Return the block checksums of a living piece; empty when it has one block only.

        :raise NotThere: it is not there or was discarded.
        """
        container = self.known(name)
        with container.lock:
            at = container.index.place(offset_bytes, length_bytes)
            if at is None or container.index.is_dead(at):
                raise NotThere(name)
            return container.index.blocks(at)

    def living(self, name: str, after: tuple[int, int], limit: int) -> list[tuple[int, int]]:
        """(offset, length) of living pieces behind ``after``, in order; tidies what a crash left of the dead."""
        try:
            container = self.known(name)
        except NotThere:
            return []
        with container.lock:
            self._sweep(container, ())
            self._weigh(container)
            return container.index.living(after, limit)

    def sparse(self, *, quiet_since: float) -> list[str]:
        """Name the containers that take up more than twice what lives in them, unless something in them died since then."""
        with self._lock:
            return sorted(name for name, died_at in self._sparse.items() if died_at <= quiet_since)

    def discard(self, name: str, pieces: Collection[tuple[int, int]], *, now: float) -> None:
        """
        Free pieces given by offset and length, durably. Unknown ones are ignored.

        :param now: seconds of a clock of the caller's, for ``sparse``.
        :raise DiskFault: the disk failed; the rest is done when asked again.
        """
        try:
            container = self.known(name)
        except NotThere:
            return
        try:
            with container.lock:
                index = container.index
                found = [at for piece in pieces if (at := index.place(*piece)) is not None]
                fresh = [at for at in found if not index.is_dead(at)]
                # The last ones need no note: the container goes with them.
                if fresh and (container.open_end is not None or index.alive > len(fresh)):
                    self._write_dead(container, [index.piece(at) for at in fresh])
                for at in fresh:
                    index.mark_dead(at)
                container.died_at = now
                self._sweep(container, found)
                self._weigh(container)
        except OSError as error:
            # Also when there is no room to note the dead: nothing was promised that could be refused.
            raise DiskFault(f"freeing pieces of {self._layout.container(name)}: {error.strerror}") from error

    def _write_dead(self, container: Container, pieces: Sequence[tuple[int, int]]) -> None:
        path = self._layout.dead(container.name)
        before = self._system.occupied(path)
        try:
            self._system.append(path, dead_entries(pieces), whole_entries)
        finally:
            self._counts.used(container.name, self._system.occupied(path) - before)
        if not container.has_dead_list:
            self._system.sync_directory(self._layout.containers)
            container.has_dead_list = True

    def _sweep(self, container: Container, ordinals: Sequence[int]) -> None:
        """
        Give back long stretches of the dead: around these, or all of them when this process has not looked before; the
        whole container when nothing in it lives.
        """
        if container.is_gone or container.open_end is not None:
            return
        if container.index.alive == 0:
            self._remove(container)
            return
        dead = ordinals if container.is_swept else container.index.dead_ordinals()
        holes = container.index.holes(dead, unit_bytes=ALLOCATION_BYTES, least_bytes=PUNCHED_BYTES)
        if holes:
            descriptor = self._system.open(self._layout.container(container.name), for_writing=True)
            try:
                self._punch(container, descriptor, holes)
                self._system.sync(descriptor)
            finally:
                self._system.close(descriptor)
        container.is_swept = True

    def _punch(self, container: Container, descriptor: int, holes: Sequence[Span]) -> None:
        before = self._system.occupied_open(descriptor)
        try:
            for hole in holes:
                if not self._system.punch(descriptor, hole.begin, hole.end - hole.begin):
                    break
        finally:
            self._counts.used(container.name, self._system.occupied_open(descriptor) - before)

    def _weigh(self, container: Container) -> None:
        """Compare what a sealed container takes up with what lives in it. The caller holds the lock."""
        name = container.name
        is_sparse = False
        if not container.is_gone and container.open_end is None:
            paths = (self._layout.container(name), self._layout.records(name), self._layout.dead(name))
            is_sparse = sum(map(self._system.occupied, paths)) > 2 * container.index.alive_bytes
        with self._lock:
            if is_sparse:
                self._sparse[name] = container.died_at
            else:
                self._sparse.pop(name, None)

    def _remove(self, container: Container) -> None:
        """Unlink a container in which nothing lives; its lists only once that is durable, or it would live again."""
        name = container.name
        paths = (self._layout.container(name), self._layout.records(name), self._layout.dead(name))
        occupied = self._system.occupied(paths[0])
        self._system.unlink(paths[0])
        self._counts.used(name, -occupied)
        self._system.sync_directory(self._layout.containers)
        for path in paths[1:]:
            occupied = self._system.occupied(path)
            self._system.unlink(path)
            self._counts.used(name, -occupied)
        container.is_gone = True
        with self._lock:
            self._remembered.pop(name, None)
        self._on_gone(name)

    def settled(self, container: Container, *, within_allocated: bool = False) -> None:
        """
        Have the account follow what the open segment occupies. The caller holds the lock.

        :param within_allocated: only what was allocated before was used up, so that the file system need not be asked
        """
        end = container.open_end
        assert end is not None, "only an open segment has space allocated ahead"
        prepared = end.allocated_bytes - end.committed_bytes if end.is_preallocated else 0
        if within_allocated and end.is_preallocated:
            occupied = end.counted_used + end.counted_prepared
        else:
            occupied = self._system.occupied_open(end.descriptor)
        used = occupied - prepared
        self._counts.used(
            container.name, used - end.counted_used, prepared_bytes=prepared - end.counted_prepared
        )
        end.counted_used, end.counted_prepared = used, prepared

    def write_list(self, container: Container) -> None:
        """Write the list of a container beside it, durably; first for a recalled one, last for a segment."""
        path = self._layout.records(container.name)
        before = self._system.occupied(path)
        publish_list(self._system, path, container.index)
        self._counts.used(container.name, self._system.occupied(path) - before)
        self._system.sync_directory(self._layout.containers)
        container.has_list = True

    def seal(self, container: Container) -> None:
        """
        Seal a segment that an earlier run left open, behind what was found in it. Repeatable.

        :raise OSError: it is not sealed yet, and can be read all the same.
        """
        with container.lock:
            if container.has_list or container.is_gone:
                return
            path = self._layout.container(container.name)
            before = self._system.occupied(path)
            descriptor = self._system.open(path, for_writing=True)
            try:
                self._system.truncate(descriptor, container.index.end_bytes)
                self._system.sync(descriptor)
            finally:
                self._system.close(descriptor)
                self._counts.used(container.name, self._system.occupied(path) - before)
            if container.index.alive:
                self.write_list(container)
            self.tidy(container)

    def tidy(self, container: Container) -> None:
        """Give back the space of what died in a container that was just sealed. The caller holds the lock."""
        self._sweep(container, ())
        self._weigh(container)
