"""The SQLite store keeps the contract, on threads, at once and behind the fault wrapper; and what only SQLite has."""

import contextlib
import os
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.error import ProcessTerminated
from twisted.internet.interfaces import IReactorFromThreads, IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from coldstore.interfaces.metadata import (
    IMetadataStore,
    RecordElsewhere,
    SchemaTooNew,
    SchemaTooOld,
    StepTooLarge,
)
from coldstore.metadata.sql import (
    backlog,
    buckets,
    bundles,
    copies,
    deletions,
    history,
    layouts,
    restores,
    shares,
    standing,
    telling,
    uploads,
    versions,
)
from coldstore.metadata.sql.database import Database, Row
from coldstore.metadata.sql.executor import Step
from coldstore.metadata.sql.migrations import Migration, MigrationAltered
from coldstore.metadata.sql.rows import signed, unsigned
from coldstore.metadata.sql.runs import Runs, runs_text
from coldstore.metadata.sql.store import SqlStore
from coldstore.metadata.sqlite import writer
from coldstore.metadata.sqlite.connection import IN_MEMORY
from coldstore.metadata.sqlite.driver import Connection, finished
from coldstore.metadata.sqlite.executors import InlineExecutor
from coldstore.metadata.sqlite.groupcommit import commit_together, read_together
from coldstore.metadata.sqlite.schema import migrate, shipped_migrations
from coldstore.metadata.sqlite.store import SqliteStore, prepare
from coldstore.model.bundles import BundleState
from coldstore.model.errors import (
    MetadataFull,
    MetadataUnavailable,
    NoSuchBucket,
    NoSuchKey,
    PreconditionFailed,
    TakenOver,
)
from coldstore.model.locks import UNLOCKED
from coldstore.model.objects import StorageClass, Versioning
from coldstore.model.quotas import Use
from coldstore.testing.metadata import FaultyStore
from coldstore.util.asynchronous import returns_deferred
from tests.contract.metadata_contract import (
    ONGOING,
    GroupCommitContract,
    MetadataContract,
    MetadataSteps,
    facts_of,
    message_of,
    piece_of,
    upload_of,
)
from tests.contract.metadata_lifecycle import LifecycleContract
from tests.contract.metadata_locks import LockContract, LockedModel
from tests.contract.metadata_model import MetadataModel
from tests.contract.metadata_versions import VersionsContract, least

reactor = cast(IReactorFromThreads, installed_reactor)
HARMLESS_SCANS = {
    "SCAN CONSTANT ROW",
    "SCAN asked",
    "SCAN entry",
    "SCAN shown",
    "SCAN one",
    "SCAN two",
    "SCAN store",
    "SCAN backlogs",
    "SCAN gone USING INDEX gone_buckets",
    "SCAN c USING INDEX unfinished_copies",
    "SCAN c USING INDEX lost_copies",
    "SCAN versions USING INDEX due_versions",
    "SCAN layouts USING INDEX doomed_layouts",
    "SCAN layouts USING INDEX untidy_layouts",
}
"""An only row, a row per class, and indexes that hold nothing but what is asked for."""


class InMemory(MetadataSteps):
    """At once, on one connection."""

    def make_store(self) -> IMetadataStore:
        """Return a store in memory."""
        return SqliteStore(":memory:")


class OnThreads(MetadataSteps):
    """On a file, with the writer and the readers on threads."""

    def make_store(self) -> IMetadataStore:
        """Return a store on a new file."""
        return SqliteStore(self.mktemp(), reactor=reactor)


class Faulty(MetadataSteps):
    """Behind the fault wrapper, with no fault set."""

    def make_store(self) -> IMetadataStore:
        """Return a wrapped store in memory."""
        return FaultyStore(SqliteStore(":memory:")).as_store()


class InMemoryTests(InMemory, MetadataContract, VersionsContract, LockContract, LifecycleContract, TestCase):
    """The contract, at once."""


class OnThreadsTests(
    OnThreads, MetadataContract, VersionsContract, LockContract, LifecycleContract, TestCase
):
    """The contract, on threads."""


class FaultyStoreContractTests(
    Faulty, MetadataContract, VersionsContract, LockContract, LifecycleContract, TestCase
):
    """The contract, behind the fault wrapper."""


class InMemoryModelTests(InMemory, MetadataModel, TestCase):
    """The random life, at once."""

    seeds = range(10)


class LockedModelTests(InMemory, LockedModel, TestCase):
    """The random life of what is under lock, at once."""

    seeds = range(300, 310)


class OnThreadsModelTests(OnThreads, MetadataModel, TestCase):
    """The random life, on threads."""

    seeds = range(100, 101)
    steps = 150


class CommonSql(Connection):
    """SQLite with another dialect, that refuses what databases of SQL do not have in common."""

    dialect = replace(
        Connection.dialect,
        greatest="greatest",
        least="least",
        nested_join="JOIN",
        index_hint="",
        overwriting="",
    )
    is_strict = False
    uncommon = re.compile(
        r"\bOR\s+(REPLACE|IGNORE)\b|\bINDEXED\b|\bCROSS\b|\browid\b|\bIN\s*\(\s*\)|\b(max|min)\([^()]*,|\bON CONFLICT DO\b"
        r"|\bDO UPDATE\s+SET\b.*= ([a-z_]+) [-+*/]|==|\b(ifnull|iif|json_\w+|GLOB|PRAGMA)\b|[`$%]|(?<!coalesce\()\bsum\((?=.*\bFROM\b)",
        re.IGNORECASE | re.DOTALL,
    )

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        """See ``sqlite3.Connection``."""
        if self.is_strict and self.uncommon.search(sql):
            raise AssertionError(f"not all databases understand {sql}")
        return super().execute(sql, *arguments)


