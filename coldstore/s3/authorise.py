"""
Whether a caller may do what he asks: asked here by every operation, and nowhere else.

Of an owner in a bucket without a policy, who has no policies himself, nothing needs to be judged, and no question is asked. For everybody else policies decide
(``coldstore.plan.policy.decision``), and where nothing denies and no policy allows, an ACL may.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType

from twisted.logger import Logger

from coldstore.interfaces.metadata import IMetadataStore
from coldstore.model.configurations import ConfigurationKind
from coldstore.model.errors import NoSuchKey, NoSuchVersion
from coldstore.model.locks import Lock
from coldstore.model.objects import Bucket, ObjectVersion, Pairs
from coldstore.model.policies import UserPolicy
from coldstore.model.tags import tags_of
from coldstore.plan.acl import OF_OBJECT
from coldstore.plan.policy import stored
from coldstore.plan.policy.access_block import AccessBlock
from coldstore.plan.policy.actions import ACTIONS, Kind
from coldstore.plan.policy.asked import Question
from coldstore.plan.policy.conditions import EXISTING_TAG, LOCK, REQUEST_TAG, REQUEST_TAG_KEYS
from coldstore.plan.policy.decision import Decision, Ground, Policies, UserPolicyRead
from coldstore.plan.policy.document import read_user_policy
from coldstore.plan.policy.statements import Policy
from coldstore.s3.acl_rights import DELETING, AclRights
from coldstore.s3.actions import OF_VERSION, needed_by, resource_of
from coldstore.s3.api import Operation
from coldstore.s3.call import Call, Caller
from coldstore.s3.circumstances import RequestCircumstances
from coldstore.s3.errors import S3Error, shown
from coldstore.s3.public_access import PublicAccess
from coldstore.s3.settings import Settings

_OWNER_FIELD = "x-amz-expected-bucket-owner"
_SOURCE_OWNER_FIELD = "x-amz-source-expected-bucket-owner"
_IN_DOCUMENTS: Mapping[Operation, tuple[str, ...]] = MappingProxyType(
    {
        Operation.PUT_OBJECT_TAGGING: (REQUEST_TAG, REQUEST_TAG_KEYS),
        Operation.PUT_OBJECT_RETENTION: (LOCK,),
        Operation.PUT_OBJECT_LEGAL_HOLD: (LOCK,),
    }
)
"""Beginnings of the condition keys whose values a call has in its document: where a policy asks for them it is judged with that."""
_DELETIONS = frozenset({DELETING, OF_VERSION[DELETING]})
_ABSENCES = frozenset({"NoSuchKey", "NoSuchVersion"})
_log = Logger()


class Authority:
    """Judges calls by the policies that there are."""

    def __init__(
        self,
        store: IMetadataStore,
        settings: Settings,
        *,
        public_access: PublicAccess,
        acl_rights: AclRights,
    ) -> None:
        """:param acl_rights: are asked where nothing denies and no policy allows, and about objects that are not the bucket owner's"""
        self._store = store
        self._settings = settings
        self._public_access = public_access
        self._acl_rights = acl_rights

    def is_free(self, caller: Caller, bucket: Bucket) -> bool:
        """Tell whether a caller may do everything in a bucket, as nothing is said of him nor of it."""
        return (
            caller.user_id == bucket.owner_id
            and not caller.policies
            and ConfigurationKind.POLICY not in bucket.configurations
            and ConfigurationKind.OWNERSHIP not in bucket.configurations
        )

    async def policy_of(self, bucket: Bucket) -> Policy | None:
        """Return the policy of a bucket."""
        return await self._settings.of(bucket, ConfigurationKind.POLICY, stored.read)

    async def access_block_of(self, bucket: Bucket) -> AccessBlock:
        """Return what a bucket does about what is public."""
        return await self._public_access.of(bucket)

    # ── what operations ask ─────────────────────────────────────────────────────────────────────────────────────────

    async def require(self, call: Call, bucket: Bucket) -> None:
        """
        Refuse a call that its caller may not make on its bucket. What also depends on the call's document is judged by
        ``require_tagging``, ``require_locking`` and ``require_deletion``.

        ``x-amz-expected-bucket-owner`` must name the owner where it is sent (S3 User Guide, "Verifying bucket ownership").

        :raise S3Error: AccessDenied
        """
        _require_expected(call, _OWNER_FIELD, bucket)
        if self.is_free(call.caller, bucket):
            return
        policies = await self._policies(call.caller, bucket)
        actions = needed_by(call)
        if call.operation in _IN_DOCUMENTS and _need(policies, _IN_DOCUMENTS[call.operation], actions):
            return
        if not actions:
            await self._require_some_hope(call, bucket, policies)
        for action in actions:
            await self._require(call, bucket, policies, action, call.key, call.version_id)

    async def require_version(self, call: Call, bucket: Bucket, version: ObjectVersion) -> None:
        """
        Refuse what a call found under its key, if that is not what was judged before and not for its caller. Where there are lists each object
        has its own, and another may have come since.

        :raise S3Error: AccessDenied
        """
        if ConfigurationKind.OWNERSHIP in bucket.configurations:
            policies = await self._policies(call.caller, bucket)
            for action in OF_OBJECT.keys() & needed_by(call):
                await self._require(
                    call, bucket, policies, action, call.key, call.version_id, version=version
                )

    async def require_tagging(self, call: Call, bucket: Bucket, tags: Pairs) -> None:
        """
        Refuse to give an object these tags.

        :raise S3Error: AccessDenied
        """
        if self.is_free(call.caller, bucket):
            return
        policies = await self._policies(call.caller, bucket)
        for action in needed_by(call):
            await self._require(call, bucket, policies, action, call.key, call.version_id, request_tags=tags)

    async def require_locking(self, call: Call, bucket: Bucket, lock: Lock) -> None:
        """
        Refuse to give a version this retention, or this legal hold.

        :raise S3Error: AccessDenied
        """
        if self.is_free(call.caller, bucket):
            return
        policies = await self._policies(call.caller, bucket)
        for action in needed_by(call):
            await self._require(call, bucket, policies, action, call.key, call.version_id, lock=lock)

    async def require_deletion(self, call: Call, bucket: Bucket, key: bytes, version_id: str | None) -> None:
        """
        Refuse to delete what is under a key, or a version.

        :raise S3Error: AccessDenied
        """
        if not self.is_free(call.caller, bucket):
            policies = await self._policies(call.caller, bucket)
            action = _of_version(DELETING, version_id)
            await self._require(call, bucket, policies, action, key, version_id)

    async def require_source(
        self,
        call: Call,
        bucket: Bucket,
        key: bytes,
        version_id: str | None,
        version: ObjectVersion | None = None,
    ) -> None:
        """
        Refuse to copy out of a bucket; ``x-amz-source-expected-bucket-owner`` as in ``require``.

        :param version: what was found there, to be judged as by ``require_version``
        :raise S3Error: AccessDenied
        """
        _require_expected(call, _SOURCE_OWNER_FIELD, bucket)
        if not self.is_free(call.caller, bucket):
            policies = await self._policies(call.caller, bucket)
            action = _of_version("s3:GetObject", version_id)
            await self._require(call, bucket, policies, action, key, version_id, version=version)

    async def require_copied_tags(
        self,
        call: Call,
        *,
        source: Bucket,
        key: bytes,
        version_id: str | None,
        target: Bucket,
        tags: Pairs,
    ) -> None:
        """
        Refuse to copy an object together with its tags, which needs that they may be read there and written here.

        :raise S3Error: AccessDenied
        """
        if not self.is_free(call.caller, source):
            policies = await self._policies(call.caller, source)
            action = _of_version("s3:GetObjectTagging", version_id)
            await self._require(call, source, policies, action, key, version_id)
        if not self.is_free(call.caller, target):
            policies = await self._policies(call.caller, target)
            await self._require(
                call, target, policies, "s3:PutObjectTagging", call.key, None, request_tags=tags
            )

    async def require_of_account(self, call: Call) -> None:
        """
        Refuse what concerns no bucket that there is: listing one's own, and making one.

        :raise S3Error: AccessDenied
        """
        caller = call.caller
        if not (caller.is_anonymous or caller.policies):
            return
        policies = Policies(
            owner_id=caller.user_id,
            bucket="",
            of_bucket=None,
            of_user=_policies_read(caller.policies),
            restricts_public=False,
        )
        circumstances = RequestCircumstances(call, caller.user_id)
        for action in needed_by(call):
            question = _question(caller, action, resource_of(action, call.bucket or "", None), circumstances)
            decision = policies.decide(question)
            if not decision.is_allowed:
                raise _denied(call, question, decision, None)

    async def may(
        self,
        call: Call,
        bucket: Bucket,
        action: str,
        *,
        key: bytes | None = None,
        version_id: str | None = None,
    ) -> bool:
        """Tell whether the caller may carry out one more action, by its name in policies, with what is under a key, or with the bucket."""
        if self.is_free(call.caller, bucket):
            return True
        policies = await self._policies(call.caller, bucket)
        _, decision = await self._decide(call, bucket, policies, action, key, version_id)
        return decision.is_allowed

    async def may_read_tags(self, call: Call, bucket: Bucket) -> bool:
        """Tell whether the caller may read the tags of the object that the call is about."""
        action = _of_version("s3:GetObjectTagging", call.version_id)
        return await self.may(call, bucket, action, key=call.key, version_id=call.version_id)

    async def told(
        self, call: Call, error: S3Error, bucket: Bucket | None = None, key: bytes | None = None
    ) -> S3Error:
        """
        Return what a caller is told of a key that is not there: nothing, if he may not list the bucket (S3 API Reference, GetObject).

        :param bucket: where it is not; None: in the bucket of the call
        """
        if error.code not in _ABSENCES or call.bucket is None:
            return error
        here = await self._store.bucket(call.bucket) if bucket is None else bucket
        action = "s3:ListBucket" if error.code == "NoSuchKey" else "s3:ListBucketVersions"
        if await self.may(call, here, action):
            return error
        return S3Error(
            "AccessDenied",
            f"Access Denied: whether there is such an object is told only to who is allowed {action} on {shown(here.name)}.",
        )

    # ── how they are judged ─────────────────────────────────────────────────────────────────────────────────────────

    async def _policies(self, caller: Caller, bucket: Bucket) -> Policies:
        of_bucket = await self.policy_of(bucket)
        restricts = of_bucket is not None and (await self.access_block_of(bucket)).restrict_public_buckets
        return Policies(
            owner_id=bucket.owner_id,
            bucket=bucket.name,
            of_bucket=of_bucket,
            of_user=_policies_read(caller.policies),
            restricts_public=restricts,
        )

    async def _require(
        self,
        call: Call,
        bucket: Bucket,
        policies: Policies,
        action: str,
        key: bytes | None,
        version_id: str | None,
        request_tags: Pairs | None = None,
        version: ObjectVersion | None = None,
        lock: Lock | None = None,
    ) -> None:
        question, decision = await self._decide(
            call, bucket, policies, action, key, version_id, request_tags, version, lock
        )
        if not decision.is_allowed:
            raise _denied(call, question, decision, bucket)

    async def _decide(
        self,
        call: Call,
        bucket: Bucket,
        policies: Policies,
        action: str,
        key: bytes | None,
        version_id: str | None,
        request_tags: Pairs | None = None,
        version: ObjectVersion | None = None,
        lock: Lock | None = None,
    ) -> tuple[Question, Decision]:
        existing: Pairs = ()
        if key is not None and ACTIONS[action] is Kind.OBJECT and _need(policies, (EXISTING_TAG,), (action,)):
            existing = await self._existing_tags(bucket.name, key, version_id)
        circumstances = RequestCircumstances(call, bucket.owner_id, version_id, existing, request_tags, lock)
        question = _question(call.caller, action, resource_of(action, bucket.name, key), circumstances)
        decision = policies.decide(question)
        if decision.is_allowed:
            if await self._acl_rights.withholds(call, bucket, action, key, version_id, version):
                decision = Decision(ground=Ground.ANOTHERS)
        elif decision.ground in (Ground.NOTHING_ALLOWS, Ground.PUBLIC_IS_BLOCKED) and (
            await self._acl_rights.allows(call, bucket, action, key, version_id, version)
        ):
            decision = Decision(ground=Ground.ACL)
        return question, decision

    async def _existing_tags(self, bucket: str, key: bytes, version_id: str | None) -> Pairs:
        """Return the tags of an object; none of one that is not there."""
        try:
            if version_id is None:
                return tags_of(await self._store.current_version(bucket, key))
            version, _ = await self._store.version_content(bucket, key, version_id)
            return tags_of(version)
        except (NoSuchKey, NoSuchVersion):
            return ()

    async def _require_some_hope(self, call: Call, bucket: Bucket, policies: Policies) -> None:
        """Refuse, before its document is read, what will be refused for every key in it."""
        user_id = call.caller.user_id
        if user_id == bucket.owner_id or policies.of_user:
            return
        if policies.of_bucket is not None and policies.of_bucket.may_allow(user_id, _DELETIONS):
            return
        if await self._acl_rights.allows(call, bucket, DELETING, None, None):
            return
        resource = resource_of(DELETING, bucket.name, None)
        question = _question(call.caller, DELETING, resource, RequestCircumstances(call, bucket.owner_id))
        raise _denied(call, question, Decision(ground=Ground.NOTHING_ALLOWS), bucket)


