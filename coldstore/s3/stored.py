"""What a writer says about an object beside its bytes: which of it is kept, and how it is shown again."""

import re
from collections.abc import Mapping
from email.header import Header
from email.utils import formatdate
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from coldstore.model.locks import UNLOCKED, Lock
from coldstore.model.objects import (
    Bucket,
    ObjectVersion,
    Pairs,
    RestorePhase,
    StorageClass,
    VersionFacts,
)
from coldstore.plan.classes import ClassRules
from coldstore.s3.acl_fields import Owned, with_grants
from coldstore.s3.body import stored_content_encoding
from coldstore.s3.errors import S3Error, shown
from coldstore.s3.fields import USER_METADATA_PREFIX, HeaderFields, Query
from coldstore.s3.locks import written_lock
from coldstore.s3.tags import header_tags, with_tags

DEFAULT_CONTENT_TYPE = "binary/octet-stream"
STORED_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "cache-control": "Cache-Control",
        "content-disposition": "Content-Disposition",
        "content-encoding": "Content-Encoding",
        "content-language": "Content-Language",
        "content-type": "Content-Type",
        "expires": "Expires",
    }
)
"""System headers that are kept, and how they are written in an answer."""
_OVERRIDES = MappingProxyType({f"response-{name}": shown for name, shown in STORED_HEADERS.items()})
_TOKEN = re.compile(r"[0-9a-z!#$%&'*+.^_`|~-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class Description(NamedTuple):
    """What is kept of a writer's headers; the tags and the grants that he gives are among ``headers``. ``owner_id``: whose the object is."""

    owner_id: str
    storage_class: StorageClass
    headers: Pairs
    user_metadata: Pairs
    lock: Lock = UNLOCKED


def description(
    headers: HeaderFields, bucket: Bucket, rules: ClassRules, owned: Owned, *, now: float
) -> Description:
    """
    Read what a writer says of a new object.

    :param owned: whose it is, and what his ACL says
    :param now: no retention ends before
    :raise S3Error: InvalidStorageClass, MetadataTooLarge, InvalidArgument, InvalidTag
    """
    return Description(
        storage_class=storage_class(headers, bucket, rules),
        owner_id=owned.owner_id,
        headers=with_grants(with_tags(stored_headers(headers), header_tags(headers)), owned.fields),
        user_metadata=user_metadata(headers),
        lock=written_lock(headers, now=now),
    )


def storage_class(headers: HeaderFields, bucket: Bucket, rules: ClassRules) -> StorageClass:
    """
    Return the class of a new object: as asked for, else the bucket's default, else STANDARD.

    :raise S3Error: InvalidStorageClass
    """
    asked = headers.get("x-amz-storage-class")
    if asked is None:
        return bucket.default_class or StorageClass.STANDARD
    return known_class(asked, rules)


def known_class(name: str, rules: ClassRules) -> StorageClass:
    """
    Return the class of that name.

    :raise S3Error: InvalidStorageClass for names that are unknown or not configured
    """
    try:
        found = StorageClass(name.strip())
    except ValueError:
        found = None
    if found is None or found not in rules:
        known = ", ".join(each.value for each in StorageClass if each in rules)
        raise S3Error(
            "InvalidStorageClass",
            f"The storage class you specified is not valid: {shown(name)}; there are {known}.",
            details={"StorageClassRequested": name},
        )
    return found


def stored_headers(headers: HeaderFields) -> Pairs:
    """
    Return the system headers that are kept, sorted by name.

    :raise S3Error: InvalidArgument for values that no header can carry
    """
    kept = {"content-type": DEFAULT_CONTENT_TYPE}
    for name in STORED_HEADERS:
        value = headers.get(name)
        if name == "content-encoding":
            value = stored_content_encoding(value)
        if value is not None and value.strip():
            kept[name] = _sendable(name, value.strip())
    return tuple(sorted(kept.items()))


def user_metadata(headers: HeaderFields) -> Pairs:
    """
    Return the user's metadata without prefix, sorted by name.

    :raise S3Error: MetadataTooLarge; InvalidArgument for names or values that no header can carry
    """
    pairs = []
    for name, value in headers.user_metadata():
        if not _TOKEN.fullmatch(name):
            raise S3Error(
                "InvalidArgument",
                f"The name of a metadata header holds characters that header names cannot have: {shown(name)}",
                details={"ArgumentName": USER_METADATA_PREFIX + name},
            )
        pairs.append((name, _sendable(USER_METADATA_PREFIX + name, value.strip())))
    return tuple(pairs)


def shown_headers(facts: VersionFacts) -> dict[str, str]:
    """Return the header fields that describe a version's bytes: those kept, and ETag, Last-Modified, Accept-Ranges."""
    return {
        "Accept-Ranges": "bytes",
        "ETag": quoted(facts.etag),
        "Last-Modified": http_date(facts.created_at),
        # Tags and grants stand there as well.
        **{STORED_HEADERS[name]: value for name, value in facts.headers if name in STORED_HEADERS},
        **{USER_METADATA_PREFIX + name: mail_safe(value) for name, value in facts.user_metadata},
        **class_header(facts.storage_class),
    }


def class_header(name: StorageClass) -> dict[str, str]:
    """Return the field that names a class; STANDARD is never named."""
    return {} if name is StorageClass.STANDARD else {"x-amz-storage-class": name.value}


def restore_header(version: ObjectVersion, now: float) -> dict[str, str]:
    """Return ``x-amz-restore`` as S3 writes it; nothing without a restore and once the copy's time is over."""
    restore = version.restore
    if restore is None:
        return {}
    if restore.phase is RestorePhase.ONGOING:
        return {"x-amz-restore": 'ongoing-request="true"'}
    if restore.expires_at is None or restore.expires_at <= now:
        return {}
    return {"x-amz-restore": f'ongoing-request="false", expiry-date="{http_date(restore.expires_at)}"'}


def overridden(query: Query) -> dict[str, str]:
    """
    Return the header fields that a reader wants to be other than those kept (``response-content-type`` and so on).

    :raise S3Error: InvalidArgument for values that no header can carry
    """
    if not len(query):
        return {}
    return {
        shown: _sendable(name, query.one(name) or "")
        for name, shown in _OVERRIDES.items()
        if query.one(name) is not None
    }


def quoted(etag: str) -> str:
    """Return an ETag as it is shown."""
    return f'"{etag}"'


def http_date(at: float) -> str:
    """Return unix seconds as header fields write times (IMF-fixdate)."""
    return _http_date(int(at))


@lru_cache(maxsize=1024)
def _http_date(at: int) -> str:
    return formatdate(at, usegmt=True)


def mail_safe(value: str) -> str:
    """Return a metadata value as S3 sends it: ASCII as it is, anything else as words of RFC 2047."""
    if value.isascii():
        return value
    return Header(value, "utf-8", maxlinelen=10_000).encode(maxlinelen=0)


def _sendable(name: str, value: str) -> str:
    if _CONTROL.search(value):
        raise S3Error(
            "InvalidArgument",
            f"A header value holds control characters: that of {name}.",
            details={"ArgumentName": name},
        )
    return value
