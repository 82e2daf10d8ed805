"""The log: lines for people or JSON objects for programs, on standard output or in the file that twistd was given."""

import json
import sys
from typing import Any, TextIO

from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    eventAsText,
    formatEvent,
)
from zope.interface import implementer

LEVELS = {
    "debug": LogLevel.debug,
    "info": LogLevel.info,
    "warn": LogLevel.warn,
    "error": LogLevel.error,
    "critical": LogLevel.critical,
}
OURS = "coldstore"


@implementer(ILogObserver)
class StreamObserver:
    """Writes one line (or, with a traceback, several) per event, at once."""

    def __init__(self, stream: TextIO, *, is_json: bool) -> None:
        self._stream = stream
        self._is_json = is_json

    def __call__(self, event: LogEvent) -> None:
        """Write an event."""
        text = self._as_json(event) if self._is_json else eventAsText(event, includeSystem=True)
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except OSError:
            # Nobody reads any more, and there is no other place to say so.
            return

    @staticmethod
    def _as_json(event: LogEvent) -> str:
        fields: dict[str, Any] = {
            "at": event["log_time"],
            "level": event["log_level"].name,
            "system": event.get("log_namespace", "-"),
            "message": formatEvent(event),
        }
        if "log_failure" in event:
            fields["traceback"] = event["log_failure"].getTraceback()
        if str(fields["system"]).startswith(OURS):
            for name, value in event.items():
                if not name.startswith("log_") and isinstance(value, str | int | float | bool | None):
                    fields.setdefault(name, value)
        return json.dumps(fields, ensure_ascii=False)


def observer(level: str, form: str, path: str | None = None) -> ILogObserver:
    """
    Return the observer for these settings.

    :param path: a file to append to, instead of standard output
    :raise OSError: the file cannot be opened
    """
    stream = sys.stdout if path is None or path == "-" else open(path, "a", encoding="utf-8")  # noqa: SIM115
    predicate = LogLevelFilterPredicate(defaultLogLevel=LEVELS[level])
    # Twisted's own chatter (factories starting and stopping) is of no use to an operator.
    predicate.setLogLevelForNamespace(
        "twisted", max(LEVELS[level], LogLevel.warn, key=list(LEVELS.values()).index)
    )
    chosen: ILogObserver = FilteringLogObserver(StreamObserver(stream, is_json=form == "json"), [predicate])
    return chosen
