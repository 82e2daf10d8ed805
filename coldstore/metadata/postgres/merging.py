"""
Many statements of one form with different arguments, as one text: the server parses and plans it once, for one round trip.

A question becomes one about a list of arguments, a row to insert one of many, an amount to add a part of a greater one. Pure: it
says what is to be sent, and whose each row of the answer is.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from coldstore.metadata.postgres.dialect import translated
from coldstore.metadata.sql.database import Row
from coldstore.metadata.sql.writing import growing

Arguments = Sequence[object]
_T = TypeVar("_T")

TEXT_BYTES_MAX = 256 * 1024
"""About how much may be sent at once: composing it keeps the reactor, and the server's answer waits for all of it."""
ROWS_MAX = 256
"""Rows of one statement."""
QUESTIONS_MAX = 64
"""Questions of one statement: all who asked go on when it is answered, and keep the reactor."""
_KINDS = {int: "bigint", float: "double precision", str: "text", bytes: "bytea", type(None): ""}
_INSERT = "INSERT"
_DO = "DO"


class Text(NamedTuple):
    """
    Statements with ``;`` between them.

    :ivar statement: ``%s`` stands for an argument
    """

    statement: str
    arguments: Arguments


class Asked(NamedTuple):
    """One of many questions: who asks, and with what; ``asker`` comes back with the answer."""

    asker: Any
    statement: str
    arguments: Arguments


class Question(NamedTuple):
    """
    A text whose last statement answers some questions.

    :ivar of: the questions, by the number that each row of the answer begins with; one alone is answered by its own rows
    """

    text: Text
    of: list[Asked]

    def answers(self, rows: Sequence[Row]) -> list[list[Row]]:
        """Return the rows of each question."""
        if len(self.of) == 1:
            return [list(rows)]
        found: list[list[Row]] = [[] for _ in self.of]
        for row in rows:
            found[row[0]].append(row[1:])
        return found


def is_question(statement: str) -> bool:
    """Whether a statement changes nothing, so that it can be a part of another one."""
    return statement.lstrip().startswith("SELECT")


def questions(asked: Iterable[Asked]) -> Iterator[Question]:
    """Part questions into texts, in the order in which each form was asked first; what changes something stays alone."""
    groups: dict[object, list[Asked]] = {}
    for number, one in enumerate(asked):
        form = (one.statement, kinds_of(one.arguments)) if is_question(one.statement) else number
        groups.setdefault(form, []).append(one)
    for of in groups.values():
        for part in parted(of, [one.arguments for one in of], count_max=QUESTIONS_MAX):
            yield Question(_question_of_each(part), part)


def kinds_of(arguments: Arguments) -> tuple[str, ...]:
    """Return the types of arguments as PostgreSQL calls them; empty for NULL, which is of whatever type is wanted."""
    return tuple([_kind(argument) for argument in arguments])


def parted(
    each: Sequence[_T], arguments: Iterable[Arguments], *, count_max: int = ROWS_MAX
) -> Iterator[list[_T]]:
    """
    Part things into runs that may be sent at once; one alone may be too much.

    :param arguments: of each of them
    """
    part: list[_T] = []
    weight = 0
    for thing, its in zip(each, arguments, strict=True):
        its_weight = sum([len(one) for one in its if isinstance(one, str | bytes)], 8 * len(its))
        if part and (len(part) >= count_max or weight + its_weight > TEXT_BYTES_MAX):
            yield part
            part, weight = [], 0
        part.append(thing)
        weight += its_weight
    if part:
        yield part


