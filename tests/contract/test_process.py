"""The contract of ``ICommandRunner`` and ``IDeviceLock``, run on real processes and on the simulated ones."""

import os
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from coldstore.interfaces.process import (
    CommandNotFound,
    CommandTimeout,
    Completed,
    ICommandRunner,
    IDeviceLock,
    IDeviceLocks,
    LockHeld,
    LockHolder,
    LockNotHeld,
    OutputTooLarge,
)
from coldstore.tape.locks import FlockDeviceLocks, holders_of
from coldstore.tape.process import IProcessReactor, ReactorCommandRunner
from coldstore.testing.process import Script, SimulatedCommandRunner, SimulatedDeviceLocks
from coldstore.util.asynchronous import returns_deferred

if TYPE_CHECKING:
    _Base = TestCase
else:
    _Base = object

reactor = cast(IProcessReactor, global_reactor)
LIMIT_BYTES = 100_000


def living_members(group: int) -> list[int]:
    """Return the processes of a group that are not zombies (whose parent died, and waits for init to notice)."""
    living = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                state, _, its_group, *_ = (process / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(its_group) == group and state != "Z":
                living.append(int(process.name))
    return living


class CommandRunnerContract(_Base):
    """What every command runner keeps. ``command`` makes an argument list that behaves as the script says."""

    runner: ICommandRunner

    def command(self, script: Script) -> list[str]:
        """Return a command that does what the script says."""
        raise NotImplementedError

    def pass_time(self, seconds: float) -> None:
        """Let time go by, where time is ours to move."""

    def assert_gone(self, argv: list[str]) -> None:
        """Fail when the command still runs."""
        raise NotImplementedError

    def test_interface(self) -> None:
        """The runner has what the interface lists."""
        verifyObject(ICommandRunner, self.runner)

    @returns_deferred
    async def test_streams_apart(self) -> None:
        """Standard output and standard error are kept apart, byte for byte, with the exit status."""
        argv = self.command(Script(stdout=b"said\n\xff", stderr=b"complained", exit_status=3))
        completed = await self.runner.run(argv, timeout_seconds=30)
        self.assertEqual(
            (completed.argv, completed.stdout, completed.stderr, completed.exit_status, completed.signal),
            (tuple(argv), b"said\n\xff", b"complained", 3, None),
        )
        self.assertFalse(completed.is_success)
        self.assertEqual(completed.ending, "exit status 3")

    @returns_deferred
    async def test_success(self) -> None:
        """A command that exits with 0 is a success."""
        completed = await self.runner.run(self.command(Script()), timeout_seconds=30)
        self.assertTrue(completed.is_success)
        self.assertEqual((completed.stdout, completed.stderr, completed.signal), (b"", b"", None))

    @returns_deferred
    async def test_seconds(self) -> None:
        """The time that a command took is told."""
        running = self.runner.run(self.command(Script(seconds=0.3)), timeout_seconds=30)
        self.pass_time(0.3)
        completed = await running
        self.assertGreaterEqual(completed.seconds, 0.29)

    @returns_deferred
    async def test_signal(self) -> None:
        """A command that is ended by a signal has no exit status."""
        completed = await self.runner.run(self.command(Script(signal=signal.SIGTERM)), timeout_seconds=30)
        self.assertEqual((completed.exit_status, completed.signal), (None, signal.SIGTERM))
        self.assertFalse(completed.is_success)
        self.assertEqual(completed.ending, "signal 15")

    @returns_deferred
    async def test_deadline(self) -> None:
        """A command that outlives its deadline is killed, reaped, and fails with what it had said."""
        argv = self.command(Script(stdout=b"so far", seconds=None))
        running = self.runner.run(argv, timeout_seconds=1.5)
        self.pass_time(1.5)
        fault = await self.assertFailure(running, CommandTimeout)
        self.assertEqual((fault.argv, fault.stdout, fault.timeout_seconds), (tuple(argv), b"so far", 1.5))
        self.assertTrue(fault.is_reaped)
        self.assert_gone(argv)

    @returns_deferred
    async def test_cancelling(self) -> None:
        """Cancelling kills the command; the Deferred fails once it is gone."""
        argv = self.command(Script(seconds=None))
        running = self.runner.run(argv, timeout_seconds=30)
        self.pass_time(0.1)
        running.cancel()
        await self.assertFailure(running, CancelledError)
        self.assert_gone(argv)

    @returns_deferred
    async def test_unknown_program(self) -> None:
        """A program that does not exist is not found, absolute or by name."""
        for name in ("/nonexistent/mtx", "no-such-program-here"):
            fault = await self.assertFailure(
                self.runner.run([name, "status"], timeout_seconds=30), CommandNotFound
            )
            self.assertEqual(fault.argv, (name, "status"))

    @returns_deferred
    async def test_floods(self) -> None:
        """A command that says more than allowed on either stream is killed; what was kept is bounded."""
        flood = b"x" * (LIMIT_BYTES + 1)
        for stream, script in (("stdout", Script(stdout=flood)), ("stderr", Script(stderr=flood))):
            argv = self.command(script)
            fault = await self.assertFailure(self.runner.run(argv, timeout_seconds=30), OutputTooLarge)
            self.assertEqual((fault.stream, fault.limit_bytes), (stream, LIMIT_BYTES))
            self.assertEqual(len(getattr(fault, stream)), LIMIT_BYTES)
            self.assert_gone(argv)

    @returns_deferred
    async def test_output_of_the_allowed_size(self) -> None:
        """Output of exactly the limit is complete."""
        said = b"y" * LIMIT_BYTES
        completed = await self.runner.run(self.command(Script(stdout=said)), timeout_seconds=30)
        self.assertEqual(completed.stdout, said)

    @returns_deferred
    async def test_standard_streams_are_not_inherited(self) -> None:
        """Descriptors 0 to 2 cannot be handed on."""
        await self.assertFailure(
            self.runner.run(self.command(Script()), timeout_seconds=30, descriptors=(2,)), ValueError
        )

    @returns_deferred
    async def test_no_program(self) -> None:
        """An empty argument list is refused."""
        await self.assertFailure(self.runner.run([], timeout_seconds=30), ValueError)


class SimulatedCommandRunnerTests(CommandRunnerContract, TestCase):
    """The simulated runner keeps the contract."""

    def setUp(self) -> None:
        """Make a runner on a clock of its own."""
        self.clock = Clock()
        self.simulated = SimulatedCommandRunner(
            self.clock, stdout_limit_bytes=LIMIT_BYTES, stderr_limit_bytes=LIMIT_BYTES
        )
        self.runner = self.simulated
        self._commands = 0

    def command(self, script: Script) -> list[str]:
        """Queue the script under a word of its own."""
        self._commands += 1
        argv = ["simulated", str(self._commands)]
        self.simulated.expect(argv, script)
        return argv

    def pass_time(self, seconds: float) -> None:
        """Move the clock."""
        self.clock.advance(seconds)

    def assert_gone(self, argv: list[str]) -> None:
        """The command was killed."""
        self.assertIn(tuple(argv), self.simulated.killed)

    def test_a_fault_on_request(self) -> None:
        """A queued fault is raised in the command's place, and the command is recorded."""
        self.simulated.expect(["mtx"], CommandTimeout(["mtx"], timeout_seconds=1, is_reaped=False))
        failure = self.failureResultOf(
            self.simulated.run(["mtx", "status"], timeout_seconds=1, descriptors=[7])
        )
        failure.trap(CommandTimeout)
        self.assertEqual(
            (self.simulated.ran[0].argv, self.simulated.ran[0].descriptors), (("mtx", "status"), (7,))
        )

    def test_programs(self) -> None:
        """An installed program answers when no script is queued."""
        self.simulated.install("echo", lambda argv: Script(stdout=" ".join(argv[1:]).encode()))
        self.simulated.expect(["echo", "a"], Script(stdout=b"queued"))
        said = [
            cast(Completed, self.successResultOf(self.simulated.run(["echo", "a"], timeout_seconds=1))).stdout
            for _ in range(2)
        ]
        self.assertEqual(said, [b"queued", b"a"])
        self.assertEqual(self.simulated.unused(), ())


class ReactorCommandRunnerTests(CommandRunnerContract, TestCase):
    """Real processes keep the contract, and what only they can show."""

    timeout = 240

    def setUp(self) -> None:
        """Make a runner whose PATH is the system's."""
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "de_DE.UTF-8", "COLOUR": "blue"}
        self.real = ReactorCommandRunner(
            reactor,
            self.environment,
            stdout_limit_bytes=LIMIT_BYTES,
            stderr_limit_bytes=LIMIT_BYTES,
            linger_seconds=0.5,
        )
        self.runner = self.real

    def command(self, script: Script) -> list[str]:
        """Write the output into files and let a shell say them, sleep and end."""
        name = self.directory / str(len(list(self.directory.iterdir())))
        name.mkdir()
        (name / "stdout").write_bytes(script.stdout)
        (name / "stderr").write_bytes(script.stderr)
        end = f"exit {script.exit_status}" if script.signal is None else f"kill -{script.signal} $$"
        sleep = {None: "sleep 1000", 0.0: ":"}.get(script.seconds, f"sleep {script.seconds}")
        folder = shlex.quote(str(name.absolute()))
        return [
            "sh",
            "-c",
            f"echo $$ >{folder}/pid; cat {folder}/stdout; cat {folder}/stderr >&2; {sleep}; {end}",
        ]

    def assert_gone(self, argv: list[str]) -> None:
        """The shell is not there, and what it started, which was killed with it, ends without being asked again."""
        folder = Path(shlex.split(argv[2].split(">")[1].split(";")[0])[0]).parent
        process_id = int((folder / "pid").read_text() or "0") if (folder / "pid").exists() else 0
        if process_id:
            self.assertRaises(ProcessLookupError, os.kill, process_id, 0)
            end = time.monotonic() + 30
            while living_members(process_id) and time.monotonic() < end:
                time.sleep(0.01)
            self.assertEqual(living_members(process_id), [])

    @returns_deferred
    async def test_environment(self) -> None:
        """The locale is C whatever the appliance's is; variables given to a command add to the runner's."""
        completed = await self.real.run(
            ["sh", "-c", 'echo "$LC_ALL $LANG $COLOUR $MORE"'],
            timeout_seconds=30,
            environment={"MORE": "one"},
        )
        self.assertEqual(completed.stdout, b"C C.UTF-8 blue one\n")

    @returns_deferred
    async def test_arguments_arrive_as_given(self) -> None:
        """No shell looks at the arguments."""
        words = ["a b", "$HOME", "'", "*", "", "--", "-f"]
        program = "import sys; print(repr(sys.argv[1:]))"
        completed = await self.real.run([sys.executable, "-c", program, *words], timeout_seconds=30)
        self.assertEqual(completed.stdout.decode(), repr(words) + "\n")

    @returns_deferred
    async def test_empty_standard_input(self) -> None:
        """A command that reads its standard input finds it at its end."""
        completed = await self.real.run(["cat"], timeout_seconds=10)
        self.assertEqual((completed.exit_status, completed.stdout), (0, b""))

    @returns_deferred
    async def test_inherits_only_what_it_is_given(self) -> None:
        """A descriptor that is named is open in the command, another one is not."""
        given, other = (os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC) for _ in range(2))
        try:
            script = "for n in $0 $1; do [ -e /proc/self/fd/$n ] && echo $n; done; true"
            completed = await self.real.run(
                ["bash", "-c", script, str(given), str(other)], timeout_seconds=30, descriptors=(given,)
            )
        finally:
            os.close(given)
            os.close(other)
        self.assertEqual(completed.stdout.decode().split(), [str(given)])

    @returns_deferred
    async def test_a_daemon_left_behind(self) -> None:
        """A process that keeps the streams open after the command has ended delays the answer for a moment only."""
        completed = await self.real.run(["sh", "-c", "sleep 600 & echo $! $$; exit 4"], timeout_seconds=60)
        sleeper, shell = map(int, completed.stdout.split())
        self.addCleanup(os.kill, sleeper, signal.SIGKILL)
        self.assertEqual(completed.exit_status, 4)
        self.assertLess(completed.seconds, 20)
        self.assertRaises(ProcessLookupError, os.kill, shell, 0)

    @returns_deferred
    async def test_kills_what_it_started(self) -> None:
        """The deadline ends the children of the command as well."""
        note = self.directory / "child"
        running = self.real.run(
            ["sh", "-c", f"sleep 600 & echo $$ >{shlex.quote(str(note))}; wait"], timeout_seconds=1.5
        )
        await self.assertFailure(running, CommandTimeout)
        self.assertEqual(living_members(int(note.read_text())), [])

    @returns_deferred
    async def test_a_file_that_is_no_program(self) -> None:
        """A file that may be executed and cannot be is reported as not found, not as an exit status."""
        broken = self.directory / "broken"
        broken.write_bytes(b"#!/nonexistent/interpreter\n")
        broken.chmod(0o755)
        await self.assertFailure(self.real.run([str(broken.absolute())], timeout_seconds=30), CommandNotFound)

    @returns_deferred
    async def test_exit_status_127_of_a_program(self) -> None:
        """A program may exit with 127 itself."""
        completed = await self.real.run(["sh", "-c", "exit 127"], timeout_seconds=30)
        self.assertEqual(completed.exit_status, 127)


