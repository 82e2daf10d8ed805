"""
Manifests: what a bundle says of itself, and what a session says of all the bundles that it wrote to one cartridge.

Readers are total: whatever the bytes, they return what the writer would have written them for, or raise
``ManifestDamaged``. To accept a manifest they lay its plan out again and compare every line, so a manifest that
contradicts itself or the format is never believed.
"""

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

from .bundle import BundleLayout, BundleMember, BundlePlan, Placement, layout
from .errors import ManifestDamaged
from .member import integer_field, member_from_record, number_field, parse_json_object, text_field, to_json
from .paths import FORMAT_VERSION, bundle_path, is_id

_MAGIC = b"coldstore-session-manifest"
_HEAD_LIMIT_BYTES = 256
_GZIP = 31
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PARTITION = re.compile(r"[a-z]")
_TEXT_LIMIT_BYTES = 1 << 33


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleManifest:
    """A bundle as its manifest describes it; ``layout`` says where each member lies."""

    plan: BundlePlan
    layout: BundleLayout

    def placements(self) -> Iterator[tuple[BundleMember, Placement]]:
        """Every member with its place in the tar, in the order on tape."""
        for position, member in enumerate(self.plan.members):
            yield member, self.layout.placement(position)


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleFile:
    """
    A bundle as a file of one cartridge: its SHA-256 in hexadecimal, LTFS partition letter and start block.

    :raises ValueError: at construction, for values that cannot be such.
    """

    bundle_id: str
    size_bytes: int
    sha256: str
    partition: str
    start_block: int

    def __post_init__(self) -> None:
        if not is_id(self.bundle_id) or not _SHA256.fullmatch(self.sha256):
            raise ValueError(f"not a bundle id or no SHA-256: {self.bundle_id!r} {self.sha256!r}")
        if not _PARTITION.fullmatch(self.partition) or self.start_block < 0 or self.size_bytes < 0:
            raise ValueError(f"not a place on tape: {self.partition!r} {self.start_block} {self.size_bytes}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFacts:
    """Which session wrote to which cartridge. ``created_at`` is in unix seconds; ``barcode`` is the full one."""

    session_id: str
    created_at: float
    appliance_id: str
    pool: str
    barcode: str
    volume_uuid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionManifest:
    """All bundles that one session wrote to one cartridge, in their order on tape."""

    facts: SessionFacts
    bundles: tuple[tuple[BundleFile, BundleManifest], ...]


def _record(line: bytes, number: int) -> dict[str, object]:
    try:
        return parse_json_object(line.decode())
    except ValueError as error:
        raise ManifestDamaged(f"line {number}: {error}") from error


def _check_version(record: dict[str, object], name: str, number: int) -> None:
    version = record.get(name)
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise ManifestDamaged(f"line {number}: {name} {version!r} is not version {FORMAT_VERSION}")


def _texts_field(record: dict[str, object], name: str) -> tuple[str, ...]:
    values = record.get(name)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"field {name!r} is missing or not a list of texts")
    return tuple(values)


def _read_lines(lines: list[bytes], first: int) -> tuple[BundleManifest, int]:
    """The bundle manifest that begins at index ``first`` of ``lines``, and the index behind it."""
    if first >= len(lines):
        raise ManifestDamaged(f"line {first + 1}: the manifest of a bundle is missing")
    head = _record(lines[first], first + 1)
    _check_version(head, "coldstore_bundle_manifest", first + 1)
    index = first + 1
    try:
        count = integer_field(head, "members")
        if not 0 <= count <= len(lines) - index - 1:
            raise ValueError(f"{count} members are announced, but the text ends before")
        members: list[BundleMember] = []
        while len(members) < count:
            members.append(member_from_record(_record(lines[index], index + 1)))
            index += 1
        index = first
        plan = BundlePlan(
            bundle_id=text_field(head, "bundle_id"),
            created_at=number_field(head, "created_at"),
            appliance_id=text_field(head, "appliance_id"),
            pools=_texts_field(head, "pools"),
            members=tuple(members),
        )
        measured = layout(plan)
    except (ValueError, OverflowError) as error:
        raise ManifestDamaged(f"line {index + 1}: {error}") from error
    for line in measured.manifest_lines():
        if lines[index] + b"\n" != line:
            raise ManifestDamaged(f"line {index + 1} differs from what the format makes of the members")
        index += 1
    return BundleManifest(plan=plan, layout=measured), index


