"""How long a drive takes to get from one place on its tape to another, in the range of what is published of LTO-9 drives."""

from itertools import pairwise
from random import Random
from statistics import mean

from twisted.trial.unittest import SynchronousTestCase

from tests.simulation.wraps import (
    DATA_WRAPS,
    DEVIATION,
    FIRST_DATA_WRAP,
    LOAD_POINT,
    METRES,
    READ_SPEED,
    WRAPS,
    Head,
    Place,
    Wraps,
    locate_seconds,
    rewind_seconds,
    run_seconds,
)

CAPACITY = 274_000_000
LONGEST = METRES + 35


def somewhere(random: Random) -> Place:
    return Place(random.randrange(WRAPS), random.uniform(0, METRES))


class PlaceTests(SynchronousTestCase):
    """From bytes to places."""

    def setUp(self) -> None:
        self.wraps = Wraps(CAPACITY, Random(1))

    def test_serpentine(self) -> None:
        """Bytes go outward and back, wrap after wrap; where one ends the next begins."""
        ends = [0.0, *self.wraps.ends_bytes]
        for index in range(DATA_WRAPS):
            middle = self.wraps.place((ends[index] + ends[index + 1]) / 2)
            self.assertEqual(middle.wrap, FIRST_DATA_WRAP + index)
            self.assertAlmostEqual(middle.metres, METRES / 2)
            early, late = (
                self.wraps.place(ends[index] + part * (ends[index + 1] - ends[index])) for part in (0.1, 0.9)
            )
            self.assertAlmostEqual((late.metres - early.metres) * middle.direction, 0.8 * METRES)
        for index in range(1, DATA_WRAPS):
            before, after = self.wraps.place(ends[index] - 1e-3), self.wraps.place(ends[index])
            self.assertEqual(after.wrap, before.wrap + 1)
            self.assertLess(abs(after.metres - before.metres), 0.001)

    def test_ends(self) -> None:
        """The first byte lies near the load point; what is past the last wrap is at its end."""
        self.assertEqual(self.wraps.place(0), Place(FIRST_DATA_WRAP, 0.0))
        self.assertEqual(self.wraps.place(CAPACITY * 2), Place(WRAPS - 1, 0.0))

    def test_bands(self) -> None:
        """Four of 70 wraps."""
        self.assertEqual(
            [Place(wrap, 0.0).band for wrap in (0, 69, 70, 139, 140, 209, 210, 279)], [0, 0, 1, 1, 2, 2, 3, 3]
        )

    def test_deviation(self) -> None:
        """Wraps end within one percent of where they should, in every cartridge elsewhere, and always the same for equal chance."""
        farthest = []
        for seed in range(20):
            ends = Wraps(CAPACITY, Random(seed)).ends_bytes
            offs = [end / (CAPACITY / DATA_WRAPS * (index + 1)) - 1 for index, end in enumerate(ends)]
            self.assertLessEqual(max(map(abs, offs)), DEVIATION)
            farthest.append(offs[-1])
            self.assertEqual(ends, Wraps(CAPACITY, Random(seed)).ends_bytes)
        self.assertEqual(len(set(farthest)), 20)
        self.assertGreater(max(farthest) - min(farthest), DEVIATION / 2)


class LocateTests(SynchronousTestCase):
    """From place to place."""

    def test_same_place(self) -> None:
        """Going on where it is costs nothing."""
        for wrap in (6, 7):
            self.assertEqual(locate_seconds(Place(wrap, 400.0), Place(wrap, 400.0)), 0.0)

    def test_ahead(self) -> None:
        """A little ahead it reads on; far ahead it locates, and is there sooner."""
        for wrap, near, far in ((6, 410.0, 900.0), (7, 390.0, 0.0)):
            here = Place(wrap, 400.0)
            self.assertAlmostEqual(locate_seconds(here, Place(wrap, near)), 10 / READ_SPEED)
            distance = abs(far - 400.0)
            self.assertLess(locate_seconds(here, Place(wrap, far)), distance / READ_SPEED)

    def test_behind(self) -> None:
        """What lies just behind on the same wrap costs two reversals."""
        there = locate_seconds(Place(6, 400.0), Place(6, 390.0))
        self.assertTrue(5 < there < 15, there)

    def test_next_wrap(self) -> None:
        """A neighbour across the tape is near, however many bytes lie between; the far end is a whole run away."""
        beside = locate_seconds(Place(6, 500.0), Place(7, 500.0))
        self.assertTrue(5 < beside < 15, beside)
        end = locate_seconds(Place(6, 0.0), Place(7, METRES))
        self.assertGreater(end, METRES / 9.2)
        band = locate_seconds(Place(6, 500.0), Place(211, 500.0))
        self.assertAlmostEqual(band - beside, 3.0)

    def test_published(self) -> None:
        """Averages and the worst case are in the range of the published ones."""
        random = Random(7)
        from_load_point = [locate_seconds(LOAD_POINT, somewhere(random)) for _ in range(4000)]
        self.assertApproximates(mean(from_load_point), 65, 4)
        anywhere = [locate_seconds(somewhere(random), somewhere(random)) for _ in range(4000)]
        self.assertApproximates(mean(anywhere), 48, 4)
        self.assertLess(max(from_load_point + anywhere), 130)
        self.assertGreater(max(anywhere), 100)
        rewinds = [rewind_seconds(somewhere(random)) for _ in range(4000)]
        self.assertApproximates(mean(rewinds), 62, 4)
        self.assertLess(max(rewinds), 124)

    def test_load_point(self) -> None:
        """Where it is already, nothing is to be rewound."""
        self.assertEqual(rewind_seconds(LOAD_POINT), 0.0)
        self.assertGreater(rewind_seconds(Place(7, METRES)), METRES / 9.2)

    def test_runs(self) -> None:
        """Longer runs take longer, without a leap where full speed is reached."""
        seconds = [run_seconds(metres / 10) for metres in range(int(LONGEST * 10))]
        self.assertEqual(seconds, sorted(seconds))
        self.assertLess(max(after - before for before, after in pairwise(seconds)), 0.4)


class HeadTests(SynchronousTestCase):
    """What a drive remembers."""

    def test_in_a_row(self) -> None:
        """What lies in a row costs one locate; read once more, another one back."""
        wraps, head = Wraps(CAPACITY, Random(3)), Head()
        first = head.pass_over(wraps, [(5_000_000, 100_000), (5_100_000, 400_000)])
        self.assertEqual(first, locate_seconds(LOAD_POINT, wraps.place(5_000_000)))
        self.assertEqual(head.pass_over(wraps, [(5_500_000, 2_000_000)]), 0.0)
        self.assertEqual(head.moved_bytes, 2_500_000)
        again = head.pass_over(wraps, [(5_000_000, 1)])
        self.assertEqual(again, locate_seconds(wraps.place(7_500_000), wraps.place(5_000_000)))
        self.assertGreater(again, 5.0)
