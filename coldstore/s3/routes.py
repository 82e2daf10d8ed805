"""
Which operation a request means: a pure function of its method, what its path names, its query and its headers.

Source: Amazon S3 API Reference, the request syntax of each action. Names in the query that no action knows are
ignored; names that one knows and ColdStore has not built are refused by name, so that a request for an object's tags
never answers with its bytes.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NoReturn

from coldstore.s3.api import BUILT, COPYING, OF_ONE, PREFLIGHT, UNBUILT, Operation, Target
from coldstore.s3.encryption_default import check_method
from coldstore.s3.errors import SHOWN_MAX, S3Error, shown
from coldstore.s3.fields import (
    CUSTOMER_KEY_PREFIX,
    SERVER_SIDE_ENCRYPTION,
    SOURCE_KEY_PREFIX,
    HeaderFields,
    Query,
)
from coldstore.s3.locks import BUCKET_HEADER, LOCK_HEADERS, LOCK_PREFIX

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

_TAKES_ENCRYPTION = frozenset(
    {
        Operation.POST_OBJECT,
        Operation.PUT_OBJECT,
        Operation.COPY_OBJECT,
        Operation.CREATE_MULTIPART_UPLOAD,
    }
)
"""Operations that may be told to encrypt with a key of ours; all others refuse to be, as on AWS."""

_UNBUILT_HEADERS = (
    "x-amz-server-side-encryption",
    LOCK_PREFIX,
    BUCKET_HEADER,
    "x-amz-website-redirect-location",
    "x-amz-write-offset-bytes",
    "x-amz-copy-source-server-side-encryption",
)
"""Beginnings of header names that ask for a property ColdStore has not built."""

_BUILT_HEADERS = frozenset(
    beginning + name
    for beginning in (CUSTOMER_KEY_PREFIX, SOURCE_KEY_PREFIX)
    for name in ("algorithm", "key", "key-md5")
) | {SERVER_SIDE_ENCRYPTION}
"""Those among them that are built: with a name that is misspelt an object would be kept as if no key had been brought."""
_BUILT_OF: Mapping[Operation, frozenset[str]] = MappingProxyType(
    {
        Operation.CREATE_BUCKET: frozenset({BUCKET_HEADER}),
        **dict.fromkeys(
            (
                Operation.POST_OBJECT,
                Operation.PUT_OBJECT,
                Operation.COPY_OBJECT,
                Operation.CREATE_MULTIPART_UPLOAD,
            ),
            LOCK_HEADERS,
        ),
    }
)
"""Those that are built for some operations."""

_METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "DELETE", PREFLIGHT})


def route(method: str, target: Target, query: Query, headers: HeaderFields) -> Operation:
    """
    Return the one operation that a request means.

    :raise S3Error: NotImplemented for what S3 has and ColdStore has not, MethodNotAllowed (with ``Allow``) for a method
        that its target or sub-resource does not take, InvalidArgument for a version id where what is made gets one of its own
    """
    if method == PREFLIGHT and target is not Target.SERVICE:
        return Operation.OPTIONS_OBJECT
    named = subresources(target, query)
    if named:
        operation = _named_operation(method, target, min(named), query)
    else:
        operation = _plain_operation(method, target, query, headers)
    if "x-amz-copy-source" in headers:
        operation = COPYING.get(operation, operation)
    if operation in _OF_NO_VERSION and query.one("versionId") is not None:
        raise S3Error(
            "InvalidArgument",
            f"{operation.value} does not accept a version-id: what it makes gets one of its own.",
            details={"ArgumentName": "versionId", "ArgumentValue": query.one("versionId") or ""},
        )
    if SERVER_SIDE_ENCRYPTION in headers:
        _check_encryption(operation, headers)
    if operation in _SETS_PROPERTIES:
        _refuse_unbuilt_headers(headers, _BUILT_OF.get(operation, frozenset()))
    return operation


def names_subresource(target: Target, query: Query) -> bool:
    """Tell whether a query names something of a bucket or an object that S3 knows, built or not."""
    return bool(subresources(target, query))


def subresources(target: Target, query: Query) -> list[str]:
    """Return the names in a query that mean something of a bucket or an object that S3 knows, built or not."""
    if not len(query):
        return []
    return [name for name in query.names() if name in BUILT[target].subresources or name in UNBUILT[target]]


def refuse_post_to_service(method: str, target: Target) -> None:
    """
    Refuse what browsers and scanners send to the root, whoever they are: no signature would help, so none is asked for.

    :raise S3Error: MethodNotAllowed (with ``Allow``)
    """
    if method == "POST" and target is Target.SERVICE:
        _refuse_method(method, "the list of buckets", BUILT[target].plain)


def _plain_operation(method: str, target: Target, query: Query, headers: HeaderFields) -> Operation:
    operation = BUILT[target].plain.get(method)
    if operation is None:
        what = "the list of buckets" if target is Target.SERVICE else f"a {target.value}"
        _refuse_method(method, what, BUILT[target].plain)
    if operation is Operation.POST_OBJECT and "x-amz-request-route" in headers:
        raise _not_implemented("WriteGetObjectResponse")
    if operation is Operation.LIST_OBJECTS and query.one("list-type") == "2":
        return Operation.LIST_OBJECTS_V2
    return operation


def _named_operation(method: str, target: Target, subresource: str, query: Query) -> Operation:
    built = BUILT[target].subresources.get(subresource, {})
    operation = built.get(method)
    if operation is not None:
        return OF_ONE.get(operation, operation) if "id" in query else operation
    unbuilt = UNBUILT[target].get(subresource, {})
    if method in unbuilt:
        raise _not_implemented(f"{unbuilt[method]} ({method} ?{subresource})")
    _refuse_method(method, f"?{subresource} of a {target.value}", {*built, *unbuilt})


def _refuse_method(method: str, what: str, allowed: Iterable[str]) -> NoReturn:
    if method not in _METHODS:
        raise _not_implemented(f"method {method[:SHOWN_MAX]}")
    takes = ", ".join(sorted(allowed))
    raise S3Error(
        "MethodNotAllowed",
        f"The method {method} is not allowed against {what}, which takes {takes}.",
        details={"Method": method},
        headers={"Allow": takes},
    )


def _not_implemented(what: str) -> S3Error:
    return S3Error("NotImplemented", f"ColdStore does not implement this part of S3: {what}", resource=what)


def _check_encryption(operation: Operation, headers: HeaderFields) -> None:
    """Let a request pass that may ask for the encryption which it asks for."""
    details = {
        "ArgumentName": SERVER_SIDE_ENCRYPTION,
        "ArgumentValue": headers.get(SERVER_SIDE_ENCRYPTION) or "",
    }
    if operation not in _TAKES_ENCRYPTION:
        raise S3Error(
            "InvalidArgument",
            f"{SERVER_SIDE_ENCRYPTION} header is not supported for this operation.",
            details=details,
        )
    if headers.names_key(CUSTOMER_KEY_PREFIX):
        raise S3Error(
            "InvalidArgument",
            "Server Side Encryption with Customer provided key is incompatible with the encryption method specified",
            details=details,
        )
    check_method(headers)


def _refuse_unbuilt_headers(headers: HeaderFields, built: frozenset[str]) -> None:
    for name in headers.amz_names():
        if name in _BUILT_HEADERS or name in built:
            continue
        if name.startswith(_UNBUILT_HEADERS):
            # A customer's key may stand behind a name that is misspelt.
            may_be_key = "encryption-" in name
            value = "" if may_be_key else f" with {shown(headers.get(name) or '')}"
            raise S3Error(
                "NotImplemented",
                f"A header you provided implies functionality that is not implemented: {name}{value}",
                details={"Header": name},
            )
