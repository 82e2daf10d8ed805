"""A connection that is made anew whenever it ends."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from coldstore.metadata.postgres.client import Connection
from coldstore.model.errors import MetadataUnavailable

PAUSE_FIRST_SECONDS = 0.25
PAUSE_MOST_SECONDS = 15.0


class Time(Protocol):
    """What is needed of a clock."""

    def callLater(self, delay: float, f: Callable[..., Any], *args: Any, **kwargs: Any) -> IDelayedCall:
        """Call after ``delay`` seconds (``IReactorTime``)."""


class LastingConnection:
    """
    Keeps one connection up, from ``start`` to ``stop``: connects, begins the session, and after an end does so again.

    The pause between attempts doubles from a quarter of a second to a quarter of a minute.

    :ivar connection: the one that is up; None while there is none
    :ivar trouble: why there is none; empty while there is one
    """

    log = Logger()

    def __init__(
        self,
        make: Callable[[Callable[[MetadataUnavailable], None]], Connection],
        *,
        clock: Time,
        connect_seconds: float,
        begun: Callable[[Connection], Awaitable[object]] | None = None,
        up: Callable[[], None] = lambda: None,
    ) -> None:
        """
        :param make: makes a connection that tells of its end
        :param begun: begins each session: SET, LISTEN, PREPARE, the fence
        :param up: is told each time that a session has begun
        """
        self.connection: Connection | None = None
        self.trouble = "it was not started"
        self._make = make
        self._clock = clock
        self._connect_seconds = connect_seconds
        self._begun = begun
        self._up = up
        self._pause = PAUSE_FIRST_SECONDS
        self._is_running = False
        self._was_lost = False
        self._next: IDelayedCall | None = None
        self._attempt: Connection | None = None
        self._trying: Deferred[None] | None = None
        self._waiting: list[Deferred[Connection]] = []

    def start(self) -> None:
        """Try to connect, for as long as it takes."""
        self._is_running = True
        self._try()

    async def stop(self) -> None:
        """Close the connection and try no more; whoever waits fails with ``MetadataUnavailable``."""
        self._is_running = False
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self.connection is not None:
            self.connection.close()
            self.connection = None
        if self._attempt is not None:
            self._attempt.close()
        self.trouble = "it was stopped"
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.errback(MetadataUnavailable(self.trouble))
        if self._trying is not None:
            await self._trying

    async def ready(self, seconds: float) -> Connection:
        """
        Return the connection, once there is one.

        :raise MetadataUnavailable: there is none within ``seconds``; says why
        """
        if self.connection is not None:
            return self.connection
        if not self._is_running:
            raise MetadataUnavailable(self.trouble)
        waiting: Deferred[Connection] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        late = self._clock.callLater(seconds, waiting.cancel)
        is_late = False
        try:
            return await waiting
        except CancelledError:
            is_late = not late.active()
            if not is_late:
                raise
            raise MetadataUnavailable(self.trouble) from None
        finally:
            if not is_late and late.active():
                late.cancel()

    def _try(self) -> None:
        self._next = None
        self._trying = Deferred.fromCoroutine(self._tried())

    async def _tried(self) -> None:
        connection = self._attempt = self._make(self._ended)
        try:
            await connection.connect(self._connect_seconds, self._begun)
        except Exception as fault:  # noqa: BLE001 - it is told, and the next attempt comes
            connection.close()
            if not isinstance(fault, MetadataUnavailable):
                self.log.failure("no session of PostgreSQL could begin")
            self._rest(str(fault))
            return
        finally:
            self._attempt = None
            self._trying = None
        if connection.ended is not None or not self._is_running:
            connection.close()
            self._rest(str(connection.ended))
            return
        if self._was_lost:
            self._was_lost = False
            self.log.info("{address}: connected again", address=str(connection.address))
        self.connection, self.trouble, self._pause = connection, "", PAUSE_FIRST_SECONDS
        self._up()
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(connection)

    def _ended(self, why: MetadataUnavailable) -> None:
        """The connection that was up is lost. One whose session was about to begin fails by itself."""
        if self.connection is not None:
            self.connection = None
            self._was_lost = True
            self.log.warn("{why}", why=str(why))
            self._rest(str(why))

    def _rest(self, why: str) -> None:
        if self._is_running:
            self.trouble = why
            self._next = self._clock.callLater(self._pause, self._try)
            self._pause = min(PAUSE_MOST_SECONDS, self._pause * 2)