class InCommonSqlTests(MetadataContract, VersionsContract, LockContract, LifecycleContract, TestCase):
    """The contract in SQL that all databases understand: what a step says of SQLite's own it has from the dialect."""

    def make_store(self) -> IMetadataStore:
        """Return a store in memory."""

        def connect() -> CommonSql:
            connection = sqlite3.connect(IN_MEMORY, factory=CommonSql, isolation_level=None)
            connection.create_function("greatest", 2, max, deterministic=True)
            connection.create_function("least", 2, least, deterministic=True)
            prepare(connection, shipped_migrations(), new_appliance_id=lambda: "one")
            connection.is_strict = True
            return connection

        return SqlStore(InlineExecutor(connect=connect))

    def test_uncommon(self) -> None:
        """What is refused."""
        connection = sqlite3.connect(IN_MEMORY, factory=CommonSql)
        self.addCleanup(connection.close)
        connection.is_strict = True
        for sql in (
            "INSERT OR REPLACE INTO t (a) VALUES (1)",
            "SELECT a FROM t INDEXED BY x",
            "SELECT a FROM t CROSS JOIN u ON t.a = u.a",
            "SELECT a FROM t WHERE rowid = 1",
            "SELECT a FROM t WHERE a IN ()",
            "SELECT max(a, b) FROM t",
            "SELECT min(a, b) FROM t",
            "SELECT sum(a) FROM t",
            "INSERT INTO t (a) VALUES (1) ON CONFLICT DO NOTHING",
            "INSERT INTO t (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET b = excluded.b, a = a + 1",
        ):
            with self.assertRaises(AssertionError):
                connection.execute(sql)
        for sql in (
            "CREATE TABLE t (a INTEGER PRIMARY KEY, b INTEGER)",
            "INSERT INTO t (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET b = excluded.b, a = t.a + 1",
            "SELECT max(a), CAST(coalesce(sum(a), 0) AS bigint) FROM t GROUP BY b HAVING sum(a) > 0",
        ):
            connection.execute(sql)


class FaultTests(Faulty, TestCase):
    """Faults on demand."""

    async def test_before_and_after(self) -> None:
        """A fault before leaves the store alone; one after lets the step take effect; then all is well again."""
        faulty = self.store
        assert isinstance(faulty, FaultyStore)
        self.assertTrue(verifyObject(IMetadataStore, faulty))
        faulty.fail_next("publish_version")
        await self.refused(MetadataUnavailable, self.publish(b"before"))
        faulty.fail_next("publish_version", took_effect=True, error=OSError("gone"))
        await self.refused(OSError, self.publish(b"after"))
        await self.publish(b"well")
        found = await self.store.list_current("b", from_key=b"", before_key=None, limit=9)
        self.assertEqual([version.facts.key for version in found], [b"after", b"well"])
        self.assertEqual(faulty.calls.count("publish_version"), 3)
        with self.assertRaises(KeyError):
            faulty.fail_next("publish")


class GroupCommitTests(OnThreads, GroupCommitContract, TestCase):
    """Many steps at once, on threads."""


class FullTests(TestCase):
    """A file system without room, or a file that may not grow: refused for certain, and nothing but refused."""

    @returns_deferred
    async def fill(self, store: SqliteStore, *, most: int = 20_000) -> set[bytes]:
        """Publish until there is no room, many at once; return the keys of what was acknowledged."""
        acknowledged: set[bytes] = set()
        refused = 0
        for number in range(0, most, 50):
            keys = [f"key{number + n:06}".encode() for n in range(50)]
            outcomes = await DeferredList([self.publish(store, key) for key in keys], consumeErrors=True)
            for key, (is_there, outcome) in zip(keys, outcomes, strict=True):
                if is_there:
                    acknowledged.add(key)
                else:
                    self.assertIsInstance(outcome.value, MetadataFull)
                    refused += 1
            if refused:
                return acknowledged
        self.fail("the file grows without end")

    def publish(self, store: SqliteStore, key: bytes) -> "Deferred[object]":
        """Publish an object with something to say."""
        name = key.decode()
        return cast(
            "Deferred[object]",
            store.publish_version(
                facts_of(key, user_metadata=(("text", "x" * 2000),)),
                layout_id=f"layout-{name}",
                pieces=[piece_of(f"piece-{name}")],
                wants_tape=True,
                condition=None,
                messages=(),
            ),
        )

    @returns_deferred
    async def check(self, store: SqliteStore, acknowledged: set[bytes]) -> None:
        """Exactly what was acknowledged is there, and counted."""
        found = await store.list_current("b", from_key=b"", before_key=None, limit=100_000)
        self.assertEqual({version.facts.key for version in found}, acknowledged)
        (backlog,) = await store.backlog()
        self.assertEqual(backlog.object_count, len(acknowledged))
        (use,) = await store.staging_use(bucket="b")
        self.assertEqual(use.used_bytes, 10 * len(acknowledged))

    @returns_deferred
    async def test_a_file_that_may_not_grow(self) -> None:
        """Steps that find no room change nothing, those that need none go on, and with room all do."""
        store = SqliteStore(self.mktemp(), reactor=reactor)
        await store.open()
        await store.create_bucket(
            name="b", owner_id="o", region="r", created_at=1.0, default_class=None, object_lock=None
        )
        await store._write(lambda db: db.row("PRAGMA max_page_count = 200"))
        acknowledged = await self.fill(store)
        self.assertGreater(len(acknowledged), 20)
        await self.check(store, acknowledged)
        gone = sorted(acknowledged)[:30]
        await store.delete_current("b", gone, at=2.0, messages={})
        while found := await store.discards(40):
            await store.forget_discards([piece.discard_id for piece in found])
        acknowledged -= set(gone)
        await self.check(store, acknowledged)
        await self.publish(store, b"again")
        await store._write(lambda db: db.row("PRAGMA max_page_count = 100000"))
        for number in range(50):
            await self.publish(store, b"with room %d" % number)
        await self.check(
            store, acknowledged | {b"again"} | {b"with room %d" % number for number in range(50)}
        )
        await store.close()

    @returns_deferred
    async def test_a_file_system_that_is_full(self) -> None:
        """The same of a real one: what was acknowledged is there in this run and the next, and with room it goes on."""
        mount = Path(tempfile.mkdtemp(prefix="coldstore-full-"))
        words = ["mount", "-t", "tmpfs", "-o", "size=8m", "coldstore-test", str(mount)]
        if os.geteuid() != 0 or subprocess.run(words, capture_output=True).returncode:
            mount.rmdir()
            raise SkipTest("mounting a small file system needs root")
        try:
            store = SqliteStore(str(mount / "db"), reactor=reactor)
            await store.open()
            await store.create_bucket(
                name="b", owner_id="o", region="r", created_at=1.0, default_class=None, object_lock=None
            )
            for number in range(10):
                await self.publish(store, b"before %d" % number)
            stranger = mount / "stranger"
            with stranger.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(bytes(4096)) == 4096:
                    pass
            acknowledged = await self.fill(store) | {b"before %d" % number for number in range(10)}
            await self.check(store, acknowledged)
            for _ in range(2):
                await self.assertFailure(self.publish(store, b"in vain"), MetadataFull)
            stranger.unlink()
            await self.publish(store, b"after")
            await store.close()
            store = SqliteStore(str(mount / "db"), reactor=reactor)
            await store.open()
            await self.check(store, acknowledged | {b"after"})
            await store.close()
        finally:
            subprocess.run(["umount", "-l", str(mount)], check=True)
            mount.rmdir()


