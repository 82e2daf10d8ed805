"""
What a person in a terminal reads: clients show code and message of an error, and nothing else of it. So the message names
what is wrong, with the value that was sent and what it should be, and what to do where that is known.
"""

from collections.abc import Mapping

from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.objects import StorageClass
from coldstore.s3.errors import SHOWN_MAX, shown
from coldstore.s3.names import check_bucket_name
from tests.unit.s3_rig import RULES, Rig, text_of
from tests.unit.s3_wire import ACCESS_KEY, NOW, ParsedAnswer, message, signed_headers

EMPTY_MD5 = "1B2M2Y8AsgTpgAmY7PhCfg=="
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
ALL = "UNSIGNED-PAYLOAD"


class MessageTests(SynchronousTestCase):
    """One test a family of mistakes."""

    def setUp(self) -> None:
        """An endpoint with a bucket, a hot and a cold object."""
        self.rig = Rig()
        self.rig.put("/bkt")
        self.rig.put("/bkt/hot", b"x" * 10)
        self.rig.put("/bkt/cold", b"x", x_amz_storage_class="GLACIER")

    def send(self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> ParsedAnswer:
        """Send a request exactly so."""
        wire = self.rig.wire()
        wire.send(message(method, target, headers, body))
        return wire.answer()

    def assert_told(self, answer: ParsedAnswer, code: str, *words: object) -> None:
        """Check that an answer has a code, and a message with these words."""
        told = text_of(answer.body, "Message") or ""
        self.assertEqual(answer.code, code, told)
        for word in words:
            self.assertIn(str(word), told)

    def refused(
        self, method: str, target: str, code: str, *words: object, body: bytes = b"", **headers: str
    ) -> None:
        """Ask, and check what is told; underscores in names of headers stand for dashes."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        self.assert_told(self.rig.ask(method, target, body, sent), code, *words)

    def test_signatures(self) -> None:
        """Which key, region, time or header it was."""
        for changes, code, words in (
            ({"secret_key": "wrong"}, "SignatureDoesNotMatch", (f"'{ACCESS_KEY}'", "secret key")),
            ({"access_key": "NOBODY"}, "InvalidAccessKeyId", ("'NOBODY'",)),
            ({"region": "mars-1"}, "AuthorizationHeaderMalformed", ("'mars-1'", "'us-east-1'")),
            (
                {"seconds": NOW - 3600},
                "RequestTimeTooSkewed",
                ("2026-01-02T02:04:05Z", "2026-01-02T03:04:05Z", "900 seconds", "clock"),
            ),
            ({"unsigned": ["host"]}, "AccessDenied", ("not signed", "host")),
        ):
            headers = signed_headers("GET", "/", {}, payload=EMPTY_SHA256, **changes)  # type: ignore[arg-type]
            self.assert_told(self.send("GET", "/", headers), code, *words)
        self.refused(
            "GET", "/", "InvalidToken", "x-amz-security-token", "AWS_SESSION_TOKEN", x_amz_security_token="t"
        )

    def test_times_at_the_ends_of_the_calendar(self) -> None:
        """A URL of the last second of the year 9999 lives on into one that no date has; one of the first year has four digits."""
        for date, told in (("99991231T235959Z", "9999-12-31T23:59:59Z"), ("00010101T000000Z", "0001-01-01")):
            credential = f"{ACCESS_KEY}/{date[:8]}/us-east-1/s3/aws4_request".replace("/", "%2F")
            target = (
                f"/bkt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}&X-Amz-Date={date}"
                "&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=ab"
            )
            self.assert_told(self.send("GET", target, {"host": "h"}), "AccessDenied", told)

    def test_what_is_missing_of_a_signature(self) -> None:
        """The header, and how curl is told to send it."""
        self.assert_told(self.send("GET", "/bkt/hot", {"host": "h"}), "AccessDenied", "not signed")
        headers = signed_headers("GET", "/", {}, payload=ALL)
        del headers["x-amz-content-sha256"]
        answer = self.send("GET", "/", headers)
        self.assert_told(answer, "InvalidRequest", "x-amz-content-sha256", "curl", ALL)
        headers = signed_headers("GET", "/", {}, payload="rubbish")
        self.assert_told(self.send("GET", "/", headers), "InvalidArgument", "'rubbish'")
        headers = {**signed_headers("GET", "/", {}, payload=ALL), "x-amz-date": "today"}
        self.assert_told(self.send("GET", "/", headers), "AccessDenied", "'today'")
        self.assert_told(
            self.send("GET", "/", {"host": "h", "authorization": "Bearer abc"}), "InvalidArgument", "'Bearer'"
        )

    def test_what_is_not_there(self) -> None:
        """Which bucket, key, version or upload."""
        self.refused("GET", "/none", "NoSuchBucket", "'none'")
        self.refused("PUT", "/none/k", "NoSuchBucket", "'none'", body=b"x")
        self.refused("GET", "/bkt/none", "NoSuchKey", "'none'")
        self.refused("GET", "/bkt/hot?versionId=abc", "NoSuchVersion", "'abc'", "'hot'")
        self.refused("GET", "/bkt/hot?versionId=a%20b", "InvalidArgument", "'a b'")
        self.refused("PUT", "/bkt/hot?partNumber=1&uploadId=abc", "NoSuchUpload", "'abc'", body=b"x")
        self.rig.ask(
            "PUT",
            "/bkt?versioning",
            b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>",
        )
        self.rig.ask("DELETE", "/bkt/hot")
        self.refused("GET", "/bkt/hot", "NoSuchKey", "'hot'", "delete marker")

    def test_buckets(self) -> None:
        """Which rule a name breaks, who has it, what is in it."""
        self.rig.store.create_bucket(
            name="theirs", owner_id="u-2", region="us-east-1", created_at=1.0, default_class=None
        )
        self.refused("PUT", "/theirs", "BucketAlreadyExists", "'theirs'")
        self.refused("GET", "/theirs", "AccessDenied", "'theirs'", "another user")
        self.refused(
            "GET",
            "/bkt",
            "AccessDenied",
            "x-amz-expected-bucket-owner",
            "'u-9'",
            x_amz_expected_bucket_owner="u-9",
        )
        self.refused("DELETE", "/bkt", "BucketNotEmpty", "'bkt'", "versions")
        where = b"<CreateBucketConfiguration><LocationConstraint>mars-1</LocationConstraint></CreateBucketConfiguration>"
        self.refused("PUT", "/new", "InvalidLocationConstraint", "'mars-1'", "'us-east-1'", body=where)

    def test_names_of_buckets(self) -> None:
        """Which rule it is."""
        for name, rule in (
            ("ab", "3 to 63"),
            ("a" * 64, "3 to 63"),
            ("My-bucket", "lower-case"),
            ("my_bucket", "lower-case"),
            ("-bucket", "begins and ends"),
            ("bucket.", "begins and ends"),
            ("a..b", "'..'"),
            ("a.-b", "'.-'"),
            ("1.2.3.4", "IP address"),
            ("xn--a-b", "'xn--'"),
            ("mine--x-s3", "'--x-s3'"),
        ):
            with self.assertRaises(Exception) as caught:
                check_bucket_name(name)
            self.assertIn(rule, str(caught.exception), name)
            self.assertIn(shown(name), str(caught.exception))

    def test_cold_objects(self) -> None:
        """How to restore, or that it is under way."""
        self.refused(
            "GET", "/bkt/cold", "InvalidObjectState", "GLACIER", "restore-object", "--bucket", "Days="
        )
        self.rig.evict("bkt", b"cold")
        days = b"<RestoreRequest><Days>2</Days></RestoreRequest>"
        copying = {"x_amz_copy_source": "bkt/cold"}
        self.refused("PUT", "/bkt/copy", "InvalidObjectState", "GLACIER", "RestoreObject", **copying)
        self.assertEqual(self.rig.ask("POST", "/bkt/cold?restore", days).status, 202)
        self.refused("GET", "/bkt/cold", "InvalidObjectState", "GLACIER", "under way", "x-amz-restore")
        self.refused("POST", "/bkt/cold?restore", "RestoreAlreadyInProgress", "Standard", "2 days", body=days)

    def test_restores(self) -> None:
        """What can be restored, and how."""
        days = b"<RestoreRequest><Days>2</Days></RestoreRequest>"
        self.refused("POST", "/bkt/hot?restore", "InvalidObjectState", "STANDARD", "read at once", body=days)
        self.rig.put("/bkt/deep", b"x", x_amz_storage_class="DEEP_ARCHIVE")
        fast = b"<RestoreRequest><Days>2</Days><Tier>Expedited</Tier></RestoreRequest>"
        self.refused(
            "POST", "/bkt/deep?restore", "InvalidArgument", "Expedited", "DEEP_ARCHIVE", "Bulk", body=fast
        )
        self.refused("POST", "/bkt/cold?restore", "MissingRequestBodyError", "RestoreRequest")
        wrong = b"<RestoreRequest><Days>2</Days><Tier>Slow</Tier></RestoreRequest>"
        self.refused("POST", "/bkt/cold?restore", "MalformedXML", "'Slow'", "Standard", body=wrong)

    def test_classes(self) -> None:
        """Which there are."""
        known = ", ".join(name.value for name in StorageClass if name in RULES)
        self.refused("PUT", "/bkt/k", "InvalidStorageClass", "'SNOW'", known, x_amz_storage_class="SNOW")

    def test_sizes(self) -> None:
        """What there was, and what may be."""
        sent = {**signed_headers("PUT", "/bkt/k", {}, payload=ALL), "content-length": str(6 * 1024**3)}
        self.assert_told(
            self.send("PUT", "/bkt/k", sent), "EntityTooLarge", 6 * 1024**3, 5 * 1024**3, "in parts"
        )
        self.assert_told(self.send("GET", "/bkt/" + "k" * 1025, {"host": "h"}), "KeyTooLongError", 1025, 1024)
        self.refused("PUT", "/bkt/k", "MetadataTooLarge", 3001, 2048, body=b"x", x_amz_meta_a="x" * 3000)
        self.refused("PUT", "/bkt/k", "RequestHeaderSectionTooLarge", 8192, body=b"x", cookie="x" * 9000)

    def test_digests(self) -> None:
        """What was said, and what was computed."""
        self.refused(
            "PUT",
            "/bkt/k",
            "BadDigest",
            EMPTY_MD5,
            "QVKQdpWURg4uSFkikE80XQ==",
            body=b"y",
            content_md5=EMPTY_MD5,
        )
        wrong = "AAAAAA=="
        self.refused("PUT", "/bkt/k", "BadDigest", "CRC32", wrong, body=b"y", x_amz_checksum_crc32=wrong)
        self.refused("PUT", "/bkt/k", "InvalidDigest", "'short'", body=b"y", content_md5="short")
        self.refused(
            "PUT", "/bkt/k", "InvalidRequest", "'short'", "crc32", body=b"y", x_amz_checksum_crc32="short"
        )
        answer = self.rig.ask("PUT", "/bkt/k", b"y", payload=EMPTY_SHA256)
        self.assert_told(
            answer, "XAmzContentSHA256Mismatch", EMPTY_SHA256, "a1fce4363854ff888cff4b8e7875d600"
        )

    def test_ranges(self) -> None:
        """What was asked for, and what there is."""
        self.refused("GET", "/bkt/hot", "InvalidRange", "'bytes=90-'", "10 bytes", range="bytes=90-")
        self.refused("GET", "/bkt/hot?partNumber=4", "InvalidPartNumber", "4", "1 part")
        self.refused("GET", "/bkt/hot?partNumber=x", "InvalidArgument", "'x'", 10000)
        self.refused("PUT", "/bkt/k", "InvalidArgument", "'here'", x_amz_copy_source="here")

    def test_conditions(self) -> None:
        """Which did not hold."""
        self.refused("GET", "/bkt/hot", "PreconditionFailed", "If-Match", if_match='"abc"')
        self.refused("PUT", "/bkt/hot", "PreconditionFailed", "If-None-Match", body=b"y", if_none_match="*")
        self.refused(
            "PUT", "/bkt/hot", "NotImplemented", "if-modified-since", body=b"y", if_modified_since="now"
        )
        self.refused("DELETE", "/bkt/hot", "PreconditionFailed", "If-Match", if_match='"abc"')

    def test_parts(self) -> None:
        """Which part, and what is wrong with it."""
        upload = text_of(self.rig.ask("POST", "/bkt/up?uploads").body, "UploadId")
        etags = [
            self.rig.ask("PUT", f"/bkt/up?partNumber={number}&uploadId={upload}", b"12345").headers["etag"]
            for number in (1, 2)
        ]

        def completion(*parts: tuple[int, str]) -> bytes:
            listed = "".join(
                f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in parts
            )
            return f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()

        target = f"/bkt/up?uploadId={upload}"
        for code, words, parts in (
            ("EntityTooSmall", ("Part 1 ", "5 bytes", 5 * 1024**2), [(1, etags[0]), (2, etags[1])]),
            ("InvalidPart", ("part 7 ", "not been uploaded"), [(7, etags[0])]),
            ("InvalidPart", ("part 1 ", "'abc'", etags[0].strip('"')), [(1, "abc")]),
            ("InvalidPartOrder", ("part 1 ", "after part 2"), [(2, etags[1]), (1, etags[0])]),
            ("MalformedXML", ("0 parts", 10000), []),
        ):
            self.refused("POST", target, code, *words, body=completion(*parts))
        self.refused("POST", target, "MalformedXML", "empty", "CompleteMultipartUpload")

    def test_requests(self) -> None:
        """What of the request line or the header it was."""
        self.assert_told(self.send("GET", "/bkt/%zz", {"host": "h"}), "InvalidURI", "%")
        self.assert_told(self.send("GET", "/bkt/%ff", {"host": "h"}), "InvalidURI", "UTF-8")
        self.refused("GET", "/bkt?max-keys=many", "InvalidArgument", "'many'", "max-keys")
        self.refused("GET", "/bkt?encoding-type=xml", "InvalidArgument", "'xml'", "url")
        self.refused("PUT", "/bkt/k?versionId=1", "InvalidArgument", "PutObject", "version-id")
        self.refused("PUT", "/bkt?versioning", "MissingRequestBodyError", "VersioningConfiguration")
        self.refused(
            "PUT",
            "/bkt/k",
            "NotImplemented",
            "x-amz-server-side-encryption",
            "aws:kms",
            x_amz_server_side_encryption="aws:kms",
        )

    def test_tags(self) -> None:
        """Which key or value."""
        for tags, word in (("a%3Fb=1", "'a?b'"), ("aws:x=1", "'aws:x'"), ("a=b%3F", "'b?' of 'a'")):
            self.refused("PUT", "/bkt/k", "InvalidTag", word, body=b"x", x_amz_tagging=tags)
        self.refused("PUT", "/bkt/none", "NoSuchKey", "If-Match", body=b"x", if_match='"abc"')

    def test_customer_keys(self) -> None:
        """How they are sent."""
        name = "x_amz_server_side_encryption_customer_algorithm"
        self.refused("PUT", "/bkt/k", "InvalidRequest", "https", body=b"x", **{name: "AES256"})
        self.rig = Rig(sse_c_over_http=True)
        self.rig.put("/bkt")
        self.refused(
            "PUT", "/bkt/k", "InvalidEncryptionAlgorithmError", "'DES'", "AES256", body=b"x", **{name: "DES"}
        )


class ShownTests(SynchronousTestCase):
    """Values in messages."""

    def test_quoted(self) -> None:
        """In quotes, on one line, whatever they hold."""
        self.assertEqual(shown("a b"), "'a b'")
        self.assertEqual(shown("a\r\nb\0\ud800"), r"'a\r\nb\x00\ud800'")
        self.assertEqual(shown("schön".encode()), "'schön'")
        self.assertEqual(shown(b"\xff"), r"'\\xff'")

    def test_bounded(self) -> None:
        """Long ones are cut, and it is said that they are longer."""
        self.assertEqual(shown("x" * SHOWN_MAX), "'" + "x" * SHOWN_MAX + "'")
        self.assertEqual(shown("x" * (SHOWN_MAX + 1)), "'" + "x" * SHOWN_MAX + "'...")
