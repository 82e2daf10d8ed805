"""What PostgreSQL is told instead of what a step says, and which store the settings name."""

from dataclasses import replace

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from coldstore.config.schema import Configuration, Metadata, Postgresql
from coldstore.metadata.choice import address_of, folder_of, store_of
from coldstore.metadata.postgres.dialect import plain, translated
from coldstore.metadata.postgres.store import PostgresStore
from coldstore.metadata.sql.writing import adding, inserting
from coldstore.metadata.sqlite.store import SqliteStore


class DialectTests(SynchronousTestCase):
    """Statements."""

    def test_translated(self) -> None:
        """Places of arguments are written as psycopg2 wants them."""
        self.assertEqual(
            translated("SELECT a FROM t WHERE a = ? AND b IN (?,?)"),
            "SELECT a FROM t WHERE a = %s AND b IN (%s,%s)",
        )

    def test_inserting(self) -> None:
        """A row has a place for each of its columns."""
        self.assertEqual(inserting("t", "a, b"), "INSERT INTO t (a, b) VALUES (?,?)")

    def test_adding(self) -> None:
        """Sums begin with what is added, and grow by it; what is there already is named with its table."""
        self.assertEqual(
            adding("t", "a, b", "c, d"),
            "INSERT INTO t (a, b, c, d) VALUES (?,?,?,?) ON CONFLICT (a, b) DO UPDATE"
            " SET c = t.c + excluded.c, d = t.d + excluded.d",
        )

    def test_plain(self) -> None:
        """A text with NUL shows its symbol; everything else stays what it is."""
        self.assertEqual(plain("a\0b\0"), "a\u2400b\u2400")
        for value in ("text", b"a\0b", 7, 1.5, None):
            self.assertIs(plain(value), value)


class ChoiceTests(SynchronousTestCase):
    """Settings."""

    def test_file(self) -> None:
        """The default is a file, whose folder needs room."""
        settings = Configuration(state_directory="/srv/cold")
        self.assertIsInstance(store_of(settings, Clock()), SqliteStore)
        self.assertEqual(str(folder_of(settings)), "/srv/cold")

    def test_server(self) -> None:
        """A server is spoken to as the settings say; where its disk is nobody knows here."""
        server = Postgresql(
            host="db", port=1, database="d", user="u", password_file="/p", tls="verify-full", ca_file="/ca"
        )
        settings = replace(Configuration(), metadata=Metadata(backend="postgresql", postgresql=server))
        self.assertIsInstance(store_of(settings, Clock()), PostgresStore)
        self.assertIsNone(folder_of(settings))
        address = address_of(server)
        self.assertEqual((address.host, address.port, address.database, address.user), ("db", 1, "d", "u"))
        self.assertEqual(
            (address.password_path, address.tls, address.authority_path), ("/p", "verify-full", "/ca")
        )
