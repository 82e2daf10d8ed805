"""The schema in PostgreSQL: as SQLite's, and made in one piece or not at all."""

import re
import sqlite3
from typing import Any

from coldstore.interfaces.metadata import SchemaTooNew, SchemaTooOld
from coldstore.metadata.postgres.client import Connection
from coldstore.metadata.postgres.schema import FIRST, applied, migrate, shipped_migrations
from coldstore.metadata.sql.migrations import Migration, MigrationAltered
from coldstore.metadata.sql.tables import TABLES, Kind
from coldstore.metadata.sqlite import schema as sqlite_schema
from coldstore.model.errors import MetadataUnavailable
from tests.servers import postgres
from tests.servers.postgres_rig import PostgresCase

OWN = {"migrations", "writer"}
"""Tables that a database has for itself."""
KINDS = {
    "bigint": Kind.INTEGER,
    "double precision": Kind.REAL,
    "text": Kind.TEXT,
    "bytea": Kind.BYTES,
}


def put_plainly(index: str) -> str:
    """Return the statement that makes an index without what each database adds to it or leaves out."""
    text = re.sub(r"\s+", " ", index).lower()
    for wording, plain in (
        (r"public\.| using btree|::[a-z]+(\[\])?", ""),
        (r"= any \(array\[(.*?)\]\)", r"in (\1)"),
        (r"\bgreatest\b", "max"),
        (r"[()\s]+", " "),
        (r" ?, ?", ", "),
    ):
        text = re.sub(wording, plain, text)
    return text.strip()


class SchemaCase(PostgresCase):
    """Has a connection to an empty database."""

    async def migrated(
        self, connection: Connection, migrations: list[Migration] | None = None, *, is_upgrade: bool = False
    ) -> list[int]:
        """Bring the schema up to date."""
        return await migrate(
            connection,
            shipped_migrations() if migrations is None else migrations,
            new_appliance_id=lambda: "one",
            is_upgrade=is_upgrade,
        )


class SameTests(SchemaCase):
    """What both databases have."""

    async def test_tables(self) -> None:
        """Every table and column is there with its kind, its key and its numbering, and no other; text is compared by bytes."""
        await self.migrated(await self.connected())
        found: dict[str, dict[str, Any]] = {}
        for table, *column in self.sql(
            "SELECT table_name, column_name, data_type, is_nullable, is_identity, collation_name"
            " FROM information_schema.columns WHERE table_schema = 'public' ORDER BY ordinal_position"
        ):
            found.setdefault(table, {})[column[0]] = column[1:]
        self.assertEqual(set(found), OWN | {table.name for table in TABLES})
        for table in TABLES:
            self.assertEqual(set(found[table.name]), set(table.column_names), table.name)
            for column in table.columns:
                kind, nullable, identity, collation = found[table.name][column.name]
                where = f"{table.name}.{column.name}"
                self.assertEqual(KINDS[kind], column.kind, where)
                self.assertEqual(nullable == "YES", column.nullable, where)
                self.assertEqual(identity == "YES", column.name == table.identity, where)
                self.assertEqual(collation, "C" if column.kind is Kind.TEXT else None, where)

    async def test_indexes(self) -> None:
        """Every index is there, over the same columns and rows, and no other; every key and uniqueness, too."""
        await self.migrated(await self.connected())
        file = sqlite3.connect(":memory:", isolation_level=None)
        self.addCleanup(file.close)
        sqlite_schema.migrate(file, sqlite_schema.shipped_migrations(), new_appliance_id=lambda: "one")
        theirs = file.execute("SELECT sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL")
        ours = self.sql(
            "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND indexname NOT IN"
            " (SELECT conname FROM pg_constraint)"
        )
        self.assertEqual(
            sorted(put_plainly(index) for (index,) in ours), sorted(put_plainly(index) for (index,) in theirs)
        )
        for table in TABLES:
            unique = {
                tuple(name for (name,) in file.execute("SELECT name FROM pragma_index_info(?)", (index,)))
                for index, origin in file.execute(
                    "SELECT name, origin FROM pragma_index_list(?)", (table.name,)
                )
                if origin == "u"
            }
            constraints = self.sql(
                "SELECT contype::text, array(SELECT attname::text FROM unnest(conkey) WITH ORDINALITY AS k (number, place)"
                " JOIN pg_attribute ON attrelid = conrelid AND attnum = number ORDER BY place)"
                f" FROM pg_constraint WHERE conrelid = '{table.name}'::regclass AND contype IN ('p', 'u')"
            )
            self.assertEqual({tuple(names) for kind, names in constraints if kind == "u"}, unique, table.name)
            self.assertEqual([tuple(names) for kind, names in constraints if kind == "p"], [table.key])

    async def test_numbers(self) -> None:
        """The newest migration has the same number in both."""
        self.assertEqual(shipped_migrations()[0].number, FIRST)
        self.assertEqual(shipped_migrations()[-1].number, sqlite_schema.shipped_migrations()[-1].number)


