"""Access control lists and ownership controls: as header fields, as documents, and as they are kept."""

import re
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.acl import Acl, CannedAcl, Grant, Group, Ownership, Permission
from coldstore.plan.acl import acl, canned, private
from coldstore.s3.acl_document import acl_node, parse_acl
from coldstore.s3.acl_fields import (
    GRANTS_MAX,
    SILENT,
    asked_acl,
    bucket_document,
    fields_of,
    grants_in,
    grants_of,
    with_grants,
    written_fields,
)
from coldstore.s3.errors import S3Error
from coldstore.s3.fields import HeaderFields
from coldstore.s3.ownership import (
    REMOVED,
    kept_controls,
    named_ownership,
    ownership_node,
    ownership_text,
    parse_ownership,
)
from coldstore.s3.xml import MalformedDocument, document

READ, WRITE, READ_ACP, WRITE_ACP, FULL_CONTROL = Permission
ALL_USERS = "<URI>http://acs.amazonaws.com/groups/global/AllUsers</URI>"
IDS = st.text("0123456789abcdef", min_size=1, max_size=64)
GRANTS = st.lists(
    st.builds(Grant, grantee=st.one_of(st.sampled_from(Group), IDS), permission=st.sampled_from(Permission)),
    max_size=GRANTS_MAX,
)


