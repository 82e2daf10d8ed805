"""The relay that goes wrong, between a client and a server that are protocols of this process."""

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from coldstore.util.asynchronous import returns_deferred
from tests.servers.proxy import Fault, Proxy, Way


@implementer(IHalfCloseableProtocol)
class Party(Protocol):
    """One side: what it got, and how its connection ended."""

    def __init__(self) -> None:
        self.got = b""
        self.ended: type[BaseException] | None = None
        self.has_no_more = False
        self._waiting: list[tuple[object, Deferred[None]]] = []

    def dataReceived(self, data: bytes) -> None:
        self.got += data
        self._look()

    def readConnectionLost(self) -> None:
        self.has_no_more = True
        self._look()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended = reason.type
        self._look()

    async def until(self, claim: object) -> None:
        """Wait until something is so."""
        fires: Deferred[None] = Deferred()
        self._waiting.append((claim, fires))
        self._look()
        await fires

    def _look(self) -> None:
        for one in list(self._waiting):
            if one[0]():  # type: ignore[operator]
                self._waiting.remove(one)
                one[1].callback(None)


class ProxyTests(TestCase):
    """Each fault, at its moment."""

    timeout = 120

    @returns_deferred
    async def setUp(self) -> None:
        self.servers: list[Party] = []

        def made(_: object) -> Party:
            self.servers.append(Party())
            return self.servers[-1]

        factory = Factory()
        factory.noisy = False
        factory.buildProtocol = made  # type: ignore[method-assign, assignment]
        self.listening = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.proxy = Proxy(reactor, self.listening.getHost().port)
        self.proxy.start()
        self.client, self.server = await self.pair()

    @returns_deferred
    async def tearDown(self) -> None:
        await self.proxy.stop()
        await self.listening.stopListening()
        for party in self.servers:
            if not party.ended:
                party.transport.abortConnection()  # type: ignore[union-attr]
            await party.until(lambda party=party: party.ended)

    async def pair(self) -> tuple[Party, Party]:
        """A client and the server that it speaks to."""
        known = len(self.servers)
        client = await connectProtocol(HostnameEndpoint(reactor, "127.0.0.1", self.proxy.port), Party())
        client.transport.write(b".")  # type: ignore[union-attr]
        while not (len(self.servers) > known and self.servers[-1].got):
            await deferLater(reactor, 0.005)  # type: ignore[arg-type]
        self.servers[-1].got = b""
        return client, self.servers[-1]

    def say(self, party: Party, words: bytes) -> None:
        """Have one side send something."""
        party.transport.write(words)  # type: ignore[union-attr]

    async def exchange(self) -> None:
        """Both sides hear each other."""
        self.client.got = self.server.got = b""
        for one, other in ((self.client, self.server), (self.server, self.client)):
            self.say(one, b"words")
            await other.until(lambda other=other: other.got == b"words")

    @returns_deferred
    async def test_passes(self) -> None:
        """As long as nothing goes wrong all bytes pass, both ways, and an end is an end."""
        await self.exchange()
        self.say(self.client, bytes(1 << 20))
        await self.server.until(lambda: len(self.server.got) == 5 + (1 << 20))
        self.client.transport.loseConnection()  # type: ignore[union-attr]
        await self.server.until(lambda: self.server.has_no_more)
        self.assertIsNone(self.server.ended)
        self.assertEqual(self.proxy.accepted, 1)

    @returns_deferred
    async def test_cut_after_a_text(self) -> None:
        """The text arrives, nothing behind it does, and both sides see their connection lost. It comes once."""
        happened = self.proxy.at(Fault.CUT, Way.TO_SERVER, text=b"COMMIT")
        self.say(self.client, b"one COM")
        await self.server.until(lambda: self.server.got == b"one COM")
        self.say(self.client, b"MIT two")
        await happened
        await self.server.until(lambda: self.server.ended)
        await self.client.until(lambda: self.client.ended)
        self.assertEqual((self.client.ended, self.server.ended), (ConnectionLost, ConnectionLost))
        self.client, self.server = await self.pair()
        self.say(self.client, b"COMMIT")
        await self.server.until(lambda: self.server.got == b"COMMIT")

    @returns_deferred
    async def test_cut_before_a_text(self) -> None:
        """What is before the text arrives, the text does not."""
        happened = self.proxy.at(Fault.STALL, Way.TO_CLIENT, text=b"COMMIT", passes=False)
        self.say(self.server, b"one COMMIT two")
        await happened
        await self.client.until(lambda: self.client.got == b"one ")
        self.proxy.now(Fault.CUT)
        await self.client.until(lambda: self.client.ended)
        self.assertEqual(self.client.got, b"one ")

    @returns_deferred
    async def test_after_bytes(self) -> None:
        """Exactly so many bytes of a connection arrive."""
        link = next(iter(self.proxy.links))
        passed = link.halves[Way.TO_SERVER].passed
        happened = self.proxy.at(Fault.STALL, Way.TO_SERVER, after_bytes=passed + 10)
        self.say(self.client, b"1234567")
        self.say(self.client, b"8901234")
        await happened
        await self.server.until(lambda: self.server.got == b"1234567890")
        self.assertEqual(link.halves[Way.TO_SERVER].passed, passed + 10)
        self.proxy.release()
        await self.server.until(lambda: self.server.got == b"12345678901234")

    @returns_deferred
    async def test_stall(self) -> None:
        """Nothing passes either way, nobody is told, not even of an end; what was held back passes when it is released."""
        self.proxy.now(Fault.STALL)
        self.say(self.client, b"asked")
        self.say(self.server, b"told")
        other_client, other_server = await self.pair()
        self.say(other_client, b"another connection goes on")
        await other_server.until(lambda: other_server.got == b"another connection goes on")
        self.assertEqual((self.client.got, self.server.got), (b"", b""))
        self.proxy.release()
        await self.server.until(lambda: self.server.got == b"asked")
        await self.client.until(lambda: self.client.got == b"told")
        self.proxy.now(Fault.STALL)
        self.client.transport.loseConnection()  # type: ignore[union-attr]
        await self.client.until(lambda: self.client.ended)
        self.say(other_client, b"!")
        await other_server.until(lambda: True)
        self.assertIsNone(self.server.ended)

    @returns_deferred
    async def test_hold(self) -> None:
        """One way is held, the other goes on."""
        self.proxy.now(Fault.HOLD, Way.TO_CLIENT)
        self.say(self.server, b"told")
        self.say(self.client, b"asked")
        await self.server.until(lambda: self.server.got == b"asked")
        self.assertEqual(self.client.got, b"")
        self.proxy.release()
        await self.client.until(lambda: self.client.got == b"told")

    @returns_deferred
    async def test_half_close(self) -> None:
        """The server hears that the client has no more, and can still answer."""
        happened = self.proxy.at(Fault.HALF_CLOSE, Way.TO_SERVER, text=b"end")
        self.say(self.client, b"the end, and more")
        await happened
        await self.server.until(lambda: self.server.has_no_more)
        self.assertEqual(self.server.got, b"the end")
        self.say(self.server, b"told")
        await self.client.until(lambda: self.client.got == b"told")
        self.assertIsNone(self.client.ended)

    @returns_deferred
    async def test_delay(self) -> None:
        """Pieces take their time, and keep their order."""
        self.proxy.delay_seconds = 0.05
        begun = reactor.seconds()  # type: ignore[attr-defined]
        for piece in (b"1", b"2", b"3"):
            self.say(self.client, piece)
            await deferLater(reactor, 0.001)  # type: ignore[arg-type]
        await self.server.until(lambda: self.server.got == b"123")
        self.assertGreaterEqual(reactor.seconds() - begun, 0.05)  # type: ignore[attr-defined]

    @returns_deferred
    async def test_refuses(self) -> None:
        """While it refuses there are no new connections and the old ones go on; afterwards the port is the same."""
        port = self.proxy.port
        await self.proxy.refuse()
        there = HostnameEndpoint(reactor, "127.0.0.1", port)
        await self.assertFailure(connectProtocol(there, Party()), Exception)
        await self.exchange()
        self.proxy.start()
        self.assertEqual(self.proxy.port, port)
        self.client, self.server = await self.pair()
        await self.exchange()
