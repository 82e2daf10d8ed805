"""
The appliance dies at every effect of everything it does, by kill -9 and as the power goes, and again while it recovers.

After each death, or pair of deaths, the next life must put everything right by itself: see ``Stage.verdict``. With ``COLDSTORE_TEST_EVERY=1``
in the environment the second death comes at every effect of every recovery, instead of at a few that are drawn.
"""

import os
from collections.abc import Callable
from functools import partial

from twisted.trial.unittest import SynchronousTestCase

from tests.simulation.crashes import die_everywhere, in_a_copy
from tests.simulation.scenarios import SCENARIOS

PAIRS = 5
"""How many pairs of deaths are tried for each scenario."""


class DyingEverywhere(SynchronousTestCase):
    """Each scenario, cut off in every state it goes through."""

    def _dies_everywhere(self, name: str) -> None:
        pairs = None if os.environ.get("COLDSTORE_TEST_EVERY") else PAIRS
        # In a copy as well: worlds are not taken apart, for what the dead were in the middle of would run on.
        report = in_a_copy(partial(die_everywhere, name, pairs=pairs))
        self.assertEqual(report.complaint, "")
        scenario = SCENARIOS[name]
        for beginning in scenario.effects:
            self.assertTrue(
                any(what.startswith(beginning) for what in report.effects),
                f"no effect begins with {beginning!r}",
            )
        self.assertGreaterEqual(len(report.effects), scenario.least)
        self.assertGreaterEqual(report.once, scenario.least)
        self.assertGreaterEqual(report.twice, PAIRS)


def _test_of(name: str) -> Callable[[DyingEverywhere], None]:
    def test(self: DyingEverywhere) -> None:
        self._dies_everywhere(name)

    return test


for _name in SCENARIOS:
    setattr(DyingEverywhere, f"test_{_name.replace(' ', '_')}", _test_of(_name))
