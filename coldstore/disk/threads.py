"""Calls that keep an order. The threads are the disk's own, never the reactor's."""

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from coldstore.util.workers import Pool, outcome_of

_T = TypeVar("_T")
BURST = 4


class Strand:
    """
    Calls that run one after the other, in order, on a pool's threads.

    A thread that has begun goes on with what is queued behind, without waiting for the reactor in between; after ``BURST``
    calls it lets other strands of the pool have their turn.
    """

    def __init__(self, threads: Pool) -> None:
        self._threads = threads
        self._waiting: deque[tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]]] = deque()
        self._is_busy = False

    def run(self, function: Callable[..., _T], *args: Any) -> Deferred[_T]:
        """Call in a thread after everything that was queued before; it is called in any case, whatever came of those."""
        done: Deferred[_T] = Deferred()
        self._waiting.append((done, function, args))
        if not self._is_busy:
            self._is_busy = True
            self._threads.run(self._work).addCallback(self._worked)
        return done

    def _work(self) -> None:
        """Make some of the calls. In a thread."""
        for _ in range(BURST):
            try:
                done, function, args = self._waiting.popleft()
            except IndexError:
                return
            self._threads.tell(done, outcome_of(function, args))

    def _worked(self, _: None) -> None:
        # Whatever was queued after the thread had looked is here by now.
        if self._waiting:
            self._threads.run(self._work).addCallback(self._worked)
        else:
            self._is_busy = False
