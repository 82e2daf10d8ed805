# mypy: disallow-untyped-calls=False
# (twisted.web is annotated in part only)
"""
The HTTP server: a site whose connections give requests away at their headers and never become confused about where
one ends.

Everything that could make two readers disagree about the length of a request is refused (RFC 9112, sections 6.3 and
11.2), and every refusal is a document in S3's form, followed by a close that gives the client time to read it.
"""

from io import BytesIO
from typing import Any

from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocolFactory
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from twisted.web import http, server
from twisted.web.resource import IResource
from zope.interface import implementer_only

from coldstore.s3.errors import S3Error, error_document
from coldstore.s3.ids import IdSource
from coldstore.s3.request import S3Request, silent_client

SERVER_NAME = "ColdStore"
READ_BUFFER_BYTES = 256 * 1024
LINE_LIMIT_BYTES = 24 * 1024
"""A key of 1024 escaped bytes and a presigned query fit many times."""
HEADER_SECTION_LIMIT_BYTES = 48 * 1024
"""What is read at all. S3's own limit of 8 KB is told more kindly, by the resource."""
HEADER_LINES_LIMIT = 400
LENGTH_DIGITS_LIMIT = 19
PACE_BYTES = 16 * 1024
"""A client that sends less of a body than this within the idle timeout counts as silent."""
PIPELINE_BYTES = 16 * 1024
"""While a request is served, no more than this and one read is kept of what follows it."""


