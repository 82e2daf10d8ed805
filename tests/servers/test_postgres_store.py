"""The store in PostgreSQL when something goes wrong: nothing is lost, nothing is done twice, and it goes on by itself."""

import os
import re
from collections.abc import Awaitable
from random import Random
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater
from twisted.logger import LogLevel, capturedLogs
from twisted.python.failure import Failure

from coldstore.interfaces.metadata import AnotherAppliance, Conflict, SchemaTooNew
from coldstore.metadata.postgres.client import Address
from coldstore.metadata.postgres.merging import QUESTIONS_MAX
from coldstore.metadata.postgres.store import PostgresStore
from coldstore.metadata.sql.database import Database
from coldstore.model.errors import MetadataFull, MetadataUnavailable
from coldstore.model.events import Severity
from coldstore.util.asynchronous import returns_deferred
from coldstore.util.thishost import host_name
from tests.contract.metadata_contract import facts_of, piece_of
from tests.contract.metadata_keys import user_of
from tests.ports import free_port
from tests.servers import postgres
from tests.servers.postgres_rig import LONG_SECONDS, PostgresCase
from tests.servers.processes import SmallDisk
from tests.servers.proxy import Fault, Way

SLOW_COMMIT = """
CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER slowly AFTER INSERT ON epochs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slowly()
"""
"""Beginning an epoch takes its time at the commit."""


class StoreCase(PostgresCase):
    """Has stores on a database of its own."""

    timeout = 480

    def store_at(
        self,
        address: Address | None = None,
        *,
        connect_seconds: float = LONG_SECONDS,
        answer_seconds: float = LONG_SECONDS,
        readers: int = 2,
        **options: Any,
    ) -> PostgresStore:
        """A store that is not open, and is closed at the end."""
        store = PostgresStore(
            address or self.address,
            reactor=reactor,
            connect_seconds=connect_seconds,
            answer_seconds=answer_seconds,
            readers=readers,
            **options,
        )
        self.addCleanup(store.close)
        return store

    async def opened(self, address: Address | None = None, **options: Any) -> PostgresStore:
        """An open store with bucket ``b``, which is not made anew."""
        store = self.store_at(address, **options)
        await store.open()
        if not await store.buckets(owner_id=None, after="", limit=1):
            await store.create_bucket(name="b", owner_id="o", region="r", created_at=1.0, default_class=None)
        return store

    def publish(self, store: PostgresStore, key: bytes, **changes: Any) -> "Deferred[Any]":
        """Publish an object whose layout and piece are named after its key: twice would be a conflict."""
        name = key.decode()
        return store.publish_version(
            facts_of(key, **changes),
            layout_id=f"layout-{name}",
            pieces=[piece_of(f"piece-{name}")],
            wants_tape=True,
            condition=None,
            messages=(),
        )

    async def keys(self, store: PostgresStore) -> set[bytes]:
        """The keys in the bucket."""
        found = await store.list_current("b", from_key=b"", before_key=None, limit=100_000)
        return {version.facts.key for version in found}

    async def at_commit(
        self, store: PostgresStore, fault: Fault, way: Way, *, passes: bool
    ) -> "Deferred[Any]":
        """Have the connection of the writer go wrong at the next COMMIT that passes, or at the server's word that it is done."""

        async def long(db: Database) -> None:
            await db.row("SELECT ?, repeat('x', 2000)", ("x" * 2000,))
            raise Conflict("no commit follows")

        # The relay finds its text among the last bytes that passed, too.
        await self.refused(store._write(long), Conflict)
        return self.proxy.at(fault, way, text=b"COMMIT\0", passes=passes)

    async def refused(self, step: Awaitable[object], kind: type[Exception] = MetadataUnavailable) -> str:
        """What a step is refused with."""
        try:
            result = await step
        except kind as error:
            return str(error)
        raise AssertionError(f"{kind.__name__} was expected, not {result!r}")


