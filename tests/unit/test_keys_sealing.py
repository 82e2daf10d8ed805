"""Encrypting secrets."""

from base64 import b64decode, b64encode

from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.keyring import SecretUnreadable
from coldstore.keys.sealing import MasterSecret, id_in, id_of

KEY = bytes(range(32))
NONCE = bytes(range(100, 112))


class SealingTests(SynchronousTestCase):
    """``MasterSecret``."""

    def setUp(self) -> None:
        """Have a key."""
        self.master = MasterSecret(KEY)

    def test_there_and_back(self) -> None:
        """What was sealed for an access key is unsealed for it; secrets may be any text."""
        for secret in ("secret", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "s\u00e4cret \N{SNOWMAN}", ""):
            sealed = self.master.seal(access_key="AK", secret_key=secret, nonce=NONCE)
            self.assertEqual(self.master.unseal(access_key="AK", sealed=sealed), secret)
            if secret:
                self.assertNotIn(secret, sealed)

    def test_form(self) -> None:
        """What is recorded is what the format says, for as long as stores are to be read."""
        sealed = self.master.seal(access_key="AK", secret_key="secret", nonce=NONCE)
        key_id, _, text = sealed.partition(":")
        self.assertEqual(
            self.master.check_value, "9de9f1f01879d6523712472e47ab6d8d7c11aa2ebbcb4d457b722979d60c3103"
        )
        self.assertEqual((key_id, key_id), (self.master.key_id, self.master.check_value[:16]))
        self.assertEqual((id_in(sealed), id_of(self.master.check_value)), (key_id, key_id))
        raw = b64decode(text)
        self.assertEqual((raw[:12], len(raw)), (NONCE, 12 + len("secret") + 16))

    def test_bound_to_the_access_key(self) -> None:
        """What was sealed for one access key is refused for another one."""
        sealed = self.master.seal(access_key="AK", secret_key="secret", nonce=NONCE)
        with self.assertRaises(SecretUnreadable) as refused:
            self.master.unseal(access_key="AK2", sealed=sealed)
        self.assertIn("AK2", str(refused.exception))

    def test_altered(self) -> None:
        """Every changed bit is noticed, and whatever is no sealed secret at all."""
        sealed = self.master.seal(access_key="AK", secret_key="secret", nonce=NONCE)
        key_id, _, text = sealed.partition(":")
        raw = b64decode(text)
        for place in range(len(raw)):
            changed = bytearray(raw)
            changed[place] ^= 1
            with self.assertRaises(SecretUnreadable):
                self.master.unseal(access_key="AK", sealed=f"{key_id}:{b64encode(changed).decode()}")
        for nothing in ("", ":", key_id, f"{key_id}:", f"{key_id}:!", f"{key_id}:AAAA", f"0:{text}", text):
            with self.assertRaises(SecretUnreadable):
                self.master.unseal(access_key="AK", sealed=nothing)

    def test_another_key(self) -> None:
        """Another key has another id, and unseals nothing."""
        other = MasterSecret(bytes(32))
        self.assertNotEqual(other.key_id, self.master.key_id)
        sealed = self.master.seal(access_key="AK", secret_key="secret", nonce=NONCE)
        with self.assertRaises(SecretUnreadable):
            other.unseal(access_key="AK", sealed=sealed)
        # Nor when it is told to be the one.
        with self.assertRaises(SecretUnreadable):
            other.unseal(access_key="AK", sealed=sealed.replace(self.master.key_id, other.key_id))

    def test_says_nothing(self) -> None:
        """A key of another length is none, and no key shows in what a log would show of it."""
        for length in (0, 16, 31, 33):
            with self.assertRaises(ValueError):
                MasterSecret(bytes(length))
        self.assertEqual(repr(self.master), f"<master key {self.master.key_id}>")
