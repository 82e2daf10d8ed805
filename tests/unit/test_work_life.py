"""The loops together: whole lives of objects, and what they do when the world fails them."""

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.metadata import IMetadataStore
from tests.unit.work_rig import MIB, Run, World, now_of


class LifeTests(SynchronousTestCase):
    """Without faults."""

    def test_archive_and_restore(self) -> None:
        """Objects of all sizes get two verified copies on two cartridges, leave the disk, and come back identical."""
        world = World()
        run = Run(world).start()
        versions = [world.put(f"k{size}", size) for size in (1, 5000, MIB, 40 * MIB + 7)]
        run.until(lambda: world.is_cold(*versions))
        world.check()
        self.assertTrue(all(len(world.where(version)) == 2 for version in versions))
        self.assertEqual(world.staging.usage().used_bytes, 0)
        for version in versions:
            world.ask_back(version)
        run.until(lambda: world.is_restored(*versions))
        for version in versions:
            self.assertEqual(world.read(version), world.contents[version.version_uid])
        run.let_pass(200)
        self.assertEqual(world.alerts(), {})
        world.check_disk()

    def test_drained_after_a_start(self) -> None:
        """A drive counts as one that holds something until it was looked at; a drain right after a start then empties it."""
        world = World()
        run = Run(world).start()
        version = world.put("k", 5000)
        run.until(lambda: world.is_cold(version))
        held = {drive.number: drive.barcode for drive in world.library.drives}
        self.assertTrue(any(held.values()))
        world.crash(run)
        again = Run(world)
        self.assertEqual({entry.job for entry in again.board.entries()}, {"look"})
        again.start()
        again.dispatcher.drain(True)
        again.until(lambda: all(entry.job == "idle" and not entry.barcode for entry in again.board.entries()))
        self.assertFalse(any(drive.barcode for drive in world.library.drives))

    def test_drained_while_planning(self) -> None:
        """An order to drain that comes while a round makes its plan is obeyed: no job of that plan begins."""
        world = World()
        store = Interrupted(world.store, "unfinished_copies")
        run = Run(world, store=store).start()

        def drain_when_there_is_work() -> None:
            if now_of(world.store.unfinished_copies(1)):
                run.dispatcher.drain(True)

        store.interrupt = drain_when_there_is_work
        version = world.put("k", 5000)
        run.until(lambda: run.dispatcher.is_draining)
        run.let_pass(120)
        self.assertEqual(world.states(), {}, "a cartridge was taken into use")
        store.interrupt = lambda: None
        run.dispatcher.drain(False)
        run.until(lambda: world.is_archived(version))


class Interrupted:
    """A store in which something happens just before each step of one name."""

    def __init__(self, store: IMetadataStore, name: str) -> None:
        self._store = store
        self._name = name
        self.interrupt: Callable[[], None] = lambda: None

    def __getattr__(self, name: str) -> object:
        if name == self._name:
            self.interrupt()
        return getattr(self._store, name)
