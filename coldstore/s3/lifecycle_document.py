"""
The document of a lifecycle configuration, read and written. Pure.

Source: Amazon S3 API Reference, PutBucketLifecycleConfiguration and ``LifecycleRule``. Elements may be in any order; one
that is not known here is refused, as its rule would do something else than its writer wants.
"""

import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

from coldstore.model.lifecycle import (
    Expiration,
    Filter,
    FilterForm,
    Lifecycle,
    MinimumSize,
    NoncurrentExpiration,
    NoncurrentTransition,
    Rule,
    Transition,
)
from coldstore.model.objects import Pairs, StorageClass
from coldstore.plan.classes import ClassRules
from coldstore.plan.lifecycle import TARGETS
from coldstore.plan.messages import iso_time
from coldstore.s3.errors import S3Error, shown
from coldstore.s3.lifecycle_checks import RuleFault, check_rule
from coldstore.s3.xml import Element, MalformedDocument, Node, node, read_document

RULES_MAX = 1000
_RULE = frozenset(
    {
        "ID",
        "Status",
        "Prefix",
        "Filter",
        "Transition",
        "Expiration",
        "NoncurrentVersionTransition",
        "NoncurrentVersionExpiration",
        "AbortIncompleteMultipartUpload",
    }
)
_CONDITIONS = frozenset({"Prefix", "Tag", "ObjectSizeGreaterThan", "ObjectSizeLessThan"})
_NUMBER = re.compile(r"[+-]?[0-9]{1,19}")
_DATE = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})?)?"
)
_FIRST_DATE, _LAST_DATE = 0, int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())
_DAY = 86_400


def parse_lifecycle(
    document: bytes, *, classes: ClassRules, minimum_size: MinimumSize, new_id: Callable[[], str]
) -> Lifecycle:
    """
    Read a LifecycleConfiguration.

    :param classes: those that objects can have here
    :param new_id: what rules are called that have no ID
    :raise S3Error: InvalidRequest, InvalidArgument, InvalidTag, InvalidStorageClass, naming the rule and the element
    :raise MalformedDocument: for anything that is no such document
    """
    root = read_document(document, "LifecycleConfiguration")
    _check_children(root, frozenset({"Rule"}))
    if not 1 <= len(root.children) <= RULES_MAX:
        raise MalformedDocument(f"it has {len(root.children)} rules, and may have 1 to {RULES_MAX}")
    rules = tuple(
        _checked_rule(element, number, classes, new_id) for number, element in enumerate(root.children, 1)
    )
    twice = next((name for name, count in Counter(rule.rule_id for rule in rules).items() if count > 1), None)
    if twice is not None:
        raise S3Error("InvalidArgument", f"Rule ID must be unique: several rules have the ID {shown(twice)}.")
    return Lifecycle(rules=rules, minimum_size=minimum_size)


def _checked_rule(element: Element, number: int, classes: ClassRules, new_id: Callable[[], str]) -> Rule:
    name = f"rule number {number}"
    try:
        rule_id = element.text_of("ID") or ""
        if rule_id:
            name = f"rule {shown(rule_id)}"
        rule = _rule(element, rule_id or new_id())
        check_rule(rule, classes)
    except MalformedDocument as error:
        raise MalformedDocument(f"in {name}, {error}") from None
    except RuleFault as fault:
        raise S3Error(fault.code, f"In {name}, {fault}.") from None
    return rule


def _rule(element: Element, rule_id: str) -> Rule:
    _check_children(element, _RULE)
    expiration = element.one("Expiration")
    noncurrent = element.one("NoncurrentVersionExpiration")
    abort = element.one("AbortIncompleteMultipartUpload")
    return Rule(
        rule_id=rule_id,
        is_enabled=_status(element) == "Enabled",
        filter=_filter(element),
        transitions=tuple(map(_transition, element.all("Transition"))),
        expiration=None if expiration is None else _expiration(expiration),
        noncurrent_transitions=tuple(map(_noncurrent_transition, element.all("NoncurrentVersionTransition"))),
        noncurrent_expiration=None if noncurrent is None else _noncurrent_expiration(noncurrent),
        abort_days=None if abort is None else _abort_days(abort),
    )


