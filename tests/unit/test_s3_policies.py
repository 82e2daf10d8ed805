"""Policies over HTTP: setting them, and what they allow to other users, to nobody and to the owner."""

import hashlib
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from coldstore.s3.authorise import Authority
from coldstore.s3.policies import parse_access_block
from coldstore.s3.xml import MalformedDocument
from tests.unit.policy_rig import ARN, EVERYBODY, TO_BOB, PolicyRig, policy, statement
from tests.unit.s3_rig import text_of, texts_of
from tests.unit.s3_wire import HOST, ParsedAnswer, message, signed_headers

BLOCK = b"<PublicAccessBlockConfiguration>%s</PublicAccessBlockConfiguration>"


class PolicyCase(SynchronousTestCase):
    """Two users and a bucket of alice's."""

    blocks_public = False

    def setUp(self) -> None:
        """Have an object in it."""
        self.rig = PolicyRig(blocks_public=self.blocks_public)
        self.rig.put("/photos/k", b"x", x_amz_tagging="team=red")
        self.said = self.rig.said

    def assert_ok(self, answer: ParsedAnswer) -> ParsedAnswer:
        """Check that a request succeeded."""
        self.assertLess(answer.status, 300, answer.body)
        return answer

    def assert_denied(self, answer: ParsedAnswer, named: str = "") -> None:
        """Check that a request was denied, and what was said about it."""
        self.assertEqual(answer.status, 403)
        if answer.body:
            self.assertEqual(answer.code, "AccessDenied")
            self.assertIn(named, answer.body.decode())


class SettingTests(PolicyCase):
    """Setting, reading and removing a policy."""

    def test_life(self) -> None:
        """It is read to the byte as it was put, replaced, and removed; without one a 404 says so."""
        self.assertEqual(self.said("alice", "GET", "/photos?policy").code, "NoSuchBucketPolicy")
        self.assertEqual(self.said("alice", "GET", "/photos?policyStatus").code, "NoSuchBucketPolicy")
        for text in (
            policy(statement("s3:GetObject", **TO_BOB)),
            policy(statement("s3:*", **EVERYBODY)) + b"\n",
        ):
            self.assertEqual(self.said("alice", "PUT", "/photos?policy", text).status, 204)
            answer = self.said("alice", "GET", "/photos?policy")
            self.assertEqual((answer.body, answer.headers["content-type"]), (text, "application/json"))
        for _ in range(2):
            self.assertEqual(self.said("alice", "DELETE", "/photos?policy").status, 204)
        self.assertEqual(self.said("alice", "GET", "/photos?policy").code, "NoSuchBucketPolicy")

    def test_faults(self) -> None:
        """What is none changes nothing and is named."""
        good = policy(statement("s3:GetObject", **TO_BOB))
        self.said("alice", "PUT", "/photos?policy", good)
        for text, code, named in (
            (b"", "MissingRequestBodyError", "a policy is needed"),
            (b"\xff", "MalformedPolicy", "not UTF-8"),
            (b"{}", "MalformedPolicy", "Missing required field Statement"),
            (
                policy(statement("s3:GetObject", f"{ARN}2/*", **TO_BOB)),
                "MalformedPolicy",
                "not in bucket photos (statement 1)",
            ),
            (
                policy(statement("s3:GetObject", Principal={"AWS": "arn:aws:iam:::user/eve"})),
                "MalformedPolicy",
                "Invalid principal in policy",
            ),
        ):
            answer = self.said("alice", "PUT", "/photos?policy", text)
            self.assertEqual((answer.status, answer.code), (400, code))
            self.assertIn(named, answer.body.decode())
        self.assertEqual(self.said("alice", "GET", "/photos?policy").body, good)

    def test_status(self) -> None:
        """It is public if it allows something to everybody."""
        for principal, public in ((TO_BOB, "false"), (EVERYBODY, "true")):
            self.assert_ok(self.rig.set_policy(statement("s3:GetObject", **principal)))
            shown = self.said("alice", "GET", "/photos?policyStatus")
            self.assertEqual(text_of(shown.body, "IsPublic"), public)

    def test_others(self) -> None:
        """Nobody else reads, sets or removes it, unless it says so."""
        self.rig.set_policy(statement("s3:GetBucketPolicy", ARN, **TO_BOB))
        self.assert_ok(self.said("bob", "GET", "/photos?policy"))
        for name in ("bob", None):
            self.assert_denied(
                self.said(name, "PUT", "/photos?policy", policy(statement("s3:*", **EVERYBODY)))
            )
            self.assert_denied(self.said(name, "DELETE", "/photos?policy"))
        self.assert_denied(self.said(None, "GET", "/photos?policy"), "not signed")

    def test_owner(self) -> None:
        """Whatever it denies, its owner can take it back; and is told which statement it is."""
        self.rig.set_policy(
            statement("s3:*", f"{ARN}/*", "Deny", Sid="closed", **EVERYBODY),
            statement("s3:*", ARN, "Deny", **EVERYBODY),
        )
        self.assert_denied(self.said("alice", "GET", "/photos/k"), "closed")
        self.assert_denied(self.said("alice", "GET", "/photos"))
        self.assert_denied(self.said("bob", "GET", "/photos/k"), "policy denies it")
        self.assertNotIn(b"closed", self.said("bob", "GET", "/photos/k").body)
        self.assert_ok(self.said("alice", "GET", "/photos?policy"))
        self.assert_ok(self.said("alice", "DELETE", "/photos?policy"))
        self.assert_ok(self.said("alice", "GET", "/photos/k"))

    def test_a_later_user_of_the_name(self) -> None:
        """Who is deleted takes his rights along: whoever is given his name is somebody else."""
        self.rig.set_policy(statement("s3:GetObject", **TO_BOB))
        self.assert_ok(self.said("bob", "GET", "/photos/k"))
        self.rig.signers["bob"] = replace(self.rig.signers["bob"], user_id="u-3")
        self.assert_denied(self.said("bob", "GET", "/photos/k"))


