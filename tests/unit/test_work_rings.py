"""Loops rest long: whoever makes work for one wakes it, or it knows itself when to look. Nobody hurries them here."""

from twisted.internet.defer import Deferred
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


class DispatcherTests(SynchronousTestCase):
    """What the dispatcher finds by itself."""

    def test_clock_set_back(self) -> None:
        """A cartridge that restores wait for is searched for also when somebody sets the clock back, not a day later."""
        world = World(drives=1)
        run = Run(world).start()
        version = world.put("k", 5000)
        run.until(lambda: world.is_cold(version))
        run.let_pass(200)
        away = {slot: world.library.take_away(slot) for slot in (1, 2)}
        now_of(Deferred.fromCoroutine(run.dispatcher.look_at_library()))
        world.ask_back(version)
        run.bells["dispatcher"].ring()
        run.let_pass(70)
        self.assertIn("cartridge-offline", world.alerts())
        steady = world.clock.current
        world.clock.seconds = lambda: steady.seconds() - 86_400.0
        for slot, barcode in away.items():
            world.library.put(slot, barcode)
        for _ in range(300):
            steady.advance(1.0)
        self.assertTrue(world.is_restored(version))
