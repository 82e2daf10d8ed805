"""
Pieces that are arriving: large ones to a file by way of two ordered queues, small ones in memory and into the open segment.

Lives in the reactor's thread; only the calls handed to threads block.
"""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from coldstore.disk.accounts import Account
from coldstore.disk.addresses import SliceAddress
from coldstore.disk.files import ArrivingFile
from coldstore.disk.framing import record_bytes
from coldstore.disk.hashing import FREE, SLOWEST, Digests, crc64_digest, of_small
from coldstore.disk.pressure import Pressure, SharedPressure
from coldstore.disk.segments import Outcome, SegmentWriter, SmallPiece
from coldstore.disk.threads import Strand
from coldstore.interfaces.staging import DiskFault, IIncoming, Received, WrongLength
from coldstore.model.errors import StagingFull
from coldstore.util.asynchronous import returns_deferred, shielded
from coldstore.util.workers import Pool

BATCH_BYTES = 1024 * 1024
"""Received bytes go to the threads in batches of about this size."""
HASHED_HERE_BYTES = 32 * 1024
"""Up to this size a small piece is hashed at once (60 microseconds of MD5): handing it to a thread takes longer."""
MOST_IN_GROUP = 256
MOST_GROUP_BYTES = 16 * 1024 * 1024


def through(event: Deferred[None]) -> Deferred[None]:
    """Return a Deferred of its own for each who waits for the same event."""
    waiting: Deferred[None] = Deferred(lambda _: None)

    def tell(_: None) -> None:
        if not waiting.called:
            waiting.callback(None)

    event.addCallback(tell)
    return waiting


class Owner(Protocol):
    """Who has the account and frees what nobody wants."""

    account: Account

    def unwanted(self, received: Received) -> None:
        """A piece was published and nobody waits for it any more."""

    def ended(self, incoming: "LargeIncoming | SmallIncoming") -> None:
        """Nothing is under way for this one any more."""


