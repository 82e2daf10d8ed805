"""Who may send bytes now: fairness, quotas, room, and that all of it is told before the body."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.staging import IIncoming
from coldstore.metadata.sqlite.store import SqliteStore
from coldstore.model.errors import StagingFull
from coldstore.model.objects import Bucket, StorageClass
from coldstore.model.precedence import Precedence, Shares
from coldstore.model.quotas import UNLIMITED, QuotaKind, Quotas
from coldstore.plan.quota import DefaultQuotas
from coldstore.s3.admission import Admission, Admitted
from coldstore.s3.call import Caller
from coldstore.s3.errors import S3Error
from coldstore.testing.staging import SimulatedStaging
from tests.unit.s3_rig import RULES, Rig, text_of
from tests.unit.s3_wire import ParsedAnswer, message, request_bytes, signed_headers

GLACIER, STANDARD = StorageClass.GLACIER, StorageClass.STANDARD
KIB = 1024
ALICE = Caller(user_id="u-1", name="alice", access_key="A")
BOB = Caller(user_id="u-2", name="bob", access_key="B")


def defaults(*, user_bytes: int | None = None, bucket_bytes: int | None = None) -> DefaultQuotas:
    """Return quotas on the staging disk for everybody."""
    return DefaultQuotas(user=Quotas(staging=user_bytes), bucket=Quotas(staging=bucket_bytes))


class AdmissionTests(SynchronousTestCase):
    """The decisions."""

    def admission(
        self, *, capacity_bytes: int = 1000, shares: Shares | None = None, **quotas: int
    ) -> Admission:
        """One over a disk of so many bytes."""
        self.store = SqliteStore(":memory:")
        self.successResultOf(self.store.open())
        self.bucket = self.made_bucket("bkt")
        self.staging = SimulatedStaging(capacity_bytes=capacity_bytes, shares=shares)
        self.staging.start()
        self.wanted: list[int] = []
        return Admission(
            store=self.store,
            staging=self.staging,
            rules=RULES,
            defaults=defaults(**quotas),
            room_wanted=self.wanted.append,
        )

    def made_bucket(self, name: str, owner_id: str = "u-1") -> Bucket:
        """Make a bucket."""
        return self.successResultOf(
            self.store.create_bucket(
                name=name, owner_id=owner_id, region="r", created_at=1.0, default_class=None
            )
        )

    def admit(
        self,
        admission: Admission,
        size_bytes: int,
        *,
        caller: Caller = ALICE,
        bucket: Bucket | None = None,
        storage_class: StorageClass = GLACIER,
        precedence: Precedence = Precedence.NEW_UPLOAD,
    ) -> "Deferred[Admitted]":
        """Ask."""
        return Deferred.fromCoroutine(
            admission.admit(
                caller=caller,
                bucket=bucket or self.bucket,
                size_bytes=size_bytes,
                storage_class=storage_class,
                precedence=precedence,
            )
        )

    def admitted(self, admission: Admission, size_bytes: int, **more: Any) -> tuple[Admitted, IIncoming]:
        """Be admitted, and begin."""
        found = self.successResultOf(self.admit(admission, size_bytes, **more))
        return found, found.receive(frozenset())

    def refused(self, admission: Admission, size_bytes: int, **more: Any) -> S3Error:
        """Be refused."""
        return self.failureResultOf(self.admit(admission, size_bytes, **more), S3Error).value

    def test_without_quotas(self) -> None:
        """Who has no quota is bounded by the disk alone, and nobody asks the record."""
        admission = self.admission()
        self.patch(self.store, "staging_use", None)
        first, _ = self.admitted(admission, 1000)
        second = self.successResultOf(self.admit(admission, 1, caller=BOB))
        self.assertRaises(StagingFull, second.receive, frozenset())
        self.assertEqual(self.wanted, [1])
        for each in (first, second):
            each.__exit__(None, None, None)

    def test_what_arrives_counts(self) -> None:
        """Bytes on their way count against quotas from the moment they are let in until they have a record."""
        admission = self.admission(user_bytes=100)
        first, _ = self.admitted(admission, 60)
        refusal = self.refused(admission, 41)
        self.assertEqual(
            (refusal.code, refusal.status, refusal.headers["Retry-After"]), ("SlowDown", 503, "30")
        )
        self.assertIn("user alice may have 100 bytes on the staging disk and has 60", refusal.message)
        self.assertEqual(self.wanted, [0])
        second, _ = self.admitted(admission, 40)
        other, _ = self.admitted(admission, 100, caller=BOB)
        first.__exit__(None, None, None)
        self.admitted(admission, 60)
        self.assertEqual(self.refused(admission, 1, caller=BOB).code, "SlowDown")
        del second, other

    def test_nothing_helps(self) -> None:
        """More than a quota takes at all, or beside what stays on the disk, is refused for good."""
        admission = self.admission(bucket_bytes=100)
        self.assertEqual(self.refused(admission, 101).code, "QuotaExceeded")
        self.admitted(admission, 70, storage_class=STANDARD)
        refusal = self.refused(admission, 31)
        self.assertEqual((refusal.code, refusal.status, refusal.headers), ("QuotaExceeded", 403, {}))
        self.assertIn(
            "The quota of bucket bkt is 100 bytes on the staging disk: 70 are used", refusal.message
        )
        self.assertEqual(self.wanted, [])

    def test_own_quotas(self) -> None:
        """A user's or a bucket's own quota stands in for the default, upwards and downwards."""
        admission = self.admission(user_bytes=10, bucket_bytes=10)
        wide = self.made_bucket("wide")
        for quota in (UNLIMITED, 500):
            wide = self.successResultOf(
                self.store.set_bucket_quotas(name="wide", quotas={QuotaKind.STAGED: quota})
            )
            caller = Caller(user_id="u-1", name="alice", access_key="A", quotas=Quotas(staging=quota))
            found, _ = self.admitted(admission, 400, caller=caller, bucket=wide)
            found.__exit__(None, None, None)
        caller = Caller(user_id="u-1", name="alice", access_key="A", quotas=Quotas(staging=0))
        self.assertEqual(self.refused(admission, 1, caller=caller).code, "QuotaExceeded")
        closed = self.successResultOf(self.store.set_bucket_quotas(name="wide", quotas={QuotaKind.STAGED: 5}))
        self.assertIn("bucket wide", self.refused(admission, 6, bucket=closed).message)

    def test_empty(self) -> None:
        """What has no bytes needs no room."""
        admission = self.admission(user_bytes=1)
        self.admitted(admission, 1)
        self.successResultOf(self.admit(admission, 0))

    def test_a_failed_look_counts_nothing(self) -> None:
        """When the record cannot be asked, nothing stays counted."""
        admission = self.admission(user_bytes=100)
        self.patch(self.store, "staging_use", lambda **_: 1 // 0)
        self.failureResultOf(self.admit(admission, 60), ZeroDivisionError)
        self.assertEqual(admission._arriving, {})

    def test_fairness(self) -> None:
        """A user with something arriving must leave a third of it free; others, and what comes alone, need not."""
        admission = self.admission()
        first, _ = self.admitted(admission, 600)
        refusal = self.refused(admission, 151)
        self.assertEqual((refusal.code, refusal.headers["Retry-After"]), ("SlowDown", "30"))
        self.assertIn("has room for 400 bytes more, and 600 are arriving from user alice", refusal.message)
        self.assertEqual(self.wanted, [151])
        self.admitted(admission, 150)
        other, _ = self.admitted(admission, 250, caller=BOB)
        self.assertEqual(self.refused(admission, 1).code, "SlowDown")
        other.__exit__(None, None, None)
        del first

    def test_precedence(self) -> None:
        """A further part may come where a new object may not, and is measured by its own room."""
        admission = self.admission(shares=Shares(begun=0.2, recall=0.1))
        self.admitted(admission, 700, caller=BOB)
        new = self.successResultOf(self.admit(admission, 10))
        self.assertRaises(StagingFull, new.receive, frozenset())
        for _ in range(2):
            self.admitted(admission, 40, precedence=Precedence.BEGUN_UPLOAD)

    def test_restores(self) -> None:
        """What restores will bring counts from the request on, against the same quotas."""
        admission = self.admission(user_bytes=100)

        def ask(size_bytes: int) -> "Deferred[Admitted]":
            return Deferred.fromCoroutine(
                admission.admit_restore(
                    caller=ALICE, bucket=self.bucket, size_bytes=size_bytes, storage_class=GLACIER
                )
            )

        with self.successResultOf(ask(70)):
            self.assertEqual(self.failureResultOf(ask(31), S3Error).value.code, "SlowDown")
            self.assertEqual(self.failureResultOf(ask(101), S3Error).value.code, "QuotaExceeded")
        with self.successResultOf(ask(100)):
            self.assertEqual(self.refused(admission, 1).code, "SlowDown")


class WireTests(SynchronousTestCase):
    """Clients are told before they send a body, and what was sent is counted to the byte."""

    def rig(self, **options: Any) -> Rig:
        """An endpoint with a bucket."""
        rig = Rig(**options)
        self.assertEqual(rig.put("/bkt").status, 200)
        return rig

    def expecting(self, rig: Rig, target: str, size_bytes: int, **headers: str) -> ParsedAnswer:
        """Announce a body, wait to be told to send it, and return the answer."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        signed = signed_headers("PUT", target, sent, payload="UNSIGNED-PAYLOAD")
        signed |= {"expect": "100-continue", "content-length": str(size_bytes)}
        written = rig.wire().send(message("PUT", target, signed))
        self.assertNotIn(b"100 Continue", written)
        return ParsedAnswer.of(written)

    def test_put_and_parts(self) -> None:
        """Objects, parts and copies count; what is over the quota is refused before its body, and nothing is reserved."""
        rig = self.rig(quotas=defaults(user_bytes=100 * KIB))
        self.assertEqual(rig.put("/bkt/a", bytes(60 * KIB), x_amz_storage_class="GLACIER").status, 200)
        self.assertEqual(rig.put("/bkt/b", bytes(30 * KIB)).status, 200)
        for size, code, status in ((20 * KIB, "SlowDown", 503), (80 * KIB, "QuotaExceeded", 403)):
            answer = self.expecting(rig, "/bkt/c", size)
            self.assertEqual((answer.code, answer.status), (code, status))
        answer = rig.ask("POST", "/bkt/m?uploads")
        upload_id = text_of(answer.body, "UploadId")
        part = f"/bkt/m?partNumber=1&uploadId={upload_id}"
        self.assertEqual(self.expecting(rig, part, 20 * KIB).code, "SlowDown")
        self.assertEqual(rig.put(part, bytes(10 * KIB)).status, 200)
        self.assertEqual(rig.put("/bkt/d", x_amz_copy_source="/bkt/b").code, "SlowDown")
        self.assertEqual(rig.staging.usage().reserved_bytes, 0)
        self.assertEqual(rig.put("/bkt/empty").status, 200)
        self.assertEqual(rig.ask("DELETE", "/bkt/a").status, 204)
        while found := self.successResultOf(rig.store.discards(40)):
            self.successResultOf(rig.store.forget_discards([one.discard_id for one in found]))
        self.assertEqual(rig.put("/bkt/d", x_amz_copy_source="/bkt/b").status, 200)
        self.assertEqual(rig.operations._services.admission._arriving, {})

    def test_a_client_that_leaves(self) -> None:
        """A body that breaks off, or is not what was promised, gives its place in the quota back."""
        rig = self.rig(quotas=defaults(user_bytes=100))
        wire = rig.wire()
        wire.send(request_bytes("PUT", "/bkt/k", {}, bytes(90))[:-10])
        self.assertEqual(self.expecting(rig, "/bkt/c", 20).code, "QuotaExceeded")
        wire.lose()
        self.assertEqual(
            rig.put("/bkt/c", bytes(95), content_md5="AAAAAAAAAAAAAAAAAAAAAA==").code, "BadDigest"
        )
        self.assertEqual(rig.put("/bkt/c", bytes(100)).status, 200)

    def test_restore(self) -> None:
        """A restore from tape counts against the quota; one of bytes that never left the disk counts nothing more."""
        rig = self.rig(quotas=defaults(bucket_bytes=100))
        request = b"<RestoreRequest><Days>1</Days></RestoreRequest>"
        for key, size in (("cold", 40), ("warm", 80)):
            self.assertEqual(rig.put(f"/bkt/{key}", bytes(size), x_amz_storage_class="GLACIER").status, 200)
            if key == "cold":
                rig.evict("bkt", b"cold")
        self.assertEqual(rig.ask("POST", "/bkt/warm?restore", request).status, 202)
        answer = rig.ask("POST", "/bkt/cold?restore", request)
        self.assertEqual((answer.status, answer.code), (503, "SlowDown"))
        rig.ask("DELETE", "/bkt/warm")
        self.successResultOf(rig.store.discards(9))
        self.assertEqual(rig.ask("POST", "/bkt/cold?restore", request).status, 202)
        self.assertEqual(self.expecting(rig, "/bkt/k", 61).code, "SlowDown")
        self.assertEqual(rig.put("/bkt/k", bytes(60)).status, 200)

    def test_room(self) -> None:
        """Who lacks room makes it known, so that it can be made."""
        rig = self.rig(capacity_bytes=100)
        self.assertEqual(self.expecting(rig, "/bkt/k", 101).code, "SlowDown")
        self.assertEqual(rig.room_wanted, [101])
