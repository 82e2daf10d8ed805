"""Lifecycle: the model and its text, what rules are about, and when what is due."""

from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

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
    lifecycle_of,
    lifecycle_text,
)
from coldstore.model.objects import (
    TAGGING,
    ArchiveState,
    Encryption,
    ObjectVersion,
    Pairs,
    StorageClass,
    VersionFacts,
)
from coldstore.plan.lifecycle import (
    BY_WARMTH,
    SMALL_BYTES,
    TARGETS,
    Due,
    DueTransition,
    LifecycleRules,
    begun_by,
    due_at,
    is_colder,
    matches,
)

DAY = 86_400
MIDNIGHT = int(datetime(2026, 1, 19, tzinfo=UTC).timestamp())
MADE = datetime(2026, 1, 15, 10, 30, tzinfo=UTC).timestamp()
GLACIER, DEEP_ARCHIVE = StorageClass.GLACIER, StorageClass.DEEP_ARCHIVE
EVERYTHING = Filter()


def version(
    key: bytes = b"logs/a",
    *,
    size: int = SMALL_BYTES,
    storage_class: StorageClass = StorageClass.STANDARD,
    created_at: float = MADE,
    superseded_at: float | None = None,
    tags: Pairs | None = None,
    written_tags: str = "",
    is_marker: bool = False,
    encryption: Encryption | None = None,
) -> ObjectVersion:
    """Return a version of which rules may say something."""
    return ObjectVersion(
        version_uid=1,
        sequence=1,
        facts=VersionFacts(
            bucket="bucket",
            key=key,
            version_id="v",
            size_bytes=size,
            etag="e",
            storage_class=storage_class,
            headers=((TAGGING, written_tags),) if written_tags else (),
            user_metadata=(),
            checksum=None,
            crc64nvme=0,
            part_sizes="",
            created_at=created_at,
            owner_id="o",
            encryption=encryption,
        ),
        layout_id="l",
        on_disk=True,
        archive_state=ArchiveState.NOT_WANTED,
        archived_at=None,
        restore=None,
        last_read_at=0.0,
        read_count=0,
        deleted_at=None,
        revision=1,
        is_marker=is_marker,
        superseded_at=superseded_at,
        tags=tags,
    )


def rule(
    rule_id: str = "r", *, is_enabled: bool = True, filter: Filter = EVERYTHING, **actions: object
) -> Rule:
    """Return a rule with these actions."""
    return replace(Rule(rule_id=rule_id, is_enabled=is_enabled, filter=filter), **actions)  # type: ignore[arg-type]


def rules(*written: Rule, minimum: MinimumSize = MinimumSize.VARIES) -> LifecycleRules:
    """Return rules as they are asked."""
    return LifecycleRules(Lifecycle(rules=written, minimum_size=minimum))


def expires(days: int) -> Expiration:
    """Return an expiration after days."""
    return Expiration(days=days)


def to(name: StorageClass, days: int | None = None, date: int | None = None) -> Transition:
    """Return a transition."""
    return Transition(storage_class=name, days=days, date=date)


# ── any configuration there can be ──────────────────────────────────────────────────────────────────────────────────────

_DAYS = st.integers(0, 2**31 - 1)
_NEWER = st.none() | st.integers(1, 100)
_CLASSES = st.sampled_from(TARGETS)
_DATES = st.integers(0, 10_000).map(lambda days: days * DAY)
_WHEN = st.one_of(st.fixed_dictionaries({"days": _DAYS}), st.fixed_dictionaries({"date": _DATES}))
_TEXTS = st.text(max_size=20)
FILTERS = st.builds(
    Filter,
    form=st.sampled_from(FilterForm),
    prefix=st.none() | _TEXTS,
    tags=st.dictionaries(_TEXTS, _TEXTS, max_size=3).map(lambda tags: tuple(sorted(tags.items()))),
    greater_than_bytes=st.none() | st.integers(0, 2**63 - 1),
    less_than_bytes=st.none() | st.integers(0, 2**63 - 1),
)
RULES = st.builds(
    Rule,
    rule_id=_TEXTS,
    is_enabled=st.booleans(),
    filter=FILTERS,
    transitions=st.lists(
        st.builds(lambda name, when: Transition(storage_class=name, **when), _CLASSES, _WHEN), max_size=2
    ).map(tuple),
    expiration=st.none()
    | _WHEN.map(lambda when: Expiration(**when))
    | st.booleans().map(lambda go: Expiration(expired_markers=go)),
    noncurrent_transitions=st.lists(
        st.builds(NoncurrentTransition, storage_class=_CLASSES, days=_DAYS, newer_versions=_NEWER), max_size=2
    ).map(tuple),
    noncurrent_expiration=st.none() | st.builds(NoncurrentExpiration, days=_DAYS, newer_versions=_NEWER),
    abort_days=st.none() | _DAYS,
)
LIFECYCLES = st.builds(
    Lifecycle, rules=st.lists(RULES, max_size=3).map(tuple), minimum_size=st.sampled_from(MinimumSize)
)


