"""What every ``IStaging`` promises."""

import hashlib
import os
import zlib
from collections.abc import Callable
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from coldstore.interfaces.staging import (
    BLOCK_BYTES,
    BytesDamaged,
    DiskFault,
    IIncoming,
    IPieceReader,
    IStaging,
    RecalledBytes,
    RecallSlot,
    Received,
    WrongLength,
)
from coldstore.model.errors import StagingFull
from coldstore.model.objects import Piece
from coldstore.model.precedence import Precedence, Shares
from coldstore.util.asynchronous import returns_deferred
from coldstore.util.checksums import ALGORITHMS, crc32c, crc64nvme, new_digest

if TYPE_CHECKING:
    _Base = TestCase
else:
    _Base = object

KIB = 1024
MIB = 1024 * KIB
CAPACITY_BYTES = 96 * MIB
NONE = frozenset[str]()


@lru_cache(maxsize=32)
def content_of(size_bytes: int, seed: int = 1) -> bytes:
    """Bytes that look like nothing in particular, equal for equal seeds."""
    return Random(seed).randbytes(size_bytes)


def piece_of(received: Received) -> Piece:
    """The piece that a metadata row would name."""
    return Piece(
        ordinal=1, address=received.address, length_bytes=received.length_bytes, crc64nvme=received.crc64nvme
    )


def recalled(slot: int, content: bytes) -> RecalledBytes:
    """What a mover reports of a slot."""
    blocks = tuple(crc64nvme(content[at : at + BLOCK_BYTES]) for at in range(0, len(content), BLOCK_BYTES))
    return RecalledBytes(slot=slot, crc64nvme=crc64nvme(content), block_checksums=blocks)


@returns_deferred
async def put(
    staging: IStaging, content: bytes, algorithms: frozenset[str] = NONE, step: int = 200_000
) -> Received:
    """Have a piece received."""
    incoming = staging.receive(size_bytes=len(content), algorithms=algorithms)
    for at in range(0, len(content), step):
        incoming.write(content[at : at + step])
    return await incoming.finish()


@returns_deferred
async def whole(reader: IPieceReader) -> bytes:
    """Read a piece to its end, in odd steps."""
    parts: list[bytes] = []
    at = 0
    while at < reader.length_bytes:
        parts.append(await reader.read(at, min(1_000_003, reader.length_bytes - at)))
        at += len(parts[-1])
    return b"".join(parts)


def whole_digest(algorithm: str, content: bytes) -> bytes:
    """Return the digest of bytes that are taken at once."""
    digest = new_digest(algorithm)
    digest.update(content)
    return digest.digest()


