"""
What a lifecycle rule may not say although its document has the right elements: values out of range, and actions that do not go together.

Source: Amazon S3 API Reference, PutBucketLifecycleConfiguration; S3 User Guide, "Lifecycle configuration elements" and
"Transitioning objects", on constraints. Pure.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from coldstore.model.lifecycle import Filter, FilterForm, Rule
from coldstore.model.objects import StorageClass
from coldstore.plan.classes import ClassRules
from coldstore.plan.lifecycle import BY_WARMTH, TARGETS
from coldstore.s3.errors import shown
from coldstore.s3.paths import KEY_LIMIT_BYTES
from coldstore.s3.tags import KEY_MAX, VALUE_MAX

ID_MAX = 255
"""In characters."""
DAYS_MAX = 2**31 - 1
NEWER_MAX = 100
SIZE_MAX = 2**63 - 1
INFREQUENT = frozenset({StorageClass.STANDARD_IA, StorageClass.ONEZONE_IA})
INFREQUENT_DAYS = 30
"""An object is as old before it goes to one of the classes ``INFREQUENT``, and stays there as long before it goes on."""


class RuleFault(Exception):
    """What is wrong with a rule: a code of S3, and a message that names the element but not the rule."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Step(NamedTuple):
    """A transition or an expiration of a rule, on a scale of its own."""

    action: str
    when: str
    at: int
    storage_class: StorageClass | None = None


def check_rule(rule: Rule, classes: ClassRules) -> None:
    """
    Let a rule pass that means something.

    :param classes: those that objects can have here
    :raise RuleFault: InvalidRequest, InvalidArgument, InvalidTag, InvalidStorageClass
    """
    if len(rule.rule_id) > ID_MAX:
        raise RuleFault("InvalidArgument", f"ID has {len(rule.rule_id)} characters, and may have {ID_MAX}")
    _check_filter(rule.filter)
    _check_ranges(rule)
    _check_actions(rule)
    _check_company(rule)
    _check_classes(rule, classes)
    _check_steps(_dated_steps(rule))
    _check_steps(_noncurrent_steps(rule))


def _check_filter(written: Filter) -> None:
    prefix_bytes = len(written.key_prefix)
    if prefix_bytes > KEY_LIMIT_BYTES:
        raise RuleFault("InvalidRequest", f"Prefix has {prefix_bytes} bytes, and may have {KEY_LIMIT_BYTES}")
    for key, value in written.tags:
        if not 1 <= len(key) <= KEY_MAX or len(value) > VALUE_MAX:
            raise RuleFault(
                "InvalidTag",
                f"the Tag {shown(key)} can be no object's: a Key has 1 to {KEY_MAX} characters, a Value up to {VALUE_MAX}",
            )
    for (key, _), (other, _) in pairwise(written.tags):
        if key == other:
            raise RuleFault("InvalidRequest", f"And has several Tags with the Key {shown(key)}")
    more, less = written.greater_than_bytes, written.less_than_bytes
    for name, size in (("ObjectSizeGreaterThan", more), ("ObjectSizeLessThan", less)):
        if size is not None and not 0 <= size <= SIZE_MAX:
            raise RuleFault("InvalidRequest", f"{name} is {size}, and must be between 0 and {SIZE_MAX}")
    if more is not None and less is not None and more >= less:
        raise RuleFault(
            "InvalidRequest", f"ObjectSizeGreaterThan, {more}, must be less than ObjectSizeLessThan, {less}"
        )


def _check_ranges(rule: Rule) -> None:
    expiration, noncurrent = rule.expiration, rule.noncurrent_expiration
    for each in rule.transitions:
        _check_range("Days of Transition", each.days, 0, DAYS_MAX)
    if expiration is not None:
        _check_range("Days of Expiration", expiration.days, 1, DAYS_MAX)
    for step in rule.noncurrent_transitions:
        _check_range("NoncurrentDays of NoncurrentVersionTransition", step.days, 0, DAYS_MAX)
        _check_range(
            "NewerNoncurrentVersions of NoncurrentVersionTransition", step.newer_versions, 1, NEWER_MAX
        )
    if noncurrent is not None:
        _check_range("NoncurrentDays of NoncurrentVersionExpiration", noncurrent.days, 1, DAYS_MAX)
        _check_range(
            "NewerNoncurrentVersions of NoncurrentVersionExpiration", noncurrent.newer_versions, 1, NEWER_MAX
        )
    _check_range("DaysAfterInitiation of AbortIncompleteMultipartUpload", rule.abort_days, 1, DAYS_MAX)


def _check_range(what: str, value: int | None, least: int, most: int) -> None:
    if value is not None and not least <= value <= most:
        raise RuleFault("InvalidArgument", f"{what} is {value}, and must be between {least} and {most}")


