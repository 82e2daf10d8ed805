"""
Crashes and lost answers at the steps of an archive and of a recall: at some, or with ``COLDSTORE_TEST_EVERY=1`` at every one.
"""

import os
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.errors import MetadataUnavailable
from coldstore.model.objects import ArchiveState, ObjectVersion
from tests.unit.work_rig import MIB, FailingStore, MortalStore, Run, World, now_of

EVERY = int(os.environ.get("COLDSTORE_TEST_EVERY", "25"))
QUICK = {"format": 0.0, "mount": 1.0, "unmount": 1.0, "sync": 1.0}


def small_world(seed: int) -> tuple[World, list[ObjectVersion]]:
    """Return a world in which two small objects and one of several extents have arrived."""
    world = World(random=Random(seed), cartridges=3)
    return world, [world.put("a", 3000), world.put("b", 5 * MIB), world.put("c", 1)]


def new_run(world: World, store: Any = None) -> Run:
    """Return a run with bundles of one checksum block."""
    return Run(world, store=store, seconds=QUICK, bundle_bytes=4 * MIB, sync_bytes=4 * MIB).start()


class CrashTests(SynchronousTestCase):
    """The process is gone at some step of the metadata, before or after that took effect."""

    def test_archive(self) -> None:
        """
        A crash at any step of an archive loses nothing that was acknowledged, counts no copy that is not on tape, leaves no cartridge
        unusable, and the next run finishes.
        """
        step = 1
        while self._archives(step, takes_effect=False) and self._archives(step, takes_effect=True):
            step += EVERY
        self.assertGreater(step, 50)

    def _archives(self, step: int, *, takes_effect: bool) -> bool:
        """Live with a crash at a step; tell whether there was one."""
        world, versions = small_world(step)
        store = MortalStore(world.store, dies_at=step, takes_effect=takes_effect)
        run = new_run(world, store)
        run.until(lambda: store.is_dead or world.is_cold(*versions))
        world.check()
        for version in versions:
            known = world.version(version)
            if known.on_disk:
                self.assertEqual(world.read(version), world.contents[version.version_uid])
            else:
                self.assertIs(known.archive_state, ArchiveState.ARCHIVED)
                self.assertEqual(len(world.where(version)), 2)
        world.crash(run)
        later = new_run(world)
        later.until(lambda: world.is_cold(*versions))
        world.check()
        self.assertEqual({len(world.where(version)) for version in versions}, {2}, step)
        self.assertLessEqual(set(world.states().values()), {"filling"}, step)
        later.let_pass(70)
        self.assertEqual(world.alerts(), {}, step)
        world.check_disk()
        world.bury(later)
        return store.is_dead

    def test_recall(self) -> None:
        """A crash at any step of a recall leaves the promise standing, and the next run keeps it."""
        step = 1
        while self._recalls(step, takes_effect=False) and self._recalls(step, takes_effect=True):
            step += EVERY
        self.assertGreater(step, 20)

    def _recalls(self, step: int, *, takes_effect: bool) -> bool:
        world, versions = small_world(step)
        first = new_run(world)
        first.until(lambda: world.is_cold(*versions))
        world.crash(first)
        for version in versions:
            world.ask_back(version)
        store = MortalStore(world.store, dies_at=step, takes_effect=takes_effect)
        run = new_run(world, store)
        run.until(lambda: store.is_dead or world.is_restored(*versions))
        world.crash(run)
        later = new_run(world)
        later.until(lambda: world.is_restored(*versions))
        for version in versions:
            self.assertEqual(world.read(version), world.contents[version.version_uid], step)
        later.let_pass(70)
        self.assertEqual(world.alerts(), {}, step)
        world.check_disk()
        world.bury(later)
        return store.is_dead


class UnavailableTests(SynchronousTestCase):
    """The metadata store cannot be reached at one step, which takes effect or not; the same run goes on."""

    def test_archive_and_recall(self) -> None:
        """Whichever step of a whole life fails, the life goes on in the same run, and nothing is left behind."""
        step = 1
        while self._lives(step, takes_effect=False) and self._lives(step, takes_effect=True):
            step += EVERY
            self.flushLoggedErrors(MetadataUnavailable)
        self.assertGreater(step, 50)

    def _lives(self, step: int, *, takes_effect: bool) -> bool:
        """Live with a failure at a step; tell whether there was one."""
        world, versions = small_world(step)
        store = FailingStore(world.store, fails_at=step, takes_effect=takes_effect)
        run = new_run(world, store)
        if not run.loops:
            # The start failed: the service ends then, and its manager starts it again.
            world.crash(run)
            run = new_run(world)
        run.until(lambda: world.is_cold(*versions))
        world.check()
        for version in versions:
            world.ask_back(version)
        run.until(lambda: world.is_restored(*versions))
        where = f"step {step}: {store.failed}, {takes_effect}"
        for version in versions:
            self.assertEqual(world.read(version), world.contents[version.version_uid], where)
        run.let_pass(400)
        self.assertEqual(world.alerts(), {}, where)
        world.check_disk()
        self.assertEqual(now_of(world.store.unfinished_copies(100)), [], where)
        world.bury(run)
        return bool(store.failed)
