"""Many steps in one transaction, each in a savepoint of its own; many reads in one snapshot."""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from coldstore.metadata.sqlite.bounds import ChangedRows
from coldstore.metadata.sqlite.connection import told_apart
from coldstore.model.errors import MetadataUnavailable

Step = Callable[[sqlite3.Connection], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a step came to: ``error``, or when that is None ``result``."""

    result: Any = None
    error: Exception | None = None


def commit_together(connection: sqlite3.Connection, steps: Sequence[Step]) -> list[Outcome]:
    """
    Run the steps one after the other in one transaction and commit it; return what each came to, in order.

    A step that raises is rolled back alone. When nothing could be committed every step has failed.
    """
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.Error as error:
        return _all_failed(steps, error)
    outcomes = []
    for step in steps:
        outcomes.append(_in_savepoint(connection, step))
        if not connection.in_transaction:
            # A full disk, an I/O error or want of memory makes SQLite roll back everything at once.
            lost = MetadataUnavailable("the metadata file: the transaction was lost")
            return _all_failed(steps, outcomes[-1].error or lost)
    try:
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        return _all_failed(steps, error)
    return outcomes


def read_together(connection: sqlite3.Connection, steps: Sequence[Step]) -> list[Outcome]:
    """Run the reading steps on one snapshot, taken now; return what each came to, in order."""
    try:
        connection.execute("BEGIN")
    except sqlite3.Error as error:
        return _all_failed(steps, error)
    try:
        return [_alone(connection, step) for step in steps]
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _in_savepoint(connection: sqlite3.Connection, step: Step) -> Outcome:
    changed = ChangedRows(connection)
    connection.execute("SAVEPOINT step")
    try:
        result = step(connection)
        changed.check()
        connection.execute("RELEASE step")
    except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for this step, and reaches him
        if connection.in_transaction:
            connection.execute("ROLLBACK TO step")
            connection.execute("RELEASE step")
        return Outcome(error=told_apart(error))
    return Outcome(result=result)


def _alone(connection: sqlite3.Connection, step: Step) -> Outcome:
    try:
        return Outcome(result=step(connection))
    except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for this step, and reaches him
        return Outcome(error=told_apart(error))


def _all_failed(steps: Sequence[Step], error: Exception) -> list[Outcome]:
    fault = (
        error
        if isinstance(error, MetadataUnavailable)
        else MetadataUnavailable(f"the metadata file: {error}")
    )
    return [Outcome(error=fault) for _ in steps]
