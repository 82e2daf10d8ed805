"""What policies come to, taken together: by the tables of AWS's documentation, and against an evaluator that does it in the plainest way."""

import json
from collections.abc import Sequence
from itertools import product
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.objects import User
from coldstore.plan.policy.asked import Question
from coldstore.plan.policy.decision import Ground, Policies, UserPolicyRead
from coldstore.plan.policy.document import read_bucket_policy, read_user_policy
from coldstore.plan.policy.explanation import Given, explained
from coldstore.plan.policy.principals import known_among

ANN, BOB = (User(user_id=name * 2, name=name, created_at=0.0) for name in ("ann", "bob"))
NOBODY = ""
KNOWN = known_among([ANN, BOB])
OBJECT, BUCKET = "arn:aws:s3:::photos/k", "arn:aws:s3:::photos"
Statement = dict[str, Any]


def allow(action: str = "s3:GetObject", resource: str = "arn:aws:s3:::photos/*", **more: Any) -> Statement:
    """Return a statement that allows something."""
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(*args: str, **more: Any) -> Statement:
    """Return a statement that denies it."""
    return {**allow(*args, **more), "Effect": "Deny"}


def written(statements: Sequence[Statement]) -> str:
    """Write a policy."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def policies(
    of_bucket: Sequence[Statement] = (), *of_user: Sequence[Statement], restricts_public: bool = False
) -> Policies:
    """Return the policies of ann's bucket photos, and of who asks."""
    return Policies(
        owner_id=ANN.user_id,
        bucket="photos",
        of_bucket=read_bucket_policy(written(of_bucket), bucket="photos", known=KNOWN) if of_bucket else None,
        of_user=tuple(
            UserPolicyRead(name=f"p{number}", policy=read_user_policy(written(statements)))
            for number, statements in enumerate(of_user)
        ),
        restricts_public=restricts_public,
    )


def question(user_id: str, action: str = "s3:GetObject", resource: str = OBJECT, **given: str) -> Question:
    """Ask; underscores in condition keys stand for colons."""
    values = {key.replace("_", ":"): (value,) for key, value in given.items()}
    return Question(user_id=user_id, action=action, resource=resource, circumstances=Given(values))


EVERYBODY = {"Principal": "*"}
TO_BOB = {"Principal": {"AWS": BOB.user_id}}


