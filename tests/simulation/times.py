"""
Model time: how long things take, of which the appliance knows only averages.

Figures of an LTO-9 drive and a mid-size library; the true ones of this library deviate, mount times by up to 30 %, transfers by a few
percent, and each act by some more. Sizes are those of the simulated world, where a cartridge holds some megabytes: transfers are as slow as that
makes them long. Its tape is as long as a real one, so that what lies on it is as far apart: see ``wraps``.
"""

from collections.abc import Sequence
from random import Random

from tests.simulation.wraps import LOAD_POINT, Head, Span, Wraps, rewind_seconds

MOVE_SECONDS = 15.0
LOAD_SECONDS = 16.0
FIRST_LOAD_SECONDS = 2400.0
"""Media optimisation of a new LTO-9 cartridge: 40 minutes on average, up to 132."""
FIRST_LOAD_MOST_SECONDS = 7900.0
TENSION_SECONDS = 62.0
"""A run over the tape before it comes out, one when something was moved, two when much was (published: 62, 124, 186 s in all)."""
LITTLE_PART, MUCH_PART = 5 / 17_610, 50 / 17_610
"""Something and much: 5 and 50 GB of the 17.61 TB of a cartridge."""
EJECT_SECONDS = 56.0
MOUNT_SECONDS = 30.0
FORMAT_SECONDS = 180.0
CHECK_SECONDS = 240.0
INDEX_SECONDS = 8.0
STATUS_SECONDS = 0.4
BYTES_PER_SECOND = 4096.0
"""To and from tape."""
TAPE_BYTES = 24 * 1024 * 1024
"""What a cartridge holds: filled in an hour and a half, as a real one is in twelve."""


class Times:
    """The true times of one library: ``hidden`` decides how it deviates from the figures, ``each`` about single acts."""

    def __init__(self, hidden: Random, each: Random) -> None:
        self._each = each
        self._mounting = hidden.uniform(0.7, 1.3)
        self._moving = hidden.uniform(0.8, 1.25)
        self._speed = hidden.uniform(0.95, 1.05)
        self._wraps = hidden.uniform(0.99, 1.01)

    def _about(self, seconds: float) -> float:
        return seconds * self._each.uniform(0.9, 1.15)

    def capacity(self, nominal_bytes: int) -> int:
        """Where the end of a tape really is."""
        return int(nominal_bytes * self._wraps)

    def move(self) -> float:
        """The robot moves a cartridge."""
        return self._about(MOVE_SECONDS * self._moving)

    def load(self, *, is_first: bool) -> float:
        """A drive threads a tape; the first time of all it measures it through."""
        if is_first:
            return min(FIRST_LOAD_MOST_SECONDS, FIRST_LOAD_SECONDS * self._each.lognormvariate(0.0, 0.4))
        return self._about(LOAD_SECONDS)

    def offline(self, head: Head) -> float:
        """A drive rewinds, evens out the tension of the tape, and lets go of it."""
        runs = (head.moved_bytes >= LITTLE_PART * TAPE_BYTES) + (head.moved_bytes >= MUCH_PART * TAPE_BYTES)
        return self._about(rewind_seconds(head.place) + TENSION_SECONDS * runs + EJECT_SECONDS)

    def locate(self, head: Head, wraps: Wraps, spans: Sequence[Span]) -> float:
        """A drive gets to bytes, one span after the other, and passes over them; without the bytes' own time."""
        return self._about(head.pass_over(wraps, spans))

    def close(self, head: Head, wraps: Wraps, end_bytes: int) -> float:
        """A volume that was written gets its index behind the last file, and then at the load point."""
        if not head.has_written:
            return 0.0
        head.has_written = False
        return self.locate(head, wraps, [(end_bytes, 0)]) + self._about(INDEX_SECONDS + head.go(LOAD_POINT))

    def operation(self, name: str, size_bytes: int) -> float:
        """The tape file system or the mover does something."""
        if name in ("mount", "unmount"):
            return self._about(MOUNT_SECONDS * self._mounting)
        if name in ("write", "put"):
            return self.transfer(size_bytes) + self._about(1.0)
        if name in ("verify", "read"):
            return self.transfer(size_bytes)
        return self._about(
            {"format": FORMAT_SECONDS, "check": CHECK_SECONDS, "sync": INDEX_SECONDS}.get(name, 0.2)
        )

    def transfer(self, size_bytes: int) -> float:
        """Bytes go to or from tape."""
        return size_bytes / (BYTES_PER_SECOND * self._speed)
