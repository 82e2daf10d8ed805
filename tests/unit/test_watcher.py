"""What an operator is told of a disk that runs full."""

from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from coldstore.metadata.sqlite.store import SqliteStore
from coldstore.model.errors import MetadataFull
from coldstore.plan.shortage import GIB, MIB, DiskFacts, shortages
from coldstore.testing.staging import SimulatedStaging
from coldstore.work.watcher import KIND, Watcher

FINE = DiskFacts(
    capacity_bytes=64 * GIB,
    used_bytes=40 * GIB,
    upload_room_bytes=10 * GIB,
    waiting_bytes=30 * GIB,
    record_free_bytes=GIB,
    record_path="/var/lib/coldstore/metadata.sqlite",
)


class ShortageTests(SynchronousTestCase):
    """What is short."""

    def test_nothing(self) -> None:
        """A disk with room is not spoken of."""
        self.assertEqual(shortages(FINE), {})

    def test_staging(self) -> None:
        """Uploads that are refused are told with the reason why the room does not come back by itself."""
        full = replace(FINE, used_bytes=55 * GIB, upload_room_bytes=100 * MIB)
        (sentence,) = shortages(full).values()
        self.assertIn("55 GiB of 64 GiB are in use: uploads are refused (503 SlowDown)", sentence)
        self.assertIn("30 GiB of it are not on every tape yet", sentence)
        (sentence,) = shortages(replace(full, waiting_bytes=GIB)).values()
        self.assertIn("stays by the rules of its storage classes", sentence)

    def test_staging_takes_nothing(self) -> None:
        """A disk that cannot be written since the start is told with the reason."""
        (sentence,) = shortages(
            replace(FINE, staging_trouble="/srv takes nothing since the start: full")
        ).values()
        self.assertTrue(sentence.startswith("/srv takes nothing since the start: full: uploads"), sentence)

    def test_metadata(self) -> None:
        """A file system that leaves the record no room is told by its path."""
        found = shortages(replace(FINE, record_free_bytes=5 * MIB))
        self.assertEqual(list(found), ["metadata"])
        self.assertIn("of /var/lib/coldstore/metadata.sqlite has 5 MiB left", found["metadata"])

    def test_metadata_on_a_server(self) -> None:
        """The disks of a server that keeps the record are not spoken of."""
        self.assertEqual(shortages(replace(FINE, record_free_bytes=None)), {})


class WatcherTests(SynchronousTestCase):
    """The loop."""

    def setUp(self) -> None:
        self.store = SqliteStore(":memory:")
        self.successResultOf(self.store.open())
        self.staging = SimulatedStaging(capacity_bytes=1000)
        self.staging.start()
        self.free_bytes = GIB
        self.watcher = Watcher(
            store=self.store,
            staging=self.staging,
            clock=Clock(),
            record_path="/state/metadata.sqlite",
            record_free_bytes=lambda: self.free_bytes,
        )

    def look(self) -> list[str]:
        """Have a round; return the subjects of open alerts."""
        self.successResultOf(Deferred.fromCoroutine(self.watcher.one_round()))
        alerts = self.successResultOf(self.store.alerts(include_cleared=False, limit=9))
        self.assertEqual({alert.kind for alert in alerts} - {KIND}, set())
        self.assertLessEqual({alert.count for alert in alerts}, {1})
        return [alert.subject for alert in alerts]

    def test_while_it_lasts(self) -> None:
        """An alert opens once with the shortage and closes by itself with it; the log tells both."""
        self.assertEqual(self.look(), [])
        incoming = self.staging.receive(size_bytes=999, algorithms=frozenset())
        with capturedLogs() as told:
            self.assertEqual(self.look(), ["staging"])
            self.assertEqual(self.look(), ["staging"])
            incoming.abandon()
            self.assertEqual(self.look(), [])
        self.assertEqual([event["log_level"] for event in told], [LogLevel.error, LogLevel.info])
        self.assertEqual(self.watcher.problems, ())

    def test_what_cannot_be_recorded(self) -> None:
        """When the record has no room for the alert, it is a problem that the status tells, and an alert once there is room."""
        self.free_bytes = 1
        real = self.store.raise_alert
        self.patch(self.store, "raise_alert", lambda **_: fail(MetadataFull("no room")))
        failed: Any = self.failureResultOf(Deferred.fromCoroutine(self.watcher.one_round()), MetadataFull)
        self.assertIn("no room", str(failed.value))
        (problem,) = self.watcher.problems
        self.assertIn("/state/metadata.sqlite has 0 MiB left", problem)
        self.patch(self.store, "raise_alert", real)
        self.assertEqual(self.look(), ["metadata"])
        self.assertEqual(self.watcher.problems, ())
        self.free_bytes = GIB
        self.assertEqual(self.look(), [])
