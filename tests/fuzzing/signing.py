"""
Signatures over whatever it is: requests that are no requests are signed as well as they can be, so that they get as far as they can.

Written from the description of the signatures in the S3 API Reference, not from the product's code.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, unquote_to_bytes

from tests.endtoend.wire import REGION, Keys

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
URL_SECONDS = 600
V2_SUBRESOURCES = frozenset(
    b"acl cors delete lifecycle location logging notification partNumber policy requestPayment restore tagging torrent uploadId uploads analytics inventory metrics object-lock replication select select-type "
    b"versionId versioning versions website accelerate x-coldstore-default-class response-cache-control response-content-disposition "
    b"response-content-encoding response-content-language response-content-type response-expires".split()
)

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Signs with one user's keys at one moment."""

    keys: Keys
    at: float

    @property
    def stamp(self) -> str:
        """The moment as Version 4 writes it."""
        return datetime.fromtimestamp(self.at, UTC).strftime("%Y%m%dT%H%M%SZ")

    @property
    def scope(self) -> str:
        """What a signing key is good for."""
        return f"{self.stamp[:8]}/{REGION}/s3/aws4_request"

    @property
    def credential(self) -> str:
        """Access key and scope."""
        return f"{self.keys.access_key}/{self.scope}"

    def signature(self, text: bytes) -> str:
        """Return the signature of Version 4 of a text."""
        key = b"AWS4" + self.keys.secret_key.encode()
        for word in (self.stamp[:8], REGION, "s3", "aws4_request"):
            key = hmac.digest(key, word.encode(), "sha256")
        return hmac.digest(key, text, "sha256").hex()

    def chunk(self, previous: str, content: bytes) -> str:
        """Return the signature of a chunk."""
        return self._chained("PAYLOAD", previous, f"{EMPTY_SHA256}\n{hashlib.sha256(content).hexdigest()}")

    def trailer(self, previous: str, lines: bytes) -> str:
        """Return the signature of a trailer."""
        return self._chained("TRAILER", previous, hashlib.sha256(lines).hexdigest())

    def _chained(self, kind: str, previous: str, digests: str) -> str:
        text = f"AWS4-HMAC-SHA256-{kind}\n{self.stamp}\n{self.scope}\n{previous}\n{digests}"
        return self.signature(text.encode())

    def header(self, method: bytes, target: bytes, headers: Headers, payload: bytes) -> tuple[Headers, str]:
        """Return the fields that sign a request in its header, and the signature."""
        more = [(b"x-amz-date", self.stamp.encode()), (b"x-amz-content-sha256", payload)]
        given = {name.lower() for name, _ in headers}
        added = [(name, value) for name, value in more if name not in given]
        covered = [*headers, *added]
        names = sorted({name.lower() for name, _ in covered} - {b"content-length", b"connection", b"expect"})
        signature = self.signature(self._text(method, target, covered, names, payload))
        value = (
            f"AWS4-HMAC-SHA256 Credential={self.credential}, SignedHeaders=".encode()
            + b";".join(names)
            + f", Signature={signature}".encode()
        )
        return [*added, (b"authorization", value)], signature

    def url(self, method: bytes, target: bytes, headers: Headers, payload: bytes) -> tuple[bytes, str]:
        """Return a presigned target, and the signature."""
        names = sorted({name.lower() for name, _ in headers} - {b"content-length", b"connection", b"expect"})
        parameters = (
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Credential", self.credential),
            ("X-Amz-Date", self.stamp),
            ("X-Amz-Expires", str(URL_SECONDS)),
            ("X-Amz-SignedHeaders", b";".join(names).decode("latin-1")),
        )
        joint = b"&" if b"?" in target else b"?"
        longer = (
            target
            + joint
            + "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters).encode()
        )
        signature = self.signature(self._text(method, longer, headers, names, payload))
        return longer + b"&X-Amz-Signature=" + signature.encode(), signature

    def _text(
        self, method: bytes, target: bytes, headers: Headers, names: Sequence[bytes], payload: bytes
    ) -> bytes:
        path, _, query = target.partition(b"?")
        pairs = sorted(
            (
                _encoded(unquote_to_bytes(name.replace(b"+", b" "))),
                _encoded(unquote_to_bytes(value.replace(b"+", b" "))),
            )
            for name, _, value in (item.partition(b"=") for item in query.split(b"&") if item)
        )
        lines = [
            method,
            quote(unquote_to_bytes(path), safe="/~").encode(),
            b"&".join(name + b"=" + value for name, value in pairs),
        ]
        for name in names:
            values = [b" ".join(value.split()) for each, value in headers if each.lower() == name]
            lines.append(name + b":" + b",".join(values))
        canonical = b"\n".join([*lines, b"", b";".join(names), payload])
        digest = hashlib.sha256(canonical).hexdigest()
        return "\n".join(["AWS4-HMAC-SHA256", self.stamp, self.scope, digest]).encode()

    def header_v2(self, method: bytes, target: bytes, headers: Headers) -> Headers:
        """Return the fields that sign a request by Version 2."""
        date = datetime.fromtimestamp(self.at, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT").encode()
        signature = self._signature_v2(method, target, headers, date)
        value = f"AWS {self.keys.access_key}:{signature}".encode()
        return [(b"date", date), (b"authorization", value)]

    def url_v2(self, method: bytes, target: bytes, headers: Headers) -> bytes:
        """Return a target that is presigned by Version 2."""
        expires = str(int(self.at) + URL_SECONDS).encode()
        signature = quote(self._signature_v2(method, target, headers, expires), safe="").encode()
        joint = b"&" if b"?" in target else b"?"
        key = self.keys.access_key.encode()
        return target + joint + b"AWSAccessKeyId=" + key + b"&Expires=" + expires + b"&Signature=" + signature

    def _signature_v2(self, method: bytes, target: bytes, headers: Headers, when: bytes) -> str:
        path, _, query = target.partition(b"?")
        named = []
        for item in query.split(b"&"):
            name, _, value = (unquote_to_bytes(word.replace(b"+", b" ")) for word in item.partition(b"="))
            if name in V2_SUBRESOURCES:
                named.append(name + b"=" + value if value else name)
        sent = {
            name: b",".join(value.strip() for each, value in headers if each.lower() == name)
            for name in {name.lower() for name, _ in headers}
        }
        amz = [name + b":" + sent[name] for name in sorted(sent) if name.startswith(b"x-amz-")]
        resource = path + (b"?" + b"&".join(sorted(named)) if named else b"")
        fixed = [method, sent.get(b"content-md5", b""), sent.get(b"content-type", b""), when]
        text = b"\n".join([*fixed, *amz, resource])
        return base64.b64encode(hmac.digest(self.keys.secret_key.encode(), text, "sha1")).decode()


def _encoded(raw: bytes) -> bytes:
    return quote(raw, safe="~").encode()
