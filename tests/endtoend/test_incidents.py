"""
Failures of tapes, drives and robots under a running appliance, as the virtual library plays them (``coldstore.vtl.incidents``).

Of each: objects get their verified copies on cartridges that are in order and come back identical, whoever is guilty is blamed and nobody else, the
operator reads one sentence that says what happened, and no cartridge is touched that was not admitted.
"""

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from twisted.trial.unittest import SkipTest

from coldstore.tape.mountrecord import MountFolders
from coldstore.vtl.faults import Faults
from coldstore.vtl.fuse import fuse_available
from coldstore.vtl.incidents import INCIDENTS
from coldstore.vtl.library import Library
from coldstore.vtl.medium import BLOCK_BYTES, Cartridge
from tests.endtoend.appliance import ApplianceCase, NotInTime, wait_until
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
            entry["moment"] for entry in self._taken()[self.taken_before :] if entry["fault"].startswith(name)
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

    def archive(self) -> None:
        """Have everything on two tapes, read back, and off the disk."""
        self.appliance.archive(*((self.name, each.key) for each in self.objects), seconds=PATIENCE_SECONDS)

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

    def assert_told(self, kind: str, subject: str, *words: str) -> None:
        """Check that the operator is told one thing: of this kind, about this subject, in one sentence with these words."""

        def claim() -> bool:
            return [(row["kind"], row["subject"]) for row in self.told()] == [(kind, subject)]

        try:
            wait_until(f"one alert: {kind} about {subject}", claim, seconds=30)
        except NotInTime as error:
            self.fail(f"{error}: {self.told()}")
        (row,) = self.told()
        for word in words:
            self.assertIn(word, row["sentence"])
        self.assertNotIn("\n", row["sentence"])

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
            for row in self.appliance.rows("/cartridges"):
                if row["state"] == "suspect":
                    self.appliance.client.post(
                        "/cartridges/change",
                        {"barcode": row["barcode"], "action": "trust", "reason": "mended", "by": "test"},
                    )
            for row in self.appliance.rows("/alerts"):
                self.appliance.client.post("/alerts/close", {"id": row["id"], "by": "test"})
            drives = self.appliance.rows("/drives")
            return not self.appliance.rows("/alerts") and all(
                row["state"] == "up" and row["job"] == "idle" for row in drives
            )

        wait_until("everything is in order", is_calm, seconds=60, pause=0.2)


class WritingTests(IncidentCase):
    """What goes wrong while cartridges are written and read."""

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
        self.assert_told(
            "cartridge-suspect",
            f"cartridge {bad}",
            bad,
            "only read",
            "it had a write error",
            f"condemn {bad}",
        )
        self.assert_blamed(cartridges=(bad,))
        self.stage("read-error", barcode=next(iter(set(self.copies(before)) - {bad})))
        self.assert_all_there()

    @survives("hardware-write-error")
    def test_hardware_write_error(self) -> None:
        """A single failure of drive and cartridge accuses neither; the work goes on with others."""
        self.put()
        self.archive()
        self.stage("hardware-write-error")
        self.put()
        self.archive()
        at = self.struck("hardware-write-error")
        self.assert_told(
            "tape-failure",
            f"drive {at.drive} with {at.barcode}",
            at.barcode,
            "write",
            "Input/output error",
            "goes on",
            RETRY,
        )
        self.assert_blamed()
        self.assert_all_there()