class BlockTests(PolicyCase):
    """The public access block."""

    blocks_public = True

    def block(self, *names: bytes) -> None:
        """Have alice block only this."""
        switches = b"".join(b"<%s>true</%s>" % (name, name) for name in names)
        self.assert_ok(self.said("alice", "PUT", "/photos?publicAccessBlock", BLOCK % switches))

    def test_usual(self) -> None:
        """Everything is blocked until somebody says otherwise; policies that are not public are none of its business."""
        shown = self.said("alice", "GET", "/photos?publicAccessBlock")
        self.assertEqual(shown.body.count(b">true<"), 4)
        self.assert_denied(self.rig.set_policy(statement("s3:GetObject", **EVERYBODY)), "BlockPublicPolicy")
        self.assertEqual(self.said("alice", "GET", "/photos?policy").code, "NoSuchBucketPolicy")
        self.assert_ok(self.rig.set_policy(statement("s3:GetObject", **TO_BOB)))
        self.assert_ok(self.said("bob", "GET", "/photos/k"))

    def test_life(self) -> None:
        """It is set, read and removed; removed, nothing is blocked."""
        self.block(b"IgnorePublicAcls")
        shown = self.said("alice", "GET", "/photos?publicAccessBlock").body
        self.assertEqual(
            (text_of(shown, "IgnorePublicAcls"), text_of(shown, "BlockPublicAcls")), ("true", "false")
        )
        self.block()
        self.assertEqual(self.said("alice", "GET", "/photos?publicAccessBlock").body.count(b">false<"), 4)
        self.assertEqual(self.said("alice", "DELETE", "/photos?publicAccessBlock").status, 204)
        answer = self.said("alice", "GET", "/photos?publicAccessBlock")
        self.assertEqual((answer.status, answer.code), (404, "NoSuchPublicAccessBlockConfiguration"))
        self.assert_ok(self.rig.set_policy(statement("s3:GetObject", **EVERYBODY)))
        self.assertEqual(self.said(None, "GET", "/photos/k").body, b"x")

    def test_restricting(self) -> None:
        """A public policy that is there allows nothing to anybody but the owner while that is restricted."""
        self.block()
        self.rig.set_policy(statement("s3:GetObject", **EVERYBODY), statement("s3:PutObject", **TO_BOB))
        self.assert_ok(self.said(None, "GET", "/photos/k"))
        self.block(b"RestrictPublicBuckets")
        self.assert_denied(self.said(None, "GET", "/photos/k"), "public access block")
        self.assert_denied(self.said("bob", "PUT", "/photos/k", b"y"))
        self.assert_ok(self.said("alice", "GET", "/photos/k"))

    def test_faults(self) -> None:
        """What is no such document is refused."""
        for document in (
            b"<Other/>",
            BLOCK % b"<BlockPublicAcl>true</BlockPublicAcl>",
            BLOCK % b"<BlockPublicAcls>yes</BlockPublicAcls>",
        ):
            self.assertRaises(MalformedDocument, parse_access_block, document)
        self.assertEqual(
            self.said("alice", "PUT", "/photos?publicAccessBlock").code, "MissingRequestBodyError"
        )


