"""The language of ``mt``, by recorded outputs."""

from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.drive import DriveCondition
from coldstore.tape.mt import (
    Refusal,
    explain,
    is_rewinding_node,
    offline_command,
    parse_status,
    status_command,
)
from coldstore.tape.output import UnknownOutput
from tests.unit.golden import cases, recorded


class StatusTests(SynchronousTestCase):
    """Reading ``mt status``."""

    def test_every_recording(self) -> None:
        """Every recorded status with exit status 0 is read and has the condition its name tells."""
        others = {
            "status-no-tape": DriveCondition.EMPTY,
            "status-after-offline": DriveCondition.EMPTY,
            "status-while-loading": DriveCondition.LOADING,
            "status-cleaning": DriveCondition.LOADING,
        }
        read = 0
        for case in cases("mt", "status-"):
            completed = recorded("mt", case)
            if completed.exit_status == 0:
                expected = others.get(case, DriveCondition.READY)
                self.assertEqual(parse_status(completed.stdout).condition, expected, case)
                read += 1
        self.assertGreater(read, 20)

    def test_values(self) -> None:
        """Density and position are told where the drive knows them."""
        ready = parse_status(recorded("mt", "status-after-fsr-1").stdout)
        self.assertEqual((ready.density_code, ready.file_number, ready.block_number), (0x5E, 1, 1))
        empty = parse_status(recorded("mt", "status-no-tape").stdout)
        self.assertEqual((empty.density_code, empty.file_number, empty.block_number), (None, None, None))
        self.assertFalse(empty.is_ready)

    def test_write_protection(self) -> None:
        """The tab of the cartridge shows."""
        self.assertTrue(parse_status(recorded("mt", "status-write-protected").stdout).is_write_protected)
        self.assertFalse(parse_status(recorded("mt", "status-bot").stdout).is_write_protected)

    def test_unnamed_density(self) -> None:
        """The hex code is read, since mt has no names for generations after LTO-8."""
        stdout = recorded("mt", "status-bot").stdout.replace(b"0x5e (LTO-8)", b"0x60 (no translation)")
        self.assertEqual(parse_status(stdout).density_code, 0x60)

    def test_needs_cleaning(self) -> None:
        """A drive that asks to be cleaned says so in its flags."""
        stdout = recorded("mt", "status-bot").stdout.replace(b"(41010000)", b"(41018000)")
        status = parse_status(stdout.replace(b"IM_REP_EN", b"IM_REP_EN CLN"))
        self.assertTrue(status.needs_cleaning)

    def test_unknown_answers(self) -> None:
        """What is not known is refused: missing lines, unknown flags, flags that contradict the bits."""
        stdout = recorded("mt", "status-bot").stdout
        for wrong in (
            b"",
            b"mt: garbage\n",
            stdout.replace(b" BOT", b" BOTTOM"),
            stdout.replace(b"(41010000)", b"(1010000)"),
            b"".join(line for line in stdout.splitlines(True) if not line.startswith(b"File")),
            b"".join(line for line in stdout.splitlines(True) if not line.startswith(b"General")),
        ):
            self.assertRaises(UnknownOutput, parse_status, wrong)


class ComplaintTests(SynchronousTestCase):
    """Failures."""

    def test_kinds(self) -> None:
        """The one line that mt prints tells the kind."""
        for case, refusal in {
            "status-busy": Refusal.BUSY,
            "rewind-busy": Refusal.BUSY,
            "rewind-no-tape": Refusal.NO_MEDIUM,
            "status-missing-device": Refusal.NO_DEVICE,
            "status-device-removed": Refusal.NO_DEVICE,
            "permission-denied": Refusal.NO_DEVICE,
            "offline-failed": Refusal.FAILED,
            "rewind-hardware-error": Refusal.FAILED,
        }.items():
            self.assertEqual(explain(recorded("mt", case))[0], refusal, case)


class CommandTests(SynchronousTestCase):
    """Argument lists and nodes."""

    def test_device_is_always_named(self) -> None:
        """The default device of mt is never used."""
        self.assertEqual(status_command("mt", "/dev/nst0"), ("mt", "-f", "/dev/nst0", "status"))
        self.assertEqual(offline_command("/bin/mt", "/dev/nst1"), ("/bin/mt", "-f", "/dev/nst1", "offline"))

    def test_rewinding_nodes(self) -> None:
        """Nodes that rewind at close are told from those that do not."""
        self.assertEqual([is_rewinding_node(name) for name in ("st0", "st12a", "st3l")], [True] * 3)
        self.assertEqual(
            [is_rewinding_node(name) for name in ("nst0", "nst0a", "sg1", "stapes", "st")], [False] * 5
        )
