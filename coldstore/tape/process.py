"""Running commands as child processes of the reactor."""

import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.interfaces import IDelayedCall, IProcessTransport, IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from coldstore.interfaces.process import (
    CommandNotFound,
    CommandTimeout,
    Completed,
    ICommandRunner,
    OutputTooLarge,
)
from coldstore.util.asynchronous import returns_deferred

MEBIBYTE = 1 << 20

_FIXED_ENVIRONMENT = {"LC_ALL": "C", "LANG": "C.UTF-8"}
_STANDARD_STREAMS = 3
_CANNOT_EXECUTE = (126, 127)


class IProcessReactor(IReactorProcess, IReactorTime):
    """A reactor that starts processes and has a clock."""


class _Conversation(ProcessProtocol):
    """
    Listens to one command: keeps what it says, within limits, and notes how it ended.

    ``settled`` fires once: with None when the command has ended and its streams are closed or the deadline is missed,
    with the name of a stream that said too much. ``ended`` fires when it has ended, is reaped and its streams are closed.
    """

    transport: IProcessTransport

    def __init__(self, clock: IReactorTime, limits: Mapping[str, int], linger_seconds: float) -> None:
        self._clock = clock
        self._limits = limits
        self._linger_seconds = linger_seconds
        self._lingering: IDelayedCall | None = None
        self._kept = {name: bytearray() for name in limits}
        self.exit_status: int | None = None
        self.signal: int | None = None
        self.is_gone = False
        self.settled: Deferred[str | None] = Deferred()
        self.ended: Deferred[None] = Deferred()

    def said(self, stream: str) -> bytes:
        """What the command wrote to ``stdout`` or ``stderr``, at most the limit."""
        return bytes(self._kept[stream])

    def settle(self, excess: str | None) -> None:
        """Let whoever waits for the command go on, the first time this is called."""
        if not self.settled.called:
            self.settled.callback(excess)

    def outReceived(self, data: bytes) -> None:
        """Keep standard output."""
        self._keep("stdout", data)

    def errReceived(self, data: bytes) -> None:
        """Keep standard error."""
        self._keep("stderr", data)

    def _keep(self, stream: str, chunk: bytes) -> None:
        room = self._limits[stream] - len(self._kept[stream])
        self._kept[stream] += chunk[:room]
        if len(chunk) > room:
            self.settle(stream)

    def processExited(self, reason: Failure) -> None:
        """Note the status. What a process left behind keeps open is waited for a moment only."""
        match reason.value:
            case ProcessTerminated(signal=int(number)):
                self.signal = number
            case ProcessTerminated(exitCode=status) | ProcessDone(exitCode=status):
                self.exit_status = status
        self.is_gone = True
        self._lingering = self._clock.callLater(self._linger_seconds, self._stop_lingering)

    def _stop_lingering(self) -> None:
        self._lingering = None
        self.transport.loseConnection()

    def processEnded(self, reason: Failure) -> None:
        """The command was reaped and its streams are closed."""
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        self.ended.callback(None)
        self.settle(None)