class SharingTests(PolicyCase):
    """What a policy allows to others."""

    def test_reading(self) -> None:
        """One action for one user: nothing else, and to nobody else."""
        self.rig.set_policy(statement("s3:GetObject", **TO_BOB))
        self.assertEqual(self.said("bob", "GET", "/photos/k").body, b"x")
        self.assert_ok(self.said("bob", "HEAD", "/photos/k"))
        for method, target in (
            ("PUT", "/photos/k"),
            ("DELETE", "/photos/k"),
            ("GET", "/photos"),
            ("GET", "/photos/k?tagging"),
            ("GET", "/photos?policy"),
        ):
            self.assert_denied(self.said("bob", method, target), "belongs to another user")
        self.assert_denied(self.said(None, "GET", "/photos/k"), "not signed")

    def test_versions(self) -> None:
        """A version needs an action of its own."""
        self.rig.set_policy(statement("s3:GetObject", **EVERYBODY))
        self.assert_ok(self.said("bob", "GET", "/photos/k"))
        self.assert_denied(self.said("bob", "GET", "/photos/k?versionId=null"), "s3:GetObjectVersion")
        self.rig.set_policy(statement("s3:GetObjectVersion", **EVERYBODY))
        self.assert_ok(self.said("bob", "GET", "/photos/k?versionId=null"))
        self.assert_denied(self.said("bob", "GET", "/photos/k"))

    def test_keys_that_are_not_there(self) -> None:
        """Are told only to who may list the bucket."""
        self.rig.set_policy(statement("s3:GetObject", **EVERYBODY))
        for name in ("bob", None):
            self.assert_denied(self.said(name, "GET", "/photos/none"), "s3:ListBucket")
            self.assertEqual(self.said(name, "HEAD", "/photos/none").status, 403)
        self.rig.set_policy(
            statement("s3:GetObject", **EVERYBODY), statement("s3:ListBucket", ARN, **EVERYBODY)
        )
        for name in ("bob", None):
            self.assertEqual(self.said(name, "GET", "/photos/none").code, "NoSuchKey")
        self.assertEqual(self.said(None, "GET", "/none/none").code, "NoSuchBucket")

    def test_keys_that_are_not_there_below_a_prefix(self) -> None:
        """Who may list what is below a prefix learns nothing of other keys by naming it in a request that lists nothing."""
        below = {"StringLike": {"s3:prefix": "tmp/*"}}
        self.rig.set_policy(
            statement("s3:GetObject", **EVERYBODY),
            statement("s3:ListBucket", ARN, Condition=below, **EVERYBODY),
        )
        self.assert_ok(self.said("bob", "GET", "/photos?prefix=tmp/"))
        for target in ("/photos/none", "/photos/none?prefix=tmp/"):
            self.assert_denied(self.said("bob", "GET", target), "s3:ListBucket")

    def test_writing(self) -> None:
        """What others write is the owner's, and takes what else they want it to have."""
        self.rig.set_policy(statement("s3:PutObject", **EVERYBODY))
        for name, key in (("bob", "b"), (None, "n")):
            self.assert_ok(self.said(name, "PUT", f"/photos/{key}", b"mine"))
            self.assertEqual(self.rig.version("photos", key.encode()).facts.owner_id, "u-1")
            self.assert_denied(
                self.said(name, "PUT", f"/photos/{key}", b"y", x_amz_tagging="a=b"), "s3:PutObjectTagging"
            )
            self.assert_ok(self.said(name, "POST", f"/photos/{key}?uploads"))
        self.rig.set_policy(statement(["s3:PutObject", "s3:PutObjectTagging"], **EVERYBODY))
        self.assert_ok(self.said(None, "PUT", "/photos/n", b"y", x_amz_tagging="a=b"))

    def test_writing_with_a_trailer(self) -> None:
        """What boto3 sends over TLS without a signature has a trailer, and no word of it where a signature would have one."""
        self.rig.set_policy(statement("s3:PutObject", **EVERYBODY))
        fields = {
            "x_amz_trailer": "x-amz-checksum-crc32",
            "x_amz_decoded_content_length": "5",
            "content_encoding": "aws-chunked",
        }
        body = b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n"
        self.assert_ok(self.said(None, "PUT", "/photos/n", body, **fields))
        self.assertEqual(self.said("alice", "GET", "/photos/n").body, b"hello")
        wrong = self.said(None, "PUT", "/photos/n", body.replace(b"NhCm", b"AAAA"), **fields)
        self.assertEqual(wrong.code, "BadDigest")

    def test_deleting_many(self) -> None:
        """Each key is judged by itself."""
        self.rig.set_policy(statement("s3:DeleteObject", f"{ARN}/tmp/*", **EVERYBODY))
        self.rig.put("/photos/tmp/a", b"x")
        document = b"<Delete><Object><Key>k</Key></Object><Object><Key>tmp/a</Key></Object><Object><Key>tmp/a</Key><VersionId>null</VersionId></Object></Delete>"
        for name in ("bob", None):
            answer = self.said(name, "POST", "/photos?delete", document, content_md5=_md5(document))
            self.assertEqual(answer.status, 200, answer.body)
            self.assertEqual(texts_of(answer.body, "Code"), ["AccessDenied", "AccessDenied"])
            self.assertEqual(texts_of(answer.body, "Key"), ["k", "tmp/a", "tmp/a"])
        self.said("alice", "DELETE", "/photos?policy")
        self.assert_denied(self.said("bob", "POST", "/photos?delete", document, content_md5=_md5(document)))

    def test_deleting_many_without_hope(self) -> None:
        """Of whom no statement allows to delete anything no list is asked for; one that may allow it is."""
        head = message(
            "POST", "/photos?delete", {"host": HOST, "content-length": "100", "content-md5": _md5(b"")}
        )
        for allowed, who, is_asked in (
            ("s3:GetObject", EVERYBODY, False),
            ("s3:DeleteObject", TO_BOB, False),
            ("s3:DeleteObjectVersion", EVERYBODY, True),
        ):
            self.assert_ok(self.rig.set_policy(statement(allowed, f"{ARN}/tmp/*", **who)))
            wire = self.rig.wire()
            answered = wire.send(head) != b""
            self.assertIs(answered, not is_asked, allowed)
            if answered:
                self.assert_denied(wire.answer(), "not signed")

    def test_copying(self) -> None:
        """A copy needs reading there and writing here, and so do the tags that go along."""
        self.said("bob", "PUT", "/of-bob")
        copy = {"x_amz_copy_source": "/photos/k"}
        self.assert_denied(self.said("bob", "PUT", "/of-bob/k", **copy), "s3:GetObject on")
        self.rig.set_policy(statement("s3:GetObject", **TO_BOB))
        self.assert_denied(self.said("bob", "PUT", "/of-bob/k", **copy), "s3:GetObjectTagging")
        self.assert_ok(self.said("bob", "PUT", "/of-bob/k", x_amz_tagging_directive="REPLACE", **copy))
        self.rig.set_policy(statement(["s3:GetObject", "s3:GetObjectTagging"], **TO_BOB))
        self.assert_ok(self.said("bob", "PUT", "/of-bob/k", **copy))
        self.assert_denied(
            self.said("bob", "PUT", "/of-bob/k", x_amz_copy_source="/photos/none"), "s3:ListBucket"
        )
        self.assert_denied(self.said("bob", "PUT", "/photos/k2", **copy), "s3:PutObject")

    def test_expected_owner(self) -> None:
        """Whoever expects another owner is refused, although he is allowed it."""
        self.rig.set_policy(statement("s3:GetObject", **EVERYBODY))
        self.assert_ok(self.said("bob", "GET", "/photos/k", x_amz_expected_bucket_owner="u-1"))
        self.assert_denied(
            self.said("bob", "GET", "/photos/k", x_amz_expected_bucket_owner="u-2"), "expected-bucket-owner"
        )

    def test_nobody(self) -> None:
        """What nobody signs reaches nothing without a policy, whatever it asks for."""
        for method, target in (
            ("GET", "/"),
            ("PUT", "/new-bucket"),
            ("GET", "/photos"),
            ("GET", "/photos/k"),
            ("GET", "/photos/none"),
            ("PUT", "/photos/k"),
            ("DELETE", "/photos"),
            ("POST", "/photos?delete"),
            ("POST", "/photos/k?restore"),
            ("GET", "/photos?website"),
            ("PUT", "/photos?website"),
        ):
            self.assert_denied(self.said(None, method, target), "not signed")

    def test_links_to_what_is_public(self) -> None:
        """Who has not signed does not say how an object is shown to others."""
        self.assert_ok(self.rig.set_policy(statement("s3:GetObject", **EVERYBODY)))
        target = "/photos/k?response-content-type=text%2Fhtml"
        for method in ("GET", "HEAD"):
            self.assertEqual(self.said(None, method, target).status, 400)
            self.assertEqual(self.said("bob", method, target).headers["content-type"], "text/html")
        self.assertEqual(self.said(None, "GET", target).code, "InvalidRequest")


