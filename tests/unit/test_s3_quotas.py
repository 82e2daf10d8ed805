"""Quotas on what is kept: refused before a body is sent, counted while it is on its way, and never in the way of deleting."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.objects import Bucket
from coldstore.model.quotas import UNLIMITED, QuotaKind, Quotas, Use
from coldstore.plan.quota import DefaultQuotas
from coldstore.s3.call import Caller
from coldstore.s3.errors import S3Error
from coldstore.s3.quotas import Reservations, Reserved
from tests.unit.s3_rig import Rig, text_of
from tests.unit.s3_wire import ParsedAnswer, message, request_bytes, signed_headers
from tests.unit.test_s3_posting import ANY_KEY, BOUNDARY, SIGNING, form, policy, signed

ENABLED = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
SUSPENDED = ENABLED.replace(b"Enabled", b"Suspended")
RESTORE = b"<RestoreRequest><Days>1</Days></RestoreRequest>"
ALICE = Caller(user_id="u-1", name="alice", access_key="A")


class QuotasCase(SynchronousTestCase):
    """An endpoint with a bucket."""

    def begin(self, **bucket: int) -> Rig:
        """Return one whose bucket has quotas."""
        rig = Rig()
        self.assertEqual(rig.put("/bkt").status, 200)
        self.rig = rig
        self.bound(**bucket)
        return rig

    def bound(self, **quotas: int | None) -> Bucket:
        """Give the bucket other quotas."""
        wanted = {QuotaKind(name): quota for name, quota in quotas.items()}
        return self.successResultOf(self.rig.store.set_bucket_quotas(name="bkt", quotas=wanted))

    def use(self) -> Use:
        """Return what the bucket has."""
        return self.successResultOf(self.rig.store.quota_use(bucket="bkt"))

    def refused(self, answer: ParsedAnswer, kind: str) -> None:
        """See that an answer is the refusal by a quota, and that nothing stays reserved."""
        self.assertEqual((answer.status, answer.code), (403, "QuotaExceeded"), answer.body)
        self.assertEqual(text_of(answer.body, "QuotaOf"), "bucket bkt")
        self.assertEqual(text_of(answer.body, "QuotaKind"), kind)
        self.assertIn(f"coldstore bucket quota bkt --{kind}", text_of(answer.body, "Message") or "")
        self.assertEqual(self.rig.operations._services.reservations._coming, {})
        self.assertEqual(self.rig.operations._services.admission._arriving, {})

    def expecting(self, target: str, size_bytes: int, method: str = "PUT") -> ParsedAnswer:
        """Announce a body, and return the answer that comes although it was not sent."""
        headers = signed_headers(method, target, {}, payload="UNSIGNED-PAYLOAD")
        headers |= {"expect": "100-continue", "content-length": str(size_bytes)}
        written = self.rig.wire().send(message(method, target, headers))
        self.assertNotIn(b"100 Continue", written)
        return ParsedAnswer.of(written)


class KeptTests(QuotasCase):
    """Bytes of versions."""

    def test_objects(self) -> None:
        """The last byte fits; what is over it is refused before its body, and fits when something was deleted."""
        rig = self.begin(kept=100)
        self.assertEqual(rig.put("/bkt/a", bytes(60)).status, 200)
        self.refused(self.expecting("/bkt/b", 41), "kept")
        answer = self.expecting("/bkt/b", 41)
        for said in ("quota of bucket bkt is 100 bytes", "60 are used", "wants 41 more"):
            self.assertIn(said, text_of(answer.body, "Message") or "")
        self.assertEqual(rig.put("/bkt/b", bytes(40)).status, 200)
        self.assertEqual(rig.put("/bkt/empty").status, 200)
        self.assertEqual(rig.ask("DELETE", "/bkt/a").status, 204)
        self.assertEqual(rig.put("/bkt/c", bytes(60)).status, 200)
        self.assertEqual(self.use().kept, 100)

    def test_replaced(self) -> None:
        """What a version replaces counts no longer, where it goes; where versions are kept it stays, and counts."""
        rig = self.begin(kept=100, objects=1)
        for size in (100, 100, 1):
            self.assertEqual(rig.put("/bkt/a", bytes(size)).status, 200)
        self.refused(self.expecting("/bkt/b", 1), "objects")
        self.assertEqual(self.expecting("/bkt/a", 101).code, "QuotaExceeded")
        rig.ask("PUT", "/bkt?versioning", SUSPENDED)
        self.assertEqual(rig.put("/bkt/a", bytes(100)).status, 200)
        rig.ask("PUT", "/bkt?versioning", ENABLED)
        self.refused(self.expecting("/bkt/a", 1), "kept")
        self.assertEqual(rig.ask("DELETE", "/bkt/a").status, 204)
        self.refused(self.expecting("/bkt/a", 1), "kept")
        self.assertEqual(rig.ask("DELETE", "/bkt/a?versionId=null").status, 204)
        self.assertEqual(rig.put("/bkt/a", bytes(100)).status, 200)
        rig.ask("PUT", "/bkt?versioning", SUSPENDED)
        self.refused(self.expecting("/bkt/a", 1), "kept")

    def test_copies(self) -> None:
        """A copy needs room for all of it; onto itself for nothing more."""
        rig = self.begin(kept=100)
        rig.put("/bkt/a", bytes(60))
        self.refused(rig.put("/bkt/b", x_amz_copy_source="/bkt/a"), "kept")
        changed = {"x_amz_copy_source": "/bkt/a", "x_amz_metadata_directive": "REPLACE"}
        self.assertEqual(rig.put("/bkt/a", **changed).status, 200)

    def test_parts(self) -> None:
        """A part that could not become an object's is refused at once; what all parts have together decides when they are completed."""
        rig = self.begin(kept=100)
        upload = text_of(rig.ask("POST", "/bkt/m?uploads").body, "UploadId")
        self.refused(self.expecting(f"/bkt/m?partNumber=1&uploadId={upload}", 101), "kept")
        target = f"/bkt/m?partNumber=1&uploadId={upload}"
        etag = rig.put(target, bytes(90)).headers["etag"]
        self.assertEqual(rig.put("/bkt/a", bytes(20)).status, 200)
        self.refused(self.expecting(target, 90), "kept")
        document = (
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber>"
            f"<ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
        ).encode()
        self.refused(rig.ask("POST", f"/bkt/m?uploadId={upload}", document), "kept")
        rig.ask("DELETE", "/bkt/a")
        self.assertEqual(rig.ask("POST", f"/bkt/m?uploadId={upload}", document).status, 200)
        # Once it is there, telling it again asks for nothing.
        self.assertEqual(rig.ask("POST", f"/bkt/m?uploadId={upload}", document).status, 200)
        self.assertEqual(self.use(), Use(staging=110, kept=90, objects=1))
        self.refused(rig.put("/bkt/n?partNumber=1&uploadId=" + self.upload("n"), bytes(11)), "kept")

    def upload(self, key: str) -> str:
        """Begin an upload."""
        return text_of(self.rig.ask("POST", f"/bkt/{key}?uploads").body, "UploadId") or ""

    def test_forms(self) -> None:
        """A browser's file is refused by its length, and fits where it fits."""
        rig = self.begin(kept=100)
        for number, (size, status) in enumerate(((60, 204), (60, 403), (40, 204))):
            conditions = policy(ANY_KEY, *SIGNING, bucket="bkt")
            fields = {"key": f"k{number}", **signed(conditions)}
            body = form(fields, bytes(size))
            wire = rig.wire()
            headers = {
                "host": "127.0.0.1:8000",
                "content-type": f"multipart/form-data; boundary={BOUNDARY}",
                "content-length": str(len(body)),
            }
            wire.send(message("POST", "/bkt", headers, body))
            self.assertEqual(wire.answer().status, status, size)

    def test_lowered(self) -> None:
        """A quota below what is there refuses what is new, and nothing else; an unlimited one refuses nothing."""
        rig = self.begin(kept=100)
        rig.put("/bkt/a", bytes(90))
        self.bound(kept=10)
        self.refused(self.expecting("/bkt/b", 1), "kept")
        self.assertEqual(rig.ask("GET", "/bkt/a").status, 200)
        self.assertEqual(rig.put("/bkt/a", bytes(10)).status, 200)
        self.bound(kept=UNLIMITED)
        self.assertEqual(rig.put("/bkt/b", bytes(90)).status, 200)
        self.bound(kept=0)
        self.refused(self.expecting("/bkt/c", 1), "kept")
        self.assertEqual(rig.put("/bkt/c").status, 200)
        for key in "abc":
            self.assertEqual(rig.ask("DELETE", f"/bkt/{key}").status, 204)

    def test_what_is_on_its_way(self) -> None:
        """Bodies that are still coming count; whoever breaks off gives the place back."""
        rig = self.begin(kept=100)
        wire = rig.wire()
        wire.send(request_bytes("PUT", "/bkt/a", {}, bytes(90))[:-10])
        self.assertEqual(self.expecting("/bkt/b", 20).code, "QuotaExceeded")
        wire.lose()
        self.assertEqual(
            rig.put("/bkt/b", bytes(95), content_md5="AAAAAAAAAAAAAAAAAAAAAA==").code, "BadDigest"
        )
        self.assertEqual(rig.put("/bkt/b", bytes(100)).status, 200)


