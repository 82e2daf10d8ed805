"""The store whose rows are in etcd: who runs its steps."""

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

from twisted.internet.defer import Deferred, fail

from coldstore.interfaces.metadata import Epoch, RecordElsewhere
from coldstore.metadata.etcd.changes import WatchedConnection
from coldstore.metadata.etcd.gateway import Address, Gateway, end_of
from coldstore.metadata.etcd.keys import Keys
from coldstore.metadata.etcd.log import Batch, Log, this_process
from coldstore.metadata.etcd.replica import Replica
from coldstore.metadata.etcd.schema import first_rows, ledger
from coldstore.metadata.etcd.server import Upkeep, check_server
from coldstore.metadata.sql.executor import Outcome, Step, closed
from coldstore.metadata.sql.migrations import Migration, missing
from coldstore.metadata.sql.store import SqlStore
from coldstore.metadata.sqlite.connection import open_for_reading
from coldstore.metadata.sqlite.driver import Connection
from coldstore.metadata.sqlite.erasing import erase_log
from coldstore.metadata.sqlite.executors import ThreadedExecutor
from coldstore.metadata.sqlite.groupcommit import commit, roll_back
from coldstore.metadata.sqlite.schema import shipped_migrations
from coldstore.model.errors import MetadataUnavailable, TakenOver
from coldstore.util.asynchronous import returns_deferred
from coldstore.util.workers import Reactor, Workers

_T = TypeVar("_T")

WRITE_BATCH_MAX = 256
"""Steps that one batch may carry; etcd's limits let hardly ever so many in."""
LEASE_SECONDS = 15
PATIENCE_SECONDS = 30.0


class EtcdStore(SqlStore):
    """
    The metadata in etcd, with a replica in a local file.

    :param address: where etcd is
    :param prefix: begins all keys; one appliance has it
    :param replica_path: the file, in a directory that exists
    :param request_seconds: how long an answer may take
    :param new_appliance_id: names a store that is new
    """

    def __init__(
        self,
        address: Address,
        *,
        prefix: str,
        replica_path: str,
        reactor: Any,
        request_seconds: float = 10.0,
        lease_seconds: int = LEASE_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
        new_appliance_id: Callable[[], str] = lambda: str(uuid4()),
        migrations: Sequence[Migration] | None = None,
        write_batch_max: int = WRITE_BATCH_MAX,
    ) -> None:
        self._etcd = EtcdExecutor(
            lambda: Gateway(address, reactor=reactor, request_seconds=request_seconds),
            keys=Keys(prefix),
            replica_path=replica_path,
            reactor=reactor,
            lease_seconds=lease_seconds,
            patience_seconds=patience_seconds,
            new_appliance_id=new_appliance_id,
            migrations=shipped_migrations() if migrations is None else migrations,
            write_batch_max=write_batch_max,
            on_taken_over=self.taken_over,
        )
        super().__init__(self._etcd)
        self._replica_path = replica_path
        self._reactor = reactor

    @returns_deferred
    async def newest_epoch(self) -> Epoch | None:
        """Return the latest run. The replica knows only what we have written: etcd is asked whether anybody else writes."""
        await self._etcd.confirm()
        return await super().newest_epoch()

    @returns_deferred
    async def forget_plain_secrets(self) -> None:
        """Erase secrets in the clear; etcd itself keeps what was until it is compacted and defragmented."""
        await super().forget_plain_secrets()
        await erase_log(self._replica_path, self._reactor)


