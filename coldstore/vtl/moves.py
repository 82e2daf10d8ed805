"""
The robot: what a move checks, in which order, and what it changes.

Effects on the elements only; :mod:`coldstore.vtl.mtx` speaks. A move with model time is recorded as under way and awaited; the
program may be killed meanwhile, the cartridge arrives all the same.
"""

import time
from dataclasses import dataclass

from coldstore.vtl.latency import charge
from coldstore.vtl.library import DRIVE_ADDRESS, Elements, Library, Move


@dataclass(slots=True)
class MoveRefused(Exception):
    """The library answers a move with a sense code; ``mtx`` turns three of them into sentences of their own."""

    key: int
    code: int
    qualifier: int
    source: int
    destination: int


class Robot:
    """The one gripper of a library."""

    def __init__(self, library: Library) -> None:
        """Serve a library; settings are read once."""
        self._library = library
        settings = library.settings()
        self._auto_unload: bool = settings["auto_unload"]
        self._latency = library.latency()

    def wait_until_idle(self) -> Elements:
        """Return the elements once no move is under way: the library serves one command after the other."""
        while (elements := self._library.elements()).move is not None:
            charge(max(0.005, elements.move.until - time.time()))
        return elements

    def move(self, source: int, destination: int) -> None:
        """
        Carry the cartridge from one element address to another, and wait until it is there.

        :raise MoveRefused: nothing moved.
        """
        move_seconds = self._latency.seconds("move")
        while True:
            self.wait_until_idle()
            with self._library.changing() as elements:
                if elements.move is None:
                    move = self._started(elements, source, destination, time.time() + move_seconds)
                    elements.settle(time.time(), self._latency.seconds("load"))
                    break
        charge(move.until - time.time())
        # Not needed for the truth, which settles by itself: whoever reads the file by eye sees the end of the move.
        if move_seconds:
            with self._library.changing():
                pass

    def lose(self, source: int) -> None:
        """Drop the cartridge of an element where no sensor sees it."""
        with self._library.changing() as elements:
            self._taken(elements, source, source)

    def _started(self, elements: Elements, source: int, destination: int, until: float) -> Move:
        drive = elements.drive_at(destination)
        if (drive is not None and drive.barcode) or (
            drive is None and elements.slots[elements.slot_at(destination)]
        ):
            raise MoveRefused(0x5, 0x3B, 0x0D, source, destination)
        barcode = self._taken(elements, source, destination)
        elements.move = Move(barcode=barcode, source=source, destination=destination, until=until)
        return elements.move

    def _taken(self, elements: Elements, source: int, destination: int) -> str:
        drive = elements.drive_at(source)
        if drive is None:
            barcode = elements.slots[elements.slot_at(source)]
            if not barcode:
                raise MoveRefused(0x5, 0x3B, 0x0E, source, destination)
            elements.slots[elements.slot_at(source)] = None
            return barcode
        barcode = drive.barcode
        if not barcode:
            raise MoveRefused(0x5, 0x3B, 0x0E, source, destination)
        if drive.locked:
            raise MoveRefused(0x5, 0x53, 0x02, source, destination)
        if drive.state != "unloaded" and not self._auto_unload and not barcode.startswith("CLN"):
            raise MoveRefused(0x5, 0x3A, 0x00, source, destination)
        drive.barcode = drive.source = None
        drive.state = "empty"
        drive.rewound()
        return barcode


def free_slot(elements: Elements, after: int) -> int | None:
    """Return the next empty storage slot after a slot number, going round, mail slots left out."""
    return _next(elements, after, full=False)


def full_slot(elements: Elements, after: int) -> int | None:
    """Return the next full storage slot after a slot number, going round, mail slots left out."""
    return _next(elements, after, full=True)


def _next(elements: Elements, after: int, *, full: bool) -> int | None:
    storage = [slot for slot in elements.slots if not elements.is_mail(slot)]
    order = [slot for slot in storage if slot > after] + [slot for slot in storage if slot <= after]
    return next((slot for slot in order if bool(elements.slots[slot]) is full and slot != after), None)


def drive_address(number: int) -> int:
    """Return the SCSI element address of a drive."""
    return DRIVE_ADDRESS + number
