"""What a transaction of the replica has changed: noted by triggers, as table and primary key."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from coldstore.metadata.etcd.keys import Keys, Row, value_of
from coldstore.metadata.sql.tables import BY_NAME, TABLES, Table
from coldstore.metadata.sqlite.driver import Connection

OPERATIONS_MAX = 128
"""What etcd takes in one transaction (``--max-txn-ops``), if it is not told otherwise."""
ROWS_MAX = 120
"""Rows among them. The others are the batch's own key and the greatest numbers of rows that are gone."""
BYTES_MAX = 1_400_000
"""What a transaction's rows may weigh. etcd takes 1.5 MiB (``--max-request-bytes``)."""
_ABOUT_A_ROW_BYTES = 24
"""The most that etcd's protocol puts about a key and a value."""


class Change(NamedTuple):
    """A key is to be set, or (``value`` None) deleted."""

    key: bytes
    value: bytes | None


def weight_bytes(changes: Sequence[Change]) -> int:
    """Return what changes weigh in a transaction of etcd, or a little more."""
    return sum(len(change.key) + len(change.value or b"") + _ABOUT_A_ROW_BYTES for change in changes)


class WatchedConnection(Connection):
    """
    A connection that knows which rows its transaction has changed, and whether all of them fit into one transaction of etcd.

    What is noted is a part of the transaction: it goes when that is rolled back, wholly or to a savepoint.
    """

    _keys: Keys
    _noted: dict[tuple[str, Row], None]
    _last_place: int
    _largest_step: int
    _changes: list[Change] | None

    def watch(self, keys: Keys) -> None:
        """Note changes from now on. :param keys: where rows lie in etcd"""
        self._keys = keys
        self._forget()
        # A row for each change. A trigger cannot leave out what was noted already: its ``OR IGNORE`` would be overruled by the
        # conflict clause of the statement that fired it (SQLite, CREATE TRIGGER).
        self.execute(
            "CREATE TEMP TABLE noted"
            " (place INTEGER PRIMARY KEY, source TEXT NOT NULL, first ANY, second ANY, was_first ANY, was_second ANY) STRICT"
        )
        for table in TABLES:
            for statement in _triggers(table):
                self.execute(statement)

    def begin(self) -> None:
        """See ``Connection``."""
        super().begin()
        self.execute("DELETE FROM temp.noted")
        self._forget()

    @property
    def row_changes(self) -> int:
        """See ``Connection``; what the triggers write does not count."""
        (last,) = self.execute("SELECT max(place) FROM temp.noted").fetchone()
        return last or 0

    def takes_step(self) -> bool:
        """See ``Connection``."""
        new: dict[tuple[str, Row], None] = {}
        places = self.execute(
            "SELECT place, source, first, second, was_first, was_second FROM temp.noted WHERE place > ? ORDER BY place",
            (self._last_place,),
        ).fetchall()
        for _, source, *keys in places:
            width = len(BY_NAME[source].key)
            for key in (tuple(keys[:width]), tuple(keys[2 : 2 + width])):
                if key[0] is not None and (source, key) not in self._noted:
                    new[source, key] = None
        if len(self._noted) + len(new) > ROWS_MAX:
            return False
        self._noted.update(new)
        if places:
            self._last_place = places[-1][0]
        self._largest_step = max(self._largest_step, len(new))
        return True

    def is_full(self) -> bool:
        """See ``Connection``."""
        return len(self._noted) + self._largest_step > ROWS_MAX

    def is_too_heavy(self) -> bool:
        """See ``Connection``."""
        return weight_bytes(self.changes()) > BYTES_MAX

    def changes(self) -> list[Change]:
        """Return what the steps of the transaction have changed, in a form that may be written to etcd."""
        if self._changes is None:
            rows = [self._change(each) for each in self._noted]
            gone = [name for (name, _), row in zip(self._noted, rows, strict=True) if row.value is None]
            self._changes = [*rows, *self._numbers(gone)]
        return self._changes

    def _forget(self) -> None:
        self._noted = {}
        self._last_place = 0
        self._largest_step = 0
        self._changes = None

    def _change(self, noted: tuple[str, Row]) -> Change:
        name, key = noted
        table = BY_NAME[name]
        row = self.execute(_SELECTING[name], key).fetchone()
        return Change(self._keys.of_row(table, key), None if row is None else value_of(table, row))

    def _numbers(self, gone: Iterable[str]) -> Iterator[Change]:
        """
        Keep the greatest number of a table of which a row was deleted, when no row that is left has it.

        SQLite keeps it, and the rows alone do not tell it. It may be one that no row ever had: an insertion that became an update,
        or nothing, has used up a number.
        """
        for table in (BY_NAME[name] for name in dict.fromkeys(gone)):
            if table.identity is None:
                continue
            greatest, last = self.execute(
                f"SELECT max({table.identity}), (SELECT seq FROM sqlite_sequence WHERE name = ?) FROM {table.name}",
                (table.name,),
            ).fetchone()
            if last is not None and (greatest is None or greatest < last):
                yield Change(self._keys.of_number(table), str(last).encode())


_SELECTING = {
    table.name: f"SELECT {', '.join(table.column_names)} FROM {table.name}"
    f" WHERE {' AND '.join(f'{name} = ?' for name in table.key)}"
    for table in TABLES
}
"""By the name of the table: the row with a primary key."""


def _triggers(table: Table) -> Iterator[str]:
    def columns(moment: str) -> str:
        names = [f"{moment}.{name}" if moment else "NULL" for name in table.key]
        return ", ".join([*names, *["NULL"] * (2 - len(names))])

    for event, now, before in (("INSERT", "new", ""), ("UPDATE", "new", "old"), ("DELETE", "old", "")):
        yield (
            f"CREATE TEMP TRIGGER noted_{event.lower()}_{table.name} AFTER {event} ON main.{table.name} BEGIN"
            " INSERT INTO noted (source, first, second, was_first, was_second)"
            f" VALUES ('{table.name}', {columns(now)}, {columns(before)}); END"
        )
