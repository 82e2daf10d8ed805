"""
Makes lost copies anew: a bundle of which a copy is LOST is read from a good one into the staging disk, whole, and written to
another cartridge like any copy that waits.

What is held on the disk for that is known to this run alone: after a start it is read again. It is checked against the checksum
that the record gives the bundle, so a copy is made of what was archived, whatever the tape says.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from coldstore.interfaces.filesystem import IMountedVolume
from coldstore.interfaces.metadata import Conflict, IMetadataStore
from coldstore.interfaces.mover import FileRange, NoSuchFileOnVolume, Piece, RangeState, ReadRange
from coldstore.interfaces.staging import DiskFault, IStaging, RecallSpace
from coldstore.model.bundles import Bundle, Copy, CopyState
from coldstore.model.cartridges import READABLE, Cartridge, CartridgeState
from coldstore.model.errors import StagingFull
from coldstore.model.precedence import Precedence
from coldstore.ontape import paths
from coldstore.plan.homes import housing
from coldstore.plan.jobs import CopyToWrite, MountPolicy
from coldstore.plan.recall import Source, WantedBundle
from coldstore.work.bay import Bay, lists_all
from coldstore.work.content import bundle_checksum
from coldstore.work.trouble import TapeTrouble, as_trouble

LOST_MAX = 100_000
"""Lost copies that are known at a time."""
EXAMINED_MAX = 200
"""Lost copies of a pool that are looked at in one round: those of one pool, which may have no cartridge, keep no others waiting."""
IDLE_SECONDS = 60.0
"""A bundle of which nothing can be read now is looked at again after so long: in between it keeps no others waiting."""
HOPELESS_MAX = 200
"""Bundles that are told to be hopeless at a time."""
AT_ONCE_MAX = 8
"""Bundles that are wanted or held at a time."""
GIVEN_UP_PER_ROUND = 100
REST_SECONDS = 600.0
"""Without room on the disk nothing is fetched for so long, unless what is held is written before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalWork:
    """
    ``wanted`` bundles are to be read, ``to_write`` are copies of those that are held, and those for which no cartridge has room;
    ``hopeless`` are bundles with a lost copy of which no other can be read any more (not all, if they are many), ``awaited``
    barcodes of cartridges out of reach, one of which must come back before some other bundle can be read.
    """

    wanted: tuple[WantedBundle, ...]
    to_write: tuple[CopyToWrite, ...]
    hopeless: frozenset[str]
    awaited: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Idle:
    """A bundle with a lost copy of which none can be read now: only on these cartridges that are out of reach, if on any."""

    until: float
    awaited: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBundle:
    """A bundle on the disk, as it was on tape."""

    bundle: Bundle
    space: RecallSpace
    crc64nvme: int

    def pieces(self) -> Iterator[Piece]:
        """Yield what the mover writes."""
        (slot,) = self.space.slots
        yield FileRange(
            path=slot.path,
            offset_bytes=slot.offset_bytes,
            length_bytes=slot.length_bytes,
            crc64nvme=self.crc64nvme,
        )

    def close(self) -> None:
        """Nothing ends here: it is held until its copy is verified."""


class WrongBytes(TapeTrouble):
    """A copy gave other bytes than it should. Once may be the fault of the drive: ``is_known_from_before`` says that it did not deliver before."""

    def __init__(self, sentence: str, *, detail: str, is_known_from_before: bool) -> None:
        super().__init__(sentence)
        self.detail = detail
        self.is_known_from_before = is_known_from_before


