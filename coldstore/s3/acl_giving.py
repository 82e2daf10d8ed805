"""The access control lists that calls give: new objects, new buckets, and those that there are."""

from coldstore.model.acl import Acl, CannedAcl, Group, Ownership
from coldstore.model.configurations import ConfigurationKind
from coldstore.model.objects import Bucket
from coldstore.plan.acl import EXECUTOR_ID, is_private, is_public, owner_of_new
from coldstore.s3.access_lists import AccessLists
from coldstore.s3.acl_document import parse_acl
from coldstore.s3.acl_fields import (
    ACL_HEADER,
    SILENT,
    Asked,
    Owned,
    asked_acl,
    asks_for_acl,
    bucket_document,
    written_fields,
)
from coldstore.s3.call import Call
from coldstore.s3.errors import S3Error, shown
from coldstore.s3.ownership import OWNERSHIP_HEADER, named_ownership, ownership_text
from coldstore.s3.public_access import PublicAccess

OWNER_ONLY = (CannedAcl.PRIVATE, CannedAcl.BUCKET_OWNER_FULL_CONTROL)
"""The canned lists that say what is so of a bucket without lists: all is its owner's, and his alone."""


class AclGiving:
    """Reads what a call gives, and refuses what cannot be given."""

    def __init__(self, lists: AccessLists, public_access: PublicAccess) -> None:
        self._lists = lists
        self._public_access = public_access

    async def of_new(self, call: Call, bucket: Bucket) -> Owned:
        """
        Return whose an object is that a call writes, and its list.

        :raise S3Error: AccessControlListNotSupported where there are no lists and another is asked for than what is so, AccessDenied for a public
            one where those are blocked; as ``asked_acl`` and ``check_users``
        """
        asks = asks_for_acl(call.headers)
        if not asks and ConfigurationKind.OWNERSHIP not in bucket.configurations:
            return Owned(bucket.owner_id, ())
        asked = asked_acl(call.headers, of_bucket=False) if asks else SILENT
        ownership = await self._lists.ownership(bucket)
        owner_id = owner_of_new(
            ownership,
            writer_id=call.caller.user_id or None,
            bucket_owner_id=bucket.owner_id,
            given=asked.canned,
        )
        given = asked.acl(owner_id=owner_id, bucket_owner_id=bucket.owner_id)
        if ownership is Ownership.ENFORCED:
            refuse_lists(asked, given)
        else:
            await self._check(bucket, given)
        return Owned(owner_id, written_fields(given))

    async def of_new_bucket(self, call: Call) -> dict[ConfigurationKind, str]:
        """
        Return what the bucket that a call creates is configured by: its ownership controls and its list.

        :raise S3Error: InvalidArgument for an ownership that there is not, InvalidBucketAclWithObjectOwnership for a list where there are to be
            none, InvalidBucketAclWithBlockPublicAccessError for a public one where those are blocked; as ``asked_acl`` and ``check_users``
        """
        name = call.headers.get(OWNERSHIP_HEADER)
        ownership = Ownership.ENFORCED if name is None else named_ownership(name)
        asked = asked_acl(call.headers, of_bucket=True)
        given = asked.acl(owner_id=call.caller.user_id, bucket_owner_id=call.caller.user_id)
        if ownership is Ownership.ENFORCED:
            refuse_lists(asked, given, "InvalidBucketAclWithObjectOwnership")
        elif is_public(given) and self._public_access.of_new.block_public_acls:
            raise S3Error("InvalidBucketAclWithBlockPublicAccessError")
        else:
            await self.check_users(given)
        documents = {
            ConfigurationKind.OWNERSHIP: ownership_text(ownership),
            ConfigurationKind.ACL: bucket_document(given),
        }
        return {kind: document for kind, document in documents.items() if document is not None}

    async def owner_of_marker(self, call: Call, bucket: Bucket) -> str:
        """Return whose a delete marker is that a call puts."""
        return owner_of_new(
            await self._lists.ownership(bucket),
            writer_id=call.caller.user_id or None,
            bucket_owner_id=bucket.owner_id,
            given=None,
        )

    async def given(
        self, call: Call, bucket: Bucket, *, owner_id: str, document: bytes, of_bucket: bool
    ) -> Acl:
        """
        Return the list that a call gives a bucket or an object of ``owner_id``, by header fields or a document.

        :raise S3Error: MissingSecurityHeader for neither, UnexpectedContent for both, AccessDenied for a document of another owner,
            and for a public list where those are blocked, AccessControlListNotSupported where there are no lists and this is another than
            what is so; as ``asked_acl``, ``parse_acl`` and ``check_users``
        """
        asked = asked_acl(call.headers, of_bucket=of_bucket)
        if not document.strip():
            if asked.is_silent:
                raise S3Error(
                    "MissingSecurityHeader",
                    f"The ACL is missing: send {ACL_HEADER} or an AccessControlPolicy.",
                    details={"MissingHeaderName": ACL_HEADER},
                )
            given = asked.acl(owner_id=owner_id, bucket_owner_id=bucket.owner_id)
        elif asked.is_silent:
            given = parse_acl(document)
            if given.owner_id != owner_id:
                raise S3Error(
                    "AccessDenied",
                    f"Access Denied: the ACL is of owner {shown(given.owner_id)}, and what it is for is of another; "
                    "an ACL changes no owner.",
                )
        else:
            raise S3Error(
                "UnexpectedContent",
                "This request does not support content: its header fields have an ACL, and its body another.",
            )
        if await self._lists.ownership(bucket) is Ownership.ENFORCED:
            refuse_lists(asked, given)
        else:
            await self._check(bucket, given)
        return given

    async def _check(self, bucket: Bucket, given: Acl) -> None:
        if is_public(given) and (await self._public_access.of(bucket)).block_public_acls:
            raise S3Error(
                "AccessDenied",
                f"Access Denied: the ACL is public, and the public access block of bucket {shown(bucket.name)} prevents public "
                "ACLs (BlockPublicAcls).",
            )
        await self.check_users(given)

    async def check_users(self, given: Acl) -> None:
        """
        Let a list pass all of whose grantees there are.

        :raise S3Error: InvalidArgument
        """
        wanted = {grant.grantee for grant in given.grants if not isinstance(grant.grantee, Group)}
        wanted -= {given.owner_id, EXECUTOR_ID}
        unknown = sorted(wanted - set(await self._lists.names(wanted)))
        if unknown:
            raise S3Error(
                "InvalidArgument",
                f"Invalid id: there is no user {shown(unknown[0])}",
                details={"ArgumentName": "CanonicalUser/ID", "ArgumentValue": unknown[0]},
            )


def refuse_lists(asked: Asked, given: Acl, code: str = "AccessControlListNotSupported") -> None:
    """
    Let a list pass that says what is so of a bucket without lists.

    :param asked: the header fields that ask for it; nothing, when it came in a document
    :raise S3Error: ``code``
    """
    if is_private(given) and asked.canned in (None, *OWNER_ONLY):
        return
    if asked.canned is not None:
        what, why = ACL_HEADER, f"cannot be {shown(asked.canned.value)}"
    else:
        others = [
            f"{grant.permission} for {grant.grantee}"
            for grant in given.grants
            if grant.grantee != given.owner_id
        ]
        what = "an ACL"
        why = f"cannot grant {shown(', '.join(others)) if others else 'less than FULL_CONTROL for the owner'}"
    raise S3Error(
        code,
        f"The bucket does not allow ACLs: {what} {why}. Everything in it is its owner's alone, as {ACL_HEADER} says with "
        f"{' or '.join(OWNER_ONLY)}; an ownership other than {Ownership.ENFORCED} (PutBucketOwnershipControls) allows ACLs.",
    )
