"""What is shown of how far something is."""

import io

from twisted.trial.unittest import SynchronousTestCase

from coldstore.upkeep.progress import Progress


class ProgressTests(SynchronousTestCase):
    """``Progress``."""

    def setUp(self) -> None:
        """Have a clock."""
        self.now = 100.0
        self.stream = io.StringIO()

    def run_stages(self, *, is_terminal: bool) -> str:
        """Have two stages of 20 s, one with an expectation."""
        progress = Progress(self.stream, lambda: self.now, is_terminal=is_terminal)
        for stage, expected in (("copying", 2000), ("checking", 0)):
            for done in range(0, 2001, 100):
                progress(stage, done, expected)
                self.now += 1.0
        progress.end()
        progress.end()
        return self.stream.getvalue()

    def test_terminal(self) -> None:
        """On a terminal a bar is drawn over itself, with what is left, and each stage ends with a line."""
        shown = self.run_stages(is_terminal=True)
        self.assertEqual(shown.count("\n"), 2)
        self.assertIn(
            "\r[###############...............] copying: 1000 of 2000 rows (50 %, 100/s, 10 s left)", shown
        )
        self.assertIn("\rchecking: 2000 rows, 95/s", shown)

    def test_elsewhere(self) -> None:
        """Elsewhere a line is written now and then, and nothing that speaks to a terminal."""
        lines = self.run_stages(is_terminal=False).splitlines()
        self.assertEqual(lines[0], "copying 2000 rows")
        self.assertEqual(lines[3], "copying: 2000 of 2000 rows (100 %, 95/s)")
        self.assertEqual(len(lines), 8)
        self.assertNotIn("\x1b", "".join(lines))
