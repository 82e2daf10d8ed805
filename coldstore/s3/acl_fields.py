"""
Access control lists in header fields: how they are asked for, and, in the same notation, how they are kept.

Of a list that is not its owner's full control alone there is a field for each permission, which names all who have it:
``x-amz-grant-read: id="…", uri="…"``. These stand among the stored headers of an object, as its writer's tags do, and so on tape; what
an object is given later stands in its record, and the list of a bucket among its configurations. Pure.

Source: S3 API Reference, PutObjectAcl, "Access Permissions".
"""

import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from coldstore.model.acl import Acl, CannedAcl, Grant, Group, Permission
from coldstore.model.objects import ObjectVersion, Pairs
from coldstore.plan.acl import acl, canned, is_private, private
from coldstore.s3.errors import S3Error, shown
from coldstore.s3.fields import HeaderFields

ACL_HEADER = "x-amz-acl"
GRANT_PREFIX = "x-amz-grant-"
GRANTS_MAX = 100
"""Grants in one list (S3 User Guide)."""
_FIELDS: Mapping[str, Permission] = MappingProxyType(
    {GRANT_PREFIX + permission.lower().replace("_", "-"): permission for permission in Permission}
)
_NAMES: Mapping[Permission, str] = MappingProxyType(
    {permission: name for name, permission in _FIELDS.items()}
)
_GROUPS: Mapping[str, Group] = MappingProxyType({group.value: group for group in Group})
_GRANTEE = re.compile(
    r'\s*(?P<kind>id|uri|emailaddress)\s*=\s*(?:"(?P<quoted>[^"]*)"|(?P<bare>[^",;\s]+))\s*(?:,|$)',
    re.IGNORECASE,
)
_OF_BUCKETS = frozenset(CannedAcl)
_OF_OBJECTS = _OF_BUCKETS - {CannedAcl.LOG_DELIVERY_WRITE}


class Asked(NamedTuple):
    """What a request's header fields ask for: a canned list, or grants; nothing of either."""

    canned: CannedAcl | None = None
    grants: tuple[Grant, ...] | None = None

    @property
    def is_silent(self) -> bool:
        """Whether nothing was asked for."""
        return self.canned is None and self.grants is None

    def acl(self, *, owner_id: str, bucket_owner_id: str) -> Acl:
        """Return the list that this means for a bucket or an object of ``owner_id``; that of full control for him where nothing was asked for."""
        if self.grants is not None:
            return acl(owner_id, self.grants)
        return canned(self.canned or CannedAcl.PRIVATE, owner_id=owner_id, bucket_owner_id=bucket_owner_id)


SILENT = Asked()


class Owned(NamedTuple):
    """Whose a new object is, and the grants of its list as fields among its headers."""

    owner_id: str
    fields: Pairs


def asks_for_acl(headers: HeaderFields) -> bool:
    """Whether any header field is about an access control list."""
    return any(name == ACL_HEADER or name.startswith(GRANT_PREFIX) for name in headers.amz_names())


def asked_acl(headers: HeaderFields, *, of_bucket: bool) -> Asked:
    """
    Read what header fields ask for.

    :raise S3Error: InvalidArgument for a name that is no canned list, a grantee that is none or a permission that there is not, InvalidRequest for
        both kinds at once, MalformedACLError for too many grants, UnresolvableGrantByEmailAddress
    """
    if not asks_for_acl(headers):
        return SILENT
    fields = sorted(name for name in headers.amz_names() if name.startswith(GRANT_PREFIX))
    name = headers.get(ACL_HEADER)
    if name is not None:
        if fields:
            raise S3Error(
                "InvalidRequest",
                f"Specifying both Canned ACLs and Header Grants is not allowed: {ACL_HEADER} and {fields[0]}",
            )
        return Asked(canned=_canned(name, _OF_BUCKETS if of_bucket else _OF_OBJECTS))
    grants: list[Grant] = []
    for field in fields:
        permission = _FIELDS.get(field)
        if permission is None:
            raise _invalid(
                field,
                headers.get(field) or "",
                f"there is no such permission; fields are {', '.join(_FIELDS)}",
            )
        grants += (Grant(grantee, permission) for grantee in grantees(field, headers.get(field) or ""))
    check_count(len(grants))
    return Asked(grants=tuple(grants))


def _canned(name: str, possible: Iterable[CannedAcl]) -> CannedAcl:
    for each in possible:
        if each.value == name:
            return each
    names = ", ".join(sorted(possible))
    raise _invalid(ACL_HEADER, name, f"there are {names}")


