"""Which bytes of an object a request means: ``Range``, ``partNumber`` and the range of a copied part."""

import re
from dataclasses import dataclass

from coldstore.s3.errors import S3Error, shown
from coldstore.s3.part_sizes import part_count, part_extent

PART_NUMBER_MAX = 10_000
_RANGE = re.compile(r"\s*bytes\s*=\s*([0-9]*)\s*-\s*([0-9]*)\s*")
_COPY_RANGE = re.compile(r"bytes=([0-9]+)-([0-9]+)")
_DIGITS_MAX = 19


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteRange:
    """A run of an object's bytes; of how many parts it is which one, when it was asked for as a part of an object that has parts."""

    offset_bytes: int
    length_bytes: int
    parts_count: int | None = None
    part_number: int | None = None

    def content_range(self, size_bytes: int) -> str:
        """Return the value of ``Content-Range``."""
        return f"bytes {self.offset_bytes}-{self.offset_bytes + self.length_bytes - 1}/{size_bytes}"


def header_range(value: str | None, size_bytes: int) -> ByteRange | None:
    """
    Return what ``Range`` asks for, None for the whole: without the header, or where it is no single range of bytes.

    :raise S3Error: InvalidRange when it lies behind the end
    """
    match = None if value is None else _RANGE.fullmatch(value)
    if value is None or match is None:
        return None
    first, last = match.groups()
    if (not first and not last) or max(len(first), len(last)) > _DIGITS_MAX:
        return None
    if not first:
        length_bytes = min(int(last), size_bytes)
        if length_bytes == 0:
            raise _not_satisfiable(value, size_bytes)
        return ByteRange(offset_bytes=size_bytes - length_bytes, length_bytes=length_bytes)
    begin = int(first)
    end = min(int(last) + 1, size_bytes) if last else size_bytes
    if last and int(last) < begin:
        return None
    if begin >= size_bytes:
        raise _not_satisfiable(value, size_bytes)
    return ByteRange(offset_bytes=begin, length_bytes=end - begin)


def part_range(value: str, part_sizes: str, size_bytes: int) -> ByteRange:
    """
    Return the bytes of the part that ``partNumber`` asks for.

    :param part_sizes: as ``VersionFacts.part_sizes``; an object that was not uploaded in parts has one part
    :raise S3Error: InvalidArgument, InvalidPartNumber
    """
    number = part_number(value)
    count = part_count(part_sizes)
    extent = part_extent(part_sizes, number) if part_sizes else (0, size_bytes) if number == 1 else None
    if extent is None:
        raise S3Error(
            "InvalidPartNumber",
            f"The requested partnumber is not satisfiable: {number}, of an object with {count} part{'s' * (count != 1)}",
            details={"ActualPartCount": str(count), "PartNumberRequested": str(number)},
        )
    return ByteRange(
        offset_bytes=extent[0],
        length_bytes=extent[1],
        parts_count=count if part_sizes else None,
        part_number=number if part_sizes else None,
    )


def part_number(value: str | None) -> int:
    """
    Return a part number.

    :raise S3Error: InvalidArgument for anything but 1 to 10,000
    """
    if value is None or not (
        value.isascii()
        and value.isdigit()
        and len(value) <= _DIGITS_MAX
        and 1 <= int(value) <= PART_NUMBER_MAX
    ):
        raise S3Error(
            "InvalidArgument",
            f"Part number must be an integer between 1 and {PART_NUMBER_MAX}, inclusive, and not {shown(value or '')}",
            details={"ArgumentName": "partNumber", "ArgumentValue": value or ""},
        )
    return int(value)


def copy_range(value: str | None, size_bytes: int) -> ByteRange:
    """
    Return what ``x-amz-copy-source-range`` asks for, the whole source without it.

    :raise S3Error: InvalidArgument for another form, InvalidRange for bytes that the source does not have
    """
    if value is None:
        return ByteRange(offset_bytes=0, length_bytes=size_bytes)
    match = _COPY_RANGE.fullmatch(value.strip())
    if match is None or max(map(len, match.groups())) > _DIGITS_MAX:
        raise _bad_copy_range(
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the "
            "zero-based offsets of the first and last bytes to copy",
            value,
        )
    first, last = (int(text) for text in match.groups())
    if first > last:
        raise _bad_copy_range(
            f"The x-amz-copy-source-range value ends before it begins: {shown(value)}", value
        )
    if last >= size_bytes:
        raise S3Error(
            "InvalidRange",
            f"Range specified is not valid for source object of size: {size_bytes}, {shown(value)}",
            details={"RangeRequested": value.strip(), "ActualObjectSize": str(size_bytes)},
        )
    return ByteRange(offset_bytes=first, length_bytes=last - first + 1)


def _not_satisfiable(value: str, size_bytes: int) -> S3Error:
    return S3Error(
        "InvalidRange",
        f"The requested range is not satisfiable: {shown(value.strip())} of an object of {size_bytes} bytes",
        details={"RangeRequested": value.strip(), "ActualObjectSize": str(size_bytes)},
        headers={"Content-Range": f"bytes */{size_bytes}"},
    )


def _bad_copy_range(message: str, value: str) -> S3Error:
    return S3Error(
        "InvalidArgument",
        message,
        details={"ArgumentName": "x-amz-copy-source-range", "ArgumentValue": value},
    )
