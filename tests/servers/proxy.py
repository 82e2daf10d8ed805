"""A relay on loopback between a client and a server that goes wrong at a chosen moment."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IListeningPort, IReactorTCP, ITCPTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure


class Way(Enum):
    """Which half of a connection."""

    TO_SERVER = "to the server"
    TO_CLIENT = "to the client"


class Fault(Enum):
    """What goes wrong with a connection."""

    CUT = "cut"
    """Both ends get a reset."""
    STALL = "stall"
    """Nothing passes any more, either way, until ``release``; nobody is told, not even of an end."""
    HALF_CLOSE = "half-close"
    """That half ends in an orderly way; the other goes on."""
    HOLD = "hold"
    """Nothing passes that way until ``release``; the other goes on."""


@dataclass
class _Moment:
    """When a fault is due."""

    way: Way
    fault: Fault
    after_bytes: int | None
    text: bytes
    passes: bool
    happened: Deferred["Link"] = field(default_factory=Deferred)

    def reached(self, half: "_Half", new: bytes) -> int | None:
        """Return how many of some bytes still pass; None when it is not due with them."""
        if self.after_bytes is not None:
            left = self.after_bytes - half.passed
            return left if left <= len(new) else None
        found = (half.recent + new).find(self.text)
        if found < 0:
            return None
        start = found - len(half.recent)
        return start + len(self.text) if self.passes else max(0, start)


class _Half:
    """What passes one way."""

    def __init__(self) -> None:
        self.passed = 0
        self.recent = b""
        """The last bytes that passed: a text may come in pieces."""
        self.waiting = bytearray()
        self.is_held = False
        self.is_closing = False


class _End(Protocol):
    """One of the two connections of a link."""

    transport: ITCPTransport  # type: ignore[assignment]

    def __init__(self, way: Way) -> None:
        self._way = way
        """Which way goes what comes from here."""
        self.link: Link | None = None
        self._early = bytearray()
        self.is_lost = False

    def dataReceived(self, data: bytes) -> None:
        """Pass it on."""
        if self.link is None:
            self._early += data
        else:
            self.link.carry(self._way, data)

    def joined(self, link: "Link") -> None:
        """The other end is there."""
        self.link = link
        if self._early:
            link.carry(self._way, bytes(self._early))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Close the other one."""
        self.is_lost = True
        if self.link is not None:
            self.link.ended(self._way)


class Link:
    """One connection of a client, with the one to the server that belongs to it."""

    def __init__(self, proxy: "Proxy", client: _End, server: _End) -> None:
        self._proxy = proxy
        self._targets = {Way.TO_SERVER: server, Way.TO_CLIENT: client}
        self._sources = {Way.TO_SERVER: client, Way.TO_CLIENT: server}
        self.halves = {way: _Half() for way in Way}

    def carry(self, way: Way, data: bytes) -> None:
        """Pass bytes on, up to the next moment at which something goes wrong."""
        half = self.halves[way]
        if half.is_held or half.waiting:
            half.waiting += data
            return
        for moment in self._proxy.moments:
            if moment.way is way and (passing := moment.reached(half, data)) is not None:
                self._proxy.moments.remove(moment)
                self._pass(way, data[:passing])
                self.suffer(moment.fault, way)
                self.carry(way, data[passing:])
                moment.happened.callback(self)
                return
        self._pass(way, data)

    def suffer(self, fault: Fault, way: Way) -> None:
        """Have it go wrong now."""
        match fault:
            case Fault.CUT:
                for target in self._targets.values():
                    target.transport.abortConnection()
            case Fault.STALL:
                for each in Way:
                    self._hold(each)
            case Fault.HOLD:
                self._hold(way)
            case Fault.HALF_CLOSE:
                self._targets[way].transport.loseWriteConnection()
                self.halves[way].is_closing = True

    def release(self) -> None:
        """Let pass what was held back."""
        for way, half in self.halves.items():
            half.is_held = False
            self._sources[way].transport.resumeProducing()
            waiting, half.waiting = bytes(half.waiting), bytearray()
            if waiting:
                self.carry(way, waiting)

    def ended(self, way: Way) -> None:
        """The end from which bytes went this way is gone. A link that is stalled does not tell the other."""
        self._proxy.links.discard(self)
        if not self.halves[way].is_held:
            self._targets[way].transport.loseConnection()

    def close(self) -> None:
        """End both connections."""
        for target in self._targets.values():
            if not target.is_lost:
                target.transport.abortConnection()

    def _hold(self, way: Way) -> None:
        """Take no more from whoever sends this way: after a while he cannot send either."""
        self.halves[way].is_held = True
        self._sources[way].transport.pauseProducing()

    def _pass(self, way: Way, data: bytes) -> None:
        half = self.halves[way]
        half.passed += len(data)
        half.recent = (half.recent + data)[-1024:]
        if not half.is_closing:
            self._proxy.deliver(lambda: self._targets[way].transport.write(data))


