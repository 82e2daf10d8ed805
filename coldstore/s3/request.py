# mypy: disallow-untyped-calls=False
# (twisted.web is annotated in part only)
"""
An HTTP request whose body is a stream that somebody has to ask for.

``twisted.web`` reads a whole body into memory or a temporary file before a resource sees the request. Here the
resource is asked when the header section is complete; the body waits in the socket until the operation wants it, and
``Expect: 100-continue`` is answered only then (RFC 9110, section 10.1.1).
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.http import RESPONSES

from coldstore.s3.body import BodyAborted
from coldstore.s3.errors import S3Error
from coldstore.s3.head import RequestHead

if TYPE_CHECKING:
    from coldstore.s3.site import S3Channel

_REASONS = {status: reason.decode("ascii") for status, reason in RESPONSES.items()}
DRAIN_LIMIT_BYTES = 64 * 1024
"""After an early answer, up to this much of a body is read and dropped to keep the connection; more closes it."""


class HttpBody:
    """
    The body of one request: a ``coldstore.s3.body.BodySource``.

    Blocks that come before anybody asks are held, with the transport paused: at most what one read brought. A paused
    transport also does not notice that the client leaves, so nobody should press for long.
    """

    def __init__(self, request: "S3Request", length_bytes: int | None) -> None:
        """:param length_bytes: from Content-Length; None for the chunked transfer coding"""
        self.length_bytes = length_bytes
        self.received_bytes = 0
        self.is_complete = False
        self._request = request
        self._sink: Callable[[bytes], None] | None = None
        self._early: list[bytes] = []
        self._done: Deferred[None] | None = None
        self._failure: Failure | Exception | None = None
        self._was_asked_for = False
        self._is_pressed = False
        self._is_discarding = False
        self._is_paused = False

    # -- for the operation -------------------------------------------------------------------------------------------

    def deliver(self, sink: Callable[[bytes], None]) -> "Deferred[None]":
        """Ask the client for the body; see ``BodySource.deliver``."""
        assert not self._was_asked_for, "a body is delivered once"
        self._was_asked_for = True
        done: Deferred[None] = Deferred(lambda _: self.discard())
        self._done, self._sink = done, sink
        if self._failure is None and not self.is_complete:
            self._request.send_continue()
        early, self._early = self._early, []
        for block in early:
            if not self._is_discarding:
                sink(block)
        self._heed()
        if self._failure is not None or self.is_complete:
            self._tell()
        return done

    def pause(self) -> None:
        """Hold the client back."""
        self._is_pressed = True
        self._heed()

    def resume(self) -> None:
        """Go on."""
        self._is_pressed = False
        self._heed()

    def discard(self) -> None:
        """Drop what is here and what still comes."""
        self._is_discarding = True
        self._early.clear()
        self._heed()

    # -- for the channel ---------------------------------------------------------------------------------------------

    @property
    def is_awaited(self) -> bool:
        """Whether the next move is the client's: somebody asked, and is not holding it back."""
        return self._sink is not None and not (self._is_pressed or self.is_complete or self._is_discarding)

    @property
    def is_nearly_here(self) -> bool:
        """Whether so little is left that dropping it is cheaper than a new connection."""
        if self.length_bytes is None or self._failure is not None:
            return False
        return self.length_bytes - self.received_bytes <= DRAIN_LIMIT_BYTES

    @property
    def is_held(self) -> bool:
        """Whether the transport must stay paused for now."""
        if self.is_complete or self._is_discarding:
            return False
        return self._is_pressed or (self._sink is None and bool(self._early))

    def received(self, block: bytes) -> None:
        """Take what the client sent."""
        self.received_bytes += len(block)
        if self._is_discarding:
            return
        if self._sink is None:
            self._early.append(block)
        else:
            self._sink(block)
        self._heed()

    def ended(self) -> None:
        """The client has sent everything."""
        self.is_complete = True
        self._heed()
        if self._sink is not None:
            self._tell()

    def failed(self, failure: Failure | Exception) -> bool:
        """End the body before its time; return False when it has ended already."""
        if self.is_complete or self._failure is not None:
            return False
        self._failure = failure
        self.discard()
        if self._sink is not None:
            self._tell()
        return True

    def _heed(self) -> None:
        """Bring the transport into the state that ``is_held`` asks for; a transport may have been resumed by others."""
        if self.is_held:
            self._is_paused = True
            self._request.pause_client()
        elif self._is_paused:
            self._is_paused = False
            self._request.resume_client()

    def _tell(self) -> None:
        # Who took the body is let go: he knows where it came from, and a circle of thousands a second is for the collector.
        done, self._done, self._sink = self._done, None, None
        if done is None or done.called:
            return
        if self._failure is None:
            done.callback(None)
        else:
            done.errback(self._failure)