class PatienceTests(OnThreads, TestCase):
    """The reactor's thread does what is quick; what is not waits in threads."""

    def other(self) -> sqlite3.Connection:
        """Open the file as another program would."""
        assert isinstance(self.store, SqliteStore)
        connection = sqlite3.connect(self.store._path, isolation_level=None)
        self.addCleanup(connection.close)
        return connection

    async def test_somebody_holds_the_file(self) -> None:
        """A write waits for another program's transaction, and nothing else waits for that write."""
        await self.publish(b"before")
        other = self.other()
        other.execute("BEGIN IMMEDIATE")
        writing = Deferred.fromCoroutine(self.publish(b"k"))
        for _ in range(20):
            await deferLater(installed_reactor, 0.01)
            self.assertEqual((await self.store.current_version("b", b"before")).facts.key, b"before")
        self.assertFalse(writing.called)
        other.execute("COMMIT")
        await writing
        self.assertEqual((await self.store.current_version("b", b"k")).facts.key, b"k")
        await self.publish(b"after")

    async def test_slow_disk(self) -> None:
        """While the disk is slow reads and writes go through threads, with the same outcome."""
        assert isinstance(self.store, SqliteStore)
        executor: Any = self.store._executor
        later = installed_reactor.seconds() + 1000  # type: ignore[attr-defined]
        executor._pace.blocked(later)
        executor._writer._pace.blocked(later)
        version = await self.publish(b"k")
        asked = self.store.current_version("b", b"k")
        self.assertFalse(asked.called)
        self.assertEqual(await asked, version)
        await self.refused(NoSuchKey, self.store.current_version("b", b"none"))

    async def test_many_steps_take_turns(self) -> None:
        """Steps beyond what a turn of the reactor allows are carried out in the next ones, in their order."""
        self.patch(writer, "TURN_SECONDS", 0.0)
        given = [Deferred.fromCoroutine(self.publish(b"%03d" % number)) for number in range(50)]
        versions = await gatherResults(given)
        sequences = [version.sequence for version in versions]
        self.assertEqual(sequences, sorted(sequences))


class TransactionTests(SynchronousTestCase):
    """The transaction that many steps share, without threads."""

    def setUp(self) -> None:
        """A table with a constraint that is checked at the commit."""
        self.connection = sqlite3.connect(":memory:", factory=Connection, isolation_level=None)
        self.addCleanup(self.connection.close)
        self.connection.execute("PRAGMA foreign_keys = ON")
        self.connection.execute("CREATE TABLE parents (id INTEGER PRIMARY KEY)")
        self.connection.execute(
            "CREATE TABLE children (parent INTEGER REFERENCES parents DEFERRABLE INITIALLY DEFERRED)"
        )

    def count(self) -> int:
        """How many parents there are."""
        (count,) = self.connection.execute("SELECT count(*) FROM parents").fetchone()
        return int(count)

    def test_failed_commit(self) -> None:
        """When the commit fails every step has failed, and the next transaction is a fresh one."""
        outcomes = commit_together(
            self.connection,
            [
                lambda db: db.do("INSERT INTO parents VALUES (1)"),
                lambda db: db.do("INSERT INTO children VALUES (9)"),
            ],
        )
        self.assertEqual([type(outcome.error) for outcome in outcomes], [MetadataUnavailable] * 2)
        self.assertEqual((self.count(), self.connection.in_transaction), (0, False))

    def test_lost_transaction(self) -> None:
        """When SQLite gives the transaction up in the middle nothing is taken for done, not even what came before."""
        steps = [
            lambda db: db.do("INSERT INTO parents VALUES (1)"),
            lambda db: db.do("INSERT OR ROLLBACK INTO parents VALUES (1)"),
            lambda db: db.do("INSERT INTO parents VALUES (2)"),
        ]
        outcomes = commit_together(self.connection, steps)
        self.assertEqual([type(outcome.error) for outcome in outcomes], [MetadataUnavailable] * 3)
        self.assertEqual(self.count(), 0)

    def test_rows(self) -> None:
        """A step that changes more than 100 rows is undone alone."""

        def many(number: int) -> Step[None]:
            async def step(db: Database) -> None:
                for n in range(number):
                    await db.insert("parents", "id", (number * 1000 + n,))

            return step

        outcomes = commit_together(self.connection, [many(100), many(101)])
        self.assertIsNone(outcomes[0].error)
        self.assertIsInstance(outcomes[1].error, StepTooLarge)
        self.assertEqual(self.count(), 100)

    def test_steps_that_fail_late(self) -> None:
        """A step that fails after it changed something is undone alone, one that fails before has nothing to undo."""

        def insert(number: int) -> Step[None]:
            return lambda db: db.insert("parents", "id", (number,))

        async def late(db: Database) -> None:
            await insert(7)(db)
            raise PreconditionFailed("late")

        async def early(db: Database) -> None:
            raise PreconditionFailed("early")

        for steps, count in (([insert(1), early, insert(2)], 2), ([insert(3), late, insert(4), early], 4)):
            statements: list[str] = []
            self.connection.set_trace_callback(statements.append)
            outcomes = commit_together(self.connection, steps)
            self.connection.set_trace_callback(None)
            kinds = [type(outcome.error) for outcome in outcomes]
            self.assertEqual(
                kinds, [type(None) if step not in (late, early) else PreconditionFailed for step in steps]
            )
            self.assertEqual(self.count(), count)
            self.assertEqual(any("SAVEPOINT" in statement for statement in statements), late in steps)

    def test_bugs_stay_bugs(self) -> None:
        """Bad SQL is not mistaken for a fault of the world, in a write or a read."""
        for together in (commit_together, read_together):
            (outcome,) = together(self.connection, [lambda db: db.rows("SELECT nonsense")])
            self.assertIsInstance(outcome.error, sqlite3.OperationalError)
            self.assertFalse(self.connection.in_transaction)


