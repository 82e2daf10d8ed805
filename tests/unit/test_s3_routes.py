"""Which operation a request means, what its path names, and what is refused by name."""

from twisted.trial.unittest import SynchronousTestCase

from coldstore.s3.api import Operation, Target
from coldstore.s3.errors import S3Error
from coldstore.s3.fields import HeaderFields, Query
from coldstore.s3.paths import Address, address_of
from coldstore.s3.routes import route


def routed(line: str, headers: dict[str, str] | None = None) -> Operation:
    """Route a request line."""
    method, _, target = line.partition(" ")
    address = address_of(target.encode(), "h", ())
    fields = HeaderFields((name.encode(), value.encode()) for name, value in (headers or {}).items())
    return route(method, address.target, address.query, fields)


OPERATIONS = {
    "GET /": Operation.LIST_BUCKETS,
    "GET /?x-id=ListBuckets": Operation.LIST_BUCKETS,
    "PUT /b": Operation.CREATE_BUCKET,
    "PUT /b/": Operation.CREATE_BUCKET,
    "HEAD /b": Operation.HEAD_BUCKET,
    "DELETE /b/": Operation.DELETE_BUCKET,
    "GET /b?location": Operation.GET_BUCKET_LOCATION,
    "GET /b/?location=": Operation.GET_BUCKET_LOCATION,
    "GET /b?versioning": Operation.GET_BUCKET_VERSIONING,
    "PUT /b?versioning": Operation.PUT_BUCKET_VERSIONING,
    "GET /b?versions&prefix=x": Operation.LIST_OBJECT_VERSIONS,
    "GET /b": Operation.LIST_OBJECTS,
    "GET /b?prefix=acl&delimiter=/&unknown=1": Operation.LIST_OBJECTS,
    "GET /b?list-type=1": Operation.LIST_OBJECTS,
    "GET /b?list-type=2&prefix=x": Operation.LIST_OBJECTS_V2,
    "POST /b": Operation.POST_OBJECT,
    "POST /b/": Operation.POST_OBJECT,
    "POST /b?delete": Operation.DELETE_OBJECTS,
    "POST /b/?delete=": Operation.DELETE_OBJECTS,
    "GET /b?uploads": Operation.LIST_MULTIPART_UPLOADS,
    "GET /b?x-coldstore-default-class": Operation.GET_DEFAULT_CLASS,
    "PUT /b?x-coldstore-default-class": Operation.PUT_DEFAULT_CLASS,
    "PUT /b/k": Operation.PUT_OBJECT,
    "PUT /b/k?x-id=PutObject": Operation.PUT_OBJECT,
    "GET /b/k?versionId=null": Operation.GET_OBJECT,
    "GET /b/k?partNumber=1": Operation.GET_OBJECT,
    "GET /b//": Operation.GET_OBJECT,
    "HEAD /b/k": Operation.HEAD_OBJECT,
    "DELETE /b/k": Operation.DELETE_OBJECT,
    "POST /b/k?uploads": Operation.CREATE_MULTIPART_UPLOAD,
    "POST /b/k?uploads=": Operation.CREATE_MULTIPART_UPLOAD,
    "PUT /b/k?partNumber=1&uploadId=u": Operation.UPLOAD_PART,
    "GET /b/k?uploadId=u": Operation.LIST_PARTS,
    "POST /b/k?uploadId=u": Operation.COMPLETE_MULTIPART_UPLOAD,
    "DELETE /b/k?uploadId=u": Operation.ABORT_MULTIPART_UPLOAD,
    "POST /b/k?restore": Operation.RESTORE_OBJECT,
    "POST /b/k?restore=&versionId=v": Operation.RESTORE_OBJECT,
    "GET /b?tagging": Operation.GET_BUCKET_TAGGING,
    "PUT /b?tagging": Operation.PUT_BUCKET_TAGGING,
    "DELETE /b?tagging": Operation.DELETE_BUCKET_TAGGING,
    "GET /b?lifecycle": Operation.GET_BUCKET_LIFECYCLE,
    "PUT /b/?lifecycle=": Operation.PUT_BUCKET_LIFECYCLE,
    "DELETE /b?lifecycle": Operation.DELETE_BUCKET_LIFECYCLE,
    "GET /b/k?tagging": Operation.GET_OBJECT_TAGGING,
    "PUT /b/k?tagging&versionId=v": Operation.PUT_OBJECT_TAGGING,
    "DELETE /b/k?tagging=": Operation.DELETE_OBJECT_TAGGING,
    "GET /b/k?attributes": Operation.GET_OBJECT_ATTRIBUTES,
    "GET /b?cors": Operation.GET_BUCKET_CORS,
    "PUT /b?cors=": Operation.PUT_BUCKET_CORS,
    "DELETE /b?cors": Operation.DELETE_BUCKET_CORS,
    "OPTIONS /b": Operation.OPTIONS_OBJECT,
    "OPTIONS /b/k": Operation.OPTIONS_OBJECT,
    "OPTIONS /b/k?partNumber=1&uploadId=u": Operation.OPTIONS_OBJECT,
    "OPTIONS /b/k?torrent": Operation.OPTIONS_OBJECT,
    "GET /b?policy": Operation.GET_BUCKET_POLICY,
    "GET /b/k?acl": Operation.GET_OBJECT_ACL,
    "PUT /b?acl": Operation.PUT_BUCKET_ACL,
    "GET /b?metrics": Operation.LIST_BUCKET_METRICS,
    "GET /b?metrics&id=1": Operation.GET_BUCKET_METRICS,
}


