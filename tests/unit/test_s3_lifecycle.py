"""Operations on lifecycle configurations, and what answers say of the rules, over the wire."""

import hashlib
from base64 import b64encode

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.configurations import DOCUMENT_MAX_BYTES, ConfigurationKind
from coldstore.model.lifecycle import Expiration, Filter, Lifecycle, Rule
from coldstore.s3.errors import S3Error
from coldstore.s3.lifecycle import kept_text
from tests.unit.s3_rig import Rig, text_of, texts_of
from tests.unit.s3_wire import NOW, ParsedAnswer

MINIMUM = "x-amz-transition-default-minimum-object-size"
LOGS = "<Rule><ID>old logs</ID><Filter><Prefix>logs/</Prefix></Filter><Status>Enabled</Status>{}</Rule>"
EXPIRES = LOGS.format("<Expiration><Days>3</Days></Expiration>")
ABORTS = LOGS.format(
    "<AbortIncompleteMultipartUpload><DaysAfterInitiation>3</DaysAfterInitiation></AbortIncompleteMultipartUpload>"
)


def written(*rules: str) -> bytes:
    """Return a document."""
    return f"<LifecycleConfiguration>{''.join(rules)}</LifecycleConfiguration>".encode()


class LifecycleCase(SynchronousTestCase):
    """One endpoint with one bucket."""

    def setUp(self) -> None:
        """Make it."""
        self.rig = Rig()
        self.rig.ask("PUT", "/bkt")

    def configure(self, body: bytes, **headers: str) -> ParsedAnswer:
        """Put a configuration, with the digest that has to come along."""
        digest = b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.rig.ask("PUT", "/bkt?lifecycle", body, {"content-md5": digest, **named})


class OperationsTests(LifecycleCase):
    """Putting, getting and deleting."""

    def test_life(self) -> None:
        """None; set; replaced as a whole; gone. Each answer says which small objects are moved."""
        self.assertEqual(
            (self.rig.ask("GET", "/bkt?lifecycle").status, self.rig.ask("GET", "/bkt?lifecycle").code),
            (404, "NoSuchLifecycleConfiguration"),
        )
        self.assertEqual(self.rig.ask("DELETE", "/bkt?lifecycle").status, 204)
        answer = self.configure(written(EXPIRES))
        self.assertEqual(
            (answer.status, answer.body, answer.headers[MINIMUM]), (200, b"", "varies_by_storage_class")
        )
        shown = self.rig.ask("GET", "/bkt?lifecycle")
        self.assertEqual((shown.status, shown.headers[MINIMUM]), (200, "varies_by_storage_class"))
        self.assertIn(EXPIRES.encode(), shown.body)
        self.assertIn(b'<LifecycleConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">', shown.body)
        other = ABORTS.replace("old logs", "other")
        answer = self.configure(
            written(other), x_amz_transition_default_minimum_object_size="all_storage_classes_128K"
        )
        self.assertEqual(answer.headers[MINIMUM], "all_storage_classes_128K")
        shown = self.rig.ask("GET", "/bkt?lifecycle")
        self.assertEqual(texts_of(shown.body, "ID"), ["other"])
        self.assertEqual(shown.headers[MINIMUM], "all_storage_classes_128K")
        self.assertEqual(self.configure(shown.body).status, 200, "what is shown can be put back")
        for _ in range(2):
            self.assertEqual(self.rig.ask("DELETE", "/bkt?lifecycle").status, 204)
            self.assertEqual(self.rig.ask("GET", "/bkt?lifecycle").code, "NoSuchLifecycleConfiguration")

    def test_digest(self) -> None:
        """A document must prove itself: by Content-MD5 or any checksum."""
        body = written(EXPIRES)
        answer = self.rig.ask("PUT", "/bkt?lifecycle", body)
        self.assertEqual((answer.status, answer.code), (400, "InvalidRequest"))
        sha256 = b64encode(hashlib.sha256(body).digest()).decode()
        named = {"x-amz-checksum-sha256": sha256}
        self.assertEqual(self.rig.ask("PUT", "/bkt?lifecycle", body, named).status, 200)
        self.assertEqual(self.rig.ask("PUT", "/bkt?lifecycle", body + b" ", named).code, "BadDigest")

    def test_refusals(self) -> None:
        """What is wrong changes nothing, and the answer names the rule."""
        self.configure(written(EXPIRES))
        for body, code, reason in (
            (b"", "MissingRequestBodyError", "a LifecycleConfiguration is needed"),
            (b"<Lifecycle/>", "MalformedXML", "no LifecycleConfiguration"),
            (written(), "MalformedXML", "it has 0 rules"),
            (written(LOGS.format("")), "InvalidRequest", "rule 'old logs'"),
            (written(LOGS.format("<Expiration/>")), "MalformedXML", "rule 'old logs'"),
            (written(EXPIRES.replace("3", "0")), "InvalidArgument", "Days of Expiration is 0"),
        ):
            answer = self.configure(body)
            self.assertEqual((answer.status, answer.code), (400, code))
            self.assertIn(reason, answer.body.decode())
        answer = self.configure(written(EXPIRES), x_amz_transition_default_minimum_object_size="64K")
        self.assertEqual((answer.status, answer.code), (400, "InvalidArgument"))
        for method in ("GET", "PUT", "DELETE"):
            self.assertEqual(self.rig.ask(method, "/none?lifecycle").code, "NoSuchBucket", method)
        self.assertEqual(texts_of(self.rig.ask("GET", "/bkt?lifecycle").body, "Days"), ["3"])

    def test_ids_that_are_made(self) -> None:
        """Rules without ID get ones that stay, and that differ."""
        nameless = EXPIRES.replace("<ID>old logs</ID>", "")
        self.configure(written(nameless, nameless))
        first, second = texts_of(self.rig.ask("GET", "/bkt?lifecycle").body, "ID")
        self.assertNotEqual(first, second)
        self.assertEqual(texts_of(self.rig.ask("GET", "/bkt?lifecycle").body, "ID"), [first, second])

    def test_too_large(self) -> None:
        """What no step of the metadata store can take is refused, and what can is taken."""

        def text_of_rules(count: int) -> str:
            wide = Filter(tags=tuple((f"{number:03}", "\U0001f9ca" * 256) for number in range(8)))
            rules = (
                Rule(rule_id=str(number), is_enabled=True, filter=wide, expiration=Expiration(days=1))
                for number in range(count)
            )
            return kept_text(Lifecycle(rules=tuple(rules)))

        self.assertLess(len(text_of_rules(100).encode()), DOCUMENT_MAX_BYTES)
        with self.assertRaises(S3Error) as caught:
            text_of_rules(110)
        error = caught.exception
        self.assertEqual((error.code, error.status), ("MaxMessageLengthExceeded", 400))
        self.assertIn("110 rules has ", error.message)
        self.assertIn(f"may have {DOCUMENT_MAX_BYTES}", error.message)
        many = b" " * 1024 * 1024
        self.assertEqual(self.configure(written(EXPIRES) + many).code, "MaxMessageLengthExceeded")


