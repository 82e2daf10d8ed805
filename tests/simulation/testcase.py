"""Tests that play whole worlds."""

import sys

from twisted.trial.unittest import SynchronousTestCase


class WorldTestCase(SynchronousTestCase):
    """What the appliance logs is the judge's business; coroutines of the dead protest in vain."""

    def setUp(self) -> None:
        """Hear nothing."""
        self.patch(sys, "unraisablehook", lambda _: None)
        self.addCleanup(self.flushLoggedErrors)
