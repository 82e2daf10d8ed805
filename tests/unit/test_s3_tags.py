"""Tags: which there can be, how they are written, and the operations on them."""

import hashlib
from base64 import b64encode
from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.metadata import Conflict
from coldstore.model.objects import TAGGING, Pairs
from coldstore.s3.errors import S3Error
from coldstore.s3.fields import HeaderFields
from coldstore.s3.tags import checked_tags, header_tags, parse_tagging, tagging_node, with_tags
from coldstore.s3.xml import MalformedDocument, document
from tests.unit.s3_rig import Rig, text_of, texts_of
from tests.unit.s3_wire import ParsedAnswer

CHARACTERS = st.one_of(
    st.sampled_from("+-=._:/@ "), st.characters(categories=["Lu", "Ll", "Lo", "Nd", "No", "Zs"])
)
TAGS = st.dictionaries(
    st.text(CHARACTERS, min_size=1, max_size=9).filter(lambda key: not key.startswith("aws:")),
    st.text(CHARACTERS, max_size=9),
    max_size=5,
).map(lambda tags: tuple(sorted(tags.items())))


def given_by(value: str) -> Pairs:
    """Return the tags of a header."""
    return header_tags(HeaderFields([(TAGGING.encode(), value.encode())]))


class TagsTests(SynchronousTestCase):
    """What tags there can be."""

    @settings(max_examples=50, deadline=None)
    @given(TAGS)
    def test_forms(self, tags: Pairs) -> None:
        """What is allowed comes through a header, a document and what is stored as it was."""
        self.assertEqual(checked_tags(reversed(tags), most=10), tags)
        self.assertEqual(parse_tagging(document(tagging_node(tags))), tags)
        stored = with_tags((("content-type", "a/b"), (TAGGING, "old=1")), tags)
        self.assertEqual(stored[0], ("content-type", "a/b"))
        self.assertEqual(given_by(dict(stored).get(TAGGING, "")), tags)
        self.assertEqual(stored, tuple(sorted(stored)))

    def test_header(self) -> None:
        """Is a query: a plus is a space, a name alone has an empty value, order does not matter."""
        self.assertEqual(given_by("foo=b+a%2Br&bar&"), (("bar", ""), ("foo", "b a+r")))
        self.assertEqual(given_by(""), ())
        self.assertEqual(header_tags(HeaderFields([])), ())
        for value in ("a=%", "a=%zz", "%ff=1"):
            error = self.assertRaises(S3Error, given_by, value)
            self.assertEqual((error.code, error.details["ArgumentValue"]), ("InvalidArgument", value))

    def test_limits(self) -> None:
        """Length, characters, number and names that are there twice; each says what is wrong."""
        longest = [(f"{n}".rjust(128, "k"), "v" * 256) for n in range(10)]
        self.assertEqual(len(checked_tags(longest, most=10)), 10)
        for tags, said in (
            ([*longest, ("one more", "")], "11 tags"),
            ([("k" * 129, "")], "1 to 128"),
            ([("", "v")], "1 to 128"),
            ([("k", "v" * 257)], "up to 256"),
            ([("k!", "")], "1 to 128"),
            ([("k", "v\n")], "up to 256"),
            ([("k", "\u200b")], "up to 256"),
            ([("aws:k", "")], "aws:"),
            ([("k", "1"), ("k", "2")], "same key"),
        ):
            error = self.assertRaises(S3Error, checked_tags, tags, most=10)
            self.assertEqual((error.status, error.code), (400, "InvalidTag"), tags)
            self.assertIn(said, error.message)

    def test_documents(self) -> None:
        """Nothing but a Tagging with one TagSet whose tags have one key and one value."""
        for text in (
            b"",
            b"<Tags/>",
            b"<Tagging/>",
            b"<Tagging><TagSet/><TagSet/></Tagging>",
            b"<Tagging><TagSet><Tag><Key>a</Key></Tag></TagSet></Tagging>",
            b"<Tagging><TagSet><Tag><Value>a</Value></Tag></TagSet></Tagging>",
            b"<Tagging><TagSet><Tag><Key>a</Key><Key>b</Key><Value/></Tag></TagSet></Tagging>",
        ):
            self.assertRaises(MalformedDocument, parse_tagging, text)


def tagging(*tags: tuple[str, str]) -> bytes:
    """Return a document."""
    return document(tagging_node(tags))


