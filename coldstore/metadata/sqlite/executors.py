"""Where steps run: on threads of their own, or at once."""

from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail, succeed

from coldstore.metadata.sql.executor import QUEUE_MAX, Outcome, Step, closed, too_many
from coldstore.metadata.sqlite.connection import told_apart
from coldstore.metadata.sqlite.driver import Connection, finished
from coldstore.metadata.sqlite.groupcommit import commit_together, read_together
from coldstore.metadata.sqlite.pace import Pace
from coldstore.metadata.sqlite.writer import Committer, Writer
from coldstore.model.errors import MetadataUnavailable, TakenOver
from coldstore.util.asynchronous import returns_deferred
from coldstore.util.workers import Reactor

_T = TypeVar("_T")
_Connect = Callable[[], Connection]
_Job = tuple[Step[Any], Deferred[Any]]

READERS = 2
READ_BATCH_MAX = 16
"""Reads that share a snapshot. Few, because all of them are answered when the slowest is done."""
SLOW_SECONDS = 0.01
"""Average of a look-up."""


class InlineExecutor:
    """Runs every step at once on the caller's thread, on one connection: Deferreds have fired when they are returned."""

    def __init__(self, *, connect: _Connect, on_taken_over: Callable[[str], None] = lambda _: None) -> None:
        """:param on_taken_over: as for ``Writer``"""
        self._connect = connect
        self._on_taken_over = on_taken_over
        self._connection: Connection | None = None

    def open(self) -> Deferred[None]:
        """Connect."""
        self._connection = self._connect()
        return succeed(None)

    def write(self, step: Step[_T]) -> Deferred[_T]:
        """Run a changing step in a transaction of its own."""
        return self._run(commit_together, step)

    def read(self, step: Step[_T]) -> Deferred[_T]:
        """Run a step that changes nothing."""
        return self._run(read_together, step)

    def look_up(self, step: Step[_T]) -> Deferred[_T]:
        """Run a step that changes nothing."""
        return self._run(read_together, step)

    def close(self) -> Deferred[None]:
        """Disconnect."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        return succeed(None)

    def _run(
        self, together: Callable[[Connection, Sequence[Step[Any]]], list[Outcome]], step: Step[Any]
    ) -> Deferred[Any]:
        if self._connection is None:
            return fail(closed())
        (outcome,) = together(self._connection, [step])
        if isinstance(outcome.error, TakenOver):
            self._on_taken_over(str(outcome.error))
        return fail(outcome.error) if outcome.error is not None else succeed(outcome.result)


class ThreadedExecutor:
    """One writer with group commit, readers on threads beside it, and look-ups in the reactor's thread while they are quick."""

    def __init__(
        self,
        *,
        connect: _Connect,
        connect_reader: _Connect,
        reactor: Reactor,
        write_batch_max: int,
        committer: Committer | None = None,
        on_taken_over: Callable[[str], None] = lambda _: None,
    ) -> None:
        """:param committer: makes durable what steps did; None: the file does; ``on_taken_over`` as for ``Writer``"""
        self._reactor = reactor
        self._connect_reader = connect_reader
        self._writer = Writer(
            connect=connect,
            reactor=reactor,
            batch_max=write_batch_max,
            committer=committer,
            on_taken_over=on_taken_over,
        )
        self._reads: SimpleQueue[_Job | None] = SimpleQueue()
        self._readers = [
            _Reader(f"metadata-reader-{n}", self._reads, connect_reader, reactor) for n in range(READERS)
        ]
        self._started: list[_Reader] = []
        self._near: Connection | None = None
        self._pace = Pace(SLOW_SECONDS)

    @returns_deferred
    async def open(self) -> None:
        """Start the writer, which makes the file what it must be, then the readers."""
        await self._writer.open()
        for reader in self._readers:
            await reader.start()
            self._started.append(reader)
        self._near = self._connect_reader()
        # Whoever holds a lock is waited for by the threads, not by the reactor.
        self._near.execute("PRAGMA busy_timeout = 0")

    def write(self, step: Step[_T]) -> Deferred[_T]:
        """Queue a changing step for the next transaction."""
        return self._writer.write(step)

    def read(self, step: Step[_T]) -> Deferred[_T]:
        """Queue a reading step."""
        if self._near is None:
            return fail(closed())
        if self._reads.qsize() >= QUEUE_MAX:
            return fail(too_many())
        told: Deferred[Any] = Deferred()
        self._reads.put((step, told))
        return told

    def look_up(self, step: Step[_T]) -> Deferred[_T]:
        """Run a step of one statement here and now, or in a thread while that is slow."""
        begun = self._reactor.seconds()
        if self._near is None or not self._pace.is_quick(begun):
            return self.read(step)
        try:
            result = finished(step(self._near))
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for this step, and reaches him
            fault = told_apart(error)
            if not isinstance(fault, MetadataUnavailable):
                return fail(fault)
            self._pace.blocked(begun)
            return self.read(step)
        self._pace.took(begun, self._reactor.seconds() - begun)
        return succeed(result)

    @returns_deferred
    async def close(self) -> None:
        """Let the writer and the threads come to the end of their queues."""
        near, self._near = self._near, None
        if near is not None:
            near.close()
        started, self._started = self._started, []
        for reader in started:
            reader.stop_at_end_of_queue()
        await self._writer.close()
        for reader in started:
            await reader.ended


class _Reader:
    """A thread with a connection of its own that takes reads off a queue, as many at once as are there."""

    def __init__(
        self, name: str, queue: "SimpleQueue[_Job | None]", connect: _Connect, reactor: Reactor
    ) -> None:
        self._queue = queue
        self._connect = connect
        self._reactor = reactor
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._connected: Deferred[None] = Deferred()
        self.ended: Deferred[None] = Deferred()

    def start(self) -> Deferred[None]:
        """Start the thread; fires once it is connected."""
        self._thread.start()
        return self._connected

    def stop_at_end_of_queue(self) -> None:
        """Ask one reader of this queue to end after what is in it now; its ``ended`` fires then."""
        self._queue.put(None)

    def _run(self) -> None:
        try:
            connection = self._connect()
        except Exception as error:  # noqa: BLE001 - handed to whoever opens the store
            self._reactor.callFromThread(self._connected.errback, error)
            return
        self._reactor.callFromThread(self._connected.callback, None)
        try:
            stopping = False
            while not stopping:
                batch, stopping = self._next_batch()
                if batch:
                    outcomes = read_together(connection, [step for step, _ in batch])
                    self._reactor.callFromThread(_tell, batch, outcomes)
        finally:
            connection.close()
            self._reactor.callFromThread(self.ended.callback, None)

    def _next_batch(self) -> tuple[list[_Job], bool]:
        """Wait for a job; return it with those behind it, and whether the end of the queue is among them."""
        job = self._queue.get()
        batch: list[_Job] = []
        while job is not None:
            batch.append(job)
            if len(batch) >= READ_BATCH_MAX:
                return batch, False
            try:
                job = self._queue.get_nowait()
            except Empty:
                return batch, False
        return batch, True


def _tell(batch: Sequence[_Job], outcomes: Sequence[Outcome]) -> None:
    for (_, told), outcome in zip(batch, outcomes, strict=True):
        outcome.tell(told)
