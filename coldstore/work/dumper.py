"""Has the metadata dumped when it is time, removes old dumps, and tells the operator when there is none he could rely on."""

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from coldstore.interfaces.dumps import DumpFault, IDumps
from coldstore.interfaces.metadata import IMetadataStore
from coldstore.model.dumps import Dump
from coldstore.model.events import Severity
from coldstore.plan.dumps import DumpFacts, DumpPlan, DumpPolicy, plan_dumps
from coldstore.work.alerts import Alerts

KIND = "metadata-dump"
SUBJECT = "metadata"


class Dumper:
    """
    One round looks at the dumps there are, and makes one if it is time.

    :ivar last: the newest dump as of the last round; None when there is none
    """

    log = Logger()

    def __init__(
        self, *, store: IMetadataStore, dumps: IDumps, clock: IReactorTime, policy: DumpPolicy
    ) -> None:
        self.last: Dump | None = None
        self._dumps = dumps
        self._seconds: Callable[[], float] = clock.seconds
        self._policy = policy
        self._alerts = Alerts(store=store, clock=clock)
        self._started_at = clock.seconds()
        self._failed_at: float | None = None
        self._failure = ""

    async def one_round(self) -> float:
        """Look once; return how long to rest."""
        plan = self._plan()
        if plan.is_due:
            await self._make()
            plan = self._plan()
        for dump in plan.remove:
            self._remove(dump)
        sentences = {SUBJECT: plan.trouble} if plan.trouble else {}
        await self._alerts.follow(KIND, sentences, Severity.WARNING)
        return plan.look_seconds

    def _plan(self) -> DumpPlan:
        try:
            kept, free_bytes = self._dumps.kept(), self._dumps.free_bytes()
        except OSError as error:
            self._failed(f"{error.filename or 'the folder of dumps'}: {error.strerror}")
            kept, free_bytes = [] if self.last is None else [self.last], 0
        self.last = max(kept, key=lambda dump: dump.at, default=None)
        facts = DumpFacts(
            now=self._seconds(),
            kept=kept,
            free_bytes=free_bytes,
            started_at=self._started_at,
            failed_at=self._failed_at,
            failure=self._failure,
        )
        return plan_dumps(facts, self._policy)

    async def _make(self) -> None:
        begun_at = self._seconds()
        try:
            await self._dumps.make(begun_at)
        except DumpFault as fault:
            self._failed(str(fault))
        else:
            self._failed_at, self._failure = None, ""
            self.log.info("the metadata were dumped in {seconds:.0f} s", seconds=self._seconds() - begun_at)

    def _failed(self, why: str) -> None:
        self._failed_at, self._failure = self._seconds(), why
        self.log.error("the metadata could not be dumped: {why}", why=why)

    def _remove(self, dump: Dump) -> None:
        try:
            self._dumps.remove(dump)
        except OSError as error:
            self.log.warn("an old dump stays: {error}", error=error)
        else:
            self.log.info("removed the dump {name}, which is older than they are kept", name=dump.name)
