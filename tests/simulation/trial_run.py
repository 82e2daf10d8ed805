"""A seed from its beginning to its verdict."""

import gc
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, globalLogBeginner, globalLogPublisher

from tests.simulation.chance import Rates
from tests.simulation.clients import Client
from tests.simulation.invariants import Judge
from tests.simulation.narrator import narrate
from tests.simulation.world import Shape, World

LOOK_SECONDS = 300.0
"""Between glances of the judge."""
LOOK_HOURS = 6.0
"""Between his looks at everything."""
SETTLE_HOURS = 4 * 24.0
"""What waits longest waits for an operator, who comes a few times a day; what was put off is tried again after an hour."""
READ_HOURS = 4 * 24.0
SWEEP_HOURS = 1.5
GARBAGE_ROUNDS = 4


@dataclass(slots=True)
class Verdict:
    """What came of a seed."""

    seed: int
    complaints: list[str] = field(default_factory=list)
    world: World | None = None
    virtual_seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.complaints


GARBAGE_THRESHOLDS = (50_000, 20, 1000)
"""A world makes much and keeps most of it: looking for garbage as often as Python does by itself costs a tenth of the time."""


def silence(observers: Sequence[ILogObserver] = ()) -> None:
    """Have a process that only plays say nothing: logs are heard by the world, and coroutines of the dead protest in vain."""
    globalLogBeginner.beginLoggingTo(observers, redirectStandardIO=False)
    sys.unraisablehook = lambda _: None
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    # Modules are no garbage, and are not looked through before each world.
    gc.collect()
    gc.freeze()


def play(
    seed: int,
    *,
    hours: float = 72.0,
    rates: Rates | None = None,
    shape: Shape | None = None,
    settles: bool | None = None,
    keeps_story: bool = False,
    prepare: Callable[[World], object] = lambda _: None,
    judged_by: Callable[[World], Judge] = Judge,
    settle_hours: float = SETTLE_HOURS,
) -> Verdict:
    """
    Play one seed: some days of everything, and for every second seed a time without faults in which all must finish.

    :param settles: None lets the seed decide
    :param settle_hours: in which everything must have finished once the faults are off
    :param prepare: is given the world before anything happens in it, to watch it
    """
    # What is left of worlds before this one is thrown away now: coroutines of the dead run on when they are, and protest.
    for _ in range(GARBAGE_ROUNDS):
        gc.collect()
    world = World(seed, rates=rates, shape=shape)
    if keeps_story:
        narrate(world)
    prepare(world)
    globalLogPublisher.addObserver(world.heard)
    try:
        does_settle = seed % 2 == 1 if settles is None else settles
        return _played(world, judged_by(world), hours, settle_hours if does_settle else None)
    finally:
        globalLogPublisher.removeObserver(world.heard)


class Watch:
    """Lets a world's time go by under the eyes of its judge. ``found`` is what is wrong: from then on time stands still."""

    def __init__(self, world: World, judge: Judge) -> None:
        self._world = world
        self._judge = judge
        self.found: list[str] = []

    def pass_hours(self, hours: float) -> None:
        """Let so many hours go by, and look at everything at their end."""
        self.until(lambda: False, hours=hours)
        if not self.found:
            self.found += self._judge.complaints()

    def until(self, condition: Callable[[], bool], *, hours: float) -> bool:
        """Let time go by until a condition holds, so many hours at most; return whether it does."""
        came = self._world.until(
            lambda: self._is_anything_wrong() or condition(), hours=hours, every_seconds=LOOK_SECONDS
        )
        return came and not self.found

    def _is_anything_wrong(self) -> bool:
        if not self.found:
            self.found += self._judge.look()
        return bool(self.found)


def _played(world: World, judge: Judge, hours: float, settle_hours: float | None) -> Verdict:
    verdict = Verdict(world.seed, world=world)
    begun = world.reactor.seconds()
    world.begin()
    watch = Watch(world, judge)
    passed = 0.0
    while passed < hours and not watch.found:
        watch.pass_hours(min(LOOK_HOURS, hours - passed))
        passed += LOOK_HOURS
    verdict.complaints += watch.found
    if not verdict.complaints and settle_hours is not None:
        verdict.complaints += settle(world, judge, hours=settle_hours)
    verdict.virtual_seconds = world.reactor.seconds() - begun
    for complaint in verdict.complaints:
        world.tell(f"COMPLAINT {complaint}")
    return verdict


def settle(world: World, judge: Judge, *, hours: float = SETTLE_HOURS) -> list[str]:
    """Switch the faults off and see that everything finishes and every acknowledged object is there."""
    world.quieten()
    watch = Watch(world, judge)
    watch.until(lambda: world.run is not None and world.run.is_serving, hours=24)
    watch.until(lambda: not judge.unfinished(), hours=hours)
    if watch.found:
        return watch.found
    complaints = [f"at the end {what}" for what in judge.unfinished()] + judge.account()
    if complaints:
        return complaints + judge.complaints()
    # What this life left behind is found by the next one, which sweeps at its start.
    world.kill()
    watch.pass_hours(SWEEP_HOURS)
    readers = [Reader(client, spoiled=world.spoiled_keys) for client in (*world.clients, *world.governed)]
    for reader in readers:
        reader.begin()
    if not watch.until(lambda: all(reader.is_done for reader in readers), hours=READ_HOURS):
        if watch.found:
            return watch.found
        complaints += [
            f"{reader.client.name} could not read {reader.missing()}"
            for reader in readers
            if not reader.is_done
        ]
    watch.pass_hours(2)
    if watch.found:
        return complaints + watch.found
    return complaints + judge.complaints() + world.complaints + judge.leaks() + judge.untold()


class Reader:
    """Has a client read back everything that it was ever promised."""

    def __init__(
        self, client: Client, *, spoiled: Collection[str] = (), rest_seconds: float = 1800.0
    ) -> None:
        """
        :param spoiled: keys that need not be read, because the world has destroyed what is served of them
        :param rest_seconds: how long it waits before it asks again for what was not there
        """
        self.client = client
        self._rest_seconds = rest_seconds
        self._left = [key for key in client.ledger.names() if key not in spoiled]
        self._cold: list[str] = []
        self.is_done = False
        """Whether all was read. While it goes through what is left, nothing may be left over: that is not the end yet."""

    def missing(self) -> list[str]:
        """What was not."""
        return self._left + self._cold

    def begin(self) -> None:
        """Read everything once, asking for what is cold, and again until all was there."""
        Deferred.fromCoroutine(self._all()).addErrback(
            lambda failure: self.client.complain(failure.getTraceback())
        )

    async def _all(self) -> None:
        while self._left or self._cold:
            left, self._left = self._left + self._cold, []
            self._cold = []
            for key in left:
                came = await self.client.read(key)
                if came == "later":
                    self._left.append(key)
                elif came == "cold":
                    await self.client.wish(key, "Standard")
                    self._cold.append(key)
            if self._left or self._cold:
                await self.client.rest(self._rest_seconds)
        self.is_done = True
