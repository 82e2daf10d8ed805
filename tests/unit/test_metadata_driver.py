"""What SQLite answers to a step."""

import shutil
import sqlite3
import time
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from coldstore.metadata.sql.database import Database, Duplicate
from coldstore.metadata.sqlite.connection import open_for_writing
from coldstore.metadata.sqlite.driver import Connection, finished


class OpeningTests(SynchronousTestCase):
    """``open_for_writing``."""

    def test_erased_by_a_killed_run(self) -> None:
        """What a run has erased, and was killed before its log was cut off, is in no file once the next one has opened it."""
        secret = b"zf8jq2vn-secret-zf8jq2vn"
        here, there = Path(self.mktemp()), Path(self.mktemp())
        here.mkdir()
        connection = open_for_writing(str(here / "m.sqlite"))
        self.addCleanup(connection.close)
        connection.execute("CREATE TABLE secrets (secret BLOB)")
        connection.execute("INSERT INTO secrets VALUES (?)", (secret,))
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("DELETE FROM secrets")
        shutil.copytree(here, there)
        self.assertIn(secret, (there / "m.sqlite-wal").read_bytes())
        again = open_for_writing(str(there / "m.sqlite"))
        self.addCleanup(again.close)
        for file in there.iterdir():
            self.assertNotIn(secret, file.read_bytes(), file.name)
        self.assertEqual(again.execute("SELECT * FROM secrets").fetchall(), [])

    def test_who_reads_is_not_waited_for(self) -> None:
        """A backup of an hour does not hold a start up: the log is cut off another time."""
        path = self.mktemp()
        writer = open_for_writing(path)
        self.addCleanup(writer.close)
        writer.execute("CREATE TABLE t (a)")
        reader = sqlite3.connect(path, isolation_level=None)
        self.addCleanup(reader.close)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM t").fetchall()
        writer.execute("INSERT INTO t VALUES (1)")
        begin = time.monotonic()
        again = open_for_writing(path)
        self.addCleanup(again.close)
        self.assertLess(time.monotonic() - begin, 5)
        self.assertEqual(again.execute("SELECT * FROM t").fetchall(), [(1,)])
        self.assertEqual(again.execute("PRAGMA busy_timeout").fetchall(), [(10_000,)])


class ConnectionTests(SynchronousTestCase):
    """``Connection``."""

    def setUp(self) -> None:
        """Have a table with a key, and one with sums."""
        self.connection = sqlite3.connect(":memory:", factory=Connection, isolation_level=None)
        self.addCleanup(self.connection.close)
        self.connection.execute("CREATE TABLE names (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)")
        self.connection.execute("CREATE TABLE sums (a, b, c DEFAULT 7, d DEFAULT 8, PRIMARY KEY (a, b))")
        self.connection.execute("INSERT INTO names VALUES (1, 'one'), (2, 'two')")

    def names(self) -> list[tuple[int, str]]:
        """What is in the table."""
        return self.connection.execute("SELECT * FROM names ORDER BY number").fetchall()

    def test_questions(self) -> None:
        """Rows, a row, or none."""
        rows = finished(self.connection.rows("SELECT name FROM names WHERE number > ? ORDER BY number", (0,)))
        self.assertEqual(rows, [("one",), ("two",)])
        self.assertEqual(finished(self.connection.rows("SELECT 1 FROM sums")), [])
        self.assertEqual(finished(self.connection.row("SELECT number FROM names WHERE name = 'two'")), (2,))
        self.assertIsNone(finished(self.connection.row("SELECT 1 FROM sums")))

    def test_changes(self) -> None:
        """How many rows changed, and what was inserted."""
        self.assertEqual(finished(self.connection.change("DELETE FROM names WHERE number < ?", (9,))), 2)
        self.assertEqual(finished(self.connection.change("DELETE FROM names")), 0)
        finished(self.connection.do("INSERT INTO names VALUES (?, 'three')", (3,)))
        finished(self.connection.insert("names", "name, number", ("four", 4)))
        self.assertEqual(self.names(), [(3, "three"), (4, "four")])

    def test_duplicates(self) -> None:
        """A second row of a key is told from whatever else a row may not be, and changes nothing."""
        for row in ((1, "x"), (3, "one")):
            with self.assertRaises(Duplicate):
                finished(self.connection.insert("names", "number, name", row))
        with self.assertRaises(Duplicate):
            finished(self.connection.change("UPDATE names SET name = 'one' WHERE number = 2"))
        with self.assertRaises(sqlite3.IntegrityError):
            finished(self.connection.insert("names", "number, name", (3, None)))
        self.assertEqual(self.names(), [(1, "one"), (2, "two")])

    def test_sums(self) -> None:
        """Each sum of a key grows by what is added, other columns stay."""
        for row in (("x", 1, 10), ("x", 2, 20), ("x", 1, -3)):
            finished(self.connection.add("sums", "a, b", "c", row))
        rows = self.connection.execute("SELECT * FROM sums ORDER BY b").fetchall()
        self.assertEqual(rows, [("x", 1, 7, 8), ("x", 2, 20, 8)])

    def test_numbers(self) -> None:
        """Each is greater than every one before, and belongs to the transaction."""
        self.connection.execute("CREATE TABLE store (last_version INTEGER)")
        self.connection.execute("INSERT INTO store VALUES (40)")
        self.assertEqual([finished(self.connection.number()) for _ in range(3)], [41, 42, 43])
        self.connection.execute("BEGIN")
        finished(self.connection.number())
        self.connection.execute("ROLLBACK")
        self.assertEqual(finished(self.connection.number()), 44)


class FinishedTests(SynchronousTestCase):
    """``finished``."""

    def test_result(self) -> None:
        """A step gives its result or its error, also from within another one."""

        async def inner(db: Database) -> int:
            (number,) = await db.row("SELECT 20")
            if number != 20:
                raise ValueError(number)
            return int(number)

        async def outer(db: Database) -> int:
            return await inner(db) + 1

        async def failing(_db: Database) -> None:
            raise KeyError("no")

        connection = sqlite3.connect(":memory:", factory=Connection)
        self.addCleanup(connection.close)
        self.assertEqual(finished(outer(connection)), 21)
        with self.assertRaises(KeyError):
            finished(failing(connection))

    def test_waiting(self) -> None:
        """A step that waits for anything else is a bug, and goes no further."""
        ended = []

        async def waiting() -> None:
            try:
                await Deferred()
            finally:
                ended.append(True)

        with self.assertRaises(AssertionError):
            finished(waiting())
        self.assertEqual(ended, [True])
