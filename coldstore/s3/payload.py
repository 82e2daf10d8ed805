"""
How the body of a request is encoded: the forms that ``x-amz-content-sha256`` announces.

Source: Amazon S3 API Reference, "Authenticating Requests: Using the Authorization Header", overview and the pages on
transferring the payload in chunks, signed and unsigned, with and without trailers.
"""

from enum import StrEnum
from typing import NamedTuple

from coldstore.s3.errors import S3Error, shown
from coldstore.s3.fields import HeaderFields

CHECKSUM_ALGORITHMS = (
    "crc32",
    "crc32c",
    "crc64nvme",
    "sha1",
    "sha256",
    "sha512",
    "md5",
    "xxhash64",
    "xxhash3",
    "xxhash128",
)
"""What ``x-amz-checksum-*`` can name: all that the API has as of 2026."""

CHECKSUM_PREFIX = "x-amz-checksum-"


class PayloadKind(StrEnum):
    """The forms of a body."""

    PLAIN = "plain"
    """The bytes themselves, their SHA-256 in the signature."""
    UNSIGNED = "UNSIGNED-PAYLOAD"
    SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    SIGNED_CHUNKS_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
    UNSIGNED_CHUNKS_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


CHUNKED = frozenset(
    {PayloadKind.SIGNED_CHUNKS, PayloadKind.SIGNED_CHUNKS_TRAILER, PayloadKind.UNSIGNED_CHUNKS_TRAILER}
)
SIGNED = frozenset({PayloadKind.SIGNED_CHUNKS, PayloadKind.SIGNED_CHUNKS_TRAILER})
TRAILED = frozenset({PayloadKind.SIGNED_CHUNKS_TRAILER, PayloadKind.UNSIGNED_CHUNKS_TRAILER})


class Payload(NamedTuple):
    """
    The form of one body and what its headers promise.

    ``signed_as`` is the text that stands for the payload in the canonical request. ``sha256`` is set for PLAIN.
    ``length_bytes`` counts the decoded bytes and is None where nothing says it. ``trailer`` is the lower-case name
    of the one announced trailer.
    """

    kind: PayloadKind
    signed_as: str
    sha256: bytes | None
    length_bytes: int | None
    trailer: str | None


NO_PAYLOAD = Payload(
    kind=PayloadKind.UNSIGNED, signed_as=PayloadKind.UNSIGNED, sha256=None, length_bytes=0, trailer=None
)
"""The form of a body that is empty whatever its request says."""


def payload_of(signed_as: str, headers: HeaderFields, body_length_bytes: int | None) -> Payload:
    """
    Read the form of a body.

    :param signed_as: value of ``x-amz-content-sha256``, or ``UNSIGNED-PAYLOAD`` where a presigned URL has none
    :param body_length_bytes: length of the HTTP body: from Content-Length, 0 without a body, None when chunked
    :raise S3Error: InvalidArgument, InvalidRequest, NotImplemented for forms that are nonsense or not built;
        MissingContentLength for aws-chunked bodies that do not tell their decoded length
    """
    kind, sha256 = _kind_of(signed_as)
    if kind not in CHUNKED:
        length_bytes = body_length_bytes if body_length_bytes is not None else _decoded_length(headers)
        return Payload(kind=kind, signed_as=signed_as, sha256=sha256, length_bytes=length_bytes, trailer=None)
    length_bytes = _decoded_length(headers)
    if length_bytes is None:
        raise S3Error("MissingContentLength")
    trailer = _trailer(headers) if kind in TRAILED else None
    return Payload(kind=kind, signed_as=signed_as, sha256=None, length_bytes=length_bytes, trailer=trailer)


def _kind_of(signed_as: str) -> tuple[PayloadKind, bytes | None]:
    if len(signed_as) == 64:
        try:
            return PayloadKind.PLAIN, bytes.fromhex(signed_as)
        except ValueError:
            pass
    if signed_as.startswith("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"):
        raise S3Error("NotImplemented", "ColdStore does not implement this part of S3: Signature Version 4A")
    try:
        kind = PayloadKind(signed_as)
    except ValueError:
        kind = PayloadKind.PLAIN
    if kind is PayloadKind.PLAIN:
        raise S3Error(
            "InvalidArgument",
            "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, "
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER "
            f"or a valid sha256 value, and not {shown(signed_as)}.",
            details={"ArgumentName": "x-amz-content-sha256", "ArgumentValue": signed_as},
        )
    return kind, None


def _decoded_length(headers: HeaderFields) -> int | None:
    value = headers.get("x-amz-decoded-content-length")
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= 19):
        raise S3Error(
            "InvalidArgument",
            f"x-amz-decoded-content-length must be a number of bytes, and not {shown(value)}.",
            details={"ArgumentName": "x-amz-decoded-content-length", "ArgumentValue": value},
        )
    return int(value)


def _trailer(headers: HeaderFields) -> str | None:
    announced = headers.get("x-amz-trailer")
    if announced is None:
        return None
    name = announced.strip().lower()
    if name.removeprefix(CHECKSUM_PREFIX) not in CHECKSUM_ALGORITHMS or not name.startswith(CHECKSUM_PREFIX):
        raise S3Error(
            "InvalidRequest",
            f"The value specified in the x-amz-trailer header is not supported: {shown(announced)} is no checksum.",
        )
    return name
