"""Moves small pieces together that are left scattered among discarded ones, so that the disk gets that space back."""

from collections.abc import Iterator, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from coldstore.interfaces.metadata import BATCH_MAX, IMetadataStore
from coldstore.interfaces.staging import BytesDamaged, DiskFault, IIncoming, IStaging
from coldstore.model.errors import StagingFull
from coldstore.model.events import Severity
from coldstore.model.objects import Piece
from coldstore.model.precedence import Precedence
from coldstore.util.asynchronous import all_of
from coldstore.util.gate import Gate
from coldstore.work.leftovers import Leftovers

REST_SECONDS = 60.0
READ_BYTES = 1024 * 1024
TOGETHER_BYTES = 8 * 1024 * 1024
"""Pieces of so many bytes are copied at once, so that small ones share their syncs and large ones no memory."""


class Compactor:
    """
    One round moves everything that is scattered. A piece is received anew, durable, before its record points there, and the
    bytes at the old place go a while after that; so a crash at any point leaves one of the two to the next sweep.
    """

    log = Logger()

    def __init__(
        self,
        *,
        store: IMetadataStore,
        staging: IStaging,
        clock: IReactorTime,
        leftovers: Leftovers,
    ) -> None:
        self._store = store
        self._staging = staging
        self._clock = clock
        self._leftovers = leftovers
        self._damaged: set[str] = set()
        self._is_short = False
        """Whether the disk had no room for a copy: then nothing more is tried in this round."""

    async def one_round(self) -> float:
        """Move what is scattered; return how long to rest."""
        count = size_bytes = 0
        after = ""
        self._is_short = False
        while addresses := await self._staging.scattered(after=after, limit=BATCH_MAX):
            after = addresses[-1]
            wanted = [address for address in addresses if address not in self._damaged]
            pieces = await self._store.pieces_at(wanted) if wanted else []
            for together in _portions(pieces):
                moved = await self._move(together)
                count += len(moved)
                size_bytes += sum(piece.length_bytes for piece in moved)
            if self._is_short:
                break
        if count:
            self.log.info("{count} pieces, {size} bytes, were moved together", count=count, size=size_bytes)
        return REST_SECONDS

    async def _move(self, pieces: Sequence[Piece]) -> list[Piece]:
        """Copy pieces and have their records point to the copies; return those that moved."""
        moves: dict[str, str] = {}
        try:
            await all_of(Deferred.fromCoroutine(self._copy(piece, moves)) for piece in pieces)
        finally:
            # Noted before the outcome is known: whichever of the two is nobody's in the end, that one goes.
            self._leftovers.note([*moves, *moves.values()])
        if not moves:
            return []
        moved = await self._store.move_pieces(moves)
        return [piece for piece in pieces if piece.address in moved]

    async def _copy(self, piece: Piece, moves: dict[str, str]) -> None:
        """Receive a piece's bytes anew, and add to ``moves`` where they are; do nothing when that cannot be now."""
        try:
            incoming = self._staging.receive(
                size_bytes=piece.length_bytes,
                algorithms=frozenset(),
                precedence=Precedence.URGENT,
                # It has outlived its neighbours, so it will probably stay.
                is_kept=True,
            )
        except StagingFull:
            self._is_short = True
            return
        try:
            await self._read_into(piece, incoming)
            received = await incoming.finish()
        except BytesDamaged as damage:
            await incoming.abandon()
            await self._tell_damaged(piece, damage)
            return
        except (DiskFault, StagingFull) as fault:
            await incoming.abandon()
            self.log.info("{address} was not moved: {fault}", address=piece.address, fault=fault)
            return
        except BaseException:
            await incoming.abandon()
            raise
        if received.crc64nvme != piece.crc64nvme:
            # What was checked once in this run is not checked again by whoever reads it, and has changed since.
            self._leftovers.note([received.address])
            await self._tell_damaged(piece, BytesDamaged(piece.address, 0))
            return
        moves[piece.address] = received.address

    async def _read_into(self, piece: Piece, incoming: IIncoming) -> None:
        gate = Gate()
        incoming.on_pressure(gate.close, gate.open)
        reader = await self._staging.open(piece)
        try:
            for start in range(0, piece.length_bytes, READ_BYTES):
                incoming.write(await reader.read(start, min(READ_BYTES, piece.length_bytes - start)))
                await gate.passage()
        finally:
            reader.close()

    async def _tell_damaged(self, piece: Piece, damage: BytesDamaged) -> None:
        self.log.error("a scattered piece stays where it is: {damage}", damage=damage)
        await self._store.raise_alert(
            kind="bytes-damaged",
            subject=f"piece {piece.address}",
            severity=Severity.CRITICAL,
            sentence=f"Bytes on the staging disk are damaged ({damage}); they are not served.",
            at=self._clock.seconds(),
        )
        self._damaged.add(piece.address)


def _portions(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Cut pieces into portions that are copied together."""
    portion: list[Piece] = []
    size_bytes = 0
    for piece in pieces:
        if portion and size_bytes + piece.length_bytes > TOGETHER_BYTES:
            yield portion
            portion, size_bytes = [], 0
        portion.append(piece)
        size_bytes += piece.length_bytes
    if portion:
        yield portion
