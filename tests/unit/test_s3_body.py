"""Bodies: their forms, the decoder of chunks in any pieces, the chain of signatures, and what digests prove."""

import hashlib
from base64 import b64encode
from collections.abc import Callable
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.objects import Checksum
from coldstore.s3.body import RequestBody, stored_content_encoding
from coldstore.s3.chunked import LINE_LIMIT_BYTES, ChunkedDecoder
from coldstore.s3.errors import S3Error
from coldstore.s3.fields import HeaderFields
from coldstore.s3.integrity import IntegrityPlan, ReceivedBody, checksum_headers, object_checksum, object_plan
from coldstore.s3.paths import address_of
from coldstore.s3.payload import CHECKSUM_ALGORITHMS, Payload, PayloadKind, payload_of
from coldstore.s3.signing import (
    ChunkChain,
    ChunkEnd,
    Scope,
    TrailerEnd,
    canonical_request,
    signature,
    signing_key,
    string_to_sign,
)
from coldstore.util.checksums import new_digest

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SCOPE = Scope(date="20130524", region="us-east-1", service="s3")
TIMESTAMP = "20130524T000000Z"
SEED = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
SIGNATURES = (
    "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
    "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
    "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
)
TRAILED_SEED = "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e"
TRAILED_SIGNATURES = (
    "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
    "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
    "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
)
TRAILER_SIGNATURE = "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435"
CONTENT = b"a" * 66560


def signed_body(signatures: tuple[str, ...] = SIGNATURES, end: bytes = b"\r\n") -> bytes:
    """Return AWS's published example as it is sent."""
    pieces = []
    for chunk, given_signature in zip((CONTENT[:65536], CONTENT[65536:], b""), signatures, strict=True):
        pieces.append(b"%x;chunk-signature=%s\r\n%s" % (len(chunk), given_signature.encode(), chunk))
        pieces.append(b"\r\n" if chunk else end)
    return b"".join(pieces)


TRAILED_END = (
    b"x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:" + TRAILER_SIGNATURE.encode() + b"\r\n\r\n"
)


def chunked(kind: PayloadKind, length: int, trailer: str | None = None) -> Payload:
    """Return a chunked payload."""
    return Payload(kind=kind, signed_as=kind.value, sha256=None, length_bytes=length, trailer=trailer)


class Listener:
    """Keeps what a decoder tells."""

    def __init__(self) -> None:
        self.body = b""
        self.ends: list[ChunkEnd | TrailerEnd] = []

    def on_data(self, block: bytes) -> None:
        """Keep bytes."""
        self.body += block

    def on_signature(self, end: ChunkEnd | TrailerEnd) -> None:
        """Keep a signature."""
        self.ends.append(end)


def decoded(payload: Payload, pieces: list[bytes]) -> tuple[bytes, str | None, list[ChunkEnd | TrailerEnd]]:
    """Decode a body that comes in ``pieces``."""
    listener = Listener()
    decoder = ChunkedDecoder(payload, listener)
    for piece in pieces:
        decoder.feed(piece)
    return listener.body, decoder.finish(), listener.ends


def outcome(payload: Payload, pieces: list[bytes]) -> object:
    """Return what decoding gives, or the code with which it fails."""
    try:
        return decoded(payload, pieces)
    except S3Error as error:
        return error.code


def split(body: bytes, cuts: list[int]) -> list[bytes]:
    """Cut a body at the given places."""
    places = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    return [body[begin:end] for begin, end in pairwise(places)]


UNSIGNED = PayloadKind.UNSIGNED_CHUNKS_TRAILER
CRC32 = "x-amz-checksum-crc32"


