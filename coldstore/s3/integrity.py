"""
Which digests a body needs, and what is said when they differ: decided before the body, checked after it.

Source: Amazon S3 User Guide, "Checking object integrity"; API Reference, PutObject and UploadPart.
"""

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from coldstore.model.objects import Checksum
from coldstore.s3.errors import SHOWN_MAX, S3Error, shown
from coldstore.s3.fields import HeaderFields
from coldstore.s3.payload import CHECKSUM_ALGORITHMS, CHECKSUM_PREFIX, Payload
from coldstore.util.checksums import ALGORITHMS, new_digest

DIGEST_BYTES = MappingProxyType({name: new_digest(name).digest_size for name in ALGORITHMS})
"""Length of each digest in bytes."""

_NOT_VALUES = frozenset({"x-amz-checksum-mode", "x-amz-checksum-algorithm", "x-amz-checksum-type"})
"""Names that begin like a checksum and are none."""


class ReceivedBody(NamedTuple):
    """What arrived: how many decoded bytes, and the trailer's checksum in base64 where one was announced."""

    length_bytes: int
    trailing_checksum: str | None = None


class IntegrityPlan(NamedTuple):
    """
    What a body must prove.

    ``algorithms`` are the digests to compute while it arrives. ``algorithm`` (lower case) is the one whose value
    belongs to the object, ``claimed`` the client's value of it in base64 (None: none, or in the trailer, or not to
    be believed). ``md5`` and ``sha256`` are the client's digests of the whole body.
    """

    algorithms: frozenset[str]
    algorithm: str | None
    claimed: str | None = None
    is_trailing: bool = False
    md5: bytes | None = None
    sha256: bytes | None = None
    length_bytes: int | None = None

    @property
    def has_client_digest(self) -> bool:
        """Whether the client sent Content-MD5 or a checksum, as some operations demand."""
        return self.md5 is not None or self.claimed is not None or self.is_trailing

    def verify(self, digests: Mapping[str, bytes], received: ReceivedBody) -> None:
        """
        Compare what arrived with what the client said.

        :param digests: one entry for each of ``algorithms``
        :raise S3Error: IncompleteBody, XAmzContentSHA256Mismatch, BadDigest, MalformedTrailerError
        """
        if self.length_bytes is not None and received.length_bytes != self.length_bytes:
            raise incomplete_body(self.length_bytes, received.length_bytes)
        if self.sha256 is not None and digests["sha256"] != self.sha256:
            raise S3Error(
                "XAmzContentSHA256Mismatch",
                f"The provided 'x-amz-content-sha256' header does not match what was computed: it says {self.sha256.hex()}, "
                f"and what we received has {digests['sha256'].hex()}.",
                details={
                    "ClientComputedContentSHA256": self.sha256.hex(),
                    "S3ComputedContentSHA256": digests["sha256"].hex(),
                },
            )
        if self.md5 is not None and digests["md5"] != self.md5:
            expected, calculated = (b64encode(digest).decode() for digest in (self.md5, digests["md5"]))
            raise bad_digest("Content-MD5", expected, calculated)
        self._verify_checksum(digests, received)

    def _verify_checksum(self, digests: Mapping[str, bytes], received: ReceivedBody) -> None:
        claimed = received.trailing_checksum if self.is_trailing else self.claimed
        if self.algorithm is None or claimed is None:
            if self.is_trailing:
                raise S3Error("MalformedTrailerError", "The trailer that was announced did not come.")
            return
        if _checksum_bytes(self.algorithm, claimed) != digests[self.algorithm]:
            raise bad_digest(self.algorithm.upper(), claimed, b64encode(digests[self.algorithm]).decode())

    def check(self, digests: Mapping[str, bytes], received: ReceivedBody) -> Checksum:
        """
        ``verify``, and return the checksum that is stored with the object or part.

        For plans made with a default algorithm, as those of objects and parts are.
        """
        self.verify(digests, received)
        assert self.algorithm is not None, "a plan without an algorithm has no checksum to store"
        return Checksum(
            algorithm=self.algorithm.upper(), value=b64encode(digests[self.algorithm]).decode("ascii")
        )