class Ailing(Connection):
    """A connection on which statements can be made to fail."""

    failing: frozenset[str] = frozenset()

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        """See ``sqlite3.Connection``."""
        if sql in self.failing:
            raise sqlite3.OperationalError("disk I/O error")
        return super().execute(sql, *arguments)


class AilingTests(TestCase):
    """A connection that fails where the writer tidies up."""

    def connect(self) -> Ailing:
        """Open the file."""
        self.connection = sqlite3.connect(
            self.path, isolation_level=None, check_same_thread=False, factory=Ailing
        )
        return self.connection

    @returns_deferred
    async def test_rollback_fails(self) -> None:
        """Who waits is told, nothing half-done is committed, and the writer goes on when the disk does."""
        self.path = self.mktemp()
        ailing = writer.Writer(connect=self.connect, reactor=reactor, batch_max=100)
        await ailing.open()
        self.addCleanup(ailing.close)
        await ailing.write(lambda db: db.do("CREATE TABLE t (a)"))

        async def change_and_fail(db: Database) -> None:
            await db.do("INSERT INTO t VALUES (1)")
            self.connection.failing = frozenset({"ROLLBACK", "ROLLBACK TO step"})
            raise ValueError("in the middle")

        for _ in range(3):
            await self.assertFailure(ailing.write(change_and_fail), MetadataUnavailable)
        self.connection.failing = frozenset()
        await ailing.write(lambda db: db.do("INSERT INTO t VALUES (2)"))
        found = await ailing.write(lambda db: db.rows("SELECT a FROM t"))
        self.assertEqual(found, [(2,)])


