"""
The limits that every step keeps, in one place: items in a batch, bytes in the arguments, rows changed.

They are etcd's limits with room to spare; SQLite would take more, and then a caller that asks for more would only fail
on another backend.
"""

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
    arguments = tuple(arguments)
    for argument in arguments:
        if _has_items(type(argument)) and len(argument) > items_max:  # type: ignore[arg-type]
            raise StepTooLarge(f"{len(argument)} items in one step, at most {items_max}")  # type: ignore[arg-type]
    weight = weight_bytes(arguments)
    if weight > BYTES_MAX:
        raise StepTooLarge(f"{weight} bytes in one step, at most {BYTES_MAX}")


def check_changes(row_count: int) -> None:
    """
    Refuse what a step has done when it was too much; the caller rolls it back.

    :raise StepTooLarge: when it inserted, changed or deleted more than ``KEYS_MAX`` rows
    """
    if row_count > KEYS_MAX:
        raise StepTooLarge(f"a step changed {row_count} rows, at most {KEYS_MAX}")


@lru_cache
def _has_items(kind: type) -> bool:
    """Whether values of a class hold others; texts do not."""
    return issubclass(kind, Collection) and not issubclass(kind, str | bytes)


def weight_bytes(value: object) -> int:
    """Return about how many bytes a value takes when written down; numbers count as 8."""
    weight = 0
    left: list[Any] = [value]
    while left:
        each = left.pop()
        kind: Any = type(each)
        if kind is str:
            weight += len(each) if each.isascii() else len(each.encode("utf-8", "surrogatepass"))
        elif kind in _NUMBERS:
            weight += 8
        elif kind is tuple or kind is list:
            left += each
        elif kind is bytes:
            weight += len(each)
        elif (parts := _parts_of(kind)) is not None:
            left += parts(each)
        else:
            weight += 8
    return weight


@lru_cache
def _parts_of(kind: type) -> Callable[[Any], Iterable[Any]] | None:
    """Return what takes values of a class apart, of whatever holds others; None for a class of single values."""
    names = getattr(kind, "__dataclass_fields__", None)
    if names is not None:
        # Of one name ``attrgetter`` makes no tuple.
        return attrgetter(*names) if len(names) > 1 else lambda each: [getattr(each, name) for name in names]
    if issubclass(kind, str):
        return lambda each: (str.__str__(each),)
    if issubclass(kind, Mapping):
        return lambda each: [*each.keys(), *each.values()]
    if issubclass(kind, Collection):
        return iter
    return None
