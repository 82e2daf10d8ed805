"""Bundles: the layout tells the truth, the same plan gives the same bytes, and other tar readers agree."""

import io
import itertools
import os
import subprocess
import tarfile

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from coldstore.model.locks import UNLOCKED, Lock, LockMode, Retention
from coldstore.model.objects import Checksum, ChecksumKind, Encryption, StorageClass, VersionFacts
from coldstore.ontape import paths, tarblocks
from coldstore.ontape.bundle import BundleMember, BundlePlan, Content, Literal, compose, layout
from coldstore.ontape.errors import BundleDamaged, ManifestDamaged, OnTapeDamaged
from coldstore.ontape.reading import read_manifest, walk
from tests.fixtures.make_cartridges import OBJECTS, make_member, make_plan, tar_bytes

texts = st.text(st.characters(codec="utf-8"), max_size=30)
pairs = st.dictionaries(texts, texts, max_size=3).map(lambda values: tuple(values.items()))
numbers = st.integers(0, 2**63 - 1)
crcs = st.integers(0, 2**64 - 1)
base64s = st.text("ABCabc019+/", min_size=1, max_size=120)
encryptions = st.builds(
    Encryption,
    algorithm=st.just("AES256"),
    key_md5=base64s,
    wrapped_key=base64s,
    chunk_bytes=st.integers(1, 2**32 - 1),
    size_bytes=numbers,
    part_sizes=st.sampled_from(("", "5242880x3,17")),
    part_numbers=st.sampled_from(("", "", "1-3,7")),
    master_key=st.just(""),
    sealed_etag=st.just(""),
) | st.builds(
    Encryption,
    algorithm=st.just("AES256"),
    key_md5=st.just(""),
    wrapped_key=base64s,
    chunk_bytes=st.integers(1, 2**32 - 1),
    size_bytes=numbers,
    part_sizes=st.sampled_from(("", "5242880x3,17")),
    part_numbers=st.sampled_from(("", "", "1-3,7")),
    master_key=st.text("0123456789abcdef", min_size=16, max_size=16),
    sealed_etag=base64s,
)
locks = st.builds(
    Lock,
    retention=st.none() | st.builds(Retention, mode=st.sampled_from(LockMode), until=st.floats(-1e12, 1e12)),
    legal_hold=st.sampled_from((None, False, True)),
)
version_ids = st.one_of(st.just("null"), st.text("abc./-_~:9", min_size=1, max_size=40))


@st.composite
def members(draw: st.DrawFn) -> BundleMember:
    """Any member that the format can carry; contents are small."""
    length = draw(st.integers(0, 1100))
    extent_count = draw(st.sampled_from((1, 1, 1, 2, 99999)))
    offset = 0 if extent_count == 1 else draw(st.integers(0, 2**40))
    encryption = draw(st.none() | encryptions)
    return BundleMember(
        facts=VersionFacts(
            bucket=draw(st.text("abc.-0", min_size=3, max_size=63)),
            key=draw(st.text(st.characters(codec="utf-8"), min_size=1, max_size=300)).encode(),
            version_id=draw(version_ids),
            size_bytes=length if extent_count == 1 else offset + length + draw(st.integers(0, 2**40)),
            etag="" if encryption is not None and encryption.is_by_server else draw(texts),
            storage_class=draw(st.sampled_from(StorageClass)),
            headers=draw(pairs),
            user_metadata=draw(pairs),
            checksum=draw(
                st.none()
                | st.builds(Checksum, algorithm=texts, value=texts, kind=st.sampled_from(ChecksumKind))
            ),
            crc64nvme=draw(crcs),
            part_sizes=draw(st.sampled_from(("", "5242880x3,17"))),
            created_at=draw(st.floats(-1e12, 1e12)),
            owner_id=draw(texts),
            encryption=encryption,
        ),
        version_uid=draw(numbers),
        sequence=draw(numbers),
        extent=draw(st.integers(0, extent_count - 1)),
        extent_count=extent_count,
        object_offset_bytes=offset,
        length_bytes=length,
        crc64nvme=draw(crcs),
        lock=draw(st.just(UNLOCKED) | locks),
    )


def sample(count: int = 3) -> tuple[BundlePlan, tuple[bytes, ...], bytes]:
    """A small plan, the contents of its members, and its tar."""
    contents = tuple(bytes([65 + number]) * (number * 300) for number in range(count))
    plan = make_plan(
        1,
        tuple(
            make_member(data, key=b"key %d" % number, number=number) for number, data in enumerate(contents)
        ),
    )
    return plan, contents, tar_bytes(layout(plan), contents)


