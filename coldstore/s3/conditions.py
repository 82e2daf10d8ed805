"""
Preconditions: which of them a request makes, and whether they hold.

Precedence of RFC 9110, section 13.2.2, as S3 documents it for GetObject and CopyObject: a true ``If-Match`` makes a
false ``If-Unmodified-Since`` irrelevant, and a false ``If-None-Match`` a true ``If-Modified-Since``.
"""

from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from coldstore.interfaces.metadata import WriteCondition
from coldstore.s3.errors import S3Error
from coldstore.s3.fields import HeaderFields

COPY_SOURCE = "x-amz-copy-source-"


class ReadConditions(NamedTuple):
    """
    What a reader demands. ETags are without quotes, ``*`` stands for any; times are unix seconds.

    A name that is absent, or a date that is none (RFC 9110 has it ignored), is None.
    """

    if_match: tuple[str, ...] | None = None
    if_none_match: tuple[str, ...] | None = None
    if_modified_since: float | None = None
    if_unmodified_since: float | None = None


UNCONDITIONAL = ReadConditions()
_READ_FIELDS = frozenset({"if-match", "if-none-match", "if-modified-since", "if-unmodified-since"})


def read_conditions(headers: HeaderFields, prefix: str = "") -> ReadConditions:
    """Return the conditions of a request; ``prefix`` is ``COPY_SOURCE`` for those about the source of a copy."""
    if not prefix and not headers.has_any(_READ_FIELDS):
        return UNCONDITIONAL
    return ReadConditions(
        if_match=_etags(headers.get(prefix + "if-match")),
        if_none_match=_etags(headers.get(prefix + "if-none-match")),
        if_modified_since=http_time(headers.get(prefix + "if-modified-since")),
        if_unmodified_since=http_time(headers.get(prefix + "if-unmodified-since")),
    )


def failed_condition(conditions: ReadConditions, *, etag: str, modified_at: float) -> str | None:
    """
    Return the name of the header whose condition does not hold, None when the read may go on.

    ``If-None-Match`` and ``If-Modified-Since`` mean "not modified" for a plain read. Times are compared in whole
    seconds, as ``Last-Modified`` shows them.
    """
    modified = int(modified_at)
    if conditions.if_match is not None:
        if not _matches(conditions.if_match, etag):
            return "If-Match"
    elif conditions.if_unmodified_since is not None and modified > conditions.if_unmodified_since:
        return "If-Unmodified-Since"
    if conditions.if_none_match is not None:
        if _matches(conditions.if_none_match, etag):
            return "If-None-Match"
    elif conditions.if_modified_since is not None and modified <= conditions.if_modified_since:
        return "If-Modified-Since"
    return None


def check_read(conditions: ReadConditions, *, etag: str, modified_at: float, shown: dict[str, str]) -> None:
    """
    Let a read pass whose conditions hold.

    :param shown: the header fields that a 304 repeats (ETag, Last-Modified)
    :raise S3Error: NotModified or PreconditionFailed
    """
    failed = failed_condition(conditions, etag=etag, modified_at=modified_at)
    if failed in ("If-None-Match", "If-Modified-Since"):
        raise S3Error("NotModified", headers=shown)
    if failed is not None:
        raise precondition_failed(failed)


def check_copy_source(conditions: ReadConditions, *, etag: str, modified_at: float) -> None:
    """
    Let a copy pass whose conditions on the source hold.

    :raise S3Error: PreconditionFailed, whichever it is
    """
    failed = failed_condition(conditions, etag=etag, modified_at=modified_at)
    if failed is not None:
        raise precondition_failed(COPY_SOURCE + failed)


def write_condition(headers: HeaderFields) -> WriteCondition | None:
    """
    Return what must hold of the key for a write to become visible, None for an unconditional write.

    An ETag in ``If-None-Match``, which S3 does not know for writes, means what RFC 9110 says: another one may be replaced.

    :raise S3Error: NotImplemented for other forms that S3 does not know for writes
    """
    if_match, if_none_match = headers.get("if-match"), headers.get("if-none-match")
    for name in ("if-modified-since", "if-unmodified-since"):
        if name in headers:
            raise _not_implemented(name)
    if if_none_match is not None and ("," in if_none_match or not if_none_match.strip()):
        raise _not_implemented("If-None-Match")
    if if_match is not None and if_none_match is not None:
        raise _not_implemented("If-Match")
    if if_match is None and if_none_match is None:
        return None
    return WriteCondition(if_none_match=_one_etag(if_none_match), if_match=_one_etag(if_match))


def delete_condition(headers: HeaderFields) -> str | None:
    """
    Return the ETag (or ``*``) that what is deleted must have, None without a condition.

    :raise S3Error: NotImplemented for conditions that only directory buckets know
    """
    for name in ("x-amz-if-match-last-modified-time", "x-amz-if-match-size", "if-none-match"):
        if name in headers:
            raise _not_implemented(name)
    return _one_etag(headers.get("if-match"))


def check_write(condition: WriteCondition | None, current_etag: str | None) -> None:
    """
    Refuse early what would be refused when it is published.

    :param current_etag: of what is under the key, None when nothing is
    :raise S3Error: PreconditionFailed; NoSuchKey for ``If-Match`` on a key that is not there
    """
    if condition is None:
        return
    if current_etag is not None and condition.if_none_match in ("*", current_etag):
        raise precondition_failed("If-None-Match")
    if condition.if_match is not None:
        if current_etag is None:
            raise S3Error(
                "NoSuchKey", "The specified key does not exist: there is nothing that If-Match could match."
            )
        if condition.if_match not in ("*", current_etag):
            raise precondition_failed("If-Match")


def precondition_failed(name: str) -> S3Error:
    """Return the refusal that names the condition which does not hold."""
    return S3Error(
        "PreconditionFailed",
        f"At least one of the pre-conditions you specified did not hold: {name}",
        details={"Condition": name},
    )


def matches_validator(validator: str, *, etag: str, modified_at: float) -> bool:
    """Whether ``If-Range`` (an ETag or a date, RFC 9110 section 13.1.5) names what is there, so that a range is wanted."""
    if validator.lstrip().startswith(('"', "W/")):
        return validator.strip() == f'"{etag}"'
    asked = http_time(validator)
    return asked is not None and asked == int(modified_at)


def http_time(value: str | None) -> float | None:
    """Return a header's date in unix seconds, None when it is absent or no date."""
    if value is None:
        return None
    try:
        parsed = parsedate_to_datetime(value)
        return (parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def unquoted(etag: str) -> str:
    """Return an ETag without quotes and without the mark of a weak one."""
    return etag.strip().removeprefix("W/").strip().strip('"')


def _etags(value: str | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(unquoted(item) for item in value.split(","))


def _one_etag(value: str | None) -> str | None:
    return None if value is None else unquoted(value)


def _matches(wanted: tuple[str, ...], etag: str) -> bool:
    return "*" in wanted or etag in wanted


def _not_implemented(name: str) -> S3Error:
    return S3Error(
        "NotImplemented",
        f"A header you provided implies functionality that is not implemented: {name}",
        details={"Header": name},
    )
