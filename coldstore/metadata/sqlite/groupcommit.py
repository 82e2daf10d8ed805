"""Many steps in one transaction, each rolled back alone when it fails; many reads in one snapshot."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from coldstore.interfaces.metadata import StepTooLarge
from coldstore.metadata.sql.bounds import check_changes
from coldstore.metadata.sql.executor import Outcome, Step
from coldstore.metadata.sqlite.connection import told_apart
from coldstore.metadata.sqlite.driver import Connection, finished
from coldstore.model.errors import MetadataUnavailable, TakenOver
from coldstore.model.hosts import taken_over_by


def commit_together(connection: Connection, steps: Sequence[Step[Any]]) -> list[Outcome]:
    """
    Run the steps one after the other in one transaction and commit it; return what each came to, in order.

    A step that raises is rolled back alone. When nothing could be committed every step has failed.

    :param steps: may be run twice, see ``run_together``
    """
    try:
        outcomes = run_together(connection, steps)
    except sqlite3.Error as error:
        return failed_together(steps, error)
    return commit(connection, outcomes)


def run_together(
    connection: Connection, steps: Sequence[Step[Any]], is_enough: Callable[[], bool] = lambda: False
) -> list[Outcome]:
    """
    Run steps in a new transaction; return what each came to, in order. ``commit`` must follow.

    A step that raises is rolled back alone. Most transactions need no savepoints for that, because most steps refuse before they
    change anything; those that do are run anew, each in a savepoint. A savepoint has SQLite copy every page before it is changed,
    which costs more than the change. Of steps that do not fit into one transaction the first ones are run that do.

    :param is_enough: is asked after each step whether the rest is to wait; the outcomes are fewer than the steps then
    :raise sqlite3.Error: no transaction can begin, or one that was to be rolled back still cannot be
    """
    outcomes = _run_some(connection, steps, is_enough)
    while connection.in_transaction and connection.is_too_heavy():
        if len(outcomes) == 1:
            return _gone(
                connection, steps[:1], StepTooLarge("a step changed more bytes than one transaction takes")
            )
        outcomes = _run_some(connection, steps[: len(outcomes) // 2], is_enough)
    return outcomes


def _run_some(
    connection: Connection, steps: Sequence[Step[Any]], is_enough: Callable[[], bool]
) -> list[Outcome]:
    if (taken := _begin(connection)) is not None:
        return _gone(connection, steps, taken)
    try:
        outcomes = _all_of_one(connection, steps, is_enough)
    except _Lost as lost:
        return _gone(connection, steps, lost)
    if outcomes is not None:
        return outcomes
    if (taken := _begin(connection)) is not None:
        return _gone(connection, steps, taken)
    try:
        return _each_in_a_savepoint(connection, steps, is_enough)
    except (sqlite3.Error, _Lost) as error:
        return _gone(connection, steps, error)


def commit(connection: Connection, outcomes: list[Outcome]) -> list[Outcome]:
    """Commit what ``run_together`` did, if any of it succeeded; return the outcomes, or as many failures."""
    if all(outcome.error is not None for outcome in outcomes):
        roll_back(connection)
        return outcomes
    try:
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        roll_back(connection)
        return failed_together(outcomes, error)
    return outcomes


def _begin(connection: Connection) -> TakenOver | None:
    """
    Begin a transaction that writes, after the end of one that was not to be.

    :return: why nothing may be written: a later run than the one that writes through this connection has begun
    """
    if connection.in_transaction:
        connection.execute("ROLLBACK")
    connection.begin()
    if connection.epoch is None:
        return None
    # Nobody else writes before this transaction has ended: what it finds here holds for all of it.
    newest = connection.execute(
        "SELECT epoch, host FROM epochs WHERE epoch > ? ORDER BY epoch DESC LIMIT 1", (connection.epoch,)
    ).fetchone()
    return None if newest is None else TakenOver(taken_over_by(*newest))


def _gone(connection: Connection, steps: Sequence[Step[Any]], error: Exception) -> list[Outcome]:
    """Give a transaction up: every step has failed."""
    roll_back(connection)
    return failed_together(steps, error.error if isinstance(error, _Lost) else error)


def roll_back(connection: Connection) -> None:
    """End a transaction without a trace. One that a disk with errors does not let end is ended before the next one begins."""
    with suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")


class _Lost(Exception):
    """A full disk, an I/O error or want of memory made SQLite roll back everything at once."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__("the transaction was lost")
        self.error = outcome.error or self


class _NoRoom(StepTooLarge):
    """A step does not fit into the transaction: it waits for the next one, unless it is the first."""


def _all_of_one(
    connection: Connection, steps: Sequence[Step[Any]], is_enough: Callable[[], bool]
) -> list[Outcome] | None:
    """Run steps without savepoints; None when one is to be undone that had changed something already."""
    outcomes = []
    changes = connection.row_changes
    for step in steps:
        changes_before = changes
        try:
            outcome = Outcome(result=finished(step(connection)))
            changes = connection.row_changes
            check_changes(changes - changes_before)
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for this step, and reaches him
            outcome = Outcome(error=told_apart(error))
        if not connection.in_transaction:
            raise _Lost(outcome)
        if outcome.error is not None:
            if connection.row_changes > changes_before:
                return None
        elif not connection.takes_step():
            return None
        outcomes.append(outcome)
        if is_enough() or connection.is_full():
            break
    return outcomes


def _each_in_a_savepoint(
    connection: Connection, steps: Sequence[Step[Any]], is_enough: Callable[[], bool]
) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for step in steps:
        outcome = _in_savepoint(connection, step)
        if isinstance(outcome.error, _NoRoom) and outcomes:
            break
        outcomes.append(outcome)
        if not connection.in_transaction:
            raise _Lost(outcomes[-1])
        if is_enough() or connection.is_full():
            break
    return outcomes


def read_together(connection: Connection, steps: Sequence[Step[Any]]) -> list[Outcome]:
    """Run the reading steps on one snapshot, taken now; return what each came to, in order."""
    try:
        connection.execute("BEGIN")
    except sqlite3.Error as error:
        return failed_together(steps, error)
    try:
        return [outcome_of(connection, step) for step in steps]
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _in_savepoint(connection: Connection, step: Step[Any]) -> Outcome:
    changes_before = connection.row_changes
    connection.execute("SAVEPOINT step")
    try:
        result = finished(step(connection))
        check_changes(connection.row_changes - changes_before)
        if not connection.takes_step():
            raise _NoRoom("a step changed more rows than one transaction takes")
        connection.execute("RELEASE step")
    except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for this step, and reaches him
        if connection.in_transaction:
            connection.execute("ROLLBACK TO step")
            connection.execute("RELEASE step")
        return Outcome(error=told_apart(error))
    return Outcome(result=result)


def outcome_of(connection: Connection, step: Step[Any]) -> Outcome:
    """Run a step in whatever transaction there is; return what it came to."""
    try:
        return Outcome(result=finished(step(connection)))
    except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for this step, and reaches him
        return Outcome(error=told_apart(error))


def failed_together(each: Sequence[object], error: Exception) -> list[Outcome]:
    """Return that all have failed, because the database did."""
    told = told_apart(error)
    fault = (
        told
        if isinstance(told, MetadataUnavailable | StepTooLarge)
        else MetadataUnavailable(f"the metadata file: {error}")
    )
    return [Outcome(error=fault) for _ in each]
