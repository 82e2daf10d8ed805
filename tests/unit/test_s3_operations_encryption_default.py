"""Objects that the appliance encrypts (SSE-S3) over the wire: asked for by the writer, the bucket or the site; nobody brings a key."""

import zlib
from hashlib import md5
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.objects import ObjectVersion
from coldstore.s3.encryption_pieces import HEADER_BYTES, TAG_BYTES
from coldstore.s3.multipart_plan import PART_MIN_BYTES, multipart_etag
from coldstore.util.checksums import crc64nvme
from tests.unit.encryption_keys import CUSTOMER, SOURCE, base64_of, key_headers
from tests.unit.s3_rig import Rig, text_of, texts_of
from tests.unit.s3_wire import ParsedAnswer, message
from tests.unit.test_s3_posting import ANY_KEY, BOUNDARY, CONTENT, SIGNING, form, policy, signed

NAME = "x-amz-server-side-encryption"
ENCRYPTED = {NAME: "AES256"}
PLAIN = Random(5).randbytes(200_000)
CONFIGURATION = (
    b"<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm>"
    b"</ApplyServerSideEncryptionByDefault>%s</Rule></ServerSideEncryptionConfiguration>"
)


class Case(SynchronousTestCase):
    """One endpoint and a bucket."""

    encrypts_all = False

    def setUp(self) -> None:
        """Make them."""
        self.rig = Rig(sse_c_over_http=True, encrypts_all=self.encrypts_all)
        self.rig.put("/bkt")

    def ask(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        /,
        **more: Any,
    ) -> ParsedAnswer:
        """Send one request."""
        named = {name.replace("_", "-"): value for name, value in more.items()}
        return self.rig.ask(method, target, body, {**(headers or {}), **named})

    def check(self, answer: ParsedAnswer, status: int, code: str, *words: str) -> None:
        """See that something was refused."""
        self.assertEqual((answer.status, answer.code), (status, code))
        for word in words:
            self.assertIn(word, text_of(answer.body, "Message") or "")

    def told(self, answer: ParsedAnswer) -> str | None:
        """Return what an answer that is a success says of encryption by the server."""
        self.assertIn(answer.status, (200, 204, 206))
        return answer.headers.get(NAME)

    def version(self, key: bytes) -> ObjectVersion:
        """Return what is under a key."""
        return self.rig.version("bkt", key)

    def is_encrypted(self, key: bytes) -> bool:
        """Whether the appliance has encrypted what is under a key."""
        encryption = self.version(key).facts.encryption
        return encryption is not None and encryption.is_by_server

    def stored(self) -> bytes:
        """Return all that is on the disk."""
        return b"".join(bytes(piece.content) for piece in self.rig.staging.medium.pieces.values())

    def configure(self, more: bytes = b"", bucket: str = "bkt") -> None:
        """Have a bucket encrypt what comes."""
        self.assertEqual(self.ask("PUT", f"/{bucket}?encryption", CONFIGURATION % more).status, 200)

    def upload(
        self, key: str, parts: dict[int, bytes], headers: dict[str, str] | None = None, **more: str
    ) -> ParsedAnswer:
        """Upload an object in parts."""
        begun = self.ask("POST", f"/bkt/{key}?uploads", b"", headers, **more)
        self.expected = self.told(begun)
        upload = text_of(begun.body, "UploadId")
        listed = ""
        for number, body in parts.items():
            put = self.ask("PUT", f"/bkt/{key}?uploadId={upload}&partNumber={number}", body)
            self.assertEqual(self.told(put), self.expected)
            self.assertEqual(put.headers["etag"], f'"{md5(body).hexdigest()}"')
            listed += f"<Part><PartNumber>{number}</PartNumber><ETag>{put.headers['etag']}</ETag></Part>"
        self.upload_id = upload
        self.document = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
        return self.ask("POST", f"/bkt/{key}?uploadId={upload}", self.document)

    expected: str | None = None
    upload_id: str | None = None
    document = b""


