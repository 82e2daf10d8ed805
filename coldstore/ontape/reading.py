"""Reading bundles back: by walking the headers of the tar, or by the manifest found from its end."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from .bundle import COMMENT_PREFIX, END_LINE_LEAST_BYTES, header_of, name_of, seal
from .errors import BundleDamaged, ManifestDamaged
from .manifest import BundleManifest, parse_bundle_manifest
from .member import BundleMember, integer_field, member_from_record, parse_json_object, text_field
from .paths import is_id, manifest_member_name
from .tarblocks import BLOCK_BYTES, END_OF_ARCHIVE, padding_bytes

_EXTENDED_LIMIT_BYTES = 1 << 22
BUNDLE_TAIL_BYTES = END_LINE_LEAST_BYTES + BLOCK_BYTES + len(END_OF_ARCHIVE)
"""So many bytes from the end of a bundle hold the last line of its manifest."""
_MANIFEST_LIMIT_BYTES = 1 << 33


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkedMember:
    """A member as its own header describes it, and where it lies in the tar."""

    member: BundleMember
    name: str
    header_offset_bytes: int
    data_offset_bytes: int


def _read_exactly(bundle: BinaryIO, offset: int, length: int) -> bytes:
    bundle.seek(offset)
    data = bundle.read(length)
    if len(data) != length:
        raise BundleDamaged(f"at byte {offset}: the bundle ends within {length} bytes that are expected here")
    return data


def _octal(field: bytes, offset: int) -> int:
    digits = field.rstrip(b"\0 ")
    if not digits or digits.strip(b"01234567"):
        raise BundleDamaged(f"at byte {offset}: a number of the header is not octal")
    return int(digits, 8)


def _records(extended: bytes, offset: int) -> dict[bytes, bytes]:
    records: dict[bytes, bytes] = {}
    start = 0
    while start < len(extended):
        length_text, blank, _ = extended[start : start + 20].partition(b" ")
        if not blank or not length_text.isdigit():
            raise BundleDamaged(f"at byte {offset + start}: a pax record has no length")
        end = start + int(length_text)
        record = extended[start + len(length_text) + 1 : end]
        keyword, equals, value = record.partition(b"=")
        if end > len(extended) or not equals or not value.endswith(b"\n"):
            raise BundleDamaged(f"at byte {offset + start}: a pax record is not well-formed")
        records[keyword] = value[:-1]
        start = end
    return records


def walk(bundle: BinaryIO) -> Iterator[WalkedMember]:
    """
    Every member in order, from the headers alone; contents are skipped, not read.

    Needs nothing but the tar up to the member asked for, so it also serves bundles whose end is lost. Ends at the
    bundle's manifest.

    :raises BundleDamaged: where a header is not exactly what the writer makes for such a member, or the file ends.
    """
    offset = 0
    position = 0
    while True:
        first = _read_exactly(bundle, offset, BLOCK_BYTES)
        if first[156:157] != b"x" or first[257:265] != b"ustar\x0000":
            raise BundleDamaged(f"at byte {offset}: the header of a member is expected here")
        extended_bytes = _octal(first[124:136], offset)
        if extended_bytes > _EXTENDED_LIMIT_BYTES:
            raise BundleDamaged(f"at byte {offset}: an extended header of {extended_bytes} bytes")
        records = _records(_read_exactly(bundle, offset + BLOCK_BYTES, extended_bytes), offset + BLOCK_BYTES)
        comment = records.get(b"comment")
        if comment is None:
            _check_manifest_name(records, offset)
            return
        member = _member(comment, offset)
        expected = header_of(position, member)
        if _read_exactly(bundle, offset, len(expected)) != expected:
            raise BundleDamaged(
                f"at byte {offset}: the header differs from what the format makes of the member"
            )
        data_offset = offset + len(expected)
        yield WalkedMember(
            member=member, name=name_of(member), header_offset_bytes=offset, data_offset_bytes=data_offset
        )
        offset = data_offset + member.length_bytes + padding_bytes(member.length_bytes)
        position += 1


def _check_manifest_name(records: dict[bytes, bytes], offset: int) -> None:
    name = records.get(b"path", b"").decode("utf-8", "replace")
    identity = name.removeprefix("manifests/").removesuffix(".jsonl")
    try:
        is_manifest = name == manifest_member_name(identity)
    except ValueError:
        is_manifest = False
    if not is_manifest:
        raise BundleDamaged(f"at byte {offset}: a member without facts is not the manifest: {name!r}")


def _member(comment: bytes, offset: int) -> BundleMember:
    prefix = COMMENT_PREFIX.encode()
    if not comment.startswith(prefix):
        raise BundleDamaged(f"at byte {offset}: the member's comment is not of a known version")
    canonical = comment[len(prefix) + len("00000000 ") :]
    if comment != seal(canonical):
        raise BundleDamaged(f"at byte {offset}: the CRC-32 of the member's facts differs")
    try:
        return member_from_record(parse_json_object(canonical.decode()))
    except ValueError as error:
        raise BundleDamaged(f"at byte {offset}: {error}") from error


def _end_record(tail: bytes) -> dict[str, object]:
    """The last line of a bundle's manifest, from the end of the bundle."""
    if not tail.endswith(b"\n" + END_OF_ARCHIVE):
        raise BundleDamaged("the file does not end as a bundle does: it is truncated or still being written")
    line = tail[: -len(END_OF_ARCHIVE) - 1].rpartition(b"\n")[2]
    try:
        return parse_json_object(line.decode())
    except ValueError as error:
        raise BundleDamaged(f"the last line of the manifest: {error}") from error


def bundle_id_of_tail(tail: bytes, total_bytes: int) -> str:
    """
    Which bundle a file is, by its size and the last ``BUNDLE_TAIL_BYTES`` of it (or all, if it has less).

    :raises BundleDamaged: if these are not the end of a bundle of that size.
    """
    end = _end_record(tail)
    try:
        bundle_id = text_field(end, "end_of_manifest")
        if not is_id(bundle_id) or integer_field(end, "bundle_bytes") != total_bytes:
            raise ValueError(f"it is not of a bundle of {total_bytes} bytes")
    except ValueError as error:
        raise BundleDamaged(f"the last line of the manifest: {error}") from error
    return bundle_id


def read_manifest(bundle: BinaryIO) -> BundleManifest:
    """
    The manifest of a bundle, found by the line that ends it, without reading anything else of the tar.

    :raises BundleDamaged: if the end of the file does not lead to a manifest.
    :raises ManifestDamaged: if it does and the manifest is damaged.
    """
    total_bytes = bundle.seek(0, 2)
    tail_bytes = min(total_bytes, BUNDLE_TAIL_BYTES)
    end = _end_record(_read_exactly(bundle, total_bytes - tail_bytes, tail_bytes))
    try:
        offset = integer_field(end, "manifest_offset_bytes")
        length = integer_field(end, "manifest_length_bytes")
        if min(offset, length) < 0 or offset + length + len(END_OF_ARCHIVE) != total_bytes:
            raise ValueError("its numbers do not fit the size of the file")
        if length > _MANIFEST_LIMIT_BYTES:
            raise ValueError(f"a manifest of {length} bytes")
    except ValueError as error:
        raise BundleDamaged(f"the last line of the manifest: {error}") from error
    manifest = parse_bundle_manifest(_read_exactly(bundle, offset, length))
    if manifest.layout.manifest_offset_bytes != offset:
        raise ManifestDamaged(
            f"the manifest lies at {offset} instead of {manifest.layout.manifest_offset_bytes}"
        )
    return manifest
