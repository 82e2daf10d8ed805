"""The bell that wakes a loop of this process, and a way to ring it not too often."""

from math import inf

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from coldstore.interfaces.bell import IBell

ROUNDS_APART = 5.0
APART_MOST_SECONDS = 10.0
"""A round can also take long because it waits for a robot: nobody needs to wait for its next one so many times as long."""


@implementer(IBell)
class ReactorBell:
    """
    A bell on the reactor's clock.

    :ivar round_seconds: how long its loop was busy between the last two waits
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self.round_seconds = 0.0
        self._woken_at: float | None = None
        self._has_rung = False
        self._waiter: Deferred[None] | None = None
        self._alarm: IDelayedCall | None = None

    def ring(self) -> None:
        """See ``IBell.ring``."""
        self._has_rung = True
        if self._waiter is not None:
            self._wake()

    def wait(self, seconds: float) -> Deferred[None]:
        """See ``IBell.wait``."""
        assert self._waiter is None, "somebody waits for this bell already"
        if self._woken_at is not None:
            self.round_seconds = self._clock.seconds() - self._woken_at
        waiter: Deferred[None] = Deferred(self._give_up)
        self._waiter = waiter
        if self._has_rung:
            self._wake()
        else:
            self._alarm = self._clock.callLater(seconds, self._wake)
        return waiter

    def _wake(self) -> None:
        waiter = self._forget()
        self._has_rung = False
        if waiter is not None:
            self._woken_at = self._clock.seconds()
            waiter.callback(None)

    def _give_up(self, _cancelled: Deferred[None]) -> None:
        self._forget()

    def _forget(self) -> Deferred[None] | None:
        waiter, self._waiter = self._waiter, None
        alarm, self._alarm = self._alarm, None
        if alarm is not None and alarm.active():
            alarm.cancel()
        return waiter


@implementer(IBell)
class CalmBell:
    """
    Another rope of a bell, for those who would ring it a thousand times a second.

    The first ring is passed on at once, those of the next ``gap_seconds`` together when these are over: a stream of uploads does
    not become a stream of rounds. Where rounds take long, for much waits, the gap is ``ROUNDS_APART`` times as long as the last one: they
    leave most of the processor to what keeps them busy.
    """

    def __init__(self, bell: ReactorBell, clock: IReactorTime, *, gap_seconds: float) -> None:
        self._bell = bell
        self._clock = clock
        self._gap_seconds = gap_seconds
        self._rung_at = -inf
        self._due: IDelayedCall | None = None

    def ring(self) -> None:
        """See ``IBell.ring``."""
        if self._due is not None:
            return
        gap_seconds = max(self._gap_seconds, min(APART_MOST_SECONDS, ROUNDS_APART * self._bell.round_seconds))
        # Somebody may have set the clock back.
        wait_seconds = min(gap_seconds, self._rung_at + gap_seconds - self._clock.seconds())
        if wait_seconds > 0:
            self._due = self._clock.callLater(wait_seconds, self._pass_on)
        else:
            self._pass_on()

    def wait(self, seconds: float) -> Deferred[None]:
        """See ``IBell.wait``."""
        return self._bell.wait(seconds)

    def _pass_on(self) -> None:
        self._due = None
        self._rung_at = self._clock.seconds()
        self._bell.ring()