class PutAndGetTests(Case):
    """Objects that were put whole, whose writer asks for it."""

    def test_put(self) -> None:
        """All answers tell it; nothing on the disk is as it was sent; the ETag is the MD5 of what was, checksums too; the record is encrypted."""
        crc = base64_of(zlib.crc32(PLAIN).to_bytes(4, "big"))
        put = self.ask("PUT", "/bkt/k", PLAIN, ENCRYPTED, x_amz_checksum_crc32=crc)
        self.assertEqual(self.told(put), "AES256")
        self.assertEqual(put.headers["etag"], f'"{md5(PLAIN).hexdigest()}"')
        for method in ("GET", "HEAD"):
            answer = self.ask(method, "/bkt/k", x_amz_checksum_mode="ENABLED")
            self.assertEqual(self.told(answer), "AES256")
            self.assertEqual(answer.headers["content-length"], str(len(PLAIN)))
            self.assertEqual(answer.headers["etag"], put.headers["etag"])
            self.assertEqual(answer.headers["x-amz-checksum-crc32"], crc)
        self.assertEqual(self.ask("GET", "/bkt/k").body, PLAIN)
        facts = self.version(b"k").facts
        self.assertEqual(facts.size_bytes, len(PLAIN) + HEADER_BYTES + 4 * TAG_BYTES)
        self.assertEqual(facts.crc64nvme, crc64nvme(self.stored()))
        for begin in range(0, len(PLAIN) - 16, 997):
            self.assertNotIn(PLAIN[begin : begin + 16], self.stored())
        self.assertNotIn(crc, repr(facts))
        assert self.rig.key_file.keys is not None
        (key,) = self.rig.key_file.keys.keys
        assert facts.encryption is not None
        self.assertEqual(facts.encryption.master_key, key.key_id)
        for secret in (base64_of(key.secret), repr(key.secret), key.secret.hex()):
            self.assertNotIn(secret, repr(facts))

    def test_sizes_and_ranges(self) -> None:
        """Of any size, and of every range."""
        for size in (0, 1, 65_535, 65_536, 65_537, len(PLAIN)):
            put = self.ask("PUT", "/bkt/k", PLAIN[:size], ENCRYPTED)
            self.assertEqual((self.told(put), self.is_encrypted(b"k")), ("AES256", True))
            self.assertEqual(put.headers["etag"], f'"{md5(PLAIN[:size]).hexdigest()}"')
            self.assertEqual(self.ask("GET", "/bkt/k").body, PLAIN[:size])
        for begin, end in ((0, 0), (65_530, 65_540), (131_072, 199_999)):
            answer = self.ask("GET", "/bkt/k", range=f"bytes={begin}-{end}")
            self.assertEqual((answer.status, answer.body), (206, PLAIN[begin : end + 1]))

    def test_md5(self) -> None:
        """Content-MD5 is of what is sent; a wrong digest keeps nothing."""
        right = base64_of(md5(PLAIN).digest())
        self.assertEqual(self.ask("PUT", "/bkt/k", PLAIN, ENCRYPTED, content_md5=right).status, 200)
        pieces = self.rig.piece_count
        for headers in ({"content-md5": right}, {"x-amz-checksum-crc32": "AAAAAA=="}):
            answer = self.ask("PUT", "/bkt/other", PLAIN[1:], {**ENCRYPTED, **headers})
            self.check(answer, 400, "BadDigest")
        self.assertEqual(self.rig.piece_count, pieces)

    def test_plain_ones(self) -> None:
        """Objects whose writers ask for nothing have none, and no key is made."""
        self.assertIsNone(self.told(self.ask("PUT", "/bkt/k", PLAIN)))
        self.assertIsNone(self.told(self.ask("GET", "/bkt/k")))
        self.assertIsNone(self.rig.key_file.keys)

    def test_customers_key(self) -> None:
        """One for an object that needs none is refused."""
        self.ask("PUT", "/bkt/k", PLAIN, ENCRYPTED)
        for method in ("GET", "HEAD"):
            self.assertEqual(self.ask(method, "/bkt/k", b"", key_headers()).status, 400)
        self.check(self.ask("PUT", "/bkt/k", b"", {**ENCRYPTED, **key_headers()}), 400, "InvalidArgument")

    def test_form(self) -> None:
        """A form asks for it in a field."""
        self.rig.put("/pics")
        named = signed(policy(ANY_KEY, *SIGNING, {NAME: "AES256"}))
        body = form({"key": "k", NAME: "AES256", **named})
        wire = self.rig.wire()
        headers = {
            "host": "s3.example.org",
            "content-type": f"multipart/form-data; boundary={BOUNDARY}",
            "content-length": str(len(body)),
        }
        wire.send(message("POST", "/pics", headers, body))
        answer = wire.answer()
        self.assertEqual((answer.status, answer.headers[NAME]), (204, "AES256"))
        self.assertEqual(self.ask("GET", "/pics/k").body, CONTENT)

    def test_attributes(self) -> None:
        """Size, ETag and checksum are those of what was sent."""
        self.upload("k", {1: PLAIN[:1]}, ENCRYPTED)
        wanted = "ETag,Checksum,ObjectParts,ObjectSize"
        answer = self.ask("GET", "/bkt/k?attributes", x_amz_object_attributes=wanted)
        self.assertEqual(text_of(answer.body, "ObjectSize"), "1")
        self.assertEqual(text_of(answer.body, "ETag"), multipart_etag([md5(PLAIN[:1]).hexdigest()]))
        crc = base64_of(crc64nvme(PLAIN[:1]).to_bytes(8, "big"))
        self.assertEqual(texts_of(answer.body, "ChecksumCRC64NVME"), [crc, crc])

    def test_listing(self) -> None:
        """Shows the size of what was sent."""
        self.ask("PUT", "/bkt/k", PLAIN, ENCRYPTED)
        self.assertEqual(texts_of(self.ask("GET", "/bkt?list-type=2").body, "Size"), [str(len(PLAIN))])