def _status(rule: Element) -> str:
    status = (rule.text_of("Status") or "").strip()
    if status not in ("Enabled", "Disabled"):
        raise MalformedDocument(f"Status is {shown(status)}, and neither Enabled nor Disabled")
    return status


def _filter(rule: Element) -> Filter:
    prefix, written = rule.text_of("Prefix"), rule.one("Filter")
    if (prefix is None) == (written is None):
        raise MalformedDocument("there must be either a Filter or a Prefix")
    if written is None:
        return Filter(form=FilterForm.OLD, prefix=prefix)
    if len(written.children) > 1:
        raise MalformedDocument("Filter holds several elements, which only an And may")
    both = written.one("And")
    if both is None:
        return _conditions(written, FilterForm.ONE)
    if not both.children:
        raise MalformedDocument("And is empty")
    return _conditions(both, FilterForm.AND)


def _conditions(element: Element, form: FilterForm) -> Filter:
    _check_children(element, _CONDITIONS if form is FilterForm.AND else _CONDITIONS | {"And"})
    return Filter(
        form=form,
        prefix=element.text_of("Prefix"),
        tags=_tags(element),
        greater_than_bytes=_number(element, "ObjectSizeGreaterThan"),
        less_than_bytes=_number(element, "ObjectSizeLessThan"),
    )


def _tags(element: Element) -> Pairs:
    pairs = []
    for tag in element.all("Tag"):
        _check_children(tag, frozenset({"Key", "Value"}))
        key, value = tag.text_of("Key"), tag.text_of("Value")
        if key is None or value is None:
            raise MalformedDocument("a Tag has no Key or no Value")
        pairs.append((key, value))
    return tuple(sorted(pairs))


def _transition(element: Element) -> Transition:
    _check_children(element, frozenset({"Days", "Date", "StorageClass"}))
    days, date = _number(element, "Days"), _date(element)
    if (days is None) == (date is None):
        raise MalformedDocument("Transition must have either Days or a Date")
    return Transition(storage_class=_class(element), days=days, date=date)


def _expiration(element: Element) -> Expiration:
    _check_children(element, frozenset({"Days", "Date", "ExpiredObjectDeleteMarker"}))
    found = Expiration(
        days=_number(element, "Days"),
        date=_date(element),
        expired_markers=_truth(element, "ExpiredObjectDeleteMarker"),
    )
    if sum(each is not None for each in (found.days, found.date, found.expired_markers)) != 1:
        raise MalformedDocument("Expiration must have one of Days, Date and ExpiredObjectDeleteMarker")
    return found


def _noncurrent_transition(element: Element) -> NoncurrentTransition:
    _check_children(element, frozenset({"NoncurrentDays", "NewerNoncurrentVersions", "StorageClass"}))
    return NoncurrentTransition(
        storage_class=_class(element),
        days=_required(element, "NoncurrentDays"),
        newer_versions=_number(element, "NewerNoncurrentVersions"),
    )


def _noncurrent_expiration(element: Element) -> NoncurrentExpiration:
    _check_children(element, frozenset({"NoncurrentDays", "NewerNoncurrentVersions"}))
    return NoncurrentExpiration(
        days=_required(element, "NoncurrentDays"),
        newer_versions=_number(element, "NewerNoncurrentVersions"),
    )


def _abort_days(element: Element) -> int:
    _check_children(element, frozenset({"DaysAfterInitiation"}))
    return _required(element, "DaysAfterInitiation")


def _class(element: Element) -> StorageClass:
    name = (element.text_of("StorageClass") or "").strip()
    found = next((each for each in TARGETS if each.value == name), None)
    if found is None:
        raise MalformedDocument(
            f"StorageClass of {element.name} is {shown(name)}, and none of {', '.join(each.value for each in TARGETS)}"
        )
    return found


def _number(element: Element, name: str) -> int | None:
    text = element.text_of(name)
    if text is None:
        return None
    if not _NUMBER.fullmatch(text.strip()):
        raise MalformedDocument(f"{name} of {element.name} is {shown(text)}, and no number")
    return int(text)


def _required(element: Element, name: str) -> int:
    number = _number(element, name)
    if number is None:
        raise MalformedDocument(f"{element.name} has no {name}")
    return number


