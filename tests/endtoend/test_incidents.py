"""
Failures of tapes, drives and robots under a running appliance, as the virtual library plays them (``coldstore.vtl.incidents``).

Of each: objects get their verified copies on cartridges that are in order and come back identical, whoever is guilty is blamed and nobody else, the
operator reads one sentence that says what happened, and no cartridge is touched that was not admitted.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
from dataclasses import dataclass
from random import Random
from typing import Any

from twisted.trial.unittest import SkipTest

from coldstore.admin.client import Refused
from coldstore.tape.mountrecord import MountFolders
from coldstore.vtl.faults import Faults
from coldstore.vtl.fuse import fuse_available
from coldstore.vtl.incidents import INCIDENTS
from coldstore.vtl.library import Library
from coldstore.vtl.medium import BLOCK_BYTES, Cartridge, new_cartridge
from tests.endtoend.appliance import ApplianceCase, NotInTime, merged, wait_until
from tests.incidents import survives

STRANGER = "X00001L8"
"""A cartridge in the mail slot that nobody admits."""
PATIENCE_SECONDS = 90.0
RETRY = "nothing needs to be done unless this repeats"


@dataclass(frozen=True, kw_only=True)
class Stored:
    """An object that was acknowledged."""

    key: str
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Struck:
    """Where a fault struck."""

    drive: int
    barcode: str


class IncidentCase(ApplianceCase):
    """One appliance for many incidents, put in order by its operator after each."""

    settings = {
        "tape": {"virtual": {"drives": 2, "slots": 48, "cartridges": 40, "capacity": "128MiB"}},
        "mount": {"idle_unload": "30m"},
    }

    def setUp(self) -> None:
        """Have a bucket, and know what was told before."""
        has_fuse, why_not = fuse_available()
        if not has_fuse:
            raise SkipTest(f"the virtual library needs FUSE to fail like a tape, and {why_not}")
        super().setUp()
        self.library = Library(str(self.appliance.library))
        self.faults = Faults(str(self.appliance.library))
        if STRANGER not in os.listdir(self.appliance.library / "cartridges"):
            self.appliance.virtual_library("insert", STRANGER)
            self.appliance.client.post("/inventory")
        self.name = self.bucket()
        self.objects: list[Stored] = []
        self.old_alerts = {row["id"] for row in self.appliance.rows("/alerts", all="1")}
        self.taken_before = len(self._taken())
        self.stranger = self._bytes_of(STRANGER)

    def tearDown(self) -> None:
        """See that the stranger is as it was, and have the operator put everything in order."""
        try:
            self.assertEqual(
                self._bytes_of(STRANGER), self.stranger, "a cartridge was touched that nobody admitted"
            )
            self.put_in_order()
        finally:
            super().tearDown()

    def _bytes_of(self, barcode: str) -> dict[str, bytes]:
        folder = self.appliance.library / "cartridges" / barcode
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    def _taken(self) -> list[dict[str, Any]]:
        path = self.appliance.library / "faults" / "taken.log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    # ── the world ───────────────────────────────────────────────────────────────────────────────────────────────────

    def stage(self, name: str, **narrowed: Any) -> None:
        """Arm the faults of an incident."""
        for fault in INCIDENTS[name].armed(name, **narrowed):
            self.faults.add(fault)

    def struck(self, name: str) -> Struck:
        """Return where an incident struck first; fails when it did not."""
        found = [
            entry["moment"]
            for entry in self._taken()[self.taken_before :]
            if re.fullmatch(rf"{name}-\d+", entry["fault"])
        ]
        self.assertTrue(found, f"{name} did not strike")
        moment = next((each for each in found if each["barcode"]), found[0])
        return Struck(drive=moment["drive"], barcode=moment["barcode"])

    def cartridge(self, barcode: str) -> Cartridge:
        """Return what the medium itself knows."""
        return Cartridge(self.library.cartridge_directory(barcode))

    def ltfs_of(self, drive: int) -> int:
        """Return the process id of the ltfs of a drive."""
        folder = MountFolders(str(self.appliance.state / "run" / f"drive-{drive}" / "mounts")).newest()
        assert folder is not None
        mark = folder.ltfs()
        assert mark is not None
        return mark.process_id

    # ── clients ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def put(self) -> Stored:
        """Store an object."""
        stored = Stored(key=f"k{len(self.objects)}", body=Random(len(self.objects)).randbytes(700_000))
        self.s3.put_object(Bucket=self.name, Key=stored.key, Body=stored.body, StorageClass="GLACIER")
        self.objects.append(stored)
        return stored

    def archive(self, *, off_disk: bool = True) -> None:
        """Have everything on two tapes, read back, and (what was not restored) off the disk."""
        self.appliance.archive(
            *((self.name, each.key) for each in self.objects), seconds=PATIENCE_SECONDS, off_disk=off_disk
        )

    def archive_until_tried_again(self, barcode: str) -> None:
        """Have more archived until a cartridge that failed has had its next turn: drives take others before it."""
        for _ in range(8):
            self.empty_drives()
            self.put()
            self.archive()
            if self.state_of(barcode)["state"] != "filling":
                return
        self.fail(f"{barcode} was not tried again")

    def copies(self, stored: Stored) -> dict[str, str]:
        """Return the copies of an object: barcode and state."""
        return {
            copy["barcode"]: copy["state"] for copy in self.appliance.object(self.name, stored.key)["copies"]
        }

    def assert_all_there(self) -> None:
        """Check that every object has its verified copies, is restored, and reads back identical."""
        for each in self.objects:
            self.s3.restore_object(Bucket=self.name, Key=each.key, RestoreRequest={"Days": 100})
        for each in self.objects:
            try:
                wait_until(
                    f"{each.key} is restored",
                    lambda each=each: self._is_restored(each),
                    seconds=PATIENCE_SECONDS,
                )
            except NotInTime as error:
                self.fail(f"{error}: {self.appliance.rows('/alerts')}")
            body = self.s3.get_object(Bucket=self.name, Key=each.key)["Body"].read()
            self.assertEqual(body, each.body, each.key)

    def _is_restored(self, stored: Stored) -> bool:
        told = self.s3.head_object(Bucket=self.name, Key=stored.key).get("Restore", "")
        return 'ongoing-request="false"' in told

    def empty_drives(self) -> None:
        """Have every cartridge put away, and the drives ready for work again."""
        self.appliance.drain(PATIENCE_SECONDS)
        self.appliance.resume()

    # ── the operator ────────────────────────────────────────────────────────────────────────────────────────────────

    def told(self) -> list[dict[str, Any]]:
        """Return the alerts since the test began: the open ones, or when there are none, those that have ended."""
        found = [row for row in self.appliance.rows("/alerts", all="1") if row["id"] not in self.old_alerts]
        return [row for row in found if not row["cleared_at"]] or found

    def assert_told(self, *expected: tuple[str, str, tuple[str, ...]]) -> None:
        """Check that the operator is told exactly this, by kind, subject and words that each sentence must have."""
        wanted = sorted((kind, subject) for kind, subject, _ in expected)

        def claim() -> bool:
            return sorted((row["kind"], row["subject"]) for row in self.told()) == wanted

        try:
            wait_until(f"alerts: {wanted}", claim, seconds=30)
        except NotInTime as error:
            self.fail(f"{error}: {self.told()}")
        sentences = {(row["kind"], row["subject"]): row["sentence"] for row in self.told()}
        for kind, subject, words in expected:
            for word in words:
                self.assertIn(word, sentences[kind, subject])

    def assert_nothing_told(self) -> None:
        """Check that there was nothing that an operator had to know."""
        self.assertEqual(self.told(), [])

    def assert_blamed(self, *, drives: tuple[int, ...] = (), cartridges: tuple[str, ...] = ()) -> None:
        """Check that exactly these drives are down, and exactly these cartridges only read from now on."""
        down = tuple(row["drive"] for row in self.appliance.rows("/drives") if row["state"] == "down")
        suspect = tuple(
            row["barcode"] for row in self.appliance.rows("/cartridges") if row["state"] == "suspect"
        )
        self.assertEqual((down, suspect), (drives, cartridges))

    def state_of(self, barcode: str) -> dict[str, Any]:
        """Return what is recorded of a cartridge."""
        return next(row for row in self.appliance.rows("/cartridges") if row["barcode"] == barcode)

    def put_up(self, drive: int) -> None:
        """Put a drive up again, as an operator does that has repaired it."""
        self.appliance.client.post(
            "/drives/change", {"drive": drive, "state": "up", "reason": "repaired", "by": "test"}
        )

    def put_in_order(self) -> None:
        """Repair everything, and decide about every cartridge."""
        self.faults.clear()
        self.appliance.resume()
        for drive in (0, 1):
            self.appliance.client.post(
                "/drives/change", {"drive": drive, "state": "down", "reason": "cleaning", "by": "test"}
            )
        wait_until(
            "drives rest",
            lambda: all(
                row["job"] == "idle" or row["state"] == "down" for row in self.appliance.rows("/drives")
            ),
        )
        for drive in (0, 1):
            self.put_up(drive)

        def is_calm() -> bool:
            for row in self.appliance.rows("/alerts"):
                barcode = row["subject"].removeprefix("cartridge ")
                action = {"cartridge-suspect": "trust", "cartridge-unusable": "condemn"}.get(row["kind"])
                # What the appliance has settled by itself since it was asked is refused.
                with contextlib.suppress(Refused):
                    if action is not None:
                        order = {"barcode": barcode, "action": action, "reason": "in order", "by": "test"}
                        self.appliance.client.post("/cartridges/change", order)
                    else:
                        self.appliance.client.post("/alerts/close", {"id": row["id"], "by": "test"})
            drives = self.appliance.rows("/drives")
            is_up = all(row["state"] == "up" and row["job"] == "idle" for row in drives)
            return is_up and not self.appliance.rows("/alerts")

        wait_until("everything is in order", is_calm, seconds=60, pause=0.2)


class TapeTests(IncidentCase):
    """What goes wrong with cartridges and drives."""

    @survives("permanent-write-error", "read-only-after-error", "check-after-write-error")
    def test_permanent_write_error(self) -> None:
        """A cartridge with a permanent write error is only read from then on; what was on it before is read from it."""
        before = self.put()
        self.archive()
        self.stage("permanent-write-error")
        self.put()
        self.archive()
        bad = self.struck("permanent-write-error").barcode
        self.assertNotIn(bad, self.copies(self.objects[1]))
        self.assertEqual(set(self.copies(before).values()), {"verified"})
        self.archive_until_tried_again(bad)
        self.assert_told(
            ("cartridge-suspect", f"cartridge {bad}", ("only read", "it had a write error", f"condemn {bad}"))
        )
        self.assert_blamed(cartridges=(bad,))
        (other,) = set(self.copies(before)) - {bad}
        self.stage("read-error", barcode=other)
        self.assert_all_there()

    @survives("moved-under-ltfs", "check-not-correctable")
    def test_moved_under_ltfs(self) -> None:
        """A volume that was destroyed is named, is never formatted, and its objects come back from their other copies."""
        self.put()
        self.archive()
        self.stage("moved-under-ltfs")
        self.put()
        self.archive()
        bad = self.struck("moved-under-ltfs").barcode
        self.archive_until_tried_again(bad)
        words = (bad, "could not be made consistent", "cannot be read", "labels", f"condemn {bad}")
        self.assert_told(("cartridge-suspect", f"cartridge {bad}", words))
        self.assert_blamed(cartridges=(bad,))
        self.assertEqual(self.cartridge(bad).memory.content, "destroyed")
        self.assert_all_there()

    @survives("end-of-data-missing", "killed-with-data", "mount-not-closed", "check-after-crash")
    def test_power_failure(self) -> None:
        """A drive that lost its power in the middle: nobody is blamed, the cartridge is repaired and used again."""
        before = self.put()
        self.archive()
        self.stage("end-of-data-missing")
        self.put()
        self.archive()
        at = self.struck("end-of-data-missing")
        words = (f"writing to {at.barcode}", "its ltfs has ended", RETRY)
        self.assert_told(("tape-failure", f"drive {at.drive} with {at.barcode}", words))
        self.assert_blamed()
        (other,) = set(self.copies(before)) - {at.barcode}
        self.stage("read-error", barcode=other, count=0)
        self.s3.restore_object(Bucket=self.name, Key=before.key, RestoreRequest={"Days": 100})
        wait_until(
            "it is read from the repaired one", lambda: self._is_restored(before), seconds=PATIENCE_SECONDS
        )
        self.assertFalse(self.cartridge(at.barcode).memory.eod_missing)
        self.faults.clear()
        self.assert_all_there()

    @survives("read-error")
    def test_read_error(self) -> None:
        """A copy that cannot be read is told, and the object comes from the other one; once accuses nobody."""
        self.put()
        self.archive()
        self.empty_drives()
        # The mover tries twice.
        self.stage("read-error", count=2)
        self.assert_all_there()
        at = self.struck("read-error")
        words = ("reading ", f"from {at.barcode} in drive {at.drive}", "Input/output error", "goes on", RETRY)
        self.assert_told(("tape-failure", f"drive {at.drive} with {at.barcode}", words))
        self.assert_blamed()

    @survives(
        "index-lost-and-unmounted", "index-does-not-fit", "index-lost-at-unmount", "index-on-a-at-unmount"
    )
    def test_lost_index(self) -> None:
        """A mount that ends without its index is told for each cartridge; what counted as on tape is there."""
        self.put()
        self.archive()
        names = ("index-lost-and-unmounted", "index-does-not-fit")
        for drive, name in enumerate(names):
            self.stage(name, drive=drive)
        self.empty_drives()
        struck = [self.struck(name) for name in names]
        self.assert_told(
            *(
                (
                    "tape-failure",
                    f"drive {at.drive} with {at.barcode}",
                    (f"{at.barcode} was not closed cleanly", "checked before its next use", RETRY),
                )
                for at in struck
            )
        )
        self.assert_blamed()
        self.assert_all_there()
        self.put()
        self.archive(off_disk=False)
        worn = struck[0].barcode
        self.assertEqual(self.state_of(worn)["state"], "suspect")
        self.assertIn("it had a write error", self.state_of(worn)["reason"])
        self.assert_blamed(cartridges=(worn,))

    @survives("mountpoint-not-empty", "mount-unknown-option")
    def test_occupied_mountpoint(self) -> None:
        """Something in a drive's mountpoint brings the drive down and says so; cartridges are innocent and put away."""
        self.empty_drives()
        inside = self.appliance.state / "run" / "drive-0" / "mnt" / "left-behind"
        inside.parent.mkdir(exist_ok=True)
        inside.write_text("somebody's")
        self.addCleanup(inside.unlink, missing_ok=True)
        self.put()
        self.archive()
        self.assert_told(
            ("drive-down", "drive 0", ("fuse: mountpoint is not empty", "coldstore drives up 0"))
        )
        self.assert_blamed(drives=(0,))
        self.assertIsNone(self.library.elements().drives[0].barcode)
        self.assertEqual(inside.read_text(), "somebody's")
        inside.unlink()
        self.put_up(0)
        self.assert_all_there()

    @survives("mount-blank", "read-only-protected", "format-write-protected")
    def test_changed_cartridges(self) -> None:
        """A cartridge that somebody erased is named and not formatted again; protected ones are named with what to do."""
        self.empty_drives()
        stored = self.put()
        self.archive()
        erased, protected = sorted(self.copies(stored))
        self.empty_drives()
        self.appliance.virtual_library("blank", erased)
        self.appliance.virtual_library("protect", protected, "on")
        scratch = min(
            row["barcode"] for row in self.appliance.rows("/cartridges") if row["state"] == "scratch"
        )
        self.appliance.virtual_library("protect", scratch, "on")
        self.put()
        self.archive()
        self.assert_told(
            ("cartridge-suspect", f"cartridge {erased}", ("not partitioned", f"condemn {erased}")),
            ("cartridge-suspect", f"cartridge {protected}", ("it is write protected", "tab")),
            (
                "cartridge-unusable",
                f"cartridge {scratch}",
                ("write protected: slide its tab", f"admit {scratch}"),
            ),
        )
        self.assert_blamed(cartridges=(erased, protected))
        self.assertEqual(self.cartridge(erased).memory.content, "blank")
        self.assertEqual(self.cartridge(scratch).memory.content, "blank")
        self.appliance.virtual_library("protect", scratch, "off")
        self.appliance.client.post("/cartridges/admit", {"by": "test", "barcodes": [scratch]})
        self.assert_all_there()

    @survives("mount-index-unreadable", "check-both-indexes-damaged")
    def test_damaged_indexes(self) -> None:
        """An index damaged on one partition is repaired without a word; on both, what it listed is told as lost there."""
        self.empty_drives()
        stored = self.put()
        self.archive()
        lost, repaired = sorted(self.copies(stored))
        self.empty_drives()
        # The last one on b is that of the session's manifest; the one before is the first to list the bundle.
        for barcode, letter, newest in ((lost, "a", 1), (lost, "b", 2), (repaired, "a", 1)):
            partition = self.cartridge(barcode).partition(letter, writable=False)
            for mark in partition.marks()[-newest:]:
                place = ("--partition", letter, "--offset", str(mark.block * BLOCK_BYTES + 9))
                self.appliance.virtual_library("flip", barcode, *place)
            partition.close()
        self.put()
        self.archive()
        self.assert_told(
            ("copy-damaged", f"cartridge {lost}", (f"was on {lost}", "not listed there any more"))
        )
        self.assertEqual(self.copies(stored), {lost: "lost", repaired: "verified"})
        self.assert_blamed()
        self.assert_all_there()

    @survives("terminated", "unmount-lazy", "unmount-unchanged")
    def test_ended_by_somebody(self) -> None:
        """An ltfs that was told to end, or whose mount was taken away, has closed its cartridge: it is mounted again."""
        if os.geteuid():
            raise SkipTest("umount -l needs root")
        self.put()
        self.archive()
        os.kill(self.ltfs_of(0), signal.SIGTERM)
        subprocess.run(["umount", "-l", str(self.appliance.state / "run" / "drive-1" / "mnt")], check=True)
        wait_until("no ltfs runs", lambda: not any(is_running(self.ltfs_of(drive)) for drive in (0, 1)))
        self.put()
        self.archive()
        self.assert_nothing_told()
        self.assert_blamed()
        self.assert_all_there()

    @survives("unmount-busy")
    def test_busy(self) -> None:
        """A mount in which somebody has a file open stays mounted, and the sentence says so; it goes on afterwards."""
        self.put()
        self.archive()
        label = self.appliance.state / "run" / "drive-0" / "mnt" / "README.txt"
        with label.open("rb"):
            self.appliance.client.post("/drain", {"on": True})
            wait_until(
                "drive 0 is given up",
                lambda: self.appliance.rows("/drives")[0]["state"] == "down",
                seconds=PATIENCE_SECONDS,
            )
            self.assert_told(
                ("drive-down", "drive 0", ("target is busy", "/drive-0/mnt", "coldstore drives up 0"))
            )
        self.appliance.resume()
        self.put_up(0)
        self.put()
        self.archive()
        self.assert_blamed()
        self.assert_all_there()

    @survives("cleaning-never-ends", "mtx-takes-cleaning")
    def test_cleaning_cartridge(self) -> None:
        """A cleaning cartridge that is found in a drive is put away, and never used for anything else."""
        self.empty_drives()
        self.appliance.client.post(
            "/drives/change", {"drive": 0, "state": "down", "reason": "cleaning", "by": "test"}
        )
        with self.library.changing() as elements:
            drive = elements.drives[0]
            drive.barcode, drive.state, drive.until = "CLNU01L1", "loading", 0.0
        new_cartridge(
            self.library.cartridge_directory("CLNU01L1"), "CLNU01L1", capacity_bytes=0, cleaning=True
        )
        self.put_up(0)
        wait_until(
            "it is seen", lambda: self.appliance.rows("/drives")[0]["barcode"] == "CLNU01L1", seconds=30
        )
        self.empty_drives()
        self.assertIn("CLNU01L1", self.library.elements().slots.values())
        self.put()
        self.archive()
        self.assert_nothing_told()
        self.assert_blamed()
        self.assertEqual(self.cartridge("CLNU01L1").memory.content, "blank")
        self.assert_all_there()