class FileTests(TestCase):
    """The file and its schema."""

    async def reopened(self, path: str) -> SqliteStore:
        """Open the store of a file."""
        store = SqliteStore(path, reactor=reactor)
        self.addCleanup(store.close)
        await store.open()
        return store

    async def test_mode(self) -> None:
        """Nobody else may read the file, nor those that SQLite puts beside it, whatever the umask or its mode before."""
        path = Path(self.mktemp())
        path.touch(0o666)
        store = await self.reopened(str(path))
        await store.take_epoch(at=1.0, host="")
        modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in path.parent.glob(f"{path.name}*")}
        self.assertGreaterEqual(len(modes), 2)
        self.assertEqual(set(modes.values()), {0o600})

    async def test_durable(self) -> None:
        """Another opening finds the same appliance with the same contents, and a later epoch."""
        path = self.mktemp()
        store = await self.reopened(path)
        epoch = await store.take_epoch(at=1.0, host="m1 b1 one")
        await store.create_bucket(
            name="b", owner_id="o", region="r", created_at=1.0, default_class=None, object_lock=None
        )
        await store.close()
        again = await self.reopened(path)
        self.assertEqual(again.appliance_id, store.appliance_id)
        self.assertEqual((await again.bucket("b")).owner_id, "o")
        next_one = await again.take_epoch(at=0.0, host="m2 b2 two")
        self.assertGreater(next_one.number, epoch.number)
        self.assertEqual(next_one.host_before, "m1 b1 one")

    async def test_taken_over(self) -> None:
        """Once another process has begun a run, the one before writes nothing more, is told by whom, and still can read."""
        path = self.mktemp()
        old, new = await self.reopened(path), await self.reopened(path)
        await old.take_epoch(at=1.0, host="m1 b1 one")
        told = old.when_taken_over()
        await old.create_bucket(
            name="a", owner_id="o", region="r", created_at=1.0, default_class=None, object_lock=None
        )
        self.assertNoResult(told)
        epoch = await new.take_epoch(at=2.0, host="m2 b2 two")
        late = [
            old.create_bucket(
                name=name, owner_id="o", region="r", created_at=1.0, default_class=None, object_lock=None
            )
            for name in ("b", "c")
        ]
        for each in late:
            await self.assertFailure(each, TakenOver)
        sentence = await told
        self.assertIn("on two", sentence)
        self.assertIn(f"run {epoch.number}", sentence)
        self.assertEqual(await old.when_taken_over(), sentence)
        self.assertEqual((await old.bucket("a")).owner_id, "o")
        self.assertEqual(await old.newest_epoch(), epoch)
        for name in ("b", "c"):
            await self.assertFailure(new.bucket(name), NoSuchBucket)
        await new.create_bucket(
            name="b", owner_id="o", region="r", created_at=1.0, default_class=None, object_lock=None
        )
        self.assertNoResult(new.when_taken_over())

    async def test_unusable(self) -> None:
        """A file that is none, or no database, is named in the failure; closing is harmless then."""
        noise = Path(self.mktemp())
        noise.write_bytes(b"noise" * 1000)
        for path in (str(noise), "/nonexistent/folder/db"):
            for inline in (True, False):
                store = SqliteStore(path, reactor=None if inline else reactor)
                with self.assertRaises(MetadataUnavailable) as caught:
                    await store.open()
                self.assertIn(path, str(caught.exception))
                await store.close()

    def test_memory_has_no_threads(self) -> None:
        """A database in memory cannot be shared by threads."""
        with self.assertRaises(ValueError):
            SqliteStore(":memory:", reactor=reactor)

    async def test_newer_schema(self) -> None:
        """A file of a newer program is refused and not touched."""
        path = self.mktemp()
        await (await self.reopened(path)).close()
        with sqlite3.connect(path) as connection:
            connection.execute("INSERT INTO migrations (number, checksum) VALUES (9999, 'x')")
        connection.close()
        before = Path(path).read_bytes()
        with self.assertRaises(SchemaTooNew):
            await self.reopened(path)
        self.assertEqual(Path(path).read_bytes(), before)

    async def test_altered_migration(self) -> None:
        """A file whose schema was made by another text of a migration is refused."""
        path = self.mktemp()
        await (await self.reopened(path)).close()
        first, *rest = shipped_migrations()
        altered = Migration(number=1, statements=first.statements + "\n-- altered\n")
        with self.assertRaises(MigrationAltered):
            await SqliteStore(path, migrations=[altered, *rest]).open()

    async def test_from_every_version(self) -> None:
        """A new file gets its schema at once, one of an earlier schema when somebody wants that; then it works."""
        migrations = shipped_migrations()
        for version in range(len(migrations) + 1):
            path = self.mktemp()
            connection = sqlite3.connect(path, isolation_level=None)
            migrate(connection, migrations[:version], new_appliance_id=lambda: "id")
            if 0 < version < len(migrations):
                before = connection.execute("SELECT sql FROM sqlite_schema").fetchall()
                with self.assertRaises(SchemaTooOld):
                    await self.reopened(path)
                self.assertEqual(connection.execute("SELECT sql FROM sqlite_schema").fetchall(), before)
                migrate(connection, migrations, new_appliance_id=lambda: "id", is_upgrade=True)
            connection.close()
            store = await self.reopened(path)
            await store.create_bucket(
                name="b", owner_id="o", region="r", created_at=1.0, default_class=None, object_lock=None
            )
            await store.publish_version(
                facts_of(b"k"),
                layout_id="l",
                pieces=[piece_of("p")],
                wants_tape=True,
                condition=None,
                messages=(),
            )
            self.assertEqual(
                len(await store.pending(classes=[StorageClass.GLACIER], after_sequence=0, limit=9)), 1
            )

    async def test_record_elsewhere(self) -> None:
        """A file that does not hold the record, or not all of it, is refused and not touched; the refusal says where it is."""
        path = self.mktemp()
        await (await self.reopened(path)).close()
        for mark in ("arriving_from", "moved_to"):
            with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
                connection.execute(f"UPDATE store SET {mark} = 'sqlite:/elsewhere'")
                with self.assertRaisesRegex(RecordElsewhere, "sqlite:/elsewhere.*coldstore db"):
                    await self.reopened(path)
                connection.execute(f"UPDATE store SET {mark} = ''")
        await self.reopened(path)

    async def test_use_is_counted_for_older_files(self) -> None:
        """A file from before the disk was counted is counted when it is brought up to date: exactly as a new one would be."""
        old, new = (SqliteStore(self.mktemp()) for _ in range(2))
        counts = []
        for store in (old, new):
            await store.open()
            await self.fill(store)
            if store is old:
                await store.close()
                self.forget_shares(store._path)
                with contextlib.closing(sqlite3.connect(store._path, isolation_level=None)) as connection:
                    migrate(connection, shipped_migrations(), new_appliance_id=lambda: "id", is_upgrade=True)
                store = await self.reopened(store._path)
            counts.append(await store.staging_use(owner_id="owner"))
            self.assertEqual(await store.staging_use(bucket="b"), counts[-1])
            use = await store.quota_use(bucket="b")
            self.assertEqual(use, Use(staging=50, kept=30, restores=10, objects=3))
            await store.close()
        self.assertEqual(counts[0], counts[1])
        self.assertEqual(
            [(one.storage_class, one.used_bytes, one.promised_bytes) for one in counts[0]],
            [(StorageClass.DEEP_ARCHIVE, 20, 0), (StorageClass.GLACIER, 20, 10)],
        )

    async def fill(self, store: SqliteStore) -> None:
        """Have objects, a deleted one, an upload and a restore of something cold in a store."""
        await store.create_bucket(
            name="b", owner_id="owner", region="r", created_at=1.0, default_class=None, object_lock=None
        )
        for number, key in enumerate((b"1", b"2", b"3", b"cold")):
            await store.publish_version(
                facts_of(key),
                layout_id=f"l{number}",
                pieces=[piece_of(f"p{number}")],
                wants_tape=True,
                condition=None,
                messages=(),
            )
        await store.create_upload(upload_of("u", storage_class=StorageClass.DEEP_ARCHIVE))
        for number in (1, 2):
            await store.put_part("u", piece_of(f"part{number}", number))
        await store.delete_current("b", [b"3"], at=2.0, messages={})
        cold = await store.current_version("b", b"cold")
        await store.change_restore(cold.version_uid, revision=cold.revision, restore=ONGOING, messages=())
        # What leads to this state in earnest is a matter of other tests.
        connection = sqlite3.connect(store._path, isolation_level=None)
        connection.execute("UPDATE versions SET on_disk = 0, layout_id = '' WHERE key = x'636f6c64'")
        connection.execute("UPDATE layouts SET state = 'doomed' WHERE layout_id = ?", (cold.layout_id,))
        connection.execute("UPDATE shares SET promised_bytes = 10 WHERE storage_class = 'GLACIER'")
        connection.close()
        while await store.discards(1000):
            for piece in await store.discards(40):
                await store.forget_discards([piece.discard_id])

    def forget_shares(self, path: str) -> None:
        """Take a file back to the schema that did not count the disk."""
        connection = sqlite3.connect(path, isolation_level=None)
        for statement in (
            "DROP TABLE shares",
            *(
                f"ALTER TABLE {table} DROP COLUMN {column}"
                for table in ("users", "buckets")
                for column in ("kept_quota_bytes", "restore_quota_bytes", "object_quota")
            ),
            "ALTER TABLE layouts DROP COLUMN share_uid",
            "ALTER TABLE users DROP COLUMN staging_quota_bytes",
            "ALTER TABLE buckets DROP COLUMN staging_quota_bytes",
            "DELETE FROM migrations WHERE number IN (2, 13)",
        ):
            connection.execute(statement)
        connection.close()

    def test_failing_migration(self) -> None:
        """A migration that fails leaves nothing of itself nor of those before it in the same start."""
        connection = sqlite3.connect(":memory:", isolation_level=None)
        self.addCleanup(connection.close)
        good = Migration(number=1, statements="CREATE TABLE one (a);\nINSERT INTO one VALUES (1);\n")
        bad = Migration(number=2, statements="CREATE TABLE two (a);\nCREATE TABLE two (a);\n")
        with self.assertRaises(sqlite3.OperationalError):
            migrate(connection, [good, bad], new_appliance_id=lambda: "id")
        self.assertEqual(connection.execute("SELECT name FROM sqlite_schema").fetchall(), [])

    def test_unfinished_statement(self) -> None:
        """A migration whose last statement does not end is noticed."""
        connection = sqlite3.connect(":memory:", isolation_level=None)
        self.addCleanup(connection.close)
        with self.assertRaises(ValueError):
            migrate(
                connection,
                [Migration(number=1, statements="CREATE TABLE t (a")],
                new_appliance_id=lambda: "id",
            )


