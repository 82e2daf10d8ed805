"""Operations on access control lists and on ownership controls."""

from coldstore.interfaces.metadata import Conflict
from coldstore.model.acl import Acl, Group, Ownership
from coldstore.model.configurations import ConfigurationKind
from coldstore.model.objects import Bucket, ObjectVersion
from coldstore.plan.acl import is_private
from coldstore.s3.acl_document import acl_node
from coldstore.s3.acl_fields import acl_of, bucket_document, fields_of
from coldstore.s3.answers import Answer, xml_answer
from coldstore.s3.call import Call
from coldstore.s3.errors import S3Error
from coldstore.s3.ownership import REMOVED, ownership_node, ownership_text, parse_ownership
from coldstore.s3.services import Services, check_version_id, version_header
from coldstore.s3.xml import Node

TRIES = 8
"""How often a version is looked up anew because it went between the look and the change."""


class AclOperations:
    """The operations of this family."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._store = services.store
        self._lists = services.access_lists

    async def get_of_bucket(self, call: Call) -> Answer:
        """GetBucketAcl."""
        bucket = await self._services.bucket(call)
        return xml_answer(await self._shown(await self._lists.of_bucket(bucket)))

    async def put_of_bucket(self, call: Call) -> Answer:
        """PutBucketAcl: in place of the list that it has."""
        bucket = await self._services.bucket(call)
        document = await self._services.document(call, bucket)
        given = await self._services.acl_giving.given(
            call, bucket, owner_id=bucket.owner_id, document=document, of_bucket=True
        )
        if given != await self._lists.kept(bucket):
            await self._store.set_bucket_configuration(
                name=bucket.name, kind=ConfigurationKind.ACL, document=bucket_document(given)
            )
        return Answer()

    async def get_of_object(self, call: Call) -> Answer:
        """GetObjectAcl."""
        bucket = await self._services.bucket(call)
        version = await self._version(call, bucket)
        shown = await self._shown(await self._lists.of_version(bucket, version))
        return xml_answer(shown, headers=version_header(bucket, version, asked=call.version_id))

    async def put_of_object(self, call: Call) -> Answer:
        """PutObjectAcl: in place of the list that it has."""
        bucket = await self._services.bucket(call)
        check_version_id(call.version_id)
        document = await self._services.document(call, bucket)
        for _ in range(TRIES):
            version = await self._version(call, bucket)
            is_enforced = await self._lists.ownership(bucket) is Ownership.ENFORCED
            given = await self._services.acl_giving.given(
                call,
                bucket,
                owner_id=bucket.owner_id if is_enforced else version.facts.owner_id,
                document=document,
                of_bucket=False,
            )
            try:
                if not is_enforced and given != acl_of(version):
                    await self._store.set_acl(version.version_uid, acl=fields_of(given.grants))
            except Conflict:
                continue
            return Answer(headers=version_header(bucket, version, asked=call.version_id))
        raise S3Error("OperationAborted")

    async def _version(self, call: Call, bucket: Bucket) -> ObjectVersion:
        version = await self._services.version(bucket.name, call.object_key, call.version_id)
        await self._services.authority.require_version(call, bucket, version)
        return version

    async def _shown(self, given: Acl) -> Node:
        users = [grant.grantee for grant in given.grants if not isinstance(grant.grantee, Group)]
        return acl_node(given, await self._lists.names([given.owner_id, *users]))

    # ── whose objects are ───────────────────────────────────────────────────────────────────────────────────────────

    async def get_ownership(self, call: Call) -> Answer:
        """GetBucketOwnershipControls."""
        controls = await self._lists.controls(await self._services.bucket(call))
        if not controls.is_set:
            raise S3Error("OwnershipControlsNotFoundError")
        return xml_answer(ownership_node(controls.ownership))

    async def put_ownership(self, call: Call) -> Answer:
        """PutBucketOwnershipControls: what is in the bucket keeps its owners and lists, which hold again when lists are allowed again."""
        bucket = await self._services.bucket(call)
        document = await self._services.document(call, bucket)
        if not document.strip():
            raise S3Error("MissingRequestBodyError", "Request body is empty: OwnershipControls are needed.")
        ownership = parse_ownership(document)
        if ownership is Ownership.ENFORCED and not is_private(await self._lists.kept(bucket)):
            raise S3Error(
                "InvalidBucketAclWithObjectOwnership",
                "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting: its ACL is not 'private'; "
                "set that first (PutBucketAcl).",
            )
        await self._store.set_bucket_configuration(
            name=bucket.name, kind=ConfigurationKind.OWNERSHIP, document=ownership_text(ownership)
        )
        return Answer()

    async def delete_ownership(self, call: Call) -> Answer:
        """DeleteBucketOwnershipControls: from then on each object is its writer's, and there are lists."""
        bucket = await self._services.bucket(call)
        await self._store.set_bucket_configuration(
            name=bucket.name, kind=ConfigurationKind.OWNERSHIP, document=REMOVED
        )
        return Answer(status=204)
