"""From a frozen bundle in the metadata to the bytes that the mover writes: the same for every copy, now and later."""

import errno
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from coldstore.interfaces.metadata import KEYS_MAX, IMetadataStore, MemberVersion
from coldstore.interfaces.mover import DestinationFault, Piece, Woven
from coldstore.interfaces.staging import DiskFault, DiskRange, IStaging, Scratch
from coldstore.model import objects
from coldstore.model.bundles import Bundle
from coldstore.model.errors import StagingFull
from coldstore.model.objects import ObjectVersion
from coldstore.ontape import bundle as tar
from coldstore.ontape.bundle import BundleLayout, BundleMember, BundlePlan
from coldstore.ontape.member import facts_on_tape
from coldstore.util.checksums import combine_crc64nvme, crc64nvme

PAGE = 500


async def all_members(store: IMetadataStore, bundle_id: str) -> list[MemberVersion]:
    """Return every member of a bundle in order."""
    found: list[MemberVersion] = []
    after = -1
    while page := await store.members(bundle_id, after_position=after, limit=PAGE):
        found += page
        after = page[-1].member.position
    return found


def bundle_plan(
    members: list[MemberVersion],
    *,
    bundle_id: str,
    created_at: float,
    appliance_id: str,
    pools: tuple[str, ...],
) -> BundlePlan:
    """Return the frozen plan that these records describe; equal records give equal plans for ever."""
    return BundlePlan(
        bundle_id=bundle_id,
        created_at=created_at,
        appliance_id=appliance_id,
        pools=pools,
        members=tuple(
            BundleMember(
                facts=facts_on_tape(entry.version.archived_facts),
                version_uid=entry.version.version_uid,
                sequence=entry.version.sequence,
                extent=entry.member.extent,
                extent_count=entry.member.extent_count,
                object_offset_bytes=entry.member.object_offset_bytes,
                length_bytes=entry.member.length_bytes,
                crc64nvme=entry.member.crc64nvme,
                lock=entry.tape_lock,
            )
            for entry in members
        ),
    )


async def disk_ranges(
    store: IMetadataStore,
    staging: IStaging,
    version: ObjectVersion,
    *,
    offset_bytes: int,
    length_bytes: int,
    pin: Callable[[objects.Piece], None] = lambda _: None,
) -> list[DiskRange]:
    """
    Return where a run of a version's bytes lies on disk. Its ends are ends of pieces or on a block inside one.

    :param pin: is given each piece before it is looked for, by whoever wants it to stay where it is found
    """
    found: list[DiskRange] = []
    position = 0
    end = offset_bytes + length_bytes
    after = 0
    while position < end:
        page = await store.pieces(version.layout_id, after_ordinal=after, limit=PAGE)
        if not page:
            raise LookupError(f"version {version.version_uid} ends at {position}, {end} bytes are wanted")
        for piece in page:
            first = max(offset_bytes, position) - position
            last = min(end, position + piece.length_bytes) - position
            if first < last:
                pin(piece)
                found += await staging.ranges(piece, offset_bytes=first, length_bytes=last - first)
            position += piece.length_bytes
            if position >= end:
                break
        after = page[-1].ordinal
    return found


def plan_of(store: IMetadataStore, bundle: Bundle, members: list[MemberVersion]) -> BundlePlan:
    """Return the plan of a recorded bundle with these members."""
    return bundle_plan(
        members,
        bundle_id=bundle.bundle_id,
        created_at=bundle.created_at,
        appliance_id=store.appliance_id,
        pools=bundle.pools,
    )


def layout_of(store: IMetadataStore, bundle: Bundle, members: list[MemberVersion]) -> BundleLayout:
    """Return the layout of a recorded bundle with these members."""
    return tar.layout(plan_of(store, bundle, members))


async def bundle_layout(store: IMetadataStore, bundle: Bundle) -> BundleLayout:
    """Return the layout of a recorded bundle, without looking for its bytes."""
    return layout_of(store, bundle, await all_members(store, bundle.bundle_id))


async def bundle_checksum(store: IMetadataStore, bundle: Bundle) -> int:
    """Return the CRC64NVME that every copy of a bundle has by the record, without looking for its bytes."""
    layout = await bundle_layout(store, bundle)
    checksum = 0
    for piece in layout.pieces():
        if isinstance(piece, tar.Literal):
            checksum = crc64nvme(piece.data, checksum)
        else:
            member = layout.plan.members[piece.position]
            checksum = combine_crc64nvme(checksum, member.crc64nvme, member.length_bytes)
    return checksum


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """Everything of a bundle's tar that is no object's own, in a file; ``own_lengths`` say how much of it comes before each member's bytes."""

    layout: BundleLayout
    own_lengths: "array[int]"
    scratch: Scratch


