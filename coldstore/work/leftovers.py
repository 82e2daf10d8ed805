"""Bytes on disk of which nobody knows at the moment whether a record names them: looked up a while later, and freed if not."""

from collections import deque
from collections.abc import Collection

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from coldstore.interfaces.bell import IBell
from coldstore.interfaces.metadata import BATCH_MAX, IMetadataStore

GRACE_SECONDS = 60.0
"""
How long they are left alone: until a step whose outcome was lost has surely come to its end, and until whoever looked up
where bytes were before they moved has pinned them there.
"""
REST_SECONDS = 3600.0


class Leftovers:
    """
    What a step with an unknown outcome, or a move, has left on the disk. Kept in memory only: after a crash all of it was
    published before the run, and the sweep finds it.
    """

    log = Logger()

    def __init__(
        self,
        *,
        store: IMetadataStore,
        clock: IReactorTime,
        bell: IBell,
        janitor_bell: IBell,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        """:param bell: wakes this loop"""
        self._store = store
        self._clock = clock
        self._bell = bell
        self._janitor_bell = janitor_bell
        self._grace_seconds = grace_seconds
        self._waiting: deque[tuple[float, frozenset[str]]] = deque()

    def note(self, addresses: Collection[str]) -> None:
        """Have addresses looked up when the grace is over, and freed if no record names them."""
        due_at = self._clock.seconds() + self._grace_seconds
        was_empty = not self._waiting
        asked = sorted(addresses)
        for start in range(0, len(asked), BATCH_MAX):
            self._waiting.append((due_at, frozenset(asked[start : start + BATCH_MAX])))
        if was_empty and asked:
            self._bell.ring()

    def holds(self, address: str) -> bool:
        """Whether an address is one of these, so that nobody else needs to free it."""
        return any(address in addresses for _, addresses in self._waiting)

    async def one_round(self) -> float:
        """Free what is nobody's and whose grace is over; return how long to rest."""
        now = self._clock.seconds()
        count = 0
        while self._waiting and self._waiting[0][0] <= now:
            addresses = self._waiting[0][1]
            known = await self._store.referenced(addresses)
            nobodys = sorted(addresses - known)
            if nobodys:
                await self._store.add_discards(nobodys)
                count += len(nobodys)
            self._waiting.popleft()
        if count:
            self.log.debug("{count} pieces on disk are nobody's and are freed", count=count)
            self._janitor_bell.ring()
        return max(0.0, self._waiting[0][0] - now) if self._waiting else REST_SECONDS
