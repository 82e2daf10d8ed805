"""The ``Database`` on a connection: what a step asks or does is sent at once, in front of it whatever was held back."""

from collections.abc import Callable, Sequence
from typing import Any

from coldstore.metadata.postgres.client import Answer, Connection
from coldstore.metadata.postgres.dialect import DIALECT, plain, translated
from coldstore.metadata.postgres.merging import TEXT_BYTES_MAX, Asked, Text, questions
from coldstore.metadata.sql.database import Row
from coldstore.metadata.sql.writing import adding, inserting


def _no_number() -> int:
    raise AssertionError("whoever only reads has no numbers to give")


class Statements:
    """
    Statements on a connection, of the transaction that it is in or each in one of its own.

    :ivar changed: rows that were inserted, changed or deleted
    """

    dialect = DIALECT

    def __init__(self, connection: Connection, *, number: Callable[[], int] = _no_number) -> None:
        """:param number: gives versions their numbers"""
        self.connection = connection
        self.next_number = number
        self.changed = 0
        self._held: list[bytes] = []
        self._held_bytes = 0

    async def rows(self, statement: str, arguments: Sequence[object] = ()) -> list[Row]:
        """See ``Database``."""
        return (await self._ask(translated(statement), arguments)).rows

    async def row(self, statement: str, arguments: Sequence[object] = ()) -> Any:
        """See ``Database``."""
        return next(iter((await self._ask(translated(statement), arguments)).rows), None)

    async def rows_of_each(self, statement: str, each: Sequence[Sequence[object]]) -> list[list[Row]]:
        """See ``Database``."""
        found: list[list[Row]] = [[] for _ in each]
        for question in questions(Asked(at, statement, arguments) for at, arguments in enumerate(each)):
            answer = await self.ask(question.text)
            for asked, rows in zip(question.of, question.answers(answer.rows), strict=True):
                found[asked.asker] = rows
        return found

    async def change(self, statement: str, arguments: Sequence[object] = ()) -> int:
        """See ``Database``."""
        return (await self._ask(translated(statement), arguments)).touched

    async def do(self, statement: str, arguments: Sequence[object] = ()) -> None:
        """See ``Database``."""
        await self._ask(translated(statement), arguments)

    async def insert(self, table: str, columns: str, row: Sequence[object]) -> None:
        """See ``Database``."""
        await self._ask(translated(inserting(table, columns)), row)

    async def add(self, table: str, key: str, sums: str, row: Sequence[object]) -> None:
        """See ``Database``."""
        await self._ask(translated(adding(table, key, sums)), row)

    async def number(self) -> int:
        """See ``Database``."""
        return self.next_number()

    async def ask(self, text: Text) -> Answer:
        """Send a text, behind what is held back."""
        return await self._ask(text.statement, text.arguments)

    async def hold(self, text: Text) -> None:
        """Have a text go in front of the next one; at once if that becomes much."""
        self.hold_word(self._composed(text.statement, text.arguments))
        if self._held_bytes > TEXT_BYTES_MAX:
            await self.flush()

    def hold_word(self, statement: bytes) -> None:
        """Have a statement without arguments go in front of the next text."""
        self._held.append(statement)
        self._held_bytes += len(statement)

    def taken(self) -> bytes:
        """Return what is held back, which is the caller's now, to be sent or forgotten."""
        text = b";".join(self._held)
        self._held.clear()
        self._held_bytes = 0
        return text

    async def flush(self) -> None:
        """Send what is held back."""
        if self._held:
            await self.connection.run(self.taken())

    async def undo(self) -> None:
        """Forget what is held back, and undo the transaction."""
        self.taken()
        await self.connection.run(b"ROLLBACK")

    async def _ask(self, statement: str, arguments: Sequence[object]) -> Answer:
        self.hold_word(self._composed(statement, arguments))
        answer = await self.connection.run(self.taken())
        if answer.touched > 0 and not answer.status.startswith("SELECT"):
            self.changed += answer.touched
        return answer

    def _composed(self, statement: str, arguments: Sequence[object]) -> bytes:
        return self.connection.text(statement, [plain(each) for each in arguments])
