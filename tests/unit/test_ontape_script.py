"""The script in README.txt, cut out as README.txt says and run on the golden cartridges."""

import json
import os
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from coldstore.ontape.readme import SCRIPT_BEGIN, SCRIPT_END
from tests.fixtures.make_cartridges import DIRECTORY, NEWEST_NOTE, OBJECTS, SPLIT_OBJECT

SHELLS = [[path] for path in map(shutil.which, ("dash", "bash")) if path]
SHELLS += [[path, "ash"] for path in [shutil.which("busybox")] if path]


class GetObjectScriptTests(SynchronousTestCase):
    """``get-object.sh``."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).resolve()
        self.directory.mkdir()
        readme = DIRECTORY / "A00001L9" / "README.txt"
        command = next(line for line in readme.read_text().splitlines() if "> get-object.sh" in line)
        command = command.replace("README.txt", f"'{readme}'")
        subprocess.run(["sh", "-c", command], cwd=self.directory, check=True, timeout=20)
        self.script = str(self.directory / "get-object.sh")
        self.first = str(DIRECTORY / "A00001L9")
        self.second = str(DIRECTORY / "A00002L9")

    def get(
        self, *arguments: str | bytes, shell: tuple[str, ...] = ("sh",), check_bundles: bool = False
    ) -> tuple[int, bytes, bytes]:
        environment = {"PATH": os.environ["PATH"], "TMPDIR": str(self.directory)}
        if check_bundles:
            environment["CHECK_BUNDLES"] = "1"
        done = subprocess.run(
            [*shell, self.script, *arguments], capture_output=True, timeout=60, env=environment, check=False
        )
        return done.returncode, done.stdout, done.stderr

    def copy_cartridge(self, source: str) -> Path:
        target = self.directory / "a copy of 'it'"
        shutil.copytree(source, target)
        return target

    def test_markers(self) -> None:
        """The script in README.txt stands between its markers, which stand alone on their lines once each."""
        lines = (DIRECTORY / "A00001L9" / "README.txt").read_text().splitlines()
        self.assertEqual((lines.count(SCRIPT_BEGIN), lines.count(SCRIPT_END)), (1, 1))

    def test_every_key(self) -> None:
        """Every awkward key is found exactly, its bytes come out, and the metadata name it."""
        for (bucket, key), content in OBJECTS.items():
            status, data, errors = self.get(self.first, bucket, key)
            self.assertEqual((status, data), (0, content), errors.decode())
            facts = json.loads(errors)
            self.assertEqual((facts["bucket"], facts["key"].encode()), (bucket, key))
            self.assertEqual(facts["user_metadata"], {"mark": '{"bucket":'})

    def test_every_shell(self) -> None:
        """Every shell of this machine runs it."""
        for shell in SHELLS:
            answer = self.get(self.first, "photos", "plain.txt", shell=tuple(shell))
            self.assertEqual(answer[:2], (0, b"plain\n"))

    def test_split(self) -> None:
        """An object split over two cartridges is joined, in whatever order they are named."""
        for mounts in ((self.first, self.second), (self.second, self.first)):
            status, data, errors = self.get(*mounts, "photos", "large/split.bin")
            self.assertEqual((status, data), (0, SPLIT_OBJECT), errors.decode())

    def test_part_missing(self) -> None:
        """With a part's cartridge not mounted nothing comes out, and it says which part is missing."""
        status, data, errors = self.get(self.first, "photos", "large/split.bin")
        self.assertEqual((status, data), (3, b""))
        self.assertIn(b"part 2 of 2", errors)

    def test_versions(self) -> None:
        """The newest version on the mounted cartridges, or the one asked for."""
        self.assertEqual(self.get(self.first, self.second, "photos", "note")[1], NEWEST_NOTE)
        self.assertEqual(self.get(self.first, "photos", "note")[1], b"an old note\n")
        self.assertEqual(self.get(self.first, self.second, "photos", "note", "v1")[1], b"an older note\n")
        self.assertEqual(
            self.get(self.first, self.second, "second.bucket", "plain.txt", "null")[1], b"overwritten\n"
        )

    def test_not_found(self) -> None:
        """Keys, buckets and versions that are not there end with status 1; patterns are not expanded."""
        for arguments in (
            ("photos", "none"),
            ("none", "a"),
            ("photos", "note", "v9"),
            ("photos", "*"),
            ("photos", ""),
        ):
            status, data, _ = self.get(self.first, *arguments)
            self.assertEqual((status, data), (1, b""))

    def test_usage(self) -> None:
        """Wrong use is explained."""
        for arguments in ((), (self.first,), ("photos", "a"), (self.first, "a", "b", "c", "d")):
            status, _, errors = self.get(*arguments)
            self.assertEqual(status, 2)
            self.assertIn(b"use: ", errors)

    def test_copies(self) -> None:
        """The same cartridge twice gives the object once; odd mountpoints do no harm."""
        copy = self.copy_cartridge(self.first)
        status, data, errors = self.get(str(copy), self.first, "photos", "a/b", check_bundles=True)
        self.assertEqual((status, data), (0, b"below"), errors.decode())

    def test_damaged_session(self) -> None:
        """With the session's manifest damaged the bundles' own serve, and it says so."""
        copy = self.copy_cartridge(self.first)
        (session,) = copy.rglob("*.manifest")
        session.write_bytes(session.read_bytes()[:-200])
        status, data, errors = self.get(str(copy), "photos", "a/b")
        self.assertEqual((status, data), (0, b"below"))
        self.assertIn(b"damaged", errors)

    def test_truncated_bundle(self) -> None:
        """A bundle that ends before the object is not taken for one that holds it."""
        copy = self.copy_cartridge(self.first)
        (bundle,) = copy.rglob("*.tar")
        os.truncate(bundle, 1024)
        self.assertEqual(self.get(str(copy), "photos", "a/b")[:2], (3, b""))
        shutil.rmtree(copy / "coldstore" / "sessions")
        status, _, errors = self.get(str(copy), "photos", "a/b")
        self.assertEqual(status, 1)
        self.assertIn(b"has no end", errors)

    def test_changed_byte(self) -> None:
        """A changed byte of the object is found by its MD5, one anywhere by the bundle's SHA-256 if asked for."""
        copy = self.copy_cartridge(self.first)
        (bundle,) = copy.rglob("*.tar")
        data = bundle.read_bytes()
        place = data.index(b"a file named as a directory")
        bundle.write_bytes(data[:place] + b"X" + data[place + 1 :])
        status, _, errors = self.get(str(copy), "photos", "a")
        self.assertEqual(status, 4)
        self.assertIn(b"MD5", errors)
        self.assertEqual(self.get(str(copy), "photos", "plain.txt")[0], 0)
        status, _, errors = self.get(str(copy), "photos", "plain.txt", check_bundles=True)
        self.assertEqual(status, 4)
        self.assertIn(b"SHA-256", errors)

    def test_attribute(self) -> None:
        """Without a session's manifest the bundle's attribute serves for the check."""
        copy = self.copy_cartridge(self.second)
        (bundle,) = copy.rglob("*.tar")
        try:
            os.setxattr(bundle, "user.ltfs.hash.sha256sum", sha256(bundle.read_bytes()).hexdigest().encode())
        except OSError as error:
            self.skipTest(f"this file system has no extended attributes: {error}")
        if shutil.which("getfattr") is None:
            self.skipTest("getfattr is not installed")
        status, data, errors = self.get(str(copy), "photos", "note", check_bundles=True)
        self.assertEqual((status, data), (0, NEWEST_NOTE))
        self.assertNotIn(b"no recorded SHA-256", errors)
        os.setxattr(bundle, "user.ltfs.hash.sha256sum", b"0" * 64)
        self.assertEqual(self.get(str(copy), "photos", "note", check_bundles=True)[0], 4)

    def test_leaves_nothing(self) -> None:
        """It leaves no temporary files, whatever its end."""
        self.get(self.first, "photos", "a")
        self.get(self.first, "photos", "none")
        self.assertEqual(os.listdir(self.directory), ["get-object.sh"])
