"""
The one place that turns settings into a store.

What speaks to PostgreSQL is loaded only where there is one: its two libraries need not be installed elsewhere.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from coldstore.config.schema import Configuration, Etcd, Postgresql
from coldstore.interfaces.metadata import IMetadataStore
from coldstore.metadata.etcd.gateway import Address as EtcdAddress
from coldstore.metadata.etcd.store import EtcdStore
from coldstore.metadata.sqlite.store import SqliteStore
from coldstore.model.errors import MetadataUnavailable

if TYPE_CHECKING:
    from coldstore.metadata.postgres.client import Address


def store_of(settings: Configuration, reactor: Any) -> IMetadataStore:
    """Return the store that the settings name, not opened yet."""
    if settings.metadata.backend == "postgresql":
        from coldstore.metadata.postgres.store import PostgresStore

        server = settings.metadata.postgresql
        return PostgresStore(
            address_of(server),
            reactor=reactor,
            connect_seconds=server.connect_timeout_seconds,
            answer_seconds=server.answer_timeout_seconds,
            readers=server.readers,
        )
    if settings.metadata.backend == "etcd":
        cluster = settings.metadata.etcd
        return EtcdStore(
            etcd_address_of(cluster),
            prefix=cluster.prefix,
            replica_path=settings.etcd_replica_path,
            reactor=reactor,
            request_seconds=cluster.request_timeout_seconds,
        )
    return SqliteStore(settings.sqlite_path, reactor=reactor)


def address_of(server: Postgresql) -> "Address":
    """Return where a database is."""
    from coldstore.metadata.postgres.client import Address

    return Address(
        host=server.host,
        port=server.port,
        database=server.database,
        user=server.user,
        password_path=server.password_file,
        tls=server.tls,
        authority_path=server.ca_file,
    )


def etcd_address_of(cluster: Etcd) -> EtcdAddress:
    """
    Return where an etcd is, and who we are.

    :raise MetadataUnavailable: a file with a password or a certificate cannot be read
    """
    certificate, key = _text_of(cluster.certificate_file), _text_of(cluster.key_file)
    return EtcdAddress(
        endpoints=cluster.endpoints,
        user=cluster.user or "",
        password=_text_of(cluster.password_file).rstrip("\r\n"),
        ca_pem=_text_of(cluster.ca_file),
        certificate_pem=f"{certificate}\n{key}" if certificate else "",
    )


def folder_of(settings: Configuration) -> Path | None:
    """Return the folder whose file system the record needs room on; None when a server keeps it, and all of it."""
    match settings.metadata.backend:
        case "sqlite":
            return Path(settings.sqlite_path).parent
        case "etcd":
            return Path(settings.etcd_replica_path).parent
    return None


def _text_of(path: str | None) -> str:
    try:
        return "" if path is None else Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MetadataUnavailable(f"{path} cannot be read: {error}") from error
