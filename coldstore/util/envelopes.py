"""
Keys under keys: what encrypts many bytes is recorded encrypted itself, under the key of whoever may read them.

Each is wrapped under a key of its own, made from the outer one and a salt (HKDF with SHA-256, RFC 5869), by AES-256-GCM (NIST
SP 800-38D); so its nonce may be zeros, and there is no limit to how many one outer key wraps. What it is bound to is the associated
data: elsewhere it does not open.
"""

from base64 import b64decode, b64encode

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
NONCE_BYTES = 12
SALT_BYTES = 32
_NO_NONCE = bytes(NONCE_BYTES)
"""Of keys that seal one text only."""


def derived_key(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """Return a key for AES-256 (HKDF with SHA-256, RFC 5869)."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=info).derive(secret)


def wrapped(secret: bytes, content_key: bytes, *, salt: bytes, info: bytes, bound: bytes) -> str:
    """
    Return a key under another one, in base64: the salt, then what is encrypted.

    :param salt: of ``SALT_BYTES``, new each time
    :param info: says what it is for; different for each use that ``secret`` is put to
    """
    cipher = AESGCM(derived_key(secret, salt, info))
    return b64encode(salt + cipher.encrypt(_NO_NONCE, content_key, bound)).decode("ascii")


def unwrapped(secret: bytes, text: str, *, info: bytes, bound: bytes) -> bytes | None:
    """Undo ``wrapped``; None when it was another key, or is bound to something else, or was altered."""
    try:
        raw = b64decode(text, validate=True)
        cipher = AESGCM(derived_key(secret, raw[:SALT_BYTES], info))
        return cipher.decrypt(_NO_NONCE, raw[SALT_BYTES:], bound)
    except (InvalidTag, ValueError):
        return None