class Proxy:
    """
    Listens on ``port``, and passes every connection on to a server.

    :ivar accepted: how many connections there were
    :ivar delay_seconds: how long each piece is under way
    """

    def __init__(self, reactor: Any, upstream_port: int) -> None:
        self._reactor = reactor
        self._upstream = TCP4ClientEndpoint(reactor, "127.0.0.1", upstream_port)
        self._listening: IListeningPort | None = None
        self.port = 0
        self.accepted = 0
        self.delay_seconds = 0.0
        self.links: set[Link] = set()
        self._every: list[Link] = []
        self.moments: list[_Moment] = []
        self._connecting: set[Deferred[_End]] = set()

    def start(self) -> None:
        """Listen; on the same port as before, when it did."""
        self._listening = IReactorTCP(self._reactor).listenTCP(
            self.port, _Factory(self._accept), interface="127.0.0.1"
        )
        self.port = self._listening.getHost().port

    async def refuse(self) -> None:
        """Listen no more; the connections that there are go on."""
        listening, self._listening = self._listening, None
        if listening is not None:
            await listening.stopListening()

    async def stop(self) -> None:
        """Listen no more and close every connection."""
        await self.refuse()
        for connecting in list(self._connecting):
            connecting.cancel()
        for link in self._every:
            link.close()
        while any(not end.is_lost for link in self._every for end in link._targets.values()):
            pause: Deferred[None] = Deferred()
            self._reactor.callLater(0.01, pause.callback, None)
            await pause

    def at(
        self,
        fault: Fault,
        way: Way,
        *,
        text: bytes = b"",
        passes: bool = True,
        after_bytes: int | None = None,
    ) -> Deferred[Link]:
        """
        Have a connection go wrong at a moment to come, once; fires when it did.

        :param way: of which half the bytes are counted or the text is looked for
        :param text: of at most 1 KiB; ``passes``: whether it still gets through
        :param after_bytes: of one connection, when there is no text
        """
        assert bool(text) != (after_bytes is not None)
        moment = _Moment(way, fault, after_bytes, text, passes)
        self.moments.append(moment)
        return moment.happened

    def now(self, fault: Fault, way: Way = Way.TO_CLIENT) -> None:
        """Have every connection go wrong now."""
        for link in list(self.links):
            link.suffer(fault, way)

    def release(self) -> None:
        """Let pass what was held back on every connection."""
        for link in list(self.links):
            link.release()

    def deliver(self, write: Callable[[], None]) -> None:
        """Write, after the delay; pieces keep their order, as calls for the same moment do."""
        if self.delay_seconds:
            self._reactor.callLater(self.delay_seconds, write)
        else:
            write()

    def _accept(self, client: _End) -> None:
        self.accepted += 1
        connecting = connectProtocol(self._upstream, _End(Way.TO_CLIENT))
        self._connecting.add(connecting)

        def joined(server: _End) -> None:
            link = Link(self, client, server)
            self._every.append(link)
            self.links.add(link)
            server.joined(link)
            client.joined(link)
            if client.is_lost:
                link.close()

        def refused(_: Failure) -> None:
            client.transport.abortConnection()

        connecting.addBoth(lambda outcome: (self._connecting.discard(connecting), outcome)[1])
        connecting.addCallbacks(joined, refused)


class _Factory(Factory):
    """Makes the client's end."""

    noisy = False

    def __init__(self, accept: Callable[[_End], None]) -> None:
        self._accept = accept

    def buildProtocol(self, addr: object) -> _End:
        """Make one, and connect to the server once it is connected itself."""
        end = _End(Way.TO_SERVER)
        accept = self._accept

        def made() -> None:
            accept(end)

        end.connectionMade = made  # type: ignore[method-assign]
        return end
