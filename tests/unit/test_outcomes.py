"""``tests.outcomes``: how tests are counted, and what the end of a run's output says of them."""

from twisted.trial.unittest import SynchronousTestCase

from tests.outcomes import FAILURES_LINES, FEWEST_LINES, Failure, Outcome, counted, report, shortened

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


class CountingTests(SynchronousTestCase):
    """What a command printed becomes counts."""

    def assertCounts(self, output: str, status: int, passed: int, failed: int, skipped: int) -> list[str]:
        """Check the counts; return the notes."""
        outcome = counted(output, status)
        self.assertEqual((outcome.passed, outcome.failed, outcome.skipped), (passed, failed, skipped))
        return outcome.notes

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


class FailureTests(SynchronousTestCase):
    """What was said of failures is repeated where a reader of the end of the output finds it."""

    def test_of_trial(self) -> None:
        """Of trial it is what stands under the failure, with the names."""
        self.assertEqual(
            [failure.said for failure in counted(TRIAL, 1).failures],
            [
                '[FAIL]\nTraceback (most recent call last):\n  File "a.py", line 3\n'
                "twisted.trial.unittest.FailTest: 1 != 2\n\ntests.unit.test_a.ATests.test_w",
                "[ERROR]\nbuiltins.ValueError: no\n\ntests.unit.test_a.ATests.test_v",
            ],
        )

    def test_of_others(self) -> None:
        """Of other commands, and of a trial that did not come to its end, it is the output, of what went well nothing."""
        self.assertEqual(counted("reading\na.py:3: bad\n", 1).failures, [Failure("reading\na.py:3: bad")])
        self.assertEqual(
            counted("tests.x\n  T\n    test_y ...\nran out of time", 124).failures[0].said[-15:],
            "ran out of time",
        )
        self.assertEqual(counted("5 passed, 0 failed, 2 skipped", 0).failures, [])
        self.assertEqual(counted("nothing", 77).failures, [])

    def test_log(self) -> None:
        """The end of the log that a test printed follows what is said of its failure."""
        log = "tests.unit.test_a.ATests.test_w: log in /tmp/x.log, its end:\n" + "\n".join(
            f"line {n}" for n in range(25)
        )
        first, second = counted(f"before\n{log}\n\n{TRIAL}", 1).failures
        self.assertEqual((first.log, second.log), (log, ""))
        self.assertEqual(first.shortened(60), f"{first.said}\n{log}")
        self.assertEqual(first.shortened(9).splitlines()[-2:], ["line 23", "line 24"])
        self.assertEqual(first.shortened(6), first.said)

    def test_shortened(self) -> None:
        """The middle is left out: the end of a traceback says most."""
        text = "\n".join(map(str, range(100)))
        self.assertEqual(shortened(text, 100), text)
        self.assertEqual(
            shortened(text, 9).splitlines(),
            ["0", "1", "... 92 lines ...", "94", "95", "96", "97", "98", "99"],
        )

    def test_report(self) -> None:
        """They come before the table, the summary is the last line."""
        good, bad = (
            Outcome(passed=3, seconds=2),
            Outcome(failed=1, notes=["failed tests.x"], failures=[Failure("[FAIL]\nwhy")]),
        )
        lines = "\n".join(report({"unit": good, "contract": bad}, 1.5)).splitlines()
        self.assertEqual(lines[:3], ["", "--- contract: [FAIL]", "why"])
        self.assertLess(lines.index("why"), lines.index("contract: failed tests.x"))
        self.assertEqual(lines[-1], "3 passed, 1 failed, 0 skipped")

    def test_report_of_many(self) -> None:
        """However many failed, and however much they say, a bounded end of the output has something of each of the first, and names all."""
        said = "\n".join(map(str, range(500)))
        every = Outcome(
            failed=40,
            notes=[f"failed t{n}" for n in range(40)],
            failures=[Failure(f"t{n}\n{said}\nwhy {n}") for n in range(40)],
        )
        text = "\n".join(report({"unit": every}, 1))
        count = FAILURES_LINES // FEWEST_LINES
        before, after = text.split("\nlevel ")
        self.assertLessEqual(len(before.splitlines()), FAILURES_LINES + 2 * count)
        self.assertEqual([n for n in range(40) if f"\nwhy {n}\n" in before], list(range(count)))
        self.assertIn(f"and {40 - count} more failures", before)
        self.assertIn("unit: failed t39", after)
