"""
Whether somebody may do what he asks, all policies taken together, and because of which statement.

An explicit denial counts before everything that allows, and what nothing allows is denied (IAM User Guide, "Policy evaluation logic"). Every user is an account of
his own, and what applies across accounts applies here: the policies that a user has are the most that he may do, and within that it is his who owns the
bucket, or whom its policy or an ACL allows. Beyond AWS a user's policy, which only an operator can give, also grants what it allows in a bucket that it names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from coldstore.plan.policy.asked import Question
from coldstore.plan.policy.publicity import public_statement
from coldstore.plan.policy.statements import Effect, Policy, Statement

OWNERS_RIGHTS = frozenset({"s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"})
"""What the policy of a bucket cannot deny to its owner: he could not undo it (as of root users; S3 API Reference, PutBucketPolicy)."""


USER_POLICY = "user policy"


class Ground(StrEnum):
    """Why a question is answered as it is."""

    DENIED = "denied by"
    BEYOND_USER_POLICIES = "no user policy allows it"
    OWNER = "the bucket's owner may do everything in it"
    USER_POLICY = "allowed by"
    BUCKET_POLICY = "allowed by the bucket's policy,"
    ACL = "allowed by an ACL"
    PUBLIC_IS_BLOCKED = (
        "the bucket's policy is public, and its public access block keeps that from all but the owner"
    )
    ANOTHERS = "the object is another user's than the bucket's owner, and its ACL does not allow it"
    NOTHING_ALLOWS = "neither the bucket's policy nor anything else allows it"


ALLOWING = frozenset({Ground.OWNER, Ground.USER_POLICY, Ground.BUCKET_POLICY, Ground.ACL})


@dataclass(frozen=True, slots=True, kw_only=True)
class UserPolicyRead:
    """A policy of a user under its name."""

    name: str
    policy: Policy

    @property
    def title(self) -> str:
        """How messages name it."""
        return f"{USER_POLICY} {self.name!r}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """
    The answer.

    :ivar statement: which one decided; None: none did
    :ivar source: what that is a statement of
    """

    ground: Ground
    statement: Statement | None = None
    source: str = ""

    @property
    def is_of_user(self) -> bool:
        """Whether it is a policy of the user that decides."""
        return self.source.startswith(USER_POLICY)

    @property
    def is_allowed(self) -> bool:
        """Whether it may be done."""
        return self.ground in ALLOWING

    @property
    def reason(self) -> str:
        """Why, in words."""
        if self.statement is None:
            return self.ground.value
        where = f" of {self.source}" if self.source else ""
        return f"{self.ground.value} {self.statement.title}{where}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """
    What a question about a bucket, or about an account, is decided by.

    :ivar owner_id: of the bucket, or the account
    :ivar bucket: the bucket's name; empty where it is about an account
    :ivar of_bucket: its policy
    :ivar of_user: those of who asks
    :ivar restricts_public: what a public policy allows counts for the owner alone (RestrictPublicBuckets)
    """

    owner_id: str
    bucket: str
    of_bucket: Policy | None
    of_user: Sequence[UserPolicyRead]
    restricts_public: bool

    def decide(self, question: Question) -> Decision:
        """Answer a question."""
        for read in self.of_user:
            denying = read.policy.first(Effect.DENY, question)
            if denying is not None:
                return Decision(ground=Ground.DENIED, statement=denying, source=read.title)
        is_owner = bool(question.user_id) and question.user_id == self.owner_id
        of_bucket = self.of_bucket
        if of_bucket is not None and not (is_owner and question.action in OWNERS_RIGHTS):
            denying = of_bucket.first(Effect.DENY, question)
            if denying is not None:
                return Decision(ground=Ground.DENIED, statement=denying, source="the bucket's policy")
        limiting = [read for read in self.of_user if read.policy.allows_anything()]
        allowing = _allowing(limiting, question)
        if limiting and allowing is None:
            return Decision(ground=Ground.BEYOND_USER_POLICIES)
        if is_owner:
            return Decision(ground=Ground.OWNER) if allowing is None else allowing
        granting = _allowing(limiting, question, bucket=self.bucket) if self.bucket else None
        return granting or self._allowed_by_bucket(question)

    def _allowed_by_bucket(self, question: Question) -> Decision:
        if self.of_bucket is None:
            return Decision(ground=Ground.NOTHING_ALLOWS)
        statement = self.of_bucket.first(Effect.ALLOW, question)
        if statement is None:
            return Decision(ground=Ground.NOTHING_ALLOWS)
        if self.restricts_public and public_statement(self.of_bucket) is not None:
            return Decision(ground=Ground.PUBLIC_IS_BLOCKED)
        return Decision(ground=Ground.BUCKET_POLICY, statement=statement)


def _allowing(policies: Sequence[UserPolicyRead], question: Question, *, bucket: str = "") -> Decision | None:
    """Return what of a user's policies allows it; :param bucket: and names this bucket."""
    for read in policies:
        for statement in read.policy.statements:
            if (
                statement.effect is Effect.ALLOW
                and statement.hindrance(question) is None
                and (not bucket or statement.names_bucket(bucket, question))
            ):
                return Decision(ground=Ground.USER_POLICY, statement=statement, source=read.title)
    return None