class MultipartTests(Case):
    """Objects of parts."""

    def test_upload(self) -> None:
        """Every answer tells it; ETags are those of what was sent; any range crosses parts."""
        parts = {1: Random(1).randbytes(PART_MIN_BYTES), 4: PLAIN[:70_001]}
        whole = b"".join(parts.values())
        done = self.upload("k", parts, ENCRYPTED, x_amz_checksum_algorithm="CRC32")
        self.assertEqual(self.told(done), "AES256")
        etag = multipart_etag([md5(part).hexdigest() for part in parts.values()])
        self.assertEqual(text_of(done.body, "ETag"), f"&quot;{etag}&quot;")
        self.assertIsNotNone(text_of(done.body, "ChecksumCRC32"))
        got = self.ask("GET", "/bkt/k")
        self.assertEqual((got.body, self.told(got), got.headers["etag"]), (whole, "AES256", f'"{etag}"'))
        part = self.ask("GET", "/bkt/k?partNumber=2")
        self.assertEqual((part.status, part.body), (206, parts[4]))
        begin = PART_MIN_BYTES - 3
        self.assertEqual(
            self.ask("GET", "/bkt/k", range=f"bytes={begin}-{begin + 9}").body, whole[begin : begin + 10]
        )
        encryption = self.version(b"k").facts.encryption
        assert encryption is not None
        self.assertEqual(encryption.part_numbers, "1,4")
        again = self.ask("POST", f"/bkt/k?uploadId={self.upload_id}", self.document)
        self.assertEqual((self.told(again), again.body), ("AES256", done.body))

    def test_listed(self) -> None:
        """Parts of an open upload are listed with their sizes and checksums."""
        begun = self.ask("POST", "/bkt/k?uploads", b"", ENCRYPTED, x_amz_checksum_algorithm="CRC32")
        upload = text_of(begun.body, "UploadId")
        self.ask(
            "PUT",
            f"/bkt/k?uploadId={upload}&partNumber=3",
            b"hello",
            x_amz_checksum_crc32=base64_of(zlib.crc32(b"hello").to_bytes(4, "big")),
        )
        listed = self.ask("GET", f"/bkt/k?uploadId={upload}").body
        self.assertEqual(text_of(listed, "Size"), "5")
        self.assertEqual(text_of(listed, "ChecksumCRC32"), base64_of(zlib.crc32(b"hello").to_bytes(4, "big")))

    def test_key_for_a_part(self) -> None:
        """A customer's key is refused where none was brought at the beginning."""
        upload = text_of(self.ask("POST", "/bkt/k?uploads", b"", ENCRYPTED).body, "UploadId")
        answer = self.ask("PUT", f"/bkt/k?uploadId={upload}&partNumber=1", b"x", key_headers())
        self.check(answer, 400, "InvalidRequest", "did not request encryption")

    def test_default_at_the_beginning(self) -> None:
        """What the bucket said when an upload began holds for all of it."""
        upload = text_of(self.ask("POST", "/bkt/k?uploads").body, "UploadId")
        self.configure()
        put = self.ask("PUT", f"/bkt/k?uploadId={upload}&partNumber=1", b"x")
        self.assertIsNone(self.told(put))
        self.upload("j", {1: b"y"})
        self.assertEqual(self.expected, "AES256")
        self.assertTrue(self.is_encrypted(b"j"))

    def test_rotation_in_between(self) -> None:
        """Another key of data changes nothing for an open upload, whose object is under the new one in the end."""
        begun = self.ask("POST", "/bkt/k?uploads", b"", ENCRYPTED)
        upload = text_of(begun.body, "UploadId")
        etag = self.ask("PUT", f"/bkt/k?uploadId={upload}&partNumber=1", PLAIN).headers["etag"]
        new = self.successResultOf(self.rig.data_keys.rotate())
        document = f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
        self.assertEqual(self.ask("POST", f"/bkt/k?uploadId={upload}", document.encode()).status, 200)
        self.assertEqual(self.version(b"k").wrapped_key.master_key, new)
        self.assertEqual(self.ask("GET", "/bkt/k").body, PLAIN)


