"""Loops and the bell that wakes them, on a clock that a test turns."""

from collections.abc import Callable
from itertools import pairwise

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from coldstore.appliance.clocks import TimeOfDay
from coldstore.util.loops import PAUSE_MOST_SECONDS, Loop
from coldstore.work.bells import CalmBell, ReactorBell


class BellTests(SynchronousTestCase):
    """``ReactorBell``."""

    def setUp(self) -> None:
        """Make a bell."""
        self.clock = Clock()
        self.bell = ReactorBell(self.clock)

    def test_a_wait_ends_when_its_time_is_over(self) -> None:
        """Nobody rings: the waiter goes on after exactly its seconds, and no alarm is left."""
        waiting = self.bell.wait(5)
        self.clock.advance(4.9)
        self.assertNoResult(waiting)
        self.clock.advance(0.125)
        self.assertIsNone(self.successResultOf(waiting))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_ring_ends_the_wait(self) -> None:
        """The waiter goes on at once, and the alarm is taken back."""
        waiting = self.bell.wait(5)
        self.bell.ring()
        self.successResultOf(waiting)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_ring_between_waits_is_not_lost(self) -> None:
        """However often it rang meanwhile, exactly the next wait ends at once."""
        self.bell.ring()
        self.bell.ring()
        self.successResultOf(self.bell.wait(5))
        self.assertNoResult(self.bell.wait(5))

    def test_a_ring_that_ended_a_wait_is_used_up(self) -> None:
        """The wait after it waits."""
        waiting = self.bell.wait(5)
        self.bell.ring()
        self.successResultOf(waiting)
        self.assertNoResult(self.bell.wait(5))

    def test_a_cancelled_wait_leaves_nothing(self) -> None:
        """The alarm is taken back and the bell can be waited for again."""
        waiting = self.bell.wait(5)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertNoResult(self.bell.wait(5))

    def test_a_waiter_may_wait_again_at_once(self) -> None:
        """A callback of the wait that waits anew is not woken by the same ring."""
        again: list[Deferred[None]] = []
        self.bell.wait(5).addCallback(lambda _: again.append(self.bell.wait(5)))
        self.bell.ring()
        self.assertNoResult(again[0])


class CalmBellTests(SynchronousTestCase):
    """``CalmBell``."""

    def setUp(self) -> None:
        """Listen to a bell with a calm rope."""
        self.clock = Clock()
        self.bell = ReactorBell(self.clock)
        self.rope = CalmBell(self.bell, self.clock, gap_seconds=10)
        self.heard: list[float] = []
        self.listen()

    def listen(self, _: None = None) -> None:
        """Note every ring."""
        self.rope.wait(1000).addCallback(lambda _: self.heard.append(self.clock.seconds())).addCallback(
            self.listen
        )

    def test_a_stream_of_rings(self) -> None:
        """The first ring is heard at once, those behind it together at the end of each gap."""
        for _ in range(25):
            self.rope.ring()
            self.rope.ring()
            self.clock.advance(1)
        self.clock.advance(5)
        self.assertEqual(self.heard, [0, 10, 20, 30])

    def test_rest(self) -> None:
        """After a rest a ring is heard at once again."""
        self.rope.ring()
        self.clock.advance(50)
        self.assertEqual(self.heard, [0])
        self.rope.ring()
        self.assertEqual(self.heard, [0, 50])

    def test_others_ring_when_they_want(self) -> None:
        """The rope calms who pulls it, nobody else."""
        self.rope.ring()
        self.bell.ring()
        self.clock.advance(1)
        self.bell.ring()
        self.assertEqual(self.heard, [0, 0, 1])

    def test_clock_set_back(self) -> None:
        """Somebody sets the clock back: a ring waits for the gap at most, not until the clock is where it was."""
        set_back = [0.0]
        day = TimeOfDay(self.clock, seconds=lambda: self.clock.seconds() - set_back[0])
        self.rope = CalmBell(self.bell, day, gap_seconds=10)
        self.rope.ring()
        self.clock.advance(5)
        set_back[0] = 86_400.0
        self.rope.ring()
        self.clock.advance(10)
        self.assertEqual(self.heard, [0, 15])

    def rings_heard(self, round_seconds: float) -> list[float]:
        """Return when a rope that is pulled eight times a second is heard by a loop whose rounds take so long."""
        clock = Clock()
        bell = ReactorBell(clock)
        rope = CalmBell(bell, clock, gap_seconds=1)
        heard: list[float] = []

        def begin(_: None) -> None:
            heard.append(clock.seconds())
            clock.callLater(round_seconds, lambda: bell.wait(1000).addCallback(begin))

        bell.wait(1000).addCallback(begin)
        for _ in range(400):
            rope.ring()
            clock.advance(0.125)
        return heard

    def test_long_rounds(self) -> None:
        """Rounds that take long are rung for less often, up to a bound; short ones are not."""
        for round_seconds, expected in ((0.125, 1.0), (1.0, 5.0), (4.0, 10.0)):
            heard = self.rings_heard(round_seconds)
            self.assertEqual({after - before for before, after in pairwise(heard[3:])}, {expected}, heard)


