"""Several drives in model time: what holds of every plan, how long anybody waits, and how often cartridges are mounted."""

from collections import Counter
from functools import partial
from itertools import pairwise

from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.objects import Tier
from tests.unit.floor_rig import GB, HOUR, LOAD_SECONDS, MOVE_SECONDS, UNLOAD_SECONDS, Floor

BOUNDARY = 400.0
"""The longest bundle and a change of cartridges."""


class RandomTests(SynchronousTestCase):
    """Random work; every plan is checked by the rig."""

    def test_everything_ends(self) -> None:
        """
        With 1 to 8 drives, faults, and drives that are put down, every bundle gets its copies on two cartridges and every recall
        comes back; neither of the two kinds of work is kept from the drives for long.
        """
        for seed in range(32):
            floor = self.busy_day(seed)
            floor.run(24 * HOUR)
            floor.run(400 * HOUR, until=floor.is_done)
            self.assertTrue(floor.is_done(), seed)
            for bundle_id, copies in floor.written.items():
                self.assertEqual(len(set(copies.values())), 2, (seed, bundle_id))
            self.assertEqual(len(floor.done), 2 * len(floor.sizes), seed)
            for (_, end), (begin, _) in pairwise(floor.moves):
                self.assertLessEqual(end, begin, "the robot made two moves at once")
            # A drive that is put down or parted from its cartridge may take an hour away from both.
            self.assertLess(floor.archives_waited, 3 * HOUR + BOUNDARY, seed)
            self.assertLess(floor.recalls_waited, 3 * HOUR + BOUNDARY, seed)

    def busy_day(self, seed: int) -> Floor:
        """Return a library with work that arrives within a day or within some hours, and mishaps."""
        floor = Floor(drives=1 + seed % 8, scratch=24, seed=seed)
        random = floor.random
        drives = len(floor.units)
        span = random.choice((2, 8, 24)) * HOUR
        for _ in range(random.randrange(1, 30 * drives)):
            size = random.choice((1, 8, 32, 32, 64)) * GB
            floor.at(random.random() * span, partial(floor.bundle, size))
        for _ in range(random.randrange(1, 60 * drives)):
            barcodes = random.sample([f"R{number:02}" for number in range(15)] + ["S000", "S001"], 2)
            tier = random.choice((Tier.EXPEDITED, Tier.STANDARD, Tier.STANDARD, Tier.BULK))
            floor.at(random.random() * span, partial(floor.ask, *barcodes, tier=tier))
        for _ in range(random.randrange(3)):
            index = random.randrange(drives)
            floor.at(random.random() * span, partial(floor.put_down, index, seconds=HOUR))
        if seed % 3 == 0:
            floor.fault = lambda unit, step: random.random() < 0.02
        return floor


class OverloadTests(SynchronousTestCase):
    """More of one kind of work than all drives can do."""

    def flooded(self, drives: int, tier: Tier, *, hours: int) -> Floor:
        """Return a library in which a hundred bundles and more recalls than drives have been waiting for so long."""
        floor = Floor(drives=drives)

        def ask() -> None:
            for number in range(len(floor.wanted), 12 * drives):
                floor.ask(f"R{(number + floor.random.randrange(3)) % 40:02}", tier=tier)

        for minute in range(hours * 60):
            floor.at(minute * 60.0, ask)
        for _ in range(100):
            floor.bundle()
        floor.run(hours * HOUR)
        self.assertTrue(floor.wanted and floor.to_write, "it was no flood")
        return floor

    def test_expedited_flood(self) -> None:
        """However many expedited recalls come, archives get a drive within two hours, and keep it for one."""
        for drives in (1, 2, 4):
            floor = self.flooded(drives, Tier.EXPEDITED, hours=12)
            self.assertGreater(floor.archives_waited, HOUR / 2, drives)
            self.assertLess(floor.archives_waited, 2 * HOUR + BOUNDARY, drives)
            # A copy takes 80 s to write, 50 s to locate and 80 s to read back.
            self.assertGreater(len(floor.done), 0.25 * 12 * HOUR / 210, drives)
            self.assertGreater(len(floor.read_at), 0.3 * drives * 12 * HOUR / 300, drives)

    def test_standard_flood(self) -> None:
        """However many recalls come, archives have their half of the drives, and leave the other half."""
        for drives in (1, 2, 4):
            floor = self.flooded(drives, Tier.STANDARD, hours=5)
            self.assertLess(floor.archives_waited, BOUNDARY if drives > 1 else HOUR + BOUNDARY, drives)
            self.assertGreater(len(floor.done), 0.6 * drives / 2 * 5 * HOUR / 210, drives)
            self.assertGreater(len(floor.read_at), 0.7 * drives / 2 * 5 * HOUR / 300, drives)

    def test_archive_flood(self) -> None:
        """However much is to be written, a recall gets a drive at once when there are several, else within the longest hold."""
        for drives, bound in ((1, HOUR), (2, 0.0), (4, 0.0)):
            floor = Floor(drives=drives)
            for _ in range(400):
                floor.bundle()
            asked = [
                floor.at(600.0 + 5 * HOUR * number, partial(floor.ask, f"R{number}")) for number in range(3)
            ]
            floor.run(16 * HOUR)
            self.assertEqual(len(floor.read_at), len(asked))
            self.assertLess(max(floor.read_at.values()), bound + BOUNDARY + 600)

    def test_urgent_ones_interrupt(self) -> None:
        """With every drive busy an expedited recall comes back within a bundle and a mount; what it interrupted is finished."""
        for drives in (1, 2, 4):
            floor = Floor(drives=drives)
            for _ in range(60):
                floor.bundle()
            for number in range(100):
                floor.ask(f"R{number % 3:02}", tier=Tier.BULK)
            floor.at(HOUR / 2, partial(floor.ask, "X", tier=Tier.EXPEDITED))
            floor.run(60 * HOUR, until=floor.is_done)
            self.assertTrue(floor.is_done())
            # 160 s for the longest step, a change of cartridges, a locate.
            self.assertLess(floor.read_at[101], 160 + UNLOAD_SECONDS + LOAD_SECONDS + 4 * MOVE_SECONDS + 60)

    def test_old_bulk(self) -> None:
        """A bulk recall comes back some day, whatever else is asked for."""
        floor = Floor(drives=1)

        def ask() -> None:
            for number in range(len(floor.wanted), 5):
                floor.ask(f"R{(number + floor.random.randrange(3)) % 40:02}", tier=Tier.EXPEDITED)

        floor.ask("X", tier=Tier.BULK)
        for minute in range(30 * 60):
            floor.at(minute * 60.0, ask)
        floor.run(30 * HOUR)
        self.assertGreater(floor.read_at[1], 24 * HOUR, "it was no flood")
        self.assertLess(floor.read_at[1], 25 * HOUR)


