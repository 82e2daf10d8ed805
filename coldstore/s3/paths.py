"""
What a request target names: the raw bytes of the request line taken apart by S3's rules and by nothing else.

Keys are opaque: ``a//b``, ``/a``, ``a/``, ``.`` and ``..`` are all different keys, and ``%2F`` is a slash of the key, so
the path is never normalised and is decoded exactly once (S3 User Guide, "Naming Amazon S3 objects").
"""

from collections.abc import Sequence
from typing import NamedTuple

from coldstore.s3.api import Target
from coldstore.s3.errors import S3Error
from coldstore.s3.fields import Query, percent_decoded

KEY_LIMIT_BYTES = 1024


class Address(NamedTuple):
    """
    What a request is about.

    ``raw_path`` is the path as sent, ``decoded_path`` the same after decoding once, as signatures cover it;
    ``raw_resource`` is the raw path with the bucket in front even when the host names the bucket.
    """

    target: Target
    bucket: str | None
    key: bytes | None
    query: Query
    raw_path: bytes
    decoded_path: bytes
    raw_resource: bytes


def address_of(raw_target: bytes, host: str | None, domains: Sequence[str]) -> Address:
    """
    Take a request target apart.

    :param raw_target: the second word of the request line; the absolute form that proxies get is accepted too
    :param host: value of the Host field
    :param domains: names of this endpoint under which ``bucket.name`` addresses a bucket, lower case
    :raise S3Error: InvalidURI for escapes that are none, for bytes that are not UTF-8 and for a missing bucket name;
        KeyTooLongError for keys over 1024 bytes
    """
    authority, raw_target = _without_authority(raw_target)
    raw_path, _, raw_query = raw_target.partition(b"?")
    if not raw_path.startswith(b"/"):
        raise S3Error("InvalidURI", "Couldn't parse the specified URI: it does not begin with a slash.")
    bucket = _bucket_of_host(authority or host, domains)
    if bucket is None:
        raw_bucket, _, raw_key = raw_path[1:].partition(b"/")
        if not raw_bucket and raw_key:
            raise S3Error("InvalidURI", "The path begins with an empty bucket name.")
        bucket = _utf8(percent_decoded(raw_bucket)) or None
        raw_resource = raw_path
    else:
        raw_key = raw_path[1:]
        raw_resource = b"/" + bucket.encode("utf-8") + raw_path
    key = percent_decoded(raw_key) or None
    if key is not None:
        _utf8(key)
        if len(key) > KEY_LIMIT_BYTES:
            raise key_too_long(key)
    return Address(
        target=Target.SERVICE if bucket is None else Target.BUCKET if key is None else Target.OBJECT,
        bucket=bucket,
        key=key,
        query=Query.parse(raw_query),
        raw_path=raw_path,
        decoded_path=percent_decoded(raw_path),
        raw_resource=raw_resource,
    )


def key_too_long(key: bytes) -> S3Error:
    """Return the refusal of a key over the limit."""
    return S3Error(
        "KeyTooLongError",
        f"Your key is too long: it has {len(key)} bytes, and may have {KEY_LIMIT_BYTES}.",
        details={"Size": str(len(key)), "MaxSizeAllowed": str(KEY_LIMIT_BYTES)},
    )


def _without_authority(raw_target: bytes) -> tuple[str | None, bytes]:
    """Split ``http://host/path`` into host and path; targets in the usual form are left alone."""
    for scheme in (b"http://", b"https://"):
        if raw_target[: len(scheme)].lower() == scheme:
            rest = raw_target[len(scheme) :]
            end = min((position for mark in b"/?" if (position := rest.find(mark)) >= 0), default=len(rest))
            tail = rest[end:]
            return rest[:end].decode("latin-1"), tail if tail.startswith(b"/") else b"/" + tail
    return None, raw_target


def _bucket_of_host(host: str | None, domains: Sequence[str]) -> str | None:
    if host is None or not domains:
        return None
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    name = name.lower()
    if name in domains:
        return None
    # The longest domain decides, should one be a part of another.
    for domain in sorted(domains, key=len, reverse=True):
        if name.endswith("." + domain):
            return name.removesuffix("." + domain)
    return None


def _utf8(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise S3Error("InvalidURI", "Couldn't parse the specified URI: its path is not UTF-8.") from None
