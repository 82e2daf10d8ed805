"""The language of ``mtx``: argument lists, inventories and complaints, by recorded outputs."""

from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.process import Completed
from coldstore.model.library import DriveElement, MailSlot, Slot
from coldstore.tape.mtx import (
    Sense,
    Trouble,
    explain,
    load_command,
    parse_sense,
    parse_status,
    status_command,
    transfer_command,
    unload_command,
)
from coldstore.tape.output import UnknownOutput
from tests.unit.golden import cases, recorded

HEADER = b"  Storage Changer /dev/sg0:1 Drives, 2 Slots ( 1 Import/Export )\n"
DRIVE = b"Data Transfer Element 0:Empty\n"
SLOTS = b"      Storage Element 1:Empty\n      Storage Element 2 IMPORT/EXPORT:Empty\n"


class CommandTests(SynchronousTestCase):
    """Argument lists."""

    def test_both_numbers_always(self) -> None:
        """Every move names source and destination; the device comes first, as mtx demands."""
        changer = "/dev/tape/by-id/scsi-00X4U78A0001_LL0"
        self.assertEqual(status_command("/usr/sbin/mtx", changer), ("/usr/sbin/mtx", "-f", changer, "status"))
        self.assertEqual(
            load_command("mtx", changer, slot=7, drive=0), ("mtx", "-f", changer, "load", "7", "0")
        )
        self.assertEqual(
            unload_command("mtx", changer, slot=7, drive=0), ("mtx", "-f", changer, "unload", "7", "0")
        )
        self.assertEqual(
            transfer_command("mtx", changer, source=3, destination=11),
            ("mtx", "-f", changer, "transfer", "3", "11"),
        )


class StatusTests(SynchronousTestCase):
    """Inventories."""

    def test_every_recording(self) -> None:
        """Every recorded inventory with exit status 0 is read; its cartridges are those that were in the library."""
        read = 0
        for case in cases("mtx", "status-") + cases("mtx", "last-status"):
            completed = recorded("mtx", case)
            if completed.exit_status != 0:
                continue
            inventory = parse_status(completed.stdout)
            self.assertEqual((len(inventory.drives), len(inventory.slots)), (2, 10), case)
            full = sum(element.is_full for element in inventory.elements())
            # The slot that holds A00006L8 in mail is not reported when mode sense fails; all else is seven cartridges.
            self.assertIn(full, (6, 7), case)
            if not inventory.unlabelled():
                self.assertLessEqual(
                    set(inventory.barcodes()), {*(f"A{n:05}L8" for n in range(1, 7)), "CLNU01L1"}, case
                )
                self.assertEqual(inventory.repeated_barcodes(), frozenset(), case)
            read += 1
        self.assertGreater(read, 15)

    def test_loaded_drive(self) -> None:
        """A loaded drive tells its barcode and where mtx would put the cartridge back."""
        inventory = parse_status(recorded("mtx", "status-unloaded-to-other-slot").stdout)
        self.assertEqual(
            inventory.drives,
            (
                DriveElement(number=0, is_full=True, barcode="A00001L8", source_slot=1),
                DriveElement(number=1, is_full=False, barcode=None, source_slot=None),
            ),
        )
        self.assertEqual(inventory.storage(8), Slot(number=8, is_full=True, barcode="A00002L8"))
        self.assertEqual(inventory.storage(1), Slot(number=1, is_full=False, barcode=None))
        self.assertEqual(inventory.mail_slots, (MailSlot(number=11, is_full=False, barcode=None),))

    def test_mail_slot(self) -> None:
        """A full mail slot carries the number after the slots."""
        inventory = parse_status(recorded("mtx", "status-ie-full").stdout)
        self.assertEqual(inventory.storage(11), MailSlot(number=11, is_full=True, barcode="A00006L8"))

    def test_vanished_labels(self) -> None:
        """After a unit attention full elements have no label; they are full all the same."""
        inventory = parse_status(recorded("mtx", "status-unit-attention-on-element-status").stdout)
        self.assertEqual([element.number for element in inventory.unlabelled()], [1, 2, 3, 4, 5, 6, 10])

    def test_unknown_source(self) -> None:
        """A drive whose library does not know the source has no hint."""
        line = b"Data Transfer Element 0:Full (Unknown Storage Element Loaded):VolumeTag = A00001L8   \n"
        self.assertEqual(
            parse_status(HEADER + line + SLOTS).drive(0),
            DriveElement(number=0, is_full=True, barcode="A00001L8", source_slot=None),
        )

    def test_alternate_tag(self) -> None:
        """The second label of two-sided media is not the barcode."""
        slots = SLOTS.replace(b"1:Empty", b"1:Full :VolumeTag=A1L8  :AlternateVolumeTag=B1L8  ")
        self.assertEqual(parse_status(HEADER + DRIVE + slots).storage(1).barcode, "A1L8")

    def test_unprintable_label(self) -> None:
        """A label with other than printable characters was not read."""
        slots = SLOTS.replace(b"1:Empty", b"1:Full :VolumeTag=A\xff\x01L8  ")
        slot = parse_status(HEADER + DRIVE + slots).storage(1)
        self.assertEqual((slot.is_full, slot.barcode), (True, None))

    def test_unknown_answers(self) -> None:
        """What is not known is refused, not guessed: other lines, missing, doubled or surplus elements."""
        for stdout in (
            b"",
            b"Loading media from Storage Element 1 into drive 0...done\n",
            HEADER,
            HEADER + DRIVE,
            HEADER + DRIVE + DRIVE + SLOTS,
            HEADER + SLOTS,
            HEADER + DRIVE + SLOTS + b"      Storage Element 3:Empty\n",
            HEADER + DRIVE + SLOTS.replace(b"1:Empty", b"1:Perhaps"),
            HEADER + DRIVE + SLOTS.replace(b" IMPORT/EXPORT", b""),
            HEADER + DRIVE + SLOTS + b"Segmentation fault\n",
        ):
            self.assertRaises(UnknownOutput, parse_status, stdout)


