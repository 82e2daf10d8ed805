"""
Encryption with keys that customers bring along with every request (SSE-C): what requests say of them, and what is kept.

A customer's key is never kept, nor anything from which it could be guessed more easily than from the encrypted bytes. Each object
has a key of its own, made by chance; what is recorded is that key under the customer's. A wrong key does not open it. Checksums of
what was encrypted are recorded encrypted too: the CRC of a short text is as good as the text.

Source: Amazon S3 User Guide, "Using server-side encryption with customer-provided keys (SSE-C)"; API Reference, request syntax
of the operations. Codes and messages are those that AWS answers with, where the documents do not say them.
"""

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping, Sequence
from hashlib import md5
from hmac import compare_digest
from random import Random
from types import MappingProxyType
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from coldstore.model.objects import Checksum, Encryption, Upload, VersionFacts
from coldstore.s3.body import InThread
from coldstore.s3.call import Call
from coldstore.s3.encryption_pieces import (
    CHUNK_BYTES,
    KEY_BYTES,
    NONCE_BYTES,
    SALT_BYTES,
    TAG_BYTES,
    PieceCipher,
    derived_key,
    new_header,
    stored_bytes,
)
from coldstore.s3.errors import S3Error, shown
from coldstore.s3.fields import CUSTOMER_KEY_PREFIX, SOURCE_KEY_PREFIX, HeaderFields

ALGORITHM = "AES256"
_WRAPPING_INFO = b"coldstore sse-c key 1"
SEALED_MORE_BYTES = NONCE_BYTES + TAG_BYTES
"""How much longer a digest is when it is recorded encrypted."""
_CHECKSUM_INFO = b"coldstore sse-c checksum 1"
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_NO_NONCE = bytes(NONCE_BYTES)
"""Of keys that seal one text only."""


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
        cipher = AESGCM(derived_key(self._secret, salt, _WRAPPING_INFO))
        return b64encode(salt + cipher.encrypt(_NO_NONCE, object_key, place)).decode("ascii")

    def unwrap(self, wrapped: str, place: bytes) -> bytes | None:
        """Undo ``wrap``; None when it was another key, or another place."""
        raw = b64decode(wrapped)
        cipher = AESGCM(derived_key(self._secret, raw[:SALT_BYTES], _WRAPPING_INFO))
        try:
            return cipher.decrypt(_NO_NONCE, raw[SALT_BYTES:], place)
        except InvalidTag:
            return None


class ObjectKey(NamedTuple):
    """The key of one object, opened, and how its bytes are cut."""

    secret: bytes
    chunk_bytes: int

    def __repr__(self) -> str:
        return "<an object's key>"

    def cipher(self, header: bytes) -> PieceCipher:
        """
        Return what opens the piece that begins with these bytes.

        :raise ChunkDamaged: they are no header of such a piece
        """
        return PieceCipher(self.secret, header, self.chunk_bytes)

    def sealed_checksum(self, checksum: Checksum, random: Random) -> Checksum:
        """Return a checksum as it is recorded of an encrypted object or part: its value is encrypted."""
        nonce = random.randbytes(NONCE_BYTES)
        cipher = AESGCM(derived_key(self.secret, b"", _CHECKSUM_INFO))
        sealed = cipher.encrypt(nonce, checksum.value.encode("ascii"), _bound(checksum))
        return checksum._replace(value=b64encode(nonce + sealed).decode("ascii"))

    def opened_checksum(self, checksum: Checksum) -> Checksum | None:
        """Undo ``sealed_checksum``; None when the record is not what it returned."""
        cipher = AESGCM(derived_key(self.secret, b"", _CHECKSUM_INFO))
        raw = _decoded(checksum.value)
        try:
            value = cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], _bound(checksum))
        except (InvalidTag, ValueError):
            return None
        return checksum._replace(value=value.decode("ascii"))

    def sealed_digests(self, digests: Sequence[bytes], random: Random) -> bytes:
        """Return digests of the parts of an object, all of one length, as they are recorded: one behind the other."""
        cipher = AESGCM(derived_key(self.secret, b"", _CHECKSUM_INFO))
        nonces = (random.randbytes(NONCE_BYTES) for _ in digests)
        return b"".join(
            nonce + cipher.encrypt(nonce, digest, b"part %d" % number)
            for number, (nonce, digest) in enumerate(zip(nonces, digests, strict=True))
        )

    def opened_digests(self, content: bytes, width: int, *, first: int) -> bytes:
        """
        Undo ``sealed_digests`` of a run of them; nothing when the record is not what it returned.

        :param width: of each digest
        :param first: which of them the run begins with, from 0
        """
        cipher = AESGCM(derived_key(self.secret, b"", _CHECKSUM_INFO))
        step = width + SEALED_MORE_BYTES
        try:
            return b"".join(
                cipher.decrypt(
                    content[at : at + NONCE_BYTES],
                    content[at + NONCE_BYTES : at + step],
                    b"part %d" % (first + place),
                )
                for place, at in enumerate(range(0, len(content), step))
            )
        except (InvalidTag, ValueError):
            return b""