class CopyTests(Case):
    """Copies between plain objects, those under customers' keys, and those that the appliance has encrypted."""

    WAYS: tuple[dict[str, str], ...] = ({}, ENCRYPTED, key_headers())

    def test_every_direction(self) -> None:
        """The source is decrypted as it is encrypted, the copy is encrypted as its own headers say."""
        for number, headers in enumerate(self.WAYS):
            self.ask("PUT", f"/bkt/s{number}", PLAIN, headers)
        for source, of_source in enumerate(self.WAYS):
            brought = key_headers(beginning=SOURCE) if CUSTOMER + "key" in of_source else {}
            for target, headers in enumerate(self.WAYS):
                copied = self.ask(
                    "PUT", "/bkt/t", b"", {**headers, **brought, "x-amz-copy-source": f"bkt/s{source}"}
                )
                self.assertEqual(self.told(copied), headers.get(NAME), (source, target))
                self.assertEqual(self.is_encrypted(b"t"), headers is ENCRYPTED)
                got = self.ask("GET", "/bkt/t", b"", headers if CUSTOMER + "key" in headers else {})
                self.assertEqual((got.status, got.body), (200, PLAIN), (source, target))
                if CUSTOMER + "key" not in headers:
                    self.assertEqual(got.headers["etag"], f'"{md5(PLAIN).hexdigest()}"')

    def test_parts(self) -> None:
        """A part is copied out of an encrypted object into another one."""
        self.ask("PUT", "/bkt/s", PLAIN, ENCRYPTED)
        upload = text_of(self.ask("POST", "/bkt/t?uploads", b"", ENCRYPTED).body, "UploadId")
        copied = self.ask(
            "PUT",
            f"/bkt/t?uploadId={upload}&partNumber=1",
            b"",
            x_amz_copy_source="bkt/s",
            x_amz_copy_source_range="bytes=5-70000",
        )
        self.assertEqual(self.told(copied), "AES256")
        etag = md5(PLAIN[5:70_001]).hexdigest()
        self.assertEqual(text_of(copied.body, "ETag"), f"&quot;{etag}&quot;")
        document = f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
        self.assertEqual(self.ask("POST", f"/bkt/t?uploadId={upload}", document.encode()).status, 200)
        self.assertEqual(self.ask("GET", "/bkt/t").body, PLAIN[5:70_001])

    def test_onto_itself(self) -> None:
        """Asking for encryption is a change, and so is a default that the object is not encrypted by; else there is none."""
        itself = {"x-amz-copy-source": "bkt/k"}
        self.ask("PUT", "/bkt/k", PLAIN)
        self.check(self.ask("PUT", "/bkt/k", b"", itself), 400, "InvalidRequest", "without changing")
        self.assertEqual(self.told(self.ask("PUT", "/bkt/k", b"", {**itself, **ENCRYPTED})), "AES256")
        self.assertEqual(self.told(self.ask("PUT", "/bkt/k", b"", {**itself, **ENCRYPTED})), "AES256")
        self.assertIsNone(self.told(self.ask("PUT", "/bkt/k", b"", itself)))
        self.configure()
        self.assertEqual(self.told(self.ask("PUT", "/bkt/k", b"", itself)), "AES256")
        self.check(self.ask("PUT", "/bkt/k", b"", itself), 400, "InvalidRequest", "without changing")
        self.assertEqual(self.ask("GET", "/bkt/k").body, PLAIN)

    def test_key_for_the_source(self) -> None:
        """A customer's key is refused for a source that needs none."""
        self.ask("PUT", "/bkt/s", PLAIN, ENCRYPTED)
        headers = {**key_headers(beginning=SOURCE), "x-amz-copy-source": "bkt/s"}
        self.check(self.ask("PUT", "/bkt/t", b"", headers), 400, "InvalidRequest", "not applicable")


