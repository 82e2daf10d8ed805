"""
Model time: what a real library would take, scaled, charged by the programs as real waiting.

The defaults are zero: a library without latency answers at once. Typical full-height LTO-8 figures are load 15 s, unload 24 s, average
locate and rewind 59 s; a small autoloader's exchange takes about 26 s (published drive and library specifications).
"""

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Seconds of each step before scaling; ``bytes_per_second`` 0 means as fast as the machine can."""

    move: float = 0.0
    load: float = 0.0
    unload: float = 0.0
    locate: float = 0.0
    rewind: float = 0.0
    format: float = 0.0
    index: float = 0.0
    bytes_per_second: float = 0.0
    scale: float = 1.0

    def seconds(self, step: str) -> float:
        """Return the scaled seconds of a step by its name."""
        return float(getattr(self, step)) * self.scale

    def locate_seconds(self, distance_blocks: int, partition_blocks: int) -> float:
        """
        Return the scaled seconds of a locate over a distance.

        Linear, with a fixed tenth, so that the average distance from the start costs ``locate``.
        """
        if distance_blocks == 0 or not self.locate:
            return 0.0
        fraction = min(1.0, abs(distance_blocks) / max(1, partition_blocks))
        return self.locate * (0.1 + 1.8 * fraction) * self.scale

    def stream_seconds(self, size_bytes: int) -> float:
        """Return the scaled seconds that so many bytes take at the native rate."""
        return size_bytes / self.bytes_per_second * self.scale if self.bytes_per_second else 0.0


def charge(seconds: float) -> None:
    """Let model time pass."""
    if seconds > 0:
        time.sleep(seconds)
