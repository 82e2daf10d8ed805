"""GetObjectAttributes, and the checksums of parts that outlive the parts."""

import hashlib
from base64 import b64encode

from twisted.trial.unittest import SynchronousTestCase

from coldstore.s3.multipart_plan import PART_MIN_BYTES
from coldstore.util.checksums import new_digest
from tests.unit.s3_rig import Rig, text_of, texts_of
from tests.unit.s3_wire import ParsedAnswer

CONTENTS = [b"\0" * PART_MIN_BYTES, b"\1" * PART_MIN_BYTES, b"end"]
ALL = "ETag,Checksum,ObjectParts,StorageClass,ObjectSize"


def base64_of(algorithm: str, content: bytes) -> str:
    """Return a checksum as S3 shows it."""
    digest = new_digest(algorithm)
    digest.update(content)
    return b64encode(digest.digest()).decode()


class AttributesTests(SynchronousTestCase):
    """Over the wire."""

    def setUp(self) -> None:
        """One bucket."""
        self.rig = Rig()
        self.rig.ask("PUT", "/bkt")

    def upload(self, **headers: str) -> str:
        """Upload ``k`` in three parts, without telling their checksums at the end; return its ETag."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        upload_id = text_of(self.rig.ask("POST", "/bkt/k?uploads", headers=sent).body, "UploadId")
        algorithm = headers.get("x_amz_checksum_algorithm", "").lower()
        listed = ""
        for number, content in enumerate(CONTENTS, 1):
            own = {f"x-amz-checksum-{algorithm}": base64_of(algorithm, content)} if algorithm else {}
            target = f"/bkt/k?partNumber={number}&uploadId={upload_id}"
            part = self.rig.ask("PUT", target, content, own)
            self.assertEqual(part.status, 200, part.body)
            listed += f"<Part><PartNumber>{number}</PartNumber><ETag>{part.headers['etag']}</ETag></Part>"
        body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
        done = self.rig.ask("POST", f"/bkt/k?uploadId={upload_id}", body)
        self.assertEqual(done.status, 200, done.body)
        return (text_of(done.body, "ETag") or "").replace("&quot;", "")

    def attributes(self, names: str = ALL, **headers: str) -> ParsedAnswer:
        """Ask for the attributes of ``k``."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.rig.ask(
            "GET", "/bkt/k?attributes", headers={"x-amz-object-attributes": names, **sent} if names else sent
        )

    def test_plain(self) -> None:
        """Of an object that came in one piece: what is asked for, and no parts."""
        self.rig.put("/bkt/k", b"abc", x_amz_checksum_sha256=base64_of("sha256", b"abc"))
        answer = self.attributes()
        self.assertEqual(
            (answer.status, answer.headers["last-modified"]), (200, "Fri, 02 Jan 2026 03:04:05 GMT")
        )
        self.assertIn(b"<GetObjectAttributesResponse ", answer.body)
        self.assertEqual(text_of(answer.body, "ETag"), hashlib.md5(b"abc").hexdigest())
        self.assertEqual(text_of(answer.body, "ChecksumSHA256"), base64_of("sha256", b"abc"))
        self.assertEqual(text_of(answer.body, "ChecksumType"), "FULL_OBJECT")
        self.assertEqual(text_of(answer.body, "StorageClass"), "STANDARD")
        self.assertEqual(text_of(answer.body, "ObjectSize"), "3")
        self.assertNotIn(b"ObjectParts", answer.body)
        only = self.attributes("ObjectSize , StorageClass")
        self.assertNotIn(b"ETag", only.body)
        self.assertEqual(
            (text_of(only.body, "ObjectSize"), text_of(only.body, "StorageClass")), ("3", "STANDARD")
        )

    def test_refusals(self) -> None:
        """Names that there are not, none at all, and an object that is not there."""
        self.rig.put("/bkt/k", b"abc")
        self.assertEqual(self.attributes("").code, "InvalidRequest")
        self.assertEqual(self.attributes(" , ").code, "InvalidRequest")
        unknown = self.attributes("ETag,Colour")
        self.assertEqual(
            (unknown.code, text_of(unknown.body, "ArgumentValue")), ("InvalidArgument", "Colour")
        )
        self.assertEqual(self.attributes(x_amz_max_parts="x").code, "InvalidArgument")
        self.assertEqual(self.attributes(x_amz_part_number_marker="-1").code, "InvalidArgument")
        self.rig.ask("DELETE", "/bkt/k")
        self.assertEqual(self.attributes().code, "NoSuchKey")

    def test_parts(self) -> None:
        """Sizes and checksums of parts, page by page, also when the pieces that were uploaded are gone."""
        etag = self.upload(x_amz_checksum_algorithm="SHA256", x_amz_storage_class="GLACIER")
        self.rig.evict("bkt", b"k")
        answer = self.attributes()
        self.assertEqual(text_of(answer.body, "ETag"), etag)
        self.assertEqual(text_of(answer.body, "PartsCount"), "3")
        self.assertEqual(texts_of(answer.body, "PartNumber"), ["1", "2", "3"])
        self.assertEqual(texts_of(answer.body, "Size"), [str(PART_MIN_BYTES)] * 2 + ["3"])
        checksums = [base64_of("sha256", content) for content in CONTENTS]
        self.assertEqual(texts_of(answer.body, "ChecksumSHA256")[1:], checksums)
        self.assertEqual(
            (text_of(answer.body, "ChecksumType"), text_of(answer.body, "IsTruncated")),
            ("COMPOSITE", "false"),
        )
        for marker, numbers, following, is_truncated in (
            ("0", ["1"], "1", "true"),
            ("1", ["2"], "2", "true"),
            ("2", ["3"], "3", "false"),
            ("3", [], "0", "false"),
        ):
            page = self.attributes("ObjectParts", x_amz_max_parts="1", x_amz_part_number_marker=marker).body
            self.assertEqual(texts_of(page, "PartNumber"), numbers)
            self.assertEqual(texts_of(page, "ChecksumSHA256"), [checksums[int(n) - 1] for n in numbers])
            self.assertEqual(text_of(page, "PartNumberMarker"), marker)
            self.assertEqual(text_of(page, "NextPartNumberMarker"), following)
            self.assertEqual((text_of(page, "MaxParts"), text_of(page, "PartsCount")), ("1", "3"))
            self.assertEqual(text_of(page, "IsTruncated"), is_truncated)
        none = self.attributes("ObjectParts", x_amz_max_parts="0").body
        self.assertEqual((texts_of(none, "PartNumber"), text_of(none, "IsTruncated")), ([], "false"))

    def test_checksum_of_a_part(self) -> None:
        """A part that is read by its number comes with its own checksum, of whatever algorithm the object has."""
        for headers, algorithm, kind in (
            ({}, "crc64nvme", "FULL_OBJECT"),
            ({"x_amz_checksum_algorithm": "CRC32"}, "crc32", "COMPOSITE"),
            (
                {"x_amz_checksum_algorithm": "CRC32C", "x_amz_checksum_type": "FULL_OBJECT"},
                "crc32c",
                "FULL_OBJECT",
            ),
            ({"x_amz_checksum_algorithm": "SHA512"}, "sha512", "COMPOSITE"),
            ({"x_amz_checksum_algorithm": "MD5"}, "md5", "COMPOSITE"),
            ({"x_amz_checksum_algorithm": "XXHASH128"}, "xxhash128", "COMPOSITE"),
        ):
            self.upload(**headers)
            for number, content in enumerate(CONTENTS, 1):
                for method in ("GET", "HEAD"):
                    answer = self.rig.ask(
                        method, f"/bkt/k?partNumber={number}", headers={"x-amz-checksum-mode": "ENABLED"}
                    )
                    self.assertEqual(answer.status, 206)
                    self.assertEqual(
                        answer.headers[f"x-amz-checksum-{algorithm}"], base64_of(algorithm, content)
                    )
                    self.assertEqual(answer.headers["x-amz-checksum-type"], kind)
            plain = self.rig.ask("HEAD", "/bkt/k?partNumber=1")
            self.assertNotIn(f"x-amz-checksum-{algorithm}", plain.headers)

    def test_object_from_before(self) -> None:
        """Of an object whose parts' checksums were never kept, the parts are shown without them."""
        self.upload()
        connection = self.rig.store._executor._connection  # type: ignore[attr-defined]
        connection.execute("DELETE FROM part_digests")
        answer = self.attributes("ObjectParts")
        self.assertEqual(texts_of(answer.body, "PartNumber"), ["1", "2", "3"])
        self.assertNotIn(b"Checksum", answer.body)
        part = self.rig.ask("GET", "/bkt/k?partNumber=3", headers={"x-amz-checksum-mode": "ENABLED"})
        self.assertEqual((part.status, part.body), (206, b"end"))
        self.assertNotIn("x-amz-checksum-type", part.headers)
