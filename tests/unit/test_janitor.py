"""What the janitor frees, and when it does not."""

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from coldstore.metadata.sqlite.store import SqliteStore
from coldstore.model.errors import MetadataUnavailable, TakenOver
from coldstore.testing.tenure import SimulatedTenure
from coldstore.work.janitor import Janitor


class RecordingStaging:
    """A disk that notes what was to be freed."""

    def __init__(self) -> None:
        self.freed: list[str] = []

    def discard(self, addresses: Sequence[str]) -> "Deferred[None]":
        """See ``IStaging``."""
        self.freed += addresses
        return succeed(None)


class JanitorTests(SynchronousTestCase):
    """``Janitor``."""

    def setUp(self) -> None:
        """A record with a piece to be freed."""
        self.store = SqliteStore(":memory:")
        self.successResultOf(self.store.open())
        self.addCleanup(self.store.close)
        self.successResultOf(self.store.add_discards(["f-1"]))
        self.tenure = SimulatedTenure()
        self.staging: Any = RecordingStaging()
        self.janitor = Janitor(
            store=self.store,
            staging=self.staging,
            tenure=self.tenure,
            clock=Clock(),
            on_settled=lambda: None,
        )

    def one_round(self) -> float:
        """Have it tidy once."""
        return self.successResultOf(Deferred.fromCoroutine(self.janitor.one_round()))

    def test_frees(self) -> None:
        """What nothing needs is freed, once."""
        self.one_round()
        self.one_round()
        self.assertEqual(self.staging.freed, ["f-1"])

    def test_taken_over(self) -> None:
        """Nothing is freed when another appliance has taken over, or while nobody can tell; then it is tried again soon."""
        for fault in (TakenOver("by machine two"), MetadataUnavailable("away")):
            self.tenure.fault = fault
            rest = self.one_round()
            self.assertEqual(self.staging.freed, [])
        self.tenure.fault = None
        self.assertLess(rest, self.one_round())
        self.assertEqual(self.staging.freed, ["f-1"])
