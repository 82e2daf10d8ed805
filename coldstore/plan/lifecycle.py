"""
What lifecycle rules mean for an object: whether a rule is about it, what is to happen to it, and when at the earliest.

Source: S3 User Guide, "Lifecycle configuration elements", "Transitioning objects", "Understanding object expiration" and
"Filtering lifecycle rules". Whatever is due may be done late and never early.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from coldstore.model.lifecycle import (
    Expiration,
    Filter,
    Lifecycle,
    MinimumSize,
    Rule,
    Transition,
    lifecycle_of,
)
from coldstore.model.objects import ObjectVersion, Pairs, StorageClass
from coldstore.model.tags import tags_of
from coldstore.plan.restore import SECONDS_PER_DAY, expiry

BY_WARMTH = (
    StorageClass.STANDARD,
    StorageClass.REDUCED_REDUNDANCY,
    StorageClass.STANDARD_IA,
    StorageClass.INTELLIGENT_TIERING,
    StorageClass.ONEZONE_IA,
    StorageClass.GLACIER_IR,
    StorageClass.GLACIER,
    StorageClass.DEEP_ARCHIVE,
)
"""The classes as transitions go through them: from each to any later one, and never back."""
TARGETS = BY_WARMTH[2:]
"""Classes that a transition may name (API enum ``TransitionStorageClass``)."""
SMALL_BYTES = 128 * 1024
"""Below this an object is small, see ``MinimumSize``."""
_TAKE_SMALL = frozenset({StorageClass.GLACIER, StorageClass.DEEP_ARCHIVE})
_COLDNESS = {name: place for place, name in enumerate(BY_WARMTH)}


class Due(NamedTuple):
    """An action of a rule, and since when it may be carried out (unix seconds)."""

    at: float
    rule_id: str


class DueTransition(NamedTuple):
    """A transition of a rule, and since when it may be carried out (unix seconds)."""

    at: float
    rule_id: str
    storage_class: StorageClass


def due_at(since: float, days: int, *, day_seconds: float = SECONDS_PER_DAY) -> float:
    """
    Return when ``days`` from ``since`` on are over: rounded up to the next midnight UTC.

    ``day_seconds`` other than 86,400 shortens the day for trials, as for restores: rounding is then up to the next such day.
    """
    return expiry(since, days, day_seconds=day_seconds)


def begun_by(now: float, days: int, *, day_seconds: float = SECONDS_PER_DAY) -> float:
    """Return the latest time from which on ``days`` are over now: what began by then is due, what began later is not."""
    return (math.floor(now / day_seconds) - days) * day_seconds


def matches(wanted: Filter, *, key: bytes, tags: Pairs, size_bytes: int) -> bool:
    """
    Whether a rule with this filter is about an object.

    :param tags: all that it has, in any order
    :param size_bytes: as S3 shows it
    """
    return (
        key.startswith(wanted.key_prefix)
        and (wanted.greater_than_bytes is None or size_bytes > wanted.greater_than_bytes)
        and (wanted.less_than_bytes is None or size_bytes < wanted.less_than_bytes)
        and all(tag in tags for tag in wanted.tags)
    )


def is_colder(name: StorageClass, than: StorageClass) -> bool:
    """Whether an object may go to a class from another."""
    return _COLDNESS[name] > _COLDNESS[than]


def moves_small(wanted: Filter, minimum: MinimumSize, to: StorageClass) -> bool:
    """Whether a rule with this filter moves objects below ``SMALL_BYTES`` to a class; a filter on the size wins over the configuration."""
    return wanted.names_size or (minimum is MinimumSize.VARIES and to in _TAKE_SMALL)


class _Of(NamedTuple):
    """A rule with its prefix as keys have it."""

    prefix: bytes
    rule: Rule


class LifecycleRules:
    """
    The enabled rules of a bucket, arranged by what they do: made once of a configuration, then asked about one object after another.

    Questions about a version are about what it is now: its key, tags, size, class and times. Where several rules say the same, the first
    that is due decides, and of those due at once the one that was written first.

    :ivar lifecycle: the configuration, with the rules that are not enabled
    """

    def __init__(self, lifecycle: Lifecycle, *, day_seconds: float = SECONDS_PER_DAY) -> None:
        """:param day_seconds: length of a day; shortened for trials"""
        self.lifecycle = lifecycle
        self._day_seconds = day_seconds
        enabled = [rule for rule in lifecycle.rules if rule.is_enabled]

        def doing(does: Callable[[Rule], object]) -> tuple[_Of, ...]:
            return tuple(_Of(rule.filter.key_prefix, rule) for rule in enabled if does(rule))

        self._expiring = doing(lambda rule: _is_dated(rule.expiration))
        self._moving = doing(lambda rule: rule.transitions)
        self._expiring_markers = doing(lambda rule: rule.expiration and not rule.filter.tags)
        self._expiring_noncurrent = doing(lambda rule: rule.noncurrent_expiration)
        self._moving_noncurrent = doing(lambda rule: rule.noncurrent_transitions)
        self._aborting = doing(lambda rule: rule.abort_days is not None)

    @classmethod
    def of(cls, text: str, *, day_seconds: float = SECONDS_PER_DAY) -> "LifecycleRules":
        """
        Return the rules of a configuration that was kept.

        :raise ValueError: it is none
        """
        return cls(lifecycle_of(text), day_seconds=day_seconds)

    def expiration(self, version: ObjectVersion) -> Due | None:
        """Return when a version expires: never unless it is current and no delete marker."""
        if not _is_current_object(version):
            return None
        since = version.facts.created_at
        return _first(
            Due(self._since(since, rule.expiration), rule.rule_id)
            for rule in _about(self._expiring, version)
            if rule.expiration is not None
        )

    def marker_expiration(self, marker: ObjectVersion) -> Due | None:
        """Return when a delete marker goes that is all that is left of its key: by a rule for such, or with age as an object would."""
        since = marker.facts.created_at
        return _first(
            Due(self._since(since, rule.expiration), rule.rule_id)
            for rule in _about(self._expiring_markers, marker)
            if rule.expiration is not None and rule.expiration.expired_markers is not False
        )

    def transition(self, version: ObjectVersion, now: float) -> DueTransition | None:
        """Return where a version is to go now: of all transitions that are due the one to the coldest class, colder than its own."""
        return _coldest(each for each in self.transitions(version) if each.at <= now)

    def transitions(self, version: ObjectVersion) -> Iterator[DueTransition]:
        """Yield all transitions that a version can take from the class that it has: none unless it is current and no delete marker."""
        since = version.facts.created_at
        for rule in _about(self._moving, version) if _is_current_object(version) else ():
            for each in rule.transitions:
                if self._may_move(version, rule, each.storage_class):
                    yield DueTransition(self._since(since, each), rule.rule_id, each.storage_class)

    def noncurrent_expiration(self, version: ObjectVersion, newer: int) -> Due | None:
        """
        Return when a version goes that another has replaced, which may be a delete marker.

        :param newer: how many noncurrent versions of its key are newer
        """
        since = version.superseded_at
        if since is None:
            return None
        return _first(
            Due(due_at(since, each.days, day_seconds=self._day_seconds), rule.rule_id)
            for rule in _about(self._expiring_noncurrent, version)
            if (each := rule.noncurrent_expiration) is not None and newer >= (each.newer_versions or 0)
        )

    def noncurrent_transition(self, version: ObjectVersion, newer: int, now: float) -> DueTransition | None:
        """Return where a version is to go now that another has replaced, as ``transition`` and ``noncurrent_expiration`` do."""
        return _coldest(each for each in self.noncurrent_transitions(version, newer) if each.at <= now)

    def noncurrent_transitions(self, version: ObjectVersion, newer: int) -> Iterator[DueTransition]:
        """Yield all transitions that a version can take from the class that it has."""
        since = version.superseded_at
        if since is None or version.is_marker:
            return
        for rule in _about(self._moving_noncurrent, version):
            for each in rule.noncurrent_transitions:
                if newer >= (each.newer_versions or 0) and self._may_move(version, rule, each.storage_class):
                    at = due_at(since, each.days, day_seconds=self._day_seconds)
                    yield DueTransition(at, rule.rule_id, each.storage_class)

    def abortion(self, key: bytes, created_at: float) -> Due | None:
        """
        Return when an upload is aborted that was not completed.

        :param created_at: when it was begun
        """
        return _first(
            Due(due_at(created_at, rule.abort_days, day_seconds=self._day_seconds), rule.rule_id)
            for prefix, rule in self._aborting
            if rule.abort_days is not None and key.startswith(prefix)
        )

    def _since(self, since: float, when: Expiration | Transition) -> float:
        """Return when an action is due: the date, or the next midnight for what came into being later; or days later."""
        at = due_at(since, when.days or 0, day_seconds=self._day_seconds)
        return at if when.date is None else max(at, float(when.date))

    def _may_move(self, version: ObjectVersion, rule: Rule, to: StorageClass) -> bool:
        facts = version.facts
        is_small = facts.content_bytes < SMALL_BYTES
        return is_colder(to, facts.storage_class) and not (
            is_small and not moves_small(rule.filter, self.lifecycle.minimum_size, to)
        )


def _about(rules: tuple[_Of, ...], version: ObjectVersion) -> Iterator[Rule]:
    """Yield the rules whose filters a version meets."""
    facts = version.facts
    for prefix, rule in rules:
        if facts.key.startswith(prefix) and matches(
            rule.filter, key=facts.key, tags=tags_of(version), size_bytes=facts.content_bytes
        ):
            yield rule


def _is_current_object(version: ObjectVersion) -> bool:
    return version.superseded_at is None and not version.is_marker


def _is_dated(expiration: Expiration | None) -> bool:
    """Whether an expiration is about objects, and not only about delete markers."""
    return expiration is not None and (expiration.days is not None or expiration.date is not None)


def _first(found: Iterator[Due]) -> Due | None:
    return min(found, key=lambda each: each.at, default=None)


def _coldest(found: Iterator[DueTransition]) -> DueTransition | None:
    return min(found, key=lambda each: (-_COLDNESS[each.storage_class], each.at), default=None)
