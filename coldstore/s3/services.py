"""What every operation works with, and the questions that all of them ask first."""

import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from coldstore.interfaces.bell import IBell
from coldstore.interfaces.metadata import IMetadataStore, WriteCondition
from coldstore.interfaces.staging import BytesDamaged, DiskFault, IStaging
from coldstore.model.configurations import ConfigurationKind
from coldstore.model.errors import (
    ColdStoreError,
    MetadataFull,
    MetadataUnavailable,
    NoSuchBucket,
    NoSuchKey,
    NoSuchVersion,
)
from coldstore.model.events import Severity
from coldstore.model.objects import NULL_VERSION_ID, Bucket, ObjectVersion, Piece, StorageClass, Versioning
from coldstore.model.quotas import Use
from coldstore.plan.classes import ClassRules
from coldstore.plan.lifecycle import LifecycleRules
from coldstore.s3.absent import marker_headers, no_such_key, no_such_version
from coldstore.s3.access_lists import AccessLists
from coldstore.s3.acl_giving import AclGiving
from coldstore.s3.admission import Admission
from coldstore.s3.authorise import Authority
from coldstore.s3.call import Call, Caller
from coldstore.s3.conditions import check_write
from coldstore.s3.encryption_keys import ObjectKeys
from coldstore.s3.errors import S3Error, shown
from coldstore.s3.lifecycle_headers import expiration_header
from coldstore.s3.pace import Pace
from coldstore.s3.quotas import Reservations, Reserved
from coldstore.s3.reads import ReadCounts
from coldstore.s3.settings import Settings
from coldstore.s3.stored import http_date
from coldstore.s3.xml import DOCUMENT_LIMIT_BYTES

