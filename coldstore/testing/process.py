"""A command runner and device locks without processes: commands do what their scripts say, on a clock that the test moves."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from zope.interface import implementer

from coldstore.interfaces.process import (
    CommandFault,
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
from coldstore.util.asynchronous import returns_deferred


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """
    What a simulated command does: it says this after ``seconds``, and ends.

    ``seconds`` None is a command that never ends by itself. With ``signal`` it is ended by that signal.
    """

    stdout: bytes = b""
    stderr: bytes = b""
    exit_status: int = 0
    signal: int | None = None
    seconds: float | None = 0.0


Program = Callable[[Sequence[str]], Script]
"""A program that decides by its argument list what to do; it may keep state of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A command that was asked for."""

    argv: tuple[str, ...]
    timeout_seconds: float
    descriptors: tuple[int, ...]
    environment: Mapping[str, str]


@implementer(ICommandRunner)
class SimulatedCommandRunner:
    """
    Runs scripts instead of processes.

    A command is answered by the first queued script whose words its argument list begins with (each script once),
    else by the program installed for ``argv[0]``, else it is not found. ``ran`` lists every command in order;
    ``killed`` those that were killed. Limits on output hold as for the real runner.
    """

    def __init__(
        self, clock: IReactorTime, *, stdout_limit_bytes: int = 16 << 20, stderr_limit_bytes: int = 1 << 20
    ) -> None:
        self._clock = clock
        self._limits = {"stdout": stdout_limit_bytes, "stderr": stderr_limit_bytes}
        self._queue: deque[tuple[tuple[str, ...], Script | CommandFault]] = deque()
        self._programs: dict[str, Program] = {}
        self.ran: list[Ran] = []
        self.killed: list[tuple[str, ...]] = []

    def expect(self, words: Sequence[str], *scripts: Script | CommandFault) -> None:
        """Queue scripts, or faults to fail with at once, for the next commands that begin with these words."""
        self._queue.extend((tuple(words), script) for script in scripts)

    def install(self, name: str, program: Program) -> None:
        """Answer every command whose ``argv[0]`` is ``name`` by this program, when no script is queued for it."""
        self._programs[name] = program

    def unused(self) -> tuple[tuple[str, ...], ...]:
        """The words of queued scripts that no command has asked for."""
        return tuple(words for words, _ in self._queue)

    def _script_for(self, argv: tuple[str, ...]) -> Script | CommandFault:
        for index, (words, script) in enumerate(self._queue):
            if argv[: len(words)] == words:
                del self._queue[index]
                return script
        program = self._programs.get(argv[0])
        return CommandNotFound(argv, "no such program") if program is None else program(argv)

    @returns_deferred
    async def run(
        self,
        argv: Sequence[str],
        *,
        timeout_seconds: float,
        descriptors: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Completed:
        """Run one command to its end; see ``ICommandRunner.run``."""
        if not argv:
            raise ValueError("a command needs a program")
        if any(descriptor < 3 for descriptor in descriptors):
            raise ValueError(f"only descriptors above 2 are inherited, not {sorted(descriptors)}")
        command = tuple(argv)
        started_at = self._clock.seconds()
        script = self._script_for(command)
        if isinstance(script, CommandNotFound):
            raise script
        self.ran.append(
            Ran(
                argv=command,
                timeout_seconds=timeout_seconds,
                descriptors=tuple(descriptors),
                environment=dict(environment or {}),
            )
        )
        if isinstance(script, CommandFault):
            raise script
        await self._let_it_run(command, script, timeout_seconds)
        for stream, limit_bytes in self._limits.items():
            said = script.stdout if stream == "stdout" else script.stderr
            if len(said) > limit_bytes:
                self.killed.append(command)
                raise OutputTooLarge(
                    command,
                    stream=stream,
                    limit_bytes=limit_bytes,
                    stdout=script.stdout[: self._limits["stdout"]],
                    stderr=script.stderr[: self._limits["stderr"]],
                )
        return Completed(
            argv=command,
            exit_status=script.exit_status if script.signal is None else None,
            signal=script.signal,
            stdout=script.stdout,
            stderr=script.stderr,
            seconds=self._clock.seconds() - started_at,
        )

    async def _let_it_run(self, command: tuple[str, ...], script: Script, timeout_seconds: float) -> None:
        """Wait until the script ends, or kill it at its deadline or when it is cancelled."""
        if script.seconds == 0:
            return
        ending: Deferred[None] = Deferred()
        end = None if script.seconds is None else self._clock.callLater(script.seconds, ending.callback, None)
        try:
            await ending.addTimeout(timeout_seconds, self._clock)
        except TimeoutError:
            self.killed.append(command)
            raise CommandTimeout(
                command, timeout_seconds=timeout_seconds, stdout=script.stdout, stderr=script.stderr
            ) from None
        except CancelledError:
            self.killed.append(command)
            raise
        finally:
            if end is not None and end.active():
                end.cancel()


@implementer(IDeviceLock)
class SimulatedDeviceLock:
    """A lock in memory. ``orphan`` is a process that has it besides us, until the test lets it end."""

    def __init__(
        self, name: str, descriptor: int, clock: IReactorTime, *, poll_seconds: float = 0.25
    ) -> None:
        self.name = name
        self.is_held = False
        self.orphan: LockHolder | None = None
        self._descriptor = descriptor
        self._clock = clock
        self._poll_seconds = poll_seconds

    @returns_deferred
    async def acquire(self, *, timeout_seconds: float) -> None:
        """Take the lock; see ``IDeviceLock.acquire``."""
        if self.is_held:
            return
        give_up_at = self._clock.seconds() + timeout_seconds
        while self.orphan is not None:
            if self._clock.seconds() >= give_up_at:
                raise LockHeld(self.name, timeout_seconds=timeout_seconds, holders=(self.orphan,))
            await deferLater(self._clock, self._poll_seconds)
        self.is_held = True

    def descriptor(self) -> int:
        """Return a number that stands for the descriptor."""
        if not self.is_held:
            raise LockNotHeld(self.name)
        return self._descriptor

    def release(self) -> None:
        """Let go."""
        self.is_held = False


@implementer(IDeviceLocks)
class SimulatedDeviceLocks:
    """The locks of a simulated appliance."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._locks: dict[str, SimulatedDeviceLock] = {}

    def _lock(self, name: str) -> SimulatedDeviceLock:
        if name not in self._locks:
            self._locks[name] = SimulatedDeviceLock(name, 1000 + len(self._locks), self._clock)
        return self._locks[name]

    def changer(self) -> SimulatedDeviceLock:
        """Return the changer's lock."""
        return self._lock("changer")

    def drive(self, number: int) -> SimulatedDeviceLock:
        """Return this drive's lock."""
        return self._lock(f"drive-{number}")
