"""Objects that the appliance encrypts (SSE-S3), with boto3, aws, rclone and s3cmd: on the disk, on tape, by hand, through changes of the key, and back."""

import hashlib
import io
import json
import os
import re
import signal
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from boto3.s3.transfer import TransferConfig

from tests.endtoend.appliance import wait_until
from tests.endtoend.clients import refusal
from tests.endtoend.test_by_hand import ByHandTests
from tests.endtoend.test_operator import OperatorCase

MIB = 1024**2
AES = {"ServerSideEncryption": "AES256"}
NEEDLE = b"what nobody else may read: " * 3
BODIES = {
    "small": NEEDLE,
    "large": NEEDLE * 30_000 + Random(2).randbytes(9 * MIB),
    "empty": b"",
}
DEFAULT = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}


class AtRestCase(OperatorCase):
    """What both appliances are asked."""

    def body(self, bucket: str, key: str, **more: Any) -> bytes:
        """Return the bytes of an object, which the answer says are encrypted."""
        got = self.s3.get_object(Bucket=bucket, Key=key, **more)
        self.assertEqual(got["ServerSideEncryption"], "AES256")
        return bytes(got["Body"].read())

    def put_all(self, bucket: str, **more: Any) -> None:
        """Put small and empty objects, and one in parts."""
        for key, body in BODIES.items():
            self.s3.upload_fileobj(
                io.BytesIO(body),
                bucket,
                key,
                ExtraArgs={**AES, **more},
                Config=TransferConfig(multipart_threshold=6 * MIB, multipart_chunksize=5 * MIB),
            )

    def files(self, *without: str) -> Iterator[Path]:
        """Return every file of the appliance but those of these names: disk, record, log and virtual tapes."""
        for folder, _, names in os.walk(self.appliance.state):
            for name in names:
                path = Path(folder) / name
                if path.is_file() and name not in without:
                    yield path

    def secrets(self) -> list[bytes]:
        """Return the keys of data, as they are written."""
        text = (self.appliance.state / "data.keys").read_text()
        return [line.split()[4].encode() for line in text.splitlines() if line.startswith("key ")]

    def check_nothing_leaks(self) -> None:
        """See that no file has what was sent, nor a key but the key file."""
        secrets, read_bytes = self.secrets(), 0
        self.assertTrue(secrets)
        for path in self.files():
            content = path.read_bytes()
            read_bytes += len(content)
            self.assertNotIn(NEEDLE, content, path)
            if path.name != "data.keys":
                for secret in secrets:
                    self.assertNotIn(secret, content, path)
        self.assertGreater(read_bytes, 2 * len(BODIES["large"]))

    def key_rows(self) -> list[dict[str, Any]]:
        """Return how things stand with the keys of data."""
        rows = self.tell("keys", "data")
        assert isinstance(rows, list)
        return rows


