"""
Bringing rows into a store: from another store, or from a dump.

It can be broken off at any point, by an error or with the process, and begun again: it then goes on where it was. Until it is through,
the store is marked as one that no appliance opens.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from coldstore.metadata.portable.locked import protected_count
from coldstore.metadata.portable.stores import Act, Key, Portable, Row, Snapshot, Standing
from coldstore.metadata.sql.tables import TABLES, Table

PAGE_ROWS = 2_000
EMPTYING = " (what was here goes first)"
LOADED = tuple(table for table in TABLES if table.name != "store")
"""All but the row about the store itself, of which a part travels: see ``Portable.settle``."""


class TransferRefused(Exception):
    """The rows cannot go there; says why, and what helps. Nothing was changed."""


class RowsDiffer(Exception):
    """What arrived is not what was sent: the store stays marked, and the next transfer begins anew. Says which row."""


class Stage(Enum):
    """What is going on."""

    REMOVE = "removing what was there"
    LOAD = "copying"
    VERIFY = "comparing"


Tell = Callable[[Stage, int, int], object]
"""Is told how many rows are through in a stage, and of about how many."""


class Beginning(Enum):
    """How a transfer begins."""

    EMPTY = "the store is empty"
    REPLACE = "what is there is removed first"
    GO_ON = "an earlier one was broken off"


def beginning(there: Standing, *, origin: str, is_empty: bool, may_replace: bool) -> Beginning:
    """
    Decide how a transfer begins.

    :param there: what the store says of itself; ``is_empty`` whether it has no rows
    :param origin: where the rows come from, with what tells one state of it from any other
    :param may_replace: whether an operator wants what is there to go
    :raise TransferRefused: it may not begin
    """
    if there.arriving_from == origin:
        return Beginning.GO_ON
    if there.arriving_from == origin + EMPTYING or may_replace:
        return Beginning.EMPTY if is_empty else Beginning.REPLACE
    if there.arriving_from:
        raise TransferRefused(
            f"a part of something else is there already, from {there.arriving_from.removesuffix(EMPTYING)}, and this comes from "
            f"{origin}. Go on with that, or say --replace to remove it"
        )
    if is_empty:
        return Beginning.EMPTY
    if there.moved_to:
        raise TransferRefused(
            f"the rows that were moved from there to {there.moved_to} are still there. Say --replace to remove them"
        )
    raise TransferRefused(
        f"it is not empty: it holds the metadata of appliance {there.appliance_id}. Say --replace to remove them"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What a transfer came to: ``rows`` are all that were compared, ``copied`` those of them that this run has copied."""

    rows: int
    copied: int


async def transfer(
    source: Snapshot,
    target: Portable,
    *,
    origin: str,
    may_replace: bool,
    tell: Tell,
    before_settling: Callable[[], Awaitable[object]],
    now: float,
    act: Act | None = None,
    page_rows: int = PAGE_ROWS,
) -> Sums:
    """
    Bring all rows into a store, compare every one, and make it the one with the record.

    :param origin: see ``beginning``
    :param before_settling: is called when everything is there and before the store may be opened: marks where the rows come from
    :param now: the time of day: what is under lock then is not removed
    :param act: is in the audit trail of the store when it is through
    :param page_rows: the size of a batch; of tables whose rows may be heavy (``Table.rows_max``) it is less
    :raise TransferRefused: it may not begin; nothing was changed
    :raise RowsDiffer: what arrived is not what was sent
    :raise MetadataUnavailable, DumpDamaged, OSError: one of the two failed; the same call goes on with it
    """
    here, there = await source.standing(), await standing_of(target)
    how = beginning(there, origin=origin, is_empty=await is_empty(target), may_replace=may_replace)
    if how is Beginning.REPLACE:
        if not there.arriving_from and not there.moved_to:
            await _demand_unlocked(target, now)
        await target.mark(arriving_from=origin + EMPTYING)
        await _remove_all(target, tell, page_rows)
    if how is not Beginning.GO_ON:
        await target.mark(arriving_from=origin)
    copied = await _load(source, target, tell, page_rows)
    try:
        rows = await _verify(source, target, tell, page_rows)
    except RowsDiffer as difference:
        # Going on with these rows would only find it again.
        await target.mark(arriving_from=origin + EMPTYING)
        raise RowsDiffer(
            f"{difference}; the same command, given again, removes what arrived and begins anew"
        ) from None
    await before_settling()
    await target.settle(appliance_id=here.appliance_id, last_version=here.last_version, act=act)
    return Sums(rows=rows, copied=copied)