def _split(text: bytes) -> list[bytes]:
    if not text.endswith(b"\n"):
        raise ManifestDamaged("the text does not end with a line feed: it is truncated")
    return text[:-1].split(b"\n")


def parse_bundle_manifest(text: bytes) -> BundleManifest:
    """
    A bundle's manifest from its text, which is the content of the manifest's member in the tar.

    :raises ManifestDamaged: if it is not exactly what the writer makes for such a bundle.
    """
    lines = _split(text)
    manifest, index = _read_lines(lines, 0)
    if index != len(lines):
        raise ManifestDamaged(f"line {index + 1}: text behind the end of the manifest")
    return manifest


def _session_line(facts: SessionFacts) -> bytes:
    record = {
        "coldstore_session": FORMAT_VERSION,
        "session_id": facts.session_id,
        "created_at": float(facts.created_at),
        "appliance_id": facts.appliance_id,
        "pool": facts.pool,
        "barcode": facts.barcode,
        "volume_uuid": facts.volume_uuid,
    }
    return to_json(record).encode() + b"\n"


def _file_line(file: BundleFile) -> bytes:
    record = {
        "bundle_file": bundle_path(file.bundle_id),
        "bundle_id": file.bundle_id,
        "size_bytes": file.size_bytes,
        "sha256": file.sha256,
        "partition": file.partition,
        "start_block": file.start_block,
    }
    return to_json(record).encode() + b"\n"


def _end_line(facts: SessionFacts, bundles: int) -> bytes:
    return to_json({"end_of_session": facts.session_id, "bundles": bundles}).encode() + b"\n"


class SessionManifestWriter:
    """
    Collects the manifests of a session, compressing as it goes, so that only compressed text stays in memory.

    ``compressed_bytes`` lets the caller end a session before its manifest outgrows ``PLACEMENT_LIMIT_BYTES``.
    """

    def __init__(self, facts: SessionFacts) -> None:
        if not is_id(facts.session_id):
            raise ValueError(f"not a session id: {facts.session_id!r}")
        self._facts = facts
        self._deflate = zlib.compressobj(6, zlib.DEFLATED, _GZIP)
        self._parts: list[bytes] = []
        self._bundles = 0
        self.compressed_bytes = 0
        self.text_bytes = 0
        self._write(_session_line(facts))

    def add(self, file: BundleFile, bundle: BundleLayout) -> None:
        """
        Take a bundle that was written to this cartridge, in the order of writing.

        :raises ValueError: if the file is of another bundle or size than the layout.
        """
        if file.bundle_id != bundle.plan.bundle_id or file.size_bytes != bundle.total_bytes:
            raise ValueError(
                f"file {file.bundle_id} is not of bundle {bundle.plan.bundle_id}, or its size differs"
            )
        self._write(_file_line(file))
        for line in bundle.manifest_lines():
            self._write(line)
        self._keep(self._deflate.flush(zlib.Z_SYNC_FLUSH))
        self._bundles += 1

    def finish(self) -> bytes:
        """The whole file. The writer is used up."""
        self._write(_end_line(self._facts, self._bundles))
        self._keep(self._deflate.flush())
        body = b"".join(self._parts)
        head = b"%s %d %d %d %s\n" % (
            _MAGIC,
            FORMAT_VERSION,
            len(body),
            self.text_bytes,
            sha256(body).hexdigest().encode(),
        )
        return head + body

    def _write(self, line: bytes) -> None:
        self.text_bytes += len(line)
        self._keep(self._deflate.compress(line))

    def _keep(self, part: bytes) -> None:
        if part:
            self._parts.append(part)
            self.compressed_bytes += len(part)


