"""
The tape file system of one drive by plain tar files on a raw tape.

A mount is no process of its own: it is a record on disk (``mount.json``), the working copy that its mover keeps, and the tape itself. The
mover's child holds the drive while the service runs. A service that was started again looks at the tape before it takes a mount
over: label, end of data, and where the last one of them was left. After a start of the machine no mount is taken over.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar
from uuid import UUID

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from coldstore.interfaces.filesystem import (
    CheckVerdict,
    CutOff,
    DriveBusy,
    EndedMount,
    FilesystemFault,
    FormattedVolume,
    IMountedVolume,
    ITapeFilesystem,
    MountFailed,
    NoMedium,
    NotRecorded,
    OutcomeUnknown,
    ReadOnly,
    StartBlock,
    SyncedIndex,
    UnmountOutcome,
    UnmountVerdict,
)
from coldstore.interfaces.mover import MoverDied, MoverFault, MoverTimeout, VolumeGone, VolumeSpace
from coldstore.model.cartridges import VolumeForm
from coldstore.tape.ltfs import checked_volume_name, volume_serial
from coldstore.tape.mountrecord import write_json
from coldstore.tape.mover import IMoverReactor, Line
from coldstore.tape.processtable import boot_id
from coldstore.tape.raw.mover import RawMover
from coldstore.util.asynchronous import returns_deferred

_T = TypeVar("_T")

RECORD = "mount.json"
WORKING_COPY = "volume-{token}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RawLimits:
    """
    Time limits in seconds, each for one operation of the child, which gives no sign of life while the drive does something.

    They exceed the driver's own: 14,000 s for one movement of the tape (st(4), long timeout).
    """

    format_seconds: float = 5 * 3600.0
    check_seconds: float = 24 * 3600.0
    mount_seconds: float = 5 * 3600.0
    unmount_seconds: float = 5 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MountRecord:
    """
    What is kept of a mount on disk. ``token`` names its working copy; ``read_only`` is the name of a ``ReadOnly``, None when it can be written;
    ``verdict`` tells how it ended, None while it has not.
    """

    token: str
    barcode: str
    volume_uuid: str
    volume_name: str
    read_only: str | None
    boot_id: str
    verdict: dict[str, Any] | None = None


def _unclean(finding: str, *, was_cut_off: bool = False) -> UnmountVerdict:
    return UnmountVerdict(
        outcome=UnmountOutcome.UNKNOWN,
        exit_status=None,
        signal=None,
        findings=(finding,),
        log_tail=(),
        was_cut_off=was_cut_off,
    )


CLEAN = UnmountVerdict(outcome=UnmountOutcome.CLEAN, exit_status=None, signal=None, findings=(), log_tail=())


@implementer(ITapeFilesystem)
class RawFilesystem:
    """
    Formats, checks and mounts the volume in one drive.

    :param threads: a running pool, for looks at the local disk.
    :param movers: makes a mover.
    :param capacity_of: what a cartridge holds by its barcode, in bytes.
    :param state_directory: keeps the record of the mount; survives a restart of the service.
    :param new_bits: gives 128 random bits.
    """

    log = Logger()

    def __init__(
        self,
        *,
        reactor: IMoverReactor,
        threads: ThreadPool,
        movers: Callable[[], RawMover],
        capacity_of: Callable[[str], int],
        state_directory: str,
        new_bits: Callable[[], int],
        limits: RawLimits | None = None,
    ) -> None:
        self._reactor = reactor
        self._threads = threads
        self._movers = movers
        self._capacity_of = capacity_of
        self._idle: RawMover | None = None
        """A mover whose child runs and has let go of the drive; the next one that is needed."""
        self._state_directory = os.path.abspath(state_directory)
        self._new_bits = new_bits
        self._limits = limits or RawLimits()
        self._turn = DeferredLock()
        self._volume: RawVolume | None = None

    # --- The record

    def _in_thread(self, function: Callable[..., _T], *arguments: object) -> "Deferred[_T]":
        return deferToThreadPool(self._reactor, self._threads, function, *arguments)

    @property
    def _record_path(self) -> str:
        return os.path.join(self._state_directory, RECORD)

    def _read_record(self) -> MountRecord | None:
        try:
            with open(self._record_path, encoding="utf-8") as file:
                return MountRecord(**json.load(file))
        except FileNotFoundError:
            return None

    def _write_record(self, record: MountRecord) -> None:
        write_json(self._record_path, asdict(record))

    def _working_copy(self, token: str) -> str:
        return os.path.join(self._state_directory, WORKING_COPY.format(token=token))

    def _forget(self) -> None:
        """Remove the record of a mount that is over, and every working copy."""
        os.makedirs(self._state_directory, mode=0o700, exist_ok=True)
        for name in os.listdir(self._state_directory):
            if name == RECORD or name.startswith(WORKING_COPY.format(token="")):
                os.unlink(os.path.join(self._state_directory, name))

    async def _begin(self) -> str:
        """
        See that nothing is mounted, and forget what was; return the token of what begins.

        :raise DriveBusy: a volume is mounted.
        :raise NotRecorded: the state directory cannot be written.
        """
        record = await self._in_thread(self._read_record)
        if record is not None and record.verdict is None and record.boot_id == await self._in_thread(boot_id):
            raise DriveBusy(f"{record.barcode} is mounted")
        try:
            await self._in_thread(self._forget)
        except OSError as error:
            raise NotRecorded(
                f"{error.filename or self._state_directory}: {error.strerror or error}"
            ) from error
        return f"{self._new_bits():032x}"

    async def _ask(self, mover: RawMover, command: Line, seconds: float) -> Line:
        """
        Have the child do something with the tape as a whole.

        :raise OutcomeUnknown: it was silent for too long.
        :raise CutOff: it was killed.
        """
        try:
            return await mover.ask(command, silence_seconds=seconds)
        except MoverTimeout as fault:
            raise OutcomeUnknown(f"{command['op']}: {fault}") from fault
        except MoverDied as fault:
            raise CutOff(f"{command['op']}: {fault}") from fault

    # --- Format and check

    @returns_deferred
    async def format(self, *, barcode: str, volume_name: str) -> FormattedVolume:
        """See ``ITapeFilesystem``."""
        volume_serial(barcode)
        checked_volume_name(volume_name)
        volume_uuid = str(UUID(int=self._new_bits(), version=4))
        command = {
            "op": "format",
            "barcode": barcode,
            "volume_uuid": volume_uuid,
            "volume_name": volume_name,
        }
        await self._turn.acquire()
        try:
            await self._once(command, self._limits.format_seconds)
        finally:
            self._turn.release()
        self.log.info(
            "{barcode} formatted as {volume_uuid} ({volume_name})",
            barcode=barcode,
            volume_uuid=volume_uuid,
            volume_name=volume_name,
        )
        return FormattedVolume(barcode=barcode, volume_uuid=volume_uuid, volume_name=volume_name)

    @returns_deferred
    async def check(self) -> CheckVerdict:
        """See ``ITapeFilesystem``."""
        await self._turn.acquire()
        try:
            found = await self._once({"op": "check"}, self._limits.check_seconds)
        finally:
            self._turn.release()
        log_tail = tuple(found["log"])
        for line in log_tail:
            self.log.info("check: {line}", line=line)
        return CheckVerdict(
            is_consistent=found["is_consistent"],
            was_repaired=found["was_repaired"],
            finding=found["finding"],
            exit_status=None,
            log_tail=log_tail,
        )

    async def _once(self, command: Line, seconds: float) -> Line:
        await self._begin()
        mover = self._next_mover()
        try:
            return await self._ask(mover, command, seconds)
        finally:
            self._idle = mover

    def _next_mover(self) -> RawMover:
        mover, self._idle = self._idle or self._movers(), None
        return mover

    def _mover_of(self, token: str, barcode: str) -> RawMover:
        """The mover of a mount."""
        mover = self._next_mover()
        mover.working_copy = self._working_copy(token)
        mover.capacity_bytes = self._capacity_of(barcode)
        return mover

    # --- Mount and adopt

    @returns_deferred
    async def mount(
        self, *, barcode: str, volume_uuid: str | None, read_only: bool = False
    ) -> IMountedVolume:
        """See ``ITapeFilesystem``."""
        volume_serial(barcode)
        await self._turn.acquire()
        try:
            token = await self._begin()
            mover = self._mover_of(token, barcode)
            command = {"op": "mount", "barcode": barcode, "volume_uuid": volume_uuid, "read_only": read_only}
            try:
                told = await self._ask(mover, command, self._limits.mount_seconds)
                record = MountRecord(
                    token=token,
                    barcode=barcode,
                    volume_uuid=told["volume_uuid"],
                    volume_name=told["volume_name"],
                    read_only=told["read_only"],
                    boot_id=await self._in_thread(boot_id),
                )
                await self._in_thread(self._write_record, record)
            except FilesystemFault:
                self._idle = mover
                raise
            except BaseException as fault:
                await mover.close()
                if isinstance(fault, MoverFault):
                    raise MountFailed(f"mounting {barcode}: {fault}") from fault
                if isinstance(fault, OSError):
                    raise NotRecorded(f"{self._record_path}: {fault.strerror or fault}") from fault
                raise
            return self._met(record, mover, told["generation"])
        finally:
            self._turn.release()

    def _met(self, record: MountRecord, mover: RawMover, generation: int) -> "RawVolume":
        volume = self._volume = RawVolume(self, record, mover, generation)
        self.log.info(
            "{barcode} mounted, generation {generation}{read_only}",
            barcode=record.barcode,
            generation=generation,
            read_only=f", read-only: {ReadOnly[record.read_only].value}" if record.read_only else "",
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

    async def _adopt(self) -> "RawVolume | EndedMount | None":
        record = await self._in_thread(self._read_record)
        if record is None:
            await self._in_thread(self._forget)
            return None
        if record.verdict is None:
            if self._volume is not None and self._volume.is_of(record) and self._volume.is_alive():
                return self._volume
            if record.boot_id != await self._in_thread(boot_id):
                verdict = _unclean("the machine was started anew while it was mounted", was_cut_off=True)
                record = await self.ended(record, verdict)
            else:
                resumed = await self._resumed(record)
                if isinstance(resumed, RawVolume):
                    return resumed
                record = resumed
        assert record.verdict is not None
        return EndedMount(
            barcode=record.barcode, volume_uuid=record.volume_uuid, verdict=_verdict(record.verdict)
        )

    async def _resumed(self, record: MountRecord) -> "RawVolume | MountRecord":
        mover = self._mover_of(record.token, record.barcode)
        try:
            told = await self._ask(mover, {"op": "resume"}, self._limits.mount_seconds)
            return self._met(record, mover, told["generation"])
        except (VolumeGone, NoMedium) as fault:
            await mover.close()
            return await self.ended(record, _unclean(str(fault)))
        except BaseException as fault:
            await mover.close()
            if isinstance(fault, MoverFault):
                raise OutcomeUnknown(f"looking at {record.barcode}: {fault}") from fault
            raise

    async def ended(self, record: MountRecord, verdict: UnmountVerdict) -> MountRecord:
        """Record the end of a mount; for ``RawVolume``."""
        self._volume = None
        over = MountRecord(
            **{**asdict(record), "verdict": {**asdict(verdict), "outcome": verdict.outcome.value}}
        )
        await self._in_thread(self._write_record, over)
        if verdict.is_clean:
            self.log.info("{barcode} unmounted, index on tape", barcode=record.barcode)
        else:
            self.log.warn(
                "the mount of {barcode} ended badly: {findings}",
                barcode=record.barcode,
                findings="; ".join(verdict.findings),
            )
        return over

    @returns_deferred
    async def settle(self) -> None:
        """See ``ITapeFilesystem``."""
        await self._turn.acquire()
        try:
            record = await self._in_thread(self._read_record)
            if record is not None and record.verdict is not None:
                await self._in_thread(self._forget)
        finally:
            self._turn.release()

    # --- Unmount

    @returns_deferred
    async def unmount(self, record: MountRecord, mover: RawMover) -> UnmountVerdict:
        """End a mount when it is its turn; for ``RawVolume``."""
        await self._turn.acquire()
        try:
            verdict = CLEAN
            try:
                await self._ask(mover, {"op": "unmount"}, self._limits.unmount_seconds)
            except OutcomeUnknown:
                raise
            except (MoverFault, FilesystemFault) as fault:
                verdict = _unclean(str(fault), was_cut_off=isinstance(fault, CutOff))
            await mover.close()
            await self.ended(record, verdict)
            return verdict
        finally:
            self._turn.release()


def _verdict(fields: dict[str, Any]) -> UnmountVerdict:
    return UnmountVerdict(
        outcome=UnmountOutcome(fields["outcome"]),
        exit_status=fields["exit_status"],
        signal=fields["signal"],
        findings=tuple(fields["findings"]),
        log_tail=tuple(fields["log_tail"]),
        full_because=fields["full_because"],
        was_cut_off=fields["was_cut_off"],
    )


@implementer(IMountedVolume)
class RawVolume:
    """A volume on the tape in a drive. Made by ``RawFilesystem``."""

    form = VolumeForm.TAR

    def __init__(
        self, filesystem: RawFilesystem, record: MountRecord, mover: RawMover, generation: int
    ) -> None:
        self._filesystem = filesystem
        self._record = record
        self._verdict: UnmountVerdict | None = None
        self.mover = mover
        self.barcode = record.barcode
        self.volume_uuid = record.volume_uuid
        self.volume_name = record.volume_name
        self.read_only = ReadOnly[record.read_only] if record.read_only else None
        self.generation = generation

    @property
    def is_read_only(self) -> bool:
        """See ``IMountedVolume``."""
        return self.read_only is not None

    def is_of(self, record: MountRecord) -> bool:
        """Whether this is the mount of that record."""
        return self._record.token == record.token

    def is_alive(self) -> bool:
        """See ``IMountedVolume``."""
        return self._verdict is None and not self.mover.gone

    def space(self) -> "Deferred[VolumeSpace]":
        """See ``IMountedVolume``."""
        return self.mover.space()

    @returns_deferred
    async def sync(self, message: str, *, new_files: Sequence[str] = ()) -> SyncedIndex:
        """See ``IMountedVolume``."""
        told = await self.mover.sync(message, new_files)
        self.generation = told["generation"]
        partition = told["partition"]
        return SyncedIndex(
            generation=self.generation,
            location=StartBlock(partition=partition, block=told["block"]),
            start_blocks={
                path: StartBlock(partition=partition, block=block)
                for path, block in told["start_blocks"].items()
            },
        )

    @returns_deferred
    async def unmount(self) -> UnmountVerdict:
        """See ``IMountedVolume``."""
        if self._verdict is None:
            self._verdict = await self._filesystem.unmount(self._record, self.mover)
        return self._verdict
