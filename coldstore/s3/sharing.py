"""
Sharing with pages of other origins: operations on a bucket's CORS rules, the question that browsers ask first, and what every
answer to a page says besides.
"""

from collections.abc import Mapping

from coldstore.model.configurations import ConfigurationKind
from coldstore.model.errors import ColdStoreError, NoSuchBucket
from coldstore.s3.answers import Answer, xml_answer
from coldstore.s3.call import Call
from coldstore.s3.cors import DOCUMENT_MAX_BYTES, CorsRules, cors_node, cors_of, cors_record, parse_cors
from coldstore.s3.errors import S3Error
from coldstore.s3.fields import HeaderFields
from coldstore.s3.origins import VARY, headers_for, of_preflight, of_request
from coldstore.s3.services import Services


class SharingOperations:
    """The operations of this family."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._store = services.store

    async def get_rules(self, call: Call) -> Answer:
        """GetBucketCors."""
        bucket = await self._services.bucket(call)
        rules = await self._services.settings.of(bucket, ConfigurationKind.CORS, cors_of)
        if not rules:
            raise S3Error("NoSuchCORSConfiguration", details={"BucketName": bucket.name})
        return xml_answer(cors_node(rules))

    async def put_rules(self, call: Call) -> Answer:
        """PutBucketCors: in place of all that there are."""
        bucket = await self._services.bucket(call)
        document = await self._services.document(call, bucket, DOCUMENT_MAX_BYTES, requires_digest=True)
        if not document.strip():
            raise S3Error("MissingRequestBodyError", "Request body is empty: a CORSConfiguration is needed.")
        await self._set(bucket.name, cors_record(parse_cors(document)))
        return Answer()

    async def delete_rules(self, call: Call) -> Answer:
        """DeleteBucketCors."""
        bucket = await self._services.bucket(call)
        await self._set(bucket.name, None)
        return Answer(status=204)

    async def _set(self, bucket: str, record: str | None) -> None:
        await self._store.set_bucket_configuration(name=bucket, kind=ConfigurationKind.CORS, document=record)

    async def preflight(self, call: Call) -> Answer:
        """
        OptionsObject: whether a page may do what it wants to; nobody signs this question.

        A bucket that is not there is answered as one that has no rules, so that nobody learns names by asking.
        """
        wanted = of_preflight(call.headers)
        try:
            rules = await self._rules(call.bucket_name)
        except NoSuchBucket:
            rules = ()
        told = headers_for(rules, wanted)
        if told is None:
            why = (
                "This CORS request is not allowed: no rule of the bucket has this Origin together with this "
                "Access-Control-Request-Method and all of Access-Control-Request-Headers."
                if rules
                else "CORS is not enabled for this bucket."
            )
            raise S3Error(
                "AccessForbidden",
                f"CORSResponse: {why}",
                details={
                    "Method": wanted.method,
                    "ResourceType": "BUCKET" if call.key is None else "OBJECT",
                },
                headers=VARY if rules else {},
            )
        return Answer(headers=told)

    async def told_to_page(self, bucket: str, method: str, fields: HeaderFields) -> Mapping[str, str]:
        """
        Return the fields that an answer to a page has besides; none where the rules are not to be had.

        Whoever asks for them sees to it that requests of no page cost nothing.
        """
        wanted = of_request(method, fields)
        if wanted is None:
            return {}
        try:
            rules = await self._rules(bucket)
        except ColdStoreError:
            return {}
        return headers_for(rules, wanted) or (VARY if rules else {})

    async def _rules(self, bucket: str) -> CorsRules:
        found = await self._store.bucket(bucket)
        return await self._services.settings.of(found, ConfigurationKind.CORS, cors_of) or ()
