"""Whether a caller may do what he asks: the owner of a bucket may do everything in it, nobody else anything."""

from coldstore.s3.call import Call
from coldstore.s3.errors import S3Error


def authorise(call: Call, bucket_owner_id: str) -> None:
    """
    Refuse a call that its caller may not make on a bucket of ``bucket_owner_id``.

    ``x-amz-expected-bucket-owner`` must name the owner where it is sent (S3 User Guide, "Verifying bucket ownership").

    :raise S3Error: AccessDenied
    """
    expected = call.headers.get("x-amz-expected-bucket-owner")
    if call.caller.user_id != bucket_owner_id or expected not in (None, bucket_owner_id):
        raise S3Error("AccessDenied")


def authorise_source(call: Call, bucket_owner_id: str) -> None:
    """
    Refuse to copy out of a bucket of ``bucket_owner_id``; ``x-amz-source-expected-bucket-owner`` as in ``authorise``.

    :raise S3Error: AccessDenied
    """
    expected = call.headers.get("x-amz-source-expected-bucket-owner")
    if call.caller.user_id != bucket_owner_id or expected not in (None, bucket_owner_id):
        raise S3Error("AccessDenied")