class DefaultTests(Case):
    """What a bucket says."""

    def test_life(self) -> None:
        """It is set, shown, holds for new objects whose writers say nothing, and is removed; objects stay as they are."""
        missing = "ServerSideEncryptionConfigurationNotFoundError"
        self.check(self.ask("GET", "/bkt?encryption"), 404, missing)
        self.assertEqual(self.ask("DELETE", "/bkt?encryption").status, 204)
        self.ask("PUT", "/bkt/before", PLAIN)
        self.configure(b"<BucketKeyEnabled>true</BucketKeyEnabled>")
        shown = self.ask("GET", "/bkt?encryption")
        self.assertEqual(
            (text_of(shown.body, "SSEAlgorithm"), text_of(shown.body, "BucketKeyEnabled")), ("AES256", "true")
        )
        self.assertEqual(self.told(self.ask("PUT", "/bkt/k", PLAIN)), "AES256")
        self.assertEqual(self.told(self.ask("GET", "/bkt/k")), "AES256")
        self.assertIsNone(self.told(self.ask("GET", "/bkt/before")))
        self.rig.put("/other")
        self.assertIsNone(self.told(self.ask("PUT", "/other/k", PLAIN)))
        self.assertEqual(
            self.ask("PUT", "/bkt/c", PLAIN, key_headers()).headers[CUSTOMER + "algorithm"], "AES256"
        )
        self.assertEqual(self.ask("DELETE", "/bkt?encryption").status, 204)
        self.assertIsNone(self.told(self.ask("PUT", "/bkt/after", PLAIN)))
        self.assertEqual(self.ask("GET", "/bkt/k").body, PLAIN)
        self.check(self.ask("GET", "/bkt?encryption"), 404, missing)

    def test_blocked(self) -> None:
        """Customers' keys can be refused, for new objects alone."""
        self.ask("PUT", "/bkt/c", PLAIN, key_headers())
        blocked = b"<BlockedEncryptionTypes><EncryptionType>%s</EncryptionType></BlockedEncryptionTypes>"
        self.configure(blocked % b"SSE-C")
        self.assertEqual(text_of(self.ask("GET", "/bkt?encryption").body, "EncryptionType"), "SSE-C")
        for method, target in (("PUT", "/bkt/k"), ("POST", "/bkt/k?uploads")):
            self.check(self.ask(method, target, b"", key_headers()), 403, "AccessDenied", "customers' keys")
        self.assertEqual(self.ask("GET", "/bkt/c", b"", key_headers()).body, PLAIN)
        self.configure(blocked % b"NONE")
        self.assertEqual(self.ask("PUT", "/bkt/k", PLAIN, key_headers()).status, 200)
        only = b"<ServerSideEncryptionConfiguration><Rule>%s</Rule></ServerSideEncryptionConfiguration>"
        self.assertEqual(self.ask("PUT", "/bkt?encryption", only % (blocked % b"SSE-C")).status, 200)
        self.assertIsNone(self.told(self.ask("PUT", "/bkt/k", PLAIN)))
        self.check(self.ask("PUT", "/bkt/k", PLAIN, key_headers()), 403, "AccessDenied")

    def test_refused(self) -> None:
        """What needs a key management service is refused by name, what is no configuration as such; nothing changes."""
        self.configure()
        document = CONFIGURATION % b""
        for algorithm in (b"aws:kms", b"aws:kms:dsse"):
            answer = self.ask("PUT", "/bkt?encryption", document.replace(b"AES256", algorithm))
            self.check(answer, 501, "NotImplemented", algorithm.decode(), "key management service")
        with_key = document.replace(b"</SSEAlgorithm>", b"</SSEAlgorithm><KMSMasterKeyID>k</KMSMasterKeyID>")
        self.check(self.ask("PUT", "/bkt?encryption", with_key), 400, "InvalidArgument", "KMSMasterKeyID")
        rule = document[document.index(b"<Rule>") : document.index(b"</ServerSide")]
        for changed in (
            document.replace(b"AES256", b"AES128"),
            document.replace(b"<SSEAlgorithm>AES256</SSEAlgorithm>", b""),
            document.replace(rule, b""),
            document.replace(rule, rule * 2),
            document.replace(rule, b"<Rule/>"),
            CONFIGURATION % b"<BucketKeyEnabled>yes</BucketKeyEnabled>",
            CONFIGURATION % b"<BlockedEncryptionTypes/>",
            CONFIGURATION
            % b"<BlockedEncryptionTypes><EncryptionType>x</EncryptionType></BlockedEncryptionTypes>",
            b"<Other/>",
            b"no document",
        ):
            self.check(self.ask("PUT", "/bkt?encryption", changed), 400, "MalformedXML")
        self.check(self.ask("PUT", "/bkt?encryption"), 400, "MissingRequestBodyError")
        self.assertEqual(text_of(self.ask("GET", "/bkt?encryption").body, "SSEAlgorithm"), "AES256")

    def test_versions(self) -> None:
        """Versions are each as they were written; delete markers are nothing of the kind."""
        enabled = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
        self.assertEqual(self.ask("PUT", "/bkt?versioning", enabled).status, 200)
        first = self.ask("PUT", "/bkt/k", b"plain")
        self.configure()
        second = self.ask("PUT", "/bkt/k", b"secret")
        marker = self.ask("DELETE", "/bkt/k")
        self.assertIsNone(self.told(marker))
        for put, expected, body in ((first, None, b"plain"), (second, "AES256", b"secret")):
            got = self.ask("GET", f"/bkt/k?versionId={put.headers['x-amz-version-id']}")
            self.assertEqual((self.told(got), got.body), (expected, body))


