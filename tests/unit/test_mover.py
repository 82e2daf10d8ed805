"""The appliance's end of the mover, on a reactor that a test moves."""

from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.filesystem import WrongVolume
from coldstore.interfaces.mover import (
    SHA256_ATTRIBUTE,
    DestinationFault,
    EndOfTape,
    FileExistsOnVolume,
    FileRange,
    FileTooLarge,
    Literal,
    MediumFault,
    MoverDied,
    MoverTimeout,
    NoSuchFileOnVolume,
    StagedBytesDamaged,
    VolumeGone,
)
from coldstore.tape.mover import (
    FILESYSTEM_FAULTS,
    Child,
    MoverLimits,
    MoverProtocol,
    checked_attribute,
    checked_path,
    fault_of,
    write_pieces,
)


class Transport:
    """Notes what was done to a child."""

    def __init__(self, protocol: MoverProtocol) -> None:
        self.protocol = protocol
        self.sent = b""
        self.done: list[str] = []
        self.pid = 7
        self.is_on_its_way_out = False
        """Whether it has died, although its protocol has not been told."""

    def writeToChild(self, descriptor: int, line: bytes) -> None:
        """Take a command, as Twisted does."""
        if self.is_on_its_way_out:
            raise KeyError(descriptor)
        self.sent += line

    def signalProcess(self, name: str) -> None:
        """Take a signal, as Twisted does."""
        if self.is_on_its_way_out:
            raise ProcessExitedAlready
        self.done.append(name)

    def closeStdin(self) -> None:
        """Take the farewell."""
        self.done.append("farewell")


class SpawningClock(Clock):
    """A clock that spawns transports."""

    transport: Transport

    def spawnProcess(self, protocol: MoverProtocol, *args: Any, **kwargs: Any) -> Transport:
        """Note the child."""
        self.transport = Transport(protocol)
        return self.transport


class ChildTests(SynchronousTestCase):
    """Asking a child and watching it."""

    def setUp(self) -> None:
        """Start a child."""
        self.clock = SpawningClock()
        self.child = Child(self.clock, ["mover"], {}, [9], MoverLimits(silence_seconds=60, reap_seconds=5))
        self.protocol = self.clock.transport.protocol
        self.events: list[object] = []

    def ask(self) -> Any:
        """Send a command."""
        return self.child.ask({"op": "space"}, self.events.append, 60)

    def test_answer(self) -> None:
        """Lines may come in any pieces; events come before the answer."""
        asked = self.ask()
        self.assertEqual(self.clock.transport.sent, b'{"id": 1, "op": "space"}\n')
        for piece in (b'{"id": 1, "pro', b'gress": 5}\n{"id": 1, "done"', b': {"total": 3}}\n'):
            self.protocol.outReceived(piece)
        self.assertEqual(self.events, [{"id": 1, "progress": 5}])
        self.assertEqual(self.successResultOf(asked), {"total": 3})
        self.assertEqual(self.clock.calls, [])

    def test_silence(self) -> None:
        """Each sign of life gives it new time; then it is killed, and the answer comes when it is reaped."""
        asked = self.ask()
        self.clock.advance(59)
        self.protocol.outReceived(b'{"id": 1, "progress": 5}\n')
        self.clock.advance(59)
        self.assertEqual(self.clock.transport.done, [])
        self.clock.advance(1)
        self.assertEqual(self.clock.transport.done, ["KILL"])
        self.assertNoResult(asked)
        self.protocol.processEnded(Failure(ProcessTerminated(None, 9)))
        self.failureResultOf(asked, MoverTimeout)

    def test_never_reaped(self) -> None:
        """A child that the kernel does not let go of is told as such after a while."""
        asked = self.ask()
        self.clock.advance(60)
        self.clock.advance(5)
        failure = self.failureResultOf(asked, MoverTimeout)
        self.assertIn("not ended", str(failure.value))
        self.assertTrue(self.child.is_condemned)
        self.assertFalse(self.child.is_ended)

    def test_died(self) -> None:
        """A child that ends fails the question with its last words."""
        asked = self.ask()
        self.protocol.errReceived(b"Traceback\nValueError: plan\n")
        self.protocol.processEnded(Failure(ProcessDone(0)))
        failure = self.failureResultOf(asked, MoverDied)
        self.assertIn("ValueError: plan", str(failure.value))
        self.assertEqual(self.clock.calls, [])

    def test_ended_before(self) -> None:
        """A child that ended, and of which that was told before it is asked, has died: nobody waits for what it will not say."""
        self.clock.transport.is_on_its_way_out = True
        self.protocol.processEnded(Failure(ProcessTerminated(None, 9)))
        failure = self.failureResultOf(self.ask(), MoverDied)
        self.assertIn("signal 9", str(failure.value))
        self.assertEqual(self.clock.calls, [])

    def test_on_its_way_out(self) -> None:
        """A child that has just died can be asked, and killed: the answer is that it died."""
        self.clock.transport.is_on_its_way_out = True
        asked = self.ask()
        self.assertNoResult(asked)
        self.child.kill()
        self.protocol.processEnded(Failure(ProcessTerminated(None, 9)))
        self.failureResultOf(asked, MoverDied)
        self.assertEqual(self.clock.calls, [])

    def test_cancelled(self) -> None:
        """Cancelling kills it, and a late answer is ignored."""
        asked = self.ask()
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.assertEqual(self.clock.transport.done, ["KILL"])
        self.protocol.outReceived(b'{"id": 1, "done": {}}\n')
        self.protocol.processEnded(Failure(ProcessTerminated(None, 9)))

    def test_stale_answer(self) -> None:
        """An answer to another question is ignored."""
        asked = self.ask()
        self.protocol.outReceived(b'{"id": 0, "done": {}}\n')
        self.assertNoResult(asked)
        self.protocol.outReceived(b'{"id": 1, "done": {}}\n')
        self.successResultOf(asked)


