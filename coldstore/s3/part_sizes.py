"""The sizes of an object's parts as text that stays short: ``5242880x3,17`` for three parts of 5 MiB and one of 17 bytes."""

from collections.abc import Iterable
from itertools import groupby, islice


def part_sizes_text(sizes_bytes: Iterable[int]) -> str:
    """Return the sizes, in order, as run-length text."""
    runs = ((size, sum(1 for _ in group)) for size, group in groupby(sizes_bytes))
    return ",".join(f"{size}x{count}" if count > 1 else f"{size}" for size, count in runs)


def part_runs(text: str) -> list[tuple[int, int]]:
    """Return (size in bytes, how many) of each run of ``text``."""
    runs = []
    for run in text.split(","):
        size, _, count = run.partition("x")
        runs.append((int(size), int(count or "1")))
    return runs


def part_count(text: str) -> int:
    """Return how many parts ``text`` describes; 1 for an object that was not uploaded in parts (empty text)."""
    return sum(count for _, count in part_runs(text)) if text else 1


def part_sizes_after(text: str, number: int, limit: int) -> list[int]:
    """Return the sizes, in bytes and in order, of at most ``limit`` parts behind part ``number``."""
    sizes = (size for size, count in part_runs(text) for _ in range(count))
    return list(islice(sizes, number, number + limit))


def part_extent(text: str, number: int) -> tuple[int, int] | None:
    """Return where part ``number`` (from 1, counted in the object's order) begins and its length, None beyond the last."""
    offset_bytes, left = 0, number - 1
    for size, count in part_runs(text):
        if left < count:
            return offset_bytes + left * size, size
        offset_bytes += size * count
        left -= count
    return None
