"""The state directory: private, and held by one process at a time."""

import os
import stat
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from coldstore.util.statedir import StateDirectory, StateDirectoryInUse
from coldstore.util.thishost import host_name

HOLD = """
import sys
from pathlib import Path
from coldstore.util.statedir import StateDirectory
held = StateDirectory(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""
ROOT = Path(__file__).resolve().parent.parent.parent


class StateDirectoryTests(SynchronousTestCase):
    """``StateDirectory``."""

    def setUp(self) -> None:
        """Name a directory that does not exist yet."""
        self.path = Path(self.mktemp()) / "state"

    def test_it_is_made_for_us_alone(self) -> None:
        """A missing directory is made, with its parents, readable by nobody else; so is the lock."""
        held = StateDirectory(self.path)
        self.addCleanup(held.release)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o700)
        self.assertEqual(stat.S_IMODE((self.path / "lock").stat().st_mode), 0o600)
        first, mark = (self.path / "lock").read_text().splitlines()
        self.assertEqual(first, f"process {os.getpid()} on {host_name()}")
        self.assertRegex(mark, "^[0-9a-f]{32}$")

    def test_two_holders_in_one_process(self) -> None:
        """The second one is refused, and the first keeps what it has."""
        held = StateDirectory(self.path)
        with self.assertRaises(StateDirectoryInUse) as refused:
            StateDirectory(self.path)
        self.assertIn(str(os.getpid()), str(refused.exception))
        held.release()
        StateDirectory(self.path).release()

    def test_another_process_holds_it(self) -> None:
        """The refusal names the process, and when that is killed the directory is free."""
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert holder.stdout is not None and holder.stdin is not None
        try:
            self.assertEqual(holder.stdout.readline(), b"held\n")
            with self.assertRaises(StateDirectoryInUse) as refused:
                StateDirectory(self.path)
            self.assertIn(f"process {holder.pid}", str(refused.exception))
        finally:
            holder.kill()
            holder.wait()
            holder.stdout.close()
            holder.stdin.close()
        StateDirectory(self.path).release()

    def test_refusal(self) -> None:
        """The refusal says who has it, on which machine and since when; so it does of an earlier version, which wrote its id alone."""
        held = StateDirectory(self.path, host="archive1")
        self.addCleanup(held.release)
        refusal = self.assertRaises(StateDirectoryInUse, StateDirectory, self.path)
        self.assertRegex(refusal.holder, rf"^process {os.getpid()} on archive1 since 20\d\d-.*Z$")
        self.assertIn(str(self.path), str(refusal))
        (self.path / "lock").write_text("1234\n")
        refusal = self.assertRaises(StateDirectoryInUse, StateDirectory, self.path)
        self.assertTrue(refusal.holder.startswith("process 1234 since "), refusal.holder)

    def test_other_holder(self) -> None:
        """Whoever has taken it in spite of our lock is told; a lock that is gone, or just being taken, tells nothing."""
        held = StateDirectory(self.path, host="archive1")
        self.addCleanup(held.release)
        lock = self.path / "lock"
        self.assertIsNone(held.other_holder())
        lock.unlink()
        self.assertIsNone(held.other_holder())
        other = StateDirectory(self.path, host="archive2")
        self.addCleanup(other.release)
        holder = held.other_holder()
        assert holder is not None
        self.assertIn(f"process {os.getpid()} on archive2 since ", holder)
        self.assertIsNone(other.other_holder())
        lock.write_text("")
        self.assertIsNone(held.other_holder())

    def test_namesake(self) -> None:
        """So is one of the same number on a machine of the same name: containers often have both in common."""
        held = StateDirectory(self.path, host="archive1")
        self.addCleanup(held.release)
        (self.path / "lock").unlink()
        other = StateDirectory(self.path, host="archive1")
        self.addCleanup(other.release)
        self.assertRegex(held.other_holder() or "", rf"^process {os.getpid()} on archive1 since 20\d\d-.*Z$")
        self.assertIsNone(other.other_holder())

    def test_children_do_not_hold_it(self) -> None:
        """A program that we start and that outlives us does not keep the next start away."""
        held = StateDirectory(self.path)
        child = subprocess.Popen(
            [sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            close_fds=False,
        )
        assert child.stdin is not None and child.stdout is not None
        try:
            # The kernel lets us go on before it closes what the program must not inherit (execve(2)).
            child.stdout.readline()
            held.release()
            StateDirectory(self.path).release()
        finally:
            child.stdin.close()
            child.wait()

    def test_a_file_in_its_place(self) -> None:
        """What is no directory is an ``OSError`` that names it."""
        self.path.parent.mkdir()
        self.path.write_text("x")
        self.assertIn(str(self.path), str(self.assertRaises(OSError, StateDirectory, self.path)))
