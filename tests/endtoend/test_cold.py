"""The whole life of a cold object with each client: PUT, two copies on tape, refused, restored, read, expired."""

import hashlib
import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from io import BytesIO
from random import Random
from typing import Any

from boto3.s3.transfer import TransferConfig

from tests.endtoend.appliance import ApplianceCase, wait_until
from tests.endtoend.clients import Programs, refusal, refused
from tests.endtoend.wire import RawClient

MIB = 1024**2
DAY_SECONDS = 6
LONG_DAYS = 500
"""A restore that outlives every test here."""


class ColdCase(ApplianceCase):
    """An appliance with short days."""

    settings = {"time": {"day": f"{DAY_SECONDS}s"}}

    def head(self, bucket: str, key: str) -> dict[str, str]:
        """Return the headers of a HEAD."""
        answer = self.s3.head_object(Bucket=bucket, Key=key)["ResponseMetadata"]
        return dict(answer["HTTPHeaders"])

    def body(self, bucket: str, key: str) -> bytes:
        """Return the bytes of an object."""
        return bytes(self.s3.get_object(Bucket=bucket, Key=key)["Body"].read())

    def restore(self, bucket: str, key: str, days: int = LONG_DAYS, tier: str | None = None) -> int:
        """Ask for a restored copy; return the status."""
        request: dict[str, Any] = {"Days": days}
        if tier is not None:
            request["GlacierJobParameters"] = {"Tier": tier}
        answer = self.s3.restore_object(Bucket=bucket, Key=key, RestoreRequest=request)
        return int(answer["ResponseMetadata"]["HTTPStatusCode"])

    def wait_restored(self, bucket: str, key: str) -> float:
        """Wait for the restored copy; return when it ends."""
        header = wait_until(
            f"{key} is restored",
            lambda: (
                (found := self.head(bucket, key).get("x-amz-restore", "")).startswith(
                    'ongoing-request="false"'
                )
                and found
            ),
            seconds=60,
        )
        return expiry_of(header)

    def assert_cold(self, bucket: str, key: str, storage_class: str = "GLACIER") -> None:
        """Check that a GET is refused as S3 refuses it, and a HEAD is not."""
        error = refusal(self.s3.get_object, Bucket=bucket, Key=key)
        self.assertEqual(error["ResponseMetadata"]["HTTPStatusCode"], 403)
        self.assertEqual(error["Error"]["Code"], "InvalidObjectState")
        self.assertEqual(error["Error"]["StorageClass"], storage_class)
        self.assertEqual(self.head(bucket, key)["x-amz-storage-class"], storage_class)

    def assert_on_two_tapes(self, bucket: str, key: str) -> None:
        """Check that two verified copies of every extent lie on two cartridges, of both pools."""
        self.assertEqual(self.head(bucket, key)["x-coldstore-copies"], "2/2")
        copies = self.appliance.object(bucket, key)["copies"]
        for bundle in {copy["bundle"] for copy in copies}:
            of_bundle = [copy for copy in copies if copy["bundle"] == bundle]
            self.assertEqual({copy["state"] for copy in of_bundle}, {"verified"})
            self.assertEqual({copy["pool"] for copy in of_bundle}, {"main", "vault"})
            self.assertEqual(len({copy["barcode"] for copy in of_bundle}), 2)


def expiry_of(header: str) -> float:
    """Return when the copy of a finished restore ends, from ``x-amz-restore``."""
    match = re.fullmatch(r'ongoing-request="false", expiry-date="(.*)"', header)
    assert match, header
    return parsedate_to_datetime(match[1]).timestamp()


