"""What drives did, from when to when, and what befell them: for the story and the picture. A world that nobody watches keeps none."""

from collections.abc import Callable
from dataclasses import dataclass, field

OF_THE_LIBRARY = frozenset({"load", "thread", "rewind", "unload", "down"})
"""What goes on without the machine."""


@dataclass(slots=True, kw_only=True)
class Act:
    """
    Something that a drive does, or goes through.

    :ivar ended_at: None while it goes on
    :ivar failed: why it came to nothing
    """

    drive: int
    what: str
    barcode: str
    size_bytes: int
    began_at: float
    ended_at: float | None = None
    failed: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Something that happened at a moment: ``kind`` is ``death``, ``start``, ``thaw`` or ``fault``."""

    at: float
    kind: str
    what: str


def _nobody(_: Act) -> None:
    return


@dataclass(slots=True)
class History:
    """
    Everything, in the order of its beginning.

    :ivar began: is told each act when it begins
    :ivar ended: is told each act when it ends
    """

    acts: list[Act] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    began: Callable[[Act], None] = _nobody
    ended: Callable[[Act], None] = _nobody

    def begin(self, act: Act) -> Act:
        """A drive begins something."""
        self.acts.append(act)
        self.began(act)
        return act

    def end(self, act: Act, at: float, failed: str = "") -> None:
        """It is over; the first end counts."""
        if act.ended_at is None:
            act.ended_at, act.failed = at, failed
            self.ended(act)

    def cut_power(self, at: float) -> None:
        """Programs end where they are; robot and drives finish what they do."""
        for act in self.acts:
            if act.what not in OF_THE_LIBRARY:
                self.end(act, at, "the power went")
