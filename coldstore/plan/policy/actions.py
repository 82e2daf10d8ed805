"""
The actions that policies speak of, and what each is carried out on.

Source: Service Authorization Reference, "Actions, resources, and condition keys for Amazon S3": those of buckets and objects of general purpose, and those of
an account that concern its buckets.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from coldstore.plan.policy.patterns import Pattern

PREFIX = "s3:"


class Kind(StrEnum):
    """What an action is carried out on."""

    ACCOUNT = "account"
    BUCKET = "bucket"
    OBJECT = "object"


_OF_ACCOUNT = "GetAccountPublicAccessBlock ListAllMyBuckets PutAccountPublicAccessBlock"
_OF_BUCKET = """
    CreateBucket CreateBucketMetadataTableConfiguration DeleteBucket DeleteBucketMetadataTableConfiguration DeleteBucketPolicy DeleteBucketWebsite
    GetAccelerateConfiguration GetAnalyticsConfiguration GetBucketAbac GetBucketAcl GetBucketCORS GetBucketLocation GetBucketLogging
    GetBucketMetadataTableConfiguration GetBucketNotification GetBucketObjectLockConfiguration GetBucketOwnershipControls GetBucketPolicy
    GetBucketPolicyStatus GetBucketPublicAccessBlock GetBucketRequestPayment GetBucketTagging GetBucketVersioning GetBucketWebsite
    GetEncryptionConfiguration GetIntelligentTieringConfiguration GetInventoryConfiguration GetLifecycleConfiguration GetMetricsConfiguration
    GetReplicationConfiguration ListBucket ListBucketMultipartUploads ListBucketVersions ListTagsForResource PutAccelerateConfiguration
    PutAnalyticsConfiguration PutBucketAbac PutBucketAcl PutBucketCORS PutBucketLogging PutBucketNotification PutBucketObjectLockConfiguration
    PutBucketOwnershipControls PutBucketPolicy PutBucketPublicAccessBlock PutBucketRequestPayment PutBucketTagging PutBucketVersioning PutBucketWebsite
    PutEncryptionConfiguration PutIntelligentTieringConfiguration PutInventoryConfiguration PutLifecycleConfiguration PutMetricsConfiguration
    PutReplicationConfiguration TagResource UntagResource UpdateBucketMetadataAnnotationTableConfiguration UpdateBucketMetadataInventoryTableConfiguration
    UpdateBucketMetadataJournalTableConfiguration
"""
_OF_OBJECT = """
    AbortMultipartUpload BypassGovernanceRetention DeleteObject DeleteObjectAnnotation DeleteObjectTagging DeleteObjectVersion DeleteObjectVersionTagging
    GetObject GetObjectAcl GetObjectAnnotation GetObjectAttributes GetObjectLegalHold GetObjectRetention GetObjectTagging GetObjectTorrent GetObjectVersion
    GetObjectVersionAcl GetObjectVersionAttributes GetObjectVersionForReplication GetObjectVersionTagging GetObjectVersionTorrent InitiateReplication
    ListMultipartUploadParts ListObjectAnnotations ObjectOwnerOverrideToBucketOwner PutObject PutObjectAcl PutObjectAnnotation PutObjectLegalHold
    PutObjectRetention PutObjectTagging PutObjectVersionAcl PutObjectVersionTagging ReplicateDelete ReplicateObject ReplicateTags RestoreObject
    UpdateObjectEncryption
"""

ACTIONS: Mapping[str, Kind] = MappingProxyType(
    {
        PREFIX + name: kind
        for kind, names in ((Kind.ACCOUNT, _OF_ACCOUNT), (Kind.BUCKET, _OF_BUCKET), (Kind.OBJECT, _OF_OBJECT))
        for name in names.split()
    }
)
"""Every action that S3 knows, by its name as AWS writes it."""
_BY_LOWER_CASE = {name.lower(): name for name in ACTIONS}


def known_action(name: str) -> str | None:
    """Return an action as AWS writes it, whatever the case of its letters; None: there is none of that name."""
    return _BY_LOWER_CASE.get(name.lower())


def actions_like(text: str) -> frozenset[str]:
    """Return the actions that are meant by a name with wildcards; in whatever case."""
    name = text.lower()
    exact = _BY_LOWER_CASE.get(name)
    if exact is not None:
        return frozenset({exact})
    pattern = Pattern.read(name, variables=False)
    return frozenset(
        known for lower, known in _BY_LOWER_CASE.items() if pattern.matches(lower, lambda _: None)
    )