class DecisionTests(SynchronousTestCase):
    """Who may do what."""

    def assert_ground(self, ground: Ground, known: Policies, asked: Question) -> None:
        """Check why a question is answered as it is."""
        self.assertIs(known.decide(asked).ground, ground)

    def test_without_policies(self) -> None:
        """The owner may do everything, and nobody else anything."""
        self.assert_ground(Ground.OWNER, policies(), question(ANN.user_id))
        for user_id in (BOB.user_id, NOBODY):
            self.assert_ground(Ground.NOTHING_ALLOWS, policies(), question(user_id))

    def test_policy_of_a_bucket(self) -> None:
        """It allows whom it names, and an explicit denial counts before all that allows, of the owner's rights too."""
        to_bob = policies([allow(**TO_BOB)])
        self.assert_ground(Ground.BUCKET_POLICY, to_bob, question(BOB.user_id))
        self.assert_ground(Ground.NOTHING_ALLOWS, to_bob, question(NOBODY))
        self.assert_ground(Ground.NOTHING_ALLOWS, to_bob, question(BOB.user_id, "s3:PutObject"))
        self.assert_ground(Ground.BUCKET_POLICY, policies([allow(**EVERYBODY)]), question(NOBODY))
        denying = policies([allow(**EVERYBODY), deny(**EVERYBODY)])
        for user_id in (ANN.user_id, BOB.user_id, NOBODY):
            self.assert_ground(Ground.DENIED, denying, question(user_id))
        but_bob = policies([allow(**EVERYBODY), deny(NotPrincipal={"AWS": BOB.user_id})])
        self.assert_ground(Ground.BUCKET_POLICY, but_bob, question(BOB.user_id))
        self.assert_ground(Ground.DENIED, but_bob, question(NOBODY))

    def test_owner_is_never_locked_out(self) -> None:
        """The policy of his bucket is the owner's to read, replace and remove, whatever it says."""
        known = policies([deny("s3:*", "*", **EVERYBODY)])
        for action in ("s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"):
            self.assert_ground(Ground.OWNER, known, question(ANN.user_id, action, BUCKET))
            self.assert_ground(Ground.DENIED, known, question(BOB.user_id, action, BUCKET))
        self.assert_ground(Ground.DENIED, known, question(ANN.user_id, "s3:GetBucketPolicyStatus", BUCKET))
        mine = policies([], [deny("s3:PutBucketPolicy", "*")])
        self.assert_ground(Ground.DENIED, mine, question(ANN.user_id, "s3:PutBucketPolicy", BUCKET))

    def test_policies_of_a_user(self) -> None:
        """They are the most that he may do, in his own buckets and where others allow him more; several come to all of them."""
        reading = [allow("s3:Get*", "*")]
        self.assert_ground(Ground.USER_POLICY, policies([], reading), question(ANN.user_id))
        self.assert_ground(
            Ground.BEYOND_USER_POLICIES, policies([], reading), question(ANN.user_id, "s3:PutObject")
        )
        both = policies([], reading, [allow("s3:PutObject", "*")])
        self.assert_ground(Ground.USER_POLICY, both, question(ANN.user_id, "s3:PutObject"))
        shared = [allow("s3:*", "*", **TO_BOB)]
        self.assert_ground(Ground.BUCKET_POLICY, policies(shared, reading), question(BOB.user_id))
        self.assert_ground(
            Ground.BEYOND_USER_POLICIES, policies(shared, reading), question(BOB.user_id, "s3:PutObject")
        )
        denying = policies([], reading, [deny("s3:GetObject", "*")])
        self.assert_ground(Ground.DENIED, denying, question(ANN.user_id))

    def test_only_denials(self) -> None:
        """Policies of a user that allow nothing leave what they do not deny."""
        known = policies([], [deny("s3:DeleteObject", "*")])
        self.assert_ground(Ground.OWNER, known, question(ANN.user_id))
        self.assert_ground(Ground.DENIED, known, question(ANN.user_id, "s3:DeleteObject"))
        self.assert_ground(Ground.NOTHING_ALLOWS, known, question(BOB.user_id))

    def test_grants(self) -> None:
        """In another's bucket a user's policy allows what it says only if it names that; not by a wildcard."""
        for resource, ground in (
            ("arn:aws:s3:::photos/*", Ground.USER_POLICY),
            ("arn:aws:s3:::photos/k", Ground.USER_POLICY),
            ("*", Ground.NOTHING_ALLOWS),
            ("arn:aws:s3:::*", Ground.NOTHING_ALLOWS),
            ("arn:aws:s3:::photos*", Ground.NOTHING_ALLOWS),
            ("arn:aws:s3:::phot?s/*", Ground.NOTHING_ALLOWS),
            ("arn:aws:s3:::photos/other", Ground.BEYOND_USER_POLICIES),
        ):
            self.assert_ground(ground, policies([], [allow("s3:*", resource)]), question(BOB.user_id))
        named = policies([], [allow("s3:*", BUCKET)])
        self.assert_ground(Ground.USER_POLICY, named, question(BOB.user_id, "s3:ListBucket", BUCKET))
        against = policies([deny(**EVERYBODY)], [allow("s3:*", "arn:aws:s3:::photos/*")])
        self.assert_ground(Ground.DENIED, against, question(BOB.user_id))

    def test_public_access_block(self) -> None:
        """What a public policy allows is restricted to the owner, also to those whom it names; one that is not public is not."""
        public = policies([allow(**EVERYBODY), allow("s3:PutObject", **TO_BOB)], restricts_public=True)
        self.assert_ground(Ground.PUBLIC_IS_BLOCKED, public, question(NOBODY))
        self.assert_ground(Ground.PUBLIC_IS_BLOCKED, public, question(BOB.user_id, "s3:PutObject"))
        self.assert_ground(Ground.OWNER, public, question(ANN.user_id))
        private = policies([allow(**TO_BOB)], restricts_public=True)
        self.assert_ground(Ground.BUCKET_POLICY, private, question(BOB.user_id))

    def test_conditions(self) -> None:
        """All of them must hold."""
        conditions = {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}, "Bool": {"aws:SecureTransport": "true"}}
        known = policies([allow(**EVERYBODY, Condition=conditions)])
        for address, secure, ground in (
            ("10.1.1.1", "true", Ground.BUCKET_POLICY),
            ("10.1.1.1", "false", Ground.NOTHING_ALLOWS),
            ("11.1.1.1", "true", Ground.NOTHING_ALLOWS),
        ):
            asked = question(NOBODY, aws_sourceip=address, aws_securetransport=secure)
            self.assert_ground(ground, known, asked)

    def test_reasons(self) -> None:
        """The statement that decides is named, and where it stands."""
        for known, asked, reason in (
            (
                policies([allow(**EVERYBODY), deny(**EVERYBODY, Sid="no")]),
                question(ANN.user_id),
                "denied by statement 2 ('no') of the bucket's policy",
            ),
            (
                policies([], [allow("s3:Get*", "*", Sid="a")]),
                question(ANN.user_id),
                "allowed by statement 1 ('a') of user policy 'p0'",
            ),
            (
                policies([allow(**TO_BOB)]),
                question(BOB.user_id),
                "allowed by the bucket's policy, statement 1",
            ),
            (policies(), question(ANN.user_id), "the bucket's owner may do everything in it"),
        ):
            self.assertEqual(known.decide(asked).reason, reason)

    def test_explanation(self) -> None:
        """Of each statement it says because of what it does not apply."""
        condition = {"StringLike": {"aws:Referer": "http://a/*"}}
        known = policies(
            [
                allow(**TO_BOB),
                allow("s3:PutObject", **EVERYBODY),
                allow(resource="arn:aws:s3:::photos/other", **EVERYBODY),
                allow(**EVERYBODY, Condition=condition),
                deny(NotPrincipal="*"),
                allow(**EVERYBODY),
            ]
        )
        decision, considered = explained(known, question(NOBODY))
        self.assertTrue(decision.is_allowed)
        self.assertEqual(
            [each.hindrance for each in considered],
            ["Principal", "Action", "Resource", "Condition StringLike aws:Referer", "NotPrincipal", ""],
        )
        self.assertEqual({each.source for each in considered}, {"the bucket's policy"})


