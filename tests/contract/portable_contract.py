"""What every store promises that rows are read out of and brought into. Mix it in and say how to make such a store."""

import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.metadata import IMetadataStore, RecordElsewhere
from coldstore.metadata.portable.dumped import DumpSnapshot, check_dump
from coldstore.metadata.portable.dumping import dump
from coldstore.metadata.portable.stores import Act, Key, Portable, Row, Snapshot
from coldstore.metadata.portable.transfer import RowsDiffer, Stage, TransferRefused, transfer
from coldstore.metadata.sql.tables import ARRIVING_FROM, BY_NAME, MOVED_TO, TABLES, Table
from coldstore.metadata.sqlite.portable import PortableSqlite, SqliteSnapshot
from coldstore.metadata.sqlite.schema import migrate, shipped_migrations
from coldstore.metadata.sqlite.store import SqliteStore
from tests.contract.metadata_contract import facts_of, piece_of
from tests.contract.metadata_model import MetadataModel
from tests.contract.old_stores import SCHEMAS, make_old_store

Rows = dict[str, list[Row]]
FEW = 7
"""Rows of a batch, so that tables have many."""
NOW = 1e9


async def rows_of(snapshot: Snapshot) -> Rows:
    """Return all rows of a snapshot, without what stays with a store."""
    return {table.name: await table_of(snapshot, table) for table in snapshot.tables}


COMMANDS = ("move metadata", "restore metadata")


def without_acts(rows: Rows) -> tuple[Rows, list[Row]]:
    """Return rows without what ``coldstore db`` has added to the audit trail, and that."""
    added = [row for row in rows["audit_events"] if row[3] in COMMANDS]
    kept = [row for row in rows["audit_events"] if row[3] not in COMMANDS]
    return {**rows, "audit_events": kept}, added


async def table_of(snapshot: Snapshot, table: Table) -> list[Row]:
    """Return the rows of a table."""
    rows: list[Row] = []
    while page := await snapshot.page(table, key_of(table, rows[-1]) if rows else None, FEW):
        rows += page
    staying = [
        table.column_names.index(name) for name in (ARRIVING_FROM, MOVED_TO) if name in table.column_names
    ]
    return [tuple(value for place, value in enumerate(row) if place not in staying) for row in rows]


def key_of(table: Table, row: Row) -> Key:
    """Return a row's key."""
    return tuple(row[place] for place in table.key_places)


async def lead_life(path: str, *, seed: int, steps: int) -> None:
    """Have a random life in a new file, left as it is in the middle of it."""
    if (seed, steps) not in _lives:
        _lives[seed, steps] = await _Life("come_to_rest").lead(seed, steps)
    Path(path).write_bytes(_lives[seed, steps])


_lives: dict[tuple[int, int], bytes] = {}
"""The files, by seed and steps: in memory a life takes no fsync."""


class _Life(MetadataModel, SynchronousTestCase):
    async def come_to_rest(self) -> None:
        """Nothing comes to rest."""

    async def lead(self, seed: int, steps: int) -> bytes:
        """Live; return the file."""
        self.serial, self.steps = 0, steps
        self.store = SqliteStore(":memory:", new_appliance_id=lambda: f"appliance-{seed}")
        await self.store.open()
        await self.store.take_epoch(at=1.0, host="")
        await self.create_bucket("b")
        await self.live(Random(seed))
        connection = self.store._executor._connection  # type: ignore[attr-defined]
        file: bytes = connection.serialize()
        await self.store.close()
        # The versions of reading and writing of a file with a write-ahead log (SQLite, "Database File Format", 1.3).
        return file[:18] + b"\2\2" + file[20:]


class Broken(Exception):
    """The test has broken it off."""


