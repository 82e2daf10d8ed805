"""``MtDrive`` over a simulated runner."""

from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.drive import (
    DriveBusy,
    DriveCondition,
    DriveCutOff,
    DriveFailed,
    DriveNotReady,
    DriveStatusUnreadable,
    DriveUnreachable,
)
from coldstore.interfaces.process import CommandTimeout, LockHolder
from coldstore.tape.drive import MtDrive
from coldstore.testing.process import Script, SimulatedCommandRunner, SimulatedDeviceLocks
from coldstore.testing.tenure import SimulatedTenure
from tests.unit.golden import script

READY = script("mt", "status-just-loaded")
LOADING = script("mt", "status-while-loading")
EMPTY = script("mt", "status-no-tape")
BUSY = script("mt", "status-busy")
DONE = script("mt", "offline")


class DriveTests(SynchronousTestCase):
    """Status, readiness and letting go."""

    def setUp(self) -> None:
        """Make a drive, its clock and its lock."""
        self.clock = Clock()
        self.runner = SimulatedCommandRunner(self.clock)
        self.lock = SimulatedDeviceLocks(self.clock).drive(0)
        self.tenure = SimulatedTenure()
        self.drive = MtDrive(
            self.runner, "/dev/nst0", number=0, lock=self.lock, tenure=self.tenure, clock=self.clock
        )

    def script(self, *scripts: Script | CommandTimeout) -> None:
        """Queue what mt does, command after command."""
        self.runner.expect(["mt", "-f", "/dev/nst0"], *scripts)

    def verbs(self) -> list[str]:
        """The verbs that were run."""
        self.assertEqual(self.runner.unused(), ())
        return [ran.argv[3] for ran in self.runner.ran]

    def step(self, seconds: int) -> None:
        """Let seconds pass one by one."""
        for _ in range(seconds):
            self.clock.advance(1)

    def test_conditions(self) -> None:
        """The drive's condition is told, and that another process has it open."""
        self.script(READY, LOADING, EMPTY, BUSY)
        seen = [self.successResultOf(self.drive.status()).condition for _ in range(4)]
        self.assertEqual(
            seen, [DriveCondition.READY, DriveCondition.LOADING, DriveCondition.EMPTY, DriveCondition.BUSY]
        )
        self.assertEqual({ran.descriptors for ran in self.runner.ran}, {(self.lock.descriptor(),)})

    def test_unreachable(self) -> None:
        """A missing device, a forbidden one and a missing program."""
        self.script(script("mt", "status-missing-device"), script("mt", "permission-denied"))
        for _ in range(3):
            self.failureResultOf(self.drive.status(), DriveUnreachable)

    def test_unknown_output(self) -> None:
        """An answer that is not known is refused."""
        self.script(Script(stdout=b"mt from the future\n"))
        self.failureResultOf(self.drive.status(), DriveStatusUnreadable)

    def test_silence(self) -> None:
        """A status that does not come is a drive that cannot be reached, whatever is in it."""
        self.script(Script(seconds=None))
        asking = self.drive.status()
        self.step(60)
        self.failureResultOf(asking, DriveUnreachable)

    def test_waits(self) -> None:
        """Readiness is polled each second, over a moment without tape and the threading."""
        self.script(EMPTY, LOADING, LOADING, READY)
        waiting = self.drive.wait_until_ready(timeout_seconds=300)
        self.step(2)
        self.assertNoResult(waiting)
        self.step(1)
        self.assertTrue(self.successResultOf(waiting).is_ready)
        self.assertEqual(self.verbs(), ["status"] * 4)

    def test_waits_in_vain(self) -> None:
        """Waiting ends at its deadline, whether the drive is loading or empty; no blocking command was run."""
        for said, words in ((LOADING, "loading"), (EMPTY, "empty")):
            self.runner.install("mt", lambda argv, said=said: said)
            waiting = self.drive.wait_until_ready(timeout_seconds=30)
            self.step(30)
            self.assertIn(words, self.failureResultOf(waiting, DriveNotReady).value.reason)
        self.assertEqual(set(self.verbs()), {"status"})

    def test_waits_not_for_others(self) -> None:
        """A drive that another process uses is not waited for."""
        self.script(BUSY)
        self.failureResultOf(self.drive.wait_until_ready(timeout_seconds=300), DriveBusy)

    def test_offline(self) -> None:
        """Letting go of a ready tape is one command with a long deadline."""
        self.script(READY, DONE)
        self.successResultOf(self.drive.offline())
        self.assertEqual(self.verbs(), ["status", "offline"])
        self.assertEqual(self.runner.ran[1].timeout_seconds, 600)

    def test_offline_without_tape(self) -> None:
        """A drive without tape is left alone: the command would wait for one in the kernel."""
        self.script(EMPTY)
        self.successResultOf(self.drive.offline())
        self.assertEqual(self.verbs(), ["status"])

    def test_offline_while_loading(self) -> None:
        """A drive that is loading is waited for first."""
        self.script(LOADING, LOADING, READY, DONE)
        going = self.drive.offline()
        self.step(1)
        self.successResultOf(going)

    def test_offline_of_others(self) -> None:
        """A drive that another process uses is not taken offline."""
        self.script(BUSY)
        self.failureResultOf(self.drive.offline(), DriveBusy)
        self.script(READY, script("mt", "rewind-busy"), BUSY)
        self.failureResultOf(self.drive.offline(), DriveBusy)

    def test_offline_failed_but_done(self) -> None:
        """A failure is looked at: a drive that has let go is done."""
        self.script(READY, script("mt", "offline-failed"), EMPTY)
        self.successResultOf(self.drive.offline())

    def test_offline_failed(self) -> None:
        """A drive that keeps its tape has failed."""
        self.script(READY, script("mt", "offline-failed"), READY)
        fault = self.failureResultOf(self.drive.offline(), DriveFailed).value
        self.assertIn("Input/output error", fault.reason)

    def test_killed_commands(self) -> None:
        """A command that somebody kills is looked at and repeated; when that goes on, it says nothing about the drive."""
        killed = Script(signal=9)
        self.script(killed, READY, killed, READY, DONE)
        self.successResultOf(self.drive.offline())
        self.assertEqual(self.verbs(), ["status", "status", "offline", "status", "offline"])
        self.script(READY, killed, EMPTY)
        self.successResultOf(self.drive.offline())
        self.runner.install("mt", lambda argv: READY if argv[-1] == "status" else killed)
        self.failureResultOf(self.drive.offline(), DriveCutOff)
        self.runner.install("mt", lambda argv: killed)
        self.failureResultOf(self.drive.status(), DriveCutOff)

    def test_offline_late(self) -> None:
        """A command that outlives its deadline is looked at, once the kernel let go of it."""
        self.script(READY, CommandTimeout(["mt"], timeout_seconds=600, is_reaped=False), EMPTY)
        self.successResultOf(self.lock.acquire(timeout_seconds=1))
        self.lock.orphan = LockHolder(process_id=9, command="mt offline")
        going = self.drive.offline()
        self.step(10)
        self.assertNoResult(going)
        self.lock.orphan = None
        self.step(1)
        self.successResultOf(going)

    def test_locked_by_another(self) -> None:
        """A drive whose lock an orphan keeps is busy."""
        self.lock.orphan = LockHolder(process_id=9, command="mover")
        asking = self.drive.status()
        self.step(901)
        self.assertIn("9 (mover)", self.failureResultOf(asking, DriveBusy).value.reason)

    def test_rewinding_nodes(self) -> None:
        """A node that rewinds when closed is refused, by its name and through a link."""
        link = Path(self.mktemp())
        link.symlink_to("/dev/st1")
        for device in ("/dev/st0", str(link)):
            self.assertRaises(
                ValueError,
                MtDrive,
                self.runner,
                device,
                number=0,
                lock=self.lock,
                tenure=self.tenure,
                clock=self.clock,
            )
