"""Hears from the database that somebody else has become the writer, at once and without asking again and again."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from coldstore.metadata.postgres.bell import Listener
from coldstore.metadata.postgres.client import Address
from coldstore.metadata.postgres.readers import Readers
from coldstore.metadata.postgres.sessions import CHANNEL, WriterSessions
from coldstore.metadata.sql.database import Database
from coldstore.model.errors import MetadataUnavailable


async def _writer_epoch(db: Database) -> int:
    (epoch,) = await db.row("SELECT epoch FROM writer")
    return int(epoch)


class Succession:
    """
    Listens for new writers from ``start`` to ``stop``, on a connection of its own.

    What was told while that connection was away is not told again; so it looks whenever the connection is there again.
    """

    log = Logger()

    def __init__(
        self,
        address: Address,
        *,
        sessions: WriterSessions,
        readers: Readers,
        reactor: Any,
        answer_seconds: float,
        connect_seconds: float,
        on_taken_over: Callable[[str], None],
    ) -> None:
        """:param on_taken_over: is told, perhaps often, that another process has become the writer"""
        self._address = address
        self._sessions = sessions
        self._readers = readers
        self._on_taken_over = on_taken_over
        self._listener = Listener(
            address,
            CHANNEL,
            self.look,
            own=None,
            reactor=reactor,
            clock=reactor,
            answer_seconds=answer_seconds,
            connect_seconds=connect_seconds,
        )

    def start(self) -> None:
        """Listen, for as long as it takes."""
        self._listener.start()

    async def stop(self) -> None:
        """Listen no more."""
        await self._listener.stop()

    def look(self) -> None:
        """See who is the writer."""
        Deferred.fromCoroutine(self._look()).addErrback(
            lambda failure: self.log.failure("the writer of the metadata cannot be looked at", failure)
        )

    async def _look(self) -> None:
        try:
            epoch = await self._readers.look_up(_writer_epoch)
        except MetadataUnavailable:
            # The next session of the listener looks again.
            return
        if self._sessions.epoch is not None and epoch > self._sessions.epoch:
            self._on_taken_over(f"another process has become the writer of {self._address}")
