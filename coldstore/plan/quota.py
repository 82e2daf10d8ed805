"""Whether somebody may have more: by his quotas, and, of the staging disk, so that something is left for others."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from coldstore.model.objects import Bucket, User
from coldstore.model.quotas import NO_QUOTAS, UNLIMITED, QuotaKind, Quotas, Use

SHARE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultQuotas:
    """What users and buckets may have that were given no quota of their own; None: no bound."""

    user: Quotas = NO_QUOTAS
    bucket: Quotas = NO_QUOTAS


def in_force(own: Quotas, default: Quotas) -> Quotas:
    """Return one's own quotas, and the defaults where one has none."""
    if own == NO_QUOTAS:
        return default
    return Quotas(*(its if mine is None else mine for mine, its in zip(own, default, strict=True)))


NEARLY_FULL = 0.9
"""The part of a quota from which on somebody should be told that it is as good as used up."""
NO_LONGER_FULL = 0.85
"""The part below which it is not, for who was told: a use that goes up and down around one bound would be told about all day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """
    What a user or a bucket may have and has.

    :ivar noun: ``user`` or ``bucket``
    :ivar own: quotas that were given; ``quotas`` those in force
    """

    noun: str
    name: str
    own: Quotas
    quotas: Quotas
    use: Use

    @property
    def whose(self) -> str:
        """The user or the bucket, as people call it."""
        return f"{self.noun} {self.name}"

    def fullness(self, kind: QuotaKind) -> float | None:
        """Return which part of a quota is used; None where there is none. One that allows nothing is used up by anything."""
        quota, used = self.quotas.of(kind), self.use.of(kind)
        if quota is None or quota >= UNLIMITED:
            return None
        return used / quota if quota else float(used > 0)

    @property
    def fullest(self) -> float | None:
        """The part that is used of the quota of which most is; None without any quota."""
        found = [fullness for kind in QuotaKind if (fullness := self.fullness(kind)) is not None]
        return max(found, default=None)

    def is_nearly_full(self, kind: QuotaKind, *, was_told: bool) -> bool:
        """
        Tell whether so little is left of a quota that somebody should know. That of the staging disk is there to be used up again and
        again: nobody needs to.
        """
        if kind is QuotaKind.STAGED:
            return False
        return (self.fullness(kind) or 0.0) >= (NO_LONGER_FULL if was_told else NEARLY_FULL)


def standing_of_user(user: User, use: Use, defaults: DefaultQuotas) -> Standing:
    """Return how a user stands."""
    quotas = in_force(user.quotas, defaults.user)
    return Standing(noun="user", name=user.name, own=user.quotas, quotas=quotas, use=use)


def standing_of_bucket(bucket: Bucket, use: Use, defaults: DefaultQuotas) -> Standing:
    """Return how a bucket stands."""
    quotas = in_force(bucket.quotas, defaults.bucket)
    return Standing(noun="bucket", name=bucket.name, own=bucket.quotas, quotas=quotas, use=use)


def fullest_first(standings: Iterable[Standing]) -> list[Standing]:
    """Return those that have any quota, the one first of which most is used."""
    bounded = [(fullest, each) for each in standings if (fullest := each.fullest) is not None]
    return [each for _, each in sorted(bounded, key=lambda pair: (-pair[0], pair[1].noun, pair[1].name))]


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


def is_fair(*, wanted: int, held: int, room: int) -> bool:
    """
    Tell whether somebody leaves enough for others, of bytes or of whatever else there is so much of: a quarter of what is
    free to him and to all who come after him. What he holds and what he wants may be ``SHARE`` times what then stays free
    of ``room``. Who holds nothing may take everything.

    The bound moves with the room, so that nothing is set aside while there is plenty, and however many ask, the next one
    to come still finds room (the dynamic threshold of shared switch buffers: Choudhury and Hahne, 1998).
    """
    return held == 0 or held + wanted <= SHARE * (room - wanted)
