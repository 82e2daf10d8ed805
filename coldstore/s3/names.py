"""What a bucket may be called (S3 User Guide, "General purpose bucket naming rules")."""

import re

from coldstore.s3.errors import S3Error

_SHAPE = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_NO_LABEL_ENDS = ("..", ".-", "-.")
"""A bucket can be a sub-domain: none of its labels is empty, or begins or ends with a hyphen."""
_IP_ADDRESS = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+")
_RESERVED_PREFIXES = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_SUFFIXES = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")


def is_bucket_name(name: str) -> bool:
    """Whether a bucket may have this name."""
    return (
        _SHAPE.fullmatch(name) is not None
        and not any(pair in name for pair in _NO_LABEL_ENDS)
        and _IP_ADDRESS.fullmatch(name) is None
        and not name.startswith(_RESERVED_PREFIXES)
        and not name.endswith(_RESERVED_SUFFIXES)
    )


def check_bucket_name(name: str) -> None:
    """
    Let a name pass that a new bucket may have.

    :raise S3Error: InvalidBucketName
    """
    if not is_bucket_name(name):
        raise S3Error("InvalidBucketName", details={"BucketName": name})
