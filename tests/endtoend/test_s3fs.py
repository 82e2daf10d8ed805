"""s3fs: a bucket as a file system, mounted by FUSE."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twisted.trial.unittest import SkipTest

from coldstore.vtl.fuse import fuse_available
from tests.endtoend.appliance import BUSY, wait_until
from tests.endtoend.clients import MIB, OverTls, ProgramCase, program, tree


class S3fsTests(ProgramCase):
    """What programs do with files, on a bucket."""

    def setUp(self) -> None:
        """Have FUSE, and s3fs with keys of its own."""
        has_fuse, why_not = fuse_available()
        if not has_fuse:
            raise SkipTest(f"S3FS CANNOT MOUNT HERE: {why_not}")
        program("s3fs")
        super().setUp()
        keys = self.appliance.users["first"]
        self.passwords = self.programs.home / "passwd-s3fs"
        self.passwords.touch(0o600)
        self.passwords.write_text(f"{keys.access_key}:{keys.secret_key}")

    @contextmanager
    def mounted(self, *options: str) -> Iterator[Path]:
        """
        Mount the bucket, with nothing in any cache; unmount it again.

        Buckets of a server that is an address are no hosts; files are sent as parts of 5 MiB and copied as parts of 10.
        """
        point = self.back / "mounted"
        point.mkdir(exist_ok=True)
        chosen = (
            f"url={self.appliance.endpoint}",
            "use_path_request_style",
            f"passwd_file={self.passwords}",
            *("multipart_size=5", "multipart_copy_size=10", "singlepart_copy_limit=5"),
            *options,
        )
        said = self.programs.home / "s3fs.log"
        with said.open("ab") as log:
            process = subprocess.Popen(
                [program("s3fs"), self.name, str(point), "-f", "-o", ",".join(chosen)],
                env=self.programs.environment_of("s3fs"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            wait_until(
                "s3fs is mounted",
                lambda: process.poll() is not None or os.path.ismount(point),
                seconds=20,
            )
            self.assertIsNone(process.poll(), said.read_text())
            yield point
        finally:
            if process.poll() is None:
                subprocess.run(["fusermount3", "-u", str(point)], check=True, timeout=BUSY * 20)
            process.wait(BUSY * 20)
        self.assertEqual(process.returncode, 0, said.read_text())

    def test_files(self) -> None:
        """Written, listed, read, renamed, changed in the middle, appended to, given modes, removed; each seen by a fresh mount too."""
        with self.mounted() as point:
            for name in tree(self.files):
                there = point / "d" / name
                there.parent.mkdir(parents=True, exist_ok=True)
                there.write_bytes((self.files / name).read_bytes())
        head = self.s3.head_object(Bucket=self.name, Key="d/large.bin")
        self.assertEqual(head["ContentLength"], 17 * MIB + 3)
        self.assertRegex(head["ETag"], '-3"$')
        with self.mounted() as point:
            self.assertEqual(tree(point / "d"), tree(self.files))
            self.assertEqual(sorted(os.listdir(point / "d")), sorted(os.listdir(self.files)))
            (point / "d" / "large.bin").rename(point / "moved.bin")
            (point / "d" / "dir").rename(point / "folder")
            self.assertFalse((point / "d" / "large.bin").exists())
            (point / "moved.bin").chmod(0o640)
            with (point / "moved.bin").open("r+b") as file:
                file.seek(6 * MIB)
                file.write(b"changed")
            with (point / "d" / "small.txt").open("ab") as file:
                file.write(b"more")
        expected = bytearray((self.files / "large.bin").read_bytes())
        expected[6 * MIB : 6 * MIB + 7] = b"changed"
        with self.mounted() as point:
            self.assertEqual((point / "moved.bin").read_bytes(), bytes(expected))
            self.assertEqual((point / "moved.bin").stat().st_mode & 0o777, 0o640)
            small = (self.files / "small.txt").read_bytes() + b"more"
            self.assertEqual((point / "d" / "small.txt").read_bytes(), small)
            self.assertEqual((point / "folder/deeper/x%20y").stat().st_size, 1)
            for path in (point / "moved.bin", point / "d" / "small.txt"):
                path.unlink()
            error = self.assertRaises(OSError, (point / "folder").rmdir)
            self.assertEqual(error.errno, errno.ENOTEMPTY)
        body = self.s3.get_object(Bucket=self.name, Key="folder/deeper/x%20y")["Body"].read()
        self.assertEqual(body, (self.files / "dir/deeper/x%20y").read_bytes())
        self.assertEqual({key for key in self.keys() if "moved" in key or "small" in key}, set())

    def test_cold(self) -> None:
        """A file that is cold is listed, cannot be read, and can when another client has had it restored."""
        body = (self.files / "large.bin").read_bytes()
        with self.mounted("storage_class=glacier") as point:
            (point / "k").write_bytes(body)
        self.assertEqual(self.s3.head_object(Bucket=self.name, Key="k")["StorageClass"], "GLACIER")
        self.appliance.archive((self.name, "k"))
        with self.mounted() as point:
            self.assertEqual((point / "k").stat().st_size, len(body))
            self.assertRaises(OSError, (point / "k").read_bytes)
        self.restore("k")
        with self.mounted() as point:
            self.assertEqual((point / "k").read_bytes(), body)


class S3fsTlsTests(OverTls, S3fsTests):
    """The same over TLS."""
