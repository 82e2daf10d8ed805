"""
Conditions: an operator, a condition key, and the values that the request is held against.

All conditions of a statement must hold, and of the values of one any. Sources: IAM User Guide, "IAM JSON policy elements: Condition operators", "Set
operators for multivalued context keys"; for the keys "AWS global condition context keys", and the Service Authorization Reference for S3.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from ipaddress import ip_address, ip_network
from types import MappingProxyType
from typing import NamedTuple

from coldstore.plan.policy.asked import Circumstances
from coldstore.plan.policy.errors import MalformedPolicy
from coldstore.plan.policy.patterns import LookUp, Pattern, plain_key

SHOWN_MAX = 100
_COLON = re.compile(r"\$\{[^}]*\}|:")
NULL = "Null"
IF_EXISTS = "IfExists"

Test = Callable[[str, LookUp], bool]
"""Whether a value of the request is as one value of the condition wants it."""


class Quantifier(StrEnum):
    """How many of the values that a request has under a key must be as the condition wants them."""

    ANY = "ForAnyValue"
    ALL = "ForAllValues"


class Family(NamedTuple):
    """
    An operator.

    :ivar test_of: makes the test of one value; raises ``MalformedPolicy`` for a value that is none. Is told whether there are policy variables
    :ivar is_negated: it holds where no test does
    """

    test_of: Callable[[str, bool], Test]
    is_negated: bool = False


def _equal(text: str, variables: bool) -> Test:
    return Pattern.read(text, wildcards=False, variables=variables).matches


def _equal_in_any_case(text: str, variables: bool) -> Test:
    pattern = Pattern.read(text, wildcards=False, variables=variables).lower()

    def lower(key: str, look_up: LookUp) -> str | None:
        value = look_up(key)
        return None if value is None else value.lower()

    return lambda given, look_up: pattern.matches(given.lower(), lambda key: lower(key, look_up))


def _like(text: str, variables: bool) -> Test:
    return Pattern.read(text, variables=variables).matches


def _arn_like(text: str, variables: bool) -> Test:
    parts = [Pattern.read(part, variables=variables) for part in _arn_parts(text)]
    if len(parts) != 6 or parts[0].text not in ("arn", "*"):
        raise MalformedPolicy(f"{text[:SHOWN_MAX]!r} is no ARN")

    def test(given: str, look_up: LookUp) -> bool:
        known = given.split(":", 5)
        return len(known) == 6 and all(
            part.matches(text, look_up) for part, text in zip(parts, known, strict=True)
        )

    return test


def _arn_parts(text: str) -> list[str]:
    """Return the parts of an ARN, of which there are six; a colon within ``${…}`` parts nothing."""
    if text == "*":
        return ["*"] * 6
    parts: list[str] = []
    begin = 0
    for found in _COLON.finditer(text):
        if found[0] == ":" and len(parts) < 5:
            parts.append(text[begin : found.start()])
            begin = found.end()
    return [*parts, text[begin:]]


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"[+-]?\d{1,30}(\.\d{1,30})?", text, re.ASCII) else None


def _date(text: str) -> float | None:
    """Return unix seconds of a date of ISO 8601, or of such seconds."""
    number = _number(text)
    if number is not None:
        return number
    if not re.match(r"\d{4}-\d\d", text, re.ASCII):
        return None
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()


def _compared(
    read: Callable[[str], float | None], holds: Callable[[float, float], bool], what: str
) -> Callable[[str, bool], Test]:
    def test_of(text: str, variables: bool) -> Test:
        wanted = read(text)
        if wanted is None:
            raise MalformedPolicy(f"{text[:SHOWN_MAX]!r} is no {what}")
        bound: float = wanted

        def test(given: str, look_up: LookUp) -> bool:
            known = read(given)
            return known is not None and holds(known, bound)

        return test

    return test_of


def _bool(text: str, variables: bool) -> Test:
    wanted = text.lower()
    if wanted not in ("true", "false"):
        raise MalformedPolicy(f"{text[:SHOWN_MAX]!r} is neither true nor false")
    return lambda given, look_up: given.lower() == wanted


def _address(text: str, variables: bool) -> Test:
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise MalformedPolicy(f"{text[:SHOWN_MAX]!r} is no range of IP addresses") from None

    def test(given: str, look_up: LookUp) -> bool:
        try:
            return ip_address(given) in network
        except ValueError:
            return False

    return test


def _comparisons(prefix: str, read: Callable[[str], float | None], what: str) -> Mapping[str, Family]:
    def family(holds: Callable[[float, float], bool], is_negated: bool = False) -> Family:
        return Family(_compared(read, holds, what), is_negated)

    return {
        f"{prefix}Equals": family(lambda given, wanted: given == wanted),
        f"{prefix}NotEquals": family(lambda given, wanted: given == wanted, True),
        f"{prefix}LessThan": family(lambda given, wanted: given < wanted),
        f"{prefix}LessThanEquals": family(lambda given, wanted: given <= wanted),
        f"{prefix}GreaterThan": family(lambda given, wanted: given > wanted),
        f"{prefix}GreaterThanEquals": family(lambda given, wanted: given >= wanted),
    }


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "StringEquals": Family(_equal),
        "StringNotEquals": Family(_equal, True),
        "StringEqualsIgnoreCase": Family(_equal_in_any_case),
        "StringNotEqualsIgnoreCase": Family(_equal_in_any_case, True),
        "StringLike": Family(_like),
        "StringNotLike": Family(_like, True),
        **_comparisons("Numeric", _number, "number"),
        **_comparisons("Date", _date, "date"),
        "Bool": Family(_bool),
        "IpAddress": Family(_address),
        "NotIpAddress": Family(_address, True),
        "ArnEquals": Family(_arn_like),
        "ArnLike": Family(_arn_like),
        "ArnNotEquals": Family(_arn_like, True),
        "ArnNotLike": Family(_arn_like, True),
        NULL: Family(_bool),
    }
)

_GLOBAL_KEYS = """
    aws:CalledVia aws:CalledViaFirst aws:CalledViaLast aws:CurrentTime aws:EpochTime aws:FederatedProvider aws:MultiFactorAuthAge
    aws:MultiFactorAuthPresent aws:PrincipalAccount aws:PrincipalArn aws:PrincipalIsAWSService aws:PrincipalOrgID aws:PrincipalOrgPaths
    aws:PrincipalServiceName aws:PrincipalServiceNamesList aws:PrincipalType aws:Referer aws:RequestedRegion aws:ResourceAccount aws:ResourceOrgID
    aws:ResourceOrgPaths aws:SecureTransport aws:SourceAccount aws:SourceArn aws:SourceIdentity aws:SourceIp aws:SourceOrgID aws:SourceOrgPaths
    aws:SourceOwner aws:SourceVpc aws:SourceVpcArn aws:SourceVpce aws:TagKeys aws:TokenIssueTime aws:UserAgent aws:userid aws:username aws:ViaAWSService
    aws:VpcSourceIp aws:VpceAccount aws:VpceOrgID aws:VpceOrgPaths
