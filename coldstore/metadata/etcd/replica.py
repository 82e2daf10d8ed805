"""
The replica: a SQLite file with the rows that etcd has, in which steps run and from which everything is read.

It can be made anew from etcd at any time, so it is not synced at each commit (``synchronous = NORMAL``): after a power failure it is
whole, and some batches behind. It is never ahead: a batch is committed here when etcd has it. Its mark, the last batch that it
holds, is written with the rows, and tells what it lacks.
"""

import os
import sqlite3
from collections.abc import Awaitable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from twisted.logger import Logger

from coldstore.metadata.etcd.changes import WatchedConnection
from coldstore.metadata.etcd.gateway import Compacted, Event, Gateway, KeyValue, Range, end_of
from coldstore.metadata.etcd.keys import Keys, NotARow, row_of, rows_of
from coldstore.metadata.etcd.log import Batch, batch_in
from coldstore.metadata.etcd.schema import defaults_of
from coldstore.metadata.etcd.walk import Walk
from coldstore.metadata.sql.migrations import Migration
from coldstore.metadata.sql.tables import TABLES, Table
from coldstore.metadata.sqlite.connection import open_as, told_apart
from coldstore.metadata.sqlite.schema import applied, migrate
from coldstore.model.errors import MetadataUnavailable
from coldstore.util.workers import Workers

LOADING_CACHE_KIB = 128 << 10
"""Memory for the file while it is made anew: what is in the order of no key is read and written all over it."""
_MARK = """
CREATE TABLE replica (
    singleton INTEGER PRIMARY KEY CHECK (singleton = 1), name TEXT NOT NULL, revision INTEGER NOT NULL, batch TEXT NOT NULL
) STRICT
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Which replica it is, and the last batch that it holds."""

    name: str
    batch: Batch


