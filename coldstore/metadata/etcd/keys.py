r"""
How rows lie in etcd.

Under ``<prefix>/`` there are, for an appliance of its own:

- ``<prefix>/schema``: ``{"schema": 7}``, the number of the last migration;
- ``<prefix>/writer``: who writes, held by his lease;
- ``<prefix>/batch``: ``{"batch": "<name>"}``, the batch that was written last;
- ``<prefix>/reading/<name>``: somebody reads everything as it was when this key was put, held by his lease;
- ``<prefix>/numbers/<table>``: ``7``, the greatest number that rows of the table ever had, when that row is gone;
- ``<prefix>/<table>/<primary key>``: a row, as a JSON object of its columns; those of the primary key are in the key, those that are
  null are left out, and bytes are base64.

The columns of a primary key are parted by the bytes 00 2f (NUL and slash). A text is its UTF-8 and bytes are as they are, but 00 becomes
00 ff. A number is ``1`` and a hexadecimal digit, ``2`` and two of them, up to ``g`` and 16; a negative one begins with ``-``, and the
order of what follows is turned round. So keys in the order of their bytes are rows in the order of their primary keys.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from coldstore.metadata.sql.tables import TABLES, Kind, Table

Row = tuple[Any, ...]

_LENGTHS = "0123456789abcdefg"
_PART, _NUL = b"\0/", b"\0\xff"


class NotARow(ValueError):
    """A key or a value under the prefix is not one that ColdStore wrote; says which."""


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Keys:
    """The keys under a prefix."""

    def __init__(self, prefix: str, tables: Iterable[Table] = TABLES) -> None:
        """
        :param prefix: begins with a slash and does not end with one
        :param tables: whose rows there are
        """
        self.all = prefix.encode() + b"/"
        self.schema = self.all + b"schema"
        self.writer = self.all + b"writer"
        self.batch = self.all + b"batch"
        self.reading = self.all + b"reading/"
        self.numbers = self.all + b"numbers/"
        self._tables = {table.name: table for table in tables}
        self._beginnings = {name: self.all + name.encode() + b"/" for name in self._tables}
        self._kinds = {
            table.name: tuple(table.columns[place].kind for place in table.key_places)
            for table in self._tables.values()
        }

    def of_row(self, table: Table, key: Sequence[Any]) -> bytes:
        """Return the key of the row with a primary key."""
        kinds = self._kinds[table.name]
        return self._beginnings[table.name] + _PART.join(map(_encoded, kinds, key))

    def of_table(self, table: Table) -> bytes:
        """Return how the keys of all rows of a table begin."""
        return self._beginnings[table.name]

    def of_number(self, table: Table) -> bytes:
        """Return the key of the greatest number that rows of a table ever had."""
        return self.numbers + table.name.encode()

    def table_of(self, key: bytes) -> tuple[Table, Row] | None:
        """
        Return which row a key is of, by table and primary key; None when it is none of a row.

        :raise NotARow: no key looks like this
        """
        name, slash, _ = key.removeprefix(self.all).partition(b"/")
        table = self._tables.get(name.decode("ascii", "replace"))
        return None if not slash or table is None else (table, self.place_in(table, key))

    def place_in(self, table: Table, key: bytes) -> Row:
        """
        Return the primary key that the key of a row of a table has.

        :raise NotARow: no key of it looks like this
        """
        try:
            parts = key[len(self._beginnings[table.name]) :].split(_PART)
            return tuple(
                [_decoded(kind, part) for kind, part in zip(self._kinds[table.name], parts, strict=True)]
            )
        except (ValueError, IndexError) as error:
            raise NotARow(f"{key!r} is no key of a row: {error}") from None

    def numbered_by(self, key: bytes) -> Table | None:
        """Return which table's greatest number a key has; None when it is no such key."""
        if not key.startswith(self.numbers):
            return None
        return self._tables.get(key.removeprefix(self.numbers).decode("ascii", "replace"))


