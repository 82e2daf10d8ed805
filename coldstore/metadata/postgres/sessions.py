"""What belongs to every session of the store, and what to the one that writes."""

import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.task import deferLater
from twisted.logger import Logger

from coldstore.interfaces.metadata import AnotherAppliance
from coldstore.metadata.postgres.client import Backend, Connection, FenceTaken
from coldstore.metadata.postgres.schema import applied, migrate
from coldstore.metadata.sql.migrations import Migration, missing
from coldstore.model.errors import MetadataUnavailable, TakenOver
from coldstore.util.thishost import host_name

FENCE = int.from_bytes(b"coldstor")
"""The advisory lock of the one writer, of each database."""
CHANNEL = "coldstore_writer"
"""Says that there is a new writer (NOTIFY)."""
PAUSE_SECONDS = 0.25
NAME_BYTES = 63
"""Of an application's name the server keeps so many (PostgreSQL 15, 20.8.1)."""
Make = Callable[[Callable[[MetadataUnavailable], None]], Connection]
"""Makes a connection that tells of its end."""

_PLANS = ("enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin", "jit")
"""Off, because every question has its index, and is not to be planned anew as tables grow (PostgreSQL 15, 20.7.1)."""


async def settle(connection: Connection, *, answer_seconds: float, is_reader: bool = False) -> None:
    """
    Begin a session.

    The server gives a statement up before we would, so that what became of it is known; it does not wait for ever for a client that
    has fallen silent, in a transaction or by its network, because that one may have the fence.
    """
    limit_ms = int(answer_seconds * 900)
    words = [
        *(f"SET {name} = off" for name in _PLANS),
        f"SET statement_timeout = {limit_ms}",
        f"SET idle_in_transaction_session_timeout = {limit_ms}",
        # With a session that has nothing to do the fence would go.
        "SET idle_session_timeout = 0",
        "SET tcp_keepalives_idle = 20",
        "SET tcp_keepalives_interval = 5",
        "SET tcp_keepalives_count = 4",
        f"SET default_transaction_read_only = {'on' if is_reader else 'off'}",
        # Moments come back as they were written.
        "SET extra_float_digits = 1",
        # What is told is on the disk, whatever the server does for others; set, so that a reload of its configuration changes nothing.
        "SELECT set_config('synchronous_commit', coalesce(nullif(current_setting('synchronous_commit'), 'off'), 'on'), false)",
    ]
    await connection.run(";".join(words))


class WriterSessions:
    """
    Begins the sessions of the one writer, one after the other, each behind the fence.

    :ivar batch: the number of the last transaction that was committed, as of when the last session began or as ``committed`` said
    :ivar epoch: which writer of this database we are, counted; None before the first session
    """

    log = Logger()

    def __init__(
        self,
        migrations: Sequence[Migration],
        *,
        answer_seconds: float,
        on_taken_over: Callable[[str], None] = lambda _: None,
    ) -> None:
        """:param on_taken_over: is told, perhaps often, that another process has become the writer"""
        self.batch = 0
        self._on_taken_over = on_taken_over
        self._name = f"process {os.getpid()} on {host_name()}".encode()[:NAME_BYTES].decode(errors="ignore")
        self._migrations = migrations
        self._answer_seconds = answer_seconds
        self.epoch: int | None = None
        self._number = 0
        self._number_written = 0
        self._backends: deque[Backend] = deque(maxlen=8)

    async def prepare(
        self, make: Make, *, clock: Any, seconds: float, new_appliance_id: Callable[[], str]
    ) -> None:
        """
        See that there is a server, that nobody else writes, and that the schema is the program's; make that of an empty database.

        A server that is just starting, or a writer that is just ending, is waited for.

        :raise AnotherAppliance: somebody else still writes after ``seconds``
        :raise MetadataUnavailable: within ``seconds`` it was not to be; says why
        :raise SchemaTooNew, SchemaTooOld, MigrationAltered: the schema is another one
        """

        async def begun(connection: Connection) -> None:
            await settle(connection, answer_seconds=self._answer_seconds)
            await self._take_fence(connection)
            await migrate(connection, self._migrations, new_appliance_id=new_appliance_id, is_upgrade=False)
            await self._warn(connection)

        end, pause = clock.seconds() + seconds, PAUSE_SECONDS
        while True:
            connection = make(lambda why: None)
            try:
                await connection.connect(max(PAUSE_SECONDS, end - clock.seconds()), begun)
                return
            except MetadataUnavailable as fault:
                if clock.seconds() + pause > end:
                    if isinstance(fault, FenceTaken):
                        raise AnotherAppliance(
                            f"the database at {connection.address}", fault.holder
                        ) from fault
                    raise
            finally:
                connection.close()
            await deferLater(clock, pause)
            pause *= 2

    async def begun(self, connection: Connection) -> None:
        """
        Begin a session that writes.

        :raise FenceTaken: somebody else writes
        :raise TakenOver: somebody else did so since our last session, or the server has lost what it had confirmed: what this process
            remembers is not so any more
        :raise SchemaTooNew, SchemaTooOld, MigrationAltered: the schema was changed meanwhile
        """
        await settle(connection, answer_seconds=self._answer_seconds)
        await self._take_fence(connection)
        if missing(await applied(connection), self._migrations, is_upgrade=False):
            raise MetadataUnavailable(f"{connection.address}: the schema has gone")
        # A commit in any case: it waits for what the one before was cut off from waiting for, the standbys that the server demands.
        is_first = self.epoch is None
        answer = await connection.run(
            (f"NOTIFY {CHANNEL};" if is_first else "")
            + f"UPDATE writer SET epoch = epoch + {int(is_first)} RETURNING epoch, batch, (SELECT last_version FROM store)"
        )
        ((epoch, batch, number),) = answer.rows
        if self.epoch is not None and epoch != self.epoch:
            raise self._useless(connection, "another process has written since this one lost its connection")
        if batch < self.batch:
            raise self._useless(
                connection,
                f"it does not hold what it confirmed ({batch} transactions, not {self.batch});"
                " perhaps a standby has taken its place, or it was restored",
            )
        self.epoch, self.batch, self._number, self._number_written = epoch, batch, number, number

    def stamp(self) -> bytes:
        """Return the statements at the end of the next transaction; they fail when somebody else has become the writer."""
        stamp = b"UPDATE writer SET batch = %d, epoch = CASE WHEN epoch = %d THEN epoch END" % (
            self.batch + 1,
            self.epoch or 0,
        )
        if self._number != self._number_written:
            stamp += b";UPDATE store SET last_version = %d" % self._number
        return stamp

    def next_number(self) -> int:
        """
        Return the next number of versions and publications.

        It comes from memory, because there is one writer; ``stamp`` writes the last one down. One whose transaction was undone is left out.
        """
        self._number += 1
        return self._number

    def committed(self) -> None:
        """The transaction with the last stamp was committed."""
        self.batch += 1
        self._number_written = self._number

    async def _take_fence(self, connection: Connection) -> None:
        self._backends.append(await connection.fence(FENCE, self._backends, name=self._name))

    def _useless(self, connection: Connection, why: str) -> TakenOver:
        """Tell, and return, why this process can go on no more."""
        sentence = f"{connection.address}: {why}; this process is of no use any more and must be restarted"
        self._on_taken_over(sentence)
        return TakenOver(sentence)

    async def _warn(self, connection: Connection) -> None:
        ((is_safe,),) = (await connection.run("SHOW fsync")).rows
        if is_safe != "on":
            self.log.warn(
                "{address} has fsync off: what it commits may be lost", address=str(connection.address)
            )
