"""Which copies of a session are read back before they count as verified."""

from collections.abc import Sequence
from enum import StrEnum


class VerifyMode(StrEnum):
    """What a pool promises before bytes on disk may go."""

    READ_BACK = "read_back"
    """Every copy was read back past the page cache."""
    SAMPLE = "sample"
    """The first and the last copy of every session were."""
    INDEX = "index"
    """The index on tape names the copy in full size; nothing was read back."""


def to_read_back(bundle_ids: Sequence[str], mode: VerifyMode) -> frozenset[str]:
    """Return the bundles of one session whose copies are to be read back."""
    if mode is VerifyMode.READ_BACK:
        return frozenset(bundle_ids)
    if mode is VerifyMode.SAMPLE:
        return frozenset(bundle_ids[:1]) | frozenset(bundle_ids[-1:])
    return frozenset()
