"""Robot, drives and tapes of the simulated world, as one process sees them, in model time and with no fault."""

import tempfile
from pathlib import Path

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import TestCase

from coldstore.interfaces.filesystem import ITapeFilesystem
from coldstore.testing.tenure import SimulatedTenure
from tests.contract.filesystem_contract import TapeFilesystemContract
from tests.contract.filesystem_rigs import SimulatedRig
from tests.contract.library import LibraryContract
from tests.contract.virtual import InVirtualTime
from tests.simulation.chance import NO_FAULTS, Chance
from tests.simulation.library import Floor, LifeDrive, LifeLibrary, life_filesystem
from tests.simulation.life import Life
from tests.simulation.machine import limits
from tests.simulation.reactor import VirtualReactor
from tests.simulation.settings import configuration

LIMITS = limits(configuration())
MEBIBYTE = 1024 * 1024


def made_floor(virtual: VirtualReactor) -> Floor:
    """Two drives, and nine cartridges in sixteen slots."""
    return Floor(
        virtual,
        Chance(1, NO_FAULTS),
        drives=2,
        cartridges={slot: f"A{slot:05}L9" for slot in range(1, 9)} | {16: "CLNU01L1"},
        slots=16,
        capacity_bytes=200 * MEBIBYTE,
    )


def life_on(floor: Floor, virtual: VirtualReactor) -> Life:
    """Return a process on the first machine that sees a library."""
    life = Life(virtual)
    life.computer = floor.computers[0]
    return life


class LifeLibraryTests(InVirtualTime, LibraryContract, TestCase):
    """Robot and drives."""

    step_seconds = 5.0

    def setUp(self) -> "Deferred[object]":  # type: ignore[override]
        """All tapes have been in a drive before: a new one takes an hour."""
        begun = super().setUp()
        floor = made_floor(self.virtual)
        life = life_on(floor, self.virtual)
        self.tenure = SimulatedTenure()
        floor.seen_before.update(floor.library.stored().values())
        self.library = LifeLibrary(floor, life, LIMITS, self.tenure)
        self.drives = tuple(
            LifeDrive(drive.number, floor, life, self.tenure) for drive in floor.library.drives
        )
        return begun


class FolderDisk:
    """Staged files in a folder, read and written as a ``Disk`` has it done."""

    def read(self, path: str, offset_bytes: int, length_bytes: int) -> bytes:
        """Read a part of a file."""
        with open(path, "rb") as file:
            file.seek(offset_bytes)
            return file.read(length_bytes)

    def write(self, path: str, offset_bytes: int, content: bytes) -> None:
        """Write to a file."""
        with open(path, "r+b" if Path(path).exists() else "wb") as file:
            file.seek(offset_bytes)
            file.write(content)


class LifeRig(SimulatedRig):
    """Tapes in memory, in a drive of the floor."""

    def __init__(self, virtual: VirtualReactor) -> None:
        self.directory = tempfile.mkdtemp(prefix="coldstore-simulated-")
        self._virtual = virtual
        self._floor = made_floor(virtual)
        self.tapes = self._floor.tapes
        self.life = life_on(self._floor, virtual)
        self.tenure = SimulatedTenure()
        self.filesystem: ITapeFilesystem = self.restart()

    def restart(self) -> ITapeFilesystem:
        """The process is killed and the next one begins."""
        self.life.end()
        self.life = life_on(self._floor, self._virtual)
        self.filesystem = life_filesystem(self._floor, self.life, FolderDisk(), 0, LIMITS, self.tenure)
        return self.filesystem

    def load(self, barcode: str) -> "Deferred[None]":
        """See ``Rig``."""
        self._floor.library.drives[0].barcode = barcode
        return succeed(None)

    def unload(self) -> "Deferred[None]":
        """See ``Rig``."""
        self._floor.library.drives[0].barcode = None
        return succeed(None)


class LifeFilesystemTests(InVirtualTime, TapeFilesystemContract, TestCase):
    """Tapes, and what works them."""

    step_seconds = 60.0

    def setUp(self) -> "Deferred[object]":  # type: ignore[override]
        """Have a drive with nothing in it."""
        begun = super().setUp()
        self.rig = LifeRig(self.virtual)
        return begun

    def tearDown(self) -> "Deferred[object]":  # type: ignore[override]
        """Remove what was staged."""
        return super().tearDown().addBoth(lambda _: self.rig.close())
