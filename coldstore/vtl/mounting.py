"""What ltfs, mkltfs and ltfsck do first: find the drive, open it exclusively, load the cartridge, read the volume."""

import errno
import os
import time
from dataclasses import dataclass

from coldstore.vtl.devices import displaced_marker, take_generic_node
from coldstore.vtl.index import Index, decode_index
from coldstore.vtl.library import Drive, Library, library_of_node
from coldstore.vtl.medium import Cartridge, Mark, Partition
from coldstore.vtl.messages import Reporter


class CannotOpen(Exception):
    """The drive cannot be opened; the messages are out."""


class NotReady(Exception):
    """No cartridge can be loaded; the messages are out."""


class NoVolume(Exception):
    """
    The medium holds no volume that can be read; the messages are out.

    ``checkable`` tells that ``ltfsck`` may help.
    """


@dataclass(slots=True)
class Station:
    """An opened drive, exclusively ours until the process ends."""

    library: Library
    drive: Drive
    descriptor: int

    def cartridge(self) -> Cartridge:
        """Return the loaded cartridge."""
        assert self.drive.barcode is not None
        return Cartridge(self.library.cartridge_directory(self.drive.barcode))

    def lock_cartridge(self, locked: bool) -> None:
        """Set or clear the drive's removal lock. A kill leaves it set, until the next program ends on this drive."""
        with self.library.changing() as elements:
            drive = elements.drives[self.drive.number]
            drive.locked = locked
            if not locked:
                drive.rewound()

    def eject(self, reporter: Reporter) -> None:
        """Unload the cartridge, as ``-o eject`` and ``-o release_device`` do."""
        reporter.say("12022I")
        with self.library.changing() as elements:
            drive = elements.drives[self.drive.number]
            drive.locked = False
            if drive.state == "ready":
                drive.state = "unloading"
                drive.until = time.time() + self.library.latency().seconds("unload")

    def close(self) -> None:
        """Give the drive back."""
        os.close(self.descriptor)


def open_station(device: str, directory: str | None, reporter: Reporter) -> Station:
    """
    Open a drive by its ``sg`` node or its serial number.

    :raise CannotOpen: missing, not a drive, or in use.
    """
    library = library_of_node(device) if os.path.exists(device) else None
    drive = library.drive_of_node(device) if library is not None else None
    if library is not None and drive is None:
        reporter.say("30212I", device=device)
        raise CannotOpen(errno.ENODEV)
    if library is None and directory is not None and "/" not in device:
        library = Library(directory)
        drive = next((one for one in library.elements().drives if one.serial == device), None)
    if library is None or drive is None:
        reporter.say("30288I", device=device)
        reporter.say("12012E")
        raise CannotOpen(errno.ENODEV)
    path = library.node(drive.sg)
    try:
        descriptor = take_generic_node(library, drive)
    except OSError as error:
        reporter.say("30210I", device=path, code=error.errno)
        reporter.say("12012E")
        raise CannotOpen(error.errno) from None
    reporter.say("30209I", device=path)
    reporter.say("30215I", serial=drive.serial)
    return Station(library, drive, descriptor)


