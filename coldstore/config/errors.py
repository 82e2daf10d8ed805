"""What is wrong with a configuration."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """
    One mistake.

    :ivar where: the file and line (``etc/coldstore.yaml:12``) or the environment variable it was found in.
    :ivar path: the setting, such as ``tape.drives[1].device``; empty when the document as a whole is meant.
    :ivar text: what is wrong and what would be right.
    """

    where: str
    path: str
    text: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.path, self.text) if part)


def _reading_order(problem: Problem) -> tuple[bool, int]:
    """Lines of the file first, as they follow each other; then what has no line."""
    _, _, line = problem.where.rpartition(":")
    return not line.isdecimal(), int(line) if line.isdecimal() else 0


class ConfigurationError(Exception):
    """The configuration cannot be used; carries every mistake that was found."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=_reading_order))
        super().__init__("\n".join(str(problem) for problem in self.problems))
