"""The log: lines for people or JSON objects for programs, on standard output or in the file that twistd was given."""

import io
import json
import os
import stat
import sys
from functools import lru_cache
from typing import Any, TextIO

from twisted.logger import (
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    eventAsText,
    formatEvent,
    formatTime,
)
from zope.interface import implementer

from coldstore.appliance.logfile import log_file

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
        text = self._as_json(event) if self._is_json else _as_line(event)
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
            "message": _sentence(event),
        }
        if "log_failure" in event:
            fields["traceback"] = event["log_failure"].getTraceback()
        if str(fields["system"]).startswith(OURS):
            for name, value in event.items():
                if not name.startswith("log_") and isinstance(value, str | int | float | bool | None):
                    fields.setdefault(name, value)
        return json.dumps(fields, ensure_ascii=False)


@implementer(ILogObserver)
class LevelFilter:
    """Passes on what has the level that is asked of its namespace; remembers the answers, of which there are few."""

    def __init__(self, levels: LogLevelFilterPredicate, passed: ILogObserver) -> None:
        self._levels = levels
        self._passed = passed
        self._known: dict[tuple[str, Any], bool] = {}

    def __call__(self, event: LogEvent) -> None:
        """Pass an event on, or drop it."""
        namespace, level = event.get("log_namespace", ""), event.get("log_level")
        passes = self._known.get((namespace, level))
        if passes is None:
            passes = level is not None and level >= self._levels.logLevelForNamespace(namespace)
            self._known[namespace, level] = passes
        if passes:
            self._passed(event)


def _sentence(event: LogEvent) -> str:
    """
    Return what an event says.

    ``formatEvent`` goes through every format in Python, for the sake of fields that are called (``{x()}``) and of events from a
    file; the log of a busy endpoint took a fifth of its time so.
    """
    form = event.get("log_format")
    if isinstance(form, str) and "()" not in form and "log_flattened" not in event:
        try:
            return form.format_map(event)
        except Exception:  # noqa: BLE001 - formatEvent has words for what is wrong with it
            return formatEvent(event)
    return formatEvent(event)


def _as_line(event: LogEvent) -> str:
    """Return what ``eventAsText`` does."""
    sentence = "" if "log_failure" in event or "log_system" in event else _sentence(event)
    if not sentence:
        return eventAsText(event, includeSystem=True)
    origin = f"{event.get('log_namespace', '-')}#{event['log_level'].name}"
    return f"{_time_of(int(event['log_time']))} [{origin}] {sentence}"


@lru_cache(maxsize=4)
def _time_of(at: int) -> str:
    return formatTime(at)


def _file_behind(stream: TextIO) -> io.RawIOBase | None:
    """Return the file that a shell has redirected a stream into; None when it is a terminal, a pipe, a socket or in memory."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return None
    return open(descriptor, "ab", buffering=0, closefd=False)


def observer(level: str, form: str, path: str | None = None) -> ILogObserver:
    """
    Return the observer for these settings.

    Into a file, standard output redirected into one too, whole lines go, however full its disk is.

    :param path: a file to append to, instead of standard output
    :raise OSError: the file cannot be opened
    """
    # A shell can close standard output, which Python has none of then.
    standard = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    raw = _file_behind(standard) if path in (None, "-") else open(path, "ab", buffering=0)  # noqa: SIM115
    stream = (
        standard
        if raw is None
        else log_file(raw, lambda lines: StreamObserver(lines, is_json=form == "json"))
    )
    predicate = LogLevelFilterPredicate(defaultLogLevel=LEVELS[level])
    # Twisted's own chatter (factories starting and stopping) is of no use to an operator.
    predicate.setLogLevelForNamespace(
        "twisted", max(LEVELS[level], LogLevel.warn, key=list(LEVELS.values()).index)
    )
    return LevelFilter(predicate, StreamObserver(stream, is_json=form == "json"))
