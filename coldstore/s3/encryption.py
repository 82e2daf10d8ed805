"""
How an object is encrypted: its key, and what is recorded of it. Whose key that one is under is told by ``encryption_keys``.

Each object has a key of its own, made by chance. Checksums of what was encrypted are recorded encrypted too, and on tape the
ETag: the CRC of a short text is as good as the text.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from random import Random
from types import MappingProxyType
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from coldstore.interfaces.datakeys import IDataKeys
from coldstore.model.objects import Checksum, Encryption, VersionFacts
from coldstore.s3.body import InThread
from coldstore.s3.encryption_pieces import (
    TAG_BYTES,
    WHOLE,
    PieceCipher,
    new_header,
    stored_bytes,
)
from coldstore.s3.fields import CUSTOMER_KEY_PREFIX, SERVER_SIDE_ENCRYPTION
from coldstore.util.envelopes import NONCE_BYTES, SALT_BYTES, derived_key

SEALED_MORE_BYTES = NONCE_BYTES + TAG_BYTES
"""How much longer a digest is when it is recorded encrypted."""
_CHECKSUM_INFO = b"coldstore sse-c checksum 1"
_ETAG = b"etag"
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class ObjectKey(NamedTuple):
    """The key of one object, opened, and how its bytes are cut."""

    secret: bytes
    chunk_bytes: int

    def __repr__(self) -> str:
        return "<an object's key>"

    def cipher(self, header: bytes, part_number: int = WHOLE) -> PieceCipher:
        """
        Return what opens the piece of a part that begins with these bytes.

        :raise ChunkDamaged: they are no header of such a piece
        """
        return PieceCipher(self.secret, header, self.chunk_bytes, part_number)

    def sealed_checksum(self, checksum: Checksum, random: Random) -> Checksum:
        """Return a checksum as it is recorded of an encrypted object or part: its value is encrypted."""
        return checksum._replace(value=self._sealed(checksum.value, _bound(checksum), random))

    def opened_checksum(self, checksum: Checksum) -> Checksum | None:
        """Undo ``sealed_checksum``; None when the record is not what it returned."""
        cipher = AESGCM(derived_key(self.secret, b"", _CHECKSUM_INFO))
        try:
            raw = b64decode(checksum.value, validate=True)
            value = cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], _bound(checksum))
        except (InvalidTag, ValueError):
            return None
        return checksum._replace(value=value.decode("ascii"))

    def sealed_etag(self, etag: str, random: Random) -> str:
        """Return the ETag as tapes have it of an object whose ETag is that of the bytes before they were encrypted."""
        return self._sealed(etag, _ETAG, random)

    def _sealed(self, text: str, bound: bytes, random: Random) -> str:
        nonce = random.randbytes(NONCE_BYTES)
        cipher = AESGCM(derived_key(self.secret, b"", _CHECKSUM_INFO))
        return b64encode(nonce + cipher.encrypt(nonce, text.encode("ascii"), bound)).decode("ascii")

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
    data_keys: "IDataKeys | None" = None
    """What its key is put under when it is recorded; None: that was done, under a customer's."""
    part_number: int = WHOLE

    def __repr__(self) -> str:
        return "<the encryption of an object>"

    @property
    def shows_md5(self) -> bool:
        """Whether the ETag is the MD5 of what the client sends (as S3 has it where it keeps the key), and not of what is stored."""
        return self.data_keys is not None

    def new_header(self) -> bytes:
        """Return the header of another piece."""
        return new_header(self.random.randbytes(SALT_BYTES), self.key.chunk_bytes, self.part_number)

    def recorded(self, bucket: str, key: bytes, encryption: Encryption, *, etag: str = "") -> Encryption:
        """
        Return how the object's encryption is recorded.

        :param encryption: with the sizes that it came to
        :param etag: of an object; an upload has none yet
        """
        if self.data_keys is None:
            return encryption
        wrapped = self.data_keys.wrap(self.key.secret, encryption.bound_to(bucket, key))
        return encryption._replace(
            wrapped_key=wrapped.text,
            master_key=wrapped.master_key,
            sealed_etag=self.key.sealed_etag(etag, self.random) if etag else "",
        )

    def sealed_checksum(self, checksum: Checksum) -> Checksum:
        """Return a checksum as it is recorded."""
        return self.key.sealed_checksum(checksum, self.random)

    def sealed_digests(self, digests: Sequence[bytes]) -> bytes:
        """Return digests of parts as they are recorded."""
        return self.key.sealed_digests(digests, self.random)

    def stored_bytes(self, plain_bytes: int) -> int:
        """Return how long a piece of so many bytes becomes."""
        return stored_bytes(plain_bytes, self.key.chunk_bytes)


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
    if encryption.is_by_server:
        return MappingProxyType({SERVER_SIDE_ENCRYPTION: encryption.algorithm})
    return MappingProxyType(
        {
            CUSTOMER_KEY_PREFIX + "algorithm": encryption.algorithm,
            CUSTOMER_KEY_PREFIX + "key-MD5": encryption.key_md5,
        }
    )
