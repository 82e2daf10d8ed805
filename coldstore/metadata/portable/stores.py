"""What a database offers so that all of its rows can be read, and others taken in."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from coldstore.metadata.sql.tables import Table

Row = tuple[Any, ...]
Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """
    What a store says of itself.

    :ivar schema: the number of its newest migration
    :ivar epoch: the latest run of an appliance on it; 0 when there was none
    :ivar arriving_from: see ``tables.ARRIVING_FROM``, empty when the rows are whole; ``moved_to`` likewise
    """

    schema: int
    appliance_id: str
    last_version: int
    epoch: int
    arriving_from: str
    moved_to: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What somebody did to all of the metadata: becomes an event of the audit trail."""

    at: float
    who: str
    what: str
    subject: str
    detail: str


class Snapshot(Protocol):
    """All rows as they were at one moment, whatever is written meanwhile."""

    @property
    def tables(self) -> Sequence[Table]:
        """The tables it has, in an order of loading: ``tables.TABLES`` unless the schema is an older one."""

    async def standing(self) -> Standing:
        """Return what the store says of itself."""

    async def page(self, table: Table, after: Key | None, limit: int) -> list[Row]:
        """
        Return rows in the order of their keys.

        Values are int, float, str, bytes or None, and nothing else.

        :param after: only rows behind this key; None for all
        :param limit: at most so many; fewer only at the end of the table
        """

    async def count(self, table: Table) -> int:
        """Return the number of rows of a table, or what is about that: it is for showing how far something has come."""

    async def close(self) -> None:
        """Let go of it."""


class Portable(Protocol):
    """
    A store of the newest schema that nobody else writes.

    :ivar name: what it is called, such as ``sqlite:/var/lib/coldstore/metadata.sqlite``; holds no secret
    """

    name: str

    async def snapshot(self) -> Snapshot:
        """Return all rows as they are now."""

    def as_kept(self, rows: Sequence[Row]) -> list[Row]:
        """Return what rows are once they are here: themselves, but for what this database cannot hold."""

    async def mark(self, *, arriving_from: str | None = None, moved_to: str | None = None) -> None:
        """Set marks, durably; None leaves one as it is."""

    async def last_key(self, table: Table) -> Key | None:
        """Return the greatest key of a table; None when it has no rows."""

    async def reached(self, table: Table) -> Key | None:
        """
        Return a key up to which all rows that were put are there.

        The greatest, where rows are put one by one or in one step. None when there is none, as in a table that has no rows.
        """

    async def put(self, table: Table, rows: Sequence[Row]) -> None:
        """
        Take in rows, in the order of their keys. Those up to ``reached`` are all there when it fails; others may be, and are given again.

        They are durable once a mark is, or ``settle`` was called.
        """

    async def remove(self, table: Table, limit: int) -> int:
        """Remove some rows, at most ``limit``; return how many, 0 when there is none."""

    async def settle(self, *, appliance_id: str, last_version: int, act: Act | None) -> None:
        """
        Make this store the one with the record: give it the id and the latest number, take both marks off, and add an act to
        its audit trail, in one step, durably.

        From here on it numbers new rows behind those that were taken in.
        """

    async def close(self) -> None:
        """Let go of it."""
