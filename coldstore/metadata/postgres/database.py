"""The ``Database`` on a connection: questions are sent at once, with all that was to be done before in front of them."""

from collections.abc import Sequence
from typing import Any

from coldstore.metadata.postgres.client import Answer, Connection
from coldstore.metadata.postgres.dialect import DIALECT, adding, inserting, plain, translated
from coldstore.metadata.sql.database import Row

HELD_BYTES_MAX = 256 * 1024
"""Text that is held back; composing and sending more at once would keep the reactor."""


class Statements:
    """
    Statements on a connection, of the transaction that it is in or each in one of its own.

    What ``do``, ``insert`` and ``add`` ask for is held back and goes in front of the next question, as one text; it must not be
    forgotten: ``flush`` sends it. Errors of it show there, too.

    :ivar changed: rows that were inserted, changed or deleted; of what was held back each statement counts as one
    :ivar is_spoilt: whether the server refused something, which ends its transaction unless there is a savepoint
    """

    dialect = DIALECT

    def __init__(self, connection: Connection, *, is_careful: bool = False) -> None:
        """:param is_careful: hold nothing back, so that each error shows where it belongs, and rows are counted exactly"""
        self.connection = connection
        self.is_careful = is_careful
        self.changed = 0
        self.is_spoilt = False
        self._held: list[bytes] = []
        self._held_bytes = 0

    async def rows(self, statement: str, arguments: Sequence[object] = ()) -> list[Row]:
        """See ``Database``."""
        return (await self._ask(translated(statement), arguments)).rows

    async def row(self, statement: str, arguments: Sequence[object] = ()) -> Any:
        """See ``Database``."""
        return next(iter((await self._ask(translated(statement), arguments)).rows), None)

    async def change(self, statement: str, arguments: Sequence[object] = ()) -> int:
        """See ``Database``."""
        return (await self._ask(translated(statement), arguments)).touched

    async def do(self, statement: str, arguments: Sequence[object] = ()) -> None:
        """See ``Database``."""
        await self._do(translated(statement), arguments)

    async def insert(self, table: str, columns: str, row: Sequence[object]) -> None:
        """See ``Database``."""
        await self._do(inserting(table, columns), row)

    async def add(self, table: str, key: str, sums: str, row: Sequence[object]) -> None:
        """See ``Database``."""
        await self._do(adding(table, key, sums), row)

    def hold(self, text: bytes) -> None:
        """Have a statement, with its arguments in place, go in front of the next question."""
        self._held.append(text)
        self._held_bytes += len(text)

    def taken(self) -> bytes:
        """Return what is held back, which is the caller's now to be sent."""
        text = b";".join(self._held)
        self._held.clear()
        self._held_bytes = 0
        return text

    async def flush(self) -> None:
        """Send what is held back."""
        if self._held:
            await self._sent(self.taken())

    async def _do(self, statement: str, arguments: Sequence[object]) -> None:
        if self.is_careful:
            await self._ask(statement, arguments)
            return
        self.changed += 1
        self.hold(self._text(statement, arguments))
        if self._held_bytes > HELD_BYTES_MAX:
            await self.flush()

    async def _ask(self, statement: str, arguments: Sequence[object]) -> Answer:
        self.hold(self._text(statement, arguments))
        answer = await self._sent(self.taken())
        if answer.touched > 0 and not answer.status.startswith("SELECT"):
            self.changed += answer.touched
        return answer

    def _text(self, statement: str, arguments: Sequence[object]) -> bytes:
        return self.connection.text(statement, [plain(each) for each in arguments])

    async def _sent(self, text: bytes) -> Answer:
        try:
            return await self.connection.run(text)
        except Exception:
            self.is_spoilt = True
            raise
