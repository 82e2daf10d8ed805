"""Delivery of messages to the outside."""

from twisted.internet.defer import Deferred
from zope.interface import Interface

from coldstore.model.events import OutboxMessage


class DeliveryFailed(Exception):
    """A target did not take the message; it may be tried again. Says what the target answered."""


class INotifier(Interface):
    """Delivers messages, at least once."""

    def deliver(message: OutboxMessage) -> Deferred[None]:
        """
        Deliver one message to every target that wants its event.

        Fires when each of them took it. Fails with ``DeliveryFailed`` when one did not; all are tried again then, so a
        target can see a message twice.
        """