def _check_actions(rule: Rule) -> None:
    if not (
        rule.transitions
        or rule.expiration
        or rule.noncurrent_transitions
        or rule.noncurrent_expiration
        or rule.abort_days is not None
    ):
        raise RuleFault(
            "InvalidRequest",
            "it has no action: at least one of Transition, Expiration, NoncurrentVersionTransition, "
            "NoncurrentVersionExpiration and AbortIncompleteMultipartUpload must be there",
        )
    for name, classes in (
        ("Transition", [each.storage_class for each in rule.transitions]),
        ("NoncurrentVersionTransition", [each.storage_class for each in rule.noncurrent_transitions]),
    ):
        twice = next((each for each in classes if classes.count(each) > 1), None)
        if twice is not None:
            raise RuleFault("InvalidRequest", f"several of {name} have the StorageClass {twice.value}")
    when = {step.when for step in _dated_steps(rule)}
    if len(when) > 1:
        raise RuleFault("InvalidRequest", "Date and Days are mixed in its Transition and Expiration")


def _check_company(rule: Rule) -> None:
    """Check which actions can go with which filter."""
    written, expiration = rule.filter, rule.expiration
    if written.tags and expiration is not None and expiration.expired_markers is not None:
        raise RuleFault(
            "InvalidRequest",
            "ExpiredObjectDeleteMarker cannot go with a Tag in the Filter: delete markers have no tags",
        )
    if rule.abort_days is not None and (written.tags or written.names_size):
        what = "a Tag" if written.tags else "ObjectSizeGreaterThan or ObjectSizeLessThan"
        raise RuleFault(
            "InvalidRequest",
            f"AbortIncompleteMultipartUpload cannot go with {what} in the Filter: uploads have neither tags nor a size",
        )
    newer = [each.newer_versions for each in rule.noncurrent_transitions]
    if rule.noncurrent_expiration is not None:
        newer.append(rule.noncurrent_expiration.newer_versions)
    if written.form is FilterForm.OLD and any(each is not None for each in newer):
        raise RuleFault("InvalidRequest", "NewerNoncurrentVersions needs a Filter in the rule, not a Prefix")


def _check_classes(rule: Rule, classes: ClassRules) -> None:
    named = [each.storage_class for each in rule.transitions]
    named += [each.storage_class for each in rule.noncurrent_transitions]
    for other in (each for each in named if each not in classes):
        known = ", ".join(name.value for name in TARGETS if name in classes)
        raise RuleFault(
            "InvalidStorageClass",
            f"the StorageClass {other.value} is not one of this appliance; of those that objects can go to there are {known}",
        )


def _dated_steps(rule: Rule) -> list[_Step]:
    """Return what becomes of what is current, with Days or Dates."""
    expiration = rule.expiration
    steps = [_step("Transition", each.days, each.date, each.storage_class) for each in rule.transitions]
    if expiration is not None and expiration.expired_markers is None:
        steps.append(_step("Expiration", expiration.days, expiration.date))
    return steps


def _step(action: str, days: int | None, date: int | None, to: StorageClass | None = None) -> _Step:
    if date is not None:
        return _Step(action, "Date", date, to)
    return _Step(action, "Days", days or 0, to)


def _noncurrent_steps(rule: Rule) -> list[_Step]:
    noncurrent = rule.noncurrent_expiration
    steps = [
        _Step("NoncurrentVersionTransition", "NoncurrentDays", each.days, each.storage_class)
        for each in rule.noncurrent_transitions
    ]
    if noncurrent is not None:
        steps.append(_Step("NoncurrentVersionExpiration", "NoncurrentDays", noncurrent.days))
    return steps


def _check_steps(steps: Sequence[_Step]) -> None:
    """Check that each class comes after all that are warmer, and the expiration in the end."""
    ordered = sorted(steps, key=_coldness)
    for step in ordered:
        if step.storage_class in INFREQUENT and step.when != "Date" and step.at < INFREQUENT_DAYS:
            raise RuleFault(
                "InvalidArgument",
                f"{step.when} of the {_named(step)} is {step.at}, and must be {INFREQUENT_DAYS} at least",
            )
    for warm, cold in pairwise(ordered):
        if cold.at <= warm.at:
            raise RuleFault(
                "InvalidArgument",
                f"the {cold.when} of the {_named(cold)} must come after that of the {_named(warm)}",
            )
        is_soon = cold.when != "Date" and cold.at < warm.at + INFREQUENT_DAYS
        if warm.storage_class in INFREQUENT and cold.storage_class is not None and is_soon:
            raise RuleFault(
                "InvalidArgument",
                f"the {cold.when} of the {_named(cold)} must be {INFREQUENT_DAYS} more at least than that of the {_named(warm)}",
            )


def _coldness(step: _Step) -> int:
    return len(BY_WARMTH) if step.storage_class is None else BY_WARMTH.index(step.storage_class)


def _named(step: _Step) -> str:
    to = step.storage_class
    return step.action if to is None else f"{step.action} to {to.value}"
