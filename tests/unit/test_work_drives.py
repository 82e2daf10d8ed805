"""The loops with four drives: copies and directions beside each other, and drives that go down in the middle."""

from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.library import LibraryUnreachable
from coldstore.model.cartridges import CartridgeState, DriveState
from coldstore.model.objects import ObjectVersion, Tier
from coldstore.work.stations import EXCHANGE_SECONDS
from tests.unit.test_work_faults import medium_fault
from tests.unit.work_rig import MIB, Run, World, now_of

SIZE = MIB // 4
SECONDS = {"format": 5.0, "mount": 2.0, "unmount": 2.0, "sync": 1.0}


class DrivesCase(SynchronousTestCase):
    """A world with four drives and a run in it."""

    def start(self, world: World, **options: Any) -> Run:
        """Begin a run in which every object is a bundle and takes a second, and a further drive is worth it from three on."""
        common = {
            "bundle_bytes": int(1.5 * SIZE),
            "another_drive_bytes": 3 * SIZE,
            "sync_bytes": 8 * SIZE,
            "seconds": SECONDS,
            "bytes_per_second": SIZE,
        }
        return Run(world, **(common | options)).start()

    def steps(self, run: Run) -> dict[int, str]:
        """What every drive does now."""
        return {entry.drive: f"{entry.job}: {entry.step}" for entry in run.board.entries()}

    def working(self, run: Run, job: str) -> set[int]:
        """The drives that have a job of a kind."""
        return {entry.drive for entry in run.board.entries() if entry.job == job}

    def hurry(self, run: Run) -> None:
        """Have everything archived that waits."""
        run.packer.hurry()
        run.bells["packer"].ring()

    def set_drive(self, run: Run, index: int, state: DriveState) -> None:
        """Do what ``coldstore drives`` does."""
        now_of(
            run.world.store.set_drive_state(
                index=index, state=state, reason="by hand", at=run.clock.seconds(), by="operator"
            )
        )
        run.bells["dispatcher"].ring()

    def hang(self, run: Run, index: int, awaited: str) -> "Deferred[None]":
        """Have a drive's next operation of a kind go on until the returned one fires."""
        filesystem = run.filesystems[index]
        original: Callable[[str, int], Coroutine[Any, Any, None]] = filesystem.take_time
        end: Deferred[None] = Deferred()
        hung: list[Deferred[None]] = []

        async def take_time(operation: str, size_bytes: int) -> None:
            if operation == awaited and not hung:
                hung.append(end)
                await hung[0]
            await original(operation, size_bytes)

        filesystem.take_time = take_time  # type: ignore[method-assign]
        return end

    def put(self, world: World, count: int, size_bytes: int = SIZE) -> list[ObjectVersion]:
        """Have so many objects arrive."""
        first = len(world.contents)
        return [world.put(f"k{first + number}", size_bytes) for number in range(count)]

    def assert_whole(self, world: World, versions: list[ObjectVersion]) -> None:
        """Check that each version has two verified copies on two cartridges."""
        world.check()
        self.assertEqual({len(world.where(version)) for version in versions}, {2})
        self.assertEqual(now_of(world.store.unfinished_copies(10)), [])


