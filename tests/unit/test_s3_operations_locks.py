"""Operations on object lock, and on objects under lock."""

import json
from base64 import b64encode
from hashlib import md5

from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.locks import Lock, LockMode, Retention
from tests.unit.s3_rig import Rig, text_of, texts_of
from tests.unit.s3_wire import NOW, ParsedAnswer

SOON, LATER, PAST = "2026-02-01T00:00:00.000Z", "2027-01-01T00:00:00.000Z", "2020-01-01T00:00:00.000Z"
SOON_AT = 1_769_904_000.0
DAY = 86_400.0


def digest(body: bytes) -> dict[str, str]:
    """The header field with which a client says what it sends."""
    return {"content-md5": b64encode(md5(body).digest()).decode()}


def retention(mode: str, until: str) -> bytes:
    """A Retention."""
    return f"<Retention><Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>".encode()


def lock_headers(mode: str = "COMPLIANCE", until: str = SOON) -> dict[str, str]:
    """Header fields of a retention."""
    return {"x-amz-object-lock-mode": mode, "x-amz-object-lock-retain-until-date": until}


class Case(SynchronousTestCase):
    """Has an endpoint with a bucket that takes locks, and one that does not."""

    def setUp(self) -> None:
        self.rig = Rig()
        self.rig.put("/plain")
        answer = self.rig.put("/bkt", x_amz_bucket_object_lock_enabled="true")
        self.assertEqual(answer.status, 200, answer.body)

    def put(self, target: str = "/bkt/k", body: bytes = b"x", **more: str) -> ParsedAnswer:
        """Put an object, with its digest."""
        return self.rig.ask("PUT", target, body, {**digest(body), **more})

    def put_locked(self, target: str = "/bkt/k", mode: str = "COMPLIANCE", until: str = SOON) -> str:
        """Put a version with a retention; return its id."""
        answer = self.put(target, **lock_headers(mode, until))
        self.assertEqual(answer.status, 200, answer.body)
        return answer.headers["x-amz-version-id"]

    def send(self, target: str, document: bytes, **more: str) -> ParsedAnswer:
        """Put a document with its digest; underscores in names of headers stand for dashes."""
        headers = {name.replace("_", "-"): value for name, value in more.items()}
        return self.rig.ask("PUT", target, document, {**digest(document), **headers})

    def delete(self, version_id: str, *, bypass: bool = False, key: str = "k") -> ParsedAnswer:
        """Delete a version."""
        headers = {"x-amz-bypass-governance-retention": "true"} if bypass else {}
        return self.rig.ask("DELETE", f"/bkt/{key}?versionId={version_id}", headers=headers)

    def assert_denied(self, answer: ParsedAnswer, *words: str) -> None:
        """What is under lock is refused, and the answer says why."""
        self.assertEqual((answer.status, answer.code), (403, "AccessDenied"))
        message = text_of(answer.body, "Message") or ""
        for word in ("object lock", *words):
            self.assertIn(word, message)


