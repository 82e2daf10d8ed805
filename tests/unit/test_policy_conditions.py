"""Conditions of policies: every operator, with values, without, and with several."""

from twisted.trial.unittest import SynchronousTestCase

from coldstore.plan.policy.asked import Question
from coldstore.plan.policy.conditions import FAMILIES, read_condition
from coldstore.plan.policy.errors import MalformedPolicy
from coldstore.plan.policy.explanation import Given


def holds(operator: str, values: tuple[str, ...], *given: str, key: str = "aws:username") -> bool:
    """Tell whether a condition holds for a request that has these values under its key, and a referer."""
    circumstances = Given(
        {key.lower(): given, "aws:referer": ("bob",), "s3:existingobjecttag/Team": ("Red",)}
    )
    question = Question(user_id="u", action="s3:GetObject", resource="r", circumstances=circumstances)
    condition = read_condition(operator, key, values, variables=True)
    return condition.holds(circumstances, question.look_up)


class OperatorTests(SynchronousTestCase):
    """What each operator compares."""

    def test_each(self) -> None:
        """An operator, a value of the condition, one of the request, and whether it holds."""
        for operator, wanted, given, expected in (
            ("StringEquals", "bob", "bob", True),
            ("StringEquals", "Bob", "bob", False),
            ("StringEquals", "b*", "bob", False),
            ("StringEquals", "${aws:Referer}", "bob", True),
            ("StringNotEquals", "bob", "bob", False),
            ("StringNotEquals", "bob", "ann", True),
            ("StringEqualsIgnoreCase", "BOB", "bob", True),
            ("StringNotEqualsIgnoreCase", "BOB", "bob", False),
            ("StringEqualsIgnoreCase", "${aws:referer}", "BOB", True),
            ("StringEqualsIgnoreCase", "X${s3:ExistingObjectTag/Team}", "xRed", True),
            ("StringNotEqualsIgnoreCase", "${s3:ExistingObjectTag/Team}", "red", False),
            ("StringEqualsIgnoreCase", "${aws:userid, 'Nobody'}", "NOBODY", True),
            ("StringLike", "b*", "bob", True),
            ("StringNotLike", "b*", "bob", False),
            ("NumericEquals", "10", "10.0", True),
            ("NumericNotEquals", "10", "11", True),
            ("NumericLessThan", "10", "9", True),
            ("NumericLessThan", "10", "10", False),
            ("NumericLessThanEquals", "10", "10", True),
            ("NumericGreaterThan", "10", "10", False),
            ("NumericGreaterThanEquals", "10", "10", True),
            ("NumericLessThan", "10", "many", False),
            ("DateLessThan", "2026-01-01T00:00:00Z", "2025-12-31T23:59:59Z", True),
            ("DateGreaterThan", "2026-01-01", "2026-01-01T00:00:01Z", True),
            ("DateEquals", "1767225600", "2026-01-01T00:00:00Z", True),
            ("DateNotEquals", "2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00Z", False),
            ("Bool", "true", "TRUE", True),
            ("Bool", "false", "true", False),
            ("IpAddress", "10.0.0.0/8", "10.1.2.3", True),
            ("IpAddress", "10.0.0.1", "10.0.0.2", False),
            ("IpAddress", "10.0.0.0/8", "::1", False),
            ("IpAddress", "2001:db8::/32", "2001:db8::5", True),
            ("IpAddress", "10.0.0.0/8", "nowhere", False),
            ("NotIpAddress", "10.0.0.0/8", "10.1.2.3", False),
            ("NotIpAddress", "10.0.0.0/8", "11.1.2.3", True),
            ("ArnLike", "arn:aws:iam::*:user/a*", "arn:aws:iam::1:user/ann", True),
            ("ArnEquals", "arn:aws:iam::?:*", "arn:aws:iam::1:user/ann", True),
            ("ArnEquals", "arn:aws:iam::?:*", "user/ann", False),
            ("ArnNotLike", "arn:aws:iam::*:user/a*", "arn:aws:iam::1:user/bob", True),
            ("ArnNotEquals", "arn:aws:iam::1:user/bob", "arn:aws:iam::1:user/bob", False),
            ("ArnLike", "*", "arn:aws:iam::1:user/bob", True),
            ("Null", "true", "x", False),
            ("Null", "false", "x", True),
        ):
            self.assertIs(holds(operator, (wanted,), given), expected, (operator, wanted, given))

    def test_absent(self) -> None:
        """Without a value nothing is as it is wanted, and everything is otherwise; IfExists lets that pass."""
        values = {
            "Numeric": "1",
            "Date": "2026-01-01",
            "Bool": "true",
            "IpAddress": "10.0.0.1",
            "NotIpAddress": "10.0.0.1",
            "Arn": "arn:aws:iam::1:user/bob",
        }
        for operator, family in FAMILIES.items():
            wanted = next((value for begin, value in values.items() if operator.startswith(begin)), "true")
            if operator == "Null":
                self.assertTrue(holds(operator, ("true",)))
                self.assertFalse(holds(operator, ("false",)))
                continue
            self.assertIs(holds(operator, (wanted,)), family.is_negated, operator)
            self.assertTrue(holds(f"{operator}IfExists", (wanted,)), operator)
            self.assertFalse(holds(f"ForAnyValue:{operator}", (wanted,)), operator)
            self.assertTrue(holds(f"ForAllValues:{operator}", (wanted,)), operator)

    def test_several(self) -> None:
        """Of the condition's values one is enough; of the request's any or all must pass, as it says."""
        for operator, wanted, given, expected in (
            ("StringEquals", ("a", "b"), ("b",), True),
            ("StringNotEquals", ("a", "b"), ("b",), False),
            ("ForAnyValue:StringEquals", ("a", "b"), ("c", "b"), True),
            ("ForAnyValue:StringEquals", ("a", "b"), ("c",), False),
            ("ForAllValues:StringEquals", ("a", "b"), ("a", "b", "a"), True),
            ("ForAllValues:StringEquals", ("a", "b"), ("a", "c"), False),
            ("ForAllValues:StringNotEquals", ("a",), ("b", "c"), True),
            ("ForAllValues:StringNotEquals", ("a",), ("b", "a"), False),
            ("ForAnyValue:StringNotLike", ("a*",), ("b", "a"), True),
            ("StringEquals", ("a",), ("b", "a"), True),
            ("StringNotEquals", ("a",), ("b", "a"), False),
        ):
            self.assertIs(holds(operator, wanted, *given), expected, (operator, wanted, given))

    def test_faults(self) -> None:
        """What is no operator, key or value is refused by name."""
        for operator, key, value, named in (
            ("StringMatches", "aws:username", "a", "Invalid Condition type: 'StringMatches'"),
            ("ForEachValue:StringLike", "aws:username", "a", "Invalid Condition type"),
            ("NullIfExists", "aws:username", "true", "Invalid Condition type"),
            ("StringLike", "aws:user", "a", "invalid condition key: 'aws:user'"),
            ("StringLike", "s3:ExistingObjectTag/", "a", "invalid condition key"),
            ("NumericEquals", "s3:max-keys", "ten", "NumericEquals s3:max-keys: 'ten' is no number"),
            ("DateLessThan", "aws:CurrentTime", "soon", "'soon' is no date"),
            ("Bool", "aws:SecureTransport", "yes", "'yes' is neither true nor false"),
            ("IpAddress", "aws:SourceIp", "10.0.0.0/40", "no range of IP addresses"),
            ("ArnLike", "aws:PrincipalArn", "alice", "'alice' is no ARN"),
            ("ArnLike", "aws:PrincipalArn", "arn:aws:*:user/ann", "is no ARN"),
        ):
            with self.assertRaises(MalformedPolicy) as caught:
                read_condition(operator, key, (value,), variables=True)
            self.assertIn(named, str(caught.exception))
