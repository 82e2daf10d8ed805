"""
A cartridge: two partition files addressed in blocks, or a track of blocks and file marks, and the cartridge memory.

Block N of a partition lies at byte N x 524288 of its file. As LTFS format specification 2.4 has it, each partition begins with a volume
label, a filemark, the LTFS label, a filemark; then a filemark, an index and a filemark follow, and from there data and indexes append.
A filemark takes one block number. The length of the file is the end of data: what was appended after the last index makes it longer than
the index's end, which is how an unclean volume is known.
``a.marks`` and ``b.marks`` list the indexes (generation, block, length, CRC) as a drive finds them by their filemarks.
"""

import ctypes
import json
import os
import zlib
from array import array
from dataclasses import asdict, dataclass, field
from typing import Any

from coldstore.vtl.records import read_json, write_json
from coldstore.vtl.track import FILEMARK, Track

BLOCK_BYTES = 524288
"""Size of a block address (LTFS default block size)."""

LOST_BLOCK = b"LTFS"
"""What is kept of a block of an LTFS volume on which something else was written: it is worth nothing any more."""

VOLUME_LABEL_BYTES = 80
"""LTFS Format Specification: an ANSI VOL1 label."""

FIRST_INDEX_BLOCK = 5
"""Labels and their filemarks take blocks 0 to 4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where the filemarks of a partition are, and its end of data, in logical objects."""

    filemarks: tuple[int, ...]
    end: int


@dataclass(slots=True, kw_only=True)
class Memory:
    """
    The cartridge memory, and what a look at the medium shows.

    ``content`` is blank, foreign, ltfs or destroyed. ``volume`` is the LTFS label. ``coherency`` gives the generation and block of the last
    index per partition; ``eod_missing`` tells that the power failed while b was written. ``lock_state`` is volumeLockState (0x60 write error on
    b, 0xE0 on both). ``files_form`` tells that the volume was formatted for the plain directory fallback, and ``end`` how many blocks its
    files take.
    """

    barcode: str
    capacity_bytes: int
    cleaning: bool = False
    write_protected: bool = False
    content: str = "blank"
    partitioned: bool = False
    loads: int = 0
    lock_state: int = 0
    alerts: int = 0
    volume: dict[str, Any] | None = None
    coherency: dict[str, list[int]] = field(default_factory=dict)
    eod_missing: bool = False
    files_form: bool = False
    mounted_at: str | None = None
    bytes_written: int = 0
    bytes_read: int = 0
    end: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One index on a partition: its generation, first block, length in bytes, and CRC-32."""

    generation: int
    block: int
    length: int
    crc: int

    @property
    def end_block(self) -> int:
        """Return the block after the index's closing filemark."""
        return self.block + blocks_of(self.length) + 1


WRITTEN_TOGETHER_BYTES = 8 * 1024 * 1024

_sync_file_range = ctypes.CDLL(None, use_errno=True).sync_file_range
_sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
_sync_file_range.restype = ctypes.c_int
_WRITE = 2
"""sync_file_range(2): SYNC_FILE_RANGE_WRITE."""