def _question(caller: Caller, action: str, resource: str, circumstances: RequestCircumstances) -> Question:
    return Question(user_id=caller.user_id, action=action, resource=resource, circumstances=circumstances)


def _of_version(action: str, version_id: str | None) -> str:
    return action if version_id is None else OF_VERSION[action]


def _need(policies: Policies, beginnings: Iterable[str], actions: Iterable[str]) -> bool:
    """Tell whether a condition on one of these actions is about a key that begins so."""
    known = [read.policy for read in policies.of_user]
    if policies.of_bucket is not None:
        known.append(policies.of_bucket)
    return any(
        policy.needs(beginning, action) for policy in known for beginning in beginnings for action in actions
    )


@lru_cache(maxsize=1024)
def _policies_read(policies: tuple[UserPolicy, ...]) -> tuple[UserPolicyRead, ...]:
    """Read the policies of a user. They were read when they were put, so that each can be."""
    return tuple(
        UserPolicyRead(name=policy.name, policy=read_user_policy(policy.document)) for policy in policies
    )


def _require_expected(call: Call, field: str, bucket: Bucket) -> None:
    expected = call.headers.get(field)
    if expected not in (None, bucket.owner_id):
        raise S3Error(
            "AccessDenied", f"Access Denied: {field} is {shown(expected)}, and the owner is another."
        )


def _denied(call: Call, question: Question, decision: Decision, bucket: Bucket | None) -> S3Error:
    """Return the refusal; which statement of a bucket's policy denies something is its owner's to know."""
    caller = call.caller
    reason = decision.reason
    _log.debug("{request_id}: denied, {reason}", request_id=call.request_id, reason=reason)
    is_foreign = bucket is not None and caller.user_id != bucket.owner_id
    if decision.ground is Ground.DENIED and is_foreign and not decision.is_of_user:
        reason = "the bucket's policy denies it"
    what = f"{question.action} on {shown(question.resource)}"
    if caller.is_anonymous:
        told = f"the request is not signed, and {what} is not for everybody"
    elif bucket is not None and is_foreign:
        told = f"bucket {shown(bucket.name)} belongs to another user than that of access key {shown(caller.access_key)}, who may not {what}"
    else:
        told = f"user {shown(caller.name)} may not {what}"
    return S3Error("AccessDenied", f"Access Denied: {told}: {reason}.")
