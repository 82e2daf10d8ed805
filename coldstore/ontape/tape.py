"""
Tape files of a volume without a file system: the label, small files, and the index that lists everything (FORMAT-TAR.md).

A *tape file* is what lies between two file marks, and every one of them is a tar file. Readers are strict, as for manifests: what they accept
is what the writer would have written.
"""

import binascii
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256

from .errors import TapeFileDamaged
from .member import integer_field, number_field, parse_json_object, text_field, to_json
from .paths import FORMAT_VERSION, README_PATH
from .readme import READ_TAPE_BEGIN, READ_TAPE_END, READ_TAPE_SCRIPT, TAPE_README
from .tarblocks import BLOCK_BYTES, END_OF_ARCHIVE, member_header, padding_bytes, ustar_block

TAPE_BLOCK_BYTES = 256 * 1024
"""Every block of the tape but the last one of a tape file has so many bytes: ``tar -b 512``, ``dd bs=256k``."""

LABEL_MEMBER = "coldstore/tape.json"
INDEX_FOLDER = "coldstore/index"

_USTAR_NAME_LIMIT_BYTES = 100
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LAST_SECOND = 253402300800


@dataclass(frozen=True, slots=True, kw_only=True)
class TapeLabel:
    """
    Which volume a tape holds. ``created_at`` is in unix seconds.

    :raises ValueError: at construction, for a text that is empty or cannot be printed, or a time outside the years 1970 to 9999.
    """

    barcode: str
    volume_uuid: str
    volume_name: str
    created_at: float

    def __post_init__(self) -> None:
        for text in (self.barcode, self.volume_uuid, self.volume_name):
            if not text or not text.isprintable():
                raise ValueError(f"empty or not printable: {text!r}")
        if not 0 <= self.created_at < _LAST_SECOND:
            raise ValueError(f"created_at is out of range: {self.created_at}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TapeEntry:
    """
    One file of a volume, and where it lies.

    ``tape_file`` counts file marks from the beginning of the tape, ``block`` is the number of the first block as ``mt tell`` counts (blocks and
    file marks together); both are None for a file without bytes that was not wrapped. The content begins ``offset_bytes`` after the
    beginning of the tape file. ``sha256`` is None for what was not hashed.

    :raises ValueError: at construction, for values that cannot be such.
    """

    path: str
    size_bytes: int
    tape_file: int | None
    block: int | None
    offset_bytes: int
    sha256: str | None
    attributes: Mapping[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if "\0" in self.path or any(part in ("", ".", "..") for part in self.path.split("/")):
            raise ValueError(f"not a path within a volume: {self.path!r}")
        if min(self.size_bytes, self.offset_bytes, self.tape_file or 0, self.block or 0) < 0:
            raise ValueError(f"a negative number: {self}")
        if (self.tape_file is None) != (self.block is None) or (self.size_bytes and self.block is None):
            raise ValueError(f"not a place on tape: {self}")
        if self.sha256 is not None and not _SHA256.fullmatch(self.sha256):
            raise ValueError(f"not a SHA-256: {self.sha256!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TapeIndex:
    """
    Everything on a volume at one moment, written behind it.

    ``generation`` counts the volume's indexes from 1; ``message`` is for people; ``tape_file`` and ``block`` are where this index lies;
    ``used_bytes`` are those of all blocks before it; ``is_full`` says that the end of the tape was met.

    :raises ValueError: at construction, for numbers that cannot be such.
    """

    label: TapeLabel
    generation: int
    created_at: float
    message: str
    tape_file: int
    block: int
    used_bytes: int
    is_full: bool
    entries: tuple[TapeEntry, ...]

    def __post_init__(self) -> None:
        if self.generation < 1 or min(self.tape_file, self.block, self.used_bytes) < 0:
            raise ValueError(f"not an index: generation {self.generation} at {self.tape_file}, {self.block}")
        if not 0 <= self.created_at < _LAST_SECOND:
            raise ValueError(f"created_at is out of range: {self.created_at}")


def _header(path: str, size_bytes: int, mtime: float) -> bytes:
    name = path.encode()
    if len(name) <= _USTAR_NAME_LIMIT_BYTES and name.isascii():
        return ustar_block(name, size_bytes, int(mtime), b"0")
    return member_header(0, name, size_bytes, float(int(mtime)), None)


def _member(path: str, content: bytes, mtime: float) -> bytes:
    return _header(path, len(content), mtime) + content + bytes(padding_bytes(len(content)))


def small_file(path: str, content: bytes, mtime: float) -> tuple[bytes, int]:
    """
    The tape file of one small file, and the offset of its content in it.

    :param mtime: unix seconds.
    """
    return _member(path, content, mtime) + END_OF_ARCHIVE, len(_header(path, len(content), mtime))


def _first_name(data: bytes) -> bytes:
    """The name in the first tar header; empty when there is none."""
    is_ustar = len(data) >= BLOCK_BYTES and data[257:263] == b"ustar\0" and data[156:157] == b"0"
    return data[:_USTAR_NAME_LIMIT_BYTES].rstrip(b"\0") if is_ustar else b""


def is_label(data: bytes) -> bool:
    """Whether a tape file begins as a label does, as its first block tells."""
    return _first_name(data) == LABEL_MEMBER.encode()


def is_index(data: bytes) -> bool:
    """Whether a tape file begins as an index does, as its first block tells."""
    return _first_name(data).startswith(INDEX_FOLDER.encode() + b"/")


# --- The label


def label_file(label: TapeLabel) -> bytes:
    """The first tape file of a volume: the label, and ``README.txt`` for people."""
    record = {
        "coldstore_tape": FORMAT_VERSION,
        "barcode": label.barcode,
        "volume_uuid": label.volume_uuid,
        "volume_name": label.volume_name,
        "block_bytes": TAPE_BLOCK_BYTES,
        "created_at": float(label.created_at),
    }
    text = (json.dumps(record, ensure_ascii=False, indent=2) + "\n").encode()
    readme = TAPE_README.format(
        barcode=label.barcode,
        volume_uuid=label.volume_uuid,
        volume_name=label.volume_name,
        created_at=datetime.fromtimestamp(label.created_at, UTC).strftime("%Y-%m-%d %H:%M UTC"),
        format_version=FORMAT_VERSION,
        begin=READ_TAPE_BEGIN,
        end=READ_TAPE_END,
        script=READ_TAPE_SCRIPT,
    )
    members = _member(LABEL_MEMBER, text, label.created_at)
    return members + _member(README_PATH, readme.encode(), label.created_at) + END_OF_ARCHIVE


def parse_label_file(data: bytes) -> TapeLabel:
    """
    The label from the first tape file of a volume; of ``README.txt`` behind it nothing is expected.

    :raises TapeFileDamaged: if it is not exactly what the writer makes for such a label.
    """
    content = _only_content(data, is_label(data), "the label")
    try:
        record = parse_json_object(content.decode())
        _check_version(record, "coldstore_tape")
        label = TapeLabel(
            barcode=text_field(record, "barcode"),
            volume_uuid=text_field(record, "volume_uuid"),
            volume_name=text_field(record, "volume_name"),
            created_at=number_field(record, "created_at"),
        )
        if not label_file(label).startswith(data[: BLOCK_BYTES + len(content)]):
            raise ValueError("not in the format's form")
    except ValueError as error:
        raise TapeFileDamaged(f"the label: {error}") from error
    return label


# --- The index


def _lines(index: TapeIndex) -> bytes:
    head = {
        "coldstore_tape_index": FORMAT_VERSION,
        "generation": index.generation,
        "created_at": float(index.created_at),
        "barcode": index.label.barcode,
        "volume_uuid": index.label.volume_uuid,
        "volume_name": index.label.volume_name,
        "formatted_at": float(index.label.created_at),
        "message": index.message,
        "tape_file": index.tape_file,
        "block": index.block,
        "used_bytes": index.used_bytes,
        "is_full": index.is_full,
        "files": len(index.entries),
    }
    lines = [to_json(head)]
    for entry in index.entries:
        record = {
            "path": entry.path,
            "size_bytes": entry.size_bytes,
            "tape_file": entry.tape_file,
            "block": entry.block,
            "offset_bytes": entry.offset_bytes,
            "sha256": entry.sha256,
            "attributes": {
                name: b64encode(value).decode() for name, value in sorted(entry.attributes.items())
            },
        }
        lines.append(to_json(record))
    return "".join(f"{line}\n" for line in lines).encode()


def index_text(index: TapeIndex) -> bytes:
    """The lines of an index, with the end that proves them."""
    lines = _lines(index)
    end = {
        "end_of_index": index.generation,
        "files": len(index.entries),
        "lines_sha256": sha256(lines).hexdigest(),
    }
    return lines + to_json(end).encode() + b"\n"


def index_file(index: TapeIndex) -> bytes:
    """The tape file of an index: its text as the only member, named by the generation."""
    content, _ = small_file(
        f"{INDEX_FOLDER}/{index.generation:08d}.jsonl", index_text(index), index.created_at
    )
    return content


def parse_index_text(text: bytes) -> TapeIndex:
    """
    An index from its lines.

    :raises TapeFileDamaged: if they are not exactly what the writer makes for such an index.
    """
    try:
        head_line, *entry_lines, end, after = text.split(b"\n")
        head = parse_json_object(head_line.decode())
        _check_version(head, "coldstore_tape_index")
        if after or len(entry_lines) != integer_field(head, "files"):
            raise ValueError(f"{len(entry_lines)} files are listed instead of those announced")
        index = TapeIndex(
            label=TapeLabel(
                barcode=text_field(head, "barcode"),
                volume_uuid=text_field(head, "volume_uuid"),
                volume_name=text_field(head, "volume_name"),
                created_at=number_field(head, "formatted_at"),
            ),
            generation=integer_field(head, "generation"),
            created_at=number_field(head, "created_at"),
            message=text_field(head, "message"),
            tape_file=integer_field(head, "tape_file"),
            block=integer_field(head, "block"),
            used_bytes=integer_field(head, "used_bytes"),
            is_full=head.get("is_full") is True,
            entries=tuple(_entry(parse_json_object(line.decode())) for line in entry_lines),
        )
        if index_text(index) != text:
            raise ValueError(f"not in the format's form, or the checksum in {end[:100]!r} is another")
    except ValueError as error:
        raise TapeFileDamaged(f"an index: {error}") from error
    return index


def parse_index_file(data: bytes) -> TapeIndex:
    """
    An index from its tape file.

    :raises TapeFileDamaged: if it is not exactly what the writer makes for such an index.
    """
    index = parse_index_text(_only_content(data, is_index(data), "an index"))
    if index_file(index) != data:
        raise TapeFileDamaged("an index: the tar around it is not in the format's form")
    return index


def _entry(record: dict[str, object]) -> TapeEntry:
    attributes = record.get("attributes")
    if not isinstance(attributes, dict):
        raise ValueError("attributes are missing")
    return TapeEntry(
        path=text_field(record, "path"),
        size_bytes=integer_field(record, "size_bytes"),
        tape_file=_place(record, "tape_file"),
        block=_place(record, "block"),
        offset_bytes=integer_field(record, "offset_bytes"),
        sha256=None if record.get("sha256") is None else text_field(record, "sha256"),
        attributes={name: _decoded(value) for name, value in attributes.items()},
    )


def _place(record: dict[str, object], name: str) -> int | None:
    return None if record.get(name) is None else integer_field(record, name)


def _decoded(value: object) -> bytes:
    if not isinstance(value, str):
        raise ValueError("an attribute is no text")
    try:
        return b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError(f"an attribute is not base64: {error}") from error


def _check_version(record: dict[str, object], name: str) -> None:
    version = record.get(name)
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise ValueError(f"{name} {version!r} is not version {FORMAT_VERSION}")


def _only_content(data: bytes, is_of_kind: bool, what: str) -> bytes:
    """The content of the first member of a tape file whose name fits a ustar header."""
    if not is_of_kind:
        raise TapeFileDamaged(f"{what}: the tape file does not begin as it should")
    digits = data[124:135]
    if digits.strip(b"01234567"):
        raise TapeFileDamaged(f"{what}: its size is not octal")
    content = data[BLOCK_BYTES : BLOCK_BYTES + int(digits, 8)]
    if len(content) != int(digits, 8):
        raise TapeFileDamaged(f"{what}: it is cut off after {len(content)} bytes")
    return content