class Away(Exception):
    """A fault that an operator understands."""


class LoopTests(SynchronousTestCase):
    """``Loop``."""

    def setUp(self) -> None:
        """Make a loop whose rounds a test decides, and watch the log."""
        self.clock = Clock()
        self.bell = ReactorBell(self.clock)
        self.rounds: list[float] = []
        self.act: Callable[[], float | Deferred[float]] = lambda: 10.0
        self.loop = Loop("worker", self.one_round, self.bell, plain_faults=(Away,))
        self.events: list[LogEvent] = []
        observer = implementer(ILogObserver)(lambda event: self.events.append(event))
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    async def one_round(self) -> float:
        """Note the time and do what the test wants."""
        self.rounds.append(self.clock.seconds())
        result = self.act()
        return await result if isinstance(result, Deferred) else result

    def fail(self, *_: object) -> float:  # type: ignore[override]
        """Fail as a bug would."""
        raise ZeroDivisionError("oh")

    def away(self) -> float:
        """Fail as the world does."""
        raise Away("the disk is gone")

    def test_rounds_come_when_the_rest_is_over(self) -> None:
        """The first round begins at the start, each further one after the rest that the one before asked for."""
        self.loop.startService()
        self.clock.pump([9, 1, 10])
        self.assertEqual(self.rounds, [0, 10, 20])

    def test_the_bell_ends_a_rest(self) -> None:
        """A ring begins the next round at once; one during a round begins another right after it."""
        self.loop.startService()
        self.clock.advance(3)
        self.bell.ring()
        self.assertEqual(self.rounds, [0, 3])
        under_way: Deferred[float] = Deferred()
        self.act = lambda: under_way
        self.bell.ring()
        self.bell.ring()
        self.act = lambda: 10.0
        self.assertEqual(self.rounds, [0, 3, 3])
        under_way.callback(10.0)
        self.assertEqual(self.rounds, [0, 3, 3, 3])

    def test_pauses_after_faults_double_up_to_a_minute(self) -> None:
        """A failing round is tried again after 1, 2, 4 seconds and so on, and says why."""
        self.act = self.away
        self.loop.startService()
        for _ in range(400):
            self.clock.advance(1)
        pauses = [after - before for before, after in zip(self.rounds, self.rounds[1:], strict=False)]
        self.assertEqual(pauses[:8], [1, 2, 4, 8, 16, 32, PAUSE_MOST_SECONDS, PAUSE_MOST_SECONDS])
        self.assertEqual(self.loop.trouble, "the disk is gone")

    def test_a_good_round_forgets_the_trouble(self) -> None:
        """After success the trouble is over, and the next fault pauses shortly again."""
        self.act = self.away
        self.loop.startService()
        self.clock.pump([1, 2, 4])
        self.act = lambda: 10.0
        self.clock.advance(8)
        self.assertEqual(self.loop.trouble, "")
        self.act = self.away
        self.clock.advance(10)
        before = len(self.rounds)
        self.clock.advance(1)
        self.assertEqual(len(self.rounds), before + 1)

    def test_faults_of_the_world_are_logged_in_a_line(self) -> None:
        """A plain fault is a warning without a traceback."""
        self.act = self.away
        self.loop.startService()
        (event,) = [event for event in self.events if event.get("log_namespace", "").startswith("coldstore")]
        self.assertEqual(event["log_level"].name, "warn")
        self.assertNotIn("log_failure", event)
        self.assertEqual(event["fault"], "the disk is gone")

    def test_bugs_are_logged_with_a_traceback(self) -> None:
        """Anything else keeps its traceback, and the loop goes on all the same."""
        self.act = self.fail
        self.loop.startService()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.act = lambda: 10.0
        self.clock.advance(1)
        self.assertEqual(self.rounds, [0, 1])

    def test_stopping_cancels_the_round_under_way(self) -> None:
        """The stop fires when the round has let go, and no further round begins."""
        let_go: Deferred[None] = Deferred()

        async def stubborn() -> float:
            self.rounds.append(self.clock.seconds())
            try:
                await Deferred[None]()
            finally:
                await let_go
            return 0.0

        loop = Loop("worker", stubborn, self.bell)
        loop.startService()
        stopped = loop.stopService()
        assert stopped is not None
        self.assertNoResult(stopped)
        let_go.callback(None)
        self.successResultOf(stopped)
        self.clock.advance(1000)
        self.assertEqual(self.rounds, [0])

    def test_stopping_ends_a_rest(self) -> None:
        """A loop at rest stops at once and leaves no alarm."""
        self.loop.startService()
        stopped = self.loop.stopService()
        assert stopped is not None
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_loop_that_never_ran_stops(self) -> None:
        """There is nothing to wait for."""
        self.assertIsNone(self.loop.stopService())
