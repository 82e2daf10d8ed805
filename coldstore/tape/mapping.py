"""
Which tape device is which drive of the library.

Device numbers follow the order of discovery, not the library's numbering. The library tells the identifiers of its
drives when READ ELEMENT STATUS is asked with DVCID set (SMC-3, 6.10); they end in the drive's serial number, which the
kernel knows for each device. Libraries that do not answer this need the drives named in the configuration.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from coldstore.interfaces.process import CommandFault, Completed, ICommandRunner, IDeviceLock
from coldstore.tape.output import UnknownOutput, text_of
from coldstore.tape.sysfs import TapeDevice
from coldstore.util.asynchronous import returns_deferred

_T = TypeVar("_T")
_TIMEOUT_SECONDS = 330.0
_HEX_LINE = re.compile(
    r" *(?P<offset>[0-9a-f]{2,}) {4,5}(?P<octets>[0-9a-f]{2}(?: {1,2}[0-9a-f]{2})*)(?: {2,}.*)?"
)
_ASSIGNMENT_PAGE = 0x1D
_ASSIGNMENT_BYTES = 20
_DATA_TRANSFER_ELEMENT = 4
_VOLUME_TAG_BYTES = 36
_DESCRIPTOR_BYTES = 12
_RECEIVED = re.compile(r"Received (?P<count>\d+) bytes of data:")


class DrivesUnidentified(Exception):
    """The library does not tell which drive is which: name the device of each drive in the configuration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveAddresses:
    """SCSI element addresses of the drives: drive 0 has ``first``."""

    first: int
    count: int


def addresses_command(sg_modes: str, changer: str) -> tuple[str, ...]:
    """Ask for the element address assignment page."""
    return (sg_modes, "-p", f"{_ASSIGNMENT_PAGE:#x}", changer)


def identifiers_command(
    sg_raw: str, changer: str, addresses: DriveAddresses, size_bytes: int
) -> tuple[str, ...]:
    """Ask READ ELEMENT STATUS (B8h) for the drives, with volume tags and device identifiers."""
    words = (
        *("b8", "14", f"{addresses.first >> 8:02x}", f"{addresses.first & 255:02x}"),
        *(f"{addresses.count >> 8:02x}", f"{addresses.count & 255:02x}", "01"),
        *(f"{octet:02x}" for octet in size_bytes.to_bytes(3, "big")),
        *("00", "00"),
    )
    return (sg_raw, "-r", str(size_bytes), changer, *words)


def parse_hex(output: bytes) -> bytes:
    """
    Read the bytes of a hexadecimal dump as sg3-utils print it; other lines are passed over.

    :raise UnknownOutput: when the lines do not follow each other without a gap.
    """
    found = bytearray()
    for line in output.decode("ascii", "replace").splitlines():
        # At most 16 columns: what follows is the same in letters, which may look like more of them.
        match = _HEX_LINE.match(line[: 8 + 3 * 16 + 1].rstrip())
        if match is None:
            continue
        if int(match["offset"], 16) != len(found):
            raise UnknownOutput("sg3-utils", f"offset {match['offset']} after {len(found)} bytes")
        found += bytes.fromhex(match["octets"].replace(" ", ""))
    return bytes(found)


def parse_addresses(stdout: bytes) -> DriveAddresses:
    """
    Read where the drives' element addresses begin, from the element address assignment page (SMC-3, 7.3.4).

    :raise UnknownOutput: when it is another page, or too short.
    """
    page = parse_hex(stdout)
    if len(page) < _ASSIGNMENT_BYTES or page[0] & 0x3F != _ASSIGNMENT_PAGE:
        raise UnknownOutput("sg_modes", repr(text_of(stdout)))
    return DriveAddresses(first=int.from_bytes(page[14:16], "big"), count=int.from_bytes(page[16:18], "big"))


