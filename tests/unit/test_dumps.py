"""When the metadata are dumped, what is kept, and what an operator is told."""

import os
import pickle
from dataclasses import replace
from pathlib import Path

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from coldstore.config.schema import Metadata, Sqlite
from coldstore.interfaces.dumps import DumpFault, IDumps
from coldstore.metadata.sqlite.store import SqliteStore
from coldstore.model.dumps import Dump
from coldstore.plan.dumps import (
    RETRY_SECONDS,
    ROOM_LEAST_BYTES,
    SETTLE_SECONDS,
    DumpFacts,
    DumpPlan,
    DumpPolicy,
    name_of,
    plan_dumps,
    time_of,
)
from coldstore.upkeep.dump_child import Order
from coldstore.upkeep.dumps import clear_leftovers, dumps_in, path_for
from coldstore.work.dumper import KIND, Dumper

HOUR, DAY = 3600.0, 86400.0
NOW = 1_800_000_000.0
POLICY = DumpPolicy(every_seconds=DAY, keep_seconds=7 * DAY)
FACTS = DumpFacts(now=NOW, kept=(), free_bytes=1 << 40, started_at=NOW - 30 * DAY, failed_at=None, failure="")


def dump_of(age_seconds: float, size_bytes: int = 1000) -> Dump:
    """A dump of some age."""
    return Dump(name=name_of(NOW - age_seconds), at=NOW - age_seconds, size_bytes=size_bytes)


class PlanTests(SynchronousTestCase):
    """``plan_dumps``."""

    def plan(self, *kept: Dump, policy: DumpPolicy = POLICY, **changes: object) -> DumpPlan:
        """Plan with these dumps, an appliance that has run for long, and plenty of room."""
        return plan_dumps(replace(FACTS, kept=kept, **changes), policy)

    def test_when(self) -> None:
        """One is due when the newest is a period old, whatever the order in which they are listed; else it is looked again then."""
        self.assertFalse(self.plan(dump_of(2 * DAY), dump_of(HOUR), dump_of(3 * DAY)).is_due)
        self.assertTrue(self.plan(dump_of(2 * DAY), dump_of(DAY)).is_due)
        self.assertEqual(self.plan(dump_of(DAY - 60)).look_seconds, 60)
        self.assertEqual(self.plan(dump_of(60)).look_seconds, HOUR)

    def test_after_a_start(self) -> None:
        """A start is left in peace for a while, with no dump there as well as with one that is old."""
        for kept in ((), (dump_of(9 * DAY),)):
            young = self.plan(*kept, started_at=NOW - SETTLE_SECONDS + 5)
            self.assertEqual((young.is_due, young.look_seconds, young.trouble), (False, 5, ""))
            self.assertTrue(self.plan(*kept, started_at=NOW - SETTLE_SECONDS).is_due)

    def test_after_a_failure(self) -> None:
        """A failure is told, and followed by another attempt after a pause."""
        failed = {"failed_at": NOW - RETRY_SECONDS + 7, "failure": "the disk is away"}
        plan = self.plan(dump_of(2 * DAY), **failed)
        self.assertEqual((plan.is_due, plan.look_seconds), (False, 7))
        self.assertIn(
            "could not be dumped: the disk is away; the last good one is of 2027-01-13 08:00 UTC",
            plan.trouble,
        )
        plan = self.plan(**(failed | {"failed_at": NOW - RETRY_SECONDS}))
        self.assertTrue(plan.is_due)
        self.assertIn("there is none", plan.trouble)

    def test_never(self) -> None:
        """Without a period none is due, none is removed, and none is missed."""
        plan = self.plan(dump_of(99 * DAY), dump_of(98 * DAY), policy=replace(POLICY, every_seconds=None))
        self.assertEqual((plan.remove, plan.is_due, plan.trouble), ((), False, ""))

    def test_what_goes(self) -> None:
        """Those that are too old go, the newest never, however old it is."""
        kept = [dump_of(age * DAY) for age in (9, 6.9, 8, 7.1)]
        self.assertEqual(self.plan(*kept).remove, (kept[0], kept[2], kept[3]))
        self.assertEqual(self.plan(kept[0]).remove, ())
        self.assertEqual(
            self.plan(kept[0], kept[2], policy=replace(POLICY, keep_seconds=0)).remove, (kept[0],)
        )

    def test_room(self) -> None:
        """Without room for one more it is not begun, and that is told; what is about to go counts as room."""
        plan = self.plan(free_bytes=ROOM_LEAST_BYTES - 1)
        self.assertFalse(plan.is_due)
        self.assertIn("no room", plan.trouble)
        self.assertIn("there is none", plan.trouble)
        large = dump_of(2 * DAY, 1 << 30)
        plan = self.plan(large, free_bytes=1 << 30)
        self.assertEqual((plan.is_due, plan.look_seconds), (False, 60))
        self.assertIn("1024 MiB are free and 1280 MiB wanted", plan.trouble)
        self.assertTrue(self.plan(large, dump_of(8 * DAY, 1 << 28), free_bytes=1 << 30).is_due)
        self.assertEqual(self.plan(dump_of(HOUR, 1 << 30), free_bytes=0).trouble, "")

    def test_too_old(self) -> None:
        """When there should have been one for long, that is told; a machine that was off is given time first."""
        self.assertEqual(self.plan(dump_of(1.9 * DAY)).trouble, "")
        self.assertIn(
            "for too long: the last good one is of 2027-01-13", self.plan(dump_of(2.1 * DAY)).trouble
        )
        self.assertIn("for too long: there is none", self.plan().trouble)
        self.assertEqual(self.plan(dump_of(20 * DAY), started_at=NOW - HOUR).trouble, "")

    def test_clock_set_back(self) -> None:
        """Dumps from the future put the next one off not at all, stay, and are not what keeps the last one of the past from going."""
        future = dump_of(-400 * DAY)
        plan = self.plan(future)
        self.assertEqual((plan.is_due, plan.remove), (True, ()))
        plan = self.plan(future, dump_of(HOUR))
        self.assertEqual((plan.is_due, plan.look_seconds, plan.trouble), (False, HOUR, ""))
        plan = self.plan(future, dump_of(9 * DAY), dump_of(8 * DAY), failed_at=NOW, failure="it is away")
        self.assertEqual((plan.is_due, plan.remove), (False, (dump_of(9 * DAY),)))
        self.assertIn("the last good one is of 2027-01-07", plan.trouble)
        self.assertIn("for too long: there is none", self.plan(future).trouble)

    def test_names(self) -> None:
        """A name tells the time, and sorts as times do; other names are none."""
        for at in (0.0, NOW, NOW + 0.9):
            self.assertEqual(time_of(name_of(at)), int(at))
        self.assertLess(name_of(NOW), name_of(NOW + 1))
        for name in (
            "",
            "metadata.sqlite",
            "metadata-20270115T080000Z.dump",
            f"before-upgrade-of-schema-4-{name_of(NOW)}",
            f".{name_of(NOW)}.partial",
            "metadata-2027115T080000Z.dump.gz",
        ):
            self.assertIsNone(time_of(name), name)


