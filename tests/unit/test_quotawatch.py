"""What an operator is told of quotas that are nearly used up."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.events import Severity
from coldstore.model.quotas import QuotaKind, Quotas
from coldstore.plan.quota import DefaultQuotas
from coldstore.work.quotawatch import KIND, REST_SECONDS, TOLD_MAX, QuotaWatch
from tests.unit.s3_rig import Rig


class QuotaWatchTests(SynchronousTestCase):
    """The loop."""

    def setUp(self) -> None:
        """Have a bucket, and a watch."""
        self.rig = Rig()
        self.rig.put("/bkt")
        self.watch = self.watching(DefaultQuotas())

    def watching(self, defaults: DefaultQuotas) -> QuotaWatch:
        """Return a watch."""
        return QuotaWatch(store=self.rig.store, clock=Clock(), defaults=defaults)

    def bound(self, bucket: str = "bkt", **quotas: int | None) -> None:
        """Give a bucket quotas."""
        wanted = {QuotaKind(name): quota for name, quota in quotas.items()}
        self.successResultOf(self.rig.store.set_bucket_quotas(name=bucket, quotas=wanted))

    def look(self, watch: QuotaWatch | None = None) -> dict[str, str]:
        """Have a round; return the open alerts by subject."""
        rest = self.successResultOf(Deferred.fromCoroutine((watch or self.watch).one_round()))
        self.assertEqual(rest, REST_SECONDS)
        found = self.successResultOf(self.rig.store.alerts(include_cleared=False, limit=999))
        self.assertEqual(
            {(alert.kind, alert.severity) for alert in found} - {(KIND, Severity.WARNING)}, set()
        )
        return {alert.subject: alert.sentence for alert in found}

    def test_nothing(self) -> None:
        """Who has no quota, or enough of one, is not spoken of; nor is the staging disk, which is there to be full."""
        self.rig.put("/bkt/k", bytes(89))
        self.assertEqual(self.look(), {})
        self.bound(kept=100, objects=2, staging=89)
        self.assertEqual(self.look(), {})

    def test_nearly_full(self) -> None:
        """At nine tenths it is told once, with what helps; it is over when clearly less is used, or more may be."""
        self.bound(kept=100, objects=1)
        self.rig.put("/bkt/k", bytes(89))
        told = self.look()
        sentence = told["objects quota of bucket bkt"]
        self.assertIn("90% of what bucket bkt may have is used (objects)", sentence)
        self.assertIn("`coldstore bucket quota bkt --objects` gives more", sentence)
        self.bound(objects=5)
        self.assertEqual(self.look(), {})
        self.rig.put("/bkt/k", bytes(90))
        self.assertEqual(list(self.look()), ["kept quota of bucket bkt"])
        self.rig.put("/bkt/k", bytes(86))
        self.assertEqual(list(self.look()), ["kept quota of bucket bkt"])
        self.rig.put("/bkt/k", bytes(84))
        self.assertEqual(self.look(), {})
        self.rig.put("/bkt/k", bytes(86))
        self.assertEqual(self.look(), {})
        self.assertEqual(len(self.successResultOf(self.rig.store.alerts(include_cleared=True, limit=9))), 2)

    def test_many(self) -> None:
        """Of many the fullest are told."""
        for number in range(TOLD_MAX + 2):
            self.rig.put(f"/many-{number:03}")
            self.rig.put(f"/many-{number:03}/k", bytes(10 if number else 11))
        told = self.look(self.watching(DefaultQuotas(bucket=Quotas(kept=10))))
        self.assertEqual(len(told), TOLD_MAX)
        self.assertIn("kept quota of bucket many-000", told)
