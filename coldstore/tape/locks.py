"""
Device locks as flocks on files of the state directory.

An flock belongs to the open file description, which a command shares that inherits the descriptor: the lock is free
only when the appliance *and* every command it started on that device have ended (flock(2)). The files are never
removed: removing one would let two processes hold locks on different files of the same name.
"""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from coldstore.interfaces.process import IDeviceLock, IDeviceLocks, LockHeld, LockHolder, LockNotHeld
from coldstore.util.asynchronous import returns_deferred

_PROCESSES = Path("/proc")
_COMMAND_LENGTH = 120


def holders_of(path: Path) -> tuple[LockHolder, ...]:
    """
    Name the processes that have this file open, as far as /proc shows them to us.

    ``/proc/locks`` would name the process that *took* an flock, which may be long dead; what keeps the lock is an
    open descriptor, so descriptors are looked for.
    """
    try:
        wanted = path.stat()
    except FileNotFoundError:
        return ()
    return tuple(sorted(_holders(wanted.st_dev, wanted.st_ino), key=lambda holder: holder.process_id))


def _holders(device: int, inode: int) -> Iterator[LockHolder]:
    for process in _PROCESSES.iterdir():
        if not process.name.isdigit():
            continue
        try:
            numbers = list((process / "fd").iterdir())
        except OSError:
            continue  # ended meanwhile, or another user's
        for number in numbers:
            try:
                seen = number.stat()
            except OSError:
                continue
            if (seen.st_dev, seen.st_ino) == (device, inode):
                yield LockHolder(process_id=int(process.name), command=_command_of(process))
                break


def _command_of(process: Path) -> str:
    try:
        words = (process / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:
        return "ended"
    return b" ".join(words).decode("utf-8", "replace")[:_COMMAND_LENGTH] or "ended"


@implementer(IDeviceLock)
class FlockDeviceLock:
    """One lock file. Its descriptor is closed on exec, except in commands that are told to inherit it."""

    log = Logger()

    def __init__(self, path: Path, clock: IReactorTime, *, poll_seconds: float = 0.25) -> None:
        self.name = path.stem
        self._path = path
        self._clock = clock
        self._poll_seconds = poll_seconds
        self._descriptor: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether we hold the lock."""
        return self._descriptor is not None

    @returns_deferred
    async def acquire(self, *, timeout_seconds: float) -> None:
        """Take the lock; see ``IDeviceLock.acquire``."""
        if self._descriptor is not None:
            return
        descriptor: int | None = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            assert descriptor is not None
            await self._wait_for(descriptor, timeout_seconds)
            if self._descriptor is None:
                self._descriptor, descriptor = descriptor, None
        finally:
            if descriptor is not None:
                os.close(descriptor)

    async def _wait_for(self, descriptor: int, timeout_seconds: float) -> None:
        """Wait until the flock is taken through this descriptor, or by another caller of ours through another one."""
        started_at = self._clock.seconds()
        has_told = False
        while self._descriptor is None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                pass
            waited = self._clock.seconds() - started_at
            if waited >= timeout_seconds:
                raise LockHeld(self.name, timeout_seconds=timeout_seconds, holders=self._other_holders())
            if not has_told:
                has_told = True
                self.log.info(
                    "waiting for {name}, which another process still uses: {holders}",
                    name=self.name,
                    holders=[f"{holder.process_id} ({holder.command})" for holder in self._other_holders()],
                )
            await deferLater(self._clock, min(self._poll_seconds, timeout_seconds - waited))

    def _other_holders(self) -> tuple[LockHolder, ...]:
        return tuple(holder for holder in holders_of(self._path) if holder.process_id != os.getpid())

    def descriptor(self) -> int:
        """Return the descriptor for a command to inherit; see ``IDeviceLock.descriptor``."""
        if self._descriptor is None:
            raise LockNotHeld(self.name)
        return self._descriptor

    def release(self) -> None:
        """Let go: the descriptor is closed, never unlocked, since unlocking would free it for our commands too."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)


@implementer(IDeviceLocks)
class FlockDeviceLocks:
    """The lock files ``changer.lock`` and ``drive-N.lock`` of one directory, which is made when missing."""

    def __init__(self, directory: Path, clock: IReactorTime) -> None:
        self._directory = directory
        self._clock = clock
        self._locks: dict[str, FlockDeviceLock] = {}

    def _lock(self, name: str) -> FlockDeviceLock:
        if name not in self._locks:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._locks[name] = FlockDeviceLock(self._directory / f"{name}.lock", self._clock)
        return self._locks[name]

    def changer(self) -> FlockDeviceLock:
        """Return the changer's lock."""
        return self._lock("changer")

    def drive(self, number: int) -> FlockDeviceLock:
        """Return this drive's lock."""
        return self._lock(f"drive-{number}")
