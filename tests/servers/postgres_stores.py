"""Stores on a real PostgreSQL, each with a database of its own."""

from collections.abc import Callable

from twisted.internet import reactor

from coldstore.metadata.postgres.client import Address, Connection
from coldstore.metadata.postgres.database import Statements
from coldstore.metadata.postgres.sessions import settle
from coldstore.metadata.postgres.store import PostgresStore
from coldstore.metadata.postgres.waves import Shuffle
from tests.servers import postgres

LONG_SECONDS = 60.0
"""A deadline that is not what is tested."""


class OwnDatabase:
    """An empty database of the shared server."""

    def __init__(self, add_cleanup: Callable[..., None]) -> None:
        """:param add_cleanup: takes what is to be called in the end, and its arguments"""
        cluster = postgres.shared()
        where = cluster.database()
        add_cleanup(cluster.drop, where)
        self._add_cleanup = add_cleanup
        self.address = Address(
            host=where.host, port=where.port, database=where.database, user=postgres.OWNER, tls="disable"
        )

    def store(self, *, shuffle: Shuffle | None = None) -> PostgresStore:
        """Return a store on it that is not open yet."""
        return PostgresStore(
            self.address,
            reactor=reactor,
            connect_seconds=LONG_SECONDS,
            answer_seconds=LONG_SECONDS,
            readers=2,
            shuffle=shuffle,
        )

    async def statements(self) -> Statements:
        """Return a connection beside that of the store, with a session like its readers have."""
        connection = Connection(self.address, reactor=reactor, answer_seconds=LONG_SECONDS)
        self._add_cleanup(connection.close)
        await connection.connect(LONG_SECONDS)
        await settle(connection, answer_seconds=LONG_SECONDS)
        return Statements(connection)
