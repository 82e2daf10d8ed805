"""
Reading pieces: every block is checked against its recorded checksum before its first byte goes out, once per run.

State lives in the reactor's thread; reading and checking run in threads. To check a block takes a buffer that its thread
uses again and again, so that many readers at once take no more memory than few.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from coldstore.disk.blocks import block_length
from coldstore.disk.filesystem import FileSystem
from coldstore.interfaces.staging import BLOCK_BYTES, BytesDamaged, DiskFault, IPieceReader
from coldstore.util.asynchronous import returns_deferred, shielded
from coldstore.util.checksums import crc64nvme
from coldstore.util.workers import Pool

MOST_ADDRESSES_REMEMBERED = 100_000
CHECKED_AT_ONCE_BYTES = 256 * 1024
"""A block is checked in steps of this size; one that is no larger is read once, to be checked and given out."""

_of_thread = threading.local()


class VerifiedBlocks:
    """Which blocks were checked since this process started. Forgetting one only means that it is checked again."""

    def __init__(self, most_addresses: int = MOST_ADDRESSES_REMEMBERED) -> None:
        self._most = most_addresses
        self._bits: OrderedDict[str, int] = OrderedDict()
        self._under_way: dict[tuple[str, int], list[Deferred[bytes]]] = {}

    def has(self, address: str, block: int) -> bool:
        """Tell whether a block was checked."""
        return bool(self._bits.get(address, 0) >> block & 1)

    def forget(self, address: str) -> None:
        """The piece was discarded."""
        self._bits.pop(address, None)

    def check(self, address: str, block: int, job: Callable[[], Deferred[bytes]]) -> Deferred[bytes]:
        """Check a block by ``job``, or wait for a check that is under way; fires with what that gives."""
        done: Deferred[bytes] = Deferred(lambda _: None)
        key = (address, block)
        waiting = self._under_way.get(key)
        if waiting is not None:
            waiting.append(done)
            return done
        self._under_way[key] = [done]

        def through(outcome: bytes | Failure) -> None:
            if not isinstance(outcome, Failure):
                self._remember(address, block)
            for each in self._under_way.pop(key):
                if each.called:
                    continue
                if isinstance(outcome, Failure):
                    each.errback(outcome)
                else:
                    each.callback(outcome)

        job().addBoth(through)
        return done

    def _remember(self, address: str, block: int) -> None:
        self._bits[address] = self._bits.get(address, 0) | 1 << block
        self._bits.move_to_end(address)
        if len(self._bits) > self._most:
            self._bits.popitem(last=False)


@dataclass(frozen=True, slots=True)
class OpenPiece:
    """An open file and where in it the piece lies; one checksum per block."""

    descriptor: int
    path: str
    base_bytes: int
    checksums: Sequence[int]


@implementer(IPieceReader)
class PieceReader:
    """Reads one piece. Its descriptor is closed when the last call under way is through."""

    def __init__(
        self,
        *,
        address: str,
        length_bytes: int,
        opened: OpenPiece,
        system: FileSystem,
        threads: Pool,
        verified: VerifiedBlocks,
        closed: Callable[[], None],
    ) -> None:
        """:param closed: is called once, when nobody reads any more."""
        self.length_bytes = length_bytes
        self._address = address
        self._opened = opened
        self._system = system
        self._threads = threads
        self._verified = verified
        self._closed = closed
        self._under_way = 0
        self._is_closed = False

    @returns_deferred
    async def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        """See ``IPieceReader``."""
        self._check_bounds(offset_bytes, length_bytes)
        if length_bytes > BLOCK_BYTES:
            raise ValueError(f"at most {BLOCK_BYTES} bytes are read at once, not {length_bytes}")
        self._under_way += 1
        try:
            return await self._read(offset_bytes, offset_bytes + length_bytes)
        finally:
            self._through()

    @returns_deferred
    async def _read(self, offset_bytes: int, end: int) -> bytes:
        parts: list[bytes] = []
        while offset_bytes < end:
            block = offset_bytes // BLOCK_BYTES
            begin = offset_bytes - block * BLOCK_BYTES
            count = min(end - offset_bytes, BLOCK_BYTES - begin)
            if self._verified.has(self._address, block):
                parts.append(await self._in_thread(self._exactly, offset_bytes, count))
            else:
                content = await self._check(block)
                if content:
                    parts.append(content[begin : begin + count])
                else:
                    parts.append(await self._in_thread(self._exactly, offset_bytes, count))
            offset_bytes += count
        return parts[0] if len(parts) == 1 else b"".join(parts)

    @returns_deferred
    async def verified_range(self, offset_bytes: int, length_bytes: int) -> tuple[int, int]:
        """See ``IPieceReader``."""
        self._check_bounds(offset_bytes, length_bytes)
        self._under_way += 1
        try:
            for block in range(offset_bytes // BLOCK_BYTES, -(-(offset_bytes + length_bytes) // BLOCK_BYTES)):
                if not self._verified.has(self._address, block):
                    await self._check(block)
        finally:
            self._through()
        if self._is_closed:
            raise ValueError("the reader was closed")
        return self._opened.descriptor, self._opened.base_bytes + offset_bytes

    def _check_bounds(self, offset_bytes: int, length_bytes: int) -> None:
        if self._is_closed:
            raise ValueError("the reader was closed")
        if offset_bytes < 0 or length_bytes < 0 or offset_bytes + length_bytes > self.length_bytes:
            raise ValueError(f"{length_bytes} bytes at {offset_bytes} are not inside {self.length_bytes}")

    def _check(self, block: int) -> Deferred[bytes]:
        return self._verified.check(self._address, block, lambda: self._in_thread(self._checked, block))

    def _in_thread(self, function: Callable[..., bytes], *arguments: int) -> Deferred[bytes]:
        # The call goes on when who asked for it has gone, and needs the descriptor until then.
        self._under_way += 1

        def through(outcome: bytes | Failure) -> bytes | Failure:
            self._through()
            return outcome

        return shielded(self._threads.run(function, *arguments).addBoth(through))

    def _through(self) -> None:
        self._under_way -= 1
        self._close_when_idle()

    def _exactly(self, offset_bytes: int, length_bytes: int) -> bytes:
        opened = self._opened
        try:
            content = self._system.read(opened.descriptor, length_bytes, opened.base_bytes + offset_bytes)
        except OSError as error:
            raise DiskFault(f"reading {opened.path}: {error.strerror}") from error
        if len(content) != length_bytes:
            raise DiskFault(f"{opened.path} is shorter than was recorded for {self._address}")
        return content

    def _checked(self, block: int) -> bytes:
        """Check a block; return it when it is small, and nothing otherwise."""
        begin, length = block * BLOCK_BYTES, block_length(self.length_bytes, block)
        if length <= CHECKED_AT_ONCE_BYTES:
            content = self._exactly(begin, length)
            checksum = crc64nvme(content)
        else:
            content = b""
            checksum = self._checksum(begin, length)
        if checksum != self._opened.checksums[block]:
            raise BytesDamaged(self._address, block)
        return content

    def _checksum(self, offset_bytes: int, length_bytes: int) -> int:
        opened = self._opened
        if not hasattr(_of_thread, "buffer"):
            _of_thread.buffer = bytearray(CHECKED_AT_ONCE_BYTES)
        buffer = memoryview(_of_thread.buffer)
        checksum = 0
        end = offset_bytes + length_bytes
        while offset_bytes < end:
            step = buffer[: end - offset_bytes]
            try:
                got = self._system.read_into(opened.descriptor, step, opened.base_bytes + offset_bytes)
            except OSError as error:
                raise DiskFault(f"reading {opened.path}: {error.strerror}") from error
            if got != len(step):
                raise DiskFault(f"{opened.path} is shorter than was recorded for {self._address}")
            checksum = crc64nvme(step, checksum)
            offset_bytes += got
        return checksum

    def close(self) -> None:
        """See ``IPieceReader``."""
        if not self._is_closed:
            self._is_closed = True
            self._close_when_idle()

    def _close_when_idle(self) -> None:
        if self._is_closed and self._under_way == 0:
            self._system.close(self._opened.descriptor)
            self._closed()
