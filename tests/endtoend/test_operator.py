"""The operator: every subcommand for people and for programs, health, metrics, new cartridges, drives."""

import json
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from botocore.exceptions import ClientError

from tests.endtoend.appliance import ApplianceCase, wait_until
from tests.endtoend.clients import boto_client, refusal, refused
from tests.incidents import survives


class OperatorCase(ApplianceCase):
    """The command ``coldstore``."""

    def say(self, *words: str, status: int = 0) -> str:
        """Run the command for people; return what it prints (or complains)."""
        done = self.appliance.command(*words)
        self.assertEqual(done.returncode, status, f"{words}: {done.stdout}{done.stderr}")
        self.assertNotIn("Traceback", done.stderr)
        return done.stdout if status == 0 else done.stderr

    def tell(self, *words: str) -> Any:
        """Run the command for programs; return its document."""
        return json.loads(self.say(*words, "--json"))


class CommandTests(OperatorCase):
    """Every subcommand, as a table and as JSON."""

    def test_everything(self) -> None:
        """Each answers in both forms, and both say the same."""
        bucket = self.bucket()
        self.s3.put_object(Bucket=bucket, Key="a/one", Body=b"x" * 1000, StorageClass="GLACIER")
        self.s3.put_object(Bucket=bucket, Key="b\x1b[31m/two", Body=b"x", StorageClass="DEEP_ARCHIVE")

        status = self.tell("status")
        self.assertTrue(status["is_serving"])
        self.assertEqual(status["not_yet_on_every_tape_objects"], 2)
        self.assertIn("2 objects", self.say("status"))

        self.assertIn(bucket, self.say("objects"))
        self.assertIn(bucket, [row["bucket"] for row in self.tell("objects")])
        table = self.say("objects", bucket)
        self.assertIn("0/2", table)
        self.assertNotIn("\x1b", table, "a key may not steer the terminal")
        rows = self.tell("objects", bucket)
        self.assertEqual([row["key"] for row in rows], ["a/one", "b\x1b[31m/two"])
        self.assertEqual(
            [row["key"] for row in self.tell("objects", bucket, "--prefix", "b")], ["b\x1b[31m/two"]
        )
        self.assertEqual(len(self.tell("objects", bucket, "--limit", "1")), 1)
        self.assertEqual(self.tell("objects", bucket, "a/one")[0]["size_bytes"], 1000)
        self.assertIn("a/one", self.say("objects", bucket, "a/one"))

        self.assertEqual(self.appliance.command("wait", bucket, "--timeout", "0.1").returncode, 3)
        self.say("archive", "--now")
        self.assertEqual(self.tell("archive", "--now"), {"accepted": True})
        jobs = wait_until(
            "a bundle is made", lambda: (found := self.tell("jobs"))["bundles"] and found, pause=0
        )
        self.assertEqual(set(jobs), {"bundles", "restores", "drives"})
        for word in ("Bundles", "Restores", "Drives"):
            self.assertIn(word, self.say("jobs"))
        self.say("wait", bucket, "a/one", "--timeout", "60")
        self.say("wait", bucket, "--timeout", "60")
        self.assertEqual(self.tell("wait", "--timeout", "60"), {"done": True})
        self.assertIn("2/2", self.say("objects", bucket, "a/one"))

        self.assertIn("no restore", self.say("wait", bucket, "a/one", "--restored", status=1))
        self.s3.restore_object(Bucket=bucket, Key="a/one", RestoreRequest={"Days": 1})
        self.say("wait", bucket, "a/one", "--restored", "--timeout", "60")
        self.assertEqual(self.tell("objects", bucket, "a/one")[0]["restore"]["phase"], "restored")

        cartridges = self.tell("cartridges")
        self.assertEqual(len(cartridges), 6)
        table = self.say("cartridges")
        for row in cartridges:
            self.assertIn(row["barcode"], table)
        self.assertEqual(sum(row["written_bytes"] > 0 for row in cartridges), 2)
        self.assertEqual(len(self.tell("inventory")), 6)
        self.assertIn("A00001L8", self.say("inventory"))

        self.assertEqual([row["drive"] for row in self.tell("drives")], [0, 1])
        self.assertIn("DRIVE", self.say("drives"))

        made = self.tell("user", "create", "third")
        self.assertTrue(made["secret_key"])
        self.assertIn("shown this once", self.say("user", "create", "fourth"))
        names = [row["name"] for row in self.tell("user", "list")]
        self.assertEqual(sorted(names), ["first", "fourth", "second", "third"])
        self.assertNotIn(made["secret_key"], self.say("user", "list"))

        self.assertEqual(self.tell("alerts"), [])
        self.assertEqual(self.tell("alerts", "--all"), [])
        self.say("alerts")
        self.assertIn("create user", [row["what"] for row in self.tell("audit")])
        self.assertIn("third", self.say("audit", "--limit", "10"))

        self.say("drain", "--timeout", "60")
        self.assertEqual(self.tell("drain"), {"drained": True})
        self.assertFalse(any(row["barcode"] for row in self.tell("drives")))
        self.assertIn("raining", self.say("status"))
        self.say("resume")
        self.assertEqual(self.tell("resume"), {"draining": False})

    def test_quotas(self) -> None:
        """What a user or a bucket may have on disk is set, shown, kept to before a body is sent, and lifted again."""
        bucket = self.bucket()
        self.s3.put_object(Bucket=bucket, Key="kept", Body=bytes(3000))
        before = {row["name"]: row["staging_quota"] for row in self.tell("user", "list")}
        self.say("user", "quota", "first", "--staging", "1MiB")
        self.say("bucket", "quota", bucket, "--staging", "4000B")
        (row,) = [row for row in self.tell("bucket", "list") if row["bucket"] == bucket]
        self.assertEqual((row["staging_used_bytes"], row["staging_quota_bytes"]), (3000, 4000))
        for key, size_bytes in (("bucket's", 1001), ("user's", 2 << 20)):
            with self.assertRaises(ClientError) as caught:
                self.s3.put_object(Bucket=bucket, Key=key, Body=bytes(size_bytes))
            self.assertEqual(caught.exception.response["Error"]["Code"], "QuotaExceeded")
            self.assertEqual(caught.exception.response["ResponseMetadata"]["HTTPStatusCode"], 403)
        self.s3.put_object(Bucket=bucket, Key="fits", Body=bytes(1000))
        self.s3.delete_object(Bucket=bucket, Key="fits")
        self.say("bucket", "quota", bucket, "--staging", "default")
        self.say("user", "quota", "first", "--staging", "default")
        after = {row["name"]: row["staging_quota"] for row in self.tell("user", "list")}
        self.assertEqual(after, before)
        self.s3.put_object(Bucket=bucket, Key="user's", Body=bytes(2 << 20))
        for words in (("user", "quota", "nobody"), ("bucket", "quota", "no-such-bucket")):
            self.assertIn(words[2], self.say(*words, "--staging", "1GiB", status=1))
        self.assertIn("--staging", self.say("user", "quota", "first", "--staging", "much", status=2))
        self.assertIn("quota", self.say("audit", "--limit", "4"))

    def test_quotas_on_what_is_kept(self) -> None:
        """Bytes and objects, on disk or tape, are counted over restarts; SDKs are refused at once, and can always delete."""
        bucket = self.bucket()
        eager = boto_client(
            self.appliance.endpoint,
            self.appliance.users["first"],
            retries={"mode": "standard", "max_attempts": 5},
        )
        self.say("bucket", "quota", bucket, "--kept", "5000kB", "--objects", "2")
        self.s3.put_object(Bucket=bucket, Key="a", Body=bytes(3_000_000), StorageClass="GLACIER")
        self.appliance.archive((bucket, "a"))
        answer = refusal(eager.put_object, Bucket=bucket, Key="b", Body=bytes(2_000_001))
        self.assertEqual(
            (answer["Error"]["Code"], answer["ResponseMetadata"]["RetryAttempts"]), ("QuotaExceeded", 0)
        )
        self.assertIn(f"coldstore bucket quota {bucket} --kept", answer["Error"]["Message"])
        self.s3.put_object(Bucket=bucket, Key="b", Body=b"x")
        self.assertEqual(refused(self.s3.put_object, Bucket=bucket, Key="c"), (403, "QuotaExceeded"))
        self.appliance.kill()
        self.appliance.start()
        (row,) = [row for row in self.tell("quota")["standings"] if row["name"] == bucket]
        self.assertEqual(
            (row["kept_used_bytes"], row["kept_quota_bytes"], row["objects_used_count"], row["fullest"]),
            (3_000_001, 5_000_000, 2, 1.0),
        )
        self.assertRegex(self.say("quota"), rf"bucket +{bucket} +100% +2\.9 MiB of 4\.8 MiB +2 of 2 ")
        self.s3.delete_object(Bucket=bucket, Key="a")
        self.s3.put_object(Bucket=bucket, Key="c", Body=bytes(4_999_999))
        self.say("bucket", "quota", bucket, "--restores", "10B", "--kept", "default", "--objects", "default")
        self.s3.put_object(Bucket=bucket, Key="cold", Body=bytes(11), StorageClass="GLACIER")
        restore = {"Bucket": bucket, "Key": "cold", "RestoreRequest": {"Days": 1}}
        self.assertEqual(refused(self.s3.restore_object, **restore), (403, "QuotaExceeded"))
        self.say("bucket", "quota", bucket, "--restores", "11B")
        self.s3.restore_object(**restore)
        self.assertIn("restores 11 B", self.say("audit", "--limit", "1"))

    def test_refusals(self) -> None:
        """What cannot be is refused in a sentence, with a status."""
        self.assertIn("no-such-bucket", self.say("objects", "no-such-bucket", status=1) + "no-such-bucket")
        bucket = self.bucket()
        self.assertTrue(self.say("objects", bucket, "absent", status=1))
        self.assertIn("X99999L9", self.say("cartridges", "admit", "X99999L9", status=1))
        self.assertIn("pool", self.say("cartridges", "admit", "--all", "--pool", "nowhere", status=1))
        self.assertIn("name the barcodes", self.say("cartridges", "admit", status=2))
        self.assertIn("drive", self.say("drives", "down", "7", status=1))
        self.assertIn("name the drive", self.say("drives", "up", status=2))
        self.assertIn("name the user", self.say("user", "create", status=2))
        self.say("user", "create", "first", status=1)
        self.say("archive", status=2)
        self.say("nonsense", status=2)

    def test_not_running(self) -> None:
        """Without an appliance the command says where it looked."""
        done = self.appliance.command("--socket", "/nonexistent/admin.sock", "status")
        self.assertEqual(done.returncode, 1)
        self.assertIn("/nonexistent/admin.sock", done.stderr)
        self.assertNotIn("Traceback", done.stderr)


