"""A program that writes and discards pieces until it is killed, and says on stdout what the disk has acknowledged."""

import os
import sys
from pathlib import Path
from random import Random
from typing import cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from coldstore.disk.staging import DiskStaging
from coldstore.disk.threads import Reactor
from coldstore.util.asynchronous import returns_deferred
from tests.contract.staging_contract import CAPACITY_BYTES, KIB, MIB, content_of, put

SIZES = (100, 5000, 60 * KIB, 250 * KIB, 300 * KIB, 5 * MIB)


def say(*words: object) -> None:
    """One line, in one write."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


@returns_deferred
async def writing(staging: DiskStaging, dice: Random) -> None:
    """Put and discard without end."""
    mine: list[str] = []
    while True:
        if len(mine) > 5 and dice.random() < 0.4:
            gone = [mine.pop(dice.randrange(len(mine))) for _ in range(3)]
            for address in gone:
                say("discarding", address)
            await staging.discard(gone)
            for address in gone:
                say("discarded", address)
            continue
        size, seed = dice.choice(SIZES), dice.randrange(1 << 30)
        received = await put(staging, content_of(size, seed), frozenset({"md5"}))
        say("put", received.address, size, seed)
        mine.append(received.address)


@returns_deferred
async def main() -> None:
    """Start, then write in four loops at once."""
    directory, run, seed = sys.argv[1:]
    staging = DiskStaging(
        reactor=cast(Reactor, reactor),
        random=Random(f"{run}-{seed}"),
        run=run,
        directory=Path(directory),
        capacity_bytes=4 * CAPACITY_BYTES,
        segment_bytes=MIB,
    )
    await staging.start()
    say("started")
    dice = Random(int(seed))
    for _ in range(4):
        writing(staging, Random(dice.random())).addErrback(ended)


def ended(failure: object) -> None:
    """A loop ended, which it never should."""
    say("failed", failure)
    os._exit(1)


def begin() -> None:
    """Start once the reactor runs."""
    started: Deferred[None] = main()
    started.addErrback(ended)


if __name__ == "__main__":
    from twisted.internet import reactor as running

    running.callWhenRunning(begin)  # type: ignore[attr-defined]
    running.run()  # type: ignore[attr-defined]
