"""Which device is which drive: by recorded answers and a made-up sysfs."""

from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from coldstore.tape.mapping import (
    DriveAddresses,
    DrivesUnidentified,
    addresses_command,
    drive_identifiers,
    identifiers_command,
    match_devices,
    parse_addresses,
    parse_hex,
    parse_identifiers,
)
from coldstore.tape.output import UnknownOutput
from coldstore.tape.sysfs import TapeDevice, tape_device, tape_devices
from coldstore.testing.process import Script, SimulatedCommandRunner, SimulatedDeviceLocks
from tests.unit.golden import recorded, script

ADDRESSES = DriveAddresses(first=0x100, count=2)
IDENTIFIERS = {
    0: "IBM     ULT3580-TD8     10WT000001",
    1: "IBM     ULT3580-TD8     10WT000002",
}


class ParserTests(SynchronousTestCase):
    """Answers of sg_modes and sg_raw."""

    def test_addresses(self) -> None:
        """The element address assignment page tells where the drives begin."""
        self.assertEqual(parse_addresses(recorded("tools", "sg_modes-element-addresses").stdout), ADDRESSES)

    def test_other_pages(self) -> None:
        """Another page, or none, is refused."""
        stdout = recorded("tools", "sg_modes-element-addresses").stdout
        for wrong in (b"", stdout.replace(b"1d 12", b"1f 12"), stdout.replace(b" 10     00 02 00 00\n", b"")):
            self.assertRaises(UnknownOutput, parse_addresses, wrong)

    def test_identifiers(self) -> None:
        """Identifiers are read with volume tags (full and empty drives) and without."""
        for case in ("sg_raw-read-element-status-dvcid", "sg_raw-read-element-status-dvcid-novoltag"):
            self.assertEqual(parse_identifiers(recorded("tools", case).stderr, ADDRESSES), IDENTIFIERS)

    def test_letters_are_not_hex(self) -> None:
        """The dump's right column, which may look like hex, is not read."""
        dump = b" 00     61 62 20 66 66                                     ab ff\n"
        self.assertEqual(parse_hex(dump), b"ab ff")

    def test_long_dump(self) -> None:
        """Offsets of three digits take one of the blanks."""
        lines = b"".join(
            b" %02x" % start
            + b" " * (5 if start < 256 else 4)
            + b"00 " * 8
            + b" "
            + b"00 " * 8
            + b"   ................\n"
            for start in range(0, 0x120, 16)
        )
        self.assertEqual(parse_hex(lines), bytes(0x120))

    def test_gaps(self) -> None:
        """A dump with a missing line is refused, and so is one shorter than announced."""
        dump = recorded("tools", "sg_raw-read-element-status-dvcid").stderr
        lines = dump.splitlines(True)
        self.assertRaises(UnknownOutput, parse_identifiers, b"".join(lines[:5] + lines[6:]), ADDRESSES)
        self.assertRaises(UnknownOutput, parse_identifiers, b"".join(lines[:-1]), ADDRESSES)
        self.assertRaises(UnknownOutput, parse_identifiers, b"", ADDRESSES)

    def test_no_identifier(self) -> None:
        """A drive whose identifier is empty is left out."""
        dump = recorded("tools", "sg_raw-read-element-status-dvcid-novoltag").stderr
        self.assertEqual(
            parse_identifiers(
                dump.replace(b"02 01 00 22\n", b"02 01 00 00\n").replace(
                    b"04 02 01 00 22", b"04 02 01 00 00"
                ),
                ADDRESSES,
            ),
            {1: IDENTIFIERS[1]},
        )

    def test_commands(self) -> None:
        """The command descriptor block asks for all drives with tags and identifiers."""
        self.assertEqual(addresses_command("sg_modes", "/dev/sg0"), ("sg_modes", "-p", "0x1d", "/dev/sg0"))
        self.assertEqual(
            " ".join(identifiers_command("sg_raw", "/dev/sg0", ADDRESSES, 512)),
            "sg_raw -r 512 /dev/sg0 b8 14 01 00 00 02 01 00 02 00 00 00",
        )


