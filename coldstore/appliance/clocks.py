"""
Two clocks: one for how long, one for when.

Twisted's reactors reckon their timers by the time of day (``time.time``). Somebody who sets that back by an hour would have every timer of
the process wait for an hour longer. So the reactor gets a clock that nobody sets, and whoever writes down or compares stamps the time of day.
"""

import time
from collections.abc import Callable
from time import monotonic as ticks
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.python import runtime
from zope.interface import implementer


def make_steady(reactor: Any, *, monotonic: Callable[[], float] = ticks) -> None:
    """Have a reactor reckon its timers by a clock that nobody sets; those that run already keep their times."""
    begun = reactor.seconds() - monotonic()
    reactor.seconds = lambda: monotonic() + begun


def wakeful_ticks() -> float:
    """Return seconds of a clock that nobody sets and that does not stop while the machine sleeps (CLOCK_BOOTTIME, clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@implementer(IReactorTime)
class TimeOfDay:
    """
    A reactor whose ``seconds`` are the time of day, and all else is its own: timers take as long as they say, whatever becomes of that.
    """

    def __init__(self, reactor: Any, *, seconds: Callable[[], float] = runtime.seconds) -> None:
        """:param seconds: unix time."""
        self._reactor = reactor
        self.seconds = seconds
        self.callLater = reactor.callLater
        self.callFromThread = getattr(reactor, "callFromThread", None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)
