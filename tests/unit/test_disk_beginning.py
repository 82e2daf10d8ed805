"""What a start undoes of an earlier run is undone once."""

import errno
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from coldstore.disk.beginning import Beginning
from coldstore.disk.census import Census
from coldstore.disk.containers import Containers
from coldstore.disk.filesystem import FileSystem
from coldstore.disk.layout import Layout


class Full(FileSystem):
    """A disk on which nothing can be synced while it is full."""

    is_full = True

    def sync_directory(self, path: Path) -> None:
        """Have what happened in a directory on stable storage."""
        if self.is_full:
            raise OSError(errno.ENOSPC, "full")


class BeginningTests(SynchronousTestCase):
    """``Beginning``."""

    def test_asked_again_when_it_is_done(self) -> None:
        """
        An attempt that was queued behind the one that succeeded does nothing: what arrives by then is this run's own, and an upload or
        a recall whose file is unlinked under it fails at its end.
        """
        system, layout = Full(), Layout(Path(self.mktemp()))
        census = Census(system, layout, "2", lambda *_: None)
        containers = Containers(system, layout, census, on_gone=lambda _: None)
        beginning = Beginning(system=system, layout=layout, containers=containers, census=census)
        beginning.attempt()
        self.assertIn("takes nothing since the start", beginning.trouble)
        left = layout.incoming / "left"
        left.touch()
        system.is_full = False
        beginning.attempt()
        self.assertEqual((beginning.trouble, left.exists()), ("", False))
        arriving = [directory / "arriving" for directory in (layout.incoming, layout.recall)]
        for path in arriving:
            path.touch()
        beginning.attempt()
        self.assertEqual([path.exists() for path in arriving], [True, True])
