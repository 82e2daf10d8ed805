"""Bytes on their way to the disk are encrypted: in their order, large runs of them in a thread, the writer held back meanwhile."""

from collections.abc import Callable, Mapping
from functools import partial

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from coldstore.interfaces.staging import IIncoming
from coldstore.s3.encryption import Sealing
from coldstore.s3.encryption_pieces import PieceCipher
from coldstore.util.checksums import Digest, new_digest

BATCH_BYTES = 256 * 1024
"""A thread is given at least so much at once."""
WAITING_LIMIT_BYTES = 1024 * 1024
"""The writer is held back while more than this waits to be encrypted."""
INLINE_BYTES = 64 * 1024
"""Up to this much is encrypted at once (some 50 microseconds); a thread would cost more than it saves."""


class SealingSink:
    """
    A sink that encrypts what it is given, as one piece, into the disk's. Ends with ``finish``, or is forgotten.

    The digests of what was written, which the client knows, are taken here: what the disk sees is something else.
    """

    def __init__(self, incoming: IIncoming, sealing: Sealing, algorithms: frozenset[str]) -> None:
        """:param algorithms: of the digests"""
        self._incoming = incoming
        self._in_thread = sealing.in_thread
        self._chunk_bytes = sealing.key.chunk_bytes
        header = sealing.new_header()
        self._cipher = sealing.key.cipher(header, sealing.part_number)
        self._sealed: list[bytes] = [header]
        self._index = 0
        self._digests = {name: new_digest(name) for name in algorithms}
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._is_running = False
        self._failure: Failure | None = None
        self._idle: Deferred[None] | None = None
        self._pressed_by: set[str] = set()
        self._pause: Callable[[], None] = _nothing
        self._resume: Callable[[], None] = _nothing
        self.stored_bytes = 0
        """What has gone to the disk."""

    def on_pressure(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """See ``BodySink``."""
        self._pause, self._resume = pause, resume
        self._incoming.on_pressure(partial(self._press, "disk"), partial(self._release, "disk"))

    def write(self, block: bytes) -> None:
        """Take bytes; never blocks. What goes wrong makes ``finish`` fail."""
        if self._failure is not None:
            return
        self._waiting.append(block)
        self._waiting_bytes += len(block)
        if self._waiting_bytes > WAITING_LIMIT_BYTES:
            self._press("encryption")
        self._go_on()

    async def finish(self) -> Mapping[str, bytes]:
        """Have all that was written, at least one byte, go to the disk; return its digests."""
        if self._is_running:
            self._idle = Deferred()
            await self._idle
        if self._failure is not None:
            self._failure.raiseException()
        batch = self._batch(self._waiting_bytes, is_last=True)
        if batch.size_bytes <= INLINE_BYTES:
            batch.run()
        else:
            await self._in_thread(batch.run)
        self._pass_on(batch)
        return {name: digest.digest() for name, digest in self._digests.items()}

    def _go_on(self) -> None:
        # What came last is kept back: nobody knows yet whether it is the end, and the last chunk is sealed as such.
        if self._is_running or self._failure is not None or self._waiting_bytes <= BATCH_BYTES:
            return
        chunks = (self._waiting_bytes - 1) // self._chunk_bytes
        if chunks == 0:
            return
        batch = self._batch(chunks * self._chunk_bytes, is_last=False)
        self._is_running = True
        self._in_thread(batch.run).addCallbacks(lambda _: self._done(batch), self._failed)

    def _batch(self, size_bytes: int, *, is_last: bool) -> "_Batch":
        joined = b"".join(self._waiting)
        rest = joined[size_bytes:]
        self._waiting, self._waiting_bytes = [rest] if rest else [], len(rest)
        first, chunks = self._index, -(-size_bytes // self._chunk_bytes)
        self._index += chunks
        return _Batch(
            self._cipher,
            tuple(self._digests.values()),
            memoryview(joined)[:size_bytes],
            first_index=first,
            chunk_bytes=self._chunk_bytes,
            is_last=is_last,
        )

    def _done(self, batch: "_Batch") -> None:
        self._is_running = False
        self._pass_on(batch)
        self._go_on()
        if self._waiting_bytes <= WAITING_LIMIT_BYTES:
            self._release("encryption")
        self._tell_idle()

    def _failed(self, failure: Failure) -> None:
        self._is_running = False
        self._failure = failure
        self._waiting.clear()
        self._release("encryption")
        self._tell_idle()

    def _tell_idle(self) -> None:
        idle = self._idle
        if idle is not None and not self._is_running:
            self._idle = None
            idle.callback(None)

    def _pass_on(self, batch: "_Batch") -> None:
        sealed, self._sealed = self._sealed + batch.sealed, []
        for block in sealed:
            self.stored_bytes += len(block)
            self._incoming.write(block)

    def _press(self, who: str) -> None:
        self._pressed_by.add(who)
        self._pause()

    def _release(self, who: str) -> None:
        if who in self._pressed_by:
            self._pressed_by.discard(who)
            if not self._pressed_by:
                self._resume()


class _Batch:
    """Some whole chunks, or all that is left: encrypted by ``run``, in any thread."""

    def __init__(
        self,
        cipher: PieceCipher,
        digests: tuple[Digest, ...],
        plain: memoryview,
        *,
        first_index: int,
        chunk_bytes: int,
        is_last: bool,
    ) -> None:
        self._cipher = cipher
        self._digests = digests
        self._plain = plain
        self._first_index = first_index
        self._chunk_bytes = chunk_bytes
        self._is_last = is_last
        self.size_bytes = len(plain)
        self.sealed: list[bytes] = []

    def run(self) -> None:
        """Take digests and encrypt."""
        for digest in self._digests:
            digest.update(self._plain)
        step = self._chunk_bytes
        for number, begin in enumerate(range(0, self.size_bytes, step)):
            end = begin + step
            self.sealed.append(
                self._cipher.seal(
                    self._first_index + number,
                    self._plain[begin:end],
                    is_last=self._is_last and end >= self.size_bytes,
                )
            )
        self._plain = memoryview(b"")


def _nothing() -> None:
    """Hold nobody back."""