class ObjectsTests(QuotasCase):
    """The number of versions."""

    def test_objects(self) -> None:
        """Empty ones count; delete markers do not, and are never refused."""
        rig = self.begin(objects=2)
        rig.ask("PUT", "/bkt?versioning", ENABLED)
        for key in "ab":
            self.assertEqual(rig.put(f"/bkt/{key}").status, 200)
        self.refused(rig.put("/bkt/c"), "objects")
        self.refused(rig.ask("POST", "/bkt/m?uploads"), "objects")
        for key in "abc":
            self.assertEqual(rig.ask("DELETE", f"/bkt/{key}").status, 204)
        self.assertEqual(self.use().objects, 2)
        self.refused(rig.put("/bkt/c"), "objects")


class RestoresTests(QuotasCase):
    """Promised restores."""

    def test_restores(self) -> None:
        """What is over the quota is refused, not queued; changes of a restore that was promised are not, and what is over makes room."""
        rig = self.begin(restores=100)
        for key, size in (("a", 60), ("b", 50), ("c", 40)):
            rig.put(f"/bkt/{key}", bytes(size), x_amz_storage_class="GLACIER")
            rig.evict("bkt", key.encode())
        self.assertEqual(rig.ask("POST", "/bkt/a?restore", RESTORE).status, 202)
        answer = rig.ask("POST", "/bkt/b?restore", RESTORE)
        self.refused(answer, "restores")
        self.assertIn("restores under way", text_of(answer.body, "Message") or "")
        self.assertIsNone(rig.version("bkt", b"b").restore)
        self.assertEqual(rig.ask("POST", "/bkt/c?restore", RESTORE).status, 202)
        faster = RESTORE.replace(b"</Days>", b"</Days><Tier>Expedited</Tier>")
        self.assertEqual(rig.ask("POST", "/bkt/c?restore", faster).status, 202)
        self.assertEqual(self.use().restores, 100)
        rig.ask("DELETE", "/bkt/a")
        self.assertEqual(rig.ask("POST", "/bkt/b?restore", RESTORE).status, 202)

    def test_on_disk(self) -> None:
        """A restore of what never left the disk counts as well, and is complete at once."""
        rig = self.begin(restores=50)
        for key in "ab":
            rig.put(f"/bkt/{key}", bytes(50), x_amz_storage_class="GLACIER")
        self.assertEqual(rig.ask("POST", "/bkt/a?restore", RESTORE).status, 202)
        self.assertEqual(rig.ask("GET", "/bkt/a").status, 200)
        self.assertEqual(rig.ask("POST", "/bkt/a?restore", RESTORE).status, 200)
        self.refused(rig.ask("POST", "/bkt/b?restore", RESTORE), "restores")


