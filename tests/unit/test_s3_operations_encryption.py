"""Encrypted objects over the wire: every operation with the right key, without one, and with a wrong one."""

import zlib
from hashlib import md5, sha256
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from coldstore.s3.encryption_pieces import HEADER_BYTES, TAG_BYTES
from coldstore.s3.multipart_plan import PART_MIN_BYTES
from coldstore.testing.staging import SimulatedPiece
from coldstore.util.checksums import crc64nvme
from tests.unit.encryption_keys import CUSTOMER, KEY, OTHER_KEY, SOURCE, base64_of, key_headers
from tests.unit.s3_rig import Rig, text_of, texts_of
from tests.unit.s3_wire import ParsedAnswer, message
from tests.unit.test_s3_posting import ANY_KEY, BOUNDARY, CONTENT, SIGNING, form, policy, signed

KEYED = key_headers()
CONTENT_BYTES = 200_000
PLAIN = Random(5).randbytes(CONTENT_BYTES)


class Case(SynchronousTestCase):
    """One endpoint that takes keys without TLS, and a bucket."""

    def setUp(self) -> None:
        """Make them."""
        self.rig = Rig(sse_c_over_http=True)
        self.rig.put("/bkt")

    def ask(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        /,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> ParsedAnswer:
        """Ask with the key, or with these headers."""
        named = {name.replace("_", "-"): value for name, value in more.items()}
        return self.rig.ask(method, target, body, {**(KEYED if headers is None else headers), **named})

    def check(self, answer: ParsedAnswer, status: int, code: str, *words: str) -> None:
        """See that something was refused."""
        self.assertEqual((answer.status, answer.code), (status, code))
        for word in words:
            self.assertIn(word, text_of(answer.body, "Message") or "")


class PutAndGetTests(Case):
    """Objects that were put whole."""

    def test_put(self) -> None:
        """The answer tells the key's digest; on the disk nothing is as it was sent; the ETag is no MD5 of it."""
        answer = self.ask(
            "PUT", "/bkt/k", PLAIN, x_amz_checksum_crc32=base64_of(zlib.crc32(PLAIN).to_bytes(4, "big"))
        )
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.headers[CUSTOMER + "algorithm"], "AES256")
        self.assertEqual(answer.headers[CUSTOMER + "key-md5"], base64_of(md5(KEY).digest()))
        self.assertNotEqual(answer.headers["etag"], f'"{md5(PLAIN).hexdigest()}"')
        facts = self.rig.version("bkt", b"k").facts
        (piece,) = self.rig.staging.medium.pieces.values()
        self.assertEqual(answer.headers["etag"], f'"{md5(piece.content).hexdigest()}"')
        self.assertEqual(len(piece.content), facts.size_bytes)
        self.assertEqual(facts.size_bytes, CONTENT_BYTES + HEADER_BYTES + 4 * TAG_BYTES)
        self.assertEqual(facts.crc64nvme, crc64nvme(bytes(piece.content)))
        for begin in range(0, CONTENT_BYTES - 16, 997):
            self.assertNotIn(PLAIN[begin : begin + 16], piece.content)
        written = repr(facts)
        for secret in (base64_of(KEY), repr(KEY), answer.headers["x-amz-checksum-crc32"], KEY.hex()):
            self.assertNotIn(secret, written)

    def test_md5_as_checksum(self) -> None:
        """MD5 is a checksum as well, of what was sent; a wrong one leaves nothing behind."""
        right = base64_of(md5(PLAIN).digest())
        answer = self.ask("PUT", "/bkt/k", PLAIN, x_amz_checksum_md5=right)
        self.assertEqual((answer.status, answer.headers.get("x-amz-checksum-md5")), (200, right))
        pieces = self.rig.piece_count
        answer = self.ask("PUT", "/bkt/other", PLAIN[1:], x_amz_checksum_md5=right)
        self.assertEqual((answer.code, self.rig.piece_count), ("BadDigest", pieces))

    def test_misspelt(self) -> None:
        """A field about keys that nobody knows is refused: the object would not be encrypted."""
        for method, target in (("PUT", "/bkt/k"), ("POST", "/bkt/k?uploads")):
            answer = self.ask(method, target, b"", headers={CUSTOMER + "keymd5": "1"})
            self.assertEqual((answer.status, answer.code), (501, "NotImplemented"))

    def test_twice_the_same(self) -> None:
        """The same bytes with the same key become others each time."""
        stored = []
        for _ in range(2):
            self.ask("PUT", "/bkt/k", b"the same")
            stored.append(self.rig.staging.medium.pieces[self.rig.first_address("bkt", b"k")].content)
        self.assertNotEqual(stored[0][-24:], stored[1][-24:])

    def test_get_and_head(self) -> None:
        """With the key both answer as of any other object."""
        for size in (0, 1, 65_536, 65_537, CONTENT_BYTES):
            put = self.ask("PUT", "/bkt/k", PLAIN[:size])
            for method in ("GET", "HEAD"):
                answer = self.ask(method, "/bkt/k", x_amz_checksum_mode="ENABLED")
                self.assertEqual((answer.status, answer.headers["content-length"]), (200, str(size)))
                self.assertEqual(answer.body, PLAIN[:size] if method == "GET" else b"")
                self.assertEqual(answer.headers["etag"], put.headers["etag"])
                self.assertEqual(
                    answer.headers["x-amz-checksum-crc64nvme"],
                    base64_of(crc64nvme(PLAIN[:size]).to_bytes(8, "big")),
                )
                self.assertEqual(answer.headers[CUSTOMER + "algorithm"], "AES256")
            without_digest = self.ask("GET", "/bkt/k", headers=key_headers(key_md5=None))
            self.assertEqual(without_digest.body, PLAIN[:size])

    def test_without_the_key(self) -> None:
        """Neither says anything, also of empty objects."""
        for size in (0, 10):
            self.ask("PUT", "/bkt/k", PLAIN[:size])
            answer = self.ask("GET", "/bkt/k", headers={})
            self.check(answer, 400, "InvalidRequest", "Server Side Encryption")
            self.assertEqual(self.ask("HEAD", "/bkt/k", headers={}).status, 400)
            wrong = key_headers(OTHER_KEY)
            self.check(self.ask("GET", "/bkt/k", headers=wrong), 403, "AccessDenied", "correct secret key")
            self.assertEqual(self.ask("HEAD", "/bkt/k", headers=wrong).status, 403)
            self.check(self.ask("GET", "/bkt/k", headers=key_headers(b"short")), 403, "AccessDenied")
            mismatched = key_headers(key_md5=base64_of(bytes(16)))
            self.check(self.ask("GET", "/bkt/k", headers=mismatched), 400, "InvalidArgument")

    def test_key_for_nothing(self) -> None:
        """A key for an object that is not encrypted is refused."""
        self.ask("PUT", "/bkt/k", b"plain", headers={})
        self.check(self.ask("GET", "/bkt/k"), 400, "InvalidRequest", "not applicable")
        self.assertEqual(self.ask("HEAD", "/bkt/k").status, 400)

    def test_refused_puts(self) -> None:
        """Bad keys and bad digests of the bytes are refused, and nothing is kept."""
        for headers, code in (
            (key_headers(key_md5=None), "InvalidArgument"),
            (key_headers(algorithm="AES192"), "InvalidEncryptionAlgorithmError"),
            ({**KEYED, "content-md5": base64_of(bytes(16))}, "BadDigest"),
            ({**KEYED, "x-amz-checksum-crc32": "AAAAAA=="}, "BadDigest"),
            ({**KEYED, "x-amz-server-side-encryption": "AES256"}, "InvalidArgument"),
        ):
            self.check(self.ask("PUT", "/bkt/k", b"hello", headers=headers), 400, code)
        self.assertEqual(self.ask("GET", "/bkt/k").status, 404)
        self.assertEqual(self.rig.piece_count, 0)

    def test_digests_of_the_client(self) -> None:
        """Content-MD5 and checksums are of what the client sends."""
        answer = self.ask(
            "PUT",
            "/bkt/k",
            PLAIN,
            content_md5=base64_of(md5(PLAIN).digest()),
            x_amz_checksum_sha256=base64_of(sha256(PLAIN).digest()),
        )
        self.assertEqual(answer.headers["x-amz-checksum-sha256"], base64_of(sha256(PLAIN).digest()))

    def test_conditions(self) -> None:
        """Hold of the ETag; the key comes first."""
        etag = self.ask("PUT", "/bkt/k", b"hello").headers["etag"]
        self.assertEqual(self.ask("GET", "/bkt/k", if_none_match=etag).status, 304)
        self.assertEqual(self.ask("GET", "/bkt/k", if_match=etag).body, b"hello")
        self.assertEqual(self.ask("GET", "/bkt/k", if_match='"other"').status, 412)
        self.assertEqual(self.ask("GET", "/bkt/k", headers={"if-none-match": etag}).status, 400)
        self.assertEqual(self.ask("PUT", "/bkt/k", b"x", if_none_match="*").status, 412)
        self.assertEqual(self.ask("GET", "/bkt/k", range="bytes=1-2", if_range=etag).body, b"el")

    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, CONTENT_BYTES - 1), st.integers(0, CONTENT_BYTES + 10))
    def test_ranges(self, begin: int, length: int) -> None:
        """Are those of what was sent."""
        if "k" not in texts_of(self.ask("GET", "/bkt?list-type=2").body, "Key"):
            self.ask("PUT", "/bkt/k", PLAIN)
        answer = self.ask("GET", "/bkt/k", range=f"bytes={begin}-{begin + length}")
        end = min(begin + length + 1, CONTENT_BYTES)
        self.assertEqual((answer.status, answer.body), (206, PLAIN[begin:end]))
        self.assertEqual(answer.headers["content-range"], f"bytes {begin}-{end - 1}/{CONTENT_BYTES}")

    def test_ranges_beyond(self) -> None:
        """The end is that of what was sent, not of what is stored."""
        self.ask("PUT", "/bkt/k", PLAIN)
        answer = self.ask("GET", "/bkt/k", range=f"bytes={CONTENT_BYTES}-")
        self.check(answer, 416, "InvalidRange")
        self.assertEqual(answer.headers["content-range"], f"bytes */{CONTENT_BYTES}")
        self.assertEqual(self.ask("GET", "/bkt/k", range="bytes=-5").body, PLAIN[-5:])
        part = self.ask("GET", "/bkt/k?partNumber=1")
        self.assertEqual((part.status, part.body), (206, PLAIN))
        self.assertEqual(self.ask("GET", "/bkt/k?partNumber=2").status, 416)

    def test_listing(self) -> None:
        """Shows the size of what was sent, and needs no key."""
        self.ask("PUT", "/bkt/k", PLAIN)
        self.ask("PUT", "/bkt/plain", b"12", headers={})
        for target in ("/bkt?list-type=2", "/bkt"):
            self.assertEqual(
                texts_of(self.ask("GET", target, headers={}).body, "Size"), [str(CONTENT_BYTES), "2"]
            )

    def test_delete(self) -> None:
        """Needs no key."""
        self.ask("PUT", "/bkt/k", b"x")
        self.assertEqual(self.ask("DELETE", "/bkt/k", headers={}).status, 204)

    def test_moved_record(self) -> None:
        """The record of an object opens nothing elsewhere: its key is bound to bucket and name."""
        self.ask("PUT", "/bkt/k", b"secret")
        self.ask("PUT", "/bkt/l", b"other")
        self.rig.store._executor._connection.execute(  # type: ignore[attr-defined]
            "UPDATE versions SET encryption = (SELECT encryption FROM versions WHERE key = x'6b') WHERE key = x'6c'"
        )
        self.check(self.ask("GET", "/bkt/l"), 403, "AccessDenied")

    def test_damage(self) -> None:
        """Bytes that are not what was encrypted are not served, though their checksum on the disk be right; somebody is told."""
        for size in (10, CONTENT_BYTES):
            self.ask("PUT", "/bkt/k", PLAIN[:size])
            pieces, address = self.rig.staging.medium.pieces, self.rig.first_address("bkt", b"k")
            changed = bytearray(pieces[address].content)
            changed[HEADER_BYTES + 5] ^= 1
            pieces[address] = SimulatedPiece(changed, (crc64nvme(bytes(changed)),), pieces[address].run)
            self.assertEqual(self.ask("GET", "/bkt/k").status, 500)
        alerts = self.successResultOf(self.rig.store.alerts(include_cleared=False, limit=9))
        self.assertEqual([alert.kind for alert in alerts], ["bytes-damaged"])

    def test_cold(self) -> None:
        """A restore needs no key, reading does before anything else; what is admitted is what is stored."""
        self.ask("PUT", "/bkt/k", PLAIN, x_amz_storage_class="GLACIER")
        self.check(self.ask("GET", "/bkt/k"), 403, "InvalidObjectState")
        self.check(self.ask("GET", "/bkt/k", headers={}), 400, "InvalidRequest")
        self.assertEqual(self.ask("HEAD", "/bkt/k").headers["content-length"], str(CONTENT_BYTES))
        document = b"<RestoreRequest><Days>1</Days></RestoreRequest>"
        self.assertEqual(self.ask("POST", "/bkt/k?restore", document, headers={}).status, 202)
        self.assertEqual(self.ask("GET", "/bkt/k").body, PLAIN)