async def bundle_draft(
    store: IMetadataStore, staging: IStaging, bundle: Bundle, members: list[MemberVersion]
) -> Draft:
    """
    Lay a bundle out and make its headers and its manifest, in a thread. The scratch is the caller's to drop.

    :raise DestinationFault: the disk has no room for it, or failed
    """
    try:
        scratch, (layout, own_lengths) = await staging.scratch(
            lambda put: tar.compose(plan_of(store, bundle, members), put)
        )
    except (StagingFull, DiskFault) as fault:
        number = errno.ENOSPC if isinstance(fault, StagingFull) else errno.EIO
        raise DestinationFault(f"headers of {bundle.bundle_id}", number, str(fault)) from fault
    return Draft(layout=layout, own_lengths=own_lengths, scratch=scratch)


class _Ranges:
    """The columns of a ``Woven``, being filled."""

    def __init__(self) -> None:
        self._sources: dict[str, int] = {}
        self._columns = tuple(array("Q") for _ in range(5))

    def add(self, own_bytes: int, found: DiskRange) -> None:
        """Add a range behind so many bytes of our own."""
        number = self._sources.setdefault(found.path, len(self._sources))
        row = own_bytes, number, found.offset_bytes, found.length_bytes, found.crc64nvme
        for column, value in zip(self._columns, row, strict=True):
            column.append(value)

    def woven(self, own: Scratch) -> Woven:
        """Return all of it."""
        own_lengths, source_numbers, offsets, lengths, checksums = self._columns
        return Woven(
            path=own.path,
            size_bytes=own.size_bytes,
            crc64nvme=own.crc64nvme,
            sources=tuple(self._sources),
            own_lengths=own_lengths,
            source_numbers=source_numbers,
            offsets=offsets,
            lengths=lengths,
            checksums=checksums,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleContent:
    """
    A bundle ready to be written: its headers and manifest, and where the bytes of each member lie; all of it stays until ``close``.
    """

    bundle: Bundle
    woven: Woven
    close: Callable[[], None]

    def pieces(self) -> Iterator[Piece]:
        """Yield everything that the mover writes, in order."""
        yield self.woven


async def bundle_content(
    store: IMetadataStore,
    staging: IStaging,
    bundle: Bundle,
    *,
    members: list[MemberVersion] | None = None,
    draft: Draft | None = None,
) -> BundleContent:
    """
    Collect what writing a frozen bundle needs. Its bytes are kept where they are until the content is closed.

    :param members: of the bundle, where they are known
    :param draft: of the same records, where it is made; it belongs to the content from now on
    :raise LookupError: bytes of a member are not on disk
    :raise DiskFault: the same
    :raise DestinationFault: the disk has no room for headers, or failed
    :raise AssertionError: the recorded plan and the format disagree: a bug, nothing may be written
    """
    pinned: list[objects.Piece] = []
    # Not the draft itself: its plan is large, and contents are kept for long.
    scratches = [] if draft is None else [draft.scratch]

    def pin(piece: objects.Piece) -> None:
        staging.pin(piece)
        pinned.append(piece)

    def let_go() -> None:
        while pinned:
            staging.unpin(pinned.pop())
        while scratches:
            staging.drop_scratch(scratches.pop())

    try:
        if members is None:
            members = await all_members(store, bundle.bundle_id)
        if draft is None:
            draft = await bundle_draft(store, staging, bundle, members)
            scratches.append(draft.scratch)
        size_bytes = draft.layout.total_bytes
        assert size_bytes == bundle.size_bytes, (bundle.bundle_id, size_bytes, bundle.size_bytes)
        ranges = _Ranges()
        own_bytes = 0
        for start in range(0, len(members), KEYS_MAX):
            some = members[start : start + KEYS_MAX]
            found = await _located(store, staging, some, pin)
            for more_bytes, several in zip(draft.own_lengths[start : start + KEYS_MAX], found, strict=True):
                own_bytes += more_bytes
                for each in several:
                    ranges.add(own_bytes, each)
                    own_bytes = 0
        woven = ranges.woven(draft.scratch)
        assert woven.total_bytes == size_bytes, (bundle.bundle_id, woven.total_bytes, size_bytes)
    except BaseException:
        let_go()
        raise
    return BundleContent(bundle=bundle, woven=woven, close=let_go)


async def _located(
    store: IMetadataStore,
    staging: IStaging,
    members: list[MemberVersion],
    pin: Callable[[objects.Piece], None],
) -> list[tuple[DiskRange, ...]]:
    """Return where the bytes of at most KEYS_MAX members lie: those that are one piece, as small ones are, in one go."""
    first = await store.first_pieces([entry.version.layout_id for entry in members])
    whole: dict[int, objects.Piece] = {}
    for number, entry in enumerate(members):
        piece = first.get(entry.version.layout_id)
        size_bytes = entry.version.facts.size_bytes
        if piece is not None and piece.length_bytes == size_bytes == entry.member.length_bytes:
            pin(piece)
            whole[number] = piece
    found = dict(zip(whole, await staging.places(list(whole.values())), strict=True))
    ranges: list[tuple[DiskRange, ...]] = []
    for number, entry in enumerate(members):
        if number in found:
            ranges.append((found[number],))
            continue
        several = await disk_ranges(
            store,
            staging,
            entry.version,
            offset_bytes=entry.member.object_offset_bytes,
            length_bytes=entry.member.length_bytes,
            pin=pin,
        )
        ranges.append(tuple(several))
    return ranges
