"""How slow a client may be whose turn it is."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """
    The least that must move: ``least_bytes`` in every ``window_seconds``.

    A client that sends or takes less holds room on the disk, or bytes that may have to go, for hardly anything: it loses its
    connection. Time in which we hold it back does not count.
    """

    least_bytes: int = 16 * 1024
    window_seconds: float = 120.0


def pace_of(rate_bytes: int, window_seconds: float) -> Pace:
    """Return the pace of so many bytes a second on the average of a window."""
    return Pace(least_bytes=max(1, int(rate_bytes * window_seconds)), window_seconds=window_seconds)
