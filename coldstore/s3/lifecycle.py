"""Operations on the lifecycle configuration of a bucket: GetBucketLifecycleConfiguration, PutBucketLifecycleConfiguration, DeleteBucketLifecycle."""

from coldstore.model.configurations import DOCUMENT_MAX_BYTES, ConfigurationKind
from coldstore.model.lifecycle import Lifecycle, lifecycle_text
from coldstore.s3.answers import Answer, xml_answer
from coldstore.s3.call import Call
from coldstore.s3.errors import S3Error
from coldstore.s3.lifecycle_document import lifecycle_node, parse_lifecycle
from coldstore.s3.lifecycle_headers import asked_minimum_size, minimum_size_header
from coldstore.s3.services import Services


class LifecycleOperations:
    """The operations of this family."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._store = services.store

    async def get(self, call: Call) -> Answer:
        """GetBucketLifecycleConfiguration: the rules as their writer wrote them."""
        bucket = await self._services.bucket(call)
        rules = await self._services.lifecycle(bucket)
        if rules is None:
            raise S3Error("NoSuchLifecycleConfiguration")
        lifecycle = rules.lifecycle
        return xml_answer(lifecycle_node(lifecycle), headers=minimum_size_header(lifecycle.minimum_size))

    async def put(self, call: Call) -> Answer:
        """PutBucketLifecycleConfiguration: in place of all rules that there are."""
        services = self._services
        bucket = await services.bucket(call)
        minimum_size = asked_minimum_size(call.headers)
        document = await services.document(call, bucket, requires_digest=True)
        if not document.strip():
            raise S3Error(
                "MissingRequestBodyError", "Request body is empty: a LifecycleConfiguration is needed."
            )
        lifecycle = parse_lifecycle(
            document, classes=services.rules, minimum_size=minimum_size, new_id=services.new_id
        )
        await self._store.set_bucket_configuration(
            name=bucket.name, kind=ConfigurationKind.LIFECYCLE, document=kept_text(lifecycle)
        )
        return Answer(headers=minimum_size_header(minimum_size))

    async def delete(self, call: Call) -> Answer:
        """DeleteBucketLifecycle: succeeds whether or not there were rules."""
        bucket = await self._services.bucket(call)
        await self._store.set_bucket_configuration(
            name=bucket.name, kind=ConfigurationKind.LIFECYCLE, document=None
        )
        return Answer(status=204)


def kept_text(lifecycle: Lifecycle) -> str:
    """
    Return what is kept of a configuration.

    :raise S3Error: MaxMessageLengthExceeded
    """
    text = lifecycle_text(lifecycle)
    size_bytes = len(text.encode("utf-8"))
    if size_bytes > DOCUMENT_MAX_BYTES:
        raise S3Error(
            "MaxMessageLengthExceeded",
            f"The lifecycle configuration is too large: what is kept of its {len(lifecycle.rules)} rules has {size_bytes} bytes, and may have "
            f"{DOCUMENT_MAX_BYTES}.",
            details={"MaxMessageLengthBytes": str(DOCUMENT_MAX_BYTES)},
        )
    return text
