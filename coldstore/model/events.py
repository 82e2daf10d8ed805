"""What is told to others: outbox messages, alerts for the operator, and the audit trail."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """
    A message to be delivered, written in the same step as the fact that it tells. ``body`` is JSON text.

    ``created_at`` is when the fact became one: the message's age counts from it.
    """

    event: str
    bucket: str
    key: bytes
    body: str
    created_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxMessage:
    """A message that waits for delivery to ``target`` (empty: to every target that wants its event)."""

    message_id: int
    event: str
    bucket: str
    key: bytes
    body: str
    created_at: float
    attempts: int
    next_attempt_at: float
    last_error: str


class Severity(StrEnum):
    """How soon an operator must look."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """
    Something that an operator should know; open until ``cleared_at``.

    ``subject`` names the thing (``cartridge A00001L8``, ``drive 0``); one open alert per (kind, subject).
    """

    alert_id: int
    kind: str
    subject: str
    severity: Severity
    sentence: str
    raised_at: float
    last_seen_at: float
    count: int
    cleared_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """Who did what to what, when, and why."""

    event_id: int
    at: float
    who: str
    what: str
    subject: str
    detail: str


def is_wanted(event: str, pattern: str) -> bool:
    """Whether a target that names events like ``s3:ObjectRestore:Completed`` wants one; ``*`` at the end stands for any rest."""
    return event.startswith(pattern[:-1]) if pattern.endswith("*") else event == pattern