class _Lines(ProcessProtocol):
    """Collects what a child has said; ``saw`` fires at a number of lines, ``ended`` at its end."""

    def __init__(self, enough: int) -> None:
        self.said = b""
        self.errors = b""
        self._enough = enough
        self.saw: Deferred[None] = Deferred()
        self.ended: Deferred[Exception] = Deferred()

    def outReceived(self, data: bytes) -> None:
        """Keep it."""
        self.said += data
        if self.said.count(b"\n") >= self._enough and not self.saw.called:
            self.saw.callback(None)

    def errReceived(self, data: bytes) -> None:
        """Keep it."""
        self.errors += data

    def processEnded(self, reason: Failure) -> None:
        """Tell."""
        if not self.saw.called:
            self.saw.errback(RuntimeError(self.errors.decode()))
        self.ended.callback(cast(Exception, reason.value))


class KillTests(TestCase):
    """kill -9."""

    async def test_kill(self) -> None:
        """What a killed process had acknowledged is there, nothing is half there, and the file opens at once."""
        path = self.mktemp()
        writer = str(Path(__file__).with_name("metadata_writer.py"))
        for killing in range(3):
            lines = _Lines(enough=150 * (killing + 1))
            environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
            process = IReactorProcess(reactor).spawnProcess(
                lines, sys.executable, [sys.executable, writer, path, str(killing)], env=environment
            )
            await lines.saw
            process.signalProcess(signal.SIGKILL)
            reason = await lines.ended
            self.assertIsInstance(reason, ProcessTerminated)
            acknowledged = lines.said[: lines.said.rfind(b"\n")].split(b"\n")
            copy = self.mktemp()
            for suffix in ("", "-wal"):
                shutil.copy(path + suffix, copy + suffix)
            store = SqliteStore(copy, reactor=reactor)
            await store.open()
            found = await store.list_current("b", from_key=b"", before_key=None, limit=100_000)
            keys = {version.facts.key: version for version in found}
            self.assertEqual(set(acknowledged) - set(keys), set())
            for version in found:
                self.assertEqual(len(await store.pieces(version.layout_id, after_ordinal=0, limit=9)), 1)
            (backlog,) = await store.backlog()
            self.assertEqual(backlog.object_count, len(found))
            await store.close()


