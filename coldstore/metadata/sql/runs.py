"""Ascending numbers as run-length text (``1-4,7``), so that 10,000 part numbers fit in one row."""

from bisect import bisect_right
from collections.abc import Iterable


class Runs:
    """A set of numbers, kept as its runs. The empty text stands for every number there is."""

    def __init__(self, text: str) -> None:
        self._runs = [_run(part) for part in text.split(",")] if text else []
        self._starts = [first for first, _ in self._runs]

    def __contains__(self, number: int) -> bool:
        if not self._runs:
            return True
        at = bisect_right(self._starts, number) - 1
        return at >= 0 and number <= self._runs[at][1]

    def count(self) -> int:
        """Return how many numbers are in it, 0 for the set of all."""
        return sum(last - first + 1 for first, last in self._runs)


def runs_text(numbers: Iterable[int]) -> str:
    """
    Write ascending numbers down as runs.

    :raise ValueError: when there are none, or they do not ascend
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number <= runs[-1][1]:
            raise ValueError(f"{number} does not ascend")
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    if not runs:
        raise ValueError("no numbers: the empty text would stand for all")
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _run(part: str) -> tuple[int, int]:
    first, _, last = part.partition("-")
    return int(first), int(last or first)
