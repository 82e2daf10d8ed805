"""
The process that an appliance has make a dump: beside its own, so that neither waits for the other.

It gets the settings that the appliance runs with, not those that a file says by now.
"""

import os
import pickle
import sys
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

from coldstore.config.schema import Configuration, Metadata
from coldstore.upkeep.dumps import clear_leftovers, path_for
from coldstore.upkeep.running import carry_out

NICENESS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to dump, and when that was decided (unix seconds)."""

    state_directory: str
    metadata: Metadata
    at: float

    @property
    def settings(self) -> Configuration:
        """The settings, all others at their defaults."""
        return Configuration(state_directory=self.state_directory, metadata=self.metadata)

    def descriptor(self) -> int:
        """Return a new descriptor for a process that inherits it."""
        descriptor = os.memfd_create("dump-order")
        os.write(descriptor, pickle.dumps(self))
        os.lseek(descriptor, 0, os.SEEK_SET)
        return descriptor


def main(argv: list[str]) -> int:
    """Make the dump whose order is in a descriptor; return 0, or 1 and the reason as a line on standard error."""
    with open(int(argv[1]), "rb") as file:
        order: Order = pickle.load(file)
    os.nice(NICENESS)
    folder = Path(order.settings.dumps_directory)
    try:
        path = path_for(folder, order.at)
        clear_leftovers(folder)
    except OSError as error:
        print(f"{folder}: {error.strerror}", file=sys.stderr)
        return 1
    return carry_out(order.settings, Namespace(db="backup", file=str(path), json=True), is_quiet=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