class MigrationTests(SchemaCase):
    """Applying migrations."""

    async def test_once(self) -> None:
        """A new database gets everything and an id, and keeps both."""
        connection = await self.connected()
        self.assertEqual(await applied(connection), {})
        numbers = [migration.number for migration in shipped_migrations()]
        self.assertEqual(await self.migrated(connection), numbers)
        self.assertEqual(await self.migrated(connection), [])
        self.assertEqual(await self.migrated(connection, is_upgrade=True), [])
        self.assertEqual(list(await applied(connection)), numbers)
        self.assertEqual(
            self.sql("SELECT appliance_id, arriving_from, moved_to FROM store"), [("one", "", "")]
        )

    async def test_upgrade(self) -> None:
        """An older schema is changed only by an upgrade, which keeps what is there."""
        connection = await self.connected()
        await self.migrated(connection)
        number = shipped_migrations()[-1].number + 1
        newer = Migration(number=number, statements="ALTER TABLE store ADD a bigint; UPDATE store SET a = 7;")
        with self.assertRaises(SchemaTooOld):
            await self.migrated(connection, [*shipped_migrations(), newer])
        self.assertEqual(
            await self.migrated(connection, [*shipped_migrations(), newer], is_upgrade=True), [number]
        )
        self.assertEqual(self.sql("SELECT appliance_id, a FROM store"), [("one", 7)])
        with self.assertRaises(SchemaTooNew):
            await self.migrated(connection, is_upgrade=True)

    async def test_altered(self) -> None:
        """A database that was made with another text of a migration is left alone."""
        connection = await self.connected()
        await self.migrated(connection)
        first, *rest = shipped_migrations()
        altered = Migration(number=first.number, statements=first.statements + "-- altered")
        with self.assertRaises(MigrationAltered):
            await self.migrated(connection, [altered, *rest])

    async def test_failing(self) -> None:
        """A migration that fails leaves nothing of itself nor of those before it, and the connection is of use."""
        connection = await self.connected()
        bad = Migration(
            number=FIRST + 1, statements="CREATE TABLE two (a bigint); CREATE TABLE two (a bigint)"
        )
        with self.assertRaisesRegex(Exception, "already exists"):
            await self.migrated(connection, [shipped_migrations()[0], bad])
        self.assertEqual(self.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), [(0,)])
        self.assertNotEqual(await self.migrated(connection), [])

    async def test_not_ours(self) -> None:
        """Who may not make tables in the database is told so."""
        self.sql("ALTER SCHEMA public OWNER TO postgres; REVOKE ALL ON SCHEMA public FROM PUBLIC")
        self.sql(f"ALTER DATABASE {self.database.database} OWNER TO postgres")
        with self.assertRaisesRegex(MetadataUnavailable, "permission denied|no schema"):
            await self.migrated(await self.connected())

    async def test_encoding(self) -> None:
        """A database that could not hold every text is refused, and nothing is made in it."""
        self.cluster.drop(self.database)
        self.cluster.sql(
            f"CREATE DATABASE {self.database.database} TEMPLATE template0 OWNER {postgres.OWNER}"
            " ENCODING 'LATIN1' LOCALE 'C'"
        )
        with self.assertRaisesRegex(MetadataUnavailable, "LATIN1.*UTF8"):
            await self.migrated(await self.connected())
        self.assertEqual(self.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), [(0,)])
