"""Outbox, alerts, audit trail."""

from collections.abc import Sequence

from coldstore.metadata.sql.database import Database
from coldstore.metadata.sql.rows import (
    ALERT_COLUMNS,
    AUDIT_COLUMNS,
    MESSAGE_COLUMNS,
    alert_of,
    audit_event_of,
    message_of,
)
from coldstore.model.events import Alert, AuditEvent, NewMessage, OutboxMessage, Severity


async def write_messages(db: Database, messages: Sequence[NewMessage]) -> None:
    """Put messages into the outbox, due since they were made."""
    for new in messages:
        row = (new.event, new.bucket, new.key, new.body, new.created_at, new.created_at)
        await db.insert("outbox", "event, bucket, key, body, created_at, next_attempt_at", row)


async def due_messages(db: Database, *, now: float, limit: int) -> list[OutboxMessage]:
    """Return due messages, the oldest that waits of each key, longest due first."""
    found = await db.rows(
        f"SELECT {MESSAGE_COLUMNS} FROM outbox WHERE dead_at IS NULL AND next_attempt_at <= ?"
        " AND NOT EXISTS (SELECT 1 FROM outbox AS older WHERE older.bucket = outbox.bucket AND older.key = outbox.key"
        " AND older.message_id < outbox.message_id AND older.dead_at IS NULL)"
        " ORDER BY next_attempt_at, message_id LIMIT ?",
        (now, limit),
    )
    return [message_of(row) for row in found]


async def message_delivered(db: Database, message_id: int) -> None:
    """Forget a message."""
    await db.do("DELETE FROM outbox WHERE message_id = ?", (message_id,))


async def message_failed(db: Database, message_id: int, *, error: str, next_attempt_at: float) -> None:
    """Count a failed attempt."""
    await db.do(
        "UPDATE outbox SET attempts = attempts + 1, last_error = ?, next_attempt_at = ? WHERE message_id = ?",
        (error, next_attempt_at, message_id),
    )


async def message_dead(db: Database, message_id: int, *, error: str, at: float) -> None:
    """Make a message a dead letter."""
    await db.do(
        "UPDATE outbox SET attempts = attempts + 1, last_error = ?, dead_at = ? WHERE message_id = ? AND dead_at IS NULL",
        (error, at, message_id),
    )


async def raise_alert(
    db: Database, *, kind: str, subject: str, severity: Severity, sentence: str, at: float
) -> Alert:
    """Open an alert or count it once more."""
    row = await db.row(
        "INSERT INTO alerts (kind, subject, severity, sentence, raised_at, last_seen_at, count)"
        " VALUES (?, ?, ?, ?, ?, ?, 1) ON CONFLICT (kind, subject) WHERE cleared_at IS NULL DO UPDATE SET"
        " count = alerts.count + 1, sentence = excluded.sentence, severity = excluded.severity,"
        f" last_seen_at = excluded.last_seen_at RETURNING {ALERT_COLUMNS}",
        (kind, subject, severity.value, sentence, at, at),
    )
    return alert_of(row)


async def clear_alert(db: Database, *, kind: str, subject: str, at: float) -> None:
    """Close an open alert."""
    await db.do(
        "UPDATE alerts SET cleared_at = ? WHERE kind = ? AND subject = ? AND cleared_at IS NULL",
        (at, kind, subject),
    )


async def alerts(db: Database, *, include_cleared: bool, limit: int) -> list[Alert]:
    """Return alerts, newest first."""
    which = "" if include_cleared else "WHERE cleared_at IS NULL"
    found = await db.rows(
        f"SELECT {ALERT_COLUMNS} FROM alerts {which} ORDER BY alert_id DESC LIMIT ?", (limit,)
    )
    return [alert_of(row) for row in found]


async def audit(db: Database, *, at: float, who: str, what: str, subject: str, detail: str) -> None:
    """Write down who did what."""
    await db.insert("audit_events", "at, who, what, subject, detail", (at, who, what, subject, detail))


async def audit_trail(db: Database, *, before_id: int | None, limit: int) -> list[AuditEvent]:
    """Return the audit trail, newest first."""
    found = await db.rows(
        f"SELECT {AUDIT_COLUMNS} FROM audit_events WHERE ? IS NULL OR event_id < ? ORDER BY event_id DESC LIMIT ?",
        (before_id, before_id, limit),
    )
    return [audit_event_of(row) for row in found]