class Sealing(NamedTuple):
    """How the bytes of an object that comes into being are encrypted."""

    encryption: Encryption
    key: ObjectKey
    random: Random
    in_thread: InThread

    def __repr__(self) -> str:
        return "<the encryption of an object>"

    def new_header(self) -> bytes:
        """Return the header of another piece."""
        return new_header(self.random.randbytes(SALT_BYTES), self.key.chunk_bytes)

    def sealed_checksum(self, checksum: Checksum) -> Checksum:
        """Return a checksum as it is recorded."""
        return self.key.sealed_checksum(checksum, self.random)

    def sealed_digests(self, digests: Sequence[bytes]) -> bytes:
        """Return digests of parts as they are recorded."""
        return self.key.sealed_digests(digests, self.random)

    def stored_bytes(self, plain_bytes: int) -> int:
        """Return how long a piece of so many bytes becomes."""
        return stored_bytes(plain_bytes, self.key.chunk_bytes)


def place_of(bucket: str, key: bytes) -> bytes:
    """Return what an object's key is bound to. Names of buckets have no slash: two places never look the same."""
    return bucket.encode("utf-8") + b"/" + key


def _bound(checksum: Checksum) -> bytes:
    return f"{checksum.algorithm} {checksum.kind.value}".encode("ascii")


def shown_checksum(facts: VersionFacts, key: ObjectKey | None) -> Checksum | None:
    """Return the checksum of an object as S3 shows it; ``key`` is that of an encrypted one."""
    if facts.checksum is None or key is None:
        return facts.checksum
    return key.opened_checksum(facts.checksum)


def encryption_headers(encryption: Encryption | None) -> Mapping[str, str]:
    """Return the response fields that tell of an object's encryption."""
    if encryption is None:
        return _NO_HEADERS
    return MappingProxyType(
        {
            CUSTOMER_KEY_PREFIX + "algorithm": encryption.algorithm,
            CUSTOMER_KEY_PREFIX + "key-MD5": encryption.key_md5,
        }
    )


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


