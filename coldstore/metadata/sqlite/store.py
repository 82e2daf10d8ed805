"""The store of one SQLite file: opening it, and the choice of who runs the steps."""

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from uuid import uuid4

from twisted.internet.defer import Deferred

from coldstore.interfaces.metadata import Epoch
from coldstore.metadata.sql import users
from coldstore.metadata.sql.database import Database
from coldstore.metadata.sql.executor import Executor
from coldstore.metadata.sql.migrations import Migration
from coldstore.metadata.sql.store import SqlStore
from coldstore.metadata.sqlite.connection import IN_MEMORY, open_for_reading, open_for_writing, told_apart
from coldstore.metadata.sqlite.driver import Connection
from coldstore.metadata.sqlite.erasing import erase_log
from coldstore.metadata.sqlite.executors import InlineExecutor, ThreadedExecutor
from coldstore.metadata.sqlite.schema import migrate, shipped_migrations
from coldstore.model.errors import MetadataUnavailable
from coldstore.util.asynchronous import returns_deferred
from coldstore.util.workers import Reactor

WRITE_BATCH_MAX = 256
"""Steps that one commit may carry: enough to make the fsync cheap, few enough that the first need not wait long."""


def new_appliance_id() -> str:
    """Return an id that no other appliance has."""
    return str(uuid4())


def prepare(
    connection: sqlite3.Connection, migrations: Sequence[Migration], *, new_appliance_id: Callable[[], str]
) -> None:
    """
    Make the schema in what is new, and see that anything else has it.

    :raise MetadataUnavailable, SchemaTooNew, SchemaTooOld: it cannot be used
    """
    try:
        migrate(connection, migrations, new_appliance_id=new_appliance_id)
    except sqlite3.Error as error:
        raise told_apart(error) from error


async def begin_epoch(db: Database, *, at: float, host: str) -> Epoch:
    """Begin an epoch, as which this connection writes from now on."""
    epoch = await users.take_epoch(db, at=at, host=host)
    assert isinstance(db, Connection), db
    db.epoch = epoch.number
    return epoch


class SqliteStore(SqlStore):
    """
    The metadata in one SQLite file.

    :param path: the file, made with mode 0600 if it is missing, in a directory that exists; or ``:memory:``
    :param reactor: where Deferreds fire while threads of the store do the work. None: every step runs at once, on the
        caller's thread and one connection (for unit tests and simulations; the only way for ``:memory:``)
    :param new_appliance_id: names a store that is new
    :param write_batch_max: most steps in one commit
    """

    def __init__(
        self,
        path: str,
        *,
        reactor: "Reactor | None" = None,
        new_appliance_id: Callable[[], str] = new_appliance_id,
        migrations: Sequence[Migration] | None = None,
        write_batch_max: int = WRITE_BATCH_MAX,
    ) -> None:
        self._path = path
        self._reactor = reactor
        self._migrations = shipped_migrations() if migrations is None else migrations
        self._new_appliance_id = new_appliance_id
        executor: Executor
        if reactor is None:
            executor = InlineExecutor(connect=self._connect, on_taken_over=self.taken_over)
        elif path == IN_MEMORY:
            raise ValueError("a database in memory has one connection: no threads can share it")
        else:
            executor = ThreadedExecutor(
                connect=self._connect,
                connect_reader=partial(open_for_reading, path),
                reactor=reactor,
                write_batch_max=write_batch_max,
                on_taken_over=self.taken_over,
            )
        super().__init__(executor)

    def take_epoch(self, *, at: float, host: str) -> Deferred[Epoch]:
        """Begin a new run: from now on no earlier one writes, and this one not once there is a later one."""
        return self._write(begin_epoch, at=at, host=host)

    @returns_deferred
    async def forget_plain_secrets(self) -> None:
        """Erase secrets in the clear, from the file and from its log."""
        await super().forget_plain_secrets()
        await erase_log(self._path, self._reactor)

    def _connect(self) -> Connection:
        try:
            connection = open_for_writing(self._path)
        except (sqlite3.Error, OSError) as error:
            raise MetadataUnavailable(f"{self._path}: {error}") from error
        try:
            prepare(connection, self._migrations, new_appliance_id=self._new_appliance_id)
        except Exception:
            connection.close()
            raise
        return connection
