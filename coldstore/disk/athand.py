"""
Small pieces that are in the page cache: read at once, by the reactor's thread, and checked every time.

Handing a read to a thread and back takes fifty times as long as reading 4 KiB that are in memory, and the kernel says at once
when they are not (``RWF_NOWAIT``, Linux 4.14). Containers that were read lately stay open.
"""

from collections import OrderedDict
from collections.abc import Callable

from coldstore.disk.addresses import SliceAddress, parsed
from coldstore.disk.filesystem import FileSystem
from coldstore.disk.framing import HEADER_BYTES
from coldstore.disk.layout import Layout
from coldstore.model.objects import Piece
from coldstore.util.checksums import crc64nvme

LARGEST_BYTES = 64 * 1024
"""Copying and checking this much takes some ten microseconds."""
MOST_OPEN = 64


class AtHand:
    """Reads small pieces of containers without waiting for the disk. Lives in the reactor's thread."""

    def __init__(self, system: FileSystem, layout: Layout, *, on_damaged: Callable[[str], None]) -> None:
        """:param on_damaged: is told the address of a piece whose bytes are not what was written"""
        self._system = system
        self._layout = layout
        self._on_damaged = on_damaged
        self._open: OrderedDict[str, int] = OrderedDict()

    def read(self, piece: Piece) -> bytes | None:
        """Return the bytes of a piece, or None when that takes more than a look: it is large, not in memory, gone, damaged."""
        if piece.length_bytes > LARGEST_BYTES:
            return None
        address = parsed(piece.address)
        if not isinstance(address, SliceAddress) or address.length_bytes != piece.length_bytes:
            return None
        begin = address.offset_bytes + (HEADER_BYTES if address.is_record else 0)
        try:
            content = self._system.read_cached(self._descriptor(address.container), piece.length_bytes, begin)
        except OSError:
            return None
        if content is not None and crc64nvme(content) != piece.crc64nvme:
            self._on_damaged(piece.address)
            return None
        return content

    def _descriptor(self, container: str) -> int:
        descriptor = self._open.get(container)
        if descriptor is not None:
            self._open.move_to_end(container)
            return descriptor
        descriptor = self._open[container] = self._system.open(self._layout.container(container))
        if len(self._open) > MOST_OPEN:
            self._system.close(self._open.popitem(last=False)[1])
        return descriptor

    def forget(self, container: str) -> None:
        """Close a container that was unlinked, so that its space is given back."""
        descriptor = self._open.pop(container, None)
        if descriptor is not None:
            self._system.close(descriptor)

    def close(self) -> None:
        """Close all of them."""
        for container in list(self._open):
            self.forget(container)