class Renewals:
    """The lost copies, and the bundles that are held to make them anew."""

    log = Logger()

    def __init__(
        self,
        *,
        store: IMetadataStore,
        staging: IStaging,
        clock: IReactorTime,
        policy: MountPolicy,
        attempts_max: int,
        on_held: Callable[[], None],
    ) -> None:
        """
        :param attempts_max: attempts to read a bundle that may fail, all its copies together
        :param on_held: is called when a bundle was read, and when the next look has more to give up
        """
        self._store = store
        self._staging = staging
        self._clock = clock
        self._policy = policy
        self._attempts_max = attempts_max
        self._on_held = on_held
        self._held: dict[str, HeldBundle] = {}
        self._seen_at: dict[str, float] = {}
        self._failures: Counter[tuple[str, str]] = Counter()
        self._put_off: dict[str, float] = {}
        self._idle: dict[str, _Idle] = {}
        self._given_up: dict[str, tuple[int, float]] = {}
        """Broken cartridges with nothing left to give up: the revision of their record, and when to go through them again."""
        self._rests_until = 0.0

    def held(self, bundle: Bundle) -> HeldBundle | None:
        """Return a bundle that was read."""
        return self._held.get(bundle.bundle_id)

    def failed(self, bundle_id: str, barcode: str) -> int:
        """Note that a copy did not deliver; return how often it did not by now."""
        self._failures[bundle_id, barcode] += 1
        return self._failures[bundle_id, barcode]

    async def drop(self, bundle_id: str) -> None:
        """Give back what is held of a bundle; harmless when nothing is."""
        held = self._held.pop(bundle_id, None)
        if held is not None:
            await self._staging.release_recall(held.space)
            self._rests_until = 0.0

    async def spoiled(self, bundle_id: str) -> None:
        """Give back what is held of a bundle, for the disk damaged it; it is not read again at once."""
        if bundle_id in self._held:
            await self.drop(bundle_id)
            self._put_off[bundle_id] = self._clock.seconds() + REST_SECONDS

    # ── what there is to do ─────────────────────────────────────────────────────────────────────────────────────────

    async def look(
        self,
        cartridges: Mapping[str, Cartridge],
        *,
        stuck: Collection[str],
        in_hand: Callable[[], Collection[tuple[str, str]]],
    ) -> RenewalWork:
        """
        Return what there is to do now.

        :param stuck: barcodes of cartridges in drives that are down
        :param in_hand: tells the copies (bundle id and pool) that sessions take care of
        """
        await self._give_up_broken(cartridges)
        now = self._clock.seconds()
        lost = await self._store.lost_copies(LOST_MAX)
        await self._forget_all_but({copy.bundle_id for copy in lost})
        wanted: list[WantedBundle] = []
        to_write: list[CopyToWrite] = []
        examined: Counter[str] = Counter()
        for copy in sorted(lost, key=lambda each: self._idle_until(each.bundle_id)):
            bundle_id = copy.bundle_id
            if bundle_id not in self._held:
                if (
                    len(wanted) + len(self._held) >= AT_ONCE_MAX
                    or examined[copy.pool] >= EXAMINED_MAX
                    or now < self._idle_until(bundle_id)
                ):
                    continue
                examined[copy.pool] += 1
            self._idle.pop(bundle_id, None)
            copies = await self._store.copies(bundle_id=bundle_id)
            bundle = await self._store.bundle(bundle_id)
            assert bundle is not None, copy
            awaited = _to_write(copy, copies, bundle)
            if bundle_id in self._held and not any(
                self._needs(each, copies, bundle, cartridges, in_hand()) for each in copies
            ):
                await self.drop(bundle_id)
            if bundle_id in self._held or not self._has_home(awaited, cartridges):
                if (bundle_id, copy.pool) not in in_hand():
                    to_write.append(awaited)
                continue
            found = self._wanted(bundle, copies, cartridges)
            barcodes = (
                frozenset(source.barcode for source in found.sources) if found is not None else frozenset()
            )
            within_reach = {each for each in barcodes - set(stuck) if cartridges[each].is_present}
            if found is None or not within_reach:
                self._idle[bundle_id] = _Idle(until=now + IDLE_SECONDS, awaited=barcodes)
            elif now >= max(self._rests_until, self._put_off.get(bundle_id, 0.0)) and found not in wanted:
                wanted.append(found)
        hopeless = [bundle_id for bundle_id, idle in sorted(self._idle.items()) if not idle.awaited]
        return RenewalWork(
            wanted=tuple(wanted),
            to_write=tuple(to_write),
            hopeless=frozenset(hopeless[:HOPELESS_MAX]),
            awaited=frozenset().union(*(idle.awaited for idle in self._idle.values())),
        )

    def _idle_until(self, bundle_id: str) -> float:
        idle = self._idle.get(bundle_id)
        return 0.0 if idle is None else idle.until

    async def _give_up_broken(self, cartridges: Mapping[str, Cartridge]) -> None:
        """What is on a cartridge that is not even to be read is lost."""
        now, left = self._clock.seconds(), GIVEN_UP_PER_ROUND
        broken = {
            record.barcode: record for record in cartridges.values() if record.state is CartridgeState.BROKEN
        }
        self._given_up = {barcode: each for barcode, each in self._given_up.items() if barcode in broken}
        is_any_lost = False
        for barcode, record in broken.items():
            revision, until = self._given_up.get(barcode, (-1, 0.0))
            if left <= 0 or (revision == record.revision and now < until):
                continue
            copies = await self._store.copies(barcode=barcode)
            good = [copy for copy in copies if copy.state is CopyState.VERIFIED]
            if not good:
                # A session that was under way may still bring one.
                self._given_up[barcode] = record.revision, now + IDLE_SECONDS
            for copy in good[:left]:
                reason = f"{barcode} is not to be read any more: {record.reason}"
                with suppress(Conflict):
                    await self._store.lose_copy(bundle_id=copy.bundle_id, pool=copy.pool, reason=reason)
                    is_any_lost = True
            left -= len(good)
        if left <= 0 and is_any_lost:
            self._on_held()

    async def _forget_all_but(self, lost: Collection[str]) -> None:
        """Give back what is held of bundles that have all their copies, and forget what failed with others than the lost ones."""
        for bundle_id in [each for each in self._held if each not in lost]:
            states = {copy.state for copy in await self._store.copies(bundle_id=bundle_id)}
            if states == {CopyState.VERIFIED}:
                self.log.info("bundle {bundle} has all its copies again", bundle=bundle_id)
                await self.drop(bundle_id)
        for bundle_id in [each for each in self._seen_at if each not in lost and each not in self._held]:
            del self._seen_at[bundle_id]
        for bundle_id in [each for each in self._idle if each not in lost]:
            del self._idle[bundle_id]
        for pair in [pair for pair in self._failures if pair[0] not in lost and pair[0] not in self._held]:
            del self._failures[pair]

    def _needs(
        self,
        copy: Copy,
        copies: Collection[Copy],
        bundle: Bundle,
        cartridges: Mapping[str, Cartridge],
        in_hand: Collection[tuple[str, str]],
    ) -> bool:
        """Whether a copy may want its bundle on the disk: unless it is good, or can be written nowhere now."""
        if copy.state is not CopyState.LOST or (copy.bundle_id, copy.pool) in in_hand:
            return copy.state is not CopyState.VERIFIED
        return self._has_home(_to_write(copy, copies, bundle), cartridges)

    def _has_home(self, copy: CopyToWrite, cartridges: Mapping[str, Cartridge]) -> bool:
        return bool(housing([copy], copy.pool, cartridges, stuck={}, policy=self._policy).housed)

    def _wanted(
        self, bundle: Bundle, copies: Collection[Copy], cartridges: Mapping[str, Cartridge]
    ) -> WantedBundle | None:
        sources = tuple(
            Source(
                barcode=copy.barcode,
                partition=copy.partition,
                start_block=copy.start_block,
                failures=self._failures[bundle.bundle_id, copy.barcode],
            )
            for copy in copies
            if copy.state in (CopyState.SYNCED, CopyState.VERIFIED)
            and copy.barcode is not None
            and (record := cartridges.get(copy.barcode)) is not None
            and record.state in READABLE
        )
        if not sources or sum(source.failures for source in sources) >= self._attempts_max:
            return None
        return WantedBundle(
            bundle_id=bundle.bundle_id,
            length_bytes=bundle.size_bytes,
            asked_at=self._seen_at.setdefault(bundle.bundle_id, self._clock.seconds()),
            sources=sources,
        )

    # ── reading a bundle ────────────────────────────────────────────────────────────────────────────────────────────

    async def reserve(self, item: WantedBundle) -> RecallSpace | None:
        """Make room for a bundle; None when there is none: then no other is asked for a while."""
        try:
            return await self._staging.reserve_recall([item.length_bytes], precedence=Precedence.NEW_UPLOAD)
        except (StagingFull, DiskFault) as fault:
            self._rests_until = self._clock.seconds() + REST_SECONDS
            self.log.info("no room to make a lost copy anew: {fault}", fault=fault)
            return None

    async def fetch(self, bay: Bay, volume: IMountedVolume, item: WantedBundle, space: RecallSpace) -> str:
        """
        Read a bundle into the space made for it, and hold it. The space is given back if that fails.

        :return: why there is no copy on this volume, "" when there is
        :raise WrongBytes: it does not give back what was written
        :raise TapeTrouble: the drive or the cartridge failed
        """
        bundle = await self._store.bundle(item.bundle_id)
        assert bundle is not None, item
        bay.tell(
            "reading", detail=f"{item.bundle_id}, to make a lost copy anew", total_bytes=bundle.size_bytes
        )
        is_held = False
        try:
            checksum = await bundle_checksum(self._store, bundle)
            (slot,) = space.slots
            try:
                with as_trouble(f"reading {item.bundle_id} from {volume.barcode} in drive {bay.index}"):
                    (outcome,) = await volume.mover.read(
                        path=paths.bundle_path(item.bundle_id),
                        ranges=[
                            ReadRange(
                                offset_bytes=0,
                                length_bytes=bundle.size_bytes,
                                crc64nvme=checksum,
                                destination=slot.path,
                                destination_offset_bytes=slot.offset_bytes,
                            )
                        ],
                        on_range_done=lambda _: None,
                    )
            except TapeTrouble as trouble:
                if isinstance(trouble.__cause__, NoSuchFileOnVolume) and lists_all(volume):
                    return "the bundle is not on the cartridge"
                if not trouble.is_innocent:
                    self.failed(item.bundle_id, volume.barcode)
                raise
            if outcome.state is RangeState.DELIVERED:
                self._held[item.bundle_id] = HeldBundle(bundle=bundle, space=space, crc64nvme=checksum)
                is_held = True
                self._on_held()
                return ""
            failures = self.failed(item.bundle_id, volume.barcode)
            sentence = (
                f"reading {item.bundle_id} from {volume.barcode} in drive {bay.index}: {outcome.detail}"
            )
            if outcome.state is RangeState.DAMAGED:
                raise WrongBytes(sentence, detail=outcome.detail, is_known_from_before=failures > 1)
            raise TapeTrouble(sentence)
        finally:
            if not is_held:
                await self._staging.release_recall(space)


def _to_write(copy: Copy, copies: Collection[Copy], bundle: Bundle) -> CopyToWrite:
    return CopyToWrite(
        bundle_id=copy.bundle_id,
        pool=copy.pool,
        size_bytes=bundle.size_bytes,
        other_barcodes=frozenset(each.barcode for each in copies if each.barcode is not None),
    )
