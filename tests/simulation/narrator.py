"""
Who tells the story of a world: faults as they happen, what drives do, what the record says.

Clients, operator and the appliance's own log tell theirs by ``World.tell``. A world without a narrator is not watched, and loses no time.
"""

from tests.simulation.chance import FAULTS
from tests.simulation.history import Act, History
from tests.simulation.witness import Witness
from tests.simulation.world import World

TOLD = frozenset(
    {"load", "format", "check", "mount", "write", "verify", "read", "sync", "unmount", "rewind", "unload"}
)
"""What is worth a line when a drive begins it; of all else only that it failed."""


class Narrator:
    """Tells what happens in one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._down: dict[str, Act] = {}
        self._history = History(began=self._began, ended=self._ended)
        world.keeps_story = True
        world.floor.history = self._history
        world.chance.told = self._fault
        Witness(world.database.connection, self._recorded)

    def _fault(self, fault: str) -> None:
        # What comes with time is told when it strikes.
        if FAULTS[fault][1] != "a virtual hour":
            self._world.befalls("fault", f"fault: {fault}")

    def _began(self, act: Act) -> None:
        if act.what in TOLD:
            size = f" {act.size_bytes} bytes" if act.size_bytes else ""
            self._world.tell(f"drive {act.drive}: {act.what}{size}{_of(act)}")

    def _ended(self, act: Act) -> None:
        assert act.ended_at is not None
        took = act.ended_at - act.began_at
        if act.failed:
            self._world.tell(
                f"drive {act.drive}: {act.what}{_of(act)} failed after {took:.0f} s: {act.failed}"
            )
        elif act.what == "thread" and took > 0:
            self._world.tell(f"drive {act.drive}: the tape is threaded after {took:.0f} s{_of(act)}")

    def _recorded(self, kind: str, subject: str, sentence: str) -> None:
        self._world.tell(f"record: {sentence}")
        if kind.startswith("drive "):
            self._drive_is(subject, is_up=kind == "drive up")

    def _drive_is(self, drive: str, *, is_up: bool) -> None:
        now = self._world.reactor.seconds()
        if is_up and drive in self._down:
            self._history.end(self._down.pop(drive), now)
        elif not is_up and drive not in self._down:
            down = Act(drive=int(drive), what="down", barcode="", size_bytes=0, began_at=now)
            self._down[drive] = self._history.begin(down)


def _of(act: Act) -> str:
    return f", {act.barcode}" if act.barcode else ""


def narrate(world: World) -> None:
    """Have the story of a world told."""
    Narrator(world)
