"""
Segments: small pieces appended to one file, a group of them made durable by one ``fdatasync``.

Everything that does I/O blocks; one thread at a time appends.
"""

from collections.abc import Sequence

from twisted.logger import Logger

from coldstore.disk.addresses import Names, SliceAddress
from coldstore.disk.containers import PUNCHED_BYTES, Container, Containers, OpenEnd
from coldstore.disk.filesystem import FileSystem, sorted_error
from coldstore.disk.framing import (
    HEADER_BYTES,
    MAGIC,
    RECORD_UNIT_BYTES,
    header,
    read_header,
    record_bytes,
    segment_tag,
)
from coldstore.disk.index import ContainerIndex, dead_pieces
from coldstore.disk.layout import Layout
from coldstore.interfaces.staging import DiskFault
from coldstore.model.errors import StagingFull
from coldstore.util.checksums import crc64nvme

_ZEROS = memoryview(bytes(RECORD_UNIT_BYTES))
_JOINED_BYTES = 2 * 1024 * 1024
"""Groups up to this size are joined before they are written: copying them is quicker than a vector of many pieces."""
_SCAN_BYTES = 4 * 1024 * 1024


class SmallPiece:
    """A small piece that is complete in memory; ``record_bytes`` is the size of its record."""

    __slots__ = ("buffers", "crc64nvme", "length_bytes", "record_bytes")

    def __init__(self, buffers: Sequence[bytes], length_bytes: int, crc64nvme: int) -> None:
        self.buffers = buffers
        self.length_bytes = length_bytes
        self.crc64nvme = crc64nvme
        self.record_bytes = record_bytes(length_bytes)


Outcome = SliceAddress | StagingFull | DiskFault


class SegmentWriter:
    """Appends groups of small pieces to the open segment and makes new ones."""

    log = Logger()

    def __init__(
        self,
        *,
        system: FileSystem,
        layout: Layout,
        names: Names,
        containers: Containers,
        segment_bytes: int,
        step_bytes: int,
    ) -> None:
        """
        :param segment_bytes: a segment is sealed when the next record would make it longer than this.
        :param step_bytes: how far space is allocated ahead, at most.
        """
        self._system = system
        self._layout = layout
        self._names = names
        self._containers = containers
        self._segment_bytes = segment_bytes
        self._step_bytes = step_bytes
        self._open: Container | None = None

    def commit(self, pieces: Sequence[SmallPiece], preparable_bytes: int) -> list[Outcome]:
        """
        Append pieces and make them durable; one outcome each.

        :param preparable_bytes: how much may be allocated ahead now.
        """
        outcomes: list[Outcome] = []
        while len(outcomes) < len(pieces):
            left = pieces[len(outcomes) :]
            try:
                container = self._with_room(left[0].record_bytes)
            except OSError as error:
                failure = sorted_error(error, f"making a segment in {self._layout.containers}")
                return [*outcomes, *(failure for _ in left)]
            group = self._fitting(container, left)
            try:
                outcomes.extend(self._append(container, group, preparable_bytes))
            except OSError as error:
                # After a failed fsync the kernel may call the lost pages clean: nothing behind the last good group
                # can be trusted, and nothing is ever appended here again.
                self._seal_quietly()
                failure = sorted_error(error, f"appending to {self._layout.container(container.name)}")
                outcomes.extend(failure for _ in group)
        return outcomes

    def _with_room(self, record: int) -> Container:
        if self._open is not None:
            end = self._open.open_end
            assert end is not None, "the open segment has an end"
            if end.committed_bytes + record <= self._segment_bytes:
                return self._open
            self._seal_quietly()
        self._open = self._made()
        return self._open

    def _made(self) -> Container:
        container = Container(self._names.segment(), ContainerIndex(record_bytes))
        path = self._layout.container(container.name)
        descriptor = self._system.create(path)
        try:
            self._system.sync_directory(self._layout.containers)
        except OSError:
            self._system.close(descriptor)
            self._system.unlink(path)
            raise
        container.open_end = OpenEnd(descriptor, 0, 0, True, 0, 0)
        container.has_list = False
        self._containers.remember(container)
        return container

    def _fitting(self, container: Container, pieces: Sequence[SmallPiece]) -> list[SmallPiece]:
        end = container.open_end
        assert end is not None, "the open segment has an end"
        room = self._segment_bytes - end.committed_bytes
        group: list[SmallPiece] = []
        for piece in pieces:
            room -= piece.record_bytes
            if room < 0:
                break
            group.append(piece)
        return group

    def _append(self, container: Container, group: list[SmallPiece], preparable: int) -> list[SliceAddress]:
        end = container.open_end
        assert end is not None, "the open segment has an end"
        tag = segment_tag(container.name)
        buffers: list[bytes | memoryview] = []
        offset = end.committed_bytes
        addresses: list[SliceAddress] = []
        for piece in group:
            buffers.append(header(tag, piece.length_bytes, piece.crc64nvme))
            buffers.extend(piece.buffers)
            buffers.append(_ZEROS[: piece.record_bytes - HEADER_BYTES - piece.length_bytes])
            addresses.append(SliceAddress(container.name, offset, piece.length_bytes))
            offset += piece.record_bytes
        self._allocate(container, end, offset, preparable)
        if offset - end.committed_bytes <= _JOINED_BYTES:
            buffers = [b"".join(buffers)]
        self._system.write(end.descriptor, buffers, end.committed_bytes)
        self._system.sync(end.descriptor)
        with container.lock:
            for address, piece in zip(addresses, group, strict=True):
                space_end = address.offset_bytes + piece.record_bytes
                container.index.add(address.offset_bytes, piece.length_bytes, space_end)
            end.committed_bytes = offset
            end.allocated_bytes = max(end.allocated_bytes, offset)
            self._containers.settled(container, within_allocated=True)
        return addresses

    def _allocate(self, container: Container, end: OpenEnd, needed: int, preparable: int) -> None:
        if needed <= end.allocated_bytes:
            return
        ahead = max(0, min(self._step_bytes, preparable))
        wanted = max(needed, min(end.allocated_bytes + ahead, self._segment_bytes))
        with container.lock:
            try:
                for target in dict.fromkeys((wanted, needed)):
                    try:
                        is_allocated = self._system.allocate(
                            end.descriptor, end.allocated_bytes, target - end.allocated_bytes
                        )
                        break
                    except OSError:
                        if target == needed:
                            raise
            finally:
                self._containers.settled(container)
            end.is_preallocated = end.is_preallocated and is_allocated
            end.allocated_bytes = target
            self._containers.settled(container)

    def _seal_quietly(self) -> None:
        """Seal the open segment. When that fails it stays without a list, and the next start makes one from the records."""
        container, self._open = self._open, None
        if container is None:
            return
        try:
            self._seal(container)
        except OSError as error:
            self.log.error(
                "segment {name} could not be sealed, the next start will: {error}",
                name=container.name,
                error=error,
            )

    def _seal(self, container: Container) -> None:
        with container.lock:
            end = container.open_end
            assert end is not None, "the open segment has an end"
            try:
                self._system.truncate(end.descriptor, end.committed_bytes)
                end.allocated_bytes = end.committed_bytes
                self._system.sync(end.descriptor)
                self._containers.write_list(container)
            finally:
                # Nothing is appended here any more: what could not be given back is used up.
                end.is_preallocated = False
                self._containers.settled(container)
                container.open_end = None
                self._system.close(end.descriptor)
            self._containers.tidy(container)

    def seal_if_sparse(self) -> None:
        """Seal the open segment when most of it is dead: only of a sealed one the space comes back."""
        container = self._open
        if container is None or container.open_end is None:
            return
        with container.lock:
            index = container.index
            dead_bytes = container.open_end.committed_bytes - index.alive_bytes
            is_sparse = index.alive == 0 if dead_bytes < PUNCHED_BYTES else dead_bytes > index.alive_bytes
        if is_sparse and dead_bytes:
            self._seal_quietly()

    def close(self) -> None:
        """Seal the open segment, so that the next start has nothing to check."""
        self._seal_quietly()