class StagingContract(_Base):
    """Mixed into a test case that says how to make a disk and what can befall it."""

    staging: IStaging

    def make_staging(self, shares: Shares | None = None) -> IStaging:
        """Return a disk of CAPACITY_BYTES that is empty and not started."""
        raise NotImplementedError

    def reopened(self) -> Deferred[IStaging]:
        """End this run without ceremony and return the next one on the same disk, started."""
        raise NotImplementedError

    def damage(self, piece: Piece, offset_bytes: int) -> None:
        """Change a byte of a piece behind everybody's back."""
        raise NotImplementedError

    def lose(self, piece: Piece) -> None:
        """Let a piece that has more than 256 KiB vanish."""
        raise NotImplementedError

    def range_content(self, path: str, offset_bytes: int, length_bytes: int) -> bytes:
        """Read as a mover does."""
        raise NotImplementedError

    def descriptor_content(self, descriptor: int, offset_bytes: int, length_bytes: int) -> bytes:
        """Read from a descriptor that ``verified_range`` gave."""
        return os.pread(descriptor, length_bytes, offset_bytes)

    def fill(self, slot: RecallSlot, content: bytes) -> None:
        """Write to a slot as a mover does."""
        raise NotImplementedError

    def check_account(self) -> None:
        """Fail unless the account says what is there."""
        raise NotImplementedError

    @returns_deferred
    async def setUp(self) -> None:  # type: ignore[override]
        """Start an empty disk."""
        self.staging = self.make_staging()
        await self.staging.start()

    @returns_deferred
    async def tearDown(self) -> None:  # type: ignore[override]
        """The account is right at the end of every test."""
        self.check_account()
        await self.staging.stop()

    @returns_deferred
    async def read_back(self, received: Received) -> bytes:
        """Read a piece through a reader of its own."""
        reader = await self.staging.open(piece_of(received))
        try:
            return await whole(reader)
        finally:
            reader.close()

    def test_provides(self) -> None:
        """The implementation has every method and attribute of the interface."""
        verifyObject(IStaging, self.staging)
        incoming = self.staging.receive(size_bytes=1, algorithms=NONE)
        verifyObject(IIncoming, incoming)
        return incoming.abandon()  # type: ignore[return-value]

    @returns_deferred
    async def test_sizes(self) -> None:
        """What was received reads back byte for byte, with the right CRC64NVME, at every size around a limit."""
        for seed, size in enumerate(
            (
                1,
                511,
                4096,
                256 * KIB - 1,
                256 * KIB,
                256 * KIB + 1,
                MIB,
                BLOCK_BYTES - 1,
                BLOCK_BYTES,
                BLOCK_BYTES + 1,
                13 * MIB + 7,
            )
        ):
            content = content_of(size, seed)
            received = await put(self.staging, content)
            self.assertEqual(received.length_bytes, size)
            self.assertEqual(received.crc64nvme, crc64nvme(content))
            self.assertEqual(dict(received.digests), {})
            self.assertEqual(await self.read_back(received), content)

    @returns_deferred
    async def test_digests(self) -> None:
        """Every algorithm that was asked for is answered, for small and large pieces, however the bytes are cut."""
        for size, step in ((5000, 7), (3 * MIB + 1, 65_536), (6 * MIB, 3 * MIB)):
            content = content_of(size)
            received = await put(self.staging, content, frozenset(ALGORITHMS), step)
            self.assertEqual(
                dict(received.digests),
                {
                    "md5": hashlib.md5(content).digest(),
                    "sha1": hashlib.sha1(content).digest(),
                    "sha256": hashlib.sha256(content).digest(),
                    "crc32": zlib.crc32(content).to_bytes(4, "big"),
                    "crc32c": crc32c(content).to_bytes(4, "big"),
                    "crc64nvme": crc64nvme(content).to_bytes(8, "big"),
                    "sha512": hashlib.sha512(content).digest(),
                    **{name: whole_digest(name, content) for name in ("xxhash64", "xxhash3", "xxhash128")},
                },
            )

    def test_nonsense_is_refused(self) -> None:
        """An empty piece and an unknown algorithm raise at once, and reserve nothing."""
        before = self.staging.usage()
        self.assertRaises(ValueError, self.staging.receive, size_bytes=0, algorithms=NONE)
        self.assertRaises(ValueError, self.staging.receive, size_bytes=1, algorithms=frozenset({"sha3"}))
        self.assertEqual(self.staging.usage(), before)

    @returns_deferred
    async def test_wrong_length(self) -> None:
        """More or fewer bytes than announced make finish fail, and leave nothing."""
        for announced, written in (
            (100, 99),
            (100, 101),
            (MIB, MIB - 1),
            (MIB, MIB + 1),
            (MIB, 4 * MIB),
            (MIB, 0),
        ):
            before = self.staging.usage()
            incoming = self.staging.receive(size_bytes=announced, algorithms=frozenset({"md5"}))
            incoming.write(content_of(written))
            failure: Any = await self.assertFailure(incoming.finish(), WrongLength)
            self.assertEqual((failure.announced_bytes, failure.written_bytes), (announced, written))
            await incoming.abandon()
            self.assertEqual(self.staging.usage().used_bytes, before.used_bytes)
            self.check_account()

    @returns_deferred
    async def test_shorten(self) -> None:
        """A piece may be shorter than announced when that is said: as if the right length had been announced."""
        for announced, written in (
            (100, 1),
            (100, 100),
            (256 * KIB + 1, 256 * KIB),
            (MIB, 5),
            (BLOCK_BYTES + 1, BLOCK_BYTES),
            (3 * BLOCK_BYTES, 2 * BLOCK_BYTES + 7),
        ):
            content = content_of(written)
            incoming = self.staging.receive(size_bytes=announced, algorithms=frozenset({"md5"}))
            incoming.write(content)
            incoming.shorten()
            received = await incoming.finish()
            self.assertEqual(received.length_bytes, written)
            self.assertEqual(received.digests["md5"], hashlib.md5(content).digest())
            self.assertEqual(await self.read_back(received), content)
            self.check_account()
            await self.staging.discard([received.address])
        for announced in (100, MIB):
            incoming = self.staging.receive(size_bytes=announced, algorithms=NONE)
            incoming.shorten()
            await self.assertFailure(incoming.finish(), WrongLength)
            self.check_account()

    @returns_deferred
    async def test_abandon(self) -> None:
        """A piece abandoned at any point leaves nothing, gives its reservation back, and ignores what still comes."""
        for size in (100_000, 6 * MIB):
            for parts in range(4):
                before = self.staging.usage().used_bytes
                incoming = self.staging.receive(size_bytes=size, algorithms=frozenset({"md5", "sha256"}))
                for _ in range(parts):
                    incoming.write(content_of(size // 3))
                first, second = incoming.abandon(), incoming.abandon()
                incoming.write(b"late")
                await first
                await second
                self.assertEqual(self.staging.usage().used_bytes, before)
                self.check_account()

    @returns_deferred
    async def test_abandon_after_finish(self) -> None:
        """To abandon a piece that was finished changes nothing."""
        incoming = self.staging.receive(size_bytes=3, algorithms=NONE)
        incoming.write(b"abc")
        received = await incoming.finish()
        await incoming.abandon()
        self.assertEqual(await self.read_back(received), b"abc")

    @returns_deferred
    async def test_full(self) -> None:
        """What cannot be promised is refused at once; an abandoned promise can be given again."""
        most = self.staging.receive(size_bytes=CAPACITY_BYTES // 2, algorithms=NONE)
        self.assertRaises(
            StagingFull, self.staging.receive, size_bytes=CAPACITY_BYTES // 2 + 1, algorithms=NONE
        )
        await self.assertFailure(self.staging.reserve_recall([CAPACITY_BYTES // 2, MIB]), StagingFull)
        await most.abandon()
        again = self.staging.receive(size_bytes=CAPACITY_BYTES // 2 + 1, algorithms=NONE)
        await again.abandon()

    @returns_deferred
    async def test_small_pieces_are_refused_when_full(self) -> None:
        """Small pieces too are promised only what is there, and what was promised arrives."""
        pieces = []
        while True:
            try:
                pieces.append(self.staging.receive(size_bytes=250 * KIB, algorithms=NONE))
            except StagingFull:
                break
        self.assertGreater(len(pieces), CAPACITY_BYTES // (300 * KIB))
        self.assertLessEqual(len(pieces), CAPACITY_BYTES // (250 * KIB))
        content = content_of(250 * KIB)
        for each in pieces:
            each.write(content)
        received = await gatherResults([each.finish() for each in pieces])
        self.assertEqual(len({each.address for each in received}), len(pieces))
        self.assertEqual(await self.read_back(received[-1]), content)
        self.check_account()
        await self.staging.discard([each.address for each in received])

    @returns_deferred
    async def test_discard(self) -> None:
        """Discarded pieces are gone and their space is back; unknown addresses and repetition are harmless."""
        received = [
            await put(self.staging, content_of(size)) for size in (40 * KIB, 50 * KIB, 5 * MIB, 2 * MIB)
        ]
        keep = await put(self.staging, b"kept")
        addresses = [each.address for each in received]
        await self.staging.discard([*addresses, *addresses, "nonsense", "f-../../etc/passwd", ""])
        await self.staging.discard(addresses)
        for each in received:
            await self.assertFailure(self.staging.open(piece_of(each)), DiskFault)
        self.assertEqual(await self.read_back(keep), b"kept")
        # What small pieces around a living one took up may stay until that is moved.
        self.assertLess(self.staging.usage().used_bytes, 128 * KIB)
        await self.staging.discard([keep.address])
        self.staging = await self.reopened()
        self.assertEqual(self.staging.usage().used_bytes, 0)

    @returns_deferred
    async def scattered(self) -> list[str]:
        """Everything that is scattered, asked for in small steps."""
        found: list[str] = []
        while more := await self.staging.scattered(after=found[-1] if found else "", limit=7):
            self.assertLessEqual(len(more), 7)
            found += more
        return found

    @returns_deferred
    async def test_scattered(self) -> None:
        """
        Of small pieces most of which died, the living are named; received anew and discarded they give back what the dead
        held, so that in the end all of it takes no more than twice what lives.
        """
        contents = [content_of(20 * KIB, seed) for seed in range(400)]
        received = [await put(self.staging, each) for each in contents]
        large = await put(self.staging, content_of(3 * MIB))
        self.assertEqual(await self.scattered(), [])
        keep = {each.address: each for each in received[::10]}
        await self.staging.discard([each.address for each in received if each.address not in keep])
        self.staging = await self.reopened()
        await self.staging.stored(after="", limit=1000)
        found = await self.scattered()
        self.assertEqual(found, sorted(found))
        self.assertLessEqual(set(found), set(keep))
        self.assertGreater(len(found), len(keep) // 2)
        for address in found:
            content = await self.read_back(keep[address])
            moved = await put(self.staging, content)
            self.assertNotEqual(moved.address, address)
            keep[moved.address] = moved
        await self.staging.discard(found)
        for address in found:
            del keep[address]
        self.assertEqual(await self.scattered(), [])
        self.assertLess(self.staging.usage().used_bytes - 3 * MIB, 2.1 * 21 * KIB * len(keep))
        self.check_account()
        for each in keep.values():
            self.assertIn(await self.read_back(each), contents)
        self.assertEqual(await self.read_back(large), content_of(3 * MIB))
        await self.assertFailure(self.staging.scattered(after="", limit=0), ValueError)

    @returns_deferred
    async def test_pinned_pieces_can_be_moved(self) -> None:
        """A piece that is received anew and discarded while it is read stays where it is for who reads it."""
        received = [await put(self.staging, content_of(50 * KIB, seed)) for seed in range(20)]
        await self.staging.discard([each.address for each in received[1:]])
        reader = await self.staging.open(piece_of(received[0]))
        moved = await put(self.staging, content_of(50 * KIB, 0))
        gone = self.staging.discard([received[0].address])
        self.assertEqual(await whole(reader), content_of(50 * KIB, 0))
        self.assertNoResult(gone)
        reader.close()
        await gone
        self.assertEqual(await self.read_back(moved), content_of(50 * KIB, 0))

    @returns_deferred
    async def test_precedence(self) -> None:
        """Who comes later in the order of precedence may use what the earlier ones must leave, and nobody more."""
        await self.staging.stop()
        self.staging = self.make_staging(Shares(begun=0.1, recall=0.25, urgent=0.05))
        await self.staging.start()
        part = CAPACITY_BYTES // 100
        taken = self.staging.receive(size_bytes=64 * part, algorithms=NONE)
        self.assertLess(self.staging.room_bytes(Precedence.NEW_UPLOAD), 1.01 * part)
        self.assertRaises(StagingFull, self.staging.receive, size_bytes=2 * part, algorithms=NONE)
        begun = Precedence.BEGUN_UPLOAD
        further = self.staging.receive(size_bytes=9 * part, algorithms=NONE, precedence=begun)
        self.assertRaises(
            StagingFull, self.staging.receive, size_bytes=4 * part, algorithms=NONE, precedence=begun
        )
        recall = await self.staging.reserve_recall([19 * part])
        await self.assertFailure(self.staging.reserve_recall([5 * part]), StagingFull)
        urgent = await self.staging.reserve_recall([4 * part], precedence=Precedence.URGENT)
        await self.assertFailure(
            self.staging.reserve_recall([5 * part], precedence=Precedence.URGENT), StagingFull
        )
        for space in (recall, urgent):
            await self.staging.release_recall(space)
        for incoming in (taken, further):
            await incoming.abandon()
        for precedence, share in ((Precedence.NEW_UPLOAD, 0.35), (begun, 0.25), (Precedence.URGENT, 0.0)):
            room = CAPACITY_BYTES - int(CAPACITY_BYTES * share)
            self.assertEqual(self.staging.room_bytes(precedence), room)

    @returns_deferred
    async def test_pinned_pieces_stay(self) -> None:
        """A discard waits for open readers and counted pins; until then the bytes are there."""
        for size in (1000, 5 * MIB):
            content = content_of(size)
            received = await put(self.staging, content)
            piece = piece_of(received)
            reader = await self.staging.open(piece)
            self.staging.pin(piece)
            self.staging.pin(piece)
            gone = self.staging.discard([received.address])
            self.staging.unpin(piece)
            self.staging.unpin(piece)
            self.assertNoResult(gone)
            self.assertEqual(await whole(reader), content)
            reader.close()
            reader.close()
            await gone
            await self.assertFailure(self.staging.open(piece), DiskFault)
            self.assertRaises(ValueError, self.staging.unpin, piece)

    @returns_deferred
    async def test_discarding_one_of_many_does_not_wait_for_the_pinned(self) -> None:
        """A pinned piece holds up only itself."""
        first, second = await put(self.staging, content_of(MIB)), await put(self.staging, content_of(2 * MIB))
        self.staging.pin(piece_of(first))
        both = self.staging.discard([first.address, second.address])
        await self.staging.discard([second.address])
        await self.assertFailure(self.staging.open(piece_of(second)), DiskFault)
        self.assertNoResult(both)
        self.staging.unpin(piece_of(first))
        await both

    @returns_deferred
    async def test_damage(self) -> None:
        """A damaged block is never served, by read or by range; the blocks beside it are."""
        for size, bad, block in ((1000, 999, 0), (9 * MIB, 5 * MIB, 1)):
            content = content_of(size)
            received = await put(self.staging, content)
            piece = piece_of(received)
            self.damage(piece, bad)
            reader = await self.staging.open(piece)
            failure: Any = await self.assertFailure(reader.read(bad, 1), BytesDamaged)
            self.assertEqual((failure.address, failure.block), (received.address, block))
            await self.assertFailure(reader.verified_range(0, size), BytesDamaged)
            await self.assertFailure(reader.read(bad // BLOCK_BYTES * BLOCK_BYTES, 10), BytesDamaged)
            if block:
                self.assertEqual(await reader.read(0, BLOCK_BYTES), content[:BLOCK_BYTES])
                self.assertEqual(await reader.read(8 * MIB, MIB), content[8 * MIB :])
            reader.close()

    @returns_deferred
    async def test_at_hand(self) -> None:
        """What is at hand is the whole piece, never anything else: not of a large, a damaged or a lost one."""
        for size in (1, 4096, 64 * KIB):
            content = content_of(size)
            piece = piece_of(await put(self.staging, content))
            for _ in range(2):
                self.assertIn(self.staging.at_hand(piece), (None, content))
            reader = await self.staging.open(piece)
            self.assertEqual(await reader.read(0, size), content)
            is_looked_at = self.staging.at_hand(piece) is not None
            self.damage(piece, size // 2)
            for _ in range(2):
                self.assertIsNone(self.staging.at_hand(piece))
                if is_looked_at:
                    # What was seen to be damaged is not given out because it was checked before.
                    await self.assertFailure(reader.read(0, size), BytesDamaged)
            reader.close()
            shorter = Piece(
                ordinal=1, address=piece.address, length_bytes=size - 1, crc64nvme=crc64nvme(content[:-1])
            )
            for _ in range(2):
                self.assertIsNone(self.staging.at_hand(shorter))
        large = piece_of(await put(self.staging, content_of(5 * MIB)))
        for _ in range(2):
            self.assertIsNone(self.staging.at_hand(large))

    @returns_deferred
    async def test_lost(self) -> None:
        """A piece that vanished is a fault that names it."""
        received = await put(self.staging, content_of(5 * MIB))
        self.lose(piece_of(received))
        failure = await self.assertFailure(self.staging.open(piece_of(received)), DiskFault)
        self.assertIn(received.address.removeprefix("f-"), str(failure))

    @returns_deferred
    async def test_reading_outside(self) -> None:
        """Bounds outside the piece, too much at once and a closed reader raise ValueError."""
        received = await put(self.staging, content_of(9 * MIB))
        reader = await self.staging.open(piece_of(received))
        for offset, length in ((-1, 2), (9 * MIB, 1), (0, -1), (0, BLOCK_BYTES + 1)):
            await self.assertFailure(reader.read(offset, length), ValueError)
        await self.assertFailure(reader.verified_range(0, 9 * MIB + 1), ValueError)
        self.assertEqual(await reader.read(9 * MIB, 0), b"")
        reader.close()
        await self.assertFailure(reader.read(0, 1), ValueError)
        await self.assertFailure(reader.verified_range(0, 1), ValueError)

    @returns_deferred
    async def test_verified_range(self) -> None:
        """A descriptor and an offset give the very bytes, for small and large pieces."""
        for size, offset, length in ((5000, 10, 4000), (9 * MIB, 3 * MIB, 5 * MIB)):
            content = content_of(size)
            reader = await self.staging.open(piece_of(await put(self.staging, content)))
            descriptor, at = await reader.verified_range(offset, length)
            self.assertEqual(
                self.descriptor_content(descriptor, at, length), content[offset : offset + length]
            )
            reader.close()

    @returns_deferred
    async def test_many_readers(self) -> None:
        """Readers that ask for the same bytes at the same time all get them, and closing one does not harm another."""
        content = content_of(6 * MIB)
        received = await put(self.staging, content)
        readers = [await self.staging.open(piece_of(received)) for _ in range(8)]
        reads = [reader.read(at, MIB) for reader in readers for at in (0, 3 * MIB + 512 * KIB, 5 * MIB)]
        readers[0].close()
        results = await gatherResults(reads)
        for at, result in zip((0, 3 * MIB + 512 * KIB, 5 * MIB) * 8, results, strict=True):
            self.assertEqual(result, content[at : at + MIB])
        for reader in readers:
            reader.close()

    @returns_deferred
    async def test_ranges(self) -> None:
        """Ranges name the bytes with their checksum; bounds inside a block are refused."""
        content = content_of(10 * MIB)
        piece = piece_of(await put(self.staging, content))
        for offset, length in ((0, 10 * MIB), (0, 8 * MIB), (BLOCK_BYTES, BLOCK_BYTES), (8 * MIB, 2 * MIB)):
            found = await self.staging.ranges(piece, offset_bytes=offset, length_bytes=length)
            self.assertLessEqual(len(found), 3)
            parts = [self.range_content(each.path, each.offset_bytes, each.length_bytes) for each in found]
            self.assertEqual(b"".join(parts), content[offset : offset + length])
            self.assertEqual([crc64nvme(part) for part in parts], [each.crc64nvme for each in found])
        for offset, length in (
            (1, BLOCK_BYTES),
            (0, BLOCK_BYTES + 1),
            (0, 11 * MIB),
            (-BLOCK_BYTES, BLOCK_BYTES),
        ):
            await self.assertFailure(
                self.staging.ranges(piece, offset_bytes=offset, length_bytes=length), ValueError
            )
        small = piece_of(await put(self.staging, b"small"))
        (only,) = await self.staging.ranges(small, offset_bytes=0, length_bytes=5)
        self.assertEqual(self.range_content(only.path, only.offset_bytes, only.length_bytes), b"small")
        self.assertEqual(only.crc64nvme, crc64nvme(b"small"))
        (whole_one,) = await self.staging.ranges(piece, offset_bytes=0, length_bytes=10 * MIB)
        self.assertEqual(await self.staging.places([small, piece, small]), [only, whole_one, only])
        self.assertEqual(await self.staging.places([]), [])
        await self.staging.discard([small.address])
        await self.assertFailure(self.staging.places([piece, small]), DiskFault)

    @returns_deferred
    async def test_scratch(self) -> None:
        """A file of our own holds what was given to it, counts as used, and is gone when it is dropped, or in the next run."""
        before = self.staging.usage().used_bytes
        content = content_of(3 * MIB + 5)

        def write(put: Callable[[bytes], object]) -> str:
            for begin in range(0, len(content), 70_000):
                put(content[begin : begin + 70_000])
            return "result"

        made, result = await self.staging.scratch(write)
        self.assertEqual(result, "result")
        self.assertEqual((made.size_bytes, made.crc64nvme), (len(content), crc64nvme(content)))
        self.assertEqual(self.range_content(made.path, 0, len(content)), content)
        self.assertGreaterEqual(self.staging.usage().used_bytes, before + len(content))
        self.check_account()
        empty, _ = await self.staging.scratch(lambda put: None)
        self.assertEqual((empty.size_bytes, empty.crc64nvme), (0, 0))
        for _ in range(2):
            await self.staging.drop_scratch(made)
            await self.staging.drop_scratch(empty)
        self.assertEqual(self.staging.usage().used_bytes, before)
        self.assertRaises(FileNotFoundError, self.range_content, made.path, 0, 1)
        await self.staging.scratch(write)
        self.staging = await self.reopened()
        self.check_account()
        self.assertEqual(await self.staging.stored(after="", limit=10), [])
        self.assertEqual(self.staging.usage().used_bytes, before)

    @returns_deferred
    async def test_scratch_that_is_not_made(self) -> None:
        """When making it fails, what failed is told and nothing is left."""

        def write(put: Callable[[bytes], object]) -> None:
            put(content_of(2 * MIB))
            raise LookupError("no more")

        await self.assertFailure(self.staging.scratch(write), LookupError)
        self.assertEqual(self.staging.usage().used_bytes, 0)

    @returns_deferred
    async def test_recall(self) -> None:
        """What a mover put into slots becomes pieces, in the order of the report; the rest of the space comes back."""
        contents = [content_of(size, size) for size in (1, 100_000, 9 * MIB + 5, 4096, 3 * MIB)]
        before = self.staging.usage()
        space = await self.staging.reserve_recall([len(each) for each in contents])
        self.assertEqual([slot.length_bytes for slot in space.slots], [len(each) for each in contents])
        self.assertGreaterEqual(
            self.staging.usage().reserved_bytes - before.reserved_bytes, sum(map(len, contents))
        )
        for place, content in zip(space.slots, contents, strict=True):
            self.fill(place, content)
        for place, content in zip(space.slots, contents, strict=True):
            self.assertEqual(self.range_content(place.path, place.offset_bytes, place.length_bytes), content)
        order = (2, 0, 3)
        addresses = await self.staging.adopt_recalled(
            space, [recalled(slot, contents[slot]) for slot in order]
        )
        self.assertEqual(self.staging.usage().reserved_bytes, before.reserved_bytes)
        self.assertLess(self.staging.usage().used_bytes - before.used_bytes, 10 * MIB)
        self.check_account()
        for slot, address in zip(order, addresses, strict=True):
            content = contents[slot]
            received = Received(
                address=address, length_bytes=len(content), crc64nvme=crc64nvme(content), digests={}
            )
            self.assertEqual(await self.read_back(received), content)
            found = await self.staging.ranges(piece_of(received), offset_bytes=0, length_bytes=len(content))
            parts = [self.range_content(each.path, each.offset_bytes, each.length_bytes) for each in found]
            self.assertEqual(b"".join(parts), content)
        await self.assertFailure(self.staging.adopt_recalled(space, []), ValueError)
        await self.staging.release_recall(space)
        await self.staging.discard(addresses[:1])
        self.assertLess(self.staging.usage().used_bytes - before.used_bytes, MIB)
        self.check_account()
        await self.staging.discard(addresses)
        self.assertEqual(self.staging.usage().used_bytes, before.used_bytes)

    @returns_deferred
    async def test_recalled_bytes_that_are_not_what_was_reported(self) -> None:
        """A slot whose bytes differ from the mover's report is never served."""
        space = await self.staging.reserve_recall([MIB])
        self.fill(space.slots[0], content_of(MIB, 1))
        (address,) = await self.staging.adopt_recalled(space, [recalled(0, content_of(MIB, 2))])
        piece = Piece(ordinal=1, address=address, length_bytes=MIB, crc64nvme=crc64nvme(content_of(MIB, 2)))
        reader = await self.staging.open(piece)
        await self.assertFailure(reader.read(0, 10), BytesDamaged)
        reader.close()

    @returns_deferred
    async def test_recall_nonsense(self) -> None:
        """Contradicting checksums, unknown or double slots and empty extents raise ValueError and keep the space."""
        content = content_of(5 * MIB)
        await self.assertFailure(self.staging.reserve_recall([]), ValueError)
        await self.assertFailure(self.staging.reserve_recall([5, 0]), ValueError)
        space = await self.staging.reserve_recall([len(content)])
        good = recalled(0, content)
        wrong = RecalledBytes(slot=0, crc64nvme=good.crc64nvme ^ 1, block_checksums=good.block_checksums)
        for bad in ([wrong], [recalled(1, content)], [good, good]):
            await self.assertFailure(self.staging.adopt_recalled(space, bad), ValueError)
        await self.staging.release_recall(space)
        await self.staging.release_recall(space)
        self.assertEqual(self.staging.usage().reserved_bytes, 0)

    @returns_deferred
    async def test_recall_of_which_nothing_arrived(self) -> None:
        """Nothing is kept of it."""
        space = await self.staging.reserve_recall([MIB, MIB])
        self.assertEqual(await self.staging.adopt_recalled(space, []), [])
        self.assertEqual((self.staging.usage().used_bytes, self.staging.usage().reserved_bytes), (0, 0))

    @returns_deferred
    async def test_next_run(self) -> None:
        """Another run has every piece, nothing of what was arriving, the same account, and lists what it found in order."""
        contents = {
            (await put(self.staging, content_of(size, size))).address: content_of(size, size)
            for size in (1, 2000, 3000, 200 * KIB, MIB, 6 * MIB, 7 * MIB)
        }
        space = await self.staging.reserve_recall([1000, MIB])
        self.fill(space.slots[0], content_of(1000))
        (address,) = await self.staging.adopt_recalled(space, [recalled(0, content_of(1000))])
        contents[address] = content_of(1000)
        gone = [each for each in contents if len(contents[each]) in (2000, MIB)]
        await self.staging.discard(gone)
        for each in gone:
            del contents[each]
        self.assertEqual(await self.staging.stored(after="", limit=100), [])
        arriving = self.staging.receive(size_bytes=3 * MIB, algorithms=NONE)
        arriving.write(content_of(2 * MIB))
        small = self.staging.receive(size_bytes=300, algorithms=NONE)
        small.write(b"x")
        await self.staging.reserve_recall([2 * MIB])
        self.staging = await self.reopened()
        self.check_account()
        self.assertEqual(self.staging.usage().reserved_bytes, 0)
        fresh = await put(self.staging, b"of this run")
        found: list[str] = []
        while more := await self.staging.stored(after=found[-1] if found else "", limit=2):
            found.extend(more)
        self.assertEqual(found, sorted(contents))
        self.assertNotIn(fresh.address, found)
        for address, content in contents.items():
            received = Received(
                address=address, length_bytes=len(content), crc64nvme=crc64nvme(content), digests={}
            )
            self.assertEqual(await self.read_back(received), content)
        await self.staging.discard(found)
        self.assertEqual(await self.staging.stored(after="", limit=100), [])
        self.check_account()

    @returns_deferred
    async def test_cancelled_finish(self) -> None:
        """When nobody waits for a finished piece any more, nothing of it stays."""
        for size in (1000, 2 * MIB):
            before = self.staging.usage().used_bytes
            incoming = self.staging.receive(size_bytes=size, algorithms=frozenset({"md5"}))
            incoming.write(content_of(size))
            done = incoming.finish()
            done.addErrback(lambda _: None)
            if not done.called:
                done.cancel()
                await done
                await incoming.abandon()
                await self.staging.stop()
                self.staging = await self.reopened()
                self.assertEqual(await self.staging.stored(after="", limit=10), [])
                self.assertEqual(self.staging.usage().used_bytes, before)

    @returns_deferred
    async def test_stop_twice(self) -> None:
        """Stopping is repeatable, and what was arriving is dropped."""
        incoming = self.staging.receive(size_bytes=2 * MIB, algorithms=NONE)
        incoming.write(content_of(MIB))
        await self.staging.stop()
        await self.staging.stop()
        self.assertRaises(DiskFault, self.staging.receive, size_bytes=1, algorithms=NONE)
        self.staging = await self.reopened()
