"""A standing that a test takes away."""

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from coldstore.interfaces.tenure import ITenure
from coldstore.model.errors import MetadataUnavailable


@implementer(ITenure)
class SimulatedTenure:
    """
    See ``ITenure``.

    :ivar fault: what whoever asks is told from now on; None: nobody has taken over
    :ivar asked: how often somebody has asked
    """

    def __init__(self) -> None:
        self.fault: MetadataUnavailable | None = None
        self.asked = 0

    def confirm(self) -> "Deferred[None]":
        """See ``ITenure``."""
        self.asked += 1
        return succeed(None) if self.fault is None else fail(self.fault)
