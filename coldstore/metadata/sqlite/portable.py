"""A SQLite file as rows: see ``metadata.portable``. Also one of an older schema can be read."""

import sqlite3
from collections.abc import Coroutine, Sequence
from contextlib import closing
from typing import Any, TypeVar

from coldstore.metadata.portable.stores import Act, Key, Row, Standing
from coldstore.metadata.sql import whole
from coldstore.metadata.sql.migrations import Migration, missing
from coldstore.metadata.sql.tables import ARRIVING_FROM, TABLES, Column, Kind, Table
from coldstore.metadata.sqlite.connection import IN_MEMORY, open_for_reading, open_for_writing, told_apart
from coldstore.metadata.sqlite.driver import Connection, finished
from coldstore.metadata.sqlite.schema import applied, migrate, shipped_migrations
from coldstore.metadata.sqlite.store import new_appliance_id, prepare
from coldstore.model.errors import MetadataUnavailable

_T = TypeVar("_T")
KINDS = {"INTEGER": Kind.INTEGER, "REAL": Kind.REAL, "TEXT": Kind.TEXT, "BLOB": Kind.BYTES}


def tables_of(connection: sqlite3.Connection) -> tuple[Table, ...]:
    """Return the portable tables as a file has them, with the columns of its schema."""
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    return tuple(_table_of(connection, table) for table in TABLES if table.name in there)


def _table_of(connection: sqlite3.Connection, table: Table) -> Table:
    found = connection.execute(f"PRAGMA table_info({table.name})").fetchall()
    columns = tuple(
        Column(name, KINDS[kind], not (is_filled or place)) for _, name, kind, is_filled, _, place in found
    )
    return Table(
        name=table.name, columns=columns, key=table.key, identity=table.identity, rows_max=table.rows_max
    )


def tables_at(schema: int) -> tuple[Table, ...]:
    """Return the portable tables as they were after the migration of a number, in whatever database."""
    migrations = [migration for migration in shipped_migrations() if migration.number <= schema]
    with closing(sqlite3.connect(IN_MEMORY, isolation_level=None)) as connection:
        migrate(connection, migrations, new_appliance_id=str)
        return tables_of(connection)


class SqliteSnapshot:
    """See ``Snapshot``."""

    def __init__(self, path: str) -> None:
        """
        Begin to read.

        :raise MetadataUnavailable: there is no such file, or it cannot be read or holds no metadata
        """
        self._connection = _opened(open_for_reading, path)
        try:
            self._connection.execute("BEGIN")
            self._schema = max(applied(self._connection), default=0)
            self.tables = tables_of(self._connection)
        except sqlite3.Error as error:
            self._connection.close()
            raise MetadataUnavailable(f"{path}: {error}") from error
        if not self._schema:
            self._connection.close()
            raise MetadataUnavailable(f"{path} holds no metadata")

    async def standing(self) -> Standing:
        """See ``Snapshot``."""
        has_marks = any(ARRIVING_FROM in table.column_names for table in self.tables)
        return await _read(whole.standing(self._connection, schema=self._schema, has_marks=has_marks))

    async def page(self, table: Table, after: Key | None, limit: int) -> list[Row]:
        """See ``Snapshot``."""
        return await _read(whole.page(self._connection, table, after, limit))

    async def count(self, table: Table) -> int:
        """See ``Snapshot``."""
        return await _read(whole.count(self._connection, table))

    async def close(self) -> None:
        """See ``Snapshot``."""
        self._connection.close()


class PortableSqlite:
    """
    See ``Portable``.

    Rows that are put are not durable one by one, but the log keeps their order: whatever of it a power failure leaves is a beginning.
    """

    def __init__(self, path: str) -> None:
        """
        Open a file, or make one with the newest schema.

        :raise MetadataUnavailable, SchemaTooNew, SchemaTooOld: it cannot be used
        """
        self.name = f"sqlite:{path}"
        self._path = path
        self._connection = _opened(open_for_writing, path)
        try:
            prepare(self._connection, shipped_migrations(), new_appliance_id=new_appliance_id)
        except BaseException:
            self._connection.close()
            raise

    async def snapshot(self) -> SqliteSnapshot:
        """See ``Portable``."""
        return SqliteSnapshot(self._path)

    def as_kept(self, rows: Sequence[Row]) -> list[Row]:
        """See ``Portable``."""
        return list(rows)

    async def mark(self, *, arriving_from: str | None = None, moved_to: str | None = None) -> None:
        """See ``Portable``."""
        self._do(whole.mark(self._connection, arriving_from=arriving_from, moved_to=moved_to), "FULL")

    async def last_key(self, table: Table) -> Key | None:
        """See ``Portable``."""
        return await _read(whole.last_key(self._connection, table))

    async def reached(self, table: Table) -> Key | None:
        """See ``Portable``: each ``put`` is one step."""
        return await self.last_key(table)

    async def put(self, table: Table, rows: Sequence[Row]) -> None:
        """See ``Portable``."""
        self._do(whole.put(self._connection, table, rows), "NORMAL")

    async def remove(self, table: Table, limit: int) -> int:
        """See ``Portable``."""
        return self._do(whole.remove(self._connection, table, limit), "NORMAL")

    async def settle(self, *, appliance_id: str, last_version: int, act: Act | None) -> None:
        """See ``Portable``."""
        step = whole.settle(self._connection, appliance_id=appliance_id, last_version=last_version, act=act)
        self._do(step, "FULL")

    async def close(self) -> None:
        """See ``Portable``."""
        self._connection.close()

    def _do(self, step: Coroutine[Any, Any, _T], synchronous: str) -> _T:
        """Run a step in a transaction of its own."""
        connection = self._connection
        try:
            connection.execute(f"PRAGMA synchronous = {synchronous}")
            connection.execute("BEGIN IMMEDIATE")
            result = finished(step)
            connection.execute("COMMIT")
        except BaseException as error:
            step.close()
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise told_apart(error) from error
            raise
        return result


async def _read(question: Coroutine[Any, Any, _T]) -> _T:
    """
    Ask a question.

    :raise MetadataUnavailable: the file does not answer
    """
    try:
        return await question
    except sqlite3.Error as error:
        raise told_apart(error) from error


def needed_by(path: str) -> list[Migration]:
    """
    Return the migrations that a file needs.

    :raise MetadataUnavailable, SchemaTooNew, MigrationAltered: it cannot be upgraded
    """
    connection = _opened(open_for_reading, path)
    try:
        return missing(applied(connection), shipped_migrations(), is_upgrade=True)
    except sqlite3.Error as error:
        raise MetadataUnavailable(f"{path}: {error}") from error
    finally:
        connection.close()


def upgrade_file(path: str) -> None:
    """
    Apply them, in one transaction.

    :raise MetadataUnavailable, SchemaTooNew, MigrationAltered: nothing was changed
    """
    connection = _opened(open_for_writing, path)
    try:
        migrate(connection, shipped_migrations(), new_appliance_id=new_appliance_id, is_upgrade=True)
    except sqlite3.Error as error:
        raise told_apart(error) from error
    finally:
        connection.close()


def _opened(open_file: Any, path: str) -> Connection:
    try:
        connection: Connection = open_file(path)
    except (sqlite3.Error, OSError) as error:
        raise MetadataUnavailable(f"{path}: {error}") from error
    return connection
