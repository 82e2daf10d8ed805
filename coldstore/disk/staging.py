"""``DiskStaging``: the parts of this package wired to one ``IStaging``. Lives in the reactor's thread."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from zope.interface import implementer

from coldstore.disk import census, files, recall, scratch, segments
from coldstore.disk.accounts import Account
from coldstore.disk.addresses import FileAddress, Names, SliceAddress, parsed
from coldstore.disk.athand import AtHand
from coldstore.disk.beginning import Beginning
from coldstore.disk.blocks import combined
from coldstore.disk.containers import Containers, NotThere
from coldstore.disk.filesystem import FileSystem, sorted_error
from coldstore.disk.framing import HEADER_BYTES, record_bytes
from coldstore.disk.freeing import Freeing
from coldstore.disk.hashing import checked
from coldstore.disk.incoming import GroupCommit, LargeIncoming, SmallIncoming, through
from coldstore.disk.layout import Layout
from coldstore.disk.pins import Pins
from coldstore.disk.pressure import SharedPressure
from coldstore.disk.reading import OpenPiece, PieceReader, VerifiedBlocks
from coldstore.disk.threads import Strand
from coldstore.interfaces.staging import (
    BLOCK_BYTES,
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
)
from coldstore.model.errors import StagingFull
from coldstore.model.objects import Piece
from coldstore.model.precedence import Precedence, Shares
from coldstore.util.asynchronous import all_of, returns_deferred, shielded
from coldstore.util.workers import MakePool, Pool, Reactor, Workers

_T = TypeVar("_T")

KIB = 1024
MIB = 1024 * KIB

PREALLOCATED_BYTES = 64 * MIB
"""How far an open segment allocates ahead, at most; and never more than a thirty-second of the capacity."""
COUNTED_AT_START = 20_000
"""Files of earlier runs that ``start`` waits to be counted; the rest is counted beside the service."""
QUIET_SECONDS = 60.0
"""How long nothing in a container may have died before the rest of it is named as scattered: mostly all of it goes."""
SAMPLE_SECONDS = 1.0
NOTE_SECONDS = 60.0
ATTEMPT_SECONDS = 15.0
"""How long until a disk that took nothing at the start is tried again."""


@implementer(IStaging)
class DiskStaging:
    """One directory on one file system, used by one process at a time."""

    log = Logger()

    def __init__(
        self,
        *,
        reactor: Reactor,
        random: Random,
        run: str,
        directory: Path,
        capacity_bytes: int,
        min_free_bytes: int = 0,
        shares: Shares | None = None,
        small_limit_bytes: int = 256 * KIB,
        segment_bytes: int = 1024 * MIB,
        hashing_threads: int = 4,
        reading_threads: int = 4,
        outstanding_bytes: int = 64 * MIB,
        quiet_seconds: float = QUIET_SECONDS,
        sample_seconds: float = SAMPLE_SECONDS,
        system: FileSystem | None = None,
        make_pool: MakePool | None = None,
    ) -> None:
        """
        :param random: gives names; need not be unguessable, must differ between runs.
        :param run: 1 to 32 of a-z and 0-9, another one in every run of the process on this directory (the epoch).
        :param directory: made if missing. Everything below it is ours.
        :param capacity_bytes: what may be used in all.
        :param min_free_bytes: what is left free on the file system.
        :param shares: the parts of the capacity that some leave to others; without them nobody leaves any.
        :param small_limit_bytes: pieces up to this size go into segments.
        :param segment_bytes: size at which a segment is sealed.
        :param hashing_threads: for digests and writing what arrives; two per upload are of use.
        :param reading_threads: for reading and checking; each holds up to 4 MiB.
        :param outstanding_bytes: of all uploads together, waiting for threads.
        :param quiet_seconds: how long nothing in a container may have died before pieces in it count as scattered.
        :param sample_seconds: how often the file system is asked what it has left.
        :param system, make_pool: what stands for Linux and for threads in a simulated world.
        :raise ValueError: a segment would not take the largest small piece.
        """
        if segment_bytes < record_bytes(small_limit_bytes):
            raise ValueError(f"segments of {segment_bytes} bytes do not take pieces of {small_limit_bytes}")
        if make_pool is None:
            make_pool = partial(Workers, reactor)
        self._reactor = reactor
        self._sample_seconds = sample_seconds
        self._directory = directory
        self._small_limit_bytes = small_limit_bytes
        self._system = system or FileSystem()
        self._layout = Layout(directory)
        self._names = Names(random, run)
        self.account = Account(capacity_bytes, min_free_bytes, shares)
        self._census = census.Census(self._system, self._layout, run, self._changed)
        self._verified = VerifiedBlocks()
        # What was checked before and is seen to be damaged now is checked again by whoever reads it otherwise.
        self._at_hand = AtHand(self._system, self._layout, on_damaged=self._verified.forget)
        self._containers = Containers(
            self._system,
            self._layout,
            self._census,
            on_gone=lambda name: reactor.callFromThread(self._at_hand.forget, name),
        )
        self._writing = make_pool(hashing_threads, "disk-writing")
        self._reading = make_pool(reading_threads, "disk-reading")
        self._appending = {
            is_kept: make_pool(1, f"disk-appending-{'kept' if is_kept else 'passing'}")
            for is_kept in (False, True)
        }
        self._composing = make_pool(1, "disk-composing")
        self._tidying = make_pool(1, "disk-tidying")
        self._watching = make_pool(1, "disk-watching")
        self._tidy = Strand(self._tidying)
        # Pieces that go once they are on tape, and those that stay, have segments of their own: of the first kind whole
        # segments go at once, and the others need not be moved out of them.
        self._writers = {
            is_kept: segments.SegmentWriter(
                system=self._system,
                layout=self._layout,
                names=self._names,
                containers=self._containers,
                segment_bytes=segment_bytes,
                step_bytes=min(PREALLOCATED_BYTES, capacity_bytes // 32),
            )
            for is_kept in self._appending
        }
        self._groups = {
            is_kept: GroupCommit(writer=self._writers[is_kept], threads=threads, account=self.account)
            for is_kept, threads in self._appending.items()
        }
        self._beginning = Beginning(
            system=self._system, layout=self._layout, containers=self._containers, census=self._census
        )
        self._freeing = Freeing(
            system=self._system,
            layout=self._layout,
            containers=self._containers,
            census=self._census,
            reactor=reactor,
            strand=self._tidy,
        )
        self._quiet_seconds = quiet_seconds
        self._pressure = SharedPressure(max(1, outstanding_bytes // MIB))
        self._pins = Pins()
        self._incoming: dict[LargeIncoming | SmallIncoming, None] = {}
        self._spaces: dict[str, tuple[int, int]] = {}
        self._scratches: dict[str, int] = {}
        """Files of our own, and what each counts for."""
        self._timer: IDelayedCall | None = None
        self._noted_bytes = -1
        self._since_note = 0.0
        self._since_attempt = 0.0
        self._is_running = False
        self._clearing: dict[Deferred[None], None] = {}
        """Pieces and spaces being freed because who asked for them has gone."""

    # The account: told from threads, kept in the reactor's.

    def _changed(self, used_bytes: int, prepared_bytes: int) -> None:
        if used_bytes or prepared_bytes:
            self._reactor.callFromThread(self._take_change, used_bytes, prepared_bytes)

    def _take_change(self, used_bytes: int, prepared_bytes: int) -> None:
        self.account.used += used_bytes
        self.account.prepared += prepared_bytes

    def usage(self) -> StagingUsage:
        """See ``IStaging``."""
        account = self.account
        return StagingUsage(
            capacity_bytes=account.capacity,
            used_bytes=account.spoken_for,
            reserved_bytes=account.reserved,
        )

    @property
    def trouble(self) -> str:
        """See ``IStaging``."""
        return self._beginning.trouble

    def room_bytes(self, precedence: Precedence) -> int:
        """See ``IStaging``."""
        return self.account.headroom_of(precedence)

    # Starting and stopping.

    @returns_deferred
    async def start(self) -> None:
        """See ``IStaging``."""
        self._is_running = True
        try:
            self.account.estimate = await self._tidy.run(self._recovered)
            await self._sample()
            counting = self._census.count()
            is_complete = await self._tidy.run(_count_some, counting)
        except OSError as error:
            await self.stop()
            raise DiskFault(f"{self._directory} cannot be used: {error}") from error
        self._timer = self._reactor.callLater(self._sample_seconds, self._tick)
        if is_complete:
            self.account.estimate = 0
        else:
            self._count_on(counting).addErrback(self._counting_failed)

    def _pools(self) -> tuple[Pool, ...]:
        return (
            self._writing,
            *self._appending.values(),
            self._reading,
            self._composing,
            self._tidying,
            self._watching,
        )

    def _recovered(self) -> int:
        """Undo what was under way when an earlier run ended; return what it had noted as used."""
        self._beginning.attempt()
        try:
            return int(self._system.content(self._layout.used))
        except (FileNotFoundError, ValueError):
            return 0

    @returns_deferred
    async def _count_on(self, counting: Iterator[int]) -> None:
        while self._is_running:
            if await self._tidy.run(_count_some, counting):
                self.account.estimate = 0
                return

    def _counting_failed(self, failure: object) -> None:
        self.log.error(
            "counting what earlier runs left in {directory} failed: {failure}",
            directory=self._directory,
            failure=failure,
        )

    def _tick(self) -> None:
        self._timer = self._reactor.callLater(self._sample_seconds, self._tick)
        self._sample().addErrback(self._sampling_failed)
        self._since_attempt += self._sample_seconds
        if self._beginning.trouble and self._since_attempt >= ATTEMPT_SECONDS:
            self._since_attempt = 0.0
            self._tidy.run(self._beginning.attempt).addErrback(self._attempt_failed)
        self._since_note += self._sample_seconds
        if self._since_note >= NOTE_SECONDS and self.account.estimate == 0:
            self._since_note = 0.0
            self._note().addErrback(self._sampling_failed)

    def _attempt_failed(self, failure: object) -> None:
        self.log.warn(
            "{directory} cannot be written yet: {failure}", directory=self._directory, failure=failure
        )

    def _sampling_failed(self, failure: object) -> None:
        self.log.warn("looking at {directory} failed: {failure}", directory=self._directory, failure=failure)

    @returns_deferred
    async def _sample(self) -> None:
        """See what the file system has left. What changes meanwhile is taken in the way that promises less."""
        before = self.account.present
        free = await self._watching.run(self._system.free_bytes, self._directory)
        self.account.saw_free(free, min(before, self.account.present))

    @returns_deferred
    async def _note(self) -> None:
        used = self.account.used
        if used != self._noted_bytes:
            self._noted_bytes = used
            await self._tidy.run(self._write_note, used)

    def _write_note(self, used: int) -> None:
        temporary = self._layout.used.with_name("used.new")
        self._system.put(temporary, b"%d" % used)
        self._system.rename(temporary, self._layout.used)

    @returns_deferred
    async def stop(self) -> None:
        """See ``IStaging``. Pieces that are still arriving are dropped."""
        was_running, self._is_running = self._is_running, False
        if not was_running:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for incoming in list(self._incoming):
            await incoming.abandon()
        for is_kept, threads in self._appending.items():
            await threads.run(self._writers[is_kept].close)
        while self._clearing:
            await through(next(iter(self._clearing)))
        if self.account.estimate == 0:
            try:
                await self._note()
            except OSError as error:
                self.log.warn("the account could not be noted: {error}", error=error)
        for threads in self._pools():
            await threads.stop()
        self._at_hand.close()

    def _demand_writable(self) -> None:
        if not self._is_running:
            raise DiskFault("the disk is not started")
        if self._beginning.trouble:
            raise DiskFault(self._beginning.trouble)

    # Receiving.

    def receive(
        self,
        *,
        size_bytes: int,
        algorithms: frozenset[str],
        precedence: Precedence = Precedence.NEW_UPLOAD,
        is_kept: bool = False,
    ) -> IIncoming:
        """See ``IStaging``."""
        checked(algorithms)
        if size_bytes < 1:
            raise ValueError(f"a piece has at least one byte, not {size_bytes}")
        self._demand_writable()
        incoming: LargeIncoming | SmallIncoming
        if size_bytes <= self._small_limit_bytes:
            if not self.account.claim(record_bytes(size_bytes), precedence):
                raise self._full(size_bytes)
            incoming = SmallIncoming(
                owner=self,
                size_bytes=size_bytes,
                algorithms=algorithms,
                threads=self._writing,
                group=self._groups[is_kept],
            )
        else:
            held = _held_bytes(size_bytes)
            if not self.account.hold(held, precedence):
                raise self._full(size_bytes)
            file = files.ArrivingFile(
                system=self._system,
                layout=self._layout,
                address=self._names.file(),
                size_bytes=size_bytes,
                counts=self._census,
            )
            incoming = LargeIncoming(
                owner=self,
                file=file,
                size_bytes=size_bytes,
                held_bytes=held,
                algorithms=algorithms,
                threads=self._writing,
                pressure=self._pressure,
            )
        self._incoming[incoming] = None
        return incoming

    def _full(self, size_bytes: int) -> StagingFull:
        usage = self.usage()
        return StagingFull(
            f"{size_bytes} bytes do not fit: {usage.used_bytes} used and {usage.reserved_bytes} reserved "
            f"of {usage.capacity_bytes}"
        )

    def ended(self, incoming: LargeIncoming | SmallIncoming) -> None:
        """One that was arriving is through."""
        self._incoming.pop(incoming, None)

    def unwanted(self, received: Received) -> None:
        """Who waited for a piece has gone: discard it."""
        self._discard_quietly([received.address])

    def _discard_quietly(self, addresses: Sequence[str]) -> None:
        def failed(failure: object) -> None:
            self.log.warn(
                "{count} pieces nobody wanted stay as orphans: {failure}",
                count=len(addresses),
                failure=failure,
            )

        self._clear_up(self.discard(addresses).addErrback(failed))

    def _clear_up(self, work: Deferred[None]) -> None:
        if not work.called:
            self._clearing[work] = None
            work.addCallback(lambda _: self._clearing.pop(work, None))

    # Reading.

    def at_hand(self, piece: Piece) -> bytes | None:
        """See ``IStaging``."""
        return self._at_hand.read(piece)

    def open(self, piece: Piece) -> Deferred[IPieceReader]:
        """See ``IStaging``."""
        return shielded(self._open(piece), lambda reader: reader.close())

    @returns_deferred
    async def _open(self, piece: Piece) -> IPieceReader:
        self._pins.pin(piece.address)
        try:
            opened = await self._reading.run(self._opened, piece)
        except Exception:
            self._pins.unpin(piece.address)
            raise
        return PieceReader(
            address=piece.address,
            length_bytes=piece.length_bytes,
            opened=opened,
            system=self._system,
            threads=self._reading,
            verified=self._verified,
            closed=lambda: self._pins.unpin(piece.address),
        )

    def _opened(self, piece: Piece) -> OpenPiece:
        """Open the file of a piece and find its checksums. Blocks."""
        path, base_bytes, checksums = self._located(piece)
        try:
            descriptor = self._system.open(path)
        except FileNotFoundError:
            raise DiskFault(f"{path} is gone") from None
        except OSError as error:
            raise DiskFault(f"opening {path}: {error.strerror}") from error
        size = self._system.size(descriptor)
        if size < base_bytes + piece.length_bytes:
            self._system.close(descriptor)
            raise DiskFault(
                f"{path} has {size} bytes and should have {base_bytes + piece.length_bytes} at least"
            )
        return OpenPiece(descriptor, str(path), base_bytes, checksums)

    def _located(self, piece: Piece) -> tuple[Path, int, Sequence[int]]:
        """Return where a piece lies and the checksums of its blocks. Blocks."""
        address = parsed(piece.address)
        if isinstance(address, SliceAddress) and address.length_bytes == piece.length_bytes:
            path = self._layout.container(address.container)
            base_bytes = address.offset_bytes + (HEADER_BYTES if address.is_record else 0)
            try:
                checksums = self._containers.blocks(
                    address.container, address.offset_bytes, address.length_bytes
                )
            except NotThere:
                raise DiskFault(f"{piece.address} is not there") from None
        elif isinstance(address, FileAddress):
            path, base_bytes = self._layout.file(address), 0
            if not self._system.exists(path):
                raise DiskFault(f"{path} is gone")
            checksums = files.block_checksums(self._system, self._layout, address, piece.length_bytes)
        else:
            raise DiskFault(f"{piece.address} is no address of {piece.length_bytes} bytes")
        if not checksums:
            return path, base_bytes, (piece.crc64nvme,)
        if combined(checksums, piece.length_bytes) != piece.crc64nvme:
            raise DiskFault(f"the block checksums of {piece.address} do not add up to the piece's own")
        return path, base_bytes, checksums

    def pin(self, piece: Piece) -> None:
        """See ``IStaging``."""
        self._pins.pin(piece.address)

    def unpin(self, piece: Piece) -> None:
        """See ``IStaging``."""
        self._pins.unpin(piece.address)

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
        path, base_bytes, checksums = await self._reading.run(self._located, piece)
        covered = checksums[offset_bytes // BLOCK_BYTES : -(-end // BLOCK_BYTES)]
        return [
            DiskRange(
                path=str(path),
                offset_bytes=base_bytes + offset_bytes,
                length_bytes=length_bytes,
                crc64nvme=combined(covered, length_bytes),
            )
        ]

    @returns_deferred
    async def places(self, pieces: Sequence[Piece]) -> list[DiskRange]:
        """See ``IStaging``."""
        return await self._reading.run(self._places, pieces) if pieces else []

    def _places(self, pieces: Sequence[Piece]) -> list[DiskRange]:
        """Find pieces. Blocks."""
        found = []
        for piece in pieces:
            path, base_bytes, _ = self._located(piece)
            found.append(
                DiskRange(
                    path=str(path),
                    offset_bytes=base_bytes,
                    length_bytes=piece.length_bytes,
                    crc64nvme=piece.crc64nvme,
                )
            )
        return found

    # Files of our own.

    def scratch(self, write: Callable[[Callable[[bytes], object]], _T]) -> Deferred[tuple[Scratch, _T]]:
        """See ``IStaging``."""
        return shielded(self._scratch(write), lambda made: self._clear_up(self.drop_scratch(made[0])))

    @returns_deferred
    async def _scratch(self, write: Callable[[Callable[[bytes], object]], _T]) -> tuple[Scratch, _T]:
        self._demand_writable()
        path = self._layout.scratch(self._names.file())
        made, result = await self._composing.run(scratch.make, self._system, path, write)
        self._scratches[made.path] = size_bytes = _rounded(made.size_bytes)
        self.account.used += size_bytes
        return made, result

    def drop_scratch(self, scratch: Scratch) -> Deferred[None]:
        """See ``IStaging``."""
        return shielded(self._dropped_scratch(scratch.path))

    @returns_deferred
    async def _dropped_scratch(self, path: str) -> None:
        size_bytes = self._scratches.pop(path, None)
        if size_bytes is None:
            return
        try:
            await self._tidying.run(self._system.unlink, Path(path))
        except OSError as error:
            self.log.error("{path} could not be removed: {error}", path=path, error=error)
        else:
            self.account.used -= size_bytes

    # Discarding.

    def discard(self, addresses: Sequence[str]) -> Deferred[None]:
        """See ``IStaging``."""
        return shielded(self._discard(tuple(dict.fromkeys(addresses))))

    @returns_deferred
    async def _discard(self, addresses: Sequence[str]) -> None:
        pinned = [each for each in addresses if self._pins.released(each) is not None]
        free = [each for each in addresses if each not in pinned]
        await all_of([*map(self._discard_unpinned, pinned), self._free(free)])

    @returns_deferred
    async def _discard_unpinned(self, address: str) -> None:
        while (released := self._pins.released(address)) is not None:
            await released
        await self._free([address])

    @returns_deferred
    async def _free(self, addresses: Sequence[str]) -> None:
        known = {text: address for text in addresses if (address := parsed(text)) is not None}
        if not known:
            return
        self._pins.begin_freeing(tuple(known))
        try:
            await self._freeing.add(list(known.values()))
        finally:
            self._pins.end_freeing(tuple(known))
            for text in known:
                self._verified.forget(text)

    # Recalling.

    def reserve_recall(
        self, lengths: Sequence[int], *, precedence: Precedence = Precedence.RECALL
    ) -> Deferred[RecallSpace]:
        """See ``IStaging``. Fails with ``ValueError`` when there is no extent or an empty one."""
        return shielded(self._reserve_recall(tuple(lengths), precedence), self._release_quietly)

    def _release_quietly(self, space: RecallSpace) -> None:
        self._clear_up(self.release_recall(space))

    @returns_deferred
    async def _reserve_recall(self, lengths: Sequence[int], precedence: Precedence) -> RecallSpace:
        plan = recall.planned(lengths)
        self._demand_writable()
        if not self.account.hold(plan.size_bytes, precedence):
            raise self._full(plan.size_bytes)
        name = self._names.recalled()
        try:
            is_allocated = await self._writing.run(
                recall.make, self._system, self._layout, name, plan.size_bytes
            )
        except Exception:
            self.account.let_go(plan.size_bytes)
            raise
        placed = plan.size_bytes if is_allocated else 0
        self.account.placed += placed
        self._spaces[name] = (plan.size_bytes, placed)
        path = str(self._layout.filling(name))
        slots = (
            RecallSlot(path=path, offset_bytes=offset, length_bytes=length)
            for offset, length in zip(plan.offsets, lengths, strict=True)
        )
        return RecallSpace(recall_id=name, slots=tuple(slots))

    def adopt_recalled(self, space: RecallSpace, arrived: Sequence[RecalledBytes]) -> Deferred[list[str]]:
        """See ``IStaging``. Fails with ``ValueError`` for a space that is used up, or checksums that contradict each other."""
        return shielded(self._adopt_recalled(space, tuple(arrived)), self._discard_quietly)

    @returns_deferred
    async def _adopt_recalled(self, space: RecallSpace, arrived: Sequence[RecalledBytes]) -> list[str]:
        lengths = tuple(slot.length_bytes for slot in space.slots)
        recall.checked(lengths, arrived)
        held = self._spaces.pop(space.recall_id, None)
        if held is None:
            raise ValueError(f"the recall space {space.recall_id} was adopted or released before")
        if not arrived:
            await self._drop_space(space.recall_id, held)
            return []
        by_slot = {each.slot: each for each in arrived}
        try:
            addresses = await self._writing.run(self._published, space.recall_id, lengths, by_slot)
        except Exception:
            await self._drop_space(space.recall_id, held)
            raise
        self._give_back(held)
        return [addresses[each.slot] for each in arrived]

    def _published(
        self, name: str, lengths: Sequence[int], arrived: dict[int, RecalledBytes]
    ) -> dict[int, str]:
        return recall.publish(
            system=self._system,
            layout=self._layout,
            containers=self._containers,
            counts=self._census,
            name=name,
            lengths=lengths,
            arrived=arrived,
        )

    def release_recall(self, space: RecallSpace) -> Deferred[None]:
        """See ``IStaging``."""
        return shielded(self._released(space))

    @returns_deferred
    async def _released(self, space: RecallSpace) -> None:
        held = self._spaces.pop(space.recall_id, None)
        if held is not None:
            await self._drop_space(space.recall_id, held)

    @returns_deferred
    async def _drop_space(self, name: str, held: tuple[int, int]) -> None:
        try:
            await self._writing.run(recall.drop, self._system, self._layout, name, self._census)
        except (DiskFault, StagingFull) as error:
            # The bytes are still there, so the promise stays taken; the next start drops them.
            self.log.error("recall space {name} could not be removed: {error}", name=name, error=error)
        else:
            self._give_back(held)

    def _give_back(self, held: tuple[int, int]) -> None:
        size_bytes, placed = held
        self.account.let_go(size_bytes)
        self.account.placed -= placed

    # Sweeping.

    @returns_deferred
    async def stored(self, *, after: str, limit: int) -> list[str]:
        """See ``IStaging``."""
        if limit < 1:
            raise ValueError(f"at least one address is asked for, not {limit}")
        return await self._tidy.run(self._stored, after, limit)

    def _stored(self, after: str, limit: int) -> list[str]:
        try:
            with self._census.lock:
                return census.stored(
                    self._system, self._layout, self._containers, self._names.run, after, limit
                )
        except OSError as error:
            raise sorted_error(error, f"listing {self._directory}") from error

    @returns_deferred
    async def scattered(self, *, after: str, limit: int) -> list[str]:
        """See ``IStaging``."""
        if limit < 1:
            raise ValueError(f"at least one address is asked for, not {limit}")
        for is_kept, threads in self._appending.items():
            await threads.run(self._writers[is_kept].seal_if_sparse)
        return await self._tidy.run(
            self._scattered, after, limit, self._reactor.seconds() - self._quiet_seconds
        )

    def _scattered(self, after: str, limit: int, quiet_since: float) -> list[str]:
        with self._census.lock:
            names = self._containers.sparse(quiet_since=quiet_since)
            try:
                return census.living(self._containers, names, after, limit)
            except OSError as error:
                # Whoever looks tidies as well.
                raise DiskFault(f"tidying {self._layout.containers}: {error.strerror}") from error


def _held_bytes(size_bytes: int) -> int:
    """What a large piece will occupy: whole blocks of the file system, and its block checksums."""
    blocks = -(-size_bytes // BLOCK_BYTES)
    beside = _rounded(64 + 8 * blocks) if blocks > 1 else 0
    return _rounded(size_bytes) + beside


def _rounded(size_bytes: int) -> int:
    return -(-size_bytes // (4 * KIB)) * 4 * KIB


def _count_some(counting: Iterator[int]) -> bool:
    """Count some directories; tell whether that was all. Blocks."""
    seen = 0
    for entries in counting:
        seen += entries
        if seen >= COUNTED_AT_START:
            return False
    return True
