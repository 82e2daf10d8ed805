"""
What a start undoes of an earlier run before anything new is written: files that were arriving are dropped, segments left open are sealed.

A disk that takes nothing now, for it is full or read-only, is served from all the same: what lies in a segment that was left open is found
by its records, and the rest is done when the disk takes it. Everything here blocks; one thread at a time.
"""

from collections.abc import Mapping

from twisted.logger import Logger

from coldstore.disk.census import Census, drop_arriving
from coldstore.disk.containers import Container, Containers
from coldstore.disk.filesystem import FileSystem, takes_nothing
from coldstore.disk.layout import Layout
from coldstore.disk.segments import left_open


class Beginning:
    """
    The steps that are left.

    :ivar trouble: why nothing new can be written yet; empty once it can
    """

    log = Logger()

    def __init__(self, *, system: FileSystem, layout: Layout, containers: Containers, census: Census) -> None:
        self._system = system
        self._layout = layout
        self._containers = containers
        self._census = census
        self._left_open: Mapping[str, Container] | None = None
        self.trouble = "the disk is not started"

    def attempt(self) -> None:
        """
        Do what is left, nothing once all is done: what arrives then is this run's own. When the disk takes nothing, ``trouble`` says so.

        :raise OSError: the disk failed
        """
        if not self.trouble:
            return
        for directory in self._layout.directories():
            self._system.make_directory(directory)
        if self._left_open is None:
            self._left_open = left_open(self._system, self._layout)
            for container in self._left_open.values():
                self._containers.remember(container)
        try:
            for directory in (self._layout.root, self._layout.files):
                self._system.sync_directory(directory)
            drop_arriving(self._system, self._layout)
            # What earlier runs left is counted directory by directory, and changed under the same lock.
            with self._census.lock:
                for container in self._left_open.values():
                    self._containers.seal(container)
        except OSError as error:
            if not takes_nothing(error):
                raise
            self.trouble = f"{self._layout.root} takes nothing since the start: {error.strerror}"
            self.log.warn(
                "{trouble}; what is on it is read, and writing is tried again", trouble=self.trouble
            )
        else:
            self.trouble = ""