class PlanTests(SynchronousTestCase):
    """The cost of a question follows its answer, not the size of the store: SQLite's own plans say so."""

    def test_plans(self) -> None:
        """No question of a loop, a listing or a request reads a table from end to end, or sorts one."""
        statements: list[str] = []
        connection = sqlite3.connect(":memory:", factory=Connection, isolation_level=None)
        self.addCleanup(connection.close)
        migrate(connection, shipped_migrations(), new_appliance_id=lambda: "id")
        connection.execute(
            "INSERT INTO buckets (name, owner_id, region, created_at, versioning) VALUES"
            " ('b', 'o', 'r', 1, 'Enabled'), ('v', 'o', 'r', 1, 'Suspended'), ('w', 'o', 'r', 1, '')"
        )
        for number, key in enumerate(
            [b"there", *(b"folder/%d/%d" % (i, j) for i in range(9) for j in range(9))]
        ):
            publication = versions.publish(
                connection,
                facts_of(key, version_id=f"v{number}"),
                layout_id=f"l{number}",
                pieces=[piece_of(f"p{number}")],
                wants_tape=True,
                condition=None,
                messages=[],
                wanted_bucket_uid=None,
                lock=UNLOCKED,
            )
            finished(publication)
        connection.set_trace_callback(statements.append)
        classes = [StorageClass.GLACIER]
        for question in (
            standing.under_each(connection, "b", [b"k"]),
            standing.these(connection, "b", [(b"k", "null")]),
            standing.bring_back(connection, 1, b"k"),
            deletions.delete_current(
                connection,
                "v",
                [b"k"],
                at=1.0,
                messages={},
                if_match=None,
                owner_id="o",
                marker_ids=["m"],
            ),
            deletions.delete_these(
                connection, "v", [(b"k", "null")], at=1.0, if_match=None, bypass=False, who="o"
            ),
            versions.current_content(connection, "b", b"there"),
            versions.content_of(connection, "b", b"there", "v0"),
            *(
                history.page(
                    connection,
                    "b",
                    prefix=prefix,
                    delimiter=delimiter,
                    after_key=after_key,
                    after_version_id=after_version_id,
                    max_entries=9,
                )
                for prefix, delimiter, after_key, after_version_id in (
                    (b"", b"", b"", ""),
                    (b"t", b"", b"there", "v0"),
                    (b"", b"/", b"", ""),
                    (b"folder/", b"/", b"", ""),
                )
            ),
            buckets.delete(connection, "w"),
            uploads.completed(connection, "b", b"k", "u"),
            versions.listed(connection, "b", from_key=b"a", before_key=b"b", limit=9),
            versions.page(connection, "b", prefix=b"", delimiter=b"/", after=b"", max_entries=9),
            versions.page(connection, "b", prefix=b"a", delimiter=b"", after=b"", max_entries=9),
            versions.entries(connection, (1, b"a"), prefix_length=0, delimiter=b"/", limit=9),
            versions.entries(connection, (1, b"a", b"b"), prefix_length=0, delimiter=b"/", limit=9),
            versions.current(connection, "b", b"there"),
            versions.by_uid(connection, 1),
            bundles.pending(connection, classes=classes, after_sequence=3, limit=9),
            bundles.listed(connection, states=list(BundleState), settled=None, after="", limit=9),
            bundles.members(connection, "x", after_position=3, limit=9),
            bundles.extents(connection, 1),
            copies.listed(connection, bundle_id=None, barcode="T", version_uid=None),
            copies.listed(connection, bundle_id=None, barcode=None, version_uid=1),
            copies.unfinished(connection, 9),
            copies.unmanifested(connection, "T"),
            restores.evictable(connection, classes=classes, archived_before=9.0, limit=9),
            restores.wanted_extents(connection, after=(1, 1), limit=9),
            restores.ongoing(connection, on_disk=True, limit=9),
            restores.expired(connection, now=9.0, limit=9),
            uploads.listed(connection, "b", prefix=b"a", after_key=b"", after_upload_id="", limit=9),
            layouts.pieces(connection, "l", after_ordinal=3, limit=9),
            layouts.referenced(connection, ["x"]),
            layouts.pieces_at(connection, ["x", "y"]),
            layouts.first_pieces(connection, ["x", "y"]),
            layouts.move(connection, {"x": "y"}),
            shares.in_use(connection, owner_id="o", bucket=None),
            shares.in_use(connection, owner_id=None, bucket="b"),
            shares.use_of(connection, owner_id="o", bucket=None),
            shares.use_of(connection, owner_id=None, bucket="b"),
            shares.of_buckets(connection, after="a", limit=9),
            layouts.tidy(connection),
            telling.due_messages(connection, now=9.0, limit=9),
            backlog.backlog(connection),
        ):
            finished(question)
        connection.set_trace_callback(None)
        self.assertGreater(len(statements), 20)
        for statement in statements:
            for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall():
                is_bounded = not step.startswith("SCAN") or step in HARMLESS_SCANS
                self.assertTrue(is_bounded and "TEMP B-TREE FOR ORDER" not in step, (step, statement))

    def test_what_is_not_shown_costs_nothing(self) -> None:
        """Looking at what is current takes the same steps in SQLite however many versions and delete markers there are."""
        few, many = self.steps_beside(3), self.steps_beside(300)
        for name, count in few.items():
            self.assertLessEqual(many[name], 1.1 * count, (name, few, many))

    def steps_beside(self, others: int) -> dict[str, int]:
        """Return how many steps of its machine SQLite takes for questions about a bucket with so many versions that are not shown."""
        connection = sqlite3.connect(":memory:", factory=Connection, isolation_level=None)
        self.addCleanup(connection.close)
        migrate(connection, shipped_migrations(), new_appliance_id=lambda: "id")
        finished(
            buckets.create(
                connection,
                name="b",
                owner_id="o",
                region="r",
                created_at=1.0,
                default_class=None,
                object_lock=None,
            )
        )
        finished(buckets.set_versioning(connection, name="b", versioning=Versioning.ENABLED))

        def put(key: bytes, number: int) -> None:
            publication = versions.publish(
                connection,
                facts_of(key, version_id=f"v{number}"),
                layout_id=f"{key!r}{number}",
                pieces=[piece_of(f"{key!r}{number}")],
                wants_tape=True,
                condition=None,
                messages=[],
                wanted_bucket_uid=None,
                lock=UNLOCKED,
            )
            finished(publication)

        def mark(key: bytes) -> None:
            finished(
                deletions.delete_current(
                    connection,
                    "b",
                    [key],
                    at=1.0,
                    messages={},
                    if_match=None,
                    owner_id="o",
                    marker_ids=[f"m{key!r}"],
                )
            )

        for number in range(others):
            put(b"a", number)
            put(b"z", number)
            put(b"gone/%d" % number, number)
            mark(b"gone/%d" % number)
        for key in (b"b", b"i", b"y/1", b"y/2"):
            put(key, 0)
        mark(b"i")
        connection.execute("ANALYZE")
        taken = 0

        def count() -> int:
            nonlocal taken
            taken += 1
            return 0

        connection.set_progress_handler(count, 1)
        counts = {}
        for name, question in (
            ("content", versions.current_content(connection, "b", b"a")),
            ("of id", versions.content_of(connection, "b", b"a", "v1")),
            ("to publish", standing.under_each(connection, "b", [b"a", b"i"])),
            ("page", versions.page(connection, "b", prefix=b"", delimiter=b"", after=b"", max_entries=9)),
            ("folders", versions.page(connection, "b", prefix=b"", delimiter=b"/", after=b"", max_entries=9)),
            (
                "versions",
                history.page(
                    connection,
                    "b",
                    prefix=b"",
                    delimiter=b"/",
                    after_key=b"a",
                    after_version_id="v2",
                    max_entries=3,
                ),
            ),
        ):
            taken = 0
            finished(question)
            counts[name] = taken
        return counts

    def test_prepared_once(self) -> None:
        """What is asked for over and over again is prepared once, whatever values it is asked with."""
        connection = sqlite3.connect(":memory:", factory=Connection, isolation_level=None)
        self.addCleanup(connection.close)
        migrate(connection, shipped_migrations(), new_appliance_id=lambda: "one")
        prepared: list[int] = []
        connection.set_authorizer(lambda action, *_: prepared.append(action) or sqlite3.SQLITE_OK)
        finished(
            buckets.create(
                connection,
                name="b",
                owner_id="o",
                region="r",
                created_at=1.0,
                default_class=None,
                object_lock=None,
            )
        )

        def ask(number: int) -> None:
            key = b"%d" % number
            publication = versions.publish(
                connection,
                facts_of(key),
                layout_id=f"l{number}",
                pieces=[piece_of(f"p{number}")],
                wants_tape=True,
                condition=None,
                messages=[message_of(key)],
                wanted_bucket_uid=None,
                lock=UNLOCKED,
            )
            finished(publication)
            finished(versions.current(connection, "b", key))
            finished(versions.note_reads(connection, {number: number}, at=2.0))
            finished(bundles.members(connection, f"bundle{number}", after_position=number, limit=9))
            finished(copies.unfinished(connection, number))
            finished(backlog.backlog(connection))
            for on_disk in (True, False):
                finished(restores.ongoing(connection, on_disk=on_disk, limit=9))

        ask(1)
        ask(2)
        self.assertTrue(prepared)
        prepared.clear()
        ask(3)
        self.assertEqual(prepared, [])


