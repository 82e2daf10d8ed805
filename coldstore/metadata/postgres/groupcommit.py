"""Many steps in one transaction, each undone alone when it fails."""

from collections.abc import Callable, Sequence
from typing import Any

from coldstore.metadata.postgres.client import Connection
from coldstore.metadata.postgres.database import Statements
from coldstore.metadata.postgres.waves import Shuffle, Undone, run_in_waves
from coldstore.metadata.sql.bounds import check_changes
from coldstore.metadata.sql.executor import Outcome, Step
from coldstore.model.errors import MetadataFull, MetadataUnavailable


class Unsettled(Exception):
    """
    The connection ended while the transaction was committed: it may be, or may not.

    :ivar outcomes: what the steps came to if it is
    """

    def __init__(self, outcomes: list[Outcome], why: Exception) -> None:
        super().__init__(f"it is unknown whether this was committed: {why}")
        self.outcomes = outcomes


async def commit_together(
    connection: Connection,
    steps: Sequence[Step[Any]],
    *,
    stamp: Callable[[], bytes],
    number: Callable[[], int],
    shuffle: Shuffle | None = None,
) -> list[Outcome]:
    """
    Run the steps in one transaction and commit it; return what each came to, in order.

    A step that raises is undone alone. Most transactions need no savepoints for that, because most steps refuse before they
    change anything; those that do are run anew, in parts, until those at fault are alone.

    :param steps: may be run several times
    :param stamp: returns the statements that belong to the transaction; their failure is the transaction's
    :param number: gives versions their numbers
    :param shuffle: see ``run_in_waves``
    :raise MetadataUnavailable: nothing was changed; the connection may have ended
    :raise Unsettled: the connection has ended, and nobody knows
    """
    db = Statements(connection, number=number)
    try:
        db.hold_word(b"BEGIN")
        try:
            outcomes = await run_in_waves(db, steps, shuffle=shuffle)
            await _commit(db, outcomes, stamp())
        except Undone as undone:
            _check_usable(db, undone.error)
            await db.undo()
            db.hold_word(b"BEGIN")
            outcomes = await _in_parts(db, steps, undone.step)
            await _commit(db, outcomes, stamp())
    except Undone as undone:
        await db.undo()
        if isinstance(undone.error, MetadataUnavailable):
            raise undone.error from undone
        raise MetadataUnavailable(f"nothing could be committed: {undone.error}") from undone
    except MetadataUnavailable:
        if connection.ended is None:
            await db.undo()
        raise
    return outcomes


async def _commit(db: Statements, outcomes: list[Outcome], stamp: bytes) -> None:
    """
    Commit, if any of the steps succeeded.

    :raise Undone: the answer to COMMIT, or to what was held back until then, was no: nothing of it is there
    :raise Unsettled: there was no answer
    """
    if all(outcome.error is not None for outcome in outcomes):
        await db.undo()
        return
    db.hold_word(stamp)
    try:
        await db.connection.commit(db.taken())
    except Exception as error:
        if db.connection.ended is not None:
            raise Unsettled(outcomes, error) from error
        raise Undone(error, None) from error


async def _in_parts(db: Statements, steps: Sequence[Step[Any]], at: int | None) -> list[Outcome]:
    """
    Run steps of which one or more will fail; return what each came to.

    :param at: the number of one that is known to fail
    """
    if at is None:
        parts = [steps[: len(steps) // 2], steps[len(steps) // 2 :]]
    else:
        parts = [steps[:at], steps[at : at + 1], steps[at + 1 :]]
    outcomes: list[Outcome] = []
    for part in parts:
        if len(part) > 1:
            outcomes += await _part(db, part)
        elif part:
            outcomes.append(await _alone(db, part[0]))
    return outcomes


async def _part(db: Statements, steps: Sequence[Step[Any]]) -> list[Outcome]:
    """Run steps in a savepoint; if that fails, in parts of them."""
    db.hold_word(b"SAVEPOINT part")
    # So that what is held back below is what these steps have written, and can be forgotten.
    await db.flush()
    try:
        outcomes = await run_in_waves(db, steps)
        await db.flush()
    except Exception as error:  # noqa: BLE001 - the part in which it happens again tells whoever waits for it
        cause, at = (error.error, error.step) if isinstance(error, Undone) else (error, None)
        _check_usable(db, cause)
        db.taken()
        db.hold_word(b"ROLLBACK TO part;RELEASE part")
        return await _in_parts(db, steps, at)
    db.hold_word(b"RELEASE part")
    return outcomes


async def _alone(db: Statements, step: Step[Any]) -> Outcome:
    """Run a step in a savepoint, one statement after the other, so that each error shows where it belongs; return what it came to."""
    db.hold_word(b"SAVEPOINT step")
    changed_before = db.changed
    try:
        result = await step(db)
        check_changes(db.changed - changed_before)
    except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for this step, and reaches him
        _check_usable(db, error)
        db.hold_word(b"ROLLBACK TO step;RELEASE step")
        return Outcome(error=error)
    db.hold_word(b"RELEASE step")
    return Outcome(result=result)


def _check_usable(db: Statements, error: Exception) -> None:
    """Raise what is nobody's fault: to try again would come to the same."""
    if db.connection.ended is not None:
        raise db.connection.ended from error
    if isinstance(error, MetadataFull):
        raise error
