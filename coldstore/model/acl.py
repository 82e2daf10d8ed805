"""
Access control lists: who, beside policies, may do what with a bucket or an object; and who owns what is written.

Source: S3 User Guide, "Access control list (ACL) overview" and "Controlling ownership of objects and disabling ACLs".
"""

from enum import StrEnum
from typing import NamedTuple


class Permission(StrEnum):
    """What a grant allows (API enum ``Permission``), the strongest last."""

    READ = "READ"
    WRITE = "WRITE"
    READ_ACP = "READ_ACP"
    WRITE_ACP = "WRITE_ACP"
    FULL_CONTROL = "FULL_CONTROL"


class Group(StrEnum):
    """The predefined groups, by the URIs that name them."""

    ALL_USERS = "http://acs.amazonaws.com/groups/global/AllUsers"
    """Everybody, who signs and who does not."""
    AUTHENTICATED_USERS = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers"
    """Everybody who signs."""
    LOG_DELIVERY = "http://acs.amazonaws.com/groups/s3/LogDelivery"
    """Who writes the access logs of buckets: nobody here."""


class Grant(NamedTuple):
    """One permission of a group, or of the user of a canonical id."""

    grantee: Group | str
    permission: Permission


class Acl(NamedTuple):
    """The list of a bucket or an object; ``owner_id`` is whose it is."""

    owner_id: str
    grants: tuple[Grant, ...]


class CannedAcl(StrEnum):
    """Lists that have a name (S3 User Guide, "Canned ACL")."""

    PRIVATE = "private"
    PUBLIC_READ = "public-read"
    PUBLIC_READ_WRITE = "public-read-write"
    AUTHENTICATED_READ = "authenticated-read"
    AWS_EXEC_READ = "aws-exec-read"
    BUCKET_OWNER_READ = "bucket-owner-read"
    BUCKET_OWNER_FULL_CONTROL = "bucket-owner-full-control"
    LOG_DELIVERY_WRITE = "log-delivery-write"


class Ownership(StrEnum):
    """Whose the objects in a bucket are, and whether it has ACLs at all (API enum ``ObjectOwnership``)."""

    ENFORCED = "BucketOwnerEnforced"
    """All are the bucket owner's, and there are no ACLs: so it is where nothing else was said."""
    PREFERRED = "BucketOwnerPreferred"
    """Those that are written with full control for the bucket's owner are his, others their writer's."""
    WRITER = "ObjectWriter"
    """Each is its writer's."""
