"""The factory of S3 connections and their pace: how many there may be, and how slow or greedy one of them."""

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from coldstore.s3.answers import Answer
from coldstore.s3.api import Operation
from coldstore.s3.call import Call
from coldstore.s3.crowd import Crowd, Turns
from coldstore.s3.errors import S3Error
from coldstore.s3.site import PACE_BYTES, S3Channel
from tests.unit.s3_wire import ParsedAnswer, Wire, message, request_bytes, signed_headers

ADDRESS = IPv4Address("TCP", "127.0.0.1", 40_000)


class CrowdTests(SynchronousTestCase):
    """Who has to go when one too many comes."""

    def test_room(self) -> None:
        """As long as there are places nobody has to go."""
        crowd = Crowd(2)
        members = [Guest() for _ in range(2)]
        for member in members:
            self.assertTrue(crowd.has_room())
            crowd.join(member)
        self.assertFalse(crowd.has_room())
        crowd.leave(members[0])
        crowd.leave(members[0])
        self.assertTrue(crowd.has_room())
        self.assertEqual((len(crowd), [member.has_given_way for member in members]), (1, [False, False]))

    def test_the_longest_at_rest_goes(self) -> None:
        """Of those that rest the one that was of use least lately gives its place; those that are served never do."""
        crowd = Crowd(4)
        members = [Guest() for _ in range(4)]
        for member in members:
            crowd.join(member)
        members[0].is_resting = members[1].is_resting = members[3].is_resting = True
        crowd.rests(members[0])
        order = []
        for _ in range(3):
            self.assertTrue(crowd.has_room())
            order.append([number for number, member in enumerate(members) if member.has_given_way])
            crowd.join(Guest())
        self.assertEqual(order, [[1], [1, 3], [0, 1, 3]])
        self.assertFalse(crowd.has_room())
        crowd.rests(members[1])
        self.assertEqual(len(crowd), 4)


class Guest:
    """A connection that notes that it was asked to go."""

    def __init__(self) -> None:
        self.is_resting = False
        self.has_given_way = False

    def give_way(self) -> None:
        """Note it."""
        self.has_given_way = True


class TurnsTests(SynchronousTestCase):
    """How many requests one user may have served at once."""

    def test_one_user_leaves_some(self) -> None:
        """One user alone gets three quarters of what is possible, another one three quarters of the rest; who ends makes room."""
        turns = Turns(1000)
        counts = {}
        for user in ("a", "b"):
            counts[user] = 0
            while not self.is_refused(turns, user):
                counts[user] += 1
        self.assertEqual(counts, {"a": 750, "b": 187})
        self.assertFalse(self.is_refused(turns, "c"))
        turns.leave("a")
        self.assertTrue(self.is_refused(turns, "a"))
        for _ in range(187):
            turns.leave("b")
        turns.leave("c")
        self.assertFalse(self.is_refused(turns, "a"))
        for _ in range(750):
            turns.leave("a")
        self.assertEqual(turns._served, {})

    def is_refused(self, turns: Turns, user: str) -> bool:
        """Whether a request of a user is refused; it is being served from now on otherwise."""
        try:
            turns.enter(user)
        except S3Error as refusal:
            self.assertEqual(
                (refusal.code, refusal.status, refusal.headers), ("SlowDown", 503, {"Retry-After": "1"})
            )
            return True
        return False


class ConnectionsTests(SynchronousTestCase):
    """``connections_max``."""

    def setUp(self) -> None:
        self.wire = Wire({Operation.LIST_OBJECTS: self.wait}, connections_max=3)
        self.waiting: list[Deferred[Answer]] = []

    async def wait(self, call: Call) -> Answer:
        """Answer when the test wants it."""
        self.waiting.append(Deferred())
        return await self.waiting[-1]

    def begin(self, channel: S3Channel) -> None:
        """Have a request served on a connection, without end."""
        channel.dataReceived(request_bytes("GET", "/b"))
        self.wire.turn()

    def test_connections_at_rest_give_way(self) -> None:
        """
        A connection too many takes the place of one that has said nothing, or only a part of a head, or rests after an answer; those
        that are served stay, and when all are, it is refused.
        """
        silent, partly = self.wire.channel, self.wire.connect()[0]
        partly.dataReceived(b"GET /b HTTP/1.1\r\nHost: x\r\n")
        served = self.wire.connect()[0]
        self.begin(served)
        others = []
        for gone in (silent, partly):
            others.append(self.wire.connect()[0])
            self.begin(others[-1])
            self.assertTrue(gone.transport.disconnecting)
        self.assertIsNone(self.wire.site.buildProtocol(ADDRESS))
        self.waiting[0].callback(Answer(body=b"x"))
        self.wire.turn()
        self.assertIn(b"200 OK", served.transport.value())
        self.assertFalse(served.transport.disconnecting)
        self.assertIsNotNone(self.wire.site.buildProtocol(ADDRESS))
        self.assertTrue(served.transport.disconnecting)
        for deferred in self.waiting[1:]:
            deferred.callback(Answer(status=204))

    def test_one_that_does_not_read_is_broken_off(self) -> None:
        """A connection at rest whose client does not take its answer does not linger until it does."""
        self.begin(self.wire.channel)
        self.wire.channel.pauseProducing()  # what the transport does when its buffer is full
        self.waiting[0].callback(Answer(body=b"x" * 1000))
        self.wire.turn()
        for _ in range(2):
            self.begin(self.wire.connect()[0])
        self.assertIsNotNone(self.wire.site.buildProtocol(ADDRESS))
        self.assertTrue(self.wire.transport.aborted)
        for deferred in self.waiting[1:]:
            deferred.callback(Answer(status=204))

    def test_one_that_ends_makes_room(self) -> None:
        """A place is free when its connection is lost."""
        channels = [self.wire.channel, *(self.wire.connect()[0] for _ in range(2))]
        for channel in channels:
            self.begin(channel)
        self.assertIsNone(self.wire.site.buildProtocol(ADDRESS))
        channels[1].connectionLost()
        self.assertIsNotNone(self.wire.site.buildProtocol(ADDRESS))
        for deferred in self.waiting:
            deferred.callback(Answer(status=204))

    def test_one_user_leaves_requests_to_others(self) -> None:
        """A user with too many requests at once is told to slow down; when one is through, the next one is served."""
        wire = Wire({Operation.LIST_OBJECTS: self.wait}, requests_max=4)
        for _ in range(3):
            channel = wire.connect()[0]
            channel.dataReceived(request_bytes("GET", "/b"))
        wire.turn()
        self.assertEqual(len(self.waiting), 3)
        wire.send(request_bytes("GET", "/b"))
        self.assertEqual((wire.answer().status, wire.answer().code), (503, "SlowDown"))
        self.waiting[0].callback(Answer(status=204))
        wire.turn()
        wire.send(request_bytes("GET", "/b"))
        self.assertEqual(len(self.waiting), 4)
        for deferred in self.waiting[1:]:
            deferred.callback(Answer(status=204))


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
