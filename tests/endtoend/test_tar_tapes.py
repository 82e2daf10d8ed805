"""An appliance that writes tar files on plain tapes, in the virtual library: a whole life, with kills in it."""

import os
import shutil
from collections.abc import Mapping
from random import Random
from typing import Any, ClassVar

from coldstore.ontape.paths import BUNDLES_DIRECTORY
from coldstore.ontape.reading import read_manifest
from coldstore.ontape.tape import parse_index_file
from coldstore.vtl.track import FILEMARK, Track
from tests.endtoend.appliance import ApplianceCase, wait_until
from tests.endtoend.clients import refusal

MIB = 1024**2


class TarTapeTests(ApplianceCase):
    """``tape.filesystem: tar``."""

    settings: ClassVar[Mapping[str, Any]] = {"tape": {"filesystem": "tar"}}

    bodies: ClassVar[dict[str, bytes]] = {
        "empty": b"",
        "small/ä file": Random(1).randbytes(5000),
        "small/two": Random(2).randbytes(300_000),
        "large": Random(3).randbytes(20 * MIB + 17),
    }

    def put(self, bucket: str) -> None:
        """Upload everything, cold."""
        for key, body in self.bodies.items():
            self.s3.put_object(Bucket=bucket, Key=key, Body=body, StorageClass="GLACIER", Metadata={"k": "v"})

    def restored(self, bucket: str) -> None:
        """Restore everything and compare."""
        for key in self.bodies:
            self.s3.restore_object(Bucket=bucket, Key=key, RestoreRequest={"Days": 1})
        for key, body in self.bodies.items():
            wait_until(
                f"{key} is restored",
                lambda key=key: 'false"' in self.s3.head_object(Bucket=bucket, Key=key).get("Restore", ""),
                seconds=60,
            )
            self.assertEqual(self.s3.get_object(Bucket=bucket, Key=key)["Body"].read(), body)

    def barcodes(self, bucket: str) -> set[str]:
        """The cartridges that hold the bucket's objects."""
        return {copy["barcode"] for copy in self.appliance.object(bucket, "large")["copies"]}

    def test_life(self) -> None:
        """Objects go to two tapes, are refused, come back identical, and are whole tar files on the tapes."""
        bucket = self.bucket()
        self.put(bucket)
        self.appliance.archive(*((bucket, key) for key in self.bodies))
        refused = refusal(self.s3.get_object, Bucket=bucket, Key="large")
        self.assertEqual(refused["Error"]["Code"], "InvalidObjectState")
        self.restored(bucket)
        barcodes = self.barcodes(bucket)
        self.assertEqual(len(barcodes), 2)
        self.appliance.drain()
        try:
            for barcode in barcodes:
                self.look_at(barcode)
        finally:
            self.appliance.resume()

    def look_at(self, barcode: str) -> None:
        """The last tape file is an index, and every bundle that it lists is where it says."""
        folder = self.appliance.folder / f"seen-{barcode}"
        shutil.copytree(self.appliance.library / "cartridges" / barcode, folder)
        track = Track(str(folder))
        files: list[bytes] = [b""]
        starts = [0]
        for number, size in enumerate(track.sizes):
            if size == FILEMARK:
                files.append(b"")
                starts.append(number + 1)
            else:
                files[-1] += track.read(number)
        track.close()
        self.assertEqual(files.pop(), b"", "the tape ends with a file mark")
        index = parse_index_file(files[-1])
        self.assertEqual(index.label.barcode, barcode)
        paths = {entry.path for entry in index.entries}
        self.assertLessEqual({"README.txt", "coldstore/volume.json"}, paths)
        self.assertTrue(any(path.startswith("coldstore/sessions/") for path in paths))
        bundles = [entry for entry in index.entries if entry.path.startswith(BUNDLES_DIRECTORY)]
        self.assertTrue(bundles)
        for entry in bundles:
            assert entry.tape_file is not None
            self.assertEqual(starts[entry.tape_file], entry.block)
            path = folder / os.path.basename(entry.path)
            path.write_bytes(files[entry.tape_file])
            with path.open("rb") as bundle:
                self.assertEqual(f"{read_manifest(bundle).plan.bundle_id}.tar", path.name)

    def test_kill(self) -> None:
        """Killed while the tapes are mounted and while it writes, it goes on where it stood; nothing is lost, and nobody is blamed."""
        bucket = self.bucket()
        self.put(bucket)
        self.appliance.archive(*((bucket, key) for key in self.bodies))
        before = self.appliance.log().count("taken over")
        self.appliance.kill()
        self.appliance.start()
        self.s3 = self.appliance.s3()
        wait_until(
            "both mounts are taken over", lambda: self.appliance.log().count("taken over") == before + 2
        )
        for number in range(3):
            self.s3.put_object(
                Bucket=bucket,
                Key=f"more-{number}",
                Body=Random(number).randbytes(40 * MIB),
                StorageClass="GLACIER",
            )
        self.appliance.client.post("/archive")
        wait_until(
            "it writes",
            lambda: any(row["step"] in ("writing", "verifying") for row in self.appliance.rows("/drives")),
            pause=0.005,
        )
        self.appliance.kill()
        self.appliance.start()
        self.s3 = self.appliance.s3()
        self.appliance.archive(*((bucket, f"more-{number}") for number in range(3)))
        self.restored(bucket)
        self.assertEqual(self.appliance.rows("/alerts"), [])

    def test_other_form(self) -> None:
        """A configuration that asks for LTFS now is refused: the cartridges would count as not ours."""
        bucket = self.bucket()
        self.s3.put_object(Bucket=bucket, Key="k", Body=b"x", StorageClass="GLACIER")
        self.appliance.archive((bucket, "k"))
        self.appliance.stop()
        environment = self.appliance.environment
        self.appliance.environment = {**environment, "COLDSTORE_TAPE_FILESYSTEM": "ltfs"}
        try:
            with self.assertRaises(AssertionError) as refused:
                self.appliance.start()
        finally:
            self.appliance.environment = environment
        self.assertIn("tape.filesystem is ltfs, and", str(refused.exception))
        self.appliance.start()
