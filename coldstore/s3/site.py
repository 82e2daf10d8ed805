# mypy: disallow-untyped-calls=False
# (twisted.web is annotated in part only)
"""
The HTTP server: a site whose connections give requests away at their headers and never become confused about where
one ends.

Everything that could make two readers disagree about the length of a request is refused (RFC 9112, sections 6.3 and
11.2), and every refusal is a document in S3's form, followed by a close that gives the client time to read it.
"""

from functools import partial
from typing import Any

from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocolFactory, ISSLTransport
from twisted.internet.protocol import connectionDone
from twisted.internet.tcp import Connection
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http, server
from twisted.web.http import _ChunkedTransferDecoder, _IdentityTransferDecoder
from twisted.web.resource import IResource
from zope.interface import implementer_only

from coldstore.s3.crowd import Crowd
from coldstore.s3.errors import S3Error, error_document
from coldstore.s3.head import (
    END,
    SIZE_LIMIT_BYTES,
    RequestHead,
    check_beginning,
    parse_head,
    without_blank_lines,
)
from coldstore.s3.ids import IdSource
from coldstore.s3.outbox import Outbox
from coldstore.s3.request import S3Request, silent_client

SERVER_NAME = "ColdStore"
READ_BUFFER_BYTES = 256 * 1024
PACE_BYTES = 16 * 1024
SENT_TOGETHER_BYTES = 64 * 1024
"""Answers up to this length wait for the end of the reactor's turn."""
PIPELINE_BYTES = 16 * 1024
"""While a request is served, no more than this and one read is kept of what follows it."""


