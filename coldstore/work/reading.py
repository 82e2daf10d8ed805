"""Reading a batch of extents from a cartridge, each tape once from front to back, every byte checked."""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from coldstore.interfaces.filesystem import IMountedVolume
from coldstore.interfaces.metadata import Conflict, IMetadataStore, WantedExtent
from coldstore.interfaces.mover import (
    DestinationFault,
    NoSuchFileOnVolume,
    RangeRead,
    RangeState,
    ReadRange,
)
from coldstore.interfaces.staging import DiskFault, IStaging, RecalledBytes, RecallSpace
from coldstore.model.bundles import CopyState
from coldstore.model.errors import MetadataUnavailable, StagingFull, TakenOver
from coldstore.model.events import Severity
from coldstore.model.objects import Piece, Tier
from coldstore.model.precedence import Precedence
from coldstore.ontape import paths
from coldstore.plan.jobs import DoRecall
from coldstore.plan.recall import Wanted, WantedBundle
from coldstore.work.bay import Bay, lists_all
from coldstore.work.completing import Completer
from coldstore.work.renewing import Renewals, WrongBytes
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


def _precedence(portion: Sequence[Wanted]) -> Precedence:
    is_urgent = all(item.tier is Tier.EXPEDITED for item in portion)
    return Precedence.URGENT if is_urgent else Precedence.RECALL


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
        new_layout_id: Callable[[], str],
        on_bad_source: Callable[[str, str], int],
        doubtful: Callable[[Sequence[str]], None],
        portion_items: int,
        renewals: Renewals,
    ) -> None:
        """
        :param doubtful: is told addresses on the disk of which the record may or may not know
        :param on_bad_source: is told bundle id and barcode of a copy that could not deliver; answers how often it could not
        :param portion_items: extents that are read, published and recorded in one go
        """
        self._bay = bay
        self._store = store
        self._staging = staging
        self._clock = clock
        self._completer = completer
        self._new_layout_id = new_layout_id
        self._on_bad_source = on_bad_source
        self._doubtful = doubtful
        self._portion_items = portion_items
        self._renewals = renewals

    async def run(
        self,
        job: DoRecall,
        extents: Mapping[tuple[int, int], WantedExtent],
        *,
        is_over: Callable[[bool], bool],
    ) -> None:
        """
        Read everything of the batch that is still wanted.

        :param is_over: whether to come to an end at this boundary; is told whether a bundle was read from by now
        :raise RecallWaitsForSpace: the disk is too full for some extents; those for which it has room were read
        :raise TapeTrouble: the drive or the cartridge failed
        """
        wanted = [item for item in job.batch.items if isinstance(item, Wanted)]
        waiting = portions(wanted, items_max=self._portion_items)
        waiting.reverse()
        has_begun = False
        short: StagingFull | None = None
        while waiting and not is_over(has_begun):
            portion = waiting.pop()
            try:
                space = await self._staging.reserve_recall(
                    [item.length_bytes for item in portion], precedence=_precedence(portion)
                )
            except StagingFull as full:
                if len(portion) == 1:
                    short = full
                    continue
                # What does not fit as a whole may fit piece by piece.
                half = len(portion) // 2
                waiting += [portion[half:], portion[:half]]
                continue
            except DiskFault as fault:
                raise RecallWaitsForSpace(str(fault)) from fault
            try:
                volume = await self._mounted(job.batch.barcode, portion)
                has_begun = True
                await self._portion(volume, portion, space, extents, is_over)
            finally:
                await self._staging.release_recall(space)
        if short is not None:
            raise RecallWaitsForSpace(str(short)) from short
        for item in job.batch.items:
            if isinstance(item, WantedBundle) and not is_over(has_begun):
                if not await self._fetch(job.batch.barcode, item):
                    break
                has_begun = True

    async def _fetch(self, barcode: str, item: WantedBundle) -> bool:
        """Read a whole bundle, of which another copy is to be made; tell whether there was room for it."""
        space = await self._renewals.reserve(item)
        if space is None:
            return False
        try:
            volume = await self._bay.mount(barcode, pool=None)
        except BaseException:
            await self._staging.release_recall(space)
            raise
        try:
            loss = await self._renewals.fetch(self._bay, volume, item, space)
        except WrongBytes as wrong:
            if wrong.is_known_from_before:
                await self._lost(item.bundle_id, barcode, wrong.detail)
            raise
        if loss:
            await self._lost(item.bundle_id, barcode, loss)
        return True

    async def _mounted(self, barcode: str, portion: Sequence[Wanted]) -> IMountedVolume:
        try:
            return await self._bay.mount(barcode, pool=None)
        except TapeTrouble as trouble:
            is_about_another = trouble.barcode not in (None, barcode)
            if not (is_about_another or trouble.is_innocent or trouble.is_robot or trouble.is_drive_wrong):
                # Copies that cannot be had are tried again when the others were.
                for bundle_id in sorted({item.bundle_id for item in portion}):
                    self._on_bad_source(bundle_id, barcode)
            raise

    async def _portion(
        self,
        volume: IMountedVolume,
        portion: Sequence[Wanted],
        space: RecallSpace,
        extents: Mapping[tuple[int, int], WantedExtent],
        is_over: Callable[[bool], bool],
    ) -> None:
        arrived: list[RecalledBytes] = []
        trouble: Exception | None = None
        total_bytes = sum(item.length_bytes for item in portion)
        self._bay.tell("reading", detail=f"{len(portion)} extents", total_bytes=total_bytes)
        done_bytes = 0

        def noting(numbered: list[tuple[int, Wanted]]) -> Callable[[RangeRead], None]:
            def note(outcome: RangeRead) -> None:
                nonlocal done_bytes
                number, item = numbered[outcome.ordinal]
                done_bytes += item.length_bytes
                self._bay.progress(done_bytes)
                if outcome.state is RangeState.DELIVERED:
                    # It is durable on disk: it counts even if the mover dies before the others have come.
                    arrived.append(
                        RecalledBytes(
                            slot=number,
                            crc64nvme=extents[item.version_uid, item.extent].member.crc64nvme,
                            block_checksums=outcome.block_crcs,
                        )
                    )

            return note

        has_read = False
        for bundle_id, group in groupby(enumerate(portion), key=lambda pair: pair[1].bundle_id):
            if has_read and is_over(True):
                break
            has_read = True
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
                if isinstance(caught.__cause__, NoSuchFileOnVolume) and lists_all(volume):
                    self._on_bad_source(bundle_id, volume.barcode)
                    await self._lost(bundle_id, volume.barcode, "the bundle is not on the cartridge")
                    continue
                if isinstance(caught.__cause__, DestinationFault):
                    trouble = RecallWaitsForSpace(str(caught.__cause__))
                    break
                trouble = caught
                if not caught.is_innocent:
                    self._on_bad_source(bundle_id, volume.barcode)
                break
            except TakenOver:
                raise
            except MetadataUnavailable as away:
                # Nothing is begun while nobody knows whose the drive is. What has arrived may perhaps be recorded all the same.
                trouble = away
                break
            bad = [outcome for outcome in outcomes if outcome.state is not RangeState.DELIVERED]
            if bad:
                trouble = await self._note_bad(bundle_id, volume.barcode, bad) or trouble
        await self._publish(portion, space, arrived)
        if trouble is not None:
            raise trouble

    async def _note_bad(self, bundle_id: str, barcode: str, bad: Sequence[RangeRead]) -> TapeTrouble | None:
        """
        Note that a copy gave errors or other bytes than it should; return the trouble to end with, if there is any.

        The first time drive and cartridge may both be guilty of it; a copy is given up when it gives wrong bytes again. One that
        is lost already gave what is known of it.
        """
        failures = self._on_bad_source(bundle_id, barcode)
        sentence = f"reading {bundle_id} from {barcode} in drive {self._bay.index}: {bad[0].detail}"
        damaged = [outcome for outcome in bad if outcome.state is RangeState.DAMAGED]
        was_lost = any(
            copy.barcode == barcode and copy.state is CopyState.LOST
            for copy in await self._store.copies(bundle_id=bundle_id)
        )
        if damaged and failures > 1 and not was_lost:
            await self._lost(bundle_id, barcode, damaged[0].detail)
        if was_lost and len(damaged) == len(bad):
            self.log.warn("{sentence}", sentence=sentence)
            return None
        return TapeTrouble(sentence)

    async def _publish(
        self,
        portion: Sequence[Wanted],
        space: RecallSpace,
        arrived: list[RecalledBytes],
    ) -> None:
        if not arrived:
            return
        self._bay.tell("publishing", detail=f"{len(arrived)} extents")
        try:
            addresses = await self._staging.adopt_recalled(space, arrived)
        except (StagingFull, DiskFault) as fault:
            raise RecallWaitsForSpace(str(fault)) from fault
        recorded = 0
        try:
            for entry, address in zip(arrived, addresses, strict=True):
                await self._record(portion[entry.slot], address, entry.crc64nvme)
                recorded += 1
        except Exception:
            # Of one of these the record may know all the same.
            self._doubtful(addresses[recorded:])
            raise

    async def _record(self, item: Wanted, address: str, crc64nvme: int) -> None:
        layout_id = await self._store.recall_layout(item.version_uid) or self._new_layout_id()
        is_wanted = await self._store.add_recalled(
            item.version_uid,
            extent=item.extent,
            layout_id=layout_id,
            piece=Piece(
                ordinal=item.extent + 1,
                address=address,
                length_bytes=item.length_bytes,
                crc64nvme=crc64nvme,
                created_at=self._clock.seconds(),
            ),
        )
        if is_wanted:
            await self._completer.complete(item.version_uid)

    async def _lost(self, bundle_id: str, barcode: str, reason: str) -> None:
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
