"""Signatures: the published vectors, and every way in which one can be wrong."""

import hashlib
from urllib.parse import quote

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.keys import Signer
from coldstore.s3.api import BUILT, Target
from coldstore.s3.auth import Authenticator, query_fields
from coldstore.s3.errors import S3Error
from coldstore.s3.fields import HeaderFields
from coldstore.s3.paths import address_of
from coldstore.s3.payload import PayloadKind
from coldstore.s3.signed_request import Authentication, SignedRequest
from coldstore.s3.signing import (
    SIGNATURE_V2_SUBRESOURCES,
    Scope,
    SigningKeys,
    canonical_request,
    signature,
    signature_v2,
    signing_key,
    string_to_sign,
    string_to_sign_v2,
)
from tests.unit.s3_wire import ACCESS_KEY, HOST, NOW, SECRET_KEY, look_up, signed_headers, timestamp_of

EMPTY = hashlib.sha256(b"").hexdigest()


class AuthTests(SynchronousTestCase):
    """An authenticator that knows AKIDEXAMPLE, at 2026-01-02T03:04:05Z."""

    def setUp(self) -> None:
        """Set the clock."""
        self.now = NOW
        self.authenticator = Authenticator(look_up=look_up, seconds=lambda: self.now, region="eu-tape-1")

    def outcome(self, method: str, target: str, headers: dict[str, str]) -> Deferred[Authentication]:
        """Have a request verified."""
        address = address_of(target.encode(), headers.get("host"), ())
        fields = [(name.encode(), value.encode()) for name, value in headers.items()]
        request = SignedRequest(
            method=method,
            address=address,
            headers=HeaderFields(fields, query_fields(address.query)),
            body_length_bytes=0,
        )
        return Deferred.fromCoroutine(self.authenticator.authenticate(request))

    def test_unprintable_key(self) -> None:
        """No store is asked for a key that none has: PostgreSQL takes no NUL."""
        asked: list[str] = []

        def ask(access_key: str) -> Deferred[Signer | None]:
            asked.append(access_key)
            return look_up(access_key)

        self.authenticator = Authenticator(look_up=ask, seconds=lambda: self.now, region="eu-tape-1")
        target = f"/b/k?AWSAccessKeyId=A%00B&Signature=x&Expires={int(NOW) + 10}"
        self.assertEqual(self.refusal("GET", target, {"host": HOST}).code, "InvalidAccessKeyId")
        self.assertEqual(asked, [])

    def authenticated(self, method: str, target: str, headers: dict[str, str]) -> Authentication:
        """Verify a request that is right."""
        return self.successResultOf(self.outcome(method, target, headers))

    def refusal(self, method: str, target: str, headers: dict[str, str]) -> S3Error:
        """Return why a request is refused."""
        error = self.failureResultOf(self.outcome(method, target, headers), S3Error).value
        assert isinstance(error, S3Error)
        return error


def header_auth(names: str, given: str, region: str = "us-east-1") -> str:
    """Return an Authorization header of the vectors."""
    return (
        f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20260102/{region}/s3/aws4_request, "
        f"SignedHeaders={names}, Signature={given}"
    )