class HealthTests(OperatorCase):
    """/healthz and /metrics."""

    def fetch(self, path: str) -> tuple[int, str, str]:
        """Return status, type and text of a page of the operator's port."""
        try:
            with urlopen(f"http://127.0.0.1:{self.appliance.operator_port}{path}", timeout=10) as answer:
                return answer.status, answer.headers["content-type"], answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.headers["content-type"], error.read().decode()

    def test_pages(self) -> None:
        """Both answer; nothing else does; nothing can be changed there."""
        status, kind, text = self.fetch("/healthz")
        self.assertEqual((status, kind.split(";")[0]), (200, "application/json"))
        self.assertTrue(json.loads(text)["is_serving"])
        status, kind, text = self.fetch("/metrics")
        self.assertEqual((status, kind), (200, "text/plain; version=0.0.4; charset=utf-8"))
        for line in text.splitlines():
            self.assertRegex(
                line, r'^(# (HELP|TYPE) coldstore_\w+ .+|coldstore_\w+(\{\w+="[^"]*"\})? -?[0-9.e+-]+)$'
            )
        for path in ("/", "/status", "/users", "/../admin.sock"):
            self.assertEqual(self.fetch(path)[0], 404, path)

    def test_backlog(self) -> None:
        """Bytes that are not on every tape are counted until they are, by class."""
        bucket = self.bucket()

        def waiting() -> dict[str, float]:
            metrics = self.appliance.metrics()
            return {
                name: value
                for name, value in metrics.items()
                if name.startswith("coldstore_not_on_every_tape_bytes")
            }

        self.assertEqual(sum(waiting().values()), 0)
        self.s3.put_object(Bucket=bucket, Key="cold", Body=b"x" * 5000, StorageClass="GLACIER")
        self.s3.put_object(Bucket=bucket, Key="warm", Body=b"x" * 300)
        self.assertEqual(waiting()['coldstore_not_on_every_tape_bytes{class="GLACIER"}'], 5000)
        self.assertEqual(waiting()['coldstore_not_on_every_tape_bytes{class="STANDARD"}'], 300)
        self.assertGreater(self.appliance.metrics()["coldstore_not_on_every_tape_oldest_seconds"], 0)
        self.appliance.archive((bucket, "cold"), (bucket, "warm"), off_disk=False)
        self.assertEqual(sum(waiting().values()), 0)
        self.assertEqual(self.appliance.metrics()["coldstore_not_on_every_tape_oldest_seconds"], 0)
        self.assertEqual(self.appliance.metrics()["coldstore_on_tape_bytes"], 5300)


