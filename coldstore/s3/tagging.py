"""Operations on tags, of objects and of buckets."""

from coldstore.interfaces.metadata import Conflict
from coldstore.model.objects import Bucket, ObjectVersion, Pairs
from coldstore.model.tags import tags_of
from coldstore.s3.answers import Answer, xml_answer
from coldstore.s3.call import Call
from coldstore.s3.errors import S3Error
from coldstore.s3.services import Services, check_version_id, version_header
from coldstore.s3.tags import BUCKET_TAGS_MAX, DOCUMENT_MAX_BYTES, parse_tagging, tagging_node

TRIES = 8
"""How often a version is looked up anew because it went between the look and the change."""


class TaggingOperations:
    """The operations of this family."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._store = services.store

    async def get_of_object(self, call: Call) -> Answer:
        """GetObjectTagging: those that it was given last."""
        bucket = await self._services.bucket(call)
        version = await self._version(call)
        return xml_answer(tagging_node(tags_of(version)), headers=_shown(call, bucket, version))

    async def put_of_object(self, call: Call) -> Answer:
        """PutObjectTagging: in place of all that it has."""
        bucket = await self._services.bucket(call)
        check_version_id(call.version_id)
        document = await self._services.document(call, bucket, DOCUMENT_MAX_BYTES, requires_digest=True)
        tags = parse_tagging(document)
        await self._services.authority.require_tagging(call, bucket, tags)
        version = await self._tag(call, tags)
        return Answer(headers=_shown(call, bucket, version))

    async def delete_of_object(self, call: Call) -> Answer:
        """DeleteObjectTagging."""
        bucket = await self._services.bucket(call)
        version = await self._tag(call, ())
        return Answer(status=204, headers=_shown(call, bucket, version))

    async def _version(self, call: Call) -> ObjectVersion:
        return await self._services.version(call.bucket_name, call.object_key, call.version_id)

    async def _tag(self, call: Call, tags: Pairs) -> ObjectVersion:
        for _ in range(TRIES):
            version = await self._version(call)
            try:
                return await self._store.set_tags(version.version_uid, tags=tags)
            except Conflict:
                continue
        raise S3Error("OperationAborted")

    async def get_of_bucket(self, call: Call) -> Answer:
        """GetBucketTagging."""
        bucket = await self._services.bucket(call)
        if not bucket.tags:
            raise S3Error("NoSuchTagSet")
        return xml_answer(tagging_node(bucket.tags))

    async def put_of_bucket(self, call: Call) -> Answer:
        """PutBucketTagging: in place of all that it has."""
        bucket = await self._services.bucket(call)
        document = await self._services.document(call, bucket, DOCUMENT_MAX_BYTES, requires_digest=True)
        await self._store.set_bucket_tags(
            name=bucket.name, tags=parse_tagging(document, most=BUCKET_TAGS_MAX)
        )
        return Answer()

    async def delete_of_bucket(self, call: Call) -> Answer:
        """DeleteBucketTagging."""
        bucket = await self._services.bucket(call)
        await self._store.set_bucket_tags(name=bucket.name, tags=())
        return Answer(status=204)


def _shown(call: Call, bucket: Bucket, version: ObjectVersion) -> dict[str, str]:
    """Return the field that names the version whose tags these are."""
    return version_header(bucket, version, asked=call.version_id)
