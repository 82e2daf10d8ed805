"""The SQLite store keeps the contract, on threads, at once and behind the fault wrapper; and what only SQLite has."""

import os
import shutil
import signal
import sqlite3
import stat
import sys
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import ProcessTerminated
from twisted.internet.interfaces import IReactorFromThreads, IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from coldstore.interfaces.metadata import IMetadataStore, SchemaTooNew, StepTooLarge
from coldstore.metadata.sqlite import backlog, bundles, copies, layouts, restores, telling, uploads, versions
from coldstore.metadata.sqlite.groupcommit import Step, commit_together, read_together
from coldstore.metadata.sqlite.rows import signed, unsigned
from coldstore.metadata.sqlite.runs import Runs, runs_text
from coldstore.metadata.sqlite.schema import Migration, MigrationAltered, migrate, shipped_migrations
from coldstore.metadata.sqlite.store import SqliteStore
from coldstore.model.bundles import BundleState
from coldstore.model.errors import MetadataUnavailable, PreconditionFailed
from coldstore.model.objects import StorageClass
from coldstore.testing.metadata import FaultyStore
from tests.contract.metadata_contract import MetadataContract, MetadataSteps, facts_of, piece_of
from tests.contract.metadata_model import MetadataModel

reactor = cast(IReactorFromThreads, installed_reactor)
HARMLESS_SCANS = {
    "SCAN backlogs",
    "SCAN c USING INDEX unfinished_copies",
    "SCAN versions USING INDEX due_versions",
    "SCAN layouts USING INDEX doomed_layouts",
    "SCAN layouts USING INDEX untidy_layouts",
}
"""A row per class, and indexes that hold nothing but what is asked for."""


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


class InMemoryTests(InMemory, MetadataContract, TestCase):
    """The contract, at once."""


class OnThreadsTests(OnThreads, MetadataContract, TestCase):
    """The contract, on threads."""


class FaultyStoreContractTests(Faulty, MetadataContract, TestCase):
    """The contract, behind the fault wrapper."""


class InMemoryModelTests(InMemory, MetadataModel, TestCase):
    """The random life, at once."""

    seeds = range(10)


class OnThreadsModelTests(OnThreads, MetadataModel, TestCase):
    """The random life, on threads."""

    seeds = range(100, 101)
    steps = 150


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


class GroupCommitTests(OnThreads, TestCase):
    """Many steps at once."""

    async def test_failures_stay_alone(self) -> None:
        """Of many steps given at once those fail that must; every other one is there once its Deferred fired."""
        await self.publish(b"taken")
        given: list[Deferred[Any]] = []
        for number in range(300):
            key = f"{number:03}".encode()
            if number % 3 == 0:
                given.append(
                    self.store.delete_current("b", [b"taken"], at=1.0, messages={}, if_match="other")
                )
            elif number % 3 == 1:
                given.append(Deferred.fromCoroutine(self.publish(key, pieces=[piece_of("x" * 20)] * 41)))
            else:
                given.append(Deferred.fromCoroutine(self.publish(key)))
        outcomes = await DeferredList(given, consumeErrors=True)
        kinds = [type(result.value) if isinstance(result, Failure) else None for _, result in outcomes]
        self.assertEqual(kinds, [PreconditionFailed, StepTooLarge, None] * 100)
        found = await self.store.list_current("b", from_key=b"", before_key=None, limit=999)
        self.assertEqual(len(found), 101)

    async def test_reads_see_what_was_told(self) -> None:
        """A read that begins when a step's Deferred has fired sees what the step did, every time."""

        async def write_and_read(number: int) -> bool:
            version = await self.publish(f"{number}".encode())
            return await self.store.current_version("b", f"{number}".encode()) == version

        outcomes = await DeferredList([Deferred.fromCoroutine(write_and_read(n)) for n in range(200)])
        self.assertEqual(outcomes, [(True, True)] * 200)

    async def test_close_finishes(self) -> None:
        """Closing lets what was given come to its end; what comes later is refused."""
        given = [Deferred.fromCoroutine(self.publish(f"{n}".encode())) for n in range(100)]
        closed = self.store.close()
        late = DeferredList([self.store.take_epoch(at=1.0)], consumeErrors=True)
        outcomes = await DeferredList(given, consumeErrors=True)
        await closed
        self.assertTrue(all(succeeded for succeeded, _ in outcomes))
        ((succeeded, failure),) = await late
        assert isinstance(failure, Failure)
        self.assertFalse(succeeded)
        self.assertIs(failure.type, MetadataUnavailable)

    async def test_cancelled(self) -> None:
        """Who no longer waits harms nobody: the step is carried out, the next one too."""
        given = Deferred.fromCoroutine(self.publish(b"k"))
        given.addErrback(lambda failure: None)
        given.cancel()
        await self.publish(b"l")
        self.assertEqual((await self.store.current_version("b", b"k")).facts.key, b"k")


