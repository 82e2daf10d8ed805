"""Lifecycle rules in the random world, with all its faults: nothing is done early or twice or to what no rule is about, and in the end all is done."""

from functools import partial

from twisted.trial.unittest import SynchronousTestCase

from tests.simulation.crashes import in_a_copy
from tests.simulation.invariants import Judge
from tests.simulation.trial_run import play
from tests.simulation.world import Shape, World

SHAPE = Shape(clients=2, operations_per_hour=40, is_governed=True)
SEEDS = (1, 2, 3)
HOURS = 80.0
ACTS_LEAST = 50


def played(seed: int) -> tuple[list[str], int]:
    """Return what is wrong with a world, and how much rules did in it."""
    judges: list[Judge] = []

    def judged_by(world: World) -> Judge:
        judges.append(Judge(world))
        return judges[0]

    verdict = play(seed, hours=HOURS, shape=SHAPE, settles=True, judged_by=judged_by)
    return verdict.complaints, judges[0].governed.act_count


class GovernedTests(SynchronousTestCase):
    """A few seeds."""

    def test_seeds(self) -> None:
        """Whatever befalls it, the appliance carries out rules as they say."""
        for seed in SEEDS:
            with self.subTest(seed=seed):
                # Worlds are not taken apart: what the dead were in the middle of would run on.
                complaints, acts = in_a_copy(partial(played, seed))
                self.assertEqual(complaints, [])
                self.assertGreater(acts, ACTS_LEAST)