class RouteTests(SynchronousTestCase):
    """One operation for each request."""

    def refusal(self, line: str, headers: dict[str, str] | None = None) -> S3Error:
        """Return why a request has no operation."""
        with self.assertRaises(S3Error) as caught:
            routed(line, headers)
        return caught.exception

    def test_operations(self) -> None:
        """Each request line means its operation, with or without an equals sign or a slash after the bucket."""
        for line, operation in OPERATIONS.items():
            self.assertIs(routed(line), operation, line)

    def test_copies(self) -> None:
        """A source turns a write into a copy."""
        source = {"x-amz-copy-source": "/b/k"}
        self.assertIs(routed("PUT /b/k", source), Operation.COPY_OBJECT)
        self.assertIs(routed("PUT /b/k?partNumber=1&uploadId=u", source), Operation.UPLOAD_PART_COPY)
        self.assertIs(routed("GET /b/k", source), Operation.GET_OBJECT)

    def test_not_built(self) -> None:
        """What S3 has and ColdStore has not is refused by its name, never taken for something plain."""
        for line, name in (
            ("PUT /b?analytics&id=1", "PutBucketAnalyticsConfiguration"),
            ("GET /b/k?torrent", "GetObjectTorrent"),
            ("POST /b/k?select&select-type=2", "SelectObjectContent"),
            ("PUT /b/k?renameObject", "RenameObject"),
            ("PATCH /b/k", "PATCH"),
        ):
            error = self.refusal(line)
            self.assertEqual((error.status, error.code), (501, "NotImplemented"), line)
            self.assertIn(name, error.message)
            self.assertIn(name, error.resource or "")

    def test_wrong_methods(self) -> None:
        """A method that a target does not take is answered with those that it takes."""
        for line, allowed in (
            ("POST /", "GET"),
            ("DELETE /", "GET"),
            ("OPTIONS /", "GET"),
            ("GET /b?delete", "POST"),
            ("GET /b/k?restore", "POST"),
            ("POST /b/k", "DELETE, GET, HEAD, PUT"),
            ("HEAD /b/k?uploadId=u", "DELETE, GET, POST, PUT"),
            ("DELETE /b?x-coldstore-default-class", "GET, PUT"),
            ("POST /b/k?tagging", "DELETE, GET, PUT"),
            ("PUT /b/k?attributes", "GET"),
            ("POST /b?cors", "DELETE, GET, PUT"),
            ("PUT /b/k?torrent", "GET"),
        ):
            error = self.refusal(line)
            self.assertEqual(
                (error.status, error.code, error.headers["Allow"]), (405, "MethodNotAllowed", allowed)
            )
        error = self.refusal(f"{'X' * 9000} /b/k")
        self.assertEqual(error.code, "NotImplemented")
        self.assertLess(len(error.message), 500)

    def test_properties_that_are_not_built(self) -> None:
        """Headers that ask for encryption, locks or redirects are refused by name, on writes alone."""
        for name in (
            "x-amz-server-side-encryption-aws-kms-key-id",
            "x-amz-server-side-encryption-context",
            "x-amz-server-side-encryption-bucket-key-enabled",
            "x-amz-object-lock-event-hold",
            "x-amz-object-lock-event-hold-duration-days",
            "x-amz-website-redirect-location",
        ):
            for line in ("PUT /b/k", "POST /b/k?uploads"):
                error = self.refusal(line, {name: "x"})
                self.assertEqual((error.code, error.details), ("NotImplemented", {"Header": name}))
            routed("GET /b/k", {name: "x"})
        lock = {"x-amz-object-lock-mode": "GOVERNANCE"}
        for line in ("PUT /b/k", "POST /b/k?uploads", "POST /b"):
            routed(line, lock)
        for line in ("PUT /b", "PUT /b/k?partNumber=1&uploadId=u"):
            self.assertEqual(self.refusal(line, lock).code, "NotImplemented", line)
        bucket_lock = {"x-amz-bucket-object-lock-enabled": "true"}
        routed("PUT /b", bucket_lock)
        self.assertEqual(self.refusal("PUT /b/k", bucket_lock).code, "NotImplemented")

    def test_encryption_by_the_server(self) -> None:
        """Writers of whole objects may ask for AES256; what needs a key management service is refused by name, all else as AWS does."""
        name = "x-amz-server-side-encryption"
        takes = ("PUT /b/k", "POST /b/k?uploads", "POST /b")
        for line in takes:
            routed(line, {name: "AES256"})
            for value in ("aws:kms", "aws:kms:dsse"):
                error = self.refusal(line, {name: value})
                self.assertEqual((error.status, error.code), (501, "NotImplemented"))
                self.assertIn(value, error.message)
            for value in ("AES192", "aes256", "", "x"):
                error = self.refusal(line, {name: value})
                self.assertEqual((error.status, error.code), (400, "InvalidArgument"))
                self.assertIn("is not supported", error.message)
                self.assertEqual(error.details, {"ArgumentName": name, "ArgumentValue": value})
        routed("PUT /b/k", {name: "AES256", "x-amz-copy-source": "b/j"})
        for line in (
            "GET /b/k",
            "HEAD /b/k",
            "GET /b",
            "PUT /b",
            "PUT /b/k?uploadId=u&partNumber=1",
            "POST /b/k?uploadId=u",
            "DELETE /b/k",
        ):
            error = self.refusal(line, {name: "AES256"})
            self.assertEqual((error.status, error.code), (400, "InvalidArgument"))
            self.assertIn("not supported for this operation", error.message)
        error = self.refusal("PUT /b/k?uploadId=u&partNumber=1", {name: "AES256", "x-amz-copy-source": "b/j"})
        self.assertEqual(error.code, "InvalidArgument")

    def test_customer_keys(self) -> None:
        """Keys of customers are built; beside them no other encryption can be asked for."""
        name = "x-amz-server-side-encryption-customer-algorithm"
        for line in ("PUT /b/k", "POST /b/k?uploads", "GET /b/k"):
            routed(line, {name: "AES256", name.replace("algorithm", "key"): "x"})
        routed("PUT /b/k", {"x-amz-copy-source": "b/j", name.replace("amz-", "amz-copy-source-"): "AES256"})
        error = self.refusal("PUT /b/k", {name: "AES256", "x-amz-server-side-encryption": "AES256"})
        self.assertEqual(
            (error.code, error.details["ArgumentName"]), ("InvalidArgument", "x-amz-server-side-encryption")
        )

    def test_a_key_under_a_wrong_name(self) -> None:
        """Is not repeated: the answer may be kept where the key must not be."""
        for name in (
            "x-amz-server-side-encryption-customer-keys",
            "x-amz-server-side-encryption-customerkey",
            "x-amz-copy-source-server-side-encryption-key",
        ):
            error = self.refusal("PUT /b/k", {name: "c2VjcmV0"})
            self.assertEqual((error.code, error.details), ("NotImplemented", {"Header": name}))
            self.assertIn(name, error.message)
            self.assertNotIn("c2VjcmV0", error.message)


