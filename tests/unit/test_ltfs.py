"""Arguments, messages and verdicts of the LTFS programs: by table, and on what the reference implementation said."""

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.filesystem import ReadOnly, StartBlock, UnmountOutcome
from coldstore.tape.ltfs import (
    CheckOutcome,
    LtfsOptions,
    LtfsTools,
    Message,
    Trouble,
    check_arguments,
    check_outcome,
    format_arguments,
    format_trouble,
    formatted_uuid,
    is_ours,
    is_plain_directory_announced,
    is_ready,
    lines_of,
    message_of,
    mount_arguments,
    mount_entries,
    mount_trouble,
    mounted_at,
    read_only_reason,
    reason_of,
    start_block_of,
    tail_of,
    unmount_verdict,
    volume_serial,
)
from tests.incidents import survives

RECORDED = Path(__file__).resolve().parent.parent / "fixtures" / "ltfs"
TOOLS = LtfsTools()
NO_OPTIONS = LtfsOptions()


def recorded(name: str) -> tuple[str, ...]:
    """What the reference implementation 2.4.8.4 said."""
    return lines_of((RECORDED / f"{name}.txt").read_bytes())


class ArgumentTests(SynchronousTestCase):
    """How the programs are called."""

    def test_format(self) -> None:
        """mkltfs is called without force, with the first six characters and the placement rule."""
        self.assertEqual(
            format_arguments(
                TOOLS,
                LtfsOptions(mkltfs=("-e", "file")),
                device="/dev/sg3",
                barcode="ABC123L8",
                volume_name="pool main 7",
            ),
            (
                *("mkltfs", "-e", "file", "-d", "/dev/sg3", "-s", "ABC123", "-n", "pool main 7"),
                *("-r", "size=64M/name=*.manifest:*.json:*.txt"),
            ),
        )

    def test_check(self) -> None:
        """ltfsck takes the device as its operand; a deep check adds -z."""
        self.assertEqual(
            check_arguments(TOOLS, NO_OPTIONS, device="/dev/sg3", is_deep=False), ("ltfsck", "/dev/sg3")
        )
        self.assertEqual(
            check_arguments(TOOLS, LtfsOptions(ltfsck=("-e", "file")), device="d", is_deep=True),
            ("ltfsck", "-e", "file", "-z", "d"),
        )

    def test_mount(self) -> None:
        """ltfs runs in the foreground, writes indexes at the unmount only, and gets the site's options before the mountpoint."""
        argv = mount_arguments(
            TOOLS,
            LtfsOptions(ltfs=("-o", "noautodump")),
            device="/dev/sg3",
            mountpoint="/m",
            work_directory="/w",
            pool_mebibytes=256,
            read_only=True,
        )
        self.assertEqual(argv[:4], ("ltfs", "-f", "-o", "devname=/dev/sg3"))
        for option in ("sync_type=unmount", "work_directory=/w", "max_pool_size=256", "ro", "noautodump"):
            self.assertIn(option, argv)
        self.assertEqual(argv[-1], "/m")

    def test_serial(self) -> None:
        """Only digits and capital letters make a serial."""
        self.assertEqual(volume_serial("A00001L8"), "A00001")
        for barcode in ("", "A0001", "a00001L8", "A0-001L8", "Ä00001L8"):
            self.assertRaises(ValueError, volume_serial, barcode)


class MessageTests(SynchronousTestCase):
    """Reading what they say."""

    def test_forms(self) -> None:
        """Lines with and without thread id, and lines without a number."""
        table = {
            "LTFS15024I Medium formatted successfully.": ("15024I", "Medium formatted successfully."),
            "7a98 LTFS14000I LTFS starting, LTFS version": ("14000I", "LTFS starting, LTFS version"),
            "\0\0\x007a98 LTFS11034I Volume unmounted successfully.": (
                "11034I",
                "Volume unmounted successfully.",
            ),
            "LTFS9015W Setting the locale": ("9015W", "Setting the locale"),
            "fuse: bad mount point `/x': No such file": None,
            "": None,
            "zz98 LTFS14000I not a thread": None,
        }
        for line, expected in table.items():
            found = message_of(line)
            self.assertEqual(found, expected and Message(code=expected[0], text=expected[1]), line)

    def test_undecodable(self) -> None:
        """A file name that is no UTF-8 does not disturb."""
        self.assertEqual(lines_of(b"LTFS11034I \xff\n\n\0\0\n"), ("LTFS11034I \\xff",))

    def test_tail(self) -> None:
        """Only the last lines are kept for people."""
        self.assertEqual(tail_of([str(number) for number in range(100)])[0], "60")

    def test_plain_directory(self) -> None:
        """The virtual library's announcement is known by its number."""
        self.assertTrue(is_plain_directory_announced(["1a LTFS00001W coldstore-vtl: no FUSE here"]))
        self.assertFalse(is_plain_directory_announced(recorded("ltfs-written")))


