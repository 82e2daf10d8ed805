"""A tape drive as seen from its device: is it ready, and let go of the tape."""

from dataclasses import dataclass
from enum import Enum

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface


class DriveCondition(Enum):
    """What a drive can be told to be doing."""

    EMPTY = "empty"
    """No tape is threaded: nothing in the drive, or a cartridge that was taken offline."""
    LOADING = "loading"
    """The drive works on its cartridge: threading, first-load optimisation (hours on LTO-9), or cleaning."""
    READY = "ready"
    """The tape can be read."""
    BUSY = "busy"
    """Another process has the device open; a mounted cartridge looks like this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveStatus:
    """
    What the drive says at one moment.

    ``density_code`` is None when no medium is known; ``flags`` are the names that the tool printed; ``file_number``
    and ``block_number`` are None when the driver does not know the position.
    """

    condition: DriveCondition
    flags: frozenset[str]
    density_code: int | None
    file_number: int | None
    block_number: int | None

    @property
    def is_ready(self) -> bool:
        """Whether the tape can be read."""
        return self.condition is DriveCondition.READY

    @property
    def is_write_protected(self) -> bool:
        """Whether the cartridge's tab forbids writing."""
        return "WR_PROT" in self.flags

    @property
    def needs_cleaning(self) -> bool:
        """Whether the drive asks for a cleaning cartridge."""
        return "CLN" in self.flags


class DriveFault(Exception):
    """The drive did not do what was asked. ``device`` is its node, ``attempted`` what was tried, in words."""

    def __init__(self, *, device: str, attempted: str, reason: str) -> None:
        super().__init__(f"{attempted} of {device}: {reason}")
        self.device = device
        self.attempted = attempted
        self.reason = reason


class DriveUnreachable(DriveFault):
    """The device node is missing, forbidden or not a tape drive."""


class DriveBusy(DriveFault):
    """Another process has the device open."""


class DriveNotReady(DriveFault):
    """No tape became ready in time."""


class DriveFailed(DriveFault):
    """The drive answered with an error, and is not in the wanted condition afterwards either."""


class DriveCutOff(DriveFault):
    """The program that talks to the drive was killed by somebody else, again and again: that tells nothing about the drive."""


class DriveStatusUnreadable(DriveFault):
    """The program that reports the drive's status said something that we do not know."""


class IDrive(Interface):
    """
    One tape drive by its non-rewinding device.

    It must not be used while a file system has the drive: every call then fails with ``DriveBusy`` (``status`` tells
    ``BUSY``). No call waits inside the kernel for a drive that has no tape.
    """

    number: int = Attribute("""The drive's number in the library, from 0.""")

    device: str = Attribute("""The path of the non-rewinding tape device.""")

    def status() -> "Deferred[DriveStatus]":
        """
        Tell what the drive is doing.

        :return: fails with ``DriveUnreachable``, ``DriveCutOff`` or ``DriveStatusUnreadable``.
        """

    def wait_until_ready(*, timeout_seconds: float) -> "Deferred[DriveStatus]":
        """
        Wait until the tape that was loaded can be read.

        :return: fires with the status at that moment; fails with ``DriveNotReady`` after the deadline, or as
            ``status`` and ``DriveBusy``.
        """

    def offline() -> "Deferred[None]":
        """
        Rewind and let go of the tape, so that the robot can take it. Harmless when no tape is threaded.

        :return: fires when the drive has let go; fails with ``DriveBusy``, ``DriveNotReady``, ``DriveFailed`` or as
            ``status``.
        """
