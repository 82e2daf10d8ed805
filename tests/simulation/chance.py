"""
What goes wrong, and when: one seed, streams of its own for each thing that is decided, so that a fault more changes no other choice.

Rates are per act. A storm multiplies those of a few faults for some hours: troubles come together, in the field as well.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from random import Random

HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """How often each fault happens, per act; ``off`` none does."""

    rates: Mapping[str, float] = field(default_factory=dict)

    def __getitem__(self, fault: str) -> float:
        return self.rates.get(fault, 0.0)


NO_FAULTS = Rates()

TAKEOVER = "another machine takes over"

FAULTS: Mapping[str, tuple[float, str]] = {
    # name: (rate per act in ordinary times, the act)
    "kill": (0.1, "a virtual hour"),
    "power cut": (0.04, "a virtual hour"),
    "kill while starting": (0.3, "a start"),
    "clock step": (0.02, "a virtual hour"),
    "database lost before commit": (0.0005, "a commit"),
    "database lost after commit": (0.0005, "a commit"),
    "database away": (0.03, "a virtual hour"),
    "disk write error": (0.0002, "a write"),
    "disk sync error": (0.0005, "a sync"),
    "disk read error": (0.0002, "a read"),
    "disk full": (0.03, "a virtual hour"),
    "disk bit flip": (0.3, "a power cut"),
    "disk read-only": (0.01, "a virtual hour"),
    "robot refuses": (0.01, "a move"),
    "robot hangs": (0.005, "a move"),
    "robot jams": (0.001, "a move"),
    "wrong cartridge": (0.003, "a load"),
    "library away": (0.002, "an inventory"),
    "inventory garbled": (0.002, "an inventory"),
    "status garbled": (0.002, "a status"),
    "barcode unreadable": (0.03, "a virtual hour"),
    "barcode double": (0.01, "a virtual hour"),
    "barcode vanishes": (0.02, "a virtual hour"),
    "cartridge pulled": (0.03, "a virtual hour"),
    "drive dead": (0.01, "a virtual hour"),
    "drive keeps its tape": (0.003, "an unload"),
    "drive slow": (0.01, "a load"),
    "format fails": (0.02, "a format"),
    "check fails": (0.02, "a check"),
    "mount fails": (0.01, "a mount"),
    "mount hangs": (0.005, "a mount"),
    "tape write error": (0.003, "a write to tape"),
    "tape read error": (0.003, "a read from tape"),
    "tape bit flip": (0.004, "a write to tape"),
    "tape rot": (0.01, "a virtual hour"),
    "bad block": (0.01, "a virtual hour"),
    "cartridge worn": (0.002, "a load"),
    "mover dies": (0.003, "a transfer"),
    "mover hangs": (0.002, "a transfer"),
    "sync fails": (0.005, "an index"),
    "index lost": (0.005, "an unmount"),
    "unmount hangs": (0.003, "an unmount"),
    "ltfs dies": (0.02, "a virtual hour"),
    "webhook away": (0.03, "a virtual hour"),
    "client hangs up": (0.02, "a request"),
    TAKEOVER: (0.05, "a virtual hour"),
}
"""Everything that can be switched on, with its rate in ordinary times and what that is a rate of."""

STORMY = [name for name in FAULTS if name != TAKEOVER]
"""Those that come together. A machine that stands still has its own reasons."""
STORM_FACTOR = 20.0
STORM_HOURS = 3.0
STORMS_PER_HOUR = 0.02
STORM_FAULTS = 4


class Chance:
    """All decisions of a world."""

    def __init__(self, seed: int, rates: Rates | None = None) -> None:
        self.seed = seed
        self._streams: dict[str, Random] = {}
        self.rates = (
            Rates(rates={name: rate for name, (rate, _) in FAULTS.items()}) if rates is None else rates
        )
        self._calm = self.rates
        self.counts: dict[str, int] = {}
        """How often each fault has happened."""
        self.told: Callable[[str], None] = lambda _: None
        """Is told each fault that happens, when it is decided."""

    def stream(self, name: str) -> Random:
        """The random numbers for one kind of decision."""
        if name not in self._streams:
            self._streams[name] = Random(f"{self.seed}/{name}")
        return self._streams[name]

    def happens(self, fault: str, *, acts: float = 1.0) -> bool:
        """Decide whether a fault happens in so many acts, and count it."""
        rate = self.rates[fault]
        if rate <= 0.0 or self.stream(fault).random() >= rate * acts:
            return False
        self.counts[fault] = self.counts.get(fault, 0) + 1
        self.told(fault)
        return True

    def storm(self) -> list[str]:
        """Have some faults happen much oftener; return which."""
        # Of all there are, so that one that is switched off leaves the others of a storm what they are.
        sample = self.stream("storm").sample(STORMY, STORM_FAULTS)
        chosen = [name for name in sample if self._calm[name] > 0]
        raised = {name: min(0.5, self._calm[name] * STORM_FACTOR) for name in chosen}
        self.rates = Rates(rates={**self._calm.rates, **raised})
        return chosen

    def calm(self) -> None:
        """End a storm."""
        self.rates = self._calm

    def off(self) -> None:
        """No faults any more."""
        self.rates = self._calm = NO_FAULTS

    def without(self, fault: str) -> "Rates":
        """The rates but for one fault."""
        return replace(self._calm, rates={**self._calm.rates, fault: 0.0})
