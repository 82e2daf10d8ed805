"""What a bucket may be called (S3 User Guide, "General purpose bucket naming rules")."""

import re

from coldstore.s3.errors import S3Error, shown

NAME_MIN, NAME_MAX = 3, 63
_CHARACTERS = re.compile(r"[a-z0-9.-]*")
_ENDS = re.compile(r"[a-z0-9](?:.*[a-z0-9])?")
_NO_LABEL_ENDS = ("..", ".-", "-.")
"""A bucket can be a sub-domain: none of its labels is empty, or begins or ends with a hyphen."""
_IP_ADDRESS = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+")
_RESERVED_PREFIXES = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_SUFFIXES = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")


def is_bucket_name(name: str) -> bool:
    """Whether a bucket may have this name."""
    return _broken_rule(name) is None


def check_bucket_name(name: str) -> None:
    """
    Let a name pass that a new bucket may have.

    :raise S3Error: InvalidBucketName, with the rule that it breaks
    """
    rule = _broken_rule(name)
    if rule is not None:
        raise S3Error(
            "InvalidBucketName",
            f"The specified bucket is not valid: {shown(name)} {rule}.",
            details={"BucketName": name},
        )


def _broken_rule(name: str) -> str | None:
    """Return what a name is not, or has that it may not have; None for one that is good."""
    if not NAME_MIN <= len(name) <= NAME_MAX:
        return f"has {len(name)} characters, and a name has {NAME_MIN} to {NAME_MAX}"
    if not _CHARACTERS.fullmatch(name):
        return "has other characters than lower-case letters, digits, '.' and '-'"
    if not _ENDS.fullmatch(name):
        return "has another character at one of its ends, and a name begins and ends with a letter or a digit"
    for pair in _NO_LABEL_ENDS:
        if pair in name:
            return f"holds {pair!r}"
    if _IP_ADDRESS.fullmatch(name):
        return "looks like an IP address"
    for prefix in _RESERVED_PREFIXES:
        if name.startswith(prefix):
            return f"begins with {prefix!r}, which is reserved"
    for suffix in _RESERVED_SUFFIXES:
        if name.endswith(suffix):
            return f"ends with {suffix!r}, which is reserved"
    return None