class SiteTests(Case):
    """Where all buckets encrypt that say nothing."""

    encrypts_all = True

    def test_default(self) -> None:
        """A bucket that says nothing encrypts, and says so when it is asked."""
        shown = self.ask("GET", "/bkt?encryption")
        self.assertEqual((shown.status, text_of(shown.body, "SSEAlgorithm")), (200, "AES256"))
        self.assertEqual(self.told(self.ask("PUT", "/bkt/k", PLAIN)), "AES256")
        self.assertEqual(self.ask("GET", "/bkt/k").body, PLAIN)
        self.configure()
        self.assertEqual(self.ask("DELETE", "/bkt?encryption").status, 204)
        self.assertEqual(self.told(self.ask("PUT", "/bkt/k", PLAIN)), "AES256")
        self.assertEqual(
            self.ask("PUT", "/bkt/k", PLAIN, key_headers()).headers[CUSTOMER + "algorithm"], "AES256"
        )


class KeyTests(Case):
    """Keys of data that change, or are not there."""

    def test_after_a_rotation(self) -> None:
        """What is under an old key is read, and what is put is under the new one."""
        self.ask("PUT", "/bkt/old", PLAIN, ENCRYPTED)
        old = self.version(b"old").wrapped_key.master_key
        new = self.successResultOf(self.rig.data_keys.rotate())
        self.ask("PUT", "/bkt/new", PLAIN, ENCRYPTED)
        self.assertEqual(self.version(b"new").wrapped_key.master_key, new)
        self.assertNotEqual(old, new)
        for key in ("old", "new"):
            self.assertEqual(self.ask("GET", f"/bkt/{key}").body, PLAIN)

    def test_missing(self) -> None:
        """Objects under it are 503, and so is what would be encrypted; all others are served, and nothing is kept in the clear instead."""
        self.ask("PUT", "/bkt/k", PLAIN, ENCRYPTED)
        self.ask("PUT", "/bkt/plain", b"plain")
        upload = text_of(self.ask("POST", "/bkt/u?uploads", b"", ENCRYPTED).body, "UploadId")
        ring = self.rig.data_keys
        ring._missing, ring._current, ring._keys = tuple(ring._keys), None, {}
        pieces = self.rig.piece_count
        for method, target, headers in (
            ("GET", "/bkt/k", {}),
            ("PUT", "/bkt/new", ENCRYPTED),
            ("POST", "/bkt/new?uploads", ENCRYPTED),
            ("PUT", f"/bkt/u?uploadId={upload}&partNumber=1", {}),
            ("PUT", "/bkt/copy", {"x-amz-copy-source": "bkt/k"}),
            ("PUT", "/bkt/copy", {"x-amz-copy-source": "bkt/plain", **ENCRYPTED}),
        ):
            answer = self.ask(
                method, target, b"x" if method == "PUT" and "copy" not in target else b"", headers
            )
            self.check(answer, 503, "ServiceUnavailable", "key that encrypts")
            self.assertNotIn(b"data.keys", answer.body)
        self.configure()
        self.check(self.ask("PUT", "/bkt/new", b"x"), 503, "ServiceUnavailable")
        self.assertEqual(self.rig.piece_count, pieces)
        self.assertEqual(self.ask("GET", "/bkt/plain").body, b"plain")
        self.assertEqual(self.told(self.ask("HEAD", "/bkt/k")), "AES256")
        self.assertEqual(self.ask("GET", "/bkt?list-type=2").status, 200)
        self.assertEqual(self.ask("DELETE", "/bkt/k").status, 204)

    def test_record_altered(self) -> None:
        """When what is recorded as an object's key is that of another object it is not read: not here, not elsewhere."""
        self.ask("PUT", "/bkt/one", PLAIN, ENCRYPTED)
        self.ask("PUT", "/bkt/two", PLAIN, ENCRYPTED)
        connection = self.rig.store._executor._connection  # type: ignore[attr-defined]
        connection.execute(
            "UPDATE versions SET encryption = (SELECT encryption FROM versions WHERE key = x'6f6e65') WHERE key = x'74776f'"
        )
        answer = self.ask("GET", "/bkt/two")
        self.assertEqual((answer.status, answer.code), (500, "InternalError"))
        self.assertEqual(self.ask("GET", "/bkt/one").body, PLAIN)
