"""
The threads of the disk: own pools, never the reactor's shared one, and queues that keep an order inside a pool.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from coldstore.util.asynchronous import returns_deferred

_T = TypeVar("_T")


def _left_alone(_: object) -> None:
    """There is nothing to undo."""


def shielded(inner: Deferred[_T], undo: Callable[[_T], object] = _left_alone) -> Deferred[_T]:
    """
    Let work that must not stop half-way run to its end, though who asked for it may cancel.

    :param undo: is given the result when nobody waits for it any more.
    """
    outer: Deferred[_T] = Deferred(lambda _: None)
    is_wanted = True

    def left(outcome: Any) -> Any:
        nonlocal is_wanted
        if isinstance(outcome, Failure) and isinstance(outcome.value, CancelledError) and not inner.called:
            is_wanted = False
        return outcome

    def pass_on(result: _T) -> None:
        if is_wanted:
            outer.callback(result)
        else:
            undo(result)

    def fail(failure: Failure) -> None:
        if is_wanted:
            outer.errback(failure)

    outer.addBoth(left)
    inner.addCallbacks(pass_on, fail)
    return outer


class Reactor(Protocol):
    """What the disk needs of a reactor: a way back from threads, and time."""

    def callFromThread(self, f: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call in the reactor's thread (``IReactorFromThreads``)."""

    def callLater(self, delay: float, f: Callable[..., Any], *args: Any, **kwargs: Any) -> IDelayedCall:
        """Call after ``delay`` seconds (``IReactorTime``)."""


class Threads:
    """A pool of threads of our own."""

    def __init__(self, reactor: Reactor, count: int, name: str) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(minthreads=0, maxthreads=count, name=name)
        self._under_way = 0
        self._idle: list[Deferred[None]] = []
        self._is_running = False

    def start(self) -> None:
        """Begin; the threads come as they are needed."""
        self._pool.start()
        self._is_running = True

    def run(self, function: Callable[..., _T], *args: Any) -> Deferred[_T]:
        """Call in a thread. A cancelled call goes on; only its outcome is dropped."""
        self._under_way += 1
        done = deferToThreadPool(cast(IReactorFromThreads, self._reactor), self._pool, function, *args)
        return shielded(cast("Deferred[_T]", done.addBoth(self._ended)))

    def _ended(self, outcome: Any) -> Any:
        self._under_way -= 1
        if self._under_way == 0 and self._idle:
            # Later: whoever takes this outcome may have the next call ready.
            self._reactor.callLater(0, self._tell_idle)
        return outcome

    def _tell_idle(self) -> None:
        waiting, self._idle = self._idle, []
        for each in waiting:
            each.callback(None)

    @returns_deferred
    async def stop(self) -> None:
        """End the threads once everything under way is through. Repeatable."""
        while self._under_way:
            idle: Deferred[None] = Deferred()
            self._idle.append(idle)
            await idle
        if self._is_running:
            self._is_running = False
            self._pool.stop()


class Strand:
    """Calls that run one after the other, in order, on a pool's threads."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._waiting: deque[tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]]] = deque()
        self._is_busy = False

    def run(self, function: Callable[..., _T], *args: Any) -> Deferred[_T]:
        """Call in a thread after everything that was queued before."""
        done: Deferred[_T] = Deferred()
        self._waiting.append((done, function, args))
        if not self._is_busy:
            self._next()
        return done

    def _next(self) -> None:
        if not self._waiting:
            self._is_busy = False
            return
        self._is_busy = True
        done, function, args = self._waiting.popleft()

        def pass_on(outcome: Any) -> None:
            if isinstance(outcome, Failure):
                done.errback(outcome)
            else:
                done.callback(outcome)
            self._next()

        self._threads.run(function, *args).addBoth(pass_on)
