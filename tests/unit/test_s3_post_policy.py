"""Policies of forms: what they may say, and what they let through."""

import json
from base64 import b64encode
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from coldstore.s3.errors import S3Error
from coldstore.s3.post_policy import PostPolicy, parse_policy

EXPIRES = "2026-01-02T04:00:00.000Z"
EXPIRES_AT = datetime(2026, 1, 2, 4, tzinfo=UTC).timestamp()


def encoded(document: object) -> str:
    """Return a policy as forms carry it."""
    text = document if isinstance(document, str) else json.dumps(document)
    return b64encode(text.encode()).decode()


def policy_of(*conditions: object) -> PostPolicy:
    """Return a policy with these conditions."""
    return parse_policy(encoded({"expiration": EXPIRES, "conditions": list(conditions)}))


class ParsingTests(SynchronousTestCase):
    """From the field to a policy."""

    def refused(self, document: object) -> str:
        """Return the message with which a policy is refused."""
        error = self.assertRaises(S3Error, parse_policy, encoded(document))
        self.assertEqual(error.code, "InvalidPolicyDocument")
        return error.message

    def test_expiration(self) -> None:
        """A time of ISO 8601, in UTC, with or without a fraction."""
        for text in (EXPIRES, "2026-01-02T04:00:00Z", "2026-01-02T04:00:00+00:00"):
            self.assertEqual(
                parse_policy(encoded({"expiration": text, "conditions": []})).expires_at, EXPIRES_AT
            )
        for value in ("", "tomorrow", "2026-13-02T04:00:00Z", "2026-01-02", 5, None, [EXPIRES]):
            self.assertIn("expiration", self.refused({"expiration": value, "conditions": []}))

    def test_members(self) -> None:
        """Both members are there, by exactly these names, and nothing else is."""
        for document, said in (
            ({"conditions": []}, "missing expiration"),
            ({"expiration": EXPIRES}, "missing conditions"),
            ({"expiration": EXPIRES, "conditions": {}}, "missing conditions"),
            ({"EXPIRATION": EXPIRES, "conditions": []}, "Unexpected: 'EXPIRATION'"),
            ({"expiration": EXPIRES, "CONDITIONS": []}, "Unexpected: 'CONDITIONS'"),
            ([], "not an object"),
            ("{", "Invalid JSON"),
            ("[" * 100_000, "Invalid JSON"),
        ):
            self.assertIn(said, self.refused(document))
        error = self.assertRaises(S3Error, parse_policy, "not base64!")
        self.assertEqual(error.code, "InvalidPolicyDocument")

    def test_conditions(self) -> None:
        """A condition that is none is named."""
        for condition, said in (
            ({}, "exactly one property"),
            ({"a": "1", "b": "2"}, "exactly one property"),
            ({"a": []}, "not a text"),
            ([], "Invalid Condition"),
            ([1, "$key", "a"], "Invalid Condition"),
            (["like", "$key", "a"], "unknown operation 'like'"),
            (["eq", "$key"], "wrong number of arguments"),
            (["eq", "key", "a"], "does not begin with '$'"),
            (["content-length-range", 0], "least and a most"),
            (["content-length-range", 0, 1, 2], "least and a most"),
            (["content-length-range", -1, 5], "no number of bytes"),
            (["content-length-range", "x", 5], "no number of bytes"),
            (["content-length-range", True, 5], "no number of bytes"),
            (["content-length-range", 1e3, 5], "no number of bytes"),
            (None, "Invalid Condition"),
        ):
            self.assertIn(said, self.refused({"expiration": EXPIRES, "conditions": [condition]}))

    def test_length_range(self) -> None:
        """Of several ranges what all of them allow; numbers may be text."""
        policy = policy_of(["content-length-range", 1, "100"], ["CONTENT-LENGTH-RANGE", "10", 200])
        self.assertEqual((policy.least_bytes, policy.most_bytes), (10, 100))

    def test_escaped_dollar(self) -> None:
        r"""``\$`` is a dollar sign, which JSON does not know; ``\\$`` is a backslash before one."""
        document = (
            '{"expiration": "%s", "conditions": [{"bucket": "b"}, ["eq", "$key", "\\$a"], {"x": "\\\\$b"}]}'
        )
        conditions = parse_policy(encoded(document % EXPIRES)).conditions
        self.assertEqual([condition.value for condition in conditions], ["b", "$a", "\\$b"])

    @given(st.text() | st.binary().map(lambda raw: b64encode(raw).decode()))
    def test_anything(self, text: str) -> None:
        """Whatever the field holds, it is a policy or is refused as none."""
        try:
            parse_policy(text)
        except S3Error as error:
            self.assertEqual(error.code, "InvalidPolicyDocument")


class CheckTests(SynchronousTestCase):
    """Which forms keep to a policy."""

    def check(self, policy: PostPolicy, fields: dict[str, str], *, now: float = EXPIRES_AT - 1) -> str:
        """Return why a form is refused, empty for one that is not."""
        try:
            policy.check_fields(fields, bucket="b", now=now)
        except S3Error as error:
            self.assertEqual(error.code, "AccessDenied")
            return error.message
        return ""

    def test_expired(self) -> None:
        """A policy ends at its time."""
        policy = policy_of({"bucket": "b"})
        self.assertEqual(self.check(policy, {}), "")
        self.assertIn("expired", self.check(policy, {}, now=EXPIRES_AT))

    def test_bucket(self) -> None:
        """The bucket is the address's, and a policy must name it."""
        self.assertIn("eq", self.check(policy_of({"bucket": "other"}), {"bucket": "other"}))
        self.assertIn("bucket", self.check(policy_of(), {}))
        self.assertEqual(self.check(policy_of({"bUcKeT": "b"}), {}), "")

    def test_fields(self) -> None:
        """Each condition holds, names counting in any case and values as they are; each field has one."""
        bucket = {"bucket": "b"}
        for condition, fields, is_fine in (
            (["eq", "$key", "a"], {"key": "a"}, True),
            (["eq", "$KEY", "a"], {"key": "a"}, True),
            (["EQ", "$key", "a"], {"key": "A"}, False),
            (["starts-with", "$key", "user/"], {"key": "user/x"}, True),
            (["starts-with", "$key", "user/"], {"key": "other"}, False),
            (["starts-with", "$key", ""], {"key": "anything"}, True),
            (["starts-with", "$key", ""], {}, False),
            (["starts-with", "$Content-Type", "image/"], {"content-type": "image/png, image/gif"}, True),
            (["starts-with", "$Content-Type", "image/"], {"content-type": "image/png,text/html"}, False),
            ({"x-amz-meta-a": "1"}, {"x-amz-meta-a": "1"}, True),
            ({"x-amz-meta-a": "1"}, {"x-amz-meta-a": "1", "x-amz-meta-b": "2"}, False),
            ({"success_action_status": 201}, {"success_action_status": "201"}, True),
        ):
            self.assertEqual(self.check(policy_of(bucket, condition), fields) == "", is_fine, condition)

    def test_exempt_fields(self) -> None:
        """The signature, the policy itself and what is to be ignored need no condition."""
        fields = dict.fromkeys(
            ("policy", "signature", "x-amz-signature", "awsaccesskeyid", "x-ignore-me"), "x"
        )
        self.assertEqual(self.check(policy_of({"bucket": "b"}), fields), "")
        self.assertIn("x-amz-date", self.check(policy_of({"bucket": "b"}), {**fields, "x-amz-date": "x"}))
