"""Pages of other origins: rules with boto3, and a browser that asks before it sends and hides what it may not show."""

import http.client
from collections.abc import Mapping
from urllib.parse import urlsplit

from tests.endtoend.appliance import ApplianceCase
from tests.endtoend.clients import refused

PAGE = "https://app.example.com"
SAFE_METHODS = frozenset({"GET", "HEAD", "POST"})
SAFE_FIELDS = frozenset({"accept", "accept-language", "content-language"})
"""Fetch Standard, "CORS-safelisted": what a page may send without being asked; ``content-type`` only of forms."""
SHOWN_FIELDS = frozenset(
    {
        "cache-control",
        "content-language",
        "content-length",
        "content-type",
        "expires",
        "last-modified",
        "pragma",
    }
)
"""What a page may read of any answer that it may read."""


class Blocked(Exception):
    """The browser does not let the page do it, or does not show it what came of it."""


class Browser:
    """Does what the Fetch Standard has a browser do for the scripts of a page."""

    def __init__(self, port: int, origin: str) -> None:
        self._port = port
        self._origin = origin

    def fetch(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """
        Return status, readable fields and body of an answer.

        :raise Blocked: as a page's ``fetch`` fails
        """
        parts = urlsplit(url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        own = {name.lower(): value for name, value in (headers or {}).items()}
        unsafe = sorted(set(own) - SAFE_FIELDS)
        if method not in SAFE_METHODS or unsafe:
            self._ask_first(method, target, unsafe)
        status, fields, content = self._send(method, target, {**own, "origin": self._origin}, body)
        self._check_origin(fields)
        exposed = {
            name.strip().lower() for name in fields.get("access-control-expose-headers", "").split(",")
        }
        shown = {name: value for name, value in fields.items() if name in SHOWN_FIELDS | exposed}
        return status, shown, content

    def _ask_first(self, method: str, target: str, unsafe: list[str]) -> None:
        asked = {"origin": self._origin, "access-control-request-method": method}
        if unsafe:
            asked["access-control-request-headers"] = ",".join(unsafe)
        status, fields, _ = self._send("OPTIONS", target, asked, None)
        if not 200 <= status < 300:
            raise Blocked(f"the preflight was answered {status}")
        self._check_origin(fields)
        methods = {name.strip() for name in fields.get("access-control-allow-methods", "").split(",")}
        allowed = {name.strip() for name in fields.get("access-control-allow-headers", "").split(",")}
        if method not in methods | SAFE_METHODS or not set(unsafe) <= allowed:
            raise Blocked(f"{method} with {unsafe} is not allowed by {methods} and {allowed}")

    def _check_origin(self, fields: Mapping[str, str]) -> None:
        if fields.get("access-control-allow-origin") not in ("*", self._origin):
            raise Blocked(f"no answer for {self._origin}")

    def _send(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request(method, target, body, dict(headers))
            answer = connection.getresponse()
            fields = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, fields, answer.read()
        finally:
            connection.close()


class CorsTests(ApplianceCase):
    """One bucket, and pages that may and may not."""

    def setUp(self) -> None:
        """Have a bucket with rules and an object."""
        super().setUp()
        self.name = self.bucket()
        self.here = {"Bucket": self.name, "Key": "k"}
        self.s3.put_object(**self.here, Body=b"bytes", Metadata={"a": "b"})
        self.rules = [
            {
                "ID": "app",
                "AllowedOrigins": [PAGE],
                "AllowedMethods": ["PUT", "GET", "DELETE"],
                "AllowedHeaders": ["x-amz-*", "content-type"],
                "ExposeHeaders": ["ETag", "x-amz-request-id"],
                "MaxAgeSeconds": 600,
            },
            {"AllowedOrigins": ["https://*.example.org"], "AllowedMethods": ["GET"]},
        ]
        self.s3.put_bucket_cors(Bucket=self.name, CORSConfiguration={"CORSRules": self.rules})
        self.page = Browser(self.appliance.port, PAGE)
        self.other = Browser(self.appliance.port, "https://other.test")

    def url(self, operation: str, **more: str) -> str:
        """Return a presigned URL of the object."""
        return str(self.s3.generate_presigned_url(operation, Params={**self.here, **more}))

    def test_rules(self) -> None:
        """Rules come back as they were, over a restart as well, until they are removed."""
        self.assertEqual(self.s3.get_bucket_cors(Bucket=self.name)["CORSRules"], self.rules)
        self.appliance.kill()
        self.appliance.start()
        self.assertEqual(self.s3.get_bucket_cors(Bucket=self.name)["CORSRules"], self.rules)
        wrong = {"CORSRules": [{"AllowedOrigins": ["*.*"], "AllowedMethods": ["GET"]}]}
        put = self.s3.put_bucket_cors
        self.assertEqual(refused(put, Bucket=self.name, CORSConfiguration=wrong), (400, "InvalidRequest"))
        self.assertEqual(self.s3.get_bucket_cors(Bucket=self.name)["CORSRules"], self.rules)
        self.s3.delete_bucket_cors(Bucket=self.name)
        self.assertEqual(refused(self.s3.get_bucket_cors, Bucket=self.name), (404, "NoSuchCORSConfiguration"))
        self.assertRaises(Blocked, self.page.fetch, "GET", self.url("get_object"))

    def test_page(self) -> None:
        """A page that may puts, gets and deletes with presigned URLs, and reads what is exposed, errors as well."""
        sent = {"content-type": "text/plain", "x-amz-meta-from": "page"}
        url = self.url("put_object", ContentType="text/plain", Metadata={"from": "page"})
        status, fields, _ = self.page.fetch("PUT", url, headers=sent, body=b"of a page")
        self.assertEqual(status, 200)
        self.assertEqual(fields["etag"], self.s3.head_object(**self.here)["ETag"])
        status, fields, content = self.page.fetch("GET", self.url("get_object"))
        self.assertEqual((status, content), (200, b"of a page"))
        self.assertNotIn("x-amz-meta-from", fields)
        status, _, content = self.page.fetch("DELETE", self.url("delete_object"))
        self.assertEqual((status, content), (204, b""))
        status, fields, content = self.page.fetch("GET", self.url("get_object"))
        self.assertEqual((status, b"NoSuchKey" in content), (404, True))
        self.assertIn("x-amz-request-id", fields)
        status, _, content = self.page.fetch("GET", f"/{self.name}/k")
        self.assertEqual((status, b"AccessDenied" in content), (403, True))

    def test_other_page(self) -> None:
        """Another page neither reads nor writes, whatever URL it has got hold of."""
        self.assertRaises(Blocked, self.other.fetch, "GET", self.url("get_object"))
        self.assertRaises(Blocked, self.other.fetch, "PUT", self.url("put_object"), body=b"x")
        reader = Browser(self.appliance.port, "https://docs.example.org")
        self.assertEqual(reader.fetch("GET", self.url("get_object"))[2], b"bytes")
        self.assertRaises(Blocked, reader.fetch, "DELETE", self.url("delete_object"))
        with self.assertRaises(Blocked):
            self.page.fetch("GET", self.url("get_object"), headers={"x-other": "1"})
        self.assertEqual(self.s3.get_object(**self.here)["Body"].read(), b"bytes")
