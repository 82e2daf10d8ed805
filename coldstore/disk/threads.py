"""Calls in threads that must not stop half-way, and calls that keep an order. The threads are the disk's own, never the reactor's."""

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from coldstore.util.workers import Workers

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


class Strand:
    """Calls that run one after the other, in order, on a pool's threads."""

    def __init__(self, threads: Workers) -> None:
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
