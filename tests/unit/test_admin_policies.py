"""Policies by the ``coldstore`` command."""

import json
from pathlib import Path
from typing import Any

from coldstore.admin.policy_commands import DENIED
from coldstore.model.configurations import ConfigurationKind
from coldstore.plan.policy import stored
from coldstore.plan.policy.document import read_bucket_policy
from coldstore.plan.policy.principals import known_among
from tests.unit.admin_rig import NOW
from tests.unit.test_admin_command import CommandCase


class PolicyCase(CommandCase):
    """Two users, and a bucket of the first one."""

    def setUp(self) -> None:
        """Make them."""
        super().setUp()
        for name in ("ann", "bob"):
            self.output("user", "create", name)
        self.rig.done(
            self.rig.store.create_bucket(
                name="photos", owner_id="id-1", region="us-east-1", created_at=NOW, default_class=None
            )
        )

    def told(self, *words: str, status: int = 0) -> Any:
        """Return what a command says in JSON."""
        found, out, err = self.run_command(*words, "--json")
        self.assertEqual((found, err), (status, ""), out)
        return json.loads(out)

    def set_bucket_policy(self, **statement: Any) -> str:
        """Give the bucket a policy of one statement; return it."""
        text = json.dumps({"Statement": {"Resource": "arn:aws:s3:::photos/*", **statement}})
        known = known_among(self.rig.done(self.rig.store.users()))
        document = stored.written(read_bucket_policy(text, bucket="photos", known=known), "photos")
        self.rig.done(
            self.rig.store.set_bucket_configuration(
                name="photos", kind=ConfigurationKind.POLICY, document=document
            )
        )
        return text


class UserPolicyTests(PolicyCase):
    """``coldstore user policy``."""

    def test_life(self) -> None:
        """It is set in words or by a file, shown, replaced under its name, and removed; the audit knows by whom."""
        self.assertIn("There is no policy", self.output("user", "policy", "show", "ann"))
        said = self.output("user", "policy", "set", "ann", "--read-only", "--bucket", "photos")
        self.assertIn("read-only photos\n{\n", said)
        file = Path(self.mktemp())
        file.write_text('{"Statement": {"Effect": "Deny", "Action": "s3:DeleteObject", "Resource": "*"}}')
        rows = self.told("user", "policy", "set", "ann", "--document", str(file), "--policy", "keep")
        self.assertEqual([row["policy"] for row in rows], ["keep", "read-only photos"])
        self.assertEqual(rows[0]["document"], file.read_text())
        rows = self.told("user", "policy", "set", "ann", "--no-delete", "--policy", "keep")
        self.assertIn("s3:DeleteObjectVersion", rows[0]["document"])
        rows = self.told("user", "policy", "remove", "ann", "--policy", "keep")
        self.assertEqual([row["policy"] for row in rows], ["read-only photos"])
        self.assertEqual(self.told("user", "policy", "show", "bob"), [])
        audit = self.told("audit")
        self.assertEqual(
            [(row["what"], row["subject"], row["detail"]) for row in audit[:2]],
            [("remove user policy", "user ann", "keep"), ("set user policy", "user ann", "keep")],
        )

    def test_wrong(self) -> None:
        """What is missing or no policy is told, and nothing is set."""
        file = Path(self.mktemp())
        file.write_text('{"Statement": {"Effect": "Deny", "Action": "s3:Fly", "Resource": "*"}}')
        for words, status, named in (
            (("policy", "set"), 2, "set|show|remove USER"),
            (("policy", "give", "ann"), 2, "set|show|remove USER"),
            (("policy", "set", "ann"), 2, "say what the user may do"),
            (("policy", "set", "ann", "--read-only", "--document", "x"), 2, "in words or by"),
            (("policy", "remove", "ann"), 2, "--policy NAME"),
            (("list", "--read-only"), 2, "goes with policy, not with list"),
            (("policy", "set", "eve", "--read-only"), 1, "there is no user eve"),
            (("policy", "remove", "ann", "--policy", "x"), 1, "no policy x"),
            (("policy", "set", "ann", "--bucket", "a/b"), 1, "'a/b' is no bucket"),
            (
                ("policy", "set", "ann", "--document", str(file)),
                1,
                "'s3:Fly' is none that S3 knows (statement 1)",
            ),
            (("policy", "set", "ann", "--document", "/nowhere"), 1, "/nowhere cannot be read"),
        ):
            found, _, err = self.run_command("user", *words)
            self.assertEqual(found, status, (words, err))
            self.assertIn(named, err)
        self.assertEqual(self.told("user", "policy", "show", "ann"), [])


