"""
The batches that are written to etcd, one transaction each, by one writer.

Every transaction compares two keys by the revision of their last change: ``writer``, which is ours as long as our lease lasts, and
``batch``, which the transaction itself changes. So nobody else can write in between, and a transaction that is still under way
somewhere becomes void by the next one. When the outcome of one is unknown, an empty batch is written behind it, the fence: if that
succeeds the one before was not written and never will be, and if not, ``batch`` tells which was written last.
"""

import json
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from coldstore.interfaces.metadata import AnotherAppliance
from coldstore.metadata.etcd.changes import Change
from coldstore.metadata.etcd.gateway import (
    Answer,
    Event,
    Gateway,
    KeyValue,
    Refused,
    Unknown,
    deleting,
    mod_revision_is,
    putting,
    reading,
)
from coldstore.metadata.etcd.keys import Keys
from coldstore.model.errors import MetadataFull, MetadataUnavailable, TakenOver
from coldstore.util.thishost import host_name
from coldstore.util.workers import Reactor

PAUSE_FIRST_SECONDS, PAUSE_MOST_SECONDS = 0.05, 2.0
REFUSALS_MAX = 3
"""How often etcd refuses a batch until we believe it: a request that was cut off on its way is one that it does not understand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The last one: its name, and the revision at which it was written; 0 and no name when there is none."""

    revision: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """
    Who writes.

    :ivar replica: names the replica
    """

    replica: str
    host: str
    pid: int
    since: str

    def follows(self, earlier: "Holder") -> bool:
        """Whether the earlier one has ended: here is its replica, which one process at a time has; but a copy of it may be elsewhere."""
        return (self.replica, self.host) == (earlier.replica, earlier.host)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


def this_process(reactor: Reactor, *, replica: str) -> Holder:
    """Return who writes when it is us."""
    return Holder(
        replica=replica,
        host=host_name(),
        pid=os.getpid(),
        since=datetime.fromtimestamp(reactor.seconds(), UTC).isoformat(timespec="seconds"),
    )


