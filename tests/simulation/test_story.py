"""The story of a world, and the picture of its drives."""

import sqlite3
from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

from coldstore.metadata.sql.database import Database
from coldstore.metadata.sqlite.driver import Connection
from coldstore.metadata.sqlite.groupcommit import commit_together
from tests.simulation.chance import NO_FAULTS, Rates
from tests.simulation.history import Act, History, Mark
from tests.simulation.picture import COLOURS, picture, stays
from tests.simulation.testcase import WorldTestCase
from tests.simulation.trial_run import play
from tests.simulation.witness import Witness
from tests.simulation.world import BEGINNING, Shape, World

SVG = "{http://www.w3.org/2000/svg}"


class StoryTests(WorldTestCase):
    """What is told of a small world."""

    def story(self, rates: Rates, hours: float) -> tuple[list[str], World]:
        """Play; return the lines without their times."""
        verdict = play(
            8,
            hours=hours,
            rates=rates,
            shape=Shape(clients=2, operations_per_hour=60.0),
            settles=False,
            keeps_story=True,
        )
        assert verdict.world is not None
        return [line.partition("  ")[2] for line in verdict.world.story], verdict.world

    def assertInOrder(self, lines: list[str], *beginnings: str) -> None:
        """Check that lines that begin so follow each other, others between them."""
        left = iter(lines)
        for beginning in beginnings:
            self.assertTrue(any(line.startswith(beginning) for line in left), f"{beginning}, in {lines}")

    def test_a_copy_is_made(self) -> None:
        """From the operator's first morning to a verified copy, drives and record are heard; the picture shows it."""
        lines, world = self.story(NO_FAULTS, 5.0)
        self.assertInOrder(
            lines,
            "the appliance starts, life 1",
            "operator: admits A00001L9",
            "record: bundle ",
            "drive 0: load, A0000",
            "drive 0: the tape is threaded after ",
            "drive 0: format, A0000",
            "drive 0: mount, A0000",
            "drive 0: write ",
            "drive 0: verify ",
        )
        for end in (" planned → writing on A0000", " synced → verified on A0000"):
            self.assertTrue(any(line.startswith("record: copy of bundle ") and end in line for line in lines))
        self.assertTrue(any(line.startswith("PUT c") for line in lines))
        assert world.floor.history is not None
        drawn = ElementTree.fromstring(
            picture(
                world.floor.history,
                title="<a>",
                drives=2,
                begins_at=BEGINNING,
                ends_at=world.reactor.seconds(),
            )
        )
        fills = {bar.get("fill") for bar in drawn.iter(f"{SVG}rect")}
        self.assertLessEqual(
            {COLOURS[what] for what in ("load", "format", "mount", "write", "verify")}, fills
        )

    def test_what_goes_wrong(self) -> None:
        """Faults, warnings of the appliance's log and alerts are told when they come, alerts also when they go."""
        lines, _ = self.story(Rates(rates={"library away": 0.9}), 2.0)
        self.assertInOrder(lines, "fault: library away", "record: alert: ", "record: alert closed: library")
        self.assertTrue(any(line.startswith("log: the library cannot be used: ") for line in lines))

    def test_nobody_listens(self) -> None:
        """A world without a narrator keeps nothing."""
        world = play(8, hours=0.1, shape=Shape(clients=1), settles=False).world
        assert world is not None
        self.assertEqual((world.story, world.floor.history), ([], None))


class WitnessTests(SynchronousTestCase):
    """What the record says is told once it is committed."""

    def test_commits_only(self) -> None:
        """A step that fails is not told, those of the same transaction are, in order and once."""
        connection = sqlite3.connect(":memory:", factory=Connection, isolation_level=None)
        told: list[tuple[str, str, str]] = []
        Witness(connection, lambda *said: told.append(said))

        async def alert(db: Database, subject: str) -> None:
            await db.do(
                "INSERT INTO alerts (kind, subject, severity, sentence, raised_at, last_seen_at, count)"
                f" VALUES ('drive', '{subject}', 'warning', '{subject} is slow', 0, 0, 1)"
            )

        async def failing(db: Database) -> None:
            await alert(db, "drive 1")
            raise ValueError("no")

        steps = (lambda db: alert(db, "drive 0"), failing, lambda db: alert(db, "drive 2"))
        outcomes = commit_together(connection, steps)
        self.assertEqual([outcome.error is None for outcome in outcomes], [True, False, True])
        self.assertEqual(
            told,
            [
                ("alert", "drive 0", "alert: drive 0 is slow"),
                ("alert", "drive 2", "alert: drive 2 is slow"),
            ],
        )


class PictureTests(SynchronousTestCase):
    """What is drawn of a history."""

    def act(
        self, what: str, began_at: float, ended_at: float | None, drive: int = 0, failed: str = ""
    ) -> Act:
        """Something that a drive did."""
        return Act(
            drive=drive,
            what=what,
            barcode=f"A0000{drive}L9",
            size_bytes=0,
            began_at=began_at,
            ended_at=ended_at,
            failed=failed,
        )

    def drawn(self, history: History, ends_at: float) -> ElementTree.Element:
        """Draw two drives."""
        return ElementTree.fromstring(
            picture(history, title="a < b", drives=2, begins_at=0.0, ends_at=ends_at)
        )

    def test_lanes(self) -> None:
        """Each day has a lane for each drive; what lasts over midnight is in both days."""
        history = History(acts=[self.act("load", 80_000, 80_010), self.act("write", 86_000, 87_000)])
        history.marks.append(Mark(at=90_000.0, kind="death", what="kill -9 & more"))
        drawn = self.drawn(history, 100_000.0)
        lanes = {lane.get("id"): lane for lane in drawn.iter(f"{SVG}g") if lane.get("class") == "lane"}
        self.assertEqual(list(lanes), [f"day-{day}-drive-{drive}" for day in (0, 1) for drive in (0, 1)])
        for name in ("day-0-drive-0", "day-1-drive-0"):
            bars = [bar for bar in lanes[name].iter(f"{SVG}rect") if bar.get("fill") == COLOURS["write"]]
            self.assertEqual(len(bars), 1, name)
        self.assertFalse(list(lanes["day-0-drive-1"].iter(f"{SVG}rect")))
        titles = [title.text for title in drawn.iter(f"{SVG}title")]
        self.assertIn("kill -9 & more", titles)
        texts = [text.text for text in drawn.iter(f"{SVG}text")]
        self.assertIn("A00000L9", texts)
        self.assertIn("a < b", texts)

    def test_legend(self) -> None:
        """Every colour and every mark is explained, and named once."""
        texts = [text.text for text in self.drawn(History(), 3600.0).iter(f"{SVG}text")]
        for what in ("idle", *COLOURS, "failed", "a fault"):
            self.assertEqual(texts.count(what), 1, what)

    def test_stays(self) -> None:
        """A cartridge is in a drive from its load to its unload; what failed moved nothing."""
        acts = [
            self.act("load", 0, 10),
            self.act("unload", 100, 110, failed="the robot refused"),
            self.act("unload", 200, 210),
            self.act("load", 300, 310, failed="the robot refused"),
            self.act("load", 400, 410),
        ]
        self.assertEqual(
            [(stay.barcode, stay.began_at, stay.ended_at) for stay in stays(acts, 1000.0)],
            [("A00000L9", 10, 210), ("A00000L9", 410, 1000.0)],
        )
