"""duplicity: full and incremental backups in volumes, kept in a bucket."""

import shutil
import subprocess
import time
from typing import Any

from tests.endtoend.clients import MIB, OverTls, ProgramCase, tree


class DuplicityCase(ProgramCase):
    """Tests with duplicity."""

    def duplicity(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run duplicity with its backend of boto3, which wants a server's URL; without encryption, which asks for keys."""
        endpoint = ("--s3-endpoint-url", self.appliance.endpoint)
        where = ("--no-encryption", "--archive-dir", str(self.programs.home / "duplicity"))
        return self.programs.run("duplicity", *words, *endpoint, *where, **options)


class DuplicityTests(DuplicityCase):
    """Chains of backups go there, are compared, come back and are removed."""

    def test_backups(self) -> None:
        """full, incremental, collection-status, verify, restore of both, remove-all-but-n-full."""
        url, there = f"boto3+s3:///{self.name}/backups", str(self.files)
        in_parts = ("--volsize", "12", "--s3-multipart-chunk-size", "5")
        self.duplicity("full", *in_parts, there, url)
        first = tree(self.files)
        (self.files / "small.txt").write_text("other")
        (self.files / "empty").unlink()
        begun = str(int(time.time()))
        # Times of backups are whole seconds, and no two may be the same.
        time.sleep(1.1)
        self.duplicity("incremental", there, url)
        status = self.duplicity("collection-status", url).stdout
        self.assertRegex(status, "Number of contained backup sets: 2\n")
        volumes = self.s3.list_objects_v2(Bucket=self.name, Prefix="backups/duplicity-full.")["Contents"]
        tags = [entry["ETag"] for entry in volumes if entry["Size"] > 10 * MIB]
        self.assertTrue(tags and all(tag.endswith('-3"') for tag in tags), volumes)
        self.duplicity("verify", "--compare-data", url, there)
        (self.files / "small.txt").write_text("else!")
        self.assertIn("differ", self.duplicity("verify", "--compare-data", url, there, status=1).stdout)
        (self.files / "small.txt").write_text("other")
        # With nothing at hand but the bucket.
        shutil.rmtree(self.programs.home / "duplicity")
        self.duplicity("restore", url, str(self.back / "newer"))
        self.assertEqual(tree(self.back / "newer"), tree(self.files))
        self.duplicity("restore", "--time", begun, url, str(self.back / "older"))
        self.assertEqual(tree(self.back / "older"), first)
        before = self.keys()
        self.duplicity("full", *in_parts, there, url)
        self.duplicity("remove-all-but-n-full", "1", "--force", url)
        self.assertEqual(self.keys() & before, set())
        self.assertRegex(
            self.duplicity("collection-status", url).stdout, "Number of contained backup sets: 1\n"
        )


class DuplicityTlsTests(OverTls, DuplicityTests):
    """The same over TLS."""


class ColdVolumesTests(DuplicityCase):
    """Backups that are on tape alone."""

    def test_cold_volumes(self) -> None:
        """Volumes as GLACIER: duplicity lists them, fails to read them, and reads them when another program has restored them."""
        url, back = f"boto3+s3:///{self.name}/cold", str(self.back / "all")
        self.duplicity("full", "--s3-use-glacier", "--volsize", "6", str(self.files), url)
        listed = self.s3.list_objects_v2(Bucket=self.name)["Contents"]
        classes = {entry["Key"]: entry["StorageClass"] for entry in listed}
        volumes = [key for key, kept in classes.items() if kept == "GLACIER"]
        self.assertGreater(len(volumes), 2)
        self.assertEqual({key for key in classes if key not in volumes}, set(filter(is_manifest, classes)))
        self.appliance.archive(*((self.name, key) for key in volumes))
        self.assertIn("contained backup sets: 1", self.duplicity("collection-status", url).stdout)
        said = self.duplicity("restore", "--num-retries", "1", url, back, status=None)
        self.assertIn("InvalidObjectState", said.stdout + said.stderr)
        self.restore(*volumes)
        self.duplicity("restore", "--force", url, back)
        self.assertEqual(tree(self.back / "all"), tree(self.files))


def is_manifest(key: str) -> bool:
    """Say whether an object is the list of a backup's volumes."""
    return key.endswith(".manifest")
