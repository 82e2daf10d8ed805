"""The tables of lives: every pair of state and event is either in the table or refused loudly."""

from collections.abc import Mapping
from enum import StrEnum

from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.bundles import COPY_TRANSITIONS, CopyEvent, CopyState
from coldstore.model.cartridges import (
    CARTRIDGE_TRANSITIONS,
    READABLE,
    WRITABLE,
    CartridgeEvent,
    CartridgeState,
)
from coldstore.model.states import ImpossibleTransition, after
from coldstore.plan.blame import ApartPolicy, Failure, judge, pairs_to_avoid


class TableTests(SynchronousTestCase):
    """Every table."""

    def walk(
        self, table: Mapping[tuple[StrEnum, StrEnum], StrEnum], states: type[StrEnum], events: type[StrEnum]
    ) -> None:
        for state in states:
            for event in events:
                if (state, event) in table:
                    self.assertIn(after(table, state, event), states)
                else:
                    self.assertRaises(ImpossibleTransition, after, table, state, event)

    def test_all_pairs(self) -> None:
        """Each pair leads to a state or is refused."""
        self.walk(COPY_TRANSITIONS, CopyState, CopyEvent)
        self.walk(CARTRIDGE_TRANSITIONS, CartridgeState, CartridgeEvent)

    def test_no_way_around_admission(self) -> None:
        """From unadmitted, nothing but an operator's admission leads to a writable state."""
        reached = {CartridgeState.UNADMITTED}
        while True:
            further = {
                end
                for (start, event), end in CARTRIDGE_TRANSITIONS.items()
                if start in reached and event is not CartridgeEvent.ADMIT
            } | reached
            if further == reached:
                break
            reached = further
        self.assertFalse(reached & WRITABLE)

    def test_verified_only_after_sync(self) -> None:
        """A copy becomes verified from synced alone, and synced from writing alone."""
        for target, source in ((CopyState.VERIFIED, CopyState.SYNCED), (CopyState.SYNCED, CopyState.WRITING)):
            self.assertEqual(
                {start for (start, _), end in COPY_TRANSITIONS.items() if end is target}, {source}
            )

    def test_suspects_are_read_and_not_written(self) -> None:
        """A suspect cartridge is read, never written; a broken one neither."""
        self.assertIn(CartridgeState.SUSPECT, READABLE)
        self.assertNotIn(CartridgeState.SUSPECT, WRITABLE)
        self.assertNotIn(CartridgeState.BROKEN, READABLE | WRITABLE)


class BlameTests(SynchronousTestCase):
    """``judge``."""

    def failure(self, drive: int, barcode: str, at: float = 0.0) -> Failure:
        return Failure(at=at, drive=drive, barcode=barcode)

    def test_first_accuses_nobody(self) -> None:
        """One failure of a pair is no verdict, and neither is its repetition."""
        for earlier in ([], [self.failure(0, "A")]):
            verdict = judge(earlier, self.failure(0, "A"), window_seconds=10)
            self.assertEqual((verdict.drive_is_guilty, verdict.cartridge_is_guilty), (False, False))

    def test_drive(self) -> None:
        """A drive that fails with two cartridges is guilty."""
        self.assertTrue(
            judge([self.failure(0, "A")], self.failure(0, "B"), window_seconds=10).drive_is_guilty
        )

    def test_cartridge(self) -> None:
        """A cartridge that fails in two drives is guilty."""
        self.assertTrue(
            judge([self.failure(0, "A")], self.failure(1, "A"), window_seconds=10).cartridge_is_guilty
        )

    def test_forgiven(self) -> None:
        """Failures beyond the window no longer count."""
        old = [self.failure(0, "A", at=0)]
        self.assertFalse(judge(old, self.failure(0, "B", at=11), window_seconds=10).drive_is_guilty)

    def test_apart(self) -> None:
        """A pair that failed is kept apart for long when another drive can have the cartridge, else ever longer."""
        policy = ApartPolicy(apart_seconds=1000, alone_seconds=60)
        once = [Failure(at=0, drive=0, barcode="A")]
        twice = [*once, Failure(at=100, drive=0, barcode="A")]

        def avoided(failures: list[Failure], drives: set[int], now: float) -> dict[tuple[int, str], float]:
            return pairs_to_avoid(failures, now=now, usable_drives=drives, policy=policy)

        self.assertEqual(avoided(once, {0, 1}, 10), {(0, "A"): 1000})
        self.assertEqual(avoided(once, {0}, 10), {(0, "A"): 60})
        self.assertEqual(avoided(twice, {0}, 110), {(0, "A"): 220})
        self.assertEqual(avoided(once, {0}, 60), {})
        both = [*once, Failure(at=0, drive=1, barcode="A")]
        self.assertEqual(avoided(both, {0, 1}, 10), {(0, "A"): 60, (1, "A"): 60})
