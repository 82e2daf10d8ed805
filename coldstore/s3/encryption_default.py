"""
What a bucket says of the encryption of new objects: the document, and what follows from it.

Source: Amazon S3 API Reference, PutBucketEncryption, ServerSideEncryptionConfiguration, BlockedEncryptionTypes; User Guide, "Blocking or
unblocking SSE-C for a general purpose bucket". What needs a key management service is refused with 501, as all that S3 has and
ColdStore has not: the algorithm is a valid one, and the client has made no mistake that 400 could tell it of.
"""

import json
from typing import NamedTuple

from coldstore.model.configurations import ConfigurationKind
from coldstore.model.objects import Bucket
from coldstore.s3.encryption_customer import ALGORITHM
from coldstore.s3.errors import S3Error, shown
from coldstore.s3.fields import SERVER_SIDE_ENCRYPTION, HeaderFields
from coldstore.s3.settings import Settings
from coldstore.s3.xml import Element, MalformedDocument, Node, node, read_document

ROOT = "ServerSideEncryptionConfiguration"
_OF_KMS = frozenset({"aws:kms", "aws:kms:dsse", "aws:fsx"})
"""Algorithms that S3 has and ColdStore has not."""
_BY_CUSTOMERS, _NONE = "SSE-C", "NONE"
_TRUTHS = {"true": True, "false": False}


class BucketEncryption(NamedTuple):
    """
    What is set of a bucket.

    :ivar encrypts: whether objects are encrypted whose writers say nothing
    :ivar bucket_key: as it was set; it is about keys of a key management service, and has no effect
    :ivar blocks_customers: whether customers' keys are refused; None: nothing was said of it
    """

    encrypts: bool
    bucket_key: bool | None = None
    blocks_customers: bool | None = None


def check_method(headers: HeaderFields) -> None:
    """
    Let pass what a writer may ask of the encryption of its object with a key of ours.

    :raise S3Error: NotImplemented for methods that need a key management service, InvalidArgument for others
    """
    method = headers.get(SERVER_SIDE_ENCRYPTION)
    if method in (None, ALGORITHM):
        return
    details = {"ArgumentName": SERVER_SIDE_ENCRYPTION, "ArgumentValue": method or ""}
    if method in _OF_KMS:
        raise S3Error(
            "NotImplemented",
            f"ColdStore has no key management service: {SERVER_SIDE_ENCRYPTION} cannot be {method}. It takes {ALGORITHM}, or a key that "
            "you bring (SSE-C).",
            details=details,
        )
    raise S3Error(
        "InvalidArgument",
        f"The encryption method specified is not supported: {shown(method or '')}; there is {ALGORITHM}.",
        details=details,
    )


def parse_encryption(document: bytes) -> BucketEncryption:
    """
    Read what is to be set of a bucket.

    :raise S3Error: NotImplemented for methods that need a key management service, InvalidArgument
    :raise MalformedDocument: for anything that is no such document
    """
    root = read_document(document, ROOT)
    rules = root.all("Rule")
    if len(rules) != 1:
        raise MalformedDocument(f"it has {len(rules)} rules, and must have one")
    (rule,) = rules
    default, blocked = rule.one("ApplyServerSideEncryptionByDefault"), rule.one("BlockedEncryptionTypes")
    if default is None and blocked is None:
        raise MalformedDocument(
            "its rule has neither ApplyServerSideEncryptionByDefault nor BlockedEncryptionTypes"
        )
    return BucketEncryption(
        encrypts=default is not None and _encrypts(default),
        bucket_key=_truth(rule, "BucketKeyEnabled"),
        blocks_customers=None if blocked is None else _blocks_customers(blocked),
    )


def _encrypts(default: Element) -> bool:
    algorithm = (default.text_of("SSEAlgorithm") or "").strip()
    if algorithm in _OF_KMS:
        raise S3Error(
            "NotImplemented",
            f"ColdStore has no key management service: SSEAlgorithm cannot be {algorithm}, but {ALGORITHM}.",
            details={"ArgumentName": "SSEAlgorithm", "ArgumentValue": algorithm},
        )
    if algorithm != ALGORITHM:
        raise MalformedDocument(f"SSEAlgorithm is {shown(algorithm)}, and there is {ALGORITHM}")
    key_id = default.text_of("KMSMasterKeyID")
    if key_id is not None and key_id.strip():
        raise S3Error(
            "InvalidArgument",
            "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms or aws:kms:dsse",
            details={"ArgumentName": "ApplyServerSideEncryptionByDefault"},
        )
    return True


def _blocks_customers(blocked: Element) -> bool:
    types = [child.text.strip() for child in blocked.all("EncryptionType")]
    if types not in ([_BY_CUSTOMERS], [_NONE]):
        raise MalformedDocument(
            f"BlockedEncryptionTypes is {shown(', '.join(types))}, and can be one EncryptionType, {_BY_CUSTOMERS} or {_NONE}"
        )
    return types == [_BY_CUSTOMERS]


def _truth(rule: Element, name: str) -> bool | None:
    text = rule.text_of(name)
    if text is None:
        return None
    if text.strip() not in _TRUTHS:
        raise MalformedDocument(f"{name} is {shown(text)}, and can be true or false")
    return _TRUTHS[text.strip()]


def encryption_node(encryption: BucketEncryption) -> Node:
    """Return the document that says what is set."""
    blocks = encryption.blocks_customers
    return node(
        ROOT,
        node(
            "Rule",
            node("ApplyServerSideEncryptionByDefault", node("SSEAlgorithm", ALGORITHM))
            if encryption.encrypts
            else None,
            None if encryption.bucket_key is None else node("BucketKeyEnabled", encryption.bucket_key),
            None
            if blocks is None
            else node("BlockedEncryptionTypes", node("EncryptionType", _BY_CUSTOMERS if blocks else _NONE)),
        ),
    )


def encryption_json(encryption: BucketEncryption) -> str:
    """Return what is recorded."""
    return json.dumps(encryption._asdict(), separators=(",", ":"))


def encryption_of(text: str) -> BucketEncryption:
    """Undo ``encryption_json``."""
    return BucketEncryption(**json.loads(text))


class EncryptionDefaults:
    """What buckets say, and the site where they say nothing."""

    def __init__(self, settings: Settings, *, encrypts_all: bool) -> None:
        """:param encrypts_all: whether objects are encrypted in buckets that say nothing"""
        self._settings = settings
        self._encrypts_all = encrypts_all

    async def of(self, bucket: Bucket) -> BucketEncryption | None:
        """Return what holds in a bucket; None where nothing does."""
        found = None
        if ConfigurationKind.ENCRYPTION in bucket.configurations:
            found = await self._settings.of(bucket, ConfigurationKind.ENCRYPTION, encryption_of)
        if not self._encrypts_all or (found is not None and found.encrypts):
            return found
        return BucketEncryption(encrypts=True) if found is None else found._replace(encrypts=True)

    async def encrypts(self, bucket: Bucket) -> bool:
        """Whether an object whose writer says nothing is encrypted."""
        if not bucket.configurations:
            return self._encrypts_all
        found = await self.of(bucket)
        return found is not None and found.encrypts

    async def check_customer_key(self, bucket: Bucket) -> None:
        """
        Let customers' keys pass where a bucket takes them.

        :raise S3Error: AccessDenied
        """
        found = await self.of(bucket)
        if found is not None and found.blocks_customers:
            raise S3Error(
                "AccessDenied",
                f"The bucket does not take customers' keys: its {ROOT} has {_BY_CUSTOMERS} among its BlockedEncryptionTypes.",
            )