class Replica:
    """
    The file, and how it comes to be what etcd is.

    :ivar mark: what it holds; None when there is none that can be used
    :ivar is_there: there is a file, of use or not: of a store that was in etcd once
    """

    log = Logger()

    def __init__(
        self, path: str, gateway: Gateway, keys: Keys, *, migrations: Sequence[Migration], workers: Workers
    ) -> None:
        """:param path: the file, in a directory that exists"""
        self._path = path
        self._gateway = gateway
        self._keys = keys
        self._migrations = migrations
        self._workers = workers
        self.mark: Mark | None = None
        self.is_there = False

    async def look(self) -> None:
        """Look at the file."""
        self.is_there = Path(self._path).exists()
        self.mark = await self._workers.run(self._looked)

    async def bring_to(self, last: Batch, *, name: str) -> None:
        """
        Bring it from whatever it is to the last batch of etcd, which is not written to meanwhile.

        :param name: of the replica, when it is made anew
        :raise MetadataUnavailable: etcd does not answer, or the file cannot be written
        """
        if not await self._follow(last):
            await self._load(last, name)

    async def catch_up(self, last: Batch) -> None:
        """
        Bring it to the last batch while it is open.

        :raise MetadataUnavailable: that is not possible now; or only by making it anew, at the next start
        """
        if not await self._follow(last, is_sure=True):
            raise MetadataUnavailable(
                f"{self._path} cannot be brought to what etcd has; that is done at the next start"
            )

    def connect(self) -> WatchedConnection:
        """
        Open it for the steps.

        :raise MetadataUnavailable: it cannot be opened
        """
        try:
            connection = open_as(WatchedConnection, self._path)
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.watch(self._keys)
        except (sqlite3.Error, OSError) as error:
            raise MetadataUnavailable(f"{self._path}: {error}") from error
        return connection

    def marked(self, batch: Batch) -> None:
        """Take note that a transaction with this batch, and its mark, was committed."""
        assert self.mark is not None, "the replica is not open"
        self.mark = Mark(name=self.mark.name, batch=batch)

    def _looked(self) -> Mark | None:
        if not Path(self._path).exists():
            return None
        try:
            with closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
                if applied(connection) != {one.number: one.checksum for one in self._migrations}:
                    self.log.info("{path} has another schema; it is made anew", path=self._path)
                    return None
                ((verdict,),) = connection.execute("PRAGMA quick_check(1)").fetchall()
                if verdict != "ok":
                    raise sqlite3.DatabaseError(verdict)
                ((name, revision, batch),) = connection.execute("SELECT name, revision, batch FROM replica")
                return Mark(name=name, batch=Batch(revision=revision, name=batch))
        except (sqlite3.Error, ValueError) as error:
            self.log.warn(
                "{path} cannot be used and is made anew: {error}", path=self._path, error=str(error)
            )
            return None

    # ── what happened since ─────────────────────────────────────────────────────────────────────────────────────────

    async def _follow(self, last: Batch, *, is_sure: bool = False) -> bool:
        """Apply what happened since the mark, which (``is_sure``) was etcd's; return False when that is not possible."""
        if self.mark is None:
            return False
        if self.mark.batch == last:
            return True
        if not is_sure and not await self._is_of_this_history(self.mark.batch, last):
            return False
        watch = await self._gateway.watch(
            self._keys.all, end_of(self._keys.all), from_revision=self.mark.batch.revision + 1
        )
        told: list[Event] = []
        try:
            while self.mark.batch != last:
                told += await watch.next()
                # A batch may come in pieces. Its key is the last thing that it writes.
                ends = [place for place, event in enumerate(told, 1) if self._ends_batch(event)]
                if ends:
                    self.marked(await self._workers.run(self._apply, told[: ends[-1]]))
                    del told[: ends[-1]]
        except Compacted:
            return False
        except (sqlite3.DatabaseError, NotARow) as error:
            fault = told_apart(error)
            if isinstance(error, sqlite3.OperationalError) and isinstance(fault, MetadataUnavailable):
                raise MetadataUnavailable(f"{self._path}: {error}") from error
            self.log.warn(
                "{path} cannot be used and is made anew: {error}", path=self._path, error=str(error)
            )
            return False
        finally:
            watch.close()
        return True

    async def _is_of_this_history(self, held: Batch, last: Batch) -> bool:
        """Whether etcd once was what the replica is. If it surely was not, the file is kept aside: it may know more than etcd."""
        if held.revision < last.revision:
            try:
                then = await self._gateway.range(self._keys.batch, revision=held.revision)
            except Compacted:
                self.log.info("{path} is too old and is made anew", path=self._path)
                return False
            if then.rows and batch_in(then.rows[0]) == held:
                return True
        aside = f"{self._path}.aside"
        await self._workers.run(_set_aside, self._path, aside)
        self.mark = None
        self.log.critical(
            "what etcd holds is not what {path} followed (revision {held}; etcd's last is {last}): was an older copy of etcd"
            " restored? The file is kept as {aside}, and made anew from etcd",
            path=self._path,
            held=held.revision,
            last=last.revision,
            aside=aside,
        )
        return False

    def _ends_batch(self, event: Event) -> bool:
        return event.key == self._keys.batch and event.value is not None

    def _apply(self, events: Sequence[Event]) -> Batch:
        """Apply whole batches in one transaction; return the last one."""
        last = batch_in(events[-1])
        with closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = NORMAL")
            into = _Rows(connection, self._keys)
            connection.execute("BEGIN IMMEDIATE")
            for event in events:
                into.set(event.key, event.value)
            connection.execute("UPDATE replica SET revision = ?, batch = ?", (last.revision, last.name))
            connection.execute("COMMIT")
        return last

    # ── everything ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _load(self, last: Batch, name: str) -> None:
        """Make the file anew, beside the one that there is."""
        fresh = f"{self._path}.loading"
        self.mark = None
        while True:
            connection = await self._workers.run(_new_file, fresh, self._migrations)
            try:
                await self._pages(connection)
                mark = Mark(name=name, batch=last)
                await self._workers.run(_finish, connection, mark)
                await self._workers.run(_replace, fresh, self._path)
                self.mark = mark
                return
            except Compacted:
                self.log.info("etcd was compacted while it was read; once more")
            except (sqlite3.Error, OSError, NotARow) as error:
                raise MetadataUnavailable(f"{self._path} cannot be made from etcd: {error}") from error
            finally:
                await self._workers.run(connection.close)

    async def _pages(self, connection: sqlite3.Connection) -> None:
        """Copy everything as it was at one revision; the next page is on its way while one is written."""
        into = _Rows(connection, self._keys)
        revision = (await self._gateway.range(self._keys.schema)).revision

        def ask(first: bytes, end: bytes, limit: int) -> Awaitable[Range]:
            return self._gateway.range(first, end, limit=limit, revision=revision)

        indexes = await self._workers.run(_without_indexes, connection)
        for table in TABLES:
            beginning = self._keys.of_table(table)
            walk = Walk(ask, beginning, end_of(beginning), rows_max=table.rows_max)
            try:
                while page := await walk.page():
                    await self._workers.run(into.insert, table, page)
            finally:
                walk.stop()
        numbers = await ask(self._keys.numbers, end_of(self._keys.numbers), 0)
        await self._workers.run(into.set_numbers, numbers.rows)
        await self._workers.run(_with_indexes, connection, indexes)


