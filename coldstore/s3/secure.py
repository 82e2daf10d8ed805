# mypy: disallow-untyped-calls=False, disallow-subclassing-any=False
# (twisted.protocols is annotated in part only)
"""TLS for a site; who speaks plain HTTP to it is told, instead of a connection that closes without a word."""

import re
from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory

from coldstore.s3.errors import S3Error, error_document

_PLAIN_HTTP = re.compile(rb"[A-Z]{3,16} ")
"""How a request begins; a TLS record never does (RFC 8446, section 5.1)."""


class TlsFactory(TLSMemoryBIOFactory):
    """TLS around the connections of a factory."""

    class protocol(BufferingTLSTransport):
        """One connection."""

        transport: Any
        _has_begun = False
        _is_refused = False

        def dataReceived(self, data: bytes) -> None:
            """Take bytes; the first ones tell what the client speaks."""
            if not self._has_begun:
                self._has_begun = True
                if _PLAIN_HTTP.match(data):
                    self._is_refused = True
                    self.transport.write(_answer())
                    self.transport.loseConnection()
            if not self._is_refused:
                super().dataReceived(data)

    def buildProtocol(self, addr: IAddress) -> protocol | None:
        """Return TLS around a new connection, or None (which closes it) when the site has none for it."""
        wrapped = self.wrappedFactory.buildProtocol(addr)
        return None if wrapped is None else self.protocol(self, wrapped)


def _answer() -> bytes:
    error = S3Error(
        "BadRequest", "This port speaks TLS, and the request came without: use https:// instead of http://"
    )
    document = error_document(error, resource="", request_id="", host_id="")
    head = [
        f"HTTP/1.1 {error.status} Bad Request",
        "Content-Type: application/xml",
        f"Content-Length: {len(document)}",
        "Connection: close",
    ]
    return "\r\n".join([*head, "", ""]).encode("ascii") + document