class OpenTests(StoreCase):
    """Opening."""

    async def test_no_server(self) -> None:
        """Without a server it does not open, and says where none is."""
        store = self.store_at(self.at(port=free_port()), connect_seconds=0.6)
        self.assertRegex(await self.refused(store.open()), "^PostgreSQL at 127.0.0.1:.*: .*refused")
        await self.refused(self.publish(store, b"k"))

    async def test_server_that_comes(self) -> None:
        """A server that is just starting is waited for."""
        await self.proxy.refuse()
        store = self.store_at()
        opening = store.open()
        await self.until(lambda: True)
        reactor.callLater(0.5, self.proxy.start)  # type: ignore[attr-defined]
        await opening
        self.assertNotEqual(store.appliance_id, "")

    async def test_id(self) -> None:
        """The id stays."""
        store = await self.opened()
        await store.close()
        again = await self.opened()
        self.assertEqual((again.appliance_id, len(again.appliance_id)), (store.appliance_id, 36))

    async def test_two(self) -> None:
        """A second process is refused as long as the first one has the database, and works when that has left."""
        first = await self.opened()
        second = self.store_at(connect_seconds=2.0)
        who = rf"process {os.getpid()} on {re.escape(host_name())}, process \d+ of the server since 20"
        self.assertRegex(await self.refused(second.open(), AnotherAppliance), who)
        await self.publish(first, b"k")
        await first.close()
        self.assertEqual(await self.keys(await self.opened()), {b"k"})

    async def test_newer(self) -> None:
        """A database of a newer program is left alone, at once."""
        store = await self.opened()
        await store.close()
        self.sql("INSERT INTO migrations (number, checksum) VALUES (99, 'x')")
        await self.refused(self.store_at().open(), SchemaTooNew)

    async def test_unsafe(self) -> None:
        """A server that does not write through to its disk is told of."""
        with capturedLogs() as logged:
            await self.opened()
        told = [event for event in logged if event["log_level"] is LogLevel.warn]
        self.assertIn("fsync off", told[0]["log_format"])

    async def test_session(self) -> None:
        """Commits are on the disk whatever the server does for others; plans don't follow statistics; questions cannot write."""
        self.sql(f"ALTER DATABASE {self.database.database} SET synchronous_commit = off")
        store = await self.opened()

        async def settings(db: Database) -> Any:
            names = "synchronous_commit", "enable_seqscan", "enable_hashjoin", "enable_mergejoin", "jit"
            return [(await db.row(f"SHOW {name}"))[0] for name in names]

        self.assertEqual(await store._write(settings), ["on", "off", "off", "off", "off"])
        self.assertEqual(await store._read(settings), ["on", "off", "off", "off", "off"])
        for ask in (store._read, store._look_up):
            with self.assertRaisesRegex(Exception, "read-only transaction"):
                await ask(lambda db: db.row("UPDATE store SET last_version = 7"))

    async def test_reloaded(self) -> None:
        """What an administrator changes while sessions last does not make their commits less safe."""
        store = await self.opened()
        self.addCleanup(self.cluster.sql, "SELECT pg_reload_conf()")
        self.addCleanup(self.cluster.sql, "ALTER SYSTEM RESET synchronous_commit")
        self.cluster.sql("ALTER SYSTEM SET synchronous_commit = off")
        self.cluster.sql("SELECT pg_reload_conf()")
        await self.until(lambda: self.sql("SHOW synchronous_commit") == [("off",)])
        # A session takes a reload in before its next statement; the signal may still be on its way.
        for _ in range(20):
            self.assertEqual(await store._write(lambda db: db.row("SHOW synchronous_commit")), ("on",))
            await deferLater(reactor, 0.02)  # type: ignore[arg-type]

    async def test_idle(self) -> None:
        """Sessions with nothing to do are not ended, whatever the server does with others: the lock of the writer would go with them."""
        self.sql(f"ALTER DATABASE {self.database.database} SET idle_session_timeout = 200")
        store = await self.opened()
        backends = set(self.cluster.backends(self.database))
        await deferLater(reactor, 1.0)  # type: ignore[arg-type]
        self.assertEqual(set(self.cluster.backends(self.database)), backends)
        await self.publish(store, b"k")

    async def test_read_only(self) -> None:
        """A database whose sessions only read unless they say otherwise can be begun."""
        self.sql(f"ALTER DATABASE {self.database.database} SET default_transaction_read_only = on")
        await self.publish(await self.opened(connect_seconds=5.0), b"k")

    async def test_moments(self) -> None:
        """A moment is read as it was written, however the server shows numbers to others."""
        self.sql(f"ALTER DATABASE {self.database.database} SET extra_float_digits = 0")
        store = await self.opened()
        version = await self.publish(store, b"k", created_at=1732885920.1234567)
        self.assertEqual(await store.current_version("b", b"k"), version)


