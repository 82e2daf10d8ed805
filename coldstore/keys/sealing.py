"""
Encrypting a secret for one access key, and undoing it.

A sealed secret is ``ID:TEXT``: the first 16 hexadecimal digits of the master key's check value, and the base64 of a nonce of 12 bytes
and what AES-256-GCM (NIST SP 800-38D) makes of the secret in UTF-8, its tag of 16 bytes included. The access key in UTF-8 is the
associated data, so what is sealed for one cannot be put in the place of another. Nonces are random: at one use for each change of
a secret, 2^32 under one key are out of reach.
"""

import hmac
from base64 import b64decode, b64encode

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from coldstore.interfaces.keyring import SecretUnreadable

KEY_BYTES = 32
NONCE_BYTES = 12
ID_DIGITS = 16
_CHECK = b"coldstore master key: check value"


def id_of(check_value: str) -> str:
    """Return the id of the master key with a check value."""
    return check_value[:ID_DIGITS]


def id_in(sealed: str) -> str:
    """Return the id of the master key that something is sealed under."""
    return sealed.partition(":")[0]


class MasterSecret:
    """
    A master key.

    :ivar check_value: HMAC-SHA256 of a fixed text, in hex: the same for the same key, and nothing to find it by
    :ivar key_id: the beginning of that
    """

    def __init__(self, key: bytes) -> None:
        """:raise ValueError: it does not have 32 bytes"""
        if len(key) != KEY_BYTES:
            raise ValueError(f"a master key has {KEY_BYTES} bytes, and not {len(key)}")
        self.key = key
        self.check_value = hmac.digest(key, _CHECK, "sha256").hex()
        self.key_id = id_of(self.check_value)
        self._cipher = AESGCM(key)

    def __repr__(self) -> str:
        return f"<master key {self.key_id}>"

    def seal(self, *, access_key: str, secret_key: str, nonce: bytes) -> str:
        """
        Encrypt a secret.

        :param nonce: 12 bytes that were never used with this master key
        """
        sealed = self._cipher.encrypt(nonce, secret_key.encode("utf-8"), access_key.encode("utf-8"))
        return f"{self.key_id}:{b64encode(nonce + sealed).decode('ascii')}"

    def unseal(self, *, access_key: str, sealed: str) -> str:
        """
        Return a secret.

        :raise SecretUnreadable: it was not sealed for this access key under this master key, or was altered
        """
        key_id, _, text = sealed.partition(":")
        try:
            raw = b64decode(text, validate=True)
            if key_id != self.key_id or len(raw) < NONCE_BYTES:
                raise ValueError(key_id)
            secret = self._cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], access_key.encode("utf-8"))
        except (ValueError, InvalidTag):
            raise SecretUnreadable(f"the secret of {access_key} is not what was encrypted for it") from None
        return secret.decode("utf-8")