class S3Channel(http.HTTPChannel):
    """
    One connection.

    While an answer that closes the connection waits to be read by the client, the connection *lingers*: what still
    comes is dropped, because closing at once would make the kernel reset the connection and destroy the answer.
    """

    log = Logger()
    MAX_LENGTH = LINE_LIMIT_BYTES
    maxHeaders = HEADER_LINES_LIMIT
    # The base class enforces its own limit with an answer of its own; ours comes first.
    totalHeadersSize = HEADER_SECTION_LIMIT_BYTES + LINE_LIMIT_BYTES

    transport: Any
    site: "S3Site"
    _lingering: "IDelayedCall | None" = None
    _next_turn: "IDelayedCall | None" = None
    _is_within_section = False
    _paced_bytes = 0

    def connectionMade(self) -> None:
        """Begin; plain TCP reads in large blocks (a TLS transport reads 64 KiB by itself)."""
        super().connectionMade()
        self.setTimeout(self.site.header_timeout_seconds)
        self.site.connections += 1
        if hasattr(self.transport, "bufferSize"):
            self.transport.bufferSize = READ_BUFFER_BYTES

    # -- reading -----------------------------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """Take bytes, unless lingering."""
        if self._lingering is None:
            self._paced_bytes += len(data)
            super().dataReceived(data)

    def resetTimeout(self) -> None:
        """
        Put the timeout off for a client that keeps pace; called by the base class with every read.

        A header section has one deadline, from its first byte to its last, and a body must come in at a least rate:
        otherwise a byte now and then would hold a connection for ever.
        """
        if self.line_mode:
            if not self._is_within_section:
                self._is_within_section = True
                self.setTimeout(self.site.header_timeout_seconds)
        elif self._paced_bytes >= PACE_BYTES:
            self._paced_bytes = 0
            super().resetTimeout()

    def lineReceived(self, line: bytes) -> None:
        """Take a line of the header section."""
        if self._lingering is not None:
            return
        if line[:1] in (b" ", b"\t"):  # obsolete folding; RFC 9112, section 5.2, lets a server refuse it
            self.refuse(S3Error("InvalidRequest", "A line of the header section is folded."))
            return
        if self._receivedHeaderSize + len(line) > HEADER_SECTION_LIMIT_BYTES:
            self.refuse(S3Error("RequestHeaderSectionTooLarge"))
            return
        super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a line of the header section that does not end."""
        self.refuse(S3Error("RequestHeaderSectionTooLarge"))

    def rawDataReceived(self, data: bytes) -> None:
        """Take bytes of a body, or of a next request that has to wait."""
        if self._lingering is not None:
            return
        super().rawDataReceived(data)
        # The base class does not hold a client back that sends on while it does not read its answer.
        if self._handlingRequest and sum(map(len, self._dataBuffer)) > PIPELINE_BYTES:
            self.pause_reading()

    def headerReceived(self, line: bytes) -> bool:
        """Take a header line; refuse it when its meaning is in doubt."""
        fault = self._fault_of(line)
        if fault is not None:
            self.refuse(S3Error("InvalidRequest", fault))
            return False
        accepted: bool = super().headerReceived(line)
        return accepted

    def _fault_of(self, line: bytes) -> str | None:
        """Return why a header line cannot be accepted, None when it can."""
        if any(control in line for control in (b"\r", b"\n", b"\0")):
            return "A header line holds a control character."
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        if name == b"content-length" and not (value.isdigit() and len(value) <= LENGTH_DIGITS_LIMIT):
            return "Content-Length is not a number of bytes."
        if name == b"transfer-encoding" and (value.lower() != b"chunked" or self._version != b"HTTP/1.1"):
            return "The only transfer coding of a request is chunked, in HTTP/1.1."
        if name in (b"content-length", b"transfer-encoding") and self._transferDecoder is not None:
            return "The length of the body is given more than once."
        if name == b"host" and self.requests[-1].requestHeaders.hasHeader(b"host"):
            return "There is more than one Host."
        return None

    def allHeadersReceived(self) -> None:
        """
        Give the request away. The base class would say ``100 Continue`` here, before anybody looked at the request.
        """
        if self._lingering is not None:
            return
        request = self.requests[-1]
        self._is_within_section = False
        self._paced_bytes = 0
        self.setTimeout(self.site.idle_timeout_seconds)
        self.persistent = self.checkPersistence(request, self._version)
        request.begin(self._command, self._path, self._version, self.length)

    # -- refusing and closing ----------------------------------------------------------------------------------------

    def _respondToBadRequestAndDisconnect(self) -> None:
        """Called by the base class for everything that is not HTTP."""
        self.refuse(S3Error("BadRequest", "This is not a valid HTTP request."))

    def refuse(self, error: S3Error) -> None:
        """
        Answer what cannot become a request, or end the body of one whose framing is broken; the connection closes.
        """
        if self._lingering is not None:
            return
        request = self.requests[-1] if self.requests else None
        body = None if request is None else request.body
        if body is not None:
            body.failed(error)
            return
        ids = self.site.ids.next()
        document = error_document(error, resource="", request_id=ids.request_id, host_id=ids.host_id)
        head = [
            b"HTTP/1.1 %d %s" % (error.status, http.RESPONSES[error.status]),
            b"Content-Type: application/xml",
            b"Content-Length: %d" % len(document),
            b"Connection: close",
            b"Date: " + http.datetimeToString(self.site.reactor.seconds()),
            b"Server: " + SERVER_NAME.encode("ascii"),
            b"x-amz-request-id: " + ids.request_id.encode("ascii"),
            b"x-amz-id-2: " + ids.host_id.encode("ascii"),
            b"\r\n",
        ]
        self.transport.write(b"\r\n".join(head) + document)
        self.log.info(
            "{request_id} from {remote}: {status} {code}, not a request: {why}",
            request_id=ids.request_id,
            remote=getattr(self.transport.getPeer(), "host", ""),
            status=error.status,
            code=error.code,
            why=error.message,
        )
        self._linger()

    def requestDone(self, request: S3Request) -> None:
        """An answer is complete; called by the request."""
        if request.body is None or request.body.is_complete:
            if self._buffer or any(self._dataBuffer):
                self._hold_next()
            super().requestDone(request)
            return
        # What follows on this connection is the rest of a body, and must never be read as a request.
        request.body.discard()
        del self.requests[0]
        self.persistent = False
        self._linger()
        self.resume_reading()

    def _linger(self) -> None:
        self.setTimeout(None)
        self._lingering = self.callLater(self.site.linger_seconds, self._close)

    def _close(self) -> None:
        """Close; break the connection when the client does not even take what was written."""
        self._abortingCall = self.callLater(self.abortTimeout, self.forceAbortClient)
        self.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        self.site.connections -= 1
        for call in (self._lingering, self._next_turn):
            if call is not None and call.active():
                call.cancel()
        super().connectionLost(reason)

    # -- pace --------------------------------------------------------------------------------------------------------

    def _hold_next(self) -> None:
        """
        Have a request that is here already wait for the reactor's next turn.

        One read may hold thousands of requests: served at once they would keep everybody else waiting, and their
        answers would pile up for a client that does not read them.
        """
        self.paused = True
        if self._next_turn is None:
            self._next_turn = self.callLater(0, self._take_next)

    def _take_next(self) -> None:
        self._next_turn = None
        if self._waitingForTransport:
            self.pause_reading()  # resumeProducing comes back to this
        elif self._lingering is None:
            self.paused = False
            LineReceiver.dataReceived(self, b"")

    def pause_reading(self) -> None:
        """Stop reading from the socket."""
        self._networkProducer.pauseProducing()

    def resume_reading(self) -> None:
        """Read from the socket again, unless the client does not read our answers. The client's time begins anew."""
        self._paced_bytes = 0
        super().resetTimeout()
        if not self._waitingForTransport:
            self._networkProducer.resumeProducing()

    def resumeProducing(self) -> None:
        """The client reads our answers again; called by the transport."""
        super().resumeProducing()
        if self.paused:
            self._hold_next()
        body = self.requests[-1].body if self.requests else None
        if body is not None and body.is_held:
            self.pause_reading()

    def timeoutConnection(self) -> None:
        """
        Nothing came for a while. Only a client whose turn it is is to blame: ours is to wait while we hold it back.

        The timeout is put off rather than switched off: the base class keeps it in one variable, and would forget it.
        """
        request = self.requests[-1] if self.requests else None
        body = None if request is None or request.is_answered else request.body
        is_ours = body is not None and not body.is_complete and not body.is_awaited
        if is_ours or (body is not None and body.failed(silent_client())):
            self.setTimeout(self.timeOut)
        else:
            self._close()