class FolderTests(SynchronousTestCase):
    """The folder of dumps."""

    def test_what_is_in_it(self) -> None:
        """Dumps on schedule are found, oldest first, and what a killed process has left of one goes; nothing else is touched."""
        folder = Path(self.mktemp())
        self.assertEqual(dumps_in(folder), [])
        for at in (NOW, NOW - DAY):
            path_for(folder, at).write_bytes(b"12345")
        others = [
            path_for(folder, NOW, before_upgrade_of=4),
            folder / "mine.dump.gz",
            folder / ".mine.dump.gz.partial",
        ]
        left = folder / f".{name_of(NOW)}.partial"
        for path in (*others, left):
            path.touch()
        path_for(folder, NOW - 2 * DAY).symlink_to(folder / "gone")
        path_for(folder, NOW - 3 * DAY).mkdir()
        self.assertEqual(dumps_in(folder), [dump_of(DAY, 5), dump_of(0, 5)])
        path_for(folder, NOW - 2 * DAY).unlink()
        path_for(folder, NOW - 3 * DAY).rmdir()
        clear_leftovers(folder)
        self.assertEqual(
            {path.name for path in folder.iterdir()},
            {path.name for path in others} | {name_of(NOW), name_of(NOW - DAY)},
        )
        self.assertEqual(folder.stat().st_mode & 0o777, 0o700)


