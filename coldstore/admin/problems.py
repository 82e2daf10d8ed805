"""Problems that no alert tells, because they are what is so now: in sentences, with what follows for clients."""

from collections.abc import Sequence

from coldstore.interfaces.control import Health
from coldstore.interfaces.staging import StagingUsage
from coldstore.model.cartridges import Drive, DriveState

FULL_SHARE = 0.95
"""From here on uploads are likely to be refused: most want more than what is left."""


def problems(health: Health, usage: StagingUsage, drives: Sequence[Drive]) -> list[str]:
    """Return a sentence per problem, those that clients feel first."""
    found = []
    taken = usage.used_bytes + usage.reserved_bytes
    if taken >= usage.capacity_bytes * FULL_SHARE:
        found.append(
            "the staging disk is full: uploads and restores are refused (503 SlowDown) until archived bytes leave it, "
            "or its file system or staging.capacity gets more room"
        )
    if drives and all(drive.state is DriveState.DOWN for drive in drives):
        found.append("every drive is down: nothing is written to tape or read from it")
    return [*found, *health.problems]