class _Claim(NamedTuple):
    """The one checksum that headers or trailer announce."""

    algorithm: str
    value: str | None
    is_trailing: bool = False


def object_plan(
    headers: HeaderFields, payload: Payload, *, default_algorithm: str = "crc64nvme"
) -> IntegrityPlan:
    """
    Return the plan for a body that becomes an object or a part: MD5 for the ETag, and one checksum.

    :param default_algorithm: the checksum to compute when the client names none (lower case)
    :raise S3Error: InvalidDigest, InvalidRequest for headers that are malformed, double or not supported
    """
    claim = _claim(headers, payload)
    algorithm = default_algorithm if claim is None else claim.algorithm
    return _plan(headers, payload, claim, algorithm, {"md5", algorithm})


def document_plan(
    headers: HeaderFields, payload: Payload, *, checksum_is_of_object: bool = False
) -> IntegrityPlan:
    """
    Return the plan for a body that is a request document.

    :param checksum_is_of_object: ``x-amz-checksum-*`` speaks of an object, not of this body (CompleteMultipartUpload)
    :raise S3Error: as ``object_plan``
    """
    claim = None if checksum_is_of_object else _claim(headers, payload)
    algorithm = None if claim is None else claim.algorithm
    return _plan(headers, payload, claim, algorithm, set() if algorithm is None else {algorithm})


def object_checksum(headers: HeaderFields) -> Checksum | None:
    """
    Return the checksum that ``x-amz-checksum-*`` claims for a whole object, for CompleteMultipartUpload.

    The value is as sent: of a composite checksum it may end in ``-N``. ``kind`` is left to ``x-amz-checksum-type``.

    :raise S3Error: InvalidRequest for two of them or an unknown one
    """
    named = _named_checksum(headers)
    return None if named is None else Checksum(algorithm=named[0].upper(), value=named[1])


def checksum_headers(checksum: Checksum) -> Mapping[str, str]:
    """Return the response fields that show a checksum."""
    return MappingProxyType(
        {
            CHECKSUM_PREFIX + checksum.algorithm.lower(): checksum.value,
            "x-amz-checksum-type": checksum.kind.value,
        }
    )


def bad_digest(name: str, expected: str, calculated: str) -> S3Error:
    """Return the refusal of bytes that are not those whose digest the client has computed."""
    return S3Error(
        "BadDigest",
        f"The {name} you specified, {shown(expected)}, did not match what we received, which has {shown(calculated)}.",
        details={"ExpectedDigest": expected, "CalculatedDigest": calculated},
    )


def incomplete_body(promised_bytes: int, received_bytes: int) -> S3Error:
    """Return the refusal of a body whose length is not the promised one."""
    return S3Error(
        "IncompleteBody",
        f"The request body does not have the number of bytes that its headers promise: {received_bytes}, and not "
        f"{promised_bytes}",
        details={"NumberBytesExpected": str(promised_bytes), "NumberBytesProvided": str(received_bytes)},
    )


def _plan(
    headers: HeaderFields, payload: Payload, claim: _Claim | None, algorithm: str | None, wanted: set[str]
) -> IntegrityPlan:
    md5 = _content_md5(headers)
    needed = (
        wanted
        | ({"md5"} if md5 is not None else set())
        | ({"sha256"} if payload.sha256 is not None else set())
    )
    return IntegrityPlan(
        algorithms=frozenset(needed),
        algorithm=algorithm,
        claimed=None if claim is None else claim.value,
        is_trailing=claim is not None and claim.is_trailing,
        md5=md5,
        sha256=payload.sha256,
        length_bytes=payload.length_bytes,
    )