class StepTests(StoreCase):
    """Steps that fail among others."""

    async def test_whose_it_was(self) -> None:
        """A key that is there already is found when it is too late for others, and still fails nobody else."""
        store = await self.opened()
        users = [user_of(f"u{n % 7}", f"{n}", f"k{n}") for n in range(20)]
        outcomes = await DeferredList(
            [store.create_user(user, key) for user, key in users], consumeErrors=True
        )
        kinds = [type(result.value) if isinstance(result, Failure) else None for _, result in outcomes]
        self.assertEqual(kinds, [None] * 7 + [Conflict] * 13)
        self.assertEqual(len(await store.users()), 7)

    async def test_bug(self) -> None:
        """A statement that is wrong fails its own step alone, as what it is."""
        store = await self.opened()
        good, bad, late = (
            self.publish(store, b"good"),
            store._write(lambda db: db.row("SELECT nonsense")),
            self.publish(store, b"late"),
        )
        outcomes = await DeferredList([good, bad, late], consumeErrors=True)
        self.assertEqual([is_good for is_good, _ in outcomes], [True, False, True])
        self.assertIn("nonsense", str(outcomes[1][1].value))
        self.assertEqual(await self.keys(store), {b"good", b"late"})

    async def test_given_up(self) -> None:
        """A statement that the server gives up fails its own step alone, and nothing of it is there."""
        store = await self.opened(answer_seconds=3.0)

        async def slow(db: Database) -> None:
            await db.do("INSERT INTO epochs (began_at) VALUES (?)", (1.0,))
            await db.row("SET LOCAL statement_timeout = 100; SELECT pg_sleep(60)")

        outcomes = await DeferredList([self.publish(store, b"good"), store._write(slow)], consumeErrors=True)
        self.assertEqual([is_good for is_good, _ in outcomes], [True, False])
        self.assertIsInstance(outcomes[1][1].value, MetadataUnavailable)
        self.assertEqual(self.sql("SELECT count(*) FROM epochs"), [(0,)])

    async def test_bug_around_them(self) -> None:
        """When something goes wrong with a transaction itself its steps fail, and the next one is on a fresh connection."""
        transactions = 0

        def shuffle(_wave: list[int]) -> None:
            nonlocal transactions
            transactions += 1
            if transactions == 2:
                raise ZeroDivisionError("a bug")

        store = await self.opened(shuffle=shuffle)
        await self.refused(self.publish(store, b"k"), ZeroDivisionError)
        await self.publish(store, b"l")
        self.assertEqual(await self.keys(store), {b"l"})

    async def test_nul(self) -> None:
        """Text that the server could not hold is held in another form."""
        store = await self.opened()
        await store.raise_alert(kind="k", subject="s", severity=Severity.WARNING, sentence="a\0b", at=1.0)
        (alert,) = await store.alerts(include_cleared=False, limit=9)
        self.assertEqual(alert.sentence, "a\N{SYMBOL FOR NULL}b")

    async def test_one_moment(self) -> None:
        """A read of several questions sees one moment; a look-up sees what is there now."""
        store = await self.opened()

        async def counted_twice(db: Database) -> Any:
            before = await db.row("SELECT count(*) FROM epochs")
            self.sql("INSERT INTO epochs (began_at) VALUES (1)")
            return before, await db.row("SELECT count(*) FROM epochs")

        self.assertEqual(await store._read(counted_twice), ((0,), (0,)))
        self.assertEqual(await store._look_up(counted_twice), ((1,), (2,)))

    async def test_busy(self) -> None:
        """A read does not have to wait until nobody wants to look anything up any more."""
        store = await self.opened(self.direct)
        told: list[str] = []

        def look_up(count: int) -> list["Deferred[Any]"]:
            return [store.version(1).addCallback(lambda _: told.append("look-up")) for _ in range(count)]

        given = look_up(4 * QUESTIONS_MAX)
        # All connections are busy then.
        await deferLater(reactor, 0)  # type: ignore[arg-type]
        given += [store.backlog().addCallback(lambda _: told.append("read")), *look_up(16 * QUESTIONS_MAX)]
        await DeferredList(given, fireOnOneErrback=True)
        self.assertLess(told.index("read"), 12 * QUESTIONS_MAX)


