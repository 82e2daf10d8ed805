"""
Barcodes of LTO cartridges: six characters and a two-character media identifier, and which drives take which media.

Source of the rules: the LTO bar code label specification (six characters of A-Z and 0-9, then the media identifier;
cleaning cartridges begin with ``CLN``) and the compatibility statements of each generation.
"""

import re
from dataclasses import dataclass
from types import MappingProxyType

_LABEL = re.compile(r"(?P<volume>[A-Z0-9]{6})(?P<media>[A-Z0-9]{2})")
_CLEANING_PREFIX = "CLN"
_TERABYTE = 10**12


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """
    What a media identifier says about a cartridge.

    ``capacity_bytes`` is native; ``generation`` is the LTO generation of the cartridge; ``density_code`` is what a
    drive reports for it (None: not known to us); ``written_by`` and ``read_by`` are generations of drives.
    """

    media_id: str
    generation: int
    capacity_bytes: int
    density_code: int | None
    written_by: frozenset[int]
    read_by: frozenset[int]
    is_worm: bool = False

    @property
    def has_partitions(self) -> bool:
        """Whether drives can divide the tape into partitions, which LTFS needs."""
        return self.generation >= 5


def _media(
    media_id: str,
    generation: int,
    terabytes: float,
    density_code: int | None,
    *,
    written_by: set[int],
    read_by: set[int],
    worm: bool = False,
) -> tuple[str, Media]:
    return media_id, Media(
        media_id=media_id,
        generation=generation,
        capacity_bytes=round(terabytes * _TERABYTE),
        density_code=density_code,
        written_by=frozenset(written_by),
        read_by=frozenset(read_by | written_by),
        is_worm=worm,
    )


MEDIA = MappingProxyType(
    dict(
        (
            _media("L1", 1, 0.1, 0x40, written_by={1, 2}, read_by={3}),
            _media("L2", 2, 0.2, 0x42, written_by={2, 3}, read_by={4}),
            _media("L3", 3, 0.4, 0x44, written_by={3, 4}, read_by={5}),
            _media("L4", 4, 0.8, 0x46, written_by={4, 5}, read_by={6}),
            _media("L5", 5, 1.5, 0x58, written_by={5, 6}, read_by={7}),
            _media("L6", 6, 2.5, 0x5A, written_by={6, 7}, read_by=set()),
            _media("L7", 7, 6, 0x5C, written_by={7, 8}, read_by=set()),
            _media("M8", 7, 9, 0x5D, written_by={8}, read_by=set()),
            _media("L8", 8, 12, 0x5E, written_by={8, 9}, read_by=set()),
            _media("L9", 9, 18, 0x60, written_by={9}, read_by=set()),
            _media("LA", 10, 30, None, written_by={10}, read_by=set()),
            _media("PA", 10, 40, None, written_by={10}, read_by=set()),
            _media("LT", 3, 0.4, 0x44, written_by={3, 4}, read_by={5}, worm=True),
            _media("LU", 4, 0.8, 0x46, written_by={4, 5}, read_by={6}, worm=True),
            _media("LV", 5, 1.5, 0x58, written_by={5, 6}, read_by={7}, worm=True),
            _media("LW", 6, 2.5, 0x5A, written_by={6, 7}, read_by=set(), worm=True),
            _media("LX", 7, 6, 0x5C, written_by={7, 8}, read_by=set(), worm=True),
            _media("LY", 8, 12, 0x5E, written_by={8, 9}, read_by=set(), worm=True),
            _media("LZ", 9, 18, 0x60, written_by={9}, read_by=set(), worm=True),
        )
    )
)
"""
Every media identifier of LTO, by its two characters.

LTO-3 to LTO-7 drives read two generations back and write one, LTO-8 and LTO-9 read and write one back, LTO-10 none;
M8 is an LTO-7 cartridge that only LTO-8 drives use.
"""


class BadBarcode(ValueError):
    """A label that is not six characters and a media identifier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Barcode:
    """A label as the robot reads it: ``A00001L8`` is volume ``A00001`` with the media identifier ``L8``."""

    volume: str
    media_id: str

    def __str__(self) -> str:
        """Return the whole label."""
        return self.volume + self.media_id

    @property
    def is_cleaning(self) -> bool:
        """Whether this is a cleaning cartridge, which never holds data."""
        return self.volume.startswith(_CLEANING_PREFIX)

    @property
    def media(self) -> Media | None:
        """What the media identifier says, or None for a cleaning cartridge and for identifiers we do not know."""
        return None if self.is_cleaning else MEDIA.get(self.media_id)


def parse_barcode(label: str) -> Barcode:
    """
    Split a label into volume and media identifier.

    :raise BadBarcode: for a label of another form, six characters without an identifier among them.
    """
    match = _LABEL.fullmatch(label)
    if match is None:
        raise BadBarcode(f"{label!r} is not a barcode of six characters A-Z, 0-9 and a media identifier")
    return Barcode(volume=match["volume"], media_id=match["media"])


def is_cleaning_label(label: str) -> bool:
    """Whether a label of any form belongs to a cleaning cartridge: libraries recognise it by the prefix alone."""
    return label.startswith(_CLEANING_PREFIX)


def can_write(media: Media, *, drive_generation: int) -> bool:
    """Whether a drive of this generation writes this media."""
    return drive_generation in media.written_by


def can_read(media: Media, *, drive_generation: int) -> bool:
    """Whether a drive of this generation reads this media."""
    return drive_generation in media.read_by