class FormatTests(SynchronousTestCase):
    """Judging mkltfs."""

    def test_recorded(self) -> None:
        """What the reference implementation said, and what it means."""
        table = {
            ("mkltfs-fresh", 0): None,
            ("mkltfs-again", 16): Trouble.ALREADY_FORMATTED,
            ("mkltfs-serial", 16): Trouble.CANNOT_START,
            ("mkltfs-no-device", 8): Trouble.CANNOT_START,
        }
        for (name, status), expected in table.items():
            self.assertIs(format_trouble(status, recorded(name)), expected, name)
        self.assertRegex(formatted_uuid(recorded("mkltfs-fresh")) or "", "^[0-9a-f-]{36}$")
        self.assertIsNone(formatted_uuid(recorded("mkltfs-again")))

    def test_on_drives(self) -> None:
        """What SCSI drives bring: empty, busy, reserved, protected."""
        table = [
            (
                8,
                ["LTFS12016E No medium present.", "LTFS15044E x", "LTFS15023I Formatting failed."],
                Trouble.NO_MEDIUM,
            ),
            (8, ["LTFS15009E Cannot open device '/dev/sg1' (-21711)."], Trouble.DRIVE_BUSY),
            (
                8,
                ["LTFS30266W The drive is already reserved: IPv4", "LTFS15009E Cannot open device (-21719)."],
                Trouble.DRIVE_BUSY,
            ),
            (16, ["LTFS11095E Cannot format: the medium is write protected."], Trouble.WRITE_PROTECTED),
            (8, ["LTFS15009E Cannot open device 'X' (-21700)."], Trouble.CANNOT_START),
            (8, ["LTFS14116E This medium is not supported (0)."], Trouble.UNSUPPORTED),
            (8, ["LTFS15012E Failed to format the volume (-20301)."], Trouble.OTHER),
            (0, ["LTFS15024I Medium formatted successfully."], Trouble.OTHER),
            (None, [], Trouble.OTHER),
        ]
        for status, lines, expected in table:
            self.assertIs(format_trouble(status, lines), expected, lines)


class MountTests(SynchronousTestCase):
    """Judging an ltfs that did not get ready."""

    def test_recorded(self) -> None:
        """What the reference implementation said, and what it means."""
        table = {
            "ltfs-blank": Trouble.NOT_FORMATTED,
            "ltfs-bad-option": Trouble.CANNOT_START,
            "ltfs-no-device": Trouble.CANNOT_START,
        }
        for name, expected in table.items():
            self.assertFalse(is_ready(recorded(name)))
            self.assertIs(mount_trouble(recorded(name)), expected, name)
        self.assertTrue(is_ready(recorded("ltfs-written")))

    def test_on_drives(self) -> None:
        """Each way in which a mount can fail leads to what is to be done."""
        table = [
            (
                ["LTFS30210I Cannot open device: failed to open /dev/sg7 (16).", "LTFS12012E x"],
                Trouble.DRIVE_BUSY,
            ),
            (["LTFS30293I Changer /dev/sg1 was reserved from another node (x)"], Trouble.DRIVE_BUSY),
            (["LTFS12014E failed to reserve the device (-21719)"], Trouble.DRIVE_BUSY),
            (
                ["LTFS30210I Cannot open device: failed to open /dev/sg7 (2).", "LTFS12012E x"],
                Trouble.CANNOT_START,
            ),
            (["fuse: mountpoint is not empty", "LTFS14123W x"], Trouble.CANNOT_START),
            (["LTFS14061E Unknown type of sync (foo)."], Trouble.CANNOT_START),
            (["LTFS17159I Process was interrupted by user.", "LTFS14013E x"], Trouble.TOLD_TO_END),
            (["LTFS12045E Cannot write block (-20301).", "LTFS14013E x"], Trouble.OTHER),
            (["LTFS12016E No medium present.", "LTFS14075E Cannot set up tape drive."], Trouble.NO_MEDIUM),
            (["LTFS17168E Cannot read volume: medium is not partitioned."], Trouble.NOT_FORMATTED),
            (["LTFS11175E Cannot read ANSI label: expected 80 bytes", "LTFS11009E x"], Trouble.NOT_FORMATTED),
            (["LTFS11220E Medium check failed: extra blocks detected. Run ltfsck."], Trouble.NEEDS_CHECK),
            (["LTFS11024E Cannot mount volume: read index failed"], Trouble.NEEDS_CHECK),
            (["LTFS17146E EOD of DP(1) is missing."], Trouble.NEEDS_CHECK),
            (["LTFS14116E This medium is not supported (0)."], Trouble.UNSUPPORTED),
            ([], Trouble.OTHER),
        ]
        for lines, expected in table:
            self.assertIs(mount_trouble(lines), expected, lines)


