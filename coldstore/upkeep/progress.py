"""How far something is: a bar on a terminal, a line now and then elsewhere."""

from collections.abc import Callable
from typing import TextIO

from coldstore.util.tables import duration

BAR_WIDTH = 30
REDRAW_SECONDS = 0.2
LINE_SECONDS = 10.0
ESTIMATE_SECONDS = 2.0
"""Before so long nobody knows how long it takes."""


class Progress:
    """Shows one stage after the other."""

    def __init__(self, stream: TextIO, seconds: Callable[[], float], *, is_terminal: bool) -> None:
        self._stream = stream
        self._seconds = seconds
        self._is_terminal = is_terminal
        self._stage = ""
        self._begun = self._shown = 0.0
        self._last = (0, 0)

    def __call__(self, stage: str, done: int, expected: int) -> None:
        """Show that so much is done, of about so much; 0 when nobody knows of how much."""
        now = self._seconds()
        if stage != self._stage:
            self.end()
            self._stage, self._begun, self._shown = stage, now, now
            if not self._is_terminal:
                self._stream.write(f"{stage}{f' {expected} rows' if expected else ''}\n")
                self._stream.flush()
        self._last = done, expected
        if now - self._shown >= (REDRAW_SECONDS if self._is_terminal else LINE_SECONDS):
            self._shown = now
            self._show(now)

    def end(self) -> None:
        """Show how the last stage ended."""
        if self._stage:
            self._show(self._seconds())
            if self._is_terminal:
                self._stream.write("\n")
                self._stream.flush()
        self._stage = ""

    def _show(self, now: float) -> None:
        done, expected = self._last
        took = now - self._begun
        rate = f", {done / took:.0f}/s" if took > 0 else ""
        if not expected:
            text = f"{self._stage}: {done} rows{rate}"
            self._stream.write(f"\r{text}\x1b[K" if self._is_terminal else f"{text}\n")
            self._stream.flush()
            return
        share = min(1.0, done / expected)
        left = ""
        if 0 < share < 1 and took >= ESTIMATE_SECONDS:
            left = f", {duration(took / share - took)} left"
        text = f"{self._stage}: {done} of {expected} rows ({100 * share:.0f} %{rate}{left})"
        if self._is_terminal:
            filled = int(BAR_WIDTH * share)
            self._stream.write(f"\r[{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {text}\x1b[K")
        else:
            self._stream.write(f"{text}\n")
        self._stream.flush()
