"""One connection to a real PostgreSQL, over a relay that goes wrong: all that bites in txpostgres and psycopg2."""

import socket
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import psycopg2
from psycopg2 import errors
from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from coldstore.metadata.postgres.client import Backend, Connection, Duplicate, is_end_of_connection
from coldstore.model.errors import MetadataFull, MetadataUnavailable
from coldstore.util.asynchronous import returns_deferred
from tests.servers import postgres
from tests.servers.certificates import self_signed
from tests.servers.postgres_rig import LONG_SECONDS, SLOW_COMMIT, PostgresCase
from tests.servers.processes import SmallDisk
from tests.servers.proxy import Fault, Way

KEY = -(1 << 62) + 12345
SLEEP = "SELECT pg_sleep(600)"


async def failure(deferred: Deferred[Any]) -> BaseException:
    """What a Deferred fails with."""
    try:
        result = await deferred
    except Exception as error:  # noqa: BLE001 - it is what the test is about
        return error
    raise AssertionError(f"did not fail: {result!r}")


class Reader:
    """Notes once that there is something to be read from a socket."""

    def __init__(self, ours: socket.socket, heard: list[int]) -> None:
        self._ours = ours
        self._heard = heard

    def fileno(self) -> int:
        """See ``IReadDescriptor``."""
        return self._ours.fileno()

    def doRead(self) -> None:
        """Note it."""
        self._ours.recv(1)
        self._heard.append(self.fileno())

    def connectionLost(self, reason: object) -> None:
        """See ``IReadDescriptor``."""

    def logPrefix(self) -> str:
        """See ``ILoggingContext``."""
        return "reader"


async def all_are_heard(case: PostgresCase) -> None:
    """Sockets that are opened now are watched by the reactor, whatever had their numbers before."""
    pairs = [socket.socketpair() for _ in range(8)]
    heard: list[int] = []
    readers = [Reader(ours, heard) for ours, _ in pairs]
    try:
        for each in readers:
            reactor.addReader(each)  # type: ignore[attr-defined]
        for _, theirs in pairs:
            theirs.send(b"x")
        await case.until(lambda: len(heard) == len(pairs))
    finally:
        for each in readers:
            reactor.removeReader(each)  # type: ignore[attr-defined]
        for pair in pairs:
            for one in pair:
                one.close()


