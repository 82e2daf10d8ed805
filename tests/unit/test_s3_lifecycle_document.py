"""The document of a lifecycle configuration: what is read and shown again, and every fault it can have."""

import re
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
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
from coldstore.model.objects import StorageClass
from coldstore.plan.lifecycle import TARGETS, Due
from coldstore.s3.errors import S3Error
from coldstore.s3.fields import HeaderFields
from coldstore.s3.lifecycle_checks import INFREQUENT, INFREQUENT_DAYS
from coldstore.s3.lifecycle_document import lifecycle_node, parse_lifecycle
from coldstore.s3.lifecycle_headers import abort_headers, asked_minimum_size, expiration_header
from coldstore.s3.xml import MalformedDocument, Node, document, node
from tests.unit.s3_rig import HOT, RULES

DAY = 86_400
CLASSES = {**RULES, StorageClass.ONEZONE_IA: HOT, StorageClass.INTELLIGENT_TIERING: HOT}
"""All that can be named but GLACIER_IR."""
NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
EXPIRES = "<Expiration><Days>1</Days></Expiration>"
OLD = "<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration>"
ABORTS = "<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>"
TAG = "<Tag><Key>k</Key><Value>v</Value></Tag>"


def written(*rules: str) -> bytes:
    """Return a document of these rules."""
    return f"<LifecycleConfiguration {NAMESPACE}>{''.join(rules)}</LifecycleConfiguration>".encode()


def rule(
    content: str, *, rule_id: str = "<ID>r-1</ID>", filter: str = "<Filter/>", status: str = "Enabled"
) -> str:
    """Return a rule with these elements."""
    return f"<Rule>{rule_id}<Status>{status}</Status>{filter}{content}</Rule>"


def transition(name: str, days: int, extra: str = "") -> str:
    """Return a Transition."""
    return f"<Transition><Days>{days}</Days><StorageClass>{name}</StorageClass>{extra}</Transition>"


def old_transition(name: str, days: int, extra: str = "") -> str:
    """Return a NoncurrentVersionTransition."""
    return (
        f"<NoncurrentVersionTransition><NoncurrentDays>{days}</NoncurrentDays><StorageClass>{name}</StorageClass>{extra}"
        "</NoncurrentVersionTransition>"
    )


def read(body: bytes) -> Lifecycle:
    """Read a document; rules without ID are called new-1, new-2 and so on."""
    names = (f"new-{number}" for number in range(1, 1001))
    return parse_lifecycle(body, classes=CLASSES, minimum_size=MinimumSize.VARIES, new_id=lambda: next(names))


# ── any configuration that may be written ───────────────────────────────────────────────────────────────────────────────

_CHARACTERS = st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff")
_TEXTS = st.text(_CHARACTERS, max_size=20)
_TAGS = st.dictionaries(st.text(_CHARACTERS, min_size=1, max_size=9), _TEXTS, max_size=3).map(
    lambda tags: tuple(sorted(tags.items()))
)
_NEWER = st.none() | st.integers(1, 100)


@st.composite
def _filters(draw: st.DrawFn) -> Filter:
    form = draw(st.sampled_from(FilterForm))
    if form is FilterForm.OLD:
        return Filter(form=form, prefix=draw(_TEXTS))
    more = draw(st.none() | st.integers(0, 1000))
    less = draw(st.none() | st.integers(1001, 2**63 - 1))
    both = Filter(
        form=form,
        prefix=draw(st.none() | _TEXTS),
        tags=draw(_TAGS),
        greater_than_bytes=more,
        less_than_bytes=less,
    )
    if form is FilterForm.AND:
        return both if (both.prefix is not None or both.tags or both.names_size) else replace(both, prefix="")
    return draw(
        st.sampled_from(
            [
                Filter(),
                Filter(prefix=both.prefix),
                Filter(tags=both.tags[:1]),
                Filter(greater_than_bytes=more),
                Filter(less_than_bytes=less),
            ]
        )
    )


