"""The schema of a database: the migrations that it needs, all in one transaction."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.resources import files

from coldstore.metadata.postgres.client import Connection
from coldstore.metadata.sql.migrations import Migration, missing, read_migrations
from coldstore.model.errors import MetadataUnavailable

_ENCODINGS = ("UTF8", "SQL_ASCII")
"""Those that hold every text: the other of these two looks at nothing."""
FIRST = 5
"""The migration that makes the whole schema: those before it were SQLite's alone."""
_LEDGER = (
    'CREATE TABLE IF NOT EXISTS migrations (number bigint PRIMARY KEY, checksum text COLLATE "C" NOT NULL)'
)


def shipped_migrations() -> list[Migration]:
    """Return the migrations of the program by number."""
    return read_migrations(files("coldstore.metadata.postgres").joinpath("migrations"), first=FIRST)


async def applied(connection: Connection) -> dict[int, str]:
    """Return the ledger of a database, number to checksum; empty when it is new."""
    ((is_there,),) = (await connection.run("SELECT to_regclass('migrations') IS NOT NULL")).rows
    return dict((await connection.run("SELECT number, checksum FROM migrations")).rows) if is_there else {}


async def migrate(
    connection: Connection,
    migrations: Sequence[Migration],
    *,
    new_appliance_id: Callable[[], str],
    is_upgrade: bool,
) -> list[int]:
    """
    Bring the schema up to the last of the migrations, in one transaction; give a new store its id. Return what was applied.

    Whoever calls it holds the fence.

    :param is_upgrade: whether a store that has a schema already is to be changed
    :raise SchemaTooNew, SchemaTooOld, MigrationAltered: nothing was touched
    :raise MetadataUnavailable: as ``Connection.run`` and ``commit``; or it could not hold every text
    """
    needed = missing(await applied(connection), migrations, is_upgrade=is_upgrade)
    if not needed:
        return []
    ((encoding,),) = (await connection.run("SHOW server_encoding")).rows
    if encoding not in _ENCODINGS:
        raise MetadataUnavailable(
            f"{connection.address}: the encoding of the database is {encoding}, and must be UTF8"
        )
    await connection.run("BEGIN")
    try:
        await connection.run(_LEDGER)
        for migration in needed:
            await connection.run(migration.statements)
            await connection.run(
                "INSERT INTO migrations (number, checksum) VALUES (%s, %s)",
                (migration.number, migration.checksum),
            )
        await connection.run(
            "INSERT INTO store (singleton, appliance_id) VALUES (1, %s) ON CONFLICT (singleton) DO NOTHING",
            (new_appliance_id(),),
        )
        await connection.commit()
    except BaseException:
        with suppress(MetadataUnavailable):
            await connection.run("ROLLBACK")
        raise
    return [migration.number for migration in needed]
