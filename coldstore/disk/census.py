"""
The count at the start, the clean-up before it, and the list of what earlier runs published.

Everything here blocks and runs in threads. What this run publishes is told to the account when it is published; what
earlier runs left is counted directory by directory, beside the service. The lock is held while one directory is
counted and while something of an earlier run is freed, so that each byte is counted once and taken off once.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from coldstore.disk.addresses import (
    FileAddress,
    SliceAddress,
    is_container_name,
    is_file_name,
    parsed,
    run_of,
)
from coldstore.disk.containers import Containers
from coldstore.disk.filesystem import FileSystem, takes_nothing
from coldstore.disk.layout import BLOCKS, FAN_OUT, Layout

_CONTAINERS = "containers"


class Census:
    """Counts what earlier runs left, and tells the account of every change."""

    def __init__(
        self,
        system: FileSystem,
        layout: Layout,
        run: str,
        changed: Callable[[int, int], None],
    ) -> None:
        """:param changed: told by how many bytes ``used``, and what is ``prepared``, change; from any thread."""
        self.lock = threading.RLock()
        self._system = system
        self._layout = layout
        self._run = run
        self._tell = changed
        self._counted: set[str] = set()

    def used(self, name: str, change_bytes: int, *, prepared_bytes: int = 0) -> None:
        """
        A file piece or a container grew on the disk. Of an earlier run's: the caller holds ``lock``.

        :param prepared_bytes: by how much the space that is allocated ahead in it grew
        """
        is_container = is_container_name(name)
        run = run_of(name) if is_container else FileAddress(name).run
        directory = _CONTAINERS if is_container else name[:2]
        if run == self._run or directory in self._counted:
            self._tell(change_bytes, prepared_bytes)

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
                    if dot and (whole not in there or "." in suffix) and self._is_dropped(path / name):
                        continue
                    total += self._system.occupied(path / name)
                self._counted.add(directory)
                self._tell(total, 0)
            yield len(names)

    def _is_dropped(self, path: Path) -> bool:
        """Unlink something, unless the disk takes nothing now: then the next start does."""
        try:
            self._system.unlink(path)
        except OSError as error:
            if not takes_nothing(error):
                raise
            return False
        return True


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
    earlier = [
        name for name in system.names(layout.containers) if is_container_name(name) and run_of(name) != run
    ]
    return found + living(containers, earlier, after, limit - len(found))


def living(containers: Containers, names: Iterable[str], after: str, limit: int) -> list[str]:
    """Return addresses of what lives in these containers, which are given in order, behind ``after``."""
    found: list[str] = []
    start = parsed(after)
    for name in names:
        if f"{name}-~" <= after:
            continue
        behind = (-1, -1)
        if isinstance(start, SliceAddress) and start.container == name:
            behind = (start.offset_bytes, start.length_bytes)
        for offset, length in containers.living(name, behind, limit - len(found)):
            found.append(str(SliceAddress(name, offset, length)))
        if len(found) == limit:
            break
    return found
