"""
Object lock as S3 writes it: the documents of buckets and objects, and the header fields of both directions. Pure.

Source: API Reference, PutObjectLockConfiguration, PutObjectRetention, PutObjectLegalHold, PutObject; S3 User Guide, "Locking objects with
Object Lock".
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from coldstore.model.locks import UNLOCKED, BucketLock, DefaultRetention, Lock, LockMode, Retention
from coldstore.plan.lock import in_milliseconds
from coldstore.plan.messages import iso_time
from coldstore.s3.errors import S3Error, shown
from coldstore.s3.fields import HeaderFields
from coldstore.s3.xml import Element, MalformedDocument, Node, node, read_document

LOCK_PREFIX = "x-amz-object-lock-"
MODE, UNTIL, LEGAL_HOLD = (LOCK_PREFIX + name for name in ("mode", "retain-until-date", "legal-hold"))
LOCK_HEADERS = frozenset({MODE, UNTIL, LEGAL_HOLD})
"""Header fields of an object, written and read."""
BUCKET_HEADER = "x-amz-bucket-object-lock-enabled"
BYPASS_HEADER = "x-amz-bypass-governance-retention"
DAYS_MAX, YEARS_MAX = 36_500, 100
_LATEST = datetime(9999, 12, 31, tzinfo=UTC).timestamp()
"""No date behind this one can be shown in every zone."""
_NUMBER = re.compile(r"-?[0-9]{1,9}")
_HOLDS = {"ON": True, "OFF": False}


# ── of buckets ──────────────────────────────────────────────────────────────────────────────────────────────────────


def bucket_lock(headers: HeaderFields) -> BucketLock | None:
    """
    Return what the creator of a bucket wants: that it takes locks, or (None) not.

    :raise S3Error: InvalidArgument
    """
    value = headers.get(BUCKET_HEADER)
    if value is None or value.lower() == "false":
        return None
    if value.lower() != "true":
        raise _invalid(BUCKET_HEADER, value, f"{BUCKET_HEADER} is true or false, and not {shown(value)}")
    return BucketLock()


def parse_configuration(document: bytes) -> BucketLock:
    """
    Read an ObjectLockConfiguration.

    :raise S3Error: InvalidArgument for a period that is none
    :raise MalformedDocument: for anything that is no such document
    """
    root = read_document(document, "ObjectLockConfiguration")
    if (root.text_of("ObjectLockEnabled") or "").strip() != "Enabled":
        raise MalformedDocument("ObjectLockEnabled is not Enabled")
    rule = root.one("Rule")
    if rule is None:
        return BucketLock()
    default = rule.one("DefaultRetention")
    if default is None:
        raise MalformedDocument("Rule has no DefaultRetention")
    days, years = _period(default, "Days", DAYS_MAX), _period(default, "Years", YEARS_MAX)
    if (days is None) == (years is None):
        raise MalformedDocument("DefaultRetention needs either Days or Years, one of the two")
    return BucketLock(DefaultRetention(_mode(default), days or 0, years or 0))


def configuration_node(lock: BucketLock) -> Node:
    """Return the document of what a bucket has."""
    default = lock.default
    return node(
        "ObjectLockConfiguration",
        node("ObjectLockEnabled", "Enabled"),
        None
        if default is None
        else node(
            "Rule",
            node(
                "DefaultRetention",
                node("Mode", default.mode.value),
                node("Days", default.days) if default.days else node("Years", default.years),
            ),
        ),
    )


def _period(default: Element, name: str, most: int) -> int | None:
    text = default.text_of(name)
    if text is None:
        return None
    if not _NUMBER.fullmatch(text.strip()):
        raise MalformedDocument(f"{name} is no whole number")
    number = int(text)
    if number < 1:
        raise _invalid(name, text, f"Default retention period must be a positive integer value: {name}")
    if number > most:
        raise _invalid(name, text, f"Default retention period too large: {name} may be {most} at most")
    return number


# ── of objects ──────────────────────────────────────────────────────────────────────────────────────────────────────


def parse_retention(document: bytes, *, now: float) -> Retention | None:
    """
    Read a Retention; None for an empty one, which takes a retention away.

    :raise S3Error: InvalidArgument for a date that is past, or none
    :raise MalformedDocument: for anything that is no such document
    """
    root = read_document(document, "Retention")
    until = root.text_of("RetainUntilDate")
    if not root.children and not root.text.strip():
        return None
    if until is None:
        raise MalformedDocument("Retention has no RetainUntilDate")
    return Retention(_mode(root), _date("RetainUntilDate", until.strip(), now=now))


def retention_node(retention: Retention) -> Node:
    """Return the document of a retention."""
    return node(
        "Retention", node("Mode", retention.mode.value), node("RetainUntilDate", iso_time(retention.until))
    )


def parse_legal_hold(document: bytes) -> bool:
    """
    Read a LegalHold: whether it is on.

    :raise MalformedDocument: for anything that is no such document
    """
    status = (read_document(document, "LegalHold").text_of("Status") or "").strip()
    if status not in _HOLDS:
        raise MalformedDocument("Status is neither ON nor OFF")
    return _HOLDS[status]


def legal_hold_node(is_on: bool) -> Node:
    """Return the document of a legal hold."""
    return node("LegalHold", node("Status", _hold_text(is_on)))


def written_lock(headers: HeaderFields, *, now: float) -> Lock:
    """
    Return what a writer says of the lock of his object.

    :raise S3Error: InvalidArgument
    """
    if not headers.has_any(LOCK_HEADERS):
        return UNLOCKED
    mode, until, hold = (headers.get(name) for name in (MODE, UNTIL, LEGAL_HOLD))
    if (mode is None) != (until is None):
        missing = MODE if mode is None else UNTIL
        raise _invalid(missing, "", f"{UNTIL} and {MODE} must both be supplied")
    if hold is not None and hold not in _HOLDS:
        raise _invalid(LEGAL_HOLD, hold, f"Legal Hold must be either of 'ON' or 'OFF', and not {shown(hold)}")
    retention = None
    if mode is not None and until is not None:
        if mode not in set(LockMode):
            raise _invalid(MODE, mode, f"Unknown wormMode directive: {shown(mode)}")
        retention = Retention(LockMode(mode), _date(UNTIL, until, now=now))
    return Lock(retention, None if hold is None else _HOLDS[hold])


def shown_lock(lock: Lock) -> Mapping[str, str]:
    """Return the header fields that show a lock; nothing without one."""
    fields: dict[str, str] = {}
    if lock.retention is not None:
        fields = {MODE: lock.retention.mode.value, UNTIL: iso_time(lock.retention.until)}
    if lock.legal_hold is not None:
        fields[LEGAL_HOLD] = _hold_text(lock.legal_hold)
    return fields


def wants_bypass(headers: HeaderFields) -> bool:
    """Whether a caller wants to bypass retentions of mode GOVERNANCE."""
    return (headers.get(BYPASS_HEADER) or "").strip().lower() == "true"


def locked(reason: str) -> S3Error:
    """Return the refusal to delete or to change what is under lock."""
    return S3Error("AccessDenied", f"Access Denied because object protected by object lock: {reason}.")


def missing_digest() -> S3Error:
    """Return the refusal of bytes that would be locked and may be others than those that were sent."""
    return S3Error(
        "InvalidRequest",
        "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters",
    )


def _mode(element: Element) -> LockMode:
    text = (element.text_of("Mode") or "").strip()
    if text not in set(LockMode):
        raise MalformedDocument(f"Mode is neither {' nor '.join(LockMode)}")
    return LockMode(text)


def _date(name: str, text: str, *, now: float) -> float:
    """Return unix seconds of a date as ISO 8601 has it; one that names no zone is of UTC."""
    try:
        date = datetime.fromisoformat(text)
        at = (date if date.tzinfo is not None else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise _invalid(
            name, text, f"The retain until date must be provided in ISO 8601 format: {shown(text)}"
        ) from None
    if at > _LATEST:
        raise _invalid(name, text, f"The retain until date is too far in the future: {shown(text)}")
    if at <= now:
        raise _invalid(name, text, f"The retain until date must be in the future! {shown(text)} is past")
    return in_milliseconds(at)


def _hold_text(is_on: bool) -> str:
    return "ON" if is_on else "OFF"


def _invalid(name: str, value: str, message: str) -> S3Error:
    return S3Error("InvalidArgument", message, details={"ArgumentName": name, "ArgumentValue": value})
