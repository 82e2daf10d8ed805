"""
The operations of the S3 API: the request that means each, and which of them ColdStore has not built.

``OPERATIONS.md`` beside this module says what each answers; a test holds the two together. Source: Amazon S3 API
Reference, the request syntax of each action.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple


class Target(StrEnum):
    """What the path of a request names."""

    SERVICE = "service"
    BUCKET = "bucket"
    OBJECT = "object"


class Operation(StrEnum):
    """What can be asked for, by the names of the S3 API; those of a bucket's default class are ColdStore's own."""

    LIST_BUCKETS = "ListBuckets"
    CREATE_BUCKET = "CreateBucket"
    HEAD_BUCKET = "HeadBucket"
    DELETE_BUCKET = "DeleteBucket"
    GET_BUCKET_LOCATION = "GetBucketLocation"
    GET_BUCKET_VERSIONING = "GetBucketVersioning"
    PUT_BUCKET_VERSIONING = "PutBucketVersioning"
    LIST_OBJECTS = "ListObjects"
    LIST_OBJECTS_V2 = "ListObjectsV2"
    LIST_OBJECT_VERSIONS = "ListObjectVersions"
    DELETE_OBJECTS = "DeleteObjects"
    LIST_MULTIPART_UPLOADS = "ListMultipartUploads"
    POST_OBJECT = "PostObject"
    OPTIONS_OBJECT = "OptionsObject"
    PUT_OBJECT = "PutObject"
    COPY_OBJECT = "CopyObject"
    GET_OBJECT = "GetObject"
    HEAD_OBJECT = "HeadObject"
    DELETE_OBJECT = "DeleteObject"
    CREATE_MULTIPART_UPLOAD = "CreateMultipartUpload"
    UPLOAD_PART = "UploadPart"
    UPLOAD_PART_COPY = "UploadPartCopy"
    LIST_PARTS = "ListParts"
    COMPLETE_MULTIPART_UPLOAD = "CompleteMultipartUpload"
    ABORT_MULTIPART_UPLOAD = "AbortMultipartUpload"
    RESTORE_OBJECT = "RestoreObject"
    GET_OBJECT_ATTRIBUTES = "GetObjectAttributes"
    GET_OBJECT_TAGGING = "GetObjectTagging"
    PUT_OBJECT_TAGGING = "PutObjectTagging"
    DELETE_OBJECT_TAGGING = "DeleteObjectTagging"
    GET_BUCKET_TAGGING = "GetBucketTagging"
    PUT_BUCKET_TAGGING = "PutBucketTagging"
    DELETE_BUCKET_TAGGING = "DeleteBucketTagging"
    GET_BUCKET_LIFECYCLE = "GetBucketLifecycleConfiguration"
    PUT_BUCKET_LIFECYCLE = "PutBucketLifecycleConfiguration"
    DELETE_BUCKET_LIFECYCLE = "DeleteBucketLifecycle"
    GET_BUCKET_ACL = "GetBucketAcl"
    PUT_BUCKET_ACL = "PutBucketAcl"
    GET_OBJECT_ACL = "GetObjectAcl"
    PUT_OBJECT_ACL = "PutObjectAcl"
    GET_BUCKET_OWNERSHIP = "GetBucketOwnershipControls"
    PUT_BUCKET_OWNERSHIP = "PutBucketOwnershipControls"
    DELETE_BUCKET_OWNERSHIP = "DeleteBucketOwnershipControls"
    GET_DEFAULT_CLASS = "GetBucketDefaultClass"
    PUT_DEFAULT_CLASS = "PutBucketDefaultClass"
    GET_BUCKET_POLICY = "GetBucketPolicy"
    PUT_BUCKET_POLICY = "PutBucketPolicy"
    DELETE_BUCKET_POLICY = "DeleteBucketPolicy"
    GET_BUCKET_POLICY_STATUS = "GetBucketPolicyStatus"
    GET_PUBLIC_ACCESS_BLOCK = "GetPublicAccessBlock"
    PUT_PUBLIC_ACCESS_BLOCK = "PutPublicAccessBlock"
    DELETE_PUBLIC_ACCESS_BLOCK = "DeletePublicAccessBlock"
    GET_BUCKET_OBJECT_LOCK = "GetObjectLockConfiguration"
    PUT_BUCKET_OBJECT_LOCK = "PutObjectLockConfiguration"
    GET_OBJECT_LEGAL_HOLD = "GetObjectLegalHold"
    PUT_OBJECT_LEGAL_HOLD = "PutObjectLegalHold"
    GET_OBJECT_RETENTION = "GetObjectRetention"
    PUT_OBJECT_RETENTION = "PutObjectRetention"
    GET_BUCKET_CORS = "GetBucketCors"
    PUT_BUCKET_CORS = "PutBucketCors"
    DELETE_BUCKET_CORS = "DeleteBucketCors"

    # What follows is about configurations that cannot be set, or to one value alone: ``coldstore.s3.unset``.
    GET_BUCKET_ABAC = "GetBucketAbac"
    PUT_BUCKET_ABAC = "PutBucketAbac"
    GET_BUCKET_ACCELERATE = "GetBucketAccelerateConfiguration"
    GET_BUCKET_ANALYTICS = "GetBucketAnalyticsConfiguration"
    LIST_BUCKET_ANALYTICS = "ListBucketAnalyticsConfigurations"
    DELETE_BUCKET_ANALYTICS = "DeleteBucketAnalyticsConfiguration"
    GET_BUCKET_ENCRYPTION = "GetBucketEncryption"
    PUT_BUCKET_ENCRYPTION = "PutBucketEncryption"
    DELETE_BUCKET_ENCRYPTION = "DeleteBucketEncryption"
    GET_BUCKET_INTELLIGENT_TIERING = "GetBucketIntelligentTieringConfiguration"
    LIST_BUCKET_INTELLIGENT_TIERING = "ListBucketIntelligentTieringConfigurations"
    DELETE_BUCKET_INTELLIGENT_TIERING = "DeleteBucketIntelligentTieringConfiguration"
    GET_BUCKET_INVENTORY = "GetBucketInventoryConfiguration"
    LIST_BUCKET_INVENTORY = "ListBucketInventoryConfigurations"
    DELETE_BUCKET_INVENTORY = "DeleteBucketInventoryConfiguration"
    GET_BUCKET_LOGGING = "GetBucketLogging"
    PUT_BUCKET_LOGGING = "PutBucketLogging"
    GET_BUCKET_METADATA = "GetBucketMetadataConfiguration"
    DELETE_BUCKET_METADATA = "DeleteBucketMetadataConfiguration"
    GET_BUCKET_METADATA_TABLE = "GetBucketMetadataTableConfiguration"
    DELETE_BUCKET_METADATA_TABLE = "DeleteBucketMetadataTableConfiguration"
    GET_BUCKET_METRICS = "GetBucketMetricsConfiguration"
    LIST_BUCKET_METRICS = "ListBucketMetricsConfigurations"
    DELETE_BUCKET_METRICS = "DeleteBucketMetricsConfiguration"
    GET_BUCKET_NOTIFICATION = "GetBucketNotificationConfiguration"
    PUT_BUCKET_NOTIFICATION = "PutBucketNotificationConfiguration"
    GET_BUCKET_REPLICATION = "GetBucketReplication"
    DELETE_BUCKET_REPLICATION = "DeleteBucketReplication"
    GET_BUCKET_REQUEST_PAYMENT = "GetBucketRequestPayment"
    PUT_BUCKET_REQUEST_PAYMENT = "PutBucketRequestPayment"
    GET_BUCKET_WEBSITE = "GetBucketWebsite"
    DELETE_BUCKET_WEBSITE = "DeleteBucketWebsite"


class Requests(NamedTuple):
    """The operations of one target: by method alone, and by method under the name of a sub-resource."""

    plain: Mapping[str, Operation]
    subresources: Mapping[str, Mapping[str, Operation]]


PREFLIGHT = "OPTIONS"
"""The method by which browsers ask for their pages, whatever the target and its query: ``Operation.OPTIONS_OBJECT``."""
DEFAULT_CLASS = "x-coldstore-default-class"
"""ColdStore's own sub-resource of a bucket: the storage class of objects whose writer names none."""

