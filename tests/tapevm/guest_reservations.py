"""Persistent reservations of kernel devices with the real ``sg_persist``, and another machine that has a drive."""

import os
import subprocess

from twisted.trial.unittest import TestCase

from coldstore.interfaces.reservation import ReservationsUnsupported, ReservedByAnother
from coldstore.model.hosts import Host
from coldstore.tape.persist import key_of
from coldstore.tape.reservations import SgPersistReservation
from coldstore.testing.tenure import SimulatedTenure
from coldstore.util.asynchronous import returns_deferred
from tests.tapevm.guest import CHANGER, SKIP, WatchedRunner, ask_rig, device_of, reactor

APPLIANCE = "00000000-0000-4000-8000-000000000001"
UNIT_ATTENTION, CONFLICT = 6, 24
HERE, THERE = Host(name="here", machine_id="m1"), Host(name="there", machine_id="m2")


class ReservationTests(TestCase):
    """Drive 0, which the emulation gives to a machine with the address 192.0.2.7, and its key as LTFS makes it, on demand."""

    skip = SKIP
    timeout = 240

    def setUp(self) -> None:
        """Have the drive free, in the end too."""
        self.free()
        self.addCleanup(self.free)
        self.drive = self.reservation(os.environ.get("TAPEVM_DRIVE0_SG", ""), "drive 0")

    def free(self) -> None:
        """Take the drive from everybody."""
        ask_rig("reserve", "0", "off")

    def reservation(self, device: str, name: str) -> SgPersistReservation:
        """What this machine has of a device."""
        return SgPersistReservation(
            WatchedRunner(),
            device,
            tenure=SimulatedTenure(),
            name=name,
            key=key_of(HERE, APPLIANCE),
            key_of=lambda host: key_of(host, APPLIANCE),
            clock=reactor,
            program="sg_persist",
            timeout_seconds=60,
        )

    def can_use_drive(self) -> bool:
        """Whether commands reach it, whatever it answers: exit statuses as in sg3_utils(8)."""
        ready = ["sg_turs", os.environ["TAPEVM_DRIVE0_SG"]]
        # What happened to the drive before is told first, one unit attention after the other.
        for _ in range(8):
            status = subprocess.run(ready, capture_output=True).returncode
            if status != UNIT_ATTENTION:
                break
        return status != CONFLICT

    @returns_deferred
    async def test_hold(self) -> None:
        """A free drive is held, again as well, and goes on working for us."""
        await self.drive.hold()
        await self.drive.hold()
        read = subprocess.run(
            ["sg_persist", "-n", "-r", os.environ["TAPEVM_DRIVE0_SG"]],
            capture_output=True,
            text=True,
            check=True,
        )
        self.assertIn(f"Key=0x{key_of(HERE, APPLIANCE).hex()}", read.stdout)
        self.assertIn("type: Exclusive Access", read.stdout)
        self.assertTrue(self.can_use_drive())
        subprocess.run(["mt", "-f", device_of(0), "status"], capture_output=True, check=True)

    @returns_deferred
    async def test_another_machine(self) -> None:
        """A drive that another machine has is refused with its name; once it is taken, it works for us."""
        ask_rig("reserve", "0", "on")
        self.assertFalse(self.can_use_drive())
        try:
            await self.drive.hold()
        except ReservedByAnother as refusal:
            self.assertIn("the LTFS of 192.0.2.7", str(refusal))
        else:
            self.fail("it was reserved")
        self.assertFalse(self.can_use_drive())
        await self.drive.take_from(THERE)
        self.assertTrue(self.can_use_drive())
        await self.drive.hold()

    @returns_deferred
    async def test_unsupported(self) -> None:
        """The emulated changer knows no reservations, and says so."""
        changer = self.reservation(CHANGER, "the changer")
        try:
            await changer.hold()
        except ReservationsUnsupported as fault:
            self.assertIn("the changer", str(fault))
        else:
            self.fail("it was reserved")
