"""
Threads that take calls off one queue.

Twisted's pool grows and shrinks by messages between its parts, which costs about as much as hashing 64 KiB for every call.
These are a fixed number of threads at most, made when they are needed first, and a queue of the standard library.
"""

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from coldstore.util.asynchronous import returns_deferred

_T = TypeVar("_T")
_Call = tuple["Deferred[Any]", Callable[..., Any], tuple[Any, ...]]


class Reactor(Protocol):
    """What is needed of a reactor."""

    def callFromThread(self, f: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call in the reactor's thread (``IReactorFromThreads``)."""

    def callLater(self, delay: float, f: Callable[..., Any], *args: Any, **kwargs: Any) -> IDelayedCall:
        """Call after ``delay`` seconds (``IReactorTime``)."""

    def seconds(self) -> float:
        """Return unix seconds (``IReactorTime``)."""


class Pool(Protocol):
    """Threads for what takes long: real ones, or none at all in a simulated world. Used from the reactor's thread."""

    def run(self, function: Callable[..., _T], *args: Any) -> "Deferred[_T]":
        """Call in a thread; fires with what came of it. A cancelled call goes on; only its outcome is dropped."""

    def tell(self, done: "Deferred[Any]", outcome: Any) -> None:
        """Fire a Deferred in the reactor's thread with a result or a failure, from within a call."""

    def stop(self) -> "Deferred[None]":
        """End the threads once everything under way is through. Repeatable."""


MakePool = Callable[[int, str], Pool]
"""Makes a pool of at most so many threads, with a name."""


class Workers:
    """At most ``count`` threads. Used from the reactor's thread."""

    def __init__(self, reactor: Reactor, count: int, name: str) -> None:
        self._reactor = reactor
        self._count = count
        self._name = name
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._threads: list[Thread] = []
        self._under_way = 0
        self._idle: list[Deferred[None]] = []

    def run(self, function: Callable[..., _T], *args: Any) -> Deferred[_T]:
        """Call in a thread; fires with what came of it. A cancelled call goes on; only its outcome is dropped."""
        done: Deferred[Any] = Deferred(lambda _: None)
        self._under_way += 1
        self._calls.put((done, function, args))
        if len(self._threads) < min(self._count, self._under_way):
            number = len(self._threads)
            thread = Thread(target=self._work, name=f"{self._name}-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return done

    @returns_deferred
    async def stop(self) -> None:
        """End the threads once everything under way is through. Repeatable."""
        while self._under_way:
            idle: Deferred[None] = Deferred()
            self._idle.append(idle)
            await idle
        for _ in self._threads:
            self._calls.put(None)
        self._threads.clear()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            done, function, args = call
            self._reactor.callFromThread(self._ended, done, outcome_of(function, args))
            del call, done, function, args

    def tell(self, done: "Deferred[Any]", outcome: Any) -> None:
        """Fire a Deferred in the reactor's thread, from one of ours."""
        self._reactor.callFromThread(_tell, done, outcome)

    def _ended(self, done: "Deferred[Any]", outcome: Any) -> None:
        self._under_way -= 1
        if self._under_way == 0 and self._idle:
            # Later: whoever takes this outcome may have the next call ready.
            self._reactor.callLater(0, self._tell_idle)
        _tell(done, outcome)

    def _tell_idle(self) -> None:
        waiting, self._idle = self._idle, []
        for each in waiting:
            each.callback(None)


def outcome_of(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Call; return the result, or the failure."""
    try:
        return function(*args)
    except BaseException:  # noqa: BLE001 - it belongs to whoever waits for this call, and reaches him
        return Failure()


def _tell(done: "Deferred[Any]", outcome: Any) -> None:
    if done.called:
        return
    if isinstance(outcome, Failure):
        done.errback(outcome)
    else:
        done.callback(outcome)