class AddressTests(SynchronousTestCase):
    """What a request target names."""

    def named(self, target: bytes, host: str = "h") -> tuple[Target, str | None, bytes | None]:
        """Return target, bucket and key."""
        address = address_of(target, host, ("tape.example", "s3.tape.example"))
        return address.target, address.bucket, address.key

    def refusal(self, target: bytes) -> str:
        """Return why a target names nothing."""
        with self.assertRaises(S3Error) as caught:
            address_of(target, "h", ())
        return caught.exception.code

    def test_path_style(self) -> None:
        """The first segment is the bucket, everything behind its slash the key, unchanged."""
        for target, bucket, key in (
            (b"/", None, None),
            (b"/b", "b", None),
            (b"/b/", "b", None),
            (b"/b/k", "b", b"k"),
            (b"/b//", "b", b"/"),
            (b"/b//k", "b", b"/k"),
            (b"/b/a//b/", "b", b"a//b/"),
            (b"/b/..", "b", b".."),
            (b"/b/a%2Fb+c%25", "b", b"a/b+c%"),
            (b"/b/%e2%82%ac", "b", b"\xe2\x82\xac"),
            (b"/b%2Fk", "b/k", None),
        ):
            expected = Target.SERVICE if bucket is None else Target.BUCKET if key is None else Target.OBJECT
            self.assertEqual(self.named(target), (expected, bucket, key), target)

    def test_virtual_host(self) -> None:
        """A host below a configured domain is a bucket; the domain itself and others are not."""
        self.assertEqual(self.named(b"/k", "b.tape.example:9000"), (Target.OBJECT, "b", b"k"))
        self.assertEqual(self.named(b"/", "B.c.Tape.Example"), (Target.BUCKET, "b.c", None))
        self.assertEqual(self.named(b"/k", "b.s3.tape.example"), (Target.OBJECT, "b", b"k"))
        for host in (
            "tape.example",
            "s3.tape.example:80",
            "other.example",
            "127.0.0.1:80",
            "[::1]:80",
            "xtape.example",
        ):
            self.assertEqual(self.named(b"/b/k", host), (Target.OBJECT, "b", b"k"), host)

    def test_absolute_form(self) -> None:
        """The form that proxies receive is understood, and its authority is the host."""
        self.assertEqual(self.named(b"http://x:80/b/k?acl"), (Target.OBJECT, "b", b"k"))
        self.assertEqual(self.named(b"HTTP://x"), (Target.SERVICE, None, None))
        self.assertEqual(self.named(b"http://b.tape.example/k", "other"), (Target.OBJECT, "b", b"k"))

    def test_signed_paths(self) -> None:
        """What signatures cover is kept beside."""
        address: Address = address_of(b"/a%20b/%C3%A9?x=1", "b.tape.example", ("tape.example",))
        self.assertEqual(address.decoded_path, "/a b/é".encode())
        self.assertEqual(address.raw_resource, b"/b/a%20b/%C3%A9")
        self.assertEqual(list(address.query), [("x", "1")])

    def test_refused(self) -> None:
        """Broken escapes, bytes that are not UTF-8, empty buckets and long keys are refused."""
        for target in (
            b"/b/%",
            b"/b/%4",
            b"/b/%zz",
            b"/b/%+1",
            b"/b/%ff",
            b"/%ff",
            b"/b?x=%ff",
            b"/b?%zz",
            b"//k",
            b"*",
            b"b/k",
        ):
            self.assertEqual(self.refusal(target), "InvalidURI", target)
        address_of(b"/b/" + b"%61" * 1024, "h", ())
        self.assertEqual(self.refusal(b"/b/" + b"a" * 1025), "KeyTooLongError")


