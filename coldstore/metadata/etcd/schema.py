"""
The schema of what is in etcd: the number of the last migration, in a key.

Migrations are those of the replica, of which a new one is made with the whole schema. What they add to rows has its default until a
row is written anew. So an upgrade writes a number; a migration that changes rows would have to say here how.
"""

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

from coldstore.interfaces.metadata import RecordElsewhere
from coldstore.metadata.etcd.changes import Change
from coldstore.metadata.etcd.gateway import Gateway
from coldstore.metadata.etcd.keys import Keys, value_of
from coldstore.metadata.sql.migrations import Migration
from coldstore.metadata.sql.tables import BY_NAME, TABLES, Table
from coldstore.metadata.sqlite.schema import migrate


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
