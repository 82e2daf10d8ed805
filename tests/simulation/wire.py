"""S3 clients on connections in memory: signed requests into the real HTTP parser, answers out of it."""

import contextlib
import hashlib
from collections.abc import Mapping
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.server import Site

from tests.simulation.life import Life, LifeIsOver
from tests.simulation.reactor import VirtualReactor
from tests.unit.s3_wire import message, signed_headers

ADDRESS = IPv4Address("TCP", "127.0.0.1", 4000)
HOST = "archive:8420"
LATENCY_SECONDS = 0.0005
READING = ("GET", "HEAD")
"""Requests whose answers promise nothing."""


class NoAnswer(Exception):
    """The connection was lost before the answer was complete: nobody knows what became of the request."""


class Answer:
    """A complete answer."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def code(self) -> str:
        """The Code of an error document."""
        return self.body.partition(b"<Code>")[2].partition(b"</Code>")[0].decode()


class ClientTransport(StringTransport):
    """The server's end of a connection: the client takes what is written as soon as it is."""

    def __init__(self, connection: "Connection") -> None:
        super().__init__(peerAddress=ADDRESS)
        self._connection = connection

    def write(self, data: bytes) -> None:
        """Take bytes to the client."""
        self._connection.came(data)

    def writeSequence(self, data: Any) -> None:
        """Take bytes to the client."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """The server closes."""
        super().loseConnection()
        self._connection.closed()

    def resumeProducing(self) -> None:
        """Read on; nothing comes any more from a connection that is being closed, as on a real one."""
        if not self.disconnecting:
            super().resumeProducing()

    def abortConnection(self) -> None:
        """The server breaks the connection."""
        self.loseConnection()


class Connection:
    """One request on a connection of its own."""

    def __init__(self, reactor: VirtualReactor, life: Life, site: Site, is_head: bool) -> None:
        self._reactor = reactor
        self._life = life
        self._is_head = is_head
        self._received = bytearray()
        self._method = ""
        self._came_too_late = False
        self.done: Deferred[Answer] = Deferred()
        self.transport = ClientTransport(self)
        self.channel = site.buildProtocol(ADDRESS)
        if self.channel is not None:
            self.channel.makeConnection(self.transport)
        life.watchers[id(self)] = self

    def send(self, data: bytes) -> None:
        """Send bytes to the server."""
        if self.channel is None:
            self.closed()
            return
        if self._life.is_over or self.done.called:
            return
        if self._life.is_frozen:
            # It waits in the machine until the process goes on.
            self._reactor.later(self._life, 0.0, self.send, (data,), {})
            return
        if not self._method:
            self._method = data.split(b" ", 1)[0].decode("latin-1")
            self._came_too_late = self._life.is_superseded
        with contextlib.suppress(LifeIsOver):
            self.channel.dataReceived(data)

    def came(self, data: bytes) -> None:
        """Bytes came from the server: an effect of the process, which may be its last."""
        self._life.effect("answer")
        self._received += data
        if not self.done.called:
            answer = self._complete()
            if answer is not None:
                if self._came_too_late and self._method not in READING and answer.status < 300:
                    self._life.misdeeds.append(
                        f"an appliance that was taken over answers {self._method} with {answer.status}"
                    )
                self._reactor.callLater(LATENCY_SECONDS, self._tell, answer)

    def _tell(self, answer: Answer | Failure) -> None:
        self._leave()
        if not self.done.called:
            if isinstance(answer, Failure):
                self.done.errback(answer)
            else:
                self.done.callback(answer)

    def _complete(self) -> Answer | None:
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return None
        lines = self._received[:end].decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        if status == 100:
            del self._received[: end + 4]
            return self._complete()
        length = 0 if self._is_head or status in (204, 304) else int(headers.get("content-length", "0"))
        body = self._received[end + 4 :]
        return Answer(status, headers, bytes(body[:length])) if len(body) >= length else None

    def closed(self) -> None:
        """The connection is over, from whichever side."""
        self._reactor.callLater(LATENCY_SECONDS, self._tell, Failure(NoAnswer()))

    def hang_up(self) -> None:
        """The client goes away."""
        self._leave()
        if not self.done.called:
            self.done.errback(NoAnswer())

    def _leave(self) -> None:
        """The connection is gone, and the server is told."""
        self._life.watchers.pop(id(self), None)
        channel, self.channel = self.channel, None
        if channel is not None and not self._life.is_over:
            if self._life.is_frozen:
                self._reactor.later(self._life, 0.0, channel.connectionLost, (Failure(ConnectionDone()),), {})
                return
            with contextlib.suppress(LifeIsOver):
                channel.connectionLost(Failure(ConnectionDone()))


class Account:
    """A user's access key and secret key, to sign with."""

    def __init__(self, keys: tuple[str, str], region: str) -> None:
        self._access_key, self._secret_key = keys
        self._region = region

    def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes,
        seconds: float,
    ) -> tuple[bytes, bytes]:
        """Return head and body of a signed request."""
        sent = signed_headers(
            method,
            target,
            headers,
            payload=hashlib.sha256(body).hexdigest(),
            seconds=seconds,
            access_key=self._access_key,
            secret_key=self._secret_key,
            region=self._region,
            host=HOST,
        )
        if body or method in ("PUT", "POST"):
            sent.setdefault("content-length", str(len(body)))
        return message(method, target, sent), body
