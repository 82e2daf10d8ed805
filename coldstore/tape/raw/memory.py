"""
What a cartridge's memory tells of its room: READ ATTRIBUTE (SPC-4, 6.26) through the generic node beside a tape device.

Source of structure and request number: scsi/sg.h (``struct sg_io_hdr``, SG_IO).
"""

import ctypes
import fcntl
import os
import struct
from dataclasses import dataclass

SG_IO = 0x2285
_HEADER = struct.Struct("@iiBBHIPPPIIiPBBBBHHiII0P")
"""``struct sg_io_hdr``, interface version 3."""
_FROM_DEVICE = -3
_INTERFACE = ord("S")

_READ_ATTRIBUTE = 0x8C
_REMAINING, _MAXIMUM = 0x0000, 0x0001
"""SPC-4: remaining and maximum capacity in partition, in MiB."""
_MEBIBYTE = 1024 * 1024
_ATTRIBUTE = struct.Struct(">HBH")
_ANSWER_BYTES = 256
_TIMEOUT_MILLISECONDS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a cartridge holds, and how much of that is free, in bytes of its native capacity."""

    total_bytes: int
    free_bytes: int


def parse_attributes(answer: bytes) -> Room | None:
    """The room that an answer to READ ATTRIBUTE tells; None when it does not."""
    rest = answer[4 : 4 + int.from_bytes(answer[:4], "big")]
    values: dict[int, int] = {}
    while len(rest) >= _ATTRIBUTE.size:
        number, _, length = _ATTRIBUTE.unpack_from(rest)
        value = rest[_ATTRIBUTE.size : _ATTRIBUTE.size + length]
        if len(value) == length == 8:
            values[number] = int.from_bytes(value, "big")
        rest = rest[_ATTRIBUTE.size + length :]
    if not values.get(_MAXIMUM) or _REMAINING not in values:
        return None
    return Room(total_bytes=values[_MAXIMUM] * _MEBIBYTE, free_bytes=values[_REMAINING] * _MEBIBYTE)


def read_room(generic_node: str) -> Room | None:
    """
    Ask the cartridge in a drive.

    :param generic_node: the drive's ``/dev/sgN``.
    :return: None when the drive does not answer this.
    :raise OSError: the node cannot be opened or used.
    """
    command = ctypes.create_string_buffer(
        struct.pack(">BB6xHI2x", _READ_ATTRIBUTE, 0, _REMAINING, _ANSWER_BYTES), 16
    )
    answer = ctypes.create_string_buffer(_ANSWER_BYTES)
    sense = ctypes.create_string_buffer(64)
    header = bytearray(
        _HEADER.pack(
            *(_INTERFACE, _FROM_DEVICE, len(command), len(sense), 0, len(answer)),
            *(ctypes.addressof(answer), ctypes.addressof(command), ctypes.addressof(sense)),
            *(_TIMEOUT_MILLISECONDS, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        )
    )
    # Read-write: what is opened for reading may only send commands that the kernel knows (sg_allow_access).
    descriptor = os.open(generic_node, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, SG_IO, header)
    finally:
        os.close(descriptor)
    status, host_status, driver_status = (_HEADER.unpack(header)[place] for place in (13, 17, 18))
    return None if status or host_status or driver_status else parse_attributes(answer.raw)
