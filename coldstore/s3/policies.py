"""Policies of buckets, and what a bucket does about public ones."""

from coldstore.model.configurations import ConfigurationKind
from coldstore.model.objects import Bucket
from coldstore.plan.policy import stored
from coldstore.plan.policy.access_block import REMOVED, AccessBlock
from coldstore.plan.policy.document import read_bucket_policy
from coldstore.plan.policy.errors import MalformedPolicy
from coldstore.plan.policy.principals import known_among
from coldstore.plan.policy.publicity import public_statement
from coldstore.plan.policy.statements import Policy
from coldstore.s3.answers import Answer, xml_answer
from coldstore.s3.call import Call
from coldstore.s3.errors import S3Error, shown
from coldstore.s3.services import Services
from coldstore.s3.xml import MalformedDocument, node, read_document

_BLOCK = "PublicAccessBlockConfiguration"
_SWITCHES = {
    "BlockPublicAcls": "block_public_acls",
    "IgnorePublicAcls": "ignore_public_acls",
    "BlockPublicPolicy": "block_public_policy",
    "RestrictPublicBuckets": "restrict_public_buckets",
}


class PolicyOperations:
    """The operations of this family."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._store = services.store

    async def put_policy(self, call: Call) -> Answer:
        """PutBucketPolicy: in place of the one that it has."""
        bucket = await self._services.bucket(call)
        document = await self._services.document(call, bucket)
        if not document.strip():
            raise S3Error("MissingRequestBodyError", "Request body is empty: a policy is needed.")
        policy = await self._read(bucket, document)
        await self._refuse_public(bucket, policy)
        await self._store.set_bucket_configuration(
            name=bucket.name, kind=ConfigurationKind.POLICY, document=stored.written(policy, bucket.name)
        )
        return Answer(status=204)

    async def _read(self, bucket: Bucket, document: bytes) -> Policy:
        try:
            text = document.decode("utf-8")
        except UnicodeDecodeError:
            raise S3Error("MalformedPolicy", "Policies must be valid JSON: this one is not UTF-8.") from None
        known = known_among(await self._store.users())
        try:
            return read_bucket_policy(text, bucket=bucket.name, known=known)
        except MalformedPolicy as fault:
            raise S3Error("MalformedPolicy", f"{fault}.") from None

    async def _refuse_public(self, bucket: Bucket, policy: Policy) -> None:
        statement = public_statement(policy)
        if (
            statement is None
            or not (await self._services.authority.access_block_of(bucket)).block_public_policy
        ):
            return
        raise S3Error(
            "AccessDenied",
            f"Access Denied: the policy is public, for {statement.title} allows something to everybody, and the public access block "
            f"of bucket {shown(bucket.name)} prevents public policies (BlockPublicPolicy).",
        )

    async def get_policy(self, call: Call) -> Answer:
        """GetBucketPolicy: to the byte as it was put."""
        policy = await self._policy(call)
        return Answer(headers={"Content-Type": "application/json"}, body=policy.text.encode("utf-8"))

    async def delete_policy(self, call: Call) -> Answer:
        """DeleteBucketPolicy."""
        bucket = await self._services.bucket(call)
        await self._store.set_bucket_configuration(
            name=bucket.name, kind=ConfigurationKind.POLICY, document=None
        )
        return Answer(status=204)

    async def get_status(self, call: Call) -> Answer:
        """GetBucketPolicyStatus: whether the policy is public."""
        policy = await self._policy(call)
        return xml_answer(node("PolicyStatus", node("IsPublic", public_statement(policy) is not None)))

    async def _policy(self, call: Call) -> Policy:
        bucket = await self._services.bucket(call)
        policy = await self._services.authority.policy_of(bucket)
        if policy is None:
            raise S3Error("NoSuchBucketPolicy", details={"BucketName": bucket.name})
        return policy

    # ── public access block ─────────────────────────────────────────────────────────────────────────────────────────

    async def get_access_block(self, call: Call) -> Answer:
        """GetPublicAccessBlock: also what is so while nobody has said anything."""
        block = await self._services.authority.access_block_of(await self._services.bucket(call))
        if block.is_removed:
            raise S3Error("NoSuchPublicAccessBlockConfiguration")
        return xml_answer(
            node(_BLOCK, *(node(name, getattr(block, switch)) for name, switch in _SWITCHES.items()))
        )

    async def put_access_block(self, call: Call) -> Answer:
        """PutPublicAccessBlock."""
        bucket = await self._services.bucket(call)
        document = await self._services.document(call, bucket)
        if not document.strip():
            raise S3Error("MissingRequestBodyError", f"Request body is empty: a {_BLOCK} is needed.")
        await self._set_access_block(bucket, parse_access_block(document))
        return Answer()

    async def delete_access_block(self, call: Call) -> Answer:
        """DeletePublicAccessBlock: nothing is blocked any more."""
        await self._set_access_block(await self._services.bucket(call), REMOVED)
        return Answer(status=204)

    async def _set_access_block(self, bucket: Bucket, block: AccessBlock) -> None:
        await self._store.set_bucket_configuration(
            name=bucket.name, kind=ConfigurationKind.PUBLIC_ACCESS_BLOCK, document=block.written()
        )


def parse_access_block(document: bytes) -> AccessBlock:
    """
    Read a PublicAccessBlockConfiguration; what it does not name is off.

    :raise MalformedDocument: for anything that is no such document
    """
    root = read_document(document, _BLOCK)
    for child in root.children:
        if child.name not in _SWITCHES:
            raise MalformedDocument(f"{_BLOCK} holds {', '.join(_SWITCHES)}, and not {child.name[:100]}")
    switches = {}
    for name, switch in _SWITCHES.items():
        text = (root.text_of(name) or "false").strip().lower()
        if text not in ("true", "false"):
            raise MalformedDocument(f"{name} is neither true nor false")
        switches[switch] = text == "true"
    return AccessBlock(**switches)
