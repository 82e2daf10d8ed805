"""
The numbers with which an object's parts were uploaded, as text that stays short: ``1-3,7``.

They rise from part to part, and nearly always are 1, 2, 3 and so on: then the text is empty.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import count


def part_numbers_text(numbers: Sequence[int]) -> str:
    """Return rising numbers as text."""
    if not numbers or numbers[-1] == len(numbers):
        return ""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)


def part_numbers(text: str) -> Iterator[int]:
    """Return the numbers in their order; for the empty text without an end."""
    return _numbers(text.split(",")) if text else count(1)


def _numbers(runs: Iterable[str]) -> Iterator[int]:
    for run in runs:
        first, _, last = run.partition("-")
        yield from range(int(first), int(last or first) + 1)
