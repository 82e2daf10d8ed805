"""
Play the whole appliance in simulated worlds, one for each seed, and judge it: ``tests/simulate``.

    tests/simulate --seeds 10000 --jobs 2      many seeds, after the regressions; stops at the first bad one, and makes it small
    tests/simulate --seed 17 --story           what happens in one
    tests/simulate --seed 17 --picture F.svg   what its drives do
    tests/simulate --case 'seed=17 hours=31 faults=kill'

The exit status is 1 if a case was bad.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from twisted.logger import textFileLogObserver

from tests.simulation.case import HOURS, Case, case_of, regressions
from tests.simulation.picture import picture
from tests.simulation.players import Players
from tests.simulation.report import Report, play_case
from tests.simulation.shrink import Shrinking, kind
from tests.simulation.summary import Summary
from tests.simulation.trial_run import silence
from tests.simulation.world import BEGINNING, World

COMPLAINTS_SHOWN = 6
COMPLAINT_LENGTH = 2000
LINES_MOST = 30
"""Of so many cases each has a line; of more only the bad ones."""
PROGRESS_SECONDS = 15.0


def options_of(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="tests/simulate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--seed", type=int, help="play this seed alone")
    which.add_argument("--seeds", type=int, default=1, help="play so many")
    which.add_argument("--case", type=_case, help="play a case, as regressions.txt has them")
    parser.add_argument("--first-seed", type=int, default=1, metavar="SEED")
    parser.add_argument("--hours", type=float, default=HOURS, help="virtual hours of faults (%(default)g)")
    parser.add_argument("--jobs", type=int, default=1, help="processes that play (%(default)s)")
    parser.add_argument("--go-on", action="store_true", help="do not stop at the first bad seed")
    parser.add_argument(
        "--shrink-minutes",
        type=float,
        default=5.0,
        metavar="MINUTES",
        help="how long the first bad case is made smaller (%(default)g; 0: not at all)",
    )
    parser.add_argument("--story", action="store_true", help="tell what happens; for one case")
    parser.add_argument("--picture", type=Path, metavar="FILE.svg", help="draw what drives do; for one case")
    parser.add_argument("--log", action="store_true", help="show the appliance's log; for one case")
    options = parser.parse_args(arguments)
    if options.seeds < 1 or options.jobs < 1 or options.hours <= 0:
        parser.error("seeds, jobs and hours are more than none")
    return options


def _case(text: str) -> Case:
    try:
        return case_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def play_one(case: Case, options: argparse.Namespace) -> Report:
    """Play a case here, with story and picture as they are wanted."""
    silence([textFileLogObserver(sys.stderr)] if options.log else [])
    worlds: list[World] = []
    report = play_case(case, keeps_story=options.story or options.picture is not None, prepare=worlds.append)
    (world,) = worlds
    if options.story:
        print("\n".join(report.story))
    if options.picture is not None and world.floor.history is not None:
        drawn = picture(
            world.floor.history,
            title=str(report),
            drives=len(world.floor.library.drives),
            begins_at=BEGINNING,
            ends_at=world.reactor.seconds(),
        )
        options.picture.write_text(drawn)
    print(report, flush=True)
    show_complaints(report)
    return report


def shortened(complaint: str) -> str:
    """Of a long traceback the beginning and, mostly, the end."""
    if len(complaint) <= COMPLAINT_LENGTH:
        return complaint
    return f"{complaint[: COMPLAINT_LENGTH // 8]}\n    ...\n{complaint[-COMPLAINT_LENGTH:]}"


def show_complaints(report: Report) -> None:
    """Print what is wrong."""
    for complaint in report.complaints[:COMPLAINTS_SHOWN]:
        print("   ", shortened(complaint))
    if len(report.complaints) > COMPLAINTS_SHOWN:
        print(f"    and {len(report.complaints) - COMPLAINTS_SHOWN} more")
    sys.stdout.flush()


def play_many(cases: Iterator[Case], count: int, options: argparse.Namespace, summary: Summary) -> None:
    """Play cases in several processes; stop at the first bad one unless told to go on."""
    shown_at = time.monotonic()
    with Players(options.jobs) as players:
        for report in players.play(cases):
            summary.add(report)
            if not report.is_good or count <= LINES_MOST:
                print(report, flush=True)
                show_complaints(report)
            if not report.is_good and not options.go_on:
                return
            if time.monotonic() - shown_at > PROGRESS_SECONDS:
                shown_at = time.monotonic()
                print(summary.progress(count), flush=True)


def make_small(report: Report, minutes: float) -> None:
    """Make a bad case smaller, and print what is left of it."""
    silence()
    end = time.monotonic() + minutes * 60
    print(f"making it smaller, for {minutes:g} minutes at most: {kind(report.complaints[0])}", flush=True)
    small = Shrinking(
        report,
        play=play_case,
        is_over=lambda: time.monotonic() > end,
        told=lambda smaller: print("   ", smaller.case, flush=True),
    ).run()
    show_complaints(small)
    print(f"what is left: tests/simulate --story --case '{small.case}'")
    print(f"for regressions.txt: {small.case}  # {kind(small.complaints[0])}", flush=True)


def main(arguments: list[str]) -> int:
    """Play what the command line names; return the exit status."""
    options = options_of(arguments)
    if options.case is not None or options.seed is not None:
        case = options.case or Case(seed=options.seed, hours=options.hours)
        return 0 if play_one(case, options).is_good else 1
    first = options.first_seed
    before = regressions()
    seeds = (Case(seed=seed, hours=options.hours) for seed in range(first, first + options.seeds))
    summary = Summary()
    status = 0
    try:
        play_many(chain(before, seeds), len(before) + options.seeds, options, summary)
        if summary.bad and options.shrink_minutes > 0:
            make_small(summary.bad[0], options.shrink_minutes)
    except KeyboardInterrupt:
        print("interrupted")
        status = 130
    print(summary)
    return 1 if summary.bad else status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
