# mypy: disallow-untyped-calls=False
# (twisted.web is annotated in part only)
"""
A version's bytes on their way to a client: verified before they leave, never more in memory than the client takes.

On plain TCP the kernel sends them from the file (``sendfile``) once their blocks are checked; elsewhere they are read
and written as fast as the connection drains. The next block is checked while one is being sent. Measured with
Twisted's reactors: ``sendfile`` needs a fifth of the processor time of reading and writing; larger blocks than 256 KiB
(64 KiB with TLS) gain nothing.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet import main
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime, ISSLTransport
from twisted.internet.tcp import Connection
from twisted.logger import Logger
from twisted.web.server import Request
from zope.interface import implementer

from coldstore.interfaces.staging import BLOCK_BYTES, BytesDamaged
from coldstore.s3.pace import Pace
from coldstore.s3.pieces import PinnedRun, Run
from coldstore.util.asynchronous import returns_deferred

WRITE_BYTES = 256 * 1024
WRITE_TLS_BYTES = 64 * 1024
READ_BYTES = 512 * 1024
"""What is read at once for a connection that is written to; as much again may be read ahead."""
SENDFILE_BYTES = 1024 * 1024
"""What one turn of the reactor gives to the kernel at most, so that other connections get theirs."""


class ClientGone(Exception):
    """The client went away while bytes were on their way to it."""


class RunStream:
    """An ``AnswerStream`` of one pinned run; closes it in every case."""

    log = Logger()

    def __init__(
        self,
        run: Run,
        *,
        clock: IReactorTime,
        pace: Pace,
        on_damage: Callable[[BytesDamaged], Awaitable[None]],
    ) -> None:
        """
        :param pace: what the client must take at least: it keeps bytes pinned that may have to go
        :param on_damage: is told of a damaged block; the connection is dropped in any case
        """
        self._pace = pace
        self._run = run
        self._clock = clock
        self._on_damage = on_damage
        self._watch: IDelayedCall | None = None

    async def prepare(self) -> None:
        """
        Check the first block, so that what cannot be read at all is refused by an answer and not by a broken one.

        :raise BytesDamaged: after ``on_damage``; the run is closed
        :raise DiskFault: the run is closed
        """
        try:
            await self._run.check_first()
        except Exception as error:
            self._run.close()
            if isinstance(error, BytesDamaged):
                await self._on_damage(error)
            raise

    @returns_deferred
    async def start(self, request: Request) -> None:
        """See ``AnswerStream``."""
        sender = _sender_for(request, self._run)
        gone = request.notifyFinish()
        gone.addBoth(lambda _: sender.stop())
        self._watch_progress(request, sender)
        try:
            await self._send_all(sender)
        except ClientGone:
            return
        except BytesDamaged as error:
            await self._on_damage(error)
            raise
        finally:
            if self._watch is not None and self._watch.active():
                self._watch.cancel()
            sender.close()
            self._run.close()

    def abandon(self) -> None:
        """See ``AnswerStream``."""
        self._run.close()

    async def _send_all(self, sender: "_Sender") -> None:
        step = self._run.next_step(sender.step_bytes)
        ahead = None if step is None else sender.fetch(self._run, step)
        while step is not None and ahead is not None:
            fetched = await ahead
            following = self._run.peek(sender.step_bytes)
            # A reader of the next piece would close the one whose descriptor is being sent from.
            overlaps = following is not None and following[0] == step[0]
            current, step = step, self._run.next_step(sender.step_bytes)
            ahead = sender.fetch(self._run, step) if overlaps and step is not None else None
            try:
                await sender.send(fetched, current[2])
            except Exception:
                if ahead is not None:
                    ahead.addErrback(lambda _: None)
                raise
            if step is not None and ahead is None:
                ahead = sender.fetch(self._run, step)

    def _watch_progress(self, request: Request, sender: "_Sender") -> None:
        seen = sender.sent_bytes
        pace = self._pace

        def look() -> None:
            nonlocal seen
            taken_bytes = sender.sent_bytes - seen
            if taken_bytes < pace.least_bytes and sender.is_waiting_for_client:
                self.log.info(
                    "{remote} took {taken} bytes in {seconds:g} s and loses its connection",
                    remote=getattr(request.getClientAddress(), "host", "-"),
                    taken=taken_bytes,
                    seconds=pace.window_seconds,
                )
                transport: Any = request.channel.transport
                transport.abortConnection()
                return
            seen = sender.sent_bytes
            self._watch = self._clock.callLater(pace.window_seconds, look)

        self._watch = self._clock.callLater(pace.window_seconds, look)


class _Sender(ABC):
    """How bytes get to one client."""

    step_bytes: int
    sent_bytes = 0
    is_waiting_for_client = False

    @abstractmethod
    def fetch(self, run: Run, step: tuple[int, int, int]) -> "Deferred[Any]":
        """Make a step's bytes ready to send."""

    @abstractmethod
    def send(self, fetched: Any, length_bytes: int) -> "Deferred[None]":
        """Send what ``fetch`` gave; fails with ``ClientGone``."""

    @abstractmethod
    def stop(self) -> None:
        """The client has gone, or the request is over. Repeatable."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the connection. Repeatable."""