class DeviceLockContract(_Base):
    """What every device lock keeps."""

    locks: IDeviceLocks

    def orphan(self, lock: IDeviceLock) -> "Deferred[None]":
        """Let a process that is not ours have the lock, as after a kill -9; fires when it has it."""
        raise NotImplementedError

    def end_orphan(self) -> None:
        """End that process."""
        raise NotImplementedError

    def pass_time(self, seconds: float) -> None:
        """Let time go by, where time is ours to move."""

    def test_interfaces(self) -> None:
        """Locks have what the interfaces list; the same device has the same lock."""
        verifyObject(IDeviceLocks, self.locks)
        verifyObject(IDeviceLock, self.locks.changer())
        self.assertIs(self.locks.drive(1), self.locks.drive(1))
        self.assertIsNot(self.locks.drive(0), self.locks.drive(1))

    @returns_deferred
    async def test_descriptor_needs_the_lock(self) -> None:
        """There is a descriptor only while the lock is held."""
        lock = self.locks.changer()
        self.assertRaises(LockNotHeld, lock.descriptor)
        await lock.acquire(timeout_seconds=1)
        await lock.acquire(timeout_seconds=1)
        self.assertTrue(lock.is_held)
        self.assertGreater(lock.descriptor(), 2)
        lock.release()
        lock.release()
        self.assertFalse(lock.is_held)
        self.assertRaises(LockNotHeld, lock.descriptor)

    @returns_deferred
    async def test_waits_for_an_orphan(self) -> None:
        """While an orphaned command has the lock it cannot be taken, and its holder is named; afterwards it can."""
        lock = self.locks.drive(0)
        await self.orphan(lock)
        waiting = lock.acquire(timeout_seconds=1)
        for _ in range(5):
            self.pass_time(0.25)
        fault = await self.assertFailure(waiting, LockHeld)
        self.assertEqual((fault.name, len(fault.holders)), ("drive-0", 1))
        self.assertIn("sleep", fault.holders[0].command)
        self.assertFalse(lock.is_held)
        waiting = lock.acquire(timeout_seconds=30)
        self.end_orphan()
        self.pass_time(0.25)
        await waiting
        self.assertTrue(lock.is_held)

    @returns_deferred
    async def test_two_callers(self) -> None:
        """Two callers of one process that wait for the same lock both get it."""
        lock = self.locks.drive(0)
        await self.orphan(lock)
        waiting = [lock.acquire(timeout_seconds=30) for _ in range(2)]
        self.end_orphan()
        self.pass_time(0.25)
        self.pass_time(0.25)
        for one in waiting:
            await one
        self.assertTrue(lock.is_held)

    @returns_deferred
    async def test_other_devices_are_free(self) -> None:
        """A lock on one drive does not hold up another."""
        await self.orphan(self.locks.drive(0))
        await self.locks.drive(1).acquire(timeout_seconds=1)
        await self.locks.changer().acquire(timeout_seconds=1)

    @returns_deferred
    async def test_giving_up(self) -> None:
        """Cancelling stops the waiting."""
        lock = self.locks.drive(0)
        await self.orphan(lock)
        waiting = lock.acquire(timeout_seconds=30)
        self.pass_time(0.25)
        waiting.cancel()
        await self.assertFailure(waiting, CancelledError)
        self.assertFalse(lock.is_held)


