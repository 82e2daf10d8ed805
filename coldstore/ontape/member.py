"""
The members of a bundle and the plan that freezes them, with their one canonical text.

A member's facts are one line of JSON with a fixed order of fields: bucket, key and version first, then numbers, then
everything that a client could choose freely. Tools without a JSON parser can therefore find a key at the beginning of
a line and the numbers right behind it. Numbers that need more than 53 bits (checksums) are hexadecimal text.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from json.encoder import encode_basestring

from coldstore.model.locks import UNLOCKED, Lock, LockMode, Retention
from coldstore.model.objects import Checksum, ChecksumKind, Encryption, Pairs, StorageClass, VersionFacts

from .paths import is_id

_INTEGER_LIMIT = 1 << 63
_CRC64_LIMIT = 1 << 64
_VERSION_ID = re.compile(r"[!#-\[\]-~]{1,1024}")
_PART_NUMBERS = re.compile(r"[0-9,-]*")
_PART_SIZES = re.compile(r"[0-9x,]*")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_HEX64 = re.compile(r"[0-9a-f]{16}")

quoted = encode_basestring
"""A text as a JSON string in the form of ``to_json``."""

to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
"""The canonical JSON of the format: no spaces, UTF-8 as it is, control characters below 0x20 escaped."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _names_are_unique(pairs: Pairs) -> bool:
    return len(pairs) < 2 or len({name for name, _ in pairs}) == len(pairs)


def facts_on_tape(facts: VersionFacts) -> VersionFacts:
    """
    Return what a tape may say of an object: where the appliance has encrypted it, its ETag is the MD5 of what nobody but who has the
    keys may know; it is on tape encrypted.
    """
    encryption = facts.encryption
    return facts if encryption is None or not encryption.is_by_server else facts._replace(etag="")


def _check_encryption(encryption: Encryption) -> None:
    _require(0 < encryption.chunk_bytes < 1 << 32, "the chunks have no size")
    _require(0 <= encryption.size_bytes < _INTEGER_LIMIT, "the size of what was encrypted is none")
    _require(bool(_PART_SIZES.fullmatch(encryption.part_sizes)), f"part sizes {encryption.part_sizes!r}")
    _require(
        bool(_PART_NUMBERS.fullmatch(encryption.part_numbers)), f"part numbers {encryption.part_numbers!r}"
    )
    texts = [encryption.algorithm, encryption.wrapped_key]
    if encryption.is_by_server:
        _require(bool(_HEX64.fullmatch(encryption.master_key)), f"key of data {encryption.master_key!r}")
        texts.append(encryption.sealed_etag)
    else:
        texts.append(encryption.key_md5)
    _require(all(_BASE64.fullmatch(text) for text in texts), "the encryption has no algorithm or no key")


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleMember:
    """
    One extent of one object version: the bytes from ``object_offset_bytes`` on, ``length_bytes`` of them.

    ``extent`` counts from 0 to ``extent_count - 1``; ``crc64nvme`` is of this extent alone, that of the whole object
    is in ``facts``. ``lock`` is what kept the version when the bundle was planned.

    :raises ValueError: at construction, for facts that the format cannot carry (a key that is not UTF-8, a header
        given twice, an extent outside its object).
    """

    facts: VersionFacts
    version_uid: int
    sequence: int
    extent: int
    extent_count: int
    object_offset_bytes: int
    length_bytes: int
    crc64nvme: int
    lock: Lock = UNLOCKED

    def __post_init__(self) -> None:
        facts = self.facts
        numbers = (
            self.version_uid,
            self.sequence,
            self.object_offset_bytes,
            self.length_bytes,
            facts.size_bytes,
        )
        _require(
            min(numbers) >= 0 and max(numbers) < _INTEGER_LIMIT, "a number is negative or beyond 63 bits"
        )
        _require(
            0 <= self.crc64nvme < _CRC64_LIMIT and 0 <= facts.crc64nvme < _CRC64_LIMIT, "not a CRC64NVME"
        )
        _require(
            0 <= self.extent < self.extent_count <= 99999, f"extent {self.extent} of {self.extent_count}"
        )
        end_bytes = self.object_offset_bytes + self.length_bytes
        _require(end_bytes <= facts.size_bytes, "the extent ends behind the object")
        is_whole = self.length_bytes == facts.size_bytes
        _require(self.extent_count > 1 or is_whole, "a single extent is not the whole object")
        _require(math.isfinite(facts.created_at), "created_at is not a time")
        _require(bool(_VERSION_ID.fullmatch(facts.version_id)), f"version id {facts.version_id!r}")
        _require(bool(_PART_SIZES.fullmatch(facts.part_sizes)), f"part sizes {facts.part_sizes!r}")
        if facts.encryption is not None:
            _check_encryption(facts.encryption)
            _require(not (facts.encryption.is_by_server and facts.etag), "the ETag is not encrypted")
        retention = self.lock.retention
        _require(
            retention is None or math.isfinite(retention.until), "the end of the retention is not a time"
        )
        _require(_names_are_unique(facts.headers), "a header is given twice")
        _require(_names_are_unique(facts.user_metadata), "user metadata are given twice")
        _require(bool(facts.bucket) and bool(facts.key), "bucket or key is empty")
        facts.key.decode()
        texts = [facts.bucket, facts.etag, facts.owner_id]
        for pairs in (facts.headers, facts.user_metadata):
            for pair in pairs:
                texts += pair
        if facts.checksum is not None:
            texts += (facts.checksum.algorithm, facts.checksum.value)
        "".join(texts).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class BundlePlan:
    """
    A frozen bundle: from it every copy is made, byte for byte the same.

    ``created_at`` is in unix seconds; ``pools`` are those that get a copy; ``members`` are in the order on tape.

    :raises ValueError: at construction, for an id that did not come from ``paths.bundle_id``.
    """

    bundle_id: str
    created_at: float
    appliance_id: str
    pools: tuple[str, ...]
    members: tuple[BundleMember, ...]

    def __post_init__(self) -> None:
        _require(is_id(self.bundle_id), f"not a bundle id: {self.bundle_id!r}")
        _require(math.isfinite(self.created_at), "created_at is not a time")
        "".join((self.appliance_id, *self.pools)).encode()


