"""
Reading a policy: JSON in the policy language of IAM, and everything that would make it do something else than its writer thinks is refused.

What AWS says of a fault is kept, and said after it is which statement is meant, and what in it. Source: IAM User Guide, "Grammar of the IAM JSON policy
language"; Amazon S3 User Guide, "Bucket policies for Amazon S3".
"""

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from coldstore.plan.policy.actions import ACTIONS, Kind, actions_like
from coldstore.plan.policy.asked import ARN_OF_BUCKETS
from coldstore.plan.policy.conditions import Condition, read_condition
from coldstore.plan.policy.errors import MalformedPolicy
from coldstore.plan.policy.patterns import Pattern
from coldstore.plan.policy.principals import Known, Principals, read_principals
from coldstore.plan.policy.statements import Effect, Policy, Statement

SIZE_MAX_BYTES = 20 * 1024
"""Amazon S3 User Guide, "Bucket policies for Amazon S3": bucket policies are limited to 20 KB."""
SHOWN_MAX = 100
WITH_VARIABLES = "2012-10-17"
VERSIONS = ("2008-10-17", WITH_VARIABLES)
_POLICY_FIELDS = ("Version", "Id", "Statement")
_STATEMENT_FIELDS = (
    "Sid",
    "Effect",
    "Principal",
    "NotPrincipal",
    "Action",
    "NotAction",
    "Resource",
    "NotResource",
    "Condition",
)
_ANYTHING = "*"


def read_bucket_policy(text: str, *, bucket: str, known: Known) -> Policy:
    """
    Read the policy of a bucket.

    :param known: finds the users that principals name
    :raise MalformedPolicy: for anything that is none
    """

    def principals_of(statement: Mapping[str, Any]) -> tuple[Principals, bool]:
        name = _one_of(statement, "Principal", "NotPrincipal")
        if name == "NotPrincipal" and statement.get("Effect") == Effect.ALLOW:
            raise MalformedPolicy(
                "Allow with NotPrincipal is not allowed: it would be for everybody else, whoever that is"
            )
        return read_principals(statement[name], known), name == "NotPrincipal"

    return _read(text, principals_of, lambda text, variables: _resource_of(bucket, text, variables))


def read_user_policy(text: str) -> Policy:
    """
    Read a policy of a user.

    :raise MalformedPolicy: for anything that is none
    """

    def principals_of(statement: Mapping[str, Any]) -> tuple[None, bool]:
        for name in ("Principal", "NotPrincipal"):
            if name in statement:
                raise MalformedPolicy(
                    f"Policy document should not specify a principal: there is {name}, and it is about the user that it is given to"
                )
        return None, False

    return _read(text, principals_of, _resource)


def _read(
    text: str,
    principals_of: Callable[[Mapping[str, Any]], tuple[Principals | None, bool]],
    resource_of: Callable[[str, bool], Pattern],
) -> Policy:
    document = _document(text)
    version = document.get("Version", VERSIONS[0])
    if version not in VERSIONS:
        raise MalformedPolicy(
            f"The policy must contain a valid version string: {_shown(version)} is none of {', '.join(VERSIONS)}"
        )
    if not isinstance(document.get("Id", ""), str):
        raise MalformedPolicy("Id must be text")
    listed = document.get("Statement")
    entries = listed if isinstance(listed, list) else [listed]
    if listed is None or not entries:
        raise MalformedPolicy("Missing required field Statement: a policy has at least one")
    statements: list[Statement] = []
    sids: set[str] = set()
    for number, entry in enumerate(entries, 1):
        try:
            statement = _statement(number, entry, version == WITH_VARIABLES, principals_of, resource_of)
            if statement.sid and statement.sid in sids:
                raise MalformedPolicy(
                    "Statement IDs (SID) in a single policy must be unique: another one has the same"
                )
        except MalformedPolicy as fault:
            sid = entry.get("Sid") if isinstance(entry, dict) else None
            title = (
                f"statement {number} ({sid[:SHOWN_MAX]!r})"
                if isinstance(sid, str) and sid
                else f"statement {number}"
            )
            raise MalformedPolicy(f"{fault} ({title})") from None
        sids.add(statement.sid)
        statements.append(statement)
    return Policy(text=text, statements=tuple(statements))