class Breaking(Protocol):
    """A server that breaks off before anybody is let in, at some moment and in some way."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def connectionMade(self) -> None:
        """Perhaps at once."""
        if self._random.random() < 0.2:
            self.transport.loseConnection()  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        """Perhaps after some words."""
        transport = self.transport
        assert transport is not None
        transport.write(self._random.choice((b"", b"S", b"N", b"S" + b"nonsense" * 9)))
        way = self._random.choice((transport.abortConnection, transport.loseConnection))  # type: ignore[attr-defined]
        reactor.callLater(self._random.choice((0, 0.001, 0.005)), way)  # type: ignore[attr-defined]


class StatementTests(PostgresCase):
    """What is asked and answered while nothing is wrong with the connection."""

    @returns_deferred
    async def test_answers(self) -> None:
        """Values come back as they were given, bytea as bytes; rows, their number and the status are told."""
        connection = await self.connected()
        values = (b"\x00\xff'\\", "ключ'", 1 << 62, 0.1, None, True)
        answer = await connection.run("SELECT %s::bytea, %s::text, %s, %s::float8, %s, %s", values)
        self.assertEqual((answer.rows, answer.status), ([values], "SELECT 1"))
        self.assertIs(type(answer.rows[0][0]), bytes)
        self.assertEqual(await connection.run("CREATE TABLE t (a int, b text)"), ([], -1, "CREATE TABLE"))
        self.assertEqual(await connection.run("INSERT INTO t VALUES (1), (2)"), ([], 2, "INSERT 0 2"))
        self.assertEqual((await connection.run("SELECT '100 %'")).rows, [("100 %",)])

    @returns_deferred
    async def test_several_as_one_text(self) -> None:
        """Of several statements the last is answered; one that fails in the middle undoes all, and the connection lives."""
        connection = await self.connected()
        await connection.run("CREATE TABLE t (a int PRIMARY KEY)")
        texts = [connection.text("INSERT INTO t VALUES (%s)", (number,)) for number in (1, 2)]
        answer = await connection.run(b";".join([*texts, connection.text("SELECT a FROM t ORDER BY a")]))
        self.assertEqual(answer.rows, [(1,), (2,)])
        texts = [connection.text("INSERT INTO t VALUES (%s)", (number,)) for number in (3, 1, 4)]
        self.assertIsInstance(await failure(connection.run(b";".join(texts))), Duplicate)
        self.assertEqual((await connection.run("SELECT count(*) FROM t")).rows, [(2,)])
        self.assertIsNone(connection.ended)

    @returns_deferred
    async def test_one_after_the_other(self) -> None:
        """What is asked at once is answered in order, each with its own answer."""
        connection = await self.connected()
        asked = [connection.run("SELECT %s, pg_sleep(0.001)", (number,)) for number in range(20)]
        self.assertEqual([(await one).rows[0][0] for one in asked], list(range(20)))

    @returns_deferred
    async def test_bugs_stay_bugs(self) -> None:
        """A wrong statement and a broken constraint are what they are, and the connection lives."""
        connection = await self.connected()
        await connection.run("CREATE TABLE t (a int NOT NULL, b int CHECK (b > 0))")
        for statement, kind in (
            ("SELEC", errors.SyntaxError),
            ("SELECT * FROM missing", errors.UndefinedTable),
            ("INSERT INTO t VALUES (NULL, 1)", errors.NotNullViolation),
            ("INSERT INTO t VALUES (1, 0)", errors.CheckViolation),
            ("SELECT 1/0", errors.DivisionByZero),
        ):
            self.assertIsInstance(await failure(connection.run(statement)), kind)
        self.assertIsInstance(
            await failure(connection.run("SELECT %s", (object(),))), psycopg2.ProgrammingError
        )
        self.assertEqual((await connection.run("SELECT 1")).rows, [(1,)])
        self.assertEqual(self.lost, [])

    @returns_deferred
    async def test_given_up_by_the_server(self) -> None:
        """A statement or lock that takes longer than the server allows is a fault, not a cancellation; the connection lives."""
        connection = await self.connected()
        await connection.run("CREATE TABLE t (a int)")
        other = await self.connected(self.direct)
        await other.run("BEGIN; LOCK TABLE t")
        for setting, statement in (("statement_timeout", SLEEP), ("lock_timeout", "SELECT * FROM t")):
            await connection.run(f"SET {setting} = '50ms'")
            error = await failure(connection.run(statement))
            self.assertIs(type(error), MetadataUnavailable, error)
            await connection.run(f"SET {setting} = 0")
        self.assertEqual((self.lost, connection.ended), ([], None))

    @returns_deferred
    async def test_commit(self) -> None:
        """A commit that is told is one; what rides on it is in it."""
        connection = await self.connected()
        await connection.run("BEGIN; CREATE TABLE t (a int)")
        await connection.commit(connection.text("INSERT INTO t VALUES (%s)", (7,)))
        self.assertEqual(self.sql("SELECT a FROM t"), [(7,)])

    @returns_deferred
    async def test_commit_that_rolls_back(self) -> None:
        """The server answers the COMMIT of a failed transaction without an error; it is one for us."""
        connection = await self.connected()
        await connection.run("CREATE TABLE t (a int)")
        await connection.run("BEGIN; INSERT INTO t VALUES (1)")
        await failure(connection.run("SELECT 1/0"))
        error = await failure(connection.commit())
        self.assertIsInstance(error, MetadataUnavailable)
        self.assertIn("ROLLBACK", str(error))
        self.assertEqual(self.sql("SELECT a FROM t"), [])

    @returns_deferred
    async def test_commit_that_is_refused(self) -> None:
        """A constraint that is looked at by the commit makes it fail as any statement would."""
        connection = await self.connected()
        await connection.run("CREATE TABLE t (a int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        await connection.run("BEGIN; INSERT INTO t VALUES (1), (1)")
        self.assertIsInstance(await failure(connection.commit()), Duplicate)
        self.assertEqual(self.sql("SELECT a FROM t"), [])

    @returns_deferred
    async def test_cancelled_by_who_asked(self) -> None:
        """The statement goes on without a second connection and without blocking; the next one waits for its turn."""
        connection = await self.connected()
        await connection.run("CREATE TABLE t (a int)")
        asked = connection.run("INSERT INTO t SELECT 1 FROM pg_sleep(0.2)")
        await deferLater(reactor, 0.05)  # type: ignore[arg-type]
        asked.cancel()
        self.assertIsInstance(await failure(asked), CancelledError)
        self.assertEqual((await connection.run("SELECT a FROM t")).rows, [(1,)])
        self.assertEqual(self.proxy.accepted, 1)


class EndTests(PostgresCase):
    """How a connection ends, and who hears of it. An error that nobody asked for would be in the log, and fail the test."""

    def assertEnded(self, connection: Connection) -> None:
        """It is of no use any more, said so once, and says so again at each use."""
        self.assertIsInstance(connection.ended, MetadataUnavailable)
        self.assertEqual(self.lost, [connection.ended])
        self.assertIs(self.failureResultOf(connection.run("SELECT 1")).value, connection.ended)
        self.assertRaises(MetadataUnavailable, connection.text, "SELECT 1")

    @returns_deferred
    async def test_killed_at_rest(self) -> None:
        """Its end is known at once, though nobody asks for anything."""
        connection = await self.connected()
        self.sql(f"SELECT pg_terminate_backend({self.backend()})")
        await self.until(lambda: self.lost)
        self.assertEnded(connection)

    @returns_deferred
    async def test_killed_under_a_statement(self) -> None:
        """The statement fails, and so do those that wait behind it."""
        connection = await self.connected()
        asked = [connection.run(SLEEP), connection.run("SELECT 1")]
        self.sql(f"SELECT pg_terminate_backend({self.backend()})")
        for one in asked:
            self.assertIsInstance(await failure(one), MetadataUnavailable)
        self.assertEnded(connection)

    @returns_deferred
    async def test_sockets_that_come_after(self) -> None:
        """
        The reactor watches whatever gets the number of a socket that libpq has closed.

        It did not when that came while a statement was under way: another client, of S3 perhaps, was then never heard.
        """
        for end in ("terminated", "cut", "cut in an answer"):
            connection = await self.connected()
            statement = SLEEP
            if end == "cut in an answer":
                passed = next(iter(self.proxy.links)).halves[Way.TO_CLIENT].passed
                self.proxy.at(Fault.CUT, Way.TO_CLIENT, after_bytes=passed + 5000)
                statement = "SELECT repeat('x', 100) FROM generate_series(1, 1000)"
            asked = [connection.run(statement), connection.run("SELECT 1")]
            if end == "terminated":
                self.sql(f"SELECT pg_terminate_backend({self.backend()})")
            elif end == "cut":
                self.proxy.now(Fault.CUT)
            for one in asked:
                self.assertIsInstance(await failure(one), MetadataUnavailable)
            await deferLater(reactor, 0)  # type: ignore[arg-type]
            await all_are_heard(self)

    @returns_deferred
    async def test_cut_at_rest_and_under_a_statement(self) -> None:
        """A connection that the network cuts is as one that the server ends."""
        for asks in (False, True):
            self.lost.clear()
            connection = await self.connected()
            asked = connection.run(SLEEP) if asks else None
            await deferLater(reactor, 0.05)  # type: ignore[arg-type]
            self.proxy.now(Fault.CUT)
            if asked is not None:
                self.assertIsInstance(await failure(asked), MetadataUnavailable)
            await self.until(lambda: self.lost)
            self.assertEnded(connection)

    @returns_deferred
    async def test_half_closed(self) -> None:
        """A server that says no more in an orderly way is gone as well."""
        connection = await self.connected()
        self.proxy.now(Fault.HALF_CLOSE, Way.TO_CLIENT)
        await self.until(lambda: self.lost)
        self.assertEnded(connection)

    @returns_deferred
    async def test_cut_in_an_answer(self) -> None:
        """Half an answer is none."""
        connection = await self.connected()
        passed = next(iter(self.proxy.links)).halves[Way.TO_CLIENT].passed
        self.proxy.at(Fault.CUT, Way.TO_CLIENT, after_bytes=passed + 5000)
        error = await failure(connection.run("SELECT repeat('x', 100) FROM generate_series(1, 1000)"))
        self.assertIsInstance(error, MetadataUnavailable)
        await self.until(lambda: self.lost)
        self.assertEnded(connection)

    @returns_deferred
    async def test_no_answer(self) -> None:
        """Past the deadline the connection is closed; nothing is cancelled, which would be another connection; others go on."""
        connection = await self.connected(answer_seconds=2)
        other = await self.connected()
        asked = connection.run(SLEEP)
        behind = connection.run("SELECT 1")
        error = await failure(asked)
        self.assertIn("no answer within 2 s", str(error))
        self.assertIsInstance(await failure(behind), MetadataUnavailable)
        self.assertEnded(connection)
        self.assertEqual(self.proxy.accepted, 2)
        self.assertEqual((await other.run("SELECT 2")).rows, [(2,)])

    @returns_deferred
    async def test_stalled_while_sending(self) -> None:
        """A text that is larger than what the network takes does not block, and has the same deadline."""
        connection = await self.connected(answer_seconds=1)
        self.proxy.now(Fault.STALL)
        asked = connection.run("SELECT length(%s)", ("x" * (32 << 20),)).addErrback(
            lambda failed: failed.value
        )
        # What blocks would do so for ever, and there would be no deadline.
        self.assertIsInstance(await asked, MetadataUnavailable)
        self.assertEnded(connection)

    @returns_deferred
    async def test_closed_by_us(self) -> None:
        """Who waits is told, the server's process ends, and nobody is told of a loss."""
        connection = await self.connected()
        pid = self.backend()
        asked = connection.run(SLEEP)
        connection.close()
        connection.close()
        self.assertIn("was closed", str(await failure(asked)))
        self.assertEqual(self.lost, [])
        self.sql(f"SELECT pg_terminate_backend({pid})")
        await self.until(lambda: not self.cluster.backends(self.database))


