"""etcd as rows: the contract of portable stores, and ``coldstore db`` on it."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs
from twisted.trial.unittest import TestCase

from coldstore.config.schema import Configuration
from coldstore.interfaces.metadata import (
    AnotherAppliance,
    IMetadataStore,
    SchemaTooNew,
    SchemaTooOld,
)
from coldstore.metadata.choice import store_of
from coldstore.metadata.etcd import portable as portable_module
from coldstore.metadata.etcd import store as store_module
from coldstore.metadata.etcd.changes import Change
from coldstore.metadata.etcd.gateway import Address, Gateway, end_of, putting
from coldstore.metadata.etcd.keys import Keys, value_of
from coldstore.metadata.etcd.log import Batch, Log
from coldstore.metadata.etcd.portable import AT_ONCE, EtcdSnapshot, PortableEtcd
from coldstore.metadata.etcd.schema import ACCESS_KEYS
from coldstore.metadata.portable.stores import Portable, Row
from coldstore.metadata.portable.transfer import Sums, transfer
from coldstore.metadata.sql.migrations import Migration
from coldstore.metadata.sql.tables import BY_NAME, Table
from coldstore.metadata.sqlite.portable import PortableSqlite, SqliteSnapshot
from coldstore.metadata.sqlite.schema import shipped_migrations
from coldstore.model.errors import MetadataUnavailable
from coldstore.upkeep.errors import Refused
from coldstore.upkeep.places import Etcd as Place
from coldstore.upkeep.places import place_of
from coldstore.util.asynchronous import shielded
from tests.contract.old_stores import make_old_store
from tests.contract.portable_contract import PortableContract, rows_of
from tests.servers import etcd
from tests.servers.etcd_rows import reactor
from tests.servers.portable_stores import Commands, Lazy, settings_with


def settings_of(prefix: str, state: str) -> Configuration:
    """Settings that name a prefix."""
    where = f"endpoints: ['{etcd.shared().url}'], prefix: {prefix}, replica: {state}/replica"
    return settings_with(f"{{backend: etcd, etcd: {{{where}}}}}", state)


class OnEtcdTests(PortableContract, TestCase):
    """The contract, on etcd."""

    timeout = 600
    every = 25
    made = 0

    def setUp(self) -> None:
        """Begin with nothing."""
        etcd.shared().clear()

    def make_portable(self) -> Portable:
        """See the contract."""
        self.made += 1
        state = Path(self.mktemp()).absolute()
        state.mkdir()
        settings = settings_of(f"/store/{self.made}", str(state))
        return Lazy(self, settings, Place(cluster=settings.metadata.etcd), PortableEtcd)

    def store_on(self, portable: Portable) -> IMetadataStore:
        """See the contract."""
        assert isinstance(portable, Lazy)
        store = portable.store()
        self.addCleanup(store.close)
        return store


class ManyAtOnceTests(TestCase):
    """Rows that are put by many transactions at once."""

    def setUp(self) -> None:
        """Begin with nothing."""
        etcd.shared().clear()

    async def begun(self) -> PortableEtcd:
        """Return a store, and be the writer."""
        address = Address(endpoints=[etcd.shared().url])
        portable = await PortableEtcd.begin(
            lambda: Gateway(address, reactor=reactor, request_seconds=20.0),
            Keys("/cold"),
            name="etcd",
            reactor=reactor,
            new_appliance_id=lambda: "a",
            lease_seconds=60,
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(portable.close()))
        return portable

    def source(self, count: int) -> SqliteSnapshot:
        """Return a store with many rows in a table."""
        path = self.mktemp()
        with closing(PortableSqlite(path)._connection) as connection:
            connection.executemany(
                "INSERT INTO audit_events (at, who, what, subject, detail) VALUES (?, 'w', 'w', ?, '')",
                [(float(number), f"s{number}") for number in range(count)],
            )
        snapshot = SqliteSnapshot(path)
        self.addCleanup(snapshot._connection.close)
        return snapshot

    async def bring(self, source: SqliteSnapshot, target: PortableEtcd) -> Sums:
        """Transfer."""

        async def nothing() -> None:
            """Nobody waits for it."""

        return await transfer(
            source,
            target,
            origin="o",
            may_replace=False,
            tell=lambda *_: None,
            before_settling=nothing,
            now=0.0,
        )

    async def test_holes(self) -> None:
        """One is not written and those behind it are: what is not there is known, and brought the next time."""
        table = BY_NAME["audit_events"]
        source = self.source(3_000)
        portable = await self.begun()
        real, calls = Log.add, iter(range(1_000))
        behind: list[Deferred[None]] = []

        async def add(log: Log, changes: Sequence[Change]) -> None:
            number = next(calls)
            if number == 18:
                # Not before those behind it are there.
                while len(behind) < AT_ONCE - 1:
                    await deferLater(reactor, 0.01)
                await gatherResults(behind)
                raise MetadataUnavailable("broken off")
            written = Deferred.fromCoroutine(real(log, changes))
            if number > 18:
                behind.append(written)
            await shielded(written)

        self.patch(Log, "add", add)
        with self.assertRaisesRegex(MetadataUnavailable, "broken off"):
            await self.bring(source, portable)
        self.patch(Log, "add", real)
        snapshot = await portable.snapshot()
        there = [event_id for event_id, *_ in await snapshot.page(table, None, 3_000)]
        await snapshot.close()
        missing = min(set(range(1, 3_001)) - set(there))
        self.assertGreater(there[-1], missing, "there is no hole")
        (reached,) = await portable.reached(table) or (0,)
        self.assertTrue(0 < reached < missing)
        sums = await self.bring(source, portable)
        self.assertEqual((sums.rows, sums.copied), (3_000, 3_000 - reached))

    async def test_lease_lost(self) -> None:
        """The lease of the writer ends under them: it is taken again, and everything comes through."""
        source = self.source(1_500)
        portable = await self.begun()
        real = Log.add
        calls = iter(range(1_000))

        async def add(log: Log, changes: Sequence[Change]) -> None:
            if next(calls) == 5:
                etcd.shared().call("lease/revoke", {"ID": str(log._lease)})
            await real(log, changes)

        self.patch(Log, "add", add)
        with capturedLogs() as logs:
            sums = await self.bring(source, portable)
        self.assertEqual((sums.rows, sums.copied), (1_500, 1_500))
        self.assertTrue([one for one in logs if "held again" in (one.get("log_format") or "")])


class CommandTests(Commands, TestCase):
    """``coldstore db`` with etcd on one side."""

    def setUp(self) -> None:
        """Have a state directory with the metadata of a life, and settings that name an empty etcd."""
        etcd.shared().clear()
        self.prepare()
        self.settings = settings_of("/cold", str(self.state))
        # An appliance that is there is not waited for.
        self.patch(portable_module, "LEASE_SECONDS", 2)
        self.patch(portable_module.PortableEtcd.begin.__func__, "__kwdefaults__", {"lease_seconds": 2})  # type: ignore[attr-defined]

    async def test_life(self) -> None:
        """From a file into etcd, dumped there, back again, and the dump into etcd: all the same rows, whatever the replica was."""
        await self.check_life("etcd", "etcd", AnotherAppliance, "in use by another appliance \\(process")

    async def old_rows(self) -> tuple[tuple[Table, ...], dict[str, list[Row]]]:
        """Have the rows of a store in etcd as they were when a user had one key, in the clear; return them, and their tables."""
        path = self.mktemp()
        make_old_store(path, ACCESS_KEYS - 1)
        snapshot = SqliteSnapshot(path)
        rows = await rows_of(snapshot)
        tables = snapshot.tables
        await snapshot.close()
        keys, url = Keys("/cold"), etcd.shared().url
        gateway = Gateway(Address(endpoints=(url,)), reactor=reactor, request_seconds=10)
        try:
            for table in tables:
                for row in rows[table.name]:
                    if table.name == "store":
                        row = (*row, "", "")
                    key = keys.of_row(table, [row[place] for place in table.key_places])
                    await gateway.txn([], [putting(key, value_of(table, row))])
            await gateway.txn([], [putting(keys.schema, b'{"schema": %d}' % (ACCESS_KEYS - 1))])
        finally:
            await gateway.close()
        return tables, rows

    async def test_upgrade_of_access_keys(self) -> None:
        """Keys leave the rows of users for tables of their own, also when that is broken off; a dump from before is of before."""
        tables, before = await self.old_rows()
        place = Place(cluster=self.settings.metadata.etcd)
        snapshot = await place.snapshot(reactor)
        found = await rows_of(snapshot)
        await snapshot.close()
        self.assertEqual(found, before)
        append = Log.append
        appended: list[int] = []

        async def once(log: Log, changes: Sequence[Change]) -> Batch:
            if appended:
                raise MetadataUnavailable("it is gone")
            appended.append(len(changes))
            # As if no more had gone into the first one.
            return await append(log, changes[:3])

        patched = self.patch(Log, "append", once)
        with self.assertRaises(MetadataUnavailable):
            await place.upgrade(reactor)
        patched.restore()
        self.assertEqual((await self.db("upgrade"))["result"], "done")
        store = store_of(self.settings, reactor)
        await store.open()
        await self.check_kept(store, tables, before)
        old = {row[2]: row for row in before["users"]}
        self.assertEqual(
            await store.plain_secrets(after="", limit=9),
            {access_key: row[3] for access_key, row in old.items()},
        )
        self.assertEqual(
            {
                key.access_key: (key.user_id, key.sealed_secret)
                for key in await store.access_keys(after="", limit=9)
            },
            {access_key: (row[0], "") for access_key, row in old.items()},
        )
        self.assertEqual(
            {user.user_id: (user.name, user.created_at) for user in await store.users()},
            {row[0]: (row[1], row[4]) for row in before["users"]},
        )
        sealed = {access_key: ("", f"sealed {access_key}") for access_key in old}
        await store.seal_secrets(sealed)
        await store.forget_plain_secrets()
        self.assertFalse(bool(await store.plain_secrets(after="", limit=1)))
        await store.close()
        gateway = Gateway(Address(endpoints=(etcd.shared().url,)), reactor=reactor, request_seconds=10)
        everything = await gateway.range(Keys("/cold").all, end_of(Keys("/cold").all))
        await gateway.close()
        for row in everything.rows:
            for user in before["users"]:
                self.assertNotIn(user[3].encode(), row.value)
        (dump,) = Path(self.settings.dumps_directory).glob("*before*")
        await self.db("restore", file=str(dump), replace=True, yes=True)
        store = store_of(self.settings, reactor)
        await store.open()
        self.assertEqual(
            await store.plain_secrets(after="", limit=9),
            {access_key: row[3] for access_key, row in old.items()},
        )
        await store.close()

    async def test_upgrade(self) -> None:
        """A newer program refuses the rows of an older one until they are upgraded; then they have what is new, by its default."""
        store = store_of(self.settings, reactor)
        await store.open()
        await store.create_bucket(name="b", owner_id="o", region="r", created_at=1.0, default_class=None)
        await store.close()
        newest = max(one.number for one in shipped_migrations())
        newer = [
            *shipped_migrations(),
            Migration(
                number=newest + 1,
                statements="ALTER TABLE epochs ADD COLUMN fresh TEXT NOT NULL DEFAULT 'x';\n",
            ),
        ]
        for module in (store_module, portable_module):
            self.patch(module, "shipped_migrations", lambda: newer)
        with self.assertRaisesRegex(SchemaTooOld, "coldstore db upgrade"):
            await store_of(self.settings, reactor).open()
        place = Place(cluster=self.settings.metadata.etcd)
        self.assertEqual([one.number for one in await place.needed(reactor)], [newest + 1])
        await place.upgrade(reactor)
        self.assertEqual(await place.needed(reactor), [])
        store = store_of(self.settings, reactor)
        await store.open()
        self.assertEqual((await store.bucket("b")).owner_id, "o")
        await store.close()
        for module in (store_module, portable_module):
            self.patch(module, "shipped_migrations", shipped_migrations)
        with self.assertRaises(SchemaTooNew):
            await store_of(self.settings, reactor).open()
        with self.assertRaises(SchemaTooNew):
            await place.snapshot(reactor)

    async def test_names(self) -> None:
        """There is the one of the configuration, and no other; a snapshot of nothing is refused."""
        place = place_of("etcd", self.settings)
        self.assertEqual(place.name, f"etcd:{etcd.shared().url}/cold")
        self.assertFalse(await place.is_there(reactor))
        self.assertGreater(await place.size_bytes(reactor) or 0, 0)
        with self.assertRaisesRegex(MetadataUnavailable, "holds no metadata"):
            await place.snapshot(reactor)
        self.assertRaises(Refused, place_of, "etcd:elsewhere", self.settings)

    async def test_compacted(self) -> None:
        """A snapshot that etcd has forgotten is told as such."""
        store = store_of(self.settings, reactor)
        await store.open()
        await store.take_epoch(at=1.0, host="")
        place = Place(cluster=self.settings.metadata.etcd)
        snapshot = await place.snapshot(reactor)
        assert isinstance(snapshot, EtcdSnapshot)
        await store.take_epoch(at=2.0, host="")
        self.assertEqual((await snapshot.standing()).epoch, 1)
        revision = etcd.shared().call("kv/range", {"key": "YQ=="})["header"]["revision"]
        etcd.shared().call("kv/compaction", {"revision": revision})
        with self.assertRaisesRegex(MetadataUnavailable, "compacted while it was read"):
            await snapshot.standing()
        await snapshot.close()
        await store.close()

    async def test_read_while_it_works(self) -> None:
        """An appliance at work compacts nothing that a snapshot still shows, and does once that is closed."""
        store = store_of(self.settings, reactor)
        await store.open()
        await store.take_epoch(at=1.0, host="")
        upkeep = store._executor._open._upkeep  # type: ignore[attr-defined]
        snapshot = await Place(cluster=self.settings.metadata.etcd).snapshot(reactor)
        assert isinstance(snapshot, EtcdSnapshot)
        for number in range(4):
            await store.take_epoch(at=2.0 + number, host="")
            await upkeep.one_round()
        self.assertEqual((await snapshot.standing()).epoch, 1)
        await snapshot.close()
        await upkeep.one_round()
        revision = {"key": "YQ==", "revision": str(snapshot._revision)}
        with self.assertRaisesRegex(Exception, "400"):
            etcd.shared().call("kv/range", revision)
        await store.close()
