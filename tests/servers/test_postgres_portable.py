"""PostgreSQL databases as rows: the contract of portable stores, and ``coldstore db`` on them."""

import os
from pathlib import Path

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from coldstore.appliance.dumps import ProcessDumps
from coldstore.config.reading import read
from coldstore.config.schema import Configuration
from coldstore.interfaces.dumps import DumpFault
from coldstore.interfaces.metadata import IMetadataStore
from coldstore.metadata.choice import address_of, store_of
from coldstore.metadata.etcd.schema import ACCESS_KEYS
from coldstore.metadata.portable.dumped import check_dump
from coldstore.metadata.portable.stores import Portable
from coldstore.metadata.postgres import schema as postgres_schema
from coldstore.metadata.postgres.database import Statements
from coldstore.metadata.postgres.portable import PortablePostgres, connected
from coldstore.metadata.sql import whole
from coldstore.metadata.sqlite.portable import SqliteSnapshot
from coldstore.model.errors import MetadataUnavailable
from coldstore.tape.process import ReactorCommandRunner
from coldstore.upkeep.errors import Refused
from coldstore.upkeep.places import Postgresql, place_of
from tests.contract.old_stores import make_old_store
from tests.contract.portable_contract import PortableContract, lead_life, rows_of
from tests.servers import postgres
from tests.servers.portable_stores import Commands, Lazy, settings_with

SETTINGS = read(None, "", {})


def settings_of(where: postgres.Address, state: str = "/nowhere") -> Configuration:
    """Settings that name a database."""
    server = f"host: {where.host}, port: {where.port}, database: {where.database}, user: {postgres.OWNER}, tls: disable, readers: 1"
    return settings_with(f"{{backend: postgresql, postgresql: {{{server}}}}}", state)


class OnPostgresTests(PortableContract, TestCase):
    """The contract, on PostgreSQL."""

    timeout = 600
    every = 9

    def make_portable(self) -> Portable:
        """See the contract."""
        cluster = postgres.shared()
        where = cluster.database()
        self.addCleanup(cluster.drop, where)
        settings = settings_of(where)
        return Lazy(self, settings, Postgresql(server=settings.metadata.postgresql), PortablePostgres)

    def store_on(self, portable: Portable) -> IMetadataStore:
        """See the contract."""
        assert isinstance(portable, Lazy)
        store = portable.store()
        self.addCleanup(store.close)
        return store


class CommandTests(Commands, TestCase):
    """``coldstore db`` with a database on one side."""

    def setUp(self) -> None:
        """Have a state directory with the metadata of a life, and settings that name a database."""
        self.prepare()
        cluster = postgres.shared()
        self.where = cluster.database()
        self.addCleanup(cluster.drop, self.where)
        self.settings = settings_of(self.where, str(self.state))

    async def test_life(self) -> None:
        """From a file into the database, dumped there, back again, and the dump into the database: all the same rows."""
        name = f"postgresql://{postgres.OWNER}@{self.where.host}:{self.where.port}/{self.where.database}"
        await self.check_life("postgresql", name, MetadataUnavailable, "another writer")

    async def test_upgrade_of_access_keys(self) -> None:
        """Keys leave the rows of users for tables of their own; the dump from before is of before, and can be restored."""
        path = self.mktemp()
        make_old_store(path, ACCESS_KEYS - 1)
        snapshot = SqliteSnapshot(path)
        before = await rows_of(snapshot)
        tables = snapshot.tables
        await snapshot.close()
        connection = await connected(
            address_of(self.settings.metadata.postgresql),
            reactor,
            connect_seconds=10.0,
            answer_seconds=60.0,
            is_reader=False,
        )
        older = [one for one in postgres_schema.shipped_migrations() if one.number < ACCESS_KEYS]
        await postgres_schema.migrate(connection, older, new_appliance_id=lambda: "old", is_upgrade=False)
        db = Statements(connection)
        db.hold_word(b"BEGIN")
        await db.do("DELETE FROM store")
        for table in tables:
            # The marks of the store stay with it.
            rows = (
                [(*row, "", "") for row in before["store"]] if table.name == "store" else before[table.name]
            )
            if rows:
                await whole.put(db, table, rows)
        await connection.commit(db.taken())
        connection.close()
        self.assertEqual((await self.db("upgrade"))["result"], "done")
        store = store_of(self.settings, reactor)
        await store.open()
        await self.check_kept(store, tables, before)
        secrets = {row[2]: row[3] for row in before["users"]}
        self.assertEqual(await store.plain_secrets(after="", limit=9), secrets)
        keys = {key.access_key: key.user_id for key in await store.access_keys(after="", limit=9)}
        self.assertEqual(keys, {row[2]: row[0] for row in before["users"]})
        self.assertEqual([user.user_id for user in await store.users()], [row[0] for row in before["users"]])
        await store.seal_secrets({access_key: ("", f"sealed {access_key}") for access_key in secrets})
        await store.forget_plain_secrets()
        self.assertFalse(bool(await store.plain_secrets(after="", limit=1)))
        await store.close()
        (dump,) = Path(self.settings.dumps_directory).glob("*before*")
        await self.db("restore", file=str(dump), replace=True, yes=True)
        store = store_of(self.settings, reactor)
        await store.open()
        self.assertEqual(await store.plain_secrets(after="", limit=9), secrets)
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