class _Asked(Connection):
    """Counts what a step has to wait for: a database across a network answers each with a round trip."""

    count = 0

    async def rows(self, statement: str, arguments: Sequence[object] = ()) -> list[Row]:
        """Count it."""
        self.count += 1
        return await super().rows(statement, arguments)

    async def row(self, statement: str, arguments: Sequence[object] = ()) -> Any:
        """Count it."""
        self.count += 1
        return await super().row(statement, arguments)

    async def rows_of_each(self, statement: str, each: Sequence[Sequence[object]]) -> list[list[Row]]:
        """Count it once, however many it asks."""
        self.count += bool(each)
        return await super().rows_of_each(statement, each)

    async def change(self, statement: str, arguments: Sequence[object] = ()) -> int:
        """Count it."""
        self.count += 1
        return await super().change(statement, arguments)


class RoundTripTests(MetadataSteps, SynchronousTestCase):
    """A batch asks its database as often as a single one does."""

    def make_store(self) -> SqlStore:
        """A store in memory that counts."""
        self.connection = sqlite3.connect(":memory:", factory=_Asked, isolation_level=None)
        prepare(self.connection, shipped_migrations(), new_appliance_id=lambda: "id")
        return SqlStore(InlineExecutor(connect=lambda: self.connection))

    def setUp(self) -> None:
        """Open it."""
        self.successResultOf(Deferred.fromCoroutine(super().setUp()))

    def test_batches(self) -> None:
        """Claiming, placing, settling and giving back members, deleted ones among them; counting reads; extents of bundles."""
        counts = [self.successResultOf(Deferred.fromCoroutine(self.counted(size))) for size in (2, 12, 40)]
        self.assertEqual(counts[1:], counts[:1] * 2)
        self.assertLess(max(counts[0].values()), 8, counts[0])

    async def counted(self, size: int) -> dict[str, int]:
        """Return how often each step asks for a batch of this size."""
        store, counts = self.store, dict[str, int]()

        async def asked(name: str, step: Callable[..., "Deferred[Any]"], *args: Any, **kwargs: Any) -> Any:
            self.connection.count = 0
            result = await step(*args, **kwargs)
            counts[name] = self.connection.count
            return result

        found = [await self.publish(self.unique("key").encode()) for _ in range(size)]
        uids = [version.version_uid for version in found]
        offsets = {position: 512 * (position + 1) for position in range(size)}
        for is_given_back in (True, False):
            bundle_id = await self.open_bundle()
            members = [self.member(bundle_id, version, position) for position, version in enumerate(found)]
            claimed = await asked("claim", store.claim_members, bundle_id, members, last_extents=set(uids))
            self.assertEqual(len(claimed), size)
            await asked("fix", store.fix_offsets, bundle_id, offsets)
            if is_given_back:
                await asked("release", store.release_members, bundle_id)
        await store.delete_current("b", [found[0].facts.key], at=1.0, messages={}, if_match=None)
        await self.freeze(bundle_id)
        await self.write(bundle_id)
        await asked("settle", store.settle_members, bundle_id, after_position=-1, at=2.0)
        await self.settle(bundle_id)
        await asked("note", store.note_reads, dict.fromkeys(uids, 1), at=3.0)
        for archived in found[1:]:
            version = await self.again(archived)
            await store.evict_version(version.version_uid, revision=version.revision)
            await self.ask_restore(version)
        wanted = await asked("wanted", store.wanted_extents, after=(0, 0), limit=100)
        self.assertEqual(len(wanted), size - 1)
        for version in found[1:]:
            await self.ask_restore(version, None)
        return counts


class ValueTests(SynchronousTestCase):
    """Small encodings."""

    def test_crc(self) -> None:
        """Unsigned 64-bit numbers survive SQLite's signed ones."""
        for crc in (0, 1, 2**63 - 1, 2**63, 2**64 - 1):
            self.assertEqual(unsigned(signed(crc)), crc)
            self.assertTrue(-(2**63) <= signed(crc) < 2**63)

    def test_runs(self) -> None:
        """Ascending numbers survive as runs; nothing and disorder are refused."""
        self.assertEqual(runs_text(range(1, 10_001)), "1-10000")
        self.assertEqual(runs_text([1, 2, 4, 7, 8, 9]), "1-2,4,7-9")
        runs = Runs("1-2,4,7-9")
        self.assertEqual([n for n in range(12) if n in runs], [1, 2, 4, 7, 8, 9])
        self.assertEqual((runs.count(), 5 in Runs("")), (6, True))
        for wrong in ([], [2, 1], [1, 1]):
            with self.assertRaises(ValueError):
                runs_text(wrong)