class _Shape:
    """What is known of a table's rows before any is there."""

    def __init__(self, table: Table) -> None:
        self.table = table
        places = [place for place, column in enumerate(table.columns) if column.name not in table.key]
        self.named = [(table.columns[place].name, place) for place in places]
        self.raw = [table.columns[place].name for place in places if table.columns[place].kind is Kind.BYTES]
        self.real = [table.columns[place].name for place in places if table.columns[place].kind is Kind.REAL]
        self.row: Callable[[Mapping[str, Any]], Row] = itemgetter(*table.column_names)


_SHAPES = {table.name: _Shape(table) for table in TABLES}


def _shape_of(table: Table) -> _Shape:
    """Return it; a table of an older schema has one of its own."""
    shape = _SHAPES.get(table.name)
    return shape if shape is not None and shape.table is table else _Shape(table)


def value_of(table: Table, row: Row) -> bytes:
    """Write a row: its columns in the order of the table, those of the primary key included, which are left out here."""
    shape = _shape_of(table)
    fields = {name: row[place] for name, place in shape.named if row[place] is not None}
    for name in shape.raw:
        if name in fields:
            fields[name] = b64encode(fields[name]).decode("ascii")
    return _encode(fields).encode()


def row_of(table: Table, key: Row, value: bytes, defaults: Mapping[str, Any]) -> Row:
    """Read a row: see ``rows_of``."""
    (row,) = rows_of(table, [key], [value], defaults)
    return row


def rows_of(
    table: Table, keys: Sequence[Row], values: Sequence[bytes], defaults: Mapping[str, Any]
) -> list[Row]:
    """
    Read rows of one table; many at once take half the time.

    :param keys: their primary keys
    :param defaults: for columns that are not there, because they are null or newer than the row
    :raise NotARow: no row looks like one of them
    """
    shape = _shape_of(table)
    missing = {column.name: defaults.get(column.name) for column in table.columns}
    try:
        said = json.loads(b"[%b]" % b",".join(values))
        rows = []
        for key, fields in zip(keys, said, strict=True):
            all_fields = {**missing, **fields, **dict(zip(table.key, key, strict=True))}
            for name in shape.raw:
                if all_fields[name] is not None:
                    all_fields[name] = b64decode(all_fields[name], validate=True)
            for name in shape.real:
                if all_fields[name] is not None:
                    all_fields[name] = float(all_fields[name])
            rows.append(shape.row(all_fields))
        return rows
    except (ValueError, TypeError) as error:
        if len(values) > 1:
            # One by one, to say which.
            for one, value in zip(keys, values, strict=True):
                rows_of(table, [one], [value], defaults)
        raise NotARow(f"{values[0][:200]!r} is no row of {table.name}: {error}") from None


def _encoded(kind: Kind, value: Any) -> bytes:
    if kind is Kind.INTEGER:
        return _encoded_number(value)
    raw: bytes = value.encode() if kind is Kind.TEXT else value
    return raw.replace(b"\0", _NUL)


def _decoded(kind: Kind, part: bytes) -> Any:
    if kind is Kind.INTEGER:
        return _decoded_number(part)
    raw = part.replace(_NUL, b"\0")
    return raw.decode() if kind is Kind.TEXT else raw


def _encoded_number(number: int) -> bytes:
    if number >= 0:
        digits = f"{number:x}"
        return f"{_LENGTHS[len(digits)]}{digits}".encode()
    digits = f"{-number:x}"
    turned = f"{16 ** len(digits) - 1 + number:0{len(digits)}x}"
    return f"-{_LENGTHS[16 - len(digits)]}{turned}".encode()


def _decoded_number(part: bytes) -> int:
    text = part.decode("ascii")
    is_negative = text.startswith("-")
    length, digits = text[is_negative], text[is_negative + 1 :]
    expected = 16 - _LENGTHS.index(length) if is_negative else _LENGTHS.index(length)
    if len(digits) != expected or digits != digits.lower():
        raise ValueError(f"{text!r} is no number")
    number = int(digits, 16)
    return number - 16**expected + 1 if is_negative else number
