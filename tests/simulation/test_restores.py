"""The ledger of restores: what it counts, and when it complains."""

from tests.simulation.precautions import PRECAUTIONS
from tests.simulation.restores import AT_THAT_TIME, HOUR, NOT_DONE, bounds
from tests.simulation.scenarios import COLD, Stage
from tests.simulation.settings import configuration
from tests.simulation.shrink import kind
from tests.simulation.testcase import WorldTestCase

LOOK_HOURS = 1 / 12


class BoundTests(WorldTestCase):
    """How long a restore may take."""

    def test_figures(self) -> None:
        """The target of the tier; an hour each for two sessions before it, and one for a failure."""
        found = bounds(configuration())
        expected = {"Expedited": 5 / 60 + 3, "Standard": 5.0 + 3, "Bulk": 12.0 + 3}
        self.assertEqual({tier: seconds / HOUR for tier, seconds in found.items()}, expected)


class LedgerTests(WorldTestCase):
    """A quiet world, in which one object is asked for."""

    def setUp(self) -> None:
        """The object is on tape only."""
        super().setUp()
        self.stage = Stage()
        self.stage.has(self.stage.put("a", storage_class=COLD))
        self.stage.archives()
        self.ledger = self.stage.judge.restores

    def looks(self, hours: float) -> list[str]:
        """Look for so long, or until something is wrong; return what is."""
        passed = 0.0
        while passed < hours:
            if found := self.stage.judge.look():
                return found
            self.stage.world.pass_hours(LOOK_HOURS)
            passed += LOOK_HOURS
        return []

    def wish(self) -> None:
        """Ask for it."""
        self.stage.has(self.stage.client.wish("a", "Expedited"))

    def test_done(self) -> None:
        """A restore that is done in time is no matter."""
        self.wish()
        self.assertEqual(self.looks(2.0), [])
        ((entry, _),) = self.ledger.ended
        self.assertEqual((entry.key, entry.tier), ("a", "Expedited"))
        self.assertLess(entry.able_seconds, HOUR)

    def test_forgotten(self) -> None:
        """One that nobody serves is complained of once its bound is over, with what goes on then."""
        with PRECAUTIONS["no batch is lost"].removed():
            self.wish()
            begun = self.stage.world.reactor.seconds()
            (complaint,) = self.looks(12.0)
        took = (self.stage.world.reactor.seconds() - begun) / HOUR
        bound = bounds(self.stage.world.settings)["Expedited"] / HOUR
        self.assertTrue(bound < took < bound + 4 * LOOK_HOURS, took)
        self.assertIn("Expedited restore of a, accepted", complaint)
        self.assertIn(NOT_DONE, complaint)
        self.assertIn(
            f"{AT_THAT_TIME} drive-0 up, empty; drive-1 up, empty; 1 Expedited under way", complaint
        )
        self.assertNotIn("drive-0", kind(complaint))
        self.assertEqual(self.looks(1.0), [], "it is said once")

    def test_hindered(self) -> None:
        """Time in which it cannot be served is not counted: without a library, a drive, or the cartridges."""
        floor, world = self.stage.world.floor, self.stage.world
        with PRECAUTIONS["no batch is lost"].removed():
            self.wish()
            floor.is_library_away = True
            self.assertEqual(self.looks(6.0), [])
            floor.is_library_away = False
            floor.hanging |= {"drive-0"}
            floor.dead.add(1)
            self.assertEqual(self.looks(6.0), [])
            floor.hanging.clear()
            floor.dead.clear()
            ((version_uid, entry),) = self.ledger.under_way.items()
            holders = self.stage.rows("SELECT DISTINCT barcode FROM copies")
            floor.unreadable |= {barcode for (barcode,) in holders}
            self.assertEqual(self.looks(6.0), [])
            floor.unreadable.pop()
            self.assertIn("a", self.looks(6.0)[0])
        self.assertEqual(version_uid, entry.version_uid)
        self.assertGreater(entry.able_seconds, bounds(world.settings)["Expedited"])

    def test_deleted(self) -> None:
        """Of one whose object is deleted nobody need be told."""
        with PRECAUTIONS["no batch is lost"].removed():
            self.wish()
            self.stage.judge.look()
            self.stage.has(self.stage.client.delete("a"))
            self.assertEqual(self.looks(0.5), [])
        self.assertEqual(len(self.ledger.ended), 1)
