"""
Large pieces: one file each, written under a temporary name, published by rename. Blocking; runs in threads.
"""

from array import array
from collections.abc import Sequence

from coldstore.disk.addresses import FileAddress
from coldstore.disk.blocks import BlockChecksums, ChecksumsDamaged, decoded, encoded
from coldstore.disk.containers import Counts
from coldstore.disk.filesystem import FileSystem, sorted_error
from coldstore.disk.layout import BLOCKS, Layout
from coldstore.interfaces.staging import BLOCK_BYTES, DiskFault

BEGIN_BYTES = 8 * 1024 * 1024
"""The disk begins to write when so much has come; otherwise it would rest until the end, and the client wait for all of it."""
MOST_SMALL_BUFFERS = 64
"""A batch in more buffers than this is joined before it is written: copying is then cheaper than the vector."""


class ArrivingFile:
    """One large piece while it is written; used by one thread at a time."""

    def __init__(
        self, *, system: FileSystem, layout: Layout, address: FileAddress, size_bytes: int, counts: Counts
    ) -> None:
        self._system = system
        self._layout = layout
        self._size_bytes = size_bytes
        self._counts = counts
        self._descriptor: int | None = None
        self._is_made = False
        self._written = 0
        self._begun = 0
        self.address = address
        self.checksums = BlockChecksums()

    def open(self) -> bool:
        """Make the file in its full size; tell whether its space is allocated."""
        path = self._layout.arriving(self.address)
        try:
            self._descriptor = self._system.create(path)
            self._is_made = True
            return self._system.allocate(self._descriptor, 0, self._size_bytes)
        except OSError as error:
            raise sorted_error(error, f"making {path}") from error

    def write(self, buffers: Sequence[bytes]) -> None:
        """Append a batch."""
        assert self._descriptor is not None, "write comes after open"
        if len(buffers) > MOST_SMALL_BUFFERS:
            buffers = (b"".join(buffers),)
        for each in buffers:
            self.checksums.update(each)
        try:
            self._system.write(self._descriptor, buffers, self._written)
        except OSError as error:
            raise sorted_error(error, f"writing {self._layout.arriving(self.address)}") from error
        self._written = self.checksums.length_bytes
        if self._written - self._begun >= BEGIN_BYTES:
            self._system.begin_writing(self._descriptor, self._begun, self._written - self._begun)
            self._begun = self._written

    def publish(self) -> None:
        """Make content, checksums and name durable, in the length that was written. Afterwards the file counts as used."""
        assert self._descriptor is not None, "publish comes after open"
        source, target = self._layout.arriving(self.address), self._layout.file(self.address)
        try:
            if self._written < self._size_bytes:
                self._system.truncate(self._descriptor, self._written)
            self._system.sync(self._descriptor)
            descriptor, self._descriptor = self._descriptor, None
            self._system.close(descriptor)
            if self._written > BLOCK_BYTES:
                beside = source.with_name(source.name + BLOCKS)
                self._system.put(beside, encoded(self.checksums.blocks(), self._written))
                self._system.rename(beside, self._layout.blocks(self.address))
                self._system.sync_directory(target.parent)
            self._system.rename(source, target)
            self._system.sync_directory(target.parent)
            self._counts.used(self.address.name, occupied(self._system, self._layout, self.address))
        except OSError as error:
            raise sorted_error(error, f"publishing {target}") from error

    def drop(self) -> None:
        """Remove all of it, wherever it stands; repeatable."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            self._system.close(descriptor)
        if not self._is_made:
            # A disk that takes nothing does not even let go of what is not there.
            return
        source, target = self._layout.arriving(self.address), self._layout.file(self.address)
        try:
            for path in (
                source,
                source.with_name(source.name + BLOCKS),
                target,
                self._layout.blocks(self.address),
            ):
                self._system.unlink(path)
        except OSError as error:
            raise sorted_error(error, f"removing {source}") from error


def occupied(system: FileSystem, layout: Layout, address: FileAddress) -> int:
    """Return what a published piece occupies, its checksums included."""
    return system.occupied(layout.file(address)) + system.occupied(layout.blocks(address))


def discard(system: FileSystem, layout: Layout, addresses: Sequence[FileAddress], counts: Counts) -> None:
    """
    Unlink file pieces, durably. Unknown ones are ignored.

    :raise DiskFault: the disk failed; the rest is done when asked again.
    """
    directories: dict[str, None] = {}
    try:
        for address in addresses:
            for path in (layout.file(address), layout.blocks(address)):
                size = system.occupied(path)
                if system.unlink(path):
                    counts.used(address.name, -size)
            # Also when nothing was there: an earlier call may have unlinked it and failed to make that durable.
            directories[address.fan_out] = None
        for fan_out in directories:
            system.sync_directory(layout.files / fan_out)
    except OSError as error:
        raise DiskFault(f"freeing pieces in {layout.files}: {error.strerror}") from error


def block_checksums(
    system: FileSystem, layout: Layout, address: FileAddress, length_bytes: int
) -> "array[int]":
    """
    Read the block checksums of a file piece; empty when it has one block only.

    :raise DiskFault: they are missing or damaged.
    """
    if length_bytes <= BLOCK_BYTES:
        return array("Q")
    path = layout.blocks(address)
    try:
        checksums, recorded = decoded(system.content(path))
    except OSError as error:
        raise DiskFault(f"reading the block checksums {path}: {error.strerror}") from error
    except ChecksumsDamaged as error:
        raise DiskFault(f"the block checksums {path} {error}") from error
    if recorded != length_bytes:
        raise DiskFault(f"the block checksums {path} are of {recorded} bytes, not {length_bytes}")
    return checksums
