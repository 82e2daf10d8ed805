"""
Decoding of ``aws-chunked`` bodies as they arrive, in whatever pieces they arrive.

The grammar (S3 API Reference, "Signature Calculations for the Authorization Header: Transferring Payload in Multiple
Chunks" and its sibling on trailers)::

    chunk    = hex-size [ ";chunk-signature=" 64-hex ] CRLF bytes CRLF
    body     = chunk* "0" [ ";chunk-signature=" 64-hex ] CRLF ( trailers | CRLF )
    trailers = ( name ":" value CRLF )* [ "x-amz-trailer-signature:" 64-hex CRLF ] CRLF
"""

import re
from collections.abc import Callable
from typing import Protocol

from coldstore.s3.errors import S3Error, shown
from coldstore.s3.integrity import incomplete_body
from coldstore.s3.payload import SIGNED, TRAILED, Payload
from coldstore.s3.signing import ChunkEnd, TrailerEnd

LINE_LIMIT_BYTES = 256
"""A signed chunk's line has 99 bytes, a trailer's with SHA-256 has 66."""
TRAILER_LINES_LIMIT = 8
SMALLEST_CHUNK_BYTES = 8192
"""Every chunk but the last has at least this size."""

_UNSIGNED_LINE = re.compile(rb"([0-9a-fA-F]{1,16})")
_SIGNED_LINE = re.compile(rb"([0-9a-fA-F]{1,16});chunk-signature=([0-9a-f]{64})")
_TRAILER_SIGNATURE = b"x-amz-trailer-signature"


class ChunkListener(Protocol):
    """Who is told what the chunks hold."""

    def on_data(self, block: bytes) -> None:
        """Take the next bytes of the decoded body."""

    def on_signature(self, end: ChunkEnd | TrailerEnd) -> None:
        """Take the signature of the chunk, or of the trailer, that has just ended."""


