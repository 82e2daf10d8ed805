"""Access control lists and ownership controls over HTTP."""

from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.acl import CannedAcl, Ownership
from coldstore.model.keys import AccessKey
from coldstore.model.objects import User
from coldstore.ontape.member import BundleMember, member_from_record, member_json_parts, parse_json_object
from coldstore.s3.acl_fields import acl_of
from tests.unit.s3_rig import Rig, text_of, texts_of
from tests.unit.s3_wire import ParsedAnswer

ALL_USERS = "http://acs.amazonaws.com/groups/global/AllUsers"
CONTROLS = "<OwnershipControls><Rule><ObjectOwnership>{}</ObjectOwnership></Rule></OwnershipControls>"
POLICY = "<AccessControlPolicy><Owner><ID>{}</ID></Owner><AccessControlList>{}</AccessControlList></AccessControlPolicy>"
GRANT = "<Grant><Grantee><ID>{}</ID></Grantee><Permission>{}</Permission></Grant>"


def shown(answer: ParsedAnswer) -> list[tuple[str, str]]:
    """Return the grants of a document, as grantee and permission."""
    grants = answer.body.decode().partition("<AccessControlList>")[2].split("</Grant>")[:-1]
    return [
        (
            (text_of(each.encode(), "ID") or text_of(each.encode(), "URI") or ""),
            text_of(each.encode(), "Permission") or "",
        )
        for each in grants
    ]


class AclRigTests(SynchronousTestCase):
    """With a bucket that has lists, and users to whom something can be granted."""

    def setUp(self) -> None:
        """An endpoint with two buckets: one without lists, and one with."""
        self.rig = Rig()
        for user_id, name in (("u-1", "alice"), ("u-2", "bob")):
            key = AccessKey(access_key=f"KEY{user_id}", user_id=user_id, sealed_secret="", created_at=0.0)
            self.successResultOf(
                self.rig.store.create_user(User(user_id=user_id, name=name, created_at=0.0), key)
            )
        self.rig.put("/plain")
        self.assertEqual(self.rig.put("/bkt", x_amz_object_ownership="ObjectWriter").status, 200)
        for name in ("plain", "bkt"):
            self.assertEqual(self.rig.ask("DELETE", f"/{name}?publicAccessBlock").status, 204)

    def ask(self, method: str, target: str, text: str = "", **headers: str) -> ParsedAnswer:
        """Send a request; underscores in names of headers stand for dashes."""
        return self.rig.ask(
            method, target, text.encode(), {name.replace("_", "-"): value for name, value in headers.items()}
        )

    def assert_refused(self, answer: ParsedAnswer, status: int, code: str) -> None:
        """The answer is an error."""
        self.assertEqual((answer.status, answer.code), (status, code), answer.body)


