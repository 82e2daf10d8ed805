"""Uploads by forms, over the wire: signatures of both versions, policies, answers, and nothing left behind by a refusal."""

import json
from base64 import b64encode
from hashlib import md5

from twisted.trial.unittest import SynchronousTestCase

from coldstore.s3.posting import redirected
from coldstore.s3.signing import Scope, signature, signature_v2, signing_key
from tests.unit.s3_rig import Rig, text_of
from tests.unit.s3_wire import ACCESS_KEY, HOST, NOW, SECRET_KEY, ParsedAnswer, message, timestamp_of

BOUNDARY = "----formBoundary7MA4"
CONTENT = b"the bytes\r\n--of a file\r\n"
TAGGING = "<Tagging><TagSet><Tag><Key>{}</Key><Value>1</Value></Tag></TagSet></Tagging>"


def form(fields: dict[str, str], content: bytes = CONTENT, *, file_name: str = "cat.jpg") -> bytes:
    """Return a form's body, the file last."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{file_name}"\r\n'
    parts.append(head.encode() + b"Content-Type: text/plain\r\n\r\n" + content + b"\r\n")
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def policy(*conditions: object, expiration: str = "2026-01-02T04:00:00Z", bucket: str = "pics") -> str:
    """Return the field of a policy for a bucket."""
    document = {"expiration": expiration, "conditions": [{"bucket": bucket}, *conditions]}
    return b64encode(json.dumps(document).encode()).decode()


def signed(text: str) -> dict[str, str]:
    """Return a policy's field and those of its Version 4 signature."""
    timestamp = timestamp_of(NOW)
    scope = Scope(date=timestamp[:8], region="us-east-1", service="s3")
    return {
        "policy": text,
        "x-amz-algorithm": "AWS4-HMAC-SHA256",
        "x-amz-credential": f"{ACCESS_KEY}/{scope}",
        "x-amz-date": timestamp,
        "x-amz-signature": signature(signing_key(SECRET_KEY, scope), text),
    }


SIGNING = (
    ["starts-with", "$x-amz-algorithm", ""],
    ["starts-with", "$x-amz-credential", ""],
    ["starts-with", "$x-amz-date", ""],
)
ANY_KEY = ["starts-with", "$key", ""]


