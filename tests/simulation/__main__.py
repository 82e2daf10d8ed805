"""``python -m tests.simulation``: see ``tests/simulate``."""

import argparse
import sys
import time

import twisted.logger

from tests.simulation.trial_run import play


def main() -> int:
    """Play seeds; return the exit status."""
    parser = argparse.ArgumentParser(prog="tests/simulate")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--hours", type=float, default=72.0)
    parser.add_argument("--story", action="store_true")
    parser.add_argument("--log", action="store_true")
    options = parser.parse_args()
    observers = [twisted.logger.textFileLogObserver(sys.stderr)] if options.log else []
    twisted.logger.globalLogBeginner.beginLoggingTo(observers, redirectStandardIO=False)
    # Coroutines of the dead are thrown away in the middle of what they did, and protest.
    sys.unraisablehook = lambda _: None
    first = options.first_seed if options.seed is None else options.seed
    bad = 0
    for seed in range(first, first + (options.seeds if options.seed is None else 1)):
        begun = time.process_time()
        verdict = play(seed, hours=options.hours, keeps_story=options.story)
        took = time.process_time() - begun
        world = verdict.world
        assert world is not None
        if options.story:
            print("\n".join(world.story))
        print(
            f"seed {seed}: {'good' if verdict.is_good else 'BAD'}, {verdict.virtual_seconds / 3600:.0f} h, {world.lives} lives, "
            f"{world.floor.library.moves} moves, {sum(world.chance.counts.values())} faults, {took:.1f} s",
            flush=True,
        )
        for complaint in verdict.complaints[:6]:
            print("   ", complaint[:3000])
        bad += not verdict.is_good
        del verdict, world
    return 1 if bad else 0


sys.exit(main())
