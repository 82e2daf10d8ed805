"""
The schema of what is in etcd: the number of the last migration, in a key.

Migrations are those of the replica, of which a new one is made with the whole schema. What they add to rows has its default until a
row is written anew. So an upgrade writes a number; what a migration does to rows that there are is said here.
"""

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

from coldstore.interfaces.metadata import RecordElsewhere
from coldstore.metadata.etcd.changes import Change
from coldstore.metadata.etcd.gateway import Gateway, end_of
from coldstore.metadata.etcd.keys import Keys, value_of
from coldstore.metadata.sql.migrations import Migration
from coldstore.metadata.sql.tables import BY_NAME, TABLES, Table
from coldstore.metadata.sqlite.schema import migrate

ACCESS_KEYS = 9
"""The migration that gave access keys a table."""
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
    return await _access_keys_apart(gateway, keys) if since < ACCESS_KEYS else []


async def _access_keys_apart(gateway: Gateway, keys: Keys) -> list[Change]:
    """A user has had one key, in his own row."""
    beginning = keys.of_table(BY_NAME["users"])
    apart: list[Change] = []
    users: list[Change] = []
    start = beginning
    while True:
        page = await gateway.range(start, end_of(beginning), limit=PAGE_ROWS)
        for row in page.rows:
            try:
                user = json.loads(row.value)
                place = keys.table_of(row.key)
                assert place is not None, "it was asked for rows of users"
                (user_id,) = place[1]
                access_key, secret_key = user.pop("access_key", None), user.pop("secret_key", None)
                if access_key is not None:
                    key_row = (access_key, user_id, "", user["created_at"], None, None)
                    apart += [
                        Change(keys.of_row(table, (access_key,)), value_of(table, values))
                        for table, values in (
                            (BY_NAME["plain_secrets"], (access_key, secret_key)),
                            (BY_NAME["access_keys"], key_row),
                        )
                    ]
                    fields = json.dumps(user, ensure_ascii=False, separators=(",", ":"))
                    users.append(Change(row.key, fields.encode()))
            except (ValueError, KeyError, TypeError, AttributeError):
                raise RecordElsewhere(f"{row.key!r} in etcd is not what ColdStore wrote") from None
        if not page.is_more:
            return apart + users
        start = page.rows[-1].key + b"\0"


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