def load_cartridge(station: Station, reporter: Reporter) -> Cartridge:
    """
    Wait until the drive is ready, loading what stands unloaded in it. A cleaning cartridge is never ready.

    :raise NotReady: the drive is empty.
    """
    reporter.say("11330I")
    said = 0.0
    while True:
        drive = station.library.elements().drives[station.drive.number]
        station.drive = drive
        if drive.barcode is None:
            reporter.say("12016E")
            reporter.say("11331E", where="ltfs_load_tape")
            reporter.say("17188I", code=-20209)
            raise NotReady
        cleaning = station.cartridge().memory.cleaning
        if drive.state == "ready" and not cleaning:
            break
        if drive.state == "unloaded":
            with station.library.changing() as elements:
                changed = elements.drives[drive.number]
                changed.state = "loading"
                changed.until = time.time() + station.library.latency().seconds("load")
            continue
        if time.monotonic() - said >= 1:
            said = time.monotonic()
            if cleaning:
                reporter.say("17188I", code=-20297)
            else:
                reporter.say("17189I", code=-20202)
        time.sleep(0.02)
    station.lock_cartridge(True)
    if os.path.exists(marker := displaced_marker(station.library, station.drive)):
        os.unlink(marker)
    reporter.say("11332I")
    return station.cartridge()


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the two partitions hold: the last index of each, decoded where it can be read, and whether blocks follow it."""

    a_mark: Mark | None
    b_mark: Mark | None
    a: Index | None
    b: Index | None
    a_extra: bool
    b_extra: bool

    @property
    def newest(self) -> Index | None:
        """Return the readable index with the highest generation; a wins a tie, as it is read first."""
        readable = [index for index in (self.a, self.b) if index is not None]
        return max(readable, key=lambda index: index.generation, default=None)

    @property
    def is_clean(self) -> bool:
        """Tell whether both partitions end with the same generation."""
        return (
            self.a_mark is not None
            and self.b_mark is not None
            and self.a_mark.generation == self.b_mark.generation
            and not (self.a_extra or self.b_extra)
        )


def check_labels(cartridge: Cartridge, reporter: Reporter) -> None:
    """
    Read the labels.

    :raise NoVolume: blank, foreign or destroyed.
    """
    memory = cartridge.memory
    if memory.content == "ltfs":
        return
    if memory.content == "destroyed":
        reporter.say("11174E")
        reporter.say("11171E")
        reporter.say("11009E")
    elif memory.partitioned:
        reporter.say("11175E", count=1024)
        reporter.say("11170E", code=-1012, partition=0)
        reporter.say("11009E")
    else:
        reporter.say("17168E")
    raise NoVolume(memory.content)


def look(cartridge: Cartridge) -> Found:
    """Read the last index of both partitions."""
    a, b = cartridge.partition("a", writable=False), cartridge.partition("b", writable=False)
    try:
        a_mark = next(reversed(a.marks()), None)
        b_mark = next(reversed(b.marks()), None)
        return Found(
            a_mark=a_mark,
            b_mark=b_mark,
            a=_read(a, a_mark),
            b=_read(b, b_mark),
            a_extra=a_mark is None or a.end_block > a_mark.end_block,
            b_extra=b_mark is None or b.end_block > b_mark.end_block,
        )
    finally:
        a.close()
        b.close()


def _read(partition: Partition, mark: Mark | None) -> Index | None:
    payload = partition.read_index(mark) if mark is not None else None
    if payload is None:
        return None
    try:
        return decode_index(payload)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mountable:
    """The index to mount, and whether partition a must first be given it, or the volume may only be read."""

    index: Index
    restore_a: bool = False
    read_only: bool = False


def read_volume(cartridge: Cartridge, reporter: Reporter, *, rollback: int | None = None) -> Mountable:
    """
    Decide from the medium whether and how the volume mounts.

    :raise NoVolume: no volume, or not consistent; the messages are out.
    """
    check_labels(cartridge, reporter)
    if rollback is not None:
        return _older(cartridge, reporter, rollback)
    found = look(cartridge)
    newest = found.newest
    if cartridge.memory.lock_state and newest is not None:
        reporter.say("11333I", generation=newest.generation, partition=newest.partition)
        return Mountable(index=newest, read_only=True)
    if found.is_clean and found.a is not None:
        return Mountable(index=found.a)
    if found.is_clean:
        for code in ("17037E", "17016E", "11194W", "11024E"):
            reporter.say(code)
        raise NoVolume("index")
    reporter.say("11026I")
    if (
        found.b is None
        or found.b_extra
        or (found.a_mark and found.b_mark and found.a_mark.generation > found.b_mark.generation)
    ):
        for code in ("17037E", "17016E", "11194W", "11220E", "11027E"):
            reporter.say(code)
        raise NoVolume("inconsistent")
    for code in ("11016W", "11017W", "12062W", "11022I"):
        reporter.say(code)
    return Mountable(index=found.b, restore_a=True)


def _older(cartridge: Cartridge, reporter: Reporter, generation: int) -> Mountable:
    index = index_of_generation(cartridge, generation)
    if index is None:
        reporter.say("17079E", generation=generation)
        raise NoVolume("generation")
    return Mountable(index=index, read_only=True)


def index_of_generation(cartridge: Cartridge, generation: int) -> Index | None:
    """Return an older index from partition b, if it is there and can be read."""
    partition = cartridge.partition("b", writable=False)
    try:
        mark = next((mark for mark in partition.marks() if mark.generation == generation), None)
        return _read(partition, mark)
    finally:
        partition.close()


def write_index_on(cartridge: Cartridge, letter: str, index: Index) -> Mark:
    """Write an index at the end of a partition (on a, over its last one), and note it in the cartridge memory."""
    partition = cartridge.partition(letter)
    try:
        if letter == "a" and (marks := partition.marks()):
            partition.cut(marks[-1].block - 1)
        index.partition, index.block = letter, partition.end_block + 1
        mark = partition.append_index(index.encoded(), index.generation)
    finally:
        partition.close()
    cartridge.memory.coherency[letter] = [mark.generation, mark.block]
    cartridge.remember()
    return mark
