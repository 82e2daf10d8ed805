"""Where steps run: on threads of their own, or at once."""

import sqlite3
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorFromThreads

from coldstore.metadata.sqlite.groupcommit import Outcome, Step, commit_together, read_together
from coldstore.model.errors import MetadataUnavailable
from coldstore.util.asynchronous import returns_deferred

_T = TypeVar("_T")
_Connect = Callable[[], sqlite3.Connection]
_Job = tuple[Step, Deferred[Any]]

READERS = 2
READ_BATCH_MAX = 16
"""Reads that share a snapshot. Few, because all of them are answered when the slowest is done."""
QUEUE_MAX = 20_000
"""Steps that may wait; more are refused, because nobody would still want their answers."""


class Executor(Protocol):
    """Runs steps. A write's Deferred fires after its commit; a read sees every commit that was told before it began."""

    def open(self) -> Deferred[None]:
        """Get ready."""

    def write(self, step: Callable[[sqlite3.Connection], _T]) -> Deferred[_T]:
        """Run a changing step in a transaction."""

    def read(self, step: Callable[[sqlite3.Connection], _T]) -> Deferred[_T]:
        """Run a step that changes nothing."""

    def close(self) -> Deferred[None]:
        """Finish what was given, then let go of the connections."""


class InlineExecutor:
    """Runs every step at once on the caller's thread, on one connection: Deferreds have fired when they are returned."""

    def __init__(self, *, connect: _Connect) -> None:
        self._connect = connect
        self._connection: sqlite3.Connection | None = None

    def open(self) -> Deferred[None]:
        """Connect."""
        self._connection = self._connect()
        return succeed(None)

    def write(self, step: Callable[[sqlite3.Connection], _T]) -> Deferred[_T]:
        """Run a changing step in a transaction of its own."""
        return self._run(commit_together, step)

    def read(self, step: Callable[[sqlite3.Connection], _T]) -> Deferred[_T]:
        """Run a step that changes nothing."""
        return self._run(read_together, step)

    def close(self) -> Deferred[None]:
        """Disconnect."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        return succeed(None)

    def _run(
        self, together: Callable[[sqlite3.Connection, Sequence[Step]], list[Outcome]], step: Step
    ) -> Deferred[Any]:
        if self._connection is None:
            return fail(_closed())
        (outcome,) = together(self._connection, [step])
        return fail(outcome.error) if outcome.error is not None else succeed(outcome.result)


class ThreadedExecutor:
    """One writer thread with group commit, and readers beside it."""

    def __init__(
        self,
        *,
        connect: _Connect,
        connect_reader: _Connect,
        reactor: IReactorFromThreads,
        write_batch_max: int,
    ) -> None:
        self._writes: SimpleQueue[_Job | None] = SimpleQueue()
        self._reads: SimpleQueue[_Job | None] = SimpleQueue()
        self._writer = _Worker(
            "metadata-writer",
            self._writes,
            connect,
            commit_together,
            batch_max=write_batch_max,
            reactor=reactor,
        )
        self._readers = [
            _Worker(
                f"metadata-reader-{n}",
                self._reads,
                connect_reader,
                read_together,
                batch_max=READ_BATCH_MAX,
                reactor=reactor,
            )
            for n in range(READERS)
        ]
        self._started: list[_Worker] = []
        self._is_open = False

    @returns_deferred
    async def open(self) -> None:
        """Start the writer, which makes the file what it must be, then the readers."""
        for worker in (self._writer, *self._readers):
            await worker.start()
            self._started.append(worker)
        self._is_open = True

    def write(self, step: Callable[[sqlite3.Connection], _T]) -> Deferred[_T]:
        """Queue a changing step for the next transaction."""
        return self._queued(self._writes, step)

    def read(self, step: Callable[[sqlite3.Connection], _T]) -> Deferred[_T]:
        """Queue a reading step."""
        return self._queued(self._reads, step)

    @returns_deferred
    async def close(self) -> None:
        """Let the threads come to the end of their queues."""
        self._is_open = False
        started, self._started = self._started, []
        for worker in started:
            worker.stop_at_end_of_queue()
        for worker in started:
            await worker.ended

    def _queued(self, queue: "SimpleQueue[_Job | None]", step: Step) -> Deferred[Any]:
        if not self._is_open:
            return fail(_closed())
        if queue.qsize() >= QUEUE_MAX:
            return fail(MetadataUnavailable(f"{QUEUE_MAX} metadata steps are waiting"))
        told: Deferred[Any] = Deferred()
        queue.put((step, told))
        return told


class _Worker:
    """A thread with a connection of its own that takes jobs off a queue, as many at once as are there."""

    def __init__(
        self,
        name: str,
        queue: "SimpleQueue[_Job | None]",
        connect: _Connect,
        together: Callable[[sqlite3.Connection, Sequence[Step]], list[Outcome]],
        *,
        batch_max: int,
        reactor: IReactorFromThreads,
    ) -> None:
        self._queue = queue
        self._connect = connect
        self._together = together
        self._batch_max = batch_max
        self._reactor = reactor
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._connected: Deferred[None] = Deferred()
        self.ended: Deferred[None] = Deferred()

    def start(self) -> Deferred[None]:
        """Start the thread; fires once it is connected."""
        self._thread.start()
        return self._connected

    def stop_at_end_of_queue(self) -> None:
        """Ask one worker of this queue to end after what is in it now; its ``ended`` fires then."""
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
                    outcomes = self._together(connection, [step for step, _ in batch])
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
            if len(batch) >= self._batch_max:
                return batch, False
            try:
                job = self._queue.get_nowait()
            except Empty:
                return batch, False
        return batch, True


def _tell(batch: Sequence[_Job], outcomes: Sequence[Outcome]) -> None:
    for (_, told), outcome in zip(batch, outcomes, strict=True):
        if outcome.error is not None:
            told.errback(outcome.error)
        else:
            told.callback(outcome.result)


def _closed() -> MetadataUnavailable:
    return MetadataUnavailable("the metadata store is not open")
