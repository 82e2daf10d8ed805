"""Waiting for what only one appliance can have, and noticing that somebody else has it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from coldstore.appliance.standby import GRACE_SECONDS, LOOK_SECONDS, PAUSE_SECONDS, SAY_SECONDS, Turn, Watch
from coldstore.appliance.tenure import Tenure, later_run
from coldstore.interfaces.metadata import AnotherAppliance
from coldstore.metadata.sqlite.store import SqliteStore
from coldstore.model.errors import MetadataUnavailable
from coldstore.model.hosts import Host
from coldstore.util.statedir import StateDirectory, StateDirectoryInUse


class TurnTests(SynchronousTestCase):
    """``Turn``."""

    def setUp(self) -> None:
        """Nobody has it; note what the service manager is told."""
        self.clock = Clock()
        self.clock.advance(1000)
        self.told: list[str] = []
        self.holder: str | None = None
        self.attempts = 0

    async def attempt(self) -> str:
        """Take it."""
        self.attempts += 1
        if self.holder is not None:
            raise StateDirectoryInUse(Path("/state"), self.holder)
        return "taken"

    def take(self, *, is_standby: bool, attempt: Callable[[], Any] | None = None) -> "Deferred[Any]":
        """Begin to take it."""
        self.turn = Turn(is_standby=is_standby, clock=self.clock, tell=self.told.append)
        return Deferred.fromCoroutine(self.turn.take(attempt or self.attempt))

    def pass_time(self, seconds: float) -> None:
        """Let time pass, event by event."""
        end = self.clock.seconds() + seconds
        while self.clock.calls and self.clock.calls[0].getTime() <= end:
            self.clock.advance(max(0.0, self.clock.calls[0].getTime() - self.clock.seconds()))
        self.clock.advance(max(0.0, end - self.clock.seconds()))

    def test_free(self) -> None:
        """What is free is taken at once, and nobody is told anything."""
        self.assertEqual(self.successResultOf(self.take(is_standby=True)), "taken")
        self.assertEqual(self.told, [])
        self.assertFalse(self.turn.has_stood_by)

    def test_refusal(self) -> None:
        """What is still taken after a moment is a refusal that names the holder."""
        self.holder = "process 7 on one"
        taking = self.take(is_standby=False)
        self.pass_time(GRACE_SECONDS - 0.1)
        self.assertNoResult(taking)
        self.pass_time(1)
        self.assertIn("process 7 on one", str(self.failureResultOf(taking, StateDirectoryInUse).value))
        self.assertEqual(self.told, [])

    def test_let_go_in_time(self) -> None:
        """Who lets go within the moment is waited for by everybody, without a word."""
        self.holder = "process 7 on one"
        taking = self.take(is_standby=False)
        self.pass_time(1)
        self.holder = None
        self.pass_time(1)
        self.assertEqual(self.successResultOf(taking), "taken")
        self.assertFalse(self.turn.has_stood_by)

    def test_standby(self) -> None:
        """A standby waits calmly, tells the service manager for whom, and takes over when it is free."""
        self.holder = "process 7 on one"
        with capturedLogs() as events:
            taking = self.take(is_standby=True)
            self.pass_time(SAY_SECONDS * 2.5)
        self.assertNoResult(taking)
        self.assertEqual(self.told, ["READY=1\nSTATUS=standing by for process 7 on one"])
        said = [event for event in events if event["log_level"] is LogLevel.info]
        self.assertEqual(len(said), 3)
        self.assertIn("process 7 on one", said[0]["reason"])
        self.assertLess(self.attempts, SAY_SECONDS * 2.5 / PAUSE_SECONDS + 20)
        self.holder = "process 8 on two"
        self.pass_time(PAUSE_SECONDS)
        self.assertEqual(self.told[1:], ["READY=1\nSTATUS=standing by for process 8 on two"])
        self.holder = None
        self.pass_time(PAUSE_SECONDS)
        self.assertEqual(self.successResultOf(taking), "taken")
        self.assertTrue(self.turn.has_stood_by)

    def test_stop(self) -> None:
        """A standby that is stopped ends at once, and tries no more."""
        self.holder = "process 7 on one"
        taking = self.take(is_standby=True)
        self.pass_time(100)
        attempts = self.attempts
        taking.cancel()
        self.failureResultOf(taking)
        self.pass_time(100)
        self.assertEqual(self.attempts, attempts)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_store(self) -> None:
        """A database that another one has open is waited for as well; other failures are not."""
        fault: Exception = AnotherAppliance("the database cold", "process 9 on db")
        taking = self.take(is_standby=True, attempt=lambda: fail(fault))
        self.pass_time(GRACE_SECONDS + PAUSE_SECONDS)
        self.assertEqual(self.told, ["READY=1\nSTATUS=standing by for process 9 on db"])
        fault = MetadataUnavailable("away")
        self.pass_time(PAUSE_SECONDS)
        self.failureResultOf(taking, MetadataUnavailable)


class WatchTests(SynchronousTestCase):
    """``Watch``."""

    def setUp(self) -> None:
        """An appliance that is the one."""
        self.clock = Clock()
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.path = str(self.folder / "metadata.sqlite")
        self.store = SqliteStore(self.path)
        self.successResultOf(self.store.open())
        self.addCleanup(self.store.close)
        self.epoch = self.successResultOf(self.store.take_epoch(at=1.0, host=Host(name="one").text))
        self.directory = StateDirectory(self.folder, host="one")
        self.addCleanup(self.directory.release)
        self.sentences: list[str] = []
        tenure = Tenure(
            questions=[later_run(self.store, self.epoch.number), self.ask_directory],
            clock=self.clock,
            ticks=self.clock.seconds,
        )
        self.watch = Watch(
            store=self.store, tenure=tenure, clock=self.clock, on_taken_over=self.sentences.append
        )

    def ask_directory(self) -> "Deferred[str | None]":
        """Whether somebody else holds the state directory."""
        return maybeDeferred(self.directory.other_holder)

    def other_store(self) -> SqliteStore:
        """Another process's view of the same file."""
        other = SqliteStore(self.path)
        self.successResultOf(other.open())
        self.addCleanup(other.close)
        return other

    def test_nothing(self) -> None:
        """As long as nobody comes nothing is told, and the end leaves nothing behind."""
        self.watch.start()
        for _ in range(20):
            self.clock.advance(LOOK_SECONDS)
        self.watch.stop()
        self.assertEqual((self.sentences, self.clock.getDelayedCalls()), ([], []))

    def test_epoch(self) -> None:
        """A later run in the record is seen at the next look, though nothing is written."""
        self.watch.start()
        other = self.other_store()
        self.successResultOf(other.take_epoch(at=2.0, host=Host(name="two").text))
        self.assertEqual(self.sentences, [])
        self.clock.advance(LOOK_SECONDS)
        self.assertEqual(len(self.sentences), 1)
        self.assertIn("on two", self.sentences[0])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_write(self) -> None:
        """A write that is refused for it is told at once, and once."""
        self.watch.start()
        other = self.other_store()
        self.successResultOf(other.take_epoch(at=2.0, host=Host(name="two").text))
        for _ in range(2):
            self.failureResultOf(self.store.clear_alert(kind="k", subject="s", at=1.0), MetadataUnavailable)
        self.assertEqual(len(self.sentences), 1)
        self.clock.advance(LOOK_SECONDS)
        self.assertEqual(len(self.sentences), 1)

    def test_directory(self) -> None:
        """So is whoever has taken the state directory, whose lock was lost."""
        self.watch.start()
        lock = self.folder / "lock"
        lock.write_text("")
        self.clock.advance(LOOK_SECONDS)
        self.assertEqual(self.sentences, [])
        lock.write_text("process 8 on two\n")
        self.clock.advance(LOOK_SECONDS)
        self.assertEqual(len(self.sentences), 1)
        self.assertIn("process 8 on two", self.sentences[0])

    def test_away(self) -> None:
        """A store or a directory that cannot be asked tells nothing: it is asked again."""
        self.watch.start()
        self.successResultOf(self.store.close())
        lock = self.folder / "lock"
        lock.unlink()
        lock.mkdir()
        for _ in range(3):
            self.clock.advance(LOOK_SECONDS)
        self.assertEqual(self.sentences, [])
        lock.rmdir()
        lock.write_text("process 8 on two\n")
        self.clock.advance(LOOK_SECONDS)
        self.assertEqual(len(self.sentences), 1)
