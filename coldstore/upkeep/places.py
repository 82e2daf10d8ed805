"""Stores by the names that operators give them."""

import os
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from coldstore.config.schema import Configuration
from coldstore.config.schema import Etcd as Cluster
from coldstore.config.schema import Postgresql as Server
from coldstore.metadata.choice import address_of, etcd_address_of
from coldstore.metadata.etcd import schema as etcd_schema
from coldstore.metadata.etcd.gateway import Gateway
from coldstore.metadata.etcd.keys import Keys
from coldstore.metadata.etcd.portable import EtcdSnapshot, PortableEtcd
from coldstore.metadata.etcd.portable import needed_by as etcd_needed_by
from coldstore.metadata.etcd.portable import upgrade as etcd_upgrade
from coldstore.metadata.portable.stores import Portable, Snapshot
from coldstore.metadata.sql.migrations import Migration
from coldstore.metadata.sqlite.portable import PortableSqlite, SqliteSnapshot, needed_by, upgrade_file
from coldstore.metadata.sqlite.schema import shipped_migrations
from coldstore.metadata.sqlite.store import new_appliance_id
from coldstore.upkeep.command import NAMES
from coldstore.upkeep.errors import Refused

if TYPE_CHECKING:
    from coldstore.metadata.postgres.client import Connection

