"""A client made of bytes: signs requests and drives a site through the real HTTP parser, all in memory."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from random import Random

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from coldstore.model.keys import Signer
from coldstore.s3.answers import Answer
from coldstore.s3.api import Operation
from coldstore.s3.auth import Authenticator
from coldstore.s3.call import Call
from coldstore.s3.fields import HeaderFields
from coldstore.s3.ids import IdSource
from coldstore.s3.paths import address_of
from coldstore.s3.resource import Endpoint, ToldToPage
from coldstore.s3.signing import Scope, canonical_request, signature, signing_key, string_to_sign
from coldstore.s3.site import S3Channel, S3Site

NOW = 1767323045.0
"""2026-01-02T03:04:05Z, the time of the published vectors."""
ACCESS_KEY = "AKIDEXAMPLE"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
USER = Signer(user_id="u-1", name="alice", access_key=ACCESS_KEY, secret_key=SECRET_KEY)
HOST = "127.0.0.1:8000"


def look_up(access_key: str) -> Deferred[Signer | None]:
    """Know one user."""
    return succeed(USER if access_key == ACCESS_KEY else None)


def run_here(function: Callable[[], None]) -> Deferred[None]:
    """Stand for a thread pool."""
    return maybeDeferred(function)


def timestamp_of(seconds: float) -> str:
    """Return the time as SigV4 writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%dT%H%M%SZ")


_signing_key = lru_cache(signing_key)
"""A client makes one a day."""


def signed_headers(
    method: str,
    target: str,
    headers: Mapping[str, str],
    *,
    payload: str,
    seconds: float = NOW,
    access_key: str = ACCESS_KEY,
    secret_key: str = SECRET_KEY,
    region: str = "us-east-1",
    host: str = HOST,
    unsigned: Sequence[str] = (),
) -> dict[str, str]:
    """Return ``headers`` with everything that a Version 4 signature adds."""
    timestamp = timestamp_of(seconds)
    scope = Scope(date=timestamp[:8], region=region, service="s3")
    sent = {"host": host, "x-amz-date": timestamp, "x-amz-content-sha256": payload}
    sent.update({name.lower(): value for name, value in headers.items()})
    address = address_of(target.encode(), host, ())
    names = sorted(name for name in sent if name not in unsigned)
    canonical = canonical_request(
        method=method,
        decoded_path=address.decoded_path,
        query=address.query,
        headers=HeaderFields((name.encode(), value.encode()) for name, value in sent.items()),
        signed_headers=names,
        payload=payload,
    )
    given = signature(_signing_key(secret_key, scope), string_to_sign(timestamp, scope, canonical))
    sent["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={access_key}/{scope},SignedHeaders={';'.join(names)},Signature={given}"
    )
    return sent


def message(
    method: str, target: str, headers: Mapping[str, str], body: bytes = b"", version: str = "1.1"
) -> bytes:
    """Return the bytes of a request."""
    lines = [
        f"{method} {target} HTTP/{version}",
        *(f"{name}: {value}" for name, value in headers.items()),
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


def request_bytes(
    method: str,
    target: str,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    *,
    payload: str | None = None,
    seconds: float = NOW,
) -> bytes:
    """Return the bytes of a signed request with its body and length."""
    sha256 = hashlib.sha256(body).hexdigest() if payload is None else payload
    sent = signed_headers(method, target, headers or {}, payload=sha256, seconds=seconds)
    if body or method in ("PUT", "POST"):
        sent.setdefault("content-length", str(len(body)))
    return message(method, target, sent, body)


class WireTransport(StringTransport):
    """A transport that remembers what was done to it, and loses its connection when told."""

    aborted = False

    def abortConnection(self) -> None:
        """Note the abort."""
        self.aborted = True


OperationTable = Mapping[Operation, Callable[[Call], Awaitable[Answer]]]


class Wire:
    """One connection to a site whose operations a test gives."""

    def __init__(
        self,
        operations: OperationTable,
        *,
        clock: Clock | None = None,
        domains: Sequence[str] = (),
        authenticator: Authenticator | None = None,
        idle_timeout_seconds: float = 60.0,
        connections_max: int = 1024,
        requests_max: int = 1024,
        told_to_page: ToldToPage | None = None,
    ) -> None:
        self.clock = Clock() if clock is None else clock
        if clock is None:
            self.clock.advance(NOW)
        ids = IdSource(Random(7))
        endpoint = Endpoint(
            operations=operations,
            authenticator=authenticator
            or Authenticator(look_up=look_up, seconds=self.clock.seconds, region="us-east-1"),
            ids=ids,
            seconds=self.clock.seconds,
            in_thread=run_here,
            domains=domains,
            requests_max=requests_max,
            **({} if told_to_page is None else {"told_to_page": told_to_page}),
        )
        self.site = S3Site(
            endpoint.resource(),
            reactor=self.clock,
            ids=ids,
            idle_timeout_seconds=idle_timeout_seconds,
            connections_max=connections_max,
        )
        self.channel, self.transport = self.connect()

    def connect(self) -> tuple[S3Channel, WireTransport]:
        """Open one more connection."""
        channel = self.site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 4000))
        assert isinstance(channel, S3Channel)
        transport = WireTransport(peerAddress=IPv4Address("TCP", "127.0.0.1", 4000))
        channel.makeConnection(transport)
        return channel, transport

    def send(self, data: bytes) -> bytes:
        """Deliver bytes to the server and return all that it has written so far, some turns of the reactor later."""
        self.channel.dataReceived(data)
        self.turn()
        return self.transport.value()

    def turn(self, times: int = 4) -> None:
        """Let the reactor turn without time passing."""
        self.clock.pump([0.0] * times)

    def lose(self) -> None:
        """Have the client go away."""
        from twisted.internet.error import ConnectionDone

        self.channel.connectionLost(Failure(ConnectionDone()))

    @property
    def is_paused(self) -> bool:
        """Whether the server has stopped reading."""
        return self.transport.producerState == "paused"

    def answer(self) -> "ParsedAnswer":
        """Return the first answer that was written."""
        return ParsedAnswer.of(self.transport.value())


class ParsedAnswer:
    """Status, headers, body and what follows of an answer with a Content-Length."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes, rest: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.rest = rest

    @classmethod
    def of(cls, written: bytes) -> "ParsedAnswer":
        """Take apart what was written."""
        head, _, rest = written.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        length = int(headers.get("content-length", "0"))
        return cls(int(lines[0].split(" ")[1]), headers, rest[:length], rest[length:])

    @property
    def code(self) -> str:
        """The Code of an error document."""
        text = self.body.decode()
        return text.partition("<Code>")[2].partition("</Code>")[0]