class BucketTests(Case):
    """Configurations of buckets."""

    def test_created_with_lock(self) -> None:
        """It keeps versions, has no default, and versioning cannot be suspended."""
        answer = self.rig.ask("GET", "/bkt?object-lock")
        self.assertEqual(text_of(answer.body, "ObjectLockEnabled"), "Enabled")
        self.assertIsNone(text_of(answer.body, "Mode"))
        self.assertEqual(text_of(self.rig.ask("GET", "/bkt?versioning").body, "Status"), "Enabled")
        suspended = b"<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>"
        answer = self.rig.put("/bkt?versioning", suspended)
        self.assertEqual((answer.status, answer.code), (409, "InvalidBucketState"))
        self.assertEqual(
            self.rig.put("/bkt?versioning", suspended.replace(b"Suspended", b"Enabled")).status, 200
        )

    def test_created_without(self) -> None:
        """It has no configuration, and gets one once it keeps versions."""
        answer = self.rig.ask("GET", "/plain?object-lock")
        self.assertEqual((answer.status, answer.code), (404, "ObjectLockConfigurationNotFoundError"))
        document = b"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>"
        answer = self.send("/plain?object-lock", document)
        self.assertEqual((answer.status, answer.code), (409, "InvalidBucketState"))
        self.rig.put(
            "/plain?versioning",
            b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>",
        )
        self.assertEqual(self.send("/plain?object-lock", document).status, 200)
        self.assertEqual(self.rig.ask("GET", "/plain?object-lock").status, 200)

    def test_default(self) -> None:
        """Objects get it that say nothing of their own."""
        document = (
            b"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>"
            b"<Mode>GOVERNANCE</Mode><Days>2</Days></DefaultRetention></Rule></ObjectLockConfiguration>"
        )
        self.assertEqual(self.send("/bkt?object-lock", document).status, 200)
        shown = self.rig.ask("GET", "/bkt?object-lock").body
        self.assertEqual((text_of(shown, "Mode"), text_of(shown, "Days")), ("GOVERNANCE", "2"))
        self.put()
        lock = self.rig.version("bkt", b"k").lock
        self.assertEqual(lock, Lock(Retention(LockMode.GOVERNANCE, NOW + 2 * DAY)))
        self.put_locked()
        self.assertEqual(
            self.rig.version("bkt", b"k").lock.retention, Retention(LockMode.COMPLIANCE, SOON_AT)
        )
        answer = self.rig.put("/bkt/k", b"x")
        self.assertEqual((answer.status, answer.code), (400, "InvalidRequest"))

    def test_refused(self) -> None:
        """What is no configuration, comes without a digest, or is for nobody."""
        for document, code in (
            (b"", "MissingRequestBodyError"),
            (b"<ObjectLockConfiguration/>", "MalformedXML"),
        ):
            answer = self.send("/bkt?object-lock", document)
            self.assertEqual((answer.status, answer.code), (400, code))
        document = b"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>"
        answer = self.rig.put("/bkt?object-lock", document)
        self.assertEqual((answer.status, answer.code), (400, "InvalidRequest"))
        self.assertEqual(self.send("/none?object-lock", document).code, "NoSuchBucket")
        answer = self.rig.put("/other", x_amz_bucket_object_lock_enabled="maybe")
        self.assertEqual((answer.status, answer.code), (400, "InvalidArgument"))
        self.assertEqual(self.rig.ask("HEAD", "/other").status, 404)


