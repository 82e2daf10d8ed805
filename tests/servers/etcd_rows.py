"""What etcd holds of a store, and what its replica does, to be compared."""

import json
import sqlite3
from base64 import b64decode, b64encode
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor as installed_reactor

from coldstore.metadata.etcd.gateway import Address
from coldstore.metadata.etcd.keys import Keys, row_of
from coldstore.metadata.etcd.store import EtcdStore
from coldstore.metadata.sql.tables import TABLES
from tests.servers.etcd import Etcd

PREFIX = "/coldstore"
KEYS = Keys(PREFIX)
reactor = cast(Any, installed_reactor)

Rows = dict[str, list[tuple[Any, ...]]]


def store_on(url: str | Sequence[str], replica: str | Path, **changes: Any) -> EtcdStore:
    """Return a store on an etcd, not opened yet. :param url: one, or those of several members"""
    settings: dict[str, Any] = {"prefix": PREFIX, "reactor": reactor, **changes}
    endpoints = [url] if isinstance(url, str) else url
    return EtcdStore(Address(endpoints=endpoints), replica_path=str(replica), **settings)


def all_keys(server: Etcd) -> dict[bytes, bytes]:
    """Return everything below the prefix."""
    found = server.call(
        "kv/range",
        {"key": b64encode(b"/coldstore/").decode(), "range_end": b64encode(b"/coldstore0").decode()},
    )
    return {b64decode(row["key"]): b64decode(row.get("value", "")) for row in found.get("kvs", [])}


def rows_in_etcd(server: Etcd) -> Rows:
    """Return the rows of every table, by primary key."""
    rows: Rows = {table.name: [] for table in TABLES}
    for key, value in all_keys(server).items():
        found = KEYS.table_of(key)
        if found is not None:
            table, place = found
            rows[table.name].append(row_of(table, place, value, {}))
    return rows


def rows_in_file(path: str | Path) -> Rows:
    """Return the rows of every table of a replica, by primary key."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return {
            table.name: connection.execute(
                f"SELECT {', '.join(table.column_names)} FROM {table.name} ORDER BY {', '.join(table.key)}"
            ).fetchall()
            for table in TABLES
        }


def numbers_in_file(path: str | Path) -> dict[str, int]:
    """Return the greatest number that each table of numbered rows ever had; an insertion of no row notes a 0, as good as nothing."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return dict(connection.execute("SELECT name, seq FROM sqlite_sequence WHERE seq > 0"))


def mark_of(path: str | Path) -> tuple[int, str]:
    """Return the revision and the batch of a replica."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        found = connection.execute("SELECT revision, batch FROM replica").fetchone()
        return int(found[0]), str(found[1])


def last_batch(server: Etcd) -> str:
    """Return the name of the last batch."""
    return str(json.loads(all_keys(server)[KEYS.batch])["batch"])


def copy_of(path: str | Path, target: str | Path) -> None:
    """Copy a replica while it is in use."""
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
