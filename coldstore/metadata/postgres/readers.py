"""Questions that change nothing, on a few connections of their own."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall

from coldstore.metadata.postgres.client import Connection
from coldstore.metadata.postgres.database import Statements
from coldstore.metadata.postgres.lasting import LastingConnection
from coldstore.metadata.postgres.sessions import Make, settle
from coldstore.metadata.sql.executor import QUEUE_MAX, Outcome, Step, closed, too_many
from coldstore.model.errors import MetadataUnavailable
from coldstore.util.asynchronous import all_of, returns_deferred

ATTEMPTS_MAX = 3
"""How often a question may lose its connection: perhaps it is the question that ends it."""


@dataclass(slots=True)
class _Question:
    """A step that waits, or is under way."""

    step: Step[Any]
    is_of_one_moment: bool
    told: Deferred[Any]
    attempts: int = 0


class Readers:
    """Gives each question to a connection that is free, the first to come first; one whose connection ends gets another."""

    def __init__(
        self,
        make: Make,
        *,
        count: int,
        clock: Any,
        connect_seconds: float,
        answer_seconds: float,
    ) -> None:
        """
        :param count: connections
        :param connect_seconds: for each attempt to connect; also how long questions wait when there is no connection any more
        """
        self._make = make
        self._clock = clock
        self._connect_seconds = connect_seconds

        async def begun(connection: Connection) -> None:
            await settle(connection, answer_seconds=answer_seconds, is_reader=True)

        self._all = [
            LastingConnection(
                self._made, clock=clock, connect_seconds=connect_seconds, begun=begun, up=self._next
            )
            for _ in range(count)
        ]
        self._waiting: deque[_Question] = deque()
        self._busy: set[Connection] = set()
        self._lost_at = 0.0
        self._giving_up: IDelayedCall | None = None
        self._is_open = False
        self._drained: list[Deferred[None]] = []

    @returns_deferred
    async def open(self) -> None:
        """
        Connect.

        :raise MetadataUnavailable: not all connections are to be had
        """
        for each in self._all:
            each.start()
        await all_of(Deferred.fromCoroutine(each.ready(self._connect_seconds)) for each in self._all)
        self._is_open = True

    def read(self, step: Step[Any]) -> Deferred[Any]:
        """Run a step on what there is at one moment, however many questions it asks."""
        return self._asked(step, is_of_one_moment=True)

    def look_up(self, step: Step[Any]) -> Deferred[Any]:
        """Run a step of one question, or of a few that need not belong together."""
        return self._asked(step, is_of_one_moment=False)

    @returns_deferred
    async def close(self) -> None:
        """Answer what is asked, then disconnect. Repeatable."""
        self._is_open = False
        if self._waiting or self._busy:
            drained: Deferred[None] = Deferred()
            self._drained.append(drained)
            await drained
        for each in self._all:
            await each.stop()
        if self._giving_up is not None and self._giving_up.active():
            self._giving_up.cancel()

    def _made(self, lost: Callable[[MetadataUnavailable], None]) -> Connection:
        def has_ended(why: MetadataUnavailable) -> None:
            self._lost_at = self._clock.seconds()
            lost(why)

        return self._make(has_ended)

    def _asked(self, step: Step[Any], *, is_of_one_moment: bool) -> Deferred[Any]:
        if not self._is_open:
            return fail(closed())
        if len(self._waiting) >= QUEUE_MAX:
            return fail(too_many())
        question = _Question(step, is_of_one_moment, Deferred(lambda _: None))
        self._waiting.append(question)
        self._next()
        return question.told

    def _next(self) -> None:
        """Give out as many questions as there are free connections; without any, wait for one or give up."""
        up = [each.connection for each in self._all if each.connection is not None]
        free = [connection for connection in up if connection not in self._busy]
        while self._waiting and free:
            connection = free.pop()
            self._busy.add(connection)
            Deferred.fromCoroutine(self._answered(connection, self._waiting.popleft()))
        if self._waiting and not up and self._giving_up is None:
            left = self._lost_at + self._connect_seconds - self._clock.seconds()
            self._giving_up = self._clock.callLater(max(0.0, left), self._give_up)
        if not self._waiting and not self._busy:
            drained, self._drained = self._drained, []
            for each in drained:
                each.callback(None)

    def _give_up(self) -> None:
        self._giving_up = None
        if any(each.connection is not None for each in self._all):
            return
        waiting, self._waiting = self._waiting, deque()
        for question in waiting:
            Outcome(error=MetadataUnavailable(self._all[0].trouble)).tell(question.told)
        self._next()

    async def _answered(self, connection: Connection, question: _Question) -> None:
        db = Statements(connection)
        if question.is_of_one_moment:
            db.hold(b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            outcome = Outcome(result=await question.step(db))
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for this step, and reaches him
            outcome = Outcome(error=error)
        question.attempts += 1
        if outcome.error is not None and connection.ended is not None and question.attempts < ATTEMPTS_MAX:
            self._waiting.appendleft(question)
        else:
            outcome.tell(question.told)
        if question.is_of_one_moment and connection.ended is None:
            try:
                await connection.run(b"ROLLBACK")
            except Exception as error:  # noqa: BLE001 - the answer was given, and the connection is not used again
                connection.give_up(f"a transaction did not end: {error}")
        self._busy.discard(connection)
        self._next()
