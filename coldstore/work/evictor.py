"""Takes bytes off the disk that are on tape as often as their class asks."""

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from coldstore.interfaces.bell import IBell
from coldstore.interfaces.metadata import Conflict, IMetadataStore
from coldstore.interfaces.staging import IStaging
from coldstore.model.objects import ObjectVersion
from coldstore.plan.classes import ClassRules, evictable_classes
from coldstore.plan.evict import EvictPolicy, pressure_bytes, victims
from coldstore.util.asynchronous import all_of

PAGE = 1000
TOGETHER = 100
"""Evictions that are under way at once, so that they share commits."""


class Evictor:
    """One round evicts what lingered long enough, and more when the disk is full."""

    log = Logger()

    def __init__(
        self,
        *,
        store: IMetadataStore,
        staging: IStaging,
        clock: IReactorTime,
        rules: ClassRules,
        policy: EvictPolicy,
        rest_seconds: float,
        janitor_bell: IBell,
    ) -> None:
        self._store = store
        self._staging = staging
        self._clock = clock
        self._classes = evictable_classes(rules)
        self._policy = policy
        self._rest_seconds = rest_seconds
        self._janitor_bell = janitor_bell
        self._wanted_bytes = 0

    def pressure(self) -> int:
        """Return how many bytes should leave the disk because it is too full."""
        usage = self._staging.usage()
        return pressure_bytes(
            self._policy,
            used_bytes=usage.used_bytes + usage.reserved_bytes,
            capacity_bytes=usage.capacity_bytes,
        )

    def make_room(self, size_bytes: int | None = None) -> None:
        """
        Somebody lacks room: so many bytes go at the next round, however recent, if as many may go without losing anything.

        :param size_bytes: None for whatever may go
        """
        wanted_bytes = self._staging.usage().capacity_bytes if size_bytes is None else size_bytes
        self._wanted_bytes = max(self._wanted_bytes, wanted_bytes)

    async def one_round(self) -> float:
        """Evict; return how long to rest."""
        # Taken now: what is asked for meanwhile is for the next round.
        wanted_bytes, self._wanted_bytes = self._wanted_bytes, 0
        try:
            count, gone_bytes = await self._evict_some(wanted_bytes)
        except BaseException:
            self._wanted_bytes = max(self._wanted_bytes, wanted_bytes)
            raise
        if count:
            self.log.info("{count} objects left the disk", count=count)
            self._janitor_bell.ring()
        if count == PAGE:
            self._wanted_bytes = max(self._wanted_bytes, wanted_bytes - gone_bytes)
            return 0.0
        return self._rest_seconds

    async def _evict_some(self, wanted_bytes: int) -> tuple[int, int]:
        """Evict a page at most; return how many versions went, and how many bytes."""
        now = self._clock.seconds()
        pressure = max(wanted_bytes, self.pressure())
        before = now if pressure else now - self._policy.linger_seconds
        candidates = await self._store.evictable(classes=self._classes, archived_before=before, limit=PAGE)
        chosen = victims(now, candidates, self._policy, pressure_bytes=pressure)
        count = gone_bytes = 0
        for start in range(0, len(chosen), TOGETHER):
            together = chosen[start : start + TOGETHER]
            went = await all_of(Deferred.fromCoroutine(self._evict(version)) for version in together)
            count += sum(went)
            gone_bytes += sum(
                version.facts.size_bytes for version, is_gone in zip(together, went, strict=True) if is_gone
            )
        return count, gone_bytes

    async def _evict(self, version: ObjectVersion) -> bool:
        """Take a version off the disk; tell whether it went."""
        try:
            await self._store.evict_version(version.version_uid, revision=version.revision)
        except Conflict:
            return False
        return True
