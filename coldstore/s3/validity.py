"""When a signature counts: how requests tell their time, and how far it may be from ours."""

import re
from calendar import timegm
from datetime import UTC, datetime
from email.utils import parsedate_tz
from functools import lru_cache

from coldstore.s3.errors import S3Error, shown
from coldstore.s3.fields import HeaderFields

SKEW_LIMIT_SECONDS = 15 * 60
_LAST_SECOND = 253_402_300_799
"""The end of the year 9999, after which dates cannot be told."""
TIMESTAMP_LENGTH = len("YYYYMMDDTHHMMSSZ")
_TIMESTAMP = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z", re.ASCII)


def time_of_headers(headers: HeaderFields) -> tuple[str, float]:
    """
    Return the time of a request as it is signed and in unix seconds, from ``x-amz-date`` or ``Date``.

    :raise S3Error: AccessDenied
    """
    sent = headers.get("x-amz-date" if "x-amz-date" in headers else "date") or ""
    seconds = unix_seconds(sent)
    if seconds is None:
        read = parsedate_tz(sent) if sent else None
        if read is None:
            raise _no_date(sent)
        try:
            seconds = float(timegm((*read[:6], 0, 0, 0)) - (read[9] or 0))
            sent = datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%dT%H%M%SZ")
        except (ValueError, OverflowError, OSError):
            raise _no_date(sent) from None
    if seconds < 0:
        raise _no_date(sent)
    return sent, seconds


def _no_date(sent: str) -> S3Error:
    return S3Error(
        "AccessDenied",
        "AWS authentication requires a valid Date or x-amz-date header, and "
        + (f"{shown(sent)} is no date." if sent else "there is none."),
    )


def unix_seconds(timestamp: str) -> float | None:
    """Return the time of YYYYMMDDTHHMMSSZ, None for anything else."""
    return _read_timestamp(timestamp) if len(timestamp) == TIMESTAMP_LENGTH else None


@lru_cache(maxsize=1024)
def _read_timestamp(timestamp: str) -> float | None:
    match = _TIMESTAMP.fullmatch(timestamp)
    if match is None:
        return None
    try:
        return datetime(*(int(part) for part in match.groups()), tzinfo=UTC).timestamp()  # type: ignore[misc, arg-type]
    except ValueError:
        return None


def _told(at: float) -> str:
    told = datetime.fromtimestamp(min(int(at), _LAST_SECOND), UTC)
    return told.replace(tzinfo=None).isoformat() + "Z"


def require_recent(requested_at: float, *, now: float) -> None:
    """
    Let a request pass that was made about now.

    :raise S3Error: RequestTimeTooSkewed
    """
    if abs(now - requested_at) > SKEW_LIMIT_SECONDS:
        raise S3Error(
            "RequestTimeTooSkewed",
            f"The difference between the request time ({_told(requested_at)}) and the current time ({_told(now)}) is "
            f"too large: it may be {SKEW_LIMIT_SECONDS} seconds. Set the client's clock.",
            details={
                "RequestTime": _told(requested_at),
                "ServerTime": _told(now),
                "MaxAllowedSkewMilliseconds": str(SKEW_LIMIT_SECONDS * 1000),
            },
        )


def require_alive(begins_at: float | None, ends_at: float, *, now: float, details: dict[str, str]) -> None:
    """
    Let a presigned URL pass, neither before its time nor after it.

    :raise S3Error: AccessDenied
    """
    if begins_at is not None and begins_at > now + SKEW_LIMIT_SECONDS:
        raise S3Error(
            "AccessDenied",
            f"Request is not valid yet: its time is {_told(begins_at)}, and here it is {_told(now)}.",
            details={**details, "Expires": _told(ends_at), "ServerTime": _told(now)},
        )
    if now > ends_at:
        raise S3Error(
            "AccessDenied",
            f"Request has expired: it ended at {_told(ends_at)}, and here it is {_told(now)}.",
            details={**details, "Expires": _told(ends_at), "ServerTime": _told(now)},
        )
