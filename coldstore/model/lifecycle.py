"""
What a bucket's owner wants to happen to its objects by themselves: rules, and the text that is kept of them.

Source: Amazon S3 API Reference, ``LifecycleConfiguration`` and the types it holds. What is here was checked when it came in
(``coldstore.s3.lifecycle``); what rules mean for an object is in ``coldstore.plan.lifecycle``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from coldstore.model.objects import Pairs, StorageClass

FORMAT = 1
"""Of the text, in which it is named: a later one can tell what it reads."""


class MinimumSize(StrEnum):
    """Which small objects rules move, where their filters say nothing on size (API enum ``TransitionDefaultMinimumObjectSize``)."""

    VARIES = "varies_by_storage_class"
    """Those of 128 KiB and more; to GLACIER and DEEP_ARCHIVE all."""
    ALWAYS_128K = "all_storage_classes_128K"
    """Those of 128 KiB and more, to every class."""


class FilterForm(StrEnum):
    """How a filter was written, and is shown again; it means the same."""

    OLD = "old"
    """A Prefix in the rule itself, as before there were filters."""
    ONE = "one"
    """A Filter with one condition, or with none."""
    AND = "and"
    """A Filter with an And of conditions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """
    Which objects a rule is about: those that meet every condition that is there.

    ``tags`` are sorted by name. ``greater_than_bytes`` and ``less_than_bytes`` are of the object as S3 shows it, the bounds not among them.
    """

    form: FilterForm = FilterForm.ONE
    prefix: str | None = None
    tags: Pairs = ()
    greater_than_bytes: int | None = None
    less_than_bytes: int | None = None

    @property
    def key_prefix(self) -> bytes:
        """What keys must begin with; empty: any does."""
        return (self.prefix or "").encode("utf-8")

    @property
    def names_size(self) -> bool:
        """Whether there is a condition on the size."""
        return self.greater_than_bytes is not None or self.less_than_bytes is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """Of what is current to ``storage_class``: ``days`` after its creation, or from ``date`` on (unix seconds, midnight UTC); one of the two is set."""

    storage_class: StorageClass
    days: int | None = None
    date: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiration:
    """
    Of what is current: ``days`` after its creation, or from ``date`` on (unix seconds, midnight UTC); or of delete markers that are all that is left of their keys
    (``expired_markers``; False: they stay). One of the three is set.
    """

    days: int | None = None
    date: int | None = None
    expired_markers: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoncurrentTransition:
    """
    Of a version to ``storage_class``, ``days`` after another took its place, as soon as ``newer_versions`` noncurrent versions of the key are newer
    (None: however many there are).
    """

    storage_class: StorageClass
    days: int
    newer_versions: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoncurrentExpiration:
    """
    Of a version, ``days`` after another took its place, as soon as ``newer_versions`` noncurrent versions of the key are newer (None: however
    many there are).
    """

    days: int
    newer_versions: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule. ``abort_days``: after how many days an upload that was not completed is aborted; None: never."""

    rule_id: str
    is_enabled: bool
    filter: Filter
    transitions: tuple[Transition, ...] = ()
    expiration: Expiration | None = None
    noncurrent_transitions: tuple[NoncurrentTransition, ...] = ()
    noncurrent_expiration: NoncurrentExpiration | None = None
    abort_days: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifecycle:
    """All rules of a bucket, in the order in which they were written; their ids differ."""

    rules: tuple[Rule, ...]
    minimum_size: MinimumSize = MinimumSize.VARIES


def lifecycle_text(lifecycle: Lifecycle) -> str:
    """Return the canonical JSON that is kept: equal configurations have equal texts."""
    written = {
        "format": FORMAT,
        "minimum_size": lifecycle.minimum_size.value,
        "rules": [_written_rule(rule) for rule in lifecycle.rules],
    }
    return json.dumps(written, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def lifecycle_of(text: str) -> Lifecycle:
    """
    Return what ``lifecycle_text`` wrote.

    :raise ValueError: for any other text
    """
    try:
        read = json.loads(text)
        if read["format"] != FORMAT:
            raise ValueError(f"of another format: {read['format']}")
        return Lifecycle(
            rules=tuple(_rule(each) for each in read["rules"]),
            minimum_size=MinimumSize(read["minimum_size"]),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"not a lifecycle configuration: {error}") from None


def _kept(**members: Any) -> dict[str, Any]:
    """Return the members that say something."""
    return {name: value for name, value in members.items() if value is not None and value not in ([], ())}


def _written_rule(rule: Rule) -> dict[str, Any]:
    expiration, noncurrent = rule.expiration, rule.noncurrent_expiration
    return _kept(
        id=rule.rule_id,
        is_enabled=rule.is_enabled,
        filter=_kept(
            form=rule.filter.form.value,
            prefix=rule.filter.prefix,
            tags=rule.filter.tags,
            greater_than_bytes=rule.filter.greater_than_bytes,
            less_than_bytes=rule.filter.less_than_bytes,
        ),
        transitions=[
            _kept(storage_class=each.storage_class.value, days=each.days, date=each.date)
            for each in rule.transitions
        ],
        expiration=None
        if expiration is None
        else _kept(days=expiration.days, date=expiration.date, expired_markers=expiration.expired_markers),
        noncurrent_transitions=[
            _kept(storage_class=each.storage_class.value, days=each.days, newer_versions=each.newer_versions)
            for each in rule.noncurrent_transitions
        ],
        noncurrent_expiration=None
        if noncurrent is None
        else _kept(days=noncurrent.days, newer_versions=noncurrent.newer_versions),
        abort_days=rule.abort_days,
    )


def _rule(read: Mapping[str, Any]) -> Rule:
    expiration, noncurrent = read.get("expiration"), read.get("noncurrent_expiration")
    return Rule(
        rule_id=read["id"],
        is_enabled=read["is_enabled"],
        filter=_filter(read["filter"]),
        transitions=tuple(Transition(**_with_class(each)) for each in read.get("transitions", ())),
        expiration=None if expiration is None else Expiration(**expiration),
        noncurrent_transitions=tuple(
            NoncurrentTransition(**_with_class(each)) for each in read.get("noncurrent_transitions", ())
        ),
        noncurrent_expiration=None if noncurrent is None else NoncurrentExpiration(**noncurrent),
        abort_days=read.get("abort_days"),
    )


def _filter(read: Mapping[str, Any]) -> Filter:
    return Filter(
        **{
            **read,
            "form": FilterForm(read["form"]),
            "tags": tuple((name, value) for name, value in read.get("tags", ())),
        }
    )


def _with_class(read: Mapping[str, Any]) -> dict[str, Any]:
    return {**read, "storage_class": StorageClass(read["storage_class"])}
