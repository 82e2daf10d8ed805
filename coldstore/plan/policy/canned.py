"""The usual policies of users, made from an operator's words."""

import json
from collections.abc import Sequence
from typing import Any

from coldstore.plan.policy.asked import ARN_OF_BUCKETS
from coldstore.plan.policy.document import WITH_VARIABLES
from coldstore.plan.policy.errors import MalformedPolicy

READING = ("s3:Get*", "s3:List*")
RESTORING = ("s3:RestoreObject",)
DELETING = (
    "s3:DeleteObject",
    "s3:DeleteObjectVersion",
    "s3:DeleteBucket",
    "s3:BypassGovernanceRetention",
    "s3:PutLifecycleConfiguration",
    "s3:PutBucketPolicy",
    "s3:PutBucketAcl",
)
"""Deletions, and what would have somebody else carry them out: a lifecycle rule, or whoever a policy or an ACL lets."""
OF_BUCKETS_WITH_PREFIX = ("s3:ListBucket", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads")
ORIENTING = ("s3:ListAllMyBuckets", "s3:GetBucketLocation")
"""What clients ask before they do anything: it shows names of one's own buckets, and the region."""


def user_policy(
    *,
    buckets: Sequence[str] = (),
    prefixes: Sequence[str] = (),
    read_only: bool = False,
    may_restore: bool = False,
    no_delete: bool = False,
) -> str:
    """
    Return a policy as JSON: each word says more of the same user.

    Without a word of what may be done, and where, nothing is allowed by it: what is not denied stays as it is.

    :param buckets: the user may only use these buckets, whoever owns them
    :param prefixes: the user may only use what is in a bucket below a prefix, ``BUCKET/PREFIX``, whoever owns it
    :param read_only: reading and listing is all
    :param may_restore: restoring as well; without another word, restoring is all
    :param no_delete: nothing is deleted
    :raise MalformedPolicy: for a place that is none
    """
    if read_only or may_restore:
        actions = list((READING if read_only else ()) + (RESTORING if may_restore else ()))
    else:
        actions = ["s3:*"]
    statements: list[dict[str, Any]] = []
    if buckets or prefixes:
        whole = [_place(bucket, "bucket", wants_key=False) for bucket in buckets]
        if whole:
            names = [f"{ARN_OF_BUCKETS}{name}" for name, _ in whole]
            statements.append(_allow(actions, [*names, *(f"{name}/*" for name in names)]))
        for bucket, prefix in (_place(place, "prefix", wants_key=True) for place in prefixes):
            statements.append(_allow(actions, [f"{ARN_OF_BUCKETS}{bucket}/{_literal(prefix)}*"]))
            statements.append(
                _allow(OF_BUCKETS_WITH_PREFIX, [f"{ARN_OF_BUCKETS}{bucket}"])
                | {"Condition": {"StringLike": {"s3:prefix": f"{_literal(prefix)}*"}}}
            )
            statements.append(_allow(["s3:GetBucketLocation"], [f"{ARN_OF_BUCKETS}{bucket}"]))
        statements.append(_allow(ORIENTING, ["*"]))
    elif read_only or may_restore:
        statements.append(_allow(actions, ["*"]))
    if no_delete:
        statements.append({"Effect": "Deny", "Action": list(DELETING), "Resource": "*"})
    if not statements:
        raise MalformedPolicy("nothing is said of what the user may do or not do")
    return json.dumps({"Version": WITH_VARIABLES, "Statement": statements}, ensure_ascii=False)


def _allow(actions: Sequence[str], resources: Sequence[str]) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": list(resources)}


def _place(text: str, what: str, *, wants_key: bool) -> tuple[str, str]:
    bucket, slash, prefix = text.partition("/")
    if (
        not bucket
        or bool(prefix) is not wants_key
        or (slash and not wants_key)
        or any(mark in bucket for mark in "*?$")
    ):
        example = "photos/2026/" if wants_key else "photos"
        raise MalformedPolicy(f"{text!r} is no {what}: write it as in {example}")
    return bucket, prefix


def _literal(text: str) -> str:
    """Return text as patterns have it that mean these characters."""
    return "".join(f"${{{character}}}" if character in "*?$" else character for character in text)