class S3Channel(http.HTTPChannel):
    """
    One connection.

    While an answer that closes the connection waits to be read by the client, the connection *lingers*: what still
    comes is dropped, because closing at once would make the kernel reset the connection and destroy the answer.
    """

    log = Logger()

    transport: Any
    site: "S3Site"
    requests: "list[S3Request]"
    remote_address = ""
    _peer: IAddress
    _host: IAddress
    _lingering: "IDelayedCall | None" = None
    _next_turn: "IDelayedCall | None" = None
    _is_closing = False
    _is_within_head = False
    _paced_bytes = 0
    _unsent = b""

    def connectionMade(self) -> None:
        """Begin; plain TCP reads in large blocks (a TLS transport reads 64 KiB by itself)."""
        self._peer, self._host = self.transport.getPeer(), self.transport.getHost()
        self.remote_address = getattr(self._peer, "host", None) or ""
        self._is_secure = ISSLTransport.providedBy(self.transport)
        self._is_plain_tcp = isinstance(self.transport, Connection) and not self._is_secure
        super().connectionMade()
        self.setTimeout(self.site.header_timeout_seconds)
        self.site.crowd.join(self)
        if hasattr(self.transport, "bufferSize"):
            self.transport.bufferSize = READ_BUFFER_BYTES

    def getPeer(self) -> IAddress:
        """Return the client's address; asked for by every request, and always the same."""
        return self._peer

    def getHost(self) -> IAddress:
        """Return our address of this connection."""
        return self._host

    def isSecure(self) -> bool:
        """Whether the connection is encrypted."""
        return self._is_secure

    def send(self, data: bytes) -> None:
        """
        Send: at once where nothing waits to be sent, since a socket hardly ever has no room for an answer, and having the
        reactor ask whether it has takes longer than the answer.
        """
        if self._unsent:
            data, self._unsent = self._unsent + data, b""
        transport = self.transport
        if self._is_plain_tcp and not (
            transport.dataBuffer or transport._tempDataLen or transport.disconnecting
        ):
            sent = transport.writeSomeData(data)
            if sent == len(data):
                return
            if isinstance(sent, int) and sent > 0:
                data = data[sent:]
        # What a failure means is for the transport to find out.
        transport.write(data)

    def send_with_others(self, data: bytes) -> None:
        """Send a whole answer, together with those that other connections get in this turn of the reactor."""
        if not self._is_plain_tcp or not self.persistent or len(data) > SENT_TOGETHER_BYTES:
            self.send(data)
            return
        if not self._unsent:
            self.site.outbox.add(self._send_rest)
        self._unsent += data

    def _send_rest(self) -> None:
        if self._unsent:
            self.send(b"")

    def loseConnection(self) -> None:
        """Close, when everything was sent."""
        self._send_rest()
        super().loseConnection()

    # -- reading -----------------------------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """Take bytes, unless there is nothing more to be said."""
        if self._has_said_all:
            return
        self._paced_bytes += len(data)
        self._buffer += data
        if not self.line_mode:
            self._keep_pace()
        if not self._busyReceiving:
            self._go_on()

    @property
    def _has_said_all(self) -> bool:
        """Whether the last answer is out, and only the client's taking it is waited for: what still comes is dropped."""
        return self._lingering is not None or self._is_closing

    def _go_on(self) -> None:
        """Take from what was received what can be taken: heads, bodies, and what has to wait until a request was answered."""
        self._busyReceiving = True
        try:
            while self._buffer and not self.paused and not self._has_said_all:
                if not self.line_mode:
                    data, self._buffer = self._buffer, b""
                    self.rawDataReceived(data)
                elif not self._take_head():
                    return
        finally:
            self._busyReceiving = False

    def _keep_pace(self) -> None:
        """Put the timeout off for a client whose body comes in at a least rate: a byte now and then does not hold a connection."""
        if self._paced_bytes >= self.site.pace_bytes:
            self._paced_bytes = 0
            self.resetTimeout()

    def _take_head(self) -> bool:
        """Begin the next request; False when more has to come."""
        received = without_blank_lines(self._buffer)
        end = received.find(END)
        try:
            if end < 0 or end > SIZE_LIMIT_BYTES:
                check_beginning(received)
                self._buffer = received
                if not self._is_within_head:
                    # One deadline, from the first byte of a head to its last.
                    self._is_within_head = True
                    self.setTimeout(self.site.header_timeout_seconds)
                return False
            self._buffer = received[end + len(END) :]
            self._begin(parse_head(received[:end]))
        except S3Error as error:
            self.refuse(error)
        return True

    def _begin(self, head: RequestHead) -> None:
        """Give a request away. Nobody has said ``100 Continue`` yet: whoever wants the body does."""
        self._is_within_head = False
        self._paced_bytes = 0
        self.persistent = head.keeps_connection
        request = S3Request(self, head)
        self.requests.append(request)
        length_bytes = head.length_bytes
        if length_bytes == 0:
            self.allContentReceived()
            return
        self.setTimeout(self.site.idle_timeout_seconds)
        take, end = request.handleContentChunk, self._finishRequestBody
        self._transferDecoder = (
            _ChunkedTransferDecoder(take, end)
            if length_bytes is None
            else _IdentityTransferDecoder(length_bytes, take, end)
        )
        self.setRawMode()
        request.begin()

    def allContentReceived(self) -> None:
        """A request has arrived to its end; what comes now waits until it was answered."""
        if self._has_said_all:
            return  # It was answered while the decoder had more of it in hand.
        self._transferDecoder = None
        self._handlingRequest = True
        self.setRawMode()
        self.requests[-1].ended()

    def rawDataReceived(self, data: bytes) -> None:
        """Take bytes of a body, or of a next request that has to wait."""
        super().rawDataReceived(data)
        # The base class does not hold a client back that sends on while it does not read its answer.
        if (
            self._handlingRequest
            and not self._has_said_all
            and sum(map(len, self._dataBuffer)) > PIPELINE_BYTES
        ):
            self.pause_reading()

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
        self.send(b"\r\n".join(head) + document)
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
        self.site.crowd.rests(self)
        if request.body is None or request.body.is_complete:
            self._is_closing = not self.persistent
            if self.persistent and (self._buffer or any(self._dataBuffer)):
                self._hold_next()
            # For the next request, or for the client to take the rest of the last answer.
            self.setTimeout(self.site.idle_timeout_seconds)
            super().requestDone(request)
            request.body = None
            return
        # What follows on this connection is the rest of a body, and must never be read as a request.
        request.body.discard()
        del self.requests[0]
        self.persistent = False
        self._linger()
        self.resume_reading()

    @property
    def is_resting(self) -> bool:
        """See ``Member``: a next head is awaited, or has come in part."""
        return bool(self.line_mode) and self._lingering is None

    def give_way(self) -> None:
        """See ``Member``. A client that does not even take its answers is not waited for."""
        if self._waitingForTransport:
            self.transport.abortConnection()
        else:
            self._close()

    def _linger(self) -> None:
        self.setTimeout(None)
        self._lingering = self.callLater(self.site.linger_seconds, self._close)

    def _close(self) -> None:
        """Close; break the connection when the client does not even take what was written."""
        self._abortingCall = self.callLater(self.abortTimeout, self.forceAbortClient)
        self.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        self._unsent = b""
        self.site.crowd.leave(self)
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
            self._go_on()

    def pause_reading(self) -> None:
        """Stop reading from the socket."""
        self._networkProducer.pauseProducing()

    def resume_reading(self) -> None:
        """Read from the socket again, unless the client does not read our answers. The client's time begins anew."""
        self._paced_bytes = 0
        self.resetTimeout()
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
        is_handled = self._handlingRequest and not self._is_closing
        is_ours = is_handled or (body is not None and not body.is_awaited)
        if is_ours or (body is not None and body.failed(silent_client())):
            self.setTimeout(self.site.idle_timeout_seconds)
        elif self._is_closing:
            self.transport.abortConnection()
        else:
            self._close()


# The base class offers to negotiate protocols under TLS, for which Twisted 25.5 changes the TLS context on each
# connection; pyOpenSSL 26 refuses that on the second one. HTTP/1.1 is all there is here: nothing to negotiate.
@implementer_only(IProtocolFactory)
class S3Site(server.Site):
    """The factory of connections; ``resource`` answers every request."""

    events = Logger()
    protocol = S3Channel

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
        pace_bytes: int = PACE_BYTES,
    ) -> None:
        """
        :param connections_max: connections at once, so that memory stays bounded; one more takes the place of one that
            rests, or is closed at once when none does
        :param pace_bytes: a client that sends less of a body than this within the idle timeout counts as silent
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
        self.pace_bytes = pace_bytes
        self.crowd = Crowd(connections_max)
        self.outbox = Outbox(partial(reactor.callLater, 0))

    def buildProtocol(self, addr: IAddress) -> Any:
        """Return a channel for a new connection, or None (which closes it) when there are too many."""
        if not self.crowd.has_room():
            self.events.warn("refusing a connection: {count} are being served", count=len(self.crowd))
            return None
        return super().buildProtocol(addr)

    def log(self, request: http.Request) -> None:
        """Called by the base class for each answer; the resource has said more about it."""
