"""Reading a batch of extents from a cartridge, each tape once from front to back, every byte checked."""

from collections.abc import Callable, Sequence
from itertools import groupby

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from coldstore.interfaces.bell import IBell
from coldstore.interfaces.filesystem import IMountedVolume
from coldstore.interfaces.metadata import Conflict, IMetadataStore, WantedExtent
from coldstore.interfaces.mover import NoSuchFileOnVolume, RangeRead, RangeState, ReadRange
from coldstore.interfaces.staging import IStaging, RecalledBytes, RecallSpace
from coldstore.model.errors import StagingFull
from coldstore.model.events import Severity
from coldstore.model.objects import Piece
from coldstore.ontape import paths
from coldstore.plan.mount import DoRecall
from coldstore.plan.recall import Wanted
from coldstore.work.bay import Bay
from coldstore.work.completing import Completer
from coldstore.work.trouble import TapeTrouble, as_trouble

PORTION_BYTES = 16 * 1024**3


class RecallWaitsForSpace(Exception):
    """The disk cannot take what the batch would bring; nothing was mounted for it."""


def portions(items: Sequence[Wanted], *, items_max: int) -> list[list[Wanted]]:
    """Cut a batch into portions of bounded size, in order; an item alone may be larger."""
    found: list[list[Wanted]] = []
    size_bytes = 0
    for item in items:
        if not found or len(found[-1]) >= items_max or size_bytes + item.length_bytes > PORTION_BYTES:
            found.append([])
            size_bytes = 0
        found[-1].append(item)
        size_bytes += item.length_bytes
    return found


class RecallSession:
    """Carries out one ``DoRecall``."""

    log = Logger()

    def __init__(
        self,
        *,
        bay: Bay,
        store: IMetadataStore,
        staging: IStaging,
        clock: IReactorTime,
        completer: Completer,
        bell: IBell,
        new_layout_id: Callable[[], str],
        on_bad_source: Callable[[str, str], None],
        portion_items: int,
    ) -> None:
        """
        :param on_bad_source: is told bundle id and barcode of a copy that could not deliver
        :param portion_items: extents that are read, published and recorded in one go
        """
        self._bay = bay
        self._store = store
        self._staging = staging
        self._clock = clock
        self._completer = completer
        self._bell = bell
        self._new_layout_id = new_layout_id
        self._on_bad_source = on_bad_source
        self._portion_items = portion_items

    async def run(self, job: DoRecall, extents: dict[tuple[int, int], WantedExtent]) -> None:
        """
        Read everything of the batch that is still wanted.

        :raise RecallWaitsForSpace: the disk is too full for the first portion
        :raise TapeTrouble: the drive or the cartridge failed
        """
        for portion in portions(job.batch.items, items_max=self._portion_items):
            try:
                space = await self._staging.reserve_recall([item.length_bytes for item in portion])
            except StagingFull as full:
                raise RecallWaitsForSpace(str(full)) from full
            try:
                volume = await self._bay.mount(job.batch.barcode, pool=None)
                await self._portion(volume, portion, space, extents)
            finally:
                await self._staging.release_recall(space)

    async def _portion(
        self,
        volume: IMountedVolume,
        portion: Sequence[Wanted],
        space: RecallSpace,
        extents: dict[tuple[int, int], WantedExtent],
    ) -> None:
        arrived: list[RecalledBytes] = []
        trouble: TapeTrouble | None = None
        total_bytes = sum(item.length_bytes for item in portion)
        self._bay.tell("reading", detail=f"{len(portion)} extents", total_bytes=total_bytes)
        done_bytes = 0

        def noting(numbered: list[tuple[int, Wanted]]) -> Callable[[RangeRead], None]:
            def note(outcome: RangeRead) -> None:
                nonlocal done_bytes
                done_bytes += numbered[outcome.ordinal][1].length_bytes
                self._bay.progress(done_bytes)

            return note

        for bundle_id, group in groupby(enumerate(portion), key=lambda pair: pair[1].bundle_id):
            numbered = list(group)
            ranges = [
                ReadRange(
                    offset_bytes=item.bundle_offset_bytes,
                    length_bytes=item.length_bytes,
                    crc64nvme=extents[item.version_uid, item.extent].member.crc64nvme,
                    destination=space.slots[number].path,
                    destination_offset_bytes=space.slots[number].offset_bytes,
                )
                for number, item in numbered
            ]
            try:
                with as_trouble(f"reading {bundle_id} from {volume.barcode} in drive {self._bay.index}"):
                    outcomes = await volume.mover.read(
                        path=paths.bundle_path(bundle_id),
                        ranges=ranges,
                        on_range_done=noting(numbered),
                    )
            except TapeTrouble as caught:
                if isinstance(caught.__cause__, NoSuchFileOnVolume):
                    await self._lost(bundle_id, volume.barcode, "the bundle is not on the cartridge")
                    continue
                trouble = caught
                self._on_bad_source(bundle_id, volume.barcode)
                break
            for (number, _), outcome in zip(numbered, outcomes, strict=True):
                if outcome.state is RangeState.DELIVERED:
                    arrived.append(
                        RecalledBytes(
                            slot=number,
                            crc64nvme=ranges[outcome.ordinal].crc64nvme,
                            block_checksums=outcome.block_crcs,
                        )
                    )
                elif outcome.state is RangeState.DAMAGED:
                    await self._lost(bundle_id, volume.barcode, outcome.detail)
                else:
                    self._on_bad_source(bundle_id, volume.barcode)
                    trouble = TapeTrouble(f"reading {bundle_id} from {volume.barcode}: {outcome.detail}")
        await self._publish(portion, space, arrived, extents)
        if trouble is not None:
            raise trouble

    async def _publish(
        self,
        portion: Sequence[Wanted],
        space: RecallSpace,
        arrived: list[RecalledBytes],
        extents: dict[tuple[int, int], WantedExtent],
    ) -> None:
        if not arrived:
            return
        self._bay.tell("publishing", detail=f"{len(arrived)} extents")
        addresses = await self._staging.adopt_recalled(space, arrived)
        for entry, address in zip(arrived, addresses, strict=True):
            item = portion[entry.slot]
            layout_id = await self._store.recall_layout(item.version_uid) or self._new_layout_id()
            is_wanted = await self._store.add_recalled(
                item.version_uid,
                extent=item.extent,
                layout_id=layout_id,
                piece=Piece(
                    ordinal=item.extent + 1,
                    address=address,
                    length_bytes=item.length_bytes,
                    crc64nvme=entry.crc64nvme,
                    created_at=self._clock.seconds(),
                ),
            )
            if is_wanted:
                await self._completer.complete(item.version_uid)
        self._bell.ring()

    async def _lost(self, bundle_id: str, barcode: str, reason: str) -> None:
        self._on_bad_source(bundle_id, barcode)
        for copy in await self._store.copies(bundle_id=bundle_id):
            if copy.barcode == barcode:
                try:
                    await self._store.lose_copy(bundle_id=bundle_id, pool=copy.pool, reason=reason)
                except Conflict:
                    continue
        await self._store.raise_alert(
            kind="copy-damaged",
            subject=f"cartridge {barcode}",
            severity=Severity.CRITICAL,
            sentence=f"bundle {bundle_id} cannot be read back from {barcode}: {reason}",
            at=self._clock.seconds(),
        )
        self.log.error(
            "bundle {bundle} on {barcode} is damaged: {reason}",
            bundle=bundle_id,
            barcode=barcode,
            reason=reason,
        )
