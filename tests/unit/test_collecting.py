"""The settings of the garbage collector."""

import gc

from twisted.trial.unittest import SynchronousTestCase

from coldstore.appliance.collecting import YOUNG_OBJECTS, spare_what_stays


class CollectingTests(SynchronousTestCase):
    """What a process does once, when everything is loaded."""

    def test_spared(self) -> None:
        """What is there is passed over from now on, and the young are looked through less often."""
        self.addCleanup(gc.set_threshold, *gc.get_threshold())
        self.addCleanup(gc.unfreeze)
        before = gc.get_freeze_count()
        spare_what_stays()
        self.assertGreater(gc.get_freeze_count(), before + 1000)
        self.assertEqual(gc.get_threshold()[0], YOUNG_OBJECTS)