def left_open(system: FileSystem, layout: Layout) -> dict[str, Container]:
    """
    Return the segments that an earlier run left open, by name, each with what is in it up to its last whole record.

    They can be read, and have to be sealed before they can be forgotten. The bytes read are those of these segments, of which a run has
    two at most.

    :raise OSError: the disk failed.
    """
    there = set(system.names(layout.containers))
    found = {}
    for name in sorted(there):
        if not name.startswith("s-") or "." in name or f"{name}.records" in there:
            continue
        descriptor = system.open(layout.container(name))
        try:
            dead = system.content(layout.dead(name)) if f"{name}.dead" in there else b""
            index = scanned(system, descriptor, segment_tag(name), dict(dead_pieces(dead)))
        finally:
            system.close(descriptor)
        found[name] = Container(name, index)
        found[name].has_list = False
    return found


def scanned(system: FileSystem, descriptor: int, tag: int, dead: dict[int, int]) -> ContainerIndex:
    """
    Find the records of a segment that has no list, up to the last whole one.

    A discarded record has no header any more once its space was given back, so ``dead`` (offset to length) says how long
    it was. Behind a place that is neither, the next header that is ours is looked for: what follows was acknowledged
    although something before it rotted.
    """
    size = system.size(descriptor)
    found: list[tuple[int, int, bool]] = []
    offset = 0
    while offset < size:
        if offset in dead:
            found.append((offset, dead[offset], True))
        else:
            stated = read_header(system.read(descriptor, HEADER_BYTES, offset), tag)
            if stated is None:
                offset = _next_header(system, descriptor, tag, offset + RECORD_UNIT_BYTES, size, dead)
                continue
            length_bytes, crc64 = stated
            content = system.read(descriptor, length_bytes, offset + HEADER_BYTES)
            found.append((offset, length_bytes, len(content) == length_bytes and crc64nvme(content) == crc64))
        offset += record_bytes(found[-1][1])
    while found and not found[-1][2]:
        found.pop()
    index = ContainerIndex(record_bytes)
    for offset, length_bytes, _ in found:
        index.add(offset, length_bytes, offset + record_bytes(length_bytes))
    for piece in dead.items():
        if (at := index.place(*piece)) is not None:
            index.mark_dead(at)
    return index


def _next_header(
    system: FileSystem, descriptor: int, tag: int, offset: int, size: int, dead: dict[int, int]
) -> int:
    """Return where the next record begins at or behind ``offset``, or ``size``."""
    next_dead = min((each for each in dead if each >= offset), default=size)
    while offset < size:
        window = system.read(descriptor, min(_SCAN_BYTES, size - offset), offset)
        at = window.find(MAGIC)
        while at >= 0:
            if (
                at % RECORD_UNIT_BYTES == 0
                and offset + at < next_dead
                and read_header(window[at : at + HEADER_BYTES], tag)
            ):
                return offset + at
            at = window.find(MAGIC, at + 1)
        if offset + len(window) > next_dead or not window:
            return next_dead
        offset += len(window)
    return next_dead