class ReasonTests(SynchronousTestCase):
    """The line that people are told."""

    def test_recorded(self) -> None:
        """Of what the reference implementation said, the line that says why."""
        table = {
            "ltfs-bad-option": "fuse: unknown option `nothing'",
            "ltfs-blank": "LTFS17168E Cannot read volume: medium is not partitioned",
            "ltfs-no-device": "LTFS10004E Cannot open device 'none'",
            "ltfsck-no-device": "LTFS16011E Cannot open device 'none'",
            "ltfsck-blank": "LTFS17168E Cannot read volume: medium is not partitioned",
            "mkltfs-again": "LTFS15047E Medium is already formatted (0)",
            "mkltfs-no-device": "LTFS15009E Cannot open device 'none' (-21700)",
            "mkltfs-serial": "LTFS15029E Tape serial must be 6 characters",
        }
        for name, expected in table.items():
            self.assertEqual(reason_of(recorded(name)), expected)

    def test_rules(self) -> None:
        """Reservations and libfuse speak first, repetitions last."""
        for lines, expected in (
            (
                ["LTFS30266W reserved: IPv4: 192.0.2.7 (S).", "LTFS12014E x", "LTFS10004E y"],
                "LTFS30266W reserved: IPv4: 192.0.2.7 (S)",
            ),
            (
                ["fuse: if you are sure this is safe", "fuse: mountpoint is not empty", "LTFS14123W x"],
                "fuse: mountpoint is not empty",
            ),
            (
                ["1a LTFS14116E This medium is not supported.", "1a LTFS14013E Cannot mount."],
                "LTFS14116E This medium is not supported",
            ),
            (["LTFS14013E Cannot mount the volume."], "LTFS14013E Cannot mount the volume"),
            (["Segmentation fault", "LTFS14000I x"], "Segmentation fault"),
            (["LTFS14000I x"], "it said nothing"),
        ):
            self.assertEqual(reason_of(lines), expected)

    def test_read_only(self) -> None:
        """Why a volume is mounted read-only."""
        for code, expected in (
            ("14073I", ReadOnly.FULL),
            ("14074I", ReadOnly.FULL),
            ("14078I", ReadOnly.OLDER),
            ("14019I", ReadOnly.PROTECTED),
            ("14029I", None),
        ):
            self.assertIs(read_only_reason([f"1a LTFS{code} x"]), expected)


READY = "1a LTFS14029I Ready to receive file system requests."
UNMOUNTED = "1a LTFS11034I Volume unmounted successfully."


class UnmountTests(SynchronousTestCase):
    """Judging an ltfs that has ended."""

    def test_recorded(self) -> None:
        """Clean ends are clean; exit status 0 with 11034I after a lost index is not."""
        table = {
            "ltfs-written": UnmountOutcome.CLEAN,
            "ltfs-unchanged": UnmountOutcome.CLEAN,
            "ltfs-write-error": UnmountOutcome.UNKNOWN,
            "ltfs-bad-option": UnmountOutcome.UNKNOWN,
        }
        for name, expected in table.items():
            lines = recorded(name)
            verdict = unmount_verdict(exit_status=0, signal=None, notable=lines, log_tail=lines)
            self.assertIs(verdict.outcome, expected, (name, verdict))
        self.assertIn("LTFS11034I", recorded("ltfs-write-error")[-1])

    def test_rules(self) -> None:
        """Each sign alone spoils the verdict."""
        skipped = "1a LTFS17265I Skip writing the index because of the volume is not dirty and current self pointer points IP."
        clean = [READY, skipped, UNMOUNTED]
        self.assertTrue(unmount_verdict(exit_status=0, signal=None, notable=clean, log_tail=clean).is_clean)
        spoilers = [
            *(f"LTFS{code} x" for code in ("11033E", "11083E", "11084E", "12045E", "12047E")),
            *(f"LTFS{code} x" for code in ("11345E", "11346E", "17069E", "14123W")),
            "LTFS17265I Skip writing the index because of the mam lock field is both partitions.",
        ]
        for spoiler in spoilers:
            verdict = unmount_verdict(exit_status=0, signal=None, notable=[*clean, spoiler], log_tail=())
            self.assertFalse(verdict.is_clean, spoiler)
            self.assertEqual(len(verdict.findings), 1, verdict)
        for status, signal, lines in (
            (1, None, clean),
            (None, 9, clean),
            (None, None, clean),
            (0, None, [READY]),
            (0, None, [UNMOUNTED]),
        ):
            verdict = unmount_verdict(exit_status=status, signal=signal, notable=lines, log_tail=())
            self.assertEqual(len(verdict.findings), 1, verdict)

    def test_index_partition_full(self) -> None:
        """A full index partition is a finding of its own, no failure."""
        lines = [READY, "LTFS13013W x", "LTFS11072E x", UNMOUNTED]
        verdict = unmount_verdict(exit_status=0, signal=None, notable=lines, log_tail=())
        self.assertTrue(verdict.is_clean)
        self.assertTrue(verdict.full_because)
        lines = [READY, "LTFS11072E x", "LTFS13014W (-1124)", UNMOUNTED]
        verdict = unmount_verdict(exit_status=0, signal=None, notable=lines, log_tail=())
        self.assertEqual(verdict.full_because, "", "it is the data partition that is full")


