"""Steps that wait for the one writer, and who waits for them."""

from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall

from coldstore.metadata.sql.executor import QUEUE_MAX, Outcome, Step, closed, too_many


class Time(Protocol):
    """What is needed of a clock."""

    def callLater(self, delay: float, f: Callable[..., Any], *args: Any, **kwargs: Any) -> IDelayedCall:
        """Call after ``delay`` seconds (``IReactorTime``)."""


class StepQueue:
    """The steps of a writer that have no outcome yet, in their order. It takes none until it is opened."""

    def __init__(self, clock: Time, begin: Callable[[], object]) -> None:
        """:param begin: is called when there are steps and the writer rests; it works until it says ``rest``"""
        self._clock = clock
        self._begin = begin
        self._waiting: deque[tuple[Step[Any], Deferred[Any]]] = deque()
        self._is_open = False
        self._is_busy = False
        self._drained: list[Deferred[None]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def open(self) -> None:
        """Take steps from now on."""
        self._is_open = True

    def put(self, step: Step[Any]) -> Deferred[Any]:
        """Queue a step; fires with its outcome."""
        if not self._is_open:
            return fail(closed())
        if len(self._waiting) >= QUEUE_MAX:
            return fail(too_many())
        told: Deferred[Any] = Deferred(lambda _: None)
        self._waiting.append((step, told))
        if not self._is_busy:
            self._is_busy = True
            # Whatever else this turn of the reactor brings belongs to the same transaction.
            self._clock.callLater(0, self._begin)
        return told

    def first(self, count: int) -> list[Step[Any]]:
        """Return the steps that come next; they stay until they are told."""
        return [step for step, _ in islice(self._waiting, count)]

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """Tell the first ones what became of them; they are gone before anybody hears of it."""
        told = [self._waiting.popleft()[1] for _ in outcomes]
        for each, outcome in zip(told, outcomes, strict=True):
            outcome.tell(each)

    def rest(self) -> None:
        """Nothing waits, and the writer does nothing until it is begun again."""
        assert not self._waiting, "there are steps to be carried out"
        self._is_busy = False
        drained, self._drained = self._drained, []
        for each in drained:
            each.callback(None)

    async def close(self) -> None:
        """Take no more, and wait until everybody was told."""
        self._is_open = False
        if self._is_busy:
            drained: Deferred[None] = Deferred()
            self._drained.append(drained)
            await drained