class OwnershipTests(AclRigTests):
    """Ownership controls."""

    def test_life(self) -> None:
        """Enforced while nothing was said; set, replaced, removed, set again."""
        self.assertEqual(
            text_of(self.ask("GET", "/plain?ownershipControls").body, "ObjectOwnership"),
            "BucketOwnerEnforced",
        )
        for ownership in Ownership:
            self.assertEqual(
                self.ask("PUT", "/plain?ownershipControls", CONTROLS.format(ownership.value)).status, 200
            )
            answer = self.ask("GET", "/plain?ownershipControls")
            self.assertEqual(text_of(answer.body, "ObjectOwnership"), ownership.value)
            self.assertEqual(self.ask("PUT", "/plain?ownershipControls", answer.body.decode()).status, 200)
        for _ in range(2):
            self.assertEqual(self.ask("DELETE", "/plain?ownershipControls").status, 204)
            self.assert_refused(
                self.ask("GET", "/plain?ownershipControls"), 404, "OwnershipControlsNotFoundError"
            )
        self.assertEqual(self.ask("PUT", "/plain?acl", x_amz_acl="public-read").status, 200)
        self.assertEqual(self.ask("PUT", "/plain?acl", x_amz_acl="private").status, 200)
        self.assertEqual(
            self.ask("PUT", "/plain?ownershipControls", CONTROLS.format("BucketOwnerEnforced")).status, 200
        )
        self.assert_refused(
            self.ask("PUT", "/plain?acl", x_amz_acl="public-read"), 400, "AccessControlListNotSupported"
        )

    def test_at_creation(self) -> None:
        """A new bucket has the ownership that its maker asks for, and its list."""
        self.assertEqual(
            text_of(self.ask("GET", "/bkt?ownershipControls").body, "ObjectOwnership"), "ObjectWriter"
        )
        made = self.ask(
            "PUT",
            "/new",
            x_amz_object_ownership="BucketOwnerPreferred",
            x_amz_grant_read="id=u-2",
            x_amz_grant_full_control="id=u-1",
        )
        self.assertEqual(made.status, 200)
        self.assertEqual(shown(self.ask("GET", "/new?acl")), [("u-2", "READ"), ("u-1", "FULL_CONTROL")])
        for headers in ({"x_amz_acl": "private"}, {"x_amz_acl": "bucket-owner-full-control"}):
            self.assertEqual(self.ask("PUT", "/other", **headers).status, 200)
        for headers, code in (
            ({"x_amz_acl": "public-read"}, "InvalidBucketAclWithObjectOwnership"),
            ({"x_amz_grant_read": 'id="u-2"'}, "InvalidBucketAclWithObjectOwnership"),
            (
                {"x_amz_acl": "public-read", "x_amz_object_ownership": "BucketOwnerEnforced"},
                "InvalidBucketAclWithObjectOwnership",
            ),
            (
                {"x_amz_acl": "public-read", "x_amz_object_ownership": "ObjectWriter"},
                "InvalidBucketAclWithBlockPublicAccessError",
            ),
            ({"x_amz_object_ownership": "Mine"}, "InvalidArgument"),
            ({"x_amz_acl": "mine", "x_amz_object_ownership": "ObjectWriter"}, "InvalidArgument"),
            ({"x_amz_grant_read": 'id="u-9"', "x_amz_object_ownership": "ObjectWriter"}, "InvalidArgument"),
        ):
            self.assert_refused(self.ask("PUT", "/none", **headers), 400, code)
        self.assertEqual(self.ask("HEAD", "/none").status, 404)

    def test_enforced_with_a_list(self) -> None:
        """While the bucket's own list grants others anything, lists cannot be switched off."""
        self.ask("PUT", "/bkt?acl", x_amz_acl="public-read")
        answer = self.ask("PUT", "/bkt?ownershipControls", CONTROLS.format("BucketOwnerEnforced"))
        self.assert_refused(answer, 400, "InvalidBucketAclWithObjectOwnership")
        self.assertEqual(
            text_of(self.ask("GET", "/bkt?ownershipControls").body, "ObjectOwnership"), "ObjectWriter"
        )
        self.ask("PUT", "/bkt?acl", x_amz_acl="private")
        self.assertEqual(
            self.ask("PUT", "/bkt?ownershipControls", CONTROLS.format("BucketOwnerEnforced")).status, 200
        )

    def test_lists_come_back(self) -> None:
        """Lists of objects are not in force while there are none, and are when there are again."""
        self.ask("PUT", "/bkt/k", "x", x_amz_acl="public-read")
        public = shown(self.ask("GET", "/bkt/k?acl"))
        self.ask("PUT", "/bkt?ownershipControls", CONTROLS.format("BucketOwnerEnforced"))
        self.assertEqual(shown(self.ask("GET", "/bkt/k?acl")), [("u-1", "FULL_CONTROL")])
        self.ask("DELETE", "/bkt?ownershipControls")
        self.assertEqual(shown(self.ask("GET", "/bkt/k?acl")), public)

    def test_documents(self) -> None:
        """What is no such document is refused and changes nothing."""
        self.assert_refused(self.ask("PUT", "/bkt?ownershipControls"), 400, "MissingRequestBodyError")
        self.assert_refused(
            self.ask("PUT", "/bkt?ownershipControls", CONTROLS.format("Mine")), 400, "MalformedXML"
        )
        self.assertEqual(
            text_of(self.ask("GET", "/bkt?ownershipControls").body, "ObjectOwnership"), "ObjectWriter"
        )
        for method in ("GET", "PUT", "DELETE"):
            self.assert_refused(self.ask(method, "/none?ownershipControls"), 404, "NoSuchBucket")