ANSWER_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sqlite:
    """A file."""

    path: str

    @property
    def name(self) -> str:
        """What it is called."""
        return f"sqlite:{self.path}"

    @property
    def backend(self) -> str:
        """What kind of store it is."""
        return "sqlite"

    @property
    def paths(self) -> tuple[str, ...]:
        """Its files."""
        return (self.path,)

    @property
    def newest_schema(self) -> int:
        """The schema that this program needs."""
        return max(migration.number for migration in shipped_migrations())

    async def is_there(self, reactor: Any) -> bool:
        """Whether somebody has made it."""
        return os.path.exists(self.path)

    async def size_bytes(self, reactor: Any) -> int | None:
        """Return what it takes on the disk; None when nobody can tell."""
        return sum(os.path.getsize(path) for path in (self.path, f"{self.path}-wal") if os.path.exists(path))

    async def portable(self, reactor: Any) -> Portable:
        """Return it as rows, to be written by this process alone; makes it when it is not there."""
        return PortableSqlite(self.path)

    async def snapshot(self, reactor: Any) -> Snapshot:
        """Return the rows as they are now."""
        return SqliteSnapshot(self.path)

    async def needed(self, reactor: Any) -> Sequence[Migration]:
        """Return the migrations that an upgrade applies."""
        return needed_by(self.path)

    async def upgrade(self, reactor: Any) -> None:
        """Apply them, in one transaction."""
        upgrade_file(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgresql:
    """
    A database of a server. What speaks to it is loaded when it is asked for, as in ``metadata.choice``.

    :ivar server: the settings of the configuration, with what a name said otherwise
    """

    server: Server

    @property
    def name(self) -> str:
        """What it is called, as libpq would take it; without a password."""
        server = self.server
        host = f"[{server.host}]" if ":" in server.host else quote(server.host, safe="")
        return f"postgresql://{quote(server.user)}@{host}:{server.port}/{quote(server.database)}"

    @property
    def backend(self) -> str:
        """What kind of store it is."""
        return "postgresql"

    @property
    def paths(self) -> tuple[str, ...]:
        """It has no files here."""
        return ()

    @property
    def newest_schema(self) -> int:
        """The schema that this program needs."""
        from coldstore.metadata.postgres.schema import shipped_migrations as shipped

        return max(migration.number for migration in shipped())

    async def is_there(self, reactor: Any) -> bool:
        """Whether somebody has made it in the database, which must be there."""
        from coldstore.metadata.postgres.schema import applied

        connection = await self._connected(reactor, is_reader=True)
        try:
            return bool(await applied(connection))
        finally:
            connection.close()

    async def size_bytes(self, reactor: Any) -> int | None:
        """Return what it takes on the server's disk."""
        connection = await self._connected(reactor, is_reader=True)
        try:
            ((size_bytes,),) = (await connection.run("SELECT pg_database_size(current_database())")).rows
            return int(size_bytes)
        finally:
            connection.close()

    async def portable(self, reactor: Any) -> Portable:
        """Return it as rows, to be written by this process alone; makes it when it is not there."""
        from coldstore.metadata.postgres.portable import PortablePostgres

        return await PortablePostgres.begin(
            await self._connected(reactor, is_reader=False),
            name=self.name,
            read=lambda: self._connected(reactor, is_reader=True),
            new_appliance_id=new_appliance_id,
        )

    async def snapshot(self, reactor: Any) -> Snapshot:
        """Return the rows as they are now."""
        from coldstore.metadata.postgres.portable import PostgresSnapshot

        return await PostgresSnapshot.begin(await self._connected(reactor, is_reader=True))

    async def needed(self, reactor: Any) -> Sequence[Migration]:
        """Return the migrations that an upgrade applies."""
        from coldstore.metadata.postgres.portable import needed_by

        connection = await self._connected(reactor, is_reader=True)
        try:
            return await needed_by(connection)
        finally:
            connection.close()

    async def upgrade(self, reactor: Any) -> None:
        """Apply them, in one transaction."""
        from coldstore.metadata.postgres.portable import upgrade

        connection = await self._connected(reactor, is_reader=False)
        try:
            await upgrade(connection, new_appliance_id=new_appliance_id)
        finally:
            connection.close()

    def _connected(self, reactor: Any, *, is_reader: bool) -> "Coroutine[Any, Any, Connection]":
        from coldstore.metadata.postgres.portable import connected

        return connected(
            address_of(self.server),
            reactor,
            connect_seconds=self.server.connect_timeout_seconds,
            # A statement here works on many rows, and there is nobody who waits for it.
            answer_seconds=max(ANSWER_SECONDS, self.server.answer_timeout_seconds),
            is_reader=is_reader,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Etcd:
    """
    Keys of an etcd.

    :ivar cluster: the settings of the configuration
    """

    cluster: Cluster

    @property
    def name(self) -> str:
        """What it is called: by its first endpoint and its prefix."""
        return f"etcd:{self.cluster.endpoints[0]}{self.cluster.prefix}"

    @property
    def backend(self) -> str:
        """What kind of store it is."""
        return "etcd"

    @property
    def paths(self) -> tuple[str, ...]:
        """It has no files here that count."""
        return ()

    @property
    def newest_schema(self) -> int:
        """The schema that this program needs."""
        return max(migration.number for migration in shipped_migrations())

    async def is_there(self, reactor: Any) -> bool:
        """Whether somebody has made it."""
        gateway = self._connect(reactor)
        try:
            return bool(await etcd_schema.ledger(gateway, self._keys, shipped_migrations()))
        finally:
            await gateway.close()

    async def size_bytes(self, reactor: Any) -> int | None:
        """Return what the member that answers uses, for whatever else there is in it as well."""
        gateway = self._connect(reactor)
        try:
            return (await gateway.status()).used_bytes
        finally:
            await gateway.close()

    async def portable(self, reactor: Any) -> Portable:
        """Return it as rows, to be written by this process alone; makes it when it is not there."""
        return await PortableEtcd.begin(
            lambda: self._connect(reactor),
            self._keys,
            name=self.name,
            reactor=reactor,
            new_appliance_id=new_appliance_id,
        )

    async def snapshot(self, reactor: Any) -> Snapshot:
        """Return the rows as they are now."""
        return await EtcdSnapshot.begin(self._connect(reactor), self._keys)

    async def needed(self, reactor: Any) -> Sequence[Migration]:
        """Return the migrations that an upgrade applies."""
        gateway = self._connect(reactor)
        try:
            return await etcd_needed_by(gateway, self._keys)
        finally:
            await gateway.close()

    async def upgrade(self, reactor: Any) -> None:
        """Apply them, in one transaction."""
        await etcd_upgrade(self._connect(reactor), self._keys, reactor=reactor)

    @property
    def _keys(self) -> Keys:
        return Keys(self.cluster.prefix)

    def _connect(self, reactor: Any) -> Gateway:
        return Gateway(
            etcd_address_of(self.cluster),
            reactor=reactor,
            request_seconds=self.cluster.request_timeout_seconds,
        )


Place = Sqlite | Postgresql | Etcd
"""A store that may or may not be there."""


def configured(settings: Configuration) -> Place:
    """Return the store that the appliance uses."""
    return place_of(settings.metadata.backend, settings)


def place_of(name: str, settings: Configuration) -> Place:
    """
    Return a store by its name.

    :raise Refused: there is no such name
    """
    kind, colon, rest = name.partition(":")
    match kind:
        case "sqlite" if not colon:
            return Sqlite(path=settings.sqlite_path)
        case "sqlite" if rest and not rest.startswith("//"):
            return Sqlite(path=os.path.abspath(rest))
        case "postgresql" if not colon:
            return Postgresql(server=settings.metadata.postgresql)
        case "postgresql" if rest.startswith("//"):
            return Postgresql(server=_server_of(name, settings.metadata.postgresql))
        case "etcd" if not colon:
            return Etcd(cluster=settings.metadata.etcd)
    raise Refused(f"{name!r} names no store. {NAMES}")


def _server_of(name: str, server: Server) -> Server:
    """Return the settings of a server with what a name says otherwise."""
    try:
        said = urlsplit(name)
        port = said.port
    except ValueError as error:
        raise Refused(f"{name!r} names no database: {error}") from None
    if said.password is not None:
        raise Refused(
            "a password is never part of a name: put it into a file (metadata.postgresql.password_file)"
        )
    if said.query or said.fragment:
        raise Refused(f"{name!r} names no database: its other settings are those of the configuration")
    # ``hostname`` is in small letters, and the folder of a socket need not be.
    host = said.netloc.rpartition("@")[2].removesuffix(f":{port}").strip("[]")
    return replace(
        server,
        user=unquote(said.username or "") or server.user,
        host=unquote(host) or server.host,
        port=port or server.port,
        database=unquote(said.path.removeprefix("/")) or server.database,
    )