class EtcdExecutor:
    """See ``Executor``. Steps run in the replica; what they changed goes to etcd before it is committed there."""

    def __init__(
        self,
        connect: Callable[[], Gateway],
        *,
        keys: Keys,
        replica_path: str,
        reactor: Reactor,
        lease_seconds: int,
        patience_seconds: float,
        new_appliance_id: Callable[[], str],
        migrations: Sequence[Migration],
        write_batch_max: int,
        on_taken_over: Callable[[str], None],
    ) -> None:
        """:param on_taken_over: is told why nothing may be written any more"""
        self._on_taken_over = on_taken_over
        self._connect = connect
        self._keys = keys
        self._path = replica_path
        self._reactor = reactor
        self._lease_seconds = lease_seconds
        self._patience_seconds = patience_seconds
        self._new_appliance_id = new_appliance_id
        self._migrations = migrations
        self._write_batch_max = write_batch_max
        self._open: _Opened | None = None

    @returns_deferred
    async def open(self) -> None:
        """Become the writer, bring the replica to what etcd has, and begin."""
        gateway = self._connect()
        workers = Workers(self._reactor, 1, "metadata-replica")
        log = Log(
            gateway,
            self._keys,
            run=uuid4().hex,
            reactor=self._reactor,
            lease_seconds=self._lease_seconds,
            patience_seconds=self._patience_seconds,
            on_taken_over=self._on_taken_over,
        )
        replica = Replica(self._path, gateway, self._keys, migrations=self._migrations, workers=workers)
        opened = _Opened(gateway, self._keys, log, replica, workers, self._reactor)
        try:
            await check_server(gateway, self._keys)
            await replica.look()
            await self._check_schema(gateway, was_there=replica.is_there)
            name = uuid4().hex if replica.mark is None else replica.mark.name
            await log.begin(this_process(self._reactor, replica=name))
            if not await self._check_schema(gateway, was_there=replica.is_there):
                await log.append(first_rows(self._keys, self._migrations, self._new_appliance_id))
            await replica.bring_to(log.last, name=name)
            await opened.begin(self._path, self._write_batch_max)
        except BaseException:
            await opened.close()
            raise
        self._open = opened

    def write(self, step: Step[_T]) -> Deferred[_T]:
        """See ``Executor``."""
        return self._refusal() or self._threads.write(step)

    def read(self, step: Step[_T]) -> Deferred[_T]:
        """See ``Executor``."""
        return self._refusal() or self._threads.read(step)

    def look_up(self, step: Step[_T]) -> Deferred[_T]:
        """See ``Executor``."""
        return self._refusal() or self._threads.look_up(step)

    @returns_deferred
    async def confirm(self) -> None:
        """See ``Log``."""
        if refusal := self._refusal():
            await refusal
        assert self._open is not None, "asked before"
        await self._open.log.confirm()

    @returns_deferred
    async def close(self) -> None:
        """See ``Executor``."""
        opened, self._open = self._open, None
        if opened is not None:
            await opened.close()

    @property
    def _threads(self) -> ThreadedExecutor:
        assert self._open is not None and self._open.threads is not None, "asked before"
        return self._open.threads

    def _refusal(self) -> "Deferred[Any] | None":
        """Nothing is done when we are not open; and nothing read that another appliance may have changed."""
        if self._open is None:
            return fail(closed())
        if self._open.log.taken_over:
            return fail(TakenOver(self._open.log.taken_over))
        return None

    async def _check_schema(self, gateway: Gateway, *, was_there: bool) -> bool:
        """
        Return whether there is a store.

        :param was_there: whether we once knew one
        :raise SchemaTooNew, SchemaTooOld: not of this program
        :raise RecordElsewhere: there is none, but there was, or something else is there
        """
        applied = await ledger(gateway, self._keys, self._migrations)
        if applied:
            missing(applied, self._migrations, is_upgrade=False)
            return True
        where = self._keys.all.decode()
        if was_there:
            raise RecordElsewhere(
                f"etcd has nothing under {where}, and {self._path} is of a store that was there: name the right endpoints and prefix,"
                " or restore the backup of etcd; to begin anew with nothing, move the file away"
            )
        # A first run that ended early has been the writer, and may have voided a batch that it lost sight of.
        begun = (self._keys.writer, self._keys.batch)
        others = await gateway.range(self._keys.all, end_of(self._keys.all), limit=3, keys_only=True)
        if any(row.key not in begun for row in others.rows):
            raise RecordElsewhere(
                f"etcd has keys under {where} that are no store of ColdStore: choose another prefix"
            )
        return False


class _Opened:
    """What an open store has, and how it is let go."""

    def __init__(
        self,
        gateway: Gateway,
        keys: Keys,
        log: Log,
        replica: Replica,
        workers: Workers,
        reactor: Reactor,
    ) -> None:
        self.log = log
        self.threads: ThreadedExecutor | None = None
        self._gateway = gateway
        self._replica = replica
        self._workers = workers
        self._reactor = reactor
        self._upkeep = Upkeep(gateway, keys, reactor=reactor, revision=lambda: log.last.revision)

    async def begin(self, path: str, write_batch_max: int) -> None:
        """Open the replica."""
        self.threads = ThreadedExecutor(
            connect=self._replica.connect,
            connect_reader=partial(open_for_reading, path),
            reactor=self._reactor,
            write_batch_max=write_batch_max,
            committer=Committer(self.log, self._replica),
        )
        await self.threads.open()
        self._upkeep.start()

    async def close(self) -> None:
        """Finish what was given, and let go of everything."""
        self.log.stop_waiting()
        if self.threads is not None:
            await self.threads.close()
        self._upkeep.stop()
        await self.log.end()
        await self._workers.stop()
        await self._gateway.close()


class Committer:
    """Writes what a transaction of the replica changed to etcd, then commits it. See ``Committer`` of the writer."""

    def __init__(self, log: Log, replica: Replica) -> None:
        self._log = log
        self._replica = replica

    @property
    def is_ready(self) -> bool:
        """Whether everything that etcd has is in the replica, and we may write."""
        return self._log.is_ready and self._is_even

    @property
    def _is_even(self) -> bool:
        return self._replica.mark is not None and self._replica.mark.batch == self._log.last

    async def make_ready(self) -> None:
        """See ``Committer``."""
        await self._log.make_ready()
        if not self._is_even:
            await self._replica.catch_up(self._log.last)

    async def commit(
        self, connection: Connection, outcomes: list[Outcome], workers: Workers
    ) -> list[Outcome]:
        """See ``Committer``."""
        assert isinstance(connection, WatchedConnection), "of the replica"
        changes = [] if all(outcome.error is not None for outcome in outcomes) else connection.changes()
        if not changes:
            return await workers.run(commit, connection, outcomes)
        try:
            batch = await self._log.append(changes)
        except MetadataUnavailable as fault:
            await workers.run(roll_back, connection)
            return [Outcome(error=fault)] * len(outcomes)
        except BaseException:
            await workers.run(roll_back, connection)
            raise
        if await workers.run(_commit_with, connection, batch):
            self._replica.marked(batch)
            return outcomes
        # etcd has it: from there it comes back, and only then may anybody hear of it.
        try:
            await self._replica.catch_up(batch)
        except MetadataUnavailable as fault:
            return [Outcome(error=MetadataUnavailable(f"written, but not to be read yet: {fault}"))] * len(
                outcomes
            )
        return outcomes


def _commit_with(connection: Connection, batch: Batch) -> bool:
    """Commit a transaction and the mark of its batch; return whether it is."""
    try:
        connection.execute("UPDATE replica SET revision = ?, batch = ?", (batch.revision, batch.name))
        connection.execute("COMMIT")
    except sqlite3.Error:
        roll_back(connection)
        return False
    return True