class FenceTests(PostgresCase):
    """The lock of the one writer, and the truth behind it."""

    @returns_deferred
    async def test_one_writer(self) -> None:
        """A second writer is refused, of another key or database not, and gets it once the first is gone."""
        first, second = await self.connected(), await self.connected(self.direct)
        backend = await first.fence(KEY)
        self.assertIn(backend.pid, self.cluster.backends(self.database))
        error = await failure(second.fence(KEY))
        self.assertIn(f"process {backend.pid} of the server", str(error))
        # Another of the same process id was not ours.
        error = await failure(second.fence(KEY, [Backend(backend.pid, "2001-01-01 00:00:00+00")]))
        self.assertIsInstance(error, MetadataUnavailable)
        await second.fence(KEY + 1)
        other = self.cluster.database()
        self.addCleanup(self.cluster.drop, other)
        elsewhere = await self.connected(self.at(port=self.cluster.port, database=other.database))
        await elsewhere.fence(KEY)
        elsewhere.close()
        first.close()
        await self.until(lambda: backend.pid not in self.cluster.backends(self.database))
        await second.fence(KEY)

    @returns_deferred
    async def test_takes_it_from_an_earlier_session(self) -> None:
        """A session of our own that the server still believes in, because nobody told it, is ended."""
        first = await self.connected()
        earlier = await first.fence(KEY)
        self.proxy.now(Fault.STALL)
        first.close()
        second = await self.connected(self.direct)
        now = await second.fence(KEY, [earlier])
        self.assertEqual(self.cluster.backends(self.database), [now.pid])

    @returns_deferred
    async def cut_in_commit(self, *, passes: bool) -> list[Any]:
        """Lose the connection in a commit; return the rows that are there once the fence is held again."""
        self.sql(SLOW_COMMIT + f"; GRANT ALL ON slow TO {postgres.OWNER}")
        first = await self.connected()
        earlier = await first.fence(KEY)
        await first.run("BEGIN; INSERT INTO slow VALUES (1)")
        cut = self.proxy.at(Fault.CUT, Way.TO_SERVER, text=b"COMMIT\0", passes=passes)
        error = await failure(first.commit())
        self.assertIs(type(error), MetadataUnavailable)
        await cut
        second = await self.connected(self.direct)
        await second.fence(KEY, [earlier])
        rows = (await second.run("SELECT a FROM slow")).rows
        # It is the truth: it stays so.
        await deferLater(reactor, 1.2)  # type: ignore[arg-type]
        self.assertEqual((await second.run("SELECT a FROM slow")).rows, rows)
        return rows

    @returns_deferred
    async def test_cut_before_the_commit(self) -> None:
        """A COMMIT that did not arrive changed nothing."""
        self.assertEqual(await self.cut_in_commit(passes=False), [])

    @returns_deferred
    async def test_cut_in_the_commit(self) -> None:
        """A COMMIT that the server works at while its client is gone has come to its end, this or that way, behind the fence."""
        await self.cut_in_commit(passes=True)

    @returns_deferred
    async def test_answer_of_the_commit_lost(self) -> None:
        """A COMMIT that was done, and of which that was not heard, is unknown; behind the fence it is seen."""
        connection = await self.connected()
        earlier = await connection.fence(KEY)
        await connection.run("CREATE TABLE t (a int)")
        await connection.run("BEGIN; INSERT INTO t VALUES (1)")
        self.proxy.at(Fault.CUT, Way.TO_CLIENT, text=b"COMMIT\0", passes=False)
        self.assertIs(type(await failure(connection.commit())), MetadataUnavailable)
        again = await self.connected()
        await again.fence(KEY, [earlier])
        self.assertEqual((await again.run("SELECT a FROM t")).rows, [(1,)])


