"""
The policy of a browser's form: what its signer lets the form say. Pure functions of its text.

Source: Amazon S3 API Reference, "Creating a POST policy" (and "POST policy" of Signature Version 2, which has the same form).
"""

import json
import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from coldstore.s3.errors import S3Error
from coldstore.s3.payload import CHECKSUM_PREFIX

SIZE_LIMIT = 2**63 - 1
_ALWAYS_ALLOWED = frozenset({"policy", "file", "x-amz-signature", "signature", "awsaccesskeyid", "bucket"})
"""Fields that no condition needs to name; ``bucket`` is not taken from the form but from the address."""
_ALWAYS_ALLOWED_PREFIXES = ("x-ignore-", CHECKSUM_PREFIX)
"""A checksum lets a form say no more than what it says without one: it can only have an upload refused."""
_EXPIRATION = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.\d{1,9})?(?:Z|\+00:00)", re.ASCII)
_ESCAPED_DOLLAR = re.compile(r"(?<!\\)((?:\\\\)*)\\\$")
"""``\\$``, which S3 knows in policies and JSON does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What one field must be: ``value``, or with ``is_prefix`` something that begins so. ``field`` is in lower case."""

    field: str
    value: str
    is_prefix: bool

    def holds(self, given: str) -> bool:
        """Tell whether a field's value is as demanded; of a list of content types each one must be."""
        if not self.is_prefix:
            return given == self.value
        values = given.split(",") if self.field == "content-type" else [given]
        return all(value.strip().startswith(self.value) for value in values)

    def __str__(self) -> str:
        return json.dumps(["starts-with" if self.is_prefix else "eq", f"${self.field}", self.value])


@dataclass(frozen=True, slots=True, kw_only=True)
class PostPolicy:
    """A policy. ``expires_at`` is in unix seconds; the limits are of the file's length and include both ends."""

    expires_at: float
    conditions: tuple[Condition, ...]
    least_bytes: int = 0
    most_bytes: int = SIZE_LIMIT

    def check_fields(self, fields: Mapping[str, str], *, bucket: str, now: float) -> None:
        """
        Let a form pass that keeps to the policy, whatever the length of its file.

        :param fields: by lower-case name, as they count: ``key`` with the file's name in it
        :raise S3Error: AccessDenied
        """
        if now >= self.expires_at:
            raise _denied("Policy expired.")
        given = {**fields, "bucket": bucket}
        for condition in self.conditions:
            if condition.field not in given or not condition.holds(given[condition.field]):
                raise _denied(f"Policy Condition failed: {condition}")
        named = {condition.field for condition in self.conditions}
        extra = sorted(name for name in given if name not in named and not _needs_no_condition(name))
        if "bucket" not in named:
            extra.append("bucket")
        if extra:
            raise _denied(f"Extra input fields: {', '.join(extra)}")


def parse_policy(text: str) -> PostPolicy:
    """
    Read the field ``policy``.

    :param text: base64 of JSON
    :raise S3Error: InvalidPolicyDocument
    """
    document = _json_of(text)
    if not isinstance(document, dict):
        raise _invalid("Invalid JSON: it is not an object.")
    unknown = sorted(set(document) - {"expiration", "conditions"})
    if unknown:
        raise _invalid(f"Unexpected: '{unknown[0]}'.")
    if "expiration" not in document:
        raise _invalid("Policy missing expiration.")
    if not isinstance(document.get("conditions"), list):
        raise _invalid("Policy missing conditions.")
    conditions: list[Condition] = []
    least_bytes, most_bytes = 0, SIZE_LIMIT
    for item in document["conditions"]:
        limits = _length_range(item)
        if limits is None:
            conditions.append(_condition(item))
        else:
            least_bytes, most_bytes = max(least_bytes, limits[0]), min(most_bytes, limits[1])
    return PostPolicy(
        expires_at=_time(document["expiration"]),
        conditions=tuple(conditions),
        least_bytes=least_bytes,
        most_bytes=most_bytes,
    )


def _needs_no_condition(name: str) -> bool:
    return name in _ALWAYS_ALLOWED or name.startswith(_ALWAYS_ALLOWED_PREFIXES)


def _json_of(text: str) -> Any:
    try:
        raw = b64decode("".join(text.split()), validate=True)
        return json.loads(_ESCAPED_DOLLAR.sub(r"\1$", raw.decode("utf-8")))
    except Base64Error:
        raise _invalid("Invalid base64 encoding.") from None
    except (ValueError, RecursionError):
        raise _invalid("Invalid JSON.") from None


def _time(text: object) -> float:
    found = _EXPIRATION.fullmatch(text) if isinstance(text, str) else None
    try:
        if found is not None:
            return datetime(*map(int, found.groups()), tzinfo=UTC).timestamp()  # type: ignore[misc, arg-type]
    except ValueError:
        pass
    raise _invalid(f"Invalid 'expiration' value: '{text}'")


def _length_range(item: object) -> tuple[int, int] | None:
    """Return least and most bytes, None for a condition of another kind."""
    if not (isinstance(item, list) and item and isinstance(item[0], str)):
        return None
    if item[0].lower() != "content-length-range":
        return None
    numbers = [_number(value) for value in item[1:]]
    if len(numbers) != 2:
        raise _invalid("Invalid content-length-range: it has a least and a most number of bytes.")
    return numbers[0], numbers[1]


def _number(value: object) -> int:
    """Return a number of bytes, which some write as text."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= len(str(SIZE_LIMIT)):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= SIZE_LIMIT:
        return value
    raise _invalid(f"Invalid content-length-range: {json.dumps(value)} is no number of bytes.")


def _condition(item: object) -> Condition:
    if isinstance(item, dict):
        if len(item) != 1:
            raise _invalid(
                "Invalid Simple-Condition: Simple-Conditions must have exactly one property specified."
            )
        ((name, value),) = item.items()
        return Condition(field=name.lower(), value=_text(value), is_prefix=False)
    if not (isinstance(item, list) and item and isinstance(item[0], str)):
        raise _invalid("Invalid Condition.")
    operator = item[0].lower()
    if operator not in ("eq", "starts-with"):
        raise _invalid(f"Invalid Condition: unknown operation '{item[0]}'.")
    if len(item) != 3:
        raise _invalid(f"Invalid Condition: wrong number of arguments for '{item[0]}'.")
    name = _text(item[1])
    if not name.startswith("$"):
        raise _invalid(f"Invalid Condition: '{name}' does not begin with '$'.")
    return Condition(field=name[1:].lower(), value=_text(item[2]), is_prefix=operator == "starts-with")


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise _invalid(f"Invalid Condition: {json.dumps(value)} is not a text.")


def _denied(why: str) -> S3Error:
    return S3Error("AccessDenied", f"Invalid according to Policy: {why}")


def _invalid(why: str) -> S3Error:
    return S3Error("InvalidPolicyDocument", f"Invalid Policy: {why}")