def session_text(data: bytes) -> bytes:
    """
    The text inside a session's manifest, its self-checksum proven.

    :raises ManifestDamaged: for a truncated or changed file or an unknown version.
    """
    end = data.find(b"\n", 0, _HEAD_LIMIT_BYTES)
    fields = data[: max(end, 0)].split(b" ")
    if len(fields) != 5 or fields[0] != _MAGIC:
        raise ManifestDamaged("the first line is not that of a session's manifest")
    if fields[1] != b"%d" % FORMAT_VERSION:
        raise ManifestDamaged(f"version {fields[1].decode('ascii', 'replace')} is not known")
    if not (fields[2].isdigit() and fields[3].isdigit()):
        raise ManifestDamaged("the first line has no lengths")
    body = data[end + 1 :]
    body_bytes, text_bytes = int(fields[2]), int(fields[3])
    if len(body) != body_bytes:
        raise ManifestDamaged(f"{len(body)} bytes follow the first line instead of {body_bytes}")
    if sha256(body).hexdigest().encode() != fields[4]:
        raise ManifestDamaged("the SHA-256 of the content differs from that in the first line")
    if text_bytes > _TEXT_LIMIT_BYTES:
        raise ManifestDamaged(f"a text of {text_bytes} bytes is announced")
    try:
        inflate = zlib.decompressobj(_GZIP)
        text = inflate.decompress(body, text_bytes + 1)
    except zlib.error as error:
        raise ManifestDamaged(f"the content is not gzip: {error}") from error
    if len(text) != text_bytes or not inflate.eof or inflate.unused_data:
        raise ManifestDamaged(f"the content does not decompress to {text_bytes} bytes")
    return text


def parse_session_manifest(data: bytes) -> SessionManifest:
    """
    A session's manifest from the bytes of its file.

    :raises ManifestDamaged: if it is not exactly what the writer makes for such a session.
    """
    lines = _split(session_text(data))
    head = _record(lines[0], 1)
    _check_version(head, "coldstore_session", 1)
    try:
        facts = SessionFacts(
            session_id=text_field(head, "session_id"),
            created_at=number_field(head, "created_at"),
            appliance_id=text_field(head, "appliance_id"),
            pool=text_field(head, "pool"),
            barcode=text_field(head, "barcode"),
            volume_uuid=text_field(head, "volume_uuid"),
        )
        if not is_id(facts.session_id) or _session_line(facts) != lines[0] + b"\n":
            raise ValueError("not in the format's form")
    except ValueError as error:
        raise ManifestDamaged(f"line 1: {error}") from error
    bundles: list[tuple[BundleFile, BundleManifest]] = []
    index = 1
    while index < len(lines) and lines[index].startswith(b'{"bundle_file":'):
        file = _read_file_line(lines[index], index + 1)
        manifest, index = _read_lines(lines, index + 1)
        if manifest.plan.bundle_id != file.bundle_id or manifest.layout.total_bytes != file.size_bytes:
            raise ManifestDamaged(f"line {index}: the manifest is not that of file {file.bundle_id}")
        bundles.append((file, manifest))
    if lines[index:] != [_end_line(facts, len(bundles))[:-1]]:
        raise ManifestDamaged(f"line {index + 1}: the end of the session is expected here")
    return SessionManifest(facts=facts, bundles=tuple(bundles))


def _read_file_line(line: bytes, number: int) -> BundleFile:
    record = _record(line, number)
    try:
        file = BundleFile(
            bundle_id=text_field(record, "bundle_id"),
            size_bytes=integer_field(record, "size_bytes"),
            sha256=text_field(record, "sha256"),
            partition=text_field(record, "partition"),
            start_block=integer_field(record, "start_block"),
        )
        if _file_line(file) != line + b"\n":
            raise ValueError("not in the format's form")
    except ValueError as error:
        raise ManifestDamaged(f"line {number}: {error}") from error
    return file
