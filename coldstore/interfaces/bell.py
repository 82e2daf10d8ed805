"""A bell: something changed, look again. A lost ring costs a delay, never data."""

from twisted.internet.defer import Deferred
from zope.interface import Interface


class IBell(Interface):
    """Wakes one loop early."""

    def ring() -> None:
        """Something changed. Rings while nobody waits are remembered as one."""

    def wait(seconds: float) -> Deferred[None]:
        """Fire at the next ring (at once if it rang since the last wait), or after ``seconds``. One waiter at a time."""
