"""When bundles are begun, how objects are cut, and how extents are packed."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from coldstore.plan.archive import (
    BLOCK_BYTES,
    ArchivePolicy,
    Candidate,
    Due,
    NotYet,
    Waiting,
    extent_lengths,
    last_extents,
    plan_bundles,
    plan_start,
)

POLICY = ArchivePolicy(
    bundle_bytes=100,
    cartridge_share=0.25,
    bundle_members_max=3,
    trigger_bytes=1000,
    trigger_objects=10,
    trigger_age=400.0,
    idle_age=100.0,
)


def waiting(*, objects: int = 1, size_bytes: int = 1, oldest_at: float = 0.0) -> Waiting:
    return Waiting(object_count=objects, size_bytes=size_bytes, oldest_at=oldest_at)


class StartTests(SynchronousTestCase):
    """``plan_start``."""

    def start(self, now: float, facts: Waiting, *, idle: bool = False, urgent: bool = False) -> Due | NotYet:
        return plan_start(now, facts, POLICY, is_drive_idle=idle, is_urgent=urgent)

    def test_bytes(self) -> None:
        """Enough bytes start bundles at once."""
        self.assertIsInstance(self.start(0, waiting(size_bytes=1000)), Due)
        self.assertIsInstance(self.start(0, waiting(size_bytes=999)), NotYet)

    def test_objects(self) -> None:
        """Enough objects start bundles at once."""
        self.assertIsInstance(self.start(0, waiting(objects=10)), Due)
        self.assertIsInstance(self.start(0, waiting(objects=9)), NotYet)

    def test_age(self) -> None:
        """An object does not wait longer than the age, a shorter one while a drive is idle."""
        self.assertEqual(self.start(399, waiting()), NotYet(at=400.0))
        self.assertIsInstance(self.start(400, waiting()), Due)
        self.assertEqual(self.start(99, waiting(), idle=True), NotYet(at=100.0))
        self.assertIsInstance(self.start(100, waiting(), idle=True), Due)

    def test_urgent(self) -> None:
        """Who asks gets bundles whatever the thresholds say."""
        self.assertIsInstance(self.start(0, waiting(), urgent=True), Due)


class ExtentTests(SynchronousTestCase):
    """``extent_lengths``."""

    def test_small(self) -> None:
        """What fits is one extent; an empty object has one empty extent."""
        self.assertEqual(extent_lengths([10, 20], extent_bytes=BLOCK_BYTES), (30,))
        self.assertEqual(extent_lengths([], extent_bytes=BLOCK_BYTES), (0,))

    def test_cut_on_blocks(self) -> None:
        """A large piece is cut on its checksum blocks."""
        size = 5 * BLOCK_BYTES + 7
        self.assertEqual(
            extent_lengths([size], extent_bytes=2 * BLOCK_BYTES + 100),
            (2 * BLOCK_BYTES, 2 * BLOCK_BYTES, BLOCK_BYTES + 7),
        )

    @given(st.lists(st.integers(1, 5 * BLOCK_BYTES), max_size=12), st.integers(BLOCK_BYTES, 7 * BLOCK_BYTES))
    def test_cuts_are_lawful(self, pieces: list[int], extent_bytes: int) -> None:
        """Extents add up, keep the bound, and end at ends of pieces or on blocks inside them."""
        lengths = extent_lengths(pieces, extent_bytes=extent_bytes)
        self.assertEqual(sum(lengths), sum(pieces))
        self.assertTrue(all(length <= extent_bytes for length in lengths))
        ends: set[int] = set()
        start = 0
        for piece in pieces:
            ends.update(range(start, start + piece, BLOCK_BYTES))
            start += piece
            ends.add(start)
        position = 0
        for length in lengths:
            position += length
            self.assertIn(position, ends | {0})


class PackingTests(SynchronousTestCase):
    """``plan_bundles``."""

    def test_bounds(self) -> None:
        """Bundles keep the bounds of bytes and members, in the order of arrival."""
        candidates = [
            Candidate(version_uid=uid, extent_lengths=(size,))
            for uid, size in enumerate([60, 30, 20, 1, 1, 1])
        ]
        bundles = plan_bundles(candidates, POLICY)
        self.assertEqual([[e.version_uid for e in bundle] for bundle in bundles], [[0, 1], [2, 3, 4], [5]])

    def test_large(self) -> None:
        """A large object's extents lie in consecutive bundles; its claim ends with the last one."""
        bundles = plan_bundles([Candidate(version_uid=7, extent_lengths=(100, 100, 40))], POLICY)
        self.assertEqual([len(bundle) for bundle in bundles], [1, 1, 1])
        self.assertEqual([e.object_offset_bytes for bundle in bundles for e in bundle], [0, 100, 200])
        self.assertEqual(
            [last_extents(bundle) for bundle in bundles], [frozenset(), frozenset(), frozenset({7})]
        )