ACTIONS = ("s3:GetObject", "s3:PutObject", "s3:ListBucket")
RESOURCES = ("*", "arn:aws:s3:::photos", "arn:aws:s3:::photos/*", "arn:aws:s3:::photos/a*", "arn:aws:s3:::*")
_statements = st.fixed_dictionaries(
    {
        "Effect": st.sampled_from(["Allow", "Deny"]),
        "Action": st.lists(st.sampled_from([*ACTIONS, "s3:Get*", "s3:*"]), min_size=1, max_size=2),
        "Resource": st.lists(st.sampled_from(RESOURCES), min_size=1, max_size=2),
    }
)
_principals = st.sampled_from(["*", {"AWS": BOB.user_id}, {"AWS": [ANN.user_id, BOB.user_id]}])
_of_bucket = st.lists(
    st.tuples(_statements, _principals).map(lambda pair: {**pair[0], "Principal": pair[1]}), max_size=3
)
_of_user = st.lists(st.lists(_statements, min_size=1, max_size=2), max_size=2)


def fits(statement: Statement) -> bool:
    """Tell whether actions and resources of a statement can go together, so that it is none that is refused."""
    covers_bucket = any("/" not in resource for resource in statement["Resource"])
    covers_objects = any("*" in resource for resource in statement["Resource"])
    needed = {
        "s3:ListBucket": covers_bucket,
        "s3:GetObject": covers_objects,
        "s3:PutObject": covers_objects,
        "s3:Get*": True,
        "s3:*": True,
    }
    return all(needed[action] for action in statement["Action"])


def naive(
    of_bucket: Sequence[Statement],
    of_user: Sequence[Sequence[Statement]],
    user_id: str,
    action: str,
    resource: str,
) -> bool:
    """Decide in the plainest way: list what applies, look for denials, look for what allows."""

    def like(pattern: str, text: str) -> bool:
        begin, star, end = pattern.partition("*")
        return text.startswith(begin) and (bool(star) or text == pattern) and text.endswith(end)

    def names(statement: Statement) -> bool:
        principal = statement.get("Principal", "*")
        return principal == "*" or user_id in (
            principal["AWS"] if isinstance(principal["AWS"], list) else [principal["AWS"]]
        )

    def applies(statement: Statement) -> bool:
        return (
            names(statement)
            and any(like(pattern, action) for pattern in statement["Action"])
            and any(like(pattern, resource) for pattern in statement["Resource"])
        )

    his = [statement for policy in of_user for statement in policy]
    applying = [statement for statement in (*of_bucket, *his) if applies(statement)]
    if any(statement["Effect"] == "Deny" for statement in applying):
        return False
    allowing = [statement for statement in his if applies(statement) and statement["Effect"] == "Allow"]
    if any(statement["Effect"] == "Allow" for statement in his) and not allowing:
        return False
    if user_id == ANN.user_id:
        return True
    named = [
        pattern
        for statement in allowing
        for pattern in statement["Resource"]
        if like(pattern, resource) and (pattern == BUCKET or pattern.startswith(BUCKET + "/"))
    ]
    return bool(named) or any(statement["Effect"] == "Allow" for statement in of_bucket if applies(statement))


class NaiveTests(SynchronousTestCase):
    """Against the plainest evaluator."""

    @settings(max_examples=300)
    @given(_of_bucket, _of_user)
    def test_as_the_plainest(self, of_bucket: list[Statement], of_user: list[list[Statement]]) -> None:
        """Every question is answered as it would."""
        of_bucket = [statement for statement in of_bucket if fits(statement)]
        of_user = [kept for listed in of_user if (kept := [one for one in listed if fits(one)])]
        known = policies(of_bucket, *of_user)
        for user_id, (action, resource) in product(
            (ANN.user_id, BOB.user_id, NOBODY),
            [(action, OBJECT) for action in ACTIONS[:2]]
            + [("s3:GetObject", "arn:aws:s3:::photos/ab"), ("s3:ListBucket", BUCKET)],
        ):
            if user_id == NOBODY:
                of_asker: list[list[Statement]] = []
                asked = policies(of_bucket)
            else:
                of_asker, asked = of_user, known
            self.assertIs(
                asked.decide(question(user_id, action, resource)).is_allowed,
                naive(of_bucket, of_asker, user_id, action, resource),
                (user_id, action, resource),
            )