@implementer(IDumps)
class FakeDumps:
    """A folder in memory."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.dumps: list[Dump] = []
        self.free = 1 << 40
        self.fault: Exception | None = None
        self.made: Deferred[None] | None = None
        self.stuck: set[str] = set()

    def kept(self) -> list[Dump]:
        """See ``IDumps``."""
        if isinstance(self.fault, OSError):
            raise self.fault
        return list(self.dumps)

    def free_bytes(self) -> int:
        """See ``IDumps``."""
        return self.free

    def make(self, at: float) -> "Deferred[None]":
        """See ``IDumps``."""
        if self.fault is not None:
            return fail(self.fault)
        self.dumps.append(Dump(name=name_of(at), at=at, size_bytes=1000))
        return succeed(None) if self.made is None else self.made

    def remove(self, dump: Dump) -> None:
        """See ``IDumps``."""
        if dump.name in self.stuck:
            raise PermissionError(1, "no", dump.name)
        self.dumps.remove(dump)


class DumperTests(SynchronousTestCase):
    """The loop."""

    def setUp(self) -> None:
        """Have a store, a clock and an empty folder."""
        self.store = SqliteStore(":memory:")
        self.successResultOf(self.store.open())
        self.addCleanup(self.store.close)
        self.clock = Clock()
        self.clock.advance(NOW)
        self.dumps = FakeDumps(self.clock)
        self.dumper = Dumper(store=self.store, dumps=self.dumps, clock=self.clock, policy=POLICY)

    def round(self) -> list[str]:
        """Have a round, rest as long as it says; return the sentences of open alerts."""
        rest = self.successResultOf(Deferred.fromCoroutine(self.dumper.one_round()))
        self.assertGreater(rest, 0)
        self.clock.advance(rest)
        alerts = self.successResultOf(self.store.alerts(include_cleared=False, limit=9))
        self.assertEqual({alert.kind for alert in alerts} - {KIND}, set())
        return [alert.sentence for alert in alerts]

    def days(self, count: float) -> list[str]:
        """Let days go by."""
        end = self.clock.seconds() + count * DAY
        while self.clock.seconds() < end:
            told = self.round()
        return told

    def test_days(self) -> None:
        """A dump a day, of which those of a week are kept; the last one is told."""
        self.assertEqual(self.round(), [])
        self.assertIsNone(self.dumper.last)
        self.assertEqual(self.days(30), [])
        self.assertIn(len(self.dumps.dumps), (7, 8))
        self.assertEqual(self.dumper.last, self.dumps.dumps[-1])
        gaps = {
            round(after.at - before.at, -4)
            for before, after in zip(self.dumps.dumps, self.dumps.dumps[1:], strict=False)
        }
        self.assertEqual(gaps, {90000.0})

    def test_failures(self) -> None:
        """An alert opens with a failure, stays one and the same while it lasts, and closes with the next good dump."""
        self.days(2)
        self.dumps.fault = DumpFault("/dumps: No space left on device")
        with capturedLogs() as logged:
            told = self.days(1.1)
        self.assertEqual(len(told), 1)
        self.assertIn("No space left on device", told[0])
        (alert,) = self.successResultOf(self.store.alerts(include_cleared=True, limit=9))
        self.assertEqual(alert.count, 1)
        self.assertGreater(sum(event["log_level"] is LogLevel.error for event in logged), 2)
        good = self.dumper.last
        self.dumps.fault = None
        self.assertEqual(self.days(0.1), [])
        self.assertIsNot(self.dumper.last, good)

    def test_folder_that_cannot_be_read(self) -> None:
        """A folder that cannot be read is told like any other reason; the last dump that was seen is still known."""
        self.days(2)
        last = self.dumper.last
        self.dumps.fault = PermissionError(13, "Permission denied", "/dumps")
        told = self.days(1.2)
        self.assertEqual(len(told), 1)
        self.assertEqual(self.dumper.last, last)
        self.dumps.fault = None
        self.assertEqual(self.days(1.2), [])

    def test_room(self) -> None:
        """No room is told, and when there is some again it goes on."""
        self.days(2)
        self.dumps.free = 0
        self.assertIn("no room", self.days(1.1)[0])
        self.dumps.free = 1 << 40
        self.assertEqual(self.days(0.1), [])

    def test_what_cannot_be_removed(self) -> None:
        """An old dump that cannot be removed keeps nobody from making new ones."""
        self.days(1)
        self.dumps.stuck = {self.dumps.dumps[0].name}
        with capturedLogs() as logged:
            self.days(12)
        self.assertIn(self.dumps.dumps[0].name, self.dumps.stuck)
        self.assertIn(len(self.dumps.dumps), (8, 9))
        self.assertTrue(any("stays" in event["log_format"] for event in logged))

    def test_stop(self) -> None:
        """A stop while one is made gives it up."""
        self.clock.advance(DAY)
        self.dumps.made = Deferred()
        under_way = Deferred.fromCoroutine(self.dumper.one_round())
        self.assertNoResult(under_way)
        under_way.cancel()
        self.failureResultOf(under_way)
        self.assertTrue(self.dumps.made.called)


class ChildTests(SynchronousTestCase):
    """The process that makes a dump."""

    def test_order(self) -> None:
        """What it is told comes through a descriptor that holds what was put into it, and no name in any folder."""
        order = Order(state_directory="/state", metadata=Metadata(sqlite=Sqlite(path="/x/y")), at=NOW)
        descriptor = order.descriptor()
        with open(descriptor, "rb") as file:
            self.assertEqual(pickle.load(file), order)
        self.assertEqual(order.settings.sqlite_path, "/x/y")
        self.assertEqual(order.settings.dumps_directory, "/state/dumps")
        self.assertRaises(OSError, os.fstat, descriptor)
