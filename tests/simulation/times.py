"""
Model time: how long things take, of which the appliance knows only averages.

Figures of an LTO-9 drive and a mid-size library; the true ones of this library deviate, mount times by up to 30 %, transfers by a few
percent, and each act by some more. Sizes are those of the simulated world, where a cartridge holds some megabytes: transfers are as slow as that
makes them long.
"""

from random import Random

MOVE_SECONDS = 15.0
LOAD_SECONDS = 16.0
FIRST_LOAD_SECONDS = 2400.0
"""Media optimisation of a new LTO-9 cartridge: 40 minutes on average, up to 132."""
FIRST_LOAD_MOST_SECONDS = 7900.0
REWIND_SECONDS = (62.0, 124.0, 186.0)
EJECT_SECONDS = 56.0
LOCATE_SECONDS = 65.0
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

    def offline(self) -> float:
        """A drive rewinds and lets go of its tape."""
        return self._about(self._each.choice(REWIND_SECONDS) + EJECT_SECONDS)

    def operation(self, name: str, size_bytes: int) -> float:
        """The tape file system or the mover does something."""
        if name in ("mount", "unmount"):
            return self._about(MOUNT_SECONDS * self._mounting)
        if name in ("write", "put"):
            return self.transfer(size_bytes) + self._about(1.0)
        if name in ("verify", "read"):
            return self.transfer(size_bytes) + self._about(LOCATE_SECONDS)
        return self._about(
            {"format": FORMAT_SECONDS, "check": CHECK_SECONDS, "sync": INDEX_SECONDS}.get(name, 0.2)
        )

    def transfer(self, size_bytes: int) -> float:
        """Bytes go to or from tape."""
        return size_bytes / (BYTES_PER_SECOND * self._speed)
