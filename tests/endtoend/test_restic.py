"""restic: a repository of backups, kept in a bucket."""

import json
import subprocess
from typing import Any

from tests.endtoend.clients import OverTls, ProgramCase, tree


class ResticTests(ProgramCase):
    """Backups go there, are looked at, come back and are thinned out."""

    def restic(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run restic on a repository in our bucket."""
        variables = {
            "RESTIC_REPOSITORY": f"s3:{self.appliance.endpoint}/{self.name}/backups",
            "RESTIC_PASSWORD": "a password of the tests",
            "RESTIC_CACHE_DIR": str(self.programs.home / "restic"),
        }
        trusted = () if self.appliance.certificate is None else ("--cacert", str(self.appliance.certificate))
        return self.programs.run("restic", *trusted, *words, variables=variables, **options)

    def snapshots(self) -> list[str]:
        """Return the backups that restic knows."""
        return [snapshot["id"] for snapshot in json.loads(self.restic("snapshots", "--json").stdout)]

    def test_backups(self) -> None:
        """init, backup twice, snapshots, ls, check --read-data, restore, forget --prune; a damaged pack is found."""
        self.restic("init")
        self.restic("init", status=1)
        self.restic("backup", str(self.files))
        first = tree(self.files)
        (self.files / "small.txt").write_text("other")
        (self.files / "large.bin").unlink()
        self.restic("backup", "--no-cache", str(self.files))
        older, newer = self.snapshots()
        listed = self.restic("ls", older).stdout
        for name in first:
            self.assertIn(str(self.files / name), listed)
        self.assertIn("no errors were found", self.restic("check", "--read-data").stdout)
        for snapshot, expected in ((older, first), (newer, tree(self.files))):
            back = self.back / snapshot
            self.restic("restore", snapshot, "--target", str(back), "--no-cache")
            self.assertEqual(tree(back / str(self.files).lstrip("/")), expected)
        packs = {key for key in self.keys() if "/data/" in key}
        self.restic("forget", "--keep-last", "1", "--prune")
        self.assertEqual(self.snapshots(), [newer])
        left = {key for key in self.keys() if "/data/" in key}
        self.assertTrue(packs - left, "what the first backup alone needs has gone")
        self.assertIn("no errors were found", self.restic("check", "--read-data", "--no-cache").stdout)
        self.assertEqual({key for key in self.keys() if "/locks/" in key}, set())
        pack = min(left)
        good = self.s3.get_object(Bucket=self.name, Key=pack)["Body"].read()
        self.s3.put_object(Bucket=self.name, Key=pack, Body=good[:-1] + bytes([good[-1] ^ 1]))
        self.restic("check", "--read-data", "--no-cache", status=1)


class ResticTlsTests(OverTls, ResticTests):
    """The same over TLS."""