_VERSION_ID = re.compile(r"[A-Za-z0-9._-]{1,1024}")
_log = Logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """
    The world of the operations. ``random`` must not be guessable: ids made from it are secrets of a kind. Those made from
    ``ordinary`` need only differ.
    """

    store: IMetadataStore
    staging: IStaging
    admission: Admission
    authority: Authority
    reservations: Reservations
    clock: IReactorTime
    random: Random
    ordinary: Random
    rules: ClassRules
    region: str
    day_seconds: float
    days_max: int
    archive_bell: IBell
    recall_bell: IBell
    janitor_bell: IBell
    messages_bell: IBell
    reads: ReadCounts
    pace: Pace
    object_keys: ObjectKeys
    doubtful: Callable[[Sequence[str]], None]
    settings: Settings
    access_lists: AccessLists
    acl_giving: AclGiving

    def now(self) -> float:
        """Return unix seconds."""
        return float(self.clock.seconds())

    def new_id(self) -> str:
        """Return a fresh id of 32 URL-safe characters that nobody can guess."""
        return urlsafe_b64encode(self.random.randbytes(24)).decode("ascii")

    def new_version_id(self) -> str:
        """Return a fresh version id that nobody can guess: 128 bits in hex, which no URL, shell or file name changes."""
        return f"{self.random.getrandbits(128):032x}"

    def new_layout_id(self) -> str:
        """
        Return a fresh id of 32 characters that grows with time.

        Nobody outside sees it, and rows that are made together lie together: random ids would change a page each.
        """
        return f"{int(self.now() * 1e6):014x}{self.ordinary.getrandbits(72):018x}"

    def wants_tape(self, name: StorageClass) -> bool:
        """Whether objects of a class get copies on tape."""
        rule = self.rules.get(name)
        return rule is not None and bool(rule.pools)

    def needs_restore(self, name: StorageClass) -> bool:
        """Whether the bytes of objects of a class may only be read after a restore."""
        rule = self.rules.get(name)
        return rule is not None and rule.needs_restore

    async def bucket(self, call: Call) -> Bucket:
        """
        Return the bucket of a call whose caller may use it.

        :raise S3Error: NoSuchBucket, AccessDenied
        """
        bucket = await self.store.bucket(call.bucket_name)
        await self.authority.require(call, bucket)
        return bucket

    async def still(self, bucket: Bucket) -> Bucket:
        """
        Return a bucket as it is now.

        :raise NoSuchBucket: it has gone, even if there is another of its name
        """
        found = await self.store.bucket(bucket.name)
        if found.bucket_uid != bucket.bucket_uid:
            raise NoSuchBucket(bucket.name)
        return found

    async def document(
        self,
        call: Call,
        bucket: Bucket,
        limit_bytes: int = DOCUMENT_LIMIT_BYTES,
        *,
        requires_digest: bool = False,
    ) -> bytes:
        """
        Return the document of a call whose caller may use its bucket.

        Who sends it may take his time. Meanwhile what he may do can change, and the bucket go and another of its name be somebody else's: so the call is
        judged again.

        :raise S3Error: AccessDenied; as ``RequestBody.read_document``
        :raise NoSuchBucket: the bucket has gone
        """
        document = await call.body.read_document(limit_bytes, requires_digest=requires_digest)
        await self.authority.require(call, await self.still(bucket))
        return document

    async def lifecycle(self, bucket: Bucket) -> LifecycleRules | None:
        """Return the lifecycle rules of a bucket; None without a configuration."""
        parse = partial(LifecycleRules.of, day_seconds=self.day_seconds)
        return await self.settings.of(bucket, ConfigurationKind.LIFECYCLE, parse)

    async def expiration(self, bucket: Bucket, version: ObjectVersion) -> dict[str, str]:
        """Return the field that says when a version expires by a rule of its bucket; nothing where none is about it."""
        if ConfigurationKind.LIFECYCLE not in bucket.configurations:
            return {}
        rules = await self.lifecycle(bucket)
        return {} if rules is None else expiration_header(rules.expiration(version))

    async def payer(self, call: Call, owner_id: str) -> Caller:
        """Return who is charged for what a call puts on the disk: ``owner_id``, who owns what it makes there."""
        if call.caller.user_id == owner_id:
            return call.caller
        owner = await self.store.user(owner_id)
        if owner is None:
            return Caller(owner_id, owner_id, "")
        return Caller(owner.user_id, owner.name, "", owner.quotas)

    async def version(self, bucket: str, key: bytes, version_id: str | None) -> ObjectVersion:
        """
        Return what is under a key, or the version of an id.

        :param version_id: as a request has it; None: what is current
        :raise S3Error: as ``content``
        """
        if version_id is not None:
            return (await self.content(bucket, key, version_id))[0]
        try:
            return await self.store.current_version(bucket, key)
        except NoSuchKey as error:
            raise no_such_key(key, error) from None

    async def content(
        self, bucket: str, key: bytes, version_id: str | None
    ) -> tuple[ObjectVersion, Piece | None]:
        """
        Return what is under a key, or the version of an id, with the one piece that holds all its bytes where one does.

        :raise S3Error: NoSuchKey, naming the key, or NoSuchVersion; MethodNotAllowed when the id is that of a delete marker;
            InvalidArgument for what is no version id
        """
        if version_id is None:
            try:
                return await self.store.current_content(bucket, key)
            except NoSuchKey as error:
                raise no_such_key(key, error) from None
        check_version_id(version_id)
        try:
            found = await self.store.version_content(bucket, key, version_id)
        except NoSuchVersion:
            raise no_such_version(key, version_id) from None
        if found[0].is_marker:
            raise S3Error(
                "MethodNotAllowed",
                "The version id names a delete marker, which can only be deleted.",
                details={"ResourceType": "DeleteMarker"},
                headers={
                    "Allow": "DELETE",
                    "Last-Modified": http_date(found[0].facts.created_at),
                    **marker_headers(version_id),
                },
            )
        return found

    async def check_write(self, bucket: str, key: bytes, condition: WriteCondition | None) -> None:
        """
        Refuse a conditional write early, before its body is asked for; publishing decides in the end.

        :raise S3Error: PreconditionFailed, NoSuchKey
        """
        if condition is None:
            return
        try:
            etag: str | None = (await self.store.current_version(bucket, key)).facts.etag
        except NoSuchKey:
            etag = None
        check_write(condition, etag)

    async def reserve_version(
        self, call: Call, bucket: Bucket, owner_id: str, *, content_bytes: int, objects: int = 1
    ) -> Reserved:
        """
        Let a version of the call's key come into being, as far as quotas on what is kept go.

        :param owner_id: whose it will be
        :param content_bytes: its size as S3 shows it, or the most that it can be
        :param objects: 0 for what is to become a part of one
        :raise S3Error: QuotaExceeded
        """
        return await self.reservations.reserve(
            caller=await self.payer(call, owner_id),
            bucket=bucket,
            wanted=Use(kept=content_bytes, objects=objects),
            replaced=lambda: self._replaced(bucket, call.object_key),
        )

    async def _replaced(self, bucket: Bucket, key: bytes) -> ObjectVersion | None:
        """Return the version that goes when one comes under a key; None where it stays, or there is none."""
        if bucket.versioning is Versioning.ENABLED:
            return None
        try:
            version = await self.store.current_version(bucket.name, key)
        except (NoSuchBucket, NoSuchKey):
            return None
        is_null = version.facts.version_id == NULL_VERSION_ID
        return version if is_null or bucket.versioning is Versioning.UNSET else None

    async def not_recorded(self, addresses: Sequence[str], error: ColdStoreError) -> None:
        """
        Deal with bytes that are on the disk and whose record was refused: with certainty, then they are freed; or nobody
        knows, then they may well be somebody's, and are looked up later.
        """
        if not addresses:
            return
        if isinstance(error, MetadataUnavailable) and not isinstance(error, MetadataFull):
            self.doubtful(addresses)
            return
        try:
            await self.staging.discard(addresses)
        except DiskFault as fault:
            _log.warn("pieces that nobody wants could not be freed yet: {fault}", fault=fault)
            self.doubtful(addresses)

    async def damaged(self, version: ObjectVersion, error: BytesDamaged) -> None:
        """Tell the operator that a version's bytes on disk are not what was written."""
        name = version.name
        _log.error("bytes of {name} are damaged: {reason}", name=name, reason=str(error))
        try:
            await self.store.raise_alert(
                kind="bytes-damaged",
                subject=f"object {name}",
                severity=Severity.CRITICAL,
                sentence=f"The bytes of {name} on the staging disk are damaged ({error}); they were not served.",
                at=self.now(),
            )
        except MetadataUnavailable:
            _log.error("the alert about {name} could not be recorded", name=name)


def version_header(
    bucket: Bucket, version: ObjectVersion, *, name: str = "x-amz-version-id", asked: str | None = None
) -> dict[str, str]:
    """Return the field that names a version, where the bucket's versioning was ever set or the version was asked for by its id."""
    if bucket.versioning is Versioning.UNSET and asked is None:
        return {}
    return {name: version.facts.version_id}


def made_header(version: ObjectVersion) -> dict[str, str]:
    """Return the field that names a version to its writer; nothing of a null version."""
    version_id = version.facts.version_id
    return {} if version_id == NULL_VERSION_ID else {"x-amz-version-id": version_id}


def check_version_id(version_id: str | None) -> None:
    """
    Let pass what may be a version id.

    :raise S3Error: InvalidArgument
    """
    if version_id is not None and not _VERSION_ID.fullmatch(version_id):
        raise S3Error(
            "InvalidArgument",
            f"Invalid version id specified: {shown(version_id)}"
            if version_id
            else "Version id cannot be the empty string",
            details={"ArgumentName": "versionId", "ArgumentValue": version_id},
        )
