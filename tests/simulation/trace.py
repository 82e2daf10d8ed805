"""
A digest of everything that an appliance did to its world: equal worlds have equal ones.

``python -m tests.simulation.trace SEED HOURS`` prints that of a small world; what PYTHONHASHSEED is must not show.
"""

import hashlib
import sys

from tests.simulation.chance import Rates
from tests.simulation.trial_run import play, silence
from tests.simulation.world import Shape, World

SMALL = Shape(clients=4, operations_per_hour=120.0)


class Trace:
    """Takes every effect with its moment, and at the end what lies in the world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._sum = hashlib.sha256()
        world.trace = self._effect

    def _effect(self, what: str) -> None:
        self._sum.update(f"{self._world.reactor.seconds()!r} {what}\n".encode())

    def digest(self) -> str:
        """The digest of what has happened so far and what has come of it: record, tapes, messages; hexadecimal."""
        whole = self._sum.copy()
        world = self._world
        for line in world.database.connection.iterdump():
            whole.update(line.encode())
        for barcode, medium in sorted(world.floor.tapes.media.items()):
            whole.update(repr((barcode, medium.generation, medium.written_bytes)).encode())
            for path, file in sorted(medium.tree.files.items()):
                whole.update(path.encode() + hashlib.sha256(file.content).digest())
        whole.update(repr((world.reactor.events, world.lives, sorted(world.chance.counts.items()))).encode())
        return whole.hexdigest()


def digest(seed: int, hours: float, *, rates: Rates | None = None, keeps_story: bool = False) -> str:
    """Play a small world; return its digest."""
    traces: list[Trace] = []
    play(
        seed,
        hours=hours,
        rates=rates,
        shape=SMALL,
        settles=False,
        keeps_story=keeps_story,
        prepare=lambda world: traces.append(Trace(world)),
    )
    return traces[0].digest()


def main(seed: str, hours: str) -> None:
    """Print the digest of a world."""
    silence()
    print(digest(int(seed), float(hours)))


if __name__ == "__main__":
    main(*sys.argv[1:])
