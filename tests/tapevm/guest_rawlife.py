"""
The whole life of objects on plain tapes and kernel devices: archived by a real ``twistd``, restored by it, and read by hand with ``mt`` and ``tar``.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import ClassVar
from urllib.parse import quote

from twisted.trial.unittest import SynchronousTestCase

from tests.endtoend.appliance import Appliance, wait_until
from tests.tapevm.guest import CHANGER, DRIVE_COUNT, SKIP, ask_rig, device_of, serial_of
from tests.tapevm.guest_rawtape import TAPE_MIB, KernelDrive, load_by_hand, run, unload_by_hand

BARCODES = ("A00003L8", "A00004L8")
PATIENCE_SECONDS = 300.0
"""The machine is emulated, and its cores are shared."""


class GuestAppliance(Appliance):
    """An appliance in the guest: of the pinned packages, patiently started."""

    start_seconds = PATIENCE_SECONDS

    def command_line(self) -> list[str]:
        """See ``Appliance``; the guest's own ``twistd`` belongs to another Twisted."""
        program = "from twisted.scripts.twistd import run; run()"
        return [sys.executable, "-c", program, *super().command_line()[1:]]


class LifeTests(SynchronousTestCase):
    """An appliance over two drives of the kernel."""

    timeout = 900
    skip = SKIP

    bodies: ClassVar[dict[str, bytes]] = {
        "empty": b"",
        "small/ä file": Random(1).randbytes(5000),
        "small/two": Random(2).randbytes(300_000),
        "large": Random(3).randbytes(5 * 1024**2 + 17),
    }

    def setUp(self) -> None:
        """Blank two cartridges, and start an appliance."""
        KernelDrive().eject()
        for barcode in BARCODES:
            ask_rig("blank", barcode, str(TAPE_MIB))
        drives = [
            {"element": number, "device": device_of(number), "serial": serial_of(number)}
            for number in range(DRIVE_COUNT)
        ]
        self.appliance = GuestAppliance(
            {"tape": {"library": "scsi", "filesystem": "tar", "changer": CHANGER, "drives": drives}},
            {"PYTHONPATH": os.environ["PYTHONPATH"], "PYTHONPYCACHEPREFIX": "/tmp/pycache"},
        )
        del self.appliance.settings["tape"]["virtual"]
        self.appliance.write_configuration()
        self.addCleanup(self.appliance.close)
        self.appliance.start()
        self.s3 = self.appliance.wire()

    def ask(self, method: str, key: str, body: bytes = b"", query: str = "", **headers: str):  # type: ignore[no-untyped-def]
        """Ask S3 for an object, or for the bucket."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.s3.ask(method, f"/life{f'/{quote(key)}' if key else ''}{query}", body, named)

    def test_whole_life(self) -> None:
        """Objects go to two tapes, are verified, leave the disk, are refused, come back identical; then the tapes are read by hand."""
        appliance = self.appliance
        wait_until(
            "cartridges are known", lambda: len(appliance.rows("/cartridges")) >= 6, seconds=PATIENCE_SECONDS
        )
        appliance.client.post("/cartridges/admit", {"by": "test", "barcodes": list(BARCODES)})
        self.assertEqual(self.ask("PUT", "").status, 200)
        for key, body in self.bodies.items():
            put = self.ask("PUT", key, body, x_amz_storage_class="GLACIER", x_amz_meta_k="v")
            self.assertEqual(put.status, 200, put)
        appliance.archive(*(("life", key) for key in self.bodies), seconds=PATIENCE_SECONDS)
        for key in self.bodies:
            self.assertEqual(self.ask("HEAD", key).headers["x-coldstore-copies"], "2/2")
        refused = self.ask("GET", "large")
        self.assertEqual((refused.status, refused.code), (403, "InvalidObjectState"))
        request = b"<RestoreRequest><Days>1</Days></RestoreRequest>"
        for key in self.bodies:
            self.assertEqual(self.ask("POST", key, request, "?restore").status, 202)
        for key, body in self.bodies.items():
            wait_until(
                f"{key} is restored",
                lambda key=key: 'false"' in self.ask("HEAD", key).headers.get("x-amz-restore", ""),
                seconds=PATIENCE_SECONDS,
                pause=0.5,
            )
            self.assertEqual(self.ask("GET", key).body, body, key)
        appliance.drain(PATIENCE_SECONDS)
        self.assertEqual(appliance.rows("/alerts"), [])
        rows = {row["barcode"]: row for row in appliance.rows("/cartridges") if row.get("volume_uuid")}
        self.assertEqual(set(rows), set(BARCODES))
        for row in rows.values():
            # As the cartridges' memories tell.
            self.assertEqual(row["capacity_bytes"], TAPE_MIB * 1024**2, row)
        for barcode in BARCODES:
            self.read_by_hand(barcode)

    def read_by_hand(self, barcode: str) -> None:
        """Copy the tape as its first file says, and get every object as its README.txt says."""
        folder = Path(tempfile.mkdtemp(prefix="by-hand-"))
        self.addCleanup(shutil.rmtree, folder)
        load_by_hand(barcode)
        try:
            nst = device_of(0)
            run("mt", "-f", nst, "rewind")
            (folder / "TAPE.txt").write_text(run("tar", "-b", "512", "-xOf", nst, "README.txt"))
            self.cut(folder / "TAPE.txt", "read-tape.sh", folder)
            run("sh", str(folder / "read-tape.sh"), nst, str(folder / "tape"))
        finally:
            unload_by_hand()
        self.cut(folder / "tape" / "README.txt", "get-object.sh", folder)
        self.assertIn(barcode, (folder / "tape" / "coldstore" / "volume.json").read_text())
        self.assertEqual(len(list((folder / "tape" / "coldstore" / "sessions").iterdir())), 1)
        for key, body in self.bodies.items():
            done = subprocess.run(
                ["sh", str(folder / "get-object.sh"), str(folder / "tape"), "life", key],
                env={**os.environ, "CHECK_BUNDLES": "1"},
                capture_output=True,
                timeout=120,
                check=False,
            )
            self.assertEqual((done.returncode, done.stdout), (0, body), done.stderr.decode())

    def cut(self, text: Path, name: str, folder: Path) -> None:
        """Cut a script out of a text, by the command in the text that says how."""
        command = next(line for line in text.read_text().splitlines() if f"> {name}" in line)
        run("sh", "-e", "-c", f"cd '{folder}'; {command.replace(text.name, str(text))}; test -s {name}")
