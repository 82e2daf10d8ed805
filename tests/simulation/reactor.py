"""Virtual time: what is scheduled happens in the order of its times, at once, and nothing else makes time pass."""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

PURGE_CALLS = 1000
"""Cancelled calls in the queue from which on it is worth a look for more of them."""


class Owner:
    """Whose calls these are: when it is over, none of them happens any more."""

    is_over = False
    is_frozen = False
    """Stopped for a while: what comes meanwhile waits in ``held``, and happens when it goes on."""

    def __init__(self) -> None:
        self.held: list[Call] = []


class OwnerIsOver(BaseException):
    """Unwinds what somebody was doing when he came to his end. Not an ``Exception``: nobody handles his own death."""


@implementer(IDelayedCall)
class Call:
    """A call that is to come; see ``IDelayedCall``."""

    __slots__ = ("_reactor", "args", "called", "cancelled", "function", "kwargs", "owner", "time", "turn")

    def __init__(
        self,
        reactor: "VirtualReactor",
        time: float,
        turn: int,
        owner: Owner,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self._reactor = reactor
        self.time = time
        self.turn = turn
        self.owner = owner
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.cancelled = False
        self.called = False

    def __lt__(self, other: "Call") -> bool:
        return (self.time, self.turn) < (other.time, other.turn)

    def active(self) -> bool:
        """Whether it is still to come."""
        return not (self.called or self.cancelled)

    def getTime(self) -> float:
        """When it comes, in seconds."""
        return self.time

    def cancel(self) -> None:
        """Have it not happen."""
        self._demand_active()
        self.cancelled = True
        self._reactor.cancelled(self)

    def reset(self, secondsFromNow: float) -> None:
        """Have it happen so many seconds from now."""
        self._demand_active()
        self._reactor.move(self, self._reactor.seconds() + secondsFromNow)

    def delay(self, secondsLater: float) -> None:
        """Have it happen so many seconds later than planned."""
        self._demand_active()
        self._reactor.move(self, self.time + secondsLater)

    def _demand_active(self) -> None:
        if self.cancelled:
            raise AlreadyCancelled()
        if self.called:
            raise AlreadyCalled()


_Entry = tuple[float, int, Call]


@implementer(IReactorTime)
class VirtualReactor:
    """A clock, and everything that is to come on it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._queue: list[_Entry] = []
        self._turns = 0
        self._dropped = 0
        self.events = 0
        """How many calls have happened."""

    def seconds(self) -> float:
        """The present moment, in seconds."""
        return self._seconds

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object) -> Call:
        """Call something of the world, ``delay`` seconds from now."""
        return self.later(WORLD, delay, callable, args, kwargs)

    def later(
        self,
        owner: Owner,
        delay: float,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Call:
        """Call something, ``delay`` seconds from now, unless its owner is over by then."""
        assert delay >= 0, delay
        self._turns += 1
        call = Call(self, self._seconds + delay, self._turns, owner, function, args, kwargs)
        heappush(self._queue, (call.time, call.turn, call))
        return call

    def move(self, call: Call, time: float) -> None:
        """Have a call happen at another time."""
        self._dropped += 1
        self._turns += 1
        call.time, call.turn = time, self._turns
        heappush(self._queue, (time, call.turn, call))

    def thaw(self, owner: Owner) -> None:
        """Have somebody go on who was frozen: what came meanwhile happens now, in the order in which it came."""
        owner.is_frozen = False
        held, owner.held = owner.held, []
        for call in held:
            if call.active():
                self.move(call, self._seconds)

    def cancelled(self, _call: Call) -> None:
        """Note that an entry of the queue is of no use any more; sweep when there are many."""
        self._dropped += 1
        if self._dropped > PURGE_CALLS and self._dropped * 2 > len(self._queue):
            self._queue = [entry for entry in self._queue if self._is_due(entry)]
            heapify(self._queue)
            self._dropped = 0

    @staticmethod
    def _is_due(entry: _Entry) -> bool:
        _, turn, call = entry
        return call.turn == turn and call.active() and not call.owner.is_over

    def getDelayedCalls(self) -> list[Call]:
        """Everything that is to come."""
        return [entry[2] for entry in sorted(self._queue) if self._is_due(entry)]

    def owned_by(self, owner: Owner) -> list[Call]:
        """Everything that is still to come for somebody."""
        return [
            call
            for _, turn, call in self._queue
            if call.owner is owner and call.turn == turn and call.active()
        ]

    def step(self, until: float) -> bool:
        """Have the next call happen, if there is one until then; else let the time go by until then."""
        queue = self._queue
        while queue and queue[0][0] <= until:
            entry = heappop(queue)
            call = entry[2]
            if call.turn != entry[1] or call.called or call.cancelled or call.owner.is_over:
                continue
            if call.owner.is_frozen:
                call.owner.held.append(call)
                continue
            self._seconds = entry[0]
            call.called = True
            self.events += 1
            try:  # noqa: SIM105 - a context manager for every call takes a twentieth of all time
                call.function(*call.args, **call.kwargs)
            except OwnerIsOver:
                pass
            return True
        self._seconds = max(self._seconds, until)
        return False

    def run_until(self, seconds: float) -> None:
        """Let everything happen that is due until then."""
        while self.step(seconds):
            pass


WORLD = Owner()
"""What goes on whatever becomes of the machine: the library, the clients."""