class VersionTests(Case):
    """Versions, each with a key of its own."""

    def test_versions(self) -> None:
        """Each is read with its key alone, also when copied from; listings show the sizes that were sent."""
        document = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
        self.assertEqual(self.ask("PUT", "/bkt?versioning", document, headers={}).status, 200)
        other = key_headers(OTHER_KEY)
        first = self.ask("PUT", "/bkt/k", PLAIN).headers["x-amz-version-id"]
        second = self.ask("PUT", "/bkt/k", b"newer", headers=other).headers["x-amz-version-id"]
        self.assertEqual(self.ask("GET", f"/bkt/k?versionId={first}").body, PLAIN)
        self.assertEqual(self.ask("GET", f"/bkt/k?versionId={second}", headers=other).body, b"newer")
        self.check(self.ask("GET", "/bkt/k"), 403, "AccessDenied")
        self.check(self.ask("GET", f"/bkt/k?versionId={first}", headers=other), 403, "AccessDenied")
        listed = self.ask("GET", "/bkt?versions", headers={}).body
        self.assertEqual(texts_of(listed, "Size"), ["5", str(CONTENT_BYTES)])
        source = {"x-amz-copy-source": f"bkt/k?versionId={first}", **key_headers(beginning=SOURCE)}
        copied = self.ask("PUT", "/bkt/k", headers={**source, **other})
        self.assertEqual((copied.status, copied.headers["x-amz-copy-source-version-id"]), (200, first))
        self.assertEqual(self.ask("GET", "/bkt/k", headers=other).body, PLAIN)