class ParallelTests(DrivesCase):
    """Without faults."""

    def test_two_copies_at_once(self) -> None:
        """The two copies of a bundle are written at the same time, on one cartridge of each pool and no more."""
        world = World(drives=4, cartridges=8)
        versions = self.put(world, 2)
        run = self.start(world)
        self.hurry(run)
        run.until(lambda: list(self.steps(run).values()).count("archive: writing") == 2, hurry=False)
        run.until(lambda: world.is_cold(*versions))
        self.assert_whole(world, versions)
        self.assertEqual(len(world.states()), 2)

    def test_backlog_is_divided(self) -> None:
        """A backlog of 20 bundles is written by two drives for each pool, each on a cartridge of its own."""
        world = World(drives=4, cartridges=8)
        versions = self.put(world, 20)
        run = self.start(world)
        self.hurry(run)
        run.until(lambda: list(self.steps(run).values()).count("archive: writing") == 4, hurry=False)
        run.until(lambda: world.is_cold(*versions))
        self.assert_whole(world, versions)
        held = [len(world.lists(barcode)) for barcode in world.states()]
        self.assertEqual(len(held), 4)
        self.assertGreater(min(held), 4)

    def test_late_arrivals_join(self) -> None:
        """What arrives while a pool is written joins the session there: no other cartridge is mounted for it."""
        world = World(drives=4, cartridges=8)
        versions = self.put(world, 3)
        run = self.start(world)
        self.hurry(run)
        for _ in range(8):
            run.let_pass(2)
            versions += self.put(world, 1, 100)
            self.hurry(run)
        run.until(lambda: world.is_cold(*versions))
        self.assert_whole(world, versions)
        self.assertEqual(len(world.states()), 2)

    def test_archive_and_recall_at_once(self) -> None:
        """With more of both than drives, two drives write while two read."""
        world = World(drives=4, cartridges=9)
        run = self.start(world)
        old = self.put(world, 20)
        run.until(lambda: world.is_cold(*old))
        run.let_pass(100)
        for version in old:
            world.ask_back(version, Tier.STANDARD)
        new = self.put(world, 20)
        self.hurry(run)
        run.bells["dispatcher"].ring()
        seen: set[tuple[int, int]] = set()

        def is_done() -> bool:
            seen.add((len(self.working(run, "archive")), len(self.working(run, "recall"))))
            return world.is_restored(*old) and world.is_archived(*new)

        run.until(is_done, hurry=False)
        self.assertIn((2, 2), seen)
        self.assert_whole(world, new)
        self.assertEqual(world.read(old[3]), world.contents[old[3].version_uid])

    def test_expedited_interrupts(self) -> None:
        """An expedited restore gets a drive at the end of a bundle when archives have them all; they end all the same."""
        world = World(drives=2, cartridges=6)
        run = self.start(world, idle_unload_seconds=1)
        (old,) = self.put(world, 1)
        run.until(lambda: world.is_cold(old))
        run.let_pass(30)
        new = self.put(world, 30)
        self.hurry(run)
        run.until(lambda: list(self.steps(run).values()).count("archive: writing") == 2, hurry=False)
        world.ask_back(old)
        run.bells["dispatcher"].ring()
        asked_at = run.clock.seconds()
        run.until(lambda: world.is_restored(old), hurry=False)
        self.assertLess(run.clock.seconds() - asked_at, 10)
        self.assertFalse(world.is_archived(*new))
        run.until(lambda: world.is_cold(*new), seconds=600)
        self.assert_whole(world, new)

    def test_slow_robot(self) -> None:
        """While the robot carries one cartridge after the other for a minute each, the drives that have theirs write."""
        world = World(drives=4, cartridges=8, move_seconds=60.0)
        versions = self.put(world, 100)
        run = self.start(world)
        self.hurry(run)
        run.until(lambda: "archive: writing" in self.steps(run).values(), hurry=False)
        moves, begun = world.library.moves, self.count_begun(world, versions)
        run.let_pass(40)
        self.assertEqual(world.library.moves, moves)
        self.assertEqual(list(self.steps(run).values()).count("archive: loading"), 3)
        self.assertGreater(self.count_begun(world, versions), begun + 20)
        run.until(lambda: world.is_cold(*versions))
        self.assert_whole(world, versions)

    def test_emptied_at_once(self) -> None:
        """Drives that are emptied at the same time, with their home slots taken, find a slot each."""
        world = World(drives=4, cartridges=4, move_seconds=5.0)
        versions = self.put(world, 20)
        run = self.start(world)
        self.hurry(run)
        run.until(lambda: world.is_cold(*versions), hurry=False)
        self.assertTrue(all(drive.barcode for drive in world.library.drives))
        for slot in (1, 2, 3, 4):
            world.library.put(slot, f"B0000{slot}L8")
        run.dispatcher.drain(True)
        run.until(lambda: not any(drive.barcode for drive in world.library.drives), hurry=False)
        self.assertEqual(now_of(world.store.alerts(include_cleared=True, limit=9)), [])

    def test_drained_in_a_long_recall(self) -> None:
        """A drain ends work at the next bundle, however much was still to be read or verified; after it, the rest is done."""
        world = World(drives=1, cartridges=4)
        run = self.start(world)
        old = self.put(world, 20)
        run.until(lambda: world.is_cold(*old))
        for version in old:
            world.ask_back(version)
        run.until(lambda: self.steps(run) == {0: "recall: reading"}, hurry=False)
        run.dispatcher.drain(True)
        run.until(lambda: world.library.drives[0].barcode is None, seconds=20, hurry=False)
        self.assertIn(sum(world.is_restored(version) for version in old), range(1, 5))
        run.dispatcher.drain(False)
        run.until(lambda: world.is_restored(*old))

    def test_silent_library(self) -> None:
        """A library that does not answer right after a move is asked again later: what it moved is found, and used."""
        world = World(drives=2, cartridges=4)
        versions = self.put(world, 2)
        run = self.start(world)
        load = world.library.load
        silences: list[str] = []

        def load_and_fall_silent(**move: Any) -> Any:
            loading = load(**move)
            if len(silences) < 6:
                silences.append(move["barcode"])
                reason = LibraryUnreachable(attempted="looking", reason="no answer", advice="Look.")
                return loading.addCallback(lambda _: fail(reason))
            return loading

        world.library.load = load_and_fall_silent  # type: ignore[method-assign]
        run.until(lambda: world.is_cold(*versions))
        self.assertTrue(silences)
        self.assertEqual(set(world.drive_states()), {DriveState.UP})
        self.assert_whole(world, versions)

    def test_exchange_that_hangs(self) -> None:
        """What is to be read once a cartridge is out of a drive is read by another drive when that one does not come out."""
        world = World(drives=2, cartridges=4)
        run = self.start(world, idle_unload_seconds=1e6)
        (old,) = self.put(world, 1)
        run.until(lambda: world.is_cold(old))
        for barcode in world.where(old):
            record = now_of(world.store.cartridge(barcode))
            full = replace(record, state=CartridgeState.FULL)
            now_of(world.store.record_cartridge(full, audit=""))
        (new,) = self.put(world, 1)
        run.until(lambda: world.is_cold(new))
        hang = self.hang(run, 0, "unmount")
        world.ask_back(old)
        run.bells["dispatcher"].ring()
        run.let_pass(EXCHANGE_SECONDS - 60)
        self.assertEqual(self.steps(run)[0], "recall: unmounting: writing the index")
        self.assertFalse(world.is_restored(old))
        run.let_pass(120)
        self.assertTrue(world.is_restored(old))
        hung = run.bays[0].barcode
        loads = world.library.moves
        hang.callback(None)
        run.let_pass(30)
        self.assertIsNone(run.bays[0].barcode, "it was put away, and nothing else is to be had")
        self.assertEqual(world.library.moves, loads + 1)
        self.assertIn(hung, world.states())
        self.assertEqual(world.alerts(), {})

    def test_mount_that_hangs(self) -> None:
        """What is to be read from a cartridge whose mount hangs is read from another copy, and the drive goes on when that is over."""
        world = World(drives=2, cartridges=4)
        run = self.start(world)
        (old,) = self.put(world, 1)
        run.until(lambda: world.is_cold(old))
        run.until(lambda: not any(drive.barcode for drive in world.library.drives), hurry=False)
        hang = self.hang(run, 0, "mount")
        world.ask_back(old)
        run.bells["dispatcher"].ring()
        run.let_pass(EXCHANGE_SECONDS - 60)
        self.assertEqual(self.steps(run)[0].partition(" ")[0], "recall:")
        self.assertFalse(world.is_restored(old))
        run.let_pass(120)
        self.assertTrue(world.is_restored(old))
        hang.callback(None)
        run.let_pass(30)
        self.assertEqual(self.steps(run)[0], "idle: idle")
        self.assertEqual(world.alerts(), {})

    def count_begun(self, world: World, versions: list[ObjectVersion]) -> int:
        """How many copies were begun."""
        return sum(copy.state.value != "planned" for version in versions for copy in world.copies(version))