class Log:
    """
    The one writer of batches.

    :ivar last: the last batch, as far as we know
    :ivar taken_over: why nothing may be written, nor read, any more; empty while it may
    """

    log = Logger()

    def __init__(
        self,
        gateway: Gateway,
        keys: Keys,
        *,
        run: str,
        reactor: Reactor,
        lease_seconds: int,
        patience_seconds: float,
        on_taken_over: Callable[[str], None] = lambda _: None,
    ) -> None:
        """
        :param run: names this run, as no other does
        :param lease_seconds: how long another appliance waits for us when we are gone
        :param patience_seconds: how long an unknown outcome is asked for until those who wait are told that it is unknown
        :param on_taken_over: is told why, when ``taken_over`` is set
        """
        self._gateway = gateway
        self._keys = keys
        self._run = run
        self._reactor = reactor
        self._lease_seconds = lease_seconds
        self._patience_seconds = patience_seconds
        self._on_taken_over = on_taken_over
        self._count = 0
        self._holder: Holder | None = None
        self._lease = 0
        self._writer_revision = 0
        self._regaining = DeferredLock()
        self._tick: IDelayedCall | None = None
        self._renewing: Deferred[None] | None = None
        self._is_closing = False
        self._given_up = ""
        self._doubtful = ""
        self._is_answered = False
        self._fences: set[str] = set()
        self.last = Batch()
        self.taken_over = ""

    # ── the lock ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def begin(self, holder: Holder) -> None:
        """
        Become the writer, and learn which batch is the last.

        :raise AnotherAppliance: one is, and stays so for longer than a lease that nobody renews
        :raise MetadataUnavailable: etcd cannot be asked
        """
        self._holder = holder
        end = self._reactor.seconds() + self._lease_seconds + 2
        is_said = False
        while True:
            batch, writer = await self._look_up()
            if writer is None or holder.follows(_holder_of(writer)):
                if await self._take(writer, batch):
                    break
                continue
            if self._reactor.seconds() > end:
                raise AnotherAppliance(
                    f"{self._keys.all.decode()}, where the metadata are in etcd,", str(_holder_of(writer))
                )
            if not is_said:
                self.log.info("waiting for the end of another appliance: {holder}", holder=_holder_of(writer))
                is_said = True
            await self._pause(0.5)
        self.last = _batch_of(batch)
        self._tick = self._reactor.callLater(self._lease_seconds / 3, self._renew)

    async def end(self) -> None:
        """Write no more; let another appliance write at once. Repeatable."""
        self._is_closing = True
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        if self._renewing is not None:
            self._renewing.cancel()
        if self._writer_revision:
            self._writer_revision = 0
            try:
                await self._gateway.revoke_lease(self._lease)
            except MetadataUnavailable as fault:
                self.log.info("the lease of the writer ends by itself: {fault}", fault=str(fault))

    def stop_waiting(self) -> None:
        """The store closes: wait for etcd no longer than it takes one call to fail, whatever there is to be written."""
        self._is_closing = True

    async def _take(self, writer: KeyValue | None, batch: KeyValue | None) -> bool:
        """Make the writer's key ours, if both keys are as they were seen; return whether it is."""
        lease = await self._gateway.grant_lease(self._lease_seconds)
        answer = await self._gateway.txn(
            [
                mod_revision_is(self._keys.writer, writer.revision if writer else 0),
                mod_revision_is(self._keys.batch, batch.revision if batch else 0),
            ],
            [putting(self._keys.writer, json.dumps(asdict(self._me)).encode(), lease=lease)],
        )
        if answer.succeeded:
            self._lease, self._writer_revision = lease, answer.revision
        return answer.succeeded

    @property
    def _me(self) -> Holder:
        assert self._holder is not None, "the log has not begun"
        return self._holder

    def _renew(self) -> None:
        self._tick = None
        self._renewing = Deferred.fromCoroutine(self._renewed())
        self._renewing.addErrback(lambda failure: failure.trap(CancelledError) and None)
        self._renewing.addErrback(
            lambda failure: self.log.failure("the lease of the writer", failure=failure)
        )
        self._renewing.addCallback(self._again)

    def _again(self, _: object) -> None:
        if not self._is_closing and not self.taken_over:
            self._tick = self._reactor.callLater(self._lease_seconds / 3, self._renew)

    async def _kept_alive(self, lease: int) -> int:
        return await self._gateway.keep_alive(lease, patience_seconds=self._lease_seconds / 3)

    async def _renewed(self) -> None:
        lease = self._lease
        try:
            if self._writer_revision and not await self._kept_alive(lease) and lease == self._lease:
                self._lost()
            if not self._writer_revision and not self._doubtful and not self._is_closing:
                await self._regain()
        except MetadataUnavailable as fault:
            self.log.warn("the lease of the writer cannot be renewed: {fault}", fault=str(fault))

    def _lost(self) -> None:
        if self._writer_revision:
            self._writer_revision = 0
            if not self._is_closing:
                self.log.warn("the lease of the writer has ended; nothing is written until it is held again")

    async def _regain(self) -> None:
        """Become the writer again, if nobody else was in between."""
        await self._regaining.acquire()
        try:
            if not self._writer_revision:
                await self._regain_now()
        finally:
            self._regaining.release()

    async def _regain_now(self) -> None:
        for _ in range(2):
            batch, writer = await self._look_up()
            # A key that is ours is of an attempt before, whose outcome was unknown.
            if _batch_of(batch).revision != self.last.revision or (writer and _holder_of(writer) != self._me):
                raise self._stop(writer)
            if await self._take(writer, batch):
                self.log.info("the lease of the writer is held again")
                return
        raise MetadataUnavailable("the lease of the writer is not held again yet")

    def _stop(self, writer: KeyValue | None) -> TakenOver:
        who = f": {_holder_of(writer)}" if writer is not None else ""
        self.taken_over = f"another appliance has taken over the metadata in etcd{who}; this one must end"
        self._on_taken_over(self.taken_over)
        return TakenOver(self.taken_over)

    # ── batches ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def is_ready(self) -> bool:
        """Whether a batch may be written."""
        return bool(self._writer_revision) and not self._doubtful and not self.taken_over

    async def make_ready(self) -> None:
        """
        Settle what is doubtful, and become the writer again if we are not; ``last`` is the last batch then.

        :raise MetadataUnavailable: that is not possible now, or (``TakenOver``) not at all
        """
        if self.taken_over:
            raise TakenOver(self.taken_over)
        self._check_given_up()
        if self._doubtful:
            await self._settle()
        if not self._writer_revision:
            await self._regain()

    async def confirm(self) -> None:
        """
        See in etcd that nobody else is the writer. A lease that has ended is held again, which proves as much.

        :raise MetadataUnavailable: that cannot be seen, or nobody is; (``TakenOver``) somebody else is, or was meanwhile
        """
        held = self._writer_revision
        _, writer = await self._look_up()
        if self._doubtful or self._is_closing:
            # What is doubtful must be settled first, by whoever writes.
            if writer is None or not self._writer_revision:
                raise MetadataUnavailable("the lease of the writer has ended, and is not held again yet")
        elif writer is None and held == self._writer_revision:
            self._lost()
        if not self._writer_revision:
            await self._regain()
        # Two runs on one machine can call themselves the same; what they wrote has a revision each.
        elif writer is not None and writer.revision > self._writer_revision:
            raise self._stop(writer)

    async def append(self, changes: Sequence[Change]) -> Batch:
        """
        Write a batch; return it.

        :raise MetadataFull: etcd has no room; nothing was written
        :raise MetadataUnavailable: it was not written, or (``is_ready`` is false then) nobody knows
        """
        self._check_given_up()
        name = self._new_name()
        operations = _operations(changes)
        await self._patiently(lambda: self._appended(name, operations))
        return self.last

    async def add(self, changes: Sequence[Change]) -> None:
        """
        Write rows into a store that is still being filled, before the batch that is appended next.

        Several of these may be under way at once. They take effect in any order, each wholly or not at all; and one whose outcome is
        unknown is written once more, so it may still take effect later, but not once another has become the writer.

        :raise MetadataFull: etcd has no room
        :raise MetadataUnavailable: it was not written, or nobody knows
        """
        operations = _operations(changes)
        await self._patiently(lambda: self._added(operations))

    async def _patiently(self, attempt: Callable[[], Awaitable[bool]]) -> None:
        """Try until it is written; unless ``_doubtful`` is set, what fails may be tried once more."""
        end = self._reactor.seconds() + self._patience_seconds
        pause = PAUSE_FIRST_SECONDS
        refusals = 0
        while True:
            try:
                if await attempt():
                    return
                fault = MetadataUnavailable("the lease of the writer does not last")
            except (TakenOver, MetadataFull):
                raise
            except MetadataUnavailable as error:
                refusals += isinstance(error, Refused)
                if self._doubtful or refusals == REFUSALS_MAX:
                    raise
                if self._is_closing and not isinstance(error, Refused):
                    self._given_up = str(error)
                fault = error
            if self._is_closing or self._reactor.seconds() + pause > end:
                raise fault
            await self._pause(pause)
            pause = min(PAUSE_MOST_SECONDS, pause * 2)

    async def _added(self, operations: Sequence[Mapping[str, Any]]) -> bool:
        """Try once; return whether it is written."""
        if not self._writer_revision:
            await self._regain()
        held = self._writer_revision
        answer = await self._gateway.txn(
            [mod_revision_is(self._keys.writer, held)], operations, is_repeatable=True
        )
        if not answer.succeeded and held == self._writer_revision:
            self._lost()
        return answer.succeeded

    async def _appended(self, name: str, operations: Sequence[Mapping[str, Any]]) -> bool:
        """Try once; return whether it is written. Unless ``_doubtful`` is set then, it is known not to be if not."""
        if not self._writer_revision:
            await self._regain()
        self._doubtful, self._is_answered = name, False
        try:
            answer = await self._gateway.txn(
                self._mine(), [*operations, putting(self._keys.batch, _named(name))], self._look()
            )
        except (MetadataFull, Unknown) as fault:
            # It may be refused and carried out nevertheless, but no later than it was answered.
            self._is_answered = isinstance(fault, MetadataFull)
            if await self._settle():
                return True
            raise
        except MetadataUnavailable:
            # Not reached, or refused before anything was done.
            self._doubtful = ""
            raise
        if answer.succeeded:
            self._now(answer.revision, name)
            return True
        return self._judge(name, *self._looked(answer))

    def _check_given_up(self) -> None:
        if self._given_up:
            raise MetadataUnavailable(f"the store closes, and etcd does not answer: {self._given_up}")

    def _new_name(self) -> str:
        self._count += 1
        return f"{self._run}/{self._count}"

    def _mine(self) -> list[dict[str, Any]]:
        return [
            mod_revision_is(self._keys.writer, self._writer_revision),
            mod_revision_is(self._keys.batch, self.last.revision),
        ]

    def _look(self) -> list[dict[str, Any]]:
        return [reading(self._keys.batch), reading(self._keys.writer)]

    async def _look_up(self) -> tuple[KeyValue | None, KeyValue | None]:
        """Return the keys ``batch`` and ``writer`` as they are at one moment."""
        return self._looked(await self._gateway.txn([], self._look(), is_repeatable=True))

    def _looked(self, answer: Answer) -> tuple[KeyValue | None, KeyValue | None]:
        batch, writer = answer.ranges
        return (batch.rows[0] if batch.rows else None), (writer.rows[0] if writer.rows else None)

    async def _settle(self) -> bool:
        """
        Learn whether the doubtful batch was written. If not, it never will be.

        :raise MetadataUnavailable: it stays doubtful, or (``TakenOver``) another appliance has written since
        """
        end = self._reactor.seconds() + self._patience_seconds
        pause = PAUSE_FIRST_SECONDS
        while True:
            try:
                return await self._fenced()
            except TakenOver:
                raise
            except MetadataUnavailable as fault:
                if self._is_closing:
                    self._given_up = str(fault)
                if self._is_closing or self._reactor.seconds() + pause > end:
                    raise MetadataUnavailable(f"nobody knows whether it was written: {fault}") from fault
            await self._pause(pause)
            pause = min(PAUSE_MOST_SECONDS, pause * 2)

    async def _fenced(self) -> bool:
        if self._is_answered:
            batch, writer = await self._look_up()
            return self._judge(self._doubtful, batch, writer)
        fence = self._new_name()
        self._fences.add(fence)
        answer = await self._gateway.txn(
            self._mine(), [putting(self._keys.batch, _named(fence))], self._look()
        )
        if not answer.succeeded:
            return self._judge(self._doubtful, *self._looked(answer))
        self._now(answer.revision, fence)
        return False

    def _judge(self, name: str, batch: KeyValue | None, writer: KeyValue | None) -> bool:
        """Return whether a batch is written, by what is there once it is written or void."""
        last = _batch_of(batch)
        if last.revision == self.last.revision:
            self._doubtful = ""
            if writer is None or writer.revision != self._writer_revision:
                self._lost()
            return False
        if last.name == name or last.name in self._fences:
            self._now(last.revision, last.name)
            return last.name == name
        raise self._stop(writer)

    def _now(self, revision: int, name: str) -> None:
        self.last = Batch(revision=revision, name=name)
        self._doubtful = ""
        self._fences.clear()

    async def _pause(self, seconds: float) -> None:
        over: Deferred[None] = Deferred()
        self._reactor.callLater(seconds, over.callback, None)
        await over


def _operations(changes: Sequence[Change]) -> list[dict[str, Any]]:
    return [
        deleting(change.key) if change.value is None else putting(change.key, change.value)
        for change in changes
    ]


def _named(name: str) -> bytes:
    return json.dumps({"batch": name}).encode()


def batch_in(row: KeyValue | Event) -> Batch:
    """
    Return the batch that the key ``batch`` tells of.

    :raise MetadataUnavailable: it is not what we write there
    """
    try:
        return Batch(revision=row.revision, name=str(json.loads(row.value or b"")["batch"]))
    except (ValueError, KeyError, TypeError):
        raise MetadataUnavailable(f"{row.key!r} in etcd is not what ColdStore wrote") from None


def _batch_of(row: KeyValue | None) -> Batch:
    return Batch() if row is None else batch_in(row)


def _holder_of(row: KeyValue) -> Holder:
    try:
        return Holder(**json.loads(row.value))
    except (ValueError, TypeError):
        raise MetadataUnavailable(f"{row.key!r} in etcd is not what ColdStore wrote") from None
