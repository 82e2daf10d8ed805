"""
The schema of what is in etcd: the number of the last migration, in a key.

Migrations are those of the replica, of which a new one is made with the whole schema. What they add to rows has its default until a
row is written anew. So an upgrade writes a number; what a migration does to rows that there are is said here.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

from coldstore.interfaces.metadata import RecordElsewhere
from coldstore.metadata.etcd.changes import Change
from coldstore.metadata.etcd.gateway import Gateway, end_of
from coldstore.metadata.etcd.keys import Keys, Row, value_of
from coldstore.metadata.sql.migrations import Migration
from coldstore.metadata.sql.tables import BY_NAME, TABLES, Table
from coldstore.metadata.sqlite.schema import migrate

ACCESS_KEYS = 9
"""The migration that gave access keys a table."""
QUOTAS = 13
"""The migration that had shares count what is kept, and restored."""
PAGE_ROWS = 500


async def ledger(gateway: Gateway, keys: Keys, migrations: Sequence[Migration]) -> dict[int, str]:
    """
    Return which migrations the rows in etcd have seen, as a ledger: number to checksum; empty when there is no store.

    :raise RecordElsewhere: the key is not ours
    """
    found = await gateway.range(keys.schema)
    if not found.rows:
        return {}
    try:
        number = int(json.loads(found.rows[0].value)["schema"])
    except (ValueError, KeyError, TypeError):
        raise RecordElsewhere(f"{keys.schema.decode()} in etcd is not what ColdStore wrote") from None
    # Of one that is newer than the program nothing else is known.
    return {number: "", **{one.number: one.checksum for one in migrations if one.number <= number}}


async def changed_rows(gateway: Gateway, keys: Keys, *, since: int) -> list[Change]:
    """
    Return what becomes of the rows by the migrations behind a number, in the order in which it may be written bit by bit: whoever
    begins anew comes to the same.

    :raise RecordElsewhere: a row is not what ColdStore wrote
    """
    changes: list[Change] = []
    if since < ACCESS_KEYS:
        changes += await _access_keys_apart(gateway, keys)
    if since < QUOTAS:
        changes += await _kept_counted(gateway, keys)
    return changes


async def _access_keys_apart(gateway: Gateway, keys: Keys) -> list[Change]:
    """A user has had one key, in his own row."""
    apart: list[Change] = []
    users: list[Change] = []

    def take(key: bytes, place: Row, user: dict[str, Any]) -> None:
        (user_id,) = place
        access_key, secret_key = user.pop("access_key", None), user.pop("secret_key", None)
        if access_key is not None:
            key_row = (access_key, user_id, "", user["created_at"], None, None)
            apart.extend(
                Change(keys.of_row(table, (access_key,)), value_of(table, values))
                for table, values in (
                    (BY_NAME["plain_secrets"], (access_key, secret_key)),
                    (BY_NAME["access_keys"], key_row),
                )
            )
            users.append(Change(key, _text(user)))

    await _take_all(gateway, keys, BY_NAME["users"], take)
    return apart + users


async def _kept_counted(gateway: Gateway, keys: Keys) -> list[Change]:
    """Shares count, as the statements of the migration do it, what they have of living versions."""
    kept: Counter[Row] = Counter()
    objects: Counter[Row] = Counter()
    restores: Counter[Row] = Counter()
    shares: list[Change] = []

    def count(_key: bytes, _place: Row, version: dict[str, Any]) -> None:
        if version.get("deleted_at") is None and not version.get("is_marker"):
            share = version["owner_id"], version["bucket_uid"], version["storage_class"]
            kept[share] += version.get("content_bytes", version["size_bytes"])
            objects[share] += 1
            if version.get("restore_phase") is not None:
                restores[share] += version["size_bytes"]

    def take(key: bytes, _place: Row, fields: dict[str, Any]) -> None:
        share = fields["owner_id"], fields["bucket_uid"], fields["storage_class"]
        counted = {
            "kept_bytes": kept[share],
            "object_count": objects[share],
            "restore_bytes": restores[share],
        }
        shares.append(Change(key, _text(fields | counted)))

    await _take_all(gateway, keys, BY_NAME["versions"], count)
    await _take_all(gateway, keys, BY_NAME["shares"], take)
    return shares


async def _take_all(
    gateway: Gateway, keys: Keys, table: Table, take: Callable[[bytes, Row, dict[str, Any]], None]
) -> None:
    """
    Have each row of a table taken: its key, its primary key, and its other columns, those left out that were null or not there yet.

    :raise RecordElsewhere: a row is not what ColdStore wrote
    """
    start = beginning = keys.of_table(table)
    while True:
        page = await gateway.range(start, end_of(beginning), limit=PAGE_ROWS)
        for row in page.rows:
            try:
                take(row.key, keys.place_in(table, row.key), json.loads(row.value))
            except (ValueError, KeyError, TypeError, AttributeError):
                raise RecordElsewhere(f"{row.key!r} in etcd is not what ColdStore wrote") from None
        if not page.is_more:
            return
        start = page.rows[-1].key + b"\0"


def _text(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


def schema_row(keys: Keys, migrations: Sequence[Migration]) -> Change:
    """Return what says that the rows are those of the newest migration."""
    number = max(migration.number for migration in migrations)
    return Change(keys.schema, json.dumps({"schema": number}).encode())


def first_rows(
    keys: Keys, migrations: Sequence[Migration], new_appliance_id: Callable[[], str]
) -> list[Change]:
    """Return what a new store consists of: the row of the store itself, and the number of its schema."""
    table = BY_NAME["store"]
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, migrations, new_appliance_id=new_appliance_id)
        row = connection.execute(f"SELECT {', '.join(table.column_names)} FROM store").fetchone()
    return [
        Change(keys.of_row(table, (row[table.key_places[0]],)), value_of(table, row)),
        schema_row(keys, migrations),
    ]


def defaults(migrations: Sequence[Migration]) -> Mapping[str, Mapping[str, Any]]:
    """Return the defaults of the columns of every table, by table and column."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, migrations, new_appliance_id=str)
        return {table.name: defaults_of(connection, table) for table in TABLES}


def defaults_of(connection: sqlite3.Connection, table: Table) -> dict[str, Any]:
    """Return the defaults of the columns of a table that a file has."""
    return {
        name: connection.execute(f"SELECT {default}").fetchone()[0]
        for _, name, _, _, default, _ in connection.execute(f"PRAGMA table_info({table.name})").fetchall()
        if default is not None
    }