def _steps(draw: st.DrawFn, first: int) -> tuple[list[tuple[StorageClass, int]], int]:
    """Draw classes with days that may follow one another, and the days after which something may expire."""
    names = draw(
        st.lists(st.sampled_from([each for each in TARGETS if each in CLASSES]), unique=True, max_size=3)
    )
    steps, least = [], first
    for name in sorted(names, key=TARGETS.index):
        days = max(least, INFREQUENT_DAYS if name in INFREQUENT else 0) + draw(st.integers(0, 100))
        steps.append((name, days))
        least = days + (INFREQUENT_DAYS if name in INFREQUENT else 1)
    return steps, max(least, 1) + 1


@st.composite
def _rules(draw: st.DrawFn) -> Rule:
    found = draw(_filters())
    current, current_end = _steps(draw, 0)
    noncurrent, noncurrent_end = _steps(draw, 0)
    newer = st.none() if found.form is FilterForm.OLD else _NEWER
    by_date = draw(st.booleans())
    dated = [{"date": days * DAY} if by_date else {"days": days} for _, days in current]
    expirations: list[Expiration | None] = [
        None,
        Expiration(date=current_end * DAY) if by_date else Expiration(days=current_end),
    ]
    if not found.tags:
        expirations += [Expiration(expired_markers=True), Expiration(expired_markers=False)]
    made = Rule(
        rule_id=draw(st.text(_CHARACTERS, min_size=1, max_size=9)),
        is_enabled=draw(st.booleans()),
        filter=found,
        transitions=tuple(
            Transition(storage_class=name, **when) for (name, _), when in zip(current, dated, strict=True)
        ),
        expiration=draw(st.sampled_from(expirations)),
        noncurrent_transitions=tuple(
            NoncurrentTransition(storage_class=name, days=days, newer_versions=draw(newer))
            for name, days in noncurrent
        ),
        noncurrent_expiration=draw(
            st.none() | st.builds(NoncurrentExpiration, days=st.just(noncurrent_end), newer_versions=newer)
        ),
        abort_days=None if found.tags or found.names_size else draw(st.none() | st.integers(1, 1000)),
    )
    if made == Rule(rule_id=made.rule_id, is_enabled=made.is_enabled, filter=found):
        return replace(made, expiration=Expiration(days=1))
    return made


LIFECYCLES = st.builds(
    Lifecycle,
    rules=st.lists(_rules(), min_size=1, max_size=3, unique_by=lambda each: each.rule_id).map(tuple),
)