class SimulatedDeviceLockTests(DeviceLockContract, TestCase):
    """Simulated locks keep the contract."""

    def setUp(self) -> None:
        """Make locks on a clock of our own."""
        self.clock = Clock()
        self.simulated = SimulatedDeviceLocks(self.clock)
        self.locks = self.simulated

    @returns_deferred
    async def orphan(self, lock: IDeviceLock) -> None:
        """Note an orphan."""
        self.simulated.drive(0).orphan = LockHolder(process_id=7, command="sleep 600")

    def end_orphan(self) -> None:
        """Forget it."""
        self.simulated.drive(0).orphan = None

    def pass_time(self, seconds: float) -> None:
        """Move the clock."""
        self.clock.advance(seconds)


class FlockDeviceLockTests(DeviceLockContract, TestCase):
    """Locks by flock keep the contract with real orphans."""

    timeout = 240

    def setUp(self) -> None:
        """Make two appliances' locks over one directory: ours, and one that will be "killed"."""
        self.directory = Path(self.mktemp())
        self.ours = FlockDeviceLocks(self.directory, reactor)
        self.killed = FlockDeviceLocks(self.directory, reactor)
        self.locks = self.ours
        self.runner = ReactorCommandRunner(reactor, {"PATH": "/usr/bin:/bin"})
        self.running: Deferred[Any] | None = None
        self.is_orphan_ended = False

    @returns_deferred
    async def tearDown(self) -> None:
        """End the orphan, wait until it is gone, and close our descriptors."""
        self.end_orphan()
        if self.running is not None:
            await self.running
        for locks in (self.ours, self.killed):
            for lock in (locks.changer(), locks.drive(0), locks.drive(1)):
                lock.release()

    @returns_deferred
    async def orphan(self, lock: IDeviceLock) -> None:
        """Start a command that inherits the lock, and close the parent's descriptor as a kill -9 does."""
        parent = self.killed.drive(0)
        await parent.acquire(timeout_seconds=1)
        self.running = self.runner.run(
            ["sleep", "600"], timeout_seconds=600, descriptors=(parent.descriptor(),)
        )
        self.running.addErrback(lambda failure: failure.trap(CancelledError))
        for _ in range(100):
            if any("sleep" in holder.command for holder in holders_of(self.directory / "drive-0.lock")):
                break
            await deferLater(reactor, 0.05)
        parent.release()

    def end_orphan(self) -> None:
        """Kill the command. Only the first call does: a second one would give up waiting for its end."""
        if self.running is not None and not self.is_orphan_ended:
            self.is_orphan_ended = True
            self.running.cancel()

    @returns_deferred
    async def test_command_after_command(self) -> None:
        """The holder starts one command after another without letting go in between."""
        lock = self.ours.changer()
        await lock.acquire(timeout_seconds=1)
        for _ in range(3):
            await self.runner.run(["true"], timeout_seconds=30, descriptors=(lock.descriptor(),))
            await self.assertFailure(self.killed.changer().acquire(timeout_seconds=0), LockHeld)

    @returns_deferred
    async def test_taking_it_again_waits_for_our_own_commands(self) -> None:
        """A lock that was let go can be taken again when the last command that inherited it has ended."""
        lock = self.killed.drive(0)
        await lock.acquire(timeout_seconds=1)
        running = self.runner.run(["sleep", "1"], timeout_seconds=30, descriptors=(lock.descriptor(),))
        await deferLater(reactor, 0.2)
        lock.release()
        await self.assertFailure(lock.acquire(timeout_seconds=0), LockHeld)
        await lock.acquire(timeout_seconds=20)
        self.assertTrue(lock.is_held)
        completed = await running
        self.assertTrue(completed.is_success)

    @returns_deferred
    async def test_two_appliances(self) -> None:
        """Two processes never hold one lock."""
        await self.ours.changer().acquire(timeout_seconds=1)
        await self.assertFailure(self.killed.changer().acquire(timeout_seconds=0.3), LockHeld)
        self.ours.changer().release()
        await self.killed.changer().acquire(timeout_seconds=1)
