"""The one place that turns settings into a store."""

from pathlib import Path
from typing import Any

from coldstore.config.schema import Configuration, Postgresql
from coldstore.interfaces.metadata import IMetadataStore
from coldstore.metadata.postgres.client import Address
from coldstore.metadata.postgres.store import PostgresStore
from coldstore.metadata.sqlite.store import SqliteStore


def store_of(settings: Configuration, reactor: Any) -> IMetadataStore:
    """Return the store that the settings name, not opened yet."""
    if settings.metadata.backend == "postgresql":
        server = settings.metadata.postgresql
        return PostgresStore(
            address_of(server),
            reactor=reactor,
            connect_seconds=server.connect_timeout_seconds,
            answer_seconds=server.answer_timeout_seconds,
            readers=server.readers,
        )
    return SqliteStore(settings.sqlite_path, reactor=reactor)


def address_of(server: Postgresql) -> Address:
    """Return where a database is."""
    return Address(
        host=server.host,
        port=server.port,
        database=server.database,
        user=server.user,
        password_path=server.password_file,
        tls=server.tls,
        authority_path=server.ca_file,
    )


def folder_of(settings: Configuration) -> Path | None:
    """Return the folder whose file system the record needs room on; None when a server keeps it."""
    return Path(settings.sqlite_path).parent if settings.metadata.backend == "sqlite" else None
