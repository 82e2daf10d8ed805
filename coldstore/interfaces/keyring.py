"""Secrets of access keys: encrypted wherever they are kept, in the clear only in memory."""

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from coldstore.model.keys import Signer


class IKeyring(Interface):
    """Holds the master key."""

    key_id = Attribute("What tells the master key from others, in hexadecimal digits; no secret.")
    key_file = Attribute("The path of the file that it is in.")

    def look_up(access_key: str) -> Deferred[Signer | None]:
        """
        Return who signs with an access key, None when nobody does; fails with ``MetadataUnavailable``, and with ``SecretUnreadable``
        when what is recorded is not what was encrypted.
        """

    def seal(*, access_key: str, secret_key: str) -> str:
        """Return a secret as it is to be recorded for this access key, and for no other."""

    def rotate() -> Deferred[int]:
        """
        Make a new master key and encrypt all secrets under it; return how many. Requests are served meanwhile, whichever key the
        secret of theirs is under. When it is broken off, the next start goes on with it. Fails with ``KeyFileFault`` when the file
        cannot be written (nothing was changed then), and with ``Conflict`` while it is going on already.
        """


class KeyFileFault(OSError):
    """The master key cannot be had, or not be kept; says what to do."""


class SecretUnreadable(Exception):
    """What is recorded as a secret is not what was encrypted for this access key."""
