"""Labels, small files and indexes of tapes without a file system."""

import io
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from coldstore.ontape.errors import BundleDamaged, TapeFileDamaged
from coldstore.ontape.reading import BUNDLE_TAIL_BYTES, bundle_id_of_tail
from coldstore.ontape.readme import READ_TAPE_BEGIN, READ_TAPE_END
from coldstore.ontape.tape import (
    TapeEntry,
    TapeIndex,
    TapeLabel,
    index_file,
    index_text,
    is_index,
    is_label,
    label_file,
    parse_index_file,
    parse_index_text,
    parse_label_file,
    small_file,
)
from tests.fixtures.make_cartridges import DIRECTORY as CARTRIDGES

GOLDEN = Path(__file__).parent.parent / "fixtures" / "tape"
LABEL = TapeLabel(
    barcode="A00001L4",
    volume_uuid="0f0e0d0c-0b0a-4908-8706-050403020100",
    volume_name="coldstore-0123456789abcdef",
    created_at=1_750_000_000.5,
)
INDEX = TapeIndex(
    label=LABEL,
    generation=2,
    created_at=1_750_000_100.25,
    message='bundles to "here"\n',
    tape_file=4,
    block=131_080,
    used_bytes=34_359_739_000,
    is_full=False,
    entries=(
        TapeEntry(
            path="coldstore/bundles/01jxt21q010000000000000001.tar",
            size_bytes=34_359_738_368,
            tape_file=2,
            block=4,
            offset_bytes=0,
            sha256="0" * 63 + "f",
            attributes={"coldstore.bundle": b"01jxt21q010000000000000001", "a": b"\x00\xff"},
        ),
        TapeEntry(path="README.txt", size_bytes=7, tape_file=3, block=131_078, offset_bytes=512, sha256=None),
        TapeEntry(path="ä\u2028", size_bytes=0, tape_file=None, block=None, offset_bytes=0, sha256=None),
    ),
)
"""What lies in ``tests/fixtures/tape``: a change of these bytes is a change of the format."""


def content_of(tar: bytes, name: str) -> bytes:
    """The content of a member."""
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        stream = opened.extractfile(name)
        assert stream is not None
        return stream.read()


class LabelTests(SynchronousTestCase):
    """Tape file 0."""

    def test_golden(self) -> None:
        """The label is what it always was, and is read."""
        file = label_file(LABEL)
        self.assertEqual(content_of(file, "coldstore/tape.json"), (GOLDEN / "tape.json").read_bytes())
        self.assertTrue(is_label(file[:512]))
        self.assertFalse(is_index(file))
        self.assertEqual(parse_label_file(file), LABEL)

    def test_readme(self) -> None:
        """README.txt names the tape, fits a terminal outside its script, and the script is one that a shell takes."""
        text = content_of(label_file(LABEL), "README.txt").decode()
        for fact in (LABEL.barcode, LABEL.volume_uuid, LABEL.volume_name, "2025-06-15 15:06 UTC"):
            self.assertIn(fact, text)
        self.assertLessEqual(max(map(len, text[: text.index(READ_TAPE_BEGIN)].splitlines())), 80)
        script = text[text.index(READ_TAPE_BEGIN) : text.index(READ_TAPE_END)].partition("\n")[2]
        subprocess.run(["sh", "-n"], input=script.encode(), check=True, timeout=20)

    def test_readme_may_differ(self) -> None:
        """A label of another release, with other words for people, is the same label."""
        file = label_file(LABEL)
        self.assertEqual(parse_label_file(file[:2048] + b"other words"), LABEL)

    @settings(max_examples=200, deadline=None)
    @given(st.integers(0, 1023), st.integers(0, 20), st.binary(max_size=20))
    def test_damage(self, start: int, length: int, run: bytes) -> None:
        """A changed label is damage or another well-formed label, never another error."""
        file = label_file(LABEL)
        changed = file[:start] + run + file[start + length :]
        try:
            label = parse_label_file(changed)
        except TapeFileDamaged:
            return
        written = label_file(label)
        size = len(content_of(written, "coldstore/tape.json"))
        self.assertEqual(written[: 512 + size], changed[: 512 + size])

    def test_refused(self) -> None:
        """Texts that could break the words of README.txt are refused, and other versions by their number."""
        for name in ("barcode", "volume_uuid", "volume_name"):
            for text in ("", "a\nb"):
                self.assertRaises(ValueError, replace, LABEL, **{name: text})
        file = label_file(LABEL).replace(b'"coldstore_tape": 1', b'"coldstore_tape": 2')
        self.assertIn("version 1", str(self.assertRaises(TapeFileDamaged, parse_label_file, file)))
        for data in (b"", b"VOL1", bytes(10240), index_file(INDEX)):
            self.assertRaises(TapeFileDamaged, parse_label_file, data)


