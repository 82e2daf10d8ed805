"""What access control lists let other users do, and who has not signed; and whose is what they write."""

import hashlib
import json
from base64 import b64encode
from itertools import product
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.acl import CannedAcl, Ownership
from coldstore.model.keys import AccessKey, Signer
from coldstore.model.objects import ObjectVersion, User
from coldstore.model.quotas import QuotaKind
from coldstore.s3.auth import Authenticator
from tests.unit.s3_rig import Rig, text_of, texts_of
from tests.unit.s3_wire import HOST, NOW, ParsedAnswer, Wire, message, signed_headers

SIGNERS = {
    f"KEY{name.upper()}": Signer(
        user_id=user_id, name=name, access_key=f"KEY{name.upper()}", secret_key=f"secret of {name}"
    )
    for user_id, name in (("u-1", "alice"), ("u-2", "bob"), ("u-3", "carol"))
}
NOBODY = "nobody"
USERS = ("alice", "bob", "carol", NOBODY)
GRANT = "<Grant><Grantee><ID>{}</ID></Grantee><Permission>{}</Permission></Grant>"
POLICY = "<AccessControlPolicy><Owner><ID>{}</ID></Owner><AccessControlList>{}</AccessControlList></AccessControlPolicy>"
CONTROLS = "<OwnershipControls><Rule><ObjectOwnership>{}</ObjectOwnership></Rule></OwnershipControls>"


def look_up(access_key: str) -> Deferred[Signer | None]:
    """Know three users."""
    return succeed(SIGNERS.get(access_key))