def _content_md5(headers: HeaderFields) -> bytes | None:
    value = headers.get("content-md5")
    if value is None:
        return None
    try:
        digest = b64decode(value, validate=True)
    except (Base64Error, ValueError):
        digest = b""
    if len(digest) != DIGEST_BYTES["md5"]:
        raise S3Error(
            "InvalidDigest",
            f"The Content-MD5 you specified is not valid: {shown(value)} is not the base64 of 16 bytes.",
            details={"Content-MD5": value},
        )
    return digest


def _named_checksum(headers: HeaderFields) -> tuple[str, str] | None:
    """Return algorithm and value of the one ``x-amz-checksum-*`` field, None without one."""
    names = [
        name for name in headers.amz_names() if name.startswith(CHECKSUM_PREFIX) and name not in _NOT_VALUES
    ]
    if not names:
        return None
    if len(names) > 1 or len(headers.raw(names[0])) > 1:
        raise S3Error(
            "InvalidRequest",
            "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed: "
            + ", ".join(names)[:SHOWN_MAX],
        )
    algorithm = names[0].removeprefix(CHECKSUM_PREFIX)
    if algorithm not in CHECKSUM_ALGORITHMS:
        raise S3Error("InvalidRequest", f"There is no checksum {shown(names[0])}; {_known_checksums()}")
    return algorithm, headers.get(names[0]) or ""


def _known_checksums() -> str:
    return f"there are {', '.join(sorted(name.upper() for name in CHECKSUM_ALGORITHMS))}"


def _claim(headers: HeaderFields, payload: Payload) -> _Claim | None:
    named = _named_checksum(headers)
    claim: _Claim | None = None
    if payload.trailer is not None:
        if named is not None:
            raise S3Error("InvalidRequest", "Expecting a single x-amz-checksum- header or trailer.")
        claim = _Claim(algorithm=payload.trailer.removeprefix(CHECKSUM_PREFIX), value=None, is_trailing=True)
    elif named is not None:
        algorithm, value = named
        if headers.came_in_query(CHECKSUM_PREFIX + algorithm):
            # A URL is presigned before its body is known: some SDKs put the checksum of an empty body there.
            claim = _Claim(algorithm=algorithm, value=None)
        else:
            _checksum_bytes(algorithm, value)
            claim = _Claim(algorithm=algorithm, value=value)
    _check_announced(headers, claim)
    return claim


def _check_announced(headers: HeaderFields, claim: _Claim | None) -> None:
    """Refuse an ``x-amz-sdk-checksum-algorithm`` that no checksum keeps."""
    name = "x-amz-sdk-checksum-algorithm"
    announced = headers.get(name)
    if announced is None or headers.came_in_query(name):
        return
    if announced.lower() not in CHECKSUM_ALGORITHMS:
        raise S3Error(
            "InvalidRequest", f"Value for {name} header is invalid: {shown(announced)}; {_known_checksums()}"
        )
    if claim is None:
        raise S3Error(
            "InvalidRequest",
            f"{name} specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found.",
        )
    if claim.algorithm != announced.lower():
        raise S3Error(
            "InvalidRequest",
            f"Value for {name} header is invalid: {shown(announced)}, while the checksum is {claim.algorithm.upper()}",
        )


def _checksum_bytes(algorithm: str, value: str) -> bytes:
    """
    Return the digest that a checksum field or trailer says.

    :raise S3Error: InvalidRequest when it is not base64 of the right length
    """
    try:
        digest = b64decode(value, validate=True)
    except (Base64Error, ValueError):
        digest = b""
    if len(digest) != DIGEST_BYTES[algorithm]:
        raise S3Error(
            "InvalidRequest",
            f"Value for {CHECKSUM_PREFIX}{algorithm} header is invalid: {shown(value)} is not the base64 of "
            f"{DIGEST_BYTES[algorithm]} bytes.",
        )
    return digest