class TextTests(SynchronousTestCase):
    """What is kept of a configuration."""

    @given(LIFECYCLES)
    def test_round(self, lifecycle: Lifecycle) -> None:
        """The text says everything, and is the same for what is the same."""
        text = lifecycle_text(lifecycle)
        self.assertEqual(lifecycle_of(text), lifecycle)
        self.assertEqual(lifecycle_text(lifecycle_of(text)), text)

    def test_form(self) -> None:
        """What says nothing is left out; this text is in databases, and must be read for good."""
        kept = Lifecycle(
            rules=(
                rule(
                    "ü",
                    filter=Filter(prefix="", tags=(("a", "b"),), form=FilterForm.AND),
                    transitions=(to(GLACIER, 0),),
                    expiration=Expiration(expired_markers=False),
                    abort_days=7,
                ),
            )
        )
        text = (
            '{"format":1,"minimum_size":"varies_by_storage_class","rules":[{"abort_days":7,"expiration":{"expired_markers":false},'
            '"filter":{"form":"and","prefix":"","tags":[["a","b"]]},"id":"ü","is_enabled":true,'
            '"transitions":[{"days":0,"storage_class":"GLACIER"}]}]}'
        )
        self.assertEqual(lifecycle_text(kept), text)
        self.assertEqual(lifecycle_of(text), kept)

    def test_other_texts(self) -> None:
        """Anything else is refused, and never taken for rules."""
        for text in (
            "",
            "[]",
            "{}",
            "null",
            '{"format":2,"minimum_size":"varies_by_storage_class","rules":[]}',
            '{"format":1,"minimum_size":"small","rules":[]}',
            '{"format":1,"minimum_size":"varies_by_storage_class","rules":[{}]}',
            '{"format":1,"minimum_size":"varies_by_storage_class","rules":[{"id":"a","is_enabled":true,"filter":{"form":"one","suffix":"x"}}]}',
        ):
            with self.assertRaises(ValueError, msg=text):
                lifecycle_of(text)


class DueTests(SynchronousTestCase):
    """When days are over."""

    def test_example(self) -> None:
        """15 January 10:30 and three days: 19 January, midnight UTC; no days: the next midnight."""
        self.assertEqual(due_at(MADE, 3), MIDNIGHT)
        self.assertEqual(due_at(MADE, 0), MIDNIGHT - 3 * DAY)

    def test_short_days(self) -> None:
        """A shortened day has its midnights as often."""
        self.assertEqual(due_at(61.0, 2, day_seconds=10), 90)
        self.assertEqual(due_at(60.0, 2, day_seconds=10), 80)

    @given(
        st.integers(0, 10**9), st.integers(0, 400), st.integers(0, 10**9), st.sampled_from([1, 10, 86_400])
    )
    def test_both_ways(self, since: int, days: int, now: int, day_seconds: int) -> None:
        """What is due at a time is what began by another."""
        is_due = due_at(since, days, day_seconds=day_seconds) <= now
        self.assertEqual(is_due, since <= begun_by(now, days, day_seconds=day_seconds))


class FilterTests(SynchronousTestCase):
    """``matches``."""

    def test_prefix(self) -> None:
        """Keys are compared by their bytes."""
        for prefix, is_about in (
            (None, True),
            ("", True),
            ("lögs/", True),
            ("lögs/aa", False),
            ("ögs", False),
        ):
            found = matches(Filter(prefix=prefix), key="lögs/a".encode(), tags=(), size_bytes=0)
            self.assertEqual(found, is_about, prefix)

    def test_tags(self) -> None:
        """Every tag of the filter must be there with its value; more may be."""
        has = (("a", "1"), ("b", "2"))
        for wanted, is_about in (
            ((), True),
            ((("a", "1"),), True),
            (has, True),
            ((("a", "2"),), False),
            ((("a", "1"), ("c", "")), False),
        ):
            self.assertEqual(matches(Filter(tags=wanted), key=b"k", tags=has, size_bytes=0), is_about, wanted)

    def test_size(self) -> None:
        """The bounds themselves are not within."""
        for more, less, sizes in (
            (10, None, [11, 12]),
            (None, 11, [9, 10]),
            (9, 11, [10]),
            (None, None, [9, 10, 11, 12]),
        ):
            wanted = Filter(greater_than_bytes=more, less_than_bytes=less)
            found = [size for size in (9, 10, 11, 12) if matches(wanted, key=b"k", tags=(), size_bytes=size)]
            self.assertEqual(found, sizes)


