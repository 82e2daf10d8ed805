"""Completing a restore: the moment after which the promise to the client holds."""

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from coldstore.interfaces.bell import IBell
from coldstore.interfaces.metadata import Conflict, IMetadataStore
from coldstore.model.objects import RestorePhase
from coldstore.plan.messages import restore_completed
from coldstore.plan.restore import expiry


class Completer:
    """Turns a restore whose bytes are all back into a readable copy with an expiry, and announces it."""

    log = Logger()

    def __init__(
        self,
        *,
        store: IMetadataStore,
        clock: IReactorTime,
        region: str,
        day_seconds: float,
        messages_bell: IBell,
    ) -> None:
        self._store = store
        self._clock = clock
        self._region = region
        self._day_seconds = day_seconds
        self._messages_bell = messages_bell

    async def complete(self, version_uid: int) -> bool:
        """Complete the version's restore if every extent is back; tell whether it was completed now. Repeatable."""
        version = await self._store.version(version_uid)
        if version is None or version.restore is None or version.restore.phase is not RestorePhase.ONGOING:
            return False
        now = self._clock.seconds()
        expires_at = expiry(now, version.restore.days, day_seconds=self._day_seconds)
        try:
            await self._store.complete_recall(
                version_uid,
                revision=version.revision,
                expires_at=expires_at,
                messages=[restore_completed(version, at=now, region=self._region, expires_at=expires_at)],
            )
        except Conflict:
            return False
        self._messages_bell.ring()
        self.log.info(
            "restore of {bucket}/{key} is complete",
            bucket=version.facts.bucket,
            key=version.facts.key.decode(),
        )
        return True
