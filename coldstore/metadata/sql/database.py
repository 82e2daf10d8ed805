"""
What a step asks of a database.

A step is a coroutine of a ``Database`` and waits for nothing else. So it is written once for all databases of SQL: one whose
answers are there at once runs it from its beginning to its end in one go, one behind a network in between whatever else there is
to do.

The statements are those that every database understands (``?`` stands for an argument); where they differ, ``Dialect`` says it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Row = tuple[Any, ...]


class Duplicate(Exception):
    """
    There is a row with this key already.

    The transaction may be beyond use now: a step that catches it raises something else, and asks nothing more.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """
    Words for what databases of SQL have no common word for.

    :ivar greatest: the function that returns the greatest of its arguments, none of which is NULL; ``least`` likewise
    :ivar nested_join: joins for each row on its left the rows on its right, if the database leaves the order to the statement
    :ivar index_hint: follows the name of a table to have it read by an index, ``{}``; empty if the database decides that alone
    :ivar bytes_type: what keys are
    :ivar overwriting: has rows that are deleted overwritten in the file from now on, ``ON``, or not, ``OFF``, for ``{}``; empty if the
        database cannot be told
    :ivar bytes_position: the number, from 1, of the byte of ``{whole}`` at which ``{part}`` begins; 0 when that is nowhere
    """

    greatest: str
    least: str
    nested_join: str
    index_hint: str
    bytes_type: str
    bytes_position: str
    overwriting: str

    def by_index(self, name: str) -> str:
        """Return what follows the name of a table that is to be read by this index."""
        return self.index_hint.format(name)


class Database(Protocol):
    """
    The statements of one transaction. Each may raise what stands for a database that cannot be used; the step does not catch it.

    What ``do``, ``insert`` and ``add`` come to may show only at the next question, or at the commit.
    """

    @property
    def dialect(self) -> Dialect:
        """Its words."""

    async def rows(self, statement: str, arguments: Sequence[object] = ()) -> list[Row]:
        """Return all rows that a statement finds, or (``RETURNING``) has changed."""

    async def row(self, statement: str, arguments: Sequence[object] = ()) -> Any:
        """Return the first row that a statement finds, or (``RETURNING``) the one that it has changed; None when there is none."""

    async def rows_of_each(self, statement: str, each: Sequence[Sequence[object]]) -> list[list[Row]]:
        """Ask one question with many arguments; return all rows that it finds with each, in their order."""

    async def change(self, statement: str, arguments: Sequence[object] = ()) -> int:
        """
        Return how many rows a statement has changed.

        :raise Duplicate: it would have given two rows one key
        """

    async def do(self, statement: str, arguments: Sequence[object] = ()) -> None:
        """Carry out a statement that cannot fail and whose rows nobody asks for."""

    async def insert(self, table: str, columns: str, row: Sequence[object]) -> None:
        """
        Insert a row.

        :param columns: their names, separated by commas
        :raise Duplicate: there is one with its key
        """

    async def add(self, table: str, key: str, sums: str, row: Sequence[object]) -> None:
        """
        Add to sums, beginning with 0.

        :param key: the columns of the table's key; ``sums`` those that grow; ``row`` has the key, then the amounts
        """

    async def number(self) -> int:
        """Return the next number of versions and publications, greater than every one before."""
