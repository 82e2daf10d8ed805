"""What is said of etcd's room, and what of its past is forgotten."""

from dataclasses import replace

from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from coldstore.metadata.etcd.gateway import KeyValue, Range, Status
from coldstore.metadata.etcd.keys import Keys
from coldstore.metadata.etcd.server import ROUND_SECONDS, Upkeep, shortage
from coldstore.model.errors import MetadataUnavailable

MIB = 1 << 20
GOOD = Status(version=(3, 4, 23), size_bytes=100 * MIB, used_bytes=50 * MIB, quota_bytes=0, errors=())


class ShortageTests(SynchronousTestCase):
    """When an operator is to do something."""

    def test_shortage(self) -> None:
        """Alarms, rows that fill the quota, and a file that does, each with what helps."""
        self.assertEqual(shortage(GOOD), "")
        self.assertEqual(shortage(replace(GOOD, size_bytes=1600 * MIB)), "")
        self.assertIn("NOSPACE", shortage(replace(GOOD, errors=("alarm:NOSPACE",))))
        self.assertIn("uses 1700 MiB of the 2048 MiB", shortage(replace(GOOD, used_bytes=1700 * MIB)))
        self.assertIn("etcdctl defrag", shortage(replace(GOOD, size_bytes=1700 * MIB)))
        larger = replace(GOOD, size_bytes=1700 * MIB, used_bytes=1700 * MIB, quota_bytes=8192 * MIB)
        self.assertEqual(shortage(larger), "")
        self.assertIn("of its quota", shortage(replace(larger, used_bytes=8000 * MIB)))


class UpkeepTests(SynchronousTestCase):
    """Rounds."""

    def setUp(self) -> None:
        """Begin with a good etcd."""
        self.clock = Clock()
        self.compacted: list[int] = []
        self.statuses_now: dict[str, Status | MetadataUnavailable] = {"one": GOOD}
        self.is_away = False
        self.revision = 10
        self.held: list[int] = []
        self.upkeep = Upkeep(self, Keys("/c"), reactor=self.clock, revision=lambda: self.revision)  # type: ignore[arg-type]

    async def statuses(self) -> dict[str, Status | MetadataUnavailable]:
        """As a gateway does."""
        return self.statuses_now

    async def range(self, key: bytes, end: bytes, *, keys_only: bool) -> Range:
        """As a gateway does."""
        self.assertEqual((key, end, keys_only), (b"/c/reading/", b"/c/reading0", True))
        rows = tuple(KeyValue(key=key + b"x", value=b"", revision=each, lease=1) for each in self.held)
        return Range(rows=rows, revision=self.revision, is_more=False, count=len(rows))

    async def compact(self, revision: int) -> None:
        """As a gateway does."""
        if self.is_away:
            raise MetadataUnavailable("away")
        self.compacted.append(revision)

    def test_compacting(self) -> None:
        """What was the last batch two rounds ago is the first that is kept."""
        self.upkeep.start()
        for revision in (20, 30, 40):
            self.revision = revision
            self.clock.advance(ROUND_SECONDS)
        self.assertEqual(self.compacted, [10, 20])
        self.is_away = True
        self.clock.advance(ROUND_SECONDS)
        self.is_away = False
        self.clock.advance(ROUND_SECONDS)
        self.assertEqual(self.compacted, [10, 20, 40])
        self.upkeep.stop()
        self.upkeep.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_is_read(self) -> None:
        """What somebody reads is kept as long as he does."""
        self.upkeep.start()
        for revision, held in ((20, []), (30, [25, 15]), (40, [25]), (50, [25]), (60, [])):
            self.revision, self.held = revision, held
            self.clock.advance(ROUND_SECONDS)
        self.upkeep.stop()
        self.assertEqual(self.compacted, [10, 20, 25, 40])

    def warnings(self, statuses: dict[str, Status | MetadataUnavailable]) -> list[tuple[str, str]]:
        """Return what is said in two rounds."""
        self.statuses_now = statuses
        with capturedLogs() as logs:
            self.upkeep.start()
            self.clock.advance(ROUND_SECONDS)
        self.upkeep.stop()
        return [(entry["trouble"], entry["where"]) for entry in logs if entry["log_level"] is LogLevel.warn]

    def test_warning(self) -> None:
        """A shortage is said in every round that finds it, whichever member has it."""
        short = replace(GOOD, errors=("alarm:NOSPACE",))
        self.assertEqual(
            self.warnings({"one": GOOD, "two": short}), [("etcd has alarms: alarm:NOSPACE", "two")] * 2
        )

    def test_away(self) -> None:
        """A member that is away is told while another one answers; when none does, everybody notices."""
        away = MetadataUnavailable("not reached")
        self.assertEqual(
            self.warnings({"one": away, "two": GOOD}), [("a member is away: not reached", "one")] * 2
        )
        self.assertEqual(self.warnings({"one": away, "two": away}), [])
