"""Cartridges and drives as recorded."""

import sqlite3
from collections.abc import Sequence
from dataclasses import replace

from coldstore.interfaces.metadata import Conflict
from coldstore.metadata.sqlite import telling
from coldstore.metadata.sqlite.rows import (
    CARTRIDGE_COLUMNS,
    DRIVE_COLUMNS,
    cartridge_of,
    cartridge_row,
    drive_of,
    marks,
)
from coldstore.model.cartridges import Cartridge, Drive, DriveState


def everything(connection: sqlite3.Connection) -> list[Cartridge]:
    """Return all cartridges by barcode."""
    return [
        cartridge_of(row)
        for row in connection.execute(f"SELECT {CARTRIDGE_COLUMNS} FROM cartridges ORDER BY barcode")
    ]


def one(connection: sqlite3.Connection, barcode: str) -> Cartridge | None:
    """Return a cartridge."""
    row = connection.execute(
        f"SELECT {CARTRIDGE_COLUMNS} FROM cartridges WHERE barcode = ?", (barcode,)
    ).fetchone()
    return None if row is None else cartridge_of(row)


def add(connection: sqlite3.Connection, cartridges: Sequence[Cartridge]) -> None:
    """Record cartridges that are new."""
    for cartridge in cartridges:
        row = cartridge_row(cartridge)
        connection.execute(
            f"INSERT INTO cartridges ({CARTRIDGE_COLUMNS}) VALUES ({marks(row)}) ON CONFLICT (barcode) DO NOTHING",
            row,
        )


def record(connection: sqlite3.Connection, cartridge: Cartridge, *, audit: str) -> Cartridge:
    """Replace a record that nobody else has changed."""
    renewed = replace(cartridge, revision=cartridge.revision + 1)
    row = cartridge_row(renewed)
    changed = connection.execute(
        f"UPDATE cartridges SET ({CARTRIDGE_COLUMNS}) = ({marks(row)}) WHERE barcode = ? AND revision = ?",
        (*row, cartridge.barcode, cartridge.revision),
    )
    if changed.rowcount == 0:
        raise Conflict(f"cartridge {cartridge.barcode} has no revision {cartridge.revision} now")
    if audit:
        telling.audit(
            connection,
            at=cartridge.changed_at,
            who=cartridge.changed_by,
            what=audit,
            subject=f"cartridge {cartridge.barcode}",
            detail=cartridge.reason,
        )
    return renewed


def drives(connection: sqlite3.Connection) -> list[Drive]:
    """Return all drives by index."""
    return [
        drive_of(row) for row in connection.execute(f"SELECT {DRIVE_COLUMNS} FROM drives ORDER BY element")
    ]


def record_drive(connection: sqlite3.Connection, drive: Drive, *, audit: str) -> None:
    """Insert or replace a drive's record."""
    connection.execute(
        f"INSERT OR REPLACE INTO drives ({DRIVE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            drive.index,
            drive.serial,
            drive.state.value,
            drive.reason,
            drive.failures,
            drive.changed_at,
            drive.changed_by,
        ),
    )
    if audit:
        _audit_drive(connection, drive, what=audit)


def set_drive_state(
    connection: sqlite3.Connection, *, index: int, state: DriveState, reason: str, at: float, by: str
) -> Drive:
    """Put a drive up or down."""
    row = connection.execute(
        "UPDATE drives SET state = ?, reason = ?, changed_at = ?, changed_by = ? WHERE element = ?"
        f" RETURNING {DRIVE_COLUMNS}",
        (state.value, reason, at, by, index),
    ).fetchone()
    if row is None:
        raise Conflict(f"there is no drive {index}")
    drive = drive_of(row)
    _audit_drive(connection, drive, what=f"drive {state.value}")
    return drive


def _audit_drive(connection: sqlite3.Connection, drive: Drive, *, what: str) -> None:
    telling.audit(
        connection,
        at=drive.changed_at,
        who=drive.changed_by,
        what=what,
        subject=f"drive {drive.index}",
        detail=drive.reason,
    )
