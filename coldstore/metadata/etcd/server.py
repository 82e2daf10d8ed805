"""What is asked of the etcd itself: its version, its limits, its room; and the compacting that keeps it small."""

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from coldstore.metadata.etcd.changes import BYTES_MAX, OPERATIONS_MAX
from coldstore.metadata.etcd.gateway import Gateway, Status, deleting, end_of, mod_revision_is
from coldstore.metadata.etcd.keys import Keys
from coldstore.model.errors import MetadataFull, MetadataUnavailable
from coldstore.util.workers import Reactor

OLDEST = (3, 4)
QUOTA_BYTES = 2 << 30
"""``--quota-backend-bytes``, if it was not given; etcd says its own only since 3.6."""
FULL_SHARE = 0.8
ROUND_SECONDS = 300.0
"""How often the room is looked at, and what is older than two rounds compacted, unless somebody reads it."""


async def check_server(gateway: Gateway, keys: Keys) -> None:
    """
    See that etcd is new enough and takes what a batch needs. Nothing is changed.

    :raise MetadataUnavailable: it is not; says what to do
    """
    status = await gateway.status()
    if status.version < OLDEST:
        raise MetadataUnavailable(
            f"etcd is {'.'.join(map(str, status.version))}; {'.'.join(map(str, OLDEST))} or newer is needed"
        )
    # Limits are looked at before comparisons, and this one never holds. Deletions weigh nothing against the quota.
    each = BYTES_MAX // OPERATIONS_MAX
    probe = [
        deleting((keys.all + b"probe/%d/" % number).ljust(each, b"-")) for number in range(OPERATIONS_MAX)
    ]
    try:
        await gateway.txn([mod_revision_is(keys.batch, -1)], probe, is_repeatable=True)
    except MetadataFull:
        raise
    except MetadataUnavailable as fault:
        if "too many operations" in str(fault):
            raise MetadataUnavailable(
                f"etcd takes fewer than {OPERATIONS_MAX} operations in one transaction: start it with"
                f" --max-txn-ops={OPERATIONS_MAX}"
            ) from fault
        if "too large" in str(fault) or "larger than max" in str(fault):
            raise MetadataUnavailable(
                f"etcd does not take requests of {BYTES_MAX} bytes: start it with --max-request-bytes=1572864"
            ) from fault
        raise


def shortage(status: Status) -> str:
    """Say what is wrong with etcd's room; nothing when nothing is."""
    if status.errors:
        return f"etcd has alarms: {', '.join(status.errors)}"
    quota = status.quota_bytes or QUOTA_BYTES
    if status.used_bytes > FULL_SHARE * quota:
        return (
            f"etcd uses {status.used_bytes >> 20} MiB of the {quota >> 20} MiB"
            f" {'of its quota' if status.quota_bytes else 'that its quota is unless it was set'}; it refuses to write when that is full"
        )
    if status.size_bytes > FULL_SHARE * quota:
        return (
            f"the file of etcd has {status.size_bytes >> 20} MiB, of which {status.used_bytes >> 20} MiB are used; it refuses to write"
            f" at {quota >> 20} MiB{'' if status.quota_bytes else ' unless its quota was set'}. Defragment it: etcdctl defrag"
        )
    return ""


class Upkeep:
    """Looks at etcd's room now and then, and has it forget what no replica needs any more."""

    log = Logger()

    def __init__(
        self, gateway: Gateway, keys: Keys, *, reactor: Reactor, revision: Callable[[], int]
    ) -> None:
        """:param revision: of the last batch"""
        self._gateway = gateway
        self._keys = keys
        self._reactor = reactor
        self._revision = revision
        self._passed = [0, 0]
        self._next: IDelayedCall | None = None
        self._is_running = False
        self._round: Deferred[Any] | None = None

    def start(self) -> None:
        """Begin with a look."""
        self._is_running = True
        self._begin()

    def stop(self) -> None:
        """Look no more. Repeatable."""
        self._is_running = False
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._round is not None:
            self._round.cancel()

    async def one_round(self) -> None:
        """Look, and compact up to the batch that was the last two rounds ago, or to what somebody still reads."""
        try:
            self._tell(await self._gateway.statuses())
            oldest, newest = self._passed
            self._passed = [newest, self._revision()]
            if oldest:
                reading = self._keys.reading
                held = await self._gateway.range(reading, end_of(reading), keys_only=True)
                await self._gateway.compact(min([oldest, *(row.revision for row in held.rows)]))
        except MetadataUnavailable as fault:
            self.log.info("etcd was not compacted: {fault}", fault=str(fault))

    def _tell(self, statuses: Mapping[str, Status | MetadataUnavailable]) -> None:
        """Say which members are short of room; and which are away, while others are not: only then nobody notices."""
        answered = {where: said for where, said in statuses.items() if isinstance(said, Status)}
        for where, said in statuses.items():
            if isinstance(said, Status):
                trouble = shortage(said)
            else:
                trouble = f"a member is away: {said}" if answered else ""
            if trouble:
                self.log.warn("{trouble} ({where})", trouble=trouble, where=where)

    def _begin(self) -> None:
        self._next = None
        self._round = Deferred.fromCoroutine(self.one_round())
        self._round.addErrback(lambda failure: failure.trap(CancelledError) and None)
        self._round.addErrback(lambda failure: self.log.failure("the upkeep of etcd", failure=failure))
        self._round.addCallback(self._ended)

    def _ended(self, _: object) -> None:
        self._round = None
        if self._is_running:
            self._next = self._reactor.callLater(ROUND_SECONDS, self._begin)