class RobotTests(IncidentCase):
    """What goes wrong with the library and its robot."""

    @survives(
        "attention-on-move",
        "reset-on-unload",
        "moved-though-failed",
        "barcodes-vanish",
        "wrong-slot",
        "late-ready",
        "offline-fails",
        "attention-after-load",
        "attention-while-mounted",
        "read-error-once",
    )
    def test_without_a_word(self) -> None:
        """What a second look or try puts right needs no operator: all of it at once, and nothing is told."""
        self.put()
        self.archive()
        names = (
            ("reset-on-unload", {"drive": 0}),
            ("wrong-slot", {"drive": 1}),
            ("offline-fails", {}),
            ("attention-on-move", {"drive": 0}),
            ("moved-though-failed", {"drive": 1}),
            ("barcodes-vanish", {}),
            ("late-ready", {}),
            ("attention-after-load", {}),
            ("attention-while-mounted", {}),
        )
        for name, narrowed in names:
            self.stage(name, **narrowed)
        self.empty_drives()
        self.put()
        self.archive()
        for name, _ in names:
            self.struck(name)
        self.stage("read-error-once")
        self.assert_all_there()
        self.struck("read-error-once")
        self.assert_nothing_told()
        self.assert_blamed()

    @survives("move-fails", "removal-prevented", "needs-offline")
    def test_failing_moves(self) -> None:
        """A robot that refuses a move is asked again; the sentences name the cartridge that did not move, and blame nobody."""
        self.put()
        self.archive()
        self.stage("removal-prevented", drive=0)
        self.stage("needs-offline", drive=1)
        self.empty_drives()
        prevented, held = self.struck("removal-prevented"), self.struck("needs-offline")
        self.assert_told(
            (
                "tape-failure",
                f"drive 0 with {prevented.barcode}",
                (f"unloading {prevented.barcode} from drive 0", "prevented", "tried again", RETRY),
            ),
            (
                "tape-failure",
                f"drive 1 with {held.barcode}",
                ("has not let go of its tape", "tried again", RETRY),
            ),
        )
        self.stage("move-fails")
        self.put()
        self.archive()
        at = self.struck("move-fails")
        sentences = {row["subject"]: row["sentence"] for row in self.told()}
        self.assertIn("Look at the library's panel", sentences[f"drive {at.drive} with {at.barcode}"])
        self.assert_blamed()
        self.assert_all_there()

    @survives("in-the-gripper")
    def test_in_the_gripper(self) -> None:
        """A cartridge that is in no element is named; its drive stops, the work goes on elsewhere, and it is found again."""
        stored = self.put()
        self.archive()
        self.empty_drives()
        self.stage("in-the-gripper")
        self.put()
        self.archive()
        at = self.struck("in-the-gripper")
        words = (f"Look for cartridge {at.barcode}", "gripper", f"coldstore drives up {at.drive}")
        self.assert_told(("drive-down", f"drive {at.drive}", words))
        self.assert_blamed(drives=(at.drive,))
        self.assertFalse(self.state_of(at.barcode)["is_present"])
        self.assert_all_there()
        with self.library.changing() as elements:
            elements.slots[next(slot for slot, barcode in elements.slots.items() if not barcode)] = at.barcode
        self.appliance.client.post("/inventory")
        self.assertTrue(self.state_of(at.barcode)["is_present"])
        self.assertEqual(self.copies(stored)[at.barcode], "verified")

    @survives("wrong-cartridge")
    def test_wrong_cartridge(self) -> None:
        """A robot that brings another cartridge is caught before anything is written; nobody but the robot is blamed."""
        self.empty_drives()
        before = {row["barcode"]: row["state"] for row in self.appliance.rows("/cartridges")}
        self.stage("wrong-cartridge")
        self.put()
        self.archive()
        at = self.struck("wrong-cartridge")
        # The other drive may have wanted the cartridge that came instead: that is the same mistake.
        sentences = {
            row["subject"]: row["sentence"]
            for row in self.appliance.rows("/alerts", all="1")
            if row["id"] not in self.old_alerts
        }
        sentence = sentences.pop(f"drive {at.drive} with {at.barcode}")
        for word in (f"was to bring {at.barcode}", "library's panel", "misaligned", "tried again"):
            self.assertIn(word, sentence)
        self.assertEqual([each for each in sentences.values() if "tried again" not in each], [])
        self.assert_blamed()
        used = {
            row["barcode"]
            for row in self.appliance.rows("/cartridges")
            if row["state"] != before[row["barcode"]]
        }
        self.assertLessEqual(used, set(self.copies(self.objects[0])))
        self.assert_all_there()

    @survives("status-fails")
    def test_library_away(self) -> None:
        """A library that gives no answer is told; the work waits, and goes on when it is back, of which nobody has to tell it."""
        self.empty_drives()
        self.stage("status-fails")
        self.put()
        self.appliance.client.post("/archive")
        wait_until("it is told", self.told, seconds=PATIENCE_SECONDS)
        self.assert_told(
            ("library", "library", ("the library cannot be used", "Hardware Error 44/00", "library's panel"))
        )
        self.faults.clear()
        self.archive()
        self.assert_blamed()
        self.appliance.client.post("/inventory")
        self.assertEqual(self.appliance.rows("/alerts"), [])
        self.assert_all_there()

    @survives("label-unreadable")
    def test_unreadable_label(self) -> None:
        """A label that cannot be read is told with its place; the cartridge is left alone, and is back when it is read again."""
        stored = self.put()
        self.archive()
        self.empty_drives()
        hidden = min(self.copies(stored))
        slot = next(slot for slot, barcode in self.library.elements().slots.items() if barcode == hidden)
        self.stage("label-unreadable", barcode=hidden)
        self.appliance.client.post("/inventory")
        self.assert_told(("no-barcode", f"slot {slot}", ("label cannot be read",)))
        self.assert_all_there()
        self.faults.clear()
        self.appliance.client.post("/inventory")
        self.assertEqual(self.appliance.rows("/alerts"), [])
        self.assertTrue(self.state_of(hidden)["is_present"])
        self.assert_blamed()


