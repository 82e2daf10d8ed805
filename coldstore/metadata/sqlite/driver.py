"""Steps on SQLite: whatever they ask is answered at once, so that a step never waits."""

import sqlite3
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from coldstore.metadata.sql.database import Dialect, Duplicate, Row
from coldstore.metadata.sql.writing import adding, inserting

_T = TypeVar("_T")
_NUMBER = "UPDATE store SET last_version = last_version + 1 RETURNING last_version"
_DUPLICATE = (sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)


class Connection(sqlite3.Connection):
    """
    A connection, and the ``Database`` of whatever transaction it is in.

    :ivar epoch: the run that writes through it, None before one was begun
    """

    epoch: int | None = None
    dialect = Dialect(
        greatest="max",
        least="min",
        nested_join="CROSS JOIN",
        index_hint="INDEXED BY {}",
        bytes_type="BLOB",
        bytes_position="instr({whole}, {part})",
        overwriting="PRAGMA secure_delete = {}",
    )

    def begin(self) -> None:
        """Begin a transaction that writes."""
        self.execute("BEGIN IMMEDIATE")

    @property
    def row_changes(self) -> int:
        """How many rows were changed so far; what it has grown by is what a step has changed."""
        return self.total_changes

    def takes_step(self) -> bool:
        """Whether the transaction may hold what its last step changed; if not, that is rolled back."""
        return True

    def is_full(self) -> bool:
        """Whether the next step may be one too many."""
        return False

    def is_too_heavy(self) -> bool:
        """Whether the steps of the transaction are too much for one; if so, that is rolled back."""
        return False

    async def rows(self, statement: str, arguments: Sequence[object] = ()) -> list[Row]:
        """See ``Database``."""
        return self.execute(statement, arguments).fetchall()

    async def row(self, statement: str, arguments: Sequence[object] = ()) -> Any:
        """See ``Database``."""
        return self.execute(statement, arguments).fetchone()

    async def rows_of_each(self, statement: str, each: Sequence[Sequence[object]]) -> list[list[Row]]:
        """See ``Database``."""
        return [self.execute(statement, arguments).fetchall() for arguments in each]

    async def change(self, statement: str, arguments: Sequence[object] = ()) -> int:
        """See ``Database``."""
        try:
            return self.execute(statement, arguments).rowcount
        except sqlite3.IntegrityError as error:
            raise _named(error) from None

    async def do(self, statement: str, arguments: Sequence[object] = ()) -> None:
        """See ``Database``."""
        self.execute(statement, arguments)

    async def insert(self, table: str, columns: str, row: Sequence[object]) -> None:
        """See ``Database``."""
        try:
            self.execute(inserting(table, columns), row)
        except sqlite3.IntegrityError as error:
            raise _named(error) from None

    async def add(self, table: str, key: str, sums: str, row: Sequence[object]) -> None:
        """See ``Database``."""
        self.execute(adding(table, key, sums), row)

    async def number(self) -> int:
        """See ``Database``."""
        (number,) = self.execute(_NUMBER).fetchone()
        return int(number)


def finished(step: Coroutine[Any, Any, _T]) -> _T:
    """Run a step to its end; return what it returns, or raise what it raises."""
    try:
        step.send(None)
    except StopIteration as end:
        result: _T = end.value
        return result
    step.close()
    raise AssertionError(f"{step} waits for something else than its database")


def _named(error: sqlite3.IntegrityError) -> Exception:
    """Tell a duplicate from other constraints, which only a bug can break."""
    return Duplicate(str(error)) if error.sqlite_errorcode in _DUPLICATE else error
