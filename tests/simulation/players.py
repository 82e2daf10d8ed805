"""Processes that play cases, side by side; their reports come in the order of the cases."""

import signal
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from multiprocessing import active_children, get_context
from types import TracebackType

from tests.simulation.case import Case
from tests.simulation.report import Report, play_case
from tests.simulation.trial_run import silence

CASES_PER_PROCESS = 40
"""As a mean. Then others take their place: what worlds leave in memory goes with them."""
AHEAD = 4
"""Cases per process that are given out before they are asked for: none waits for a long one."""


class Players:
    """
    So many processes, as a context: at its end they are over, whatever they were at.

    A process that dies (out of memory, killed) fails the whole: ``BrokenProcessPool``.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._given = 0
        self._pools: list[ProcessPoolExecutor] = []

    def __enter__(self) -> "Players":
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for pool in self._pools:
            pool.shutdown(wait=False, cancel_futures=True)
        for process in active_children():
            process.terminate()
        for pool in self._pools:
            pool.shutdown(wait=True)

    def play(self, cases: Iterable[Case]) -> Iterator[Report]:
        """Play cases."""
        left = iter(cases)
        under_way: deque[Future[Report]] = deque(
            self._submit(case) for case in islice(left, self._count * AHEAD)
        )
        while under_way:
            report = under_way.popleft().result()
            under_way.extend(self._submit(case) for case in islice(left, 1))
            yield report

    def _submit(self, case: Case) -> "Future[Report]":
        """
        Give out a case. The pool that has had its share of them ends by itself, while the next one begins. (One that ends single
        processes, ``max_tasks_per_child``, does not always begin others in Python 3.11, and then waits for ever.)
        """
        if self._given % (CASES_PER_PROCESS * self._count) == 0:
            for pool in self._pools:
                pool.shutdown(wait=False)
            self._pools = [
                *self._pools[-1:],
                ProcessPoolExecutor(self._count, mp_context=get_context("spawn"), initializer=_begin),
            ]
        self._given += 1
        return self._pools[-1].submit(play_case, case)


def _begin() -> None:
    # The terminal's Ctrl-C goes to all: who plays ends without a word.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    silence()
