"""The whole life of objects with a real ``ltfs``: archived by the appliance, restored by it, and read by hand with ``ltfs`` and ``tar``."""

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from random import Random
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from coldstore.vtl.library import LibrarySpec
from tests.contract.filesystem_rigs import installed_tools
from tests.endtoend.appliance import Appliance, wait_until
from tests.endtoend.clients import refusal
from tests.ltfs.reference_library import ReferenceLibrary

MEBIBYTE = 1024**2


def some_bytes(size_bytes: int, seed: int) -> bytes:
    """Bytes that do not compress."""
    return Random(seed).randbytes(size_bytes)


class LifeTests(SynchronousTestCase):
    """An appliance over the reference ``ltfs``."""

    timeout = 300
    if installed_tools() is None:
        skip = "level ltfs: no ltfs, mkltfs and ltfsck on PATH"
    elif not os.path.exists("/dev/fuse"):
        skip = "level ltfs: no /dev/fuse, ltfs cannot mount"

    objects: ClassVar[dict[str, bytes]] = {
        "empty": b"",
        "small/ä file": some_bytes(5000, 1),
        "small/two": some_bytes(300_000, 2),
        "large": some_bytes(20 * MEBIBYTE + 17, 3),
    }

    def setUp(self) -> None:
        """Make a library and an appliance that uses it."""
        tools = installed_tools()
        assert tools is not None
        self.folder = Path(os.path.realpath(tempfile.mkdtemp(prefix="cs-ltfs-")))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        spec = LibrarySpec(drives=2, slots=6, mail_slots=1, cartridges=4, capacity_bytes=400 * MEBIBYTE)
        self.library = ReferenceLibrary(self.folder, tools, spec)
        self.tools = tools
        self.appliance = Appliance({"tape": self.library.settings()})
        self.addCleanup(self.appliance.close)
        self.appliance.start()

    def test_whole_life(self) -> None:
        """Objects go to two cartridges each, are cold, come back identical, and can be read with ltfs and tar alone."""
        appliance = self.appliance
        wait_until("cartridges are known", lambda: len(appliance.rows("/cartridges")) == 4)
        appliance.command("cartridges", "admit", "--all").check_returncode()
        s3 = appliance.s3()
        s3.create_bucket(Bucket="life")
        for key, body in self.objects.items():
            s3.put_object(Bucket="life", Key=key, Body=body, StorageClass="GLACIER", Metadata={"k": "v"})
        appliance.archive(*[("life", key) for key in self.objects], seconds=120)
        for key in self.objects:
            head = s3.head_object(Bucket="life", Key=key)
            self.assertEqual(head["ResponseMetadata"]["HTTPHeaders"]["x-coldstore-copies"], "2/2")
        refused = refusal(s3.get_object, Bucket="life", Key="large")
        self.assertEqual(refused["Error"]["Code"], "InvalidObjectState")
        for key in self.objects:
            s3.restore_object(Bucket="life", Key=key, RestoreRequest={"Days": 1})
        for key, body in self.objects.items():
            wait_until(
                f"{key} is restored",
                lambda key=key: 'false"' in s3.head_object(Bucket="life", Key=key).get("Restore", ""),
                seconds=120,
                pause=0.2,
            )
            self.assertEqual(s3.get_object(Bucket="life", Key=key)["Body"].read(), body)
        appliance.drain()
        written = [row["barcode"] for row in appliance.rows("/cartridges") if row.get("volume_uuid")]
        self.assertEqual(len(written), 2)
        for barcode in written:
            self._read_by_hand(barcode)

    def _read_by_hand(self, barcode: str) -> None:
        """Every object is in a bundle of the cartridge that plain ``tar`` unpacks."""
        mountpoint, unpacked = self.folder / f"mnt-{barcode}", self.folder / f"out-{barcode}"
        mountpoint.mkdir()
        unpacked.mkdir()
        with (self.folder / f"{barcode}.log").open("wb") as log:
            ltfs = subprocess.Popen(
                [
                    *(self.tools.ltfs, "-f", "-o", f"devname={self.library.tape(barcode)}"),
                    *("-o", "tape_backend=file", "-o", "ro", str(mountpoint)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**self.library.environment(), "LANG": "C.UTF-8"},
            )
        try:
            wait_until("mounted by hand", lambda: os.path.ismount(mountpoint), seconds=30)
            self.assertTrue((mountpoint / "README.txt").read_text().strip())
            for bundle in sorted((mountpoint / "coldstore" / "bundles").iterdir()):
                subprocess.run(["tar", "-xf", str(bundle), "-C", str(unpacked)], check=True, timeout=60)
                digest = os.getxattr(bundle, "user.ltfs.hash.sha256sum").decode()
                self.assertEqual(hashlib.sha256(bundle.read_bytes()).hexdigest(), digest)
        finally:
            while (
                subprocess.run(["umount", str(mountpoint)], capture_output=True, check=False).returncode == 32
            ):
                time.sleep(0.2)
                if not os.path.ismount(mountpoint):
                    break
            ltfs.wait(30)
        found = {path.read_bytes() for path in unpacked.rglob("*") if path.is_file()}
        for key, body in self.objects.items():
            self.assertIn(body, found, key)