class ReadingTests(SynchronousTestCase):
    """What is read, and how it is shown."""

    @settings(max_examples=100, deadline=None)
    @given(LIFECYCLES)
    def test_round(self, lifecycle: Lifecycle) -> None:
        """What is shown is what was written, also after it was kept as text."""
        shown = document(lifecycle_node(lifecycle))
        found = read(shown)
        self.assertEqual(found, lifecycle)
        kept = lifecycle_of(lifecycle_text(found))
        self.assertEqual(document(lifecycle_node(kept)), shown)

    def test_all_of_it(self) -> None:
        """Every element there is; order, namespace and white space around values do not matter."""
        body = b"""<LifecycleConfiguration>
            <Rule><NoncurrentVersionTransition><StorageClass>GLACIER</StorageClass><NewerNoncurrentVersions> 2 </NewerNoncurrentVersions>
              <NoncurrentDays>5</NoncurrentDays></NoncurrentVersionTransition>
              <Expiration><Days>90</Days></Expiration><Transition><StorageClass>
                DEEP_ARCHIVE</StorageClass><Days>60</Days></Transition>
              <NoncurrentVersionExpiration><NewerNoncurrentVersions>3</NewerNoncurrentVersions><NoncurrentDays>9</NoncurrentDays></NoncurrentVersionExpiration>
              <Filter><And><ObjectSizeLessThan>200</ObjectSizeLessThan><Tag><Value>2</Value><Key>b</Key></Tag><Prefix> a/ </Prefix>
                <Tag><Key>a</Key><Value/></Tag><ObjectSizeGreaterThan>100</ObjectSizeGreaterThan></And></Filter>
              <Transition><Days>0</Days><StorageClass>GLACIER</StorageClass></Transition>
              <Status> Enabled </Status><ID>all of it</ID></Rule>
            <Rule><Prefix/><Status>Disabled</Status><AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload>
              <Expiration><Date>2030-01-01T00:00:00.000Z</Date></Expiration></Rule>
            </LifecycleConfiguration>"""
        wanted = (
            Rule(
                rule_id="all of it",
                is_enabled=True,
                filter=Filter(
                    form=FilterForm.AND,
                    prefix=" a/ ",
                    tags=(("a", ""), ("b", "2")),
                    greater_than_bytes=100,
                    less_than_bytes=200,
                ),
                transitions=(
                    Transition(storage_class=StorageClass.DEEP_ARCHIVE, days=60),
                    Transition(storage_class=StorageClass.GLACIER, days=0),
                ),
                expiration=Expiration(days=90),
                noncurrent_transitions=(
                    NoncurrentTransition(storage_class=StorageClass.GLACIER, days=5, newer_versions=2),
                ),
                noncurrent_expiration=NoncurrentExpiration(days=9, newer_versions=3),
            ),
            Rule(
                rule_id="new-1",
                is_enabled=False,
                filter=Filter(form=FilterForm.OLD, prefix=""),
                expiration=Expiration(date=1_893_456_000),
                abort_days=7,
            ),
        )
        self.assertEqual(read(body).rules, wanted)

    def test_dates(self) -> None:
        """A date may leave out what is zero, and have another offset, if it is midnight UTC."""
        for date in (
            "2030-01-01",
            "2030-01-01T00:00:00",
            "2030-01-01T00:00:00Z",
            "2030-01-01T00:00:00.000000000Z",
            "2029-12-31T20:00:00-04:00",
        ):
            found = read(written(rule(f"<Expiration><Date>{date}</Date></Expiration>")))
            self.assertEqual(found.rules[0].expiration, Expiration(date=1_893_456_000), date)

    def test_forms_of_filters(self) -> None:
        """A Prefix in the rule itself stays there; an empty filter stays empty, and an And an And."""
        for form in (
            "<Prefix></Prefix>",
            "<Prefix>a</Prefix>",
            "<Filter></Filter>",
            "<Filter><Prefix></Prefix></Filter>",
            f"<Filter>{TAG}</Filter>",
            "<Filter><And><Prefix>a</Prefix></And></Filter>",
            f"<Filter><And>{TAG}</And></Filter>",
        ):
            shown = document(lifecycle_node(read(written(rule(EXPIRES, filter=form))))).decode()
            self.assertIn(f"<ID>r-1</ID>{form}<Status>Enabled</Status>{EXPIRES}", shown)

    def test_most(self) -> None:
        """The greatest of everything: a thousand rules, an ID, a prefix, numbers."""
        rules = [
            rule(
                transition("GLACIER", 2**31 - 1),
                rule_id=f"<ID>{number:0255}</ID>",
                filter=f"<Filter><Prefix>{'ä' * 512}</Prefix></Filter>" if number == 1 else "<Filter/>",
            )
            for number in range(1, 1001)
        ]
        self.assertEqual(len(read(written(*rules)).rules), 1000)


