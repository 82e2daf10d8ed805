# mypy: disallow-untyped-calls=False
# (twisted.application is not annotated)
"""Loops: look, decide, act, rest; with an owner that stops them and a growing pause after faults."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

PAUSE_FIRST_SECONDS = 1.0
PAUSE_MOST_SECONDS = 60.0


class Rests(Protocol):
    """What a loop waits on between rounds: a bell."""

    def wait(self, seconds: float) -> Deferred[None]:
        """Fire at a ring or after ``seconds``."""


class Loop(Service):
    """
    Runs rounds until it is stopped.

    ``one_round`` answers how many seconds to rest (the bell ends a rest early). An exception ends that round: it is
    logged, and the loop goes on after a pause that doubles up to a minute.
    """

    log = Logger()

    def __init__(
        self,
        name: str,
        one_round: Callable[[], Awaitable[float]],
        bell: Rests,
        *,
        plain_faults: tuple[type[Exception], ...] = (),
    ) -> None:
        """:param plain_faults: faults of the world, which an operator understands without a traceback."""
        self.setName(name)
        self._plain_faults = plain_faults
        self._one_round = one_round
        self._bell = bell
        self._running: Deferred[None] | None = None
        self.trouble = ""
        """Why the latest round failed; empty when it did not."""

    def startService(self) -> None:
        """Begin."""
        super().startService()
        self._running = Deferred.fromCoroutine(self._run())

    def stopService(self) -> Deferred[None] | None:
        """Cancel the round or rest under way; fires when it has let go."""
        super().stopService()
        running, self._running = self._running, None
        if running is None:
            return None
        running.cancel()
        return running

    async def _run(self) -> None:
        pause = PAUSE_FIRST_SECONDS
        while self.running:
            try:
                rest = await self._one_round()
                pause, self.trouble = PAUSE_FIRST_SECONDS, ""
            except CancelledError:
                return
            except Exception as fault:  # noqa: BLE001 - a loop outlives every fault of one round
                if not self.running:
                    return
                self.trouble = str(fault) or type(fault).__name__
                self._tell(fault, pause)
                rest, pause = pause, min(PAUSE_MOST_SECONDS, pause * 2)
            try:
                await self._bell.wait(rest)
            except CancelledError:
                return

    def _tell(self, fault: Exception, pause: float) -> None:
        if isinstance(fault, self._plain_faults):
            self.log.warn(
                "{name}: this round failed: {fault}; the next one begins in {pause:g} s",
                name=self.name,
                fault=self.trouble,
                pause=pause,
            )
        else:
            self.log.failure(
                "{name}: this round failed; the next one begins in {pause:g} s", name=self.name, pause=pause
            )
