"""The file system of the state directory runs full, with everything on it: staging, log, and the metadata unless a server has them."""

import subprocess
import time
from typing import Any

from botocore.exceptions import ClientError
from twisted.trial.unittest import SkipTest

from tests.endtoend.appliance import Appliance, ApplianceCase, wait_until

MIB = 1 << 20
SIZE_MIB = 160


class SmallAppliance(Appliance):
    """An appliance whose state directory, with its log, is a small file system in memory; its cartridges lie elsewhere."""

    def mount(self) -> None:
        """
        Make the file system.

        :raise SkipTest: that cannot be done here
        """
        self.settings["tape"]["virtual"]["directory"] = str(self.folder / "cartridges")
        self.write_configuration()
        self.state.mkdir(exist_ok=True)
        words = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "coldstore-test", str(self.state)]
        if subprocess.run(words, capture_output=True).returncode:
            self.close()
            raise SkipTest("mounting a small file system needs root")
        self.log_path = self.state / "log"

    def _swept(self) -> list[str]:
        subprocess.run(["umount", "-l", str(self.state)], capture_output=True)
        return super()._swept()


class DiskFullTests(ApplianceCase):
    """What clients and operators see of it."""

    settings = {
        "staging": {"capacity": "96MiB", "min_free": "0B", "segment": "1MiB", "small_object": "64KiB"},
    }

    @classmethod
    def make_appliance(cls) -> Appliance:
        """The appliance of the class."""
        appliance = SmallAppliance(cls.settings)
        appliance.mount()
        return appliance

    def setUp(self) -> None:
        super().setUp()
        self.stranger = self.appliance.state / "stranger"
        self.kept: dict[str, bytes] = {}
        self.name = self.bucket()

    def tearDown(self) -> None:
        self.stranger.unlink(missing_ok=True)
        super().tearDown()

    def fill(self) -> None:
        """Leave nothing free."""
        with self.stranger.open("wb", buffering=0) as file:
            block = bytes(MIB)
            for size in (MIB, 4096):
                try:
                    while file.write(block[:size]) == size:
                        pass
                except OSError:
                    continue

    def attempt(self, method: str, **arguments: Any) -> Any:
        """Make a request; return the answer, or the status with which it was refused, which must be one to be repeated."""
        try:
            return getattr(self.s3, method)(Bucket=self.name, **arguments)
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            self.assertEqual(status, 503, error)
            return status

    def put(self, key: str, size_bytes: int, storage_class: str = "GLACIER") -> bool:
        """Put an object; tell whether it was acknowledged."""
        content = key.encode() * (size_bytes // len(key) + 1)
        answer = self.attempt("put_object", Key=key, Body=content, StorageClass=storage_class)
        if answer != 503:
            self.kept[key] = content
        return answer != 503

    def check(self) -> None:
        """Exactly what was acknowledged is there, byte for byte."""
        listed = {
            entry["Key"]: entry["Size"]
            for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name)
            for entry in page.get("Contents", [])
        }
        self.assertEqual(listed, {key: len(content) for key, content in self.kept.items()})

    def test_life_on_a_full_disk(self) -> None:
        """
        With the disk full every write to it is refused with 503 and leaves nothing; reads go on, and so does what only a server of
        metadata is asked for; the operator is told; and when there is room again everything goes on by itself, archives and restores
        included.
        """
        self.put("before-small", 5000, "STANDARD")
        self.put("before-large", 3 * MIB)
        upload = self.attempt("create_multipart_upload", Key="parts", StorageClass="STANDARD")["UploadId"]
        part = self.attempt("upload_part", Key="parts", UploadId=upload, PartNumber=1, Body=bytes(5 * MIB))
        self.fill()
        refused = 0
        for number in range(200):
            # What was allocated ahead takes a few more; then there is room for nothing.
            refused += not self.put(f"small{number}", 3000)
            if refused >= 3:
                break
        self.assertGreaterEqual(refused, 3)
        self.assertFalse(self.put("large", 4 * MIB))
        another = {"Key": "parts", "UploadId": upload, "PartNumber": 2, "Body": bytes(5 * MIB)}
        self.assertEqual(self.attempt("upload_part", **another), 503)
        if self.appliance.metadata.is_in_state:
            self.check_record_is_full()
        else:
            self.check_record_has_room()
        body = self.s3.get_object(Bucket=self.name, Key="before-small")["Body"].read()
        self.assertEqual(body, self.kept["before-small"])
        self.check()
        wait_until(
            "the operator is told",
            lambda: any(
                "left" in text or "staging disk is full" in text
                for text in [
                    *self.appliance.ask("/status")["problems"],
                    *(alert["sentence"] for alert in self.appliance.rows("/alerts")),
                ]
            ),
            seconds=30,
        )
        self.stranger.unlink()
        wait_until("writes are taken again", lambda: self.put("after", 2 * MIB), seconds=30, pause=0.3)
        self.attempt("delete_object", Key="before-small")
        del self.kept["before-small"]
        self.attempt(
            "complete_multipart_upload",
            Key="parts",
            UploadId=upload,
            MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
        )
        self.kept["parts"] = bytes(5 * MIB)
        self.check()
        glacier = [(self.name, key) for key in self.kept if key.startswith(("before-large", "after"))]
        self.appliance.archive(*glacier, seconds=120)
        self.s3.restore_object(Bucket=self.name, Key="after", RestoreRequest={"Days": 1})
        wait_until(
            "it is restored",
            lambda: (
                'ongoing-request="false"' in self.s3.head_object(Bucket=self.name, Key="after")["Restore"]
            ),
            seconds=60,
        )
        body = self.s3.get_object(Bucket=self.name, Key="after")["Body"].read()
        self.assertEqual(body, self.kept["after"])
        wait_until(
            "no alert is left",
            lambda: not [row for row in self.appliance.rows("/alerts") if row["kind"] == "disk-full"],
            seconds=60,
        )
        self.check()
        rows = self.appliance.rows("/objects", bucket=self.name, limit="1000")
        living = sum(row["size_bytes"] for row in rows if row["on_disk"])
        wait_until(
            f"nothing that was refused is left on the disk, where {living} bytes live",
            lambda: self.appliance.ask("/status")["staging_used_bytes"] < living + MIB,
            seconds=30,
        )

    def test_archive_on_a_full_disk(self) -> None:
        """
        What is to be archived while nothing can be written down waits: no drive or cartridge is blamed, and with room it goes on.
        """
        self.put("before-small", 5000)
        self.put("before-large", 3 * MIB)
        self.fill()
        self.appliance.client.post("/archive")
        end = time.monotonic() + 8
        while time.monotonic() < end:
            self.fill()
            time.sleep(0.1)
        self.assertEqual({row["state"] for row in self.appliance.rows("/drives")}, {"up"})
        self.stranger.unlink()
        self.appliance.archive(*((self.name, key) for key in self.kept), seconds=120)
        self.assertEqual({row["state"] for row in self.appliance.rows("/drives")}, {"up"})
        self.assertNotIn("suspect", {row["state"] for row in self.appliance.rows("/cartridges")})

    def check_record_is_full(self) -> None:
        """No change of the record is made, either."""
        for method, arguments in (
            ("create_multipart_upload", {"Key": "more"}),
            ("delete_object", {"Key": "before-small"}),
            ("restore_object", {"Key": "before-large", "RestoreRequest": {"Days": 1}}),
        ):
            self.assertEqual(self.attempt(method, **arguments), 503, method)

    def check_record_has_room(self) -> None:
        """Changes of the record alone are made."""
        more = self.attempt("create_multipart_upload", Key="more", StorageClass="STANDARD")["UploadId"]
        self.assertNotEqual(self.attempt("abort_multipart_upload", Key="more", UploadId=more), 503)

    def test_killed_on_a_full_disk(self) -> None:
        """Killed while the disk is full it either starts or says why it cannot; with room it has all that was acknowledged."""
        self.put("before", 3 * MIB)
        self.fill()
        for number in range(20):
            self.put(f"s{number}", 3000)
        self.appliance.kill()
        self.fill()
        try:
            self.appliance.start()
        except AssertionError as error:
            self.assertRegex(str(error), "ended with status 1")
        else:
            self.check()
            self.appliance.kill()
        self.stranger.unlink()
        self.appliance.start()
        self.check()
        self.assertTrue(self.put("after", 3 * MIB))
        self.check()
