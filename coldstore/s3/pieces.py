"""The pieces that hold a run of a version's bytes: found, kept in place, and read one after the other."""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from coldstore.interfaces.metadata import IMetadataStore
from coldstore.interfaces.staging import BLOCK_BYTES, DiskFault, IPieceReader, IStaging
from coldstore.model.objects import ObjectVersion, Piece

PAGE_FIRST = 16
PAGE = 1000
"""Pieces asked for at first, and then: most objects have one, some ten thousand."""


class Segment(NamedTuple):
    """The bytes of one piece that are wanted."""

    piece: Piece
    offset_bytes: int
    length_bytes: int


def cut(pieces: Iterable[Piece], offset_bytes: int, length_bytes: int) -> list[Segment]:
    """Return the segments of consecutive pieces that hold the given run of their bytes."""
    segments = []
    begin, end, position = offset_bytes, offset_bytes + length_bytes, 0
    for piece in pieces:
        first, last = max(begin, position), min(end, position + piece.length_bytes)
        if first < last:
            segments.append(Segment(piece=piece, offset_bytes=first - position, length_bytes=last - first))
        position += piece.length_bytes
    return segments


class Run(Protocol):
    """Bytes on their way to somebody, walked along in steps of (where, offset, length in bytes)."""

    has_file: bool
    """Whether they lie in a file as they are to be sent."""

    def peek(self, most_bytes: int = ..., /) -> tuple[int, int, int] | None:
        """Return the next step; None at the end."""

    def next_step(self, most_bytes: int = ..., /) -> tuple[int, int, int] | None:
        """Return what ``peek`` does, and go on to the step after it."""

    async def check_first(self) -> None:
        """Find out whether the first bytes can be had; fails as ``read``."""

    async def read(self, step: tuple[int, int, int], /) -> bytes:
        """Return the bytes of a step; fails with ``BytesDamaged`` or ``DiskFault``."""

    def close(self) -> None:
        """Let go of everything. Repeatable."""


class PinnedRun:
    """
    A run of a version's bytes whose pieces stay on disk until ``close``, even when the version goes meanwhile.

    At most one piece is open at a time. ``next_step`` walks along the run in steps that end at block boundaries.
    """

    has_file = True

    def __init__(self, staging: IStaging, segments: list[Segment]) -> None:
        """:raise DiskFault: when a piece is being freed; nothing is held then"""
        self._staging = staging
        self._segments = segments
        self._pinned: list[Piece] = []
        self._index = 0
        self._done_bytes = 0
        self._reader: IPieceReader | None = None
        self._reader_index = -1
        self._is_closed = False
        try:
            for segment in segments:
                staging.pin(segment.piece)
                self._pinned.append(segment.piece)
        except DiskFault:
            self.close()
            raise

    def peek(self, most_bytes: int = BLOCK_BYTES) -> tuple[int, int, int] | None:
        """Return (segment, offset in its piece, length) of the next step of at most ``most_bytes``; None at the end."""
        if self._index == len(self._segments):
            return None
        segment = self._segments[self._index]
        offset_bytes = segment.offset_bytes + self._done_bytes
        length_bytes = min(
            segment.length_bytes - self._done_bytes, BLOCK_BYTES - offset_bytes % BLOCK_BYTES, most_bytes
        )
        return self._index, offset_bytes, length_bytes

    def next_step(self, most_bytes: int = BLOCK_BYTES) -> tuple[int, int, int] | None:
        """Return what ``peek`` does, and go on to the step after it."""
        step = self.peek(most_bytes)
        if step is not None:
            self._done_bytes += step[2]
            if self._done_bytes == self._segments[self._index].length_bytes:
                self._index, self._done_bytes = self._index + 1, 0
        return step

    async def reader(self, index: int) -> IPieceReader:
        """Return the open reader of a segment's piece; the one before it is closed."""
        piece = self._segments[index].piece
        if self._reader is None or self._segments[self._reader_index].piece != piece:
            self._close_reader()
            reader = await self._staging.open(piece)
            if self._is_closed:
                reader.close()
                raise DiskFault("the run was closed while a piece was being opened")
            self._reader, self._reader_index = reader, index
        return self._reader

    async def check_first(self) -> None:
        """
        Check the first block.

        :raise BytesDamaged: it is not what was written
        :raise DiskFault: the disk failed
        """
        step = self.peek()
        assert step is not None, "a run has at least one byte"
        await (await self.reader(step[0])).verified_range(step[1], step[2])

    async def read(self, step: tuple[int, int, int]) -> bytes:
        """Return the bytes of a step; fails as ``check_first``."""
        return await (await self.reader(step[0])).read(step[1], step[2])

    def close(self) -> None:
        """Let go of everything. Repeatable."""
        self._is_closed = True
        self._close_reader()
        pinned, self._pinned = self._pinned, []
        for piece in pinned:
            self._staging.unpin(piece)

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


async def segments_of(
    store: IMetadataStore, version: ObjectVersion, offset_bytes: int, length_bytes: int
) -> list[Segment]:
    """
    Find the pieces that hold a run of a version's bytes.

    :raise DiskFault: when pieces are missing: the version has probably moved, read it again
    """
    return cut(await pieces_of(store, version, offset_bytes + length_bytes), offset_bytes, length_bytes)


async def pieces_of(store: IMetadataStore, version: ObjectVersion, length_bytes: int) -> list[Piece]:
    """
    Return a version's first pieces, which hold at least so many bytes.

    :raise DiskFault: when pieces are missing: the version has probably moved, read it again
    """
    pieces: list[Piece] = []
    known_bytes = after = 0
    while known_bytes < length_bytes:
        page = await store.pieces(
            version.layout_id, after_ordinal=after, limit=PAGE if pieces else PAGE_FIRST
        )
        if not page:
            raise DiskFault(f"pieces of layout {version.layout_id} are missing")
        pieces += page
        known_bytes += sum(piece.length_bytes for piece in page)
        after = page[-1].ordinal
    return pieces


def at_hand(staging: IStaging, segments: list[Segment]) -> bytes | None:
    """Return the bytes of a run that lies in one small piece and can be had at once, else None."""
    if len(segments) != 1:
        return None
    (segment,) = segments
    content = staging.at_hand(segment.piece)
    if content is None or len(content) == segment.length_bytes:
        return content
    return content[segment.offset_bytes : segment.offset_bytes + segment.length_bytes]


async def pinned_run(
    store: IMetadataStore, staging: IStaging, version: ObjectVersion, offset_bytes: int, length_bytes: int
) -> PinnedRun:
    """
    Find and pin the pieces that hold a run of a version's bytes.

    :raise DiskFault: when pieces are missing or being freed: the version has probably moved, read it again
    """
    return PinnedRun(staging, await segments_of(store, version, offset_bytes, length_bytes))
