"""The library contract on kernel devices with the real ``mtx``, and its rules under injected faults."""

import os
from pathlib import Path

from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from coldstore.interfaces.library import (
    CleaningCartridgeEjected,
    DriveNeedsOffline,
    LibraryNotReady,
    LibraryUnreachable,
    MoveFailed,
    MoveOutcomeUnknown,
    RemovalPrevented,
)
from coldstore.tape.library import LibraryTimes, MtxLibrary
from coldstore.tape.mtx import load_command
from coldstore.testing.tenure import SimulatedTenure
from coldstore.util.asynchronous import returns_deferred
from tests.contract.library import LibraryContract, LibraryInHand
from tests.tapevm.guest import (
    CHANGER,
    CHANGER_UNIT,
    DRIVE_COUNT,
    SKIP,
    WatchedRunner,
    inject,
    make_drive,
    make_library,
    make_locks,
    reactor,
)

MOVE, READ_ELEMENT_STATUS = "a5", "b8"
UNIT_ATTENTION, BECOMING_READY, MANUAL_INTERVENTION = "6 28 1", "2 4 1", "2 4 3"
MECHANICAL, REMOVAL, CLEANING = "4 15 1", "5 53 2", "5 30 3"


class KernelLibrary(LibraryInHand):
    """The library and both drives of the VM, put in order after each test."""

    skip = SKIP
    timeout = 240

    def setUp(self) -> None:
        """Make drivers with locks of their own."""
        self.runner = WatchedRunner()
        self.locks = make_locks(self.mktemp())
        self.tenure = SimulatedTenure()
        self.library: MtxLibrary = make_library(self.runner, self.locks, tenure=self.tenure)
        self.drives = tuple(
            make_drive(self.runner, self.locks, number, tenure=self.tenure) for number in range(DRIVE_COUNT)
        )

    @returns_deferred
    async def tearDown(self) -> None:
        """Put every cartridge back, and let go of the locks."""
        try:
            await self.put_back()
        finally:
            for lock in (self.locks.changer(), *(self.locks.drive(number) for number in range(DRIVE_COUNT))):
                lock.release()


class ContractTests(KernelLibrary, LibraryContract, TestCase):
    """``mtx`` and ``mt`` on kernel devices keep the contract."""


