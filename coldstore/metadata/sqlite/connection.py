"""Opening the database file, for the one writer and for readers."""

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from coldstore.metadata.sqlite.driver import Connection
from coldstore.model.errors import MetadataFull, MetadataUnavailable

_C = TypeVar("_C", bound=Connection)

IN_MEMORY = ":memory:"
_BUSY_TIMEOUT_SECONDS = 10.0
"""How long a step waits for another process (a backup, an operator's shell) that holds the file."""
STATEMENTS_KEPT = 512
"""The store has some 200 distinct statements. Python keeps 128 prepared, and preparing one takes longer than most of them run."""


def open_for_writing(path: str) -> Connection:
    """
    Open the database, which is made if it is missing, with mode 0600: it holds users' secrets.

    :raise sqlite3.Error: when the file cannot be opened or is no database
    :raise OSError: when the file cannot be made
    """
    return open_as(Connection, path)


def open_as(kind: type[_C], path: str) -> _C:
    """
    Open the database as a connection of some kind; see ``open_for_writing``.

    :raise sqlite3.Error: when the file cannot be opened or is no database
    :raise OSError: when the file cannot be made
    """
    if path != IN_MEMORY:
        # SQLite gives the -wal and -shm files the mode of the database, so this must come before its first open.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
    # The writer's thread and the reactor's use it in turn.
    connection = sqlite3.connect(
        path,
        factory=kind,
        timeout=_BUSY_TIMEOUT_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=STATEMENTS_KEPT,
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        # What undoes a single statement is a few pages, and would be a file made, written and removed for each transaction.
        connection.execute("PRAGMA temp_store = MEMORY")
        # What a run has erased that was killed before it could cut the log off is in there still. A full disk may prevent that now,
        # or somebody who reads: a backup may go on for hours.
        connection.execute("PRAGMA busy_timeout = 0")
        with suppress(sqlite3.OperationalError):
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_SECONDS * 1000:.0f}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def open_for_reading(path: str) -> Connection:
    """Open an existing database in a way that cannot change it."""
    uri = f"{Path(path).absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(
        uri,
        factory=Connection,
        uri=True,
        timeout=_BUSY_TIMEOUT_SECONDS,
        isolation_level=None,
        cached_statements=STATEMENTS_KEPT,
    )
    connection.execute("PRAGMA query_only = ON")
    return connection


def empty_log(path: str) -> bool:
    """
    Bring what is in the log of a file into it, and cut the log off; blocks. Return False when somebody who reads is in the way for
    too long: then the log goes on with what it has, until all who have the file open have closed it.

    :raise MetadataUnavailable: the file does not answer
    """
    connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_SECONDS, isolation_level=None)
    try:
        (is_busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error as error:
        raise MetadataUnavailable(f"{path}: {error}") from error
    finally:
        connection.close()
    return not is_busy


def is_damaged(error: BaseException | None) -> bool:
    """Whether SQLite has found, in what led to an exception, that the file is no database or a damaged one."""
    while error is not None:
        # The lowest byte tells the kind, the others tell more (SQLite, "Result and Error Codes").
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return True
        error = error.__cause__
    return False


def told_apart(error: Exception) -> Exception:
    """
    Return the fault that an exception of SQLite stands for; anything else is returned as it is.

    A broken promise of ours (bad SQL, a constraint, misuse) stays what it is, a bug; whatever the file or the disk
    did (locked, unreadable, malformed) is ``MetadataUnavailable``, or ``MetadataFull`` when it found no room.
    """
    if not isinstance(error, sqlite3.DatabaseError) or isinstance(
        error, sqlite3.IntegrityError | sqlite3.ProgrammingError
    ):
        return error
    code = getattr(error, "sqlite_errorcode", None)
    if code is None or code in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISUSE, sqlite3.SQLITE_RANGE):
        return error
    # A transaction that finds no room is rolled back, whichever of its statements needed some (SQLite, "Result codes").
    kind = MetadataFull if code == sqlite3.SQLITE_FULL else MetadataUnavailable
    fault = kind(f"the metadata file: {error}")
    fault.__cause__ = error
    return fault