class PlainHttpTests(SynchronousTestCase):
    """Keys over connections that are not encrypted."""

    def test_refused(self) -> None:
        """By default no key is taken from one, for whatever it be, and the sender is told that others may know it now."""
        rig = Rig()
        rig.put("/bkt")
        rig.put("/bkt/k", b"plain")
        upload = text_of(rig.ask("POST", "/bkt/k?uploads").body, "UploadId")
        for method, target, headers in (
            ("PUT", "/bkt/k", KEYED),
            ("GET", "/bkt/k", KEYED),
            ("GET", "/bkt/k", {CUSTOMER + "key": "x"}),
            ("POST", "/bkt/k?uploads", KEYED),
            ("PUT", f"/bkt/k?uploadId={upload}&partNumber=1", KEYED),
            ("GET", f"/bkt/k?uploadId={upload}", KEYED),
            ("PUT", "/bkt/l", {"x-amz-copy-source": "bkt/k", **KEYED}),
            ("PUT", "/bkt/l", {"x-amz-copy-source": "bkt/k", **key_headers(beginning=SOURCE)}),
        ):
            answer = rig.ask(method, target, b"", headers)
            self.assertEqual((answer.status, answer.code), (400, "InvalidRequest"), target)
            self.assertIn("secure connection", text_of(answer.body, "Message") or "")
        self.assertEqual(rig.ask("HEAD", "/bkt/k", b"", KEYED).status, 400)