class FieldsTests(SynchronousTestCase):
    """Names and values."""

    def test_query(self) -> None:
        """Order is kept, escapes are decoded once, a plus is a space, a bare name is empty."""
        query = Query.parse(b"b=1&a&b=2&c=%2B+%253D&&d=x=y")
        self.assertEqual(list(query), [("b", "1"), ("a", ""), ("b", "2"), ("c", "+ %3D"), ("d", "x=y")])
        self.assertEqual((query.one("b"), query.one("a"), query.one("z")), ("1", "", None))
        self.assertIn("a", query)
        self.assertNotIn("z", query)

    def test_headers(self) -> None:
        """Names have no case, repeated lines are joined, values are UTF-8 or refused."""
        headers = HeaderFields([(b"X-Amz-Meta-A", b"1"), (b"x-amz-meta-a", "é".encode()), (b"bad", b"\xff")])
        self.assertEqual(headers.get("x-amz-meta-a"), "1,é")
        self.assertEqual(headers.raw("x-amz-meta-a"), [b"1", "é".encode()])
        with self.assertRaises(S3Error) as caught:
            headers.get("bad")
        self.assertEqual(caught.exception.code, "InvalidArgument")

    def test_user_metadata(self) -> None:
        """User metadata are sorted, without their prefix, and limited to 2 KB together."""
        fields = [(b"x-amz-meta-b", b"2"), (b"x-amz-meta-a", b"1"), (b"x-amz-acl", b"private")]
        self.assertEqual(HeaderFields(fields).user_metadata(), (("a", "1"), ("b", "2")))
        HeaderFields([(b"x-amz-meta-a", b"x" * 2047)]).user_metadata()
        with self.assertRaises(S3Error) as caught:
            HeaderFields([(b"x-amz-meta-a", b"x" * 2048)]).user_metadata()
        self.assertEqual(caught.exception.code, "MetadataTooLarge")
