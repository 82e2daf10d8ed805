"""Keys of data: objects that the appliance encrypts itself (SSE-S3) have keys of their own, and those are encrypted under these."""

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from coldstore.model.datakeys import DataKeyState
from coldstore.model.objects import WrappedKey


class IDataKeys(Interface):
    """Holds the keys of data, all that ever were. None leaves it but in an export."""

    key_file = Attribute("The path of the file that they are in.")

    def ready() -> Deferred[None]:
        """
        Fire when there is a key to encrypt new objects under; the first time that it is asked it is made. Fails with
        ``DataKeyMissing`` when keys that the record names are not here and there is none to use, or the first one cannot be
        kept, and with ``MetadataUnavailable``.
        """

    def wrap(content_key: bytes, bound: bytes) -> WrappedKey:
        """Return the key of an object under the one in use; once ``ready`` has fired. ``bound``: where alone it opens."""

    def unwrap(wrapped: WrappedKey, bound: bytes) -> bytes:
        """Undo ``wrap``; raises ``DataKeyMissing``, and ``DataKeyMismatch`` when it is not what was wrapped there."""

    def rewrapped(wrapped: WrappedKey, bound: bytes) -> WrappedKey:
        """Return the same key under the one in use; raises as ``unwrap``."""

    def in_use() -> str | None:
        """Return the id of the key that new objects are encrypted under; None when there is none."""

    def rotate() -> Deferred[str]:
        """
        Make a new key, and use it from now on; return its id. The others are kept for ever. Fails with ``Conflict`` while keys
        are missing, or while it is going on, and with ``KeyFileFault`` when the file cannot be written: nothing was changed then.
        """

    def states() -> Deferred[Sequence[DataKeyState]]:
        """Return how things stand with all keys, the oldest first."""

    def ids() -> Sequence[str]:
        """Return the ids of the keys that are here, the oldest first."""

    def text() -> str:
        """Return all keys as the text of a file for the safe; raises ``DataKeyMissing`` when there is none."""

    def note_exported(key_ids: Sequence[str]) -> Deferred[None]:
        """Record that keys are in the safe."""

    def restore(text: str) -> Deferred[Sequence[str]]:
        """
        Take the keys of an export in, beside those that are here; return the ids of those that were not. Fails with ``ValueError``
        when it is none or was altered, and with ``KeyFileFault``: nothing was changed then.
        """


class DataKeyMismatch(Exception):
    """What is recorded as the key of an object is not what was encrypted for it."""
