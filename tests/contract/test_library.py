"""The library contract on the simulated library, and on ``mtx`` and ``mt`` of the virtual library as real processes."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, TypeVar, cast

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from coldstore.interfaces.drive import DriveBusy, DriveCondition, DriveFailed
from coldstore.interfaces.library import DriveNeedsOffline, LibraryNotReady, MoveOutcomeUnknown
from coldstore.tape.drive import MtDrive
from coldstore.tape.library import LibraryTimes, MtxLibrary
from coldstore.tape.locks import FlockDeviceLocks
from coldstore.tape.process import IProcessReactor, ReactorCommandRunner
from coldstore.testing.library import SimulatedLibrary
from coldstore.testing.tenure import SimulatedTenure
from coldstore.util.asynchronous import returns_deferred
from tests.contract.library import LibraryContract, LibraryInHand

_T = TypeVar("_T")
reactor = cast(IProcessReactor, global_reactor)
ROOT = Path(__file__).resolve().parent.parent.parent


class SimulatedLibraryTests(LibraryContract, TestCase):
    """The simulated library keeps the contract, and breaks when it is told to."""

    def setUp(self) -> None:
        """Make a library that takes its time, on a clock of our own."""
        self.clock = Clock()
        self.tenure = SimulatedTenure()
        self.simulated = SimulatedLibrary(
            self.clock,
            tenure=self.tenure,
            cartridges={slot: f"A{slot:05}L8" for slot in range(1, 9)} | {16: "CLNU01L1"},
            move_seconds=20,
            load_seconds=15,
            offline_seconds=24,
        )
        self.library = self.simulated
        self.drives = self.simulated.drives

    def finish(self, deferred: "Deferred[_T]") -> "Deferred[_T]":
        """Go from event to event until the Deferred has fired."""
        fired: list[Any] = []

        def note(result: Any) -> Any:
            fired.append(result)
            return result

        deferred.addBoth(note)
        while not fired and self.clock.calls:
            self.clock.advance(max(0.0, self.clock.calls[0].getTime() - self.clock.seconds()))
        self.assertTrue(fired, "nothing will ever happen")
        return deferred

    @returns_deferred
    async def test_times(self) -> None:
        """Moving and threading take the times that were asked for."""
        await self.finish(self.library.load(slot=1, drive=0, barcode="A00001L8"))
        self.assertEqual(self.clock.seconds(), 20)
        self.assertEqual((await self.finish(self.drives[0].status())).condition, DriveCondition.LOADING)
        await self.finish(self.drives[0].wait_until_ready(timeout_seconds=60))
        self.assertEqual(self.clock.seconds(), 35)

    @returns_deferred
    async def test_threaded(self) -> None:
        """The robot cannot take a tape that the drive holds on to."""
        await self.finish(self.library.load(slot=1, drive=0, barcode="A00001L8"))
        await self.refused(self.library.unload(drive=0, slot=1, barcode="A00001L8"), DriveNeedsOffline)

    @returns_deferred
    async def test_faults_on_request(self) -> None:
        """A queued fault fails one move without moving anything; a jam leaves the cartridge in the gripper."""
        before = await self.finish(self.library.inventory())
        self.simulated.fail_next(LibraryNotReady(attempted="x", reason="y", advice="z."))
        await self.refused(self.library.load(slot=1, drive=0, barcode="A00001L8"), LibraryNotReady)
        self.assertEqual(await self.finish(self.library.inventory()), before)
        self.simulated.jam_next()
        fault = await self.refused(self.library.load(slot=1, drive=0, barcode="A00001L8"), MoveOutcomeUnknown)
        self.assertFalse(fault.is_outcome_known)
        self.assertEqual(
            (self.simulated.gripper, (await self.finish(self.library.inventory())).find("A00001L8")),
            ("A00001L8", ()),
        )

    @returns_deferred
    async def test_drive_faults(self) -> None:
        """A drive that is busy, or fails to let go, says so."""
        await self.finish(self.library.load(slot=1, drive=0, barcode="A00001L8"))
        drive = self.simulated.drives[0]
        await self.finish(drive.wait_until_ready(timeout_seconds=60))
        drive.is_write_protected = True
        self.assertTrue((await self.finish(drive.status())).is_write_protected)
        drive.fault = DriveFailed(
            device=drive.device, attempted="taking offline", reason="Input/output error"
        )
        await self.refused(drive.offline(), DriveFailed)
        drive.is_busy = True
        await self.refused(drive.offline(), DriveBusy)

    @returns_deferred
    async def test_by_hand(self) -> None:
        """Cartridges that a person puts in and takes away are seen."""
        self.simulated.put(17, "B00001L8")
        self.assertEqual(self.simulated.take_away(1), "A00001L8")
        inventory = await self.finish(self.library.inventory())
        self.assertEqual((inventory.storage(17).barcode, inventory.storage(1).is_full), ("B00001L8", False))


class VirtualLibraryCase(LibraryInHand, TestCase):
    """``mtx`` and ``mt`` of the virtual library, driven as the real ones are."""

    timeout = 480
    times = LibraryTimes()

    def setUp(self) -> None:
        """Make a virtual library in a folder of its own."""
        self.folder = Path(self.mktemp()).absolute()
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
        arguments = [
            "--drives",
            "2",
            "--slots",
            "16",
            "--mail-slots",
            "1",
            "--cartridges",
            "8",
            "--generation",
            "L8",
        ]
        made = subprocess.run(
            [sys.executable, "-m", "coldstore.vtl", "create", str(self.folder), *arguments],
            env=environment,
            capture_output=True,
            timeout=60,
            check=False,
        )
        self.assertEqual(made.returncode, 0, made.stderr.decode())
        self.runner = runner = ReactorCommandRunner(reactor, environment)
        self.tenure = SimulatedTenure()
        self.locks = FlockDeviceLocks(self.folder / "locks", reactor)
        self.library = MtxLibrary(
            runner,
            str(self.folder / "dev" / "changer"),
            lock=self.locks.changer(),
            tenure=self.tenure,
            clock=reactor,
            mtx=str(self.folder / "bin" / "mtx"),
            times=self.times,
        )
        self.drives = tuple(
            MtDrive(
                runner,
                str(self.folder / "dev" / f"nst{number}"),
                number=number,
                lock=self.locks.drive(number),
                tenure=self.tenure,
                clock=reactor,
                mt=str(self.folder / "bin" / "mt"),
            )
            for number in range(2)
        )

    def tearDown(self) -> None:
        """Let go of the locks."""
        for lock in (self.locks.changer(), self.locks.drive(0), self.locks.drive(1)):
            lock.release()


class VirtualLibraryTests(LibraryContract, VirtualLibraryCase):
    """The virtual library keeps the contract."""
