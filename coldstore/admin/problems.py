"""Problems that no alert tells, because they are what is so now: in sentences, with what follows for clients."""

from collections.abc import Sequence

from coldstore.interfaces.control import Health
from coldstore.model.cartridges import Drive, DriveState


def problems(health: Health, drives: Sequence[Drive]) -> list[str]:
    """Return a sentence per problem, those that clients feel first."""
    found = []
    if drives and all(drive.state is DriveState.DOWN for drive in drives):
        found.append("every drive is down: nothing is written to tape or read from it")
    return [*found, *health.problems]
