"""
Pieces that wait to be freed: what comes while some are freed is freed together next, so that a container whose pieces
die in many small groups is noted, synced and unlinked once.

Lives in the reactor's thread; only the call handed to the thread blocks.
"""

from collections import deque
from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from coldstore.disk import files
from coldstore.disk.addresses import Address, FileAddress, SliceAddress
from coldstore.disk.census import Census
from coldstore.disk.containers import Containers
from coldstore.disk.filesystem import FileSystem
from coldstore.disk.layout import Layout
from coldstore.disk.threads import Reactor, Strand
from coldstore.interfaces.staging import DiskFault

MOST_AT_ONCE = 4096
"""Bounds how long one turn keeps the thread from others' work."""
FILES = ""
"""Stands for all file pieces where the others go by their container."""


class Freeing:
    """Frees pieces that nobody reads, in the order in which they were given up."""

    def __init__(
        self,
        *,
        system: FileSystem,
        layout: Layout,
        containers: Containers,
        census: Census,
        reactor: Reactor,
        strand: Strand,
    ) -> None:
        self._system = system
        self._layout = layout
        self._containers = containers
        self._census = census
        self._reactor = reactor
        self._strand = strand
        self._waiting: deque[tuple[Sequence[Address], Deferred[None]]] = deque()
        self._is_busy = False

    def add(self, addresses: Sequence[Address]) -> Deferred[None]:
        """Free pieces; fires when that is durable, fails with ``DiskFault`` when some of them could not be freed."""
        done: Deferred[None] = Deferred()
        self._waiting.append((addresses, done))
        if not self._is_busy:
            self._next()
        return done

    def _next(self) -> None:
        group: list[tuple[Sequence[Address], Deferred[None]]] = []
        count = 0
        while self._waiting and count < MOST_AT_ONCE:
            group.append(self._waiting.popleft())
            count += len(group[-1][0])
        self._is_busy = bool(group)
        if not group:
            return

        def freed(faults: dict[str, DiskFault] | Failure) -> None:
            self._next()
            for addresses, done in group:
                if isinstance(faults, Failure):
                    done.errback(faults)
                    continue
                fault = next((faults[of] for of in map(_holder, addresses) if of in faults), None)
                if fault is None:
                    done.callback(None)
                else:
                    done.errback(fault)

        everything = [address for addresses, _ in group for address in addresses]
        self._strand.run(self._free, everything, self._reactor.seconds()).addBoth(freed)

    def _free(self, addresses: Sequence[Address], now: float) -> dict[str, DiskFault]:
        """Free pieces; return what went wrong, by ``_holder``. Blocks."""
        slices: dict[str, list[tuple[int, int]]] = {}
        whole_files: list[FileAddress] = []
        for address in addresses:
            if isinstance(address, SliceAddress):
                slices.setdefault(address.container, []).append((address.offset_bytes, address.length_bytes))
            else:
                whole_files.append(address)
        faults: dict[str, DiskFault] = {}
        with self._census.lock:
            try:
                files.discard(self._system, self._layout, whole_files, self._census)
            except DiskFault as fault:
                faults[FILES] = fault
            for container, pieces in slices.items():
                try:
                    self._containers.discard(container, pieces, now=now)
                except DiskFault as fault:
                    faults[container] = fault
        return faults


def _holder(address: Address) -> str:
    return address.container if isinstance(address, SliceAddress) else FILES
