"""
S3 clients made of sockets, which can do what no library does: fall silent, vanish, send a byte a second, not read.

Blocking, one thread each; what they send is signed like any other request.
"""

import hashlib
import socket
import ssl
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from coldstore.s3.signing import Scope, signature, signing_key
from tests.endtoend.wire import Keys
from tests.unit.s3_wire import signed_headers, timestamp_of

UNSIGNED = "UNSIGNED-PAYLOAD"
STREAMING = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


class Gone(Exception):
    """The other side closed the connection."""


@dataclass(frozen=True)
class RawAnswer:
    """Status, header fields (lower case) and body of an answer."""

    status: int
    headers: dict[str, str]
    body: bytes


class RawClient:
    """One connection."""

    def __init__(
        self,
        port: int,
        keys: Keys,
        *,
        timeout: float = 60.0,
        receive_buffer_bytes: int | None = None,
        context: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        """
        :param receive_buffer_bytes: a small one lets the other side feel at once that nothing is read
        :param host: the name that is asked for, and that a certificate must be for
        """
        plain = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer_bytes is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        plain.settimeout(timeout)
        plain.connect(("127.0.0.1", port))
        self.socket = plain if context is None else context.wrap_socket(plain, server_hostname=host)
        self._host = f"{host}:{port}"
        self._keys = keys
        self._received = b""

    def ask(
        self,
        method: str,
        target: str,
        *,
        size_bytes: int | None = None,
        headers: dict[str, str] | None = None,
        payload: str = UNSIGNED,
    ) -> None:
        """Send the head of a request, for a body of ``size_bytes``."""
        self._send_head(method, target, dict(headers or {}), size_bytes, payload, time.time())

    def _send_head(
        self,
        method: str,
        target: str,
        headers: dict[str, str],
        size_bytes: int | None,
        payload: str,
        seconds: float,
    ) -> str:
        signed = signed_headers(
            method,
            target,
            headers,
            payload=payload,
            seconds=seconds,
            access_key=self._keys.access_key,
            secret_key=self._keys.secret_key,
            host=self._host,
        )
        if size_bytes is not None:
            signed["content-length"] = str(size_bytes)
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in signed.items())]
        self.send("\r\n".join([*lines, "", ""]).encode())
        return signed["authorization"].rpartition("Signature=")[2]

    def send(self, content: bytes) -> None:
        """
        Send bytes.

        :raise Gone: the connection is closed
        """
        try:
            self.socket.sendall(content)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError) as error:
            raise Gone(str(error)) from error

    def send_all(self, blocks: Iterable[bytes]) -> None:
        """Send blocks one by one."""
        for block in blocks:
            self.send(block)

    def put_in_signed_chunks(self, target: str, blocks: list[bytes]) -> None:
        """Send a PUT whose body is the blocks, each a chunk with a signature."""
        seconds = time.time()
        stamp = timestamp_of(seconds)
        scope = Scope(date=stamp[:8], region="us-east-1", service="s3")
        key = signing_key(self._keys.secret_key, scope)
        framed = sum(_framed_bytes(len(block)) for block in [*blocks, b""])
        headers = {
            "content-encoding": "aws-chunked",
            "x-amz-decoded-content-length": str(sum(map(len, blocks))),
        }
        previous = self._send_head("PUT", target, headers, framed, STREAMING, seconds)
        for block in [*blocks, b""]:
            digest = hashlib.sha256(block).hexdigest()
            text = f"AWS4-HMAC-SHA256-PAYLOAD\n{stamp}\n{scope}\n{previous}\n{EMPTY_SHA256}\n{digest}"
            previous = signature(key, text)
            self.send(b"%x;chunk-signature=%s\r\n%s\r\n" % (len(block), previous.encode(), block))

    def answer(self) -> RawAnswer:
        """
        Read one answer to its end.

        :raise Gone: the connection was closed before
        """
        status, headers = self.answer_head()
        length = int(headers.get("content-length", "0"))
        return RawAnswer(status, headers, b"".join(self.read(length)))

    def answer_head(self) -> tuple[int, dict[str, str]]:
        """Read the head of an answer: status and header fields; raises as ``answer``."""
        while b"\r\n\r\n" not in self._received:
            self._receive_more()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = (line.partition(":") for line in lines)
        status = int(first.split(" ")[1])
        if status == 100:
            return self.answer_head()
        return status, {name.lower(): value.strip() for name, _, value in fields}

    def read(self, size_bytes: int) -> Iterator[bytes]:
        """Read so many bytes of a body, as they come; raises as ``answer``."""
        while size_bytes:
            if not self._received:
                self._receive_more()
            block, self._received = self._received[:size_bytes], self._received[size_bytes:]
            size_bytes -= len(block)
            yield block

    def _receive_more(self) -> None:
        try:
            more = self.socket.recv(256 * 1024)
        except ConnectionResetError as error:
            raise Gone(str(error)) from error
        if not more:
            raise Gone("closed")
        self._received += more

    def close(self) -> None:
        """Leave in good order. Repeatable."""
        self.socket.close()

    def vanish(self) -> None:
        """Leave as a machine does that loses its power: a reset at most."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.socket.close()


def _framed_bytes(length: int) -> int:
    return len(b"%x" % length) + len(";chunk-signature=") + 64 + 2 + length + 2