# The base class offers to negotiate protocols under TLS, for which Twisted 25.5 changes the TLS context on each
# connection; pyOpenSSL 26 refuses that on the second one. HTTP/1.1 is all there is here: nothing to negotiate.
@implementer_only(IProtocolFactory)
class S3Site(server.Site):
    """The factory of connections; ``resource`` answers every request."""

    events = Logger()
    protocol = S3Channel
    requestFactory = S3Request

    def __init__(
        self,
        resource: IResource,
        *,
        reactor: Any,
        ids: IdSource,
        idle_timeout_seconds: float = 60.0,
        header_timeout_seconds: float = 30.0,
        linger_seconds: float = 5.0,
        connections_max: int = 1024,
    ) -> None:
        """
        :param connections_max: connections at once; more are closed at once, so that memory stays bounded
        :param reactor: the clock of all timeouts
        :param idle_timeout_seconds: how long a client may say nothing when it is its turn
        :param header_timeout_seconds: how long a new connection may take to its first request, and every header
            section from its first byte to its last; never more than the idle timeout
        :param linger_seconds: how long a client may take to read the answer after which the connection closes
        """
        super().__init__(
            resource, timeout=idle_timeout_seconds, reactor=reactor, parsePOSTFormSubmission=False
        )
        self.ids = ids
        self.idle_timeout_seconds = idle_timeout_seconds
        self.header_timeout_seconds = min(header_timeout_seconds, idle_timeout_seconds)
        self.linger_seconds = linger_seconds
        self.connections = 0
        self._connections_max = connections_max

    def buildProtocol(self, addr: IAddress) -> Any:
        """Return a channel for a new connection, or None (which closes it) when there are too many."""
        if self.connections >= self._connections_max:
            self.events.warn("refusing a connection: {count} are open", count=self.connections)
            return None
        return super().buildProtocol(addr)

    def getContentFile(self, length: int) -> BytesIO:
        """Return an empty file: no body is ever kept in one."""
        return BytesIO()
