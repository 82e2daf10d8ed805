"""
The tape file system of one drive, by the LTFS programs.

What is true about a mount is read from three witnesses that do not depend on this process: the mount's folder (``mountrecord``, kept by the
shim), the process table, and the mount table. So every question has the same answer for the service that mounted and for one that was
started later. Looking at them blocks on the local disk only and happens in worker threads; what lies behind the mountpoint is touched by the mover
alone, which can be killed.

``umount`` returns before the index is on tape: a mount is over when ``ltfs`` has ended and its last words were judged.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from coldstore.interfaces.filesystem import (
    AlreadyFormatted,
    CannotStart,
    CheckFailed,
    CheckVerdict,
    CutOff,
    DriveBusy,
    EndedMount,
    FilesystemFault,
    FormatFailed,
    FormattedVolume,
    IMountedVolume,
    ITapeFilesystem,
    MountBusy,
    MountFailed,
    NeedsCheck,
    NoMedium,
    NotFormatted,
    NotRecorded,
    OutcomeUnknown,
    ReadOnly,
    StartBlock,
    SyncedIndex,
    SyncFailed,
    UnmountVerdict,
    UnsupportedMedium,
    WriteProtected,
    WrongVolume,
)
from coldstore.interfaces.mover import MediumFault, MoverDied, MoverFault, VolumeSpace
from coldstore.interfaces.process import (
    CommandNotFound,
    CommandTimeout,
    Completed,
    ICommandRunner,
    OutputTooLarge,
)
from coldstore.interfaces.tenure import ITenure
from coldstore.model.cartridges import VolumeForm
from coldstore.tape.launcher import ILtfsLauncher
from coldstore.tape.ltfs import (
    NOTABLE_CODES,
    WRITE_ERROR_LOCK_MASK,
    CheckOutcome,
    LtfsOptions,
    LtfsTools,
    MountEntry,
    Trouble,
    check_arguments,
    check_outcome,
    format_arguments,
    format_trouble,
    formatted_uuid,
    is_ours,
    is_plain_directory_announced,
    is_ready,
    lines_of,
    message_of,
    mount_arguments,
    mount_trouble,
    mounted_at,
    read_only_reason,
    reason_of,
    start_block_of,
    tail_of,
    unmount_verdict,
    volume_serial,
)
from coldstore.tape.ltfs_mover import LtfsMover, LtfsMovers
from coldstore.tape.mountrecord import Ended, Launch, MountFolder, MountFolders, VolumeFound
from coldstore.tape.processtable import is_alive
from coldstore.tape.shim import locked
from coldstore.util.asynchronous import returns_deferred

_T = TypeVar("_T")

LOCALE: Mapping[str, str] = {"LC_ALL": "C.UTF-8", "LANG": "C.UTF-8"}
"""File names on tape are UTF-8; in the C locale ltfs could not write others than ASCII."""

COMMIT_MESSAGE_BYTES = 1024
MOUNT_LOCK = "mount.lock"
MOUNT_TABLE = "/proc/self/mountinfo"

FAULTS: Mapping[Trouble, type[FilesystemFault]] = {
    Trouble.NO_MEDIUM: NoMedium,
    Trouble.DRIVE_BUSY: DriveBusy,
    Trouble.NOT_FORMATTED: NotFormatted,
    Trouble.NEEDS_CHECK: NeedsCheck,
    Trouble.ALREADY_FORMATTED: AlreadyFormatted,
    Trouble.WRITE_PROTECTED: WriteProtected,
    Trouble.CANNOT_START: CannotStart,
    Trouble.UNSUPPORTED: UnsupportedMedium,
    Trouble.TOLD_TO_END: CutOff,
}


class IFilesystemReactor(IReactorTime, IReactorFromThreads):
    """A reactor that has a clock and takes answers from threads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LtfsLimits:
    """
    Time limits in seconds, and how often things are tried.

    They exceed the drivers' own: a load 7,920 s (the first load of a new LTO-9 cartridge optimises the medium), a locate 2,940 s, a format 3,240 s;
    a check reads and locates over the whole tape.
    """

    format_seconds: float = 6 * 3600.0
    check_seconds: float = 24 * 3600.0
    mount_seconds: float = 5 * 3600.0
    unmount_seconds: float = 5 * 3600.0
    umount_command_seconds: float = 600.0
    shim_start_seconds: float = 60.0
    mount_table_seconds: float = 30.0
    busy_attempts: int = 8
    busy_pause_seconds: float = 0.5
    longest_pause_seconds: float = 20.0
    look_first_seconds: float = 0.05
    look_most_seconds: float = 1.0
    plain_sync_seconds: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LtfsDrive:
    """
    One drive as LTFS sees it.

    ``device`` is what the programs take: an sg node or the drive's serial number. ``guard`` is the non-rewinding tape device that is held open
    meanwhile (None: there is none). ``state_directory`` keeps the records of mounts and must survive a restart of the service.
    """

    device: str
    guard: str | None
    mountpoint: str
    state_directory: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What the witnesses of one mount said at one moment."""

    ended: Ended | None
    lines: tuple[str, ...]
    entry: MountEntry | None
    is_taken: bool
    is_running: bool
    is_deserted: bool
    volume: VolumeFound | None

    @property
    def is_over(self) -> bool:
        """``ltfs`` has ended or never began, and its end was recorded or nobody is left to do it."""
        return self.ended is not None or self.is_deserted


def look_at(folder: MountFolder, mountpoint: str) -> Sight:
    """Ask all witnesses. Blocks on the local disk. The processes come first: a shim that has ended has written what there is to read."""
    shim = folder.shim()
    is_deserted = shim is not None and not is_alive(shim) and not _has_heir(folder)
    ltfs = folder.ltfs()
    return Sight(
        is_taken=shim is not None,
        is_running=ltfs is not None and is_alive(ltfs),
        is_deserted=is_deserted,
        ended=folder.ended(),
        lines=lines_of(folder.log()),
        entry=mount_table_entry(mountpoint),
        volume=folder.volume(),
    )


def _has_heir(folder: MountFolder) -> bool:
    """
    Whether a process lives that a shim, which has ended, left behind: ``ltfs``, or one that is about to become it.

    The latter has not written itself down yet, but holds the mount lock from its first moment to its last.
    """
    launch = folder.launch()
    assert launch is not None
    ltfs = folder.ltfs()
    if ltfs is None and is_lock_held(launch.lock_path):
        return True
    ltfs = folder.ltfs()
    return ltfs is not None and is_alive(ltfs)


def is_lock_held(path: str) -> bool:
    """Whether a shim, or what it started, lives. Not to be asked while a shim may be about to take the lock."""
    try:
        os.close(locked(path))
    except BlockingIOError:
        return True
    return False


def mount_table_entry(mountpoint: str) -> MountEntry | None:
    """What is mounted there, as the mount table tells without touching it."""
    with open(MOUNT_TABLE, encoding="utf-8", errors="surrogateescape") as file:
        return mounted_at(file.read(), mountpoint)


def verdict_of(sight: Sight) -> UnmountVerdict:
    """Judge a mount that is over."""
    ended = sight.ended
    if ended is None:
        notable = [
            line
            for line in sight.lines
            if (message := message_of(line)) is not None and message.code in NOTABLE_CODES
        ]
        return unmount_verdict(exit_status=None, signal=None, notable=notable, log_tail=sight.lines)
    return unmount_verdict(
        exit_status=ended.exit_status, signal=ended.signal, notable=ended.notable, log_tail=sight.lines
    )


def mount_fault(sight: Sight) -> FilesystemFault:
    """Say why an ``ltfs`` that was to mount has ended."""
    ended = sight.ended
    if ended is not None and ended.failure is not None:
        return (DriveBusy if ended.is_busy else CannotStart)(f"ltfs was not started: {ended.failure}")
    lines = [*(ended.notable if ended else ()), *sight.lines]
    trouble = mount_trouble(lines)
    was_killed = ended is None or ended.signal is not None
    return FAULTS.get(trouble, CutOff if was_killed else MountFailed)(
        f"ltfs did not mount, {trouble.value}: {reason_of(lines)}", tail_of(sight.lines)
    )


def read_only_of(folder: MountFolder, sight: Sight) -> ReadOnly | None:
    """Why a volume is mounted read-only; None when it is not. Blocks on the local disk."""
    if sight.entry is None or not sight.entry.is_read_only:
        return None
    launch = folder.launch()
    if launch is not None and launch.read_only:
        return ReadOnly.ASKED
    return read_only_reason(sight.lines) or ReadOnly.UNKNOWN


def still_running(folder: MountFolder, what: str) -> OutcomeUnknown:
    """Say that an ``ltfs`` is late; nobody but an operator ends it, since that can lose an index."""
    ltfs = folder.ltfs()
    who = "" if ltfs is None else f", process {ltfs.process_id}"
    return OutcomeUnknown(
        f"{what} and still runs{who}: wait for its end, or end it with kill -9 when it hangs for good",
        tail_of(lines_of(folder.log())),
    )


@implementer(ITapeFilesystem)
class LtfsFilesystem:
    """
    Formats, checks and mounts the volume in one drive with the LTFS programs.

    :param threads: a running pool, for looks at the local disk.
    :param movers: makes the mover of a mountpoint.
    :param descriptors: tells the descriptors that commands inherit: the drive's lock.
    :param pool_mebibytes: write cache of ``ltfs``; a session's manifest must fit.
    :param accept_plain_directory: accept the virtual library's fallback without FUSE, which is not to be seen in the mount table.
    """

    log = Logger()

    def __init__(
        self,
        *,
        reactor: IFilesystemReactor,
        threads: ThreadPool,
        runner: ICommandRunner,
        tenure: ITenure,
        launcher: ILtfsLauncher,
        movers: LtfsMovers,
        drive: LtfsDrive,
        descriptors: Callable[[], Sequence[int]] = tuple,
        tools: LtfsTools | None = None,
        options: LtfsOptions | None = None,
        limits: LtfsLimits | None = None,
        pool_mebibytes: int = 256,
        log_limit_bytes: int = 16 * 1024 * 1024,
        accept_plain_directory: bool = False,
    ) -> None:
        self._reactor = reactor
        self._threads = threads
        self._runner = runner
        self._tenure = tenure
        self._launcher = launcher
        self._movers = movers
        self._device = drive.device
        self._guard = drive.guard
        self._state_directory = os.path.abspath(drive.state_directory)
        parent, name = os.path.split(os.path.abspath(drive.mountpoint))
        # The mount table has paths without symbolic links. The mountpoint itself is not touched.
        self._mountpoint = os.path.join(os.path.realpath(parent), name)
        self._descriptors = descriptors
        self._tools = tools or LtfsTools()
        self._options = options or LtfsOptions()
        self._limits = limits or LtfsLimits()
        self._pool_mebibytes = pool_mebibytes
        self._log_limit_bytes = log_limit_bytes
        self._accept_plain_directory = accept_plain_directory
        self._folders = MountFolders(self._state_directory)
        self._turn = DeferredLock()
        self._volume: LtfsVolume | None = None

    # --- Tools of the trade

    def _in_thread(self, function: Callable[..., _T], *arguments: object) -> "Deferred[_T]":
        return deferToThreadPool(self._reactor, self._threads, function, *arguments)

    def _pause(self, seconds: float) -> "Deferred[None]":
        return deferLater(self._reactor, seconds)

    def _look(self, folder: MountFolder) -> "Deferred[Sight]":
        return self._in_thread(look_at, folder, self._mountpoint)

    async def _until(
        self, folder: MountFolder, condition: Callable[[Sight], bool], timeout_seconds: float
    ) -> Sight | None:
        """Look until the condition holds; None when it did not in time."""
        deadline = self._reactor.seconds() + timeout_seconds
        pause = self._limits.look_first_seconds
        while True:
            sight = await self._look(folder)
            if condition(sight):
                return sight
            if self._reactor.seconds() >= deadline:
                return None
            await self._pause(min(pause, max(deadline - self._reactor.seconds(), 0.0)))
            pause = min(pause * 1.5, self._limits.look_most_seconds)

    async def _run(self, argv: Sequence[str], timeout_seconds: float) -> Completed:
        """Run a program that uses the tape, with the drive's lock and the guard in its hands."""
        try:
            guard = await self._in_thread(self._open_guard)
        except OSError as error:
            raise DriveBusy(f"{self._guard}: {error.strerror}") from error
        try:
            await self._tenure.confirm()
            return await self._runner.run(
                argv,
                timeout_seconds=timeout_seconds,
                descriptors=(*self._descriptors(), *guard),
                environment=LOCALE,
            )
        except (CommandTimeout, OutputTooLarge) as fault:
            raise OutcomeUnknown(str(fault), tail_of(lines_of(fault.stderr))) from fault
        finally:
            for descriptor in guard:
                os.close(descriptor)

    def _open_guard(self) -> tuple[int, ...]:
        if self._guard is None:
            return ()
        return (os.open(self._guard, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC),)

    async def _settle_newest(self) -> None:
        newest = await self._in_thread(self._folders.newest)
        if newest is not None:
            await self._in_thread(newest.settle)

    async def _demand_nothing_mounted(self) -> None:
        newest = await self._in_thread(self._folders.newest)
        if newest is None:
            return
        sight = await self._look(newest)
        if sight.is_running:
            raise DriveBusy(f"a volume is mounted on {self._mountpoint}")

    async def _umount(self) -> Completed:
        argv = (*self._tools.umount, self._mountpoint)
        await self._tenure.confirm()
        try:
            return await self._runner.run(
                argv,
                timeout_seconds=self._limits.umount_command_seconds,
                descriptors=self._descriptors(),
                environment=LOCALE,
            )
        except (CommandTimeout, OutputTooLarge) as fault:
            raise OutcomeUnknown(str(fault)) from fault
        except CommandNotFound as fault:
            raise MountBusy(f"cannot unmount: {fault}") from fault

    async def _clear_stale_mount(self) -> None:
        """Remove a dead mount from the mountpoint. Only to be called when no ``ltfs`` serves it."""
        entry = await self._in_thread(mount_table_entry, self._mountpoint)
        if entry is None:
            return
        if not entry.filesystem_type.startswith("fuse"):
            raise MountFailed(f"{self._mountpoint} is the place of another file system ({entry.source})")
        completed = await self._umount()
        if await self._in_thread(mount_table_entry, self._mountpoint) is not None:
            words = completed.stderr.decode(errors="replace").strip()
            raise MountBusy(f"a dead mount on {self._mountpoint} cannot be cleared: {words}")
        self.log.warn("{mountpoint} held a dead mount; cleared", mountpoint=self._mountpoint)

    # --- Format and check

    @returns_deferred
    async def format(self, *, barcode: str, volume_name: str) -> FormattedVolume:
        """See ``ITapeFilesystem``."""
        argv = format_arguments(
            self._tools, self._options, device=self._device, barcode=barcode, volume_name=volume_name
        )
        await self._turn.acquire()
        try:
            await self._demand_nothing_mounted()
            try:
                completed = await self._run(argv, self._limits.format_seconds)
            except CommandNotFound as fault:
                raise CannotStart(str(fault)) from fault
            lines = lines_of(completed.stderr)
            trouble = format_trouble(completed.exit_status, lines)
            volume_uuid = formatted_uuid(lines)
            if trouble is not None or volume_uuid is None:
                kind = trouble or Trouble.OTHER
                raise FAULTS.get(kind, CutOff if completed.was_cut_off else FormatFailed)(
                    f"mkltfs did not format, {kind.value} ({completed.ending}): {reason_of(lines)}",
                    tail_of(lines),
                )
            await self._settle_newest()
        finally:
            self._turn.release()
        self.log.info(
            "{barcode} formatted as {volume_uuid} ({volume_name}) in {seconds:.1f} s",
            barcode=barcode,
            volume_uuid=volume_uuid,
            volume_name=volume_name,
            seconds=completed.seconds,
        )
        return FormattedVolume(barcode=barcode, volume_uuid=volume_uuid, volume_name=volume_name)

    @returns_deferred
    async def check(self) -> CheckVerdict:
        """See ``ITapeFilesystem``."""
        await self._turn.acquire()
        try:
            await self._demand_nothing_mounted()
            newest = await self._in_thread(self._folders.newest)
            if newest is not None:
                await self._clear_stale_mount()
            verdict, outcome = await self._check(is_deep=False)
            if outcome is CheckOutcome.EOD_MISSING:
                verdict, outcome = await self._check(is_deep=True)
            if verdict.is_consistent:
                await self._settle_newest()
        finally:
            self._turn.release()
        self.log.info("check of {device}: {outcome}", device=self._device, outcome=outcome.value)
        return verdict

    async def _check(self, *, is_deep: bool) -> tuple[CheckVerdict, CheckOutcome]:
        argv = check_arguments(self._tools, self._options, device=self._device, is_deep=is_deep)
        try:
            completed = await self._run(argv, self._limits.check_seconds)
        except CommandNotFound as fault:
            raise CannotStart(str(fault)) from fault
        lines = lines_of(completed.stderr)
        outcome = check_outcome(completed.exit_status, lines)
        if isinstance(outcome, Trouble):
            raise FAULTS.get(outcome, CutOff if completed.was_cut_off else CheckFailed)(
                f"ltfsck did not check, {outcome.value} ({completed.ending}): {reason_of(lines)}",
                tail_of(lines),
            )
        is_consistent = outcome in (CheckOutcome.CONSISTENT, CheckOutcome.REPAIRED)
        verdict = CheckVerdict(
            is_consistent=is_consistent,
            was_repaired=is_deep or outcome is CheckOutcome.REPAIRED,
            finding="" if is_consistent else reason_of(lines),
            exit_status=completed.exit_status,
            log_tail=tail_of(lines),
        )
        return verdict, outcome

    # --- Mount and adopt

    @returns_deferred
    async def mount(
        self, *, barcode: str, volume_uuid: str | None, read_only: bool = False
    ) -> IMountedVolume:
        """See ``ITapeFilesystem``."""
        volume_serial(barcode)
        await self._turn.acquire()
        try:
            await self._demand_nothing_mounted()
            await self._clear_stale_mount()
            try:
                folder = await self._in_thread(self._prepare, barcode, volume_uuid, read_only)
            except OSError as error:
                raise NotRecorded(
                    f"{error.filename or self._state_directory}: {error.strerror or error}"
                ) from error
            # If it is refused, the folder is one of a process that was killed here.
            await self._tenure.confirm()
            await self._launcher.launch(folder.path)
            await self._shim_started(folder)
            sight = await self._until(folder, self._is_usable_or_over, self._limits.mount_seconds)
            if sight is None:
                late = f"ltfs is not ready after {self._limits.mount_seconds:g} s"
                raise await self._in_thread(still_running, folder, late)
            if sight.is_over:
                await self._in_thread(folder.settle)
                raise mount_fault(sight)
            return await self._meet(folder, sight, barcode, volume_uuid)
        finally:
            self._turn.release()

    def _prepare(self, barcode: str, volume_uuid: str | None, read_only: bool) -> MountFolder:
        os.makedirs(self._mountpoint, mode=0o700, exist_ok=True)
        work_directory = os.path.join(self._state_directory, "work")
        os.makedirs(work_directory, mode=0o700, exist_ok=True)
        folder = self._folders.new()
        argv = mount_arguments(
            self._tools,
            self._options,
            device=self._device,
            mountpoint=self._mountpoint,
            work_directory=work_directory,
            pool_mebibytes=self._pool_mebibytes,
            read_only=read_only,
        )
        launch = Launch(
            barcode=barcode,
            volume_uuid=volume_uuid,
            device=self._device,
            guard=self._guard,
            mountpoint=self._mountpoint,
            read_only=read_only,
            argv=argv,
            lock_path=os.path.join(self._state_directory, MOUNT_LOCK),
            log_limit_bytes=self._log_limit_bytes,
        )
        try:
            folder.request(launch)
        except OSError:
            folder.remove()
            raise
        return folder

    async def _shim_started(self, folder: MountFolder) -> None:
        limit = self._limits.shim_start_seconds
        if await self._until(folder, lambda sight: sight.is_taken, limit):
            return
        if await self._in_thread(folder.withdraw):
            await self._in_thread(folder.settle)
            raise CutOff(f"the shim of {self._mountpoint} did not start within {limit:g} s")

    def _is_usable(self, sight: Sight) -> bool:
        if sight.is_over or not sight.is_running or not is_ready(sight.lines):
            return False
        return is_ours(sight.entry, self._device) or self._is_plain(sight)

    def _is_plain(self, sight: Sight) -> bool:
        return self._accept_plain_directory and is_plain_directory_announced(sight.lines)

    def _is_usable_or_over(self, sight: Sight) -> bool:
        return sight.is_over or self._is_usable(sight)

    async def _meet(
        self, folder: MountFolder, sight: Sight, barcode: str, volume_uuid: str | None
    ) -> "LtfsVolume":
        """Get to know the volume that is mounted, and refuse a wrong one."""
        is_plain = self._is_plain(sight)
        mover = self._movers(self._mountpoint, is_plain)
        volume = LtfsVolume(
            self, folder, mover, barcode=barcode, mountpoint=self._mountpoint, is_plain=is_plain
        )
        try:
            told = await volume.attributes(
                ["volumeSerial", "volumeUUID", "volumeName", "indexGeneration", "volumeLockState"]
            )
            volume.introduce(told, read_only=await self._in_thread(read_only_of, folder, sight))
        except (MoverFault, KeyError, ValueError) as fault:
            verdict = await self.end_mount(folder, mover, is_plain)
            was_killed = verdict.was_cut_off or isinstance(fault, MoverDied)
            raise (CutOff if was_killed else MountFailed)(
                f"the mounted volume cannot be asked what it is: {fault!r}", verdict.log_tail
            ) from fault
        serial = told["volumeSerial"]
        if serial != volume_serial(barcode) or (
            volume_uuid is not None and volume.volume_uuid != volume_uuid.lower()
        ):
            await self.end_mount(folder, mover, is_plain)
            await self._in_thread(folder.settle)
            raise WrongVolume(
                f"expected {barcode} with volume {volume_uuid or 'any'}, found {serial} with volume {volume.volume_uuid}",
                found_label=serial,
                found_uuid=volume.volume_uuid,
            )
        found = VolumeFound(volume_uuid=volume.volume_uuid, volume_name=volume.volume_name, is_plain=is_plain)
        await self._in_thread(folder.write_volume, found)
        self._volume = volume
        self.log.info(
            "{barcode} mounted on {mountpoint}, generation {generation}{read_only}",
            barcode=barcode,
            mountpoint=self._mountpoint,
            generation=volume.generation,
            read_only=", read-only" if volume.is_read_only else "",
        )
        return volume

    @returns_deferred
    async def adopt(self) -> "IMountedVolume | EndedMount | None":
        """See ``ITapeFilesystem``."""
        await self._turn.acquire()
        try:
            return await self._adopt()
        finally:
            self._turn.release()

    async def _adopt(self) -> "LtfsVolume | EndedMount | None":
        folder = await self._in_thread(self._folders.newest)
        launch = None if folder is None else await self._in_thread(folder.launch)
        if folder is None or launch is None or await self._in_thread(folder.is_settled):
            await self._clear_stale_mount()
            return None
        if await self._in_thread(folder.withdraw):
            await self._clear_stale_mount()
            return None
        limit = self._limits.mount_seconds
        sight = await self._until(folder, self._is_usable_or_over, limit)
        if sight is None:
            raise OutcomeUnknown(f"the ltfs of {launch.barcode} neither is ready nor ends within {limit:g} s")
        if not sight.is_over:
            if self._volume is not None and self._volume.is_of(folder):
                return self._volume
            return await self._meet(folder, sight, launch.barcode, launch.volume_uuid)
        await self._clear_stale_mount()
        return EndedMount(
            barcode=launch.barcode,
            volume_uuid=sight.volume.volume_uuid if sight.volume else launch.volume_uuid,
            verdict=verdict_of(sight),
        )

    @returns_deferred
    async def settle(self) -> None:
        """See ``ITapeFilesystem``."""
        await self._turn.acquire()
        try:
            folder = await self._in_thread(self._folders.newest)
            if folder is not None and (await self._look(folder)).is_over:
                await self._in_thread(folder.settle)
        finally:
            self._turn.release()

    # --- Unmount

    @returns_deferred
    async def unmount(self, folder: MountFolder, mover: LtfsMover, is_plain: bool) -> UnmountVerdict:
        """End a mount when it is its turn; for ``LtfsVolume``."""
        await self._turn.acquire()
        try:
            return await self.end_mount(folder, mover, is_plain)
        finally:
            self._turn.release()

    async def end_mount(self, folder: MountFolder, mover: LtfsMover, is_plain: bool) -> UnmountVerdict:
        """Unmount, wait for the end of ``ltfs``, and judge it."""
        await mover.close()
        await self._let_go(folder, is_plain)
        limit = self._limits.unmount_seconds
        sight = await self._until(folder, lambda sight: sight.is_over, limit)
        if sight is None:
            late = f"ltfs has not ended within {limit:g} s of the unmount"
            raise await self._in_thread(still_running, folder, late)
        if sight.entry is not None:
            await self._clear_stale_mount()
        verdict = verdict_of(sight)
        if verdict.is_clean:
            self.log.info("{mountpoint} unmounted, index on tape", mountpoint=self._mountpoint)
        else:
            self.log.warn(
                "the mount on {mountpoint} ended badly: {findings}",
                mountpoint=self._mountpoint,
                findings="; ".join(verdict.findings),
            )
        return verdict

    async def _let_go(self, folder: MountFolder, is_plain: bool) -> None:
        """Take the mount out of the mount table, as far as it is in there."""
        pause = self._limits.busy_pause_seconds
        for attempt in range(1, self._limits.busy_attempts + 1):
            sight = await self._look(folder)
            if sight.is_over or not (sight.entry is not None or (is_plain and sight.is_running)):
                return
            completed = await self._umount()
            words = completed.stderr.decode(errors="replace").strip()
            if completed.is_success or "not mounted" in words or "not found" in words:
                return
            if attempt == self._limits.busy_attempts:
                raise MountBusy(f"{self._mountpoint} stays mounted: {words}")
            await self._pause(pause)
            pause = min(pause * 2, self._limits.longest_pause_seconds)

    def is_running(self, folder: MountFolder) -> bool:
        """Whether the ``ltfs`` of a mount runs; for ``LtfsVolume``. Reads a small local file and the process table."""
        ltfs = folder.ltfs()
        return ltfs is not None and is_alive(ltfs)

    # --- Waiting, for LtfsVolume

    async def generation_after_plain_sync(self, volume: "LtfsVolume", before: int) -> None:
        """A plain folder's sync does not block: wait until the generation has moved, within a grace."""
        deadline = self._reactor.seconds() + self._limits.plain_sync_seconds
        while self._reactor.seconds() < deadline:
            told = await volume.attributes(["indexGeneration"])
            if int(told["indexGeneration"]) > before:
                return
            await self._pause(self._limits.look_first_seconds)


