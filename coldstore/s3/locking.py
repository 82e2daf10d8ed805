"""Operations on object lock: of buckets, and of single versions."""

from collections.abc import Awaitable, Callable

from coldstore.interfaces.metadata import Conflict
from coldstore.model.errors import BucketTakesNoLocks, ObjectLocked
from coldstore.model.locks import UNLOCKED, Lock
from coldstore.model.objects import Bucket, ObjectVersion
from coldstore.s3.answers import Answer, xml_answer
from coldstore.s3.call import Call
from coldstore.s3.errors import S3Error, shown
from coldstore.s3.integrity import IntegrityPlan
from coldstore.s3.locks import (
    configuration_node,
    legal_hold_node,
    locked,
    missing_digest,
    parse_configuration,
    parse_legal_hold,
    parse_retention,
    retention_node,
    wants_bypass,
)
from coldstore.s3.services import Services, check_version_id
from coldstore.s3.stored import Description

BYPASS = "s3:BypassGovernanceRetention"
TRIES = 8
"""How often a version is looked up anew because it went between the look and the change."""


class LockOperations:
    """The operations of this family."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._store = services.store

    async def get_configuration(self, call: Call) -> Answer:
        """GetObjectLockConfiguration."""
        bucket = await self._services.bucket(call)
        if bucket.object_lock is None:
            raise S3Error("ObjectLockConfigurationNotFoundError")
        return xml_answer(configuration_node(bucket.object_lock))

    async def put_configuration(self, call: Call) -> Answer:
        """PutObjectLockConfiguration: for versions that come into being from now on. A bucket that takes locks does so for good."""
        bucket = await self._services.bucket(call)
        document = await self._document(call, bucket, "ObjectLockConfiguration")
        await self._store.set_object_lock(
            name=bucket.name,
            object_lock=parse_configuration(document),
            at=self._services.now(),
            who=who(call),
        )
        return Answer()

    async def get_retention(self, call: Call) -> Answer:
        """GetObjectRetention: also of one that has ended."""
        version = await self._lockable(call)
        if version.lock.retention is None:
            raise S3Error("NoSuchObjectLockConfiguration")
        return xml_answer(retention_node(version.lock.retention))

    async def put_retention(self, call: Call) -> Answer:
        """PutObjectRetention: the store refuses what would break the one that there is."""
        bucket = await self._services.bucket(call)
        check_lockable(bucket)
        check_version_id(call.version_id)
        document = await self._document(call, bucket, "Retention")
        now = self._services.now()
        retention = parse_retention(document, now=now)
        await self._services.authority.require_locking(call, bucket, Lock(retention))
        bypass = await bypasses(self._services, call, bucket, call.object_key, call.version_id)
        await self._change(
            call,
            lambda version: self._store.set_retention(
                version.version_uid, retention=retention, at=now, bypass=bypass, who=who(call)
            ),
        )
        return Answer()

    async def get_legal_hold(self, call: Call) -> Answer:
        """GetObjectLegalHold."""
        version = await self._lockable(call)
        if version.lock.legal_hold is None:
            raise S3Error("NoSuchObjectLockConfiguration")
        return xml_answer(legal_hold_node(version.lock.legal_hold))

    async def put_legal_hold(self, call: Call) -> Answer:
        """PutObjectLegalHold."""
        bucket = await self._services.bucket(call)
        check_lockable(bucket)
        check_version_id(call.version_id)
        is_on = parse_legal_hold(await self._document(call, bucket, "LegalHold"))
        await self._services.authority.require_locking(call, bucket, Lock(legal_hold=is_on))
        await self._change(
            call,
            lambda version: self._store.set_legal_hold(
                version.version_uid, is_on=is_on, at=self._services.now(), who=who(call)
            ),
        )
        return Answer()

    async def _document(self, call: Call, bucket: Bucket, name: str) -> bytes:
        document = await self._services.document(call, bucket, requires_digest=True)
        if not document.strip():
            raise S3Error("MissingRequestBodyError", f"Request body is empty: a {name} is needed.")
        return document

    async def _lockable(self, call: Call) -> ObjectVersion:
        check_lockable(await self._services.bucket(call))
        return await self._services.version(call.bucket_name, call.object_key, call.version_id)

    async def _change(self, call: Call, change: Callable[[ObjectVersion], Awaitable[ObjectVersion]]) -> None:
        """
        Change a version that may be replaced meanwhile.

        :raise S3Error: AccessDenied when its lock would be broken
        """
        for _ in range(TRIES):
            version = await self._services.version(call.bucket_name, call.object_key, call.version_id)
            try:
                await change(version)
            except Conflict:
                continue
            except ObjectLocked as error:
                raise locked(next(iter(error.reasons.values()))) from None
            return
        raise S3Error("OperationAborted")


async def bypasses(
    services: Services, call: Call, bucket: Bucket, key: bytes, version_id: str | None
) -> bool:
    """
    Whether a call is to bypass a version's retention of mode GOVERNANCE.

    :raise S3Error: AccessDenied: it wants to, and its caller may not
    """
    if not wants_bypass(call.headers):
        return False
    if not await services.authority.may(call, bucket, BYPASS, key=key, version_id=version_id):
        raise S3Error(
            "AccessDenied", f"Access Denied: the retention of {shown(key)} may not be bypassed ({BYPASS})."
        )
    return True


async def readable_lock(services: Services, call: Call, bucket: Bucket, version: ObjectVersion) -> Lock:
    """Return what the caller may see of a version's lock."""
    lock = version.lock
    if lock is UNLOCKED or services.authority.is_free(call.caller, bucket):
        return lock

    async def may(action: str) -> bool:
        return await services.authority.may(
            call, bucket, action, key=call.object_key, version_id=call.version_id
        )

    return Lock(
        lock.retention if await may("s3:GetObjectRetention") else None,
        lock.legal_hold if await may("s3:GetObjectLegalHold") else None,
    )


def check_lockable(bucket: Bucket) -> None:
    """
    Let a bucket pass that takes locks.

    :raise BucketTakesNoLocks: it does not
    """
    if bucket.object_lock is None:
        raise BucketTakesNoLocks(bucket.name)


def check_written(described: Description, bucket: Bucket, plan: IntegrityPlan | None) -> None:
    """
    Let a new object pass whose lock its bucket can keep, and of whose bytes it is certain that they are those that are meant.

    :param plan: of its body; None where none comes with the request, or its lock comes later
    :raise BucketTakesNoLocks: the bucket cannot keep it
    :raise S3Error: InvalidRequest without Content-MD5 and checksum, as AWS wants it of bytes that nobody can replace
    """
    if bucket.object_lock is None:
        if described.lock is not UNLOCKED:
            raise BucketTakesNoLocks(bucket.name)
        return
    is_locked = described.lock is not UNLOCKED or bucket.object_lock.default is not None
    if is_locked and plan is not None and not plan.has_client_digest:
        raise missing_digest()


def who(call: Call) -> str:
    """Return who calls, as the audit trail names him."""
    return f"{call.caller.name} ({call.caller.access_key})"
