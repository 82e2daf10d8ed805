"""What tests of the PostgreSQL client have in common: a database of their own behind a relay, and connections to it."""

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from coldstore.metadata.postgres.client import Address, Connection
from coldstore.model.errors import MetadataUnavailable
from coldstore.util.asynchronous import returns_deferred
from tests.servers import postgres
from tests.servers.proxy import Proxy

LONG_SECONDS = 60.0
"""A deadline that is not what is tested."""
SLOW_COMMIT = """
CREATE TABLE slow (a int);
CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER slowly AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slowly()
"""
"""A table whose rows take their time at the commit."""


class PostgresCase(TestCase):
    """
    Has a database of its own, and a relay in front of the server.

    :ivar address: through the relay, which could not look into TLS
    :ivar direct: past it
    :ivar lost: what connections said when they were lost
    """

    timeout = 240

    @returns_deferred
    async def setUp(self) -> None:
        self.cluster = self.server()
        self.database = self.cluster.database()
        self.addCleanup(self.cluster.drop, self.database)
        self.proxy = Proxy(reactor, self.cluster.port)
        self.proxy.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.proxy.stop()))
        self.lost: list[MetadataUnavailable] = []
        self.heard: list[tuple[str, str]] = []
        self.address = self.at(port=self.proxy.port)
        self.direct = self.at(port=self.cluster.port)

    def server(self) -> postgres.Cluster:
        """The server that is used."""
        return postgres.shared()

    def at(self, **changes: Any) -> Address:
        """An address of the database."""
        whole = {
            "host": "127.0.0.1",
            "database": self.database.database,
            "user": postgres.OWNER,
            "tls": "disable",
            **changes,
        }
        return Address(**whole)

    def made(self, address: Address | None = None, *, answer_seconds: float = LONG_SECONDS) -> Connection:
        """A connection that was not connected yet, and is closed at the end."""
        connection = Connection(
            address or self.address,
            reactor=reactor,
            answer_seconds=answer_seconds,
            hear=lambda channel, said: self.heard.append((channel, said)),
            lost=self.lost.append,
        )
        self.addCleanup(connection.close)
        return connection

    async def connected(
        self,
        address: Address | None = None,
        *,
        answer_seconds: float = LONG_SECONDS,
        begun: Callable[[Connection], Awaitable[object]] | None = None,
    ) -> Connection:
        """A connection that is up."""
        connection = self.made(address, answer_seconds=answer_seconds)
        await connection.connect(LONG_SECONDS, begun)
        return connection

    async def until(self, claim: Callable[[], object]) -> None:
        """Wait until something is so; the test's own time limit ends it."""
        while not claim():
            await deferLater(reactor, 0.01)  # type: ignore[arg-type]

    def sql(self, statement: str) -> list[Any]:
        """Run a statement as the superuser, at once."""
        return self.cluster.sql(statement, database=self.database.database)

    def backend(self) -> int:
        """The server's process of the only connection."""
        (pid,) = self.cluster.backends(self.database)
        return pid
