"""
The state of a library: settings, elements, drives, and what is still moving.

One file, ``library.json``, changed under a lock by write, fsync and rename. Steps that take model time are recorded with the time of
their end and *settle* when somebody looks after it: a process that is killed while it waits stops nothing, as with a real robot.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from coldstore.vtl.latency import Latency
from coldstore.vtl.records import locked, read_json, write_json

STORAGE_ADDRESS = 4096
"""SCSI element address of slot 1 (facts of a typical IBM library)."""
DRIVE_ADDRESS = 256
"""SCSI element address of drive 0."""
MAIL_ADDRESS = 16
"""SCSI element address of the first import/export element."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What a drive of an LTO generation says of itself."""

    density: int
    density_name: str
    product: str


GENERATIONS = {
    "L6": Generation(density=0x5A, density_name="LTO-6", product="ULT3580-TD6"),
    "L7": Generation(density=0x5C, density_name="LTO-7", product="ULT3580-TD7"),
    "M8": Generation(density=0x5D, density_name="LTO-7-M8", product="ULT3580-TD8"),
    "L8": Generation(density=0x5E, density_name="LTO-8", product="ULT3580-TD8"),
    "L9": Generation(density=0x60, density_name="no translation", product="ULT3580-TD9"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LibrarySpec:
    """What ``create`` makes. Slots do not count the mail slots; ``prefix`` and a number make barcodes of 6 characters."""

    drives: int = 2
    slots: int = 16
    mail_slots: int = 1
    cartridges: int = 8
    generation: str = "L8"
    prefix: str = "A"
    cleaning: int = 0
    capacity_bytes: int = 2 * 1024**3
    seed: int = 0
    auto_unload: bool = False
    directory_only: bool = False


@dataclass(slots=True, kw_only=True)
class Drive:
    """
    One drive as it is now.

    ``state`` is empty, loading, ready, unloading or unloaded (in the drive, offline); ``until`` ends loading and unloading (wall clock,
    seconds). ``locked`` is the removal lock that ``ltfs`` sets. File and block are the numbers ``mt status`` prints, -1 for unknown.
    """

    number: int
    serial: str
    barcode: str | None = None
    source: int | None = None
    state: str = "empty"
    until: float = 0.0
    locked: bool = False
    partition: int = 0
    file: int = 0
    block: int = 0
    logical: int = 0
    block_size: int = 0
    options: list[str] = field(
        default_factory=lambda: ["buffer-writes", "async-writes", "read-ahead", "can-bsr"]
    )

    @property
    def nst(self) -> str:
        """Name of the non-rewinding node."""
        return f"nst{self.number}"

    @property
    def sg(self) -> str:
        """Name of the SCSI generic node."""
        return f"sg{self.number}"

    def rewound(self) -> None:
        """Stand at the start of partition 0."""
        self.partition = self.file = self.block = self.logical = 0


@dataclass(slots=True, kw_only=True)
class Move:
    """A cartridge in the gripper: element addresses, and when it arrives (wall clock, seconds)."""

    barcode: str
    source: int
    destination: int
    until: float


@dataclass(slots=True, kw_only=True)
class Elements:
    """Slots by number (mail slots carry the last ones), drives, the gripper."""

    slots: dict[int, str | None]
    drives: list[Drive]
    move: Move | None = None
    mail_count: int = 0

    def settle(self, now: float, load_seconds: float) -> None:
        """Finish what ended by ``now``: the move under way, loads, unloads."""
        move = self.move
        if move is not None and now >= move.until:
            self.move = None
            self.place(move, load_seconds)
        for drive in self.drives:
            if drive.state == "loading" and now >= drive.until:
                drive.state = "ready"
                drive.rewound()
            elif drive.state == "unloading" and now >= drive.until:
                drive.state = "unloaded"

    def place(self, move: Move, load_seconds: float) -> None:
        """Put the cartridge of a finished move where it belongs; a drive then threads it."""
        drive = self.drive_at(move.destination)
        if drive is None:
            self.slots[self.slot_at(move.destination)] = move.barcode
            return
        drive.barcode = move.barcode
        drive.source = self.slot_at(move.source) if self.drive_at(move.source) is None else None
        drive.state = "loading"
        drive.until = move.until + load_seconds
        drive.locked = False

    def drive_at(self, address: int) -> Drive | None:
        """Return the drive with a SCSI element address, if it is one."""
        number = address - DRIVE_ADDRESS
        return self.drives[number] if 0 <= number < len(self.drives) else None

    def slot_at(self, address: int) -> int:
        """Return the slot number of a SCSI element address."""
        if address >= STORAGE_ADDRESS:
            return address - STORAGE_ADDRESS + 1
        return address - MAIL_ADDRESS + 1 + len(self.slots) - self.mail_count

    def address_of(self, slot: int) -> int:
        """Return the SCSI element address of a slot number."""
        storage = len(self.slots) - self.mail_count
        return STORAGE_ADDRESS + slot - 1 if slot <= storage else MAIL_ADDRESS + slot - storage - 1

    def is_mail(self, slot: int) -> bool:
        """Tell whether a slot is an import/export element."""
        return slot > len(self.slots) - self.mail_count

    def everywhere(self) -> dict[str, str]:
        """Return each barcode with the words for where it is."""
        found = {barcode: f"slot {slot}" for slot, barcode in self.slots.items() if barcode}
        found |= {drive.barcode: f"drive {drive.number}" for drive in self.drives if drive.barcode}
        if self.move is not None:
            found[self.move.barcode] = "gripper"
        return found


class Library:
    """A library's directory: where things are, and its state under lock."""

    def __init__(self, directory: str) -> None:
        """Name the directory; nothing is read yet."""
        self.directory = os.path.abspath(directory)

    def path(self, *parts: str) -> str:
        """Return a path inside the library."""
        return os.path.join(self.directory, *parts)

    def node(self, name: str) -> str:
        """Return the path of a device node (``changer``, ``nst0``, ``sg0``)."""
        return self.path("dev", name)

    def cartridge_directory(self, barcode: str) -> str:
        """Return where a cartridge lies."""
        return self.path("cartridges", barcode)

    @property
    def exists(self) -> bool:
        """Tell whether the directory holds a library."""
        return os.path.exists(self.path("library.json"))

    def settings(self) -> dict[str, Any]:
        """Return the settings: what ``create`` and ``latency`` wrote."""
        settings: dict[str, Any] = read_json(self.path("library.json"))["settings"]
        return settings

    def generation(self) -> Generation:
        """Return what the library's drives say of themselves."""
        return GENERATIONS[self.settings()["generation"]]

    def latency(self) -> Latency:
        """Return the model times."""
        return Latency(**self.settings()["latency"])

    def set_latency(self, latency: Latency) -> None:
        """Record the model times, for programs that start from now on."""
        with locked(self.path("library.lock")):
            record = read_json(self.path("library.json"))
            record["settings"]["latency"] = asdict(latency)
            write_json(self.path("library.json"), record)

    def elements(self) -> Elements:
        """Return the elements as they are now; looking changes nothing."""
        record = read_json(self.path("library.json"))
        return self._settled(record)

    @contextmanager
    def changing(self) -> Iterator[Elements]:
        """Give the elements to change; they are recorded when the body ends without an exception."""
        with locked(self.path("library.lock")):
            record = read_json(self.path("library.json"))
            elements = self._settled(record)
            yield elements
            record["elements"] = asdict(elements)
            write_json(self.path("library.json"), record)

    def drive_of_node(self, path: str) -> Drive | None:
        """Return the drive whose ``nst`` or ``sg`` node this is."""
        name = os.path.basename(os.path.realpath(path))
        return next((drive for drive in self.elements().drives if name in (drive.nst, drive.sg)), None)

    @staticmethod
    def _settled(record: dict[str, Any]) -> Elements:
        stored = record["elements"]
        latency = Latency(**record["settings"]["latency"])
        elements = Elements(
            slots={int(slot): barcode for slot, barcode in stored["slots"].items()},
            drives=[Drive(**drive) for drive in stored["drives"]],
            move=Move(**stored["move"]) if stored["move"] else None,
            mail_count=stored["mail_count"],
        )
        elements.settle(time.time(), latency.seconds("load"))
        return elements


def library_of_node(path: str) -> Library | None:
    """Return the library that a device path belongs to, or None for any other file."""
    directory = os.path.dirname(os.path.realpath(path))
    library = Library(os.path.dirname(directory))
    return library if os.path.basename(directory) == "dev" and library.exists else None


def barcodes_of(spec: LibrarySpec) -> list[str]:
    """Return the data cartridges' barcodes that ``create`` makes: prefix and number in 6 characters, and the media suffix."""
    width = 6 - len(spec.prefix)
    if width < 1 or spec.cartridges >= 10**width:
        raise ValueError(
            f"prefix {spec.prefix!r} leaves no room for {spec.cartridges} numbers in 6 characters"
        )
    return [f"{spec.prefix}{number:0{width}d}{spec.generation}" for number in range(1, spec.cartridges + 1)]


def create_library(directory: str, spec: LibrarySpec) -> Library:
    """
    Make a library, or leave the one that is there as it is (its launchers are written again: the interpreter may have moved).

    :raise ValueError: when the cartridges do not fit the slots, or the generation is unknown.
    """
    from coldstore.vtl.launchers import write_launchers

    library = Library(directory)
    os.makedirs(library.directory, exist_ok=True)
    with locked(library.path("library.lock")):
        if not library.exists:
            _populate(library, spec)
        write_launchers(library.directory)
    return library


def _populate(library: Library, spec: LibrarySpec) -> None:
    import random

    from coldstore.vtl.medium import new_cartridge

    if spec.generation not in GENERATIONS:
        raise ValueError(f"generation {spec.generation!r} is unknown: {', '.join(GENERATIONS)}")
    if spec.cartridges + spec.cleaning > spec.slots or spec.drives < 1:
        raise ValueError(
            f"{spec.cartridges + spec.cleaning} cartridges do not fit {spec.slots} slots, or there is no drive"
        )
    chance = random.Random(spec.seed)
    for name in ("bin", "dev", "cartridges", "faults", "locks"):
        os.makedirs(library.path(name), exist_ok=True)
    slots: dict[int, str | None] = dict.fromkeys(range(1, spec.slots + spec.mail_slots + 1))
    for slot, barcode in enumerate(barcodes_of(spec), start=1):
        slots[slot] = barcode
        new_cartridge(library.cartridge_directory(barcode), barcode, capacity_bytes=spec.capacity_bytes)
    for number in range(spec.cleaning):
        barcode = f"CLNU{number + 1:02d}L1"
        slots[spec.slots - number] = barcode
        new_cartridge(library.cartridge_directory(barcode), barcode, capacity_bytes=0, cleaning=True)
    drives = [
        Drive(number=number, serial=f"10VT{chance.randrange(10**6):06d}") for number in range(spec.drives)
    ]
    for name in ["changer", *(drive.nst for drive in drives), *(drive.sg for drive in drives)]:
        with open(library.node(name), "a"):
            pass
    settings = asdict(spec) | {
        "latency": asdict(Latency()),
        "changer_serial": f"00VT{chance.randrange(10**6):06d}",
    }
    elements = Elements(slots=slots, drives=drives, mail_count=spec.mail_slots)
    write_json(library.path("library.json"), {"settings": settings, "elements": asdict(elements)})