class ConditionTests(PolicyCase):
    """What requests have under condition keys."""

    def allowed(
        self, action: str, operator: str, key: str, value: str | list[str], resource: str = f"{ARN}/*"
    ) -> None:
        """Have a policy allow everybody an action on one condition."""
        self.assert_ok(
            self.rig.set_policy(statement(action, resource, Condition={operator: {key: value}}, **EVERYBODY))
        )

    def test_listing(self) -> None:
        """A prefix may be asked for that is allowed, and none without one."""
        self.allowed("s3:ListBucket", "StringEquals", "s3:prefix", ["", "tmp/"], ARN)
        for query, ok in (
            ("?prefix=", True),
            ("?prefix=tmp/", True),
            ("?prefix=tmp", False),
            ("", False),
            ("?list-type=2&prefix=tmp/", True),
        ):
            answer = self.said("bob", "GET", f"/photos{query}")
            self.assertEqual(answer.status, 200 if ok else 403, query)
        self.allowed("s3:ListBucket", "NumericLessThanEquals", "s3:max-keys", "10", ARN)
        self.assert_ok(self.said(None, "GET", "/photos?max-keys=10"))
        self.assert_denied(self.said(None, "GET", "/photos?max-keys=11"))

    def test_tags(self) -> None:
        """Tags of an object as it is, and those that a request gives."""
        self.allowed("s3:GetObject", "StringEquals", "s3:ExistingObjectTag/team", "red")
        self.rig.put("/photos/blue", b"x", x_amz_tagging="team=blue")
        self.assert_ok(self.said("bob", "GET", "/photos/k"))
        self.assert_denied(self.said("bob", "GET", "/photos/blue"))
        self.assert_denied(self.said("bob", "GET", "/photos/none"))
        self.allowed("s3:Put*", "StringEquals", "s3:RequestObjectTag/team", ["red", "green"])
        self.assert_ok(self.said("bob", "PUT", "/photos/new", b"x", x_amz_tagging="team=green"))
        self.assert_denied(self.said("bob", "PUT", "/photos/new", b"x", x_amz_tagging="team=blue"))
        self.assert_denied(self.said("bob", "PUT", "/photos/new", b"x"))
        for team, ok in (("red", True), ("blue", False)):
            document = (
                b"<Tagging><TagSet><Tag><Key>team</Key><Value>%s</Value></Tag></TagSet></Tagging>"
                % team.encode()
            )
            answer = self.said("bob", "PUT", "/photos/k?tagging", document, content_md5=_md5(document))
            self.assertEqual(answer.status, 200 if ok else 403, answer.body)
        self.allowed("s3:Put*", "ForAllValues:StringEquals", "s3:RequestObjectTagKeys", ["a", "b"])
        self.assert_ok(self.said("bob", "PUT", "/photos/new", b"x", x_amz_tagging="a=1&b=2"))
        self.assert_denied(self.said("bob", "PUT", "/photos/new", b"x", x_amz_tagging="a=1&c=2"))

    def test_who(self) -> None:
        """Variables stand for who asks."""
        self.rig.set_policy(statement("s3:PutObject", f"{ARN}/home/${{aws:username}}/*", **EVERYBODY))
        self.assert_ok(self.said("bob", "PUT", "/photos/home/bob/k", b"x"))
        self.assert_denied(self.said("bob", "PUT", "/photos/home/alice/k", b"x"))
        self.assert_denied(self.said(None, "PUT", "/photos/home//k", b"x"))
        self.allowed("s3:GetObject", "ArnLike", "aws:PrincipalArn", "arn:aws:iam::u-2:user/b*")
        self.assert_ok(self.said("bob", "GET", "/photos/k"))
        self.assert_denied(self.said(None, "GET", "/photos/k"))
        self.allowed("s3:GetObject", "StringEquals", "aws:PrincipalType", "Anonymous")
        self.assert_ok(self.said(None, "GET", "/photos/k"))
        self.assert_denied(self.said("bob", "GET", "/photos/k"))

    def test_the_request(self) -> None:
        """Address, transport, time, agent, signature, and what headers ask for."""
        for operator, key, value, ok in (
            ("IpAddress", "aws:SourceIp", "127.0.0.0/8", True),
            ("NotIpAddress", "aws:SourceIp", "127.0.0.0/8", False),
            ("Bool", "aws:SecureTransport", "false", True),
            ("DateLessThan", "aws:CurrentTime", "2026-01-03T00:00:00Z", True),
            ("NumericGreaterThan", "aws:EpochTime", "1767323046", False),
            ("StringLike", "aws:UserAgent", "browser/*", True),
            ("StringLike", "aws:Referer", "http://a/*", True),
            ("StringEquals", "s3:authType", "REST-HEADER", True),
            ("StringEquals", "s3:signatureversion", "AWS4-HMAC-SHA256", True),
            ("NumericLessThan", "s3:signatureAge", "1000", True),
            ("StringEquals", "s3:x-amz-content-sha256", "UNSIGNED-PAYLOAD", True),
            ("StringEquals", "s3:ResourceAccount", "u-1", True),
            ("StringEquals", "s3:x-amz-storage-class", "GLACIER", False),
            ("StringEquals", "aws:SourceVpc", "vpc-1", False),
            ("Bool", "aws:ViaAWSService", "false", True),
            ("Bool", "aws:PrincipalIsAWSService", "false", True),
            ("Null", "s3:VersionId", "true", True),
        ):
            self.allowed("s3:GetObject", operator, key, value)
            answer = self.said("bob", "GET", "/photos/k", user_agent="browser/1", referer="http://a/b")
            self.assertEqual(answer.status, 200 if ok else 403, (operator, key))

    def test_what_is_written(self) -> None:
        """Headers of a write, and the source of a copy."""
        for key, value, headers in (
            ("s3:x-amz-storage-class", "GLACIER", {"x_amz_storage_class": "GLACIER"}),
            ("s3:x-amz-acl", "bucket-owner-full-control", {"x_amz_acl": "bucket-owner-full-control"}),
            ("s3:if-none-match", "*", {"if_none_match": "*"}),
        ):
            self.allowed("s3:PutObject", "StringEquals", key, value)
            self.assert_denied(self.said("bob", "PUT", "/photos/new", b"x"))
            self.assert_ok(self.said("bob", "PUT", "/photos/new", b"x", **headers))
            self.said("alice", "DELETE", "/photos/new")
        self.said("bob", "PUT", "/of-bob")
        self.said("bob", "PUT", "/of-bob/a%20b", b"x")
        self.allowed("s3:PutObject", "StringLike", "s3:x-amz-copy-source", "of-bob/a b*")
        self.assert_ok(self.said("bob", "PUT", "/photos/new", x_amz_copy_source="/of-bob/a%20b"))
        self.assert_denied(self.said("bob", "PUT", "/photos/new", b"x"))

    def test_tags_that_a_copy_does_not_get(self) -> None:
        """Tags count that a copy gets: those that a request names beside, and which nothing gets, do not."""
        self.said("bob", "PUT", "/of-bob")
        self.said("bob", "PUT", "/of-bob/k", b"x")
        self.allowed("s3:Put*", "StringEquals", "s3:RequestObjectTag/team", "red")
        copying = {"x_amz_copy_source": "/of-bob/k", "x_amz_tagging": "team=red"}
        self.assert_denied(self.said("bob", "PUT", "/photos/new", **copying))
        self.assert_ok(self.said("bob", "PUT", "/photos/new", x_amz_tagging_directive="REPLACE", **copying))

    def test_what_is_locked(self) -> None:
        """What a retention or a legal hold becomes is what its document says, whatever header fields say."""
        self.rig.put("/safe", x_amz_bucket_object_lock_enabled="true")
        self.rig.put("/safe/k", b"x", content_md5=_md5(b"x"))
        place = "arn:aws:s3:::safe/*"

        def lock(what: str, document: str) -> ParsedAnswer:
            lie = {"x_amz_object_lock_retain_until_date": "2026-01-04T00:00:00Z"}
            content = document.encode()
            return self.said("bob", "PUT", f"/safe/k?{what}", content, content_md5=_md5(content), **lie)

        def retain(until: str) -> ParsedAnswer:
            return lock(
                "retention",
                f"<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>",
            )

        allowing = statement("s3:PutObject*", place, **EVERYBODY)
        for condition in (
            {"NumericGreaterThan": {"s3:object-lock-remaining-retention-days": "10"}},
            {"DateGreaterThan": {"s3:object-lock-retain-until-date": "2026-02-01T00:00:00Z"}},
            {"StringEquals": {"s3:object-lock-mode": "COMPLIANCE"}},
        ):
            denying = statement("s3:PutObjectRetention", place, "Deny", Condition=condition, **EVERYBODY)
            self.assert_ok(self.said("alice", "PUT", "/safe?policy", policy(allowing, denying)))
            if "StringEquals" in condition:
                self.assert_ok(retain("2126-01-01T00:00:00Z"))
            else:
                self.assert_denied(retain("2126-01-01T00:00:00Z"))
                self.assert_ok(retain("2026-01-05T00:00:00Z"))
        denying = statement(
            "s3:PutObjectLegalHold",
            place,
            "Deny",
            Condition={"StringEquals": {"s3:object-lock-legal-hold": "OFF"}},
            **EVERYBODY,
        )
        self.assert_ok(self.said("alice", "PUT", "/safe?policy", policy(allowing, denying)))
        self.assert_ok(lock("legal-hold", "<LegalHold><Status>ON</Status></LegalHold>"))
        self.assert_denied(lock("legal-hold", "<LegalHold><Status>OFF</Status></LegalHold>"))

    def test_creating(self) -> None:
        """Whether there is a new object after a write: so parts need no condition that completion needs."""
        everything = statement("s3:PutObject", **EVERYBODY)
        unconditional = {"Null": {"s3:if-none-match": "true"}, "Bool": {"s3:ObjectCreationOperation": "true"}}
        denying = statement("s3:PutObject", effect="Deny", Condition=unconditional, **EVERYBODY)
        self.assert_ok(self.rig.set_policy(everything, denying))
        self.assert_denied(self.said("bob", "PUT", "/photos/new", b"x"))
        self.assert_ok(self.said("bob", "PUT", "/photos/new", b"x", if_none_match="*"))
        upload_id = text_of(self.said("bob", "POST", "/photos/new?uploads").body, "UploadId")
        self.assert_ok(self.said("bob", "PUT", f"/photos/new?uploadId={upload_id}&partNumber=1", b"x"))
        self.assert_denied(self.said("bob", "POST", f"/photos/new?uploadId={upload_id}", b"<a/>"))

    def test_version(self) -> None:
        """The version that is asked for."""
        self.allowed("s3:GetObjectVersion", "StringEquals", "s3:VersionId", "null")
        self.assert_ok(self.said("bob", "GET", "/photos/k?versionId=null"))
        self.assert_denied(self.said("bob", "GET", "/photos/k?versionId=other"))


