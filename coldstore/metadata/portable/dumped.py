"""Reading a dump: first all of it, to know that it is whole, then as the rows of a store."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path

from coldstore.metadata.portable.lines import DumpDamaged, Header, Trailer, read_header, read_mark, reader_of
from coldstore.metadata.portable.packing import packed_lines
from coldstore.metadata.portable.stores import Key, Row, Standing
from coldstore.metadata.sql.tables import Table

TELL_ROWS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedDump:
    """A dump that was read from its first byte to its last and found to be whole and what was written."""

    path: Path
    header: Header
    trailer: Trailer

    @property
    def name(self) -> str:
        """What it is called where something is said to come from it; two dumps never have one name."""
        standing = self.header.standing
        return (
            f"a dump of appliance {standing.appliance_id}, run {standing.epoch}, version {standing.last_version}, "
            f"with SHA-256 {self.trailer.sha256[:16]}"
        )


def check_dump(path: Path, tell: Callable[[int], object]) -> CheckedDump:
    """
    Read all of a file.

    :param tell: is told how many rows are through
    :raise OSError: it cannot be read
    :raise DumpDamaged: it is no dump, or not whole, or not what was written
    """
    lines = packed_lines(path)
    line = next(lines, b"")
    header = read_header(line)
    digest = sha256(line)
    checking = _Checking(header.tables, tell)
    for line in lines:
        trailer = checking.take(line)
        if trailer is not None:
            break
        digest.update(line)
    else:
        raise DumpDamaged("the last line is missing")
    if next(lines, None) is not None or set(checking.rows) != {table.name for table in header.tables}:
        raise DumpDamaged("the last line is not where it should be")
    if dict(trailer.rows) != checking.rows or trailer.sha256 != digest.hexdigest():
        raise DumpDamaged("its rows are not those that were written")
    return CheckedDump(path=path, header=header, trailer=trailer)


class _Checking:
    """Takes the lines behind the first one, and counts the rows of each table."""

    def __init__(self, tables: Iterable[Table], tell: Callable[[int], object]) -> None:
        self.rows: dict[str, int] = {}
        self._tables = iter(tables)
        self._tell = tell
        self._table: Table | None = None
        self._read: Callable[[bytes], Row] = _read_nothing
        self._places: tuple[int, ...] = ()
        self._last: Key | None = None
        self._done = 0

    def take(self, line: bytes) -> Trailer | None:
        """
        Take a line; return the trailer when it is that.

        :raise DumpDamaged: it cannot stand here
        """
        if line.startswith(b"["):
            self._take_row(line)
            return None
        mark = read_mark(line)
        if isinstance(mark, Trailer):
            return mark
        self._table, self._last = next(self._tables, None), None
        if self._table is None or self._table.name != mark:
            raise DumpDamaged(f"the table {mark} is not where it should be")
        self._read, self._places = reader_of(self._table), self._table.key_places
        self.rows[mark] = 0
        return None

    def _take_row(self, line: bytes) -> None:
        row, table = self._read(line), self._table
        assert table is not None, "a row was read, so it belongs to a table"
        key = tuple([row[place] for place in self._places])
        if self._last is not None and key <= self._last:
            raise DumpDamaged(f"rows of {table.name} are not in the order of their keys")
        self._last = key
        self.rows[table.name] += 1
        self._done += 1
        if self._done % TELL_ROWS == 0:
            self._tell(self._done)


def _read_nothing(line: bytes) -> Row:
    raise DumpDamaged(f"a line of {len(line)} bytes belongs to no table")


class DumpSnapshot:
    """The rows of a dump, see ``Snapshot``. Pages that follow each other are read in one go."""

    def __init__(self, checked: CheckedDump) -> None:
        self.tables = checked.header.tables
        self._checked = checked
        self._lines: Iterator[bytes] = iter(())
        self._next_table = ""
        """Of which all rows are ahead, and nothing else is before them."""
        self._rows: Iterator[Row] = iter(())
        self._at: tuple[str, Key | None] | None = None
        """Where those go on: the table, and the key of the last one."""

    async def standing(self) -> Standing:
        """See ``Snapshot``."""
        return self._checked.header.standing

    async def page(self, table: Table, after: Key | None, limit: int) -> list[Row]:
        """See ``Snapshot``."""
        if self._at != (table.name, after):
            self._rows = self._rows_of(table, after)
        page = list(islice(self._rows, limit))
        self._at = (table.name, tuple(page[-1][place] for place in table.key_places) if page else after)
        return page

    def _rows_of(self, table: Table, after: Key | None) -> Iterator[Row]:
        if after is not None or self._next_table != table.name:
            self._lines = packed_lines(self._checked.path)
            next(self._lines, None)
            self._next_table = ""
            for line in self._lines:
                if not line.startswith(b"["):
                    self._note(line)
                if self._next_table == table.name:
                    break
        self._next_table = ""
        read, places = reader_of(table), table.key_places
        for line in self._lines:
            if not line.startswith(b"["):
                self._note(line)
                return
            row = read(line)
            if after is None or tuple([row[place] for place in places]) > after:
                yield row

    def _note(self, line: bytes) -> None:
        """Note which table follows a line that is no row; none does behind the last line."""
        mark = read_mark(line)
        self._next_table = mark if isinstance(mark, str) else ""

    async def count(self, table: Table) -> int:
        """See ``Snapshot``."""
        return self._checked.trailer.rows[table.name]

    async def close(self) -> None:
        """See ``Snapshot``."""
        self._lines, self._rows, self._at = iter(()), iter(()), None