class IndexTests(SynchronousTestCase):
    """Indexes."""

    def test_golden(self) -> None:
        """The lines of an index are what they always were, and are read; so is the tar file around them."""
        self.assertEqual(index_text(INDEX), (GOLDEN / "index.jsonl").read_bytes())
        self.assertEqual(parse_index_text(index_text(INDEX)), INDEX)
        file = index_file(INDEX)
        self.assertEqual(content_of(file, "coldstore/index/00000002.jsonl"), index_text(INDEX))
        self.assertTrue(is_index(file[:512]))
        self.assertFalse(is_label(file))
        self.assertEqual(parse_index_file(file), INDEX)

    def test_empty(self) -> None:
        """An index that lists nothing is one."""
        empty = replace(INDEX, entries=(), generation=1, is_full=True)
        self.assertEqual(parse_index_file(index_file(empty)), empty)

    @settings(max_examples=300, deadline=None)
    @given(st.integers(0, 4095), st.integers(0, 40), st.binary(max_size=40))
    def test_damage(self, start: int, length: int, run: bytes) -> None:
        """A changed index is damage, never another error, and never another index."""
        file = index_file(INDEX)
        changed = file[:start] + run + file[start + length :]
        try:
            self.assertEqual(parse_index_file(changed), INDEX)
        except TapeFileDamaged:
            return
        self.assertEqual(changed, file)

    def test_every_cut(self) -> None:
        """An index that was cut off anywhere is damage."""
        file = index_file(INDEX)
        for end in range(0, len(file), 37):
            self.assertRaises(TapeFileDamaged, parse_index_file, file[:end])

    def test_refused(self) -> None:
        """Entries and numbers that cannot be are refused."""
        entry = INDEX.entries[0]
        for changes in (
            {"path": "../a"},
            {"path": "/a"},
            {"path": ""},
            {"path": "a\0"},
            {"size_bytes": -1},
            {"block": None},
            {"tape_file": None, "block": None},
            {"sha256": "0"},
        ):
            self.assertRaises(ValueError, replace, entry, **changes)
        for changes in ({"generation": 0}, {"block": -1}, {"created_at": -1.0}):
            self.assertRaises(ValueError, replace, INDEX, **changes)


class SmallFileTests(SynchronousTestCase):
    """Small files."""

    def test_tar_reads_them(self) -> None:
        """GNU tar unpacks labels, indexes and small files under their paths without a word; the offset leads to the content."""
        for path in ("README.txt", "coldstore/sessions/x.manifest", "ä/ü", "a/" * 60 + "b", "x" * 101):
            for content in (b"", b"content", bytes(512), bytes(range(256)) * 5):
                file, offset = small_file(path, content, 1_750_000_000.9)
                self.assertEqual(file[offset : offset + len(content)], content)
                self.assertEqual(len(file) % 512, 0)
                self.assertFalse(is_label(file) or is_index(file))
                done = subprocess.run(
                    ["tar", "-b", "512", "-xO", path],
                    input=file,
                    capture_output=True,
                    timeout=20,
                    check=False,
                )
                self.assertEqual((done.returncode, done.stdout, done.stderr), (0, content, b""), path)
        for file in (label_file(LABEL), index_file(INDEX)):
            done = subprocess.run(
                ["tar", "-b", "512", "-t"], input=file, capture_output=True, timeout=20, check=True
            )
            self.assertEqual(done.stderr, b"")


class BundleTailTests(SynchronousTestCase):
    """Bundles tell by their end what they are."""

    def test_tails(self) -> None:
        """A whole bundle says its id; one that is cut off, or has another size than it says, is none."""
        for path in CARTRIDGES.rglob("*.tar"):
            data = path.read_bytes()
            for tail in (data, data[-BUNDLE_TAIL_BYTES:]):
                self.assertEqual(bundle_id_of_tail(tail, len(data)), path.stem)
            self.assertRaises(BundleDamaged, bundle_id_of_tail, data, len(data) + 512)
            for cut in (1, 512, 1024, 2048):
                self.assertRaises(BundleDamaged, bundle_id_of_tail, data[:-cut], len(data) - cut)
        for tail in (b"", bytes(2048), b"{}\n" + bytes(1024), index_file(INDEX)[-2048:]):
            self.assertRaises(BundleDamaged, bundle_id_of_tail, tail, len(tail))