@implementer(IMountedVolume)
class LtfsVolume:
    """A volume that ``ltfs`` has mounted. Made by ``LtfsFilesystem``."""

    form = VolumeForm.LTFS
    volume_uuid: str = ""
    volume_name: str = ""
    read_only: ReadOnly | None = ReadOnly.UNKNOWN
    generation: int = 0

    def __init__(
        self,
        filesystem: LtfsFilesystem,
        folder: MountFolder,
        mover: LtfsMover,
        *,
        barcode: str,
        mountpoint: str,
        is_plain: bool,
    ) -> None:
        self._filesystem = filesystem
        self._folder = folder
        self._is_plain = is_plain
        self._verdict: UnmountVerdict | None = None
        self.mover = mover
        self.barcode = barcode
        self.mountpoint = mountpoint

    @property
    def is_read_only(self) -> bool:
        """See ``IMountedVolume``."""
        return self.read_only is not None

    def introduce(self, told: Mapping[str, str], *, read_only: ReadOnly | None) -> None:
        """
        Take over what the volume says of itself.

        :param read_only: why it is mounted read-only, None when it is not
        :raise KeyError: it leaves out what every volume has.
        :raise ValueError: a number is none.
        """
        self.volume_uuid = told["volumeUUID"].lower()
        self.volume_name = told.get("volumeName", "")
        self.generation = int(told["indexGeneration"])
        # After a permanent write error the mount flags still say rw, and every write fails.
        lock_state = int(told.get("volumeLockState", "0"), 16)
        self.read_only = ReadOnly.WRITE_ERROR if lock_state & WRITE_ERROR_LOCK_MASK else read_only

    def is_of(self, folder: MountFolder) -> bool:
        """Whether this is the mount of that folder."""
        return self._folder.path == folder.path

    def is_alive(self) -> bool:
        """See ``IMountedVolume``."""
        return self._verdict is None and self._filesystem.is_running(self._folder)

    def space(self) -> "Deferred[VolumeSpace]":
        """See ``IMountedVolume``."""
        return self.mover.space()

    @returns_deferred
    async def attributes(self, names: Sequence[str]) -> Mapping[str, str]:
        """Read the volume's virtual attributes, by their names after ``user.ltfs.``, blanks stripped."""
        values = await self.mover.virtual_attributes(path="", names=names)
        return {name: value.decode(errors="replace").strip() for name, value in values.items()}

    @returns_deferred
    async def sync(self, message: str, *, new_files: Sequence[str] = ()) -> SyncedIndex:
        """See ``IMountedVolume``."""
        before = int((await self._state())["indexGeneration"])
        commit = message.encode()[:COMMIT_MESSAGE_BYTES].decode(errors="ignore").encode()
        try:
            await self.mover.set_virtual_attribute("commitMessage", commit)
            await self.mover.set_virtual_attribute("sync", b"1")
        except MediumFault as fault:
            raise SyncFailed(f"the index of {self.barcode} could not be written: {fault}") from fault
        if self._is_plain:
            await self._filesystem.generation_after_plain_sync(self, before)
        state = await self._state()
        after, location = int(state["indexGeneration"]), start_block_of(state["indexLocation"])
        findings = []
        if after <= before and new_files:
            findings.append(f"the generation stayed at {after}")
        if location.partition != "b" and (after > before or new_files):
            findings.append(f"the index is at {state['indexLocation']}")
        if int(state.get("volumeLockState", "0"), 16):
            findings.append(f"the volume's lock state is {state['volumeLockState']}")
        start_blocks = await self._start_blocks(new_files)
        findings += [f"{path} has no start block" for path in new_files if path not in start_blocks]
        if findings:
            raise SyncFailed(f"{self.barcode}: {'; '.join(findings)}")
        self.generation = after
        return SyncedIndex(generation=after, location=location, start_blocks=start_blocks)

    async def _state(self) -> Mapping[str, str]:
        state = await self.attributes(["indexGeneration", "indexLocation", "volumeLockState"])
        if not {"indexGeneration", "indexLocation"} <= state.keys():
            raise SyncFailed(f"{self.barcode}: the volume does not tell its index generation and location")
        return state

    async def _start_blocks(self, paths: Sequence[str]) -> dict[str, StartBlock]:
        found = {}
        names = ("partition", "startblock")
        for path in paths:
            told = await self.mover.virtual_attributes(path=path, names=names)
            with suppress(KeyError, ValueError):
                partition, block = (told[name].decode().strip() for name in names)
                found[path] = start_block_of(f"{partition}:{block}")
        return found

    @returns_deferred
    async def unmount(self) -> UnmountVerdict:
        """See ``IMountedVolume``."""
        if self._verdict is None:
            self._verdict = await self._filesystem.unmount(self._folder, self.mover, self._is_plain)
        return self._verdict
