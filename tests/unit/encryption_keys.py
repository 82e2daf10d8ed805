"""Keys as customers bring them."""

from base64 import b64encode
from hashlib import md5

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