class HeaderVectorTests(AuthTests):
    """Known answers for Version 4 in the Authorization header."""

    def get(self) -> dict[str, str]:
        """Return the headers of the GET vector."""
        return {
            "host": HOST,
            "range": "bytes=0-9",
            "x-amz-content-sha256": EMPTY,
            "x-amz-date": "20260102T030405Z",
            "authorization": header_auth(
                "host;range;x-amz-content-sha256;x-amz-date",
                "88fc238343cfdedf5e8ad7f9053e3e915ed61b401b24039a7c2a9f7c85e15b37",
            ),
        }

    def test_awkward_path(self) -> None:
        """A path with escapes of space, plus and non-ASCII is signed decoded and encoded once."""
        found = self.authenticated("GET", "/photos/a%20b%2Bc/%C3%A9~.txt", self.get())
        self.assertEqual(found.user.name, "alice")
        self.assertFalse(found.is_presigned)
        self.assertEqual(found.payload.kind, PayloadKind.PLAIN)

    def test_restore(self) -> None:
        """A bare sub-resource is signed with an equals sign, and the body by its hash."""
        body = b"<RestoreRequest><Days>3</Days></RestoreRequest>"
        headers = {
            "host": HOST,
            "content-type": "application/xml",
            "x-amz-content-sha256": hashlib.sha256(body).hexdigest(),
            "x-amz-date": "20260102T030405Z",
            "authorization": header_auth(
                "content-type;host;x-amz-content-sha256;x-amz-date",
                "b534e5f8def71a5f1df7d28c587f35c0d86a24342e6a484df771684406792226",
            ),
        }
        self.authenticated("POST", "/photos/k?restore&versionId=v1", headers)
        self.authenticated("POST", "/photos/k?versionId=v1&restore=", headers)

    def test_separator_without_space(self) -> None:
        """The fields of the Authorization header may be separated by a comma alone."""
        headers = self.get()
        headers["authorization"] = headers["authorization"].replace(", ", ",")
        self.authenticated("GET", "/photos/a%20b%2Bc/%C3%A9~.txt", headers)

    def test_any_change_is_noticed(self) -> None:
        """Another method, path, query or signed header does not match, and the answer says what was signed."""
        target = "/photos/a%20b%2Bc/%C3%A9~.txt"
        for method, path, changed in (
            ("DELETE", target, {}),
            ("GET", target + "x", {}),
            ("GET", target.replace("%2Bc/", "%2Bc//"), {}),
            ("GET", target + "?acl", {}),
            ("GET", target, {"range": "bytes=0-8"}),
            ("GET", target, {"host": "127.0.0.1"}),
        ):
            error = self.refusal(method, path, {**self.get(), **changed})
            self.assertEqual(error.code, "SignatureDoesNotMatch", (method, path, changed))
            self.assertEqual(error.details["AWSAccessKeyId"], ACCESS_KEY)
            self.assertTrue(error.details["StringToSign"].startswith("AWS4-HMAC-SHA256\n20260102T030405Z\n"))
            self.assertIn(method, error.details["CanonicalRequest"])

    def test_skew(self) -> None:
        """A clock may differ by a quarter of an hour and not by more; the answer tells both times."""
        target = "/photos/a%20b%2Bc/%C3%A9~.txt"
        for difference in (-900, 900):
            self.now = NOW + difference
            self.authenticated("GET", target, self.get())
        for difference in (-901, 901):
            self.now = NOW + difference
            error = self.refusal("GET", target, self.get())
            self.assertEqual(error.code, "RequestTimeTooSkewed")
            self.assertEqual(error.details["RequestTime"], "2026-01-02T03:04:05Z")
            self.assertEqual(error.details["MaxAllowedSkewMilliseconds"], "900000")

    def test_date_header(self) -> None:
        """The Date header stands in for x-amz-date."""
        headers = signed_headers(
            "GET", "/b", {"date": "Fri, 02 Jan 2026 03:04:05 GMT"}, payload=EMPTY, unsigned=("x-amz-date",)
        )
        del headers["x-amz-date"]
        self.authenticated("GET", "/b", headers)


