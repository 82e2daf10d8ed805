"""The time of day may jump; timers do not."""

from typing import Any

from twisted.internet.selectreactor import SelectReactor
from twisted.trial.unittest import SynchronousTestCase

from coldstore.appliance.clocks import TimeOfDay, make_steady


class ClockTests(SynchronousTestCase):
    """A real reactor, whose clocks a test sets."""

    def setUp(self) -> None:
        """Make a reactor that nobody runs."""
        self.ticked = 100.0
        self.day = 1_800_000_000.0
        self.reactor: Any = SelectReactor()
        self.addCleanup(self.reactor.disconnectAll)
        self.rung: list[str] = []

    def ring(self, seconds: float) -> TimeOfDay:
        """Have something rung after so many seconds."""
        clock = TimeOfDay(self.reactor, seconds=lambda: self.day)
        clock.callLater(seconds, self.rung.append, "rung")
        return clock

    def turn(self) -> list[str]:
        """Have the reactor do what is due; return what has rung."""
        self.reactor.runUntilCurrent()
        return self.rung

    def test_a_clock_set_back_delays_nothing(self) -> None:
        """An hour back, and what was due in ten seconds comes in ten seconds."""
        make_steady(self.reactor, monotonic=lambda: self.ticked)
        self.ring(10.0)
        self.day -= 3600.0
        self.ticked += 9.9
        self.assertEqual(self.turn(), [])
        self.ticked += 0.2
        self.assertEqual(self.turn(), ["rung"])

    def test_a_clock_set_forward_hastens_nothing(self) -> None:
        """A day forward, and what was due in ten seconds does not come at once."""
        make_steady(self.reactor, monotonic=lambda: self.ticked)
        clock = self.ring(10.0)
        self.day += 86_400.0
        self.assertEqual(self.turn(), [])
        self.assertEqual(clock.seconds(), 1_800_086_400.0)

    def test_timers_that_run_already_keep_their_times(self) -> None:
        """What was scheduled before the clock was made steady is due when it was."""
        self.ring(10.0)
        now = self.reactor.seconds()
        make_steady(self.reactor, monotonic=lambda: self.ticked)
        self.assertLess(abs(self.reactor.seconds() - now), 5.0)
        self.ticked += 5.0
        self.assertEqual(self.turn(), [])
        self.ticked += 6.0
        self.assertEqual(self.turn(), ["rung"])

    def test_everything_else_is_the_reactors(self) -> None:
        """Whoever needs more of the reactor than time gets it."""
        clock = TimeOfDay(self.reactor)
        self.assertEqual(clock.addSystemEventTrigger, self.reactor.addSystemEventTrigger)
