"""The loop that keeps the time by which retentions end."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from coldstore.metadata.sqlite.store import SqliteStore
from coldstore.model.errors import MetadataUnavailable
from coldstore.model.locks import BucketLock
from coldstore.plan.lock import LEEWAY_SECONDS
from coldstore.work.lockclock import KIND, REST_SECONDS, LockClock
from tests.unit.work_rig import FailingStore

NOW = 1_000_000.0


class LockClockTests(SynchronousTestCase):
    """It counts what was measured, whatever the time of day is said to be."""

    def setUp(self) -> None:
        self.store = SqliteStore(":memory:")
        self.successResultOf(self.store.open())
        self.clock = Clock()
        self.clock.advance(NOW)
        self.measured = 5.0
        self.keeper = self.keeper_on(self.store)

    def keeper_on(self, store: object) -> LockClock:
        """One that begins now."""
        return LockClock(store=store, clock=self.clock, ticks=lambda: self.measured)  # type: ignore[arg-type]

    def lock(self) -> None:
        """Have a bucket take locks."""
        self.successResultOf(
            self.store.create_bucket(
                name="b",
                owner_id="o",
                region="r",
                created_at=self.clock.seconds(),
                default_class=None,
                object_lock=BucketLock(),
            )
        )

    def go(self, seconds: float, *, set_ahead: float = 0.0, keeper: LockClock | None = None) -> float:
        """Let time pass, maybe set the clock, and have a round; return the time of locks."""
        self.measured += seconds
        self.clock.advance(seconds + set_ahead)
        round_ = Deferred.fromCoroutine((keeper or self.keeper).one_round())
        self.assertEqual(self.successResultOf(round_), REST_SECONDS)
        reached_at = self.successResultOf(self.store.advance_lock_clock(now=0.0, elapsed_seconds=0.0))
        return 0.0 if reached_at is None else reached_at

    def alerts(self) -> list[str]:
        """The kinds of alerts that are open."""
        return [one.kind for one in self.successResultOf(self.store.alerts(include_cleared=False, limit=9))]

    def test_nothing_locked(self) -> None:
        """Without a bucket that takes locks nothing is kept, and nothing told."""
        self.assertEqual(self.go(60, set_ahead=1e9), 0.0)
        self.assertEqual(self.alerts(), [])

    def test_on_a_quiet_day(self) -> None:
        """It is the time of day."""
        self.lock()
        for passed in (300, 600, 900):
            self.assertEqual(self.go(300), NOW + passed)
        self.assertEqual(self.alerts(), [])

    def test_set_ahead(self) -> None:
        """It goes on at twice its pace and no faster; an alert says so, once, until both are the same again."""
        self.lock()
        self.assertEqual(self.go(100, set_ahead=LEEWAY_SECONDS + 500), NOW + 200)
        self.assertEqual(self.alerts(), [KIND])
        self.assertEqual(self.go(100), NOW + 400)
        (alert,) = self.successResultOf(self.store.alerts(include_cleared=False, limit=9))
        self.assertEqual(alert.count, 1)
        self.assertIn("1970-01-12T13:50:00.000Z by what was measured", alert.sentence)
        self.assertEqual(self.go(LEEWAY_SECONDS), NOW + 400 + 2 * LEEWAY_SECONDS)
        self.assertEqual(self.alerts(), [])

    def test_set_back(self) -> None:
        """It does not go back."""
        self.lock()
        self.go(100)
        self.clock.rightNow -= 5000.0  # type: ignore[attr-defined]
        self.assertEqual(self.go(100), NOW + 100)

    def test_off_for_long(self) -> None:
        """What was not measured does not count: a new run begins where the last one ended, and catches up."""
        self.lock()
        self.go(100)
        self.clock.advance(1e6)
        self.measured = 77.0
        keeper = self.keeper_on(self.store)
        self.assertEqual(self.go(0, keeper=keeper), NOW + 100)
        self.assertEqual(self.alerts(), [KIND])
        self.assertEqual(self.go(300, keeper=keeper), NOW + 700)

    def test_store_away(self) -> None:
        """What was measured while the store could not be reached is counted later."""
        self.lock()
        store = FailingStore(self.store, fails_at=1)
        keeper = self.keeper_on(store)
        self.measured += 100.0
        self.clock.advance(100.0)
        self.failureResultOf(Deferred.fromCoroutine(keeper.one_round()), MetadataUnavailable)
        self.assertEqual(self.go(100, keeper=keeper), NOW + 200)
