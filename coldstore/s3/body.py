"""
The body of a request as operations see it: asked for when it is wanted, decoded, bounded and verified on the way.

Nothing is read from the client before an operation asks. Bytes go to a sink as they arrive; the sink and the
verification of chunk signatures each may hold the client back. A body that ends early, late or wrongly fails the
Deferred that the operation waits on.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from coldstore.s3.chunked import ChunkedDecoder
from coldstore.s3.errors import S3Error
from coldstore.s3.fields import HeaderFields
from coldstore.s3.integrity import IntegrityPlan, ReceivedBody, document_plan, incomplete_body, object_plan
from coldstore.s3.payload import CHUNKED, SIGNED, Payload
from coldstore.s3.signing import ChunkChain, ChunkEnd, TrailerEnd
from coldstore.s3.xml import DOCUMENT_LIMIT_BYTES
from coldstore.util.asynchronous import returns_deferred
from coldstore.util.checksums import new_digest

InThread = Callable[[Callable[[], None]], "Deferred[None]"]
"""Runs a function in some thread of a pool; the Deferred fires in the reactor's thread."""

VERIFY_INLINE_BYTES = 64 * 1024
"""Up to this many bytes are hashed at once (40 microseconds); a thread would cost more than it saves."""
VERIFY_LIMIT_BYTES = 2 * 1024 * 1024
"""The client is held back while more than this waits for verification."""


class BodyAborted(Exception):
    """The client went away, or broke HTTP's framing, before its body was complete. There is nobody to answer."""


class BodySource(Protocol):
    """Where a body comes from: the HTTP request."""

    def deliver(self, sink: Callable[[bytes], None]) -> "Deferred[None]":
        """
        Ask the client for the body and give it to ``sink`` block by block; called once.

        :return: fires after the last block; fails with ``BodyAborted`` or, when the client falls silent, ``S3Error``
        """

    def pause(self) -> None:
        """Hold the client back; a few blocks may still come."""

    def resume(self) -> None:
        """Go on."""

    def discard(self) -> None:
        """Want no more: what still comes is dropped."""


