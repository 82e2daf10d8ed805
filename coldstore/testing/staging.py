"""
``SimulatedStaging``: a disk in memory, for simulations and for tests of whoever uses one.

No threads and no files (except that ``verified_range`` must give a descriptor, which is one of memory). What a call changes becomes
durable after ``sync_seconds`` on the clock that is given, and the Deferred fires then; without a clock at once.
``crash`` ends a run: what was not durable is kept or lost by chance, as a power cut would have it, and no Deferred of that run
fires any more. ``restarted`` gives the next run on the same disk.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from coldstore.interfaces.staging import (
    BLOCK_BYTES,
    BytesDamaged,
    DiskFault,
    DiskRange,
    IIncoming,
    IPieceReader,
    IStaging,
    RecalledBytes,
    RecallSlot,
    RecallSpace,
    Received,
    Scratch,
    StagingUsage,
    WrongLength,
)
from coldstore.model.errors import StagingFull
from coldstore.model.objects import Piece
from coldstore.model.precedence import Precedence, Shares
from coldstore.util.asynchronous import returns_deferred
from coldstore.util.checksums import ALGORITHMS, combine_crc64nvme, crc64nvme, new_digest

_T = TypeVar("_T")

PATH_PREFIX = "simulated:"
BOX_PIECES = 64
"""Small pieces share boxes of so many numbers, as they share segments on a real disk."""
SMALL_BYTES = 256 * 1024
AT_HAND_BYTES = 64 * 1024


@dataclass(slots=True)
class SimulatedPiece:
    """Bytes on the simulated disk; ``run`` published them."""

    content: bytearray
    checksums: tuple[int, ...]
    run: int


@dataclass(slots=True)
class SimulatedMedium:
    """What survives a crash. ``uncertain`` are changes under way that a crash makes true or undoes by chance."""

    pieces: dict[str, SimulatedPiece] = field(default_factory=dict)
    dead_bytes: dict[int, int] = field(default_factory=dict)
    """Of each box: what was discarded and still takes up room, because something in the box lives."""
    uncertain: dict[int, Callable[[], None]] = field(default_factory=dict)
    next_number: int = 0
    run: int = 0


@dataclass(slots=True)
class _Space:
    slots: list[bytearray]
    size_bytes: int


def _checksums(content: bytes | bytearray) -> tuple[int, ...]:
    view = memoryview(content)
    return tuple(crc64nvme(view[at : at + BLOCK_BYTES]) for at in range(0, len(view), BLOCK_BYTES))


def _combined(checksums: Sequence[int], length_bytes: int) -> int:
    value = 0
    for block, checksum in enumerate(checksums):
        value = combine_crc64nvme(value, checksum, min(BLOCK_BYTES, length_bytes - block * BLOCK_BYTES))
    return value


@implementer(IIncoming)
class SimulatedIncoming:
    """A piece that is arriving."""

    def __init__(self, staging: "SimulatedStaging", size_bytes: int, algorithms: frozenset[str]) -> None:
        self._staging = staging
        self._size_bytes = size_bytes
        self._algorithms = algorithms
        self._content = bytearray()
        self._written_bytes = 0
        self._is_closed = False
        self.pause: Callable[[], None] = lambda: None
        self.resume: Callable[[], None] = lambda: None

    def write(self, block: bytes) -> None:
        """See ``IIncoming``."""
        if not self._is_closed:
            self._written_bytes += len(block)
            if self._written_bytes <= self._size_bytes:
                self._content += block

    def shorten(self) -> None:
        """See ``IIncoming``."""
        if 0 < self._written_bytes < self._size_bytes:
            self._staging.give_back(self._size_bytes - self._written_bytes)
            self._size_bytes = self._written_bytes

    def on_pressure(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """See ``IIncoming``; a test may call ``pause`` and ``resume`` itself."""
        self.pause, self.resume = pause, resume

    @returns_deferred
    async def finish(self) -> Received:
        """See ``IIncoming``."""
        if self._is_closed:
            raise RuntimeError("this piece was finished or abandoned before")
        self._is_closed = True
        staging = self._staging
        if self._written_bytes != self._size_bytes:
            staging.give_back(self._size_bytes)
            raise WrongLength(self._size_bytes, self._written_bytes)
        content = bytes(self._content)
        address = staging.fresh_address()
        piece = SimulatedPiece(bytearray(content), _checksums(content), staging.medium.run)
        try:
            staging.fail_if_told("finish")
            await staging.durably(lambda: staging.medium.pieces.update({address: piece}))
        finally:
            staging.give_back(self._size_bytes)
        digests = {}
        for name in self._algorithms:
            digest = new_digest(name)
            digest.update(content)
            digests[name] = digest.digest()
        return Received(
            address=address, length_bytes=len(content), crc64nvme=crc64nvme(content), digests=digests
        )

    def abandon(self) -> Deferred[None]:
        """See ``IIncoming``."""
        if not self._is_closed:
            self._is_closed = True
            self._staging.give_back(self._size_bytes)
        return succeed(None)


@implementer(IPieceReader)
class SimulatedReader:
    """Reads one piece."""

    def __init__(self, staging: "SimulatedStaging", piece: Piece, stored: SimulatedPiece) -> None:
        self.length_bytes = piece.length_bytes
        self._staging = staging
        self._address = piece.address
        self._stored = stored
        self._descriptor: int | None = None
        self._is_closed = False

    @returns_deferred
    async def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        """See ``IPieceReader``."""
        if length_bytes > BLOCK_BYTES:
            raise ValueError(f"at most {BLOCK_BYTES} bytes are read at once, not {length_bytes}")
        self._check(offset_bytes, length_bytes)
        return bytes(self._stored.content[offset_bytes : offset_bytes + length_bytes])

    @returns_deferred
    async def verified_range(self, offset_bytes: int, length_bytes: int) -> tuple[int, int]:
        """See ``IPieceReader``."""
        self._check(offset_bytes, length_bytes)
        if self._descriptor is None:
            self._descriptor = os.memfd_create("piece")
            os.pwrite(self._descriptor, self._stored.content, 0)
        return self._descriptor, offset_bytes

    def _check(self, offset_bytes: int, length_bytes: int) -> None:
        if self._is_closed:
            raise ValueError("the reader was closed")
        if offset_bytes < 0 or length_bytes < 0 or offset_bytes + length_bytes > self.length_bytes:
            raise ValueError(f"{length_bytes} bytes at {offset_bytes} are not inside {self.length_bytes}")
        self._staging.fail_if_told("read")
        for block in range(offset_bytes // BLOCK_BYTES, -(-(offset_bytes + length_bytes) // BLOCK_BYTES)):
            content = self._stored.content[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES]
            if crc64nvme(content) != self._stored.checksums[block]:
                raise BytesDamaged(self._address, block)

    def close(self) -> None:
        """See ``IPieceReader``."""
        if not self._is_closed:
            self._is_closed = True
            if self._descriptor is not None:
                os.close(self._descriptor)
            self._staging.unpin_address(self._address)


@implementer(IStaging)
class SimulatedStaging:
    """A disk in memory."""

    def __init__(
        self,
        *,
        capacity_bytes: int = 1 << 40,
        shares: Shares | None = None,
        clock: "IReactorTime | None" = None,
        sync_seconds: float = 0.0,
        medium: SimulatedMedium | None = None,
    ) -> None:
        """
        :param shares: the parts of the capacity that some leave to others.
        :param clock: with ``sync_seconds``, when changes become durable; without one at once.
        :param medium: what an earlier run left.
        """
        self._capacity_bytes = capacity_bytes
        self._shares = shares or Shares()
        self._clock = clock
        self._sync_seconds = sync_seconds
        self.medium = medium or SimulatedMedium()
        self.medium.run += 1
        self._reserved_bytes = 0
        self._pins: dict[str, int] = {}
        self._waiting: dict[str, list[Deferred[None]]] = {}
        self._spaces: dict[str, _Space] = {}
        self.scratches: dict[str, bytearray] = {}
        """Files of our own by their paths."""
        self._faults: dict[str, list[Exception]] = {}
        self._is_running = False
        self._is_at_hand = False
        self._has_crashed = False

    # What tests do to it.

    def crash(self, random: Random) -> None:
        """End this run: each change under way is durable or lost by chance; recall spaces and arriving bytes are gone."""
        self._has_crashed = True
        self._is_running = False
        changes, self.medium.uncertain = list(self.medium.uncertain.values()), {}
        for change in changes:
            if random.random() < 0.5:
                change()

    def restarted(self) -> "SimulatedStaging":
        """Return the next run on the same disk."""
        return SimulatedStaging(
            capacity_bytes=self._capacity_bytes,
            shares=self._shares,
            clock=self._clock,
            sync_seconds=self._sync_seconds,
            medium=self.medium,
        )

    def fail_next(self, operation: str, error: Exception) -> None:
        """Have the next ``receive``, ``finish``, ``open``, ``read``, ``discard``, ``scratch``, ``reserve`` or ``adopt`` fail."""
        self._faults.setdefault(operation, []).append(error)

    def damage(self, address: str, offset_bytes: int) -> None:
        """Change one byte of a piece behind everybody's back."""
        self.medium.pieces[address].content[offset_bytes] ^= 0x40

    def lose(self, address: str) -> None:
        """Let a piece vanish."""
        del self.medium.pieces[address]

    def content(self, path: str, offset_bytes: int, length_bytes: int) -> bytes:
        """Read as a mover would, by the path of a ``DiskRange`` or ``RecallSlot``."""
        if path in self.scratches:
            return bytes(self.scratches[path][offset_bytes : offset_bytes + length_bytes])
        name = path.removeprefix(PATH_PREFIX)
        recall_id, _, number = name.partition("/")
        if recall_id in self._spaces:
            return bytes(
                self._spaces[recall_id].slots[int(number)][offset_bytes : offset_bytes + length_bytes]
            )
        piece = self.medium.pieces.get(name)
        if piece is None:
            raise FileNotFoundError(path)
        return bytes(piece.content[offset_bytes : offset_bytes + length_bytes])

    def fill(self, slot: RecallSlot, content: bytes) -> None:
        """Write as a mover would."""
        recall_id, _, number = slot.path.removeprefix(PATH_PREFIX).partition("/")
        if len(content) != slot.length_bytes:
            raise ValueError(f"the slot takes {slot.length_bytes} bytes, not {len(content)}")
        self._spaces[recall_id].slots[int(number)][:] = content

    # What the parts share.

    def fail_if_told(self, operation: str) -> None:
        """Raise what ``fail_next`` was given for this operation."""
        waiting = self._faults.get(operation)
        if waiting:
            raise waiting.pop(0)

    def fresh_address(self) -> str:
        """Name a new piece."""
        self.medium.next_number += 1
        return f"{self.medium.next_number:012d}"

    def durably(self, change: Callable[[], None]) -> Deferred[None]:
        """Make a change; fires once it survives a crash."""
        if self._clock is None or not self._sync_seconds:
            change()
            return succeed(None)
        done: Deferred[None] = Deferred(lambda _: None)
        self.medium.next_number += 1
        number = self.medium.next_number
        self.medium.uncertain[number] = change

        def synced() -> None:
            if self._has_crashed:
                return
            del self.medium.uncertain[number]
            change()
            if not done.called:
                done.callback(None)

        self._clock.callLater(self._sync_seconds, synced)
        return done

    def give_back(self, size_bytes: int) -> None:
        """End a promise."""
        self._reserved_bytes -= size_bytes

    def _reserve(self, size_bytes: int, precedence: Precedence) -> None:
        if size_bytes > self.room_bytes(precedence):
            raise StagingFull(f"{size_bytes} bytes do not fit into {self.usage()}")
        self._reserved_bytes += size_bytes

    @property
    def trouble(self) -> str:
        """See ``IStaging``."""
        return "" if self._is_running else "the disk is not started"

    def room_bytes(self, precedence: Precedence) -> int:
        """See ``IStaging``."""
        left = int(self._capacity_bytes * self._shares.left_by(precedence))
        return max(0, self._capacity_bytes - self._used_bytes() - self._reserved_bytes - left)

    def _used_bytes(self) -> int:
        living = sum(len(piece.content) for piece in self.medium.pieces.values())
        living += sum(map(len, self.scratches.values()))
        return living + sum(self.medium.dead_bytes.values())

    # IStaging.

    def start(self) -> Deferred[None]:
        """See ``IStaging``."""
        self._is_running = True
        return succeed(None)

    def stop(self) -> Deferred[None]:
        """See ``IStaging``."""
        self._is_running = False
        return succeed(None)

    def receive(
        self,
        *,
        size_bytes: int,
        algorithms: frozenset[str],
        precedence: Precedence = Precedence.NEW_UPLOAD,
        is_kept: bool = False,
    ) -> IIncoming:
        """See ``IStaging``."""
        if size_bytes < 1 or algorithms.difference(ALGORITHMS):
            raise ValueError(f"cannot receive {size_bytes} bytes with {sorted(algorithms)}")
        if not self._is_running:
            raise DiskFault("the disk is not started")
        self.fail_if_told("receive")
        self._reserve(size_bytes, precedence)
        return SimulatedIncoming(self, size_bytes, algorithms)

    def at_hand(self, piece: Piece) -> bytes | None:
        """See ``IStaging``: every other time, so that both ways are gone."""
        self._is_at_hand = not self._is_at_hand
        stored = self.medium.pieces.get(piece.address)
        if not self._is_at_hand or stored is None or len(stored.content) > AT_HAND_BYTES:
            return None
        content = bytes(stored.content)
        return content if crc64nvme(content) == piece.crc64nvme else None

    @returns_deferred
    async def open(self, piece: Piece) -> IPieceReader:
        """See ``IStaging``."""
        self.fail_if_told("open")
        stored = self._stored(piece)
        self.pin(piece)
        return SimulatedReader(self, piece, stored)

    def _stored(self, piece: Piece) -> SimulatedPiece:
        stored = self.medium.pieces.get(piece.address)
        if stored is None or len(stored.content) != piece.length_bytes:
            raise DiskFault(f"{piece.address} is not there")
        return stored

    def pin(self, piece: Piece) -> None:
        """See ``IStaging``."""
        self._pins[piece.address] = self._pins.get(piece.address, 0) + 1

    def unpin(self, piece: Piece) -> None:
        """See ``IStaging``."""
        self.unpin_address(piece.address)

    def unpin_address(self, address: str) -> None:
        """End one pin."""
        count = self._pins.get(address, 0)
        if not count:
            raise ValueError(f"{address} is not pinned")
        self._pins[address] = count - 1
        if count == 1:
            del self._pins[address]
            for each in self._waiting.pop(address, []):
                if not each.called:
                    each.callback(None)

    @returns_deferred
    async def ranges(self, piece: Piece, *, offset_bytes: int, length_bytes: int) -> list[DiskRange]:
        """See ``IStaging``."""
        end = offset_bytes + length_bytes
        is_inside = 0 <= offset_bytes <= end <= piece.length_bytes
        if not is_inside or offset_bytes % BLOCK_BYTES or (end % BLOCK_BYTES and end != piece.length_bytes):
            raise ValueError(
                f"{length_bytes} bytes at {offset_bytes} are not whole blocks of {piece.length_bytes}"
            )
        if length_bytes == 0:
            return []
        covered = self._stored(piece).checksums[offset_bytes // BLOCK_BYTES : -(-end // BLOCK_BYTES)]
        return [
            DiskRange(
                path=PATH_PREFIX + piece.address,
                offset_bytes=offset_bytes,
                length_bytes=length_bytes,
                crc64nvme=_combined(covered, length_bytes),
            )
        ]

    @returns_deferred
    async def places(self, pieces: Sequence[Piece]) -> list[DiskRange]:
        """See ``IStaging``."""
        found: list[DiskRange] = []
        for piece in pieces:
            found += await self.ranges(piece, offset_bytes=0, length_bytes=piece.length_bytes)
        return found

    @returns_deferred
    async def discard(self, addresses: Sequence[str]) -> None:
        """See ``IStaging``."""
        self.fail_if_told("discard")
        changes = [self._discard(address) for address in dict.fromkeys(addresses)]
        for change in changes:
            await change

    @returns_deferred
    async def _discard(self, address: str) -> None:
        while address in self._pins:
            released: Deferred[None] = Deferred(lambda _: None)
            self._waiting.setdefault(address, []).append(released)
            await released
        if address in self.medium.pieces:
            await self.durably(lambda: self._forget(address))

    def _forget(self, address: str) -> None:
        piece = self.medium.pieces.pop(address, None)
        if piece is None or len(piece.content) > SMALL_BYTES:
            return
        box = int(address) // BOX_PIECES
        self.medium.dead_bytes[box] = self.medium.dead_bytes.get(box, 0) + len(piece.content)
        if not self._living_in(box):
            del self.medium.dead_bytes[box]

    def _living_in(self, box: int) -> list[str]:
        names = (f"{number:012d}" for number in range(box * BOX_PIECES, (box + 1) * BOX_PIECES))
        return [
            name
            for name in names
            if name in self.medium.pieces and len(self.medium.pieces[name].content) <= SMALL_BYTES
        ]

    def scattered(self, *, after: str, limit: int) -> Deferred[list[str]]:
        """See ``IStaging``."""
        if limit < 1:
            return fail(ValueError(f"at least one address is asked for, not {limit}"))
        found: list[str] = []
        for box, dead_bytes in sorted(self.medium.dead_bytes.items()):
            living = self._living_in(box)
            if dead_bytes > sum(len(self.medium.pieces[name].content) for name in living):
                found += [name for name in living if name > after]
        return succeed(found[:limit])

    @returns_deferred
    async def reserve_recall(
        self, lengths: Sequence[int], *, precedence: Precedence = Precedence.RECALL
    ) -> RecallSpace:
        """See ``IStaging``."""
        if not lengths or min(lengths) < 1:
            raise ValueError("a recall has at least one extent, and none of its extents is empty")
        if not self._is_running:
            raise DiskFault("the disk is not started")
        self.fail_if_told("reserve")
        self._reserve(sum(lengths), precedence)
        recall_id = f"recall-{self.fresh_address()}"
        self._spaces[recall_id] = _Space([bytearray(length) for length in lengths], sum(lengths))
        slots = (
            RecallSlot(path=f"{PATH_PREFIX}{recall_id}/{number}", offset_bytes=0, length_bytes=length)
            for number, length in enumerate(lengths)
        )
        return RecallSpace(recall_id=recall_id, slots=tuple(slots))

    @returns_deferred
    async def scratch(self, write: Callable[[Callable[[bytes], object]], _T]) -> tuple[Scratch, _T]:
        """See ``IStaging``."""
        if not self._is_running:
            raise DiskFault("the disk is not started")
        self.fail_if_told("scratch")
        content = bytearray()
        result = write(content.extend)
        self.medium.next_number += 1
        path = f"{PATH_PREFIX}scratch-{self.medium.next_number}"
        self.scratches[path] = content
        return Scratch(path=path, size_bytes=len(content), crc64nvme=crc64nvme(content)), result

    def drop_scratch(self, scratch: Scratch) -> Deferred[None]:
        """See ``IStaging``."""
        self.scratches.pop(scratch.path, None)
        return succeed(None)

    @returns_deferred
    async def adopt_recalled(self, space: RecallSpace, arrived: Sequence[RecalledBytes]) -> list[str]:
        """See ``IStaging``."""
        for each in arrived:
            slots = range(len(space.slots))
            if each.slot not in slots or [other.slot for other in arrived].count(each.slot) > 1:
                raise ValueError(f"slot {each.slot} does not exist or came twice")
            if _combined(each.block_checksums, space.slots[each.slot].length_bytes) != each.crc64nvme:
                raise ValueError(f"the block checksums of slot {each.slot} do not add up to its checksum")
        held = self._spaces.pop(space.recall_id, None)
        if held is None:
            raise ValueError(f"the recall space {space.recall_id} was adopted or released before")
        run = self.medium.run
        published = {
            self.fresh_address(): SimulatedPiece(held.slots[each.slot], each.block_checksums, run)
            for each in arrived
        }
        try:
            self.fail_if_told("adopt")
            await self.durably(lambda: self.medium.pieces.update(published))
        finally:
            self.give_back(held.size_bytes)
        return list(published)

    def release_recall(self, space: RecallSpace) -> Deferred[None]:
        """See ``IStaging``."""
        held = self._spaces.pop(space.recall_id, None)
        if held is not None:
            self.give_back(held.size_bytes)
        return succeed(None)

    def usage(self) -> StagingUsage:
        """See ``IStaging``."""
        return StagingUsage(
            capacity_bytes=self._capacity_bytes,
            used_bytes=self._used_bytes(),
            reserved_bytes=self._reserved_bytes,
        )

    def stored(self, *, after: str, limit: int) -> Deferred[list[str]]:
        """See ``IStaging``."""
        found = sorted(
            address
            for address, piece in self.medium.pieces.items()
            if piece.run < self.medium.run and address > after
        )
        return succeed(found[:limit])
