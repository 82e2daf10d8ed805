"""Another machine takes over from one that stands still."""

from coldstore.appliance.standby import LOOK_SECONDS
from coldstore.plan.takeover import WAIT_SECONDS
from tests.simulation.chance import NO_FAULTS
from tests.simulation.invariants import Judge
from tests.simulation.testcase import WorldTestCase
from tests.simulation.world import Run, Shape, World

SHAPE = Shape(cartridges=12, slots=16, clients=4, operations_per_hour=150)
LONG_SECONDS = 600.0


class TakeoverTests(WorldTestCase):
    """A world without other faults, whose appliance has worked for some hours."""

    def setUp(self) -> None:
        """Let them go by."""
        super().setUp()
        self.world = World(3, rates=NO_FAULTS, shape=SHAPE)
        self.effects: list[tuple[float, str]] = []
        self.world.trace = lambda what: self.effects.append((self.world.reactor.seconds(), what))
        self.world.begin()
        self.world.pass_hours(2)
        assert self.world.run is not None
        self.first: Run = self.world.run

    def taken_over(self) -> Run:
        """Have the other machine take over, and return its run."""
        self.world.freeze(self.first)
        self.world.until(lambda: self.world.run is not None, hours=1, every_seconds=1.0)
        self.world.until(lambda: self.first.life.taken_over_at is not None, hours=1, every_seconds=1.0)
        assert self.world.run is not None
        return self.world.run

    def test_waits(self) -> None:
        """Once it has begun its run it touches nothing for a while: neither the disk nor robot and drives."""
        self.taken_over()
        begun = self.first.life.taken_over_at
        assert begun is not None
        self.world.reactor.run_until(begun + LONG_SECONDS)
        after = [at for at, _ in self.effects if at > begun]
        self.assertGreaterEqual(min(after), begun + WAIT_SECONDS)
        self.assertLess(min(after), begun + WAIT_SECONDS + 1.0)

    def test_ends(self) -> None:
        """The first one ends soon after it goes on, and has done nothing that the judge minds."""
        second = self.taken_over()
        self.world.until(lambda: second.is_serving, hours=1, every_seconds=1.0)
        self.assertFalse(self.first.life.is_over)
        self.world.reactor.thaw(self.first.life)
        self.world.reactor.run_until(self.world.reactor.seconds() + LOOK_SECONDS + 1.0)
        self.assertTrue(self.first.life.is_over)
        self.assertIs(self.world.run, second)
        judge = Judge(self.world)
        self.assertEqual([*judge.look(), *judge.complaints()], [])
