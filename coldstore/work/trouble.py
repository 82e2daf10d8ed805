"""Failures of tape work, sorted once: who may be guilty, and one sentence for the operator."""

from collections.abc import Iterator
from contextlib import contextmanager

from coldstore.interfaces.drive import DriveCutOff, DriveFault
from coldstore.interfaces.filesystem import CutOff, FilesystemFault, OutcomeUnknown
from coldstore.interfaces.library import LibraryFault
from coldstore.interfaces.mover import DestinationFault, MoverDied, MoverFault
from coldstore.interfaces.process import CommandFault, LockHeld

WORLD_FAULTS = (DriveFault, FilesystemFault, LibraryFault, MoverFault, CommandFault, LockHeld)
"""Everything that can go wrong between us and a tape."""


class TapeTrouble(Exception):
    """
    A drive and a cartridge could not do their work together.

    ``must_stop_drive``: nobody knows what state the drive is in, so it takes no more work until an operator looks.
    ``is_cartridge_wrong``: the cartridge is not what the record says; the drive is innocent.
    ``is_robot``: the library is to blame, neither of the two.
    ``is_innocent``: a program of ours ended too early or made a mistake, or our disk is full; neither of the two is to blame.
    """

    def __init__(
        self,
        sentence: str,
        *,
        must_stop_drive: bool = False,
        is_cartridge_wrong: bool = False,
        is_robot: bool = False,
        is_innocent: bool = False,
    ) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.must_stop_drive = must_stop_drive
        self.is_cartridge_wrong = is_cartridge_wrong
        self.is_robot = is_robot
        self.is_innocent = is_innocent


@contextmanager
def as_trouble(doing: str) -> Iterator[None]:
    """
    Turn faults of the world into ``TapeTrouble`` that says what was being done.

    :raise TapeTrouble: for any of ``WORLD_FAULTS``
    """
    try:
        yield
    except LibraryFault as fault:
        raise TapeTrouble(
            f"{doing}: {fault}", must_stop_drive=not fault.is_outcome_known, is_robot=True
        ) from fault
    except (LockHeld, OutcomeUnknown) as fault:
        raise TapeTrouble(f"{doing}: {fault}", must_stop_drive=True) from fault
    except (MoverDied, DestinationFault, CutOff, DriveCutOff) as fault:
        raise TapeTrouble(f"{doing}: {fault}", is_innocent=True) from fault
    except WORLD_FAULTS as fault:
        raise TapeTrouble(f"{doing}: {fault}") from fault
