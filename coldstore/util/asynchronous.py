"""Coroutines that answer as Deferreds."""

from collections.abc import Callable, Coroutine, Iterable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, DeferredList

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
