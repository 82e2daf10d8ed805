"""Faults of the world become trouble that says what was being done and who may be guilty."""

from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.filesystem import OutcomeUnknown, SyncFailed
from coldstore.interfaces.library import ElementOccupied, MoveOutcomeUnknown
from coldstore.interfaces.mover import DestinationFault, MediumFault, MoverDied
from coldstore.work.trouble import TapeTrouble, as_trouble


class TroubleTests(SynchronousTestCase):
    """``as_trouble``."""

    def trouble(self, fault: Exception) -> TapeTrouble:
        """Return what a fault becomes."""
        with self.assertRaises(TapeTrouble) as caught, as_trouble("writing to A00001L8"):
            raise fault
        self.assertIs(caught.exception.__cause__, fault)
        self.assertTrue(caught.exception.sentence.startswith("writing to A00001L8: "))
        return caught.exception

    def verdict(self, fault: Exception) -> set[str]:
        """Return what is said about guilt."""
        trouble = self.trouble(fault)
        names = ("must_stop_drive", "is_cartridge_wrong", "is_robot", "is_innocent")
        return {name for name in names if getattr(trouble, name)}

    def test_who_may_be_guilty(self) -> None:
        """The robot, nobody, an unknown state, or drive and cartridge."""
        move = {"attempted": "a", "reason": "b", "advice": "c"}
        for fault, expected in (
            (ElementOccupied(**move), {"is_robot"}),
            (MoveOutcomeUnknown(**move), {"is_robot", "must_stop_drive"}),
            (OutcomeUnknown("still runs"), {"must_stop_drive"}),
            (MoverDied("killed"), {"is_innocent"}),
            (DestinationFault("/run/plan", 28, "No space left on device"), {"is_innocent"}),
            (MediumFault("a.tar", "write", 5, "Input/output error"), set()),
            (SyncFailed("the generation did not move"), set()),
        ):
            with self.subTest(type(fault).__name__):
                self.assertEqual(self.verdict(fault), expected)

    def test_bugs_pass(self) -> None:
        """What is no fault of the world is not touched."""
        with self.assertRaises(ZeroDivisionError), as_trouble("x"):
            raise ZeroDivisionError
