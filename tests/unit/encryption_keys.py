"""Keys as customers bring them, and keys of data in memory."""

from base64 import b64encode
from hashlib import md5
from random import Random

from twisted.internet.defer import Deferred

from coldstore.interfaces.metadata import IMetadataStore
from coldstore.keys.datafile import DataKeySet
from coldstore.keys.dataring import DataKeyring
from tests.unit.s3_wire import run_here

CUSTOMER = "x-amz-server-side-encryption-customer-"
SOURCE = "x-amz-copy-source-server-side-encryption-customer-"
KEY = bytes(range(32))
OTHER_KEY = bytes(range(1, 33))


def base64_of(raw: bytes) -> str:
    """Return base64 text."""
    return b64encode(raw).decode()


def key_headers(secret: bytes = KEY, beginning: str = CUSTOMER, **changes: str | None) -> dict[str, str]:
    """Return the fields that bring a key; changes by the ends of names, ``_`` for ``-``, None: without that one."""
    values: dict[str, str | None] = {
        "algorithm": "AES256",
        "key": base64_of(secret),
        "key-md5": base64_of(md5(secret).digest()),
    }
    values |= {name.replace("_", "-"): value for name, value in changes.items()}
    return {beginning + name: value for name, value in values.items() if value is not None}


class MemoryKeyFile:
    """See ``IsDataKeyFile``."""

    path = "/state/data.keys"

    def __init__(self) -> None:
        self.keys: DataKeySet | None = None
        self.fault: Exception | None = None
        """What keeps it from being written."""

    def read(self) -> DataKeySet | None:
        """See ``IsDataKeyFile``."""
        return self.keys

    def write(self, keys: DataKeySet) -> None:
        """See ``IsDataKeyFile``."""
        if self.fault is not None:
            raise self.fault
        self.keys = keys


def data_keyring(store: IMetadataStore, file: MemoryKeyFile | None = None) -> DataKeyring:
    """Return an open one over a store that answers at once."""
    ring = DataKeyring(
        store=store,
        file=MemoryKeyFile() if file is None else file,
        seconds=lambda: 1000.0,
        random_bytes=Random(21).randbytes,
        in_thread=run_here,
    )
    Deferred.fromCoroutine(ring.open())
    return ring
