"""What is under lock, and how a lock may change."""

import math
from datetime import UTC, datetime
from itertools import product

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.locks import UNLOCKED, BucketLock, DefaultRetention, Lock, LockMode, Retention
from coldstore.plan.lock import (
    LEEWAY_SECONDS,
    PACE,
    bypassed,
    in_milliseconds,
    is_loosened,
    is_protected,
    kept_until,
    lock_time,
    new_lock,
    paced,
    retention_text,
    why,
)
from coldstore.plan.messages import iso_time

GOVERNANCE, COMPLIANCE = LockMode
NOW = 1_000_000.0
times = st.floats(0, 4e9)
retentions = st.builds(Retention, mode=st.sampled_from(LockMode), until=times)
locks = st.builds(Lock, retention=st.none() | retentions, legal_hold=st.sampled_from((None, False, True)))


def seconds(*date: int) -> float:
    """Unix seconds of a date."""
    return datetime(*date, tzinfo=UTC).timestamp()  # type: ignore[arg-type]


class ProtectionTests(SynchronousTestCase):
    """What may not be deleted."""

    def test_table(self) -> None:
        """Holds and COMPLIANCE bind everybody, GOVERNANCE who does not bypass it, a retention until it ends."""
        for retention, hold, free, bypass in (
            (None, None, False, False),
            (None, False, False, False),
            (None, True, True, True),
            (Retention(GOVERNANCE, NOW + 1), None, True, False),
            (Retention(GOVERNANCE, NOW + 1), True, True, True),
            (Retention(GOVERNANCE, NOW), None, False, False),
            (Retention(COMPLIANCE, NOW + 1), False, True, True),
            (Retention(COMPLIANCE, NOW), False, False, False),
        ):
            lock = Lock(retention, hold)
            self.assertEqual(is_protected(lock, NOW), free, lock)
            self.assertEqual(is_protected(lock, NOW, bypass=True), bypass, lock)
            self.assertEqual(bypassed(lock, NOW), free and not bypass, lock)

    @given(locks, times, times, st.booleans())
    def test_time_only_frees(self, lock: Lock, one: float, other: float, bypass: bool) -> None:
        """What is free stays free; the bypass protects nothing more."""
        early, late = sorted((one, other))
        self.assertLessEqual(
            is_protected(lock, late, bypass=bypass), is_protected(lock, early, bypass=bypass)
        )
        self.assertLessEqual(is_protected(lock, early, bypass=True), is_protected(lock, early))

    def test_why(self) -> None:
        """A refusal says until when."""
        lock = Lock(Retention(COMPLIANCE, 0.5), legal_hold=True)
        self.assertEqual(
            why(lock),
            "it is under legal hold and it is retained in COMPLIANCE mode until 1970-01-01T00:00:00.500Z",
        )
        self.assertEqual(why(UNLOCKED), "")
        self.assertEqual(retention_text(None), "no mode")


class ChangeTests(SynchronousTestCase):
    """How a retention may change."""

    @given(st.none() | retentions, st.none() | retentions, times, times, st.booleans())
    def test_compliance(
        self, before: Retention | None, after: Retention | None, now: float, later: float, bypass: bool
    ) -> None:
        """A change that is none of loosening leaves protected, at any time, what COMPLIANCE protected."""
        if is_loosened(before, after, now, bypass=bypass):
            self.assertTrue(before is not None and before.until > now)
            return
        if before is not None and before.mode is COMPLIANCE and before.until > now and later >= now:
            for bypasses in (False, True):
                self.assertLessEqual(
                    is_protected(Lock(before), later, bypass=bypasses),
                    is_protected(Lock(after), later, bypass=bypasses),
                )

    def test_table(self) -> None:
        """Extending is free; of GOVERNANCE all else takes the bypass, of COMPLIANCE nothing helps; what has ended binds nobody."""
        sooner, later = NOW + 1, NOW + 9
        for mode, other, until, bypass in product(LockMode, LockMode, (sooner, later), (False, True)):
            binds = mode is COMPLIANCE or not bypass
            self.assertEqual(
                is_loosened(Retention(mode, until), Retention(other, later), NOW, bypass=bypass),
                mode is not other and binds,
            )
            self.assertEqual(
                is_loosened(Retention(mode, later), Retention(other, until), NOW, bypass=bypass),
                (mode is not other or until < later) and binds,
            )
        for mode in LockMode:
            self.assertFalse(is_loosened(Retention(mode, NOW), None, NOW, bypass=False))
            self.assertTrue(is_loosened(Retention(mode, later), None, NOW, bypass=False))
        self.assertFalse(is_loosened(None, None, NOW, bypass=False))