class FaultTests(SynchronousTestCase):
    """Faults that the child names."""

    def test_all(self) -> None:
        """Each kind becomes its exception; an unknown one counts as a dead mover."""
        table: dict[type[Exception], dict[str, object]] = {
            EndOfTape: {"path": "p", "written": 1},
            MediumFault: {"path": "p", "operation": "write", "errno": 5, "message": "m"},
            VolumeGone: {"message": "m"},
            StagedBytesDamaged: {"ordinal": 1, "path": "p", "reason": "r"},
            DestinationFault: {"path": "p", "errno": 28, "message": "m"},
            FileExistsOnVolume: {"path": "p"},
            NoSuchFileOnVolume: {"path": "p"},
            FileTooLarge: {"message": "m"},
            WrongVolume: {"message": "m", "found_label": "A00001", "found_uuid": "u"},
            **{kind: {"message": "m"} for kind in FILESYSTEM_FAULTS.values()},
        }
        for kind, fields in table.items():
            self.assertIs(type(fault_of({"kind": kind.__name__, **fields})), kind)
        self.assertIsInstance(fault_of({"kind": "BadPlan", "message": "m"}), MoverDied)

    def test_attributes(self) -> None:
        """Names that mean something to LTFS are kept from files of ours, but for that of the hash."""
        for name in ("coldstore.bundle", "a", SHA256_ATTRIBUTE):
            self.assertEqual(checked_attribute(name), name)
        for name in ("", "ltfs.sync", "ltfs."):
            self.assertRaises(ValueError, checked_attribute, name)

    def test_paths(self) -> None:
        """Paths stay within the volume."""
        self.assertEqual(checked_path("a/b..c"), "a/b..c")
        for path in ("", "/a", "a/", "a//b", ".", "a/../b"):
            self.assertRaises(ValueError, checked_path, path)

    def test_plan(self) -> None:
        """A plan holds literals raw and ranges by reference, in order."""
        path = self.mktemp()
        piece = FileRange(path="/s/ü", offset_bytes=1, length_bytes=2, crc64nvme=2**64 - 1)
        write_pieces(path, iter([Literal(content=b"a\nb"), piece, Literal(content=b"")]))
        with open(path, "rb") as file:
            self.assertEqual(file.read(), b'[3]\na\nb["/s/\\u00fc", 1, 2, 18446744073709551615]\n[0]\n')