class ExpirationTests(SynchronousTestCase):
    """When what is current expires."""

    def test_earliest(self) -> None:
        """Of several rules the one that is due first decides, and of those due at once the first."""
        found = rules(
            rule("late", expiration=expires(9)),
            rule("soon", expiration=expires(3)),
            rule("too", expiration=expires(3)),
            rule("off", is_enabled=False, expiration=expires(1)),
            rule("other", filter=Filter(prefix="x/"), expiration=expires(1)),
            rule("tagged", filter=Filter(tags=(("a", "b"),)), expiration=expires(1)),
            rule("markers", expiration=Expiration(expired_markers=True)),
        )
        self.assertEqual(found.expiration(version()), Due(MIDNIGHT, "soon"))
        self.assertEqual(found.expiration(version(tags=(("a", "b"),))), Due(MIDNIGHT - 2 * DAY, "tagged"))
        self.assertEqual(found.expiration(version(written_tags="a=b")), Due(MIDNIGHT - 2 * DAY, "tagged"))
        self.assertEqual(found.expiration(version(written_tags="a=b", tags=())), Due(MIDNIGHT, "soon"))

    def test_date(self) -> None:
        """From its date on a rule is about everything: of what is newer, when its first day is over."""
        found = rules(rule(expiration=Expiration(date=MIDNIGHT)))
        self.assertEqual(found.expiration(version()), Due(MIDNIGHT, "r"))
        self.assertEqual(found.expiration(version(created_at=MIDNIGHT + 5)), Due(MIDNIGHT + DAY, "r"))

    def test_nothing(self) -> None:
        """Without a rule about it nothing expires; nor does a delete marker, or what is current no more, as an object would."""
        self.assertIsNone(rules().expiration(version()))
        for other in (version(is_marker=True), version(superseded_at=MADE)):
            self.assertIsNone(rules(rule(expiration=expires(1))).expiration(other))

    def test_size_of_encrypted(self) -> None:
        """A size is what S3 shows, and not what lies on the disk."""
        found = rules(rule(filter=Filter(greater_than_bytes=150), expiration=expires(3)))
        hidden = Encryption("AES256", "m", "w", 64, size_bytes=100)
        self.assertIsNone(found.expiration(version(size=200, encryption=hidden)))
        self.assertIsNotNone(found.expiration(version(size=200)))

    def test_markers(self) -> None:
        """A marker that is alone goes by a rule for such at the next midnight, else with age; no rule with tags is about it."""
        marker = version(is_marker=True)
        by_age = rule("age", expiration=expires(3))
        self.assertEqual(rules(by_age).marker_expiration(marker), Due(MIDNIGHT, "age"))
        for_such = rule("such", expiration=Expiration(expired_markers=True))
        self.assertEqual(rules(by_age, for_such).marker_expiration(marker), Due(MIDNIGHT - 3 * DAY, "such"))
        for other in (
            rule(expiration=Expiration(expired_markers=False)),
            rule(filter=Filter(tags=(("a", "b"),)), expiration=expires(3)),
            rule(filter=Filter(prefix="x"), expiration=expires(3)),
            rule(noncurrent_expiration=NoncurrentExpiration(days=1)),
        ):
            self.assertIsNone(rules(other).marker_expiration(marker), other)


