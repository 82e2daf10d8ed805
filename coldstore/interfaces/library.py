"""The robot: what is where, and moving one cartridge from one element to another."""

from twisted.internet.defer import Deferred
from zope.interface import Interface

from coldstore.model.library import Inventory


class LibraryFault(Exception):
    """
    The library did not do what was asked.

    ``attempted`` is what was tried, in words; ``advice`` is one sentence for the operator; ``is_outcome_known`` is
    False when nobody can say where the cartridge is: then the job must stop and a person must look.
    """

    is_outcome_known = True

    def __init__(self, *, attempted: str, reason: str, advice: str) -> None:
        super().__init__(f"{attempted}: {reason}. {advice}")
        self.attempted = attempted
        self.reason = reason
        self.advice = advice


class LibraryUnreachable(LibraryFault):
    """The changer's device is missing, forbidden, not a changer, or does not answer."""


class LibraryNotReady(LibraryFault):
    """The library answers that it is not ready, after waiting as long as allowed: starting, door open, offline."""


class InventoryUnreadable(LibraryFault):
    """The program that reports the inventory said something that we do not know."""


class NoSuchElement(LibraryFault):
    """A slot or drive number that the library does not have. Nothing moved."""


class CartridgeNotThere(LibraryFault):
    """The source element is empty or holds another cartridge than expected. Nothing moved."""


class ElementOccupied(LibraryFault):
    """The destination element is full. Nothing moved."""


class DriveNeedsOffline(LibraryFault):
    """The drive still holds on to its tape: take it offline, then unload again. Nothing moved."""


class RemovalPrevented(LibraryFault):
    """Somebody locked the cartridge into the drive (a mounted file system does). Nothing moved."""


class CleaningCartridgeEjected(LibraryFault):
    """The cartridge was a cleaning cartridge and the library put it back."""


class MoveFailed(LibraryFault):
    """The library refused or failed; the cartridge is still where it was."""


class MoveOutcomeUnknown(LibraryFault):
    """The cartridge is neither where it was nor where it should be, or the library cannot be asked."""

    is_outcome_known = False


class ILibrary(Interface):
    """
    A robot with its elements. Drives are numbered from 0, slots and mail slots from 1.

    Calls wait for each other: the robot does one thing at a time. Every move first looks whether the cartridge is
    where the caller believes it is, and looks again after a failure; a move whose cartridge is already in its
    destination is done, so repeating a call is harmless. Moves cannot be taken back: cancelling a move that has begun
    leaves its outcome unknown; ask for the inventory before anything else.
    """

    def inventory() -> "Deferred[Inventory]":
        """
        Tell what is in which element.

        A full element without a barcode is only reported after two equal answers (labels vanish from one answer
        when the door or the mail slot was used).

        :return: fails with ``LibraryUnreachable``, ``LibraryNotReady`` or ``InventoryUnreadable``.
        """

    def load(*, slot: int, drive: int, barcode: str) -> "Deferred[None]":
        """
        Put the cartridge into the drive. The drive is not ready yet when this fires.

        :param slot: the slot or mail slot where the cartridge is.
        :return: fires when the cartridge is in the drive; fails with a ``LibraryFault``.
        """

    def unload(*, drive: int, slot: int, barcode: str) -> "Deferred[None]":
        """
        Take the cartridge out of the drive. The drive must be offline: some libraries pull the tape from an open device.

        :param slot: the slot or mail slot where it goes.
        :return: fires when the cartridge is in the slot; fails with a ``LibraryFault``.
        """

    def transfer(*, source: int, destination: int, barcode: str) -> "Deferred[None]":
        """
        Move the cartridge between two slots or mail slots.

        :return: fires when the cartridge is in the destination; fails with a ``LibraryFault``.
        """
