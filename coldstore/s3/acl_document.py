"""
Access control lists as documents (``AccessControlPolicy``). Pure.

Source: S3 API Reference, GetObjectAcl and PutObjectAcl.
"""

from collections.abc import Mapping

from coldstore.model.acl import Acl, Grant, Group, Permission
from coldstore.plan.acl import acl
from coldstore.s3.acl_fields import check_count, grantee
from coldstore.s3.errors import SHOWN_MAX, S3Error, shown
from coldstore.s3.xml import SCHEMA_INSTANCE, Element, MalformedDocument, Node, node, read_document

_KINDS = ("ID", "URI", "EmailAddress")
_PERMISSIONS = {permission.value: permission for permission in Permission}


def parse_acl(document: bytes) -> Acl:
    """
    Read a document; its grantees may be anybody.

    :raise S3Error: MalformedACLError for anything that is no such document or has too many grants, InvalidArgument for a group that there is
        not, UnresolvableGrantByEmailAddress
    """
    try:
        root = read_document(document, "AccessControlPolicy")
        owner, listed = root.one("Owner"), root.one("AccessControlList")
        owner_id = "" if owner is None else (owner.text_of("ID") or "").strip()
        if not owner_id:
            raise MalformedDocument("it has no Owner with an ID")
        if listed is None:
            raise MalformedDocument("it has no AccessControlList")
        other = next((child.name for child in listed.children if child.name != "Grant"), None)
        if other is not None:
            raise MalformedDocument(f"AccessControlList holds {other[:SHOWN_MAX]}")
        grants = [_grant(each) for each in listed.children]
    except MalformedDocument as error:
        raise S3Error("MalformedACLError", f"The ACL that you provided is not well formed: {error}") from None
    check_count(len(grants))
    return acl(owner_id, grants)


def _grant(element: Element) -> Grant:
    whose, name = element.one("Grantee"), (element.text_of("Permission") or "").strip()
    if whose is None:
        raise MalformedDocument("a Grant has no Grantee")
    permission = _PERMISSIONS.get(name)
    if permission is None:
        raise MalformedDocument(f"a Permission is {shown(name)}, and can be {', '.join(_PERMISSIONS)}")
    named = [(kind, text.strip()) for kind in _KINDS if (text := whose.text_of(kind)) is not None]
    if len(named) != 1:
        raise MalformedDocument(f"a Grantee has one of {', '.join(_KINDS)}")
    ((kind, value),) = named
    return Grant(grantee(kind.lower(), value, f"Grantee/{kind}"), permission)


def acl_node(given: Acl, names: Mapping[str, str]) -> Node:
    """
    Return the document that shows a list.

    :param names: of users by their ids; of others the id is shown in the name's place
    """
    return node(
        "AccessControlPolicy",
        node("Owner", *_user(given.owner_id, names)),
        node("AccessControlList", *(_grant_node(each, names) for each in given.grants)),
    )


def _grant_node(grant: Grant, names: Mapping[str, str]) -> Node:
    is_group = isinstance(grant.grantee, Group)
    whose = node(
        "Grantee",
        *([node("URI", grant.grantee)] if is_group else _user(grant.grantee, names)),
        attributes=(("xmlns:xsi", SCHEMA_INSTANCE), ("xsi:type", "Group" if is_group else "CanonicalUser")),
    )
    return node("Grant", whose, node("Permission", grant.permission.value))


def _user(user_id: str, names: Mapping[str, str]) -> list[Node]:
    return [node("ID", user_id), node("DisplayName", names.get(user_id, user_id))]
