"""``tests/run``: how it counts, and what its levels name."""

import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

CHECKOUT = Path(__file__).parents[2]

TRIAL = """tests.unit.test_a
  ATests
    test_x ...                                                             [OK]
===============================================================================
[SKIPPED]
there is no ltfs on PATH

tests.unit.test_a.ATests.test_y
tests.unit.test_a.ATests.test_z
===============================================================================
[FAIL]
Traceback (most recent call last):
  File "a.py", line 3
twisted.trial.unittest.FailTest: 1 != 2

tests.unit.test_a.ATests.test_w
===============================================================================
[ERROR]
builtins.ValueError: no

tests.unit.test_a.ATests.test_v
-------------------------------------------------------------------------------
Ran 7 tests in 0.011s

FAILED (skips=2, failures=1, errors=1, expectedFailures=1, successes=2)
"""


def runner() -> Any:
    """The script as a module; its name has no suffix."""
    loader = SourceFileLoader("coldstore_tests_run", str(CHECKOUT / "tests" / "run"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[loader.name] = module
    is_off, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = is_off
        del sys.modules[loader.name]
    return module


class CountingTests(SynchronousTestCase):
    """What a command printed becomes counts."""

    def setUp(self) -> None:
        """Load the script."""
        self.run_script = runner()

    def assertCounts(self, output: str, status: int, passed: int, failed: int, skipped: int) -> list[str]:
        """Check the counts; return the notes."""
        outcome = self.run_script.counted(output, status)
        self.assertEqual((outcome.passed, outcome.failed, outcome.skipped), (passed, failed, skipped))
        notes: list[str] = outcome.notes
        return notes

    def test_trial(self) -> None:
        """trial's summary is counted; what failed and what was skipped, and why, is named."""
        notes = self.assertCounts(TRIAL, 1, passed=3, failed=2, skipped=2)
        self.assertEqual(
            notes,
            [
                "skipped tests.unit.test_a.ATests.test_y and 1 more: there is no ltfs on PATH",
                "failed tests.unit.test_a.ATests.test_w",
                "failed tests.unit.test_a.ATests.test_v",
            ],
        )

    def test_trial_more_than_once(self) -> None:
        """A command that runs trial several times, on a console with its own line ends, has all of its tests counted."""
        once = "Ran 3 tests in 1.0s\n\nPASSED (successes=3)\n"
        self.assertCounts((once + once).replace("\n", "\r\n"), 0, passed=6, failed=0, skipped=0)

    def test_no_test_found(self) -> None:
        """A run without any test has failed, whatever its exit status."""
        self.assertCounts("Ran 0 tests in 0.000s\n\nPASSED\n", 0, passed=0, failed=1, skipped=0)

    def test_status_counts(self) -> None:
        """A summary without failures does not hide an exit status."""
        notes = self.assertCounts(
            "Ran 3 tests in 1.0s\n\nPASSED (successes=3)\nran out of time", 124, 3, 1, 0
        )
        self.assertEqual(notes, ["exit status 124: ran out of time"])

    def test_plain_commands(self) -> None:
        """A command without counts is one test; status 77 skips it with its last line as the reason."""
        self.assertCounts("Success: no issues found", 0, 1, 0, 0)
        self.assertCounts("a.py:3: bad", 1, 0, 1, 0)
        self.assertCounts("5 passed, 1 failed, 2 skipped", 1, 5, 1, 2)
        self.assertEqual(self.assertCounts("booting\nno qemu here\n", 77, 0, 0, 1), ["skipped: no qemu here"])


class LevelsTests(SynchronousTestCase):
    """The table of levels."""

    def test_levels(self) -> None:
        """Each level has its own name, its lock exists, and only the measurements are left out by default."""
        levels = runner().LEVELS
        names = [level.name for level in levels]
        self.assertEqual(len(set(names)), len(names))
        self.assertEqual([level.name for level in levels if not level.is_default], ["bench"])
        for level in levels:
            self.assertTrue((CHECKOUT / "etc" / "requirements" / f"{level.lock}.lock").exists(), level.name)

    def test_interpreter(self) -> None:
        """An interpreter is found on PATH, or where pyenv keeps it; what only says how to choose one is passed over."""
        there, kept = Path(self.mktemp()).absolute(), Path(self.mktemp()).absolute()
        for path, status in ((there / "python9.9", 127), (kept / ".pyenv/versions/9.9.1/bin/python9.9", 0)):
            path.parent.mkdir(parents=True)
            path.write_text(f"#!/bin/sh\nexit {status}\n")
            path.chmod(0o755)
        script = runner()
        self.patch(script.os, "environ", {"PATH": str(there), "HOME": str(kept)})
        self.assertEqual(script.interpreter("python9.9"), str(path))
        self.assertIsNone(script.interpreter("python9.8"))

    def test_every_folder_has_a_level(self) -> None:
        """No folder of tests is forgotten."""
        commands = " ".join(" ".join(command) for level in runner().LEVELS for command in level.commands)
        for folder in (CHECKOUT / "tests").iterdir():
            if folder.is_dir() and folder.name not in ("fixtures", "__pycache__"):
                self.assertTrue(
                    f"tests.{folder.name}" in commands or f"tests/{folder.name}/" in commands, folder
                )