class HeaderRefusalTests(AuthTests):
    """What is wrong with an Authorization header has a name."""

    def test_anonymous(self) -> None:
        """A request without a signature is nobody's, and tells its length; chunks that a signer should have signed are refused."""
        found = self.successResultOf(self.outcome("GET", "/", {"host": HOST}))
        self.assertEqual((found.user, found.chain, found.is_presigned), (None, None, False))
        trailed = {
            "host": HOST,
            "x-amz-trailer": "x-amz-checksum-crc32",
            "x-amz-decoded-content-length": "5",
        }
        found = self.successResultOf(self.outcome("PUT", "/b/k", trailed))
        self.assertEqual(
            (found.payload.kind, found.payload.length_bytes), (PayloadKind.UNSIGNED_CHUNKS_TRAILER, 5)
        )
        signed = trailed | {"x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}
        self.assertEqual(self.refusal("PUT", "/b/k", signed).code, "InvalidRequest")

    def test_unknown_key(self) -> None:
        """An access key that nobody has is named."""
        error = self.refusal("GET", "/", signed_headers("GET", "/", {}, payload=EMPTY, access_key="AKNOBODY"))
        self.assertEqual((error.code, error.details), ("InvalidAccessKeyId", {"AWSAccessKeyId": "AKNOBODY"}))

    def test_region(self) -> None:
        """The own region and us-east-1 are accepted; another one is answered with the right one."""
        for region in ("eu-tape-1", "us-east-1"):
            self.authenticated("GET", "/", signed_headers("GET", "/", {}, payload=EMPTY, region=region))
        error = self.refusal("GET", "/", signed_headers("GET", "/", {}, payload=EMPTY, region="mars-1"))
        self.assertEqual((error.code, error.status), ("AuthorizationHeaderMalformed", 400))
        self.assertEqual(error.details["Region"], "eu-tape-1")

    def test_headers_not_signed(self) -> None:
        """An x-amz header, or the host, that the signature leaves out is refused by name."""
        headers = signed_headers("GET", "/", {}, payload=EMPTY) | {"x-amz-storage-class": "GLACIER"}
        error = self.refusal("GET", "/", headers)
        self.assertEqual(
            (error.code, error.details["HeadersNotSigned"]), ("AccessDenied", "x-amz-storage-class")
        )
        error = self.refusal("GET", "/", signed_headers("GET", "/", {}, payload=EMPTY, unsigned=("host",)))
        self.assertEqual(error.details["HeadersNotSigned"], "host")

    def test_malformed(self) -> None:
        """Missing fields, foreign scopes and dates that do not agree are malformed headers."""
        good = signed_headers("GET", "/", {}, payload=EMPTY)
        for old, new in (
            ("Credential=", "Kredential="),
            ("Signature=", "Sig="),
            ("/s3/", "/ec2/"),
            ("aws4_request", "aws5_request"),
            ("20260102/", "20260103/"),
            ("20260102/", "2026010/"),
            (f"{ACCESS_KEY}/", ""),
        ):
            headers = good | {"authorization": good["authorization"].replace(old, new)}
            self.assertEqual(
                self.refusal("GET", "/", headers).code, "AuthorizationHeaderMalformed", (old, new)
            )

    def test_said_twice(self) -> None:
        """A field of the header that is given twice, and a second header, are refused: readers choose differently."""
        headers = signed_headers("GET", "/b/k", {}, payload=EMPTY)
        twice = headers["authorization"] + ",Signature=0"
        for fields in (
            {**headers, "authorization": twice},
            {**headers, "Authorization": headers["authorization"]},
        ):
            self.assertEqual(self.refusal("GET", "/b/k", fields).code, "AuthorizationHeaderMalformed")

    def test_no_date(self) -> None:
        """Without a readable date nothing is accepted."""
        for date in (
            "",
            "yesterday",
            "20261302T030405Z",
            "19500707T212200Z",
            "Tue, 07 Jul 1950 21:22:00 GMT",
        ):
            headers = signed_headers("GET", "/", {}, payload=EMPTY) | {"x-amz-date": date}
            self.assertEqual(self.refusal("GET", "/", headers).code, "AccessDenied")

    def test_other_schemes(self) -> None:
        """A broken Version 2 header, Version 4A and unknown schemes each have their answer."""
        for value, code in (
            ("AWS HAHAHA", "InvalidArgument"),
            ("AWS AKIDEXAMPLE:", "InvalidArgument"),
            ("AWS4-ECDSA-P256-SHA256 Credential=x", "NotImplemented"),
            ("Basic YTpi", "InvalidArgument"),
        ):
            self.assertEqual(self.refusal("GET", "/", {"host": HOST, "authorization": value}).code, code)

    def test_payload_hash(self) -> None:
        """The payload hash must be there and make sense."""
        headers = signed_headers("GET", "/", {}, payload=EMPTY)
        del headers["x-amz-content-sha256"]
        self.assertEqual(self.refusal("GET", "/", headers).code, "InvalidRequest")
        for value, code in (
            ("nonsense", "InvalidArgument"),
            ("plain", "InvalidArgument"),
            ("z" * 64, "InvalidArgument"),
            ("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "NotImplemented"),
            ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "MissingContentLength"),
        ):
            error = self.refusal("GET", "/", signed_headers("GET", "/", {}, payload=value))
            self.assertEqual(error.code, code, value)

    def test_session_token(self) -> None:
        """Temporary credentials are not known here."""
        headers = signed_headers("GET", "/", {"x-amz-security-token": "t"}, payload=EMPTY)
        self.assertEqual(self.refusal("GET", "/", headers).code, "InvalidToken")

    def test_two_mechanisms(self) -> None:
        """A request is signed in one way."""
        headers = signed_headers("GET", "/b?X-Amz-Signature=x", {}, payload=EMPTY)
        self.assertEqual(self.refusal("GET", "/b?X-Amz-Signature=x", headers).code, "InvalidArgument")


def presigned(
    method: str,
    path: str,
    extra: dict[str, str],
    *,
    expires: str = "3600",
    headers: dict[str, str] | None = None,
) -> str:
    """Return a presigned Version 4 target."""
    timestamp = timestamp_of(NOW)
    scope = Scope(date=timestamp[:8], region="us-east-1", service="s3")
    signed = {"host": HOST, **(headers or {})}
    query = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{ACCESS_KEY}/{scope}",
        "X-Amz-Date": timestamp,
        "X-Amz-Expires": expires,
        "X-Amz-SignedHeaders": ";".join(sorted(signed)),
        **extra,
    }
    target = path + "?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
    address = address_of(target.encode(), HOST, ())
    canonical = canonical_request(
        method=method,
        decoded_path=address.decoded_path,
        query=address.query,
        headers=HeaderFields((name.encode(), value.encode()) for name, value in signed.items()),
        signed_headers=sorted(signed),
        payload="UNSIGNED-PAYLOAD",
    )
    text = string_to_sign(timestamp, scope, canonical)
    return f"{target}&X-Amz-Signature={signature(signing_key(SECRET_KEY, scope), text)}"


