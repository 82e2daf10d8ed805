"""
The non-rewinding node of a drive as a tape: what the kernel's ``st`` driver does with blocks and file marks, in variable block mode.

A device file of the virtual library is a plain file, so ``ioctl`` has nothing to act on; whoever reads and writes tapes does it by this class. Its methods
and errors are those of the real driver (st(4), Documentation/scsi/st.rst), as recorded from it: early warning is told once before each write near the
end of the tape, the end of data behind a file mark reads once as an empty file, and a locate makes the driver lose count of file marks.
The position is recorded in the library at every movement, so ``mt`` stands where the tape stands.
"""

import errno
import os
from contextlib import ExitStack
from dataclasses import dataclass

from coldstore.vtl.devices import tape_node
from coldstore.vtl.faults import Faults, Moment
from coldstore.vtl.latency import charge
from coldstore.vtl.library import library_of_node
from coldstore.vtl.medium import Cartridge
from coldstore.vtl.track import FILEMARK, Track

EARLY_WARNING_PART = 50
"""The last fiftieth of the capacity lies behind early warning."""


def _failed(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@dataclass(frozen=True, slots=True, kw_only=True)
class TapeStatus:
    """What the driver says without moving the tape; ``file_number`` is None when it lost count."""

    is_online: bool
    is_write_protected: bool
    is_at_end_of_data: bool
    file_number: int | None


class VirtualTape:
    """
    An open drive of a virtual library.

    :param path: the drive's ``nst`` node.
    :raise OSError: EBUSY when another process has it open, ENODEV when it is no drive of a virtual library.
    """

    def __init__(self, path: str) -> None:
        library = library_of_node(path)
        drive = library.drive_of_node(path) if library is not None else None
        if library is None or drive is None or os.path.basename(os.path.realpath(path)) != drive.nst:
            raise _failed(errno.ENODEV)
        self._library = library
        self._number = drive.number
        self._latency = library.latency()
        self._faults = Faults(library.directory)
        self._node = ExitStack()
        self._node.enter_context(tape_node(library, drive, path))
        self._cartridge: Cartridge | None = None
        self._track: Track | None = None
        self._position = drive.logical
        self._is_counted = drive.file >= 0
        self._is_at_end_of_data = False
        self._is_behind_mark = False
        self._is_warned = False
        if drive.state == "ready" and drive.barcode is not None:
            cartridge = Cartridge(library.cartridge_directory(drive.barcode))
            if not cartridge.memory.cleaning:
                self._cartridge, self._track = cartridge, cartridge.seen_track()

    # --- Asking

    def status(self) -> TapeStatus:
        """Ask the driver; the tape does not move."""
        cartridge, track = self._cartridge, self._track
        return TapeStatus(
            is_online=track is not None,
            is_write_protected=cartridge is not None and cartridge.memory.write_protected,
            is_at_end_of_data=self._is_at_end_of_data,
            file_number=self._file_number() if track is not None and self._is_counted else None,
        )

    def unfitness(self) -> str:
        """Why file marks of this drive prove nothing: they do."""
        return ""

    def room(self) -> tuple[int, int] | None:
        """What the cartridge holds and how much of that is free, in bytes."""
        track, cartridge = self._loaded(), self._cartridge
        assert cartridge is not None
        capacity = cartridge.memory.capacity_bytes
        return capacity, max(0, capacity - track.used_bytes(track.end))

    def position(self) -> int:
        """The number of the block or file mark that is next."""
        self._loaded()
        return self._position

    def _loaded(self) -> Track:
        if self._track is None:
            raise _failed(errno.ENOMEDIUM)
        return self._track

    def _file_number(self) -> int:
        return sum(mark < self._position for mark in self._loaded().filemarks())

    # --- Blocks and file marks

    def read(self, buffer: memoryview) -> int:
        """Read the next block; 0 at a file mark, and once at the end of data behind one."""
        track = self._loaded()
        self._meet("read")
        if self._position >= track.end:
            was_behind_mark, self._is_behind_mark = self._is_behind_mark, False
            self._is_at_end_of_data = self._is_at_end_of_data or was_behind_mark
            if was_behind_mark:
                return 0
            raise _failed(errno.EIO)
        size = track.sizes[self._position]
        self._position += 1
        self._is_behind_mark = size == FILEMARK
        if size == FILEMARK:
            return 0
        block = track.read(self._position - 1)
        if len(block) > len(buffer):
            raise _failed(errno.ENOMEM)
        buffer[: len(block)] = block
        charge(self._latency.stream_seconds(len(block)))
        return len(block)

    def write(self, block: memoryview) -> None:
        """Write one block; near the end of the tape every second write is refused with ENOSPC."""
        cartridge, track = self._writable()
        if self._is_warned:
            self._is_warned = False
            raise _failed(errno.ENOSPC)
        self._meet("write")
        capacity = cartridge.memory.capacity_bytes
        used = track.used_bytes(self._position) + len(block)
        if used > capacity:
            self._is_warned = True
            raise _failed(errno.ENOSPC)
        track = self._cut()
        track.append(block)
        self._position += 1
        self._moved_by_writing()
        self._is_warned = used > capacity - capacity // EARLY_WARNING_PART
        charge(self._latency.stream_seconds(len(block)))

    def write_filemarks(self, count: int) -> None:
        """Write file marks and wait until they and all before them are on the medium. 0 only waits."""
        self._writable()
        self._meet("sync")
        if count:
            track = self._cut()
            for _ in range(count):
                track.append_filemark()
            self._position += count
        self._loaded().flush()
        self._moved_by_writing()
        self._is_warned = False
        self._record()

    def _writable(self) -> tuple[Cartridge, Track]:
        track = self._loaded()
        assert self._cartridge is not None
        if self._cartridge.memory.write_protected:
            raise _failed(errno.EACCES)
        return self._cartridge, track

    def _cut(self) -> Track:
        """The track, with nothing behind the position."""
        assert self._cartridge is not None
        track = self._loaded()
        if self._cartridge.memory.content != "foreign":
            track.close()
            track = self._track = self._cartridge.raw_track(0, self._position)
        track.cut(self._position)
        return track

    def _moved_by_writing(self) -> None:
        self._is_at_end_of_data = self._is_behind_mark = False

    # --- Moving

    def rewind(self) -> None:
        """Move to the beginning."""
        self._loaded()
        self._meet("locate")
        if self._position:
            charge(self._latency.seconds("rewind"))
        self._is_counted = True
        self._stand(0)

    def locate(self, block: int) -> None:
        """Move to a block or file mark by its number; the driver loses count of file marks."""
        end = self._loaded().end
        self._meet("locate")
        self._is_counted = block == 0
        self._stand(min(block, end))
        if block > end:
            raise _failed(errno.EIO)

    def to_end(self) -> None:
        """Move to the end of data."""
        end = self._loaded().end
        self._meet("locate")
        self._stand(end)
        self._is_at_end_of_data = True

    def space_files(self, count: int) -> None:
        """Move over file marks, backwards if negative: then to the side of the beginning of the last one."""
        track = self._loaded()
        self._meet("locate")
        marks = track.filemarks()
        if count >= 0:
            ahead = [mark for mark in marks if mark >= self._position]
            if len(ahead) < count:
                self._stand(track.end)
                self._is_at_end_of_data = True
                raise _failed(errno.EIO)
            if count:
                self._stand(ahead[count - 1] + 1)
                self._is_behind_mark = True
            return
        behind = [mark for mark in marks if mark < self._position]
        if len(behind) < -count:
            self._stand(0)
            raise _failed(errno.EIO)
        self._stand(behind[count])

    def space_blocks(self, count: int) -> None:
        """Move over blocks, backwards if negative. EIO at a file mark, which is passed, and at the end of data."""
        track = self._loaded()
        self._meet("locate")
        step = 1 if count >= 0 else -1
        for _ in range(abs(count)):
            at = self._position if step > 0 else self._position - 1
            if not 0 <= at < track.end:
                self._is_at_end_of_data = at >= track.end
                raise _failed(errno.EIO)
            self._stand(self._position + step)
            if track.sizes[at] == FILEMARK:
                raise _failed(errno.EIO)

    def _stand(self, position: int) -> None:
        charge(self._latency.locate_seconds(position - self._position, self._loaded().end))
        self._position = position
        self._is_at_end_of_data = self._is_behind_mark = self._is_warned = False
        self._record()

    def _record(self) -> None:
        """Tell ``mt`` where the tape stands."""
        file = self._file_number() if self._is_counted else -1
        marks = [mark for mark in self._loaded().filemarks() if mark < self._position]
        with self._library.changing() as elements:
            drive = elements.drives[self._number]
            drive.logical, drive.partition, drive.file = self._position, 0, file
            drive.block = self._position - (marks[-1] + 1 if marks else 0) if self._is_counted else -1

    def _meet(self, at: str) -> None:
        """Meet a fault of the drive, if one is armed for this moment."""
        barcode = None if self._cartridge is None else self._cartridge.barcode
        fault = self._faults.take(Moment(program="st", at=at, barcode=barcode, drive=self._number))
        if fault is None or self._faults.endure(fault):
            return
        if fault.name == "enospc":
            # From here on the tape is at its end, as early warning tells it.
            self._is_warned = False
            raise _failed(errno.ENOSPC)
        raise _failed(errno.EIO)

    def close(self) -> None:
        """Let go of the drive; the tape stays where it is."""
        if self._track is not None:
            self._record()
            self._track.close()
            self._track = None
        self._node.close()
