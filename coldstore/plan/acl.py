"""
What access control lists allow, which ones the canned names stand for, and whose a new object is. Pure.

Source: S3 User Guide, "Access control list (ACL) overview", "Controlling ownership of objects and disabling ACLs" and "Blocking
public access to your Amazon S3 storage" (the meaning of "public").
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from coldstore.model.acl import Acl, CannedAcl, Grant, Group, Ownership, Permission

EXECUTOR_ID = "6aa5a366c34c1cbe25dc49211496e913e0351eb0e8c37aa3477e40942ec6b93c"
"""The canonical id to which ``aws-exec-read`` grants: that of Amazon EC2, which is nobody here."""
PUBLIC = frozenset({Group.ALL_USERS, Group.AUTHENTICATED_USERS})
"""Grants to these make a list public, whatever they allow."""
OF_BUCKET: Mapping[str, Permission] = MappingProxyType(
    {
        "s3:ListBucket": Permission.READ,
        "s3:ListBucketVersions": Permission.READ,
        "s3:ListBucketMultipartUploads": Permission.READ,
        "s3:PutObject": Permission.WRITE,
        "s3:DeleteObject": Permission.WRITE,
        "s3:GetBucketAcl": Permission.READ_ACP,
        "s3:PutBucketAcl": Permission.WRITE_ACP,
    }
)
"""What the list of a bucket can allow, by the names that policies have for it (S3 User Guide, "Mapping of ACL permissions and access policy permissions")."""
OF_OBJECT: Mapping[str, Permission] = MappingProxyType(
    {
        "s3:GetObject": Permission.READ,
        "s3:GetObjectVersion": Permission.READ,
        "s3:GetObjectAcl": Permission.READ_ACP,
        "s3:GetObjectVersionAcl": Permission.READ_ACP,
        "s3:PutObjectAcl": Permission.WRITE_ACP,
        "s3:PutObjectVersionAcl": Permission.WRITE_ACP,
    }
)
"""The same of an object: what of an object that is another's than its bucket's owner is for its owner to allow, and for nobody else."""
OF_OWNER = frozenset(
    f"s3:{verb}Object{version}{what}"
    for verb, what in (("Get", "Tagging"), ("Put", "Tagging"), ("Delete", "Tagging"), ("Get", "Attributes"))
    for version in ("", "Version")
)
"""What no list can allow, and the owner of an object may do with it."""
_ORDER = {permission: place for place, permission in enumerate(Permission)}
_IMPLIED: Mapping[Permission, frozenset[Permission]] = MappingProxyType(
    {permission: frozenset({permission, Permission.FULL_CONTROL}) for permission in Permission}
)
"""By what is asked for: the permissions that allow it."""
_ALWAYS_OWNERS = frozenset({Permission.READ_ACP, Permission.WRITE_ACP})
"""What an owner may do whatever the list says, so that no list locks everybody out."""


def acl(owner_id: str, grants: Iterable[Grant]) -> Acl:
    """Return a list in the one order in which lists are kept and shown: by permission, each grant once."""
    return Acl(owner_id, tuple(sorted(dict.fromkeys(grants), key=lambda grant: _ORDER[grant.permission])))


def private(owner_id: str) -> Acl:
    """Return the list of full control for the owner, and nothing for anybody else."""
    return Acl(owner_id, (Grant(owner_id, Permission.FULL_CONTROL),))


def is_private(given: Acl) -> bool:
    """Whether a list says what ``private`` says."""
    return given == private(given.owner_id)


def canned(name: CannedAcl, *, owner_id: str, bucket_owner_id: str) -> Acl:
    """
    Return the list that a canned name stands for.

    :param owner_id: whose the bucket or the object is
    :param bucket_owner_id: whose the object's bucket is; of a bucket the same
    """
    more: tuple[Grant, ...]
    match name:
        case CannedAcl.PRIVATE:
            more = ()
        case CannedAcl.PUBLIC_READ:
            more = (Grant(Group.ALL_USERS, Permission.READ),)
        case CannedAcl.PUBLIC_READ_WRITE:
            more = (Grant(Group.ALL_USERS, Permission.READ), Grant(Group.ALL_USERS, Permission.WRITE))
        case CannedAcl.AUTHENTICATED_READ:
            more = (Grant(Group.AUTHENTICATED_USERS, Permission.READ),)
        case CannedAcl.AWS_EXEC_READ:
            more = (Grant(EXECUTOR_ID, Permission.READ),)
        case CannedAcl.BUCKET_OWNER_READ:
            # Of an object that is the bucket owner's own this says nothing (S3 User Guide).
            more = () if owner_id == bucket_owner_id else (Grant(bucket_owner_id, Permission.READ),)
        case CannedAcl.BUCKET_OWNER_FULL_CONTROL:
            more = (Grant(bucket_owner_id, Permission.FULL_CONTROL),)
        case CannedAcl.LOG_DELIVERY_WRITE:
            more = (
                Grant(Group.LOG_DELIVERY, Permission.WRITE),
                Grant(Group.LOG_DELIVERY, Permission.READ_ACP),
            )
    return acl(owner_id, (*private(owner_id).grants, *more))


def allows(given: Acl, permission: Permission, caller: str | None) -> bool:
    """
    Whether a list allows somebody something.

    :param caller: the canonical id of a user; None: somebody who did not sign
    """
    if caller == given.owner_id and permission in _ALWAYS_OWNERS:
        return True
    enough = _IMPLIED[permission]
    return any(grant.permission in enough and _is_for(grant.grantee, caller) for grant in given.grants)


def _is_for(grantee: Group | str, caller: str | None) -> bool:
    match grantee:
        case Group.ALL_USERS:
            return True
        case Group.AUTHENTICATED_USERS:
            return caller is not None
        case Group.LOG_DELIVERY:
            return False
        case _:
            return grantee == caller


def is_public(given: Acl) -> bool:
    """Whether a list grants anything to everybody, or to everybody who signs."""
    return any(grant.grantee in PUBLIC for grant in given.grants)


def without_public(given: Acl) -> Acl:
    """Return what is left of a list when its public grants are ignored."""
    return given._replace(grants=tuple(grant for grant in given.grants if grant.grantee not in PUBLIC))


def owner_of_new(
    ownership: Ownership, *, writer_id: str | None, bucket_owner_id: str, given: CannedAcl | None
) -> str:
    """
    Return whose an object is that comes into being.

    :param writer_id: who writes it; None: somebody who did not sign. What such a one writes is the bucket owner's, since nobody else could ever ask
        for it (at AWS it belongs to a user of its own)
    :param given: the canned list that it is written with, if it is one
    """
    if writer_id is None or ownership is Ownership.ENFORCED:
        return bucket_owner_id
    if ownership is Ownership.PREFERRED and given is CannedAcl.BUCKET_OWNER_FULL_CONTROL:
        return bucket_owner_id
    return writer_id
