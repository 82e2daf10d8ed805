"""
Names of members inside a bundle's tar, from buckets, keys and versions.

``objects/<bucket>/<component>/.../<component>~<version tag>[~<extent>of<extents>]``. Names extract safely with plain
tar whatever the key: never absolute, never upwards, never a file where another key needs a directory, every component
within 255 bytes. Two different (bucket, key, version, extent) never share a name. FORMAT.md, section "Member names".
"""

import re
import unicodedata
from hashlib import sha256

OBJECTS_DIRECTORY = "objects"

COMPONENT_LIMIT_BYTES = 200
"""Longer encoded components are cut; with the longest suffix a component stays within the 255 bytes of file systems."""

_HASH_CHARACTERS = 32
_TAG_LIMIT = 36

_PLAIN = re.compile(r"[A-Za-z0-9 !\"#$&'()*+,\-.:;<=>?@\[\]^_`{|}]+")
_TAG = re.compile(rf"[A-Za-z0-9._-]{{1,{_TAG_LIMIT}}}")
_UNCUT = re.compile(r"%[0-9A-F]{2}|[^%]")

# Unicode 3.2 is frozen in every Python, so a name never depends on the version that wrote it.
_UNICODE = unicodedata.ucd_3_2_0
_PICTOGRAPHS = range(0x1F000, 0x1FB00)
_ENCODED_CATEGORIES = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
_ENCODED_CHARACTERS = frozenset("%~\\/\u00ad")


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())


def _encode_character(character: str) -> str:
    if character in _ENCODED_CHARACTERS:
        return _percent(character)
    if ord(character) in _PICTOGRAPHS:
        return character
    return _percent(character) if _UNICODE.category(character) in _ENCODED_CATEGORIES else character


def _encode_unlimited(component: str) -> str:
    if not component:
        return "%-"
    if component in (".", ".."):
        return "%2E" * len(component)
    if _PLAIN.fullmatch(component):
        return component
    if not component.isascii() and not _UNICODE.is_normalized("NFC", component):
        return "".join(_encode_character(c) if c.isascii() else _percent(c) for c in component)
    return "".join(map(_encode_character, component))


def encode_component(component: str) -> str:
    """
    One component of a bucket and key path as a file name.

    Letters of every script stay. ``%``, ``~``, backslash, soft hyphen, control and format characters, characters unknown to
    Unicode 3.2 (pictographs apart), everything beyond ASCII in a component that is not in normal form C, the
    components ``.`` and ``..`` become ``%XX`` per byte of UTF-8; the empty component becomes ``%-``. What is then
    longer than ``COMPONENT_LIMIT_BYTES`` is cut and gets ``%+`` and 128 bits of the component's SHA-256.
    """
    encoded = _encode_unlimited(component)
    if len(encoded) * 4 <= COMPONENT_LIMIT_BYTES or len(encoded.encode()) <= COMPONENT_LIMIT_BYTES:
        return encoded
    room = COMPONENT_LIMIT_BYTES - len("%+") - _HASH_CHARACTERS
    kept: list[str] = []
    for unit in _UNCUT.findall(encoded):
        room -= len(unit.encode())
        if room < 0:
            break
        kept.append(unit)
    return "".join(kept) + "%+" + sha256(component.encode()).hexdigest()[:_HASH_CHARACTERS]


def version_tag(version_id: str, version_uid: int) -> str:
    """
    What tells the versions of one key apart in names: the S3 version id where it is a plain word, else a hash of it.

    ``null`` versions are overwritten and archived again under the same id, so theirs carries our own ``version_uid``.
    """
    if version_id == "null":
        return f"null-{version_uid}"
    if _TAG.fullmatch(version_id) and not version_id.startswith(("null-", "id-")):
        return version_id
    return "id-" + sha256(version_id.encode()).hexdigest()[:_HASH_CHARACTERS]


def member_name(bucket: str, key: bytes, tag: str, extent: int = 0, extent_count: int = 1) -> str:
    """
    The name of a member; ``extent`` counts from 0 and is shown from 1, only where an object has several.

    :raises UnicodeDecodeError: if ``key`` is not UTF-8 (S3 has no such keys).
    :raises ValueError: if ``tag`` did not come from ``version_tag`` or there are more than 99,999 extents.
    """
    if not _TAG.fullmatch(tag):
        raise ValueError(f"not a version tag: {tag!r}")
    if not 0 <= extent < extent_count <= 99999:
        raise ValueError(f"extent {extent} of {extent_count}")
    components = key.decode().split("/")
    path = "/".join(map(encode_component, components))
    name = f"{OBJECTS_DIRECTORY}/{encode_component(bucket)}/{path}~{tag}"
    return name if extent_count == 1 else f"{name}~{extent + 1}of{extent_count}"
