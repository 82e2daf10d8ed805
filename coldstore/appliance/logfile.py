"""A log file on a disk that may run full: it holds whole lines, and says how many it does not hold."""

import errno
import io
from collections.abc import Callable
from typing import TextIO, cast

from twisted.logger import ILogObserver, Logger

FULL = (errno.ENOSPC, errno.EDQUOT)


class LogFile(io.TextIOBase):
    """
    A stream for a ``StreamObserver``. What finds no room is counted instead of raised; once there is room again a line tells of
    it, before the next one. A line that found room in part is completed first.
    """

    def __init__(self, raw: io.RawIOBase, notice: Callable[[int], str]) -> None:
        """
        :param raw: where bytes are appended, unbuffered
        :param notice: the line (without its end) that tells of so many that are missing
        """
        self._raw = raw
        self._notice = notice
        self._missing = 0
        self._rest = b""
        """What is still to be written of a line that found room in part."""

    def write(self, text: str) -> int:
        """
        Append what consists of whole lines.

        :raise OSError: for other reasons than a lack of room
        """
        try:
            self._finish()
            if self._missing:
                self._append(self._notice(self._missing) + "\n")
                self._missing = 0
            self._append(text)
        except OSError as error:
            if error.errno not in FULL:
                raise
            self._missing += 1
        return len(text)

    def _append(self, text: str) -> None:
        """Write all of a text, or nothing, or have the rest of it wait."""
        self._finish()
        encoded = self._rest = text.encode(errors="backslashreplace")
        try:
            self._finish()
        except OSError as error:
            if len(self._rest) == len(encoded):
                self._rest = b""
                raise
            if error.errno not in FULL:
                raise

    def _finish(self) -> None:
        while self._rest:
            written = self._raw.write(self._rest)
            if written is None:
                raise BlockingIOError(errno.EAGAIN, "the log takes nothing at the moment")
            self._rest = self._rest[written:]


def log_file(raw: io.RawIOBase, observer_of: Callable[[TextIO], ILogObserver]) -> TextIO:
    """
    Return a stream into a file that tells of what is missing in the form of its other lines.

    :param observer_of: gives what writes an event into a stream in that form
    """

    def notice(count: int) -> str:
        lines = io.StringIO()
        Logger(namespace=__name__, observer=observer_of(lines)).error(
            "the disk was full: {count} lines before this one could not be written", count=count
        )
        return lines.getvalue().rstrip("\n")

    return cast(TextIO, LogFile(raw, notice))