class ComplaintTests(SynchronousTestCase):
    """Failures, by recorded outputs."""

    def test_kinds(self) -> None:
        """Every recorded failure of a move or status is of its kind."""
        expected = {
            "load-aborted-b-47-00": Trouble.REFUSED,
            "load-cleaning-ejected-5-30-03": Trouble.CLEANING_EJECTED,
            "load-drive-full": Trouble.DESTINATION_FULL,
            "load-hardware-error-4-44-00": Trouble.REFUSED,
            "load-invalid-element-5-21-01": Trouble.NO_SUCH_ELEMENT,
            "load-mechanical-error-4-15-01": Trouble.REFUSED,
            "load-no-arguments": Trouble.NO_SUCH_ELEMENT,
            "load-no-such-drive": Trouble.NO_SUCH_ELEMENT,
            "load-not-ready-becoming-ready-2-04-01": Trouble.BECOMING_READY,
            "load-not-ready-manual-2-04-03": Trouble.NOT_READY,
            "load-slot-zero": Trouble.NO_SUCH_ELEMENT,
            "load-source-empty": Trouble.SOURCE_EMPTY,
            "load-source-out-of-range": Trouble.NO_SUCH_ELEMENT,
            "load-unit-attention-6-29-00": Trouble.UNIT_ATTENTION,
            "load-unit-attention-ie-accessed-6-28-01": Trouble.UNIT_ATTENTION,
            "no-device-option": Trouble.NO_DEVICE,
            "permission-denied": Trouble.NO_DEVICE,
            "status-altres": Trouble.REFUSED,
            "status-device-missing": Trouble.NO_DEVICE,
            "status-not-a-scsi-device": Trouble.NO_DEVICE,
            "status-not-ready-2-04-01": Trouble.BECOMING_READY,
            "status-on-drive": Trouble.REFUSED,
            "transfer-destination-full": Trouble.DESTINATION_FULL,
            "transfer-no-destination": Trouble.NO_SUCH_ELEMENT,
            "transfer-out-of-range": Trouble.NO_SUCH_ELEMENT,
            "transfer-source-empty": Trouble.SOURCE_EMPTY,
            "unload-destination-full": Trouble.DESTINATION_FULL,
            "unload-drive-empty": Trouble.SOURCE_EMPTY,
            "unload-needs-offline": Trouble.NEEDS_OFFLINE,
            "unload-no-such-drive": Trouble.NO_SUCH_ELEMENT,
            "unload-no-such-drive-default": Trouble.NO_SUCH_ELEMENT,
            "unload-slot-out-of-range": Trouble.NO_SUCH_ELEMENT,
            "unload-while-locked-5-53-02": Trouble.REMOVAL_PREVENTED,
        }
        failed = {
            case
            for prefix in ("load", "unload", "transfer", "status", "permission", "no-device")
            for case in cases("mtx", prefix)
            if recorded("mtx", case).exit_status != 0
        }
        self.assertEqual({case: explain(recorded("mtx", case)).trouble for case in failed}, expected)

    def test_evidence(self) -> None:
        """A complaint carries the sense data and the line that mtx ended with."""
        complaint = explain(recorded("mtx", "load-mechanical-error-4-15-01"))
        self.assertEqual(complaint.sense, Sense(key="Hardware Error", code=0x15, qualifier=0x01))
        self.assertEqual(
            str(complaint),
            "the library failed (Hardware Error 15/01; MOVE MEDIUM from Element Address 4100 to 256 Failed)",
        )

    def test_last_sense_decides(self) -> None:
        """The block of a step that mtx can do without does not count."""
        completed = recorded("mtx", "status-on-drive")
        self.assertEqual([sense.code for sense in parse_sense(completed.stderr)], [0x24, 0x20])
        sense = explain(completed).sense
        self.assertEqual(sense, Sense(key="Illegal Request", code=0x20, qualifier=0))

    def test_silence(self) -> None:
        """A command that said nothing is explained by how it ended."""
        killed = Completed(argv=("mtx",), exit_status=None, signal=11, stdout=b"", stderr=b"", seconds=0)
        complaint = explain(killed)
        self.assertEqual((complaint.trouble, complaint.line), (Trouble.REFUSED, "signal 11"))
