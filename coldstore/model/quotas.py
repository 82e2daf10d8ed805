"""What a user or a bucket may have, and what it has."""

from enum import StrEnum
from typing import NamedTuple

UNLIMITED = 2**63 - 1
"""A quota that never ends; every store can hold the number."""


class QuotaKind(StrEnum):
    """
    What can be bounded. All are of living things: what was deleted counts in none but ``STAGED``, and there until its bytes are freed.
    """

    STAGED = "staging"
    """Bytes on the staging disk: of objects and of parts of open uploads, and those that ongoing restores will bring."""
    KEPT = "kept"
    """Bytes of all versions, superseded ones included, on disk or tape, as S3 shows their sizes. Parts of open uploads are none."""
    RESTORES = "restores"
    """Bytes, as they are stored, of versions whose restore is ongoing, or has brought a copy that is not yet expired."""
    OBJECTS = "objects"
    """The number of all versions, superseded ones included. Delete markers and open uploads are none."""

    @property
    def is_of_bytes(self) -> bool:
        """Whether it bounds bytes, not a number of things."""
        return self is not QuotaKind.OBJECTS


class Quotas(NamedTuple):
    """What somebody may have, by ``QuotaKind``; None: the default of the configuration."""

    staging: int | None = None
    kept: int | None = None
    restores: int | None = None
    objects: int | None = None

    def of(self, kind: QuotaKind) -> int | None:
        """Return the quota of a kind."""
        found: int | None = getattr(self, kind.value)
        return found


class Use(NamedTuple):
    """What somebody has, by ``QuotaKind``."""

    staging: int = 0
    kept: int = 0
    restores: int = 0
    objects: int = 0

    def of(self, kind: QuotaKind) -> int:
        """Return what there is of a kind."""
        found: int = getattr(self, kind.value)
        return found

    def plus(self, other: "Use") -> "Use":
        """Return both together."""
        return Use(*(mine + its for mine, its in zip(self, other, strict=True)))


NO_QUOTAS = Quotas()
