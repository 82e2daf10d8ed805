"""Cartridges and drives as recorded."""

from collections.abc import Sequence
from dataclasses import replace

from coldstore.interfaces.metadata import Conflict
from coldstore.metadata.sql import telling
from coldstore.metadata.sql.database import Database
from coldstore.metadata.sql.rows import (
    CARTRIDGE_COLUMNS,
    DRIVE_COLUMNS,
    cartridge_of,
    cartridge_row,
    drive_of,
    marks,
)
from coldstore.model.cartridges import Cartridge, Drive, DriveState


async def everything(db: Database) -> list[Cartridge]:
    """Return all cartridges by barcode."""
    found = await db.rows(f"SELECT {CARTRIDGE_COLUMNS} FROM cartridges ORDER BY barcode")
    return [cartridge_of(row) for row in found]


async def one(db: Database, barcode: str) -> Cartridge | None:
    """Return a cartridge."""
    row = await db.row(f"SELECT {CARTRIDGE_COLUMNS} FROM cartridges WHERE barcode = ?", (barcode,))
    return None if row is None else cartridge_of(row)


async def add(db: Database, cartridges: Sequence[Cartridge]) -> None:
    """Record cartridges that are new."""
    for cartridge in cartridges:
        row = cartridge_row(cartridge)
        await db.do(
            f"INSERT INTO cartridges ({CARTRIDGE_COLUMNS}) VALUES ({marks(row)}) ON CONFLICT (barcode) DO NOTHING",
            row,
        )


async def record(db: Database, cartridge: Cartridge, *, audit: str) -> Cartridge:
    """Replace a record that nobody else has changed."""
    renewed = replace(cartridge, revision=cartridge.revision + 1)
    row = cartridge_row(renewed)
    changed = await db.change(
        f"UPDATE cartridges SET ({CARTRIDGE_COLUMNS}) = ({marks(row)}) WHERE barcode = ? AND revision = ?",
        (*row, cartridge.barcode, cartridge.revision),
    )
    if changed == 0:
        raise Conflict(f"cartridge {cartridge.barcode} has no revision {cartridge.revision} now")
    if audit:
        await telling.audit(
            db,
            at=cartridge.changed_at,
            who=cartridge.changed_by,
            what=audit,
            subject=f"cartridge {cartridge.barcode}",
            detail=cartridge.reason,
        )
    return renewed


async def drives(db: Database) -> list[Drive]:
    """Return all drives by index."""
    found = await db.rows(f"SELECT {DRIVE_COLUMNS} FROM drives ORDER BY element")
    return [drive_of(row) for row in found]


async def record_drive(db: Database, drive: Drive, *, audit: str) -> None:
    """Insert or replace a drive's record."""
    await db.do(
        f"INSERT INTO drives ({DRIVE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (element) DO UPDATE SET"
        " serial = excluded.serial, state = excluded.state, reason = excluded.reason, failures = excluded.failures,"
        " changed_at = excluded.changed_at, changed_by = excluded.changed_by, host = excluded.host",
        (
            drive.index,
            drive.serial,
            drive.state.value,
            drive.reason,
            drive.failures,
            drive.changed_at,
            drive.changed_by,
            drive.host,
        ),
    )
    if audit:
        await _audit_drive(db, drive, what=audit)


async def set_drive_state(
    db: Database, *, index: int, state: DriveState, reason: str, at: float, by: str, host: str | None
) -> Drive:
    """Put a drive up or down."""
    row = await db.row(
        "UPDATE drives SET state = ?, reason = ?, changed_at = ?, changed_by = ?, host = COALESCE(?, host) WHERE element = ?"
        f" RETURNING {DRIVE_COLUMNS}",
        (state.value, reason, at, by, host, index),
    )
    if row is None:
        raise Conflict(f"there is no drive {index}")
    drive = drive_of(row)
    await _audit_drive(db, drive, what=f"drive {state.value}")
    return drive


async def take_drive(db: Database, *, index: int, host: str) -> None:
    """Record whose a drive is."""
    if not await db.change("UPDATE drives SET host = ? WHERE element = ?", (host, index)):
        raise Conflict(f"there is no drive {index}")


async def _audit_drive(db: Database, drive: Drive, *, what: str) -> None:
    await telling.audit(
        db,
        at=drive.changed_at,
        who=drive.changed_by,
        what=what,
        subject=f"drive {drive.index}",
        detail=drive.reason,
    )
