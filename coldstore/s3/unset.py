"""
What S3 says of configurations that were never set, and never can be until they are built.

Clients read some of them at start and must get a clean answer: for most the error that names the missing
configuration, for some the document of the default. Source: Amazon S3 API Reference, the Get action of each.
"""

from coldstore.s3.answers import Answer, xml_answer
from coldstore.s3.errors import S3Error
from coldstore.s3.routes import Operation
from coldstore.s3.xml import SCHEMA_INSTANCE, Node, node

_MISSING_IN_BUCKET = {
    "cors": "NoSuchCORSConfiguration",
    "encryption": "ServerSideEncryptionConfigurationNotFoundError",
    "lifecycle": "NoSuchLifecycleConfiguration",
    "object-lock": "ObjectLockConfigurationNotFoundError",
    "policy": "NoSuchBucketPolicy",
    "publicAccessBlock": "NoSuchPublicAccessBlockConfiguration",
    "replication": "ReplicationConfigurationNotFoundError",
    "website": "NoSuchWebsiteConfiguration",
}
_DEFAULT_IN_BUCKET = {
    "accelerate": node("AccelerateConfiguration"),
    "logging": node("BucketLoggingStatus"),
    "notification": node("NotificationConfiguration"),
    "ownershipControls": node(
        "OwnershipControls", node("Rule", node("ObjectOwnership", "BucketOwnerEnforced"))
    ),
    "requestPayment": node("RequestPaymentConfiguration", node("Payer", "BucketOwner")),
}
_MISSING_IN_OBJECT = {
    "legal-hold": "NoSuchObjectLockConfiguration",
    "retention": "NoSuchObjectLockConfiguration",
}


def unset_configuration(operation: Operation, subresource: str, *, owner_id: str, owner_name: str) -> Answer:
    """
    Answer the reading of a configuration that is not set; bucket, object and permission are checked before.

    :param owner_id: who has the full control that ``acl`` shows
    :raise S3Error: the 404 that names the missing configuration
    """
    of_bucket = operation is Operation.GET_UNSET_BUCKET_CONFIGURATION
    missing = (_MISSING_IN_BUCKET if of_bucket else _MISSING_IN_OBJECT).get(subresource)
    if missing is not None:
        raise S3Error(missing)
    if subresource == "acl":
        return xml_answer(_owner_has_full_control(owner_id, owner_name))
    return xml_answer(_DEFAULT_IN_BUCKET[subresource])


def _owner_has_full_control(owner_id: str, owner_name: str) -> Node:
    grantee = node(
        "Grantee",
        node("ID", owner_id),
        node("DisplayName", owner_name),
        attributes=(("xmlns:xsi", SCHEMA_INSTANCE), ("xsi:type", "CanonicalUser")),
    )
    return node(
        "AccessControlPolicy",
        node("Owner", node("ID", owner_id), node("DisplayName", owner_name)),
        node("AccessControlList", node("Grant", grantee, node("Permission", "FULL_CONTROL"))),
    )