def grantees(field: str, value: str) -> list[Group | str]:
    """
    Read the grantees that a field names.

    :raise S3Error: InvalidArgument, UnresolvableGrantByEmailAddress
    """
    found: list[Group | str] = []
    position = 0
    while position < len(value) or not found:
        match = _GRANTEE.match(value, position)
        if match is None:
            raise _invalid(field, value, 'grantees are id="…" and uri="…", with commas between them')
        position = match.end()
        found.append(
            grantee(
                match["kind"].lower(), match["bare"] if match["quoted"] is None else match["quoted"], field
            )
        )
    return found


def grantee(kind: str, value: str, where: str) -> Group | str:
    """
    Return who is meant by an id, the URI of a group or an address.

    :param kind: ``id``, ``uri`` or ``emailaddress``
    :param where: the field or the element that names the grantee
    :raise S3Error: InvalidArgument, UnresolvableGrantByEmailAddress: users have no addresses here
    """
    if kind == "emailaddress":
        raise S3Error(
            "UnresolvableGrantByEmailAddress",
            f"The email address you provided does not match any account on record: {shown(value)}. Users have none here: name "
            "a user by his canonical id.",
            details={"EmailAddress": value},
        )
    if kind == "uri":
        group = _GROUPS.get(value)
        if group is None:
            raise S3Error(
                "InvalidArgument",
                f"Invalid group uri: {shown(value)}; there are {', '.join(_GROUPS)}",
                details={"ArgumentName": where, "ArgumentValue": value},
            )
        return group
    if not value:
        raise S3Error(
            "InvalidArgument",
            "Invalid id: it is empty",
            details={"ArgumentName": where, "ArgumentValue": value},
        )
    return value


def check_count(count: int) -> None:
    """
    Let as many grants pass as a list may have.

    :raise S3Error: MalformedACLError
    """
    if count > GRANTS_MAX:
        raise S3Error("MalformedACLError", f"The ACL has {count} grants, and may have {GRANTS_MAX}.")


def _invalid(name: str, value: str, why: str) -> S3Error:
    return S3Error(
        "InvalidArgument",
        f"Argument format not recognized: {name} is {shown(value)}; {why}",
        details={"ArgumentName": name, "ArgumentValue": value},
    )


# ── what is kept ────────────────────────────────────────────────────────────────────────────────────────────────────


def fields_of(grants: Iterable[Grant]) -> Pairs:
    """Return grants as fields, sorted by name."""
    named: dict[str, list[str]] = {}
    for each in grants:
        kind = "uri" if isinstance(each.grantee, Group) else "id"
        named.setdefault(_NAMES[each.permission], []).append(f'{kind}="{each.grantee}"')
    return tuple(sorted((name, ", ".join(whose)) for name, whose in named.items()))


def written_fields(given: Acl) -> Pairs:
    """Return a list as fields among a writer's: none of the owner's full control alone."""
    return () if is_private(given) else fields_of(given.grants)


@lru_cache(maxsize=256)
def grants_of(fields: Pairs) -> tuple[Grant, ...]:
    """Undo ``fields_of``."""
    return tuple(
        Grant(each, _FIELDS[name])
        for name, value in fields
        for each in (grantees(name, value) if value else ())
    )


def with_grants(headers: Pairs, fields: Pairs) -> Pairs:
    """Return stored headers with these fields among them in place of other grants, sorted by name."""
    kept = tuple(pair for pair in headers if not pair[0].startswith(GRANT_PREFIX))
    return tuple(sorted(kept + fields)) if fields else kept


def acl_of(version: ObjectVersion) -> Acl:
    """Return the list that a version has now."""
    owner_id = version.facts.owner_id
    if version.acl is not None:
        return acl(owner_id, grants_of(version.acl))
    fields = tuple(pair for pair in version.facts.headers if pair[0].startswith(GRANT_PREFIX))
    return acl(owner_id, grants_of(fields)) if fields else private(owner_id)


def bucket_document(given: Acl) -> str | None:
    """Return what is kept of a bucket's list: the JSON of its fields; nothing of the owner's full control alone."""
    return None if is_private(given) else json.dumps(fields_of(given.grants), separators=(",", ":"))


def grants_in(document: str) -> tuple[Grant, ...]:
    """Undo ``bucket_document``, but for the owner."""
    return grants_of(tuple((name, value) for name, value in json.loads(document)))
