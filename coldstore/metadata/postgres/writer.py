"""The one writer: a queue of steps, one connection, many steps in a commit."""

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from coldstore.metadata.postgres.client import Connection
from coldstore.metadata.postgres.groupcommit import Unsettled, commit_together
from coldstore.metadata.postgres.lasting import LastingConnection
from coldstore.metadata.postgres.sessions import Make, WriterSessions
from coldstore.metadata.postgres.waves import Shuffle
from coldstore.metadata.sql.executor import Outcome, Step
from coldstore.metadata.sql.stepqueue import StepQueue
from coldstore.model.errors import MetadataUnavailable
from coldstore.util.asynchronous import returns_deferred

ATTEMPTS_MAX = 3
"""How often a step may lose its connection, at last alone: perhaps it is what ends it."""
_FEWER = 16
"""By how much fewer steps are together after their connection was lost; with each commit they are twice as many again."""


class Writer:
    """
    Puts steps into transactions: what came while one was committed is the next one. Never waits to fill one.

    Steps of a transaction that was not committed when its connection ended are run again on the next one. When the connection ended
    while it was committed, the next session says whether it is: each transaction has a number, which is written by itself.
    """

    log = Logger()

    def __init__(
        self,
        make: Make,
        sessions: WriterSessions,
        *,
        clock: Any,
        batch_max: int,
        connect_seconds: float,
        new_appliance_id: Callable[[], str],
        shuffle: Shuffle | None = None,
    ) -> None:
        """
        :param batch_max: most steps in one commit
        :param connect_seconds: for each attempt to connect; also how long steps wait for a connection after an end
        :param shuffle: see ``run_in_waves``
        """
        self._make = make
        self._sessions = sessions
        self._clock = clock
        self._batch_max = batch_max
        self._connect_seconds = connect_seconds
        self._new_appliance_id = new_appliance_id
        self._shuffle = shuffle
        self._lasting = LastingConnection(
            self._made, clock=clock, connect_seconds=connect_seconds, begun=sessions.begun
        )
        self._queue = StepQueue(clock, self._begin)
        self._attempts = 0
        self._together = batch_max
        self._lost_at = 0.0

    @returns_deferred
    async def open(self) -> None:
        """
        Get ready.

        :raise AnotherAppliance: another process writes
        :raise MetadataUnavailable: there is no server
        :raise SchemaTooNew, SchemaTooOld, MigrationAltered: the schema is another one
        """
        await self._sessions.prepare(
            self._make,
            clock=self._clock,
            seconds=self._connect_seconds,
            new_appliance_id=self._new_appliance_id,
        )
        self._lasting.start()
        await self._lasting.ready(self._connect_seconds)
        self._queue.open()

    def write(self, step: Step[Any]) -> Deferred[Any]:
        """Queue a step for the next transaction."""
        return self._queue.put(step)

    @returns_deferred
    async def close(self) -> None:
        """Carry out what is queued, then disconnect. Repeatable."""
        await self._queue.close()
        await self._lasting.stop()

    def _made(self, lost: Callable[[MetadataUnavailable], None]) -> Connection:
        def has_ended(why: MetadataUnavailable) -> None:
            self._lost_at = self._clock.seconds()
            lost(why)

        return self._make(has_ended)

    def _begin(self) -> None:
        Deferred.fromCoroutine(self._work()).addErrback(
            lambda failure: self.log.failure("the metadata writer has stopped", failure)
        )

    async def _work(self) -> None:
        """Carry out what is queued, and what comes meanwhile."""
        while self._queue:
            try:
                connection = await self._lasting.ready(self._patience_seconds())
            except MetadataUnavailable as fault:
                self._attempts = 0
                self._queue.tell([Outcome(error=fault)] * len(self._queue))
                continue
            await self._carry_out(connection)
        self._queue.rest()

    async def _carry_out(self, connection: Connection) -> None:
        """Carry out the next transaction; its steps stay where they are when they are to be run again."""
        steps = self._queue.first(self._together)
        batch = self._sessions.batch + 1
        self._attempts += 1
        outcomes: list[Outcome]
        try:
            outcomes = await commit_together(
                connection,
                steps,
                stamp=self._sessions.stamp,
                number=self._sessions.next_number,
                shuffle=self._shuffle,
            )
            if any(outcome.error is None for outcome in outcomes):
                self._sessions.committed()
        except Unsettled as unsettled:
            try:
                await self._lasting.ready(self._patience_seconds())
            except MetadataUnavailable:
                outcomes = [Outcome(error=MetadataUnavailable(str(unsettled)))] * len(steps)
            else:
                if self._sessions.batch == batch:
                    outcomes = unsettled.outcomes
                elif self._is_again(steps):
                    return
                else:
                    outcomes = [Outcome(error=MetadataUnavailable("nothing was changed"))] * len(steps)
        except MetadataUnavailable as fault:
            if connection.ended is not None and self._is_again(steps):
                return
            outcomes = [Outcome(error=fault)] * len(steps)
        except Exception as bug:  # noqa: BLE001 - it reaches whoever waits for one of these steps
            outcomes = [Outcome(error=bug)] * len(steps)
            connection.give_up(f"a transaction was left: {bug}")
        self._attempts = 0
        self._together = min(self._batch_max, self._together * 2)
        self._queue.tell(outcomes)

    def _is_again(self, steps: Sequence[Step[Any]]) -> bool:
        """Whether steps whose connection ended, and of which nothing is there, are to be run again: fewer together then."""
        self._together = max(1, self._together // _FEWER)
        return self._attempts < ATTEMPTS_MAX or len(steps) > 1

    def _patience_seconds(self) -> float:
        """Return how long may be waited for a connection; nobody waits again once that was in vain."""
        left: float = self._lost_at + self._connect_seconds - self._clock.seconds()
        return max(0.0, left)
