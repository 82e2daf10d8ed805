"""Which cartridges take which copies."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from coldstore.model.cartridges import Cartridge, CartridgeState
from coldstore.plan.jobs import CopyToWrite, MountPolicy

TAKES_BUNDLES = frozenset({CartridgeState.SCRATCH, CartridgeState.FORMATTING, CartridgeState.FILLING})
"""States in which a cartridge can be written; one that was cut off while it was formatted is formatted to the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Housing:
    """
    Copies of one pool, sorted by whether some cartridge has room for them, now or when its drive is free.

    ``stuck``: only cartridges in drives that are down have. ``too_large``: not even an empty cartridge of those we know would.
    ``homeless``: none has, and another cartridge would help.
    """

    housed: tuple[CopyToWrite, ...]
    stuck: tuple[CopyToWrite, ...]
    too_large: tuple[CopyToWrite, ...]
    homeless: tuple[CopyToWrite, ...]


def housing(
    copies: Iterable[CopyToWrite],
    pool: str,
    cartridges: Mapping[str, Cartridge],
    *,
    stuck: Mapping[str, int],
    policy: MountPolicy,
) -> Housing:
    """
    Sort the copies of a pool.

    :param stuck: barcodes of cartridges in drives that are down, with the drives
    """
    own = [record for record in cartridges.values() if may_take(record, pool)]
    free = _rooms((record for record in own if record.barcode not in stuck), policy)
    shut = _rooms((record for record in own if record.barcode in stuck), policy)
    largest = max((_largest_room(record, policy) for record in own), default=None)
    housed: list[CopyToWrite] = []
    shut_in: list[CopyToWrite] = []
    too_large: list[CopyToWrite] = []
    homeless: list[CopyToWrite] = []
    for copy in copies:
        if _has_home(copy, free):
            housed.append(copy)
        elif _has_home(copy, shut):
            shut_in.append(copy)
        elif largest is not None and copy.size_bytes > largest:
            too_large.append(copy)
        else:
            homeless.append(copy)
    return Housing(
        housed=tuple(housed), stuck=tuple(shut_in), too_large=tuple(too_large), homeless=tuple(homeless)
    )


def next_copy(copies: Sequence[CopyToWrite], *, barcode: str, room_bytes: int) -> CopyToWrite | None:
    """
    Return the first copy that a cartridge takes: one that is too large for what is left does not keep smaller ones out.

    :param copies: of the cartridge's pool, in their order
    """
    for copy in copies:
        if copy.size_bytes <= room_bytes and barcode not in copy.other_barcodes:
            return copy
    return None


def may_take(cartridge: Cartridge, pool: str) -> bool:
    """Whether a cartridge is one for bundles of this pool. Only a scratch one may be of no pool yet."""
    return (
        cartridge.is_present
        and cartridge.state in TAKES_BUNDLES
        and (cartridge.pool == pool or (not cartridge.pool and cartridge.state is CartridgeState.SCRATCH))
    )


def room(cartridge: Cartridge, policy: MountPolicy) -> int:
    """How many bytes of bundles a cartridge still takes."""
    return cartridge.free_bytes - _reserve(cartridge, policy)


def worth_a_drive(cartridge: Cartridge, policy: MountPolicy) -> int:
    """How many bytes must wait for a pool for each drive that writes it, when there is more than one."""
    share = int(cartridge.capacity_bytes * policy.another_drive_fraction)
    return min(policy.another_drive_bytes, share) if share > 0 else policy.another_drive_bytes


def _largest_room(cartridge: Cartridge, policy: MountPolicy) -> int:
    return cartridge.capacity_bytes - _reserve(cartridge, policy)


def _reserve(cartridge: Cartridge, policy: MountPolicy) -> int:
    """What must stay free: LTFS needs room for its indexes, and end-of-tape warnings can come late."""
    return min(policy.reserve_bytes, int(cartridge.capacity_bytes * policy.reserve_fraction))


def _rooms(cartridges: Iterable[Cartridge], policy: MountPolicy) -> list[tuple[int, str]]:
    return sorted(((room(record, policy), record.barcode) for record in cartridges), reverse=True)


def _has_home(copy: CopyToWrite, rooms: Iterable[tuple[int, str]]) -> bool:
    """Whether a cartridge takes the copy. ``rooms`` are sizes and barcodes, the largest first, so few are looked at."""
    for size_bytes, barcode in rooms:
        if size_bytes < copy.size_bytes:
            return False
        if barcode not in copy.other_barcodes:
            return True
    return False
