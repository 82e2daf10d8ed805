"""Questions that change nothing, on a few connections of their own."""

from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from itertools import count as count_up
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from coldstore.metadata.postgres.client import Connection
from coldstore.metadata.postgres.database import Statements
from coldstore.metadata.postgres.lasting import LastingConnection
from coldstore.metadata.postgres.merging import QUESTIONS_MAX
from coldstore.metadata.postgres.sessions import Make, settle
from coldstore.metadata.postgres.waves import Undone, side_by_side
from coldstore.metadata.sql.executor import QUEUE_MAX, Outcome, Step, closed, too_many
from coldstore.model.errors import MetadataUnavailable
from coldstore.util.asynchronous import all_of, returns_deferred

ATTEMPTS_MAX = 3
"""How often a question may lose its connection: perhaps it is the question that ends it."""
LOOK_UPS_MAX = QUESTIONS_MAX
"""Look-ups that are asked together: all of them are answered when the last one is."""


@dataclass(slots=True)
class _Question:
    """A step that waits, or is under way; those that came later have a greater number."""

    number: int
    step: Step[Any]
    told: Deferred[Any]
    attempts: int = 0


class Readers:
    """
    Gives questions to connections that are free, the first to come first; one whose connection ends gets another.

    Look-ups of one turn of the reactor, and those that came while no connection was free, are asked together. Of several connections
    reads leave one to them: they are short, and every request waits for one. For the others both are given out as they came.
    """

    log = Logger()

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
            ((is_standby,),) = (await connection.run("SELECT pg_is_in_recovery()")).rows
            if is_standby:
                raise MetadataUnavailable(
                    f"{connection.address} is a standby: it may not know yet what was told to be done"
                )

        self._all = [
            LastingConnection(
                self._made, clock=clock, connect_seconds=connect_seconds, begun=begun, up=self._next
            )
            for _ in range(count)
        ]
        self._reads_max = max(1, count - 1)
        self._numbers = count_up()
        self._reads: deque[_Question] = deque()
        self._look_ups: deque[_Question] = deque()
        self._reading: set[Connection] = set()
        self._looking_up: set[Connection] = set()
        self._is_called = False
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
        return self._asked(self._reads, step, self._next)

    def look_up(self, step: Step[Any]) -> Deferred[Any]:
        """Run a step of one question, or of a few that need not belong together."""
        return self._asked(self._look_ups, step, self._call_next)

    @returns_deferred
    async def close(self) -> None:
        """Answer what is asked, then disconnect. Repeatable."""
        self._is_open = False
        if self._is_at_work():
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

    def _asked(self, waiting: deque[_Question], step: Step[Any], then: Callable[[], None]) -> Deferred[Any]:
        if not self._is_open:
            return fail(closed())
        if len(waiting) >= QUEUE_MAX:
            return fail(too_many())
        question = _Question(next(self._numbers), step, Deferred(lambda _: None))
        waiting.append(question)
        then()
        return question.told

    def _call_next(self) -> None:
        """Look for free connections when this turn of the reactor has brought all that it brings."""
        if not self._is_called:
            self._is_called = True
            self._clock.callLater(0, self._next)

    def _next(self) -> None:
        """Give out as many questions as there are free connections; without any, wait for one or give up."""
        self._is_called = False
        # Looked for each time: one that has its answers at once gives out others itself.
        while (connection := self._free()) is not None:
            reads = self._reads if len(self._reading) < self._reads_max else ()
            if self._look_ups and not (reads and reads[0].number < self._look_ups[0].number):
                self._looking_up.add(connection)
                self._let(self._looked_up(connection, self._next_look_ups()))
            elif reads:
                self._reading.add(connection)
                self._let(self._read(connection, self._reads.popleft()))
            else:
                break
        is_up = any(each.connection is not None for each in self._all)
        if (self._reads or self._look_ups) and not is_up and self._giving_up is None:
            left = self._lost_at + self._connect_seconds - self._clock.seconds()
            self._giving_up = self._clock.callLater(max(0.0, left), self._give_up)
        if not self._is_at_work():
            drained, self._drained = self._drained, []
            for each in drained:
                each.callback(None)

    def _let(self, answering: Coroutine[Any, Any, None]) -> None:
        """Let a connection answer; whoever asked is told by it, and a mistake of ours is not lost."""
        Deferred.fromCoroutine(answering).addErrback(
            lambda failure: self.log.failure("questions about the metadata were left unanswered", failure)
        )

    def _free(self) -> Connection | None:
        """Return a connection that nobody uses."""
        for each in self._all:
            connection = each.connection
            if connection is not None and connection not in self._reading | self._looking_up:
                return connection
        return None

    def _next_look_ups(self) -> list[_Question]:
        """Take those that are to be asked together. One that has lost its connection is alone: perhaps it is what ends it."""
        together = [self._look_ups.popleft()]
        while (
            self._look_ups
            and len(together) < LOOK_UPS_MAX
            and not together[-1].attempts
            and not self._look_ups[0].attempts
        ):
            together.append(self._look_ups.popleft())
        return together

    def _is_at_work(self) -> bool:
        return bool(self._reads or self._look_ups or self._reading or self._looking_up)

    def _give_up(self) -> None:
        self._giving_up = None
        if any(each.connection is not None for each in self._all):
            return
        waiting = [*self._reads, *self._look_ups]
        self._reads.clear()
        self._look_ups.clear()
        for question in waiting:
            Outcome(error=MetadataUnavailable(self._all[0].trouble)).tell(question.told)
        self._next()

    async def _read(self, connection: Connection, question: _Question) -> None:
        db = Statements(connection)
        db.hold_word(b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        outcome = await _outcome(db, question)
        self._tell(connection, self._reads, [question], [outcome])
        if connection.ended is None:
            try:
                await connection.run(b"ROLLBACK")
            except Exception as error:  # noqa: BLE001 - the answer was given, and the connection is not used again
                connection.give_up(f"a transaction did not end: {error}")
        self._reading.discard(connection)
        self._next()

    async def _looked_up(self, connection: Connection, together: list[_Question]) -> None:
        db = Statements(connection)
        try:
            outcomes = await side_by_side(db, [question.step for question in together])
        except Undone:
            # What is wrong with one of them is wrong with the text.
            outcomes = [await _outcome(db, question) for question in together]
        self._tell(connection, self._look_ups, together, outcomes)
        self._looking_up.discard(connection)
        self._next()

    def _tell(
        self,
        connection: Connection,
        waiting: deque[_Question],
        questions: list[_Question],
        outcomes: list[Outcome],
    ) -> None:
        """Tell what questions came to; those whose connection has ended are asked again."""
        again = []
        for question, outcome in zip(questions, outcomes, strict=True):
            question.attempts += 1
            if (
                outcome.error is not None
                and connection.ended is not None
                and question.attempts < ATTEMPTS_MAX
            ):
                again.append(question)
            else:
                outcome.tell(question.told)
        waiting.extendleft(reversed(again))


async def _outcome(db: Statements, question: _Question) -> Outcome:
    """Run a step alone; return what it came to."""
    try:
        return Outcome(result=await question.step(db))
    except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for this step, and reaches him
        return Outcome(error=error)
