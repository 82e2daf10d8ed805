"""What RestoreObject does, when copies end, what may be read."""

import json
from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.errors import ObjectIsCold, RestoreInProgress, RestoreNotAllowed
from coldstore.model.objects import (
    ArchiveState,
    ObjectVersion,
    Restore,
    RestorePhase,
    StorageClass,
    Tier,
    VersionFacts,
)
from coldstore.plan.evict import EvictPolicy, Preference, pressure_bytes, victims
from coldstore.plan.messages import iso_time, restore_completed, restore_ended
from coldstore.plan.restore import (
    SECONDS_PER_DAY,
    BeginRestore,
    ExtendRestore,
    RestoreDecision,
    UpgradeRestore,
    check_readable,
    expiry,
    plan_restore,
)

NOW = 1_000_000.0


def version(
    *,
    uid: int = 1,
    restore: Restore | None = None,
    size: int = 10,
    archived_at: float = 0.0,
    read_at: float = 0.0,
    reads: int = 0,
) -> ObjectVersion:
    return ObjectVersion(
        version_uid=uid,
        sequence=uid,
        facts=VersionFacts(
            bucket="b",
            key="ü +/k".encode(),
            version_id="null",
            size_bytes=size,
            etag="e",
            storage_class=StorageClass.GLACIER,
            headers=(),
            user_metadata=(),
            checksum=None,
            crc64nvme=0,
            part_sizes="",
            created_at=0.0,
            owner_id="o",
        ),
        layout_id="l",
        on_disk=True,
        archive_state=ArchiveState.ARCHIVED,
        archived_at=archived_at,
        restore=restore,
        last_read_at=read_at,
        read_count=reads,
        deleted_at=None,
        revision=1,
    )


ONGOING = Restore(phase=RestorePhase.ONGOING, tier=Tier.STANDARD, days=3, requested_at=NOW - 5)
LIVE = replace(ONGOING, phase=RestorePhase.RESTORED, expires_at=NOW + 100)
DEAD = replace(LIVE, expires_at=NOW)


class RestoreTests(SynchronousTestCase):
    """``plan_restore``."""

    def decide(
        self, restore: Restore | None, *, days: int = 3, tier: Tier = Tier.STANDARD, needs: bool = True
    ) -> RestoreDecision:
        return plan_restore(
            NOW, version(restore=restore), days=days, tier=tier, requested_by="u", needs_restore=needs
        )

    def test_first(self) -> None:
        """A cold object without a copy gets a recall; so does one whose copy has expired."""
        for restore in (None, DEAD):
            decision = self.decide(restore)
            self.assertIsInstance(decision, BeginRestore)
            self.assertEqual(decision.restore.requested_at, NOW)

    def test_extension(self) -> None:
        """A live copy gets another expiry from now, longer or shorter."""
        for days in (1, 30):
            decision = self.decide(LIVE, days=days)
            self.assertIsInstance(decision, ExtendRestore)
            self.assertEqual(decision.restore.expires_at, expiry(NOW, days))

    def test_in_progress(self) -> None:
        """A repeated request, a slower tier and other days are refused while a recall runs."""
        for days, tier in ((3, Tier.STANDARD), (3, Tier.BULK), (4, Tier.STANDARD), (4, Tier.EXPEDITED)):
            with self.assertRaises(RestoreInProgress):
                self.decide(ONGOING, days=days, tier=tier)

    def test_upgrade(self) -> None:
        """A faster tier, otherwise unchanged, speeds a recall up; it keeps its place in time."""
        decision = self.decide(ONGOING, tier=Tier.EXPEDITED)
        self.assertIsInstance(decision, UpgradeRestore)
        self.assertEqual((decision.restore.tier, decision.restore.requested_at), (Tier.EXPEDITED, NOW - 5))

    def test_readable_class(self) -> None:
        """An object that is readable at once cannot be restored."""
        with self.assertRaises(RestoreNotAllowed):
            self.decide(None, needs=False)

    def test_reading(self) -> None:
        """Only a live copy of a cold object is read, wherever the bytes are."""
        check_readable(version(restore=LIVE), NOW, needs_restore=True)
        check_readable(version(), NOW, needs_restore=False)
        for restore in (None, ONGOING, DEAD):
            with self.assertRaises(ObjectIsCold):
                check_readable(version(restore=restore), NOW, needs_restore=True)

    def test_expiry_example(self) -> None:
        """15 October 10:30 and three days end on 19 October at midnight UTC, as the user guide says."""
        start = datetime(2026, 10, 15, 10, 30, tzinfo=UTC).timestamp()
        self.assertEqual(datetime.fromtimestamp(expiry(start, 3), UTC), datetime(2026, 10, 19, tzinfo=UTC))

    @given(st.floats(0, 4e9), st.integers(1, 30_000))
    def test_never_less(self, start: float, days: int) -> None:
        """A copy lives for its days at least and one day more at most, and ends at midnight."""
        end = expiry(start, days)
        self.assertGreaterEqual(end, start + days * SECONDS_PER_DAY)
        self.assertLess(end, start + (days + 1) * SECONDS_PER_DAY)
        self.assertEqual(end % SECONDS_PER_DAY, 0)


