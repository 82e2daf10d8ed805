"""Operations on buckets: ListBuckets, CreateBucket, HeadBucket, DeleteBucket, and what is asked of their settings."""

from coldstore.model.errors import BucketAlreadyOwned
from coldstore.model.objects import Bucket, Versioning
from coldstore.plan.messages import iso_time
from coldstore.s3.answers import Answer, xml_answer
from coldstore.s3.call import Call
from coldstore.s3.errors import S3Error, shown
from coldstore.s3.locks import bucket_lock
from coldstore.s3.names import check_bucket_name
from coldstore.s3.services import Services
from coldstore.s3.stored import known_class
from coldstore.s3.tokens import position_of, token_of
from coldstore.s3.xml import MalformedDocument, node, read_document

BUCKETS_MAX = 10_000
FETCH = 1000
UNNAMED_REGION = "us-east-1"
"""The region whose LocationConstraint is empty, and where creating one's own bucket again succeeds (S3 API)."""


class BucketOperations:
    """The operations of this family."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._store = services.store

    async def list_buckets(self, call: Call) -> Answer:
        """ListBuckets: the caller's own, by name, in pages when the caller asks for pages."""
        await self._services.authority.require_of_account(call)
        limit = _max_buckets(call.query.one("max-buckets"))
        prefix = call.query.one("prefix") or ""
        region = call.query.one("bucket-region")
        after = _name_in(call.query.one("continuation-token"))
        found, is_truncated = await self._page(call.caller.user_id, prefix, region, after, limit)
        return xml_answer(
            node(
                "ListAllMyBucketsResult",
                node("Owner", node("ID", call.caller.user_id), node("DisplayName", call.caller.name)),
                node(
                    "Buckets",
                    *(
                        node(
                            "Bucket",
                            node("Name", bucket.name),
                            node("CreationDate", iso_time(bucket.created_at)),
                            node("BucketRegion", bucket.region),
                        )
                        for bucket in found
                    ),
                ),
                node("Prefix", prefix) if prefix else None,
                node("ContinuationToken", token_of(found[-1].name.encode("utf-8"))) if is_truncated else None,
            )
        )

    async def _page(
        self, owner_id: str, prefix: str, region: str | None, after: str, limit: int
    ) -> tuple[list[Bucket], bool]:
        found: list[Bucket] = []
        while True:
            page = await self._store.buckets(owner_id=owner_id, after=after, limit=FETCH)
            for bucket in page:
                if bucket.name.startswith(prefix) and region in (None, bucket.region):
                    if len(found) == limit:
                        return found, True
                    found.append(bucket)
            if len(page) < FETCH:
                return found, False
            after = page[-1].name

    async def create_bucket(self, call: Call) -> Answer:
        """CreateBucket; the region is the appliance's, whatever constraint names it."""
        name = call.bucket_name
        await self._services.authority.require_of_account(call)
        check_bucket_name(name)
        object_lock = bucket_lock(call.headers)
        documents = await self._services.acl_giving.of_new_bucket(call)
        document = await call.body.read_document()
        if document.strip():
            constraint = (
                read_document(document, "CreateBucketConfiguration").text_of("LocationConstraint") or ""
            ).strip()
            if constraint not in ("", self._services.region):
                raise S3Error(
                    "InvalidLocationConstraint",
                    f"The specified location constraint is not valid: {shown(constraint)}; buckets are in "
                    f"{shown(self._services.region)}.",
                    details={"LocationConstraint": constraint},
                )
        try:
            await self._store.create_bucket(
                name=name,
                owner_id=call.caller.user_id,
                region=self._services.region,
                created_at=self._services.now(),
                default_class=None,
                object_lock=object_lock,
                documents=documents,
            )
        except BucketAlreadyOwned:
            if self._services.region != UNNAMED_REGION:
                raise
        return Answer(headers={"Location": f"/{name}"})

    async def head_bucket(self, call: Call) -> Answer:
        """HeadBucket."""
        bucket = await self._services.bucket(call)
        return Answer(
            headers={
                "x-amz-bucket-region": bucket.region,
                "Content-Type": "application/xml",
                "Content-Length": "0",
            }
        )

    async def delete_bucket(self, call: Call) -> Answer:
        """DeleteBucket; open multipart uploads go with it."""
        await self._services.bucket(call)
        await self._store.delete_bucket(call.bucket_name)
        self._services.janitor_bell.ring()
        return Answer(status=204)

    async def location(self, call: Call) -> Answer:
        """GetBucketLocation."""
        bucket = await self._services.bucket(call)
        return xml_answer(
            node("LocationConstraint", "" if bucket.region == UNNAMED_REGION else bucket.region)
        )

    async def versioning(self, call: Call) -> Answer:
        """GetBucketVersioning; without a Status while it was never set."""
        state = (await self._services.bucket(call)).versioning
        return xml_answer(
            node(
                "VersioningConfiguration",
                node("Status", state.value) if state is not Versioning.UNSET else None,
            )
        )

    async def put_versioning(self, call: Call) -> Answer:
        """PutBucketVersioning: what is in the bucket stays as it is."""
        bucket = await self._services.bucket(call)
        document = await self._services.document(call, bucket)
        if not document.strip():
            raise S3Error(
                "MissingRequestBodyError", "Request body is empty: a VersioningConfiguration is needed."
            )
        await self._store.set_versioning(name=bucket.name, versioning=parse_versioning(document))
        return Answer()

    async def get_default_class(self, call: Call) -> Answer:
        """The class of objects whose writer names none, as ``DefaultStorageClass``; empty when there is none."""
        bucket = await self._services.bucket(call)
        return xml_answer(
            node("DefaultStorageClass", "" if bucket.default_class is None else bucket.default_class.value)
        )

    async def put_default_class(self, call: Call) -> Answer:
        """Set that class by a document ``DefaultStorageClass``; an empty one clears it."""
        bucket = await self._services.bucket(call)
        document = await self._services.document(call, bucket)
        if not document.strip():
            raise S3Error(
                "MissingRequestBodyError", "Request body is empty: a DefaultStorageClass is needed."
            )
        root = read_document(document, "DefaultStorageClass")
        if root.children:
            raise MalformedDocument("DefaultStorageClass holds the name of a class and no elements")
        name = root.text.strip()
        await self._store.set_default_class(
            name=call.bucket_name,
            default_class=known_class(name, self._services.rules) if name else None,
        )
        return Answer()


