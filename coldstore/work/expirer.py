"""Ends restore promises whose time is over."""

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from coldstore.interfaces.bell import IBell
from coldstore.interfaces.metadata import Conflict, IMetadataStore
from coldstore.plan.messages import restore_ended

PAGE = 500


class Expirer:
    """A version's restore ends; its bytes then belong to the evictor."""

    log = Logger()

    def __init__(
        self,
        *,
        store: IMetadataStore,
        clock: IReactorTime,
        region: str,
        rest_seconds: float,
        evictor_bell: IBell,
        messages_bell: IBell,
    ) -> None:
        self._store = store
        self._clock = clock
        self._region = region
        self._rest_seconds = rest_seconds
        self._evictor_bell = evictor_bell
        self._messages_bell = messages_bell

    async def one_round(self) -> float:
        """End what expired; return how long to rest."""
        now = self._clock.seconds()
        expired = await self._store.expired_restores(now=now, limit=PAGE)
        for version in expired:
            try:
                await self._store.change_restore(
                    version.version_uid,
                    revision=version.revision,
                    restore=None,
                    messages=[restore_ended(version, at=now, region=self._region)],
                )
            except Conflict:
                continue
        if expired:
            self.log.info("{count} restored copies expired", count=len(expired))
            self._evictor_bell.ring()
            self._messages_bell.ring()
        return 0.0 if len(expired) == PAGE else self._rest_seconds