class ClockTests(SynchronousTestCase):
    """Which time it is."""

    def test_lock_time(self) -> None:
        """The time of day, as long as it is not far ahead of the time that was measured."""
        self.assertEqual(lock_time(NOW, None), NOW)
        self.assertEqual(lock_time(NOW, NOW - LEEWAY_SECONDS), NOW)
        self.assertEqual(lock_time(NOW, NOW - LEEWAY_SECONDS - 1), NOW - 1)
        self.assertEqual(lock_time(NOW, NOW + 5), NOW)

    @given(times, times, st.floats(-1e6, 1e6))
    def test_paced(self, reached_at: float, now: float, elapsed: float) -> None:
        """It never goes back, never beyond the time of day, and never faster than its pace."""
        after = paced(reached_at, now=now, elapsed_seconds=elapsed)
        self.assertGreaterEqual(after, reached_at)
        self.assertLessEqual(after, max(reached_at, now))
        self.assertLessEqual(after, reached_at + PACE * max(0.0, elapsed))

    def test_catching_up(self) -> None:
        """After a week of rest it has caught up in a week."""
        week = 7 * 86_400.0
        self.assertEqual(paced(NOW, now=NOW + 2 * week, elapsed_seconds=week), NOW + 2 * week)


class NewTests(SynchronousTestCase):
    """The lock of what comes into being."""

    def test_default(self) -> None:
        """The bucket's, unless the writer names a retention."""
        bucket = BucketLock(DefaultRetention(GOVERNANCE, days=3))
        own = Lock(Retention(COMPLIANCE, 5.0), legal_hold=False)
        self.assertEqual(new_lock(own, bucket, NOW), own)
        self.assertEqual(new_lock(own, BucketLock(), NOW), own)
        self.assertEqual(new_lock(UNLOCKED, BucketLock(), NOW), UNLOCKED)
        self.assertEqual(
            new_lock(Lock(legal_hold=True), bucket, NOW),
            Lock(Retention(GOVERNANCE, NOW + 3 * 86_400), legal_hold=True),
        )

    def test_years(self) -> None:
        """Years are those of the calendar; a day that a year has not is the next one."""
        for begins, years, ends in (
            ((2026, 3, 1, 12), 1, (2027, 3, 1, 12)),
            ((2027, 3, 1), 1, (2028, 3, 1)),
            ((2028, 2, 29), 1, (2029, 3, 1)),
            ((2028, 2, 29), 4, (2032, 2, 29)),
            ((2026, 12, 31), 100, (2126, 12, 31)),
        ):
            bucket = BucketLock(DefaultRetention(COMPLIANCE, years=years))
            lock = new_lock(UNLOCKED, bucket, seconds(*begins))
            self.assertEqual(lock.retention, Retention(COMPLIANCE, seconds(*ends)))

    @given(times)
    def test_milliseconds(self, at: float) -> None:
        """What is shown is what is kept, to the millisecond, and not before what was meant."""
        kept = in_milliseconds(at)
        self.assertLess(abs(kept - at), 0.00101)
        self.assertGreaterEqual(kept, at - 1e-6)
        shown = datetime.fromisoformat(iso_time(kept)).timestamp()
        self.assertEqual(in_milliseconds(shown), kept)


class KeptTests(SynchronousTestCase):
    """Until when something is kept."""

    def test_kept_until(self) -> None:
        """A retention says when it ends, and a legal hold does not; what has ended keeps nothing."""
        retention = Retention(LockMode.GOVERNANCE, 10.0)
        self.assertEqual(kept_until(Lock(retention), 9.0), 10.0)
        self.assertIsNone(kept_until(Lock(retention), 10.0))
        self.assertEqual(kept_until(Lock(retention, legal_hold=True), 9.0), math.inf)
        self.assertIsNone(kept_until(Lock(legal_hold=False), 9.0))