BUILT: Mapping[Target, Requests] = MappingProxyType(
    {
        Target.SERVICE: Requests({"GET": Operation.LIST_BUCKETS}, {}),
        Target.BUCKET: Requests(
            {
                "PUT": Operation.CREATE_BUCKET,
                "HEAD": Operation.HEAD_BUCKET,
                "DELETE": Operation.DELETE_BUCKET,
                "GET": Operation.LIST_OBJECTS,
                "POST": Operation.POST_OBJECT,
            },
            {
                "location": {"GET": Operation.GET_BUCKET_LOCATION},
                "versioning": {
                    "GET": Operation.GET_BUCKET_VERSIONING,
                    "PUT": Operation.PUT_BUCKET_VERSIONING,
                },
                "versions": {"GET": Operation.LIST_OBJECT_VERSIONS},
                "uploads": {"GET": Operation.LIST_MULTIPART_UPLOADS},
                "delete": {"POST": Operation.DELETE_OBJECTS},
                "tagging": {
                    "GET": Operation.GET_BUCKET_TAGGING,
                    "PUT": Operation.PUT_BUCKET_TAGGING,
                    "DELETE": Operation.DELETE_BUCKET_TAGGING,
                },
                "acl": {"GET": Operation.GET_BUCKET_ACL, "PUT": Operation.PUT_BUCKET_ACL},
                "ownershipControls": {
                    "GET": Operation.GET_BUCKET_OWNERSHIP,
                    "PUT": Operation.PUT_BUCKET_OWNERSHIP,
                    "DELETE": Operation.DELETE_BUCKET_OWNERSHIP,
                },
                DEFAULT_CLASS: {"GET": Operation.GET_DEFAULT_CLASS, "PUT": Operation.PUT_DEFAULT_CLASS},
                "abac": {"GET": Operation.GET_BUCKET_ABAC, "PUT": Operation.PUT_BUCKET_ABAC},
                "accelerate": {"GET": Operation.GET_BUCKET_ACCELERATE},
                "analytics": {
                    "GET": Operation.LIST_BUCKET_ANALYTICS,
                    "DELETE": Operation.DELETE_BUCKET_ANALYTICS,
                },
                "cors": {
                    "GET": Operation.GET_BUCKET_CORS,
                    "PUT": Operation.PUT_BUCKET_CORS,
                    "DELETE": Operation.DELETE_BUCKET_CORS,
                },
                "encryption": {
                    "GET": Operation.GET_BUCKET_ENCRYPTION,
                    "PUT": Operation.PUT_BUCKET_ENCRYPTION,
                    "DELETE": Operation.DELETE_BUCKET_ENCRYPTION,
                },
                "intelligent-tiering": {
                    "GET": Operation.LIST_BUCKET_INTELLIGENT_TIERING,
                    "DELETE": Operation.DELETE_BUCKET_INTELLIGENT_TIERING,
                },
                "inventory": {
                    "GET": Operation.LIST_BUCKET_INVENTORY,
                    "DELETE": Operation.DELETE_BUCKET_INVENTORY,
                },
                "lifecycle": {
                    "GET": Operation.GET_BUCKET_LIFECYCLE,
                    "PUT": Operation.PUT_BUCKET_LIFECYCLE,
                    "DELETE": Operation.DELETE_BUCKET_LIFECYCLE,
                },
                "logging": {"GET": Operation.GET_BUCKET_LOGGING, "PUT": Operation.PUT_BUCKET_LOGGING},
                "metadataConfiguration": {
                    "GET": Operation.GET_BUCKET_METADATA,
                    "DELETE": Operation.DELETE_BUCKET_METADATA,
                },
                "metadataTable": {
                    "GET": Operation.GET_BUCKET_METADATA_TABLE,
                    "DELETE": Operation.DELETE_BUCKET_METADATA_TABLE,
                },
                "metrics": {
                    "GET": Operation.LIST_BUCKET_METRICS,
                    "DELETE": Operation.DELETE_BUCKET_METRICS,
                },
                "notification": {
                    "GET": Operation.GET_BUCKET_NOTIFICATION,
                    "PUT": Operation.PUT_BUCKET_NOTIFICATION,
                },
                "object-lock": {
                    "GET": Operation.GET_BUCKET_OBJECT_LOCK,
                    "PUT": Operation.PUT_BUCKET_OBJECT_LOCK,
                },
                "policy": {
                    "GET": Operation.GET_BUCKET_POLICY,
                    "PUT": Operation.PUT_BUCKET_POLICY,
                    "DELETE": Operation.DELETE_BUCKET_POLICY,
                },
                "policyStatus": {"GET": Operation.GET_BUCKET_POLICY_STATUS},
                "publicAccessBlock": {
                    "GET": Operation.GET_PUBLIC_ACCESS_BLOCK,
                    "PUT": Operation.PUT_PUBLIC_ACCESS_BLOCK,
                    "DELETE": Operation.DELETE_PUBLIC_ACCESS_BLOCK,
                },
                "replication": {
                    "GET": Operation.GET_BUCKET_REPLICATION,
                    "DELETE": Operation.DELETE_BUCKET_REPLICATION,
                },
                "requestPayment": {
                    "GET": Operation.GET_BUCKET_REQUEST_PAYMENT,
                    "PUT": Operation.PUT_BUCKET_REQUEST_PAYMENT,
                },
                "website": {"GET": Operation.GET_BUCKET_WEBSITE, "DELETE": Operation.DELETE_BUCKET_WEBSITE},
            },
        ),
        Target.OBJECT: Requests(
            {
                "PUT": Operation.PUT_OBJECT,
                "GET": Operation.GET_OBJECT,
                "HEAD": Operation.HEAD_OBJECT,
                "DELETE": Operation.DELETE_OBJECT,
            },
            {
                "uploads": {"POST": Operation.CREATE_MULTIPART_UPLOAD},
                "uploadId": {
                    "PUT": Operation.UPLOAD_PART,
                    "GET": Operation.LIST_PARTS,
                    "POST": Operation.COMPLETE_MULTIPART_UPLOAD,
                    "DELETE": Operation.ABORT_MULTIPART_UPLOAD,
                },
                "restore": {"POST": Operation.RESTORE_OBJECT},
                "attributes": {"GET": Operation.GET_OBJECT_ATTRIBUTES},
                "tagging": {
                    "GET": Operation.GET_OBJECT_TAGGING,
                    "PUT": Operation.PUT_OBJECT_TAGGING,
                    "DELETE": Operation.DELETE_OBJECT_TAGGING,
                },
                "acl": {"GET": Operation.GET_OBJECT_ACL, "PUT": Operation.PUT_OBJECT_ACL},
                "legal-hold": {
                    "GET": Operation.GET_OBJECT_LEGAL_HOLD,
                    "PUT": Operation.PUT_OBJECT_LEGAL_HOLD,
                },
                "retention": {
                    "GET": Operation.GET_OBJECT_RETENTION,
                    "PUT": Operation.PUT_OBJECT_RETENTION,
                },
            },
        ),
    }
)

