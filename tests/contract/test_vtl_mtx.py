"""The virtual library's ``mtx`` against recorded output of the real one."""

import os
import time

from tests.contract.vtl_harness import VtlCase, golden, wait_for


class MtxGoldenTests(VtlCase):
    """Each recorded output comes back byte for byte, exit status included."""

    def same(self, name: str, words: str, device: str | None = None, recorded: str = "/dev/sg0") -> None:
        """Compare one run with its record."""
        node = device or self.changer
        status, out, err = golden(f"mtx/{name}.txt")
        run = self.run_program("mtx", "-f", node, *words.split())
        self.assertEqual(run, (status, out.replace(recorded, node), err.replace(recorded, node)), name)

    def prepare(self, *lines: str) -> None:
        """Run commands that must work."""
        for line in lines:
            status, _, err = self.mtx(*line.split())
            self.assertEqual(status, 0, f"{line}: {err}")

    def test_status(self) -> None:
        """Status shows drives, slots and the mail slot in each state."""
        self.same("status-drives-empty", "status")
        self.same("status-nobarcode", "nobarcode status")
        self.prepare("load 1 0")
        self.same("status-drive0-full", "status")
        self.same("status-while-loading", "status")
        self.prepare("load 2 1")
        self.same("status-drives-full", "status")
        self.assertEqual(self.mt("offline", drive=1)[0], 0)
        self.same("unload-drive1-to-other-slot", "unload 8 1")
        self.same("status-unloaded-to-other-slot", "status")

    def test_mail_slot(self) -> None:
        """A cartridge goes to the mail slot and back."""
        self.prepare("load 1 0")
        self.same("transfer-to-ie", "transfer 6 11")
        self.same("status-ie-full", "status")
        self.same("transfer-from-ie", "transfer 11 6")

    def test_without_barcodes(self) -> None:
        """``nobarcode`` leaves all tags out."""
        self.prepare("load 3 0")
        self.assertNotIn("VolumeTag", self.mtx("nobarcode", "status")[1])

    def test_load(self) -> None:
        """Loads, and what is refused before and after motion."""
        self.same("load-no-arguments", "load")
        self.same("load-slot-zero", "load 0 1")
        self.same("load-no-such-drive", "load 2 5")
        self.same("load-source-out-of-range", "load 99 1")
        self.same("load-source-empty", "load 7 1")
        self.same("load-1-drive0", "load 1 0")
        self.same("load-drive-full", "load 2 0")
        self.same("load-2-drive1", "load 2 1")

    def test_unload(self) -> None:
        """Unloads, and what is refused before and after motion."""
        self.prepare("load 1 0")
        self.same("unload-needs-offline", "unload 1 0")
        self.same("unload-drive-empty", "unload 2 1")
        self.same("unload-destination-full", "unload 2 0")
        self.same("unload-slot-out-of-range", "unload 99 0")
        self.same("unload-no-such-drive", "unload 1 7")
        self.same("unload-no-such-drive-default", "unload 1 9")
        self.assertEqual(self.mt("offline")[0], 0)
        self.same("unload-drive0", "unload 1 0")

    def test_locked(self) -> None:
        """A drive that prevents removal answers 5/53/02."""
        self.prepare("load 5 0")
        self.assertEqual(self.mt("lock")[0], 0)
        self.same("unload-while-locked-5-53-02", "unload 5 0")

    def test_cleaning(self) -> None:
        """A cleaning cartridge loads and unloads like any other; ``last`` happily takes it."""
        self.same("load-cleaning", "load 10 0")
        self.same("unload-cleaning", "unload 10 0")
        self.prepare("load 10 0")
        self.same("unload-default", "unload")

    def test_transfer(self) -> None:
        """Transfers print nothing, and name element addresses when refused."""
        self.same("transfer-no-destination", "transfer 2")
        self.same("transfer-out-of-range", "transfer 2 99")
        self.same("transfer-destination-full", "transfer 2 3")
        self.same("transfer-source-empty", "transfer 8 9")
        self.prepare("transfer 2 8")
        self.same("transfer-8-2", "transfer 8 2")

    def test_exchange(self) -> None:
        """Exchange turns two or three slots round."""
        self.same("exchange-slots", "exchange 3 4")
        self.same("exchange-with-third-slot", "exchange 3 4 8")
        self.same("exchange-source-empty", "exchange 9 4")

    def test_other_commands(self) -> None:
        """What needs no cartridge."""
        self.same("inquiry", "inquiry")
        self.same("inquiry-drive", "inquiry", self.sg(), "/dev/sg1")
        self.same("inventory", "inventory")
        self.same("position", "position 3")
        self.same("eject-changer", "eject")
        self.same("first", "first 0")
        self.same("status-altres", "altres status")

    def test_usage(self) -> None:
        """Usage and versions go to stderr, and exit as they do."""
        self.same("usage-unknown-command", "frobnicate")
        self.assertEqual(self.run_program("mtx"), golden("mtx/usage-no-args.txt"))
        self.assertEqual(self.run_program("mtx", "--version"), golden("mtx/version.txt"))

    def test_devices(self) -> None:
        """Missing nodes, other files and drives are told apart."""
        self.same("status-device-missing", "status", self.library.node("sg99"), "/dev/sg99")
        self.same("status-not-a-scsi-device", "status", "/dev/null", "/dev/null")
        self.same("status-on-drive", "status", self.sg(), "/dev/sg1")
        self.assertEqual(self.run_program("mtx", "status", env={"CHANGER": self.changer})[0], 0)

    def test_faults(self) -> None:
        """Sense codes come as the recorded blocks; nothing moves."""
        for name, code in (
            ("load-aborted-b-47-00", "B/47/00"),
            ("load-hardware-error-4-44-00", "4/44/00"),
            ("load-invalid-element-5-21-01", "5/21/01"),
            ("load-mechanical-error-4-15-01", "4/15/01"),
            ("load-not-ready-becoming-ready-2-04-01", "2/04/01"),
            ("load-not-ready-manual-2-04-03", "2/04/03"),
            ("load-unit-attention-6-29-00", "6/29/00"),
            ("load-unit-attention-ie-accessed-6-28-01", "6/28/01"),
            ("load-cleaning-ejected-5-30-03", "5/30/03"),
        ):
            self.arm(program="mtx", at="load", barcode="A00005L8", kind=f"sense:{code}")
            self.same(name, "load 5 0")
        self.arm(program="mtx", at="inventory", kind="sense:4/15/01")
        self.same("inventory-failed", "inventory")
        self.arm(program="mtx", at="status", kind="sense:2/04/01")
        self.same("status-not-ready-2-04-01", "status")
        self.assertEqual(self.library.elements().slots[5], "A00005L8")

    def test_barcodes_vanish_once(self) -> None:
        """After a unit attention the storage lines have no tags, the mail slot has, exit 0; the second look is whole."""
        self.arm(program="mtx", at="status", kind="vanish-barcodes")
        self.same("status-unit-attention-on-element-status", "status")
        self.same("status-drives-empty", "status")


