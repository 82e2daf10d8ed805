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
"""Then another one takes its place: what worlds leave in memory goes with it."""
AHEAD = 4
"""Cases per process that are given out before they are asked for: none waits for a long one."""


class Players:
    """
    So many processes, as a context: at its end they are over, whatever they were at.

    A process that dies (out of memory, killed) fails the whole: ``BrokenProcessPool``.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool = ProcessPoolExecutor(
            count,
            mp_context=get_context("spawn"),
            initializer=_begin,
            max_tasks_per_child=CASES_PER_PROCESS,
        )

    def __enter__(self) -> "Players":
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in active_children():
            process.terminate()
        self._pool.shutdown(wait=True)

    def play(self, cases: Iterable[Case]) -> Iterator[Report]:
        """Play cases."""
        left = iter(cases)
        under_way: deque[Future[Report]] = deque(
            self._pool.submit(play_case, case) for case in islice(left, self._count * AHEAD)
        )
        while under_way:
            report = under_way.popleft().result()
            under_way.extend(self._pool.submit(play_case, case) for case in islice(left, 1))
            yield report


def _begin() -> None:
    # The terminal's Ctrl-C goes to all: who plays ends without a word.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    silence()
