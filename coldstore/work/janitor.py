"""Settles archived bundles, ends uploads of vanished buckets, and frees disk that nothing needs."""

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from coldstore.interfaces.metadata import BATCH_MAX, DiscardedPiece, IMetadataStore
from coldstore.interfaces.staging import DiskFault, IStaging
from coldstore.interfaces.tenure import ITenure
from coldstore.model.bundles import BundleState
from coldstore.model.errors import MetadataUnavailable

REST_SECONDS = 30.0
"""Between rounds while something could not be freed."""
IDLE_SECONDS = 60.0
"""Between rounds else: who makes something to tidy mostly rings."""
PAGE = 200
DISCARDS_PAGE = 1000
PATIENCE_SECONDS = 5.0
"""A piece that somebody still reads is freed when they have ended; the others do not wait for it longer than this."""


class Janitor:
    """One round of tidying; every step is harmless to repeat."""

    log = Logger()

    def __init__(
        self,
        *,
        store: IMetadataStore,
        staging: IStaging,
        tenure: ITenure,
        clock: IReactorTime,
        on_settled: Callable[[], None],
    ) -> None:
        self._store = store
        self._tenure = tenure
        self._staging = staging
        self._clock = clock
        self._on_settled = on_settled
        self._under_way: set[int] = set()
        self._has_failed = False

    async def one_round(self) -> float:
        """Tidy; return how long to rest."""
        has_more = await self._settle()
        for upload in await self._store.abandoned_uploads(PAGE):
            await self._store.abandon_upload(upload.upload_id)
        self._has_failed = False
        page = await self._store.discards(DISCARDS_PAGE)
        await self._free(page)
        while len(page) == DISCARDS_PAGE:
            page = await self._store.discards(DISCARDS_PAGE, after=page[-1].discard_id)
            await self._free(page)
        if has_more:
            return 0.0
        return REST_SECONDS if self._under_way or self._has_failed else IDLE_SECONDS

    async def _settle(self) -> bool:
        """Settle a page of bundles; tell whether there may be more."""
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
        return len(bundles) == PAGE

    async def _free(self, pieces: Sequence[DiscardedPiece]) -> None:
        """Begin to free pieces in groups, those that are not under way, and wait a while for them."""
        pieces = [piece for piece in pieces if piece.discard_id not in self._under_way]
        groups = [
            Deferred.fromCoroutine(self._free_group(pieces[start : start + BATCH_MAX]))
            for start in range(0, len(pieces), BATCH_MAX)
        ]
        ended = DeferredList(groups)
        waiting: Deferred[None] = Deferred()
        alarm = self._clock.callLater(PATIENCE_SECONDS, waiting.callback, None)
        ended.addCallback(lambda _: None if waiting.called else waiting.callback(None))
        try:
            await waiting
        finally:
            if alarm.active():
                alarm.cancel()

    async def _free_group(self, group: Sequence[DiscardedPiece]) -> None:
        self._under_way.update(piece.discard_id for piece in group)
        try:
            await self._tenure.confirm()
            await self._staging.discard([piece.address for piece in group])
            await self._store.forget_discards([piece.discard_id for piece in group])
        except (DiskFault, MetadataUnavailable) as fault:
            self._has_failed = True
            self.log.warn("{count} pieces could not be freed yet: {fault}", count=len(group), fault=fault)
        except Exception:  # noqa: BLE001 - what goes wrong with one group must not stop the others
            self._has_failed = True
            self.log.failure("{count} pieces could not be freed", count=len(group))
        finally:
            for piece in group:
                self._under_way.discard(piece.discard_id)
