"""What is public, and what buckets do about it."""

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.objects import User
from coldstore.plan.policy.access_block import EVERYTHING, REMOVED, AccessBlock
from coldstore.plan.policy.document import read_bucket_policy
from coldstore.plan.policy.principals import known_among
from coldstore.plan.policy.publicity import public_statement

ANN = User(user_id="ann-id", name="ann", created_at=0.0)


def is_public(**changes: Any) -> bool:
    """Tell whether a policy that allows everybody to read is public, with some changes."""
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::photos/*",
    }
    text = json.dumps({"Version": "2012-10-17", "Statement": {**statement, **changes}})
    return public_statement(read_bucket_policy(text, bucket="photos", known=known_among([ANN]))) is not None


class PublicTests(SynchronousTestCase):
    """By AWS's definition."""

    def test_principals(self) -> None:
        """Everybody is public, users are not, and neither is a denial."""
        self.assertTrue(is_public())
        self.assertTrue(is_public(Principal={"AWS": ["*", "ann-id"]}))
        self.assertFalse(is_public(Principal={"AWS": "ann-id"}))
        self.assertFalse(is_public(Effect="Deny"))

    def test_conditions(self) -> None:
        """A condition makes it private that only fixed ones pass, and that does not hold for who says nothing."""
        for operator, key, value, expected in (
            ("IpAddress", "aws:SourceIp", "10.0.0.0/8", False),
            ("IpAddress", "aws:SourceIp", ["10.0.0.0/8", "192.0.0.0/7"], True),
            ("IpAddress", "aws:SourceIp", "2001:db8::/32", False),
            ("IpAddress", "aws:SourceIp", "2001::/31", True),
            ("NotIpAddress", "aws:SourceIp", "10.0.0.0/8", True),
            ("IpAddressIfExists", "aws:SourceIp", "10.0.0.0/8", True),
            ("StringEquals", "aws:userid", "ann-id", False),
            ("StringLike", "aws:userid", "ann-id", False),
            ("StringLike", "aws:userid", "ann*", True),
            ("StringEquals", "aws:userid", "${aws:userid}", True),
            ("StringNotEquals", "aws:userid", "ann-id", True),
            ("StringEqualsIfExists", "aws:userid", "ann-id", True),
            ("ForAllValues:StringEquals", "aws:userid", "ann-id", True),
            ("ForAnyValue:StringEquals", "aws:userid", "ann-id", False),
            ("ArnLike", "aws:PrincipalArn", "arn:aws:iam::ann-id:user/ann", False),
            ("StringEquals", "aws:SourceVpce", "vpce-1", False),
            ("StringEquals", "aws:Referer", "http://a/", True),
            ("Null", "aws:userid", "false", True),
        ):
            condition = {operator: {key: value}}
            self.assertIs(is_public(Condition=condition), expected, condition)


class AccessBlockTests(SynchronousTestCase):
    """The four switches."""

    def test_written(self) -> None:
        """What is written down is read again."""
        for block in (EVERYTHING, REMOVED, AccessBlock(block_public_policy=True)):
            self.assertEqual(AccessBlock.read(block.written()), block)