class ObjectTests(Case):
    """Locks of objects."""

    def test_shown(self) -> None:
        """Reads show what a writer said; of an object without lock nothing."""
        self.put(**lock_headers("GOVERNANCE"), **{"x-amz-object-lock-legal-hold": "ON"})
        for method in ("GET", "HEAD"):
            headers = self.rig.ask(method, "/bkt/k").headers
            self.assertEqual(headers["x-amz-object-lock-mode"], "GOVERNANCE")
            self.assertEqual(headers["x-amz-object-lock-retain-until-date"], SOON)
            self.assertEqual(headers["x-amz-object-lock-legal-hold"], "ON")
        self.put("/bkt/free")
        names = self.rig.ask("HEAD", "/bkt/free").headers
        self.assertEqual([name for name in names if "lock" in name], [])

    def test_refused(self) -> None:
        """Nothing is kept of an upload whose lock cannot be."""
        for target, headers, code in (
            ("/plain/k", lock_headers(), "InvalidRequest"),
            ("/plain/k", {"x-amz-object-lock-legal-hold": "OFF"}, "InvalidRequest"),
            ("/bkt/k", lock_headers(until=PAST), "InvalidArgument"),
            ("/bkt/k", lock_headers(mode="abc"), "InvalidArgument"),
            ("/bkt/k", {"x-amz-object-lock-mode": "COMPLIANCE"}, "InvalidArgument"),
        ):
            answer = self.put(target, **headers)
            self.assertEqual((answer.status, answer.code), (400, code))
            answer = self.rig.ask("POST", f"{target}?uploads", headers=headers)
            self.assertEqual((answer.status, answer.code), (400, code))
        answer = self.rig.ask("PUT", "/bkt/k", b"x", lock_headers())
        self.assertEqual((answer.status, answer.code), (400, "InvalidRequest"))
        self.assertIn("Content-MD5", text_of(answer.body, "Message") or "")
        self.assertEqual(self.rig.piece_count, 0)
        answer = self.put("/bkt/k", **{"x-amz-object-lock-event-hold": "ON"})
        self.assertEqual((answer.status, answer.code), (501, "NotImplemented"))

    def test_retention(self) -> None:
        """It is set, shown, extended; of an object that has none, and of a bucket that takes none, nothing is shown."""
        self.put()
        answer = self.rig.ask("GET", "/bkt/k?retention")
        self.assertEqual((answer.status, answer.code), (404, "NoSuchObjectLockConfiguration"))
        for until in (SOON, LATER):
            self.assertEqual(self.send("/bkt/k?retention", retention("COMPLIANCE", until)).status, 200)
            shown = self.rig.ask("GET", "/bkt/k?retention").body
            self.assertEqual(
                (text_of(shown, "Mode"), text_of(shown, "RetainUntilDate")), ("COMPLIANCE", until)
            )
        answer = self.send(
            "/bkt/k?retention", retention("COMPLIANCE", SOON), x_amz_bypass_governance_retention="true"
        )
        self.assert_denied(answer, LATER)
        for path in ("/plain/k?retention", "/plain/k?legal-hold"):
            answer = self.rig.ask("GET", path)
            self.assertEqual((answer.status, answer.code), (400, "InvalidRequest"))
        answer = self.send("/plain/k?retention", retention("COMPLIANCE", SOON))
        self.assertEqual((answer.status, answer.code), (400, "InvalidRequest"))

    def test_retention_of_a_version(self) -> None:
        """Of the one that is named; of a marker, or of none, there is none."""
        old, new = self.put().headers["x-amz-version-id"], self.put().headers["x-amz-version-id"]
        self.assertEqual(
            self.send(f"/bkt/k?retention&versionId={old}", retention("GOVERNANCE", SOON)).status, 200
        )
        self.assertEqual(self.rig.ask("GET", f"/bkt/k?retention&versionId={old}").status, 200)
        self.assertEqual(self.rig.ask("GET", f"/bkt/k?retention&versionId={new}").status, 404)
        marker = self.rig.ask("DELETE", "/bkt/k").headers["x-amz-version-id"]
        for method, body in (("GET", b""), ("PUT", retention("GOVERNANCE", SOON))):
            for which, code in (
                (f"&versionId={marker}", "MethodNotAllowed"),
                ("", "NoSuchKey"),
                ("&versionId=no", "NoSuchVersion"),
                ("&versionId=%00", "InvalidArgument"),
            ):
                answer = self.rig.ask(method, f"/bkt/k?retention{which}", body, digest(body) if body else {})
                self.assertEqual(answer.code, code)

    def test_governance(self) -> None:
        """It is loosened by who bypasses it, and by nobody else."""
        for wanted in (retention("GOVERNANCE", SOON), retention("COMPLIANCE", LATER), b"<Retention/>"):
            self.put_locked(mode="GOVERNANCE", until=LATER)
            self.assert_denied(self.send("/bkt/k?retention", wanted), "GOVERNANCE", LATER)
            answer = self.send("/bkt/k?retention", wanted, x_amz_bypass_governance_retention="true")
            self.assertEqual(answer.status, 200)
        self.assertEqual(self.rig.ask("GET", "/bkt/k?retention").code, "NoSuchObjectLockConfiguration")

    def test_legal_hold(self) -> None:
        """It is begun and ended; what never had one has none."""
        self.put()
        self.assertEqual(self.rig.ask("GET", "/bkt/k?legal-hold").code, "NoSuchObjectLockConfiguration")
        version_id = self.rig.version("bkt", b"k").facts.version_id
        for status in ("ON", "OFF"):
            document = f"<LegalHold><Status>{status}</Status></LegalHold>".encode()
            self.assertEqual(self.send("/bkt/k?legal-hold", document).status, 200)
            self.assertEqual(text_of(self.rig.ask("GET", "/bkt/k?legal-hold").body, "Status"), status)
            self.assertEqual(self.rig.ask("HEAD", "/bkt/k").headers["x-amz-object-lock-legal-hold"], status)
            if status == "ON":
                self.assert_denied(self.delete(version_id, bypass=True), "legal hold")
        self.assertEqual(self.send("/bkt/k?legal-hold", b"<LegalHold/>").code, "MalformedXML")
        self.assertEqual(self.delete(version_id).status, 204)

    def test_copy(self) -> None:
        """A copy has the lock that the request says, not that of its source."""
        self.put_locked("/bkt/source")
        source = {"x-amz-copy-source": "/bkt/source"}
        self.assertEqual(self.rig.ask("PUT", "/bkt/k", headers=source).status, 200)
        self.assertEqual(self.rig.version("bkt", b"k").lock, Lock())
        answer = self.rig.ask("PUT", "/bkt/k", headers={**source, **lock_headers("GOVERNANCE", LATER)})
        self.assertEqual(answer.status, 200)
        self.assertEqual(self.rig.ask("HEAD", "/bkt/k").headers["x-amz-object-lock-retain-until-date"], LATER)
        answer = self.rig.ask("PUT", "/plain/k", headers={**source, **lock_headers()})
        self.assertEqual((answer.status, answer.code), (400, "InvalidRequest"))

    def test_upload_in_parts(self) -> None:
        """What its beginning says holds for the version that it becomes; then each part needs a digest."""
        begun = self.rig.ask("POST", "/bkt/k?uploads", headers=lock_headers())
        upload_id = text_of(begun.body, "UploadId")
        answer = self.rig.put(f"/bkt/k?partNumber=1&uploadId={upload_id}", b"x")
        self.assertEqual((answer.status, answer.code), (400, "InvalidRequest"))
        answer = self.put(f"/bkt/k?partNumber=1&uploadId={upload_id}")
        self.assertEqual(answer.status, 200)
        document = (
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber>"
            f"<ETag>{answer.headers['etag'].strip(chr(34))}</ETag></Part></CompleteMultipartUpload>"
        )
        answer = self.rig.ask("POST", f"/bkt/k?uploadId={upload_id}", document.encode())
        self.assertEqual(answer.status, 200, answer.body)
        self.assertEqual(self.rig.ask("HEAD", "/bkt/k").headers["x-amz-object-lock-mode"], "COMPLIANCE")
        self.assert_denied(self.delete(answer.headers["x-amz-version-id"], bypass=True), SOON)


