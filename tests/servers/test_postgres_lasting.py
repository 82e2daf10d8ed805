"""A connection that is made anew after each end, and the bell that others ring."""

from collections.abc import Callable

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock, deferLater

from coldstore.metadata.postgres.bell import Listener
from coldstore.metadata.postgres.client import Address, Connection
from coldstore.metadata.postgres.lasting import PAUSE_FIRST_SECONDS, PAUSE_MOST_SECONDS, LastingConnection
from coldstore.model.errors import MetadataUnavailable
from coldstore.util.asynchronous import returns_deferred
from coldstore.work.bells import ReactorBell
from tests.servers import postgres
from tests.servers.postgres_rig import LONG_SECONDS, PostgresCase
from tests.servers.proxy import Fault, Way


class Counted(ReactorBell):
    """A bell that counts its rings."""

    rings = 0

    def ring(self) -> None:
        """Ring."""
        self.rings += 1
        super().ring()


class LastingCase(PostgresCase):
    """Has connections that are kept up; pauses are those of a clock that is moved by hand."""

    def kept(self, address: Address | None = None) -> LastingConnection:
        """One that was not started; its sessions set ``application_name`` to ``begun``."""
        self.clock = Clock()
        self.up = 0

        async def begun(connection: Connection) -> None:
            await connection.run("SET application_name = 'begun'")

        def is_up() -> None:
            self.up += 1

        lasting = LastingConnection(
            lambda lost: Connection(
                address or self.address, reactor=reactor, answer_seconds=LONG_SECONDS, lost=lost
            ),
            clock=self.clock,
            connect_seconds=LONG_SECONDS,
            begun=begun,
            up=is_up,
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(lasting.stop()))
        return lasting

    async def fails(self, waiting: Deferred[Connection]) -> str:
        """What somebody is told who waits for a connection in vain."""
        try:
            await waiting
        except MetadataUnavailable as error:
            return str(error)
        raise AssertionError("there was one")


class LastingTests(LastingCase):
    """From start to stop, whatever happens to the server."""

    @returns_deferred
    async def test_kept(self) -> None:
        """It comes up, its session is begun, and comes up again after an end, once the pause is over."""
        lasting = self.kept()
        lasting.start()
        connection = await lasting.ready(LONG_SECONDS)
        for times in (1, 2, 3):
            self.assertEqual((self.up, lasting.trouble), (times, ""))
            self.assertEqual((await connection.run("SHOW application_name")).rows, [("begun",)])
            self.sql(f"SELECT pg_terminate_backend({self.backend()})")
            await self.until(lambda: lasting.connection is None)
            self.assertIn("the connection was lost", lasting.trouble)
            self.clock.advance(PAUSE_FIRST_SECONDS - 0.01)
            self.assertEqual(self.proxy.accepted, times)
            self.clock.advance(0.01)
            again = await lasting.ready(LONG_SECONDS)
            self.assertIsNot(again, connection)
            connection = again

    @returns_deferred
    async def test_server_away_at_the_start(self) -> None:
        """It goes on trying, with pauses that double up to a bound; who waits is told why, or gets the connection."""
        await self.proxy.refuse()
        lasting = self.kept()
        lasting.start()
        pauses = []
        while len(pauses) < 9:
            await self.until(lambda: self.clock.getDelayedCalls())
            self.assertIn("refused", lasting.trouble)
            (call,) = self.clock.getDelayedCalls()
            pauses.append(call.getTime() - self.clock.seconds())
            self.clock.advance(pauses[-1])
        self.assertEqual(pauses[:3], [PAUSE_FIRST_SECONDS * 2**n for n in range(3)])
        self.assertEqual(pauses[-1], PAUSE_MOST_SECONDS)
        await self.until(lambda: self.clock.getDelayedCalls())
        late = Deferred.fromCoroutine(lasting.ready(1))
        waiting = Deferred.fromCoroutine(lasting.ready(LONG_SECONDS))
        left = Deferred.fromCoroutine(lasting.ready(LONG_SECONDS))
        left.cancel()
        self.failureResultOf(left, CancelledError)
        self.clock.advance(1)
        self.assertIn("refused", await self.fails(late))
        self.proxy.start()
        self.clock.advance(PAUSE_MOST_SECONDS)
        connection = await waiting
        self.assertIs(await lasting.ready(0), connection)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    @returns_deferred
    async def test_session_does_not_begin(self) -> None:
        """A session that cannot begin is tried again as well; a mistake of ours is in the log."""
        lasting = self.kept()
        broken = True

        async def begun(connection: Connection) -> None:
            await connection.run("SELECT * FROM missing" if broken else "SELECT 1")

        lasting._begun = begun
        lasting.start()
        await self.until(lambda: self.clock.getDelayedCalls())
        self.assertIn("missing", lasting.trouble)
        self.assertEqual(len(self.flushLoggedErrors()), 1)
        broken = False
        self.clock.advance(PAUSE_FIRST_SECONDS)
        await lasting.ready(LONG_SECONDS)
        self.assertEqual(self.up, 1)

    @returns_deferred
    async def test_stopped(self) -> None:
        """It can be stopped at rest, in a pause, and while it connects; who waits is told, and nothing is left."""
        for moment in ("up", "pause", "connecting", "never"):
            lasting = self.kept()
            waiting = None
            if moment == "pause":
                await self.proxy.refuse()
            if moment == "connecting":
                self.proxy.start()
                self.proxy.at(Fault.STALL, Way.TO_SERVER, after_bytes=1)
            if moment != "never":
                lasting.start()
            if moment == "up":
                await lasting.ready(LONG_SECONDS)
            elif moment == "pause":
                await self.until(lambda: self.clock.getDelayedCalls())
            if moment in ("pause", "connecting"):
                waiting = Deferred.fromCoroutine(lasting.ready(LONG_SECONDS))
            await lasting.stop()
            self.assertEqual(self.clock.getDelayedCalls(), [], moment)
            if waiting is not None:
                await self.fails(waiting)
            await self.fails(Deferred.fromCoroutine(lasting.ready(LONG_SECONDS)))
            self.assertIsNone(lasting.connection)


