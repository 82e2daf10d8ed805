"""Who may use how much of the disk: the last parts of it are promised only to those that soonest give room back, or wait longest."""

from dataclasses import dataclass
from enum import Enum


class Precedence(Enum):
    """
    What room is asked for, and so how much of the disk must be left to others: each may use what those before it leave.

    The order is that of how soon the room comes back, or how long somebody has waited for it: a begun upload holds room
    already and gives it back only when it is complete; a recall has a tape and a drive waiting; what is urgent is
    small or makes room itself.
    """

    NEW_UPLOAD = 0
    """An object, or the first part of an upload."""
    BEGUN_UPLOAD = 1
    """A further part of an upload."""
    RECALL = 2
    """An extent that a restore wants."""
    URGENT = 3
    """An extent that an Expedited restore wants, or bytes that are moved to give more room back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """
    Parts of the capacity that are promised to some only: ``recall`` to recalls, the last of which, ``urgent``, to
    urgent ones alone; and before them ``begun`` to whom new uploads leave it.
    """

    begun: float = 0.0
    recall: float = 0.0
    urgent: float = 0.0

    def left_by(self, precedence: Precedence) -> float:
        """Return the part of the capacity that must stay unpromised."""
        match precedence:
            case Precedence.NEW_UPLOAD:
                return min(1.0, self.recall + self.begun)
            case Precedence.BEGUN_UPLOAD:
                return self.recall
            case Precedence.RECALL:
                return min(self.urgent, self.recall)
            case Precedence.URGENT:
                return 0.0
