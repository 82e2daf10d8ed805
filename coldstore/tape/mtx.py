"""
The language of ``mtx`` 1.3.12: argument lists, and what its answers mean. Pure functions.

Source: mtx(1), and outputs recorded from the program on kernel devices (``tests/fixtures/golden/mtx``). Drives are
numbered from 0, slots from 1; mail slots carry the last slot numbers. ``mtx`` exits with 1 for every error that it
notices; ``eject`` and missing arguments exit with 0 and are never used.
"""

import re
from dataclasses import dataclass
from enum import Enum

from coldstore.interfaces.process import Completed
from coldstore.model.library import DriveElement, Inventory, MailSlot, Slot
from coldstore.tape.output import UnknownOutput, text_of

_HEADER = re.compile(
    r"\s*Storage Changer (?P<device>.+):(?P<drives>\d+) Drives, (?P<slots>\d+) Slots "
    r"\( (?P<mail_slots>\d+) Import/Export \)\s*"
)
_DRIVE = re.compile(
    r"Data Transfer Element (?P<number>\d+):"
    r"(?:(?P<empty>Empty)|Full \((?:Storage Element (?P<source>\d+)|Unknown Storage Element) Loaded\))"
    r"(?::VolumeTag = (?P<tag>.*?))?(?::AlternateVolumeTag = .*)?"
)
_SLOT = re.compile(
    r"\s*Storage Element (?P<number>\d+)(?P<mail> IMPORT/EXPORT)?:(?P<state>Full ?|Empty)"
    r"(?::VolumeTag=(?P<tag>.*?))?(?::AlternateVolumeTag=.*)?"
)
_SENSE_KEY = re.compile(r"mtx: Request Sense: Sense Key=(?P<key>.+)")
_SENSE_CODE = re.compile(r"mtx: Request Sense: Additional Sense Code = (?P<code>[0-9A-Fa-f]{2})")
_SENSE_QUALIFIER = re.compile(
    r"mtx: Request Sense: Additional Sense Qualifier = (?P<qualifier>[0-9A-Fa-f]{2})"
)
_BARCODE = re.compile(r"[\x21-\x7e]+(?: [\x21-\x7e]+)*")


def status_command(mtx: str, changer: str) -> tuple[str, ...]:
    """Ask what is in which element."""
    return (mtx, "-f", changer, "status")


def load_command(mtx: str, changer: str, *, slot: int, drive: int) -> tuple[str, ...]:
    """Move from a slot into a drive. Both numbers are always given: without them mtx picks a place by itself."""
    return (mtx, "-f", changer, "load", str(slot), str(drive))


def unload_command(mtx: str, changer: str, *, slot: int, drive: int) -> tuple[str, ...]:
    """Move from a drive into a slot."""
    return (mtx, "-f", changer, "unload", str(slot), str(drive))


def transfer_command(mtx: str, changer: str, *, source: int, destination: int) -> tuple[str, ...]:
    """Move from one slot into another."""
    return (mtx, "-f", changer, "transfer", str(source), str(destination))


def parse_status(stdout: bytes) -> Inventory:
    """
    Read the answer to ``status``.

    :raise UnknownOutput: when a line is of no known form, or the elements are not those that the first line announces.
    """
    lines = stdout.decode("ascii", "replace").splitlines()
    header = _HEADER.fullmatch(lines[0]) if lines else None
    if header is None:
        raise UnknownOutput("mtx status", repr(lines[0] if lines else "nothing"))
    drives: list[DriveElement] = []
    slots: list[Slot] = []
    mail_slots: list[MailSlot] = []
    for line in lines[1:]:
        if match := _DRIVE.fullmatch(line):
            source = match["source"]
            drives.append(
                DriveElement(
                    number=int(match["number"]),
                    is_full=match["empty"] is None,
                    barcode=_barcode(match["tag"]) if match["empty"] is None else None,
                    source_slot=None if source is None else int(source),
                )
            )
        elif match := _SLOT.fullmatch(line):
            number, is_full = int(match["number"]), match["state"] != "Empty"
            barcode = _barcode(match["tag"]) if is_full else None
            if match["mail"]:
                mail_slots.append(MailSlot(number=number, is_full=is_full, barcode=barcode))
            else:
                slots.append(Slot(number=number, is_full=is_full, barcode=barcode))
        elif line.strip():
            raise UnknownOutput("mtx status", repr(line))
    _check_numbers("drives", [drive.number for drive in drives], first=0, count=int(header["drives"]))
    storage = [slot.number for slot in slots] + [slot.number for slot in mail_slots]
    _check_numbers("slots", storage, first=1, count=int(header["slots"]))
    _check_numbers("mail slots", storage[len(slots) :], first=len(slots) + 1, count=int(header["mail_slots"]))
    return Inventory(drives=tuple(drives), slots=tuple(slots), mail_slots=tuple(mail_slots))


def _barcode(tag: str | None) -> str | None:
    """Tags are padded with blanks; an empty one, or one with unprintable characters, is a label that was not read."""
    stripped = (tag or "").strip()
    return stripped if _BARCODE.fullmatch(stripped) else None