class ExpirationTests(LifecycleCase):
    """What answers about objects say."""

    WANTED = 'expiry-date="{}", rule-id="old%20logs"'

    def setUp(self) -> None:
        """Have a rule about some keys."""
        super().setUp()
        self.rig.clock.advance(1_798_070_400 + 100 - NOW)  # 24 December 2026, some time after midnight
        self.configure(written(EXPIRES))
        self.wanted = self.WANTED.format("Mon, 28 Dec 2026 00:00:00 GMT")

    def told(self, answer: ParsedAnswer) -> str | None:
        """Return what an answer says of expiration."""
        self.assertIn(answer.status, (200, 201, 204, 206), answer.body)
        return answer.headers.get("x-amz-expiration")

    def test_put_and_read(self) -> None:
        """PUT, HEAD, GET and a part of it; only of keys that the rule is about, and as long as there is one."""
        self.assertEqual(self.told(self.rig.put("/bkt/logs/a", b"xyz")), self.wanted)
        self.assertIsNone(self.told(self.rig.put("/bkt/b", b"xyz")))
        self.assertEqual(self.told(self.rig.ask("HEAD", "/bkt/logs/a")), self.wanted)
        self.assertEqual(self.told(self.rig.ask("GET", "/bkt/logs/a")), self.wanted)
        self.assertEqual(
            self.told(self.rig.ask("GET", "/bkt/logs/a", headers={"range": "bytes=0-1"})), self.wanted
        )
        self.assertIsNone(self.told(self.rig.ask("HEAD", "/bkt/b")))
        self.configure(written(EXPIRES.replace("Enabled", "Disabled")))
        self.assertIsNone(self.told(self.rig.ask("HEAD", "/bkt/logs/a")))
        self.configure(written(EXPIRES))
        self.assertEqual(self.told(self.rig.ask("HEAD", "/bkt/logs/a")), self.wanted)
        self.rig.ask("DELETE", "/bkt?lifecycle")
        self.assertIsNone(self.told(self.rig.ask("HEAD", "/bkt/logs/a")))

    def test_days_count_from_the_object(self) -> None:
        """The day stays the same, however late somebody asks."""
        self.rig.put("/bkt/logs/a", b"xyz")
        self.rig.clock.advance(2 * 86_400)
        self.assertEqual(self.told(self.rig.ask("HEAD", "/bkt/logs/a")), self.wanted)
        later = self.WANTED.format("Wed, 30 Dec 2026 00:00:00 GMT")
        self.assertEqual(self.told(self.rig.put("/bkt/logs/a", b"xyz")), later)

    def test_tags(self) -> None:
        """A rule with tags is about what has them now."""
        tagged = EXPIRES.replace("<Prefix>logs/</Prefix>", "<Tag><Key>keep</Key><Value>not</Value></Tag>")
        self.configure(written(tagged))
        self.assertEqual(self.told(self.rig.put("/bkt/a", b"xyz", x_amz_tagging="keep=not")), self.wanted)
        self.assertIsNone(self.told(self.rig.put("/bkt/b", b"xyz", x_amz_tagging="keep=me")))
        self.rig.ask("DELETE", "/bkt/a?tagging")
        self.assertIsNone(self.told(self.rig.ask("HEAD", "/bkt/a")))

    def test_copy(self) -> None:
        """A copy is an object of its own: its age counts, and its key."""
        self.rig.put("/bkt/b", b"xyz")
        source = {"x-amz-copy-source": "/bkt/b"}
        self.assertEqual(self.told(self.rig.ask("PUT", "/bkt/logs/b", headers=source)), self.wanted)
        self.assertIsNone(self.told(self.rig.ask("PUT", "/bkt/c", headers=source)))

    def test_versions(self) -> None:
        """Of a version that is current no more nothing is said: other actions are about it."""
        status = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
        self.rig.ask("PUT", "/bkt?versioning", status)
        first = self.rig.put("/bkt/logs/a", b"1").headers["x-amz-version-id"]
        second = self.rig.put("/bkt/logs/a", b"2").headers["x-amz-version-id"]
        self.assertIsNone(self.told(self.rig.ask("HEAD", f"/bkt/logs/a?versionId={first}")))
        self.assertEqual(self.told(self.rig.ask("HEAD", f"/bkt/logs/a?versionId={second}")), self.wanted)

    def test_upload(self) -> None:
        """Completing an upload makes an object; nothing is said of its parts."""
        begun = self.rig.ask("POST", "/bkt/logs/a?uploads")
        self.assertNotIn("x-amz-abort-date", begun.headers)
        upload_id = text_of(begun.body, "UploadId")
        part = self.rig.put(f"/bkt/logs/a?partNumber=1&uploadId={upload_id}", b"xyz")
        self.assertIsNone(self.told(part))
        etag = part.headers["etag"]
        listed = f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
        for _ in range(2):
            done = self.rig.ask("POST", f"/bkt/logs/a?uploadId={upload_id}", listed.encode())
            self.assertEqual(self.told(done), self.wanted)

    def test_abort(self) -> None:
        """Beginning an upload, and listing its parts, say when it is aborted, by which rule."""
        self.configure(written(ABORTS))
        begun = self.rig.ask("POST", "/bkt/logs/a?uploads")
        self.rig.clock.advance(86_400)
        upload_id = text_of(begun.body, "UploadId")
        listed = self.rig.ask("GET", f"/bkt/logs/a?uploadId={upload_id}")
        for answer in (begun, listed):
            self.assertEqual(answer.headers["x-amz-abort-date"], "Mon, 28 Dec 2026 00:00:00 GMT")
            self.assertEqual(answer.headers["x-amz-abort-rule-id"], "old logs")
        self.assertNotIn("x-amz-abort-date", self.rig.ask("POST", "/bkt/b?uploads").headers)
        self.assertIsNone(self.told(self.rig.put("/bkt/logs/b", b"x")))

    def test_cost(self) -> None:
        """A configuration is read once; a bucket without one asks the store nothing."""
        asked: list[ConfigurationKind] = []
        ask = self.rig.store.bucket_configuration

        def counted(*, bucket_uid: int, kind: ConfigurationKind) -> Deferred[str | None]:
            asked.append(kind)
            return ask(bucket_uid=bucket_uid, kind=kind)

        self.patch(self.rig.store, "bucket_configuration", counted)
        self.rig.ask("PUT", "/other")
        for _ in range(3):
            self.rig.put("/bkt/logs/a", b"x")
            self.rig.ask("GET", "/bkt/logs/a")
            self.rig.put("/other/a", b"x")
            self.rig.ask("GET", "/other/a")
        self.assertEqual(asked, [ConfigurationKind.LIFECYCLE])