class PostObjectTests(SynchronousTestCase):
    """One endpoint with the bucket ``pics``."""

    def setUp(self) -> None:
        """Make the bucket."""
        self.rig = Rig()
        self.assertEqual(self.rig.ask("PUT", "/pics").status, 200)

    def post(self, body: bytes, *, target: str = "/pics", content_type: str | None = None) -> ParsedAnswer:
        """Send a form."""
        wire = self.rig.wire()
        headers = {
            "host": HOST,
            "content-type": content_type or f"multipart/form-data; boundary={BOUNDARY}",
            "content-length": str(len(body)),
        }
        wire.send(message("POST", target, headers, body))
        return wire.answer()

    def upload(self, *conditions: object, content: bytes = CONTENT, **fields: str) -> ParsedAnswer:
        """Send a signed form whose policy has these conditions beside those of its signature."""
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        return self.post(form({**named, **signed(policy(ANY_KEY, *SIGNING, *conditions))}, content=content))

    def check_nothing_kept(self) -> None:
        """See that a refusal left neither object nor bytes."""
        self.assertEqual(self.rig.ask("GET", "/pics").body.count(b"<Key>"), 0)
        self.assertEqual(self.rig.piece_count, 0)

    def test_lock(self) -> None:
        """A form says how its object is locked, as header fields of a PUT do."""
        fields = {
            "key": "k",
            "x_amz_object_lock_mode": "COMPLIANCE",
            "x_amz_object_lock_retain_until_date": "2026-03-01T00:00:00Z",
        }
        conditions = [["starts-with", f"${name.replace('_', '-')}", ""] for name in fields if name != "key"]
        answer = self.upload(*conditions, **fields)
        self.assertEqual((answer.status, answer.code), (400, "InvalidRequest"))
        self.check_nothing_kept()
        self.rig.put(
            "/pics?versioning", b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
        )
        document = b"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>"
        digest = b64encode(md5(document).digest()).decode()
        self.assertEqual(self.rig.put("/pics?object-lock", document, content_md5=digest).status, 200)
        answer = self.upload(*conditions, **{**fields, "x_amz_object_lock_mode": "none"})
        self.assertEqual((answer.status, answer.code), (400, "InvalidArgument"))
        self.check_nothing_kept()
        self.assertEqual(self.upload(*conditions, **fields).status, 204)
        headers = self.rig.ask("HEAD", "/pics/k").headers
        self.assertEqual(headers["x-amz-object-lock-retain-until-date"], "2026-03-01T00:00:00.000Z")

    def test_version_4(self) -> None:
        """A form signed by Version 4 makes the object that it describes."""
        answer = self.upload(
            {"x-amz-meta-who": "värd"},
            {"x-amz-storage-class": "GLACIER"},
            {"Content-Type": "image/jpeg"},
            {"acl": "private"},
            key="user/${filename}",
            x_amz_meta_who="värd",
            x_amz_storage_class="GLACIER",
            Content_Type="image/jpeg",
            acl="private",
        )
        self.assertEqual((answer.status, answer.body), (204, b""))
        self.assertEqual(answer.headers["location"], f"http://{HOST}/pics/user/cat.jpg")
        head = self.rig.ask("HEAD", "/pics/user/cat.jpg")
        self.assertEqual(head.headers["etag"], answer.headers["etag"])
        self.assertEqual(head.headers["content-type"], "image/jpeg")
        self.assertEqual(head.headers["x-amz-storage-class"], "GLACIER")
        self.assertEqual(head.headers["content-length"], str(len(CONTENT)))
        self.assertEqual(self.rig.version("pics", b"user/cat.jpg").facts.user_metadata, (("who", "värd"),))

    def test_versions_kept(self) -> None:
        """Where versions are kept every form is a version with an id of its own."""
        state = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
        self.assertEqual(self.rig.ask("PUT", "/pics?versioning", state).status, 200)
        ids = [self.upload(key="k", content=content).headers["x-amz-version-id"] for content in (b"1", b"2")]
        self.assertEqual(self.rig.ask("GET", f"/pics/k?versionId={ids[0]}").body, b"1")
        self.assertEqual(self.rig.ask("GET", "/pics/k").headers["x-amz-version-id"], ids[1])

    def test_tags(self) -> None:
        """A field has the document that PutObjectTagging takes."""
        self.assertEqual(
            self.upload(["starts-with", "$tagging", ""], key="k", tagging=TAGGING.format("ä")).status, 204
        )
        self.assertEqual(self.rig.ask("HEAD", "/pics/k").headers["x-amz-tagging-count"], "1")
        self.assertEqual(text_of(self.rig.ask("GET", "/pics/k?tagging").body, "Key"), "ä")

    def test_expiration(self) -> None:
        """The answer says when a lifecycle rule will have the object expire."""
        rules = (
            b"<LifecycleConfiguration><Rule><ID>short</ID><Prefix/><Status>Enabled</Status><Expiration><Days>1</Days></Expiration></Rule>"
            b"</LifecycleConfiguration>"
        )
        digest = b64encode(md5(rules, usedforsecurity=False).digest()).decode()
        self.assertEqual(self.rig.ask("PUT", "/pics?lifecycle", rules, {"content-md5": digest}).status, 200)
        told = self.upload(key="k").headers["x-amz-expiration"]
        self.assertEqual(told, 'expiry-date="Sun, 04 Jan 2026 00:00:00 GMT", rule-id="short"')
        self.assertEqual(self.rig.ask("HEAD", "/pics/k").headers["x-amz-expiration"], told)

    def test_version_2(self) -> None:
        """A form signed by Version 2, as boto3 makes it for an endpoint of its own, is taken as well."""
        text = policy(ANY_KEY)
        fields = {
            "key": "k",
            "policy": text,
            "AWSAccessKeyId": ACCESS_KEY,
            "signature": signature_v2(SECRET_KEY, text.encode()),
        }
        self.assertEqual(self.post(form(fields)).status, 204)
        self.assertEqual(self.rig.ask("GET", "/pics/k").body, CONTENT)
        self.assertEqual(self.post(form({**fields, "signature": "AAAA"})).code, "SignatureDoesNotMatch")
        self.assertEqual(self.post(form({**fields, "AWSAccessKeyId": "NOBODY"})).code, "InvalidAccessKeyId")

    def test_sizes(self) -> None:
        """Empty, small and large files arrive, at whatever length."""
        for content in (b"", b"x", b"y" * 70_000, b"z" * 700_001):
            self.assertEqual(self.upload(content=content, key="k").status, 204)
            self.assertEqual(self.rig.ask("GET", "/pics/k").body, content)

    def test_answers(self) -> None:
        """The status that is asked for, where it is one; 201 with a document; a redirect with what was stored."""
        starts = ["starts-with", "$success_action_status", ""]
        for asked, status in (("200", 200), ("204", 204), ("404", 204), ("nonsense", 204)):
            answer = self.post(
                form(
                    {
                        "key": "k",
                        "success_action_status": asked,
                        **signed(policy(ANY_KEY, starts, *SIGNING)),
                    }
                )
            )
            self.assertEqual((answer.status, answer.body), (status, b""))
        answer = self.post(
            form(
                {
                    "key": "a&b",
                    "success_action_status": "201",
                    **signed(policy(ANY_KEY, starts, *SIGNING)),
                }
            )
        )
        self.assertEqual(answer.status, 201)
        self.assertIn(b"<PostResponse>", answer.body)
        self.assertEqual(text_of(answer.body, "Key"), "a&amp;b")
        self.assertEqual(text_of(answer.body, "Bucket"), "pics")
        self.assertEqual(text_of(answer.body, "Location"), f"http://{HOST}/pics/a%26b")
        self.assertEqual(text_of(answer.body, "ETag"), answer.headers["etag"].replace('"', "&quot;"))
        redirect = ["starts-with", "$success_action_redirect", ""]
        answer = self.post(
            form(
                {
                    "key": "a&b",
                    "success_action_redirect": "http://example.org/done?x=1",
                    **signed(policy(ANY_KEY, redirect, *SIGNING)),
                }
            )
        )
        etag = answer.headers["etag"].strip('"')
        self.assertEqual(answer.status, 303)
        self.assertEqual(
            answer.headers["location"],
            f"http://example.org/done?x=1&bucket=pics&key=a%26b&etag=%22{etag}%22",
        )

    def test_redirects(self) -> None:
        """Only addresses of the web are redirected to."""
        for address in (
            None,
            "",
            "javascript:alert(1)",
            "/here",
            "http://",
            "http://a b",
            "http://[",
            "ftp://x/",
        ):
            self.assertIsNone(redirected(address, "b", "k", '"e"'), address)

    def test_signature(self) -> None:
        """Anonymous and incomplete forms, and wrong signatures, are refused, each by name."""
        good = {"key": "k", **signed(policy(ANY_KEY, *SIGNING))}
        for change, code in (
            ({"policy": ""}, "InvalidPolicyDocument"),
            ({"x-amz-signature": "0" * 64}, "SignatureDoesNotMatch"),
            ({"x-amz-signature": ""}, "InvalidArgument"),
            ({"x-amz-algorithm": "AWS4-X"}, "AuthorizationQueryParametersError"),
            ({"x-amz-date": "yesterday"}, "AuthorizationQueryParametersError"),
            ({"x-amz-date": "20250102T030405Z"}, "AuthorizationQueryParametersError"),
            ({"x-amz-credential": "nonsense"}, "AuthorizationQueryParametersError"),
            ({"x-amz-security-token": "t"}, "InvalidToken"),
        ):
            fields = {**good, **change}
            if change == {"policy": ""}:
                fields |= signed("")
            self.assertEqual(self.post(form(fields)).code, code, change)
        anonymous = self.post(form({"key": "k"}))
        self.assertEqual((anonymous.status, anonymous.code), (403, "AccessDenied"))
        self.check_nothing_kept()

    def test_policy(self) -> None:
        """What the policy does not allow is refused before the file, or as soon as the file is too long."""
        for conditions, fields, code in (
            ([{"x-amz-meta-a": "1"}], {}, "AccessDenied"),
            ([], {"x_amz_meta_a": "1"}, "AccessDenied"),
            ([["content-length-range", 0, len(CONTENT) - 1]], {}, "EntityTooLarge"),
            ([["content-length-range", len(CONTENT) + 1, 10**6]], {}, "EntityTooSmall"),
            ([["content-length-range", 0]], {}, "InvalidPolicyDocument"),
            ([["starts-with", "$tagging", ""]], {"tagging": "<Tagging/>"}, "MalformedXML"),
            ([["starts-with", "$tagging", ""]], {"tagging": TAGGING.format("!")}, "InvalidTag"),
            ([{"x-amz-storage-class": "ICE"}], {"x_amz_storage_class": "ICE"}, "InvalidStorageClass"),
            ([{"acl": "public-read"}], {"acl": "public-read"}, "AccessControlListNotSupported"),
        ):
            self.assertEqual(self.upload(*conditions, key="k", **fields).code, code, (conditions, fields))
        late = form({"key": "k", **signed(policy(ANY_KEY, *SIGNING, expiration="2026-01-02T03:00:00Z"))})
        self.assertEqual(self.post(late).code, "AccessDenied")
        self.check_nothing_kept()

    def test_key(self) -> None:
        """A key must be there and not be too long."""
        self.assertEqual(self.upload(key="").code, "InvalidArgument")
        self.assertEqual(self.post(form(signed(policy(*SIGNING)))).code, "InvalidArgument")
        self.assertEqual(self.upload(key="k" * 1025).code, "KeyTooLongError")

    def test_file_name(self) -> None:
        """Of a path that a client sends only what follows its last slash is put into a key."""
        for path, name in (("a/b.txt", "b.txt"), ("..\\\\c.txt", "c.txt"), ("C:\\\\d\\\\e.txt", "e.txt")):
            fields = {"key": "u/${filename}", **signed(policy(ANY_KEY, *SIGNING))}
            answer = self.post(form(fields, file_name=path))
            self.assertEqual(answer.headers["location"], f"http://{HOST}/pics/u/{name}", path)

    def test_unsendable_policy(self) -> None:
        """What a policy says that no answer can repeat is refused like all other nonsense."""
        for document in ({"expiration": "\ud800", "conditions": []}, {"\udc00": 1}):
            text = b64encode(json.dumps(document).encode()).decode()
            answer = self.post(form({"key": "k", **signed(text)}))
            self.assertEqual((answer.status, answer.code), (400, "InvalidPolicyDocument"))

    def test_checksum(self) -> None:
        """A checksum in the form must be that of the file."""
        starts = ["starts-with", "$x-amz-checksum-crc32", ""]
        self.assertEqual(self.upload(starts, key="k", x_amz_checksum_crc32="AAAAAA==").code, "BadDigest")
        self.check_nothing_kept()

    def test_other_bodies(self) -> None:
        """A signed POST of something else is told what it should be; an unsigned one is refused."""
        answer = self.rig.ask(
            "POST", "/pics", b"key=k", {"content-type": "application/x-www-form-urlencoded"}
        )
        self.assertEqual((answer.status, answer.code), (412, "PreconditionFailed"))
        self.assertIn(b"multipart/form-data", answer.body)
        answer = self.post(b"key=k", content_type="application/x-www-form-urlencoded")
        self.assertEqual(answer.code, "AccessDenied")

    def test_unknown_query(self) -> None:
        """What S3 does not know in a query is ignored; a signature there, or what names a sub-resource, makes it no form."""
        fields = form({"key": "k", **signed(policy(ANY_KEY, *SIGNING))})
        for query in ("x-id=PostObject", "", "utm_source=mail&x"):
            self.assertEqual(self.post(fields, target=f"/pics?{query}").status, 204, query)
        for query in ("acl", "x-id=1&uploads", "Signature=x", "X-Amz-Signature=x", "X-Amz-Algorithm=x"):
            self.assertIn(self.post(fields, target=f"/pics?{query}").status, (400, 403), query)

    def test_other_targets(self) -> None:
        """A form counts only where it is sent to a bucket."""
        fields = form({"key": "k", **signed(policy(ANY_KEY, *SIGNING))})
        for target, status in (("/pics?delete", 403), ("/pics/k", 403), ("/", 405), ("/none", 404)):
            self.assertEqual(self.post(fields, target=target).status, status, target)
        gone = {"expiration": "2026-01-02T04:00:00Z", "conditions": [{"bucket": "gone"}, ANY_KEY, *SIGNING]}
        text = b64encode(json.dumps(gone).encode()).decode()
        answer = self.post(form({"key": "k", **signed(text)}), target="/gone")
        self.assertEqual(answer.code, "NoSuchBucket")

    def test_no_room(self) -> None:
        """A disk without room says so before the file is taken."""
        self.rig = Rig(capacity_bytes=1000)
        self.rig.ask("PUT", "/pics")
        answer = self.upload(content=b"x" * 5000, key="k")
        self.assertEqual((answer.status, answer.code), (503, "SlowDown"))
        # What the policy does not let in needs no room: a client that tried it again would never come through.
        for most_bytes in (0, 10):
            answer = self.upload(["content-length-range", 0, most_bytes], content=b"x" * 5000, key="k")
            self.assertEqual((answer.status, answer.code), (400, "EntityTooLarge"))
        self.check_nothing_kept()
