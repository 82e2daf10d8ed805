"""
``coldstore status`` for people: what is wrong first, then what is not safe yet, then the rest.

Pure: it takes the answers of the appliance and returns text.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from coldstore.util.tables import duration, printable, size

Row = Mapping[str, Any]

WIDTH = 110
LABEL_WIDTH = 11
DAMAGED = "copy-damaged"
"""The kind of alert that tells of copies on a cartridge that could not be read back."""


def overview(status: Row, alerts: Sequence[Row], drives: Sequence[Row]) -> str:
    """Return the page."""
    parts = [_headline(status), _wrong(status, alerts), _state(status, alerts), _drives(drives)]
    return "\n\n".join(part for part in parts if part)


def alert_text(alert: Row) -> str:
    """Return one alert: who, since when, and below it the whole sentence."""
    seen = f", seen {alert['count']} times, last at {alert['last_seen_at']}" if alert["count"] > 1 else ""
    closed = f", closed at {alert['cleared_at']}" if alert["cleared_at"] else ""
    head = f"{alert['severity'].upper():8}  #{alert['id']}  {printable(alert['subject'])}, since {alert['raised_at']}{seen}{closed}"
    return f"{head}\n{_indented(alert['sentence'])}"


def _headline(status: Row) -> str:
    serving = "serves S3" if status["is_serving"] else "DOES NOT SERVE S3 YET"
    library = "" if status["is_library_reconciled"] else "; tapes wait for the library"
    return f"ColdStore {status['version']} {serving}{library} (run {status['epoch']} on {status['host']}, since {status['started_at']})"


def _wrong(status: Row, alerts: Sequence[Row]) -> str:
    lines = [f"PROBLEM   {_hanging(problem, 10)}" for problem in status["problems"]]
    lines += [alert_text(alert) for alert in alerts]
    return "\n".join(lines) if lines else "No problem is known, no alert is open."


def _state(status: Row, alerts: Sequence[Row]) -> str:
    waiting = status["not_yet_on_every_tape_objects"]
    safe = "nothing waits to be written to tape"
    if waiting:
        age = duration(status["not_yet_on_every_tape_oldest_seconds"])
        safe = (
            f"{_count(waiting, 'object')} ({size(status['not_yet_on_every_tape_bytes'])}) "
            f"not yet on every tape, the oldest for {age}"
        )
    damaged = sum(alert["kind"] == DAMAGED for alert in alerts)
    if damaged:
        safe += f"; COPIES WERE LOST on {_count(damaged, 'cartridge')}, see above"
    used, capacity = status["staging_used_bytes"], status["staging_capacity_bytes"]
    share = f"{100 * used // capacity} %" if capacity else "-"
    reserved = status["staging_reserved_bytes"]
    promised = f", {size(reserved)} more promised" if reserved else ""
    lines = [
        ("tape copies", safe),
        (
            "restores",
            f"{status['ongoing_restores']} under way, {_count(status['restored_objects'], 'restored copy')} on disk",
        ),
        ("disk", f"{size(used)} of {size(capacity)} used ({share}){promised}"),
        (
            "objects",
            f"{status['objects']} with {size(status['object_bytes'])} in {_count(status['buckets'], 'bucket')}; "
            f"{size(status['on_disk_bytes'])} on disk, {size(status['on_tape_bytes'])} on tape",
        ),
    ]
    if status["last_dump_at"] is not None:
        lines.append(
            ("metadata", f"last dumped at {status['last_dump_at']} ({size(status['last_dump_bytes'])})")
        )
    if status["lifecycle_behind_seconds"] is not None:
        behind = duration(status["lifecycle_behind_seconds"])
        lines.append(
            (
                "lifecycle",
                f"rules of buckets have been behind for {behind}: `coldstore lifecycle` says with what",
            )
        )
    if status["outbox_messages"]:
        lines.append(("messages", f"{_count(status['outbox_messages'], 'notification')} not yet delivered"))
    return "\n".join(f"{label:{LABEL_WIDTH}}  {text}" for label, text in lines)


def _drives(drives: Sequence[Row]) -> str:
    lines = []
    for drive in drives:
        label = f"drive {drive['drive']}"
        if drive["state"] != "up":
            held = f", holds {drive['barcode']}" if drive["barcode"] else ""
            text = f"DOWN{held}: {drive['reason']}"
        else:
            work = " ".join(part for part in (drive["step"] or "idle", drive["detail"]) if part)
            amount = (
                f" ({100 * drive['done_bytes'] // drive['total_bytes']} % of {size(drive['total_bytes'])})"
                if drive["total_bytes"]
                else ""
            )
            held = drive["barcode"] or ("content unknown" if drive["job"] == "look" else "empty")
            text = f"{held}: {work}{amount}"
        lines.append(f"{label:{LABEL_WIDTH}}  {_hanging(text, LABEL_WIDTH + 2)}")
    return "\n".join(lines)


def _count(number: int, noun: str) -> str:
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun.removesuffix('y')}ies" if noun.endswith("y") else f"{number} {noun}s"


def _indented(text: str) -> str:
    return textwrap.fill(printable(text), WIDTH, initial_indent=" " * 10, subsequent_indent=" " * 10)


def _hanging(text: str, indent: int) -> str:
    return textwrap.fill(
        printable(text), WIDTH - indent, subsequent_indent=" " * indent, break_long_words=False
    )
