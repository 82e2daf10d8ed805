"""The bell that wakes a loop of this process."""

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from coldstore.interfaces.bell import IBell


@implementer(IBell)
class ReactorBell:
    """A bell on the reactor's clock."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
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
            waiter.callback(None)

    def _give_up(self, _cancelled: Deferred[None]) -> None:
        self._forget()

    def _forget(self) -> Deferred[None] | None:
        waiter, self._waiter = self._waiter, None
        alarm, self._alarm = self._alarm, None
        if alarm is not None and alarm.active():
            alarm.cancel()
        return waiter
