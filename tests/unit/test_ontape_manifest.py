"""Manifests of bundles and sessions: round trips, and readers that no damage surprises."""

import gzip
import zlib
from hashlib import sha256

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from coldstore.ontape import paths
from coldstore.ontape.bundle import layout
from coldstore.ontape.errors import ManifestDamaged
from coldstore.ontape.manifest import (
    BundleFile,
    SessionFacts,
    SessionManifestWriter,
    parse_bundle_manifest,
    parse_session_manifest,
    session_text,
)
from tests.fixtures.make_cartridges import make_member, make_plan

FACTS = SessionFacts(
    session_id=paths.session_id(1, 1),
    created_at=1.5,
    appliance_id="appliance",
    pool="main",
    barcode="A00001L9",
    volume_uuid="uuid",
)


def session(count: int = 3) -> tuple[bytes, list[BundleFile]]:
    """A session of ``count`` bundles and their files."""
    writer = SessionManifestWriter(FACTS)
    files = []
    for number in range(count):
        measured = layout(make_plan(number, (make_member(b"x" * number, key=b"k", number=number),)))
        file = BundleFile(
            bundle_id=measured.plan.bundle_id,
            size_bytes=measured.total_bytes,
            sha256="0" * 64,
            partition="b",
            start_block=5 + number,
        )
        files.append(file)
        writer.add(file, measured)
    return writer.finish(), files


def reseal(text: bytes) -> bytes:
    """A session's manifest around any text, with a right checksum."""
    body = gzip.compress(text, mtime=0)
    digest = sha256(body).hexdigest()
    return f"coldstore-session-manifest 1 {len(body)} {len(text)} {digest}\n".encode() + body


class BundleManifestTests(SynchronousTestCase):
    """``parse_bundle_manifest``."""

    def setUp(self) -> None:
        self.plan = make_plan(
            1,
            tuple(
                make_member(b"x" * n, key=b"key %d" % n, number=n, user_metadata=(("a", "b"),))
                for n in range(4)
            ),
        )
        self.text = b"".join(layout(self.plan).manifest_lines())

    def test_round_trip(self) -> None:
        """What is written is read equal."""
        self.assertEqual(parse_bundle_manifest(self.text).plan, self.plan)

    def test_block_aligned(self) -> None:
        """The text fills whole blocks and its last line is at least 512 and less than 1024 bytes."""
        self.assertEqual(len(self.text) % 512, 0)
        last = self.text[:-1].rpartition(b"\n")[2] + b"\n"
        self.assertTrue(512 <= len(last) < 1024)

    @settings(max_examples=200, deadline=None)
    @given(st.integers(0, 2**32), st.integers(1, 255))
    def test_every_byte_counts(self, place: int, change: int) -> None:
        """A changed byte anywhere is damage."""
        data = bytearray(self.text)
        data[place % len(data)] ^= change
        self.assertRaises(ManifestDamaged, parse_bundle_manifest, bytes(data))

    @settings(max_examples=200, deadline=None)
    @given(st.integers(0, 2**32), st.integers(0, 2**32), st.binary(max_size=40))
    def test_replaced_run(self, start: int, length: int, run: bytes) -> None:
        """A run of bytes lost, doubled or put in is damage unless the text stays the same."""
        start %= len(self.text)
        data = self.text[:start] + run + self.text[start + length % 50 :]
        if data != self.text:
            self.assertRaises(ManifestDamaged, parse_bundle_manifest, data)

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=200))
    def test_rubbish(self, data: bytes) -> None:
        """Any bytes are damage, never another error."""
        self.assertRaises(ManifestDamaged, parse_bundle_manifest, data)

    def test_says_where(self) -> None:
        """The error names line and cause."""
        for old, new, message in (
            (b'"key":"key 2"', b'"key":2', "line 4: field 'key'"),
            (b'"key":"key 2"', b'"key":"key 9"', "line 3 differs|line 4 differs"),
            (
                b'"coldstore_bundle_manifest":1',
                b'"coldstore_bundle_manifest":2',
                "line 1: .*2 is not version 1",
            ),
            (b'"members":4', b'"members":400', "line 2: 400 members are announced"),
            (b'"sequence":1', b'"sequence":1e999', "line 3"),
            (b'"sequence":1', b'"sequence":' + b"[" * 100000, "line 3: nested too deeply"),
            (b'"sequence":1', b'"sequence":' + b"9" * 5000, "line 3"),
        ):
            error = self.assertRaises(ManifestDamaged, parse_bundle_manifest, self.text.replace(old, new, 1))
            self.assertRegex(str(error), message)


