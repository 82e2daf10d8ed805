"""The rows in etcd as rows: see ``metadata.portable``. No replica is made; one that there is catches up when it is used next."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any
from uuid import uuid4

from twisted.internet.defer import Deferred

from coldstore.metadata.etcd.changes import BYTES_MAX, ROWS_MAX, Change, weight_bytes
from coldstore.metadata.etcd.gateway import Compacted, Gateway, KeyValue, Range, end_of, putting
from coldstore.metadata.etcd.keys import Keys, NotARow, rows_of, value_of
from coldstore.metadata.etcd.log import Log, this_process
from coldstore.metadata.etcd.schema import changed_rows, defaults, first_rows, ledger, schema_row
from coldstore.metadata.etcd.server import check_server
from coldstore.metadata.etcd.walk import Walk
from coldstore.metadata.portable.stores import Act, Key, Row, Standing
from coldstore.metadata.sql.migrations import Migration, missing
from coldstore.metadata.sql.tables import ARRIVING_FROM, BY_NAME, MOVED_TO, Table
from coldstore.metadata.sqlite.portable import tables_at
from coldstore.metadata.sqlite.schema import shipped_migrations
from coldstore.model.errors import MetadataFull, MetadataUnavailable
from coldstore.util.workers import Reactor

LEASE_SECONDS = 15
PATIENCE_SECONDS = 30.0
AT_ONCE = 4
"""
Transactions of a ``put`` that are under way at once. What they cost is read by etcd's gateway, each by one processor, and then waits
for the disk.
"""
HOLD_SECONDS = 600
"""How long a snapshot of which nothing is read keeps an appliance from compacting what it shows."""


class EtcdSnapshot:
    """See ``Snapshot``: everything at one revision. A key that it holds keeps an appliance at work from compacting that."""

    def __init__(self, gateway: Gateway, keys: Keys, *, revision: int, lease: int, schema: int) -> None:
        self._gateway = gateway
        self._lease = lease
        self._keys = keys
        self._revision = revision
        self._schema = schema
        self._walk: Walk | None = None
        self._ahead: list[KeyValue] = []
        """What the walk has found and nobody has asked for."""
        self._reached = b""
        """Where those go on."""
        self.tables = tables_at(schema)
        self._defaults: Mapping[str, Mapping[str, Any]] = defaults(shipped_migrations())

    @classmethod
    async def begin(cls, gateway: Gateway, keys: Keys) -> "EtcdSnapshot":
        """
        Begin to read.

        :param gateway: it is closed with the snapshot
        :raise MetadataUnavailable: there are no metadata
        :raise SchemaTooNew: a newer program has written them
        """
        try:
            applied = await ledger(gateway, keys, shipped_migrations())
            missing(applied, shipped_migrations(), is_upgrade=True)
            if not applied:
                raise MetadataUnavailable(f"etcd holds no metadata under {keys.all.decode()}")
            revision, lease = await _held(gateway, keys)
        except BaseException:
            await gateway.close()
            raise
        return cls(gateway, keys, revision=revision, lease=lease, schema=max(applied))

    async def standing(self) -> Standing:
        """See ``Snapshot``."""
        (store,) = await self.page(BY_NAME["store"], None, 2)
        said = dict(zip(BY_NAME["store"].column_names, store, strict=True))
        epoch = await last_of(self._gateway, self._keys, BY_NAME["epochs"], revision=self._revision)
        return Standing(
            schema=self._schema,
            appliance_id=said["appliance_id"],
            last_version=said["last_version"],
            epoch=0 if epoch is None else epoch[0],
            arriving_from=said[ARRIVING_FROM],
            moved_to=said[MOVED_TO],
        )

    async def page(self, table: Table, after: Key | None, limit: int) -> list[Row]:
        """See ``Snapshot``."""
        beginning = self._keys.of_table(table)
        first = beginning if after is None else self._keys.of_row(table, after) + b"\0"
        if self._walk is None or self._reached != first:
            self._stop()
            self._walk = Walk(self._range, first, end_of(beginning), rows_max=table.rows_max)
        while len(self._ahead) < limit and (more := await self._walk.page()):
            self._ahead += more
        found, self._ahead = self._ahead[:limit], self._ahead[limit:]
        if found:
            self._reached = found[-1].key + b"\0"
        return self._rows(table, found)

    async def count(self, table: Table) -> int:
        """See ``Snapshot``."""
        beginning = self._keys.of_table(table)
        return (await self._range(beginning, end_of(beginning), 1, keys_only=True)).count

    async def close(self) -> None:
        """See ``Snapshot``."""
        self._stop()
        if self._lease:
            # It ends by itself, too.
            with suppress(MetadataUnavailable):
                await self._gateway.revoke_lease(self._lease)
        await self._gateway.close()

    def _stop(self) -> None:
        """Go no further on the present walk."""
        if self._walk is not None:
            self._walk.stop()
        self._walk, self._ahead = None, []

    async def _range(self, key: bytes, end: bytes, limit: int, *, keys_only: bool = False) -> Range:
        try:
            if self._lease:
                await self._gateway.keep_alive(self._lease, patience_seconds=HOLD_SECONDS)
            return await self._gateway.range(
                key, end, limit=limit, revision=self._revision, keys_only=keys_only
            )
        except Compacted:
            raise MetadataUnavailable("etcd was compacted while it was read: begin again") from None

    def _rows(self, table: Table, found: Sequence[KeyValue]) -> list[Row]:
        try:
            keys = [self._keys.place_in(table, each.key) for each in found]
            return rows_of(table, keys, [each.value for each in found], self._defaults[table.name])
        except NotARow as error:
            raise MetadataUnavailable(str(error)) from error


class PortableEtcd:
    """See ``Portable``. The lease keeps appliances away for as long as this lives."""

    def __init__(
        self, log: Log, gateway: Gateway, keys: Keys, *, name: str, read: Callable[[], Gateway]
    ) -> None:
        """Use ``begin``. ``read`` gives another gateway, to read."""
        self.name = name
        self._log = log
        self._gateway = gateway
        self._keys = keys
        self._read = read

    @classmethod
    async def begin(
        cls,
        connect: Callable[[], Gateway],
        keys: Keys,
        *,
        name: str,
        reactor: Reactor,
        new_appliance_id: Callable[[], str],
        lease_seconds: int = LEASE_SECONDS,
    ) -> "PortableEtcd":
        """
        Become the writer; make a store where none is.

        :raise MetadataUnavailable: etcd does not answer, or an appliance writes
        :raise SchemaTooNew, SchemaTooOld: it cannot be used
        """
        gateway = connect()
        log = log_of(gateway, keys, reactor, lease_seconds=lease_seconds)
        try:
            await check_server(gateway, keys)
            missing(await ledger(gateway, keys, shipped_migrations()), shipped_migrations(), is_upgrade=False)
            await log.begin(this_process(reactor, replica=uuid4().hex))
            if not await ledger(gateway, keys, shipped_migrations()):
                await log.append(first_rows(keys, shipped_migrations(), new_appliance_id))
        except BaseException:
            await log.end()
            await gateway.close()
            raise
        return cls(log, gateway, keys, name=name, read=connect)

    def as_kept(self, rows: Sequence[Row]) -> list[Row]:
        """See ``Portable``."""
        return list(rows)

    async def snapshot(self) -> EtcdSnapshot:
        """See ``Portable``."""
        return await EtcdSnapshot.begin(self._read(), self._keys)

    async def mark(self, *, arriving_from: str | None = None, moved_to: str | None = None) -> None:
        """See ``Portable``."""
        marks = {ARRIVING_FROM: arriving_from, MOVED_TO: moved_to}
        said = {name: value for name, value in marks.items() if value is not None}
        await self._append([await self._store_change(said)])

    async def last_key(self, table: Table) -> Key | None:
        """See ``Portable``."""
        return await last_of(self._gateway, self._keys, table)

    async def put(self, table: Table, rows: Sequence[Row]) -> None:
        """See ``Portable``."""
        if not rows:
            return
        changes = [self._change_of(table, row) for row in rows]
        *first, last = _portions(changes)
        await self._make_ready()
        under_way: deque[Deferred[None]] = deque()
        try:
            for portion in first:
                # None is further ahead of one that is not through: see ``reached``.
                if len(under_way) == AT_ONCE:
                    await under_way.popleft()
                under_way.append(Deferred.fromCoroutine(self._log.add(portion)))
            while under_way:
                await under_way.popleft()
        finally:
            for each in under_way:
                each.addErrback(lambda _: None)
                each.cancel()
        await self._append(last)

    async def reached(self, table: Table) -> Key | None:
        """See ``Portable``: before the rows of as many transactions as may have been under way at once, some may be missing."""
        return await last_of(self._gateway, self._keys, table, before=AT_ONCE * ROWS_MAX)

    async def remove(self, table: Table, limit: int) -> int:
        """See ``Portable``."""
        beginning = self._keys.of_table(table)
        found = await self._gateway.range(
            beginning, end_of(beginning), limit=limit, keys_only=True, is_backwards=True
        )
        for portion in _portions([Change(row.key, None) for row in found.rows]):
            await self._append(portion)
        return len(found.rows)

    async def settle(self, *, appliance_id: str, last_version: int, act: Act | None) -> None:
        """See ``Portable``: a replica goes on behind the greatest numbers of the rows, and behind those of rows that were there."""
        said = {"appliance_id": appliance_id, "last_version": last_version, ARRIVING_FROM: "", MOVED_TO: ""}
        await self._append([*await self._told(act), await self._store_change(said)])

    async def _told(self, act: Act | None) -> list[Change]:
        """Return the change that adds an act to the audit trail."""
        if act is None:
            return []
        events = BY_NAME["audit_events"]
        last = await self.last_key(events)
        event_id = 1 if last is None else last[0] + 1
        return [self._change_of(events, (event_id, act.at, act.who, act.what, act.subject, act.detail))]

    def _change_of(self, table: Table, row: Row) -> Change:
        return Change(
            self._keys.of_row(table, [row[place] for place in table.key_places]), value_of(table, row)
        )

    async def close(self) -> None:
        """See ``Portable``."""
        await self._log.end()
        await self._gateway.close()

    async def _append(self, changes: Sequence[Change]) -> None:
        await self._make_ready()
        await self._log.append(changes)

    async def _make_ready(self) -> None:
        if not self._log.is_ready:
            await self._log.make_ready()

    async def _store_change(self, said: Mapping[str, Any]) -> Change:
        """Return the change of some columns of the row of the store itself."""
        table = BY_NAME["store"]
        snapshot = await self.snapshot()
        try:
            (row,) = await snapshot.page(table, None, 2)
        finally:
            await snapshot.close()
        changed = {**dict(zip(table.column_names, row, strict=True)), **said}
        return self._change_of(table, tuple(changed[name] for name in table.column_names))


async def upgrade(gateway: Gateway, keys: Keys, *, reactor: Reactor) -> None:
    """
    Have the rows be those of the newest migration. See ``schema`` for what becomes of them.

    :param gateway: it is closed at the end
    :raise MetadataUnavailable: etcd does not answer, or an appliance writes
    """
    log = log_of(gateway, keys, reactor, lease_seconds=LEASE_SECONDS)
    try:
        await log.begin(this_process(reactor, replica=uuid4().hex))
        applied = await ledger(gateway, keys, shipped_migrations())
        missing(applied, shipped_migrations(), is_upgrade=True)
        for portion in _portions(await changed_rows(gateway, keys, since=max(applied, default=0))):
            await log.append(portion)
        await log.append([schema_row(keys, shipped_migrations())])
    finally:
        await log.end()
        await gateway.close()


async def needed_by(gateway: Gateway, keys: Keys) -> list[Migration]:
    """
    Return the migrations that an upgrade applies.

    :raise SchemaTooNew: it cannot be upgraded
    """
    return missing(await ledger(gateway, keys, shipped_migrations()), shipped_migrations(), is_upgrade=True)


async def _held(gateway: Gateway, keys: Keys) -> tuple[int, int]:
    """Have the present be kept; return its revision, and the lease of the key that says so: 0 when etcd is too full for one."""
    try:
        lease = await gateway.grant_lease(HOLD_SECONDS)
        key = keys.reading + uuid4().hex.encode()
        return (await gateway.txn([], [putting(key, b"", lease=lease)])).revision, lease
    except MetadataFull:
        return (await gateway.range(keys.schema)).revision, 0


async def last_of(
    gateway: Gateway, keys: Keys, table: Table, *, revision: int = 0, before: int = 0
) -> Key | None:
    """
    Return the greatest key of a table; None when it has no rows.

    :param before: leave out so many of the greatest
    """
    beginning = keys.of_table(table)
    found = await gateway.range(
        beginning, end_of(beginning), limit=before + 1, revision=revision, keys_only=True, is_backwards=True
    )
    return keys.place_in(table, found.rows[before].key) if len(found.rows) > before else None


def log_of(gateway: Gateway, keys: Keys, reactor: Reactor, *, lease_seconds: int) -> Log:
    """Return a writer that has not begun."""
    return Log(
        gateway,
        keys,
        run=uuid4().hex,
        reactor=reactor,
        lease_seconds=lease_seconds,
        patience_seconds=PATIENCE_SECONDS,
    )


def _portions(changes: Sequence[Change]) -> Iterator[list[Change]]:
    """Part changes into batches that etcd takes, in their order."""
    portion: list[Change] = []
    weight = 0
    for change in changes:
        each = weight_bytes([change])
        if portion and (len(portion) == ROWS_MAX or weight + each > BYTES_MAX):
            yield portion
            portion, weight = [], 0
        portion.append(change)
        weight += each
    if portion:
        yield portion
