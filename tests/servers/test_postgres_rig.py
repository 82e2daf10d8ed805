"""The private PostgreSQL itself: what other tests rely on."""

import os
import shutil
import signal
from contextlib import closing

import psycopg2
from psycopg2 import errors
from twisted.trial.unittest import SynchronousTestCase

from tests.servers import postgres
from tests.servers.postgres import Address, Cluster
from tests.servers.processes import SmallDisk, parent_of, state_of


def connected(address: Address, **more: object) -> closing:  # type: ignore[type-arg]
    """A connection of the role of the tests that commits each statement; closed at the end of the context."""
    connection = psycopg2.connect(
        **{
            "host": address.host,
            "port": address.port,
            "dbname": address.database,
            "user": postgres.OWNER,
            **more,
        }
    )
    connection.autocommit = True
    return closing(connection)


def asked(address: Address, statement: str, **more: object) -> object:
    """The first value that a statement answers."""
    with connected(address, **more) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0] if cursor.description else None


class SharedTests(SynchronousTestCase):
    """The cluster that the tests of a process share."""

    def setUp(self) -> None:
        self.cluster = postgres.shared()

    def database(self) -> Address:
        """A database for this test."""
        address = self.cluster.database()
        self.addCleanup(self.cluster.drop, address)
        return address

    def test_one_for_all(self) -> None:
        """It is made once; it is version 15, listens on loopback alone, and runs as somebody who is not root."""
        self.assertIs(postgres.shared(), self.cluster)
        address = self.database()
        self.assertEqual(asked(address, "SHOW server_version_num")[:2], "15")  # type: ignore[index]
        self.assertEqual(asked(address, "SHOW listen_addresses"), "127.0.0.1")
        self.assertNotEqual(os.stat(f"/proc/{self.cluster.pid}").st_uid, 0)
        self.assertEqual(parent_of(self.cluster.pid), os.getpid())

    def test_fresh(self) -> None:
        """Each database is empty, whatever was done in others, and can be changed by who does not rule the server."""
        first, second = self.database(), self.database()
        asked(first, "CREATE TABLE things (a int)")
        tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        self.assertEqual((asked(first, tables), asked(second, tables)), (1, 0))
        self.assertEqual(asked(first, "SHOW is_superuser"), "off")

    def test_templates(self) -> None:
        """What a template holds is made once and is in every copy; what is done to a copy is not in the next."""
        made = []

        def make(address: Address) -> None:
            made.append(address)
            asked(address, "CREATE TABLE things (a int); INSERT INTO things VALUES (1)")

        for _ in range(2):
            address = self.cluster.database(template="things", make=make)
            self.addCleanup(self.cluster.drop, address)
            self.assertEqual(asked(address, "SELECT count(*) FROM things"), 1)
            asked(address, "INSERT INTO things VALUES (2)")
        self.assertEqual(len(made), 1)

    def test_emptied(self) -> None:
        """Rows go, also those that others refer to, and numbers begin anew; tables stay."""
        address = self.database()
        asked(
            address,
            "CREATE TABLE parents (a bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, b int);"
            "CREATE TABLE children (a bigint REFERENCES parents)",
        )
        for _ in range(2):
            self.assertEqual(asked(address, "INSERT INTO parents (b) VALUES (7) RETURNING a"), 1)
            asked(address, "INSERT INTO children VALUES (1)")
            self.cluster.empty(address)
            self.assertEqual(
                asked(address, "SELECT (SELECT count(*) FROM parents) + (SELECT count(*) FROM children)"), 0
            )

    def test_roles(self) -> None:
        """One role needs its password, one needs TLS; the certificate is the one that is named."""
        address = self.database()
        whole = {"sslmode": "verify-full", "sslrootcert": str(self.cluster.certificate)}
        self.assertEqual(asked(address, "SELECT 1", user="guarded", password=postgres.PASSWORD), 1)
        self.assertEqual(
            asked(
                address,
                "SELECT ssl::int FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
                **{**whole, "user": "secured", "host": "localhost", "hostaddr": "127.0.0.1"},
            ),
            1,
        )
        for refused in (
            {"user": "guarded", "password": "wrong"},
            {"user": "secured", "sslmode": "disable"},
            # It is not for this name.
            {**whole, "user": "secured", "host": "127.0.0.1"},
        ):
            with self.assertRaises(psycopg2.OperationalError):
                asked(address, "SELECT 1", **refused)

    def test_backends(self) -> None:
        """The processes that serve a database are named."""
        address = self.database()
        with connected(address) as connection:
            self.assertEqual(self.cluster.backends(address), [connection.info.backend_pid])


class CrashTests(SynchronousTestCase):
    """A cluster that is stopped, killed, frozen and removed."""

    def test_life(self) -> None:
        """Committed rows outlive a stop and kill -9; in between nobody answers; at the end nothing is left."""
        cluster = Cluster(is_durable=True)
        self.addCleanup(cluster.remove)
        address = cluster.database()
        self.assertEqual(asked(address, "SHOW fsync"), "on")
        asked(address, "CREATE TABLE things (a int)")
        for number, end in enumerate((cluster.stop, cluster.kill)):
            asked(address, f"INSERT INTO things VALUES ({number})")
            pid = cluster.pid
            end()
            self.assertIsNone(parent_of(pid))
            with self.assertRaises(psycopg2.OperationalError):
                asked(address, "SELECT 1")
            cluster.start()
            self.assertEqual(asked(address, "SELECT count(*) FROM things"), number + 1)
        self.assertIn("was not properly shut down", cluster.log())
        cluster.freeze()
        self.assertEqual(state_of(cluster.pid)[0], "T")
        cluster.thaw()
        self.assertEqual(asked(address, "SELECT 1"), 1)
        pid = cluster.pid
        cluster.remove()
        self.assertIsNone(parent_of(pid))
        self.assertFalse(cluster.folder.exists())

    def test_ends_with_its_process(self) -> None:
        """The server of a process that is killed is gone soon after."""
        there, here = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                cluster = Cluster()
                os.write(here, b"%d\n%s" % (cluster.pid, str(cluster.folder).encode()))
                os.close(here)
                signal.pause()
            finally:
                os._exit(1)
        os.close(here)
        with os.fdopen(there) as told:
            pid, folder = told.read().split("\n")
        self.assertIsNotNone(parent_of(int(pid)))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        # The folder is what a killed process cannot take away.
        self.addCleanup(shutil.rmtree, folder)
        postgres.shared()._wait("it stays", 30, lambda: parent_of(int(pid)) is None)


class FullDiskTests(SynchronousTestCase):
    """A cluster on a disk without room."""

    def test_full(self) -> None:
        """A table cannot grow while the disk is full, and can when there is room again."""
        disk = self.enterContext(SmallDisk(80))
        cluster = Cluster(disk=disk)
        self.addCleanup(cluster.remove)
        address = cluster.database()
        asked(address, "CREATE UNLOGGED TABLE things (a text)")
        disk.fill()
        insert = "INSERT INTO things SELECT repeat('x', 1000) FROM generate_series(1, 1000)"
        with self.assertRaises(errors.DiskFull):
            asked(address, insert)
        disk.clear()
        asked(address, insert)
        self.assertEqual(asked(address, "SELECT count(*) FROM things"), 1000)