class LossTests(StoreCase):
    """Connections that end."""

    async def test_killed(self) -> None:
        """Steps and questions under way when every session is killed are carried out on others, once."""
        store = await self.opened(self.direct)
        given: list[Deferred[Any]] = []
        for number in range(60):
            given.append(self.publish(store, b"%03d" % number))
            given.append(store.list_current("b", from_key=b"", before_key=None, limit=9))
            if number % 20 == 10:
                await given[-2]
                for backend in self.cluster.backends(self.database):
                    self.sql(f"SELECT pg_terminate_backend({backend})")
        outcomes = await DeferredList(given, consumeErrors=True)
        self.assertEqual([result for is_good, result in outcomes if not is_good], [])
        self.assertEqual(len(await self.keys(store)), 60)

    async def test_request_lost(self) -> None:
        """A commit that never arrived is done on the next session."""
        store = await self.opened()
        cut = await self.at_commit(store, Fault.CUT, Way.TO_SERVER, passes=False)
        version = await self.publish(store, b"k")
        self.assertTrue(cut.called)
        self.assertEqual(await store.current_version("b", b"k"), version)
        self.assertEqual(
            self.sql("SELECT count(*), max(version_uid) FROM versions"), [(1, version.version_uid)]
        )

    async def test_answer_lost(self) -> None:
        """A commit whose answer never came is found to be there, and told with what its steps came to."""
        store = await self.opened()
        cut = await self.at_commit(store, Fault.CUT, Way.TO_CLIENT, passes=False)
        version = await self.publish(store, b"k")
        self.assertTrue(cut.called)
        self.assertEqual(await store.current_version("b", b"k"), version)
        self.assertEqual(self.sql("SELECT count(*) FROM versions"), [(1,)])

    async def test_cut_in_the_commit(self) -> None:
        """A commit that is cut off in its midst is settled one way or the other, and is there once."""
        store = await self.opened()
        self.sql(SLOW_COMMIT)
        for number in range(1, 3):
            cut = await self.at_commit(store, Fault.CUT, Way.TO_SERVER, passes=True)
            epoch = (await store.take_epoch(at=float(number), host="")).number
            self.assertTrue(cut.called)
            self.assertEqual(self.sql("SELECT max(epoch), count(*) FROM epochs"), [(epoch, number)])

    async def test_never_settled(self) -> None:
        """What became of a commit is said to be unknown when no session comes up to look; later steps are refused at once."""
        store = await self.opened(connect_seconds=1.0)
        self.sql(SLOW_COMMIT)
        cut = await self.at_commit(store, Fault.STALL, Way.TO_SERVER, passes=True)
        beginning = store.take_epoch(at=1.0, host="")
        await cut
        await self.proxy.refuse()
        self.proxy.now(Fault.CUT)
        self.assertIn("unknown whether this was committed", await self.refused(beginning))
        late = self.publish(store, b"late")
        self.assertIn("PostgreSQL at", await self.refused(late))
        self.assertIn("PostgreSQL at", await self.refused(store.version(1)))
        self.proxy.start()
        await self.until_up(store)
        await self.publish(store, b"k")
        self.assertEqual(await self.keys(store), {b"k"})

    async def until_up(self, store: PostgresStore) -> None:
        """Wait until steps and questions are carried out again."""
        for ask in (lambda: store.take_epoch(at=2.0, host=""), store.totals):
            while True:
                try:
                    await ask()
                    break
                except MetadataUnavailable:
                    await self.until(lambda: True)

    async def test_cut_anywhere(self) -> None:
        """Wherever connections are cut: what was told to be done is there, what failed is not, and nothing is there twice."""
        store = await self.opened()
        random = Random(5)
        told: set[bytes] = set()
        given: list[Deferred[Any]] = []
        for number in range(300):
            key = b"%03d" % number
            given.append(self.publish(store, key).addCallback(lambda _, key=key: told.add(key)))
            given.append(store.list_current("b", from_key=b"", before_key=None, limit=3))
            if number % 20 == 0:
                self.proxy.at(
                    Fault.CUT, random.choice(list(Way)), after_bytes=random.randrange(2_000, 40_000)
                )
            await deferLater(reactor, 0.003)  # type: ignore[arg-type]
        outcomes = await DeferredList(given, consumeErrors=True)
        self.proxy.moments.clear()
        failed = [result.value for is_good, result in outcomes if not is_good]
        self.assertEqual({type(each) for each in failed} - {MetadataUnavailable}, set())
        self.assertEqual(await self.keys(store), told)
        self.assertGreater(len(told), 200)
        ((pieces, layouts),) = self.sql(
            "SELECT (SELECT count(*) FROM pieces), (SELECT count(*) FROM layouts)"
        )
        self.assertEqual((pieces, layouts), (len(told), len(told)))
        self.assertGreater(self.proxy.accepted, 8)

    async def test_poison(self) -> None:
        """A step that ends its connection each time is given up, and those around it are carried out."""
        store = await self.opened(self.direct)
        suicide = "SELECT pg_terminate_backend(pg_backend_pid())"
        given = [self.publish(store, b"%d" % number) for number in range(4)]
        poison = store._write(lambda db: db.row(suicide))
        given += [self.publish(store, b"%d" % number) for number in range(4, 8)]
        self.assertIn("lost", await self.refused(poison))
        self.assertIn("lost", await self.refused(store._read(lambda db: db.row(suicide))))
        await DeferredList(given, fireOnOneErrback=True)
        self.assertEqual(len(await self.keys(store)), 8)

    async def test_somebody_else_wrote(self) -> None:
        """Who was away while another process wrote remembers what is not so any more: it is of no use, and says so."""
        store = await self.opened(connect_seconds=1.0)
        await self.proxy.stop()
        other = await self.opened(self.direct)
        await self.publish(other, b"k")
        await other.close()
        self.proxy.start()
        while "another process has written" not in await self.refused(store.take_epoch(at=1.0, host="")):
            await self.until(lambda: True)
        self.assertRegex(await store.when_taken_over(), "another process has (written|become the writer)")
        self.flushLoggedErrors()

    async def test_heard(self) -> None:
        """Who has lost the lock hears it from the database when another one has it, without asking for anything."""
        store = await self.opened(connect_seconds=1.0)
        await self.until(lambda: self.sql("SELECT 1 FROM pg_stat_activity WHERE query LIKE 'LISTEN %'"))
        await self.proxy.refuse()
        ((writer,),) = self.sql("SELECT pid FROM pg_locks WHERE locktype = 'advisory'")
        self.sql(f"SELECT pg_terminate_backend({writer})")
        await self.opened(self.direct)
        self.assertIn("another process has become the writer", await store.when_taken_over())
        self.proxy.start()

    async def test_heard_later(self) -> None:
        """What nobody could hear is seen when the connection is there again."""
        store = await self.opened(connect_seconds=1.0)
        await self.proxy.stop()
        await self.opened(self.direct)
        self.proxy.start()
        self.assertIn("another process has", await store.when_taken_over())

    async def test_gone_back(self) -> None:
        """A server that has lost what it confirmed (another one took its place) is not written to as if nothing had happened."""
        store = await self.opened(connect_seconds=1.0)
        await self.publish(store, b"k")
        await self.proxy.stop()
        self.sql("UPDATE writer SET batch = batch - 1")
        self.proxy.start()
        while "does not hold" not in await self.refused(store.take_epoch(at=1.0, host="")):
            await self.until(lambda: True)
        self.assertIn("does not hold", await store.when_taken_over())
        # Nor by a later session.
        for _ in range(3):
            await deferLater(reactor, 0.3)  # type: ignore[arg-type]
            await self.refused(store.take_epoch(at=1.0, host=""))
        self.flushLoggedErrors()

    async def test_closing(self) -> None:
        """What was given before the close is carried out although its connection ends; closing again changes nothing."""
        store = await self.opened(self.direct)
        given = [self.publish(store, b"%d" % number) for number in range(20)]
        closing = store.close()
        for backend in self.cluster.backends(self.database):
            self.sql(f"SELECT pg_terminate_backend({backend})")
        await closing
        await DeferredList(given, fireOnOneErrback=True)
        await store.close()
        self.assertEqual(self.sql("SELECT count(*) FROM versions"), [(20,)])
        self.assertEqual(self.cluster.backends(self.database), [])


