"""Bounds on bytes in memory: of one upload, and of all together."""

from collections.abc import Callable

PAUSE_AT = 8
"""Outstanding batches of one upload at which its sender is paused (facts of measurement: 1 MiB batches, two threads)."""
RESUME_AT = 4


def _nothing() -> None:
    """Nobody asked to be paused."""


class SharedPressure:
    """Batches outstanding over all uploads. Above the limit whoever writes is paused; at half of it all go on."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._outstanding = 0
        self._paused: dict[Pressure, None] = {}

    @property
    def outstanding(self) -> int:
        """Batches that threads have not finished."""
        return self._outstanding

    def added(self) -> None:
        """One more is outstanding."""
        self._outstanding += 1

    @property
    def is_high(self) -> bool:
        """Whether whoever writes now must pause."""
        return self._outstanding >= self._limit

    def wait(self, one: "Pressure") -> None:
        """Have ``one`` looked at again when there is room."""
        self._paused[one] = None

    def forget(self, one: "Pressure") -> None:
        """``one`` has ended."""
        self._paused.pop(one, None)

    def ended(self) -> None:
        """One batch is through."""
        self._outstanding -= 1
        if self._outstanding <= self._limit // 2:
            waiting, self._paused = list(self._paused), {}
            for one in waiting:
                one.look()


class Pressure:
    """Batches outstanding of one upload; calls ``pause`` and ``resume`` in turn, never twice the same."""

    def __init__(self, shared: SharedPressure) -> None:
        self._shared = shared
        self._outstanding = 0
        self._is_paused = False
        self._pause: Callable[[], None] = _nothing
        self._resume: Callable[[], None] = _nothing

    def tell(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """Name who is to be paused; at once, when that is due already."""
        self._pause, self._resume = pause, resume
        if self._is_paused:
            pause()

    def added(self) -> None:
        """One more batch is outstanding."""
        self._outstanding += 1
        self._shared.added()
        if not self._is_paused and (self._outstanding >= PAUSE_AT or self._shared.is_high):
            self._is_paused = True
            self._pause()

    def ended(self) -> None:
        """One batch is through."""
        self._outstanding -= 1
        self._shared.ended()
        self.look()

    def look(self) -> None:
        """Resume when both bounds allow it."""
        if not self._is_paused or self._outstanding > RESUME_AT:
            return
        if self._shared.is_high:
            self._shared.wait(self)
            return
        self._is_paused = False
        self._shared.forget(self)
        self._resume()
