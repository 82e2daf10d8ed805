"""Operations on objects: what is promised by a success, what a failure leaves, and the order of checks."""

import hashlib
from base64 import b64encode
from urllib.parse import quote

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.metadata import CopyCount
from coldstore.interfaces.staging import DiskFault
from coldstore.model.errors import MetadataFull, MetadataUnavailable, NoSuchBucket
from coldstore.s3.objects import parse_delete
from coldstore.s3.reads import FLUSH_SECONDS
from coldstore.s3.xml import MalformedDocument
from tests.unit.s3_rig import Rig, text_of, texts_of
from tests.unit.s3_wire import ParsedAnswer, message, request_bytes, signed_headers

FIVE_GIB = 5 * 1024**3


def md5_of(content: bytes) -> str:
    """Return an ETag as it is shown."""
    return f'"{hashlib.md5(content).hexdigest()}"'


class PutTests(SynchronousTestCase):
    """PutObject."""

    def setUp(self) -> None:
        """A bucket."""
        self.rig = Rig()
        self.rig.put("/bkt")

    def discards(self) -> list[str]:
        """Return addresses that are to be freed."""
        return [each.address for each in self.successResultOf(self.rig.store.discards(100))]

    def test_success(self) -> None:
        """ETag and checksum come back; bytes and metadata read back; the archive is woken for cold classes alone."""
        answer = self.rig.put("/bkt/k", b"hello", x_amz_checksum_crc32="NhCmhg==")
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.headers["etag"], md5_of(b"hello"))
        self.assertEqual(answer.headers["x-amz-checksum-crc32"], "NhCmhg==")
        self.assertEqual(self.rig.archive_bell.rings, 0)
        self.rig.put("/bkt/cold", b"hello", x_amz_storage_class="GLACIER")
        self.assertEqual(self.rig.archive_bell.rings, 1)
        facts = self.rig.version("bkt", b"k").facts
        self.assertEqual((facts.size_bytes, facts.version_id, facts.owner_id), (5, "null", "u-1"))

    def test_overwriting(self) -> None:
        """The last writer wins, and the bytes of the loser are to be freed."""
        self.rig.put("/bkt/k", b"one")
        self.rig.put("/bkt/k", b"two")
        self.assertEqual(self.rig.ask("GET", "/bkt/k").body, b"two")
        self.assertEqual(len(self.discards()), 1)
        self.assertGreaterEqual(self.rig.janitor_bell.rings, 1)

    def test_empty_object(self) -> None:
        """Needs no disk."""
        answer = self.rig.put("/bkt/k", b"")
        self.assertEqual((answer.status, answer.headers["etag"]), (200, md5_of(b"")))
        answer = self.rig.ask("GET", "/bkt/k")
        self.assertEqual((answer.status, answer.body, answer.headers["content-length"]), (200, b"", "0"))
        self.assertEqual(self.rig.piece_count, 0)

    def test_wrong_digests(self) -> None:
        """Are refused, and nothing of the body stays: neither a row nor bytes nor a promise of the disk."""
        wrong_md5 = b64encode(bytes(16)).decode()
        for headers, payload, code in (
            ({"content-md5": wrong_md5}, None, "BadDigest"),
            ({"x-amz-checksum-crc32": "AAAAAA=="}, None, "BadDigest"),
            ({}, "0" * 64, "XAmzContentSHA256Mismatch"),
            ({"content-md5": "short"}, None, "InvalidDigest"),
        ):
            answer = self.rig.ask("PUT", "/bkt/k", b"hello", headers, payload=payload)
            self.assertEqual((answer.status, answer.code), (400, code))
        self.assertEqual(self.rig.ask("HEAD", "/bkt/k").status, 404)
        self.assertEqual((self.rig.piece_count, self.discards()), (0, []))
        self.assertEqual(self.rig.staging.usage().reserved_bytes, 0)

    def test_client_that_leaves(self) -> None:
        """Half a body leaves nothing."""
        wire = self.rig.wire()
        sent = request_bytes("PUT", "/bkt/k", {"content-length": "10"}, b"half", payload="UNSIGNED-PAYLOAD")
        self.assertEqual(wire.send(sent), b"")
        self.assertGreater(self.rig.staging.usage().reserved_bytes, 0)
        wire.lose()
        self.assertEqual((self.rig.piece_count, self.rig.staging.usage().reserved_bytes), (0, 0))
        self.assertEqual(self.rig.ask("HEAD", "/bkt/k").status, 404)

    def expecting(self, target: str, size_bytes: int, **headers: str) -> bytes:
        """Send only the header of a PUT that expects 100-continue; return what is written."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        signed = signed_headers("PUT", target, sent, payload="UNSIGNED-PAYLOAD")
        signed |= {"expect": "100-continue", "content-length": str(size_bytes)}
        return self.rig.wire().send(message("PUT", target, signed))

    def test_body_is_not_asked_for_in_vain(self) -> None:
        """Whatever can be refused without a body is refused before the client is told to send it."""
        self.rig.put("/bkt/there", b"x")
        self.assertTrue(self.expecting("/bkt/k", 5).startswith(b"HTTP/1.1 100 Continue"))
        for target, size, headers, status, code in (
            ("/none/k", 5, {}, 404, "NoSuchBucket"),
            ("/bkt/k", FIVE_GIB + 1, {}, 400, "EntityTooLarge"),
            ("/bkt/k", 5, {"x_amz_storage_class": "WARM"}, 400, "InvalidStorageClass"),
            ("/bkt/k", 5, {"x_amz_meta_m": "v" * 3000}, 400, "MetadataTooLarge"),
            ("/bkt/there", 5, {"if_none_match": "*"}, 412, "PreconditionFailed"),
            ("/bkt/there", 5, {"if_match": '"x"'}, 412, "PreconditionFailed"),
            ("/bkt/k", 5, {"if_match": '"x"'}, 404, "NoSuchKey"),
            (
                "/bkt/there",
                5,
                {"if_none_match": f'"{hashlib.md5(b"x").hexdigest()}"'},
                412,
                "PreconditionFailed",
            ),
            ("/bkt/k", 5, {"if_none_match": '"x", "y"'}, 501, "NotImplemented"),
            ("/bkt/k", 2 << 30, {}, 503, "SlowDown"),
            ("/bkt/k", 5, {"x_amz_expected_bucket_owner": "u-2"}, 403, "AccessDenied"),
        ):
            written = self.expecting(target, size, **headers)
            self.assertNotIn(b"100 Continue", written, code)
            answer = ParsedAnswer.of(written)
            self.assertEqual((answer.status, answer.code), (status, code))
        self.assertEqual(self.rig.staging.usage().reserved_bytes, 5)

    def test_full_disk_tells_when_to_come_back(self) -> None:
        """SlowDown with Retry-After, which clients heed by themselves."""
        answer = ParsedAnswer.of(self.expecting("/bkt/k", 2 << 30))
        self.assertEqual(answer.headers["retry-after"], "30")

    def refuse_publishing(self, error: Exception) -> None:
        """Have the store refuse."""

        def refuse(*arguments: object, **rest: object) -> Deferred[None]:
            return fail(error)

        self.patch(self.rig.store, "publish_version", refuse)

    def test_definite_refusal(self) -> None:
        """A bucket that went meanwhile, or a record without room: the bytes are freed at once, without the record's help."""
        for refusal, status, code in (
            (NoSuchBucket(), 404, "NoSuchBucket"),
            (MetadataFull("no room"), 503, "ServiceUnavailable"),
        ):
            self.refuse_publishing(refusal)
            answer = self.rig.put("/bkt/k", b"x")
            self.assertEqual((answer.status, answer.code), (status, code))
            self.assertEqual((self.discards(), self.rig.piece_count, self.rig.doubtful), ([], 0, []))

    def test_definite_refusal_on_a_failing_disk(self) -> None:
        """What cannot be freed at once is looked up later."""
        self.refuse_publishing(NoSuchBucket())
        self.rig.staging.fail_next("discard", DiskFault("I/O error"))
        self.assertEqual(self.rig.put("/bkt/k", b"x").code, "NoSuchBucket")
        self.assertEqual(self.rig.doubtful, list(self.rig.staging.medium.pieces))

    def test_unknown_outcome(self) -> None:
        """503, and the bytes stay: they may be the object's. They are looked up later."""
        self.refuse_publishing(MetadataUnavailable())
        answer = self.rig.put("/bkt/k", b"x")
        self.assertEqual((answer.status, answer.code), (503, "ServiceUnavailable"))
        self.assertEqual((self.discards(), self.rig.piece_count), ([], 1))
        self.assertEqual(self.rig.doubtful, list(self.rig.staging.medium.pieces))

    def test_race_for_a_key(self) -> None:
        """A key that appears while the body arrives fails If-None-Match when it is published."""
        wire = self.rig.wire()
        headers = {"if-none-match": "*", "content-length": "5"}
        wire.send(request_bytes("PUT", "/bkt/k", headers, b"he", payload="UNSIGNED-PAYLOAD"))
        self.rig.put("/bkt/k", b"other")
        wire.send(b"llo")
        answer = wire.answer()
        self.assertEqual((answer.status, text_of(answer.body, "Condition")), (412, "If-None-Match"))
        self.assertEqual(self.rig.ask("GET", "/bkt/k").body, b"other")
        self.assertEqual(self.rig.piece_count, 1)

    def test_disk_that_fails(self) -> None:
        """503 and nothing kept."""
        self.rig.staging.fail_next("finish", DiskFault("I/O error"))
        answer = self.rig.put("/bkt/k", b"x")
        self.assertEqual((answer.status, answer.code), (503, "ServiceUnavailable"))
        self.assertEqual(self.rig.ask("HEAD", "/bkt/k").status, 404)


