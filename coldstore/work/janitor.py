"""Settles archived bundles, ends uploads of vanished buckets, and frees disk that nothing needs."""

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from coldstore.interfaces.metadata import BATCH_MAX, IMetadataStore
from coldstore.interfaces.staging import IStaging
from coldstore.model.bundles import BundleState

REST_SECONDS = 30.0
PAGE = 200


class Janitor:
    """One round of tidying; every step is harmless to repeat."""

    def __init__(
        self, *, store: IMetadataStore, staging: IStaging, clock: IReactorTime, on_settled: Callable[[], None]
    ) -> None:
        self._store = store
        self._staging = staging
        self._clock = clock
        self._on_settled = on_settled

    async def one_round(self) -> float:
        """Tidy; return how long to rest."""
        await self._settle()
        for upload in await self._store.abandoned_uploads(PAGE):
            await self._store.abandon_upload(upload.upload_id)
        while pieces := await self._store.discards(PAGE):
            await self._staging.discard([piece.address for piece in pieces])
            for start in range(0, len(pieces), BATCH_MAX):
                await self._store.forget_discards(
                    [piece.discard_id for piece in pieces[start : start + BATCH_MAX]]
                )
        return REST_SECONDS

    async def _settle(self) -> None:
        bundles = await self._store.bundles(
            states=[BundleState.ARCHIVED], settled=False, after="", limit=PAGE
        )
        for bundle in bundles:
            position: int | None = -1
            while position is not None:
                position = await self._store.settle_members(
                    bundle.bundle_id, after_position=position, at=self._clock.seconds()
                )
        if bundles:
            self._on_settled()
