"""Coroutines that answer as Deferreds."""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred

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
