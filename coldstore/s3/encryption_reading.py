"""
A run of an encrypted object's bytes: which stored bytes it takes, and how they are read, checked and decrypted on their way.

Pieces on the disk need not be those that were encrypted: what comes back from tape lies there as it was cut for the tapes. So
places are reckoned in the stored object, where the encrypted pieces follow one another.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from coldstore.interfaces.metadata import IMetadataStore
from coldstore.interfaces.staging import BLOCK_BYTES, BytesDamaged, IStaging
from coldstore.model.objects import ObjectVersion, Piece, VersionFacts
from coldstore.s3.body import InThread
from coldstore.s3.encryption import ObjectKey
from coldstore.s3.encryption_pieces import (
    HEADER_BYTES,
    TAG_BYTES,
    WHOLE,
    ChunkDamaged,
    PieceCipher,
    chunk_count,
    stored_bytes,
)
from coldstore.s3.part_numbers import part_numbers
from coldstore.s3.part_sizes import part_runs
from coldstore.s3.pieces import PinnedRun, Segment, cut, pieces_of

STEP_BYTES = 512 * 1024
"""What is read and decrypted at once."""
INLINE_BYTES = 64 * 1024
"""Up to this much is decrypted at once (some 50 microseconds); a thread would cost more than it saves."""


class Extent(NamedTuple):
    """
    The bytes that are wanted of one encrypted piece.

    :ivar begin_bytes: where the piece begins, in the object
    :ivar plain_bytes: the size of the piece
    :ivar stored_begin_bytes: where it begins in the stored object
    :ivar part_number: with which it was uploaded
    :ivar offset_bytes: where what is wanted begins, in the object
    """

    begin_bytes: int
    plain_bytes: int
    stored_begin_bytes: int
    part_number: int
    chunk_bytes: int
    offset_bytes: int
    length_bytes: int

    @property
    def end_bytes(self) -> int:
        """Where what is wanted ends, in the object."""
        return self.offset_bytes + self.length_bytes

    @property
    def last_index(self) -> int:
        """The number of the piece's last chunk."""
        return chunk_count(self.plain_bytes, self.chunk_bytes) - 1

    def chunks(self, offset_bytes: int, length_bytes: int) -> range:
        """Return the numbers of the chunks that hold these bytes of the object."""
        first = offset_bytes - self.begin_bytes
        return range(first // self.chunk_bytes, chunk_count(first + length_bytes, self.chunk_bytes))

    def stored_chunk_bytes(self, index: int) -> int:
        """Return the stored length of a chunk."""
        left_bytes = self.plain_bytes - index * self.chunk_bytes
        return min(left_bytes, self.chunk_bytes) + TAG_BYTES

    def stored_runs(self) -> Iterator[tuple[int, int]]:
        """Return offset and length, in the stored object, of what must be read: the header, and chunks."""
        yield self.stored_begin_bytes, HEADER_BYTES
        chunks = self.chunks(self.offset_bytes, self.length_bytes)
        first = self.stored_begin_bytes + HEADER_BYTES + chunks.start * (self.chunk_bytes + TAG_BYTES)
        whole = (len(chunks) - 1) * (self.chunk_bytes + TAG_BYTES)
        yield first, whole + self.stored_chunk_bytes(chunks.stop - 1)


def extents_of(facts: VersionFacts, offset_bytes: int, length_bytes: int) -> list[Extent]:
    """Return what is wanted of each encrypted piece for a run, not empty, of an encrypted object's bytes."""
    encryption = facts.encryption
    assert encryption is not None, "the object is encrypted"
    if encryption.part_sizes:
        sizes, numbers = part_runs(encryption.part_sizes), part_numbers(encryption.part_numbers)
    else:
        sizes, numbers = [(encryption.size_bytes, 1)], iter((WHOLE,))
    found: list[Extent] = []
    begin_bytes = stored_begin_bytes = 0
    end_bytes = offset_bytes + length_bytes
    for plain_bytes, count in sizes:
        stored = stored_bytes(plain_bytes, encryption.chunk_bytes)
        passed = 0 if plain_bytes == 0 else max(0, min(count, (offset_bytes - begin_bytes) // plain_bytes))
        for number, part_number in zip(range(passed, count), islice(numbers, passed, count), strict=True):
            begin = begin_bytes + number * plain_bytes
            first, last = max(begin, offset_bytes), min(begin + plain_bytes, end_bytes)
            if begin >= end_bytes:
                return found
            if first < last:
                found.append(
                    Extent(
                        begin_bytes=begin,
                        plain_bytes=plain_bytes,
                        stored_begin_bytes=stored_begin_bytes + number * stored,
                        part_number=part_number,
                        chunk_bytes=encryption.chunk_bytes,
                        offset_bytes=first,
                        length_bytes=last - first,
                    )
                )
        begin_bytes += plain_bytes * count
        stored_begin_bytes += stored * count
    return found


def segments_for(pieces: Sequence[Piece], extents: Iterable[Extent]) -> list[Segment]:
    """Return what must be read of the pieces on the disk, which hold the stored object from its beginning on."""
    runs: list[tuple[int, int]] = []
    for extent in extents:
        for offset_bytes, length_bytes in extent.stored_runs():
            if runs and sum(runs[-1]) == offset_bytes:
                offset_bytes, length_bytes = runs[-1][0], runs[-1][1] + length_bytes
                runs.pop()
            runs.append((offset_bytes, length_bytes))
    return [segment for run in runs for segment in cut(pieces, *run)]


class OpenedRun:
    """
    The bytes of an encrypted object, decrypted, step by step in their order: a ``Run``.

    A step ends where a chunk does. Large ones are decrypted in a thread.
    """

    has_file = False

    def __init__(
        self, run: PinnedRun, extents: Sequence[Extent], key: ObjectKey, *, name: str, in_thread: InThread
    ) -> None:
        """
        :param run: of the segments that the extents need; closed with this one
        :param name: of the object's bytes, for who is told of damage
        """
        self._run = run
        self._extents = extents
        self._key = key
        self._name = name
        self._in_thread = in_thread
        self._index = 0
        self._offset_bytes = extents[0].offset_bytes
        self._cipher: PieceCipher | None = None
        self._cipher_index = -1
        self._first: tuple[tuple[int, int, int], bytes] | None = None

    def peek(self, most_bytes: int = STEP_BYTES) -> tuple[int, int, int] | None:
        """Return (extent, offset in the object, length) of the next step; None at the end."""
        if self._index == len(self._extents):
            return None
        extent = self._extents[self._index]
        chunk_bytes = extent.chunk_bytes
        within = self._offset_bytes - extent.begin_bytes
        whole = max(min(most_bytes, STEP_BYTES), chunk_bytes) // chunk_bytes * chunk_bytes
        # To the end of a chunk: the next step begins with a whole one.
        end_bytes = min(extent.begin_bytes + within // chunk_bytes * chunk_bytes + whole, extent.end_bytes)
        return self._index, self._offset_bytes, end_bytes - self._offset_bytes

    def next_step(self, most_bytes: int = STEP_BYTES) -> tuple[int, int, int] | None:
        """Return what ``peek`` does, and go on to the step after it."""
        step = self.peek(most_bytes)
        if step is not None:
            self._offset_bytes += step[2]
            if self._offset_bytes == self._extents[self._index].end_bytes:
                self._index += 1
                if self._index < len(self._extents):
                    self._offset_bytes = self._extents[self._index].offset_bytes
        return step

    async def check_first(self) -> None:
        """Read the first step, which is kept for who asks for it."""
        step = self.peek()
        assert step is not None, "a run has at least one byte"
        self._first = step, await self._opened(step)

    async def read(self, step: tuple[int, int, int]) -> bytes:
        """
        Return the bytes of a step; the steps are read in their order, each once.

        :raise BytesDamaged: they are not what was encrypted, or what was written
        :raise DiskFault: the disk failed
        """
        first, self._first = self._first, None
        if first is not None:
            assert first[0] == step, "the first step is read first, and whole"
            return first[1]
        return await self._opened(step)

    def close(self) -> None:
        """Let go of everything. Repeatable."""
        self._run.close()

    async def _opened(self, step: tuple[int, int, int]) -> bytes:
        index, offset_bytes, length_bytes = step
        extent = self._extents[index]
        chunks = extent.chunks(offset_bytes, length_bytes)
        try:
            if self._cipher is None or self._cipher_index != index:
                self._cipher, self._cipher_index = (
                    self._key.cipher(await self._stored(HEADER_BYTES), extent.part_number),
                    index,
                )
            stored = await self._stored(sum(map(extent.stored_chunk_bytes, chunks)))
            opening = _Opening(self._cipher, extent, chunks, stored)
            if length_bytes <= INLINE_BYTES:
                opening.run()
            else:
                await self._in_thread(opening.run)
        except ChunkDamaged:
            raise BytesDamaged(self._name, extent.stored_begin_bytes // BLOCK_BYTES) from None
        return opening.taken(offset_bytes, length_bytes)

    async def _stored(self, length_bytes: int) -> bytes:
        blocks = []
        while length_bytes:
            step = self._run.next_step(length_bytes)
            assert step is not None, "segments hold what their extents need"
            block = await self._run.read(step)
            blocks.append(block)
            length_bytes -= len(block)
        return b"".join(blocks)


class _Opening:
    """Some consecutive chunks of one piece: decrypted by ``run``, in any thread."""

    def __init__(self, cipher: PieceCipher, extent: Extent, chunks: range, stored: bytes) -> None:
        self._cipher = cipher
        self._extent = extent
        self._chunks = chunks
        self._stored = memoryview(stored)
        self._plain = b""

    def run(self) -> None:
        """Decrypt; raises ``ChunkDamaged``."""
        begin, plain = 0, []
        last = self._extent.last_index
        for index in self._chunks:
            end = begin + self._extent.stored_chunk_bytes(index)
            plain.append(self._cipher.open(index, self._stored[begin:end], is_last=index == last))
            begin = end
        self._plain = b"".join(plain)

    def taken(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Return those bytes of the object that lie within."""
        skipped = offset_bytes - self._extent.begin_bytes - self._chunks.start * self._extent.chunk_bytes
        if skipped == 0 and length_bytes == len(self._plain):
            return self._plain
        return self._plain[skipped : skipped + length_bytes]


async def opened_run(
    store: IMetadataStore,
    staging: IStaging,
    version: ObjectVersion,
    key: ObjectKey,
    *,
    offset_bytes: int,
    length_bytes: int,
    in_thread: InThread,
    piece: Piece | None = None,
) -> OpenedRun:
    """
    Find and pin what holds a run, not empty, of an encrypted version's bytes.

    :param piece: the one that holds all of them, where that is known
    :raise DiskFault: when pieces are missing or being freed: the version has probably moved, read it again
    """
    extents = extents_of(version.facts, offset_bytes, length_bytes)
    needed_bytes = sum(list(extents[-1].stored_runs())[-1])
    pieces = [piece] if piece is not None else await pieces_of(store, version, needed_bytes)
    run = PinnedRun(staging, segments_for(pieces, extents))
    return OpenedRun(run, extents, key, name=f"layout {version.layout_id}", in_thread=in_thread)


def opened_at_hand(
    staging: IStaging,
    version: ObjectVersion,
    piece: Piece | None,
    key: ObjectKey,
    *,
    offset_bytes: int,
    length_bytes: int,
) -> bytes | None:
    """
    Return a run of a small object's bytes that can be had at once, else None.

    :raise BytesDamaged: they are not what was encrypted
    """
    content = None if piece is None or length_bytes > INLINE_BYTES else staging.at_hand(piece)
    if content is None:
        return None
    (extent,) = extents_of(version.facts, offset_bytes, length_bytes)
    chunks = extent.chunks(offset_bytes, length_bytes)
    header, (first, length) = HEADER_BYTES, list(extent.stored_runs())[1]
    try:
        cipher = key.cipher(content[:header], extent.part_number)
        opening = _Opening(cipher, extent, chunks, content[first : first + length])
        opening.run()
    except ChunkDamaged:
        raise BytesDamaged(f"layout {version.layout_id}", 0) from None
    return opening.taken(offset_bytes, length_bytes)
