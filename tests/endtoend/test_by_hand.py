"""A cartridge is read with a mount, a shell and tar, and with nothing of the appliance."""

import hashlib
import json
import subprocess
import tarfile
import time
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from twisted.trial.unittest import SkipTest

from coldstore.vtl.fuse import fuse_available
from tests.endtoend.appliance import ApplianceCase, wait_until

LOCKED_UNTIL = datetime(2090, 1, 1, tzinfo=UTC)


class ByHandTests(ApplianceCase):
    """After a drain the library is anybody's."""

    def test_get_object(self) -> None:
        """The script in README.txt of a mounted cartridge gets an object and its metadata; plain tar does as well."""
        has_fuse, why_not = fuse_available()
        if not has_fuse:
            raise SkipTest(f"CARTRIDGES CANNOT BE MOUNTED HERE: {why_not}")
        bucket = self.bucket()
        bodies = {"dir/plain.bin": Random(1).randbytes(300_000), "ü ~%/x": b"awkward", "empty": b""}
        for key, body in bodies.items():
            self.s3.put_object(
                Bucket=bucket, Key=key, Body=body, StorageClass="GLACIER", Metadata={"who": "me"}
            )
        bodies["locked"] = b"locked"
        self.lock(bucket, "locked", bodies["locked"])
        self.appliance.archive(*((bucket, key) for key in bodies))
        barcodes = {copy["barcode"] for copy in self.appliance.object(bucket, "dir/plain.bin")["copies"]}
        self.assertEqual(len(barcodes), 2)
        self.assertEqual(self.appliance.command("drain", "--timeout", "60").returncode, 0)
        try:
            for barcode in sorted(barcodes):
                self.read_cartridge(barcode, bucket, bodies)
        finally:
            self.appliance.resume()

    def lock(self, bucket: str, key: str, body: bytes) -> None:
        """Put an object under lock."""
        self.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        self.s3.put_object_lock_configuration(
            Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"}
        )
        self.s3.put_object(
            Bucket=bucket,
            Key=key,
            Body=body,
            StorageClass="GLACIER",
            Metadata={"who": "me"},
            ObjectLockMode="COMPLIANCE",
            ObjectLockRetainUntilDate=LOCKED_UNTIL,
            ObjectLockLegalHoldStatus="ON",
        )

    def read_cartridge(self, barcode: str, bucket: str, bodies: dict[str, bytes]) -> None:
        """Load a cartridge, mount it, get every object, put the cartridge back."""
        library = self.appliance.library
        slot = next(
            row["home_slot"] for row in self.appliance.rows("/cartridges") if row["barcode"] == barcode
        )
        mtx = [library / "bin" / "mtx", "-f", library / "dev" / "changer"]
        subprocess.run([*mtx, "load", str(slot), "0"], check=True, capture_output=True, timeout=30)
        mountpoint = self.appliance.folder / f"mount-{barcode}"
        mountpoint.mkdir()
        ltfs = subprocess.Popen(
            [library / "bin" / "ltfs", "-f", "-o", f"devname={library}/dev/sg0", "-o", "ro", mountpoint],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self.appliance.folder / f"ltfs-{barcode}.log").open("wb"),
        )
        try:
            wait_until("it is mounted", lambda: (mountpoint / "README.txt").exists(), seconds=20)
            self.read_mounted(mountpoint, bucket, bodies)
        finally:
            subprocess.run(
                [library / "bin" / "umount", mountpoint], check=True, capture_output=True, timeout=30
            )
            self.assertEqual(ltfs.wait(30), 0)
            subprocess.run(
                [library / "bin" / "mt", "-f", library / "dev" / "nst0", "offline"],
                check=True,
                capture_output=True,
                timeout=30,
            )
            subprocess.run([*mtx, "unload", str(slot), "0"], check=True, capture_output=True, timeout=30)

    def read_mounted(self, mountpoint: Path, bucket: str, bodies: dict[str, bytes]) -> None:
        """Get every object as README.txt says."""
        readme = mountpoint / "README.txt"
        line = next(line for line in readme.read_text().splitlines() if "> get-object.sh" in line)
        folder = self.appliance.folder / f"hand-{time.monotonic_ns()}"
        folder.mkdir()
        subprocess.run(
            ["sh", "-c", line.replace("README.txt", f"'{readme}'")], cwd=folder, check=True, timeout=20
        )
        for key, body in bodies.items():
            done = subprocess.run(
                ["sh", "get-object.sh", mountpoint, bucket, key],
                cwd=folder,
                capture_output=True,
                timeout=60,
                check=False,
            )
            self.assertEqual((done.returncode, done.stdout), (0, body), done.stderr.decode())
            facts = json.loads(done.stderr)
            self.assertEqual((facts["bucket"], facts["key"], facts["size_bytes"]), (bucket, key, len(body)))
            self.assertIn("me", json.dumps(facts))
            lock = {"mode": "COMPLIANCE", "retain_until": LOCKED_UNTIL.timestamp(), "legal_hold": True}
            self.assertEqual(facts.get("lock"), lock if key == "locked" else None)
        found = set()
        for bundle in (mountpoint / "coldstore" / "bundles").glob("*.tar"):
            with tarfile.open(bundle) as tar:
                for member in tar:
                    stream = tar.extractfile(member)
                    found.add(hashlib.sha256(stream.read() if stream else b"").hexdigest())
            names = subprocess.run(
                ["tar", "-tf", bundle], capture_output=True, check=True, timeout=30, text=True
            )
            self.assertEqual(names.stderr, "")
        for body in bodies.values():
            self.assertIn(hashlib.sha256(body).hexdigest(), found)
