"""
``twistd`` with a watch on its reactor: ``python -m tests.bench.lateness FILE TWISTD-ARGUMENTS...``.

A call that is due every 10 ms notes how late it came: pairs of doubles, unix seconds and seconds of lateness.
"""

import struct
import sys
from pathlib import Path
from typing import Any

STEP_SECONDS = 0.01
PAIR = struct.Struct("<dd")


def watch(reactor: Any, path: str) -> None:
    """Note lateness while the reactor runs."""
    file = open(path, "ab", buffering=PAIR.size * 100)  # noqa: SIM115 - as long as the process

    def tick(due: float) -> None:
        now = reactor.seconds()
        file.write(PAIR.pack(now, now - due))
        reactor.callLater(STEP_SECONDS, tick, now + STEP_SECONDS)

    reactor.callWhenRunning(tick, reactor.seconds())


def lateness(path: Path, begin: float, end: float) -> list[float]:
    """Return what was noted between two times, in seconds, sorted."""
    content = path.read_bytes()
    whole = len(content) - len(content) % PAIR.size
    return sorted(late for at, late in PAIR.iter_unpack(content[:whole]) if begin <= at <= end)


def main(path: str, *arguments: str) -> None:
    """Run twistd."""
    from twisted.internet import reactor
    from twisted.scripts.twistd import run

    watch(reactor, path)
    sys.argv = ["twistd", *arguments]
    run()


if __name__ == "__main__":
    main(*sys.argv[1:])
