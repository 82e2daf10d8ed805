"""
The lines of a dump: JSON, each row a line. Pure; ``FORMAT.md`` is the reference.

Text is escaped to ASCII and numbers keep their kind and every digit, so that a row that is read is the row that was written.
"""

import json
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from struct import Struct
from struct import error as StructError
from typing import Any, NoReturn

from coldstore.metadata.portable.stores import Row, Standing
from coldstore.metadata.sql.tables import Column, Kind, Table

FORMAT = "coldstore-metadata"
VERSION = 1
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_decode = json.JSONDecoder(parse_constant=_no_number).raw_decode
_TYPES = {Kind.INTEGER: int, Kind.REAL: float, Kind.TEXT: str, Kind.BYTES: str}


class DumpDamaged(Exception):
    """A file is no dump, or not a whole one, or was altered; says where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """
    What a dump says before its rows.

    :ivar made_at: unix seconds
    :ivar backend: what kind of store it was made of
    """

    standing: Standing
    made_at: float
    backend: str
    tables: tuple[Table, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trailer:
    """What a dump says behind its rows: the number of rows by table, and the SHA-256, in hex, of all before."""

    rows: Mapping[str, int]
    sha256: str


def header_line(header: Header) -> bytes:
    """Return the first line."""
    standing = header.standing
    return _line(
        {
            "format": FORMAT,
            "version": VERSION,
            "schema": standing.schema,
            "appliance_id": standing.appliance_id,
            "last_version": standing.last_version,
            "epoch": standing.epoch,
            "made_at": header.made_at,
            "backend": header.backend,
            "tables": [
                {
                    "name": table.name,
                    "columns": [
                        [column.name, column.kind.value, column.nullable] for column in table.columns
                    ],
                    "key": table.key,
                }
                for table in header.tables
            ],
        }
    )


def read_header(line: bytes) -> Header:
    """
    Return what a first line says.

    :raise DumpDamaged: it is none
    """
    said = _read(line)
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        raise DumpDamaged("this is not a dump of ColdStore's metadata")
    if said.get("version") != VERSION:
        raise DumpDamaged(
            f"a dump of version {said.get('version')!r} is for a newer program; this one reads {VERSION}"
        )
    try:
        return Header(
            standing=Standing(
                schema=_checked(said["schema"], int),
                appliance_id=_checked(said["appliance_id"], str),
                last_version=_integer(said["last_version"]),
                epoch=_integer(said["epoch"]),
                arriving_from="",
                moved_to="",
            ),
            made_at=_checked(said["made_at"], float),
            backend=_checked(said["backend"], str),
            tables=tuple(_table(each) for each in said["tables"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DumpDamaged(f"the first line lacks something, or has it wrong: {error}") from None


def _table(said: Mapping[str, Any]) -> Table:
    table = Table(
        name=_checked(said["name"], str),
        columns=tuple(
            Column(_checked(name, str), Kind(kind), _checked(nullable, bool))
            for name, kind, nullable in said["columns"]
        ),
        key=tuple(said["key"]),
    )
    if not table.key or any(table.columns[place].nullable for place in table.key_places):
        raise ValueError(f"{table.name} has no key")
    return table


def _checked(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def _integer(value: Any) -> int:
    if not -(2**63) <= _checked(value, int) < 2**63:
        raise ValueError(f"{value} has more than 64 bits")
    return int(value)


def table_line(table: Table) -> bytes:
    """Return the line before the rows of a table."""
    return _line({"table": table.name})


def trailer_line(trailer: Trailer) -> bytes:
    """Return the last line."""
    return _line({"rows": dict(trailer.rows), "sha256": trailer.sha256})


def read_mark(line: bytes) -> str | Trailer:
    """
    Return what a line between rows says: the name of the table that follows, or the trailer.

    :raise DumpDamaged: it says neither
    """
    match _read(line):
        case {"table": str(name), **rest} if not rest:
            return name
        case {"rows": dict(rows), "sha256": str(digest), **rest} if not rest:
            return Trailer(rows=rows, sha256=digest)
    raise DumpDamaged("a line is neither a row nor anything else that belongs into a dump")


def row_lines(table: Table, rows: Iterable[Row]) -> bytes:
    """Return the lines of rows."""
    places = [place for place, column in enumerate(table.columns) if column.kind is Kind.BYTES]
    if places:
        rows = [_with_text(row, places) for row in rows]
    return "".join([_encode(row) + "\n" for row in rows]).encode("ascii")


def _with_text(row: Row, places: Sequence[int]) -> Row:
    """Write bytes as text."""
    changed = list(row)
    for place in places:
        if changed[place] is not None:
            changed[place] = b64encode(changed[place]).decode("ascii")
    return tuple(changed)


def reader_of(table: Table) -> Callable[[bytes], Row]:
    """
    Return what reads a line as a row of a table.

    It raises ``DumpDamaged`` when a line is none: what is no JSON, or has other columns, or values of other kinds than the table's.
    """
    count = len(table.columns)
    places = [place for place, column in enumerate(table.columns) if column.kind is Kind.BYTES]
    allowed = [
        (_TYPES[column.kind], type(None) if column.nullable else _TYPES[column.kind])
        for column in table.columns
    ]
    integers = [place for place, column in enumerate(table.columns) if column.kind is Kind.INTEGER]
    texts = [place for place, column in enumerate(table.columns) if column.kind is Kind.TEXT]
    packed = Struct(f"{len(integers)}q").pack
    # Kinds that rows have had already: there are few.
    good: set[tuple[type, ...]] = set()

    def read(line: bytes) -> Row:
        values = _read(line)
        if type(values) is not list or len(values) != count:
            _refuse(table, line)
        kinds = tuple(map(type, values))
        if kinds not in good:
            if not all(kind in each for kind, each in zip(kinds, allowed, strict=True)):
                _refuse(table, line)
            good.add(kinds)
        try:
            packed(*[values[place] or 0 for place in integers])
            "".join([values[place] or "" for place in texts]).encode()
        except (StructError, UnicodeEncodeError):
            # A number of more than 64 bits, or half of a pair of surrogates.
            _refuse(table, line)
        for place in places:
            if values[place] is not None:
                try:
                    values[place] = b64decode(values[place], validate=True)
                except (NotBase64, ValueError):
                    _refuse(table, line)
        return tuple(values)

    return read


def _refuse(table: Table, line: bytes) -> NoReturn:
    # Not what it holds: it may be a user's secret.
    raise DumpDamaged(f"a line of {len(line)} bytes is no row of {table.name}")


def _line(document: Mapping[str, Any]) -> bytes:
    return f"{_encode(document)}\n".encode("ascii")


def _read(line: bytes) -> Any:
    try:
        text = line.decode("ascii")
        value, end = _decode(text)
    except (ValueError, RecursionError):
        raise DumpDamaged(f"a line of {len(line)} bytes is no JSON") from None
    if text[end:] != "\n":
        raise DumpDamaged(f"a line of {len(line)} bytes goes on behind its JSON")
    return value
