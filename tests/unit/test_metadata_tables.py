"""The portable tables are those that the store has."""

import sqlite3

from twisted.trial.unittest import SynchronousTestCase

from coldstore.metadata.sql.tables import BY_NAME, TABLES, Kind, Table
from coldstore.metadata.sqlite.schema import migrate, shipped_migrations

LEDGER = "migrations"
KINDS = {"INTEGER": Kind.INTEGER, "REAL": Kind.REAL, "TEXT": Kind.TEXT, "BLOB": Kind.BYTES}


class TablesTests(SynchronousTestCase):
    """``TABLES``."""

    def setUp(self) -> None:
        """Have the newest schema."""
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.addCleanup(self.connection.close)
        migrate(self.connection, shipped_migrations(), new_appliance_id=lambda: "one")

    def test_all_there(self) -> None:
        """Every table of the schema is one of them, the ledger of migrations and SQLite's own excepted."""
        rows = self.connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        names = {name for (name,) in rows if not name.startswith("sqlite_")}
        self.assertEqual(names - {LEDGER}, set(BY_NAME))
        self.assertEqual(len(BY_NAME), len(TABLES))

    def test_columns(self) -> None:
        """Names, kinds, what may be null, and the key are the schema's, in its order."""
        for table in TABLES:
            rows = self.connection.execute(f"PRAGMA table_info({table.name})").fetchall()
            found = [(name, KINDS[kind], not (notnull or place)) for _, name, kind, notnull, _, place in rows]
            told = [(column.name, column.kind, column.nullable) for column in table.columns]
            self.assertEqual(told, found, table.name)
            key = sorted((place, name) for _, name, _, _, _, place in rows if place)
            self.assertEqual(table.key, tuple(name for _, name in key), table.name)
            self.assertEqual([table.column_names[place] for place in table.key_places], list(table.key))

    def test_identities(self) -> None:
        """The columns that number themselves are named, and no others."""
        numbered = {
            name
            for name, text in self.connection.execute(
                "SELECT name, sql FROM sqlite_schema WHERE type = 'table'"
            )
            if "AUTOINCREMENT" in text
        }
        # Nothing remembers a share's number when it is gone: it may be given again.
        numbered.add("shares")
        self.assertEqual({table.name for table in TABLES if table.identity}, numbered)
        for table in TABLES:
            self.assertIn(table.identity, (None, table.key[0]))

    def test_order(self) -> None:
        """A table comes behind those that it refers to."""
        seen: set[str] = set()
        for table in TABLES:
            seen.add(table.name)
            self.assertLessEqual(self.referred(table), seen, table.name)

    def referred(self, table: Table) -> set[str]:
        """The tables that a table has foreign keys into."""
        return {
            row[2] for row in self.connection.execute(f"PRAGMA foreign_key_list({table.name})").fetchall()
        }