MALFORMED: Sequence[tuple[str, str]] = (
    (rule(EXPIRES, status="enabled"), "rule 'r-1'.*Status is 'enabled'"),
    (rule(EXPIRES, status="Enabled</Status><Status>Disabled"), "rule 'r-1'.*several Status"),
    (f"<Rule><ID>r-1</ID><Filter/>{EXPIRES}</Rule>", "rule 'r-1'.*Status is ''"),
    (rule(EXPIRES, filter=""), "rule 'r-1'.*either a Filter or a Prefix"),
    (rule(EXPIRES, filter="<Filter/><Prefix/>"), "either a Filter or a Prefix"),
    (rule(EXPIRES, filter=f"<Filter><Prefix/>{TAG}</Filter>"), "Filter holds several elements"),
    (rule(EXPIRES, filter=f"<Filter>{TAG}{TAG}</Filter>"), "Filter holds several elements"),
    (rule(EXPIRES, filter="<Filter><And/></Filter>"), "And is empty"),
    (rule(EXPIRES, filter="<Filter><And><And/></And></Filter>"), "And cannot have the element 'And'"),
    (rule(EXPIRES, filter="<Filter><Suffix>a</Suffix></Filter>"), "Filter cannot have the element 'Suffix'"),
    (rule(EXPIRES, filter="<Filter>logs/</Filter>"), "Filter holds text"),
    (rule(EXPIRES, filter="<Filter><Tag><Key>k</Key></Tag></Filter>"), "a Tag has no Key or no Value"),
    (rule(EXPIRES, filter="<Filter><Prefix><Prefix/></Prefix></Filter>"), "Prefix holds elements"),
    (
        rule(EXPIRES, filter="<Filter><ObjectSizeLessThan>1k</ObjectSizeLessThan></Filter>"),
        "'1k', and no number",
    ),
    (rule(EXPIRES + "<Expire/>"), "rule 'r-1'.*Rule cannot have the element 'Expire'"),
    (rule(EXPIRES, rule_id="<ID>r-1</ID><ID>r-2</ID>"), "rule number 1.*several ID"),
    (rule("<Expiration/>"), "one of Days, Date and ExpiredObjectDeleteMarker"),
    (
        rule(
            "<Expiration><Days>1</Days><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>"
        ),
        "one of Days, Date and ExpiredObjectDeleteMarker",
    ),
    (rule("<Expiration><Days>1</Days><Date>2030-01-01</Date></Expiration>"), "one of Days, Date and"),
    (rule("<Expiration><Days>one</Days></Expiration>"), "Days of Expiration is 'one', and no number"),
    (rule("<Expiration><Days/></Expiration>"), "Days of Expiration is '', and no number"),
    (rule("<Expiration><Days>1</Days><Days>2</Days></Expiration>"), "several Days"),
    (rule("<Expiration><ExpiredObjectDeleteMarker>yes</ExpiredObjectDeleteMarker></Expiration>"), "'yes'"),
    (rule(EXPIRES * 2), "several Expiration"),
    (rule(transition("STANDARD", 1)), "StorageClass of Transition is 'STANDARD'"),
    (rule(transition("glacier", 1)), "StorageClass of Transition is 'glacier'"),
    (rule(old_transition("COLD", 1)), "StorageClass of NoncurrentVersionTransition is 'COLD'"),
    (rule("<Transition><Days>1</Days></Transition>"), "StorageClass of Transition is ''"),
    (rule("<Transition><StorageClass>GLACIER</StorageClass></Transition>"), "either Days or a Date"),
    (rule(transition("GLACIER", 1, "<Date>2030-01-01</Date>")), "either Days or a Date"),
    (rule("<NoncurrentVersionExpiration/>"), "NoncurrentVersionExpiration has no NoncurrentDays"),
    (
        rule(
            "<NoncurrentVersionTransition><StorageClass>GLACIER</StorageClass></NoncurrentVersionTransition>"
        ),
        "NoncurrentVersionTransition has no NoncurrentDays",
    ),
    (rule("<AbortIncompleteMultipartUpload/>"), "AbortIncompleteMultipartUpload has no DaysAfterInitiation"),
    ("", "it has 0 rules, and may have 1 to 1000"),
    (rule(EXPIRES, rule_id="") * 1001, "it has 1001 rules"),
    ("<Role/>", "LifecycleConfiguration cannot have the element 'Role'"),
)
"""Rules, and the reason why no document can have them."""


