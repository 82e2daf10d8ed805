"""The outbox is emptied: what is due is tried, and tried again when its pause is over."""

from random import Random
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.notify import DeliveryFailed
from coldstore.model.events import OutboxMessage
from coldstore.work.deliverer import REST_SECONDS, Deliverer, DeliveryPolicy, pause_after

POLICY = DeliveryPolicy(first_pause_seconds=1.0, longest_pause_seconds=60.0, age_max_seconds=1000.0)


def message(message_id: int = 1, *, attempts: int = 0, created_at: float = 0.0) -> OutboxMessage:
    """Return a message that is due."""
    return OutboxMessage(
        message_id=message_id,
        event="s3:ObjectRestore:Completed",
        bucket="b",
        key=b"k",
        body="{}",
        created_at=created_at,
        attempts=attempts,
        next_attempt_at=0.0,
        last_error="",
    )


class DelivererTests(SynchronousTestCase):
    """One round."""

    def setUp(self) -> None:
        """Have a store that notes what it is told, and a target that answers as a test says."""
        self.due: list[OutboxMessage] = []
        self.told: list[tuple[str, int, Any]] = []
        self.clock = Clock()

        def told(what: str) -> Any:
            def step(message_id: int, **facts: Any) -> Deferred[None]:
                self.told.append((what, message_id, facts))
                return succeed(None)

            return step

        self.store = SimpleNamespace(
            due_messages=lambda **_: succeed(list(self.due)),
            message_delivered=told("delivered"),
            message_failed=told("failed"),
            message_dead=told("dead"),
        )
        self.fails: set[int] = set()

    def deliver(self, given: OutboxMessage) -> Deferred[None]:
        """Answer as the target does."""
        return fail(DeliveryFailed("away")) if given.message_id in self.fails else succeed(None)

    def deliverer(self) -> Deliverer:
        """One that has not delivered yet."""
        return Deliverer(
            store=self.store,  # type: ignore[arg-type]
            notifier=SimpleNamespace(deliver=self.deliver),  # type: ignore[arg-type]
            clock=self.clock,
            random=Random(1),
            policy=POLICY,
        )

    def rest_seconds(self, deliverer: Deliverer | None = None) -> float:
        """Run a round; return its rest."""
        deliverer = deliverer or self.deliverer()
        return float(self.successResultOf(Deferred.fromCoroutine(deliverer.one_round())))

    def test_nothing_due(self) -> None:
        """Without anything to do it rests for its longest time."""
        self.assertEqual((self.rest_seconds(), self.told), (REST_SECONDS, []))

    def test_rests_until_the_next_try(self) -> None:
        """After a failure it rests no longer than the pause of the first message that is due again."""
        self.due, self.fails = [message(1), message(2, attempts=3)], {1, 2}
        rest = self.rest_seconds()
        pauses = [facts["next_attempt_at"] for what, _, facts in self.told if what == "failed"]
        self.assertEqual((len(pauses), rest), (2, min(pauses)))
        self.assertLess(rest, 2.0)

    def test_looks_for_the_next_of_a_key(self) -> None:
        """After a delivery it looks again at once: the next message about that key waits behind it."""
        deliverer = self.deliverer()
        self.due, self.fails = [message(1, attempts=3), message(3)], {1}
        self.assertEqual(self.rest_seconds(deliverer), 0.0)
        self.assertEqual([number for what, number, _ in self.told if what == "delivered"], [3])
        self.due = []
        self.assertGreater(self.rest_seconds(deliverer), 0.0)

    def test_rung_before_the_next_try(self) -> None:
        """A round for something else in between does not put off the next attempt of what failed."""
        deliverer = self.deliverer()
        self.due, self.fails = [message(1, attempts=5)], {1}
        rest = self.rest_seconds(deliverer)
        self.due = []
        self.clock.advance(3.0)
        self.assertAlmostEqual(self.rest_seconds(deliverer), rest - 3.0)
        self.clock.advance(rest)
        self.assertEqual(self.rest_seconds(deliverer), REST_SECONDS)

    def test_given_up(self) -> None:
        """A message that is too old and fails once more is given up; one that is delivered is not."""
        self.clock.advance(1001)
        self.due, self.fails = [message(1), message(2), message(3, created_at=900.0)], {1, 3}
        self.assertEqual(self.rest_seconds(), 0.0)
        self.assertEqual(
            [(what, number) for what, number, _ in self.told],
            [("dead", 1), ("delivered", 2), ("failed", 3)],
        )

    def test_pauses(self) -> None:
        """Pauses double up to the longest, each spread over half of its length."""
        for attempts, whole in ((0, 1.0), (1, 2.0), (5, 32.0), (6, 60.0), (5000, 60.0)):
            self.assertAlmostEqual(pause_after(attempts, POLICY, jitter=0.0), whole * 0.5)
            self.assertAlmostEqual(pause_after(attempts, POLICY, jitter=1.0), whole)
