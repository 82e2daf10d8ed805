"""
The count at the start, the clean-up before it, and the list of what earlier runs published.

Everything here blocks and runs in threads. What this run publishes is told to the account when it is published; what
earlier runs left is counted directory by directory, beside the service. The lock is held while one directory is
counted and while something of an earlier run is freed, so that each byte is counted once and taken off once.
"""

import threading
from collections.abc import Callable, Iterator

from coldstore.disk.addresses import (
    FileAddress,
    SliceAddress,
    is_container_name,
    is_file_name,
    parsed,
    run_of,
)
from coldstore.disk.containers import Containers
from coldstore.disk.filesystem import FileSystem
from coldstore.disk.layout import BLOCKS, FAN_OUT, Layout

_CONTAINERS = "containers"


class Census:
    """Counts what earlier runs left, and tells the account of every change."""

    def __init__(
        self,
        system: FileSystem,
        layout: Layout,
        run: str,
        used: Callable[[int], None],
        prepared: Callable[[int], None],
    ) -> None:
        """
        :param used: told by how many bytes ``used`` changes, from any thread.
        :param prepared: the same of space allocated ahead.
        """
        self.lock = threading.RLock()
        self._system = system
        self._layout = layout
        self._run = run
        self._tell_used = used
        self._tell_prepared = prepared
        self._counted: set[str] = set()

    def used(self, name: str, change_bytes: int) -> None:
        """A file piece or a container grew on the disk. Of an earlier run's: the caller holds ``lock``."""
        is_container = is_container_name(name)
        run = run_of(name) if is_container else FileAddress(name).run
        directory = _CONTAINERS if is_container else name[:2]
        if run == self._run or directory in self._counted:
            self._tell_used(change_bytes)

    def prepared(self, change_bytes: int) -> None:
        """Space was allocated ahead, or used up."""
        self._tell_prepared(change_bytes)

    def count(self) -> Iterator[int]:
        """
        Count one directory after the other; yields how many entries each had.

        Lists and checksums of something that is not there are dropped: a crash came between publishing the two.
        """
        for directory in (_CONTAINERS, *FAN_OUT):
            path = self._layout.containers if directory == _CONTAINERS else self._layout.files / directory
            with self.lock:
                names = self._system.names(path)
                there = set(names)
                total = 0
                for name in names:
                    whole, dot, suffix = name.partition(".")
                    is_ours = is_container_name(whole) if directory == _CONTAINERS else is_file_name(whole)
                    if not is_ours:
                        continue
                    run = run_of(whole) if directory == _CONTAINERS else FileAddress(whole).run
                    if run == self._run:
                        continue
                    if dot and (whole not in there or "." in suffix):
                        self._system.unlink(path / name)
                        continue
                    total += self._system.occupied(path / name)
                self._counted.add(directory)
                self._tell_used(total)
            yield len(names)


def drop_arriving(system: FileSystem, layout: Layout) -> None:
    """Drop what was arriving when an earlier run ended, uploads and recalls. Repeatable."""
    for directory in (layout.incoming, layout.recall):
        for name in system.names(directory):
            system.unlink(directory / name)


def stored(
    system: FileSystem, layout: Layout, containers: Containers, run: str, after: str, limit: int
) -> list[str]:
    """Return addresses of pieces that runs other than ``run`` published, in order, behind ``after``."""
    found: list[str] = []
    for fan_out in FAN_OUT:
        if f"f-{fan_out}~" <= after:
            continue
        for name in system.names(layout.files / fan_out):
            if name.endswith(BLOCKS) or not is_file_name(name):
                continue
            address = FileAddress(name)
            if address.run != run and str(address) > after:
                found.append(str(address))
                if len(found) == limit:
                    return found
    start = parsed(after)
    for name in system.names(layout.containers):
        if not is_container_name(name) or run_of(name) == run or f"{name}-~" <= after:
            continue
        behind = (-1, -1)
        if isinstance(start, SliceAddress) and start.container == name:
            behind = (start.offset_bytes, start.length_bytes)
        for offset, length in containers.living(name, behind, limit - len(found)):
            found.append(str(SliceAddress(name, offset, length)))
        if len(found) == limit:
            return found
    return found
