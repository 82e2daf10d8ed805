"""
Which actions of a policy an operation needs to be allowed.

Sources: Amazon S3 User Guide, "Required permissions for Amazon S3 API operations"; Service Authorization Reference, "Actions, resources, and condition keys for
Amazon S3". What ColdStore has of its own, a bucket's default class, goes with the lifecycle of its objects.
"""

from collections.abc import Mapping
from types import MappingProxyType

from coldstore.plan.policy.actions import ACTIONS, Kind
from coldstore.plan.policy.asked import bucket_arn, object_arn
from coldstore.s3.api import Operation
from coldstore.s3.call import Call
from coldstore.s3.fields import HeaderFields

_NEEDED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "ListBuckets": ("ListAllMyBuckets",),
        "CreateBucket": ("CreateBucket",),
        "HeadBucket": ("ListBucket",),
        "DeleteBucket": ("DeleteBucket",),
        "GetBucketLocation": ("GetBucketLocation",),
        "GetBucketVersioning": ("GetBucketVersioning",),
        "PutBucketVersioning": ("PutBucketVersioning",),
        "ListObjects": ("ListBucket",),
        "ListObjectsV2": ("ListBucket",),
        "ListObjectVersions": ("ListBucketVersions",),
        # Of each key by itself: ``Authority.require_deletion``.
        "DeleteObjects": (),
        "ListMultipartUploads": ("ListBucketMultipartUploads",),
        "PostObject": ("PutObject",),
        # Browsers ask without a signature, and the rules of the bucket answer: ``coldstore.s3.sharing``.
        "OptionsObject": (),
        "PutObject": ("PutObject",),
        "CopyObject": ("PutObject",),
        "GetObject": ("GetObject",),
        "HeadObject": ("GetObject",),
        "DeleteObject": ("DeleteObject",),
        "CreateMultipartUpload": ("PutObject",),
        "UploadPart": ("PutObject",),
        "UploadPartCopy": ("PutObject",),
        "ListParts": ("ListMultipartUploadParts",),
        "CompleteMultipartUpload": ("PutObject",),
        "AbortMultipartUpload": ("AbortMultipartUpload",),
        "RestoreObject": ("RestoreObject",),
        "GetObjectAttributes": ("GetObject", "GetObjectAttributes"),
        "GetObjectTagging": ("GetObjectTagging",),
        "PutObjectTagging": ("PutObjectTagging",),
        "DeleteObjectTagging": ("DeleteObjectTagging",),
        "GetBucketTagging": ("GetBucketTagging",),
        "PutBucketTagging": ("PutBucketTagging",),
        "DeleteBucketTagging": ("PutBucketTagging",),
        "GetBucketDefaultClass": ("GetLifecycleConfiguration",),
        "PutBucketDefaultClass": ("PutLifecycleConfiguration",),
        "GetBucketAbac": ("GetBucketAbac",),
        "PutBucketAbac": ("PutBucketAbac",),
        "GetBucketAccelerateConfiguration": ("GetAccelerateConfiguration",),
        "GetBucketAcl": ("GetBucketAcl",),
        "PutBucketAcl": ("PutBucketAcl",),
        "GetBucketAnalyticsConfiguration": ("GetAnalyticsConfiguration",),
        "ListBucketAnalyticsConfigurations": ("GetAnalyticsConfiguration",),
        "DeleteBucketAnalyticsConfiguration": ("PutAnalyticsConfiguration",),
        "GetBucketCors": ("GetBucketCORS",),
        "PutBucketCors": ("PutBucketCORS",),
        "DeleteBucketCors": ("PutBucketCORS",),
        "GetBucketEncryption": ("GetEncryptionConfiguration",),
        "PutBucketEncryption": ("PutEncryptionConfiguration",),
        "DeleteBucketEncryption": ("PutEncryptionConfiguration",),
        "GetBucketIntelligentTieringConfiguration": ("GetIntelligentTieringConfiguration",),
        "ListBucketIntelligentTieringConfigurations": ("GetIntelligentTieringConfiguration",),
        "DeleteBucketIntelligentTieringConfiguration": ("PutIntelligentTieringConfiguration",),
        "GetBucketInventoryConfiguration": ("GetInventoryConfiguration",),
        "ListBucketInventoryConfigurations": ("GetInventoryConfiguration",),
        "DeleteBucketInventoryConfiguration": ("PutInventoryConfiguration",),
        "GetBucketLifecycleConfiguration": ("GetLifecycleConfiguration",),
        "PutBucketLifecycleConfiguration": ("PutLifecycleConfiguration",),
        "DeleteBucketLifecycle": ("PutLifecycleConfiguration",),
        "GetBucketLogging": ("GetBucketLogging",),
        "PutBucketLogging": ("PutBucketLogging",),
        "GetBucketMetadataConfiguration": ("GetBucketMetadataTableConfiguration",),
        "DeleteBucketMetadataConfiguration": ("DeleteBucketMetadataTableConfiguration",),
        "GetBucketMetadataTableConfiguration": ("GetBucketMetadataTableConfiguration",),
        "DeleteBucketMetadataTableConfiguration": ("DeleteBucketMetadataTableConfiguration",),
        "GetBucketMetricsConfiguration": ("GetMetricsConfiguration",),
        "ListBucketMetricsConfigurations": ("GetMetricsConfiguration",),
        "DeleteBucketMetricsConfiguration": ("PutMetricsConfiguration",),
        "GetBucketNotificationConfiguration": ("GetBucketNotification",),
        "PutBucketNotificationConfiguration": ("PutBucketNotification",),
        "GetObjectLockConfiguration": ("GetBucketObjectLockConfiguration",),
        "PutObjectLockConfiguration": ("PutBucketObjectLockConfiguration",),
        "GetBucketOwnershipControls": ("GetBucketOwnershipControls",),
        "PutBucketOwnershipControls": ("PutBucketOwnershipControls",),
        "DeleteBucketOwnershipControls": ("PutBucketOwnershipControls",),
        "GetBucketPolicy": ("GetBucketPolicy",),
        "PutBucketPolicy": ("PutBucketPolicy",),
        "DeleteBucketPolicy": ("DeleteBucketPolicy",),
        "GetBucketPolicyStatus": ("GetBucketPolicyStatus",),
        "GetBucketReplication": ("GetReplicationConfiguration",),
        "DeleteBucketReplication": ("PutReplicationConfiguration",),
        "GetBucketRequestPayment": ("GetBucketRequestPayment",),
        "PutBucketRequestPayment": ("PutBucketRequestPayment",),
        "GetBucketWebsite": ("GetBucketWebsite",),
        "DeleteBucketWebsite": ("DeleteBucketWebsite",),
        "GetPublicAccessBlock": ("GetBucketPublicAccessBlock",),
        "PutPublicAccessBlock": ("PutBucketPublicAccessBlock",),
        "DeletePublicAccessBlock": ("PutBucketPublicAccessBlock",),
        "GetObjectAcl": ("GetObjectAcl",),
        "PutObjectAcl": ("PutObjectAcl",),
        "GetObjectLegalHold": ("GetObjectLegalHold",),
        "PutObjectLegalHold": ("PutObjectLegalHold",),
        "GetObjectRetention": ("GetObjectRetention",),
        "PutObjectRetention": ("PutObjectRetention",),
    }
)