class RestartTests(LastingCase):
    """A server that is stopped, killed and started again."""

    def server(self) -> postgres.Cluster:
        """One of its own."""
        cluster = postgres.Cluster()
        self.addCleanup(cluster.remove)
        return cluster

    @returns_deferred
    async def test_restarts(self) -> None:
        """The statement under way fails; after the restart there is a connection, and a listener was rung and hears again."""
        lasting = self.kept(self.direct)
        bell = Counted(reactor)  # type: ignore[arg-type]
        listener = Listener(
            self.direct, "changes", bell.ring, own="me", reactor=reactor, clock=self.clock,
            answer_seconds=LONG_SECONDS, connect_seconds=LONG_SECONDS,
        )  # fmt: skip
        self.addCleanup(lambda: Deferred.fromCoroutine(listener.stop()))
        lasting.start()
        listener.start()
        ends: tuple[Callable[[], None], ...] = (self.cluster.stop, self.cluster.kill)
        for end in ends:
            connection = await lasting.ready(LONG_SECONDS)
            await listener.lasting.ready(LONG_SECONDS)
            asked = connection.run("SELECT pg_sleep(600)").addErrback(lambda failed: failed.value)
            await deferLater(reactor, 0.1)  # type: ignore[arg-type]
            end()
            self.assertIsInstance(await asked, MetadataUnavailable)
            await self.until(lambda: lasting.connection is None and listener.lasting.connection is None)
            self.clock.advance(PAUSE_FIRST_SECONDS)
            await self.until(lambda: len(self.clock.getDelayedCalls()) == 2)
            self.cluster.start()
            rings = bell.rings
            self.clock.advance(PAUSE_MOST_SECONDS)
            connection = await lasting.ready(LONG_SECONDS)
            self.assertEqual((await connection.run("SELECT 1")).rows, [(1,)])
            await listener.lasting.ready(LONG_SECONDS)
            self.assertEqual(bell.rings, rings + 1)
            self.sql("NOTIFY changes, 'somebody'")
            await self.until(lambda: bell.rings == rings + 2)  # noqa: B023


class ListenerTests(LastingCase):
    """What others tell."""

    @returns_deferred
    async def test_rings(self) -> None:
        """It rings when it begins and for what others say on the channel; not for its own words, nor for other channels."""
        bell = Counted(reactor)  # type: ignore[arg-type]
        listener = Listener(
            self.address, "changes", bell.ring, own="me", reactor=reactor, clock=Clock(),
            answer_seconds=LONG_SECONDS, connect_seconds=LONG_SECONDS,
        )  # fmt: skip
        self.addCleanup(lambda: Deferred.fromCoroutine(listener.stop()))
        listener.start()
        await listener.lasting.ready(LONG_SECONDS)
        self.assertEqual(bell.rings, 1)
        other = await self.connected()
        await other.run("NOTIFY changes, 'me'; NOTIFY others, 'somebody'")
        await other.run("NOTIFY changes, 'somebody'; NOTIFY changes, 'somebody'")
        await self.until(lambda: bell.rings > 1)
        await other.run("NOTIFY changes")
        await self.until(lambda: bell.rings > 2)
        self.assertEqual(bell.rings, 3)

    @returns_deferred
    async def test_heard_beside_a_statement(self) -> None:
        """A session that asks something hears what is said meanwhile."""
        connection = await self.connected()
        await connection.run("LISTEN changes")
        asked = connection.run("SELECT pg_sleep(0.3)")
        self.sql("NOTIFY changes, 'meanwhile'")
        await asked
        await self.until(lambda: self.heard)
        self.assertEqual(self.heard, [("changes", "meanwhile")])
