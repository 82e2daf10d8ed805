"""A dump of an older schema becomes one of the newest: through a file of SQLite, which knows all schemas there ever were."""

import sqlite3

from coldstore.metadata.portable.dumped import CheckedDump, DumpSnapshot
from coldstore.metadata.portable.lines import DumpDamaged
from coldstore.metadata.sql import whole
from coldstore.metadata.sqlite.connection import open_for_writing
from coldstore.metadata.sqlite.driver import Connection, finished
from coldstore.metadata.sqlite.portable import SqliteSnapshot, tables_of
from coldstore.metadata.sqlite.schema import migrate, shipped_migrations

PAGE_ROWS = 2_000


def load_older(checked: CheckedDump, path: str) -> SqliteSnapshot:
    """
    Load a dump into a new file, upgrade that, and return its rows.

    :param path: of the file, which is as secret as the dump
    :raise DumpDamaged: it does not have the tables of its schema, or rows that cannot be
    :raise OSError: the file cannot be made
    """
    migrations = shipped_migrations()
    connection: Connection = open_for_writing(path)
    try:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA foreign_keys = OFF")
        migrate(
            connection, migrations[: checked.header.standing.schema], new_appliance_id=lambda: "not said yet"
        )
        tables = tables_of(connection)
        shape = sorted((table.name, table.columns, table.key) for table in checked.header.tables)
        if shape != sorted((table.name, table.columns, table.key) for table in tables):
            raise DumpDamaged(f"{checked.path}: it does not have the tables of its schema")
        connection.execute("BEGIN")
        connection.execute("DELETE FROM store")
        dump = DumpSnapshot(checked)
        rows_max = {table.name: min(PAGE_ROWS, table.rows_max) for table in tables}
        for table in checked.header.tables:
            after = None
            while page := finished(dump.page(table, after, rows_max[table.name])):
                finished(whole.put(connection, table, page))
                after = tuple(page[-1][place] for place in table.key_places)
        connection.execute("COMMIT")
        migrate(connection, migrations, new_appliance_id=lambda: "not said yet", is_upgrade=True)
    except sqlite3.IntegrityError as error:
        raise DumpDamaged(f"{checked.path}: it has rows that cannot be: {error}") from None
    finally:
        connection.close()
    return SqliteSnapshot(path)