class S3Request(server.Request):
    """
    One request, given to the site's resource as soon as its head is complete.

    :ivar head: what the client asks
    :ivar body: None when the request has no body
    :ivar remote_address: the client's, empty where it has none
    :ivar is_answered: the answer is out, and only the rest of a small body is awaited, to be dropped
    """

    channel: "S3Channel"

    is_answered = False
    _keeps_connection = True

    def __init__(self, channel: "S3Channel", head: RequestHead) -> None:
        super().__init__(channel, parsePOSTFormSubmission=False)
        self.head = head
        self.body = None if head.length_bytes == 0 else HttpBody(self, head.length_bytes)
        self.method, self.uri = head.method.encode("ascii"), head.target
        self.clientproto = b"HTTP/1.1" if head.is_1_1 else b"HTTP/1.0"
        self._expects_continue = head.expects_continue
        self.remote_address = channel.remote_address

    @property
    def is_gone(self) -> bool:
        """Whether the connection is lost, so that nothing can be answered."""
        return bool(self._disconnected)

    def begin(self) -> None:
        """
        Have the site's resource answer.

        It sees the path ``/`` whatever the target is: routing by path libraries would merge slashes and decode keys.
        """
        self.site = self.channel.site
        self.path, self.args, self.prepath, self.postpath = b"/", {}, [], [b""]
        self.render(self.site.resource)

    def handleContentChunk(self, data: bytes) -> None:
        """Bytes of the body have arrived; called by the channel."""
        assert self.body is not None
        self.body.received(data)

    def ended(self) -> None:
        """Everything has arrived; called by the channel."""
        if self.body is None:
            self.begin()
        else:
            self.body.ended()
            if self.is_answered:
                super().finish()

    def getRequestHostname(self) -> bytes:
        """Return a fixed name: the Host field is S3's to read (it may name a bucket), and may be no text at all."""
        return b"s3"

    def send_continue(self) -> None:
        """Tell a client that waits for it to send the body."""
        if self._expects_continue and not self.startedWriting and not self.is_gone:
            self._expects_continue = False
            self.channel.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def pause_client(self) -> None:
        """Stop reading from the connection."""
        if not self.is_gone and self.channel is not None:
            self.channel.pause_reading()

    def resume_client(self) -> None:
        """Read from the connection again."""
        if not self.is_gone and self.channel is not None:
            self.channel.resume_reading()

    def begin_answer(
        self, status: int, fields: Iterable[tuple[str, str]], content: bytes = b"", *, can_wait: bool = False
    ) -> None:
        """
        Send the head of an answer, and what there is of its body.

        An answer that begins before the request's body has ended announces that the connection closes, unless what is left of
        the body is little and surely on its way.

        A client that waits for ``100 Continue`` hears it, or loses the connection, although its body be empty: botocore
        takes a final answer in place of it for that of the next request on the connection too, and waits for ever.

        :param fields: names and values, among them the length of the body where there is one
        :param can_wait: whether nothing follows, and the answer may be sent together with others
        """
        assert not self.startedWriting, "an answer begins once"
        if self.is_gone:
            return
        if self.body is None:
            self.send_continue()
        elif not self.body.is_complete:
            self._keeps_connection = self.body.is_nearly_here and not self._expects_continue
            self.channel.persistent = self.channel.persistent and self._keeps_connection
        head = answer_head(status, fields, bool(self.channel.persistent))
        self.startedWriting = 1
        send = self.channel.send_with_others if can_wait else self.channel.send
        send(head + content)

    def finish(self) -> None:
        """The answer is complete; the request is over when a small body that was not wanted has been dropped."""
        assert self.startedWriting or self.is_gone, "every request is answered"
        body = self.body
        if body is None or body.is_complete or self.is_gone or not self._keeps_connection:
            super().finish()
        else:
            self.is_answered = True
            body.discard()

    def abort(self) -> None:
        """Break the connection: the client must see that an answer it has begun to read will not be complete."""
        if not self.is_gone and self.channel is not None:
            self.channel.transport.abortConnection()

    def connectionLost(self, reason: Failure) -> None:
        """The connection is gone; called by the channel."""
        body = self.body
        super().connectionLost(reason)
        if body is not None:
            body.failed(BodyAborted())


def answer_head(status: int, fields: Iterable[tuple[str, str]], keeps_connection: bool) -> bytes:
    """Return the bytes of an answer up to its body. Names stay as they are, and no value leaves its line."""
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in fields]
    if not keeps_connection:
        lines.append("Connection: close")
    head = "\r\n".join(lines)
    if head.count("\n") >= len(lines) or head.count("\r") >= len(lines):
        head = "\r\n".join(" ".join(line.splitlines()) for line in lines)
    return head.encode("utf-8") + b"\r\n\r\n"


def silent_client() -> S3Error:
    """Return the refusal of a client that stopped sending its body. SDKs repeat the request."""
    return S3Error("RequestTimeout")
