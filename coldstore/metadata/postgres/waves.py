"""
Steps side by side: what many of them ask is asked as one question, what they write is written as one statement.

A server across a network answers some hundred texts a second, whatever is in them. Steps that touch nothing in common (``footprints``)
come to the same in whatever order they go, so all of a wave are run up to what each wants to know; then what they have written is
sent, like statements merged, together with the first question of many; the answers set them going again. A wave takes as many round
trips as its longest step has questions one after the other.
"""

from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from typing import Any

from coldstore.metadata.postgres.database import Statements
from coldstore.metadata.postgres.dialect import DIALECT
from coldstore.metadata.postgres.merging import Asked, Writes, is_question, questions
from coldstore.metadata.sql.bounds import check_changes
from coldstore.metadata.sql.database import Row
from coldstore.metadata.sql.executor import Outcome, Step
from coldstore.metadata.sql.footprints import Footprint, footprint_of

Shuffle = Callable[[list[Any]], None]
"""Puts a list into another order."""


class Undone(Exception):
    """
    Something went wrong after something was changed: the transaction is to be undone up to where the steps began.

    :ivar error: what went wrong
    :ivar step: the number of the step whose fault it was; None if it showed only in what was merged
    """

    def __init__(self, error: Exception, step: int | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.step = step


def waves_of(footprints: Iterable[Footprint | None]) -> list[list[int]]:
    """
    Part steps into waves, of whose steps no two touch the same; return their numbers.

    A step is in the first wave behind those of all that it has something in common with and that were before it. One without a footprint
    has something in common with every other.
    """
    waves: list[list[int]] = []
    last: dict[object, int] = {}
    first = 0
    for number, footprint in enumerate(footprints):
        if footprint is None:
            waves.append([number])
            first = len(waves)
            continue
        at = max((last.get(name, -1) + 1 for name in footprint), default=0)
        at = max(at, first)
        if at == len(waves):
            waves.append([])
        waves[at].append(number)
        for name in footprint:
            last[name] = at
    return waves


async def run_in_waves(
    db: Statements, steps: Sequence[Step[Any]], *, shuffle: Shuffle | None = None
) -> list[Outcome]:
    """
    Run steps in the transaction that a connection is in, as if one after the other; return what each came to.

    What they wrote last may still be held back by ``db``.

    :param shuffle: puts the steps of each wave into another order, which must make no difference
    :raise Undone: the transaction is to be undone
    """
    outcomes: list[Outcome] = [Outcome()] * len(steps)
    for wave in waves_of(map(footprint_of, steps)):
        if shuffle is not None:
            shuffle(wave)
        try:
            found = await side_by_side(db, [steps[number] for number in wave])
        except Undone as undone:
            raise Undone(undone.error, None if undone.step is None else wave[undone.step]) from undone.error
        for number, outcome in zip(wave, found, strict=True):
            outcomes[number] = outcome
    return outcomes


async def side_by_side(db: Statements, steps: Sequence[Step[Any]]) -> list[Outcome]:
    """
    Run steps that touch nothing in common; return what each came to.

    :raise Undone: one failed that had changed something, or what was sent for all of them did
    """
    writes = Writes()
    running = [_Running(number, step, writes, db.next_number) for number, step in enumerate(steps)]
    try:
        waiting = [each for each in running if each.goes_on()]
        while waiting:
            asking, waiting = waiting, []
            asked = [
                Asked((each, at), each.ask.statement, arguments)
                for each in asking
                for at, arguments in enumerate(each.ask.each)
            ]
            waiting += [each for each in asking if each.ask.left == 0 and each.goes_on()]
            for question in questions(asked):
                for text in writes.taken():
                    await db.hold(text)
                answer = await db.ask(question.text)
                changed = 0 if is_question(question.of[0].statement) else max(0, answer.touched)
                for one, rows in zip(question.of, question.answers(answer.rows), strict=True):
                    each, at = one.asker
                    each.ask.tell(at, rows, answer.touched)
                    each.db.changed += changed
                    if each.ask.left == 0 and each.goes_on():
                        waiting.append(each)
        for text in writes.taken():
            await db.hold(text)
    except Undone:
        raise
    except Exception as error:
        raise Undone(error, None) from error
    finally:
        for each in running:
            each.close()
    return [each.outcome for each in running]


class _Ask:
    """
    A question that a step waits with, with one or several arguments.

    :ivar left: how many are not answered
    """

    __slots__ = ("each", "found", "left", "statement", "touched")

    def __init__(self, statement: str, each: Sequence[Sequence[object]]) -> None:
        self.statement = statement
        self.each = each
        self.left = len(each)
        self.found: list[list[Row]] = [[] for _ in each]
        self.touched = -1

    def __await__(self) -> Generator["_Ask", None, "_Ask"]:
        yield self
        return self

    def tell(self, at: int, rows: list[Row], touched: int) -> None:
        """Take the answer for the arguments of a number."""
        self.found[at] = rows
        self.touched = touched
        self.left -= 1


class _StepDatabase:
    """
    The ``Database`` of one step of a wave.

    :ivar changed: rows that it has changed; of ``do`` each statement counts as one
    """

    __slots__ = ("_number", "_writes", "changed")
    dialect = DIALECT

    def __init__(self, writes: Writes, number: Callable[[], int]) -> None:
        self._writes = writes
        self._number = number
        self.changed = 0

    async def rows(self, statement: str, arguments: Sequence[object] = ()) -> list[Row]:
        """See ``Database``."""
        return (await _Ask(statement, (arguments,))).found[0]

    async def row(self, statement: str, arguments: Sequence[object] = ()) -> Any:
        """See ``Database``."""
        return next(iter((await _Ask(statement, (arguments,))).found[0]), None)

    async def rows_of_each(self, statement: str, each: Sequence[Sequence[object]]) -> list[list[Row]]:
        """See ``Database``."""
        return (await _Ask(statement, each)).found

    async def change(self, statement: str, arguments: Sequence[object] = ()) -> int:
        """See ``Database``."""
        return (await _Ask(statement, (arguments,))).touched

    async def do(self, statement: str, arguments: Sequence[object] = ()) -> None:
        """See ``Database``."""
        self.changed += 1
        self._writes.do(self, statement, arguments)

    async def insert(self, table: str, columns: str, row: Sequence[object]) -> None:
        """See ``Database``."""
        self.changed += 1
        self._writes.insert(self, table, columns, row)

    async def add(self, table: str, key: str, sums: str, row: Sequence[object]) -> None:
        """See ``Database``."""
        self.changed += 1
        self._writes.add(table, key, sums, row)

    async def number(self) -> int:
        """See ``Database``."""
        return self._number()


class _Running:
    """A step on its way."""

    __slots__ = ("_begin", "_step", "ask", "db", "number", "outcome")

    def __init__(self, number: int, step: Step[Any], writes: Writes, next_number: Callable[[], int]) -> None:
        self.number = number
        self.db = _StepDatabase(writes, next_number)
        self._begin = step
        self._step: Coroutine[Any, Any, Any] | None = None
        self.outcome = Outcome()
        self.ask: _Ask

    def goes_on(self) -> bool:
        """
        Let it go on to its next question; return whether it has one.

        :raise Undone: it failed and had changed something
        """
        try:
            if self._step is None:
                self._step = self._begin(self.db)
            ask = self._step.send(None)
        except StopIteration as end:
            self.outcome = Outcome(result=end.value)
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for this step, and reaches him
            self.outcome = Outcome(error=error)
        else:
            assert isinstance(ask, _Ask), f"{self._step} waits for something else than its database"
            self.ask = ask
            return True
        try:
            check_changes(self.db.changed)
        except Exception as error:  # noqa: BLE001 - as above
            self.outcome = Outcome(error=error)
        if self.outcome.error is not None and self.db.changed:
            raise Undone(self.outcome.error, self.number)
        return False

    def close(self) -> None:
        """Let it go no further."""
        if self._step is not None:
            self._step.close()