class DeletionTests(Case):
    """What is under lock is not deleted."""

    def test_compliance(self) -> None:
        """Nobody deletes it before its time, and anybody then."""
        version_id = self.put_locked()
        for bypass in (False, True):
            self.assert_denied(self.delete(version_id, bypass=bypass), "COMPLIANCE", SOON)
        self.rig.clock.advance(SOON_AT - NOW)
        self.assert_denied(self.delete(version_id), SOON)
        # The clock may be wrong: only what was measured counts.
        self.successResultOf(self.rig.store.advance_lock_clock(now=SOON_AT, elapsed_seconds=SOON_AT - NOW))
        self.assertEqual(self.delete(version_id).status, 204)
        self.assertEqual(self.rig.ask("GET", f"/bkt/k?versionId={version_id}").code, "NoSuchVersion")

    def test_governance(self) -> None:
        """Who bypasses it does, and the audit trail says so."""
        version_id = self.put_locked(mode="GOVERNANCE")
        self.assert_denied(self.delete(version_id), "GOVERNANCE", SOON)
        self.assertEqual(self.delete(version_id, bypass=True).status, 204)
        (event,) = self.successResultOf(self.rig.store.audit_trail(before_id=None, limit=9))
        self.assertEqual((event.what, event.subject), ("bypass retention, delete", "bucket bkt"))
        self.assertEqual(event.detail, f"bkt/k?versionId={version_id}")
        self.assertEqual(event.who, "alice (AKIDEXAMPLE)")

    def test_marker(self) -> None:
        """A delete without an id hides it, and hides nothing for good."""
        version_id = self.put_locked()
        marker = self.rig.ask("DELETE", "/bkt/k").headers["x-amz-version-id"]
        self.assertEqual(self.rig.ask("GET", "/bkt/k").code, "NoSuchKey")
        self.assert_denied(self.delete(version_id))
        self.assertEqual(self.delete(marker).status, 204)
        self.assertEqual(self.rig.ask("GET", "/bkt/k").body, b"x")

    def test_many(self) -> None:
        """Of many each is judged by itself: what is under lock is named, and all else goes."""
        ids = [
            (
                f"k{number:02}",
                self.put_locked(f"/bkt/k{number:02}", mode)
                if mode
                else self.put(f"/bkt/k{number:02}").headers["x-amz-version-id"],
            )
            for number, mode in enumerate(["", "GOVERNANCE", "COMPLIANCE"] * 12)
        ]
        for bypass, kept in ((False, 24), (True, 12)):
            objects = "".join(
                f"<Object><Key>{key}</Key><VersionId>{version_id}</VersionId></Object>"
                for key, version_id in ids
            )
            document = f"<Delete>{objects}</Delete>".encode()
            headers = digest(document) | ({"x-amz-bypass-governance-retention": "true"} if bypass else {})
            answer = self.rig.ask("POST", "/bkt?delete", document, headers)
            self.assertEqual(answer.status, 200)
            self.assertEqual(texts_of(answer.body, "Code"), ["AccessDenied"] * kept)
            self.assertEqual(answer.body.count(b"<Deleted>"), 36 - kept)
            self.assertEqual(texts_of(answer.body, "Message")[0].count("until " + SOON), 1)
            listed = self.rig.ask("GET", "/bkt?versions").body
            self.assertEqual(listed.count(b"<Version>"), kept)

    def test_bucket(self) -> None:
        """A bucket with something under lock stays."""
        version_id = self.put_locked(mode="GOVERNANCE")
        self.assertEqual(self.rig.ask("DELETE", "/bkt").code, "BucketNotEmpty")
        self.delete(version_id, bypass=True)
        self.assertEqual(self.rig.ask("DELETE", "/bkt").status, 204)

    def deny(self, *actions: str) -> None:
        """Have the policy of the bucket deny everybody something with its objects."""
        statement = {"Effect": "Deny", "Principal": "*", "Action": actions, "Resource": "arn:aws:s3:::bkt/*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]}).encode()
        answer = self.send("/bkt?policy", policy)
        self.assertLess(answer.status, 300, answer.body)

    def test_who_may_not_bypass(self) -> None:
        """Who asks for the bypass and may not have it is refused, whatever is there, and hinders nobody else."""
        version_id = self.put_locked(mode="GOVERNANCE")
        self.deny("s3:BypassGovernanceRetention")
        answer = self.delete(version_id, bypass=True)
        self.assertEqual((answer.status, answer.code), (403, "AccessDenied"))
        self.assertIn("s3:BypassGovernanceRetention", text_of(answer.body, "Message") or "")
        answer = self.send("/bkt/k?retention", b"<Retention/>", x_amz_bypass_governance_retention="true")
        self.assertEqual((answer.status, answer.code), (403, "AccessDenied"))
        document = (
            f"<Delete><Object><Key>k</Key><VersionId>{version_id}</VersionId></Object></Delete>".encode()
        )
        headers = {**digest(document), "x-amz-bypass-governance-retention": "true"}
        answer = self.rig.ask("POST", "/bkt?delete", document, headers)
        self.assertEqual(texts_of(answer.body, "Code"), ["AccessDenied"])
        self.assertEqual(self.rig.ask("GET", f"/bkt/k?versionId={version_id}").status, 200)

    def test_who_may_not_see(self) -> None:
        """Reads show of a lock what their reader may ask for."""
        self.put(**lock_headers(), **{"x-amz-object-lock-legal-hold": "ON"})
        for action, hidden in (("s3:GetObjectRetention", "mode"), ("s3:GetObjectLegalHold", "legal-hold")):
            self.deny(action)
            names = {"mode", "retain-until-date", "legal-hold"}
            headers = self.rig.ask("HEAD", "/bkt/k").headers
            shown = {name for name in names if f"x-amz-object-lock-{name}" in headers}
            self.assertEqual(shown, {"legal-hold"} if hidden == "mode" else names - {"legal-hold"})
