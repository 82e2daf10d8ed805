"""Loops rest long: whoever makes work for one wakes it, or it knows itself when to look. Nobody hurries them here."""

from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.cartridges import DriveState
from coldstore.model.errors import MetadataUnavailable
from tests.unit.work_rig import FailingStore, Run, World, now_of

SOON_SECONDS = 120.0
"""Within which what waits is begun and written."""


class PackerTests(SynchronousTestCase):
    """What wakes the packer, and whom it wakes."""

    def test_a_drive_has_nothing_to_do_any_more(self) -> None:
        """What waited long enough for an idle drive goes to tape when one becomes idle, not when the packer happens to look."""
        world = World(drives=1)
        run = Run(world, trigger_age=1_000_000.0).start()
        run.let_pass(5)
        self.set_drive(world, run, DriveState.DOWN)
        run.let_pass(5)
        version = world.put("k", 5000)
        run.bells["packer"].ring()
        run.let_pass(600)
        self.assertFalse(world.is_archived(version))
        self.set_drive(world, run, DriveState.UP)
        run.until(lambda: world.is_archived(version), seconds=SOON_SECONDS, hurry=False)

    def set_drive(self, world: World, run: Run, state: DriveState) -> None:
        """Do what an operator does."""
        now_of(
            world.store.set_drive_state(
                index=0, state=state, reason="", at=world.clock.seconds(), by="operator"
            )
        )
        run.bells["dispatcher"].ring()

    def test_frozen_by_a_later_round(self) -> None:
        """A bundle whose freezing failed once is frozen by the next round, which tells the drives of it."""
        world = World()
        store = FailingStore(world.store, fails_at=None)
        run = Run(world, store=store).start()
        run.let_pass(5)
        store.fail_first("freeze_bundle")
        version = world.put("k", 5000)
        run.bells["packer"].ring()
        run.until(lambda: world.is_archived(version), seconds=SOON_SECONDS, hurry=False)
        self.assertEqual(store.failed, "freeze_bundle")
        self.flushLoggedErrors(MetadataUnavailable)
