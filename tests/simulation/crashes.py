"""
A scenario, cut short: the process dies at one effect, the next one perhaps at one of its own, and the last must put everything right.

Each story is played in a copy of this process, made by fork: so a world is prepared once, and whatever can become of it is tried.
"""

import gc
import os
import pickle
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import TypeVar

from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from tests.simulation.life import Life
from tests.simulation.scenarios import SCENARIOS, Scenario, Stage
from tests.simulation.world import World

_T = TypeVar("_T")
_LOOK = re.compile(r"(volume|mover) \d+ (space|is_alive|list)")
"""Effects that change nothing."""


@dataclass(frozen=True, slots=True)
class Death:
    """Where a process dies: instead of its effect of this number, counted from 1; by kill -9, or as the power goes."""

    effect: int
    is_by_power: bool

    def __str__(self) -> str:
        return f"{'power cut' if self.is_by_power else 'kill'} at {self.effect}"


@dataclass(slots=True)
class Trail:
    """
    The effects of a process.

    :ivar effects: what each was
    :ivar rows: rows that the database had changed ever, before each
    """

    effects: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    is_over: bool = False

    def follow(self, world: World, life: Life) -> None:
        """Note the effects of a life from now on."""

        def note(what: str) -> None:
            if not self.is_over:
                self.effects.append(what)
                self.rows.append(world.database.connection.total_changes)

        life.on_effect = note

    def end(self) -> None:
        """Note no more."""
        self.is_over = True

    def states(self, *, is_by_power: bool) -> list[int]:
        """
        Return the numbers of the effects, and of the one after the last, before which a death finds another world than one effect
        earlier. Of many commits without a change, as loops make them every minute, only the first and the last count: in between
        only time goes by. What was synced is another world only when the power goes.
        """
        numbers = [1]
        for index, what in enumerate(self.effects):
            if what == "commit":
                is_last = index + 1 == len(self.effects)
                counts = (
                    is_last or self.rows[index + 1] != self.rows[index] or self.effects[index + 1] != "commit"
                )
            elif what.startswith("sync "):
                counts = is_by_power
            else:
                counts = _LOOK.fullmatch(what) is None
            if counts:
                numbers.append(index + 2)
        return numbers


@dataclass(slots=True)
class Outcome:
    """
    What came of a story.

    :ivar trails: the effects of each life, those of the first from where the scenario began
    """

    complaints: list[str] = field(default_factory=list)
    trails: list[Trail] = field(default_factory=list)
    story: list[str] = field(default_factory=list)


def played(stage: Stage, scenario: Scenario, deaths: Sequence[Death]) -> Outcome:
    """Play a scenario to its end, or to the last of these deaths and the recovery from it. The stage is used up."""
    world = stage.world
    globalLogPublisher.addObserver(world.heard)
    outcome = Outcome()
    begun = len(world.story)
    to_come = list(deaths)

    def born(life: Life) -> None:
        outcome.trails.append(Trail())
        outcome.trails[-1].follow(world, life)
        if to_come:
            life.ends_at = life.effects + to_come[0].effect

    if world.run is not None:
        born(world.run.life)
    world.on_birth = born
    outcome.complaints += stage.judge.complaints()
    scenario.act(stage)
    lived = _plays(stage, scenario)
    for death in deaths:
        outcome.complaints += _die(stage, death)
        to_come.pop(0)
        lived = stage.recovers()
    if not lived:
        outcome.complaints.append("it does not come to its end")
    elif deaths:
        outcome.trails[-1].end()
        outcome.complaints += stage.verdict()
    outcome.story = world.story[begun:]
    return outcome


def _plays(stage: Stage, scenario: Scenario) -> bool:
    """Let time go by until a scenario is done or the process has died; return whether it is done."""
    dead = len(stage.world.graves)
    stage.until(_watched(stage, lambda: len(stage.world.graves) > dead or scenario.is_done(stage)))
    return len(stage.world.graves) == dead and scenario.is_done(stage)


