"""
Completing a multipart upload: whether the list of parts is right, and what the object they make is like. Pure.

Source: S3 API Reference, CompleteMultipartUpload; S3 User Guide, "Checking object integrity for multipart uploads".
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType

from coldstore.model.objects import Checksum, ChecksumKind, Encryption, Piece
from coldstore.s3.conditions import unquoted
from coldstore.s3.encryption_pieces import plain_bytes
from coldstore.s3.errors import S3Error, shown
from coldstore.s3.integrity import bad_digest
from coldstore.s3.part_numbers import part_numbers_text
from coldstore.s3.part_sizes import part_sizes_text
from coldstore.s3.ranges import PART_NUMBER_MAX
from coldstore.s3.xml import Element, MalformedDocument, read_document
from coldstore.util.checksums import (
    combine_crc32,
    combine_crc32c,
    combine_crc64nvme,
    new_digest,
)

PART_MIN_BYTES = 5 * 1024**2
COMPLETE_DOCUMENT_MAX_BYTES = 8 * 1024**2
DEFAULT_ALGORITHM = "CRC64NVME"
_COMBINE = MappingProxyType(
    {"CRC32": combine_crc32, "CRC32C": combine_crc32c, "CRC64NVME": combine_crc64nvme}
)
_KINDS: Mapping[str, tuple[ChecksumKind, ...]] = MappingProxyType(
    {
        "CRC32": (ChecksumKind.COMPOSITE, ChecksumKind.FULL_OBJECT),
        "CRC32C": (ChecksumKind.COMPOSITE, ChecksumKind.FULL_OBJECT),
        "CRC64NVME": (ChecksumKind.FULL_OBJECT,),
        "SHA1": (ChecksumKind.COMPOSITE,),
        "SHA256": (ChecksumKind.COMPOSITE,),
        "SHA512": (ChecksumKind.COMPOSITE,),
        "MD5": (ChecksumKind.COMPOSITE,),
        "XXHASH64": (ChecksumKind.COMPOSITE,),
        "XXHASH3": (ChecksumKind.COMPOSITE,),
        "XXHASH128": (ChecksumKind.COMPOSITE,),
    }
)
"""Which kinds an algorithm can have; the first is the one without being asked for."""
_MD5_HEX = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedPart:
    """One entry of the client's list; ``checksums`` by algorithm in upper case, values in base64."""

    number: int
    etag: str
    checksums: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What the client says of the whole object. ``kind`` is of ``x-amz-checksum-type``."""

    size_bytes: int | None = None
    checksum: Checksum | None = None
    kind: ChecksumKind | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """
    The object that the listed parts make; sizes and ``crc64nvme`` are of what is stored.

    :ivar part_digests: of the object's algorithm, of each part in order; none of encrypted parts whose key nobody has
    """

    numbers: tuple[int, ...]
    size_bytes: int
    etag: str
    checksum: Checksum | None
    crc64nvme: int
    part_sizes: str
    part_digests: tuple[bytes, ...] = ()
    encryption: Encryption | None = None


def checksum_choice(algorithm: str | None, kind: str | None) -> tuple[str, ChecksumKind | None]:
    """
    Return algorithm (upper case, empty when the client names none) and kind that an upload shall have.

    :raise S3Error: InvalidRequest for unknown names and for pairs that do not exist
    """
    if algorithm is None:
        if kind is not None:
            raise S3Error(
                "InvalidRequest",
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
            )
        return "", None
    name = algorithm.strip().upper()
    if name not in _KINDS:
        raise S3Error(
            "InvalidRequest",
            f"Checksum algorithm provided is unsupported: {shown(algorithm)}. "
            f"Please try again with any of the valid types: [{', '.join(_KINDS)}]",
        )
    kinds = _KINDS[name]
    asked = kinds[0] if kind is None else checksum_kind(kind)
    if asked not in kinds:
        raise S3Error(
            "InvalidRequest",
            f"The {asked.value} checksum type cannot be used with the {name.lower()} checksum algorithm.",
        )
    return name, asked


def checksum_kind(value: str) -> ChecksumKind:
    """
    Return the kind that ``x-amz-checksum-type`` names.

    :raise S3Error: InvalidRequest
    """
    try:
        return ChecksumKind(value.strip().upper())
    except ValueError:
        raise S3Error(
            "InvalidRequest",
            f"Value for x-amz-checksum-type header is invalid: {shown(value)}; there are "
            + " and ".join(kind.value for kind in ChecksumKind),
        ) from None


def parse_complete(document: bytes) -> list[ListedPart]:
    """
    Read a CompleteMultipartUpload document.

    :raise MalformedDocument: for anything that is no such document, an empty list or one of more than 10,000 parts among it
    """
    root = read_document(
        document,
        ("CompleteMultipartUpload", "CompletedMultipartUpload"),
        limit_bytes=COMPLETE_DOCUMENT_MAX_BYTES,
    )
    parts = root.all("Part")
    if not 1 <= len(parts) <= PART_NUMBER_MAX:
        raise MalformedDocument(f"it lists {len(parts)} parts, and may have 1 to {PART_NUMBER_MAX}")
    return [_listed_part(part) for part in parts]


def _listed_part(part: Element) -> ListedPart:
    number, etag = (part.text_of("PartNumber") or "").strip(), part.text_of("ETag")
    if not (number.isascii() and number.isdigit() and len(number) <= 9) or etag is None:
        raise MalformedDocument("a Part has no PartNumber or no ETag")
    checksums = {}
    for child in part.children:
        name = child.name.removeprefix("Checksum")
        if name != child.name and name in _KINDS:
            value = (part.text_of(child.name) or "").strip()
            if value:
                checksums[name] = value
    return ListedPart(number=int(number), etag=unquoted(etag), checksums=checksums)


def plan_completion(
    listed: Sequence[ListedPart],
    uploaded: Mapping[int, Piece],
    *,
    upload_id: str,
    algorithm: str,
    kind: ChecksumKind | None,
    claims: Claims,
    encryption: Encryption | None = None,
) -> Completion:
    """
    Check a list of parts against what was uploaded and against the client's claims.

    :param uploaded: the parts by number; encrypted ones without checksums where nobody has their key
    :param encryption: of the upload
    :param algorithm: of the upload, empty when it named none
    :raise S3Error: InvalidPartOrder, InvalidPart, EntityTooSmall, InvalidRequest, BadDigest
    """
    numbers = tuple(part.number for part in listed)
    for earlier, later in pairwise(numbers):
        if later <= earlier:
            raise S3Error(
                "InvalidPartOrder",
                f"The list of parts was not in ascending order: part {later} stands after part {earlier}.",
                details={"UploadId": upload_id},
            )
    pieces = [_matching(part, uploaded, upload_id) for part in listed]
    sizes = [_content_bytes(piece, encryption) for piece in pieces]
    for piece, part_bytes in zip(pieces[:-1], sizes, strict=False):
        if part_bytes < PART_MIN_BYTES:
            raise S3Error(
                "EntityTooSmall",
                f"Part {piece.ordinal} has {part_bytes} bytes: your proposed upload is smaller than the minimum allowed "
                f"object size. Every part but the last has at least {PART_MIN_BYTES}.",
                details={
                    "ProposedSize": str(part_bytes),
                    "MinSizeAllowed": str(PART_MIN_BYTES),
                    "PartNumber": str(piece.ordinal),
                    "ETag": piece.etag,
                },
            )
    size_bytes = sum(sizes)
    if claims.size_bytes is not None and claims.size_bytes != size_bytes:
        raise S3Error(
            "InvalidRequest",
            f"The provided 'x-amz-mp-object-size' header value {claims.size_bytes} does not match what was computed: "
            f"{size_bytes}",
        )
    crc64nvme = _combined("CRC64NVME", [(piece.crc64nvme, piece.length_bytes) for piece in pieces])
    checksum: Checksum | None = None
    digests: list[bytes] = []
    if encryption is None or all(piece.checksum is not None for piece in pieces):
        digests = [_part_digest(piece, algorithm, encryption) for piece in pieces]
        checksum = _object_checksum(digests, sizes, algorithm or DEFAULT_ALGORITHM, kind)
    _check_claims(claims, checksum)
    return Completion(
        numbers=numbers,
        size_bytes=sum(piece.length_bytes for piece in pieces),
        etag=multipart_etag([piece.etag for piece in pieces]),
        checksum=checksum,
        crc64nvme=crc64nvme,
        part_sizes=part_sizes_text(piece.length_bytes for piece in pieces),
        part_digests=tuple(digests),
        encryption=None
        if encryption is None
        else encryption._replace(
            size_bytes=size_bytes,
            part_sizes=part_sizes_text(sizes),
            part_numbers=part_numbers_text(numbers),
        ),
    )


def _content_bytes(piece: Piece, encryption: Encryption | None) -> int:
    """Return the size of a part as its client knows it."""
    if encryption is None:
        return piece.length_bytes
    return plain_bytes(piece.length_bytes, encryption.chunk_bytes)


def crc64nvme_checksum(crc64nvme: int) -> Checksum:
    """Return the checksum that objects have whose clients name none."""
    return Checksum(algorithm=DEFAULT_ALGORITHM, value=b64encode(crc64nvme.to_bytes(8, "big")).decode())


def multipart_etag(part_etags: Sequence[str]) -> str:
    """Return the ETag of an object of parts: the MD5 of their MD5s, and how many there are."""
    digest = new_digest("md5")
    digest.update(b"".join(bytes.fromhex(etag) for etag in part_etags))
    return f"{digest.digest().hex()}-{len(part_etags)}"


def _matching(part: ListedPart, uploaded: Mapping[int, Piece], upload_id: str) -> Piece:
    """Return the part that is meant; a client that says no checksum of it has said it with the part, where it was verified."""
    piece = uploaded.get(part.number)
    if piece is None:
        raise _invalid_part(part, upload_id, "has not been uploaded")
    if piece.etag != part.etag or not _MD5_HEX.fullmatch(piece.etag):
        raise _invalid_part(part, upload_id, f"has the ETag {piece.etag}, and not {shown(part.etag)}")
    if piece.checksum is not None:
        claimed = part.checksums.get(piece.checksum.algorithm)
        if claimed is not None and claimed != piece.checksum.value:
            what = f"has the {piece.checksum.algorithm} {piece.checksum.value}, and not {shown(claimed)}"
            raise _invalid_part(part, upload_id, what)
    return piece


def _invalid_part(part: ListedPart, upload_id: str, why: str) -> S3Error:
    return S3Error(
        "InvalidPart",
        f"One or more of the specified parts could not be found: part {part.number} {why}.",
        details={"UploadId": upload_id, "PartNumber": str(part.number), "ETag": part.etag},
    )


def _object_checksum(
    digests: Sequence[bytes], sizes: Sequence[int], algorithm: str, kind: ChecksumKind | None
) -> Checksum:
    """Return the checksum of the object from those of its parts, which have these sizes."""
    if kind is ChecksumKind.COMPOSITE:
        total = new_digest(algorithm.lower())
        total.update(b"".join(digests))
        value = f"{b64encode(total.digest()).decode()}-{len(digests)}"
        return Checksum(algorithm=algorithm, value=value, kind=ChecksumKind.COMPOSITE)
    combined = _combined(
        algorithm,
        [
            (int.from_bytes(digest, "big"), size_bytes)
            for digest, size_bytes in zip(digests, sizes, strict=True)
        ],
    )
    return Checksum(algorithm=algorithm, value=b64encode(combined.to_bytes(len(digests[0]), "big")).decode())


def _part_digest(piece: Piece, algorithm: str, encryption: Encryption | None) -> bytes:
    if encryption is None and algorithm in ("", DEFAULT_ALGORITHM):
        return piece.crc64nvme.to_bytes(8, "big")
    checksum = piece.checksum
    wanted = algorithm or DEFAULT_ALGORITHM
    assert checksum is not None and checksum.algorithm == wanted, "a part has its upload's checksum"
    return b64decode(checksum.value)


def _combined(algorithm: str, parts: Sequence[tuple[int, int]]) -> int:
    value = 0
    for crc, length_bytes in parts:
        value = _COMBINE[algorithm](value, crc, length_bytes)
    return value


def _check_claims(claims: Claims, checksum: Checksum | None) -> None:
    if checksum is None:
        if claims.kind is None and claims.checksum is None:
            return
        raise S3Error(
            "InvalidRequest",
            "The checksum of an encrypted object can only be checked by a request that brings its key.",
        )
    if claims.kind is not None and claims.kind is not checksum.kind:
        raise S3Error(
            "InvalidRequest",
            f"The upload was created using the {checksum.kind.value} checksum mode. "
            "The complete request must use the same checksum mode.",
        )
    claimed = claims.checksum
    if claimed is None:
        return
    if claimed.algorithm != checksum.algorithm:
        raise S3Error(
            "InvalidRequest",
            f"Checksum Type mismatch occurred, expected checksum Type: {checksum.algorithm.lower()}, "
            f"actual checksum Type: {claimed.algorithm.lower()}",
        )
    value = claimed.value
    if checksum.kind is ChecksumKind.COMPOSITE and "-" not in value:
        value += "-" + checksum.value.rpartition("-")[2]
    if value != checksum.value:
        raise bad_digest(checksum.algorithm, claimed.value, checksum.value)
