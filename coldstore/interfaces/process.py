"""Running one command to its end, and the locks that tell who may touch a device."""

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """
    A command that ended by itself.

    Exactly one of ``exit_status`` and ``signal`` is set: the status it exited with, or the number of the signal
    that ended it. What a status means is for the caller to say: real tools exit 0 after failures and 1 after help.
    """

    argv: tuple[str, ...]
    exit_status: int | None
    signal: int | None
    stdout: bytes
    stderr: bytes
    seconds: float

    @property
    def is_success(self) -> bool:
        """Whether the command exited with status 0."""
        return self.exit_status == 0

    @property
    def was_cut_off(self) -> bool:
        """Whether somebody else killed it: that tells nothing about what it worked on."""
        return self.signal in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

    @property
    def ending(self) -> str:
        """How it ended, for a message: ``exit status 1`` or ``signal 9``."""
        return f"signal {self.signal}" if self.exit_status is None else f"exit status {self.exit_status}"


class CommandFault(Exception):
    """A command of which no ``Completed`` can be told. ``argv`` is what was tried."""

    def __init__(self, argv: Sequence[str], reason: str) -> None:
        super().__init__(f"{' '.join(argv)}: {reason}")
        self.argv = tuple(argv)
        self.reason = reason


class CommandNotFound(CommandFault):
    """The program does not exist or may not be executed. Nothing was started."""


class CommandTimeout(CommandFault):
    """
    The command outlived its deadline and was killed: what it did is unknown, look before repeating.

    ``stdout`` and ``stderr`` hold what it had said. ``is_reaped`` is False when the kernel had not let go of it
    in time (a process inside a SCSI command cannot be killed): then it still holds the descriptors it inherited.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        timeout_seconds: float,
        stdout: bytes = b"",
        stderr: bytes = b"",
        is_reaped: bool = True,
    ) -> None:
        end = "killed" if is_reaped else "killed, but the kernel has not ended it yet"
        super().__init__(argv, f"no end within {timeout_seconds:g} s; {end}")
        self.timeout_seconds = timeout_seconds
        self.stdout = stdout
        self.stderr = stderr
        self.is_reaped = is_reaped


class OutputTooLarge(CommandFault):
    """
    The command said more than is allowed on one stream and was killed: what it did is unknown.

    ``stdout`` and ``stderr`` hold what was kept, ``is_reaped`` is as for ``CommandTimeout``.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        stream: str,
        limit_bytes: int,
        stdout: bytes = b"",
        stderr: bytes = b"",
        is_reaped: bool = True,
    ) -> None:
        super().__init__(argv, f"more than {limit_bytes} bytes on {stream}; killed")
        self.stream = stream
        self.limit_bytes = limit_bytes
        self.stdout = stdout
        self.stderr = stderr
        self.is_reaped = is_reaped


class ICommandRunner(Interface):
    """Runs programs by argument lists, never by a shell."""

    def run(
        argv: Sequence[str],
        *,
        timeout_seconds: float,
        descriptors: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
    ) -> "Deferred[Completed]":
        """
        Run one command to its end.

        Its standard input is empty; it runs in a session of its own with ``LC_ALL=C``. Cancelling the Deferred kills
        the command with all it started; the Deferred then fails with ``CancelledError`` once it is reaped.

        :param argv: the program (absolute, or looked up in the runner's PATH) and its arguments.
        :param timeout_seconds: after so long the command and all it started are killed.
        :param descriptors: open descriptors that the command inherits under the same numbers, each above 2.
        :param environment: variables set in addition to the runner's own.
        :return: fires with ``Completed`` for every exit status and signal; fails with ``CommandNotFound`` when it
            cannot start, with ``CommandTimeout`` after the deadline, with ``OutputTooLarge`` when it says too much.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class LockHolder:
    """A process that has the lock's file open."""

    process_id: int
    command: str


class LockHeld(Exception):
    """Another process did not let go of a device lock in time. ``holders`` names those that could be seen."""

    def __init__(self, name: str, *, timeout_seconds: float, holders: tuple[LockHolder, ...]) -> None:
        who = (
            ", ".join(f"{holder.process_id} ({holder.command})" for holder in holders) or "an unknown process"
        )
        super().__init__(f"{name} is still in use by {who} after {timeout_seconds:g} s")
        self.name = name
        self.timeout_seconds = timeout_seconds
        self.holders = holders


class LockNotHeld(Exception):
    """A descriptor was asked of a lock that is not held: a command would touch a device without a lock."""


class IDeviceLock(Interface):
    """
    The right to touch one device: a drive or the changer.

    The lock lives as long as any process has a descriptor of it, so it outlives a killed appliance while an orphaned
    command still works on the device.
    """

    name: str = Attribute("""What is locked, for messages: ``drive-0``, ``changer``.""")

    is_held: bool = Attribute("""Whether this process holds the lock.""")

    def acquire(*, timeout_seconds: float) -> "Deferred[None]":
        """
        Take the lock, waiting until every other holder has let go. Harmless when it is held already.

        :return: fires when the lock is held; fails with ``LockHeld`` after the deadline. Cancelling gives up.
        """

    def descriptor() -> int:
        """
        Return the descriptor for a command to inherit.

        :raise LockNotHeld: when the lock is not held.
        """

    def release() -> None:
        """
        Let go. Commands that inherited the lock keep it until they end, so acquiring it again waits for them.

        Harmless when it is not held.
        """


class IDeviceLocks(Interface):
    """The locks of all devices of one appliance."""

    def changer() -> IDeviceLock:
        """Return the changer's lock, each time the same one."""

    def drive(number: int) -> IDeviceLock:
        """Return the lock of the drive with this number in the library, each time the same one."""
