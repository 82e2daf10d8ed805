"""Being the one appliance of a library: asked about right before every act in the world that the record cannot refuse."""

from twisted.internet.defer import Deferred
from zope.interface import Interface


class ITenure(Interface):
    """
    One run's standing as the appliance of its library.

    The record refuses what an appliance writes that was taken over. A robot, a drive and a disk refuse nothing: so whoever is about to have
    them do something asks here first.
    """

    def confirm() -> Deferred[None]:
        """
        See that no other appliance has taken over. What was asked for is to be begun in the turn of the reactor in which this fires:
        later it proves nothing.

        :raise TakenOver: another one has; nothing is to be begun any more
        :raise MetadataUnavailable: that cannot be found out now; nothing is to be begun before it can
        """
