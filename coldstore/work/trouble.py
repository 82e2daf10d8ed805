"""Failures of tape work, sorted once: who may be guilty, and one sentence for the operator."""

from collections.abc import Iterator
from contextlib import contextmanager

from coldstore.interfaces.drive import DriveBusy as NodeBusy
from coldstore.interfaces.drive import DriveCutOff, DriveFault, DriveStatusUnreadable, DriveUnreachable
from coldstore.interfaces.filesystem import (
    CannotStart,
    CutOff,
    DriveBusy,
    FilesystemFault,
    NotRecorded,
    OutcomeUnknown,
    UnsupportedMedium,
)
from coldstore.interfaces.library import LibraryFault
from coldstore.interfaces.mover import DestinationFault, MoverDied, MoverFault
from coldstore.interfaces.process import CommandFault, LockHeld
from coldstore.interfaces.reservation import ReservationFault

WORLD_FAULTS = (
    DriveFault,
    FilesystemFault,
    LibraryFault,
    MoverFault,
    CommandFault,
    LockHeld,
    ReservationFault,
)
"""Everything that can go wrong between us and a tape."""


class TapeTrouble(Exception):
    """
    A drive and a cartridge could not do their work together.

    ``must_stop_drive``: nobody knows what state the drive is in, so it takes no more work until an operator looks.
    ``is_cartridge_wrong``: the cartridge is not what the record says; the drive is innocent.
    ``is_drive_wrong``: the drive cannot be used, or not as things are set up, whatever cartridge is in it; ``may_pass``: perhaps only now.
    ``is_robot``: the library is to blame, neither of the two.
    ``is_innocent``: a program of ours ended too early or made a mistake, or our disk is full; neither of the two is to blame.
    ``barcode``: the cartridge that was worked with, None for the one that the work was for.
    """

    def __init__(
        self,
        sentence: str,
        *,
        must_stop_drive: bool = False,
        is_cartridge_wrong: bool = False,
        is_drive_wrong: bool = False,
        may_pass: bool = False,
        is_robot: bool = False,
        is_innocent: bool = False,
        barcode: str | None = None,
    ) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.must_stop_drive = must_stop_drive
        self.is_cartridge_wrong = is_cartridge_wrong
        self.is_drive_wrong = is_drive_wrong
        self.may_pass = may_pass
        self.is_robot = is_robot
        self.is_innocent = is_innocent
        self.barcode = barcode


class CartridgeFull(Exception):
    """The cartridge takes no more, as the record says by now: no trouble, the work goes on with another one."""


class JobLost(Exception):
    """What was to be done with the next cartridge was left to others meanwhile: no trouble."""


@contextmanager
def as_trouble(doing: str, *, barcode: str | None = None) -> Iterator[None]:
    """
    Turn faults of the world into ``TapeTrouble`` that says what was being done.

    :param barcode: the cartridge that it is done with, None for the one that the work is for
    :raise TapeTrouble: for any of ``WORLD_FAULTS``
    """
    try:
        yield
    except LibraryFault as fault:
        raise TapeTrouble(
            f"{doing}: {fault}",
            must_stop_drive=not fault.is_outcome_known,
            is_robot=True,
            barcode=barcode,
        ) from fault
    except (LockHeld, OutcomeUnknown) as fault:
        raise TapeTrouble(f"{doing}: {fault}", must_stop_drive=True, barcode=barcode) from fault
    except (NodeBusy, DriveBusy, ReservationFault) as fault:
        raise TapeTrouble(f"{doing}: {fault}", is_drive_wrong=True, may_pass=True, barcode=barcode) from fault
    except (DriveUnreachable, DriveStatusUnreadable, CannotStart) as fault:
        raise TapeTrouble(f"{doing}: {fault}", is_drive_wrong=True, barcode=barcode) from fault
    except UnsupportedMedium as fault:
        raise TapeTrouble(f"{doing}: {fault}", is_cartridge_wrong=True, barcode=barcode) from fault
    except (MoverDied, DestinationFault, CutOff, DriveCutOff, NotRecorded) as fault:
        raise TapeTrouble(f"{doing}: {fault}", is_innocent=True, barcode=barcode) from fault
    except WORLD_FAULTS as fault:
        raise TapeTrouble(f"{doing}: {fault}", barcode=barcode) from fault