class LayoutTests(SynchronousTestCase):
    """``layout`` and what it promises."""

    @settings(max_examples=60, deadline=None)
    @given(st.lists(members(), max_size=5))
    def test_round_trip(self, several: list[BundleMember]) -> None:
        """Whatever is planned is read back equal, from the headers as from the manifest, where the layout says."""
        plan = make_plan(1, tuple(several))
        measured = layout(plan)
        contents = tuple(
            bytes([position + 1]) * member.length_bytes for position, member in enumerate(several)
        )
        tar = tar_bytes(measured, contents)
        self.assertEqual(len(tar), measured.total_bytes)
        self.assertEqual(len(tar) % 512, 0)
        walked = list(walk(io.BytesIO(tar)))
        self.assertEqual([one.member for one in walked], several)
        manifest = read_manifest(io.BytesIO(tar))
        self.assertEqual(manifest.plan, plan)
        for position, (one, (member, placement)) in enumerate(
            zip(walked, manifest.placements(), strict=True)
        ):
            self.assertEqual(member, several[position])
            self.assertEqual(placement, measured.placement(position))
            self.assertEqual(
                (one.name, one.header_offset_bytes, one.data_offset_bytes),
                (placement.name, placement.header_offset_bytes, placement.data_offset_bytes),
            )
            end = placement.data_offset_bytes + placement.length_bytes
            self.assertEqual(tar[placement.data_offset_bytes : end], contents[position])

    @settings(max_examples=60, deadline=None)
    @given(st.lists(members(), max_size=5))
    def test_composed(self, several: list[BundleMember]) -> None:
        """Made in one go it is the same layout and the same bytes, and it is told where contents come between them."""
        plan = make_plan(1, tuple(several))
        measured = layout(plan)
        own = bytearray()
        made, own_lengths = compose(plan, own.extend)
        self.assertEqual(made.total_bytes, measured.total_bytes)
        places = range(len(several))
        self.assertEqual(list(map(made.placement, places)), list(map(measured.placement, places)))
        self.assertEqual(list(made.manifest_lines()), list(measured.manifest_lines()))
        contents = [bytes([position + 1]) * one.length_bytes for position, one in enumerate(several)]
        woven, at = b"", 0
        for length, content in zip(own_lengths, contents, strict=True):
            woven += own[at : at + length] + content
            at += length
        self.assertEqual(woven + own[at:], tar_bytes(measured, tuple(contents)))

    @settings(max_examples=40, deadline=None)
    @given(st.lists(members(), max_size=4))
    def test_python_reads_it(self, several: list[BundleMember]) -> None:
        """Python's tarfile finds the same names, sizes, times and contents."""
        measured = layout(make_plan(1, tuple(several)))
        contents = tuple(
            bytes([position + 1]) * member.length_bytes for position, member in enumerate(several)
        )
        with tarfile.open(fileobj=io.BytesIO(tar_bytes(measured, contents))) as tar:
            infos = tar.getmembers()
            self.assertEqual(len(infos), len(several) + 1)
            for position, (info, member) in enumerate(zip(infos, several, strict=False)):
                self.assertEqual(info.name, measured.placement(position).name)
                self.assertEqual(
                    (info.size, info.mode, info.uid, info.gid), (member.length_bytes, 0o644, 0, 0)
                )
                self.assertLess(abs(info.mtime - member.facts.created_at), 0.0005)
                extracted = tar.extractfile(info)
                assert extracted is not None
                self.assertEqual(extracted.read(), contents[position])

    def test_same_bytes(self) -> None:
        """Two layouts of one plan give the same pieces, and a layout can be asked again."""
        plan, _, _ = sample()
        first, second = layout(plan), layout(plan)
        self.assertEqual(list(first.pieces()), list(second.pieces()))
        self.assertEqual(list(first.pieces()), list(second.pieces()))

    def test_lazy(self) -> None:
        """Pieces are made one by one: the first comes before anything else is made."""
        plan, _, _ = sample()
        pieces = layout(plan).pieces()
        kinds = [type(piece) for piece in itertools.islice(pieces, 4)]
        self.assertEqual(kinds, [Literal, Literal, Content, Literal])

    def test_large_members(self) -> None:
        """A member beyond 8 GiB is measured without its bytes; its size is in a pax record and offsets go on."""
        size = 9 * 1024**3 + 5
        facts = make_member(b"", key=b"large", number=1).facts
        large = BundleMember(
            facts=VersionFacts(
                bucket=facts.bucket,
                key=facts.key,
                version_id="v1",
                size_bytes=size,
                etag=facts.etag,
                storage_class=facts.storage_class,
                headers=(),
                user_metadata=(),
                checksum=None,
                crc64nvme=1,
                part_sizes="",
                created_at=0.0,
                owner_id="o",
            ),
            version_uid=1,
            sequence=1,
            extent=0,
            extent_count=1,
            object_offset_bytes=0,
            length_bytes=size,
            crc64nvme=1,
        )
        measured = layout(make_plan(1, (large, make_member(b"x", key=b"small", number=2))))
        pieces = list(measured.pieces())
        self.assertEqual(pieces[1], Content(0, size))
        self.assertEqual(
            measured.placement(1).header_offset_bytes,
            measured.data_offset_bytes(0) + size + tarblocks.padding_bytes(size),
        )
        header = pieces[0]
        assert isinstance(header, Literal)
        with tarfile.open(fileobj=io.BytesIO(header.data), mode="r:") as tar:
            info = tar.next()
        assert info is not None
        self.assertEqual(info.size, size)

    def test_refused(self) -> None:
        """Facts that the format cannot carry are refused when the member is made, not when tape is moving."""
        for changes in (
            {"key": b"\xff"},
            {"key": b""},
            {"version_id": 'a"b'},
            {"extent_count": 2, "extent": 2},
            {"whole": b"", "extent_count": 2},
            {"user_metadata": (("a", "1"), ("a", "2"))},
            {"user_metadata": (("a", "\ud800"),)},
        ):
            arguments = {"key": b"k", "number": 1, **changes}
            self.assertRaises(ValueError, make_member, b"bytes", **arguments)