class EvictTests(SynchronousTestCase):
    """``victims`` and ``pressure_bytes``."""

    POLICY = EvictPolicy(linger_seconds=100, high_fraction=0.8, low_fraction=0.5, preference=Preference.LRU)

    def test_lingering(self) -> None:
        """Without pressure only those go whose lingering is over, counted from the last read."""
        over, read, fresh = version(uid=1), version(uid=2, read_at=950), version(uid=3, archived_at=950)
        self.assertEqual(victims(1000, [over, read, fresh], self.POLICY, pressure_bytes=0), [over])

    def test_pressure(self) -> None:
        """Under pressure the least recently used go first, and no more than needed."""
        fresh = [version(uid=uid, archived_at=990 - uid, size=10) for uid in range(4)]
        chosen = victims(1000, fresh, self.POLICY, pressure_bytes=15)
        self.assertEqual([v.version_uid for v in chosen], [3, 2])

    def test_frequency(self) -> None:
        """LFU spares what is read often."""
        policy = replace(self.POLICY, preference=Preference.LFU)
        often, seldom = version(uid=1, archived_at=950, reads=9), version(uid=2, archived_at=990, reads=1)
        self.assertEqual(victims(1000, [often, seldom], policy, pressure_bytes=5), [seldom])

    def test_marks(self) -> None:
        """Pressure begins above the high mark and ends at the low one."""
        self.assertEqual(pressure_bytes(self.POLICY, used_bytes=80, capacity_bytes=100), 0)
        self.assertEqual(pressure_bytes(self.POLICY, used_bytes=81, capacity_bytes=100), 31)


class MessageTests(SynchronousTestCase):
    """Event records."""

    def test_completed(self) -> None:
        """A completed restore tells when it ends; the key is form-encoded, the event name has no s3:."""
        message = restore_completed(version(), at=0.0, region="us-east-1", expires_at=86_400.0)
        (record,) = json.loads(message.body)["Records"]
        self.assertEqual(
            (message.event, record["eventName"]), ("s3:ObjectRestore:Completed", "ObjectRestore:Completed")
        )
        self.assertEqual(record["s3"]["object"]["key"], "%C3%BC+%2B/k")
        self.assertEqual(
            record["glacierEventData"]["restoreEventData"]["lifecycleRestorationExpiryTime"],
            "1970-01-02T00:00:00.000Z",
        )
        self.assertNotIn("versionId", record["s3"]["object"])

    def test_age(self) -> None:
        """A message is as old as the fact that it tells: its patience begins there."""
        self.assertEqual(restore_completed(version(), at=7.0, region="r", expires_at=8.0).created_at, 7.0)
        self.assertEqual(restore_ended(version(), at=7.0, region="r").created_at, 7.0)

    def test_expired(self) -> None:
        """The end of a copy has schema 2.3 and no restore data."""
        (record,) = json.loads(restore_ended(version(), at=0.0, region="r").body)["Records"]
        self.assertEqual(record["eventVersion"], "2.3")
        self.assertNotIn("glacierEventData", record)

    def test_time(self) -> None:
        """Times have milliseconds."""
        self.assertEqual(iso_time(0.5), "1970-01-01T00:00:00.500Z")
