"""Object lock as S3 writes it: documents and header fields."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.locks import UNLOCKED, BucketLock, DefaultRetention, Lock, LockMode, Retention
from coldstore.s3.errors import S3Error
from coldstore.s3.fields import HeaderFields
from coldstore.s3.locks import (
    DAYS_MAX,
    YEARS_MAX,
    bucket_lock,
    configuration_node,
    legal_hold_node,
    parse_configuration,
    parse_legal_hold,
    parse_retention,
    retention_node,
    shown_lock,
    wants_bypass,
    written_lock,
)
from coldstore.s3.xml import MalformedDocument, document

GOVERNANCE, COMPLIANCE = LockMode
NOW = 1_000_000_000.0
FUTURE = "2030-01-01T00:00:00.000Z"
AT = 1_893_456_000.0


def fields(**values: str) -> HeaderFields:
    """Header fields; underscores stand for dashes."""
    return HeaderFields((name.replace("_", "-").encode(), value.encode()) for name, value in values.items())


def configuration(
    default: str = "", enabled: str = "<ObjectLockEnabled>Enabled</ObjectLockEnabled>"
) -> bytes:
    """An ObjectLockConfiguration."""
    rule = f"<Rule><DefaultRetention>{default}</DefaultRetention></Rule>" if default else ""
    return f"<ObjectLockConfiguration>{enabled}{rule}</ObjectLockConfiguration>".encode()


class Case(SynchronousTestCase):
    """Knows refusals."""

    def refusal(self, call: Callable[[], object]) -> tuple[str, str]:
        """Return code and argument of a refusal."""
        with self.assertRaises(S3Error) as caught:
            call()
        return caught.exception.code, caught.exception.details.get("ArgumentName", "")


class BucketTests(Case):
    """What buckets have."""

    def test_creation(self) -> None:
        """A bucket takes locks or not, and nothing else."""
        for value, expected in (("true", BucketLock()), ("True", BucketLock()), ("false", None)):
            self.assertEqual(bucket_lock(fields(x_amz_bucket_object_lock_enabled=value)), expected)
        self.assertIsNone(bucket_lock(fields()))
        name = "x-amz-bucket-object-lock-enabled"
        self.assertEqual(
            self.refusal(lambda: bucket_lock(fields(x_amz_bucket_object_lock_enabled="yes"))),
            ("InvalidArgument", name),
        )

    def test_configurations(self) -> None:
        """What is read is written again."""
        for default, expected in (
            ("", None),
            ("<Mode>GOVERNANCE</Mode><Days>1</Days>", DefaultRetention(GOVERNANCE, days=1)),
            ("<Years> 100 </Years><Mode> COMPLIANCE </Mode>", DefaultRetention(COMPLIANCE, years=100)),
        ):
            lock = parse_configuration(configuration(default))
            self.assertEqual(lock, BucketLock(expected))
            self.assertEqual(parse_configuration(document(configuration_node(lock))), lock)

    def test_malformed(self) -> None:
        """What is no such document is refused as one."""
        mode = "<Mode>GOVERNANCE</Mode>"
        for bad in (
            configuration(enabled=""),
            configuration(enabled="<ObjectLockEnabled>Disabled</ObjectLockEnabled>"),
            configuration(mode),
            configuration("<Days>1</Days>"),
            configuration(f"{mode}<Days>1</Days><Years>1</Years>"),
            configuration(f"{mode}<Days>1</Days><Days>2</Days>"),
            configuration(f"{mode}<Days>one</Days>"),
            configuration(f"{mode}<Days>1.5</Days>"),
            configuration(f"{mode}<Days>{'9' * 5000}</Days>"),
            configuration(f"{mode}<Days></Days>"),
            configuration("<Mode>governance</Mode><Days>1</Days>"),
            b"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule/></ObjectLockConfiguration>",
            b"<Retention/>",
            b"",
        ):
            self.assertRaises(MalformedDocument, parse_configuration, bad)

    def test_periods(self) -> None:
        """A period is positive and not beyond a hundred years."""
        for name, most in (("Days", DAYS_MAX), ("Years", YEARS_MAX)):
            for number in (-1, 0, most + 1):
                document = configuration(f"<Mode>GOVERNANCE</Mode><{name}>{number}</{name}>")
                self.assertEqual(
                    self.refusal(lambda document=document: parse_configuration(document)),  # type: ignore[misc]
                    ("InvalidArgument", name),
                )
            parse_configuration(configuration(f"<Mode>GOVERNANCE</Mode><{name}>{most}</{name}>"))


class RetentionTests(Case):
    """Documents of objects."""

    def retention(self, mode: str, until: str) -> bytes:
        """A Retention."""
        return (
            f"<Retention><Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>".encode()
        )

    def test_dates(self) -> None:
        """Dates are those of ISO 8601, kept to the millisecond and not before what was meant; without a zone they are of UTC."""
        for text, at in (
            (FUTURE, AT),
            ("2030-01-01T00:00:00Z", AT),
            ("2030-01-01T01:00:00+01:00", AT),
            ("2030-01-01T00:00:00", AT),
            ("2030-01-01", AT),
            (" 2030-01-01T00:00:00.1234561Z ", AT + 0.124),
            ("9999-12-31T00:00:00Z", 253_402_214_400.0),
        ):
            found = parse_retention(self.retention("COMPLIANCE", text), now=NOW)
            self.assertEqual(found, Retention(COMPLIANCE, at), text)
            assert found is not None
            again = document(retention_node(found))
            self.assertEqual(parse_retention(again, now=NOW), found)

    def test_bad_dates(self) -> None:
        """One that is past, none, or beyond all that can be shown is refused."""
        for text in (
            "2000-01-01T00:00:00Z",
            "tomorrow",
            "",
            "1893456000",
            "9999-12-31T23:59:59Z",
            "9999-12-31T23:59:59-12:00",
            "0001-01-01T00:00:00+12:00",
            "2030-13-01",
            "2030-01-01T00:00:00Z" + "0" * 5000,
        ):
            self.assertEqual(
                self.refusal(
                    lambda text=text: parse_retention(self.retention("COMPLIANCE", text), now=NOW)  # type: ignore[misc]
                ),
                ("InvalidArgument", "RetainUntilDate"),
                text,
            )

    def test_none(self) -> None:
        """An empty one takes a retention away."""
        for empty in (b"<Retention/>", b"<Retention> </Retention>"):
            self.assertIsNone(parse_retention(empty, now=NOW))

    def test_malformed(self) -> None:
        """What is no such document is refused as one."""
        for bad in (
            self.retention("governance", FUTURE),
            self.retention("abc", FUTURE),
            b"<Retention><Mode>GOVERNANCE</Mode></Retention>",
            f"<Retention><RetainUntilDate>{FUTURE}</RetainUntilDate></Retention>".encode(),
            b"<LegalHold/>",
            b"<Retention>GOVERNANCE</Retention>",
        ):
            self.assertRaises(MalformedDocument, parse_retention, bad, now=NOW)

    def test_legal_holds(self) -> None:
        """On or off."""
        for is_on in (True, False):
            self.assertIs(parse_legal_hold(document(legal_hold_node(is_on))), is_on)
        for bad in (b"<LegalHold/>", b"<LegalHold><Status>on</Status></LegalHold>", b"<Retention/>"):
            self.assertRaises(MalformedDocument, parse_legal_hold, bad)


class HeaderTests(Case):
    """Header fields of objects."""

    def test_written(self) -> None:
        """Mode and date come together, a hold by itself."""
        self.assertIs(written_lock(fields(), now=NOW), UNLOCKED)
        retention = Retention(GOVERNANCE, AT)
        both = {"x_amz_object_lock_mode": "GOVERNANCE", "x_amz_object_lock_retain_until_date": FUTURE}
        self.assertEqual(written_lock(fields(**both), now=NOW), Lock(retention))
        for hold, is_on in (("ON", True), ("OFF", False)):
            headers = fields(x_amz_object_lock_legal_hold=hold)
            self.assertEqual(written_lock(headers, now=NOW), Lock(legal_hold=is_on))
            headers = fields(**both, x_amz_object_lock_legal_hold=hold)
            self.assertEqual(written_lock(headers, now=NOW), Lock(retention, is_on))

    def test_refused(self) -> None:
        """One without the other, a word that is none, a date that is past."""
        mode, until = "x-amz-object-lock-mode", "x-amz-object-lock-retain-until-date"
        for headers, name in (
            ({"x_amz_object_lock_mode": "GOVERNANCE"}, until),
            ({"x_amz_object_lock_retain_until_date": FUTURE}, mode),
            ({"x_amz_object_lock_mode": "abc", "x_amz_object_lock_retain_until_date": FUTURE}, mode),
            (
                {"x_amz_object_lock_mode": "COMPLIANCE", "x_amz_object_lock_retain_until_date": "2001-01-01"},
                until,
            ),
            ({"x_amz_object_lock_mode": "COMPLIANCE", "x_amz_object_lock_retain_until_date": "soon"}, until),
            ({"x_amz_object_lock_legal_hold": "on"}, "x-amz-object-lock-legal-hold"),
        ):
            self.assertEqual(
                self.refusal(lambda headers=headers: written_lock(fields(**headers), now=NOW)),  # type: ignore[misc]
                ("InvalidArgument", name),
            )

    @given(
        st.builds(
            Lock,
            retention=st.none()
            | st.builds(
                Retention,
                mode=st.sampled_from(LockMode),
                until=st.integers(1001, 10**10).map(lambda n: n / 10),
            ),
            legal_hold=st.sampled_from((None, False, True)),
        )
    )
    def test_shown(self, lock: Lock) -> None:
        """What is shown can be sent again."""
        shown = shown_lock(lock)
        again = HeaderFields((name.encode(), value.encode()) for name, value in shown.items())
        self.assertEqual(written_lock(again, now=100.0), lock)

    def test_bypass(self) -> None:
        """Wanted with one word alone."""
        for value, expected in (("true", True), ("True", True), ("false", False), ("", False), ("1", False)):
            self.assertIs(wants_bypass(fields(x_amz_bypass_governance_retention=value)), expected)
        self.assertFalse(wants_bypass(fields()))
