"""After a change of the keys of data: every version in the record comes under the new one, whatever interrupts."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.errors import MetadataUnavailable
from coldstore.work.rewrapper import BATCH, Rewrapper
from tests.unit.s3_rig import Rig

COUNT = 2 * BATCH + 3
ENCRYPTED = {"x-amz-server-side-encryption": "AES256"}


class RewrapperTests(SynchronousTestCase):
    """Objects under one key, and a new one."""

    def setUp(self) -> None:
        """Put them, some plain ones between."""
        self.rig = Rig(sse_c_over_http=True)
        self.rig.put("/bkt")
        for number in range(COUNT):
            self.rig.ask("PUT", f"/bkt/k{number}", b"body %d" % number, ENCRYPTED)
            self.rig.ask("PUT", f"/bkt/plain{number}", b"x")
        self.old = self.rig.data_keys.in_use() or ""
        self.clock = Clock()
        self.steps: list[int] = []
        """How many versions each step changed."""
        self.fails_at = -1
        store: Any = self.rig.store
        rewrap = store.rewrap_keys

        def noted(wrapped: Any) -> Any:
            if len(self.steps) == self.fails_at:
                self.fails_at = -1
                raise MetadataUnavailable("away")
            self.steps.append(len(wrapped))
            return rewrap(wrapped)

        self.patch(store, "rewrap_keys", noted)
        self.rewrapper = Rewrapper(store=store, clock=self.clock, data_keys=self.rig.data_keys)

    def round(self) -> "Deferred[float]":
        """Begin a round, and let time pass until it waits for nothing but time that is over."""
        running = Deferred.fromCoroutine(self.rewrapper.one_round())
        for _ in range(COUNT):
            self.clock.advance(1.0)
        return running

    def counts(self) -> list[int]:
        """Return how many versions are under each key, the oldest first."""
        return [state.version_count for state in self.successResultOf(self.rig.data_keys.states())]

    def check_bodies(self) -> None:
        """See that every object can be read."""
        for number in range(COUNT):
            self.assertEqual(self.rig.ask("GET", f"/bkt/k{number}").body, b"body %d" % number)

    def test_nothing_to_do(self) -> None:
        """As long as there is one key nothing changes."""
        self.successResultOf(self.round())
        self.assertEqual((self.steps, self.counts()), ([], [COUNT]))

    def test_all(self) -> None:
        """A few in each step, and a pause after each; what is on tape of them does not change; each can be read all along."""
        facts = self.rig.version("bkt", b"k0").facts
        new = self.successResultOf(self.rig.data_keys.rotate())
        running = Deferred.fromCoroutine(self.rewrapper.one_round())
        self.assertEqual(self.steps, [BATCH])
        self.check_bodies()
        self.clock.advance(1.0)
        self.assertEqual(self.steps, [BATCH, BATCH])
        self.clock.pump([1.0] * 5)
        self.successResultOf(running)
        self.assertEqual((self.steps, self.counts()), ([BATCH, BATCH, 3], [0, COUNT]))
        version = self.rig.version("bkt", b"k0")
        self.assertEqual((version.facts, version.wrapped_key.master_key), (facts, new))
        self.check_bodies()
        # The keys of data that the record needs no more are kept: tapes need them.
        self.assertEqual(self.rig.data_keys.ids(), [self.old, new])

    def test_twice(self) -> None:
        """A second change finds what is under the first key and the second."""
        self.successResultOf(self.rig.data_keys.rotate())
        running = Deferred.fromCoroutine(self.rewrapper.one_round())
        self.successResultOf(self.rig.data_keys.rotate())
        self.clock.pump([1.0] * 9)
        self.successResultOf(running)
        self.successResultOf(self.round())
        self.assertEqual(self.counts(), [0, 0, COUNT])
        self.check_bodies()

    def test_broken_off(self) -> None:
        """Wherever it ends, the next round goes on from there."""
        self.successResultOf(self.rig.data_keys.rotate())
        self.fails_at = 1
        self.failureResultOf(self.round(), MetadataUnavailable)
        self.assertEqual(self.counts(), [COUNT - BATCH, BATCH])
        self.check_bodies()
        self.successResultOf(self.round())
        self.assertEqual(self.counts(), [0, COUNT])
        self.check_bodies()

    def test_late_ones(self) -> None:
        """What was published under the old key while the round ran is found by the next one."""
        self.successResultOf(self.rig.data_keys.rotate())
        self.successResultOf(self.round())
        connection = self.rig.store._executor._connection  # type: ignore[attr-defined]
        ring = self.rig.data_keys
        facts = self.rig.version("bkt", b"k5").facts
        assert facts.encryption is not None
        late = ring._keys[self.old].wrap(
            ring.unwrap(self.rig.version("bkt", b"k5").wrapped_key, facts.encryption.bound_to("bkt", b"k5")),
            salt=bytes(32),
            bound=facts.encryption.bound_to("bkt", b"k5"),
        )
        connection.execute(
            "UPDATE versions SET master_key = ?, rewrapped_key = ? WHERE key = x'6b35'", (self.old, late)
        )
        self.assertEqual(self.counts(), [1, COUNT - 1])
        self.successResultOf(self.round())
        self.assertEqual(self.counts(), [0, COUNT])
        self.check_bodies()

    def test_one_that_cannot(self) -> None:
        """What is recorded of one is not what was: it stays, the log says so, and the others come through."""
        connection = self.rig.store._executor._connection  # type: ignore[attr-defined]
        connection.execute(
            "UPDATE versions SET encryption = (SELECT encryption FROM versions WHERE key = x'6b35') WHERE key = x'6b36'"
        )
        self.successResultOf(self.rig.data_keys.rotate())
        self.successResultOf(self.round())
        self.assertEqual(self.counts(), [1, COUNT - 1])