class ServerTests(StoreCase):
    """A server of its own, that stops."""

    def server(self) -> postgres.Cluster:
        """The server that is used."""
        cluster = postgres.Cluster(is_durable=True)
        self.addCleanup(cluster.remove)
        return cluster

    @returns_deferred
    async def test_killed_and_restarted(self) -> None:
        """What was told before the server was killed is there; steps given while it is down are carried out when it is back."""
        store = await self.opened(self.direct)
        told: set[bytes] = set()

        def publish(key: bytes) -> "Deferred[Any]":
            return self.publish(store, key).addCallback(lambda _: told.add(key))

        given = [publish(b"%03d" % number) for number in range(100)]
        await given[0]
        self.cluster.kill()
        given += [publish(b"down%d" % number) for number in range(10)]
        reading = store.totals()
        self.cluster.start()
        await DeferredList(given, fireOnOneErrback=True)
        await reading
        self.assertEqual(len(told), 110)
        self.assertEqual(await self.keys(store), told)
        (use,) = await store.staging_use(bucket="b")
        self.assertEqual(use.used_bytes, 1100)

    @returns_deferred
    async def test_frozen(self) -> None:
        """A server that falls silent is given up; once it speaks again what was asked is carried out, once."""
        store = await self.opened(self.direct, answer_seconds=3.0)
        await self.publish(store, b"before")
        with capturedLogs() as logged:
            self.cluster.freeze()
            publishing = self.publish(store, b"k")
            await self.until(lambda: any("no answer within 3 s" in str(event.get("why")) for event in logged))
            self.cluster.thaw()
        version = await publishing
        self.assertEqual(await store.current_version("b", b"k"), version)
        self.assertEqual(await self.keys(store), {b"before", b"k"})