class PresignedTests(AuthTests):
    """Version 4 in the query."""

    def test_vector(self) -> None:
        """A known URL is accepted and its payload counts as unsigned."""
        target = (
            "/photos/a%20b?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20260102%2Fus-east-1%2Fs3%2F"
            "aws4_request&X-Amz-Date=20260102T030405Z&X-Amz-Expires=3600&X-Amz-SignedHeaders=host"
            "&X-Amz-Signature=50936bb3ec0d808837bb227f2fb60d8d973ad838c03c93c29ed7d25aea1b09fb"
        )
        found = self.authenticated("GET", target, {"host": HOST})
        self.assertTrue(found.is_presigned)
        self.assertEqual(found.payload.kind, PayloadKind.UNSIGNED)
        self.assertEqual(self.refusal("PUT", target, {"host": HOST}).code, "SignatureDoesNotMatch")

    def test_life(self) -> None:
        """A URL lives for the seconds that it says, from its date on."""
        target = presigned("GET", "/b/k", {})
        self.now = NOW + 3600
        self.authenticated("GET", target, {"host": HOST})
        self.now = NOW + 3601
        error = self.refusal("GET", target, {"host": HOST})
        self.assertEqual(error.code, "AccessDenied")
        self.assertIn("Request has expired", error.message)
        self.assertEqual(error.details["X-Amz-Expires"], "3600")
        self.assertEqual(error.details["Expires"], "2026-01-02T04:04:05Z")
        self.now = NOW - 901
        self.assertIn("Request is not valid yet", self.refusal("GET", target, {"host": HOST}).message)

    def test_parameters(self) -> None:
        """Missing and impossible parameters are named as such."""
        for expires in ("0", "604801", "soon", "-1", "99999999999999"):
            error = self.refusal("GET", presigned("GET", "/b/k", {}, expires=expires), {"host": HOST})
            self.assertEqual(error.code, "AuthorizationQueryParametersError", expires)
        good = presigned("GET", "/b/k", {})
        for name in ("X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders"):
            error = self.refusal("GET", good.replace(name, "Y" + name), {"host": HOST})
            self.assertEqual(error.code, "AuthorizationQueryParametersError", name)
        self.assertEqual(
            self.refusal("GET", good.replace("us-east-1", "mars"), {"host": HOST}).details["Region"],
            "eu-tape-1",
        )

    def test_fields_in_query(self) -> None:
        """x-amz values of the query count as headers, and a real header of the same name wins."""
        target = presigned(
            "PUT", "/b/k", {"x-amz-storage-class": "GLACIER", "x-amz-checksum-crc32": "AAAAAA=="}
        )
        address = address_of(target.encode(), HOST, ())
        headers = HeaderFields([(b"host", HOST.encode())], query_fields(address.query))
        self.assertEqual(headers.get("x-amz-storage-class"), "GLACIER")
        self.assertTrue(headers.came_in_query("x-amz-checksum-crc32"))
        self.assertNotIn("x-amz-signature", headers)
        self.authenticated("PUT", target, {"host": HOST})
        real = HeaderFields([(b"x-amz-storage-class", b"STANDARD")], query_fields(address.query))
        self.assertEqual(real.get("x-amz-storage-class"), "STANDARD")

    def test_unsigned_header_beside(self) -> None:
        """A header that changes the request must be signed by the URL."""
        error = self.refusal("PUT", presigned("PUT", "/b/k", {}), {"host": HOST, "x-amz-meta-a": "1"})
        self.assertEqual(error.details["HeadersNotSigned"], "x-amz-meta-a")
        target = presigned("PUT", "/b/k", {}, headers={"x-amz-meta-a": "1"})
        self.authenticated("PUT", target, {"host": HOST, "x-amz-meta-a": "1"})

    def test_session_token(self) -> None:
        """A token in the URL is refused."""
        error = self.refusal("GET", presigned("GET", "/b/k", {"X-Amz-Security-Token": "t"}), {"host": HOST})
        self.assertEqual(error.code, "InvalidToken")

    def test_plain_requests_take_nothing_from_the_query(self) -> None:
        """Without a presigned signature the query holds no headers."""
        self.assertEqual(query_fields(address_of(b"/b/k?x-amz-acl=private", None, ()).query), [])


