"""Texts under a passphrase, with us and without us."""

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from coldstore.util.passphrases import WrongPassphrase, is_sealed, opened_text, sealed_text

TEXT = "# ä\nsecret words\n" * 20
WORD = "correct horse ü"


class PassphraseTests(SynchronousTestCase):
    """One sealed text: it takes half a second to make or open."""

    def test_life(self) -> None:
        """The passphrase opens it, by the script in it as well; no other does, nor once it has changed; the text is not seen."""
        sealed = sealed_text(TEXT, WORD, what="Words.", salt=bytes(16), nonce=bytes(12))
        self.assertTrue(is_sealed(sealed))
        self.assertFalse(is_sealed(TEXT))
        self.assertNotIn("secret", sealed)
        self.assertEqual(opened_text(sealed, WORD), TEXT)
        self.assertRaises(WrongPassphrase, opened_text, sealed, "other")
        last = sealed.rstrip().splitlines()[-1]
        changed = sealed.replace(last, ("B" if last[0] == "A" else "A") + last[1:])
        self.assertRaises(WrongPassphrase, opened_text, changed, WORD)

        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "FILE").write_text(sealed, "ascii")
        command = next(line for line in sealed.splitlines() if "sed -n" in line).removeprefix("#")
        subprocess.run(["sh", "-c", command.replace("THIS-FILE", "FILE")], cwd=folder, check=True, timeout=20)
        opened = subprocess.run(
            [sys.executable, "open.py", "FILE"],
            cwd=folder,
            input=f"{WORD}\n".encode(),
            stdout=subprocess.PIPE,
            check=True,
            timeout=60,
        )
        self.assertEqual(opened.stdout.decode(), TEXT)

    def test_no_such_text(self) -> None:
        """Anything else is refused before a key is made of the passphrase; numbers that would take all memory, too."""
        mark = "coldstore-sealed-1"
        for text in (
            "",
            TEXT,
            mark,
            f"{mark} 2 8 1 AAAA AAAA\n!",
            f"{mark} {1 << 40} 8 1 AAAA AAAA\nAAAA",
            f"{mark} 1024 99999 1 AAAA AAAA\nAAAA",
            f"{mark} 1024 8 1 ! AAAA\nAAAA",
            f"{mark} x 8 1 AAAA AAAA\nAAAA",
        ):
            with self.assertRaises(ValueError) as caught:
                opened_text(text, WORD)
            self.assertNotIsInstance(caught.exception, WrongPassphrase)
