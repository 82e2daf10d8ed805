"""
What is public: a policy that allows something to more than a fixed set of users, accounts, networks or resources.

Source: Amazon S3 User Guide, "Blocking public access to your Amazon S3 storage", "The meaning of 'public'".
"""

from functools import lru_cache
from ipaddress import ip_network

from coldstore.plan.policy.conditions import Condition, Quantifier
from coldstore.plan.policy.statements import Effect, Policy, Statement

_FIXED_KEYS = frozenset(
    {
        "aws:principalaccount",
        "aws:principalarn",
        "aws:principalorgid",
        "aws:sourceaccount",
        "aws:sourcearn",
        "aws:sourceowner",
        "aws:sourcevpc",
        "aws:sourcevpce",
        "aws:userid",
        "s3:dataaccesspointaccount",
        "s3:dataaccesspointarn",
        "s3:x-amz-server-side-encryption-aws-kms-key-id",
    }
)
"""Keys by whose fixed values somebody is known."""
_EQUALITIES = frozenset({"StringEquals", "StringEqualsIgnoreCase", "StringLike", "ArnEquals", "ArnLike"})
_SOURCE_IP = "aws:sourceip"
_BROADEST = {4: 8, 6: 32}
"""Fewer bits of a network make it as good as everybody's: of addresses of each version of IP."""


@lru_cache(maxsize=256)
def public_statement(policy: Policy) -> Statement | None:
    """Return the first statement because of which a policy of a bucket is public; what it denies changes nothing about that. None: it is not."""
    return next((statement for statement in policy.statements if _is_public(statement)), None)


def _is_public(statement: Statement) -> bool:
    principals = statement.principals
    if statement.effect is not Effect.ALLOW or principals is None or not principals.everybody:
        return False
    return not any(_is_fixed(condition) for condition in statement.conditions)


def _is_fixed(condition: Condition) -> bool:
    """Tell whether a condition lets only known ones pass. It does not if it holds where the request has no value."""
    if condition.if_exists or condition.quantifier is Quantifier.ALL:
        return False
    if condition.plain_key == _SOURCE_IP:
        return condition.base == "IpAddress" and not any(map(_is_broad, condition.values))
    if condition.plain_key not in _FIXED_KEYS or condition.base not in _EQUALITIES:
        return False
    return not any(mark in value for value in condition.values for mark in "*?$")


def _is_broad(text: str) -> bool:
    network = ip_network(text, strict=False)
    return network.prefixlen < _BROADEST[network.version]