def aged(name: str, days: str) -> str:
    """Return an expiration with other days."""
    return {
        "Expiration": EXPIRES.replace("1", days, 1),
        "NoncurrentVersionExpiration": OLD.replace(">1<", f">{days}<"),
        "AbortIncompleteMultipartUpload": ABORTS.replace(">1<", f">{days}<"),
    }[name]


def dated(date: str) -> str:
    """Return an expiration by date."""
    return f"<Expiration><Date>{date}</Date></Expiration>"


_KEEP = "<NewerNoncurrentVersions>{}</NewerNoncurrentVersions></NoncurrentVersionExpiration>"
_GREATER = "<ObjectSizeGreaterThan>{}</ObjectSizeGreaterThan>"
_MARKERS = "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>"


def keeps(number: str) -> str:
    """Return an expiration of noncurrent versions that keeps some."""
    return OLD.replace("</NoncurrentVersionExpiration>", _KEEP.format(number))


FAULTS: Sequence[tuple[str, str, str]] = (
    ("InvalidRequest", rule(""), "it has no action"),
    (
        "InvalidRequest",
        rule(EXPIRES, filter=f"<Filter><And>{TAG}{TAG}</And></Filter>"),
        "several Tags with the Key 'k'",
    ),
    ("InvalidRequest", rule(EXPIRES, filter=f"<Prefix>{'ä' * 512}a</Prefix>"), "Prefix has 1025 bytes"),
    ("InvalidRequest", rule(transition("GLACIER", 1) + transition("GLACIER", 2)), "several of Transition"),
    (
        "InvalidRequest",
        rule(old_transition("GLACIER", 1) + old_transition("GLACIER", 2)),
        "several of NoncurrentVersionTransition have the StorageClass GLACIER",
    ),
    ("InvalidRequest", rule(transition("GLACIER", 1) + dated("2030-01-01")), "Date and Days are mixed"),
    (
        "InvalidRequest",
        rule(
            transition("GLACIER", 1)
            + transition("DEEP_ARCHIVE", 1).replace("<Days>1</Days>", "<Date>2030-01-01</Date>")
        ),
        "Date and Days are mixed",
    ),
    ("InvalidRequest", rule(ABORTS, filter=f"<Filter>{TAG}</Filter>"), "cannot go with a Tag"),
    ("InvalidRequest", rule(_MARKERS, filter=f"<Filter>{TAG}</Filter>"), "cannot go with a Tag"),
    (
        "InvalidRequest",
        rule(ABORTS, filter=f"<Filter>{_GREATER.format(1)}</Filter>"),
        "cannot go with ObjectSizeGreaterThan",
    ),
    ("InvalidRequest", rule(keeps("1"), filter="<Prefix/>"), "NewerNoncurrentVersions needs a Filter"),
    (
        "InvalidRequest",
        rule(
            old_transition("GLACIER", 1, "<NewerNoncurrentVersions>1</NewerNoncurrentVersions>"),
            filter="<Prefix/>",
        ),
        "NewerNoncurrentVersions needs a Filter",
    ),
    (
        "InvalidRequest",
        rule(
            EXPIRES,
            filter=f"<Filter><And>{_GREATER.format(5)}<ObjectSizeLessThan>5</ObjectSizeLessThan></And></Filter>",
        ),
        "ObjectSizeGreaterThan, 5, must be less than ObjectSizeLessThan, 5",
    ),
    ("InvalidRequest", rule(EXPIRES, filter=f"<Filter>{_GREATER.format(-1)}</Filter>"), "is -1, and must be"),
    (
        "InvalidRequest",
        rule(EXPIRES, filter=f"<Filter>{_GREATER.format(2**63)}</Filter>"),
        f"is {2**63}, and",
    ),
    (
        "InvalidTag",
        rule(EXPIRES, filter="<Filter><Tag><Key/><Value/></Tag></Filter>"),
        "the Tag '' can be no object's",
    ),
    ("InvalidArgument", rule(EXPIRES, rule_id=f"<ID>{'a' * 256}</ID>"), "ID has 256 characters"),
    ("InvalidArgument", rule(EXPIRES) + rule(OLD), "several rules have the ID 'r-1'"),
    ("InvalidArgument", rule(aged("Expiration", "0")), "Days of Expiration is 0"),
    ("InvalidArgument", rule(aged("Expiration", "-1")), "Days of Expiration is -1"),
    ("InvalidArgument", rule(aged("Expiration", str(2**31))), f"Days of Expiration is {2**31}"),
    ("InvalidArgument", rule(transition("GLACIER", -1)), "Days of Transition is -1"),
    ("InvalidArgument", rule(old_transition("GLACIER", -1)), "NoncurrentVersionTransition is -1"),
    ("InvalidArgument", rule(aged("NoncurrentVersionExpiration", "0")), "NoncurrentVersionExpiration is 0"),
    (
        "InvalidArgument",
        rule(aged("AbortIncompleteMultipartUpload", "0")),
        "AbortIncompleteMultipartUpload is 0",
    ),
    ("InvalidArgument", rule(keeps("0")), "NewerNoncurrentVersions of NoncurrentVersionExpiration is 0"),
    ("InvalidArgument", rule(keeps("101")), "is 101, and must be between 1 and 100"),
    (
        "InvalidArgument",
        rule(old_transition("GLACIER", 1, "<NewerNoncurrentVersions>0</NewerNoncurrentVersions>")),
        "NewerNoncurrentVersions of NoncurrentVersionTransition is 0",
    ),
    ("InvalidArgument", rule(dated("20300101")), "Date of Expiration is '20300101', and no date"),
    ("InvalidArgument", rule(dated("tomorrow")), "Date of Expiration is 'tomorrow'"),
    ("InvalidArgument", rule(dated("")), "Date of Expiration is ''"),
    ("InvalidArgument", rule(dated("2030-02-30T00:00:00Z")), "'2030-02-30T00:00:00Z', and no date"),
    ("InvalidArgument", rule(dated("2030-01-01T00:00:01Z")), "must be at midnight UTC"),
    ("InvalidArgument", rule(dated("2030-01-01T00:00:00+01:00")), "must be at midnight UTC"),
    ("InvalidArgument", rule(dated("1969-12-31")), "in the years 1970 to 9999"),
    ("InvalidArgument", rule(dated("9999-12-31T20:00:00-04:00")), "in the years 1970 to 9999"),
    (
        "InvalidArgument",
        rule(transition("STANDARD_IA", 29)),
        "Transition to STANDARD_IA is 29, and must be 30",
    ),
    (
        "InvalidArgument",
        rule(old_transition("ONEZONE_IA", 29)),
        "NoncurrentVersionTransition to ONEZONE_IA is 29",
    ),
    (
        "InvalidArgument",
        rule(transition("STANDARD_IA", 30) + transition("GLACIER", 59)),
        "Transition to GLACIER must be 30 more",
    ),
    (
        "InvalidArgument",
        rule(transition("DEEP_ARCHIVE", 10) + transition("GLACIER", 20)),
        "Transition to DEEP_ARCHIVE must come after that of the Transition to GLACIER",
    ),
    (
        "InvalidArgument",
        rule(transition("DEEP_ARCHIVE", 10) + transition("GLACIER", 10)),
        "Transition to DEEP_ARCHIVE must come after",
    ),
    (
        "InvalidArgument",
        rule(old_transition("DEEP_ARCHIVE", 1) + old_transition("GLACIER", 2)),
        "NoncurrentDays of the NoncurrentVersionTransition to DEEP_ARCHIVE must come after",
    ),
    (
        "InvalidArgument",
        rule(
            (transition("DEEP_ARCHIVE", 0) + transition("GLACIER", 1))
            .replace("<Days>0</Days>", "<Date>2030-01-01</Date>")
            .replace("<Days>1</Days>", "<Date>2030-01-02</Date>")
        ),
        "the Date of the Transition to DEEP_ARCHIVE must come after",
    ),
    (
        "InvalidArgument",
        rule(transition("GLACIER", 1) + EXPIRES),
        "the Days of the Expiration must come after",
    ),
    (
        "InvalidArgument",
        rule(old_transition("GLACIER", 1) + OLD),
        "NoncurrentDays of the NoncurrentVersionExpiration must come after",
    ),
    ("InvalidStorageClass", rule(transition("GLACIER_IR", 1)), "GLACIER_IR is not one of this appliance"),
    ("InvalidStorageClass", rule(old_transition("GLACIER_IR", 1)), "GLACIER_IR is not one of this appliance"),
)
"""Rules, and the code and the reason with which they are refused."""