class Writes:
    """
    What steps that touch nothing in common have written and nobody has sent: their order counts for each step only.

    Sums are added up. They are sent last: no other row depends on them.
    """

    def __init__(self) -> None:
        self._groups: list[_Group] = []
        self._at: dict[object, int] = {}
        self._sums: dict[tuple[str, str, str], dict[Row, list[int]]] = {}

    def __bool__(self) -> bool:
        return bool(self._groups or self._sums)

    def insert(self, writer: object, table: str, columns: str, row: Arguments) -> None:
        """Insert a row."""
        self._place(writer, _INSERT, f"INSERT INTO {table} ({columns}) VALUES ", row)

    def do(self, writer: object, statement: str, arguments: Arguments) -> None:
        """Carry out a statement."""
        self._place(writer, _DO, statement, arguments)

    def add(self, table: str, key: str, sums: str, row: Arguments) -> None:
        """Add to sums; see ``Database.add``."""
        width = key.count(",") + 1
        by_key = self._sums.setdefault((table, key, sums), {})
        there = by_key.setdefault(tuple(row[:width]), [0] * (len(row) - width))
        for at, amount in enumerate(row[width:]):
            assert isinstance(amount, int), (sums, row)
            there[at] += amount

    def taken(self) -> list[Text]:
        """Return what is to be sent, in order; it is the caller's from now on."""
        texts = [text for group in self._groups for text in group.texts()]
        for (table, key, sums), by_key in self._sums.items():
            rows = [(*its, *amounts) for its, amounts in by_key.items()]
            texts += [
                _rows((f"INSERT INTO {table} ({key}, {sums}) VALUES ", growing(table, key, sums)), part)
                for part in parted(rows, rows)
            ]
        self._groups, self._at, self._sums = [], {}, {}
        return texts

    def _place(self, writer: object, kind: str, head: str, row: Arguments) -> None:
        """Put a row with its like, behind whatever its writer wrote before."""
        groups = self._groups
        for at in range(self._at.get(writer, 0), len(groups)):
            if groups[at].head == head:
                break
        else:
            at = len(groups)
            groups.append(_Group(kind, head))
        groups[at].rows.append(row)
        self._at[writer] = at


class _Group:
    """Rows for one table, or one statement with many arguments."""

    __slots__ = ("head", "kind", "rows")

    def __init__(self, kind: str, head: str) -> None:
        self.kind = kind
        self.head = head
        self.rows: list[Arguments] = []

    def texts(self) -> Iterator[Text]:
        """What is to be sent."""
        for part in parted(self.rows, self.rows):
            if self.kind is _INSERT:
                yield _rows((self.head, ""), part)
            else:
                statement = translated(self.head)
                yield Text(";".join([statement] * len(part)), [each for row in part for each in row])


def _rows(around: tuple[str, str], rows: Sequence[Arguments]) -> Text:
    """Return a statement with a list of rows between two texts."""
    before, after = around
    marks = f"({','.join(['%s'] * len(rows[0]))})"
    return Text(f"{before}{','.join([marks] * len(rows))}{after}", [each for row in rows for each in row])


def _question_of_each(asked: Sequence[Asked]) -> Text:
    """
    Return a question about a list of arguments; each row of the answer begins with the number of the question. One alone stays as it is.

    There is no order to ask for: the question is asked anew for each row of the list, from the first to the last, because it refers to
    it, and says itself in which order its rows come.
    """
    statement, kinds = asked[0].statement, kinds_of(asked[0].arguments)
    if len(asked) == 1:
        return Text(translated(statement), asked[0].arguments)
    before, first, other, after = _forms(statement, kinds)
    arguments: list[object] = []
    for number, one in enumerate(asked):
        arguments.append(number)
        arguments += [argument for argument in one.arguments if argument is not None]
    return Text(f"{before}{','.join([first, *[other] * (len(asked) - 1)])}{after}", arguments)


@lru_cache(maxsize=512)
def _forms(statement: str, kinds: tuple[str, ...]) -> tuple[str, str, str, str]:
    """
    Return what is in front of the list of arguments, the form of its first row and of every other, and what follows.

    The first row says of which type each column is. NULL is no column, but in the question itself: there it is of the type that is
    wanted, in a column it would be text.
    """
    parts = statement.split("?")
    assert len(parts) == len(kinds) + 1, statement
    names = ["n"]
    marks = ["%s::int"]
    asked = parts[0]
    for part, kind in zip(parts[1:], kinds, strict=True):
        if kind:
            names.append(f"a{len(names)}")
            marks.append(f"%s::{kind}")
            asked += f"asked.{names[-1]}{part}"
        else:
            asked += f"NULL{part}"
    return (
        "SELECT asked.n, found.* FROM (VALUES ",
        f"({','.join(marks)})",
        f"({','.join(['%s'] * len(marks))})",
        f") AS asked ({', '.join(names)}) CROSS JOIN LATERAL ({asked}) AS found",
    )


def _kind(argument: object) -> str:
    known = _KINDS.get(type(argument))
    if known is not None:
        return known
    for kind, name in _KINDS.items():
        # An enumeration of texts, say.
        if isinstance(argument, kind):
            return name
    raise TypeError(f"a statement cannot be asked with {argument!r}")
