"""What waits for tape, as planners want it: copies to write and to verify, extents to recall. Costs follow what changed."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from twisted.logger import Logger

from coldstore.interfaces.metadata import Conflict, IMetadataStore, WantedExtent
from coldstore.model.bundles import Copy, CopyState
from coldstore.model.cartridges import READABLE, Cartridge
from coldstore.plan.mount import CopyToVerify, CopyToWrite, DoArchive
from coldstore.plan.recall import Source, Wanted

QUEUE_MAX = 10_000
SCAN_MAX = 100_000
"""Wanted extents that are looked at in one round, whether or not their cartridges are there."""
PAGE = 1000

_State = tuple[tuple[str, CopyState, str | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveWork:
    """
    What the archive has to do. ``unfinished`` are the bundles that lack a copy, ``is_complete`` says whether those are all;
    ``offline`` are barcodes of cartridges that are not in the library and hold copies to be verified.
    """

    to_write: tuple[CopyToWrite, ...]
    to_verify: tuple[CopyToVerify, ...]
    unfinished: frozenset[str]
    is_complete: bool
    offline: frozenset[str]


class ArchiveQueue:
    """Copies of frozen bundles that are not verified yet."""

    log = Logger()

    def __init__(self, *, store: IMetadataStore) -> None:
        self._store = store
        self._sizes: dict[str, int] = {}
        self._holders: dict[str, tuple[_State, frozenset[str]]] = {}
        self._put_off: dict[str, float] = {}

    def put_off(self, bundle_id: str, until: float) -> None:
        """Leave a bundle alone for a while: its bytes cannot be had from the disk."""
        self._put_off[bundle_id] = until

    async def look(
        self, now: float, *, jobs: Collection[DoArchive], cartridges: Mapping[str, Cartridge]
    ) -> ArchiveWork:
        """
        Return what no job of ``jobs`` (those under way when this is called) takes care of.

        A copy that is WRITING and belongs to no job was left behind by a session that ended badly: it is PLANNED again.
        """
        taken = {(copy.bundle_id, copy.pool) for job in jobs for copy in job.copies}
        taken |= {(copy.bundle_id, copy.pool) for job in jobs for copy in job.verify}
        copies = await self._store.unfinished_copies(QUEUE_MAX)
        by_bundle: dict[str, list[Copy]] = defaultdict(list)
        for copy in copies:
            by_bundle[copy.bundle_id].append(copy)
        self._forget_all_but(by_bundle)
        to_write: list[CopyToWrite] = []
        to_verify: list[CopyToVerify] = []
        offline: set[str] = set()
        for found in copies:
            if (found.bundle_id, found.pool) in taken:
                continue
            copy = await self._put_back_if_stray(found, cartridges)
            if copy.state is CopyState.PLANNED and self._put_off.get(copy.bundle_id, now) <= now:
                to_write.append(await self._to_write(copy, by_bundle[copy.bundle_id]))
            elif copy.state is CopyState.SYNCED and copy.barcode is not None:
                to_verify.append(CopyToVerify(bundle_id=copy.bundle_id, pool=copy.pool, barcode=copy.barcode))
                if not cartridges[copy.barcode].is_present:
                    offline.add(copy.barcode)
        return ArchiveWork(
            to_write=tuple(to_write),
            to_verify=tuple(to_verify),
            unfinished=frozenset(by_bundle),
            is_complete=len(copies) < QUEUE_MAX,
            offline=frozenset(offline),
        )

    async def _put_back_if_stray(self, copy: Copy, cartridges: Mapping[str, Cartridge]) -> Copy:
        reason = ""
        if copy.state is CopyState.WRITING:
            reason = "its session ended before it was on tape"
        elif copy.state is CopyState.SYNCED:
            record = cartridges.get(copy.barcode or "")
            if record is None or record.state not in READABLE:
                reason = f"{copy.barcode} is not read any more"
        if not reason:
            return copy
        self.log.info(
            "bundle {bundle} for {pool} is written anew: {reason}",
            bundle=copy.bundle_id,
            pool=copy.pool,
            reason=reason,
        )
        try:
            return await self._store.copy_failed(bundle_id=copy.bundle_id, pool=copy.pool, reason=reason)
        except Conflict:
            return copy

    async def _to_write(self, copy: Copy, unfinished: Iterable[Copy]) -> CopyToWrite:
        bundle_id = copy.bundle_id
        if bundle_id not in self._sizes:
            bundle = await self._store.bundle(bundle_id)
            self._sizes[bundle_id] = 0 if bundle is None else bundle.size_bytes
        # Copies leave and enter the list of unfinished ones with every change of the others.
        state = tuple((other.pool, other.state, other.barcode) for other in unfinished)
        known = self._holders.get(bundle_id)
        if known is None or known[0] != state:
            others = await self._store.copies(bundle_id=bundle_id)
            known = state, frozenset(other.barcode for other in others if other.barcode is not None)
            self._holders[bundle_id] = known
        return CopyToWrite(
            bundle_id=bundle_id,
            pool=copy.pool,
            size_bytes=self._sizes[bundle_id],
            other_barcodes=known[1],
        )

    def _forget_all_but(self, bundle_ids: Collection[str]) -> None:
        for remembered in (self._sizes, self._holders, self._put_off):
            for bundle_id in [each for each in remembered if each not in bundle_ids]:
                del remembered[bundle_id]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallWork:
    """
    What restores want from tape. ``extents`` has an entry for every wanted one; ``hopeless`` are those of which no copy is left
    that is worth another attempt.
    """

    wanted: tuple[Wanted, ...]
    extents: Mapping[tuple[int, int], WantedExtent]
    hopeless: tuple[WantedExtent, ...]


class RecallQueue:
    """Extents that ongoing restores lack, and how often each copy failed to deliver in this run."""

    def __init__(self, *, store: IMetadataStore, attempts_max: int) -> None:
        """:param attempts_max: attempts that may fail, all copies of a bundle together."""
        self._store = store
        self._attempts_max = attempts_max
        self._failures: Counter[tuple[str, str]] = Counter()

    def failed(self, bundle_id: str, barcode: str) -> int:
        """Note that a copy did not deliver; return how often it did not by now."""
        self._failures[bundle_id, barcode] += 1
        return self._failures[bundle_id, barcode]

    def forget(self, bundle_id: str) -> None:
        """Forget the failures of a bundle's copies: the next request for it is tried as often again."""
        for pair in [pair for pair in self._failures if pair[0] == bundle_id]:
            del self._failures[pair]

    async def look(self, *, readable: Collection[str]) -> RecallWork:
        """
        Return what is wanted: at most ``QUEUE_MAX`` extents that can be read now.

        :param readable: barcodes of cartridges that can be read now; extents on others do not use up the bound.
        """
        wanted: list[Wanted] = []
        hopeless: list[WantedExtent] = []
        extents: dict[tuple[int, int], WantedExtent] = {}
        reachable = 0
        after = (0, -1)
        while reachable < QUEUE_MAX and len(extents) < SCAN_MAX:
            page = await self._store.wanted_extents(after=after, limit=PAGE)
            for entry in page:
                after = entry.member.version_uid, entry.member.extent
                extents[after] = entry
                item = self._wanted(entry)
                if item.sources and sum(each.failures for each in item.sources) < self._attempts_max:
                    wanted.append(item)
                    reachable += any(source.barcode in readable for source in item.sources)
                else:
                    hopeless.append(entry)
            if len(page) < PAGE:
                bundles = {entry.member.bundle_id for entry in extents.values()}
                for bundle_id in {pair[0] for pair in self._failures} - bundles:
                    self.forget(bundle_id)
                break
        return RecallWork(wanted=tuple(wanted), extents=extents, hopeless=tuple(hopeless))

    def _wanted(self, entry: WantedExtent) -> Wanted:
        restore = entry.version.restore
        assert restore is not None, entry.version.version_uid
        member = entry.member
        return Wanted(
            version_uid=member.version_uid,
            extent=member.extent,
            bundle_id=member.bundle_id,
            bundle_offset_bytes=member.bundle_offset_bytes,
            length_bytes=member.length_bytes,
            tier=restore.tier,
            asked_at=restore.requested_at,
            # A lost copy has damaged bytes, perhaps not these: it is tried when the others have failed.
            sources=tuple(
                Source(
                    barcode=copy.barcode,
                    partition=copy.partition,
                    start_block=copy.start_block,
                    failures=self._failures[member.bundle_id, copy.barcode] + (copy.state is CopyState.LOST),
                )
                for copy in entry.copies
                if copy.barcode is not None
            ),
        )