class SlowDocumentTests(PolicyCase):
    """A document comes when its client sends it, and meanwhile things change."""

    def sent_late(
        self, name: str, method: str, target: str, document: bytes, meanwhile: Callable[[], None]
    ) -> ParsedAnswer:
        """Send a request, and its document after something else happened."""
        wire = self.rig.wire()
        signer = self.rig.signers[name]
        fields = {"content-md5": _md5(document), "content-length": str(len(document))}
        headers = signed_headers(
            method,
            target,
            fields,
            payload="UNSIGNED-PAYLOAD",
            seconds=self.rig.clock.seconds(),
            access_key=signer.access_key,
            secret_key=signer.secret_key,
        )
        wire.send(message(method, target, headers))
        meanwhile()
        wire.send(document)
        return wire.answer()

    def test_bucket_of_somebody_else(self) -> None:
        """Who had a bucket changes nothing in one of the same name that somebody else has now."""
        everything = policy(statement("s3:*", ["arn:aws:s3:::shop", "arn:aws:s3:::shop/*"], **TO_BOB))
        deletion = b"<Delete><Object><Key>k</Key></Object></Delete>"

        def handed_over() -> None:
            self.assert_ok(self.said("bob", "DELETE", "/shop"))
            self.assert_ok(self.said("alice", "PUT", "/shop"))
            self.assert_ok(self.said("alice", "PUT", "/shop/k", b"x"))

        for method, target, document in (
            ("PUT", "/shop?policy", everything),
            ("POST", "/shop?delete", deletion),
        ):
            self.assert_ok(self.said("bob", "PUT", "/shop"))
            answer = self.sent_late("bob", method, target, document, handed_over)
            self.assertEqual((answer.status, answer.code), (404, "NoSuchBucket"))
            self.assert_ok(self.said("alice", "GET", "/shop/k"))
            self.assert_denied(self.said("bob", "GET", "/shop/k"))
            self.assert_ok(self.said("alice", "DELETE", "/shop/k"))
            self.assert_ok(self.said("alice", "DELETE", "/shop"))

    def test_many_keys(self) -> None:
        """It takes time to judge many keys, and meanwhile as much can happen."""
        nothing = policy(statement("s3:GetObject", "arn:aws:s3:::shop/none", **TO_BOB))
        self.assert_ok(self.said("bob", "PUT", "/shop"))
        self.assert_ok(self.said("bob", "PUT", "/shop?policy", nothing))
        judge = Authority.require_deletion

        async def judge_slowly(authority: Authority, *asked: Any) -> None:
            await judge(authority, *asked)
            self.assert_ok(self.said("bob", "DELETE", "/shop"))
            self.assert_ok(self.said("alice", "PUT", "/shop"))
            self.assert_ok(self.said("alice", "PUT", "/shop/k", b"x"))

        self.patch(Authority, "require_deletion", judge_slowly)
        document = b"<Delete><Object><Key>k</Key></Object></Delete>"
        answer = self.said("bob", "POST", "/shop?delete", document, content_md5=_md5(document))
        self.assertEqual((answer.status, answer.code), (404, "NoSuchBucket"))
        self.assert_ok(self.said("alice", "GET", "/shop/k"))

    def test_bucket_made_anew(self) -> None:
        """What was meant for a bucket that is gone is not done to the next one of its owner."""

        def made_anew() -> None:
            self.assert_ok(self.said("bob", "DELETE", "/shop"))
            self.assert_ok(self.said("bob", "PUT", "/shop"))

        self.assert_ok(self.said("bob", "PUT", "/shop"))
        document = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
        answer = self.sent_late("bob", "PUT", "/shop?tagging", document, made_anew)
        self.assertEqual((answer.status, answer.code), (404, "NoSuchBucket"))
        self.assertEqual(self.said("bob", "GET", "/shop?tagging").code, "NoSuchTagSet")


