"""A device that only one machine can use at a time, because the device itself refuses the others."""

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from coldstore.model.hosts import Host


class ReservationFault(Exception):
    """A device could not be reserved; says what was tried and why not."""


class ReservedByAnother(ReservationFault):
    """Another machine has the device. ``holder`` tells which, as far as its key does."""

    def __init__(self, name: str, holder: str) -> None:
        super().__init__(f"{name} is reserved by {holder}")
        self.holder = holder


class ReservationsUnsupported(ReservationFault):
    """The device, or what is between it and us, knows no persistent reservations."""


class IReservation(Interface):
    """The reservation of one drive, or of the changer. Nothing else may be using the device through this machine meanwhile."""

    name: str = Attribute("""What is reserved, for messages: ``drive 0``, ``the changer``.""")

    def hold() -> "Deferred[None]":
        """
        Have the device for this machine alone. Harmless, and quick, when that is so already.

        A program that reserves the device itself (``ltfs`` does) leaves it to everybody when it ends: it is to be held again then.

        :return: fails with ``ReservedByAnother``, or another ``ReservationFault``; nothing was taken from anybody then.
        """

    def take_from(host: Host) -> "Deferred[None]":
        """
        Have the device for this machine alone, also when ``host``, or an LTFS of whatever machine, has it: from then on nothing of
        theirs that is still running can write to it or move it. Repeatable.

        :return: fails with ``ReservedByAnother`` when somebody else has it, or another ``ReservationFault``.
        """
