"""
From a bad case to a small one that is bad in the same way: less time, fewer clients, fewer requests, fewer faults.

Greedy: each step that keeps a complaint of the same kind is kept. Kinds are sentences without their numbers and names.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import ceil

from tests.simulation.case import Case
from tests.simulation.report import Report
from tests.simulation.restores import AT_THAT_TIME

_NAMES = (
    (re.compile(r'File "[^"]*/((coldstore|tests|site-packages)/[^"]*)"'), r"\1"),
    (re.compile(r"\bA\d{5}L9\b"), "CARTRIDGE"),
    (re.compile(r"\bc\d+/[\w.-]+"), "KEY"),
    (re.compile(r"\bc\d+\b"), "CLIENT"),
    (re.compile(r"\b(?=\w*\d)\w{8,}\b"), "NAME"),
    (re.compile(r"\b(GLACIER|DEEP_ARCHIVE|STANDARD)\b"), "CLASS"),
    (re.compile(r"(?<![A-Za-z])\d+(\.\d+)?"), "N"),
)
_REPEATED = re.compile(r"(?<![\w'])([\w']+)((,| or)? \1)+(?![\w'])")
_KIND_LENGTH = 300


_Now = Callable[[], Report]
"""Gives the smallest report so far: a way goes on from there when one of its cases was bad."""


def kind(complaint: str) -> str:
    """A complaint without what differs from world to world; of a traceback the first line, the place and the error."""
    lines = [line.strip() for line in complaint.strip().splitlines()] or [""]
    lines = [line for line in lines if not line.startswith(AT_THAT_TIME)]
    if "Traceback" in complaint:
        places = [line for line in lines if line.startswith("File ")]
        lines = [lines[0].partition("Traceback")[0], *places[-1:], lines[-1]]
    text = " ".join(" ".join(lines).split())
    for pattern, name in _NAMES:
        text = pattern.sub(name, text)
    # A list of such things is as long as it happens to be.
    text = _REPEATED.sub(r"\1", text)
    return text[:_KIND_LENGTH]


def kinds(report: Report) -> frozenset[str]:
    """The kinds of all its complaints."""
    return frozenset(kind(complaint) for complaint in report.complaints)


class Shrinking:
    """
    One bad case on its way.

    :param play: plays a case
    :param is_over: asked before each replay, whether time is up
    :param replays: so many at most
    :param told: takes each smaller case that is still bad
    """

    def __init__(
        self,
        report: Report,
        *,
        play: Callable[[Case], Report],
        is_over: Callable[[], bool] = lambda: False,
        replays: int = 200,
        told: Callable[[Report], None] = lambda _: None,
    ) -> None:
        assert not report.is_good
        self._wanted = kind(report.complaints[0])
        self._play = play
        self._is_over = is_over
        self._left = replays
        self._told = told
        self._refuted: set[Case] = set()
        self.report = _cut(report)

    def run(self) -> Report:
        """Make it as small as it gets within the budget; return the last one that was bad."""
        while self._some_step() and not self._is_spent:
            pass
        return self.report

    @property
    def _is_spent(self) -> bool:
        return self._left <= 0 or self._is_over()

    def _some_step(self) -> bool:
        """Go through all ways to make it smaller; return whether any did."""
        steps = [self._is_bad(smaller) for way in _WAYS for smaller in way(lambda: self.report)]
        return any(steps)

    def _is_bad(self, case: Case) -> bool:
        if case in self._refuted or case == self.report.case or self._is_spent:
            return False
        self._left -= 1
        report = self._play(case)
        if self._wanted not in kinds(report):
            self._refuted.add(case)
            return False
        self.report = _cut(report)
        self._told(self.report)
        return True


def _cut(report: Report) -> Report:
    """What comes after the complaint is not needed: what went before is the same without it."""
    case = report.case
    if report.hours > case.hours:
        return report
    hours = min(case.hours, ceil(round(report.hours * 100, 6)) / 100)
    return replace(report, case=replace(case, hours=hours, settles=False))


def _no_settling(now: _Now) -> Iterator[Case]:
    yield replace(now().case, settles=False)


def _shorter(now: _Now) -> Iterator[Case]:
    for part in (0.25, 0.5, 0.75, 0.9):
        hours = float(int(now().case.hours * part))
        if hours >= 1:
            yield replace(now().case, hours=hours)


def _fewer_faults(now: _Now) -> Iterator[Case]:
    """Those that have happened; then without all of them, without halves, and so on down to one by one."""
    yield replace(now().case, faults=tuple(name for name in now().case.all_faults if name in now().faults))
    names = now().case.all_faults
    size = len(names)
    while size:
        for first in range(0, len(names), size):
            without = names[first : first + size]
            yield replace(
                now().case, faults=tuple(name for name in now().case.all_faults if name not in without)
            )
        size //= 2


def _fewer_clients(now: _Now) -> Iterator[Case]:
    """Those that are left do as much as before."""
    for part in (8, 4, 2, 1.5):
        case = now().case
        clients = max(1, int(case.clients / part))
        yield replace(case, clients=clients, operations=case.operations * clients / case.clients)


def _fewer_operations(now: _Now) -> Iterator[Case]:
    for part in (8, 4, 2):
        operations = now().case.operations / part
        if operations >= 1:
            yield replace(now().case, operations=operations)


_WAYS: tuple[Callable[[_Now], Iterator[Case]], ...] = (
    _no_settling,
    _shorter,
    _fewer_faults,
    _fewer_clients,
    _fewer_operations,
)
