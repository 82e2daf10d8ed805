"""Keeps the time by which retentions end: moves it on by what was measured, and tells when the clock of the machine says otherwise."""

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from coldstore.interfaces.metadata import IMetadataStore
from coldstore.model.events import Severity
from coldstore.plan.lock import LEEWAY_SECONDS, lock_time
from coldstore.plan.messages import iso_time
from coldstore.work.alerts import Alerts

REST_SECONDS = LEEWAY_SECONDS / 12
KIND = "clock-ahead"


class LockClock:
    """One round moves it on; nothing is written where no bucket takes locks."""

    log = Logger()

    def __init__(self, *, store: IMetadataStore, clock: IReactorTime, ticks: Callable[[], float]) -> None:
        """:param ticks: seconds of a clock that nobody sets"""
        self._store = store
        self._clock = clock
        self._ticks = ticks
        self._counted_at = ticks()
        self._alerts = Alerts(store=store, clock=clock)
        self._lag = ""

    async def one_round(self) -> float:
        """Count; return how long to rest."""
        now, ticks = self._clock.seconds(), self._ticks()
        reached_at = await self._store.advance_lock_clock(now=now, elapsed_seconds=ticks - self._counted_at)
        self._counted_at = ticks
        if reached_at is None or lock_time(now, reached_at) == now:
            self._lag = ""
        elif not self._lag:
            # What was said first stays, or the alert would be renewed with every round.
            self._lag = _sentence(now, reached_at)
            self.log.warn("{sentence}", sentence=self._lag)
        await self._alerts.follow(KIND, {"clock": self._lag} if self._lag else {}, Severity.WARNING)
        return REST_SECONDS


def _sentence(now: float, reached_at: float) -> str:
    return (
        f"By the clock of this machine it is {iso_time(now)}, and {iso_time(reached_at)} by what was measured while ColdStore ran: retentions "
        "of locked objects end by the latter, which catches up at twice its pace. After the appliance was off for long that is how it should be; "
        "else set the clock right."
    )
