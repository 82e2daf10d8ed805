"""``tests/simulate``: many seeds, in several processes."""

import io
from contextlib import redirect_stderr, redirect_stdout
from itertools import count, islice
from pathlib import Path
from threading import Thread
from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

from tests.simulation import players
from tests.simulation.__main__ import main, options_of
from tests.simulation.case import Case
from tests.simulation.players import Players
from tests.simulation.report import Report
from tests.simulation.summary import Summary
from tests.simulation.testcase import WorldTestCase


class PlayersTests(SynchronousTestCase):
    """Processes that play."""

    def test_order_and_end(self) -> None:
        """Reports come in the order of the cases, of which no more are taken than needed; then the processes end."""
        cases = (Case(seed=seed, hours=0.1, clients=1, settles=False) for seed in count(1))
        with Players(2) as playing:
            reports = list(islice(playing.play(cases), 3))
        self.assertEqual([report.case.seed for report in reports], [1, 2, 3])
        self.assertLess(next(cases).seed, 20)
        for report in reports:
            self.assertTrue(report.is_good, report.complaints)
            self.assertGreater(report.lives, 0)

    def test_processes_take_turns(self) -> None:
        """Processes that have played enough are followed by others, also for the very last case."""
        self.patch(players, "CASES_PER_PROCESS", 2)
        reports: list[Report] = []

        def play() -> None:
            with Players(1) as playing:
                reports.extend(playing.play(Case(seed=seed, hours=0.1, clients=1) for seed in range(1, 6)))

        thread = Thread(target=play, daemon=True)
        thread.start()
        thread.join(300.0)
        self.assertEqual([report.case.seed for report in reports], [1, 2, 3, 4, 5])
        self.assertFalse(thread.is_alive())


class OneTests(WorldTestCase):
    """One case, in this process."""

    def test_story_and_picture(self) -> None:
        """They are made when they are asked for."""
        path = Path(self.mktemp())
        case = "seed=5 hours=0.5 clients=1 settles=no faults=none"
        said = io.StringIO()
        with redirect_stdout(said):
            status = main(["--case", case, "--story", "--picture", str(path)])
        self.assertEqual(status, 0)
        self.assertIn("day 0 00:00:00.000  the appliance starts, life 1\n", said.getvalue())
        self.assertIn(f"{case}: good, 0 h, 1 lives", said.getvalue())
        self.assertEqual(ElementTree.parse(path).getroot().tag, "{http://www.w3.org/2000/svg}svg")


class SummaryTests(SynchronousTestCase):
    """Figures of many."""

    def test_sums(self) -> None:
        """Good and bad are counted as ``tests/run`` reads them, and everything is added up."""
        summary = Summary()
        good = Report(case=Case(seed=1), hours=10.0, lives=2, seconds=1.0)
        good.faults["kill"] = 1500
        good.tapes["mount"] = 7
        summary.add(good)
        summary.add(Report(case=Case(seed=2), hours=20.0, lives=3, seconds=2.0, complaints=("wrong",)))
        said = str(summary)
        self.assertTrue(said.endswith("\nbad: seed=2\n1 passed, 1 failed, 0 skipped"), said)
        self.assertRegex(said, r"kill +1,500\b")
        self.assertIn("5 lives, 7 mounts, 0 client operations, 1500 faults in 30 virtual hours", said)
        self.assertIn("2,160,000 virtual seconds per core-minute", said)
        self.assertTrue(summary.progress(9).startswith("2 of 9: 1 bad, "))

    def test_options(self) -> None:
        """What cannot be is refused, and why is said."""
        for arguments, why in (
            (["--seeds", "0"], "more than none"),
            (["--case", "hours=3"], "a case needs a seed"),
            (["--seed", "1", "--seeds", "3"], "not allowed with"),
        ):
            said = io.StringIO()
            with redirect_stderr(said):
                self.assertRaises(SystemExit, options_of, arguments)
            self.assertIn(why, said.getvalue())
