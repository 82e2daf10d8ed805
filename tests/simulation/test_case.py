"""Cases as text."""

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.simulation.case import Case, case_of, regressions
from tests.simulation.chance import FAULTS
from tests.simulation.world import Shape


class CaseTests(SynchronousTestCase):
    """What is written can be read, by people as well."""

    def test_there_and_back(self) -> None:
        """Every part of a case is written as it is read."""
        for case in (
            Case(seed=17),
            Case(
                seed=17, hours=31.25, clients=2, operations=50.5, settles=False, faults=("kill", "robot jams")
            ),
            Case(seed=0, settles=True, faults=()),
        ):
            self.assertEqual(case_of(str(case)), case)
        self.assertEqual(
            str(Case(seed=17, hours=31.0, clients=2, settles=False, faults=("kill", "robot jams"))),
            "seed=17 hours=31 clients=2 settles=no faults=kill, robot jams",
        )

    def test_mistakes_are_named(self) -> None:
        """What is no case is refused with what is wrong."""
        for line, complaint in (
            ("hours=3", "needs a seed"),
            ("seed=1 days=3", "days=3"),
            ("seed=one", "seed=one"),
            ("seed=1 settles=maybe", "settles=maybe"),
            ("seed=1 faults=kill, earthquake", "earthquake"),
        ):
            self.assertIn(complaint, str(self.assertRaises(ValueError, case_of, line)))

    def test_what_it_stands_for(self) -> None:
        """Faults that are not named do not happen; without a list all do."""
        few = Case(seed=1, faults=("kill",))
        self.assertEqual((few.rates["kill"], few.rates["power cut"]), (FAULTS["kill"][0], 0.0))
        self.assertEqual(dict(Case(seed=1).rates.rates), {name: rate for name, (rate, _) in FAULTS.items()})
        self.assertEqual(
            Case(seed=1, clients=3, operations=9.0).shape, Shape(clients=3, operations_per_hour=9.0)
        )

    def test_list_of_regressions(self) -> None:
        """The list that every run plays first can be read; comments are passed over."""
        regressions()
        path = Path(self.mktemp())
        path.write_text("# how it was\n\nseed=3 hours=2  # the robot, twice\nseed=4 faults=none\n")
        self.assertEqual(regressions(path), [Case(seed=3, hours=2.0), Case(seed=4, faults=())])