def member_json_parts(member: BundleMember) -> tuple[str, str]:
    """
    The canonical JSON of ``member`` in two parts: the fixed fields, and the free text of clients.

    Joined by a comma within braces they are the object; the manifest puts the member's placement between them.
    """
    facts = member.facts
    numbers = (
        f'"bucket":{quoted(facts.bucket)},"key":{quoted(facts.key.decode())},"version_id":"{facts.version_id}",'
        f'"version_uid":{member.version_uid},"sequence":{member.sequence},"extent":{member.extent},'
        f'"extent_count":{member.extent_count},"object_offset_bytes":{member.object_offset_bytes},'
        f'"length_bytes":{member.length_bytes},"size_bytes":{facts.size_bytes},'
        f'"crc64nvme":"{member.crc64nvme:016x}","object_crc64nvme":"{facts.crc64nvme:016x}"'
    )
    texts = (
        f'"created_at":{float(facts.created_at)!r},"storage_class":"{facts.storage_class.value}",'
        f'"etag":{quoted(facts.etag)},"part_sizes":"{facts.part_sizes}","checksum":{_checksum_json(facts.checksum)},'
        f'"owner_id":{quoted(facts.owner_id)},"headers":{_pairs_json(facts.headers)},'
        f'"user_metadata":{_pairs_json(facts.user_metadata)}{_encryption_json(facts.encryption)}{_lock_json(member.lock)}'
    )
    return numbers, texts


def _pairs_json(pairs: Pairs) -> str:
    return "{" + ",".join([f"{quoted(name)}:{quoted(value)}" for name, value in pairs]) + "}"


def _checksum_json(checksum: Checksum | None) -> str:
    if checksum is None:
        return "null"
    algorithm, value = quoted(checksum.algorithm), quoted(checksum.value)
    return f'{{"algorithm":{algorithm},"value":{value},"kind":"{checksum.kind.value}"}}'


def _encryption_json(encryption: Encryption | None) -> str:
    """Return a member of the facts with a comma before it; nothing of an object that is not encrypted."""
    if encryption is None:
        return ""
    record: dict[str, object] = {"algorithm": encryption.algorithm}
    if encryption.is_by_server:
        record["master_key"] = encryption.master_key
    else:
        record["key_md5"] = encryption.key_md5
    for name in ("wrapped_key", "chunk_bytes", "size_bytes", "part_sizes"):
        record[name] = getattr(encryption, name)
    if encryption.part_numbers:
        record["part_numbers"] = encryption.part_numbers
    if encryption.is_by_server:
        record["etag"] = encryption.sealed_etag
    return f',"encryption":{to_json(record)}'


def _lock_json(lock: Lock) -> str:
    """Return the last member of the facts with a comma before it; nothing of a version without lock."""
    if lock == UNLOCKED:
        return ""
    retention = lock.retention
    record = {
        "mode": None if retention is None else retention.mode.value,
        "retain_until": None if retention is None else float(retention.until),
        "legal_hold": lock.legal_hold,
    }
    return f',"lock":{to_json(record)}'


