"""Rows that every request asks for, kept in memory: who signs with which access key, and buckets."""

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred, succeed

T = TypeVar("T")


class Kept(Generic[T]):
    """
    What was read under some names. Right because this process alone writes: whoever changes one of these rows says ``forget``
    when the change is committed and before anybody is told.
    """

    def __init__(self, most: int) -> None:
        """:param most: values that are kept; all are forgotten when there are more"""
        self._most = most
        self._values: dict[str, T] = {}
        self._changes = 0

    def get(self, name: str, read: Callable[[], Deferred[T]]) -> Deferred[T]:
        """Return what is kept under a name, or what ``read`` finds, and keep that; None is never kept."""
        known = self._values.get(name)
        if known is not None:
            return succeed(known)
        changes = self._changes

        def keep(found: T) -> T:
            # A change that was committed meanwhile may not be in what was found.
            if found is not None and changes == self._changes:
                if len(self._values) >= self._most:
                    self._values.clear()
                self._values[name] = found
            return found

        return read().addCallback(keep)

    def forget(self) -> None:
        """Forget everything: something has changed."""
        self._changes += 1
        self._values.clear()
