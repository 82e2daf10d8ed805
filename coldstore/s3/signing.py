"""
The arithmetic of Signature Version 4 and, for presigned URLs of older tools, Version 2. No clock, no look-up.

Source: Amazon S3 API Reference, "Authenticating Requests (AWS Signature Version 4)" and "... (Version 2)".
"""

import hashlib
import hmac
import re
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote

from coldstore.s3.api import DEFAULT_CLASS
from coldstore.s3.errors import S3Error
from coldstore.s3.fields import HeaderFields, Query

ALGORITHM = "AWS4-HMAC-SHA256"
_UNRESERVED = re.compile(rb"[A-Za-z0-9_.~/-]*")
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
SIGNATURE_V2_SUBRESOURCES = frozenset(
    [
        "accelerate",
        "acl",
        "analytics",
        "cors",
        "delete",
        "inventory",
        "lifecycle",
        "location",
        "logging",
        "metrics",
        "notification",
        "object-lock",
        "partNumber",
        "policy",
        "replication",
        "requestPayment",
        "restore",
        "select",
        "select-type",
        "tagging",
        "torrent",
        "uploadId",
        "uploads",
        "versionId",
        "versioning",
        "versions",
        "website",
        DEFAULT_CLASS,
        "response-cache-control",
        "response-content-disposition",
        "response-content-encoding",
        "response-content-language",
        "response-content-type",
        "response-expires",
    ]
)


