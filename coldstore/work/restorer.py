"""Completes restores whose bytes are on disk already: staged bytes that never left, or a recall cut off before its last step."""

from coldstore.interfaces.metadata import IMetadataStore
from coldstore.work.completing import Completer

REST_SECONDS = 60.0
PAGE = 1000


class Restorer:
    """One round completes everything that needs no tape."""

    def __init__(self, *, store: IMetadataStore, completer: Completer) -> None:
        self._store = store
        self._completer = completer

    async def one_round(self) -> float:
        """Complete what can be completed; return how long to rest."""
        for on_disk in (True, False):
            for version in await self._store.ongoing_restores(on_disk=on_disk, limit=PAGE):
                if on_disk or await self._store.recall_layout(version.version_uid) is not None:
                    await self._completer.complete(version.version_uid)
        return REST_SECONDS