class GetTests(SynchronousTestCase):
    """GetObject and HeadObject."""

    def setUp(self) -> None:
        """A warm and a cold object."""
        self.rig = Rig()
        self.rig.put("/bkt")
        self.rig.put(
            "/bkt/k", b"0123456789", x_amz_meta_m="v", content_type="a/b", x_amz_checksum_crc32="poTHxg=="
        )
        self.rig.put("/bkt/cold", b"cold", x_amz_storage_class="GLACIER")

    def test_missing(self) -> None:
        """404 with the key; HEAD without a body."""
        answer = self.rig.ask("GET", "/bkt/none%20here")
        self.assertEqual((answer.status, answer.code), (404, "NoSuchKey"))
        self.assertEqual(text_of(answer.body, "Key"), "none here")
        answer = self.rig.ask("HEAD", "/bkt/none")
        self.assertEqual((answer.status, answer.body), (404, b""))

    def test_ranges(self) -> None:
        """206 with Content-Range, on HEAD too; 416 behind the end; nonsense is ignored."""
        answer = self.rig.ask("GET", "/bkt/k", headers={"range": "bytes=2-4"})
        self.assertEqual(
            (answer.status, answer.body, answer.headers["content-range"]), (206, b"234", "bytes 2-4/10")
        )
        answer = self.rig.ask("HEAD", "/bkt/k", headers={"range": "bytes=2-4"})
        self.assertEqual((answer.status, answer.headers["content-length"]), (206, "3"))
        answer = self.rig.ask("GET", "/bkt/k", headers={"range": "bytes=10-"})
        self.assertEqual((answer.status, answer.code), (416, "InvalidRange"))
        self.assertEqual(text_of(answer.body, "ActualObjectSize"), "10")
        answer = self.rig.ask("GET", "/bkt/k", headers={"range": "bytes=4-2"})
        self.assertEqual((answer.status, answer.body), (200, b"0123456789"))
        answer = self.rig.ask("GET", "/bkt/k?partNumber=1", headers={"range": "bytes=0-1"})
        self.assertEqual(answer.code, "InvalidRequest")
        self.assertEqual(self.rig.ask("GET", "/bkt/k?partNumber=2").status, 416)

    def test_if_range(self) -> None:
        """A range of another object than the client's is not sent."""
        for validator, status in ((md5_of(b"0123456789"), 206), ('"other"', 200)):
            answer = self.rig.ask("GET", "/bkt/k", headers={"range": "bytes=2-4", "if-range": validator})
            self.assertEqual(answer.status, status)

    def test_conditions(self) -> None:
        """304 without a body but with ETag; 412; both before the check for cold bytes."""
        answer = self.rig.ask("GET", "/bkt/k", headers={"if-none-match": md5_of(b"0123456789")})
        self.assertEqual((answer.status, answer.body), (304, b""))
        self.assertEqual(answer.headers["etag"], md5_of(b"0123456789"))
        self.assertIn("last-modified", answer.headers)
        self.assertEqual(self.rig.ask("GET", "/bkt/k", headers={"if-match": '"x"'}).status, 412)
        answer = self.rig.ask("GET", "/bkt/cold", headers={"if-none-match": md5_of(b"cold")})
        self.assertEqual(answer.status, 304)

    def test_cold(self) -> None:
        """403 from the moment of the PUT, before a range is looked at; HEAD is 200 and tells class and copies."""
        answer = self.rig.ask("GET", "/bkt/cold", headers={"range": "bytes=99-"})
        self.assertEqual((answer.status, answer.code), (403, "InvalidObjectState"))
        self.assertEqual(text_of(answer.body, "StorageClass"), "GLACIER")
        head = self.rig.ask("HEAD", "/bkt/cold")
        self.assertEqual(head.status, 200)
        self.assertEqual(
            (head.headers["x-amz-storage-class"], head.headers["x-coldstore-copies"]), ("GLACIER", "0/2")
        )
        self.assertEqual(head.headers["content-length"], "4")
        self.assertNotIn("x-amz-restore", head.headers)
        self.assertNotIn("x-coldstore-copies", self.rig.ask("HEAD", "/bkt/k").headers)

    def test_copies(self) -> None:
        """Come from the store, once there can be any."""
        self.assertEqual(self.rig.ask("HEAD", "/bkt/cold").headers["x-coldstore-copies"], "0/2")
        self.rig.evict("bkt", b"cold")
        asked: list[tuple[int, int]] = []

        def copy_count(version_uid: int, *, wanted: int) -> Deferred[CopyCount]:
            asked.append((version_uid, wanted))
            done: Deferred[CopyCount] = Deferred()
            done.callback(CopyCount(verified=1, wanted=wanted))
            return done

        self.patch(self.rig.store, "copy_count", copy_count)
        self.assertEqual(self.rig.ask("HEAD", "/bkt/cold").headers["x-coldstore-copies"], "1/2")
        self.assertEqual(asked, [(self.rig.version("bkt", b"cold").version_uid, 2)])

    def test_bytes_that_are_not_on_disk(self) -> None:
        """A readable class without its bytes is 503: it will be, or an operator must look."""
        self.rig.evict("bkt", b"k")
        answer = self.rig.ask("GET", "/bkt/k")
        self.assertEqual((answer.status, answer.code), (503, "ServiceUnavailable"))

    def test_checksums_and_overrides(self) -> None:
        """The checksum is shown when asked for and the whole is sent; a reader may override headers."""
        mode = {"x-amz-checksum-mode": "ENABLED"}
        self.assertEqual(
            self.rig.ask("HEAD", "/bkt/k", headers=mode).headers["x-amz-checksum-crc32"], "poTHxg=="
        )
        self.assertNotIn("x-amz-checksum-crc32", self.rig.ask("HEAD", "/bkt/k").headers)
        answer = self.rig.ask("GET", "/bkt/k", headers={**mode, "range": "bytes=0-1"})
        self.assertNotIn("x-amz-checksum-crc32", answer.headers)
        answer = self.rig.ask("GET", "/bkt/k?response-content-type=x%2Fy&response-cache-control=no-store")
        self.assertEqual(
            (answer.headers["content-type"], answer.headers["cache-control"]), ("x/y", "no-store")
        )
        self.assertEqual(self.rig.ask("GET", "/bkt/k?response-expires=a%0D%0Ab:c").code, "InvalidArgument")

    def test_versions(self) -> None:
        """Null is the current one."""
        for version_id, status in (("null", 200), ("abcDEF", 404), ("%00", 400), ("", 400)):
            self.assertEqual(self.rig.ask("GET", f"/bkt/k?versionId={version_id}").status, status)
        self.assertEqual(self.rig.ask("GET", "/bkt/k?versionId=abc").code, "NoSuchVersion")

    def test_piece_that_goes_while_it_is_looked_up(self) -> None:
        """A reader that meets an overwriting gets the new object."""
        real, address = self.rig.store.current_content, self.rig.first_address("bkt", b"k")
        overwritten: list[int] = []

        def content(bucket: str, key: bytes) -> object:
            found = real(bucket, key)
            if not overwritten:
                overwritten.append(1)
                self.rig.put("/bkt/k", b"new")
                self.rig.staging.discard([address])
            return found

        self.patch(self.rig.store, "current_content", content)
        answer = self.rig.ask("GET", "/bkt/k")
        self.assertEqual((answer.status, answer.body), (200, b"new"))

    def test_reads_are_counted_later(self) -> None:
        """In one batch, a few seconds after the first; a store that is gone then harms nobody."""
        for _ in range(3):
            self.rig.ask("GET", "/bkt/k")
        self.assertEqual(self.rig.version("bkt", b"k").read_count, 0)
        self.rig.clock.advance(FLUSH_SECONDS)
        version = self.rig.version("bkt", b"k")
        self.assertEqual((version.read_count, version.last_read_at), (3, self.rig.clock.seconds()))
        self.rig.ask("GET", "/bkt/k")
        self.rig.store.close()
        self.rig.clock.advance(FLUSH_SECONDS)