class FormTests(Case):
    """Keys in browsers' forms."""

    def test_form(self) -> None:
        """The fields are those of a PUT; a form tells only how long its file can be."""
        self.rig.put("/pics")
        names = [["starts-with", "$" + name, ""] for name in KEYED]
        for content in (CONTENT, PLAIN):
            body = form({"key": "k", **KEYED, **signed(policy(ANY_KEY, *SIGNING, *names))}, content)
            wire = self.rig.wire()
            headers = {
                "host": "s3.example.org",
                "content-type": f"multipart/form-data; boundary={BOUNDARY}",
                "content-length": str(len(body)),
            }
            wire.send(message("POST", "/pics", headers, body))
            answer = wire.answer()
            self.assertEqual((answer.status, answer.headers[CUSTOMER + "algorithm"]), (204, "AES256"))
            self.assertEqual(self.ask("GET", "/pics/k").body, content)
            self.assertEqual(self.ask("GET", "/pics/k", headers={}).status, 400)


class MultipartTests(Case):
    """Uploads in parts."""

    def begin(self, headers: dict[str, str] | None = None, **more: Any) -> str:
        """Begin an upload."""
        answer = self.ask("POST", "/bkt/m?uploads", headers=headers, **more)
        self.assertEqual(answer.status, 200)
        return text_of(answer.body, "UploadId") or ""

    def part(
        self, upload: str, number: int, body: bytes, headers: dict[str, str] | None = None, **more: Any
    ) -> ParsedAnswer:
        """Upload a part."""
        return self.ask("PUT", f"/bkt/m?uploadId={upload}&partNumber={number}", body, headers=headers, **more)

    def complete(
        self,
        upload: str,
        etags: dict[int, str],
        headers: dict[str, str] | None = None,
        extra: str = "",
        **more: Any,
    ) -> ParsedAnswer:
        """Complete with these parts."""
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag>{extra}</Part>"
            for number, etag in etags.items()
        )
        document = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        return self.ask("POST", f"/bkt/m?uploadId={upload}", document, headers=headers, **more)

    def test_upload(self) -> None:
        """Parts of odd sizes, one sent twice; sizes, ranges, part numbers and checksum are of what was sent."""
        first, second = PLAIN * 27 + b"odd", Random(6).randbytes(70_001)
        upload = self.begin()
        self.part(upload, 1, first[::-1])
        answers = {1: self.part(upload, 1, first), 5: self.part(upload, 5, second)}
        self.assertEqual({answer.headers[CUSTOMER + "algorithm"] for answer in answers.values()}, {"AES256"})
        listed = self.ask("GET", f"/bkt/m?uploadId={upload}", headers={}).body
        self.assertEqual(texts_of(listed, "Size"), [str(len(first)), str(len(second))])
        self.assertEqual(texts_of(listed, "ChecksumCRC64NVME"), [])
        listed = self.ask("GET", f"/bkt/m?uploadId={upload}").body
        self.assertEqual(
            texts_of(listed, "ChecksumCRC64NVME"),
            [base64_of(crc64nvme(part).to_bytes(8, "big")) for part in (first, second)],
        )
        etags = {number: answer.headers["etag"] for number, answer in answers.items()}
        plain = first + second
        size_header = {"x-amz-mp-object-size": str(len(plain))}
        completed = self.complete(upload, etags, {**KEYED, **size_header})
        self.assertEqual((completed.status, completed.headers[CUSTOMER + "algorithm"]), (200, "AES256"))
        checksum = base64_of(crc64nvme(plain).to_bytes(8, "big"))
        self.assertEqual(text_of(completed.body, "ChecksumCRC64NVME"), checksum)
        again = self.complete(upload, etags)
        self.assertEqual(text_of(again.body, "ChecksumCRC64NVME"), checksum)
        without = self.complete(upload, etags, {})
        self.assertEqual((without.status, text_of(without.body, "ChecksumCRC64NVME")), (200, None))
        answer = self.ask("GET", "/bkt/m", x_amz_checksum_mode="ENABLED")
        self.assertEqual(answer.body, plain)
        self.assertEqual(answer.headers["x-amz-checksum-crc64nvme"], checksum)
        self.assertTrue(answer.headers["etag"].endswith('-2"'))
        for number, part in ((1, first), (2, second)):
            answer = self.ask("GET", f"/bkt/m?partNumber={number}")
            self.assertEqual((answer.body, answer.headers["x-amz-mp-parts-count"]), (part, "2"))
            self.assertEqual(answer.status, 206)
            known = self.ask("GET", f"/bkt/m?partNumber={number}", x_amz_checksum_mode="ENABLED").headers
            self.assertEqual(known["x-amz-checksum-crc64nvme"], base64_of(crc64nvme(part).to_bytes(8, "big")))
        attributes = {"x-amz-object-attributes": "ETag,Checksum,ObjectParts,ObjectSize"}
        self.check(self.ask("GET", "/bkt/m?attributes", headers=attributes), 400, "InvalidRequest")
        wrong = self.ask("GET", "/bkt/m?attributes", headers={**attributes, **key_headers(OTHER_KEY)})
        self.check(wrong, 403, "AccessDenied")
        told = self.ask("GET", "/bkt/m?attributes", headers={**KEYED, **attributes}).body
        self.assertEqual(text_of(told, "ObjectSize"), str(len(plain)))
        self.assertEqual(texts_of(told, "Size"), [str(len(first)), str(len(second))])
        self.assertEqual(
            texts_of(told, "ChecksumCRC64NVME"),
            [
                checksum,
                *(base64_of(crc64nvme(part).to_bytes(8, "big")) for part in (first, second)),
            ],
        )
        border = len(first)
        for begin, end in (
            (border - 1, border + 1),
            (border - 70_000, border + 70_000),
            (border, border + 1),
        ):
            self.assertEqual(
                self.ask("GET", "/bkt/m", range=f"bytes={begin}-{end - 1}").body, plain[begin:end]
            )

    def test_without_key_at_the_end(self) -> None:
        """Completing needs no key where no checksum was asked for; there is none then, and none can be claimed."""
        upload = self.begin()
        etags = {1: self.part(upload, 1, b"all").headers["etag"]}
        refused = self.complete(upload, etags, {"x-amz-checksum-crc64nvme": "AAAAAAAAAAA="})
        self.check(refused, 400, "InvalidRequest")
        self.assertEqual(self.complete(upload, etags, {}).status, 200)
        answer = self.ask("GET", "/bkt/m", x_amz_checksum_mode="ENABLED")
        self.assertEqual(answer.body, b"all")
        told = self.ask("GET", "/bkt/m?attributes", x_amz_object_attributes="Checksum,ObjectParts").body
        self.assertEqual((texts_of(told, "Size"), texts_of(told, "ChecksumCRC64NVME")), (["3"], []))
        self.assertNotIn("x-amz-checksum-crc64nvme", answer.headers)

    def test_checksums(self) -> None:
        """Uploads with a checksum of their own need the key at the end, for their checksums are encrypted as well."""
        upload = self.begin(x_amz_checksum_algorithm="SHA256")
        digest = sha256(b"all").digest()
        part = self.part(upload, 1, b"all", x_amz_checksum_sha256=base64_of(digest))
        etags, extra = {1: part.headers["etag"]}, f"<ChecksumSHA256>{base64_of(digest)}</ChecksumSHA256>"
        self.check(self.complete(upload, etags, {}, extra), 400, "InvalidRequest")
        self.check(self.complete(upload, etags, key_headers(OTHER_KEY), extra), 400, "InvalidRequest")
        completed = self.complete(upload, etags, extra=extra)
        total = base64_of(sha256(digest).digest()) + "-1"
        self.assertEqual(text_of(completed.body, "ChecksumSHA256"), total)
        facts = self.rig.version("bkt", b"m").facts
        assert facts.checksum is not None
        self.assertNotIn(total[:8], facts.checksum.value)

    def test_part_with_another_checksum(self) -> None:
        """A part may bring any checksum where the upload named none."""
        upload = self.begin()
        part = self.part(
            upload, 1, b"all", x_amz_checksum_crc32=base64_of(zlib.crc32(b"all").to_bytes(4, "big"))
        )
        self.assertIn("x-amz-checksum-crc32", part.headers)
        completed = self.complete(upload, {1: part.headers["etag"]})
        self.assertEqual(
            text_of(completed.body, "ChecksumCRC64NVME"), base64_of(crc64nvme(b"all").to_bytes(8, "big"))
        )

    def test_wrong_keys(self) -> None:
        """A part brings the key with which its upload began, and none where that had none."""
        upload = self.begin()
        self.check(self.part(upload, 1, b"x", {}), 400, "InvalidRequest", "initiate requested encryption")
        self.check(
            self.part(upload, 1, b"x", key_headers(OTHER_KEY)), 400, "InvalidRequest", "used originally"
        )
        self.check(self.part(upload, 1, b"x", key_headers(key_md5="AAAA")), 400, "InvalidArgument")
        self.check(
            self.ask("GET", f"/bkt/m?uploadId={upload}", headers=key_headers(OTHER_KEY)),
            400,
            "InvalidRequest",
        )
        plain = self.begin({})
        self.check(self.part(plain, 1, b"x"), 400, "InvalidRequest", "did not request encryption")
        self.check(self.ask("POST", "/bkt/m?uploads", headers=key_headers(key=None)), 400, "InvalidArgument")
        self.assertEqual(self.rig.piece_count, 0)

    def test_small_parts(self) -> None:
        """The least size of a part is of what was sent: one that encryption lifts above it is too small."""
        upload = self.begin()
        etags = {
            number: self.part(upload, number, body).headers["etag"]
            for number, body in ((1, bytes(PART_MIN_BYTES - 1)), (2, b"end"))
        }
        answer = self.complete(upload, etags)
        self.check(answer, 400, "EntityTooSmall")
        self.assertEqual(text_of(answer.body, "ProposedSize"), str(PART_MIN_BYTES - 1))

    def test_empty_part(self) -> None:
        """The last part may be empty."""
        upload = self.begin()
        etags = {
            number: self.part(upload, number, body).headers["etag"]
            for number, body in ((1, bytes(PART_MIN_BYTES)), (2, b""))
        }
        self.assertEqual(self.complete(upload, etags).status, 200)
        self.assertEqual(self.ask("GET", "/bkt/m").body, bytes(PART_MIN_BYTES))
        self.assertEqual(self.ask("GET", "/bkt/m?partNumber=2").headers["content-length"], "0")

    def test_copied_parts(self) -> None:
        """Parts are copied from encrypted objects and from others, whole and in part."""
        self.ask("PUT", "/bkt/plain", PLAIN, headers={})
        self.ask("PUT", "/bkt/other", PLAIN, headers=key_headers(OTHER_KEY))
        upload = self.begin()
        target = f"/bkt/m?uploadId={upload}&partNumber="
        source_key = key_headers(OTHER_KEY, SOURCE)
        copies = {
            1: self.ask("PUT", target + "1", x_amz_copy_source="bkt/plain"),
        }
        etags = {number: text_of(answer.body, "ETag") or "" for number, answer in copies.items()}
        self.assertEqual(self.complete(upload, {1: etags[1].replace("&quot;", '"')}).status, 200)
        self.assertEqual(self.ask("GET", "/bkt/m").body, PLAIN)
        upload = self.begin()
        answer = self.ask(
            "PUT",
            f"/bkt/m?uploadId={upload}&partNumber=1",
            headers={**KEYED, **source_key},
            x_amz_copy_source="bkt/other",
            x_amz_copy_source_range="bytes=65530-131080",
        )
        self.assertEqual((answer.status, answer.headers[CUSTOMER + "algorithm"]), (200, "AES256"))
        etag = (text_of(answer.body, "ETag") or "").replace("&quot;", '"')
        self.assertEqual(self.complete(upload, {1: etag}).status, 200)
        self.assertEqual(self.ask("GET", "/bkt/m").body, PLAIN[65530:131081])
        upload = self.begin()
        refused = self.ask("PUT", f"/bkt/m?uploadId={upload}&partNumber=1", x_amz_copy_source="bkt/other")
        self.check(refused, 400, "InvalidRequest")
        beyond = self.ask(
            "PUT",
            f"/bkt/m?uploadId={upload}&partNumber=1",
            headers={**KEYED, **source_key},
            x_amz_copy_source="bkt/other",
            x_amz_copy_source_range=f"bytes=0-{CONTENT_BYTES}",
        )
        self.check(beyond, 416, "InvalidRange")