class FaultTests(SynchronousTestCase):
    """What is refused, and how."""

    def test_malformed(self) -> None:
        """What no document can have, by rule and element."""
        for rules, reason in MALFORMED:
            with self.assertRaises(MalformedDocument, msg=rules[:200]) as caught:
                read(written(rules))
            self.assertRegex(str(caught.exception), reason)
        for body in (b"", b"<LifecycleConfiguration>", b"<Lifecycle/>", written(rule(EXPIRES)) + b"x"):
            self.assertRaises(MalformedDocument, read, body)

    def test_faults(self) -> None:
        """What a rule may not say, by rule and element; also in a rule that is not enabled, behind others that are in order."""
        for code, rules, reason in FAULTS:
            for body in (rules, rule(EXPIRES, rule_id="<ID>r-0</ID>") + rules.replace("Enabled", "Disabled")):
                with self.assertRaises(S3Error, msg=reason) as caught:
                    read(written(body))
                error = caught.exception
                self.assertEqual((error.code, error.status), (code, 400), error.message)
                self.assertIn(reason, error.message)
                if "Rule ID" not in error.message and "ID has" not in error.message:
                    self.assertTrue(error.message.startswith("In rule 'r-1', "), error.message)

    def test_rule_without_id(self) -> None:
        """A rule that has no ID is named by its place."""
        with self.assertRaises(S3Error) as caught:
            read(written(rule(EXPIRES), rule(aged("Expiration", "0"), rule_id="<ID/>")))
        self.assertIn("In rule number 2, Days", caught.exception.message)

    def test_right_at_the_limits(self) -> None:
        """What is just not refused."""
        for content in (
            transition("STANDARD_IA", 30) + transition("GLACIER", 60) + transition("DEEP_ARCHIVE", 61),
            transition("ONEZONE_IA", 30) + aged("Expiration", "31"),
            transition("INTELLIGENT_TIERING", 0) + transition("GLACIER", 1) + aged("Expiration", "2"),
            transition("STANDARD_IA", 0).replace("<Days>0</Days>", "<Date>2030-01-01</Date>"),
            transition("GLACIER", 5) + _MARKERS,
            old_transition("GLACIER", 0) + OLD + ABORTS,
            keeps("100"),
            dated("1970-01-01"),
            dated("9999-12-31"),
        ):
            self.assertEqual(len(read(written(rule(content))).rules), 1, content)