class DeleteTests(SynchronousTestCase):
    """DeleteObject and DeleteObjects."""

    def setUp(self) -> None:
        """A bucket."""
        self.rig = Rig()
        self.rig.put("/bkt")

    def delete(self, document: bytes, **headers: str) -> ParsedAnswer:
        """Delete several."""
        sent = {"content-md5": b64encode(hashlib.md5(document).digest()).decode(), **headers}
        return self.rig.ask("POST", "/bkt?delete", document, sent)

    def test_one(self) -> None:
        """204 whether or not it was there; cold ones as well."""
        self.rig.put("/bkt/k", b"x", x_amz_storage_class="GLACIER")
        for _ in range(2):
            self.assertEqual(self.rig.ask("DELETE", "/bkt/k").status, 204)
        self.assertEqual(self.rig.ask("HEAD", "/bkt/k").status, 404)

    def test_condition(self) -> None:
        """Another ETag is refused and nothing goes."""
        self.rig.put("/bkt/k", b"x")
        self.assertEqual(self.rig.ask("DELETE", "/bkt/k", headers={"if-match": '"other"'}).status, 412)
        self.assertEqual(self.rig.ask("HEAD", "/bkt/k").status, 200)
        self.assertEqual(self.rig.ask("DELETE", "/bkt/k", headers={"if-match": md5_of(b"x")}).status, 204)

    def test_several(self) -> None:
        """Every key is answered, in order; what fails is named and hinders no other; awkward keys come back."""
        keys = ["a&b", "c d", "é", "x" * 1024]
        for key in keys:
            self.rig.put("/bkt/" + quote(key), b"x")
        self.rig.put("/bkt/kept", b"x")
        items = "".join(f"<Object><Key>{key.replace('&', '&amp;')}</Key></Object>" for key in [*keys, "none"])
        items += "<Object><Key>kept</Key><ETag>other</ETag></Object>"
        items += "<Object><Key>v</Key><VersionId>a/c</VersionId></Object>"
        items += "<Object><Key>s</Key><Size>1</Size></Object>"
        items += f"<Object><Key>{'l' * 1025}</Key></Object>"
        answer = self.delete(f"<Delete>{items}</Delete>".encode())
        self.assertEqual(answer.status, 200, answer.body)
        self.assertEqual(
            texts_of(answer.body, "Code"),
            ["PreconditionFailed", "InvalidArgument", "NotImplemented", "KeyTooLongError"],
        )
        self.assertEqual(texts_of(answer.body, "Key")[:5], ["a&amp;b", "c d", "é", "x" * 1024, "none"])
        self.assertEqual(texts_of(self.rig.ask("GET", "/bkt").body, "Key"), ["kept"])

    def test_a_thousand(self) -> None:
        """Go in batches; quietly, only failures are told."""
        for number in range(90):
            self.rig.put(f"/bkt/{number}", b"x")
        items = "".join(f"<Object><Key>{number}</Key></Object>" for number in range(1000))
        answer = self.delete(f"<Delete><Quiet>true</Quiet>{items}</Delete>".encode())
        self.assertNotIn(b"Deleted", answer.body)
        self.assertEqual(texts_of(self.rig.ask("GET", "/bkt").body, "Key"), [])

    def test_digest(self) -> None:
        """Is demanded, in any form, and must be right."""
        document = b"<Delete><Object><Key>k</Key></Object></Delete>"
        self.assertEqual(self.rig.ask("POST", "/bkt?delete", document).code, "InvalidRequest")
        wrong = {"content-md5": b64encode(bytes(16)).decode()}
        self.assertEqual(self.rig.ask("POST", "/bkt?delete", document, wrong).code, "BadDigest")

    def test_documents(self) -> None:
        """None, too many, or entries without a key are no such document."""
        one = "<Object><Key>k</Key></Object>"
        for items in ("", one * 1001, "<Object/>", "<Object><Key/></Object>", f"<Quiet>maybe</Quiet>{one}"):
            self.assertRaises(MalformedDocument, parse_delete, f"<Delete>{items}</Delete>".encode())


