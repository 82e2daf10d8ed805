"""Many steps in one transaction, each undone alone when it fails."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from coldstore.metadata.postgres.client import Connection
from coldstore.metadata.postgres.database import Statements
from coldstore.metadata.sql.bounds import check_changes
from coldstore.metadata.sql.executor import Outcome, Step
from coldstore.model.errors import MetadataUnavailable

Run = Callable[[Statements, Sequence[Step[Any]]], Awaitable[list[Outcome] | None]]
"""
Runs steps in the transaction that a connection is in, as if one after the other; returns what each came to, in order. None when one
failed that had changed something: the transaction is to be undone, and the steps run anew.
"""


class Unsettled(Exception):
    """
    The connection ended while the transaction was committed: it may be, or may not.

    :ivar outcomes: what the steps came to if it is
    """

    def __init__(self, outcomes: list[Outcome], why: Exception) -> None:
        super().__init__(f"it is unknown whether this was committed: {why}")
        self.outcomes = outcomes


async def run_in_turn(db: Statements, steps: Sequence[Step[Any]]) -> list[Outcome] | None:
    """See ``Run``: one after the other. An error of what was held back is somebody's, and only the second run tells whose."""
    outcomes = []
    for step in steps:
        changed_before = db.changed
        outcome = await _outcome(db, step)
        if db.is_spoilt or (outcome.error is not None and db.changed > changed_before):
            return None
        outcomes.append(outcome)
    return outcomes


async def commit_together(
    connection: Connection, steps: Sequence[Step[Any]], *, stamp: bytes, run: Run = run_in_turn
) -> list[Outcome]:
    """
    Run the steps in one transaction and commit it; return what each came to, in order.

    A step that raises is undone alone. Most transactions need no savepoints for that, because most steps refuse before they
    change anything; those that do are run anew, each in a savepoint.

    :param steps: may be run twice
    :param stamp: a statement that belongs to each transaction; its failure is the transaction's
    :raise MetadataUnavailable: nothing was changed; the connection may have ended
    :raise Unsettled: the connection has ended, and nobody knows
    """
    for db, how in (
        (Statements(connection), run),
        (Statements(connection, is_careful=True), _each_in_a_savepoint),
    ):
        db.hold(b"BEGIN")
        outcomes = await how(db, steps)
        if connection.ended is not None:
            raise connection.ended
        if outcomes is None:
            await connection.run(b"ROLLBACK")
            continue
        if all(outcome.error is not None for outcome in outcomes):
            await connection.run(b"ROLLBACK")
            return outcomes
        db.hold(stamp)
        try:
            await connection.commit(db.taken())
        except Exception as error:
            if connection.ended is not None:
                raise Unsettled(outcomes, error) from error
            # The answer was no: nothing of it is there. What was held back is tried anew, where it shows whose it was.
            await connection.run(b"ROLLBACK")
            if db.is_careful and isinstance(error, MetadataUnavailable):
                raise
            if db.is_careful:
                raise MetadataUnavailable(f"nothing could be committed: {error}") from error
            continue
        return outcomes
    raise AssertionError("the second run has an outcome for each step")


async def _each_in_a_savepoint(db: Statements, steps: Sequence[Step[Any]]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for step in steps:
        db.hold(b"SAVEPOINT step")
        outcome = await _outcome(db, step)
        db.hold(b"RELEASE step" if outcome.error is None else b"ROLLBACK TO step;RELEASE step")
        outcomes.append(outcome)
        if db.connection.ended is not None:
            break
    return outcomes


async def _outcome(db: Statements, step: Step[Any]) -> Outcome:
    """Run a step; return what it came to."""
    changed_before = db.changed
    try:
        result = await step(db)
        check_changes(db.changed - changed_before)
    except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for this step, and reaches him
        return Outcome(error=error)
    return Outcome(result=result)