class ClientsTests(AtRestCase):
    """One appliance with short days."""

    settings = {"time": {"day": "6s"}}

    def test_boto3(self) -> None:
        """Every way to write says it, reads need nothing, ETags are MD5s, copies are their own; what is not there is refused by name."""
        bucket = self.bucket()
        put = self.s3.put_object(Bucket=bucket, Key="k", Body=b"hello", **AES)
        self.assertEqual(put["ServerSideEncryption"], "AES256")
        self.assertEqual(put["ETag"], f'"{hashlib.md5(b"hello").hexdigest()}"')
        self.assertEqual(self.s3.head_object(Bucket=bucket, Key="k")["ServerSideEncryption"], "AES256")
        self.put_all(bucket)
        for key, body in BODIES.items():
            self.assertEqual(self.body(bucket, key, ChecksumMode="ENABLED"), body)
        large = BODIES["large"]
        for first, last in ((0, 0), (5 * MIB - 3, 5 * MIB + 3), (65_535, 65_536), (10 * MIB, len(large) + 9)):
            self.assertEqual(
                self.body(bucket, "large", Range=f"bytes={first}-{last}"), large[first : last + 1]
            )
        copied = self.s3.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/large", **AES)
        self.assertEqual(copied["ServerSideEncryption"], "AES256")
        self.assertEqual(self.body(bucket, "copy"), large)
        self.assertNotIn(
            "ServerSideEncryption", self.s3.copy_object(Bucket=bucket, Key="bare", CopySource=f"{bucket}/k")
        )
        self.assertEqual(self.s3.get_object(Bucket=bucket, Key="bare")["Body"].read(), b"hello")
        for arguments in ({"ServerSideEncryption": "aws:kms"}, {**AES, "SSEKMSKeyId": "arn:aws:kms:x"}):
            error = refusal(self.s3.put_object, Bucket=bucket, Key="no", Body=b"x", **arguments)
            self.assertEqual(error["Error"]["Code"], "NotImplemented")
        self.assertIn("small", [one["Key"] for one in self.s3.list_objects_v2(Bucket=bucket)["Contents"]])

    def test_default_of_a_bucket(self) -> None:
        """Is set, shown and removed; between that everything is encrypted."""
        bucket = self.bucket()
        error = refusal(self.s3.get_bucket_encryption, Bucket=bucket)
        self.assertEqual(error["Error"]["Code"], "ServerSideEncryptionConfigurationNotFoundError")
        self.s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=DEFAULT)
        found = self.s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]
        self.assertEqual(found, DEFAULT)
        self.assertEqual(
            self.s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ServerSideEncryption"], "AES256"
        )
        kms = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}]}
        error = refusal(self.s3.put_bucket_encryption, Bucket=bucket, ServerSideEncryptionConfiguration=kms)
        self.assertEqual(error["Error"]["Code"], "NotImplemented")
        self.assertIn("aws:kms", error["Error"]["Message"])
        self.s3.delete_bucket_encryption(Bucket=bucket)
        self.assertNotIn("ServerSideEncryption", self.s3.put_object(Bucket=bucket, Key="j", Body=b"x"))
        self.assertEqual(self.body(bucket, "k"), b"x")

    def test_through_tape(self) -> None:
        """Archived, evicted, restored and read; neither disk nor tape nor record has what was sent, nor a key."""
        bucket = self.bucket()
        self.put_all(bucket, StorageClass="GLACIER")
        self.appliance.archive(*((bucket, key) for key in BODIES))
        wait_until(
            "the bytes are off the disk",
            lambda: not self.appliance.object(bucket, "large")["on_disk"],
            seconds=60,
        )
        error = refusal(self.s3.get_object, Bucket=bucket, Key="large")
        self.assertEqual(error["Error"]["Code"], "InvalidObjectState")
        before = self.tell("keys", "rotate-data")
        for key in BODIES:
            self.s3.restore_object(Bucket=bucket, Key=key, RestoreRequest={"Days": 500})
        for key, body in BODIES.items():
            self.wait_restored(bucket, key)
            self.assertEqual(self.body(bucket, key), body)
        self.assertNotEqual(before["key"], before["key_before"])
        self.check_nothing_leaks()

    def wait_restored(self, bucket: str, key: str) -> None:
        """Wait for the restored copy."""

        def is_restored() -> bool:
            return 'ongoing-request="false"' in self.s3.head_object(Bucket=bucket, Key=key).get("Restore", "")

        wait_until(f"{key} is restored", is_restored, seconds=120)

    def test_programs(self) -> None:
        """aws, rclone and s3cmd, each by its own option."""
        bucket = self.bucket()
        folder = self.appliance.folder / "programs"
        folder.mkdir()
        (folder / "file").write_bytes(BODIES["large"])
        keys = self.appliance.users["first"]
        port = self.appliance.port
        environment = {
            # rclone 1.60 takes none of it, and there is no TLS here.
            **{name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"},
            "HOME": str(folder),
            "AWS_ACCESS_KEY_ID": keys.access_key,
            "AWS_SECRET_ACCESS_KEY": keys.secret_key,
            "AWS_ENDPOINT_URL": self.appliance.endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        remote = (
            f":s3,provider=Other,access_key_id={keys.access_key},secret_access_key={keys.secret_key},"
            f"endpoint='{self.appliance.endpoint}',server_side_encryption=AES256"
        )
        host = f"127.0.0.1:{port}"
        commands: dict[str, list[str]] = {
            "aws": [
                sys.executable,
                "-m",
                "awscli",
                "s3",
                "cp",
                "--sse",
                "AES256",
                "file",
                f"s3://{bucket}/aws",
            ],
            "rclone": [
                "rclone",
                "copyto",
                "file",
                f"{remote}:{bucket}/rclone",
                "--s3-upload-cutoff",
                "6M",
                "--s3-chunk-size",
                "5M",
            ],
            "s3cmd": [
                "s3cmd",
                f"--access_key={keys.access_key}",
                f"--secret_key={keys.secret_key}",
                f"--host={host}",
                f"--host-bucket={host}",
                "--no-ssl",
                "--server-side-encryption",
                "--multipart-chunk-size-mb=5",
                "put",
                "file",
                f"s3://{bucket}/s3cmd",
            ],
        }
        for name, words in commands.items():
            done = subprocess.run(
                words, cwd=folder, env=environment, capture_output=True, timeout=120, check=False
            )
            self.assertEqual(done.returncode, 0, f"{name}: {done.stderr.decode()}{done.stdout.decode()}")
            self.assertEqual(self.body(bucket, name), BODIES["large"])


class KeysOfDataTests(AtRestCase):
    """One appliance that encrypts everything, and its keys."""

    settings = {"encryption": {"default": "AES256"}}

    def test_life(self) -> None:
        """Exported, changed while kill -9 falls, lost, missed by name, taken back from the safe; the log and the trail never have a key."""
        bucket = self.bucket()
        bodies = {f"k{number}": b"%d " % number + NEEDLE for number in range(400)}
        for key, body in bodies.items():
            put = self.s3.put_object(Bucket=bucket, Key=key, Body=body)
            self.assertEqual(put["ServerSideEncryption"], "AES256")
        self.assertIn("data-key-not-exported", json.dumps(self.appliance.rows("/alerts")))
        first = self.key_rows()[0]["key"]

        changed = self.tell("keys", "rotate-data")
        self.assertEqual(changed["key_before"], first)
        for left in (370, 200, 30):
            wait_until(
                "some came under the new key", lambda left=left: self.left_under(first) <= left, pause=0.01
            )
            self.kill_and_start()
        wait_until("all came under the new key", lambda: not self.left_under(first))
        self.s3 = self.appliance.s3()
        for key, body in bodies.items():
            self.assertEqual(self.body(bucket, key), body)
        states = {row["key"]: row["state"] for row in self.key_rows()}
        self.assertEqual(states, {first: "retired", changed["key"]: "in use"})

        export = self.appliance.folder / "for-the-safe"
        self.assertIn("2 keys of data", self.say("keys", "export", str(export)))
        self.assertEqual(stat.S_IMODE(export.stat().st_mode), 0o600)
        self.assertNotIn("data-key-not-exported", json.dumps(self.appliance.rows("/alerts")))

        self.appliance.stop()
        key_file = self.appliance.state / "data.keys"
        key_file.rename(self.appliance.folder / "away")
        self.appliance.start()
        self.s3 = self.appliance.s3()
        log = self.appliance.log()
        self.assertIn(f"The key of data {first} is not in", log)
        self.assertIn("coldstore keys import", self.say("status"))
        for call, arguments in ((self.s3.get_object, {}), (self.s3.put_object, {"Body": b"x"})):
            error = refusal(call, Bucket=bucket, Key="k1", **arguments)
            self.assertEqual(error["ResponseMetadata"]["HTTPStatusCode"], 503)
        self.assertEqual(len(self.s3.list_objects_v2(Bucket=bucket)["Contents"]), len(bodies))
        self.assertFalse(key_file.exists())
        self.assertIn("missing", self.say("keys", "data"))

        self.assertIn(first, self.say("keys", "import", str(export)))
        self.assertEqual(self.body(bucket, "k1"), bodies["k1"])
        self.assertEqual(
            self.s3.put_object(Bucket=bucket, Key="new", Body=b"x")["ServerSideEncryption"], "AES256"
        )
        self.assertNotIn("data-key-missing", json.dumps(self.appliance.rows("/alerts")))
        trail = json.dumps(self.tell("audit"))
        for what in ("change key of data", "export keys of data", "import keys of data"):
            self.assertIn(what, trail)
        for secret in self.secrets():
            for text in (trail, self.appliance.log(), json.dumps(self.tell("status"))):
                self.assertNotIn(secret.decode(), text)

    def left_under(self, key_id: str) -> int:
        """Return how many versions are under a key."""
        rows = self.appliance.rows("/data-keys")
        return next(int(row["versions"]) for row in rows if row["key"] == key_id)

    def kill_and_start(self) -> None:
        """Let a kill -9 fall, and start again."""
        process = self.appliance.process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        process.wait(30)
        self.appliance.start()


class DecryptByHandTests(ByHandTests):
    """A cartridge is decrypted with a mount, a shell, tar, Python and the export; with nothing of the appliance."""

    settings = {"encryption": {"default": "AES256"}}

    def test_get_object(self) -> None:
        """README.txt of the cartridge says how, and it works to the letter, with what was exported after a change of the key."""
        self.export = self.appliance.folder / "export"
        super().test_get_object()

    export: Path

    def read_mounted(self, mountpoint: Path, bucket: str, bodies: dict[str, bytes]) -> None:
        """Extract with tar, and with the script; decrypt; compare."""
        if not self.export.exists():
            for words in (("rotate-data",), ("export", str(self.export))):
                done = self.appliance.command("keys", *words)
                self.assertEqual(done.returncode, 0, done.stderr)
        readme = (mountpoint / "README.txt").read_text()
        folder = self.appliance.folder / f"decrypt-{time.monotonic_ns()}"
        folder.mkdir()
        (folder / "README.txt").write_text(readme)
        recipe = readme[readme.index("7. Encrypted objects") :]
        cut = re.findall(r"^  (sed -n .*?)$(?:\n    (.*)$)?", recipe, re.M)
        subprocess.run(["sh", "-c", " ".join(cut[0])], cwd=folder, check=True, timeout=20)
        line = next(line for line in readme.splitlines() if "> get-object.sh" in line)
        subprocess.run(["sh", "-c", line], cwd=folder, check=True, timeout=20)
        # An environment in which nothing of ours can be imported.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment["PYTHONSAFEPATH"] = "1"
        for key, body in bodies.items():
            (folder / "key").write_text(key)
            by_script = (
                f"sh get-object.sh '{mountpoint}' '{bucket}' \"$(cat key)\" > stored 2> facts &&"
                f" {sys.executable} decrypt-object.py '{self.export}' facts < stored > object"
            )
            done = subprocess.run(
                ["sh", "-c", by_script],
                cwd=folder,
                env=environment,
                capture_output=True,
                timeout=60,
                check=False,
            )
            self.assertEqual(
                (done.returncode, (folder / "object").read_bytes()), (0, body), done.stderr.decode()
            )
            self.assertNotIn(hashlib.md5(body).hexdigest(), (folder / "facts").read_text())
        self.by_tar(mountpoint, folder, environment, bodies)

    def by_tar(
        self, mountpoint: Path, folder: Path, environment: dict[str, str], bodies: dict[str, bytes]
    ) -> None:
        """Take members and facts out of the tar files alone."""
        found = {}
        for bundle in (mountpoint / "coldstore" / "bundles").glob("*.tar"):
            extracted = folder / "extracted"
            extracted.mkdir(exist_ok=True)
            subprocess.run(["tar", "-xf", bundle, "-C", extracted], check=True, timeout=60)
            with tarfile.open(bundle) as tar:
                for info in tar:
                    comment = info.pax_headers.get("comment", "")
                    if not comment.startswith("coldstore-member"):
                        continue
                    facts = comment.split(" ", 3)[3]
                    (folder / "facts").write_text(facts)
                    with (extracted / info.name).open("rb") as stored:
                        done = subprocess.run(
                            [sys.executable, "decrypt-object.py", self.export, "facts"],
                            cwd=folder,
                            env=environment,
                            stdin=stored,
                            capture_output=True,
                            timeout=60,
                            check=False,
                        )
                    self.assertEqual(done.returncode, 0, done.stderr.decode())
                    found[json.loads(facts)["key"]] = done.stdout
        self.assertEqual(found, bodies)


del ByHandTests
