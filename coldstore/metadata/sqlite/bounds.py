"""
The limits that every step keeps, in one place: items in a batch, bytes in the arguments, rows changed.

They are etcd's limits with room to spare; SQLite would take more, and then a caller that asks for more would only fail
on another backend.
"""

import sqlite3
from collections.abc import Collection, Iterable, Mapping

from coldstore.interfaces.metadata import BYTES_MAX, KEYS_MAX, StepTooLarge


def check_arguments(arguments: Iterable[object], *, items_max: int) -> None:
    """
    Refuse a step whose arguments are too much.

    :raise StepTooLarge: when one of them is a collection of more than ``items_max``, or all weigh more than ``BYTES_MAX``
    """
    weight = 0
    for argument in arguments:
        if (
            isinstance(argument, Collection)
            and not isinstance(argument, str | bytes)
            and len(argument) > items_max
        ):
            raise StepTooLarge(f"{len(argument)} items in one step, at most {items_max}")
        weight += weight_bytes(argument)
    if weight > BYTES_MAX:
        raise StepTooLarge(f"{weight} bytes in one step, at most {BYTES_MAX}")


def weight_bytes(value: object) -> int:
    """Return about how many bytes a value takes when written down; numbers count as 8."""
    if value is None or isinstance(value, int | float):
        return 8
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, bytes):
        return len(value)
    fields = getattr(type(value), "__dataclass_fields__", None)
    if fields is not None:
        return sum([weight_bytes(getattr(value, name)) for name in fields])
    if isinstance(value, Mapping):
        return sum(weight_bytes(key) + weight_bytes(held) for key, held in value.items())
    if isinstance(value, Collection):
        return sum(map(weight_bytes, value))
    return 8


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
        changed = self._connection.total_changes - self._before
        if changed > KEYS_MAX:
            raise StepTooLarge(f"a step changed {changed} rows, at most {KEYS_MAX}")