def blocks_of(size_bytes: int) -> int:
    """Return how many block addresses so many bytes take."""
    return -(-size_bytes // BLOCK_BYTES)


class Partition:
    """One partition's file and marks."""

    def __init__(self, directory: str, letter: str, *, capacity_bytes: int, writable: bool) -> None:
        """Open the partition's files; they must exist."""
        self.letter = letter
        self.capacity_blocks = capacity_bytes // BLOCK_BYTES
        self._begun_to = self._written_to = 0
        self._marks_path = os.path.join(directory, f"{letter}.marks")
        self.descriptor = os.open(
            os.path.join(directory, f"{letter}.data"), (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC
        )

    def written(self, begin: int, count: int) -> None:
        """
        Have the disk begin with what was written, as a drive does with what it was given: the next index has less to wait for. What goes
        wrong here ``append_index`` meets.
        """
        if begin != self._written_to:
            self._begun_to = begin
        self._written_to = begin + count
        length = self._written_to - self._begun_to
        if length >= WRITTEN_TOGETHER_BYTES:
            _sync_file_range(self.descriptor, self._begun_to, length, _WRITE)
            self._begun_to = self._written_to

    def close(self) -> None:
        """Close the data file."""
        os.close(self.descriptor)

    @property
    def end_block(self) -> int:
        """Return the end of data: the block where the next one would be appended."""
        return blocks_of(os.fstat(self.descriptor).st_size)

    def marks(self) -> list[Mark]:
        """Return the indexes in the order written; a torn last line is no mark."""
        found = []
        with open(self._marks_path, encoding="utf-8") as stream:
            for line in stream:
                if line.endswith("\n"):
                    found.append(Mark(**json.loads(line)))
        return found

    def read_index(self, mark: Mark) -> bytes | None:
        """Return an index's bytes, or None when the medium has damaged them."""
        payload = os.pread(self.descriptor, mark.length, mark.block * BLOCK_BYTES)
        return payload if len(payload) == mark.length and zlib.crc32(payload) == mark.crc else None

    def append_index(self, payload: bytes, generation: int) -> Mark:
        """
        Write a filemark, the index and a filemark at the end of data, and put them on the disk.

        :raise OSError: ENOSPC when the partition has no room for it.
        """
        block = self.end_block + 1
        mark = Mark(generation=generation, block=block, length=len(payload), crc=zlib.crc32(payload))
        if mark.end_block > self.capacity_blocks:
            raise OSError(28, "No space left on device")
        written = 0
        while written < len(payload):
            written += os.pwrite(
                self.descriptor, memoryview(payload)[written:], block * BLOCK_BYTES + written
            )
        os.ftruncate(self.descriptor, mark.end_block * BLOCK_BYTES)
        os.fdatasync(self.descriptor)
        with open(self._marks_path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(mark)) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        return mark

    def cut(self, block: int) -> None:
        """Forget everything from a block on, as writing there does: what lay behind it cannot be reached any more."""
        kept = [mark for mark in self.marks() if mark.end_block <= block]
        beside = f"{self._marks_path}.new"
        with open(beside, "w", encoding="utf-8") as stream:
            stream.writelines(json.dumps(asdict(mark)) + "\n" for mark in kept)
        os.rename(beside, self._marks_path)
        os.ftruncate(self.descriptor, block * BLOCK_BYTES)

    def layout(self) -> Layout:
        """Return the filemarks: of the labels and round each index."""
        marks = [1, 3]
        for mark in self.marks():
            marks += [mark.block - 1, mark.end_block - 1]
        return Layout(filemarks=tuple(marks), end=self.end_block)


class Cartridge:
    """One cartridge's directory."""

    def __init__(self, directory: str) -> None:
        """Read the cartridge memory. Raises ``OSError`` when there is no such cartridge."""
        self.directory = directory
        recorded = read_json(os.path.join(directory, "cartridge.json"))
        # A cartridge may have been made by an earlier release.
        known = Memory.__dataclass_fields__
        self.memory = Memory(**{name: value for name, value in recorded.items() if name in known})

    def remember(self) -> None:
        """Write the cartridge memory."""
        write_json(os.path.join(self.directory, "cartridge.json"), asdict(self.memory))

    @property
    def barcode(self) -> str:
        """The label on its shell."""
        return self.memory.barcode

    @property
    def index_partition_bytes(self) -> int:
        """Capacity of partition a: a twentieth, at least 8 MiB."""
        return max(8 * 1024**2, self.memory.capacity_bytes // 20) // BLOCK_BYTES * BLOCK_BYTES

    @property
    def data_partition_bytes(self) -> int:
        """Capacity of partition b, the reserve included."""
        return max(0, self.memory.capacity_bytes - self.index_partition_bytes) // BLOCK_BYTES * BLOCK_BYTES

    @property
    def reserve_bytes(self) -> int:
        """What is kept for indexes at the end of b: half of the index partition, at most 65 535 MiB."""
        return min(self.index_partition_bytes // 2, 65535 * 1024**2) // BLOCK_BYTES * BLOCK_BYTES

    def partition(self, letter: str, *, writable: bool = True) -> Partition:
        """Open partition ``a`` or ``b``."""
        capacity = self.index_partition_bytes if letter == "a" else self.data_partition_bytes
        return Partition(self.directory, letter, capacity_bytes=capacity, writable=writable)

    def data_path(self, letter: str) -> str:
        """Return the file behind a partition."""
        return os.path.join(self.directory, f"{letter}.data")

    def clear(self) -> None:
        """Make both partitions empty."""
        for letter in "ab":
            for name in (f"{letter}.data", f"{letter}.marks"):
                with open(os.path.join(self.directory, name), "wb"):
                    pass
        track = Track(self.directory)
        track.cut(0)
        track.close()

    def write_labels(self, serial: str, label: dict[str, Any]) -> None:
        """Write the volume label and the LTFS label at the start of both partitions."""
        for letter in "ab":
            partition = self.partition(letter)
            volume_label = f"VOL1{serial:<6}L{'':13}LTFS{'':10}{'':14}{'':28}4".encode().ljust(80)[:80]
            os.pwrite(partition.descriptor, volume_label, 0)
            os.pwrite(partition.descriptor, json.dumps(label | {"this": letter}).encode(), 2 * BLOCK_BYTES)
            os.ftruncate(partition.descriptor, (FIRST_INDEX_BLOCK - 1) * BLOCK_BYTES)
            partition.close()

    def layout(self, number: int) -> Layout:
        """Return what ``mt`` meets on partition 0 or 1."""
        if self.memory.files_form:
            return Layout(filemarks=(), end=self.memory.end)
        if not self.is_ltfs:
            track = Track(self.directory)
            try:
                return Layout(filemarks=track.filemarks(), end=track.end)
            finally:
                track.close()
        partition = self.partition("ab"[number], writable=False)
        try:
            return partition.layout()
        finally:
            partition.close()

    def write_filemarks(self, number: int, logical: int, count: int) -> None:
        """Write filemarks over what is there: whatever lay behind is gone, and so is an LTFS volume."""
        track = self.raw_track(number, logical)
        for _ in range(count):
            track.append_filemark()
        track.close()

    @property
    def is_ltfs(self) -> bool:
        """Whether its partitions are those of an LTFS volume, in blocks."""
        return self.memory.content == "ltfs" and not self.memory.files_form

    def seen_track(self) -> Track:
        """What a drive reads from the beginning of partition 0, whatever it is."""
        if self.memory.content != "ltfs":
            return Track(self.directory)
        layout = Layout(filemarks=(1,), end=2) if self.memory.files_form else self.layout(0)
        sizes = array("I", [BLOCK_BYTES]) * layout.end
        sizes[0] = VOLUME_LABEL_BYTES
        for mark in layout.filemarks:
            sizes[mark] = FILEMARK
        return Track(self.directory, sizes=sizes, source=self.data_path("a"), source_block_bytes=BLOCK_BYTES)

    def raw_track(self, number: int, logical: int) -> Track:
        """The track, to be written from a position on: whatever lay behind is gone, and so is an LTFS volume."""
        kept: list[bytes | None] = []
        if self.is_ltfs:
            layout = self.layout(number)
            kept = [
                None if mark in layout.filemarks else LOST_BLOCK for mark in range(min(logical, layout.end))
            ]
        if self.memory.content != "foreign":
            self.memory.content, self.memory.volume = "foreign", None
            self.memory.partitioned = self.memory.files_form = False
            self.memory.end = 0
            self.remember()
        track = Track(self.directory)
        for block in kept:
            if block is None:
                track.append_filemark()
            else:
                track.append(block)
        track.cut(logical)
        return track


def new_cartridge(directory: str, barcode: str, *, capacity_bytes: int, cleaning: bool = False) -> Cartridge:
    """Make a blank cartridge."""
    os.makedirs(directory, exist_ok=True)
    memory = Memory(barcode=barcode, capacity_bytes=capacity_bytes, cleaning=cleaning)
    write_json(os.path.join(directory, "cartridge.json"), asdict(memory))
    cartridge = Cartridge(directory)
    cartridge.clear()
    return cartridge
