"""Objects encrypted with their owners' keys, with boto3 over TLS: on the disk, on tape, and back."""

import hashlib
import io
import os
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from boto3.s3.transfer import TransferConfig

from tests.endtoend.appliance import ApplianceCase, wait_until
from tests.endtoend.clients import OverTls, refusal

MIB = 1024**2
SECRET = bytes(range(32))
KEY = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": SECRET}
OTHER_KEY = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": bytes(range(1, 33))}
SOURCE_KEY = {f"CopySource{name}": value for name, value in KEY.items()}


class EncryptionTests(OverTls):
    """An appliance with a certificate and short days."""

    settings = {"time": {"day": "6s"}}

    def body(self, bucket: str, key: str, **more: Any) -> bytes:
        """Return the bytes of an object."""
        return bytes(self.s3.get_object(Bucket=bucket, Key=key, **more)["Body"].read())

    def refused(self, call: Any, status: int, code: str, **arguments: Any) -> None:
        """See that a call is refused."""
        error = refusal(call, **arguments)
        self.assertEqual(
            (error["ResponseMetadata"]["HTTPStatusCode"], error["Error"]["Code"]), (status, code)
        )

    def test_key_in_hand(self) -> None:
        """Whole objects and parts, ranges and copies, for who has the key; nobody else gets anything."""
        bucket = self.bucket()
        body = Random(1).randbytes(11 * MIB + 17)
        put = self.s3.put_object(Bucket=bucket, Key="whole", Body=io.BytesIO(body), **KEY)
        self.assertEqual(put["SSECustomerAlgorithm"], "AES256")
        self.assertNotEqual(put["ETag"], f'"{hashlib.md5(body).hexdigest()}"')
        self.s3.upload_fileobj(
            io.BytesIO(body),
            bucket,
            "parts",
            ExtraArgs=dict(KEY),
            Config=TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB),
        )
        listed = self.s3.list_objects_v2(Bucket=bucket)["Contents"]
        self.assertEqual([one["Size"] for one in listed], [len(body)] * 2)
        for name in ("whole", "parts"):
            self.assertEqual(self.body(bucket, name, ChecksumMode="ENABLED", **KEY), body)
            for first, last in (
                (0, 0),
                (5 * MIB - 3, 5 * MIB + 3),
                (65_535, 65_536),
                (10 * MIB, len(body) + 9),
            ):
                got = self.body(bucket, name, Range=f"bytes={first}-{last}", **KEY)
                self.assertEqual(got, body[first : last + 1])
            self.refused(self.s3.get_object, 400, "InvalidRequest", Bucket=bucket, Key=name)
            self.refused(self.s3.get_object, 403, "AccessDenied", Bucket=bucket, Key=name, **OTHER_KEY)
            self.refused(self.s3.head_object, 400, "400", Bucket=bucket, Key=name)
            self.assertEqual(self.s3.head_object(Bucket=bucket, Key=name, **KEY)["ContentLength"], len(body))
        self.s3.copy_object(
            Bucket=bucket, Key="copy", CopySource=f"{bucket}/parts", **SOURCE_KEY, **OTHER_KEY
        )
        self.assertEqual(self.body(bucket, "copy", **OTHER_KEY), body)
        stream = io.BytesIO()
        self.s3.download_fileobj(bucket, "parts", stream, ExtraArgs=dict(KEY))
        self.assertEqual(stream.getvalue(), body)

    def test_through_tape(self) -> None:
        """Archived, evicted, restored without a key, read with it; neither disk nor tape has what was sent, nor the key."""
        bucket = self.bucket()
        needle = b"what nobody else may read: " * 3
        bodies = {
            "small": needle,
            "large": needle * 30_000 + Random(2).randbytes(9 * MIB),
            "empty": b"",
        }
        for key, body in bodies.items():
            self.s3.upload_fileobj(
                io.BytesIO(body),
                bucket,
                key,
                ExtraArgs={"StorageClass": "GLACIER", **KEY},
                Config=TransferConfig(multipart_threshold=6 * MIB, multipart_chunksize=5 * MIB),
            )
        self.appliance.archive(*((bucket, key) for key in bodies))
        wait_until(
            "the bytes are off the disk",
            lambda: not self.appliance.object(bucket, "large")["on_disk"],
            seconds=60,
        )
        self.refused(self.s3.get_object, 403, "InvalidObjectState", Bucket=bucket, Key="large", **KEY)
        self.refused(self.s3.get_object, 400, "InvalidRequest", Bucket=bucket, Key="large")
        for key in bodies:
            self.s3.restore_object(Bucket=bucket, Key=key, RestoreRequest={"Days": 500})
        for key, body in bodies.items():
            self.wait_restored(bucket, key)
            self.assertEqual(self.body(bucket, key, **KEY), body)
        large = bodies["large"]
        self.assertEqual(
            self.body(bucket, "large", Range="bytes=5242870-7000000", **KEY), large[5242870:7000001]
        )
        self.refused(self.s3.get_object, 403, "AccessDenied", Bucket=bucket, Key="large", **OTHER_KEY)
        secrets = (needle, SECRET, b64encode(SECRET), SECRET.hex().encode())
        read_bytes = 0
        for path in self.files():
            content = path.read_bytes()
            read_bytes += len(content)
            for secret in secrets:
                self.assertNotIn(secret, content, path)
        self.assertGreater(read_bytes, 2 * len(large))

    def wait_restored(self, bucket: str, key: str) -> None:
        """Wait for the restored copy."""

        def is_restored() -> bool:
            head = self.s3.head_object(Bucket=bucket, Key=key, **KEY)
            return 'ongoing-request="false"' in head.get("Restore", "")

        wait_until(f"{key} is restored", is_restored, seconds=120)

    def files(self) -> Iterator[Path]:
        """Return every file of the appliance: disk, record, log and virtual tapes."""
        for folder, _, names in os.walk(self.appliance.state):
            for name in names:
                path = Path(folder) / name
                if path.is_file():
                    yield path


class PlainHttpTests(ApplianceCase):
    """An appliance without TLS."""

    def test_refused(self) -> None:
        """It takes no key."""
        bucket = self.bucket()
        self.s3.put_object(Bucket=bucket, Key="k", Body=b"plain")
        for call, arguments in (
            (self.s3.put_object, {"Body": b"secret"}),
            (self.s3.get_object, {}),
            (self.s3.create_multipart_upload, {}),
        ):
            error = refusal(call, Bucket=bucket, Key="k", **arguments, **KEY)
            self.assertEqual(error["Error"]["Code"], "InvalidRequest")
            self.assertIn("secure connection", error["Error"]["Message"])
        self.assertEqual(self.s3.get_object(Bucket=bucket, Key="k")["Body"].read(), b"plain")
