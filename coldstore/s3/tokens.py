"""Continuation tokens: where the next page of a listing begins, in a form that clients pass on unread."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error

from coldstore.util.checksums import crc32


def token_of(position: bytes) -> str:
    """Return a continuation token for the page behind ``position``."""
    return urlsafe_b64encode(crc32(position).to_bytes(4, "big") + position).decode("ascii")


def position_of(token: str) -> bytes:
    """
    Return the position that a token of ours holds.

    :raise ValueError: for anything else
    """
    try:
        content = urlsafe_b64decode(token.encode("ascii"))
    except (Base64Error, ValueError):
        raise ValueError("not a token") from None
    if (
        len(content) < 5
        or crc32(content[4:]).to_bytes(4, "big") != content[:4]
        or token_of(content[4:]) != token
    ):
        raise ValueError("not a token")
    return content[4:]
