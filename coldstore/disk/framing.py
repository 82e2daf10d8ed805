"""
How pieces lie in containers: records in segments, slots in containers of recalled extents. Pure.

A record is a header (magic, version, the segment's tag, length and CRC64NVME of the bytes, CRC32 of the header), the bytes, and zeros up
to a multiple of 512. The tag keeps a record that some earlier file left on the same blocks from being taken for ours.
A slot is the bytes alone, beginning on a block of the file system: the mover writes them where they stay.
"""

import struct
import zlib

from coldstore.disk.addresses import SEGMENT
from coldstore.disk.filesystem import ALLOCATION_BYTES

RECORD_UNIT_BYTES = 512
MAGIC = b"CSSR"
_VERSION = 1
_FIELDS = struct.Struct("<4sIQQQ")
_HEADER = struct.Struct("<4sIQQQI4x")
HEADER_BYTES = _HEADER.size


def record_bytes(length_bytes: int) -> int:
    """Return the size of the record of a piece."""
    return -(-(HEADER_BYTES + length_bytes) // RECORD_UNIT_BYTES) * RECORD_UNIT_BYTES


def segment_tag(name: str) -> int:
    """Return the number by which records know their segment: the chance in its name."""
    return int(name[2:18], 16)


def header(tag: int, length_bytes: int, crc64: int) -> bytes:
    """Return the header of a record."""
    fields = _FIELDS.pack(MAGIC, _VERSION, tag, length_bytes, crc64)
    return fields + struct.pack("<I4x", zlib.crc32(fields))


def read_header(content: bytes, tag: int) -> tuple[int, int] | None:
    """Return (length, CRC64NVME) that a header states, or None when this is none of the segment's."""
    if len(content) < HEADER_BYTES:
        return None
    magic, version, found_tag, length_bytes, crc64, check = _HEADER.unpack_from(content)
    if (
        magic != MAGIC
        or version != _VERSION
        or found_tag != tag
        or check != zlib.crc32(content[: _FIELDS.size])
    ):
        return None
    return length_bytes, crc64


def slot_bytes(length_bytes: int) -> int:
    """Return the size of the slot of a recalled extent."""
    return -(-length_bytes // ALLOCATION_BYTES) * ALLOCATION_BYTES


def taken_bytes(container: str, length_bytes: int) -> int:
    """Return what a piece of this length takes up in a container of this name."""
    return record_bytes(length_bytes) if container.startswith(SEGMENT) else slot_bytes(length_bytes)
