"""What a child knows of the tape that it serves, and leaves to the next one."""

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from coldstore.ontape.tape import TapeEntry
from coldstore.tape.raw.reel import Place
from coldstore.tape.raw.workingcopy import NameTaken, NoSuchName, NoWorkingCopy, Progress, WorkingCopy
from tests.unit.test_ontape_tape import INDEX


def entry(path: str) -> TapeEntry:
    """A file of one byte."""
    return TapeEntry(path=path, size_bytes=1, tape_file=1, block=2, offset_bytes=0, sha256=None)


class WorkingCopyTests(SynchronousTestCase):
    """``WorkingCopy``."""

    def setUp(self) -> None:
        """Have a volume with nothing on it."""
        self.path = self.mktemp()
        self.copy = WorkingCopy(
            self.path, replace(INDEX, entries=()), Progress(read_only=False, index_block=7)
        )

    def test_round_trip(self) -> None:
        """What was saved is read again by the next child; without a file nothing is mounted."""
        self.assertRaises(NoWorkingCopy, WorkingCopy.load, self.path)
        self.copy.put(entry("a/b"))
        self.copy.move_end(Place(tape_file=9, block=99), 1000, is_full=True)
        self.copy.note(is_writing=True)
        again = WorkingCopy.load(self.path)
        self.assertEqual(again.index, self.copy.index)
        self.assertEqual(again.progress, Progress(read_only=False, index_block=7, is_writing=True))
        self.assertEqual(again.end, Place(tape_file=9, block=99))
        self.assertEqual(again.index.used_bytes, INDEX.used_bytes + 1000)
        again.discard()
        self.assertRaises(NoWorkingCopy, WorkingCopy.load, self.path)

    def test_damaged(self) -> None:
        """A file that is not whole is none."""
        self.copy.save()
        with open(self.path, "rb") as file:
            content = file.read()
        for part in (
            b"",
            content[:10],
            content[:-1],
            b"{}" + content,
            content.replace(b"barcode", b"Barcode"),
        ):
            with open(self.path, "wb") as file:
                file.write(part)
            self.assertRaises(NoWorkingCopy, WorkingCopy.load, self.path)

    def test_names(self) -> None:
        """Names are taken by files and folders; a file is no folder."""
        self.copy.put(entry("a/b/c"))
        self.copy.put(entry("d"))
        self.copy.demand_free("a/b/d", replaces=False)
        self.copy.demand_free("d", replaces=True)
        for path, replaces in (("d", False), ("a", True), ("a/b", False)):
            self.assertRaises(NameTaken, self.copy.demand_free, path, replaces=replaces)
        self.assertRaises(NoSuchName, self.copy.demand_free, "d/e", replaces=True)
        self.assertRaises(NoSuchName, self.copy.entry, "a")

    def test_lists(self) -> None:
        """Folders are where files are, sorted, each once; they go with their last file."""
        for path in ("z", "a/c", "a/b", "ab"):
            self.copy.put(entry(path))
        self.assertEqual(self.copy.listed(""), [("a", True, 0), ("ab", False, 1), ("z", False, 1)])
        self.assertEqual(self.copy.listed("a"), [("b", False, 1), ("c", False, 1)])
        self.assertRaises(NoSuchName, self.copy.listed, "z")
        for path in ("a/b", "a/c"):
            self.assertTrue(self.copy.remove(path))
            self.assertFalse(self.copy.remove(path))
        self.assertRaises(NoSuchName, self.copy.listed, "a")

    def test_order(self) -> None:
        """Files are listed in the order of writing; one that takes the place of another comes last."""
        for path in ("one", "two", "one"):
            self.copy.put(entry(path))
        self.assertEqual([each.path for each in self.copy.index.entries], ["two", "one"])
