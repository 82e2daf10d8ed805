"""Waiting for what only one appliance can have, and noticing that somebody else has it now."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from coldstore.appliance.tenure import Tenure
from coldstore.interfaces.metadata import AnotherAppliance, IMetadataStore
from coldstore.model.errors import ColdStoreError, TakenOver
from coldstore.util.statedir import StateDirectoryInUse

_T = TypeVar("_T")

GRACE_SECONDS = 3.0
"""A process that a killed appliance was just starting holds on to its locks for a moment, until its program runs."""
GRACE_PAUSE_SECONDS = 0.3
PAUSE_SECONDS = 5.0
"""Between two looks of a standby at locks that are taken."""
SAY_SECONDS = 3600.0
"""A standby says so often in the log that it is one."""
LOOK_SECONDS = 5.0
"""Between two looks of a running appliance at whether it is still the one."""


class Turn:
    """
    Takes, one after the other, what only one appliance can have.

    A lock that somebody has is tried again for ``GRACE_SECONDS``. After that an appliance gives up, unless it is a standby: then it
    waits, as long as it takes.
    """

    log = Logger()

    def __init__(self, *, is_standby: bool, clock: IReactorTime, tell: Callable[[str], None]) -> None:
        """:param tell: is given what the service manager is to know, as sd_notify(3) has it"""
        self._is_standby = is_standby
        self._clock = clock
        self._tell = tell
        self._told_holder: str | None = None
        self._told_at = 0.0

    async def take(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """
        Make attempts until one succeeds; return what it comes to.

        :raise StateDirectoryInUse, AnotherAppliance: somebody else has it, and this is no standby
        """
        grace_until = self._clock.seconds() + GRACE_SECONDS
        while True:
            try:
                return await attempt()
            except (StateDirectoryInUse, AnotherAppliance) as taken:
                pause = GRACE_PAUSE_SECONDS
                if self._clock.seconds() >= grace_until:
                    if not self._is_standby:
                        raise
                    self._say(taken)
                    pause = PAUSE_SECONDS
            await deferLater(self._clock, pause)

    @property
    def has_stood_by(self) -> bool:
        """Whether somebody else had it for a while."""
        return self._told_holder is not None

    def _say(self, taken: "StateDirectoryInUse | AnotherAppliance") -> None:
        now = self._clock.seconds()
        is_news = taken.holder != self._told_holder
        if is_news:
            self._tell(f"READY=1\nSTATUS=standing by for {taken.holder}")
        # The clock may have been set back.
        if is_news or not 0 <= now - self._told_at < SAY_SECONDS:
            self.log.info("standing by: {reason}", reason=str(taken))
            self._told_at = now
        self._told_holder = taken.holder


class Watch:
    """Learns that this appliance is not the one any more: from its store, and by looking now and then."""

    log = Logger()

    def __init__(
        self,
        *,
        store: IMetadataStore,
        tenure: Tenure,
        clock: IReactorTime,
        on_taken_over: Callable[[str], None],
    ) -> None:
        """:param on_taken_over: is called once, with a sentence that names who has taken over"""
        self._store = store
        self._tenure = tenure
        self._clock = clock
        self._on_taken_over = on_taken_over
        self._watching: list[Deferred[Any]] = []

    def start(self) -> None:
        """Begin to watch."""
        looking: Deferred[Any] = Deferred.fromCoroutine(self._look())
        told = self._store.when_taken_over(), self._tenure.when_lost()
        self._watching = [looking, *told]
        looking.addErrback(self._failed)
        for each in told:
            each.addCallbacks(self._over, self._failed)

    def stop(self) -> None:
        """Watch no more."""
        watching, self._watching = self._watching, []
        for each in watching:
            each.cancel()

    async def _look(self) -> None:
        while True:
            try:
                await self._tenure.confirm()
            except TakenOver:
                return
            except ColdStoreError:
                # Whoever cannot be asked tells nothing; the loops say that the store or the disk is away.
                pass
            await deferLater(self._clock, LOOK_SECONDS)

    def _over(self, sentence: str) -> None:
        if self._watching:
            self.stop()
            self._on_taken_over(sentence)

    def _failed(self, failure: Any) -> None:
        if not failure.check(CancelledError):
            self.log.failure("whether another appliance has taken over cannot be watched", failure)