class MatchTests(SynchronousTestCase):
    """Identifiers against the kernel's devices."""

    def test_swapped(self) -> None:
        """Drives are matched by serial number whatever the order of the devices."""
        first = TapeDevice(name="nst0", serial="10WT000002", generic="/dev/sg1")
        second = TapeDevice(name="nst1", serial="10WT000001", generic="/dev/sg2")
        self.assertEqual(match_devices(IDENTIFIERS, [first, second]), {0: second, 1: first})

    def test_doubtful(self) -> None:
        """Without exactly one device of that serial number a drive is left out."""
        twin = TapeDevice(name="nst0", serial="10WT000001", generic=None)
        blank = TapeDevice(name="nst2", serial=None, generic=None)
        self.assertEqual(match_devices(IDENTIFIERS, [twin, twin, blank]), {})


class DiscoveryTests(SynchronousTestCase):
    """Asking the library."""

    def setUp(self) -> None:
        """Make a runner and a lock."""
        clock = Clock()
        self.runner = SimulatedCommandRunner(clock)
        self.lock = SimulatedDeviceLocks(clock).changer()
        self.successResultOf(self.lock.acquire(timeout_seconds=1))

    def test_asks(self) -> None:
        """Both commands inherit the changer's lock."""
        self.runner.expect(["sg_modes"], script("tools", "sg_modes-element-addresses"))
        self.runner.expect(["sg_raw"], script("tools", "sg_raw-read-element-status-dvcid"))
        asked = drive_identifiers(self.runner, "/dev/sg0", lock=self.lock)
        self.assertEqual(self.successResultOf(asked), IDENTIFIERS)
        self.assertEqual({ran.descriptors for ran in self.runner.ran}, {(self.lock.descriptor(),)})

    def test_cannot_tell(self) -> None:
        """Missing tools, a refusal and an unknown answer all say that the drives must be configured."""
        self.failureResultOf(drive_identifiers(self.runner, "/dev/sg0", lock=self.lock), DrivesUnidentified)
        self.runner.expect(["sg_modes"], Script(exit_status=5, stderr=b"field in cdb illegal"), Script())
        for _ in range(2):
            self.failureResultOf(
                drive_identifiers(self.runner, "/dev/sg0", lock=self.lock), DrivesUnidentified
            )


class SysfsTests(SynchronousTestCase):
    """What the kernel tells, from a folder that looks like /sys/class/scsi_tape."""

    def setUp(self) -> None:
        """Make two devices: a whole one, and one of which the kernel knows nothing."""
        self.tapes = Path(self.mktemp())
        whole = self.tapes / "nst0" / "device"
        (whole / "scsi_generic" / "sg1").mkdir(parents=True)
        (whole / "vpd_pg80").write_bytes(b"\x01\x80\x00\x0a10WT000001")
        (self.tapes / "nst0a" / "device").mkdir(parents=True)
        (self.tapes / "nst1" / "device").mkdir(parents=True)

    def test_devices(self) -> None:
        """Serial number and generic node are told where known; other modes of a device are no devices."""
        self.assertEqual(
            tape_devices(tapes=self.tapes),
            (
                TapeDevice(name="nst0", serial="10WT000001", generic="/dev/sg1"),
                TapeDevice(name="nst1", serial=None, generic=None),
            ),
        )

    def test_links(self) -> None:
        """A device is found through a link, as udev makes them."""
        link = self.tapes / "scsi-10WT000001-nst"
        link.symlink_to("/dev/nst0")
        device = tape_device(str(link), tapes=self.tapes)
        assert device is not None
        self.assertEqual(device.serial, "10WT000001")

    def test_no_tape_device(self) -> None:
        """Other paths are no tape devices; a machine without tape driver has none."""
        self.assertIsNone(tape_device("/dev/null", tapes=self.tapes))
        self.assertEqual(tape_devices(tapes=self.tapes / "nothing"), ())
