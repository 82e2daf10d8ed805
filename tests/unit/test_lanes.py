"""``tests.lanes``: which job begins, and that each ends with all that it has started."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.lanes import Job, next_job
from tests.outcomes import Outcome

CHECKOUT = Path(__file__).parents[2]


def job(name: str, *, load: float = 1.0, seconds: float = 10.0) -> Job:
    """A job that does nothing."""
    return Job(level=name, title=name, work=Outcome, load=load, seconds=seconds)


class ChoiceTests(SynchronousTestCase):
    """``next_job``."""

    def test_longest_first(self) -> None:
        """The longest begins."""
        jobs = [job("a", seconds=3), job("b", seconds=9), job("c", seconds=5)]
        self.assertIs(next_job(jobs, [], 2), jobs[1])

    def test_room(self) -> None:
        """What is too much beside those that run waits, and a shorter one begins."""
        wide, narrow, running = job("wide", load=2, seconds=90), job("narrow", load=0.5), job("running")
        self.assertIs(next_job([wide, narrow], [running], 2), narrow)
        self.assertIsNone(next_job([wide], [running], 2))
        self.assertIs(next_job([wide, narrow], [], 2), wide)

    def test_parts_of_a_processor(self) -> None:
        """Loads that make up the capacity fit."""
        running = [job("r", load=0.7), job("r", load=0.1), job("r", load=0.1)]
        last = job("last", load=0.1)
        self.assertIs(next_job([last], running, 1.0), last)

    def test_more_than_there_is(self) -> None:
        """A job that wants more than the whole machine has it for itself."""
        wide = job("wide", load=8)
        self.assertIs(next_job([wide], [], 2), wide)
        self.assertIsNone(next_job([wide], [job("running", load=0.1)], 2))

    def test_nothing_left(self) -> None:
        """Nothing begins when nothing waits."""
        self.assertIsNone(next_job([], [], 2))


SCRIPT = """
    import os, sys, time
    from functools import partial
    from tests.lanes import Job, run_jobs
    from tests.outcomes import Outcome

    def says(word):
        print(word, flush=True)
        os.system(f"echo {word} by a child")
        return Outcome(passed=1, notes=[word])

    def dies():
        print("soon", flush=True)
        os.kill(os.getpid(), 9)

    def tell(job, outcome, said):
        print(job.title, (outcome.passed, outcome.failed, outcome.notes), said)

"""


def script(body: str) -> str:
    """Return what runs jobs in a process of its own: they are forked from it."""
    return textwrap.dedent(SCRIPT) + textwrap.dedent(body)


def said_by(body: str) -> list[str]:
    """Return the lines that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", script(body)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


class RunningTests(SynchronousTestCase):
    """``run_jobs``."""

    def test_each_in_one_piece(self) -> None:
        """What a job and its children print comes in one piece, with what came of it, however large that is."""
        lines = said_by(
            """
            jobs = [Job(level="l", title=word, work=partial(says, word)) for word in ("one", "x" * 200_000)]
            run_jobs(jobs, 2, tell)
            """
        )
        self.assertIn("one (1, 0, ['one']) b'one\\none by a child\\n'", lines)
        self.assertEqual(len(lines), 2)

    def test_at_once(self) -> None:
        """A job that runs alone, and each of those that run one after the other, prints as it goes."""
        for jobs, capacity in (("['a']", 2), ("['a', 'b']", 0)):
            lines = said_by(
                f"""
                jobs = [Job(level="l", title=word, work=partial(says, word)) for word in {jobs}]
                run_jobs(jobs, {capacity}, tell)
                """
            )
            self.assertEqual(lines[:3], ["a", "a by a child", "a (1, 0, ['a']) b''"])

    def test_orphans(self) -> None:
        """What a command leaves behind becomes a child of the job, which can tell whose it was."""
        lines = said_by(
            """
            def leaves():
                with os.popen("sleep 600 >/dev/null & echo $!") as shell:
                    pid = int(shell.read())
                parent = int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
                os.kill(pid, 9)
                return Outcome(passed=int(parent == os.getpid()))

            run_jobs([Job(level="l", title="leaves", work=leaves), Job(level="l", title="o", work=Outcome)], 2, tell)
            """
        )
        self.assertIn("leaves (1, 0, []) b''", lines)

    def test_dies(self) -> None:
        """A job that ends without a result has failed, and what it had said is shown."""
        (line, _) = sorted(
            said_by(
                """
                jobs = [Job(level="l", title="dead", work=dies), Job(level="l", title="other", work=partial(says, "x"))]
                run_jobs(jobs, 2, tell)
                """
            )
        )
        self.assertEqual(line, "dead (0, 1, ['dead: ended with status -9 and no result']) b'soon\\n'")

    def test_told_to_end(self) -> None:
        """When the run is told to end, what its jobs have said is shown, and they end as well, having put away what is theirs."""
        body = """
            import signal
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
            def waits():
                try:
                    print("waiting", flush=True)
                    open(sys.argv[1], "w").close()
                    time.sleep(600)
                finally:
                    print("put away", flush=True)
            jobs = [Job(level="l", title="long", work=waits), Job(level="l", title="wide", work=dies, load=3)]
            run_jobs(jobs, 2, tell)
            """
        begun = Path(self.mktemp()).absolute()
        process = subprocess.Popen(
            [sys.executable, "-c", script(body), str(begun)],
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.kill)
        patience = time.monotonic() + 60
        while not begun.exists() and time.monotonic() < patience:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
        self.assertEqual(
            (process.returncode, said), (143, "long (0, 1, ['cut off: long']) b'waiting\\nput away\\n'\n")
        )
