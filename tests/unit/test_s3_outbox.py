"""Answers that leave together."""

from collections.abc import Callable
from functools import partial

from twisted.trial.unittest import SynchronousTestCase

from coldstore.s3.outbox import Outbox


class OutboxTests(SynchronousTestCase):
    """Who waits for the end of a turn."""

    def test_together(self) -> None:
        """All of a turn are sent at its end, in order and once; what comes meanwhile has a turn of its own."""
        turns: list[Callable[[], None]] = []
        sent: list[str] = []
        outbox = Outbox(turns.append)

        def two() -> None:
            sent.append("two")
            outbox.add(partial(sent.append, "three"))

        outbox.add(partial(sent.append, "one"))
        outbox.add(two)
        self.assertEqual((sent, len(turns)), ([], 1))
        turns.pop()()
        self.assertEqual((sent, len(turns)), (["one", "two"], 1))
        turns.pop()()
        self.assertEqual((sent, turns), (["one", "two", "three"], []))