class _Rows:
    """Puts into a file what keys say."""

    def __init__(self, connection: sqlite3.Connection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys
        self._defaults = {table.name: defaults_of(connection, table) for table in TABLES}

    def set(self, key: bytes, value: bytes | None) -> None:
        """Set or delete the row of a key, or the greatest number of a table; other keys are nobody's."""
        found = self._keys.table_of(key)
        if found is None:
            self._set_number(key, value)
        elif value is None:
            table, place = found
            where = " AND ".join(f"{name} = ?" for name in table.key)
            self._connection.execute(f"DELETE FROM {table.name} WHERE {where}", place)
        else:
            table, place = found
            # A row that is in the way is changed or deleted by the same batch, because before and behind it all rows agree.
            self._connection.execute(
                _INSERTING[table.name], row_of(table, place, value, self._defaults[table.name])
            )

    def insert(self, table: Table, page: Sequence[KeyValue]) -> None:
        """Insert rows of a table, of which none is there."""
        keys = [self._keys.place_in(table, row.key) for row in page]
        rows = rows_of(table, keys, [row.value for row in page], self._defaults[table.name])
        self._connection.execute("BEGIN")
        self._connection.executemany(_INSERTING[table.name], rows)
        self._connection.execute("COMMIT")

    def set_numbers(self, numbers: Sequence[KeyValue]) -> None:
        """Set the greatest numbers of tables."""
        for row in numbers:
            self._set_number(row.key, row.value)

    def _set_number(self, key: bytes, value: bytes | None) -> None:
        table = self._keys.numbered_by(key)
        if table is None or value is None:
            return
        number = int(value)
        found = self._connection.execute(
            "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?", (number, table.name)
        )
        if not found.rowcount:
            self._connection.execute(
                "INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table.name, number)
            )


_INSERTING = {
    table.name: f"INSERT OR REPLACE INTO {table.name} ({', '.join(table.column_names)})"
    f" VALUES ({', '.join('?' * len(table.columns))})"
    for table in TABLES
}
"""By the name of the table: setting a row."""


def _without_indexes(connection: sqlite3.Connection) -> list[str]:
    """Drop all indexes but those that keep what is unique in the definition of a table; return the statements that make them."""
    found = connection.execute(
        "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL ORDER BY name"
    ).fetchall()
    for name, _ in found:
        connection.execute(f"DROP INDEX {name}")
    return [statement for _, statement in found]


def _with_indexes(connection: sqlite3.Connection, statements: Sequence[str]) -> None:
    for statement in statements:
        connection.execute(statement)


def _new_file(path: str, migrations: Sequence[Migration]) -> sqlite3.Connection:
    _remove(path)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        # Nobody sees the file before it is whole and synced.
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute(f"PRAGMA cache_size = -{LOADING_CACHE_KIB}")
        migrate(connection, migrations, new_appliance_id=str)
        connection.execute("DELETE FROM store")
        connection.execute(_MARK)
    except BaseException:
        connection.close()
        raise
    return connection


def _finish(connection: sqlite3.Connection, mark: Mark) -> None:
    """
    Write the mark.

    :raise NotARow: what was loaded is no store
    """
    ((count,),) = connection.execute("SELECT count(*) FROM store")
    if count != 1:
        raise NotARow("etcd has no row of the store itself")
    connection.execute(
        "INSERT INTO replica (singleton, name, revision, batch) VALUES (1, ?, ?, ?)",
        (mark.name, mark.batch.revision, mark.batch.name),
    )
    connection.close()


def _replace(fresh: str, path: str) -> None:
    """Sync a file and put it in the place of another."""
    _sync(fresh)
    # Without its log: SQLite would take that for the new file's.
    _remove(path)
    os.rename(fresh, path)
    _sync(os.path.dirname(os.path.abspath(path)))


def _set_aside(path: str, aside: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    _remove(aside)
    os.rename(path, aside)
    _remove(path)


def _remove(path: str) -> None:
    for name in (path, f"{path}-wal", f"{path}-shm", f"{path}-journal"):
        Path(name).unlink(missing_ok=True)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
