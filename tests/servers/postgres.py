"""
A private PostgreSQL 15: made by initdb, for the tests of one process, with a fresh database for each test.

``shared()`` gives the one that most tests use; whoever stops, kills or fills one makes another by ``Cluster(...)``.
"""

import signal
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import psycopg2

from tests.servers.certificates import self_signed
from tests.servers.processes import ServerProcess, SmallDisk, program

PROGRAMS = Path("/usr/lib/postgresql/15/bin")
"""Debian keeps those of the server off PATH."""
OWNER = "coldstore"
"""The role of every test; it owns its databases and is no superuser."""
PASSWORD = "correct horse"
"""Of the role ``guarded``, which needs it."""
FAST = ("fsync=off", "full_page_writes=off")
"""What is committed survives a crash of the server, though not one of the machine."""
DURABLE = ("fsync=on", "full_page_writes=on")
SMALL = (
    "shared_buffers=16MB", "max_connections=60", "max_wal_size=64MB", "min_wal_size=32MB", "autovacuum=off",
    "max_wal_senders=0", "wal_level=minimal", "dynamic_shared_memory_type=mmap", "log_min_messages=warning",
)  # fmt: skip
ACCESS = f"""
local    all  postgres            trust
local    all  {OWNER}             trust
hostssl  all  secured  127.0.0.1/32  trust
host     all  secured  127.0.0.1/32  reject
host     all  guarded  127.0.0.1/32  scram-sha-256
host     all  postgres,{OWNER}  127.0.0.1/32  trust
"""
"""pg_hba.conf: the role ``secured`` needs TLS, ``guarded`` a password."""


_EMPTY = """
DO $$
DECLARE each regclass;
BEGIN
    -- Neither foreign keys nor triggers count.
    SET LOCAL session_replication_role = replica;
    FOR each IN SELECT oid FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace LOOP
        EXECUTE format('DELETE FROM %s', each);
    END LOOP;
    FOR each IN SELECT oid FROM pg_class WHERE relkind = 'S' AND relnamespace = 'public'::regnamespace LOOP
        PERFORM setval(each, 1, false);
    END LOOP;
END $$
"""


class Address(NamedTuple):
    """Where a database is."""

    host: str
    port: int
    database: str


class Cluster(ServerProcess):
    """
    A cluster of databases, and the server of it.

    :ivar certificate: the path of its TLS certificate, which signed itself and is for ``localhost``
    """

    user = "postgres"
    # Fast shutdown: clients are cut off, what is committed is kept.
    stop_signal = signal.SIGINT

    def __init__(
        self, *, is_durable: bool = False, disk: SmallDisk | None = None, settings: Sequence[str] = SMALL
    ) -> None:
        """
        Make a cluster and start it.

        :param is_durable: commits are on the disk when they are told, which takes milliseconds
        :param settings: instead of those of a small server
        :raise SkipTest: PostgreSQL is not installed
        """
        self._settings = (*settings, *(DURABLE if is_durable else FAST))
        self._databases = 0
        self._templates: dict[str, str] = {}
        self.program = program("postgres", PROGRAMS)
        super().__init__(disk=disk)
        self.sql(f"CREATE ROLE {OWNER} LOGIN CREATEDB")
        self.sql("CREATE ROLE secured LOGIN IN ROLE coldstore")
        self.sql("CREATE ROLE guarded LOGIN IN ROLE coldstore PASSWORD %s", (PASSWORD,))

    @property
    def data(self) -> Path:
        """What initdb made."""
        return self.folder / "data"

    @property
    def certificate(self) -> Path:
        """The file of the certificate."""
        return self.folder / "server.crt"

    def _prepare(self) -> None:
        self.run(
            program("initdb", PROGRAMS), f"--pgdata={self.data}", "--no-sync", "--username=postgres", "--auth=reject",
            "--encoding=UTF8", "--locale=C.UTF-8", "--wal-segsize=1", "--no-instructions",
        )  # fmt: skip
        (self.data / "pg_hba.conf").write_text(ACCESS)
        certificate, key = self_signed("localhost")
        for path, pem in ((self.certificate, certificate), (self.folder / "server.key", key)):
            path.touch(mode=0o600)
            path.write_bytes(pem)
            self.own(path)

    def _command(self) -> Sequence[str]:
        settings = (
            *self._settings, "listen_addresses=127.0.0.1", f"port={self.port}", f"unix_socket_directories={self.folder}",
            "ssl=on", f"ssl_cert_file={self.certificate}", f"ssl_key_file={self.folder}/server.key",
        )  # fmt: skip
        return [self.program, "-D", str(self.data), *(word for each in settings for word in ("-c", each))]

    def is_ready(self) -> bool:
        """Whether it takes connections."""
        try:
            self.sql("SELECT 1")
        except psycopg2.OperationalError:
            return False
        return True

    def sql(
        self, statement: str, arguments: Sequence[object] = (), *, database: str = "postgres"
    ) -> list[Any]:
        """Run a statement as the superuser, in a transaction of its own; return its rows. Blocks."""
        with closing(
            psycopg2.connect(host=str(self.folder), port=self.port, user="postgres", dbname=database)
        ) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement, arguments or None)
                return cursor.fetchall() if cursor.description else []

    def database(self, *, template: str = "", make: Callable[[Address], None] | None = None) -> Address:
        """
        Return a database that nobody used before.

        :param template: a name for what ``make`` does to an empty one: it is done once, and copied from then on
        """
        source = "template0"
        if make is not None:
            if template not in self._templates:
                blank = self.database()
                make(blank)
                self._templates[template] = blank.database
            source = self._templates[template]
        return self._copied(source)

    def _copied(self, source: str) -> Address:
        self._databases += 1
        name = f"test{self._databases}"
        # Copying files takes two checkpoints, a log of pages none; there are few.
        self.sql(f"CREATE DATABASE {name} TEMPLATE {source} OWNER {OWNER} STRATEGY wal_log")
        return Address("127.0.0.1", self.port, name)

    def copied(self, source: Address) -> Address:
        """Return a database like one that nobody uses."""
        return self._copied(source.database)

    def empty(self, address: Address) -> None:
        """Delete every row of a database and begin its sequences anew, which is quicker than a new one."""
        self.sql(_EMPTY, database=address.database)

    def drop(self, address: Address) -> None:
        """Remove a database, whoever uses it."""
        self.sql(f"DROP DATABASE {address.database} WITH (FORCE)")

    def backends(self, address: Address) -> list[int]:
        """Return the processes that serve the clients of a database."""
        return [
            pid
            for (pid,) in self.sql(
                "SELECT pid FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'"
                " ORDER BY backend_start",
                (address.database,),
            )
        ]


@cache
def shared() -> Cluster:
    """
    Return the cluster of this process, which is not to be stopped.

    :raise SkipTest: PostgreSQL is not installed
    """
    return Cluster()
