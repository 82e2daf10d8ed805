"""The factory of S3 connections and their pace: how many there may be, and how slow or greedy one of them."""

from random import Random

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource

from coldstore.s3.answers import Answer
from coldstore.s3.call import Call
from coldstore.s3.ids import IdSource
from coldstore.s3.routes import Operation
from coldstore.s3.site import PACE_BYTES, S3Site
from tests.unit.s3_wire import ParsedAnswer, Wire, message, request_bytes, signed_headers

ADDRESS = IPv4Address("TCP", "127.0.0.1", 40_000)


class ConnectionsTests(SynchronousTestCase):
    """``connections_max``."""

    def test_bound(self) -> None:
        """Connections beyond the bound are refused; one that ends makes room."""
        site = S3Site(Resource(), reactor=Clock(), ids=IdSource(Random(1)), connections_max=2)
        channels = [site.buildProtocol(ADDRESS) for _ in range(2)]
        for channel in channels:
            channel.makeConnection(StringTransport())
        self.assertIsNone(site.buildProtocol(ADDRESS))
        channels[0].connectionLost()
        self.assertIsNotNone(site.buildProtocol(ADDRESS))


async def _listed(call: Call) -> Answer:
    """ListObjects: a document."""
    return Answer(body=b"x" * 1000)


class SlowClientTests(SynchronousTestCase):
    """Clients that send a byte now and then, to hold connections."""

    def setUp(self) -> None:
        self.wire = Wire({Operation.LIST_OBJECTS: _listed}, idle_timeout_seconds=60.0)

    def assertClosedAfter(self, seconds: int) -> None:
        """Send a byte each second; the connection ends at the given one."""
        for second in range(1, 200):
            if self.wire.transport.disconnecting:
                self.assertEqual(second - 1, seconds)
                return
            self.wire.channel.dataReceived(b"x")
            self.wire.clock.advance(1)
        self.fail("the connection stays open")

    def test_header_section(self) -> None:
        """A header section has one deadline, however often a byte of it comes."""
        self.wire.send(b"GET /b HTTP/1.1\r\n")
        self.assertClosedAfter(30)

    def test_second_header_section(self) -> None:
        """So has that of the next request on a connection."""
        self.wire.send(request_bytes("GET", "/b"))
        self.wire.clock.advance(50)
        self.wire.send(b"GET /b HTTP/1.1\r\n")
        self.assertClosedAfter(30)

    def test_new_connection(self) -> None:
        """A new connection that says nothing at all is closed as soon."""
        self.wire.clock.advance(31)
        self.assertTrue(self.wire.transport.disconnecting)

    def test_kept_connection(self) -> None:
        """One that was used may rest for as long as the idle timeout, and is served again then."""
        for _ in range(3):
            self.wire.send(request_bytes("GET", "/b", seconds=self.wire.clock.seconds()))
            self.wire.clock.advance(59)
        self.assertFalse(self.wire.transport.disconnecting)
        self.assertEqual(self.wire.transport.value().count(b"200 OK"), 3)

    def _upload(self) -> None:
        async def read(call: Call) -> Answer:
            return Answer(body=await call.body.read_document(10**6))

        self.wire = Wire({Operation.DELETE_OBJECTS: read}, idle_timeout_seconds=60.0)
        headers = signed_headers("POST", "/b?delete", {}, payload="UNSIGNED-PAYLOAD")
        self.wire.send(message("POST", "/b?delete", headers | {"content-length": "900000"}))

    def test_trickled_body(self) -> None:
        """A body that comes byte by byte is cut off with RequestTimeout: it must come in at a least rate."""
        self._upload()
        for _ in range(59):
            self.wire.channel.dataReceived(b"x")
            self.wire.clock.advance(1)
        self.assertEqual(self.wire.transport.value(), b"")
        self.wire.clock.advance(1)
        self.assertEqual(self.wire.answer().code, "RequestTimeout")

    def test_slow_body(self) -> None:
        """One that keeps the least rate may take as long as it takes."""
        self._upload()
        for _ in range(900000 // PACE_BYTES):
            self.wire.channel.dataReceived(b"x" * PACE_BYTES)
            self.wire.clock.advance(50)
        self.wire.channel.dataReceived(b"x" * (900000 % PACE_BYTES))
        self.assertEqual(self.wire.answer().status, 200)


class PipelineTests(SynchronousTestCase):
    """Clients that send requests faster than they are answered."""

    def test_one_in_a_turn(self) -> None:
        """Of many requests in one read each waits for a turn of the reactor, so that other connections get theirs."""
        wire = Wire({})
        wire.channel.dataReceived(b"GET / HTTP/1.1\r\n\r\n" * 5)
        counts: list[int] = []

        def look() -> None:
            counts.append(wire.transport.value().count(b"403 Forbidden"))
            if len(counts) < 5:
                wire.clock.callLater(0, look)

        look()
        wire.turn(1)
        self.assertEqual(counts, [1, 2, 3, 4, 5])

    def test_client_that_does_not_read(self) -> None:
        """Requests of a client that does not take its answers wait, and reading stops, until it takes them."""
        wire = Wire({Operation.LIST_OBJECTS: _listed})
        wire.channel.dataReceived(request_bytes("GET", "/b") * 3)
        wire.channel.pauseProducing()  # what the transport does when its buffer is full
        wire.turn(5)
        self.assertEqual(wire.transport.value().count(b"200 OK"), 1)
        self.assertTrue(wire.is_paused)
        wire.channel.resumeProducing()
        wire.turn(5)
        self.assertEqual(wire.transport.value().count(b"200 OK"), 3)
        self.assertFalse(wire.is_paused)

    def test_bounded_while_an_answer_waits(self) -> None:
        """What follows a request whose answer is not taken is not read into memory without end."""
        never: Deferred[Answer] = Deferred()

        async def wait(call: Call) -> Answer:
            return await never

        wire = Wire({Operation.LIST_OBJECTS: wait})
        wire.send(request_bytes("GET", "/b"))
        wire.channel.pauseProducing()
        self.assertFalse(wire.is_paused)
        wire.channel.dataReceived(b"x" * 20_000)
        self.assertTrue(wire.is_paused)
        never.callback(Answer(status=204))

    def test_connection_that_ends(self) -> None:
        """A connection that is lost before the next request's turn leaves nothing behind."""
        wire = Wire({})
        wire.channel.dataReceived(b"GET / HTTP/1.1\r\n\r\n" * 2)
        wire.lose()
        self.assertEqual(wire.clock.getDelayedCalls(), [])


class FoldedLineTests(SynchronousTestCase):
    """Obsolete line folding."""

    def test_refused(self) -> None:
        """A folded header line is refused: readers disagree on what it says."""
        for text in (b"Content-Length:\r\n 5", b"Transfer-Encoding:\r\n\tchunked"):
            wire = Wire({})
            answer = ParsedAnswer.of(wire.send(b"PUT /b/k HTTP/1.1\r\n" + text + b"\r\n\r\nhello"))
            self.assertEqual((answer.status, answer.code), (400, "InvalidRequest"))
