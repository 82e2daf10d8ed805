"""Objects under lock, with boto3: nobody deletes them, on disk or tape, across kills, and whatever an operator does."""

import threading
import time
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tests.endtoend.appliance import ApplianceCase, wait_until
from tests.endtoend.clients import refusal, refused
from tests.endtoend.test_record import RecordCase

SMALL = b"under lock" * 50


def in_future(**how_far: float) -> datetime:
    """Return a date from now, in whole seconds."""
    return (datetime.now(UTC) + timedelta(**how_far)).replace(microsecond=0)


class LocksTests(ApplianceCase):
    """One appliance with a bucket that takes locks."""

    def setUp(self) -> None:
        """Make the bucket."""
        super().setUp()
        self.name = f"{self.bucket()}-locked"
        self.s3.create_bucket(Bucket=self.name, ObjectLockEnabledForBucket=True)

    def put(self, key: str, body: bytes = SMALL, **arguments: Any) -> str:
        """Put a version; return its id."""
        return str(self.s3.put_object(Bucket=self.name, Key=key, Body=body, **arguments)["VersionId"])

    def put_locked(self, key: str, mode: str = "COMPLIANCE", **arguments: Any) -> str:
        """Put a version that is locked for a day."""
        return self.put(key, ObjectLockMode=mode, ObjectLockRetainUntilDate=in_future(days=1), **arguments)

    def delete(self, key: str, version_id: str, *, bypass: bool = True) -> tuple[int, str]:
        """Try to delete a version; return how that is refused."""
        return refused(
            self.s3.delete_object,
            Bucket=self.name,
            Key=key,
            VersionId=version_id,
            BypassGovernanceRetention=bypass,
        )

    def retain(self, key: str, until: datetime, mode: str = "COMPLIANCE", **arguments: Any) -> None:
        """Set a retention."""
        self.s3.put_object_retention(
            Bucket=self.name, Key=key, Retention={"Mode": mode, "RetainUntilDate": until}, **arguments
        )

    def test_life(self) -> None:
        """A locked object goes to tape, comes back, and outlives kills and everybody who wants it gone; when its time is over it goes."""
        s3, name = self.s3, self.name
        body = Random(1).randbytes(300_000)
        version_id = self.put_locked("k", body=body, StorageClass="GLACIER")
        free_id = self.put("free", StorageClass="GLACIER")
        denied = (403, "AccessDenied")
        self.assertEqual(self.delete("k", version_id), denied)
        self.appliance.archive((name, "k"), (name, "free"))
        self.appliance.kill()
        self.appliance.start()
        head = s3.head_object(Bucket=name, Key="k")
        self.assertEqual(head["ObjectLockMode"], "COMPLIANCE")
        for until, arguments in (
            (in_future(hours=1), {}),
            (in_future(hours=1), {"BypassGovernanceRetention": True}),
        ):
            with self.assertRaises(ClientError) as caught:
                self.retain("k", until, **arguments)
            self.assertEqual(caught.exception.response["Error"]["Code"], "AccessDenied")
        later = in_future(days=2)
        self.retain("k", later)
        answer = s3.delete_objects(
            Bucket=name,
            Delete={
                "Objects": [{"Key": "k", "VersionId": version_id}, {"Key": "free", "VersionId": free_id}]
            },
            BypassGovernanceRetention=True,
        )
        self.assertEqual([one["Key"] for one in answer["Deleted"]], ["free"])
        self.assertEqual([one["Code"] for one in answer["Errors"]], ["AccessDenied"])
        self.assertIn(later.strftime("%Y-%m-%dT%H:%M:%S.000Z"), answer["Errors"][0]["Message"])
        s3.delete_object(Bucket=name, Key="k")
        self.assertEqual(refused(s3.delete_bucket, Bucket=name), (409, "BucketNotEmpty"))
        s3.restore_object(
            Bucket=name,
            Key="k",
            VersionId=version_id,
            RestoreRequest={"Days": 1, "GlacierJobParameters": {"Tier": "Expedited"}},
        )
        wait_until(
            "it is restored",
            lambda: (
                'ongoing-request="false"'
                in s3.head_object(Bucket=name, Key="k", VersionId=version_id).get("Restore", "")
            ),
            seconds=60,
        )
        got = s3.get_object(Bucket=name, Key="k", VersionId=version_id)
        self.assertEqual((got["Body"].read(), got["ObjectLockRetainUntilDate"]), (body, later))
        self.assertEqual(self.delete("k", version_id), denied)

    def test_expiry(self) -> None:
        """A retention ends by itself, a legal hold when it is ended; both across a kill."""
        s3, name = self.s3, self.name
        until = in_future(seconds=4)
        version_id = self.put("k", ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=until)
        held_id = self.put("held", ObjectLockLegalHoldStatus="ON")
        self.assertEqual(self.delete("k", version_id), (403, "AccessDenied"))
        self.appliance.kill()
        self.appliance.start()
        self.assertEqual(self.delete("held", held_id), (403, "AccessDenied"))
        time.sleep(max(0.0, until.timestamp() - time.time()) + 0.1)
        s3.delete_object(Bucket=name, Key="k", VersionId=version_id)
        s3.put_object_legal_hold(Bucket=name, Key="held", LegalHold={"Status": "OFF"})
        s3.delete_object(Bucket=name, Key="held", VersionId=held_id)
        s3.delete_bucket(Bucket=name)

    def test_many_at_once(self) -> None:
        """
        While many extend, shorten, loosen and delete, and the appliance is killed in the middle, no retention of COMPLIANCE ends sooner
        than anybody was told.
        """
        name = self.name
        version_id = self.put_locked("k")
        told = [self.s3.head_object(Bucket=name, Key="k")["ObjectLockRetainUntilDate"]]
        over = threading.Event()
        gone: list[str] = []

        def press(number: int) -> None:
            s3, random = self.appliance.s3(), Random(number)
            while not over.is_set():
                until = in_future(days=1, seconds=random.randrange(-40_000, 1_000_000))
                mode = random.choice(("COMPLIANCE", "COMPLIANCE", "GOVERNANCE"))
                where = {
                    "Bucket": name,
                    "Key": "k",
                    "VersionId": version_id,
                    "BypassGovernanceRetention": True,
                }
                try:
                    if random.random() < 0.3:
                        s3.delete_object(**where)
                        gone.append("it was deleted")
                    else:
                        s3.put_object_retention(**where, Retention={"Mode": mode, "RetainUntilDate": until})
                        if mode == "GOVERNANCE":
                            gone.append("it was loosened")
                        told.append(until)
                except ClientError as error:
                    if error.response["Error"]["Code"] not in ("AccessDenied", "503", "ServiceUnavailable"):
                        gone.append(str(error))
                except BotoCoreError:
                    time.sleep(0.05)

        threads = [threading.Thread(target=press, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(3):
                seen = len(told)
                wait_until("it was extended", lambda seen=seen: len(told) > seen, seconds=60)  # type: ignore[misc]
                time.sleep(0.3)
                self.appliance.kill()
                self.appliance.start()
        finally:
            over.set()
            for thread in threads:
                thread.join()
        self.assertEqual(gone, [])
        head = self.s3.head_object(Bucket=name, Key="k", VersionId=version_id)
        self.assertEqual(head["ObjectLockMode"], "COMPLIANCE")
        self.assertGreaterEqual(head["ObjectLockRetainUntilDate"], max(told))

    def test_operators(self) -> None:
        """No command of an operator takes away what is under lock; the audit trail tells who bypassed what."""
        s3, name, command = self.s3, self.name, self.appliance.command
        version_id = self.put_locked("k")
        governed_id = self.put_locked("governed", mode="GOVERNANCE")
        self.appliance.archive((name, "k"), off_disk=False)
        row = self.appliance.object(name, "k")
        self.assertEqual((row["lock"]["mode"], row["lock"]["legal_hold"]), ("COMPLIANCE", False))
        self.assertIn("COMPLIANCE until 20", command("objects", name).stdout)
        self.assertNotEqual(command("user", "delete", "first").returncode, 0)
        for copy in row["copies"]:
            done = command("cartridges", "condemn", copy["barcode"], "--reason", "gone")
            self.assertEqual(done.returncode, 0, done.stderr)
        wait_until(
            "both copies are lost",
            lambda: (
                not [one for one in self.appliance.object(name, "k")["copies"] if one["state"] == "verified"]
            ),
            seconds=60,
        )
        self.assertEqual(self.delete("k", version_id), (403, "AccessDenied"))
        self.assertEqual(s3.get_object(Bucket=name, Key="k")["Body"].read(), SMALL)
        self.assertEqual(self.delete("governed", governed_id, bypass=False), (403, "AccessDenied"))
        s3.delete_object(Bucket=name, Key="governed", VersionId=governed_id, BypassGovernanceRetention=True)
        audit = command("audit").stdout
        self.assertIn("bypass retention, delete", audit)
        self.assertIn(f"{name}/governed?versionId={governed_id}", audit)


class LockedRecordTests(RecordCase):
    """The metadata as a whole."""

    def test_replacing(self) -> None:
        """What is under lock is not replaced by a dump from before it, whatever an operator says; moved away it is still under lock."""
        appliance = self.appliance
        appliance.start()
        s3 = appliance.s3()
        s3.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
        file = str(appliance.folder / "backup.gz")
        self.db("backup", file)
        version_id = s3.put_object(
            Bucket="locked",
            Key="k",
            Body=SMALL,
            ObjectLockMode="COMPLIANCE",
            ObjectLockRetainUntilDate=in_future(days=1),
        )["VersionId"]
        appliance.stop()
        said = self.db("restore", file, "--replace", "--yes", status=1)
        self.assertIn("1 object versions there are under object lock", said)
        elsewhere = f"sqlite:{appliance.folder}/elsewhere.sqlite"
        self.db("move", appliance.metadata.backend, elsewhere)
        self.keep_record_in({"backend": "sqlite", "sqlite": {"path": elsewhere.removeprefix("sqlite:")}})
        appliance.start()
        s3 = appliance.s3()
        error = refusal(
            s3.delete_object, Bucket="locked", Key="k", VersionId=version_id, BypassGovernanceRetention=True
        )
        self.assertEqual(error["Error"]["Code"], "AccessDenied")
        self.assertEqual(s3.get_object(Bucket="locked", Key="k")["Body"].read(), SMALL)
