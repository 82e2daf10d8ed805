"""
Keys that customers bring along with every request (SSE-C): what requests say of them.

A customer's key is never kept, nor anything from which it could be guessed more easily than from the encrypted bytes. What is recorded
is the object's own key under the customer's. A wrong key does not open it.

Source: Amazon S3 User Guide, "Using server-side encryption with customer-provided keys (SSE-C)"; API Reference, request syntax
of the operations. Codes and messages are those that AWS answers with, where the documents do not say them.
"""

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from hashlib import md5
from hmac import compare_digest

from coldstore.s3.errors import S3Error, shown
from coldstore.s3.fields import HeaderFields
from coldstore.util.envelopes import KEY_BYTES, unwrapped, wrapped

ALGORITHM = "AES256"
_WRAPPING_INFO = b"coldstore sse-c key 1"


class CustomerKey:
    """A key as a request brought it. It is not shown, in no log and in no traceback."""

    __slots__ = ("_secret", "md5")

    def __init__(self, secret: bytes, md5_base64: str) -> None:
        self._secret = secret
        self.md5 = md5_base64

    def __repr__(self) -> str:
        return "<a customer's key>"

    def wrap(self, object_key: bytes, salt: bytes, place: bytes) -> str:
        """
        Return an object's key under this one, in base64.

        :param salt: new for each object: two objects never have the same key around theirs
        :param place: of the object; elsewhere its key does not open
        """
        return wrapped(self._secret, object_key, salt=salt, info=_WRAPPING_INFO, bound=place)

    def unwrap(self, text: str, place: bytes) -> bytes | None:
        """Undo ``wrap``; None when it was another key, or another place."""
        return unwrapped(self._secret, text, info=_WRAPPING_INFO, bound=place)


def place_of(bucket: str, key: bytes) -> bytes:
    """Return what an object's key is bound to. Names of buckets have no slash: two places never look the same."""
    return bucket.encode("utf-8") + b"/" + key


def customer_key(headers: HeaderFields, beginning: str, *, is_writing: bool) -> CustomerKey | None:
    """
    Return the key that a request brings, None when it brings none.

    Who reads need not give the digest of the key, and a key that cannot be one is a wrong key to him, as with AWS.

    :param beginning: of the names of the fields, ``CUSTOMER_KEY_PREFIX`` or ``SOURCE_KEY_PREFIX``
    :raise S3Error: InvalidArgument, InvalidEncryptionAlgorithmError
    """
    algorithm, encoded, digest = (headers.get(beginning + name) for name in ("algorithm", "key", "key-md5"))
    if algorithm is None and encoded is None and digest is None:
        return None
    if algorithm is None:
        raise _refused("must provide a valid encryption algorithm.", beginning + "algorithm")
    if algorithm != ALGORITHM:
        raise S3Error(
            "InvalidEncryptionAlgorithmError",
            f"The Encryption request you specified is not valid: {shown(algorithm)}. Supported value: {ALGORITHM}.",
            details={"ArgumentName": beginning + "algorithm", "ArgumentValue": algorithm},
        )
    if encoded is None:
        raise _refused("must provide an appropriate secret key.", beginning + "key")
    if digest is None and is_writing:
        raise _refused("must provide the client calculated MD5 of the secret key.", beginning + "key-MD5")
    secret = _decoded(encoded)
    # A checksum of the transfer, as S3 defines it: it guards nothing.
    calculated = md5(secret, usedforsecurity=False).digest()
    if digest is not None and not compare_digest(_decoded(digest), calculated):
        raise S3Error(
            "InvalidArgument",
            f"The calculated MD5 hash of the key did not match the hash that was provided in {beginning}key-MD5.",
            details={"ArgumentName": beginning + "key-MD5"},
        )
    if len(secret) != KEY_BYTES and is_writing:
        raise S3Error(
            "InvalidArgument",
            f"The secret key was invalid for the specified algorithm: it has {len(secret)} bytes and not {KEY_BYTES}.",
            details={"ArgumentName": beginning + "key"},
        )
    return CustomerKey(secret, b64encode(calculated).decode("ascii"))


def _decoded(text: str) -> bytes:
    """Return what base64 says; nothing when it is none, which is no key and no digest."""
    try:
        return b64decode(text, validate=True)
    except (Base64Error, ValueError):
        return b""


def _refused(what: str, name: str) -> S3Error:
    return S3Error(
        "InvalidArgument",
        f"Requests specifying Server Side Encryption with Customer provided keys {what}",
        details={"ArgumentName": name},
    )