class Scope(NamedTuple):
    """What a signing key is good for: ``date`` (YYYYMMDD), ``region``, ``service``."""

    date: str
    region: str
    service: str

    def __str__(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


def signing_key(secret_key: str, scope: Scope) -> bytes:
    """Return the key that signs within ``scope``."""
    key = b"AWS4" + secret_key.encode("utf-8")
    for step in (scope.date, scope.region, scope.service, "aws4_request"):
        key = hmac.digest(key, step.encode("utf-8"), "sha256")
    return key


class SigningKeys:
    """Signing keys that were computed lately, at most ``limit`` of them: one costs four HMACs per request."""

    def __init__(self, limit: int = 1024) -> None:
        self._limit = limit
        self._keys: OrderedDict[tuple[str, Scope], bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._keys)

    def get(self, secret_key: str, scope: Scope) -> bytes:
        """Return the key, computed or remembered."""
        name = (secret_key, scope)
        key = self._keys.get(name)
        if key is None:
            key = self._keys[name] = signing_key(secret_key, scope)
            if len(self._keys) > self._limit:
                self._keys.popitem(last=False)
        else:
            self._keys.move_to_end(name)
        return key


def canonical_path(decoded_path: bytes) -> str:
    """Return a path as it is signed: decoded once, encoded once, ``/`` kept, nothing normalised."""
    if _UNRESERVED.fullmatch(decoded_path):
        return decoded_path.decode("ascii")
    return quote(decoded_path, safe="/~")


def canonical_query(query: Query, *, without: str | None = None) -> str:
    """Return a query as it is signed: encoded, sorted, ``=`` after every name; ``without`` names a pair to leave out."""
    if not query:
        return ""
    pairs = [(quote(name, safe="~"), quote(value, safe="~")) for name, value in query if name != without]
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def canonical_request(
    *,
    method: str,
    decoded_path: bytes,
    query: Query,
    headers: HeaderFields,
    signed_headers: Sequence[str],
    payload: str,
    without: str | None = None,
) -> bytes:
    """
    Return the canonical request of SigV4.

    :param signed_headers: lower-case names in the order in which the client lists them
    :param payload: the text that stands for the payload
    :param without: the query parameter that holds the signature itself
    """
    lines = [
        method.encode("ascii"),
        canonical_path(decoded_path).encode("ascii"),
        canonical_query(query, without=without).encode("ascii"),
    ]
    for name in signed_headers:
        value = b",".join([b" ".join(line.split()) for line in headers.raw(name)])
        lines.append(name.encode("utf-8") + b":" + value)
    lines += [b"", ";".join(signed_headers).encode("utf-8"), payload.encode("utf-8")]
    return b"\n".join(lines)


def string_to_sign(timestamp: str, scope: Scope, canonical: bytes) -> str:
    """Return what the key signs. ``timestamp`` is YYYYMMDDTHHMMSSZ."""
    return "\n".join((ALGORITHM, timestamp, str(scope), hashlib.sha256(canonical).hexdigest()))


def signature(key: bytes, text: str) -> str:
    """Return the hexadecimal signature of ``text``."""
    return hmac.digest(key, text.encode("utf-8"), "sha256").hex()


def same(one: str, other: str) -> bool:
    """Compare two signatures in a time that does not tell where they differ."""
    return hmac.compare_digest(one.encode("utf-8"), other.encode("utf-8"))


def string_to_sign_v2(
    *, method: str, headers: HeaderFields, when: str, raw_resource: bytes, query: Query
) -> bytes:
    """
    Return what a signature of Version 2 covers.

    Fields that a URL carries in its query count as if they were sent, for so their signers count them.

    :param when: the end of a URL's life in unix seconds; of a request its Date, or nothing where ``x-amz-date`` has it
    :param raw_resource: path of bucket and key as in path style, encoded as it was sent
    """
    amz = sorted(name for name in headers.names() if name.startswith("x-amz-"))
    named = sorted((name, value) for name, value in query if name in SIGNATURE_V2_SUBRESOURCES)
    resource = raw_resource
    if named:
        resource += b"?" + "&".join(f"{name}={value}" if value else name for name, value in named).encode(
            "utf-8"
        )
    lines = [
        method.encode("ascii"),
        _sent(headers, "content-md5"),
        _sent(headers, "content-type"),
        when.encode("utf-8"),
        *(name.encode("utf-8") + b":" + _sent(headers, name) for name in amz),
        resource,
    ]
    return b"\n".join(lines)


def _sent(headers: HeaderFields, name: str) -> bytes:
    if headers.came_in_query(name):
        return (headers.get(name) or "").encode("utf-8")
    return b",".join(value.strip() for value in headers.raw(name))


def signature_v2(secret_key: str, text: bytes) -> str:
    """Return the base64 signature of Version 2."""
    return b64encode(hmac.digest(secret_key.encode("utf-8"), text, "sha1")).decode("ascii")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkEnd:
    """The end of one chunk and the signature that its header line carried."""

    signature: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailerEnd:
    """The trailer: its lines ``name:value LF``, and their signature."""

    lines: bytes
    signature: str


class ChunkChain:
    """
    The chain of signatures over a body sent in signed chunks; each one covers its chunk and the one before.

    Fed in the order of arrival, from any one thread at a time.
    """

    def __init__(self, *, key: bytes, timestamp: str, scope: Scope, seed: str) -> None:
        """:param seed: the signature of the request itself"""
        self._key = key
        self._prefix = f"{timestamp}\n{scope}\n"
        self._previous = seed
        self._sha256 = hashlib.sha256()

    def advance(self, items: Iterable[bytes | ChunkEnd | TrailerEnd]) -> None:
        """
        Take bytes of chunks and the ends of chunks.

        :raise S3Error: SignatureDoesNotMatch at the first chunk whose signature is another one
        """
        for item in items:
            if isinstance(item, bytes):
                self._sha256.update(item)
            elif isinstance(item, ChunkEnd):
                digest = self._sha256.hexdigest()
                self._sha256 = hashlib.sha256()
                self._expect(item.signature, "AWS4-HMAC-SHA256-PAYLOAD", f"{EMPTY_SHA256}\n{digest}")
            else:
                digest = hashlib.sha256(item.lines).hexdigest()
                self._expect(item.signature, "AWS4-HMAC-SHA256-TRAILER", digest)

    def _expect(self, given: str, kind: str, digests: str) -> None:
        text = f"{kind}\n{self._prefix}{self._previous}\n{digests}"
        self._previous = signature(self._key, text)
        if not same(self._previous, given):
            raise S3Error(
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided: that of a chunk of the body, "
                "or of its trailer, is another one. StringToSign is what we expected to be signed.",
                details={"StringToSign": text, "SignatureProvided": given},
            )
