"""What is kept of a case that was played: plain facts, without the world, for another process to print."""

import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.simulation.case import Case
from tests.simulation.invariants import Judge
from tests.simulation.reactor import OwnerIsOver
from tests.simulation.trial_run import play
from tests.simulation.world import BEGINNING, World


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """
    What came of a case.

    :ivar hours: how much virtual time went by
    :ivar faults: how often each happened, by name
    :ivar tapes: how often drives began each kind of work, by name
    :ivar operations: how often clients began each kind of request, by name
    :ivar seconds: what it took, of processor time
    :ivar story: lines, when they were asked for
    """

    case: Case
    complaints: tuple[str, ...] = ()
    hours: float = 0.0
    lives: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    tapes: Counter[str] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    story: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.complaints

    def __str__(self) -> str:
        return (
            f"{self.case}: {'good' if self.is_good else 'BAD'}, {self.hours:.0f} h, {self.lives} lives,"
            f" {self.tapes['mount']} mounts, {self.faults.total()} faults, {self.operations.total()} operations,"
            f" {self.seconds:.1f} s"
        )


def play_case(
    case: Case,
    *,
    keeps_story: bool = False,
    prepare: Callable[[World], object] = lambda _: None,
    judged_by: Callable[[World], Judge] = Judge,
) -> Report:
    """
    Play a case. One in which the simulation itself fails is bad.

    :param prepare: is given the world before anything happens in it
    """
    worlds: list[World] = []

    def prepared(world: World) -> None:
        worlds.append(world)
        prepare(world)

    begun = time.process_time()
    try:
        complaints = play(
            case.seed,
            hours=case.hours,
            rates=case.rates,
            shape=case.shape,
            settles=case.settles,
            keeps_story=keeps_story,
            prepare=prepared,
            judged_by=judged_by,
        ).complaints
    except (Exception, OwnerIsOver):  # noqa: BLE001 - whatever it is: it ends one case of many
        complaints = [f"the simulation failed: {traceback.format_exc()}"]
    (world,) = worlds
    return Report(
        case=case,
        complaints=tuple(complaints),
        hours=(world.reactor.seconds() - BEGINNING) / 3600,
        lives=world.lives,
        faults=Counter(world.chance.counts),
        tapes=Counter(world.floor.counts),
        operations=sum((Counter(client.counts) for client in world.clients), Counter()),
        seconds=time.process_time() - begun,
        story=tuple(world.story),
    )