class StandbyTests(StoreCase):
    """A server that becomes the standby of another one."""

    def server(self) -> postgres.Cluster:
        """The server that is used."""
        cluster = postgres.Cluster(settings=(*postgres.SMALL, "wal_level=replica"))
        self.addCleanup(cluster.remove)
        return cluster

    @returns_deferred
    async def test_not_read(self) -> None:
        """A standby is not asked: it may not know what was told to be done."""
        store = await self.opened(self.direct, connect_seconds=2.0)
        # Before the database is dropped.
        self.addCleanup(self.promote)
        await self.publish(store, b"k")
        self.cluster.stop()
        (self.cluster.data / "standby.signal").touch()
        self.cluster.own(self.cluster.data / "standby.signal")
        self.cluster.start()
        self.assertEqual(self.sql("SELECT pg_is_in_recovery()"), [(True,)])
        for ask in (store.totals, lambda: store.current_version("b", b"k")):
            self.assertIn("standby", await self.refused(ask()))
        self.promote()
        while True:
            try:
                self.assertEqual((await store.current_version("b", b"k")).facts.key, b"k")
                break
            except MetadataUnavailable:
                await self.until(lambda: True)

    def promote(self) -> None:
        """Make it a server like others, if it is not."""
        self.sql("SELECT pg_promote() WHERE pg_is_in_recovery()")


