"""Whether a caller may do what he asks: the owner of a bucket may do everything in it, nobody else anything."""

from coldstore.s3.call import Call
from coldstore.s3.errors import S3Error, shown


def authorise(call: Call, bucket_owner_id: str) -> None:
    """
    Refuse a call that its caller may not make on a bucket of ``bucket_owner_id``.

    ``x-amz-expected-bucket-owner`` must name the owner where it is sent (S3 User Guide, "Verifying bucket ownership").

    :raise S3Error: AccessDenied
    """
    _require_owner(call, bucket_owner_id, call.bucket_name, "x-amz-expected-bucket-owner")


def authorise_source(call: Call, bucket: str, bucket_owner_id: str) -> None:
    """
    Refuse to copy out of ``bucket``, which is that of ``bucket_owner_id``; ``x-amz-source-expected-bucket-owner`` as in ``authorise``.

    :raise S3Error: AccessDenied
    """
    _require_owner(call, bucket_owner_id, bucket, "x-amz-source-expected-bucket-owner")


def _require_owner(call: Call, bucket_owner_id: str, bucket: str, expectation: str) -> None:
    if call.caller.user_id != bucket_owner_id:
        raise S3Error(
            "AccessDenied",
            f"Access Denied: bucket {shown(bucket)} belongs to another user than that of access key "
            f"{shown(call.caller.access_key)}.",
        )
    expected = call.headers.get(expectation)
    if expected not in (None, bucket_owner_id):
        raise S3Error(
            "AccessDenied", f"Access Denied: {expectation} is {shown(expected)}, and the owner is another."
        )
