"""Finds bytes on disk that no record names: uploads that were cut off between the disk and the metadata."""

from twisted.logger import Logger

from coldstore.interfaces.bell import IBell
from coldstore.interfaces.metadata import BATCH_MAX, IMetadataStore
from coldstore.interfaces.staging import IStaging

REST_SECONDS = 86_400.0


class Sweeper:
    """
    Walks over what was published before this run and frees what nothing refers to.

    Only that can be an orphan for good: a piece of this run may be about to get its record.
    """

    log = Logger()

    def __init__(self, *, store: IMetadataStore, staging: IStaging, janitor_bell: IBell) -> None:
        self._store = store
        self._staging = staging
        self._janitor_bell = janitor_bell

    async def one_round(self) -> float:
        """Sweep once; return how long to rest."""
        after = ""
        count = 0
        while addresses := await self._staging.stored(after=after, limit=BATCH_MAX):
            after = addresses[-1]
            known = await self._store.referenced(addresses)
            orphans = [address for address in addresses if address not in known]
            if orphans:
                await self._store.add_discards(orphans)
                count += len(orphans)
        if count:
            self.log.info("{count} pieces on disk belonged to nothing and are freed", count=count)
            self._janitor_bell.ring()
        return REST_SECONDS
