"""Reading policies: what is one, and what is refused and why."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.objects import User
from coldstore.plan.policy import stored
from coldstore.plan.policy.actions import ACTIONS, actions_like, known_action
from coldstore.plan.policy.document import SIZE_MAX_BYTES, read_bucket_policy, read_user_policy
from coldstore.plan.policy.errors import MalformedPolicy
from coldstore.plan.policy.principals import known_among
from coldstore.plan.policy.statements import Policy

ANN = User(user_id="a" * 64, name="ann", created_at=0.0)
BOB = User(user_id="b" * 64, name="bob smith", created_at=0.0)
KNOWN = known_among([ANN, BOB])
GOOD: dict[str, Any] = {
    "Effect": "Allow",
    "Principal": "*",
    "Action": "s3:GetObject",
    "Resource": "arn:aws:s3:::photos/*",
}


def policy(*statements: Any, **fields: Any) -> str:
    """Write a policy of these statements."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements), **fields})


def read(text: str) -> Policy:
    """Read the policy of the bucket photos."""
    return read_bucket_policy(text, bucket="photos", known=KNOWN)


class BucketPolicyTests(SynchronousTestCase):
    """Policies of buckets."""

    def refusal(self, text: str) -> str:
        """Return why a policy is refused."""
        with self.assertRaises(MalformedPolicy) as caught:
            read(text)
        return str(caught.exception)

    def refusal_of(self, **changes: Any) -> str:
        """Return why a good statement is refused with some changes; None takes a field away."""
        fields = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
        return self.refusal(policy(fields))

    def test_forms(self) -> None:
        """One statement or several, names and lists of them, any case of actions; the text is kept."""
        text = json.dumps({"Id": "x", "Statement": GOOD})
        self.assertEqual(read(text).text, text)
        several = read(
            policy(
                {**GOOD, "Sid": "first", "Action": ["S3:getobject", "s3:Put*Tagging"]},
                {
                    "Effect": "Deny",
                    "NotPrincipal": {"AWS": ANN.user_id},
                    "NotAction": "s3:*",
                    "NotResource": "arn:aws:s3:::photos",
                },
            )
        )
        first, second = several.statements
        self.assertEqual(first.title, "statement 1 ('first')")
        self.assertEqual(
            first.actions,
            {"s3:GetObject", "s3:PutBucketTagging", "s3:PutObjectTagging", "s3:PutObjectVersionTagging"},
        )
        self.assertEqual((second.title, second.actions), ("statement 2", frozenset()))
        self.assertTrue(second.excludes_principals and second.excludes_resources)

    def test_principals(self) -> None:
        """A user is named by ARN, with or without the account, as its root, by the bare id, and as CanonicalUser."""
        for principal, user_ids in (
            ({"AWS": f"arn:aws:iam::{ANN.user_id}:user/ann"}, {ANN.user_id}),
            ({"AWS": "arn:aws:iam:::user/bob smith"}, {BOB.user_id}),
            ({"AWS": f"arn:aws:iam::{ANN.user_id}:root"}, {ANN.user_id}),
            ({"AWS": [ANN.user_id], "CanonicalUser": BOB.user_id}, {ANN.user_id, BOB.user_id}),
        ):
            principals = read(policy({**GOOD, "Principal": principal})).statements[0].principals
            assert principals is not None
            self.assertEqual((principals.user_ids, principals.everybody), (user_ids, False))
        for principal in ("*", {"AWS": "*"}, {"AWS": ["*", ANN.user_id]}):
            principals = read(policy({**GOOD, "Principal": principal})).statements[0].principals
            assert principals is not None
            self.assertTrue(principals.everybody)

    def test_unknown_principals(self) -> None:
        """Whoever is no user is refused, by how he was written."""
        for principal in (
            {"AWS": "arn:aws:iam::123456789012:user/ann"},
            {"AWS": f"arn:aws:iam::{BOB.user_id}:user/ann"},
            {"AWS": "arn:aws:iam:::user/carol"},
            {"AWS": "arn:aws:iam:::user/*"},
            {"AWS": "arn:aws:iam:::root"},
            {"AWS": "ann"},
            {"CanonicalUser": "*"},
            {"CanonicalUser": f"arn:aws:iam::{ANN.user_id}:root"},
            {"Service": "logging.s3.amazonaws.com"},
            {"AWS": []},
            {"AWS": 7},
            {},
            [],
            "ann",
            7,
        ):
            self.assertIn("Invalid principal in policy", self.refusal_of(Principal=principal), principal)

    def test_faults(self) -> None:
        """Every fault is told with its statement."""
        for text, named in (
            ("", "valid JSON and the first byte must be '{'"),
            ("[]", "first byte must be '{'"),
            ("{" * 3000, "valid JSON"),
            ("[" * 20_000, "nested too deeply"),
            ('{"Statement": NaN}', "there is NaN"),
            ('{"Version": "2012-10-17", "Version": "2012-10-17"}', "'Version' is there twice in one object"),
            (policy(GOOD, Version="2020-01-01"), "valid version string: '2020-01-01'"),
            (policy(GOOD, Version=2012), "valid version string"),
            (policy(GOOD, Id=1), "Id must be text"),
            (policy(GOOD, Owner="me"), "Unknown field 'Owner'"),
            (json.dumps({"Version": "2012-10-17"}), "Missing required field Statement"),
            (policy(), "Missing required field Statement"),
            (policy(GOOD, "x"), "must be an object, or a list of objects (statement 2)"),
            (
                policy({**GOOD, "Sid": "a"}, {**GOOD, "Sid": "a"}),
                "must be unique: another one has the same (statement 2 ('a'))",
            ),
            (policy(GOOD) + " " * SIZE_MAX_BYTES, "limited to 20480 bytes"),
        ):
            self.assertIn(named, self.refusal(text), text[:100])
        arn = "arn:aws:s3:::"
        for changes, named in (
            ({"Sid": 7}, "Sid must be text (statement 1)"),
            (
                {"Sid": "mine", "Effect": "allow"},
                "Invalid effect: 'allow'; there are Allow and Deny (statement 1 ('mine'))",
            ),
            ({"Effect": None}, "Missing required field Effect"),
            ({"Effect": ["Allow"]}, "Invalid effect"),
            ({"Principal": None}, "Missing required field Principal"),
            ({"NotPrincipal": "*"}, "Principal and NotPrincipal cannot both be"),
            (
                {"Principal": None, "NotPrincipal": {"AWS": ANN.user_id}},
                "Allow with NotPrincipal is not allowed",
            ),
            ({"Action": None}, "Missing required field Action"),
            ({"Action": []}, "Action must be text or a list of texts"),
            ({"Action": "s3:GetObjects"}, "invalid action: 's3:GetObjects' is none that S3 knows"),
            ({"Action": "ec2:*"}, "invalid action"),
            (
                {"Action": ["s3:GetObject", "s3:ListBucket"]},
                "'s3:ListBucket' is of a bucket (arn:aws:s3:::BUCKET)",
            ),
            ({"Resource": f"{arn}photos"}, "'s3:GetObject' is of objects"),
            ({"Action": "s3:ListAllMyBuckets"}, "does not apply to any resource"),
            ({"Resource": None}, "Missing required field Resource"),
            ({"Resource": f"{arn}other/*"}, "'arn:aws:s3:::other/*' is not in bucket photos"),
            ({"Resource": f"{arn}photosx*/k"}, "is not in bucket photos"),
            ({"Resource": "photos/*"}, "invalid resource: 'photos/*'"),
            ({"Resource": f"{arn}${{aws:username}}/*"}, "is not in bucket photos"),
            ({"Resource": f"{arn}photos/${{"}, "no policy variable"),
            ({"Resource": {}}, "Resource must be text"),
            ({"Condition": []}, "Condition must be an object"),
            ({"Condition": {"StringLike": {}}}, "'StringLike' must be an object of condition keys"),
            ({"Condition": {"StringLike": {"aws:Referer": []}}}, "'aws:Referer' has no value"),
            ({"Condition": {"StringLike": {"aws:Referer": {}}}}, "must be text, a number"),
            ({"Condition": {"StringLike": {"aws:Referrer": "a"}}}, "invalid condition key: 'aws:Referrer'"),
            ({"Conditions": {}}, "Unknown field 'Conditions'"),
        ):
            message = self.refusal_of(**changes)
            self.assertIn(named, message, changes)
            self.assertIn("statement 1", message)

    def test_resources(self) -> None:
        """A resource is the bucket, or in it; a star in its name may stand for more than the name."""
        for resource in (
            "*",
            "arn:aws:s3:::*",
            "arn:aws:s3:::*/*",
            "arn:aws:s3:::ph?tos/k",
            "arn:aws:s3:::pho*k",
            "arn:aws:s3:::photos/${aws:username}/*",
        ):
            read(policy({**GOOD, "Resource": resource}))

    def test_variables_by_version(self) -> None:
        """Before version 2012-10-17 there are none."""
        statement = {**GOOD, "Resource": "arn:aws:s3:::photos/${nonsense"}
        read(policy(statement, Version="2008-10-17"))
        self.refusal(policy(statement))

    def test_values(self) -> None:
        """Numbers and truth values need no quotes."""
        conditions = {"Bool": {"aws:SecureTransport": False}, "NumericLessThan": {"s3:max-keys": 10}}
        statement = {**GOOD, "Action": "s3:*", "Condition": conditions}
        found = read(policy(statement)).statements[0].conditions
        self.assertEqual([condition.values for condition in found], [("false",), ("10",)])

    def test_stored(self) -> None:
        """What is kept has the text and whom it means: a later user of the same name is somebody else."""
        text = policy({**GOOD, "Principal": {"AWS": ["arn:aws:iam:::user/ann", BOB.user_id]}})
        again = stored.read(stored.written(read(text), "photos"))
        self.assertEqual(again.text, text)
        principals = again.statements[0].principals
        assert principals is not None
        self.assertEqual(principals.user_ids, {ANN.user_id, BOB.user_id})

    @given(
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats()
            | st.text(max_size=5)
            | st.sampled_from(["*", "s3:*", "Allow", "2012-10-17"]),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        [
                            "Version",
                            "Statement",
                            "Effect",
                            "Principal",
                            "Action",
                            "Resource",
                            "Condition",
                            "AWS",
                            "StringLike",
                            "aws:Referer",
                            "Sid",
                        ]
                    ),
                    inner,
                    max_size=6,
                )
            ),
            max_leaves=30,
        )
    )
    def test_anything(self, document: object) -> None:
        """Whatever JSON it is, it is read or refused."""
        try:
            read(json.dumps(document))
        except MalformedPolicy as fault:
            self.assertTrue(str(fault).isprintable())