class ReservationsTests(SynchronousTestCase):
    """What is counted for whom."""

    def setUp(self) -> None:
        """Have a bucket."""
        self.rig = Rig()
        self.rig.put("/bkt")
        self.bucket: Bucket = self.successResultOf(self.rig.store.bucket("bkt"))

    def reservations(self, **defaults: Quotas) -> Reservations:
        """Return those of nobody yet."""
        return Reservations(store=self.rig.store, defaults=DefaultQuotas(**defaults))

    def reserve(
        self, reservations: Reservations, wanted: Use, caller: Caller = ALICE, **more: Any
    ) -> Reserved:
        """Reserve."""
        return self.successResultOf(
            Deferred.fromCoroutine(
                reservations.reserve(caller=caller, bucket=self.bucket, wanted=wanted, **more)
            )
        )

    def test_nobody_is_bounded(self) -> None:
        """Without quotas nobody asks the record, nor counts."""
        reservations = self.reservations()
        self.patch(self.rig.store, "quota_use", None)
        with self.reserve(reservations, Use(kept=1 << 50, objects=1)):
            self.assertEqual(reservations._coming, {})
        of_disk = self.reservations(user=Quotas(staging=5))
        with self.reserve(of_disk, Use(kept=1 << 50, objects=1)):
            self.assertEqual(of_disk._coming, {})

    def test_users(self) -> None:
        """A user's own quota is in the place of the default, in all buckets together; others have theirs."""
        reservations = self.reservations(user=Quotas(kept=10))
        wide = ALICE._replace(quotas=Quotas(kept=20))
        first = self.reserve(reservations, Use(kept=10))
        for caller, size, fits in ((ALICE, 1, False), (wide, 11, False), (wide, 10, True)):
            asked = Deferred.fromCoroutine(
                reservations.reserve(caller=caller, bucket=self.bucket, wanted=Use(kept=size))
            )
            if fits:
                self.successResultOf(asked).__exit__(None, None, None)
            else:
                refusal = self.failureResultOf(asked, S3Error).value
                self.assertIn("coldstore user quota alice --kept", refusal.message)
        bob = Caller(user_id="u-2", name="bob", access_key="B")
        with self.reserve(reservations, Use(kept=10), bob):
            pass
        first.__exit__(None, None, None)
        self.assertEqual(reservations._coming, {})

    def test_a_replaced_one_of_somebody_else(self) -> None:
        """Makes no room for its successor's owner; the bucket has room."""
        self.rig.put("/bkt/k", bytes(10))
        version = self.rig.version("bkt", b"k")

        async def replaced() -> Any:
            return version

        of_bucket = self.reservations(bucket=Quotas(kept=10))
        with self.reserve(of_bucket, Use(kept=10, objects=1), replaced=replaced):
            pass
        bob = Caller(user_id="u-2", name="bob", access_key="B", quotas=Quotas(kept=5))
        of_user = self.reservations()
        asked = of_user.reserve(caller=bob, bucket=self.bucket, wanted=Use(kept=10), replaced=replaced)
        self.failureResultOf(Deferred.fromCoroutine(asked), S3Error)
