"""
Which keys to ask for so that a page of a listing is full, and what the page shows: pure.

Keys that share the part up to the delimiter are *rolled up* into one common prefix. Where most keys do, only the first of each
is asked for, so the cost of a page follows what it shows and not what lies below.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

FETCH_MAX = 1001
"""A full page, and the row that tells whether there is another."""
FETCH_FIRST = 16
"""How many keys are asked for at first where keys may roll up; then twice as many each time, until that changes."""
BEHIND_ALL = b"\xff"
"""A byte that no UTF-8 text holds: a prefix followed by it is greater than every key with that prefix."""


def rolled_up(key: bytes, prefix: bytes, delimiter: bytes) -> bytes | None:
    """Return the common prefix that a key is shown as, None when it is shown itself."""
    if not delimiter or not key.startswith(prefix):
        return None
    found = key.find(delimiter, len(prefix))
    return None if found < 0 else key[: found + len(delimiter)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """
    What to ask for: at most ``limit`` rows with ``from_key <= key < before_key`` and ``after_key < key``, in order.

    :ivar is_by_entry: of keys that roll up into one common prefix only the first
    """

    from_key: bytes
    after_key: bytes
    before_key: bytes | None
    limit: int
    is_by_entry: bool


class ListingPlan(Generic[T]):
    """
    One page in the making: ``next_fetch``, ask, ``take``, and again until there is no next fetch.

    :ivar rows: what is shown itself, in order
    :ivar prefixes: the common prefixes, in order
    :ivar last: the last entry of the page, a key or a common prefix; where the next page begins
    :ivar last_row: the row that is the last entry, None when that is a common prefix
    :ivar after_row: the last row that was taken; None where the next fetch skips by key
    :ivar is_truncated: whether there is more behind ``last``
    """

    def __init__(
        self,
        *,
        prefix: bytes,
        delimiter: bytes,
        after: bytes,
        max_entries: int,
        key_of: Callable[[T], bytes],
        can_ask_by_entry: bool = False,
    ) -> None:
        """
        :param after: entries up to and including this one are left out (empty: none)
        :param can_ask_by_entry: whether ``Fetch.is_by_entry`` is heeded
        """
        self.rows: list[T] = []
        self.prefixes: list[bytes] = []
        self.last = b""
        self.last_row: T | None = None
        self.after_row: T | None = None
        self.is_truncated = False
        self._prefix = prefix
        self._delimiter = delimiter
        self._max_entries = max_entries
        self._key_of = key_of
        self._is_done = max_entries == 0
        self._fetch_size = FETCH_FIRST if delimiter else FETCH_MAX
        self._is_by_entry = False
        self._can_ask_by_entry = can_ask_by_entry
        common = rolled_up(after, prefix, delimiter)
        self._after = after if common is None else common + BEHIND_ALL

    @property
    def entry_count(self) -> int:
        """How many entries the page has."""
        return len(self.rows) + len(self.prefixes)

    def next_fetch(self) -> Fetch | None:
        """Return what to ask for next, None when the page is complete."""
        if self._is_done:
            return None
        wanted = self._max_entries - self.entry_count + 1
        return Fetch(
            from_key=self._prefix,
            after_key=self._after,
            before_key=self._prefix + BEHIND_ALL if self._prefix else None,
            limit=min(wanted, self._fetch_size),
            is_by_entry=self._is_by_entry,
        )

    def take(self, fetch: Fetch, rows: Sequence[T]) -> None:
        """Take what was found."""
        if not self._delimiter:
            self._take_plain(fetch, rows)
            return
        plain_before, skipped = len(self.rows), 0
        common: bytes | None = None
        for row in rows:
            key = self._key_of(row)
            if common is not None and key.startswith(common):
                skipped += 1
                continue
            common = rolled_up(key, self._prefix, self._delimiter)
            if self.entry_count == self._max_entries:
                self.is_truncated = self._is_done = True
                return
            if common is None:
                self.rows.append(row)
                self.last, self.last_row = key, row
            else:
                self.prefixes.append(common)
                self.last, self.last_row = common, None
        if len(rows) < fetch.limit:
            self._is_done = True
            return
        if common is None:
            self._after, self.after_row = self._key_of(rows[-1]), rows[-1]
        else:
            self._after, self.after_row = common + BEHIND_ALL, None
        plain = len(self.rows) - plain_before
        rolls_up = 2 * plain < len(rows) if fetch.is_by_entry else 2 * skipped > len(rows)
        self._fetch_size = (
            min(FETCH_MAX, 2 * self._fetch_size) if rolls_up == self._is_by_entry else FETCH_FIRST
        )
        self._is_by_entry = rolls_up and self._can_ask_by_entry

    def _take_plain(self, fetch: Fetch, rows: Sequence[T]) -> None:
        """Take what was found where nothing rolls up."""
        room = self._max_entries - len(self.rows)
        self.rows += rows[:room]
        self.is_truncated = len(rows) > room
        self._is_done = self.is_truncated or len(rows) < fetch.limit
        if self.rows:
            self.last_row = self.after_row = self.rows[-1]
            self.last = self._after = self._key_of(self.rows[-1])