"""
_S3_KEYS = """
    s3:AccessGrantsInstanceArn s3:AccessPointNetworkOrigin s3:authType s3:DataAccessPointAccount s3:DataAccessPointArn s3:delimiter s3:destinationRegion
    s3:if-match s3:if-none-match s3:InventoryAccessibleOptionalFields s3:isReplicationPauseRequest s3:LocationConstraint s3:locationconstraint s3:max-keys
    s3:object-lock-legal-hold s3:object-lock-mode s3:object-lock-remaining-retention-days s3:object-lock-retain-until-date s3:ObjectCreationOperation
    s3:prefix s3:RequestObjectTagKeys s3:ResourceAccount s3:signatureAge s3:signatureversion s3:TlsVersion s3:VersionId s3:x-amz-acl
    s3:x-amz-content-sha256 s3:x-amz-copy-source s3:x-amz-grant-full-control s3:x-amz-grant-read s3:x-amz-grant-read-acp s3:x-amz-grant-write
    s3:x-amz-grant-write-acp s3:x-amz-metadata-directive s3:x-amz-object-ownership s3:x-amz-server-side-encryption
    s3:x-amz-server-side-encryption-aws-kms-key-id s3:x-amz-server-side-encryption-customer-algorithm s3:x-amz-storage-class
    s3:x-amz-website-redirect-location
