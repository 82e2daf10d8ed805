"""
The layout of a bundle: from a frozen plan to every byte of the tar that is not an object's own.

``layout`` measures; ``BundleLayout.pieces`` then yields headers and the places of contents one after the other, made
when they are asked for, so that a bundle of a hundred thousand members needs no memory for its headers.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from zlib import crc32

from .member import BundleMember, BundlePlan, member_json_parts, quoted, to_json
from .names import member_name, version_tag
from .paths import FORMAT_VERSION, manifest_member_name
from .tarblocks import END_OF_ARCHIVE, member_header, member_header_bytes, padding_bytes

__all__ = [
    "BundleLayout",
    "BundleMember",
    "BundlePlan",
    "Content",
    "Literal",
    "Placement",
    "compose",
    "layout",
]

COMMENT_PREFIX = f"coldstore-member {FORMAT_VERSION} "
"""Begins the pax ``comment`` of every member; a CRC-32 in hexadecimal and the member's canonical JSON follow."""

_SEAL_BYTES = len(COMMENT_PREFIX) + len("00000000 ")

END_LINE_LEAST_BYTES = 512
"""The manifest's last line is padded with spaces to at least this and so far that the manifest fills whole blocks."""

_MANIFEST_CHUNK_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Literal:
    """Bytes of the format itself, to be written as they are."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Content:
    """Here ``length_bytes`` bytes of the member at ``position`` of the plan are to be written."""

    position: int
    length_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a member lies in the tar. A recall reads ``length_bytes`` from ``data_offset_bytes`` on, nothing else."""

    name: str
    header_offset_bytes: int
    data_offset_bytes: int
    length_bytes: int


def name_of(member: BundleMember) -> str:
    """The member's name in the tar."""
    facts = member.facts
    tag = version_tag(facts.version_id, member.version_uid)
    return member_name(facts.bucket, facts.key, tag, member.extent, member.extent_count)


def seal(canonical: bytes) -> bytes:
    """The pax ``comment`` around a member's JSON; the tar header's own checksum does not cover extended headers."""
    return b"%s%08x %s" % (COMMENT_PREFIX.encode(), crc32(canonical), canonical)


def header_of(position: int, member: BundleMember) -> bytes:
    """The tar headers of ``member``; they depend on its position in the plan only by the fallback name."""
    return _header(position, member, name_of(member), *member_json_parts(member))


def _header(position: int, member: BundleMember, name: str, numbers: str, texts: str) -> bytes:
    comment = seal(f"{{{numbers},{texts}}}".encode())
    return member_header(position, name.encode(), member.length_bytes, member.facts.created_at, comment)


def _manifest_line(
    name: str, numbers: str, texts: str, header_offset_bytes: int, data_offset_bytes: int
) -> bytes:
    placement = _placement_json(header_offset_bytes, data_offset_bytes, name)
    return f"{{{numbers},{placement},{texts}}}\n".encode()


def head_line(plan: BundlePlan) -> bytes:
    """The manifest's first line."""
    head = {
        "coldstore_bundle_manifest": FORMAT_VERSION,
        "bundle_id": plan.bundle_id,
        "created_at": float(plan.created_at),
        "appliance_id": plan.appliance_id,
        "pools": plan.pools,
        "members": len(plan.members),
    }
    return to_json(head).encode() + b"\n"


def _placement_json(header_offset_bytes: int, data_offset_bytes: int, name: str) -> str:
    return f'"header_offset_bytes":{header_offset_bytes},"data_offset_bytes":{data_offset_bytes},"name":{quoted(name)}'


def _utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


