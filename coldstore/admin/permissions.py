"""What users may do, as an operator sees and says it: policies of users, those of buckets, and what comes of them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.web.http import Request

from coldstore.admin.asking import BadRequest, argument_of, document_of, text_of
from coldstore.interfaces.metadata import IMetadataStore
from coldstore.model.configurations import ConfigurationKind
from coldstore.model.errors import NoSuchBucket, NoSuchKey
from coldstore.model.objects import Bucket, User
from coldstore.model.policies import UserPolicy
from coldstore.model.tags import tags_of
from coldstore.plan.policy import stored
from coldstore.plan.policy.access_block import EVERYTHING, REMOVED, AccessBlock
from coldstore.plan.policy.actions import ACTIONS, Kind, known_action
from coldstore.plan.policy.asked import ARN_OF_BUCKETS, Question
from coldstore.plan.policy.canned import user_policy
from coldstore.plan.policy.conditions import EXISTING_TAG
from coldstore.plan.policy.decision import Policies, UserPolicyRead
from coldstore.plan.policy.document import read_user_policy
from coldstore.plan.policy.errors import MalformedPolicy
from coldstore.plan.policy.explanation import Given, explained
from coldstore.plan.policy.patterns import plain_key
from coldstore.plan.policy.principals import EVERYBODY, user_arn
from coldstore.plan.policy.publicity import public_statement
from coldstore.plan.policy.statements import Policy

Answerer = Callable[[Request], Awaitable[object]]
NAME_MAX = 128
_ANYBODY = User(user_id="", name=EVERYBODY, created_at=0.0)
"""Who does not sign."""


class Permissions:
    """Answers questions about what is allowed, and carries out orders."""

    def __init__(self, *, store: IMetadataStore, clock: IReactorTime, blocks_public: bool) -> None:
        """:param blocks_public: whether a bucket of which nobody has said otherwise blocks what is public"""
        self._store = store
        self._clock = clock
        self._usual_block = EVERYTHING if blocks_public else REMOVED

    def answerers(self) -> Sequence[tuple[str, str, Answerer]]:
        """Return what is answered: method, path, and by what."""
        return (
            ("GET", "/users/policies", self._user_policies),
            ("POST", "/users/policies", self._set_user_policy),
            ("POST", "/users/policies/remove", self._remove_user_policy),
            ("GET", "/policy", self._bucket_policy),
            ("GET", "/policy/explain", self._explain),
        )

    # ── policies of users ───────────────────────────────────────────────────────────────────────────────────────────

    async def _user_policies(self, request: Request) -> object:
        return await self._rows(await self._named(argument_of(request, "user")))

    async def _rows(self, user: User) -> object:
        return [
            {"user": user.name, "policy": policy.name, "document": policy.document}
            for policy in await self._store.user_policies(user.user_id)
        ]

    async def _set_user_policy(self, request: Request) -> object:
        document = document_of(request)
        user = await self._named(text_of(document, "user"))
        name = text_of(document, "policy")
        if not name or not name.isprintable():
            raise BadRequest("the name of a policy must not be empty, and printable")
        try:
            text = _policy_text(document)
            read_user_policy(text)
        except MalformedPolicy as fault:
            raise BadRequest(f"the policy is not set: {fault}") from None
        policy = UserPolicy(name=name, document=text)
        await self._store.set_user_policy(user_name=user.name, policy=policy)
        await self._audit(document, "set user policy", user, name)
        return await self._rows(user)

    async def _remove_user_policy(self, request: Request) -> object:
        document = document_of(request)
        user = await self._named(text_of(document, "user"))
        name = text_of(document, "policy")
        await self._store.remove_user_policy(user_name=user.name, policy_name=name)
        await self._audit(document, "remove user policy", user, name)
        return await self._rows(user)

    async def _audit(self, document: Mapping[str, Any], what: str, user: User, detail: str) -> None:
        await self._store.audit(
            at=self._clock.seconds(),
            who=text_of(document, "by", "operator"),
            what=what,
            subject=f"user {user.name}",
            detail=detail,
        )

    async def _named(self, name: str) -> User:
        for user in await self._store.users():
            if user.name == name:
                return user
        raise BadRequest(f"there is no user {name}; `coldstore user list` lists them")

    # ── buckets ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _bucket_policy(self, request: Request) -> object:
        bucket = await self._store.bucket(argument_of(request, "bucket"))
        policy, block = await self._policy_of(bucket), await self._block_of(bucket)
        owner = await self._store.user(bucket.owner_id)
        statement = None if policy is None else public_statement(policy)
        return {
            "bucket": bucket.name,
            "owner": bucket.owner_id if owner is None else owner.name,
            "is_public": statement is not None,
            "public_access_block": {
                name: value for name, value in block._asdict().items() if name != "is_removed"
            },
            "policy": None if policy is None else policy.text,
        }

    async def _policy_of(self, bucket: Bucket) -> Policy | None:
        text = await self._document(bucket, ConfigurationKind.POLICY)
        return None if text is None else stored.read(text)

    async def _block_of(self, bucket: Bucket) -> AccessBlock:
        text = await self._document(bucket, ConfigurationKind.PUBLIC_ACCESS_BLOCK)
        return self._usual_block if text is None else AccessBlock.read(text)

    async def _document(self, bucket: Bucket, kind: ConfigurationKind) -> str | None:
        if kind not in bucket.configurations:
            return None
        return await self._store.bucket_configuration(bucket_uid=bucket.bucket_uid, kind=kind)

    # ── what comes of them ──────────────────────────────────────────────────────────────────────────────────────────

    async def _explain(self, request: Request) -> object:
        """Say whether a user may carry out an action, and why."""
        name, asked = argument_of(request, "user"), argument_of(request, "action")
        user = _ANYBODY if name == EVERYBODY else await self._named(name)
        action = known_action(asked)
        if action is None:
            raise BadRequest(f"S3 knows no action {asked!r}; it is written as in s3:GetObject")
        resource, bucket_name = _resource_of(argument_of(request, "resource"), action)
        bucket = await self._bucket_for(action, bucket_name)
        owner_id = user.user_id if bucket is None else bucket.owner_id
        policies = Policies(
            owner_id=owner_id,
            bucket="" if bucket is None else bucket.name,
            of_bucket=None if bucket is None else await self._policy_of(bucket),
            of_user=tuple(
                UserPolicyRead(name=policy.name, policy=read_user_policy(policy.document))
                for policy in (await self._store.user_policies(user.user_id))
            ),
            restricts_public=bucket is not None and (await self._block_of(bucket)).restrict_public_buckets,
        )
        given = await self._tags(resource) | _circumstances(request, user, owner_id, self._clock.seconds())
        question = Question(
            user_id=user.user_id, action=action, resource=resource, circumstances=Given(given)
        )
        decision, considered = explained(policies, question)
        return {
            "user": user.name,
            "action": action,
            "resource": resource,
            "decision": "allow" if decision.is_allowed else "deny",
            "reason": decision.reason,
            "policies": [read.title for read in policies.of_user]
            + ([] if policies.of_bucket is None else ["the bucket's policy"]),
            "considered": [
                {**each._asdict(), "applies": "yes" if not each.hindrance else f"no: {each.hindrance}"}
                for each in considered
            ],
            "circumstances": {key: list(values) for key, values in sorted(given.items())},
        }

    async def _tags(self, resource: str) -> dict[str, tuple[str, ...]]:
        """Return what an object that is there gives under condition keys: its tags."""
        bucket, _, key = resource.removeprefix(ARN_OF_BUCKETS).partition("/")
        try:
            version = await self._store.current_version(bucket, key.encode("utf-8"))
        except (NoSuchBucket, NoSuchKey):
            return {}
        return {f"{EXISTING_TAG}{name}": (value,) for name, value in tags_of(version)}

    async def _bucket_for(self, action: str, name: str) -> Bucket | None:
        if ACTIONS[action] is Kind.ACCOUNT:
            return None
        try:
            return await self._store.bucket(name)
        except NoSuchBucket:
            if action == "s3:CreateBucket":
                return None
            raise


def _policy_text(document: Mapping[str, Any]) -> str:
    """
    Return the policy that an order sets: as it stands there, or made of an operator's words.

    :raise MalformedPolicy: of words
    """
    text = document.get("document")
    if text is not None:
        if not isinstance(text, str):
            raise BadRequest("document must be a policy as text")
        return text
    return user_policy(
        buckets=_places(document, "buckets"),
        prefixes=_places(document, "prefixes"),
        read_only=document.get("read_only") is True,
        may_restore=document.get("may_restore") is True,
        no_delete=document.get("no_delete") is True,
    )


def _places(document: Mapping[str, Any], name: str) -> list[str]:
    value = document.get(name, [])
    if not isinstance(value, list) or not all(isinstance(place, str) for place in value):
        raise BadRequest(f"{name} must be a list of texts")
    return value


def _resource_of(text: str, action: str) -> tuple[str, str]:
    """Return the ARN that is meant by an ARN, a bucket, or BUCKET/KEY, and the bucket in it."""
    kind = ACTIONS[action]
    if kind is Kind.ACCOUNT:
        return "*", ""
    bucket, slash, key = text.removeprefix(ARN_OF_BUCKETS).partition("/")
    if not bucket or bool(key) is not (kind is Kind.OBJECT) or (slash and not key):
        wanted = "an object, BUCKET/KEY" if kind is Kind.OBJECT else "a bucket"
        raise BadRequest(f"{action} is of {wanted}, and {text!r} is none")
    return f"{ARN_OF_BUCKETS}{bucket}{slash}{key}", bucket


def _circumstances(request: Request, user: User, owner_id: str, now: float) -> dict[str, tuple[str, ...]]:
    """Return what a request is taken to have: what follows from who asks and when, and what the operator says."""
    given: dict[str, tuple[str, ...]] = {
        "aws:currenttime": (datetime.fromtimestamp(int(now), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),),
        "aws:epochtime": (str(int(now)),),
        "aws:principaltype": ("User" if user.user_id else "Anonymous",),
        "aws:resourceaccount": (owner_id,),
        "aws:securetransport": ("true" if argument_of(request, "secure") else "false",),
        "s3:resourceaccount": (owner_id,),
    }
    if user.user_id:
        given |= {
            "aws:principalaccount": (user.user_id,),
            "aws:principalarn": (user_arn(user.user_id, user.name),),
            "aws:userid": (user.user_id,),
            "aws:username": (user.name,),
        }
    if address := argument_of(request, "ip"):
        given["aws:sourceip"] = (address,)
    for written in (request.args or {}).get(b"given", ()):
        key, equals, value = written.decode("utf-8", "replace").partition("=")
        if not key or not equals:
            raise BadRequest(
                f"{written.decode('utf-8', 'replace')!r} gives nothing; it is written as in s3:prefix=photos/"
            )
        given[plain_key(key)] = (*given.get(plain_key(key), ()), value)
    return given
