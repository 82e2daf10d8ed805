"""The store of one PostgreSQL database: who runs the steps."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from uuid import uuid4

from twisted.internet.defer import Deferred

from coldstore.metadata.postgres.client import Address, Connection
from coldstore.metadata.postgres.readers import Readers
from coldstore.metadata.postgres.schema import shipped_migrations
from coldstore.metadata.postgres.sessions import WriterSessions
from coldstore.metadata.postgres.succession import Succession
from coldstore.metadata.postgres.waves import Shuffle
from coldstore.metadata.postgres.writer import Writer
from coldstore.metadata.sql.executor import Step
from coldstore.metadata.sql.migrations import Migration
from coldstore.metadata.sql.store import SqlStore
from coldstore.model.errors import MetadataUnavailable
from coldstore.util.asynchronous import returns_deferred

_T = TypeVar("_T")

WRITE_BATCH_MAX = 256
"""Steps that one commit may carry: enough to make the fsync cheap, few enough that the first need not wait long."""


def new_appliance_id() -> str:
    """Return an id that no other appliance has."""
    return str(uuid4())


class ServerExecutor:
    """One writer with group commit, readers beside it, and an ear for whoever comes after us."""

    def __init__(self, writer: Writer, readers: Readers, succession: Succession) -> None:
        self._writer = writer
        self._readers = readers
        self._succession = succession

    @returns_deferred
    async def open(self) -> None:
        """Connect: first the writer, which makes the database what it must be."""
        await self._writer.open()
        await self._readers.open()
        self._succession.start()

    def write(self, step: Step[_T]) -> Deferred[_T]:
        """Queue a changing step for the next transaction."""
        return self._writer.write(step)

    def read(self, step: Step[_T]) -> Deferred[_T]:
        """Run a step on what there is at one moment."""
        return self._readers.read(step)

    def look_up(self, step: Step[_T]) -> Deferred[_T]:
        """Run a step of one question, or few."""
        return self._readers.look_up(step)

    @returns_deferred
    async def close(self) -> None:
        """Come to the end of what was given, then disconnect."""
        # All at once: nothing is taken any more from this moment on.
        listening = Deferred.fromCoroutine(self._succession.stop())
        reading = self._readers.close()
        await self._writer.close()
        await reading
        await listening


class PostgresStore(SqlStore):
    """
    The metadata in one PostgreSQL database, which belongs to the user that we go there as.

    :param connect_seconds: for connecting; also how long steps wait for a server that has gone
    :param answer_seconds: how long one text may take until its connection is given up
    :param readers: connections for questions, beside the one that writes
    :param new_appliance_id: names a store that is new
    :param write_batch_max: most steps in one commit
    :param shuffle: see ``run_in_waves``
    """

    def __init__(
        self,
        address: Address,
        *,
        reactor: Any,
        connect_seconds: float,
        answer_seconds: float,
        readers: int,
        new_appliance_id: Callable[[], str] = new_appliance_id,
        migrations: Sequence[Migration] | None = None,
        write_batch_max: int = WRITE_BATCH_MAX,
        shuffle: Shuffle | None = None,
    ) -> None:
        def make(lost: Callable[[MetadataUnavailable], None]) -> Connection:
            return Connection(address, reactor=reactor, answer_seconds=answer_seconds, lost=lost)

        sessions = WriterSessions(
            shipped_migrations() if migrations is None else migrations,
            answer_seconds=answer_seconds,
            on_taken_over=self.taken_over,
        )
        writer = Writer(
            make,
            sessions,
            clock=reactor,
            batch_max=write_batch_max,
            connect_seconds=connect_seconds,
            new_appliance_id=new_appliance_id,
            shuffle=shuffle,
        )
        asked = Readers(
            make,
            count=readers,
            clock=reactor,
            connect_seconds=connect_seconds,
            answer_seconds=answer_seconds,
        )
        succession = Succession(
            address,
            sessions=sessions,
            readers=asked,
            reactor=reactor,
            answer_seconds=answer_seconds,
            connect_seconds=connect_seconds,
            on_taken_over=self.taken_over,
        )
        super().__init__(ServerExecutor(writer, asked, succession))
