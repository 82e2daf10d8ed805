"""What the library reports: which cartridge is in which element, at one moment. Discovered facts."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A storage element. Full without a barcode: the robot could not read the label."""

    number: int
    is_full: bool
    barcode: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MailSlot:
    """An import/export element; its number continues the slots' (mtx gives mail slots the last numbers)."""

    number: int
    is_full: bool
    barcode: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveElement:
    """
    A data transfer element.

    ``source_slot`` is where mtx would put the cartridge back. It is a hint, never a home slot: mtx invents an empty
    slot when the library does not know.
    """

    number: int
    is_full: bool
    barcode: str | None
    source_slot: int | None


Element = Slot | MailSlot | DriveElement


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What is in which element. Drives are numbered from 0, slots from 1, mail slots after the slots."""

    drives: tuple[DriveElement, ...]
    slots: tuple[Slot, ...]
    mail_slots: tuple[MailSlot, ...]

    def elements(self) -> Iterator[Element]:
        """Every element: drives, then slots, then mail slots, each by number."""
        yield from self.drives
        yield from self.slots
        yield from self.mail_slots

    def drive(self, number: int) -> DriveElement:
        """Return this drive, or raise ``KeyError``."""
        for element in self.drives:
            if element.number == number:
                return element
        raise KeyError(f"no drive {number}")

    def storage(self, number: int) -> Slot | MailSlot:
        """Return this slot or mail slot, or raise ``KeyError``."""
        every: tuple[Slot | MailSlot, ...] = self.slots + self.mail_slots
        for element in every:
            if element.number == number:
                return element
        raise KeyError(f"no slot {number}")

    def find(self, barcode: str) -> tuple[Element, ...]:
        """Every element that reports this barcode: more than one when a label exists twice."""
        return tuple(element for element in self.elements() if element.barcode == barcode)

    def barcodes(self) -> tuple[str, ...]:
        """Every barcode seen, in the elements' order."""
        return tuple(element.barcode for element in self.elements() if element.barcode is not None)

    def repeated_barcodes(self) -> frozenset[str]:
        """Barcodes that more than one element reports."""
        return frozenset(barcode for barcode, count in Counter(self.barcodes()).items() if count > 1)

    def unlabelled(self) -> tuple[Element, ...]:
        """Full elements whose cartridge has no readable barcode."""
        return tuple(element for element in self.elements() if element.is_full and element.barcode is None)

    def empty_slots(self) -> tuple[Slot, ...]:
        """Slots that hold nothing, mail slots not among them."""
        return tuple(slot for slot in self.slots if not slot.is_full)


def name_of(element: Element) -> str:
    """What a person calls this element: ``drive 0``, ``slot 7``, ``mail slot 11``."""
    match element:
        case DriveElement():
            return f"drive {element.number}"
        case MailSlot():
            return f"mail slot {element.number}"
        case Slot():
            return f"slot {element.number}"