def _document(text: str) -> Mapping[str, Any]:
    size_bytes = len(text.encode("utf-8", "surrogatepass"))
    if size_bytes > SIZE_MAX_BYTES:
        raise MalformedPolicy(
            f"Policies are limited to {SIZE_MAX_BYTES} bytes, and this one has {size_bytes}"
        )
    try:
        document = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except MalformedPolicy:
        raise
    except ValueError as error:
        raise MalformedPolicy(
            f"Policies must be valid JSON and the first byte must be '{{': {error}"
        ) from None
    except RecursionError:
        raise MalformedPolicy("Policies must be valid JSON: it is nested too deeply") from None
    if not isinstance(document, dict):
        raise MalformedPolicy("Policies must be valid JSON and the first byte must be '{'")
    _refuse_unknown(document, _POLICY_FIELDS)
    return document


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON; of a name that is there twice nobody can say which is meant."""
    read: dict[str, Any] = {}
    for name, value in pairs:
        if name in read:
            raise MalformedPolicy(f"Policies must be valid JSON: {_shown(name)} is there twice in one object")
        read[name] = value
    return read


def _no_constant(text: str) -> None:
    raise MalformedPolicy(f"Policies must be valid JSON: there is {text}")


def _statement(
    number: int,
    entry: object,
    variables: bool,
    principals_of: Callable[[Mapping[str, Any]], tuple[Principals | None, bool]],
    resource_of: Callable[[str, bool], Pattern],
) -> Statement:
    if not isinstance(entry, dict):
        raise MalformedPolicy("Statement must be an object, or a list of objects")
    _refuse_unknown(entry, _STATEMENT_FIELDS)
    sid = entry.get("Sid", "")
    if not isinstance(sid, str):
        raise MalformedPolicy("Sid must be text")
    if "Effect" not in entry:
        raise MalformedPolicy("Missing required field Effect")
    if entry["Effect"] not in tuple(Effect):
        raise MalformedPolicy(f"Invalid effect: {_shown(entry['Effect'])}; there are {' and '.join(Effect)}")
    principals, excludes_principals = principals_of(entry)
    action_field = _one_of(entry, "Action", "NotAction")
    meant = {text: _actions(text) for text in _texts(entry, action_field)}
    resource_field = _one_of(entry, "Resource", "NotResource")
    resources = tuple(resource_of(text, variables) for text in _texts(entry, resource_field))
    if action_field == "Action" and resource_field == "Resource":
        for text, actions in meant.items():
            kinds = {ACTIONS[action] for action in actions}
            if not any(_is_carried_out_on(kind, pattern) for kind in kinds for pattern in resources):
                raise MalformedPolicy(
                    f"Action does not apply to any resource(s) in statement: {_shown(text)} is of {_kinds(kinds)}"
                )
    named = frozenset().union(*meant.values())
    return Statement(
        number=number,
        sid=sid,
        effect=Effect(entry["Effect"]),
        principals=principals,
        excludes_principals=excludes_principals,
        actions=named if action_field == "Action" else frozenset(ACTIONS) - named,
        resources=resources,
        excludes_resources=resource_field == "NotResource",
        conditions=_conditions(entry.get("Condition", {}), variables),
    )


def _actions(text: str) -> frozenset[str]:
    actions = actions_like(text)
    if not actions:
        raise MalformedPolicy(f"Policy has invalid action: {_shown(text)} is none that S3 knows")
    return actions


def _kinds(kinds: Collection[Kind]) -> str:
    words = {
        Kind.ACCOUNT: "an account as a whole (*)",
        Kind.BUCKET: "a bucket (arn:aws:s3:::BUCKET)",
        Kind.OBJECT: "objects (arn:aws:s3:::BUCKET/*)",
    }
    return " and of ".join(words[kind] for kind in Kind if kind in kinds)


def _is_carried_out_on(kind: Kind, pattern: Pattern) -> bool:
    """Tell whether a pattern can be that of something of a kind."""
    text = pattern.text
    if text == _ANYTHING:
        return True
    has_key, has_star = "/" in text, "*" in text
    if kind is Kind.ACCOUNT:
        return False
    return not has_key if kind is Kind.BUCKET else has_key or has_star


def _resource(text: str, variables: bool) -> Pattern:
    if text != _ANYTHING and not text.startswith(ARN_OF_BUCKETS):
        raise MalformedPolicy(
            f"Policy has invalid resource: {_shown(text)} is neither * nor begins with {ARN_OF_BUCKETS}"
        )
    return Pattern.read(text, variables=variables)


def _resource_of(bucket: str, text: str, variables: bool) -> Pattern:
    """Read a resource that is one bucket, or within it."""
    pattern = _resource(text, variables)
    if text == _ANYTHING:
        return pattern
    name = text.removeprefix(ARN_OF_BUCKETS).partition("/")[0]
    # A star may also stand for a slash, and more.
    beginning = name.partition("*")[0] + "*" if "*" in name else name
    if not any(
        Pattern.read(each, variables=False).matches(bucket, lambda _: None) for each in (name, beginning)
    ):
        raise MalformedPolicy(f"Policy has invalid resource: {_shown(text)} is not in bucket {bucket}")
    return pattern


def _conditions(element: object, variables: bool) -> tuple[Condition, ...]:
    if not isinstance(element, dict):
        raise MalformedPolicy("Condition must be an object of operators")
    read: list[Condition] = []
    for operator, keys in element.items():
        if not isinstance(keys, dict) or not keys:
            raise MalformedPolicy(f"Condition {_shown(operator)} must be an object of condition keys")
        for key, value in keys.items():
            listed = value if isinstance(value, list) else [value]
            if not listed:
                raise MalformedPolicy(f"Condition {_shown(operator)} of {_shown(key)} has no value")
            values = tuple(_value(operator, key, each) for each in listed)
            read.append(read_condition(operator, key, values, variables=variables))
    return tuple(read)


def _value(operator: str, key: str, value: object) -> str:
    """Return the value of a condition as text; numbers and truth values may be written without quotes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str):
        return value
    raise MalformedPolicy(
        f"Condition {_shown(operator)} of {_shown(key)} must be text, a number, true or false"
    )


def _one_of(statement: Mapping[str, Any], name: str, other: str) -> str:
    if (name in statement) is (other in statement):
        if name in statement:
            raise MalformedPolicy(f"{name} and {other} cannot both be in a statement")
        raise MalformedPolicy(f"Missing required field {name}")
    return name if name in statement else other


def _texts(statement: Mapping[str, Any], name: str) -> list[str]:
    value = statement[name]
    texts = value if isinstance(value, list) else [value]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise MalformedPolicy(f"{name} must be text or a list of texts")
    return texts


def _refuse_unknown(read: Mapping[str, Any], fields: tuple[str, ...]) -> None:
    for name in read:
        if name not in fields:
            raise MalformedPolicy(f"Unknown field {_shown(name)}; there are {', '.join(fields)}")


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return f"{text[:SHOWN_MAX]!r}"
