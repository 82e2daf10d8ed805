"""Policies of users in an operator's words."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from coldstore.plan.policy.asked import Question
from coldstore.plan.policy.canned import user_policy
from coldstore.plan.policy.decision import Policies, UserPolicyRead
from coldstore.plan.policy.document import read_user_policy
from coldstore.plan.policy.errors import MalformedPolicy
from coldstore.plan.policy.explanation import Given

ACTIONS = {
    "get": ("s3:GetObject", "k"),
    "list": ("s3:ListBucket", ""),
    "put": ("s3:PutObject", "k"),
    "delete": ("s3:DeleteObject", "k"),
    "restore": ("s3:RestoreObject", "k"),
    "expire": ("s3:PutLifecycleConfiguration", ""),
    "share": ("s3:PutBucketPolicy", ""),
}


class CannedTests(SynchronousTestCase):
    """What each word allows."""

    def may(
        self,
        words: dict[str, Any],
        bucket: str,
        *,
        is_own: bool = True,
        key: str = "k",
        prefix: str | None = None,
    ) -> set[str]:
        """Return what of ``ACTIONS`` a user may do in a bucket."""
        read = UserPolicyRead(name="p", policy=read_user_policy(user_policy(**words)))
        known = Policies(
            owner_id="me" if is_own else "other",
            bucket=bucket,
            of_bucket=None,
            of_user=(read,),
            restricts_public=False,
        )
        given = Given({} if prefix is None else {"s3:prefix": (prefix,)})
        return {
            name
            for name, (action, of_object) in ACTIONS.items()
            if known.decide(
                Question(
                    user_id="me",
                    action=action,
                    resource=f"arn:aws:s3:::{bucket}" + (f"/{key}" if of_object else ""),
                    circumstances=given,
                )
            ).is_allowed
        }

    def test_words(self) -> None:
        """Where, of one's own and of others, and what."""
        everything = set(ACTIONS)
        for words, own, others in (
            ({"read_only": True}, {"get", "list"}, set()),
            ({"read_only": True, "may_restore": True}, {"get", "list", "restore"}, set()),
            ({"may_restore": True}, {"restore"}, set()),
            ({"no_delete": True}, {"get", "list", "put", "restore"}, set()),
            ({"buckets": ["photos"]}, everything, everything),
            ({"buckets": ["other"]}, set(), set()),
            ({"buckets": ["photos"], "read_only": True}, {"get", "list"}, {"get", "list"}),
            (
                {"buckets": ["photos"], "no_delete": True},
                {"get", "list", "put", "restore"},
                {"get", "list", "put", "restore"},
            ),
        ):
            self.assertEqual(self.may(words, "photos"), own, words)
            self.assertEqual(self.may(words, "photos", is_own=False), others, words)

    def test_prefix(self) -> None:
        """What is below a prefix, and its list; of a prefix every character counts as it is."""
        words = {"prefixes": ["photos/20*/"], "read_only": True}
        self.assertEqual(self.may(words, "photos", key="20*/k", prefix="20*/"), {"get", "list"})
        self.assertEqual(self.may(words, "photos", key="2026/k", prefix="2026/"), set())
        self.assertEqual(self.may(words, "photos", key="20*/k"), {"get"})
        self.assertEqual(self.may(words, "other", key="20*/k", prefix="20*/"), set())

    def test_faults(self) -> None:
        """No words, and places that are none, are refused."""
        for words in (
            {},
            {"buckets": ["photos/2026"]},
            {"buckets": [""]},
            {"buckets": ["photos/"]},
            {"buckets": ["*"]},
            {"prefixes": ["photos"]},
            {"prefixes": ["photos/"]},
            {"prefixes": ["/2026"]},
        ):
            self.assertRaises(MalformedPolicy, user_policy, **words)