class OperationsTests(SynchronousTestCase):
    """Tags of objects and buckets, over the wire."""

    def setUp(self) -> None:
        """One bucket."""
        self.rig = Rig()
        self.rig.ask("PUT", "/bkt")

    def put(self, target: str, body: bytes) -> ParsedAnswer:
        """Put tags, with the digest that has to come along."""
        digest = b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        return self.rig.ask("PUT", f"{target}?tagging", body, {"content-md5": digest})

    def tags(self, target: str) -> list[tuple[str, str]]:
        """Return the tags that are shown."""
        answer = self.rig.ask("GET", f"{target}?tagging")
        self.assertEqual(answer.status, 200, answer.body)
        return list(zip(texts_of(answer.body, "Key"), texts_of(answer.body, "Value"), strict=True))

    def count(self, target: str) -> str | None:
        """Return how many tags HEAD and GET tell of."""
        head, got = self.rig.ask("HEAD", target).headers, self.rig.ask("GET", target).headers
        self.assertEqual(head.get("x-amz-tagging-count"), got.get("x-amz-tagging-count"))
        self.assertNotIn(TAGGING, got)
        return head.get("x-amz-tagging-count")

    def test_object(self) -> None:
        """Tags that come with an object, that are put later, and that are taken away; the object stays as it is."""
        self.rig.put("/bkt/k", b"x", x_amz_tagging="foo=bar&bar")
        self.assertEqual((self.tags("/bkt/k"), self.count("/bkt/k")), ([("bar", ""), ("foo", "bar")], "2"))
        written = self.rig.version("bkt", b"k")
        self.assertEqual(dict(written.facts.headers)[TAGGING], "bar=&foo=bar", "what goes to tape")
        self.assertEqual(self.put("/bkt/k", tagging(("b", "ü"), ("a", "1"), ("c", "@ 1"))).status, 200)
        self.assertEqual(self.tags("/bkt/k"), [("a", "1"), ("b", "ü"), ("c", "@ 1")])
        self.assertEqual(self.count("/bkt/k"), "3")
        self.assertEqual(self.rig.version("bkt", b"k").facts, written.facts)
        self.assertEqual(self.rig.ask("DELETE", "/bkt/k?tagging&versionId=null").status, 204)
        self.assertEqual((self.tags("/bkt/k"), self.count("/bkt/k")), ([], None))
        self.rig.put("/bkt/k", b"y")
        self.assertEqual(self.tags("/bkt/k"), [])

    def test_refusals(self) -> None:
        """What is wrong with tags changes nothing; tags of nothing are 404."""
        self.rig.put("/bkt/k", b"x", x_amz_tagging="a=1")
        eleven = tagging(*((str(n), "") for n in range(11)))
        self.assertEqual(self.put("/bkt/k", eleven).code, "InvalidTag")
        self.assertEqual(self.put("/bkt/k", b"<Tagging/>").code, "MalformedXML")
        self.assertEqual(self.rig.ask("PUT", "/bkt/k?tagging", tagging(("a", "2"))).code, "InvalidRequest")
        self.assertEqual(self.rig.put("/bkt/k", b"y", x_amz_tagging="a=1&a=2").code, "InvalidTag")
        self.assertEqual(self.rig.put("/bkt/k", b"y", x_amz_tagging="a=%").code, "InvalidArgument")
        self.assertEqual(self.tags("/bkt/k"), [("a", "1")])
        self.assertEqual(self.rig.ask("GET", "/bkt/k").body, b"x")
        for method, target, code in (
            ("GET", "/bkt/none", "NoSuchKey"),
            ("DELETE", "/bkt/none", "NoSuchKey"),
            ("GET", "/none/k", "NoSuchBucket"),
        ):
            self.assertEqual(self.rig.ask(method, f"{target}?tagging").code, code)
        self.assertEqual(self.put("/bkt/none", tagging(("a", "2"))).code, "NoSuchKey")
        self.assertEqual(self.rig.ask("GET", "/bkt/k?tagging&versionId=other").code, "NoSuchVersion")

    def test_object_that_is_replaced_meanwhile(self) -> None:
        """Tags go to what is under the key when they are recorded, and never to something that is gone."""
        self.rig.put("/bkt/k", b"x")
        real, refused = self.rig.store.set_tags, [1]

        def set_tags(version_uid: int, *, tags: Pairs) -> Deferred[object]:
            if refused and not refused.pop():
                return fail(Conflict())
            if len(refused) == 0 and self.rig.ask("GET", "/bkt/k").body == b"x":
                self.rig.put("/bkt/k", b"y")
            return real(version_uid, tags=tags)

        self.patch(self.rig.store, "set_tags", set_tags)
        self.assertEqual(self.put("/bkt/k", tagging(("a", "1"))).status, 200)
        self.assertEqual((self.rig.ask("GET", "/bkt/k").body, self.tags("/bkt/k")), (b"y", [("a", "1")]))
        self.patch(self.rig.store, "set_tags", lambda *_, **__: fail(Conflict()))
        self.assertEqual(self.put("/bkt/k", tagging(("a", "2"))).code, "OperationAborted")

    def copy(self, target: str, **headers: str) -> ParsedAnswer:
        """Copy ``bkt/source``."""
        return self.rig.put(target, x_amz_copy_source="bkt/source", **headers)

    def test_copy(self) -> None:
        """A copy has the tags that its source has by then, or those that come with it; metadata have nothing to do with it."""
        self.rig.put("/bkt/source", b"x", x_amz_tagging="first=1", x_amz_meta_m="v")
        self.put("/bkt/source", tagging(("now", "2")))
        for headers, expected in (
            ({}, [("now", "2")]),
            ({"x_amz_tagging_directive": "COPY"}, [("now", "2")]),
            ({"x_amz_metadata_directive": "REPLACE"}, [("now", "2")]),
            ({"x_amz_tagging_directive": "REPLACE", "x_amz_tagging": "own=" + quote("ä")}, [("own", "ä")]),
            ({"x_amz_tagging_directive": "REPLACE"}, []),
        ):
            self.assertEqual(self.copy("/bkt/copy", **headers).status, 200)
            self.assertEqual(self.tags("/bkt/copy"), expected, headers)
            kept = "v" if "x_amz_metadata_directive" not in headers else None
            self.assertEqual(self.rig.ask("HEAD", "/bkt/copy").headers.get("x-amz-meta-m"), kept)
        self.assertEqual(self.copy("/bkt/copy", x_amz_tagging_directive="NONE").code, "InvalidArgument")
        wrong = self.copy("/bkt/copy", x_amz_tagging_directive="REPLACE", x_amz_tagging="!=1")
        self.assertEqual(wrong.code, "InvalidTag")

    def test_upload(self) -> None:
        """Tags of an upload are the object's."""
        begun = self.rig.ask("POST", "/bkt/k?uploads", headers={TAGGING: "Hello=World&foo=bar"})
        upload_id = text_of(begun.body, "UploadId")
        etag = self.rig.put(f"/bkt/k?partNumber=1&uploadId={upload_id}", b"x").headers["etag"]
        part = f"<Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>"
        body = f"<CompleteMultipartUpload>{part}</CompleteMultipartUpload>".encode()
        self.assertEqual(self.rig.ask("POST", f"/bkt/k?uploadId={upload_id}", body).status, 200)
        self.assertEqual(self.tags("/bkt/k"), [("Hello", "World"), ("foo", "bar")])
        refused = self.rig.ask("POST", "/bkt/k?uploads", headers={TAGGING: "=1"})
        self.assertEqual(refused.code, "InvalidTag")

    def test_versions(self) -> None:
        """Every version has tags of its own, and is named where they are read or changed; a delete marker has none."""
        state = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
        self.assertEqual(self.rig.ask("PUT", "/bkt?versioning", state).status, 200)
        first, second = (
            self.rig.put("/bkt/k", b"x", x_amz_tagging=f"n={number}").headers["x-amz-version-id"]
            for number in (1, 2)
        )
        of_first = f"/bkt/k?tagging&versionId={first}"
        body = tagging(("n", "one"))
        digest = b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        put = self.rig.ask("PUT", of_first, body, {"content-md5": digest})
        self.assertEqual((put.status, put.headers["x-amz-version-id"]), (200, first))
        got = self.rig.ask("GET", of_first)
        self.assertEqual((text_of(got.body, "Value"), got.headers["x-amz-version-id"]), ("one", first))
        now = self.rig.ask("GET", "/bkt/k?tagging")
        self.assertEqual((text_of(now.body, "Value"), now.headers["x-amz-version-id"]), ("2", second))
        self.rig.put("/bkt/copy", x_amz_copy_source=f"bkt/k?versionId={first}")
        self.assertEqual(self.tags("/bkt/copy"), [("n", "one")])
        gone = self.rig.ask("DELETE", "/bkt/k?tagging")
        self.assertEqual((gone.status, gone.headers["x-amz-version-id"]), (204, second))
        marker = self.rig.ask("DELETE", "/bkt/k").headers["x-amz-version-id"]
        self.assertEqual(self.rig.ask("GET", "/bkt/k?tagging").code, "NoSuchKey")
        self.assertEqual(self.rig.ask("GET", f"/bkt/k?tagging&versionId={marker}").code, "MethodNotAllowed")
        attributes = {"x-amz-object-attributes": "ObjectSize"}
        shown = self.rig.ask("GET", f"/bkt/k?attributes&versionId={first}", headers=attributes)
        self.assertEqual((shown.status, shown.headers["x-amz-version-id"]), (200, first))
        missing = self.rig.ask("GET", "/bkt/k?attributes", headers=attributes)
        self.assertEqual((missing.code, missing.headers["x-amz-delete-marker"]), ("NoSuchKey", "true"))

    def test_bucket(self) -> None:
        """Fifty tags, or none, which is 404."""
        self.assertEqual(self.rig.ask("GET", "/bkt?tagging").code, "NoSuchTagSet")
        fifty = [(f"{n:02}", "v") for n in range(50)]
        self.assertEqual(self.put("/bkt", tagging(*fifty)).status, 200)
        self.assertEqual(self.tags("/bkt"), fifty)
        self.assertEqual(self.put("/bkt", tagging(*fifty, ("one more", ""))).code, "InvalidTag")
        self.assertEqual(self.rig.ask("PUT", "/bkt?tagging", tagging()).code, "InvalidRequest")
        self.assertEqual(self.tags("/bkt"), fifty)
        self.assertEqual(self.rig.ask("DELETE", "/bkt?tagging").status, 204)
        self.assertEqual(self.rig.ask("GET", "/bkt?tagging").code, "NoSuchTagSet")
        self.assertEqual(self.rig.ask("DELETE", "/none?tagging").code, "NoSuchBucket")
