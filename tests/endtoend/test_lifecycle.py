"""Lifecycle rules are carried out by the appliance, with a day of some seconds, and killed in the middle of it."""

import time
from collections import Counter
from typing import Any

from tests.endtoend.appliance import ApplianceCase, wait_until

DAY_SECONDS = 15.0
EXPIRING, MOVING = 120, 20
RULES: list[dict[str, Any]] = [
    {"ID": "expire", "Status": "Enabled", "Filter": {"Prefix": "e/"}, "Expiration": {"Days": 1}},
    {
        "ID": "move",
        "Status": "Enabled",
        "Filter": {"Prefix": "m/"},
        "Transitions": [{"Days": 0, "StorageClass": "GLACIER"}],
    },
    {
        "ID": "abort",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
    },
]


class LifecycleTests(ApplianceCase):
    """One bucket with rules of each kind."""

    settings = {"time": {"day": f"{DAY_SECONDS:g}s"}, "lifecycle": {"turn_objects": 20}}

    def test_killed_in_the_middle(self) -> None:
        """Nothing is done early, everything is done in the end, and each act is written down once, whenever the process is killed."""
        bucket = self.bucket()
        self.s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": RULES})
        moving = [f"m/{number:03}" for number in range(MOVING)]
        for key in moving:
            self.s3.put_object(Bucket=bucket, Key=key, Body=b"moving")
        self.appliance.archive(*((bucket, key) for key in moving), off_disk=False)
        upload = self.s3.create_multipart_upload(Bucket=bucket, Key="u/k")["UploadId"]
        # From the beginning of a day on, so that all of them are due at one midnight.
        time.sleep(DAY_SECONDS - time.time() % DAY_SECONDS + 0.05)
        day = time.time() // DAY_SECONDS
        for number in range(EXPIRING):
            self.s3.put_object(Bucket=bucket, Key=f"e/{number:03}", Body=b"expiring")
        put_at = {
            entry["Key"]: entry["LastModified"].timestamp()
            for entry in self.s3.list_objects_v2(Bucket=bucket, Prefix="e/")["Contents"]
        }
        self.assertEqual(len(put_at), EXPIRING)
        wait_until("something has expired", lambda: self.acts(bucket)["expire object"], seconds=60)
        self.appliance.kill()
        killed_at = time.time()
        self.assertGreaterEqual(killed_at // DAY_SECONDS, day + 2)
        self.appliance.start()
        self.s3 = self.appliance.s3()
        for _ in range(2):
            time.sleep(0.3)
            self.appliance.kill()
            self.appliance.start()
            self.s3 = self.appliance.s3()
        wait_until(
            "all have expired",
            lambda: "Contents" not in self.s3.list_objects_v2(Bucket=bucket, Prefix="e/"),
            seconds=60,
        )
        wait_until("all have another class", lambda: self.classes(bucket) == {"GLACIER"}, seconds=120)
        self.assertNotIn(upload, str(self.s3.list_multipart_uploads(Bucket=bucket).get("Uploads")))
        self.assertEqual(
            self.acts(bucket),
            Counter({"expire object": EXPIRING, "move from STANDARD to GLACIER": MOVING, "abort upload": 1}),
        )
        subjects = [row["subject"] for row in self.trail(bucket)]
        self.assertEqual(len(subjects), len(set(subjects)))
        shown = self.appliance.command("lifecycle", bucket)
        self.assertEqual(shown.returncode, 0, shown.stderr)
        for word in ("expire", "move to GLACIER", "abort upload"):
            self.assertIn(word, shown.stdout)
        self.assertGreaterEqual(self.appliance.metrics()["coldstore_lifecycle_behind_seconds"], 0.0)

    def trail(self, bucket: str) -> list[dict[str, Any]]:
        """Return what the lifecycle did in a bucket."""
        return [
            row
            for row in self.appliance.rows("/audit", limit="1000")
            if row["who"] == "lifecycle" and row["subject"].startswith(f"{bucket}/")
        ]

    def acts(self, bucket: str) -> Counter[str]:
        """Count it."""
        return Counter(row["what"] for row in self.trail(bucket))

    def classes(self, bucket: str) -> set[str]:
        """Return the classes of what is to move."""
        return {
            entry["StorageClass"] for entry in self.s3.list_objects_v2(Bucket=bucket, Prefix="m/")["Contents"]
        }
