"""What is done for those who lack room on disk, and for bytes on disk of which nobody knows whose they are."""

from typing import Any

from twisted.internet.defer import succeed
from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.metadata import BATCH_MAX
from coldstore.model.objects import ArchiveState, ObjectVersion
from tests.unit.work_rig import MIB, Run, World, now_of

QUICK = {"format": 0.0, "mount": 1.0, "unmount": 1.0, "sync": 1.0}
DAY = 86_400.0


class RoomTests(SynchronousTestCase):
    """Objects whose class would let them linger on disk for a day."""

    def archived(self, count: int) -> tuple[World, Run, list[ObjectVersion]]:
        """Return a world in which so many objects of 1 MiB are on tape, and still on disk; the last is the latest."""
        world = World(cartridges=3)
        versions = []
        run = Run(world, seconds=QUICK, linger_seconds=DAY).start()
        for number in range(count):
            versions.append(world.put(f"k{number}", MIB))
            run.until(lambda: world.is_archived(*versions))
        run.let_pass(1)
        return world, run, versions

    def on_disk(self, world: World, versions: list[ObjectVersion]) -> list[bool]:
        """Tell which are on disk."""
        return [world.version(each).on_disk for each in versions]

    def test_as_much_as_is_lacking(self) -> None:
        """Whoever lacks some bytes gets about as many, of the objects least worth keeping, and once."""
        world, run, versions = self.archived(4)
        self.assertEqual(self.on_disk(world, versions), [True] * 4)
        run.evictor.make_room(MIB + 1)
        run.evictor.make_room(5)
        run.bells["evictor"].ring()
        run.let_pass(200)
        self.assertEqual(self.on_disk(world, versions), [False, False, True, True])
        world.check_disk()
        world.bury(run)

    def test_all(self) -> None:
        """Whoever lacks no one knows how much gets what may go."""
        world, run, versions = self.archived(3)
        run.evictor.make_room()
        run.bells["evictor"].ring()
        run.let_pass(200)
        self.assertEqual(self.on_disk(world, versions), [False] * 3)
        world.bury(run)

    def test_asked_for_meanwhile(self) -> None:
        """Who asks while a round is under way has the next one."""
        world, run, versions = self.archived(3)
        evictable = world.store.evictable

        def asked_meanwhile(**options: Any) -> Any:
            self.patch(world.store, "evictable", evictable)
            run.evictor.make_room()
            run.bells["evictor"].ring()
            return evictable(**options)

        self.patch(world.store, "evictable", asked_meanwhile)
        run.bells["evictor"].ring()
        run.let_pass(200)
        self.assertEqual(self.on_disk(world, versions), [False] * 3)
        world.bury(run)

    def test_nothing_that_is_not_on_tape(self) -> None:
        """Bytes that are nowhere else stay, whoever lacks room."""
        world = World(cartridges=3)
        run = Run(world, seconds=QUICK, without=["packer"]).start()
        version = world.put("k", MIB)
        run.evictor.make_room()
        run.bells["evictor"].ring()
        run.let_pass(200)
        self.assertEqual(self.on_disk(world, [version]), [True])
        world.bury(run)

    def test_archive_is_asked_for_meanwhile(self) -> None:
        """An order to archive that comes while a round is under way holds for the next one."""
        world = World(cartridges=3)
        run = Run(world, seconds=QUICK).start()
        run.let_pass(2)
        first, later = world.put("k0", MIB), []
        pending = world.store.pending

        def ordered_meanwhile(**options: Any) -> Any:
            found = pending(**options)
            if not now_of(found) and world.version(first).archive_state is not ArchiveState.PENDING:
                self.patch(world.store, "pending", pending)
                later.append(world.put("k1", MIB))
                run.packer.hurry()
                run.bells["packer"].ring()
                return succeed([])
            return pending(**options)

        self.patch(world.store, "pending", ordered_meanwhile)
        run.packer.hurry()
        run.bells["packer"].ring()
        run.until(lambda: bool(later), hurry=False)
        run.let_pass(5)
        self.assertIsNot(world.version(later[0]).archive_state, ArchiveState.PENDING)
        world.bury(run)

    def test_tape_is_hurried(self) -> None:
        """What waits for more to come is put on tape at once when somebody waits for room and a drive has nothing to do."""
        for is_wanted in (False, True):
            world = World(cartridges=3)
            run = Run(world, seconds=QUICK).start()
            run.packer.want_room()
            run.bells["packer"].ring()
            run.let_pass(2)
            version = world.put("k", MIB)
            run.bells["packer"].ring()
            run.let_pass(0.5)
            if is_wanted:
                run.packer.want_room()
                run.bells["packer"].ring()
            run.let_pass(6)
            self.assertEqual(world.is_archived(version), is_wanted)
            world.bury(run)


class LeftoversTests(SynchronousTestCase):
    """Bytes on disk that a record may name or not."""

    def put(self, world: World, count: int) -> list[str]:
        """Have so many pieces on disk that no record names."""
        addresses = []
        for number in range(count):
            incoming = world.staging.receive(size_bytes=10, algorithms=frozenset())
            incoming.write(b"%010d" % number)
            addresses.append(now_of(incoming.finish()).address)
        return addresses

    def test_many_at_once(self) -> None:
        """However many are noted at once while nothing else is: all are looked up when their grace is over."""
        world = World()
        run = Run(world).start()
        run.let_pass(5)
        run.leftovers.note([])
        run.leftovers.note(self.put(world, 2 * BATCH_MAX + 1))
        run.let_pass(30)
        self.assertEqual(len(world.staging.medium.pieces), 2 * BATCH_MAX + 1)
        run.let_pass(100)
        world.check_disk()
        self.assertEqual(len(world.staging.medium.pieces), 0)
        world.bury(run)

    def test_whose_they_are(self) -> None:
        """What a record names by then stays."""
        world = World()
        run = Run(world, without=["packer"]).start()
        version = world.put("k", 100)
        (piece,) = now_of(world.store.pieces(world.version(version).layout_id, after_ordinal=0, limit=9))
        run.leftovers.note([piece.address, *self.put(world, 3)])
        self.assertTrue(run.leftovers.holds(piece.address))
        run.let_pass(200)
        self.assertFalse(run.leftovers.holds(piece.address))
        self.assertEqual(world.read(version), world.contents[version.version_uid])
        world.check_disk()
        world.bury(run)
