"""A tape drive driven by ``mt``: readiness by polling, and letting go of the tape with a look after a failure."""

import os
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from coldstore.interfaces.drive import (
    DriveBusy,
    DriveCondition,
    DriveCutOff,
    DriveFailed,
    DriveFault,
    DriveNotReady,
    DriveStatus,
    DriveStatusUnreadable,
    DriveUnreachable,
    IDrive,
)
from coldstore.interfaces.process import (
    CommandNotFound,
    CommandTimeout,
    Completed,
    ICommandRunner,
    IDeviceLock,
    LockHeld,
    OutputTooLarge,
)
from coldstore.interfaces.tenure import ITenure
from coldstore.tape.mt import (
    BUSY_STATUS,
    Refusal,
    explain,
    is_rewinding_node,
    offline_command,
    parse_status,
    status_command,
)
from coldstore.tape.output import UnknownOutput
from coldstore.util.asynchronous import returns_deferred

_ATTEMPTS = 3
"""How often a command is tried that somebody else kills."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveTimes:
    """
    How long the drive may take, in seconds.

    ``offline`` covers the longest published rewind within an unload (186 s on LTO-9) three times over; ``status``
    is answered at once by a healthy drive; ``poll`` is the pause between two looks at a drive that is loading;
    ``orphan`` bounds the waiting for a command that was left behind, or killed without the kernel letting go of it (the
    tape driver's own limit for most commands is 900 s).
    """

    status: float = 60.0
    offline: float = 600.0
    poll: float = 1.0
    orphan: float = 900.0


@implementer(IDrive)
class MtDrive:
    """
    One drive by its non-rewinding node.

    Every command inherits the drive's lock, which is taken at the first call and kept.
    """

    log = Logger()

    def __init__(
        self,
        runner: ICommandRunner,
        device: str,
        *,
        number: int,
        lock: IDeviceLock,
        tenure: ITenure,
        clock: IReactorTime,
        mt: str = "mt",
        times: DriveTimes = DriveTimes(),
    ) -> None:
        """
        :param device: the nst node, best by a name of ``/dev/tape/by-id`` that ends in ``-nst``.
        :param number: the drive's number in the library.
        :param mt: the program, absolute or found in the runner's PATH.
        :raise ValueError: for a node that rewinds when it is closed, by its own name or through a link.
        """
        self.number = number
        self.device = device
        self._runner = runner
        self._lock = lock
        self._tenure = tenure
        self._clock = clock
        self._mt = mt
        self._times = times
        self._refuse_rewinding_node()

    def _refuse_rewinding_node(self) -> None:
        for path in (self.device, os.path.realpath(self.device)):
            if is_rewinding_node(os.path.basename(path)):
                raise ValueError(f"{self.device} rewinds the tape when it is closed; configure its nst node")

    @returns_deferred
    async def status(self) -> DriveStatus:
        """Tell what the drive is doing; see ``IDrive.status``."""
        return await self._status("reading the status")

    @returns_deferred
    async def wait_until_ready(self, *, timeout_seconds: float) -> DriveStatus:
        """
        Wait until the tape can be read; see ``IDrive.wait_until_ready``.

        By polling: a blocking command would wait in the kernel for 120 s at most and could not be killed meanwhile.
        """
        attempted = "waiting for the tape"
        started_at = self._clock.seconds()
        while True:
            status = await self._status(attempted)
            if status.is_ready:
                return status
            if status.condition is DriveCondition.BUSY:
                raise DriveBusy(device=self.device, attempted=attempted, reason=Refusal.BUSY.value)
            if self._clock.seconds() - started_at >= timeout_seconds:
                raise DriveNotReady(
                    device=self.device,
                    attempted=attempted,
                    reason=f"still {status.condition.value} after {timeout_seconds:g} s",
                )
            await deferLater(self._clock, self._times.poll)

    @returns_deferred
    async def offline(self) -> None:
        """Rewind and let go of the tape; see ``IDrive.offline``."""
        attempted = "taking offline"
        for _ in range(_ATTEMPTS):
            ended = await self._offline(attempted)
            if ended is None:
                return
            refusal, reason = explain(ended) if isinstance(ended, Completed) else (Refusal.FAILED, ended)
            self.log.warn(
                "drive {number} did not go offline, looking again: {reason}",
                number=self.number,
                reason=reason,
            )
            if not isinstance(ended, Completed) or not ended.was_cut_off:
                break
        if (await self._status(attempted)).condition is DriveCondition.EMPTY:
            return
        is_cut_off = isinstance(ended, Completed) and ended.was_cut_off
        kind = DriveCutOff if is_cut_off else _fault(refusal)
        raise kind(device=self.device, attempted=attempted, reason=self._bare(reason))

    async def _offline(self, attempted: str) -> Completed | str | None:
        """Look, and have the drive let go; None when it has, else how the command ended."""
        status = await self._status(attempted)
        if status.condition is DriveCondition.EMPTY:
            return None
        if status.condition is DriveCondition.LOADING:
            # `mt offline` would wait in the kernel for a drive that is not ready.
            await self.wait_until_ready(timeout_seconds=self._times.offline)
        elif status.condition is DriveCondition.BUSY:
            raise DriveBusy(device=self.device, attempted=attempted, reason=Refusal.BUSY.value)
        command = offline_command(self._mt, self.device)
        ended = await self._run(attempted, command, self._times.offline, is_change=True)
        if not isinstance(ended, Completed) or not ended.is_success:
            return ended
        self.log.info(
            "drive {number} is offline after {seconds:.1f} s", number=self.number, seconds=ended.seconds
        )
        return None

    async def _status(self, attempted: str) -> DriveStatus:
        ended = await self._run(attempted, status_command(self._mt, self.device), self._times.status)
        for _ in range(_ATTEMPTS - 1):
            if isinstance(ended, str) or not ended.was_cut_off:
                break
            ended = await self._run(attempted, status_command(self._mt, self.device), self._times.status)
        if isinstance(ended, str):
            raise DriveUnreachable(device=self.device, attempted=attempted, reason=ended)
        if ended.was_cut_off:
            raise DriveCutOff(device=self.device, attempted=attempted, reason=f"mt: {ended.ending}")
        if not ended.is_success:
            refusal, line = explain(ended)
            if refusal is Refusal.BUSY:
                return BUSY_STATUS
            raise DriveUnreachable(device=self.device, attempted=attempted, reason=self._bare(line))
        try:
            return parse_status(ended.stdout)
        except UnknownOutput as unknown:
            raise DriveStatusUnreadable(
                device=self.device, attempted=attempted, reason=str(unknown)
            ) from unknown

    def _bare(self, line: str) -> str:
        """Return what mt said without the device, which every fault names."""
        return line.removeprefix(f"{self.device}: ")

    async def _run(
        self, attempted: str, argv: tuple[str, ...], timeout_seconds: float, *, is_change: bool = False
    ) -> Completed | str:
        """
        Run mt with the drive's lock. After a kill, wait until the kernel let go of it.

        :return: the reason in words when the command gave no status.
        """
        await self._hold_lock(attempted)
        if is_change:
            await self._tenure.confirm()
        try:
            return await self._runner.run(
                argv, timeout_seconds=timeout_seconds, descriptors=(self._lock.descriptor(),)
            )
        except CommandNotFound as fault:
            raise DriveUnreachable(device=self.device, attempted=attempted, reason=str(fault)) from fault
        except (CommandTimeout, OutputTooLarge) as fault:
            if not fault.is_reaped:
                self._lock.release()
                await self._hold_lock(attempted)
            return fault.reason

    async def _hold_lock(self, attempted: str) -> None:
        """Take the lock unless we have it: this waits for orphaned commands, of a killed appliance or of our own."""
        try:
            await self._lock.acquire(timeout_seconds=self._times.orphan)
        except LockHeld as held:
            raise DriveBusy(device=self.device, attempted=attempted, reason=str(held)) from held


def _fault(refusal: Refusal) -> type[DriveFault]:
    match refusal:
        case Refusal.BUSY:
            return DriveBusy
        case Refusal.NO_MEDIUM:
            return DriveNotReady
        case Refusal.NO_DEVICE:
            return DriveUnreachable
        case Refusal.FAILED:
            return DriveFailed
