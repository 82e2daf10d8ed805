"""What the metadata store keeps in memory, and whom it lets ask the file."""

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from coldstore.metadata.sql.kept import Kept
from coldstore.metadata.sqlite.pace import AWAY_SECONDS, Pace


class KeptTests(SynchronousTestCase):
    """``Kept``."""

    def setUp(self) -> None:
        """Keep two."""
        self.kept: Kept[int | None] = Kept(2)
        self.reads: list[str] = []

    def get(self, name: str, found: int | None) -> int | None:
        """Ask for a name; what would be read for it is ``found``."""

        def read() -> Deferred[int | None]:
            self.reads.append(name)
            return succeed(found)

        return self.successResultOf(self.kept.get(name, read))

    def test_read_once(self) -> None:
        """What was found is not read again, until something changed."""
        self.assertEqual([self.get("a", 1), self.get("a", 2)], [1, 1])
        self.kept.forget()
        self.assertEqual([self.get("a", 2), self.get("a", 3)], [2, 2])
        self.assertEqual(self.reads, ["a", "a"])

    def test_nothing_is_not_kept(self) -> None:
        """What was not there is looked for again."""
        self.assertEqual([self.get("a", None), self.get("a", 1)], [None, 1])

    def test_bounded(self) -> None:
        """No more is kept than was said."""
        for name in ("a", "b", "c", "c"):
            self.get(name, 1)
        self.assertEqual(self.reads, ["a", "b", "c"])
        self.get("a", 1)
        self.assertEqual(self.reads, ["a", "b", "c", "a"])

    def test_change_while_reading(self) -> None:
        """A read that was under way when something changed is answered, and not kept."""
        reading: Deferred[int | None] = Deferred()
        answer = self.kept.get("a", lambda: reading)
        self.kept.forget()
        reading.callback(1)
        self.assertEqual(self.successResultOf(answer), 1)
        self.assertEqual(self.get("a", 2), 2)


class PaceTests(SynchronousTestCase):
    """``Pace``."""

    def test_one_slow_step(self) -> None:
        """A step that is slow for once changes nothing."""
        pace = Pace(0.01)
        for seconds in (0.00001, 0.07, 0.00001):
            pace.took(5.0, seconds)
        self.assertTrue(pace.is_quick(5.0))

    def test_slow_steps(self) -> None:
        """Many of them send the work to threads, for a while, and again as long as they stay slow."""
        pace = Pace(0.01)
        for begun_at in (5.0, 5.0 + AWAY_SECONDS):
            self.assertTrue(pace.is_quick(begun_at))
            for _ in range(20):
                pace.took(begun_at, 0.02)
            self.assertFalse(pace.is_quick(begun_at + AWAY_SECONDS - 0.1))

    def test_blocked(self) -> None:
        """Once is enough when the step would have had to wait."""
        pace = Pace(0.01)
        pace.blocked(5.0)
        self.assertFalse(pace.is_quick(5.5))
        self.assertTrue(pace.is_quick(5.0 + AWAY_SECONDS))
