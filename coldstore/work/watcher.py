"""Watches the disks: tells the operator what is short as long as it is, by an alert if that can be recorded, and in the log."""

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from coldstore.interfaces.metadata import IMetadataStore
from coldstore.interfaces.staging import IStaging
from coldstore.model.events import Severity
from coldstore.model.precedence import Precedence
from coldstore.plan.shortage import DiskFacts, lacks_room, shortages
from coldstore.work.alerts import Alerts

REST_SECONDS = 10.0
KIND = "disk-full"


class Watcher:
    """One round looks, and opens and closes alerts. What no alert could be recorded of is among the ``problems``."""

    log = Logger()

    def __init__(
        self,
        *,
        store: IMetadataStore,
        staging: IStaging,
        clock: IReactorTime,
        record_path: str,
        record_free_bytes: Callable[[], int | None],
    ) -> None:
        """
        :param record_path: where the metadata are, for people
        :param record_free_bytes: tells what their file system has left; None when that is not this machine's matter
        """
        self._store = store
        self._staging = staging
        self._record_path = record_path
        self._record_free_bytes = record_free_bytes
        self._alerts = Alerts(store=store, clock=clock)
        self._short: dict[str, str] = {}

    @property
    def problems(self) -> tuple[str, ...]:
        """What is short now and no alert tells, in sentences."""
        recorded = self._alerts.subjects(KIND)
        return tuple(sentence for name, sentence in sorted(self._short.items()) if name not in recorded)

    async def one_round(self) -> float:
        """Look once; return how long to rest."""
        usage = self._staging.usage()
        room_bytes = self._staging.room_bytes(Precedence.NEW_UPLOAD)
        waiting_bytes = 0
        if lacks_room(room_bytes, usage.capacity_bytes):
            waiting_bytes = sum(entry.size_bytes for entry in await self._store.backlog())
        facts = DiskFacts(
            capacity_bytes=usage.capacity_bytes,
            used_bytes=usage.used_bytes,
            upload_room_bytes=room_bytes,
            waiting_bytes=waiting_bytes,
            record_free_bytes=self._record_free_bytes(),
            record_path=self._record_path,
            staging_trouble=self._staging.trouble,
        )
        short = shortages(facts)
        for name in short.keys() - self._short.keys():
            self.log.error("{sentence}", sentence=short[name])
        for name in self._short.keys() - short.keys():
            self.log.info("there is room again: {name}", name=name)
        # What was said first stays, or the alert would be renewed with every byte.
        self._short = {name: self._short.get(name, sentence) for name, sentence in short.items()}
        await self._alerts.follow(KIND, self._short, Severity.CRITICAL)
        return REST_SECONDS
