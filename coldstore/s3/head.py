"""
The head of a request: request line and header section, taken apart at once. A pure function of its bytes.

Everything that could make two readers disagree about where the request ends is refused (RFC 9112, sections 5.2, 6.3 and
11.2): control characters, folded lines, lengths that are no number, more than one statement on the length, transfer codings
other than chunked, more than one Host.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from coldstore.s3.errors import S3Error
from coldstore.s3.fields import HeaderFields

END = b"\r\n\r\n"
SIZE_LIMIT_BYTES = 48 * 1024
"""What is read at all: a key of 1024 escaped bytes and a presigned query fit many times. S3's own limit of 8 KB for the
header section is told more kindly, by the resource."""
LINES_LIMIT = 400
LENGTH_DIGITS_LIMIT = 19
USUAL_NAME_BYTES = 64
"""Up to this length the names of fields are remembered: clients use a few dozen."""
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-\xb0]+) HTTP/1\.([01])")
"""Method, target and version; what the characters of a target mean is for S3 to say."""
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TLS_HANDSHAKE = b"\x16"
"""The first byte of who speaks TLS (RFC 8446, section 5.1): he waits for an answer, and sends no more until then."""
_BLANK_LINES = re.compile(rb"(?:\r\n)*")
_NOTHING_YET = (b"", b"\r")
"""What may be here before a request line: nothing, or half an empty line."""


class RequestHead(NamedTuple):
    """
    What a client asks, up to its body.

    :ivar target: the request target as it was sent
    :ivar is_1_1: whether the client speaks HTTP/1.1, and not 1.0
    :ivar length_bytes: of the body that follows; 0 for none, None for the chunked transfer coding
    :ivar section_bytes: size of the header section
    """

    method: str
    target: bytes
    is_1_1: bool
    headers: HeaderFields
    length_bytes: int | None
    section_bytes: int

    @property
    def keeps_connection(self) -> bool:
        """Whether the client may send another request on the connection."""
        tokens = self.headers.raw("connection")
        return self.is_1_1 and not (tokens and b"close" in tokens[0].lower().split(b" "))

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for ``100 Continue`` before it sends the body."""
        expected = self.headers.raw("expect")
        return bool(expected) and self.is_1_1 and expected[0].strip().lower() == b"100-continue"


def parse_head(head: bytes) -> RequestHead:
    """
    Take a head apart.

    :param head: everything before ``END``
    :raise S3Error: BadRequest for what is not HTTP, InvalidRequest for what is ambiguous
    """
    lines = head.split(b"\r\n")
    method, target, version = _request_line(lines[0])
    count = len(lines) - 1
    if count > LINES_LIMIT:
        raise _not_http()
    if head.count(b"\r") != count or head.count(b"\n") != count or b"\0" in head:
        raise S3Error("InvalidRequest", "A header line holds a control character.")
    values: dict[str, list[bytes]] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon or name[:1] in (b" ", b"\t"):
            raise _not_http() if line[:1] not in (b" ", b"\t") else _folded()
        known = _usual_name(name) if len(name) <= USUAL_NAME_BYTES else _field_name(name)
        values.setdefault(known, []).append(value.strip(b" \t"))
    if len(values.get("host", ())) > 1:
        raise S3Error("InvalidRequest", "There is more than one Host.")
    return RequestHead(
        method=method,
        target=target,
        is_1_1=version == b"1",
        headers=HeaderFields.of(values),
        length_bytes=_length(values, version),
        section_bytes=len(head) - len(lines[0]),
    )


def without_blank_lines(received: bytes) -> bytes:
    """Return what follows the empty lines that a client may send before a request (RFC 9112, section 2.2)."""
    if not received.startswith(b"\r\n"):
        return received
    found = _BLANK_LINES.match(received)
    return received if found is None else received[found.end() :]


def check_beginning(received: bytes) -> None:
    """
    Refuse the beginning of a head that cannot become one, whatever still comes.

    :param received: what has come so far, without ``END``
    :raise S3Error: RequestHeaderSectionTooLarge, BadRequest
    """
    if len(received) > SIZE_LIMIT_BYTES:
        raise S3Error(
            "RequestHeaderSectionTooLarge",
            f"Your request line and header exceed the maximum allowed size of {SIZE_LIMIT_BYTES} bytes.",
        )
    if received.startswith(_TLS_HANDSHAKE):
        raise S3Error(
            "BadRequest",
            "This looks like TLS, and the port speaks plain HTTP: use http:// instead of https://",
        )
    if received not in _NOTHING_YET and not _NAME.match(received):
        raise _not_http()
    line, ending, _ = received.partition(b"\r\n")
    if ending:
        _request_line(line)
        if received.count(ending) > LINES_LIMIT:
            raise _not_http()


def _request_line(line: bytes) -> tuple[str, bytes, bytes]:
    found = _REQUEST_LINE.fullmatch(line)
    if found is None:
        raise _not_http()
    return found[1].decode("ascii"), found[2], found[3]


def _field_name(name: bytes) -> str:
    if not _NAME.fullmatch(name):
        raise _not_http()
    return name.decode("ascii").lower()


_usual_name = lru_cache(maxsize=1024)(_field_name)


def _length(values: dict[str, list[bytes]], version: bytes) -> int | None:
    lengths, codings = values.get("content-length", ()), values.get("transfer-encoding", ())
    for length in lengths:
        if not (length.isdigit() and len(length) <= LENGTH_DIGITS_LIMIT):
            raise S3Error("InvalidRequest", "Content-Length is not a number of bytes.")
    for coding in codings:
        if coding.lower() != b"chunked" or version != b"1":
            raise S3Error("InvalidRequest", "The only transfer coding of a request is chunked, in HTTP/1.1.")
    if len(lengths) + len(codings) > 1:
        raise S3Error("InvalidRequest", "The length of the body is given more than once.")
    return None if codings else int(lengths[0]) if lengths else 0


def _not_http() -> S3Error:
    return S3Error("BadRequest", "This is not a valid HTTP request.")


def _folded() -> S3Error:
    # RFC 9112, section 5.2, lets a server refuse obsolete folding.
    return S3Error("InvalidRequest", "A line of the header section is folded.")
