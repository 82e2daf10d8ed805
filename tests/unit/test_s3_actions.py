"""Which actions operations need to be allowed."""

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import coldstore.s3
from coldstore.plan.policy.actions import ACTIONS, Kind
from coldstore.s3.actions import NEEDED, OF_VERSION, resource_of
from coldstore.s3.api import BUILT, Operation, Target
from tests.unit.policy_rig import PolicyRig
from tests.unit.test_s3_table import rows

KEY_BY_KEY = {Operation.DELETE_OBJECTS}
OF_BROWSERS = {Operation.OPTIONS_OBJECT}
"""Asked without a signature, and answered by the rules of the bucket about pages."""


class TableTests(SynchronousTestCase):
    """The table of operations and actions."""

    def test_complete(self) -> None:
        """
        Every operation needs something, but for what is judged key by key or by other rules, and every action is one that policies know.
        """
        for operation in Operation:
            self.assertIn(operation, NEEDED)
            self.assertEqual(not NEEDED[operation], operation in KEY_BY_KEY | OF_BROWSERS, operation)
        needed = {action for actions in NEEDED.values() for action in actions}
        self.assertEqual((needed | {*OF_VERSION, *OF_VERSION.values()}) - set(ACTIONS), set())

    def test_kinds(self) -> None:
        """What an operation is about is what its actions are carried out on."""
        of_objects = {*BUILT[Target.OBJECT].plain.values(), Operation.POST_OBJECT, Operation.COPY_OBJECT}
        of_objects.add(Operation.UPLOAD_PART_COPY)
        for methods in BUILT[Target.OBJECT].subresources.values():
            of_objects |= set(methods.values())
        for operation in set(Operation) - KEY_BY_KEY - OF_BROWSERS - {Operation.LIST_BUCKETS}:
            expected = Kind.OBJECT if operation in of_objects else Kind.BUCKET
            self.assertEqual({ACTIONS[action] for action in NEEDED[operation]}, {expected}, operation)

    def test_resources(self) -> None:
        """An action is carried out on the account, a bucket or an object."""
        for action, resource in (
            ("s3:ListAllMyBuckets", "*"),
            ("s3:ListBucket", "arn:aws:s3:::b"),
            ("s3:GetObject", "arn:aws:s3:::b/a/ü"),
        ):
            self.assertEqual(resource_of(action, "b", "a/ü".encode()), resource)


class EverythingTests(SynchronousTestCase):
    """Every operation of the page of operations, over HTTP."""

    def test_denied(self) -> None:
        """Neither another user nor who does not sign can do anything in a bucket that says nothing; and nothing has changed after it."""
        rig = PolicyRig()
        rig.put("/photos/KEY", b"x")
        self.assertTrue(Path(coldstore.s3.__path__[0], "OPERATIONS.md").exists())
        for row in rows():
            if not row.target.startswith("/BUCKET") or row.name in OF_BROWSERS:
                continue
            target = row.target.replace("/BUCKET", "/photos").replace("=ID", "=x")
            headers = {name.replace("-", "_"): "/photos/KEY" for name in row.headers}
            for name in ("bob", None):
                if row.name == "CreateBucket" and name is not None:
                    continue
                answer = rig.said(name, row.method, target, **headers)
                expected = (501,) if row.built == "no" and name is not None else (403,)
                self.assertIn(answer.status, expected, (row.name, name, answer.body))
        self.assertEqual(rig.said("alice", "GET", "/photos/KEY").body, b"x")
