"""Whether somebody may have more of the staging disk: by his quota, and so that something is left for others."""

from dataclasses import dataclass
from enum import Enum

from coldstore.model.objects import UNLIMITED_BYTES

SHARE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultQuotas:
    """What users and buckets may have on the staging disk that were given no quota of their own, in bytes."""

    user_bytes: int = UNLIMITED_BYTES
    bucket_bytes: int = UNLIMITED_BYTES


class Fit(Enum):
    """Whether bytes fit into a quota."""

    NOW = "now"
    LATER = "later"
    """Once bytes that are on their way to tape, or restored for a while, have left the disk: waiting helps."""
    NEVER = "never"
    """Only when objects are deleted, or the quota is raised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What counts against a quota: bytes that stay on the disk (``lasting``), and bytes that leave it by themselves."""

    lasting_bytes: int = 0
    passing_bytes: int = 0

    def __add__(self, other: "Held") -> "Held":
        return Held(
            lasting_bytes=self.lasting_bytes + other.lasting_bytes,
            passing_bytes=self.passing_bytes + other.passing_bytes,
        )


def fit(quota_bytes: int, *, held: Held, wanted_bytes: int) -> Fit:
    """Tell whether ``wanted_bytes`` more fit beside what is held."""
    if held.lasting_bytes + wanted_bytes > quota_bytes:
        return Fit.NEVER
    if held.lasting_bytes + held.passing_bytes + wanted_bytes > quota_bytes:
        return Fit.LATER
    return Fit.NOW


def is_fair(*, wanted_bytes: int, arriving_bytes: int, room_bytes: int) -> bool:
    """
    Tell whether somebody leaves enough for others: a quarter of what is free to him and to all who come after him. What
    arrives from him already (``arriving_bytes``) and what he wants may be ``SHARE`` times what then stays free of
    ``room_bytes``. What comes alone may take everything.

    The bound moves with the room, so that nothing is set aside while the disk is empty, and however many ask, the next one
    to come still finds room (the dynamic threshold of shared switch buffers: Choudhury and Hahne, 1998).
    """
    return arriving_bytes == 0 or arriving_bytes + wanted_bytes <= SHARE * (room_bytes - wanted_bytes)