def parse_versioning(document: bytes) -> Versioning:
    """
    Read a VersioningConfiguration.

    :raise S3Error: IllegalVersioningConfigurationException without a Status, NotImplemented for ``MfaDelete``
    :raise MalformedDocument: for anything that is no such document
    """
    root = read_document(document, "VersioningConfiguration")
    mfa_delete = (root.text_of("MfaDelete") or "Disabled").strip()
    if mfa_delete not in ("Enabled", "Disabled"):
        raise MalformedDocument("MfaDelete is neither Enabled nor Disabled")
    if mfa_delete == "Enabled":
        raise S3Error("NotImplemented", "ColdStore does not implement this part of S3: MfaDelete")
    status = (root.text_of("Status") or "").strip()
    if not status:
        raise S3Error("IllegalVersioningConfigurationException")
    if status not in (Versioning.ENABLED.value, Versioning.SUSPENDED.value):
        raise MalformedDocument("Status is neither Enabled nor Suspended")
    return Versioning(status)


def _max_buckets(value: str | None) -> int:
    if value is None:
        return BUCKETS_MAX
    if not (value.isascii() and value.isdigit() and len(value) <= 19 and 1 <= int(value) <= BUCKETS_MAX):
        raise S3Error(
            "InvalidArgument",
            f"max-buckets must be between 1 and {BUCKETS_MAX}, and not {shown(value)}",
            details={"ArgumentName": "max-buckets", "ArgumentValue": value},
        )
    return int(value)


def _name_in(token: str | None) -> str:
    if not token:
        return ""
    try:
        return position_of(token).decode("utf-8")
    except ValueError:
        raise S3Error(
            "InvalidArgument",
            f"The continuation token provided is incorrect: {shown(token)}",
            details={"ArgumentName": "continuation-token", "ArgumentValue": token},
        ) from None
