"""
A case: a seed, and how much of the world it needs. A line of text says it, in a list of regressions and on a command line.

    seed=17 hours=31 clients=2 operations=50 settles=no faults=kill, robot jams
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tests.simulation.chance import FAULTS, Rates
from tests.simulation.world import Shape

HOURS = 12.0
REGRESSIONS = Path(__file__).with_name("regressions.txt")
_ALL = "all"
_NONE = "none"
_WORDS = {"yes": True, "no": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """
    What to play.

    :ivar operations: requests per hour, of all clients together
    :ivar settles: whether all must come to an end after that; None lets the seed decide
    :ivar faults: those that can happen, at their ordinary rates; None: all there are
    """

    seed: int
    hours: float = HOURS
    clients: int = Shape().clients
    operations: float = Shape().operations_per_hour
    settles: bool | None = None
    faults: tuple[str, ...] | None = None

    @property
    def rates(self) -> Rates:
        """How often each fault happens."""
        names = FAULTS if self.faults is None else self.faults
        return Rates(rates={name: FAULTS[name][0] for name in names})

    @property
    def shape(self) -> Shape:
        """The size of the world."""
        return Shape(clients=self.clients, operations_per_hour=self.operations)

    @property
    def all_faults(self) -> tuple[str, ...]:
        """Those that can happen, by name."""
        return tuple(name for name, rate in self.rates.rates.items() if rate > 0)

    def __str__(self) -> str:
        return " ".join(self._words())

    def _words(self) -> Iterator[str]:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name == "seed" or value != each.default:
                yield f"{each.name}={_written(value)}"


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(value) or _NONE
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def case_of(line: str) -> Case:
    """
    Read a case.

    :raise ValueError: that is none; says what is wrong
    """
    head, has_faults, faults = line.strip().partition("faults=")
    given: dict[str, Any] = {}
    for word in head.split():
        name, _, text = word.partition("=")
        try:
            given[name] = _READ[name](text)
        except (KeyError, ValueError):
            raise ValueError(f"not a part of a case: {word!r}, in {line!r}") from None
    if "seed" not in given:
        raise ValueError(f"a case needs a seed: {line!r}")
    if has_faults and faults.strip() != _ALL:
        given["faults"] = () if faults.strip() == _NONE else tuple(name.strip() for name in faults.split(","))
        unknown = [name for name in given["faults"] if name not in FAULTS]
        if unknown:
            raise ValueError(f"there is no fault {', '.join(unknown)}, in {line!r}")
    return Case(**given)


_READ: dict[str, Any] = {
    "seed": int,
    "hours": float,
    "clients": int,
    "operations": float,
    "settles": _WORDS.__getitem__,
}


def regressions(path: Path = REGRESSIONS) -> list[Case]:
    """
    What every run plays first: one case a line; ``#`` begins a comment.

    :raise ValueError: a line is no case
    """
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return [case_of(line) for line in lines if line]