async def standing_of(store: Portable) -> Standing:
    """Return what a store says of itself."""
    snapshot = await store.snapshot()
    try:
        return await snapshot.standing()
    finally:
        await snapshot.close()


async def is_empty(store: Portable) -> bool:
    """Whether a store has no rows."""
    for table in LOADED:
        if await store.last_key(table) is not None:
            return False
    return True


async def _demand_unlocked(target: Portable, now: float) -> None:
    """
    See that nothing goes that is under lock. Of a store that does not hold the record nothing is: it is where that is.

    :raise TransferRefused: something would
    """
    snapshot = await target.snapshot()
    try:
        count = await protected_count(snapshot, now=now)
    finally:
        await snapshot.close()
    if count:
        raise TransferRefused(
            f"{count} object versions there are under object lock (retention or legal hold), and their record would go: name an empty "
            "store. What is there can be moved to another one, and stays until it is removed by hand"
        )


async def _remove_all(target: Portable, tell: Tell, page_rows: int) -> None:
    snapshot = await target.snapshot()
    expected = sum([await snapshot.count(table) for table in LOADED])
    await snapshot.close()
    done = 0
    for table in reversed(LOADED):
        while count := await target.remove(table, page_rows):
            done += count
            tell(Stage.REMOVE, done, expected)


async def _load(source: Snapshot, target: Portable, tell: Tell, page_rows: int) -> int:
    """Copy what is not there yet; return how many rows that was."""
    first, after = await _reached(target)
    counts = [await source.count(table) for table in LOADED]
    done, expected, copied = sum(counts[:first]), sum(counts), 0
    for table in LOADED[first:]:
        while page := await source.page(table, after, min(page_rows, table.rows_max)):
            await target.put(table, page)
            copied += len(page)
            done += len(page)
            tell(Stage.LOAD, done, expected)
            after = _key_of(table, page[-1])
        after = None
    return copied


async def _reached(target: Portable) -> tuple[int, Key | None]:
    """Return which table is the first that may lack rows, and behind which key."""
    for place in reversed(range(len(LOADED))):
        last = await target.reached(LOADED[place])
        if last is not None:
            return place, last
    return 0, None


async def _verify(source: Snapshot, target: Portable, tell: Tell, page_rows: int) -> int:
    """
    Compare all rows of both; return how many there are.

    :raise RowsDiffer: two are not the same, or one is missing
    """
    arrived = await target.snapshot()
    try:
        expected = sum([await source.count(table) for table in LOADED])
        done = 0
        for table in LOADED:
            after: Key | None = None
            together = min(page_rows, table.rows_max)
            while True:
                sent = target.as_kept(await source.page(table, after, together))
                got = await arrived.page(table, after, together)
                # Equal is not enough: 1, 1.0 and True are equal.
                if sent != got or [tuple(map(type, row)) for row in sent] != [
                    tuple(map(type, row)) for row in got
                ]:
                    raise RowsDiffer(_difference(table, sent, got))
                if not sent:
                    break
                done += len(sent)
                tell(Stage.VERIFY, done, expected)
                after = _key_of(table, sent[-1])
        return done
    finally:
        await arrived.close()


def _difference(table: Table, sent: list[Row], got: list[Row]) -> str:
    """Say which is the first row that differs; not what is in it, which may be a secret."""
    for one, other in zip(sent, got, strict=False):
        if repr(one) != repr(other):
            return f"{table.name}: the row {_key_of(table, one)!r} differs from what arrived as {_key_of(table, other)!r}"
    longer = max(sent, got, key=len)
    missing = _key_of(table, longer[min(len(sent), len(got))])
    return f"{table.name}: the row {missing!r} {'did not arrive' if longer is sent else 'came from nowhere'}"


def _key_of(table: Table, row: Row) -> Key:
    return tuple(row[place] for place in table.key_places)