@implementer(ICommandRunner)
class ReactorCommandRunner:
    """
    Runs commands with ``spawnProcess``, each in a session of its own so that it can be killed with all it started.

    The session comes from ``setsid`` (util-linux, essential in Debian), which becomes the program itself: Twisted
    offers no way to make a child lead a process group.
    """

    log = Logger()

    def __init__(
        self,
        reactor: IProcessReactor,
        environment: Mapping[str, str],
        *,
        stdout_limit_bytes: int = 16 * MEBIBYTE,
        stderr_limit_bytes: int = MEBIBYTE,
        reap_seconds: float = 20.0,
        linger_seconds: float = 1.0,
    ) -> None:
        """
        :param environment: the variables of every command; its PATH finds programs that are not absolute.
        :param stdout_limit_bytes: more on standard output kills the command; the same for ``stderr_limit_bytes``.
        :param reap_seconds: how long a killed command may take to vanish before it is reported as not reaped.
        :param linger_seconds: how long streams may stay open after the command has ended.
        """
        self._reactor = reactor
        self._environment = {**environment, **_FIXED_ENVIRONMENT}
        self._limits = {"stdout": stdout_limit_bytes, "stderr": stderr_limit_bytes}
        self._reap_seconds = reap_seconds
        self._linger_seconds = linger_seconds

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
        started_at = self._reactor.seconds()
        conversation = self._start(argv, descriptors, {**self._environment, **(environment or {})})
        is_late = False

        def miss_deadline() -> None:
            nonlocal is_late
            # A command that has ended needs no killing: its streams are about to be closed.
            if not conversation.is_gone:
                is_late = True
                conversation.settle(None)

        deadline = self._reactor.callLater(timeout_seconds, miss_deadline)
        try:
            excess = await conversation.settled
        except CancelledError:
            await self._end(conversation)
            raise
        finally:
            if deadline.active():
                deadline.cancel()
        is_reaped = await self._end(conversation) if is_late or excess is not None else True
        stdout, stderr = conversation.said("stdout"), conversation.said("stderr")
        if is_late:
            raise CommandTimeout(
                argv, timeout_seconds=timeout_seconds, stdout=stdout, stderr=stderr, is_reaped=is_reaped
            )
        if excess is not None:
            raise OutputTooLarge(
                argv,
                stream=excess,
                limit_bytes=self._limits[excess],
                stdout=stdout,
                stderr=stderr,
                is_reaped=is_reaped,
            )
        if conversation.exit_status in _CANNOT_EXECUTE and stderr.startswith(b"setsid: failed to execute "):
            raise CommandNotFound(argv, stderr.decode("utf-8", "replace").strip())
        return Completed(
            argv=tuple(argv),
            exit_status=conversation.exit_status,
            signal=conversation.signal,
            stdout=stdout,
            stderr=stderr,
            seconds=self._reactor.seconds() - started_at,
        )

    def _start(
        self, argv: Sequence[str], descriptors: Sequence[int], environment: Mapping[str, str]
    ) -> _Conversation:
        if not argv:
            raise ValueError("a command needs a program")
        if any(descriptor < _STANDARD_STREAMS for descriptor in descriptors):
            raise ValueError(f"only descriptors above 2 are inherited, not {sorted(descriptors)}")
        path = environment.get("PATH", os.defpath)
        program = shutil.which(argv[0], path=path)
        if program is None:
            raise CommandNotFound(
                argv, f"no such program in {path}" if "/" not in argv[0] else "no such program"
            )
        leader = shutil.which("setsid", path=f"{path}:/usr/bin:/bin")
        if leader is None:
            raise CommandNotFound(argv, "setsid (package util-linux) is missing")
        conversation = _Conversation(self._reactor, self._limits, self._linger_seconds)
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._reactor.spawnProcess(
                conversation,
                leader,
                [leader, program, *argv[1:]],
                env=environment,
                childFDs={0: nothing, 1: "r", 2: "r", **{number: number for number in descriptors}},
            )
        except OSError as error:
            raise CommandNotFound(argv, f"cannot be started: {error.strerror}") from error
        finally:
            os.close(nothing)
        return conversation

    async def _end(self, conversation: _Conversation) -> bool:
        """Kill the command with all it started and wait for it to vanish; tell whether it did so in time."""
        if not conversation.is_gone:
            process_id = conversation.transport.pid
            # Until it is reaped the number is its own. The group exists once setsid has run, a moment after the start.
            with suppress(ProcessLookupError):
                os.killpg(process_id, signal.SIGKILL)
            with suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGKILL)
        try:
            await conversation.ended.addTimeout(self._reap_seconds, self._reactor)
        except TimeoutError:
            self.log.warn(
                "process {process_id} was killed {seconds:g} s ago and has not ended yet",
                process_id=conversation.transport.pid,
                seconds=self._reap_seconds,
            )
        return conversation.is_gone
