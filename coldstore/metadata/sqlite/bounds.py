"""
The limits that every step keeps, in one place: items in a batch, bytes in the arguments, rows changed.

They are etcd's limits with room to spare; SQLite would take more, and then a caller that asks for more would only fail
on another backend.
"""

import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import lru_cache
from operator import attrgetter
from typing import Any

from coldstore.interfaces.metadata import BYTES_MAX, KEYS_MAX, StepTooLarge

_NUMBERS = frozenset({int, float, bool, type(None)})


def check_arguments(arguments: Iterable[object], *, items_max: int) -> None:
    """
    Refuse a step whose arguments are too much.

    :raise StepTooLarge: when one of them is a collection of more than ``items_max``, or all weigh more than ``BYTES_MAX``
    """
    weight = 0
    for argument in arguments:
        count = _items(argument)
        if count > items_max:
            raise StepTooLarge(f"{count} items in one step, at most {items_max}")
        weight += weight_bytes(argument)
    if weight > BYTES_MAX:
        raise StepTooLarge(f"{weight} bytes in one step, at most {BYTES_MAX}")


def _items(argument: object) -> int:
    """Return how many items an argument has; texts and single values count as none."""
    kind = type(argument)
    if kind is str or kind is bytes or kind in _NUMBERS or not isinstance(argument, Collection):
        return 0
    return 0 if isinstance(argument, str | bytes) else len(argument)


def weight_bytes(value: object) -> int:
    """Return about how many bytes a value takes when written down; numbers count as 8."""
    weight = 0
    left: list[Any] = [value]
    while left:
        each = left.pop()
        kind: Any = type(each)
        if kind is str:
            weight += len(each) if each.isascii() else len(each.encode("utf-8", "surrogatepass"))
        elif kind is bytes:
            weight += len(each)
        elif kind in _NUMBERS:
            weight += 8
        elif kind is tuple or kind is list:
            left += each
        elif (fields := _fields_of(kind)) is not None:
            left += fields(each)
        elif isinstance(each, str):
            weight += len(each)
        elif isinstance(each, Mapping):
            left += [*each.keys(), *each.values()]
        elif isinstance(each, Collection):
            left += each
        else:
            weight += 8
    return weight


@lru_cache
def _fields_of(kind: type) -> Callable[[Any], tuple[Any, ...]] | None:
    """Return what takes the fields out of a dataclass; None for any other class."""
    names = getattr(kind, "__dataclass_fields__", None)
    if names is None:
        return None
    if len(names) < 2:
        # Of one name ``attrgetter`` makes no tuple.
        return lambda each: tuple(getattr(each, name) for name in names)
    return attrgetter(*names)


class ChangedRows:
    """Counts the rows that a connection inserts, changes or deletes from now on."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._before = connection.total_changes

    def check(self) -> None:
        """
        Refuse what was done when it was too much; the caller rolls it back.

        :raise StepTooLarge: when more than ``KEYS_MAX`` rows changed
        """
        if self.count > KEYS_MAX:
            raise StepTooLarge(f"a step changed {self.count} rows, at most {KEYS_MAX}")

    @property
    def count(self) -> int:
        """How many they are by now."""
        return self._connection.total_changes - self._before