class ChunkedDecoder:
    """
    Takes encoded bytes and tells a listener the decoded ones, in order.

    Only lines are copied together; data is passed on in slices of what came.
    """

    def __init__(self, payload: Payload, listener: ChunkListener) -> None:
        """:param payload: of a chunked kind, with its decoded length"""
        assert payload.length_bytes is not None
        self._promised_bytes: int = payload.length_bytes
        self._is_signed = payload.kind in SIGNED
        self._is_trailed = payload.kind in TRAILED
        self._trailer_name = payload.trailer
        self._listener = listener
        self._line = bytearray()
        self._on_line: Callable[[bytes], None] = self._chunk_line
        self._left_bytes = 0
        self._decoded_bytes = 0
        self._chunks = 0
        self._latest_size_bytes = SMALLEST_CHUNK_BYTES
        self._signature = ""
        self._trailer_lines: list[bytes] = []
        self._trailer_value: str | None = None
        self._trailer_signature: str | None = None
        self._in_trailer = False
        self._ended = False

    @property
    def decoded_bytes(self) -> int:
        """How many bytes of the decoded body have come."""
        return self._decoded_bytes

    def feed(self, block: bytes) -> None:
        """
        Take the next encoded bytes.

        :raise S3Error: IncompleteBody, InvalidChunkSizeError, InvalidRequest, MalformedTrailerError
        """
        position, end = 0, len(block)
        view = memoryview(block)
        while position < end:
            if self._left_bytes:
                step = min(self._left_bytes, end - position)
                whole = step == end
                self._left_bytes -= step
                self._decoded_bytes += step
                self._listener.on_data(block if whole else bytes(view[position : position + step]))
                position += step
                if not self._left_bytes:
                    self._on_line = self._data_end
            else:
                position = self._gather_line(block, position)

    def finish(self) -> str | None:
        """
        Say that the encoded body has ended; return the value of the announced trailer.

        :raise S3Error: IncompleteBody when chunks are missing, MalformedTrailerError when the trailer is
        """
        if self._in_trailer and not self._ended and not self._line:
            self._end_trailer()  # some clients leave out the blank line after the last trailer
        if not self._ended or self._line:
            if self._in_trailer:
                raise _bad_trailer("it ends within a line")
            raise incomplete_body(self._promised_bytes, self._decoded_bytes)
        if self._decoded_bytes != self._promised_bytes:
            raise incomplete_body(self._promised_bytes, self._decoded_bytes)
        return self._trailer_value

    def _gather_line(self, block: bytes, position: int) -> int:
        """Add to the line that is arriving, up to its CRLF; return where the rest of ``block`` begins."""
        room = LINE_LIMIT_BYTES - len(self._line)
        newline = block.find(b"\n", position, position + room)
        if newline < 0:
            if len(block) - position >= room:
                raise self._malformed("a line is too long")
            self._line += block[position:]
            return len(block)
        self._line += block[position : newline + 1]
        if self._line.endswith(b"\r\n"):
            line = bytes(self._line[:-2])
            self._line.clear()
            self._on_line(line)
        return newline + 1

    def _malformed(self, why: str) -> S3Error:
        if self._in_trailer:
            return _bad_trailer(why)
        return S3Error("InvalidRequest", f"The aws-chunked body is malformed: {why}.")

    def _chunk_line(self, line: bytes) -> None:
        match = (_SIGNED_LINE if self._is_signed else _UNSIGNED_LINE).fullmatch(line)
        if match is None:
            raise self._malformed(
                "a chunk does not begin with its size" + self._is_signed * " and its signature"
            )
        size_bytes = int(match[1], 16)
        self._signature = match[2].decode("ascii") if self._is_signed else ""
        if size_bytes == 0:
            self._last_chunk()
            return
        self._chunks += 1
        if self._latest_size_bytes < SMALLEST_CHUNK_BYTES:
            raise S3Error(
                "InvalidChunkSizeError",
                f"Only the last chunk is allowed to have a size less than {SMALLEST_CHUNK_BYTES} bytes: chunk "
                f"{self._chunks - 1} has {self._latest_size_bytes}",
                details={"Chunk": str(self._chunks), "BadChunkSize": str(self._latest_size_bytes)},
            )
        if self._decoded_bytes + size_bytes > self._promised_bytes:
            raise incomplete_body(self._promised_bytes, self._decoded_bytes + size_bytes)
        self._latest_size_bytes = self._left_bytes = size_bytes

    def _data_end(self, line: bytes) -> None:
        if line:
            raise self._malformed("no line end follows the bytes of a chunk")
        if self._is_signed:
            self._listener.on_signature(ChunkEnd(signature=self._signature))
        self._on_line = self._chunk_line

    def _last_chunk(self) -> None:
        if self._is_signed:
            self._listener.on_signature(ChunkEnd(signature=self._signature))
        self._in_trailer = self._is_trailed
        self._on_line = self._trailer_line if self._is_trailed else self._final_line

    def _final_line(self, line: bytes) -> None:
        """Take the blank line that ends the body; further blank lines are harmless."""
        if line:
            raise self._malformed("something follows the last chunk")
        self._ended = True

    def _trailer_line(self, line: bytes) -> None:
        if not line:
            self._end_trailer()
            return
        # The published grammar of signed trailers ends a trailer with LF CRLF, and some clients do so.
        name, colon, value = line.rstrip(b"\r\n").partition(b":")
        name, value = name.strip().lower(), value.strip()
        if not colon or len(self._trailer_lines) >= TRAILER_LINES_LIMIT:
            raise _bad_trailer(f"{shown(line)} is no line of it" if not colon else "it has too many lines")
        if self._is_signed and name == _TRAILER_SIGNATURE and self._trailer_signature is None:
            self._trailer_signature = value.decode("latin-1")
            return
        if name.decode("latin-1") != self._trailer_name or self._trailer_value is not None:
            raise _bad_trailer(f"{shown(name)} is there, and {self._trailer_name} was announced, once")
        self._trailer_lines.append(name + b":" + value + b"\n")
        self._trailer_value = value.decode("latin-1")

    def _end_trailer(self) -> None:
        if (self._trailer_value is None) != (self._trailer_name is None):
            raise _bad_trailer(f"{self._trailer_name} was announced and is not there")
        if self._is_signed:
            if self._trailer_signature is None:
                raise _bad_trailer("its signature is missing")
            lines = b"".join(self._trailer_lines)
            self._listener.on_signature(TrailerEnd(lines=lines, signature=self._trailer_signature))
        self._ended = True
        self._on_line = self._final_line


def _bad_trailer(why: str) -> S3Error:
    return S3Error(
        "MalformedTrailerError", f"The request contained trailing data that was not well-formed: {why}."
    )