def fields(**headers: str) -> HeaderFields:
    """Return header fields; underscores in names stand for dashes."""
    return HeaderFields((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items())


def written(*grants: tuple[str, str], owner: str = "<Owner><ID>u-1</ID></Owner>") -> bytes:
    """Return a document: pairs of a grantee's elements and a permission."""
    listed = "".join(
        f"<Grant><Grantee>{grantee}</Grantee><Permission>{permission}</Permission></Grant>"
        for grantee, permission in grants
    )
    return f"<AccessControlPolicy>{owner}<AccessControlList>{listed}</AccessControlList></AccessControlPolicy>".encode()


class FieldTests(SynchronousTestCase):
    """What header fields ask for."""

    def refused(self, *, of_bucket: bool = False, **headers: str) -> S3Error:
        """Return why fields are refused."""
        with self.assertRaises(S3Error) as caught:
            asked_acl(fields(**headers), of_bucket=of_bucket)
        return caught.exception

    def test_nothing(self) -> None:
        """Nothing is asked for by other fields."""
        asked = asked_acl(fields(x_amz_meta_acl="public-read", host="h"), of_bucket=False)
        self.assertIs(asked, SILENT)
        self.assertTrue(asked.is_silent)
        self.assertEqual(asked.acl(owner_id="w", bucket_owner_id="b"), private("w"))

    def test_canned(self) -> None:
        """All names, of buckets and of objects; delivery of logs is a bucket's alone."""
        for name, of_bucket in product(CannedAcl, (True, False)):
            if name is CannedAcl.LOG_DELIVERY_WRITE and not of_bucket:
                error = self.refused(x_amz_acl=name.value)
                self.assertEqual(error.details, {"ArgumentName": "x-amz-acl", "ArgumentValue": name.value})
                continue
            asked = asked_acl(fields(x_amz_acl=name.value), of_bucket=of_bucket)
            self.assertEqual(
                asked.acl(owner_id="w", bucket_owner_id="b"),
                canned(name, owner_id="w", bucket_owner_id="b"),
            )

    def test_grants(self) -> None:
        """A field for each permission, with ids and groups, in quotes or without, commas between them."""
        asked = asked_acl(
            fields(
                x_amz_grant_read=f'uri="{Group.ALL_USERS.value}", id="a",ID=b',
                x_amz_grant_full_control=" id = c ",
                x_amz_grant_write_acp='id="a"',
            ),
            of_bucket=False,
        )
        self.assertEqual(
            asked.acl(owner_id="w", bucket_owner_id="b"),
            acl(
                "w",
                [
                    Grant(Group.ALL_USERS, READ),
                    Grant("a", READ),
                    Grant("b", READ),
                    Grant("a", WRITE_ACP),
                    Grant("c", FULL_CONTROL),
                ],
            ),
        )

    def test_faults(self) -> None:
        """Are refused by name, with what is possible."""
        error = self.refused(x_amz_acl="public")
        self.assertEqual(error.code, "InvalidArgument")
        self.assertIn("'public'", error.message)
        self.assertIn("public-read-write", error.message)
        self.assertEqual(self.refused(x_amz_acl="").code, "InvalidArgument")
        for value in ("", "a", "id", "id=", 'id="a', "id=a;uri=b", "name=a", "id=a,,id=b", 'id=""', "id=a b"):
            error = self.refused(x_amz_grant_read=value)
            self.assertEqual(
                (error.code, error.details["ArgumentName"]), ("InvalidArgument", "x-amz-grant-read"), value
            )
        error = self.refused(x_amz_grant_read="uri=http://acs.amazonaws.com/groups/global/Nobody")
        self.assertEqual(error.code, "InvalidArgument")
        self.assertIn("LogDelivery", error.message)
        error = self.refused(x_amz_grant_execute="id=a")
        self.assertEqual(error.code, "InvalidArgument")
        self.assertIn("x-amz-grant-read-acp", error.message)
        error = self.refused(x_amz_grant_read='emailAddress="a@example.com"')
        self.assertEqual((error.code, error.status), ("UnresolvableGrantByEmailAddress", 400))
        error = self.refused(x_amz_acl="private", x_amz_grant_read="id=a")
        self.assertEqual(error.code, "InvalidRequest")
        self.assertIn("x-amz-grant-read", error.message)

    def test_too_many(self) -> None:
        """A hundred grants are possible, over all fields; one more is refused."""
        half = ",".join(f"id={number}" for number in range(GRANTS_MAX // 2))
        asked_acl(fields(x_amz_grant_read=half, x_amz_grant_write=half), of_bucket=True)
        error = self.refused(x_amz_grant_read=half, x_amz_grant_write=half + ",id=a")
        self.assertEqual(error.code, "MalformedACLError")
        self.assertIn("101 grants", error.message)


class KeptTests(SynchronousTestCase):
    """Lists as they are kept."""

    @settings(max_examples=100, deadline=None)
    @given(GRANTS)
    def test_round_trips(self, grants: list[Grant]) -> None:
        """What is kept of a list, as fields and as the document of a bucket, is read back as it was."""
        whole = acl("owner", grants)
        self.assertEqual(set(grants_of(fields_of(whole.grants))), set(whole.grants))
        self.assertEqual(acl("owner", grants_of(fields_of(whole.grants))), whole)
        kept = bucket_document(whole)
        self.assertEqual(private("owner") if kept is None else acl("owner", grants_in(kept)), whole)

    def test_default(self) -> None:
        """The owner's full control alone is nothing to keep; that nobody has anything is something."""
        self.assertEqual(written_fields(private("a")), ())
        self.assertIsNone(bucket_document(private("a")))
        self.assertEqual(bucket_document(acl("a", [])), "[]")
        self.assertEqual(
            written_fields(acl("a", [Grant("b", FULL_CONTROL)])), (("x-amz-grant-full-control", 'id="b"'),)
        )

    def test_among_headers(self) -> None:
        """They stand among the stored headers in the place of any other grants."""
        headers = (("content-type", "a/b"), ("x-amz-grant-read", 'id="a"'), ("x-amz-tagging", "a=b"))
        plain = (("content-type", "a/b"), ("x-amz-tagging", "a=b"))
        new = (("x-amz-grant-write", 'id="c"'),)
        self.assertEqual(with_grants(headers, ()), plain)
        self.assertEqual(with_grants(headers, new), (plain[0], *new, plain[1]))


class DocumentTests(SynchronousTestCase):
    """Documents."""

    def refused(self, text: bytes) -> S3Error:
        """Return why a document is refused."""
        with self.assertRaises(S3Error) as caught:
            parse_acl(text)
        return caught.exception

    @settings(max_examples=50, deadline=None)
    @given(IDS, GRANTS)
    def test_round_trip(self, owner_id: str, grants: list[Grant]) -> None:
        """What is shown of a list can be written back."""
        whole = acl(owner_id, grants)
        self.assertEqual(parse_acl(document(acl_node(whole, {}))), whole)

    def test_shown(self) -> None:
        """Users by id and name, groups by URI, each with its kind."""
        shown = document(
            acl_node(acl("a", [Grant("a", FULL_CONTROL), Grant(Group.ALL_USERS, READ)]), {"a": "anna"})
        ).decode()
        self.assertIn("<Owner><ID>a</ID><DisplayName>anna</DisplayName></Owner>", shown)
        self.assertIn(f'xsi:type="Group">{ALL_USERS}</Grantee><Permission>READ</Permission>', shown)
        self.assertIn('xsi:type="CanonicalUser"><ID>a</ID><DisplayName>anna</DisplayName></Grantee>', shown)
        self.assertEqual(len(re.findall("<Grant>", shown)), 2)

    def test_read(self) -> None:
        """With white space, with or without names."""
        self.assertEqual(parse_acl(written()), Acl("u-1", ()))
        self.assertEqual(
            parse_acl(written((" <ID> a </ID><DisplayName>b</DisplayName>", " READ "), (ALL_USERS, "WRITE"))),
            acl("u-1", [Grant("a", READ), Grant(Group.ALL_USERS, WRITE)]),
        )

    def test_faults(self) -> None:
        """Are named."""
        for text, code, named in (
            (b"x", "MalformedACLError", "not well formed"),
            (b"<Other/>", "MalformedACLError", "AccessControlPolicy"),
            (written(owner=""), "MalformedACLError", "no Owner"),
            (written(owner="<Owner><ID> </ID></Owner>"), "MalformedACLError", "no Owner"),
            (
                b"<AccessControlPolicy><Owner><ID>a</ID></Owner></AccessControlPolicy>",
                "MalformedACLError",
                "no AccessControlList",
            ),
            (
                written().replace(b"<AccessControlList>", b"<AccessControlList><Grants/>"),
                "MalformedACLError",
                "holds Grants",
            ),
            (
                written(("<ID>a</ID>", "READ")).replace(b"Grantee", b"Other"),
                "MalformedACLError",
                "no Grantee",
            ),
            (written(("<ID>a</ID>", "EXECUTE")), "MalformedACLError", "'EXECUTE'"),
            (written(("<ID>a</ID>", "read")), "MalformedACLError", "FULL_CONTROL"),
            (written(("<DisplayName>a</DisplayName>", "READ")), "MalformedACLError", "one of ID"),
            (written((f"<ID>a</ID>{ALL_USERS}", "READ")), "MalformedACLError", "one of ID"),
            (written(*[("<ID>a</ID>", "READ")] * (GRANTS_MAX + 1)), "MalformedACLError", "101 grants"),
            (written(("<ID></ID>", "READ")), "InvalidArgument", "Invalid id"),
            (written(("<URI>a</URI>", "READ")), "InvalidArgument", "Invalid group uri: 'a'"),
            (
                written(("<EmailAddress>a@b</EmailAddress>", "READ")),
                "UnresolvableGrantByEmailAddress",
                "'a@b'",
            ),
        ):
            error = self.refused(text)
            self.assertEqual(error.code, code, text)
            self.assertIn(named, error.message)


class OwnershipTests(SynchronousTestCase):
    """Ownership controls."""

    def test_round_trip(self) -> None:
        """Each has a document, a text that is kept, and a name."""
        for ownership in Ownership:
            self.assertIs(parse_ownership(document(ownership_node(ownership))), ownership)
            self.assertIs(named_ownership(ownership.value), ownership)
            kept = ownership_text(ownership)
            self.assertEqual(kept is None, ownership is Ownership.ENFORCED)
            if kept is not None:
                self.assertEqual(kept_controls(kept), (ownership, True))
        self.assertEqual(kept_controls(REMOVED), (Ownership.WRITER, False))

    def test_faults(self) -> None:
        """Are named."""
        rule = "<Rule><ObjectOwnership>{}</ObjectOwnership></Rule>"
        for content, named in (
            ("", "no Rule"),
            ("<Rule/>", "ObjectOwnership is ''"),
            (rule.format("Mine"), "ObjectOwnership is 'Mine'"),
            (2 * rule.format("ObjectWriter"), "several Rule"),
        ):
            with self.assertRaises(MalformedDocument) as caught:
                parse_ownership(f"<OwnershipControls>{content}</OwnershipControls>".encode())
            self.assertIn(named, str(caught.exception))
        with self.assertRaises(S3Error) as refused:
            named_ownership("objectwriter")
        self.assertEqual(refused.exception.code, "InvalidArgument")
        self.assertIn("BucketOwnerPreferred", refused.exception.message)
