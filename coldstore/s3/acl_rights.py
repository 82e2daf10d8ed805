"""What access control lists let a caller do, beside policies, and what they withhold from who owns the bucket."""

from coldstore.interfaces.metadata import IMetadataStore
from coldstore.model.acl import Acl, Ownership, Permission
from coldstore.model.configurations import ConfigurationKind
from coldstore.model.errors import NoSuchKey, NoSuchUpload, NoSuchVersion
from coldstore.model.objects import Bucket, ObjectVersion
from coldstore.plan.acl import OF_BUCKET, OF_OBJECT, OF_OWNER, allows, is_public, without_public
from coldstore.s3.absent import no_such_key, no_such_version
from coldstore.s3.access_lists import AccessLists
from coldstore.s3.acl_fields import acl_of
from coldstore.s3.actions import MAKES_OBJECT
from coldstore.s3.call import Call
from coldstore.s3.errors import S3Error
from coldstore.s3.public_access import PublicAccess

DELETING = "s3:DeleteObject"
OF_MAKER = frozenset({"s3:PutObjectAcl", "s3:PutObjectTagging"})
"""What a writer needs beside ``s3:PutObject`` to give a new object a list or tags: his own one may have any."""
OF_UPLOAD = frozenset({"s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"})


class AclRights:
    """Answers for the lists that are in force."""

    def __init__(self, store: IMetadataStore, lists: AccessLists, public_access: PublicAccess) -> None:
        self._store = store
        self._lists = lists
        self._public_access = public_access

    async def allows(
        self,
        call: Call,
        bucket: Bucket,
        action: str,
        key: bytes | None,
        version_id: str | None,
        version: ObjectVersion | None = None,
    ) -> bool:
        """
        Whether a list lets the caller do what nothing else allows him.

        Two things go beyond what lists say: who may write may delete what is his own, and what is not there; and who began an upload may look at
        it and end it, where there are no lists as well.

        :param action: by the name that policies have for it
        :param key: of the object that it is about; None: it is about the bucket, or about objects that are not known yet
        :param version: what is there, where that was looked up already
        :raise S3Error: NoSuchKey or NoSuchVersion, to who may list the bucket
        """
        caller = call.caller.user_id or None
        if action in OF_UPLOAD and key is not None:
            return caller is not None and caller == await self._initiator(call, bucket, key)
        if not await self._has_lists(bucket):
            return False
        if action in OF_MAKER and call.operation in MAKES_OBJECT:
            action = "s3:PutObject"
        if action in OF_BUCKET:
            if not await self._bucket_allows(bucket, OF_BUCKET[action], caller):
                return False
            if action != DELETING or key is None:
                return True
            found = version or await self._found(bucket, key, version_id)
            return isinstance(found, S3Error) or found.facts.owner_id == caller
        if key is None or not (action in OF_OBJECT or action in OF_OWNER):
            return False
        found = version or await self._found(bucket, key, version_id)
        if not isinstance(found, S3Error):
            if action in OF_OWNER:
                return found.facts.owner_id == caller
            return allows(await self._counting(bucket, acl_of(found)), OF_OBJECT[action], caller)
        if await self._bucket_allows(bucket, Permission.READ, caller):
            raise found
        return False

    async def withholds(
        self,
        call: Call,
        bucket: Bucket,
        action: str,
        key: bytes | None,
        version_id: str | None,
        version: ObjectVersion | None = None,
    ) -> bool:
        """
        Whether something that is allowed by who owns the bucket is not his to allow: an object is another's, and its list does not let the
        caller have it. The parameters are as for ``allows``.
        """
        if action not in OF_OBJECT or key is None or not await self._has_lists(bucket):
            return False
        if action in OF_MAKER and call.operation in MAKES_OBJECT:
            # It is about an object that is yet to be.
            return False
        found = version or await self._found(bucket, key, version_id)
        if isinstance(found, S3Error) or found.facts.owner_id == bucket.owner_id:
            return False
        given = await self._counting(bucket, acl_of(found))
        return not allows(given, OF_OBJECT[action], call.caller.user_id or None)

    async def _has_lists(self, bucket: Bucket) -> bool:
        return (
            ConfigurationKind.OWNERSHIP in bucket.configurations
            and await self._lists.ownership(bucket) is not Ownership.ENFORCED
        )

    async def _bucket_allows(self, bucket: Bucket, permission: Permission, caller: str | None) -> bool:
        given = await self._counting(bucket, await self._lists.of_bucket(bucket))
        return allows(given, permission, caller)

    async def _counting(self, bucket: Bucket, given: Acl) -> Acl:
        """Return what of a list counts in a bucket."""
        if is_public(given) and (await self._public_access.of(bucket)).ignore_public_acls:
            return without_public(given)
        return given

    async def _initiator(self, call: Call, bucket: Bucket, key: bytes) -> str | None:
        try:
            upload = await self._store.upload(bucket.name, key, call.query.one("uploadId") or "")
        except NoSuchUpload:
            return None
        return upload.initiator_id or upload.owner_id

    async def _found(self, bucket: Bucket, key: bytes, version_id: str | None) -> ObjectVersion | S3Error:
        """Return what is under a key, or the version of an id; how it is said that it is not there."""
        try:
            if version_id is None:
                return await self._store.current_version(bucket.name, key)
            return (await self._store.version_content(bucket.name, key, version_id))[0]
        except NoSuchKey as error:
            return no_such_key(key, error)
        except NoSuchVersion:
            return no_such_version(key, version_id or "")