class VersionTwoTests(AuthTests):
    """Version 2 in the query, as boto3 and the older command line still make it."""

    def target(self, expires: int, path: str = "/photos/puppy%20x.jpg", more: str = "") -> str:
        """Return a signed target."""
        address = address_of((path + more).encode(), HOST, ())
        text = string_to_sign_v2(
            method="GET",
            headers=HeaderFields([], [("x-amz-request-payer", "requester")]),
            when=str(expires),
            raw_resource=address.raw_resource,
            query=address.query,
        )
        given = quote(signature_v2(SECRET_KEY, text), safe="")
        glue = "&" if more else "?"
        return (
            f"{path}{more}{glue}AWSAccessKeyId={ACCESS_KEY}&Expires={expires}&Signature={given}"
            "&x-amz-request-payer=requester"
        )

    def test_vector(self) -> None:
        """AWS's published example has its published signature."""
        text = string_to_sign_v2(
            method="GET",
            headers=HeaderFields([]),
            when="1175139620",
            raw_resource=b"/johnsmith/photos/puppy.jpg",
            query=address_of(b"/johnsmith/photos/puppy.jpg", None, ()).query,
        )
        self.assertEqual(text, b"GET\n\n\n1175139620\n/johnsmith/photos/puppy.jpg")
        secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
        self.assertEqual(signature_v2(secret, text), "NpgCjnDzrM+WFzoENXmpNDUsSn8=")

    def test_accepted(self) -> None:
        """A URL with fields and sub-resources in its query is accepted until it expires."""
        for more in ("", "?versionId=null", "?uploads", "?x-coldstore-default-class"):
            target = self.target(int(NOW) + 60, more=more)
            self.assertTrue(self.authenticated("GET", target, {"host": HOST}).is_presigned)
            self.assertEqual(self.refusal("PUT", target, {"host": HOST}).code, "SignatureDoesNotMatch")
        for name in ("analytics", "inventory", "metrics", "object-lock", "replication"):
            target = self.target(int(NOW) + 60, path="/b", more=f"?{name}")
            self.authenticated("GET", target, {"host": HOST})
            error = self.refusal("GET", target.replace(f"?{name}&", "?"), {"host": HOST})
            self.assertEqual(error.code, "SignatureDoesNotMatch", name)
        other = self.target(int(NOW) + 60) + "&x-coldstore-default-class"
        self.assertEqual(self.refusal("GET", other, {"host": HOST}).code, "SignatureDoesNotMatch")
        error = self.refusal("GET", self.target(int(NOW) - 1), {"host": HOST})
        self.assertEqual(error.code, "AccessDenied")
        self.assertIn("Request has expired", error.message)

    def test_what_is_not_covered(self) -> None:
        """Who has a URL does not make it ask for something else by what its signature does not cover."""
        for path, target in (("/b/k", Target.OBJECT), ("/b", Target.BUCKET)):
            for name in BUILT[target].subresources:
                error = self.refusal(
                    "GET", self.target(int(NOW) + 60, path=path) + f"&{name}", {"host": HOST}
                )
                if name in SIGNATURE_V2_SUBRESOURCES:
                    self.assertEqual(error.code, "SignatureDoesNotMatch", name)
                else:
                    self.assertEqual(error.code, "InvalidRequest", name)
                    self.assertIn(f"?{name} in a URL. Please use AWS4-HMAC-SHA256", error.message)

    def test_incomplete(self) -> None:
        """All three parameters are needed."""
        error = self.refusal("GET", f"/b/k?AWSAccessKeyId={ACCESS_KEY}&Expires=1", {"host": HOST})
        self.assertEqual(error.code, "AccessDenied")

    def test_switched_off(self) -> None:
        """The setting refuses such URLs and names what to use."""
        self.authenticator = Authenticator(
            look_up=look_up, seconds=lambda: self.now, region="eu-tape-1", accepts_version_2_urls=False
        )
        error = self.refusal("GET", self.target(int(NOW) + 60), {"host": HOST})
        self.assertEqual(error.code, "InvalidRequest")
        self.assertIn("AWS4-HMAC-SHA256", error.message)