class MountTests(SynchronousTestCase):
    """Mounts and moves that are needed, and no others."""

    def test_recalls_of_twenty_cartridges(self) -> None:
        """What is wanted from 20 cartridges takes 20 mounts, however many drives there are, and they share them evenly."""
        for drives in (1, 2, 4, 8):
            floor = Floor(drives=drives)
            for number in range(200):
                floor.ask(f"R{number % 20:02}", tier=Tier.EXPEDITED)
            floor.run(20 * HOUR, until=floor.is_done)
            self.assertEqual(len(floor.mounts), 20)
            self.assertEqual(
                {barcode for _, _, barcode in floor.mounts}, {f"R{number:02}" for number in range(20)}
            )
            by_drive = Counter(drive for _, drive, _ in floor.mounts)
            self.assertLessEqual(max(by_drive.values()) - min(by_drive.values()), 2, by_drive)

    def test_two_copies_to_choose(self) -> None:
        """Restores of what lies on a cartridge of each pool mount one of them."""
        floor = Floor(drives=4)
        for _ in range(50):
            floor.ask("R1", "R2")
        floor.run(5 * HOUR, until=floor.is_done)
        self.assertEqual(len(floor.mounts), 1)

    def test_trickle(self) -> None:
        """Small bundles that come one by one stay on one cartridge of each pool, however many drives are idle."""
        floor = Floor(drives=4)
        for number in range(100):
            floor.at(number * 20.0, partial(floor.bundle, GB))
        floor.run(5 * HOUR, until=lambda: len(floor.done) == 200)
        self.assertEqual(len(floor.mounts), 2)

    def test_backlog(self) -> None:
        """A large backlog takes a fraction of the time with more drives, and one mount for each of them and its pool."""
        times = {}
        for drives in (1, 2, 4, 8):
            floor = Floor(drives=drives)
            for _ in range(128):
                floor.bundle()
            floor.run(100 * HOUR, until=floor.is_done)
            times[drives] = floor.now
            # Two pools on one drive change every hour.
            self.assertLessEqual(len(floor.mounts), floor.now / HOUR + 1 if drives == 1 else drives)
        self.assertLess(times[2] / times[1], 0.55)
        self.assertLess(times[4] / times[1], 0.30)
        self.assertLess(times[8] / times[1], 0.17)

    def test_late_help(self) -> None:
        """Drives that become free in the middle of a large backlog help with it: no session keeps what it has not begun."""
        floor = Floor(drives=4)
        for number in range(210):
            floor.ask(f"R{number % 3}", tier=Tier.EXPEDITED)
        for _ in range(100):
            floor.bundle(pools=("main",))
        floor.run(100 * HOUR, until=floor.is_done)
        # The recalls take three drives for about an hour; then some 84 of 100 bundles, at 210 s each, are left for four drives.
        self.assertLess(floor.now, HOUR + 84 * 210 / 4 + 1500)
        self.assertEqual(len(floor.mounts), 3 + 4)

    def test_put_down_in_the_middle(self) -> None:
        """What a drive had not begun when it was put down is written by others at once, and its cartridge goes on elsewhere."""
        floor = Floor(drives=2, scratch=1)
        for _ in range(20):
            floor.bundle(pools=("main",))
        floor.run(300.0)
        (first,) = [unit.index for unit in floor.units if unit.job is not None]
        floor.put_down(first, seconds=90 * HOUR)
        floor.run(10 * HOUR, until=lambda: len(floor.done) == 20)
        self.assertEqual(len(floor.done), 20)
        self.assertEqual(
            [(drive, barcode) for _, drive, barcode in floor.mounts], [(first, "S000"), (1 - first, "S000")]
        )
        self.assertLess(floor.mounts[1][0], 300 + 80 + UNLOAD_SECONDS + 3 * MOVE_SECONDS)
