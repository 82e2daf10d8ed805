"""Who is guilty of a failure, the drive or the cartridge: whoever failed with two different partners."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A drive and a cartridge failed together at a time (unix seconds)."""

    at: float
    drive: int
    barcode: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What follows from a failure."""

    drive_is_guilty: bool
    cartridge_is_guilty: bool


def judge(failures: Iterable[Failure], latest: Failure, *, window_seconds: float) -> Verdict:
    """
    Judge the latest failure by the earlier ones within the window.

    A drive that failed with two different cartridges is guilty; a cartridge that failed in two different drives is.
    The first failure of a pair accuses nobody: the work is tried again with another partner.
    """
    recent = [failure for failure in failures if latest.at - failure.at <= window_seconds]
    cartridges = {failure.barcode for failure in recent if failure.drive == latest.drive} | {latest.barcode}
    drives = {failure.drive for failure in recent if failure.barcode == latest.barcode} | {latest.drive}
    return Verdict(drive_is_guilty=len(cartridges) > 1, cartridge_is_guilty=len(drives) > 1)


def pairs_to_avoid(
    failures: Iterable[Failure], *, now: float, window_seconds: float
) -> frozenset[tuple[int, str]]:
    """Drives and cartridges that are not to be brought together again for the time being."""
    return frozenset(
        (failure.drive, failure.barcode) for failure in failures if now - failure.at <= window_seconds
    )