def is_running(process_id: int) -> bool:
    """Whether a process runs; one that waits to be reaped does not."""
    try:
        with open(f"/proc/{process_id}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False


class HangTests(IncidentCase):
    """What stands still: the limits are short here, and long enough for what goes on beside a busy disk."""

    settings = merged(
        IncidentCase.settings,
        {
            "tape": {
                "timeouts": {
                    "move": "10s",
                    "mount": "30s",
                    "unmount": "30s",
                }
            }
        },
    )

    @survives("robot-hangs", "robot-hangs-moved", "robot-hangs-gripper")
    def test_hanging_robot(self) -> None:
        """
        A robot that does not answer is looked after: what has moved has moved, what has not is tried again, and a cartridge in the
        gripper is named.
        """
        self.empty_drives()
        self.stage("robot-hangs", drive=0)
        self.stage("robot-hangs-moved", drive=1)
        self.put()
        self.archive()
        at = self.struck("robot-hangs")
        words = (f"loading {at.barcode} into drive 0", "no end within 10 s", "still in slot", "tried again")
        self.assert_told(("tape-failure", f"drive 0 with {at.barcode}", words))
        self.struck("robot-hangs-moved")
        self.assert_blamed()
        self.empty_drives()
        # In whichever drive: one that has just failed rests, and the other one may do all of it meanwhile.
        self.stage("robot-hangs-gripper")
        self.put()
        self.archive()
        lost = self.struck("robot-hangs-gripper")
        told = {row["kind"]: row["sentence"] for row in self.told()}
        self.assertIn(f"Look for cartridge {lost.barcode}", told["drive-down"])
        self.assert_blamed(drives=(lost.drive,))
        self.assert_all_there()

    @survives("log-flood", "mount-hangs", "terminated-and-continued", "unmount-hangs")
    def test_hanging_ltfs(self) -> None:
        """
        An ltfs that never gets ready, or never ends, stops its drive; the sentence tells its process, which an operator may end. The
        log does not fill the disk.
        """
        self.put()
        self.archive()
        self.stage("terminated-and-continued", drive=1)
        stuck = self.library.elements().drives[1].barcode
        os.kill(self.ltfs_of(1), signal.SIGTERM)
        os.kill(self.ltfs_of(1), signal.SIGCONT)
        self.appliance.client.post("/drain", {"on": True})
        wait_until(
            "drive 1 is given up",
            lambda: self.appliance.rows("/drives")[1]["state"] == "down",
            seconds=PATIENCE_SECONDS,
        )
        self.appliance.resume()
        words = (f"unmounting {stuck}", f"process {self.ltfs_of(1)}", "kill -9", "coldstore drives up 1")
        self.assert_told(("drive-down", "drive 1", words))
        self.stage("log-flood", drive=0)
        self.put()
        self.appliance.client.post("/archive")
        wait_until(
            "drive 0 is given up",
            lambda: self.appliance.rows("/drives")[0]["state"] == "down",
            seconds=PATIENCE_SECONDS,
        )
        words = (
            "ltfs is not ready after 30 s",
            f"process {self.ltfs_of(0)}",
            "kill -9",
            "coldstore drives up 0",
        )
        self.assertIn(words[0], self.appliance.rows("/drives")[0]["reason"])
        self.assertIn(words[1], self.appliance.rows("/drives")[0]["reason"])
        logs = list((self.appliance.state / "run" / "drive-0" / "mounts").rglob("ltfs.log"))
        self.assertLess(sum(os.stat(path).st_blocks * 512 for path in logs), 256 * 1024**2)
        self.assert_blamed(drives=(0, 1))
        for drive in (0, 1):
            os.kill(self.ltfs_of(drive), signal.SIGKILL)
        self.faults.clear()
        for drive in (0, 1):
            self.put_up(drive)
        self.archive()
        self.assert_all_there()
        self.assert_blamed()
