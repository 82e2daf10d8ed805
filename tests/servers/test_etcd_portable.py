"""etcd as rows: the contract of portable stores, and ``coldstore db`` on it."""

import argparse
import io
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from coldstore.config.reading import read
from coldstore.config.schema import Configuration
from coldstore.interfaces.metadata import (
    AnotherAppliance,
    IMetadataStore,
    RecordElsewhere,
    SchemaTooNew,
    SchemaTooOld,
)
from coldstore.metadata.choice import store_of
from coldstore.metadata.etcd import portable as portable_module
from coldstore.metadata.etcd import store as store_module
from coldstore.metadata.etcd.portable import EtcdSnapshot
from coldstore.metadata.portable.stores import Portable
from coldstore.metadata.sql.migrations import Migration
from coldstore.metadata.sqlite.portable import SqliteSnapshot
from coldstore.metadata.sqlite.schema import shipped_migrations
from coldstore.model.errors import MetadataUnavailable
from coldstore.upkeep.desk import Desk
from coldstore.upkeep.errors import Refused
from coldstore.upkeep.places import Etcd as Place
from coldstore.upkeep.places import place_of
from coldstore.upkeep.progress import Progress
from coldstore.upkeep.running import COMMANDS
from tests.contract.portable_contract import PortableContract, lead_life, rows_of
from tests.servers import etcd
from tests.servers.etcd_rows import reactor


def settings_of(prefix: str, state: str) -> Configuration:
    """Settings that name a prefix."""
    text = (
        # The path of a socket has a limit, that of a test's folder has none.
        f"{{state_directory: {state}, admin: {{socket: /nowhere/socket}}, metadata: {{backend: etcd, etcd: {{endpoints: ['{etcd.shared().url}'], prefix: {prefix},"
        f" replica: {state}/replica}}}}}}"
    )
    return read(text, "test", {})


class OnEtcdTests(PortableContract, TestCase):
    """The contract, on etcd."""

    timeout = 300
    every = 25
    made = 0

    def setUp(self) -> None:
        """Begin with nothing."""
        etcd.shared().clear()

    def make_portable(self) -> Portable:
        """See the contract."""
        self.made += 1
        return Lazy(self, f"/store/{self.made}")

    def store_on(self, portable: Portable) -> IMetadataStore:
        """See the contract."""
        assert isinstance(portable, Lazy)
        store = portable.store()
        self.addCleanup(store.close)
        return store


class Lazy:
    """A portable store that becomes the writer when it is used first, and again after it had to make room for an appliance."""

    def __init__(self, case: TestCase, prefix: str) -> None:
        case.addCleanup(lambda: Deferred.fromCoroutine(self.close()))
        state = Path(case.mktemp()).absolute()
        state.mkdir()
        self._settings = settings_of(prefix, str(state))
        self._place = Place(cluster=self._settings.metadata.etcd)
        self._portable: Portable | None = None
        self._store: IMetadataStore | None = None
        self.name = self._place.name

    def as_kept(self, rows: Any) -> Any:
        """See ``Portable``."""
        return list(rows)

    def store(self) -> IMetadataStore:
        """Return the metadata store of an appliance, which opens once this is closed."""
        made: Any = store_of(self._settings, reactor)
        opening = made.open

        def opened() -> Any:
            return Deferred.fromCoroutine(self.close()).addCallback(lambda _: opening())

        made.open = opened
        self._store = made
        return self._store

    async def _there(self) -> Portable:
        if self._store is not None:
            await self._store.close()
            self._store = None
        if self._portable is None:
            self._portable = await self._place.portable(reactor)
        return self._portable

    async def snapshot(self) -> Any:
        """See ``Portable``."""
        return await self._place.snapshot(reactor) if self._store else await (await self._there()).snapshot()

    async def mark(self, **marks: str) -> None:
        """See ``Portable``."""
        await (await self._there()).mark(**marks)

    async def last_key(self, table: Any) -> Any:
        """See ``Portable``."""
        return await (await self._there()).last_key(table)

    async def put(self, table: Any, rows: Any) -> None:
        """See ``Portable``."""
        await (await self._there()).put(table, rows)

    async def remove(self, table: Any, limit: int) -> int:
        """See ``Portable``."""
        return await (await self._there()).remove(table, limit)

    async def settle(self, *, appliance_id: str, last_version: int) -> None:
        """See ``Portable``."""
        await (await self._there()).settle(appliance_id=appliance_id, last_version=last_version)

    async def close(self) -> None:
        """See ``Portable``."""
        if self._portable is not None:
            await self._portable.close()
            self._portable = None


class CommandTests(TestCase):
    """``coldstore db`` with etcd on one side."""

    def setUp(self) -> None:
        """Have a state directory with the metadata of a life, and settings that name an empty etcd."""
        etcd.shared().clear()
        self.state = Path(self.mktemp()).absolute()
        self.state.mkdir()
        self.settings = settings_of("/cold", str(self.state))
        self.said = io.StringIO()
        # An appliance that is there is not waited for.
        self.patch(portable_module, "LEASE_SECONDS", 2)
        self.patch(portable_module.PortableEtcd.begin.__func__, "__kwdefaults__", {"lease_seconds": 2})  # type: ignore[attr-defined]

    def db(self, name: str, **options: Any) -> Deferred[dict[str, Any]]:
        """Carry out a command."""
        desk = Desk(
            settings=self.settings,
            reactor=reactor,
            progress=Progress(self.said, lambda: 0.0, is_terminal=False),
            questions=io.StringIO(),
            remarks=self.said,
            now=lambda: 1.8e9,
        )
        given = {"replace": False, "yes": False, "rows": False, "no_dump": False, **options}
        return Deferred.fromCoroutine(COMMANDS[name](desk, argparse.Namespace(db=name, **given)))

    async def test_life(self) -> None:
        """From a file into etcd, dumped there, back again, and the dump into etcd: all the same rows, whatever the replica was."""
        path = self.settings.sqlite_path
        await lead_life(path, seed=41, steps=80)
        snapshot = SqliteSnapshot(path)
        expected = await rows_of(snapshot)
        await snapshot.close()
        self.assertIsNone((await self.db("status", rows=True))["schema"])
        found = await self.db("move", source="sqlite", target="etcd")
        self.assertEqual(found["rows"], sum(map(len, expected.values())) - 1)
        self.assertNotIn("next", found)
        found = await self.db("status", rows=True)
        self.assertEqual((found["schema"], found["run"]), (5, 1))
        self.assertEqual(found["rows"], {name: len(rows) for name, rows in expected.items()})
        store = store_of(self.settings, reactor)
        await store.open()
        with self.assertRaisesRegex(AnotherAppliance, "in use by another appliance \\(process"):
            await self.db("move", source="etcd", target="sqlite", replace=True, yes=True)
        dump = str(self.state / "dump.gz")
        await self.db("backup", file=dump)
        await store.close()
        self.assertIn("nothing was done", (await self.db("upgrade"))["result"])
        found = await self.db("move", source="etcd", target="sqlite", replace=True, yes=True)
        self.assertIn("next", found)
        snapshot = SqliteSnapshot(path)
        self.assertEqual(await rows_of(snapshot), expected)
        await snapshot.close()
        with self.assertRaises(RecordElsewhere):
            await store_of(self.settings, reactor).open()
        await self.db("restore", file=dump, replace=True, yes=True)
        store = store_of(self.settings, reactor)
        await store.open()
        self.assertEqual(store.appliance_id, "appliance-41")
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