"""
KEYS = frozenset(key.lower() for key in (_GLOBAL_KEYS + _S3_KEYS).split())
"""The condition keys that are known, lower case: also those that no request here ever has."""
EXISTING_TAG = "s3:existingobjecttag/"
REQUEST_TAG = "s3:requestobjecttag/"
REQUEST_TAG_KEYS = "s3:requestobjecttagkeys"
LOCK = "s3:object-lock-"
OPEN_KEYS = (
    EXISTING_TAG,
    REQUEST_TAG,
    "aws:principaltag/",
    "aws:requesttag/",
    "aws:resourcetag/",
    "s3:buckettag/",
)
"""Beginnings of condition keys that end in the name of a tag."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """
    One condition.

    :ivar operator: as it was written, ``StringLikeIfExists``
    :ivar base: without what stands before and behind it
    :ivar key: as it was written
    :ivar plain_key: as requests are asked for it
    :ivar values: as they were written
    :ivar keys: the condition keys that it asks for, those of variables in its values among them
    """

    operator: str
    base: str
    quantifier: Quantifier | None
    if_exists: bool
    key: str
    plain_key: str
    values: tuple[str, ...]
    tests: tuple[Test, ...]
    keys: frozenset[str]

    def __str__(self) -> str:
        return f"{self.operator} {self.key}"

    def holds(self, circumstances: Circumstances, look_up: LookUp) -> bool:
        """Tell whether it holds."""
        given = circumstances.values(self.plain_key)
        if self.base == NULL:
            return any(test("false" if given else "true", look_up) for test in self.tests)
        is_negated = FAMILIES[self.base].is_negated
        if not given:
            return (
                self.if_exists
                or self.quantifier is Quantifier.ALL
                or (is_negated and self.quantifier is None)
            )
        passed = (any(test(value, look_up) for test in self.tests) is not is_negated for value in given)
        if self.quantifier is None:
            # Of several values where one is expected a wanted one is enough, and so is an unwanted one.
            return all(passed) if is_negated else any(passed)
        return any(passed) if self.quantifier is Quantifier.ANY else all(passed)


def read_condition(operator: str, key: str, values: tuple[str, ...], *, variables: bool) -> Condition:
    """
    Read one condition.

    :param variables: whether the policy's version has policy variables
    :raise MalformedPolicy: for an operator or a key that there is not, or for a value that the operator cannot compare
    """
    quantifier, _, rest = operator.rpartition(":")
    base = rest.removesuffix(IF_EXISTS)
    if base not in FAMILIES or quantifier not in ("", *Quantifier) or (base == NULL and rest != base):
        raise MalformedPolicy(
            f"Invalid Condition type: {operator[:SHOWN_MAX]!r}; there are {', '.join(FAMILIES)}"
        )
    plain = plain_key(key)
    is_open = any(plain.startswith(begin) and len(plain) > len(begin) for begin in OPEN_KEYS)
    if not (is_open or plain in KEYS):
        raise MalformedPolicy(f"Policy has an invalid condition key: {key[:SHOWN_MAX]!r}")
    try:
        tests = tuple(FAMILIES[base].test_of(value, variables) for value in values)
    except MalformedPolicy as fault:
        raise MalformedPolicy(f"Invalid Condition value: {operator} {key}: {fault}") from None
    return Condition(
        operator=operator,
        base=base,
        quantifier=Quantifier(quantifier) if quantifier else None,
        if_exists=rest != base,
        key=key,
        plain_key=plain,
        values=values,
        tests=tests,
        keys=frozenset({plain}).union(*(Pattern.read(value).keys for value in values if variables)),
    )
