"""The commands about keys of data."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

from coldstore.keys.datafile import parse_key_set
from coldstore.ontape.readme import DECRYPT_SCRIPT
from coldstore.util import passphrases
from tests.unit.test_admin_command import CommandCase


class DataKeyCommandTests(CommandCase):
    """Over an interface in memory, with files on a disk."""

    def setUp(self) -> None:
        """Have a folder for exports."""
        super().setUp()
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.path = self.folder / "keys"
        # Half a second of scrypt is for people.
        self.patch(passphrases, "_COST", 1 << 10)

    def with_keys(self) -> list[str]:
        """Have two keys; return their ids."""
        self.rig.done(self.rig.data_keys.ready())
        self.rig.done(self.rig.data_keys.rotate())
        return list(self.rig.data_keys.ids())

    def typing(self, *lines: str) -> None:
        """Have lines on standard input."""
        self.patch(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))

    def test_looking(self) -> None:
        """Keys are listed, and that they are needed for ever is said; as long as there are none, that."""
        self.assertIn("no keys of data yet", self.output("keys", "data"))
        first, second = self.with_keys()
        shown = self.output("keys", "data")
        for word in (first, second, "retired", "in use", "kept for ever"):
            self.assertIn(word, shown)
        self.assertEqual(
            [row["key"] for row in json.loads(self.output("keys", "data", "--json"))], [first, second]
        )

    def test_changing(self) -> None:
        """A new key is told, and what to do next."""
        self.with_keys()
        shown = self.output("keys", "rotate-data")
        self.assertIn(self.rig.data_keys.in_use() or "", shown)
        self.assertIn("coldstore keys export", shown)
        self.assertEqual(len(self.rig.data_keys.ids()), 3)

    def test_export(self) -> None:
        """The file is for its owner alone, holds all keys, and is never written over one that is there; then keys count as exported."""
        ids = self.with_keys()
        shown = self.output("keys", "export", str(self.path))
        self.assertIn("2 keys of data", shown)
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        text = self.path.read_text()
        self.assertEqual([key.key_id for key in parse_key_set(text).keys], ids)
        for word in ("coldstore keys import", "README.txt"):
            self.assertIn(word, text)
        command = next(line for line in text.splitlines() if "sed -n" in line)
        command = command[command.index("sed") :].replace("FILE", str(self.path))
        subprocess.run(["sh", "-c", command], cwd=self.folder, check=True, timeout=20)
        self.assertEqual((self.folder / "decrypt-object.py").read_text(), DECRYPT_SCRIPT)
        self.assertEqual(self.rig.done(self.rig.store.alerts(include_cleared=False, limit=9)), [])
        status, _, complaint = self.run_command("keys", "export", str(self.path))
        self.assertEqual((status, self.path.read_text()), (1, text))
        self.assertIn("cannot be made", complaint)

    def test_export_is_durable(self) -> None:
        """The file and its name are on the disk before keys count as exported."""
        self.with_keys()
        synced: list[int] = []
        sync = os.fsync

        def noting(descriptor: int) -> None:
            synced.append(os.fstat(descriptor).st_ino)
            sync(descriptor)

        self.patch(os, "fsync", noting)
        self.output("keys", "export", str(self.path))
        self.assertEqual(synced, [self.path.stat().st_ino, self.path.parent.stat().st_ino])

    def test_export_that_fails(self) -> None:
        """Nothing is left of it, and keys do not count as exported."""
        status, _, complaint = self.run_command("keys", "export", str(self.path))
        self.assertEqual((status, self.path.exists()), (1, False))
        self.assertIn("no keys of data yet", complaint)
        ids = self.with_keys()
        self.patch(os, "fsync", _no_space)
        status, _, complaint = self.run_command("keys", "export", str(self.path))
        self.assertEqual(status, 1)
        self.assertIn("No space left", complaint)
        self.assertFalse(self.path.exists())
        alerts = self.rig.done(self.rig.store.alerts(include_cleared=False, limit=9))
        self.assertEqual({alert.subject for alert in alerts}, {f"key of data {key_id}" for key_id in ids})

    def test_passphrase(self) -> None:
        """Under one no key is to be seen; it comes back with it alone."""
        ids = self.with_keys()
        self.typing("open sesame")
        shown = self.output("keys", "export", str(self.path), "--passphrase")
        self.assertIn("passphrase", shown)
        text = self.path.read_text()
        kept = self.rig.key_file.keys
        assert kept is not None
        self.assertNotIn("key " + ids[0], text)
        for word in ("wrong", ""):
            self.typing(word)
            status, _, complaint = self.run_command("keys", "import", str(self.path))
            self.assertEqual(status, 1)
            self.assertIn("not the passphrase", complaint)
        self.typing("open sesame")
        self.assertIn("here already", self.output("keys", "import", str(self.path)))
        self.typing("")
        self.assertIn("empty", self.run_command("keys", "export", f"{self.path}2", "--passphrase")[2])

    def test_import(self) -> None:
        """Keys that are missing come back and are named."""
        ids = self.with_keys()
        self.output("keys", "export", str(self.path))
        ring = self.rig.data_keys
        ring._missing, ring._current, ring._keys, self.rig.key_file.keys = tuple(ids), None, {}, None
        shown = self.output("keys", "import", str(self.path))
        for key_id in ids:
            self.assertIn(key_id, shown)
        self.assertEqual(ring.ids(), ids)
        self.path.write_text("nothing of the kind")
        status, _, complaint = self.run_command("keys", "import", str(self.path))
        self.assertEqual(status, 1)
        self.assertIn("no export", complaint)
        self.assertIn("cannot be read", self.run_command("keys", "import", f"{self.path}-none")[2])

    def test_wrong_use(self) -> None:
        """Says what is missing or too much."""
        for words, what in (
            (("export",), "needs a FILE"),
            (("import",), "needs a FILE"),
            (("data", "x"), "takes no argument"),
            (("rotate-data", "x"), "takes no argument"),
            (("import", "x", "--passphrase"), "goes with export"),
            (("list", "--passphrase"), "goes with export"),
        ):
            status, _, complaint = self.run_command("keys", *words)
            self.assertEqual(status, 2, words)
            self.assertIn(what, complaint)


def _no_space(descriptor: int) -> None:
    raise OSError(28, "No space left on device")
