"""The script in README.txt, cut out as README.txt says and run on the golden cartridges."""

import json
import os
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from coldstore.ontape.readme import READ_TAPE_SCRIPT, SCRIPT_BEGIN, SCRIPT_END
from coldstore.ontape.tape import TapeEntry, TapeIndex, TapeLabel, index_file, label_file
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


MT = r"""#!/bin/sh
# A tape is a folder of numbered files; `position` is the one that is next.
shift
tape=$1 operation=$2 count=${3-1}
case $operation in
    setblk) ;;
    asf) echo "$count" >"$tape/position" ;;
    eod) ls "$tape" | grep -c '\.tar$' >"$tape/position" ;;
    bsfm) echo $(($(cat "$tape/position") - count + 1)) >"$tape/position" ;;
    *) exit 1 ;;
esac
"""
DD = r"""#!/bin/sh
for word in "$@"; do
    case $word in
        if=*) tape=${word#if=} ;;
        of=*) exec >"${word#of=}" ;;
    esac
done
number=$(cat "$tape/position")
echo $((number + 1)) >"$tape/position"
if [ -e "$tape/$number.unreadable" ]; then
    head -c 1000 "$tape/$number.tar"
    exit 1
fi
cat "$tape/$number.tar"
"""


class ReadTapeScriptTests(SynchronousTestCase):
    """``read-tape.sh``, with an ``mt`` and a ``dd`` for which a folder is a tape."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).resolve()
        self.tape, self.copy = self.directory / "tape", self.directory / "copy"
        programs = self.directory / "bin"
        for folder in (self.tape, programs):
            folder.mkdir(parents=True)
        for name, text in (("mt", MT), ("dd", DD)):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        self.path = f"{programs}:{os.environ['PATH']}"
        self.script = self.directory / "read-tape.sh"
        self.script.write_text(READ_TAPE_SCRIPT)
        self.contents = {f"coldstore/bundles/{number}.tar": bytes([number]) * 3000 for number in (1, 2, 3)}
        entries = []
        for number, (path, content) in enumerate(self.contents.items(), 1):
            self.tape.joinpath(f"{number}.tar").write_bytes(content)
            entries.append(
                TapeEntry(
                    path=path,
                    size_bytes=len(content),
                    tape_file=number,
                    block=2 * number,
                    offset_bytes=0,
                    sha256=sha256(content).hexdigest(),
                )
            )
        label = TapeLabel(barcode="A00001L4", volume_uuid="uuid", volume_name="name", created_at=1.0)
        index = TapeIndex(
            label=label,
            generation=2,
            created_at=2.0,
            message="",
            tape_file=4,
            block=8,
            used_bytes=9000,
            is_full=False,
            entries=tuple(entries),
        )
        self.tape.joinpath("0.tar").write_bytes(label_file(label))
        self.tape.joinpath("4.tar").write_bytes(index_file(index))

    def read(self, shell: list[str]) -> tuple[int, str]:
        done = subprocess.run(
            [*shell, str(self.script), str(self.tape), str(self.copy)],
            capture_output=True,
            timeout=60,
            env={"PATH": self.path, "TMPDIR": str(self.directory)},
            check=False,
        )
        return done.returncode, done.stderr.decode()

    def copied(self) -> dict[str, bytes]:
        bundles = self.copy / "coldstore" / "bundles"
        return {f"coldstore/bundles/{path.name}": path.read_bytes() for path in bundles.glob("*.tar")}

    def test_whole(self) -> None:
        """In every shell everything is copied, and again nothing."""
        for shell in SHELLS:
            status, said = self.read(shell)
            self.assertEqual((status, self.copied()), (0, self.contents), said)
            self.assertEqual(self.read(shell), (0, ""))
            shutil.rmtree(self.copy)

    def test_damaged(self) -> None:
        """What cannot be read, or reads wrong, keeps nothing else on the tape, and never counts as copied, however often it is tried."""
        wrong, short, good = self.contents
        self.tape.joinpath("1.tar").write_bytes(b"x" * 3000)
        self.tape.joinpath("2.unreadable").touch()
        for _ in range(2):
            status, said = self.read(["sh"])
            self.assertEqual(status, 4, said)
            self.assertEqual(self.copied(), {good: self.contents[good]})
            self.assertIn(f"{wrong}: its SHA-256 is not", said)
            self.assertIn(f"{short}: only 1000 of 3000 bytes", said)
        self.tape.joinpath("2.unreadable").unlink()
        self.tape.joinpath("1.tar").write_bytes(self.contents[wrong])
        self.assertEqual(self.read(["sh"])[0], 0)
        self.assertEqual(self.copied(), self.contents)
