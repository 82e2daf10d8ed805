"""
Rules compiled to ranges of times, so that what is due is found by an index: cost follows what is due, and not what exists.

A range is gone through once, in the order of its times, as far as it is due; how far that was is kept. What becomes due otherwise than by
time is told of by the step that makes it so.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256

from coldstore.model.due import BEGINNING, LAST_UID, DueRange, Position, RangeProgress, Scope, Subject
from coldstore.model.lifecycle import Filter, Lifecycle, MinimumSize, Rule, lifecycle_of
from coldstore.model.objects import StorageClass
from coldstore.plan.lifecycle import BY_WARMTH, SMALL_BYTES, LifecycleRules, begun_by, is_colder, moves_small
from coldstore.plan.restore import SECONDS_PER_DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledRules:
    """
    A bucket's rules: what they mean for a version, and the ranges in which to look for those.

    :ivar newer_max: the most newer versions that a rule demands; 0 where none does
    :ivar newer_kept: how many noncurrent versions a rule leaves when it deletes others, by its id
    """

    rules: LifecycleRules
    ranges: tuple[DueRange, ...]
    newer_max: int
    newer_kept: Mapping[str, int]


def compiled(text: str, *, day_seconds: float = SECONDS_PER_DAY) -> CompiledRules:
    """
    Compile a configuration that was kept.

    :raise ValueError: it is none
    """
    lifecycle = lifecycle_of(text)
    # Of rules that mean the same one range is enough.
    ranges = {
        each.range_id: each
        for rule in lifecycle.rules
        if rule.is_enabled
        for each in _ranges(rule, lifecycle)
    }
    return CompiledRules(
        rules=LifecycleRules(lifecycle, day_seconds=day_seconds),
        ranges=tuple(ranges.values()),
        newer_max=max((each.newer for each in ranges.values()), default=0),
        newer_kept={
            rule.rule_id: rule.noncurrent_expiration.newer_versions or 0
            for rule in lifecycle.rules
            if rule.noncurrent_expiration is not None
        },
    )


def cutoff(due: DueRange, now: float, *, day_seconds: float = SECONDS_PER_DAY) -> float | None:
    """Return up to which time a range is due; None while none of it is. It moves on at midnights only."""
    if due.date is not None and now < due.date:
        return None
    return begun_by(now, due.days, day_seconds=day_seconds)


def is_done(progress: RangeProgress, until: float) -> bool:
    """Whether a range was gone through up to a time."""
    return progress.through >= Position(until, LAST_UID)


def taken_back(progress: RangeProgress, until: float | None) -> RangeProgress | None:
    """
    Return how far a range counts as gone through that was gone through beyond what is due, by a clock that was ahead: else what comes in with
    such a time would be passed over when it is due. None when it was not.

    :param until: see ``cutoff``
    """
    end = BEGINNING if until is None else Position(until, LAST_UID)
    return progress._replace(through=end) if progress.through > end else None


def _ranges(rule: Rule, lifecycle: Lifecycle) -> Iterator[DueRange]:
    scope = _scope(rule.filter)
    expiration = rule.expiration
    if expiration is not None and (expiration.days is not None or expiration.date is not None):
        yield _range(rule, "expire", Subject.CURRENT, expiration.days or 0, expiration.date, scope)
    if expiration is not None and expiration.expired_markers is not False and not rule.filter.tags:
        yield _range(
            rule, "remove delete marker", Subject.MARKERS, expiration.days or 0, expiration.date, scope
        )
    for move in rule.transitions:
        scope = _moving_scope(rule.filter, lifecycle.minimum_size, move.storage_class)
        action = f"move to {move.storage_class.value}"
        yield _range(rule, action, Subject.CURRENT, move.days or 0, move.date, scope)
    for later in rule.noncurrent_transitions:
        scope = _moving_scope(rule.filter, lifecycle.minimum_size, later.storage_class)
        action, newer = f"move to {later.storage_class.value}", later.newer_versions or 0
        yield _range(rule, action, Subject.NONCURRENT, later.days, None, scope, newer)
    ended = rule.noncurrent_expiration
    if ended is not None:
        newer = ended.newer_versions or 0
        yield _range(rule, "delete", Subject.NONCURRENT, ended.days, None, _scope(rule.filter), newer)
    if rule.abort_days is not None:
        scope = Scope(prefix=rule.filter.key_prefix)
        yield _range(rule, "abort upload", Subject.UPLOADS, rule.abort_days, None, scope)


def _scope(wanted: Filter) -> Scope:
    return Scope(
        prefix=wanted.key_prefix,
        larger_than_bytes=wanted.greater_than_bytes,
        smaller_than_bytes=wanted.less_than_bytes,
    )


def _moving_scope(wanted: Filter, minimum: MinimumSize, to: StorageClass) -> Scope:
    larger_than_bytes = wanted.greater_than_bytes
    if not moves_small(wanted, minimum, to):
        larger_than_bytes = SMALL_BYTES - 1
    return Scope(
        prefix=wanted.key_prefix,
        larger_than_bytes=larger_than_bytes,
        smaller_than_bytes=wanted.less_than_bytes,
        classes=tuple(name for name in BY_WARMTH if is_colder(to, name)),
    )


def _range(
    rule: Rule, action: str, subject: Subject, days: int, date: int | None, scope: Scope, newer: int = 0
) -> DueRange:
    tags = () if subject is Subject.UPLOADS else rule.filter.tags
    sizes = scope.larger_than_bytes, scope.smaller_than_bytes
    meaning = [action, subject.value, days, date, scope.prefix.decode(), *sizes, scope.classes, tags, newer]
    return DueRange(
        range_id=sha256(json.dumps(meaning).encode()).hexdigest()[:32],
        rule_id=rule.rule_id,
        action=action,
        subject=subject,
        days=days,
        date=date,
        scope=scope,
        tags=tags,
        newer=newer,
    )