class RestoreTests(ColdCase):
    """The rules, with boto3."""

    def test_life(self) -> None:
        """An object lives its whole life: refused from the PUT on, on two tapes, off the disk, restored, identical."""
        bucket = self.bucket()
        bodies = {
            "empty": b"",
            "small": Random(1).randbytes(3000),
            "large": Random(2).randbytes(9 * MIB + 1),
            "ümlaut/~%20 + x": b"awkward",
        }
        for key, body in bodies.items():
            self.s3.put_object(
                Bucket=bucket, Key=key, Body=body, StorageClass="GLACIER", Metadata={"name": "value"}
            )
            self.assert_cold(bucket, key)
            self.assertEqual(self.head(bucket, key)["x-coldstore-copies"], "0/2")
        parts = Random(3).randbytes(11 * MIB)
        bodies["parts"] = parts
        self.s3.upload_fileobj(
            BytesIO(parts),
            bucket,
            "parts",
            ExtraArgs={"StorageClass": "DEEP_ARCHIVE", "Metadata": {"name": "value"}},
            Config=TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB),
        )
        self.assert_cold(bucket, "parts", "DEEP_ARCHIVE")
        used = self.appliance.settled_bytes()
        self.appliance.archive(*((bucket, key) for key in bodies))
        for key, body in bodies.items():
            self.assert_on_two_tapes(bucket, key)
            self.assert_cold(bucket, key, "DEEP_ARCHIVE" if key == "parts" else "GLACIER")
            self.assertEqual(self.head(bucket, key)["content-length"], str(len(body)))
        wait_until("the bytes leave the disk", lambda: self.appliance.settled_bytes() < used - 20 * MIB)
        for key in bodies:
            self.assertEqual(self.restore(bucket, key), 202)
            self.assertTrue(self.head(bucket, key)["x-amz-restore"])
        for key, body in bodies.items():
            self.wait_restored(bucket, key)
            got = self.s3.get_object(Bucket=bucket, Key=key)
            self.assertEqual(got["Body"].read(), body, key)
            self.assertEqual(got["Metadata"], {"name": "value"})
            self.assertEqual(got["StorageClass"], "DEEP_ARCHIVE" if key == "parts" else "GLACIER")
        part = self.s3.get_object(Bucket=bucket, Key="large", Range=f"bytes={4 * MIB - 5}-{8 * MIB + 4}")
        self.assertEqual(part["Body"].read(), bodies["large"][4 * MIB - 5 : 8 * MIB + 5])

    def test_answers(self) -> None:
        """202 for the first request, 409 for its repeat, 200 with a new expiry once the copy is there."""
        bucket = self.bucket()
        self.s3.put_object(Bucket=bucket, Key="k", Body=b"x" * 1000, StorageClass="GLACIER")
        self.appliance.archive((bucket, "k"))
        # Nothing is read while the drives may not work: what lies between can be looked at.
        self.appliance.drain()
        try:
            self.assertEqual(self.restore(bucket, "k", LONG_DAYS, "Bulk"), 202)
            self.assertEqual(self.head(bucket, "k")["x-amz-restore"], 'ongoing-request="true"')
            self.assertEqual(
                refused(self.restore, bucket, "k", LONG_DAYS, "Bulk"), (409, "RestoreAlreadyInProgress")
            )
            self.assertEqual(
                refused(self.restore, bucket, "k", LONG_DAYS + 1), (409, "RestoreAlreadyInProgress")
            )
            self.assertEqual(self.restore(bucket, "k", LONG_DAYS, "Expedited"), 202)
            self.assertEqual(
                refused(self.restore, bucket, "k", LONG_DAYS, "Standard"), (409, "RestoreAlreadyInProgress")
            )
            self.assert_cold(bucket, "k")
            listed = self.s3.list_objects_v2(Bucket=bucket, OptionalObjectAttributes=["RestoreStatus"])
            self.assertEqual(listed["Contents"][0]["RestoreStatus"], {"IsRestoreInProgress": True})
        finally:
            self.appliance.resume()
        ends_at = self.wait_restored(bucket, "k")
        self.assertEqual(self.restore(bucket, "k", 2 * LONG_DAYS), 200)
        longer = expiry_of(self.head(bucket, "k")["x-amz-restore"])
        self.assertGreaterEqual(longer - ends_at, (LONG_DAYS - 1) * DAY_SECONDS)
        self.assertEqual(self.restore(bucket, "k", 100), 200)
        self.assertLess(expiry_of(self.head(bucket, "k")["x-amz-restore"]), longer)
        for operation in (self.s3.list_objects, self.s3.list_objects_v2):
            (entry,) = operation(Bucket=bucket, OptionalObjectAttributes=["RestoreStatus"])["Contents"]
            self.assertFalse(entry["RestoreStatus"]["IsRestoreInProgress"])
            self.assertGreater(entry["RestoreStatus"]["RestoreExpiryDate"], datetime.now(UTC))
            self.assertNotIn("RestoreStatus", operation(Bucket=bucket)["Contents"][0])

    def test_expiry(self) -> None:
        """When its time is over a copy is refused again; a past date is never shown; it can be restored anew."""
        bucket, body = self.bucket(), Random(4).randbytes(3 * MIB)
        self.s3.put_object(Bucket=bucket, Key="k", Body=body, StorageClass="GLACIER")
        self.appliance.archive((bucket, "k"))
        used = self.appliance.settled_bytes()
        asked_at = time.time()
        self.restore(bucket, "k", 1)
        ends_at = self.wait_restored(bucket, "k")
        self.assertGreaterEqual(ends_at, int(asked_at) + DAY_SECONDS)
        self.assertLessEqual(ends_at, time.time() + 2 * DAY_SECONDS)
        self.assertEqual(self.body(bucket, "k"), body)
        asked_at = time.time()
        while header := self.head(bucket, "k").get("x-amz-restore"):
            self.assertGreater(expiry_of(header) + 1, asked_at, "a past date is shown")
            time.sleep(0.1)
            asked_at = time.time()
        self.assertGreaterEqual(time.time() + 1, ends_at)
        self.assert_cold(bucket, "k")
        wait_until("its bytes leave the disk", lambda: self.appliance.settled_bytes() <= used + 65536)
        self.assertEqual(self.restore(bucket, "k"), 202)
        self.wait_restored(bucket, "k")
        self.assertEqual(self.body(bucket, "k"), body)

    def test_before_it_is_on_tape(self) -> None:
        """What is still on disk is restored at once, although it is refused until it was asked for."""
        bucket = self.bucket()
        self.s3.put_object(Bucket=bucket, Key="k", Body=b"still here", StorageClass="GLACIER")
        self.assert_cold(bucket, "k")
        self.assertEqual(self.restore(bucket, "k"), 202)
        self.wait_restored(bucket, "k")
        self.assertEqual(self.body(bucket, "k"), b"still here")
        self.assertEqual(self.head(bucket, "k")["x-coldstore-copies"], "0/2")
        self.appliance.archive((bucket, "k"), off_disk=False)
        self.assert_on_two_tapes(bucket, "k")
        self.assertEqual(self.body(bucket, "k"), b"still here")

    def test_refused_requests(self) -> None:
        """Days below 1, unknown tiers, Expedited of DEEP_ARCHIVE, classes that need no restore: refused, unchanged."""
        bucket = self.bucket()
        for storage_class in ("GLACIER", "DEEP_ARCHIVE", "STANDARD", "GLACIER_IR"):
            self.s3.put_object(Bucket=bucket, Key=storage_class, Body=b"x", StorageClass=storage_class)
        self.assertEqual(refused(self.restore, bucket, "GLACIER", 0), (400, "InvalidArgument"))
        self.assertEqual(refused(self.restore, bucket, "GLACIER", -1), (400, "InvalidArgument"))
        self.assertEqual(refused(self.restore, bucket, "GLACIER", 1, "Quick"), (400, "MalformedXML"))
        self.assertEqual(
            refused(self.restore, bucket, "DEEP_ARCHIVE", 1, "Expedited"), (400, "InvalidArgument")
        )
        for name in ("STANDARD", "GLACIER_IR"):
            self.assertEqual(refused(self.restore, bucket, name, 1), (403, "InvalidObjectState"))
        self.assertEqual(refused(self.restore, bucket, "absent", 1), (404, "NoSuchKey"))
        raw = RawClient(self.appliance.port, self.appliance.users["first"])
        for body, code in (
            (b"", "MissingRequestBodyError"),
            (b"<RestoreRequest/>", "MalformedXML"),
            (b"<RestoreRequest><Days>soon</Days></RestoreRequest>", "MalformedXML"),
            (b"<Other><Days>1</Days></Other>", "MalformedXML"),
        ):
            answer = raw.ask("POST", f"/{bucket}/GLACIER?restore", body)
            self.assertEqual((answer.status, answer.code), (400, code), body)
        self.assertNotIn("x-amz-restore", self.head(bucket, "GLACIER"))

    def test_copies_of_cold_objects(self) -> None:
        """A cold source is refused by both copies; a restored one is copied, and the copy onto itself makes it warm."""
        bucket, body = self.bucket(), Random(5).randbytes(6 * MIB)
        self.s3.put_object(Bucket=bucket, Key="k", Body=body, StorageClass="GLACIER")
        source = {"Bucket": bucket, "Key": "k"}
        error = refusal(self.s3.copy_object, Bucket=bucket, Key="copy", CopySource=source)
        self.assertEqual(error["Error"]["Code"], "InvalidObjectState")
        self.assertEqual(error["Error"]["StorageClass"], "GLACIER")
        upload = self.s3.create_multipart_upload(Bucket=bucket, Key="copy")["UploadId"]
        self.assertEqual(
            refused(
                self.s3.upload_part_copy,
                Bucket=bucket,
                Key="copy",
                UploadId=upload,
                PartNumber=1,
                CopySource=source,
            ),
            (403, "InvalidObjectState"),
        )
        self.appliance.archive((bucket, "k"))
        self.restore(bucket, "k")
        self.wait_restored(bucket, "k")
        self.s3.copy_object(Bucket=bucket, Key="k", CopySource=source, StorageClass="STANDARD")
        headers = self.head(bucket, "k")
        self.assertNotIn("x-amz-storage-class", headers)
        self.assertNotIn("x-amz-restore", headers)
        self.assertEqual(self.body(bucket, "k"), body)

    def test_default_class(self) -> None:
        """A bucket's default class is what objects get whose writer names none."""
        bucket = self.bucket()
        raw = RawClient(self.appliance.port, self.appliance.users["first"])
        target = f"/{bucket}?x-coldstore-default-class"
        document = b"<DefaultStorageClass>%s</DefaultStorageClass>"
        self.assertEqual(raw.ask("PUT", target, document % b"GLACIER").status, 200)
        for wrong, code in (
            (b"LUKEWARM", "InvalidStorageClass"),
            (b"<StorageClass>STANDARD</StorageClass>", "MalformedXML"),
        ):
            refused_put = raw.ask("PUT", target, document % wrong)
            self.assertEqual((refused_put.status, refused_put.code), (400, code))
        self.assertIn(b">GLACIER<", raw.ask("GET", target).body)
        self.s3.put_object(Bucket=bucket, Key="default", Body=b"x")
        self.s3.put_object(Bucket=bucket, Key="named", Body=b"x", StorageClass="STANDARD")
        upload = self.s3.create_multipart_upload(Bucket=bucket, Key="parts")["UploadId"]
        etag = self.s3.upload_part(Bucket=bucket, Key="parts", UploadId=upload, PartNumber=1, Body=b"p")[
            "ETag"
        ]
        self.s3.complete_multipart_upload(
            Bucket=bucket,
            Key="parts",
            UploadId=upload,
            MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]},
        )
        self.assert_cold(bucket, "default")
        self.assert_cold(bucket, "parts")
        self.assertEqual(self.body(bucket, "named"), b"x")
        self.assertEqual(raw.ask("PUT", target, document % b"").status, 200)
        self.s3.put_object(Bucket=bucket, Key="none", Body=b"x")
        self.assertEqual(self.body(bucket, "none"), b"x")

    def test_standard(self) -> None:
        """STANDARD objects get two copies on tape as well, and stay readable all the time."""
        bucket, body = self.bucket(), Random(6).randbytes(2 * MIB)
        self.s3.put_object(Bucket=bucket, Key="k", Body=body)
        self.s3.put_object(Bucket=bucket, Key="ia", Body=body, StorageClass="STANDARD_IA")
        self.appliance.archive((bucket, "k"), (bucket, "ia"), off_disk=False)
        for key in ("k", "ia"):
            self.assert_on_two_tapes(bucket, key)
            self.assertTrue(self.appliance.object(bucket, key)["on_disk"])
            self.assertEqual(self.body(bucket, key), body)

    def test_changes_while_archiving(self) -> None:
        """What is overwritten or deleted while it goes to tape is what the last writer said, before and after."""
        bucket, used = self.bucket(), self.appliance.settled_bytes()
        big = Random(7).randbytes(40 * MIB)
        for key in ("over", "gone", "kept"):
            self.s3.put_object(Bucket=bucket, Key=key, Body=big + key.encode(), StorageClass="GLACIER")
        self.appliance.client.post("/archive")
        wait_until(
            "a bundle is being written",
            lambda: self.appliance.ask("/jobs")["bundles"],
            seconds=30,
            pause=0.02,
        )
        self.s3.put_object(Bucket=bucket, Key="over", Body=b"new", StorageClass="GLACIER")
        self.s3.delete_object(Bucket=bucket, Key="gone")
        self.assertEqual(refused(self.s3.get_object, Bucket=bucket, Key="gone"), (404, "NoSuchKey"))
        self.appliance.archive((bucket, "over"), (bucket, "kept"), seconds=90)
        for key, body in (("over", b"new"), ("kept", big + b"kept")):
            self.assert_on_two_tapes(bucket, key)
            self.restore(bucket, key)
            self.wait_restored(bucket, key)
            self.assertEqual(self.body(bucket, key), body)
        self.assertEqual(refused(self.s3.get_object, Bucket=bucket, Key="gone"), (404, "NoSuchKey"))
        self.s3.delete_object(Bucket=bucket, Key="over")
        self.s3.delete_object(Bucket=bucket, Key="kept")
        wait_until("nothing of them stays on disk", lambda: self.appliance.settled_bytes() < used + MIB)

    def test_changes_while_restoring(self) -> None:
        """A restore under way ends with its object: deleted is deleted, and a new object has no restore."""
        bucket = self.bucket()
        for key in ("over", "gone", "kept"):
            self.s3.put_object(Bucket=bucket, Key=key, Body=key.encode() * 100, StorageClass="GLACIER")
        self.appliance.archive(*((bucket, key) for key in ("over", "gone", "kept")))
        self.appliance.drain()
        for key in ("over", "gone", "kept"):
            self.restore(bucket, key)
        self.s3.put_object(Bucket=bucket, Key="over", Body=b"new", StorageClass="GLACIER")
        self.s3.delete_object(Bucket=bucket, Key="gone")
        self.assertNotIn("x-amz-restore", self.head(bucket, "over"))
        self.appliance.resume()
        self.wait_restored(bucket, "kept")
        self.assertEqual(self.body(bucket, "kept"), b"kept" * 100)
        self.assertNotIn("x-amz-restore", self.head(bucket, "over"))
        self.assert_cold(bucket, "over")
        self.assertEqual(refused(self.s3.head_object, Bucket=bucket, Key="gone"), (404, "404"))
        wait_until("no restore is under way", lambda: self.appliance.ask("/status")["ongoing_restores"] == 0)
        self.restore(bucket, "over")
        self.wait_restored(bucket, "over")
        self.assertEqual(self.body(bucket, "over"), b"new")

    def test_killed_between(self) -> None:
        """kill -9 with a restore asked for and an archive waiting: the next start does both."""
        bucket, body = self.bucket(), Random(8).randbytes(2 * MIB)
        self.s3.put_object(Bucket=bucket, Key="k", Body=body, StorageClass="GLACIER")
        self.appliance.archive((bucket, "k"))
        self.restore(bucket, "k")
        self.s3.put_object(Bucket=bucket, Key="waits", Body=body, StorageClass="GLACIER")
        self.appliance.kill()
        self.appliance.start()
        self.wait_restored(bucket, "k")
        self.assertEqual(self.body(bucket, "k"), body)
        self.appliance.archive((bucket, "waits"))
        self.assert_on_two_tapes(bucket, "waits")