class DownTests(DrivesCase):
    """Drives that go down in the middle."""

    def writing(self, world: World, run: Run) -> int:
        """Wait until four drives write; return one of them."""
        self.hurry(run)
        run.until(lambda: list(self.steps(run).values()).count("archive: writing") == 4, hurry=False)
        return 1

    def test_put_down(self) -> None:
        """A drive that an operator puts down ends at its bundle, gives its cartridge back, and others do what it had not begun."""
        world = World(drives=4, cartridges=8)
        versions = self.put(world, 40)
        run = self.start(world)
        index = self.writing(world, run)
        barcode = run.bays[index].barcode
        self.set_drive(run, index, DriveState.DOWN)
        run.let_pass(10)
        self.assertIsNone(run.bays[index].barcode)
        self.assertIsNone(world.library.drives[index].barcode)
        self.assertEqual(self.working(run, "archive"), {0, 2, 3})
        run.until(lambda: world.is_cold(*versions))
        self.assert_whole(world, versions)
        self.assertEqual(world.drive_states()[index], DriveState.DOWN)
        self.assertEqual(set(world.states().values()), {CartridgeState.FILLING})
        self.assertIn(barcode, world.states())
        self.assertEqual(world.alerts(), {})
        self.set_drive(run, index, DriveState.UP)
        more = self.put(world, 40)
        run.until(lambda: index in self.working(run, "archive"))
        run.until(lambda: world.is_cold(*more))

    def test_put_down_and_up_again(self) -> None:
        """A drive that is put up again before its session has ended goes on, and keeps its cartridge."""
        world = World(drives=4, cartridges=8)
        versions = self.put(world, 40)
        run = self.start(world)
        index = self.writing(world, run)
        self.set_drive(run, index, DriveState.DOWN)
        self.set_drive(run, index, DriveState.UP)
        run.let_pass(5)
        self.assertIsNotNone(run.bays[index].volume)
        run.until(lambda: world.is_cold(*versions))
        self.assert_whole(world, versions)

    def test_put_down_while_it_hangs(self) -> None:
        """A transfer that stands still in a drive that was put down is broken off: the copy is made elsewhere, the cartridge given back."""
        world = World(drives=4, cartridges=8)
        versions = self.put(world, 40)
        run = self.start(world)
        index = self.writing(world, run)
        self.hang(run, index, "write")
        run.let_pass(2)
        barcode = run.bays[index].barcode
        run.let_pass(200)
        self.assertFalse(world.is_archived(*versions))
        self.assertEqual(self.working(run, "archive"), {index})
        self.set_drive(run, index, DriveState.DOWN)
        run.until(lambda: world.is_cold(*versions), hurry=False)
        self.assert_whole(world, versions)
        run.let_pass(100)
        self.assertIsNone(world.library.drives[index].barcode)
        self.assertEqual(world.states()[str(barcode)], CartridgeState.FILLING)
        self.assertEqual(world.alerts(), {})

    def test_write_error(self) -> None:
        """While a drive that failed is still putting its cartridge away, others write what it had not begun."""
        world = World(drives=4, cartridges=8, offline_seconds=1000.0)
        versions = self.put(world, 40)
        run = self.start(world)
        index = self.writing(world, run)
        run.filesystems[index].faults["write"] = deque([medium_fault()])
        run.until(lambda: world.is_cold(*versions), seconds=400, hurry=False)
        self.assertIn("unloading", self.steps(run)[index])
        self.assertEqual(list(world.alerts()), ["tape-failure"])
        self.assert_whole(world, versions)

    def test_every_drive_but_one(self) -> None:
        """With all drives but one put down in the middle the last one does everything."""
        world = World(drives=4, cartridges=8)
        versions = self.put(world, 30)
        run = self.start(world)
        self.writing(world, run)
        for index in (0, 1, 2):
            self.set_drive(run, index, DriveState.DOWN)
        run.until(lambda: world.is_cold(*versions), hurry=False)
        self.assert_whole(world, versions)
        self.assertEqual([drive.barcode is None for drive in world.library.drives[:3]], [True] * 3)

    def test_no_drive(self) -> None:
        """With every drive down the operator is told that archives wait, until one is up."""
        world = World(drives=2, cartridges=4)
        run = self.start(world)
        run.let_pass(1)
        for index in (0, 1):
            self.set_drive(run, index, DriveState.DOWN)
        versions = self.put(world, 1)
        self.hurry(run)
        run.let_pass(100)
        self.assertEqual(world.alerts(), {"no-drive": "archives"})
        self.set_drive(run, 0, DriveState.UP)
        run.until(lambda: world.is_cold(*versions))
        run.let_pass(100)
        self.assertEqual(world.alerts(), {})

    def test_stuck_pool(self) -> None:
        """When everything a pool could be written on is in drives that are down the operator is told so, and how to go on."""
        world = World(drives=4, cartridges=2)
        run = self.start(world)
        versions = self.put(world, 1)
        run.until(lambda: world.is_cold(*versions))
        for index in (0, 1):
            # It does not let its cartridge go.
            run.filesystems[index].faults["unmount"] = deque([medium_fault() for _ in range(9)])
            self.set_drive(run, index, DriveState.DOWN)
        run.let_pass(30)
        self.assertTrue(all(world.library.drives[index].barcode for index in (0, 1)))
        more = self.put(world, 1)
        self.hurry(run)
        run.let_pass(100)
        found = {
            (alert.kind, alert.subject)
            for alert in now_of(world.store.alerts(include_cleared=False, limit=9))
        }
        self.assertLessEqual({("pool-stuck", "pool main"), ("pool-stuck", "pool vault")}, found)
        self.assertNotIn("no-cartridge", {kind for kind, _ in found})
        for index in (0, 1):
            run.filesystems[index].faults.clear()
            self.set_drive(run, index, DriveState.UP)
        run.until(lambda: world.is_cold(*more))
        run.let_pass(100)
        self.assertEqual(world.alerts(), {})