def _truth(element: Element, name: str) -> bool | None:
    text = element.text_of(name)
    if text is None:
        return None
    if text.strip() not in ("true", "false"):
        raise MalformedDocument(f"{name} is {shown(text)}, and neither true nor false")
    return text.strip() == "true"


def _date(element: Element) -> int | None:
    """Return a date as unix seconds."""
    text = element.text_of("Date")
    if text is None:
        return None
    written = text.strip()
    try:
        found = datetime.fromisoformat(written) if _DATE.fullmatch(written) else None
    except ValueError:
        found = None
    if found is None:
        raise RuleFault(
            "InvalidArgument",
            f"Date of {element.name} is {shown(text)}, and no date of ISO 8601 such as 2030-01-31T00:00:00Z",
        )
    at = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    if at % _DAY:
        raise RuleFault("InvalidArgument", f"Date of {element.name}, {shown(text)}, must be at midnight UTC")
    if not _FIRST_DATE <= at <= _LAST_DATE:
        raise RuleFault(
            "InvalidArgument", f"Date of {element.name}, {shown(text)}, must be in the years 1970 to 9999"
        )
    return int(at)


def _check_children(element: Element, known: frozenset[str]) -> None:
    other = next((child.name for child in element.children if child.name not in known), None)
    if other is not None:
        raise MalformedDocument(f"{element.name} cannot have the element {shown(other)}")
    if not element.children and element.text.strip():
        raise MalformedDocument(f"{element.name} holds text, and should hold elements")


# ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def lifecycle_node(lifecycle: Lifecycle) -> Node:
    """Return the document that shows a configuration, as its writer wrote it."""
    return node("LifecycleConfiguration", *map(_rule_node, lifecycle.rules))


def _rule_node(rule: Rule) -> Node:
    noncurrent = rule.noncurrent_expiration
    return node(
        "Rule",
        node("ID", rule.rule_id),
        _filter_node(rule.filter),
        node("Status", "Enabled" if rule.is_enabled else "Disabled"),
        *(
            node(
                "Transition",
                *_when_nodes(each.days, each.date),
                node("StorageClass", each.storage_class.value),
            )
            for each in rule.transitions
        ),
        None if rule.expiration is None else _expiration_node(rule.expiration),
        *(
            node(
                "NoncurrentVersionTransition",
                *_noncurrent_nodes(each),
                node("StorageClass", each.storage_class.value),
            )
            for each in rule.noncurrent_transitions
        ),
        None if noncurrent is None else node("NoncurrentVersionExpiration", *_noncurrent_nodes(noncurrent)),
        None
        if rule.abort_days is None
        else node("AbortIncompleteMultipartUpload", node("DaysAfterInitiation", rule.abort_days)),
    )


def _filter_node(written: Filter) -> Node:
    more, less = written.greater_than_bytes, written.less_than_bytes
    prefix = None if written.prefix is None else node("Prefix", written.prefix)
    if written.form is FilterForm.OLD and prefix is not None:
        return prefix
    conditions = (
        prefix,
        *(node("Tag", node("Key", key), node("Value", value)) for key, value in written.tags),
        None if more is None else node("ObjectSizeGreaterThan", more),
        None if less is None else node("ObjectSizeLessThan", less),
    )
    return (
        node("Filter", node("And", *conditions))
        if written.form is FilterForm.AND
        else node("Filter", *conditions)
    )


def _expiration_node(expiration: Expiration) -> Node:
    markers = expiration.expired_markers
    return node(
        "Expiration",
        *_when_nodes(expiration.days, expiration.date),
        None if markers is None else node("ExpiredObjectDeleteMarker", markers),
    )


def _when_nodes(days: int | None, date: int | None) -> tuple[Node | None, ...]:
    return (
        None if days is None else node("Days", days),
        None if date is None else node("Date", iso_time(date)),
    )


def _noncurrent_nodes(action: NoncurrentTransition | NoncurrentExpiration) -> tuple[Node | None, ...]:
    newer = action.newer_versions
    return (
        node("NoncurrentDays", action.days),
        None if newer is None else node("NewerNoncurrentVersions", newer),
    )
