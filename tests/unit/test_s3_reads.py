"""Counting reads."""

from collections.abc import Mapping
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.metadata import BATCH_MAX, IMetadataStore
from coldstore.model.errors import MetadataUnavailable
from coldstore.s3.reads import FLUSH_SECONDS, VERSIONS_MAX, ReadCounts


class Noting:
    """A store that only takes notes, when it is let."""

    def __init__(self) -> None:
        self.steps: list[tuple[Mapping[int, int], float]] = []
        self.waiting: list[Deferred[None]] = []

    def note_reads(self, reads: Mapping[int, int], *, at: float) -> "Deferred[None]":
        """See ``IMetadataStore``."""
        self.steps.append((reads, at))
        self.waiting.append(Deferred())
        return self.waiting[-1]


class ReadCountsTests(SynchronousTestCase):
    """``ReadCounts``."""

    def setUp(self) -> None:
        """Count nothing yet."""
        self.clock = Clock()
        self.store = Noting()
        self.counts = ReadCounts(cast(IMetadataStore, cast(Any, self.store)), self.clock)

    def test_a_few(self) -> None:
        """Reads of some seconds are one step, whatever their order; later ones are another."""
        for version_uid in (7, 3, 7):
            self.counts.note(version_uid)
        self.clock.advance(FLUSH_SECONDS - 1)
        self.assertEqual(self.store.steps, [])
        self.clock.advance(1)
        self.counts.note(7)
        self.clock.advance(FLUSH_SECONDS)
        self.assertEqual(self.store.steps, [({3: 1, 7: 2}, FLUSH_SECONDS), ({7: 1}, 2 * FLUSH_SECONDS)])

    def test_many(self) -> None:
        """Steps are given to the store without waiting for one another, in the order of the record: they share transactions."""
        many = 2 * BATCH_MAX + 1
        for version_uid in range(many, 0, -1):
            self.counts.note(version_uid)
        self.clock.advance(FLUSH_SECONDS)
        self.assertEqual([len(reads) for reads, _ in self.store.steps], [BATCH_MAX, BATCH_MAX, 1])
        self.assertEqual([uid for reads, _ in self.store.steps for uid in reads], list(range(1, many + 1)))

    def test_too_many(self) -> None:
        """What is counted at once is bounded; versions that are counted already go on being so."""
        for version_uid in range(VERSIONS_MAX + 5):
            self.counts.note(version_uid)
        self.counts.note(0)
        self.clock.advance(FLUSH_SECONDS)
        self.assertEqual(sum(len(reads) for reads, _ in self.store.steps), VERSIONS_MAX)
        self.assertEqual(self.store.steps[0][0][0], 2)

    def test_store_away(self) -> None:
        """A store that is away costs nothing but counts."""
        for version_uid in range(BATCH_MAX + 1):
            self.counts.note(version_uid)
        self.clock.advance(FLUSH_SECONDS)
        for waiting in self.store.waiting:
            waiting.errback(Failure(MetadataUnavailable("away")))
        self.counts.note(1)
        self.clock.advance(FLUSH_SECONDS)
        self.assertEqual(len(self.store.steps), 3)
        self.assertEqual(self.flushLoggedErrors(), [])
