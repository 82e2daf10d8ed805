"""Drives as kernel devices with the real ``mt``, and their rules under injected faults."""

import os
import shlex
from pathlib import Path

from twisted.trial.unittest import TestCase

from coldstore.interfaces.drive import DriveBusy, DriveCondition, DriveFailed, DriveUnreachable
from coldstore.interfaces.process import CommandTimeout
from coldstore.util.asynchronous import returns_deferred
from tests.tapevm.guest import WatchedRunner, ask_rig, device_of, inject, make_drive, serial_of, unit_of
from tests.tapevm.guest_library import KernelLibrary

LOAD_UNLOAD = "1b"
HARDWARE_ERROR = "4 44 0"


class DriveTests(KernelLibrary, TestCase):
    """A drive from loading to letting go, and what can come between."""

    @returns_deferred
    async def load(self) -> str:
        """Put a cartridge into drive 0 and return its barcode."""
        _, [(slot, barcode), *_] = await self.data_slots()
        await self.library.load(slot=slot, drive=0, barcode=barcode)
        return barcode

    @returns_deferred
    async def test_loading(self) -> None:
        """A drive is loading until it is ready; an LTO-8 cartridge shows its density."""
        # Long enough for the question to come in time on a machine that has much else to do.
        ask_rig("latency", "load", "12")
        self.addCleanup(ask_rig, "latency", "load", "2")
        await self.load()
        self.assertEqual((await self.drives[0].status()).condition, DriveCondition.LOADING)
        status = await self.drives[0].wait_until_ready(timeout_seconds=60)
        self.assertEqual((status.density_code, status.file_number, status.block_number), (0x5E, 0, 0))

    @returns_deferred
    async def test_offline_while_loading(self) -> None:
        """A drive that is loading is taken offline once it is ready."""
        await self.load()
        await self.drives[0].offline()
        self.assertEqual((await self.drives[0].status()).condition, DriveCondition.EMPTY)

    @returns_deferred
    async def test_busy(self) -> None:
        """A device that another process has open, as a mounted file system has, is busy, not broken."""
        await self.load()
        await self.drives[0].wait_until_ready(timeout_seconds=60)
        descriptor = os.open(device_of(0), os.O_RDONLY | os.O_NONBLOCK)
        try:
            self.assertEqual((await self.drives[0].status()).condition, DriveCondition.BUSY)
            await self.refused(self.drives[0].offline(), DriveBusy)
        finally:
            os.close(descriptor)
        self.assertTrue((await self.drives[0].status()).is_ready)

    @returns_deferred
    async def test_write_protected(self) -> None:
        """The cartridge's tab shows once it is loaded."""
        _, [(slot, barcode), *_] = await self.data_slots()
        ask_rig("protect", barcode, "on")
        try:
            await self.library.load(slot=slot, drive=0, barcode=barcode)
            status = await self.drives[0].wait_until_ready(timeout_seconds=60)
            self.assertTrue(status.is_write_protected)
        finally:
            ask_rig("protect", barcode, "off")

    @returns_deferred
    async def test_offline_fails(self) -> None:
        """A drive that fails to let go keeps its tape, says so, and can be asked again."""
        await self.load()
        await self.drives[0].wait_until_ready(timeout_seconds=60)
        inject(unit_of(0), LOAD_UNLOAD, HARDWARE_ERROR)
        fault = await self.refused(self.drives[0].offline(), DriveFailed)
        self.assertIn("Input/output error", fault.reason)
        await self.drives[0].offline()

    @returns_deferred
    async def test_offline_failed_but_done(self) -> None:
        """A drive that let go although the command failed is offline."""
        await self.load()
        await self.drives[0].wait_until_ready(timeout_seconds=60)
        lying = Path(self.mktemp()).absolute()
        lying.write_text('#!/bin/sh\nmt "$@"; case "$*" in *offline*) exit 2;; esac\n')
        lying.chmod(0o755)
        drive = make_drive(self.runner, self.locks, 0)
        drive._mt = str(lying)
        await drive.offline()
        self.assertEqual((await drive.status()).condition, DriveCondition.EMPTY)

    @returns_deferred
    async def test_missing_device(self) -> None:
        """A device that does not exist is unreachable."""
        drive = make_drive(self.runner, self.locks, 1, device="/dev/nst99")
        await self.refused(drive.status(), DriveUnreachable)

    def test_rewinding_node(self) -> None:
        """The node that rewinds at close is refused, by the name that udev gives it as well."""
        rewinding = device_of(0).replace("nst", "st")
        names = [
            rewinding,
            *(str(path) for path in Path("/dev/tape/by-id").iterdir() if path.name == f"scsi-{serial_of(0)}"),
        ]
        self.assertEqual(len(names), 2)
        for name in names:
            self.assertRaises(ValueError, make_drive, self.runner, self.locks, 0, device=name)

    @returns_deferred
    async def test_blocking_command(self) -> None:
        """A command that waits in the kernel for a tape (up to 120 s) is killed at its deadline and reaped."""
        runner = WatchedRunner()
        command = runner.run(shlex.split(f"mt -f {device_of(1)} rewind"), timeout_seconds=3)
        fault = await self.assertFailure(command, CommandTimeout)
        self.assertTrue(fault.is_reaped)
        self.assertEqual((await self.drives[1].status()).condition, DriveCondition.EMPTY)