class TransitionTests(SynchronousTestCase):
    """Where what is current goes."""

    def test_coldest(self) -> None:
        """Of all that are due the coldest class wins, whatever the order."""
        found = rules(
            rule("a", transitions=(to(StorageClass.STANDARD_IA, 1), to(DEEP_ARCHIVE, 9))),
            rule("b", transitions=(to(GLACIER, 3),)),
            rule("c", transitions=(to(GLACIER, 2),)),
        )
        for now, wanted in (
            (MADE + DAY / 2, None),
            (MIDNIGHT - 2 * DAY, DueTransition(MIDNIGHT - 2 * DAY, "a", StorageClass.STANDARD_IA)),
            (MIDNIGHT, DueTransition(MIDNIGHT - DAY, "c", GLACIER)),
            (MIDNIGHT + 6 * DAY, DueTransition(MIDNIGHT + 6 * DAY, "a", DEEP_ARCHIVE)),
        ):
            self.assertEqual(found.transition(version(), now), wanted)

    def test_only_colder(self) -> None:
        """Nothing goes back, or where it is already."""
        found = rules(rule(transitions=tuple(to(name, 0) for name in TARGETS)))
        for place, name in enumerate(BY_WARMTH):
            targets = [each.storage_class for each in found.transitions(version(storage_class=name))]
            self.assertEqual(targets, [each for each in BY_WARMTH[place + 1 :] if each in TARGETS])
            self.assertFalse(is_colder(name, name))

    def test_date(self) -> None:
        """A transition by date is due from then on."""
        found = rules(rule(transitions=(to(GLACIER, date=MIDNIGHT),)))
        self.assertIsNone(found.transition(version(), MIDNIGHT - 1))
        self.assertEqual(found.transition(version(), MIDNIGHT), DueTransition(MIDNIGHT, "r", GLACIER))

    def test_small(self) -> None:
        """Small objects go to the cold classes alone, or nowhere; a filter on the size wins."""
        small = version(size=SMALL_BYTES - 1)
        ways = (to(StorageClass.STANDARD_IA, 0), to(GLACIER, 0), to(DEEP_ARCHIVE, 0))
        plain, sized = rule(transitions=ways), rule(filter=Filter(greater_than_bytes=0), transitions=ways)
        for written, minimum, wanted in (
            (plain, MinimumSize.VARIES, [GLACIER, DEEP_ARCHIVE]),
            (plain, MinimumSize.ALWAYS_128K, []),
            (sized, MinimumSize.VARIES, [each.storage_class for each in ways]),
            (sized, MinimumSize.ALWAYS_128K, [each.storage_class for each in ways]),
        ):
            found = rules(written, minimum=minimum)
            self.assertEqual([each.storage_class for each in found.transitions(small)], wanted)
            self.assertEqual(len(list(found.transitions(version()))), 3)

    def test_others(self) -> None:
        """A delete marker has no bytes that could go anywhere, and for what is current no more there are other actions."""
        found = rules(rule(transitions=(to(GLACIER, 0),)))
        for other in (version(is_marker=True), version(superseded_at=MADE)):
            self.assertEqual(list(found.transitions(other)), [])


class NoncurrentTests(SynchronousTestCase):
    """What becomes of versions that others replaced."""

    def test_expiration(self) -> None:
        """Days count from when another took its place, and as many newer ones must be there."""
        found = rules(
            rule("kept", noncurrent_expiration=NoncurrentExpiration(days=1, newer_versions=2)),
            rule("all", noncurrent_expiration=NoncurrentExpiration(days=3)),
        )
        old = version(created_at=0.0, superseded_at=MADE)
        self.assertEqual(found.noncurrent_expiration(old, 1), Due(MIDNIGHT, "all"))
        self.assertEqual(found.noncurrent_expiration(old, 2), Due(MIDNIGHT - 2 * DAY, "kept"))
        self.assertEqual(found.noncurrent_expiration(old._replace(is_marker=True), 1), Due(MIDNIGHT, "all"))
        self.assertIsNone(found.noncurrent_expiration(version(), 2))

    def test_transition(self) -> None:
        """As for what is current: the coldest that is due."""
        found = rules(
            rule(
                noncurrent_transitions=(
                    NoncurrentTransition(storage_class=GLACIER, days=3),
                    NoncurrentTransition(storage_class=DEEP_ARCHIVE, days=3, newer_versions=1),
                )
            )
        )
        old = version(superseded_at=MADE)
        self.assertIsNone(found.noncurrent_transition(old, 1, MIDNIGHT - 1))
        self.assertEqual(found.noncurrent_transition(old, 0, MIDNIGHT), DueTransition(MIDNIGHT, "r", GLACIER))
        self.assertEqual(
            found.noncurrent_transition(old, 1, MIDNIGHT), DueTransition(MIDNIGHT, "r", DEEP_ARCHIVE)
        )
        for other in (version(), old._replace(is_marker=True)):
            self.assertIsNone(found.noncurrent_transition(other, 1, MIDNIGHT))


class AbortionTests(SynchronousTestCase):
    """When uploads are aborted."""

    def test_earliest(self) -> None:
        """The first that is due of the rules about the key."""
        found = rules(
            rule("all", abort_days=9),
            rule("logs", filter=Filter(prefix="logs/"), abort_days=3),
            rule("off", is_enabled=False, abort_days=1),
        )
        self.assertEqual(found.abortion(b"logs/a", MADE), Due(MIDNIGHT, "logs"))
        self.assertEqual(found.abortion(b"a", MADE), Due(MIDNIGHT + 6 * DAY, "all"))
        self.assertIsNone(rules(rule(expiration=expires(1))).abortion(b"a", MADE))

    def test_short_days(self) -> None:
        """All of it goes by the length of a day that was given."""
        found = LifecycleRules.of(
            lifecycle_text(Lifecycle(rules=(rule(abort_days=2, expiration=expires(2)),))), day_seconds=10
        )
        self.assertEqual(found.abortion(b"a", 61.0), Due(90, "r"))
        self.assertEqual(found.expiration(version(created_at=61.0)), Due(90, "r"))
