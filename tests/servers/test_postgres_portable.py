"""PostgreSQL databases as rows: the contract of portable stores, and ``coldstore db`` on them."""

import argparse
import io
import os
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from coldstore.appliance.dumps import ProcessDumps
from coldstore.config.reading import read
from coldstore.config.schema import Configuration
from coldstore.interfaces.dumps import DumpFault
from coldstore.interfaces.metadata import IMetadataStore, RecordElsewhere
from coldstore.metadata.choice import address_of, store_of
from coldstore.metadata.portable.dumped import check_dump
from coldstore.metadata.portable.stores import Portable
from coldstore.metadata.postgres.portable import PortablePostgres
from coldstore.metadata.sqlite.portable import SqliteSnapshot
from coldstore.model.errors import MetadataUnavailable
from coldstore.tape.process import ReactorCommandRunner
from coldstore.upkeep.desk import Desk
from coldstore.upkeep.errors import Refused
from coldstore.upkeep.places import Postgresql, place_of
from coldstore.upkeep.progress import Progress
from coldstore.upkeep.running import COMMANDS
from tests.contract.portable_contract import PortableContract, lead_life, rows_of
from tests.servers import postgres

SETTINGS = read(None, "", {})


def settings_of(where: postgres.Address, state: str = "/nowhere") -> Configuration:
    """Settings that name a database."""
    text = (
        # The path of a socket has a limit, that of a test's folder has none.
        f"{{state_directory: {state}, admin: {{socket: /nowhere/socket}}, metadata: {{backend: postgresql, postgresql: {{host: {where.host}, port: {where.port},"
        f" database: {where.database}, user: {postgres.OWNER}, tls: disable, readers: 1}}}}}}"
    )
    return read(text, "test", {})


class OnPostgresTests(PortableContract, TestCase):
    """The contract, on PostgreSQL."""

    timeout = 300
    every = 9

    def make_portable(self) -> Portable:
        """See the contract."""
        return Lazy(self)

    def store_on(self, portable: Portable) -> IMetadataStore:
        """See the contract."""
        assert isinstance(portable, Lazy)
        store = portable.store()
        self.addCleanup(store.close)
        return store


