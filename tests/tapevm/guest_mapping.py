"""Which kernel device is which drive of the library: the answer of the rig, which knows, against ours."""

from twisted.trial.unittest import TestCase

from coldstore.interfaces.process import CommandNotFound
from coldstore.tape.mapping import DrivesUnidentified, drive_identifiers, match_devices
from coldstore.tape.sysfs import tape_device, tape_devices
from coldstore.util.asynchronous import returns_deferred
from tests.tapevm.guest import CHANGER, DRIVE_COUNT, device_of, serial_of
from tests.tapevm.guest_library import KernelLibrary


class MappingTests(KernelLibrary, TestCase):
    """By the library's identifiers and the kernel's serial numbers."""

    @returns_deferred
    async def test_by_identifiers(self) -> None:
        """Every drive's device is found, in whatever order the kernel discovered them."""
        lock = self.locks.changer()
        await lock.acquire(timeout_seconds=10)
        identifiers = await drive_identifiers(self.runner, CHANGER, lock=lock)
        found = match_devices(identifiers, tape_devices())
        expected = {number: (device_of(number), serial_of(number)) for number in range(DRIVE_COUNT)}
        self.assertEqual(
            {number: (f"/dev/{device.name}", device.serial) for number, device in found.items()}, expected
        )

    @returns_deferred
    async def test_by_loading(self) -> None:
        """The cartridge that the robot put into a drive becomes ready in the device that was found, and in no other."""
        _, [(slot, barcode), *_] = await self.data_slots()
        await self.library.load(slot=slot, drive=0, barcode=barcode)
        await self.drives[0].wait_until_ready(timeout_seconds=60)
        self.assertFalse((await self.drives[1].status()).is_ready)

    def test_generic_nodes(self) -> None:
        """The generic node beside a tape device answers for the same drive."""
        device = tape_device(f"/dev/tape/by-id/scsi-{serial_of(0)}-nst")
        assert device is not None
        self.assertEqual((f"/dev/{device.name}", device.serial), (device_of(0), serial_of(0)))
        assert device.generic is not None
        self.assertTrue(device.generic.startswith("/dev/sg"))

    @returns_deferred
    async def test_cannot_tell(self) -> None:
        """A device that is no library, and a missing tool, ask for the drives to be configured."""
        lock = self.locks.changer()
        await lock.acquire(timeout_seconds=10)
        for changer, tool in ((device_of(0), "sg_modes"), (CHANGER, "no-such-tool")):
            fault = await self.assertFailure(
                drive_identifiers(self.runner, changer, lock=lock, sg_modes=tool), DrivesUnidentified
            )
            if tool == "no-such-tool":
                self.assertIsInstance(fault.__cause__, CommandNotFound)