class BodySink(Protocol):
    """Where bytes go; ``coldstore.interfaces.staging.IIncoming`` is one."""

    def write(self, block: bytes) -> None:
        """Take bytes; never blocks."""

    def on_pressure(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """Have ``pause`` called when enough is held, ``resume`` when there is room."""


class EmptySource:
    """The source of a request without a body."""

    def deliver(self, sink: Callable[[bytes], None]) -> "Deferred[None]":
        """Fire at once."""
        return succeed(None)

    def pause(self) -> None:
        """Do nothing."""

    def resume(self) -> None:
        """Do nothing."""

    def discard(self) -> None:
        """Do nothing."""


class RequestBody:
    """The body of one request. Exactly one of ``stream_to`` and ``read_document`` may be called, once."""

    def __init__(
        self,
        *,
        source: BodySource,
        headers: HeaderFields,
        payload: Payload,
        chain: ChunkChain | None,
        in_thread: InThread,
    ) -> None:
        """:param chain: the verification of chunk signatures, for payloads in signed chunks"""
        assert (chain is not None) == (payload.kind in SIGNED)
        self._source = source
        self._headers = headers
        self._chain = chain
        self._in_thread = in_thread
        self.payload = payload

    @property
    def length_bytes(self) -> int:
        """
        The length that the headers promise, decoded; 0 for a request without a body.

        :raise S3Error: MissingContentLength when nothing says it
        """
        if self.payload.length_bytes is None:
            raise S3Error("MissingContentLength")
        return self.payload.length_bytes

    def object_plan(self, *, default_algorithm: str = "crc64nvme") -> IntegrityPlan:
        """
        Return the plan for a body that becomes an object or a part; see ``integrity.object_plan``.

        :raise S3Error: MissingContentLength when no header tells of a body. To HTTP that is an empty one (RFC 9112,
            section 6.3); S3 never takes a forgotten length for an empty object.
        """
        if "content-length" not in self._headers and "transfer-encoding" not in self._headers:
            raise S3Error("MissingContentLength")
        return object_plan(self._headers, self.payload, default_algorithm=default_algorithm)

    def stream_to(self, sink: BodySink) -> "Deferred[ReceivedBody]":
        """
        Have the client send its body, and write it to ``sink``.

        :return: fires when everything was written and all chunk signatures hold; digests are not compared yet, so
            nothing may become visible before ``IntegrityPlan.check``. Fails with ``S3Error`` (IncompleteBody,
            SignatureDoesNotMatch, MissingContentLength and other faults of what was sent) or ``BodyAborted`` (the client has gone)
        """
        try:
            promised_bytes = self.length_bytes
        except S3Error as error:
            return fail(error)
        return _Transfer(
            self._source, self.payload, promised_bytes, sink, self._chain, self._in_thread
        ).start()

    @returns_deferred
    async def read_document(
        self,
        limit_bytes: int = DOCUMENT_LIMIT_BYTES,
        *,
        checksum_is_of_object: bool = False,
        requires_digest: bool = False,
    ) -> bytes:
        """
        Have the client send its body, verify it and return it whole.

        :param limit_bytes: longer bodies are refused before they are asked for
        :param checksum_is_of_object: see ``integrity.document_plan``
        :param requires_digest: refuse a body that brings neither Content-MD5 nor a checksum
        :raise S3Error: MaxMessageLengthExceeded, InvalidRequest, faults as in ``stream_to`` and ``IntegrityPlan.verify``
        :raise BodyAborted: the client has gone
        """
        plan = document_plan(self._headers, self.payload, checksum_is_of_object=checksum_is_of_object)
        if self.length_bytes > limit_bytes:
            raise S3Error(
                "MaxMessageLengthExceeded",
                f"Your request was too large: its document has {self.length_bytes} bytes, and may have {limit_bytes}.",
                details={"MaxMessageLengthBytes": str(limit_bytes)},
            )
        if requires_digest and not plan.has_client_digest:
            raise S3Error(
                "InvalidRequest", "Missing required header for this request: Content-MD5 or x-amz-checksum-*"
            )
        collected = _Collector()
        received = await self.stream_to(collected)
        body = b"".join(collected.blocks)
        plan.verify({name: _digest_of(name, body) for name in plan.algorithms}, received)
        return body


def _digest_of(algorithm: str, body: bytes) -> bytes:
    digest = new_digest(algorithm)
    digest.update(body)
    return digest.digest()


class _Collector:
    """A sink in memory, for documents whose length is limited."""

    def __init__(self) -> None:
        self.blocks: list[bytes] = []

    def write(self, block: bytes) -> None:
        """Keep the block."""
        self.blocks.append(block)

    def on_pressure(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """Never press."""


class _Verification:
    """
    Runs a ``ChunkChain`` beside the transfer: in order, one batch at a time, large ones in a thread.

    :ivar on_failure: called once with the failure that ended it
    """

    def __init__(
        self,
        chain: ChunkChain,
        in_thread: InThread,
        pause: Callable[[], None],
        resume: Callable[[], None],
        on_failure: Callable[[Failure | Exception], None],
    ) -> None:
        self._chain = chain
        self._in_thread = in_thread
        self._pause = pause
        self._resume = resume
        self._on_failure = on_failure
        self._waiting: list[bytes | ChunkEnd | TrailerEnd] = []
        self._waiting_bytes = 0
        self._is_running = False
        self._has_failed = False
        self._idle: Deferred[None] | None = None

    def add(self, item: bytes | ChunkEnd | TrailerEnd) -> None:
        """Take the next bytes, or the next end."""
        self._waiting.append(item)
        if isinstance(item, bytes):
            self._waiting_bytes += len(item)
            if self._waiting_bytes > VERIFY_LIMIT_BYTES:
                self._pause()
        self._go_on()

    def finished(self) -> "Deferred[None]":
        """Fire when everything taken so far holds; never fires when it does not (``on_failure`` has been called)."""
        if not self._is_running and not self._has_failed:
            return succeed(None)
        self._idle = Deferred()
        return self._idle

    def _go_on(self) -> None:
        """Take up what waits, unless a batch is under way, which goes on by itself."""
        if self._is_running or self._has_failed or not self._waiting:
            return
        batch, self._waiting = self._waiting, []
        batch_bytes, self._waiting_bytes = self._waiting_bytes, 0
        if batch_bytes <= VERIFY_INLINE_BYTES:
            try:
                self._chain.advance(batch)
            except S3Error as error:
                self._failed(error)
            return
        self._is_running = True
        self._in_thread(partial(self._chain.advance, batch)).addCallbacks(self._batch_done, self._failed)

    def _batch_done(self, _: None) -> None:
        self._is_running = False
        self._resume()
        self._go_on()
        idle = self._idle
        if idle is not None and not self._is_running and not self._has_failed:
            self._idle = None
            idle.callback(None)

    def _failed(self, failure: Failure | Exception) -> None:
        self._is_running = False
        self._has_failed = True
        self._waiting.clear()
        self._on_failure(failure)


class _Transfer:
    """One body on its way from a source to a sink."""

    def __init__(
        self,
        source: BodySource,
        payload: Payload,
        promised_bytes: int,
        sink: BodySink,
        chain: ChunkChain | None,
        in_thread: InThread,
    ) -> None:
        self._source = source
        self._promised_bytes = promised_bytes
        self._sink = sink
        self._received_bytes = 0
        self._pressed_by: set[str] = set()
        self._has_ended = False
        self._done: Deferred[ReceivedBody] = Deferred(lambda _: self._stop())
        self._decoder = ChunkedDecoder(payload, self) if payload.kind in CHUNKED else None
        self._verification: _Verification | None = None
        if chain is not None:
            pause, resume = partial(self._press, "signatures"), partial(self._release, "signatures")
            self._verification = _Verification(chain, in_thread, pause, resume, self._fail)

    def start(self) -> "Deferred[ReceivedBody]":
        """Begin; the Deferred tells the end."""
        self._sink.on_pressure(partial(self._press, "sink"), partial(self._release, "sink"))
        self._source.deliver(self._block).addCallbacks(self._ended, self._fail)
        return self._done

    def on_data(self, block: bytes) -> None:
        """Take decoded bytes."""
        self._received_bytes += len(block)
        if self._received_bytes > self._promised_bytes:
            raise incomplete_body(self._promised_bytes, self._received_bytes)
        if self._verification is not None:
            self._verification.add(block)
        self._sink.write(block)

    def on_signature(self, end: ChunkEnd | TrailerEnd) -> None:
        """Take the signature at the end of a chunk or of the trailer."""
        assert self._verification is not None
        self._verification.add(end)

    def _block(self, block: bytes) -> None:
        if self._has_ended:
            return
        try:
            if self._decoder is None:
                self.on_data(block)
            else:
                self._decoder.feed(block)
        except Exception as error:  # noqa: BLE001 - whatever the sink or the decoder raises is the transfer's result
            self._fail(error)

    def _ended(self, _: None) -> None:
        if self._has_ended:
            return
        try:
            trailer = None if self._decoder is None else self._decoder.finish()
            if self._received_bytes != self._promised_bytes:
                raise incomplete_body(self._promised_bytes, self._received_bytes)
        except S3Error as error:
            self._fail(error)
            return
        received = ReceivedBody(length_bytes=self._received_bytes, trailing_checksum=trailer)
        if self._verification is None:
            self._succeed(received)
        else:
            self._verification.finished().addCallback(lambda _: self._succeed(received))

    def _succeed(self, received: ReceivedBody) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._done.callback(received)

    def _stop(self) -> None:
        self._has_ended = True
        self._source.discard()

    def _fail(self, failure: Failure | Exception) -> None:
        if not self._has_ended:
            self._stop()
            self._done.errback(failure)

    def _press(self, who: str) -> None:
        self._pressed_by.add(who)
        if not self._has_ended:
            self._source.pause()

    def _release(self, who: str) -> None:
        self._pressed_by.discard(who)
        if not self._pressed_by and not self._has_ended:
            self._source.resume()


def stored_content_encoding(content_encoding: str | None) -> str | None:
    """
    Return a Content-Encoding as it is stored: as it was sent, but for the ``aws-chunked`` token; None when nothing is left.

    ``gzip,aws-chunked`` becomes ``gzip``. The token speaks of the transfer, not of the object.
    """
    if content_encoding is None:
        return None
    kept = [token for token in content_encoding.split(",") if token.strip().lower() != "aws-chunked"]
    return ",".join(kept).strip() or None
