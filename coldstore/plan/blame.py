"""Who is guilty of a failure, the drive or the cartridge: whoever failed with two different partners."""

from collections.abc import Collection, Iterable
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ApartPolicy:
    """
    How long (seconds) a drive and a cartridge that failed together are kept apart.

    ``apart_seconds`` while another drive could have the cartridge. Without one there is nobody else to try: then they meet
    again after ``alone_seconds``, and after twice as long upon each further failure.
    """

    apart_seconds: float
    alone_seconds: float


def pairs_to_avoid(
    failures: Iterable[Failure], *, now: float, usable_drives: Collection[int], policy: ApartPolicy
) -> dict[tuple[int, str], float]:
    """
    Return drives and cartridges that are not to be brought together for the time being, each with the time of its end.

    :param usable_drives: drives that take work
    """
    history: dict[tuple[int, str], list[float]] = {}
    for failure in failures:
        history.setdefault((failure.drive, failure.barcode), []).append(failure.at)
    avoided: dict[tuple[int, str], float] = {}
    for (drive, barcode), times in history.items():
        others = [index for index in usable_drives if index != drive and (index, barcode) not in history]
        alone = policy.alone_seconds * 2.0 ** min(len(times) - 1, 20)
        until = max(times) + (policy.apart_seconds if others else min(alone, policy.apart_seconds))
        if until > now:
            avoided[drive, barcode] = until
    return avoided
