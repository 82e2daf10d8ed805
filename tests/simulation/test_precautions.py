"""
The harness itself: each precaution is removed once, and the simulation must find out within a stated number of seeds.

With all precautions in place the same worlds must be good, so that what is found is what was removed.
"""

import os
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.simulation.chance import Rates
from tests.simulation.precautions import PRECAUTIONS, Precaution
from tests.simulation.trial_run import Verdict, play
from tests.simulation.world import Shape

LEAST = 20
HOURS = 9.0
SETTLE_HOURS = 24.0
SHAPE = Shape(cartridges=12, slots=16, clients=4, operations_per_hour=150)


def played(precaution: Precaution, seed: int) -> Verdict:
    """Play a seed in the troubles in which a precaution is missed."""
    return play(
        seed,
        hours=HOURS,
        rates=Rates(rates=precaution.rates),
        shape=SHAPE,
        settles=True,
        settle_hours=SETTLE_HOURS,
    )


class PrecautionTests(SynchronousTestCase):
    """One test for each precaution; see the end of this module."""

    def setUp(self) -> None:
        """Coroutines of the dead protest when they are thrown away: nobody wants to know."""
        self.patch(__import__("sys"), "unraisablehook", lambda _: None)

    def tearDown(self) -> None:
        """What a world logged was for its judge."""
        self.flushLoggedErrors()

    def find(self, name: str) -> None:
        """Play without a precaution until a judge complains."""
        precaution = PRECAUTIONS[name]
        with precaution.removed():
            found = any(
                precaution.found_by in complaint
                for seed in range(1, precaution.seeds + 1)
                for complaint in played(precaution, seed).complaints
            )
        self.assertTrue(found, f"without this nobody complained: {precaution.what}")

    def test_many(self) -> None:
        """There are as many as were promised."""
        self.assertGreaterEqual(len(PRECAUTIONS), LEAST)

    def test_nothing_removed(self) -> None:
        """With everything in place nobody complains; with COLDSTORE_TEST_EVERY=1 in the troubles of all of them."""
        names = list(PRECAUTIONS)
        for name in names if os.environ.get("COLDSTORE_TEST_EVERY") == "1" else names[:1]:
            self.assertEqual(played(PRECAUTIONS[name], 1).complaints, [], name)


def _test_of(name: str) -> Any:
    def test(self: PrecautionTests) -> None:
        self.find(name)

    test.__doc__ = f"Without this, somebody complains: {PRECAUTIONS[name].what}."
    return test


for _name in PRECAUTIONS:
    setattr(
        PrecautionTests, "test_" + "_".join(_name.replace("'", "").replace(",", "").split()), _test_of(_name)
    )