class BundleLayout:
    """
    Where everything of one bundle lies. Made by ``layout``.

    ``total_bytes`` is the size of the file, ``content_bytes`` that of all members' data without headers and padding.
    """

    def __init__(
        self,
        plan: BundlePlan,
        header_offsets: "array[int]",
        data_offsets: "array[int]",
        manifest_header_offset_bytes: int,
        lines_bytes: int,
    ) -> None:
        self.plan = plan
        self._header_offsets = header_offsets
        self._data_offsets = data_offsets
        self.content_bytes = sum(member.length_bytes for member in plan.members)
        end_line_bytes = END_LINE_LEAST_BYTES + padding_bytes(lines_bytes)
        self._end_line_bytes = end_line_bytes
        self.manifest_header_offset_bytes = manifest_header_offset_bytes
        self.manifest_length_bytes = lines_bytes + end_line_bytes
        self.manifest_offset_bytes = manifest_header_offset_bytes + len(self._manifest_header())
        self.total_bytes = self.manifest_offset_bytes + self.manifest_length_bytes + len(END_OF_ARCHIVE)

    def placement(self, position: int) -> Placement:
        """Where the member at ``position`` of the plan lies."""
        member = self.plan.members[position]
        return Placement(
            name=name_of(member),
            header_offset_bytes=self._header_offsets[position],
            data_offset_bytes=self._data_offsets[position],
            length_bytes=member.length_bytes,
        )

    def data_offset_bytes(self, position: int) -> int:
        """Where the data of the member at ``position`` begin in the tar."""
        return self._data_offsets[position]

    def pieces(self) -> Iterator[Literal | Content]:
        """Everything of the tar in order; a member without bytes has no ``Content``."""
        padding = b""
        for position, member in enumerate(self.plan.members):
            yield Literal(padding + header_of(position, member))
            if member.length_bytes:
                yield Content(position, member.length_bytes)
            padding = bytes(padding_bytes(member.length_bytes))
        yield Literal(padding + self._manifest_header())
        chunk = bytearray()
        for line in self.manifest_lines():
            chunk += line
            if len(chunk) >= _MANIFEST_CHUNK_BYTES:
                yield Literal(bytes(chunk))
                chunk.clear()
        yield Literal(bytes(chunk) + END_OF_ARCHIVE)

    def manifest_lines(self) -> Iterator[bytes]:
        """The bundle's manifest: a head, one line per member in their order, and the end line."""
        digest = sha256()
        head = head_line(self.plan)
        digest.update(head)
        yield head
        for position, member in enumerate(self.plan.members):
            header_offset, data_offset = self._header_offsets[position], self._data_offsets[position]
            line = _manifest_line(name_of(member), *member_json_parts(member), header_offset, data_offset)
            digest.update(line)
            yield line
        yield self._end_line(digest.hexdigest())

    def behind_members(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """
        What comes behind the last member and its padding.

        :param lines: those of the manifest but its last one, as ``manifest_lines`` has them
        """
        yield self._manifest_header()
        digest = sha256()
        for line in lines:
            digest.update(line)
            yield line
        yield self._end_line(digest.hexdigest())
        yield END_OF_ARCHIVE

    def _manifest_header(self) -> bytes:
        name = manifest_member_name(self.plan.bundle_id).encode()
        number = len(self.plan.members)
        return member_header(number, name, self.manifest_length_bytes, self.plan.created_at, None)

    def _end_line(self, lines_sha256: str) -> bytes:
        end = to_json(
            {
                "end_of_manifest": self.plan.bundle_id,
                "members": len(self.plan.members),
                "content_bytes": self.content_bytes,
                "manifest_header_offset_bytes": self.manifest_header_offset_bytes,
                "manifest_offset_bytes": self.manifest_offset_bytes,
                "manifest_length_bytes": self.manifest_length_bytes,
                "bundle_bytes": self.total_bytes,
                "lines_sha256": lines_sha256,
            }
        )
        return end.encode().ljust(self._end_line_bytes - 1) + b"\n"


def layout(plan: BundlePlan) -> BundleLayout:
    """
    Measure a plan: all offsets and the size of the tar, before its first byte is made.

    The same plan gives the same layout and the same pieces, whenever and wherever it is called.
    """
    header_offsets = array("Q")
    data_offsets = array("Q")
    offset = 0
    lines_bytes = len(head_line(plan))
    for member in plan.members:
        header_offsets.append(offset)
        name = name_of(member)
        numbers, texts = member_json_parts(member)
        facts_bytes = _utf8_bytes(numbers) + _utf8_bytes(texts) + len("{,}")
        created_at = member.facts.created_at
        comment_bytes = _SEAL_BYTES + facts_bytes
        data_offset = offset + member_header_bytes(
            _utf8_bytes(name), member.length_bytes, created_at, comment_bytes
        )
        data_offsets.append(data_offset)
        lines_bytes += facts_bytes + _utf8_bytes(_placement_json(offset, data_offset, name)) + len(",\n")
        offset = data_offset + member.length_bytes + padding_bytes(member.length_bytes)
    return BundleLayout(plan, header_offsets, data_offsets, offset, lines_bytes)


def compose(plan: BundlePlan, put: Callable[[bytes], object]) -> tuple[BundleLayout, "array[int]"]:
    """
    Lay a plan out and make everything of its tar that is no object's own, in one go: what ``layout`` and ``BundleLayout.pieces`` do,
    for those who have room for all of it.

    :param put: is given those bytes in their order
    :return: the layout, and for each member how many of the bytes come between the content of the one before it and its own
    """
    header_offsets, data_offsets, own_lengths = array("Q"), array("Q"), array("Q")
    offset = 0
    padding = b""
    lines = [head_line(plan)]
    for position, member in enumerate(plan.members):
        name = name_of(member)
        numbers, texts = member_json_parts(member)
        header = _header(position, member, name, numbers, texts)
        put(padding + header)
        data_offset = offset + len(header)
        header_offsets.append(offset)
        data_offsets.append(data_offset)
        own_lengths.append(len(padding) + len(header))
        lines.append(_manifest_line(name, numbers, texts, offset, data_offset))
        padding = bytes(padding_bytes(member.length_bytes))
        offset = data_offset + member.length_bytes + len(padding)
    made = BundleLayout(plan, header_offsets, data_offsets, offset, sum(map(len, lines)))
    put(padding)
    for part in made.behind_members(lines):
        put(part)
    return made, own_lengths
