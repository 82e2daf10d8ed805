"""The bell that wakes a loop of this process."""

from math import inf

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from coldstore.interfaces.bell import IBell


@implementer(IBell)
class ReactorBell:
    """
    A bell on the reactor's clock.

    Who has waited for a while hears a ring at once. Who was woken less than ``gap_seconds`` ago hears it when they are over,
    so that a stream of rings (one for each upload) does not become a stream of rounds.
    """

    def __init__(self, clock: IReactorTime, *, gap_seconds: float = 0.0) -> None:
        self._clock = clock
        self._gap_seconds = gap_seconds
        self._woken_at = -inf
        self._has_rung = False
        self._waiter: Deferred[None] | None = None
        self._alarm: IDelayedCall | None = None

    def ring(self) -> None:
        """See ``IBell.ring``."""
        if self._has_rung:
            return
        self._has_rung = True
        if self._alarm is not None:
            self._wake_after(min(self._gap_left(), self._alarm.getTime() - self._clock.seconds()))

    def wait(self, seconds: float) -> Deferred[None]:
        """See ``IBell.wait``."""
        assert self._waiter is None, "somebody waits for this bell already"
        waiter: Deferred[None] = Deferred(self._give_up)
        self._waiter = waiter
        self._wake_after(min(seconds, self._gap_left()) if self._has_rung else seconds)
        return waiter

    def _gap_left(self) -> float:
        return self._woken_at + self._gap_seconds - self._clock.seconds()

    def _wake_after(self, seconds: float) -> None:
        if self._has_rung and seconds <= 0:
            self._wake()
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._clock.callLater(max(0.0, seconds), self._wake)

    def _wake(self) -> None:
        waiter = self._forget()
        self._has_rung = False
        self._woken_at = self._clock.seconds()
        if waiter is not None:
            waiter.callback(None)

    def _give_up(self, _cancelled: Deferred[None]) -> None:
        self._forget()

    def _forget(self) -> Deferred[None] | None:
        waiter, self._waiter = self._waiter, None
        alarm, self._alarm = self._alarm, None
        if alarm is not None and alarm.active():
            alarm.cancel()
        return waiter
