"""Whether the metadata file answers quickly enough to be asked by the reactor's thread."""

AWAY_SECONDS = 1.0
"""How long threads do the work when it was slow."""


class Pace:
    """
    Watches how long steps take.

    While the file is in the page cache a step takes some ten microseconds, and handing it to a thread and back ten times that.
    When steps are slow on the average, because the disk has to be asked, or when somebody else holds a lock, threads wait for it
    and the reactor does not. One step that is slow for once is borne.
    """

    def __init__(self, slow_seconds: float) -> None:
        """:param slow_seconds: the moving average that is too slow."""
        self._slow_seconds = slow_seconds
        self._average_seconds = 0.0
        self._away_until = 0.0

    def is_quick(self, now: float) -> bool:
        """Whether the reactor's thread may ask."""
        return now >= self._away_until

    def took(self, now: float, seconds: float) -> None:
        """Take note of a step, or of the average of several."""
        self._average_seconds += (seconds - self._average_seconds) / 8
        if self._average_seconds > self._slow_seconds:
            self.blocked(now)

    def blocked(self, now: float) -> None:
        """It would have had to wait."""
        self._away_until, self._average_seconds = now + AWAY_SECONDS, 0.0