_NAMES = st.sampled_from(
    re.findall(
        r"\w+",
        "Rule ID Status Prefix Filter And Tag Key Value ObjectSizeGreaterThan ObjectSizeLessThan Transition Days Date StorageClass Expiration "
        "ExpiredObjectDeleteMarker NoncurrentVersionTransition NoncurrentDays NewerNoncurrentVersions NoncurrentVersionExpiration "
        "AbortIncompleteMultipartUpload DaysAfterInitiation Other",
    )
)
_NUMBERS = (
    "",
    " ",
    "1",
    "-1",
    "+1",
    "0",
    "30",
    "9" * 30,
    "9" * 5000,
    "1e3",
    "\u0661",
    "Enabled",
    "true",
    "GLACIER",
    "a" * 2000,
)
_DATES = (
    "2030-01-01",
    "2030-01-01T24:00:00Z",
    "0000-00-00",
    "9999-12-31T23:59:60Z",
    "0001-01-01T00:00:00+23:59",
    "2030-01-01T00:00:00+99:99",
)
_VALUES = st.sampled_from(_NUMBERS + _DATES)
_TREES = st.recursive(
    st.builds(node, _NAMES, _VALUES),
    lambda trees: st.builds(lambda name, inner: node(name, *inner), _NAMES, st.lists(trees, max_size=5)),
    max_leaves=20,
)