class FaultTests(KernelLibrary, TestCase):
    """What the library does when moves and looks fail."""

    @returns_deferred
    async def first(self) -> tuple[int, str]:
        """Return slot and barcode of a data cartridge, and forget the commands run so far."""
        _, [cartridge, *_] = await self.data_slots()
        self.runner.ran.clear()
        return cartridge

    @returns_deferred
    async def test_unit_attention(self) -> None:
        """A move that meets a unit attention is repeated once and done; then it is told what the drives hold."""
        slot, barcode = await self.first()
        inject(CHANGER_UNIT, MOVE, UNIT_ATTENTION)
        await self.library.load(slot=slot, drive=0, barcode=barcode)
        self.assertEqual(self.runner.verbs(), ["status", "load", "status", "status", "load", "status"])
        self.assertEqual((await self.library.inventory()).drive(0).barcode, barcode)

    @returns_deferred
    async def test_unit_attention_twice(self) -> None:
        """Two in a row end the move; the cartridge is where it was, and the next call succeeds."""
        slot, barcode = await self.first()
        inject(CHANGER_UNIT, MOVE, UNIT_ATTENTION, 2)
        fault = await self.refused(self.library.load(slot=slot, drive=0, barcode=barcode), MoveFailed)
        self.assertTrue(fault.is_outcome_known)
        self.assertEqual((await self.library.inventory()).storage(slot).barcode, barcode)
        await self.library.load(slot=slot, drive=0, barcode=barcode)

    @returns_deferred
    async def test_becoming_ready(self) -> None:
        """A library that is becoming ready is given a pause, for a move and for a look."""
        slot, barcode = await self.first()
        inject(CHANGER_UNIT, MOVE, BECOMING_READY)
        await self.library.load(slot=slot, drive=0, barcode=barcode)
        inject(CHANGER_UNIT, READ_ELEMENT_STATUS, BECOMING_READY, 4)
        self.assertEqual((await self.library.inventory()).drive(0).barcode, barcode)

    @returns_deferred
    async def test_mechanical_error(self) -> None:
        """A mechanical error is not repeated; the sense data are told, and that the cartridge is in its place."""
        slot, barcode = await self.first()
        inject(CHANGER_UNIT, MOVE, MECHANICAL)
        fault = await self.refused(self.library.load(slot=slot, drive=0, barcode=barcode), MoveFailed)
        self.assertIn("Hardware Error 15/01", fault.reason)
        self.assertEqual(self.runner.verbs(), ["status", "load", "status"])

    @returns_deferred
    async def test_not_ready(self) -> None:
        """A library that wants a person is not waited for."""
        slot, barcode = await self.first()
        inject(CHANGER_UNIT, MOVE, MANUAL_INTERVENTION)
        await self.refused(self.library.load(slot=slot, drive=0, barcode=barcode), LibraryNotReady)

    @returns_deferred
    async def test_vanished_labels(self) -> None:
        """Labels that mtx loses over a unit attention (exit status 0) are there after a second look."""
        await self.first()
        inject(CHANGER_UNIT, READ_ELEMENT_STATUS, UNIT_ATTENTION)
        inventory = await self.library.inventory()
        self.assertEqual(inventory.unlabelled(), ())
        self.assertEqual(self.runner.verbs(), ["status"] * 2)

    @returns_deferred
    async def test_needs_offline(self) -> None:
        """A drive that holds on to its tape is told apart; after offline the move succeeds."""
        slot, barcode = await self.first()
        await self.library.load(slot=slot, drive=0, barcode=barcode)
        await self.drives[0].wait_until_ready(timeout_seconds=60)
        await self.refused(self.library.unload(drive=0, slot=slot, barcode=barcode), DriveNeedsOffline)
        await self.drives[0].offline()
        await self.library.unload(drive=0, slot=slot, barcode=barcode)

    @returns_deferred
    async def test_removal_prevented_and_cleaning(self) -> None:
        """A locked drive and an ejected cleaning cartridge are faults of their own."""
        slot, barcode = await self.first()
        for sense, kind in ((REMOVAL, RemovalPrevented), (CLEANING, CleaningCartridgeEjected)):
            inject(CHANGER_UNIT, MOVE, sense)
            await self.refused(self.library.load(slot=slot, drive=0, barcode=barcode), kind)

    @returns_deferred
    async def test_failed_but_done(self) -> None:
        """A move that was made and reported as failed is found to be done."""
        slot, barcode = await self.first()
        lying = self.program('mtx "$@"; case "$*" in *load*) exit 1;; esac')
        await make_library(self.runner, self.locks, mtx=lying).load(slot=slot, drive=0, barcode=barcode)
        self.assertEqual(self.runner.verbs(), ["status", "load", "status"])

    @returns_deferred
    async def test_late_but_done(self) -> None:
        """A move that outlives its deadline is killed, looked at, and found to be done."""
        slot, barcode = await self.first()
        hanging = self.program('mtx "$@"; case "$*" in *load*) sleep 600;; esac')
        library = make_library(self.runner, self.locks, mtx=hanging, times=LibraryTimes(move=8.0))
        await library.load(slot=slot, drive=0, barcode=barcode)
        self.assertEqual(self.runner.verbs(), ["status", "load", "status"])

    @returns_deferred
    async def test_silent_afterwards(self) -> None:
        """A library that fails and then does not answer leaves the outcome unknown."""
        slot, barcode = await self.first()
        flag = Path(self.mktemp()).absolute()
        dying = self.program(
            f'case "$*" in *load*) touch {flag}; exit 1;; *) [ -e {flag} ] && exec mtx -f /dev/sg99 status; '
            'exec mtx "$@";; esac'
        )
        library = make_library(self.runner, self.locks, mtx=dying)
        fault = await self.refused(library.load(slot=slot, drive=0, barcode=barcode), MoveOutcomeUnknown)
        self.assertFalse(fault.is_outcome_known)
        self.assertIn("No such file or directory", fault.reason)

    @returns_deferred
    async def test_orphaned_move(self) -> None:
        """After a kill -9 of the appliance in the middle of a move the next one waits for it, and sees what it did."""
        slot, barcode = await self.first()
        self.locks.changer().release()
        killed = make_locks(str(Path(self.locks.changer()._path).parent))
        await killed.changer().acquire(timeout_seconds=1)
        # The robot takes half a second; the shell keeps the lock for two more, so that not waiting would show.
        slow = self.program('mtx "$@"; sleep 2')
        orphan = self.runner.run(
            load_command(slow, CHANGER, slot=slot, drive=0),
            timeout_seconds=60,
            descriptors=(killed.changer().descriptor(),),
        )
        await deferLater(reactor, 0.2)
        killed.changer().release()
        self.runner.ran.clear()
        ended: list[int] = []
        orphan.addCallback(lambda _: ended.append(len(self.runner.ran)))
        inventory = await self.library.inventory()
        self.assertEqual(inventory.drive(0).barcode, barcode)
        await orphan
        self.assertEqual(ended, [0])

    @returns_deferred
    async def test_wrong_devices(self) -> None:
        """A drive's node and a missing one are no library."""
        for device in (os.environ["TAPEVM_DRIVE0_SG"], "/dev/sg99"):
            library = MtxLibrary(
                self.runner,
                device,
                lock=self.locks.changer(),
                tenure=SimulatedTenure(),
                clock=reactor,
            )
            await self.refused(library.inventory(), LibraryUnreachable)

    def program(self, script: str) -> str:
        """Write a shell script that stands before mtx."""
        path = Path(self.mktemp()).absolute()
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)