def _die(stage: Stage, death: Death) -> list[str]:
    """Have the process be dead, the power gone; return what is wrong then."""
    world = stage.world
    world.kill()
    if death.is_by_power:
        world.chance.stream("power").seed(f"{death}")
        world.cut_power()
    return stage.judge.complaints()


def _watched(stage: Stage, condition: Callable[[], bool]) -> Callable[[], bool]:
    """A condition that is looked at only when the appliance has had an effect since, or is dead."""
    seen: list[object] = []

    def holds() -> bool:
        run = stage.world.run
        now = [run, run and run.life.effects, stage.is_answered]
        if now == seen:
            return False
        seen[:] = now
        return condition()

    return holds


class Amiss(Exception):
    """A story in which something was wrong."""


@dataclass(slots=True)
class Report:
    """
    What came of all deaths in a scenario.

    :ivar effects: those of the scenario
    :ivar once, twice: how many stories were played with one death, and with two
    :ivar complaint: the story in which something was wrong; nothing more was tried then
    """

    effects: list[str] = field(default_factory=list)
    once: int = 0
    twice: int = 0
    complaint: str = ""


def die_everywhere(name: str, *, pairs: int | None) -> Report:
    """
    Play a scenario with a death in each of its states, by kill and by power cut, and with pairs of deaths.

    :param pairs: how many are drawn of those that there are; None for all
    """
    scenario = SCENARIOS[name]
    stage = scenario.stage()
    gc.collect()
    report = Report()
    try:
        whole = _tried(name, stage, [])
        report.effects = whole.trails[0].effects
        two: list[tuple[Death, Death]] = []
        for death in _deaths(whole):
            two += [(death, again) for again in _deaths(_tried(name, stage, [death]))]
            report.once += 1
        for both in two if pairs is None else Random(name).sample(two, pairs):
            _tried(name, stage, both)
            report.twice += 1
    except Amiss as amiss:
        report.complaint = str(amiss)
    return report


def _deaths(outcome: Outcome) -> list[Death]:
    """Return the deaths that the last life of a story can die."""
    return [
        Death(state, is_by_power)
        for is_by_power in (False, True)
        for state in outcome.trails[-1].states(is_by_power=is_by_power)
    ]


def _tried(name: str, stage: Stage, deaths: Sequence[Death]) -> Outcome:
    """
    Play a story in a copy of the world.

    :raise Amiss: something was wrong
    """
    outcome = in_a_copy(partial(played, stage, SCENARIOS[name], deaths))
    if outcome.complaints:
        where = [
            f"{death} ({trail.effects[death.effect - 1] if death.effect <= len(trail.effects) else 'after the last'})"
            for death, trail in zip(deaths, outcome.trails, strict=False)
        ]
        lines = [f"{name}: {', then '.join(where) or 'nobody dies'}", *outcome.complaints, *outcome.story]
        raise Amiss("\n".join(lines))
    return outcome


def in_a_copy(function: Callable[[], _T]) -> _T:
    """
    Call a function in a copy of this process and return what it returned; nothing else of it remains.

    :raise RuntimeError: with the traceback of what it raised
    """
    reading, writing = os.pipe()
    process_id = os.fork()
    if process_id == 0:
        # Nothing of what is underway here may run on in the copy, whatever happens: neither handlers nor destructors.
        try:
            gc.disable()
            os.close(reading)
            try:
                said = pickle.dumps((True, function()))
            except BaseException:  # noqa: BLE001 - told to who waits for it
                said = pickle.dumps((False, Failure().getTraceback()))
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(said)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(process_id, 0)
    if not said:
        raise RuntimeError("the copy died without a word")
    is_well, came = pickle.loads(said)
    if not is_well:
        raise RuntimeError(came)
    return came  # type: ignore[no-any-return]