class ThresholdTests(ColdCase):
    """Archives that nobody asks for."""

    settings = {"archive": {"trigger": {"age": "1s", "idle_age": "1s"}}}

    def test_by_age(self) -> None:
        """An object goes to tape by itself once it is old enough."""
        bucket = self.bucket()
        self.s3.put_object(Bucket=bucket, Key="k", Body=b"x" * 5000, StorageClass="GLACIER")
        wait_until(
            "it is on two tapes", lambda: self.head(bucket, "k")["x-coldstore-copies"] == "2/2", seconds=60
        )
        self.assert_on_two_tapes(bucket, "k")
        self.assertEqual(self.appliance.metrics()["coldstore_not_on_every_tape_oldest_seconds"], 0)


class ProgramTests(ColdCase):
    """The same life with awscli, rclone and s3cmd, each as its users would do it."""

    def setUp(self) -> None:
        """Have programs with the first user's keys."""
        super().setUp()
        self.programs = Programs(
            self.appliance.endpoint, self.appliance.users["first"], self.appliance.folder / "home"
        )
        # More than awscli sends in one piece.
        self.body_bytes = Random(9).randbytes(9 * MIB)
        self.file = self.programs.home / "file.bin"
        self.file.write_bytes(self.body_bytes)
        self.back = self.programs.home / "back.bin"
        self.back.unlink(missing_ok=True)

    def archive_and_look(self, bucket: str, key: str) -> None:
        """Have it archived, and see that it is."""
        self.assert_cold(bucket, key)
        self.appliance.archive((bucket, key))
        self.assert_on_two_tapes(bucket, key)
        self.assert_cold(bucket, key)

    def while_drained(self, ask: Callable[[], object], repeat: Callable[[], str]) -> None:
        """Ask for a restore while drives do not work, see that it is under way and that its repeat is refused."""
        self.appliance.drain()
        try:
            ask()
            self.assertRegex(repeat(), "RestoreAlreadyInProgress|Object restore is already in progress")
        finally:
            self.appliance.resume()

    def test_awscli(self) -> None:
        """awscli: s3 cp, s3api head-object, restore-object, get-object, and s3 cp --force-glacier-transfer."""
        aws, bucket = self.programs.aws, self.bucket()
        aws("s3", "cp", "file.bin", f"s3://{bucket}/k", "--storage-class", "GLACIER")
        self.archive_and_look(bucket, "k")
        here = ("--bucket", bucket, "--key", "k")
        refused_get = aws("s3api", "get-object", *here, "back.bin", status=None)
        self.assertIn("InvalidObjectState", refused_get.stderr)
        skipped = aws("s3", "cp", f"s3://{bucket}/k", "back.bin", status=None)
        self.assertIn("GLACIER", skipped.stdout + skipped.stderr)
        order = ("s3api", "restore-object", *here, "--restore-request")
        words = json.dumps({"Days": LONG_DAYS, "GlacierJobParameters": {"Tier": "Standard"}})

        def ask() -> None:
            aws(*order, words)
            head = json.loads(aws("s3api", "head-object", *here).stdout)
            self.assertEqual(head["Restore"], 'ongoing-request="true"')

        self.while_drained(ask, lambda: aws(*order, words, status=None).stderr)
        self.wait_restored(bucket, "k")
        head = json.loads(aws("s3api", "head-object", *here).stdout)
        self.assertIn('ongoing-request="false", expiry-date="', head["Restore"])
        self.assertEqual((head["StorageClass"], head["ContentLength"]), ("GLACIER", len(self.body_bytes)))
        aws("s3api", "get-object", *here, "back.bin")
        self.assertEqual(self.back.read_bytes(), self.body_bytes)
        self.back.unlink()
        aws("s3", "cp", f"s3://{bucket}/k", "back.bin", "--force-glacier-transfer")
        self.assertEqual(self.back.read_bytes(), self.body_bytes)
        aws(*order, words)

    def test_rclone(self) -> None:
        """rclone: copy, backend restore, backend restore-status, copy back, check."""
        rclone, bucket = self.programs.rclone, self.bucket()
        rclone("copyto", "file.bin", f"cs:{bucket}/dir/k", "--s3-storage-class", "GLACIER")
        self.archive_and_look(bucket, "dir/k")
        said = rclone("copyto", f"cs:{bucket}/dir/k", "back.bin", status=None).stderr
        self.assertRegex(said, "InvalidObjectState|GLACIER|restore")
        order = (
            "backend",
            "restore",
            f"cs:{bucket}/dir",
            "-o",
            "priority=Standard",
            "-o",
            f"lifetime={LONG_DAYS}",
        )

        def ask() -> None:
            done = json.loads(rclone(*order).stdout)
            self.assertEqual([(entry["Remote"], entry["Status"]) for entry in done], [("k", "OK")])

        self.while_drained(ask, lambda: rclone(*order).stdout)
        self.wait_restored(bucket, "dir/k")
        rclone("copyto", f"cs:{bucket}/dir/k", "back.bin")
        self.assertEqual(self.back.read_bytes(), self.body_bytes)
        listed = json.loads(rclone("lsjson", f"cs:{bucket}/dir", "--metadata").stdout)
        self.assertEqual([(entry["Name"], entry["Size"]) for entry in listed], [("k", len(self.body_bytes))])
        self.assertEqual(listed[0]["Tier"], "GLACIER")
        status = rclone(
            "backend",
            "restore-status",
            f"cs:{bucket}/dir",
            status=None if "1.60" in rclone("version").stdout else 0,
        )
        if status.returncode == 0:
            (entry,) = json.loads(status.stdout)
            self.assertFalse(entry["RestoreStatus"]["IsRestoreInProgress"])

    def test_s3cmd(self) -> None:
        """s3cmd: put, info, restore, get."""
        s3cmd, bucket = self.programs.s3cmd, self.bucket()
        url = f"s3://{bucket}/k"
        s3cmd("put", "--storage-class=GLACIER", "file.bin", url)
        self.archive_and_look(bucket, "k")
        self.assertIn("InvalidObjectState", s3cmd("get", "--force", url, "back.bin", status=None).stderr)
        order = ("restore", f"--restore-days={LONG_DAYS}", "--restore-priority=standard", url)
        self.while_drained(lambda: s3cmd(*order), lambda: s3cmd(*order).stderr)
        self.wait_restored(bucket, "k")
        s3cmd("get", "--force", url, "back.bin")
        self.assertEqual(self.back.read_bytes(), self.body_bytes)
        self.assertIn(hashlib.md5(self.body_bytes).hexdigest(), s3cmd("info", url).stdout)
        self.assertIn("GLACIER", s3cmd("info", url).stdout)
