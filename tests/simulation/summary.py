"""What came of many cases, in figures."""

import time
from collections import Counter
from collections.abc import Iterator

from tests.simulation.chance import FAULTS
from tests.simulation.report import Report

NAMES_WIDTH = 30


class Summary:
    """Adds up reports. ``bad`` are the bad ones."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._count = 0
        self._hours = 0.0
        self._seconds = 0.0
        self._lives = 0
        self._faults: Counter[str] = Counter()
        self._tapes: Counter[str] = Counter()
        self._operations: Counter[str] = Counter()
        self.bad: list[Report] = []

    def add(self, report: Report) -> None:
        """Take one more into account."""
        self._count += 1
        self._hours += report.hours
        self._seconds += report.seconds
        self._lives += report.lives
        self._faults += report.faults
        self._tapes += report.tapes
        self._operations += report.operations
        if not report.is_good:
            self.bad.append(report)

    def rate(self) -> str:
        """How fast it goes."""
        minutes = (time.monotonic() - self._begun) / 60
        virtual = self._hours * 3600 / (self._seconds / 60) if self._seconds else 0.0
        return f"{self._count / minutes:.1f} seeds/min, {virtual:,.0f} virtual seconds per core-minute"

    def progress(self, count: int) -> str:
        """A line while it goes on."""
        return f"{self._count} of {count}: {len(self.bad)} bad, {self.rate()}"

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield from _table("faults", {name: self._faults[name] for name in FAULTS})
        yield from _table("drives", self._tapes)
        yield from _table("clients", self._operations)
        yield (
            f"\n{self._lives} lives, {self._tapes['mount']} mounts, {self._operations.total()} client operations,"
            f" {self._faults.total()} faults in {self._hours:,.0f} virtual hours; {self.rate()}"
        )
        for report in self.bad:
            yield f"bad: {report.case}"
        yield f"{self._count - len(self.bad)} passed, {len(self.bad)} failed, 0 skipped"


def _table(title: str, counts: dict[str, int] | Counter[str]) -> Iterator[str]:
    """Names and counts, in three columns."""
    yield f"\n{title}"
    cells = [f"{name:{NAMES_WIDTH}}{count:>9,}" for name, count in counts.items()]
    rows = -(-len(cells) // 3)
    for row in range(rows):
        yield "  " + "    ".join(cells[row::rows])
