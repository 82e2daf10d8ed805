"""Encrypted pieces: their sizes, every range of them, and every way in which they can be other than they were."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.trial.unittest import SynchronousTestCase

from coldstore.interfaces.staging import BytesDamaged
from coldstore.model.objects import (
    ArchiveState,
    Encryption,
    ObjectVersion,
    Piece,
    StorageClass,
    VersionFacts,
)
from coldstore.s3.encryption import ObjectKey
from coldstore.s3.encryption_pieces import (
    HEADER_BYTES,
    TAG_BYTES,
    WHOLE,
    ChunkDamaged,
    PieceCipher,
    chunk_count,
    new_header,
    plain_bytes,
    stored_bytes,
)
from coldstore.s3.encryption_reading import OpenedRun, extents_of, opened_run, segments_for
from coldstore.s3.part_numbers import part_numbers_text
from coldstore.s3.part_sizes import part_sizes_text
from coldstore.s3.pieces import PinnedRun
from coldstore.testing.staging import SimulatedPiece, SimulatedStaging
from coldstore.util.checksums import crc64nvme
from tests.unit.s3_wire import run_here

KEY = ObjectKey(bytes(range(32)), 16)
PLAIN = Random(1).randbytes(100)


def sealed(plain: bytes, *, key: ObjectKey = KEY, salt: bytes = bytes(32), number: int = WHOLE) -> bytes:
    """Return the piece of these bytes, of a part of this number."""
    if not plain:
        return b""
    return sealed_behind(new_header(salt, key.chunk_bytes, number), plain, key=key, number=number)


def sealed_behind(header: bytes, plain: bytes, *, key: ObjectKey = KEY, number: int = WHOLE) -> bytes:
    """Return the piece of these bytes with this header."""
    cipher = key.cipher(header, number)
    starts = range(0, len(plain), key.chunk_bytes)
    return header + b"".join(
        cipher.seal(index, plain[start : start + key.chunk_bytes], is_last=start == starts[-1])
        for index, start in enumerate(starts)
    )


def facts_of(
    stored: bytes, sizes: list[int], *, chunk_bytes: int, numbers: Sequence[int] = ()
) -> VersionFacts:
    """Return the facts of an object of parts of these numbers; of one part as of one that was put whole."""
    return VersionFacts(
        bucket="b",
        key=b"k",
        version_id="null",
        size_bytes=len(stored),
        etag="",
        storage_class=StorageClass.STANDARD,
        headers=(),
        user_metadata=(),
        checksum=None,
        crc64nvme=crc64nvme(stored),
        part_sizes="",
        created_at=0.0,
        owner_id="u",
        encryption=Encryption(
            algorithm="AES256",
            key_md5="",
            wrapped_key="",
            chunk_bytes=chunk_bytes,
            size_bytes=sum(sizes),
            part_sizes=part_sizes_text(sizes) if len(sizes) > 1 else "",
            part_numbers=part_numbers_text(numbers),
        ),
    )


class Disk:
    """Stored bytes, cut into pieces anywhere, on a simulated disk."""

    def __init__(self, stored: bytes, cuts: list[int]) -> None:
        self.staging = SimulatedStaging(capacity_bytes=1 << 20)
        self.staging.start()
        self.pieces = []
        bounds = [0, *sorted({cut for cut in cuts if 0 < cut < len(stored)}), len(stored)]
        for number, (begin, end) in enumerate(pairwise(bounds), 1):
            content = stored[begin:end]
            checksum = crc64nvme(content)
            address = f"p{number}"
            self.staging.medium.pieces[address] = SimulatedPiece(bytearray(content), (checksum,), 1)
            self.pieces.append(Piece(number, address, len(content), checksum))

    def run(self, facts: VersionFacts, offset_bytes: int, length_bytes: int, key: ObjectKey) -> OpenedRun:
        """Open a run."""
        extents = extents_of(facts, offset_bytes, length_bytes)
        pinned = PinnedRun(self.staging, segments_for(self.pieces, extents))
        return OpenedRun(pinned, extents, key, name="layout x", in_thread=run_here)

    def read(
        self,
        facts: VersionFacts,
        offset_bytes: int,
        length_bytes: int,
        *,
        key: ObjectKey = KEY,
        most: int = 64,
    ) -> bytes:
        """Return bytes of an object, read in steps."""

        async def read_all() -> bytes:
            run = self.run(facts, offset_bytes, length_bytes, key)
            await run.check_first() if most >= 512 * 1024 else None
            blocks = []
            while (step := run.next_step(most)) is not None:
                block = await run.read(step)
                assert len(block) == step[2]
                blocks.append(block)
            run.close()
            return b"".join(blocks)

        found: list[bytes] = []
        failed: list[BaseException] = []
        Deferred.fromCoroutine(read_all()).addCallbacks(
            found.append, lambda failure: failed.append(failure.value)
        )
        if failed:
            raise failed[0]
        return found[0]


class SizeTests(SynchronousTestCase):
    """How long pieces are."""

    @settings(max_examples=300, deadline=None)
    @given(st.integers(0, 2**40), st.sampled_from([1, 16, 4096, 65536]))
    def test_both_ways(self, plain: int, chunk_bytes: int) -> None:
        """The stored size tells the plain one."""
        self.assertEqual(plain_bytes(stored_bytes(plain, chunk_bytes), chunk_bytes), plain)

    def test_is_what_is_made(self) -> None:
        """Pieces have the length that is said beforehand; what is between is the length of none."""
        made = {len(sealed(PLAIN[:size])): size for size in range(len(PLAIN) + 1)}
        self.assertEqual(len(made), len(PLAIN) + 1)
        for stored in range(max(made) + 1):
            if stored in made:
                self.assertEqual(stored_bytes(made[stored], 16), stored)
                self.assertEqual(plain_bytes(stored, 16), made[stored])
            else:
                self.assertRaises(ValueError, plain_bytes, stored, 16)


class RangeTests(SynchronousTestCase):
    """Every range is the slice of what was encrypted."""

    def test_every_range_of_one_piece(self) -> None:
        """Whatever its chunks."""
        for size in (1, 15, 16, 17, 47, 48, 49):
            stored = sealed(PLAIN[:size])
            facts, disk = facts_of(stored, [size], chunk_bytes=16), Disk(stored, [HEADER_BYTES + 20])
            for begin in range(size):
                for end in range(begin + 1, size + 1):
                    self.assertEqual(disk.read(facts, begin, end - begin), PLAIN[begin:end])

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def test_ranges_of_parts(self, data: st.DataObject) -> None:
        """Parts of any sizes, empty ones among them; the disk may hold them cut in any other way; steps of any length."""
        chunk_bytes = data.draw(st.sampled_from([1, 7, 16, 64]))
        key = ObjectKey(bytes(32), chunk_bytes)
        sizes = data.draw(
            st.lists(st.sampled_from([0, 1, 6, 7, 16, 50, 50, 50]), min_size=1, max_size=6).filter(any)
        )
        plain = Random(2).randbytes(sum(sizes))
        ends = list(accumulate(sizes))
        steps = data.draw(st.lists(st.sampled_from([1, 1, 1, 5]), min_size=len(sizes), max_size=len(sizes)))
        numbers = list(accumulate(steps)) if len(sizes) > 1 else [WHOLE]
        stored = b"".join(
            sealed(plain[end - size : end], key=key, salt=bytes([number]) * 32, number=number)
            for number, end, size in zip(numbers, ends, sizes, strict=True)
        )
        facts = facts_of(stored, sizes, chunk_bytes=chunk_bytes, numbers=numbers if len(sizes) > 1 else ())
        disk = Disk(stored, data.draw(st.lists(st.integers(1, len(stored)), max_size=4)))
        begin = data.draw(st.integers(0, len(plain) - 1))
        end = data.draw(st.integers(begin + 1, len(plain)))
        most = data.draw(st.sampled_from([1, 16, 100, 1 << 20]))
        self.assertEqual(disk.read(facts, begin, end - begin, key=key, most=most), plain[begin:end])
        self.assertEqual(disk.staging._pins, {})

    def test_reads_what_it_needs(self) -> None:
        """A few bytes in the middle take the header and their chunk alone."""
        stored = sealed(PLAIN)
        extents = extents_of(facts_of(stored, [len(PLAIN)], chunk_bytes=16), 40, 3)
        (piece,) = Disk(stored, []).pieces
        segments = [
            (segment.offset_bytes, segment.length_bytes) for segment in segments_for([piece], extents)
        ]
        self.assertEqual(segments, [(0, HEADER_BYTES), (HEADER_BYTES + 2 * (16 + TAG_BYTES), 16 + TAG_BYTES)])

    def test_ten_thousand_parts(self) -> None:
        """The last of many parts is found without a walk along all of them."""
        encryption = Encryption("AES256", "", "", 65536, 10_000 * 5_000_000, "5000000x10000")
        facts = facts_of(b"", [1], chunk_bytes=65536)._replace(encryption=encryption)
        (extent,) = extents_of(facts, 10_000 * 5_000_000 - 1, 1)
        self.assertEqual(extent.stored_begin_bytes, 9_999 * stored_bytes(5_000_000, 65536))


class DamageTests(SynchronousTestCase):
    """Whatever has changed is found, and nothing of it gets out."""

    def check_refused(self, stored: bytes, size: int = 40, *, key: ObjectKey = KEY) -> None:
        """See that an object of these stored bytes cannot be read."""
        facts = facts_of(stored, [size], chunk_bytes=16)
        self.assertRaises(BytesDamaged, Disk(stored, []).read, facts, 0, size, key=key, most=1 << 20)

    def test_every_byte(self) -> None:
        """One byte has changed, in any place, in any of its bits."""
        stored = sealed(PLAIN[:40])
        for place in range(len(stored)):
            for bit in (0, 3, 7):
                changed = bytearray(stored)
                changed[place] ^= 1 << bit
                self.check_refused(bytes(changed))

    def test_order(self) -> None:
        """Chunks are exchanged, repeated, or another piece's of the same object."""
        stored, other = sealed(PLAIN[:48]), sealed(PLAIN[:48], salt=b"2" * 32)
        step = 16 + TAG_BYTES
        head, first, second, third = (
            stored[:HEADER_BYTES],
            *(stored[HEADER_BYTES + at * step : HEADER_BYTES + (at + 1) * step] for at in range(3)),
        )
        for changed in (
            head + second + first + third,
            head + first + first + third,
            head + first + third + second,
            head + first + other[HEADER_BYTES + step :],
            other[:HEADER_BYTES] + first + second + third,
        ):
            self.assertEqual(len(changed), len(stored))
            self.check_refused(changed, 48)

    def test_parts(self) -> None:
        """Parts of the same size are exchanged, repeated, or others of the same object, or said to have other numbers."""
        one, two, three = (
            sealed(PLAIN[at : at + 20], salt=bytes([at]) * 32, number=number)
            for number, at in ((1, 0), (2, 20), (3, 40))
        )
        sizes = [20, 20]

        def read(stored: bytes, begin: int, length: int, numbers: Sequence[int] = (1, 2)) -> bytes:
            facts = facts_of(stored, sizes, chunk_bytes=16, numbers=numbers)
            return Disk(stored, []).read(facts, begin, length, most=1 << 20)

        self.assertEqual(read(one + two, 0, 40), PLAIN[:40])
        self.assertEqual(read(one + three, 25, 10, (1, 3)), PLAIN[45:55])
        for stored, numbers, begin in (
            (two + one, (1, 2), 0),
            (two + one, (1, 2), 20),
            (one + one, (1, 2), 20),
            (one + three, (1, 2), 20),
            (one + two, (1, 3), 20),
            (one + two, (2, 3), 0),
        ):
            self.assertRaises(BytesDamaged, read, stored, begin, 20, numbers)

    def test_pieces_of_the_first_version(self) -> None:
        """They say nothing of their part, and are read wherever they are."""
        header = b"CSSSE-C\x01" + (16).to_bytes(4, "big") + bytes(4) + bytes(32)
        stored = sealed_behind(header, PLAIN[:20]) + sealed(PLAIN[20:40], number=7)
        facts = facts_of(stored, [20, 20], chunk_bytes=16, numbers=(5, 7))
        self.assertEqual(Disk(stored, []).read(facts, 0, 40, most=1 << 20), PLAIN[:40])
        changed = bytearray(stored)
        changed[15] ^= 5
        self.assertRaises(BytesDamaged, Disk(bytes(changed), []).read, facts, 0, 40, most=1 << 20)

    def test_cut_off(self) -> None:
        """A piece from which whole chunks were cut is not taken for a shorter one, nor lengthened by its neighbour."""
        stored = sealed(PLAIN[:48])
        for size in (16, 32):
            self.check_refused(stored[: stored_bytes(size, 16)], size)
        longer = stored + stored[HEADER_BYTES : HEADER_BYTES + 16 + TAG_BYTES]
        self.check_refused(longer, 64)

    def test_other_key(self) -> None:
        """Nor does another key open it."""
        self.check_refused(sealed(PLAIN[:40]), key=ObjectKey(bytes(32), 16))

    def test_no_header(self) -> None:
        """Headers that are none are refused, and those of other chunks."""
        header = new_header(bytes(32), 16)
        for wrong, chunk_bytes in ((header[:-1], 16), (b"", 16), (bytes(HEADER_BYTES), 16), (header, 32)):
            self.assertRaises(ChunkDamaged, PieceCipher, bytes(32), wrong, chunk_bytes)
        self.assertRaises(ChunkDamaged, PieceCipher(bytes(32), header, 16).open, 0, b"short", is_last=True)

    def test_counts(self) -> None:
        """Nothing has no chunks, and a byte more than a chunk two."""
        self.assertEqual([chunk_count(size, 16) for size in (0, 1, 16, 17)], [0, 1, 1, 2])


class MissingTests(SynchronousTestCase):
    """Pieces that are not where they were."""

    def test_piece_is_gone(self) -> None:
        """The run cannot be opened, and holds nothing."""
        stored = sealed(PLAIN)
        disk = Disk(stored, [])
        facts = facts_of(stored, [len(PLAIN)], chunk_bytes=16)
        version = ObjectVersion(
            1, 1, facts, "layout", True, ArchiveState.NOT_WANTED, None, None, 0.0, 0, None, 0
        )

        class NoPieces:
            """A record that has none."""

            def pieces(self, layout_id: str, *, after_ordinal: int, limit: int) -> Deferred[list[Piece]]:
                """Return none."""
                return maybeDeferred(list)

        opening = opened_run(
            NoPieces(),  # type: ignore[arg-type]
            disk.staging,
            version,
            KEY,
            offset_bytes=0,
            length_bytes=5,
            in_thread=run_here,
        )
        failure = self.failureResultOf(Deferred.fromCoroutine(opening))
        self.assertIn("are missing", str(failure.value))
