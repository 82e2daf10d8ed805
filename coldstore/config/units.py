"""Sizes and durations as people write them: ``64GiB``, ``500GB``, ``15m``, ``250ms``."""

import re
from decimal import Decimal

_NUMBER_AND_UNIT = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)")

SIZE_UNITS = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "PB": 10**15,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
    "PiB": 2**50,
}
"""Bytes in one of each unit; powers of ten (SI) and of two (IEC 80000-13)."""

DURATION_UNITS = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
"""Seconds in one of each unit."""


def _split(text: str, example: str, units: str) -> tuple[Decimal, str]:
    match = _NUMBER_AND_UNIT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a number with a unit, such as {example}")
    number, unit = Decimal(match[1]), match[2]
    if not unit and number:
        raise ValueError(f"{text!r} has no unit; write it as {example} (units: {units})")
    return number, unit


def parse_size(text: str) -> int:
    """
    Read a size.

    :param text: a number and a unit of ``SIZE_UNITS``; a lone 0 needs none.
    :return: bytes.
    :raise ValueError: when it is no size or not a whole number of bytes; the message is for people.
    """
    units = ", ".join(SIZE_UNITS)
    number, unit = _split(text, "64GiB", units)
    if unit and unit not in SIZE_UNITS:
        raise ValueError(f"{text!r} has the unknown unit {unit!r} (units: {units})")
    size = number * SIZE_UNITS.get(unit, 1)
    if size != int(size):
        raise ValueError(f"{text!r} is not a whole number of bytes")
    return int(size)


def parse_duration(text: str) -> float:
    """
    Read a duration.

    :param text: a number and a unit of ``DURATION_UNITS``; a lone 0 needs none.
    :return: seconds.
    :raise ValueError: when it is no duration; the message is for people.
    """
    units = ", ".join(DURATION_UNITS)
    number, unit = _split(text, "15m", units)
    if unit and unit not in DURATION_UNITS:
        raise ValueError(f"{text!r} has the unknown unit {unit!r} (units: {units})")
    return float(number * DURATION_UNITS.get(unit, Decimal(1)))


def format_size(size_bytes: int) -> str:
    """Write bytes in the largest unit that needs no fraction; ``parse_size`` gives the same number back."""
    if size_bytes == 0:
        return "0B"
    largest_first = sorted(SIZE_UNITS.items(), key=lambda item: (-item[1], item[0] == "kB"))
    unit, factor = next((unit, factor) for unit, factor in largest_first if size_bytes % factor == 0)
    return f"{size_bytes // factor}{unit}"


def format_duration(duration_seconds: float) -> str:
    """Write seconds in the largest unit that needs no fraction; ``parse_duration`` gives the same number back."""
    exact = Decimal(repr(duration_seconds))
    if not exact:
        return "0s"
    for unit, factor in sorted(DURATION_UNITS.items(), key=lambda item: -item[1]):
        if exact % factor == 0:
            return f"{int(exact / factor)}{unit}"
    return f"{exact:f}s"