COPYING: Mapping[Operation, Operation] = MappingProxyType(
    {Operation.PUT_OBJECT: Operation.COPY_OBJECT, Operation.UPLOAD_PART: Operation.UPLOAD_PART_COPY}
)
"""What becomes of a write whose bytes come from another object, as ``x-amz-copy-source`` says."""

OF_ONE: Mapping[Operation, Operation] = MappingProxyType(
    {
        Operation.LIST_BUCKET_ANALYTICS: Operation.GET_BUCKET_ANALYTICS,
        Operation.LIST_BUCKET_INTELLIGENT_TIERING: Operation.GET_BUCKET_INTELLIGENT_TIERING,
        Operation.LIST_BUCKET_INVENTORY: Operation.GET_BUCKET_INVENTORY,
        Operation.LIST_BUCKET_METRICS: Operation.GET_BUCKET_METRICS,
    }
)
"""What becomes of the list of a bucket's configurations of a kind when ``id`` names one of them."""

UNBUILT: Mapping[Target, Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        Target.SERVICE: {"max-directory-buckets": {"GET": "ListDirectoryBuckets"}},
        Target.BUCKET: {
            "accelerate": {"PUT": "PutBucketAccelerateConfiguration"},
            "analytics": {"PUT": "PutBucketAnalyticsConfiguration"},
            "intelligent-tiering": {"PUT": "PutBucketIntelligentTieringConfiguration"},
            "inventory": {"PUT": "PutBucketInventoryConfiguration"},
            "metadataAnnotationTable": {"PUT": "UpdateBucketMetadataAnnotationTableConfiguration"},
            "metadataConfiguration": {"POST": "CreateBucketMetadataConfiguration"},
            "metadataInventoryTable": {"PUT": "UpdateBucketMetadataInventoryTableConfiguration"},
            "metadataJournalTable": {"PUT": "UpdateBucketMetadataJournalTableConfiguration"},
            "metadataTable": {"POST": "CreateBucketMetadataTableConfiguration"},
            "metrics": {"PUT": "PutBucketMetricsConfiguration"},
            "replication": {"PUT": "PutBucketReplication"},
            "session": {"GET": "CreateSession"},
            "website": {"PUT": "PutBucketWebsite"},
        },
        Target.OBJECT: {
            "annotation": {
                "GET": "GetObjectAnnotation, ListObjectAnnotations",
                "PUT": "PutObjectAnnotation",
                "DELETE": "DeleteObjectAnnotation",
            },
            "encryption": {"PUT": "UpdateObjectEncryption"},
            "renameObject": {"PUT": "RenameObject"},
            "select": {"POST": "SelectObjectContent"},
            "torrent": {"GET": "GetObjectTorrent"},
        },
    }
)
"""What S3 has and ColdStore has not, by sub-resource and method: never taken for something plain."""
