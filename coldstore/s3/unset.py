"""
What S3 says of configurations that were never set, and never can be until they are built.

Clients read some of them at start, and tools that manage buckets remove them, and must get a clean answer: for most the
error that names the missing configuration, for some the document of the default. Source: Amazon S3 API Reference, the
Get, List and Delete action of each.
"""

from collections.abc import Mapping
from types import MappingProxyType

from coldstore.s3.answers import Answer, xml_answer
from coldstore.s3.api import Operation
from coldstore.s3.errors import S3Error
from coldstore.s3.xml import Node, node

MISSING: Mapping[Operation, str] = MappingProxyType(
    {
        Operation.GET_BUCKET_ANALYTICS: "NoSuchConfiguration",
        Operation.GET_BUCKET_INTELLIGENT_TIERING: "NoSuchConfiguration",
        Operation.GET_BUCKET_INVENTORY: "NoSuchConfiguration",
        Operation.GET_BUCKET_METADATA: "MetadataConfigurationNotFound",
        Operation.GET_BUCKET_METADATA_TABLE: "MetadataConfigurationNotFound",
        Operation.GET_BUCKET_METRICS: "NoSuchConfiguration",
        Operation.GET_BUCKET_REPLICATION: "ReplicationConfigurationNotFoundError",
        Operation.GET_BUCKET_WEBSITE: "NoSuchWebsiteConfiguration",
        Operation.DELETE_BUCKET_ANALYTICS: "NoSuchConfiguration",
        Operation.DELETE_BUCKET_INTELLIGENT_TIERING: "NoSuchConfiguration",
        Operation.DELETE_BUCKET_INVENTORY: "NoSuchConfiguration",
        Operation.DELETE_BUCKET_METADATA: "MetadataConfigurationNotFound",
        Operation.DELETE_BUCKET_METADATA_TABLE: "MetadataConfigurationNotFound",
        Operation.DELETE_BUCKET_METRICS: "NoSuchConfiguration",
    }
)
"""The 404 with which S3 answers who asks for what is not there."""

DEFAULTS: Mapping[Operation, Node] = MappingProxyType(
    {
        Operation.GET_BUCKET_ABAC: node("AbacStatus", node("Status", "Disabled")),
        Operation.GET_BUCKET_ACCELERATE: node("AccelerateConfiguration"),
        Operation.GET_BUCKET_LOGGING: node("BucketLoggingStatus"),
        Operation.GET_BUCKET_NOTIFICATION: node("NotificationConfiguration"),
        Operation.GET_BUCKET_REQUEST_PAYMENT: node(
            "RequestPaymentConfiguration", node("Payer", "BucketOwner")
        ),
        Operation.LIST_BUCKET_ANALYTICS: node(
            "ListBucketAnalyticsConfigurationResult", node("IsTruncated", False)
        ),
        Operation.LIST_BUCKET_INTELLIGENT_TIERING: node(
            "ListBucketIntelligentTieringConfigurationsOutput", node("IsTruncated", False)
        ),
        Operation.LIST_BUCKET_INVENTORY: node(
            "ListInventoryConfigurationsResult", node("IsTruncated", False)
        ),
        Operation.LIST_BUCKET_METRICS: node("ListMetricsConfigurationsResult", node("IsTruncated", False)),
    }
)
"""The document of what holds while nothing is set."""

REMOVALS = frozenset(
    {
        Operation.DELETE_BUCKET_REPLICATION,
        Operation.DELETE_BUCKET_WEBSITE,
    }
)
"""Removals that S3 answers with success whether or not there was something."""


def answer_of_unset(operation: Operation) -> Answer:
    """
    Answer the reading or the removal of a configuration that is not set; bucket, object and permission are checked before.

    :raise S3Error: the 404 that names the missing configuration
    """
    missing = MISSING.get(operation)
    if missing is not None:
        raise S3Error(missing)
    if operation in REMOVALS:
        return Answer(status=204)
    return xml_answer(DEFAULTS[operation])
