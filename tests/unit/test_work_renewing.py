"""Lost copies are made anew from good ones."""

from collections import deque
from dataclasses import replace
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.filesystem import ReadOnly
from coldstore.interfaces.staging import StagingUsage
from coldstore.model.bundles import CopyState
from coldstore.model.cartridges import CartridgeEvent, CartridgeState
from coldstore.model.configurations import ConfigurationKind
from coldstore.model.due import Act, ActKind, Outcome
from coldstore.model.objects import ObjectVersion, StorageClass
from coldstore.work import renewing
from coldstore.work.records import change_cartridge
from tests.unit.test_work_faults import medium_fault
from tests.unit.work_rig import BUCKET, MIB, MortalStore, Run, World, now_of


class RenewingTests(SynchronousTestCase):
    """Copies that were good and are not any more."""

    def cold(self, world: World, run: Run, count: int = 3, size_bytes: int = MIB) -> list[ObjectVersion]:
        """Return objects, a bundle each, that are on tape only, with every cartridge put away."""
        versions = [world.put(f"k{number}", size_bytes) for number in range(count)]
        run.until(lambda: world.is_cold(*versions))
        run.let_pass(100)
        return versions

    def start(self, world: World, **options: Any) -> Run:
        """Begin a run with small bundles."""
        return Run(world, **({"bundle_bytes": int(1.5 * MIB)} | options)).start()

    def condemn(self, world: World, run: Run, barcode: str) -> None:
        """Do what ``coldstore cartridges condemn`` does."""
        now_of(
            Deferred.fromCoroutine(
                change_cartridge(
                    world.store,
                    barcode,
                    at=world.clock.seconds(),
                    by="operator",
                    reason="crushed",
                    event=CartridgeEvent.CONDEMN,
                )
            )
        )
        run.bells["dispatcher"].ring()

    def are_whole(self, world: World, versions: list[ObjectVersion]) -> bool:
        """Whether each has two verified copies."""
        return all(len(world.where(version)) == 2 for version in versions)

    def assert_nothing_held(self, world: World, run: Run) -> None:
        """Check that the disk is free of what was held."""
        run.let_pass(100)
        usage: StagingUsage = world.staging.usage()
        self.assertEqual((usage.used_bytes, usage.reserved_bytes), (0, 0))
        world.check()

    def test_damaged_copy(self) -> None:
        """A copy that gives wrong bytes twice is lost, and made anew on another cartridge of its pool, byte for byte."""
        world = World(cartridges=4)
        run = self.start(world)
        versions = self.cold(world, run)
        (lost,) = {copy.barcode for copy in world.copies(versions[0]) if copy.pool == "main"}
        world.tapes.medium(lost).damage(world.contents[versions[0].version_uid][1000:1100])
        # With the other one away it is read again and again.
        away = world.library.take_away(2)
        now_of(Deferred.fromCoroutine(run.dispatcher.look_at_library()))
        world.ask_back(versions[0])
        run.until(lambda: CopyState.LOST in {copy.state for copy in world.copies(versions[0])})
        run.let_pass(100)
        self.assertEqual(world.where(versions[0]), {away})
        world.library.put(2, away)
        now_of(Deferred.fromCoroutine(run.dispatcher.look_at_library()))
        run.until(lambda: self.are_whole(world, versions), hurry=False)
        self.assertNotIn(lost, world.where(versions[0]))
        self.assertIn("copy-damaged", world.alerts())
        self.assert_nothing_held(world, run)
        for barcode in world.where(versions[0]):
            self.assertEqual(
                self.content(world, barcode, versions[0]), world.contents[versions[0].version_uid]
            )

    def content(self, world: World, barcode: str, version: ObjectVersion) -> bytes:
        """Return the bytes that a cartridge has of a version."""
        (member,) = now_of(world.store.extents(version.version_uid))
        files = world.tapes.medium(barcode).tree.files
        (tar,) = [file.content for path, file in files.items() if member.bundle_id in path]
        return tar[member.bundle_offset_bytes : member.bundle_offset_bytes + member.length_bytes]

    def test_condemned_cartridge_with_many_copies(self) -> None:
        """A round gives up a few copies of a broken cartridge only, and the next one follows at once: also when no drive has work."""
        self.patch(renewing, "GIVEN_UP_PER_ROUND", 1)
        world = World(cartridges=2)
        run = self.start(world)
        versions = self.cold(world, run, count=6)
        self.condemn(world, run, "A00001L8")
        run.let_pass(5)
        states = [copy.state for version in versions for copy in world.copies(version)]
        self.assertEqual(states.count(CopyState.LOST), 6)
        run.let_pass(3000, steps=5000)

    def test_condemned_cartridge(self) -> None:
        """What was on a cartridge that is condemned is made anew on another one, whatever was deleted meanwhile."""
        world = World(cartridges=4)
        run = self.start(world)
        versions = self.cold(world, run, count=12)
        world.delete("k5")
        self.condemn(world, run, "A00001L8")
        run.until(lambda: self.are_whole(world, versions), hurry=False)
        for version in versions:
            self.assertNotIn("A00001L8", world.where(version))
        self.assertEqual(now_of(world.store.lost_copies(9)), [])
        self.assertEqual(world.alerts(), {})
        self.assert_nothing_held(world, run)

    def test_rounds_after_that(self) -> None:
        """A cartridge that has been given up wholly is not gone through again in every round."""
        world = World(cartridges=4)
        run = self.start(world)
        versions = self.cold(world, run, count=3)
        self.condemn(world, run, "A00001L8")
        run.until(lambda: self.are_whole(world, versions), hurry=False)
        run.let_pass(120)
        looks: list[str] = []
        copies = world.store.copies

        def noting(**which: Any) -> Any:
            looks.append(which.get("barcode", ""))
            return copies(**which)

        self.patch(world.store, "copies", noting)
        for _ in range(50):
            run.bells["dispatcher"].ring()
            run.let_pass(1)
        self.assertLessEqual(looks.count("A00001L8"), 1)

    def test_no_cartridge(self) -> None:
        """Without a cartridge for it nothing is read, and an operator is told; it goes on when there is one."""
        world = World(cartridges=3)
        third = world.library.take_away(3)
        run = self.start(world)
        versions = self.cold(world, run)
        self.condemn(world, run, "A00001L8")
        run.let_pass(300)
        self.assertEqual(world.alerts(), {"no-cartridge": "pool main"})
        self.assertEqual(world.staging.usage().reserved_bytes, 0)
        world.library.put(3, third)
        now_of(Deferred.fromCoroutine(run.dispatcher.look_at_library()))
        run.until(lambda: self.are_whole(world, versions), hurry=False)
        run.let_pass(100)
        self.assertEqual(world.alerts(), {})

    def test_no_room(self) -> None:
        """Without room on the disk it waits, mounts nothing meanwhile, and is done when there is room."""
        world = World(cartridges=4, disk_bytes=9 * MIB)
        run = self.start(world, bundle_bytes=8 * MIB)
        versions = self.cold(world, run, count=1, size_bytes=6 * MIB)
        full = world.put("full", 5 * MIB)
        taken = {slot: world.library.take_away(slot) for slot in (3, 4)}
        run.dispatcher.drain(True)
        self.condemn(world, run, "A00001L8")
        for slot, barcode in taken.items():
            world.library.put(slot, barcode)
        run.dispatcher.drain(False)
        moves = world.library.moves
        run.let_pass(10)
        self.assertFalse(self.are_whole(world, versions))
        self.assertEqual(world.library.moves, moves)
        world.delete(full.facts.key.decode())
        run.until(lambda: self.are_whole(world, versions), hurry=False)
        self.assert_nothing_held(world, run)

    def test_write_error(self) -> None:
        """What fails while it is written is written again from what is held: the good copy is not read twice."""
        world = World(cartridges=5)
        run = self.start(world)
        versions = self.cold(world, run, count=2)
        self.condemn(world, run, "A00001L8")
        reads: list[int] = []
        run.before("read", reads.append)
        for filesystem in run.filesystems.values():
            filesystem.faults["sync"] = deque([None, medium_fault()])
        run.until(lambda: self.are_whole(world, versions), seconds=20_000, hurry=False)
        self.assertEqual(len(reads), 2)
        self.assert_nothing_held(world, run)

    def test_no_other_copy(self) -> None:
        """When no other copy can be read the operator is told, and no drive is kept busy with it."""
        world = World(cartridges=4)
        run = self.start(world, attempts_max=2)
        (version,) = self.cold(world, run, count=1)
        run.dispatcher.drain(True)
        self.condemn(world, run, "A00001L8")
        self.condemn(world, run, "A00002L8")
        run.dispatcher.drain(False)
        run.let_pass(300)
        self.assertEqual(list(world.alerts()), ["copy-not-renewed"])
        self.assertEqual({copy.state for copy in world.copies(version)}, {CopyState.LOST})
        moves = world.library.moves
        run.let_pass(1000)
        self.assertEqual(world.library.moves, moves)

    def test_volume_that_may_not_list_all(self) -> None:
        """What a volume does not list that is mounted in an older state, or was not closed, is not lost for that."""
        for why in (ReadOnly.OLDER, ReadOnly.NOT_CLOSED):
            world = World(cartridges=4)
            run = self.start(world)
            (version,) = self.cold(world, run, count=1)
            world.library.take_away(2)
            now_of(Deferred.fromCoroutine(run.dispatcher.look_at_library()))
            medium = world.tapes.medium("A00001L8")
            whole = medium.tree
            listed = {path: file for path, file in whole.files.items() if not path.endswith(".tar")}
            self.assertEqual(len(listed), len(whole.files) - 1)
            medium.read_only, medium.tree = why, replace(whole, files=listed)
            world.ask_back(version)
            run.until(lambda: "restore-failed" in world.alerts(), hurry=True)  # noqa: B023
            self.assertNotIn("copy-damaged", world.alerts())
            self.assertEqual({copy.state for copy in world.copies(version)}, {CopyState.VERIFIED})
            run.let_pass(10_000)
            medium.read_only, medium.tree = None, whole
            world.ask_back(version)
            run.until(lambda: world.is_restored(version), seconds=20_000)  # noqa: B023

    def late(self, world: World, run: Run) -> ObjectVersion:
        """Return one more object that is on tape, of which a copy was lost with its cartridge and the other can be read."""
        version = world.put("late", MIB)
        run.until(lambda: world.is_cold(version))
        run.let_pass(100)
        (lost,) = {copy.barcode for copy in world.copies(version) if copy.pool == "main"}
        self.condemn(world, run, lost)
        return version

    def test_behind_what_is_away(self) -> None:
        """Copies that can only be made from a cartridge that is away keep no others waiting, and the operator is told which it is."""
        world = World(cartridges=6)
        run = self.start(world)
        early = self.cold(world, run, count=10)
        away = world.library.take_away(2)
        now_of(Deferred.fromCoroutine(run.dispatcher.look_at_library()))
        self.condemn(world, run, "A00001L8")
        late = self.late(world, run)
        run.until(lambda: self.are_whole(world, [late]), hurry=False)
        self.assertEqual(world.alerts(), {"renewal-waits": f"cartridge {away}"})
        world.library.put(2, away)
        run.until(lambda: self.are_whole(world, early), hurry=False)
        run.let_pass(100)
        self.assertEqual(world.alerts(), {})
        self.assert_nothing_held(world, run)

    def test_behind_what_has_no_home(self) -> None:
        """Copies for a pool without a cartridge, however many, keep no lost ones of another pool waiting."""
        self.patch(renewing, "EXAMINED_MAX", 1)
        world = World(cartridges=4)
        run = self.start(world)
        *early, late = self.cold(world, run)
        self.move(world, early, "nowhere")
        self.lose(world, late)
        self.assertEqual(
            [each.bundle_id for each in self.look(world, run).wanted], [self.bundle_of(world, late)]
        )

    def test_held_without_a_home(self) -> None:
        """A bundle that was read is not held for a copy that no cartridge can take, and keeps no others waiting."""
        self.patch(renewing, "AT_ONCE_MAX", 1)
        world = World(cartridges=4)
        run = self.start(world)
        early, *_, late = self.cold(world, run)
        self.lose(world, early)
        (item,) = self.look(world, run).wanted
        space = now_of(Deferred.fromCoroutine(run.renewals.reserve(item)))
        bundle = now_of(world.store.bundle(item.bundle_id))
        run.renewals._held[item.bundle_id] = renewing.HeldBundle(bundle=bundle, space=space, crc64nvme=0)
        self.move(world, [early], "nowhere")
        self.lose(world, late)
        self.assertEqual(self.look(world, run).wanted, ())
        # Its copy in the pool that has cartridges is being written, and then it is there.
        now_of(world.store.start_copy(bundle_id=item.bundle_id, pool="main", barcode="M1", epoch=1))
        self.assertEqual(self.look(world, run).wanted, ())
        now_of(
            world.store.copy_synced(
                bundle_id=item.bundle_id, pool="main", epoch=1, partition="b", start_block=1,
                size_bytes=bundle.size_bytes, sha256=bundle.sha256, at=1.0,
            )
        )  # fmt: skip
        now_of(world.store.copy_verified(bundle_id=item.bundle_id, pool="main", epoch=1, at=2.0))
        self.assertEqual(
            [each.bundle_id for each in self.look(world, run).wanted], [self.bundle_of(world, late)]
        )
        self.assertIsNone(run.renewals.held(bundle))
        self.assertEqual(world.staging.usage().reserved_bytes, 0)

    def test_pool_of_no_configuration(self) -> None:
        """A copy that was wanted in a pool that the configuration has no longer is made, and read back."""
        world = World(cartridges=3)
        run = self.start(world)
        (version,) = self.cold(world, run, count=1)
        self.move(world, [version], "nowhere")
        run.until(lambda: len(world.where(version)) == 3, hurry=False)
        self.assertEqual(world.alerts(), {})

    def look(self, world: World, run: Run) -> renewing.RenewalWork:
        """Look what there is to do, with all cartridges that nobody uses yet for the pool ``main``."""
        cartridges = {
            each.barcode: replace(each, pool=each.pool or "main") for each in now_of(world.store.cartridges())
        }
        looked = Deferred.fromCoroutine(run.renewals.look(cartridges, stuck=(), in_hand=lambda: ()))
        work: renewing.RenewalWork = now_of(looked)
        return work

    def bundle_of(self, world: World, version: ObjectVersion) -> str:
        """Return the bundle that has a version."""
        (member,) = now_of(world.store.extents(version.version_uid))
        bundle_id: str = member.bundle_id
        return bundle_id

    def lose(self, world: World, version: ObjectVersion) -> None:
        """Lose the copy of a version in the pool ``main``."""
        now_of(world.store.lose_copy(bundle_id=self.bundle_of(world, version), pool="main", reason="torn"))
        self.assertFalse(self.are_whole(world, [version]))

    def move(self, world: World, versions: list[ObjectVersion], pool: str) -> None:
        """Have the lifecycle want copies of versions in one more pool."""
        bucket = now_of(
            world.store.set_bucket_configuration(name=BUCKET, kind=ConfigurationKind.LIFECYCLE, document="{}")
        )
        outcomes = now_of(
            world.store.carry_out(
                BUCKET,
                [
                    Act(
                        kind=ActKind.MOVE,
                        version=now_of(world.store.version(version.version_uid)),
                        rule_id="r",
                        storage_class=StorageClass.DEEP_ARCHIVE,
                        pools=(pool,),
                    )
                    for version in versions
                ],
                revision=bucket.configurations[ConfigurationKind.LIFECYCLE],
                at=world.clock.seconds(),
                owner_id="o",
                region="r",
                events=(),
            )
        )
        self.assertEqual(set(outcomes), {Outcome.NOT_ARCHIVED})

    def test_behind_what_is_hopeless(self) -> None:
        """However many copies are lost for good, one that can be made anew is made."""
        self.patch(renewing, "EXAMINED_MAX", 3)
        world = World(cartridges=7)
        run = self.start(world)
        self.cold(world, run, count=10)
        run.dispatcher.drain(True)
        self.condemn(world, run, "A00001L8")
        self.condemn(world, run, "A00002L8")
        run.dispatcher.drain(False)
        late = self.late(world, run)
        run.until(lambda: self.are_whole(world, [late]), hurry=False)
        self.assertEqual(list(world.alerts()), ["copy-not-renewed"])

    def test_the_other_one_is_damaged(self) -> None:
        """When the other copy is damaged as well nothing is made of it: it is lost, and the operator is told."""
        world = World(cartridges=4)
        run = self.start(world)
        (version,) = self.cold(world, run, count=1)
        world.tapes.medium("A00002L8").damage(world.contents[version.version_uid][1000:1100])
        self.condemn(world, run, "A00001L8")
        run.until(lambda: "copy-not-renewed" in world.alerts(), hurry=False)
        self.assertEqual({copy.state for copy in world.copies(version)}, {CopyState.LOST})
        self.assertEqual(set(world.states().values()), {CartridgeState.BROKEN, CartridgeState.FILLING})
        self.assert_nothing_held(world, run)

    def test_crash(self) -> None:
        """A crash at any step of it leaves the good copy counted, and the next run finishes."""
        step = 1
        while self._crashes(step, takes_effect=bool(step % 2)):
            step += 7
        self.assertGreater(step, 50)

    def _crashes(self, step: int, *, takes_effect: bool) -> bool:
        world = World(cartridges=4, random=Random(step))
        first = self.start(world)
        versions = self.cold(world, first, count=2)
        self.condemn(world, first, "A00001L8")
        world.crash(first)
        store = MortalStore(world.store, dies_at=step, takes_effect=takes_effect)
        run = self.start(world, store=store)
        run.until(lambda: store.is_dead or self.are_whole(world, versions))
        world.check()
        for version in versions:
            self.assertIn("A00002L8", world.where(version))
        world.crash(run)
        later = self.start(world)
        later.until(lambda: self.are_whole(world, versions), hurry=False)
        self.assert_nothing_held(world, later)
        self.assertEqual(world.alerts(), {})
        world.bury(later)
        return store.is_dead
