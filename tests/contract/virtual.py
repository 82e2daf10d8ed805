"""Contracts that wait, in virtual time."""

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.simulation.reactor import VirtualReactor

if TYPE_CHECKING:
    _Base = TestCase
else:
    _Base = object

BEGINNING = 1_800_000_000.0


class InVirtualTime(_Base):
    """
    Mixed into a test case before its contract: as long as a test waits for something, time passes on ``virtual``.

    :cvar step_seconds: how much of it in a turn of the real reactor
    """

    virtual: VirtualReactor
    step_seconds = 0.05

    def setUp(self) -> "Deferred[object]":  # type: ignore[override]
        """Have time pass from here on."""
        self.virtual = VirtualReactor(BEGINNING)
        self._passing = LoopingCall(self._pass)
        self._passing.start(0.0)
        return maybeDeferred(super().setUp)

    def tearDown(self) -> "Deferred[object]":  # type: ignore[override]
        """To the end of the contract's own."""
        return maybeDeferred(super().tearDown).addBoth(self._stop)

    def _stop(self, outcome: "object | Failure") -> "object | Failure":
        self._passing.stop()
        return outcome

    def _pass(self) -> None:
        self.virtual.run_until(self.virtual.seconds() + self.step_seconds)