class AccessTests(SynchronousTestCase):
    """A bucket of alice, who allows bob, carol and everybody what its lists say."""

    def setUp(self) -> None:
        """A bucket with lists and with two objects of alice."""
        self.rig = Rig()
        for signer in SIGNERS.values():
            user = User(user_id=signer.user_id, name=signer.name, created_at=0.0)
            key = AccessKey(
                access_key=signer.access_key, user_id=signer.user_id, sealed_secret="", created_at=0.0
            )
            self.successResultOf(self.rig.store.create_user(user, key))
        self.ask("alice", "PUT", "/bkt", x_amz_object_ownership="ObjectWriter")
        self.ask("alice", "DELETE", "/bkt?publicAccessBlock")
        self.ask("alice", "PUT", "/bkt/k", "of alice")

    def ask(self, who: str, method: str, target: str, text: str = "", **headers: str) -> ParsedAnswer:
        """Send a request of a user, or of nobody; underscores in names of headers stand for dashes."""
        body = text.encode()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if who == NOBODY:
            sent = {"host": HOST, **sent}
        else:
            signer = SIGNERS[f"KEY{who.upper()}"]
            sent = signed_headers(
                method,
                target,
                sent,
                payload=hashlib.sha256(body).hexdigest(),
                access_key=signer.access_key,
                secret_key=signer.secret_key,
            )
        if body or method in ("PUT", "POST"):
            sent["content-length"] = str(len(body))
        clock = self.rig.clock
        wire = Wire(
            self.rig.operations.registry(),
            clock=clock,
            authenticator=Authenticator(look_up=look_up, seconds=lambda: NOW, region="us-east-1"),
        )
        wire.send(message(method, target, sent, body))
        return wire.answer()

    def allowed(self, method: str, target: str, text: str = "", **headers: str) -> set[str]:
        """Return who may do something; who may not is told so."""
        found = set()
        for who in USERS:
            answer = self.ask(who, method, target, text, **headers)
            if answer.status in (200, 204):
                found.add(who)
            else:
                self.assertEqual(answer.status, 403, (who, answer.body))
                if method != "HEAD":
                    self.assertEqual(answer.code, "AccessDenied")
        return found

    def give(self, target: str, acl: CannedAcl, who: str = "alice") -> None:
        """Give a list."""
        self.assertEqual(self.ask(who, "PUT", f"{target}?acl", x_amz_acl=acl.value).status, 200)

    def grant(self, target: str, permission: str) -> None:
        """Grant bob something, and leave alice what she has."""
        grants = GRANT.format("u-1", "FULL_CONTROL") + GRANT.format("u-2", permission)
        self.assertEqual(self.ask("alice", "PUT", f"{target}?acl", POLICY.format("u-1", grants)).status, 200)

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def test_reading_an_object(self) -> None:
        """Its own list says who may; that of the bucket says nothing of it."""
        everybody = set(USERS)
        for of_bucket, (acl, expected) in product(
            (CannedAcl.PRIVATE, CannedAcl.PUBLIC_READ_WRITE),
            (
                (CannedAcl.PRIVATE, {"alice"}),
                (CannedAcl.PUBLIC_READ, everybody),
                (CannedAcl.PUBLIC_READ_WRITE, everybody),
                (CannedAcl.AUTHENTICATED_READ, everybody - {NOBODY}),
                (CannedAcl.AWS_EXEC_READ, {"alice"}),
                (CannedAcl.BUCKET_OWNER_READ, {"alice"}),
                (CannedAcl.BUCKET_OWNER_FULL_CONTROL, {"alice"}),
            ),
        ):
            self.give("/bkt", of_bucket)
            self.give("/bkt/k", acl)
            for method, target in (("GET", "/bkt/k"), ("HEAD", "/bkt/k"), ("GET", "/bkt/k?versionId=null")):
                self.assertEqual(self.allowed(method, target), expected, (of_bucket, acl, target))
            self.assertEqual(self.allowed("GET", "/bkt/k?acl"), {"alice"})
            self.assertEqual(self.allowed("GET", "/bkt/k?tagging"), {"alice"})

    def test_listing(self) -> None:
        """The list of the bucket says who may."""
        for acl, expected in (
            (CannedAcl.PRIVATE, {"alice"}),
            (CannedAcl.PUBLIC_READ, set(USERS)),
            (CannedAcl.PUBLIC_READ_WRITE, set(USERS)),
            (CannedAcl.AUTHENTICATED_READ, {"alice", "bob", "carol"}),
            (CannedAcl.LOG_DELIVERY_WRITE, {"alice"}),
        ):
            self.give("/bkt", acl)
            for method, target in (
                ("HEAD", "/bkt"),
                ("GET", "/bkt"),
                ("GET", "/bkt?list-type=2"),
                ("GET", "/bkt?versions"),
                ("GET", "/bkt?uploads"),
            ):
                self.assertEqual(self.allowed(method, target), expected, (acl, target))
            self.assertEqual(self.allowed("GET", "/bkt?acl"), {"alice"})
            self.assertEqual(self.allowed("GET", "/bkt?ownershipControls"), {"alice"})

    def test_permissions_of_an_object(self) -> None:
        """Each lets its grantee do one thing, and full control all of them; one to write says nothing of an object."""
        for permission, (read, read_acp, write_acp) in {
            "READ": (True, False, False),
            "WRITE": (False, False, False),
            "READ_ACP": (False, True, False),
            "WRITE_ACP": (False, False, True),
            "FULL_CONTROL": (True, True, True),
        }.items():
            self.grant("/bkt/k", permission)
            self.assertEqual(self.ask("bob", "GET", "/bkt/k").status == 200, read, permission)
            self.assertEqual(self.ask("bob", "GET", "/bkt/k?acl").status == 200, read_acp, permission)
            self.assertEqual(self.ask("bob", "PUT", "/bkt/k", "x").status, 403)
            self.assertEqual(self.ask("bob", "DELETE", "/bkt/k").status, 403)
            self.assertEqual(self.ask("carol", "GET", "/bkt/k").status, 403)
            answer = self.ask("bob", "PUT", "/bkt/k?acl", x_amz_acl="public-read")
            self.assertEqual(answer.status == 200, write_acp, permission)
            self.assertEqual(self.rig.version("bkt", b"k").facts.owner_id, "u-1")

    def test_permissions_of_a_bucket(self) -> None:
        """Each lets its grantee do one thing, and full control all of them; none of them reaches into the objects."""
        for permission, (read, write, read_acp, write_acp) in {
            "READ": (True, False, False, False),
            "WRITE": (False, True, False, False),
            "READ_ACP": (False, False, True, False),
            "WRITE_ACP": (False, False, False, True),
            "FULL_CONTROL": (True, True, True, True),
        }.items():
            self.grant("/bkt", permission)
            self.assertEqual(self.ask("bob", "GET", "/bkt").status == 200, read, permission)
            self.assertEqual(self.ask("bob", "PUT", "/bkt/new", "x").status == 200, write, permission)
            self.assertEqual(self.ask("bob", "GET", "/bkt?acl").status == 200, read_acp, permission)
            for method, target in (
                ("GET", "/bkt/k"),
                ("GET", "/bkt/k?acl"),
                ("DELETE", "/bkt/k"),
                ("GET", "/bkt?policy"),
                ("GET", "/bkt?ownershipControls"),
                ("DELETE", "/bkt"),
            ):
                self.assertEqual(self.ask("bob", method, target).status, 403, (permission, target))
            answer = self.ask("bob", "PUT", "/bkt?acl", x_amz_acl="private")
            self.assertEqual(answer.status == 200, write_acp, permission)

    def test_copying(self) -> None:
        """The source must be readable and the bucket writable, each by a list of its own."""
        self.ask("bob", "PUT", "/own", x_amz_object_ownership="ObjectWriter")
        self.assertEqual(self.ask("bob", "PUT", "/own/c", x_amz_copy_source="/bkt/k").status, 403)
        self.give("/bkt/k", CannedAcl.PUBLIC_READ)
        self.assertEqual(self.ask("bob", "PUT", "/own/c", x_amz_copy_source="/bkt/k").status, 200)
        self.assertEqual(self.ask("bob", "GET", "/own/c").body, b"of alice")
        self.assertEqual(self.ask("bob", "PUT", "/bkt/c", x_amz_copy_source="/own/c").status, 403)
        self.grant("/bkt", "WRITE")
        self.assertEqual(self.ask("bob", "PUT", "/bkt/c", x_amz_copy_source="/own/c").status, 200)

    def test_replaced_meanwhile(self) -> None:
        """Whoever may read an object does not get the one that takes its place while the request is judged."""
        self.ask("bob", "PUT", "/own", x_amz_object_ownership="ObjectWriter")
        for method, target, headers in (
            ("GET", "/bkt/k", {}),
            ("HEAD", "/bkt/k", {}),
            ("GET", "/bkt/k?attributes", {"x_amz_object_attributes": "ETag"}),
            ("GET", "/bkt/k?acl", {}),
            ("PUT", "/bkt/k?acl", {"x_amz_acl": "public-read"}),
            ("PUT", "/own/c", {"x_amz_copy_source": "/bkt/k"}),
        ):
            self.grant("/bkt/k", "FULL_CONTROL")
            real = self.rig.store.current_version
            asked: list[bytes] = []

            def current_version(
                bucket: str, key: bytes, asked: list[bytes] = asked, real: Any = real
            ) -> Deferred[ObjectVersion]:
                found = real(bucket, key)
                asked.append(key)
                if asked == [b"k"]:
                    self.assertEqual(self.ask("alice", "PUT", "/bkt/k", "secret").status, 200)
                return found

            patch = self.patch(self.rig.store, "current_version", current_version)
            answer = self.ask("bob", method, target, **headers)
            patch.restore()
            self.assertEqual(answer.status, 403, (target, answer.body))
            self.assertGreaterEqual(len(asked), 1)
            self.assertEqual(len(texts_of(self.ask("alice", "GET", "/bkt/k?acl").body, "Permission")), 1)

    def test_what_is_not_there(self) -> None:
        """Is told to who may list the bucket, and to nobody else."""
        self.assertEqual(self.ask("bob", "GET", "/bkt/none").code, "AccessDenied")
        self.grant("/bkt", "READ")
        for target, code in (
            ("none", "NoSuchKey"),
            ("none?acl", "NoSuchKey"),
            ("k?versionId=none", "NoSuchVersion"),
        ):
            self.assertEqual(self.ask("bob", "GET", f"/bkt/{target}").code, code)
            self.assertEqual(self.ask("carol", "GET", f"/bkt/{target}").code, "AccessDenied")
        self.assertEqual(self.ask("alice", "GET", "/bkt/none").code, "NoSuchKey")

    # ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def test_owners(self) -> None:
        """An object is its writer's or the bucket owner's, as the bucket says, and its list is."""
        self.grant("/bkt", "WRITE")
        for ownership, (acl, owner, grants) in (
            *product(
                (Ownership.WRITER,),
                (
                    (None, "u-2", 1),
                    (CannedAcl.PRIVATE, "u-2", 1),
                    (CannedAcl.BUCKET_OWNER_READ, "u-2", 2),
                    (CannedAcl.BUCKET_OWNER_FULL_CONTROL, "u-2", 2),
                ),
            ),
            *product(
                (Ownership.PREFERRED,),
                (
                    (None, "u-2", 1),
                    (CannedAcl.BUCKET_OWNER_READ, "u-2", 2),
                    (CannedAcl.BUCKET_OWNER_FULL_CONTROL, "u-1", 1),
                ),
            ),
        ):
            self.ask("alice", "PUT", "/bkt?ownershipControls", CONTROLS.format(ownership.value))
            headers = {} if acl is None else {"x_amz_acl": acl.value}
            self.assertEqual(self.ask("bob", "PUT", "/bkt/b", "of bob", **headers).status, 200)
            upload = self.ask("bob", "POST", "/bkt/parts?uploads", **headers)
            upload_id = text_of(upload.body, "UploadId")
            parts = self.ask("bob", "GET", f"/bkt/parts?uploadId={upload_id}").body
            self.assertEqual(texts_of(parts, "ID"), ["u-2", owner])
            self.assertEqual(texts_of(parts, "DisplayName")[0], "bob")
            self.assertEqual(self.ask("bob", "DELETE", f"/bkt/parts?uploadId={upload_id}").status, 204)
            self.assertEqual(self.rig.version("bkt", b"b").facts.owner_id, owner, (ownership, acl))
            who = "alice" if owner == "u-1" else "bob"
            shown = self.ask(who, "GET", "/bkt/b?acl").body
            self.assertEqual(text_of(shown, "ID"), owner)
            self.assertEqual(len(texts_of(shown, "Permission")), grants)
            listed = self.ask("alice", "GET", "/bkt?prefix=b").body
            self.assertEqual((texts_of(listed, "ID"), texts_of(listed, "DisplayName")), ([owner], [who]))

    def test_of_another(self) -> None:
        """What is another's in one's bucket can be deleted and restored, and read only if its list says so."""
        self.grant("/bkt", "WRITE")
        self.ask("bob", "PUT", "/bkt/b", "of bob", x_amz_storage_class="GLACIER")
        for method, target in (("GET", "/bkt/b?acl"), ("HEAD", "/bkt/b"), ("GET", "/bkt/b?attributes")):
            self.assertEqual(self.ask("alice", method, target, x_amz_object_attributes="ETag").status, 403)
        self.assertIn("another user's", self.ask("alice", "GET", "/bkt/b").body.decode())
        self.assertEqual(self.ask("alice", "PUT", "/bkt/c", x_amz_copy_source="/bkt/b").status, 403)
        self.assertEqual(self.ask("alice", "PUT", "/bkt/b?acl", x_amz_acl="private").status, 403)
        days = "<RestoreRequest><Days>1</Days></RestoreRequest>"
        self.assertEqual(self.ask("alice", "POST", "/bkt/b?restore", days).status, 202)
        self.give("/bkt/b", CannedAcl.BUCKET_OWNER_READ, "bob")
        self.assertEqual(self.ask("alice", "HEAD", "/bkt/b").status, 200)
        self.assertEqual(self.ask("alice", "GET", "/bkt/b?acl").status, 403)
        self.give("/bkt/b", CannedAcl.BUCKET_OWNER_FULL_CONTROL, "bob")
        self.assertEqual(self.ask("alice", "GET", "/bkt/b?acl").status, 200)
        self.give("/bkt/b", CannedAcl.PRIVATE, "bob")
        self.assertEqual(self.ask("alice", "PUT", "/bkt/b", "of alice", x_amz_acl="public-read").status, 200)
        self.assertEqual(self.rig.version("bkt", b"b").facts.owner_id, "u-1")
        self.ask("bob", "PUT", "/bkt/b", "of bob")
        self.assertEqual(self.ask("alice", "DELETE", "/bkt/b").status, 204)

    def test_enforced(self) -> None:
        """When there are no lists any more, all is the bucket owner's, and nobody else's."""
        self.grant("/bkt", "WRITE")
        self.ask("bob", "PUT", "/bkt/b", "of bob", x_amz_acl="public-read")
        self.give("/bkt", CannedAcl.PRIVATE)
        self.ask("alice", "PUT", "/bkt?ownershipControls", CONTROLS.format("BucketOwnerEnforced"))
        self.assertEqual(self.allowed("GET", "/bkt/b"), {"alice"})
        for target in ("/bkt/b?acl", "/bkt?prefix=b", "/bkt?versions&prefix=b"):
            self.assertEqual(set(texts_of(self.ask("alice", "GET", target).body, "ID")), {"u-1"}, target)
        self.ask("alice", "DELETE", "/bkt?ownershipControls")
        self.assertEqual(self.allowed("GET", "/bkt/b"), set(USERS))
        self.assertEqual(texts_of(self.ask("alice", "GET", "/bkt?prefix=b").body, "ID"), ["u-2"])

    def test_deleting(self) -> None:
        """Who may write may delete what is his own, and what is not there; one by one or many at once; no version."""
        self.give("/bkt", CannedAcl.PUBLIC_READ_WRITE)
        self.ask("bob", "PUT", "/bkt/b", "of bob")
        for who, key, status in (
            ("bob", "k", 403),
            ("carol", "b", 403),
            (NOBODY, "b", 403),
            ("bob", "none", 204),
            ("bob", "b?versionId=null", 403),
            ("bob", "b", 204),
        ):
            self.assertEqual(self.ask(who, "DELETE", f"/bkt/{key}").status, status, (who, key))
        self.ask("bob", "PUT", "/bkt/b", "of bob")
        entries = "".join(f"<Object><Key>{key}</Key></Object>" for key in ("b", "k", "none"))
        document = f"<Delete>{entries}</Delete>"
        digest = "x-amz-checksum-sha256"
        answer = self.ask("bob", "POST", "/bkt?delete", document, **{digest: _sha256(document)})
        self.assertEqual(texts_of(answer.body, "Code"), ["AccessDenied"])
        self.assertEqual(answer.body.decode().count("<Deleted>"), 2)
        self.assertEqual(self.ask("alice", "HEAD", "/bkt/k").status, 200)
        self.assertEqual(self.ask("alice", "HEAD", "/bkt/b").status, 404)

    def test_described(self) -> None:
        """Who may write may say of a new object what he wants to, and nothing more of one that is there."""
        self.give("/bkt", CannedAcl.PUBLIC_READ_WRITE)
        answer = self.ask("bob", "PUT", "/bkt/b", "x", x_amz_acl="public-read", x_amz_tagging="a=b")
        self.assertEqual(answer.status, 200)
        tags = "<Tagging><TagSet/></Tagging>"
        answer = self.ask("bob", "PUT", "/bkt/k?tagging", tags, x_amz_checksum_sha256=_sha256(tags))
        self.assertEqual(answer.status, 403)
        self.assertEqual(self.ask("bob", "PUT", "/bkt/k?acl", x_amz_acl="public-read").status, 403)

    def test_tag_count(self) -> None:
        """How many tags an object has is told to who may read them."""
        self.ask("alice", "PUT", "/bkt/k", "x", x_amz_acl="public-read", x_amz_tagging="a=b&c=d")
        for target, method in product(("/bkt/k", "/bkt/k?versionId=null"), ("GET", "HEAD")):
            for who, expected in (("alice", "2"), ("bob", None), (NOBODY, None)):
                self.assertEqual(self.ask(who, method, target).headers.get("x-amz-tagging-count"), expected)
        self.give("/bkt", CannedAcl.PUBLIC_READ_WRITE)
        self.ask("bob", "PUT", "/bkt/b", "x", x_amz_acl="public-read", x_amz_tagging="a=b")
        for who, expected in (("alice", "1"), ("bob", "1"), ("carol", None)):
            self.assertEqual(self.ask(who, "GET", "/bkt/b").headers.get("x-amz-tagging-count"), expected)
        self.assertEqual(self.allowed("GET", "/bkt/b?tagging"), {"alice", "bob"})
        self.assertEqual(
            self.allowed("GET", "/bkt/b?attributes", x_amz_object_attributes="ETag"), {"alice", "bob"}
        )

    def test_nobody(self) -> None:
        """What somebody writes who has not signed is the bucket owner's."""
        self.assertEqual(self.ask(NOBODY, "PUT", "/bkt/n", "x").status, 403)
        self.give("/bkt", CannedAcl.PUBLIC_READ_WRITE)
        self.assertEqual(self.ask(NOBODY, "PUT", "/bkt/n", "x").status, 200)
        self.assertEqual(self.rig.version("bkt", b"n").facts.owner_id, "u-1")
        self.assertEqual(self.allowed("GET", "/bkt/n"), {"alice"})

    def test_uploads(self) -> None:
        """Who may write may upload in parts, and only who began an upload, or owns the bucket, may look at it or end it."""
        self.give("/bkt", CannedAcl.PUBLIC_READ_WRITE)
        upload_id = text_of(self.ask("bob", "POST", "/bkt/p?uploads").body, "UploadId")
        target = f"/bkt/p?uploadId={upload_id}"
        etag = self.ask("bob", "PUT", f"{target}&partNumber=1", "x").headers["etag"]
        self.assertEqual(self.allowed("GET", target), {"alice", "bob"})
        self.assertEqual(self.ask("carol", "DELETE", target).status, 403)
        part = f"<Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>"
        document = f"<CompleteMultipartUpload>{part}</CompleteMultipartUpload>"
        self.assertEqual(self.ask("bob", "POST", target, document).status, 200)
        self.assertEqual(self.rig.version("bkt", b"p").facts.owner_id, "u-2")
        self.assertEqual(self.allowed("GET", "/bkt/p"), {"bob"})

    def test_quota(self) -> None:
        """Bytes count against the quota of whose object they are."""
        self.give("/bkt", CannedAcl.PUBLIC_READ_WRITE)
        for who, headers, owner in (
            ("bob", {}, "u-2"),
            (NOBODY, {}, "u-1"),
            ("bob", {"x_amz_acl": "bucket-owner-full-control"}, "u-1"),
        ):
            if headers:
                self.ask("alice", "PUT", "/bkt?ownershipControls", CONTROLS.format("BucketOwnerPreferred"))
            before = self.used(owner)
            self.assertEqual(
                self.ask(who, "PUT", f"/bkt/{who}{len(headers)}", "123456", **headers).status, 200
            )
            self.assertEqual(self.used(owner), before + 6, who)
        self.successResultOf(self.rig.store.set_user_quotas(name="alice", quotas={QuotaKind.STAGED: 1}))
        self.assertEqual(self.ask(NOBODY, "PUT", "/bkt/n", "123456").code, "QuotaExceeded")
        self.assertEqual(self.ask("bob", "PUT", "/bkt/n", "123456").status, 200)

    def used(self, owner_id: str) -> int:
        """Return the bytes of a user on the disk."""
        found = self.successResultOf(self.rig.store.staging_use(owner_id=owner_id))
        return sum(use.used_bytes for use in found)

    # ── beside lists ────────────────────────────────────────────────────────────────────────────────────────────────

    def test_blocked(self) -> None:
        """Where public lists are blocked none can be given; where they are ignored those that are there count for nothing."""
        self.give("/bkt/k", CannedAcl.PUBLIC_READ)
        self.give("/bkt", CannedAcl.PUBLIC_READ)
        block = "<PublicAccessBlockConfiguration><{0}>true</{0}></PublicAccessBlockConfiguration>"
        self.ask("alice", "PUT", "/bkt?publicAccessBlock", block.format("BlockPublicAcls"))
        for method, target, headers in (
            ("PUT", "/bkt?acl", {"x_amz_acl": "public-read"}),
            ("PUT", "/bkt/k?acl", {"x_amz_acl": "authenticated-read"}),
            ("PUT", "/bkt/n", {"x_amz_acl": "public-read-write"}),
            ("PUT", "/bkt/n", {"x_amz_grant_read": 'uri="http://acs.amazonaws.com/groups/global/AllUsers"'}),
        ):
            answer = self.ask("alice", method, target, **headers)
            self.assertEqual((answer.status, answer.code), (403, "AccessDenied"))
            self.assertIn("BlockPublicAcls", answer.body.decode())
        self.assertEqual(self.allowed("GET", "/bkt/k"), set(USERS))
        self.ask("alice", "PUT", "/bkt?publicAccessBlock", block.format("IgnorePublicAcls"))
        self.assertEqual(self.allowed("GET", "/bkt/k"), {"alice"})
        self.assertEqual(self.allowed("GET", "/bkt"), {"alice"})
        self.assertEqual(len(texts_of(self.ask("alice", "GET", "/bkt/k?acl").body, "Permission")), 2)

    def test_with_a_policy(self) -> None:
        """A policy that denies something counts before lists; one that allows it reaches only what is the bucket owner's."""
        self.give("/bkt", CannedAcl.PUBLIC_READ_WRITE)
        self.give("/bkt/k", CannedAcl.PUBLIC_READ)
        self.ask("bob", "PUT", "/bkt/b", "of bob")
        arn = "arn:aws:s3:::bkt/*"
        for effect, of_alice, of_bob in (
            ("Deny", set(), set()),
            ("Allow", set(USERS), {"bob"}),
        ):
            statement = {"Effect": effect, "Principal": "*", "Action": "s3:GetObject", "Resource": arn}
            policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
            self.assertEqual(self.ask("alice", "PUT", "/bkt?policy", policy).status, 204)
            self.assertEqual(self.allowed("GET", "/bkt/k"), of_alice, effect)
            self.assertEqual(self.allowed("GET", "/bkt/b"), of_bob, effect)


def _sha256(text: str) -> str:
    return b64encode(hashlib.sha256(text.encode()).digest()).decode()