class CopyTests(Case):
    """Copies of whole objects."""

    def copy(self, source: str, target: str, headers: dict[str, str], **more: Any) -> ParsedAnswer:
        """Copy."""
        return self.ask("PUT", f"/bkt/{target}", headers=headers, x_amz_copy_source=f"bkt/{source}", **more)

    def test_every_way(self) -> None:
        """From plain to encrypted, on to another key, and back."""
        self.ask("PUT", "/bkt/plain", PLAIN, headers={}, x_amz_meta_a="b")
        other = key_headers(OTHER_KEY)
        answer = self.copy("plain", "one", KEYED)
        self.assertEqual((answer.status, answer.headers[CUSTOMER + "algorithm"]), (200, "AES256"))
        answer = self.copy("one", "two", {**key_headers(beginning=SOURCE), **other})
        self.assertEqual(answer.headers[CUSTOMER + "key-md5"], base64_of(md5(OTHER_KEY).digest()))
        answer = self.copy("two", "three", key_headers(OTHER_KEY, SOURCE))
        self.assertNotIn(CUSTOMER + "algorithm", answer.headers)
        self.assertEqual(text_of(answer.body, "ETag"), f"&quot;{md5(PLAIN).hexdigest()}&quot;")
        for target, headers in (("one", KEYED), ("two", other), ("three", {})):
            got = self.ask("GET", f"/bkt/{target}", headers=headers)
            self.assertEqual((got.body, got.headers["x-amz-meta-a"]), (PLAIN, "b"))

    def test_refused(self) -> None:
        """An encrypted source needs its key, another one must have none."""
        self.ask("PUT", "/bkt/plain", b"p", headers={})
        self.ask("PUT", "/bkt/secret", b"s")
        self.check(self.copy("secret", "x", {}), 400, "InvalidRequest", "correct parameters")
        self.check(self.copy("secret", "x", KEYED), 400, "InvalidRequest", "correct parameters")
        wrong = key_headers(OTHER_KEY, SOURCE)
        self.check(self.copy("secret", "x", wrong), 403, "AccessDenied")
        self.check(self.copy("plain", "x", wrong), 400, "InvalidRequest", "not applicable")
        bad = key_headers(beginning=SOURCE, algorithm="DES")
        self.check(self.copy("secret", "x", bad), 400, "InvalidEncryptionAlgorithmError")
        self.assertEqual(self.ask("GET", "/bkt/x").status, 404)

    def test_onto_itself(self) -> None:
        """Another encryption is a change, for which an object may be copied onto itself; without one nothing is."""
        self.ask("PUT", "/bkt/k", b"content", headers={})
        self.check(self.copy("k", "k", {}), 400, "InvalidRequest", "encryption attributes")
        self.assertEqual(self.copy("k", "k", KEYED).status, 200)
        rotated = {**key_headers(beginning=SOURCE), **key_headers(OTHER_KEY)}
        self.assertEqual(self.copy("k", "k", rotated).status, 200)
        self.assertEqual(self.ask("GET", "/bkt/k", headers=key_headers(OTHER_KEY)).body, b"content")
        self.assertEqual(self.copy("k", "k", key_headers(OTHER_KEY, SOURCE)).status, 200)
        self.assertEqual(self.ask("GET", "/bkt/k", headers={}).body, b"content")

    def test_damaged_source(self) -> None:
        """A source whose bytes are others is not copied, encrypted or not, into an encrypted copy or not."""
        self.ask("PUT", "/bkt/plain", b"plain bytes", headers={})
        self.ask("PUT", "/bkt/secret", b"secret bytes")
        for name, headers in (("plain", KEYED), ("secret", key_headers(beginning=SOURCE))):
            pieces, address = self.rig.staging.medium.pieces, self.rig.first_address("bkt", name.encode())
            changed = bytearray(pieces[address].content)
            changed[-1] ^= 1
            pieces[address] = SimulatedPiece(changed, (crc64nvme(bytes(changed)),), pieces[address].run)
            count = self.rig.piece_count
            self.assertEqual(self.copy(name, "x", headers).status, 500)
            self.assertEqual(self.rig.piece_count, count)