class Breaking:
    """A portable store of which one call fails, before or after it has taken effect. Counts the calls that change something."""

    def __init__(self, store: Portable, fails_at: int | None = None, *, took_effect: bool = False) -> None:
        self.name = store.name
        self.changes = 0
        self._store = store
        self._fails_at = fails_at
        self._took_effect = took_effect
        self.snapshot, self.last_key, self.close = store.snapshot, store.last_key, store.close
        self.as_kept, self.reached = store.as_kept, store.reached

    async def _change(self, call: Any) -> Any:
        is_last = self.changes == self._fails_at
        self.changes += 1
        if is_last and not self._took_effect:
            call.close()
            raise Broken
        result = await call
        if is_last:
            raise Broken
        return result

    async def mark(self, *, arriving_from: str | None = None, moved_to: str | None = None) -> None:
        """See ``Portable``."""
        await self._change(self._store.mark(arriving_from=arriving_from, moved_to=moved_to))

    async def put(self, table: Table, rows: Sequence[Row]) -> None:
        """See ``Portable``."""
        await self._change(self._store.put(table, rows))

    async def remove(self, table: Table, limit: int) -> int:
        """See ``Portable``."""
        return int(await self._change(self._store.remove(table, limit)))

    async def settle(self, *, appliance_id: str, last_version: int, act: Act | None) -> None:
        """See ``Portable``."""
        await self._change(self._store.settle(appliance_id=appliance_id, last_version=last_version, act=act))


class Quiet:
    """Listens to what a transfer tells: it only ever gets further."""

    def __init__(self) -> None:
        self.last = (-1, 0)
        self.stages: list[Stage] = []

    def __call__(self, stage: Stage, done: int, expected: int) -> None:
        place = (list(Stage).index(stage), done)
        assert place > self.last and done <= expected, (self.last, place, expected)
        self.last = place
        if stage not in self.stages:
            self.stages.append(stage)


