"""What every operation works with, and the questions that all of them ask first."""

import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from coldstore.interfaces.bell import IBell
from coldstore.interfaces.metadata import IMetadataStore, WriteCondition
from coldstore.interfaces.staging import BytesDamaged, DiskFault, IStaging
from coldstore.model.errors import ColdStoreError, MetadataFull, MetadataUnavailable, NoSuchKey
from coldstore.model.events import Severity
from coldstore.model.objects import Bucket, ObjectVersion, Piece, StorageClass
from coldstore.plan.classes import ClassRules
from coldstore.s3.admission import Admission
from coldstore.s3.authorise import authorise
from coldstore.s3.call import Call
from coldstore.s3.conditions import check_write
from coldstore.s3.errors import S3Error
from coldstore.s3.pace import Pace
from coldstore.s3.reads import ReadCounts

CURRENT_VERSION_ID = "null"
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
    doubtful: Callable[[Sequence[str]], None]

    def now(self) -> float:
        """Return unix seconds."""
        return float(self.clock.seconds())

    def new_id(self) -> str:
        """Return a fresh id of 32 URL-safe characters that nobody can guess."""
        return urlsafe_b64encode(self.random.randbytes(24)).decode("ascii")

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
        authorise(call, bucket.owner_id)
        return bucket

    async def current(self, bucket: str, key: bytes) -> ObjectVersion:
        """
        Return what is under a key.

        :raise S3Error: NoSuchKey, naming the key
        """
        try:
            return await self.store.current_version(bucket, key)
        except NoSuchKey:
            raise _no_such_key(key) from None

    async def current_content(self, bucket: str, key: bytes) -> tuple[ObjectVersion, Piece | None]:
        """
        Return what is under a key, with the one piece that holds all its bytes where one does.

        :raise S3Error: NoSuchKey, naming the key
        """
        try:
            return await self.store.current_content(bucket, key)
        except NoSuchKey:
            raise _no_such_key(key) from None

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
        name = f"{version.facts.bucket}/{version.facts.key.decode('utf-8', 'replace')}"
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


def _no_such_key(key: bytes) -> S3Error:
    return S3Error("NoSuchKey", details={"Key": key.decode("utf-8")})


def check_version_id(version_id: str | None) -> None:
    """
    Let requests pass that mean the current version, which is the only one while there is no versioning.

    :raise S3Error: InvalidArgument for what is no version id, NoSuchVersion for any other
    """
    if version_id is None or version_id == CURRENT_VERSION_ID:
        return
    if not _VERSION_ID.fullmatch(version_id):
        raise S3Error(
            "InvalidArgument",
            "Invalid version id specified",
            details={"ArgumentName": "versionId", "ArgumentValue": version_id},
        )
    raise S3Error("NoSuchVersion", details={"VersionId": version_id})
