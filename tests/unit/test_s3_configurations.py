"""Configurations that cannot be set: reading and removing what is not there, and writing what is so anyway."""

from twisted.trial.unittest import SynchronousTestCase

from coldstore.s3.api import BUILT, Operation, Target
from coldstore.s3.errors import S3Error
from coldstore.s3.fields import HeaderFields
from coldstore.s3.settled import SETTLED, check_acl, check_settled
from coldstore.s3.unset import ACLS, DEFAULTS, MISSING, REMOVALS, answer_of_unset
from coldstore.s3.xml import MalformedDocument, document, read_document
from tests.unit.s3_rig import Rig, text_of

NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


def acl(*grants: tuple[str, str], owner: str = "u-1") -> bytes:
    """Return the document of an ACL: pairs of grantee and permission."""
    written = "".join(
        '<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser">'
        f"{grantee}</Grantee><Permission>{permission}</Permission></Grant>"
        for grantee, permission in grants
    )
    return (
        f"<AccessControlPolicy {NAMESPACE}><Owner><ID>{owner}</ID></Owner>"
        f"<AccessControlList>{written}</AccessControlList></AccessControlPolicy>"
    ).encode()


OWNER = "<ID>u-1</ID><DisplayName>alice</DisplayName>"
EVERYBODY = "<URI>http://acs.amazonaws.com/groups/global/AllUsers</URI>"


class UnsetTests(SynchronousTestCase):
    """What is answered of what is not set."""

    def test_each_has_one_answer(self) -> None:
        """A 404 of its own code, the document of the default, or the success of a removal."""
        for code in MISSING.values():
            self.assertEqual(S3Error(code).status, 404, code)
        groups = (set(MISSING), set(DEFAULTS), set(REMOVALS), set(ACLS))
        self.assertEqual(sum(map(len, groups)), len(set().union(*groups)))
        for operation in set().union(*groups[1:]):
            answer = answer_of_unset(operation, owner_id="o", owner_name="olga")
            self.assertEqual(answer.status, 204 if operation in REMOVALS else 200, operation)

    def test_acl(self) -> None:
        """The owner has full control."""
        answer = answer_of_unset(Operation.GET_OBJECT_ACL, owner_id="o", owner_name="olga")
        root = read_document(answer.body, "AccessControlPolicy")
        grants = root.all("AccessControlList")[0].all("Grant")
        self.assertEqual([grant.text_of("Permission") for grant in grants], ["FULL_CONTROL"])
        self.assertEqual(grants[0].all("Grantee")[0].text_of("ID"), "o")


class SettledTests(SynchronousTestCase):
    """Documents that say what is so, and others."""

    def refusal(self, operation: Operation, written: bytes) -> S3Error:
        """Return why a document is refused."""
        with self.assertRaises(S3Error) as caught:
            check_settled(operation, written)
        return caught.exception

    def test_what_is_read(self) -> None:
        """What a reading answers can be written back."""
        for operation, node in SETTLED.items():
            check_settled(operation, document(node))
            check_settled(operation, document(node, namespace=None))

    def test_other_values(self) -> None:
        """Are refused by the name of the element and its value, with what is taken instead."""
        for operation, written, named in (
            (
                Operation.PUT_BUCKET_OWNERSHIP,
                b"<OwnershipControls><Rule><ObjectOwnership>ObjectWriter</ObjectOwnership></Rule></OwnershipControls>",
                "ObjectOwnership 'ObjectWriter'",
            ),
            (Operation.PUT_BUCKET_OWNERSHIP, b"<OwnershipControls/>", "no Rule"),
            (
                Operation.PUT_BUCKET_OWNERSHIP,
                b"<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule><Rule/>"
                b"</OwnershipControls>",
                "OwnershipControls of Rule, Rule",
            ),
            (
                Operation.PUT_BUCKET_NOTIFICATION,
                b"<NotificationConfiguration><QueueConfiguration/></NotificationConfiguration>",
                "QueueConfiguration",
            ),
            (
                Operation.PUT_BUCKET_REQUEST_PAYMENT,
                b"<RequestPaymentConfiguration><Payer>Requester</Payer></RequestPaymentConfiguration>",
                "Payer 'Requester'",
            ),
        ):
            error = self.refusal(operation, written)
            self.assertEqual(error.code, "NotImplemented")
            self.assertIn(f"{operation.value} with {named}; ", error.message)
        self.assertIn("<ObjectOwnership>BucketOwnerEnforced<", self.refusal(*_ANYTHING).message)

    def test_what_is_quoted_is_bounded(self) -> None:
        """A value of any length makes no long answer."""
        long = b"<RequestPaymentConfiguration><Payer>%s</Payer></RequestPaymentConfiguration>" % (b"x" * 9000)
        self.assertLess(len(self.refusal(Operation.PUT_BUCKET_REQUEST_PAYMENT, long).message), 500)
        long = b"<AbacStatus><Status><%s/></Status></AbacStatus>" % (b"x" * 9000)
        self.assertLess(len(self.refusal(Operation.PUT_BUCKET_ABAC, long).message), 500)

    def test_no_document(self) -> None:
        """Nothing, and what is another document, is refused."""
        self.assertEqual(self.refusal(Operation.PUT_BUCKET_LOGGING, b" ").code, "MissingRequestBodyError")
        with self.assertRaises(MalformedDocument):
            check_settled(Operation.PUT_BUCKET_LOGGING, b"<Other/>")


