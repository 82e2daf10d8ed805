"""
Signature Version 2: in URLs, which today's tools still make for endpoints that are not AWS's, in forms, and in the header.

Source: Amazon S3 API Reference, "Signing and authenticating REST requests" and "Browser-based uploads using POST (AWS signature
version 2)".
"""

import re
from collections.abc import Callable, Mapping

from coldstore.model.keys import Signer
from coldstore.s3.api import Target
from coldstore.s3.errors import S3Error, shown
from coldstore.s3.paths import Address
from coldstore.s3.payload import SIGNED, Payload, payload_of
from coldstore.s3.routes import subresources
from coldstore.s3.signed_request import (
    UNSIGNED,
    Authentication,
    CredentialLookup,
    SignedRequest,
    mismatch,
    signer,
)
from coldstore.s3.signing import SIGNATURE_V2_SUBRESOURCES, same, signature_v2, string_to_sign_v2
from coldstore.s3.validity import require_alive, require_recent, time_of_headers

SCHEME = "AWS"
FORM_FIELDS = ("AWSAccessKeyId", "signature")
_PARAMETERS = ("AWSAccessKeyId", "Signature", "Expires")
_AUTHORIZATION = re.compile(r"AWS (?P<access_key>[^\s:]+):(?P<signature>[A-Za-z0-9+/]+=*)")


class Version2:
    """Verifies signatures of Version 2, of the kinds that are accepted."""

    def __init__(
        self,
        *,
        look_up: CredentialLookup,
        seconds: Callable[[], float],
        accepts_urls: bool,
        accepts_headers: bool,
    ) -> None:
        """
        :param seconds: the clock, unix seconds
        :param accepts_urls: those of presigned URLs and of forms, which somebody signed for a browser
        :param accepts_headers: those of whole requests
        """
        self._look_up = look_up
        self._seconds = seconds
        self._accepts_urls = accepts_urls
        self._accepts_headers = accepts_headers

    async def of_query(self, request: SignedRequest) -> Authentication:
        """
        Verify a presigned URL.

        :raise S3Error: AccessDenied, InvalidToken, InvalidAccessKeyId, SignatureDoesNotMatch; InvalidRequest where it is not accepted, or does not
            say what is meant
        """
        if not self._accepts_urls:
            raise refused()
        _require_covered(request.address)
        access_key, given, expires = (request.address.query.one(name) or "" for name in _PARAMETERS)
        if not (access_key and given and expires):
            raise S3Error(
                "AccessDenied",
                "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters",
            )
        if not (expires.isascii() and expires.isdigit() and len(expires) < 12):
            raise S3Error(
                "AccessDenied", f"Invalid date (should be seconds since epoch): Expires is {shown(expires)}"
            )
        require_alive(None, int(expires), now=self._seconds(), details={})
        user, payload = await self._verified(request, access_key, given, when=expires)
        return Authentication(user=user, payload=payload, chain=None, is_presigned=True)

    async def of_header(self, request: SignedRequest, authorization: str) -> Authentication:
        """
        Verify an Authorization header.

        :raise S3Error: InvalidArgument, AccessDenied, RequestTimeTooSkewed, InvalidToken, InvalidAccessKeyId,
            SignatureDoesNotMatch; InvalidRequest where it is not accepted
        """
        if not self._accepts_headers:
            raise refused()
        found = _AUTHORIZATION.fullmatch(authorization)
        if found is None:
            raise S3Error(
                "InvalidArgument",
                "AWS authorization header is invalid.  Expected AwsAccessKeyId:signature",
                details={"ArgumentName": "Authorization"},
            )
        _, requested_at = time_of_headers(request.headers)
        require_recent(requested_at, now=self._seconds())
        # A date of its own header is signed there, and the line of Date is then empty.
        when = "" if "x-amz-date" in request.headers else request.headers.get("date") or ""
        user, payload = await self._verified(request, found["access_key"], found["signature"], when=when)
        return Authentication(user=user, payload=payload, chain=None, is_presigned=False)

    async def of_form(self, fields: Mapping[str, str]) -> Signer:
        """
        Verify the signature of a form's policy; ``fields`` has all of ``FORM_FIELDS``, by lower-case name.

        :raise S3Error: InvalidAccessKeyId, SignatureDoesNotMatch; InvalidRequest where it is not accepted
        """
        if not self._accepts_urls:
            raise refused()
        access_key, text, given = fields["awsaccesskeyid"], fields["policy"], fields["signature"]
        user = await signer(self._look_up, access_key)
        if not same(signature_v2(user.secret_key, text.encode("utf-8")), given):
            raise mismatch(access_key, text, given, None)
        return user

    async def _verified(
        self, request: SignedRequest, access_key: str, given: str, *, when: str
    ) -> tuple[Signer, Payload]:
        """Verify what signs a whole request; ``when`` stands in the place of its date."""
        if "x-amz-security-token" in request.headers:
            raise S3Error("InvalidToken")
        user = await signer(self._look_up, access_key)
        texts = [
            string_to_sign_v2(
                method=request.method,
                headers=request.headers,
                when=when,
                raw_resource=resource,
                query=request.address.query,
            )
            for resource in _resources(request.address)
        ]
        if not any(same(signature_v2(user.secret_key, text), given) for text in texts):
            raise mismatch(access_key, texts[0].decode("utf-8", "replace"), given, None)
        payload_text = request.headers.get("x-amz-content-sha256") or UNSIGNED
        payload = payload_of(payload_text, request.headers, request.body_length_bytes)
        if payload.kind in SIGNED:
            raise S3Error("InvalidRequest", "Signed chunks need a Version 4 signature.")
        return user, payload


def _require_covered(address: Address) -> None:
    """
    Refuse what whoever has a signed URL could have added to it, so that it asks for something else: of what S3 has had since Version 4 nothing is signed.

    :raise S3Error: InvalidRequest
    """
    for name in subresources(address.target, address.query):
        if name not in SIGNATURE_V2_SUBRESOURCES:
            raise S3Error(
                "InvalidRequest",
                f"Signatures of Version 2 do not cover ?{name} in a URL. Please use AWS4-HMAC-SHA256.",
            )


def _resources(address: Address) -> tuple[bytes, ...]:
    """
    Return the forms in which signers write what a request is about.

    In S3's examples a bucket has a slash at its end; boto3 signs that one and does not send it. Others sign what they send.
    """
    sent = address.raw_resource
    if address.target is Target.BUCKET and not sent.endswith(b"/"):
        return sent, sent + b"/"
    return (sent,)


def refused() -> S3Error:
    """Return the refusal of a kind that is not accepted."""
    return S3Error(
        "InvalidRequest",
        "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
    )