class RobotTests(VtlCase):
    """Moves as a robot makes them."""

    def test_chain(self) -> None:
        """Commands on one line run in order."""
        status, out, err = self.mtx("load", "3", "0", "inquiry")
        self.assertEqual((status, err), (0, ""))
        self.assertTrue(
            out.startswith(
                "Loading media from Storage Element 3 into drive 0...done\nProduct Type: Medium Changer"
            )
        )

    def test_killed_while_moving(self) -> None:
        """A killed ``mtx`` does not stop the robot: the cartridge arrives."""
        from coldstore.vtl.latency import Latency

        self.library.set_latency(Latency(move=1.0))
        process = self.start("mtx", "-f", self.changer, "load", "1", "0")
        wait_for(lambda: self.library.elements().move)
        process.kill()
        process.wait()
        self.assertEqual(self.library.elements().slots[1], None)
        began = time.monotonic()
        self.assertIn("Data Transfer Element 0:Full (Storage Element 1 Loaded)", self.mtx("status")[1])
        self.assertGreater(time.monotonic() - began, 0.3)

    def test_moves_are_serial(self) -> None:
        """Two programs at once move one after the other."""
        from coldstore.vtl.latency import Latency

        self.library.set_latency(Latency(move=0.4))
        began = time.monotonic()
        both = [self.start("mtx", "-f", self.changer, "load", str(slot), str(slot - 1)) for slot in (1, 2)]
        self.assertEqual([process.wait(20) for process in both], [0, 0])
        self.assertGreater(time.monotonic() - began, 0.8)

    def test_loading_takes_its_time(self) -> None:
        """After the move the drive threads the tape; ``mt`` shows it, and a blocking command waits."""
        from coldstore.vtl.latency import Latency

        self.library.set_latency(Latency(load=60, scale=0.01))
        self.load()
        self.assertEqual(self.mt("status"), golden("mt/status-while-loading.txt"))
        self.assertEqual(self.mt("rewind"), golden("mt/rewind-waits-for-load.txt"))
        self.assertIn("BOT ONLINE", self.mt("status")[1])

    def test_wrong_slot(self) -> None:
        """A robot that takes the wrong cartridge says done."""
        self.arm(program="mtx", at="load", kind="wrong-slot")
        self.assertEqual(
            self.mtx("load", "1", "0"), (0, "Loading media from Storage Element 1 into drive 0...done\n", "")
        )
        self.assertEqual(self.library.elements().drives[0].barcode, "A00002L8")

    def test_arrived_all_the_same(self) -> None:
        """A move that fails may have happened."""
        self.arm(program="mtx", at="load", kind="sense-after:4/15/01")
        self.assertEqual(self.mtx("load", "1", "0")[0], 1)
        self.assertEqual(self.library.elements().drives[0].barcode, "A00001L8")

    def test_lost(self) -> None:
        """A cartridge in no element is in nobody's inventory."""
        self.arm(program="mtx", at="load", kind="lost")
        self.assertEqual(self.mtx("load", "1", "0")[0], 1)
        self.assertNotIn("A00001L8", self.mtx("status")[1])

    def test_hang(self) -> None:
        """A hanging ``mtx`` goes on when the fault is cleared; a killed one has moved nothing."""
        from coldstore.vtl.faults import Faults

        self.arm(program="mtx", at="load", kind="hang")
        process = self.start("mtx", "-f", self.changer, "load", "1", "0")
        wait_for(lambda: os.path.exists(self.library.path("faults", "taken.log")))
        self.assertIsNone(process.poll())
        self.assertEqual(self.library.elements().slots[1], "A00001L8")
        Faults(self.directory).clear()
        self.assertEqual(process.wait(10), 0)

    def test_one_unreadable_label(self) -> None:
        """A label that cannot be read leaves its element full without a tag, as often as one looks."""
        self.arm(program="mtx", at="status", kind="vanish-barcode", barcode="A00003L8", count=0)
        for _ in range(2):
            self.assertIn("      Storage Element 3:Full \n", self.mtx("status")[1])

    def test_exit_and_garbage(self) -> None:
        """A program may just end, or print noise."""
        self.arm(program="mtx", at="start", kind="exit", exit=7, text="Segmentation fault\n")
        self.assertEqual(self.mtx("status"), (7, "", "Segmentation fault\n"))
        self.arm(program="mtx", at="status", kind="garbage", text="@@@@")
        self.assertEqual(self.mtx("status"), (0, "@@@@", ""))
