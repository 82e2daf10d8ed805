"""All rows of a store, whatever they mean: read page by page, taken in, removed."""

from collections.abc import Sequence
from typing import Any

from coldstore.metadata.portable.stores import Act, Standing
from coldstore.metadata.sql.database import Database, Row
from coldstore.metadata.sql.tables import ARRIVING_FROM, MOVED_TO, Table
from coldstore.metadata.sql.telling import audit

VALUES_MAX = 8_000
"""Arguments of one statement."""


async def standing(db: Database, *, schema: int, has_marks: bool = True) -> Standing:
    """
    Return what a store says of itself.

    :param schema: the number of its newest migration
    :param has_marks: whether that schema has marks; before there were any, every store held its record
    """
    marks = f"{ARRIVING_FROM}, {MOVED_TO}" if has_marks else "'', ''"
    (epoch,) = await db.row("SELECT coalesce(max(epoch), 0) FROM epochs")
    appliance_id, last_version, arriving_from, moved_to = await db.row(
        f"SELECT appliance_id, last_version, {marks} FROM store"
    )
    return Standing(
        schema=schema,
        appliance_id=appliance_id,
        last_version=last_version,
        epoch=epoch,
        arriving_from=arriving_from,
        moved_to=moved_to,
    )


async def page(db: Database, table: Table, after: Sequence[Any] | None, limit: int) -> list[Row]:
    """Return rows behind a key, in the order of their keys."""
    key = ", ".join(table.key)
    behind = "" if after is None else f" WHERE ({key}) > ({_marks(len(table.key))})"
    return await db.rows(
        f"SELECT {', '.join(table.column_names)} FROM {table.name}{behind} ORDER BY {key} LIMIT ?",
        (*(after or ()), limit),
    )


async def count(db: Database, table: Table) -> int:
    """Return how many rows a table has."""
    (found,) = await db.row(f"SELECT count(*) FROM {table.name}")
    return int(found)


async def last_key(db: Database, table: Table) -> tuple[Any, ...] | None:
    """Return the greatest key of a table."""
    backwards = ", ".join(f"{name} DESC" for name in table.key)
    found = await db.row(f"SELECT {', '.join(table.key)} FROM {table.name} ORDER BY {backwards} LIMIT 1")
    return None if found is None else tuple(found)


async def put(db: Database, table: Table, rows: Sequence[Sequence[Any]]) -> None:
    """Insert rows."""
    width = len(table.columns)
    portion = VALUES_MAX // width
    head = f"INSERT INTO {table.name} ({', '.join(table.column_names)}) VALUES "
    for start in range(0, len(rows), portion):
        some = rows[start : start + portion]
        await db.do(
            head + ",".join([f"({_marks(width)})"] * len(some)), [value for row in some for value in row]
        )


async def remove(db: Database, table: Table, limit: int) -> int:
    """Delete the last rows of a table."""
    key = ", ".join(table.key)
    backwards = ", ".join(f"{name} DESC" for name in table.key)
    return await db.change(
        f"DELETE FROM {table.name} WHERE ({key}) IN (SELECT {key} FROM {table.name} ORDER BY {backwards} LIMIT ?)",
        (limit,),
    )


async def mark(db: Database, *, arriving_from: str | None, moved_to: str | None) -> None:
    """Set the marks that are given."""
    await db.do(
        "UPDATE store SET arriving_from = coalesce(?, arriving_from), moved_to = coalesce(?, moved_to)",
        (arriving_from, moved_to),
    )


async def settle(db: Database, *, appliance_id: str, last_version: int, act: Act | None) -> None:
    """Make a store the one with the record, whose audit trail says how it came here."""
    if act is not None:
        await audit(db, at=act.at, who=act.who, what=act.what, subject=act.subject, detail=act.detail)
    await db.do(
        "UPDATE store SET appliance_id = ?, last_version = ?, arriving_from = '', moved_to = ''",
        (appliance_id, last_version),
    )


def _marks(count: int) -> str:
    return ",".join("?" * count)
