"""
Which operation a request means: a pure function of its method, what its path names, its query and its headers.

Source: Amazon S3 API Reference, the request syntax of each action. Names in the query that no action knows are
ignored; names that one knows and ColdStore has not built are refused by name, so that a request for an object's tags
never answers with its bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, NoReturn

from coldstore.s3.errors import S3Error
from coldstore.s3.fields import CUSTOMER_KEY_PREFIX, SOURCE_KEY_PREFIX, HeaderFields, Query


class Operation(StrEnum):
    """What can be asked for, by the names of the S3 API; the last four are ColdStore's own names."""

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
    GET_DEFAULT_CLASS = "GetBucketDefaultClass"
    PUT_DEFAULT_CLASS = "PutBucketDefaultClass"
    GET_UNSET_BUCKET_CONFIGURATION = "GetUnsetBucketConfiguration"
    """A GET of a bucket configuration that cannot be set here; ``coldstore.s3.unset`` has the answers."""
    GET_UNSET_OBJECT_CONFIGURATION = "GetUnsetObjectConfiguration"
    """The same of an object."""


class Target(StrEnum):
    """What the path of a request names."""

    SERVICE = "service"
    BUCKET = "bucket"
    OBJECT = "object"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The operation and, where the query's name chose it, that name."""

    operation: Operation
    subresource: str | None = None


class _Built(NamedTuple):
    """The operations of one target: by method alone, and by method under the name of a sub-resource."""

    plain: Mapping[str, Operation]
    subresources: Mapping[str, Mapping[str, Operation]]
    unbuilt: frozenset[str]


DEFAULT_CLASS = "x-coldstore-default-class"
"""ColdStore's own sub-resource of a bucket: the storage class of objects whose writer names none."""

_READ_UNSET_BUCKET = {"GET": Operation.GET_UNSET_BUCKET_CONFIGURATION}
_READ_UNSET_OBJECT = {"GET": Operation.GET_UNSET_OBJECT_CONFIGURATION}

UNSET_BUCKET_CONFIGURATIONS = frozenset(
    [
        "accelerate",
        "acl",
        "cors",
        "encryption",
        "lifecycle",
        "logging",
        "notification",
        "object-lock",
        "ownershipControls",
        "policy",
        "publicAccessBlock",
        "replication",
        "requestPayment",
        "website",
    ]
)
UNSET_OBJECT_CONFIGURATIONS = frozenset(["acl", "legal-hold", "retention"])

_BUILT: Mapping[Target, _Built] = MappingProxyType(
    {
        Target.SERVICE: _Built({"GET": Operation.LIST_BUCKETS}, {}, frozenset()),
        Target.BUCKET: _Built(
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
                DEFAULT_CLASS: {"GET": Operation.GET_DEFAULT_CLASS, "PUT": Operation.PUT_DEFAULT_CLASS},
                **dict.fromkeys(UNSET_BUCKET_CONFIGURATIONS, _READ_UNSET_BUCKET),
            },
            frozenset(
                [
                    "abac",
                    "analytics",
                    "intelligent-tiering",
                    "inventory",
                    "metadataConfiguration",
                    "metadataTable",
                    "metrics",
                    "policyStatus",
                    "session",
                ]
            ),
        ),
        Target.OBJECT: _Built(
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
                **dict.fromkeys(UNSET_OBJECT_CONFIGURATIONS, _READ_UNSET_OBJECT),
            },
            frozenset(["append", "encryption", "renameObject", "select", "torrent"]),
        ),
    }
)

_SETS_PROPERTIES = frozenset(
    {
        Operation.CREATE_BUCKET,
        Operation.POST_OBJECT,
        Operation.PUT_OBJECT,
        Operation.COPY_OBJECT,
        Operation.CREATE_MULTIPART_UPLOAD,
        Operation.UPLOAD_PART,
        Operation.UPLOAD_PART_COPY,
    }
)
"""Operations whose headers can ask for a property of what they make."""

_OF_NO_VERSION = _SETS_PROPERTIES | {
    Operation.COMPLETE_MULTIPART_UPLOAD,
    Operation.ABORT_MULTIPART_UPLOAD,
    Operation.LIST_PARTS,
}
"""Operations on objects that are yet to be: whoever names a version wants something else."""

_UNBUILT_HEADERS = (
    "x-amz-server-side-encryption",
    "x-amz-object-lock-",
    "x-amz-bucket-object-lock-enabled",
    "x-amz-website-redirect-location",
    "x-amz-write-offset-bytes",
    "x-amz-copy-source-server-side-encryption",
)
"""Beginnings of header names that ask for a property ColdStore has not built."""

_BUILT_HEADERS = frozenset(
    beginning + name
    for beginning in (CUSTOMER_KEY_PREFIX, SOURCE_KEY_PREFIX)
    for name in ("algorithm", "key", "key-md5")
)
"""Those among them that are built: with a name that is misspelt an object would be kept as if no key had been brought."""
_OTHER_ENCRYPTION = "x-amz-server-side-encryption"

_METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"})


def route(method: str, target: Target, query: Query, headers: HeaderFields) -> Route:
    """
    Return the one operation that a request means.

    :raise S3Error: NotImplemented for what S3 has and ColdStore has not, MethodNotAllowed (with ``Allow``) for a method
        that its target or sub-resource does not take, AccessControlListNotSupported for a header that asks for an ACL,
        InvalidArgument for a version id where what is made gets one of its own
    """
    built = _BUILT[target]
    known = [name for name in query.names() if name in built.subresources or name in built.unbuilt]
    subresource = min(known) if known else None
    if subresource is None:
        operation = _plain_operation(method, target, built, query)
    else:
        operation = _named_operation(method, built, subresource)
    operation = _copying(operation, headers)
    if operation in _OF_NO_VERSION and query.one("versionId") is not None:
        raise S3Error(
            "InvalidArgument",
            "This operation does not accept a version-id.",
            details={"ArgumentName": "versionId", "ArgumentValue": query.one("versionId") or ""},
        )
    if operation in _SETS_PROPERTIES:
        _refuse_unbuilt_headers(headers)
    return Route(operation=operation, subresource=subresource)


def refuse_post_to_service(method: str, target: Target) -> None:
    """
    Refuse what browsers and scanners send to the root, whoever they are: no signature would help, so none is asked for.

    :raise S3Error: MethodNotAllowed (with ``Allow``)
    """
    if method == "POST" and target is Target.SERVICE:
        _refuse_method(method, _BUILT[target].plain)


def _plain_operation(method: str, target: Target, built: _Built, query: Query) -> Operation:
    operation = built.plain.get(method)
    if operation is None:
        if method == "OPTIONS":  # a CORS preflight: known to S3, not built
            raise _not_implemented(f"{method} {target.value}")
        _refuse_method(method, built.plain)
    if operation is Operation.LIST_OBJECTS and query.one("list-type") == "2":
        return Operation.LIST_OBJECTS_V2
    return operation


def _named_operation(method: str, built: _Built, subresource: str) -> Operation:
    by_method = built.subresources.get(subresource)
    if by_method is None:
        raise _not_implemented(subresource)
    operation = by_method.get(method)
    if operation is not None:
        return operation
    unset = {Operation.GET_UNSET_BUCKET_CONFIGURATION, Operation.GET_UNSET_OBJECT_CONFIGURATION}
    # Not AccessControlListNotSupported, with which S3 answers for buckets without ACLs: s3cmd puts the ACL of a source on
    # its copy, and goes on only after a 501.
    if unset & set(by_method.values()):
        raise _not_implemented(subresource)
    _refuse_method(method, by_method)


def _copying(operation: Operation, headers: HeaderFields) -> Operation:
    """Return the copying form of an operation whose bytes come from another object."""
    if "x-amz-copy-source" not in headers:
        return operation
    return {
        Operation.PUT_OBJECT: Operation.COPY_OBJECT,
        Operation.UPLOAD_PART: Operation.UPLOAD_PART_COPY,
    }.get(operation, operation)


def _refuse_method(method: str, allowed: Mapping[str, Operation]) -> NoReturn:
    if method not in _METHODS:
        raise _not_implemented(f"method {method}")
    raise S3Error(
        "MethodNotAllowed",
        details={"Method": method},
        headers={"Allow": ", ".join(sorted(allowed))},
    )


def _not_implemented(what: str) -> S3Error:
    return S3Error("NotImplemented", f"ColdStore does not implement this part of S3: {what}", resource=what)


def _refuse_unbuilt_headers(headers: HeaderFields) -> None:
    for name in headers.amz_names():
        if name in _BUILT_HEADERS:
            continue
        if name == _OTHER_ENCRYPTION and CUSTOMER_KEY_PREFIX + "algorithm" in headers:
            raise S3Error(
                "InvalidArgument",
                "Server Side Encryption with Customer provided key is incompatible with the encryption method specified",
                details={"ArgumentName": name, "ArgumentValue": headers.get(name) or ""},
            )
        if name.startswith(_UNBUILT_HEADERS):
            raise S3Error(
                "NotImplemented",
                f"A header you provided implies functionality that is not implemented: {name}",
                details={"Header": name},
            )
        if name.startswith("x-amz-grant-"):
            raise S3Error("AccessControlListNotSupported", details={"Header": name})
    if headers.get("x-amz-object-ownership") not in (None, "BucketOwnerEnforced"):
        raise S3Error("AccessControlListNotSupported", details={"Header": "x-amz-object-ownership"})
    if headers.get("x-amz-acl") not in (None, "private", "bucket-owner-full-control"):
        raise S3Error("AccessControlListNotSupported", details={"Header": "x-amz-acl"})
