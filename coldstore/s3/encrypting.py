"""Operations on what a bucket says of the encryption of new objects."""

from coldstore.model.configurations import ConfigurationKind
from coldstore.s3.answers import Answer, xml_answer
from coldstore.s3.call import Call
from coldstore.s3.encryption_default import (
    ROOT,
    EncryptionDefaults,
    encryption_json,
    encryption_node,
    parse_encryption,
)
from coldstore.s3.errors import S3Error
from coldstore.s3.services import Services


class BucketEncryptionOperations:
    """The operations of this family."""

    def __init__(self, services: Services, defaults: EncryptionDefaults) -> None:
        self._services = services
        self._defaults = defaults

    async def get(self, call: Call) -> Answer:
        """GetBucketEncryption: what holds, be it set for the bucket or for all of them."""
        bucket = await self._services.bucket(call)
        found = await self._defaults.of(bucket)
        if found is None:
            raise S3Error("ServerSideEncryptionConfigurationNotFoundError")
        return xml_answer(encryption_node(found))

    async def put(self, call: Call) -> Answer:
        """PutBucketEncryption: in place of all that was set."""
        bucket = await self._services.bucket(call)
        document = await self._services.document(call, bucket)
        if not document.strip():
            raise S3Error("MissingRequestBodyError", f"{call.operation.value} needs a {ROOT} as its body.")
        await self._set(bucket.name, encryption_json(parse_encryption(document)))
        return Answer()

    async def delete(self, call: Call) -> Answer:
        """DeleteBucketEncryption: what holds for all buckets holds for this one again."""
        bucket = await self._services.bucket(call)
        await self._set(bucket.name, None)
        return Answer(status=204)

    async def _set(self, name: str, document: str | None) -> None:
        await self._services.store.set_bucket_configuration(
            name=name, kind=ConfigurationKind.ENCRYPTION, document=document
        )
