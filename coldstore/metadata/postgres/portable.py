"""A PostgreSQL database as rows: see ``metadata.portable``."""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from coldstore.metadata.portable.stores import Act, Key, Row, Standing
from coldstore.metadata.postgres.client import Address, Connection
from coldstore.metadata.postgres.database import Statements
from coldstore.metadata.postgres.dialect import plain
from coldstore.metadata.postgres.schema import applied, migrate, shipped_migrations
from coldstore.metadata.postgres.sessions import FENCE, settle
from coldstore.metadata.sql import whole
from coldstore.metadata.sql.database import Database
from coldstore.metadata.sql.migrations import Migration, missing
from coldstore.metadata.sql.tables import TABLES, Table
from coldstore.metadata.sqlite.portable import tables_at
from coldstore.model.errors import MetadataUnavailable

_T = TypeVar("_T")
MANY_ROWS = 1_000_000
"""Of so many the server's own estimate is enough, which costs nothing."""


async def connected(
    address: Address,
    reactor: Any,
    *,
    connect_seconds: float,
    answer_seconds: float,
    is_reader: bool,
    begun: Callable[[Connection], Awaitable[object]] | None = None,
) -> Connection:
    """
    Return a connection whose session has begun.

    :param is_reader: whether it only reads; otherwise it has the fence of the one writer
    :param begun: what else belongs to the session
    :raise MetadataUnavailable: there is no server, it does not let us in, or somebody else writes
    """
    connection = Connection(address, reactor=reactor, answer_seconds=answer_seconds)

    async def begin(fresh: Connection) -> None:
        await settle(fresh, answer_seconds=answer_seconds, is_reader=is_reader)
        if not is_reader:
            await fresh.fence(FENCE)
        if begun is not None:
            await begun(fresh)

    await connection.connect(connect_seconds, begin)
    return connection


class PostgresSnapshot:
    """See ``Snapshot``: a transaction on a connection of its own."""

    def __init__(self, connection: Connection, schema: int) -> None:
        self.tables = tables_at(schema)
        self._connection = connection
        self._db = Statements(connection)
        self._schema = schema

    @classmethod
    async def begin(cls, connection: Connection) -> "PostgresSnapshot":
        """
        Begin to read.

        :param connection: nobody else uses it; it is closed with the snapshot
        :raise MetadataUnavailable: there are no metadata
        """
        await connection.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        schema = max(await applied(connection), default=0)
        if not schema:
            connection.close()
            raise MetadataUnavailable(f"{connection.address} holds no metadata")
        return cls(connection, schema)

    async def standing(self) -> Standing:
        """See ``Snapshot``."""
        return await whole.standing(self._db, schema=self._schema)

    async def page(self, table: Table, after: Key | None, limit: int) -> list[Row]:
        """See ``Snapshot``."""
        return await whole.page(self._db, table, after, limit)

    async def count(self, table: Table) -> int:
        """See ``Snapshot``."""
        about = (
            await self._connection.run(
                "SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass", (table.name,)
            )
        ).rows[0][0]
        return int(about) if about >= MANY_ROWS else await whole.count(self._db, table)

    async def close(self) -> None:
        """See ``Snapshot``."""
        self._connection.close()


class PortablePostgres:
    """See ``Portable``. The fence keeps appliances away for as long as this lives."""

    def __init__(
        self, connection: Connection, *, name: str, read: Callable[[], Awaitable[Connection]]
    ) -> None:
        """Use ``begin``. ``read`` gives another connection, to read."""
        self.name = name
        self._connection = connection
        self._read = read

    @classmethod
    async def begin(
        cls,
        connection: Connection,
        *,
        name: str,
        read: Callable[[], Awaitable[Connection]],
        new_appliance_id: Callable[[], str],
    ) -> "PortablePostgres":
        """
        Make the schema of a database that is empty.

        :param connection: has the fence; it is closed with this
        :raise SchemaTooNew, SchemaTooOld, MigrationAltered: it cannot be used
        """
        try:
            await migrate(
                connection, shipped_migrations(), new_appliance_id=new_appliance_id, is_upgrade=False
            )
        except BaseException:
            connection.close()
            raise
        return cls(connection, name=name, read=read)

    def as_kept(self, rows: Sequence[Row]) -> list[Row]:
        """See ``Portable``: a text cannot hold NUL."""
        return [tuple([plain(value) for value in row]) for row in rows]

    async def snapshot(self) -> PostgresSnapshot:
        """See ``Portable``."""
        return await PostgresSnapshot.begin(await self._read())

    async def mark(self, *, arriving_from: str | None = None, moved_to: str | None = None) -> None:
        """See ``Portable``."""
        await self._do(lambda db: whole.mark(db, arriving_from=arriving_from, moved_to=moved_to))

    async def last_key(self, table: Table) -> Key | None:
        """See ``Portable``."""
        return await whole.last_key(Statements(self._connection), table)

    async def reached(self, table: Table) -> Key | None:
        """See ``Portable``: each ``put`` is one step."""
        return await self.last_key(table)

    async def put(self, table: Table, rows: Sequence[Row]) -> None:
        """See ``Portable``."""
        await self._do(lambda db: whole.put(db, table, rows))

    async def remove(self, table: Table, limit: int) -> int:
        """See ``Portable``."""
        return await self._do(lambda db: whole.remove(db, table, limit))

    async def settle(self, *, appliance_id: str, last_version: int, act: Act | None) -> None:
        """See ``Portable``."""

        async def settled(db: Database) -> None:
            for table in TABLES:
                if table.identity is not None:
                    # The third argument: whether that number was given away.
                    await db.do(
                        f"SELECT setval(pg_get_serial_sequence('{table.name}', '{table.identity}'),"
                        f" greatest(coalesce(max({table.identity}), 1), 1), coalesce(max({table.identity}), 0) >= 1)"
                        f" FROM {table.name}"
                    )
            await whole.settle(db, appliance_id=appliance_id, last_version=last_version, act=act)

        await self._do(settled)

    async def close(self) -> None:
        """See ``Portable``."""
        self._connection.close()

    async def _do(self, step: Callable[[Database], Coroutine[Any, Any, _T]]) -> _T:
        """Run a step in a transaction of its own."""
        db = Statements(self._connection)
        db.hold_word(b"BEGIN")
        try:
            result = await step(db)
            await self._connection.commit(db.taken())
        except BaseException:
            # Whatever it was, nothing more is to be done on this connection: what has come so far says how to go on.
            self._connection.close()
            raise
        return result


async def needed_by(connection: Connection) -> list[Migration]:
    """
    Return the migrations that an upgrade applies.

    :raise SchemaTooNew, MigrationAltered: it cannot be upgraded
    """
    return missing(await applied(connection), shipped_migrations(), is_upgrade=True)


async def upgrade(connection: Connection, *, new_appliance_id: Callable[[], str]) -> None:
    """Apply them, in one transaction, behind the fence."""
    await migrate(connection, shipped_migrations(), new_appliance_id=new_appliance_id, is_upgrade=True)
