"""Noting when access keys are used."""

from collections.abc import Mapping
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.metadata import BATCH_MAX, IMetadataStore
from coldstore.model.errors import MetadataUnavailable
from coldstore.s3.keyuse import FLUSH_SECONDS, KEYS_MAX, PRECISION_SECONDS, KeyUses


class Noting:
    """A store that only takes notes, when it is let."""

    def __init__(self) -> None:
        self.steps: list[Mapping[str, float]] = []
        self.waiting: list[Deferred[None]] = []

    def note_key_uses(self, uses: Mapping[str, float]) -> "Deferred[None]":
        """See ``IMetadataStore``."""
        self.steps.append(uses)
        self.waiting.append(Deferred())
        return self.waiting[-1]


class KeyUsesTests(SynchronousTestCase):
    """``KeyUses``."""

    def setUp(self) -> None:
        """Note nothing yet."""
        self.clock = Clock()
        self.clock.advance(1000.0)
        self.store = Noting()
        self.uses = KeyUses(cast(IMetadataStore, cast(Any, self.store)), self.clock)

    def note(self, *keys: str) -> None:
        """Note uses of keys now."""
        for key in keys:
            self.uses.note(key, self.clock.seconds())

    def test_one_write_for_many(self) -> None:
        """Uses of a few seconds are one step, however many; a key that is used all the time is written once a minute."""
        self.note("A", "A")
        self.clock.advance(1.0)
        self.note("A", "B")
        self.assertEqual(self.store.steps, [])
        self.clock.advance(FLUSH_SECONDS)
        self.assertEqual(self.store.steps, [{"A": 1000.0, "B": 1001.0}])
        self.store.waiting[0].callback(None)
        begun = self.clock.seconds()
        while self.clock.seconds() < begun + 10 * PRECISION_SECONDS:
            self.note("A")
            self.clock.advance(1.0)
        for waiting in self.store.waiting[1:]:
            waiting.callback(None)
        self.assertIn(len(self.store.steps), (10, 11))
        self.assertEqual(self.clock.getDelayedCalls(), self.clock.getDelayedCalls()[:1])

    def test_nothing_used(self) -> None:
        """Without a use nothing is written."""
        self.clock.advance(1000.0)
        self.assertEqual(self.store.steps, [])

    def test_many_keys(self) -> None:
        """Steps have as many keys as one may; and memory has an end."""
        self.note(*(f"{n:06}" for n in range(BATCH_MAX + 1)))
        self.clock.advance(FLUSH_SECONDS)
        self.store.waiting[0].callback(None)
        self.assertEqual([len(step) for step in self.store.steps], [BATCH_MAX, 1])
        self.note(*(f"k{n}" for n in range(KEYS_MAX)))
        self.assertLessEqual(len(self.uses._noted), KEYS_MAX)

    def test_store_gone(self) -> None:
        """A store that does not answer costs those uses, and nothing else."""
        self.note("A")
        self.clock.advance(FLUSH_SECONDS)
        self.store.waiting[0].errback(Failure(MetadataUnavailable("gone")))
        self.clock.advance(PRECISION_SECONDS)
        self.note("A")
        self.clock.advance(FLUSH_SECONDS)
        self.assertEqual(len(self.store.steps), 2)