def parse_identifiers(dump: bytes, addresses: DriveAddresses) -> Mapping[int, str]:
    """
    Read each drive's identifier from the answer to READ ELEMENT STATUS (SMC-3, 6.10.2 to 6.10.5).

    :param dump: what sg_raw printed (it prints the dump on standard error).
    :return: by drive number; drives without an identifier are left out.
    :raise UnknownOutput: when lengths contradict each other.
    """
    report = parse_hex(dump)
    announced = _RECEIVED.search(text_of(dump))
    if announced is None or int(announced["count"]) != len(report) or len(report) < 8:
        raise UnknownOutput("sg_raw", f"{len(report)} bytes of a report that was announced otherwise")
    end = min(len(report), 8 + int.from_bytes(report[5:8], "big"))
    found: dict[int, str] = {}
    at = 8
    while at + 8 <= end:
        kind, tags = report[at], (report[at + 1] >> 7) + (report[at + 1] >> 6 & 1)
        length = int.from_bytes(report[at + 2 : at + 4], "big")
        page_end = at + 8 + int.from_bytes(report[at + 5 : at + 8], "big")
        if length < _DESCRIPTOR_BYTES or page_end > end:
            raise UnknownOutput("sg_raw", f"element descriptors of {length} bytes up to {page_end} of {end}")
        for start in range(at + 8, page_end - length + 1, length):
            if kind == _DATA_TRANSFER_ELEMENT:
                descriptor = report[start : start + length]
                number = int.from_bytes(descriptor[:2], "big") - addresses.first
                if identifier := _identifier(descriptor, tags=tags):
                    found[number] = identifier
        at = page_end
    return found


def _identifier(descriptor: bytes, *, tags: int) -> str | None:
    """Return the identifier behind the descriptor's volume tags: primary, alternate, both or none."""
    at = _DESCRIPTOR_BYTES + _VOLUME_TAG_BYTES * tags
    if len(descriptor) < at + 4:
        return None
    length = descriptor[at + 3]
    return descriptor[at + 4 : at + 4 + length].decode("ascii", "replace").strip("\0 ") or None


def match_devices(identifiers: Mapping[int, str], devices: Iterable[TapeDevice]) -> Mapping[int, TapeDevice]:
    """
    Find each drive's device: the one whose serial number its identifier ends in.

    :return: by drive number; drives without exactly one such device are left out.
    """
    known = [device for device in devices if device.serial]
    found: dict[int, TapeDevice] = {}
    for number, identifier in sorted(identifiers.items()):
        matches = [device for device in known if device.serial and identifier.endswith(device.serial)]
        if len(matches) == 1:
            found[number] = matches[0]
    return found


@returns_deferred
async def drive_identifiers(
    runner: ICommandRunner,
    changer: str,
    *,
    lock: IDeviceLock,
    sg_modes: str = "sg_modes",
    sg_raw: str = "sg_raw",
) -> Mapping[int, str]:
    """
    Ask the library for the identifier of each of its drives, by drive number. The lock must be held.

    :return: fails with ``DrivesUnidentified`` when it, or the tools (package sg3-utils), cannot tell.
    """
    addresses = _parsed(
        parse_addresses, (await _asked(runner, addresses_command(sg_modes, changer), lock)).stdout
    )
    # 12 + 36 bytes of descriptor and tag, an identifier of at most 255, per drive and with room for headers.
    size_bytes = 16 + addresses.count * (_DESCRIPTOR_BYTES + 2 * _VOLUME_TAG_BYTES + 4 + 255)
    asked = await _asked(runner, identifiers_command(sg_raw, changer, addresses, size_bytes), lock)
    return _parsed(lambda dump: parse_identifiers(dump, addresses), asked.stderr)


async def _asked(runner: ICommandRunner, argv: tuple[str, ...], lock: IDeviceLock) -> Completed:
    try:
        completed = await runner.run(argv, timeout_seconds=_TIMEOUT_SECONDS, descriptors=(lock.descriptor(),))
    except CommandFault as fault:
        raise DrivesUnidentified(str(fault)) from fault
    if not completed.is_success:
        raise DrivesUnidentified(f"{' '.join(argv)}: {completed.ending}: {text_of(completed.stderr)}")
    return completed


def _parsed(parse: Callable[[bytes], _T], output: bytes) -> _T:
    try:
        return parse(output)
    except UnknownOutput as unknown:
        raise DrivesUnidentified(str(unknown)) from unknown