@implementer(IIncoming)
class LargeIncoming:
    """
    A piece that gets a file of its own.

    Each batch goes to two queues: one thread computes MD5, another everything else and writes. What fails in a thread is
    kept and makes ``finish`` fail.
    """

    log = Logger()

    def __init__(
        self,
        *,
        owner: Owner,
        file: ArrivingFile,
        size_bytes: int,
        held_bytes: int,
        algorithms: frozenset[str],
        threads: Pool,
        pressure: SharedPressure,
    ) -> None:
        """:param held_bytes: what the owner has reserved."""
        self._owner = owner
        self._file = file
        self._size_bytes = size_bytes
        self._held_bytes = held_bytes
        self._algorithms = algorithms
        self._writing = Strand(threads)
        self._hashing = Strand(threads)
        self._slow = Digests(algorithms & {SLOWEST})
        self._others = Digests(algorithms - {SLOWEST, FREE})
        self._pressure = Pressure(pressure)
        self._batch: list[bytes] = []
        self._batch_bytes = 0
        self._written_bytes = 0
        self._placed_bytes = 0
        self._failure: Failure | None = None
        self._is_closed = False
        self._is_dropped = False
        self._ending: Deferred[None] | None = None
        self._is_whole = False
        """Whether the file holds everything that was given to the writing thread; it alone sets this."""
        self._on_thread(self._writing.run(self._open)).addCallback(self._opened)

    def _on_thread(self, done: "Deferred[bool] | Deferred[None]") -> "Deferred[bool | None]":
        result: Deferred[bool | None] = Deferred()

        def fail(failure: Failure) -> None:
            self._failure = self._failure or failure
            result.callback(None)

        done.addCallbacks(result.callback, fail)
        return result

    def _opened(self, is_allocated: bool | None) -> None:
        if is_allocated:
            self._placed_bytes = self._held_bytes
            self._owner.account.placed += self._held_bytes

    def write(self, block: bytes) -> None:
        """See ``IIncoming``."""
        if self._is_closed:
            return
        self._written_bytes += len(block)
        if self._written_bytes > self._size_bytes:
            self._batch.clear()
            return
        self._batch.append(block)
        self._batch_bytes += len(block)
        if self._batch_bytes >= BATCH_BYTES:
            self._hand_over()

    def on_pressure(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """See ``IIncoming``."""
        self._pressure.tell(pause, resume)

    def shorten(self) -> None:
        """See ``IIncoming``."""
        if self._written_bytes:
            self._size_bytes = min(self._size_bytes, self._written_bytes)

    def _hand_over(self) -> None:
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        if not batch or self._failure is not None:
            return
        self._pressure.added()
        queues = [self._on_thread(self._writing.run(self._take, batch))]
        if SLOWEST in self._algorithms:
            queues.append(self._on_thread(self._hashing.run(self._take_slow, batch)))
        DeferredList(queues).addCallback(lambda _: self._pressure.ended())

    def _open(self) -> bool:
        is_allocated = self._file.open()
        self._is_whole = True
        return is_allocated

    def _take(self, batch: list[bytes]) -> None:
        if not self._is_dropped and self._is_whole:
            self._is_whole = False
            self._others.update(batch)
            self._file.write(batch)
            self._is_whole = True

    def _take_slow(self, batch: list[bytes]) -> None:
        if not self._is_dropped:
            self._slow.update(batch)

    def finish(self) -> Deferred[Received]:
        """See ``IIncoming``."""
        if self._is_closed:
            raise RuntimeError("this piece was finished or abandoned before")
        self._is_closed = True
        self._ending = Deferred()
        return shielded(self._finished(), self._owner.unwanted)

    @returns_deferred
    async def _finished(self) -> Received:
        try:
            self._hand_over()
            if self._written_bytes != self._size_bytes:
                raise WrongLength(self._size_bytes, self._written_bytes)
            slow = await self._hashing.run(self._slow.values)
            # Nothing to do but to wait until everything queued before is through.
            await self._writing.run(self._others.values)
            if self._failure is not None:
                self._failure.raiseException()
            await self._writing.run(self._file.publish)
            crc64 = self._file.checksums.whole()
            digests = {**slow, **self._others.values()}
            if FREE in self._algorithms:
                digests[FREE] = crc64_digest(crc64)
            received = Received(
                address=str(self._file.address),
                length_bytes=self._size_bytes,
                crc64nvme=crc64,
                digests=digests,
            )
        except Exception:
            await self._dropped()
            raise
        else:
            self._give_back()
            return received
        finally:
            self._end()

    def abandon(self) -> Deferred[None]:
        """See ``IIncoming``."""
        return shielded(self._abandoned())

    @returns_deferred
    async def _abandoned(self) -> None:
        if self._ending is None:
            self._is_closed = True
            self._ending = Deferred()
            await self._dropped()
            self._end()
        await through(self._ending)

    def _end(self) -> None:
        assert self._ending is not None, "an end has a beginning"
        self._owner.ended(self)
        self._ending.callback(None)

    @returns_deferred
    async def _dropped(self) -> None:
        self._is_dropped = True
        self._batch.clear()
        try:
            await self._writing.run(self._file.drop)
        except (DiskFault, StagingFull) as error:
            # The bytes are still there, so the promise stays taken; the next start drops them.
            self.log.error("{address} could not be removed: {error}", address=self._file.address, error=error)
        else:
            self._give_back()

    def _give_back(self) -> None:
        self._owner.account.let_go(self._held_bytes)
        self._owner.account.placed -= self._placed_bytes


@implementer(IIncoming)
class SmallIncoming:
    """
    A piece that is kept in memory and appended to the open segment when it is complete.

    Thousands come in a second, so one Deferred leads from ``finish`` to its end.
    """

    def __init__(
        self,
        *,
        owner: Owner,
        size_bytes: int,
        algorithms: frozenset[str],
        threads: Pool,
        group: "GroupCommit",
    ) -> None:
        """The owner has claimed the size of the record."""
        self._owner = owner
        self._claimed_bytes = record_bytes(size_bytes)
        self._size_bytes = size_bytes
        self._algorithms = algorithms
        self._threads = threads
        self._group = group
        self._buffers: list[bytes] = []
        self._written_bytes = 0
        self._crc64nvme = 0
        self._digests: Mapping[str, bytes] = {}
        self._is_closed = False
        self._finished: Deferred[Received] | None = None
        self._ending: Deferred[None] | None = None

    def write(self, block: bytes) -> None:
        """See ``IIncoming``."""
        if self._is_closed:
            return
        self._written_bytes += len(block)
        if self._written_bytes <= self._size_bytes:
            self._buffers.append(block)

    def shorten(self) -> None:
        """See ``IIncoming``."""
        if self._written_bytes:
            self._size_bytes = min(self._size_bytes, self._written_bytes)

    def on_pressure(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """See ``IIncoming``; all of a small piece fits in memory, so nobody is paused."""

    def finish(self) -> Deferred[Received]:
        """See ``IIncoming``."""
        if self._is_closed:
            raise RuntimeError("this piece was finished or abandoned before")
        self._is_closed = True
        self._ending = Deferred()
        # Who cancels has gone; the piece is discarded when it has come to its end.
        finished: Deferred[Received] = Deferred(lambda _: None)
        self._finished = finished
        if self._written_bytes != self._size_bytes:
            self._fail(WrongLength(self._size_bytes, self._written_bytes))
        elif self._size_bytes <= HASHED_HERE_BYTES:
            self._hashed(of_small(self._buffers, self._algorithms))
        else:
            hashing = self._threads.run(of_small, self._buffers, self._algorithms)
            hashing.addCallbacks(self._hashed, self._fail)
        return finished

    def _hashed(self, hashed: tuple[int, Mapping[str, bytes]]) -> None:
        self._crc64nvme, self._digests = hashed
        self._group.add(SmallPiece(self._buffers, self._size_bytes, self._crc64nvme), self._appended)

    def _appended(self, outcome: Outcome | Failure) -> None:
        if not isinstance(outcome, SliceAddress):
            self._fail(outcome)
            return
        received = Received(
            address=str(outcome),
            length_bytes=self._size_bytes,
            crc64nvme=self._crc64nvme,
            digests=self._digests,
        )
        self._end()
        assert self._finished is not None, "what is appended was finished"
        if self._finished.called:
            self._owner.unwanted(received)
        else:
            self._finished.callback(received)

    def _fail(self, error: Exception | Failure) -> None:
        self._end()
        assert self._finished is not None, "what fails was finished"
        if not self._finished.called:
            self._finished.errback(error)

    def abandon(self) -> Deferred[None]:
        """See ``IIncoming``."""
        return shielded(self._abandoned())

    @returns_deferred
    async def _abandoned(self) -> None:
        if self._ending is None:
            self._is_closed = True
            self._ending = Deferred()
            self._end()
        await through(self._ending)

    def _end(self) -> None:
        assert self._ending is not None, "an end has a beginning"
        self._buffers = []
        self._owner.account.unclaim(self._claimed_bytes)
        self._owner.ended(self)
        self._ending.callback(None)


class GroupCommit:
    """Small pieces that wait to be appended: what comes while one group is written is the next one. Never waits to fill one."""

    def __init__(self, *, writer: SegmentWriter, threads: Pool, account: Account) -> None:
        """:param threads: a pool for this alone, so that one thread at a time appends."""
        self._writer = writer
        self._threads = threads
        self._account = account
        self._waiting: deque[tuple[SmallPiece, Callable[[Outcome | Failure], None]]] = deque()
        self._is_busy = False

    def add(self, piece: SmallPiece, told: Callable[[Outcome | Failure], None]) -> None:
        """Append a piece; ``told`` is called with what came of it: its address once it is durable."""
        self._waiting.append((piece, told))
        if not self._is_busy:
            self._next()

    def _next(self) -> None:
        group: list[tuple[SmallPiece, Callable[[Outcome | Failure], None]]] = []
        size = 0
        while self._waiting and len(group) < MOST_IN_GROUP and size < MOST_GROUP_BYTES:
            group.append(self._waiting.popleft())
            size += group[-1][0].record_bytes
        self._is_busy = bool(group)
        if not group:
            return
        pieces = [piece for piece, _ in group]

        def written(outcomes: "list[Outcome] | Failure") -> None:
            self._next()
            each = [outcomes] * len(group) if isinstance(outcomes, Failure) else outcomes
            for (_, told), outcome in zip(group, each, strict=True):
                told(outcome)

        self._threads.run(self._writer.commit, pieces, self._account.preparable()).addBoth(written)