class CheckTests(SynchronousTestCase):
    """Judging ltfsck."""

    def test_recorded(self) -> None:
        """What the reference implementation said, and what it means."""
        table: dict[tuple[str, int], CheckOutcome | Trouble] = {
            ("ltfsck-clean", 1): CheckOutcome.CONSISTENT,
            ("ltfsck-after-write-error", 1): CheckOutcome.CONSISTENT,
            ("ltfsck-blank", 4): CheckOutcome.DAMAGED,
            ("ltfsck-no-device", 8): Trouble.CANNOT_START,
        }
        for (name, status), expected in table.items():
            self.assertIs(check_outcome(status, recorded(name)), expected, name)

    @survives("check-status-leaks", "check-usage")
    def test_rules(self) -> None:
        """Status and words must agree, and odd statuses say nothing of the volume."""
        consistent = "LTFS16022I Volume is consistent."
        table: list[tuple[int | None, list[str], CheckOutcome | Trouble]] = [
            (0, [consistent], CheckOutcome.CONSISTENT),
            (1, ["LTFS11227I Preserve existing unreferred data blocks", consistent], CheckOutcome.REPAIRED),
            (
                1,
                ["LTFS17235I Writing index of A to b (Reason: Recovery, 1 files) D.", consistent],
                CheckOutcome.REPAIRED,
            ),
            (1, ["LTFS16086I Volume is rolled back successfully."], CheckOutcome.CONSISTENT),
            (1, [], CheckOutcome.DAMAGED),
            (4, [consistent], CheckOutcome.DAMAGED),
            (120, [consistent], Trouble.OTHER),
            (15, ["LTFS12016E No medium present.", "LTFS16092E x"], Trouble.NO_MEDIUM),
            (8, ["LTFS16011E Cannot open device '/dev/sg1' (-21711)."], Trouble.DRIVE_BUSY),
            (8, ["LTFS16011E Cannot open device '/dev/sg1' (-21700)."], Trouble.CANNOT_START),
            (4, ["LTFS17146E EOD of DP(1) is missing.", "LTFS17148E Use ltfsck"], CheckOutcome.EOD_MISSING),
            (None, [consistent], Trouble.OTHER),
        ]
        for status, lines, expected in table:
            self.assertIs(check_outcome(status, lines), expected, (status, lines))


class MountTableTests(SynchronousTestCase):
    """Reading the mount table and locations."""

    table = (
        "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
        "42 27 0:39 / /tmp/a\\040b rw,nosuid - fuse ltfs:/dev/sg\\0403 rw,user_id=0\n"
        "43 27 0:40 / /m rw - tmpfs none rw\n"
        "44 27 0:41 / /m rw,nosuid shared:7 - fuse ltfs:/dev/sg4 ro,user_id=0\n"
    )

    def test_entries(self) -> None:
        """Escapes are undone, the upper one of two mounts counts, and read-only is seen wherever it is said."""
        self.assertEqual(len(mount_entries(self.table)), 4)
        blank = mounted_at(self.table, "/tmp/a b")
        self.assertTrue(is_ours(blank, "/dev/sg 3"))
        upper = mounted_at(self.table, "/m")
        assert upper is not None
        self.assertTrue(upper.is_read_only)
        self.assertTrue(is_ours(upper, "/dev/sg4"))
        self.assertFalse(is_ours(upper, "/dev/sg5"))
        self.assertFalse(is_ours(mounted_at(self.table, "/"), "/dev/vda"))
        self.assertFalse(is_ours(mounted_at(self.table, "/none"), "/dev/sg4"))
        self.assertRaises(ValueError, mount_entries, "nonsense\n")

    def test_locations(self) -> None:
        """A location names partition and block."""
        self.assertEqual(start_block_of("b:312"), StartBlock(partition="b", block=312))
        for value in ("", "b", "b:", "b:x", "bb:1", "1"):
            self.assertRaises(ValueError, start_block_of, value)
