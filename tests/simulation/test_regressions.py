"""What was bad once is good."""

from tests.simulation.case import regressions
from tests.simulation.report import play_case
from tests.simulation.testcase import WorldTestCase


class RegressionTests(WorldTestCase):
    """The cases of ``regressions.txt``."""

    def test_all(self) -> None:
        """Each is played and judged."""
        bad = [report for report in map(play_case, regressions()) if not report.is_good]
        self.assertEqual([], bad)