class UserPolicyTests(PolicyCase):
    """What an operator says a user may do."""

    def test_limits(self) -> None:
        """They limit the owner of a bucket, also in what concerns no bucket."""
        self.rig.give(
            "alice", policy({"Effect": "Allow", "Action": ["s3:Get*", "s3:ListBucket"], "Resource": "*"})
        )
        self.assert_ok(self.said("alice", "GET", "/photos/k"))
        self.assert_denied(self.said("alice", "PUT", "/photos/k", b"y"), "no user policy allows it")
        self.assert_denied(self.said("alice", "GET", "/"), "s3:ListAllMyBuckets")
        self.assert_denied(self.said("alice", "PUT", "/another"), "s3:CreateBucket")
        self.assert_denied(
            self.said("alice", "PUT", "/photos?policy", policy(statement("s3:*", **EVERYBODY)))
        )
        self.rig.give("alice")
        self.assert_ok(self.said("alice", "PUT", "/photos/k", b"y"))

    def test_denials(self) -> None:
        """One that only denies leaves the rest, and is named."""
        self.rig.give(
            "alice", policy({"Sid": "keep", "Effect": "Deny", "Action": "s3:DeleteObject*", "Resource": "*"})
        )
        self.assert_ok(self.said("alice", "GET", "/"))
        self.assert_ok(self.said("alice", "PUT", "/another"))
        self.assert_denied(self.said("alice", "DELETE", "/photos/k"), "user policy")
        document = b"<Delete><Object><Key>k</Key></Object></Delete>"
        answer = self.said("alice", "POST", "/photos?delete", document, content_md5=_md5(document))
        self.assertEqual(texts_of(answer.body, "Code"), ["AccessDenied"])

    def test_grants(self) -> None:
        """It grants in a bucket that it names."""
        self.assert_denied(self.said("bob", "GET", "/photos/k"))
        self.rig.give("bob", policy({"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"{ARN}/*"}))
        self.assert_ok(self.said("bob", "GET", "/photos/k"))
        self.rig.give("bob", policy({"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}))
        self.assert_denied(self.said("bob", "GET", "/photos/k"), "belongs to another user")


def _md5(body: bytes) -> str:
    return b64encode(hashlib.md5(body).digest()).decode()
