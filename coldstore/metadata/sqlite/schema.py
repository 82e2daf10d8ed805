"""The schema of a file: the migrations that it needs, all in one transaction."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files

from coldstore.metadata.sql.migrations import Migration, missing, read_migrations

_LEDGER = """
CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, checksum TEXT NOT NULL) STRICT
"""


def shipped_migrations() -> list[Migration]:
    """Return the migrations of the program by number."""
    return read_migrations(files("coldstore.metadata.sqlite").joinpath("migrations"), first=1)


def migrate(
    connection: sqlite3.Connection,
    migrations: Sequence[Migration],
    *,
    new_appliance_id: Callable[[], str],
    is_upgrade: bool = False,
) -> None:
    """
    Make the schema of a new store, or bring that of an older one up to the last of the migrations, in one transaction; give a
    new store its id.

    :param is_upgrade: whether somebody wants an older store to be changed
    :raise SchemaTooNew: when a migration was applied that is not among these; nothing was touched
    :raise SchemaTooOld: when it is an older store, and this no upgrade; nothing was touched
    :raise MigrationAltered: when one that was applied had another text; nothing was touched
    """
    # What a migration moves elsewhere is not to be read any more where it was.
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(_LEDGER)
        for migration in missing(applied(connection), migrations, is_upgrade=is_upgrade):
            _apply(connection, migration)
        if migrations:
            _name_store(connection, new_appliance_id)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    finally:
        connection.execute("PRAGMA secure_delete = OFF")


def applied(connection: sqlite3.Connection) -> dict[int, str]:
    """Return the ledger of a file, number to checksum; empty when it is new."""
    if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'migrations'").fetchone() is None:
        return {}
    return dict(connection.execute("SELECT number, checksum FROM migrations"))


def _apply(connection: sqlite3.Connection, migration: Migration) -> None:
    for statement in _statements(migration.statements):
        connection.execute(statement)
    connection.execute(
        "INSERT INTO migrations (number, checksum) VALUES (?, ?)", (migration.number, migration.checksum)
    )


def _name_store(connection: sqlite3.Connection, new_appliance_id: Callable[[], str]) -> None:
    if connection.execute("SELECT 1 FROM store").fetchone() is None:
        connection.execute("INSERT INTO store (singleton, appliance_id) VALUES (1, ?)", (new_appliance_id(),))


def _statements(text: str) -> Iterator[str]:
    """
    Yield the statements of a script, of which each begins on a line of its own.

    ``executescript`` would commit the transaction that must hold them all.
    """
    statement = ""
    for line in text.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        raise ValueError(f"a migration ends within a statement: {statement.strip()[:60]}")
