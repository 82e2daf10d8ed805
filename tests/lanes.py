"""
Jobs beside each other, as many as the machine has room for, each in a process of its own.

Whatever a job starts becomes a child of that process when its own parent ends, so each job can tell what it has left behind.
"""

import ctypes
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import BinaryIO

from tests.outcomes import Outcome

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
"""Of prctl(2)."""
GOODBYE_SECONDS = 60.0
"""How long a job that was told to end may take to end what it has started."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """
    Something to do.

    :ivar level: what it belongs to
    :ivar title: what it is
    :ivar work: done in a process of its own; what it prints is the job's
    :ivar load: how many processors it keeps busy while it runs
    :ivar seconds: what it takes, roughly
    """

    level: str
    title: str
    work: Callable[[], Outcome]
    load: float = 1.0
    seconds: float = 30.0


def next_job(waiting: Sequence[Job], running: Sequence[Job], capacity: float) -> Job | None:
    """
    Choose what begins now: of those for which there is room, the longest, so that none is left over at the end.

    :param capacity: the processors; a job that wants more of them than there are runs alone
    """
    room = capacity - sum(job.load for job in running)
    fitting = [job for job in waiting if job.load <= room + 1e-9 or not running]
    return max(fitting, key=lambda job: job.seconds, default=None)


def _nameless_file() -> BinaryIO:
    return os.fdopen(os.memfd_create("output"), "w+b", buffering=0)


class _Run:
    """
    A job that runs.

    :ivar results: can be read once it has ended
    """

    def __init__(self, job: Job, is_live: bool) -> None:
        self.job = job
        self._said: BinaryIO | None = None if is_live else _nameless_file()
        context = multiprocessing.get_context("fork")
        self.results, results = context.Pipe(duplex=False)
        self.process: BaseProcess = context.Process(target=self._work, args=(results,))
        sys.stdout.flush()
        sys.stderr.flush()
        self.process.start()
        results.close()

    def _work(self, results: Connection) -> None:
        # A Ctrl-C is for whoever runs us, who tells us to end.
        os.setpgid(0, 0)
        prctl = ctypes.CDLL(None).prctl
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if self._said is not None:
            os.dup2(self._said.fileno(), 1)
            os.dup2(self._said.fileno(), 2)
        results.send(self.job.work())

    def outcome(self) -> Outcome:
        """Return what came of it, once it has ended."""
        try:
            outcome = self.results.recv()
            assert isinstance(outcome, Outcome)
        except EOFError:
            self.process.join()
            note = f"{self.job.title}: ended with status {self.process.exitcode} and no result"
            outcome = Outcome(failed=1, notes=[note])
        self.process.join()
        self.results.close()
        return outcome

    def said(self) -> bytes:
        """Return what it has printed, once it has ended, unless that was shown at once."""
        if self._said is None:
            return b""
        with self._said as said:
            said.seek(0)
            return said.read()

    def end(self) -> None:
        """Have it end, and everything that it has started."""
        self.process.terminate()
        self.process.join(GOODBYE_SECONDS)
        self.process.kill()
        self.process.join()


def run_jobs(jobs: Sequence[Job], capacity: float, tell: Callable[[Job, Outcome, bytes], None]) -> None:
    """
    Run jobs.

    :param capacity: the processors to be kept busy; 0 runs one job after the other, each printing as it goes
    :param tell: called with each job that has ended, what came of it and what it has printed; those that do not come to their end
        because we are told to end have failed
    """
    is_live = capacity == 0 or len(jobs) == 1
    waiting = list(jobs)
    running: list[_Run] = []
    try:
        while waiting or running:
            while (job := next_job(waiting, [run.job for run in running], capacity)) is not None:
                waiting.remove(job)
                running.append(_Run(job, is_live))
            ended = multiprocessing.connection.wait([run.results for run in running])
            for run in [run for run in running if run.results in ended]:
                running.remove(run)
                tell(run.job, run.outcome(), run.said())
    finally:
        for run in running:
            run.end()
            tell(run.job, Outcome(failed=1, notes=[f"cut off: {run.job.title}"]), run.said())
