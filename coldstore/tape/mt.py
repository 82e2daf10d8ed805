"""
The language of ``mt`` (mt-st 1.7): argument lists, and what its answers mean. Pure functions.

Source: mt(1), st(4), and outputs recorded from the program on kernel devices (``tests/fixtures/golden/mt``). ``mt``
exits with 0 for success, 1 when the device cannot be opened (or for a usage error), 2 when the driver refused; it never
prints sense data. ``status`` opens the device without waiting and exits with 0 even without a tape.
"""

import re
from enum import Enum

from coldstore.interfaces.drive import DriveCondition, DriveStatus
from coldstore.interfaces.process import Completed
from coldstore.tape.output import UnknownOutput, text_of

_POSITION = re.compile(r"File number=(?P<file>-?\d+), block number=(?P<block>-?\d+), partition=\d+\.")
_DENSITY = re.compile(r"Tape block size \d+ bytes\. Density code 0x(?P<density>[0-9a-f]+) \(.*\)\.")
_BITS = re.compile(r"General status bits on \((?P<bits>[0-9a-f]+)\):")
_FLAGS = {
    "EOF": 0x80000000,
    "BOT": 0x40000000,
    "EOT": 0x20000000,
    "SM": 0x10000000,
    "EOD": 0x08000000,
    "WR_PROT": 0x04000000,
    "ONLINE": 0x01000000,
    "D_6250": 0x00800000,
    "D_1600": 0x00400000,
    "D_800": 0x00200000,
    "DR_OPEN": 0x00040000,
    "IM_REP_EN": 0x00010000,
    "CLN": 0x00008000,
}
"""The names that ``mt status`` prints and their bits in ``mt_gstat`` (linux/mtio.h)."""

_REWINDING = re.compile(r"st\d+[alm]?")


def is_rewinding_node(name: str) -> bool:
    """Whether a device's file name (no folder) is that of a node that rewinds when it is closed: never to be used."""
    return _REWINDING.fullmatch(name) is not None


def status_command(mt: str, device: str) -> tuple[str, ...]:
    """Ask what the drive is doing."""
    return (mt, "-f", device, "status")


def offline_command(mt: str, device: str) -> tuple[str, ...]:
    """Rewind, unlock and unthread the tape."""
    return (mt, "-f", device, "offline")


def parse_status(stdout: bytes) -> DriveStatus:
    """
    Read the answer to ``status``.

    Neither ONLINE nor DR_OPEN is a drive that works on its cartridge: 02/04/01 while threading, 02/30/03 while cleaning.

    :raise UnknownOutput: when a line is missing or of another form, or a flag is not known.
    """
    lines = [line.strip() for line in text_of(stdout).splitlines() if line.strip()]
    position = _only(_POSITION, lines)
    density = int(_only(_DENSITY, lines)["density"], 16)
    bits = int(_only(_BITS, lines)["bits"], 16)
    names = lines[-1].split() if bits and not _BITS.fullmatch(lines[-1]) else []
    unknown = [name for name in names if name not in _FLAGS]
    if unknown or sum(_FLAGS[name] for name in set(names)) != bits:
        raise UnknownOutput("mt status", f"flags {lines[-1]!r} with status bits {bits:x}")
    flags = frozenset(names)
    if "ONLINE" in flags:
        condition = DriveCondition.READY
    elif "DR_OPEN" in flags:
        condition = DriveCondition.EMPTY
    else:
        condition = DriveCondition.LOADING
    return DriveStatus(
        condition=condition,
        flags=flags,
        density_code=density or None,
        file_number=_known(position["file"]),
        block_number=_known(position["block"]),
    )


def _only(pattern: re.Pattern[str], lines: list[str]) -> re.Match[str]:
    matches = [match for line in lines if (match := pattern.fullmatch(line))]
    if len(matches) != 1:
        raise UnknownOutput("mt status", f"{len(matches)} lines of the form {pattern.pattern!r} in {lines!r}")
    return matches[0]


def _known(number: str) -> int | None:
    return None if int(number) < 0 else int(number)


class Refusal(Enum):
    """Why ``mt`` failed, as far as its one line tells."""

    BUSY = "another process has the device open"
    NO_MEDIUM = "no tape became ready in time"
    NO_DEVICE = "the device cannot be used"
    FAILED = "the drive failed"


_REFUSALS = {
    "Device or resource busy": Refusal.BUSY,
    "No medium found": Refusal.NO_MEDIUM,
    "No such file or directory": Refusal.NO_DEVICE,
    "No such device": Refusal.NO_DEVICE,
    "No such device or address": Refusal.NO_DEVICE,
    "Permission denied": Refusal.NO_DEVICE,
    "Inappropriate ioctl for device": Refusal.NO_DEVICE,
}


def explain(completed: Completed) -> tuple[Refusal, str]:
    """Tell why a command failed: the kind, and the line that ``mt`` printed."""
    said = text_of(completed.stderr).splitlines()
    line = said[-1] if said else completed.ending
    return _REFUSALS.get(line.rpartition(": ")[2], Refusal.FAILED), line


BUSY_STATUS = DriveStatus(
    condition=DriveCondition.BUSY, flags=frozenset(), density_code=None, file_number=None, block_number=None
)
"""What is known of a drive that another process has open: nothing else can be asked then."""
