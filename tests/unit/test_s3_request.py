"""The HTTP server, driven byte by byte: bodies that are asked for, answers that come early, clients that leave."""

import gc
import hashlib
import sys
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from twisted.web import http
from zope.interface import implementer

from coldstore.interfaces.staging import DiskFault
from coldstore.model.errors import MetadataUnavailable, StagingFull
from coldstore.s3.answers import Answer
from coldstore.s3.api import Operation
from coldstore.s3.body import BodyAborted
from coldstore.s3.call import Call
from coldstore.s3.errors import S3Error
from coldstore.s3.integrity import ReceivedBody
from coldstore.s3.request import S3Request
from tests.unit.s3_wire import NOW, ParsedAnswer, Wire, message, request_bytes, signed_headers


class Sink:
    """A sink that keeps what it gets and can press."""

    def __init__(self) -> None:
        self.blocks: list[bytes] = []
        self.pause: Callable[[], None] = lambda: None
        self.resume: Callable[[], None] = lambda: None

    def write(self, block: bytes) -> None:
        """Keep."""
        self.blocks.append(block)

    def on_pressure(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """Remember how to press."""
        self.pause, self.resume = pause, resume

    @property
    def body(self) -> bytes:
        """All bytes so far."""
        return b"".join(self.blocks)


class Storing:
    """Operations that store one body, when told to go on."""

    def __init__(self) -> None:
        self.sink = Sink()
        self.may_ask: Deferred[None] = Deferred()
        self.may_answer: Deferred[None] = Deferred()
        self.calls: list[Call] = []
        self.outcome: ReceivedBody | Exception | None = None

    async def put(self, call: Call) -> Answer:
        """PutObject: wait, take the body, wait, answer."""
        self.calls.append(call)
        await self.may_ask
        try:
            self.outcome = await call.body.stream_to(self.sink)
        except Exception as error:
            self.outcome = error
            raise
        await self.may_answer
        return Answer(headers={"ETag": '"x"'})

    async def refuse(self, call: Call) -> Answer:
        """GetObject: refuse without looking at the body."""
        self.calls.append(call)
        raise S3Error("NoSuchKey", details={"Key": call.object_key.decode()})

    async def show(self, call: Call) -> Answer:
        """ListObjects: answer at once."""
        self.calls.append(call)
        return Answer(body=b"shown", headers={"Content-Type": "text/plain"})


class RequestTests(SynchronousTestCase):
    """A connection and operations that the test moves on."""

    def setUp(self) -> None:
        """Connect."""
        self.storing = Storing()
        self.wire = Wire(
            {
                Operation.PUT_OBJECT: self.storing.put,
                Operation.GET_OBJECT: self.storing.refuse,
                Operation.HEAD_OBJECT: self.storing.refuse,
                Operation.DELETE_OBJECT: self.storing.refuse,
                Operation.LIST_OBJECTS: self.storing.show,
                Operation.UPLOAD_PART: self.storing.refuse,
            }
        )

    def go(self) -> None:
        """Let the operation ask for the body and answer."""
        self.storing.may_ask.callback(None)
        self.storing.may_answer.callback(None)


class BodyStreamTests(RequestTests):
    """A body goes straight from the socket to the operation."""

    def test_upload(self) -> None:
        """A body that came with its headers is stored and answered, and the connection serves the next request."""
        self.go()
        written = self.wire.send(request_bytes("PUT", "/b/k", body=b"hello"))
        answer = ParsedAnswer.of(written)
        self.assertEqual((answer.status, answer.headers["etag"]), (200, '"x"'))
        self.assertEqual(self.storing.sink.body, b"hello")
        self.assertEqual(len(answer.headers["x-amz-request-id"]), 16)
        for name in ("x-amz-id-2", "date", "server"):
            self.assertIn(name, answer.headers)
        self.assertNotIn("connection", answer.headers)
        self.wire.transport.clear()
        self.assertEqual(ParsedAnswer.of(self.wire.send(request_bytes("GET", "/b"))).body, b"shown")
        self.assertFalse(self.wire.transport.disconnecting)

    def test_nothing_is_read_before_somebody_asks(self) -> None:
        """Bytes before the operation asks pause the transport, are held, and come in order afterwards."""
        self.wire.send(
            request_bytes("PUT", "/b/k", {"content-length": "10"}, b"hello", payload="UNSIGNED-PAYLOAD")
        )
        self.assertTrue(self.wire.is_paused)
        self.wire.send(b"wo")
        self.assertTrue(self.wire.is_paused)
        self.storing.may_ask.callback(None)
        self.assertFalse(self.wire.is_paused)
        self.wire.send(b"rld")
        self.assertEqual(self.storing.sink.body, b"helloworld")
        self.assertEqual(self.storing.outcome, ReceivedBody(length_bytes=10))

    def test_pressure(self) -> None:
        """A sink that is full pauses the transport, even when the transport was resumed for other reasons."""
        self.storing.may_ask.callback(None)
        self.wire.send(
            request_bytes("PUT", "/b/k", {"content-length": "9"}, b"abc", payload="UNSIGNED-PAYLOAD")
        )
        self.storing.sink.pause()
        self.assertTrue(self.wire.is_paused)
        self.wire.channel.pauseProducing()
        self.wire.channel.resumeProducing()
        self.assertTrue(self.wire.is_paused)
        self.wire.transport.producerState = "producing"
        self.wire.send(b"def")
        self.assertTrue(self.wire.is_paused)
        self.storing.sink.resume()
        self.assertFalse(self.wire.is_paused)
        self.wire.send(b"ghi")
        self.assertEqual(self.storing.sink.body, b"abcdefghi")

    def test_reads_on_after_the_body(self) -> None:
        """Once the body is complete the transport is read again, so that a client that leaves is noticed."""
        self.storing.may_ask.callback(None)
        self.wire.send(
            request_bytes("PUT", "/b/k", {"content-length": "6"}, b"abc", payload="UNSIGNED-PAYLOAD")
        )
        self.storing.sink.pause()
        self.wire.send(b"def")
        self.assertFalse(self.wire.is_paused)

    def test_transfer_coding(self) -> None:
        """A chunked body with a decoded length is stored; without any length it is refused."""
        headers = signed_headers(
            "PUT", "/b/k", {"x-amz-decoded-content-length": "5"}, payload="UNSIGNED-PAYLOAD"
        ) | {"transfer-encoding": "chunked"}
        self.go()
        self.wire.send(message("PUT", "/b/k", headers, b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"))
        self.assertEqual(self.wire.answer().status, 200)
        self.assertEqual(self.storing.sink.body, b"hello")
        self.setUp()
        self.go()
        headers = signed_headers("PUT", "/b/k", {}, payload="UNSIGNED-PAYLOAD") | {
            "transfer-encoding": "chunked"
        }
        self.wire.send(message("PUT", "/b/k", headers, b"2\r\nhe\r\n"))
        self.assertEqual((self.wire.answer().status, self.wire.answer().code), (411, "MissingContentLength"))

    def test_empty_body(self) -> None:
        """An empty body needs nothing of the client."""
        self.go()
        self.wire.send(request_bytes("PUT", "/b/k"))
        self.assertEqual(self.wire.answer().status, 200)
        self.assertEqual(self.storing.outcome, ReceivedBody(length_bytes=0))

    def test_nothing_in_files(self) -> None:
        """No body is kept in a file or in memory by the server."""
        self.patch(http, "_getContentFile", lambda length: self.fail("a file was made"))
        self.storing.may_ask.callback(None)
        self.wire.send(
            request_bytes(
                "PUT", "/b/k", {"content-length": "1000000"}, b"x" * 500000, payload="UNSIGNED-PAYLOAD"
            )
        )
        request = self.wire.channel.requests[0]
        assert isinstance(request, S3Request)
        self.assertIsNone(request.content)

    def test_private_names(self) -> None:
        """The names of twisted.web that this server leans on still exist."""
        for name in ("_handlingRequest", "_transferDecoder", "_dataBuffer", "requests"):
            self.assertTrue(hasattr(self.wire.channel, name), name)
        for name in (
            "_buffer",
            "_busyReceiving",
            "_finishRequestBody",
            "_networkProducer",
            "_waitingForTransport",
            "_abortingCall",
            "_respondToBadRequestAndDisconnect",
            "allContentReceived",
            "requestDone",
        ):
            self.assertTrue(hasattr(self.wire.channel, name), name)
        self.assertIs(S3Request._disconnected, False)


class ContinueTests(RequestTests):
    """Expect: 100-continue."""

    def expecting(self, target: str = "/b/k", method: str = "PUT") -> bytes:
        """Return headers of a request that waits for 100."""
        headers = {"expect": "100-continue", "content-length": "5"}
        return request_bytes(method, target, headers, payload="UNSIGNED-PAYLOAD")

    def test_only_when_asked(self) -> None:
        """The client is told to go on when the operation asks for the body, not before."""
        self.assertEqual(self.wire.send(self.expecting()), b"")
        self.storing.may_ask.callback(None)
        self.assertEqual(self.wire.transport.value(), b"HTTP/1.1 100 Continue\r\n\r\n")
        self.wire.transport.clear()
        self.storing.may_answer.callback(None)
        self.wire.send(b"hello")
        self.assertEqual(self.wire.answer().status, 200)

    def test_refusal_without_100(self) -> None:
        """A refusal is the only answer, and closes."""
        written = self.wire.send(self.expecting("/b/k?partNumber=1&uploadId=u"))
        self.assertTrue(written.startswith(b"HTTP/1.1 404"))
        self.assertEqual(self.wire.answer().headers["connection"], "close")

    def test_wrong_signature_without_100(self) -> None:
        """A wrong signature is refused without asking for the body."""
        written = self.wire.send(self.expecting().replace(b"Signature=", b"Signature=0"))
        self.assertTrue(written.startswith(b"HTTP/1.1 403"))
        self.assertEqual(self.wire.answer().code, "SignatureDoesNotMatch")

    def test_empty_body(self) -> None:
        """A client that waits with an empty body is told to go on once before its answer, of whatever kind."""
        self.storing.may_ask.callback(None)
        self.storing.may_answer.callback(None)
        headers = {"expect": "100-continue", "content-length": "0"}
        for target, status in (("/b/k", b"200"), ("/b/k?partNumber=1&uploadId=u", b"404")):
            written = self.wire.send(request_bytes("PUT", target, headers, payload="UNSIGNED-PAYLOAD"))
            go_on, separator, answer = written.partition(b"\r\n\r\n")
            self.assertEqual((go_on, separator), (b"HTTP/1.1 100 Continue", b"\r\n\r\n"))
            self.assertTrue(answer.startswith(b"HTTP/1.1 " + status), answer)
            self.wire.transport.clear()

    def test_version_1_0(self) -> None:
        """An HTTP/1.0 client is never told to continue."""
        self.storing.may_ask.callback(None)
        written = self.wire.send(self.expecting().replace(b"HTTP/1.1", b"HTTP/1.0"))
        self.assertEqual(written, b"")


class EarlyAnswerTests(RequestTests):
    """An answer before the body has ended."""

    def test_rest_of_body_is_no_request(self) -> None:
        """What follows an early answer is never read as a request, and the connection closes after a while."""
        hidden = request_bytes("GET", "/b")
        head = request_bytes(
            "PUT", "/b/k?partNumber=1&uploadId=u", {"content-length": "100000"}, payload="UNSIGNED-PAYLOAD"
        )
        self.wire.send(head + b"xx")
        answer = self.wire.answer()
        self.assertEqual((answer.status, answer.headers["connection"]), (404, "close"))
        self.wire.send(hidden)
        self.wire.send(b"y" * 100000 + hidden)
        self.assertEqual(self.wire.answer().rest, b"")
        self.assertEqual(len(self.storing.calls), 1)
        self.assertFalse(self.wire.is_paused)
        self.assertFalse(self.wire.transport.disconnecting)
        self.wire.clock.advance(5)
        self.assertTrue(self.wire.transport.disconnecting)

    def refused(self, length: int, sent: bytes = b"") -> None:
        """Send an upload that is refused at its headers."""
        self.wire.send(
            request_bytes(
                "PUT",
                "/b/k?partNumber=1&uploadId=u",
                {"content-length": str(length)},
                sent,
                payload="UNSIGNED-PAYLOAD",
            )
        )

    def test_client_that_does_not_close(self) -> None:
        """A client that does not take the close is cut off."""
        self.refused(100000)
        self.wire.clock.advance(5)
        self.assertFalse(self.wire.transport.aborted)
        self.wire.clock.advance(15)
        self.assertTrue(self.wire.transport.aborted)

    def test_client_closes(self) -> None:
        """A client that leaves while the connection lingers, or drains, leaves no timer behind."""
        for length in (9, 100000):
            self.setUp()
            self.refused(length)
            self.wire.lose()
            self.assertEqual(self.wire.clock.getDelayedCalls(), [])

    def test_small_rest_is_dropped(self) -> None:
        """A refusal keeps the connection when little of the body is left: it is dropped, and the next request served."""
        self.refused(9, b"ab")
        answer = self.wire.answer()
        self.assertEqual((answer.status, answer.headers.get("connection")), (404, None))
        self.assertFalse(self.wire.is_paused)
        self.wire.send(b"GET / H" + request_bytes("GET", "/b"))
        self.assertEqual(ParsedAnswer.of(self.wire.answer().rest).body, b"shown")
        self.assertEqual(len(self.storing.calls), 2)

    def test_small_rest_that_does_not_come(self) -> None:
        """A client that was answered and keeps the rest of its body back is closed by the idle timeout."""
        self.refused(9, b"ab")
        self.wire.clock.advance(61)
        self.assertTrue(self.wire.transport.disconnecting)

    def test_failing_sink(self) -> None:
        """A disk that fails in the middle of a body is answered at once with 503, and logged."""

        def broken(block: bytes) -> None:
            raise DiskFault("write: input/output error")

        self.storing.sink.write = broken  # type: ignore[method-assign]
        self.go()
        with capturedLogs() as events:
            self.wire.send(
                request_bytes("PUT", "/b/k", {"content-length": "9"}, b"abc", payload="UNSIGNED-PAYLOAD")
            )
        self.assertEqual((self.wire.answer().status, self.wire.answer().code), (503, "ServiceUnavailable"))
        self.assertTrue(any("input/output error" in str(event.get("why")) for event in events))

    def test_failing_sink_within_a_transfer_coding(self) -> None:
        """A chunked body that is refused in the middle of what one read brought, its end included, is answered and nothing else happens."""

        def broken(block: bytes) -> None:
            raise S3Error("BadDigest")

        self.storing.sink.write = broken  # type: ignore[method-assign]
        self.go()
        fields = {"x-amz-decoded-content-length": "6"}
        headers = signed_headers("PUT", "/b/k", fields, payload="UNSIGNED-PAYLOAD")
        body = b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n" + request_bytes("GET", "/b")
        self.wire.send(message("PUT", "/b/k", headers | {"transfer-encoding": "chunked"}, body))
        answer = self.wire.answer()
        self.assertEqual((answer.status, answer.code, answer.rest), (400, "BadDigest", b""))
        self.assertEqual(len(self.storing.calls), 1)
        self.wire.clock.advance(5)
        self.assertTrue(self.wire.transport.disconnecting)


class PipelineTests(RequestTests):
    """Several requests on a connection."""

    def test_pipelined(self) -> None:
        """Requests sent together are answered in order, each once."""
        self.go()
        self.wire.send(request_bytes("PUT", "/b/k", body=b"hello") + request_bytes("GET", "/b") * 2)
        first = self.wire.answer()
        second = ParsedAnswer.of(first.rest)
        third = ParsedAnswer.of(second.rest)
        self.assertEqual([first.status, second.body, third.body, third.rest], [200, b"shown", b"shown", b""])

    def test_one_at_a_time(self) -> None:
        """A request behind one that is still at work waits."""
        self.storing.may_ask.callback(None)
        self.wire.send(request_bytes("PUT", "/b/k", body=b"hello") + request_bytes("GET", "/b"))
        self.assertEqual(len(self.storing.calls), 1)
        self.storing.may_answer.callback(None)
        self.wire.turn()
        self.assertEqual(len(self.storing.calls), 2)

    def test_byte_by_byte(self) -> None:
        """The pieces in which requests arrive make no difference."""
        self.go()
        for byte in request_bytes("PUT", "/b/k", body=b"hello") + request_bytes("GET", "/b"):
            self.wire.send(bytes([byte]))
        self.assertEqual(self.storing.sink.body, b"hello")
        self.assertEqual(ParsedAnswer.of(self.wire.answer().rest).body, b"shown")

    def test_version_1_0(self) -> None:
        """An HTTP/1.0 request is answered and the connection closes."""
        self.wire.send(request_bytes("GET", "/b").replace(b"HTTP/1.1", b"HTTP/1.0"))
        self.assertEqual(self.wire.answer().body, b"shown")
        self.assertTrue(self.wire.transport.disconnecting)

    def test_connection_close(self) -> None:
        """A client that asks for a close gets it."""
        self.wire.send(request_bytes("GET", "/b").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        self.assertEqual(self.wire.answer().body, b"shown")
        self.assertTrue(self.wire.transport.disconnecting)


class DepartureTests(RequestTests):
    """Clients that leave or fall silent."""

    def test_during_the_body(self) -> None:
        """The operation's body fails when the client leaves, and nothing is answered or logged as a failure."""
        self.storing.may_ask.callback(None)
        self.wire.send(
            request_bytes("PUT", "/b/k", {"content-length": "9"}, b"abc", payload="UNSIGNED-PAYLOAD")
        )
        with capturedLogs() as events:
            self.wire.lose()
        self.assertIsInstance(self.storing.outcome, BodyAborted)
        self.assertEqual(self.wire.transport.value(), b"")
        self.assertEqual([event["code"] for event in events if "code" in event], ["-client-gone-"])

    def test_before_asking(self) -> None:
        """An operation that asks for the body of a client that has left fails then."""
        self.wire.send(
            request_bytes("PUT", "/b/k", {"content-length": "9"}, b"abc", payload="UNSIGNED-PAYLOAD")
        )
        self.wire.lose()
        self.assertIsNone(self.storing.outcome)
        self.storing.may_ask.callback(None)
        self.assertIsInstance(self.storing.outcome, BodyAborted)

    def test_after_the_body(self) -> None:
        """An operation that has the whole body goes on to its end, whoever still listens."""
        self.storing.may_ask.callback(None)
        self.wire.send(request_bytes("PUT", "/b/k", body=b"hello"))
        self.wire.lose()
        self.assertFalse(self.storing.may_answer.called)
        with capturedLogs() as events:
            self.storing.may_answer.callback(None)
        self.assertEqual([event["status"] for event in events if "status" in event], [200])

    def test_silent_client(self) -> None:
        """A client that stops sending is told RequestTimeout and cut off."""
        self.storing.may_ask.callback(None)
        self.wire.send(
            request_bytes("PUT", "/b/k", {"content-length": "9"}, b"abc", payload="UNSIGNED-PAYLOAD")
        )
        self.wire.clock.advance(59)
        self.assertIsNone(self.storing.outcome)
        self.wire.clock.advance(2)
        self.assertEqual((self.wire.answer().status, self.wire.answer().code), (400, "RequestTimeout"))
        self.wire.clock.advance(5)
        self.assertTrue(self.wire.transport.disconnecting)

    def test_slow_operation(self) -> None:
        """A client is not blamed while the operation makes it wait: before asking, and while the sink presses."""
        self.wire.send(request_bytes("PUT", "/b/k", {"content-length": "9"}, payload="UNSIGNED-PAYLOAD"))
        self.wire.clock.pump([61.0] * 5)
        self.assertFalse(self.wire.transport.disconnecting)
        self.storing.may_ask.callback(None)
        self.wire.send(b"abc")
        self.storing.sink.pause()
        self.wire.clock.pump([61.0] * 5)
        self.assertIsNone(self.storing.outcome)
        self.storing.sink.resume()
        self.storing.may_answer.callback(None)
        self.wire.send(b"defghi")
        self.assertEqual(self.wire.answer().status, 200)

    def test_idle_connection(self) -> None:
        """A kept connection on which nothing comes is closed, also after an upload; one that is new as well."""
        self.go()
        self.wire.send(request_bytes("PUT", "/b/k", body=b"hello"))
        self.wire.clock.advance(59)
        self.assertFalse(self.wire.transport.disconnecting)
        self.wire.clock.advance(2)
        self.assertTrue(self.wire.transport.disconnecting)

    def test_last_answer_that_is_not_read(self) -> None:
        """A client that does not take the end of an answer after which the connection closes is cut off, whatever it sends meanwhile."""
        headers = signed_headers("GET", "/b", {}, payload="UNSIGNED-PAYLOAD") | {"connection": "close"}
        self.wire.send(message("GET", "/b", headers) + b"x" * 100_000)
        self.assertEqual((self.wire.answer().status, self.wire.answer().rest), (200, b""))
        self.assertTrue(self.wire.transport.disconnecting)
        self.assertEqual(len(self.storing.calls), 1)
        self.wire.clock.advance(59)
        self.wire.channel.dataReceived(b"y" * 100_000)
        self.assertFalse(self.wire.transport.aborted)
        self.wire.clock.advance(2)
        self.assertTrue(self.wire.transport.aborted)

    def test_more_than_the_last_request(self) -> None:
        """What comes in one read with the body of the last request is dropped."""
        self.go()
        headers = signed_headers("PUT", "/b/k", {}, payload="UNSIGNED-PAYLOAD")
        headers |= {"connection": "close", "content-length": "5"}
        self.wire.send(message("PUT", "/b/k", headers, b"hello" + b"x" * 100_000))
        self.assertEqual((self.wire.answer().status, self.wire.answer().rest), (200, b""))
        self.assertEqual((self.storing.sink.body, len(self.storing.calls)), (b"hello", 1))
        self.assertTrue(self.wire.transport.disconnecting)

    def test_long_answer(self) -> None:
        """An operation may take its time once the body is there."""
        self.storing.may_ask.callback(None)
        self.wire.send(request_bytes("PUT", "/b/k", body=b"hello"))
        self.wire.clock.pump([61.0] * 5)
        self.assertFalse(self.wire.transport.disconnecting)
        self.storing.may_answer.callback(None)
        self.assertEqual(self.wire.answer().status, 200)


class RefusalTests(RequestTests):
    """What is no request gets an answer all the same."""

    def assertRefused(self, data: bytes, code: str = "InvalidRequest") -> None:
        """Send bytes that must not become a request."""
        self.setUp()
        self.go()
        self.wire.send(data)
        answer = self.wire.answer()
        self.assertEqual((answer.status, answer.code, answer.rest), (400, code, b""), data[:200])
        self.assertEqual(answer.headers["connection"], "close")
        self.assertIn("x-amz-request-id", answer.headers)
        self.assertEqual(self.storing.calls, [])
        self.wire.send(request_bytes("GET", "/b"))
        self.assertEqual(self.storing.calls, [])
        self.wire.clock.advance(5)
        self.assertTrue(self.wire.transport.disconnecting)

    def test_tls(self) -> None:
        """Who speaks TLS to a port that does not is refused at his first byte; the log says what it was."""
        with capturedLogs() as events:
            self.assertRefused(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "BadRequest")
        self.assertIn("TLS", next(event["why"] for event in events if "why" in event))
        self.assertRefused(b"\x80", "BadRequest")

    def test_length_in_doubt(self) -> None:
        """Two statements on the length of a body, or one that is no number, are refused, wherever they stand."""
        base = request_bytes("PUT", "/b/k", body=b"hello")
        for line in (
            b"Content-Length: 5",
            b"content-length: 6",
            b"Transfer-Encoding: chunked",
            b"Transfer-Encoding: identity",
            b"Transfer-Encoding: gzip, chunked",
            b"Content-Length: +5",
            b"Content-Length: 5, 5",
            b"Content-Length: " + b"9" * 5000,
            b"Content-Length : 5",
        ):
            code = "BadRequest" if b" :" in line else "InvalidRequest"
            self.assertRefused(base.replace(b"host:", line + b"\r\nhost:", 1), code)
            self.assertRefused(base.replace(b"\r\n\r\n", b"\r\n" + line + b"\r\n\r\n", 1), code)

    def test_transfer_coding_of_1_0(self) -> None:
        """HTTP/1.0 has no chunked bodies."""
        self.assertRefused(b"PUT /b/k HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")

    def test_malformed(self) -> None:
        """Lines that are not HTTP, and control characters in headers, are refused."""
        for data in (
            b"\x16\x03\x01\x02\x00\x01\r\n",
            b"GET /\r\n",
            b"GET / HTTP/9.9\r\n",
            b"GET /\xff HTTP/1.1\r\n",
        ):
            self.assertRefused(data, "BadRequest")
        self.assertRefused(b"GET / HTTP/1.1\r\nno colon\r\n\r\n", "BadRequest")
        self.assertRefused(b"GET / HTTP/1.1\r\na: b\nContent-Length: 3\r\n\r\n")
        self.assertRefused(b"GET / HTTP/1.1\r\na: b\x00\r\n\r\n")
        self.assertRefused(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")

    def test_oversized(self) -> None:
        """A request line, a header line, a section and a number of lines beyond the limits are named as such."""
        code = "RequestHeaderSectionTooLarge"
        self.assertRefused(b"GET /" + b"x" * 70000, code)
        self.assertRefused(b"GET / HTTP/1.1\r\nx-amz-meta-a: " + b"x" * 70000 + b"\r\n\r\n", code)
        self.assertRefused(
            b"GET / HTTP/1.1\r\n" + b"".join(b"x%d: %s\r\n" % (i, b"y" * 2000) for i in range(30)), code
        )
        self.assertRefused(
            b"GET / HTTP/1.1\r\n" + b"".join(b"x%d: y\r\n" % i for i in range(500)), "BadRequest"
        )

    def test_broken_transfer_coding(self) -> None:
        """A chunked body whose framing breaks fails the body; the answer says so and closes."""
        headers = signed_headers(
            "PUT", "/b/k", {"x-amz-decoded-content-length": "50"}, payload="UNSIGNED-PAYLOAD"
        ) | {"transfer-encoding": "chunked"}
        self.go()
        self.wire.send(message("PUT", "/b/k", headers, b"2\r\nhe\r\nZZ\r\n"))
        answer = self.wire.answer()
        self.assertEqual(
            (answer.status, answer.code, answer.headers["connection"]), (400, "BadRequest", "close")
        )
        self.assertIsInstance(self.storing.outcome, S3Error)

    def test_large_headers(self) -> None:
        """Over S3's own limits the refusal is a normal answer: metadata by its name, anything else as a section."""
        self.wire.send(request_bytes("GET", "/b/k", {"x-amz-meta-a": "x" * 9000}))
        self.assertEqual(self.wire.answer().code, "MetadataTooLarge")
        self.wire.transport.clear()
        self.wire.send(request_bytes("GET", "/b/k", {"cookie": "x" * 9000}))
        self.assertEqual(self.wire.answer().code, "RequestHeaderSectionTooLarge")
        self.assertEqual(self.storing.calls, [])

    def test_smuggled_request_in_body(self) -> None:
        """A body that looks like a request is a body."""
        self.go()
        inner = request_bytes("DELETE", "/b/k")
        self.wire.send(request_bytes("PUT", "/b/k", body=inner))
        self.assertEqual(self.storing.sink.body, inner)
        self.assertEqual([call.operation for call in self.storing.calls], [Operation.PUT_OBJECT])


class AnswerTests(RequestTests):
    """From operations' results to HTTP."""

    def serve(self, result: "Answer | Exception", method: str = "GET", target: str = "/b/k") -> ParsedAnswer:
        """Answer one request with ``result``."""

        async def operation(call: Call) -> Answer:
            if isinstance(result, Exception):
                raise result
            return result

        self.wire = Wire(dict.fromkeys(Operation, operation))
        self.wire.send(request_bytes(method, target))
        return self.wire.answer()

    def test_error_document(self) -> None:
        """An error is a document with the ids of its headers, the resource and the further elements."""
        answer = self.serve(S3Error("NoSuchKey", details={"Key": "a<b"}), target="/b/a%3Cb")
        text = answer.body.decode()
        self.assertEqual((answer.status, answer.headers["content-type"]), (404, "application/xml"))
        self.assertIn("<Error><Code>NoSuchKey</Code>", text)
        self.assertIn("<Key>a&lt;b</Key><Resource>/b/a%3Cb</Resource>", text)
        self.assertIn(f"<RequestId>{answer.headers['x-amz-request-id']}</RequestId>", text)
        self.assertIn(f"<HostId>{answer.headers['x-amz-id-2']}</HostId>", text)

    def test_head_errors_have_no_body(self) -> None:
        """HEAD is answered by status and headers alone, and the connection serves on."""
        answer = self.serve(S3Error("NoSuchKey"), "HEAD")
        self.assertEqual((answer.status, answer.rest, answer.body), (404, b"", b""))
        self.assertNotIn("content-length", answer.headers)
        self.assertNotIn("transfer-encoding", answer.headers)
        self.assertFalse(self.wire.transport.disconnecting)

    def test_head_keeps_its_length(self) -> None:
        """HEAD of an object shows the object's length and sends nothing."""
        answer = self.serve(Answer(headers={"Content-Length": "12345"}), "HEAD")
        self.assertEqual(answer.headers["content-length"], "12345")
        self.assertTrue(self.wire.transport.value().endswith(b"\r\n\r\n"))

    def test_without_body(self) -> None:
        """204 and 304 have neither body nor length."""
        for answer in (Answer(status=204, body=b"x"), S3Error("NotModified", headers={"ETag": '"e"'})):
            given = self.serve(answer)
            self.assertEqual((given.body, given.rest), (b"", b""))
            self.assertNotIn("content-length", given.headers)
            self.assertNotIn("transfer-encoding", given.headers)

    def test_refusals_of_the_model(self) -> None:
        """A refusal of the model is answered by S3's name for it, with its headers."""
        answer = self.serve(MetadataUnavailable())
        self.assertEqual(
            (answer.status, answer.code, answer.headers["retry-after"]), (503, "ServiceUnavailable", "5")
        )
        self.assertEqual(self.serve(StagingFull()).code, "SlowDown")

    def test_bugs(self) -> None:
        """A bug is answered by 500 without its text, and logged once with the request's id."""
        answer = self.serve(ZeroDivisionError("secret detail"))
        self.assertEqual((answer.status, answer.code), (500, "InternalError"))
        self.assertNotIn(b"secret", answer.body)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_answer_that_cannot_be_made(self) -> None:
        """When not even the error can be written down, the client still hears that there was one."""
        answer = self.serve(S3Error("InvalidArgument", details={"\ud800": "x"}))
        self.assertEqual((answer.status, answer.body, answer.headers["content-length"]), (500, b"", "0"))
        self.assertTrue(answer.headers["x-amz-request-id"])
        self.assertEqual(len(self.flushLoggedErrors(UnicodeEncodeError)), 1)
        self.wire.send(request_bytes("GET", "/"))
        self.assertEqual(self.wire.transport.value().count(b"HTTP/1.1 500"), 2)
        self.flushLoggedErrors(UnicodeEncodeError)

    def test_answer_that_cannot_be_sent(self) -> None:
        """A field that no header can hold is an error, and what would have followed is let go."""
        stream = Stream()
        answer = self.serve(Answer(headers={"x-amz-meta-a": "\ud800"}, stream=stream))
        self.assertEqual((answer.status, stream.abandoned), (500, 1))
        self.assertEqual(len(self.flushLoggedErrors(UnicodeEncodeError)), 1)

    def test_forgotten(self) -> None:
        """A request that is still served when the program ends says nothing in its last moment."""

        async def operation(call: Call) -> Answer:
            await Deferred()
            raise AssertionError

        wire = Wire({Operation.GET_OBJECT: operation})
        wire.send(request_bytes("GET", "/b/k"))
        forgotten: list[object] = []
        self.patch(sys, "unraisablehook", forgotten.append)
        del wire
        gc.collect()
        self.assertEqual(forgotten, [])

    def test_not_built(self) -> None:
        """An operation that is not registered answers 501 by name."""
        wire = Wire({})
        wire.send(request_bytes("GET", "/"))
        self.assertEqual((wire.answer().status, wire.answer().code), (501, "NotImplemented"))
        self.assertIn(b"<Resource>ListBuckets</Resource>", wire.answer().body)

    def test_header_values(self) -> None:
        """Values are sent as UTF-8 and cannot break out of their line."""
        answer = self.serve(Answer(headers={"x-amz-meta-a": "é\r\nEvil: 1"}))
        self.assertNotIn("evil", answer.headers)
        self.assertEqual(answer.headers["x-amz-meta-a"].encode("latin-1").decode("utf-8"), "é Evil: 1")

    def test_virtual_host(self) -> None:
        """A bucket named by the host reaches the same operation."""
        calls: list[Call] = []

        async def operation(call: Call) -> Answer:
            calls.append(call)
            return Answer()

        wire = Wire({Operation.GET_OBJECT: operation}, domains=("tape.example",))
        sent = signed_headers("GET", "/a//b", {}, payload=EMPTY, host="photos.tape.example:8000")
        wire.send(message("GET", "/a//b", sent))
        self.assertEqual((calls[0].bucket, calls[0].key), ("photos", b"a//b"))

    def test_keys_arrive_as_they_were_sent(self) -> None:
        """Keys that path libraries would change reach the operation unchanged."""
        calls: list[Call] = []

        async def operation(call: Call) -> Answer:
            calls.append(call)
            return Answer()

        wire = Wire({Operation.GET_OBJECT: operation})
        for target, key in (
            ("/b//a", b"/a"),
            ("/b/a//b", b"a//b"),
            ("/b/./../x", b"./../x"),
            ("/b/a%2Fb", b"a/b"),
            ("/b/a+b", b"a+b"),
            ("/b/%00%0A%7F", b"\x00\n\x7f"),
            ("/b/%C3%A9/", "é/".encode()),
        ):
            wire.send(request_bytes("GET", target))
            self.assertEqual(calls[-1].key, key)

    def test_access_log(self) -> None:
        """Each request leaves one event with who, what and how much."""
        with capturedLogs() as events:
            self.serve(Answer(body=b"12345"))
        event = next(event for event in events if "operation" in event)
        self.assertEqual(
            (
                event["caller"],
                event["operation"],
                event["bucket"],
                event["key"],
                event["status"],
                event["sent_bytes"],
            ),
            ("alice", "GetObject", "b", "k", 200, 5),
        )

    def test_access_log_has_one_line(self) -> None:
        """Neither bucket nor key can begin a new line of the log."""
        with capturedLogs() as events:
            self.serve(Answer(), target="/b%0Ax/k%0Ay")
        event = next(event for event in events if "operation" in event)
        self.assertEqual((event["bucket"], event["key"]), ("b%0Ax", "k%0Ay"))

    def test_call(self) -> None:
        """An operation learns who calls, when, from where and what."""
        self.wire.send(request_bytes("GET", "/b/k?versionId=null"))
        call = self.storing.calls[0]
        self.assertEqual((call.caller.user_id, call.caller.access_key), ("u-1", "AKIDEXAMPLE"))
        self.assertEqual((call.bucket_name, call.object_key, call.version_id), ("b", b"k", "null"))
        self.assertEqual((call.received_at, call.remote_address, call.is_secure), (NOW, "127.0.0.1", False))


@implementer(IPushProducer)
class Stream:
    """An answer's stream that a test moves on."""

    def __init__(self) -> None:
        self.done: Deferred[None] = Deferred()
        self.abandoned = 0
        self.request: S3Request | None = None

    def start(self, request: object) -> Deferred[None]:
        """Begin."""
        assert isinstance(request, S3Request)
        self.request = request
        return self.done

    def abandon(self) -> None:
        """Count."""
        self.abandoned += 1


class StreamTests(SynchronousTestCase):
    """Answers whose bytes come from elsewhere."""

    def setUp(self) -> None:
        """Serve one stream of five bytes."""
        self.stream = Stream()
        self.may_answer: Deferred[None] = Deferred()

        async def operation(call: Call) -> Answer:
            await self.may_answer
            return Answer(headers={"Content-Length": "5"}, stream=self.stream)

        self.wire = Wire({Operation.GET_OBJECT: operation, Operation.HEAD_OBJECT: operation})

    def test_sent(self) -> None:
        """The header goes out first, then what the stream writes; the connection serves on."""
        self.wire.send(request_bytes("GET", "/b/k"))
        self.may_answer.callback(None)
        self.assertTrue(self.wire.transport.value().endswith(b"\r\n\r\n"))
        assert self.stream.request is not None
        self.stream.request.write(b"hello")
        self.stream.done.callback(None)
        self.assertEqual((self.wire.answer().body, self.wire.answer().rest), (b"hello", b""))
        self.assertFalse(self.wire.transport.disconnecting)
        self.assertEqual(self.stream.abandoned, 0)

    def test_client_left_before(self) -> None:
        """A stream that nobody awaits any more is abandoned, not started."""
        self.wire.send(request_bytes("GET", "/b/k"))
        self.wire.lose()
        self.may_answer.callback(None)
        self.assertEqual((self.stream.abandoned, self.stream.request), (1, None))

    def test_head(self) -> None:
        """HEAD abandons a stream."""
        self.wire.send(request_bytes("HEAD", "/b/k"))
        self.may_answer.callback(None)
        self.assertEqual((self.stream.abandoned, self.stream.request), (1, None))

    def test_bytes_that_cannot_be_had(self) -> None:
        """A stream that fails breaks the connection: a short body must not look whole."""
        self.wire.send(request_bytes("GET", "/b/k"))
        self.may_answer.callback(None)
        self.stream.done.errback(OSError("bad block"))
        self.assertTrue(self.wire.transport.aborted)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)


EMPTY = hashlib.sha256(b"").hexdigest()