def parse_json_object(text: str) -> dict[str, object]:
    """
    A JSON object from untrusted text.

    :raises ValueError: for anything else, numbers without end and endless nesting included.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def text_field(record: Mapping[str, object], name: str) -> str:
    """The text ``name`` of ``record``. Raises ``ValueError`` where it is missing or no text."""
    value = record.get(name)
    if not isinstance(value, str):
        raise ValueError(f"field {name!r} is missing or not a text")
    return value


def integer_field(record: Mapping[str, object], name: str) -> int:
    """The whole number ``name`` of ``record``. Raises ``ValueError`` where it is missing or no whole number."""
    value = record.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"field {name!r} is missing or not a whole number")
    return value


def number_field(record: Mapping[str, object], name: str) -> float:
    """The number ``name`` of ``record``. Raises ``ValueError`` where it is missing or no number."""
    value = record.get(name)
    if not isinstance(value, float):
        raise ValueError(f"field {name!r} is missing or not a number with a fraction")
    return value


def _crc64_field(record: Mapping[str, object], name: str) -> int:
    text = text_field(record, name)
    if not _HEX64.fullmatch(text):
        raise ValueError(f"field {name!r} is not 16 hexadecimal digits")
    return int(text, 16)


def _pairs_field(record: Mapping[str, object], name: str) -> Pairs:
    value = record.get(name)
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ValueError(f"field {name!r} is missing or not an object of texts")
    return tuple(value.items())


def _checksum_field(record: Mapping[str, object], name: str) -> Checksum | None:
    value = record.get(name)
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError(f"field {name!r} is not an object")
    return Checksum(
        algorithm=text_field(value, "algorithm"),
        value=text_field(value, "value"),
        kind=ChecksumKind(text_field(value, "kind")),
    )


def _encryption_field(record: Mapping[str, object]) -> Encryption | None:
    value = record.get("encryption")
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError("field 'encryption' is not an object")
    is_by_server = "master_key" in value
    return Encryption(
        algorithm=text_field(value, "algorithm"),
        key_md5="" if is_by_server else text_field(value, "key_md5"),
        wrapped_key=text_field(value, "wrapped_key"),
        chunk_bytes=integer_field(value, "chunk_bytes"),
        size_bytes=integer_field(value, "size_bytes"),
        part_sizes=text_field(value, "part_sizes"),
        part_numbers=text_field(value, "part_numbers") if "part_numbers" in value else "",
        master_key=text_field(value, "master_key") if is_by_server else "",
        sealed_etag=text_field(value, "etag") if is_by_server else "",
    )


def _lock_field(record: Mapping[str, object]) -> Lock:
    value = record.get("lock")
    if value is None:
        return UNLOCKED
    if not isinstance(value, dict):
        raise ValueError("field 'lock' is not an object")
    legal_hold = value.get("legal_hold")
    if legal_hold is not None and not isinstance(legal_hold, bool):
        raise ValueError("field 'legal_hold' is neither true nor false")
    retention = None
    if value.get("mode") is not None:
        retention = Retention(LockMode(text_field(value, "mode")), number_field(value, "retain_until"))
    return Lock(retention, legal_hold)


def member_from_record(record: Mapping[str, object]) -> BundleMember:
    """
    A member from a parsed line. The caller proves canonical form by writing the line again and comparing.

    :raises ValueError: where a field is missing, of the wrong type, or contradicts another.
    """
    return BundleMember(
        facts=VersionFacts(
            bucket=text_field(record, "bucket"),
            key=text_field(record, "key").encode(),
            version_id=text_field(record, "version_id"),
            size_bytes=integer_field(record, "size_bytes"),
            etag=text_field(record, "etag"),
            storage_class=StorageClass(text_field(record, "storage_class")),
            headers=_pairs_field(record, "headers"),
            user_metadata=_pairs_field(record, "user_metadata"),
            checksum=_checksum_field(record, "checksum"),
            crc64nvme=_crc64_field(record, "object_crc64nvme"),
            part_sizes=text_field(record, "part_sizes"),
            created_at=number_field(record, "created_at"),
            owner_id=text_field(record, "owner_id"),
            encryption=_encryption_field(record),
        ),
        version_uid=integer_field(record, "version_uid"),
        sequence=integer_field(record, "sequence"),
        extent=integer_field(record, "extent"),
        extent_count=integer_field(record, "extent_count"),
        object_offset_bytes=integer_field(record, "object_offset_bytes"),
        length_bytes=integer_field(record, "length_bytes"),
        crc64nvme=_crc64_field(record, "crc64nvme"),
        lock=_lock_field(record),
    )