class AnyDocumentTests(SynchronousTestCase):
    """Whatever is sent."""

    @settings(max_examples=300, deadline=None)
    @given(st.lists(_TREES, max_size=5))
    def test_elements_in_any_order(self, trees: list[Node]) -> None:
        """It is refused for what it is, or can be kept and shown."""
        enabled = [node("Status", "Enabled"), node("Filter")]
        for rules in (trees, [node("Rule", *enabled, *trees)]):
            try:
                found = read(document(node("LifecycleConfiguration", *rules)))
            except (S3Error, MalformedDocument):
                continue
            self.assertEqual(lifecycle_of(lifecycle_text(found)), found)
            self.assertEqual(read(document(lifecycle_node(found))), found)


class HeaderTests(SynchronousTestCase):
    """What answers say, and what requests ask."""

    def test_expiration(self) -> None:
        """The form that clients look for; an id as URLs have it."""
        found = expiration_header(Due(1_798_070_400.0, 'to "keep"/ü'))
        wanted = 'expiry-date="Thu, 24 Dec 2026 00:00:00 GMT", rule-id="to%20%22keep%22%2F%C3%BC"'
        self.assertEqual(found, {"x-amz-expiration": wanted})
        self.assertEqual(expiration_header(None), {})

    def test_abort(self) -> None:
        """The id as it is, unless no field can carry it."""
        for rule_id, shown in (
            ("old uploads", "old uploads"),
            ("ü", "%C3%BC"),
            ("a\nb", "a%0Ab"),
            (" a", "%20a"),
        ):
            found = abort_headers(Due(1_798_070_400.0, rule_id))
            self.assertEqual(found["x-amz-abort-rule-id"], shown)
            self.assertEqual(found["x-amz-abort-date"], "Thu, 24 Dec 2026 00:00:00 GMT")
        self.assertEqual(abort_headers(None), {})

    def test_never(self) -> None:
        """Of what is due after the year 9999 nothing is said: no field can name that day."""
        for days in (2_932_897, 2**31 - 1):
            self.assertEqual(expiration_header(Due(days * 86_400.0, "r")), {})
            self.assertEqual(abort_headers(Due(days * 86_400.0, "r")), {})
        self.assertIn("31 Dec 9999", expiration_header(Due(2_932_896 * 86_400.0, "r"))["x-amz-expiration"])

    def test_minimum_size(self) -> None:
        """Small objects go to the cold classes unless somebody wants otherwise."""
        name = b"x-amz-transition-default-minimum-object-size"
        self.assertIs(asked_minimum_size(HeaderFields([])), MinimumSize.VARIES)
        for each in MinimumSize:
            self.assertIs(asked_minimum_size(HeaderFields([(name, each.value.encode())])), each)
        with self.assertRaises(S3Error) as caught:
            asked_minimum_size(HeaderFields([(name, b"none")]))
        self.assertEqual(caught.exception.code, "InvalidArgument")
        self.assertIn("'none', and none of varies_by_storage_class, all", caught.exception.message)
