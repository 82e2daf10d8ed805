"""
How fast the simulated appliance lives: ``python -m tests.bench.bench_simulation [hours] [seeds]``.

Virtual seconds in a minute of one core, of a busy appliance (two drives, forty cartridges, eight clients) without faults and with them,
judged as always. Beside it a fixed piece of Python in the same moments: machines are noisy, and so the ratio says more than the rate.
"""

import sys
import time

from tests.bench.results import Figure, Report, Wanted, middle
from tests.simulation.chance import NO_FAULTS, Rates
from tests.simulation.invariants import Judge
from tests.simulation.trial_run import LOOK_HOURS, Watch, silence
from tests.simulation.world import World

WANTED = 1_000_000
"""Virtual seconds in a minute of a core."""
STEPS = 400_000


def yardstick() -> float:
    """Return the processor seconds of a piece of Python that never changes."""
    begun = time.process_time()
    kept: dict[int, tuple[int, str]] = {}
    for step in range(STEPS):
        kept[step & 1023] = step, str(step)
    return time.process_time() - begun


def one(seed: int, hours: float, rates: Rates | None) -> tuple[float, float, dict[str, float]]:
    """Live so many hours; return the processor seconds, those of the yardstick beside them, and what went on in an hour."""
    begun = time.process_time()
    world = World(seed, rates=rates)
    watch = Watch(world, Judge(world))
    world.begin()
    seconds = time.process_time() - begun
    beside = []
    passed = 0.0
    while passed < hours:
        beside.append(yardstick())
        begun = time.process_time()
        watch.pass_hours(min(LOOK_HOURS, hours - passed))
        seconds += time.process_time() - begun
        assert not watch.found, watch.found
        passed += LOOK_HOURS
    went_on = {
        "operations": sum(client.operations for client in world.clients) / hours,
        "mounts": world.floor.counts["mount"] / hours,
        "faults": sum(world.chance.counts.values()) / hours,
    }
    return seconds, middle(beside), went_on


def main(hours: float, seeds: int) -> None:
    """Measure."""
    silence()
    report = Report("simulation")
    rates: dict[str, Rates | None] = {"without faults": NO_FAULTS, "with faults": None}
    for what, each in rates.items():
        runs = [one(seed, hours, each) for seed in range(1, seeds + 1)]
        went_on = {name: middle([run[2][name] for run in runs]) for name in runs[0][2]}
        speed = middle([hours * 3600 / (seconds / 60) for seconds, _, _ in runs])
        report.add(
            Figure(
                what=f"an appliance {what}",
                value=speed,
                unit="virtual s/core-minute",
                baseline=f"{went_on['operations']:.0f} operations, {went_on['mounts']:.1f} mounts, {went_on['faults']:.1f} faults an hour; "
                f"{STEPS:,} steps of Python in {middle([beside for _, beside, _ in runs]):.3f} s",
                ratio=middle([hours * beside / seconds for seconds, beside, _ in runs]),
                wanted=Wanted(of="what is asked", figure=WANTED, times=1.0),
                more=went_on,
            )
        )
    report.finish()


if __name__ == "__main__":
    hours, seeds = (*sys.argv[1:], *("24", "3")[len(sys.argv) - 1 :])
    main(float(hours), int(seeds))