class CustomerKeys:
    """What the operations ask about keys."""

    def __init__(self, *, random: Random, in_thread: InThread, over_http: bool) -> None:
        """
        :param random: where objects' keys and salts come from; not guessable
        :param in_thread: where large blocks are encrypted
        :param over_http: whether keys are taken from connections that are not encrypted
        """
        self._random = random
        self._over_http = over_http
        self.in_thread = in_thread

    def of_writer(self, call: Call) -> Sealing | None:
        """
        Return how the object of a call is to be encrypted; None: not at all.

        :raise S3Error: InvalidArgument, InvalidEncryptionAlgorithmError, InvalidRequest over plain HTTP
        """
        key = self._brought(call, CUSTOMER_KEY_PREFIX, is_writing=True)
        if key is None:
            return None
        object_key = self._random.randbytes(KEY_BYTES)
        wrapped = key.wrap(
            object_key, self._random.randbytes(SALT_BYTES), place_of(call.bucket_name, call.object_key)
        )
        encryption = Encryption(
            algorithm=ALGORITHM, key_md5=key.md5, wrapped_key=wrapped, chunk_bytes=CHUNK_BYTES
        )
        return self._sealing(encryption, object_key)

    def of_reader(self, call: Call, facts: VersionFacts) -> ObjectKey | None:
        """
        Return the key of an object that is read; None for one that is not encrypted.

        :raise S3Error: InvalidRequest when a key is missing or there is nothing to decrypt, AccessDenied for a wrong one; and
            as ``of_writer``
        """
        return self._opened(call, facts, CUSTOMER_KEY_PREFIX)

    def of_source(self, call: Call, facts: VersionFacts) -> ObjectKey | None:
        """Return the key of an object that is copied; as ``of_reader``."""
        return self._opened(call, facts, SOURCE_KEY_PREFIX)

    def of_part(self, call: Call, upload: Upload) -> Sealing | None:
        """
        Return how a part is to be encrypted: with the key that its upload began with.

        :raise S3Error: InvalidRequest when there is a key and should be none, the other way round, or another one; and as
            ``of_writer``
        """
        key = self._brought(call, CUSTOMER_KEY_PREFIX, is_writing=True)
        if (key is None) is not (upload.encryption is None):
            raise S3Error(
                "InvalidRequest",
                "The multipart upload initiate requested encryption. Subsequent part requests must include the "
                "appropriate encryption parameters."
                if key is None
                else "The multipart upload did not request encryption. Its parts cannot have encryption parameters.",
            )
        return None if key is None else self._of_upload(key, upload)

    def of_completion(self, call: Call, upload: Upload) -> Sealing | None:
        """
        Return how an upload is encrypted, for who may leave its key out: None then.

        :raise S3Error: as ``of_part``
        """
        return self.of_part(call, upload) if call.headers.names_key(CUSTOMER_KEY_PREFIX) else None

    def _of_upload(self, key: CustomerKey, upload: Upload) -> Sealing:
        encryption = upload.encryption
        assert encryption is not None, "the upload is encrypted"
        object_key = key.unwrap(encryption.wrapped_key, place_of(upload.bucket, upload.key))
        if object_key is None:
            raise S3Error(
                "InvalidRequest", "The provided encryption parameters did not match the ones used originally."
            )
        return self._sealing(encryption, object_key)

    def _sealing(self, encryption: Encryption, object_key: bytes) -> Sealing:
        return Sealing(
            encryption, ObjectKey(object_key, encryption.chunk_bytes), self._random, self.in_thread
        )

    def _opened(self, call: Call, facts: VersionFacts, beginning: str) -> ObjectKey | None:
        key, encryption = self._brought(call, beginning, is_writing=False), facts.encryption
        if encryption is None:
            if key is not None:
                raise S3Error(
                    "InvalidRequest", "The encryption parameters are not applicable to this object."
                )
            return None
        if key is None:
            raise S3Error(
                "InvalidRequest",
                "The object was stored using a form of Server Side Encryption. The correct parameters must be provided "
                "to retrieve the object.",
            )
        object_key = key.unwrap(encryption.wrapped_key, place_of(facts.bucket, facts.key))
        if object_key is None:
            raise S3Error(
                "AccessDenied",
                "Requests specifying Server Side Encryption with Customer provided keys must provide the correct secret "
                "key.",
            )
        return ObjectKey(object_key, encryption.chunk_bytes)

    def _brought(self, call: Call, beginning: str, *, is_writing: bool) -> CustomerKey | None:
        if not call.headers.names_key(beginning):
            return None
        if not self._over_http and not call.is_secure:
            raise S3Error(
                "InvalidRequest",
                "Requests specifying Server Side Encryption with Customer provided keys must be made over a secure "
                "connection: use https. Take a key that was sent without it for known to others.",
            )
        return customer_key(call.headers, beginning, is_writing=is_writing)
