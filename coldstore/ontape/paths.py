"""Where things lie on a cartridge, relative to the root of its LTFS volume, and the ids that name them."""

import re

FORMAT_VERSION = 1
"""The version of everything in FORMAT.md; a reader refuses versions that it does not know."""

PLACEMENT_RULE = "size=64M/name=*.manifest:*.json:*.txt"
"""Given to ``mkltfs --rules``: the small files end on the index partition (LTFS data placement policy)."""

PLACEMENT_LIMIT_BYTES = 64 * 1024 * 1024
"""A file of this size or more does not follow the placement rule."""

README_PATH = "README.txt"
ROOT = "coldstore"
VOLUME_PATH = "coldstore/volume.json"
BUNDLES_DIRECTORY = "coldstore/bundles"
SESSIONS_DIRECTORY = "coldstore/sessions"
CATALOG_DIRECTORY = "coldstore/catalog"

SHA256_ATTRIBUTE = "ltfs.hash.sha256sum"
"""
Attribute of a bundle's file: its SHA-256 in lower-case hexadecimal (LTFS format, hash attributes). On LTFS it is an extended attribute; Linux
puts ``user.`` before its name.
"""

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_ID = re.compile(r"[0-7][0-9a-hjkmnp-tv-z]{25}")
_RANDOM_BITS = 80
_TIME_BITS = 48


def _time_ordered_id(created_at_ms: int, random_bits: int) -> str:
    if not 0 <= created_at_ms < 1 << _TIME_BITS:
        raise ValueError(f"time out of range: {created_at_ms}")
    if not 0 <= random_bits < 1 << _RANDOM_BITS:
        raise ValueError(f"more than {_RANDOM_BITS} random bits")
    number = created_at_ms << _RANDOM_BITS | random_bits
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


def bundle_id(created_at_ms: int, random_bits: int) -> str:
    """
    An id of 26 characters that sorts by time, then by chance (48 bits of milliseconds, 80 of chance; Crockford's
    base 32 in lower case).

    :raises ValueError: if a number is negative or too large.
    """
    return _time_ordered_id(created_at_ms, random_bits)


def session_id(created_at_ms: int, random_bits: int) -> str:
    """An id in the same form for a session. Raises ``ValueError`` as ``bundle_id`` does."""
    return _time_ordered_id(created_at_ms, random_bits)


def is_id(text: str) -> bool:
    """Whether ``text`` has the form of a bundle's or session's id."""
    return _ID.fullmatch(text) is not None


def _checked(identity: str) -> str:
    if not is_id(identity):
        raise ValueError(f"not an id: {identity!r}")
    return identity


def bundle_path(bundle_id: str) -> str:
    """The file of a bundle. Raises ``ValueError`` for what is not an id."""
    return f"{BUNDLES_DIRECTORY}/{_checked(bundle_id)}.tar"


def session_path(session_id: str) -> str:
    """The manifest of a session. Raises ``ValueError`` for what is not an id."""
    return f"{SESSIONS_DIRECTORY}/{_checked(session_id)}.manifest"


def manifest_member_name(bundle_id: str) -> str:
    """The tar name of a bundle's own manifest; bundles extracted to one directory do not overwrite each other's."""
    return f"manifests/{_checked(bundle_id)}.jsonl"
