"""Bad input: a clear S3 error with the right code, and nothing changed, on the disk either."""

import hashlib
import socket
import zlib
from base64 import b64encode
from collections.abc import Mapping

from coldstore.s3.tokens import token_of
from tests.endtoend.appliance import ApplianceCase, listing, wait_until
from tests.endtoend.clients import refused
from tests.endtoend.wire import RawAnswer, RawClient, encoded

KIB, MIB = 1024, 1024**2
UNSIGNED = "UNSIGNED-PAYLOAD"
TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

AWKWARD_KEYS = (
    *(bytes([code]) for code in range(1, 32)),
    b"\x7f",
    "\u0085\u2028\ufffe\U0001f9ca".encode(),
    b"%",
    b"%2F",
    b"%00",
    b"a%20b",
    b"+",
    b"a+b c",
    b" ",
    b"  leading and trailing  ",
    b"//",
    b"/",
    b"/leading",
    b"trailing/",
    b"a//b",
    b"a///b/",
    b".",
    b"..",
    b"./a",
    b"../../etc/passwd",
    b"a/../b",
    b"a/./b",
    b"back\\slash",
    b"quote\"'`<>&;|*?$(){}[]!#~^=:,@",
    b"~null-1",
    b"new\nline\r\ttab",
    "汉字/漢字/かな".encode(),
    "e\u0301 \u00e9".encode(),
    ("漢" * 341 + "a").encode(),
    b"x" * 1024,
    b"y/" * 512,
)


class BadInputCase(ApplianceCase):
    """A bucket with one object, and what it and the disk hold."""

    def setUp(self) -> None:
        """Have them."""
        super().setUp()
        self.name = self.bucket()
        self.s3.put_object(Bucket=self.name, Key="kept", Body=b"kept")
        self.before = listing(self.s3, self.name)
        self.used = self.appliance.settled_bytes()
        self.raw = RawClient(self.appliance.port, self.appliance.users["first"])

    def assert_unchanged(self) -> None:
        """Check that the bucket and the disk hold what they held."""
        self.assert_nothing_new(self.name, self.before, self.used)
        self.assertEqual(self.s3.get_object(Bucket=self.name, Key="kept")["Body"].read(), b"kept")

    def assert_refused(self, answer: RawAnswer, status: int, code: str, what: object = "") -> None:
        """Check an answer, and that it is a whole document of S3."""
        self.assertEqual((answer.status, answer.code), (status, code), f"{what}: {answer.body!r}")
        self.assertTrue(answer.element("Message"), what)
        self.assertEqual(answer.element("RequestId"), answer.headers["x-amz-request-id"], what)
        self.assertEqual(answer.headers["content-type"], "application/xml", what)

    def put(self, body: bytes, headers: Mapping[str, str] | None = None, **options: object) -> RawAnswer:
        """PUT over the object that is there."""
        return self.raw.ask("PUT", f"/{self.name}/kept", body, headers, **options)  # type: ignore[arg-type]