class CartridgeTests(OperatorCase):
    """Cartridges and drives that an operator decides about."""

    settings = {"tape": {"virtual": {"cartridges": 1, "drives": 1, "slots": 6}}}

    def cartridge(self, barcode: str) -> dict[str, Any]:
        """Return what is known of a cartridge."""
        return next(row for row in self.tell("cartridges") if row["barcode"] == barcode)

    @survives("format-over-foreign-data")
    def test_admission(self) -> None:
        """
        A cartridge in the mail slot is seen and never written until it is admitted; then it takes the second copy.
        """
        bucket = self.bucket()
        self.appliance.virtual_library("insert", "B00001L8")
        before = {
            path.name: path.read_bytes()
            for path in (self.appliance.library / "cartridges" / "B00001L8").rglob("*")
            if path.is_file()
        }
        self.say("inventory")
        self.assertEqual(self.cartridge("B00001L8")["state"], "unadmitted")
        self.s3.put_object(Bucket=bucket, Key="k", Body=b"x" * 9000, StorageClass="GLACIER")
        self.say("archive", "--now")
        self.assertEqual(self.appliance.command("wait", bucket, "k", "--timeout", "8").returncode, 3)
        # One copy can be written; the other has no cartridge, and the bytes do not leave the disk.
        head = self.s3.head_object(Bucket=bucket, Key="k")["ResponseMetadata"]["HTTPHeaders"]
        self.assertEqual(head["x-coldstore-copies"], "1/2")
        self.assertTrue(self.appliance.object(bucket, "k")["on_disk"])
        self.assertEqual(self.cartridge("B00001L8")["state"], "unadmitted")
        after = {
            path.name: path.read_bytes()
            for path in (self.appliance.library / "cartridges" / "B00001L8").rglob("*")
            if path.is_file()
        }
        self.assertEqual(after, before, "a cartridge that nobody admitted was touched")
        self.assertTrue(self.tell("alerts"), "nobody is told that a cartridge is missing")
        self.assertIn("B00001L8", self.say("cartridges", "admit", "B00001L8"))
        self.say("wait", bucket, "k", "--timeout", "60")
        self.assertIn("B00001L8", {copy["barcode"] for copy in self.appliance.object(bucket, "k")["copies"]})
        self.assertEqual(self.cartridge("B00001L8")["state"], "filling")
        self.assertIn(
            ("admit", "B00001L8"),
            [(row["what"], row["subject"].split()[-1]) for row in self.tell("audit")],
        )

    def test_drive_down(self) -> None:
        """A drive that is down gets no work until it is up again."""
        bucket = self.bucket()
        self.appliance.drain()
        self.appliance.resume()
        self.assertIn("down", self.say("drives", "down", "0", "--reason", "cleaning its head"))
        self.assertEqual(self.tell("drives")[0]["reason"], "cleaning its head")
        self.s3.put_object(Bucket=bucket, Key="k", Body=b"x", StorageClass="GLACIER")
        self.say("archive", "--now")
        self.assertEqual(self.appliance.command("wait", bucket, "k", "--timeout", "3").returncode, 3)
        self.assertIsNone(self.tell("drives")[0]["barcode"])
        self.say("drives", "up", "0")
        wait_until(
            "the drive works",
            lambda: self.tell("drives")[0]["barcode"] or self.appliance.object(bucket, "k")["copies"],
        )
