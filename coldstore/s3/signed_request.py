"""A request with a signature, and what is known once that is verified: common to all forms of signatures."""

from collections.abc import Callable
from typing import NamedTuple

from twisted.internet.defer import Deferred

from coldstore.model.keys import Signer
from coldstore.s3.errors import S3Error, shown
from coldstore.s3.fields import HeaderFields, Query
from coldstore.s3.paths import Address
from coldstore.s3.payload import Payload
from coldstore.s3.signing import ChunkChain

UNSIGNED = "UNSIGNED-PAYLOAD"
V4_MARKS = frozenset({"X-Amz-Algorithm", "X-Amz-Signature"})
V2_MARKS = frozenset({"AWSAccessKeyId", "Signature"})
"""Names in a query of which one is enough to say that it is signed, and how."""
CredentialLookup = Callable[[str], "Deferred[Signer | None]"]
"""From an access key to the user who signs with it, None when nobody does."""


class SignedRequest(NamedTuple):
    """The header section of one request. ``body_length_bytes`` is 0 without a body, None when it is chunked."""

    method: str
    address: Address
    headers: HeaderFields
    body_length_bytes: int | None


class Authentication(NamedTuple):
    """A verified signature: whose it is (None: nobody has signed), what is said of the body, and the chain for signed chunks."""

    user: Signer | None
    payload: Payload
    chain: ChunkChain | None
    is_presigned: bool


def is_signed(query: Query) -> bool:
    """Tell whether a query means to be that of a presigned URL."""
    return query.has_any(V4_MARKS | V2_MARKS)


async def signer(look_up: CredentialLookup, access_key: str) -> Signer:
    """
    Return who signs with an access key.

    :raise S3Error: InvalidAccessKeyId
    """
    # No key has such characters, and not every store can be asked for them.
    user = await look_up(access_key) if access_key.isprintable() else None
    if user is None:
        raise S3Error(
            "InvalidAccessKeyId",
            f"The access key ID that you provided does not exist in our records: {shown(access_key)} is unknown or "
            "disabled. An operator sees all keys with: coldstore keys",
            details={"AWSAccessKeyId": access_key},
        )
    return user


def mismatch(access_key: str, text: str, given: str, canonical: str | None) -> S3Error:
    """Return the refusal of a signature that is another one, with what was to be signed, as S3 tells it."""
    details = {
        "AWSAccessKeyId": access_key,
        "StringToSign": text,
        "SignatureProvided": given,
        "StringToSignBytes": text.encode("utf-8").hex(" "),
    }
    if canonical is not None:
        details["CanonicalRequest"] = canonical
        details["CanonicalRequestBytes"] = canonical.encode("utf-8").hex(" ")
    return S3Error(
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided. Check the secret key of "
        f"access key {shown(access_key)} and your signing method; StringToSign is what we expected to be signed.",
        details=details,
    )