OF_VERSION: Mapping[str, str] = MappingProxyType(
    {
        "s3:DeleteObject": "s3:DeleteObjectVersion",
        "s3:DeleteObjectTagging": "s3:DeleteObjectVersionTagging",
        "s3:GetObject": "s3:GetObjectVersion",
        "s3:GetObjectAcl": "s3:GetObjectVersionAcl",
        "s3:GetObjectAttributes": "s3:GetObjectVersionAttributes",
        "s3:GetObjectTagging": "s3:GetObjectVersionTagging",
        "s3:PutObjectAcl": "s3:PutObjectVersionAcl",
        "s3:PutObjectTagging": "s3:PutObjectVersionTagging",
    }
)
"""What becomes of an action when a version is named."""

NEEDED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {operation: tuple(f"s3:{name}" for name in names) for operation, names in _NEEDED.items()}
)
"""What each operation needs, by its name in the API; its headers may ask for more."""

MAKES_OBJECT = frozenset(
    {Operation.PUT_OBJECT, Operation.POST_OBJECT, Operation.COPY_OBJECT, Operation.CREATE_MULTIPART_UPLOAD}
)
_ACL, _GRANT = "x-amz-acl", "x-amz-grant-"
_OWNERS_ACLS = frozenset({"private", "bucket-owner-full-control"})
"""They change nothing where the bucket's owner owns all objects, and are sent unasked."""
_OF_OBJECT_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "x-amz-tagging": "s3:PutObjectTagging",
        "x-amz-object-lock-mode": "s3:PutObjectRetention",
        "x-amz-object-lock-retain-until-date": "s3:PutObjectRetention",
        "x-amz-object-lock-legal-hold": "s3:PutObjectLegalHold",
    }
)
_OF_BUCKET_HEADERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "x-amz-bucket-object-lock-enabled": ("s3:PutBucketObjectLockConfiguration", "s3:PutBucketVersioning"),
        "x-amz-object-ownership": ("s3:PutBucketOwnershipControls",),
    }
)


