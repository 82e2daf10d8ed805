"""
What answers say of the rules that are about an object or an upload. Pure.

Source: Amazon S3 API Reference, PutObject (``x-amz-expiration``) and CreateMultipartUpload (``x-amz-abort-date``,
``x-amz-abort-rule-id``).
"""

from urllib.parse import quote

from coldstore.model.lifecycle import MinimumSize
from coldstore.plan.lifecycle import Due
from coldstore.s3.errors import S3Error, shown
from coldstore.s3.fields import HeaderFields
from coldstore.s3.stored import http_date

MINIMUM_SIZE = "x-amz-transition-default-minimum-object-size"
_END_OF_DATES = 253_402_300_800.0
"""1 January of the year 10,000, which no header field can name: what is due then is as good as never."""


def expiration_header(due: Due | None) -> dict[str, str]:
    """Return the field that says when an object expires, and by which rule; clients look for exactly this form."""
    if due is None or due.at >= _END_OF_DATES:
        return {}
    rule_id = quote(due.rule_id, safe="")
    return {"x-amz-expiration": f'expiry-date="{http_date(due.at)}", rule-id="{rule_id}"'}


def abort_headers(due: Due | None) -> dict[str, str]:
    """Return the fields that say when an upload is aborted, and by which rule: its id as it is, where a field can carry that."""
    if due is None or due.at >= _END_OF_DATES:
        return {}
    rule_id = due.rule_id
    is_plain = rule_id.isascii() and rule_id.isprintable() and rule_id.strip() == rule_id
    return {
        "x-amz-abort-date": http_date(due.at),
        "x-amz-abort-rule-id": rule_id if is_plain else quote(rule_id, safe=""),
    }


def asked_minimum_size(headers: HeaderFields) -> MinimumSize:
    """
    Return which small objects a configuration is to move.

    Bundles make small objects as cheap on tape as others, so the value that lets them go there is what holds when nobody says otherwise.

    :raise S3Error: InvalidArgument
    """
    asked = headers.get(MINIMUM_SIZE)
    if asked is None:
        return MinimumSize.VARIES
    try:
        return MinimumSize(asked.strip())
    except ValueError:
        raise S3Error(
            "InvalidArgument",
            f"{MINIMUM_SIZE} is {shown(asked)}, and none of {', '.join(MinimumSize)}",
            details={"ArgumentName": MINIMUM_SIZE, "ArgumentValue": asked},
        ) from None


def minimum_size_header(minimum: MinimumSize) -> dict[str, str]:
    """Return the field that says which small objects a configuration moves."""
    return {MINIMUM_SIZE: minimum.value}
