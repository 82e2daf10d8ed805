"""Who runs steps: the seam between the store, which is the same for all databases of SQL, and each of them."""

from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, Protocol, TypeVar

from twisted.internet.defer import Deferred

from coldstore.metadata.sql.database import Database
from coldstore.model.errors import MetadataUnavailable

_T = TypeVar("_T")
Step = Callable[[Database], Coroutine[Any, Any, _T]]
"""Begins a step; may be called again when a transaction is to be tried once more."""
QUEUE_MAX = 20_000
"""Steps that may wait; more are refused, because nobody would still want their answers."""


class Outcome(NamedTuple):
    """What a step came to: ``error``, or when that is None ``result``."""

    result: Any = None
    error: Exception | None = None

    def tell(self, told: "Deferred[Any]") -> None:
        """Have a Deferred fire with it, unless whoever waited has left."""
        if told.called:
            return
        if self.error is not None:
            told.errback(self.error)
        else:
            told.callback(self.result)


def closed() -> MetadataUnavailable:
    """Return the refusal of a store that is not open."""
    return MetadataUnavailable("the metadata store is not open")


def too_many() -> MetadataUnavailable:
    """Return the refusal of a step behind ``QUEUE_MAX`` others."""
    return MetadataUnavailable(f"{QUEUE_MAX} metadata steps are waiting")


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