class PortableContract:
    """
    The contract. ``make_portable`` returns a new, empty store each time; ``store_on`` the metadata store on the same rows, which
    may be opened while the portable one is open but is not used.
    """

    every = 3
    """Of all changes that a transfer makes, at which it is broken off; odd."""

    def make_portable(self) -> Portable:
        """Return a new, empty store, closed at the end of the test."""
        raise NotImplementedError

    def store_on(self, portable: Portable) -> IMetadataStore:
        """Return the metadata store on it, not opened yet, closed at the end of the test."""
        raise NotImplementedError

    async def source(self, seed: int = 1, steps: int = 80, *, change: str = "") -> SqliteSnapshot:
        """
        Return the rows of a random life together with those of an old store, so that every table has some.

        :param change: a statement that is carried out on them
        """
        path = self.mktemp()
        if seed in SCHEMAS:
            make_old_store(path, seed)
            with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
                migrate(connection, shipped_migrations(), new_appliance_id=lambda: "another", is_upgrade=True)
                connection.execute("INSERT INTO part_digests SELECT version_uid, x'00ff80' FROM versions")
                connection.execute("INSERT INTO master_keys VALUES ('1234', 1.0), ('5678', 2.0)")
                connection.execute("INSERT INTO user_policies SELECT user_id, 'ü', '{}' FROM users")
                connection.execute(
                    "INSERT INTO bucket_configurations SELECT bucket_uid, 'policy', 7, '{}' FROM buckets"
                )
                connection.execute("INSERT INTO lock_clock VALUES (1, ?)", (NOW,))
                connection.execute(
                    "INSERT INTO data_keys VALUES ('1234', 1.0, 3.0, NULL), ('5678', 2.0, NULL, 4.0)"
                )
                connection.execute(
                    "UPDATE versions SET master_key = '5678', rewrapped_key = 'w' WHERE is_marker = 0"
                )
                connection.execute(
                    "INSERT INTO lifecycle_ranges SELECT bucket_uid, 'r', 'current', 7.5, 3 FROM buckets"
                )
                connection.execute(
                    "INSERT INTO lifecycle_reviews (bucket_uid, version_uid, look_at, reason)"
                    " SELECT bucket_uid, version_uid, 0.5, 'locked' FROM versions"
                )
        else:
            await lead_life(path, seed=seed, steps=steps)
        if change:
            with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
                connection.execute(change)
        snapshot = SqliteSnapshot(path)
        self.addCleanup(snapshot._connection.close)
        return snapshot

    async def bring(
        self, source: Snapshot, target: Portable, *, may_replace: bool = False, origin: str = "there"
    ) -> None:
        """Transfer in small batches."""
        self.settling: list[str] = []

        async def settling() -> None:
            self.settling.append((await self.standing(target)).arriving_from)

        await transfer(
            source,
            target,
            origin=origin,
            may_replace=may_replace,
            tell=Quiet(),
            before_settling=settling,
            now=NOW,
            page_rows=FEW,
        )

    async def standing(self, store: Portable) -> Any:
        """Return what a store says of itself."""
        snapshot = await store.snapshot()
        try:
            return await snapshot.standing()
        finally:
            await snapshot.close()

    async def rows(self, store: Portable) -> Rows:
        """Return all rows of a store."""
        snapshot = await store.snapshot()
        try:
            return await rows_of(snapshot)
        finally:
            await snapshot.close()

    async def test_new(self) -> None:
        """A new store has the portable tables, an id, and no rows; a metadata store opens it."""
        store = self.make_portable()
        snapshot = await store.snapshot()
        self.assertEqual([table.name for table in snapshot.tables], [table.name for table in TABLES])
        standing = await snapshot.standing()
        self.assertTrue(standing.appliance_id)
        self.assertEqual(
            (standing.epoch, standing.last_version, standing.arriving_from, standing.moved_to), (0, 0, "", "")
        )
        rows = await rows_of(snapshot)
        await snapshot.close()
        self.assertEqual({name for name, table in rows.items() if table}, {"store"})
        for table in TABLES[1:]:
            self.assertIsNone(await store.last_key(table))
        opened = self.store_on(store)
        await opened.open()
        self.assertEqual(opened.appliance_id, standing.appliance_id)

    async def test_pages(self) -> None:
        """Pages are in the order of keys, bytes and code points, whatever their size; the greatest key is the last one."""
        source = await self.source()
        store = self.make_portable()
        await self.bring(source, store)
        snapshot = await store.snapshot()
        for table in TABLES:
            whole = await snapshot.page(table, None, 10_000)
            keys = [key_of(table, row) for row in whole]
            self.assertEqual(keys, sorted(keys), table.name)
            self.assertEqual(await store.last_key(table), keys[-1], table.name)
            self.assertIn(await store.reached(table), [None, *keys], table.name)
            self.assertEqual(await snapshot.count(table), len(whole))
            self.assertEqual(await snapshot.page(table, keys[-1], 3), [])
            for place in range(0, len(keys) - 1, 5):
                self.assertEqual(await snapshot.page(table, keys[place], 3), whole[place + 1 : place + 4])
        await snapshot.close()

    async def test_same_rows(self) -> None:
        """What arrives is what was there, in every table; then it is the store with the record, and goes on."""
        for seed in (*SCHEMAS, 17, 18):
            source = await self.source(seed)
            before = await source.standing()
            store = self.make_portable()
            await self.bring(source, store)
            self.assertEqual(self.settling, ["there"])
            self.assertEqual(await self.rows(store), await rows_of(source))
            self.assertEqual(await self.standing(store), before)
            await self.check_going_on(store, before.last_version, before.epoch)

    async def check_going_on(self, portable: Portable, last_version: int, epoch: int) -> None:
        """A metadata store on what arrived gives numbers behind those that arrived."""
        greatest = {
            table.name: key[0]
            for table in TABLES
            if table.identity and (key := await portable.last_key(table))
        }
        store = self.store_on(portable)
        await store.open()
        self.assertEqual((await store.take_epoch(at=1.0, host="")).number, epoch + 1)
        bucket = await store.create_bucket(
            name="fresh", owner_id="fresh", region="r", created_at=1.0, default_class=None
        )
        version = await store.publish_version(
            facts_of(b"fresh", bucket="fresh", owner_id="fresh"), layout_id="fresh", pieces=[piece_of("fresh")], wants_tape=True,
            condition=None, messages=(),
        )  # fmt: skip
        self.assertEqual(version.version_uid, last_version + 1)
        await store.add_discards(["fresh"])
        await store.audit(at=1.0, who="w", what="w", subject="s", detail="")
        (event,) = await store.audit_trail(before_id=None, limit=1)
        self.assertGreater(event.event_id, greatest.get("audit_events", 0))
        self.assertGreater(bucket.bucket_uid, greatest["buckets"])
        self.assertEqual([one.used_bytes for one in await store.staging_use(bucket="fresh")], [10])

    async def test_values(self) -> None:
        """Numbers keep kind and value to the last digit, text every character, bytes every byte, and null is nothing else."""
        path = self.mktemp()
        with contextlib.closing(PortableSqlite(path)._connection) as connection:
            big, small = 2**63 - 1, -(2**63)
            text = "".join(map(chr, (1, 9, 10, 34, 39, 92, 127, 0x85, 0x2028, 0xFEFF, 0xFFFD, 0x1F4BE)))
            for number, row in enumerate(
                (
                    (big, 0.1, text, bytes(range(256)), None),
                    (small, 5e-324, "", b"", 1.7976931348623157e308),
                    (0, -0.0, "null", b"\0", 1e22),
                    (1, 2.0, "\\u0000 %s ? $1", b"'", 123456789.12345679),
                )
            ):
                attempts, at, words, key, dead_at = row
                connection.execute(
                    "INSERT INTO outbox VALUES (?, 'event', ?, ?, ?, ?, ?, 1.0, 'x', ?)",
                    (number + 5, words, key, words, at, attempts, dead_at),
                )
        source = SqliteSnapshot(path)
        self.addCleanup(source._connection.close)
        store = self.make_portable()
        await self.bring(source, store)
        table = BY_NAME["outbox"]
        snapshot = await store.snapshot()
        found = await table_of(snapshot, table)
        await snapshot.close()
        self.assertEqual(repr(found), repr(await table_of(source, table)))
        self.assertEqual(len(found), 4)

    async def test_marked(self) -> None:
        """A store that something arrives in, or that was moved away, is not opened as the record; each says why."""
        store = self.make_portable()
        for marks, said in (
            ({"arriving_from": "over there"}, "over there"),
            ({"arriving_from": "", "moved_to": "another place"}, "another place"),
        ):
            await store.mark(**marks)
            standing = await self.standing(store)
            self.assertEqual({name: getattr(standing, name) for name in marks}, marks)
            with self.assertRaisesRegex(RecordElsewhere, said):
                await self.store_on(store).open()
        await store.mark(moved_to="")
        await self.store_on(store).open()

    async def test_broken_off(self) -> None:
        """Wherever a transfer breaks off, no appliance opens what is there, and the same transfer goes on to the same end."""
        source = await self.source(1)
        expected = await rows_of(source)
        counting = Breaking(self.make_portable())
        await self.bring(source, counting)
        self.assertGreater(counting.changes, 40)
        last = counting.changes - 1
        # A call that took effect is, for all that comes later, one that did not before the next call.
        for fails_at, took_effect in (
            *((place, bool(place % 2)) for place in range(0, last, self.every)),
            (last, False),
            (last, True),
        ):
            store = self.make_portable()
            with self.assertRaises(Broken):
                await self.bring(source, Breaking(store, fails_at, took_effect=took_effect))
            if took_effect and fails_at == last:
                self.assertEqual((await self.standing(store)).arriving_from, "")
                continue
            if fails_at:
                with self.assertRaises(RecordElsewhere):
                    await self.store_on(store).open()
                with self.assertRaises(TransferRefused):
                    await self.bring(source, store, origin="elsewhere")
            await self.bring(source, store)
            self.assertEqual(await self.rows(store), expected, (fails_at, took_effect))

    async def test_replacing_broken_off(self) -> None:
        """The same where something else was before: nothing of it survives, and it is never taken for what arrives."""
        source, other = await self.source(4), await self.source(21)
        expected = await rows_of(source)
        store = self.make_portable()
        await self.bring(other, store)
        counting = Breaking(store)
        await self.bring(source, counting, may_replace=True)
        self.assertEqual(await self.rows(store), expected)
        self.assertGreater(counting.changes, 60)
        for fails_at in range(0, counting.changes, 2 * self.every):
            store = self.make_portable()
            await self.bring(other, store)
            with self.assertRaises(TransferRefused):
                await self.bring(source, store)
            self.assertEqual(await self.rows(store), await rows_of(other))
            with self.assertRaises(Broken):
                await self.bring(source, Breaking(store, fails_at, took_effect=True), may_replace=True)
            if fails_at < counting.changes - 1:
                await self.bring(source, store)
            self.assertEqual(await self.rows(store), expected, fails_at)

    async def test_moved_away(self) -> None:
        """What was moved away is replaced only when an operator says so, and is the record again when that is through."""
        source = await self.source(2)
        store = self.make_portable()
        await self.bring(await self.source(22), store)
        await store.mark(moved_to="another place")
        with self.assertRaisesRegex(TransferRefused, "another place"):
            await self.bring(source, store)
        await self.bring(source, store, may_replace=True)
        standing = await self.standing(store)
        self.assertEqual((standing.arriving_from, standing.moved_to), ("", ""))
        await self.store_on(store).open()

    async def test_locked(self) -> None:
        """
        What is under lock does not go, whoever wants it: nothing is changed then. It goes when its time is over, from what was deleted
        it always does, and from a store that does not hold the record any more.
        """
        for lock, deleted_at, refuses in (
            ("'COMPLIANCE', 1e9 + 1, NULL", "NULL", True),
            ("'GOVERNANCE', 1e9 + 1, 0", "NULL", True),
            ("NULL, NULL, 1", "NULL", True),
            ("'COMPLIANCE', 1e9, 0", "NULL", False),
            ("'COMPLIANCE', 1e9 + 1, 1", "5.0", False),
        ):
            change = (
                f"UPDATE versions SET (lock_mode, retain_until, legal_hold, deleted_at) = ({lock}, {deleted_at})"
                " WHERE version_uid = (SELECT max(version_uid) FROM versions)"
            )
            source, other = await self.source(2, change=change), await self.source(22)
            store = self.make_portable()
            await self.bring(source, store)
            before = await self.rows(store)
            if refuses:
                with self.assertRaisesRegex(TransferRefused, "1 object versions there are under object lock"):
                    await self.bring(other, store, may_replace=True)
                self.assertEqual(await self.rows(store), before)
                self.assertEqual((await self.standing(store)).arriving_from, "")
                await store.mark(moved_to="another place")
            await self.bring(other, store, may_replace=True)
            self.assertEqual(await self.rows(store), await rows_of(other))

    async def test_differences_are_seen(self) -> None:
        """A row that did not arrive, one too many, or one with another value or kind of value: the store stays marked."""
        source = await self.source(3)
        table = BY_NAME["audit_events"]

        class Forgetful(Breaking):
            change: Callable[[list[Row]], list[Row]]

            async def put(self, into: Table, rows: Sequence[Row]) -> None:
                if into is table:
                    rows = self.change(list(rows))
                await self._store.put(into, rows)

        last = (await table_of(source, table))[-1]
        for change, said in (
            (lambda rows: rows[:-1], "did not arrive"),
            (lambda rows: [*rows, (last[0] + 1, *last[1:])], "from nowhere"),
            (lambda rows: [*rows[:-1], (*last[:-1], "another")], "differs"),
        ):
            store = self.make_portable()
            forgetful = Forgetful(store)
            forgetful.change = change
            with self.assertRaisesRegex(RowsDiffer, f"audit_events.*{said}"):
                await self.bring(source, forgetful)
            self.assertEqual(self.settling, [])
            with self.assertRaises(RecordElsewhere):
                await self.store_on(store).open()
            await self.bring(source, store)
            self.assertEqual((await self.rows(store))[table.name], await table_of(source, table))

    async def test_there_and_back(self) -> None:
        """Moved there and back everything is as it was; also through a dump."""
        for seed in (4, 31, 32, 33):
            source = await self.source(seed)
            there, back = self.make_portable(), PortableSqlite(self.mktemp())
            self.addCleanup(back._connection.close)
            await self.bring(source, there)
            snapshot = await there.snapshot()
            await self.bring(snapshot, back)
            expected = await rows_of(source)
            self.assertEqual(await self.rows(back), expected)
            path = Path(self.mktemp())
            await dump(snapshot, path, backend="test", made_at=1.5, tell=lambda *_: None)
            await snapshot.close()
            self.assertEqual(await rows_of(DumpSnapshot(check_dump(path, lambda _: None))), expected)

    async def test_snapshot(self) -> None:
        """A snapshot stays what it was, whatever is written meanwhile."""
        portable = self.make_portable()
        await self.bring(await self.source(1), portable)
        snapshot = await portable.snapshot()
        table = BY_NAME["audit_events"]
        before = await snapshot.page(table, None, 1)
        store = self.store_on(portable)
        await store.open()
        for _ in range(3):
            await store.audit(at=1.0, who="w", what="w", subject="s", detail="")
        rows = await rows_of(snapshot)
        await snapshot.close()
        self.assertEqual(rows["audit_events"][:1], before)
        self.assertEqual(len(rows["audit_events"]), len((await self.rows(portable))["audit_events"]) - 3)
