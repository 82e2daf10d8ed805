"""Empties the outbox: delivers, waits longer after each failure, gives up after a time."""

from dataclasses import dataclass
from math import inf
from random import Random

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from coldstore.interfaces.metadata import IMetadataStore
from coldstore.interfaces.notify import DeliveryFailed, INotifier
from coldstore.model.events import OutboxMessage

PAGE = 100
REST_SECONDS = 60.0
"""Who writes a message rings, and after a failure its next attempt is waited for: this is for what an earlier run left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPolicy:
    """Pauses double from ``first_pause_seconds`` to ``longest_pause_seconds``; older messages than ``age_max_seconds`` die."""

    first_pause_seconds: float
    longest_pause_seconds: float
    age_max_seconds: float


def pause_after(attempts: int, policy: DeliveryPolicy, *, jitter: float) -> float:
    """Return the pause before the next attempt; ``jitter`` of 0 to 1 spreads it over half of its length."""
    whole = min(policy.longest_pause_seconds, policy.first_pause_seconds * 2.0 ** min(attempts, 60))
    return whole * (0.75 + 0.5 * (jitter - 0.5))


class Deliverer:
    """One round tries every message that is due."""

    log = Logger()

    def __init__(
        self,
        *,
        store: IMetadataStore,
        notifier: INotifier,
        clock: IReactorTime,
        random: Random,
        policy: DeliveryPolicy,
    ) -> None:
        self._store = store
        self._notifier = notifier
        self._clock = clock
        self._random = random
        self._policy = policy
        self._attempts_at: list[float] = []
        """When what failed is due again."""

    async def one_round(self) -> float:
        """Deliver; return how long to rest."""
        now = self._clock.seconds()
        due = await self._store.due_messages(now=now, limit=PAGE)
        self._attempts_at = [at for at in self._attempts_at if at > now]
        left = [await self._leaves(message) for message in due]
        # What leaves the outbox makes way for the next message about its key.
        if any(left) or len(due) == PAGE:
            return 0.0
        now = self._clock.seconds()
        return max(0.0, min(REST_SECONDS, min(self._attempts_at, default=inf) - now))

    async def _leaves(self, message: OutboxMessage) -> bool:
        """Try a message; return whether it waits no longer: it was delivered, or is given up."""
        try:
            await self._notifier.deliver(message)
        except DeliveryFailed as failure:
            now = self._clock.seconds()
            if now - message.created_at > self._policy.age_max_seconds:
                await self._store.message_dead(message.message_id, error=str(failure), at=now)
                self.log.warn("message {id} is given up: {failure}", id=message.message_id, failure=failure)
                return True
            at = now + pause_after(message.attempts, self._policy, jitter=self._random.random())
            await self._store.message_failed(message.message_id, error=str(failure), next_attempt_at=at)
            self._attempts_at.append(at)
            return False
        await self._store.message_delivered(message.message_id)
        return True
