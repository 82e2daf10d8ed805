"""Makes bundles: looks at what waits for tape, and freezes plans. Nothing is written to tape here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from random import Random

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from coldstore.interfaces.bell import IBell
from coldstore.interfaces.metadata import BATCH_MAX, IMetadataStore, MemberVersion
from coldstore.interfaces.mover import DestinationFault
from coldstore.interfaces.staging import BLOCK_BYTES, DiskFault, IStaging
from coldstore.model.bundles import Bundle, BundleState, Member
from coldstore.model.cartridges import WRITABLE
from coldstore.model.events import Severity
from coldstore.model.locks import UNLOCKED, Lock
from coldstore.model.objects import ArchiveState, ObjectVersion, StorageClass
from coldstore.ontape.bundle import BundleLayout
from coldstore.ontape.paths import bundle_id as new_bundle_id
from coldstore.plan.archive import (
    ArchivePolicy,
    Candidate,
    Due,
    PlannedExtent,
    Waiting,
    extent_lengths,
    fitted,
    last_extents,
    plan_bundles,
    plan_start,
)
from coldstore.plan.classes import ClassRules, classes_by_pools
from coldstore.util.asynchronous import all_of
from coldstore.util.checksums import combine_crc64nvme
from coldstore.work.alerts import Alerts
from coldstore.work.content import PAGE, Draft, all_members, bundle_draft, disk_ranges, layout_of
from coldstore.work.contents import Contents

CANDIDATES_MAX = 1000
REST_SECONDS = 3600.0
BATCHES_TOGETHER = 25


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A version that may become members, with the CRC64NVME of each extent, and its lock as the tape will tell it."""

    plan: Candidate
    checksums: tuple[int, ...]
    lock: Lock