class CopyTests(SynchronousTestCase):
    """CopyObject."""

    def setUp(self) -> None:
        """A source with metadata."""
        self.rig = Rig()
        self.rig.put("/bkt")
        self.rig.put("/other")
        self.rig.put("/bkt/a%20%C3%A9", b"source", x_amz_meta_m="v", content_type="a/b")

    def copy(self, target: str, source: str = "bkt/a%20%C3%A9", **headers: str) -> ParsedAnswer:
        """Copy."""
        return self.rig.put(target, b"", x_amz_copy_source=source, **headers)

    def test_copy(self) -> None:
        """Bytes and metadata are the source's, the class is not."""
        for source in ("bkt/a%20%C3%A9", "/bkt/a%20%C3%A9", "bkt/a%20%C3%A9?versionId=null"):
            answer = self.copy("/other/k", source)
            self.assertEqual(answer.status, 200, answer.body)
        self.assertIn(hashlib.md5(b"source").hexdigest(), text_of(answer.body, "ETag") or "")
        answer = self.rig.ask("GET", "/other/k")
        self.assertEqual(
            (answer.body, answer.headers["x-amz-meta-m"], answer.headers["content-type"]),
            (b"source", "v", "a/b"),
        )

    def test_replace(self) -> None:
        """Metadata are then those of the request."""
        self.copy("/bkt/k", x_amz_metadata_directive="REPLACE", x_amz_meta_n="w")
        head = self.rig.ask("HEAD", "/bkt/k").headers
        self.assertEqual((head["x-amz-meta-n"], head["content-type"]), ("w", "binary/octet-stream"))
        self.assertNotIn("x-amz-meta-m", head)
        self.assertEqual(self.copy("/bkt/k", x_amz_metadata_directive="MERGE").code, "InvalidArgument")

    def test_onto_itself(self) -> None:
        """Must change something: metadata, or the class."""
        self.assertEqual(self.copy("/bkt/a%20%C3%A9").code, "InvalidRequest")
        self.assertEqual(self.copy("/bkt/a%20%C3%A9", x_amz_storage_class="GLACIER").status, 200)
        self.assertEqual(self.rig.archive_bell.rings, 1)
        answer = self.copy("/bkt/k")
        self.assertEqual((answer.status, answer.code), (403, "InvalidObjectState"))
        self.assertEqual(text_of(answer.body, "StorageClass"), "GLACIER")

    def test_restored_source(self) -> None:
        """A permanent copy is made by restoring and copying onto the same key."""
        self.rig.put("/bkt/cold", b"cold", x_amz_storage_class="GLACIER")
        self.rig.ask("POST", "/bkt/cold?restore", b"<RestoreRequest><Days>1</Days></RestoreRequest>")
        self.assertEqual(self.copy("/bkt/cold", "bkt/cold", x_amz_storage_class="STANDARD").status, 200)
        answer = self.rig.ask("GET", "/bkt/cold")
        self.assertEqual((answer.status, answer.body), (200, b"cold"))
        self.assertNotIn("x-amz-restore", answer.headers)

    def test_conditions(self) -> None:
        """On the source and on the target."""
        etag = hashlib.md5(b"source").hexdigest()
        self.assertEqual(self.copy("/bkt/k", x_amz_copy_source_if_match="other").status, 412)
        self.assertEqual(self.copy("/bkt/k", x_amz_copy_source_if_none_match=etag).status, 412)
        self.assertEqual(self.copy("/bkt/k", x_amz_copy_source_if_match=etag).status, 200)
        self.assertEqual(self.copy("/bkt/k", if_none_match="*").status, 412)

    def test_sources_that_are_none(self) -> None:
        """Each with its code."""
        for source, code in (
            ("bkt/none", "NoSuchKey"),
            ("none/k", "NoSuchBucket"),
            ("bkt", "InvalidArgument"),
            ("", "InvalidArgument"),
            ("bkt/", "InvalidArgument"),
            ("bkt/%ff", "InvalidArgument"),
            ("bkt/a%20%C3%A9?versionId=abc", "NoSuchVersion"),
        ):
            self.assertEqual(self.copy("/bkt/k", source).code, code, source)

    def test_damaged_source(self) -> None:
        """Is never copied: nothing is kept, and an operator is told."""
        self.rig.staging.damage(self.rig.first_address("bkt", "a é".encode()), 0)
        answer = self.copy("/bkt/k")
        self.assertEqual((answer.status, answer.code), (500, "InternalError"))
        self.assertEqual(self.rig.ask("HEAD", "/bkt/k").status, 404)
        self.assertEqual(self.rig.staging.usage().reserved_bytes, 0)
        alerts = self.successResultOf(self.rig.store.alerts(include_cleared=False, limit=10))
        self.assertEqual([alert.kind for alert in alerts], ["bytes-damaged"])

    def test_empty_source(self) -> None:
        """Is copied like any other."""
        self.rig.put("/bkt/empty", b"")
        self.assertEqual(self.copy("/bkt/k", "bkt/empty").status, 200)
        self.assertEqual(self.rig.ask("GET", "/bkt/k").body, b"")

    def test_checksum(self) -> None:
        """The copy's checksum is the source's kind, or the one asked for."""
        answer = self.copy("/bkt/k", x_amz_checksum_algorithm="SHA256")
        expected = b64encode(hashlib.sha256(b"source").digest()).decode()
        self.assertEqual(text_of(answer.body, "ChecksumSHA256"), expected)
        self.assertEqual(self.copy("/bkt/k", x_amz_checksum_algorithm="MD4").code, "InvalidRequest")
