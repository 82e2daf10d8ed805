"""
Who sent a request: the signature is verified from the header section alone, before a byte of the body is asked for.

Signature Version 4, in the Authorization header, in the query and in forms; ``auth_v2`` has the older one. Source: Amazon S3 API
Reference, "Authenticating Requests".
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from coldstore.model.keys import Signer
from coldstore.s3.auth_v2 import FORM_FIELDS as V2_FORM_FIELDS
from coldstore.s3.auth_v2 import SCHEME as V2_SCHEME
from coldstore.s3.auth_v2 import Version2
from coldstore.s3.errors import SHOWN_MAX, S3Error, shown
from coldstore.s3.fields import HeaderFields, Query
from coldstore.s3.payload import SIGNED, PayloadKind, payload_of
from coldstore.s3.signed_request import (
    UNSIGNED,
    V2_MARKS,
    V4_MARKS,
    Authentication,
    CredentialLookup,
    SignedRequest,
    mismatch,
    signer,
)
from coldstore.s3.signing import (
    ALGORITHM,
    ChunkChain,
    Scope,
    SigningKeys,
    canonical_request,
    same,
    signature,
    string_to_sign,
)
from coldstore.s3.validity import require_alive, require_recent, time_of_headers, unix_seconds

LONGEST_URL_LIFE_SECONDS = 7 * 24 * 3600

_V4_PARAMETERS = (
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
)
USUAL_LENGTH = 256
"""Credentials and lists of signed headers up to this length are remembered: a client says the same all day."""
_V4_FORM_FIELDS = ("x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature")
_FORM_SIGNATURES = frozenset(name.lower() for name in (*_V4_FORM_FIELDS, *V2_FORM_FIELDS)) - {"policy"}
_USUAL_FORM = re.compile(
    r"Credential=(?P<Credential>[^,]+), ?SignedHeaders=(?P<SignedHeaders>[^,]+), ?Signature=(?P<Signature>[^, ]+)"
)
"""What follows the algorithm, in the order in which everybody writes it; any other order is read as well."""


class _Claim(NamedTuple):
    """What a Version 4 signature claims, from header or query."""

    access_key: str
    scope: Scope
    timestamp: str
    signed_headers: tuple[str, ...]
    signature: str
    payload_text: str
    is_presigned: bool


def query_fields(query: Query) -> list[tuple[str, str]]:
    """Return what a presigned URL says in its query instead of in headers; nothing for other requests."""
    if "X-Amz-Signature" in query:
        own = {name.lower() for name in _V4_PARAMETERS}
        return [
            (name, value)
            for name, value in query
            if name.lower().startswith("x-amz-") and name.lower() not in own
        ]
    if "Signature" in query and "AWSAccessKeyId" in query:
        return [
            (name, value)
            for name, value in query
            if name.lower().startswith("x-amz-") or name in ("content-type", "content-md5")
        ]
    return []


class Authenticator:
    """Verifies signatures against the secrets of known users."""

    def __init__(
        self,
        *,
        look_up: CredentialLookup,
        seconds: Callable[[], float],
        region: str,
        accepts_version_2_urls: bool = True,
        accepts_version_2_headers: bool = True,
    ) -> None:
        """
        :param seconds: the clock, unix seconds
        :param region: the endpoint's own region; ``us-east-1`` is accepted besides, as clients sign it unasked
        """
        self._look_up = look_up
        self._seconds = seconds
        self._region = region
        self._regions = frozenset({region, "us-east-1"})
        self._version_2 = Version2(
            look_up=look_up,
            seconds=seconds,
            accepts_urls=accepts_version_2_urls,
            accepts_headers=accepts_version_2_headers,
        )
        self._keys = SigningKeys()

    async def authenticate(self, request: SignedRequest) -> Authentication:
        """
        Verify the signature of a request.

        :return: with nobody as user for a request that has none: what such a one may do is for policies to say
        :raise S3Error: AccessDenied for expired and insufficiently signed requests, InvalidAccessKeyId,
            SignatureDoesNotMatch, RequestTimeTooSkewed, AuthorizationHeaderMalformed,
            AuthorizationQueryParametersError, InvalidToken, and what ``payload_of`` refuses
        """
        query, authorization = request.address.query, request.headers.get("authorization")
        in_query, in_query_v2 = query.has_any(V4_MARKS), query.has_any(V2_MARKS)
        if (authorization is not None) + in_query + in_query_v2 > 1:
            raise S3Error(
                "InvalidArgument",
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string "
                "parameter or the Authorization header should be specified",
                details={"ArgumentName": "Authorization", "ArgumentValue": authorization or ""},
            )
        if in_query:
            return await self._version_4(request, self._claim_of_query(request))
        if in_query_v2:
            return await self._version_2.of_query(request)
        if authorization is None:
            return _anonymous(request)
        if len(request.headers.raw("authorization")) > 1:
            raise _malformed("there is more than one")
        if authorization.partition(" ")[0] == V2_SCHEME:
            return await self._version_2.of_header(request, authorization)
        return await self._version_4(request, self._claim_of_header(request, authorization))

    async def authenticate_form(self, fields: Mapping[str, str]) -> Signer | None:
        """
        Verify the signature of a browser's form, which covers its policy as it was sent.

        Source: Amazon S3 API Reference, "Authenticating Requests in Browser-Based Uploads Using POST".

        :param fields: of the form, by lower-case name
        :return: None for a form without a policy that nobody has signed
        :raise S3Error: AccessDenied for a signature without a policy, InvalidArgument for fields that are missing or make no sense,
            InvalidAccessKeyId, SignatureDoesNotMatch, InvalidToken, AuthorizationQueryParametersError for the scope
        """
        if "policy" not in fields:
            if _FORM_SIGNATURES.isdisjoint(fields):
                return None
            raise S3Error(
                "AccessDenied", "Access Denied: the form has no field 'policy', so nobody has signed it."
            )
        if "x-amz-security-token" in fields:
            raise S3Error("InvalidToken")
        is_version_2 = "x-amz-algorithm" not in fields and "x-amz-credential" not in fields
        names = V2_FORM_FIELDS if is_version_2 else _V4_FORM_FIELDS
        for name in names:
            if not fields.get(name.lower()):
                raise S3Error(
                    "InvalidArgument",
                    f"Bucket POST must contain a field named '{name}'.  "
                    "If it is specified, please check the order of the fields.",
                    details={"ArgumentName": name, "ArgumentValue": ""},
                )
        if is_version_2:
            return await self._version_2.of_form(fields)
        if fields["x-amz-algorithm"] != ALGORITHM:
            raise _bad_parameters(f'x-amz-algorithm only supports "{ALGORITHM}"')
        access_key, scope = self._credential(fields["x-amz-credential"], _bad_parameters)
        timestamp = fields["x-amz-date"]
        if unix_seconds(timestamp) is None or not timestamp.startswith(scope.date):
            raise _bad_parameters(
                "x-amz-date must be in the form yyyyMMdd'T'HHmmss'Z' and of the credential's date"
            )
        user = await signer(self._look_up, access_key)
        text = fields["policy"]
        given = fields["x-amz-signature"]
        if not same(signature(self._keys.get(user.secret_key, scope), text), given):
            raise mismatch(access_key, text, given, None)
        return user

    # -- Version 4 ---------------------------------------------------------------------------------------------------

    async def _version_4(self, request: SignedRequest, claim: _Claim) -> Authentication:
        if "x-amz-security-token" in request.headers:
            raise S3Error("InvalidToken")
        _require_signed(request.headers, claim.signed_headers)
        payload = payload_of(claim.payload_text, request.headers, request.body_length_bytes)
        user = await signer(self._look_up, claim.access_key)
        key = self._keys.get(user.secret_key, claim.scope)
        canonical = canonical_request(
            method=request.method,
            decoded_path=request.address.decoded_path,
            query=request.address.query,
            headers=request.headers,
            signed_headers=claim.signed_headers,
            payload=claim.payload_text,
            without="X-Amz-Signature" if claim.is_presigned else None,
        )
        text = string_to_sign(claim.timestamp, claim.scope, canonical)
        if not same(signature(key, text), claim.signature):
            raise mismatch(claim.access_key, text, claim.signature, canonical.decode("utf-8", "replace"))
        chain = None
        if payload.kind in SIGNED:
            chain = ChunkChain(key=key, timestamp=claim.timestamp, scope=claim.scope, seed=claim.signature)
        return Authentication(user=user, payload=payload, chain=chain, is_presigned=claim.is_presigned)

    def _claim_of_header(self, request: SignedRequest, authorization: str) -> _Claim:
        scheme, _, rest = authorization.partition(" ")
        if scheme != ALGORITHM:
            raise _unknown_scheme(scheme)
        found = _USUAL_FORM.fullmatch(rest)
        fields = _fields_of(rest) if found is None else found.groupdict()
        missing = [name for name in ("Credential", "SignedHeaders", "Signature") if not fields.get(name)]
        if missing:
            raise _malformed(f"the authorization header requires {', '.join(missing)}")
        access_key, scope = self._credential(fields["Credential"], _malformed)
        timestamp, requested_at = time_of_headers(request.headers)
        if not timestamp.startswith(scope.date):
            raise _malformed(
                f'Invalid credential date "{scope.date}". This date is not the same as X-Amz-Date: "{timestamp[:8]}"'
            )
        require_recent(requested_at, now=self._seconds())
        payload_text = request.headers.get("x-amz-content-sha256")
        if payload_text is None:
            raise S3Error(
                "InvalidRequest",
                "Missing required header for this request: x-amz-content-sha256. "
                f"With curl --aws-sigv4 add: -H 'x-amz-content-sha256: {UNSIGNED}'",
            )
        return _Claim(
            access_key=access_key,
            scope=scope,
            timestamp=timestamp,
            signed_headers=_signed_names(fields["SignedHeaders"]),
            signature=fields["Signature"],
            payload_text=payload_text,
            is_presigned=False,
        )

    def _claim_of_query(self, request: SignedRequest) -> _Claim:
        values = {name: request.address.query.one(name) or "" for name in _V4_PARAMETERS}
        if not all(values.values()):
            raise _bad_parameters(
                "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, "
                "X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters."
            )
        if values["X-Amz-Algorithm"].startswith("AWS4-ECDSA"):
            raise S3Error(
                "NotImplemented", "ColdStore does not implement this part of S3: Signature Version 4A"
            )
        if values["X-Amz-Algorithm"] != ALGORITHM:
            raise _bad_parameters(f'X-Amz-Algorithm only supports "{ALGORITHM}"')
        access_key, scope = self._credential(values["X-Amz-Credential"], _bad_parameters)
        timestamp = values["X-Amz-Date"]
        requested_at = unix_seconds(timestamp)
        if requested_at is None:
            raise _bad_parameters("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
        if not timestamp.startswith(scope.date):
            raise _bad_parameters(
                f'Invalid credential date "{scope.date}". It is not the date of X-Amz-Date.'
            )
        expires = values["X-Amz-Expires"]
        if not (expires.isascii() and expires.isdigit() and len(expires) < 12):
            raise _bad_parameters(f"X-Amz-Expires should be a number, not {shown(expires)}")
        if not 1 <= int(expires) <= LONGEST_URL_LIFE_SECONDS:
            raise _bad_parameters(f"X-Amz-Expires must be between 1 and {LONGEST_URL_LIFE_SECONDS} seconds")
        require_alive(
            requested_at,
            requested_at + int(expires),
            now=self._seconds(),
            details={"X-Amz-Expires": expires},
        )
        return _Claim(
            access_key=access_key,
            scope=scope,
            timestamp=timestamp,
            signed_headers=_signed_names(values["X-Amz-SignedHeaders"]),
            signature=values["X-Amz-Signature"],
            payload_text=request.headers.get("x-amz-content-sha256") or UNSIGNED,
            is_presigned=True,
        )

    def _credential(self, text: str, refusal: "Callable[[str, str | None], S3Error]") -> tuple[str, Scope]:
        """Read ``AK/YYYYMMDD/region/s3/aws4_request``; ``refusal`` makes the error that fits header or query."""
        known = _usual_credential(text) if len(text) <= USUAL_LENGTH else _credential_of(text)
        if isinstance(known, str):
            raise refusal(known, None)
        region = known[1].region
        if region not in self._regions:
            raise refusal(f"the region {shown(region)} is wrong; expecting '{self._region}'", self._region)
        return known

    # -- both --------------------------------------------------------------------------------------------------------


def _anonymous(request: SignedRequest) -> Authentication:
    """
    Return what is known of a request that nobody has signed.

    :raise S3Error: what ``payload_of`` refuses, InvalidRequest for chunks that only a signer can have signed
    """
    headers = request.headers
    said = headers.get("x-amz-content-sha256")
    if said is None:
        # botocore sends trailers without a word of them where it signs nothing.
        is_trailed = "x-amz-trailer" in headers and "x-amz-decoded-content-length" in headers
        said = PayloadKind.UNSIGNED_CHUNKS_TRAILER if is_trailed else UNSIGNED
    payload = payload_of(said, headers, request.body_length_bytes)
    if payload.kind in SIGNED:
        raise S3Error("InvalidRequest", "Signed chunks need a signature, and the request has none.")
    return Authentication(user=None, payload=payload, chain=None, is_presigned=False)


def _credential_of(text: str) -> tuple[str, Scope] | str:
    """Return access key and scope, or what is wrong."""
    parts = text.rsplit("/", 4)
    if len(parts) != 5 or not parts[0] or not re.fullmatch(r"\d{8}", parts[1], re.ASCII):
        return 'the Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".'
    access_key, date, region, service, terminator = parts
    if terminator != "aws4_request":
        return f'incorrect terminal "{terminator[:SHOWN_MAX]}". This endpoint uses "aws4_request".'
    if service != "s3":
        return f'incorrect service "{service[:SHOWN_MAX]}". This endpoint belongs to "s3".'
    return access_key, Scope(date=date, region=region, service="s3")


def _signed_names(text: str) -> tuple[str, ...]:
    return _usual_names(text) if len(text) <= USUAL_LENGTH else _names_of(text)


def _names_of(text: str) -> tuple[str, ...]:
    """Return the names of signed headers."""
    return tuple(text.lower().split(";"))


_usual_credential = lru_cache(maxsize=1024)(_credential_of)
_usual_names = lru_cache(maxsize=1024)(_names_of)


def _fields_of(text: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for item in text.split(","):
        name, _, value = item.strip().partition("=")
        if name in fields:
            raise _malformed(f"the authorization header has more than one {name}")
        fields[name] = value
    return fields


def _require_signed(headers: HeaderFields, signed: Sequence[str]) -> None:
    """Refuse headers that change what a request does and that its signature does not cover."""
    unsigned = [name for name in headers.amz_names() if name not in signed and headers.came_in_header(name)]
    if "host" not in signed:
        unsigned.insert(0, "host")
    if unsigned:
        raise S3Error(
            "AccessDenied",
            f"There were headers present in the request which were not signed: {', '.join(unsigned)[:SHOWN_MAX]}",
            details={"HeadersNotSigned": ", ".join(unsigned)},
        )


def _malformed(why: str, region: str | None = None) -> S3Error:
    details = {} if region is None else {"Region": region}
    return S3Error(
        "AuthorizationHeaderMalformed", f"The authorization header is malformed; {why}", details=details
    )


def _bad_parameters(why: str, region: str | None = None) -> S3Error:
    details = {} if region is None else {"Region": region}
    return S3Error("AuthorizationQueryParametersError", why, details=details)


def _unknown_scheme(scheme: str) -> S3Error:
    if scheme.startswith("AWS4-ECDSA"):
        return S3Error("NotImplemented", "ColdStore does not implement this part of S3: Signature Version 4A")
    return S3Error(
        "InvalidArgument",
        f"Unsupported Authorization Type: {shown(scheme)}; there are {ALGORITHM} and {V2_SCHEME}",
        details={"ArgumentName": "Authorization"},
    )
