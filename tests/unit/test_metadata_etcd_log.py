"""Whether we are still the writer, as an etcd in memory tells."""

from base64 import b64decode as raw_of
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from coldstore.metadata.etcd.gateway import Answer, KeyValue, Range
from coldstore.metadata.etcd.keys import Keys
from coldstore.metadata.etcd.log import Holder, Log
from coldstore.model.errors import MetadataUnavailable, TakenOver

KEYS = Keys("/c")
ONE = Holder(replica="r1", host="one", pid=1, since="now")
TWO = Holder(replica="r2", host="two", pid=2, since="now")


class EtcdInMemory:
    """
    What a ``Log`` asks of a gateway.

    :ivar away: why nothing is answered
    """

    def __init__(self) -> None:
        self.rows: dict[bytes, KeyValue] = {}
        self.revision = self.leases = 0
        self.away: MetadataUnavailable | None = None

    async def grant_lease(self, seconds: int) -> int:
        """As a gateway does."""
        self.leases += 1
        return self.leases

    async def keep_alive(self, lease: int, *, patience_seconds: float) -> int:
        """As a gateway does."""
        return 15 if any(row.lease == lease for row in self.rows.values()) else 0

    async def revoke_lease(self, lease: int) -> None:
        """As a gateway does; as time does, too."""
        self.rows = {key: row for key, row in self.rows.items() if row.lease != lease}

    async def txn(
        self,
        compare: Sequence[Mapping[str, Any]],
        success: Sequence[Mapping[str, Any]],
        failure: Sequence[Mapping[str, Any]] = (),
        *,
        is_repeatable: bool = False,
    ) -> Answer:
        """As a gateway does."""
        if self.away is not None:
            raise self.away
        succeeded = all(self._changed_at(raw_of(one["key"])) == int(one["mod_revision"]) for one in compare)
        ranges = []
        for operation in success if succeeded else failure:
            if "request_put" in operation:
                put = operation["request_put"]
                key, value = raw_of(put["key"]), raw_of(put["value"])
                row = KeyValue(
                    key=key, value=value, revision=self.revision + 1, lease=int(put.get("lease", 0))
                )
                self.rows[key] = row
            else:
                found = self.rows.get(raw_of(operation["request_range"]["key"]))
                rows = () if found is None else (found,)
                ranges.append(Range(rows=rows, revision=self.revision, is_more=False, count=len(rows)))
        self.revision += any("request_put" in one for one in (success if succeeded else failure))
        return Answer(succeeded=succeeded, revision=self.revision, ranges=tuple(ranges))

    def _changed_at(self, key: bytes) -> int:
        row = self.rows.get(key)
        return 0 if row is None else row.revision


class ConfirmTests(SynchronousTestCase):
    """``confirm``."""

    def setUp(self) -> None:
        """Have a writer that has written something."""
        self.clock = Clock()
        self.etcd = EtcdInMemory()
        self.log = self.writer("run1", ONE)
        self.now(self.log.append([]))

    def writer(self, run: str, holder: Holder) -> Log:
        """Begin a writer."""
        log = Log(
            self.etcd,  # type: ignore[arg-type]
            KEYS,
            run=run,
            reactor=self.clock,  # type: ignore[arg-type]
            lease_seconds=15,
            patience_seconds=30.0,
        )
        self.now(log.begin(holder))
        return log

    def now(self, coroutine: Any) -> Any:
        """Return what comes at once."""
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def end_lease(self) -> None:
        """Let etcd end the lease, as after a pause of ours."""
        self.now(self.etcd.revoke_lease(self.etcd.rows[KEYS.writer].lease))

    def test_lease_that_ended(self) -> None:
        """Whoever is alone does not wait for the next renewal: the lease is held again, and that nobody wrote is certain."""
        self.end_lease()
        self.now(self.log.confirm())
        self.assertTrue(self.log.is_ready)
        self.now(self.log.append([]))
        self.end_lease()
        self.clock.advance(5)
        self.now(self.log.confirm())

    def test_somebody_else(self) -> None:
        """Who wrote meanwhile has taken over, whether he is there or gone again."""
        for is_gone in (False, True):
            self.setUp()
            self.end_lease()
            other = self.writer("run2", TWO)
            self.now(other.append([]))
            if is_gone:
                self.now(other.end())
            self.failureResultOf(Deferred.fromCoroutine(self.log.confirm()), TakenOver)
            self.assertIn("has taken over", self.log.taken_over)

    def test_doubt(self) -> None:
        """What became of a batch is for whoever writes to find out: until then a lease that ended stays so."""
        self.etcd.away = MetadataUnavailable("away")
        self.log._doubtful = "run1/7"
        self.log._lost()
        self.etcd.away = None
        self.failureResultOf(Deferred.fromCoroutine(self.log.confirm()), MetadataUnavailable)
        self.assertEqual(self.log.taken_over, "")
