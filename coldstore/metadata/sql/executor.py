"""Who runs steps: the seam between the store, which is the same for all databases of SQL, and each of them."""

from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred

from coldstore.metadata.sql.database import Database

_T = TypeVar("_T")
Step = Callable[[Database], Coroutine[Any, Any, _T]]
"""Begins a step; may be called again when a transaction is to be tried once more."""


class Executor(Protocol):
    """Runs steps. A write's Deferred fires after its commit; a read sees every commit that was told before it began."""

    def open(self) -> Deferred[None]:
        """Get ready."""

    def write(self, step: Step[_T]) -> Deferred[_T]:
        """Run a changing step in a transaction."""

    def read(self, step: Step[_T]) -> Deferred[_T]:
        """Run a step that changes nothing."""

    def look_up(self, step: Step[_T]) -> Deferred[_T]:
        """Run a step that is one statement, or few, and reads a few rows by their keys; at once where that is quick."""

    def close(self) -> Deferred[None]:
        """Finish what was given, then let go of the connections."""