class VersionTwoHeaderTests(AuthTests):
    """Version 2 in the Authorization header, as clients of before 2014 make it."""

    def signed(self, method: str, target: str, headers: dict[str, str]) -> dict[str, str]:
        """Return headers with a signature over them."""
        address = address_of(target.encode(), HOST, ())
        sent = {"host": HOST, **headers}
        text = string_to_sign_v2(
            method=method,
            headers=HeaderFields((name.encode(), value.encode()) for name, value in sent.items()),
            when="" if "x-amz-date" in sent else sent.get("date", ""),
            raw_resource=address.raw_resource,
            query=address.query,
        )
        return {**sent, "authorization": f"AWS {ACCESS_KEY}:{signature_v2(SECRET_KEY, text)}"}

    def test_vector(self) -> None:
        """AWS's published example of a header has its published signature."""
        text = string_to_sign_v2(
            method="PUT",
            headers=HeaderFields([(b"content-type", b"image/jpeg")]),
            when="Tue, 27 Mar 2007 21:15:45 +0000",
            raw_resource=b"/awsexamplebucket1/photos/puppy.jpg",
            query=address_of(b"/awsexamplebucket1/photos/puppy.jpg", None, ()).query,
        )
        secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
        self.assertEqual(signature_v2(secret, text), "iqRzw+ileNPu1fhspnRs8nOjjIA=")

    def test_accepted(self) -> None:
        """A request is accepted with either form of its date, and is not taken for another one."""
        for date in (
            {"date": "Fri, 02 Jan 2026 03:04:05 GMT"},
            {"x-amz-date": "Fri, 02 Jan 2026 03:04:05 GMT"},
        ):
            headers = self.signed("PUT", "/b/k?uploads", {**date, "x-amz-meta-a": "1"})
            self.assertFalse(self.authenticated("PUT", "/b/k?uploads", headers).is_presigned)
            self.assertEqual(self.refusal("PUT", "/b/k", headers).code, "SignatureDoesNotMatch")
            self.assertEqual(
                self.refusal("PUT", "/b/k?uploads", {**headers, "x-amz-meta-a": "2"}).code,
                "SignatureDoesNotMatch",
            )

    def test_slash_behind_a_bucket(self) -> None:
        """A bucket that is sent without a slash at its end may be signed with one, and nothing else may."""
        date = {"date": "Fri, 02 Jan 2026 03:04:05 GMT"}
        for signed, sent in (("/b", "/b"), ("/b/", "/b/"), ("/b/", "/b"), ("/b/?acl", "/b?acl")):
            self.authenticated("GET", sent, self.signed("GET", signed, date))
        for signed, sent in (
            ("/b/k/", "/b/k"),
            ("/b/k", "/b/k/"),
            ("//", "/"),
            ("/c/", "/b"),
            ("/b//", "/b/"),
        ):
            error = self.refusal("GET", sent, self.signed("GET", signed, date))
            self.assertEqual(error.code, "SignatureDoesNotMatch", (signed, sent))

    def test_time(self) -> None:
        """Without a date, or far from ours, nothing is accepted."""
        self.assertEqual(self.refusal("GET", "/b", self.signed("GET", "/b", {})).code, "AccessDenied")
        late = self.signed("GET", "/b", {"date": "Fri, 02 Jan 2026 04:04:05 GMT"})
        self.assertEqual(self.refusal("GET", "/b", late).code, "RequestTimeTooSkewed")
        now = "Fri, 02 Jan 2026 03:04:05 GMT"
        for own in ("", "Tue, 07 Jul 1950 21:22:00 GMT"):
            headers = self.signed("GET", "/b", {"date": now, "x-amz-date": own})
            self.assertEqual(self.refusal("GET", "/b", headers).code, "AccessDenied")

    def test_unknown_key(self) -> None:
        """A key that nobody has is told as such."""
        headers = {"host": HOST, "date": "Fri, 02 Jan 2026 03:04:05 GMT", "authorization": "AWS NOBODY:c2ln"}
        self.assertEqual(self.refusal("GET", "/b", headers).code, "InvalidAccessKeyId")

    def test_switched_off(self) -> None:
        """The setting refuses such headers and names what to use."""
        self.authenticator = Authenticator(
            look_up=look_up, seconds=lambda: self.now, region="eu-tape-1", accepts_version_2_headers=False
        )
        headers = self.signed("GET", "/b", {"date": "Fri, 02 Jan 2026 03:04:05 GMT"})
        error = self.refusal("GET", "/b", headers)
        self.assertEqual(error.code, "InvalidRequest")
        self.assertIn("AWS4-HMAC-SHA256", error.message)


class SigningKeyTests(SynchronousTestCase):
    """The memory of signing keys."""

    def test_bounded(self) -> None:
        """It never holds more than its limit, and forgets what was not used for longest."""
        keys = SigningKeys(limit=3)
        scopes = [Scope(date=f"2026010{day}", region="r", service="s3") for day in range(6)]
        for scope in scopes:
            self.assertEqual(keys.get("secret", scope), signing_key("secret", scope))
            keys.get("secret", scopes[0])
        self.assertEqual(len(keys), 3)

    def test_by_secret(self) -> None:
        """Another secret has another key."""
        scope = Scope(date="20260101", region="r", service="s3")
        keys = SigningKeys()
        self.assertNotEqual(keys.get("one", scope), keys.get("two", scope))
