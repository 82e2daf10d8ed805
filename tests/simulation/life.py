"""One run of the appliance, from its start to its end by kill -9: whatever it still wants to do after that has no effect."""

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from coldstore.plan.takeover import PROOF_SECONDS
from coldstore.util.asynchronous import returns_deferred
from coldstore.util.workers import outcome_of
from tests.simulation.reactor import Call, Owner, OwnerIsOver, VirtualReactor

_T = TypeVar("_T")


class LifeIsOver(OwnerIsOver):
    """The process was killed."""


class Life(Owner):
    """
    A process. Every effect it has on the world passes ``effect`` first.

    :ivar ends_at: the number of the effect, counted from 1, that does not happen any more; None: it lives on
    :param time_of_day: what the machine's clock says, which may be wrong; None: the present moment
    :param trace: is told each effect, for a digest of everything that happened
    """

    def __init__(
        self,
        reactor: VirtualReactor,
        *,
        time_of_day: Callable[[], float] | None = None,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__()
        self.time_of_day = time_of_day or reactor.seconds
        self.reactor = reactor
        self._trace = trace
        self.effects = 0
        self.last_effect = ""
        self.ends_at: int | None = None
        self.on_effect: Callable[[str], None] = lambda _what: None
        """Called before each effect, also the one that does not happen any more."""
        self.on_asking: Callable[[], None] = lambda: None
        """Called when it has asked whether it may act, and the answer is on its way."""
        self.on_end: Callable[[], None] = lambda: None
        """Called at the moment of death."""
        self.taken_over_at: float | None = None
        """When another process has begun a run on the record."""
        self.misdeeds: list[str] = []
        """What it did then that it must not."""
        self.computer: Any = None
        """The machine that it runs on: see ``Computer``."""
        self.watchers: dict[int, Any] = {}
        """Connections of clients, which break then."""
        self._waits_for: dict[int, Deferred[Any]] = {}
        self._tomb: list[object] = []
        """What the process was in the middle of when it died: collected as garbage it would run on, to its ``finally`` clauses."""

    def effect(self, what: str) -> None:
        """
        The process is about to change something that outlives it.

        :raise LifeIsOver: it is not alive any more
        """
        if self.is_over:
            raise LifeIsOver()
        self.effects += 1
        self.last_effect = what
        if self._trace is not None:
            self._trace(what)
        self.on_effect(what)
        if self.effects == self.ends_at:
            self.end()
            raise LifeIsOver()

    @property
    def is_superseded(self) -> bool:
        """Whether another process has taken over, so long ago that nothing may be begun here any more."""
        return self.taken_over_at is not None and (
            self.reactor.seconds() > self.taken_over_at + PROOF_SECONDS
        )

    def look(self) -> None:
        """
        The process is about to ask the world something.

        :raise LifeIsOver: it is not alive any more
        """
        if self.is_over:
            raise LifeIsOver()

    def end(self) -> None:
        """Kill it."""
        if not self.is_over:
            self.is_over = True
            self._tomb += [self._waits_for, self.held, self.reactor.owned_by(self)]
            self.on_end()
            for watcher in list(self.watchers.values()):
                watcher.closed()

    def heard(self, told: "Deferred[_T]") -> "Deferred[_T]":
        """Return what the process hears of something in the world: nothing once it is dead."""
        heard: Deferred[_T] = Deferred(lambda _: None)
        self._waits_for[id(heard)] = heard

        def hear(outcome: Any) -> None:
            if self.is_over:
                return
            if self.is_frozen:
                self.reactor.later(self, 0.0, hear, (outcome,), {})
                return
            del self._waits_for[id(heard)]
            if heard.called:
                return
            if isinstance(outcome, Failure):
                heard.errback(outcome)
            else:
                heard.callback(outcome)

        told.addBoth(hear)
        return heard


@implementer(IReactorTime)
class LifeReactor:
    """The process's own reactor: its calls end with it, and its ``seconds`` are what the machine's clock says."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._reactor = life.reactor
        self.seconds = life.time_of_day

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object) -> Call:
        """See ``IReactorTime``."""
        return self._reactor.later(self._life, delay, callable, args, kwargs)

    def callFromThread(self, f: Callable[..., Any], *args: object, **kwargs: object) -> None:
        """See ``IReactorFromThreads``."""
        self._reactor.later(self._life, 0.0, f, args, kwargs)

    def getDelayedCalls(self) -> list[Call]:
        """See ``IReactorTime``."""
        return [call for call in self._reactor.getDelayedCalls() if call.owner is self._life]


class LifeThreads:
    """
    Threads that are none: each call is made at once when its turn has come, after the time that it takes.

    :param seconds: gives the time of the next call
    """

    def __init__(self, life: Life, count: int, seconds: Callable[[], float]) -> None:
        self._life = life
        self._seconds = seconds
        self._free_at = [0.0] * count
        self._under_way = 0
        self._idle: list[Deferred[None]] = []

    def run(self, function: Callable[..., Any], *args: Any) -> "Deferred[Any]":
        """See ``Pool``."""
        done: Deferred[Any] = Deferred(lambda _: None)
        now = self._life.reactor.seconds()
        thread = min(range(len(self._free_at)), key=self._free_at.__getitem__)
        self._free_at[thread] = max(now, self._free_at[thread]) + self._seconds()
        self._under_way += 1
        self._life.reactor.later(
            self._life, self._free_at[thread] - now, self._work, (done, function, args), {}
        )
        return done

    def _work(self, done: "Deferred[Any]", function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        outcome = outcome_of(function, args)
        if self._life.is_over:
            return
        self._under_way -= 1
        self.tell(done, outcome)
        if self._under_way == 0:
            waiting, self._idle = self._idle, []
            for each in waiting:
                self._life.reactor.later(self._life, 0.0, each.callback, (None,), {})

    def tell(self, done: "Deferred[Any]", outcome: Any) -> None:
        """See ``Pool``."""
        self._life.reactor.later(self._life, 0.0, tell, (done, outcome), {})

    @returns_deferred
    async def stop(self) -> None:
        """See ``Pool``."""
        while self._under_way:
            idle: Deferred[None] = Deferred()
            self._idle.append(idle)
            await idle


def tell(done: "Deferred[Any]", outcome: Any) -> None:
    """Fire a Deferred with a result or a failure, unless that was cancelled."""
    if done.called:
        return
    if isinstance(outcome, Failure):
        done.errback(outcome)
    else:
        done.callback(outcome)