def _check_numbers(what: str, numbers: list[int], *, first: int, count: int) -> None:
    if numbers != list(range(first, first + count)):
        raise UnknownOutput("mtx status", f"{count} {what} announced, numbers {numbers} listed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sense:
    """What a SCSI device gave as reason: the key as mtx names it, additional sense code and qualifier (SPC)."""

    key: str
    code: int
    qualifier: int

    def __str__(self) -> str:
        """Return the form that manuals use: ``Hardware Error 15/01``."""
        return f"{self.key} {self.code:02x}/{self.qualifier:02x}"


def parse_sense(stderr: bytes) -> tuple[Sense, ...]:
    """Read every sense block, in order. A command may print one for a step that it can do without (mode sense)."""
    found: list[Sense] = []
    key: str | None = None
    code: int | None = None
    for line in text_of(stderr).splitlines():
        if match := _SENSE_KEY.fullmatch(line.strip()):
            key, code = match["key"], None
        elif match := _SENSE_CODE.fullmatch(line.strip()):
            code = int(match["code"], 16)
        elif (match := _SENSE_QUALIFIER.fullmatch(line.strip())) and key is not None and code is not None:
            found.append(Sense(key=key, code=code, qualifier=int(match["qualifier"], 16)))
            key = code = None
    return tuple(found)


class Trouble(Enum):
    """What kind of failure mtx reports; the value says it in words."""

    UNIT_ATTENTION = "the library announced a change instead of obeying"
    BECOMING_READY = "the library is becoming ready"
    NOT_READY = "the library is not ready"
    NEEDS_OFFLINE = "the drive has not let go of its tape"
    REMOVAL_PREVENTED = "taking the cartridge out is prevented"
    CLEANING_EJECTED = "the cleaning cartridge was put back"
    SOURCE_EMPTY = "the source is empty"
    DESTINATION_FULL = "the destination is full"
    NO_SUCH_ELEMENT = "the library has no such element"
    NO_DEVICE = "the changer's device cannot be used"
    REFUSED = "the library failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """A failure of mtx: its kind, the sense data if there were any, and the last line it printed."""

    trouble: Trouble
    sense: Sense | None
    line: str

    def __str__(self) -> str:
        """Say it in words with the evidence."""
        evidence = "; ".join(str(part) for part in (self.sense, self.line) if part)
        return f"{self.trouble.value} ({evidence})" if evidence else self.trouble.value


_MESSAGES = (
    (re.compile(r"Drive needs offline before move"), Trouble.NEEDS_OFFLINE),
    (re.compile(r"Cleaning Cartridge Installed and Ejected"), Trouble.CLEANING_EJECTED),
    (re.compile(r"Source Element Address \d+ is Empty"), Trouble.SOURCE_EMPTY),
    (re.compile(r"Data Transfer Element \d+ is Empty"), Trouble.SOURCE_EMPTY),
    (re.compile(r"Drive \d+ Full \(.*\)"), Trouble.DESTINATION_FULL),
    (re.compile(r"Storage Element \d+ is Already Full"), Trouble.DESTINATION_FULL),
    (re.compile(r"Destination Element Address \d+ is Already Full"), Trouble.DESTINATION_FULL),
    (re.compile(r"(?:Invalid|illegal) <[a-z-]+> argument .*"), Trouble.NO_SUCH_ELEMENT),
    (re.compile(r"Invalid (?:source|destination)"), Trouble.NO_SUCH_ELEMENT),
    (re.compile(r"No (?:source|destination) specified"), Trouble.NO_SUCH_ELEMENT),
    (re.compile(r"cannot open SCSI device .*"), Trouble.NO_DEVICE),
    (re.compile(r".* is not an sg device, or old sg driver"), Trouble.NO_DEVICE),
)
"""Whole lines that mtx prints in place of sense data."""


def explain(completed: Completed) -> Complaint:
    """
    Tell why a command failed.

    Sense data of the last block decide, since earlier blocks belong to steps that mtx went on after.
    """
    said = [line.strip() for line in text_of(completed.stderr).splitlines() if line.strip()]
    line = said[-1] if said else completed.ending
    for pattern, trouble in _MESSAGES:
        if pattern.fullmatch(line):
            return Complaint(trouble=trouble, sense=None, line=line)
    senses = parse_sense(completed.stderr)
    sense = senses[-1] if senses else None
    return Complaint(trouble=_trouble_of(sense), sense=sense, line=line)


def _trouble_of(sense: Sense | None) -> Trouble:
    match sense:
        case Sense(key="Unit Attention"):
            return Trouble.UNIT_ATTENTION
        case Sense(key="Not Ready", code=0x04, qualifier=0x01):
            return Trouble.BECOMING_READY
        case Sense(key="Not Ready"):
            return Trouble.NOT_READY
        case Sense(key="Illegal Request", code=0x53, qualifier=0x02):
            return Trouble.REMOVAL_PREVENTED
        case Sense(key="Illegal Request", code=0x21):
            return Trouble.NO_SUCH_ELEMENT
        case _:
            return Trouble.REFUSED