class TransactionTests(SynchronousTestCase):
    """The transaction that many steps share, without threads."""

    def setUp(self) -> None:
        """A table with a constraint that is checked at the commit."""
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
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
                lambda connection: connection.execute("INSERT INTO parents VALUES (1)"),
                lambda connection: connection.execute("INSERT INTO children VALUES (9)"),
            ],
        )
        self.assertEqual([type(outcome.error) for outcome in outcomes], [MetadataUnavailable] * 2)
        self.assertEqual((self.count(), self.connection.in_transaction), (0, False))

    def test_lost_transaction(self) -> None:
        """When SQLite gives the transaction up in the middle nothing is taken for done, not even what came before."""
        steps = [
            lambda connection: connection.execute("INSERT INTO parents VALUES (1)"),
            lambda connection: connection.execute("INSERT OR ROLLBACK INTO parents VALUES (1)"),
            lambda connection: connection.execute("INSERT INTO parents VALUES (2)"),
        ]
        outcomes = commit_together(self.connection, steps)
        self.assertEqual([type(outcome.error) for outcome in outcomes], [MetadataUnavailable] * 3)
        self.assertEqual(self.count(), 0)

    def test_rows(self) -> None:
        """A step that changes more than 100 rows is undone alone."""

        def many(number: int) -> Step:
            return lambda connection: connection.executemany(
                "INSERT INTO parents VALUES (?)", [(number * 1000 + n,) for n in range(number)]
            )

        outcomes = commit_together(self.connection, [many(100), many(101)])
        self.assertIsNone(outcomes[0].error)
        self.assertIsInstance(outcomes[1].error, StepTooLarge)
        self.assertEqual(self.count(), 100)

    def test_bugs_stay_bugs(self) -> None:
        """Bad SQL is not mistaken for a fault of the world, in a write or a read."""
        for together in (commit_together, read_together):
            (outcome,) = together(self.connection, [lambda connection: connection.execute("SELECT nonsense")])
            self.assertIsInstance(outcome.error, sqlite3.OperationalError)
            self.assertFalse(self.connection.in_transaction)


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
        await store.take_epoch(at=1.0)
        modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in path.parent.glob(f"{path.name}*")}
        self.assertGreaterEqual(len(modes), 2)
        self.assertEqual(set(modes.values()), {0o600})

    async def test_durable(self) -> None:
        """Another opening finds the same appliance with the same contents, and a later epoch."""
        path = self.mktemp()
        store = await self.reopened(path)
        epoch = await store.take_epoch(at=1.0)
        await store.create_bucket(name="b", owner_id="o", region="r", created_at=1.0, default_class=None)
        await store.close()
        again = await self.reopened(path)
        self.assertEqual(again.appliance_id, store.appliance_id)
        self.assertEqual((await again.bucket("b")).owner_id, "o")
        self.assertGreater(await again.take_epoch(at=0.0), epoch)

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
        """A file of every earlier schema, none included, is brought up to date and works."""
        migrations = shipped_migrations()
        for version in range(len(migrations) + 1):
            path = self.mktemp()
            connection = sqlite3.connect(path, isolation_level=None)
            migrate(connection, migrations[:version], new_appliance_id=lambda: "id")
            connection.close()
            store = await self.reopened(path)
            await store.create_bucket(name="b", owner_id="o", region="r", created_at=1.0, default_class=None)
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

    def test_failing_migration(self) -> None:
        """A migration that fails leaves nothing of itself nor of those before it in the same start."""
        connection = sqlite3.connect(":memory:", isolation_level=None)
        self.addCleanup(connection.close)
        good = Migration(number=1, statements="CREATE TABLE one (a);\nINSERT INTO one VALUES (1);\n")
        bad = Migration(number=2, statements="CREATE TABLE two (a);\nCREATE TABLE two (a);\n")
        with self.assertRaises(sqlite3.OperationalError):
            migrate(connection, [good, bad], new_appliance_id=lambda: "id")
        self.assertEqual(connection.execute("SELECT name FROM sqlite_schema").fetchall(), [])

    def test_numbering(self) -> None:
        """A gap in the numbers of the migrations is noticed, and so is a statement that does not end."""
        folder = Path(self.mktemp())
        folder.mkdir()
        for name in ("0001.sql", "0003.sql"):
            (folder / name).write_text("CREATE TABLE t (a);")
        with self.assertRaises(ValueError):
            shipped_migrations(folder)
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
        connection = sqlite3.connect(":memory:", isolation_level=None)
        self.addCleanup(connection.close)
        migrate(connection, shipped_migrations(), new_appliance_id=lambda: "id")
        connection.execute(
            "INSERT INTO buckets (name, owner_id, region, created_at) VALUES ('b', 'o', 'r', 1)"
        )
        connection.set_trace_callback(statements.append)
        classes = [StorageClass.GLACIER]
        versions.current_in(connection, 1, b"k")
        versions.listed(connection, "b", from_key=b"a", before_key=b"b", limit=9)
        versions.by_uid(connection, 1)
        bundles.pending(connection, classes=classes, after_sequence=3, limit=9)
        bundles.listed(connection, states=list(BundleState), settled=None, after="", limit=9)
        bundles.members(connection, "x", after_position=3, limit=9)
        bundles.extents(connection, 1)
        copies.listed(connection, bundle_id=None, barcode="T", version_uid=None)
        copies.listed(connection, bundle_id=None, barcode=None, version_uid=1)
        copies.unfinished(connection, 9)
        copies.unmanifested(connection, "T")
        restores.evictable(connection, classes=classes, archived_before=9.0, limit=9)
        restores.wanted_extents(connection, after=(1, 1), limit=9)
        restores.ongoing(connection, on_disk=True, limit=9)
        restores.expired(connection, now=9.0, limit=9)
        uploads.listed(connection, "b", prefix=b"a", after_key=b"", after_upload_id="", limit=9)
        layouts.pieces(connection, "l", after_ordinal=3, limit=9)
        layouts.referenced(connection, ["x"])
        layouts.tidy(connection)
        telling.due_messages(connection, now=9.0, limit=9)
        backlog.backlog(connection)
        connection.set_trace_callback(None)
        self.assertGreater(len(statements), 20)
        for statement in statements:
            for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall():
                is_bounded = not step.startswith("SCAN") or step in HARMLESS_SCANS
                self.assertTrue(is_bounded and "TEMP B-TREE FOR ORDER" not in step, (step, statement))


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
