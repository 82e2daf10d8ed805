"""The one writer: steps run in the reactor's thread while that is quick, their commit always in a thread of its own."""

import sqlite3
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from coldstore.metadata.sql.executor import Outcome, Step
from coldstore.metadata.sql.stepqueue import StepQueue
from coldstore.metadata.sqlite.driver import Connection
from coldstore.metadata.sqlite.groupcommit import commit, failed_together, run_together
from coldstore.metadata.sqlite.pace import Pace
from coldstore.model.errors import MetadataUnavailable, TakenOver
from coldstore.util.asynchronous import returns_deferred
from coldstore.util.workers import Reactor, Workers

SLOW_SECONDS = 0.02
"""Average of a step; one changes a hundred rows at most."""
TURN_SECONDS = 0.005
"""How long the reactor is kept by the steps of one transaction; what is left waits for the next one."""


class Committer(Protocol):
    """Makes durable what steps did in a transaction."""

    @property
    def is_ready(self) -> bool:
        """Whether a transaction may begin."""

    async def make_ready(self) -> None:
        """
        Do what is to be done before a transaction may begin.

        :raise MetadataUnavailable: none can begin now
        """

    async def commit(
        self, connection: Connection, outcomes: list[Outcome], workers: Workers
    ) -> list[Outcome]:
        """Commit a transaction, or roll it back; return the outcomes, or as many failures. ``workers``: a thread for it."""


class FileCommitter:
    """Commits to the file, and that is all."""

    is_ready = True

    async def make_ready(self) -> None:
        """See ``Committer``."""

    async def commit(
        self, connection: Connection, outcomes: list[Outcome], workers: Workers
    ) -> list[Outcome]:
        """See ``Committer``."""
        return await workers.run(commit, connection, outcomes)


class Writer:
    """
    Puts steps into transactions: what came while one was committed is the next one. Never waits to fill one.

    Python runs in one thread at a time in any case. Beside a reactor that is busy, a thread of its own would fight for the
    interpreter at every statement; what can really go on beside it is the fsync of the commit.
    """

    def __init__(
        self,
        *,
        connect: Callable[[], Connection],
        reactor: Reactor,
        batch_max: int,
        committer: Committer | None = None,
        on_taken_over: Callable[[str], None] = lambda _: None,
    ) -> None:
        """
        :param connect: makes a connection that two threads may use in turn; called in a thread
        :param committer: makes durable what steps did; None: the file does
        :param on_taken_over: is told, perhaps often, that nothing was written for another appliance has taken over
        """
        self._connect = connect
        self._committer = FileCommitter() if committer is None else committer
        self._on_taken_over = on_taken_over
        self._reactor = reactor
        self._batch_max = batch_max
        self._workers = Workers(reactor, 1, "metadata-writer")
        self._pace = Pace(SLOW_SECONDS)
        self._queue = StepQueue(reactor, self._next)
        self._connection: Connection | None = None

    @returns_deferred
    async def open(self) -> None:
        """Connect."""
        self._connection = await self._workers.run(self._connect)
        self._queue.open()

    def write(self, step: Step[Any]) -> Deferred[Any]:
        """Queue a step for the next transaction."""
        return self._queue.put(step)

    @returns_deferred
    async def close(self) -> None:
        """Carry out what is queued, then disconnect. Repeatable."""
        await self._queue.close()
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._workers.run(connection.close)
        await self._workers.stop()

    def _next(self) -> None:
        steps = self._queue.first(self._batch_max)
        if steps:
            Deferred.fromCoroutine(self._run(steps)).addBoth(self._committed, len(steps))
        else:
            self._queue.rest()

    async def _run(self, steps: list[Step[Any]]) -> list[Outcome]:
        connection = self._connection
        assert connection is not None, "what was queued came after the connection"
        if not self._committer.is_ready:
            await self._committer.make_ready()
        outcomes = self._run_here(connection, steps)
        if outcomes is None:
            outcomes = await self._workers.run(_run_patiently, connection, steps)
        return await self._committer.commit(connection, outcomes, self._workers)

    def _run_here(self, connection: Connection, steps: list[Step[Any]]) -> list[Outcome] | None:
        """Run steps up to the commit; None when that is for a thread to do, from the beginning."""
        now = self._reactor.seconds
        begun = now()
        if not self._pace.is_quick(begun):
            return None
        try:
            connection.execute("PRAGMA busy_timeout = 0")
            outcomes = run_together(connection, steps, lambda: now() - begun > TURN_SECONDS)
        except sqlite3.Error:
            self._pace.blocked(begun)
            return None
        self._pace.took(begun, (now() - begun) / len(outcomes))
        return outcomes

    def _committed(self, outcomes: list[Outcome] | Failure, count: int) -> None:
        if isinstance(outcomes, Failure):
            fault = outcomes.value
            if not isinstance(fault, MetadataUnavailable):
                fault = MetadataUnavailable(f"the metadata file: {fault}")
            outcomes = [Outcome(error=fault)] * count
        self._reactor.callLater(0, self._next)
        if isinstance(outcomes[0].error, TakenOver):
            self._on_taken_over(str(outcomes[0].error))
        self._queue.tell(outcomes)


def _run_patiently(connection: Connection, steps: list[Step[Any]]) -> list[Outcome]:
    connection.execute("PRAGMA busy_timeout = 10000")
    try:
        return run_together(connection, steps)
    except sqlite3.Error as error:
        return failed_together(steps, error)