class Packer:
    """Turns PENDING versions into FROZEN bundles."""

    log = Logger()

    def __init__(
        self,
        *,
        store: IMetadataStore,
        staging: IStaging,
        contents: Contents,
        clock: IReactorTime,
        random: Random,
        rules: ClassRules,
        policy: ArchivePolicy,
        epoch: int,
        is_drive_idle: Callable[[], bool],
        is_disk_pressing: Callable[[], bool],
        drives_bell: IBell,
    ) -> None:
        self._store = store
        self._staging = staging
        self._contents = contents
        self._clock = clock
        self._random = random
        self._groups = classes_by_pools(rules)
        self._policy = policy
        self._epoch = epoch
        self._is_drive_idle = is_drive_idle
        self._is_disk_pressing = is_disk_pressing
        self._drives_bell = drives_bell
        self._alerts = Alerts(store=store, clock=clock)
        self._is_urgent = False
        self._is_room_wanted = False
        self._last_id_at = 0
        self._was_cut_off = True
        """Whether bundles that are FILLING may have been left by an earlier run or round: nobody else fills any."""
        self._unreadable: dict[int, tuple[str, str]] = {}
        """Versions that wait and whose bytes cannot be had, with name and reason of each."""

    def hurry(self) -> None:
        """Make bundles of everything that waits, at the next round."""
        self._is_urgent = True

    def want_room(self) -> None:
        """Somebody waits for bytes to leave the disk: what waits is bundled at the next round, if a drive has nothing to do."""
        self._is_room_wanted = True

    async def one_round(self) -> float:
        """Freeze what is due; return the seconds until something can become due by age."""
        if self._was_cut_off:
            try:
                await self.recover()
            finally:
                self._drives_bell.ring()
        is_urgent = self._is_urgent or self._is_disk_pressing()
        is_urgent = is_urgent or (self._is_room_wanted and self._is_drive_idle())
        if is_urgent:
            # Now, not in the end: what is asked for meanwhile is for the next round.
            self._is_urgent = self._is_room_wanted = False
        try:
            rest = await self._pack_due(is_urgent)
        except BaseException:
            self._is_urgent = self._is_urgent or is_urgent
            raise
        await self._tell_unreadable()
        return rest

    async def _pack_due(self, is_urgent: bool) -> float:
        now = self._clock.seconds()
        rest = REST_SECONDS
        self._was_cut_off = True
        for pools, classes in self._groups.items():
            waiting = await self._waiting(pools, classes)
            if waiting is None:
                continue
            decision = plan_start(
                now, waiting, self._policy, is_drive_idle=self._is_drive_idle(), is_urgent=is_urgent
            )
            if isinstance(decision, Due):
                self.log.info("bundles for {pools}: {reason}", pools="+".join(pools), reason=decision.reason)
                try:
                    await self._pack(pools, classes)
                finally:
                    # Small objects are packed more slowly than a drive writes: begun earlier, it would stand still for each bundle.
                    self._drives_bell.ring()
            else:
                rest = min(rest, max(0.05, decision.at - now))
        self._was_cut_off = False
        return rest

    async def _tell_unreadable(self) -> None:
        for version_uid in list(self._unreadable):
            version = await self._store.version(version_uid)
            if version is None or version.deleted_at is not None:
                del self._unreadable[version_uid]
        await self._alerts.follow(
            "staged-bytes-gone",
            {
                f"object {name}": f"{name} cannot be archived, for its bytes on disk cannot be had: {reason}"
                for name, reason in self._unreadable.values()
            },
            Severity.CRITICAL,
        )

    async def _waiting(self, pools: tuple[str, ...], classes: frozenset[StorageClass]) -> Waiting | None:
        first = await self._store.pending(
            classes=classes, after_sequence=0, limit=min(CANDIDATES_MAX, len(self._unreadable) + 1)
        )
        oldest = [version for version in first if version.version_uid not in self._unreadable]
        if not oldest:
            return None
        backlog = [entry for entry in await self._store.backlog() if entry.storage_class in classes]
        frozen = [
            bundle
            for bundle in await self._store.bundles(
                states=[BundleState.FROZEN], settled=None, after="", limit=1000
            )
            if bundle.pools == pools
        ]
        return Waiting(
            object_count=max(
                1,
                sum(entry.object_count for entry in backlog) - sum(bundle.member_count for bundle in frozen),
            ),
            size_bytes=max(
                0, sum(entry.size_bytes for entry in backlog) - sum(bundle.content_bytes for bundle in frozen)
            ),
            oldest_at=oldest[0].facts.created_at,
        )

    async def _pack(self, pools: tuple[str, ...], classes: frozenset[StorageClass]) -> None:
        policy = fitted(
            self._policy,
            (record.capacity_bytes for record in await self._store.cartridges() if record.state in WRITABLE),
        )
        after = 0
        while versions := await self._gather(classes, after, policy):
            after = versions[-1].sequence
            candidates = [
                found for version in versions if (found := await self._candidate(version, policy)) is not None
            ]
            by_uid = {found.plan.version_uid: found for found in candidates}
            begun = [
                await self._claim(pools, extents, by_uid)
                for extents in plan_bundles([found.plan for found in candidates], policy)
            ]
            # Every claim of this batch stands before the first bundle is frozen: recovery relies on it.
            for bundle_id in begun:
                await self.freeze(bundle_id)
            if sum(version.facts.size_bytes for version in versions) >= policy.bundle_bytes:
                self._drives_bell.ring()

    async def _gather(
        self, classes: frozenset[StorageClass], after: int, policy: ArchivePolicy
    ) -> list[ObjectVersion]:
        """Take versions for a few bundles at most, so that memory and the time of one batch stay bounded."""
        found: list[ObjectVersion] = []
        size_bytes = 0
        while len(found) < policy.bundle_members_max and size_bytes < 4 * policy.bundle_bytes:
            page = await self._store.pending(classes=classes, after_sequence=after, limit=CANDIDATES_MAX)
            for version in page:
                found.append(version)
                size_bytes += version.facts.size_bytes
                after = version.sequence
                if size_bytes >= 4 * policy.bundle_bytes:
                    break
            if len(page) < CANDIDATES_MAX:
                break
        return found

    async def _candidate(self, version: ObjectVersion, policy: ArchivePolicy) -> _Candidate | None:
        """Return a version as one that may become members; None when its bytes cannot be had (any more)."""
        size_bytes = version.facts.size_bytes
        if size_bytes <= policy.bundle_bytes:
            plan = Candidate(version_uid=version.version_uid, extent_lengths=(size_bytes,))
            return _Candidate(plan, (version.facts.crc64nvme,), version.lock)
        pieces: list[int] = []
        after = 0
        while page := await self._store.pieces(version.layout_id, after_ordinal=after, limit=PAGE):
            pieces += [piece.length_bytes for piece in page]
            after = page[-1].ordinal
        lengths = extent_lengths(pieces, extent_bytes=max(BLOCK_BYTES, policy.bundle_bytes))
        try:
            checksums = [
                await self._checksum(version, offset, length)
                for offset, length in zip(accumulate(lengths, initial=0), lengths, strict=False)
            ]
        except (DiskFault, LookupError) as fault:
            now = await self._store.version(version.version_uid)
            if now is not None and now.deleted_at is None:
                name = version.name
                self._unreadable[version.version_uid] = name, str(fault)
            return None
        self._unreadable.pop(version.version_uid, None)
        return _Candidate(
            Candidate(version_uid=version.version_uid, extent_lengths=lengths), tuple(checksums), version.lock
        )

    async def _checksum(self, version: ObjectVersion, offset_bytes: int, length_bytes: int) -> int:
        crc64nvme = 0
        for found in await disk_ranges(
            self._store, self._staging, version, offset_bytes=offset_bytes, length_bytes=length_bytes
        ):
            crc64nvme = combine_crc64nvme(crc64nvme, found.crc64nvme, found.length_bytes)
        return crc64nvme

    async def _claim(
        self,
        pools: tuple[str, ...],
        extents: list[PlannedExtent],
        candidates: Mapping[int, _Candidate],
    ) -> str:
        now = self._clock.seconds()
        # Ids sort as bundles are made, those of one millisecond too: so the extents of a large object lie in order on tape.
        self._last_id_at = max(int(now * 1000), self._last_id_at + 1)
        bundle_id = new_bundle_id(self._last_id_at, self._random.getrandbits(80))
        await self._store.open_bundle(bundle_id=bundle_id, pools=pools, created_at=now, epoch=self._epoch)
        position = 0
        for start in range(0, len(extents), BATCH_MAX):
            batch = extents[start : start + BATCH_MAX]
            members = [
                Member(
                    bundle_id=bundle_id,
                    position=position + number,
                    version_uid=extent.version_uid,
                    extent=extent.extent,
                    extent_count=extent.extent_count,
                    object_offset_bytes=extent.object_offset_bytes,
                    length_bytes=extent.length_bytes,
                    crc64nvme=candidates[extent.version_uid].checksums[extent.extent],
                )
                for number, extent in enumerate(batch)
            ]
            locks = {
                extent.version_uid: lock
                for extent in batch
                if (lock := candidates[extent.version_uid].lock) is not UNLOCKED
            }
            taken = await self._store.claim_members(
                bundle_id, members, last_extents=last_extents(batch), locks=locks
            )
            position = max((member.position for member in taken), default=position - 1) + 1
        return bundle_id

    async def freeze(self, bundle_id: str) -> None:
        """Fix the offsets of a FILLING bundle whose claims are complete, and freeze it. Harmless to repeat."""
        bundle = await self._store.bundle(bundle_id)
        if bundle is None or bundle.state is not BundleState.FILLING:
            return
        members = await all_members(self._store, bundle_id)
        if not members:
            await self.release(bundle_id)
            return
        draft = await self._draft(bundle, members)
        layout = layout_of(self._store, bundle, members) if draft is None else draft.layout
        try:
            frozen = await self._frozen(bundle_id, members, layout)
        except BaseException:
            if draft is not None:
                self._staging.drop_scratch(draft.scratch)
            raise
        self.log.info(
            "bundle {bundle} frozen: {count} members, {size} bytes, for {pools}",
            bundle=bundle_id,
            count=frozen.member_count,
            size=frozen.size_bytes,
            pools="+".join(frozen.pools),
        )
        if draft is not None:
            await self._contents.add(frozen, members, draft)

    async def _draft(self, bundle: Bundle, members: list[MemberVersion]) -> Draft | None:
        """Make headers and manifest ready for the drive; None when there is no room for them now."""
        try:
            return await bundle_draft(self._store, self._staging, bundle, members)
        except DestinationFault as fault:
            self.log.info(
                "bundle {bundle} is made ready later: {fault}", bundle=bundle.bundle_id, fault=fault
            )
            return None

    async def _frozen(self, bundle_id: str, members: list[MemberVersion], layout: BundleLayout) -> Bundle:
        offsets = [
            (entry.member.position, layout.data_offset_bytes(number)) for number, entry in enumerate(members)
        ]
        # Batches that are under way together share commits.
        for start in range(0, len(offsets), BATCHES_TOGETHER * BATCH_MAX):
            together = offsets[start : start + BATCHES_TOGETHER * BATCH_MAX]
            await all_of(
                self._store.fix_offsets(bundle_id, dict(together[begin : begin + BATCH_MAX]))
                for begin in range(0, len(together), BATCH_MAX)
            )
        return await self._store.freeze_bundle(
            bundle_id,
            member_count=len(members),
            size_bytes=layout.total_bytes,
            content_bytes=sum(entry.member.length_bytes for entry in members),
        )

    async def release(self, bundle_id: str) -> None:
        """Give a FILLING bundle up; its versions wait again."""
        while not await self._store.release_members(bundle_id):
            pass

    async def recover(self) -> None:
        """
        Take up bundles that an earlier run or round was filling: freeze them when every claim stands, else release them all.

        Bundles of one batch are frozen only after the last claim of the batch. So if one version is claimed in part, no
        bundle of its batch was frozen, and releasing the FILLING ones gives back everything.
        """
        filling = await self._store.bundles(
            states=[BundleState.FILLING], settled=None, after="", limit=10_000
        )
        complete = True
        for bundle in filling:
            for entry in await all_members(self._store, bundle.bundle_id):
                if entry.version.deleted_at is None and entry.version.archive_state is ArchiveState.PENDING:
                    complete = False
        for bundle in filling:
            if complete:
                await self.freeze(bundle.bundle_id)
            else:
                await self.release(bundle.bundle_id)