class DecoderTests(SynchronousTestCase):
    """The grammar of aws-chunked."""

    def test_measured_bodies(self) -> None:
        """What boto3 sends over TLS is decoded, the empty object included."""
        body = b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n"
        self.assertEqual(decoded(chunked(UNSIGNED, 5, CRC32), [body]), (b"hello", "NhCmhg==", []))
        body = b"0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
        self.assertEqual(decoded(chunked(UNSIGNED, 0, CRC32), [body]), (b"", "AAAAAA==", []))

    def test_dialects(self) -> None:
        """Spaces round the trailer's value, LF before its CRLF, and a missing or double last line do no harm."""
        for end in (
            b"x-amz-checksum-crc32: NhCmhg== \r\n\r\n",
            b"X-Amz-Checksum-CRC32:NhCmhg==\n\r\n\r\n",
            b"x-amz-checksum-crc32:NhCmhg==\r\n",
            b"x-amz-checksum-crc32:NhCmhg==\r\n\r\n\r\n",
        ):
            body = b"5\r\nhello\r\n0\r\n" + end
            self.assertEqual(decoded(chunked(UNSIGNED, 5, CRC32), [body])[:2], (b"hello", "NhCmhg=="), end)

    def test_without_trailer(self) -> None:
        """A trailer form that announces none may have none."""
        self.assertEqual(decoded(chunked(UNSIGNED, 5), [b"5\r\nhello\r\n0\r\n\r\n"])[:2], (b"hello", None))

    def test_faults(self) -> None:
        """Each fault of the framing has its code."""
        good = b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n"
        head = b"5\r\nhello\r\n0\r\n"
        for body, code in (
            (b"", "IncompleteBody"),
            (good[:6], "IncompleteBody"),
            (b"5\r\nhello\r\n", "IncompleteBody"),
            (b"6\r\nhello!\r\n0\r\n\r\n", "IncompleteBody"),
            (b"4\r\nhell\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n", "IncompleteBody"),
            (b"5\r\nhelloXX\r\n", "InvalidRequest"),
            (b"5\r\nhello0\r\n", "InvalidRequest"),
            (b"-5\r\nhello\r\n", "InvalidRequest"),
            (b"0x5\r\nhello\r\n", "InvalidRequest"),
            (b"5 \r\nhello\r\n", "InvalidRequest"),
            (b"\r\nhello\r\n", "InvalidRequest"),
            (b"f" * 17 + b"\r\n", "InvalidRequest"),
            (b"5;chunk-signature=" + b"0" * 64 + b"\r\nhello\r\n", "InvalidRequest"),
            (b"5" * (LINE_LIMIT_BYTES + 1), "InvalidRequest"),
            (b"5\n" * LINE_LIMIT_BYTES, "InvalidRequest"),
            (head + b"\r\n", "MalformedTrailerError"),
            (head, "MalformedTrailerError"),
            (head + b"x-amz-checksum-crc32:Nh", "MalformedTrailerError"),
            (head + b"x-amz-checksum-crc32c:NhCmhg==\r\n\r\n", "MalformedTrailerError"),
            (
                head + b"x-amz-checksum-crc32:NhCmhg==\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n",
                "MalformedTrailerError",
            ),
            (head + b"no colon\r\n\r\n", "MalformedTrailerError"),
            (head + b"x" * (LINE_LIMIT_BYTES + 1), "MalformedTrailerError"),
            (good + b"more\r\n", "MalformedTrailerError"),
        ):
            self.assertEqual(outcome(chunked(UNSIGNED, 5, CRC32), [body]), code, body[:60])

    def test_unannounced_trailer(self) -> None:
        """A trailer that no header announced is malformed."""
        body = b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n"
        self.assertEqual(outcome(chunked(UNSIGNED, 5), [body]), "MalformedTrailerError")

    def test_small_chunks(self) -> None:
        """Only the last chunk may be smaller than 8 KiB."""
        small, large = b"1fff\r\n" + b"x" * 8191 + b"\r\n", b"2000\r\n" + b"x" * 8192 + b"\r\n"
        end = b"0\r\n\r\n"
        self.assertEqual(len(decoded(chunked(UNSIGNED, 16383), [large + small + end])[0]), 16383)
        self.assertEqual(outcome(chunked(UNSIGNED, 16383), [small + large + end]), "InvalidChunkSizeError")

    def test_promise_is_kept_early(self) -> None:
        """A chunk beyond the promised length is refused at its header, before its bytes."""
        listener = Listener()
        decoder = ChunkedDecoder(chunked(UNSIGNED, 5, CRC32), listener)
        with self.assertRaises(S3Error) as caught:
            decoder.feed(b"6\r\n")
        self.assertEqual(caught.exception.code, "IncompleteBody")
        self.assertEqual(listener.body, b"")

    @settings(max_examples=150, deadline=None)
    @given(
        sizes=st.lists(st.integers(8192, 9000), max_size=3),
        last=st.integers(0, 9000),
        cuts=st.lists(st.integers(0, 40000), max_size=12),
    )
    def test_any_split(self, sizes: list[int], last: int, cuts: list[int]) -> None:
        """However a body is cut on its way, the result is the same."""
        chunks = [bytes([number % 256]) * size for number, size in enumerate([*sizes, last]) if size]
        content = b"".join(chunks)
        value = b64encode(hashlib.md5(content).digest()[:4])
        body = b"".join(b"%X\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
        body += b"0\r\nx-amz-checksum-crc32:" + value + b"\r\n\r\n"
        payload = chunked(UNSIGNED, len(content), CRC32)
        self.assertEqual(decoded(payload, split(body, cuts)), (content, value.decode(), []))

    @settings(max_examples=300, deadline=None)
    @given(
        body=st.one_of(
            st.binary(max_size=400),
            st.text("05aF;:=x\r\n-", max_size=60).map(str.encode),
            st.tuples(st.integers(0, 60), st.binary(min_size=1, max_size=3)).map(
                lambda change: (
                    (good := b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n")[: change[0]]
                    + change[1]
                    + good[change[0] + len(change[1]) :]
                )
            ),
        ),
        cuts=st.lists(st.integers(0, 400), max_size=6),
    )
    def test_nonsense(self, body: bytes, cuts: list[int]) -> None:
        """Nonsense is refused by an S3 code, the same one however it is cut, and never decodes beyond the promise."""
        payload = chunked(UNSIGNED, 5, CRC32)
        whole = outcome(payload, [body])
        self.assertEqual(outcome(payload, split(body, cuts)), whole)
        if isinstance(whole, tuple):
            self.assertEqual(len(whole[0]), 5)

    def test_byte_by_byte_signed(self) -> None:
        """The published signed body decodes byte by byte."""
        body = signed_body()
        payload = chunked(PayloadKind.SIGNED_CHUNKS, len(CONTENT))
        expected = [ChunkEnd(signature=given_signature) for given_signature in SIGNATURES]
        edges = (
            [bytes([byte]) for byte in body[:200]]
            + [body[200:-300]]
            + [bytes([byte]) for byte in body[-300:]]
        )
        self.assertEqual(decoded(payload, edges), (CONTENT, None, expected))


class ChainTests(SynchronousTestCase):
    """Signatures of chunks, by AWS's published examples."""

    def chain(self, seed: str = SEED) -> ChunkChain:
        """Return a fresh chain."""
        return ChunkChain(key=signing_key(SECRET, SCOPE), timestamp=TIMESTAMP, scope=SCOPE, seed=seed)

    def test_seed(self) -> None:
        """The request's own signature, from which the chain begins, is the published one."""
        headers = {
            "content-encoding": "aws-chunked",
            "content-length": "66824",
            "host": "s3.amazonaws.com",
            "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
            "x-amz-date": TIMESTAMP,
            "x-amz-decoded-content-length": "66560",
            "x-amz-storage-class": "REDUCED_REDUNDANCY",
        }
        address = address_of(b"/examplebucket/chunkObject.txt", None, ())
        canonical = canonical_request(
            method="PUT",
            decoded_path=address.decoded_path,
            query=address.query,
            headers=HeaderFields((name.encode(), value.encode()) for name, value in headers.items()),
            signed_headers=sorted(headers),
            payload=headers["x-amz-content-sha256"],
        )
        text = string_to_sign(TIMESTAMP, SCOPE, canonical)
        self.assertEqual(signature(signing_key(SECRET, SCOPE), text), SEED)

    def test_chunks(self) -> None:
        """The published chunks verify, in any blocks."""
        for step in (1000, 65536, 100000):
            chain = self.chain()
            for content, given_signature in (
                (CONTENT[:65536], SIGNATURES[0]),
                (CONTENT[65536:], SIGNATURES[1]),
            ):
                chain.advance([content[at : at + step] for at in range(0, len(content), step)])
                chain.advance([ChunkEnd(signature=given_signature)])
            chain.advance([ChunkEnd(signature=SIGNATURES[2])])

    def test_trailer(self) -> None:
        """The published trailer verifies."""
        chain = self.chain(TRAILED_SEED)
        chain.advance([CONTENT[:65536], ChunkEnd(signature=TRAILED_SIGNATURES[0])])
        chain.advance([CONTENT[65536:], ChunkEnd(signature=TRAILED_SIGNATURES[1])])
        chain.advance([ChunkEnd(signature=TRAILED_SIGNATURES[2])])
        lines = b"x-amz-checksum-crc32c:sOO8/Q==\n"
        chain.advance([TrailerEnd(lines=lines, signature=TRAILER_SIGNATURE)])

    def test_changes(self) -> None:
        """A changed byte, a swapped chunk and a changed trailer do not verify."""
        for items in (
            [b"b" + CONTENT[1:65536], ChunkEnd(signature=SIGNATURES[0])],
            [CONTENT[65536:], ChunkEnd(signature=SIGNATURES[1])],
            [TrailerEnd(lines=b"x:y\n", signature=TRAILER_SIGNATURE)],
        ):
            with self.assertRaises(S3Error) as caught:
                self.chain().advance(items)
            self.assertEqual((caught.exception.code, caught.exception.status), ("SignatureDoesNotMatch", 403))


class Source:
    """A source that a test feeds."""

    def __init__(self) -> None:
        self.done: Deferred[None] = Deferred()
        self.sink: Callable[[bytes], None] | None = None
        self.is_paused = False
        self.is_discarded = False

    def deliver(self, sink: Callable[[bytes], None]) -> Deferred[None]:
        """Begin."""
        self.sink = sink
        return self.done

    def pause(self) -> None:
        """Note it."""
        self.is_paused = True

    def resume(self) -> None:
        """Note it."""
        self.is_paused = False

    def discard(self) -> None:
        """Note it."""
        self.is_discarded = True

    def feed(self, body: bytes, step: int = 1000) -> None:
        """Send a body and end."""
        assert self.sink is not None
        for at in range(0, len(body), step):
            self.sink(body[at : at + step])
        self.done.callback(None)


class Kept:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.body = b""
        self.pause: Callable[[], None] = lambda: None
        self.resume: Callable[[], None] = lambda: None

    def write(self, block: bytes) -> None:
        """Keep."""
        self.body += block

    def on_pressure(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """Remember."""
        self.pause, self.resume = pause, resume


class Threads:
    """A thread pool whose work a test runs when it likes."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], None], Deferred[None]]] = []

    def __call__(self, function: Callable[[], None]) -> Deferred[None]:
        """Queue."""
        done: Deferred[None] = Deferred()
        self.waiting.append((function, done))
        return done

    def run_one(self) -> None:
        """Run the oldest."""
        function, done = self.waiting.pop(0)
        maybeDeferred(function).chainDeferred(done)


class TransferTests(SynchronousTestCase):
    """From the source to the sink."""

    def setUp(self) -> None:
        """Make the parts."""
        self.source, self.sink, self.threads = Source(), Kept(), Threads()

    def body(
        self, payload: Payload, headers: dict[str, str] | None = None, seed: str | None = None
    ) -> RequestBody:
        """Return a body."""
        chain = None
        if seed is not None:
            chain = ChunkChain(key=signing_key(SECRET, SCOPE), timestamp=TIMESTAMP, scope=SCOPE, seed=seed)
        fields = HeaderFields((name.encode(), value.encode()) for name, value in (headers or {}).items())
        return RequestBody(
            source=self.source, headers=fields, payload=payload, chain=chain, in_thread=self.threads
        )

    def plain(self, content: bytes, headers: dict[str, str] | None = None) -> RequestBody:
        """Return a plain body with the hash of ``content``."""
        digest = hashlib.sha256(content).hexdigest()
        return self.body(payload_of(digest, HeaderFields([]), len(content)), headers)

    def failed(self, result: "Deferred[ReceivedBody] | Deferred[bytes]") -> str:
        """Return the code with which a transfer failed."""
        error = self.failureResultOf(result, S3Error).value
        assert isinstance(error, S3Error)
        return error.code

    def test_signed_in_threads(self) -> None:
        """Large batches are verified in threads, in order, and the end waits for them."""
        result = self.body(chunked(PayloadKind.SIGNED_CHUNKS, len(CONTENT)), seed=SEED).stream_to(self.sink)
        self.source.feed(signed_body(), step=100000)
        self.assertEqual(self.sink.body, CONTENT)
        while self.threads.waiting:
            self.assertNoResult(result)
            self.threads.run_one()
        self.assertEqual(self.successResultOf(result), ReceivedBody(length_bytes=len(CONTENT)))

    def test_signed_with_trailer(self) -> None:
        """A signed trailer gives its checksum once its signature holds."""
        payload = chunked(PayloadKind.SIGNED_CHUNKS_TRAILER, len(CONTENT), "x-amz-checksum-crc32c")
        result = self.body(payload, seed=TRAILED_SEED).stream_to(self.sink)
        self.source.feed(signed_body(TRAILED_SIGNATURES, TRAILED_END))
        while self.threads.waiting:
            self.threads.run_one()
        received = self.successResultOf(result)
        self.assertEqual(received.trailing_checksum, "sOO8/Q==")

    def test_wrong_signature(self) -> None:
        """A wrong chunk signature ends the transfer, wherever it was computed."""
        for step, wrong in ((1000, 0), (1000, 2), (100000, 0), (100000, 1), (100000, 2)):
            self.setUp()
            result = self.body(chunked(PayloadKind.SIGNED_CHUNKS, len(CONTENT)), seed=SEED).stream_to(
                self.sink
            )
            signatures = tuple("0" * 64 if at == wrong else s for at, s in enumerate(SIGNATURES))
            self.source.feed(signed_body(signatures), step)
            while self.threads.waiting:
                self.threads.run_one()
            self.assertEqual(self.failed(result), "SignatureDoesNotMatch", (step, wrong))
            self.assertTrue(self.source.is_discarded)

    def test_wrong_trailer(self) -> None:
        """A trailer with a changed value or without its signature is refused."""
        for end, code in (
            (TRAILED_END.replace(b"sOO8", b"sOO9"), "SignatureDoesNotMatch"),
            (b"x-amz-checksum-crc32c:sOO8/Q==\r\n\r\n", "MalformedTrailerError"),
        ):
            self.setUp()
            payload = chunked(PayloadKind.SIGNED_CHUNKS_TRAILER, len(CONTENT), "x-amz-checksum-crc32c")
            result = self.body(payload, seed=TRAILED_SEED).stream_to(self.sink)
            self.source.feed(signed_body(TRAILED_SIGNATURES, end))
            while self.threads.waiting:
                self.threads.run_one()
            self.assertEqual(self.failed(result), code)

    def test_verification_presses(self) -> None:
        """A client that is faster than the verification is held back, and let go on when it has caught up."""
        size = 3 * 1024 * 1024
        result = self.body(chunked(PayloadKind.SIGNED_CHUNKS, size), seed=SEED).stream_to(self.sink)
        assert self.source.sink is not None
        self.source.sink(b"%x;chunk-signature=%s\r\n" % (size, b"0" * 64))
        for _ in range(12):
            self.source.sink(b"x" * (size // 12))
        self.assertTrue(self.source.is_paused)
        self.threads.run_one()
        self.assertFalse(self.source.is_paused)
        self.assertNoResult(result)

    def test_two_that_press(self) -> None:
        """The client goes on only when nobody presses any more."""
        size = 3 * 1024 * 1024
        self.body(chunked(PayloadKind.SIGNED_CHUNKS, size), seed=SEED).stream_to(self.sink)
        assert self.source.sink is not None
        self.source.sink(b"%x;chunk-signature=%s\r\n" % (size, b"0" * 64))
        for _ in range(12):
            self.source.sink(b"x" * (size // 12))
        self.sink.pause()
        self.threads.run_one()
        self.assertTrue(self.source.is_paused)
        self.sink.resume()
        self.assertFalse(self.source.is_paused)

    def test_plain(self) -> None:
        """A plain body arrives as it is."""
        result = self.plain(b"hello").stream_to(self.sink)
        self.source.feed(b"hello", 2)
        self.assertEqual(self.successResultOf(result), ReceivedBody(length_bytes=5))
        self.assertEqual(self.sink.body, b"hello")

    def test_length(self) -> None:
        """A body that is shorter or longer than promised fails, and the sink never gets more than was promised."""
        for sent in (b"hell", b"hello!"):
            self.setUp()
            result = self.plain(b"hello").stream_to(self.sink)
            self.source.feed(sent, 10)
            self.assertEqual(self.failed(result), "IncompleteBody")
            self.assertLessEqual(len(self.sink.body), 5)

    def test_document(self) -> None:
        """A document is verified by its hash, its MD5 and its checksum."""
        content = b"<Delete/>"
        md5 = b64encode(hashlib.md5(content).digest()).decode()
        crc = new_digest("crc32")
        crc.update(content)
        headers = {"content-md5": md5, "x-amz-checksum-crc32": b64encode(crc.digest()).decode()}
        result = self.plain(content, headers).read_document(requires_digest=True)
        self.source.feed(content)
        self.assertEqual(self.successResultOf(result), content)
        for name in headers:
            self.setUp()
            result = self.plain(b"<delete/>", {name: headers[name]}).read_document()
            self.source.feed(b"<delete/>")
            self.assertEqual(self.failed(result), "BadDigest", name)
        self.setUp()
        result = self.plain(content).read_document()
        self.source.feed(content.upper())
        self.assertEqual(self.failed(result), "XAmzContentSHA256Mismatch")

    def test_document_limits(self) -> None:
        """A document that is too long, or lacks a demanded digest, is refused before it is asked for."""
        self.assertEqual(self.failed(self.plain(b"x" * 11).read_document(10)), "MaxMessageLengthExceeded")
        self.assertEqual(self.failed(self.plain(b"x").read_document(requires_digest=True)), "InvalidRequest")
        self.assertIsNone(self.source.sink)

    def test_checksum_of_the_object(self) -> None:
        """A checksum that speaks of an object does not judge the document."""
        body = self.plain(b"<x/>", {"x-amz-checksum-crc32": "AAAAAA==-3"})
        result = body.read_document(checksum_is_of_object=True)
        self.source.feed(b"<x/>")
        self.assertEqual(self.successResultOf(result), b"<x/>")

    def test_unknown_length(self) -> None:
        """A body of unknown length is refused with 411."""
        payload = payload_of("UNSIGNED-PAYLOAD", HeaderFields([]), None)
        self.assertEqual(self.failed(self.body(payload).stream_to(self.sink)), "MissingContentLength")

    def test_cancelled(self) -> None:
        """An operation that gives up drops what still comes."""
        result = self.plain(b"hello").stream_to(self.sink)
        result.cancel()
        self.failureResultOf(result)
        self.assertTrue(self.source.is_discarded)


def fields(**headers: str) -> HeaderFields:
    """Return headers; underscores stand for hyphens."""
    return HeaderFields((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items())


class PayloadTests(SynchronousTestCase):
    """What announces the form of a body."""

    def code(self, signed_as: str, headers: HeaderFields, length: int | None = 10) -> str:
        """Return why a payload is refused."""
        with self.assertRaises(S3Error) as caught:
            payload_of(signed_as, headers, length)
        return caught.exception.code

    def test_lengths(self) -> None:
        """The decoded length counts for chunked forms, Content-Length for the others."""
        headers = fields(x_amz_decoded_content_length="5")
        self.assertEqual(payload_of("STREAMING-UNSIGNED-PAYLOAD-TRAILER", headers, None).length_bytes, 5)
        self.assertEqual(payload_of("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", headers, 95).length_bytes, 5)
        self.assertEqual(payload_of("UNSIGNED-PAYLOAD", headers, 10).length_bytes, 10)
        self.assertEqual(payload_of("UNSIGNED-PAYLOAD", headers, None).length_bytes, 5)
        for value in ("-1", "+5", "5.0", "", "\u0665", "9" * 20):
            bad = fields(x_amz_decoded_content_length=value)
            self.assertEqual(self.code("STREAMING-UNSIGNED-PAYLOAD-TRAILER", bad), "InvalidArgument", value)

    def test_trailers(self) -> None:
        """Only checksums that are known can be trailers."""
        for value in ("x-amz-checksum-crc64nvme", "X-Amz-Checksum-SHA1"):
            headers = fields(x_amz_decoded_content_length="5", x_amz_trailer=value)
            found = payload_of("STREAMING-UNSIGNED-PAYLOAD-TRAILER", headers, None)
            self.assertEqual(found.trailer, value.lower())
        for value in ("x-amz-checksum-md6", "x-amz-checksum-", "x-amz-meta-a", "crc32", "a,b"):
            headers = fields(x_amz_decoded_content_length="5", x_amz_trailer=value)
            self.assertEqual(
                self.code("STREAMING-UNSIGNED-PAYLOAD-TRAILER", headers), "InvalidRequest", value
            )

    def test_content_encoding(self) -> None:
        """The framing's token is not stored; all else is as it was sent."""
        for sent, stored in (
            ("aws-chunked", None),
            ("gzip,aws-chunked", "gzip"),
            ("AWS-chunked, gzip", "gzip"),
            ("gzip", "gzip"),
            ("deflate, gzip", "deflate, gzip"),
            ("deflate, gzip,aws-chunked", "deflate, gzip"),
            ("deflate,aws-chunked , gzip", "deflate, gzip"),
            (None, None),
        ):
            self.assertEqual(stored_content_encoding(sent), stored)


PLAIN = Payload(
    kind=PayloadKind.UNSIGNED, signed_as="UNSIGNED-PAYLOAD", sha256=None, length_bytes=5, trailer=None
)
HELLO = {
    "md5": hashlib.md5(b"hello").digest(),
    "sha256": hashlib.sha256(b"hello").digest(),
    "sha1": hashlib.sha1(b"hello").digest(),
    "crc32": bytes.fromhex("3610a686"),
}


class IntegrityTests(SynchronousTestCase):
    """Which digests are computed, and what they prove."""

    def digests(self) -> dict[str, bytes]:
        """Return all digests of hello."""
        found = {}
        for name in CHECKSUM_ALGORITHMS:
            digest = new_digest(name)
            digest.update(b"hello")
            found[name] = digest.digest()
        return found

    def refused(self, headers: HeaderFields, payload: Payload = PLAIN) -> str:
        """Return why no plan is made."""
        with self.assertRaises(S3Error) as caught:
            object_plan(headers, payload)
        return caught.exception.code

    def test_default(self) -> None:
        """Without a word of the client, MD5 and CRC64NVME are computed, and the latter is stored."""
        plan = object_plan(HeaderFields([]), PLAIN)
        self.assertEqual(plan.algorithms, {"md5", "crc64nvme"})
        self.assertFalse(plan.has_client_digest)
        found = plan.check(self.digests(), ReceivedBody(length_bytes=5))
        self.assertEqual(found, Checksum(algorithm="CRC64NVME", value="M3eFcAZSQlc="))
        self.assertEqual(
            dict(checksum_headers(found)),
            {"x-amz-checksum-crc64nvme": "M3eFcAZSQlc=", "x-amz-checksum-type": "FULL_OBJECT"},
        )

    def test_each_algorithm(self) -> None:
        """A right value of each algorithm passes and is stored; a wrong one is a BadDigest that shows both."""
        for name, digest in self.digests().items():
            value = b64encode(digest).decode()
            for payload in (PLAIN, chunked(UNSIGNED, 5, f"x-amz-checksum-{name}")):
                trails = payload.trailer is not None
                headers = {} if trails else {f"x_amz_checksum_{name}": value}
                plan = object_plan(fields(**headers, x_amz_sdk_checksum_algorithm=name.upper()), payload)
                self.assertEqual(plan.algorithms, {"md5", name})
                received = ReceivedBody(length_bytes=5, trailing_checksum=value if trails else None)
                self.assertEqual(plan.check(self.digests(), received).value, value)
                with self.assertRaises(S3Error) as caught:
                    plan.check(self.digests() | {name: bytes(len(digest))}, received)
                self.assertEqual(caught.exception.code, "BadDigest")
                self.assertEqual(caught.exception.details["ExpectedDigest"], value)

    def test_content_md5(self) -> None:
        """Content-MD5 is checked; what is no MD5 is an InvalidDigest."""
        plan = object_plan(fields(content_md5=b64encode(HELLO["md5"]).decode()), PLAIN)
        plan.check(self.digests(), ReceivedBody(length_bytes=5))
        with self.assertRaises(S3Error) as caught:
            plan.check(self.digests() | {"md5": b"x" * 16}, ReceivedBody(length_bytes=5))
        self.assertEqual(caught.exception.code, "BadDigest")
        for value in ("", "????", "YWJj", "a" * 33):
            self.assertEqual(self.refused(fields(content_md5=value)), "InvalidDigest", value)

    def test_sha256(self) -> None:
        """The hash of the signature is checked, and both values are shown."""
        plan = object_plan(HeaderFields([]), payload_of(HELLO["sha256"].hex(), HeaderFields([]), 5))
        self.assertEqual(plan.algorithms, {"md5", "sha256", "crc64nvme"})
        plan.check(self.digests(), ReceivedBody(length_bytes=5))
        with self.assertRaises(S3Error) as caught:
            plan.check(self.digests() | {"sha256": bytes(32)}, ReceivedBody(length_bytes=5))
        self.assertEqual(caught.exception.code, "XAmzContentSHA256Mismatch")
        self.assertEqual(caught.exception.details["ClientComputedContentSHA256"], HELLO["sha256"].hex())
        self.assertEqual(caught.exception.details["S3ComputedContentSHA256"], "0" * 64)

    def test_length(self) -> None:
        """Another length is an incomplete body."""
        with self.assertRaises(S3Error) as caught:
            object_plan(HeaderFields([]), PLAIN).check(self.digests(), ReceivedBody(length_bytes=4))
        self.assertEqual(caught.exception.code, "IncompleteBody")

    def test_trailer_values(self) -> None:
        """A trailer that is no checksum, or is missing, is refused."""
        plan = object_plan(HeaderFields([]), chunked(UNSIGNED, 5, CRC32))
        for value, code in (
            ("!!", "InvalidRequest"),
            ("AAAA", "InvalidRequest"),
            (None, "MalformedTrailerError"),
        ):
            with self.assertRaises(S3Error) as caught:
                plan.check(self.digests(), ReceivedBody(length_bytes=5, trailing_checksum=value))
            self.assertEqual(caught.exception.code, code)

    def test_refused_headers(self) -> None:
        """Two checksums, unknown and new algorithms, malformed values and broken announcements are refused."""
        for headers in (
            fields(x_amz_checksum_crc32="NhCmhg==", x_amz_checksum_crc32c="mnG7TA=="),
            HeaderFields([(b"x-amz-checksum-crc32", b"NhCmhg=="), (b"x-amz-checksum-crc32", b"NhCmhg==")]),
            fields(x_amz_checksum_crc32="NhCmhg"),
            fields(x_amz_checksum_crc32="mnG7"),
            fields(x_amz_checksum_adler="AAAA"),
            *(
                fields(**{f"x_amz_checksum_{n}": "AA=="})
                for n in ("sha512", "md5", "xxhash64", "xxhash3", "xxhash128")
            ),
            fields(x_amz_sdk_checksum_algorithm="CRC32"),
            fields(x_amz_sdk_checksum_algorithm="SHA224"),
            fields(x_amz_sdk_checksum_algorithm="CRC32", x_amz_checksum_crc32c="mnG7TA=="),
        ):
            self.assertEqual(self.refused(headers), "InvalidRequest", headers.names())
        both = self.refused(fields(x_amz_checksum_crc32="NhCmhg=="), chunked(UNSIGNED, 5, CRC32))
        self.assertEqual(both, "InvalidRequest")

    def test_presigned(self) -> None:
        """A checksum in the query names the algorithm and rejects nothing."""
        query = [("x-amz-checksum-crc32", "AAAAAA=="), ("x-amz-sdk-checksum-algorithm", "CRC32")]
        plan = object_plan(HeaderFields([], query), PLAIN)
        self.assertEqual(plan.check(self.digests(), ReceivedBody(length_bytes=5)).value, "NhCmhg==")
        announced_only = object_plan(HeaderFields([], query[1:]), PLAIN)
        self.assertEqual(announced_only.algorithm, "crc64nvme")

    def test_object_checksum(self) -> None:
        """The checksum that a completion claims for the whole object is taken as it is said."""
        self.assertIsNone(
            object_checksum(fields(x_amz_checksum_type="COMPOSITE", x_amz_checksum_mode="ENABLED"))
        )
        found = object_checksum(fields(x_amz_checksum_sha256="abc=-3"))
        self.assertEqual(found, Checksum(algorithm="SHA256", value="abc=-3"))

    def test_plans_are_values(self) -> None:
        """Equal requests have equal plans."""
        one, two = (object_plan(fields(x_amz_checksum_crc32="NhCmhg=="), PLAIN) for _ in range(2))
        self.assertEqual(one, two)
        self.assertIsInstance(hash(one), int)
        self.assertIsInstance(one, IntegrityPlan)
