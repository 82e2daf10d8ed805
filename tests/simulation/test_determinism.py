"""Equal seeds, rates and shapes give equal worlds, to the last effect."""

import os
import subprocess
import sys
from pathlib import Path

from tests.simulation.case import Case
from tests.simulation.report import play_case
from tests.simulation.testcase import WorldTestCase
from tests.simulation.trace import SMALL, digest

CHECKOUT = Path(__file__).parents[2]
SEED, HOURS = 6, 2.0


class DeterminismTests(WorldTestCase):
    """What must not make a difference."""

    def test_hash_seeds(self) -> None:
        """The order in which a process iterates over sets of strings does not show."""
        found = set()
        for hash_seed in ("1", "2"):
            found.add(
                subprocess.run(
                    [sys.executable, "-m", "tests.simulation.trace", str(SEED), str(HOURS)],
                    cwd=CHECKOUT,
                    env={**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONHASHSEED": hash_seed},
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                ).stdout
            )
        self.assertEqual(len(found), 1, found)
        self.assertEqual(len(found.pop().strip()), 64)

    def test_watching(self) -> None:
        """A world whose story is told is the same; one with another seed is not."""
        alone = digest(SEED, 1.0)
        self.assertEqual(digest(SEED, 1.0, keeps_story=True), alone)
        self.assertNotEqual(digest(SEED + 2, 1.0), alone)

    def test_faults_that_did_not_happen(self) -> None:
        """A fault that is switched off leaves all other decisions as they were."""
        case = Case(seed=SEED, hours=HOURS, clients=SMALL.clients, operations=SMALL.operations_per_hour)
        happened = play_case(case).faults
        few = Case(seed=SEED, faults=tuple(happened))
        self.assertLess(len(few.all_faults), len(case.all_faults))
        self.assertEqual(digest(SEED, HOURS, rates=few.rates), digest(SEED, HOURS))