class ReplicatedTests(StoreCase):
    """A server whose commits count when a standby has them."""

    def server(self) -> postgres.Cluster:
        """The server that is used."""
        cluster = postgres.Cluster(settings=(*postgres.SMALL, "wal_level=replica", "max_wal_senders=2"))
        self.addCleanup(cluster.remove)
        return cluster

    @returns_deferred
    async def test_not_replicated(self) -> None:
        """A commit that no standby has is not told to be done because this server alone has it."""
        store = await self.opened(self.direct, connect_seconds=4.0, answer_seconds=1.0)
        self.wait_for("absent")
        self.addCleanup(self.wait_for, "")
        self.assertIn("unknown whether this was committed", await self.refused(self.publish(store, b"k")))
        self.wait_for("")
        while True:
            try:
                await store.take_epoch(at=1.0, host="")
                break
            except MetadataUnavailable:
                await self.until(lambda: True)
        self.assertEqual(await self.keys(store), {b"k"})

    def wait_for(self, standby: str) -> None:
        """Have commits wait for a standby, or for none."""
        self.cluster.sql(f"ALTER SYSTEM SET synchronous_standby_names = '{standby}'")
        self.cluster.sql("SELECT pg_reload_conf()")


class FullTests(StoreCase):
    """A server whose disk has no room."""

    def server(self) -> postgres.Cluster:
        """The server that is used."""
        self.disk = SmallDisk(96)
        self.disk.__enter__()
        self.addCleanup(self.disk.__exit__, None, None, None)
        cluster = postgres.Cluster(disk=self.disk)
        self.addCleanup(cluster.remove)
        return cluster

    async def test_full(self) -> None:
        """Steps that find no room are refused, what was told stays, and with room all goes on by itself."""
        store = await self.opened(self.direct)
        await self.publish(store, b"before")
        self.disk.fill()
        told = {b"before"}
        refused: list[Exception] = []
        for batch in range(200):
            keys = [b"%03d-%02d" % (batch, number) for number in range(20)]
            steps = [self.publish(store, key, user_metadata=(("text", "x" * 2000),)) for key in keys]
            for key, (is_good, result) in zip(
                keys, await DeferredList(steps, consumeErrors=True), strict=True
            ):
                if is_good:
                    told.add(key)
                else:
                    refused.append(result.value)
            if refused:
                break
        self.assertTrue(refused)
        self.assertEqual({type(each) for each in refused} - {MetadataFull, MetadataUnavailable}, set())
        self.disk.clear()
        await self.publish(store, b"after")
        self.assertEqual(await self.keys(store) - told, {b"after"})
        self.assertEqual(told - await self.keys(store), set())
