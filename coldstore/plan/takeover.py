"""
Whose the drives are when the appliance begins on a machine: what another machine has loaded, it may still write to.

An appliance asks whether it was taken over before each of its acts, and begins nothing without an answer that is young enough. Whoever takes
over from another machine waits until no such answer can be young any more: from then on nothing is begun there. For what was begun before, only
the drive itself can keep it from writing (SCSI persistent reservations), or a person who has seen that the machine is off.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from coldstore.model.cartridges import Drive, DriveState
from coldstore.model.hosts import Host
from coldstore.model.library import Inventory

PROOF_SECONDS = 5.0
"""How long after it was asked for an answer proves that nobody had taken over. A database under load answers within that."""
WAIT_SECONDS = 7.0
"""How long whoever takes over leaves everything alone: longer than an answer counts, and an act takes that begins with it."""


def is_proof(*, asked_at: float, now: float) -> bool:
    """Whether an answer counts that was asked for then, by a clock that nobody sets."""
    return now - asked_at < PROOF_SECONDS


def seconds_to_wait(before: Host | None, host: Host) -> float:
    """
    Return how long to leave everything alone at the beginning of a run.

    On the same machine nothing is to be waited for: the lock of the state directory tells for certain that an earlier process is gone.

    :param before: the machine that had the run before; None: nobody noted it
    """
    return 0.0 if before is None or before.is_same(host) else WAIT_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignDrive:
    """A drive that another machine had last, with what is in it; ``barcode`` is None when its label cannot be read."""

    record: Drive
    host: Host
    barcode: str | None

    @property
    def reason(self) -> str:
        """Why it is not touched."""
        what = self.barcode or "a cartridge without a readable barcode"
        return f"it holds {what}, which {self.host.name} loaded and may still write to"

    @property
    def down_reason(self) -> str:
        """The reason for the record, with that for which the drive was down already."""
        before = self.record.reason
        if self.record.state is DriveState.UP or before.startswith(self.reason):
            return self.reason
        return f"{self.reason} (it was down already: {before})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """Drives (by index) that are ours from now on, and those that another machine may still use."""

    ours: tuple[int, ...]
    foreign: tuple[ForeignDrive, ...]


def divide(records: Iterable[Drive], inventory: Inventory, host: Host) -> Ownership:
    """
    Tell whose drives are, for a machine that has just begun.

    An empty drive is ours: nobody can write there before a cartridge comes, and the robot is ours. So is one of which nobody noted
    whose it was. One that the library does not report is left as it is.
    """
    elements = {element.number: element for element in inventory.drives}
    ours, foreign = [], []
    for record in records:
        element = elements.get(record.index)
        other = other_host(record, host)
        if other is None:
            ours.append(record.index)
        elif element is not None and element.is_full:
            foreign.append(ForeignDrive(record=record, host=other, barcode=element.barcode))
        elif element is not None:
            ours.append(record.index)
    return Ownership(ours=tuple(ours), foreign=tuple(foreign))


def others_of(texts: Iterable[str], host: Host) -> list[Host]:
    """Return the other machines of some (``Host.text``), in their order, each once however often it was booted."""
    found: dict[tuple[str, str], Host] = {}
    for text in texts:
        other = Host.of_text(text)
        if other is not None and not other.is_same(host):
            found.setdefault((other.name, other.machine_id), other)
    return list(found.values())


def other_host(record: Drive, host: Host) -> Host | None:
    """Return the machine that had a drive last if it is not this one."""
    recorded = Host.of_text(record.host)
    return None if recorded is None or recorded.is_same(host) else recorded