class WithoutListsTests(AclRigTests):
    """Where there are no lists."""

    def test_reading(self) -> None:
        """The bucket's owner has full control."""
        self.ask("PUT", "/plain/k", "x")
        for path in ("/plain", "/plain/k"):
            answer = self.ask("GET", f"{path}?acl")
            self.assertEqual(shown(answer), [("u-1", "FULL_CONTROL")])
            self.assertEqual(texts_of(answer.body, "DisplayName"), ["alice", "alice"])

    def test_writing(self) -> None:
        """What says what is so succeeds, and everything else is refused with what would."""
        self.ask("PUT", "/plain/k", "x")
        for path in ("/plain", "/plain/k"):
            document = self.ask("GET", f"{path}?acl").body.decode()
            self.assertEqual(self.ask("PUT", f"{path}?acl", document).status, 200)
            for headers in (
                {"x_amz_acl": "private"},
                {"x_amz_acl": "bucket-owner-full-control"},
                {"x_amz_grant_full_control": 'id="u-1"'},
            ):
                self.assertEqual(self.ask("PUT", f"{path}?acl", **headers).status, 200)
            for text, headers, named in (
                ("", {"x_amz_acl": "public-read"}, "cannot be 'public-read'"),
                ("", {"x_amz_acl": "bucket-owner-read"}, "bucket-owner-read"),
                ("", {"x_amz_grant_read": 'id="u-2"'}, "READ for u-2"),
                (POLICY.format("u-1", GRANT.format("u-1", "READ")), {}, "less than FULL_CONTROL"),
                (POLICY.format("u-1", ""), {}, "less than FULL_CONTROL"),
                (
                    POLICY.format("u-1", GRANT.format("u-1", "FULL_CONTROL") + GRANT.format("u-2", "WRITE")),
                    {},
                    "WRITE for u-2",
                ),
            ):
                answer = self.ask("PUT", f"{path}?acl", text, **headers)
                self.assert_refused(answer, 400, "AccessControlListNotSupported")
                self.assertIn(named, answer.body.decode())
                self.assertIn("PutBucketOwnershipControls", answer.body.decode())

    def test_new_objects(self) -> None:
        """Are refused with any other list, before a byte of them is asked for, and nothing is kept."""
        self.ask("PUT", "/plain/k", "x", x_amz_acl="private")
        self.ask("PUT", "/plain/l", "x", x_amz_acl="bucket-owner-full-control")
        pieces = self.rig.piece_count
        for headers in ({"x_amz_acl": "public-read"}, {"x_amz_grant_read": 'id="u-1"'}):
            for method, target, more in (
                ("PUT", "/plain/n", {}),
                ("POST", "/plain/n?uploads", {}),
                ("PUT", "/plain/n", {"x_amz_copy_source": "/plain/k"}),
            ):
                self.assert_refused(
                    self.ask(method, target, **headers, **more), 400, "AccessControlListNotSupported"
                )
        self.assertEqual(self.rig.piece_count, pieces)
        self.assertEqual(self.ask("HEAD", "/plain/n").status, 404)