class SessionManifestTests(SynchronousTestCase):
    """``SessionManifestWriter`` and ``parse_session_manifest``."""

    def test_round_trip(self) -> None:
        """Facts, files and plans come back in order."""
        data, files = session()
        manifest = parse_session_manifest(data)
        self.assertEqual(manifest.facts, FACTS)
        self.assertEqual([file for file, _ in manifest.bundles], files)
        self.assertEqual([len(bundle.plan.members) for _, bundle in manifest.bundles], [1, 1, 1])

    def test_empty_session(self) -> None:
        """A session that wrote no bundle has a manifest as well."""
        data, _ = session(0)
        self.assertEqual(parse_session_manifest(data).bundles, ())

    def test_no_clock(self) -> None:
        """Two writers give the same bytes, and the gzip header has no time."""
        first, _ = session()
        second, _ = session()
        self.assertEqual(first, second)
        self.assertEqual(first.partition(b"\n")[2][4:8], bytes(4))

    def test_counts(self) -> None:
        """The writer knows how large the file has become."""
        writer = SessionManifestWriter(FACTS)
        before = writer.compressed_bytes
        measured = layout(make_plan(1, tuple(make_member(b"", key=b"%d" % n, number=n) for n in range(50))))
        file = BundleFile(
            bundle_id=measured.plan.bundle_id,
            size_bytes=measured.total_bytes,
            sha256="0" * 64,
            partition="b",
            start_block=1,
        )
        writer.add(file, measured)
        self.assertGreater(writer.compressed_bytes, before + 500)
        grown = writer.compressed_bytes
        self.assertTrue(0 <= len(writer.finish()) - grown < 300)

    def test_foreign_file(self) -> None:
        """A file that is not of the bundle is refused."""
        measured = layout(make_plan(1, ()))
        file = BundleFile(
            bundle_id=measured.plan.bundle_id, size_bytes=5, sha256="0" * 64, partition="b", start_block=1
        )
        self.assertRaises(ValueError, SessionManifestWriter(FACTS).add, file, measured)

    @settings(max_examples=200, deadline=None)
    @given(st.integers(0, 2**32), st.integers(1, 255))
    def test_every_byte_counts(self, place: int, change: int) -> None:
        """A changed byte anywhere is damage."""
        data = bytearray(session()[0])
        data[place % len(data)] ^= change
        self.assertRaises(ManifestDamaged, parse_session_manifest, bytes(data))

    def test_truncated(self) -> None:
        """A file cut anywhere is damage."""
        data, _ = session()
        for length in range(0, len(data), 7):
            self.assertRaises(ManifestDamaged, parse_session_manifest, data[:length])

    @settings(max_examples=150, deadline=None)
    @given(st.integers(0, 2**32), st.integers(0, 300), st.binary(max_size=40))
    def test_resealed(self, start: int, length: int, run: bytes) -> None:
        """Damage from before the checksum was made is found too."""
        text = session_text(session()[0])
        start %= len(text)
        changed = text[:start] + run + text[start + length :]
        if changed != text:
            self.assertRaises(ManifestDamaged, parse_session_manifest, reseal(changed))

    def test_bomb(self) -> None:
        """A content that decompresses to more than announced is refused without making it."""
        body = gzip.compress(bytes(50_000_000), mtime=0)
        head = f"coldstore-session-manifest 1 {len(body)} 100 {sha256(body).hexdigest()}\n".encode()
        self.assertIn("100 bytes", str(self.assertRaises(ManifestDamaged, session_text, head + body)))

    def test_not_gzip(self) -> None:
        """Other compressed content is refused."""
        body = zlib.compress(b"x")
        head = f"coldstore-session-manifest 1 {len(body)} 1 {sha256(body).hexdigest()}\n".encode()
        self.assertIn("not gzip", str(self.assertRaises(ManifestDamaged, session_text, head + body)))

    def test_unknown_version(self) -> None:
        """A later version is refused by number."""
        data = session()[0].replace(b"-manifest 1 ", b"-manifest 2 ", 1)
        self.assertIn("version 2", str(self.assertRaises(ManifestDamaged, parse_session_manifest, data)))
