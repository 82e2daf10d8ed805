"""
Tape file systems in memory: the same contract as the real ones, on a clock that the test moves, with faults on request.

``SimulatedTapes`` is the world that survives a crash of the appliance: cartridges, what their last index on tape lists, and mounts. A
``SimulatedTapeFilesystem`` is what one run of the appliance sees of one drive; making a new one is a restart.
"""

import errno
import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from zope.interface import implementer

from coldstore.interfaces.filesystem import (
    AlreadyFormatted,
    CheckVerdict,
    DriveBusy,
    EndedMount,
    FormattedVolume,
    IMountedVolume,
    ITapeFilesystem,
    NeedsCheck,
    NoMedium,
    NotFormatted,
    ReadOnly,
    StartBlock,
    SyncedIndex,
    SyncFailed,
    UnmountOutcome,
    UnmountVerdict,
    WriteProtected,
    WrongVolume,
)
from coldstore.interfaces.mover import (
    BLOCK_BYTES,
    SHA256_ATTRIBUTE,
    Compared,
    DestinationFault,
    EndOfTape,
    FileExistsOnVolume,
    FileRange,
    FileTooLarge,
    IMover,
    Listed,
    Literal,
    MediumFault,
    NoSuchFileOnVolume,
    Piece,
    RangeRead,
    RangeState,
    ReadRange,
    StagedBytesDamaged,
    VolumeGone,
    VolumeSpace,
    Woven,
    Written,
)
from coldstore.interfaces.tenure import ITenure
from coldstore.model.cartridges import VolumeForm
from coldstore.testing.tenure import SimulatedTenure
from coldstore.util.asynchronous import returns_deferred
from coldstore.util.checksums import crc64nvme

QUIET = frozenset({"space", "attributes", "adopt"})
"""Operations that do not move the tape."""
RECORD_BYTES = 512 * 1024
FIRST_BLOCK = 6
"""The first of a data partition that a file can begin with."""
READ_ONLY_FILE_SYSTEM = 30
"""EROFS."""

Span = tuple[int, int]
"""Position on a cartridge and length, in bytes."""
Spans = Callable[[], Sequence[Span]]
ReadDisk = Callable[[str, int, int], bytes]
WriteDisk = Callable[[str, int, bytes], None]


def read_file(path: str, offset_bytes: int, length_bytes: int) -> bytes:
    """Read staged bytes from the real disk."""
    with open(path, "rb") as file:
        file.seek(offset_bytes)
        return file.read(length_bytes)


