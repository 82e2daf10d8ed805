"""The schema as numbered migrations, each applied once, in a transaction, and never changed afterwards."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable

from coldstore.interfaces.metadata import SchemaTooNew

_LEDGER = """
CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, checksum TEXT NOT NULL) STRICT
"""


class MigrationAltered(Exception):
    """A migration that this file has applied reads differently in the program: the schema cannot be trusted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One change of the schema: SQL statements; ``checksum`` is the SHA-256 of its text in hex."""

    number: int
    statements: str

    @property
    def checksum(self) -> str:
        """The SHA-256 of the text in hex."""
        return sha256(self.statements.encode()).hexdigest()


def shipped_migrations(folder: Traversable | None = None) -> list[Migration]:
    """
    Return the migrations of a folder (None: those of the program) by number, ``0001.sql`` being the first.

    :raise ValueError: when the numbers do not run from 1 without a gap
    """
    folder = files("coldstore.metadata.sqlite").joinpath("migrations") if folder is None else folder
    named = sorted((entry.name, entry) for entry in folder.iterdir() if entry.name.endswith(".sql"))
    found = [Migration(number=int(name[:-4]), statements=entry.read_text("utf-8")) for name, entry in named]
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise ValueError(
            f"the migrations are not numbered from 1 without a gap: {[name for name, _ in named]}"
        )
    return found


def migrate(
    connection: sqlite3.Connection, migrations: Sequence[Migration], *, new_appliance_id: Callable[[], str]
) -> None:
    """
    Bring the schema up to the last of the migrations, in one transaction; give a new store its id.

    :raise SchemaTooNew: when a migration was applied that is not among these; nothing was touched
    :raise MigrationAltered: when one that was applied had another text; nothing was touched
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(_LEDGER)
        applied = dict(connection.execute("SELECT number, checksum FROM migrations"))
        if applied and max(applied) > len(migrations):
            raise SchemaTooNew(
                f"schema {max(applied)} was written by a newer program; this one knows {len(migrations)}"
            )
        for migration in migrations:
            if migration.number not in applied:
                _apply(connection, migration)
            elif applied[migration.number] != migration.checksum:
                raise MigrationAltered(
                    f"migration {migration.number:04} is not the one that this file was made with"
                )
        if migrations:
            _name_store(connection, new_appliance_id)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


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