class Lazy:
    """
    A portable store that connects when it is used first, and again after it had to make room for an appliance.

    The fence lets nobody in beside it.
    """

    def __init__(self, case: TestCase) -> None:
        cluster = postgres.shared()
        where = cluster.database()
        case.addCleanup(cluster.drop, where)
        case.addCleanup(lambda: Deferred.fromCoroutine(self.close()))
        self._settings = settings_of(where)
        self._place = Postgresql(server=self._settings.metadata.postgresql)
        self._portable: Portable | None = None
        self._store: IMetadataStore | None = None
        self.name = self._place.name
        self.as_kept = PortablePostgres.as_kept.__get__(self)

    def store(self) -> IMetadataStore:
        """Return the metadata store of an appliance."""
        if self._portable is not None:
            self._portable._connection.close()  # type: ignore[attr-defined]
            self._portable = None
        self._store = store_of(self._settings, reactor)
        return self._store

    async def _there(self) -> Portable:
        if self._store is not None:
            await self._store.close()
            self._store = None
        if self._portable is None or self._portable._connection.ended:  # type: ignore[attr-defined]
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
    """``coldstore db`` with a database on one side."""

    def setUp(self) -> None:
        """Have a state directory with the metadata of a life, and settings that name a database."""
        self.state = Path(self.mktemp()).absolute()
        self.state.mkdir()
        cluster = postgres.shared()
        self.where = cluster.database()
        self.addCleanup(cluster.drop, self.where)
        self.settings = settings_of(self.where, str(self.state))
        self.said = io.StringIO()

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
        """From a file into the database, dumped there, back again, and the dump into the database: all the same rows."""
        path = self.settings.sqlite_path
        await lead_life(path, seed=41, steps=80)
        snapshot = SqliteSnapshot(path)
        expected = await rows_of(snapshot)
        await snapshot.close()
        found = await self.db("status", rows=True)
        self.assertIsNone(found["schema"])
        found = await self.db("move", source="sqlite", target="postgresql")
        self.assertEqual(found["rows"], sum(map(len, expected.values())) - 1)
        self.assertNotIn("next", found)
        found = await self.db("status", rows=True)
        self.assertEqual((found["schema"], found["run"]), (5, 1))
        self.assertEqual(found["rows"], {name: len(rows) for name, rows in expected.items()})
        store = store_of(self.settings, reactor)
        await store.open()
        with self.assertRaisesRegex(MetadataUnavailable, "another writer"):
            await self.db("move", source="postgresql", target="sqlite", replace=True, yes=True)
        dump = str(self.state / "dump.gz")
        await self.db("backup", file=dump)
        await store.close()
        self.assertIn("nothing was done", (await self.db("upgrade"))["result"])
        name = f"postgresql://{postgres.OWNER}@{self.where.host}:{self.where.port}/{self.where.database}"
        found = await self.db("move", source=name, target="sqlite", replace=True, yes=True)
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

    async def test_dump_on_schedule(self) -> None:
        """The process that an appliance has make a dump makes one of a database, too, while the appliance writes to it."""
        await lead_life(self.settings.sqlite_path, seed=43, steps=40)
        await self.db("move", source="sqlite", target="postgresql")
        store = store_of(self.settings, reactor)
        await store.open()
        dumps = ProcessDumps(self.settings, ReactorCommandRunner(reactor, os.environ), os.environ)
        making = dumps.make(1.6e9)
        while not making.called:
            await store.audit(at=1.0, who="w", what="w", subject="s", detail="")
        await making
        await store.close()
        (dump,) = dumps.kept()
        checked = check_dump(self.state / "dumps" / dump.name, lambda _: None)
        self.assertEqual(
            (checked.header.backend, checked.header.standing.appliance_id), ("postgresql", "appliance-43")
        )
        nowhere = settings_of(self.where._replace(database="nowhere"), str(self.state))
        dumps = ProcessDumps(nowhere, ReactorCommandRunner(reactor, os.environ), os.environ)
        with self.assertRaisesRegex(DumpFault, "does not exist"):
            await dumps.make(1.7e9)


class NameTests(SynchronousTestCase):
    """Names of databases."""

    def test_names(self) -> None:
        """A name says what is different from the configuration; what it is called says everything but a password."""
        for said, name in (
            ("postgresql", "postgresql://coldstore@%2Fvar%2Frun%2Fpostgresql:5432/coldstore"),
            ("postgresql://", "postgresql://coldstore@%2Fvar%2Frun%2Fpostgresql:5432/coldstore"),
            ("postgresql:///other", "postgresql://coldstore@%2Fvar%2Frun%2Fpostgresql:5432/other"),
            ("postgresql://me@db.example:6543/x", "postgresql://me@db.example:6543/x"),
            ("postgresql://[::1]:1/x", "postgresql://coldstore@[::1]:1/x"),
            ("postgresql://me@%2FRun%2Fpg/x", "postgresql://me@%2FRun%2Fpg:5432/x"),
        ):
            place = place_of(said, SETTINGS)
            self.assertEqual(place.name, name)
            self.assertEqual(place_of(place.name, SETTINGS), place)
            self.assertTrue(isinstance(place, Postgresql) and address_of(place.server))
        for said in (
            "postgresql:x",
            "postgresql://me:secret@host/x",
            "postgresql://host:99999/x",
            "postgresql://host:x/y",
            "postgresql://host/x?sslmode=disable",
            "postgres://x",
        ):
            with self.assertRaises(Refused) as refused:
                place_of(said, SETTINGS)
            self.assertNotIn("secret", str(refused.exception))