def write_file(path: str, offset_bytes: int, content: bytes) -> None:
    """Write restored bytes to the real disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.pwrite(descriptor, content, offset_bytes)
    finally:
        os.close(descriptor)


def _check_attribute(name: str) -> None:
    if not name or (name.startswith("ltfs.") and name != SHA256_ATTRIBUTE):
        raise ValueError(f"not an attribute of ours: {name!r}")


def _size_of(piece: Piece) -> int:
    match piece:
        case Literal():
            return len(piece.content)
        case FileRange():
            return piece.length_bytes
        case Woven():
            return piece.total_bytes


def _is_inside(path: str) -> bool:
    return all(part not in ("", ".", "..") for part in path.split("/"))


class CutShort(VolumeGone):
    """What a write is ordered to fail with when its mover is killed: so many bytes had come to the volume."""

    def __init__(self, written_bytes: int) -> None:
        super().__init__("the mover was killed")
        self.written_bytes = written_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    content: bytes
    attributes: Mapping[str, bytes]
    start_block: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tree:
    """What an index lists."""

    files: Mapping[str, _File] = field(default_factory=dict)
    folders: frozenset[str] = frozenset()

    def rotten(self, path: str, random: Random) -> "_Tree":
        """The same with a bit of a file changed, if that is listed and has any."""
        file = self.files.get(path)
        if file is None or not file.content:
            return self
        content = bytearray(file.content)
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
        return replace(self, files={**self.files, path: replace(file, content=bytes(content))})


@dataclass(slots=True, kw_only=True)
class SimulatedMedium:
    """
    A cartridge. ``tree`` and ``generation`` are what the last index on tape says; ``is_foreign``: it has data of somebody else.

    ``read_only`` is why it is mounted so; ``loses_index``: its unmounts fail to write the index; ``is_index_partition_full``: they find that
    its index partition takes no more files.
    """

    barcode: str
    capacity_bytes: int
    is_protected: bool = False
    read_only: ReadOnly | None = None
    loses_index: bool = False
    is_index_partition_full: bool = False
    is_foreign: bool = False
    volume_uuid: str | None = None
    volume_name: str = ""
    generation: int = 0
    tree: _Tree = _Tree()
    written_bytes: int = 0
    needs_check: bool = False

    def damage(self, marker: bytes) -> None:
        """
        Change one byte where these bytes are.

        :raise ValueError: they are nowhere.
        """
        for path, file in self.tree.files.items():
            place = file.content.find(marker)
            if place >= 0:
                content = bytearray(file.content)
                content[place] ^= 0xFF
                changed = replace(file, content=bytes(content))
                self.tree = replace(self.tree, files={**self.tree.files, path: changed})
                return
        raise ValueError("these bytes are not on the cartridge")


class _Mount:
    """A running ``ltfs``: lives in the world, not in the appliance."""

    def __init__(self, medium: SimulatedMedium, barcode: str, *, read_only: ReadOnly | None) -> None:
        self.medium = medium
        self.barcode = barcode
        self.read_only = read_only
        self.is_read_only = read_only is not None
        self.tree = medium.tree
        self.is_alive = True

    @property
    def is_dirty(self) -> bool:
        return self.tree is not self.medium.tree

    def save(self) -> None:
        """Write the index to tape."""
        if self.is_dirty:
            self.medium.tree = self.tree
            self.medium.generation += 1


class SimulatedTapes:
    """
    Cartridges and mounts: what survives the appliance.

    :param new_uuid: gives each formatted volume its UUID.
    """

    def __init__(self, *, new_uuid: Callable[[], str], capacity_bytes: int = 1 << 30) -> None:
        self.new_uuid = new_uuid
        self.media: dict[str, SimulatedMedium] = {}
        self.mounts: dict[int, _Mount] = {}
        self.ended: dict[int, EndedMount] = {}
        self._capacity_bytes = capacity_bytes

    def medium(self, barcode: str) -> SimulatedMedium:
        """The cartridge with this barcode; blank when it was never seen before."""
        if barcode not in self.media:
            self.media[barcode] = SimulatedMedium(barcode=barcode, capacity_bytes=self._capacity_bytes)
        return self.media[barcode]

    def end(self, drive: int, verdict: UnmountVerdict) -> None:
        """Note how a mount ended."""
        mount = self.mounts.pop(drive)
        mount.is_alive = False
        self.ended[drive] = EndedMount(
            barcode=mount.barcode, volume_uuid=mount.medium.volume_uuid, verdict=verdict
        )

    def kill(self, drive: int) -> None:
        """End the mount of a drive as kill -9 does: what was not in the last index is lost."""
        mount = self.mounts[drive]
        mount.medium.needs_check = mount.is_dirty
        self.end(drive, _verdict("ltfs was ended by signal 9"))


def _verdict(*findings: str) -> UnmountVerdict:
    return UnmountVerdict(
        outcome=UnmountOutcome.UNKNOWN if findings else UnmountOutcome.CLEAN,
        exit_status=None if findings else 0,
        signal=9 if findings else None,
        findings=findings,
        log_tail=(),
        was_cut_off=bool(findings),
    )


@implementer(IMover)
class SimulatedMover:
    """Moves bytes of a simulated mount."""

    def __init__(self, filesystem: "SimulatedTapeFilesystem", mount: _Mount) -> None:
        self._filesystem = filesystem
        self._mount = mount
        self._turn = DeferredLock()

    async def _begin(self, operation: str, size_bytes: int = 0, *, spans: Spans | None = None) -> None:
        """
        Wait for the turn, let the time go by that it takes, and fail if so ordered. The caller releases the turn.

        :param spans: tells which bytes of the cartridge it passes over
        """
        await self._turn.acquire()
        try:
            await self._filesystem.demand_tenure(operation)
            if spans is not None:
                self._filesystem.passes_over(spans())
            await self._filesystem.take_time(operation, size_bytes)
            if not self._mount.is_alive:
                raise VolumeGone("the file system is dead")
        except BaseException:
            self._turn.release()
            raise

    def _demand_writable(self, path: str, operation: str) -> None:
        if self._mount.is_read_only:
            raise MediumFault(path, operation, READ_ONLY_FILE_SYSTEM, "Read-only file system")

    def _file(self, path: str) -> _File:
        if not _is_inside(path):
            raise ValueError(f"not a path within a volume: {path!r}")
        try:
            return self._mount.tree.files[path]
        except KeyError:
            raise NoSuchFileOnVolume(path) from None

    def _within(self, path: str, *parts: tuple[int, int]) -> Sequence[Span]:
        """Where parts of a file, by offset and length, lie on the cartridge."""
        file = self._mount.tree.files.get(path)
        if file is None or file.start_block is None:
            return ()
        begin = (file.start_block - FIRST_BLOCK) * RECORD_BYTES
        return [(begin + offset_bytes, length_bytes) for offset_bytes, length_bytes in parts]

    def _behind(self, size_bytes: int) -> Sequence[Span]:
        """Where the next bytes that are written will lie."""
        return [(self._mount.medium.written_bytes, size_bytes)]

    def _save(self, path: str, file: _File) -> None:
        tree = self._mount.tree
        parts = path.split("/")
        folders = {"/".join(parts[:depth]) for depth in range(1, len(parts))}
        self._mount.tree = _Tree(files={**tree.files, path: file}, folders=tree.folders | folders)

    def _piece(self, ordinal: int, piece: Piece) -> bytes:
        match piece:
            case Literal():
                return piece.content
            case FileRange():
                try:
                    content = self._filesystem.read_disk(piece.path, piece.offset_bytes, piece.length_bytes)
                except OSError as error:
                    raise StagedBytesDamaged(ordinal, piece.path, str(error.strerror)) from error
                if len(content) < piece.length_bytes:
                    raise StagedBytesDamaged(ordinal, piece.path, "ends too early")
                if crc64nvme(content) != piece.crc64nvme:
                    raise StagedBytesDamaged(ordinal, piece.path, "another checksum")
                return content

            case Woven():
                return self._woven(ordinal, piece)

    def _woven(self, ordinal: int, piece: Woven) -> bytes:
        try:
            own = self._filesystem.read_disk(piece.path, 0, piece.size_bytes)
        except OSError as error:
            raise DestinationFault(piece.path, error.errno or 0, str(error.strerror)) from error
        if len(own) != piece.size_bytes or crc64nvme(own) != piece.crc64nvme:
            raise DestinationFault(piece.path, errno.EIO, "what was made ready for the transfer has changed")
        content = bytearray()
        at = 0
        for length_bytes, found in zip(piece.own_lengths, piece.ranges(), strict=True):
            content += own[at : at + length_bytes] + self._piece(ordinal, found)
            at += length_bytes
        return bytes(content + own[at:])

    def _store(self, path: str, content: bytes, attributes: Mapping[str, bytes]) -> None:
        medium = self._mount.medium
        block = medium.written_bytes // RECORD_BYTES + FIRST_BLOCK
        room = medium.capacity_bytes - medium.written_bytes
        kept = content[:room]
        medium.written_bytes += -(-len(kept) // RECORD_BYTES) * RECORD_BYTES
        medium.written_bytes = min(medium.written_bytes, medium.capacity_bytes)
        self._save(path, _File(content=kept, attributes=attributes, start_block=block if kept else None))
        if len(kept) < len(content):
            raise EndOfTape(path, len(kept))

    @returns_deferred
    async def write(
        self,
        *,
        path: str,
        pieces: Iterable[Piece],
        attributes: Mapping[str, bytes],
        on_progress: Callable[[int], None],
        replace_stump: bool = False,
    ) -> Written:
        """See ``IMover``."""
        if not _is_inside(path):
            raise ValueError(f"not a path within a volume: {path!r}")
        for name in attributes:
            _check_attribute(name)
        planned = list(pieces)
        size = sum(map(_size_of, planned))
        try:
            await self._begin("write", size, spans=lambda: self._behind(size))
        except CutShort as cut:
            if self._mount.is_alive and not self._mount.is_read_only and path not in self._mount.tree.files:
                taken = b"".join(self._piece(ordinal, piece) for ordinal, piece in enumerate(planned))
                self._store(path, taken[: cut.written_bytes], {})
            raise
        try:
            self._demand_writable(path, "create")
            if path in self._mount.tree.files and not replace_stump:
                raise FileExistsOnVolume(path)
            content = bytearray()
            try:
                for ordinal, piece in enumerate(planned):
                    content += self._piece(ordinal, piece)
            except StagedBytesDamaged:
                self._store(path, bytes(content), {})
                raise
            on_progress(len(content))
            digest = hashlib.sha256(content).hexdigest()
            on_tape = self._filesystem.on_tape(path, bytes(content))
            self._store(path, on_tape, {**attributes, SHA256_ATTRIBUTE: digest.encode()})
            return Written(size_bytes=size, sha256=digest, seconds=self._filesystem.seconds_of("write", size))
        finally:
            self._turn.release()

    @returns_deferred
    async def verify(
        self, *, path: str, size_bytes: int, sha256: str, on_progress: Callable[[int], None]
    ) -> Compared:
        """See ``IMover``."""
        await self._begin("verify", size_bytes, spans=lambda: self._within(path, (0, size_bytes)))
        try:
            content = self._file(path).content
            self._filesystem.file_fault(path, "read")
            on_progress(len(content))
            digest = hashlib.sha256(content).hexdigest()
            return Compared(
                is_identical=len(content) == size_bytes and digest == sha256,
                size_bytes=len(content),
                sha256=digest,
                seconds=self._filesystem.seconds_of("verify", size_bytes),
            )
        finally:
            self._turn.release()

    @returns_deferred
    async def read(
        self,
        *,
        path: str,
        ranges: Sequence[ReadRange],
        on_range_done: Callable[[RangeRead], None],
        block_bytes: int = BLOCK_BYTES,
    ) -> Sequence[RangeRead]:
        """See ``IMover``."""
        parts = sorted((each.offset_bytes, each.length_bytes) for each in ranges)
        size_bytes = sum(length_bytes for _, length_bytes in parts)
        await self._begin("read", size_bytes, spans=lambda: self._within(path, *parts))
        try:
            content = self._file(path).content
            self._filesystem.file_fault(path, "read")
            outcomes: dict[int, RangeRead] = {}
            for ordinal, each in sorted(enumerate(ranges), key=lambda pair: (pair[1].offset_bytes, pair[0])):
                outcomes[ordinal] = self._read_range(ordinal, each, content, block_bytes)
                on_range_done(outcomes[ordinal])
            return tuple(outcomes[ordinal] for ordinal in range(len(ranges)))
        finally:
            self._turn.release()

    def _read_range(self, ordinal: int, each: ReadRange, content: bytes, block_bytes: int) -> RangeRead:
        chunk = content[each.offset_bytes : each.offset_bytes + each.length_bytes]
        try:
            self._filesystem.write_disk(each.destination, each.destination_offset_bytes, chunk)
        except OSError as error:
            raise DestinationFault(each.destination, error.errno or 0, error.strerror or "") from error
        detail = ""
        if len(chunk) < each.length_bytes:
            detail = f"the file ends at byte {len(content)}"
        elif crc64nvme(chunk) != each.crc64nvme:
            detail = "another checksum"
        if detail:
            return RangeRead(ordinal=ordinal, state=RangeState.DAMAGED, block_crcs=(), detail=detail)
        blocks = tuple(
            crc64nvme(chunk[start : start + block_bytes]) for start in range(0, len(chunk), block_bytes)
        )
        return RangeRead(ordinal=ordinal, state=RangeState.DELIVERED, block_crcs=blocks, detail="")

    @returns_deferred
    async def put_file(self, *, path: str, content: bytes) -> None:
        """See ``IMover``."""
        if not _is_inside(path):
            raise ValueError(f"not a path within a volume: {path!r}")
        await self._begin("write", len(content), spans=lambda: self._behind(len(content)))
        try:
            self._demand_writable(path, "create")
            self._store(path, content, {})
        finally:
            self._turn.release()

    @returns_deferred
    async def get_file(self, *, path: str, limit_bytes: int) -> bytes:
        """See ``IMover``."""
        await self._begin("read", spans=lambda: self._within(path, (0, 0)))
        try:
            content = self._file(path).content
        finally:
            self._turn.release()
        if len(content) > limit_bytes:
            raise FileTooLarge(f"{path} has {len(content)} bytes")
        return content

    @returns_deferred
    async def list(self, *, path: str) -> Sequence[Listed]:
        """See ``IMover``."""
        await self._begin("list")
        self._turn.release()
        tree = self._mount.tree
        if path and path not in tree.folders:
            raise NoSuchFileOnVolume(path)
        prefix = f"{path}/" if path else ""

        def is_here(name: str) -> bool:
            return name.startswith(prefix) and "/" not in name[len(prefix) :]

        found = [
            Listed(name=name[len(prefix) :], is_directory=False, size_bytes=len(file.content))
            for name, file in tree.files.items()
            if is_here(name)
        ]
        found += [
            Listed(name=name[len(prefix) :], is_directory=True, size_bytes=0)
            for name in tree.folders
            if is_here(name)
        ]
        return tuple(sorted(found, key=lambda each: each.name))

    @returns_deferred
    async def unlink(self, *, path: str) -> None:
        """See ``IMover``."""
        await self._begin("unlink")
        self._turn.release()
        self._demand_writable(path, "unlink")
        tree = self._mount.tree
        if path in tree.files:
            files = {name: file for name, file in tree.files.items() if name != path}
            self._mount.tree = replace(tree, files=files)

    @returns_deferred
    async def get_attributes(self, *, path: str, names: Sequence[str]) -> Mapping[str, bytes]:
        """See ``IMover``."""
        for name in names:
            _check_attribute(name)
        if not _is_inside(path):
            raise ValueError(f"not a path within a volume: {path!r}")
        await self._begin("attributes")
        self._turn.release()
        carried = self._file(path).attributes
        return {name: carried[name] for name in names if name in carried}

    @returns_deferred
    async def space(self) -> VolumeSpace:
        """See ``IMover``."""
        await self._begin("space")
        self._turn.release()
        medium = self._mount.medium
        return VolumeSpace(
            total_bytes=medium.capacity_bytes, free_bytes=medium.capacity_bytes - medium.written_bytes
        )

    @returns_deferred
    async def close(self) -> None:
        """See ``IMover``."""
        return


@implementer(IMountedVolume)
class SimulatedVolume:
    """A mounted volume in memory."""

    form = VolumeForm.LTFS

    def __init__(self, filesystem: "SimulatedTapeFilesystem", mount: _Mount) -> None:
        self._filesystem = filesystem
        self._mount = mount
        self._verdict: UnmountVerdict | None = None
        self.barcode = mount.barcode
        self.volume_uuid = mount.medium.volume_uuid or ""
        self.volume_name = mount.medium.volume_name
        self.read_only = mount.read_only
        self.is_read_only = mount.is_read_only
        self.generation = mount.medium.generation
        self.mover: IMover = SimulatedMover(filesystem, mount)

    def is_alive(self) -> bool:
        """See ``IMountedVolume``."""
        return self._mount.is_alive

    @returns_deferred
    async def sync(self, message: str, *, new_files: Sequence[str] = ()) -> SyncedIndex:
        """See ``IMountedVolume``."""
        await self._filesystem.demand_tenure("sync")
        await self._filesystem.take_time("sync", 0)
        if not self._mount.is_alive:
            raise VolumeGone("the file system is dead")
        if self._mount.is_read_only:
            raise SyncFailed(f"{self.barcode}: the volume is read-only")
        self._mount.save()
        files = self._mount.tree.files
        blocks = {
            path: StartBlock(partition="b", block=block)
            for path in new_files
            if path in files and (block := files[path].start_block) is not None
        }
        if missing := [path for path in new_files if path not in blocks]:
            raise SyncFailed(f"{self.barcode}: no start block: {missing}")
        self.generation = self._mount.medium.generation
        end = self._mount.medium.written_bytes // RECORD_BYTES + FIRST_BLOCK
        return SyncedIndex(
            generation=self.generation,
            location=StartBlock(partition="b", block=end),
            start_blocks=blocks,
        )

    def space(self) -> "Deferred[VolumeSpace]":
        """See ``IMountedVolume``."""
        return self.mover.space()

    @returns_deferred
    async def unmount(self) -> UnmountVerdict:
        """See ``IMountedVolume``."""
        if self._verdict is None:
            self._verdict = await self._filesystem.unmount(self._mount)
        return self._verdict


@implementer(ITapeFilesystem)
class SimulatedTapeFilesystem:
    """
    The file system of one simulated drive.

    :param loaded: tells the barcode of the cartridge in the drive, or None.
    :param seconds: how long operations take, by name: ``format``, ``check``, ``mount``, ``unmount``, ``sync``; others take no time.
    :param bytes_per_second: the speed of ``write``, ``verify`` and ``read``; None: they take no time.
    :param tenure: whose drive it is; None: nobody takes over.
    :ivar faults: by operation, what its next calls fail with, one each (``None`` lets one pass).
    """

    def __init__(
        self,
        *,
        tapes: SimulatedTapes,
        drive: int,
        clock: IReactorTime,
        loaded: Callable[[], str | None],
        seconds: Mapping[str, float] | None = None,
        bytes_per_second: float | None = None,
        read_disk: ReadDisk = read_file,
        write_disk: WriteDisk = write_file,
        tenure: "ITenure | None" = None,
    ) -> None:
        self._tapes = tapes
        self._tenure = tenure or SimulatedTenure()
        self._drive = drive
        self._clock = clock
        self.loaded = loaded
        self._seconds = dict(seconds or {})
        self._bytes_per_second = bytes_per_second
        self._turn = DeferredLock()
        self.read_disk = read_disk
        self.write_disk = write_disk
        self.faults: dict[str, deque[Exception | None]] = {}

    def seconds_of(self, operation: str, size_bytes: int) -> float:
        """How long an operation takes."""
        moving = size_bytes / self._bytes_per_second if self._bytes_per_second else 0.0
        return self._seconds.get(operation, 0.0) + moving

    def passes_over(self, spans: Sequence[Span]) -> None:
        """Called before an operation takes its time: these bytes of the cartridge it reads or writes, one span after the other."""

    def file_fault(self, path: str, operation: str) -> None:
        """
        Called before a file is read.

        :raise MediumFault: where a kind of this file system has something wrong with it
        """

    def on_tape(self, path: str, content: bytes) -> bytes:
        """Return what a file that is written becomes on tape: itself, where nothing is wrong."""
        return content

    async def demand_tenure(self, operation: str) -> None:
        """See that nobody has taken over, before an operation that moves the tape."""
        if operation not in QUIET:
            await self._tenure.confirm()

    async def take_time(self, operation: str, size_bytes: int) -> None:
        """
        Let the operation's time go by.

        :raise Exception: what was ordered for this call.
        """
        seconds = self.seconds_of(operation, size_bytes)
        if seconds:
            await deferLater(self._clock, seconds)
        ordered = self.faults.get(operation)
        if ordered and (fault := ordered.popleft()) is not None:
            raise fault

    def _medium(self) -> SimulatedMedium:
        if self._drive in self._tapes.mounts:
            raise DriveBusy("a volume is mounted")
        barcode = self.loaded()
        if barcode is None:
            raise NoMedium("no cartridge is loaded")
        return self._tapes.medium(barcode)

    @returns_deferred
    async def format(self, *, barcode: str, volume_name: str) -> FormattedVolume:
        """See ``ITapeFilesystem``."""
        serial = barcode[:6]
        if len(serial) != 6 or not (serial.isascii() and serial.isalnum() and serial.upper() == serial):
            raise ValueError(f"no volume serial can be made from barcode {barcode!r}")
        if not volume_name or "/" in volume_name:
            raise ValueError(f"not a volume name: {volume_name!r}")
        await self._turn.acquire()
        try:
            medium = self._medium()
            await self.demand_tenure("format")
            await self.take_time("format", 0)
            if medium.volume_uuid is not None or medium.is_foreign:
                raise AlreadyFormatted("the cartridge is not blank")
            if medium.is_protected:
                raise WriteProtected("mkltfs: the cartridge is write protected")
            medium.volume_uuid, medium.volume_name = self._tapes.new_uuid(), volume_name
            medium.generation, medium.tree, medium.written_bytes = 1, _Tree(), 0
            self._tapes.ended.pop(self._drive, None)
            return FormattedVolume(barcode=barcode, volume_uuid=medium.volume_uuid, volume_name=volume_name)
        finally:
            self._turn.release()

    @returns_deferred
    async def check(self) -> CheckVerdict:
        """See ``ITapeFilesystem``."""
        await self._turn.acquire()
        try:
            medium = self._medium()
            await self.demand_tenure("check")
            await self.take_time("check", 0)
            if medium.volume_uuid is None:
                return CheckVerdict(
                    is_consistent=False,
                    was_repaired=False,
                    finding="there is no volume",
                    exit_status=4,
                    log_tail=(),
                )
            was_repaired, medium.needs_check = medium.needs_check, False
            if was_repaired:
                medium.generation += 1
            self._tapes.ended.pop(self._drive, None)
            return CheckVerdict(
                is_consistent=True, was_repaired=was_repaired, finding="", exit_status=1, log_tail=()
            )
        finally:
            self._turn.release()

    @returns_deferred
    async def mount(
        self, *, barcode: str, volume_uuid: str | None, read_only: bool = False
    ) -> IMountedVolume:
        """See ``ITapeFilesystem``."""
        await self._turn.acquire()
        try:
            medium = self._medium()
            await self.demand_tenure("mount")
            await self.take_time("mount", 0)
            self._tapes.ended.pop(self._drive, None)
            if medium.volume_uuid is None:
                raise NotFormatted("ltfs: there is no LTFS volume")
            if medium.needs_check:
                raise NeedsCheck("ltfs: the volume was not closed cleanly")
            if medium.barcode[:6] != barcode[:6] or volume_uuid not in (None, medium.volume_uuid):
                raise WrongVolume(
                    f"expected {barcode}, found {medium.barcode}",
                    found_label=medium.barcode[:6],
                    found_uuid=medium.volume_uuid,
                )
            why = medium.read_only or (ReadOnly.PROTECTED if medium.is_protected else None)
            mount = _Mount(medium, barcode, read_only=ReadOnly.ASKED if read_only else why)
            self._tapes.mounts[self._drive] = mount
            return SimulatedVolume(self, mount)
        finally:
            self._turn.release()

    @returns_deferred
    async def adopt(self) -> "IMountedVolume | EndedMount | None":
        """See ``ITapeFilesystem``."""
        await self._turn.acquire()
        try:
            await self.take_time("adopt", 0)
            mount = self._tapes.mounts.get(self._drive)
            return SimulatedVolume(self, mount) if mount else self._tapes.ended.get(self._drive)
        finally:
            self._turn.release()

    @returns_deferred
    async def settle(self) -> None:
        """See ``ITapeFilesystem``."""
        self._tapes.ended.pop(self._drive, None)

    async def unmount(self, mount: _Mount) -> UnmountVerdict:
        """End a mount; for ``SimulatedVolume``."""
        await self._turn.acquire()
        try:
            if self._tapes.mounts.get(self._drive) is mount:
                await self.demand_tenure("unmount")
                await self.take_time("unmount", 0)
            if self._tapes.mounts.get(self._drive) is mount:
                if mount.medium.loses_index:
                    mount.medium.needs_check = mount.is_dirty
                    self._tapes.end(
                        self._drive,
                        replace(
                            _verdict("the index was not written"),
                            exit_status=0,
                            signal=None,
                            was_cut_off=False,
                        ),
                    )
                else:
                    mount.save()
                    why = ReadOnly.FULL.value if mount.medium.is_index_partition_full else ""
                    self._tapes.end(self._drive, replace(_verdict(), full_because=why))
            return self._tapes.ended[self._drive].verdict
        finally:
            self._turn.release()
