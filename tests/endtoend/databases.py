"""
Where the appliances of tests keep their metadata: the environment variable ``COLDSTORE_TESTS_METADATA`` says ``sqlite`` (or nothing),
``postgresql`` or ``etcd``.

The servers are durable: what they have acknowledged survives their own kill -9.
"""

import contextlib
import os
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import pathname2url

if TYPE_CHECKING:
    # Not everywhere where an appliance runs are the servers' clients.
    from tests.servers.etcd import Etcd
    from tests.servers.postgres import Cluster
    from tests.servers.processes import ServerProcess

FROZEN_SECONDS = 1.0
VARIABLE = "COLDSTORE_TESTS_METADATA"
_prefixes = count(1)


class Metadata(ABC):
    """
    The metadata of one appliance.

    :ivar backend: what commands call where they are
    :ivar settings: what its configuration says of them
    :ivar server: the process that keeps them, None when that is the appliance itself
    :ivar is_in_state: whether they lie in the state directory, or a copy of them that every change goes into
    """

    backend: str
    settings: Mapping[str, Any]
    is_in_state = True
    server: "ServerProcess | None" = None

    @abstractmethod
    def rows(self, state: Path, statement: str) -> list[Any]:
        """
        Ask the appliance's record, past the appliance.

        :param state: its state directory
        """

    @abstractmethod
    def disconnect(self) -> None:
        """Cut all connections of the appliance off, whatever goes on in them."""

    def remove(self) -> None:  # noqa: B027 - most have nothing to do
        """Remove what does not lie in the state directory."""


class SqliteFile(Metadata):
    """A file in the state directory."""

    backend = "sqlite"
    settings: Mapping[str, Any] = {}
    name = "metadata.sqlite"

    def rows(self, state: Path, statement: str) -> list[Any]:
        """See ``Metadata``."""
        database = f"file:{pathname2url(str(state / self.name))}?mode=ro"
        with contextlib.closing(sqlite3.connect(database, uri=True)) as connection:
            return connection.execute(statement).fetchall()

    def disconnect(self) -> None:
        """See ``Metadata``: there are none."""


class PostgresDatabase(Metadata):
    """A database of its own on a server that all appliances of this process share."""

    backend = "postgresql"
    is_in_state = False

    def __init__(self) -> None:
        self._cluster = self.server = _cluster()
        self._address = self._cluster.database()
        host, port, database = self._address
        where = {"host": host, "port": port, "database": database, "user": "coldstore"}
        self.settings = {"backend": self.backend, "postgresql": where}

    def rows(self, state: Path, statement: str) -> list[Any]:
        """See ``Metadata``."""
        return self._cluster.sql(statement, database=self._address.database)

    def disconnect(self) -> None:
        """See ``Metadata``."""
        self._cluster.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            (self._address.database,),
        )

    def remove(self) -> None:
        """See ``Metadata``."""
        self._cluster.drop(self._address)


class EtcdKeys(SqliteFile):
    """Keys of an etcd that all appliances of this process share; the local replica can be asked once the appliance is at rest."""

    backend = "etcd"
    name = "metadata-etcd.sqlite"

    def __init__(self) -> None:
        self._etcd = self.server = _etcd()
        where = {"endpoints": [self._etcd.url], "prefix": f"/coldstore-{next(_prefixes)}"}
        self.settings = {"backend": self.backend, "etcd": where}

    def disconnect(self) -> None:
        """See ``Metadata``: a server that does nothing for a while is what looks like that to its clients."""
        self._etcd.freeze()
        time.sleep(FROZEN_SECONDS)
        self._etcd.thaw()

    def remove(self) -> None:
        """See ``Metadata``."""
        self._etcd.remove_below(self.settings["etcd"]["prefix"])


@cache
def _cluster() -> "Cluster":
    from tests.servers.postgres import Cluster

    return Cluster(is_durable=True)


@cache
def _etcd() -> "Etcd":
    from tests.servers.etcd import Etcd

    return Etcd()


KINDS: Mapping[str, type[Metadata]] = {
    "sqlite": SqliteFile,
    "postgresql": PostgresDatabase,
    "etcd": EtcdKeys,
}


def chosen() -> Metadata:
    """
    Make what the environment asks for.

    :raise SkipTest: its server is not installed
    """
    return KINDS[os.environ.get(VARIABLE) or "sqlite"]()
