"""Bad cases become small and stay bad in the same way."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from tests.simulation.case import Case
from tests.simulation.invariants import Judge
from tests.simulation.report import Report, play_case
from tests.simulation.shrink import Shrinking, kind
from tests.simulation.testcase import WorldTestCase


class KindTests(SynchronousTestCase):
    """Complaints of the same kind are the same sentence about other things."""

    def test_names_and_numbers(self) -> None:
        """What differs from world to world does not tell them apart; what went wrong does."""
        self.assertEqual(
            kind("bundle 01kdvfde2rcya2zhmdrya9apx1 is verified on A00012L9, whose index does not list it"),
            kind("bundle 01kdvfde2rcya2zhmdrya9apx7 is verified on A00007L9, whose index does not list it"),
        )
        self.assertEqual(
            kind("c1/003: nothing instead of GLACIER of 12 bytes, seed 4"),
            kind("c7/041: nothing instead of STANDARD of 1299 bytes, seed 9"),
        )
        self.assertEqual(kind("c1 could not read ['c1/003']"), kind("c4 could not read ['c4/001', 'c4/002']"))
        self.assertNotEqual(kind("3 versions wait for tape"), kind("3 messages wait"))

    def test_tracebacks(self) -> None:
        """Of a traceback the place and the error count, not the way there."""
        way = 'round: Traceback (most recent call last):\n  File "/a/b.py", line {}, in c\n'
        end = '  File "/a/d.py", line 7, in e\n    raise\nValueError: {} is wrong\n'
        self.assertEqual(
            kind(way.format(3) + end.format(5)), kind(way.format(4) + way.format(9) + end.format(6))
        )
        self.assertNotEqual(kind(way.format(3) + end.format(5)), kind(way.format(3) + "KeyError: 5"))
        place = '  File "/home/me/coldstore/coldstore/s3/site.py", line 7, in e\n'
        self.assertEqual(
            kind(way.format(3) + place + "ValueError: no"),
            "round: coldstore/s3/site.py, line N, in e ValueError: no",
        )


def imitation(is_bad: Callable[[Case], bool], played: list[Case]) -> Callable[[Case], Report]:
    """Something that plays cases without a world: the complaint comes at the end."""

    def play(case: Case) -> Report:
        played.append(case)
        complaints = (f"wrong {len(played)} times",) if is_bad(case) else ("another thing",)
        faults = Counter({name: 3 for name in case.all_faults if name != "clock step"})
        return Report(case=case, complaints=complaints, hours=case.hours + 100, faults=faults)

    return play


class ShrinkingTests(SynchronousTestCase):
    """How it goes about it."""

    def small(self, case: Case, is_bad: Callable[[Case], bool], replays: int = 500) -> tuple[Case, int]:
        """Shrink; return what is left, and how many replays it took."""
        played: list[Case] = []
        play = imitation(is_bad, played)
        first = play(case)
        played.clear()
        return Shrinking(first, play=play, replays=replays).run().case, len(played)

    def test_needs_two_faults(self) -> None:
        """All goes that is not needed."""
        case, _ = self.small(
            Case(seed=17, hours=72.0),
            lambda case: (
                {"kill", "robot jams"} <= set(case.all_faults) and case.hours >= 31 and case.clients >= 2
            ),
        )
        self.assertEqual(set(case.all_faults), {"kill", "robot jams"})
        self.assertEqual((case.seed, case.clients, case.settles), (17, 2, False))
        self.assertTrue(31 <= case.hours < 36, case)
        self.assertLess(case.operations, 50)

    def test_needs_everything(self) -> None:
        """Where nothing can go, nothing goes, and it ends."""
        whole = Case(seed=17, hours=72.0)
        case, _ = self.small(whole, lambda case: case == whole)
        self.assertEqual(case, whole)

    def test_budget(self) -> None:
        """It stops when it has replayed often enough, or has no time left."""
        _, played = self.small(Case(seed=17, hours=72.0), lambda case: "kill" in case.all_faults, replays=5)
        self.assertEqual(played, 5)
        report = Report(case=Case(seed=17, hours=72.0), complaints=("wrong",), hours=1000.0)
        self.assertIs(Shrinking(report, play=self.fail, is_over=lambda: True).run(), report)

    def test_cut_without_a_replay(self) -> None:
        """A complaint that came before the time was over needs no more time than that."""
        report = Report(case=Case(seed=17, hours=72.0), complaints=("wrong",), hours=18.0)
        case = Shrinking(report, play=self.fail, replays=0).run().case
        self.assertEqual((case.hours, case.settles), (18.0, False))


class HangUpJudge(Judge):
    """A planted bug: nobody may hang up."""

    def complaints(self) -> list[str]:
        """Complain when anybody has."""
        count = self._world.chance.counts.get("client hangs up", 0)
        return [f"{count} clients hung up"] if count else []


class BrokenJudge(Judge):
    """A judge that stumbles."""

    def complaints(self) -> list[str]:
        """Fail once there is something to judge."""
        raise RuntimeError("no bench to sit on")


class PlantedTests(WorldTestCase):
    """A bug planted in a real world."""

    def test_one_fault_is_left(self) -> None:
        """Its fault alone is left of all, and a case read from its line is as bad again."""

        def play(case: Case) -> Report:
            return play_case(case, judged_by=HangUpJudge)

        first = play(Case(seed=4, hours=3.0, clients=1, operations=40.0))
        self.assertFalse(first.is_good)
        small = Shrinking(first, play=play, replays=12).run()
        self.assertEqual(small.case.faults, ("client hangs up",))
        self.assertLess(small.case.hours, first.case.hours)
        again = play(small.case)
        self.assertEqual(replace(again, seconds=0.0), replace(small, seconds=0.0))

    def test_the_simulation_fails(self) -> None:
        """What fails in the simulation itself makes a case bad as well, at its moment, and is no end of a long run."""
        report = play_case(Case(seed=4, hours=8.0, clients=1, operations=1.0), judged_by=BrokenJudge)
        (complaint,) = report.complaints
        self.assertIn("no bench to sit on", complaint)
        self.assertEqual(report.hours, 6.0)
        self.assertEqual(kind(complaint).count("no bench to sit on"), 1)