class ConnectTests(PostgresCase):
    """How a connection begins."""

    def write(self, text: str) -> str:
        """A file."""
        path = Path(self.mktemp())
        path.write_text(text)
        return str(path.absolute())

    async def refused(self, **changes: Any) -> str:
        """What is said when it does not connect."""
        connection = self.made(self.at(**{"port": self.proxy.port, **changes}))
        error = await failure(connection.connect(LONG_SECONDS))
        self.assertIs(type(error), MetadataUnavailable)
        self.assertIs(connection.ended, error)
        self.assertEqual(self.lost, [])
        return str(error)

    @returns_deferred
    async def test_session(self) -> None:
        """The session is begun before the connection is told; the server calls us by our name."""

        async def begun(connection: Connection) -> None:
            await connection.run("SET statement_timeout = 1234; PREPARE twice AS SELECT $1::int * 2")

        connection = await self.connected(
            self.at(port=self.proxy.port, application_name="coldstore test"), begun=begun
        )
        self.assertEqual((await connection.run("EXECUTE twice (21)")).rows, [(42,)])
        self.assertEqual((await connection.run("SHOW statement_timeout")).rows, [("1234ms",)])
        self.assertEqual((await connection.run("SHOW application_name")).rows, [("coldstore test",)])
        self.assertEqual((await connection.run("SHOW client_encoding")).rows, [("UTF8",)])

    @returns_deferred
    async def test_session_that_does_not_begin(self) -> None:
        """A connection whose session cannot begin is closed, and the reason is told."""

        async def begun(connection: Connection) -> None:
            await connection.run("SELECT * FROM missing")

        connection = self.made()
        self.assertIsInstance(await failure(connection.connect(LONG_SECONDS, begun)), errors.UndefinedTable)
        self.assertIsInstance(connection.ended, MetadataUnavailable)
        self.assertEqual(self.lost, [])
        await self.until(lambda: not self.cluster.backends(self.database))

    @returns_deferred
    async def test_closed_while_it_connects(self) -> None:
        """At whichever moment: nobody is told of more than that."""
        for milliseconds in range(20):
            connection = self.made(self.direct)
            connecting = connection.connect(LONG_SECONDS)
            outcome = connecting.addErrback(lambda failed: failed.value)
            await deferLater(reactor, milliseconds / 1000)  # type: ignore[arg-type]
            connection.close()
            self.assertIn(type(await outcome), (type(None), MetadataUnavailable), milliseconds)

    @returns_deferred
    async def test_cancelled_while_it_connects(self) -> None:
        """Whoever does not want it any more is told so at once; nothing is asked of the server, and nothing is left open."""
        for moment in (0, 1):
            stalled = self.proxy.at(Fault.STALL, Way.TO_SERVER, after_bytes=moment)
            connection = self.made()
            connecting = connection.connect(LONG_SECONDS)
            await stalled
            connecting.cancel()
            self.failureResultOf(connecting, CancelledError)
            self.assertIsInstance(connection.ended, MetadataUnavailable)
        self.assertEqual((self.proxy.accepted, self.lost), (2, []))

    @returns_deferred
    async def test_password(self) -> None:
        """It is in a file, read at each connect; what is wrong with it is named, and the password is not told."""
        path = self.write("wrong")
        said = await self.refused(user="guarded", password_path=path)
        self.assertIn("password authentication failed", said)
        self.assertNotIn("wrong", said)
        Path(path).write_text(postgres.PASSWORD + "\n")
        connection = await self.connected(self.at(port=self.proxy.port, user="guarded", password_path=path))
        self.assertEqual((await connection.run("SELECT current_user")).rows, [("guarded",)])
        self.assertIn(f"{path}x", await self.refused(user="guarded", password_path=f"{path}x"))

    @returns_deferred
    async def test_tls(self) -> None:
        """The certificate is checked with the host's name, not with its address; without TLS the server refuses this role."""
        whole = {"user": "secured", "tls": "verify-full", "authority_path": str(self.cluster.certificate)}
        connection = await self.connected(self.at(port=self.proxy.port, host="localhost", **whole))
        row = await connection.run("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        self.assertEqual(row.rows, [(True, "TLSv1.3")])
        self.assertIn("127.0.0.1", await self.refused(**whole))
        other, _ = self_signed("localhost")
        whole["authority_path"] = self.write(other.decode())
        self.assertIn("certificate", await self.refused(host="localhost", **whole))
        await self.refused(user="secured", tls="disable")

    @returns_deferred
    async def test_a_socket(self) -> None:
        """A folder is that of the server's socket."""
        connection = await self.connected(self.at(host=str(self.cluster.folder), port=self.cluster.port))
        self.assertEqual((await connection.run("SELECT inet_server_addr()")).rows, [(None,)])

    @returns_deferred
    async def test_refused(self) -> None:
        """Nobody listens, no such database, no such role, no such name: each is told."""
        self.assertIn("does not exist", await self.refused(database="missing"))
        self.assertIn("missing", await self.refused(user="missing"))
        await self.refused(host="name.invalid")
        await self.proxy.refuse()
        self.assertIn("refused", await self.refused())

    @returns_deferred
    async def test_broken_off_while_it_connects(self) -> None:
        """
        libpq tries again with another socket when a server breaks off early; nothing of that reaches the log, nor stays in the reactor.

        What comes after has the numbers of those sockets, and is watched.
        """
        random = Random(1)
        port = reactor.listenTCP(0, Factory.forProtocol(partial(Breaking, random)), interface="127.0.0.1")  # type: ignore[attr-defined]
        address = self.at(port=port.getHost().port, tls="prefer")
        try:
            for _ in range(60):
                several = [self.made(address) for _ in range(3)]
                for attempt in [one.connect(2) for one in several]:
                    self.assertIs(type(await failure(attempt)), MetadataUnavailable)
            await all_are_heard(self)
        finally:
            await port.stopListening()

    @returns_deferred
    async def test_deadline(self) -> None:
        """A server that takes the connection and says nothing is given up; nothing blocks meanwhile."""
        self.proxy.at(Fault.STALL, Way.TO_SERVER, after_bytes=1)
        connection = self.made()
        error = await failure(connection.connect(0.3))
        self.assertIn("no connection within 0.3 s", str(error))
        self.assertEqual(self.lost, [])

    @returns_deferred
    async def test_resolved_by_the_reactor(self) -> None:
        """The name is looked up by the reactor alone; one address after the other is tried."""
        nobody = socket.socket()
        self.addCleanup(nobody.close)
        nobody.bind(("127.0.0.2", self.proxy.port))

        class Resolver:
            """Knows one name."""

            def resolveHostName(self, receiver: Any, name: str, port: int) -> None:
                assert name == "database.invalid"
                receiver.resolutionBegan(None)
                for host in ("127.0.0.2", "127.0.0.1"):
                    receiver.addressResolved(IPv4Address("TCP", host, port))
                reactor.callLater(0, receiver.resolutionComplete)  # type: ignore[attr-defined]

        before = reactor.installNameResolver(Resolver())  # type: ignore[attr-defined]
        self.addCleanup(reactor.installNameResolver, before)  # type: ignore[attr-defined]
        connection = await self.connected(self.at(host="database.invalid", port=self.proxy.port))
        self.assertEqual((await connection.run("SELECT 1")).rows, [(1,)])


class FullTests(PostgresCase):
    """A server without room."""

    def server(self) -> postgres.Cluster:
        """One on a disk of its own."""
        self.disk = SmallDisk(80)
        self.disk.__enter__()
        self.addCleanup(self.disk.__exit__, None, None, None)
        cluster = postgres.Cluster(disk=self.disk)
        self.addCleanup(cluster.remove)
        return cluster

    @returns_deferred
    async def test_full(self) -> None:
        """No room: it is certain that nothing was changed, the connection lives, and goes on when there is room again."""
        connection = await self.connected()
        await connection.run("CREATE UNLOGGED TABLE t (a text)")
        self.disk.fill()
        insert = "INSERT INTO t SELECT repeat('x', 1000) FROM generate_series(1, 1000)"
        await connection.run("BEGIN")
        self.assertIs(type(await failure(connection.run(insert))), MetadataFull)
        await connection.run("ROLLBACK")
        self.disk.clear()
        self.assertEqual((self.lost, connection.ended), ([], None))
        await connection.run("BEGIN")
        await connection.commit(insert.encode())
        self.assertEqual((await connection.run("SELECT count(*) FROM t")).rows, [(1000,)])


class EndOfConnectionTests(SynchronousTestCase):
    """Which errors are the end of a connection."""

    def test_told_apart(self) -> None:
        """Those that say so, and those that the server did not say; not those that only sound like it."""
        for kind, code, expected in (
            (errors.DiskFull, "53100", False),
            (errors.QueryCanceled, "57014", False),
            (errors.LockNotAvailable, "55P03", False),
            (errors.SerializationFailure, "40001", False),
            (errors.UndefinedTable, "42P01", False),
            (errors.AdminShutdown, "57P01", True),
            (errors.CrashShutdown, "57P02", True),
            (errors.CannotConnectNow, "57P03", True),
            (errors.ConnectionFailure, "08006", True),
            (psycopg2.OperationalError, None, True),
            (psycopg2.DatabaseError, None, True),
            (psycopg2.ProgrammingError, None, False),
        ):
            error = kind("it")
            error.__setstate__({"pgcode": code})
            self.assertEqual(error.pgcode, code)
            self.assertEqual(is_end_of_connection(error, is_closed=False), expected, kind)
            self.assertTrue(is_end_of_connection(error, is_closed=True))
