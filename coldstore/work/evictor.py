"""Takes bytes off the disk that are on tape as often as their class asks."""

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from coldstore.interfaces.bell import IBell
from coldstore.interfaces.metadata import Conflict, IMetadataStore
from coldstore.interfaces.staging import IStaging
from coldstore.plan.classes import ClassRules, evictable_classes
from coldstore.plan.evict import EvictPolicy, pressure_bytes, victims

PAGE = 1000


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
        self._is_room_wanted = False

    def pressure(self) -> int:
        """Return how many bytes should leave the disk because it is too full."""
        usage = self._staging.usage()
        return pressure_bytes(
            self._policy,
            used_bytes=usage.used_bytes + usage.reserved_bytes,
            capacity_bytes=usage.capacity_bytes,
        )

    def make_room(self) -> None:
        """A restore lacks room: whatever may go without losing anything goes at the next round, however recent."""
        self._is_room_wanted = True

    async def one_round(self) -> float:
        """Evict; return how long to rest."""
        now = self._clock.seconds()
        pressure = self._staging.usage().capacity_bytes if self._is_room_wanted else self.pressure()
        before = now if pressure else now - self._policy.linger_seconds
        candidates = await self._store.evictable(classes=self._classes, archived_before=before, limit=PAGE)
        count = 0
        for version in victims(now, candidates, self._policy, pressure_bytes=pressure):
            try:
                await self._store.evict_version(version.version_uid, revision=version.revision)
                count += 1
            except Conflict:
                continue
        if count:
            self.log.info("{count} objects left the disk", count=count)
            self._janitor_bell.ring()
        if count == PAGE:
            return 0.0
        self._is_room_wanted = False
        return self._rest_seconds
