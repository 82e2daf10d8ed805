"""What measurements came to: a table for people, JSON for programs."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a figure is asked to be: ``times`` the figure that ``of`` had on a quiet machine with two cores."""

    of: str
    figure: float
    times: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """
    One line of a table.

    :ivar value: what was measured, in ``unit``
    :ivar cpu: processor time of the server for one unit of work, in ``cpu_unit``
    :ivar ratio: of the value to that of ``baseline`` in the same run
    :ivar least: what the ratio is asked to be
    :ivar more: what the table has no room for
    """

    what: str
    value: float
    unit: str
    cpu: float | None = None
    cpu_unit: str = "us"
    baseline: str = ""
    ratio: float | None = None
    least: float | None = None
    wanted: Wanted | None = None
    more: Mapping[str, float] = field(default_factory=dict)

    def cells(self) -> tuple[str, ...]:
        """Return what the table shows."""
        return (
            self.what,
            f"{shown(self.value)} {self.unit}",
            "" if self.cpu is None else f"{shown(self.cpu)} {self.cpu_unit}",
            "" if self.ratio is None else f"{self.ratio:.2f}",
            "" if self.least is None else f"{self.least:.2f}",
            self.baseline,
            ""
            if self.wanted is None
            else f"{self.value / self.wanted.figure:.2f} ({self.wanted.times:g}) of {self.wanted.of}",
        )


HEADINGS = ("what", "result", "server CPU", "ratio", "asked", "against", "times (asked)")


def shown(number: float) -> str:
    """Return a number with about three digits."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as aligned text; columns with nothing in them but their heading are left out."""
    kept = [at for at in range(len(rows[0])) if any(row[at] for row in rows[1:])]
    widths = [max(len(row[at]) for row in rows) for at in kept]
    return "\n".join(
        "  ".join(
            row[at].rjust(width) if 0 < at < 5 else row[at].ljust(width)
            for at, width in zip(kept, widths, strict=True)
        ).rstrip()
        for row in rows
    )


def machine() -> dict[str, object]:
    """Return what the figures depend on."""
    models = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")
    ]
    return {
        "processors": os.cpu_count(),
        "model": models[0].partition(": ")[2] if models else platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


class Report:
    """The figures of one program."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._begun = machine()
        self._figures: list[Figure] = []

    def add(self, figure: Figure) -> None:
        """Take a figure, and show it at once."""
        self._figures.append(figure)
        print("  ".join(cell for cell in figure.cells() if cell), flush=True)

    def finish(self) -> None:
        """Print the table; write the JSON to BENCH_RESULTS (default: below the user's cache directory)."""
        print()
        print(table([HEADINGS, *(figure.cells() for figure in self._figures)]))
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = Path(os.environ.get("BENCH_RESULTS") or cache / "coldstore" / "bench")
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self._name}.json"
        content = {
            "machine": self._begun,
            "load_at_end": os.getloadavg()[0],
            "figures": [asdict(figure) for figure in self._figures],
        }
        path.write_text(json.dumps(content, indent=1) + "\n")
        print(f"load {self._begun['load']:.1f} to {os.getloadavg()[0]:.1f}; as JSON in {path}")


def middle(values: Sequence[float]) -> float:
    """Return the median."""
    return float(median(values))