_ANYTHING = (Operation.PUT_BUCKET_OWNERSHIP, b"<OwnershipControls/>")


class AclTests(SynchronousTestCase):
    """ACLs that leave everything to the owner, and others."""

    def refusal(self, headers: dict[str, str], written: bytes = b"") -> S3Error:
        """Return why an ACL is refused."""
        with self.assertRaises(S3Error) as caught:
            self.check(headers, written)
        return caught.exception

    def check(self, headers: dict[str, str], written: bytes = b"") -> None:
        """Check an ACL."""
        fields = HeaderFields((name.encode(), value.encode()) for name, value in headers.items())
        check_acl(fields, written, "u-1")

    def test_what_is_so(self) -> None:
        """The canned ones of the owner, and the document that a reading answers."""
        for canned in ("private", "bucket-owner-full-control"):
            self.check({"x-amz-acl": canned})
        self.check({}, acl((OWNER, "FULL_CONTROL")))
        self.check({}, answer_of_unset(Operation.GET_BUCKET_ACL, owner_id="u-1", owner_name="a").body)

    def test_others(self) -> None:
        """Are refused by name, with what is taken instead."""
        for headers, written, named in (
            ({"x-amz-acl": "public-read"}, b"", "x-amz-acl cannot be 'public-read'"),
            ({"x-amz-grant-read": "id=1"}, b"", "x-amz-grant-read cannot be granted"),
            (
                {},
                acl((OWNER, "FULL_CONTROL"), (EVERYBODY, "READ")),
                "READ for http://acs.amazonaws.com/groups",
            ),
            ({}, acl((OWNER, "READ")), "less than FULL_CONTROL for the owner"),
            ({}, acl(), "less than FULL_CONTROL for the owner"),
        ):
            error = self.refusal(headers, written)
            self.assertEqual(error.code, "AccessControlListNotSupported")
            self.assertIn(named, error.message)
            self.assertIn("private or bucket-owner-full-control", error.message)

    def test_nothing_and_rubbish(self) -> None:
        """Name what is missing or wrong."""
        error = self.refusal({})
        self.assertEqual(
            (error.code, error.details), ("MissingSecurityHeader", {"MissingHeaderName": "x-amz-acl"})
        )
        for written in (b"x", b"<Other/>", acl(("", "READ")).replace(b"Grantee", b"Other")):
            self.assertEqual(self.refusal({}, written).code, "MalformedACLError")


class OperationTests(SynchronousTestCase):
    """Over HTTP."""

    def setUp(self) -> None:
        """An endpoint with a bucket and a cold object."""
        self.rig = Rig()
        self.rig.put("/bkt")
        self.rig.put("/bkt/k", b"x", x_amz_storage_class="GLACIER")

    def test_reading(self) -> None:
        """All answer cleanly, of buckets and of objects, cold ones included."""
        for target, path in ((Target.BUCKET, "/bkt"), (Target.OBJECT, "/bkt/k")):
            for name, methods in BUILT[target].subresources.items():
                if methods.get("GET") in {*MISSING, *DEFAULTS, *ACLS}:
                    self.assertIn(self.rig.ask("GET", f"{path}?{name}").status, (200, 404), name)
        ownership = self.rig.ask("GET", "/bkt?ownershipControls")
        self.assertEqual(text_of(ownership.body, "ObjectOwnership"), "BucketOwnerEnforced")

    def test_of_what_is_not_there(self) -> None:
        """A bucket or object that is not there has no configuration, set or not."""
        self.assertEqual(self.rig.ask("GET", "/bkt/none?acl").code, "NoSuchKey")
        self.assertEqual(
            self.rig.ask("PUT", "/bkt/none?acl", headers={"x-amz-acl": "private"}).code, "NoSuchKey"
        )
        for method, name in (("GET", "cors"), ("DELETE", "cors"), ("PUT", "ownershipControls")):
            self.assertEqual(self.rig.ask(method, f"/none?{name}").code, "NoSuchBucket")

    def test_removing(self) -> None:
        """What is not there can be removed, as at AWS."""
        for name in (
            "cors",
            "policy",
            "website",
            "replication",
            "encryption",
            "publicAccessBlock",
        ):
            self.assertEqual(self.rig.ask("DELETE", f"/bkt?{name}").status, 204, name)
        self.assertEqual(self.rig.ask("DELETE", "/bkt?metrics&id=a").code, "NoSuchConfiguration")

    def test_writing(self) -> None:
        """What is so anyway succeeds; else the answer says what would."""
        ownership = self.rig.ask("GET", "/bkt?ownershipControls").body
        self.assertEqual(self.rig.ask("PUT", "/bkt?ownershipControls", ownership).status, 200)
        other = ownership.replace(b"BucketOwnerEnforced", b"BucketOwnerPreferred")
        answer = self.rig.ask("PUT", "/bkt?ownershipControls", other)
        self.assertEqual((answer.status, answer.code), (501, "NotImplemented"))
        for path in ("/bkt", "/bkt/k"):
            shown = self.rig.ask("GET", f"{path}?acl").body
            self.assertEqual(self.rig.ask("PUT", f"{path}?acl", shown).status, 200)
            self.assertEqual(self.rig.ask("PUT", f"{path}?acl", headers={"x-amz-acl": "private"}).status, 200)
            answer = self.rig.ask("PUT", f"{path}?acl", headers={"x-amz-acl": "public-read"})
            self.assertEqual((answer.status, answer.code), (400, "AccessControlListNotSupported"))
