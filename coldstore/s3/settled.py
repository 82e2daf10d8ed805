"""
Writes of configurations that ColdStore has one value of: they succeed when they say what is so, and change nothing.

Tools that manage buckets write defaults unasked, and write them again to undo what they did: ``private`` as ACL,
``BucketOwnerEnforced`` as ownership, no notifications. Every other value is refused by its name.
"""

from collections.abc import Mapping
from types import MappingProxyType

from coldstore.s3.api import Operation
from coldstore.s3.errors import SHOWN_MAX, S3Error, shown
from coldstore.s3.fields import HeaderFields
from coldstore.s3.unset import DEFAULTS
from coldstore.s3.xml import Element, MalformedDocument, Node, element, read_document

SETTLED: Mapping[Operation, Node] = MappingProxyType(
    {
        Operation.PUT_BUCKET_ABAC: DEFAULTS[Operation.GET_BUCKET_ABAC],
        Operation.PUT_BUCKET_LOGGING: DEFAULTS[Operation.GET_BUCKET_LOGGING],
        Operation.PUT_BUCKET_NOTIFICATION: DEFAULTS[Operation.GET_BUCKET_NOTIFICATION],
        Operation.PUT_BUCKET_OWNERSHIP: DEFAULTS[Operation.GET_BUCKET_OWNERSHIP],
        Operation.PUT_BUCKET_REQUEST_PAYMENT: DEFAULTS[Operation.GET_BUCKET_REQUEST_PAYMENT],
    }
)
"""The one document that each of them takes."""

ACL_HEADER = "x-amz-acl"
OWNER_ONLY_ACLS = ("private", "bucket-owner-full-control")
"""The canned ACLs that say what is so: all objects are the bucket owner's, and his alone."""


def check_settled(operation: Operation, document: bytes) -> None:
    """
    Let a document pass that says what is so.

    :raise S3Error: MissingRequestBodyError without a document, NotImplemented for another value, which it names
    :raise MalformedDocument: for anything that is no such document
    """
    expected = SETTLED[operation]
    if not document.strip():
        raise S3Error("MissingRequestBodyError", f"{operation.value} needs a {expected.name} as its body.")
    difference = _difference(read_document(document, expected.name), expected)
    if difference is not None:
        raise S3Error(
            "NotImplemented",
            f"ColdStore does not implement this part of S3: {operation.value} with {difference}; "
            f"what it takes is {element(expected)}",
            resource=operation.value,
        )


def _difference(given: Element, expected: Node) -> str | None:
    """Return the first thing that is given and not expected, or the other way round; None where there is none."""
    if isinstance(expected.content, str):
        if given.children:
            return given.children[0].name[:SHOWN_MAX]
        text = given.text.strip()
        return None if text == expected.content else f"{given.name} {shown(text)}"
    wanted = [child for child in expected.content if isinstance(child, Node)]
    names = [child.name for child in given.children]
    for child in wanted:
        if child.name not in names:
            return f"no {child.name}"
    if names != [child.name for child in wanted]:
        return f"{given.name} of {', '.join(names)[:SHOWN_MAX]}"
    found = (_difference(child, node) for child, node in zip(given.children, wanted, strict=True))
    return next((difference for difference in found if difference is not None), None)


def refuse_other_acls(headers: HeaderFields) -> None:
    """
    Let header fields pass that ask for no ACL but the owner's full control.

    :raise S3Error: AccessControlListNotSupported
    """
    for name in headers.amz_names():
        if name.startswith("x-amz-grant-"):
            raise _no_acls(name, "cannot be granted")
    canned = headers.get(ACL_HEADER)
    if canned not in (None, *OWNER_ONLY_ACLS):
        raise _no_acls(ACL_HEADER, f"cannot be {shown(canned)}")


def check_acl(headers: HeaderFields, document: bytes, owner_id: str) -> None:
    """
    Let an ACL pass that says what is so: full control for the owner of the bucket, and nothing for anybody else.

    :raise S3Error: AccessControlListNotSupported for any other, MalformedACLError for a document that is none,
        MissingSecurityHeader without any
    """
    refuse_other_acls(headers)
    if not document.strip():
        if ACL_HEADER not in headers:
            raise S3Error(
                "MissingSecurityHeader",
                f"The ACL is missing: send {ACL_HEADER} or an AccessControlPolicy.",
                details={"MissingHeaderName": ACL_HEADER},
            )
        return
    try:
        root = read_document(document, "AccessControlPolicy")
        lists = root.one("AccessControlList")
        grants = [] if lists is None else lists.all("Grant")
        given = [(_grantee(grant), (grant.text_of("Permission") or "").strip()) for grant in grants]
    except MalformedDocument as error:
        raise S3Error("MalformedACLError", f"The ACL that you provided is not well formed: {error}") from None
    if given != [(owner_id, "FULL_CONTROL")]:
        others = [f"{permission} for {grantee}" for grantee, permission in given if grantee != owner_id]
        shown = ", ".join(others)[:SHOWN_MAX] or "less than FULL_CONTROL for the owner"
        raise _no_acls("AccessControlList", f"cannot grant {shown}")


def _grantee(grant: Element) -> str:
    """Return who a grant is for, by id, group or address."""
    grantee = grant.one("Grantee")
    if grantee is None:
        raise MalformedDocument("a Grant has no Grantee")
    names = (grantee.text_of(name) for name in ("ID", "URI", "EmailAddress"))
    return next((name.strip() for name in names if name), "")


def _no_acls(name: str, why: str) -> S3Error:
    return S3Error(
        "AccessControlListNotSupported",
        f"The bucket does not allow ACLs: {name} {why}. Everything in a bucket is its owner's alone, "
        f"as {ACL_HEADER} says with {' or '.join(OWNER_ONLY_ACLS)}.",
        details={"Header": name},
    )