def needed_by(call: Call) -> tuple[str, ...]:
    """Return the actions that a call needs to be allowed; none for what is judged key by key."""
    actions = NEEDED[call.operation]
    if call.operation in MAKES_OBJECT:
        return tuple(dict.fromkeys((*actions, *_for_properties(call))))
    if call.operation is Operation.CREATE_BUCKET:
        return tuple(dict.fromkeys((*actions, *_for_settings(call.headers))))
    if call.key is None or call.version_id is None:
        return actions
    return tuple(OF_VERSION.get(action, action) for action in actions)


def _for_properties(call: Call) -> list[str]:
    """Return what is needed to give a new object what its writer wants it to have."""
    headers = call.headers
    actions = [action for name, action in _OF_OBJECT_HEADERS.items() if name in headers]
    if not gives_tags(call):
        actions = [action for action in actions if action != "s3:PutObjectTagging"]
    if call.upload is not None and "tagging" in call.upload.form.fields:
        actions.append("s3:PutObjectTagging")
    if _asks_for_acl(headers):
        actions.append("s3:PutObjectAcl")
    return actions


def gives_tags(call: Call) -> bool:
    """Whether a new object gets the tags that its request names: a copy may have those of its source instead."""
    return (
        call.operation is not Operation.COPY_OBJECT
        or call.headers.get("x-amz-tagging-directive") == "REPLACE"
    )


def _for_settings(headers: HeaderFields) -> list[str]:
    """Return what is needed to give a new bucket what its owner wants it to have."""
    actions = [action for name, needed in _OF_BUCKET_HEADERS.items() if name in headers for action in needed]
    if _asks_for_acl(headers):
        actions.append("s3:PutBucketAcl")
    return actions


def _asks_for_acl(headers: HeaderFields) -> bool:
    canned = headers.get(_ACL)
    return (canned is not None and canned not in _OWNERS_ACLS) or any(
        name.startswith(_GRANT) for name in headers.amz_names()
    )


def resource_of(action: str, bucket: str, key: bytes | None) -> str:
    """Return the ARN of what an action is carried out on."""
    match ACTIONS[action]:
        case Kind.ACCOUNT:
            return "*"
        case Kind.BUCKET:
            return bucket_arn(bucket)
        case Kind.OBJECT:
            return object_arn(bucket, key or b"")