class ExplainTests(PolicyCase):
    """``coldstore policy``."""

    def explain(self, *words: str, status: int = 0) -> Any:
        """Return an explanation."""
        return self.told("policy", "explain", *words, status=status)

    def test_show(self) -> None:
        """A bucket's policy, whether it is public, and what is blocked."""
        self.assertIn("The bucket has no policy.", self.output("policy", "show", "photos"))
        text = self.set_bucket_policy(Effect="Allow", Principal="*", Action="s3:GetObject")
        said = self.output("policy", "show", "photos")
        self.assertIn(text, said)
        self.assertIn("block_public_policy", said)
        found = self.told("policy", "show", "photos")
        self.assertEqual((found["owner"], found["is_public"], found["policy"]), ("ann", True, text))

    def test_decisions(self) -> None:
        """Who may do what, by status and in words."""
        said = self.output("policy", "explain", "ann", "s3:getobject", "photos/k")
        self.assertIn("allow: the bucket's owner may do everything in it", said)
        self.assertIn("s3:GetObject on arn:aws:s3:::photos/k by ann", said)
        status, out, _ = self.run_command("policy", "explain", "bob", "s3:GetObject", "photos/k")
        self.assertEqual(status, DENIED)
        self.assertIn("deny: neither the bucket's policy nor anything else allows it", out)
        self.output("user", "policy", "set", "bob", "--read-only", "--bucket", "photos")
        found = self.explain("bob", "s3:GetObject", "arn:aws:s3:::photos/k")
        self.assertIn("user policy 'read-only photos'", found["reason"])
        found = self.explain("bob", "s3:PutObject", "photos/k", status=DENIED)
        self.assertEqual(found["reason"], "no user policy allows it")
        self.assertEqual({each["applies"] for each in found["considered"]}, {"no: Action"})
        self.explain("bob", "s3:CreateBucket", "new-bucket", status=DENIED)
        self.explain("bob", "s3:ListAllMyBuckets", "*")
        self.explain("ann", "s3:CreateBucket", "new-bucket")

    def test_circumstances(self) -> None:
        """What a request would have is said with options."""
        self.set_bucket_policy(
            Effect="Allow",
            Principal={"AWS": "id-2"},
            Action="s3:GetObject",
            Condition={
                "IpAddress": {"aws:SourceIp": "10.0.0.0/8"},
                "Bool": {"aws:SecureTransport": "true"},
                "StringEquals": {"s3:ExistingObjectTag/Team": "red"},
            },
        )
        asked = ("bob", "s3:GetObject", "photos/k")
        tag = ("--given", "s3:existingobjecttag/Team=red")
        self.explain(*asked, "--ip", "10.1.1.1", "--secure", *tag)
        found = self.explain(*asked, "--secure", *tag, status=DENIED)
        self.assertEqual(found["considered"][0]["applies"], "no: Condition IpAddress aws:SourceIp")
        self.explain(*asked, "--ip", "10.1.1.1", "--secure", status=DENIED)
        self.explain("*", *asked[1:], "--ip", "10.1.1.1", "--secure", *tag, status=DENIED)

    def test_wrong(self) -> None:
        """What cannot be asked is told."""
        for words, status, named in (
            (("explain", "ann", "s3:GetObject"), 2, "USER ACTION RESOURCE"),
            (("show", "photos", "videos"), 2, "name one bucket"),
            (("explain", "eve", "s3:GetObject", "photos/k"), 1, "there is no user eve"),
            (("explain", "ann", "s3:Fly", "photos/k"), 1, "no action 's3:Fly'"),
            (("explain", "ann", "s3:GetObject", "photos"), 1, "s3:GetObject is of an object"),
            (("explain", "ann", "s3:ListBucket", "photos/k"), 1, "s3:ListBucket is of a bucket"),
            (("explain", "ann", "s3:ListBucket", "none"), 1, "none"),
            (("explain", "ann", "s3:ListBucket", "photos", "--given", "x"), 1, "gives nothing"),
            (("show", "none"), 1, "none"),
        ):
            found, _, err = self.run_command("policy", *words)
            self.assertEqual(found, status, (words, err))
            self.assertIn(named, err)
