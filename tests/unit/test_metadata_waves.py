"""Which steps may go side by side."""

from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from coldstore.metadata.postgres.waves import waves_of
from coldstore.metadata.sql.footprints import Footprint, footprint_of
from coldstore.metadata.sql.store import SqlStore
from coldstore.model.events import Severity
from tests.contract.metadata_contract import facts_of, message_of, piece_of


def names(*of: object) -> Footprint:
    """A footprint."""
    return frozenset((each,) for each in of)


class WavesTests(SynchronousTestCase):
    """``waves_of``."""

    def test_parted(self) -> None:
        """Steps that touch the same go one after the other, as given; others need not wait for them."""
        self.assertEqual(waves_of([]), [])
        self.assertEqual(waves_of([names("a"), names("b"), names()]), [[0, 1, 2]])
        self.assertEqual(
            waves_of([names("a"), names("a", "b"), names("c"), names("b"), names("a")]), [[0, 2], [1], [3, 4]]
        )

    def test_unknown(self) -> None:
        """A step that nobody knows is alone, behind all that were before it and in front of all others."""
        self.assertEqual(waves_of([None, None]), [[0], [1]])
        self.assertEqual(
            waves_of([names("a"), names("b"), None, names("c"), names("b"), None]), [[0, 1], [2], [3, 4], [5]]
        )

    def test_random(self) -> None:
        """Every step is in one wave, with none that touches the same, and behind all such that were before it."""
        for seed in range(100):
            chance = Random(seed)
            steps: list[Footprint | None] = [
                None if chance.random() < 0.1 else names(*chance.sample("abcdefghij", chance.randrange(4)))
                for _ in range(chance.randrange(30))
            ]
            waves = waves_of(steps)
            at = {number: wave for wave, numbers in enumerate(waves) for number in numbers}
            self.assertEqual(sorted(at), list(range(len(steps))))
            self.assertTrue(all(waves))
            for later, its in enumerate(steps):
                for earlier, other in enumerate(steps[:later]):
                    if its is None or other is None or its & other:
                        self.assertLess(at[earlier], at[later])


class FootprintTests(SynchronousTestCase):
    """``footprint_of`` what the store gives to whoever runs it."""

    def setUp(self) -> None:
        """Have a store that remembers steps."""
        self.steps: list[Any] = []
        executor: Any = self
        self.store = SqlStore(executor)

    def write(self, step: Any) -> None:
        """See ``Executor``."""
        self.steps.append(step)

    def touched(self) -> Footprint | None:
        """The footprint of the only step."""
        (step,) = self.steps
        self.steps.clear()
        return footprint_of(step)

    def test_publish(self) -> None:
        """Its key, its layout, its addresses."""
        self.store.publish_version(
            facts_of(b"k", bucket="b"),
            layout_id="l",
            pieces=[piece_of("p1"), piece_of("p2", 2)],
            wants_tape=True,
            condition=None,
            messages=[message_of(b"k")],
        )
        wanted = {("key", "b", b"k"), ("layout", "l"), ("address", "p1"), ("address", "p2")}
        self.assertEqual(self.touched(), wanted)

    def test_others(self) -> None:
        """Keys, a part and its address, a message; nothing, when all it does is to add."""
        self.store.delete_current("b", [b"k", b"l"], at=1.0, messages={})
        self.assertEqual(self.touched(), {("key", "b", b"k"), ("key", "b", b"l")})
        self.store.delete_versions("b", [(b"k", "1"), (b"k", "2"), (b"l", "1")], at=1.0)
        self.assertEqual(self.touched(), {("key", "b", b"k"), ("key", "b", b"l")})
        self.store.put_part("u", piece_of("p", 7))
        self.assertEqual(self.touched(), {("part", "u", 7), ("address", "p")})
        self.store.message_delivered(5)
        self.assertEqual(self.touched(), {("message", 5)})
        self.store.note_reads({1: 2, 3: 4}, at=1.0)
        self.assertEqual(self.touched(), frozenset())

    def test_undeclared(self) -> None:
        """Nobody knows."""
        self.store.raise_alert(kind="k", subject="s", severity=Severity.WARNING, sentence="x", at=1.0)
        self.assertIsNone(self.touched())
        self.assertIsNone(footprint_of(lambda db: db.rows("SELECT 1")))