class UserPolicyTests(SynchronousTestCase):
    """Policies of users."""

    def test_no_principal(self) -> None:
        """They name nobody."""
        statement = {name: value for name, value in GOOD.items() if name != "Principal"}
        self.assertIsNone(read_user_policy(policy(statement)).statements[0].principals)
        with self.assertRaises(MalformedPolicy) as caught:
            read_user_policy(policy(GOOD))
        self.assertIn("should not specify a principal", str(caught.exception))

    def test_resources(self) -> None:
        """They may be about any bucket, and about the account."""
        for action, resource in (
            ("s3:ListAllMyBuckets", "*"),
            ("s3:GetObject", "arn:aws:s3:::${aws:username}/*"),
        ):
            read_user_policy(policy({"Effect": "Allow", "Action": action, "Resource": resource}))


class ActionTests(SynchronousTestCase):
    """Names of actions."""

    def test_names(self) -> None:
        """Each is known in any case, by itself and by wildcards."""
        self.assertEqual(known_action("S3:LISTBUCKET"), "s3:ListBucket")
        self.assertIsNone(known_action("s3:List*"))
        self.assertEqual(actions_like("s3:?etObjectAcl"), {"s3:GetObjectAcl"})
        self.assertEqual(actions_like("*"), frozenset(ACTIONS))
        self.assertEqual(actions_like("s3:"), frozenset())
