"""What RestoreObject does to a version, and when a restored copy ends (S3 API: RestoreObject; restoring archived objects)."""

import math
from dataclasses import dataclass

from coldstore.model.errors import ObjectIsCold, RestoreInProgress, RestoreNotAllowed
from coldstore.model.objects import ObjectVersion, Restore, RestorePhase, Tier
from coldstore.plan.recall import TIER_RANK

SECONDS_PER_DAY = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginRestore:
    """202: nothing readable yet, a recall is queued (or completes at once when the bytes are still on disk)."""

    restore: Restore


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendRestore:
    """200: a live restored copy gets another expiry, counted from now; it may become shorter as well."""

    restore: Restore


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeRestore:
    """202: the recall under way becomes more urgent."""

    restore: Restore


RestoreDecision = BeginRestore | ExtendRestore | UpgradeRestore


def expiry(start: float, days: int, *, day_seconds: float = SECONDS_PER_DAY) -> float:
    """
    Return when a copy ends: ``days`` after ``start``, rounded up to the next midnight UTC; never less than ``days``.

    ``day_seconds`` other than 86,400 shortens the day for tests: rounding is then up to the next such day.
    """
    return math.ceil((start + days * day_seconds) / day_seconds) * day_seconds


def is_live(restore: Restore | None, now: float) -> bool:
    """Whether a restored copy may be read now."""
    return (
        restore is not None
        and restore.phase is RestorePhase.RESTORED
        and restore.expires_at is not None
        and restore.expires_at > now
    )


def plan_restore(
    now: float,
    version: ObjectVersion,
    *,
    days: int,
    tier: Tier,
    requested_by: str,
    needs_restore: bool,
    day_seconds: float = SECONDS_PER_DAY,
) -> RestoreDecision:
    """
    Decide a request.

    :raise RestoreNotAllowed: the version's class is readable at once
    :raise RestoreInProgress: a recall is under way and this request is not merely a faster tier
    """
    if not needs_restore:
        raise RestoreNotAllowed
    asked = Restore(
        phase=RestorePhase.ONGOING, tier=tier, days=days, requested_at=now, requested_by=requested_by
    )
    current = version.restore
    if current is None or (current.phase is RestorePhase.RESTORED and not is_live(current, now)):
        return BeginRestore(restore=asked)
    if current.phase is RestorePhase.RESTORED:
        return ExtendRestore(
            restore=Restore(
                phase=RestorePhase.RESTORED,
                tier=current.tier,
                days=days,
                requested_at=current.requested_at,
                expires_at=expiry(now, days, day_seconds=day_seconds),
                requested_by=requested_by,
            )
        )
    if TIER_RANK[tier] < TIER_RANK[current.tier] and days == current.days:
        return UpgradeRestore(
            restore=Restore(
                phase=RestorePhase.ONGOING,
                tier=tier,
                days=current.days,
                requested_at=current.requested_at,
                requested_by=current.requested_by,
            )
        )
    raise RestoreInProgress


def check_readable(version: ObjectVersion, now: float, *, needs_restore: bool) -> None:
    """
    Let a read of the version's bytes pass, wherever they are.

    :raise ObjectIsCold: its class needs a restore and no restored copy is live
    """
    if needs_restore and not is_live(version.restore, now):
        raise ObjectIsCold
