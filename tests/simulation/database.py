"""
The metadata in memory: the real store's steps on a database that survives the process, and that can be away.

A commit is durable or has not happened. When the database goes away in the middle of one, the process cannot know which.
"""

import sqlite3
from collections.abc import Callable
from enum import Enum
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail, succeed

from coldstore.interfaces.metadata import Epoch
from coldstore.metadata.sql.executor import Executor, Outcome, Step
from coldstore.metadata.sql.store import SqlStore
from coldstore.metadata.sqlite.connection import IN_MEMORY, STATEMENTS_KEPT
from coldstore.metadata.sqlite.driver import Connection
from coldstore.metadata.sqlite.groupcommit import commit_together, outcome_of
from coldstore.metadata.sqlite.schema import shipped_migrations
from coldstore.metadata.sqlite.store import begin_epoch, prepare
from coldstore.model.errors import MetadataUnavailable, TakenOver
from tests.simulation.life import Life

_T = TypeVar("_T")

MIGRATIONS = shipped_migrations()
APPLIANCE_ID = "00000000-0000-4000-8000-000000000001"


RECORDED = "the record takes something from an appliance that was taken over"
"""A complaint."""


class Loss(Enum):
    """How a transaction fails."""

    BEFORE = "before it was committed"
    AFTER = "after it was committed"


class Database:
    """
    What survives the process.

    :ivar loss: decides for each transaction whether and how it fails
    """

    def __init__(self) -> None:
        self.connection = sqlite3.connect(
            IN_MEMORY, factory=Connection, isolation_level=None, cached_statements=STATEMENTS_KEPT
        )
        self.connection.execute("PRAGMA foreign_keys = ON")
        self.loss: Callable[[], Loss | None] = lambda: None
        self.is_away = False

    def store(self, life: Life, seconds: Callable[[], float]) -> SqlStore:
        """Return what one process has of it; ``seconds`` gives the time that the next transaction takes."""
        return LifeStore(LifeExecutor(self, life, seconds))


class LifeStore(SqlStore):
    """The store of one process; see ``SqliteStore``."""

    def __init__(self, executor: "LifeExecutor") -> None:
        super().__init__(executor)
        executor.on_taken_over = self.taken_over

    def take_epoch(self, *, at: float, host: str) -> "Deferred[Epoch]":
        """Begin a new run: from now on no earlier one writes."""
        return self._write(begin_epoch, at=at, host=host)


class LifeExecutor(Executor):
    """Group commit without threads; see ``Executor``."""

    def __init__(self, database: Database, life: Life, seconds: Callable[[], float]) -> None:
        self._database = database
        self._life = life
        self._seconds = seconds
        self.on_taken_over: Callable[[str], None] = lambda _: None
        self._epoch: int | None = None
        self._waiting: list[tuple[Step[Any], Deferred[Any]]] = []
        self._is_busy = False
        self._is_open = False
        self._under_way = 0
        self._closing: list[Deferred[None]] = []

    def open(self) -> "Deferred[None]":
        """See ``Executor``."""
        self._life.effect("open the database")
        if self._database.is_away:
            return fail(MetadataUnavailable("the database is away"))
        prepare(self._database.connection, MIGRATIONS, new_appliance_id=lambda: APPLIANCE_ID)
        self._is_open = True
        return succeed(None)

    def close(self) -> "Deferred[None]":
        """See ``Executor``."""
        self._is_open = False
        if not self._under_way:
            return succeed(None)
        closed: Deferred[None] = Deferred()
        self._closing.append(closed)
        return closed

    def write(self, step: Step[_T]) -> "Deferred[_T]":
        """See ``Executor``."""
        self._life.look()
        if not self._is_open:
            return fail(MetadataUnavailable("the database is closed"))
        told: Deferred[Any] = Deferred(lambda _: None)
        self._under_way += 1
        self._waiting.append((step, told))
        if not self._is_busy:
            self._is_busy = True
            self._later(self._commit)
        return told

    def _later(self, function: Callable[..., None], *args: Any, seconds: float | None = None) -> None:
        pause = self._seconds() if seconds is None else seconds
        self._life.reactor.later(self._life, pause, function, args, {})

    def _commit(self) -> None:
        batch, self._waiting = self._waiting, []
        loss = Loss.BEFORE if self._database.is_away else self._database.loss()
        lost = [Outcome(error=MetadataUnavailable("the connection to the database was lost"))] * len(batch)
        if loss is Loss.BEFORE:
            outcomes = lost
        else:
            self._life.effect("commit")
            # The connection is that of whoever uses it now.
            connection = self._database.connection
            connection.epoch = self._epoch
            outcomes = commit_together(connection, [step for step, _ in batch])
            self._epoch = connection.epoch
            if self._life.taken_over_at is not None and any(each.error is None for each in outcomes):
                self._life.misdeeds.append(RECORDED)
            if isinstance(outcomes[0].error, TakenOver):
                self.on_taken_over(str(outcomes[0].error))
            if loss is Loss.AFTER:
                outcomes = lost
        if self._waiting:
            self._later(self._commit)
        else:
            self._is_busy = False
        for (_, told), outcome in zip(batch, outcomes, strict=True):
            self._tell(told, outcome)

    def read(self, step: Step[_T]) -> "Deferred[_T]":
        """See ``Executor``."""
        self._life.look()
        if not self._is_open:
            return fail(MetadataUnavailable("the database is closed"))
        told: Deferred[Any] = Deferred(lambda _: None)
        self._under_way += 1
        self._later(self._read, step, told, seconds=0.0)
        return told

    def _read(self, step: Step[Any], told: "Deferred[Any]") -> None:
        self._tell(told, self._outcome(step))

    def _outcome(self, step: Step[Any]) -> Outcome:
        if self._database.is_away:
            return Outcome(error=MetadataUnavailable("the database is away"))
        # Nobody else can write meanwhile, so it needs no transaction to see one state.
        return outcome_of(self._database.connection, step)

    def look_up(self, step: Step[_T]) -> "Deferred[_T]":
        """See ``Executor``."""
        self._life.look()
        if not self._is_open:
            return fail(MetadataUnavailable("the database is closed"))
        outcome = self._outcome(step)
        return succeed(outcome.result) if outcome.error is None else fail(outcome.error)

    def _tell(self, told: "Deferred[Any]", outcome: Outcome) -> None:
        if self._life.is_over:
            return
        self._under_way -= 1
        if not told.called:
            if outcome.error is None:
                told.callback(outcome.result)
            else:
                told.errback(outcome.error)
        if not self._under_way:
            closing, self._closing = self._closing, []
            for each in closing:
                each.callback(None)
