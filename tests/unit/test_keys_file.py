"""The file with the master key."""

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.keyring import KeyFileFault
from coldstore.keys.keyfile import KeyFile
from coldstore.keys.sealing import MasterSecret

ONE, TWO = MasterSecret(b"1" * 32), MasterSecret(b"2" * 32)


class KeyFileTests(SynchronousTestCase):
    """``KeyFile``."""

    def setUp(self) -> None:
        """Have a folder for it."""
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.path = self.folder / "master.key"
        self.file = KeyFile(str(self.path))

    def fault(self) -> str:
        """Return why the file cannot be read."""
        with self.assertRaises(KeyFileFault) as caught:
            self.file.read()
        self.assertIn(str(self.path), str(caught.exception))
        return str(caught.exception)

    def test_there_and_back(self) -> None:
        """A file that is missing holds none; one that was written is read, by its owner alone, and says to people what it is."""
        self.assertIsNone(self.file.read())
        self.file.write(ONE)
        found = self.file.read()
        assert found is not None
        self.assertEqual(found.key, ONE.key)
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        self.assertTrue(self.path.read_text().startswith(f"# ColdStore's master key {ONE.key_id}"))
        self.assertEqual([entry.name for entry in self.folder.iterdir()], ["master.key"])

    def test_mode_whatever_the_umask(self) -> None:
        """The process's mask does not open it, and a remnant of a write that was cut off is in nobody's way."""
        (self.folder / ".master.key.new").write_text("half")
        (self.folder / ".master.key.new").chmod(0o644)
        before = os.umask(0)
        try:
            self.file.write(ONE)
        finally:
            os.umask(before)
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)

    def test_old_ones_are_kept(self) -> None:
        """A key that is replaced stays beside the new one; the same one again changes nothing."""
        self.file.write(ONE)
        self.file.write(ONE)
        self.assertIsNone(self.file.old(ONE.key_id))
        self.file.write(TWO)
        found, old = self.file.read(), self.file.old(ONE.key_id)
        assert found is not None and old is not None
        self.assertEqual((found.key, old.key), (TWO.key, ONE.key))
        kept = self.folder / f"master.key.old-{ONE.key_id}"
        self.assertEqual(kept.stat().st_mode & 0o777, 0o600)
        self.assertIsNone(self.file.old("0" * 16))
        kept.write_bytes(self.path.read_bytes())
        with self.assertRaises(KeyFileFault):
            self.file.old(ONE.key_id)

    def test_open_to_others(self) -> None:
        """A file that anybody else may read, or write, is refused, and the refusal says what to do."""
        self.file.write(ONE)
        for mode in (0o640, 0o604, 0o620, 0o660, 0o644):
            self.path.chmod(mode)
            self.assertIn("chmod 600", self.fault())
        self.path.chmod(0o400)
        self.assertIsNotNone(self.file.read())

    def test_damaged(self) -> None:
        """What is no such file is refused by name, and no byte of it is told."""
        self.file.write(ONE)
        whole = self.path.read_text()
        for text in (
            "",
            whole[: len(whole) // 2],
            whole.replace("coldstore-master-key-1", "coldstore-master-key-9"),
            whole.replace("=", ""),
            whole + whole,
            "\x00" * 200,
            "secret\n",
        ):
            self.path.write_text(text)
            reason = self.fault()
            self.assertIn("damaged", reason)
            self.assertNotIn("secret", reason.replace("with a master key", ""))

    def test_cannot_be_written(self) -> None:
        """Where nothing can be written that is said, and what was there stays."""
        with self.assertRaises(KeyFileFault) as caught:
            KeyFile(str(self.folder / "none" / "master.key")).write(ONE)
        self.assertIn("No such file or directory", str(caught.exception))
        self.path.mkdir()
        self.assertIn("cannot be read", self.fault())
