"""
Crashes and lost answers at the steps of an archive and of a recall: at some, or with ``COLDSTORE_TEST_EVERY=1`` at every one.
"""

import os
from random import Random
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.errors import MetadataFull, MetadataUnavailable
from coldstore.model.objects import ArchiveState, ObjectVersion, StorageClass
from coldstore.testing.staging import SimulatedStaging
from coldstore.work.compactor import Compactor
from tests.unit.work_rig import MIB, FailingStore, FullStore, MortalStore, Run, World, now_of

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


def scattered_world(seed: int) -> tuple[World, list[ObjectVersion]]:
    """Return a world in which most of what lay around a few kept objects was deleted; those, all archived."""
    world = World(random=Random(seed), cartridges=3)
    versions = [world.put(f"k{n:02}", 900 + n, storage_class=StorageClass.STANDARD) for n in range(60)]
    run = Run(world, seconds=QUICK, without=["compactor"]).start()
    run.until(lambda: world.is_archived(*versions))
    for number in range(60):
        if number % 12:
            world.delete(f"k{number:02}")
    run.until(lambda: len(world.staging.medium.pieces) == 5)
    world.crash(run)
    return world, versions[::12]


class CompactionTests(SynchronousTestCase):
    """Kept objects are moved out of what is mostly dead, through crashes and lost answers at every step."""

    def check_moved(self, world: World, versions: list[ObjectVersion], what: object) -> None:
        """Everything reads back, the disk holds nothing else, and nothing is held by the dead."""
        for version in versions:
            self.assertEqual(world.read(version), world.contents[version.version_uid], what)
        world.check_disk()
        living = sum(version.facts.size_bytes for version in versions)
        self.assertLessEqual(world.staging.usage().used_bytes, 2 * living, what)
        self.assertEqual(world.alerts(), {}, what)

    def test_moved(self) -> None:
        """What is scattered moves, and the room of the dead comes back; what was deleted meanwhile leaves nothing."""
        world, versions = scattered_world(1)
        before = world.staging.usage().used_bytes
        run = new_run(world)
        run.until(lambda: world.staging.usage().used_bytes > before)
        world.delete("k00")
        run.let_pass(300)
        self.check_moved(world, versions[1:], "")
        self.assertLess(world.staging.usage().used_bytes, before // 5)
        world.bury(run)

    def test_bytes_stay_for_who_looked_before(self) -> None:
        """Who looked a piece up before it moved still finds it for a while, and as long as it is pinned."""
        world, versions = scattered_world(2)
        (old,) = now_of(world.store.pieces(world.version(versions[0]).layout_id, after_ordinal=0, limit=9))
        run = new_run(world)
        run.until(lambda: not now_of(world.store.pieces_at([old.address])))
        run.let_pass(30)
        reader = now_of(world.staging.open(old))
        run.let_pass(400)
        self.assertEqual(now_of(reader.read(0, old.length_bytes)), world.contents[versions[0].version_uid])
        self.assertIn(old.address, world.staging.medium.pieces)
        reader.close()
        run.let_pass(100)
        self.check_moved(world, versions, "")
        world.bury(run)

    def test_damaged(self) -> None:
        """A damaged piece stays where it is, the others move, and the operator is told once."""
        world, versions = scattered_world(3)
        (piece,) = now_of(world.store.pieces(world.version(versions[0]).layout_id, after_ordinal=0, limit=9))
        world.staging.damage(piece.address, 3)
        run = new_run(world)
        run.let_pass(400)
        self.assertEqual(world.alerts(), {"bytes-damaged": f"piece {piece.address}"})
        self.assertEqual(
            [one.address for one in now_of(world.store.pieces_at([piece.address]))], [piece.address]
        )
        for version in versions[1:]:
            self.assertEqual(world.read(version), world.contents[version.version_uid])
        (alert,) = now_of(world.store.alerts(include_cleared=False, limit=9))
        self.assertEqual(alert.count, 1)
        self.flushLoggedErrors()
        world.bury(run)

    def test_damage_that_cannot_be_recorded(self) -> None:
        """When the operator cannot be told of damage, he is told later; what was copied beside it leaves nothing behind."""
        world, versions = scattered_world(5)
        (piece,) = now_of(world.store.pieces(world.version(versions[0]).layout_id, after_ordinal=0, limit=9))
        world.staging.damage(piece.address, 3)
        store = FailingStore(world.store, fails_at=None)
        store.fail_first("raise_alert")
        run = new_run(world, store)
        run.let_pass(600)
        self.assertEqual(store.failed, "raise_alert")
        self.assertEqual(world.alerts(), {"bytes-damaged": f"piece {piece.address}"})
        world.check_disk()
        self.assertEqual(len(world.staging.medium.pieces), len(versions))
        self.flushLoggedErrors()
        world.bury(run)

    def test_no_room(self) -> None:
        """On a disk without room nothing moves and nothing is lost; with room it goes on."""
        world, versions = scattered_world(4)
        world.staging = SimulatedStaging(
            capacity_bytes=world.staging.usage().used_bytes + 500, medium=world.staging.medium
        )
        run = new_run(world)
        run.let_pass(300)
        self.assertNotEqual(world.staging.medium.dead_bytes, {})
        for version in versions:
            self.assertEqual(world.read(version), world.contents[version.version_uid])
        world.crash(run)
        world.staging = SimulatedStaging(medium=world.staging.medium)
        run = new_run(world)
        run.let_pass(300)
        self.check_moved(world, versions, "")
        world.bury(run)

    def test_crashes(self) -> None:
        """A crash at any step, and what follows at the next start, loses no byte and leaves none behind."""
        step = 1
        while self._crashes(step, takes_effect=False) and self._crashes(step, takes_effect=True):
            step += 1
        self.assertGreater(step, 8)

    def _crashes(self, step: int, *, takes_effect: bool) -> bool:
        world, versions = scattered_world(step)
        store = MortalStore(world.store, dies_at=None, takes_effect=takes_effect)
        run = Run(world, store=store, seconds=QUICK)
        compactor = Compactor(
            store=cast(Any, store),
            staging=world.staging,
            clock=world.clock,
            leftovers=run.leftovers,
        )
        now_of(world.staging.stored(after="", limit=1000))
        store.dies_at(store.steps + step)
        for _ in range(3):
            Deferred.fromCoroutine(compactor.one_round())
            Deferred.fromCoroutine(run.leftovers.one_round())
            world.clock.current.advance(70)
        world.crash(run)
        later = new_run(world)
        later.let_pass(400)
        self.check_moved(world, versions, (step, takes_effect))
        world.bury(later)
        return store.is_dead

    def test_unavailable(self) -> None:
        """The same when a step fails, taking effect or not, and the same run goes on."""
        for takes_effect in (False, True):
            for step in ("pieces_at", "move_pieces", "referenced", "add_discards"):
                world, versions = scattered_world(9)
                store = FailingStore(world.store, fails_at=None, takes_effect=takes_effect)
                store.fail_first(step)
                run = new_run(world, store)
                run.let_pass(600)
                self.assertEqual(store.failed, step)
                self.check_moved(world, versions, (step, takes_effect))
                self.flushLoggedErrors(MetadataUnavailable)
                world.bury(run)


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


class FullTests(SynchronousTestCase):
    """The record finds no room from some step on, for minutes; the same run goes on when there is."""

    def test_archive_and_recall(self) -> None:
        """
        Whenever it happens in a life: nothing is lost, no copy counts that is not on tape, nobody is blamed for it, and with room
        the life goes on by itself and leaves nothing behind.
        """
        step = 1
        while self._lives(step):
            step += EVERY
            self.flushLoggedErrors(MetadataFull)
        self.assertGreater(step, 25)

    def _lives(self, step: int) -> bool:
        """Live with a full record from a step on; tell whether it came to that."""
        world, versions = small_world(step)
        store = FullStore(world.store, full_from=step)
        run = new_run(world, store)
        if not run.loops:
            # The start failed: the service ends then, and its manager starts it again.
            store.relieve()
            world.crash(run)
            run = new_run(world, store)
        run.until(lambda: world.is_cold(*versions) or not store.has_room)
        self._survive(world, run, store)
        run.until(lambda: world.is_cold(*versions))
        world.check()
        for version in versions:
            world.ask_back(version)
        run.until(lambda: world.is_restored(*versions) or not store.has_room)
        self._survive(world, run, store)
        run.until(lambda: world.is_restored(*versions))
        for version in versions:
            self.assertEqual(world.read(version), world.contents[version.version_uid], step)
        run.let_pass(400)
        self.assertEqual(world.alerts(), {}, step)
        self.assertLessEqual(set(world.states().values()), {"filling"}, step)
        world.check_disk()
        world.bury(run)
        return bool(store.refused)

    def _survive(self, world: World, run: Run, store: FullStore) -> None:
        """Let minutes pass if there is no room; check what was acknowledged; have room again."""
        if store.has_room:
            return
        run.let_pass(200)
        world.check()
        for uid, content in world.contents.items():
            version = now_of(world.store.version(uid))
            if version is not None and version.on_disk:
                self.assertEqual(world.read(version), content)
        store.relieve()
        run.let_pass(70)
