"""Preconditions and their precedence."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.metadata import WriteCondition
from coldstore.s3.conditions import (
    COPY_SOURCE,
    ReadConditions,
    check_copy_source,
    check_read,
    check_write,
    delete_condition,
    failed_condition,
    http_time,
    matches_validator,
    read_conditions,
    unquoted,
    write_condition,
)
from coldstore.s3.errors import S3Error
from coldstore.s3.fields import HeaderFields

MODIFIED = 1_700_000_000.75
DATE = "Tue, 14 Nov 2023 22:13:20 GMT"
LATER = "Tue, 14 Nov 2023 22:13:21 GMT"
EARLIER = "Tue, 14 Nov 2023 22:13:19 GMT"


def fields(**headers: str) -> HeaderFields:
    """Return header fields; underscores stand for dashes."""
    return HeaderFields((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items())


def failed(**headers: str) -> str | None:
    """Return which condition of these headers fails on the object of these tests."""
    return failed_condition(read_conditions(fields(**headers)), etag="e1", modified_at=MODIFIED)


class ReadTests(SynchronousTestCase):
    """Conditions of GET, HEAD and of the source of a copy."""

    def test_if_match(self) -> None:
        """Holds for the ETag in any quoting, in a list, and for a star."""
        for value in ('"e1"', "e1", '"x", "e1"', "*"):
            self.assertIsNone(failed(if_match=value), value)
        self.assertEqual(failed(if_match='"x"'), "If-Match")

    def test_if_none_match(self) -> None:
        """Fails when the ETag is one of those the client has."""
        self.assertIsNone(failed(if_none_match='"x"'))
        for value in ('"e1"', 'W/"e1"', '"x","e1"', "*"):
            self.assertEqual(failed(if_none_match=value), "If-None-Match", value)

    def test_dates_are_compared_in_whole_seconds(self) -> None:
        """The time that Last-Modified shows counts as not modified since."""
        self.assertEqual(failed(if_modified_since=DATE), "If-Modified-Since")
        self.assertEqual(failed(if_modified_since=LATER), "If-Modified-Since")
        self.assertIsNone(failed(if_modified_since=EARLIER))
        self.assertIsNone(failed(if_unmodified_since=DATE))
        self.assertEqual(failed(if_unmodified_since=EARLIER), "If-Unmodified-Since")

    def test_precedence(self) -> None:
        """A true If-Match wins over a false If-Unmodified-Since; If-None-Match decides alone beside If-Modified-Since."""
        self.assertIsNone(failed(if_match='"e1"', if_unmodified_since=EARLIER))
        self.assertEqual(failed(if_match='"x"', if_unmodified_since=LATER), "If-Match")
        self.assertEqual(failed(if_none_match='"e1"', if_modified_since=EARLIER), "If-None-Match")
        self.assertIsNone(failed(if_none_match='"x"', if_modified_since=LATER))

    def test_what_is_no_date_is_ignored(self) -> None:
        """RFC 9110 has a recipient ignore dates that are none."""
        for value in ("yesterday", "", "Tue, 99 Nov 2023 22:13:20 GMT", "1 2 3", "0"):
            self.assertIsNone(failed(if_modified_since=value, if_unmodified_since=value), value)

    @given(st.text(max_size=40))
    def test_any_text_is_a_date_or_none(self, value: str) -> None:
        """Nothing that a client sends as a date is an error of ours."""
        self.assertIsInstance(http_time(value), float | None)

    def test_not_modified_and_failed_are_different_answers(self) -> None:
        """A hit is 304 with ETag and date; anything else 412; for the source of a copy both are 412."""
        shown = {"ETag": '"e1"', "Last-Modified": DATE}
        hit = read_conditions(fields(if_none_match='"e1"'))
        error = self.assertRaises(S3Error, check_read, hit, etag="e1", modified_at=MODIFIED, shown=shown)
        self.assertEqual((error.status, error.headers), (304, shown))
        miss = read_conditions(fields(if_match='"x"'))
        error = self.assertRaises(S3Error, check_read, miss, etag="e1", modified_at=MODIFIED, shown=shown)
        self.assertEqual((error.status, error.details), (412, {"Condition": "If-Match"}))
        source = read_conditions(HeaderFields([(b"x-amz-copy-source-if-none-match", b"e1")]), COPY_SOURCE)
        error = self.assertRaises(S3Error, check_copy_source, source, etag="e1", modified_at=MODIFIED)
        self.assertEqual(error.code, "PreconditionFailed")

    def test_without_conditions_everything_passes(self) -> None:
        """A plain read has none."""
        self.assertEqual(read_conditions(fields()), ReadConditions())
        self.assertIsNone(failed())

    def test_if_range(self) -> None:
        """Names the ETag, strongly, or exactly the date."""
        self.assertTrue(matches_validator('"e1"', etag="e1", modified_at=MODIFIED))
        self.assertTrue(matches_validator(DATE, etag="e1", modified_at=MODIFIED))
        for value in ('W/"e1"', '"x"', LATER, "e1"):
            self.assertFalse(matches_validator(value, etag="e1", modified_at=MODIFIED), value)

    def test_unquoted(self) -> None:
        """Quotes and the mark of weakness go."""
        self.assertEqual([unquoted(value) for value in ('"a"', "a", ' W/"a" ')], ["a", "a", "a"])


class WriteTests(SynchronousTestCase):
    """Conditions of PUT, CopyObject and CompleteMultipartUpload."""

    def test_forms(self) -> None:
        """If-None-Match and If-Match are a star or one ETag; other forms are not built."""
        self.assertIsNone(write_condition(fields()))
        self.assertEqual(write_condition(fields(if_none_match="*")), WriteCondition(if_none_match="*"))
        self.assertEqual(write_condition(fields(if_none_match='W/"e1"')), WriteCondition(if_none_match="e1"))
        self.assertEqual(write_condition(fields(if_match='"e1"')), WriteCondition(if_match="e1"))
        for headers in (
            {"if_none_match": '"e1", "e2"'},
            {"if_none_match": " "},
            {"if_none_match": "*", "if_match": "*"},
            {"if_modified_since": DATE},
            {"if_unmodified_since": DATE},
        ):
            error = self.assertRaises(S3Error, write_condition, fields(**headers))
            self.assertEqual(error.code, "NotImplemented", headers)

    def test_early_check(self) -> None:
        """What is under the key decides; a missing key is 404 for If-Match."""
        check_write(None, None)
        check_write(WriteCondition(if_none_match="*"), None)
        check_write(WriteCondition(if_none_match="e1"), None)
        check_write(WriteCondition(if_none_match="e1"), "e2")
        check_write(WriteCondition(if_match="e1"), "e1")
        check_write(WriteCondition(if_match="*"), "e1")
        for condition, etag, code in (
            (WriteCondition(if_none_match="*"), "e1", "PreconditionFailed"),
            (WriteCondition(if_none_match="e1"), "e1", "PreconditionFailed"),
            (WriteCondition(if_match="x"), "e1", "PreconditionFailed"),
            (WriteCondition(if_match="e1"), None, "NoSuchKey"),
            (WriteCondition(if_match="*"), None, "NoSuchKey"),
        ):
            self.assertEqual(self.assertRaises(S3Error, check_write, condition, etag).code, code)

    def test_deletion(self) -> None:
        """Takes If-Match; conditions of directory buckets are refused, since ignoring one would destroy data."""
        self.assertIsNone(delete_condition(fields()))
        self.assertEqual(delete_condition(fields(if_match='"e1"')), "e1")
        for name in ("x_amz_if_match_size", "x_amz_if_match_last_modified_time", "if_none_match"):
            error = self.assertRaises(S3Error, delete_condition, fields(**{name: "1"}))
            self.assertEqual(error.code, "NotImplemented")
