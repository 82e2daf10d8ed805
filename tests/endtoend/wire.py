"""A client made of bytes, for what no client library would send, and for places that have none."""

import hashlib
import hmac
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, unquote_to_bytes
from xml.etree import ElementTree

REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class Keys:
    """What a user proves himself with."""

    access_key: str
    secret_key: str
    user_id: str = ""


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """What came back: ``headers`` by lower-case name."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The code of an error document, empty when the body is none."""
        return self.element("Code")

    def element(self, name: str) -> str:
        """Return the text of an element right below the root of the body; empty when there is none."""
        if not self.body.startswith(b"<?xml"):
            return ""
        return ElementTree.fromstring(self.body).findtext(name) or ""


class RawClient:
    """
    Speaks S3 over a socket of its own, one request per connection, signed with Signature Version 4.

    Written from the description of the signature in the S3 API Reference, not from the product's code.
    """

    def __init__(self, port: int, keys: Keys | None, *, context: ssl.SSLContext | None = None) -> None:
        self._port = port
        self._keys = keys
        self._context = context
        self._host = f"127.0.0.1:{port}"

    def ask(
        self,
        method: str,
        target: str | bytes,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        payload: str | None = None,
        length: int | None = None,
        sends: bytes | None = None,
        unsigned_headers: Mapping[str, str] | None = None,
        shifted_seconds: float = 0.0,
        region: str = REGION,
        closes_early: bool = False,
    ) -> RawAnswer:
        """
        Send one request and return the answer.

        :param target: path and query exactly as they go onto the request line
        :param payload: value of x-amz-content-sha256; None for the body's hash
        :param length: Content-Length, where it shall not be the body's; -1 for none
        :param sends: the bytes that go behind the headers, where they shall not be the body
        :param shifted_seconds: how far the clock of the signature is from the true time
        :param closes_early: close our side when everything is sent
        """
        raw = target if isinstance(target, bytes) else target.encode()
        sent = {"host": self._host, **{name.lower(): value for name, value in (headers or {}).items()}}
        if self._keys is not None:
            hashed = hashlib.sha256(body).hexdigest() if payload is None else payload
            at = time.time() + shifted_seconds
            sent |= signed_headers(self._keys, method, raw, sent, hashed, at=at, region=region)
        if length != -1 and (body or method in ("PUT", "POST") or length is not None):
            sent.setdefault("content-length", str(len(body) if length is None else length))
        sent |= unsigned_headers or {}
        lines = [method.encode() + b" " + raw + b" HTTP/1.1"]
        lines += [f"{name}: {value}".encode() for name, value in sent.items()]
        lines.append(b"connection: close")
        message = b"\r\n".join(lines) + b"\r\n\r\n" + (body if sends is None else sends)
        return self.exchange(message, closes_early=closes_early)

    def exchange(self, message: bytes, *, closes_early: bool = False) -> RawAnswer:
        """Send bytes; return the first final answer."""
        with socket.create_connection(("127.0.0.1", self._port), timeout=30) as plain:
            connection = self._context.wrap_socket(plain) if self._context else plain
            try:
                connection.sendall(message)
                if closes_early:
                    connection.shutdown(socket.SHUT_WR)
            except (BrokenPipeError, ConnectionResetError):
                pass
            received = b""
            while not (answer := _parsed(received)):
                try:
                    piece = connection.recv(65536)
                except ConnectionResetError:
                    piece = b""
                if not piece:
                    return _parsed(received, is_all=True) or RawAnswer(0, {}, b"")
                received += piece
            return answer


def signed_headers(
    keys: Keys,
    method: str,
    target: bytes,
    headers: Mapping[str, str],
    payload: str,
    *,
    at: float,
    region: str = REGION,
) -> dict[str, str]:
    """
    Return the header fields that sign a request, Signature Version 4 in the Authorization field.

    :param target: path and query as they go onto the request line
    :param headers: what is covered besides them, by lower-case name, Host among them
    :param payload: value of x-amz-content-sha256
    :param at: time of the signature, unix seconds
    """
    moment = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ")
    covered = {**headers, "x-amz-date": moment, "x-amz-content-sha256": payload}
    path, _, query = target.partition(b"?")
    pairs = sorted(
        (encoded(unquote_to_bytes(name)), encoded(unquote_to_bytes(value.replace(b"+", b" "))))
        for name, _, value in (item.partition(b"=") for item in query.split(b"&") if item)
    )
    names = sorted(covered)
    canonical = "\n".join(
        [
            method,
            encoded(unquote_to_bytes(path), safe="/~"),
            "&".join(f"{name}={value}" for name, value in pairs),
            *(f"{name}:{' '.join(covered[name].split())}" for name in names),
            "",
            ";".join(names),
            payload,
        ]
    )
    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = b"AWS4" + keys.secret_key.encode()
    for word in (moment[:8], region, "s3", "aws4_request"):
        key = hmac.digest(key, word.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    return {
        "x-amz-date": moment,
        "x-amz-content-sha256": payload,
        "authorization": f"AWS4-HMAC-SHA256 Credential={keys.access_key}/{scope}, "
        f"SignedHeaders={';'.join(names)}, Signature={signature}",
    }


def encoded(raw: bytes | str, safe: str = "~") -> str:
    """Percent-encode as signatures want it."""
    return quote(raw, safe=safe)


def _parsed(received: bytes, *, is_all: bool = False) -> RawAnswer | None:
    """Return the first final answer in what was received, if it is complete."""
    head, ending, rest = received.partition(b"\r\n\r\n")
    if not ending:
        return None
    lines = head.decode("latin-1").split("\r\n")
    status = int(lines[0].split(" ")[1])
    if status == 100:
        return _parsed(rest, is_all=is_all)
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    length = headers.get("content-length")
    if status in (204, 304):
        return RawAnswer(status, headers, b"")
    if length is not None and len(rest) >= int(length):
        return RawAnswer(status, headers, rest[: int(length)])
    return RawAnswer(status, headers, rest) if is_all else None
