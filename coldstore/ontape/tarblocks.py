"""
Tar blocks as the format writes them: POSIX.1-2001 pax interchange format, in one canonical form.

Every member has an extended header (type ``x``) and a ``ustar`` header. The numeric fields hold what fits; what does
not is in pax records, which override the fields. Owner is 0 without names, mode 0644, nothing else varies.
"""

from zlib import adler32

BLOCK_BYTES = 512

END_OF_ARCHIVE = bytes(2 * BLOCK_BYTES)

FIELD_LIMIT = 8**11
"""Sizes and times at or beyond this do not fit the 11 octal digits of a ustar field."""

_BEFORE_SIZE = b"0000644\0" + b"0000000\0" + b"0000000\0"
_AFTER_TYPE = (
    bytes(100) + b"ustar\0" + b"00" + bytes(32) + bytes(32) + b"0000000\0" + b"0000000\0" + bytes(155 + 12)
)
_FIXED_SUM = sum(b" " * 8) + sum(_AFTER_TYPE)


def padding_bytes(length_bytes: int) -> int:
    """How many zero bytes bring ``length_bytes`` to a whole number of blocks."""
    return -length_bytes % BLOCK_BYTES


def ustar_block(name: bytes, size_bytes: int, mtime: int, kind: bytes) -> bytes:
    """One header block; ``name`` is ASCII of at most 100 bytes, ``mtime`` whole unix seconds, both numbers fit."""
    varying = b"%s%s%s%011o\0%011o\0" % (name, bytes(100 - len(name)), _BEFORE_SIZE, size_bytes, mtime)
    # The lower half of Adler-32 is one more than the sum of the bytes, as long as that is below 65,521: of 148 bytes it is.
    checksum = (adler32(varying) & 0xFFFF) - 1 + kind[0] + _FIXED_SUM
    return b"%s%06o\0 %s%s" % (varying, checksum, kind, _AFTER_TYPE)


def pax_record_bytes(keyword: bytes, value_bytes: int) -> int:
    """The length of a pax record, which counts its own digits (POSIX, pax extended header)."""
    rest = len(keyword) + value_bytes + 3
    length = rest + len(str(rest))
    return length if len(str(length)) == len(str(rest)) else rest + len(str(length))


def pax_record(keyword: bytes, value: bytes) -> bytes:
    """``<length> <keyword>=<value>`` and a line feed."""
    return b"%d %s=%s\n" % (pax_record_bytes(keyword, len(value)), keyword, value)


def _overriding_records(size_bytes: int, mtime: float) -> bytes:
    """Records for what the fields of the ustar header cannot hold."""
    records = b""
    if not 0 <= mtime < FIELD_LIMIT or int(mtime) != mtime:
        records += pax_record(b"mtime", b"%.6f" % mtime)
    if size_bytes >= FIELD_LIMIT:
        records += pax_record(b"size", b"%d" % size_bytes)
    return records


def member_header_bytes(name_bytes: int, size_bytes: int, mtime: float, comment_bytes: int) -> int:
    """The length of what ``member_header`` makes, from the lengths of a name and of a comment in bytes."""
    extended_bytes = pax_record_bytes(b"path", name_bytes) + pax_record_bytes(b"comment", comment_bytes)
    extended_bytes += len(_overriding_records(size_bytes, mtime))
    return 2 * BLOCK_BYTES + extended_bytes + padding_bytes(extended_bytes)


def member_header(number: int, name: bytes, size_bytes: int, mtime: float, comment: bytes | None) -> bytes:
    """
    Both headers of member ``number``.

    ``name`` is UTF-8 without NUL and goes to the record ``path``; the ustar name is only for readers that know no
    pax. ``mtime`` is in unix seconds, kept to the microsecond.
    """
    records = [pax_record(b"path", name)]
    if comment is not None:
        records.append(pax_record(b"comment", comment))
    records.append(_overriding_records(size_bytes, mtime))
    extended = b"".join(records)
    short = b"member-%08d" % number
    field_size = size_bytes if size_bytes < FIELD_LIMIT else 0
    field_time = min(max(int(mtime), 0), FIELD_LIMIT - 1)
    return b"".join(
        (
            ustar_block(b"PaxHeaders/" + short, len(extended), field_time, b"x"),
            extended,
            bytes(padding_bytes(len(extended))),
            ustar_block(short, field_size, field_time, b"0"),
        )
    )