class PaxRecordTests(SynchronousTestCase):
    """``pax_record``."""

    def test_length_counts_itself(self) -> None:
        """The length is right at every width, where one digit more makes another digit needed too."""
        for length in (*range(200), *range(980, 1010), *range(9980, 10010)):
            record = tarblocks.pax_record(b"comment", b"x" * length)
            self.assertEqual(int(record.split(b" ")[0]), len(record))


class GnuTarTests(SynchronousTestCase):
    """The tar of the machine, silently."""

    def run_tar(self, *arguments: str) -> bytes:
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            ["tar", *arguments], capture_output=True, timeout=60, env=environment, check=False
        )
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        return done.stdout

    def test_extracts(self) -> None:
        """Every awkward key extracts to its own file with its own bytes, without a word on standard error."""
        plan = make_plan(
            1,
            tuple(
                make_member(data, key=key, bucket=bucket, number=number)
                for number, ((bucket, key), data) in enumerate(OBJECTS.items())
            ),
        )
        measured = layout(plan)
        directory = self.mktemp()
        os.makedirs(directory)
        path = os.path.join(directory, "bundle.tar")
        with open(path, "wb") as file:
            file.write(tar_bytes(measured, tuple(OBJECTS.values())))
        listed = self.run_tar("-tf", path).splitlines()
        self.assertEqual(len(listed), len(OBJECTS) + 1)
        self.run_tar("-xf", path, "-C", directory)
        for position, data in enumerate(OBJECTS.values()):
            extracted = os.path.join(directory, measured.placement(position).name)
            with open(extracted, "rb") as file:
                self.assertEqual(file.read(), data)
            self.assertEqual(os.stat(extracted).st_mtime, plan.members[position].facts.created_at)
        name = paths.manifest_member_name(plan.bundle_id)
        self.assertEqual(self.run_tar("-xOf", path, name), b"".join(measured.manifest_lines()))


class DamageTests(SynchronousTestCase):
    """Readers of damaged bundles."""

    def test_truncated(self) -> None:
        """A bundle cut anywhere is never taken for whole; walking still gives the members before the cut."""
        plan, _, tar = sample()
        for length in range(0, len(tar), 256):
            cut = io.BytesIO(tar[:length])
            self.assertRaises(OnTapeDamaged, read_manifest, cut)
        second = layout(plan).placement(1)
        walked = walk(io.BytesIO(tar[: second.header_offset_bytes + 100]))
        self.assertEqual(next(walked).member, plan.members[0])
        self.assertRaises(BundleDamaged, next, walked)

    @settings(max_examples=200, deadline=None)
    @given(st.integers(0, 2**32), st.integers(1, 255))
    def test_changed_byte(self, place: int, change: int) -> None:
        """A changed byte of a header or the manifest is found by walking or by the manifest, and named."""
        plan, contents, tar = sample()
        measured = layout(plan)
        place %= len(tar)
        data = bytearray(tar)
        data[place] ^= change
        for position in range(len(contents)):
            spot = measured.placement(position)
            room = spot.length_bytes + tarblocks.padding_bytes(spot.length_bytes)
            if spot.data_offset_bytes <= place < spot.data_offset_bytes + room:
                self.assertEqual(len(list(walk(io.BytesIO(bytes(data))))), len(contents))
                return
        if place < measured.manifest_header_offset_bytes:
            self.assertRaises(BundleDamaged, lambda: list(walk(io.BytesIO(bytes(data)))))
        elif place >= measured.manifest_offset_bytes:
            self.assertRaises((BundleDamaged, ManifestDamaged), read_manifest, io.BytesIO(bytes(data)))
