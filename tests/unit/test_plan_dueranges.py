"""Rules compiled to ranges: what each means, when it is due, and when it is the same as before."""

from dataclasses import replace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.due import BEGINNING, LAST_UID, DueRange, Position, RangeProgress, Scope, Subject
from coldstore.model.lifecycle import (
    Expiration,
    Filter,
    Lifecycle,
    MinimumSize,
    NoncurrentExpiration,
    NoncurrentTransition,
    Rule,
    Transition,
    lifecycle_text,
)
from coldstore.model.objects import StorageClass
from coldstore.plan.dueranges import CompiledRules, compiled, cutoff, is_done, taken_back
from coldstore.plan.lifecycle import SMALL_BYTES
from tests.unit.lifecycle_rig import DAY, rule

GLACIER, STANDARD_IA = StorageClass.GLACIER, StorageClass.STANDARD_IA


def rules_of(*rules: Rule, **changes: Any) -> CompiledRules:
    """Compile rules."""
    return compiled(lifecycle_text(Lifecycle(rules=rules, **changes)))


def only(*rules: Rule, **changes: Any) -> DueRange:
    """Compile rules that have one range."""
    (found,) = rules_of(*rules, **changes).ranges
    return found


class CompilingTests(SynchronousTestCase):
    """From rules to ranges."""

    def test_every_action(self) -> None:
        """Each action of each enabled rule is a range among its subject."""
        found = rules_of(
            rule(
                expiration=Expiration(days=9),
                transitions=(
                    Transition(days=1, storage_class=STANDARD_IA),
                    Transition(days=2, storage_class=GLACIER),
                ),
                noncurrent_transitions=(NoncurrentTransition(storage_class=GLACIER, days=3),),
                noncurrent_expiration=NoncurrentExpiration(days=4, newer_versions=5),
                abort_days=6,
            ),
            rule("off", is_enabled=False, expiration=Expiration(days=1)),
        )
        self.assertEqual(
            [(each.subject, each.action, each.days, each.newer) for each in found.ranges],
            [
                (Subject.CURRENT, "expire", 9, 0),
                (Subject.MARKERS, "remove delete marker", 9, 0),
                (Subject.CURRENT, "move to STANDARD_IA", 1, 0),
                (Subject.CURRENT, "move to GLACIER", 2, 0),
                (Subject.NONCURRENT, "move to GLACIER", 3, 0),
                (Subject.NONCURRENT, "delete", 4, 5),
                (Subject.UPLOADS, "abort upload", 6, 0),
            ],
        )
        self.assertEqual((found.newer_max, found.newer_kept), (5, {"r": 5}))

    def test_markers(self) -> None:
        """Delete markers go by rules for them, and by the age of an expiration, but not where a rule is about tags or spares them."""
        self.assertEqual(only(rule(expiration=Expiration(expired_markers=True))).subject, Subject.MARKERS)
        self.assertEqual(rules_of(rule(expiration=Expiration(expired_markers=False))).ranges, ())
        tagged = rule(expiration=Expiration(days=1), filter=Filter(tags=(("a", "b"),)))
        self.assertEqual(only(tagged).subject, Subject.CURRENT)

    def test_scope(self) -> None:
        """What the store can look at it does: key, size, and of transitions the classes from which there is a way."""
        wanted = Filter(prefix="a/", greater_than_bytes=5, less_than_bytes=9)
        found = only(rule(transitions=(Transition(days=1, storage_class=STANDARD_IA),), filter=wanted))
        self.assertEqual(
            found.scope,
            Scope(
                prefix=b"a/",
                larger_than_bytes=5,
                smaller_than_bytes=9,
                classes=(StorageClass.STANDARD, StorageClass.REDUCED_REDUNDANCY),
            ),
        )

    def test_small(self) -> None:
        """Small objects are left out of transitions that do not take them."""

        def least(to: StorageClass, minimum: MinimumSize) -> int | None:
            moving = rule(transitions=(Transition(days=1, storage_class=to),))
            return only(moving, minimum_size=minimum).scope.larger_than_bytes

        self.assertEqual(least(STANDARD_IA, MinimumSize.VARIES), SMALL_BYTES - 1)
        self.assertIsNone(least(GLACIER, MinimumSize.VARIES))
        self.assertEqual(least(GLACIER, MinimumSize.ALWAYS_128K), SMALL_BYTES - 1)

    def test_same(self) -> None:
        """A range is the same as long as it means the same, whatever its rule is called, and another one when anything else differs."""
        one = rule(
            transitions=(Transition(days=1, storage_class=GLACIER),),
            filter=Filter(prefix="a", tags=(("a", "b"),)),
        )
        same = only(one).range_id
        self.assertEqual(only(replace(one, rule_id="other")).range_id, same)
        self.assertEqual(len(rules_of(one, replace(one, rule_id="other")).ranges), 1)
        others = [
            replace(one, transitions=(Transition(days=2, storage_class=GLACIER),)),
            replace(one, transitions=(Transition(date=0, storage_class=GLACIER),)),
            replace(one, transitions=(Transition(days=1, storage_class=StorageClass.DEEP_ARCHIVE),)),
            replace(one, filter=replace(one.filter, prefix="b")),
            replace(one, filter=replace(one.filter, tags=(("a", "c"),))),
            replace(one, filter=replace(one.filter, greater_than_bytes=0)),
            replace(one, filter=replace(one.filter, less_than_bytes=9)),
        ]
        ids = {only(other).range_id for other in others}
        self.assertEqual(len(ids | {same}), len(others) + 1)

    def test_not_a_configuration(self) -> None:
        """Another text is refused."""
        self.assertRaises(ValueError, compiled, "{}")


class DueTests(SynchronousTestCase):
    """Up to when a range is due."""

    def test_days(self) -> None:
        """What began so many days before the last midnight is due."""
        found = only(rule(abort_days=2))
        self.assertEqual(cutoff(found, 10.9 * DAY), 8 * DAY)
        self.assertEqual(cutoff(found, 11 * DAY), 9 * DAY)
        self.assertEqual(cutoff(found, 11.0, day_seconds=1.0), 9.0)

    def test_date(self) -> None:
        """Nothing is due before a date; from then on all that began before the last midnight is."""
        found = only(rule(transitions=(Transition(date=int(5 * DAY), storage_class=GLACIER),)))
        self.assertIsNone(cutoff(found, 5 * DAY - 1))
        self.assertEqual(cutoff(found, 5.5 * DAY), 5 * DAY)

    def test_done(self) -> None:
        """A range was gone through up to a time once everything at that time was; a clock that went back leaves nothing to do."""
        for through, done in (
            (Position(10.0, LAST_UID), True),
            (Position(10.0, 7), False),
            (Position(9.0, LAST_UID), False),
            (Position(11.0, 0), True),
        ):
            self.assertIs(is_done(RangeProgress(1, "r", Subject.CURRENT, through), 10.0), done)

    def test_taken_back(self) -> None:
        """A range counts as gone through as far as it is due at most, and not at all before its date."""
        beyond = RangeProgress(1, "r", Subject.CURRENT, Position(10.0, LAST_UID))
        for until, through in (
            (9.0, Position(9.0, LAST_UID)),
            (None, BEGINNING),
        ):
            self.assertEqual(taken_back(beyond, until), beyond._replace(through=through))
        for until in (10.0, 11.0):
            self.assertIsNone(taken_back(beyond, until))
        self.assertIsNone(taken_back(beyond._replace(through=BEGINNING), None))