def _sender_for(request: Request, run: Run) -> _Sender:
    transport = request.channel.transport
    if run.has_file and isinstance(transport, Connection) and not transport.TLS and hasattr(os, "sendfile"):
        return _KernelSender(transport)
    return _WritingSender(request, WRITE_TLS_BYTES if ISSLTransport.providedBy(transport) else WRITE_BYTES)


class _KernelSender(_Sender):
    """
    ``sendfile`` on Twisted's TCP transport: our own ``doWrite`` stands before that of its class while a step is sent.

    What the transport has buffered (the header) goes first, by the method of its class.
    """

    step_bytes = BLOCK_BYTES

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._descriptor = -1
        self._offset_bytes = 0
        self._left_bytes = 0
        self._done: Deferred[None] | None = None
        self._is_gone = False
        self._do_write = self._write_some

    @returns_deferred
    async def fetch(self, run: Run, step: tuple[int, int, int]) -> tuple[int, int]:
        """Return descriptor and offset of checked bytes."""
        assert isinstance(run, PinnedRun), "others have no file"
        reader = await run.reader(step[0])
        return await reader.verified_range(step[1], step[2])

    def send(self, fetched: tuple[int, int], length_bytes: int) -> "Deferred[None]":
        """Have the reactor send the bytes."""
        done: Deferred[None] = Deferred()
        if self._is_gone:
            done.errback(ClientGone())
            return done
        self._descriptor, self._offset_bytes = fetched
        self._left_bytes = length_bytes
        self._done = done
        self.is_waiting_for_client = True
        self._transport.doWrite = self._do_write
        self._transport.startWriting()
        return done

    def _write_some(self) -> Any:
        """Stand for the transport's ``doWrite``; the result has its meaning: None, or why the connection is lost."""
        transport = self._transport
        if transport.dataBuffer or transport._tempDataLen:
            result = type(transport).doWrite(transport)
            if result is None and self._done is not None:
                transport.startWriting()
            return result
        try:
            sent = os.sendfile(
                transport.fileno(),
                self._descriptor,
                self._offset_bytes,
                min(self._left_bytes, SENDFILE_BYTES),
            )
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            return error
        if sent == 0:  # the file is shorter than its record: the client must not take this for the end
            return main.CONNECTION_LOST
        self.sent_bytes += sent
        self._offset_bytes += sent
        self._left_bytes -= sent
        if self._left_bytes == 0:
            self._restore()
            transport.stopWriting()
            done, self._done = self._done, None
            if done is not None:
                done.callback(None)
        return None

    def stop(self) -> None:
        """See ``_Sender``."""
        self._is_gone = True
        self._restore()
        done, self._done = self._done, None
        if done is not None:
            done.errback(ClientGone())

    def close(self) -> None:
        """See ``_Sender``."""
        self._restore()

    def _restore(self) -> None:
        self.is_waiting_for_client = False
        if self._transport.__dict__.get("doWrite") is self._do_write:
            del self._transport.doWrite


@implementer(IPushProducer)
class _WritingSender(_Sender):
    """Reads blocks and writes them while the connection drains; works on every transport."""

    step_bytes = READ_BYTES

    def __init__(self, request: Request, write_bytes: int) -> None:
        self._request = request
        self._write_bytes = write_bytes
        self._is_paused = False
        self._is_gone = False
        self._room: Deferred[None] | None = None
        request.registerProducer(self, True)
        self._is_registered = True

    @returns_deferred
    async def fetch(self, run: Run, step: tuple[int, int, int]) -> bytes:
        """Return checked bytes."""
        return await run.read(step)

    @returns_deferred
    async def send(self, fetched: bytes, length_bytes: int) -> None:
        """Write the bytes as the connection takes them."""
        view = memoryview(fetched)
        for begin in range(0, length_bytes, self._write_bytes):
            await self._passage()
            block = bytes(view[begin : begin + self._write_bytes])
            self._request.write(block)
            self.sent_bytes += len(block)

    def _passage(self) -> "Deferred[None]":
        if self._is_gone:
            gone: Deferred[None] = Deferred()
            gone.errback(ClientGone())
            return gone
        if not self._is_paused:
            return succeed(None)
        self._room = Deferred()
        self.is_waiting_for_client = True
        return self._room

    def pauseProducing(self) -> None:
        """The connection is full; called by the channel."""
        self._is_paused = True

    def resumeProducing(self) -> None:
        """The connection has drained; called by the channel."""
        self._is_paused = False
        self.is_waiting_for_client = False
        room, self._room = self._room, None
        if room is not None:
            room.callback(None)

    def stopProducing(self) -> None:
        """The connection is lost; called by the channel."""
        self.stop()

    def stop(self) -> None:
        """See ``_Sender``."""
        self._is_gone = True
        self.is_waiting_for_client = False
        room, self._room = self._room, None
        if room is not None:
            room.errback(ClientGone())

    def close(self) -> None:
        """See ``_Sender``."""
        if self._is_registered:
            self._is_registered = False
            if self._request.channel is not None:
                self._request.unregisterProducer()
