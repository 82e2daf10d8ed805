"""
What the record says, as it comes to say it: bundles and their copies, cartridges, drives, restores, alerts.

Triggers in the simulated database call back; what a step has written is told when it is committed, and never when it is rolled back.
"""

import sqlite3
from collections.abc import Callable

from coldstore.metadata.sqlite.store import prepare
from tests.simulation.database import APPLIANCE_ID, MIGRATIONS

_CHANGED = "AFTER UPDATE OF {column} ON {table} WHEN new.{column} IS NOT old.{column}"
_REASON = "iif(new.reason = '', '', ' (' || new.reason || ')')"
_WATCHED = (
    # what is watched, what is said: kind, subject, sentence
    ("AFTER INSERT ON bundles", "'bundle', new.bundle_id, 'bundle ' || new.bundle_id || ' is ' || new.state"),
    (
        _CHANGED.format(table="bundles", column="state"),
        "'bundle', new.bundle_id, 'bundle ' || new.bundle_id || ': ' || old.state || ' → ' || new.state",
    ),
    (
        _CHANGED.format(table="copies", column="state"),
        "'copy', new.bundle_id, 'copy of bundle ' || new.bundle_id || ' in ' || new.pool || ': ' || old.state || ' → ' || new.state"
        f" || coalesce(' on ' || new.barcode, '') || {_REASON}",
    ),
    (
        _CHANGED.format(table="cartridges", column="state"),
        f"'cartridge', new.barcode, 'cartridge ' || new.barcode || ': ' || old.state || ' → ' || new.state || {_REASON}",
    ),
    (
        _CHANGED.format(table="drives", column="state"),
        f"'drive ' || new.state, new.element, 'drive ' || new.element || ' is ' || new.state || {_REASON}",
    ),
    (
        _CHANGED.format(table="versions", column="restore_phase") + " AND new.restore_phase = 'restored'",
        "'restore', new.version_uid, 'restore of ' || cast(new.key AS TEXT) || ' is complete'",
    ),
    (
        _CHANGED.format(table="versions", column="restore_phase")
        + " AND new.restore_phase IS NULL AND (old.restore_phase = 'ongoing' OR new.deleted_at IS NULL)",
        "'restore', new.version_uid, 'restore of ' || cast(new.key AS TEXT) || ' is over, it was ' || old.restore_phase",
    ),
    ("AFTER INSERT ON alerts", "'alert', new.subject, 'alert: ' || new.sentence"),
    (_CHANGED.format(table="alerts", column="sentence"), "'alert', new.subject, 'alert: ' || new.sentence"),
    (
        _CHANGED.format(table="alerts", column="cleared_at"),
        "'alert', new.subject, 'alert closed: ' || new.kind || ', ' || new.subject",
    ),
)

Said = tuple[str, str, str]


class Witness:
    """
    Watches a database.

    :param told: takes what is said: of which kind, about which subject, in a sentence
    """

    def __init__(self, connection: sqlite3.Connection, told: Callable[[str, str, str], None]) -> None:
        self._told = told
        self._said: list[Said] = []
        self._savepoints: dict[str, int] = {}
        prepare(connection, MIGRATIONS, new_appliance_id=lambda: APPLIANCE_ID)
        connection.create_function("say", 3, self._say)
        for number, (watched, said) in enumerate(_WATCHED):
            connection.execute(
                f"CREATE TEMP TRIGGER witness_{number} {watched} BEGIN SELECT say({said}); END"
            )
        connection.set_trace_callback(self._statement)

    def _say(self, kind: str, subject: str | int, sentence: str) -> None:
        self._said.append((kind, str(subject), sentence))

    def _statement(self, statement: str) -> None:
        """SQLite is about to do something."""
        match statement.split():
            case ["SAVEPOINT", name]:
                self._savepoints[name] = len(self._said)
            case ["ROLLBACK", "TO", name]:
                del self._said[self._savepoints[name] :]
            case ["ROLLBACK"]:
                self._said.clear()
            case ["COMMIT"]:
                said, self._said = self._said, []
                for each in said:
                    self._told(*each)
