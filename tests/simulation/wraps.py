"""
Where a drive's head is over its serpentine tape, and how long it takes to get elsewhere: an LTO-9 drive, in metres and seconds.

The tape runs under the head from one end to the other 280 times, outward on even wraps and back on odd ones, in four bands of 70. Wraps 0 and 1 are
LTFS's index partition, the next four guard, and 274 hold the data (open LTFS reports those sizes); 1,000 of its 1,035 metres can be used. The
kinematics are a model: it locates with 9.2 m/s and reads with 6.2, and has to come to the right place in the right direction, some metres early. From the
load point to somewhere it takes 64 s on average by that, of which IBM says 65; to the load point 60, of which IBM says 62.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import sqrt
from random import Random

WRAPS, BANDS = 280, 4
FIRST_DATA_WRAP, DATA_WRAPS = 6, 274
METRES = 1000.0
READ_SPEED, LOCATE_SPEED = 6.2, 9.2
ACCELERATION = 4.0
"""Metres per second squared."""
RUN_UP_METRES = 8.0
REVERSAL_SECONDS = 2.0
SETTLE_SECONDS = 2.0
OTHER_WRAP_SECONDS, OTHER_BAND_SECONDS = 1.0, 3.0
DEVIATION = 0.01
"""By what part of its nominal place a wrap may end early or late. Half of that a cartridge's wraps have in common."""

Span = tuple[int, int]
"""Position in the data partition and length, in bytes."""


@dataclass(frozen=True, slots=True)
class Place:
    """A wrap, and how far from the load point."""

    wrap: int
    metres: float

    @property
    def direction(self) -> int:
        """Whether reading goes outward there (1) or back (-1)."""
        return -1 if self.wrap % 2 else 1

    @property
    def band(self) -> int:
        """In which part of the tape's width it is."""
        return self.wrap * BANDS // WRAPS


LOAD_POINT = Place(0, 0.0)


class Wraps:
    """Where the data wraps of one cartridge end. No planner can know: ``hidden`` decides."""

    def __init__(self, capacity_bytes: int, hidden: Random) -> None:
        nominal, half = capacity_bytes / DATA_WRAPS, DEVIATION / 2
        own = hidden.uniform(-half, half)
        lengths = (nominal * (1 + own + hidden.uniform(-half, half)) for _ in range(DATA_WRAPS))
        self.ends_bytes = list(accumulate(lengths))

    def place(self, position_bytes: float) -> Place:
        """Where a byte of the data partition is; past the last wrap's end is that end."""
        index = min(bisect_right(self.ends_bytes, position_bytes), DATA_WRAPS - 1)
        begin = self.ends_bytes[index - 1] if index else 0.0
        part = min(1.0, (position_bytes - begin) / (self.ends_bytes[index] - begin))
        wrap = FIRST_DATA_WRAP + index
        return Place(wrap, METRES * (1.0 - part if wrap % 2 else part))


def run_seconds(metres: float) -> float:
    """How long the tape takes to run so far, from standstill to standstill."""
    if metres >= LOCATE_SPEED**2 / ACCELERATION:
        return metres / LOCATE_SPEED + LOCATE_SPEED / ACCELERATION
    return 2 * sqrt(metres / ACCELERATION)


def locate_seconds(here: Place, there: Place) -> float:
    """How long it takes from having read or written up to one place until another can be read."""
    early = there.metres - RUN_UP_METRES * there.direction
    way = 1 if early > here.metres else -1
    reversals = (way != here.direction) + (way != there.direction)
    seconds = (
        run_seconds(abs(early - here.metres))
        + REVERSAL_SECONDS * reversals
        + RUN_UP_METRES / READ_SPEED
        + SETTLE_SECONDS
        + OTHER_WRAP_SECONDS * (here.wrap != there.wrap)
        + OTHER_BAND_SECONDS * (here.band != there.band)
    )
    ahead = (there.metres - here.metres) * there.direction
    if here.wrap == there.wrap and ahead >= 0:
        return min(seconds, ahead / READ_SPEED)
    return seconds


def rewind_seconds(here: Place) -> float:
    """How long it takes to the load point."""
    if here == LOAD_POINT:
        return 0.0
    return run_seconds(here.metres) + REVERSAL_SECONDS * (here.direction > 0) + SETTLE_SECONDS


@dataclass(slots=True)
class Head:
    """
    What a drive remembers of the tape in it since it was threaded.

    :ivar moved_bytes: what was read and written
    :ivar has_written: since the last mount
    """

    place: Place = LOAD_POINT
    moved_bytes: int = 0
    has_written: bool = False

    def go(self, place: Place) -> float:
        """Go somewhere; return how long that takes."""
        seconds = locate_seconds(self.place, place)
        self.place = place
        return seconds

    def pass_over(self, wraps: Wraps, spans: Sequence[Span]) -> float:
        """Read or write spans one after the other; return how long it takes to get to them, without the bytes' own time."""
        seconds = 0.0
        for position_bytes, length_bytes in spans:
            seconds += self.go(wraps.place(position_bytes))
            self.place = wraps.place(position_bytes + length_bytes)
            self.moved_bytes += length_bytes
        return seconds
