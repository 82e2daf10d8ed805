"""From a frozen bundle in the metadata to the bytes that the mover writes: the same for every copy, now and later."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from coldstore.interfaces.metadata import KEYS_MAX, IMetadataStore, MemberVersion
from coldstore.interfaces.mover import FileRange, Literal, Piece
from coldstore.interfaces.staging import DiskRange, IStaging
from coldstore.model import objects
from coldstore.model.bundles import Bundle
from coldstore.model.objects import ObjectVersion
from coldstore.ontape import bundle as tar
from coldstore.ontape.bundle import BundleLayout, BundleMember, BundlePlan
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
                facts=entry.version.facts,
                version_uid=entry.version.version_uid,
                sequence=entry.version.sequence,
                extent=entry.member.extent,
                extent_count=entry.member.extent_count,
                object_offset_bytes=entry.member.object_offset_bytes,
                length_bytes=entry.member.length_bytes,
                crc64nvme=entry.member.crc64nvme,
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


async def bundle_layout(store: IMetadataStore, bundle: Bundle) -> BundleLayout:
    """Return the layout of a recorded bundle, without looking for its bytes."""
    return tar.layout(
        bundle_plan(
            await all_members(store, bundle.bundle_id),
            bundle_id=bundle.bundle_id,
            created_at=bundle.created_at,
            appliance_id=store.appliance_id,
            pools=bundle.pools,
        )
    )


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


@dataclass(frozen=True, slots=True)
class BundleContent:
    """A bundle ready to be written: its layout, and where the bytes of each member lie and stay until ``close``."""

    bundle: Bundle
    plan: BundlePlan
    layout: BundleLayout
    ranges: tuple[tuple[DiskRange, ...], ...]
    close: Callable[[], None]

    def pieces(self) -> Iterator[Piece]:
        """Yield everything that the mover writes, in order."""
        for piece in self.layout.pieces():
            if isinstance(piece, tar.Literal):
                yield Literal(content=piece.data)
            else:
                for found in self.ranges[piece.position]:
                    yield FileRange(
                        path=found.path,
                        offset_bytes=found.offset_bytes,
                        length_bytes=found.length_bytes,
                        crc64nvme=found.crc64nvme,
                    )


async def bundle_content(store: IMetadataStore, staging: IStaging, bundle: Bundle) -> BundleContent:
    """
    Collect what writing a frozen bundle needs. Its bytes are kept where they are until the content is closed.

    :raise LookupError: bytes of a member are not on disk
    :raise AssertionError: the recorded plan and the format disagree: a bug, nothing may be written
    """
    members = await all_members(store, bundle.bundle_id)
    plan = bundle_plan(
        members,
        bundle_id=bundle.bundle_id,
        created_at=bundle.created_at,
        appliance_id=store.appliance_id,
        pools=bundle.pools,
    )
    layout = tar.layout(plan)
    assert layout.total_bytes == bundle.size_bytes, (bundle.bundle_id, layout.total_bytes, bundle.size_bytes)
    pinned: list[objects.Piece] = []

    def pin(piece: objects.Piece) -> None:
        staging.pin(piece)
        pinned.append(piece)

    def let_go() -> None:
        while pinned:
            staging.unpin(pinned.pop())

    ranges: list[tuple[DiskRange, ...]] = []
    try:
        for start in range(0, len(members), KEYS_MAX):
            ranges += await _located(store, staging, members[start : start + KEYS_MAX], pin)
    except BaseException:
        let_go()
        raise
    return BundleContent(bundle=bundle, plan=plan, layout=layout, ranges=tuple(ranges), close=let_go)


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