class ListTests(AclRigTests):
    """Where there are lists."""

    def test_canned(self) -> None:
        """Each is shown as the grants that it stands for, of buckets and objects, however it was given."""
        alone = [("u-1", "FULL_CONTROL")]
        groups = "http://acs.amazonaws.com/groups"
        for name, more in (
            (CannedAcl.PRIVATE, []),
            (CannedAcl.PUBLIC_READ, [(ALL_USERS, "READ")]),
            (CannedAcl.PUBLIC_READ_WRITE, [(ALL_USERS, "READ"), (ALL_USERS, "WRITE")]),
            (CannedAcl.AUTHENTICATED_READ, [(f"{groups}/global/AuthenticatedUsers", "READ")]),
            (
                CannedAcl.AWS_EXEC_READ,
                [("6aa5a366c34c1cbe25dc49211496e913e0351eb0e8c37aa3477e40942ec6b93c", "READ")],
            ),
            (CannedAcl.BUCKET_OWNER_READ, []),
            (CannedAcl.BUCKET_OWNER_FULL_CONTROL, []),
            (
                CannedAcl.LOG_DELIVERY_WRITE,
                [(f"{groups}/s3/LogDelivery", "WRITE"), (f"{groups}/s3/LogDelivery", "READ_ACP")],
            ),
        ):
            expected = [*more, *alone]
            self.assertEqual(self.ask("PUT", "/bkt?acl", x_amz_acl=name.value).status, 200)
            answer = self.ask("GET", "/bkt?acl")
            self.assertEqual(shown(answer), expected, name)
            self.assertEqual(self.ask("PUT", "/bkt?acl", answer.body.decode()).status, 200)
            self.assertEqual(self.ask("GET", "/bkt?acl").body, answer.body)
            if name is CannedAcl.LOG_DELIVERY_WRITE:
                self.assert_refused(
                    self.ask("PUT", "/bkt/k", "x", x_amz_acl=name.value), 400, "InvalidArgument"
                )
                continue
            self.ask("PUT", "/bkt/k", "x")
            self.assertEqual(self.ask("PUT", "/bkt/k?acl", x_amz_acl=name.value).status, 200)
            self.ask("PUT", "/bkt/put", "x", x_amz_acl=name.value)
            self.ask("PUT", "/bkt/copy", x_amz_acl=name.value, x_amz_copy_source="/bkt/k")
            upload_id = text_of(self.ask("POST", "/bkt/parts?uploads", x_amz_acl=name.value).body, "UploadId")
            etag = self.ask("PUT", f"/bkt/parts?uploadId={upload_id}&partNumber=1", "x").headers["etag"]
            part = f"<Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>"
            document = f"<CompleteMultipartUpload>{part}</CompleteMultipartUpload>"
            self.assertEqual(self.ask("POST", f"/bkt/parts?uploadId={upload_id}", document).status, 200)
            for key in ("k", "put", "copy", "parts"):
                self.assertEqual(shown(self.ask("GET", f"/bkt/{key}?acl")), expected, (key, name))

    def test_is_not_copied(self) -> None:
        """A copy has the list that its writer asks for, and none of the source's."""
        self.ask("PUT", "/bkt/k", "x", x_amz_acl="public-read", x_amz_meta_a="b")
        for directive in ("COPY", "REPLACE"):
            self.ask("PUT", "/bkt/c", x_amz_copy_source="/bkt/k", x_amz_metadata_directive=directive)
            self.assertEqual(shown(self.ask("GET", "/bkt/c?acl")), [("u-1", "FULL_CONTROL")])

    def test_is_not_shown_as_a_header(self) -> None:
        """Grants stand among the stored headers, and in no answer's."""
        self.ask("PUT", "/bkt/k", "x", x_amz_acl="public-read")
        answer = self.ask("GET", "/bkt/k")
        self.assertEqual([name for name in answer.headers if "grant" in name or "acl" in name], [])
        self.assertEqual(
            dict(self.rig.version("bkt", b"k").facts.headers)["x-amz-grant-read"], f'uri="{ALL_USERS}"'
        )

    def test_on_tape(self) -> None:
        """The list that a writer gave is in what a bundle says of the object, and nothing of the default or of a later one is."""
        self.ask("PUT", "/bkt/public", "x", x_amz_acl="public-read")
        self.ask("PUT", "/bkt/private", "x")
        self.ask("PUT", "/bkt/private?acl", x_amz_acl="public-read")
        for key, expected in (
            (b"public", shown(self.ask("GET", "/bkt/public?acl"))),
            (b"private", [("u-1", "FULL_CONTROL")]),
        ):
            version = self.rig.version("bkt", key)
            member = BundleMember(
                facts=version.facts,
                version_uid=version.version_uid,
                sequence=version.sequence,
                extent=0,
                extent_count=1,
                object_offset_bytes=0,
                length_bytes=1,
                crc64nvme=version.facts.crc64nvme,
            )
            text = "{" + ",".join(member_json_parts(member)) + "}"
            read = member_from_record(parse_json_object(text))
            self.assertEqual(read, member)
            found = acl_of(version._replace(facts=read.facts, acl=None))
            self.assertEqual(
                [(str(grant.grantee), grant.permission.value) for grant in found.grants], expected
            )

    def test_grants(self) -> None:
        """By header fields and by documents; they replace each other."""
        self.ask(
            "PUT",
            "/bkt/k",
            "x",
            x_amz_grant_read='id="u-2"',
            x_amz_grant_write_acp=f'uri="{ALL_USERS}", id="u-1"',
        )
        expected = [("u-2", "READ"), (ALL_USERS, "WRITE_ACP"), ("u-1", "WRITE_ACP")]
        answer = self.ask("GET", "/bkt/k?acl")
        self.assertEqual(shown(answer), expected)
        self.assertEqual(texts_of(answer.body, "DisplayName"), ["alice", "bob", "alice"])
        for path in ("/bkt/k", "/bkt"):
            self.assertEqual(self.ask("PUT", f"{path}?acl", x_amz_grant_read_acp='id="u-2"').status, 200)
            self.assertEqual(shown(self.ask("GET", f"{path}?acl")), [("u-2", "READ_ACP")])
            self.assertEqual(self.ask("PUT", f"{path}?acl", POLICY.format("u-1", "")).status, 200)
            self.assertEqual(shown(self.ask("GET", f"{path}?acl")), [])
            self.assertEqual(self.ask("PUT", f"{path}?acl", x_amz_acl="private").status, 200)
            self.assertEqual(shown(self.ask("GET", f"{path}?acl")), [("u-1", "FULL_CONTROL")])

    def test_faults(self) -> None:
        """Are refused by name and change nothing."""
        self.ask("PUT", "/bkt/k", "x", x_amz_acl="public-read")
        self.ask("PUT", "/bkt?acl", x_amz_acl="public-read")
        for path in ("/bkt/k", "/bkt"):
            before = self.ask("GET", f"{path}?acl").body
            for text, headers, status, code in (
                ("", {}, 400, "MissingSecurityHeader"),
                (POLICY.format("u-1", ""), {"x_amz_acl": "private"}, 400, "UnexpectedContent"),
                (POLICY.format("u-1", ""), {"x_amz_grant_read": "id=u-2"}, 400, "UnexpectedContent"),
                ("", {"x_amz_acl": "private", "x_amz_grant_read": "id=u-2"}, 400, "InvalidRequest"),
                ("", {"x_amz_acl": "mine"}, 400, "InvalidArgument"),
                ("", {"x_amz_grant_read": "id=u-9"}, 400, "InvalidArgument"),
                (POLICY.format("u-1", GRANT.format("u-9", "READ")), {}, 400, "InvalidArgument"),
                (POLICY.format("u-2", GRANT.format("u-1", "READ")), {}, 403, "AccessDenied"),
                ("", {"x_amz_grant_read": "emailAddress=a@b"}, 400, "UnresolvableGrantByEmailAddress"),
                ("<AccessControlPolicy/>", {}, 400, "MalformedACLError"),
                ("rubbish", {}, 400, "MalformedACLError"),
                (POLICY.format("u-1", 101 * GRANT.format("u-2", "READ")), {}, 400, "MalformedACLError"),
            ):
                self.assert_refused(self.ask("PUT", f"{path}?acl", text, **headers), status, code)
            self.assertEqual(self.ask("GET", f"{path}?acl").body, before)
        self.assert_refused(self.ask("GET", "/bkt/none?acl"), 404, "NoSuchKey")
        self.assert_refused(self.ask("PUT", "/bkt/none?acl", x_amz_acl="private"), 404, "NoSuchKey")
        self.assert_refused(self.ask("PUT", "/none?acl", x_amz_acl="private"), 404, "NoSuchBucket")

    def test_versions(self) -> None:
        """Each has a list of its own; without a version id the current one's is meant."""
        enabled = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
        self.ask("PUT", "/bkt?versioning", enabled)
        old, new = (self.ask("PUT", "/bkt/k", "x").headers["x-amz-version-id"] for _ in range(2))
        answer = self.ask("PUT", f"/bkt/k?acl&versionId={old}", x_amz_acl="public-read")
        self.assertEqual((answer.status, answer.headers["x-amz-version-id"]), (200, old))
        alone = [("u-1", "FULL_CONTROL")]
        self.assertEqual(shown(self.ask("GET", "/bkt/k?acl")), alone)
        self.assertEqual(shown(self.ask("GET", f"/bkt/k?acl&versionId={old}")), [(ALL_USERS, "READ"), *alone])
        self.ask("PUT", "/bkt/k?acl", x_amz_acl="authenticated-read")
        self.assertEqual(len(shown(self.ask("GET", f"/bkt/k?acl&versionId={new}"))), 2)
        self.assert_refused(self.ask("GET", "/bkt/k?acl&versionId=none"), 404, "NoSuchVersion")
        marker = self.ask("DELETE", "/bkt/k").headers["x-amz-version-id"]
        self.assert_refused(self.ask("GET", "/bkt/k?acl"), 404, "NoSuchKey")
        answer = self.ask("PUT", f"/bkt/k?acl&versionId={marker}", x_amz_acl="private")
        self.assert_refused(answer, 405, "MethodNotAllowed")

    def test_cold(self) -> None:
        """Lists of cold objects are read and written without a restore."""
        self.ask("PUT", "/bkt/k", "x", x_amz_storage_class="GLACIER", x_amz_acl="public-read")
        self.rig.evict("bkt", b"k")
        self.assertEqual(len(shown(self.ask("GET", "/bkt/k?acl"))), 2)
        self.assertEqual(self.ask("PUT", "/bkt/k?acl", x_amz_acl="private").status, 200)
        self.assertEqual(shown(self.ask("GET", "/bkt/k?acl")), [("u-1", "FULL_CONTROL")])

    def test_nothing_to_write(self) -> None:
        """A list that is there already is not written again."""
        self.ask("PUT", "/bkt/k", "x")
        before = self.rig.version("bkt", b"k")
        self.assertEqual(self.ask("PUT", "/bkt/k?acl", x_amz_acl="private").status, 200)
        self.assertEqual(self.rig.version("bkt", b"k"), before)