class BodyTests(BadInputCase):
    """Bodies that are not what their headers say."""

    def test_truncated(self) -> None:
        """A body that breaks off is not kept, whether the client waits for an answer or goes."""
        for size in (1000, 3 * MIB):
            body = b"x" * size
            answer = self.put(body, sends=body[: size // 2], closes_early=True)
            self.assertIn((answer.status, answer.code), ((0, ""), (400, "IncompleteBody")))
        self.assert_unchanged()

    def test_vanished(self) -> None:
        """Clients that vanish in the middle of many uploads leave nothing behind."""
        for number in range(8):
            with socket.create_connection(("127.0.0.1", self.appliance.port), timeout=10) as connection:
                size = 2 * MIB
                head = self.head_of(f"/{self.name}/gone{number}", size)
                connection.sendall(head + b"x" * (MIB + number))
        self.assert_unchanged()

    def head_of(self, target: str, length: int) -> bytes:
        """Return the signed header section of an upload."""
        seen: list[bytes] = []
        spy = RawClient(self.appliance.port, self.appliance.users["first"])
        spy.exchange = lambda message, **_: seen.append(message) or RawAnswer(0, {}, b"")  # type: ignore[func-returns-value,method-assign,assignment]
        spy.ask("PUT", target, length=length, payload=UNSIGNED)
        return seen[0]

    def test_wrong_digests(self) -> None:
        """Every kind of digest: wrong is refused as a mismatch, malformed as invalid, unknown as unknown."""
        for size in (10, 300 * KIB):
            body = b"x" * size
            self.assert_refused(
                self.put(body, {"content-md5": b64encode(bytes(16)).decode()}), 400, "BadDigest"
            )
            for wrong in ("AAAA", "!!!", ""):
                self.assert_refused(self.put(body, {"content-md5": wrong}), 400, "InvalidDigest", wrong)
            self.assert_refused(
                self.put(body, payload=hashlib.sha256(b"other").hexdigest()), 400, "XAmzContentSHA256Mismatch"
            )
            for name, length in (("crc32", 4), ("crc32c", 4), ("crc64nvme", 8), ("sha1", 20), ("sha256", 32)):
                header = f"x-amz-checksum-{name}"
                wrong = b64encode(b"\1" * length).decode()
                self.assert_refused(self.put(body, {header: wrong}), 400, "BadDigest", name)
                self.assert_refused(self.put(body, {header: "AAAAA"}), 400, "InvalidRequest", name)
            right = b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
            two = {"x-amz-checksum-crc32": right, "x-amz-checksum-sha1": b64encode(bytes(20)).decode()}
            self.assert_refused(self.put(body, two), 400, "InvalidRequest")
            self.assert_refused(self.put(body, {"x-amz-checksum-rot13": "AAAA"}), 400, "InvalidRequest")
        self.assert_unchanged()

    def test_chunks(self) -> None:
        """Chunked uploads whose framing, length or trailer is wrong."""
        body = b"x" * 20_000
        right = b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
        wrong = b64encode(bytes(4)).decode()

        def chunked(
            stream: bytes, *, decoded: int = len(body), trailer: str = "x-amz-checksum-crc32"
        ) -> RawAnswer:
            headers = {
                "content-encoding": "aws-chunked",
                "x-amz-decoded-content-length": str(decoded),
                "x-amz-trailer": trailer,
            }
            return self.put(stream, headers, payload=TRAILER)

        whole = b"%x\r\n%s\r\n0\r\n" % (len(body), body)
        for stream, code in (
            (whole + f"x-amz-checksum-crc32:{wrong}\r\n\r\n".encode(), "BadDigest"),
            (whole + b"\r\n", "MalformedTrailerError"),
            (whole + f"x-amz-checksum-sha1:{right}\r\n\r\n".encode(), "MalformedTrailerError"),
            (b"zz\r\n" + body + b"\r\n0\r\n\r\n", "IncompleteBody"),
            (b"%x\r\n%s" % (len(body), body[:-1]), "IncompleteBody"),
            (b"", "IncompleteBody"),
        ):
            answer = chunked(stream)
            self.assertEqual(answer.status, 400, stream[-80:])
            self.assertIn(answer.code, (code, "IncompleteBody", "InvalidRequest"), stream[-80:])
        trailer = f"x-amz-checksum-crc32:{right}\r\n\r\n".encode()
        for decoded in (len(body) - 1, len(body) + 1):
            self.assert_refused(chunked(whole + trailer, decoded=decoded), 400, "IncompleteBody")
        self.assert_refused(chunked(whole + trailer, trailer="x-amz-meta-a"), 400, "InvalidRequest")
        self.assert_unchanged()

    def test_lengths(self) -> None:
        """No length, an impossible one, one over the limit of a PUT, two of them."""
        self.assert_refused(self.put(b"", length=-1, sends=b""), 411, "MissingContentLength")
        self.assert_refused(self.put(b"", length=6 * 1024**3, payload=UNSIGNED), 400, "EntityTooLarge")
        for length in ("-1", "1e3", "0x10", "9" * 40, "5, 5"):
            answer = self.put(b"", unsigned_headers={"content-length": length})
            self.assert_refused(answer, 400, "InvalidRequest", length)
        answer = self.put(b"hello", unsigned_headers={"transfer-encoding": "chunked"})
        self.assertEqual(answer.status, 400)
        self.assert_unchanged()

    def test_full_disk(self) -> None:
        """What does not fit on the disk is refused with SlowDown before it is sent."""
        answer = self.put(b"", length=4 * 1024**3, payload=UNSIGNED)
        self.assert_refused(answer, 503, "SlowDown")
        self.assertTrue(answer.headers.get("retry-after"))
        self.assert_unchanged()


class KeyTests(BadInputCase):
    """Keys with every awkward byte."""

    def test_awkward_keys(self) -> None:
        """Every legal key is a key of its own: PUT, GET, listed exactly, deleted."""
        for key in AWKWARD_KEYS:
            answer = self.raw.ask("PUT", f"/{self.name}/{encoded(key, safe='/~')}", b"<" + key + b">")
            self.assertEqual(answer.status, 200, (key, answer.body))
        for key in AWKWARD_KEYS:
            answer = self.raw.ask("GET", f"/{self.name}/{encoded(key)}")
            self.assertEqual((answer.status, answer.body), (200, b"<" + key + b">"), key)
            text = key.decode()
            if text.strip("/.") == text:
                self.assertEqual(
                    self.s3.get_object(Bucket=self.name, Key=text)["Body"].read(), b"<" + key + b">"
                )
        pages = self.s3.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, PaginationConfig={"PageSize": 7}
        )
        listed = [entry["Key"].encode() for page in pages for entry in page["Contents"]]
        self.assertEqual(listed, sorted([*AWKWARD_KEYS, b"kept"]))
        for key in AWKWARD_KEYS:
            self.assertEqual(self.raw.ask("DELETE", f"/{self.name}/{encoded(key)}").status, 204, key)
        self.assert_unchanged()

    def test_awkward_keys_on_tape(self) -> None:
        """Every legal key goes to tape and comes back."""
        for key in AWKWARD_KEYS:
            target = f"/{self.name}/{encoded(key)}"
            self.raw.ask("PUT", target, b"<" + key + b">", {"x-amz-storage-class": "GLACIER"})
        self.appliance.archive(*((self.name, key.decode()) for key in AWKWARD_KEYS), seconds=90)
        request = b"<RestoreRequest><Days>9</Days></RestoreRequest>"
        for key in AWKWARD_KEYS:
            answer = self.raw.ask("POST", f"/{self.name}/{encoded(key)}?restore", request)
            self.assertEqual(answer.status, 202, (key, answer.body))
        wait_until(
            "all is restored", lambda: self.appliance.ask("/status")["ongoing_restores"] == 0, seconds=90
        )
        for key in AWKWARD_KEYS:
            answer = self.raw.ask("GET", f"/{self.name}/{encoded(key)}")
            self.assertEqual((answer.status, answer.body), (200, b"<" + key + b">"), key)

    def test_impossible_keys(self) -> None:
        """1,025 bytes, bytes that are no UTF-8, escapes that are none."""
        for target, code in (
            (b"/%s/%s" % (self.name.encode(), b"x" * 1025), "KeyTooLongError"),
            (f"/{self.name}/{encoded('漢' * 342)}".encode(), "KeyTooLongError"),
            (b"/%s/%%ff" % self.name.encode(), "InvalidURI"),
            (b"/%s/%%c3%%28" % self.name.encode(), "InvalidURI"),
            (b"/%s/%%ed%%a0%%80" % self.name.encode(), "InvalidURI"),
            (b"/%s/%%zz" % self.name.encode(), "InvalidURI"),
            (b"/%s/%%" % self.name.encode(), "InvalidURI"),
            (b"/%s/\xff\xfe" % self.name.encode(), "BadRequest"),
            (b"//key", "InvalidURI"),
        ):
            for method, body in (("PUT", b"x"), ("GET", b""), ("DELETE", b"")):
                answer = self.raw.ask(method, target, body)
                self.assert_refused(answer, 400, code, (method, target))
        self.assert_unchanged()

    def test_characters_of_no_name(self) -> None:
        """A NUL, which not every database can be asked for, and others that no id or bucket's name has: nothing is found under such names."""
        name, some = self.name, b"x"
        tags = b"<Tagging><TagSet/></Tagging>"
        forged = token_of(b"\xff"), token_of(b"a\0b")
        for method, target, body, headers, code in (
            *((method, "/a%00b", b"", {}, "NoSuchBucket") for method in ("GET", "DELETE")),
            *((method, "/a%00b/k", some, {}, "NoSuchBucket") for method in ("GET", "PUT", "DELETE")),
            ("PUT", f"/{name}/new", b"", {"x-amz-copy-source": "/a%00b/k"}, "InvalidArgument"),
            (
                "PUT",
                f"/{name}/new",
                b"",
                {"x-amz-copy-source": f"/{name}/kept?versionId=%00"},
                "InvalidArgument",
            ),
            *(
                (method, f"/{name}/new?uploadId=a%00b", some, {}, "NoSuchUpload")
                for method in ("GET", "DELETE")
            ),
            ("PUT", f"/{name}/new?uploadId=a%00b&partNumber=1", some, {}, "NoSuchUpload"),
            ("GET", f"/{name}?uploads&key-marker=a&upload-id-marker=%00", b"", {}, "InvalidArgument"),
            ("GET", f"/{name}?versions&key-marker=a&version-id-marker=%00", b"", {}, "InvalidArgument"),
            *(
                (method, f"/{name}/kept?versionId=%00", b"", {}, "InvalidArgument")
                for method in ("GET", "DELETE")
            ),
            ("PUT", f"/{name}/kept?tagging&versionId=%00", tags, {}, "InvalidArgument"),
            ("GET", "/?continuation-token=AAAA", b"", {}, "InvalidArgument"),
            ("GET", f"/?continuation-token={forged[0]}", b"", {}, "InvalidArgument"),
            *(("GET", f"/{name}?list-type=2&continuation-token={token}", b"", {}, "") for token in forged),
        ):
            answer = self.raw.ask(method, target, body, headers)
            what = (method, target, headers, answer.body)
            if code:
                self.assert_refused(answer, answer.status, code, what)
            self.assertLess(answer.status, 500, what)
        document = b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>a</ETag></Part></CompleteMultipartUpload>"
        answer = self.raw.ask("POST", f"/{name}/new?uploadId=a%00b", document)
        self.assert_refused(answer, 404, "NoSuchUpload")
        self.assertEqual(self.raw.ask("GET", "/?prefix=a%00b").status, 200)
        self.assert_unchanged()

    def test_bucket_names(self) -> None:
        """Names that S3 does not allow."""
        for name in (
            "a",
            "ab",
            "A-Bucket",
            "-abc",
            "abc-",
            "a..b",
            "192.168.5.4",
            "x" * 64,
            "a_b",
            "a b",
            "ü-ü",
            "xn--abc",
        ):
            answer = self.raw.ask("PUT", f"/{encoded(name)}")
            self.assert_refused(answer, 400, "InvalidBucketName", name)
        self.assert_unchanged()


class HeaderTests(BadInputCase):
    """Headers, metadata, sub-resources, ranges."""

    def test_large_headers(self) -> None:
        """Metadata over 2 KB, header sections over 8 KB and over what is read at all, endless lines."""
        metadata = {"x-amz-meta-a": "v" * 2048}
        self.assert_refused(self.put(b"x", metadata), 400, "MetadataTooLarge")
        answer = self.put(b"x", {f"x-other-{number}": "v" * 1000 for number in range(10)})
        self.assertEqual((answer.status, answer.code), (400, "RequestHeaderSectionTooLarge"))
        answer = self.put(b"x", {"x-other": "v" * 60_000})
        self.assertEqual((answer.status, answer.code), (400, "RequestHeaderSectionTooLarge"))
        answer = self.put(b"x", {f"x-other-{number}": "v" for number in range(2000)})
        self.assertEqual(answer.status, 400)
        answer = self.raw.ask("GET", f"/{self.name}/kept?{'x' * 100_000}")
        self.assertEqual((answer.status, answer.code), (400, "RequestHeaderSectionTooLarge"))
        answer = self.raw.exchange(b"GET /" + b"x" * 200_000, closes_early=True)
        self.assertIn(answer.status, (0, 400))
        self.assert_unchanged()

    def test_not_http(self) -> None:
        """What is not HTTP gets an answer or a close, never a traceback."""
        for message in (
            b"\r\n\r\n",
            b"GET\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            b"GET / HTTP/1.1\r\nX: a\0b\r\n\r\n",
            b"PUT /b/k HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
            b"PUT /b/k HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\nhello",
            bytes(range(256)) * 40,
        ):
            answer = self.raw.exchange(message, closes_early=True)
            self.assertIn(answer.status, (0, 400, 403), message[:60])
        self.assert_unchanged()

    def test_storage_classes(self) -> None:
        """A class that is none, or that is not offered here."""
        for name in ("LUKEWARM", "glacier", "OUTPOSTS", "EXPRESS_ONEZONE", " "):
            self.assert_refused(
                self.put(b"x", {"x-amz-storage-class": name}), 400, "InvalidStorageClass", name
            )
            answer = self.raw.ask("POST", f"/{self.name}/new?uploads", b"", {"x-amz-storage-class": name})
            self.assert_refused(answer, 400, "InvalidStorageClass", name)
        self.assert_unchanged()

    def test_unbuilt(self) -> None:
        """What S3 has and ColdStore has not is refused by name, never done halfway."""
        document = b"<X/>"
        for method, target in (
            ("PUT", "?replication"),
            ("PUT", "?website"),
            ("PUT", "?inventory&id=1"),
            ("PUT", "?accelerate"),
            ("PUT", "/kept?renameObject"),
            ("GET", "/kept?torrent"),
            ("POST", "/kept?select&select-type=2"),
        ):
            answer = self.raw.ask(
                method, f"/{self.name}{target}", document if method in ("PUT", "POST") else b""
            )
            self.assert_refused(answer, 501, "NotImplemented", (method, target))
        for name, value in (
            ("x-amz-server-side-encryption", "aws:kms"),
            ("x-amz-object-lock-event-hold", "ON"),
            ("x-amz-website-redirect-location", "/x"),
        ):
            self.assert_refused(self.put(b"x", {name: value}), 501, "NotImplemented", name)
        queue = b"<NotificationConfiguration><QueueConfiguration/></NotificationConfiguration>"
        answer = self.raw.ask("PUT", f"/{self.name}?notification", queue)
        self.assert_refused(answer, 501, "NotImplemented")
        answer = self.put(b"x", {"x-amz-acl": "public-read"})
        self.assert_refused(answer, 400, "AccessControlListNotSupported")
        for method in ("PATCH", "PROPFIND", "TRACE"):
            answer = self.raw.ask(method, f"/{self.name}/kept")
            self.assertIn(
                (answer.status, answer.code), ((405, "MethodNotAllowed"), (501, "NotImplemented")), method
            )
        self.assert_unchanged()

    def test_tags(self) -> None:
        """Documents and headers that are none, tags that cannot be, and attributes that there are not."""
        tag = "<Tag><Key>{}</Key><Value>{}</Value></Tag>"
        for target in ("", "/kept"):
            for tags, code in (
                (tag.format("a", "b") * 2, "InvalidTag"),
                (tag.format("", "b"), "InvalidTag"),
                (tag.format("a", "b" * 257), "InvalidTag"),
                ("".join(tag.format(number, "") for number in range(51)), "InvalidTag"),
                ("<Tag><Key>a</Key></Tag>", "MalformedXML"),
                ("<Tag>", "MalformedXML"),
            ):
                document = f"<Tagging><TagSet>{tags}</TagSet></Tagging>".encode()
                digest = {
                    "Content-MD5": b64encode(hashlib.md5(document, usedforsecurity=False).digest()).decode()
                }
                answer = self.raw.ask("PUT", f"/{self.name}{target}?tagging", document, digest)
                self.assert_refused(answer, 400, code, (target, tags))
            answer = self.raw.ask("PUT", f"/{self.name}{target}?tagging", b"<Tagging><TagSet/></Tagging>")
            self.assert_refused(answer, 400, "InvalidRequest", target)
        for value, code in (("a=1&a=2", "InvalidTag"), ("a=%", "InvalidArgument"), ("aws:a=1", "InvalidTag")):
            self.assert_refused(self.put(b"x", {"x-amz-tagging": value}), 400, code, value)
        for value, code in (("", "InvalidRequest"), ("Colour", "InvalidArgument")):
            answer = self.raw.ask(
                "GET", f"/{self.name}/kept?attributes", b"", {"x-amz-object-attributes": value}
            )
            self.assert_refused(answer, 400, code, value)
        self.assert_unchanged()

    def test_ranges(self) -> None:
        """Ranges that cannot be satisfied, of an empty object as well, and part numbers that are none."""
        self.s3.put_object(Bucket=self.name, Key="empty", Body=b"")
        self.before = listing(self.s3, self.name)
        for key, asked in (
            ("kept", "bytes=4-"),
            ("kept", "bytes=9-10"),
            ("empty", "bytes=0-0"),
            ("empty", "bytes=-1"),
        ):
            answer = self.raw.ask("GET", f"/{self.name}/{key}", headers={"range": asked})
            self.assert_refused(answer, 416, "InvalidRange", asked)
        for number, status in (("0", 400), ("-1", 400), ("x", 400), ("10001", 400), ("2", 416)):
            answer = self.raw.ask("GET", f"/{self.name}/kept?partNumber={number}")
            self.assertEqual(answer.status, status, (number, answer.body))
        answer = self.raw.ask("GET", f"/{self.name}/kept?partNumber=1", headers={"range": "bytes=0-1"})
        self.assert_refused(answer, 400, "InvalidRequest")
        self.assert_unchanged()

    def test_list_arguments(self) -> None:
        """Arguments of listings that are none."""
        for query in (
            "max-keys=-1",
            "max-keys=x",
            "list-type=2&continuation-token=x",
            "encoding-type=base64",
            "max-keys=99999999999999999999",
        ):
            answer = self.raw.ask("GET", f"/{self.name}?{query}")
            if query.endswith("999"):
                self.assertIn(answer.status, (200, 400), query)
            else:
                self.assert_refused(answer, 400, "InvalidArgument", query)
        self.assert_unchanged()


class DocumentTests(BadInputCase):
    """XML that is none, or not what is wanted."""

    def test_documents(self) -> None:
        """Entities, wrong roots, endless and deep documents, other encodings: refused quickly, nothing deleted."""
        lol = b"".join(b'<!ENTITY l%d "%s">' % (n, b"&l%d;" % (n - 1) * 10) for n in range(1, 10))
        bomb = (
            b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY l0 "kept">'
            + lol
            + b"]><Delete><Object><Key>&l9;</Key></Object></Delete>"
        )
        outside = b'<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><Delete><Object><Key>&f;</Key></Object></Delete>'
        item = b"<Object><Key>kept</Key></Object>"
        for document in (
            b"",
            b"not XML",
            b"<Delete>",
            b"<Delete></Delete>",
            b"<Other>" + item + b"</Other>",
            b"<Delete>" + item,
            b"<Delete><Object></Object></Delete>",
            b"<Delete>" + item + b"</Delete><more/>",
            bomb,
            outside,
            b"<Delete>" + b"<a>" * 5000 + b"</a>" * 5000 + b"</Delete>",
            b"<Delete>" + item * 1001 + b"</Delete>",
            b'<?xml version="1.0" encoding="klingon"?><Delete>' + item + b"</Delete>",
            b"<Delete>" + item + b"\xff</Delete>",
            b"<Delete>" + item + b"&#0;</Delete>",
        ):
            digest = {"content-md5": b64encode(hashlib.md5(document).digest()).decode()}
            answer = self.raw.ask("POST", f"/{self.name}?delete", document, digest)
            self.assertEqual(answer.status, 400, document[:80])
            self.assertIn(answer.code, ("MalformedXML", "MissingRequestBodyError"), document[:80])
        huge = b"<Delete>" + b"<!-- -->" * 600_000 + b"</Delete>"
        digest = {"content-md5": b64encode(hashlib.md5(huge).digest()).decode()}
        answer = self.raw.ask("POST", f"/{self.name}?delete", huge, digest)
        self.assertIn(
            (answer.status, answer.code), ((400, "MalformedXML"), (400, "MaxMessageLengthExceeded"))
        )
        whole = b"<Delete>" + item + b"</Delete>"
        answer = self.raw.ask("POST", f"/{self.name}?delete", whole)
        self.assert_refused(answer, 400, "InvalidRequest", "no digest")
        answer = self.raw.ask(
            "POST", f"/{self.name}?delete", whole, {"content-md5": b64encode(bytes(16)).decode()}
        )
        self.assert_refused(answer, 400, "BadDigest")
        self.assert_unchanged()

    def test_completions(self) -> None:
        """Completions that are no documents, name no parts or bad ones, or an upload that nobody began."""
        upload = self.s3.create_multipart_upload(Bucket=self.name, Key="new")["UploadId"]
        etag = self.s3.upload_part(Bucket=self.name, Key="new", UploadId=upload, PartNumber=1, Body=b"x")[
            "ETag"
        ]
        target = f"/{self.name}/new?uploadId={encoded(upload)}"

        def part(number: str, tag: str) -> str:
            return f"<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"

        for inside, code in (
            ("", "MalformedXML"),
            ("<Part></Part>", "MalformedXML"),
            (part("x", etag), "MalformedXML"),
            (part("0", etag), None),
            (part("10001", etag), None),
            (part("1", etag) * 2, "InvalidPartOrder"),
            (part("2", etag), "InvalidPart"),
            (part("1", "nonsense"), "InvalidPart"),
        ):
            document = f"<CompleteMultipartUpload>{inside}</CompleteMultipartUpload>".encode()
            answer = self.raw.ask("POST", target, document)
            self.assertEqual(answer.status, 400, (inside, answer.body))
            self.assertIn(
                answer.code, (code,) if code else ("InvalidArgument", "InvalidPart", "MalformedXML")
            )
        good = f"<CompleteMultipartUpload>{part('1', etag)}</CompleteMultipartUpload>".encode()
        for other in (
            "nonsense",
            "",
            "../../x",
            "x" * 2000,
            upload[:-1] + ("A" if upload[-1] != "A" else "B"),
        ):
            answer = self.raw.ask("POST", f"/{self.name}/new?uploadId={encoded(other)}", good)
            self.assert_refused(answer, 404, "NoSuchUpload", other)
        self.assert_refused(
            self.raw.ask("POST", f"/{self.name}/other?uploadId={encoded(upload)}", good), 404, "NoSuchUpload"
        )
        for number in ("0", "10001", "-1", "x", ""):
            answer = self.raw.ask("PUT", f"{target}&partNumber={number}", b"x")
            self.assert_refused(answer, 400, "InvalidArgument", number)
        self.s3.abort_multipart_upload(Bucket=self.name, Key="new", UploadId=upload)
        self.assert_refused(self.raw.ask("POST", target, good), 404, "NoSuchUpload")
        self.assert_unchanged()

    def test_bucket_documents(self) -> None:
        """CreateBucket with a document that is none, or of another region."""
        for document, code in (
            (b"nonsense", "MalformedXML"),
            (
                b"<CreateBucketConfiguration><LocationConstraint>mars</LocationConstraint></CreateBucketConfiguration>",
                None,
            ),
        ):
            answer = self.raw.ask("PUT", "/a-new-bucket", document)
            self.assertEqual(answer.status, 400, answer.body)
            self.assertIn(
                answer.code,
                (code,) if code else ("InvalidLocationConstraint", "IllegalLocationConstraintException"),
            )
        self.assertEqual(refused(self.s3.head_bucket, Bucket="a-new-bucket"), (404, "404"))
        self.assert_unchanged()
