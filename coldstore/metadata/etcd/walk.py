"""
Reading many keys in order, page by page, while the next page is on its way.

For each range etcd goes through all keys up to its end, however few it returns. So a page asks no further than its keys may be: how
far, is told by how far those of the page before lay apart. Where keys are sparser it steps further, and wider with each step that
finds too little.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from twisted.internet.defer import Deferred

from coldstore.metadata.etcd.gateway import KeyValue, Range

PAGE_ROWS = 10_000
"""The most that one range returns."""
PAGE_FIRST_ROWS, PAGE_BYTES = 1_000, 4 << 20
"""How many keys the first page has at most; and about how much the values of each of the others weigh."""
_FURTHER, _WIDER, _WIDEST = 2, 8, 8**11
"""
How much further than its keys seem to reach a page asks; how many times as far when it had less than half of what it might, and how
far at most until it asks for all that is left.
"""

Ask = Callable[[bytes, bytes, int], Awaitable[Range]]
"""Reads the keys from one up to another, at most so many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """What one page asks for: at most ``limit`` keys from ``first`` up to ``end``, which it does not include."""

    first: bytes
    end: bytes
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """
    Where a walk is, and what it knows of the keys ahead.

    :ivar end: of everything
    :ivar low, high: two keys, and how many ``steps`` from the one to the other: what the keys ahead are taken to be like
    :ivar further: how many times as far a page asks
    :ivar rows_max: the most keys of one page
    """

    leg: Leg
    end: bytes
    rows_max: int
    low: bytes = b""
    high: bytes = b""
    steps: int = 1
    further: int = _FURTHER


def begun(first: bytes, end: bytes, *, rows_max: int) -> Course:
    """Return a course at its beginning: nothing is known, and the first page may be anywhere."""
    leg = Leg(first=first, end=end, limit=min(rows_max, PAGE_FIRST_ROWS))
    return Course(leg=leg, end=end, rows_max=rows_max)


def following(course: Course, page: Range) -> Course | None:
    """Return how a walk goes on behind a page; None when that was the last one."""
    leg, rows = course.leg, page.rows
    if not page.is_more and leg.end == course.end:
        return None
    first = rows[-1].key + b"\0" if page.is_more else leg.end
    if page.is_more or 2 * len(rows) >= leg.limit:
        weight = 1 + sum(len(row.value) for row in rows)
        limit = min(course.rows_max, 1 + PAGE_BYTES * len(rows) // weight)
        course = replace(course, low=rows[0].key, high=rows[-1].key, steps=len(rows) - 1, further=_FURTHER)
    else:
        limit = leg.limit
        course = replace(course, further=course.further * _WIDER)
    end = course.end
    if course.steps and course.further <= _WIDEST:
        times = course.further * (1 + limit // course.steps)
        end = min(end, beyond(course.low, course.high, first, times))
    return replace(course, leg=Leg(first=first, end=end, limit=limit))


def beyond(low: bytes, high: bytes, first: bytes, times: int) -> bytes:
    """Return a key that is ``times`` as far behind ``first`` as ``high`` is behind ``low``: as numbers, with all digits."""
    width = max(map(len, (low, high, first)))
    numbers = [int.from_bytes(key.ljust(width, b"\0"), "big") for key in (low, high, first)]
    found = numbers[2] + times * (numbers[1] - numbers[0])
    return min(found, (1 << 8 * width) - 1).to_bytes(width, "big")


class Walk:
    """One way through the keys of a range."""

    def __init__(self, ask: Ask, first: bytes, end: bytes, *, rows_max: int) -> None:
        """
        :param ask: reads at one revision; may raise what it likes, which ``page`` then does
        :param rows_max: the most keys of one page, which may weigh more than those before them
        """
        self._ask = ask
        self._course: Course | None = begun(first, end, rows_max=min(PAGE_ROWS, rows_max))
        self._coming: Deferred[Range] | None = None

    async def page(self) -> Sequence[KeyValue]:
        """Return some of the next keys; none at the end."""
        while self._course is not None:
            if self._coming is None:
                self._send(self._course.leg)
            assert self._coming is not None, "it was sent"
            page = await self._coming
            self._coming = None
            self._course = following(self._course, page)
            if self._course is not None:
                self._send(self._course.leg)
            if page.rows:
                return page.rows
        return ()

    def stop(self) -> None:
        """Go no further. Repeatable."""
        self._course = None
        coming, self._coming = self._coming, None
        if coming is not None:
            coming.addErrback(lambda _: None)
            coming.cancel()

    def _send(self, leg: Leg) -> None:
        async def asked() -> Range:
            return await self._ask(leg.first, leg.end, leg.limit)

        self._coming = Deferred.fromCoroutine(asked())
