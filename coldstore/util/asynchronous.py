"""Coroutines that answer as Deferreds."""

from collections.abc import Callable, Coroutine, Iterable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.python.failure import Failure

_P = ParamSpec("_P")
_T = TypeVar("_T")


def returns_deferred(function: Callable[_P, Coroutine[Deferred[Any], Any, _T]]) -> Callable[_P, Deferred[_T]]:
    """
    Make an ``async def`` return a ``Deferred``.

    The body starts at once, can be cancelled, and its ``finally`` clauses run on cancellation.
    """

    @wraps(function)
    def started(*args: _P.args, **kwargs: _P.kwargs) -> Deferred[_T]:
        return Deferred.fromCoroutine(function(*args, **kwargs))

    return started


async def all_of(under_way: Iterable[Deferred[_T]]) -> list[_T]:
    """
    Wait for everything that is under way to end; return the results in order.

    When something failed, the first of those failures is raised as it is, once all have ended.
    """
    outcomes: list[tuple[bool, Any]] = await DeferredList(list(under_way), consumeErrors=True)
    for has_succeeded, outcome in outcomes:
        if not has_succeeded:
            outcome.raiseException()
    return [outcome for _, outcome in outcomes]


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
        if isinstance(outcome, Failure) and isinstance(outcome.value, CancelledError):
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
