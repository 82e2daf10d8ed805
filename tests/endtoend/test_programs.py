"""awscli, rclone and s3cmd as real programs, doing what their users do every day."""

import hashlib
import json

from tests.endtoend.clients import MIB, OverTls, ProgramCase, fetched, tree


class ProgramTests(ProgramCase):
    """Files go there and come back."""

    def test_awscli(self) -> None:
        """aws s3 cp, ls, sync, mv, presign, rm, mb, rb and s3api."""
        aws, url = self.programs.aws, f"s3://{self.name}"
        aws("s3", "cp", "--recursive", str(self.files), f"{url}/a/")
        self.assertEqual(self.keys(), {f"a/{name}" for name in tree(self.files)})
        listed = aws("s3", "ls", "--recursive", f"{url}/a/").stdout
        self.assertIn(f"{17 * MIB + 3} a/large.bin", listed)
        self.assertIn("PRE a/", aws("s3", "ls", url).stdout)
        aws("s3", "sync", f"{url}/a/", str(self.back))
        self.assertEqual(tree(self.back), tree(self.files))
        self.assertEqual(aws("s3", "sync", f"{url}/a/", str(self.back)).stdout, "")
        (self.files / "small.txt").write_text("other")
        self.assertIn("small.txt", aws("s3", "sync", str(self.files), f"{url}/a/").stdout)
        aws("s3", "mv", f"{url}/a/small.txt", f"{url}/moved")
        self.assertEqual(aws("s3", "cp", f"{url}/moved", "-").stdout, "other")
        aws("s3", "cp", f"{url}/a/large.bin", f"{url}/copy")
        large = (self.files / "large.bin").read_bytes()
        self.assertEqual(
            fetched(aws("s3", "presign", f"{url}/copy").stdout.strip(), trusted=self.appliance.certificate),
            large,
        )
        aws("s3", "rm", "--recursive", f"{url}/a/")
        self.assertEqual(self.keys(), {"moved", "copy"})
        here = ("--bucket", self.name, "--key", "moved")
        head = json.loads(aws("s3api", "head-object", *here).stdout)
        self.assertEqual((head["ContentLength"], head["AcceptRanges"]), (5, "bytes"))
        tags = {"TagSet": [{"Key": "a", "Value": "b"}]}
        aws("s3api", "put-object-tagging", *here, "--tagging", json.dumps(tags))
        self.assertEqual(json.loads(aws("s3api", "get-object-tagging", *here).stdout), tags)
        self.assertIn("BucketNotEmpty", aws("s3", "rb", url, status=None).stderr)
        aws("s3", "rb", "--force", url)
        aws("s3", "mb", url)
        self.assertIn(self.name, aws("s3", "ls").stdout)

    def test_awscli_empty_files(self) -> None:
        """
        Files that follow empty ones on the same connection arrive: awscli waits for 100 Continue with empty files too, and hangs
        with the next one when the final answer came in place of it.
        """
        aws, folder = self.programs.aws, self.files.with_name("turns")
        folder.mkdir()
        for number in range(8):
            (folder / str(number)).write_bytes(b"x" * (number % 2))
        settings = self.programs.home / ".aws" / "config"
        settings.parent.mkdir(exist_ok=True)
        settings.write_text("[default]\ns3 =\n  max_concurrent_requests = 1\n")
        self.addCleanup(settings.unlink)
        aws("s3", "cp", "--recursive", str(folder), f"s3://{self.name}/", seconds=40)
        self.assertEqual(self.keys(), {str(number) for number in range(8)})

    def test_rclone(self) -> None:
        """rclone copy, check, lsjson, sync, cat, copyto and moveto within the bucket, link, deletefile, purge."""
        rclone, remote = self.programs.rclone, f"cs:{self.name}/d"
        rclone("copy", str(self.files), remote, "--s3-upload-cutoff=5Mi", "--s3-chunk-size=5Mi")
        self.assertIn("0 differences found", rclone("check", str(self.files), remote).stderr)
        listed = json.loads(rclone("lsjson", "-R", "--files-only", remote).stdout)
        self.assertEqual(
            {entry["Path"]: entry["Size"] for entry in listed},
            {name: (self.files / name).stat().st_size for name in tree(self.files)},
        )
        rclone("copy", remote, str(self.back))
        self.assertEqual(tree(self.back), tree(self.files))
        (self.files / "small.txt").write_text("other")
        (self.files / "empty").unlink()
        rclone("sync", str(self.files), remote)
        self.assertEqual(rclone("cat", f"{remote}/small.txt").stdout, "other")
        self.assertNotIn("d/empty", self.keys())
        large = (self.files / "large.bin").read_bytes()
        rclone("copyto", f"{remote}/large.bin", f"cs:{self.name}/c/copy", "--s3-copy-cutoff=5Mi")
        rclone("moveto", f"cs:{self.name}/c/copy", f"cs:{self.name}/moved")
        self.assertNotIn("c/copy", self.keys())
        self.assertEqual(
            fetched(
                rclone("link", "--expire=1m", f"cs:{self.name}/moved").stdout.strip(),
                trusted=self.appliance.certificate,
            ),
            large,
        )
        rclone("deletefile", f"{remote}/large.bin")
        self.assertNotIn("d/large.bin", self.keys())
        rclone("purge", f"cs:{self.name}")
        self.assertNotIn(self.name, rclone("lsd", "cs:").stdout)

    def test_s3cmd(self) -> None:
        """s3cmd mb, put, ls, get, sync, cp, mv, signurl, del, rb."""
        s3cmd, name = self.programs.s3cmd, f"{self.name}-s3cmd"
        url = f"s3://{name}"
        s3cmd("mb", url)
        s3cmd("put", "--recursive", "--multipart-chunk-size-mb=5", f"{self.files}/", f"{url}/p/")
        listed = s3cmd("ls", "--recursive", url).stdout
        for file in tree(self.files):
            self.assertIn(f"{url}/p/{file}", listed)
        s3cmd("get", "--recursive", f"{url}/p/", f"{self.back}/")
        self.assertEqual(tree(self.back), tree(self.files))
        self.assertEqual(s3cmd("sync", f"{self.files}/", f"{url}/p/").stdout.count("upload:"), 0)
        s3cmd("cp", f"{url}/p/small.txt", f"{url}/copy")
        digest = hashlib.md5((self.files / "small.txt").read_bytes()).hexdigest()
        self.assertIn(digest, s3cmd("info", f"{url}/copy").stdout)
        s3cmd("del", f"{url}/copy")
        s3cmd("mv", f"{url}/p/large.bin", f"{url}/moved", "--multipart-chunk-size-mb=5")
        large = (self.files / "large.bin").read_bytes()
        self.assertEqual(
            fetched(
                s3cmd("signurl", f"{url}/moved", "+60").stdout.strip(), trusted=self.appliance.certificate
            ),
            large,
        )
        self.assertNotIn("large.bin", s3cmd("ls", f"{url}/p/").stdout)
        s3cmd("del", "--recursive", "--force", url)
        self.assertEqual(s3cmd("ls", "--recursive", url).stdout, "")
        s3cmd("rb", url)
        self.assertNotIn(url, s3cmd("ls").stdout)


class ProgramTlsTests(OverTls, ProgramTests):
    """The same over TLS."""
